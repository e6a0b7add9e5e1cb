//! Points at which nothing is wrong and nothing is under way: there all must agree. And what is tried from there.

use std::collections::BTreeMap;

use voltlane_core::ClientId;
use voltlane_core::edge::Counters;

use super::World;
use super::ledger::{Session, Told};
use super::setup::Op;
use crate::ledgered::Runs as _;

/// How long everything may take to come to rest, in nanoseconds. Sessions whose clients have gone must expire meanwhile.
const WITHIN: u64 = 400_000_000_000;
/// How often it is looked whether it has.
const LOOKS_EVERY: u64 = 20_000_000;
/// The group that a host keeps for everybody.
const EVERYBODY: u64 = u64::MAX;
/// How long a backend reads nothing in a probe, and how long the clients of others may wait for theirs meanwhile.
const SLOW: u64 = 30_000_000_000;
const PROMPT: u64 = 20_000_000_000;
/// What its clients send it meanwhile: packets, and bytes of each.
const FLOOD: u64 = 40;
const FLOOD_BYTES: u64 = 1_000;
/// How long after it is given up the sessions of a backend are at others.
const MOVED_WITHIN: u64 = 30_000_000_000;
/// How long a client may take to come back to its session at rest.
const BACK_WITHIN: u64 = 15_000_000_000;
/// The code of a session that has expired.
const EXPIRED: u16 = 302;

/// What runs until it comes to rest.
pub(super) struct Rest {
    since: u64,
    until: u64,
    pub(super) looks_at: u64,
    /// What comes then.
    then: Op,
    backend: usize,
    is_last: bool,
    /// What applications take for a packet once it is over.
    slow: (u64, u64),
    /// What is tried now.
    probe: Option<Probe>,
}

/// Something that is tried from rest.
enum Probe {
    /// A backend reads nothing. These packets up of clients of others come meanwhile.
    Slow(Vec<(u64, u64)>),
    /// A backend is down.
    Dead,
}

impl World {
    /// Ends all faults for a while, or for good.
    pub(super) fn begin_rest(&mut self, then: Op, backend: usize, is_last: bool) {
        self.note(|| "no more faults".to_owned());
        let slow = (self.setup.load.slow_nanos, self.setup.load.slow_host_nanos);
        (self.setup.load.slow_nanos, self.setup.load.slow_host_nanos) = (0, 0);
        for one in &mut self.backends {
            (one.stalls, one.refuses) = (0, 0);
        }
        for shard in &mut self.shards {
            shard.stalls = 0;
        }
        for client in &mut self.clients {
            client.stalled_until = 0;
        }
        for conn in 0..self.conns.len() {
            if self.conns[conn].is_silent {
                self.reset(conn);
            }
        }
        // Otherwise nobody can begin a session.
        let standings = &self.ledger.backends;
        if standings.iter().all(|one| one.draining_since.is_some()) {
            let open = self.rng.below(self.backends.len() as u64) as usize;
            self.drain(open, false);
        }
        self.rest = Some(Rest {
            since: self.now,
            until: self.now + WITHIN,
            looks_at: self.now,
            then,
            backend,
            is_last,
            slow,
            probe: None,
        });
    }

    pub(super) fn look_at_rest(&mut self) -> bool {
        let now = self.now;
        let Some(rest) = self.rest.as_mut().filter(|rest| rest.looks_at <= now) else {
            return false;
        };
        rest.looks_at = now + LOOKS_EVERY;
        let (is_late, is_last) = (now >= rest.until, rest.is_last);
        if rest.probe.is_some() {
            self.look_at_probe(is_late);
            return false;
        }
        self.go_on(is_last);
        match self.unrest() {
            Some(text) if is_late => self.ledger.fail("N9", "45.6", text),
            Some(_) => {}
            None => {
                self.agree();
                self.ledger.reached("rest");
                self.try_next();
            }
        }
        false
    }

    /// Looks at how a session ends. At rest none expires whose client is there: it would come back.
    pub(super) fn look_at_expiry(&mut self, id: u64, code: u16) {
        let Some(rest) = self.rest.as_ref().filter(|rest| rest.probe.is_none()) else {
            return;
        };
        let session = self.ledger.session(id);
        let (left_at, is_numbered) = (session.left_at.unwrap_or(self.now), session.is_numbered);
        let is_there = is_numbered && self.clients.iter().any(|one| one.id == Some(id));
        // One that leaves waits while its backend takes what it has sent, and while there is none that it may go to.
        let since = rest.since.max(left_at).max(self.ledger.heard_at);
        let mut standings = self.ledger.backends.iter();
        let may_go = standings.all(|one| one.draining_since.is_none());
        if code == EXPIRED && is_there && may_go && self.now >= since + BACK_WITHIN {
            let text = format!("{id:016x} expires, and its client cannot come back");
            self.ledger.fail("N9", "45.6(f)", text);
        }
    }

