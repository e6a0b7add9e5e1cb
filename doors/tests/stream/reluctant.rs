//! A transport in memory that takes and gives as little as it likes.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use voltlane_doors::websocket::http::{Forwarded, Rules};
use voltlane_doors::{Door, DoorConnector, DoorStream, MAX_WRITE_BYTES};
use voltlane_driver::{Connect, Connector, Farewell, Stream};

use crate::tls;

pub(super) const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// One direction.
#[derive(Default)]
pub(super) struct Way {
    pub(super) bytes: VecDeque<u8>,
    /// How many bytes it takes before it blocks.
    pub(super) room: usize,
    /// The most that it moves at once.
    step: usize,
    pub(super) is_closed: bool,
    /// Whether a write fails.
    is_broken: bool,
}

/// An end of a pipe in memory. A step of 0 moves everything.
pub(super) struct Reluctant {
    pub(super) reads: Arc<Mutex<Way>>,
    pub(super) writes: Arc<Mutex<Way>>,
}

pub(super) fn pipe(step: usize) -> (Reluctant, Reluctant) {
    let way = || {
        Arc::new(Mutex::new(Way {
            room: usize::MAX,
            step,
            ..Way::default()
        }))
    };
    let (up, down) = (way(), way());
    let client = Reluctant {
        reads: Arc::clone(&down),
        writes: Arc::clone(&up),
    };
    let server = Reluctant {
        reads: up,
        writes: down,
    };
    (client, server)
}

impl std::fmt::Debug for Reluctant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reluctant")
    }
}

impl Stream for Reluctant {
    type Parcel = Reluctant;

    fn pack(self) -> io::Result<Reluctant> {
        Ok(self)
    }

    fn unpack(parcel: Reluctant) -> io::Result<Reluctant> {
        Ok(parcel)
    }

    fn poll_read(&mut self, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut way = self.reads.lock().expect("no panic");
        if way.bytes.is_empty() {
            return if way.is_closed {
                Poll::Ready(Ok(0))
            } else {
                Poll::Pending
            };
        }
        let step = if way.step == 0 { usize::MAX } else { way.step };
        let count = way.bytes.len().min(buf.len()).min(step);
        for (slot, byte) in buf.iter_mut().zip(way.bytes.drain(..count)) {
            *slot = byte;
        }
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, _: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut way = self.writes.lock().expect("no panic");
        if way.is_broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let bytes: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        let step = if way.step == 0 { usize::MAX } else { way.step };
        let count = bytes.len().min(way.room).min(step);
        if count == 0 {
            return Poll::Pending;
        }
        way.room -= count;
        way.bytes.extend(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writes.lock().expect("no panic").is_closed = true;
        Poll::Ready(Ok(()))
    }
}

/// Connects one stream that there is.
pub(super) struct Once(pub(super) Option<Reluctant>);

impl Connector for Once {
    type Stream = Reluctant;

