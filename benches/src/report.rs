//! The figures as a table for people and as JSON for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::load::meter::Outcome;
use crate::load::program::Program;

/// The figures of one program, or why there are none.
pub type Row = (Program, Result<Outcome, String>);

const COLUMNS: [&str; 14] = [
    "program",
    "ops/s",
    "CPU µs/op",
    "user",
    "system",
    "busy",
    "p50 ms",
    "p99 ms",
    "p999 ms",
    "RSS MiB",
    "peak MiB",
    "bytes/idle",
    "wrong",
    "broken",
];

/// Renders a table with one line per program.
pub fn table(rows: &[Row]) -> String {
    let mut lines = vec![COLUMNS.map(str::to_owned).to_vec()];
    let mut notes = String::new();
    for (program, result) in rows {
        match result {
            Ok(outcome) => lines.push(cells(program, outcome)),
            Err(why) => {
                let _ = writeln!(notes, "{program}: {why}");
            }
        }
    }
    align(&lines) + &notes
}

/// Renders the same data as JSON.
pub fn json(scenario: &str, rows: &[Row]) -> Value {
    let rows = rows.iter().map(|(program, result)| match result {
        Ok(outcome) => figures(program, outcome),
        Err(why) => json!({"program": program.to_string(), "skipped": why}),
    });
    json!({"scenario": scenario, "programs": rows.collect::<Vec<_>>()})
}

fn figures(program: &Program, outcome: &Outcome) -> Value {
    let quantile = |q| outcome.latency_millis(q);
    json!({
        "program": program.to_string(),
        "operations": outcome.operations,
        "seconds": outcome.elapsed.as_secs_f64(),
        "operations_per_second": outcome.rate(),
        "cpu_micros_per_operation": outcome.cpu_micros(),
        "user_micros_per_operation": outcome.user_micros(),
        "busy": outcome.busy(),
        "latency_millis": {"p50": quantile(0.5), "p99": quantile(0.99), "p999": quantile(0.999)},
        "resident_bytes": outcome.memory.map(|memory| memory.resident),
        "peak_resident_bytes": outcome.memory.map(|memory| memory.peak),
        "bytes_per_idle_client": outcome.idle_bytes,
        "wrong_packets": outcome.wrong,
        "broken_connections": outcome.broken,
    })
}

fn cells(program: &Program, outcome: &Outcome) -> Vec<String> {
    let optional = |value: Option<f64>, digits: usize| {
        value.map_or("–".into(), |value| format!("{value:.digits$}"))
    };
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let system = outcome
        .cpu_micros()
        .zip(outcome.user_micros())
        .map(|(both, user)| both - user);
    vec![
        program.to_string(),
        format!("{:.0}", outcome.rate()),
        optional(outcome.cpu_micros(), 2),
        optional(outcome.user_micros(), 2),
        optional(system, 2),
        optional(outcome.busy(), 2),
        format!("{:.3}", outcome.latency_millis(0.5)),
        format!("{:.3}", outcome.latency_millis(0.99)),
        format!("{:.3}", outcome.latency_millis(0.999)),
        optional(outcome.memory.map(|memory| mebibytes(memory.resident)), 1),
        optional(outcome.memory.map(|memory| mebibytes(memory.peak)), 1),
        optional(outcome.idle_bytes, 0),
        outcome.wrong.to_string(),
        outcome.broken.to_string(),
    ]
}

/// Aligns lines of cells in columns: the first to the left, the others to the right.
pub fn align(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        lines
            .iter()
            .filter_map(|line| line.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..columns)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let mut out = String::new();
    for line in lines {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let pad = " ".repeat(width - cell.chars().count());
            let _ = if column == 0 {
                write!(out, "{cell}{pad}")
            } else {
                write!(out, "  {pad}{cell}")
            };
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    out
}

/// Renders lines of cells as a Markdown table, the first line as its heading, padded to read well as plain text.
pub fn markdown(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for (nth, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(out, "| {cell}{} ", " ".repeat(width - cell.chars().count()));
        }
        out += "|\n";
        if nth == 0 {
            widths
                .iter()
                .for_each(|width| out += &format!("| {} ", "-".repeat(*width)));
            out += "|\n";
        }
    }
    out
}

/// Formats a value with three significant digits.
pub fn figure(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
