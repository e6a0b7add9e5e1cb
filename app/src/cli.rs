//! The command line.

#[cfg(feature = "admin")]
mod ctl;
mod help;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::{Address, Argument, Place};

#[cfg(feature = "admin")]
pub use self::ctl::{CtlArgs, CtlCall, TopArgs};

/// A command, with its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Serves.
    Run(ConfigArgs),
    /// Checks the configuration and shows it.
    Check(CheckArgs),
    /// Asks a running edge whether it is ready.
    Health(HealthArgs),
    /// Shows an edge, a backend and clients in one process.
    Demo(DemoArgs),
    /// Runs a client, with lines for packets.
    Connect(ConnectArgs),
    /// Runs a backend that echoes everything.
    Echo(EchoArgs),
    /// Asks the engine of a cluster.
    #[cfg(feature = "engine")]
    Cluster(ClusterArgs),
    /// Asks a running edge, or has it change something.
    #[cfg(feature = "admin")]
    Ctl(CtlArgs),
    /// Shows a running edge.
    #[cfg(feature = "admin")]
    Top(TopArgs),
    /// Prints a new token for the admin interface.
    #[cfg(feature = "admin")]
    AdminToken,
    /// Describes the metrics.
    #[cfg(feature = "admin")]
    Metrics(MetricsArgs),
    /// Has a running edge start its successor.
    #[cfg(all(feature = "upgrade", target_os = "linux"))]
    Upgrade(UpgradeArgs),
    /// Serves in the place of a running edge.
    #[cfg(all(feature = "upgrade", target_os = "linux"))]
    TakeOver(ConfigArgs),
}

/// The configuration file, and values that override it.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigArgs {
    /// Configuration file [default: connserver.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address to listen on, before what the configuration says
    // Not parsed here: the loader reports it together with everything else that is wrong.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Address of the backend, before what the configuration says
    #[arg(long, value_name = "ADDR")]
    pub master: Option<String>,
    /// Where `run` records the edge, if it does.
    #[cfg(feature = "record")]
    #[arg(skip)]
    pub record: Option<RecordArgs>,
}

/// Where the edge is recorded.
#[cfg(feature = "record")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordArgs {
    /// The file.
    pub record: PathBuf,
    /// The bytes that all of its segments have together, at most.
    pub record_bytes: u64,
}

/// The configuration, and what is recorded.
#[derive(Args)]
struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Record what the edge is told, so that it can be run again. It has one shard then
    #[cfg(feature = "record")]
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// The bytes that the recording has at most: it keeps the last ones, in four files
    #[cfg(feature = "record")]
    #[arg(long, value_name = "N", default_value_t = 1 << 30, requires = "record", value_parser = clap::value_parser!(u64).range(4 << 20..))]
    record_bytes: u64,
}

impl RunArgs {
    fn into_config(self) -> ConfigArgs {
        #[cfg_attr(not(feature = "record"), expect(unused_mut, reason = "there is none"))]
        let mut config = self.config;
        #[cfg(feature = "record")]
        {
            let record_bytes = self.record_bytes;
            config.record = self.record.map(|record| RecordArgs {
                record,
                record_bytes,
            });
        }
        config
    }
}

impl ConfigArgs {
    /// Returns the values that override every other source.
    #[must_use]
    pub fn arguments(&self) -> Vec<Argument> {
        let given = [
            ("--listen", "listener.address", &self.listen),
            ("--master", "master.address", &self.master),
        ];
        let given = given.into_iter().filter_map(|(option, path, value)| {
            Some(Argument {
                option,
                path,
                value: value.clone()?,
            })
        });
        // Shards change what they share at the same time, so only one of them can be run again.
        #[cfg(feature = "record")]
        let given = given.chain(self.record.as_ref().map(|_| Argument {
            option: "--record",
            path: "general.shards",
            value: "1".to_owned(),
        }));
        given.collect()
    }
}

