//! The links, with the trunks at one end, and at the other the backends with their applications.

use voltlane_core::ClientId;
use voltlane_core::backend::host::{Event, GroupId, Host, HostConfig, Mark};
use voltlane_core::edge::{Closed, HasLink as _};

use super::ledger::Told;
use super::setup::Setup;
use super::{World, kind, time};
use crate::engine::pipe::{End, Pipe};
use crate::ledgered::Runs as _;
use crate::link3::tap::Tap;
use crate::payload::{self, Direction, Label};
use crate::rng::Rng;
use crate::takes::Takes;

/// The code of all kicks.
pub(super) const KICK: u16 = 500;

/// The stream between a trunk and its backend.
struct Link {
    up: Pipe,
    down: Pipe,
    /// Whether the backend's end is open, and whether the edge's is.
    is_at_host: bool,
    is_at_edge: bool,
    /// Whether the backend has taken it, and whether the edge has granted version 3 on it.
    is_accepted: bool,
    is_granted: bool,
}

/// Something that came to an application.
pub(super) struct Take {
    mark: Mark,
    packet: Option<(u64, u64)>,
}

/// A backend.
pub(super) struct Backend {
    pub(super) host: Host,
    boots: u64,
    /// What the application is busy with.
    pub(super) takes: Takes<Take>,
    link: Option<Link>,
    pub(super) tap: Tap,
    /// Until then it reads nothing, and until then it is not reached.
    pub(super) stalls: u64,
    pub(super) refuses: u64,
}

fn host_of(setup: &Setup, backend: usize, boot: u64) -> Host {
    let mut name = [0; 16];
    let purpose = (backend as u64) << 32 | boot;
    Rng::fork(setup.seed, "boot of pins", purpose).fill(&mut name);
    Host::new(HostConfig::default().asking(name))
}

impl Backend {
    pub(super) fn new(setup: &Setup, number: usize) -> Backend {
        Backend {
            host: host_of(setup, number, 0),
            boots: 0,
            takes: Takes::default(),
            link: None,
            tap: Tap::new(setup.each),
            stalls: 0,
            refuses: 0,
        }
    }
}

impl World {
    // ---- what happens to links

    /// Returns whether nothing is under way on the link.
    pub(super) fn link_is_empty(&self, backend: usize) -> bool {
        let all = self.setup.load.link_stream as usize;
        let link = self.backends[backend].link.as_ref();
        link.is_some_and(|link| {
            link.is_at_edge && link.is_granted && link.up.room() == all && link.down.room() == all
        })
    }

    /// The network between the edge and a backend fails: what is under way is lost.
    pub(super) fn cut(&mut self, backend: usize) {
        if let Some(link) = &mut self.backends[backend].link {
            for pipe in [&mut link.up, &mut link.down] {
                self.wakes.extend(pipe.end(self.now, End::Rst));
            }
            self.ledger.reached("link cut");
        }
    }

    /// A backend is not reached for a while. It may be another process afterwards, which knows nothing.
    pub(super) fn outage(&mut self, backend: usize, nanos: u64, boots: bool) {
        self.cut(backend);
        self.backends[backend].refuses = self.now + nanos;
        if boots {
            self.ledger.reached("backend restarted");
            let one = &mut self.backends[backend];
            one.boots += 1;
            one.host = host_of(&self.setup, backend, one.boots);
            one.takes.clear();
            if let Some(link) = &mut one.link {
                link.is_at_host = false;
            }
            self.ledger.booted(backend);
        }
    }

    fn count_link(&mut self, backend: usize, bytes: usize) {
        let before = self.link_bytes;
        self.link_bytes += bytes as u64;
        if let Some(at) = self.setup.cut_at
            && (before..self.link_bytes).contains(&at)
        {
            self.cut(backend);
        }
    }

    // ---- the trunk's end

