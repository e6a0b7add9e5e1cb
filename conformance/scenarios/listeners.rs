//! Several listeners, each with a name and a door, and their changes while the edge runs. (SPEC 10.7)

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use conformance::others::free_address;
use conformance::shim::{Carriage, Shim as _, certificate_file};
use conformance::{Backend, Client, Directory, Edge, Frames, PATIENCE, Rig, Signal, own_host};

use super::{METRICS, rig};

thread_local! {
    /// The host of this test's listeners: nobody else is given a port of theirs once it is free.
    static HOST: Ipv4Addr = own_host();
}

/// Returns a listener on a free port.
fn listener(name: &str, more: &str) -> String {
    let address = SocketAddr::from((HOST.with(|host| *host), 0));
    format!("[[listener]]\nname = \"{name}\"\naddress = \"{address}\"\n{more}")
}

/// Returns the address at which a listener was opened last.
fn place(edge: &Edge, name: &str) -> SocketAddr {
    let own = format!("listener={name}");
    edge.expect_log(&own);
    let log = edge.log();
    let mut lines = log.lines().rev();
    let line = lines.find(|line| line.contains("listening address=") && line.ends_with(&own));
    let address = line.and_then(|line| {
        let (_, rest) = line.split_once("address=")?;
        rest.split(' ').next()?.parse().ok()
    });
    address.unwrap_or_else(|| panic!("no address of {name} in\n{log}"))
}

/// Waits until nobody listens there.
fn expect_refused(address: SocketAddr) {
    let until = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_ok() {
        assert!(Instant::now() < until, "somebody listens at {address}");
        std::thread::yield_now();
    }
}

#[test]
fn clients_come_through_every_listener_and_are_counted_by_its_name() {
    let (certificate, key) = (certificate_file("edge.pem"), certificate_file("edge.key"));
    let tls = |transport| {
        format!(
            "transport = \"{transport}\"\ncertificate_file = {certificate:?}\nkey_file = {key:?}\n"
        )
    };
    let doors = [
        (
            "web",
            Carriage::WebSocket,
            "transport = \"ws\"\n".to_owned(),
        ),
        ("secure", Carriage::Tls, tls("tls")),
        ("secure-web", Carriage::WebSocketTls, tls("wss")),
    ];
    let all: String = doors
        .iter()
        .map(|(name, _, keys)| listener(name, keys))
        .collect();
    let mut rig = rig(&format!("{METRICS}{}{all}", listener("plain", "")));
    let mut clients = vec![rig.join(), rig.join()];
    for (name, carriage, _) in &doors {
        let mut client = Client::join(carriage.shim(place(&rig.edge, name)));
        rig.round_trip(&mut client, name.as_bytes());
        clients.push(client);
    }
    for client in &mut clients {
        rig.round_trip(client, b"all together");
    }
    let metrics = rig.edge.metrics();
    for (name, count) in [("plain", 2), ("web", 1), ("secure", 1), ("secure-web", 1)] {
        let series = format!("voltlane_listener_accepts_total{{listener=\"{name}\"}}");
        assert_eq!(metrics.value(&series), count, "{name}");
    }
    drop(clients);
    rig.stop();
}

/// The rule about PROXY headers is that of one listener. The limits are those of all.
#[test]
fn headers_are_required_at_one_listener_and_limits_hold_for_all() {
    let proxied =
        "versions = [2]\nproxy_protocol = \"required\"\ntrusted_proxies = [\"127.0.0.0/8\"]\n";
    let foreign = "proxy_protocol = \"required\"\ntrusted_proxies = [\"192.0.2.0/24\"]\n";
    let forwarded = "versions = [2]\ntransport = \"ws\"\nforwarded = \"x-forwarded-for\"\ntrusted_proxies = [\"127.0.0.0/8\"]\n";
    let mut rig: Rig = rig(&format!(
        "limits.source_connections = 1\n{}{}{}{}",
        listener("plain", ""),
        listener("proxied", proxied),
        listener("foreign", foreign),
        listener("web", forwarded),
    ));
    let mut plain = rig.join();
    let address = place(&rig.edge, "proxied");
    let from = |source: &str| {
        let mut frames = Frames::connect(address);
        frames.write(format!("PROXY TCP4 {source} 203.0.113.1 1 1\r\n").as_bytes());
        frames
    };
    let mut first = Client::join_over(from("198.51.100.1"));
    from("198.51.100.1").expect_closed();
    let web = place(&rig.edge, "web");
    let (begins, _) = super::doors::forwarded(web, "198.51.100.1");
    assert!(!begins, "one from each source, by whatever way");
    let (begins, _kept) = super::doors::forwarded(web, "198.51.100.2");
    assert!(begins);
    from("198.51.100.2").expect_closed();
    Frames::connect(place(&rig.edge, "foreign")).expect_closed();
    // Its proxy must be trusted, too.
    rig.round_trip(&mut plain, b"no header");
    rig.round_trip(&mut first, b"behind a header");
    rig.stop();
}

