//! The backend's end of the link, with the sessions at its edge.

mod book;
mod config;
mod event;
mod granted;
mod hear;
mod moves;
mod send;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use crate::code::Code;
use crate::end::Ledgers;
use crate::link::tagged::HEADER_BYTES;
use crate::link::v3::{
    ASK_BYTES, Delivery, Feature, GoAway, Grant, GroupSend, Kick, Known, MAX_NOTE_BYTES,
    POLICY_BYTES, Policy, ToEdge,
};
use crate::wire::frame::FrameReader;
use crate::{ClientId, Time};

use super::{Backend, BackendError, SendError};

use book::Book;
pub use book::{
    GroupError, GroupId, KEPT_BYTES, KEPT_PACKETS, MAX_ENDED, MAX_GROUPS, MAX_GROUPS_OF_SESSION,
};
pub use config::{HostConfig, MAX_EDGES, MAX_SESSIONS};
pub use event::{EdgeId, Event, Joined};
use granted::Granted;
pub use granted::{ASK_WITHIN, GRANT_WITHIN, GrantError};
use hear::MAX_NUMBER;
pub(in crate::backend) use moves::{Head, Judged};

pub use crate::link::v3::{
    Carriage, Direction, FrameError, LinkSecret, MAX_LEFT_OUT, MAX_TEXT_BYTES, Overflow, Peer,
    Refusal, Settlements,
};

/// Packets that one client may have unsettled before [`Host::has_room_of`] says that it has no room.
pub const UNSETTLED_PACKETS: u64 = 8_192;
/// The group of everybody, which the host keeps by itself (SPEC 36.2(g)).
const EVERYONE: GroupId = GroupId(u64::MAX);

/// Returns the frame that tells the edge what is to become of a session. A new one takes the place of all that was said before.
fn policy_of(id: ClientId, overflow: Overflow, note: &str) -> ToEdge<'_> {
    let policy = Policy {
        window_s: 0,
        ring_bytes: 0,
        overflow,
        note,
    };
    ToEdge::Policy { id, policy }
}

/// A frame of the edge, in the order in which frames come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Mark {
    /// The place of its edge among several.
    pub(in crate::backend) lane: u16,
    /// The picture to which its count belongs.
    picture: u64,
    count: u64,
}

impl Mark {
    /// That of no frame.
    pub const NONE: Mark = Mark {
        lane: 0,
        picture: 0,
        count: 0,
    };

    /// Returns that of the frame before.
    #[must_use]
    pub const fn before(self) -> Mark {
        Mark {
            count: self.count.saturating_sub(1),
            ..self
        }
    }

    /// Returns the one before that of the first frame of its edge.
    #[must_use]
    pub const fn first_of_edge(self) -> Mark {
        Mark {
            picture: 0,
            count: 0,
            ..self
        }
    }

    /// Returns whether both are of frames of one edge, so that one came before the other.
    #[must_use]
    pub const fn is_of_edge(self, other: Mark) -> bool {
        self.lane == other.lane
    }
}

/// Why an order was not queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KickError {
    /// The queue is full. Try again once some of it was written.
    #[error("the send queue is full")]
    QueueFull,
    /// A kick has another code.
    #[error("a kick with the code {code}; it has 401, 405, or 500 to 699")]
    Code {
        /// The code given.
        code: u16,
    },
    /// The text is too long.
    #[error("a text of {length} bytes, {MAX_TEXT_BYTES} allowed")]
    TextTooLong {
        /// Its length in bytes.
        length: usize,
    },
}

/// How the link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// There is none.
    Down,
    /// The edge was asked for version 3. Its first frame says whether it grants it, or its silence.
    Asking {
        until: Time,
    },
    V2,
    V3,
}

