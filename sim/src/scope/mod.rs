//! Exhaustive: every order of steps within a scope, over the machine itself, with stateright.
//!
//! Chance finds much; within a small scope nothing is left to it. A state is a whole machine with the model beside it
//! and the clients around it (`scene`); the same oracle that judges the runs of the direct engine judges every step.
//! Two states in which everything that SPEC.txt speaks of is the same are one. What the machine keeps beyond that (the
//! order within a hash table, a spare buffer) is taken not to matter: this is where the check is weaker than its name.

mod scene;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stateright::{Checker, HasDiscoveries, Model as _, Property};

use crate::model::Reach;
use crate::plan::Attempt;

use scene::Scene;

/// How much may happen in a scope; every number counts down to 0 along a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Clients.
    pub clients: usize,
    /// Connections opened, by anybody.
    pub connections: u32,
    /// As whom a connection is opened to a client's session.
    pub roles: &'static [Who],
    /// Packets of clients.
    pub up: u32,
    /// Packets of the backend.
    pub down: u32,
    /// Kicks.
    pub kicks: u32,
    /// Connections that their peer ends.
    pub drops: u32,
    /// Times that the backend is lost.
    pub link_losses: u32,
    /// Times that a transport takes a part of what waits.
    pub parts: u32,
    /// Times that the edge is told that its next deadline has come.
    pub ticks: u32,
    /// Packets that may wait for one client.
    pub client_queue_packets: u64,
    /// Packets that may wait for the backend.
    pub link_queue_packets: u64,
    /// Clients that may be away.
    pub max_stale_clients: u64,
}

/// The scopes that are looked at, by name. The first three are small enough for every test run and meet together what
/// `REACHED` lists; `large` takes minutes.
pub const SCOPES: &[(&str, Bounds)] = &[
    ("takeover", TAKEOVER),
    ("away", AWAY),
    ("link", LINK),
    ("large", LARGE),
];

/// One client comes back while its connection lives, and somebody else tries to.
const TAKEOVER: Bounds = Bounds {
    clients: 1,
    roles: &[Who::Itself, Who::Stranger(Attempt::Echo)],
    up: 1,
    down: 1,
    ticks: 2,
    ..NOTHING
};

/// One client goes away, packets wait for it, it comes back or its time ends.
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

/// Two clients share a link that is lost, takes parts, and is full.
const LINK: Bounds = Bounds {
    connections: 2,
    up: 3,
    kicks: 1,
    link_losses: 1,
    parts: 1,
    ..NOTHING
};

/// All of it at once.
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

/// As whom a connection is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// A new client.
    Newcomer,
    /// The client, coming back.
    Itself,
    /// Somebody without the right to be it, or without the patience.
    Stranger(Attempt),
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A connection is opened to a client's session, or for a new one.
    Connect(usize, Who),
    /// The edge reads what the peer of a connection has to say.
    Says(u32),
    /// The transport of a connection takes all that waits.
    Takes(u32),
    /// It takes one byte.
    TakesPart(u32),
    /// Its peer ends it.
    Drops(u32),
    /// The adapter closes it, as the edge wants.
    Close(u32),
    /// A client sends a packet.
    Up(usize),
    /// The backend sends a packet to a client.
    Down(usize),
    /// The backend ends a client.
    Kick(usize),
    /// The link comes up.
    LinkUp,
    /// The link takes all that waits.
    LinkTakes,
    /// It takes half of it.
    LinkTakesPart,
    /// The link is lost.
    LinkLost,
    /// The next deadline has come.
    Tick,
}

/// What a check of a scope came to.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// States made, the same ones counted again: one for each transition.
    pub transitions: usize,
    /// States that differ.
    pub states: usize,
    /// Steps of the longest path.
    pub depth: usize,
    /// What was met on some path.
    pub met: Vec<&'static str>,
    /// What could have been met and was not: the scope says nothing about it.
    pub missing: Vec<&'static str>,
    /// A path to a broken rule, with the rule.
    pub broken: Option<(String, Vec<Step>)>,
}

/// Looks at every order of steps within `bounds`, for at most `time`.
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

/// The scope as stateright knows it.
struct Scope {
    bounds: Bounds,
    /// What was met so far; it does not tell states apart.
    met: [AtomicBool; REACHED.len()],
}

/// A state, and its name among states.
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

/// How often something happened on the way to a state.
type Count = fn(&Reach) -> u64;

/// What must be met on some path: else the scope says nothing about it.
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
