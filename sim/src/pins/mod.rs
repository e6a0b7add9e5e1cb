//! The engine for several backends of one edge (SPEC 45): sessions that go from one to another by order and when theirs is dead, with clients,
//! links, shards and backends that fail.
//!
//! Like [`link3`](crate::link3) it has one virtual clock and no async code. All machines are the core's own. A ledger mirrors what is owed to
//! each session wherever it is, and a tap reads every frame of each link without the core's code.
//!
//! | file | contents |
//! | --- | --- |
//! | `setup.rs` | what a seed draws: bounds, and everything that is to happen |
//! | `ledger.rs` | what is owed to each session, and the rules |
//! | `backends.rs` | the links, and the backends with their applications |
//! | `shards.rs` | the adapter of the shards and their trunks |
//! | `clients.rs` | clients and their networks |
//! | `rest.rs` | points at which nothing is under way, where all must agree, and what is tried from there |

mod backends;
mod clients;
mod ledger;
mod rest;
mod setup;
mod shards;

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroU8;

use voltlane_core::edge::BackendControl;
use voltlane_core::edge::trunk::Trunk;

use crate::audited::Audited;
use crate::clients::{Client, Drives as _};
use crate::engine::host::time;
use crate::engine::identity::edge_pair;
use crate::hash::TraceHash;
use crate::ledgered::{Course, Outcome, Runs, kind};
use crate::rng::Rng;

use backends::Backend;
use clients::Conn;
use ledger::Ledger;
use rest::Rest;
use setup::{Due, Op, Setup};
use shards::Shard;

/// The rules of this engine. Those of each link are K4, K7 and K11 of [`link3`](crate::link3::RULES).
pub const RULES: &[(&str, &str)] = &[
    (
        "N1",
        "a packet up comes to one backend, once and in order, and what a dead one did not acknowledge to the next one again",
    ),
    (
        "N2",
        "a packet down comes once and in order, under one number, whatever backend it is of",
    ),
    (
        "N3",
        "one backend at a time has a session, and one that has it no longer hears nothing of it",
    ),
    ("N4", "a session is told before all else, and its end once"),
    (
        "N5",
        "groups, pauses and keys end with the stay at a backend, and the note goes along",
    ),
    ("N6", "a session ends for its reason"),
    ("N7", "a backend that drains gets no newcomer"),
    (
        "N8",
        "the id stays, and a claim is handed over once, to where the session is",
    ),
    (
        "N9",
        "at rest nothing is under way, nobody is left at a backend that was ordered away, and all agree on who is where",
    ),
    ("N10", "clients of other backends do not notice a slow one"),
    (
        "N11",
        "the sessions of a backend that is down for long go to others",
    ),
];

/// Counts packets that reached an application.
pub const DELIVERED: &str = "packet delivered";

/// Runs the plan that a seed draws.
#[must_use]
pub fn run(seed: u64) -> Outcome {
    run_with(Setup::draw(seed), false)
}

/// Like [`run`], and records what happened.
#[must_use]
pub fn run_traced(seed: u64) -> Outcome {
    run_with(Setup::draw(seed), true)
}

/// Runs a small plan with two moves, in which a link is cut behind this many bytes of all links together.
#[must_use]
pub fn run_cut(seed: u64, bytes: u64) -> Outcome {
    run_with(Setup::draw_cut(seed, bytes), false)
}

/// Like [`run`], with clients that read nothing while their sessions go to another backend.
#[must_use]
pub fn run_deaf(seed: u64) -> Outcome {
    run_with(Setup::draw_deaf(seed), false)
}

fn run_with(setup: Setup, traced: bool) -> Outcome {
    let mut world = World::new(setup, traced);
    let mut outcome = world.outcome();
    outcome.reach.insert(DELIVERED, world.ledger.delivered);
    outcome
}

