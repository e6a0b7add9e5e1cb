//! Exhaustive checks: every order of steps within a scope, on the machine itself, with stateright.
//!
//! Random runs find much; within a small scope nothing is left to chance. A state is a whole machine with its model and its clients
//! (`scene`). The same oracle as in the direct engine judges every step. Two states count as one if everything that SPEC.txt mentions is
//! the same in both. Whatever else the machine keeps (the order within a hash table, a spare buffer) is assumed not to matter, and in this
//! the check is weaker than its name.

pub mod link;
pub mod resume;
mod scene;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stateright::{Checker, HasDiscoveries, Model as _, Property};

use crate::model::Reach;
use crate::plan::Attempt;

use scene::Scene;

/// The bounds of a scope. Each number counts down to 0 along a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Number of clients.
    pub clients: usize,
    /// Connections opened, by anybody.
    pub connections: u32,
    /// Who may open a connection for a client's session.
    pub roles: &'static [Who],
    /// Packets from clients.
    pub up: u32,
    /// Packets from the backend.
    pub down: u32,
    /// Kicks.
    pub kicks: u32,
    /// Connections ended by their peer.
    pub drops: u32,
    /// Losses of the backend link.
    pub link_losses: u32,
    /// Partial writes of a transport.
    pub parts: u32,
    /// Deadlines of the edge that pass.
    pub ticks: u32,
    /// Capacity of a client queue, in packets.
    pub client_queue_packets: u64,
    /// Capacity of the link queue, in packets.
    pub link_queue_packets: u64,
    /// Maximum number of sessions that are away.
    pub max_stale_clients: u64,
}

/// The scopes by name. The first three are small enough for every test run and together reach everything in `REACHED`. `large` takes
/// minutes.
pub const SCOPES: &[(&str, Bounds)] = &[
    ("takeover", TAKEOVER),
    ("away", AWAY),
    ("link", LINK),
    ("large", LARGE),
];

/// One client resumes while its connection is alive, and a stranger tries to as well.
const TAKEOVER: Bounds = Bounds {
    clients: 1,
    roles: &[Who::Itself, Who::Stranger(Attempt::Echo)],
    up: 1,
    down: 1,
    ticks: 2,
    ..NOTHING
};

/// One client goes away, packets wait for it, and it comes back or expires.
const AWAY: Bounds = Bounds {
    clients: 1,
    connections: 2,
    roles: &[Who::Itself],
    down: 2,
    drops: 1,
    parts: 1,
    ticks: 3,
    ..NOTHING
};

/// Two clients share a link that is lost, writes partially, and is full.
const LINK: Bounds = Bounds {
    connections: 2,
    up: 3,
    kicks: 1,
    link_losses: 1,
    parts: 1,
    ..NOTHING
};

/// Everything at once.
const LARGE: Bounds = Bounds {
    roles: &[Who::Itself, Who::Stranger(Attempt::Echo)],
    up: 1,
    down: 1,
    kicks: 1,
    drops: 1,
    link_losses: 1,
    parts: 1,
    ticks: 3,
    ..NOTHING
};

const NOTHING: Bounds = Bounds {
    clients: 2,
    connections: 3,
    roles: &[],
    up: 0,
    down: 0,
    kicks: 0,
    drops: 0,
    link_losses: 0,
    parts: 0,
    ticks: 0,
    client_queue_packets: 2,
    link_queue_packets: 2,
    max_stale_clients: 2,
};

/// Who opens a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// A new client.
    Newcomer,
    /// The client, coming back.
    Itself,
    /// A stranger without the key, or without the patience.
    Stranger(Attempt),
}

/// One step of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Open a connection for a client's session, or for a new one.
    Connect(usize, Who),
    /// The edge reads everything from the peer of a connection.
    Says(u32),
    /// The transport of a connection takes everything that waits.
    Takes(u32),
    /// The transport takes one byte.
    TakesPart(u32),
    /// The peer ends the connection.
    Drops(u32),
    /// The adapter closes it, as the edge asked.
    Close(u32),
    /// A client sends a packet.
    Up(usize),
    /// The backend sends a packet to a client.
    Down(usize),
    /// The backend kicks a client.
    Kick(usize),
    /// The link comes up.
    LinkUp,
    /// The link takes everything that waits.
    LinkTakes,
    /// The link takes half of what waits.
    LinkTakesPart,
    /// The link is lost.
    LinkLost,
    /// The next deadline passes.
    Tick,
}

