//! The engine for version 3 of the backend link: an edge, a backend's host, and clients of both versions, any of which may fail.
//!
//! Like [`engine`](crate::engine) it has one virtual clock and no async code. All three machines are the core's own. A ledger mirrors what
//! both applications were promised, a tap reads every frame of the link without the core's code, and both judge by sections 33 to 38 of
//! SPEC.txt.
//!
//! | file | contents |
//! | --- | --- |
//! | `setup.rs` | what a seed draws: bounds, and everything that is to happen |
//! | `ledger.rs` | what is owed to each session, and the rules |
//! | `tap.rs` | what crosses the link, read by itself |
//! | `link.rs` | the link, and the backend with its application |
//! | `clients.rs` | clients, their networks and the adapter of the edge |
//! | `leaving.rs` | clients that the backend asks to leave |
//! | `process.rs` | the edge's process: one machine, or several shards and their trunk |
//! | `saving.rs` | the orderly end of a process, and another one that goes on with what it has saved |
//! | `rest.rs` | points at which nothing is wrong and nothing is under way, where all three must agree |

mod clients;
mod leaving;
mod ledger;
mod link;
mod process;
mod rest;
mod saving;
mod setup;
pub(crate) mod tap;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use voltlane_core::ClientId;
use voltlane_core::backend::host::{Host, HostConfig};

use crate::clients::{Client, Drives as _};
use crate::engine::host::time;
use crate::hash::TraceHash;
use crate::ledgered::{Course, Outcome, Runs, kind};
use crate::rng::Rng;
use crate::takes::Takes;

use clients::Conn;
use ledger::Ledger;
use link::{Link, Take};
use process::Process;
use rest::Rest;
pub use setup::Besides;
use setup::{Due, Op, Setup};
use tap::Tap;

