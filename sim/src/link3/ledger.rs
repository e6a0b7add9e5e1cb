//! What is owed to each session, mirrored from what both applications did, and the rules that judge what they see.

use std::collections::{BTreeMap, BTreeSet};

use super::setup::Setup;
use crate::model::Violation;
use crate::payload::{self, Direction};

/// What a packet down is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Ordinary,
    /// A newer one of the same receiver and key takes its place.
    Latest(Option<u64>, u64),
}

/// A packet down that has a number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// The number that its payload has.
    pub(super) seq: u32,
    pub(super) class: Class,
}

/// What a session is, as the backend's present process knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing was told.
    No,
    Here,
    Away,
    Ended,
}

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    /// Its client, and which of its lives, once a packet or the client itself says so.
    pub(super) owner: Option<(usize, u32)>,
    pub(super) told: Told,
    /// Whether its packets have numbers at the client.
    pub(super) is_numbered: bool,
    /// Whether it was there while the link had version 2, which promises less.
    pub(super) is_lax: bool,
    /// Whether its edge is gone.
    pub(super) is_lost: bool,
    /// The number of the last packet up in this boot, and of the last one that any boot has taken.
    pub(super) heard: u64,
    pub(super) taken: u64,
    /// What the backend had saved of it when its present process began.
    saved: Option<u64>,
    /// Those that the client had sent before the edge granted version 3.
    acknowledged_early: u64,
    /// The places at the client of the packets up, by number.
    labels: BTreeMap<u64, u32>,
    /// The packets down with numbers, from 1.
    pub(super) down: Vec<Sent>,
    /// Those that wait for the picture of a new boot.
    pub(super) early: Vec<Sent>,
    /// VOLATILE packets, by what their payloads have.
    pub(super) volatile: BTreeSet<u32>,
    /// The number of the last packet that came to the client, and of the last one that its application took.
    pub(super) came: u64,
    pub(super) came_taken: u64,
    /// What came last to a client of version 2.
    last: Option<u32>,
    pub(super) groups: BTreeSet<u64>,
    pub(super) is_paused: bool,
    pub(super) notes: BTreeSet<String>,
    /// The kicks that the backend asked for.
    pub(super) kicks: Vec<(u16, String)>,
    pub(super) said_goodbye: bool,
    /// When its last connection ended at the edge, and when it was sent away from that before.
    pub(super) left_at: Option<u64>,
    pub(super) let_go_at: Option<u64>,
}

impl Session {
    fn new() -> Session {
        Session {
            owner: None,
            told: Told::No,
            is_numbered: false,
            is_lax: false,
            is_lost: false,
            heard: 0,
            taken: 0,
            saved: None,
            acknowledged_early: 0,
            labels: BTreeMap::new(),
            down: Vec::new(),
            early: Vec::new(),
            volatile: BTreeSet::new(),
            came: 0,
            came_taken: 0,
            last: None,
            groups: BTreeSet::new(),
            is_paused: false,
            notes: BTreeSet::new(),
            kicks: Vec::new(),
            said_goodbye: false,
            left_at: None,
            let_go_at: None,
        }
    }

    /// Returns the number up to which all above `number` have newer ones of their keys.
    fn superseded_from(&self, number: u64) -> u64 {
        let mut number = number as usize;
        while let Some(sent) = self.down.get(number)
            && sent.class != Class::Ordinary
            && self.down[number + 1..]
                .iter()
                .any(|newer| newer.class == sent.class)
        {
            number += 1;
        }
        number as u64
    }

    pub(super) fn is_here(&self) -> bool {
        matches!(self.told, Told::Here | Told::Away)
    }
}

