//! An edge as a child process.

use std::net::SocketAddr;
use std::ops::Deref;
use std::process::Command;
use std::thread;

use rustix::process::Signal;

use crate::metrics::Metrics;
use crate::{Directory, PATIENCE, Process, Program, own_host};

/// The log lines with the address of a server that listens: an edge, and an echo backend.
const READY: [&str; 2] = ["listening address=", "waiting for an edge address="];

/// The number of shards of an edge whose configuration does not set it, whatever machine it runs on. `VL_SHARDS` overrides it.
const SHARDS: &str = "2";
const SHARDS_KEY: &str = "general.shards = ";
/// The usual address of the metrics is one, and edges of scenarios are many.
const NO_METRICS: &str = "metrics.address = \"\"\n";

/// Makes an edge as patient with a handshake as a scenario is: either may be suspended for a while on a busy machine.
const HANDSHAKE_KEY: &str = "limits.handshake_timeout_secs = ";

/// Adds the defaults that a scenario does not override.
fn with_defaults(config: &str) -> String {
    let shards = std::env::var("VL_SHARDS").unwrap_or_else(|_| SHARDS.to_owned());
    let mut text = config.to_owned();
    for (key, value) in [
        (SHARDS_KEY, shards),
        (HANDSHAKE_KEY, PATIENCE.as_secs().to_string()),
    ] {
        if !config.contains(key) {
            text.insert_str(0, &format!("{key}{value}\n"));
        }
    }
    if !config.contains("metrics.address") && !config.contains("[metrics]") {
        text.insert_str(0, NO_METRICS);
    }
    text
}

/// A running edge, or another server of the program. Killed when dropped; [`stop`](Self::stop) ends it in order. In both cases it must have
/// been healthy until then.
#[derive(Debug)]
pub struct Edge {
    /// `None` once it was waited for.
    process: Option<Process>,
    address: SocketAddr,
    shards: usize,
}

impl Edge {
    /// Starts an edge in front of `backend` with `config` as its configuration file, and waits until it listens. Its port is free, and
    /// stays free after the edge is gone.
    #[must_use]
    pub fn start(program: Program, backend: SocketAddr, config: &str) -> Edge {
        Edge::start_in(program, &Directory::new(), backend, config)
    }

    /// Like [`start`](Self::start), in a given directory.
    #[must_use]
    pub fn start_in(
        program: Program,
        directory: &Directory,
        backend: SocketAddr,
        config: &str,
    ) -> Edge {
        let config = with_defaults(config);
        directory.write("connserver.toml", &config);
        let backend = backend.to_string();
        let listen = format!("{}:0", own_host());
        let arguments = ["--listen", &listen, "--master", &backend];
        Edge::spawn(program.command(directory, &arguments))
    }

    /// Starts an edge in front of several backends, like [`start`](Self::start).
    #[must_use]
    pub fn start_with_backends(program: Program, backends: &[SocketAddr], config: &str) -> Edge {
        let directory = Directory::new();
        let backends: Vec<String> = backends.iter().map(SocketAddr::to_string).collect();
        let config = format!("master.addresses = {backends:?}\n{config}");
        directory.write("connserver.toml", with_defaults(&config));
        let listen = format!("{}:0", own_host());
        Edge::spawn(program.command(&directory, &["--listen", &listen]))
    }

    /// Starts an edge from a command and waits until it listens.
    #[must_use]
    pub fn spawn(command: Command) -> Edge {
        let process = Process::start(command);
        let ready = |line: &str| READY.iter().any(|ready| line.contains(ready));
        let line = process.first_line(ready).expect("it listens");
        let word = |key| {
            line.split_whitespace()
                .find_map(|word| word.strip_prefix(key))
        };
        let address = word("address=").and_then(|address| address.parse().ok());
        Edge {
            process: Some(process),
            address: address.expect("the line names the address"),
            shards: word("shards=").map_or(1, |shards| shards.parse().expect("a number")),
        }
    }

    /// Returns the number of its shards, between which the system distributes connections at random.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// Returns the address that clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for a line in its log, including earlier lines.
    #[track_caller]
    pub fn expect_log(&self, part: &str) -> String {
        let found = self.first_line(|line| line.contains(part));
        found.unwrap_or_else(|| panic!("no line with \"{part}\" in the log"))
    }

    /// Waits for the next line in its log after those that this method has returned.
    #[track_caller]
    pub fn next_log(&mut self, part: &str) -> String {
        let process = self.process.as_mut().expect("taken at the end alone");
        process.stderr(part)
    }

    /// Returns the address of its metrics, if its configuration has one.
    #[must_use]
    #[track_caller]
    pub fn metrics_address(&self) -> SocketAddr {
        let line = self.expect_log("metrics address=");
        let (_, address) = line.split_once("address=").expect("it was looked for");
        address.trim().parse().expect("an address")
    }

    /// Returns its metrics, if its configuration has an address for them.
    #[must_use]
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        Metrics::of(self.metrics_address())
    }

    /// Ends it in order with SIGTERM, and checks that it was healthy.
    #[track_caller]
    pub fn stop(self) {
        self.signal(Signal::TERM);
        self.expect_end(Some(0));
    }

    /// Waits until it ends by itself or by an earlier signal, with this exit code; `None` for a signal.
    #[track_caller]
    pub fn expect_end(mut self, code: Option<i32>) {
        let process = self.process.take().expect("it is taken here alone");
        let finished = process.end();
        assert_eq!(finished.code, code, "{}", finished.stderr);
        assert_healthy(&finished.stderr);
    }
}

impl Deref for Edge {
    type Target = Process;

    fn deref(&self) -> &Process {
        self.process.as_ref().expect("taken at the end alone")
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process
            && !thread::panicking()
        {
            assert!(
                !process.has_ended(),
                "it ended by itself:\n{}",
                process.log()
            );
            assert_healthy(&process.log());
        }
    }
}

#[track_caller]
fn assert_healthy(log: &str) {
    assert!(!log.contains("panicked"), "{log}");
}
