//! The events, as classes of Python.

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use voltlane_core::client as core;

/// Makes the class of an event: frozen, compared by value, and matched by its fields in order.
macro_rules! events {
    ($($(#[doc = $doc:literal])+ $name:ident { $($field:ident: $type:ty $(= $default:expr)?),* } [$($arg:literal),*] $({ $($more:tt)* })?)+) => {
        $($(#[doc = $doc])+
        #[pyclass(frozen, get_all, eq, module = "voltlane")]
        #[derive(PartialEq)]
        pub struct $name { $(pub(crate) $field: $type),* }

        #[pymethods]
        impl $name {
            #[new]
            #[pyo3(signature = ($($field $(= $default)?),*))]
            fn new($($field: $type),*) -> Self {
                $name { $($field),* }
            }

            #[classattr]
            fn __match_args__(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
                let fields: &[&str] = &[$($arg),*];
                PyTuple::new(py, fields)
            }

            #[allow(unused_variables, reason = "one event has no fields")]
            fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
                let fields: Vec<String> = vec![$(shown(py, stringify!($field), self.$field.clone())?),*];
                Ok(format!("{}({})", stringify!($name), fields.join(", ")))
            }

            $($($more)*)?
        })+
    };
}

events! {
    /// The session began. The edge and the backend know the client by this id.
    Connected { id: u64 } ["id"]
    /// The connection is gone, which is no error: the client comes back by itself after a pause of `retry_in` seconds.
    Dropped { id: u64, cause: String, retry_in: f64 } ["id", "cause", "retry_in"]
    /// The session goes on. `missed` packets come now; the client was away for so many seconds.
    Resumed { id: u64, missed: u64, away: f64 } ["id", "missed", "away"]
    /// Everything that was missed has come. At a backend: every session that the edge has was told.
    CaughtUp { id: u64 } ["id"]
    /// `count` packets from number `first` on will not come.
    Gap { id: u64, first: u64, count: u64, reason: u8, is_up: bool } ["id", "first", "count", "reason"]
    /// The session is over. `ledger`: what became of its packets, as far as this end knows.
    Ended { id: u64, code: u16, text: String, ledger: Ledger = Ledger::default() } ["id", "code", "text", "ledger"]
    /// What is known of a client that is there. Over a link of version 2 it is connected, and nobody tells what arrived at it.
    ClientInfo { id: u64, note: String, is_connected: bool, ledger: Ledger } ["id", "note", "is_connected", "ledger"]
    /// The edge is there, and has so many sessions if it tells.
    EdgeConnected { sessions: Option<u32> } ["sessions"]
    /// The edge is gone, and keeps its clients.
    EdgeLost {} []
    /// A session that is new to the backend. `again`: the backend is new, and the client is not. `sent`: the packets to it that the edge has
    /// numbered for earlier processes of the backend. `address`: from where it comes, if the edge tells.
    Joined { id: u64, token: Vec<u8>, note: String, again: bool, sent: u64, address: Option<String> = None } ["id", "token", "note", "again", "sent", "address"] {
        /// The token as text. What is not UTF-8 is replaced.
        #[getter]
        fn token_text(&self) -> String {
            String::from_utf8_lossy(&self.token).into_owned()
        }
    }
    /// The connection of a client is gone. Its session expires in so many seconds.
    Away { id: u64, expires_in: f64 } ["id", "expires_in"]
    /// A client shows another token.
    Token { id: u64, token: Vec<u8> } ["id", "token"]
    /// Volatile packets that were not sent before the next one.
    Skipped { count: u64 } ["count"]
}

/// What became of the packets of one direction, in counts: `numbered` is the sum of the five that follow it.
#[pyclass(frozen, get_all, eq, skip_from_py_object, module = "voltlane")]
#[derive(Clone, Copy, PartialEq, Default)]
pub struct Counts {
    numbered: u64,
    acknowledged: u64,
    superseded: u64,
    gapped: u64,
    /// Sent, and not acknowledged: they may have arrived.
    in_doubt: u64,
    /// Never sent.
    lost: u64,
    /// Volatile packets that were not sent. They have no numbers.
    skipped: u64,
}

#[pymethods]
impl Counts {
    fn __repr__(&self) -> String {
        let Counts {
            numbered,
            acknowledged,
            superseded,
            gapped,
            in_doubt,
            lost,
            skipped,
        } = self;
        format!(
            "Counts(numbered={numbered}, acknowledged={acknowledged}, superseded={superseded}, gapped={gapped}, in_doubt={in_doubt}, lost={lost}, skipped={skipped})"
        )
    }
}

impl From<core::Ledger> for Counts {
    fn from(ledger: core::Ledger) -> Self {
        Counts {
            numbered: ledger.numbered,
            acknowledged: ledger.acknowledged,
            superseded: ledger.superseded,
            gapped: ledger.gapped,
            in_doubt: ledger.open_sent,
            lost: ledger.open_unsent,
            skipped: ledger.skipped,
        }
    }
}

/// What became of the packets of a session: `up` from the client to the edge, and `down` to the client.
#[pyclass(frozen, get_all, eq, from_py_object, module = "voltlane")]
#[derive(Clone, Copy, PartialEq, Default)]
pub struct Ledger {
    up: Counts,
    down: Counts,
}

#[pymethods]
impl Ledger {
    fn __repr__(&self) -> String {
        let Ledger { up, down } = self;
        format!("Ledger(up={}, down={})", up.__repr__(), down.__repr__())
    }
}

impl From<core::Ledgers> for Ledger {
    fn from(ledgers: core::Ledgers) -> Self {
        Ledger {
            up: ledgers.up.into(),
            down: ledgers.down.into(),
        }
    }
}

/// A packet. At a client `id` is its own. `number` is its place in its session and direction, from 1, or 0 for a volatile one.
#[pyclass(frozen, get_all, module = "voltlane")]
pub struct Packet {
    pub(crate) id: u64,
    pub(crate) data: Py<PyBytes>,
    pub(crate) number: u64,
}

#[pymethods]
impl Packet {
    #[new]
    fn new(id: u64, data: Py<PyBytes>, number: u64) -> Self {
        Packet { id, data, number }
    }

    #[classattr]
    fn __match_args__() -> (&'static str, &'static str, &'static str) {
        ("id", "data", "number")
    }

    /// Its bytes as text. What is not UTF-8 is replaced.
    #[getter]
    fn text(&self, py: Python<'_>) -> String {
        String::from_utf8_lossy(self.data.as_bytes(py)).into_owned()
    }

    fn __eq__(&self, other: &Packet, py: Python<'_>) -> bool {
        (self.id, self.number) == (other.id, other.number)
            && self.data.as_bytes(py) == other.data.as_bytes(py)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let length = self.data.as_bytes(py).len();
        format!(
            "Packet(id={}, {length} bytes, number={})",
            self.id, self.number
        )
    }
}

/// Returns a field as Python writes it. A token is a secret.
fn shown<'py>(py: Python<'py>, name: &str, value: impl IntoPyObjectExt<'py>) -> PyResult<String> {
    match name {
        "token" => Ok("token=...".to_owned()),
        _ => Ok(format!("{name}={}", value.into_bound_py_any(py)?.repr()?)),
    }
}
