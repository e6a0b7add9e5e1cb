//! The shipped drivers on a network with faults.
//!
//! `VL_FULL=1 cargo test -p sim --test all network::` runs the block of `.ci/run`, which must also reach what the gates say.

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use sim::block;
use sim::network::{Outcome, Seen, World, run};

/// Seeds of the block when neither `VL_FULL` nor `VL_SEEDS` says otherwise.
const FEW: u64 = 8;

/// Seeds of the full block, and the minimum size of one that must pass the gates.
const FULL: u64 = 120;

/// An event, the runs in which it can happen, the percentage of these in which it must, and whether it did.
type Gate = (&'static str, fn(&World) -> bool, usize, fn(&Seen) -> bool);

/// Any run.
const ANY: fn(&World) -> bool = |_| true;

/// Events that must happen in this percentage of runs. Otherwise the runs show less than intended.
const GATES: [Gate; 9] = [
    ("a client came back", ANY, 90, |seen| seen.resumed > 0),
    (
        "a client of version 3 came back",
        |world| world.v3 > 0,
        80,
        |seen| seen.resumed_in_3 > 0,
    ),
    ("a client was refused", ANY, 50, |seen| seen.refused > 0),
    (
        "packets of version 2 were lost with a connection",
        |world| world.v3 < world.all_clients(),
        80,
        |seen| seen.lost > 0,
    ),
    ("the backend saw a second link", ANY, 60, |seen| {
        seen.links > 1
    }),
    ("the edge died and started again", ANY, 15, |seen| {
        seen.restarts > 0
    }),
    ("sessions ended", ANY, 80, |seen| seen.ended > 0),
    ("strangers came", ANY, 40, |seen| seen.strangers > 0),
    ("it took a second to recover", ANY, 40, |seen| {
        seen.recovered_nanos > 1_000_000_000
    }),
];

/// Returns the outcomes of a block of seeds, run on all cores.
fn run_all(seeds: u64) -> Vec<Outcome> {
    let (next, outcomes) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..block::threads() {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let outcome = run(&World::draw(seed));
                    outcomes.lock().expect("no panic").push((seed, outcome));
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().expect("no panic");
    outcomes.sort_by_key(|(seed, _)| *seed);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

#[test]
fn the_shipped_drivers_keep_their_promises() {
    let begun = Instant::now();
    let seeds = block::seeds(FEW, FULL);
    let outcomes = run_all(seeds);
    let simulated: f64 = outcomes
        .iter()
        .map(|outcome| outcome.simulated.as_secs_f64())
        .sum();
    let real = begun.elapsed().as_secs_f64();
    println!("{seeds} seeds, {simulated:.0} s simulated in {real:.1} s");
    for (seed, outcome) in outcomes.iter().enumerate() {
        if let Some(broken) = &outcome.broken {
            print!("{}", World::draw(seed as u64));
            panic!("{broken:?}\nreplay: cargo run -p sim -- network {seed}");
        }
    }
    for (name, can, least, holds) in GATES {
        let seen: Vec<&Seen> = outcomes
            .iter()
            .zip(0..)
            .filter(|(_, seed)| can(&World::draw(*seed)))
            .map(|(outcome, _)| &outcome.seen)
            .collect();
        let count = seen.iter().filter(|seen| holds(seen)).count();
        let percent = 100 * count / seen.len().max(1);
        println!("{percent:>4} % of {:>3}  {name}", seen.len());
        assert!(
            seeds < FULL || percent >= least,
            "{name}: {percent} %, not {least}"
        );
    }
}

#[test]
fn a_world_runs_the_same_way_twice_and_in_another_process() {
    for seed in 1_000..1_000 + block::seeds(1, 4).min(4) {
        let world = World::draw(seed);
        let outcome = run(&world);
        assert_eq!(run(&world), outcome, "seed {seed}");
        let other = Command::new(env!("CARGO_BIN_EXE_sim"))
            .args(["network", &seed.to_string()])
            .output()
            .expect("it runs");
        let printed = String::from_utf8_lossy(&other.stdout);
        let hash = format!("trace hash {:016x}", outcome.hash);
        assert!(printed.contains(&hash), "{hash} is not in: {printed}");
    }
}
