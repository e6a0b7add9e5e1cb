//! What is owed to each session, and the rules of SPEC sections 18 to 26 that can be judged by it.
//!
//! The ledger shares no code with the machines. It hears what applications say, what the taps read, and what was handed to an edge, and
//! fails on whatever must not be.

mod items;

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::fates::{Fate, Fates};
use super::items::{Account, Item};
use super::tap::{Claim, Items};
use crate::model::Violation;
use crate::payload::{self, Direction, Label};

/// One direction of a session.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// The bytes of the first packets together, as the rings count them.
    bytes: Vec<u64>,
    /// The highest number that came to its receiver.
    pub(super) arrived: u64,
    /// The highest number that the receiver's application took.
    pub(super) taken: u64,
    /// The highest number whose acknowledgement came to its sender.
    pub(super) acked: u64,
}

impl Lane {
    /// Returns how many packets have a number.
    pub(super) fn numbered(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn push(&mut self, bytes: usize) {
        let before = self.bytes.last().copied().unwrap_or(0);
        self.bytes.push(before + 4 + bytes as u64);
    }

    fn bytes_between(&self, after: u64, last: u64) -> u64 {
        let until = |number: u64| match number {
            0 => 0,
            number => self.bytes[number as usize - 1],
        };
        until(last) - until(after)
    }
}

/// A session of version 3.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: u64,
    pub(super) owner: usize,
    pub(super) life: u32,
    pub(super) ring: (u64, u64),
    /// Whether its Join record has come to the edge.
    pub(super) has_begun: bool,
    pub(super) up: Lane,
    pub(super) down: Lane,
    /// What became of each packet down.
    pub(super) fates: Fates,
    /// The marks of all attempts that were accepted, the join first.
    pub(super) history: Vec<[u8; 8]>,
    /// How many of them the edge knows to be known.
    pub(super) confirmed: usize,
    pub(super) highest: u64,
    /// The places of attempts by others than its owner.
    pub(super) foreign: Vec<u64>,
    /// Their counters, and the highest one that its owner has used.
    pub(super) foreign_counters: Vec<u64>,
    pub(super) used: u64,
    /// What the backend was told.
    pub(super) told_resumed: u64,
    pub(super) ended: Option<(String, u64)>,
    pub(super) kicked: bool,
    /// Whether it was away when its kick came.
    pub(super) was_away: bool,
    pub(super) said_goodbye: bool,
    /// When its last connection ended at the edge, if it has none.
    pub(super) left_at: Option<u64>,
    /// The address of the last of its connections that has ended.
    pub(super) left_from: Option<IpAddr>,
    /// That of the last one that it had or has.
    pub(super) last_from: Option<IpAddr>,
    /// The connection that it is attached to.
    pub(super) conn: Option<usize>,
    /// Where the packets up were at each RESUMED, by the order of the attempts.
    pub(super) resumed_at: BTreeMap<u64, u64>,
    /// When its client's last record came, or its Welcome.
    pub(super) heard_at: u64,
    /// When all its takeovers are regained (SPEC 9.3(e)).
    regained_at: u64,
}

impl Session {
    /// Returns how many packets the edge must hold, and their bytes: those that it has numbered and of which it has heard no ACK.
    pub(super) fn kept(&self) -> (u64, u64) {
        let (acked, numbered) = (self.down.acked, self.down.numbered());
        let acked = acked.min(numbered);
        (numbered - acked, self.down.bytes_between(acked, numbered))
    }
}

/// What of a session waits in the queue of the link.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Queued {
    pub(super) packets: u64,
    pub(super) ends: bool,
}