struct World {
    setup: Setup,
    now: u64,
    rng: Rng,
    hash: TraceHash,
    steps: u64,
    notes: Option<Vec<String>>,
    trunks: Vec<Trunk>,
    shards: Vec<Shard>,
    control: BackendControl,
    backends: Vec<Backend>,
    ledger: Ledger,
    clients: Vec<Client>,
    conns: Vec<Conn>,
    /// The connections that the edge has.
    live: Vec<usize>,
    plan: VecDeque<Due>,
    wakes: BTreeSet<u64>,
    rest: Option<Rest>,
    is_done: bool,
    /// Packets down so far: each has a number of its own.
    sent_down: u32,
    /// Sessions that went to another shard so far.
    moves: u64,
    /// Bytes on all links so far.
    link_bytes: u64,
}

impl Runs for World {
    const MOST_ROUNDS: u64 = 1_000_000;

    fn course(&mut self) -> Course<'_> {
        Course {
            now: &mut self.now,
            rng: &mut self.rng,
            round_nanos: self.setup.load.round_nanos,
            hash: &self.hash,
            steps: self.steps,
            notes: &mut self.notes,
            violation: &mut self.ledger.violation,
            reach: &mut self.ledger.reach,
        }
    }

    fn is_over(&self) -> bool {
        self.is_done || self.ledger.violation.is_some()
    }

    fn fail(&mut self, id: &'static str, section: &'static str, text: String) {
        self.ledger.fail(id, section, text);
    }

    fn round(&mut self, _: u64) -> bool {
        self.ledger.now = self.now;
        self.look_at_links();
        self.turns()
    }

    fn next_instant(&mut self) -> u64 {
        let now = self.now;
        self.wakes = self.wakes.split_off(&(now + 1));
        let nanos = |at: voltlane_core::Time| at.as_nanos();
        let shards = self.shards.iter().flat_map(|shard| {
            let due = shard.edge.poll_timeout().map(|due| nanos(due.at));
            [due.map(|due| due.max(shard.stalls)), Some(shard.stalls)]
        });
        let trunks = self.trunks.iter();
        let trunks = trunks.map(|trunk| trunk.poll_timeout().map(|due| nanos(due.at)));
        let backends = self.backends.iter().flat_map(|one| {
            let due = one.host.poll_timeout().map(nanos);
            [due, one.takes.next_at(), Some(one.stalls)]
        });
        let clients = self.clients.iter().map(Client::wants_turn_at);
        let others = [
            self.plan.front().map(|due| due.at),
            self.rest.as_ref().map(|rest| rest.looks_at),
            self.wakes.first().copied(),
        ];
        let all = shards.chain(trunks).chain(backends).chain(clients);
        // What was due before did not move anybody.
        all.chain(others)
            .flatten()
            .filter(|at| *at > now)
            .min()
            .unwrap_or(now + 1_000_000)
    }
}

impl World {
    fn new(setup: Setup, traced: bool) -> World {
        let mut seed = [0; 32];
        Rng::fork(setup.seed, "edge of pins", 0).fill(&mut seed);
        let each = NonZeroU8::new(setup.each as u8).unwrap_or(NonZeroU8::MIN);
        let (trunks, edges) = Trunk::with_backends(&setup.config, edge_pair(), each, seed);
        let shards: Vec<Shard> = edges
            .into_iter()
            .map(|edge| Shard::new(Audited::new(edge)))
            .collect();
        World {
            now: 0,
            rng: Rng::fork(setup.seed, "world of pins", 0),
            hash: TraceHash::default(),
            steps: 0,
            notes: traced.then(|| vec![format!("{setup:?}")]),
            trunks,
            control: shards[0].edge.backends(),
            shards,
            backends: (0..setup.backends)
                .map(|number| Backend::new(&setup, number))
                .collect(),
            ledger: Ledger::new(&setup),
            clients: (0..setup.clients + setup.plain)
                .map(|number| clients::begin(&setup, number, 0))
                .collect(),
            conns: Vec::new(),
            live: Vec::new(),
            plan: setup.plan().into(),
            wakes: BTreeSet::new(),
            rest: None,
            is_done: false,
            sent_down: 0,
            moves: 0,
            link_bytes: 0,
            setup,
        }
    }

