//! Abuse of TLS, of WebSocket, and of the request before it. (SPEC 16)

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use conformance::shim::{Carriage, Shim as _, certificate_file, tls, tls_as};
use conformance::websocket::{frame, open, request};
use conformance::{Client, PATIENCE, Rig};
use voltlane_core::v2::packets::Handshake;

use super::{METRICS, rig};

/// What counts offences against the rules of a door.
pub(super) const BROKEN: &str = "voltlane_closes_total{reason=\"bad_transport\"}";

pub(super) fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).expect("somebody listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a bound");
    socket
}

/// Sends what it can of `bytes`, and returns everything that the edge answers up to its end.
fn answer(mut socket: TcpStream, bytes: &[u8]) -> Vec<u8> {
    // The edge may end the connection before it has taken all.
    let _ = socket.write_all(bytes);
    let mut said = Vec::new();
    let _ = socket.read_to_end(&mut said);
    said
}

/// Waits until a counter of the edge has this value.
#[track_caller]
pub(super) fn wait_for(rig: &Rig, series: &str, value: u64) {
    let until = Instant::now() + PATIENCE;
    loop {
        let now = rig.edge.metrics().value(series);
        if now >= value {
            assert_eq!(now, value, "{series}");
            return;
        }
        assert!(Instant::now() < until, "{series} is {now}, not {value}");
        thread::yield_now();
    }
}

/// Each violation is closed with its code, counted, and disturbs nobody. (SPEC 16.4)
#[test]
fn malformed_frames_and_floods_are_closed_with_their_code() {
    let mut rig = rig(&format!(
        "{}{METRICS}listener.max_message_bytes = 100000\n",
        Carriage::WebSocket.config()
    ));
    let mut client = Client::join(Carriage::WebSocket.shim(rig.address()));
    let huge = [&[0x82, 0xff][..], &[0xff; 8], &[0; 4]].concat();
    let big = [&[0x82, 0xff][..], &100_001_u64.to_be_bytes(), &[0; 4]].concat();
    let fragments = {
        let mut bytes = frame(0x02, &[0, 0, 0]);
        bytes.extend([0x80, 0xff]);
        bytes.extend(99_998_u64.to_be_bytes());
        bytes.extend([0; 4]);
        bytes
    };
    let rows: &[(&str, Vec<u8>, u16)] = &[
        ("unmasked", vec![0x82, 1, 9], 1002),
        ("a reserved bit", frame(0xc2, b"x"), 1002),
        ("an unknown opcode", frame(0x83, b"x"), 1002),
        ("a fragmented PING", frame(0x09, b"x"), 1002),
        ("a continuation of nothing", frame(0x80, b"x"), 1002),
        (
            "a message within another",
            [frame(0x02, b"x"), frame(0x82, b"y")].concat(),
            1002,
        ),
        ("a length of 2^64 - 1", huge, 1002),
        ("a second request", request("").into_bytes(), 1002),
        ("text", frame(0x81, b"x"), 1003),
        (
            "a reason that is not UTF-8",
            frame(0x88, &[3, 0xe8, 0xff]),
            1007,
        ),
        (
            "empty frames",
            frame(0x02, b"")
                .repeat(1)
                .into_iter()
                .chain(frame(0x00, b"").repeat(256))
                .collect(),
            1008,
        ),
        ("PINGs", frame(0x89, b"").repeat(257), 1008),
        ("a message above the bound", big, 1009),
        ("the same in fragments", fragments, 1009),
    ];
    for (at, (what, bytes, code)) in rows.iter().enumerate() {
        let said = answer(open(rig.address(), ""), bytes);
        let [high, low] = code.to_be_bytes();
        assert!(said.ends_with(&[0x88, 2, high, low]), "{what}: {said:02x?}");
        wait_for(&rig, BROKEN, at as u64 + 1);
    }
    rig.round_trip(&mut client, b"undisturbed");
    // At the bounds.
    let mut socket = open(rig.address(), "");
    let fine = [
        frame(0x02, b""),
        frame(0x00, b"").repeat(255),
        frame(0x00, b"x"),
    ]
    .concat();
    socket.write_all(&fine).expect("taken");
    socket.write_all(&frame(0x89, b"p")).expect("taken");
    let mut pong = [0; 3];
    socket.read_exact(&mut pong).expect("an answer");
    assert_eq!(pong, [0x8a, 1, b'p']);
    assert_eq!(rig.edge.metrics().value(BROKEN), rows.len() as u64);
    drop((socket, client));
    rig.stop();
}

/// Requests that smuggle, and those that browsers and probes send: each has its answer, and the former alone are offences.
#[test]
fn requests_that_nobody_sends_in_good_faith_are_counted() {
    let rig = rig(&format!("{}{METRICS}", Carriage::WebSocket.config()));
    let rows: &[(String, u16, bool)] = &[
        (request("Host: other\r\n"), 400, true),
        (
            request("Content-Length: 5\r\nContent-Length: 6\r\n"),
            400,
            true,
        ),
        (request("Transfer-Encoding: chunked\r\n"), 400, true),
        (request("X: a\r\n b\r\n"), 400, true),
        (request("X: \0\r\n"), 400, true),
        (request("X: a\n"), 400, true),
        (request("Sec-WebSocket-Key: eA==\r\n"), 400, true),
        (request(&"X: y\r\n".repeat(33)), 431, true),
        (request("Origin: https://evil.example\r\n"), 403, false),
        (request("Sec-WebSocket-Protocol: mqtt\r\n"), 400, false),
        (
            "GET /other HTTP/1.1\r\nHost: edge\r\n\r\n".into(),
            404,
            false,
        ),
        ("POST / HTTP/1.1\r\nHost: edge\r\n\r\n".into(), 405, false),
        ("GET / HTTP/1.1\r\nHost: edge\r\n\r\n".into(), 426, false),
        ("GET /healthz HTTP/1.0\r\n\r\n".into(), 200, false),
    ];
    let mut offences = 0;
    for (request, status, is_offence) in rows {
        let said = answer(connect(rig.address()), request.as_bytes());
        let begins = format!("HTTP/1.1 {status} ");
        assert!(said.starts_with(begins.as_bytes()), "{request:?}: {said:?}");
        offences += u64::from(*is_offence);
        wait_for(&rig, BROKEN, offences);
    }
    rig.stop();
}

