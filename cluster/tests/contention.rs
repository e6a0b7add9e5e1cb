//! Edges that contend for one home, over an engine with faults: random schedules from seeds.

use std::time::Duration;

use voltlane_cluster::testkit::{Faults, SimEngine, SimStore};
use voltlane_cluster::{Engine, Event, Lease, LeaseConfig, Moment, Standing};

const LEASE: Duration = Duration::from_secs(6);
const STEP: Duration = Duration::from_millis(50);

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// A process with a lease. It may stop and go on, and a later process may be in its place.
struct Edge {
    lease: Lease,
    engine: SimEngine,
    pauses_until: Duration,
    /// The speed of its clock, in percent.
    speed: u64,
    unix: u64,
}

/// Returns the time of a clock of this speed, which began with the world.
fn time_of(now: Duration, speed: u64) -> Duration {
    now * u32::try_from(speed).expect("small") / 100
}

/// What a schedule may have.
#[derive(Clone, Copy)]
struct Plan {
    faults: u64,
    rolls_back: bool,
    clocks_differ: bool,
}

struct World {
    store: SimStore,
    edges: Vec<Edge>,
    random: Random,
    now: Duration,
    nonces: u64,
    /// Each term that was taken, by the time.
    terms: Vec<u32>,
}

impl World {
    fn new(seed: u64, plan: Plan) -> World {
        let faults = match plan.faults {
            0 => Faults::default(),
            every => Faults::all(every),
        };
        let mut world = World {
            store: SimStore::new(seed, faults),
            edges: Vec::new(),
            random: Random(seed),
            now: Duration::ZERO,
            nonces: 0,
            terms: Vec::new(),
        };
        for _ in 0..3 {
            let edge = world.start(plan);
            world.edges.push(edge);
        }
        world
    }

    fn start(&mut self, plan: Plan) -> Edge {
        self.nonces += 1;
        let (speed, unix) = match plan.clocks_differ {
            false => (100, 1_000),
            true => (50 + self.random.below(151), self.random.below(5_000)),
        };
        let config = LeaseConfig {
            cluster: "game".parse().expect("a name"),
            home: 1,
            lease: LEASE,
            nonce: self.nonces,
            label: String::new(),
            backend: String::new(),
            seed: self.nonces,
        };
        let at = time_of(self.now, speed);
        Edge {
            lease: Lease::new(Moment { at, unix }, config),
            engine: self.store.engine(),
            pauses_until: Duration::ZERO,
            speed,
            unix,
        }
    }

    fn step(&mut self, plan: Plan) {
        self.now += STEP;
        for index in 0..self.edges.len() {
            if self.edges[index].pauses_until > self.now {
                continue;
            }
            let events = self.edges[index].poll(self.now);
            for event in events {
                if let Event::Taken { term } = event {
                    self.terms.push(term);
                    self.check_taken(index, term, plan);
                }
            }
        }
    }

    /// Without lost writes and with clocks that run equally, a home is taken when nobody else holds it in its own eyes, and terms grow.
    fn check_taken(&self, taker: usize, term: u32, plan: Plan) {
        if plan.rolls_back {
            return;
        }
        let before = self.terms[..self.terms.len() - 1].iter().max();
        assert!(
            before.is_none_or(|before| *before < term),
            "{:?}",
            self.terms
        );
        if plan.clocks_differ {
            return;
        }
        for (index, edge) in self.edges.iter().enumerate() {
            let until = edge.lease.held_until().filter(|_| index != taker);
            assert!(
                until.is_none_or(|until| until <= edge.time(self.now)),
                "edge {index} holds it until {until:?}, and {taker} takes it at {:?}",
                self.now
            );
        }
    }

