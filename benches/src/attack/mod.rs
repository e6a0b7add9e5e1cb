//! The attack suite: a hundred ordinary clients that echo at a fixed rate, and an attacker.

mod health;
pub mod kinds;
mod others;
pub mod strangers;

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::load::backend::Job;
use crate::load::carriage::{Carriage, Carrier};
use crate::load::fleet::{Event, Fleet, Next, Speech};
use crate::load::meter::Meter;
use crate::load::payload::Clock;
use crate::load::process::{self, Memory};
use crate::load::program::{self, Program};
use crate::load::scenario::send;
use crate::load::sources::{self, Sources};
use crate::load::{Bench, LoadError, Options};
use crate::report;
use kinds::{Kind, Means, Others};
use others::Company;
use strangers::Tally;

/// The lines of `connserver.toml` for an attack: the defaults, but loopback is not exempt.
pub const CONFIG: &str = "[limits]\nexempt = []\n";

const CLIENTS: usize = 100;
const PER_SECOND: u64 = 2000;
const SIZE: usize = 64;
const BEFORE: Duration = Duration::from_secs(2);
/// The window in which recovery is measured.
const WINDOW: Duration = Duration::from_millis(100);
/// The time between two turns of sessions, and how many are on their way back at once. That is just enough to count as a storm, since the
/// more come back, the more may join.
const UNHURRIED: (Duration, usize) = (Duration::from_millis(2), 64);
/// The time between two checks of the other clients.
const SLICE: Duration = Duration::from_millis(5);
const RECOVER_WITHIN: Duration = Duration::from_secs(10);
/// A p99 that is good enough, whatever it was before.
const GOOD_P99_MILLIS: f64 = 20.0;

/// The effect of an attack on the ordinary clients and on the program.
#[derive(Clone, Debug)]
pub struct Report {
    /// The attack.
    pub kind: Kind,
    /// The 99th percentile of the ordinary clients' latency before the attack, in milliseconds.
    pub p99_before: f64,
    /// The 99th percentile of their latency during the attack, in milliseconds.
    pub p99_during: f64,
    /// Packets of ordinary clients that never came back, or were not the ones expected.
    pub lost: u64,
    /// Ordinary clients that were disconnected.
    pub cut_off: u64,
    /// The time from the end of the attack until the latency is good again; `None` if it was not within ten seconds.
    pub recovery: Option<Duration>,
    /// How long a new client takes to join right after the attack; `None` if it could not within ten seconds.
    pub newcomer: Option<Duration>,
    /// Memory before the attack.
    pub memory_before: Memory,
    /// Memory after the recovery.
    pub memory_after: Memory,
    /// How many other clients were admitted during the attack, and how many wanted to be.
    pub got_in: (usize, usize),
    /// Connections that the attacker opened.
    pub opened: u64,
    /// Connections of the attacker that the program closed.
    pub ended: u64,
    /// Health checks without a good response within a second.
    pub unhealthy: u64,
}

impl Report {
    /// Returns whether ordinary clients lost nothing and were served nearly as well as before.
    pub fn held(&self) -> bool {
        // No echo arrives while the backend does not read. Then it only matters that nothing is lost.
        let late = self.p99_during > GOOD_P99_MILLIS.max(3.0 * self.p99_before);
        let late = late && !self.kind.means.stalls_backend();
        !late
            && self.lost == 0
            && self.cut_off == 0
            && self.unhealthy == 0
            && self.recovery.is_some()
            && self.newcomer.is_some()
            && self.got_in.0 == self.got_in.1
    }
}