/// The result of checking a scope.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// States generated, including duplicates: one per transition.
    pub transitions: usize,
    /// Distinct states.
    pub states: usize,
    /// The length of the longest path.
    pub depth: usize,
    /// What was reached on some path.
    pub met: Vec<&'static str>,
    /// What should have been reached and was not. The scope proves nothing about it.
    pub missing: Vec<&'static str>,
    /// A path to a broken rule, and the rule.
    pub broken: Option<(String, Vec<Step>)>,
}

/// Checks every order of steps within `bounds`, for at most `time`.
#[must_use]
pub fn check(bounds: Bounds, threads: usize, time: Option<Duration>) -> Verdict {
    let scope = Scope {
        bounds,
        met: [const { AtomicBool::new(false) }; REACHED.len()],
    };
    let mut checker = scope
        .checker()
        .threads(threads.max(1))
        .finish_when(HasDiscoveries::AnyFailures);
    if let Some(time) = time {
        checker = checker.timeout(time);
    }
    let checker = checker.spawn_dfs().join();
    let broken = checker.discoveries().into_values().find_map(|path| {
        let violation = path.last_state().scene.violation()?.to_string();
        Some((violation, path.into_actions()))
    });
    let met = checker.model().met.iter().zip(REACHED);
    let (met, missing): (Vec<_>, Vec<_>) = met.partition(|(met, _)| met.load(Ordering::Relaxed));
    let names =
        |list: Vec<(_, &(&'static str, _))>| list.iter().map(|(_, (name, _))| *name).collect();
    Verdict {
        transitions: checker.state_count(),
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        met: names(met),
        missing: names(missing),
        broken,
    }
}

/// The scope as a stateright model.
struct Scope {
    bounds: Bounds,
    /// What was reached so far. It does not distinguish states.
    met: [AtomicBool; REACHED.len()],
}

/// A state and its fingerprint.
#[derive(Clone)]
struct State {
    scene: Box<Scene>,
    fingerprint: u64,
}

impl State {
    fn new(scene: Box<Scene>) -> State {
        let fingerprint = scene.fingerprint();
        State { scene, fingerprint }
    }

    fn obeys(&self, rules: &[&str]) -> bool {
        let violation = self.scene.violation();
        violation.is_none_or(|violation| !rules.contains(&violation.id))
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.fingerprint.hash(hasher);
    }
}

impl PartialEq for State {
    fn eq(&self, other: &State) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "state {:016x}", self.fingerprint)
    }
}

/// Counts how often something happened on the way to a state.
type Count = fn(&Reach) -> u64;

/// What some path must reach. Otherwise the scope proves nothing about it.
const REACHED: &[(&str, Count)] = &[
    ("a resume", |reach| reach.resumed),
    ("missed packets sent", |reach| reach.replayed),
    ("a takeover", |reach| reach.takeover),
    ("a proof refused", |reach| reach.refused),
    ("a link lost within a packet", |reach| reach.link_cut),
    ("a packet down cut", |reach| reach.down_cut),
    ("a handshake timed out", |reach| reach.handshake_timeout),
    ("a kick", |reach| {
        reach.ended.get("kicked").copied().unwrap_or(0)
    }),
    ("a session expired", |reach| {
        reach.ended.get("expired").copied().unwrap_or(0)
    }),
];

impl stateright::Model for Scope {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(Box::new(Scene::new(self.bounds.clone())))]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        state.scene.steps(actions);
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut scene = last.scene.clone();
        scene.take(step);
        for (met, (_, count)) in self.met.iter().zip(REACHED) {
            if count(scene.model().reach()) > 0 {
                met.store(true, Ordering::Relaxed);
            }
        }
        Some(State::new(scene))
    }

    fn properties(&self) -> Vec<Property<Scope>> {
        vec![
            Property::always("isolation", |_, state: &State| {
                state.obeys(&["S1", "S2", "S3"])
            }),
            Property::always("one attachment", |_, state: &State| {
                state.obeys(&["S4", "S5"])
            }),
            Property::always("a failed proof has no effect", |_, state: &State| {
                state.obeys(&["S6", "S7", "S8"])
            }),
            Property::always(
                "order, nothing lost and nothing twice",
                |_, state: &State| state.obeys(&["S9", "S10", "S11", "S12"]),
            ),
            Property::always("every other rule", |_, state: &State| {
                state.scene.violation().is_none()
            }),
        ]
    }
}
