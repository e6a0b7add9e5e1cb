//! The machines of a client and of a backend as classes of Python. Bytes go in, and lists of events come out: one call for a whole read.

mod backend;
mod client;
mod events;

use std::time::Duration;

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use voltlane_core::Time;

create_exception!(voltlane, Error, PyException, "What this library raises.");
create_exception!(
    voltlane,
    TooLong,
    Error,
    "A packet is longer than the edge takes. It will never be taken."
);
create_exception!(
    voltlane,
    NoRoom,
    Error,
    "Too much is unacknowledged, or waits for the link."
);
create_exception!(voltlane, SessionEnded, Error, "The session is over.");
create_exception!(
    voltlane,
    ProtocolError,
    Error,
    "The peer of a backend is no edge, or broke the protocol."
);

fn time(seconds: f64) -> PyResult<Time> {
    match Duration::try_from_secs_f64(seconds) {
        Ok(since) => Ok(Time::ZERO + since),
        Err(_) => Err(PyValueError::new_err(
            "a time is a number of seconds, not below 0",
        )),
    }
}

fn seconds(at: Time) -> f64 {
    at.since(Time::ZERO).as_secs_f64()
}

fn random(bytes: &[u8]) -> PyResult<[u8; 32]> {
    bytes
        .try_into()
        .map_err(|_| PyValueError::new_err("32 random bytes are needed"))
}

#[pymodule]
mod _core {
    #[pymodule_export]
    use super::backend::{BackendMachine, PlaceOfFrame};
    #[pymodule_export]
    use super::client::ClientMachine;
    #[pymodule_export]
    use super::events::{
        Away, CaughtUp, ClientInfo, Connected, Counts, Dropped, EdgeConnected, EdgeLost, Ended,
        Gap, Joined, Ledger, Packet, Resumed, Skipped, Token,
    };
    #[pymodule_export]
    use super::{Error, NoRoom, ProtocolError, SessionEnded, TooLong};
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        // How the session ended, where that is known.
        let py = module.py();
        py.get_type::<SessionEnded>().setattr("end", py.None())
    }
}
