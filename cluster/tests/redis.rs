//! The engine Redis at real servers, which the tests start and end. Where `redis-server` is not installed, they pass and say so; with
//! `VL_PROGRAMS` set, that is a failure.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use voltlane_cluster::testkit::{Bench, Clock as _, conforms};
use voltlane_cluster::{
    Answer, Call, CallId, Credentials, Engine, EngineConfig, EngineError, Keeper, LeaseConfig,
    NotTaken, Record, RedisEngine, Reply, Request, Standing,
};

use crate::nats::{Directory, PATIENCE, Real, Server, ports, program};

/// Starts a server that has written what it has acknowledged.
fn start(program: &Path, store: &Path, port: u16, more: &[&str]) -> Server {
    let mut command = Command::new(program);
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
    command.arg("--dir").arg(store);
    command.args([
        "--save",
        "",
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
    ]);
    command
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Server(command.spawn().expect("it starts"))
}

/// Tells a server something, and waits until it has said OK.
fn order(port: u16, words: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        let mut answer = [0; 3];
        let told = TcpStream::connect(("127.0.0.1", port)).and_then(|mut socket| {
            socket.write_all(format!("{words}\r\n").as_bytes())?;
            socket.read_exact(&mut answer)
        });
        if told.is_ok() && answer == *b"+OK" {
            return;
        }
        assert!(Instant::now() < end, "{words}: {told:?} {answer:?}");
        std::thread::yield_now();
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

    fn redis(&self, seed: u64) -> RedisEngine {
        let servers = self.ports.iter();
        RedisEngine::new(EngineConfig {
            servers: servers
                .map(|port| ("127.0.0.1".to_owned(), *port))
                .collect(),
            cluster: "game".parse().expect("a name"),
            credentials: self.credentials.clone(),
            seed,
        })
    }

    fn ask(&self, engine: &mut RedisEngine, call: Call) -> Answer {
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
    fn insist(&self, engine: &mut RedisEngine, call: &Call) -> Reply {
        let end = self.clock.now() + PATIENCE;
        loop {
            match self.ask(engine, call.clone()) {
                Ok(reply) => return reply,
                Err(error) => assert!(self.clock.now() < end, "{error}"),
            }
        }
    }

    /// Asks until the error is this.
    fn refused(&self, what: &str, is_it: impl Fn(&EngineError) -> bool) -> String {
        let mut engine = self.redis(1);
        let end = self.clock.now() + PATIENCE;
        loop {
            let error = self.ask(&mut engine, Call::List).expect_err(what);
            if is_it(&error) {
                return error.to_string();
            }
            assert!(self.clock.now() < end, "{what}: {error}");
        }
    }

    /// Waits until the record of a home is written again.
    fn renewed(&self, engine: &mut RedisEngine, home: u16) -> Record {
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
        static SEEDS: AtomicU32 = AtomicU32::new(1_000);
        Box::new(self.redis(SEEDS.fetch_add(1, Ordering::Relaxed).into()))
    }

    fn clock(&self) -> &dyn voltlane_cluster::testkit::Clock {
        &self.clock
    }
}

fn write(home: u16, expected: u64, value: &[u8]) -> Call {
    Call::Write {
        home,
        expected,
        value: value.to_vec(),
    }
}

#[test]
fn one_server_conforms_and_keeps_records_over_its_restart() {
    let Some(program) = program("redis-server") else {
        return;
    };
    let store = Directory::new();
    let [port] = ports();
    let mut server = start(&program, &store.0, port, &[]);
    let servers = Servers::new(&[port]);
    let mut engine = servers.redis(2);
    servers.insist(&mut engine, &Call::List);
    conforms(&servers);
    let before = servers.insist(&mut engine, &Call::List);
    server.end();
    let error = servers
        .ask(&mut engine, Call::List)
        .expect_err("it is gone");
    assert!(matches!(error, EngineError::Unreachable(_)), "{error}");
    let _server = start(&program, &store.0, port, &[]);
    assert_eq!(servers.insist(&mut engine, &Call::List), before);

    // A record that expires leaves no revision that is given again.
    order(port, "SET voltlane:{game}:spare 1");
    let Reply::Written(last) = servers.insist(&mut engine, &write(50, 0, b"x")) else {
        panic!("not written");
    };
    order(port, "RENAME voltlane:{game}:home.50 gone");
    let read = servers.insist(&mut engine, &Call::Read { home: 50 });
    assert_eq!(read, Reply::Read(None));
    let Reply::Written(next) = servers.insist(&mut engine, &write(50, 0, b"y")) else {
        panic!("not written");
    };
    assert!(next > last, "{next} after {last}");
    // Nor does one whose last revision was lost.
    order(port, "SET voltlane:{game}:revision 1");
    let again = servers.insist(&mut engine, &write(50, next, b"z"));
    assert_eq!(again, Reply::Written(next + 1));
}

#[test]
fn a_foreign_secret_is_refused_and_told() {
    let Some(program) = program("redis-server") else {
        return;
    };
    let (store, [port]) = (Directory::new(), ports());
    let _server = start(&program, &store.0, port, &["--requirepass", "right"]);
    let mut servers = Servers::new(&[port]);
    let denied = |error: &EngineError| matches!(error, EngineError::Denied(_));
    for (wrong, says) in [
        (None, "there are none"),
        (Some("wrong"), "WRONGPASS"),
        (Some("edge:right"), "WRONGPASS"),
    ] {
        servers.credentials = wrong.map(Credentials::of);
        let error = servers.refused("refused", denied);
        assert!(error.contains(says), "{wrong:?}: {error}");
        assert!(!error.contains("right"), "{error}");
    }
    servers.credentials = Some(Credentials::of("right"));
    servers.insist(&mut servers.redis(1), &Call::List);

    // A user with no more rights than the documentation gives it.
    let (store, [port]) = (Directory::new(), ports());
    let rights = "edge on >secret ~voltlane:{game}:* -@all +info +eval +hget +hmget +hset +incr +set +sadd +smembers +pexpire";
    let mut options = vec!["--user"];
    options.extend(rights.split(' '));
    options.extend(["--user", "default", "off"]);
    let _server = start(&program, &store.0, port, &options);
    let mut servers = Servers::new(&[port]);
    servers.refused("nobody else", denied);
    servers.credentials = Some(Credentials::of("edge:secret"));
    servers.insist(&mut servers.redis(1), &Call::List);
    conforms(&servers);
}

#[test]
fn a_write_whose_answer_does_not_come_may_have_been_carried_out() {
    let Some(program) = program("redis-server") else {
        return;
    };
    let (store, [port]) = (Directory::new(), ports());
    let server = start(&program, &store.0, port, &[]);
    let servers = Servers::new(&[port]);
    let mut engine = servers.redis(1);
    servers.insist(&mut engine, &Call::List);
    server.signal(Signal::STOP);
    let late = servers.ask(&mut engine, write(1, 0, b"late"));
    assert_eq!(late, Err(EngineError::Late));
    server.signal(Signal::CONT);
    // It was in the socket of the server.
    let end = servers.clock.now() + PATIENCE;
    loop {
        let read = servers.insist(&mut engine, &Call::Read { home: 1 });
        if matches!(&read, Reply::Read(Some(entry)) if entry.value == b"late") {
            break;
        }
        assert!(servers.clock.now() < end, "{read:?}");
    }
    let again = servers.ask(&mut engine, write(1, 0, b"again"));
    assert_eq!(again, Err(EngineError::Refused));
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
    Keeper::start(config, servers.redis(nonce), |_| {}).expect("started")
}

#[test]
fn a_home_is_held_while_servers_are_killed_paused_replaced_and_restarted() {
    let Some(program) = program("redis-server") else {
        return;
    };
    let stores = [(); 2].map(|()| Directory::new());
    let ports: [u16; 2] = ports();
    let of_first = ["127.0.0.1", &ports[0].to_string()].join(" ");
    let mut first_server = start(&program, &stores[0].0, ports[0], &[]);
    let mut second_server = start(
        &program,
        &stores[1].0,
        ports[1],
        &["--replicaof", &of_first],
    );
    // A replica says so, and is passed over.
    let replica = Servers::new(&ports[1..]);
    let is_replica = |error: &EngineError| error.to_string().contains("it is a replica");
    replica.refused("it takes no writes", is_replica);
    let servers = Servers::new(&[ports[1], ports[0]]);
    let mut watcher = servers.redis(7);
    servers.insist(&mut watcher, &Call::List);
    conforms(&servers);

    let first = keeper(&servers, 1);
    let term = first.wait(Some(PATIENCE)).expect("it is free");
    let is_first = |record: &Record| {
        let nonce = record.holder.as_ref().map(|holder| holder.nonce);
        (record.term, nonce) == (term, Some(1))
    };
    // All that it has is lost, and written again.
    order(ports[0], "FLUSHALL");
    let end = servers.clock.now() + PATIENCE;
    while servers.insist(&mut watcher, &Call::Read { home: 9 }) == Reply::Read(None) {
        assert!(servers.clock.now() < end, "it is written again");
        let now = servers.clock.now();
        servers
            .clock
            .rest(&watcher, now + Duration::from_millis(100));
    }
    assert!(is_first(&servers.renewed(&mut watcher, 9)));
    let second = keeper(&servers, 2);
    // It is paused for longer than a call takes.
    first_server.signal(Signal::STOP);
    let late = servers.ask(&mut watcher, Call::List);
    assert!(late.is_err(), "{late:?}");
    first_server.signal(Signal::CONT);
    assert!(is_first(&servers.renewed(&mut watcher, 9)));
    // It is killed, and the replica takes its place. It may lack the last writes.
    first_server.end();
    order(ports[1], "REPLICAOF NO ONE");
    assert!(is_first(&servers.renewed(&mut watcher, 9)));
    // That one is restarted, and the first one is its replica.
    second_server.end();
    second_server = start(&program, &stores[1].0, ports[1], &[]);
    let of_second = ["127.0.0.1", &ports[1].to_string()].join(" ");
    first_server = start(
        &program,
        &stores[0].0,
        ports[0],
        &["--replicaof", &of_second],
    );
    assert!(is_first(&servers.renewed(&mut watcher, 9)));
    assert_ne!(first.standing(), Standing::Lost);
    let waits = second.wait(Some(Duration::ZERO)).expect_err("it is held");
    assert!(!matches!(waits, NotTaken::Time), "{waits}");
    assert!(first.give_back());
    assert!(second.wait(Some(PATIENCE)).expect("it is free") > term);
    drop((first_server, second_server));
}
