//! The link, and the backend with its application.

use voltlane_core::ClientId;
use voltlane_core::backend::SendError;
use voltlane_core::backend::host::{Event, GroupId, Mark};
use voltlane_core::edge::Closed;

use super::ledger::{Class, Sent, Told};
use super::setup::Kind;
use super::tap::Fault;
use super::{World, kind, time};
use crate::codec::Frames;
use crate::engine::pipe::{End, Pipe};
use crate::ledgered::Runs as _;
use crate::payload::{self, Direction, Label};
use crate::rng::Rng;

/// Codes and texts of kicks.
const TEXT: &str = "out with you";

/// The stream between edge and backend.
pub(super) struct Link {
    up: Pipe,
    down: Pipe,
    /// What the edge has read.
    pub(super) handed: Frames,
    /// Whether the backend's end is open, and whether the edge's is.
    pub(super) is_at_host: bool,
    is_at_edge: bool,
    /// Whether the backend has taken it.
    is_accepted: bool,
}

/// Something that came to the application.
pub(super) struct Take {
    mark: Mark,
    packet: Option<(u64, u64)>,
}

impl World {
    pub(super) fn open_link(&mut self) {
        self.ledger.reached("link");
        let number = self.ledger.reach["link"];
        let setup = &self.setup;
        let pipe = |way: u64| {
            let rng = Rng::fork(setup.seed, "pipe of the link", number * 2 + way);
            Pipe::new(setup.load.link_stream, setup.load.link_delay_us, rng)
        };
        self.link = Some(Link {
            up: pipe(0),
            down: pipe(1),
            handed: Frames::default(),
            is_at_host: true,
            is_at_edge: true,
            is_accepted: false,
        });
        self.tap.connected();
    }

    /// Returns whether nothing is under way on the link.
    pub(super) fn link_is_empty(&self) -> bool {
        let all = self.setup.load.link_stream as usize;
        let link = self.link.as_ref();
        link.is_some_and(|link| link.up.room() == all && link.down.room() == all)
    }

    /// The network between edge and backend fails: what is under way is lost.
    pub(super) fn cut(&mut self) {
        if let Some(link) = &mut self.link {
            for pipe in [&mut link.up, &mut link.down] {
                self.wakes.extend(pipe.end(self.now, End::Rst));
            }
            self.ledger.reached("link cut");
        }
    }

    /// The backend closes the link in order.
    pub(super) fn host_hangs_up(&mut self) {
        if let Some(link) = self.link.as_mut().filter(|link| link.is_at_host) {
            self.wakes.extend(link.down.end(self.now, End::Fin));
            link.up.discard();
            link.is_at_host = false;
            self.host.handle_closed();
            self.ledger.reached("link closed by the backend");
        }
    }

    fn note_tap(&mut self, heard: Result<(), Fault>) {
        for said in std::mem::take(&mut self.tap.said) {
            self.note(|| said);
        }
        if let Err(fault) = heard {
            self.ledger.fail(fault.rule, fault.section, fault.text);
        }
    }

    /// The edge closes its end of the link, if it has one. Returns what it has not read.
    pub(super) fn end_link_at_edge(&mut self) -> Option<Vec<u8>> {
        let now = self.now;
        let link = self.link.as_mut().filter(|link| link.is_at_edge)?;
        link.is_at_edge = false;
        link.down.advance(now);
        let bytes = link.down.read(usize::MAX);
        link.down.discard();
        self.wakes.extend(link.up.end(now, End::Fin));
        Some(bytes)
    }

    fn count_link(&mut self, bytes: usize) {
        let before = self.link_bytes;
        self.link_bytes += bytes as u64;
        if let Some(at) = self.setup.cut_at
            && (before..self.link_bytes).contains(&at)
        {
            self.cut();
            self.was_cut = true;
        }
    }

    // ---- the edge's end

