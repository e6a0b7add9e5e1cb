//! The programs under test: how each is started, given its addresses, watched and stopped.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::Link;
use super::carriage::{self, Carriage};
use super::process;
use super::proxies;

const START_WITHIN: Duration = Duration::from_secs(10);
const END_WITHIN: Duration = Duration::from_secs(5);

/// What our programs read.
const CONFIG_FILE: &str = "connserver.toml";
/// This binary, even if another one was built in its place meanwhile.
const OWN_BINARY: &str = "/proc/self/exe";

/// A program that can be measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// No program: clients connect directly to the backend.
    Direct,
    /// The bare epoll forwarder of this crate.
    Bare,
    /// The tokio binary next to this one.
    Voltlane,
    /// The smol binary next to this one.
    VoltlaneSmol,
    /// The tokio binary with one shard, whatever the number of processors.
    OneShard,
    /// HAProxy in tcp mode, one thread for each CPU that it may use.
    Haproxy,
    /// nginx with its stream module, one worker for each CPU that it may use.
    Nginx,
    /// Another binary that takes `run --config F --listen A --master A`.
    Path(PathBuf),
}

impl Program {
    /// The built-in programs, in the order of the tables.
    pub const BUILT_IN: [Self; 7] = [
        Self::Direct,
        Self::Bare,
        Self::Voltlane,
        Self::VoltlaneSmol,
        Self::OneShard,
        Self::Haproxy,
        Self::Nginx,
    ];

    /// Returns true if each client has a plain connection of its own to the backend, without frames or tags.
    pub fn is_plain(&self) -> bool {
        matches!(self, Self::Direct | Self::Haproxy | Self::Nginx)
    }

    /// Returns whether clients can be carried so.
    pub fn carries(&self, carriage: Carriage) -> bool {
        carriage == Carriage::Tcp || !matches!(self, Self::Direct | Self::Bare)
    }

    /// Returns true if a client can come back as the same client.
    pub fn resumes(&self) -> bool {
        !self.is_plain() && *self != Self::Bare
    }

    /// Returns the path of its binary.
    ///
    /// # Errors
    /// When there is none.
    pub fn binary(&self) -> Result<PathBuf, StartError> {
        let found = match self {
            Self::Direct | Self::Bare => Some(OWN_BINARY.into()),
            Self::Voltlane | Self::OneShard => sibling(&std::env::current_exe()?, "voltlane"),
            Self::VoltlaneSmol => sibling(&std::env::current_exe()?, "voltlane-smol"),
            Self::Haproxy | Self::Nginx => on_path(&self.to_string()),
            Self::Path(path) => Some(path.clone()),
        };
        found
            .filter(|path| path.is_file())
            .ok_or_else(|| StartError::NotInstalled(self.clone()))
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("direct"),
            Self::Bare => f.write_str("bare"),
            Self::Voltlane => f.write_str("voltlane"),
            Self::VoltlaneSmol => f.write_str("voltlane-smol"),
            Self::OneShard => f.write_str("one-shard"),
            Self::Haproxy => f.write_str("haproxy"),
            Self::Nginx => f.write_str("nginx"),
            Self::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

impl FromStr for Program {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let built_in = Self::BUILT_IN
            .into_iter()
            .find(|program| program.to_string() == name);
        match built_in {
            Some(program) => Ok(program),
            None if name.contains('/') => Ok(Self::Path(name.into())),
            None => Err(format!(
                "{name} is neither a path nor one of {}",
                Self::BUILT_IN.map(|p| p.to_string()).join(", ")
            )),
        }
    }
}

/// Why a program could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The binary is not on this machine.
    #[error("{}", not_installed(.0))]
    NotInstalled(Program),
    /// It exited before it served.
    #[error("{0} exited at once: {1}")]
    Ended(Program, std::process::ExitStatus),
    /// It does not accept clients.
    #[error("{0} accepts no client within {START_WITHIN:?}")]
    NotServing(Program),
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn not_installed(program: &Program) -> String {
    match program {
        Program::Voltlane | Program::OneShard => {
            "voltlane is not built: cargo build --release -p voltlane".into()
        }
        Program::VoltlaneSmol => {
            "voltlane-smol is not built: cargo build --release -p voltlane".into()
        }
        other => format!("{other} is not installed"),
    }
}

/// The default lines of `connserver.toml` for our programs.
///
/// They are the defaults except for four. The rates of accepts, of joins of version 3 and of TLS handshakes would otherwise be what is measured. And with the
/// default bound on sessions that are away, each new one would soon end another and be measured together with that. More lines of
/// `[clients]` may follow.
pub const CONFIG: &str = "[limits]\naccept_rate = 0\njoin_rate = 0\ntls_handshake_rate = 0\n[clients]\nmax_stale_clients = 1000000\n";

/// How to start a program.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Address of the backend, which already accepts.
    pub backend: SocketAddr,
    /// Lines of `connserver.toml`, for programs that read it; empty for the defaults.
    pub config: String,
    /// How clients are carried.
    pub carriage: Carriage,
    /// Whether clients may speak version 3.
    pub v3: bool,
    /// How the backend speaks.
    pub link: Link,
    /// CPUs that the program may run on; empty for all.
    pub cpus: Vec<usize>,
    /// Where it listens, if that is not a loopback address.
    pub host: Option<IpAddr>,
    /// Limit on the program's open descriptors, if it is to be lower than the load tool's.
    pub max_descriptors: Option<u64>,
}

