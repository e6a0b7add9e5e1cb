//! What is owed to each session, and the rules of SPEC sections 18 to 26 that can be judged by it.
//!
//! The ledger shares no code with the machines. It hears what applications say, what the taps read, and what was handed to an edge, and
//! fails on whatever must not be.

use std::collections::BTreeMap;

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
    /// What the backend was told.
    pub(super) told_resumed: u64,
    pub(super) ended: Option<(String, u64)>,
    pub(super) kicked: bool,
    /// Whether it was away when its kick came.
    pub(super) was_away: bool,
    pub(super) said_goodbye: bool,
    /// When its last connection ended at the edge, if it has none.
    pub(super) left_at: Option<u64>,
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
            told_resumed: 0,
            ended: None,
            kicked: false,
            was_away: false,
            said_goodbye: false,
            left_at: None,
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

    /// A client has sealed items.
    pub(super) fn sealed_up(&mut self, session: usize, watch: &mut Watch, items: &Items) {
        for (item, number) in items {
            match item {
                Item::Packet(bytes) => self.packet_sealed(session, watch, true, *number, bytes),
                Item::Latest { .. } | Item::Volatile(_) => {
                    self.fail("V9", "21.3(a)", format!("{item:?} of a client"));
                }
                Item::Ping(_) => watch.pinged_at = Some(self.now),
                Item::Ack(more) => {
                    watch.acks_sealed.0 += more;
                    let entry = &self.sessions[session];
                    let (said, taken) = (watch.acks_sealed.0, entry.fates.passed(entry.down.taken));
                    if said > taken {
                        let text = format!("client acknowledges {said} of {taken} packets taken");
                        self.fail("V6", "24.3(b)", text);
                    }
                }
                Item::Close { code, up, down, .. } => {
                    if *code != 0 {
                        let entry = &self.sessions[session];
                        let text = format!(
                            "an honest edge is closed with {code}: ring {:?}, {:?}",
                            entry.ring, entry.fates
                        );
                        self.fail("V9", "25.4(b)", text);
                    }
                    watch.has_parted = true;
                    self.account(session, up, down, true);
                }
                _ => {}
            }
        }
    }

    /// The edge has sealed items.
    pub(super) fn sealed_down(&mut self, session: usize, watch: &mut Watch, items: &Items) {
        for (item, number) in items {
            if watch.closed.is_some() && *item != Item::Pad {
                return self.fail("V9", "21.4(d)", format!("{item:?} after CLOSE"));
            }
            let is_first = watch.accepted.is_some() && !watch.has_resumed;
            watch.has_resumed = true;
            if is_first && !matches!(item, Item::Resumed { .. } | Item::Close { .. }) {
                return self.fail("V5", "21.4(c)", format!("{item:?} before RESUMED"));
            }
            match item {
                Item::Packet(bytes) => {
                    self.fate_sealed(session, watch, *number, None);
                    self.packet_sealed(session, watch, false, *number, bytes);
                }
                Item::Latest { key, packet } => {
                    self.fate_sealed(session, watch, *number, Some(*key));
                    self.packet_sealed(session, watch, false, *number, packet);
                    self.reached("latest sent");
                }
                Item::Volatile(bytes) => {
                    let Some(place) = self.volatile_place(session, bytes) else {
                        return;
                    };
                    let sealed = self.sessions[session].fates.sealed_volatile(place);
                    self.expect("V19", "24.6(b)", sealed);
                    self.reached("volatile sent");
                }
                Item::Superseded(count) => {
                    let told = self.sessions[session]
                        .fates
                        .sealed_superseded(*number, *count);
                    self.expect("V17", "24.6(c)", told);
                    self.reached("superseded");
                    if watch.accepted.is_some_and(|own| own.until >= *number) {
                        self.reached("superseded in a replay");
                    }
                }
                Item::Gap { count, reason: 1 } => {
                    let told = self.sessions[session].fates.sealed_gap(*number, *count);
                    self.expect("V8", "24.4", told);
                    self.reached("gap");
                    if watch.accepted.is_some_and(|own| own.until >= *number) {
                        self.reached("gap in a replay");
                    }
                }
                Item::Skipped(count) if self.sessions[session].fates.has_volatile() => {
                    self.sessions[session].fates.sealed_skipped(*count);
                    self.reached("skipped");
                }
                Item::Ack(more) => {
                    watch.acks_sealed.1 += more;
                    let said = watch.acks_sealed.1;
                    let in_queue = self.queued_of(session).packets;
                    let entry = &self.sessions[session].up;
                    let (arrived, queued) = (entry.arrived, entry.taken + in_queue);
                    if said > arrived || said > queued {
                        let text = format!(
                            "the edge acknowledges {said} packets, {arrived} have come and at most {queued} are in its queue"
                        );
                        self.fail("V6", "24.3(b)", text);
                    }
                }
                Item::Resumed {
                    until,
                    received_up,
                    cause,
                    marks,
                } => {
                    let (until, received_up) = (*until, *received_up);
                    self.resumed(session, watch, until, received_up, *cause, marks);
                }
                Item::GoAway {
                    code,
                    earliest,
                    latest,
                    drain,
                } => {
                    let is_right = matches!(code, 101 | 104) && *earliest == 0 && latest <= drain;
                    if !is_right {
                        return self.fail("V15", "25.3(c)", format!("{item:?}"));
                    }
                    self.reached("asked to leave");
                }
                Item::Gap { count, reason: 2 }
                    if watch.accepted.is_some_and(|own| own.gap == *count) =>
                {
                    self.reached("gap of a claim");
                }
                Item::Gap { .. } | Item::Skipped(_) => {
                    let text = format!("{item:?} for a client that claims all that it has");
                    self.fail("V8", "24.4", text);
                }
                Item::Close {
                    code,
                    detail,
                    up,
                    down,
                } => {
                    watch.closed = Some(*code);
                    self.closed(session, watch, *code, *detail);
                    self.account(session, up, down, false);
                }
                _ => {}
            }
        }
    }

    /// Fails if something is not so.
    fn expect(&mut self, id: &'static str, section: &'static str, so: Result<(), String>) {
        if let Err(text) = so {
            self.fail(id, section, text);
        }
    }

    /// A packet down was sealed with this number, and the key of a LATEST.
    fn fate_sealed(&mut self, session: usize, watch: &Watch, number: u64, key: Option<u8>) {
        let was_superseded = watch.superseded_before.contains(&number);
        let sealed = self.sessions[session].fates.sealed_packet(
            number,
            key,
            was_superseded,
            watch.is_displaced,
        );
        self.expect("V17", "24.6(c)", sealed);
    }

    /// Returns which VOLATILE of a session this is.
    fn volatile_place(&mut self, session: usize, bytes: &[u8]) -> Option<u64> {
        let entry = &self.sessions[session];
        let place = payload::decode(bytes).ok().filter(|label| {
            let whose = (label.direction, label.owner, label.conn);
            whose == (Direction::Down, entry.owner as u32, entry.id as u32)
        });
        let place = place.and_then(|label| label.seq.checked_sub(FIRST_VOLATILE));
        if place.is_none() {
            let text = format!("{:?} as VOLATILE", payload::decode(bytes));
            self.fail("V19", "24.6(b)", text);
        }
        place.map(u64::from)
    }

    /// A VOLATILE came to a client's application.
    pub(super) fn delivered_volatile(&mut self, session: usize, bytes: &[u8]) {
        if let Some(place) = self.volatile_place(session, bytes) {
            let came = self.sessions[session].fates.came_volatile(place);
            self.expect("V19", "24.6(b)", came);
        }
    }

    /// A packet was sealed with this number. Its label says which one it is, and the ring must have room for it.
    fn packet_sealed(
        &mut self,
        session: usize,
        watch: &Watch,
        is_up: bool,
        number: u64,
        bytes: &[u8],
    ) {
        let entry = &mut self.sessions[session];
        let ring = entry.ring;
        let (way, conn, lane) = match is_up {
            true => (Direction::Up, entry.life, &mut entry.up),
            false => (Direction::Down, entry.id as u32, &mut entry.down),
        };
        let known = number <= lane.numbered();
        let label = payload::decode(bytes);
        let expected = Label {
            direction: way,
            owner: entry.owner as u32,
            conn,
            seq: (number as u32).wrapping_sub(1),
        };
        let is_it = label == Ok(expected);
        if !known || !is_it {
            let text = format!("number {number} of {} is {label:?}", lane.numbered());
            return self.fail("V1", "24.1", text);
        }
        let acked = lane.acked.min(number);
        let (mut open, mut open_bytes) = (number - acked, lane.bytes_between(acked, number));
        if !is_up {
            // What was told as a gap or as superseded fills no ring (SPEC 24.6(f)).
            let received = watch.accepted.map_or(0, |own| own.received);
            for hole in entry.fates.holes(acked, number, received) {
                open -= 1;
                open_bytes -= entry.down.bytes_between(hole - 1, hole);
            }
        }
        if open > 1 && (open > ring.0 || open_bytes > ring.1) {
            let text = format!(
                "{open} packets of {open_bytes} bytes are sent and not acknowledged, the ring is {ring:?}"
            );
            self.fail("V7", "24.2(b)", text);
        } else if open >= ring.0 {
            self.reached("ring full");
        }
    }

    fn resumed(
        &mut self,
        session: usize,
        watch: &Watch,
        until: u64,
        received_up: u64,
        cause: u64,
        marks: &[[u8; 8]],
    ) {
        let Some(accepted) = watch.accepted else {
            return self.fail("V5", "21.4(c)", "RESUMED after a join".into());
        };
        let entry = &mut self.sessions[session];
        entry.resumed_at.insert(accepted.place, received_up);
        let (least, most) = accepted.up;
        let before = &entry.history[..accepted.place as usize];
        let fewest = (before.len() - entry.confirmed.min(before.len() - 1)).min(64);
        let is_end = before.ends_with(marks) && marks.len() >= fewest;
        if until != accepted.until {
            let text = format!(
                "the replay ends at {until}, {} were numbered",
                accepted.until
            );
            return self.fail("V5", "24.5(b)", text);
        }
        if !(least..=most).contains(&received_up) {
            let text = format!("{received_up} packets up received, {least} to {most} can be");
            return self.fail("V5", "24.5(b)", text);
        }
        if !is_end {
            let text = format!(
                "{} marks, {fewest} at least are new to the client",
                marks.len()
            );
            return self.fail("V4", "23.6(d)", text);
        }
        if !matches!(cause, 0 | 201) {
            let text = format!("the edge let go of an honest client: {cause}");
            self.fail("V9", "24.5(b)", text);
        } else if cause == 201 {
            self.reached("parked");
        }
    }

    fn closed(&mut self, session: usize, watch: &Watch, code: u64, detail: u64) {
        let entry = &self.sessions[session];
        let is_over = entry.ended.is_some();
        let is_right = match code {
            0 => entry.said_goodbye,
            101 | 104 => self
                .leavings
                .iter()
                .any(|leaving| leaving.code == code && leaving.at <= self.now),
            204 => !entry.has_begun || watch.accepted.is_none(),
            303 | 306 => true,
            401 => entry.kicked,
            402 => watch.accepted.map_or(0, |own| own.counter) < detail && detail <= entry.highest,
            _ => false,
        };
        if !is_right {
            let text = format!("CLOSE {code} with {detail}: {is_over} {:?}", entry.ended);
            return self.fail("V9", "25.4", text);
        }
        self.reached(match code {
            0 => "goodbye answered",
            303 => "closed: ring full",
            401 => "closed: kicked",
            402 => "closed: taken over",
            _ => "closed",
        });
    }

    /// Checks the ledger of a CLOSE.
    fn account(&mut self, session: usize, up: &Account, down: &Account, is_client: bool) {
        let entry = &self.sessions[session];
        let adds_up = |account: &Account| account[0] == account[1..6].iter().sum::<u64>();
        // A sender knows what it has numbered, a receiver what it has received. It acknowledges what was taken.
        let (own, lane, other, from, taken) = if is_client {
            let taken = entry.fates.passed(entry.down.taken);
            (up, &entry.up, down, &entry.down, taken)
        } else {
            let taken = entry.up.taken + self.queued_of(session).packets;
            (down, &entry.down, up, &entry.up, taken)
        };
        let knows = own[0] == lane.numbered() || (!is_client && own[0] <= lane.numbered());
        let (superseded, gapped) = match is_client {
            true => entry.fates.told(),
            // A record that its transport did not take whole was sealed, and nobody has seen it.
            false => entry.fates.most_told(),
        };
        let is_right = adds_up(up)
            && adds_up(down)
            && (down[2] <= superseded && down[3] <= gapped && up[2] + up[3] == 0)
            && knows
            && own[1] <= lane.acked
            && other[0] <= from.arrived
            && other[1] <= from.arrived.min(taken);
        if !is_right {
            let whose = if is_client { "client" } else { "edge" };
            let text = format!(
                "the {whose} of {:016x} says up {up:?}, down {down:?}; {:?} {:?}, {taken} taken, told {superseded} {gapped}",
                entry.id, entry.up, entry.down
            );
            self.fail("V10", "24.7", text);
        }
    }

    /// Items have come to the edge, on the connection that its session is attached to.
    pub(super) fn came_up(&mut self, session: usize, watch: &mut Watch, items: &Items) {
        let entry = &mut self.sessions[session];
        for (item, number) in items {
            match item {
                Item::Packet(_) => entry.up.arrived = entry.up.arrived.max(*number),
                Item::Ack(more) => {
                    watch.acks_heard.0 += more;
                    entry.down.acked = entry.down.acked.max(watch.acks_heard.0);
                }
                Item::EarlyEnd => {
                    if let Some(accepted) = watch.accepted {
                        entry.confirmed = entry.confirmed.max(accepted.place as usize);
                    }
                }
                Item::Close { code: 0, .. } => entry.said_goodbye = true,
                _ => {}
            }
        }
    }

    /// Items have come to the client.
    pub(super) fn came_down(&mut self, session: usize, watch: &mut Watch, items: &Items) {
        let (now, leapt) = (self.now, self.leapt);
        let mut stays = None;
        let entry = &mut self.sessions[session];
        entry.heard_at = now;
        for (item, number) in items {
            match item {
                Item::Packet(_) | Item::Latest { .. } => {
                    entry.down.arrived = entry.down.arrived.max(*number);
                    entry.fates.came(*number, 1, Fate::Packet);
                }
                Item::Superseded(count) | Item::Gap { count, reason: 1 } => {
                    entry.down.arrived = entry.down.arrived.max(number + count - 1);
                    let fate = match item {
                        Item::Superseded(_) => Fate::Superseded,
                        _ => Fate::Gapped,
                    };
                    entry.fates.came(*number, *count, fate);
                }
                Item::Ack(more) => {
                    watch.acks_heard.1 += more;
                    entry.up.acked = entry.up.acked.max(watch.acks_heard.1);
                }
                Item::GoAway {
                    code,
                    earliest,
                    latest,
                    ..
                } => {
                    let (from, until) = (earliest * 1_000_000, latest * 1_000_000);
                    watch.asked = Some(Asked {
                        code: *code,
                        from: now + from,
                        until: now + until,
                        leapt,
                    });
                }
                Item::Close {
                    code: 101 | 104, ..
                } if !watch.has_parted => {
                    stays = watch.asked.filter(|asked| asked.is_over(now, leapt))
                }
                _ => {}
            }
        }
        if let Some(asked) = stays {
            let text = format!("a client that was asked to leave stays: {asked:?}");
            self.fail("V15", "25.3(a)", text);
        }
    }

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

    /// The backend was told of an end.
    pub(super) fn told_end(&mut self, session: usize, reason: &str, expiry: u64) {
        let (now, has_closed) = (self.now, self.has_closed_since(0));
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
