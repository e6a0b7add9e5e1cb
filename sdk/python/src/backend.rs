//! The machine of a backend.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use voltlane_core::ClientId;
use voltlane_core::backend::host::{
    self, GroupId, Host, HostConfig, KickError, LinkSecret, Mark, Overflow,
};
use voltlane_core::backend::{BackendConfig, SendError as HostSendError};

use crate::events::{
    Away, CaughtUp, ClientInfo, EdgeConnected, Ended, Gap, Joined, Packet, Resumed, Token,
};
use crate::{NoRoom, ProtocolError, TooLong, seconds, time};

/// The place of a frame of the edge among those that have come.
#[pyclass(frozen, module = "voltlane.machine")]
pub(crate) struct PlaceOfFrame(Mark);

/// The machine of a backend, without sockets and a clock.
#[pyclass(module = "voltlane.machine")]
pub(crate) struct BackendMachine {
    host: Host,
    /// That of the last frame.
    mark: Mark,
    /// How the edge broke the protocol, until the application was told or the connection is closed.
    breach: Option<String>,
    /// Whether it did, until the connection is closed.
    is_broken: bool,
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
    /// `boot` has 16 random bytes, others in each process. `version`: that of the link, for which the edge is asked. `secret`: what the edge
    /// must prove, and is proven to it. The link has version 3 then. `admits`: a client is hidden from `clients` and from everyone until
    /// `admit`. `gaps`: packets to a client for which there is no room are given up, and it goes on.
    #[new]
    #[pyo3(signature = (boot, *, version=2, max_send=None, secret=None, admits=false, gaps=false))]
    fn new(
        boot: &[u8],
        version: u32,
        max_send: Option<u32>,
        secret: Option<&[u8]>,
        admits: bool,
        gaps: bool,
    ) -> PyResult<Self> {
        let mut link = BackendConfig::default();
        if let Some(bytes) = max_send {
            link = link.with_max_send_bytes(bytes);
        }
        let mut config = HostConfig::from(link);
        let boot: [u8; 16] = boot
            .try_into()
            .map_err(|_| PyValueError::new_err("16 random bytes are needed"))?;
        match version {
            2 => {}
            3 => config = config.asking(boot),
            _ => return Err(PyValueError::new_err("there are the versions 2 and 3")),
        }
        if let Some(secret) = secret {
            let secret = LinkSecret::new(secret);
            let secret = secret.map_err(|error| PyValueError::new_err(error.to_string()))?;
            // The secret makes a nonce of it that nobody can tell.
            let mut seed = [0; 32];
            seed[..16].copy_from_slice(&boot);
            config = config.asking(boot).proving(secret, seed);
        }
        if admits {
            config = config.admitting();
        }
        if gaps {
            config = config.with_overflow(Overflow::Gap);
        }
        let host = Host::new(config);
        Ok(BackendMachine {
            host,
            mark: Mark::NONE,
            breach: None,
            is_broken: false,
        })
    }

    /// The edge has connected.
    fn connected(&mut self, now: f64) -> PyResult<()> {
        self.host.handle_connected(time(now)?);
        Ok(())
    }

    /// The edge's connection is gone.
    fn closed(&mut self) {
        self.host.handle_closed();
        (self.breach, self.is_broken) = (None, false);
    }

