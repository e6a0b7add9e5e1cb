//! What is owed to each session wherever it is, mirrored from what the applications did, and the rules that judge what they see.

use std::collections::{BTreeMap, BTreeSet};

use super::setup::Setup;
use crate::model::Violation;
use crate::payload::{self, Direction};

/// A session has gone to another backend.
const ELSEWHERE: u16 = 205;
/// The edge has no such session.
const GONE: u16 = 301;
const EXPIRED: u16 = 302;
/// How long an adapter may stall, in nanoseconds.
const LET_GO: u64 = 1_000_000_000;

/// A packet down that has a number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// The number that its payload has.
    pub(super) seq: u32,
    /// Its key of LATEST, and the stay at a backend that the key is of. A newer one takes its place.
    pub(super) key: Option<(u64, u64)>,
}

/// What the present process of a backend knows of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing was told.
    #[default]
    No,
    Here,
    Away,
    Ended,
}

impl Told {
    pub(super) fn is_there(self) -> bool {
        matches!(self, Told::Here | Told::Away)
    }
}

/// A session.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Its client, and which of its lives, once a packet or the client itself says so.
    pub(super) owner: Option<(usize, u32)>,
    /// Whether its packets have numbers at the client.
    pub(super) is_numbered: bool,
    /// Whether it is of version 2 and stayed with a backend that was given up: that begins anew, and what it had sent is lost.
    pub(super) is_lax: bool,
    /// The backend that has it, or had it last.
    pub(super) holder: Option<usize>,
    /// What each backend knows of it.
    pub(super) told: Vec<Told>,
    /// Whether a backend ever heard that it goes elsewhere.
    has_left: bool,
    /// How often another backend or another process was told of it.
    stay: u64,
    /// Whether its backend was given up or is another process: what it did not acknowledge comes again.
    pub(super) may_repeat: bool,
    /// The number of the last packet up, and of the last one that an application has come back from.
    pub(super) heard: u64,
    pub(super) taken: u64,
    acknowledged: u64,
    /// Those that the client had sent before the edge granted version 3.
    pub(super) acknowledged_early: u64,
    /// When the connection began with which it began.
    pub(super) began: Option<u64>,
    /// The places at the client of the packets up, by number.
    labels: BTreeMap<u64, u32>,
    /// The packets down with numbers, from 1.
    pub(super) down: Vec<Sent>,
    /// The number of the last packet that came to the client, and of the last one that its application took.
    pub(super) came: u64,
    pub(super) came_taken: u64,
    /// What came last to a client of version 2.
    last: Option<u32>,
    pub(super) groups: BTreeSet<u64>,
    pub(super) is_paused: bool,
    notes: BTreeSet<String>,
    /// The codes of kicks.
    pub(super) kicks: Vec<u16>,
    pub(super) said_goodbye: bool,
    /// When its last connection ended at the edge.
    pub(super) left_at: Option<u64>,
    /// The backend that was told its end, but for its going elsewhere.
    pub(super) end: Option<usize>,
}

impl Session {
    /// Returns the number up to which all above `number` have newer ones of their keys.
    fn superseded_from(&self, number: u64) -> u64 {
        let mut number = number as usize;
        while let Some(Sent { key: Some(key), .. }) = self.down.get(number)
            && self.down[number + 1..]
                .iter()
                .any(|newer| newer.key == Some(*key))
        {
            number += 1;
        }
        number as u64
    }

    /// Notes a packet down. Returns its number.
    pub(super) fn push(&mut self, seq: u32, key: Option<u64>) -> u64 {
        let key = key.map(|key| (key, self.stay));
        self.down.push(Sent { seq, key });
        self.down.len() as u64
    }

    pub(super) fn note(&mut self, note: &str) {
        self.notes.insert(note.to_owned());
    }

    /// Returns the backend at which it is.
    pub(super) fn place(&self) -> Option<usize> {
        let holder = self.holder?;
        self.told[holder].is_there().then_some(holder)
    }
}

/// What is known of a backend.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Since when its link is down, as the shard sees it that learns of it last.
    pub(super) down_since: Option<u64>,
    /// Whether an operator ever had its sessions go to others.
    pub(super) was_ordered: bool,
    pub(super) is_ordered: bool,
    /// Since when it gets no newcomers.
    pub(super) draining_since: Option<u64>,
    pub(super) has_picture: bool,
    /// Whether its link ever had version 3.
    pub(super) was_granted: bool,
}

/// The record of a run.
pub(super) struct Ledger {
    pub(super) now: u64,
    pub(super) violation: Option<Violation>,
    pub(super) reach: BTreeMap<&'static str, u64>,
    pub(super) delivered: u64,
    pub(super) sessions: BTreeMap<u64, Session>,
    pub(super) backends: Vec<Standing>,
    /// When an application got a packet last.
    pub(super) heard_at: u64,
    expiry: u64,
    repin_after: u64,
}