#[test]
fn what_is_not_tls_is_an_offence_and_a_clients_alert_is_none() {
    let rig = rig(&format!("{}{METRICS}", Carriage::Tls.config()));
    let long_hello = [&[0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc][..], &[0; 9_000]].concat();
    let rows: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\n\r\n",
        &[0, 0, 0, 5, 0, 0, 0, 0, 2],
        &[0x80, 0x2e, 1, 0, 2, 0, 0x15],
        &long_hello,
    ];
    for (at, bytes) in rows.iter().enumerate() {
        answer(connect(rig.address()), bytes);
        wait_for(&rig, BROKEN, at as u64 + 1);
    }
    // It does not trust the edge's certificate for this name.
    assert!(tls(connect(rig.address()), "other.example.com").is_err());
    answer(connect(rig.address()), &[21, 3, 3, 0, 2, 2, 48]);
    assert_eq!(rig.edge.metrics().value(BROKEN), rows.len() as u64);
    rig.stop();
}

/// Key exchanges beyond the rate wait, and are made in their turn.
#[test]
fn tls_handshakes_beyond_the_rate_wait() {
    let mut rig = rig(&format!(
        "{}{METRICS}limits.tls_handshake_rate = 2\nlimits.tls_handshake_burst = 1\n",
        Carriage::Tls.config()
    ));
    let door = Carriage::Tls.shim(rig.address());
    // At once, so that they meet the rate however slow the machine is.
    let joins: Vec<_> = (0..4)
        .map(|_| thread::spawn(move || Client::join(door)))
        .collect();
    let joins = joins.into_iter().map(|join| join.join().expect("it joins"));
    let mut clients: Vec<_> = joins.collect();
    let waited = rig.edge.metrics().value("voltlane_handshakes_paced_total");
    assert!(waited > 0, "none waited");
    for client in &mut clients {
        rig.round_trip(client, b"in");
    }
    drop(clients);
    rig.stop();
}

/// Where certificates of clients are demanded, one without a good one reaches no machine: it is refused by an alert, and counted.
#[test]
fn clients_without_a_good_certificate_are_refused_below_the_machine() {
    let rig = rig(&format!(
        "{}{METRICS}listener.client_auth = \"required\"\nlistener.client_ca_file = {:?}\nlistener.client_crl_file = {:?}\n",
        Carriage::Tls.config(),
        certificate_file("authority.pem"),
        certificate_file("revoked.crl")
    ));
    let version = conformance::handshake::encoded(Handshake::ProtocolVersion(2));
    let greet = |own: Option<&str>| {
        let mut stream = tls_as(connect(rig.address()), "edge.example.com", own)?;
        stream.write_all(&version)?;
        // The beginning of the edge's key, or the alert: a client of TLS 1.3 is done before its certificate is seen.
        stream.read_exact(&mut [0])
    };
    for (refused, own) in (1..).zip([None, Some("expired"), Some("early"), Some("revoked")]) {
        let error = greet(own).expect_err("an alert");
        assert!(error.to_string().contains("alert"), "{own:?}: {error}");
        wait_for(&rig, BROKEN, refused);
    }
    greet(Some("client")).expect("it is let in");
    assert_eq!(rig.edge.metrics().value(BROKEN), 4);
    // The time of each handshake is counted by how it ended.
    let ended = |how: &str| {
        format!("voltlane_tls_handshake_seconds_count{{listener=\"main\",result=\"{how}\"}}")
    };
    wait_for(&rig, &ended("failed"), 4);
    wait_for(&rig, &ended("full"), 1);
    drop(connect(rig.address()));
    wait_for(&rig, &ended("left"), 1);
    let list = "voltlane_revocation_list_expiry_timestamp_seconds{listener=\"main\"}";
    assert!(rig.edge.metrics().value(list) > 4_000_000_000);
    rig.stop();
}

/// A peer that connects and says nothing, sends a byte now and then, or stops within its hello has one deadline for all of it.
#[test]
fn slow_peers_at_every_door_meet_the_deadline_of_the_handshake() {
    for carriage in Carriage::ALL {
        let rig = rig(&format!(
            "{}{METRICS}limits.handshake_timeout_secs = 1\n",
            carriage.config()
        ));
        let begun: &[u8] = match carriage {
            Carriage::WebSocket => b"GET / HTTP/1.1\r\nHost: edge\r\n",
            _ => &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc],
        };
        let began = Instant::now();
        let mut peers: Vec<_> = (0..3).map(|_| connect(rig.address())).collect();
        peers[1].write_all(&begun[..1]).expect("it takes it");
        peers[2].write_all(begun).expect("it takes it");
        for peer in &mut peers {
            let mut said = Vec::new();
            let _ = peer.read_to_end(&mut said);
            let is_told = said.starts_with(b"HTTP/1.1 408 ");
            assert_eq!(
                is_told,
                carriage == Carriage::WebSocket,
                "{carriage:?}: {said:?}"
            );
        }
        assert!(began.elapsed() >= Duration::from_millis(900));
        let series = "voltlane_closes_total{reason=\"handshake_timeout\"}";
        wait_for(&rig, series, 3);
        rig.stop();
    }
}
