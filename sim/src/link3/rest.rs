//! Points at which nothing is under way: there the edge, the backend, the clients and the ledger must agree. Some come by themselves, and at
//! some all faults end for a while.

use std::collections::BTreeMap;

use voltlane_core::ClientId;
use voltlane_core::backend::host::Host;
use voltlane_core::edge::SessionInfo;
use voltlane_core::edge::testkit::Adapter as _;

use super::World;
use super::ledger::{Session, Told};
use crate::ledgered::Runs as _;

/// How long everything may take to come to rest, in nanoseconds. Sessions whose clients have gone must expire meanwhile.
const WITHIN: u64 = 400_000_000_000;
/// The group that the host keeps for everybody.
const EVERYBODY: u64 = u64::MAX;
/// How often it is looked whether it has.
const LOOKS_EVERY: u64 = 20_000_000;

/// What runs until it comes to rest.
pub(super) struct Rest {
    until: u64,
    pub(super) looks_at: u64,
    is_last: bool,
    /// What applications take for a packet once it is over.
    slow: (u64, u64),
}

impl World {
    /// Ends all faults for a while, or for good.
    pub(super) fn begin_rest(&mut self, is_last: bool) {
        self.note(|| "no more faults".to_owned());
        let slow = (self.setup.load.slow_nanos, self.setup.load.slow_host_nanos);
        (self.setup.load.slow_nanos, self.setup.load.slow_host_nanos) = (0, 0);
        self.host_stalls = 0;
        for client in &mut self.clients {
            client.stalled_until = 0;
        }
        for conn in 0..self.conns.len() {
            if self.conns[conn].is_silent {
                self.reset(conn);
            }
        }
        self.rest = Some(Rest {
            until: self.now + WITHIN,
            looks_at: self.now,
            is_last,
            slow,
        });
    }

    pub(super) fn look_at_rest(&mut self) -> bool {
        let now = self.now;
        let Some(rest) = self.rest.as_mut().filter(|rest| rest.looks_at <= now) else {
            return false;
        };
        rest.looks_at = now + LOOKS_EVERY;
        let is_last = rest.is_last;
        self.go_on(is_last);
        let Some(rest) = &self.rest else { return false };
        let (is_late, is_last, slow) = (now >= rest.until, rest.is_last, rest.slow);
        match self.unrest() {
            Some(text) if is_late => self.ledger.fail("K12", "37", text),
            Some(_) => {}
            None => {
                self.agree();
                self.ledger.reached("rest");
                self.rest = None;
                (self.setup.load.slow_nanos, self.setup.load.slow_host_nanos) = slow;
                if let Some(first) = self.plan.front() {
                    // The plan goes on from here.
                    let late = now.saturating_sub(first.at);
                    self.plan.iter_mut().for_each(|due| due.at += late);
                }
                self.is_done = is_last;
            }
        }
        false
    }

    /// The backend goes on reading: all, or those whose clients are gone, which the edge cannot see otherwise.
    fn go_on(&mut self, all: bool) {
        let here: Vec<u64> = self.clients.iter().filter_map(|one| one.id).collect();
        for id in self.ledger.here() {
            if self.ledger.session(id).is_paused && (all || !here.contains(&id)) {
                self.host.pause(ClientId::from_u64(id), false);
                self.ledger.session(id).is_paused = false;
            }
        }
    }

    /// Compares what all know of the packets so far, if nothing is under way on the link: of each client whose connection is quiet as well.
    pub(super) fn look_at_quiet(&mut self) {
        if self.is_saving || !self.ledger.has_picture || self.unrest_of_link().is_some() {
            return;
        }
        for number in 0..self.clients.len() {
            if !self.is_quiet(number) {
                continue;
            }
            self.ledger.reached("quiet");
            if let Some(text) = self.disagreement(number, false) {
                let text = format!("client {number}, in a quiet moment: {text}");
                return self.ledger.fail("K12", "37", text);
            }
        }
    }