/// What is known of a connection besides its session.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// What the ACKs that each end has sealed add up to, and those that have come.
    acks_sealed: (u64, u64),
    acks_heard: (u64, u64),
    /// The packets that the session had when its attempt was accepted, and which attempt it was.
    pub(super) accepted: Option<Accepted>,
    /// The bytes of the pieces of a packet up whose last one has not come.
    pub(super) pieces: usize,
    /// The item that ended the direction down.
    pub(super) closed: Option<u64>,
    has_resumed: bool,
    /// What was known when its Claim came.
    pub(super) judged: Judged,
    /// The last one that came: its code, and the times between which the client leaves.
    pub(super) asked: Option<Asked>,
    /// Whether the client has said goodbye.
    has_parted: bool,
    /// When the client has sealed its last PING.
    pub(super) pinged_at: Option<u64>,
    /// The edge has closed it because its session has ended.
    pub(super) has_ended: bool,
    /// Another connection has taken its session over.
    pub(super) is_displaced: bool,
    /// The numbers that a newer packet had taken the place of when its attempt was accepted.
    pub(super) superseded_before: Vec<u64>,
    /// Its client was told that somebody else has taken its session over, by an attempt that it cannot take for its own.
    pub(super) is_taken_over: bool,
}

/// Everybody was asked to leave with this code, and whoever is there at this time is closed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    pub(super) code: u64,
    pub(super) at: u64,
}

/// What a GOAWAY that has come asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) code: u64,
    /// The client leaves between these times.
    pub(super) from: u64,
    pub(super) until: u64,
    /// How long time had leapt before, while nobody had a turn.
    pub(super) leapt: u64,
}

impl Asked {
    /// Returns whether the client must have left before `now`, if it had its turns.
    fn is_over(&self, now: u64, leapt: u64) -> bool {
        now > self.until + LATE_NANOS + (leapt - self.leapt)
    }

    /// Returns whether the client may leave now.
    pub(super) fn is_now(&self, now: u64, leapt: u64) -> bool {
        now >= self.from && !self.is_over(now, leapt)
    }
}

/// What is known of a session when a Claim comes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Judged {
    pub(super) highest: u64,
    pub(super) at: u64,
    pub(super) had_begun: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Accepted {
    pub(super) until: u64,
    pub(super) place: u64,
    /// The packets up that had reached the backend, and those that had come to the edge.
    pub(super) up: (u64, u64),
    pub(super) counter: u64,
    /// The packets down that it claims to have.
    pub(super) received: u64,
    /// How many packets it claims not to have and has acknowledged.
    pub(super) gap: u64,
}

/// What the labels of VOLATILE packets count from.
pub(super) const FIRST_VOLATILE: u32 = 1 << 31;
/// How late a client is at most that has its turns.
const LATE_NANOS: u64 = 300_000_000;
/// The time in which a session regains a takeover.
const TAKEOVER_NANOS: u64 = 1_000_000_000;
/// Of ten takeovers, as many may be used up without a refusal for want of them. Two are a margin for what the ledger learns late.
const MOST_TAKEOVERS_SPENT: u64 = 7;

#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) now: u64,
    /// How long time has leapt so far, in nanoseconds: nobody has a turn meanwhile.
    pub(super) leapt: u64,
    /// When everybody was asked to leave, and since when those are closed that have not.
    pub(super) leavings: Vec<Leaving>,
    /// How long a session may be away, in nanoseconds.
    pub(super) expiry: u64,
    pub(super) sessions: Vec<Session>,
    pub(super) by_id: BTreeMap<u64, usize>,
    pub(super) violation: Option<Violation>,
    pub(super) reach: BTreeMap<&'static str, u64>,
    /// How many sessions the edge has ended for want of memory, and of how many of them the backend was told.
    pub(super) shed: u64,
    pub(super) told_shed: u64,
    /// How many sessions of one address may be away. 0: any number.
    pub(super) most_away: usize,
    /// Packets that reached applications.
    pub(super) delivered: u64,
    /// Packets and notices of the link's queue and in line for it.
    pub(super) in_link: u64,
    /// Ends of sessions of which the backend is not told, since they wait in line.
    pub(super) ends_in_line: u64,
    /// What waits in the link's queue by session, unless it is too long to be looked at.
    pub(super) queued: Option<BTreeMap<u64, Queued>>,
}

