//! An edge as a child process.

use std::net::SocketAddr;
use std::ops::Deref;
use std::process::Command;
use std::thread;

use rustix::process::Signal;

use crate::metrics::Metrics;
use crate::{Directory, PATIENCE, Process, Program, own_host};

/// What a server says with its address once it listens: an edge, an echo backend.
const READY: [&str; 2] = ["listening address=", "waiting for an edge address="];

/// How many shards an edge has whose configuration does not say it, whatever machine it runs on. `VL_SHARDS` says another number.
const SHARDS: &str = "2";
const SHARDS_KEY: &str = "general.shards = ";
/// An edge is as patient with a handshake as a scenario is with it: either may be stopped for a while on a busy machine.
const HANDSHAKE_KEY: &str = "limits.handshake_timeout_secs = ";

/// What holds where a scenario does not say another thing.
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
    text
}

/// A running edge, or another server of the program. Killed when dropped; [`stop`](Self::stop) ends it in order. Either
/// way it must have been well until then.
#[derive(Debug)]
pub struct Edge {
    /// `None` once its end was waited for.
    process: Option<Process>,
    address: SocketAddr,
    shards: usize,
}

impl Edge {
    /// Starts an edge on a free port, which stays free when it is gone, in front of `backend`, with `config` as its configuration file, and waits until it
    /// listens.
    #[must_use]
    pub fn start(program: Program, backend: SocketAddr, config: &str) -> Edge {
        Edge::start_in(program, &Directory::new(), backend, config)
    }

    /// The same in a given directory.
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

    /// How many shards it has, between which the system spreads connections at random.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for a line of its log, which may have come before.
    #[track_caller]
    pub fn expect_log(&self, part: &str) -> String {
        let found = self.first_line(|line| line.contains(part));
        found.unwrap_or_else(|| panic!("no line with \"{part}\" in the log"))
    }

    /// Waits for a line of its log, after those that were waited for so.
    #[track_caller]
    pub fn next_log(&mut self, part: &str) -> String {
        let process = self.process.as_mut().expect("taken at the end alone");
        process.stderr(part)
    }

    /// Where it answers over HTTP, if its configuration has an address for that.
    #[must_use]
    #[track_caller]
    pub fn metrics_address(&self) -> SocketAddr {
        let line = self.expect_log("metrics address=");
        let (_, address) = line.split_once("address=").expect("it was looked for");
        address.trim().parse().expect("an address")
    }

    /// What it counts, if its configuration has an address for that.
    #[must_use]
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        Metrics::of(self.metrics_address())
    }

    /// Ends it in order, by SIGTERM, and checks that it was in good health.
    #[track_caller]
    pub fn stop(self) {
        self.signal(Signal::TERM);
        self.expect_end(Some(0));
    }

    /// Waits until it ends by itself or by a signal sent before, with this exit code; `None` for the end by a signal.
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
