//! Points at which nothing is wrong and nothing is under way: there the edge, the backend, the clients and the ledger must agree.

use std::collections::BTreeMap;

use voltlane_core::ClientId;
use voltlane_core::backend::host::Host;

use super::World;
use super::ledger::Told;

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
        let slow = (self.setup.slow_nanos, self.setup.slow_host_nanos);
        (self.setup.slow_nanos, self.setup.slow_host_nanos) = (0, 0);
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
                (self.setup.slow_nanos, self.setup.slow_host_nanos) = slow;
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

    /// Returns what is not at rest.
    fn unrest(&self) -> Option<String> {
        let gauges = self.edge.gauges();
        if self.host.edge().is_none() || !gauges.link_is_up {
            return Some("the link has not version 3".to_owned());
        }
        if !self.link_is_empty() {
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
        if waits > 0 {
            return Some(format!("the link is not acknowledged: {gauges:?}"));
        }
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
            if let Some(text) = self.disagreement(number) {
                let text = format!("client {number}: {text}");
                return self.ledger.fail("K12", "37", text);
            }
        }
        self.look_at_pauses();
        let counters = self.edge.counters();
        let wrong = (counters.link_violations, counters.malformed_down);
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
        let ids = |ids: Vec<ClientId>| ids.iter().map(|id| id.as_u64()).collect();
        let groups = self.edge.groups().into_iter();
        let of_edge: BTreeMap<u64, Vec<u64>> = groups
            .map(|(group, members)| (group, ids(members)))
            .collect();
        (of_edge != expected)
            .then(|| format!("the edge has the groups {of_edge:x?}, and {expected:x?} are meant"))
    }

    fn disagreement(&self, number: usize) -> Option<String> {
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
        let is_settled = of_host.down.acknowledged == down || session.is_paused;
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
            let is_read = self.edge.read_budget(key) > 0;
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