    /// Begins what is to be tried from rest, or goes on with the plan.
    fn try_next(&mut self) {
        let Some(rest) = &self.rest else { return };
        let (backend, then) = (rest.backend, rest.then);
        let repin = self.setup.config.master.repin_after.as_nanos() as u64;
        match then {
            Op::ProbeSlow => {
                self.ledger.reached("slow backend");
                self.backends[backend].stalls = self.now + SLOW;
                let mut due = Vec::new();
                for client in 0..self.clients.len() {
                    let Some((id, place)) = self.told(client) else {
                        continue;
                    };
                    if place == backend {
                        (0..FLOOD).for_each(|_| self.clients[client].send_up(FLOOD_BYTES));
                    } else if !self.ledger.session(id).is_paused {
                        self.clients[client].send_up(0);
                        due.push((id, self.ledger.session(id).heard + 1));
                        self.send_down(client, 0, None);
                    }
                }
                self.set_probe(Probe::Slow(due), PROMPT);
            }
            Op::ProbeDead if repin > 0 && self.eligible(backend) => {
                self.ledger.reached("dead backend");
                self.outage(backend, repin + 2 * MOVED_WITHIN, false);
                for client in 0..self.clients.len() {
                    self.clients[client].send_up(0);
                }
                self.set_probe(Probe::Dead, repin + MOVED_WITHIN);
            }
            _ => self.end_rest(),
        }
    }

    fn set_probe(&mut self, probe: Probe, within: u64) {
        if let Some(rest) = &mut self.rest {
            (rest.probe, rest.until) = (Some(probe), self.now + within);
        }
    }

    /// Returns whether there is a backend to which the sessions of this one can go.
    fn eligible(&self, backend: usize) -> bool {
        let mut others = self.ledger.backends.iter().enumerate();
        others.any(|(other, one)| other != backend && one.draining_since.is_none())
    }

    fn look_at_probe(&mut self, is_late: bool) {
        let Some(rest) = &self.rest else { return };
        let backend = rest.backend;
        let missing = match &rest.probe {
            Some(Probe::Slow(due)) => {
                let mut due = due.iter();
                due.find(|(id, number)| {
                    let session = &self.ledger.sessions[id];
                    let came = !session.is_numbered || session.came == session.down.len() as u64;
                    // One may have said goodbye just before.
                    session.end.is_none() && (session.heard < *number || !came)
                })
                .map(|(id, _)| ("N10", "45.4(a)", format!("{id:016x} waits")))
            }
            Some(Probe::Dead) => {
                let mut sessions = self.ledger.sessions.iter();
                // The end of one that said goodbye just before is told to nobody while its backend is down (SPEC 45.6(h)).
                let stays = |one: &Session| {
                    one.place() == Some(backend) && one.is_numbered && !one.said_goodbye
                };
                sessions
                    .find(|(_, one)| stays(one))
                    .map(|(id, _)| ("N11", "45.6(a)", format!("{id:016x} stays")))
            }
            None => None,
        };
        match missing {
            Some((rule, section, text)) if is_late => self.ledger.fail(rule, section, text),
            Some(_) => {}
            None => {
                (
                    self.backends[backend].stalls,
                    self.backends[backend].refuses,
                ) = (0, 0);
                self.end_rest();
            }
        }
    }

    fn end_rest(&mut self) {
        let Some(rest) = self.rest.take() else { return };
        (self.setup.load.slow_nanos, self.setup.load.slow_host_nanos) = rest.slow;
        if let Some(first) = self.plan.front() {
            // The plan goes on from here.
            let late = self.now.saturating_sub(first.at);
            self.plan.iter_mut().for_each(|due| due.at += late);
        }
        self.is_done = rest.is_last;
    }