/// A running program. Dropping this stops it, by its process id.
#[derive(Debug)]
pub struct Running {
    /// The address that clients connect to.
    pub address: SocketAddr,
    child: Option<Child>,
    directory: Option<PathBuf>,
}

impl Running {
    /// Starts `program` and waits until it accepts.
    pub fn start(program: &Program, launch: &Launch) -> Result<Self, StartError> {
        let binary = program.binary()?;
        if *program == Program::Direct {
            return Ok(Self {
                address: launch.backend,
                child: None,
                directory: None,
            });
        }
        let address = free_address_of(launch.host)?;
        let directory = temporary_directory(address.port())?;
        let mut command = command(program, &binary, address, launch, &directory)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr_file(&directory)?)
            .spawn()?;
        let mut running = Self {
            address,
            child: Some(child),
            directory: Some(directory),
        };
        running.wait_until_serving(program)?;
        Ok(running)
    }

    /// Returns the process id, if there is a process.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Returns true while the process has not exited.
    pub fn is_alive(&mut self) -> bool {
        self.child
            .as_mut()
            .is_none_or(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Returns the path of its configuration, if it has a directory.
    pub fn config_file(&self) -> Option<PathBuf> {
        let directory = self.directory.as_ref();
        directory.map(|directory| directory.join(CONFIG_FILE))
    }

    /// Returns what the program has written to standard error so far.
    pub fn stderr(&self) -> String {
        let path = self
            .directory
            .as_ref()
            .map(|directory| directory.join("stderr"));
        path.and_then(|path| std::fs::read_to_string(path).ok())
            .unwrap_or_default()
    }

    /// Changes the `connserver.toml` of one of our programs, if `change` returns other lines, and has the program read it again.
    ///
    /// # Errors
    /// When there is no such file, or the program is gone.
    pub fn reconfigure(&self, change: impl FnOnce(&str) -> Option<String>) -> io::Result<()> {
        if let (Some(directory), Some(child)) = (&self.directory, &self.child)
            && let Some(pid) = Pid::from_raw(child.id() as i32)
        {
            let path = directory.join(CONFIG_FILE);
            if let Some(changed) = change(&std::fs::read_to_string(&path)?) {
                std::fs::write(path, changed)?;
                rustix::process::kill_process(pid, Signal::HUP)?;
            }
        }
        Ok(())
    }

    fn wait_until_serving(&mut self, program: &Program) -> Result<(), StartError> {
        let until = Instant::now() + START_WITHIN;
        while Instant::now() < until {
            if let Some(status) = self
                .child
                .as_mut()
                .and_then(|child| child.try_wait().transpose())
                .transpose()?
            {
                eprint!("{}", self.stderr());
                return Err(StartError::Ended(program.clone(), status));
            }
            if TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(StartError::NotServing(program.clone()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            end(child);
        }
        if let Some(directory) = &self.directory {
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}

/// Sends SIGTERM first, so that the program's own shutdown is exercised, and later SIGKILL.
fn end(child: &mut Child) {
    if let Some(pid) = Pid::from_raw(child.id() as i32)
        && matches!(child.try_wait(), Ok(None))
    {
        let _ = rustix::process::kill_process(pid, Signal::TERM);
    }
    let until = Instant::now() + END_WITHIN;
    while Instant::now() < until {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
}

fn command(
    program: &Program,
    binary: &Path,
    listen: SocketAddr,
    launch: &Launch,
    directory: &Path,
) -> io::Result<Command> {
    let backend = launch.backend;
    // Goes through this same binary, which applies the settings and then replaces itself by the program. The process id stays the same.
    let mut command = Command::new(OWN_BINARY);
    command.arg("become");
    if let Some(limit) = launch.max_descriptors {
        command.arg(format!("--max-descriptors={limit}"));
    }
    for cpu in &launch.cpus {
        command.arg(format!("--cpu={cpu}"));
    }
    command.arg("--").arg(binary);
    command.current_dir(directory);
    if launch.carriage.has_tls() {
        std::fs::write(directory.join("own.pem"), carriage::CERTIFICATE)?;
        std::fs::write(directory.join("own.key"), carriage::KEY)?;
        let both = [carriage::CERTIFICATE, carriage::KEY].concat();
        std::fs::write(directory.join("both.pem"), both)?;
    }
    match program {
        Program::Direct => unreachable!("direct starts nothing"),
        Program::Bare => {
            command.args([
                "bare",
                "--listen",
                &listen.to_string(),
                "--backend",
                &backend.to_string(),
            ]);
        }
        Program::Haproxy => {
            let path = directory.join("haproxy.cfg");
            let config = proxies::haproxy(listen, launch);
            std::fs::write(&path, config)?;
            command.arg("-db").arg("-f").arg(path);
        }
        Program::Nginx => {
            let path = directory.join("nginx.conf");
            let config = proxies::nginx(binary, listen, launch, directory);
            std::fs::write(&path, config)?;
            command.arg("-p").arg(directory).arg("-c").arg(path);
        }
        Program::Voltlane | Program::VoltlaneSmol | Program::OneShard | Program::Path(_) => {
            let path = directory.join(CONFIG_FILE);
            let first = match program {
                Program::OneShard => "general.shards = 1\n",
                _ => "",
            };
            let config = [first, &own_config(launch)].concat();
            std::fs::write(&path, config)?;
            command.arg("run").arg("--config").arg(path);
            command.args([
                "--listen",
                &listen.to_string(),
                "--master",
                &backend.to_string(),
            ]);
        }
    }
    Ok(command)
}

/// Returns the lines of `connserver.toml`, with those of the carriage.
fn own_config(launch: &Launch) -> String {
    let carriage = launch.carriage;
    let certificate = match carriage.has_tls() {
        true => "listener.certificate_file = \"own.pem\"\nlistener.key_file = \"own.key\"\n",
        false => "",
    };
    let versions = match launch.v3 {
        true => "listener.versions = [2, 3]\n",
        false => "",
    };
    let transport = match carriage {
        Carriage::Tcp => String::new(),
        _ => {
            let name = carriage::name_of(carriage);
            format!("listener.transport = \"{name}\"\n")
        }
    };
    // Of several edges at once only one would have the usual address.
    let metrics = match launch.config.contains("metrics") {
        true => "",
        false => "metrics.address = \"\"\n",
    };
    let link = match launch.link {
        Link::V2 => "",
        Link::V3 { .. } => "master.protocol = \"3\"\n",
    };
    [
        metrics,
        versions,
        &transport,
        certificate,
        link,
        &launch.config,
    ]
    .concat()
}

/// Applies the settings of a program and replaces this process by it. Returns only if that fails.
///
/// The system ends the program when the load tool dies, whatever the cause.
pub fn become_program(
    cpus: &[usize],
    max_descriptors: Option<u64>,
    program: &[OsString],
) -> io::Error {
    let prepared = || -> io::Result<()> {
        rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
        if !cpus.is_empty() {
            process::pin(std::process::id(), cpus)?;
        }
        if let Some(limit) = max_descriptors {
            process::limit_descriptors(limit)?;
        }
        Ok(())
    };
    match (prepared(), program) {
        (Err(error), _) => error,
        (Ok(()), [binary, arguments @ ..]) => Command::new(binary).args(arguments).exec(),
        (Ok(()), []) => io::Error::new(io::ErrorKind::InvalidInput, "no program was named"),
    }
}

/// Returns a loopback address that nobody listens on now.
///
/// Its host is used by this process alone, so nobody who asks for a free port is given this one before the program takes it.
pub fn free_address() -> io::Result<SocketAddr> {
    free_address_of(None)
}

/// Returns an address of `host` that nobody listens on now. By default it is a loopback address.
fn free_address_of(host: Option<IpAddr>) -> io::Result<SocketAddr> {
    let [.., a, b] = std::process::id().to_be_bytes();
    let host = host.unwrap_or(Ipv4Addr::new(127, 78, a, b).into());
    TcpListener::bind((host, 0))?.local_addr()
}

fn temporary_directory(port: u16) -> io::Result<PathBuf> {
    let directory =
        std::env::temp_dir().join(format!("voltlane-benches-{}-{port}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    Ok(directory)
}

fn stderr_file(directory: &Path) -> io::Result<std::fs::File> {
    std::fs::File::create(directory.join("stderr"))
}

fn sibling(own: &Path, name: &str) -> Option<PathBuf> {
    Some(own.parent()?.join(name))
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Daemons are in sbin, which is not on every user's path.
    let everywhere =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    everywhere
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}
