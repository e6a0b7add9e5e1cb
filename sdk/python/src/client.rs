//! The machine of a client.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use voltlane_core::ClientId;
use voltlane_core::client::{
    Class, Client, ClientConfig, Closed, DropCause, Event, SavedClient, SavedSession, Saving,
    SendError, State, Versions,
};
use voltlane_core::keys::PublicKey;

use crate::events::{CaughtUp, Connected, Dropped, Ended, Gap, Ledger, Packet, Resumed, Skipped};
use crate::{NoRoom, SessionEnded, TooLong, random, seconds, time};

fn of_send(error: SendError) -> PyErr {
    let says = error.to_string();
    match error {
        SendError::TooLong { .. } => TooLong::new_err(says),
        SendError::NoRoom => NoRoom::new_err(says),
        _ => SessionEnded::new_err(says),
    }
}

/// The machine of a client, without a socket and a clock. Times are seconds of any clock that never goes back.
///
/// Its owner opens a connection when `wants_connect` says so, feeds what it reads, writes `output`, and closes when `wants_close` says so.
#[pyclass(module = "voltlane.machine")]
pub(crate) struct ClientMachine {
    machine: Client,
}

#[pymethods]
impl ClientMachine {
    /// `seed` has 32 bytes that nobody can know or guess, and that were never used before. `version`: 2, 3, or None for version 3 and version 2
    /// with an edge that has no other. `edge_keys` have 66 hexadecimal digits. With `saves`, nothing leaves before it is stored, and packets count
    /// as acknowledged when they are "taken" or "saved"; `stored` is what was stored last.
    #[new]
    #[pyo3(signature = (seed, *, version=None, token=None, edge_keys=vec![], saved=None, take_over=false, trust_first_use=false, max_receive=None, saves=None, stored=None))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        seed: &[u8],
        version: Option<u32>,
        token: Option<Vec<u8>>,
        edge_keys: Vec<String>,
        saved: Option<Vec<u8>>,
        take_over: bool,
        trust_first_use: bool,
        max_receive: Option<u32>,
        saves: Option<&str>,
        stored: Option<Vec<u8>>,
    ) -> PyResult<Self> {
        let wrong = |error: &dyn std::fmt::Display| PyValueError::new_err(error.to_string());
        let versions = match version {
            None => Versions::V3OrV2,
            Some(2) => Versions::V2,
            Some(3) => Versions::V3,
            Some(_) => return Err(PyValueError::new_err("there are the versions 2 and 3")),
        };
        let mut config = ClientConfig::default()
            .with_versions(versions)
            .with_take_over(take_over)
            .with_trust_first_use(trust_first_use);
        if let Some(bytes) = max_receive {
            config = config.with_max_receive_bytes(bytes);
        }
        match saves {
            None => {}
            Some("taken") => config = config.with_saving(Saving::Taken),
            Some("saved") => config = config.with_saving(Saving::Saved),
            Some(_) => {
                let says = "packets are acknowledged when they are \"taken\" or \"saved\"";
                return Err(PyValueError::new_err(says));
            }
        }
        for key in edge_keys {
            config = config.with_edge_key(key_of(&key)?);
        }
        let seed = random(seed)?;
        let stored = stored.map(|stored| SavedClient::from_bytes(&stored));
        let stored = stored.transpose().map_err(|error| wrong(&error))?;
        let mut machine = match saved {
            Some(_) if config.demands_v3() => {
                return Err(PyValueError::new_err(
                    "a saved session is one of version 2, which proves no key",
                ));
            }
            Some(saved) => {
                let saved = SavedSession::from_bytes(&saved).map_err(|error| wrong(&error))?;
                Client::restore(config, seed, &saved)
            }
            None => match stored {
                Some(stored) => Client::restore_saved(config, seed, stored),
                None => Client::new(config, seed),
            },
        };
        if let Some(token) = token {
            machine.set_token(&token).map_err(|error| wrong(&error))?;
        }
        Ok(ClientMachine { machine })
    }

    /// Whether a connection is to be opened now, unless one is being opened.
    fn wants_connect(&self, now: f64) -> PyResult<bool> {
        Ok(self.machine.wants_connect(time(now)?))
    }

    /// The connection is open. `random` has 32 bytes of the system's randomness, others for each connection.
    fn connected(&mut self, now: f64, random_bytes: &[u8]) -> PyResult<()> {
        self.machine
            .handle_connected(time(now)?, random(random_bytes)?);
        Ok(())
    }

    /// The connection could not be opened.
    fn connect_failed(&mut self, now: f64) -> PyResult<()> {
        self.machine.handle_connect_failed(time(now)?);
        Ok(())
    }

    /// The connection is gone: in order, or with an error.
    fn closed(&mut self, now: f64, in_order: bool) -> PyResult<()> {
        let closed = if in_order { Closed::Eof } else { Closed::Error };
        self.machine.handle_closed(time(now)?, closed);
        Ok(())
    }

    /// Feeds bytes that were read, and returns what happened.
    fn feed<'py>(
        &mut self,
        py: Python<'py>,
        now: f64,
        data: &[u8],
    ) -> PyResult<Bound<'py, PyList>> {
        let (now, mut input, mut id) = (time(now)?, data, self.id());
        let events = PyList::empty(py);
        while let Some(event) = self.machine.handle_bytes(now, &mut input) {
            if let Event::Connected { id: begun } = &event {
                id = begun.as_u64();
            }
            add_client(py, &events, id, event)?;
        }
        self.add_pending(py, &events)?;
        Ok(events)
    }

    /// Returns what happened without bytes: drops and ends. Call it after each other call.
    fn events<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let events = PyList::empty(py);
        self.add_pending(py, &events)?;
        Ok(events)
    }

    /// Returns the bytes to write now, and takes them as written.
    fn output<'py>(&mut self, py: Python<'py>, now: f64) -> PyResult<Bound<'py, PyBytes>> {
        let now = time(now)?;
        let mut all = Vec::new();
        loop {
            let output = self.machine.output();
            let length = output.len();
            if length == 0 {
                return Ok(PyBytes::new(py, &all));
            }
            all.extend_from_slice(output);
            self.machine.handle_written(now, length);
        }
    }

    /// Whether the connection is to be closed, or not to be opened any more. Then call `closed`.
    fn wants_close(&self) -> bool {
        self.machine.wants_close()
    }

    /// When `timeout` must be called, unless something else happens before.
    fn next_timeout(&self) -> Option<f64> {
        self.machine.poll_timeout().map(seconds)
    }

    /// Tells the time.
    fn timeout(&mut self, now: f64) -> PyResult<()> {
        self.machine.handle_timeout(time(now)?);
        Ok(())
    }

    /// Queues a packet, and returns its number.
    fn send(&mut self, data: &[u8]) -> PyResult<u64> {
        self.machine.send(data).map_err(of_send)
    }

    /// The application is done with the packet of this number and all before.
    fn taken(&mut self, now: f64, number: u64) -> PyResult<()> {
        self.machine.taken(time(now)?, number);
        Ok(())
    }

    /// Says goodbye. `Ended` follows.
    fn close(&mut self, now: f64) -> PyResult<()> {
        self.machine.close(time(now)?);
        Ok(())
    }

    /// Drops the connection as if the network had failed.
    fn drop_connection(&mut self) {
        self.machine.drop_connection();
    }

    /// After an end whose code allows it, joins as a new client.
    fn start_over(&mut self) {
        self.machine.start_over();
    }

    /// Sets what the client shows when it joins. In a session it is sent again.
    fn set_token(&mut self, token: &[u8]) -> PyResult<()> {
        let set = self.machine.set_token(token);
        set.map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// Whether there is room for a packet of this length now.
    fn has_room(&self, length: usize) -> bool {
        self.machine.has_room(length)
    }

    /// The id of the session, or 0.
    #[getter]
    fn id(&self) -> u64 {
        self.machine.id().map_or(0, ClientId::as_u64)
    }

    /// The version of the session, or of the next one.
    #[getter]
    fn version(&self) -> u32 {
        self.machine.version().number()
    }

    /// What became of the packets so far, as far as this end knows.
    #[getter]
    fn ledger(&self) -> Ledger {
        self.machine.ledgers().into()
    }

    /// The seconds that a question to the edge and its answer took last, if one was asked. (Version 3)
    #[getter]
    fn rtt(&self) -> Option<f64> {
        self.machine.rtt().map(|rtt| rtt.as_secs_f64())
    }

    /// The number up to which packets are acknowledged, after the end with what that told. In version 2: taken by the connection.
    #[getter]
    fn acknowledged(&self) -> u64 {
        self.machine.acknowledged()
    }

    /// Packets that are kept: not sent, or not acknowledged.
    #[getter]
    fn unacknowledged(&self) -> usize {
        self.machine.queued_packets()
    }

    /// The maximum length of a packet to the edge.
    #[getter]
    fn max_packet(&self) -> usize {
        self.machine.max_packet_bytes()
    }

    /// What the client is doing: waiting, connecting, open, over, or a state of the opening.
    #[getter]
    fn state(&self) -> String {
        match self.machine.state() {
            State::Waiting => "waiting".to_owned(),
            State::AwaitWelcome => "welcome".to_owned(),
            State::AwaitAnswer => "answer".to_owned(),
            State::AwaitResumed => "resumed".to_owned(),
            State::Established => "open".to_owned(),
            State::Ended => "over".to_owned(),
            state => format!("{state:?}").to_lowercase(),
        }
    }

    /// Whether the session is over.
    #[getter]
    fn is_over(&self) -> bool {
        self.machine.state().is_over()
    }

    /// Whether the session is over with a code after which another one may begin.
    #[getter]
    fn ends_afresh(&self) -> bool {
        let end = self.machine.end();
        end.is_some_and(|end| end.code.class() == Class::Afresh)
    }

    /// Whether something waits to be written.
    #[getter]
    fn has_unsent(&self) -> bool {
        self.machine.has_unsent()
    }

    /// Whether packets go.
    #[getter]
    fn is_connected(&self) -> bool {
        self.machine.state() == State::Established
    }

    /// The key that the edge has proven, in 66 hexadecimal digits.
    #[getter]
    fn edge_key(&self) -> Option<String> {
        let key = self.machine.edge_key()?;
        Some(
            key.as_bytes()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        )
    }

    /// Whether `to_save` must be stored now, and `saved` called. With `saves` there is no output before.
    fn wants_save(&self) -> bool {
        self.machine.wants_save()
    }

    /// What is to be stored in the place of what was stored before, for `stored` of another process. It is a secret.
    #[pyo3(name = "to_save")]
    fn bytes_to_save<'py>(&mut self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.machine.to_save())
    }

    /// What `to_save` gave last is stored.
    fn saved(&mut self) {
        self.machine.handle_saved();
    }

    /// Sets the application's own state, which is stored with the session: up to 64 KiB. With `saves="saved"`, what was sent leaves and what
    /// was taken is acknowledged once it is stored.
    fn set_state(&mut self, now: f64, state: &[u8]) -> PyResult<()> {
        let set = self.machine.set_state(time(now)?, state);
        set.map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// The application's own state, as it was stored or set last.
    #[getter]
    fn saved_state<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.machine.saved_state())
    }

    /// A session of version 2, for another process to resume. It is a secret.
    #[getter]
    fn saved_session<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        let saved = self.machine.saved_session()?;
        Some(PyBytes::new(py, &*saved.to_bytes()))
    }
}

