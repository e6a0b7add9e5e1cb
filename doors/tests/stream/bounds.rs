//! What a peer makes a door do, counted and bounded; doors within doors; whose fault an end is.

use std::sync::{Arc, Mutex};
use std::task::Poll;

use voltlane_doors::websocket::http::{Refusal, Rules, TellRefusal};
use voltlane_doors::websocket::{Violation, encode_message, encode_ping};
use voltlane_doors::{Door, DoorConnector, DoorFault, DoorStream};
use voltlane_driver::Time;
use voltlane_driver::{Connector, Stream};

use super::reluctant::*;
use crate::tls;

fn send(client: &DoorStream<Reluctant>, bytes: &[u8]) {
    let way = &client.get_ref().writes;
    way.lock().expect("no panic").bytes.extend(bytes);
}

/// Every byte of the socket is one of the stream or overhead, in the end.
#[test]
fn what_is_none_of_the_stream_is_counted() {
    for kind in KINDS {
        for step in [1, 100, 0] {
            let (mut client, mut server) = open(kind, step, Rules::default());
            server.take_overhead();
            let (mut raw, mut given, mut overhead) = (0, 0, 0);
            for length in [1, 100, 3_000] {
                let mut sent = 0;
                while sent < length {
                    if let Poll::Ready(taken) = write(&mut client, &vec![1; length - sent]) {
                        sent += taken.expect("it takes");
                    }
                    let _ = client.poll_flush(&mut cx());
                    raw += client
                        .get_ref()
                        .writes
                        .lock()
                        .expect("no panic")
                        .bytes
                        .len();
                    let mut buffer = [0; 64];
                    loop {
                        let read = server.poll_read(&mut cx(), &mut buffer);
                        // A part of a record is not counted before it is whole.
                        let more = server.take_overhead();
                        assert!(more < 600, "{kind:?} {step}: {more}");
                        overhead += more;
                        match read {
                            Poll::Ready(bytes) => given += bytes.expect("data"),
                            Poll::Pending => {
                                let way = client.get_ref().writes.lock().expect("no panic");
                                if way.bytes.is_empty() {
                                    break;
                                }
                            }
                        }
                    }
                }
                while client.poll_flush(&mut cx()).is_pending() {}
            }
            raw += client
                .get_ref()
                .writes
                .lock()
                .expect("no panic")
                .bytes
                .len();
            given += read(&mut server, 64).0.len();
            overhead += server.take_overhead();
            assert_eq!(given, 3_101);
            assert_eq!(given + overhead, raw, "{kind:?} {step}");
        }
    }
}

#[test]
fn a_flood_of_pings_is_counted_and_one_poll_reads_64_kib_of_it() {
    let (client, mut server) = open(Kind::Ws, 0, Rules::default());
    server.take_overhead();
    let mut flood = Vec::new();
    while flood.len() < 1 << 20 {
        for _ in 0..100 {
            encode_ping(&[1; 125], Some([0; 4]), &mut flood);
        }
        // Pings that come with data are no violation.
        encode_message(&[b"x"], Some([0; 4]), &mut flood);
        encode_ping(b"", Some([0; 4]), &mut flood);
    }
    let payload = flood.len() / (100 * 131 + 7 + 6);
    send(&client, &flood);
    let (mut seen, mut overhead) = (0, 0);
    for _ in 0..1_000 {
        match server.poll_read(&mut cx(), &mut [0; 4_096]) {
            Poll::Ready(bytes) => seen += bytes.expect("data"),
            Poll::Pending => {}
        }
        let once = server.take_overhead();
        assert!(once < 64 * 1024 + 4_096, "{once}");
        overhead += once;
        client
            .get_ref()
            .reads
            .lock()
            .expect("no panic")
            .bytes
            .clear();
    }
    assert_eq!((seen, seen + overhead), (payload, flood.len()));
}

#[test]
fn what_a_door_holds_is_told_in_bytes() {
    for kind in KINDS {
        let (mut client, mut server) = open(kind, 0, Rules::default());
        assert_eq!((client.held_bytes(), server.held_bytes()), (0, 0));
        // What was decoded and has no room.
        assert!(write(&mut client, &[1; 1_000]).is_ready());
        assert!(server.poll_read(&mut cx(), &mut [0; 10]).is_ready());
        assert_eq!(server.held_bytes(), 990, "{kind:?}");
        read(&mut server, 64);
        assert_eq!(server.held_bytes(), 0);
        // What waits for the socket.
        server.get_ref().writes.lock().expect("no panic").room = 100;
        assert!(write(&mut server, &[1; 1_000]).is_ready());
        assert!((900..1_100).contains(&server.held_bytes()), "{kind:?}");
        server.get_ref().writes.lock().expect("no panic").room = usize::MAX;
        assert!(server.poll_flush(&mut cx()).is_ready());
        assert_eq!(server.held_bytes(), 0);
        // A part of a record. A part of a message is none: its bytes go on at once.
        assert!(write(&mut client, &[1; 1_000]).is_ready());
        let mut way = client.get_ref().writes.lock().expect("no panic");
        let rest = way.bytes.split_off(600);
        drop(way);
        let seen = read(&mut server, 64).0.len();
        let held = if kind == Kind::Ws { 0 } else { 600 };
        assert_eq!(server.held_bytes(), held);
        client.get_ref().writes.lock().expect("no panic").bytes = rest;
        assert_eq!(seen + read(&mut server, 64).0.len(), 1_000);
        assert_eq!(server.held_bytes(), 0);
    }
}

