//! Many clients, few of them active: what the silent ones cost the others, what they hold, and what happens when all are cut at
//! once and come back.

use std::time::Duration;

use serde_json::{Value, json};

use super::backend::Job;
use super::fleet::{Event, Next};
use super::meter::{Outcome, Snapshot};
use super::process::{self, Memory};
use super::program::{CONFIG, Program};
use super::scenario::send;
use super::{Bench, LoadError, Options};
use crate::report;

/// How long memory is given to come to rest.
const SETTLE: Duration = Duration::from_secs(2);
const SIZE: usize = 64;
/// Reconnects that are on their way at a time: a storm, not a procession.
const STORM: usize = 512;
/// Clients from one loopback address.
const CLIENTS_PER_SOURCE: usize = 5_000;

/// What was found.
#[derive(Clone, Debug)]
pub struct Report {
    /// All clients.
    pub clients: usize,
    /// Those that send.
    pub active: usize,
    /// The active alone.
    pub alone: Outcome,
    /// The active beside all the others.
    pub beside: Outcome,
    /// Before anyone came.
    pub empty: Memory,
    /// With all there.
    pub full: Memory,
    /// From the cut of all to the last one back.
    pub back_after: Duration,
    /// CPU of the program meanwhile, for each client.
    pub back_cpu_micros: Option<f64>,
    /// With all back and at rest.
    pub back: Memory,
    /// All gone for good and the program at rest.
    pub left: Memory,
}

/// Lines of `connserver.toml` for it: as for the other loads, but dropped sessions go soon after all could be back.
pub fn config(clients: u32) -> String {
    let stale = stale_timeout(clients as usize).as_secs();
    format!("{CONFIG}[clients]\nstale_timeout_secs = {stale}\nstale_reap_interval_secs = 1\n")
}

/// Time enough for all to come back.
fn stale_timeout(clients: usize) -> Duration {
    Duration::from_secs(10 + clients as u64 / 2000)
}

/// Runs it. A program whose clients cannot come back gets them as new ones.
pub fn run(
    program: &Program,
    clients: usize,
    active: usize,
    options: &Options,
) -> Result<Report, LoadError> {
    if program.is_plain() {
        return Err(LoadError::NotApplicable(program.clone()));
    }
    let sources = (clients.div_ceil(CLIENTS_PER_SOURCE) as u32).max(options.sources);
    let mut bench = Bench::start(
        program,
        Job::Echo,
        &Options {
            sources,
            ..options.clone()
        },
    )?;
    let pid = bench
        .pid()
        .ok_or_else(|| LoadError::NotApplicable(program.clone()))?;
    let empty = process::memory(pid)?;
    bench.connect(active)?;
    let alone = echo(&mut bench, active)?;
    bench.connect(clients - active)?;
    let beside = echo(&mut bench, active)?;
    settle(&mut bench)?;
    let full = process::memory(pid)?;

    let before = Snapshot::take(bench.clock, Some(pid))?;
    bench.fleet.max_connecting = STORM;
    let next = if program.resumes() {
        Next::Resume
    } else {
        Next::Rejoin
    };
    for index in 0..clients {
        bench.fleet.clients[index].next = next;
        bench.fleet.flush(index, &mut |_, _| {});
    }
    bench.await_ready()?;
    let after = Snapshot::take(bench.clock, Some(pid))?;
    settle(&mut bench)?;
    let back = process::memory(pid)?;

    for index in 0..clients {
        bench.fleet.clients[index].next = Next::Leave;
        bench.fleet.flush(index, &mut |_, _| {});
    }
    // Until no session is kept any more.
    bench.turn_for(stale_timeout(clients) + SETTLE, &mut |_, _| {})?;
    let left = process::memory(pid)?;
    let back_cpu_micros = before
        .cpu_until(after)
        .map(|cpu| cpu.total.as_secs_f64() * 1e6 / clients as f64);
    let back_after = before.time_until(after);
    Ok(Report {
        clients,
        active,
        alone,
        beside,
        empty,
        full,
        back_after,
        back_cpu_micros,
        back,
        left,
    })
}

/// One packet of each active client is on its way until the time is over; then the last ones come home.
fn echo(bench: &mut Bench, active: usize) -> Result<Outcome, LoadError> {
    let clock = bench.clock;
    for index in 0..active {
        send(&mut bench.fleet.clients[index], clock.now(), SIZE);
        bench.fleet.flush(index, &mut |_, _| {});
    }
    let outcome = bench.measure(&mut |meter, client, event| {
        if let Event::Packet(packet) = event {
            meter.packet(client, packet);
            send(client, clock.now(), SIZE);
        }
    })?;
    bench.turn_for(Duration::from_millis(200), &mut |client, event| {
        if let Event::Packet(_) = event {
            client.expects += 1;
        }
    })?;
    Ok(outcome)
}

fn settle(bench: &mut Bench) -> Result<(), LoadError> {
    bench.turn_for(SETTLE, &mut |_, _| {})
}

/// A line for each figure, a column for each program.
pub fn table(reports: &[(Program, Report)]) -> String {
    let mut lines = vec![vec!["figure".to_owned()]];
    lines[0].extend(reports.iter().map(|(program, _)| program.to_string()));
    let mut line = |name: &str, of: &dyn Fn(&Report) -> String| {
        let mut cells = vec![name.to_owned()];
        cells.extend(reports.iter().map(|(_, report)| of(report)));
        lines.push(cells);
    };
    let micros = |figure: Option<f64>| figure.map_or("–".to_owned(), report::figure);
    let mebibytes = |bytes: u64| report::figure(bytes as f64 / f64::from(1 << 20));
    line("clients (active)", &|report| {
        format!("{} ({})", report.clients, report.active)
    });
    line("CPU µs/packet, the active alone", &|report| {
        micros(report.alone.cpu_micros())
    });
    line("CPU µs/packet, beside all", &|report| {
        micros(report.beside.cpu_micros())
    });
    line("resident MiB, empty", &|report| {
        mebibytes(report.empty.resident)
    });
    line("resident MiB, all there", &|report| {
        mebibytes(report.full.resident)
    });
    line("all cut and back, seconds", &|report| {
        report::figure(report.back_after.as_secs_f64())
    });
    line("CPU µs for each", &|report| micros(report.back_cpu_micros));
    line("resident MiB, all back", &|report| {
        mebibytes(report.back.resident)
    });
    line("peak MiB", &|report| mebibytes(report.back.peak));
    line("resident MiB, all gone", &|report| {
        mebibytes(report.left.resident)
    });
    line("wrong packets", &|report| {
        (report.alone.wrong + report.beside.wrong).to_string()
    });
    report::markdown(&lines)
}

/// The same as JSON.
pub fn json(reports: &[(Program, Report)]) -> Value {
    let reports = reports.iter().map(|(program, report)| {
        json!({
            "program": program.to_string(),
            "clients": report.clients,
            "active": report.active,
            "cpu_micros_per_packet_alone": report.alone.cpu_micros(),
            "cpu_micros_per_packet_beside_all": report.beside.cpu_micros(),
            "resident_bytes_empty": report.empty.resident,
            "resident_bytes_full": report.full.resident,
            "seconds_until_all_back": report.back_after.as_secs_f64(),
            "cpu_micros_per_reconnect": report.back_cpu_micros,
            "resident_bytes_all_back": report.back.resident,
            "peak_resident_bytes": report.back.peak,
            "resident_bytes_all_gone": report.left.resident,
            "wrong_packets": report.alone.wrong + report.beside.wrong,
        })
    });
    Value::Array(reports.collect())
}