/// Runs one attack on one program.
pub fn run(program: &Program, kind: &Kind, options: &Options) -> Result<Report, LoadError> {
    if program.is_plain() || (kind.needs_resumes() && !program.resumes()) {
        return Err(LoadError::NotApplicable(program.clone()));
    }
    let host = kind.is_over_ipv6.then_some(IpAddr::from(sources::HOST_V6));
    if host.is_some_and(|host| UdpSocket::bind((host, 0)).is_err()) {
        return Err(LoadError::NoNetwork(kind.name));
    }
    let mut options = options.clone();
    options.config += kind.config;
    options.carriage = kind.carriage;
    options.measure = options.measure.max(kind.at_least);
    let mut figures = None;
    if let Means::Scrapers(_) = kind.means {
        let address = program::free_address()?;
        options.config += &format!("[metrics]\naddress = \"{address}\"\n");
        figures = Some(address);
    }
    let options = &options;
    let mut bench = Bench::start_special(program, Job::Echo, options, host, kind.max_descriptors)?;
    let pid = bench
        .pid()
        .ok_or_else(|| LoadError::NotApplicable(program.clone()))?;
    bench.connect(CLIENTS)?;
    let mut ordinary = Ordinary {
        due: bench.clock.now(),
        turn: 0,
        wrong: 0,
    };
    ordinary.go_on(&mut bench, Duration::from_millis(500))?;
    let before = ordinary.go_on(&mut bench, BEFORE)?;
    let memory_before = process::memory(pid)?;
    let p99 = |meter: &Meter| meter.latency.value_at_quantile(0.99) as f64 / 1e6;

    let mut company = Company::gather(kind.others, &bench)?;
    let attacker = Attacker::start(kind, &bench, figures, company.ids())?;
    let mut during = ordinary.go_on(&mut bench, options.measure / 2)?;
    company.set_out();
    let half = bench.clock.now() + options.measure / 2;
    while bench.clock.now() < half {
        let slice = match kind.others {
            Others::Nobody => options.measure / 2,
            _ => SLICE,
        };
        let next = ordinary.go_on(&mut bench, slice)?;
        during.latency.add(&next.latency).expect("the same range");
        company.go_on()?;
    }
    let got_in = company.are_in();
    let tally = attacker.stop(&bench);

    let good = GOOD_P99_MILLIS.max(2.0 * p99(&before));
    let end = bench.clock.now();
    let mut recovery = None;
    while recovery.is_none() && bench.clock.now() < end + RECOVER_WITHIN {
        let window = ordinary.go_on(&mut bench, WINDOW)?;
        if window.operations > 0 && p99(&window) <= good {
            recovery = Some((bench.clock.now() - end).saturating_sub(WINDOW));
        }
    }
    let newcomer = join_one(&mut bench, kind.carriage)?;
    ordinary.go_on(&mut bench, Duration::from_secs(1))?;
    let lost = ordinary.finish(&mut bench)?;
    if !bench.running.is_alive() {
        return Err(LoadError::Ended {
            program: program.clone(),
            stderr: bench.running.stderr(),
        });
    }
    Ok(Report {
        kind: *kind,
        p99_before: p99(&before),
        p99_during: p99(&during),
        lost,
        cut_off: bench.fleet.broken,
        recovery,
        newcomer,
        memory_before,
        memory_after: process::memory(pid)?,
        got_in,
        opened: tally.opened.load(Relaxed),
        ended: tally.ended.load(Relaxed),
        unhealthy: tally.unhealthy.load(Relaxed),
    })
}

/// The traffic of the ordinary clients, which continues through all phases.
struct Ordinary {
    due: Duration,
    turn: usize,
    wrong: u64,
}

impl Ordinary {
    /// Sends and receives for this long. Returns what was measured.
    fn go_on(&mut self, bench: &mut Bench, time: Duration) -> Result<Meter, LoadError> {
        let every = Duration::from_secs(1) / PER_SECOND as u32;
        let mut meter = Meter::new(bench.clock);
        meter.recording = true;
        let until = bench.clock.now() + time;
        while bench.clock.now() < until {
            while self.due <= bench.clock.now() {
                send(&mut bench.fleet.clients[self.turn], self.due, SIZE);
                bench.fleet.flush(self.turn, &mut |_, _| {});
                self.turn = (self.turn + 1) % CLIENTS;
                self.due += every;
            }
            bench
                .fleet
                .turn(self.due.min(until), &mut |client, event| {
                    if let Event::Packet(packet) = event {
                        meter.packet(client, packet);
                    }
                })?;
        }
        self.wrong += meter.wrong;
        Ok(meter)
    }

