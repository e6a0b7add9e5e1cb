//! What the backend hears of sessions besides packets (SPEC 7.3, 35).

use core::mem;
use core::net::SocketAddr;
use core::time::Duration;

use crate::id::ClientId;
use crate::ledger::Ledger;
#[cfg(feature = "backends")]
use crate::link::tagged::TAG_BYTES;
use crate::link::tagged::{Flag, HEADER_BYTES};
#[cfg(feature = "backends")]
use crate::link::v3::OwnState;
use crate::link::v3::{
    Direction, Ended, Feature, JOINED_BYTES, Joined, Kick, MAX_TEXT_BYTES, MAX_TOKEN_BYTES, Peer,
    Refusal, Resumed, ToBackend,
};
use crate::protocol::{Code, GivenUp};
use crate::queue::FrameQueue;
use crate::time::Time;

use crate::edge::Edge;
use crate::edge::counters::{EndReason, UNKNOWN_CLIENT};
use crate::edge::lifecycle::welcome::millis;
use crate::edge::sessions::{Linked, Place, Session};
use crate::edge::uplink::queue::{LinkQueue, push_tagged};
#[cfg(feature = "backends")]
use crate::edge::uplink::rewrite::Waiting;

/// The number of answers to packets for unknown ids and to frames that are refused at once; then one per interval. The others are only
/// counted.
const ANSWER_BURST: u32 = 1000;
/// The interval between two answers beyond [`ANSWER_BURST`].
const ANSWER_INTERVAL: Duration = Duration::from_millis(1);

/// What a session knows of its first connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Newcomer<'a> {
    /// The version of the client link.
    pub(crate) version: u8,
    /// Zeros for version 2.
    pub(crate) exporter: [u8; 32],
    /// Empty for version 2.
    pub(crate) token: &'a [u8],
}

impl Newcomer<'_> {
    /// A client of version 2.
    pub(crate) const OF_V2: Newcomer<'static> = Newcomer {
        version: 2,
        exporter: [0; 32],
        token: &[],
    };
}

impl Edge {
    /// Returns whether notices have the form of version 3.
    #[inline(always)]
    pub(crate) fn has_notices(&self) -> bool {
        let features = self.link_queue.version.features();
        features.is_some_and(|features| features.has(Feature::Notices))
    }

    /// Tells the backend that the client at `index` has a session, before anything that it sends.
    #[inline(always)]
    pub(crate) fn tell_joined(&mut self, index: u32, session: u32, newcomer: &Newcomer<'_>) {
        if self.has_notices() {
            self.notify_joined(index, session, newcomer);
        }
    }

    #[cold]
    #[inline(never)]
    fn notify_joined(&mut self, index: u32, session: u32, newcomer: &Newcomer<'_>) {
        let peer = self.peer_of(index);
        let longest = self.link_queue.version.longest_packet() as usize;
        let has_room = JOINED_BYTES + newcomer.token.len() <= longest;
        let token = match has_room {
            true => newcomer.token.get(..MAX_TOKEN_BYTES),
            // GRANT has told that a token may not fit (SPEC 34.2(d)).
            false => Some(&[][..]),
        };
        let joined = Joined {
            version: newcomer.version,
            peer,
            exporter: newcomer.exporter,
            token: token.unwrap_or(newcomer.token),
        };
        let id = self.sessions.live(session).id;
        self.tell_frame(session, &ToBackend::Joined { id, joined });
        self.note_told(session);
    }

    /// Notes which frame of the link tells of the session: JOINED or OWN, which was queued last.
    pub(crate) fn note_told(&mut self, session: u32) {
        let queue = &self.link_queue;
        let end = queue.version.end(&queue.frames);
        let entry = self.sessions.live_mut(session);
        let is_untold = entry.waiting;
        entry.linked().told_at = if is_untold { Linked::UNTOLD } else { end };
    }

    /// Returns the longest token that the backend is told later than with JOINED, if it is told one.
    pub(crate) fn longest_token(&self) -> Option<usize> {
        let longest = self.link_queue.version.longest_packet() as usize;
        self.has_notices().then_some(longest)
    }

    /// Tells the backend what the client shows now: `frame` is TOKEN (SPEC 35.7).
    pub(crate) fn tell_token(&mut self, session: u32, frame: &[u8]) {
        self.tell(session, data_bytes(frame), |frames, _| {
            frames.push_frame(frame, &[]);
        });
    }

    /// Tells the backend that the session has no connection any more (SPEC 35.3).
    #[inline(always)]
    pub(crate) fn tell_away(&mut self, session: u32) {
        if self.has_notices() {
            self.notify_away(session);
        }
    }

