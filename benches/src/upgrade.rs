//! The cost of upgrades for clients: numbered traffic both ways while one process after the other takes over (SPEC 41).

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::load::backend::{Job, check};
use crate::load::carriage::{Carriage, Carrier, name_of};
use crate::load::fleet::{Client, Event, Fleet, Next, Speech};
use crate::load::payload::{Clock, Head};
use crate::load::program::Program;
use crate::load::scenario::send;
use crate::load::{Bench, LoadError, Options};

/// Between two upgrades, so that the load goes on in between.
const REST: Duration = Duration::from_millis(300);
/// How long an upgrade may take, and how long what is under way at the end.
const WITHIN: Duration = Duration::from_secs(30);
/// A turn of one half of the clients.
const TURN: Duration = Duration::from_millis(1);
const PACKET_BYTES: usize = 64;

/// The results of a run.
#[derive(Debug, Default)]
pub struct Found {
    clients: usize,
    /// The clients, in words.
    kinds: String,
    /// Connections that broke.
    dropped: u64,
    up: u64,
    down: u64,
    lost: u64,
    doubled: u64,
    /// How long nobody was served at each upgrade, as the new process logs it.
    pauses: Vec<Duration>,
    /// The longest time for a packet of each client to come back.
    waits: Vec<Duration>,
}

/// Upgrades a program so many times, under the echo of so many clients: over plain TCP one half of each version.
///
/// # Errors
/// When the program does not start, or an upgrade fails.
pub fn run(
    program: &Program,
    clients: usize,
    times: usize,
    options: &Options,
) -> Result<Found, LoadError> {
    let place = Place::new()?;
    // In front: tables may follow.
    let own = format!(
        "general.key_file = {:?}\ngeneral.upgrade_socket = {:?}\n",
        place.0.join("edge.key"),
        place.0.join("upgrade.sock")
    );
    let options = Options {
        config: [&own, options.config.as_str()].concat(),
        v3: false,
        ..options.clone()
    };
    let mut bench = Bench::start(program, Job::EchoChecked, &options)?;
    let clock = bench.clock;
    // Those of the load tool speak version 3 over plain TCP alone.
    let speech = match options.carriage {
        Carriage::Tcp => Speech::V3,
        _ => Speech::V2,
    };
    let mut new = Fleet::new(bench.running.address, speech, options.sources, clock)?;
    new.carrier = Carrier::new(options.carriage)?;
    let old = clients.div_ceil(2);
    bench.connect(old)?;
    new.add(clients - old);
    let mut tally = Tally::new(clock, clients);
    let until = clock.now() + options.ready_within(clients);
    while new.ready() < clients - old && clock.now() < until {
        new.turn(until, &mut |_, _| {})?;
    }
    for fleet in [&mut bench.fleet, &mut new] {
        for index in 0..fleet.clients.len() {
            let client = &mut fleet.clients[index];
            send(client, clock.now(), PACKET_BYTES);
            fleet.flush(index, &mut |_, _| {});
        }
    }
    let upgrades = Upgrades::begin(program, &bench, times)?;
    let mut turn = |bench: &mut Bench, new: &mut Fleet, goes_on| -> io::Result<()> {
        let until = clock.now() + TURN;
        let on =
            &mut |client: &mut Client, event: Event<'_>| tally.note(client, event, (0, goes_on));
        bench.fleet.turn(until, on)?;
        let on = &mut |client: &mut Client, event: Event<'_>| {
            tally.note(client, event, (old, goes_on));
        };
        new.turn(until + TURN, on)
    };
    let ended = loop {
        turn(&mut bench, &mut new, true)?;
        if let Ok(ended) = upgrades.ended.try_recv() {
            break ended;
        }
    };
    let (problem, last) = ended;
    let _successor = Successor(last);
    // What is under way arrives.
    let until = clock.now() + WITHIN;
    let is_settled = |client: &Client| client.expects == client.sends && client.is_settled();
    let all_settled = |fleet: &Fleet| fleet.clients.iter().all(is_settled);
    while clock.now() < until && !(all_settled(&bench.fleet) && all_settled(&new)) {
        turn(&mut bench, &mut new, false)?;
    }
    if let Some(problem) = problem {
        return Err(io::Error::other(format!("{problem}\n{}", bench.running.stderr())).into());
    }
    let missing = |client: &Client| client.sends.saturating_sub(client.expects);
    let fleets = [&bench.fleet, &new];
    let of_all = fleets.into_iter().flat_map(|fleet| &fleet.clients);
    let missing: u64 = of_all.map(missing).sum();
    let shared = &bench.backend.shared;
    let pauses = bench.running.stderr();
    let pauses = pauses.lines().filter_map(pause_of);
    Ok(Found {
        clients,
        kinds: match options.carriage {
            Carriage::Tcp => "half of each version".to_owned(),
            carriage => format!("of version 2 through {}", name_of(carriage)),
        },
        dropped: tally.dropped + bench.fleet.broken + new.broken,
        up: shared.checked.load(Relaxed),
        down: tally.packets,
        lost: tally.lost + missing + shared.lost.load(Relaxed),
        doubled: tally.doubled + shared.doubled.load(Relaxed),
        pauses: pauses.collect(),
        waits: tally.waits,
    })
}

/// What has come back so far.
struct Tally {
    clock: Clock,
    packets: u64,
    lost: u64,
    doubled: u64,
    dropped: u64,
    waits: Vec<Duration>,
}