/// A backend's end of the link, with the sessions at its edge: who is there, and one end of each.
///
/// # Contract
/// The adapter owns the listener and the stream. It does the following:
/// - Call [`handle_connected`](Self::handle_connected) for a new stream, and [`handle_closed`](Self::handle_closed) when it is gone.
/// - After a read, call [`handle_bytes`](Self::handle_bytes) until it returns `None`. After an error, close the stream.
/// - After each call that hears of a session or sends to one, call [`poll_event`](Self::poll_event) until it returns `None`.
/// - When the application comes back from an event of a frame, call [`taken_up`](Self::taken_up) with its
///   [`mark`](Self::mark).
/// - Write [`output`](Self::output), and report how much was written with [`handle_written`](Self::handle_written) before any other call.
/// - At [`poll_timeout`](Self::poll_timeout), call [`handle_timeout`](Self::handle_timeout), and close the stream if
///   [`wants_close`](Self::wants_close).
///
/// # Versions
/// Over a link of version 2 a session is known by its first packet, by a resume or by an announcement. What is learned there:
/// its packets, its resumes, its end. What a link had taken when it died may be lost, and packets for many cross the link once for each.
///
/// A link of version 3 tells everything, and nothing is lost with it or comes twice. After a new boot of the backend it tells a picture of
/// all sessions, with a mark at its end. (SPEC 35, 37)
#[derive(Debug)]
#[cfg_attr(feature = "testkit", derive(Clone))]
pub struct Host {
    reader: FrameReader,
    desk: Desk,
}

/// Everything but the reader, from which events borrow.
#[derive(Debug)]
#[cfg_attr(feature = "testkit", derive(Clone))]
struct Desk {
    max_receive_bytes: u32,
    queue_bytes: usize,
    overflow: Overflow,
    /// The link of version 2, and what waits before there is any.
    link: Backend,
    book: Book,
    /// Frames of version 2 that were queued.
    queued: u64,
    v3: Option<Box<Granted>>,
    mode: Mode,
    pending: VecDeque<Event<'static>>,
    wants_close: bool,
    /// Whether what is pending happened before the last frame.
    precedes: bool,
    /// The place of the edge among several.
    lane: u16,
    /// The last frame that the application came back from.
    came_back: Mark,
    /// Whether the link is one of which it is not known yet of what edge it is, and what that grants.
    is_opening: bool,
    granted: Option<Grant>,
    /// Whether packets are kept until they are settled, since there are several edges.
    keeps: bool,
    /// Whether it is of no edge: its sessions wait for one.
    is_detached: bool,
    /// Whether the next frame is dropped: what it says was judged, and refused or done.
    drops_next: bool,
    /// The sessions whose packets are sent again, each in its turn.
    injecting: VecDeque<ClientId>,
}

impl Host {
    /// Creates a host that knows no session yet.
    #[must_use]
    pub fn new(config: HostConfig) -> Self {
        let longest_body = config.link.max_receive_bytes();
        let queue_bytes = config.link.queue_bytes();
        // An edge that takes no frame as long as an ASK would close each link that begins with one.
        let link = Backend::new(config.link);
        let may_ask = link.max_packet_bytes() >= ASK_BYTES;
        let boot = config.boot.filter(|_| may_ask);
        let v3 = match config.secret {
            // Without version 3 nothing could be proven.
            Some((secret, seed)) => {
                let boot = config.boot.or(seed.first_chunk().copied());
                let v3 = Granted::new(boot.unwrap_or_default(), longest_body);
                Some(v3.proving(secret, seed))
            }
            None => boot.map(|boot| Granted::new(boot, longest_body)),
        };
        let v3 = v3.map(Box::new);
        Host {
            reader: FrameReader::default(),
            desk: Desk {
                max_receive_bytes: longest_body,
                queue_bytes,
                overflow: config.overflow,
                link,
                book: Book::new(config.max_sessions, config.admits),
                queued: 0,
                v3,
                mode: Mode::Down,
                pending: VecDeque::new(),
                wants_close: false,
                precedes: false,
                lane: 0,
                came_back: Mark::NONE,
                is_opening: false,
                granted: None,
                keeps: config.edges > 1,
                is_detached: false,
                drops_next: false,
                injecting: VecDeque::new(),
            },
        }
    }

    /// Restores a session of which an earlier life of the application has saved, with its own data, that it came back from the packets up to
    /// this number. To be called before the first link. Those packets are not told again, so each packet up is told once, whenever that life
    /// ended. (SPEC 37.4(e))
    ///
    /// A session that the edge does not have any more ends when the picture is complete. The host knows no more of them than its
    /// configuration allows, and an edge of version 2 tells nothing of them.
    pub fn restore(&mut self, id: ClientId, up: u64) {
        if let Ok(entry) = self.desk.book.address(id) {
            entry.up = up.min(MAX_NUMBER);
        }
    }