#[test]
fn a_door_within_a_door_works() {
    let outer = door(Kind::Ws, Rules::default());
    let inner = door(Kind::Tls, Rules::default());
    let (client, server) = pipe(0);
    let server = outer.enter(server, PEER).expect("a door");
    let mut server = inner.enter(server, PEER).expect("a door");
    let tls = tls::client(&tls::client_settings("edge.example.com"));
    let mut connector = DoorConnector::new(connector(Kind::Ws, client)).with_tls(tls);
    let mut attempt = connector.connect();
    let mut client = None;
    for _ in 0..100 {
        if client.is_none()
            && let Poll::Ready(opened) = attempt.as_mut().poll(&mut cx())
        {
            client = Some(opened.expect("it opens"));
        }
        assert!(server.poll_read(&mut cx(), &mut [0; 64]).is_pending());
    }
    let mut client = client.expect("it opens");
    assert!(write(&mut client, b"through both").is_ready());
    assert_eq!(read(&mut server, 64).0, b"through both");
    assert!(write(&mut server, b"and back").is_ready());
    assert_eq!(read(&mut client, 64).0, b"and back");
    assert!(server.take_overhead() > 0);
}

/// The driver of an edge makes a few key exchanges in a turn.
#[test]
fn a_key_exchange_waits_for_its_permit() {
    for kind in [Kind::Tls, Kind::Wss] {
        let (client, server) = pipe(7);
        let mut server = door(kind, Rules::default())
            .enter(server, PEER)
            .expect("a door");
        server.meter_handshake(Time::ZERO);
        let mut attempt = connector(kind, client).connect();
        for _ in 0..1_000 {
            assert!(attempt.as_mut().poll(&mut cx()).is_pending());
            assert!(server.poll_read(&mut cx(), &mut [0; 64]).is_pending());
        }
        assert!(server.awaits_handshake() && server.held_bytes() > 200);
        server.permit_handshake();
        assert!(!server.awaits_handshake());
        let mut opened = None;
        for _ in 0..20_000 {
            if let Poll::Ready(client) = attempt.as_mut().poll(&mut cx()) {
                opened = Some(client.expect("it opens"));
                break;
            }
            assert!(server.poll_read(&mut cx(), &mut [0; 64]).is_pending());
            assert!(!server.awaits_handshake(), "once");
        }
        let mut client = opened.expect("it opens");
        while write(&mut client, b"hello").is_pending() {}
        while client.poll_flush(&mut cx()).is_pending() {}
        assert_eq!(read(&mut server, 64).0, b"hello");
    }
    // Without TLS there is nothing to wait for.
    let (mut client, mut server) = open(Kind::Ws, 0, Rules::default());
    server.meter_handshake(Time::ZERO);
    assert!(write(&mut client, b"hello").is_ready());
    assert_eq!(read(&mut server, 64).0, b"hello");
    assert!(!server.awaits_handshake());
}

/// The penalty is for peers that break rules. A question, a browser on the wrong page, a client that does not trust us: none of these.
#[test]
fn an_offence_is_told_from_a_request_that_is_refused() {
    const UPGRADE: &str = "Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let http =
        |line: &str, more: &str| format!("{line} HTTP/1.1\r\n{UPGRADE}{more}\r\n").into_bytes();
    let rows: [(Kind, Vec<u8>, bool); 13] = [
        (Kind::Tls, b"GET / HTTP/1.1\r\n\r\n".to_vec(), true),
        (Kind::Wss, vec![0; 64], true),
        (Kind::Tls, vec![0x80, 0x2e, 1, 0, 2], true),
        // A peer's alert.
        (Kind::Tls, vec![21, 3, 3, 0, 2, 2, 48], false),
        (Kind::Ws, vec![0x16, 3, 1, 0, 4, 1, 0, 0, 0], true),
        (Kind::Ws, b"\0\0\0\x05hello".to_vec(), true),
        (Kind::Ws, b"GET / HTTP/1.1\nHost: a\n\n".to_vec(), true),
        (Kind::Ws, http("GET /", "Content-Length: 3\r\n"), true),
        (Kind::Ws, http("GET /healthz", ""), false),
        (Kind::Ws, http("GET /other", ""), false),
        (Kind::Ws, http("POST /", ""), false),
        (
            Kind::Ws,
            http("GET /", "Origin: https://evil.example\r\n"),
            false,
        ),
        (
            Kind::Ws,
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            false,
        ),
    ];
    for (kind, sent, offence) in rows {
        let (client, server) = pipe(0);
        let mut server = door(kind, Rules::default())
            .enter(server, PEER)
            .expect("a door");
        client.writes.lock().expect("no panic").bytes.extend(&sent);
        assert!(!server.was_violated());
        let (_, end) = read(&mut server, 64);
        assert!(end.expect("an end").is_err());
        let shown = String::from_utf8_lossy(&sent);
        assert_eq!(server.was_violated(), offence, "{kind:?} {shown:?}");
    }
    let (client, mut server) = open(Kind::Ws, 0, Rules::default());
    send(&client, &[0x81, 0x80]);
    read(&mut server, 64);
    assert!(server.was_violated());
    assert_eq!(server.fault(), Some(&DoorFault::Frame(Violation::Text)));
}

