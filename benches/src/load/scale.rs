//! Many clients with few of them active: what the silent ones cost the others, what memory they hold, and what happens when all are cut at
//! once and come back.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::{Value, json};

use super::backend::Job;
use super::fleet::{Event, Next};
use super::meter::{Outcome, Snapshot};
use super::process::{self, Memory};
use super::program::{CONFIG, Program};
use super::progress::Progress;
use super::scenario::send;
use super::{Bench, LoadError, Options, ready_within};
use crate::report;

/// How long memory may take to settle.
const SETTLE: Duration = Duration::from_secs(2);
const SIZE: usize = 64;
/// The number of concurrent reconnects: enough for a storm.
const STORM: usize = 512;
/// Clients from one loopback address.
const CLIENTS_PER_SOURCE: usize = 5_000;
/// How long sessions are kept once all have left for good, in seconds. Before that it is as long as the run waits for all to come back.
const KEPT_AT_LAST: u64 = 10;
/// The line of `connserver.toml` that says so.
const KEPT: &str = "stale_timeout_secs = ";
/// How long the program may take to end and report expired sessions after their deadline.
const REAP_WITHIN: Duration = Duration::from_secs(10);
/// The interval at which that is checked.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The results.
#[derive(Clone, Debug)]
pub struct Report {
    /// The number of all clients.
    pub clients: usize,
    /// The number of clients that send.
    pub active: usize,
    /// The active clients alone.
    pub alone: Outcome,
    /// The active clients together with all the others.
    pub beside: Outcome,
    /// The growth of the kernel's slab caches for all clients, with both ends of their connections.
    pub slab: u64,
    /// Memory before any client connected.
    pub empty: Memory,
    /// Memory with all clients connected.
    pub full: Memory,
    /// The time from the cut until the last client was back.
    pub back_after: Duration,
    /// The program's CPU during that time, per client.
    pub back_cpu_micros: Option<f64>,
    /// Memory once all are back and it has settled.
    pub back: Memory,
    /// Memory once all have left for good and it has settled.
    pub left: Memory,
    /// Sessions resumed after the cut, as reported to the backend.
    pub resumed: u64,
    /// Sessions that ended before all were back, as reported to the backend. There should be none.
    pub lost: u64,
    /// Sessions that ended after all had left, as reported to the backend.
    pub ended: u64,
    /// Connections that broke unexpectedly. Those that did on the way back were tried again.
    pub broken: u64,
}

impl Report {
    /// Returns the ratio of a packet's cost with all clients to its cost with the active ones alone.
    pub fn ratio(&self) -> Option<f64> {
        Some(self.beside.cpu_micros()? / self.alone.cpu_micros()?)
    }
}

/// Returns the lines of `connserver.toml`: as for the other loads, but every session that is away is kept, and for as long as the run
/// waits for them.
pub fn config(clients: u32, patience: u32) -> String {
    let stale = ready_within(clients as usize, patience).as_secs();
    format!("{CONFIG}{KEPT}{stale}\nstale_reap_interval_secs = 1\n")
}

/// Returns these lines with a short time for sessions that are away, if they have a time of [`config`]'s.
fn expiring_soon(config: &str) -> Option<String> {
    let lines = config.lines().map(|line| match line.starts_with(KEPT) {
        true => format!("{KEPT}{KEPT_AT_LAST}\n"),
        false => format!("{line}\n"),
    });
    config.contains(KEPT).then(|| lines.collect())
}

