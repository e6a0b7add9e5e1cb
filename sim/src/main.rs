//! The simulator's tool: replays a seed and shows what happened.

use std::process::ExitCode;

fn main() -> ExitCode {
    let seed = std::env::args().nth(1).and_then(|seed| seed.parse().ok());
    let Some(seed) = seed else {
        eprintln!("usage: sim SEED");
        return ExitCode::FAILURE;
    };
    let plan = sim::plan::generate(seed);
    println!("{plan}");
    let outcome = sim::engine::run_traced(&plan);
    for note in &outcome.notes {
        println!("{note}");
    }
    if outcome.violation.is_some() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
