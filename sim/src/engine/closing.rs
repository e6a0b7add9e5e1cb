//! The second phase. The faults are over for a healthy set of clients, and everything must recover for them in a bounded time. The others
//! stay as broken as they are.

use voltlane_core::edge::Closed;

use super::peer::Stage;
use super::{End, Event, Lane, Mark, World};
use crate::plan::{Action, Join, Plan};

/// The time between two checks, in nanoseconds.
const LOOK: u64 = 100_000_000;
/// The virtual time in which everything must recover: the link's longest pause, handshakes, and packets on slow paths.
const BOUND: u64 = 90_000_000_000;
/// The percentage of clients that are healthy.
const HEALTHY_PERCENT: u64 = 80;
/// The data bytes of this phase's packets.
const BYTES: usize = 24;

/// The progress of the second phase.
pub(super) struct Closing {
    /// The deadline.
    until: u64,
    targets: Vec<Target>,
    /// Set once all clients have left: the instant at which nothing may be left.
    empty_at: Option<u64>,
}

/// One healthy client.
struct Target {
    client: usize,
    /// Completed rounds of a packet up and a packet down.
    rounds: u64,
    /// What the backend and the client had received when the current round began, if one is under way.
    round: Option<(u64, u64, u32)>,
}

/// Returns the longest time in which a client pays for what the plan makes it send (SPEC 10.6(h)). All of it may be unpaid.
fn longest_payment(plan: &Plan) -> u64 {
    let options = &plan.options;
    let time = |amount: u64, rate: u64, burst: u64| {
        // A client that sent too much is looked at in 100 ms, and has no more than its burst in hand then.
        let rate = rate.min(burst * 10);
        (amount * 1_000_000_000).checked_div(rate).unwrap_or(0)
    };
    let mut sent = vec![(0, 0); options.clients as usize];
    for op in &plan.ops {
        let (clients, count, bytes) = match op.action {
            Action::Send {
                client,
                count,
                bytes,
            } => (client..client + 1, count, bytes),
            Action::SendAll { count, bytes } => (0..sent.len(), count, bytes),
            _ => continue,
        };
        for (frames, total) in sent.get_mut(clients).into_iter().flatten() {
            *frames += count;
            *total += count * (4 + bytes);
        }
    }
    let times = sent.into_iter().map(|(frames, total)| {
        let frames = time(frames, options.pace_frames, options.pace_frames_burst);
        let bytes = time(total, options.pace_bytes, options.pace_bytes_burst);
        frames.max(bytes)
    });
    times.max().unwrap_or(0)
}

/// Returns the longest time until each client was accepted once more after a connection that came to nothing (SPEC 10.6(a) and (k)). All may come
/// back at once.
fn longest_wait(plan: &Plan) -> u64 {
    let options = &plan.options;
    let rates = [options.accept_rate, options.listener_rate];
    let waits = rates.map(|rate| {
        (2 * options.clients * 1_000_000_000)
            .checked_div(rate)
            .unwrap_or(0)
    });
    waits.into_iter().max().unwrap_or(0)
}

