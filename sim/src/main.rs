//! The simulator's command line: finds seeds that break a rule, replays plans, shows runs.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use sim::block::{self, CEILINGS, Failure, GATES, Stop};
use sim::engine::{self, Outcome};
use sim::ledgered::{Outcome as Judged, many};
use sim::network::{self, World};
use sim::plan::{Plan, generate};
use sim::planted;
use sim::recorded::{self, Addresses, Timeline};
use sim::scope::{self, SCOPES};
use sim::{fleet, link3, page, pins, shrink, v3};
use voltlane_core::edge::record::Recording;

/// The Voltlane simulator.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a plan, or what `voltlane run --record` has written, and shows what happened.
    Replay {
        /// A plan file, or a recording.
        plan: PathBuf,
        #[command(flatten)]
        recorded: Recorded,
        #[command(flatten)]
        show: Show,
    },
    /// Runs the plan of a seed and shows what happened.
    Seed {
        /// The seed.
        seed: u64,
        #[command(flatten)]
        show: Show,
    },
    /// Prints the trace hash of each seed, for comparison with another process or another build.
    Hashes {
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// How many.
        #[arg(long, default_value_t = 32)]
        seeds: u64,
        /// Threads to run them on; all cores by default.
        #[arg(long)]
        threads: Option<usize>,
    },
    /// Checks every order of steps within a scope.
    Exhaust {
        /// The name of the scope.
        #[arg(default_value = "large")]
        scope: String,
        /// Maximum real time to spend.
        #[arg(long)]
        seconds: Option<u64>,
    },
    /// Runs the shipped drivers on a simulated network with faults, and shows what the seed drew.
    Network {
        /// The first seed.
        seed: u64,
        /// Number of seeds.
        #[arg(long, default_value_t = 1)]
        seeds: u64,
        /// Number of clients, instead of what the seed draws.
        #[arg(long)]
        clients: Option<u32>,
    },
    /// Runs clients of version 3, and shows what happened if it is one seed.
    V3 {
        /// The first seed.
        seed: u64,
        /// Number of seeds.
        #[arg(long, default_value_t = 1)]
        seeds: u64,
    },
    /// Runs crowds of clients of both versions at small bounds, and shows what happened, and the shortest plan found, if it is one seed.
    Crowd {
        /// The first seed.
        seed: u64,
        /// Number of seeds.
        #[arg(long, default_value_t = 1)]
        seeds: u64,
    },
    /// Runs version 3 of the backend link, and shows what happened if it is one seed.
    Link3 {
        /// The first seed.
        seed: u64,
        /// Number of seeds.
        #[arg(long, default_value_t = 1)]
        seeds: u64,
    },
    /// Runs several edges at one backend, and shows what happened if it is one seed.
    Fleet {
        /// The first seed.
        seed: u64,
        /// Number of seeds.
        #[arg(long, default_value_t = 1)]
        seeds: u64,
    },
    /// Runs clients with tickets at several edges of one backend, and shows what happened if it is one seed.
    Roaming {
        /// The first seed.
        seed: u64,
        /// Number of seeds.
        #[arg(long, default_value_t = 1)]
        seeds: u64,
    },
    /// Runs several backends of one edge, and shows what happened if it is one seed.
    Pins {
        /// The first seed.
        seed: u64,
        /// Number of seeds.
        #[arg(long, default_value_t = 1)]
        seeds: u64,
    },
    /// Sends packets of version 3 over drops and lost replies until so many have arrived, and checks that none is lost or doubled.
    /// One thread.
    Volume {
        /// How many packets must arrive.
        packets: u64,
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        from: u64,
    },
    /// Runs new seeds on all cores until one breaks a rule or the time is up.
    Hunt {
        /// Real time to spend.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 1_000_000)]
        from: u64,
        /// Maximum number of seeds.
        #[arg(long, default_value_t = u64::MAX)]
        seeds: u64,
        /// Continues after a failure, until there are this many.
        #[arg(long, default_value_t = 1)]
        failures: usize,
        /// Where to write the plans of failures.
        #[arg(long, default_value = "sim/failures")]
        into: PathBuf,
    },
    /// Copies the workspace into `planted` of the target directory, with the planted bugs in its core, and runs cargo there.
    Plant {
        /// Arguments for cargo, such as `test -p sim --features planted`. Without any, only the copy is made.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        cargo: Vec<OsString>,
    },
}

