//! Outcomes of runs that a ledger judges: of one, and of many on all cores.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::block::threads;
use crate::hash::TraceHash;
use crate::model::Violation;
use crate::panics::panic_of;
use crate::rng::Rng;

/// Kinds of events in the trace hash.
pub(crate) mod kind {
    pub(crate) const UP: u8 = 1;
    pub(crate) const DOWN: u8 = 2;
    pub(crate) const LINK_UP: u8 = 3;
    pub(crate) const LINK_DOWN: u8 = 4;
    pub(crate) const OP: u8 = 5;
}

/// The outcome of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The first rule broken, if one was.
    pub violation: Option<Violation>,
    /// The hash of everything that crossed a connection.
    pub hash: u64,
    /// Virtual time of the whole run.
    pub nanos: u64,
    /// The number of calls into the machines that brought or took bytes.
    pub steps: u64,
    /// How often each thing happened.
    pub reach: BTreeMap<&'static str, u64>,
    /// What happened, if it was traced.
    pub notes: Vec<String>,
}

/// What a run is made of in every world.
pub(crate) struct Course<'a> {
    pub(crate) now: &'a mut u64,
    pub(crate) rng: &'a mut Rng,
    /// How long a round takes at most.
    pub(crate) round_nanos: u64,
    pub(crate) hash: &'a TraceHash,
    pub(crate) steps: u64,
    pub(crate) notes: &'a mut Option<Vec<String>>,
    pub(crate) violation: &'a mut Option<Violation>,
    pub(crate) reach: &'a mut BTreeMap<&'static str, u64>,
}

/// A world that runs until its plan is over, or a rule is broken.
pub(crate) trait Runs {
    /// The maximum number of rounds. More means that the run goes in circles.
    const MOST_ROUNDS: u64;

    fn course(&mut self) -> Course<'_>;

    fn is_over(&self) -> bool;

    fn fail(&mut self, id: &'static str, section: &'static str, text: String);

    /// Gives everybody one turn. `number` counts the rounds, from 1. Returns whether anything moved.
    fn round(&mut self, number: u64) -> bool;

    /// Returns when anything can happen next, if nothing did now.
    fn next_instant(&mut self) -> u64;

    /// Records what happens, if the run is traced.
    fn note(&mut self, text: impl FnOnce() -> String) {
        let course = self.course();
        if let Some(notes) = course.notes {
            notes.push(format!("{:>12} us  {}", *course.now / 1_000, text()));
        }
    }

    fn run(&mut self) {
        let mut number = 0;
        while !self.is_over() {
            number += 1;
            let moved = self.round(number);
            if number > Self::MOST_ROUNDS {
                return self.fail("A2", "-", "nothing ends".into());
            }
            if moved {
                let Course {
                    now,
                    rng,
                    round_nanos,
                    ..
                } = self.course();
                *now += rng.below(round_nanos) + 1;
            } else {
                let next = self.next_instant();
                *self.course().now = next;
            }
        }
        if let Some(violation) = self.course().violation {
            let text = violation.to_string();
            self.note(|| format!("!! {text}"));
        }
    }

    /// Runs it, and returns the outcome. A panic breaks a rule as well.
    fn outcome(&mut self) -> Outcome {
        if let Some(text) = panic_of(|| self.run()) {
            self.fail("H1", "-", text);
        }
        let course = self.course();
        Outcome {
            violation: course.violation.take(),
            hash: course.hash.value(),
            nanos: *course.now,
            steps: course.steps,
            reach: std::mem::take(course.reach),
            notes: course.notes.take().unwrap_or_default(),
        }
    }
}

/// The outcome of many seeds.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// How many seeds there were.
    pub seeds: u64,
    /// Virtual time of all of them.
    pub nanos: u64,
    /// Calls into the machines in all of them.
    pub steps: u64,
    /// In how many seeds each thing happened.
    pub reach: BTreeMap<&'static str, u64>,
    /// How often each thing happened in all of them.
    pub times: BTreeMap<&'static str, u64>,
    /// The seeds that break a rule, in order.
    pub failures: Vec<(u64, Violation)>,
}

impl Found {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.seeds += 1;
        self.nanos += outcome.nanos;
        self.steps += outcome.steps;
        for (name, times) in outcome.reach {
            *self.reach.entry(name).or_default() += u64::from(times > 0);
            *self.times.entry(name).or_default() += times;
        }
        self.failures
            .extend(outcome.violation.map(|violation| (seed, violation)));
    }

    /// Returns in what share of the seeds something happened, in percent.
    #[must_use]
    pub fn percent(&self, name: &str) -> f64 {
        let seeds = self.reach.get(name).copied().unwrap_or(0);
        100.0 * seeds as f64 / self.seeds.max(1) as f64
    }

    /// Returns how often something happened in all seeds.
    #[must_use]
    pub fn total(&self, name: &str) -> u64 {
        self.times.get(name).copied().unwrap_or(0)
    }
}

/// Runs seeds on all cores, each once.
#[must_use]
pub fn many(seeds: Range<u64>, run: fn(u64) -> Outcome) -> Found {
    let next = AtomicU64::new(seeds.start);
    let all = Mutex::new(Found::default());
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = run(seed);
                    all.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .add(seed, outcome);
                }
            });
        }
    });
    let mut found = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.failures.sort_by_key(|(seed, _)| *seed);
    found
}