    pub(super) fn edge_uses_link(&mut self) -> bool {
        let now = self.now;
        let chunk = self.chunk();
        let Some(link) = self.link.as_mut().filter(|link| link.is_at_edge) else {
            return false;
        };
        link.down.advance(now);
        let end = match () {
            () if self.edge.link().link_wants_close() => {
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
            self.edge.link().handle_link_closed(time(now), end);
            self.note(|| format!("the link ends at the edge: {end:?}"));
            return true;
        }
        let mut moved = false;
        let budget = self.edge.link().link_read_budget().min(chunk);
        if link.down.readable() > 0 && budget > 0 {
            let bytes = link.down.read(budget);
            self.steps += 1;
            self.hash.add(now, kind::LINK_DOWN, 0, &bytes);
            self.edge.link().handle_link_bytes(time(now), &bytes);
            self.edge_has_heard(&bytes);
            moved = true;
        }
        let Some(link) = &mut self.link else {
            return moved;
        };
        let room = link.up.room().min(chunk);
        let mut bytes = self.edge.link().link_output().concat();
        bytes.truncate(room);
        if bytes.is_empty() {
            return moved;
        }
        self.edge.link().handle_link_written(time(now), bytes.len());
        self.hash.add(now, kind::LINK_UP, 0, &bytes);
        link.up.write(now, &bytes, &mut self.wakes);
        let heard = self.tap.up(&bytes);
        self.note_tap(heard);
        if self.tap.take_plain() {
            self.ledger.became_plain();
        }
        self.count_link(bytes.len());
        true
    }

    // ---- the backend's end

    pub(super) fn host_turn(&mut self) -> bool {
        let now = self.now;
        let mut moved = self.application_takes();
        if self
            .host
            .poll_timeout()
            .is_some_and(|at| at.as_nanos() <= now)
        {
            self.host.handle_timeout(time(now));
            moved = true;
        }
        moved |= self.host_uses_link();
        self.hear_pending();
        moved
    }

    fn application_takes(&mut self) -> bool {
        let now = self.now;
        let mut moved = false;
        while let Some(take) = self.takes.pop_done(now) {
            if let Some((id, number)) = take.packet {
                let session = self.ledger.session(id);
                session.taken = session.taken.max(number);
            }
            self.host.taken_up(time(now), take.mark);
            moved = true;
        }
        moved
    }

    fn host_uses_link(&mut self) -> bool {
        let now = self.now;
        let chunk = self.chunk();
        let Some(link) = self.link.as_mut().filter(|link| link.is_at_host) else {
            return false;
        };
        if !std::mem::replace(&mut link.is_accepted, true) {
            // It may not have seen the end of the one before.
            self.host.handle_closed();
            self.host.handle_connected(time(now));
        }
        link.up.advance(now);
        if self.host.wants_close() || link.up.is_reset(now) {
            return self.close_at_host();
        }
        let mut moved = false;
        if now >= self.host_stalls {
            if link.up.readable() > 0 {
                let bytes = link.up.read(chunk);
                self.steps += 1;
                return self.host_reads(&bytes);
            }
            if link.up.ended(now).is_some() {
                return self.close_at_host();
            }
        }
        let Some(link) = &mut self.link else {
            return moved;
        };
        let output = self.host.output();
        let bytes = output[..output.len().min(link.down.room()).min(chunk)].to_vec();
        if !bytes.is_empty() {
            self.host.handle_written(bytes.len());
            link.down.write(now, &bytes, &mut self.wakes);
            let heard = self.tap.down(&bytes);
            self.note_tap(heard);
            self.count_link(bytes.len());
            moved = true;
        }
        moved
    }

    fn close_at_host(&mut self) -> bool {
        if let Some(link) = &mut self.link {
            self.wakes.extend(link.down.end(self.now, End::Fin));
            link.up.discard();
            link.is_at_host = false;
        }
        self.host.handle_closed();
        self.hear_pending();
        self.note(|| "the link ends at the backend".to_owned());
        true
    }

    fn host_reads(&mut self, bytes: &[u8]) -> bool {
        let now = time(self.now);
        let mut input = bytes;
        loop {
            // What was sent in between may have a number that this changes.
            let event = match self.host.handle_bytes(now, &mut input) {
                Ok(Some(event)) => Heard::of(&event),
                Ok(None) => return true,
                Err(error) => {
                    let text = format!("the backend ends the link: {error}");
                    let is_late = text.contains("too late");
                    if !is_late {
                        self.ledger.fail("K11", "38.1(c)", text);
                    }
                    return self.close_at_host();
                }
            };
            let precedes = self.host.pending_precedes();
            if precedes {
                self.hear_pending();
            }
            self.hear(event);
            if !precedes {
                self.hear_pending();
            }
            if self.is_over() {
                return true;
            }
        }
    }

    fn hear_pending(&mut self) {
        while let Some(event) = self.host.poll_event() {
            let heard = Heard::of(&event);
            self.hear(heard);
        }
    }

    fn hear(&mut self, heard: Heard) {
        self.note(|| format!("the backend hears {heard:?}"));
        let packet = match heard {
            Heard::Packet { id, number, .. } => Some((id, number)),
            _ => None,
        };
        match heard {
            Heard::Connected { is_granted: false } => {
                self.ledger.became_plain();
                self.tap.fell_back();
            }
            Heard::Connected { is_granted: true } => {
                let clients = self.clients.iter();
                let sent: Vec<_> = clients
                    .filter_map(|one| Some((one.id?, one.sent.into())))
                    .collect();
                self.ledger.became_granted(&sent);
                self.ledger.reached("granted");
            }
            Heard::CaughtUp => self.caught_up(),
            Heard::Joined { id, again, note } => {
                let ledgers = self.host.ledgers(ClientId::from_u64(id));
                let ledgers = ledgers.unwrap_or_default();
                let counts = (ledgers.up.numbered, ledgers.down.numbered);
                self.ledger.joined(id, again, &note, counts);
                let place = self.host.note(ClientId::from_u64(id));
                if place.is_some_and(|(_, is_here)| !is_here) {
                    self.ledger.session(id).told = Told::Away;
                }
            }
            Heard::Packet {
                id,
                number,
                data,
                is_first,
            } => {
                if is_first {
                    self.ledger.session(id).told = Told::Here;
                }
                self.ledger.heard(id, number, &data);
            }
            Heard::Place { id, told } => {
                self.ledger.reached(match told {
                    Told::Away => "away told",
                    _ => "resume told",
                });
                self.ledger.changed_place(id, told);
            }
            Heard::Ended {
                id,
                code,
                text,
                counts,
                is_balanced,
            } => {
                self.ledger.reached("end told");
                if !is_balanced {
                    let text = format!("{id:016x} ends, and its ledgers have no sums");
                    self.ledger.fail("K12", "35.5(b)", text);
                }
                self.ledger.ended(id, code, &text, counts);
            }
            Heard::Settled(settled) => {
                for id in settled {
                    let number = self.host.settled(ClientId::from_u64(id));
                    self.ledger.settled(id, number);
                }
            }
            Heard::Nothing => {}
            Heard::Wrong(text) => self.ledger.fail("K11", "38.1", text),
        }
        let until = self.now + self.rng.below(self.setup.load.slow_host_nanos);
        let mark = self.host.mark();
        self.takes.push(until, Take { mark, packet });
    }

    /// The picture is complete.
    fn caught_up(&mut self) {
        let known = self.host.sessions();
        let known: Vec<u64> = known.iter().map(|id| id.as_u64()).collect();
        let here = self.ledger.here();
        if known != here {
            let text = format!("the picture is {known:x?}, and {here:x?} were told");
            self.ledger.fail("K5", "35.6(a)", text);
        }
        self.ledger.has_picture = true;
        self.ledger.reached("picture");
    }

    // ---- what the application does

    fn data(&mut self, bytes: u64) -> (Sent, Vec<u8>) {
        let seq = self.sent_down;
        self.sent_down += 1;
        let label = Label {
            direction: Direction::Down,
            owner: 0,
            conn: self.boots as u32,
            seq,
        };
        let data = payload::encode(label, (bytes as usize).max(payload::HEADER_BYTES));
        let class = Class::Ordinary;
        (Sent { seq, class }, data)
    }

    /// Returns the session of a client if it was told to the backend.
    pub(super) fn told(&self, client: usize) -> Option<u64> {
        let id = self.clients[client].id?;
        self.ledger.sessions.get(&id)?.is_here().then_some(id)
    }

    fn note_sent(&mut self, id: u64, sent: Sent, number: Result<u64, SendError>) {
        let session = self.ledger.session(id);
        let Ok(number) = number else { return };
        session.down.push(sent);
        let expected = session.down.len() as u64;
        if number != expected && !session.is_lax {
            let text = format!("{id:016x}: packet {expected} has the number {number}");
            self.ledger.fail("K3", "36", text);
        }
    }

    pub(super) fn send_down(&mut self, client: usize, bytes: u64) {
        if let Some(id) = self.told(client) {
            let (sent, data) = self.data(bytes);
            let number = self.host.send(ClientId::from_u64(id), &data);
            self.note_sent(id, sent, number);
        }
    }

    pub(super) fn send_latest(&mut self, client: usize, key: u64) {
        if let Some(id) = self.told(client) {
            let (sent, data) = self.data(0);
            let number = self.host.send_latest(ClientId::from_u64(id), key, &data);
            let class = Class::Latest(None, key);
            self.note_sent(id, Sent { class, ..sent }, number);
        }
    }

    pub(super) fn send_volatile(&mut self, client: usize) {
        if let Some(id) = self.told(client) {
            let (sent, data) = self.data(0);
            if self
                .host
                .send_volatile(ClientId::from_u64(id), &data)
                .is_ok()
            {
                self.volatile_sent(id, sent);
            }
        }
    }

    /// A VOLATILE was sent, which is an ordinary packet where the link has none.
    fn volatile_sent(&mut self, id: u64, sent: Sent) {
        let numbered = self.host.ledgers(ClientId::from_u64(id));
        let session = self.ledger.session(id);
        let before = session.down.len() as u64;
        match numbered.is_some_and(|ledgers| ledgers.down.numbered > before) {
            true => session.down.push(sent),
            false => {
                session.volatile.insert(sent.seq);
            }
        }
    }

    pub(super) fn send_to_many(&mut self, client: usize, group: u64, kind: Kind) {
        let (sent, data) = self.data(0);
        let to = (group > 0).then_some(GroupId(group));
        let without: Vec<u64> = match self.rng.chance(30) {
            true => self.clients[client].id.into_iter().collect(),
            false => Vec::new(),
        };
        let members = self.ledger.members(group);
        let known: Vec<_> = self
            .host
            .receivers(to)
            .iter()
            .map(|id| id.as_u64())
            .collect();
        if known != members {
            let text = format!("group {group} is {known:x?}, and {members:x?} are in it");
            return self.ledger.fail("K8", "36.2", text);
        }
        let left_out: Vec<_> = without.iter().map(|id| ClientId::from_u64(*id)).collect();
        let is_sent = match kind {
            Kind::Ordinary => self.host.send_to_many(to, &left_out, None, &data),
            Kind::Latest(key) => self.host.send_to_many(to, &left_out, Some(key), &data),
            Kind::Volatile => self.host.send_volatile_to_many(to, &left_out, &data),
        };
        if is_sent.is_err() {
            return;
        }
        self.ledger.reached("sent to many");
        for id in members.into_iter().filter(|id| !without.contains(id)) {
            match kind {
                Kind::Volatile => self.volatile_sent(id, sent),
                Kind::Latest(key) => {
                    let class = Class::Latest(Some(group), key);
                    let sent = Sent { class, ..sent };
                    self.ledger.session(id).down.push(sent);
                }
                Kind::Ordinary => self.ledger.session(id).down.push(sent),
            }
        }
    }

    pub(super) fn change_member(&mut self, client: usize, group: u64, joins: bool) {
        let Some(id) = self.told(client) else { return };
        let of_host = ClientId::from_u64(id);
        let groups = &mut self.ledger.session(id).groups;
        match joins {
            true => {
                groups.insert(group);
                let added = self.host.add(GroupId(group), of_host);
                assert_eq!(added, Ok(()), "there is room");
            }
            false => {
                groups.remove(&group);
                self.host.remove(GroupId(group), of_host);
            }
        }
    }

    pub(super) fn pause(&mut self, client: usize, pauses: bool) {
        if let Some(id) = self.told(client).filter(|_| self.host.edge().is_some()) {
            self.host.pause(ClientId::from_u64(id), pauses);
            self.ledger.session(id).is_paused = pauses;
            self.ledger.reached("paused");
        }
    }

    pub(super) fn kick(&mut self, client: usize, code: u16) {
        let Some(id) = self.told(client) else { return };
        let kicked = self.host.kick(ClientId::from_u64(id), code, TEXT);
        if kicked.is_ok() {
            let kicks = &mut self.ledger.session(id).kicks;
            kicks.push((code, TEXT.to_owned()));
            // A link of version 2 carries neither.
            kicks.push((401, "kicked".to_owned()));
        }
    }

    pub(super) fn set_note(&mut self, client: usize) {
        if let Some(id) = self.told(client) {
            let note = format!("note {}", self.sent_down);
            self.host.set_note(ClientId::from_u64(id), &note);
            self.ledger.session(id).notes.insert(note);
        }
    }

    /// The new process of the backend sends to sessions of which nobody has told it yet: what they are it knows from elsewhere.
    pub(super) fn send_early(&mut self) {
        let ids: Vec<u64> = self
            .ledger
            .sessions
            .iter()
            .filter(|(_, session)| {
                session.told == Told::No && session.owner.is_some() && !session.is_lost
            })
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            let (sent, data) = self.data(0);
            if self.host.send(ClientId::from_u64(id), &data).is_ok() {
                self.ledger.session(id).early.push(sent);
            }
        }
        self.ledger.reached("sent early");
    }
}