impl Ledger {
    /// Records a violation. Only the first one counts.
    pub(super) fn fail(&mut self, id: &'static str, section: &'static str, text: String) {
        self.violation.get_or_insert(Violation {
            id,
            section,
            at_nanos: self.now,
            text,
        });
    }

    pub(super) fn reached(&mut self, name: &'static str) {
        *self.reach.entry(name).or_default() += 1;
    }

    /// Returns when the edge has first closed connections of clients that were to leave, since a time.
    pub(super) fn has_closed_since(&self, time: u64) -> Option<u64> {
        let times = self.leavings.iter().map(|leaving| leaving.at);
        times.filter(|at| (time..=self.now).contains(at)).min()
    }

    /// An id was given out.
    pub(super) fn welcomed(&mut self, id: u64, owner: usize, life: u32, ring: (u64, u64)) -> usize {
        let session = self.sessions.len();
        if self.by_id.insert(id, session).is_some() {
            self.fail("S3", "9.1(b)", format!("{id:016x} is issued twice"));
        }
        self.sessions.push(Session {
            id,
            owner,
            life,
            ring,
            has_begun: false,
            up: Lane::default(),
            down: Lane::default(),
            fates: Fates::default(),
            history: vec![[0; 8]],
            confirmed: 0,
            highest: 0,
            foreign: Vec::new(),
            foreign_counters: Vec::new(),
            used: 0,
            told_resumed: 0,
            ended: None,
            kicked: false,
            was_away: false,
            said_goodbye: false,
            left_at: None,
            left_from: None,
            last_from: None,
            conn: None,
            resumed_at: BTreeMap::new(),
            heard_at: self.now,
            regained_at: 0,
        });
        session
    }

    /// Returns what waits in the link's queue of a session.
    fn queued_of(&self, session: usize) -> Queued {
        let all = Queued {
            packets: self.in_link,
            ends: self.in_link > 0,
        };
        let id = self.sessions[session].id;
        self.queued
            .as_ref()
            .map_or(all, |queued| queued.get(&id).copied().unwrap_or_default())
    }

    /// Returns whether a session has ended, as far as the backend knows or is about to learn.
    pub(super) fn may_be_over(&self, session: usize) -> bool {
        let is_over = self.sessions[session].ended.is_some();
        is_over || self.ends_in_line > 0 || self.queued_of(session).ends
    }

    // ---- attempts

    /// The edge has accepted the attempt with `counter` on connection `conn`.
    pub(super) fn accepted(
        &mut self,
        session: usize,
        conn: usize,
        claim: &Claim,
        is_owner: bool,
    ) -> Accepted {
        let counter = claim.counter;
        let now = self.now;
        let entry = &mut self.sessions[session];
        let before = entry.highest;
        entry.highest = counter;
        if entry.conn.is_some() {
            entry.regained_at = entry.regained_at.max(now) + TAKEOVER_NANOS;
        }
        entry.history.push(claim.mark);
        if !is_owner {
            entry.foreign.push(entry.history.len() as u64 - 1);
            entry.foreign_counters.push(counter);
        }
        entry.conn = Some(conn);
        entry.left_at = None;
        let accepted = Accepted {
            until: entry.down.numbered(),
            place: entry.history.len() as u64 - 1,
            up: (entry.up.taken, entry.up.arrived),
            counter,
            received: claim.received_down,
            gap: entry.down.acked.saturating_sub(claim.received_down),
        };
        let is_over = entry.ended.is_some();
        if counter <= before || counter > before + 64 {
            let text = format!("counter {counter} is accepted after {before}");
            self.fail("V2", "23.2(a)", text);
        }
        if is_over {
            let text = format!("session {session} is resumed after its end");
            self.fail("V2", "23.2(a)", text);
        }
        self.reached("resumed");
        accepted
    }

