//! Clients within TLS and in WebSocket messages, through libraries of others. (SPEC 16)

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use conformance::handshake::encoded;
use conformance::libraries::{BOTH, EchoBackend, client_over, options, run_on, steady_packet};
use conformance::published::{Heard, PublishedBackend, PublishedClient};
use conformance::shim::{Carriage, Shim as _, certificate_file, tls};
use conformance::{
    Backend, Client, Directory, Edge, PATIENCE, Runtime, Signal, Smol, Tokio, bytes_of, websocket,
};
use voltlane_core::v2::packets::Handshake;
use voltlane_doors::DoorConnector;
use voltlane_doors::tls::{ClientSettings, ClientTls, Roots};

use super::{HEALING, rig};

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).expect("somebody listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a bound");
    socket
}

/// Sends bytes and returns everything that the edge answers, up to its end.
fn answer(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut socket = connect(address);
    socket.write_all(bytes).expect("it takes them");
    let mut said = Vec::new();
    socket.read_to_end(&mut said).expect("an end in order");
    said
}

#[test]
fn a_client_joins_and_comes_back_through_every_door() {
    for carriage in Carriage::ALL {
        let mut rig = rig(&format!("{}{HEALING}", carriage.config()));
        let door = carriage.shim(rig.address());
        let mut client = Client::join(door);
        for (seed, length) in (0..).zip([0, 1, 125, 126, 16_380, 16_384, 70_000, 1 << 20]) {
            rig.round_trip(&mut client, &bytes_of(seed, length));
        }
        let session = client.leave();
        rig.link.send(session.id, b"missed");
        let mut client = session.resume(door);
        rig.link.expect_resumed(client.id());
        client.expect(b"missed");
        rig.round_trip(&mut client, b"back");
        let mut other = Client::join(door);
        rig.round_trip(&mut other, b"another");
        rig.stop();
    }
}

#[test]
fn published_clients_work_through_every_door() {
    for carriage in Carriage::ALL {
        let backend = PublishedBackend::start();
        let edge = Edge::start(super::PROGRAM, backend.address(), &carriage.config());
        let mut client = PublishedClient::join(carriage.shim(edge.address()));
        for (seed, size) in (0..).zip([1, 300, 100_000]) {
            let data = bytes_of(seed, size);
            client.send(&data);
            backend.expect(Heard::Data(client.id(), data.clone()));
            client.expect(&data);
        }
    }
}

/// Our own connector on a runtime, which shares no line with the shim above.
fn our_client_works_through_every_door<R: Runtime>() {
    for (carriage, versions) in Carriage::ALL
        .into_iter()
        .flat_map(|door| BOTH.map(|of| (door, of)))
    {
        let backend = EchoBackend::start::<R>();
        let edge = Edge::start(super::PROGRAM, backend.address(), &carriage.config());
        let inner = R::connector(edge.address().to_string(), Default::default());
        let mut connector = DoorConnector::new(inner);
        if carriage != Carriage::WebSocket {
            let roots = Roots::File(certificate_file("authority.pem"));
            let tls = ClientTls::load(&ClientSettings::new("edge.example.com", roots));
            connector = connector.with_tls(tls.expect("the tests' authority"));
        }
        if carriage != Carriage::Tls {
            let with = connector.with_websocket("edge.example.com", "/");
            connector = with.expect("a host and a path");
        }
        run_on::<R, _>(async move {
            let mut client = client_over::<R>(connector, options(versions));
            for (seed, length) in (0..).zip([1, 0, 300, 16_380, 16_384, 200_000, 1 << 20]) {
                let data = bytes_of(seed, length);
                client.send(&data).await.expect("it is queued");
                assert!(
                    steady_packet(&mut client).await == data,
                    "{carriage:?} {length}"
                );
            }
        });
    }
}

#[test]
fn our_client_works_through_every_door_on_tokio() {
    our_client_works_through_every_door::<Tokio>();
}

#[test]
fn our_client_works_through_every_door_on_smol() {
    our_client_works_through_every_door::<Smol>();
}