impl Ledger {
    pub(super) fn new(setup: &Setup) -> Ledger {
        Ledger {
            now: 0,
            violation: None,
            reach: BTreeMap::new(),
            delivered: 0,
            sessions: BTreeMap::new(),
            backends: (0..setup.backends).map(|_| Standing::default()).collect(),
            heard_at: 0,
            expiry: setup.config.clients.stale_timeout.as_nanos() as u64,
            repin_after: setup.config.master.repin_after.as_nanos() as u64,
        }
    }

    pub(super) fn fail(&mut self, id: &'static str, section: &'static str, text: String) {
        let at_nanos = self.now;
        self.violation.get_or_insert(Violation {
            id,
            section,
            at_nanos,
            text,
        });
    }

    pub(super) fn reached(&mut self, what: &'static str) {
        *self.reach.entry(what).or_default() += 1;
    }

    pub(super) fn session(&mut self, id: u64) -> &mut Session {
        let backends = self.backends.len();
        self.sessions.entry(id).or_insert_with(|| Session {
            told: vec![Told::No; backends],
            ..Session::default()
        })
    }

    /// Returns the sessions that a backend was told of, in the order of their ids.
    pub(super) fn here(&self, backend: usize) -> Vec<u64> {
        let here = self.sessions.iter();
        here.filter(|(_, one)| one.told[backend].is_there())
            .map(|(id, _)| *id)
            .collect()
    }

    /// Returns the members of a group of a backend, or everybody for 0.
    pub(super) fn members(&self, backend: usize, group: u64) -> Vec<u64> {
        let here = self.here(backend).into_iter();
        let is_in = |id: &u64| {
            let session = &self.sessions[id];
            group == 0 || session.holder != Some(backend) || session.groups.contains(&group)
        };
        here.filter(is_in).collect()
    }

    /// A backend is another process, which knows nothing.
    pub(super) fn booted(&mut self, backend: usize) {
        self.backends[backend].has_picture = false;
        for session in self.sessions.values_mut() {
            session.told[backend] = Told::No;
            if session.holder == Some(backend) {
                session.may_repeat = true;
                session.groups.clear();
                session.is_paused = false;
            }
        }
    }

    /// The link of a backend is down, or up again for all its shards. It may have been given up meanwhile.
    pub(super) fn look_at_link(&mut self, backend: usize, is_up: bool) {
        let (now, repin) = (self.now, self.repin_after);
        let standing = &mut self.backends[backend];
        let since = *standing.down_since.get_or_insert(now);
        if is_up {
            standing.down_since = None;
        }
        if repin > 0 && since + repin <= now {
            for session in self.sessions.values_mut() {
                let is_there = session.holder == Some(backend);
                session.may_repeat |= is_there;
                session.is_lax |= is_there && !session.is_numbered;
            }
        }
    }

    /// Returns whether a backend that is down may have been given up.
    fn is_given_up(&self, backend: usize) -> bool {
        let since = self.backends[backend].down_since;
        self.repin_after > 0 && since.is_some_and(|since| since + self.repin_after <= self.now)
    }

    // ---- what backends hear

