//! Every order of steps of a link of version 3 that is lost at any moment, between the machines of both ends: what is acknowledged, and who is
//! there. (SPEC 35, 37, 39)
//!
//! The link has a place for what is under way in each direction, and an end reads all of it or a loss takes it. The backend may begin again with
//! what its application has saved; the edge may end in order and go on, or die. The application comes back from what it was given in a step of
//! its own, and saves then. After each step a probe asks whether everything comes to rest without a further fault, and whether all is complete
//! then.

mod world;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};

use stateright::{Checker, HasDiscoveries, Model as _, Property};

use world::World;

/// The bounds of a scope. Each number counts down to 0 along a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Clients that join.
    pub clients: usize,
    /// Whether all of them have joined, over a link that is at rest.
    pub is_begun: bool,
    /// Acknowledgements that wait for others go out so often.
    pub ticks: u32,
    /// Packets up, packets down, and packets down to the group.
    pub up: u32,
    /// See `up`.
    pub down: u32,
    /// See `up`.
    pub many: u32,
    /// Connections of clients that are lost.
    pub drops: u32,
    /// Kicks.
    pub kicks: u32,
    /// Writes of an end that are cut in the middle.
    pub parts: u32,
    /// Losses of the link.
    pub cuts: u32,
    /// New lives of the backend.
    pub boots: u32,
    /// Orderly ends of the edge, whose sessions go on.
    pub restarts: u32,
    /// Deaths of the edge.
    pub deaths: u32,
}

/// The bounds in which nothing happens.
pub const NOTHING: Bounds = Bounds {
    clients: 1,
    is_begun: false,
    ticks: 2,
    up: 0,
    down: 0,
    many: 0,
    drops: 0,
    kicks: 0,
    parts: 0,
    cuts: 0,
    boots: 0,
    restarts: 0,
    deaths: 0,
};

/// What an application does wrong on purpose, so that the checks have something to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lapse {
    /// It acknowledges what it was given before it has saved that.
    AcknowledgesUnsaved,
    /// It saves, and the library is not told how far when it begins again.
    RestoresNothing,
    /// It makes nobody a member again when it begins again.
    ForgetsMembers,
}

/// One step of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A client joins.
    Join(usize),
    /// A client sends a packet.
    Up(usize),
    /// The application sends a packet to a client.
    Down(usize),
    /// The application sends a packet to all members.
    Many,
    /// A client loses its connection.
    Drop(usize),
    /// It comes back.
    Resume(usize),
    /// The application kicks a client.
    Kick(usize),
    /// The edge writes what waits for the link, or half of it.
    EdgeWrites,
    /// See `EdgeWrites`.
    EdgeWritesPart,
    /// The edge reads what came.
    EdgeReads,
    /// The backend writes what waits for the link.
    HostWrites,
    /// The backend reads what came, and gives it to the application.
    HostReads,
    /// The application has saved what it was given, and comes back.
    Taken,
    /// Time passes until what is acknowledged late is due.
    Tick,
    /// The link is lost with what is under way.
    Cut,
    /// The edge connects.
    Dial,
    /// The backend is another process, which has what the application saved.
    Boot,
    /// The edge is another process, which goes on with its sessions.
    Restart,
    /// The edge is another process, which knows nothing.
    Death,
}

/// The result of checking a scope.
#[derive(Clone, Debug)]
pub struct Found {
    /// One per transition.
    pub transitions: usize,
    /// Distinct states.
    pub states: usize,
    /// What was reached on some path, of [`REACHED`].
    pub reached: Vec<&'static str>,
    /// A path to a broken rule, and what is wrong.
    pub broken: Option<(String, Vec<Step>)>,
}

/// What must be reached in some scope. Otherwise the scopes prove nothing about it.
pub const REACHED: [&str; 6] = [
    "a loss takes frames of the edge",
    "a loss takes frames of the backend",
    "a loss cuts a frame",
    "a new life of the backend hears of a session",
    "a session ends",
    "a member has a packet for many",
];

/// Checks every order of steps within `bounds`. `prepare` is called in each thread before each step, which is where a bug is planted.
#[must_use]
pub fn check(bounds: Bounds, lapse: Option<Lapse>, threads: usize, prepare: fn()) -> Found {
    let scope = Scope {
        bounds,
        lapse,
        prepare,
        reached: [const { AtomicBool::new(false) }; REACHED.len()],
    };
    let checker = scope
        .checker()
        .threads(threads.max(1))
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let broken = checker.discoveries().into_values().next().map(|path| {
        prepare();
        let why = path.last_state().why();
        (why, path.into_actions())
    });
    let reached = checker.model().reached.iter().zip(REACHED);
    let reached = reached.filter(|(reached, _)| reached.load(Ordering::Relaxed));
    Found {
        reached: reached.map(|(_, name)| name).collect(),
        broken,
        transitions: checker.state_count(),
        states: checker.unique_state_count(),
    }
}

struct Scope {
    bounds: Bounds,
    lapse: Option<Lapse>,
    prepare: fn(),
    reached: [AtomicBool; REACHED.len()],
}

impl stateright::Model for Scope {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        (self.prepare)();
        vec![State::new(World::new(self.bounds, self.lapse))]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        state.world.steps(steps);
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        (self.prepare)();
        let mut world = last.world.clone();
        world.take(step);
        for (reached, has) in self.reached.iter().zip(world.reached) {
            if has {
                reached.store(true, Ordering::Relaxed);
            }
        }
        Some(State::new(*world))
    }

    fn properties(&self) -> Vec<Property<Scope>> {
        vec![
            Property::always(
                "nothing is lost or doubled, and each end is told once",
                |_, state: &State| state.world.wrong.is_none(),
            ),
            Property::always(
                "everything comes to rest, and is complete then",
                |scope: &Scope, state: &State| {
                    (scope.prepare)();
                    state.world.clone().rest().is_ok()
                },
            ),
        ]
    }
}

/// A state and its fingerprint.
#[derive(Clone)]
struct State {
    world: Box<World>,
    fingerprint: u64,
}

impl State {
    fn new(world: World) -> State {
        State {
            fingerprint: world.fingerprint(),
            world: Box::new(world),
        }
    }

    /// Returns what is wrong here.
    fn why(&self) -> String {
        match &self.world.wrong {
            Some(wrong) => wrong.clone(),
            None => self.world.clone().rest().err().unwrap_or_default(),
        }
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