struct Reloaded {
    directory: Directory,
    edge: Edge,
}

impl Reloaded {
    fn reload(&mut self, config: &str, says: &str) -> String {
        self.directory.write("connserver.toml", config);
        self.edge.signal(Signal::HUP);
        self.edge.next_log(says)
    }
}

const TAKEN: &str = "was read again and is in effect";

#[test]
fn listeners_come_go_and_move_and_no_client_of_them_is_dropped() {
    let (directory, backend) = (Directory::new(), Backend::bind());
    let socket = directory.path().join("admin.sock");
    let admin = format!("[admin]\naddress = \"unix:{}\"\n", socket.display());
    let start = format!("{admin}{}{}", listener("stays", ""), listener("goes", ""));
    let edge = Edge::start_in(super::PROGRAM, &directory, backend.address(), &start);
    let mut link = backend.accept();
    let mut world = Reloaded { directory, edge };
    let goes = place(&world.edge, "goes");
    let mut clients = vec![Client::join(world.edge.address()), Client::join(goes)];
    let stays = format!("{admin}{}", listener("stays", ""));
    let web = listener("comes", "transport = \"ws\"\n");
    let line = world.reload(&format!("{stays}{web}"), TAKEN);
    assert!(line.contains("listener[comes], listener[goes]"), "{line}");
    expect_refused(goes);
    let comes = place(&world.edge, "comes");
    clients.push(Client::join(Carriage::WebSocket.shim(comes)));
    clients.push(Client::join(world.edge.address()));
    // To another address, and through another door.
    let moved = free_address();
    let plain = format!("[[listener]]\nname = \"comes\"\naddress = \"{moved}\"\n");
    let line = world.reload(&format!("{stays}{plain}"), TAKEN);
    assert!(line.contains("listener[comes].address"), "{line}");
    expect_refused(comes);
    clients.push(Client::join(moved));
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(&[number as u8]);
        link.expect_data(client.id(), &[number as u8]);
        link.send(client.id(), b"and down");
        client.expect(b"and down");
    }
    let command = ["ctl", "sessions", "--json"];
    let output = super::PROGRAM.command(&world.directory, &command).output();
    let text = String::from_utf8(output.expect("it runs").stdout).expect("text");
    for (name, sessions) in [("stays", 2), ("goes", 1), ("comes", 2)] {
        let of = format!("\"listener\":\"{name}\"");
        assert_eq!(text.matches(&of).count(), sessions, "{name}: {text}");
    }
}

#[test]
fn listeners_in_another_order_are_the_ones_that_they_were() {
    let (directory, backend) = (Directory::new(), Backend::bind());
    let start = format!("{}{}", listener("a", ""), listener("b", ""));
    directory.write("connserver.toml", &start);
    // Without an address on the command line, which is that of the first.
    let master = backend.address().to_string();
    let edge = Edge::spawn(super::PROGRAM.command(&directory, &["--master", &master]));
    let _link = backend.accept();
    let mut world = Reloaded { directory, edge };
    let (a, b) = (place(&world.edge, "a"), place(&world.edge, "b"));
    let reversed = format!("{}{}", listener("b", ""), listener("a", ""));
    world.reload(&reversed, "nothing in effect changes");
    let line = world.reload(&listener("b", "path = \"/b\"\n"), TAKEN);
    assert!(line.contains("listener[b].path, listener[a]"), "{line}");
    expect_refused(a);
    drop(Client::join(b));
}

