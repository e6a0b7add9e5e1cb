//! The direct engine for version 3: an edge, its backend, clients of both versions, and people who repeat, steal and disturb.
//!
//! Like [`engine`](crate::engine) it has one virtual clock and no async code. Clients are the core's own machines. No model predicts the
//! machines here. A tap on each connection has all secrets, derives all keys by itself and reads every record, and a ledger
//! judges what it reads, and what applications see, by sections 18 to 26 of SPEC.txt.
//!
//! | file | contents |
//! | --- | --- |
//! | `setup.rs` | what a seed draws: bounds, and everything that is to happen |
//! | `keys.rs`, `items.rs`, `tap.rs` | keys, records and items, written from SPEC.txt without the core's code |
//! | `fates.rs` | what becomes of packets down that are superseded, given up or never sent |
//! | `ledger.rs` | what is owed to each session, and the rules; `ledger/items.rs` judges the items of records |
//! | `edge.rs`, `backend.rs` | the adapter of the edge, and the backend |
//! | `clients.rs` | clients and their applications |
//! | `crowd.rs` | many clients at small bounds, and floods of forged openings: `sim crowd` |
//! | `restart.rs` | the edge ends in order, and another process goes on with its sessions |
//! | `strangers.rs` | who repeats flights, steals secrets, claims with version 2, or sends anything |
//! | `volume.rs` | many packets with few checks: `sim volume` |
//! | `closing.rs` | the end: everything recovers, everybody is back within three attempts, everybody leaves, nothing is left |

mod backend;
mod clients;
mod closing;
mod crowd;
mod edge;
mod fates;
mod items;
mod keys;
mod ledger;
mod restart;
mod setup;
mod strangers;
mod tap;
mod volume;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use voltlane_core::client::Code;
use voltlane_core::edge::testkit::Adapter as _;
use voltlane_core::edge::{CloseReason, ConnKey, Edge, GoAwayCode};

use crate::audited::Audited;
use crate::engine::host::time;
use crate::engine::identity::edge_pair;
use crate::engine::pipe::Pipe;
use crate::hash::TraceHash;
use crate::ledgered::{Course, Outcome, Runs, kind};
use crate::recorded;
use crate::rng::Rng;

use backend::{Link, Plain};
use clients::Client;
use closing::Closing;
use crowd::Paces;
use ledger::{Judged, Leaving, Ledger, Watch};
use restart::Counted;
use setup::{Due, Op, Setup};
use tap::{Claim, Common, Down, Seen, Tap, Up};

pub use crowd::{run_crowd, run_crowd_traced, shrink_crowd};
pub use volume::{Volume, run_volume};

/// The rules of this engine that [`RULES`](crate::model::RULES) does not have.
pub const RULES: &[(&str, &str)] = &[
    (
        "V0",
        "every record opens with the keys of SPEC 20, and no key seals two values with one nonce",
    ),
    (
        "V1",
        "a number is of one packet, in both directions, on every connection",
    ),
    (
        "V2",
        "an attempt is accepted once, if its counter is above all accepted ones",
    ),
    (
        "V3",
        "an Answer tells the truth, and nobody gives a living session up",
    ),
    (
        "V4",
        "the owner hears of everybody else who resumed its session, and of nobody who did not",
    ),
    ("V5", "RESUMED comes first, and says where both ends are"),
    ("V6", "only what was taken is acknowledged"),
    ("V7", "what is sent and not acknowledged fits the ring"),
    (
        "V8",
        "no packet is given up where there is room, or where the backend did not ask for it",
    ),
    (
        "V9",
        "a connection ends with the code of its reason, and nothing follows CLOSE",
    ),
    ("V10", "ledgers add up, and say what happened"),
    (
        "V11",
        "the owner is back within three attempts on a network without faults",
    ),
    (
        "V12",
        "once nothing is wrong, everything arrives, and both rings become empty",
    ),
    (
        "V13",
        "a goodbye is answered, and everything before it has arrived",
    ),
    (
        "V14",
        "on a network without faults a connection lasts, and its client asks whether it does",
    ),
    (
        "V15",
        "a client that is asked to leave does so in that time, and none is sent away before",
    ),
    ("V16", "a session that has room does not end for want of it"),
    (
        "V17",
        "a packet is superseded by a newer one of its key alone, and of each key the last one comes",
    ),
    (
        "V18",
        "a session whose packets may be given up does not end for want of room",
    ),
    (
        "V19",
        "a VOLATILE is sent once, in its order, and those that are not sent are counted",
    ),
    (
        "V20",
        "a flood refuses no client of another address, and takes no place from one that has claimed",
    ),
    (
        "V21",
        "what the edge holds stays within its bound but for what nobody can give up, and all of it counts",
    ),
];

