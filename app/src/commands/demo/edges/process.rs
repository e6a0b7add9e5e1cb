//! The processes of the demo, and the directory that they have.

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt};
use rustix::process::Signal;
use voltlane_core::Time;

use super::super::MISSED_PACKETS;
#[cfg(feature = "engine")]
use crate::cli::DemoEngine;
use crate::commands::{make_key, random};
use crate::config::VARIABLE_PREFIX;
use crate::key_file;

/// The variable that has an edge end when its standard input does, so that it does not outlive the demo however that ends.
const OF_DEMO: &str = "VL_ENDS_WITH_ITS_DEMO";
/// The lease of a home at an engine, which the next process of an edge that was killed waits for.
#[cfg(feature = "engine")]
const LEASE_SECS: u32 = 3;

/// Has this process end with the demo that has started it, if one has.
pub(crate) fn ends_with_its_demo() {
    if std::env::var_os(OF_DEMO).is_none() {
        return;
    }
    let watches = std::thread::Builder::new().name("demo".into()).spawn(|| {
        // The demo writes nothing. An error is an end as well.
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(1);
    });
    if let Err(error) = watches {
        tracing::warn!(%error, "this edge may outlive its demo");
    }
}

/// Seconds after which an edge gives a backend up, of several.
const REPIN_SECS: u32 = 1;

/// A process that is killed when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended. It is reaped in any case.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that nothing else takes, even while nobody listens there.
pub(super) struct Port {
    address: SocketAddr,
    /// On Linux, a socket with the port does not keep another one from listening there if neither minds.
    _socket: Option<OwnedFd>,
}

impl Port {
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn reserve() -> io::Result<Port> {
        let held = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        rustix::io::fcntl_setfd(&held, rustix::io::FdFlags::CLOEXEC)?;
        sockopt::set_socket_reuseaddr(&held, true)?;
        bind(&held, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = SocketAddr::try_from(getsockname(&held)?)?;
        Ok(Port {
            address,
            _socket: cfg!(target_os = "linux").then_some(held),
        })
    }
}

/// How a process ended that the demo has not killed.
pub(super) enum End {
    Killed,
    ByItself(String),
}

/// An edge, whether it runs or not.
pub(super) struct Edge {
    pub(super) home: u16,
    pub(super) address: SocketAddr,
    /// When it is to be started.
    pub(super) start_at: Option<Time>,
    process: Option<Process>,
    _port: Port,
}

impl Edge {
    pub(super) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Returns the name of its files.
    pub(super) fn name(&self) -> String {
        format!("edge-{}", self.home)
    }

    pub(super) fn kill(&mut self) {
        self.process = None;
    }

    /// Returns how it has ended, if it has.
    pub(super) fn look(&mut self) -> io::Result<Option<End>> {
        let Some(process) = &mut self.process else {
            return Ok(None);
        };
        let Some(status) = process.0.try_wait()? else {
            return Ok(None);
        };
        self.process = None;
        Ok(Some(match status.signal() {
            // Others are signs of a fault.
            Some(signal) if signal == Signal::KILL.as_raw() => End::Killed,
            _ => End::ByItself(format!("edge {} has ended ({status})", self.home)),
        }))
    }
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "edge {}", self.home)?;
        match &self.process {
            Some(process) => write!(f, ", process {}", process.0.id()),
            None => Ok(()),
        }
    }
}

/// A server that edges agree by.
#[cfg(feature = "engine")]
struct Server {
    engine: DemoEngine,
    process: Process,
    port: Port,
}

/// Returns the program of an engine, the scheme of its addresses, and where to get it.
#[cfg(feature = "engine")]
fn program_of(engine: DemoEngine) -> (&'static str, &'static str, &'static str) {
    match engine {
        DemoEngine::Nats => (
            "nats-server",
            "nats",
            "get one from https://github.com/nats-io/nats-server/releases",
        ),
        #[cfg(feature = "redis")]
        DemoEngine::Redis => (
            "redis-server",
            "redis",
            "install the package redis-server, or get one from https://redis.io/downloads",
        ),
    }
}

/// A directory of the demo's own, and what all of its processes have in common.
pub(super) struct Place {
    #[cfg(feature = "engine")]
    server: Option<Server>,
    backends: Vec<SocketAddr>,
    directory: PathBuf,
}

impl Place {
    pub(super) fn make(backends: Vec<SocketAddr>) -> io::Result<Place> {
        let name = *random().first_chunk().expect("32 bytes have 8");
        let name = u64::from_be_bytes(name);
        let directory = std::env::temp_dir().join(format!("voltlane-demo-{name:016x}"));
        DirBuilder::new().mode(0o700).create(&directory)?;
        let place = Place {
            #[cfg(feature = "engine")]
            server: None,
            backends,
            directory,
        };
        // One for all: a client proves at each of them who it is.
        let file = place.directory.join("edge.key");
        key_file::load_or_make_key(Some(&file), make_key).map_err(io::Error::other)?;
        Ok(place)
    }