    /// Waits for packets still in flight. Returns how many never came or were wrong.
    fn finish(self, bench: &mut Bench) -> Result<u64, LoadError> {
        let mut meter = Meter::new(bench.clock);
        let until = bench.clock.now() + RECOVER_WITHIN;
        let missing = |bench: &Bench| -> u64 {
            bench.fleet.clients[..CLIENTS]
                .iter()
                .map(|client| client.sends.saturating_sub(client.expects))
                .sum()
        };
        while missing(bench) > 0 && bench.clock.now() < until {
            bench.turn_for(WINDOW, &mut |client, event| {
                if let Event::Packet(packet) = event {
                    meter.packet(client, packet);
                }
            })?;
        }
        Ok(missing(bench) + self.wrong + meter.wrong)
    }
}

/// Joins one more client. Packets for the others wait in their sockets meanwhile.
fn join_one(bench: &mut Bench, carriage: Carriage) -> Result<Option<Duration>, LoadError> {
    let clock = Clock::start();
    let mut fleet = Fleet::new(bench.running.address, Speech::V2, 1, clock)?;
    fleet.carrier = Carrier::new(carriage)?;
    fleet.add(1);
    while fleet.ready() == 0 && clock.now() < RECOVER_WITHIN {
        fleet.turn(clock.now() + WINDOW, &mut |client, event| {
            // A newcomer that is turned away retries, as our client library does.
            if event == Event::Closed {
                client.next = Next::Rejoin;
            }
        })?;
    }
    Ok((fleet.ready() == 1).then(|| clock.now()))
}

/// The attacker, on a thread that gives way to that of the ordinary clients.
struct Attacker {
    stop: Arc<AtomicBool>,
    tally: Arc<Tally>,
    thread: Option<JoinHandle<io::Result<()>>>,
    checker: Option<JoinHandle<()>>,
}

impl Attacker {
    /// `known` are ids of clients.
    fn start(
        kind: &Kind,
        bench: &Bench,
        figures: Option<SocketAddr>,
        known: Vec<u64>,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let tally = Arc::new(Tally::default());
        let mut attacker = Self {
            stop: Arc::clone(&stop),
            tally: Arc::clone(&tally),
            thread: None,
            checker: None,
        };
        let (address, means) = (figures.unwrap_or(bench.running.address), kind.means);
        if means.stalls_backend() {
            bench.backend.shared.set_stalled(true);
        }
        if let Means::StalledBackend = means {
            return Ok(attacker);
        }
        if let Some(figures) = figures {
            let (stop, tally) = (Arc::clone(&stop), Arc::clone(&tally));
            attacker.checker = Some(
                std::thread::Builder::new()
                    .name("health".into())
                    .spawn(move || health::run(figures, &stop, &tally))?,
            );
        }
        let attack = move || {
            // On Linux this applies to the thread alone. Without it the attack would be somewhat harder on the tool itself.
            let _ = rustix::process::nice(10);
            match means {
                Means::Strangers(plan)
                | Means::Scrapers(plan)
                | Means::StalledBackendBeside(plan) => {
                    strangers::run(&plan, address, &known, &stop, &tally)
                }
                Means::Reconnects { sessions, sources } => storm(
                    address,
                    sessions,
                    Sources::new(sources),
                    None,
                    &stop,
                    &tally,
                ),
                Means::ReconnectsAndStrangers {
                    sessions,
                    sources,
                    plan,
                } => std::thread::scope(|scope| {
                    let strangers =
                        scope.spawn(|| strangers::run(&plan, address, &known, &stop, &tally));
                    let from = Sources::apart(sources);
                    let stormed = storm(address, sessions, from, Some(UNHURRIED), &stop, &tally);
                    let joined = strangers.join().unwrap_or(Ok(()));
                    stormed.and(joined)
                }),
                Means::StalledBackend => Ok(()),
            }
        };
        attacker.thread = Some(
            std::thread::Builder::new()
                .name("attacker".into())
                .spawn(attack)?,
        );
        Ok(attacker)
    }

