//! The direct engine for several shards: edges, their trunk, the backend, and clients that come back at any shard.
//!
//! Like [`engine`](crate::engine) it has one virtual clock and no async code. Its threads are played, and so are the adapters, exactly as
//! the contracts require. What changes hands between a shard and the trunk goes through the shipped `driver/src/exchange.rs`. The oracle is different: no model predicts the machines. A ledger judges the bytes that cross their interfaces, by payloads
//! that describe themselves (SPEC 9.9, with 1.4, 7.3, 7.6, 7.7, 9.1 to 9.6).
//!
//! | file | contents |
//! | --- | --- |
//! | `setup.rs` | what a seed draws before the run |
//! | `stream.rs` | one direction of a transport |
//! | `threads.rs` | the threads that serve the shards |
//! | `shard.rs`, `branch.rs` | the adapter of one shard, and its branch to the trunk |
//! | `trunk.rs` | the adapter of the trunk, and the backend |
//! | `clients.rs` | clients, and the faults of everybody |
//! | `closing.rs` | the end: everything recovers, everybody leaves, nothing is left |
//! | `ledger.rs`, `up.rs`, `down.rs` | the rules |

mod branch;
mod clients;
mod closing;
mod down;
#[path = "../../../driver/src/exchange.rs"]
pub(crate) mod exchange;
mod ledger;
#[path = "../../../driver/src/register.rs"]
mod register;
mod setup;
mod shard;
mod stream;
mod sync {
    pub(super) use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
}
mod threads;
mod trunk;
mod up;

use std::num::NonZeroU8;

use voltlane_core::edge::Edge;
use voltlane_core::edge::trunk::Trunk as Machine;

use crate::engine::host::time;
use crate::engine::identity::edge_pair;
use crate::hash::TraceHash;
use crate::ledgered::Outcome;
use crate::panics::panic_of;
use crate::rng::Rng;

use clients::{Client, Conn};
use closing::Closing;
use ledger::Ledger;
use setup::Setup;
use shard::Shard;
use threads::Thread;
use trunk::{Backend, Link};

/// The maximum number of rounds. More means that the run goes in circles.
const MOST_ROUNDS: u64 = 400_000;

/// Runs the plan that a seed draws.
#[must_use]
pub fn run(seed: u64) -> Outcome {
    run_with(seed, false)
}

/// Like [`run`], and records what happened.
#[must_use]
pub fn run_traced(seed: u64) -> Outcome {
    run_with(seed, true)
}

fn run_with(seed: u64, traced: bool) -> Outcome {
    let mut world = World::new(seed, traced);
    if let Some(text) = panic_of(|| world.run()) {
        world.ledger.fail("H1", "-", text);
    }
    Outcome {
        violation: world.ledger.violation.take(),
        hash: world.hash.value(),
        nanos: world.now,
        steps: world.steps,
        reach: world.ledger.reach,
        notes: world.notes.unwrap_or_default(),
    }
}

/// Kinds of events in the trace hash.
mod kind {
    pub(super) const CLIENT_BYTES: u8 = 1;
    pub(super) const CLIENT_WRITTEN: u8 = 2;
    pub(super) const CLIENT_CLOSED: u8 = 3;
    pub(super) const ACCEPTED: u8 = 4;
    pub(super) const HANDED_OVER: u8 = 5;
    pub(super) const BRANCH_UP: u8 = 6;
    pub(super) const BRANCH_DOWN: u8 = 7;
    pub(super) const LINK_BYTES: u8 = 8;
    pub(super) const LINK_WRITTEN: u8 = 9;
    pub(super) const LINK_STATE: u8 = 10;
    pub(super) const TIME: u8 = 11;
    pub(super) const MOVED: u8 = 12;
}