    fn disturb(&mut self, plan: Plan) {
        let index = self.random.below(self.edges.len() as u64) as usize;
        let pause = Duration::from_millis(self.random.below(20_000));
        match self.random.below(400) {
            0 => self.edges[index].pauses_until = self.now + pause,
            1 => self.edges[index] = self.start(plan),
            2 => {
                let moment = self.edges[index].moment(self.now);
                self.edges[index].lease.give_back(moment);
            }
            3 => {
                let is_down = self.random.below(2) == 0;
                self.store.set_down(is_down);
            }
            4 if plan.rolls_back => {
                let writes = self.random.below(6) as usize;
                self.store.roll_back(writes);
            }
            5 if plan.rolls_back => self.store.forget(),
            _ => {}
        }
        let standing = self.edges[index].lease.standing();
        // An edge whose process has ended is started again.
        if matches!(standing, Standing::Lost | Standing::GivenBack) && self.random.below(20) == 0 {
            self.edges[index] = self.start(plan);
        }
    }
}

impl World {
    /// Starts an edge again whose process has ended since it lost its home.
    fn start_lost(&mut self, plan: Plan) {
        for index in 0..self.edges.len() {
            if self.edges[index].lease.standing() == Standing::Lost {
                self.edges[index] = self.start(plan);
            }
        }
    }
}

impl Edge {
    /// Returns the time by its own clock.
    fn time(&self, now: Duration) -> Duration {
        time_of(now, self.speed)
    }

    fn moment(&self, now: Duration) -> Moment {
        Moment {
            at: self.time(now),
            unix: self.unix,
        }
    }

    fn poll(&mut self, now: Duration) -> Vec<Event> {
        let moment = self.moment(now);
        loop {
            while let Some((id, answer)) = self.engine.poll(now) {
                self.lease.handle_answer(moment, id, answer);
            }
            match self.lease.poll_call(moment) {
                Some(request) => self.engine.call(now, request),
                None => break,
            }
        }
        std::iter::from_fn(|| self.lease.poll_event()).collect()
    }
}

fn run(seed: u64, plan: Plan) -> usize {
    let mut world = World::new(seed, plan);
    for _ in 0..3_000 {
        world.disturb(plan);
        world.step(plan);
    }
    // All faults end. One edge has the home soon, and whoever else had it knows.
    world.store.set_faults(Faults::default());
    world.store.set_down(false);
    for edge in &mut world.edges {
        edge.pauses_until = Duration::ZERO;
    }
    let edge = world.start(plan);
    world.edges.push(edge);
    for _ in 0..600 {
        world.step(plan);
        world.start_lost(plan);
    }
    let count = |of| {
        let edges = world.edges.iter();
        edges.filter(|edge| edge.lease.standing() == of).count()
    };
    assert_eq!(count(Standing::Held), 1, "seed {seed}");
    assert_eq!(
        count(Standing::RanOut) + count(Standing::Troubled),
        0,
        "seed {seed}"
    );
    world.terms.len()
}

fn seeds() -> u64 {
    match std::env::var_os("VL_FULL") {
        Some(_) => 2_000,
        None => 60,
    }
}

#[test]
fn one_edge_at_a_time_has_the_home_whatever_the_engine_answers() {
    for faults in [0, 100, 12] {
        let plan = Plan {
            faults,
            rolls_back: false,
            clocks_differ: false,
        };
        let taken: usize = (0..seeds()).map(|seed| run(seed, plan)).sum();
        assert!(taken as u64 > 3 * seeds(), "the home hardly moves: {taken}");
    }
}

#[test]
fn terms_grow_and_all_comes_to_rest_with_clocks_that_run_wrong() {
    let plan = Plan {
        faults: 50,
        rolls_back: false,
        clocks_differ: true,
    };
    for seed in 0..seeds() {
        run(seed, plan);
    }
}

#[test]
fn all_comes_to_rest_after_an_engine_that_loses_writes() {
    let plan = Plan {
        faults: 50,
        rolls_back: true,
        clocks_differ: true,
    };
    for seed in 0..seeds() {
        run(seed, plan);
    }
}
