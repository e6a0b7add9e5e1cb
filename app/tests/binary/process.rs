//! A process under test.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::BINARY;

/// Longer than anything here takes, on the slowest machine: a hang is a failure.
const BOUND: Duration = Duration::from_secs(60);

/// A directory of a test's own, removed with it.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Directory {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "voltlane-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a directory for the test");
        Directory(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes `connserver.toml`.
    pub(crate) fn configure(&self, text: &str) {
        std::fs::write(self.0.join("connserver.toml"), text).expect("written");
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The binary with some arguments. Killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    /// What was read so far, for the message of a failure.
    seen: Vec<String>,
}

impl Process {
    /// Starts it with the words of `line` as arguments.
    pub(crate) fn start(directory: &Directory, line: &str) -> Process {
        let mut child = Command::new(BINARY)
            .args(line.split_whitespace())
            .current_dir(directory.path())
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary can be started");
        let stdout = lines_of(child.stdout.take().expect("piped"));
        let stderr = lines_of(child.stderr.take().expect("piped"));
        Process {
            stdin: child.stdin.take(),
            child,
            stdout,
            stderr,
            seen: vec![line.to_owned()],
        }
    }

    /// An edge at a free port, and its address.
    pub(crate) fn edge(directory: &Directory, backend: &str) -> (Process, String) {
        let mut edge = Process::start(
            directory,
            &format!("run --listen 127.0.0.1:0 --master {backend}"),
        );
        let address = edge.address("INFO listening");
        (edge, address)
    }

    /// An echo backend at a free port, and its address.
    pub(crate) fn echo(directory: &Directory) -> (Process, String) {
        let mut echo = Process::start(directory, "echo --listen 127.0.0.1:0");
        let address = echo.address("waiting for an edge");
        (echo, address)
    }

    /// Waits for a log line with `what` in it, and takes its field `address`.
    fn address(&mut self, what: &str) -> String {
        let line = self.stderr(what);
        let (_, after) = line
            .split_once("address=")
            .unwrap_or_else(|| panic!("no address in {line}"));
        after
            .split_whitespace()
            .next()
            .expect("an address")
            .to_owned()
    }

    /// Waits for a line on standard error with `what` in it.
    pub(crate) fn stderr(&mut self, what: &str) -> String {
        Self::wait_for(&self.stderr, &mut self.seen, what)
    }

    /// Waits for a line on standard output with `what` in it.
    pub(crate) fn stdout(&mut self, what: &str) -> String {
        Self::wait_for(&self.stdout, &mut self.seen, what)
    }

    /// The next line on standard output.
    pub(crate) fn next_line(&mut self) -> String {
        self.stdout("")
    }

    fn wait_for(lines: &Receiver<String>, seen: &mut Vec<String>, what: &str) -> String {
        let end = Instant::now() + BOUND;
        loop {
            match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    seen.push(line.clone());
                    if line.contains(what) {
                        return line;
                    }
                }
                Err(why) => panic!("no line with \"{what}\": {why}\n{}", seen.join("\n")),
            }
        }
    }

    /// Writes a line to standard input.
    pub(crate) fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        writeln!(stdin, "{line}").expect("it reads");
    }

    /// Ends standard input.
    pub(crate) fn end_of_input(&mut self) {
        self.stdin = None;
    }

    pub(crate) fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it lives");
    }

    /// Waits for its end: the exit code, and what was left on standard output.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        self.stdin = None;
        let status = self.wait();
        // The pipes are closed with the process.
        let mut rest: Vec<String> = self.stdout.iter().collect();
        rest.push(String::new());
        (status.code(), rest.join("\n"))
    }

    fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + BOUND;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                return status;
            }
            self.seen.extend(self.stderr.try_iter());
            assert!(
                Instant::now() < end,
                "does not end:\n{}",
                self.seen.join("\n")
            );
            // A process has no event that std could wait for with a bound.
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a pipe, read by a thread so that the process never waits for the test.
fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe
            .read_until(b'\n', &mut line)
            .is_ok_and(|bytes| bytes > 0)
        {
            let text = String::from_utf8_lossy(&line);
            if sender
                .send(text.trim_end_matches(['\n', '\r']).to_owned())
                .is_err()
            {
                return;
            }
            line.clear();
        }
    });
    lines
}
