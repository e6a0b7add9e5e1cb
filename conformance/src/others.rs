//! Programs of others that the tests run where they are installed.
//!
//! `.ci/programs DIRECTORY` installs them. With `VL_PROGRAMS=DIRECTORY` a missing one is a failure.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use std::{env, thread};

use rustix::process::{Signal, kill_process_group};
use socket2::{Domain, Socket, Type};

use crate::{PATIENCE, Process, own_host};

/// The directory with what comes from PyPI and npm: `bin/python3` and `node_modules`.
const DIRECTORY: &str = "VL_PROGRAMS";

/// Returns a command for a program of the system. If it is not installed, says so on standard error.
///
/// # Panics
/// If it must be installed.
#[must_use]
pub fn find(name: &str) -> Option<Command> {
    let found = on_path(name);
    if found.is_none() {
        not_run(name);
    }
    found.map(Command::new)
}

/// Like [`find`], for a program that may be in the directory as well.
///
/// # Panics
/// If it must be installed.
#[must_use]
pub fn installed(name: &str) -> Option<Command> {
    let own = directory().map(|directory| directory.join("bin").join(name));
    match own.filter(|path| path.is_file()) {
        Some(path) => Some(Command::new(path)),
        None => find(name),
    }
}

/// Returns a command for a Python that has a package. If there is none, says so on standard error.
///
/// # Panics
/// If it must be installed.
#[must_use]
pub fn python(package: &str) -> Option<Command> {
    let installed = directory().map(|directory| directory.join("bin/python3"));
    let python = installed.or_else(|| on_path("python3"));
    let python = python.filter(|python| {
        let import = format!("import {package}");
        succeeds(Command::new(python).args(["-c", &import]))
    });
    if python.is_none() {
        not_run(&format!("the package {package} of Python"));
    }
    python.map(Command::new)
}

/// Returns a command for a Node.js that has a package. If there is none, says so on standard error.
///
/// # Panics
/// If it must be installed.
#[must_use]
pub fn node(package: &str) -> Option<Command> {
    let modules = directory().map(|directory| directory.join("node_modules"));
    let command = || {
        let mut node = Command::new(on_path("node")?);
        node.envs(modules.iter().map(|modules| ("NODE_PATH", modules)));
        Some(node)
    };
    let require = format!("require('{package}')");
    let has = command().is_some_and(|mut node| succeeds(node.args(["-e", &require])));
    if !has {
        not_run(&format!("the package {package} of Node.js"));
    }
    command().filter(|_| has)
}

/// Returns the path of a file next to the tests with programs.
#[must_use]
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("programs")
        .join(name)
}

/// Returns a loopback address on which a program can be told to listen. Nobody else is given its port.
#[must_use]
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((own_host(), 0)).expect("a free port");
    listener.local_addr().expect("it is bound")
}

/// Connects from a loopback address of the caller's choice.
///
/// # Errors
/// When nobody listens.
pub fn connect_from(source: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// Waits until a program listens at `address`.
#[track_caller]
pub fn wait_for_listener(program: &mut Process, address: SocketAddr) {
    let until = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_err() {
        let waits = !program.has_ended() && Instant::now() < until;
        assert!(waits, "it does not listen:\n{}", program.log());
        thread::yield_now();
    }
}

/// A program together with the processes that it starts. They end when it is dropped.
#[derive(Debug)]
pub struct Group(Process);

impl Group {
    /// Starts a command.
    #[must_use]
    pub fn start(mut command: Command) -> Group {
        command.process_group(0);
        Group(Process::start(command))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let signal = match thread::panicking() {
            true => Signal::KILL,
            false => Signal::TERM,
        };
        // It may have ended by itself.
        let _ = kill_process_group(self.0.pid(), signal);
        if signal == Signal::TERM {
            // So has everyone who holds its output.
            self.0.wait_for_end();
        }
    }
}

fn directory() -> Option<PathBuf> {
    env::var_os(DIRECTORY).map(PathBuf::from)
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn on_path(name: &str) -> Option<PathBuf> {
    // Those of an administrator are not on everybody's path.
    let path = env::var_os("PATH").unwrap_or_default();
    let everywhere = env::split_paths(&path).chain(["/usr/sbin".into()]);
    everywhere
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

#[track_caller]
fn not_run(what: &str) {
    let must = directory().is_some();
    assert!(!must, "{what} is not installed: .ci/programs installs it");
    let thread = thread::current();
    let test = thread.name().unwrap_or("a test");
    // Not by eprintln!, which a test that passes does not show.
    let _ = writeln!(
        io::stderr(),
        "not tested: {test}: {what} is not installed (.ci/programs installs it)"
    );
}