impl World<'_> {
    pub(super) fn look_whether_well(&mut self) {
        if self.model.is_shutting_down() {
            return;
        }
        if self.herd.is_some() {
            return self.at(self.now + LOOK, Event::Closing);
        }
        match self.closing.take() {
            None => self.begin_closing(),
            Some(closing) if closing.empty_at.is_some_and(|at| at <= self.now) => {
                self.end_run();
            }
            Some(closing) if closing.empty_at.is_some() => self.closing = Some(closing),
            Some(mut closing) => {
                self.push_on(&mut closing);
                self.closing = Some(closing);
            }
        }
        if !self.done {
            let empty_at = self.closing.as_ref().and_then(|closing| closing.empty_at);
            self.at(empty_at.unwrap_or(self.now + LOOK), Event::Closing);
        }
    }

    fn begin_closing(&mut self) {
        self.note(Lane::Edge, Lane::Edge, Mark::Fault, || {
            "the faults are over".to_string()
        });
        self.paused_until = 0;
        self.healed = true;
        let options = &self.plan.options;
        let has_few_places = options.max_sessions < 1 << 20
            || options.max_connections < 1_024
            || options.listener_connections > 0;
        if has_few_places {
            // A silent client keeps its session as long as its network lets it, and so does one that left it behind.
            for conn in 0..self.conns.len() as u32 {
                let peer = &self.conns[conn as usize].peer;
                if peer.gone {
                    self.at(self.now + LOOK, Event::GiveUp(conn));
                } else if self.clients[peer.client].conn != Some(conn) {
                    self.leave(conn, End::Rst);
                }
            }
        }
        self.backend.refuses = false;
        if self.link.as_ref().is_some_and(|link| link.silent) {
            self.link_lost(Closed::Error);
        }
        self.backend_unstalls();
        let mut targets = Vec::new();
        for client in 0..self.plan.options.clients as usize {
            if client == 0 || self.rng.chance(HEALTHY_PERCENT) {
                self.unstall(client);
                targets.push(Target {
                    client,
                    rounds: 0,
                    round: None,
                });
            }
        }
        self.closing = Some(Closing {
            until: self.now + BOUND + longest_payment(self.plan) + longest_wait(self.plan),
            targets,
            empty_at: None,
        });
    }

    fn push_on(&mut self, closing: &mut Closing) {
        let wanted = self.plan.options.closing_packets;
        // If there are few places, not all connect at once.
        let options = &self.plan.options;
        let few = (1..1_024).contains(&options.max_half_open) || options.max_connections < 1_024;
        let mut places = if few { 2 } else { usize::MAX };
        for target in closing
            .targets
            .iter_mut()
            .filter(|target| target.rounds < wanted)
        {
            let waits = !self.is_established(target.client);
            if waits && places == 0 {
                continue;
            }
            places -= usize::from(waits);
            self.push_target(target);
        }
        let late = self.now > closing.until;
        match closing.targets.iter().find(|target| target.rounds < wanted) {
            None => self.leave_all(closing),
            Some(_) if !late => {}
            Some(_) if self.link.is_none() => {
                self.model.fail(
                    "L1",
                    "7.6(e)",
                    "the link does not come up again".to_string(),
                );
            }
            Some(target) => {
                let attached = self.is_established(target.client);
                let text = format!(
                    "client {} is healthy, attached: {attached}, rounds: {}",
                    target.client, target.rounds
                );
                self.model
                    .fail(if attached { "L3" } else { "L2" }, "1.4", text);
            }
        }
    }

    pub(super) fn is_established(&self, client: usize) -> bool {
        self.clients[client].conn.is_some_and(|conn| {
            let state = &self.conns[conn as usize];
            state.open
                && !state.peer.gone
                && !state.peer.broken
                && state.peer.stage == Stage::Established
        })
    }

    /// Returns whether a client is in a handshake that can still succeed.
    pub(super) fn is_trying(&self, client: usize) -> bool {
        self.clients[client].conn.is_some_and(|conn| {
            let peer = &self.conns[conn as usize].peer;
            !peer.gone && !peer.broken && !peer.slow && peer.stage != Stage::Stalled
        })
    }

    fn push_target(&mut self, target: &mut Target) {
        let client = target.client;
        if !self.is_established(client) {
            target.round = None;
            if !self.is_trying(client) {
                self.start_again(client);
            }
            return;
        }
        if self.link.is_none() {
            return;
        }
        let received = self
            .backend
            .received
            .get(&(client as u32))
            .copied()
            .unwrap_or(0);
        let generation = self.generation;
        match target.round {
            Some((up, down, link)) if link == generation => {
                if received > up && self.clients[client].received > down {
                    target.rounds += 1;
                    target.round = None;
                }
            }
            _ => {
                target.round = Some((received, self.clients[client].received, generation));
                self.client_sends(client, 1, BYTES);
                self.backend_sends(client, BYTES);
            }
        }
    }

    pub(super) fn start_again(&mut self, client: usize) {
        if let Some(conn) = self.clients[client].conn {
            self.leave(conn, End::Rst);
        }
        match self.clients[client].sid {
            Some(_) => self.resume(client),
            None => self.connect(client, Join::Normal),
        }
    }

    /// Makes everybody leave. From here on only time passes.
    fn leave_all(&mut self, closing: &mut Closing) {
        self.note(Lane::Edge, Lane::Edge, Mark::Fault, || {
            "everybody leaves".to_string()
        });
        for client in 0..self.plan.options.clients as usize {
            self.unstall(client);
        }
        for conn in 0..self.conns.len() as u32 {
            self.leave(conn, End::Rst);
            self.at(self.now + 30_000_000_000, Event::GiveUp(conn));
        }
        let options = &self.plan.options;
        let millis = options.stale_timeout_ms + options.reap_interval_ms + 60_000;
        closing.empty_at = Some(self.now + millis * 1_000_000);
    }

    fn end_run(&mut self) {
        self.done = true;
        self.model.check_end();
        self.model.check_counters(&self.host);
        let gauges = self.host.edge.gauges();
        let left = [
            gauges.connections,
            gauges.half_open,
            gauges.sessions,
            gauges.away,
            gauges.waiting,
        ];
        let left_on_link = [gauges.link_packets, gauges.link_bytes];
        if left.iter().chain(&left_on_link).any(|left| *left > 0) {
            self.model.fail(
                "H2",
                "8.3(b)",
                format!("the world is empty, and the edge has {gauges:?}"),
            );
        }
    }
}