    /// Backends go on reading: all, or those whose clients are gone, which the edge cannot see otherwise.
    fn go_on(&mut self, all: bool) {
        let here: Vec<u64> = self.clients.iter().filter_map(|one| one.id).collect();
        for backend in 0..self.backends.len() {
            for id in self.ledger.here(backend) {
                let session = self.ledger.session(id);
                let is_paused = session.is_paused && session.holder == Some(backend);
                if is_paused && (all || !here.contains(&id)) {
                    self.pause_session(id, backend, false);
                }
            }
        }
    }

    /// Returns what is not at rest.
    fn unrest(&self) -> Option<String> {
        let each = self.setup.each;
        for (number, one) in self.backends.iter().enumerate() {
            let say = |what: &str| Some(format!("backend {number}: {what}"));
            if one.host.edge().is_none() || !self.trunks[number].gauges().link_is_up {
                return say("its link is not there");
            }
            if !self.link_is_empty(number) {
                return say("something is under way on its link");
            }
            if one.host.queued_packets() > 0 || !one.takes.is_empty() {
                return say("it has work");
            }
            if one.tap.unacknowledged_down() > 0 {
                return say("frames of it are not acknowledged");
            }
            let of_trunk = self.trunks[number].gauges();
            if of_trunk.link_packets > 0 {
                return say("packets wait for it in the trunk");
            }
            for shard in &self.shards[number * each..][..each] {
                let gauges = shard.edge.gauges();
                let waits = gauges.link_packets + gauges.waiting + gauges.ending;
                if waits > 0 || !shard.sessions.is_empty() || !shard.inbox.is_empty() {
                    return say(&format!("a shard has work: {gauges:?}"));
                }
            }
            let is_ordered = self.ledger.backends[number].is_ordered;
            if is_ordered && self.eligible(number) {
                let stays = |id: &u64| self.ledger.sessions[id].is_numbered;
                if let Some(id) = self.ledger.here(number).into_iter().find(stays) {
                    return say(&format!("{id:016x} was to leave it"));
                }
            }
        }
        for (number, client) in self.clients.iter().enumerate() {
            if let Some(text) = self.restless(number) {
                return Some(format!("client {number} ({:?}): {text}", client.id));
            }
        }
        let sessions: usize = self
            .shards
            .iter()
            .map(|one| one.edge.gauges().sessions)
            .sum();
        let of_clients = self.clients.len();
        (sessions != of_clients).then(|| {
            format!("the edge has {sessions} sessions, and {of_clients} clients are there")
        })
    }

    fn restless(&self, number: usize) -> Option<String> {
        let client = &self.clients[number];
        let machine = &client.machine;
        if !client.is_established() {
            return Some(format!("{:?}", machine.state()));
        }
        let Some(session) = client.id.and_then(|id| self.ledger.sessions.get(&id)) else {
            return Some("it has no session".to_owned());
        };
        let Some(place) = session
            .place()
            .filter(|place| session.told[*place] == Told::Here)
        else {
            return Some(format!("{:?}", session.told));
        };
        if !client.takes.is_empty() {
            return Some("it has work".to_owned());
        }
        if session.is_paused {
            // Nothing of it is read, so it settles nothing, and its ring may be full.
            return None;
        }
        let ledgers = machine.ledgers();
        if machine.queued_packets() > 0 {
            return Some(format!("{ledgers:?}"));
        }
        // To a client of version 2 a packet may be lost with its connection.
        let down = session.down.len() as u64;
        let came = !client.is_numbered || ledgers.down.numbered == down;
        let host = &self.backends[place].host;
        let settled = host.settled(ClientId::from_u64(client.id.unwrap_or_default()));
        (!session.is_lax && (!came || settled != down))
            .then(|| format!("{down} down, {settled} settled, {ledgers:?}"))
    }

    /// Compares what the edge, the backends and the clients know.
    fn agree(&mut self) {
        for backend in 0..self.backends.len() {
            let known = self.backends[backend].host.sessions();
            let known: Vec<u64> = known.iter().map(|id| id.as_u64()).collect();
            let clients = self.clients.iter().filter_map(|one| one.id);
            let mut here: Vec<u64> = clients
                .filter(|id| self.ledger.sessions[id].place() == Some(backend))
                .collect();
            here.sort_unstable();
            if known != here {
                let text = format!("backend {backend} knows {known:x?}, and has {here:x?}");
                return self.ledger.fail("N9", "45.6(c)", text);
            }
            if let Some(text) = self.wrong_members(backend) {
                return self.ledger.fail("N5", "45.6(c)", text);
            }
        }
        for number in 0..self.clients.len() {
            if let Some(text) = self.disagreement(number) {
                let text = format!("client {number}: {text}");
                return self.ledger.fail("N9", "45.6(c)", text);
            }
        }
        self.look_at_pauses();
        self.look_at_pins();
        let sum = |of: fn(&Counters) -> u64| -> u64 {
            self.shards.iter().map(|one| of(one.edge.counters())).sum()
        };
        let wrong = (
            sum(|all| all.link_violations),
            sum(|all| all.malformed_down),
        );
        if wrong != (0, 0) {
            let text = format!("the edge has counted {wrong:?} faults of backends");
            self.ledger.fail("K11", "38.1", text);
        }
    }