impl ConfigArgs {
    /// Merges these options, which come before a subcommand, with `after`, which come after it. Both places are equivalent.
    fn and(self, after: ConfigArgs) -> Result<ConfigArgs, String> {
        fn one<T>(option: &str, before: Option<T>, after: Option<T>) -> Result<Option<T>, String> {
            match (before, after) {
                (Some(_), Some(_)) => Err(format!(
                    "the argument '{option}' cannot be used multiple times"
                )),
                (before, after) => Ok(before.or(after)),
            }
        }
        Ok(ConfigArgs {
            config: one("--config <FILE>", self.config, after.config)?,
            listen: one("--listen <ADDR>", self.listen, after.listen)?,
            master: one("--master <ADDR>", self.master, after.master)?,
            #[cfg(feature = "record")]
            record: after.record,
        })
    }

    /// Checks that none is given before the subcommand `name`, which has no configuration.
    #[cfg(any(feature = "tools", feature = "admin"))]
    fn none_for(&self, name: &str) -> Result<(), String> {
        match self.first_option() {
            None => Ok(()),
            Some(option) => Err(format!(
                "the subcommand '{name}' cannot be used with '{option}' before it"
            )),
        }
    }

    /// Returns one of the given options, if any.
    #[cfg(any(feature = "tools", feature = "admin"))]
    fn first_option(&self) -> Option<&'static str> {
        let config = self.config.as_ref().map(|_| "--config <FILE>");
        let listen = || self.listen.as_ref().map(|_| "--listen <ADDR>");
        let master = || self.master.as_ref().map(|_| "--master <ADDR>");
        config.or_else(listen).or_else(master)
    }
}

/// The configuration to check, and the output format.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print the answer as JSON on standard output, errors as well
    #[arg(long)]
    pub json: bool,
}

/// The configuration of the edge to ask, and the question.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Ask only whether it runs, and not whether it has a backend
    #[arg(long)]
    pub alive: bool,
}

/// Arguments of `voltlane metrics`.
#[cfg(feature = "admin")]
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetricsArgs {
    /// Print each metric with its type, unit and labels, and what it tells
    #[arg(long, required = true)]
    pub describe: bool,
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

/// The configuration of an edge of the cluster, and the question.
#[cfg(feature = "engine")]
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct ClusterArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print the answer as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// The question.
    #[command(subcommand)]
    pub call: ClusterCall,
}

/// A question to the engine of a cluster.
#[cfg(feature = "engine")]
#[derive(Subcommand, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterCall {
    /// Show the homes, their terms, who has them and until when, and the backends
    Status,
}

/// The configuration of the edge that is replaced, and the program that takes its place.
#[cfg(all(feature = "upgrade", target_os = "linux"))]
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct UpgradeArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The new program [default: the file that the running one was started from]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
}

/// Options of the demonstration.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DemoArgs {
    /// End after this many seconds [default: at Ctrl-C]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub secs: Option<u32>,
    /// Serve a page on which all draw, and print its link
    #[cfg(feature = "websocket")]
    #[arg(long)]
    pub web: bool,
    /// Run this many edges, each a process, and kill one now and then: its clients go on at the others
    #[cfg(all(unix, feature = "cluster"))]
    #[cfg_attr(feature = "websocket", arg(conflicts_with = "web"))]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=8))]
    pub edges: Option<u8>,
    /// With --edges: run this many backends, and kill one by turns with an edge: its sessions go to another one [default: 1]
    #[cfg(all(unix, feature = "cluster", feature = "backends"))]
    #[arg(long, value_name = "N", requires = "edges", value_parser = clap::value_parser!(u8).range(1..=4))]
    pub backends: Option<u8>,
    /// With --edges: kill one each time that so many seconds have passed [default: 5]
    #[cfg(all(unix, feature = "cluster"))]
    #[arg(long, value_name = "SECS", requires = "edges")]
    #[arg(value_parser = clap::value_parser!(u32).range(2..=3600))]
    pub kill_every: Option<u32>,
    /// With --edges: how many clients there are [default: 4 for each edge]
    #[cfg(all(unix, feature = "cluster"))]
    #[arg(long, value_name = "N", requires = "edges")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub clients: Option<u16>,
    /// With --edges: have them agree by an engine, which is started for it. Its server has to be in the PATH
    #[cfg(all(unix, feature = "engine"))]
    #[arg(long, value_name = "ENGINE", requires = "edges", value_enum)]
    pub engine: Option<DemoEngine>,
}

