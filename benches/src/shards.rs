//! What more shards gain: one program's packets per second with one shard and with more.
//!
//! Load and program share the machine, so the load must be cheap. The backend writes many packets at once. The clients check their sockets
//! only now and then, and take everything that has arrived. For the program every packet of a client is a write of its own, which is nearly
//! all of its work.

use serde_json::{Value, json};

use crate::load::program::Program;
use crate::load::{self, LoadError, Options, Scenario};
use crate::report;

/// The pause between two checks of the clients' sockets, in milliseconds.
pub const REST_MS: u64 = 20;
/// Bytes of a packet.
pub const PACKET_BYTES: usize = 64;

/// The result of one number of shards, as medians.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Shards.
    pub shards: u8,
    /// Packets per second that clients received.
    pub per_second: f64,
    /// CPU microseconds of the program per packet.
    pub cpu_micros: f64,
    /// Packets lost, duplicated or misdelivered, in all rounds.
    pub wrong: u64,
}

/// Measures each number of shards `rounds` times, in turn.
pub fn run(
    program: &Program,
    scenario: &Scenario,
    counts: &[u8],
    rounds: u8,
    options: &Options,
) -> Result<Vec<Found>, LoadError> {
    let mut figures: Vec<(Vec<f64>, Vec<f64>, u64)> = vec![Default::default(); counts.len()];
    for _ in 0..rounds {
        for (shards, (rates, cpus, wrong)) in counts.iter().zip(&mut figures) {
            let options = Options {
                config: format!("general.shards = {shards}\n{}", options.config),
                ..options.clone()
            };
            let outcome = load::run(program, scenario, &options)?;
            let operations = outcome.operations as f64;
            rates.push(operations / outcome.elapsed.as_secs_f64());
            if let Some(cpu) = outcome.cpu {
                cpus.push((cpu.user + cpu.system).as_secs_f64() * 1e6 / operations.max(1.0));
            }
            *wrong += outcome.wrong;
        }
    }
    let found = counts.iter().zip(figures);
    Ok(found
        .map(|(&shards, (rates, cpus, wrong))| Found {
            shards,
            per_second: median(rates),
            cpu_micros: median(cpus),
            wrong,
        })
        .collect())
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Returns the ratio of this result's packets per second to the first one's.
fn ratio(found: &[Found], one: &Found) -> f64 {
    one.per_second / found.first().map_or(f64::NAN, |first| first.per_second)
}

/// Renders the figures as a Markdown table.
pub fn table(found: &[Found]) -> String {
    let head = ["shards", "packets/s", "×", "CPU µs/packet", "wrong"].map(String::from);
    let mut lines = vec![head.to_vec()];
    lines.extend(found.iter().map(|one| {
        vec![
            one.shards.to_string(),
            report::figure(one.per_second),
            format!("{:.2}", ratio(found, one)),
            report::figure(one.cpu_micros),
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
                "times": ratio(found, one),
                "cpu_micros_per_packet": one.cpu_micros,
                "wrong": one.wrong,
            })
        })
        .collect()
}