    /// Returns the groups of a backend's shards, if they are not those that it made.
    fn wrong_members(&self, backend: usize) -> Option<String> {
        let mut expected = BTreeMap::<u64, Vec<u64>>::new();
        for id in self.ledger.here(backend) {
            let groups = &self.ledger.sessions[&id].groups;
            for group in groups.iter().copied().chain([EVERYBODY]) {
                expected.entry(group).or_default().push(id);
            }
        }
        let mut of_edge = BTreeMap::<u64, Vec<u64>>::new();
        let each = self.setup.each;
        for shard in &self.shards[backend * each..][..each] {
            for (group, members) in shard.edge.groups() {
                let members = members.iter().map(|id| id.as_u64());
                of_edge.entry(group).or_default().extend(members);
            }
        }
        of_edge.values_mut().for_each(|all| all.sort_unstable());
        (of_edge != expected).then(|| {
            format!("backend {backend} has the groups {of_edge:x?}, and {expected:x?} are meant")
        })
    }

    fn disagreement(&self, number: usize) -> Option<String> {
        let client = &self.clients[number];
        let id = client.id?;
        let session = self.ledger.sessions.get(&id)?;
        let host = &self.backends[session.place()?].host;
        let of_host = host.ledgers(ClientId::from_u64(id))?;
        let of_client = client.machine.ledgers();
        if session.is_lax {
            return None;
        }
        let (up, down) = (of_host.up.numbered, of_host.down.numbered);
        let mut agrees = up == session.heard && down == session.down.len() as u64;
        agrees &= of_host.up.is_balanced() && of_host.down.is_balanced();
        agrees &= of_host.down.acknowledged == down || session.is_paused;
        if client.is_numbered {
            let (sent, got) = (of_client.up, of_client.down);
            agrees &= sent.is_balanced() && got.is_balanced();
            let all_went = sent.numbered == up && sent.acknowledged == up && session.taken == up;
            agrees &= session.is_paused || (got.numbered == down && all_went);
        }
        let heard = (session.heard, session.down.len());
        (!agrees).then(|| {
            format!("the backend has {of_host:?}, the client {of_client:?}, the ledger {heard:?}")
        })
    }

    /// A paused client is not read, and others are.
    fn look_at_pauses(&mut self) {
        for number in 0..self.clients.len() {
            let client = &self.clients[number];
            let (Some(id), Some(conn)) = (client.id, client.conn) else {
                continue;
            };
            let conn = &self.conns[conn];
            let Some(key) = conn.key else { continue };
            let session = &self.ledger.sessions[&id];
            if session.is_lax {
                continue;
            }
            let is_paused = session.is_paused;
            let is_read = self.shards[conn.shard].edge.read_budget(key) > 0;
            if is_paused == is_read {
                let text = format!("client {number} is paused: {is_paused}, read: {is_read}");
                return self.ledger.fail("N5", "45.6(c)", text);
            }
        }
    }

    /// The edge remembers where those sessions are that are at another shard than that of their id, and no others.
    fn look_at_pins(&mut self) {
        let each = self.setup.each;
        let is_away = |id: u64, holder: Option<usize>| {
            let home = usize::from(ClientId::from_u64(id).shard().as_u8()) / each;
            holder.is_some_and(|holder| holder != home)
        };
        let sessions = self.ledger.sessions.iter();
        let here = sessions.filter(|(id, one)| one.place().is_some() && is_away(**id, one.holder));
        let expected = here.count();
        let known = self.shards[0].edge.pinned();
        if known != expected {
            let text = format!("{known} sessions are known to be elsewhere, and {expected} are");
            self.ledger.fail("N9", "45.6(f)", text);
        }
    }
}
