//! The same plan gives the same run: within a process, across threads, and with somebody watching.

use sim::engine;
use sim::plan::{Plan, generate};

const SEEDS: u64 = 120;

#[test]
fn a_plan_runs_the_same_way_twice() {
    for seed in 0..SEEDS {
        let plan = generate(seed);
        let first = engine::run(&plan);
        assert_eq!(engine::run(&plan).hash, first.hash, "seed {seed}");
        assert_eq!(
            engine::run_traced(&plan).hash,
            first.hash,
            "seed {seed}, traced"
        );
    }
}

#[test]
fn a_plan_runs_the_same_way_from_its_text() {
    for seed in 0..SEEDS {
        let plan = generate(seed);
        let again: Plan = plan
            .to_string()
            .parse()
            .expect("what is printed can be read");
        assert_eq!(
            engine::run(&again).hash,
            engine::run(&plan).hash,
            "seed {seed}"
        );
    }
}

#[test]
fn threads_do_not_disturb_each_other() {
    let hashes = || {
        (0..SEEDS)
            .map(|seed| engine::run(&generate(seed)).hash)
            .collect::<Vec<_>>()
    };
    let (one, other) = std::thread::scope(|scope| {
        let one = scope.spawn(hashes);
        let other = scope.spawn(hashes);
        (
            one.join().expect("no panic"),
            other.join().expect("no panic"),
        )
    });
    assert_eq!(one, other);
}
