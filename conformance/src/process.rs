//! A program as a child process.

use std::fs;
use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::PATIENCE;
use crate::lines::Lines;

/// A running program with its output and input. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Lines,
    stderr: Lines,
    /// The number of lines of each output that were waited for.
    seen: [usize; 2],
}

/// The result of a program that ended.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output after the lines that were waited for.
    pub stdout: String,
    /// Standard error, all of it.
    pub stderr: String,
}

impl Process {
    /// Starts a command.
    #[must_use]
    pub fn start(mut command: Command) -> Process {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        Process {
            stdin: child.stdin.take(),
            stdout: Lines::follow(child.stdout.take().expect("piped")),
            stderr: Lines::follow(child.stderr.take().expect("piped")),
            child,
            seen: [0; 2],
        }
    }

    /// Waits for a line on standard output that contains `part`, after those that were waited for before.
    #[track_caller]
    pub fn stdout(&mut self, part: &str) -> String {
        let found = self
            .stdout
            .wait_for(self.seen[0], |line| line.contains(part));
        let Some((at, line)) = found else {
            panic!("no line with \"{part}\" on standard output")
        };
        self.seen[0] = at + 1;
        line
    }

    /// Waits for a line on standard error that contains `part`, after those that were waited for before.
    #[track_caller]
    pub fn stderr(&mut self, part: &str) -> String {
        let found = self
            .stderr
            .wait_for(self.seen[1], |line| line.contains(part));
        let Some((at, line)) = found else {
            panic!("no line with \"{part}\" on standard error")
        };
        self.seen[1] = at + 1;
        line
    }

    /// Returns the next line on standard output.
    #[track_caller]
    pub fn next_line(&mut self) -> String {
        self.stdout("")
    }

    /// Writes a line to standard input.
    pub fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        writeln!(stdin, "{line}").expect("it reads");
    }

    /// Writes `input` to standard input and closes it, while output is being read: the program may wait for that before it reads on.
    pub fn feed(&mut self, input: &[u8]) {
        let mut stdin = self.stdin.take().expect("standard input is open");
        let input = input.to_vec();
        // It does not matter if the program ends before it has read everything.
        thread::spawn(move || stdin.write_all(&input));
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it runs");
    }

    /// Stops it, and waits until each of its threads stands still.
    pub fn suspend(&self) {
        self.signal(Signal::STOP);
        let threads = format!("/proc/{}/task", self.pid().as_raw_nonzero());
        let stands = |thread: fs::DirEntry| {
            let stat = fs::read_to_string(thread.path().join("stat"));
            stat.is_ok_and(|stat| stat.contains(") T "))
        };
        let until = Instant::now() + PATIENCE;
        while !fs::read_dir(&threads).is_ok_and(|mut all| all.all(|one| one.is_ok_and(stands))) {
            assert!(Instant::now() < until, "it does not stop");
            thread::yield_now();
        }
    }

    /// Returns its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns its id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Closes its standard input and waits for its end.
    #[track_caller]
    pub fn end(mut self) -> Finished {
        self.stdin = None;
        let in_time = self.stdout.wait_for_end() && self.stderr.wait_for_end();
        assert!(in_time, "it does not end");
        // Both pipes have ended, so the process has ended or is about to.
        let status = self.child.wait().expect("it is our child");
        Finished {
            code: status.code(),
            stdout: self.stdout.text(self.seen[0]),
            stderr: self.stderr.text(0),
        }
    }

    /// Returns whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Waits for a line on standard error, including earlier lines.
    #[track_caller]
    pub fn wait_for_log(&self, part: &str) -> String {
        let found = self.first_line(|line| line.contains(part));
        found.unwrap_or_else(|| panic!("no line with \"{part}\" on standard error"))
    }

    /// Waits until it ends by itself, with its standard input open.
    #[track_caller]
    pub fn wait_for_end(&self) {
        assert!(self.stderr.wait_for_end(), "it does not end");
    }

    /// Returns everything that it has written to standard error.
    #[must_use]
    pub fn log(&self) -> String {
        self.stderr.text(0)
    }

    /// Closes the pipe of its standard error when the next line arrives.
    pub fn close_log(&self) {
        self.stderr.close();
    }

    /// Returns the first line on standard error that `matches`, including lines that were waited for before. `None` if there is none before
    /// the end, or in time.
    #[must_use]
    pub fn first_line(&self, matches: impl Fn(&str) -> bool) -> Option<String> {
        self.stderr.wait_for(0, matches).map(|(_, line)| line)
    }

    /// Returns the CPU time that it has used, with a resolution of 10 ms. (Linux)
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        let text = self.proc_file("stat");
        // The name in parentheses may contain spaces. User and system time are the 12th and 13th field after it.
        let (_, fields) = text.rsplit_once(')').expect("a name");
        let mut fields = fields.split_whitespace().skip(11);
        let mut ticks = || fields.next().and_then(|field| field.parse::<u64>().ok());
        let ticks = ticks().zip(ticks()).map(|(user, system)| user + system);
        Duration::from_millis(10 * ticks.expect("two numbers"))
    }

    /// Returns its resident memory in bytes, without file pages, which the system takes and returns at will. (Linux)
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let text = self.proc_file("status");
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix("RssAnon:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kibibytes = kibibytes.and_then(|number| number.parse::<u64>().ok());
        1024 * kibibytes.expect("a number of kB")
    }

    fn proc_file(&self, name: &str) -> String {
        let path = format!("/proc/{}/{name}", self.child.id());
        fs::read_to_string(path).expect("it runs")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- standard error of a process\n{}---", self.log());
        }
    }
}
