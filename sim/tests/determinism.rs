//! The same plan gives the same run: within a process and in another one, on any number of threads, in a debug and in a release build, and
//! when traced. `logs.rs` tests it with all logs on.
//!
//! `sim/golden.txt` has the trace hashes of the first seeds. A change of the core, the generator or the engine that changes what happens
//! changes them, and must be intended. `VL_BLESS=1 cargo test -p sim --test all determinism::` rewrites the file.

use std::path::Path;
use std::process::Command;

use sim::block;
use sim::engine;
use sim::plan::{Plan, generate};

/// Seeds that are run twice when neither `VL_FULL` nor `VL_SEEDS` says otherwise, and those of the full block.
const FEW: u64 = 12;
const FULL: u64 = 120;
/// Seeds whose hashes are in the repository.
const GOLDEN_SEEDS: u64 = 32;

fn seeds() -> u64 {
    block::seeds(FEW, FULL)
}

#[test]
fn golden_hashes_stay_what_they_are() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden.txt");
    let hashes = block::hashes_as_text(0..GOLDEN_SEEDS, block::threads());
    if std::env::var_os("VL_BLESS").is_some() {
        std::fs::write(&path, &hashes).expect("the repository can be written");
    }
    let golden = std::fs::read_to_string(&path).expect("golden.txt is in the repository");
    assert_eq!(
        hashes, golden,
        "runs changed; if that is meant: VL_BLESS=1 cargo test -p sim --test all determinism::"
    );
}

#[test]
fn other_processes_run_the_same_way_on_one_thread_and_on_two() {
    let hashes = block::hashes_as_text(0..seeds(), 1);
    for threads in ["1", "2"] {
        let other = Command::new(env!("CARGO_BIN_EXE_sim"))
            .args(["hashes", "--seeds", &seeds().to_string()])
            .args(["--threads", threads])
            .output()
            .expect("the simulator's tool runs");
        assert!(other.status.success());
        assert_eq!(
            String::from_utf8_lossy(&other.stdout),
            hashes,
            "{threads} threads"
        );
    }
}

#[test]
fn a_plan_runs_the_same_way_twice() {
    for seed in 0..seeds() {
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
    for seed in 0..seeds() {
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
        (0..seeds())
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