/// Counts packets that reached the backend or a client of version 3.
pub const DELIVERED: &str = "packet delivered";
/// Counts values that were sealed.
pub const SEALED: &str = "value sealed";

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

/// Runs a seed of many packets, over drops and lost replies.
#[must_use]
pub fn run_bulk(seed: u64) -> Outcome {
    run_with(Setup::draw_bulk(seed), false)
}

fn run_with(setup: Setup, traced: bool) -> Outcome {
    outcome_of(World::new(setup, traced))
}

fn outcome_of(mut world: World) -> Outcome {
    let mut outcome = world.outcome();
    let sealed = world.common.used.len() as u64;
    let counted = [(DELIVERED, world.ledger.delivered), (SEALED, sealed)];
    outcome.reach.extend(counted);
    outcome
}

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Client(usize),
    /// Somebody repeats what a client has written.
    Watcher,
    /// Somebody who has a client's secrets.
    Thief,
    Stranger,
    /// A stranger in this network, one of many.
    Flood(u8),
    /// A stranger at the address of a client, one of many.
    Neighbour(usize),
}

/// A connection, both ends.
struct Conn {
    owner: Owner,
    key: Option<ConnKey>,
    opened_at: u64,
    up: Pipe,
    down: Pipe,
    tap: Tap,
    watch: Watch,
    session: Option<usize>,
    claim: Option<Claim>,
    random: [u8; 32],
    /// What was written up before anything came down.
    flight: Vec<u8>,
    up_seen: VecDeque<Seen<Up>>,
    down_seen: VecDeque<Seen<Down>>,
    up_read: u64,
    down_read: u64,
    /// Nothing arrives down, and after something was written the network fails.
    loses_reply: bool,
    is_silent: bool,
    /// Whether its Join record is among what the edge is given now.
    joins: bool,
    /// Whether the edge has refused its attempt, or its join.
    is_refused: bool,
    /// Why the edge has closed it.
    reason: Option<CloseReason>,
}

impl Conn {
    /// Its network takes everything and delivers nothing more.
    fn silence(&mut self) {
        self.up.go_silent();
        self.down.go_silent();
        self.is_silent = true;
    }

    /// Its Claim is judged now.
    fn judged(&mut self, ledger: &Ledger) {
        if let Some(session) = self.session.filter(|_| self.watch.accepted.is_none()) {
            let entry = &ledger.sessions[session];
            self.watch.judged = Judged {
                highest: entry.highest,
                at: ledger.now,
                had_begun: entry.has_begun,
            };
        }
    }
}

struct World {
    setup: Setup,
    now: u64,
    rng: Rng,
    /// Of which class packets down are.
    classes: Rng,
    hash: TraceHash,
    steps: u64,
    notes: Option<Vec<String>>,
    edge: Audited,
    common: Common,
    ledger: Ledger,
    clients: Vec<Client>,
    conns: Vec<Conn>,
    /// How many processes of the edge have ended, and what they counted.
    restarts: u64,
    counted: Counted,
    /// The connections that the edge has.
    live: Vec<usize>,
    link: Link,
    plain: BTreeMap<u64, Plain>,
    plan: VecDeque<Due>,
    wakes: BTreeSet<u64>,
    closing: Option<Closing>,
    is_done: bool,
    /// What of the pace of accepts is left in a crowd, at least.
    paces: Paces,
    /// How many floods came after everything else, and when the next one may.
    late_floods: (u32, u64),
}