#[test]
fn strangers_at_every_door_are_answered_and_disturb_nobody() {
    let frames = [0, 0, 0, 5, 0, 0, 0, 0, 2];
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: edge\r\n\r\n").into_bytes();
    let rows: &[(Carriage, Vec<u8>, &[u8])] = &[
        (Carriage::Tls, get("/"), &[21, 3]),
        (Carriage::Tls, frames.to_vec(), &[21, 3]),
        (Carriage::WebSocketTls, get("/healthz"), &[21, 3]),
        (Carriage::WebSocket, get("/healthz"), b"HTTP/1.1 200 OK\r\n"),
        (Carriage::WebSocket, get("/other"), b"HTTP/1.1 404 "),
        (Carriage::WebSocket, get("/"), b"HTTP/1.1 426 "),
        (Carriage::WebSocket, frames.to_vec(), b"HTTP/1.1 400 "),
        (Carriage::WebSocket, b"\x16\x03\x01\0\xc8".to_vec(), b""),
        (Carriage::WebSocket, vec![b'G'; 5_000], b"HTTP/1.1 431 "),
    ];
    for carriage in Carriage::ALL {
        let mut rig = rig(&carriage.config());
        let mut client = Client::join(carriage.shim(rig.address()));
        rig.round_trip(&mut client, b"before");
        for (_, sent, says) in rows.iter().filter(|row| row.0 == carriage) {
            let said = answer(rig.address(), sent);
            let begins = &said[..says.len().min(said.len())];
            assert_eq!(begins, *says, "{carriage:?}");
            assert_eq!(says.is_empty(), said.is_empty());
        }
        rig.round_trip(&mut client, b"after");
        rig.stop();
    }
}

/// The limits hold for the address that a trusted proxy names, and the first one it names is the client's own word.
#[test]
fn limits_hold_for_the_address_that_a_request_is_forwarded_for() {
    let rig = rig(&format!(
        "{}{FORWARDED}listener.trusted_proxies = [\"127.0.0.0/8\"]\nlimits.source_connections = 1\nlistener.versions = [2]\n",
        Carriage::WebSocket.config()
    ));
    let forwarded = |source: &str| forwarded(rig.edge.address(), source);
    let (first, _kept) = forwarded("203.0.113.9, 198.51.100.1");
    assert!(first);
    let (second, _) = forwarded("198.51.100.1");
    assert!(!second, "one from each source");
    let (other, _kept) = forwarded("198.51.100.2");
    assert!(other);
}

const FORWARDED: &str = "listener.forwarded = \"x-forwarded-for\"\n";

/// Opens a WebSocket through a proxy that says that the request came from `source`. Returns whether the client link begins, and the
/// connection.
pub(super) fn forwarded(edge: SocketAddr, source: &str) -> (bool, TcpStream) {
    let mut socket = websocket::open(edge, &format!("X-Forwarded-For: {source}\r\n"));
    let version = encoded(Handshake::ProtocolVersion(2));
    let _ = socket.write_all(&websocket::frame(websocket::BINARY, &version));
    // The header of a message with the edge's key, or else of a CLOSE.
    let mut byte = [0];
    let begins = matches!(socket.read(&mut byte), Ok(1)) && byte[0] == websocket::BINARY;
    (begins, socket)
}

/// Writes a configuration, and waits until it is in effect.
fn reload(edge: &mut Edge, directory: &Directory, config: &str) -> String {
    directory.write("connserver.toml", config);
    edge.signal(Signal::HUP);
    edge.next_log("was read again and is in effect")
}