    /// An Answer came out.
    pub(super) fn answered(
        &mut self,
        session: usize,
        counter: u64,
        code: u64,
        highest: u64,
        judged: Judged,
        is_owner: bool,
    ) {
        let entry = &self.sessions[session];
        // An owner that was away hears how its session ended.
        let before = entry.ended.as_ref().filter(|(_, at)| *at < judged.at);
        let told = match before.map(|(reason, _)| reason.as_str()) {
            Some("kicked") if entry.was_away => Some(401),
            Some("expired") => Some(302),
            _ => None,
        };
        if is_owner && told.is_some_and(|told| told != code) {
            let text = format!("{code} for a session that has {:?}", entry.ended);
            return self.fail("V3", "23.2(g)", text);
        }
        let is_over = self.may_be_over(session);
        let may_be_expired = entry.left_at.is_some_and(|at| self.now >= at + self.expiry);
        // Its takeovers are used up, or nearly. Otherwise it is away, or the edge holds too much of it.
        let takeovers_left = entry.conn.is_none()
            || self.in_link > 0
            || entry.regained_at > judged.at + MOST_TAKEOVERS_SPENT * TAKEOVER_NANOS;
        let is_right = match code {
            0 => true,
            204 => entry.ended.is_none() && takeovers_left,
            301 => is_over || !judged.had_begun,
            310 => counter <= entry.highest,
            311 => counter > highest + 64,
            302 => is_over || may_be_expired,
            303..=307 | 401 | 404 => is_over,
            _ => false,
        };
        if !is_right {
            let text = format!(
                "the attempt {counter} on session {session} is answered with {code}: {:?}, highest {}",
                entry.ended, entry.highest
            );
            return self.fail("V3", "23.2(a)", text);
        }
        let is_known = (judged.highest..=entry.highest).contains(&highest);
        if !is_known && matches!(code, 0 | 310) {
            let text = format!("{highest} is told, {} is the highest", entry.highest);
            return self.fail("V3", "19.4", text);
        }
        self.reached(match code {
            0 => "answered: taken up",
            204 => "answered: busy",
            301 => "answered: gone",
            310 => "answered: stale",
            401 => "answered: kicked",
            304 => "answered: said goodbye",
            _ => "answered: ended",
        });
    }

    // ---- items

    // ---- applications

    /// A client's application has a packet numbered.
    pub(super) fn numbered_up(&mut self, session: usize, bytes: usize) {
        self.sessions[session].up.push(bytes);
    }

    /// A packet for the session was handed to its edge.
    pub(super) fn numbered_down(&mut self, session: usize, bytes: usize, key: Option<u8>) {
        self.sessions[session].down.push(bytes);
        self.sessions[session].fates.numbered(key);
    }

    /// A packet came to a client's application. `before` is the number that it got last, or a gap ended with.
    pub(super) fn delivered_down(&mut self, session: usize, number: u64, data: &[u8], before: u64) {
        let entry = &self.sessions[session];
        let label = payload::decode(data);
        let expected = (
            Direction::Down,
            entry.owner as u32,
            entry.id as u32,
            number.wrapping_sub(1),
        );
        let is_it = label.is_ok_and(|label| {
            (
                label.direction,
                label.owner,
                label.conn,
                u64::from(label.seq),
            ) == expected
        });
        if !entry.fates.follows(before, number) || !is_it {
            let text = format!("number {number} comes as {label:?} behind {before}");
            return self.fail("S10", "18.2(a)", text);
        }
        self.delivered += 1;
    }

    /// A client's application was told of a gap.
    pub(super) fn gap_told(&mut self, session: usize, first: u64, count: u64, before: u64) {
        let fates = &self.sessions[session].fates;
        let is_it = first > before && fates.passed(before) >= first + count - 1;
        if !is_it {
            let text = format!("a gap of {count} from {first} on is told behind {before}");
            self.fail("V8", "24.4", text);
        }
    }