    /// A backend is told of a session. `up` and `down` are what the host says of its packets.
    pub(super) fn joined(
        &mut self,
        backend: usize,
        id: u64,
        again: bool,
        note: &str,
        (up, down): (u64, u64),
    ) {
        let given_up: Vec<bool> = (0..self.backends.len())
            .map(|backend| self.is_given_up(backend))
            .collect();
        let has_picture = self.backends[backend].has_picture;
        let session = self.session(id);
        let (holder, before) = (session.holder, session.told[backend]);
        if given_up[backend]
            && holder.is_some_and(|holder| holder != backend && session.told[holder].is_there())
        {
            // It reads what it got before it was given up.
            session.told[backend] = Told::Here;
            return self.reached("told after it was given up");
        }
        let is_move = holder.is_some_and(|holder| holder != backend);
        // One that is there still, and has not heard that the session has left.
        let holds = holder.filter(|holder| is_move && session.told[*holder].is_there());
        let (heard, taken, sent, came) = (
            session.heard,
            session.taken,
            session.down.len() as u64,
            session.came,
        );
        let is_given_up = holder.is_some_and(|holder| given_up[holder]);
        let repeats = std::mem::take(&mut session.may_repeat) || is_given_up;
        let is_known = note.is_empty() || session.notes.contains(note);
        let acknowledged = session.acknowledged;
        session.told[backend] = Told::Here;
        session.holder = Some(backend);
        session.stay += 1;
        session.heard = up;
        session.down.truncate(down as usize);
        if is_move {
            session.groups.clear();
            session.is_paused = false;
        }
        let has_ended = session.end.is_some_and(|end| end != backend);
        let (is_lax, has_left) = (session.is_lax, session.has_left);
        if is_move {
            self.reached(if repeats {
                "moved from a dead one"
            } else {
                "moved"
            });
        }
        if before.is_there() {
            let text = format!("{id:016x} joins at {backend}, and is {before:?}");
            self.fail("N4", "35.1(a)", text);
        } else if let Some(holds) = holds.filter(|_| !repeats) {
            let text = format!("{id:016x} is told to {backend}, and {holds} has it");
            self.fail("N3", "45.6(c)", text);
        } else if has_ended {
            let text = format!("{id:016x} is told to {backend}, and its end to another one");
            self.fail("N4", "45.6(h)", text);
        } else if again && has_picture && !is_move && before != Told::Ended && !has_left {
            let text = format!("{id:016x} was left out of the picture");
            self.fail("N4", "35.6(a)", text);
        } else if !again && up != 0 {
            self.fail("N1", "35.2", format!("{id:016x} joins behind packet {up}"));
        } else if up < acknowledged {
            let text = format!("{id:016x} goes on behind packet {up}, {acknowledged} acknowledged");
            self.fail("N1", "45.6(d)", text);
        } else if !repeats && up != heard {
            let text = format!("{id:016x} goes on behind packet {up}, and {heard} came");
            self.fail("N1", "45.6(c)", text);
        } else if up > taken {
            let text = format!("{id:016x} goes on behind packet {up}, and {taken} were taken");
            self.fail("N1", "45.6(d)", text);
        } else if is_lax {
            // What came of its packets down is not known.
        } else if down > sent || down < came || (!repeats && down != sent) {
            let text = format!("{id:016x}: {down} packets down of {sent} go along, {came} came");
            self.fail("N2", "45.6(c)", text);
        } else if !is_known {
            self.fail("N5", "45.6(c)", format!("{id:016x} has the note {note:?}"));
        }
    }

    /// A packet up comes to an application.
    pub(super) fn heard(&mut self, backend: usize, id: u64, number: u64, data: &[u8]) {
        self.heard_at = self.now;
        self.delivered += 1;
        let label = match payload::decode(data) {
            Ok(label) if label.direction == Direction::Up => label,
            other => return self.fail("N1", "37", format!("{id:016x} sends {other:?}")),
        };
        let session = self.session(id);
        let owner = (label.owner as usize, label.conn);
        let is_owner = *session.owner.get_or_insert(owner) == owner;
        let is_same = *session.labels.entry(number).or_insert(label.seq) == label.seq;
        let is_placed = !session.is_numbered || u64::from(label.seq) + 1 == number;
        let told = session.told[backend];
        if session.holder != Some(backend) {
            // One that was given up may still read what it got before.
            let is_late = told.is_there();
            if !(is_late && is_owner && is_same) {
                let text = format!("{id:016x}: {backend} hears packet {number}, and is {told:?}");
                self.fail("N3", "45.6(b)", text);
            }
            return self.reached("heard after it was given up");
        }
        let next = session.heard + 1;
        session.heard = number;
        let before = session.labels.range(..number).next_back();
        let follows = before.is_none_or(|(_, seq)| label.seq > *seq);
        if !told.is_there() {
            let text = format!("{id:016x} sends, and is {told:?} at {backend}");
            self.fail("N3", "45.6(b)", text);
        } else if !(is_owner && number == next && follows && is_same && is_placed) {
            let text = format!("{id:016x}: packet {number} is {label:?}, {next} is next");
            self.fail("N1", "45.6", text);
        }
    }

    /// The session has no connection, or has one again.
    pub(super) fn changed_place(&mut self, backend: usize, id: u64, to: Told) {
        let session = self.session(id);
        let before = std::mem::replace(&mut session.told[backend], to);
        let is_right = match to {
            Told::Away => before == Told::Here,
            _ => before.is_there(),
        };
        if !is_right {
            let text = format!("{id:016x} becomes {to:?} at {backend}, and is {before:?}");
            self.fail("N4", "35.1", text);
        }
    }