/// Everything that a request is judged by can change, for new connections.
#[test]
fn the_rules_for_requests_are_read_again_on_sighup() {
    let (directory, backend) = (Directory::new(), Backend::bind());
    let config = |more: &str| {
        format!(
            "{}{FORWARDED}limits.source_connections = 1\nlistener.versions = [2]\n{more}",
            Carriage::WebSocket.config()
        )
    };
    let elsewhere = config("listener.trusted_proxies = [\"192.0.2.0/24\"]\n");
    let mut edge = Edge::start_in(super::PROGRAM, &directory, backend.address(), &elsewhere);
    let mut link = backend.accept();
    let mut client = Client::join(Carriage::WebSocket.shim(edge.address()));
    // All are one source, which is exempt.
    let kept: Vec<_> = (0..3)
        .map(|_| forwarded(edge.address(), "198.51.100.1"))
        .collect();
    assert!(kept.iter().all(|(begins, _)| *begins));
    let here = "listener.trusted_proxies = [\"127.0.0.0/8\"]\n";
    let line = reload(&mut edge, &directory, &config(here));
    assert!(line.contains("listener.trusted_proxies"), "{line}");
    let paths = format!("{here}listener.path = \"/play\"\nlistener.health_path = \"/up\"\n");
    reload(&mut edge, &directory, &config(&paths));
    let address = edge.address();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: edge\r\n\r\n").into_bytes();
    assert!(answer(address, &get("/healthz")).starts_with(b"HTTP/1.1 404 "));
    assert!(answer(address, &get("/up")).starts_with(b"HTTP/1.1 200 "));
    reload(&mut edge, &directory, &config(here));
    let (first, _kept) = forwarded(address, "198.51.100.1");
    let (second, _) = forwarded(address, "198.51.100.1");
    assert!(first && !second, "one from each source");
    client.send(b"still here");
    link.expect_data(client.id(), b"still here");
}

/// A certificate that was renewed is shown to new clients, one that is wrong is not, and nobody is dropped.
#[test]
fn certificates_are_read_again_on_sighup() {
    let (directory, backend) = (Directory::new(), Backend::bind());
    let put = |name: &str, from: &str| {
        let content = std::fs::read(certificate_file(from)).expect("it is there");
        directory.write(name, content);
    };
    put("own.pem", "edge.pem");
    put("own.key", "edge.key");
    let config = "listener.transport = \"tls\"\nlistener.certificate_file = \"own.pem\"\nlistener.key_file = \"own.key\"\n";
    let mut edge = Edge::start_in(super::PROGRAM, &directory, backend.address(), config);
    let mut link = backend.accept();
    let address = edge.address();
    let mut client = Client::join(Carriage::Tls.shim(address));
    let is_for = |name: &str| tls(connect(address), name).is_ok();
    assert!(is_for("edge.example.com") && !is_for("a.wild.example"));
    // The key has not arrived yet.
    put("own.pem", "wild.pem");
    directory.write(
        "connserver.toml",
        format!("{config}listener.tickets = false\nclients.idle_timeout_secs = 99\n"),
    );
    edge.signal(Signal::HUP);
    let line = edge.next_log("the certificates in effect stay");
    assert!(line.contains("listener.tickets"), "{line}");
    assert!(
        line.contains("is not that of the first certificate in own.pem"),
        "{line}"
    );
    let line = edge.next_log("was read again and is in effect");
    assert!(line.contains("clients.idle_timeout_secs"), "{line}");
    assert!(!line.contains("listener.tickets"), "{line}");
    assert!(is_for("edge.example.com") && !is_for("a.wild.example"));
    put("own.key", "wild.key");
    edge.signal(Signal::HUP);
    edge.next_log("the certificates were read again");
    assert!(!is_for("edge.example.com") && is_for("a.wild.example"));
    client.send(b"still here");
    link.expect_data(client.id(), b"still here");
}

