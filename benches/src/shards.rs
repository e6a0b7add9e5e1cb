//! What more shards gain under full load, and what they cost when one would do.
//!
//! Load and program share the machine, so the load must be cheap. Under full load the backend writes many packets at once. The clients check
//! their sockets only now and then, and take everything that has arrived. For the program every packet of a client is a write of its own,
//! which is nearly all of its work. The light load is a fixed rate that one shard carries easily.

use std::time::Duration;

use serde_json::{Value, json};

use crate::load::program::Program;
use crate::load::{self, LoadError, Options, Scenario};
use crate::report;

/// The pause between two checks of the clients' sockets under full load, in milliseconds.
pub const REST_MS: u64 = 20;
/// Bytes of a packet.
pub const PACKET_BYTES: usize = 64;

/// The light load.
const LIGHT: Scenario = Scenario::Rate {
    clients: 1000,
    per_second: 20_000,
    size: PACKET_BYTES,
    joins: 0,
};

/// The result of one number of shards, as medians.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Shards.
    pub shards: u8,
    /// Packets per second that clients received under full load.
    pub per_second: f64,
    /// CPU microseconds of the program per packet under full load.
    pub cpu_micros: f64,
    /// CPU microseconds of the program per packet of the light load.
    pub light_cpu_micros: f64,
    /// The 99th percentile of that load's latency in milliseconds.
    pub light_p99_millis: f64,
    /// Packets lost, duplicated or misdelivered, in all rounds.
    pub wrong: u64,
}

/// The figures of one number of shards, one of each kind for each round.
#[derive(Clone, Default)]
struct Figures {
    per_second: Vec<f64>,
    cpu_micros: Vec<f64>,
    light_cpu_micros: Vec<f64>,
    light_p99_millis: Vec<f64>,
    wrong: u64,
}

/// Measures each number of shards `rounds` times, in turn: under full load by `scenario`, and under the light load.
pub fn run(
    program: &Program,
    scenario: &Scenario,
    counts: &[u8],
    rounds: u8,
    options: &Options,
) -> Result<Vec<Found>, LoadError> {
    let mut figures = vec![Figures::default(); counts.len()];
    for _ in 0..rounds {
        for (shards, figures) in counts.iter().zip(&mut figures) {
            let full = Options {
                config: format!("general.shards = {shards}\n{}", options.config),
                ..options.clone()
            };
            let outcome = load::run(program, scenario, &full)?;
            figures.per_second.push(outcome.rate());
            figures.cpu_micros.extend(outcome.cpu_micros());
            figures.wrong += outcome.wrong;
            let light = Options {
                rest: Duration::ZERO,
                ..full
            };
            let outcome = load::run(program, &LIGHT, &light)?;
            figures.light_cpu_micros.extend(outcome.cpu_micros());
            figures.light_p99_millis.push(outcome.latency_millis(0.99));
            figures.wrong += outcome.wrong;
        }
    }
    let found = counts.iter().zip(figures);
    Ok(found
        .map(|(&shards, figures)| Found {
            shards,
            per_second: median(figures.per_second),
            cpu_micros: median(figures.cpu_micros),
            light_cpu_micros: median(figures.light_cpu_micros),
            light_p99_millis: median(figures.light_p99_millis),
            wrong: figures.wrong,
        })
        .collect())
}

pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Returns the ratio of a figure of this result to the first one's.
fn ratio(found: &[Found], one: &Found, figure: fn(&Found) -> f64) -> f64 {
    figure(one) / found.first().map_or(f64::NAN, figure)
}

/// Renders the figures as a Markdown table.
pub fn table(found: &[Found]) -> String {
    let head = [
        "shards",
        "packets/s, full load",
        "×",
        "CPU µs/packet",
        "CPU µs/packet at 20,000/s",
        "×",
        "p99 ms at 20,000/s",
        "wrong",
    ];
    let mut lines = vec![head.map(String::from).to_vec()];
    lines.extend(found.iter().map(|one| {
        vec![
            one.shards.to_string(),
            report::figure(one.per_second),
            format!("{:.2}", ratio(found, one, |one| one.per_second)),
            report::figure(one.cpu_micros),
            report::figure(one.light_cpu_micros),
            format!("{:.2}", ratio(found, one, |one| one.light_cpu_micros)),
            report::figure(one.light_p99_millis),
            one.wrong.to_string(),
        ]
    }));
    report::markdown(&lines)
}

/// Renders the figures as JSON.
pub fn json(found: &[Found]) -> Value {
    found
        .iter()
        .map(|one| {
            json!({
                "shards": one.shards,
                "packets_per_second": one.per_second,
                "times": ratio(found, one, |one| one.per_second),
                "cpu_micros_per_packet": one.cpu_micros,
                "light_cpu_micros_per_packet": one.light_cpu_micros,
                "light_times": ratio(found, one, |one| one.light_cpu_micros),
                "light_p99_millis": one.light_p99_millis,
                "wrong": one.wrong,
            })
        })
        .collect()
}