    fn stop(mut self, bench: &Bench) -> Arc<Tally> {
        self.stop.store(true, Relaxed);
        bench.backend.shared.set_stalled(false);
        if let Some(checker) = self.checker.take() {
            // It has no result; a panic was reported there.
            let _ = checker.join();
        }
        if let Some(Ok(Err(error))) = self.thread.take().map(JoinHandle::join) {
            eprintln!("the attack broke off: {error}");
        }
        self.tally
    }
}

/// Makes sessions drop and come back until told to stop. Those that are turned away retry.
fn storm(
    address: SocketAddr,
    sessions: usize,
    sources: Sources,
    pace: Option<(Duration, usize)>,
    stop: &AtomicBool,
    tally: &Tally,
) -> io::Result<()> {
    let clock = Clock::start();
    let mut fleet = Fleet::new(address, Speech::V2, 1, clock)?;
    fleet.come_from(sources);
    if let Some((rest, at_once)) = pace {
        (fleet.rest, fleet.max_connecting) = (rest, at_once);
    }
    fleet.add(sessions);
    while !stop.load(Relaxed) {
        fleet.turn(clock.now() + WINDOW, &mut |client, event| match event {
            Event::Ready => {
                tally.opened.fetch_add(1, Relaxed);
                client.next = Next::Resume;
            }
            Event::Closed => {
                tally.ended.fetch_add(1, Relaxed);
                client.next = if client.id == 0 {
                    Next::Rejoin
                } else {
                    Next::Resume
                };
            }
            Event::Packet(_) => {}
        })?;
    }
    Ok(())
}

/// Renders a Markdown table with one line per attack.
pub fn table(reports: &[Report]) -> String {
    let head = [
        "attack",
        "p99 ms before",
        "during",
        "lost",
        "cut off",
        "recovery s",
        "newcomer s",
        "got in",
        "MiB before",
        "peak",
        "after",
        "opened",
        "ended",
        "held",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    let seconds = |time: Option<Duration>| {
        time.map_or("never".into(), |time| format!("{:.2}", time.as_secs_f64()))
    };
    let mebibytes = |bytes: u64| report::figure(bytes as f64 / f64::from(1 << 20));
    for report in reports {
        lines.push(vec![
            format!("{}: {}", report.kind.name, report.kind.what),
            report::figure(report.p99_before),
            report::figure(report.p99_during),
            report.lost.to_string(),
            report.cut_off.to_string(),
            seconds(report.recovery),
            seconds(report.newcomer),
            match report.got_in {
                (_, 0) => String::new(),
                (got_in, wanted) => format!("{got_in}/{wanted}"),
            },
            mebibytes(report.memory_before.resident),
            mebibytes(report.memory_after.peak),
            mebibytes(report.memory_after.resident),
            report.opened.to_string(),
            report.ended.to_string(),
            if report.held() { "✓" } else { "✗" }.to_owned(),
        ]);
    }
    report::markdown(&lines)
}

/// Renders the same data as JSON.
pub fn json(program: &Program, reports: &[Report]) -> Value {
    let reports = reports.iter().map(|report| {
        json!({
            "attack": report.kind.name,
            "p99_millis_before": report.p99_before,
            "p99_millis_during": report.p99_during,
            "lost": report.lost,
            "cut_off": report.cut_off,
            "recovery_seconds": report.recovery.map(|time| time.as_secs_f64()),
            "newcomer_seconds": report.newcomer.map(|time| time.as_secs_f64()),
            "resident_bytes_before": report.memory_before.resident,
            "peak_resident_bytes": report.memory_after.peak,
            "resident_bytes_after": report.memory_after.resident,
            "got_in": report.got_in.0,
            "wanted_in": report.got_in.1,
            "opened": report.opened,
            "ended": report.ended,
            "health_checks_missed": report.unhealthy,
            "held": report.held(),
        })
    });
    json!({"program": program.to_string(), "attacks": reports.collect::<Vec<_>>()})
}
