//! The engine NATS at real servers, which the tests start and end. Where `nats-server` is not installed, they pass and say so; with
//! `VL_PROGRAMS` set, that is a failure.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use voltlane_cluster::testkit::conforms;
use voltlane_cluster::{Call, Credentials, EngineError};

use crate::support::nats;
use crate::support::real::{
    Directory, Held, Server, Servers, conforms_and_keeps_records, keeper, ports, program,
};

fn start_server(program: &Path, store: &Path, port: u16, more: &[String]) -> Server {
    let mut command = Command::new(program);
    command.args(["-js", "-a", "127.0.0.1", "-p", &port.to_string(), "-sd"]);
    Server::start(command.arg(store).args(more))
}

#[test]
fn one_server_conforms_and_keeps_records_over_its_restart() {
    let Some(program) = program("nats-server") else {
        return;
    };
    let (store, [port]) = (Directory::new(), ports());
    let servers = Servers::new(nats, &[port]);
    let started = || start_server(&program, &store.0, port, &[]);
    conforms_and_keeps_records(&servers, &mut *servers.engine(2), started);
}

#[test]
fn a_foreign_secret_is_refused_and_told() {
    let Some(program) = program("nats-server") else {
        return;
    };
    let store = Directory::new();
    let [port] = ports();
    let options = ["--user", "edge", "--pass", "right"].map(String::from);
    let _server = start_server(&program, &store.0, port, &options);
    let mut servers = Servers::new(nats, &[port]);
    servers.credentials = Some(Credentials::of("edge:right"));
    let mut engine = servers.engine(1);
    servers.insist(&mut *engine, &Call::List);
    for wrong in [None, Some("edge:wrong"), Some("a-token")] {
        servers.credentials = wrong.map(Credentials::of);
        let mut engine = servers.engine(1);
        let error = servers.ask(&mut *engine, Call::List).expect_err("refused");
        assert!(
            matches!(error, EngineError::Denied(_)),
            "{wrong:?}: {error}"
        );
        assert!(!error.to_string().contains("wrong"), "{error}");
    }
    // Without JetStream there is nothing to keep records in.
    let [port] = ports();
    let port_text = port.to_string();
    let _plain = Server::start(Command::new(program).args(["-a", "127.0.0.1", "-p", &port_text]));
    let servers = Servers::new(nats, &[port]);
    let lacks = |error: &EngineError| error.to_string().contains("JetStream");
    servers.refused("no JetStream", lacks);
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
        start_server(&program, &stores[at].0, clients[at], &options)
    };
    let mut running = [start(0), start(1), start(2)];
    let servers = Servers::new(nats, &clients);
    let mut watcher = servers.engine(7);
    servers.insist(&mut *watcher, &Call::List);
    conforms(&servers);

    let held = Held::new(&servers);
    let second = keeper(&servers, 2);
    // One is killed, and comes back.
    running[0].end();
    held.is_renewed(&servers, &mut *watcher);
    running[0] = start(0);
    held.is_renewed(&servers, &mut *watcher);
    // One is paused.
    running[1].signal(Signal::STOP);
    held.is_renewed(&servers, &mut *watcher);
    running[1].signal(Signal::CONT);
    // All are restarted.
    for server in &mut running {
        server.end();
    }
    running = [start(0), start(1), start(2)];
    held.is_renewed(&servers, &mut *watcher);
    held.goes_to(&second);
    drop(running);
}