    /// Gives everybody one turn, in random order. Returns whether anything moved.
    fn turns(&mut self) -> bool {
        let mut moved = self.operate();
        let (shards, backends) = (self.shards.len(), self.backends.len());
        let parties = shards + 2 * backends + self.clients.len();
        let first = self.rng.below(parties as u64) as usize;
        for step in 0..parties {
            if self.is_over() {
                return true;
            }
            let party = (first + step) % parties;
            moved |= if party < shards {
                self.shard_turn(party)
            } else if party < shards + backends {
                self.trunk_turn(party - shards)
            } else if party < shards + 2 * backends {
                self.host_turn(party - shards - backends)
            } else {
                self.client_turn(party - shards - 2 * backends)
            };
        }
        self.live.retain(|conn| !self.conns[*conn].is_over);
        moved
    }

    fn chunk(&mut self) -> usize {
        let most = self.setup.load.chunk;
        self.rng.between(1, most) as usize
    }

    // ---- what happens

    fn operate(&mut self) -> bool {
        if self.rest.is_some() {
            return self.look_at_rest();
        }
        let Some(due) = self.plan.front().copied() else {
            self.begin_rest(Op::Rest, 0, true);
            return true;
        };
        if due.at > self.now {
            return false;
        }
        self.plan.pop_front();
        self.note(|| format!("{due:?}"));
        self.hash.add(self.now, kind::OP, due.client as u64, &[]);
        self.perform(due);
        true
    }

    fn perform(&mut self, due: Due) {
        let Due {
            client, backend, ..
        } = due;
        match due.op {
            Op::Up { packets, bytes } => {
                (0..packets).for_each(|_| self.clients[client].send_up(bytes))
            }
            Op::Down { packets, bytes } => {
                (0..packets).for_each(|_| self.send_down(client, bytes, None));
            }
            Op::Latest { key, packets } => {
                (0..packets).for_each(|_| self.send_down(client, 0, Some(key)));
            }
            Op::Member { group, joins } => self.change_member(client, group, joins),
            Op::Many { group } => self.send_to_many(backend, group),
            Op::Pause { pauses } => self.pause(client, pauses),
            Op::Note => self.set_note(client),
            Op::Kick => self.kick(client),
            Op::Goodbye => self.say_goodbye(client),
            Op::Reset => {
                if let Some(conn) = self.clients[client].conn {
                    self.reset(conn);
                }
            }
            Op::HangUp => self.clients[client].machine.drop_connection(),
            Op::Silence => self.silence(client),
            Op::Stall { nanos } => self.clients[client].stalled_until = self.now + nanos,
            Op::Cut => self.cut(backend),
            Op::HostStall { nanos } => self.backends[backend].stalls = self.now + nanos,
            Op::Outage { nanos, boots } => self.outage(backend, nanos, boots),
            Op::ShardStall { nanos } => {
                let shard = self.rng.below(self.shards.len() as u64) as usize;
                self.shards[shard].stalls = self.now + nanos;
            }
            Op::Move { moves } => self.order(backend, moves),
            Op::Drain { drains } => self.drain(backend, drains),
            Op::Leap { nanos } => {
                self.now += nanos;
                self.ledger.now = self.now;
            }
            Op::Rest | Op::ProbeSlow | Op::ProbeDead => self.begin_rest(due.op, backend, false),
        }
    }

    /// What an operator does who has the sessions of a backend go to others, or undoes it: the order and the drain go together.
    fn order(&mut self, backend: usize, moves: bool) {
        self.drain(backend, moves);
        self.ledger
            .reached(if moves { "ordered" } else { "order undone" });
        let standing = &mut self.ledger.backends[backend];
        standing.is_ordered = moves;
        standing.was_ordered |= moves;
        for shard in &mut self.shards {
            shard.edge.handle_move(time(self.now), backend as u8, moves);
        }
    }

    fn drain(&mut self, backend: usize, drains: bool) {
        if !drains && self.ledger.backends[backend].is_ordered {
            // The end of a drain ends the moves.
            return self.order_ends(backend);
        }
        assert!(self.control.drain(backend as u8, drains), "it is there");
        let since = &mut self.ledger.backends[backend].draining_since;
        match drains {
            true => drop(since.get_or_insert(self.now)),
            false => *since = None,
        }
    }

    fn order_ends(&mut self, backend: usize) {
        self.ledger.backends[backend].is_ordered = false;
        for shard in &mut self.shards {
            shard.edge.handle_move(time(self.now), backend as u8, false);
        }
        self.drain(backend, false);
    }
}
