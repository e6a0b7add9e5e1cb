//! An edge as a child process.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::metrics::Metrics;
use crate::program::wait;
use crate::{Directory, PATIENCE, Program};

/// What a server says with its address once it listens: an edge, an echo backend.
const READY: [&str; 2] = ["listening address=", "waiting for an edge address="];

/// A running edge. Killed when dropped; [`stop`](Self::stop) ends it in order.
#[derive(Debug)]
pub struct Edge {
    child: Child,
    log: Log,
    address: SocketAddr,
    /// Whether its end was waited for.
    ended: bool,
}

impl Edge {
    /// Starts an edge on a free port in front of `backend`, with `config` as its configuration file, and waits until it
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
        directory.write("connserver.toml", config);
        let backend = backend.to_string();
        let arguments = ["--listen", "127.0.0.1:0", "--master", &backend];
        Edge::spawn(program.command(directory, &arguments))
    }

    /// Starts an edge from a command and waits until it listens.
    #[must_use]
    pub fn spawn(command: Command) -> Edge {
        Edge::try_spawn(command).unwrap_or_else(|log| panic!("the edge does not start:\n{log}"))
    }

    /// Starts an edge from a command; an error is all that it logged before it ended.
    ///
    /// # Errors
    /// The log of an edge that ended before it listened.
    pub fn try_spawn(mut command: Command) -> Result<Edge, String> {
        let mut child = command.spawn().expect("the program starts");
        let log = Log::follow(child.stderr.take().expect("piped"));
        let Some(line) = log.wait_for(|line| READY.iter().any(|ready| line.contains(ready))) else {
            let _ = child.kill();
            wait(&mut child);
            return Err(log.text());
        };
        let mut words = line.split_whitespace();
        let address = words.find_map(|word| word.strip_prefix("address=")?.parse().ok());
        Ok(Edge {
            child,
            log,
            address: address.expect("the line names the address"),
            ended: false,
        })
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of its log.
    #[track_caller]
    pub fn expect_log(&self, part: &str) -> String {
        let found = self.log.wait_for(|line| line.contains(part));
        found.unwrap_or_else(|| panic!("no line with \"{part}\" in the log:\n{}", self.log.text()))
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.text()
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

    /// Bytes of memory that it has. (Linux)
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(path).expect("it runs");
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kibibytes = kibibytes.and_then(|number| number.parse::<u64>().ok());
        1024 * kibibytes.expect("a number of kB")
    }

    /// Closes the pipe of its log, as soon as the next line has come.
    pub fn close_log(&self) {
        self.log.close();
    }

    /// Time that it has spent on processors, to a hundredth of a second. (Linux)
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.child.id());
        let text = fs::read_to_string(path).expect("it runs");
        // The name in parentheses may hold spaces; user and system time are the 12th and 13th field after it.
        let (_, fields) = text.rsplit_once(')').expect("a name");
        let mut fields = fields.split_whitespace().skip(11);
        let mut ticks = || fields.next().and_then(|field| field.parse::<u64>().ok());
        let ticks = ticks().zip(ticks()).map(|(user, system)| user + system);
        Duration::from_millis(10 * ticks.expect("two numbers"))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        let id = Pid::from_raw(id).expect("not 0");
        kill_process(id, signal).expect("it is our child and runs");
    }

    /// Ends it in order, by SIGTERM, and checks that it was in good health.
    #[track_caller]
    pub fn stop(self) {
        self.signal(Signal::TERM);
        self.expect_end(Some(0));
    }

    /// Waits until it ends by itself or by a signal sent before, with this exit code; `None` for the end by a signal.
    /// Gives back its log.
    #[track_caller]
    pub fn expect_end(mut self, code: Option<i32>) -> String {
        let in_time = self.log.wait_for_end();
        let log = self.log.text();
        assert!(in_time, "the edge does not end:\n{log}");
        let status = wait(&mut self.child);
        self.ended = true;
        assert_eq!(status.code(), code, "{status}\n{log}");
        assert_healthy(&log);
        log
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        let ended_before = self.child.try_wait().is_ok_and(|status| status.is_some());
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- log of the edge\n{}---", self.log.text());
        } else if !self.ended {
            let log = self.log.text();
            assert!(!ended_before, "the edge ended by itself:\n{log}");
            assert_healthy(&log);
        }
    }
}

#[track_caller]
fn assert_healthy(log: &str) {
    assert!(!log.contains("panicked"), "{log}");
}

/// The lines of a stream as they come.
#[derive(Debug)]
struct Log(Arc<(Mutex<Lines>, Condvar)>);

#[derive(Debug, Default)]
struct Lines {
    lines: Vec<String>,
    /// Nobody wants more.
    closed: bool,
    ended: bool,
}

impl Log {
    fn follow(stream: impl Read + Send + 'static) -> Log {
        let shared = Arc::<(Mutex<Lines>, Condvar)>::default();
        let log = Log(Arc::clone(&shared));
        thread::spawn(move || {
            let (lines, changed) = &*shared;
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                let mut lines = lines.lock().expect("no panic");
                if lines.closed {
                    break;
                }
                lines.lines.push(line);
                changed.notify_all();
            }
            lines.lock().expect("no panic").ended = true;
            changed.notify_all();
        });
        log
    }

    /// The first line that `matches`; `None` if the stream ends without one, or in too long a time.
    fn wait_for(&self, matches: impl Fn(&str) -> bool) -> Option<String> {
        let mut looked_at = 0;
        self.wait_until(|lines| {
            let new = lines.lines.get(looked_at..).unwrap_or_default();
            looked_at += new.len();
            match new.iter().find(|line| matches(line)) {
                Some(line) => Some(Some(line.clone())),
                None if lines.ended => Some(None),
                None => None,
            }
        })
        .flatten()
    }

    /// False if the stream does not end in time.
    fn wait_for_end(&self) -> bool {
        self.wait_until(|lines| lines.ended.then_some(())).is_some()
    }

    fn wait_until<T>(&self, mut look: impl FnMut(&Lines) -> Option<T>) -> Option<T> {
        let (lines, changed) = &*self.0;
        let until = Instant::now() + PATIENCE;
        let mut lines = lines.lock().expect("no panic");
        loop {
            if let Some(found) = look(&lines) {
                return Some(found);
            }
            let left = until.checked_duration_since(Instant::now())?;
            (lines, _) = changed.wait_timeout(lines, left).expect("no panic");
        }
    }

    fn close(&self) {
        self.0.0.lock().expect("no panic").closed = true;
    }

    fn text(&self) -> String {
        let lines = self.0.0.lock().expect("no panic");
        lines.lines.iter().map(|line| format!("{line}\n")).collect()
    }
}
