//! Runs blocks of seeds on all cores, and checks what a block must reach.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::{self, Outcome};
use crate::model::Violation;
use crate::plan::{Pairs, Plan, generate};

/// A seed whose run broke a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The rule.
    pub violation: Violation,
}

/// The result of a block of seeds.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Seeds that were run.
    pub seeds: u64,
    /// Failures, the lowest seed first.
    pub failures: Vec<Failure>,
    /// The number of seeds in which each event happened.
    pub reached: BTreeMap<String, u64>,
    /// The number of seeds in which each pair of faults occurred.
    pub pairs: Pairs,
    /// The virtual time of all runs.
    pub simulated: Duration,
    /// The number of calls into the edge in all runs.
    pub steps: u64,
}

impl Report {
    fn add(&mut self, seed: u64, plan: &Plan, outcome: Outcome) {
        self.seeds += 1;
        self.pairs.add(plan);
        self.simulated += Duration::from_nanos(outcome.nanos);
        self.steps += outcome.steps;
        for (name, count) in outcome.reach.entries() {
            *self.reached.entry(name).or_default() += u64::from(count > 0);
        }
        if let Some(violation) = outcome.violation {
            self.failures.push(Failure { seed, violation });
        }
    }

    fn merge(&mut self, other: Report) {
        self.seeds += other.seeds;
        self.pairs.merge(&other.pairs);
        self.simulated += other.simulated;
        self.steps += other.steps;
        for (name, count) in other.reached {
            *self.reached.entry(name).or_default() += count;
        }
        self.failures.extend(other.failures);
        self.failures.sort_by_key(|failure| failure.seed);
    }

    /// Returns the percentage of seeds in which `name` happened.
    #[must_use]
    pub fn percent(&self, name: &str) -> f64 {
        let count = self.reached.get(name).copied().unwrap_or(0);
        100.0 * count as f64 / self.seeds.max(1) as f64
    }
}

/// When a block ends.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    /// At this instant of real time, if set.
    pub at: Option<Instant>,
    /// After this many failures.
    pub failures: usize,
}

/// Runs `seeds` on `threads` threads. `progress` is called now and then with the number of seeds done.
pub fn run(seeds: Range<u64>, threads: usize, stop: Stop, progress: impl Fn(u64) + Sync) -> Report {
    let next = AtomicU64::new(seeds.start);
    let failures = AtomicUsize::new(0);
    let total = Mutex::new(Report::default());
    let work = || {
        let mut report = Report::default();
        while failures.load(Ordering::Relaxed) < stop.failures
            && stop.at.is_none_or(|at| Instant::now() < at)
        {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let plan = generate(seed);
            let outcome = engine::run(&plan);
            failures.fetch_add(usize::from(outcome.violation.is_some()), Ordering::Relaxed);
            report.add(seed, &plan, outcome);
            if seed.is_multiple_of(64) {
                progress(seed - seeds.start);
            }
        }
        total
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .merge(report);
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(work);
        }
    });
    total.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the trace hash of each seed, one per line. It is the same in every process and build, and for any number of threads.
#[must_use]
pub fn hashes_as_text(seeds: Range<u64>, threads: usize) -> String {
    let next = AtomicU64::new(seeds.start);
    let all = Mutex::new(BTreeMap::new());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let hash = engine::run(&generate(seed)).hash;
            all.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(seed, hash);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(work);
        }
    });
    let all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    all.into_iter()
        .map(|(seed, hash)| format!("{seed} {hash:016x}\n"))
        .collect()
}

/// Returns the number in an environment variable if it is set. Tests take their seeds this way.
///
/// # Panics
/// When the value is not a number.
#[must_use]
pub fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name}={text}: a number is needed")))
}

/// Returns the number of seeds of a block: `VL_SEEDS` if it is set, otherwise `few`, or `all` if `VL_FULL` is set, as in `.ci/run`.
#[must_use]
pub fn seeds(few: u64, all: u64) -> u64 {
    let usual = match std::env::var_os("VL_FULL") {
        Some(_) => all,
        None => few,
    };
    number("VL_SEEDS").unwrap_or(usual)
}

/// Returns the number of threads that a block may use: all cores.
#[must_use]
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The number of a block's seeds in which each ordered pair of faults must occur within a second.
pub const LEAST_PAIRS: u32 = 50;

/// The largest percentage of a block's seeds in which each event may happen.
pub const CEILINGS: &[(&str, f64)] = &[("not followed", 1.5)];

/// The smallest percentage of a block's seeds in which each event must happen.
pub const GATES: &[(&str, f64)] = &[
    ("resumed", 30.0),
    ("replayed", 10.0),
    ("takeover", 25.0),
    ("takeover waited", 0.5),
    ("refused", 25.0),
    ("handshake timeout", 50.0),
    ("frame timeout", 3.0),
    ("beyond its pace", 1.5),
    ("within its pace again", 1.0),
    ("too fast", 0.5),
    ("silent", 3.0),
    ("behind a proxy", 8.0),
    ("past the proxy", 3.0),
    ("no PROXY header", 4.0),
    ("refused by its header", 2.0),
    ("squeezed", 0.3),
    ("memory full", 0.3),
    ("closed for memory", 0.1),
    ("ended: memory limit", 2.0),
    ("link lost", 30.0),
    ("link cut", 5.0),
    ("link full", 10.0),
    ("packet down cut", 5.0),
    ("malformed from the backend", 5.0),
    ("link reset for a length", 5.0),
    ("handshake violation", 5.0),
    ("data violation", 5.0),
    ("announced", 5.0),
    ("rejected", 5.0),
    ("rejected for a penalty", 0.3),
    ("made room", 2.0),
    ("sessions full", 1.0),
    ("house full", 3.0),
    ("waited for a place", 0.5),
    ("visited", 5.0),
    ("herded", 3.0),
    ("shut down", 1.5),
    ("shut down, all handed over", 1.0),
    ("ended: expired", 25.0),
    ("ended: kicked", 25.0),
    ("ended: send queue full", 5.0),
    ("ended: missed packet buffer full", 5.0),
    ("ended: client is away", 4.0),
    ("ended: write timed out", 1.0),
    ("ended: too many stale clients", 5.0),
    ("ended: for want of room", 25.0),
];
