//! The fixed block of seeds, the committed plans, and a seed or a plan of the caller's choice.
//!
//! - `VL_FULL=1 cargo test -p sim --test all seeds::` runs the block of `.ci/run`, which must also reach what the gates say.
//! - `VL_SEEDS=20000 cargo test -p sim --test all seeds::` runs a larger one.
//! - `VL_SEED=17 cargo test -p sim one_seed -- --nocapture` runs one seed and shows what happened.
//! - `VL_PLAN=FILE cargo test -p sim one_plan -- --nocapture` does the same with a plan.

use std::path::Path;

use sim::block::{self, CEILINGS, GATES, LEAST_PAIRS, Report, Stop, number};
use sim::engine;
use sim::plan::{Plan, generate};

/// Seeds of the block when neither `VL_FULL` nor `VL_SEEDS` says otherwise.
const FEW: u64 = 300;
/// Seeds of the full block, and the minimum size of one that must pass the gates.
const FULL: u64 = 10_000;
/// The number of notes printed for a failed run.
const SHOWN_NOTES: usize = 60;

#[test]
fn fixed_block_of_seeds() {
    let seeds = block::seeds(FEW, FULL);
    let stop = Stop {
        at: None,
        failures: usize::MAX,
    };
    let report = block::run(0..seeds, block::threads(), stop, |_| {});
    print_reach(&report);
    if let Some(failure) = report.failures.first() {
        let count = report.failures.len();
        for failure in report.failures.iter().take(20) {
            println!("seed {}: {}", failure.seed, failure.violation);
        }
        println!(
            "\nreplay: VL_SEED={} cargo test -p sim one_seed -- --nocapture",
            failure.seed
        );
        panic!(
            "{count} of {seeds} seeds break a rule; the first: {}",
            failure.violation
        );
    }
    if seeds >= FULL {
        let missed: Vec<_> = GATES
            .iter()
            .filter(|(name, least)| report.percent(name) < *least)
            .collect();
        assert!(
            missed.is_empty(),
            "the block does not reach what it must: {missed:?}"
        );
        let passed: Vec<_> = CEILINGS
            .iter()
            .filter(|(name, most)| report.percent(name) > *most)
            .collect();
        assert!(passed.is_empty(), "more than there may be: {passed:?}");
        let pairs = report.pairs.rarest();
        let rare: Vec<_> = pairs
            .iter()
            .filter(|(_, _, count)| *count < LEAST_PAIRS)
            .collect();
        assert!(
            rare.is_empty(),
            "pairs of faults in fewer than {LEAST_PAIRS} seeds: {rare:?}"
        );
    }
}

fn print_reach(report: &Report) {
    println!(
        "{} seeds, {} s simulated, {} calls",
        report.seeds,
        report.simulated.as_secs(),
        report.steps
    );
    for (name, least) in GATES {
        println!(
            "{:>6.1} % (at least {least} %)  {name}",
            report.percent(name)
        );
    }
    for (name, most) in CEILINGS {
        println!("{:>6.2} % (at most {most} %)  {name}", report.percent(name));
    }
    println!("pairs of faults within a second, the rarest:");
    for (first, second, count) in report.pairs.rarest().into_iter().take(5) {
        println!("{count:>6} (at least {LEAST_PAIRS})  {first}, {second}");
    }
}

#[test]
fn one_seed() {
    if let Some(seed) = number("VL_SEED") {
        run_and_show(&generate(seed), &format!("seed {seed}"));
    }
}

#[test]
fn one_plan() {
    if let Ok(path) = std::env::var("VL_PLAN") {
        run_and_show(&read(Path::new(&path)), &path);
    }
}

#[test]
fn committed_plans_stay_good() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let mut plans: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder of plans is in the repository")
        .map(|entry| entry.expect("its entries can be read").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "plan")
        })
        .collect();
    plans.sort();
    assert!(!plans.is_empty());
    for path in plans {
        let outcome = engine::run(&read(&path));
        assert_eq!(outcome.violation, None, "{}", path.display());
    }
}

fn read(path: &Path) -> Plan {
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse()
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn run_and_show(plan: &Plan, name: &str) {
    let outcome = engine::run_traced(plan);
    let skipped = outcome.notes.len().saturating_sub(SHOWN_NOTES);
    println!("{plan}\n… {skipped} notes …");
    for note in &outcome.notes[skipped..] {
        println!("{note}");
    }
    println!("hash {:016x}", outcome.hash);
    assert_eq!(outcome.violation, None, "{name}");
}