    /// Returns where the engine of the edges is, if they have one.
    pub(super) fn engine(&self) -> Option<String> {
        #[cfg(feature = "engine")]
        let engine = self.server.as_ref();
        #[cfg(feature = "engine")]
        let engine = engine.map(|server| {
            let (_, scheme, _) = program_of(server.engine);
            format!("{scheme}://{}", server.port.address)
        });
        #[cfg(not(feature = "engine"))]
        let engine = None;
        engine
    }

    #[cfg(feature = "engine")]
    pub(super) fn start_engine(&mut self, engine: DemoEngine) -> io::Result<()> {
        let port = Port::reserve()?;
        let (program, _, get) = program_of(engine);
        let mut command = Command::new(program);
        let number = port.address.port().to_string();
        match engine {
            DemoEngine::Nats => {
                command.args(["-js", "-a", "127.0.0.1", "-p", &number, "-sd"]);
                command.arg(self.directory.join("engine"));
            }
            #[cfg(feature = "redis")]
            DemoEngine::Redis => {
                command.args(["--bind", "127.0.0.1", "--port", &number, "--save", ""]);
            }
        }
        let process = self.spawn(command, "engine").map_err(|error| {
            io::Error::other(match error.kind() {
                io::ErrorKind::NotFound => {
                    format!("there is no {program} in the PATH: {get}, or leave --engine out")
                }
                _ => format!("{program}: {error}"),
            })
        })?;
        self.server = Some(Server {
            engine,
            process,
            port,
        });
        Ok(())
    }

    /// Starts an edge at a port of its own.
    pub(super) fn start_edge(&self, home: u16) -> io::Result<Edge> {
        let port = Port::reserve()?;
        let mut edge = Edge {
            home,
            address: port.address,
            start_at: None,
            process: None,
            _port: port,
        };
        fs::write(self.config(home), self.config_of(&edge))?;
        self.start(&mut edge)?;
        Ok(edge)
    }

    fn config(&self, home: u16) -> PathBuf {
        self.directory.join(format!("edge-{home}.toml"))
    }

    fn config_of(&self, edge: &Edge) -> String {
        let (home, address) = (edge.home, edge.address);
        let master = match &self.backends[..] {
            [backend] => format!("address = \"{backend}\""),
            backends => {
                let backends = backends.iter().map(|backend| format!("\"{backend}\""));
                let backends: Vec<String> = backends.collect();
                format!(
                    "addresses = [{}]\nrepin_secs = {REPIN_SECS}",
                    backends.join(", ")
                )
            }
        };
        #[cfg_attr(not(feature = "engine"), expect(unused_mut))]
        let mut config = format!(
            "[general]\nshards = 1\nkey_file = \"edge.key\"\n\n[listener]\naddress = \"{address}\"\n\n\
             [master]\n{master}\nprotocol = \"3\"\n\n\
             [clients]\nmissed_packets_buffer_size = {MISSED_PACKETS}\n\n[metrics]\naddress = \"\"\n\n[cluster]\nhome = {home}\n"
        );
        #[cfg(feature = "engine")]
        if let Some(engine) = self.engine() {
            config.push_str(&format!(
                "engine = \"{engine}\"\nlease_secs = {LEASE_SECS}\n"
            ));
        }
        config
    }

    /// Starts an edge, for the first time or again.
    pub(super) fn start(&self, edge: &mut Edge) -> io::Result<()> {
        let mut command = Command::new(std::env::current_exe()?);
        for (name, _) in std::env::vars_os() {
            // The demo's edges are configured by it alone.
            let upper = name.to_string_lossy().to_ascii_uppercase();
            if upper.starts_with(VARIABLE_PREFIX) || upper == "NOTIFY_SOCKET" {
                command.env_remove(name);
            }
        }
        command.arg("--config").arg(self.config(edge.home));
        command.env(OF_DEMO, "1");
        edge.process = Some(self.spawn(command, &edge.name())?);
        edge.start_at = None;
        Ok(())
    }

    /// Starts a process whose log is a file, and that has a pipe of the demo's for its input.
    fn spawn(&self, mut command: Command, name: &str) -> io::Result<Process> {
        let log = File::options()
            .append(true)
            .create(true)
            .open(self.log(name))?;
        command
            .current_dir(&self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C is for the demo.
            .process_group(0);
        command.spawn().map(Process)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.log"))
    }

    /// Returns the last line of a log, as far as there is one.
    pub(super) fn last_line(&self, name: &str) -> String {
        let log = fs::read(self.log(name)).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        log.lines().next_back().unwrap_or_default().to_owned()
    }

    /// Checks that the engine runs.
    #[cfg_attr(
        not(feature = "engine"),
        expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "as with one")
    )]
    pub(super) fn look(&mut self) -> io::Result<()> {
        #[cfg(feature = "engine")]
        if let Some(server) = &mut self.server
            && let Some(status) = server.process.0.try_wait()?
        {
            let (program, ..) = program_of(server.engine);
            let line = self.last_line("engine");
            return Err(io::Error::other(format!(
                "{program} has ended ({status}): {line}"
            )));
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The edges were killed before this. A file that the engine writes during the removal may stay.
        #[cfg(feature = "engine")]
        drop(self.server.take());
        let _ = fs::remove_dir_all(&self.directory);
    }
}