#[test]
fn a_listener_that_cannot_be_opened_is_left_out_and_the_others_change() {
    let (directory, backend) = (Directory::new(), Backend::bind());
    let start = format!("{}{}", listener("a", ""), listener("b", ""));
    let edge = Edge::start_in(super::PROGRAM, &directory, backend.address(), &start);
    let _link = backend.accept();
    let mut world = Reloaded { directory, edge };
    let b = place(&world.edge, "b");
    let taken = TcpListener::bind((own_host(), 0)).expect("a free port");
    let address = taken.local_addr().expect("it is bound");
    let at_taken =
        |name: &str| format!("[[listener]]\nname = \"{name}\"\naddress = \"{address}\"\n");
    let without = "transport = \"tls\"\ncertificate_file = \"none.pem\"\nkey_file = \"none.key\"\n";
    let config = format!(
        "{}{}{}{}{}",
        listener("a", "path = \"/a\"\n"),
        at_taken("b"),
        listener("c", without),
        listener("d", ""),
        "",
    );
    let line = world.reload(&config, TAKEN);
    assert!(line.contains("listener[a].path, listener[d]"), "{line}");
    let log = world.edge.log();
    assert!(
        log.contains(&format!("cannot listen on {address}")),
        "{log}"
    );
    assert!(log.contains("none.pem cannot be read"), "{log}");
    drop(Client::join(b));
    drop(Client::join(place(&world.edge, "d")));
    drop(Client::join(world.edge.address()));
    // Nothing of it would be left.
    world.reload(&listener("c", without), "a new listener is left out");
    world.edge.next_log("nothing in effect changes");
    drop(Client::join(b));
}

#[test]
fn an_edge_checks_all_of_its_listeners_before_it_serves() {
    let directory = Directory::new();
    let taken = TcpListener::bind((own_host(), 0)).expect("a free port");
    let address = taken.local_addr().expect("it is bound");
    let second = format!("[[listener]]\nname = \"b\"\naddress = \"{address}\"\n");
    directory.write("connserver.toml", format!("{}{second}", listener("a", "")));
    let finished = super::PROGRAM.run(&directory, &[]);
    assert_eq!(finished.code, Some(1));
    let says = format!("cannot listen on {address}: ");
    assert!(finished.stderr.contains(&says), "{}", finished.stderr);
    let shown = super::PROGRAM.run(&directory, &["check"]);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    let own = shown.stdout.lines().filter(|line| *line == "[[listener]]");
    assert_eq!(own.count(), 2, "{}", shown.stdout);
    // What it shows is a configuration again, and the same one.
    directory.write("shown.toml", &shown.stdout);
    let again = super::PROGRAM.run(&directory, &["check", "--config", "shown.toml"]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
}

/// The limits of one listener hold there alone, over a reload that raises them and one that moves the listener, whose clients stay.
#[test]
fn a_listener_has_limits_of_its_own() {
    let (directory, backend) = (Directory::new(), Backend::bind());
    let config = |own: String, most: u32| {
        let other = listener("other", "");
        format!("{METRICS}{other}{own}max_connections = {most}\n")
    };
    let anywhere = || listener("own", "");
    let start = config(anywhere(), 1);
    let edge = Edge::start_in(super::PROGRAM, &directory, backend.address(), &start);
    let mut world = Reloaded { directory, edge };
    let mut link = backend.accept();
    let own = place(&world.edge, "own");
    let rejects = "voltlane_rejects_total{reason=\"listener_too_many\"}";
    let turned_away = |edge: &Edge, address| {
        Frames::connect(address).expect_closed();
        edge.metrics().value(rejects)
    };
    let mut first = Client::join(own);
    assert_eq!(turned_away(&world.edge, own), 1);
    let _others = [(); 3].map(|()| Client::join(world.edge.address()));
    let line = world.reload(&config(anywhere(), 2), TAKEN);
    assert!(line.contains("listener[own].max_connections"), "{line}");
    let second = Client::join(own);
    assert_eq!(turned_away(&world.edge, own), 2);
    let moved = free_address();
    let there = format!("[[listener]]\nname = \"own\"\naddress = \"{moved}\"\n");
    world.reload(&config(there, 2), TAKEN);
    assert_eq!(turned_away(&world.edge, moved), 3);
    first.send(b"still here");
    link.expect_data(first.id(), b"still here");
    // A client sees the end a little before its place is free.
    second.leave();
    let until = Instant::now() + PATIENCE;
    while super::abuse::is_taken(moved).is_none() {
        assert!(Instant::now() < until, "no place comes back");
    }
}