impl Runs for World {
    const MOST_ROUNDS: u64 = 2_000_000;

    fn course(&mut self) -> Course<'_> {
        Course {
            now: &mut self.now,
            rng: &mut self.rng,
            round_nanos: self.setup.round_nanos,
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
        if number.is_multiple_of(64) {
            self.edge.audit();
        }
        moved
    }

    fn next_instant(&mut self) -> u64 {
        let now = self.now;
        self.wakes = self.wakes.split_off(&(now + 1));
        self.edge.skip_listed();
        let edge = self.edge.poll_timeout().map(|due| due.at.as_nanos());
        let clients = self.clients.iter().filter_map(Client::wants_turn_at);
        let others = [
            self.plan.front().map_or(0, |due| due.at),
            self.link.stalled_until,
            self.closing.as_ref().map_or(0, Closing::looks_at),
        ];
        edge.into_iter()
            .chain(clients)
            .chain(self.wakes.first().copied())
            .chain(others)
            .map(|at| at.max(now + 1))
            .filter(|&at| at > now + 1 || edge.is_some_and(|due| due <= now))
            .min()
            .unwrap_or(now + 1_000_000)
    }
}

impl World {
    fn new(setup: Setup, traced: bool) -> World {
        let mut seed = [0; 32];
        Rng::fork(setup.seed, "edge of version 3", 0).fill(&mut seed);
        let mut edge = Edge::new(setup.config.clone(), edge_pair().clone(), seed);
        recorded::attach(&mut edge, &seed);
        edge.link_up(time(0));
        World {
            now: 0,
            rng: Rng::fork(setup.seed, "world of version 3", 0),
            classes: Rng::fork(setup.seed, "classes of version 3", 1),
            hash: TraceHash::default(),
            steps: 0,
            notes: traced.then(|| vec![format!("{setup:?}")]),
            edge: Audited::new(edge),
            common: Common {
                edge: keys::Edge::new(edge_pair()),
                used: keys::Used::default(),
                chains: BTreeMap::new(),
            },
            ledger: Ledger {
                expiry: setup.config.clients.stale_timeout.as_nanos() as u64,
                most_away: if setup.is_crowd {
                    setup.config.limits.sources.stale_sessions
                } else {
                    0
                },
                ..Ledger::default()
            },
            clients: (0..setup.clients + setup.plain)
                .map(|number| Client::new(&setup, number))
                .collect(),
            conns: Vec::new(),
            restarts: 0,
            counted: Counted::default(),
            live: Vec::new(),
            link: Link::default(),
            plain: BTreeMap::new(),
            plan: setup.plan().into(),
            wakes: BTreeSet::new(),
            closing: None,
            is_done: false,
            paces: Paces::new(&setup),
            late_floods: (0, 0),
            setup,
        }
    }

    /// Gives everybody one turn, in random order. Returns whether anything moved.
    fn turns(&mut self) -> bool {
        self.vanish();
        let mut moved = self.operate();
        let parties = self.clients.len() + 2;
        let first = self.rng.below(parties as u64) as usize;
        for step in 0..parties {
            moved |= match (first + step) % parties {
                0 => self.edge_turn(),
                1 => self.backend_turn(),
                client => self.turn_of(client - 2),
            };
            if self.is_over() {
                return true;
            }
        }
        moved |= self.others_turn();
        moved
    }

    fn entropy(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.rng.fill(&mut bytes);
        bytes
    }

    fn chunk(&mut self) -> usize {
        let most = self.setup.chunk;
        self.rng.between(1, most) as usize
    }