/// The record of a run.
pub(super) struct Ledger {
    pub(super) now: u64,
    pub(super) violation: Option<Violation>,
    pub(super) reach: BTreeMap<&'static str, u64>,
    pub(super) delivered: u64,
    pub(super) sessions: BTreeMap<u64, Session>,
    /// Whether this boot has the picture of this run.
    pub(super) has_picture: bool,
    /// Whether the link has version 2.
    is_plain: bool,
    /// Whether this run of the edge has granted version 3: before, it acknowledges packets as version 2 of the link does.
    pub(super) has_granted: bool,
    expiry: u64,
}

impl Ledger {
    pub(super) fn new(setup: &Setup) -> Ledger {
        Ledger {
            now: 0,
            violation: None,
            reach: BTreeMap::new(),
            delivered: 0,
            sessions: BTreeMap::new(),
            has_picture: false,
            is_plain: false,
            has_granted: false,
            expiry: setup.config.clients.stale_timeout.as_nanos() as u64,
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
        let is_plain = self.is_plain;
        self.sessions.entry(id).or_insert_with(|| Session {
            is_lax: is_plain,
            ..Session::new()
        })
    }

    /// Returns the sessions that the backend was told of, in the order of their ids.
    pub(super) fn here(&self) -> Vec<u64> {
        let here = self.sessions.iter().filter(|(_, one)| one.is_here());
        here.map(|(id, _)| *id).collect()
    }

    /// Returns a session that was restored, and of which the backend heard neither that it is there nor that it has ended.
    pub(super) fn forgotten(&self) -> Option<String> {
        let mut sessions = self.sessions.iter();
        let (id, session) =
            sessions.find(|(_, one)| one.saved.is_some() && one.told == Told::No)?;
        Some(format!("{id:016x} was restored: {session:?}"))
    }

    /// Returns the members of a group, or everybody for 0.
    pub(super) fn members(&self, group: u64) -> Vec<u64> {
        let here = self.here().into_iter();
        here.filter(|id| group == 0 || self.sessions[id].groups.contains(&group))
            .collect()
    }

    // ---- processes come and go

    pub(super) fn restarted(&mut self) {
        (self.has_granted, self.has_picture) = (false, false);
        for session in self.sessions.values_mut() {
            session.is_lost = true;
        }
    }

    /// The backend is another process. Returns the sessions of which the one before has `saved` something, and the packets up that it has taken.
    pub(super) fn booted(&mut self, saves: bool) -> Vec<(u64, u64)> {
        (self.is_plain, self.has_picture) = (false, false);
        let mut saved = Vec::new();
        for (id, session) in &mut self.sessions {
            let has_data = session.is_here() || session.saved.is_some();
            session.saved = (saves && has_data && session.told != Told::Ended && session.taken > 0)
                .then_some(session.taken);
            saved.extend(session.saved.map(|up| (*id, up)));
            if session.told != Told::Ended || !session.is_lost {
                session.told = Told::No;
            }
            session.heard = session.saved.unwrap_or(0);
            session.groups.clear();
            session.is_paused = false;
            // What came of packets that were sent early, nobody was told.
            session.is_lax |= !session.early.is_empty();
            session.early.clear();
        }
        saved
    }

    /// The link has version 2.
    pub(super) fn became_plain(&mut self) {
        self.is_plain = true;
        self.reached("version 2 of the link");
        for session in self.sessions.values_mut() {
            session.is_lax = true;
        }
    }

    /// The link has version 3. `sent` are the packets of the present sessions.
    pub(super) fn became_granted(&mut self, sent: &[(u64, u64)]) {
        self.is_plain = false;
        if !std::mem::replace(&mut self.has_granted, true) {
            for (id, sent) in sent {
                self.session(*id).acknowledged_early = *sent;
            }
        }
    }

    // ---- what the backend hears

    /// A session is told. `up` and `down` are what the host says of its packets.
    pub(super) fn joined(&mut self, id: u64, again: bool, note: &str, (up, down): (u64, u64)) {
        let session = self.session(id);
        if session.told != Told::No || session.is_lost {
            let text = format!("{id:016x} joins, and is {:?}", session.told);
            return self.fail("K4", "35.1(a)", text);
        }
        session.told = Told::Here;
        let early = session.early.len() as u64;
        let has = down.saturating_sub(early);
        let (taken, sent, came) = (session.taken, session.down.len() as u64, session.came);
        let saved = session.saved;
        session.heard = up;
        session.down.truncate(has as usize);
        let early = std::mem::take(&mut session.early);
        session.down.extend(early);
        let is_known = note.is_empty() || session.notes.contains(note);
        let has_all = down >= came;
        let (is_lax, is_numbered) = (session.is_lax, session.is_numbered);
        if is_lax {
            return;
        }
        if again && self.has_picture {
            let text = format!("{id:016x} was left out of the picture");
            return self.fail("K5", "35.6(a)", text);
        }
        if saved.is_some_and(|saved| up != saved) {
            let text = format!("{id:016x} goes on behind packet {up}, and {saved:?} was saved");
            self.fail("K1", "37.4(e)", text);
        } else if up > taken {
            let text = format!("{id:016x} goes on behind packet {up}, and {taken} were taken");
            self.fail("K2", "35.6", text);
        } else if has > sent || !has_all {
            let numbered = if is_numbered { "numbered" } else { "plain" };
            let text = format!(
                "{id:016x} ({numbered}): the edge has {has} packets down of {sent}, {came} came"
            );
            self.fail("K3", "35.6", text);
        } else if !again && up != saved.unwrap_or(0) {
            let text = format!("{id:016x} joins with {up} and {has} packets");
            self.fail("K4", "35.2", text);
        } else if !is_known {
            self.fail("K5", "36.6", format!("{id:016x} has the note {note:?}"));
        }
    }

    /// A packet up comes to the application.
    pub(super) fn heard(&mut self, id: u64, number: u64, data: &[u8]) {
        self.delivered += 1;
        let label = match payload::decode(data) {
            Ok(label) if label.direction == Direction::Up => label,
            other => return self.fail("K1", "37", format!("{id:016x} sends {other:?}")),
        };
        let session = self.session(id);
        let owner = (label.owner as usize, label.conn);
        let is_owner = *session.owner.get_or_insert(owner) == owner;
        let (told, next) = (session.told, session.heard + 1);
        session.heard = number;
        let before = session.labels.range(..number).next_back();
        let follows = before.is_none_or(|(_, seq)| label.seq > *seq);
        let is_same = *session.labels.entry(number).or_insert(label.seq) == label.seq;
        let is_placed = !session.is_numbered || u64::from(label.seq) + 1 == number;
        if session.is_lax {
            return;
        }
        if !matches!(told, Told::Here | Told::Away) {
            let text = format!("{id:016x} sends, and is {told:?}");
            self.fail("K4", "35.1(a)", text);
        } else if !(is_owner && number == next && follows && is_same && is_placed) {
            let text = format!("{id:016x}: packet {number} is {label:?}, {next} is next");
            self.fail("K1", "37", text);
        }
    }

    /// The session has no connection, or has one again.
    pub(super) fn changed_place(&mut self, id: u64, to: Told) {
        let session = self.session(id);
        let before = std::mem::replace(&mut session.told, to);
        let is_right = match to {
            Told::Away => before == Told::Here,
            _ => matches!(before, Told::Here | Told::Away),
        };
        if !is_right && !session.is_lax {
            let text = format!("{id:016x} becomes {to:?}, and is {before:?}");
            self.fail("K4", "35.1", text);
        }
    }

    /// The backend is told that a session has ended. `numbered` is what the edge has numbered up, and was known to the host down.
    pub(super) fn ended(&mut self, id: u64, code: u16, text: &str, numbered: (u64, u64)) {
        let (now, expiry) = (self.now, self.expiry);
        let session = self.session(id);
        let before = std::mem::replace(&mut session.told, Told::Ended);
        session.groups.clear();
        let is_over = |at: u64| now >= at + expiry;
        let is_expired =
            session.left_at.is_none_or(is_over) || session.let_go_at.is_some_and(is_over);
        let is_right = match code {
            // Nobody was told of it: its edge never had it, or has it no longer.
            301 => session.is_lost || before == Told::No,
            302 => is_expired,
            304 => session.said_goodbye,
            // SPEC 35.5(a): one that does not take what is written.
            303 => !session.is_numbered,
            _ => session
                .kicks
                .iter()
                .any(|(of_kick, said)| *of_kick == code && said == text),
        };
        let (heard, sent) = (session.heard, session.down.len() as u64);
        let is_complete = session.is_lost || !session.is_numbered || heard == numbered.0;
        if session.is_lax {
            return;
        }
        if before == Told::Ended {
            self.fail("K4", "35.5(a)", format!("{id:016x} ends twice"));
        } else if !is_right {
            let text = format!("{id:016x} ends with {code} {text:?}");
            self.fail("K9", "35.5", text);
        } else if before != Told::No && !is_complete {
            let text = format!("{id:016x} ends behind {numbered:?}, and {heard} came");
            self.fail("K4", "35.1(a)", text);
        } else if before != Told::No && numbered.1 > sent {
            let text = format!("{id:016x} ends with {numbered:?} of {sent} numbered");
            self.fail("K3", "35.5", text);
        }
    }

    // ---- what clients see

    /// A packet down comes to a client.
    pub(super) fn came(&mut self, id: u64, number: u64, data: &[u8]) {
        self.delivered += 1;
        let seq = match payload::decode(data) {
            Ok(label) if label.direction == Direction::Down => label.seq,
            other => return self.fail("K3", "36", format!("{id:016x} gets {other:?}")),
        };
        let session = self.session(id);
        let (came, is_lax) = (session.came, session.is_lax);
        // What was sent early gets its numbers when the session is told, whose JOINED may come later.
        let is_early = session.told == Told::No && !session.early.is_empty();
        if session.is_numbered && number > 0 {
            session.came = number;
        }
        let is_right = match (session.is_numbered, number) {
            (true, 0) => session.volatile.remove(&seq),
            (true, _) => {
                let is_it = |sent: &Sent| sent.seq == seq;
                let at = number as usize - 1;
                // What is left out has a newer one of its key.
                number > came
                    && session.down.get(at).is_some_and(is_it)
                    && session.superseded_from(came) >= number - 1
            }
            (false, _) => {
                let is_known = session.volatile.contains(&seq)
                    || session.down.iter().any(|sent| sent.seq == seq);
                let last = session.last.replace(seq);
                is_known && last.is_none_or(|last| seq > last)
            }
        };
        if !(is_right || is_lax || is_early) {
            let text = format!("{id:016x}: packet {number} is {seq}, behind {came}");
            self.fail("K3", "36", text);
        }
    }

    /// A client sees `acknowledged` packets acknowledged.
    pub(super) fn acknowledged(&mut self, id: u64, acknowledged: u64) {
        if !self.has_granted {
            return;
        }
        let session = self.session(id);
        let taken = session.taken.max(session.acknowledged_early);
        if acknowledged > taken && session.is_numbered && !session.is_lax {
            let text = format!("{id:016x}: {acknowledged} acknowledged, {taken} taken");
            self.fail("K2", "37.5", text);
        }
    }

    /// The host says that a session has settled packets up to this number.
    pub(super) fn settled(&mut self, id: u64, number: u64) {
        let session = self.session(id);
        // SPEC 36.3(d): for version 2 it is what a transport has taken. What is superseded, nobody takes.
        let most = match session.is_numbered {
            true => session.superseded_from(session.came_taken),
            false => session.down.len() as u64,
        };
        if number > most && !session.is_lax {
            let text = format!("{id:016x}: {number} settled, {most} taken");
            self.fail("K6", "36.3", text);
        }
    }
}
