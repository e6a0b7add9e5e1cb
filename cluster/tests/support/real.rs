//! Servers that a test starts and ends, and engines at them.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use voltlane_cluster::testkit::{Bench, Clock, conforms};
use voltlane_cluster::{
    Answer, Call, CallId, Credentials, Engine, EngineError, Keeper, LeaseConfig, NotTaken, Record,
    Reply, Request, Standing,
};

use super::{Make, Remote, config};

/// How long a cluster may take to have a leader, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The home that processes take.
pub(crate) const HOME: u16 = 9;

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
pub(crate) struct Server(Child);

impl Server {
    pub(crate) fn start(command: &mut Command) -> Server {
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
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
pub(crate) struct Real(Instant);

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

pub(crate) struct Servers {
    make: Make,
    ports: Vec<u16>,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) clock: Real,
}

impl Servers {
    pub(crate) fn new(make: Make, ports: &[u16]) -> Servers {
        Servers {
            make,
            ports: ports.to_vec(),
            credentials: None,
            clock: Real(Instant::now()),
        }
    }

    pub(crate) fn engine(&self, seed: u64) -> Box<dyn Remote> {
        (self.make)(config(&self.ports, self.credentials.clone(), seed))
    }

    pub(crate) fn ask(&self, engine: &mut dyn Remote, call: Call) -> Answer {
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
                    self.clock.rest(&*engine, due);
                }
            }
        }
    }

    /// Asks until it is answered without an error.
    pub(crate) fn insist(&self, engine: &mut dyn Remote, call: &Call) -> Reply {
        let end = self.clock.now() + PATIENCE;
        loop {
            match self.ask(engine, call.clone()) {
                Ok(reply) => return reply,
                Err(error) => assert!(self.clock.now() < end, "{error}"),
            }
        }
    }

    /// Asks until the error is this.
    pub(crate) fn refused(&self, what: &str, is_it: impl Fn(&EngineError) -> bool) -> String {
        let mut engine = self.engine(1);
        let end = self.clock.now() + PATIENCE;
        loop {
            let error = self.ask(&mut *engine, Call::List).expect_err(what);
            if is_it(&error) {
                return error.to_string();
            }
            assert!(self.clock.now() < end, "{what}: {error}");
        }
    }

    /// Waits until the record of a home is written again.
    pub(crate) fn renewed(&self, engine: &mut dyn Remote, home: u16) -> Record {
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
        // Each has names of its own for what it asks.
        static SEEDS: AtomicU32 = AtomicU32::new(1_000);
        let engine = Servers::engine(self, SEEDS.fetch_add(1, Ordering::Relaxed).into());
        engine as Box<dyn Engine>
    }

    fn clock(&self) -> &dyn Clock {
        &self.clock
    }
}

/// Checks that an engine does what it must, and that its one server has the records once it is `started` again.
pub(crate) fn conforms_and_keeps_records(
    servers: &Servers,
    engine: &mut dyn Remote,
    started: impl Fn() -> Server,
) -> Server {
    let mut server = started();
    servers.insist(engine, &Call::List);
    conforms(servers);
    let before = servers.insist(engine, &Call::List);
    server.end();
    let error = servers.ask(engine, Call::List).expect_err("it is gone");
    assert!(matches!(error, EngineError::Unreachable(_)), "{error}");
    let server = started();
    assert_eq!(servers.insist(engine, &Call::List), before);
    server
}

/// A home that one process holds while a second one waits for it.
pub(crate) struct Held {
    first: Keeper,
    term: u32,
}

impl Held {
    pub(crate) fn new(servers: &Servers) -> Held {
        let first = keeper(servers, 1);
        let term = first.wait(Some(PATIENCE)).expect("it is free");
        Held { first, term }
    }

    /// Checks that the first one goes on to write the record.
    pub(crate) fn is_renewed(&self, servers: &Servers, watcher: &mut dyn Remote) {
        let record = servers.renewed(watcher, HOME);
        let nonce = record.holder.as_ref().map(|holder| holder.nonce);
        assert_eq!((record.term, nonce), (self.term, Some(1)));
    }

    /// Checks that nothing was lost, and that the second one has the home once it is given back.
    pub(crate) fn goes_to(self, second: &Keeper) {
        assert_ne!(self.first.standing(), Standing::Lost);
        let waits = second.wait(Some(Duration::ZERO)).expect_err("it is held");
        assert!(!matches!(waits, NotTaken::Time), "{waits}");
        assert!(self.first.give_back());
        assert!(second.wait(Some(PATIENCE)).expect("it is free") > self.term);
    }
}

pub(crate) fn keeper(servers: &Servers, nonce: u64) -> Keeper {
    let config = LeaseConfig {
        cluster: "game".parse().expect("a name"),
        home: HOME,
        lease: Duration::from_secs(20),
        nonce,
        label: format!("edge-{nonce}"),
        backend: "b:1".into(),
        seed: nonce,
    };
    Keeper::start(config, servers.engine(nonce), |_| {}).expect("started")
}