    /// A backend is told that a session has ended there. `numbered` is what the edge has numbered up.
    pub(super) fn ended(&mut self, backend: usize, id: u64, code: u16, numbered: u64) {
        let (now, expiry) = (self.now, self.expiry);
        let was_ordered = self.backends[backend].was_ordered;
        let session = self.session(id);
        let before = std::mem::replace(&mut session.told[backend], Told::Ended);
        let is_holder = session.holder == Some(backend);
        let is_complete = !session.is_numbered || session.heard == numbered || session.may_repeat;
        session.has_left |= code == ELSEWHERE;
        if code == ELSEWHERE {
            if !before.is_there() || !is_holder || !was_ordered {
                let text = format!("{id:016x} leaves {backend}, where it is {before:?}");
                self.fail("N4", "45.6(b)", text);
            } else if !is_complete {
                let heard = self.session(id).heard;
                let text = format!("{id:016x} leaves behind {numbered} packets, {heard} came");
                self.fail("N1", "45.6(b)", text);
            }
            return self.reached("left");
        }
        if code == GONE && (!is_holder || session.may_repeat || session.end.is_some()) {
            // It was given up, and is back, or is another process that was told an end before.
            return self.reached("gone meanwhile");
        }
        // Of one that leaves, the edge lets go before the adapter knows.
        let early = if session.has_left { LET_GO } else { 0 };
        let is_over = session.left_at.is_none_or(|at| now + early >= at + expiry);
        let is_right = match code {
            EXPIRED => is_over,
            304 => session.said_goodbye,
            // SPEC 35.5(a): one that does not take what is written.
            303 => !session.is_numbered,
            _ => session.kicks.contains(&code),
        };
        let other = session.end.replace(backend).filter(|end| *end != backend);
        // One that was given up may read of an end that came before.
        let is_late = !is_holder && other.is_none();
        session.groups.clear();
        if before == Told::Ended || other.is_some() {
            let text = format!("{id:016x} ends at {backend}, and had ended: {other:?}");
            self.fail("N4", "45.6(h)", text);
        } else if is_late {
            let text = format!("{id:016x} ends at {backend}, which has it no longer");
            self.fail("N3", "45.6(h)", text);
        } else if !is_right {
            self.fail("N6", "35.5", format!("{id:016x} ends with {code}"));
        } else if before != Told::No && !is_complete {
            let text = format!("{id:016x} ends behind {numbered} packets up");
            self.fail("N1", "35.1(a)", text);
        }
    }

    // ---- what clients see

    /// A packet down comes to a client.
    pub(super) fn came(&mut self, id: u64, number: u64, data: &[u8]) {
        self.delivered += 1;
        let seq = match payload::decode(data) {
            Ok(label) if label.direction == Direction::Down => label.seq,
            other => return self.fail("N2", "36", format!("{id:016x} gets {other:?}")),
        };
        let session = self.session(id);
        let came = session.came;
        let is_right = if session.is_numbered {
            session.came = number;
            let at = (number as usize).wrapping_sub(1);
            // What is left out has a newer one of its key.
            number > came
                && session.down.get(at).is_some_and(|sent| sent.seq == seq)
                && session.superseded_from(came) >= number - 1
        } else {
            let is_known = session.down.iter().any(|sent| sent.seq == seq);
            let last = session.last.replace(seq);
            is_known && last.is_none_or(|last| seq > last)
        };
        if !is_right && !session.is_lax {
            let text = format!("{id:016x}: packet {number} is {seq}, behind {came}");
            self.fail("N2", "45.6(c)", text);
        }
    }

    /// A client sees `acknowledged` packets acknowledged.
    pub(super) fn acknowledged(&mut self, id: u64, acknowledged: u64) {
        let session = self.session(id);
        if session.holder.is_none() {
            return;
        }
        let taken = session.taken.max(session.acknowledged_early);
        if acknowledged > session.acknowledged_early {
            session.acknowledged = session.acknowledged.max(acknowledged);
        }
        if acknowledged > taken && session.is_numbered {
            let text = format!("{id:016x}: {acknowledged} acknowledged, {taken} taken");
            self.fail("N1", "37.5", text);
        }
    }

    /// A host says that a session has settled packets up to this number.
    pub(super) fn settled(&mut self, id: u64, number: u64) {
        let session = self.session(id);
        let most = match session.is_numbered {
            true => session.superseded_from(session.came_taken),
            false => session.down.len() as u64,
        };
        if number > most && !session.is_lax {
            let text = format!("{id:016x}: {number} settled, {most} taken");
            self.fail("N2", "36.3", text);
        }
    }

    /// A client is told that its session has ended.
    pub(super) fn told_end(&mut self, id: u64, code: u16) {
        let (now, expiry) = (self.now, self.expiry);
        let session = self.session(id);
        let is_over = session.left_at.is_some_and(|at| now >= at + expiry);
        let is_right = match code {
            // It goes whatever comes of that.
            _ if session.said_goodbye => true,
            // It may say so itself, by its own clock.
            EXPIRED => true,
            GONE => {
                // Its edge may not have heard that it was welcomed.
                let was_told = session.holder.is_some();
                let is_gone = session.end.is_some() || !session.kicks.is_empty();
                is_over || is_gone || !session.is_numbered || !was_told
            }
            _ => session.kicks.contains(&code),
        };
        if !is_right {
            let text = format!("the client of {id:016x} is told {code}: {session:?}");
            self.fail("N6", "45.6(f)", text);
        }
    }
}
