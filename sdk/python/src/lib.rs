//! The machines of a client and of a backend as classes of Python. Bytes go in, and lists of events come out: one call for a whole read.

use std::time::Duration;

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};
use voltlane_core::backend::host::{self, GroupId, Host, HostConfig, KickError, Mark};
use voltlane_core::backend::{BackendConfig, SendError as HostSendError};
use voltlane_core::client::{
    Client, ClientConfig, Closed, DropCause, Event, SavedSession, SendError, State, Versions,
};
use voltlane_core::keys::PublicKey;
use voltlane_core::{ClientId, Time};

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

/// Makes the class of an event: frozen, compared by value, and matched by its fields in order.
macro_rules! events {
    ($($(#[doc = $doc:literal])+ $name:ident { $($field:ident: $type:ty),* } [$($arg:literal),*])+) => {
        $($(#[doc = $doc])+
        #[pyclass(frozen, get_all, eq, module = "voltlane")]
        #[derive(PartialEq)]
        pub struct $name { $($field: $type),* }

        #[pymethods]
        impl $name {
            #[new]
            #[pyo3(signature = ($($field),*))]
            fn new($($field: $type),*) -> Self {
                $name { $($field),* }
            }

            #[classattr]
            fn __match_args__(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
                let fields: &[&str] = &[$($arg),*];
                PyTuple::new(py, fields)
            }

            fn __repr__(&self) -> String {
                let fields: Vec<String> = vec![$(format!("{}={:?}", stringify!($field), self.$field)),*];
                format!("{}({})", stringify!($name), fields.join(", "))
            }
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
    /// The session is over.
    Ended { id: u64, code: u16, text: String } ["id", "code", "text"]
    /// The edge is there, and has so many sessions if it tells.
    EdgeConnected { sessions: Option<u32> } ["sessions"]
    /// The edge is gone, and keeps its clients.
    EdgeLost {} []
    /// A session that is new to the backend. `again`: the backend is new, and the client is not.
    Joined { id: u64, token: Vec<u8>, note: String, again: bool } ["id", "token", "note", "again"]
    /// The connection of a client is gone. Its session expires in so many seconds.
    Away { id: u64, expires_in: f64 } ["id", "expires_in"]
    /// A client shows another token.
    Token { id: u64, token: Vec<u8> } ["id", "token"]
    /// Volatile packets that were not sent before the next one.
    Skipped { count: u64 } ["count"]
}

/// A packet. At a client `id` is its own. `number` is its place in its session and direction, from 1, or 0 for a volatile one.
#[pyclass(frozen, get_all, module = "voltlane")]
pub struct Packet {
    id: u64,
    data: Py<PyBytes>,
    number: u64,
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
struct ClientMachine {
    machine: Client,
}

#[pymethods]
impl ClientMachine {
    /// `seed` has 32 bytes that nobody can know or guess, and that were never used before. `version`: 2, 3, or None for version 3 and version 2
    /// with an edge that has no other. `edge_keys` have 66 hexadecimal digits.
    #[new]
    #[pyo3(signature = (seed, *, version=None, token=None, edge_keys=vec![], saved=None, take_over=false, trust_first_use=false, max_receive=None))]
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
        for key in edge_keys {
            config = config.with_edge_key(key_of(&key)?);
        }
        let seed = random(seed)?;
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
            None => Client::new(config, seed),
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
        let (now, mut input, id) = (time(now)?, data, self.id());
        let events = PyList::empty(py);
        while let Some(event) = self.machine.handle_bytes(now, &mut input) {
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

    /// The number up to which packets are acknowledged. In version 2: taken by the connection.
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
        }),
        Event::Ended(end) => to.append(Ended {
            id,
            code: end.code.to_u16(),
            text: end.text,
        }),
    }
}

/// The machine of a backend, without sockets and a clock.
#[pyclass(module = "voltlane.machine")]
struct BackendMachine {
    host: Host,
    /// That of the last frame.
    mark: Mark,
}

fn of_host_send(error: HostSendError) -> PyErr {
    let says = error.to_string();
    match error {
        HostSendError::QueueFull => NoRoom::new_err(says),
        _ => TooLong::new_err(says),
    }
}

#[pymethods]
impl BackendMachine {
    /// `boot` has 16 random bytes, others in each process. `version`: that of the link, for which the edge is asked.
    #[new]
    #[pyo3(signature = (boot, *, version=2, max_send=None))]
    fn new(boot: &[u8], version: u32, max_send: Option<u32>) -> PyResult<Self> {
        let mut link = BackendConfig::default();
        if let Some(bytes) = max_send {
            link = link.with_max_send_bytes(bytes);
        }
        let mut config = HostConfig::from(link);
        let boot = boot
            .try_into()
            .map_err(|_| PyValueError::new_err("16 random bytes are needed"))?;
        match version {
            2 => {}
            3 => config = config.asking(boot),
            _ => return Err(PyValueError::new_err("there are the versions 2 and 3")),
        }
        let host = Host::new(config);
        let mark = Mark::NONE;
        Ok(BackendMachine { host, mark })
    }

    /// The edge has connected.
    fn connected(&mut self, now: f64) -> PyResult<()> {
        self.host.handle_connected(time(now)?);
        Ok(())
    }

    /// The edge's connection is gone.
    fn closed(&mut self) {
        self.host.handle_closed();
    }

    /// Feeds bytes that were read, and returns what happened.
    fn feed<'py>(
        &mut self,
        py: Python<'py>,
        now: f64,
        data: &[u8],
    ) -> PyResult<Bound<'py, PyList>> {
        let (now, mut input) = (time(now)?, data);
        let events = PyList::empty(py);
        loop {
            let at = events.len();
            let heard = self.host.handle_bytes(now, &mut input);
            let heard = heard.map_err(|error| ProtocolError::new_err(error.to_string()))?;
            let has_frame = heard.is_some();
            if let Some(event) = heard {
                add_host(py, &events, event)?;
            }
            if self.host.pending_precedes() {
                let mut before = at;
                while let Some(event) = self.host.poll_event() {
                    let one = PyList::empty(py);
                    add_host(py, &one, event)?;
                    for item in one.iter() {
                        events.insert(before, item)?;
                        before += 1;
                    }
                }
            }
            if !has_frame {
                break;
            }
        }
        self.mark = self.host.mark();
        self.add_pending(py, &events)?;
        Ok(events)
    }

    /// Returns what happened without bytes.
    fn events<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let events = PyList::empty(py);
        self.add_pending(py, &events)?;
        Ok(events)
    }

    /// The application is done with everything that was returned.
    fn taken(&mut self, now: f64) -> PyResult<()> {
        self.host.taken_up(time(now)?, self.mark);
        Ok(())
    }

    /// Returns the bytes to write now, and takes them as written.
    fn output<'py>(&mut self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let mut all = Vec::new();
        loop {
            let output = self.host.output();
            let length = output.len();
            if length == 0 {
                return PyBytes::new(py, &all);
            }
            all.extend_from_slice(output);
            self.host.handle_written(length);
        }
    }

    /// Whether the connection is to be closed. Then call `closed`.
    fn wants_close(&self) -> bool {
        self.host.wants_close()
    }

    /// When `timeout` must be called.
    fn next_timeout(&self) -> Option<f64> {
        self.host.poll_timeout().map(seconds)
    }

    /// Tells the time.
    fn timeout(&mut self, now: f64) -> PyResult<()> {
        self.host.handle_timeout(time(now)?);
        Ok(())
    }

    /// Queues a packet for a client, and returns its number. 0: the session has ended, and nothing is queued.
    fn send(&mut self, id: u64, data: &[u8]) -> PyResult<u64> {
        let sent = self.host.send(ClientId::from_u64(id), data);
        sent.map_err(of_host_send)
    }

    /// Queues a packet in place of an older one under the same key.
    fn send_latest(&mut self, id: u64, key: u64, data: &[u8]) -> PyResult<u64> {
        let sent = self.host.send_latest(ClientId::from_u64(id), key, data);
        sent.map_err(of_host_send)
    }

    /// Queues a packet that is delivered now or not at all.
    fn send_volatile(&mut self, id: u64, data: &[u8]) -> PyResult<()> {
        let sent = self.host.send_volatile(ClientId::from_u64(id), data);
        sent.map_err(of_host_send)
    }

    /// Queues a packet for the members of a group, or for everyone, but for up to 16 clients.
    #[pyo3(signature = (group, data, *, without=vec![], key=None, volatile=false))]
    fn send_to_many(
        &mut self,
        group: Option<u64>,
        data: &[u8],
        without: Vec<u64>,
        key: Option<u64>,
        volatile: bool,
    ) -> PyResult<()> {
        let without: Vec<_> = without.into_iter().map(ClientId::from_u64).collect();
        let to = group.map(group_of).transpose()?;
        let sent = match volatile {
            true => self.host.send_volatile_to_many(to, &without, data),
            false => self.host.send_to_many(to, &without, key, data),
        };
        sent.map_err(of_host_send)
    }

    /// Makes a client a member of a group, whose number is below 2 ** 64 - 1.
    fn add(&mut self, group: u64, id: u64) -> PyResult<()> {
        let added = self.host.add(group_of(group)?, ClientId::from_u64(id));
        added.map_err(|error| NoRoom::new_err(error.to_string()))
    }

    /// Ends a membership, if there is one.
    fn remove(&mut self, group: u64, id: u64) -> PyResult<()> {
        self.host.remove(group_of(group)?, ClientId::from_u64(id));
        Ok(())
    }

    /// Returns the members of a group.
    fn members(&self, group: u64) -> PyResult<Vec<u64>> {
        let members = self.host.receivers(Some(group_of(group)?));
        Ok(members.into_iter().map(ClientId::as_u64).collect())
    }

    /// Ends a session with a code (401, 405, or 500 to 699) and a text.
    fn kick(&mut self, id: u64, code: u16, text: &str) -> PyResult<()> {
        let kicked = self.host.kick(ClientId::from_u64(id), code, text);
        kicked.map_err(|error| {
            let says = error.to_string();
            match error {
                KickError::QueueFull => NoRoom::new_err(says),
                _ => PyValueError::new_err(says),
            }
        })
    }

    /// Reads no more packets of a client, or goes on.
    fn pause(&mut self, id: u64, pauses: bool) {
        self.host.pause(ClientId::from_u64(id), pauses);
    }

    /// Notes something of a client, in at most 64 bytes.
    fn set_note(&mut self, id: u64, note: &str) {
        self.host.set_note(ClientId::from_u64(id), note);
    }

    /// What is noted of a client, or nothing.
    fn note(&self, id: u64) -> String {
        let note = self.host.note(ClientId::from_u64(id));
        note.map_or(String::new(), |(note, _)| note.to_owned())
    }

    /// The clients that are there.
    fn clients(&self) -> Vec<u64> {
        let clients = self.host.sessions().into_iter();
        clients.map(ClientId::as_u64).collect()
    }

    /// The number up to which everything of a client is settled. (Version 3 of the link)
    fn settled(&self, id: u64) -> u64 {
        self.host.settled(ClientId::from_u64(id))
    }

    /// Whether there is room for so many packets of this length.
    fn has_room(&self, packets: usize, length: usize) -> bool {
        self.host.has_room_for(packets, length)
    }

    /// The maximum length of a packet to a client.
    #[getter]
    fn max_packet(&self) -> usize {
        self.host.max_packet_bytes()
    }

    /// Packets that wait to be written.
    #[getter]
    fn queued(&self) -> usize {
        self.host.queued_packets()
    }
}

impl BackendMachine {
    fn add_pending(&mut self, py: Python<'_>, events: &Bound<'_, PyList>) -> PyResult<()> {
        while let Some(event) = self.host.poll_event() {
            add_host(py, events, event)?;
        }
        Ok(())
    }
}

fn group_of(number: u64) -> PyResult<GroupId> {
    match number {
        u64::MAX => Err(PyValueError::new_err("the greatest number is no group")),
        number => Ok(GroupId(number)),
    }
}

fn add_host(py: Python<'_>, to: &Bound<'_, PyList>, event: host::Event<'_>) -> PyResult<()> {
    use host::Event;
    match event {
        Event::Packet {
            id, data, number, ..
        } => to.append(Packet {
            id: id.as_u64(),
            data: PyBytes::new(py, data).unbind(),
            number,
        }),
        Event::Connected { sessions, .. } => to.append(EdgeConnected { sessions }),
        Event::CaughtUp => to.append(CaughtUp { id: 0 }),
        Event::Joined(joined) => to.append(Joined {
            id: joined.id.as_u64(),
            token: joined.token.to_vec(),
            note: joined.note.to_owned(),
            again: joined.again,
        }),
        Event::Away { id, expires_in, .. } => to.append(Away {
            id: id.as_u64(),
            expires_in: expires_in.as_secs_f64(),
        }),
        Event::Resumed {
            id, away, missed, ..
        } => to.append(Resumed {
            id: id.as_u64(),
            missed,
            away: away.as_secs_f64(),
        }),
        Event::Gap { id, direction, gap } => to.append(Gap {
            id: id.as_u64(),
            first: gap.first,
            count: gap.count,
            reason: gap.reason,
            is_up: direction == host::Direction::Up,
        }),
        Event::Token { id, token } => to.append(Token {
            id: id.as_u64(),
            token: token.to_vec(),
        }),
        Event::Ended { id, end } => to.append(Ended {
            id: id.as_u64(),
            code: end.code.to_u16(),
            text: end.text,
        }),
        // About the link alone.
        _ => Ok(()),
    }
}

#[pymodule]
mod _core {
    #[pymodule_export]
    use super::{
        Away, BackendMachine, CaughtUp, ClientMachine, Connected, Dropped, EdgeConnected, EdgeLost,
        Ended, Error, Gap, Joined, NoRoom, Packet, ProtocolError, Resumed, SessionEnded, Skipped,
        Token, TooLong,
    };
}