    // ---- one of several edges

    /// Makes it the host of the edge with this place among several.
    pub(super) fn set_lane(&mut self, lane: u16) {
        self.desk.lane = lane;
    }

    /// Begins a link of which it is not known yet of what edge it is. `links` were begun before.
    pub(super) fn ask_one_of(&mut self, now: Time, known: &[Known], links: u64) {
        self.desk.ask_one_of(now, known, links);
    }

    /// Returns what the edge of such a link has granted.
    pub(super) fn take_grant(&mut self) -> Option<Grant> {
        self.desk.granted.take()
    }

    /// Goes on with the link on which this edge has granted. `asked`: what its ASK said of the edge.
    pub(super) fn attach(
        &mut self,
        grant: &Grant,
        asked: Option<&Known>,
    ) -> Result<(), BackendError> {
        self.reader.clear();
        self.desk.attach(grant, asked)
    }

    /// Returns what the next ASK says of this edge.
    pub(super) fn known(&self) -> Option<Known> {
        self.desk.v3.as_ref().and_then(|v3| v3.known())
    }

    /// Ends all sessions, and forgets the edge.
    pub(super) fn give_up(&mut self) {
        self.reader.clear();
        self.desk.give_up();
    }

    /// Returns whether there is room for a packet for many.
    pub(super) fn has_room_for_many(
        &self,
        to: Option<GroupId>,
        without: usize,
        length: usize,
    ) -> bool {
        self.desk.has_room_for_many(to, without, length)
    }

    /// Returns the bytes for which there is room.
    pub(super) fn room(&self) -> usize {
        self.desk.room()
    }

    // ---- the stream

    /// Handles that the edge has connected. [`Event::Connected`] follows: at once, or when it is known which version the link has.
    pub fn handle_connected(&mut self, now: Time) {
        self.desk.connect(now);
    }