/// What an event says, without what it borrows.
#[derive(Debug)]
enum Heard {
    Connected {
        is_granted: bool,
    },
    CaughtUp,
    Joined {
        id: u64,
        again: bool,
        note: String,
    },
    Packet {
        id: u64,
        number: u64,
        data: Vec<u8>,
        is_first: bool,
    },
    Place {
        id: u64,
        told: Told,
    },
    Ended {
        id: u64,
        code: u16,
        text: String,
        counts: (u64, u64),
        is_balanced: bool,
    },
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
            Event::CaughtUp => Heard::CaughtUp,
            Event::Joined(joined) => Heard::Joined {
                id: joined.id.as_u64(),
                again: joined.again,
                note: joined.note.to_owned(),
            },
            Event::Packet {
                id,
                data,
                number,
                is_first,
            } => Heard::Packet {
                id: id.as_u64(),
                number: *number,
                data: data.to_vec(),
                is_first: *is_first,
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
                text: end.text.clone(),
                counts: (end.ledgers.up.numbered, end.ledgers.down.numbered),
                is_balanced: end.ledgers.up.is_balanced() && end.ledgers.down.is_balanced(),
            },
            Event::Settled(settled) => {
                Heard::Settled(settled.iter().map(|(id, _)| id.as_u64()).collect())
            }
            Event::Link | Event::Stale { .. } => Heard::Nothing,
            other => Heard::Wrong(format!("{other:?}")),
        }
    }
}