    /// Returns whether nothing is under way between a client and the edge, and neither has anything to send.
    fn is_quiet(&mut self, number: usize) -> bool {
        let (client, now) = (&mut self.clients[number], self.now);
        let (Some(id), Some(conn)) = (client.id, client.conn) else {
            return false;
        };
        let is_here = |one: &Session| one.told == Told::Here && !one.is_paused;
        let works = client.stalled_until > now
            || !client.takes.is_empty()
            || client.machine.queued_packets() > 0
            || !client.machine.output().is_empty();
        let conn = &self.conns[conn];
        let all = self.setup.load.stream as usize;
        let is_empty = conn.up.room() == all && conn.down.room() == all && !conn.is_silent;
        let Some(key) = conn
            .key
            .filter(|_| client.is_established() && is_empty && !works)
        else {
            return false;
        };
        let output = self.edge.shard(conn.shard).client_output(key);
        let is_written = output.concat().is_empty();
        // It may wait for room at the client.
        let waits = |one: &SessionInfo| one.down.open_unsent > 0;
        let at_edge = self.edge.inspect(id);
        is_written
            && at_edge.is_some_and(|(_, one)| !waits(&one))
            && self.ledger.sessions.get(&id).is_some_and(is_here)
    }

    /// Returns what is under way on the link.
    fn unrest_of_link(&self) -> Option<String> {
        let gauges = self.edge.gauges();
        if self.host.edge().is_none() || !gauges.link_is_up {
            return Some("the link has not version 3".to_owned());
        }
        if !self.link_is_empty() || !self.edge.branches_are_empty() {
            return Some("something is under way on the link".to_owned());
        }
        if self.host.queued_packets() > 0 || !self.takes.is_empty() {
            return Some("the backend has work".to_owned());
        }
        let of_host = self.tap.unacknowledged_down();
        if of_host > 0 {
            return Some(format!(
                "{of_host} frames of the backend are not acknowledged"
            ));
        }
        let waits = gauges.link_packets + gauges.waiting + gauges.ending;
        (waits > 0).then(|| format!("the link is not acknowledged: {gauges:?}"))
    }

    /// Returns what is not at rest.
    fn unrest(&self) -> Option<String> {
        if self.is_saving {
            return Some("the edge ends in order".to_owned());
        }
        if let Some(text) = self.unrest_of_link() {
            return Some(text);
        }
        let gauges = self.edge.gauges();
        for (number, client) in self.clients.iter().enumerate() {
            if !client.is_established() {
                return Some(format!("client {number} is {:?}", client.machine.state()));
            }
            let Some(session) = client.id.and_then(|id| self.ledger.sessions.get(&id)) else {
                return Some(format!("client {number} has no session"));
            };
            let (id, machine) = (client.id.unwrap_or_default(), &client.machine);
            if session.told != Told::Here {
                return Some(format!(
                    "client {number} is {:?} at the backend",
                    session.told
                ));
            }
            if !client.takes.is_empty() {
                return Some(format!("client {number} has work"));
            }
            if machine.queued_packets() > 0 && !session.is_paused {
                return Some(format!("client {number}: {:?}", machine.ledgers()));
            }
            // To a client of version 2 a packet may be lost with its connection.
            let numbered = machine.ledgers().down.numbered;
            let came = !client.is_numbered || numbered == session.down.len() as u64;
            let settled = self.host.settled(ClientId::from_u64(id));
            let is_settled = settled == session.down.len() as u64;
            // Nothing of a paused client is read, so it settles nothing, and its ring may be full.
            if !(session.is_lax || session.is_paused || (came && is_settled)) {
                let (down, ledgers) = (session.down.len(), machine.ledgers());
                return Some(format!(
                    "client {number}: {down} packets down, {settled} settled, {ledgers:?}"
                ));
            }
        }
        // Sessions of which no client knows expire.
        let of_clients = self.clients.len();
        (gauges.sessions != of_clients).then(|| {
            format!(
                "the edge has {} sessions, and {of_clients} clients are there",
                gauges.sessions
            )
        })
    }

