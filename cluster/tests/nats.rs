//! The engine NATS at real servers, which the tests start and end. Where `nats-server` is not installed, they pass and say so; with
//! `VL_PROGRAMS` set, that is a failure.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use voltlane_cluster::testkit::{Bench, Clock, conforms};
use voltlane_cluster::{
    Answer, Call, CallId, Credentials, Engine, EngineConfig, EngineError, Keeper, LeaseConfig,
    NatsEngine, NotTaken, Record, Reply, Request, Standing,
};

/// How long a cluster may take to have a leader, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Returns a program of others, unless it is not installed.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let programs = std::env::var_os("VL_PROGRAMS").map(PathBuf::from);
    let own = programs.iter().map(|programs| programs.join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = own.chain(std::env::split_paths(&path));
    let found = folders
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(name))
        .find(|program| program.is_file());
    if found.is_none() {
        let what = format!("{name} is not installed: this test did NOT run");
        assert!(programs.is_none(), "{what}");
        eprintln!("{what}");
    }
    found
}

/// A directory that is removed when it is dropped.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new() -> Directory {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("voltlane-engine-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a directory");
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Returns ports that were free a moment ago.
pub(crate) fn ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    listeners.map(|listener| listener.local_addr().expect("bound").port())
}

/// A server, which is killed when it is dropped.
pub(crate) struct Server(pub(crate) Child);