/// An engine of a cluster that the demonstration starts.
#[cfg(all(unix, feature = "engine"))]
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum DemoEngine {
    /// nats-server, with JetStream
    Nats,
    /// redis-server
    #[cfg(feature = "redis")]
    Redis,
}

/// The address that a client connects to.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct ConnectArgs {
    /// Address of the edge, or unix:/PATH of its socket
    #[arg(value_name = "ADDR", value_parser = connectable)]
    pub address: Place,
}

/// The address at which a backend waits for its edge.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct EchoArgs {
    /// Address to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:42001")]
    pub listen: Address,
    /// Take up to this many edges, each with a cluster.home of its own
    #[cfg(feature = "cluster")]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=64))]
    pub edges: Option<u8>,
}

#[derive(Parser)]
#[command(
    version,
    about = "An edge server: many clients, one stream to the backend, and nobody lost over a dropped connection"
)]
#[command(after_help = help::SIGNALS)]
struct Cli {
    #[command(flatten)]
    run: ConfigArgs,
    #[command(subcommand)]
    command: Option<Sub>,
}

#[derive(Subcommand)]
enum Sub {
    /// Serve, as without a command; SIGHUP has the configuration read again
    #[command(after_help = help::SIGNALS)]
    Run(RunArgs),
    /// Show an edge, a backend and clients that keep dropping, all in this process
    #[cfg(feature = "tools")]
    Demo(DemoArgs),
    /// Be a client: each line of standard input is a packet, but for /drop, /quit and /help
    #[cfg(feature = "tools")]
    Connect(ConnectArgs),
    /// Be a backend that sends every packet back
    #[cfg(feature = "tools")]
    Echo(EchoArgs),
    /// Say whether the configuration is good, and where each value comes from
    Check(CheckArgs),
    /// Ask a running edge at metrics.address whether it is ready: exit code 0 if it is, 1 if not
    #[cfg(feature = "tools")]
    Health(HealthArgs),
    /// Ask the engine of the cluster at cluster.engine: exit code 0 if it answers, 1 if not
    #[cfg(feature = "engine")]
    Cluster(ClusterArgs),
    /// Ask a running edge at admin.address, or have it change something: exit code 0 if it did, 1 if not, 2 if the call is wrong
    #[cfg(feature = "admin")]
    Ctl(CtlArgs),
    /// Show a running edge at admin.address, each second
    #[cfg(feature = "admin")]
    Top(TopArgs),
    /// Print a new token for admin.token_file
    #[cfg(feature = "admin")]
    AdminToken,
    /// Describe the metrics that an edge has at metrics.address
    #[cfg(feature = "admin")]
    Metrics(MetricsArgs),
    /// Have the edge at general.upgrade_socket start a new process, which takes over its clients: exit code 0 if it has, 1 if not
    #[cfg(all(feature = "upgrade", target_os = "linux"))]
    #[command(after_help = help::UPGRADE)]
    Upgrade(UpgradeArgs),
    /// Take over from the edge at general.upgrade_socket, and serve in its place
    #[cfg(all(feature = "upgrade", target_os = "linux"))]
    TakeOver(ConfigArgs),
}

/// Returns the command line as clap describes it, for manuals and completions.
#[must_use]
pub fn description(program: &'static str) -> clap::Command {
    Cli::command().name(program).bin_name(program)
}

