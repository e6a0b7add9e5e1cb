//! The end of a run: the faults are over, everything recovers in a bounded time, everybody leaves, and nothing is left.

use std::time::Duration;

use super::World;
use super::stream::End;

/// The virtual time in which everything must recover: the link's longest pause, handshakes, and takeovers that wait.
const WELL_WITHIN: u64 = 60_000_000_000;
/// The time between two checks, in nanoseconds.
const LOOK: u64 = 20_000_000;
/// How long a shutdown may take.
const SHUTDOWN: Duration = Duration::from_secs(10);
/// The number of packets each way that show that a client has recovered.
const ROUNDS: u64 = 2;

/// The progress of the end.
pub(super) struct Closing {
    since: u64,
    pub(super) look_at: u64,
    stage: Stage,
    /// For each client: its session, and what the backend and the client had received when it was found established.
    rounds: Vec<Option<(usize, u64, u64)>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Healing,
    ShuttingDown,
    Leaving { until: u64 },
}

impl World {
    pub(super) fn begin_closing(&mut self) {
        self.note(|| "the faults are over".to_string());
        self.heal();
        let mut stage = Stage::Healing;
        if self.setup.ends_by_shutdown && self.rng.chance(50) {
            // In the middle of everything.
            self.shut_down(SHUTDOWN);
            stage = Stage::ShuttingDown;
        }
        self.closing = Some(Closing {
            since: self.now,
            look_at: self.now,
            stage,
            rounds: vec![None; self.clients.len()],
        });
    }

    /// Works on the end of the run. Returns whether anything was done.
    pub(super) fn close_down(&mut self) -> bool {
        let Some(mut closing) = self.closing.take() else {
            return false;
        };
        let due = closing.look_at <= self.now;
        if due {
            closing.look_at = self.now + LOOK;
            match closing.stage {
                Stage::Healing => self.push_on(&mut closing),
                Stage::ShuttingDown => self.look_whether_finished(&closing),
                Stage::Leaving { until } if self.now >= until => self.check_empty(),
                Stage::Leaving { until } => closing.look_at = until,
            }
        }
        self.closing = Some(closing);
        due
    }

    fn push_on(&mut self, closing: &mut Closing) {
        let mut well = 0;
        for client in 0..self.clients.len() {
            well += usize::from(self.push_client(client, &mut closing.rounds[client]));
        }
        if well == self.clients.len() {
            return self.all_are_well(closing);
        }
        if self.now > closing.since + WELL_WITHIN {
            let text = match self.clients.iter().position(|client| client.conn.is_none()) {
                _ if self.link.streams.is_none() => "there is no link".to_string(),
                Some(client) => format!("client {client} has no connection"),
                None => format!("{well} of {} clients are well", self.clients.len()),
            };
            self.ledger.fail("L3", "1.4", text);
        }
    }

    /// Returns whether this client has shown that it has recovered.
    fn push_client(&mut self, client: usize, round: &mut Option<(usize, u64, u64)>) -> bool {
        if !self.is_well(client) {
            *round = None;
            if !self.is_trying(client) {
                self.client_drops(client, End::Rst);
                self.come_back(client);
            }
            return false;
        }
        let Some(session) = self.clients[client].session else {
            return false;
        };
        let state = &self.ledger.sessions[session];
        let (heard, received) = (state.heard, state.received);
        let (before, heard_before, received_before) =
            *round.get_or_insert((session, heard, received));
        let rounds = (heard - heard_before).min(received - received_before);
        if before == session && rounds >= ROUNDS {
            return true;
        }
        // One at a time: bounds may permit only one.
        if heard - heard_before < ROUNDS && state.owed_up.is_empty() {
            self.client_sends_one(client);
        }
        let state = &self.ledger.sessions[session];
        if received - received_before < ROUNDS && state.owed_down.is_empty() && state.heard > 0 {
            self.backend_sends(session, 20);
        }
        false
    }

    fn client_sends_one(&mut self, client: usize) {
        let (burst, payload) = (self.setup.burst, self.setup.payload);
        (self.setup.burst, self.setup.payload) = (1, 20);
        self.client_sends(client);
        (self.setup.burst, self.setup.payload) = (burst, payload);
    }

    fn all_are_well(&mut self, closing: &mut Closing) {
        closing.since = self.now;
        if self.setup.ends_by_shutdown {
            self.note(|| "all are well; a shutdown".to_string());
            self.shut_down(SHUTDOWN);
            closing.stage = Stage::ShuttingDown;
            return;
        }
        self.note(|| "all are well, and leave".to_string());
        for conn in 0..self.conns.len() as u32 {
            self.leave(conn, End::Rst);
        }
        let clients = &self.setup.config.clients;
        let gone = clients.stale_timeout + clients.stale_reap_interval + Duration::from_secs(20);
        closing.stage = Stage::Leaving {
            until: self.now + gone.as_nanos() as u64,
        };
    }

    fn look_whether_finished(&mut self, closing: &Closing) {
        let late = self.now > closing.since + SHUTDOWN.as_nanos() as u64 + 1_000_000_000;
        if self.link.finished && self.shards.iter().all(|shard| shard.finished) {
            self.done = true;
            self.ledger.reached("shutdown");
            if self.now < closing.since + SHUTDOWN.as_nanos() as u64 {
                self.ledger.check_handed_over();
            }
            self.ledger.check_sources();
        } else if late {
            let text = "a shutdown does not come to its end".to_string();
            self.ledger.fail("L7", "9.8(a)", text);
        }
    }

    fn check_empty(&mut self) {
        self.done = true;
        self.ledger.check_handed_over();
        self.ledger.check_all_ended();
        self.ledger.check_sources();
        for (number, shard) in self.shards.iter().enumerate() {
            let left = shard.edge.gauges();
            let all = [
                left.connections,
                left.half_open,
                left.sessions,
                left.away,
                left.waiting,
                left.link_packets,
                left.held_bytes,
            ];
            if all.iter().any(|&left| left > 0) {
                let text = format!("the world is empty, and shard {number} has {left:?}");
                return self.ledger.fail("H2", "8.3(b)", text);
            }
        }
        let left = self.machine.gauges();
        if left.held_bytes > 0 || left.link_packets > 0 {
            let text = format!("the world is empty, and the trunk has {left:?}");
            return self.ledger.fail("H2", "9.9", text);
        }
        self.check_sources_are_free();
    }

    /// Checks that each source may have its maximum number of connections: none that has ended is still counted.
    fn check_sources_are_free(&mut self) {
        let limit = self.setup.config.limits.sources.connections;
        let half_open = self.setup.config.limits.max_half_open;
        if !(1..=6).contains(&limit) || (1..=6).contains(&half_open) {
            return;
        }
        let now = super::time(self.now);
        for source in 0..self.setup.sources {
            for place in 0..=limit {
                let shard = place % self.shards.len();
                let address = super::shard::address(source);
                let taken = self.shards[shard].edge.handle_accepted(now, address);
                if taken.is_ok() != (place < limit) {
                    let text =
                        format!("source {source} may have {limit}, {place} are there: {taken:?}");
                    return self.ledger.fail("H2", "9.9(g)", text);
                }
            }
        }
    }
}
