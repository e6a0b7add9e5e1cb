//! The command line.

use std::error::Error;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::circumstances::Circumstances;
use crate::instructions::CountError;
use crate::load::carriage::{Carriage, by_name};
use crate::load::process::{self, Cpus, Placement};
use crate::load::program::{CONFIG, Program, StartError, become_program};
use crate::load::{self, Link, LoadError, Options, Scenario, scale};
use crate::{attack, bare, compare, instructions, link, report, shards, upgrade, v3};

#[derive(Debug, Parser)]
#[command(
    name = "benches",
    about = "Voltlane's yardstick, load tool and comparison. Loopback only."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The bare epoll forwarder: close to the minimum that the kernel allows
    Bare {
        /// Where clients connect
        #[arg(long)]
        listen: SocketAddr,
        /// The backend
        #[arg(long)]
        backend: SocketAddr,
    },
    /// One kind of load against one program after the other
    Load(LoadArgs),
    /// All programs under all kinds of load, in turn, with ratios to the bare forwarder
    Compare(CompareArgs),
    /// As many clients as the machine has descriptors for, a few of them active; all are cut at once and come back
    Scale(ScaleArgs),
    /// One program with one shard and with more, under a load that leaves the CPUs to it
    Shards(ShardsArgs),
    /// Attacks while a hundred ordinary clients echo, which must go on
    Attack(AttackArgs),
    /// Version 3 beside version 2, with the goals of each figure
    V3(V3Args),
    /// Version 3 of the backend link: what a packet for many, an acknowledgement, a storm of joins and a slow client cost
    Link(LinkArgs),
    /// What a client that comes back at another edge costs the backend
    Moves,
    /// Upgrades under the numbered traffic of many clients: dropped connections, lost packets, and how long nobody is served
    Upgrade(UpgradeArgs),
    /// Instructions per packet of the core and of WebSocket's layer, counted under callgrind
    Instructions(InstructionsArgs),
    /// Becomes a program under test; used by the load tool to start them
    #[command(hide = true)]
    Become {
        /// CPUs that it may run on
        #[arg(long = "cpu")]
        cpus: Vec<usize>,
        /// Limit on its open descriptors
        #[arg(long)]
        max_descriptors: Option<u64>,
        /// The program and its arguments
        #[arg(last = true)]
        program: Vec<OsString>,
    },
    /// Runs the steps of one kind of work, for use under a profiler
    Steps {
        /// Name of the kind, such as up/64
        kind: String,
        /// Number of steps
        steps: u64,
    },
}

#[derive(Debug, Args)]
struct ScaleArgs {
    #[command(flatten)]
    common: Common,
    /// Repeated, or separated by commas
    #[arg(
        long = "program",
        value_delimiter = ',',
        default_value = "bare,voltlane"
    )]
    programs: Vec<Program>,
    /// Number of clients; bounded by the descriptors available here and in the program
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=500_000))]
    clients: u32,
    /// Number of clients that send
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    active: u32,
}

#[derive(Debug, Args)]
struct ShardsArgs {
    #[command(flatten)]
    common: Common,
    /// A program that reads connserver.toml
    #[arg(long, default_value = "voltlane")]
    program: Program,
    /// Numbers of shards; the first is the baseline
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    counts: Vec<u8>,
    /// Rounds per number of shards; the median counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=99))]
    rounds: u8,
    /// Number of clients that the backend writes to in turn
    #[arg(long, default_value_t = 1000)]
    clients: usize,
    /// Maximum number of packets in flight per client
    #[arg(long, default_value_t = 256)]
    in_flight: usize,
}

#[derive(Debug, Args)]
struct AttackArgs {
    #[command(flatten)]
    common: Common,
    /// The program under attack
    #[arg(long, default_value = "voltlane")]
    program: Program,
    /// Names of attacks; none for all, `list` to list them
    names: Vec<String>,
}

#[derive(Debug, Args)]
struct V3Args {
    #[command(flatten)]
    common: Common,
    /// A program that reads connserver.toml
    #[arg(long, default_value = "voltlane")]
    program: Program,
    /// Rounds per row; the median counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=99))]
    rounds: u8,
    /// Seconds of the churn
    #[arg(long, default_value_t = 60)]
    churn_seconds: u64,
    /// Only rows whose title contains this
    #[arg(long, default_value = "")]
    only: String,
}

