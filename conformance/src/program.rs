//! A program under test, and the directories that it runs in.

use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

use rustix::io::{FdFlags, fcntl_setfd};

use crate::{Finished, Process, random};

/// A binary built for the tests.
#[derive(Clone, Copy, Debug)]
pub struct Program(&'static str);

impl Program {
    /// Creates it from a path, as in `env!("CARGO_BIN_EXE_…")`.
    #[must_use]
    pub const fn new(path: &'static str) -> Program {
        Program(path)
    }

    /// Returns its path.
    #[must_use]
    pub fn path(self) -> &'static Path {
        Path::new(self.0)
    }

    /// Returns its name, as used in its messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        let stem = self.path().file_stem();
        stem.and_then(|stem| stem.to_str()).expect("a name")
    }

    /// Returns a command for a directory, with a clean environment.
    #[must_use]
    pub fn command(self, directory: &Directory, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.0);
        command.args(arguments).current_dir(directory.path());
        for (name, _) in env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"VOLTLANE_") {
                command.env_remove(name);
            }
        }
        // That of whatever started the tests.
        command.env_remove("NOTIFY_SOCKET");
        command
    }

    /// Like [`command`](Self::command), with a limit on the process's descriptors.
    #[must_use]
    pub fn command_with_descriptors(
        self,
        descriptors: u32,
        directory: &Directory,
        arguments: &[&str],
    ) -> Command {
        let script = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]);
        self.wrapped(shell, directory, arguments)
    }

    /// Adds this program to a shell that becomes it.
    fn wrapped(self, mut shell: Command, directory: &Directory, arguments: &[&str]) -> Command {
        let program = self.command(directory, arguments);
        shell
            .arg(program.get_program())
            .args(program.get_args())
            .current_dir(directory.path());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell
    }

    /// Like [`command`](Self::command), with sockets that are passed as a service manager does, each with its name. (sd_listen_fds(3)) Any
    /// program that this process starts gets the sockets from then on.
    #[must_use]
    pub fn command_with_sockets(
        self,
        sockets: &[(&str, BorrowedFd<'_>)],
        directory: &Directory,
        arguments: &[&str],
    ) -> Command {
        let names: Vec<_> = sockets.iter().map(|(name, _)| *name).collect();
        // By way of high numbers, since a socket may have the number of another one's place.
        let (mut away, mut back) = (String::new(), String::new());
        for (target, (_, socket)) in (3..).zip(sockets) {
            fcntl_setfd(socket, FdFlags::empty()).expect("it is open");
            away.push_str(&format!(" {}<&{}", 100 + target, socket.as_raw_fd()));
            back.push_str(&format!(" {target}<&{}-", 100 + target));
        }
        // The id of the shell is that of the program, which takes its place.
        let script = format!(
            "exec{away}; LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={} exec \"$0\" \"$@\"{back}",
            sockets.len(),
            names.join(":"),
        );
        let mut bash = Command::new("bash");
        bash.args(["-c", &script]);
        self.wrapped(bash, directory, arguments)
    }

    /// Starts a command.
    #[must_use]
    pub fn start(self, directory: &Directory, arguments: &[&str]) -> Process {
        Process::start(self.command(directory, arguments))
    }

    /// Runs a command to its end, without input.
    #[must_use]
    pub fn run(self, directory: &Directory, arguments: &[&str]) -> Finished {
        self.start(directory, arguments).end()
    }
}

/// A temporary directory, removed when dropped.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// Creates an empty directory.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "it makes something in the world"
    )]
    pub fn new() -> Directory {
        // Random: a run that was killed leaves its directories behind, and a later one may have its process id.
        let name = u64::from_ne_bytes(random());
        let path = env::temp_dir().join(format!("voltlane-conformance-{name:016x}"));
        fs::create_dir(&path).expect("a new directory");
        Directory(path)
    }

    /// Returns its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the path of a file in it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file in it.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.file(name), contents).expect("a file of our own");
    }

    /// Reads a file in it.
    ///
    /// # Errors
    /// Those of the system.
    pub fn read(&self, name: &str) -> io::Result<String> {
        fs::read_to_string(self.file(name))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