    /// Feeds bytes that were read, and returns what happened. If the edge breaks the protocol, what it sent before that is returned, and the
    /// next call raises ProtocolError. Nothing more is read until `closed`.
    fn feed<'py>(
        &mut self,
        py: Python<'py>,
        now: f64,
        data: &[u8],
    ) -> PyResult<Bound<'py, PyList>> {
        let (now, mut input) = (time(now)?, data);
        self.raise_breach()?;
        let events = PyList::empty(py);
        while !self.is_broken {
            let at = events.len();
            let heard = match self.host.handle_bytes(now, &mut input) {
                Ok(heard) => heard,
                Err(error) => {
                    (self.breach, self.is_broken) = (Some(error.to_string()), true);
                    break;
                }
            };
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
        if events.is_empty() {
            self.raise_breach()?;
        }
        Ok(events)
    }

    /// Returns what happened without bytes, or raises what the last `feed` did not.
    fn events<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.raise_breach()?;
        let events = PyList::empty(py);
        self.add_pending(py, &events)?;
        Ok(events)
    }

    /// The place of the last frame, for `taken`.
    #[getter]
    fn mark(&self) -> PlaceOfFrame {
        PlaceOfFrame(self.mark)
    }

    /// The application is done with everything that was returned, or with everything up to a place.
    #[pyo3(signature = (now, mark=None))]
    fn taken(&mut self, now: f64, mark: Option<&PlaceOfFrame>) -> PyResult<()> {
        let mark = mark.map_or(self.mark, |place| place.0);
        self.host.taken_up(time(now)?, mark);
        Ok(())
    }

    /// Shows a client that was hidden: see `admits`.
    fn admit(&mut self, id: u64) {
        self.host.admit(ClientId::from_u64(id));
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
        self.is_broken || self.host.wants_close()
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

    /// Asks a client, or every one, to leave and to come back within so many seconds. (Version 3 of the link)
    #[pyo3(signature = (id, within))]
    fn ask_to_leave(&mut self, id: Option<u64>, within: f64) -> PyResult<()> {
        let within = std::time::Duration::try_from_secs_f64(within);
        let within = within.map_err(|error| PyValueError::new_err(error.to_string()))?;
        self.host.ask_to_leave(id.map(ClientId::from_u64), within);
        Ok(())
    }

    /// The application has saved what came of the packets of a client up to this number: they are not told again. Before the first link.
    fn restore(&mut self, id: u64, number: u64) {
        self.host.restore(ClientId::from_u64(id), number);
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

    /// The number up to which everything of a client is settled: acknowledged, or given up. Of one of the last 65,536 that have ended, what its
    /// end told. 0 for others that are not there, and over a link of version 2.
    fn settled(&self, id: u64) -> u64 {
        self.host.settled(ClientId::from_u64(id))
    }

    /// What is known of a client, if it is there.
    fn client(&self, id: u64) -> Option<ClientInfo> {
        let client = ClientId::from_u64(id);
        let (note, is_connected) = self.host.note(client)?;
        Some(ClientInfo {
            id,
            note: note.to_owned(),
            is_connected,
            ledger: self.host.ledgers(client)?.into(),
        })
    }

    /// Whether a session has ended, as far as that is remembered.
    fn has_ended(&self, id: u64) -> bool {
        self.host.ended(ClientId::from_u64(id)).is_some()
    }

    /// Whether a client has room: fewer than 8,192 packets to it are not settled. A link of version 2 does not tell.
    fn has_room_of(&self, id: u64) -> bool {
        self.host.has_room_of(ClientId::from_u64(id))
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
    fn raise_breach(&mut self) -> PyResult<()> {
        match self.breach.take() {
            Some(says) => Err(ProtocolError::new_err(says)),
            None => Ok(()),
        }
    }

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

fn address_of(peer: Option<host::Peer>) -> Option<String> {
    let address = peer?.address?;
    Some(address.to_string())
}

fn add_host(py: Python<'_>, to: &Bound<'_, PyList>, event: host::Event<'_>) -> PyResult<()> {
    use host::Event;
    match event {
        Event::Packet {
            id,
            data,
            number,
            is_first,
        } => {
            let id = id.as_u64();
            if is_first {
                // Over a link of version 2 a client joins with its first packet.
                to.append(Joined {
                    id,
                    token: Vec::new(),
                    note: String::new(),
                    again: false,
                    sent: 0,
                    address: None,
                })?;
            }
            let data = PyBytes::new(py, data).unbind();
            to.append(Packet { id, data, number })
        }
        Event::Connected { sessions, .. } => to.append(EdgeConnected { sessions }),
        Event::CaughtUp => to.append(CaughtUp { id: 0 }),
        Event::Joined(joined) => to.append(Joined {
            id: joined.id.as_u64(),
            token: joined.token.to_vec(),
            note: joined.note.to_owned(),
            again: joined.again,
            sent: joined.numbered_down,
            address: address_of(joined.peer),
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
            ledger: (*end.ledgers).into(),
            text: end.text,
        }),
        // About the link alone.
        _ => Ok(()),
    }
}
