//! The engine Redis at real servers, which the tests start and end. Where `redis-server` is not installed, they pass and say so; with
//! `VL_PROGRAMS` set, that is a failure.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use voltlane_cluster::testkit::{Clock as _, conforms};
use voltlane_cluster::{Call, Credentials, EngineError, Reply};

use crate::support::real::{
    Directory, HOME, Held, PATIENCE, Server, Servers, conforms_and_keeps_records, keeper, ports,
    program,
};
use crate::support::redis;

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
    Server::start(command.args(more))
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
    let (store, [port]) = (Directory::new(), ports());
    let servers = Servers::new(redis, &[port]);
    let mut engine = servers.engine(2);
    let started = || start(&program, &store.0, port, &[]);
    let _server = conforms_and_keeps_records(&servers, &mut *engine, started);

    // A record that expires leaves no revision that is given again.
    order(port, "SET voltlane:{game}:spare 1");
    let Reply::Written(last) = servers.insist(&mut *engine, &write(50, 0, b"x")) else {
        panic!("not written");
    };
    order(port, "RENAME voltlane:{game}:home.50 gone");
    let read = servers.insist(&mut *engine, &Call::Read { home: 50 });
    assert_eq!(read, Reply::Read(None));
    let Reply::Written(next) = servers.insist(&mut *engine, &write(50, 0, b"y")) else {
        panic!("not written");
    };
    assert!(next > last, "{next} after {last}");
    // Nor does one whose last revision was lost.
    order(port, "SET voltlane:{game}:revision 1");
    let again = servers.insist(&mut *engine, &write(50, next, b"z"));
    assert_eq!(again, Reply::Written(next + 1));
}

#[test]
fn a_foreign_secret_is_refused_and_told() {
    let Some(program) = program("redis-server") else {
        return;
    };
    let (store, [port]) = (Directory::new(), ports());
    let _server = start(&program, &store.0, port, &["--requirepass", "right"]);
    let mut servers = Servers::new(redis, &[port]);
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
    servers.insist(&mut *servers.engine(1), &Call::List);

    // A user with no more rights than the documentation gives it.
    let (store, [port]) = (Directory::new(), ports());
    let rights = "edge on >secret ~voltlane:{game}:* -@all +info +eval +hget +hmget +hset +incr +set +sadd +smembers +pexpire";
    let mut options = vec!["--user"];
    options.extend(rights.split(' '));
    options.extend(["--user", "default", "off"]);
    let _server = start(&program, &store.0, port, &options);
    let mut servers = Servers::new(redis, &[port]);
    servers.refused("nobody else", denied);
    servers.credentials = Some(Credentials::of("edge:secret"));
    servers.insist(&mut *servers.engine(1), &Call::List);
    conforms(&servers);
}

#[test]
fn a_write_whose_answer_does_not_come_may_have_been_carried_out() {
    let Some(program) = program("redis-server") else {
        return;
    };
    let (store, [port]) = (Directory::new(), ports());
    let server = start(&program, &store.0, port, &[]);
    let servers = Servers::new(redis, &[port]);
    let mut engine = servers.engine(1);
    servers.insist(&mut *engine, &Call::List);
    server.signal(Signal::STOP);
    let late = servers.ask(&mut *engine, write(1, 0, b"late"));
    assert_eq!(late, Err(EngineError::Late));
    server.signal(Signal::CONT);
    // It was in the socket of the server.
    let end = servers.clock.now() + PATIENCE;
    loop {
        let read = servers.insist(&mut *engine, &Call::Read { home: 1 });
        if matches!(&read, Reply::Read(Some(entry)) if entry.value == b"late") {
            break;
        }
        assert!(servers.clock.now() < end, "{read:?}");
    }
    let again = servers.ask(&mut *engine, write(1, 0, b"again"));
    assert_eq!(again, Err(EngineError::Refused));
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
    let replica = Servers::new(redis, &ports[1..]);
    let is_replica = |error: &EngineError| error.to_string().contains("it is a replica");
    replica.refused("it takes no writes", is_replica);
    let servers = Servers::new(redis, &[ports[1], ports[0]]);
    let mut watcher = servers.engine(7);
    servers.insist(&mut *watcher, &Call::List);
    conforms(&servers);

    let held = Held::new(&servers);
    // All that it has is lost, and written again.
    order(ports[0], "FLUSHALL");
    let end = servers.clock.now() + PATIENCE;
    while servers.insist(&mut *watcher, &Call::Read { home: HOME }) == Reply::Read(None) {
        assert!(servers.clock.now() < end, "it is written again");
        let now = servers.clock.now();
        servers
            .clock
            .rest(&*watcher, now + Duration::from_millis(100));
    }
    held.is_renewed(&servers, &mut *watcher);
    let second = keeper(&servers, 2);
    // It is paused for longer than a call takes.
    first_server.signal(Signal::STOP);
    let late = servers.ask(&mut *watcher, Call::List);
    assert!(late.is_err(), "{late:?}");
    first_server.signal(Signal::CONT);
    held.is_renewed(&servers, &mut *watcher);
    // It is killed, and the replica takes its place. It may lack the last writes.
    first_server.end();
    order(ports[1], "REPLICAOF NO ONE");
    held.is_renewed(&servers, &mut *watcher);
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
    held.is_renewed(&servers, &mut *watcher);
    held.goes_to(&second);
    drop((first_server, second_server));
}