    /// Begins a connection. `None`: the edge refuses it.
    fn open(&mut self, owner: Owner, random: [u8; 32]) -> Option<usize> {
        let peer = self.address(owner);
        let accepted = self.edge.handle_accepted(time(self.now), peer);
        if self.setup.is_crowd {
            self.connects(owner, accepted.err());
        }
        let key = accepted.ok()?;
        let number = self.conns.len();
        let pipe = |way: u64| {
            let rng = Rng::fork(self.setup.seed, "pipe", number as u64 * 2 + way);
            Pipe::new(self.setup.stream, self.setup.delay_us, rng)
        };
        self.conns.push(Conn {
            owner,
            key: Some(key),
            opened_at: self.now,
            up: pipe(0),
            down: pipe(1),
            tap: Tap::new(random),
            watch: Watch::default(),
            session: None,
            claim: None,
            random,
            flight: Vec::new(),
            up_seen: VecDeque::new(),
            down_seen: VecDeque::new(),
            up_read: 0,
            down_read: 0,
            loses_reply: false,
            is_silent: false,
            joins: false,
            is_refused: false,
            reason: None,
        });
        self.live.push(number);
        Some(number)
    }

    // ---- what happens

    /// Networks fail, of which only their clients learn.
    fn vanish(&mut self) {
        for client in 0..self.clients.len() {
            let state = &mut self.clients[client];
            let Some(conn) = state
                .conn
                .filter(|_| state.vanishes > 0 && state.is_established())
            else {
                continue;
            };
            state.vanishes -= 1;
            state.machine.drop_connection();
            self.conns[conn].silence();
            self.ledger.reached("vanished");
        }
    }

    fn operate(&mut self) -> bool {
        if self.closing.is_some() {
            return self.close();
        }
        let Some(due) = self.plan.front().copied() else {
            self.begin_closing();
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
        let conn = self.clients[client].conn;
        match op {
            Op::Up { packets, bytes } => {
                for _ in 0..packets {
                    self.send_up(client, bytes as usize);
                }
            }
            Op::Down { packets, bytes } => {
                for _ in 0..packets {
                    self.send_down(client, bytes as usize);
                }
            }
            Op::Reset => {
                if let Some(conn) = conn {
                    self.reset(conn);
                }
            }
            Op::HangUp => self.clients[client].machine.drop_connection(),
            Op::Silence => {
                if let Some(conn) = conn {
                    self.conns[conn].silence();
                }
            }
            Op::LoseReply => self.clients[client].loses_reply = true,
            Op::Stall { nanos } => self.clients[client].stalled_until = self.now + nanos,
            Op::Kick => self.kick(client),
            Op::Goodbye => self.clients[client].close(self.now),
            Op::Vanish { times } => self.clients[client].vanishes = times,
            Op::Leave { within } => {
                let code = match within % 2 {
                    0 => GoAwayCode::Restart,
                    _ => GoAwayCode::GoingAway,
                };
                // GOAWAY tells whole milliseconds, and the edge closes when it has told.
                self.ledger.leavings.push(Leaving {
                    code: Code::from(code).to_u16().into(),
                    at: self.now + within / 1_000_000 * 1_000_000,
                });
                let within = Duration::from_nanos(within);
                self.edge.handle_leaving(time(self.now), code, within);
            }
            Op::Repeat { back, cut } => self.repeat(client, back as usize, cut as usize),
            Op::Steal { ahead, claims_less } => self.steal(client, ahead, claims_less),
            Op::Downgrade => self.downgrade(client),
            Op::Stranger { kind, draws } => self.stranger(kind, draws),
            Op::LinkStall { nanos } => self.link.stalled_until = self.now + nanos,
            Op::LinkLoss => self.lose_link(),
            Op::Restart => self.restart(),
            Op::Flood { count, draws } => self.flood(client, count, draws),
            Op::Leap { nanos } => {
                self.now += nanos;
                self.ledger.now = self.now;
                self.ledger.leapt += nanos;
            }
        }
    }
}
