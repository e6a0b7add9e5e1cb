//! The path from the start of a process to its task, the same for every program.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

#[cfg(unix)]
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::cli::{
    self, CheckArgs, Command, ConfigArgs, ConnectArgs, DemoArgs, EchoArgs, HealthArgs,
};
#[cfg(feature = "engine")]
use crate::commands::cluster;
#[cfg(feature = "admin")]
use crate::commands::ctl;
use crate::commands::health;
use crate::config::{
    self, Loaded, LogFormat, LogLevel, Note, Problems, Report, Settings, WhenMissing,
};
use crate::dial;
use crate::doors::Doors;
#[cfg(unix)]
use crate::inherited;
use crate::logging;
use crate::passed;

/// The task that is left for a runtime once arguments and configuration are known to be valid.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Serve with these settings, which can be read again in the same way.
    Run(Box<Settings>, ReadAgain),
    /// The same, in the place of the process at `general.upgrade_socket`.
    #[cfg(all(feature = "upgrade", target_os = "linux"))]
    TakeOver(Box<Settings>, ReadAgain),
    /// Run the demo.
    Demo(DemoArgs),
    /// Run a client.
    Connect(ConnectArgs),
    /// Run a backend that echoes everything.
    Echo(EchoArgs),
}

/// The means to read the configuration again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadAgain {
    /// The arguments of the start.
    pub args: ConfigArgs,
    /// Whether the configuration in effect came from a file.
    pub has_file: bool,
    /// Whether it has values of `.env`.
    pub has_dotenv: bool,
}

/// Exit code for wrong arguments or a wrong configuration.
pub const EXIT_USAGE: u8 = 2;

/// The whole of a program except its runtime.
///
/// Parses the command line and, for `run`, `check` and `health`, the configuration, starts the log, and hands over to `runner`. `check` and
/// `health` need no runtime and run here. `program` is the name of the program.
/// ```no_run
/// use std::process::ExitCode;
/// use voltlane_app::{Task, main_with};
///
/// fn main() -> ExitCode {
///     main_with("voltlane", |task| match task {
///         Task::Run(settings, _) => {
///             tracing::info!("would listen on {}", settings.listener.address);
///             ExitCode::SUCCESS
///         }
///         _ => ExitCode::FAILURE,
///     })
/// }
/// ```
pub fn main_with(program: &'static str, runner: impl FnOnce(Task) -> ExitCode) -> ExitCode {
    // First: their descriptors are known by their numbers alone.
    passed::receive();
    // Fails only for an invalid signal.
    #[cfg(unix)]
    let _ = inherited::unblock(&[SIGHUP, SIGINT, SIGTERM]);
    // Where nobody handles it, it would end the process.
    #[cfg(all(feature = "upgrade", target_os = "linux"))]
    let _ = inherited::unblock(&[signal_hook::consts::SIGUSR2]);
    match prepare(program, std::env::args_os(), Path::new(".")) {
        Err(ending) => ending.end(),
        Ok((task, note)) => {
            if let Err(error) = logging::start(task.log_level(), task.log_format()) {
                logging::say_last(&format!("{program}: there can be no log: {error}\n"));
                return ExitCode::FAILURE;
            }
            let _flush = FlushesLog;
            match note {
                Some(note @ Note::CouldNotWrite(..)) => tracing::warn!("{note}"),
                Some(note) => tracing::info!("{note}"),
                None => {}
            }
            runner(task)
        }
    }
}

/// Writes the log to its end when the task has ended, even by a panic.
struct FlushesLog;

impl Drop for FlushesLog {
    fn drop(&mut self) {
        logging::flush();
    }
}

impl Task {
    /// Only a server has a configuration. A program that a person watches logs only what goes wrong.
    fn log_level(&self) -> LogLevel {
        match self {
            Task::Run(settings, _) => settings.general.log_level,
            #[cfg(all(feature = "upgrade", target_os = "linux"))]
            Task::TakeOver(settings, _) => settings.general.log_level,
            Task::Echo(_) => LogLevel::Info,
            Task::Demo(_) | Task::Connect(_) => LogLevel::Warn,
        }
    }