    pub(super) fn trunk_uses_link(&mut self, backend: usize) -> bool {
        let (now, chunk) = (self.now, self.chunk());
        let trunk = &mut self.trunks[backend];
        let due = trunk.poll_timeout();
        let mut moved = false;
        if due.is_some_and(|due| due.at.as_nanos() <= now) {
            trunk.handle_timeout(time(now));
            // A pause that is over stays over until the trunk dials.
            moved = !trunk.link_wants_connect(time(now));
        }
        let one = &mut self.backends[backend];
        if trunk.link_wants_connect(time(now)) {
            trunk.handle_link_connecting(time(now));
            if now < one.refuses {
                trunk.handle_link_closed(time(now), Closed::Error);
            } else {
                trunk.handle_link_connected(time(now));
                self.open_link(backend);
            }
            return true;
        }
        let Some(link) = one.link.as_mut().filter(|link| link.is_at_edge) else {
            return moved;
        };
        link.down.advance(now);
        let end = match () {
            () if trunk.link_wants_close() => {
                self.wakes.extend(link.up.end(now, End::Fin));
                self.ledger.reached("link closed by the edge");
                Some(Closed::Asked)
            }
            () if link.down.is_reset(now) => Some(Closed::Error),
            () if link.down.readable() == 0 && link.down.ended(now).is_some() => {
                self.wakes.extend(link.up.end(now, End::Fin));
                Some(Closed::Eof)
            }
            () => None,
        };
        if let Some(end) = end {
            link.is_at_edge = false;
            link.down.discard();
            trunk.handle_link_closed(time(now), end);
            self.ledger.look_at_link(backend, false);
            self.note(|| format!("the link of backend {backend} ends at the edge: {end:?}"));
            return true;
        }
        let budget = trunk.link_read_budget().min(chunk);
        if link.down.readable() > 0 && budget > 0 {
            let bytes = link.down.read(budget);
            self.steps += 1;
            self.hash.add(now, kind::LINK_DOWN, backend as u64, &bytes);
            trunk.handle_link_bytes(time(now), &bytes);
            moved = true;
        }
        let room = link.up.room().min(chunk);
        let mut bytes = trunk.link_output().concat();
        bytes.truncate(room);
        if bytes.is_empty() {
            return moved;
        }
        trunk.handle_link_written(time(now), bytes.len());
        self.hash.add(now, kind::LINK_UP, backend as u64, &bytes);
        link.up.write(now, &bytes, &mut self.wakes);
        if let Err(fault) = one.tap.up(&bytes) {
            let text = format!("backend {backend}: {}", fault.text);
            self.ledger.fail(fault.rule, fault.section, text);
        }
        self.count_link(backend, bytes.len());
        true
    }

    fn open_link(&mut self, backend: usize) {
        self.ledger.reached("link");
        let number = self.ledger.reach["link"];
        let setup = &self.setup;
        let pipe = |way: u64| {
            let rng = Rng::fork(setup.seed, "pipe of a link of pins", number * 2 + way);
            Pipe::new(setup.load.link_stream, setup.load.link_delay_us, rng)
        };
        let one = &mut self.backends[backend];
        one.link = Some(Link {
            up: pipe(0),
            down: pipe(1),
            is_at_host: true,
            is_at_edge: true,
            is_accepted: false,
            is_granted: false,
        });
        one.tap.connected();
    }

    // ---- the backend's end

    pub(super) fn host_turn(&mut self, backend: usize) -> bool {
        let now = self.now;
        let mut moved = false;
        while let Some(take) = self.backends[backend].takes.pop_done(now) {
            if let Some((id, number)) = take.packet {
                let session = self.ledger.session(id);
                session.taken = session.taken.max(number);
            }
            let host = &mut self.backends[backend].host;
            host.taken_up(time(now), take.mark);
            moved = true;
        }
        let host = &mut self.backends[backend].host;
        if host.poll_timeout().is_some_and(|at| at.as_nanos() <= now) {
            host.handle_timeout(time(now));
            moved = true;
        }
        moved |= self.host_uses_link(backend);
        self.hear_pending(backend);
        moved
    }