/// The rules of this engine that [`RULES`](crate::model::RULES) does not have.
pub const RULES: &[(&str, &str)] = &[
    (
        "K1",
        "a packet up comes to the application once in a boot, or once if it saves its counts, in order, and under one number",
    ),
    (
        "K2",
        "only what the application has taken is acknowledged, to a client and to a new boot",
    ),
    (
        "K3",
        "a packet down comes once, under the number that the host gave it, unless a newer one takes its place",
    ),
    (
        "K4",
        "JOINED comes first and once, notices follow what happened, ENDED comes once and last",
    ),
    ("K5", "host, edge and clients have one picture"),
    ("K6", "only what a client has taken is settled"),
    (
        "K7",
        "frames are counted, sent again as they were, and acknowledged truthfully",
    ),
    ("K8", "exactly the members of a group are sent to"),
    ("K9", "a session ends for its reason, and is told it"),
    ("K10", "a paused client is not read, and others are"),
    ("K11", "no end of the link breaks it"),
    ("K12", "at rest nothing waits, and all ledgers agree"),
    (
        "K13",
        "whom the backend asks to leave does so in that time, and nobody else, and none is sent away before",
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

/// Runs a small plan of an edge with so many shards, whose link is cut behind this many bytes of both directions together. What is `besides`
/// happens then.
#[must_use]
pub fn run_cut(seed: u64, shards: u8, besides: Besides, bytes: u64) -> Outcome {
    run_with(Setup::draw_cut(seed, shards, besides, bytes), false)
}

/// Like [`run_cut`], and records what happened.
#[must_use]
pub fn run_cut_traced(seed: u64, shards: u8, besides: Besides, bytes: u64) -> Outcome {
    run_with(Setup::draw_cut(seed, shards, besides, bytes), true)
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
    edge: Process,
    /// Whether the edge ends in order.
    is_saving: bool,
    /// The processes of the edge so far, and their runs.
    terms: u32,
    runs: Vec<[u8; 8]>,
    host: Host,
    boots: u64,
    /// Whom the application asked to leave, and the milliseconds that it gave them.
    asks: Vec<(Option<u64>, u64)>,
    /// How many clients this process of the edge was to send away.
    sent_away: u64,
    /// What the application is busy with.
    takes: Takes<Take>,
    link: Option<Link>,
    tap: Tap,
    /// Until then the backend reads nothing.
    host_stalls: u64,
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
    /// Bytes on the link so far.
    link_bytes: u64,
    /// Whether the link was just cut where it had to be.
    was_cut: bool,
}

fn host_of(setup: &Setup, boot: u64) -> Host {
    let mut name = [0; 16];
    Rng::fork(setup.seed, "boot", boot).fill(&mut name);
    Host::new(HostConfig::default().asking(name))
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

    fn round(&mut self, number: u64) -> bool {
        self.ledger.now = self.now;
        let moved = self.turns();
        if !moved && !self.is_over() {
            self.look_at_quiet();
        }
        if number.is_multiple_of(64) {
            self.edge.audit();
        }
        moved
    }

    fn next_instant(&mut self) -> u64 {
        let now = self.now;
        self.wakes = self.wakes.split_off(&(now + 1));
        let edge = self.edge.poll_timeout();
        let host = self.host.poll_timeout().map(|at| at.as_nanos());
        let clients = self.clients.iter().filter_map(Client::wants_turn_at);
        let others = [
            self.plan.front().map_or(0, |due| due.at),
            self.host_stalls,
            self.takes.next_at().unwrap_or(0),
            self.rest.as_ref().map_or(0, |rest| rest.looks_at),
        ];
        edge.into_iter()
            .chain(host)
            .chain(clients)
            .chain(self.wakes.first().copied())
            .chain(others)
            .map(|at| at.max(now + 1))
            .filter(|&at| at > now + 1 || [edge, host].iter().flatten().any(|&due| due <= now + 1))
            .min()
            .unwrap_or(now + 1_000_000)
    }
}

impl World {
    fn new(setup: Setup, traced: bool) -> World {
        let edge = Process::new(&setup, setup.shards, (1, &[]), None);
        World {
            now: 0,
            rng: Rng::fork(setup.seed, "world of the link", 0),
            hash: TraceHash::default(),
            steps: 0,
            notes: traced.then(|| vec![format!("{setup:?}")]),
            runs: vec![edge.run()],
            edge,
            is_saving: false,
            terms: 1,
            host: host_of(&setup, 0),
            boots: 0,
            asks: Vec::new(),
            sent_away: 0,
            takes: Takes::default(),
            link: None,
            tap: Tap::new(setup.shards.into()),
            host_stalls: 0,
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
            link_bytes: 0,
            was_cut: false,
            setup,
        }
    }

    /// Gives everybody one turn, in random order. Returns whether anything moved.
    fn turns(&mut self) -> bool {
        let mut moved = self.operate();
        let parties = self.clients.len() + 2;
        let first = self.rng.below(parties as u64) as usize;
        for step in 0..parties {
            if self.is_over() {
                return true;
            }
            moved |= match (first + step) % parties {
                0 => self.edge_turn(),
                1 => self.host_turn(),
                client => self.client_turn(client - 2),
            };
        }
        moved
    }

    fn chunk(&mut self) -> usize {
        let most = self.setup.load.chunk;
        self.rng.between(1, most) as usize
    }

    // ---- what happens

    fn operate(&mut self) -> bool {
        if std::mem::take(&mut self.was_cut) {
            match self.setup.with_cut {
                Besides::Nothing => {}
                Besides::Boot => self.boot(),
                Besides::Restart => self.restart(),
                Besides::Save => self.begin_saving(Duration::from_millis(20)),
            }
        }
        if self.rest.is_some() {
            return self.look_at_rest();
        }
        let Some(due) = self.plan.front().copied() else {
            self.begin_rest(true);
            return true;
        };
        if due.at > self.now {
            return false;
        }
        self.plan.pop_front();
        self.note(|| format!("client {}: {:?}", due.client, due.op));
        self.hash.add(self.now, kind::OP, due.client as u64, &[]);
        self.perform(due.client, due.op);
        true
    }

    fn perform(&mut self, client: usize, op: Op) {
        match op {
            Op::Up { packets, bytes } => {
                (0..packets).for_each(|_| self.clients[client].send_up(bytes))
            }
            Op::Down { packets, bytes } => (0..packets).for_each(|_| {
                self.send_down(client, bytes);
            }),
            Op::Latest { key, packets } => {
                (0..packets).for_each(|_| self.send_latest(client, key));
            }
            Op::Volatile { packets } => (0..packets).for_each(|_| self.send_volatile(client)),
            Op::Join { group } => self.change_member(client, group, true),
            Op::Part { group } => self.change_member(client, group, false),
            Op::Many {
                group,
                kind,
                packets,
            } => {
                (0..packets).for_each(|_| self.send_to_many(client, group, kind));
            }
            Op::Pause { pauses } => self.pause(client, pauses),
            Op::Kick { code } => self.kick(client, code),
            Op::Ask { all, within } => self.ask_to_leave(client, all, within),
            Op::Note => self.set_note(client),
            Op::Goodbye => self.say_goodbye(client),
            Op::Reset => {
                if let Some(conn) = self.clients[client].conn {
                    let draws = Rng::fork(self.setup.seed, "proofs", conn as u64).chance(50);
                    let state = &mut self.clients[client];
                    state.cuts_proof = draws && !state.is_numbered;
                    self.reset(conn);
                }
            }
            Op::HangUp => self.clients[client].machine.drop_connection(),
            Op::Silence => self.silence(client),
            Op::Stall { nanos } => self.clients[client].stalled_until = self.now + nanos,
            Op::Cut => self.cut(),
            Op::Leave => self.host_hangs_up(),
            Op::HostStall { nanos } => self.host_stalls = self.now + nanos,
            Op::Boot => self.boot(),
            Op::Restart => self.restart(),
            Op::Save { within } => self.begin_saving(within),
            Op::Leap { nanos } => {
                self.now += nanos;
                self.ledger.now = self.now;
            }
            Op::Rest => self.begin_rest(false),
        }
    }

    /// The edge dies, and another process takes its place.
    fn restart(&mut self) {
        self.ledger.reached("edge restarted");
        for conn in self.live.clone() {
            self.conns[conn].key = None;
            self.reset_pipes(conn);
        }
        self.live.clear();
        self.cut();
        (self.link, self.is_saving) = (None, false);
        self.terms += 1;
        let shards = self.edge.shards() as u8;
        self.edge = Process::new(&self.setup, shards, (self.terms, &self.runs), None);
        self.runs.push(self.edge.run());
        self.ledger.restarted();
        self.sent_away = 0;
        self.host.handle_closed();
    }

    /// The backend dies, and another process takes its place, which knows nothing.
    fn boot(&mut self) {
        self.ledger.reached("backend restarted");
        self.cut();
        self.boots += 1;
        self.host = host_of(&self.setup, self.boots);
        self.takes.clear();
        if let Some(link) = &mut self.link {
            link.is_at_host = false;
        }
        let saved = self.ledger.booted(self.setup.saves);
        for (id, up) in saved {
            self.host.restore(ClientId::from_u64(id), up);
            self.ledger.reached("restored");
        }
        // It sends to those of whom another process has told it.
        if self.rng.chance(50) {
            self.send_early();
        }
    }

    fn connect_edge(&mut self) -> bool {
        let now = time(self.now);
        let edge = self.edge.link();
        if !edge.link_wants_connect(now) {
            return false;
        }
        edge.handle_link_connecting(now);
        edge.handle_link_connected(now);
        self.open_link();
        true
    }
}