/// Runs the measurement. If a program has no reconnects, its clients come back as new ones.
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
    let slab = process::kernel_slab()?;
    bench.progress = Progress::shown(program.to_string(), "the active connect");
    bench.connect(active)?;
    bench.progress.begin("the active echo alone");
    let alone = echo(&mut bench, active)?;
    bench.progress.begin("the others connect");
    bench.connect(clients - active)?;
    bench.progress.begin("the active echo beside all");
    let beside = echo(&mut bench, active)?;
    settle(&mut bench)?;
    let full = process::memory(pid)?;
    let slab = process::kernel_slab()?.saturating_sub(slab);

    bench.progress.begin("all are cut and come back");
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
    bench.await_ready_or(next)?;
    let after = Snapshot::take(bench.clock, Some(pid))?;
    settle(&mut bench)?;
    let back = process::memory(pid)?;
    let shared = std::sync::Arc::clone(&bench.backend.shared);
    let (resumed, lost) = (shared.resumed.load(Relaxed), shared.failed.load(Relaxed));
    let broken = bench.fleet.broken;

    if program.resumes() {
        bench.running.reconfigure(expiring_soon)?;
        settle(&mut bench)?;
    }
    bench.progress.begin("all leave, their sessions expire");
    for index in 0..clients {
        bench.fleet.clients[index].next = Next::Leave;
        bench.fleet.flush(index, &mut |_, _| {});
    }
    if program.resumes() {
        let until = bench.clock.now() + options.ready_within(clients) + REAP_WITHIN;
        let ended = || (shared.failed.load(Relaxed) - lost) as usize;
        while ended() < clients && bench.clock.now() < until {
            bench.turn_for(LOOK_EVERY, &mut |_, _| {})?;
            bench.progress.at(ended(), clients);
        }
    }
    settle(&mut bench)?;
    let left = process::memory(pid)?;
    let ended = shared.failed.load(Relaxed) - lost;
    let back_cpu_micros = before
        .cpu_until(after)
        .map(|cpu| cpu.total.as_secs_f64() * 1e6 / clients as f64);
    let back_after = before.time_until(after);
    Ok(Report {
        clients,
        active,
        alone,
        beside,
        slab,
        empty,
        full,
        back_after,
        back_cpu_micros,
        back,
        left,
        resumed,
        lost,
        ended,
        broken,
    })
}

/// Keeps one packet of each active client in flight until the time is over, then waits for the last ones to arrive.
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

/// Renders a row per figure and a column per program.
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
    line("beside all ÷ alone", &|report| micros(report.ratio()));
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
    line("kernel's slab MiB, for both ends of all", &|report| {
        mebibytes(report.slab)
    });
    line("sessions resumed", &|report| report.resumed.to_string());
    line("sessions ended after all left", &|report| {
        report.ended.to_string()
    });
    line("sessions lost, connections broken", &|report| {
        format!("{}, {}", report.lost, report.broken)
    });
    line("wrong packets", &|report| {
        (report.alone.wrong + report.beside.wrong).to_string()
    });
    report::markdown(&lines)
}

/// Renders the same data as JSON.
pub fn json(reports: &[(Program, Report)]) -> Value {
    let reports = reports.iter().map(|(program, report)| {
        json!({
            "program": program.to_string(),
            "clients": report.clients,
            "active": report.active,
            "cpu_micros_per_packet_alone": report.alone.cpu_micros(),
            "cpu_micros_per_packet_beside_all": report.beside.cpu_micros(),
            "beside_all_to_alone": report.ratio(),
            "resident_bytes_empty": report.empty.resident,
            "resident_bytes_full": report.full.resident,
            "seconds_until_all_back": report.back_after.as_secs_f64(),
            "cpu_micros_per_reconnect": report.back_cpu_micros,
            "resident_bytes_all_back": report.back.resident,
            "peak_resident_bytes": report.back.peak,
            "resident_bytes_all_gone": report.left.resident,
            "kernel_slab_bytes": report.slab,
            "sessions_resumed": report.resumed,
            "sessions_lost": report.lost,
            "sessions_ended": report.ended,
            "connections_broken": report.broken,
            "wrong_packets": report.alone.wrong + report.beside.wrong,
        })
    });
    Value::Array(reports.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_that_all_wait_for_are_kept_and_those_that_left_expire_soon() {
        let kept = config(100_000, 40);
        assert!(kept.contains("stale_timeout_secs = 4400\n"), "{kept}");
        let soon = expiring_soon(&kept).expect("it has the line");
        assert_eq!(soon, kept.replace("= 4400\n", "= 10\n"));
        assert_eq!(expiring_soon("limits.accept_rate = 0\n"), None);
    }
}
