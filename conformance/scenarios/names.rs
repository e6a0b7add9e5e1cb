//! Names with several addresses for a program to listen at.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};

use conformance::{Backend, Client, Directory, Edge, Process, Signal, metrics};

use super::operation::with_hosts;

/// Two addresses that every machine has, and one that no machine has (RFC 5737).
const HOSTS: &str = "127.0.0.1 edge.test\n127.0.0.2 edge.test\n192.0.2.1 edge.test\n";
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)];

/// Returns the command of a program that resolves [`HOSTS`], or `None` if the system does not permit such a view.
fn with_names(directory: &Directory, arguments: &[&str]) -> Option<std::process::Command> {
    directory.write("hosts", HOSTS);
    let command = with_hosts(directory, arguments);
    if command.is_none() {
        eprintln!("not shown: no namespaces for users here");
    }
    command
}

fn places(port: u16) -> [SocketAddr; 2] {
    ADDRESSES.map(|address| (address, port).into())
}

/// Returns the addresses that a program logged after `says`.
fn named(log: &str, says: &str) -> Vec<SocketAddr> {
    let lines = log.lines().filter_map(|line| line.split_once(says));
    let addresses = lines.filter_map(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
    addresses.collect()
}

#[test]
fn an_edge_listens_at_every_address_of_a_name_that_its_machine_has() {
    for shards in [1, 2] {
        let (backend, directory) = (Backend::bind(), Directory::new());
        let config = |more: &str| {
            let text = "metrics.address = \"edge.test:0\"\nclients.missed_packets_buffer_size = 64";
            let text = format!("general.shards = {shards}\n{text}\n{more}");
            directory.write("connserver.toml", text);
        };
        config("");
        let master = backend.address().to_string();
        let arguments = ["--listen", "edge.test:0", "--master", &master];
        let Some(command) = with_names(&directory, &arguments) else {
            return;
        };
        let edge = Edge::spawn(command);
        let mut link = backend.accept();
        let [first, second] = places(edge.address().port());
        let missing = edge.expect_log("not listening on an address of the name");
        assert!(missing.contains("address=192.0.2.1:"), "{missing}");
        for place in [first, second] {
            edge.expect_log(&format!(" listening address={place} "));
        }
        // A session is not bound to the address that its client joined at.
        let mut client = Client::join(first);
        client.send(b"one");
        link.expect_data(client.id(), b"one");
        let mut client = client.leave().resume(second);
        link.expect_resumed(client.id());
        client.send(b"two");
        link.expect_data(client.id(), b"two");
        // Another configuration keeps the listeners.
        config("clients.idle_timeout_secs = 3_600\n");
        edge.signal(Signal::HUP);
        edge.expect_log("the configuration was read again and is in effect");
        for place in [second, first] {
            let mut client = Client::join(place);
            client.send(b"three");
            link.expect_data(client.id(), b"three");
        }
        for place in named(&edge.log(), " metrics address=") {
            assert_eq!(metrics::get(place, "/healthz").0, 200, "{place}");
        }
        assert_eq!(named(&edge.log(), " metrics address=").len(), 2);
        drop((link, backend));
        edge.stop();
        for place in [first, second] {
            TcpStream::connect(place).expect_err("it has ended");
        }
    }
}

/// Clients that find the address in use would not find this edge.
#[test]
fn an_address_of_a_name_that_is_in_use_is_named_and_nothing_is_served() {
    for second in [false, true] {
        for command in ["run", "echo"] {
            // The port may be in use at the other address, which is then the one that is named: another test has it.
            let named = (0..10).find_map(|_| names_the_address_in_use(command, second));
            match named {
                Some(Named::Address) => {}
                Some(Named::Nothing) => return,
                None => panic!("ten ports were in use at the other address"),
            }
        }
    }
}

enum Named {
    Address,
    /// Names cannot be given here.
    Nothing,
}

/// Returns none if the other address of the name is in use as well.
fn names_the_address_in_use(command: &str, second: bool) -> Option<Named> {
    let place = |second: bool| ADDRESSES[usize::from(second)];
    let taken = TcpListener::bind((place(second), 0)).expect("a free port");
    let address = taken.local_addr().expect("bound");
    let name = format!("edge.test:{}", address.port());
    let directory = Directory::new();
    let Some(command) = with_names(&directory, &[command, "--listen", &name]) else {
        return Some(Named::Nothing);
    };
    let finished = Process::start(command).end();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let says = |address| {
        let text = format!("cannot listen on {name}: {address}: Address already in use");
        finished.stderr.contains(&text)
    };
    if says(SocketAddr::new(place(!second).into(), address.port())) {
        return None;
    }
    assert!(says(address), "{finished:?}");
    Some(Named::Address)
}

#[test]
fn an_echo_backend_waits_at_every_address_of_a_name() {
    let directory = Directory::new();
    let Some(command) = with_names(&directory, &["echo", "--listen", "edge.test:0"]) else {
        return;
    };
    let echo = Edge::spawn(command);
    for place in places(echo.address().port()) {
        let edge = Edge::start(super::PROGRAM, place, "");
        let mut client = Client::join(edge.address());
        client.send(b"hello");
        client.expect(b"hello");
        edge.stop();
    }
    echo.stop();
}

/// `localhost` is 127.0.0.1 and ::1 on most machines, but some have no IPv6.
#[test]
fn localhost_is_every_address_that_this_machine_has() {
    let arguments = ["--listen", "localhost:0"];
    let edge = Edge::spawn(super::PROGRAM.command(&Directory::new(), &arguments));
    let addresses = ("localhost", edge.address().port()).to_socket_addrs();
    let addresses: BTreeSet<_> = addresses.expect("every machine has one").collect();
    assert!(addresses.contains(&edge.address()));
    for address in addresses {
        match TcpListener::bind(SocketAddr::new(address.ip(), 0)) {
            Ok(_) => drop(Client::join(address)),
            Err(_) => {
                let unbound = SocketAddr::new(address.ip(), 0).to_string();
                let unbound = unbound.trim_end_matches('0');
                assert!(edge.log().contains(&format!(" address={unbound}")));
            }
        }
    }
    edge.stop();
}