impl Tally {
    fn new(clock: Clock, clients: usize) -> Tally {
        Tally {
            clock,
            packets: 0,
            lost: 0,
            doubled: 0,
            dropped: 0,
            waits: vec![Duration::ZERO; clients],
        }
    }

    /// Notes what happened to a client, whose place is behind the first clients of the other half.
    fn note(&mut self, client: &mut Client, event: Event<'_>, (first, goes_on): (usize, bool)) {
        match event {
            Event::Ready => {}
            Event::Closed => {
                self.dropped += 1;
                client.next = Next::Leave;
            }
            Event::Packet(packet) => {
                let head = Head::read(packet);
                let number = head.map_or(u64::MAX, |head| head.number);
                let (lost, doubled) = check(&mut client.expects, number);
                self.packets += 1;
                self.lost += lost;
                self.doubled += doubled;
                let now = self.clock.now();
                if let Some(head) = head {
                    let wait = &mut self.waits[first + client.index];
                    *wait = now.saturating_sub(head.due).max(*wait);
                }
                if goes_on {
                    send(client, now, PACKET_BYTES);
                }
            }
        }
    }
}

/// One upgrade after the other, on a thread of its own.
struct Upgrades {
    /// What went wrong, and the process that serves.
    ended: Receiver<(Option<String>, Option<Pid>)>,
}

impl Upgrades {
    fn begin(program: &Program, bench: &Bench, times: usize) -> Result<Upgrades, LoadError> {
        let (tell, ended) = mpsc::channel();
        let binary = program.binary()?;
        let config = bench.running.config_file();
        let config = config.ok_or_else(|| LoadError::NotApplicable(program.clone()))?;
        thread::spawn(move || {
            let mut last = None;
            let mut problem = None;
            for _ in 0..times {
                thread::sleep(REST);
                match upgrade(&binary, &config) {
                    Ok(pid) => last = Some(pid),
                    Err(error) => {
                        problem = Some(format!("an upgrade failed: {error}"));
                        break;
                    }
                }
            }
            thread::sleep(REST);
            // The measurement may have failed.
            let _ = tell.send((problem, last));
        });
        Ok(Upgrades { ended })
    }
}

/// Has the running process start a new one. Returns that.
fn upgrade(binary: &Path, config: &Path) -> io::Result<Pid> {
    let mut command = Command::new(binary);
    command.arg("upgrade").arg("--config").arg(config);
    let output = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let pid = said.strip_prefix("process ").and_then(|rest| {
        let (pid, _) = rest.split_once(' ')?;
        Pid::from_raw(pid.parse().ok()?)
    });
    pid.ok_or_else(|| io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// A process that this one has not started. It is ended in order when this is dropped.
struct Successor(Option<Pid>);

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

/// A directory of its own.
struct Place(PathBuf);

impl Place {
    fn new() -> io::Result<Place> {
        let path = std::env::temp_dir().join(format!("voltlane-upgrade-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Place(path))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Returns how long nobody was served, of a line of the log of a new process.
fn pause_of(line: &str) -> Option<Duration> {
    if !line.contains("took over from the process before") {
        return None;
    }
    let (_, paused) = line.split_once("paused=")?;
    let unit = paused.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = paused.split_at(unit);
    let seconds: f64 = number.parse().ok()?;
    Some(Duration::from_secs_f64(match unit.trim() {
        "s" => seconds,
        "ms" => seconds / 1e3,
        _ => seconds / 1e6,
    }))
}

/// Returns the 50th and the 99th percentile, and the longest time, in milliseconds.
fn percentiles(times: &[Duration]) -> String {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = |percent: usize| {
        // The smallest of which at least so many are not longer.
        let place = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times.get(place).copied().unwrap_or_default().as_secs_f64() * 1e3
    };
    format!(
        "p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
        at(50),
        at(99),
        at(100)
    )
}

/// Returns what was found, for people.
#[must_use]
pub fn table(found: &Found) -> String {
    let mut out = String::new();
    let Found {
        clients,
        kinds,
        dropped,
        up,
        down,
        lost,
        doubled,
        pauses,
        waits,
    } = found;
    // A string takes all that is written.
    let _ = writeln!(out, "{clients} clients, {kinds}, {} upgrades", pauses.len());
    let _ = writeln!(out, "packets: {up} up, {down} down");
    let _ = writeln!(
        out,
        "connections dropped: {dropped}; packets lost: {lost}, doubled: {doubled}"
    );
    let _ = writeln!(out, "pause: {}", percentiles(pauses));
    let _ = writeln!(
        out,
        "longest round trip of each client: {}",
        percentiles(waits)
    );
    out
}

/// Returns whether nobody was dropped, and each packet came once.
#[must_use]
pub fn is_whole(found: &Found) -> bool {
    found.dropped + found.lost + found.doubled == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_read_from_the_log() {
        let line = |paused: &str| {
            pause_of(&format!(
                "INFO took over from the process before connections=1 sessions=1 paused={paused}"
            ))
        };
        assert_eq!(line("8.5ms"), Some(Duration::from_micros(8_500)));
        assert_eq!(line("1.25s"), Some(Duration::from_millis(1_250)));
        assert_eq!(line("900.0µs"), Some(Duration::from_micros(900)));
        assert_eq!(pause_of("INFO something else paused=8ms"), None);
    }

    #[test]
    fn the_99th_percentile_of_ten_is_the_longest() {
        let times: Vec<_> = (1..=10).map(Duration::from_millis).collect();
        let says = "p50 5.0 ms, p99 10.0 ms, longest 10.0 ms";
        assert_eq!(percentiles(&times), says);
    }
}