/// What is refused is told, and nothing else is.
#[test]
fn each_request_that_is_refused_is_told_once_with_its_reason() {
    const UPGRADE: &str = "Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let http = |line: &str, more: &str| format!("{line} HTTP/1.1\r\n{UPGRADE}{more}\r\n");
    let rows = [
        (http("GET /", ""), None),
        (http("GET /healthz", ""), None),
        (
            http("GET /", "Origin: https://evil.example\r\n"),
            Some(Refusal::Origin),
        ),
        (http("GET /other", ""), Some(Refusal::Path)),
        (http("POST /", ""), Some(Refusal::Method)),
        (
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            Some(Refusal::NotWebSocket),
        ),
        // These are seen before there is a whole request.
        ("\0\0\0\x05hello".into(), Some(Refusal::Malformed)),
        ("\x16\x03\x01".into(), Some(Refusal::OtherProtocol)),
        (
            format!("GET /{}", "x".repeat(4_096)),
            Some(Refusal::TooLong),
        ),
    ];
    for (sent, expected) in rows {
        let told = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&told);
        let mut rules = Rules::default();
        rules.tell_refusal = Some(TellRefusal::new(move |refusal| {
            hears.lock().expect("no panic").push(refusal);
        }));
        let (client, server) = pipe(0);
        let mut server = door(Kind::Ws, rules).enter(server, PEER).expect("a door");
        let mut writes = client.writes.lock().expect("no panic");
        writes.bytes.extend(sent.as_bytes());
        drop(writes);
        for _ in 0..3 {
            let _ = read(&mut server, 64);
        }
        let told = told.lock().expect("no panic");
        assert_eq!(*told, Vec::from_iter(expected), "{sent:?}");
    }
}

/// A client is told what is wrong, by the edge if it says so.
#[test]
fn a_client_learns_why_it_does_not_come_in() {
    let wrong_path = {
        let mut rules = Rules::default();
        rules.path = "/play".into();
        rules
    };
    let refused = |door: &Door, kind| {
        let (client, server) = pipe(0);
        let mut server = door.enter(server, PEER).expect("a door");
        let mut attempt = connector(kind, client).connect();
        for _ in 0..100 {
            if let Poll::Ready(opened) = attempt.as_mut().poll(&mut cx()) {
                return opened.expect_err("it is refused").to_string();
            }
            let _ = server.poll_read(&mut cx(), &mut [0; 64]);
        }
        panic!("{kind:?} waits");
    };
    let error = refused(&door(Kind::Ws, wrong_path), Kind::Ws);
    assert!(error.contains("404"), "{error}");
    assert_eq!(Refusal::Path.status(), 404);
    let strict = Door::default().with_tls(tls::server(&{
        let mut settings = tls::server_settings(&["edge"]);
        settings.client_auth = voltlane_doors::tls::ClientAuth::Required;
        settings.client_ca = Some(tls::file("authority.pem"));
        settings
    }));
    let (client, server) = pipe(0);
    let mut server = strict.enter(server, PEER).expect("a door");
    let mut attempt = connector(Kind::Tls, client).connect();
    let mut opened = None;
    for _ in 0..100 {
        if opened.is_none()
            && let Poll::Ready(client) = attempt.as_mut().poll(&mut cx())
        {
            opened =
                Some(client.expect("TLS 1.3 opens before the server has seen the certificate"));
        }
        let _ = server.poll_read(&mut cx(), &mut [0; 64]);
        let _ = server.poll_flush(&mut cx());
    }
    let mut client = opened.expect("it opens");
    let error = read(&mut client, 64)
        .1
        .expect("an end")
        .expect_err("an alert");
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
    assert!(server.was_violated(), "no certificate: counted against it");
}
