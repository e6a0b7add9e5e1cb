//! What a WebSocket client is told when it is turned away or closed, and asked when it is silent. (SPEC 16.2 to 16.4)

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use conformance::shim::{Carriage, Shim as _};
use conformance::{PATIENCE, Rig, Signal, websocket};
use voltlane_core::ClientId;
use voltlane_core::keys::KeyPair;
use voltlane_core::v2::packets::Handshake;
use voltlane_core::wire::frame::{FrameReader, encode_frame};

use super::rig;

/// A client that speaks WebSocket byte by byte, and answers nothing by itself.
pub(super) struct Raw(TcpStream);

impl Raw {
    fn connect(address: SocketAddr) -> Raw {
        let socket = TcpStream::connect(address).expect("somebody listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a bound");
        Raw(socket)
    }

    fn upgraded(address: SocketAddr) -> Raw {
        Raw(websocket::open(address, ""))
    }

    /// Joins, and returns its id.
    pub(super) fn joined(address: SocketAddr) -> (Raw, ClientId) {
        let mut raw = Raw::upgraded(address);
        let keys = KeyPair::from_bytes(&[7; 32]).expect("a key");
        let mut opening = Vec::new();
        Handshake::ProtocolVersion(2).encode(&mut opening);
        Handshake::PubKey(keys.public().as_bytes()).encode(&mut opening);
        raw.message(&opening);
        let (mut reader, mut bodies) = (FrameReader::default(), Vec::<Vec<u8>>::new());
        while bodies.len() < 2 {
            let (opcode, payload) = raw.frame();
            assert_eq!(opcode, websocket::BINARY, "a message");
            let mut input = &payload[..];
            while let Some(body) = reader.next_frame(&mut input, 1_000).expect("in bounds") {
                bodies.push(body.to_vec());
            }
        }
        let Ok(Handshake::ClientId(id)) = Handshake::decode(&bodies[1]) else {
            panic!("{bodies:?}");
        };
        (raw, id)
    }

    pub(super) fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("it is taken");
    }

    /// Sends a message, masked with zeros.
    fn message(&mut self, payload: &[u8]) {
        self.say(&websocket::frame(websocket::BINARY, payload));
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).expect("more comes");
        bytes
    }

    /// Returns the first byte and the payload of the next frame, which is short.
    pub(super) fn frame(&mut self) -> (u8, Vec<u8>) {
        let header = self.take(2);
        assert!(header[1] < 126, "a short frame without a mask");
        (header[0], self.take(header[1].into()))
    }

    /// Returns the code of the CLOSE that comes next, behind messages and PINGs.
    #[track_caller]
    fn code(&mut self) -> u16 {
        loop {
            let (opcode, payload) = self.frame();
            match (opcode, &payload[..]) {
                (0x88, &[high, low]) => return u16::from_be_bytes([high, low]),
                (websocket::BINARY | 0x89, _) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Returns everything up to the end.
    fn rest(&mut self) -> String {
        let mut said = Vec::new();
        let _ = self.0.read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    }
}

fn ws(more: &str) -> Rig {
    rig(&format!("{}{more}", Carriage::WebSocket.config()))
}

#[test]
fn a_client_is_told_why_it_is_closed() {
    let mut rig = ws("clients.max_frame_bytes = 100\n");
    let (mut client, id) = Raw::joined(rig.address());
    rig.link.kick(id);
    assert_eq!(client.code(), 1008, "kicked");

    let (mut client, _) = Raw::joined(rig.address());
    let mut long = Vec::new();
    encode_frame(&[7; 101], &mut long);
    client.message(&long);
    assert_eq!(client.code(), 1009, "a long packet");

    let mut client = Raw::upgraded(rig.address());
    let mut version = Vec::new();
    Handshake::ProtocolVersion(77).encode(&mut version);
    client.message(&version);
    assert_eq!(client.code(), 1002, "no such version");

    let (mut client, _) = Raw::joined(rig.address());
    rig.edge.signal(Signal::TERM);
    assert_eq!(client.code(), 1001, "the edge ends");
    drop((rig.link, rig.backend));
    rig.edge.expect_end(Some(0));
}

#[test]
fn a_silent_client_is_told_why_it_is_closed() {
    let rig = ws("clients.idle_timeout_secs = 1\n");
    let (mut client, _) = Raw::joined(rig.address());
    assert_eq!(client.code(), 1008);
    rig.stop();
}

#[test]
fn a_request_that_is_late_or_finds_no_room_is_told_so() {
    let rig = ws(
        "limits.handshake_timeout_secs = 1\nlimits.exempt = []\nlimits.source_connections = 2\nlistener.versions = [2]\n",
    );
    let began = Instant::now();
    let mut slow = Raw::connect(rig.address());
    slow.say(b"GET / HTTP/1.1\r\n");
    let others = [Raw::connect(rig.address()), Raw::connect(rig.address())];
    let mut said: Vec<_> = others.into_iter().map(|mut raw| raw.rest()).collect();
    said.push(slow.rest());
    // Shards accept in any order.
    said.sort();
    for (said, expected) in said.iter().zip(["408", "408", "429"]) {
        assert!(said.starts_with(&format!("HTTP/1.1 {expected} ")), "{said}");
        let says_when = said.contains("\r\nRetry-After: ");
        assert_eq!(says_when, expected == "429", "{said}");
    }
    assert!(began.elapsed() >= Duration::from_millis(900));
    rig.stop();
}

#[test]
fn a_request_that_comes_while_the_edge_ends_is_told_so() {
    let rig = ws("limits.handshake_timeout_secs = 60\n");
    let mut begun = Raw::connect(rig.address());
    begun.say(b"GET / HTTP/1.1\r\n");
    // Somebody who came later has been served, so it was read.
    drop(Raw::upgraded(rig.address()));
    rig.edge.signal(Signal::TERM);
    let said = begun.rest();
    assert!(said.starts_with("HTTP/1.1 503 "), "{said}");
    assert!(said.contains("\r\nRetry-After: "), "{said}");
    drop((rig.link, rig.backend));
    rig.edge.expect_end(Some(0));
}

/// A client that answers no PING is dropped, and its session is kept. One that answers stays.
#[test]
fn a_silent_client_is_asked_and_dropped_if_it_does_not_answer() {
    let mut rig = ws("listener.ping_secs = 1\nlistener.pong_timeout_secs = 1\n");
    let (mut mute, _) = Raw::joined(rig.address());
    let (mut honest, id) = Raw::joined(rig.address());
    let began = Instant::now();
    assert_eq!(mute.frame(), (0x89, vec![]), "a PING");
    for _ in 0..3 {
        assert_eq!(honest.frame(), (0x89, vec![]), "a PING");
        honest.say(&[0x8a, 0x80, 0, 0, 0, 0]);
    }
    let error = mute.0.read(&mut [0]).expect_err("an abrupt end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(began.elapsed() >= Duration::from_millis(1_400));
    rig.link.send(id, b"still there");
    loop {
        match honest.frame() {
            (0x89, _) => honest.say(&[0x8a, 0x80, 0, 0, 0, 0]),
            (websocket::BINARY, payload) => {
                assert!(payload.ends_with(b"still there"));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    drop(honest);
    rig.stop();
}