/// Parses a command line. Its first word, the path of the program, is ignored.
///
/// # Errors
/// clap's message about a wrong command line. Help and version are errors too, with exit code 0.
pub fn parse(
    program: &'static str,
    words: impl IntoIterator<Item = OsString>,
) -> Result<Command, clap::Error> {
    let mut command = description(program);
    let matches = command.try_get_matches_from_mut(words)?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    let before = cli.run;
    let chosen = match cli.command {
        None => Ok(Command::Run(before)),
        Some(Sub::Run(args)) => before.and(args.into_config()).map(Command::Run),
        Some(Sub::Check(CheckArgs { config, json })) => {
            let config = before.and(config);
            config.map(|config| Command::Check(CheckArgs { config, json }))
        }
        #[cfg(feature = "tools")]
        Some(Sub::Health(HealthArgs { config, alive })) => {
            let config = before.and(config);
            config.map(|config| Command::Health(HealthArgs { config, alive }))
        }
        #[cfg(feature = "engine")]
        Some(Sub::Cluster(ClusterArgs { config, json, call })) => {
            let config = before.and(config);
            config.map(|config| Command::Cluster(ClusterArgs { config, json, call }))
        }
        #[cfg(feature = "admin")]
        Some(Sub::Ctl(CtlArgs { config, json, call })) => {
            let config = before.and(config);
            config.map(|config| Command::Ctl(CtlArgs { config, json, call }))
        }
        #[cfg(feature = "admin")]
        Some(Sub::Top(TopArgs { config, once })) => {
            let config = before.and(config);
            config.map(|config| Command::Top(TopArgs { config, once }))
        }
        #[cfg(all(feature = "upgrade", target_os = "linux"))]
        Some(Sub::Upgrade(UpgradeArgs { config, program })) => {
            let config = before.and(config);
            config.map(|config| Command::Upgrade(UpgradeArgs { config, program }))
        }
        #[cfg(all(feature = "upgrade", target_os = "linux"))]
        Some(Sub::TakeOver(args)) => before.and(args).map(Command::TakeOver),
        #[cfg(feature = "admin")]
        Some(Sub::AdminToken) => before.none_for("admin-token").map(|()| Command::AdminToken),
        #[cfg(feature = "admin")]
        Some(Sub::Metrics(args)) => before.none_for("metrics").map(|()| Command::Metrics(args)),
        #[cfg(feature = "tools")]
        Some(Sub::Demo(args)) => before.none_for("demo").map(|()| Command::Demo(args)),
        #[cfg(feature = "tools")]
        Some(Sub::Connect(args)) => before.none_for("connect").map(|()| Command::Connect(args)),
        #[cfg(feature = "tools")]
        Some(Sub::Echo(args)) => before.none_for("echo").map(|()| Command::Echo(args)),
    };
    chosen.map_err(|message| command.error(ErrorKind::ArgumentConflict, message))
}