    #[cold]
    #[inline(never)]
    fn notify_away(&mut self, session: u32) {
        let entry = self.sessions.live_mut(session);
        if mem::replace(&mut entry.linked().is_told_away, true) {
            // Its client of version 2 proved itself, and was gone before its Ping.
            return;
        }
        let cause = entry
            .numbered()
            .map_or(Code::GOODBYE, |numbered| numbered.cause);
        let (id, left_ms) = (entry.id, millis(self.config.clients.stale_timeout));
        self.tell_frame(session, &ToBackend::Away { id, cause, left_ms });
    }

    /// Tells the backend that the client at `index` took up the session after it was `away`, before anything that the connection brings.
    pub(crate) fn tell_resumed(&mut self, index: u32, session: u32, away: Duration, replay: u64) {
        match self.link_queue.version.features() {
            None => self.tell_tagged(session, Flag::Resumed, &[]),
            Some(features) if features.has(Feature::Notices) => {
                let resumed = Resumed {
                    counter: self.counter_of(session),
                    away_ms: u64::try_from(away.as_millis()).unwrap_or(u64::MAX),
                    replay,
                    peer: self.peer_of(index),
                };
                let entry = self.sessions.live_mut(session);
                entry.linked().is_told_away = false;
                let id = entry.id;
                self.tell_frame(session, &ToBackend::Resumed { id, resumed });
            }
            Some(_) => {}
        }
    }

    /// Tells the backend which packets down the client will not get, and why (SPEC 24.4(b)).
    pub(crate) fn tell_gaps(&mut self, session: u32, gaps: &[GivenUp], reason: u8) {
        if !self.has_notices() {
            return;
        }
        let id = self.sessions.live(session).id;
        for gap in gaps {
            let frame = ToBackend::Gap {
                id,
                direction: Direction::Down,
                first: gap.first,
                count: gap.count,
                bytes: gap.bytes,
                reason,
            };
            self.tell_frame(session, &frame);
        }
    }

    /// Tells the backend how the session ends, behind everything that it has sent.
    pub(crate) fn tell_ended(&mut self, session: u32, reason: EndReason, kick: Option<&Kick<'_>>) {
        match self.link_queue.version.features() {
            None => self.tell_tagged(session, Flag::Failure, reason.text().as_bytes()),
            Some(features) if features.has(Feature::Notices) => {
                let entry = self.sessions.live(session);
                let (up, down) = ledgers_of(entry);
                let text = kick.map_or(reason.text(), |kick| kick.text);
                let ended = Ended {
                    code: kick.map_or(reason.code(), |kick| kick.code),
                    up,
                    down,
                    text: text.get(..MAX_TEXT_BYTES).unwrap_or(text),
                };
                let id = entry.id;
                self.tell_frame(session, &ToBackend::Ended { id, ended });
            }
            Some(_) => {}
        }
    }

    /// Tells the backend that the session goes to another one, behind everything that it has sent (SPEC 45.6(b)).
    #[cfg(feature = "backends")]
    pub(crate) fn tell_elsewhere(&mut self, session: u32) {
        let entry = self.sessions.live(session);
        let (up, down) = ledgers_of(entry);
        let ended = Ended {
            code: Code::ELSEWHERE,
            up,
            down,
            text: "",
        };
        let frame = ToBackend::Ended {
            id: entry.id,
            ended,
        };
        self.tell_frame(session, &frame);
    }

    /// Tells the backend of a session that goes on here, of which this waits (SPEC 45.6(c)).
    #[cfg(feature = "backends")]
    pub(crate) fn tell_own(&mut self, session: u32, waiting: Waiting) {
        let entry = self.sessions.live(session);
        let own = self.own_of(session, entry, OwnState::Away, waiting);
        let frame = encoded(&ToBackend::Own { id: entry.id, own });
        self.tell(session, data_bytes(&frame), |frames, _| {
            frames.push_frame(&frame, &[]);
        });
        self.note_told(session);
    }

    /// Tells the backend what an earlier one of the session has not acknowledged.
    #[cfg(feature = "backends")]
    pub(crate) fn tell_body(&mut self, session: u32, body: &[u8]) {
        let data_bytes = body.len().saturating_sub(TAG_BYTES);
        self.tell(session, data_bytes, |frames, _| frames.push_body(body));
    }

    /// Tells a backend of version 2 about the session, behind everything that it has sent so far.
    fn tell_tagged(&mut self, session: u32, flag: Flag, data: &[u8]) {
        self.tell(session, data.len(), |frames, id| {
            push_tagged(frames, id, flag, data);
        });
    }

    /// Tells a backend of version 3 about the session, behind everything that it has sent so far.
    fn tell_frame(&mut self, session: u32, frame: &ToBackend<'_>) {
        let frame = encoded(frame);
        self.tell(session, data_bytes(&frame), |frames, _| {
            frames.push_frame(&frame, &[]);
        });
    }