    /// The backend got a packet of this session.
    pub(super) fn delivered_up(&mut self, session: usize, data: &[u8]) {
        let label = payload::decode(data);
        let entry = &mut self.sessions[session];
        let expected = (Direction::Up, entry.owner as u32, entry.up.taken);
        let is_it = label
            .is_ok_and(|label| (label.direction, label.owner, u64::from(label.seq)) == expected);
        entry.up.taken += 1;
        let (number, over) = (entry.up.taken, entry.ended.is_some());
        let text = format!("packet {number} of session {session} is {label:?}");
        if !is_it {
            return self.fail("S9", "18.2(a)", text);
        }
        if number > entry.up.arrived || !entry.has_begun {
            return self.fail("S8", "22(d)", text);
        }
        if over {
            return self.fail("S12", "7.3(b)", text);
        }
        self.delivered += 1;
    }

    /// The backend was told of a resume.
    pub(super) fn told_resumed(&mut self, session: usize) {
        let entry = &mut self.sessions[session];
        entry.told_resumed += 1;
        let place = entry.told_resumed;
        let (attempts, taken) = (entry.history.len() as u64 - 1, entry.up.taken);
        let at = entry.resumed_at.get(&place).copied();
        if place > attempts || entry.ended.is_some() {
            let text = format!("resume {place} of {attempts} is told");
            return self.fail("S12", "7.3(b)", text);
        }
        if at.is_some_and(|at| at != taken) {
            let text = format!("resume {place} is told behind packet {taken}, not {at:?}");
            self.fail("S12", "23.2(c)", text);
        }
    }

    /// The backend was told how a session has ended. Returns whether the edge has ended one more for want of memory than it has told of.
    pub(super) fn may_be_shed(&mut self, reason: &str) -> bool {
        if reason == "memory limit" {
            self.told_shed += 1;
        }
        self.told_shed <= self.shed
    }

    /// Returns whether more sessions than may be away have been away of the address where this one went away. Those are, too, whose
    /// connections are to end because everybody was to leave.
    fn has_too_many_away(&self, session: usize) -> bool {
        let from = self.sessions[session].last_from;
        let like = self.sessions.iter().filter(|one| {
            one.left_from == from || (!self.leavings.is_empty() && one.last_from == from)
        });
        self.most_away > 0 && from.is_some() && like.count() > self.most_away
    }

    /// The backend was told of an end.
    pub(super) fn told_end(&mut self, session: usize, reason: &str, expiry: u64) {
        let (now, has_closed) = (self.now, self.has_closed_since(0));
        let (is_shed, has_too_many) = (self.may_be_shed(reason), self.has_too_many_away(session));
        let entry = &mut self.sessions[session];
        let was_told = entry.ended.is_some();
        let (told, attempts) = (entry.told_resumed, entry.history.len() as u64 - 1);
        let left_at = entry.left_at;
        let is_true = match reason {
            "kicked" => entry.kicked,
            "goodbye" => entry.said_goodbye,
            // One whose client did not leave may be away before its connection has ended.
            "expired" => left_at.or(has_closed).is_some_and(|at| now >= at + expiry),
            "send queue full" | "missed packet buffer full" => true,
            "memory limit" => is_shed,
            "too many stale clients" => left_at.or(has_closed).is_some() && has_too_many,
            _ => false,
        };
        entry.ended = Some((reason.to_owned(), now));
        if was_told {
            return self.fail("S12", "7.3(b)", format!("session {session} ends twice"));
        }
        if told != attempts {
            let text = format!("{told} of {attempts} resumes were told");
            return self.fail("S12", "7.3", text);
        }
        if !is_true {
            let text = format!("session {session} ended: {reason}, away since {left_at:?}");
            return self.fail("S13", "7.3(d)", text);
        }
        self.reached(match reason {
            "kicked" => "ended: kicked",
            "goodbye" => "ended: goodbye",
            "expired" => "ended: expired",
            _ => "ended: for want of room",
        });
    }
}
