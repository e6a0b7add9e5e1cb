//! An edge with several backends, each with its own sessions (SPEC 45).

use std::net::SocketAddr;
use std::thread;
use std::time::Instant;

use conformance::metrics::get;
use conformance::{Backend, Client, Directory, Edge, Link, PATIENCE, Signal};
use voltlane_core::link::tagged::Flag;

use super::{METRICS, PROGRAM};

/// Starts an edge in front of these backends.
fn edge(backends: &[SocketAddr], config: &str) -> Edge {
    Edge::start_with_backends(PROGRAM, backends, config)
}

/// Two backends and their links, with an edge of this many shards.
fn two(shards: u8, config: &str) -> (Edge, [(Backend, Link); 2]) {
    let backends = [(); 2].map(|()| Backend::bind());
    let addresses = backends.each_ref().map(Backend::address);
    let edge = edge(
        &addresses,
        &format!("{METRICS}general.shards = {shards}\n{config}"),
    );
    let backends = backends.map(|backend| {
        let link = backend.accept();
        (backend, link)
    });
    let until = Instant::now() + PATIENCE;
    let is_up = |at: usize| format!("voltlane_backend_up{{backend=\"{at}\"}}");
    while !(0..2).all(|at| edge.metrics().value(&is_up(at)) == 1) {
        assert!(Instant::now() < until, "{}", edge.log());
        thread::yield_now();
    }
    (edge, backends)
}

/// Returns the backend of a client, by the shard in its id.
fn pin(client: &Client, shards: u8) -> usize {
    usize::from(client.id().shard().as_u8() / (shards / 2))
}

fn round_trip(link: &mut Link, client: &mut Client, data: &[u8]) {
    client.send(data);
    link.expect_data(client.id(), data);
    link.send(client.id(), data);
    client.expect(data);
}

#[test]
fn each_session_has_one_backend_and_no_other_one_reaches_it() {
    for shards in [2, 4] {
        let (edge, mut backends) = two(shards, "");
        // One after the other, so each goes where fewer are.
        let mut clients: Vec<Client> = Vec::new();
        for _ in 0..8 {
            let mut client = Client::join(edge.address());
            let (_, link) = &mut backends[pin(&client, shards)];
            round_trip(link, &mut client, b"hello");
            clients.push(client);
        }
        let of_first = clients.iter().filter(|one| pin(one, shards) == 0).count();
        assert_eq!(of_first, 4, "of 8, with {shards} shards");
        for client in &mut clients {
            let own = pin(client, shards);
            let (_, other) = &mut backends[1 - own];
            other.send(client.id(), b"not yours");
            other.expect(client.id(), Flag::Failure, b"unknown client");
            other.kick(client.id());
            other.expect(client.id(), Flag::Failure, b"unknown client");
            round_trip(&mut backends[own].1, client, b"mine");
        }
        // They come back to it.
        for client in clients {
            let own = pin(&client, shards);
            let session = client.leave();
            let mut client = session.resume(edge.address());
            backends[own].1.expect_resumed(client.id());
            round_trip(&mut backends[own].1, &mut client, b"back");
        }
        edge.signal(Signal::TERM);
        drop(backends);
        edge.expect_end(Some(0));
    }
}

#[test]
fn a_backend_that_dies_keeps_its_sessions_and_those_of_the_other_notice_nothing() {
    let (edge, [(first, mut link), (second, mut other)]) = two(2, "");
    let mut clients: Vec<Client> = (0..2).map(|_| Client::join(edge.address())).collect();
    clients.sort_by_key(|client| pin(client, 2));
    let [mut stays, mut waits] = <[Client; 2]>::try_from(clients).expect("two");
    round_trip(&mut link, &mut stays, b"a");
    round_trip(&mut other, &mut waits, b"b");
    let address = second.address();
    drop((second, other));
    edge.expect_log("the backend is gone");
    let line = edge.expect_log("the backend cannot be reached");
    assert!(
        line.contains(&format!("backend{{address={address}}}")),
        "{line}"
    );
    assert_eq!(get(edge.metrics_address(), "/readyz").0, 200);
    // Newcomers go to the other one, and who waits may go and come back.
    for _ in 0..4 {
        let mut newcomer = Client::join(edge.address());
        assert_eq!(pin(&newcomer, 2), 0);
        round_trip(&mut link, &mut newcomer, b"new");
    }
    waits.send(b"while it is away");
    let mut waits = waits.leave().resume(edge.address());
    waits.send(b"and then");
    round_trip(&mut link, &mut stays, b"still there");
    let second = Backend::bind_to(address);
    let mut other = second.accept();
    other.expect_data(waits.id(), b"while it is away");
    other.expect_resumed(waits.id());
    other.expect_data(waits.id(), b"and then");
    round_trip(&mut other, &mut waits, b"again");
    // With none the edge is not ready.
    let address = edge.metrics_address();
    drop((first, link, second, other));
    let began = Instant::now();
    while get(address, "/readyz").0 != 503 {
        assert!(began.elapsed() < PATIENCE, "it has no backend");
        thread::yield_now();
    }
    edge.stop();
}