/// How a recording is read and shown.
#[derive(clap::Args)]
struct Recorded {
    /// The file with the key of the edge that was recorded.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Shows the sources of a recording as numbers, so that the page can be shared.
    #[arg(long)]
    redact: bool,
    /// Writes each call of a recording as a line of text that can be shared: without packets, keys and addresses.
    #[arg(long, value_name = "FILE")]
    lines: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Show {
    /// Writes the run as a page with a sequence diagram, for any browser.
    #[arg(long)]
    html: Option<PathBuf>,
    /// Shrinks a plan that breaks a rule before showing it.
    #[arg(long)]
    shrink: bool,
    /// Plants a bug in the core first, by its name in `voltlane_core::planted`.
    #[cfg(feature = "planted")]
    #[arg(long)]
    plant: Option<String>,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Replay {
            plan,
            recorded: options,
            show,
        } => match std::fs::read(&plan) {
            Ok(bytes) if recorded::is_recording(&bytes) => {
                run_again(&plan, &bytes, &options, &show)
            }
            _ => read(&plan).and_then(|plan| replay(plan, &show)),
        },
        Command::Seed { seed, show } => replay(generate(seed), &show),
        Command::Hashes {
            from,
            seeds,
            threads,
        } => {
            let threads = threads.unwrap_or_else(block::threads);
            let seeds = from..from.saturating_add(seeds);
            print!("{}", block::hashes_as_text(seeds, threads));
            Ok(true)
        }
        Command::Exhaust { scope, seconds } => exhaust(&scope, seconds),
        Command::Network {
            seed,
            seeds,
            clients,
        } => Ok(network(seed..seed + seeds, clients)),
        Command::V3 { seed, seeds } => {
            Ok(ledgered("v3", seed..seed + seeds, v3::run, v3::run_traced))
        }
        Command::Crowd { seed, seeds } => Ok(crowd(seed..seed + seeds)),
        Command::Link3 { seed, seeds } => Ok(ledgered(
            "link3",
            seed..seed + seeds,
            link3::run,
            link3::run_traced,
        )),
        Command::Fleet { seed, seeds } => Ok(ledgered(
            "fleet",
            seed..seed + seeds,
            fleet::run,
            fleet::run_traced,
        )),
        Command::Roaming { seed, seeds } => Ok(ledgered(
            "roaming",
            seed..seed + seeds,
            fleet::run_roaming,
            fleet::run_roaming_traced,
        )),
        Command::Pins { seed, seeds } => Ok(ledgered(
            "pins",
            seed..seed + seeds,
            pins::run,
            pins::run_traced,
        )),
        Command::Volume { packets, from } => Ok(volume(packets, from)),
        Command::Hunt {
            seconds,
            from,
            seeds,
            failures,
            into,
        } => {
            let stop = Stop {
                at: Some(Instant::now() + Duration::from_secs(seconds)),
                failures,
            };
            hunt(from..from.saturating_add(seeds), stop, &into)
        }
        Command::Plant { cargo } => plant(&cargo),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sim: {error}");
            ExitCode::from(2)
        }
    }
}

fn read(path: &Path) -> Result<Plan, String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    text.parse()
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// Replays a plan. Returns true when the run broke no rule.
fn replay(mut plan: Plan, show: &Show) -> Result<bool, String> {
    #[cfg(feature = "planted")]
    if let Some(name) = &show.plant {
        use voltlane_core::planted::{Bug, plant};
        let bug = Bug::ALL.iter().find(|bug| format!("{bug:?}") == *name);
        plant(Some(*bug.ok_or(format!("no bug {name}"))?));
    }
    let mut outcome = engine::run_traced(&plan);
    if let Some(violation) = outcome.violation.as_ref().filter(|_| show.shrink) {
        plan = shrink::shrink(&plan, violation.id, shrink::Budget::default());
        outcome = engine::run_traced(&plan);
    }
    if let Some(path) = &show.html {
        let page = page::render(&plan, &outcome);
        std::fs::write(path, page).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("{}", path.display());
    } else {
        print!("{plan}");
        for note in &outcome.notes {
            println!("{note}");
        }
    }
    println!("{}", summary(&outcome));
    Ok(outcome.violation.is_none())
}