#[derive(Debug, Args)]
struct LinkArgs {
    #[command(flatten)]
    common: Common,
    /// A program that reads connserver.toml
    #[arg(long, default_value = "voltlane")]
    program: Program,
    /// Pairs of runs per row; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=99))]
    rounds: u8,
    /// Only rows of the whole program whose title contains this; `none` for those of the core alone
    #[arg(long, default_value = "")]
    only: String,
}

#[derive(Debug, Args)]
struct UpgradeArgs {
    #[command(flatten)]
    common: Common,
    /// A program that reads connserver.toml
    #[arg(long, default_value = "voltlane")]
    program: Program,
    /// Number of clients; over plain TCP half of each version
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    clients: u32,
    /// Number of upgrades, one after the other
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    times: u32,
}

#[derive(Debug, Args)]
struct InstructionsArgs {
    /// Only kinds whose name contains this
    #[arg(default_value = "")]
    part: String,
    /// Fails if a count is more than 2 % above the one in this file
    #[arg(long)]
    check: Option<PathBuf>,
    /// Writes the counts to this file
    #[arg(long)]
    write: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct CompareArgs {
    #[command(flatten)]
    common: Common,
    /// Repeated, or separated by commas; the default is all built-in programs. `one-shard` is voltlane with one shard
    #[arg(long = "program", value_delimiter = ',', default_values_t = Program::BUILT_IN)]
    programs: Vec<Program>,
    /// Rounds per row; the median counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=99))]
    rounds: u8,
    /// Only rows whose title contains this, and those without TLS and WebSocket that they are compared with
    #[arg(long)]
    only: Option<String>,
    /// Where to write the chart
    #[arg(long)]
    svg: Option<PathBuf>,
    /// Documents whose tables of a comparison are to be replaced, such as benches/README.md
    #[arg(long, value_delimiter = ',')]
    record: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct LoadArgs {
    #[command(flatten)]
    common: Common,
    /// Programs to load, repeated or separated by commas: direct, bare, voltlane, voltlane-smol, haproxy, nginx, or the path of a binary
    #[arg(
        long = "program",
        global = true,
        value_delimiter = ',',
        default_value = "direct,bare,voltlane"
    )]
    programs: Vec<Program>,
    #[command(subcommand)]
    scenario: ScenarioArgs,
}

#[derive(Clone, Debug, Args)]
struct Common {
    /// Seconds to measure each
    #[arg(long, global = true, default_value_t = 3)]
    seconds: u64,
    /// Print JSON instead of a table
    #[arg(long, global = true)]
    json: bool,
    /// Let the scheduler choose the CPUs; otherwise the load has the first one and the program the others
    #[arg(long, global = true)]
    no_pin: bool,
    /// A connserver.toml for the programs that read one
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    /// Number of loopback addresses (127.0.x.y) that the clients connect from; at least 8 for joins and reconnects
    #[arg(long, global = true, default_value_t = 1)]
    sources: u32,
    /// Milliseconds between two checks of the clients' sockets: the load then needs less CPU, and the latency is meaningless
    #[arg(long, global = true, default_value_t = 0)]
    rest_ms: u64,
    /// Factor on the time that clients may take to connect and to come back, for a slow or an emulated machine
    #[arg(long, global = true, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    patience: u32,
    /// How clients are carried: tcp, tls, ws or wss. In a comparison each row has its own
    #[arg(long, global = true, default_value = "tcp", value_parser = by_name)]
    door: Carriage,
    /// The version of the client link that clients speak: 2 or 3
    #[arg(long, global = true, default_value_t = 2, value_parser = clap::value_parser!(u32).range(2..=3))]
    speak: u32,
    /// The version of the backend link: 2, 3, or `3-unacknowledged`. With 3, a fan-out is one packet for a group
    #[arg(long, global = true, default_value = "2", value_parser = link)]
    link: Link,
}

