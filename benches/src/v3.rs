//! Version 3 of the client link beside version 2, on one machine in one run: what encryption and numbers cost, and that nothing is lost.

use std::io::{self, Write};
use std::time::Duration;

use crate::load::meter::Outcome;
use crate::load::program::Program;
use crate::load::{self, LoadError, Options, Scenario};
use crate::shards::median;

/// What is measured of which program.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The program.
    pub program: &'a Program,
    /// Options of every run.
    pub options: &'a Options,
    /// Rounds of each row.
    pub rounds: u8,
    /// How long the churn takes.
    pub churn: Duration,
    /// Only rows whose title contains this.
    pub only: &'a str,
}

/// The figure of a row, and what it is to be at most.
#[derive(Clone, Copy, Debug)]
enum Goal {
    /// CPU of the program per operation, in times that of version 2.
    Ratio(f64),
    /// The same in microseconds.
    Micros(f64),
    /// Resident bytes per client.
    Bytes(f64),
    /// Each packet comes once, and there are at least this many in each direction.
    Whole(u64),
}

fn rows() -> [(Scenario, Goal); 7] {
    let echo = |clients, in_flight, size| Scenario::Echo {
        clients,
        in_flight,
        size,
    };
    [
        (echo(100, 1, 64), Goal::Ratio(1.30)),
        (echo(100, 16, 64), Goal::Ratio(1.6)),
        (echo(50, 4, 16 * 1024), Goal::Ratio(2.2)),
        (Scenario::Reconnects { clients: 1000 }, Goal::Ratio(0.75)),
        (Scenario::Joins { clients: 64 }, Goal::Micros(150.0)),
        (Scenario::Idle { clients: 9000 }, Goal::Bytes(700.0)),
        (
            Scenario::Churn {
                clients: 50,
                in_flight: 16,
                size: 64,
            },
            Goal::Whole(1_000_000),
        ),
    ]
}

/// Measures all rows and prints them. Returns whether each goal is reached.
///
/// # Errors
/// When a run fails.
pub fn run(plan: &Plan<'_>) -> Result<bool, LoadError> {
    let mut all = true;
    for (scenario, goal) in rows() {
        if !scenario.to_string().contains(plan.only) {
            continue;
        }
        let (line, is_reached) = match goal {
            Goal::Ratio(most) => {
                let (old, new) = (cpu(plan, &scenario, false)?, cpu(plan, &scenario, true)?);
                let ratio = new / old;
                let line =
                    format!("{ratio:.2} × version 2 ({old:.2} and {new:.2} µs CPU), goal {most}");
                (line, ratio <= most)
            }
            Goal::Micros(most) => {
                let new = cpu(plan, &scenario, true)?;
                (format!("{new:.0} µs CPU, goal {most:.0}"), new <= most)
            }
            Goal::Bytes(most) => {
                let found = measure(plan, &scenario, true, plan.options.measure)?;
                let bytes = found.idle_bytes.unwrap_or(f64::MAX);
                (
                    format!("{bytes:.0} bytes each, goal {most:.0}"),
                    bytes <= most,
                )
            }
            Goal::Whole(packets) => churn(plan, &scenario, packets)?,
        };
        all &= is_reached;
        let mark = if is_reached { "ok    " } else { "missed" };
        // Somebody who no longer reads is no error.
        let _ = writeln!(io::stdout(), "{mark} {scenario}: {line}");
    }
    Ok(all)
}

fn churn(plan: &Plan<'_>, scenario: &Scenario, packets: u64) -> Result<(String, bool), LoadError> {
    let found = measure(plan, scenario, true, plan.churn)?;
    let churned = found.churned.unwrap_or_default();
    let line = format!(
        "{} drops; up {} packets, {} lost, {} doubled; down {} packets, {} lost, {} doubled; goal none of {packets}",
        churned.drops,
        churned.up,
        churned.lost_up,
        churned.doubled_up,
        churned.down,
        churned.lost_down,
        churned.doubled_down,
    );
    let is_enough = churned.up.min(churned.down) >= packets;
    Ok((line, churned.is_whole() && is_enough))
}

/// Returns the median of the program's CPU time per operation, in microseconds.
fn cpu(plan: &Plan<'_>, scenario: &Scenario, v3: bool) -> Result<f64, LoadError> {
    let mut found = Vec::new();
    for _ in 0..plan.rounds {
        let outcome = measure(plan, scenario, v3, plan.options.measure)?;
        // Without a figure, or with a wrong packet, no goal is reached.
        let Some(micros) = outcome.cpu_micros().filter(|_| outcome.wrong == 0) else {
            return Ok(f64::NAN);
        };
        found.push(micros);
    }
    Ok(median(found))
}

fn measure(
    plan: &Plan<'_>,
    scenario: &Scenario,
    v3: bool,
    time: Duration,
) -> Result<Outcome, LoadError> {
    let options = Options {
        v3,
        measure: time,
        ..plan.options.clone()
    };
    load::run(plan.program, scenario, &options)
}