    fn host_uses_link(&mut self, backend: usize) -> bool {
        let (now, chunk) = (self.now, self.chunk());
        let one = &mut self.backends[backend];
        let Some(link) = one.link.as_mut().filter(|link| link.is_at_host) else {
            return false;
        };
        if !std::mem::replace(&mut link.is_accepted, true) {
            // It may not have seen the end of the one before.
            one.host.handle_closed();
            one.host.handle_connected(time(now));
        }
        link.up.advance(now);
        if one.host.wants_close() || link.up.is_reset(now) {
            return self.close_at_host(backend);
        }
        if now >= one.stalls {
            if link.up.readable() > 0 {
                let bytes = link.up.read(chunk);
                self.steps += 1;
                return self.host_reads(backend, &bytes);
            }
            if link.up.ended(now).is_some() {
                return self.close_at_host(backend);
            }
        }
        let output = one.host.output();
        let bytes = output[..output.len().min(link.down.room()).min(chunk)].to_vec();
        if bytes.is_empty() {
            return false;
        }
        one.host.handle_written(bytes.len());
        link.down.write(now, &bytes, &mut self.wakes);
        if let Err(fault) = one.tap.down(&bytes) {
            let text = format!("backend {backend}: {}", fault.text);
            self.ledger.fail(fault.rule, fault.section, text);
        }
        self.count_link(backend, bytes.len());
        true
    }

    fn close_at_host(&mut self, backend: usize) -> bool {
        let one = &mut self.backends[backend];
        if let Some(link) = &mut one.link {
            self.wakes.extend(link.down.end(self.now, End::Fin));
            link.up.discard();
            link.is_at_host = false;
        }
        one.host.handle_closed();
        self.hear_pending(backend);
        self.note(|| format!("the link ends at backend {backend}"));
        true
    }

    fn host_reads(&mut self, backend: usize, bytes: &[u8]) -> bool {
        let now = time(self.now);
        let mut input = bytes;
        loop {
            // What was sent in between may have a number that this changes.
            let event = match self.backends[backend].host.handle_bytes(now, &mut input) {
                Ok(Some(event)) => Heard::of(&event),
                Ok(None) => return true,
                Err(error) if error.to_string().contains("too late") => {
                    self.is_done = true;
                    return self.close_at_host(backend);
                }
                Err(error) => {
                    let text = format!("backend {backend} ends the link: {error}");
                    self.ledger.fail("K11", "38.1(c)", text);
                    return self.close_at_host(backend);
                }
            };
            let precedes = self.backends[backend].host.pending_precedes();
            if precedes {
                self.hear_pending(backend);
            }
            self.hear(backend, event);
            if !precedes {
                self.hear_pending(backend);
            }
            if self.is_over() {
                return true;
            }
        }
    }

    fn hear_pending(&mut self, backend: usize) {
        while let Some(event) = self.backends[backend].host.poll_event() {
            let heard = Heard::of(&event);
            self.hear(backend, heard);
        }
    }

    fn hear(&mut self, backend: usize, heard: Heard) {
        self.note(|| format!("backend {backend} hears {heard:?}"));
        let packet = match heard {
            Heard::Packet { id, number, .. } => Some((id, number)),
            _ => None,
        };
        let host = &self.backends[backend].host;
        match heard {
            Heard::Connected { is_granted: false } => {
                // It takes the link for one of version 2, since nothing came for so long. That is for another engine.
                self.ledger.reached("version 2 of the link");
                self.is_done = true;
            }
            Heard::Connected { is_granted: true } => self.granted(backend),
            Heard::CaughtUp => {
                let known: Vec<u64> = host.sessions().iter().map(|id| id.as_u64()).collect();
                let here = self.ledger.here(backend);
                if known != here {
                    let text = format!("the picture is {known:x?}, and {here:x?} were told");
                    self.ledger.fail("N4", "35.6(a)", text);
                }
                self.ledger.backends[backend].has_picture = true;
            }
            Heard::Joined { id, again, note } => {
                let of_host = ClientId::from_u64(id);
                let ledgers = host.ledgers(of_host).unwrap_or_default();
                let counts = (ledgers.up.numbered, ledgers.down.numbered);
                let is_away = host.note(of_host).is_some_and(|(_, is_here)| !is_here);
                self.look_at_newcomer(backend, id, again);
                self.ledger.joined(backend, id, again, &note, counts);
                if is_away {
                    self.ledger.session(id).told[backend] = Told::Away;
                }
            }
            Heard::Packet { id, number, data } => self.ledger.heard(backend, id, number, &data),
            Heard::Place { id, told } => self.ledger.changed_place(backend, id, told),
            Heard::Ended { id, code, up } => {
                self.ledger.reached("end told");
                self.look_at_expiry(id, code);
                self.ledger.ended(backend, id, code, up);
            }
            Heard::Settled(settled) => {
                for id in settled {
                    let number = host.settled(ClientId::from_u64(id));
                    let session = self.ledger.session(id);
                    if session.told[backend] == Told::Ended {
                        let text = format!("{id:016x} settles at {backend}, where it has ended");
                        self.ledger.fail("N4", "45.6(b)", text);
                    } else if session.holder == Some(backend) {
                        self.ledger.settled(id, number);
                    }
                }
            }
            Heard::Nothing => {}
            Heard::Wrong(text) => self.ledger.fail("K11", "38.1", text),
        }
        let until = self.now + self.rng.below(self.setup.load.slow_host_nanos);
        let one = &mut self.backends[backend];
        let mark = one.host.mark();
        one.takes.push(until, Take { mark, packet });
    }

