//! Abuse beside ordinary clients: a fixed block of seeds, and a seed of the caller's choice.
//!
//! - `VL_FULL=1 cargo test -p sim --test all abuse::` runs the block of `.ci/run`, which must also reach what the gates say.
//! - `VL_SEEDS=5000 cargo test -p sim --test all abuse::` runs a larger one.
//! - `VL_SEED=17 cargo test -p sim --test all abuse::one_seed -- --nocapture` runs one seed.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use sim::abuse::{Setup, run};
use sim::block::{self, number, threads};

/// Seeds of the block when neither `VL_FULL` nor `VL_SEEDS` says otherwise.
const FEW: u64 = 20;

/// Seeds of the full block, and the minimum size of one that must pass the gates.
const FULL: u64 = 300;

/// In what share of a block's seeds each thing must happen, in percent.
const GATES: &[(&str, u64)] = &[
    ("memory over", 15),
    ("greedy ended", 15),
    ("rejected", 15),
    ("shares compared", 20),
];

#[test]
fn whatever_strangers_do_memory_is_bounded_and_ordinary_clients_are_served() {
    let seeds = block::seeds(FEW, FULL);
    let (next, found) = (AtomicU64::new(0), Mutex::new((BTreeMap::new(), Vec::new())));
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let outcome = run(seed);
                    let mut found = found.lock().expect("no panic");
                    for (what, count) in outcome.reach {
                        *found.0.entry(what).or_insert(0) += u64::from(count > 0);
                    }
                    found.1.extend(outcome.violation.map(|v| (seed, v)));
                }
            });
        }
    });
    let (reach, mut failures) = found.into_inner().expect("no panic");
    failures.sort_by_key(|(seed, _)| *seed);
    for (name, least) in GATES {
        let percent = reach.get(name).copied().unwrap_or(0) * 100 / seeds;
        println!("{percent:>4} % (at least {least} %)  {name}");
        if seeds >= FULL {
            assert!(percent >= *least, "too few seeds reach: {name}");
        }
    }
    if let Some((seed, violation)) = failures.first() {
        let replay =
            format!("VL_SEED={seed} cargo test -p sim --test all abuse::one_seed -- --nocapture");
        panic!(
            "{} of {seeds} seeds break a rule: {violation}\n{replay}",
            failures.len()
        );
    }
}

#[test]
fn one_seed() {
    if let Some(seed) = number("VL_SEED") {
        println!("{}", Setup::draw(seed));
        let outcome = run(seed);
        println!("{:?}", outcome.reach);
        if let Some(violation) = outcome.violation {
            panic!("{violation}");
        }
    }
}