    fn log_format(&self) -> LogFormat {
        match self {
            Task::Run(settings, _) => settings.general.log_format,
            #[cfg(all(feature = "upgrade", target_os = "linux"))]
            Task::TakeOver(settings, _) => settings.general.log_format,
            _ => LogFormat::Text,
        }
    }
}

/// The final output of a process that has nothing more to do.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ending {
    code: u8,
    /// An answer goes to standard output, a refusal to standard error.
    to: Output,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Standard,
    Error,
}

/// Returns how a question ends: with its answer and exit code 0, or with the reason and 1.
fn answered(program: &str, outcome: Result<String, impl std::fmt::Display>) -> Ending {
    match outcome {
        Ok(text) => Ending {
            code: 0,
            to: Output::Standard,
            text,
        },
        Err(error) => Ending {
            code: 1,
            to: Output::Error,
            text: format!("{program}: {error}\n"),
        },
    }
}

impl Ending {
    fn end(self) -> ExitCode {
        if self.to == Output::Standard {
            // Output that nobody reads is no error.
            let _ = std::io::stdout().write_all(self.text.as_bytes());
        } else {
            // A supervisor must see the end, whether or not it reads the output.
            logging::say_last(&self.text);
        }
        ExitCode::from(self.code)
    }

    fn refusal(program: &str, so: &str, problems: &Problems) -> Ending {
        let count = problems.iter().count();
        let plural = if count == 1 { "" } else { "s" };
        let text =
            format!("{program}: {count} problem{plural} in the configuration{so}:\n{problems}\n");
        Ending {
            code: EXIT_USAGE,
            to: Output::Error,
            text,
        }
    }
}

/// Does everything up to the task, or to the end if there is none. `.env` and relative paths are those of `directory`.
fn prepare(
    program: &'static str,
    words: impl IntoIterator<Item = OsString>,
    directory: &Path,
) -> Result<(Task, Option<Note>), Ending> {
    let command = cli::parse(program, words).map_err(|error| {
        let (code, to) = match error.use_stderr() {
            true => (EXIT_USAGE, Output::Error),
            false => (0, Output::Standard),
        };
        Ending {
            code,
            to,
            text: error.to_string(),
        }
    })?;
    let load = |args: &ConfigArgs, missing| {
        config::load(directory, args.config.as_deref(), missing, args.arguments())
    };
    match command {
        Command::Demo(args) => Ok((Task::Demo(args), None)),
        Command::Connect(args) => Ok((Task::Connect(args), None)),
        Command::Echo(args) => Ok((Task::Echo(args), None)),
        Command::Run(args) => match load(&args, WhenMissing::Write) {
            Ok((loaded, note)) => {
                let (settings, again) = to_run(loaded, args);
                Ok((Task::Run(settings, again), note))
            }
            Err(problems) => Err(Ending::refusal(program, ", nothing was started", &problems)),
        },
        #[cfg(all(feature = "upgrade", target_os = "linux"))]
        Command::TakeOver(args) => match load(&args, WhenMissing::Leave) {
            Ok((loaded, note)) => {
                let (settings, again) = to_run(loaded, args);
                Ok((Task::TakeOver(settings, again), note))
            }
            Err(problems) => Err(Ending::refusal(program, ", nothing was started", &problems)),
        },
        #[cfg(all(feature = "upgrade", target_os = "linux"))]
        Command::Upgrade(args) => {
            let (loaded, _) = load(&args.config, WhenMissing::Leave)
                .map_err(|problems| Ending::refusal(program, "", &problems))?;
            let asked = crate::upgrade::ask(&loaded.settings, args.program.as_deref());
            Err(answered(program, asked.map(|text| format!("{text}\n"))))
        }
        Command::Health(HealthArgs {
            config: args,
            alive,
        }) => {
            let (loaded, _) = load(&args, WhenMissing::Leave)
                .map_err(|problems| Ending::refusal(program, "", &problems))?;
            let said = health::ask(&loaded.settings, alive);
            Err(answered(program, said.map(|text| format!("{text}\n"))))
        }
        #[cfg(feature = "engine")]
        Command::Cluster(args) => {
            let (loaded, _) = load(&args.config, WhenMissing::Leave)
                .map_err(|problems| Ending::refusal(program, "", &problems))?;
            Err(answered(program, cluster::ask(&loaded.settings, args.json)))
        }
        #[cfg(feature = "admin")]
        Command::Ctl(args) => {
            let (loaded, _) = load(&args.config, WhenMissing::Leave)
                .map_err(|problems| Ending::refusal(program, "", &problems))?;
            Err(called(program, ctl::ask(&loaded.settings, &args)))
        }
        #[cfg(feature = "admin")]
        Command::Top(args) => {
            let (loaded, _) = load(&args.config, WhenMissing::Leave)
                .map_err(|problems| Ending::refusal(program, "", &problems))?;
            let shown = ctl::show_top(&loaded.settings, &args);
            Err(called(program, shown.map(|()| String::new())))
        }
        #[cfg(feature = "admin")]
        Command::AdminToken => Err(Ending {
            code: 0,
            to: Output::Standard,
            text: format!("{}\n", *crate::admin::make_token()),
        }),
        #[cfg(feature = "admin")]
        Command::Metrics(args) => Err(Ending {
            code: 0,
            to: Output::Standard,
            text: match args.json {
                true => crate::metrics::describe_as_json(),
                false => crate::metrics::describe_as_text(),
            },
        }),
        Command::Check(CheckArgs { config: args, json }) => {
            let loaded = load(&args, WhenMissing::Leave).and_then(|(loaded, note)| {
                let loaded = loaded.with_certificates(Doors::check)?;
                Ok((loaded.with_link(dial::check)?, note))
            });
            let file = args.config.as_deref();
            let file = file.unwrap_or(Path::new(config::DEFAULT_FILE));
            let file = file.display().to_string();
            Err(if json {
                Ending {
                    code: if loaded.is_ok() { 0 } else { EXIT_USAGE },
                    to: Output::Standard,
                    text: Report::new(program, file, &loaded).to_json(),
                }
            } else {
                checked(program, file, loaded)
            })
        }
    }
}