    /// The link of a backend has version 3. Before the first time the edge acknowledges packets as on a link of version 2.
    fn granted(&mut self, backend: usize) {
        if let Some(link) = &mut self.backends[backend].link {
            link.is_granted = true;
        }
        if std::mem::replace(&mut self.ledger.backends[backend].was_granted, true) {
            return;
        }
        for client in &self.clients {
            let Some(id) = client.id else { continue };
            let shard = usize::from(ClientId::from_u64(id).shard().as_u8());
            if shard / self.setup.each == backend {
                self.ledger.session(id).acknowledged_early = client.sent.into();
            }
        }
    }

    /// A session begins at a backend: not at one that drains, if its client came after that. (SPEC 45.5(a))
    fn look_at_newcomer(&mut self, backend: usize, id: u64, again: bool) {
        let Some(since) = self.ledger.backends[backend].draining_since else {
            return;
        };
        let session = self.ledger.session(id);
        let is_new = !again && session.holder.is_none();
        if is_new && session.began.is_some_and(|began| began > since) {
            let text = format!("{id:016x} begins at backend {backend}, which drains");
            self.ledger.fail("N7", "45.5(a)", text);
        }
    }

    // ---- what the applications do

    fn data(&mut self, bytes: u64) -> (u32, Vec<u8>) {
        let seq = self.sent_down;
        self.sent_down += 1;
        let label = Label {
            direction: Direction::Down,
            owner: 0,
            conn: 0,
            seq,
        };
        let data = payload::encode(label, (bytes as usize).max(payload::HEADER_BYTES));
        (seq, data)
    }

    /// Returns the session of a client, and the backend that was told of it.
    pub(super) fn told(&self, client: usize) -> Option<(u64, usize)> {
        let id = self.clients[client].id?;
        Some((id, self.ledger.sessions.get(&id)?.place()?))
    }

    pub(super) fn send_down(&mut self, client: usize, bytes: u64, key: Option<u64>) {
        let Some((id, backend)) = self.told(client) else {
            return;
        };
        let (seq, data) = self.data(bytes);
        let host = &mut self.backends[backend].host;
        let to = ClientId::from_u64(id);
        let number = match key {
            None => host.send(to, &data),
            Some(key) => host.send_latest(to, key, &data),
        };
        let Ok(number) = number else { return };
        let session = self.ledger.session(id);
        let expected = session.push(seq, key);
        if number != expected && !session.is_lax {
            let text = format!("{id:016x}: packet {expected} has the number {number}");
            self.ledger.fail("N2", "36", text);
        }
    }