    /// Handles bytes that were read. Returns the first event in them, and advances `input` past it.
    ///
    /// Call it again with the rest until it returns `None`, when `input` is empty. An event is borrowed from `input`, or from the machine
    /// if its frame came in pieces.
    ///
    /// # Errors
    /// [`BackendError`] once the framing is lost, counts differ, or the peer turns out not to be the edge. The stream must be closed.
    #[inline]
    pub fn handle_bytes<'a, 'input: 'a>(
        &'a mut self,
        now: Time,
        input: &mut &'input [u8],
    ) -> Result<Option<Event<'a>>, BackendError> {
        let before = *input;
        let next = self.reader.next_frame(input, self.desk.max_receive_bytes);
        // Of a frame that is too long only the length is consumed, and the bytes after it tell what the peer is.
        let left = if next.is_ok() { input.len() } else { 0 };
        let taken = before.split_at(before.len() - left).0;
        self.desk.hear(now, taken, next)
    }

    /// Returns what happened without a frame, or with one.
    pub fn poll_event(&mut self) -> Option<Event<'static>> {
        if let Some(event) = self.desk.pending.pop_front() {
            return Some(event);
        }
        let (id, end) = self.desk.book.pop_forgotten()?;
        Some(Event::Ended { id, end })
    }

    /// Returns whether the events of [`poll_event`](Self::poll_event) come before the one that [`handle_bytes`](Self::handle_bytes) returned
    /// last: it was the first frame of a link, and told its version.
    pub fn pending_precedes(&mut self) -> bool {
        core::mem::take(&mut self.desk.precedes)
    }

    /// Handles that the stream is gone. Its unfinished frame is dropped, and both sides start afresh on the next stream.
    pub fn handle_closed(&mut self) {
        self.reader.clear();
        self.desk.close();
    }

    /// Returns the mark of the last frame received. On a link of version 2 it means nothing.
    #[must_use]
    pub fn mark(&self) -> Mark {
        match (&self.desk.v3, self.desk.mode) {
            (Some(v3), Mode::V3) => Mark {
                lane: self.desk.lane,
                picture: v3.picture,
                count: v3.received(),
            },
            _ => Mark::NONE,
        }
    }

    /// The application came back from everything up to the frame of this [mark](Self::mark): it is acknowledged. (SPEC 37.2(a))
    pub fn taken_up(&mut self, now: Time, mark: Mark) {
        if let Some(v3) = self.desk.v3.as_mut()
            && mark != Mark::NONE
        {
            self.desk.came_back = self.desk.came_back.max(mark);
            v3.taken(now, mark.picture, mark.count);
        }
    }

    /// Returns when something is to be done even if nothing happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        match (self.desk.mode, &self.desk.v3) {
            (Mode::Asking { until }, _) => Some(until),
            (Mode::V3, Some(v3)) => v3.deadline(),
            _ => None,
        }
    }

    /// Handles that time has passed.
    pub fn handle_timeout(&mut self, now: Time) {
        match (self.desk.mode, &mut self.desk.v3) {
            (Mode::Asking { until }, Some(v3)) if until <= now => match v3.demands() {
                true => self.desk.wants_close = true,
                false => self.desk.fall_back(),
            },
            (Mode::V3, Some(v3)) => v3.acknowledge_if_due(now),
            _ => {}
        }
    }

    /// Returns whether the stream is to be closed: the edge has granted version 3 before or is to prove a secret, and does not grant it.
    #[must_use]
    pub fn wants_close(&self) -> bool {
        self.desk.wants_close
    }

    /// Returns the bytes to write now. They stay until [`handle_written`](Self::handle_written).
    #[must_use]
    pub fn output(&self) -> &[u8] {
        match (self.desk.mode, &self.desk.v3) {
            (Mode::Down, _) => &[],
            (Mode::V2, _) | (_, None) => self.desk.link.output(),
            (mode, Some(v3)) => v3.output(mode == Mode::V3),
        }
    }

    /// Handles that the stream took the first `n` bytes of [`output`](Self::output).
    ///
    /// # Panics
    /// If `n` is more than was offered.
    pub fn handle_written(&mut self, n: usize) {
        match (self.desk.mode, &mut self.desk.v3) {
            (Mode::Asking { .. } | Mode::V3, Some(v3)) => v3.handle_written(n),
            _ => self.desk.link.handle_written(n),
        }
        self.desk.inject();
    }

    // ---- sending

    /// Queues a packet for a client. Returns its number among the packets to this client, from 1. For a session that has ended nothing is
    /// queued, and the number is 0.
    ///
    /// # Errors
    /// [`SendError`]. Nothing is queued then.
    #[inline]
    pub fn send(&mut self, id: ClientId, data: &[u8]) -> Result<u64, SendError> {
        self.desk.send(id, Delivery::Ordinary, data)
    }

    /// Like [`send`](Self::send), for a packet that takes the place of an older one of the same key that waits. (SPEC 36.1)
    ///
    /// A link of version 2 has no keys, and a host has 64 keys of all receivers together: beyond, nothing is superseded.
    ///
    /// # Errors
    /// Those of [`send`](Self::send).
    pub fn send_latest(&mut self, id: ClientId, key: u64, data: &[u8]) -> Result<u64, SendError> {
        let delivery = self.desk.delivery_of(None, key);
        self.desk.send(id, delivery, data)
    }

    /// Like [`send`](Self::send), for a packet that the edge delivers now or not at all. It has no number.
    ///
    /// # Errors
    /// Those of [`send`](Self::send).
    pub fn send_volatile(&mut self, id: ClientId, data: &[u8]) -> Result<(), SendError> {
        let delivery = self.desk.volatile();
        self.desk.send(id, delivery, data).map(drop)
    }

    /// Queues a packet for many sessions: for the members of a group, or for everybody who is there, but for `without`. All of them get it
    /// or, if there is no room, none. With a key it is one of [`send_latest`](Self::send_latest).
    ///
    /// A link of version 2 carries it once for each of them. If all these copies are more than the queue can ever hold, they wait for an empty
    /// queue and exceed its bound.
    ///
    /// # Errors
    /// [`SendError`]. Nothing is queued then.
    pub fn send_to_many(
        &mut self,
        to: Option<GroupId>,
        without: &[ClientId],
        key: Option<u64>,
        data: &[u8],
    ) -> Result<(), SendError> {
        let group = to.unwrap_or(EVERYONE);
        let delivery = match key {
            Some(key) => self.desk.delivery_of(Some(group), key),
            None => Delivery::Ordinary,
        };
        self.desk.send_to_many(to, without, delivery, data)
    }

    /// Like [`send_to_many`](Self::send_to_many), for a packet that the edge delivers now or not at all.
    ///
    /// # Errors
    /// [`SendError`]. Nothing is queued then.
    pub fn send_volatile_to_many(
        &mut self,
        to: Option<GroupId>,
        without: &[ClientId],
        data: &[u8],
    ) -> Result<(), SendError> {
        let delivery = self.desk.volatile();
        self.desk.send_to_many(to, without, delivery, data)
    }

    /// Returns the members of a group, or everybody who is there, in the order of their ids.
    #[must_use]
    pub fn receivers(&self, to: Option<GroupId>) -> Vec<ClientId> {
        self.desk.receivers(to)
    }

    /// Returns whether as many packets of this length can be queued now.
    #[must_use]
    pub fn has_room_for(&self, packets: usize, length: usize) -> bool {
        let bytes = packets.saturating_mul(length.saturating_add(HEADER_BYTES));
        self.desk.has_room(bytes)
    }

    /// Returns whether a client has room: fewer than [`UNSETTLED_PACKETS`] packets to it are unsettled. A link of version 2 does not tell.
    #[must_use]
    pub fn has_room_of(&self, id: ClientId) -> bool {
        let entry = self.desk.book.get(id);
        self.desk.v3_edge().is_none()
            || entry.is_none_or(|entry| entry.down - entry.settled < UNSETTLED_PACKETS)
    }

    /// Shows a session that was hidden: see [`HostConfig::admitting`]. One that is shown, or that nobody has heard of, is passed over.
    pub fn admit(&mut self, id: ClientId) {
        if self.desk.book.admit(id) && !self.desk.is_injecting(id) {
            self.desk.push_group(ToEdge::GroupAdd {
                group: EVERYONE,
                ids: (&[id][..]).into(),
            });
        }
    }

    /// Makes a session a member of a group. One that has ended, or that nobody has heard of, is passed over.
    ///
    /// # Errors
    /// [`GroupError`]. Nothing happens then.
    pub fn add(&mut self, group: GroupId, id: ClientId) -> Result<(), GroupError> {
        if self.desk.book.add(group, id)? && !self.desk.is_injecting(id) {
            self.desk.push_group(ToEdge::GroupAdd {
                group,
                ids: (&[id][..]).into(),
            });
        }
        Ok(())
    }

    /// Ends a membership, if there is one.
    pub fn remove(&mut self, group: GroupId, id: ClientId) {
        if self.desk.book.remove(group, id) {
            self.desk.push_group(ToEdge::GroupRemove {
                group,
                ids: (&[id][..]).into(),
            });
            if !self.desk.book.has_group(group) {
                self.desk.push_group(ToEdge::GroupEnd { group });
            }
        }
    }

    /// Ends a session. Its end is an event, with this code and this text, unless it ends otherwise before. For one that has ended it does
    /// nothing.
    ///
    /// A link of version 2 does not carry the code and the text to the client: it sees 401, or in version 2 of its own link nothing.
    ///
    /// # Errors
    /// [`KickError`]. Nothing happens then.
    pub fn kick(&mut self, id: ClientId, code: u16, text: &str) -> Result<(), KickError> {
        let allowed = Code::from_u16(code).filter(|code| Kick::allows(*code));
        let code = allowed.ok_or(KickError::Code { code })?;
        let length = text.len();
        if length > MAX_TEXT_BYTES {
            return Err(KickError::TextTooLong { length });
        }
        self.desk.kick(id, code, text)
    }

    /// Tells the edge to read no more of a client, or to go on. What it has read comes. An edge that has forgotten it is told again, and so is
    /// another one to which the session goes. A link of version 2 cannot tell it, and reads on. (SPEC 36.4)
    pub fn pause(&mut self, id: ClientId, pauses: bool) {
        let Some(entry) = self.desk.book.get_mut(id).filter(|entry| entry.is_told) else {
            return;
        };
        // It holds for the next edge, too, if this one cannot be told.
        (entry.is_paused, entry.pause_told) = (pauses, None);
        match pauses {
            true => self.desk.tell_pause(id),
            false => {
                if let Some(v3) = self.desk.granted(Feature::Settled) {
                    v3.push(ToEdge::GoOn { id });
                }
            }
        }
    }

    /// Asks a client to leave and to come back, or all of them: it does so at a random time within `within`. One that is still there then is
    /// closed, and so is one of version 2, which cannot be asked. Its session goes on, and nothing is lost. A link of version 2 cannot carry
    /// it, and nothing happens. (SPEC 25.3, 36.5)
    pub fn ask_to_leave(&mut self, id: Option<ClientId>, within: Duration) {
        let is_told = id.is_none_or(|id| self.desk.book.get(id).is_some_and(|entry| entry.is_told));
        if let Some(v3) = self.desk.granted(Feature::GoAway).filter(|_| is_told) {
            let latest_ms = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
            let go_away = GoAway {
                code: Code::GOING_AWAY,
                earliest_ms: 0,
                latest_ms,
                drain_ms: latest_ms,
            };
            v3.push(ToEdge::GoAway { id, go_away });
        }
    }

    /// Sets what is to be remembered of a session, over the end of this process: at most 64 bytes. A longer one is cut. Over a link of version
    /// 2 this process alone remembers it. (SPEC 36.6)
    pub fn set_note(&mut self, id: ClientId, note: &str) {
        let note = note
            .get(..note.floor_char_boundary(MAX_NOTE_BYTES))
            .unwrap_or(note);
        let note = self.desk.fitting(note, POLICY_BYTES);
        if let Some(entry) = self.desk.book.get_mut(id) {
            note.clone_into(&mut entry.note);
            entry.is_noted = true;
            let policy = policy_of(id, self.desk.overflow, note);
            self.desk.push_notice(policy);
        }
    }

    // ---- questions

    /// Returns the number of frames of version 2 that were queued so far. `None`: the edge has granted version 3, and numbers count.
    #[must_use]
    pub fn queued(&self) -> Option<u64> {
        self.desk.v3_edge().is_none().then_some(self.desk.queued)
    }

    /// Returns the number of frames of version 2 that streams have taken whole.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.desk.queued - self.desk.link.queued_packets() as u64
    }

    /// Returns the number down up to which everything of a session is settled: of one that has ended, what its end told, as long as
    /// [`ended`](Self::ended) tells that end. (Version 3)
    #[must_use]
    pub fn settled(&self, id: ClientId) -> u64 {
        self.desk.book.settled(id)
    }

    /// Returns how a session ended, if it has and that is remembered: of the last [`MAX_ENDED`].
    #[must_use]
    pub fn ended(&self, id: ClientId) -> Option<Code> {
        self.desk.book.ended(id)
    }

    /// Returns the sessions that are there and not hidden, as far as is known, in the order of their ids.
    #[must_use]
    pub fn sessions(&self) -> Vec<ClientId> {
        self.desk.book.ids()
    }

    /// Returns what is known of the packets of a session that is there.
    #[must_use]
    pub fn ledgers(&self, id: ClientId) -> Option<Ledgers> {
        let entry = self.desk.book.shown(id)?;
        let mut ledgers = entry.ledgers();
        ledgers.down.acknowledged = entry.settled;
        ledgers.down.open_sent -= entry.settled.min(ledgers.down.open_sent);
        Some(ledgers)
    }

    /// Returns the note of a session, and whether it has a connection as far as is known.
    #[must_use]
    pub fn note(&self, id: ClientId) -> Option<(&str, bool)> {
        let entry = self.desk.book.shown(id)?;
        Some((&entry.note, !entry.is_away))
    }

    /// Returns the edge, if it has granted version 3.
    #[must_use]
    pub fn edge(&self) -> Option<EdgeId> {
        self.desk.v3_edge()
    }

    /// Returns the maximum length of a packet in bytes. In version 3, one with a key has 1 byte less, and one for many has 3 bytes less and 8
    /// for each session that it leaves out.
    #[must_use]
    pub fn max_packet_bytes(&self) -> usize {
        self.desk.link.max_packet_bytes()
    }

    /// Returns the number of frames that are not written whole.
    #[must_use]
    pub fn queued_packets(&self) -> usize {
        let v3 = self.desk.v3.as_ref().map_or(0, |v3| v3.waiting());
        v3 + self.desk.link.queued_packets()
    }

    /// Returns the number of bytes to write, including 13 per packet for length, id and flag.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        let v3 = self.desk.v3.as_ref().map_or(0, |v3| v3.waiting_bytes());
        v3 + self.desk.link.queued_bytes()
    }
}