/// Nobody signals anything: the files are looked at.
#[test]
fn certificates_that_change_are_read_again_without_a_signal() {
    let (directory, backend) = (Directory::new(), Backend::bind());
    let put = |name: &str, from: &str| {
        let content = std::fs::read(certificate_file(from)).expect("it is there");
        directory.write(name, content);
    };
    put("own.pem", "edge.pem");
    put("own.key", "edge.key");
    let config = "general.watch_secs = 1\nlistener.transport = \"tls\"\nlistener.certificate_file = \"own.pem\"\n\
                  listener.key_file = \"own.key\"\nmetrics.address = \"127.0.0.1:0\"\n";
    let mut edge = Edge::start_in(super::PROGRAM, &directory, backend.address(), config);
    let mut link = backend.accept();
    let address = edge.address();
    let mut client = Client::join(Carriage::Tls.shim(address));
    let is_for = |name: &str| tls(connect(address), name).is_ok();
    let expiry = "voltlane_certificate_expiry_timestamp_seconds{listener=\"main\"}";
    let first = edge.metrics().value(expiry);
    assert!(first > 1_700_000_000);
    put("own.pem", "expired.pem");
    let line = edge.next_log("the certificates in effect stay");
    assert!(line.contains("WARN"), "{line}");
    assert!(is_for("edge.example.com"));
    put("own.pem", "wild.pem");
    put("own.key", "wild.key");
    edge.next_log("the certificates were read again");
    assert!(!is_for("edge.example.com") && is_for("a.wild.example"));
    client.send(b"still here");
    link.expect_data(client.id(), b"still here");
    // One that has expired.
    put("own.pem", "expired.pem");
    put("own.key", "expired.key");
    edge.next_log("the certificate expired");
    edge.next_log("the certificates were read again");
    let until = std::time::Instant::now() + PATIENCE;
    while edge.metrics().value(expiry) >= first {
        assert!(std::time::Instant::now() < until, "the metric stays");
    }
}

/// Each name has its certificate, and what is shown for another name is told by the configuration. All are renewed alike.
#[test]
fn certificates_are_chosen_by_name_and_renewed() {
    let (directory, backend) = (Directory::new(), Backend::bind());
    let put = |name: &str, from: &str| {
        let content = std::fs::read(certificate_file(from)).expect("it is there");
        directory.write(name, content);
    };
    for name in ["edge", "wild", "rsa"] {
        put(&format!("{name}.pem"), &format!("{name}.pem"));
        put(&format!("{name}.key"), &format!("{name}.key"));
    }
    let config = |sni: &str, more: &str| {
        format!(
            "general.watch_secs = 1\nlistener.transport = \"tls\"\nlistener.sni = \"{sni}\"\n\
             listener.certificate_file = \"edge.pem\"\nlistener.key_file = \"edge.key\"\n\
             listener.certificate = [{{ file = \"wild.pem\", key = \"wild.key\" }}{more}]\n"
        )
    };
    let first = config("first", "");
    let mut edge = Edge::start_in(super::PROGRAM, &directory, backend.address(), &first);
    let mut link = backend.accept();
    let address = edge.address();
    let mut client = Client::join(Carriage::Tls.shim(address));
    let error = |name: &str| {
        tls(connect(address), name)
            .err()
            .map(|error| error.to_string())
    };
    for name in ["edge.example.com", "a.wild.example"] {
        assert_eq!(error(name), None, "{name}");
    }
    // The first one is shown, and the client does not take it.
    let refused = error("rsa.example").expect("another certificate");
    assert!(refused.contains("not valid for name"), "{refused}");
    // Another one joins them, and names that none is for are refused.
    let rsa = ", { file = \"rsa.pem\", key = \"rsa.key\" }";
    let line = reload(&mut edge, &directory, &config("strict", rsa));
    assert!(line.contains("listener.certificate"), "{line}");
    assert!(line.contains("listener.sni"), "{line}");
    assert_eq!(error("rsa.example"), None);
    let refused = error("other.example").expect("no certificate");
    assert!(refused.contains("UnrecognisedName"), "{refused}");
    // The watch looks at the files of all.
    put("wild.pem", "edge.pem");
    put("wild.key", "edge.key");
    edge.next_log("the certificates were read again");
    assert!(
        error("a.wild.example")
            .expect("it is gone")
            .contains("alert")
    );
    client.send(b"still here");
    link.expect_data(client.id(), b"still here");
}

#[test]
fn an_edge_without_its_certificate_does_not_start_and_says_why() {
    let directory = Directory::new();
    let config = "[listener]\ntransport = \"tls\"\ncertificate_file = \"none.pem\"\nkey_file = \"none.key\"\n";
    directory.write("connserver.toml", config);
    let finished = super::PROGRAM.run(&directory, &["--listen", "127.0.0.1:0"]);
    assert_eq!(finished.code, Some(1));
    let says = "none.pem cannot be read: No such file";
    assert!(finished.stderr.contains(says), "{}", finished.stderr);
}