fn connectable(text: &str) -> Result<Place, String> {
    let place: Place = text.parse()?;
    if place.is_definite() {
        Ok(place)
    } else {
        Err("port 0 cannot be connected to".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Command, clap::Error> {
        parse(
            "voltlane-smol",
            std::iter::once("x")
                .chain(line.split_whitespace())
                .map(OsString::from),
        )
    }

    fn good(line: &str) -> Command {
        words(line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    #[test]
    fn no_command_is_run() {
        assert_eq!(good(""), Command::Run(ConfigArgs::default()));
        assert_eq!(good("run"), good(""));
        let args = "--config a.toml --listen [::1]:1 --master nonsense";
        assert_eq!(good(args), good(&format!("run {args}")));
        let Command::Run(run) = good(args) else {
            panic!("not run")
        };
        assert_eq!(run.config, Some(PathBuf::from("a.toml")));
        let paths: Vec<_> = run
            .arguments()
            .into_iter()
            .map(|argument| (argument.path, argument.value))
            .collect();
        let expected = [
            ("listener.address", "[::1]:1"),
            ("master.address", "nonsense"),
        ];
        assert_eq!(
            paths,
            expected.map(|(path, value)| (path, value.to_owned()))
        );
    }

    #[cfg(feature = "record")]
    #[test]
    fn run_records_an_edge_of_one_shard() {
        let Command::Run(run) = good("run --record a.record") else {
            panic!("not run")
        };
        let record = run.record.clone().expect("given");
        assert_eq!(record.record, PathBuf::from("a.record"));
        assert_eq!(record.record_bytes, 1 << 30);
        let arguments = run.arguments();
        assert_eq!(arguments.len(), 1);
        assert_eq!(arguments[0].path, "general.shards");
        assert_eq!(arguments[0].value, "1");
        for line in [
            "check --record a",
            "run --record-bytes 8000000",
            "run --record a --record-bytes 4194303",
        ] {
            assert_eq!(words(line).expect_err(line).exit_code(), 2, "{line}");
        }
        good("run --record a --record-bytes 4194304");
    }

    #[test]
    fn every_command() {
        assert_eq!(good("demo"), Command::Demo(DemoArgs::default()));
        let (describe, json) = (true, true);
        assert_eq!(
            good("metrics --describe --json"),
            Command::Metrics(MetricsArgs { describe, json })
        );
        assert_eq!(words("metrics").expect_err("what of them").exit_code(), 2);
        assert_eq!(
            good("demo --secs 3"),
            Command::Demo(DemoArgs {
                secs: Some(3),
                ..DemoArgs::default()
            })
        );
        assert_eq!(
            good("connect ::1:5"),
            Command::Connect(ConnectArgs {
                address: "[::1]:5".parse().unwrap()
            })
        );
        assert_eq!(
            good("echo"),
            Command::Echo(EchoArgs {
                listen: Address::loopback(42001),
                #[cfg(feature = "cluster")]
                edges: None,
            })
        );
        assert_eq!(
            good("echo --listen a:0"),
            Command::Echo(EchoArgs {
                listen: "a:0".parse().unwrap(),
                #[cfg(feature = "cluster")]
                edges: None,
            })
        );
        for line in [
            "--config f --listen a:1 check --master b:2",
            "check --master b:2 --listen a:1 --config f",
        ] {
            let Command::Check(args) = good(line) else {
                panic!("{line}: not check")
            };
            assert_eq!(args.config.config, Some(PathBuf::from("f")), "{line}");
            assert_eq!(args.config.arguments().len(), 2, "{line}");
            assert!(!args.json, "{line}");
        }
        assert_eq!(good("--config f run"), good("run --config f"));
        assert_eq!(good("check"), Command::Check(CheckArgs::default()));
        assert_eq!(good("health"), Command::Health(HealthArgs::default()));
        let Command::Health(args) = good("--config f health --alive") else {
            panic!("not health")
        };
        assert_eq!(args.config.config, Some(PathBuf::from("f")));
        assert!(args.alive);
        let config = ConfigArgs {
            config: Some(PathBuf::from("f")),
            ..ConfigArgs::default()
        };
        let json = true;
        assert_eq!(
            good("check --config f --json"),
            Command::Check(CheckArgs { config, json })
        );
    }

    #[cfg(all(feature = "upgrade", target_os = "linux"))]
    #[test]
    fn a_process_that_takes_over_has_the_options_of_run() {
        let config = || ConfigArgs {
            config: Some(PathBuf::from("f")),
            ..ConfigArgs::default()
        };
        for line in ["--config f take-over", "take-over --config f"] {
            assert_eq!(good(line), Command::TakeOver(config()), "{line}");
        }
        let program = Some(PathBuf::from("new"));
        let config = config();
        assert_eq!(
            good("upgrade --config f --program new"),
            Command::Upgrade(UpgradeArgs { config, program })
        );
        assert_eq!(good("upgrade"), Command::Upgrade(UpgradeArgs::default()));
    }

    #[test]
    fn a_wrong_command_line_exits_with_2_and_names_the_error() {
        for (line, says) in [
            ("serve", "unrecognized subcommand 'serve'"),
            ("chek", "a similar subcommand exists: 'check'"),
            ("--lisen a:1", "a similar argument exists: '--listen'"),
            ("--config", "a value is required for '--config <FILE>'"),
            ("--config=", "a value is required for '--config <FILE>'"),
            ("--listen a:1 --listen b:1", "cannot be used multiple times"),
            (
                "--listen a:1 demo",
                "the subcommand 'demo' cannot be used with '--listen <ADDR>' before it",
            ),
            (
                "--config a check --config b",
                "the argument '--config <FILE>' cannot be used multiple times",
            ),
            ("demo --secs 0", "0 is not in 1..=4294967295"),
            ("demo --secs -1", "unexpected argument '-1' found"),
            ("demo --secs 1.5", "invalid value '1.5' for '--secs <N>'"),
            (
                "demo --secs 99999999999",
                "99999999999 is not in 1..=4294967295",
            ),
            ("demo now", "unexpected argument 'now' found"),
            #[cfg(all(unix, feature = "cluster"))]
            ("demo --edges 1", "1 is not in 2..=8"),
            #[cfg(all(unix, feature = "cluster"))]
            ("demo --edges 9", "9 is not in 2..=8"),
            #[cfg(all(unix, feature = "cluster"))]
            ("demo --edges 3 --kill-every 1", "1 is not in 2..=3600"),
            #[cfg(all(unix, feature = "cluster"))]
            (
                "demo --kill-every 5",
                "the following required arguments were not provided",
            ),
            #[cfg(all(unix, feature = "cluster"))]
            (
                "demo --edges 3 --clients 10001",
                "10001 is not in 1..=10000",
            ),
            #[cfg(all(unix, feature = "cluster", feature = "websocket"))]
            (
                "demo --edges 3 --web",
                "the argument '--edges <N>' cannot be used with '--web'",
            ),
            #[cfg(all(unix, feature = "engine"))]
            (
                "demo --edges 3 --engine etcd",
                "invalid value 'etcd' for '--engine <ENGINE>'",
            ),
            ("connect", "<ADDR>"),
            (
                "connect localhost",
                "invalid value 'localhost' for '<ADDR>': the port is missing",
            ),
            ("connect a:0", "port 0 cannot be connected to"),
            ("connect a:1 b:2", "unexpected argument 'b:2' found"),
            (
                "echo --listen 5",
                "invalid value '5' for '--listen <ADDR>': the port is missing",
            ),
            (
                "check --master",
                "a value is required for '--master <ADDR>'",
            ),
        ] {
            let error = words(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
            let text = error.to_string();
            assert!(text.contains(says), "{line}: {text}");
        }
    }

    #[test]
    fn help_and_version_name_the_binary_and_end_with_0() {
        for (line, says) in [
            ("--help", "Usage: voltlane-smol [OPTIONS]"),
            ("-h", "check        Say whether the configuration is good"),
            ("--help", "SIGHUP has the configuration read again"),
            ("help", "check        Say whether the configuration is good"),
            ("help check", "Usage: voltlane-smol check [OPTIONS]"),
            ("run --help", "SIGHUP has the configuration read again"),
            #[cfg(all(feature = "upgrade", target_os = "linux"))]
            ("run --help", "SIGUSR2 has the program"),
            ("check --help", "Usage: voltlane-smol check [OPTIONS]"),
            (
                "--version",
                concat!("voltlane-smol ", env!("CARGO_PKG_VERSION")),
            ),
        ] {
            let text = words(line).expect_err(line);
            assert_eq!(text.exit_code(), 0, "{line}");
            assert!(text.to_string().contains(says), "{line}: {text}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn arguments_that_are_not_utf8() {
        use std::os::unix::ffi::OsStringExt;
        let bad = || OsString::from_vec(vec![b'a', 0xFF]);
        let error =
            parse("voltlane", ["x".into(), "--listen".into(), bad()]).expect_err("not UTF-8");
        assert_eq!(error.exit_code(), 2);
        // A path may be any bytes.
        let command = parse("voltlane", ["x".into(), "--config".into(), bad()]).expect("any path");
        assert_eq!(
            command,
            Command::Run(ConfigArgs {
                config: Some(bad().into()),
                ..ConfigArgs::default()
            })
        );
    }
}