/// The whole state of a run.
struct World {
    setup: Setup,
    now: u64,
    rng: Rng,
    hash: TraceHash,
    steps: u64,
    notes: Option<Vec<String>>,
    machine: Machine,
    shards: Vec<Shard>,
    threads: Vec<Thread>,
    link: Link,
    backend: Backend,
    clients: Vec<Client>,
    conns: Vec<Conn>,
    ledger: Ledger,
    /// The number of operations to come, and when the next one is due.
    ops_left: u64,
    next_op: u64,
    closing: Option<Closing>,
    done: bool,
}

impl World {
    fn new(seed: u64, traced: bool) -> World {
        let setup = Setup::draw(seed);
        let mut bytes = [0; 32];
        Rng::fork(seed, "shards", 0).fill(&mut bytes);
        let shards = NonZeroU8::new(setup.shards).unwrap_or(NonZeroU8::MIN);
        let (machine, edges): (Machine, Vec<Edge>) =
            Machine::with_shards(&setup.config, edge_pair(), shards, bytes);
        World {
            now: 0,
            rng: Rng::fork(seed, "world of shards", 0),
            hash: TraceHash::default(),
            steps: 0,
            notes: traced.then(|| vec![format!("{setup:?}")]),
            machine,
            threads: threads::all(&setup, edges.len()),
            link: Link::new(edges.len()),
            shards: edges.into_iter().map(Shard::new).collect(),
            backend: Backend::default(),
            clients: (0..setup.clients).map(|_| Client::default()).collect(),
            conns: Vec::new(),
            ledger: Ledger::new(&setup),
            ops_left: setup.ops,
            next_op: 0,
            closing: None,
            done: false,
            setup,
        }
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(notes) = &mut self.notes {
            notes.push(format!("{:>12} us  {}", self.now / 1_000, text()));
        }
    }

    fn is_over(&self) -> bool {
        self.done || self.ledger.violation.is_some()
    }

    fn run(&mut self) {
        let mut rounds = 0;
        while !self.is_over() {
            self.ledger.now = self.now;
            let moved = self.round();
            if !self.is_over() {
                self.check_counts();
            }
            rounds += 1;
            if rounds > MOST_ROUNDS {
                let text = format!("nothing ends: {:?}", self.machine);
                return self.ledger.fail("A2", "-", text);
            }
            if moved {
                self.now += self.rng.below(self.setup.round_nanos) + 1;
            } else {
                self.now = self.next_instant();
            }
        }
        if let Some(violation) = &self.ledger.violation {
            let text = violation.to_string();
            self.note(|| format!("!! {text}"));
        }
    }

    /// Gives everybody one turn, in random order. Returns whether anything moved.
    fn round(&mut self) -> bool {
        let mut moved = self.operate();
        let threads = self.threads.len();
        let parties = threads + self.clients.len() + 2;
        let first = self.rng.below(parties as u64) as usize;
        let backwards = self.rng.chance(50);
        for step in 0..parties {
            let step = if backwards { parties - 1 - step } else { step };
            let party = (first + step) % parties;
            moved |= match party.checked_sub(threads) {
                None => self.thread_turn(party),
                Some(0) => self.trunk_turn(),
                Some(1) => self.backend_turn(),
                Some(client) => self.client_turn(client - 2),
            };
            if self.is_over() {
                return true;
            }
        }
        moved
    }

    /// Returns when anything can happen next, if nothing did now.
    fn next_instant(&self) -> u64 {
        let edges = self.shards.iter().filter_map(Shard::wants_turn_at);
        let trunk = self
            .machine
            .poll_timeout()
            .map(|due| due.at.as_nanos().max(self.link.paused_until));
        let others = [
            self.next_op,
            self.link.dial_at,
            self.link.full_until,
            self.link.paused_until,
            self.backend.stalled_until,
            self.closing.as_ref().map_or(0, |closing| closing.look_at),
        ];
        edges
            .chain(trunk)
            .chain(self.threads.iter().map(|thread| thread.stopped_until))
            .chain(others)
            .filter(|&at| at > self.now)
            .min()
            .unwrap_or(self.now + 1_000_000)
    }
}