    /// Queues a frame with so many bytes behind its id and flag: on the link, or in the line of the session, which it must not overtake.
    /// `push` appends it.
    fn tell(
        &mut self,
        session: u32,
        data_bytes: usize,
        push: impl FnOnce(&mut FrameQueue, ClientId),
    ) {
        let entry = self.sessions.live_mut(session);
        let id = entry.id;
        // Its backend was told that it is elsewhere, and nothing follows that.
        #[cfg(feature = "backends")]
        if self.departures.has(id) {
            return;
        }
        if !entry.waiting && self.line.is_empty() && self.link_queue.has_room(data_bytes) {
            push(&mut self.link_queue.frames, id);
            self.uplink.seal_full(&mut self.link_queue);
        } else {
            push(&mut entry.line_entry().backlog, id);
            self.line.join(session, entry);
            self.sessions.recount(session, &mut self.account);
        }
    }

    /// Answers a packet for an unknown id, at a bounded rate and if there is room (SPEC 7.4).
    pub(crate) fn tell_unknown(&mut self, now: Time, id: ClientId) {
        self.counters.unknown_client += 1;
        let due = self.takes_answer(now);
        // The answer must not overtake packets that the earlier session of this id still has in line. While anybody waits there is no room.
        let room = self.line.is_empty() && self.link_queue.has_room(UNKNOWN_CLIENT.len());
        if due && room {
            self.link_queue
                .push(id, Flag::Failure, UNKNOWN_CLIENT.as_bytes());
            self.uplink.seal_full(&mut self.link_queue);
        }
    }

    /// Answers a frame that was refused, at a bounded rate and if there is room (SPEC 38.1(b)).
    pub(crate) fn tell_refused(&mut self, now: Time, id: u64, flag: u8, refusal: Refusal) {
        self.counters.malformed_down += 1;
        if self.takes_answer(now) {
            let frame = encoded(&ToBackend::Refused { id, flag, refusal });
            push_if_room(&mut self.link_queue, &frame);
        }
    }

    /// Takes one of the answers that are due. Their rate is the process's, and each shard has its part of it.
    fn takes_answer(&mut self, now: Time) -> bool {
        let shards = u32::from(self.config.shards.max(1));
        let shard = u32::from(self.config.shard.as_u8());
        // The parts add up to the whole: the first shards have one more where it cannot be divided evenly.
        let burst = ANSWER_BURST / shards + u32::from(shard < ANSWER_BURST % shards);
        self.answers
            .take(now, burst, ANSWER_INTERVAL.saturating_mul(shards))
    }

    /// Returns where the client at `index` comes from, whose opening is not forgotten yet.
    pub(crate) fn peer_of(&self, index: u32) -> Peer {
        let conn = self.conns.live(index);
        Peer {
            carriage: conn.carriage(),
            // The adapter tells no port.
            address: conn
                .source()
                .map(|ip| SocketAddr::new(ip.to_canonical(), 0)),
        }
    }

    /// Returns the counter of the session's last resume; for version 2, its resumes so far.
    pub(crate) fn counter_of(&self, session: u32) -> u64 {
        let entry = self.sessions.live(session);
        match entry.numbered() {
            Some(numbered) => numbered.standing.highest(),
            None => entry.resumes(),
        }
    }
}

pub(crate) fn encoded(frame: &ToBackend<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    frame.encode(&mut out);
    out
}

/// Returns the number of bytes of a frame behind its id and flag.
fn data_bytes(frame: &[u8]) -> usize {
    frame.len().saturating_sub(HEADER_BYTES)
}

/// Queues a frame if there is room for it.
pub(crate) fn push_if_room(queue: &mut LinkQueue, frame: &[u8]) -> bool {
    let has_room = queue.has_room(data_bytes(frame));
    if has_room {
        queue.frames.push_frame(frame, &[]);
    }
    has_room
}

/// Returns the accounts of the packets up and down (SPEC 24.7, 35.5(b)).
pub(crate) fn ledgers_of(entry: &Session) -> (Ledger, Ledger) {
    if let Some(numbers) = entry.numbers() {
        return (numbers.of_receiver(), numbers.of_sender(&entry.outbox));
    }
    let up = entry.packets_up();
    let (end, acked) = (entry.numbered_down(), entry.settled_down());
    let up = Ledger {
        numbered: up,
        acknowledged: up,
        ..Ledger::default()
    };
    let down = Ledger {
        numbered: end,
        acknowledged: acked,
        open_unsent: end.saturating_sub(acked),
        ..Ledger::default()
    };
    (up, down)
}

/// Returns the id of a session that lives, and whether its client is there.
pub(crate) fn living(entry: &Session) -> Option<(ClientId, bool)> {
    match entry.place {
        Place::Attached(_) => Some((entry.id, true)),
        Place::Away => Some((entry.id, false)),
        Place::Ended => None,
    }
}