/// The settings to serve with, and how they are read again.
fn to_run(loaded: Loaded, args: ConfigArgs) -> (Box<Settings>, ReadAgain) {
    #[cfg(feature = "admin")]
    config::Origins::of(&loaded).publish();
    let again = ReadAgain {
        args,
        has_file: loaded.has_file(),
        has_dotenv: loaded.has_dotenv(),
    };
    (Box::new(loaded.settings), again)
}

/// The outcome of a call of the admin interface.
#[cfg(feature = "admin")]
fn called(program: &str, outcome: Result<String, ctl::Failure>) -> Ending {
    match outcome {
        Ok(text) => Ending {
            code: 0,
            to: Output::Standard,
            text,
        },
        Err(failure) => Ending {
            code: failure.exit_code(),
            to: Output::Error,
            text: format!("{program}: {failure}\n"),
        },
    }
}

/// The output of `check` for people.
fn checked(
    program: &str,
    file: String,
    loaded: Result<(Loaded, Option<Note>), Problems>,
) -> Ending {
    let (loaded, note) = match loaded {
        Ok(loaded) => loaded,
        Err(problems) => return Ending::refusal(program, "", &problems),
    };
    let about = note.map_or(file, |note| note.to_string());
    let mut text = format!("# Good: {about}\n");
    for warning in loaded.warnings() {
        text.push_str(&format!("# Warning: {warning}\n"));
    }
    text.push_str(&format!("\n{}", loaded.describe()));
    Ending {
        code: 0,
        to: Output::Standard,
        text,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A directory that no test writes to.
    fn elsewhere() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
    }

    fn prepare_line(line: &str) -> Result<(Task, Option<Note>), Ending> {
        let words = std::iter::once("x").chain(line.split_whitespace());
        prepare("voltlane", words.map(OsString::from), &elsewhere())
    }

    fn ending(line: &str) -> Ending {
        prepare_line(line).expect_err(line)
    }

    #[test]
    fn check_prints_what_is_in_effect_and_ends_with_0() {
        let Ending { code, text, .. } = ending("check --listen ::1:5");
        assert_eq!(code, 0, "{text}");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[0],
            "# Good: connserver.toml is missing: the defaults hold"
        );
        let listen = "listener.address = \"[::1]:5\" # from --listen, default \"127.0.0.1:42000\"";
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(lines.iter().any(|line| words(line) == listen), "{text}");
        let Ending { code, text, .. } = ending("check --config default.toml");
        assert_eq!(code, 0, "{text}");
        assert!(text.starts_with("# Good: default.toml\n\n"), "{text}");
    }

    #[cfg(feature = "tls")]
    #[test]
    fn check_reads_the_certificates() {
        let check = |certificate: &str, key: &str| {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../doors/tests/certificates");
            let text = format!(
                "[listener]\ntransport = \"tls\"\n\
                 certificate_file = '{folder}/{certificate}.pem'\nkey_file = '{folder}/{key}.key'\n"
            );
            let name = format!("voltlane-check-{}.toml", std::process::id());
            let file = std::env::temp_dir().join(name);
            std::fs::write(&file, text).expect("a file");
            let ending = ending(&format!("check --config {}", file.display()));
            std::fs::remove_file(&file).expect("it is there");
            ending
        };
        let good = check("edge", "edge");
        assert_eq!(good.code, 0, "{}", good.text);
        let expired = check("expired", "expired");
        assert_eq!(expired.code, 0, "{}", expired.text);
        assert!(expired.text.contains("# Warning: "), "{}", expired.text);
        for (certificate, key) in [("edge", "client"), ("none", "edge"), ("edge", "none")] {
            let bad = check(certificate, key);
            assert_eq!((bad.code, bad.to), (2, Output::Error), "{}", bad.text);
            assert!(
                bad.text.contains("doors/tests/certificates"),
                "{}",
                bad.text
            );
        }
    }

    #[test]
    fn a_wrong_configuration_ends_run_and_check_with_2() {
        let wrong = "--config default.toml --listen x --master y";
        let address = "must be an address such as \"127.0.0.1:42000\", \"[::1]:42000\", \"name:42000\" or \"unix:/run/voltlane.sock\"";
        let problems = format!(
            "command line: --listen = \"x\": the port is missing; {address}\n\
             command line: --master = \"y\": the port is missing; {address}\n"
        );
        let expected = |so: &str| Ending {
            code: 2,
            to: Output::Error,
            text: format!("voltlane: 2 problems in the configuration{so}:\n{problems}"),
        };
        assert_eq!(
            ending(&format!("run {wrong}")),
            expected(", nothing was started")
        );
        assert_eq!(ending(wrong), expected(", nothing was started"));
        assert_eq!(ending(&format!("check {wrong}")), expected(""));
        let one = ending("check --config no-such.toml");
        let says = "voltlane: 1 problem in the configuration:\n\
                    no-such.toml: there is no such file to check; an edge would write it, with the defaults\n";
        assert_eq!(
            one,
            Ending {
                code: 2,
                to: Output::Error,
                text: says.to_owned()
            }
        );
    }

    #[test]
    fn a_wrong_command_line_ends_with_2_and_help_with_0() {
        assert_eq!(ending("bogus").code, 2);
        assert_eq!(ending("--help").code, 0);
        assert_eq!(
            ending("--version").text,
            concat!("voltlane ", env!("CARGO_PKG_VERSION"), "\n")
        );
    }

    #[test]
    fn a_task_that_needs_a_runtime_is_handed_over() {
        let (task, note) =
            prepare_line("run --config default.toml --listen 127.0.0.1:0").expect("good");
        let Task::Run(settings, _) = &task else {
            panic!("{task:?}")
        };
        assert_eq!(settings.listener.address.to_string(), "127.0.0.1:0");
        assert_eq!((task.log_level(), note), (LogLevel::Info, None));
        for (line, level) in [
            ("demo --secs 1", LogLevel::Warn),
            ("connect a:1", LogLevel::Warn),
            ("echo", LogLevel::Info),
        ] {
            assert_eq!(
                prepare_line(line).expect(line).0.log_level(),
                level,
                "{line}"
            );
        }
    }
}