/// Runs a recorded machine again. Returns true when it did the same.
fn run_again(path: &Path, bytes: &[u8], options: &Recorded, show: &Show) -> Result<bool, String> {
    let name = path.display();
    let key_file = options.key_file.as_deref();
    let key_file = key_file.ok_or(format!("{name}: a recording is opened with --key-file"))?;
    let keys = recorded::read_key(key_file)?;
    let recording = Recording::open(bytes, &keys).map_err(|error| format!("{name}: {error}"))?;
    let addresses = match options.redact {
        true => Addresses::Numbered,
        false => Addresses::Shown,
    };
    let timeline =
        Timeline::of(&recording, addresses).map_err(|error| format!("{name}: {error}"))?;
    if let Some(path) = &options.lines {
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let mut out = BufWriter::new(File::create(path).map_err(failed)?);
        recorded::write_lines(&recording, &mut out).map_err(failed)?;
        out.flush().map_err(failed)?;
        println!("{}", path.display());
    }
    if let Some(path) = &show.html {
        let page = recorded::render(&name.to_string(), &timeline);
        std::fs::write(path, page).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("{}", path.display());
    }
    println!("{}", timeline.summary());
    Ok(timeline.is_same())
}

fn summary(outcome: &Outcome) -> String {
    let (seconds, steps, hash) = (outcome.nanos / 1_000_000_000, outcome.steps, outcome.hash);
    let verdict = outcome
        .violation
        .as_ref()
        .map_or("no rule broken".to_string(), ToString::to_string);
    format!("{seconds} s simulated, {steps} calls, trace hash {hash:016x}: {verdict}")
}

/// Runs seeds on the network. Returns true when no run broke a rule. A single run is shown; of many, those that break a rule.
fn network(seeds: Range<u64>, clients: Option<u32>) -> bool {
    let (mut simulated, mut failures) = (0.0, 0);
    let (begun, many) = (Instant::now(), seeds.end - seeds.start > 1);
    for seed in seeds.clone() {
        let drawn = || World::draw(seed);
        let world = clients.map_or_else(drawn, |clients| World::with_clients(seed, clients));
        let outcome = network::run(&world);
        simulated += outcome.simulated.as_secs_f64();
        failures += usize::from(outcome.broken.is_some());
        if many && outcome.broken.is_none() {
            continue;
        }
        println!("{world}{:?}", outcome.seen);
        match outcome.broken {
            None => println!("no rule broken, trace hash {:016x}", outcome.hash),
            Some(broken) => println!("{broken:?}\nreplay: cargo run -p sim -- network {seed}"),
        }
    }
    let real = begun.elapsed().as_secs_f64();
    let rate = simulated / real;
    println!(
        "{} seeds, {failures} failures, {simulated:.0} s simulated in {real:.1} s, {rate:.1} times real time",
        seeds.end - seeds.start
    );
    failures == 0
}

/// Runs seeds of the engine of this name, whose runs a ledger judges. Returns true when no run broke a rule.
fn ledgered(
    name: &str,
    seeds: Range<u64>,
    run: fn(u64) -> Judged,
    run_traced: fn(u64) -> Judged,
) -> bool {
    if seeds.end - seeds.start == 1 {
        let outcome = run_traced(seeds.start);
        for note in &outcome.notes {
            println!("{note}");
        }
        println!("trace hash {:016x}", outcome.hash);
        return outcome.violation.is_none();
    }
    let begun = Instant::now();
    let found = many(seeds, run);
    let real = begun.elapsed().as_secs_f64();
    let simulated = found.nanos as f64 / 1e9;
    println!(
        "{} seeds in {real:.0} s, {:.0} times real time",
        found.seeds,
        simulated / real
    );
    for (name, times) in &found.times {
        println!("{:>6.1} %  {times:>9} times  {name}", found.percent(name));
    }
    for (seed, violation) in &found.failures {
        println!("seed {seed}: {violation}\nreplay: cargo run -p sim -- {name} {seed}");
    }
    found.failures.is_empty()
}

/// Runs crowds. If it is one seed, and it breaks a rule, shows the shortest run found that does.
fn crowd(seeds: Range<u64>) -> bool {
    let is_one = seeds.end - seeds.start == 1;
    if is_one && let Some(outcome) = v3::shrink_crowd(seeds.start) {
        for note in &outcome.notes {
            println!("{note}");
        }
        return false;
    }
    ledgered("crowd", seeds, v3::run_crowd, v3::run_crowd_traced)
}