    pub(super) fn send_to_many(&mut self, backend: usize, group: u64) {
        let members = self.ledger.members(backend, group);
        if !members
            .iter()
            .all(|id| self.ledger.sessions[id].holder == Some(backend))
        {
            // It was given up, and does not know it.
            return;
        }
        let (seq, data) = self.data(0);
        let to = (group > 0).then_some(GroupId(group));
        let host = &mut self.backends[backend].host;
        let known: Vec<_> = host.receivers(to).iter().map(|id| id.as_u64()).collect();
        if known != members {
            let text = format!("group {group} of {backend} is {known:x?}, not {members:x?}");
            return self.ledger.fail("N5", "45.6(c)", text);
        }
        if host.send_to_many(to, &[], None, &data).is_ok() {
            self.ledger.reached("sent to many");
            for id in members {
                self.ledger.session(id).push(seq, None);
            }
        }
    }

    pub(super) fn change_member(&mut self, client: usize, group: u64, joins: bool) {
        let Some((id, backend)) = self.told(client) else {
            return;
        };
        let (host, member) = (&mut self.backends[backend].host, ClientId::from_u64(id));
        let groups = &mut self.ledger.session(id).groups;
        if joins {
            groups.insert(group);
            let added = host.add(GroupId(group), member);
            assert_eq!(added, Ok(()), "there is room");
        } else {
            groups.remove(&group);
            host.remove(GroupId(group), member);
        }
    }

    pub(super) fn pause(&mut self, client: usize, pauses: bool) {
        if let Some((id, backend)) = self.told(client)
            && self.backends[backend].host.edge().is_some()
        {
            self.pause_session(id, backend, pauses);
            self.ledger.reached("paused");
        }
    }

    pub(super) fn pause_session(&mut self, id: u64, backend: usize, pauses: bool) {
        let host = &mut self.backends[backend].host;
        host.pause(ClientId::from_u64(id), pauses);
        self.ledger.session(id).is_paused = pauses;
    }

    pub(super) fn kick(&mut self, client: usize) {
        if let Some((id, backend)) = self.told(client) {
            let host = &mut self.backends[backend].host;
            if host.kick(ClientId::from_u64(id), KICK, "out").is_ok() {
                self.ledger.session(id).kicks.push(KICK);
            }
        }
    }

    pub(super) fn set_note(&mut self, client: usize) {
        if let Some((id, backend)) = self.told(client) {
            let note = format!("note {}", self.sent_down);
            let host = &mut self.backends[backend].host;
            host.set_note(ClientId::from_u64(id), &note);
            self.ledger.session(id).note(&note);
        }
    }
}

/// What an event says, without what it borrows.
#[derive(Debug)]
enum Heard {
    Connected { is_granted: bool },
    CaughtUp,
    Joined { id: u64, again: bool, note: String },
    Packet { id: u64, number: u64, data: Vec<u8> },
    Place { id: u64, told: Told },
    Ended { id: u64, code: u16, up: u64 },
    Settled(Vec<u64>),
    Nothing,
    Wrong(String),
}

impl Heard {
    fn of(event: &Event<'_>) -> Heard {
        match event {
            Event::Connected { edge, .. } => Heard::Connected {
                is_granted: edge.is_some(),
            },
            Event::Link | Event::Stale { .. } => Heard::Nothing,
            Event::CaughtUp => Heard::CaughtUp,
            Event::Joined(joined) => Heard::Joined {
                id: joined.id.as_u64(),
                again: joined.again,
                note: joined.note.to_owned(),
            },
            Event::Packet {
                id, data, number, ..
            } => Heard::Packet {
                id: id.as_u64(),
                number: *number,
                data: data.to_vec(),
            },
            Event::Away { id, .. } => Heard::Place {
                id: id.as_u64(),
                told: Told::Away,
            },
            Event::Resumed { id, .. } => Heard::Place {
                id: id.as_u64(),
                told: Told::Here,
            },
            Event::Ended { id, end } => Heard::Ended {
                id: id.as_u64(),
                code: end.code.to_u16(),
                up: end.ledgers.up.numbered,
            },
            Event::Settled(settled) => {
                Heard::Settled(settled.iter().map(|(id, _)| id.as_u64()).collect())
            }
            other => Heard::Wrong(format!("{other:?}")),
        }
    }
}
