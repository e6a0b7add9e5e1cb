//! Crowds: floods of strangers, a visitor that must be admitted meanwhile, and a herd that reconnects.

use super::clients::source_address;
use super::peer::Stage;
use super::{Drop, End, Event, Lane, Mark, Peer, Role, World};
use crate::plan::{Action, Attempt, Flood, Join};

/// The time between two checks of a visitor or of the herd, in nanoseconds.
const LOOK: u64 = 20_000_000;
/// The time beyond the handshake deadline in which a visitor must be admitted. It covers refused connections and paths.
const VISIT_SLACK: u64 = 1_000_000_000;
/// The first and the longest step of a client's pauses, in nanoseconds (SPEC 4.6(d)).
const STEPS: (u64, u64) = (100_000_000, 5_000_000_000);
/// The time in which the herd must be back, beyond two handshake deadlines and what its edge allows per second.
const HERD_SLACK: u64 = 15_000_000_000;

/// A newcomer that must be admitted during a flood.
pub(super) struct Visit {
    since: u64,
    paused: u64,
    conn: Option<u32>,
}

/// All clients, on their way back.
pub(super) struct Herd {
    since: u64,
    /// For each client: whether it is back, the step of its pause, and when it tries again.
    clients: Vec<(bool, u64, u64)>,
}

impl World<'_> {
    /// Opens connection `number` of the flood of operation `op`.
    pub(super) fn flood(&mut self, op: usize, number: u64) {
        let plan = self.plan;
        let Action::Flood {
            kind,
            sources,
            count,
            ms,
        } = plan.ops[op].action
        else {
            return;
        };
        if number >= count || self.healed {
            return;
        }
        let rng = self.peer_rng();
        let client = (number % plan.options.clients) as usize;
        let sid = self.clients[client].sid;
        let conn = self.conns.len() as u32;
        let join = |join| (Role::Join(join), 0);
        let (role, claim) = match kind {
            Flood::Silent => join(Join::Mute),
            Flood::Version => join(Join::StallAfterVersion),
            Flood::Half => join(Join::HalfFrame),
            Flood::Drip => join(Join::Slow),
            Flood::Churn | Flood::Stay => join(Join::Normal),
            Flood::Wrong => (Role::Attempt(Attempt::Wrong), sid.unwrap_or(number)),
            Flood::Stall => (Role::Attempt(Attempt::Stall), sid.unwrap_or(number)),
            Flood::Guess => (
                Role::Attempt(Attempt::Wrong),
                number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            ),
        };
        let mut peer = match role {
            Role::Join(_) => self.newcomer(role, client, rng),
            _ => Peer::new(role, client, super::identity::STRANGER, claim, rng),
        };
        let source = number % sources.max(1);
        peer.address = source_address(4_000 + 4 * source + source % 3, conn);
        peer.leaves = kind == Flood::Churn;
        self.open(peer);
        let next = number + 1;
        let began = plan.ops[op].at_us * 1_000;
        let at = began + ms * 1_000_000 * next / count.max(1);
        self.at(at.max(self.now), Event::Flood(op, next));
    }

    pub(super) fn visit(&mut self) {
        let (since, paused) = (self.now, self.paused_so_far());
        self.visits.push(Visit {
            since,
            paused,
            conn: None,
        });
        self.look_at_visit(self.visits.len() - 1);
    }

    pub(super) fn look_at_visit(&mut self, number: usize) {
        let visit = &self.visits[number];
        let (since, conn) = (visit.since, visit.conn);
        let paused = self.paused - visit.paused;
        let peer = conn.map(|conn| &self.conns[conn as usize].peer);
        if self.healed || self.model.is_shutting_down() {
            return;
        }
        if let Some(conn) = conn
            && peer.is_some_and(|peer| peer.stage == Stage::Established && !peer.gone)
        {
            self.model.visited();
            return self.leave(conn, End::Fin);
        }
        let allowed = self.plan.options.handshake_timeout_ms * 1_000_000 + VISIT_SLACK + paused;
        if self.now > since + allowed {
            let text = format!("a visitor that came at {since} is not let in");
            return self.model.fail("L6", "10.6", text);
        }
        if peer.is_none_or(|peer| peer.gone) {
            // All others have a number below that of the last client.
            let client = self.clients.len() - 1;
            let mut peer = self.newcomer(Role::Join(Join::Normal), client, self.peer_rng());
            peer.address = source_address(400_000 + 4 * number as u64, 0);
            let conn = self.open(peer);
            self.visits[number].conn = Some(conn);
        }
        self.at(self.now + LOOK, Event::Visit(number));
    }

    pub(super) fn send_all(&mut self, count: u64, bytes: u64) {
        for client in 0..self.plan.options.clients as usize {
            self.client_sends(client, count, bytes as usize);
        }
    }

    pub(super) fn scatter(&mut self, how: Drop) {
        // Everybody has moved, so what an address did before is not held against it.
        self.healed = true;
        let now = self.now;
        let clients = 0..self.plan.options.clients as usize;
        for client in clients.clone() {
            self.unstall(client);
            self.client_drops(client, how);
        }
        self.herd = Some(Herd {
            since: now + self.paused_until.saturating_sub(now),
            clients: clients.map(|_| (false, STEPS.0, now)).collect(),
        });
        self.at(now + LOOK, Event::Herd);
    }

    pub(super) fn look_at_herd(&mut self) {
        let Some(mut herd) = self.herd.take() else {
            return;
        };
        let (now, options) = (self.now, &self.plan.options);
        for (client, (back, step, again_at)) in herd.clients.iter_mut().enumerate() {
            *back |= self.is_established(client);
            if *back || self.is_trying(client) || now < *again_at {
                continue;
            }
            *again_at = now + self.rng.below(*step);
            *step = (*step * 2).min(STEPS.1);
            self.start_again(client);
        }
        let paced = match options.accept_rate {
            0 => 0,
            rate => options.clients * 4_000_000_000 / rate,
        };
        let most = HERD_SLACK + paced + 2_000_000 * options.handshake_timeout_ms;
        match herd.clients.iter().position(|(back, _, _)| !back) {
            None => {
                self.model.herded();
                self.note(Lane::Edge, Lane::Edge, Mark::Fault, || {
                    "everybody is back".to_string()
                });
            }
            Some(client) if now > herd.since + most => {
                let text = format!("client {client} is not back");
                self.model.fail("L8", "10.6", text);
            }
            Some(_) => {
                self.herd = Some(herd);
                self.at(now + LOOK, Event::Herd);
            }
        }
    }
}