    fn connect(&mut self) -> Connect<Reluctant> {
        let stream = self.0.take();
        Box::pin(async move { stream.ok_or_else(|| io::ErrorKind::ConnectionRefused.into()) })
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Tls,
    Ws,
    Wss,
}

pub(super) const KINDS: [Kind; 3] = [Kind::Tls, Kind::Ws, Kind::Wss];

pub(super) fn door(kind: Kind, rules: Rules) -> Door {
    let mut door = Door::default();
    if kind != Kind::Ws {
        let mut settings = tls::server_settings(&["edge"]);
        settings.tickets = true;
        door = door.with_tls(tls::server(&settings));
    }
    if kind != Kind::Tls {
        door = door.with_websocket(rules, 0);
    }
    door
}

pub(super) fn connector(kind: Kind, stream: Reluctant) -> DoorConnector<Once> {
    let mut connector = DoorConnector::new(Once(Some(stream)));
    if kind != Kind::Ws {
        let client = tls::client(&tls::client_settings("edge.example.com"));
        connector = connector.with_tls(client);
    }
    if kind != Kind::Tls {
        connector = connector
            .with_websocket("edge.example.com", "/")
            .expect("a host and a path");
    }
    connector
}

pub(super) fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// Reads what is there, into a buffer of `room`.
pub(super) fn read<S: Stream>(stream: &mut S, room: usize) -> (Vec<u8>, Option<io::Result<()>>) {
    let mut seen = Vec::new();
    let mut buffer = vec![0; room];
    // A read that gives nothing yet may ask to be polled again, for each few bytes of a record.
    for _ in 0..1_500 {
        match stream.poll_read(&mut cx(), &mut buffer) {
            Poll::Ready(Ok(0)) => return (seen, Some(Ok(()))),
            Poll::Ready(Ok(bytes)) => seen.extend_from_slice(&buffer[..bytes]),
            Poll::Ready(Err(error)) => return (seen, Some(Err(error))),
            Poll::Pending => {}
        }
    }
    (seen, None)
}

pub(super) fn write<S: Stream>(stream: &mut S, bytes: &[u8]) -> Poll<io::Result<usize>> {
    let (one, other) = bytes.split_at(bytes.len() / 3);
    stream.poll_write(&mut cx(), &[IoSlice::new(one), IoSlice::new(other)])
}

pub(super) type Both = (DoorStream<Reluctant>, DoorStream<Reluctant>);

/// Opens a connection over a pipe that moves `step` bytes at once.
pub(super) fn open(kind: Kind, step: usize, rules: Rules) -> Both {
    open_at(kind, step, &door(kind, rules))
}

/// Opens a connection at a door of this kind.
pub(super) fn open_at(kind: Kind, step: usize, door: &Door) -> Both {
    let (client, server) = pipe(step);
    let mut server = door.enter(server, PEER).expect("a door");
    let mut attempt = connector(kind, client).connect();
    for _ in 0..20_000 {
        if let Poll::Ready(client) = attempt.as_mut().poll(&mut cx()) {
            let client = client.expect("it opens");
            // The client's last words are on their way.
            let (early, end) = read(&mut server, 64);
            assert!(early.is_empty() && end.is_none());
            return (client, server);
        }
        let mut none = [0; 64];
        assert!(server.poll_read(&mut cx(), &mut none).is_pending());
    }
    panic!("{kind:?} does not open");
}

#[test]
fn streams_are_whole_however_little_is_moved_at_once() {
    let long: Vec<u8> = (0..50_000_u32).map(|at| (at * 7) as u8).collect();
    for kind in KINDS {
        for step in [1, 3, 1_000, 0] {
            let (mut client, mut server) = open(kind, step, Rules::default());
            for (room, bytes) in [
                (1, &b"short"[..]),
                (
                    512,
                    &long[..match step {
                        1 => 300,
                        3 => 3_000,
                        _ => 50_000,
                    }],
                ),
            ] {
                for up in [true, false] {
                    let (from, to) = if up {
                        (&mut client, &mut server)
                    } else {
                        (&mut server, &mut client)
                    };
                    let (mut sent, mut seen) = (0, Vec::new());
                    while seen.len() < bytes.len() {
                        if sent < bytes.len()
                            && let Poll::Ready(taken) = write(from, &bytes[sent..])
                        {
                            let taken = taken.expect("it takes");
                            assert!(taken <= MAX_WRITE_BYTES);
                            sent += taken;
                        }
                        let _ = from.poll_flush(&mut cx());
                        let mut buffer = vec![0; room];
                        while let Poll::Ready(taken) = to.poll_read(&mut cx(), &mut buffer) {
                            let taken = taken.expect("it gives");
                            assert!(taken > 0, "{kind:?} {step}: no end");
                            seen.extend_from_slice(&buffer[..taken]);
                        }
                    }
                    assert!(seen == bytes, "{kind:?} {step} {up}");
                }
            }
            // Nothing is kept while all is read and sent.
            let most = if kind == Kind::Ws { 512 } else { 1_600 };
            for end in [&client, &server] {
                assert!(
                    end.footprint_bytes() < most,
                    "{kind:?}: {}",
                    end.footprint_bytes()
                );
            }
        }
    }
}

#[test]
fn an_orderly_end_is_seen_behind_the_data() {
    for kind in KINDS {
        for client_first in [true, false] {
            let (client, server) = open(kind, 0, Rules::default());
            let (mut first, mut other) = if client_first {
                (client, server)
            } else {
                (server, client)
            };
            assert!(write(&mut first, b"last words").is_ready());
            first.part(Farewell::Ending);
            assert!(first.poll_close(&mut cx()).is_ready());
            let (seen, end) = read(&mut other, 4);
            assert_eq!(seen, b"last words");
            assert!(matches!(end, Some(Ok(()))), "{kind:?}: {end:?}");
            assert!(matches!(write(&mut first, b"more"), Poll::Ready(Err(_))));
        }
    }
}

#[test]
fn an_end_without_a_goodbye_is_an_error_and_a_probe_is_none() {
    for kind in KINDS {
        let (client, mut server) = open(kind, 0, Rules::default());
        client.get_ref().writes.lock().expect("no panic").is_closed = true;
        let (_, end) = read(&mut server, 64);
        let error = end.expect("an end").expect_err("an error");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{kind:?}");

        let (client, server) = pipe(0);
        let mut server = door(kind, Rules::default())
            .enter(server, PEER)
            .expect("a door");
        client.writes.lock().expect("no panic").is_closed = true;
        assert!(
            matches!(read(&mut server, 64), (_, Some(Ok(())))),
            "{kind:?}"
        );
    }
}

/// A peer that reads nothing: one write is taken, then nothing more, and a flush waits.
#[test]
fn what_waits_for_a_peer_that_reads_nothing_is_bounded() {
    for kind in KINDS {
        let (_client, mut server) = open(kind, 0, Rules::default());
        server.get_ref().writes.lock().expect("no panic").room = 100;
        let bytes = vec![7; 1 << 20];
        let Poll::Ready(Ok(taken)) = write(&mut server, &bytes) else {
            panic!("the first write is taken");
        };
        assert_eq!(taken, MAX_WRITE_BYTES);
        assert!(write(&mut server, &bytes).is_pending());
        assert!(server.poll_flush(&mut cx()).is_pending());
        let footprint = server.footprint_bytes();
        assert!(
            (MAX_WRITE_BYTES..2 * 17_000).contains(&footprint),
            "{kind:?}: {footprint}"
        );
        // The close waits for the same.
        assert!(server.poll_close(&mut cx()).is_pending());
        server.get_ref().writes.lock().expect("no panic").room = usize::MAX;
        assert!(server.poll_flush(&mut cx()).is_ready());
        assert!(
            server.footprint_bytes() < 1_600,
            "{kind:?}: {}",
            server.footprint_bytes()
        );
        assert!(server.poll_close(&mut cx()).is_ready());
    }
}

/// A peer that takes a little each time: each write finds the one before it sent, and ends partly sent.
#[test]
fn what_was_sent_to_a_slow_peer_is_not_kept() {
    for kind in KINDS {
        let (_client, mut server) = open(kind, 0, Rules::default());
        let bytes = vec![7; MAX_WRITE_BYTES];
        let allow = |server: &DoorStream<Reluctant>, room| {
            server.get_ref().writes.lock().expect("no panic").room = room;
        };
        allow(&server, 100);
        assert!(write(&mut server, &bytes).is_ready());
        for round in 0..100 {
            // What waits of the last write, and a little of this one.
            allow(&server, MAX_WRITE_BYTES + 100);
            assert!(write(&mut server, &bytes).is_ready(), "{kind:?} {round}");
            assert!(server.poll_flush(&mut cx()).is_pending());
            let footprint = server.footprint_bytes();
            assert!(footprint < 3 * 17_000, "{kind:?} {round}: {footprint}");
        }
    }
}

/// What a peer sent before it left is read, however late, and the failure of the socket is a failure of writes.
#[test]
fn what_came_before_a_write_failed_is_read() {
    for kind in KINDS {
        for room in [1, 64, 8_000] {
            let (mut client, mut server) = open(kind, 0, Rules::default());
            let sent = vec![5; 4_000];
            assert!(write(&mut client, &sent).is_ready());
            if kind == Kind::Ws {
                // The layer must answer it, which fails.
                let mut ping = Vec::new();
                voltlane_doors::websocket::encode_ping(&[1; 9], Some([0; 4]), &mut ping);
                let mut way = client.get_ref().writes.lock().expect("no panic");
                way.bytes.extend(&ping);
            }
            assert!(write(&mut client, &sent).is_ready());
            // Something waits for the socket when it fails.
            server.get_ref().writes.lock().expect("no panic").room = 0;
            assert!(write(&mut server, b"an answer").is_ready());
            server.get_ref().writes.lock().expect("no panic").is_broken = true;
            let (mut seen, mut buffer, mut end) = (0, vec![0; room], None);
            while end.is_none() {
                match server.poll_read(&mut cx(), &mut buffer) {
                    Poll::Ready(Ok(bytes)) => seen += bytes,
                    Poll::Ready(Err(error)) => end = Some(error.kind()),
                    Poll::Pending => panic!("{kind:?}: nobody wakes it"),
                }
            }
            assert_eq!((seen, end), (8_000, Some(io::ErrorKind::ConnectionReset)));
            for failed in [
                write(&mut server, b"more").map_ok(|_| ()),
                server.poll_flush(&mut cx()),
                server.poll_close(&mut cx()),
            ] {
                let Poll::Ready(Err(error)) = failed else {
                    panic!("{kind:?}: {failed:?}");
                };
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            }
            assert!(server.footprint_bytes() < 1_600);
        }
    }
}

/// Answers to a peer that takes a part of them each time: they are never all sent.
#[test]
fn answers_that_were_sent_are_not_kept_behind_those_that_wait() {
    let (client, mut server) = open(Kind::Ws, 0, Rules::default());
    let mut ping = Vec::new();
    voltlane_doors::websocket::encode_ping(&[1; 125], Some([0; 4]), &mut ping);
    server.get_ref().writes.lock().expect("no panic").room = 0;
    for round in 0..4_000 {
        let mut way = client.get_ref().writes.lock().expect("no panic");
        way.bytes.extend(&ping);
        drop(way);
        let mut way = server.get_ref().writes.lock().expect("no panic");
        way.room = if round < 10 { 0 } else { 127 };
        way.bytes.clear();
        drop(way);
        let mut data = Vec::new();
        voltlane_doors::websocket::encode_message(&[b"x"], Some([0; 4]), &mut data);
        let mut way = client.get_ref().writes.lock().expect("no panic");
        way.bytes.extend(&data);
        drop(way);
        let _ = server.poll_read(&mut cx(), &mut [0; 64]);
        let footprint = server.footprint_bytes();
        assert!(footprint < 4 * 20 * 1024, "{round}: {footprint}");
    }
}

/// A layer that must answer is not read while its answers wait.
#[test]
fn a_peer_that_asks_and_does_not_read_is_not_read_either() {
    let (client, mut server) = open(Kind::Ws, 0, Rules::default());
    server.get_ref().writes.lock().expect("no panic").room = 0;
    let mut ping = Vec::new();
    voltlane_doors::websocket::encode_ping(&[1; 125], Some([0; 4]), &mut ping);
    for _ in 0..1_000 {
        let mut way = client.get_ref().writes.lock().expect("no panic");
        way.bytes.extend(&ping);
        drop(way);
        let _ = server.poll_read(&mut cx(), &mut [0; 64]);
        assert!(server.footprint_bytes() < 3 * 20 * 1024);
    }
    let unread = client
        .get_ref()
        .writes
        .lock()
        .expect("no panic")
        .bytes
        .len();
    assert!(unread > 0, "it waits");
}

/// What a stranger sends is answered, and the answer goes before the end.
#[test]
fn what_breaks_a_rule_is_answered_and_closed_in_order() {
    let rows: [(Kind, &[u8], &[u8]); 4] = [
        (Kind::Tls, b"GET / HTTP/1.1\r\n\r\n", &[21, 3]),
        (Kind::Wss, b"\0\0\0\x05hello", &[21, 3]),
        (
            Kind::Ws,
            b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n",
            b"HTTP/1.1 404 ",
        ),
        (
            Kind::Ws,
            b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
            b"HTTP/1.1 200 ",
        ),
    ];
    for (kind, sent, answer) in rows {
        let (client, server) = pipe(0);
        let mut server = door(kind, Rules::default())
            .enter(server, PEER)
            .expect("a door");
        client.writes.lock().expect("no panic").bytes.extend(sent);
        let (seen, end) = read(&mut server, 64);
        let error = end.expect("an end").expect_err("an error");
        assert_eq!((seen.len(), error.kind()), (0, io::ErrorKind::InvalidData));
        assert!(server.poll_close(&mut cx()).is_ready());
        let mut way = client.reads.lock().expect("no panic");
        assert!(way.is_closed);
        let said = way.bytes.make_contiguous();
        assert!(said.starts_with(answer), "{said:?}");
    }
    // A violation of the frames: what came before it arrives.
    let (mut client, mut server) = open(Kind::Ws, 0, Rules::default());
    assert!(write(&mut client, b"before").is_ready());
    let mut way = client.get_ref().writes.lock().expect("no panic");
    way.bytes.extend([0x81, 0x80]);
    drop(way);
    let (seen, end) = read(&mut server, 64);
    assert_eq!(seen, b"before");
    let error = end.expect("an end").expect_err("an error");
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(server.poll_close(&mut cx()).is_ready());
    // The client is told, with a CLOSE of 1003.
    let mut way = client.get_ref().reads.lock().expect("no panic");
    assert_eq!(way.bytes.make_contiguous(), [0x88, 2, 0x03, 0xeb]);
}

#[test]
fn the_address_of_a_request_comes_as_a_proxy_header() {
    use voltlane_core::edge::proxy::{ProxyHeader, ProxySource};
    let mut rules = Rules::default();
    rules.forwarded = Forwarded::XForwardedFor;
    rules.trusted_proxies = vec!["192.0.2.0/24".parse().expect("a network")];
    for (header, expected) in [
        ("X-Forwarded-For: 198.51.100.7\r\n", Some("198.51.100.7")),
        ("X-Forwarded-For: 2001:db8::9\r\n", Some("2001:db8::9")),
        ("X-Forwarded-For: nonsense\r\n", None),
        ("", None),
    ] {
        let (client, server) = pipe(0);
        let mut server = door(Kind::Ws, rules.clone())
            .enter(server, PEER)
            .expect("a door");
        assert_eq!(server.is_introduced(), Some(true));
        let request = format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{header}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let mut bytes = request.into_bytes();
        voltlane_doors::websocket::encode_message(&[b"stream"], Some([1; 4]), &mut bytes);
        client.writes.lock().expect("no panic").bytes.extend(bytes);
        let (seen, _) = read(&mut server, 7);
        let mut stream = &seen[..];
        let source = ProxyHeader::default().read(&mut stream).expect("a header");
        let ip = match source.expect("it is whole") {
            ProxySource::Address(address) => Some(address.ip()),
            ProxySource::Local => None,
        };
        assert_eq!(ip, expected.map(|ip| ip.parse().expect("an address")));
        assert_eq!(stream, b"stream");
    }
    // From elsewhere the header means nothing.
    let stranger = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
    let server = door(Kind::Ws, rules)
        .enter(pipe(0).1, stranger)
        .expect("a door");
    assert_eq!(server.is_introduced(), None);
}

#[test]
fn a_stream_moves_to_another_thread_with_what_it_holds() {
    for kind in KINDS {
        let (mut client, mut server) = open(kind, 0, Rules::default());
        assert!(write(&mut client, b"two parts").is_ready());
        let mut two = [0; 3];
        assert!(matches!(
            server.poll_read(&mut cx(), &mut two),
            Poll::Ready(Ok(3))
        ));
        let parcel = server.pack().expect("it moves");
        let (seen, mut server) = std::thread::spawn(move || {
            let mut server = DoorStream::<Reluctant>::unpack(parcel).expect("it moves");
            (read(&mut server, 64).0, server)
        })
        .join()
        .expect("no panic");
        assert_eq!(seen, b" parts");
        assert!(write(&mut server, b"answer").is_ready());
        assert_eq!(read(&mut client, 64).0, b"answer");
    }
}

/// A stream may come into a log. What it holds may not.
#[test]
fn the_debug_output_of_a_stream_has_no_payload() {
    let (client, mut server) = open(Kind::Ws, 0, Rules::default());
    let mut bytes = Vec::new();
    voltlane_doors::websocket::encode_message(&[&[211; 64]], Some([0; 4]), &mut bytes);
    voltlane_doors::websocket::encode_ping(&[211; 99], Some([0; 4]), &mut bytes);
    bytes.truncate(bytes.len() - 9);
    let mut way = client.get_ref().writes.lock().expect("no panic");
    way.bytes.extend(bytes);
    drop(way);
    server.get_ref().writes.lock().expect("no panic").room = 0;
    assert!(server.poll_read(&mut cx(), &mut [0; 8]).is_ready());
    assert!(write(&mut server, &[211; 64]).is_ready());
    assert!(server.footprint_bytes() > 64 + 56 + 99);
    let shown = format!("{server:?}");
    assert!(
        shown.contains("Layers") && !shown.contains("211"),
        "{shown}"
    );
}

/// An idle client of WebSocket is to take at most 800 bytes, with all that the edge keeps of it.
#[test]
fn the_layers_of_a_connection_are_small() {
    let door = Door::default().with_websocket(Rules::default(), 0);
    let stream = door.enter(pipe(0).1, PEER).expect("no TLS, no randomness");
    let bytes = stream.footprint_bytes();
    assert!(bytes <= 176, "{bytes} bytes");
}