    /// Compares what the edge, the backend and the clients know.
    fn agree(&mut self) {
        let known: Vec<u64> = self.host.sessions().iter().map(|id| id.as_u64()).collect();
        let mut of_clients: Vec<u64> = self.clients.iter().filter_map(|one| one.id).collect();
        of_clients.sort_unstable();
        if known != of_clients {
            let text = format!("the backend knows {known:x?}, and {of_clients:x?} are there");
            return self.ledger.fail("K5", "35", text);
        }
        if !self.ledger.has_picture {
            let text = "the backend was not told that its picture is complete".to_owned();
            return self.ledger.fail("K5", "35.6(a)", text);
        }
        if let Some(text) = self.ledger.forgotten() {
            return self.ledger.fail("K5", "37.4(e)", text);
        }
        if let Some(text) = self.wrong_members() {
            return self.ledger.fail("K8", "36.2", text);
        }
        for number in 0..self.clients.len() {
            if let Some(text) = self.disagreement(number, true) {
                let text = format!("client {number}: {text}");
                return self.ledger.fail("K12", "37", text);
            }
        }
        self.look_at_pauses();
        let wrong = self.edge.faults();
        // An edge that has version 2 drops ASK as a malformed frame.
        if wrong != (0, 0) && !self.ledger.reach.contains_key("version 2 of the link") {
            let text = format!("the edge has counted {wrong:?} faults of the backend");
            self.ledger.fail("K11", "38.1", text);
        }
    }

    /// Returns the groups of the edge, if they are not those of the backend.
    fn wrong_members(&self) -> Option<String> {
        let mut expected = BTreeMap::<u64, Vec<u64>>::new();
        for id in self.ledger.here() {
            let groups = &self.ledger.sessions[&id].groups;
            for group in groups.iter().copied().chain([EVERYBODY]) {
                expected.entry(group).or_default().push(id);
            }
        }
        let of_edge = self.edge.groups();
        (of_edge != expected)
            .then(|| format!("the edge has the groups {of_edge:x?}, and {expected:x?} are meant"))
    }

    /// Returns what differs of a client. `is_at_rest`: also what is acknowledged late.
    fn disagreement(&self, number: usize, is_at_rest: bool) -> Option<String> {
        let client = &self.clients[number];
        let id = client.id?;
        let session = self.ledger.sessions.get(&id)?;
        let of_host = host_ledgers(&self.host, id)?;
        let of_client = client.machine.ledgers();
        if session.is_lax {
            return None;
        }
        let (up, down) = (of_host.up.numbered, of_host.down.numbered);
        let has_come = up == session.heard && down == session.down.len() as u64;
        let is_balanced = of_host.up.is_balanced() && of_host.down.is_balanced();
        let is_late = session.is_paused || !is_at_rest;
        let is_settled = of_host.down.acknowledged == down || is_late;
        let mut agrees = has_come && is_balanced && is_settled;
        if client.is_numbered {
            let (sent, got) = (of_client.up, of_client.down);
            agrees &= sent.is_balanced() && got.is_balanced();
            agrees &= session.is_paused || got.numbered == down;
            agrees &= session.is_paused
                || (sent.numbered == up && sent.acknowledged == up && session.taken == up);
        }
        let of_note = self.host.note(ClientId::from_u64(id));
        agrees &= of_note.is_some_and(|(_, is_here)| is_here);
        let heard = (session.heard, session.down.len());
        (!agrees).then(|| {
            format!("the backend has {of_host:?}, the client {of_client:?}, the ledger {heard:?}, {of_note:?}")
        })
    }

    /// A paused client is not read, and others are.
    fn look_at_pauses(&mut self) {
        for number in 0..self.clients.len() {
            let client = &self.clients[number];
            let (Some(id), Some(conn)) = (client.id, client.conn) else {
                continue;
            };
            let Some(key) = self.conns[conn].key else {
                continue;
            };
            let is_paused = self.ledger.session(id).is_paused;
            let shard = self.conns[conn].shard;
            let is_read = self.edge.shard(shard).read_budget(key) > 0;
            if is_paused == is_read {
                let text = format!("client {number} is paused: {is_paused}, read: {is_read}");
                self.ledger.fail("K10", "36.4", text);
            }
        }
    }
}

fn host_ledgers(host: &Host, id: u64) -> Option<voltlane_core::client::Ledgers> {
    host.ledgers(ClientId::from_u64(id))
}