#[derive(Debug, Subcommand)]
enum ScenarioArgs {
    /// Closed loop: a fixed number of packets in flight per client
    Echo {
        #[arg(long, default_value_t = 100)]
        clients: usize,
        #[arg(long, default_value_t = 1)]
        in_flight: usize,
        #[arg(long, default_value_t = 64, value_parser = size)]
        size: usize,
    },
    /// Fixed rate; latency counts from the time at which a packet was due
    Rate {
        #[arg(long, default_value_t = 1000)]
        clients: usize,
        #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
        per_second: u64,
        #[arg(long, default_value_t = 64, value_parser = size)]
        size: usize,
        /// Number of others, which all join when the measurement begins
        #[arg(long, default_value_t = 0)]
        joins: usize,
    },
    /// The backend writes to the clients in turn
    FanOut {
        #[arg(long, default_value_t = 1000)]
        clients: usize,
        #[arg(long, default_value_t = 4)]
        in_flight: usize,
        #[arg(long, default_value_t = 64, value_parser = size)]
        size: usize,
    },
    /// New sessions, one after the other
    Joins {
        #[arg(long, default_value_t = 64)]
        clients: usize,
    },
    /// Sessions that drop and come back, one after the other
    Reconnects {
        #[arg(long, default_value_t = 1000)]
        clients: usize,
    },
    /// Openings of TLS and WebSocket, one after the other, without a session
    Handshakes {
        #[arg(long, default_value_t = 64)]
        clients: usize,
    },
    /// Memory held for silent clients
    Idle {
        #[arg(long, default_value_t = 9000)]
        clients: usize,
    },
    /// An echo of clients that lose their connection again and again
    Churn {
        #[arg(long, default_value_t = 50)]
        clients: usize,
        #[arg(long, default_value_t = 16)]
        in_flight: usize,
        #[arg(long, default_value_t = 64, value_parser = size)]
        size: usize,
    },
}

impl From<&ScenarioArgs> for Scenario {
    fn from(args: &ScenarioArgs) -> Self {
        match *args {
            ScenarioArgs::Echo {
                clients,
                in_flight,
                size,
            } => Self::Echo {
                clients,
                in_flight,
                size,
            },
            ScenarioArgs::Rate {
                clients,
                per_second,
                size,
                joins,
            } => Self::Rate {
                clients,
                per_second,
                size,
                joins,
            },
            ScenarioArgs::FanOut {
                clients,
                in_flight,
                size,
            } => Self::FanOut {
                clients,
                in_flight,
                size,
            },
            ScenarioArgs::Joins { clients } => Self::Joins { clients },
            ScenarioArgs::Reconnects { clients } => Self::Reconnects { clients },
            ScenarioArgs::Handshakes { clients } => Self::Handshakes { clients },
            ScenarioArgs::Idle { clients } => Self::Idle { clients },
            ScenarioArgs::Churn {
                clients,
                in_flight,
                size,
            } => Self::Churn {
                clients,
                in_flight,
                size,
            },
        }
    }
}

fn link(text: &str) -> Result<Link, &'static str> {
    match text {
        "2" => Ok(Link::V2),
        "3" => Ok(Link::V3 { acknowledges: true }),
        "3-unacknowledged" => Ok(Link::V3 {
            acknowledges: false,
        }),
        _ => Err("a link is 2, 3 or 3-unacknowledged"),
    }
}

fn size(text: &str) -> Result<usize, String> {
    let bounds = load::payload::HEADER_BYTES..=1 << 20;
    match text.parse() {
        Ok(size) if bounds.contains(&size) => Ok(size),
        _ => Err(format!(
            "a size is {} to {} bytes",
            bounds.start(),
            bounds.end()
        )),
    }
}