impl ClientMachine {
    fn add_pending(&mut self, py: Python<'_>, events: &Bound<'_, PyList>) -> PyResult<()> {
        while let Some(event) = self.machine.poll_event() {
            let (id, end) = (self.id(), self.machine.end().cloned());
            match (event, end) {
                (Event::Refused(_), Some(end)) => {
                    add_client(py, events, id, Event::Ended(end))?;
                }
                (event, _) => add_client(py, events, id, event)?,
            }
        }
        Ok(())
    }
}

fn key_of(digits: &str) -> PyResult<PublicKey> {
    let wrong = || {
        PyValueError::new_err(format!(
            "`{digits}` is no key of an edge, which has 66 hexadecimal digits"
        ))
    };
    let bytes: Option<Vec<u8>> = (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok())
        .collect();
    PublicKey::from_sec1(&bytes.ok_or_else(wrong)?).map_err(|_| wrong())
}

fn add_client(py: Python<'_>, to: &Bound<'_, PyList>, id: u64, event: Event<'_>) -> PyResult<()> {
    match event {
        Event::Packet { data, number } => to.append(Packet {
            id,
            data: PyBytes::new(py, data).unbind(),
            number,
        }),
        Event::Connected { id } => to.append(Connected { id: id.as_u64() }),
        Event::Gap(gap) => to.append(Gap {
            id,
            first: gap.first,
            count: gap.count,
            reason: gap.reason,
            is_up: false,
        }),
        Event::Skipped { count } => to.append(Skipped { count }),
        Event::Dropped { cause, retry_in } => to.append(Dropped {
            id,
            cause: DropCause::to_string(&cause),
            retry_in: retry_in.as_secs_f64(),
        }),
        Event::Resumed { id, missed, away } => to.append(Resumed {
            id: id.as_u64(),
            missed,
            away: away.as_secs_f64(),
        }),
        Event::CaughtUp => to.append(CaughtUp { id }),
        Event::Refused(refusal) => to.append(Ended {
            id,
            code: refusal.code().to_u16(),
            text: refusal.to_string(),
            ledger: Ledger::default(),
        }),
        Event::Ended(end) => to.append(Ended {
            id,
            code: end.code.to_u16(),
            ledger: (*end.ledgers).into(),
            text: end.text,
        }),
    }
}