#[test]
fn an_operator_drains_a_backend_and_sees_each() {
    let folder = Directory::new();
    let socket = folder.path().join("admin.sock");
    let admin = format!("admin.address = \"unix:{}\"\n", socket.display());
    folder.write("connserver.toml", &admin);
    let (edge, [(_first, link), (second, mut other)]) = two(2, &admin);
    let mut stays = Client::join(edge.address());
    if pin(&stays, 2) == 0 {
        stays = Client::join(edge.address());
    }
    assert_eq!(pin(&stays, 2), 1);
    let ctl = |call: &str| {
        let call: Vec<&str> = call.split_whitespace().collect();
        let output = PROGRAM.command(&folder, &call).output().expect("it runs");
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.success(), said.into_owned())
    };
    assert!(ctl("ctl drain --backend 1").0);
    let newcomers: Vec<Client> = (0..4).map(|_| Client::join(edge.address())).collect();
    assert!(newcomers.iter().all(|one| pin(one, 2) == 0));
    round_trip(&mut other, &mut stays, b"still there");
    let metrics = edge.metrics();
    let of = |name: &str| {
        [0, 1].map(|at| metrics.value(&format!("voltlane_backend_{name}{{backend=\"{at}\"}}")))
    };
    assert_eq!(of("up"), [1, 1]);
    assert_eq!(of("draining"), [0, 1]);
    let sessions = of("sessions");
    assert!(sessions[0] >= 4 && sessions[1] >= 1, "{sessions:?}");
    let (_, said) = ctl("ctl status");
    let line = format!("backend 1 at {}: up, draining", second.address());
    assert!(said.contains(&line), "{said}");
    assert!(ctl("ctl drain --backend 1 --undo").0);
    assert!(!ctl("ctl drain --backend 2").0, "there is none");
    let next = Client::join(edge.address());
    assert_eq!(pin(&next, 2), 1, "it has the fewest");
    drop((newcomers, next));
    drop((link, other));
    edge.stop();
}

#[test]
fn a_backend_that_does_not_read_stops_its_own_clients_alone() {
    let (edge, [(_first, mut link), (_second, mut other)]) =
        two(2, "master.channel_bytes = 65536\n");
    let mut clients: Vec<Client> = (0..2).map(|_| Client::join(edge.address())).collect();
    clients.sort_by_key(|client| pin(client, 2));
    let [mut stays, mut floods] = <[Client; 2]>::try_from(clients).expect("two");
    let id = floods.id();
    // More than what the system takes for both connections.
    const PACKETS: usize = 1_024;
    let flood = thread::spawn(move || {
        for _ in 0..PACKETS {
            floods.send(&[7; 64 * 1024]);
        }
        floods
    });
    let began = Instant::now();
    while edge.metrics().value("voltlane_clients_waiting") == 0 {
        assert!(began.elapsed() < PATIENCE, "it waits for room");
        thread::yield_now();
    }
    for _ in 0..100 {
        round_trip(&mut link, &mut stays, b"nothing happened");
    }
    let newcomers: Vec<Client> = (0..4).map(|_| Client::join(edge.address())).collect();
    assert!(newcomers.iter().all(|one| pin(one, 2) == 0));
    for _ in 0..PACKETS {
        other.expect_data(id, &[7; 64 * 1024]);
    }
    let mut floods = flood.join().expect("it is done");
    round_trip(&mut other, &mut floods, b"all");
    drop((newcomers, link, other));
    edge.stop();
}

/// Real backends, each a process: one is stopped, one is killed.
#[test]
fn of_three_processes_one_stops_and_one_dies_and_the_clients_of_the_third_go_on() {
    let backend = |address: &str| {
        let directory = Directory::new();
        Edge::spawn(PROGRAM.command(&directory, &["echo", "--listen", address]))
    };
    let [steady, stopped, killed] = [(); 3].map(|()| backend("127.0.0.1:0"));
    let addresses = [&steady, &stopped, &killed].map(Edge::address);
    let edge = edge(&addresses, METRICS);
    for address in addresses {
        let started = |line: &str| {
            line.contains("the backend is there") && line.contains(&address.to_string())
        };
        assert!(edge.first_line(started).is_some(), "{address}");
    }
    let mut clients: Vec<Client> = (0..6).map(|_| Client::join(edge.address())).collect();
    let pin = |client: &Client| client.id().shard().as_u8();
    clients.sort_by_key(pin);
    let pins: Vec<u8> = clients.iter().map(pin).collect();
    assert_eq!(pins, [0, 0, 1, 1, 2, 2]);
    let say = |client: &mut Client, data: &[u8]| {
        client.send(data);
        client.expect(data);
    };
    clients.iter_mut().for_each(|client| say(client, b"hello"));
    stopped.suspend();
    killed.signal(Signal::KILL);
    killed.expect_end(None);
    for round in 0..100u8 {
        clients[..2]
            .iter_mut()
            .for_each(|client| say(client, &[round]));
    }
    for client in &mut clients[2..] {
        client.send(b"waits");
    }
    // They are answered when their backends are back.
    stopped.signal(Signal::CONT);
    let again = backend(&addresses[2].to_string());
    for client in &mut clients[2..] {
        client.expect(b"waits");
        say(client, b"again");
    }
    drop(clients);
    edge.stop();
    for backend in [steady, stopped, again] {
        backend.signal(Signal::TERM);
        backend.expect_end(Some(0));
    }
}

#[test]
fn one_address_beside_several_is_told_at_the_start() {
    let directory = Directory::new();
    let addresses = "master.addresses = [\"10.0.0.1:9\", \"10.0.0.2:9\"]\n";
    let config = format!("{addresses}master.address = \"10.0.0.1:1\"\n");
    directory.write("connserver.toml", &config);
    let output = PROGRAM
        .command(&directory, &["check"])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = said + &String::from_utf8_lossy(&output.stdout);
    assert!(
        !output.status.success() && said.contains("both set"),
        "{said}"
    );
}