/// Runs the command given by the arguments.
pub fn main() -> ExitCode {
    let done: Result<(), Box<dyn Error>> = match Cli::parse().command {
        Command::Bare { listen, backend } => bare::run(listen, backend).map_err(Into::into),
        Command::Load(args) => run_load(&args).map_err(Into::into),
        Command::Compare(args) => run_compare(&args).map_err(Into::into),
        Command::Scale(args) => run_scale(&args).map_err(Into::into),
        Command::Shards(args) => run_shards(&args).map_err(Into::into),
        Command::Attack(args) => run_attacks(&args),
        Command::V3(args) => run_v3(&args),
        Command::Link(args) => run_link(&args),
        Command::Moves => {
            print!("{}", crate::work::moves::report());
            Ok(())
        }
        Command::Upgrade(args) => run_upgrade(&args),
        Command::Instructions(args) => run_instructions(&args).map_err(Into::into),
        Command::Become {
            cpus,
            max_descriptors,
            program,
        } => Err(become_program(&cpus, max_descriptors, &program).into()),
        Command::Steps { kind, steps } => match instructions::run_steps(&kind, steps) {
            true => Ok(()),
            false => Err(format!("there is no work named {kind}").into()),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run_shards(args: &ShardsArgs) -> Result<(), LoadError> {
    // Load and program share all CPUs: on a machine with two, a dedicated CPU for the load would leave one for two shards.
    let common = Common {
        no_pin: true,
        rest_ms: args.common.rest_ms.max(shards::REST_MS),
        ..args.common.clone()
    };
    let options = common.options(CONFIG)?;
    let scenario = Scenario::FanOut {
        clients: args.clients,
        in_flight: args.in_flight,
        size: shards::PACKET_BYTES,
    };
    let mut circumstances = Circumstances::begin(&Cpus::available()?)?;
    let found = shards::run(
        &args.program,
        &scenario,
        &args.counts,
        args.rounds,
        &options,
    )?;
    if args.common.json {
        println!("{}", shards::json(&found));
    } else {
        circumstances.end()?;
        print!("{circumstances}\n\n{}", shards::table(&found));
    }
    Ok(())
}

fn run_upgrade(args: &UpgradeArgs) -> Result<(), Box<dyn Error>> {
    let cpus = Cpus::available()?;
    let options = args.common.options(CONFIG)?;
    let mut circumstances = Circumstances::begin(&cpus)?;
    let (clients, times) = (args.clients as usize, args.times as usize);
    let found = upgrade::run(&args.program, clients, times, &options)?;
    circumstances.end()?;
    print!("{circumstances}\n\n{}", upgrade::table(&found));
    match upgrade::is_whole(&found) {
        true => Ok(()),
        false => Err("an upgrade has dropped, lost or doubled something".into()),
    }
}

fn run_v3(args: &V3Args) -> Result<(), Box<dyn Error>> {
    let options = args.common.options(CONFIG)?;
    let churn = Duration::from_secs(args.churn_seconds.clamp(1, 3_600));
    let plan = v3::Plan {
        program: &args.program,
        options: &options,
        rounds: args.rounds,
        churn,
        only: &args.only,
    };
    match v3::run(&plan)? {
        true => Ok(()),
        false => Err("a goal is missed".into()),
    }
}

fn run_link(args: &LinkArgs) -> Result<(), Box<dyn Error>> {
    let options = args.common.options(CONFIG)?;
    let mut circumstances = Circumstances::begin(&Cpus::available()?)?;
    let rows = link::run(&args.program, args.rounds, &args.only, &options)?;
    circumstances.end()?;
    println!("{circumstances}\n");
    print!("{}", link::table(&rows));
    if args.only.is_empty() || args.only == "none" {
        print!("\n{}", crate::work::link::report());
    }
    match rows.iter().all(link::Row::is_reached) {
        true => Ok(()),
        false => Err("a goal is missed".into()),
    }
}

fn run_load(args: &LoadArgs) -> Result<(), LoadError> {
    let options = args.common.options(CONFIG)?;
    let scenario = Scenario::from(&args.scenario);
    let mut rows = Vec::new();
    for program in &args.programs {
        let result = match load::run(program, &scenario, &options) {
            // A program that is missing or not applicable is a line in the table. Any other error is a failure.
            Err(
                error @ (LoadError::Start(StartError::NotInstalled(_))
                | LoadError::NotApplicable(_)),
            ) => Err(error.to_string()),
            other => Ok(other?),
        };
        rows.push((program.clone(), result));
    }
    if args.common.json {
        println!("{}", report::json(&scenario.to_string(), &rows));
    } else {
        println!("{scenario}\n{}", report::table(&rows));
    }
    Ok(())
}

fn run_scale(args: &ScaleArgs) -> Result<(), LoadError> {
    let options = args
        .common
        .options(&scale::config(args.clients, args.common.patience))?;
    // The rest is for the listener, the link, the event loop, the standard streams and so on.
    let room = process::raise_descriptor_limit().saturating_sub(200) as usize;
    let clients = (args.clients as usize).min(room);
    if clients < args.clients as usize {
        eprintln!("the limit of open descriptors allows {clients} clients");
    }
    let mut circumstances = Circumstances::begin(&Cpus::available()?)?;
    let mut reports = Vec::new();
    for program in &args.programs {
        reports.push((
            program.clone(),
            scale::run(program, clients, args.active as usize, &options)?,
        ));
    }
    if args.common.json {
        println!("{}", scale::json(&reports));
    } else {
        circumstances.end()?;
        print!("{circumstances}\n\n{}", scale::table(&reports));
    }
    Ok(())
}

fn run_attacks(args: &AttackArgs) -> Result<(), Box<dyn Error>> {
    if args.names == ["list"] {
        attack::kinds::ALL
            .iter()
            .for_each(|kind| println!("{}: {}", kind.name, kind.what));
        return Ok(());
    }
    let known = |name: &&String| attack::kinds::ALL.iter().any(|kind| kind.name == **name);
    if let Some(name) = args.names.iter().find(|name| !known(name)) {
        return Err(format!("there is no attack named {name}: benches attack list").into());
    }
    let options = args.common.options(attack::CONFIG)?;
    let mut reports = Vec::new();
    for kind in attack::kinds::ALL
        .iter()
        .filter(|kind| args.names.is_empty() || args.names.iter().any(|n| n == kind.name))
    {
        eprintln!("{}: {}", kind.name, kind.what);
        match attack::run(&args.program, kind, &options) {
            Ok(report) => reports.push(report),
            Err(error @ (LoadError::NotApplicable(_) | LoadError::NoNetwork(_))) => {
                eprintln!("{error}");
            }
            Err(error) => return Err(error.into()),
        }
    }
    if args.common.json {
        println!("{}", attack::json(&args.program, &reports));
    } else {
        print!("{}", attack::table(&reports));
    }
    match reports.iter().filter(|report| !report.held()).count() {
        0 => Ok(()),
        broken => Err(format!("{broken} of {} attacks did harm", reports.len()).into()),
    }
}

fn run_instructions(args: &InstructionsArgs) -> Result<(), CountError> {
    let counts = instructions::count(&args.part)?;
    if let Some(path) = &args.write {
        instructions::write(&counts, path)?;
    }
    args.check
        .as_ref()
        .map_or(Ok(()), |path| instructions::check(&counts, path))
}

fn run_compare(args: &CompareArgs) -> Result<(), LoadError> {
    let cpus = Cpus::available()?;
    let options = args.common.options(CONFIG)?;
    let mut rows = compare::rows::with(args.only.as_deref().unwrap_or_default());
    rows.retain(|row| row.placement == Placement::Shared || !args.common.no_pin);
    let placements: Vec<Placement> = rows.iter().map(|row| row.placement).collect();
    for path in &args.record {
        compare::record::check(path, &placements)?;
    }
    let mut circumstances = Circumstances::begin(&cpus)?.with_proxies();
    let comparison = compare::run(&args.programs, &rows, args.rounds.into(), &cpus, &options)?;
    circumstances.end()?;
    if args.common.json {
        println!("{}", comparison.json(&circumstances));
    } else {
        print!("{}", comparison.table(&circumstances));
    }
    if let Some(path) = &args.svg {
        std::fs::write(path, compare::svg::draw(&comparison, &circumstances))?;
    }
    for path in &args.record {
        compare::record::write(path, &comparison, &circumstances)?;
    }
    Ok(())
}

impl Common {
    /// Returns where the load tool and the program run.
    const fn placement(&self) -> Placement {
        if self.no_pin {
            Placement::Shared
        } else {
            Placement::Apart
        }
    }

    /// Prepares this process and returns the options of its runs.
    fn options(&self, config: &str) -> Result<Options, LoadError> {
        process::raise_descriptor_limit();
        Ok(Options {
            measure: Duration::from_secs(self.seconds.clamp(1, 600)),
            warm_up: Duration::from_millis(500),
            config: self
                .config
                .as_ref()
                .map(std::fs::read_to_string)
                .transpose()?
                .unwrap_or_else(|| config.into()),
            carriage: self.door,
            v3: self.speak == 3,
            link: self.link,
            program_cpus: Cpus::available()?.place(self.placement())?,
            sources: self.sources.clamp(1, 60_000),
            rest: Duration::from_millis(self.rest_ms.min(1_000)),
            patience: self.patience,
        })
    }
}