/// Runs seeds of many packets until so many have arrived. Returns true when none was lost or doubled.
fn volume(packets: u64, from: u64) -> bool {
    const PACKETS_PER_SEED: u64 = 4_000_000;
    let begun = Instant::now();
    let (mut delivered, mut drops, mut resumes) = (0, 0, 0);
    let mut seed = from;
    while delivered < packets {
        let run = v3::run_volume(seed, PACKETS_PER_SEED);
        delivered += run.delivered;
        drops += run.drops;
        resumes += run.resumes;
        if let Some(violation) = run.violation {
            println!("seed {seed}: {violation}");
            return false;
        }
        seed += 1;
        let real = begun.elapsed().as_secs_f64();
        let rate = delivered as f64 / real;
        println!(
            "{delivered} packets delivered, {drops} drops, {resumes} resumes, {real:.0} s, {rate:.0} packets/s, seed {seed} is next"
        );
    }
    println!("seeds {from} to {seed}: 0 packets lost, 0 doubled");
    true
}

fn hunt(seeds: Range<u64>, stop: Stop, into: &Path) -> Result<bool, String> {
    let begun = Instant::now();
    let from = seeds.start;
    let time = stop.at.map_or(0, |at| at.duration_since(begun).as_secs());
    let bar = ProgressBar::new(time);
    let style = ProgressStyle::with_template("{elapsed_precise} [{bar:40}] {msg}");
    bar.set_style(style.map_err(|error| error.to_string())?);
    let report = block::run(seeds, block::threads(), stop, |seeds| {
        bar.set_position(begun.elapsed().as_secs());
        let rate = seeds as f64 / begun.elapsed().as_secs_f64().max(0.001);
        bar.set_message(format!("{seeds} seeds, {rate:.0}/s"));
    });
    bar.finish_and_clear();
    let real = begun.elapsed().as_secs_f64();
    let ratio = report.simulated.as_secs_f64() / real;
    println!(
        "{} seeds from {from} in {real:.0} s, {ratio:.0} times real time",
        report.seeds
    );
    for (name, _) in GATES.iter().chain(CEILINGS) {
        println!("{:>6.1} %  {name}", report.percent(name));
    }
    for failure in &report.failures {
        keep(failure, into)?;
    }
    Ok(report.failures.is_empty())
}

/// Checks a scope. Returns true when no rule was broken and everything that must be reached was.
fn exhaust(name: &str, seconds: Option<u64>) -> Result<bool, String> {
    let names: Vec<_> = SCOPES.iter().map(|(name, _)| *name).collect();
    let scope = SCOPES.iter().find(|(known, _)| *known == name);
    let (_, bounds) = scope.ok_or(format!("no scope {name}; there are {names:?}"))?;
    let begun = Instant::now();
    let verdict = scope::check(
        bounds.clone(),
        block::threads(),
        seconds.map(Duration::from_secs),
    );
    println!(
        "{} transitions, {} states, paths of up to {} steps in {:.1} s",
        verdict.transitions,
        verdict.states,
        verdict.depth,
        begun.elapsed().as_secs_f64()
    );
    println!("met: {:?}\nnot met: {:?}", verdict.met, verdict.missing);
    if let Some((violation, path)) = &verdict.broken {
        println!("{violation}\nafter {path:#?}");
    }
    Ok(verdict.broken.is_none() && verdict.missing.is_empty())
}

/// Runs cargo on the planted copy. Returns true when cargo succeeded.
fn plant(arguments: &[OsString]) -> Result<bool, String> {
    let root = planted::workspace();
    // Relative to the directory in which cargo was called, as cargo resolves it. The default is the workspace's.
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => std::path::absolute(target).map_err(|error| error.to_string())?,
        None => root.join("target"),
    };
    let copy = target.join("planted");
    planted::copy(root, &copy)?;
    if arguments.is_empty() {
        println!("{}", copy.display());
        return Ok(true);
    }
    // Packages from the registry are built once for both.
    let status = std::process::Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(arguments)
        .current_dir(&copy)
        .env("CARGO_TARGET_DIR", &target)
        .status();
    Ok(status.map_err(|error| format!("cargo: {error}"))?.success())
}

/// Shrinks a failure and writes its plan.
fn keep(failure: &Failure, into: &Path) -> Result<(), String> {
    let id = failure.violation.id;
    let plan = shrink::shrink(&generate(failure.seed), id, shrink::Budget::default());
    let path = into.join(format!("{id}-{}.plan", failure.seed));
    let written =
        std::fs::create_dir_all(into).and_then(|()| std::fs::write(&path, plan.to_string()));
    written.map_err(|error| format!("{}: {error}", path.display()))?;
    println!("seed {}: {}", failure.seed, failure.violation);
    println!(
        "{} operations are left; replay: cargo run -p sim -- replay {}",
        plan.ops.len(),
        path.display()
    );
    Ok(())
}