impl Server {
    fn start(program: &Path, store: &Path, port: u16, more: &[String]) -> Server {
        let mut command = Command::new(program);
        command.args(["-js", "-a", "127.0.0.1", "-p", &port.to_string(), "-sd"]);
        command.arg(store).args(more);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Server(command.spawn().expect("it starts"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.0);
        kill_process(pid, signal).expect("it runs");
    }

    pub(crate) fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// Real time.
pub(crate) struct Real(pub(crate) Instant);

impl Clock for Real {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn rest(&self, engine: &dyn Engine, until: Duration) {
        let left = until.saturating_sub(self.now());
        let left = Timespec {
            tv_sec: i64::try_from(left.as_secs()).expect("short"),
            tv_nsec: left.subsec_nanos().into(),
        };
        let socket = engine.socket();
        let mut fds: Vec<_> = socket
            .into_iter()
            .map(|(socket, _)| PollFd::from_borrowed_fd(socket, PollFlags::IN))
            .collect();
        let _ = poll(&mut fds, Some(&left));
    }
}

struct Servers {
    ports: Vec<u16>,
    credentials: Option<Credentials>,
    clock: Real,
}

impl Servers {
    fn new(ports: &[u16]) -> Servers {
        Servers {
            ports: ports.to_vec(),
            credentials: None,
            clock: Real(Instant::now()),
        }
    }

    fn nats(&self, seed: u64) -> NatsEngine {
        let servers = self
            .ports
            .iter()
            .map(|port| ("127.0.0.1".to_owned(), *port));
        NatsEngine::new(EngineConfig {
            servers: servers.collect(),
            cluster: "game".parse().expect("a name"),
            credentials: self.credentials.clone(),
            seed,
        })
    }

    fn ask(&self, engine: &mut NatsEngine, call: Call) -> Answer {
        static CALLS: AtomicU32 = AtomicU32::new(1);
        let id = CallId::new(CALLS.fetch_add(1, Ordering::Relaxed).into());
        engine.call(self.clock.now(), Request { id, call });
        let end = self.clock.now() + PATIENCE;
        loop {
            match engine.poll(self.clock.now()) {
                Some((answered, answer)) if answered == id => return answer,
                Some(_) => {}
                None => {
                    assert!(self.clock.now() < end, "no answer");
                    let due = engine.poll_timeout().unwrap_or(end);
                    self.clock.rest(engine, due);
                }
            }
        }
    }

    /// Asks until it is answered without an error.
    fn insist(&self, engine: &mut NatsEngine, call: &Call) -> Reply {
        let end = self.clock.now() + PATIENCE;
        loop {
            match self.ask(engine, call.clone()) {
                Ok(reply) => return reply,
                Err(error) => assert!(self.clock.now() < end, "{error}"),
            }
        }
    }

    /// Waits until the record of a home is written again.
    fn renewed(&self, engine: &mut NatsEngine, home: u16) -> Record {
        let mut first = None;
        loop {
            let Reply::Read(Some(entry)) = self.insist(engine, &Call::Read { home }) else {
                panic!("no record");
            };
            let known = *first.get_or_insert(entry.revision);
            if entry.revision > known {
                let game = "game".parse().expect("a name");
                return Record::decode(&entry.value, &game, home).expect("a record");
            }
            let now = self.clock.now();
            self.clock.rest(engine, now + Duration::from_millis(100));
        }
    }
}

impl Bench for Servers {
    fn engine(&self) -> Box<dyn Engine> {
        // Each has an inbox of its own.
        static SEEDS: AtomicU32 = AtomicU32::new(1_000);
        Box::new(self.nats(SEEDS.fetch_add(1, Ordering::Relaxed).into()))
    }

    fn clock(&self) -> &dyn Clock {
        &self.clock
    }
}

#[test]
fn one_server_conforms_and_keeps_records_over_its_restart() {
    let Some(program) = program("nats-server") else {
        return;
    };
    let store = Directory::new();
    let [port] = ports();
    let mut server = Server::start(&program, &store.0, port, &[]);
    let servers = Servers::new(&[port]);
    let mut engine = servers.nats(2);
    servers.insist(&mut engine, &Call::List);
    conforms(&servers);
    let before = servers.insist(&mut engine, &Call::List);
    server.end();
    let error = servers
        .ask(&mut engine, Call::List)
        .expect_err("it is gone");
    assert!(matches!(error, EngineError::Unreachable(_)), "{error}");
    let _server = Server::start(&program, &store.0, port, &[]);
    assert_eq!(servers.insist(&mut engine, &Call::List), before);
}

#[test]
fn a_foreign_secret_is_refused_and_told() {
    let Some(program) = program("nats-server") else {
        return;
    };
    let store = Directory::new();
    let [port] = ports();
    let options = ["--user", "edge", "--pass", "right"].map(String::from);
    let _server = Server::start(&program, &store.0, port, &options);
    let mut servers = Servers::new(&[port]);
    servers.credentials = Some(Credentials::of("edge:right"));
    let mut engine = servers.nats(1);
    servers.insist(&mut engine, &Call::List);
    for wrong in [None, Some("edge:wrong"), Some("a-token")] {
        servers.credentials = wrong.map(Credentials::of);
        let mut engine = servers.nats(1);
        let error = servers.ask(&mut engine, Call::List).expect_err("refused");
        assert!(
            matches!(error, EngineError::Denied(_)),
            "{wrong:?}: {error}"
        );
        assert!(!error.to_string().contains("wrong"), "{error}");
    }
    // Without JetStream there is nothing to keep records in.
    let [port] = ports();
    let mut command = Command::new(program);
    command.args(["-a", "127.0.0.1", "-p", &port.to_string()]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let _plain = Server(command.spawn().expect("it starts"));
    let servers = Servers::new(&[port]);
    let mut engine = servers.nats(1);
    let end = servers.clock.now() + PATIENCE;
    loop {
        let error = servers
            .ask(&mut engine, Call::List)
            .expect_err("no JetStream");
        if error.to_string().contains("JetStream") {
            break;
        }
        assert!(servers.clock.now() < end, "{error}");
    }
}

fn keeper(servers: &Servers, nonce: u64) -> Keeper {
    let config = LeaseConfig {
        cluster: "game".parse().expect("a name"),
        home: 9,
        lease: Duration::from_secs(20),
        nonce,
        label: format!("edge-{nonce}"),
        backend: "b:1".into(),
        seed: nonce,
    };
    Keeper::start(config, servers.nats(nonce), |_| {}).expect("started")
}

#[test]
fn a_home_is_held_while_servers_of_a_cluster_are_killed_paused_and_restarted() {
    let Some(program) = program("nats-server") else {
        return;
    };
    let stores = [(); 3].map(|()| Directory::new());
    let clients: [u16; 3] = ports();
    let routes: [u16; 3] = ports();
    let all: Vec<_> = routes
        .iter()
        .map(|port| format!("nats://127.0.0.1:{port}"))
        .collect();
    let start = |at: usize| {
        let options = [
            ("-n", format!("server-{at}")),
            ("--cluster_name", "voltlane".to_owned()),
            ("--cluster", all[at].clone()),
            ("--routes", all.join(",")),
        ];
        let options = options
            .into_iter()
            .flat_map(|(name, value)| [name.to_owned(), value]);
        let options: Vec<String> = options.collect();
        Server::start(&program, &stores[at].0, clients[at], &options)
    };
    let mut running = [start(0), start(1), start(2)];
    let servers = Servers::new(&clients);
    let mut watcher = servers.nats(7);
    servers.insist(&mut watcher, &Call::List);
    conforms(&servers);

    let first = keeper(&servers, 1);
    let term = first.wait(Some(PATIENCE)).expect("it is free");
    let second = keeper(&servers, 2);
    let is_first = |record: &Record| {
        let nonce = record.holder.as_ref().map(|holder| holder.nonce);
        (record.term, nonce) == (term, Some(1))
    };
    // One is killed, and comes back.
    running[0].end();
    assert!(is_first(&servers.renewed(&mut watcher, 9)));
    running[0] = start(0);
    assert!(is_first(&servers.renewed(&mut watcher, 9)));
    // One is paused.
    running[1].signal(Signal::STOP);
    assert!(is_first(&servers.renewed(&mut watcher, 9)));
    running[1].signal(Signal::CONT);
    // All are restarted.
    for server in &mut running {
        server.end();
    }
    running = [start(0), start(1), start(2)];
    assert!(is_first(&servers.renewed(&mut watcher, 9)));
    assert_ne!(first.standing(), Standing::Lost);
    let waits = second.wait(Some(Duration::ZERO)).expect_err("it is held");
    assert!(!matches!(waits, NotTaken::Time), "{waits}");
    assert!(first.give_back());
    assert!(second.wait(Some(PATIENCE)).expect("it is free") > term);
    drop(running);
}
