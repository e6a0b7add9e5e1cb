//! Floods within TLS and WebSocket, clients that take nothing, and connections that are cut off. (SPEC 16.1, 16.5)

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use conformance::shim::{Carriage, Shim as _, TlsStream, certificate_file, tls};
use conformance::websocket::{BINARY, frame, open};
use conformance::{Client, Frames, PATIENCE, Rig, bytes_of};
use voltlane_core::v2::packets::Handshake;
use voltlane_doors::tls::{ClientSettings, ClientTls, Roots, TlsLayer};

use super::door_attacks::{BROKEN, connect, wait_for};
use super::{HEALING, METRICS, rig};

/// A client at a time may send 1,000 bytes a second. One that is too fast is not closed for it.
const PACED: &str = "clients.pace_bytes_per_sec = 1000\nclients.pace_burst_bytes = 65536\nclients.pace_patience_secs = 0\n";

/// How much is sent between two looks at the metrics.
const LOOK_EVERY_BYTES: usize = 128 * 1024;

/// The bytes with which a client joins, without waiting for answers.
fn opening() -> Vec<u8> {
    let keys = voltlane_core::keys::KeyPair::from_bytes(&[7; 32]).expect("a key");
    let mut opening = Vec::new();
    Handshake::ProtocolVersion(2).encode(&mut opening);
    Handshake::PubKey(keys.public().as_bytes()).encode(&mut opening);
    opening
}

/// Sends what `more` gives, up to an empty one, until the edge reads it at a pace, however slow the edge is. Another client is served
/// meanwhile.
fn flood_until_paced(
    mut rig: Rig,
    carriage: Carriage,
    mut socket: TcpStream,
    mut more: impl FnMut() -> Vec<u8>,
) {
    socket.set_nonblocking(true).expect("it can");
    let (mut unsent, mut sent) = (Vec::new(), 0);
    let (mut said, until) = (vec![0; 65_536], Instant::now() + PATIENCE);
    while rig.edge.metrics().value("voltlane_paced_total") == 0 {
        assert!(Instant::now() < until, "{sent} bytes are read unpaced");
        // An edge that takes everything is asked now and then.
        let look_at = sent + LOOK_EVERY_BYTES;
        while sent < look_at {
            if unsent.is_empty() {
                unsent = more();
            }
            if unsent.is_empty() {
                break;
            }
            // What was not taken of a write is continued, so that frames and records stay whole.
            let Ok(bytes) = socket.write(&unsent) else {
                break;
            };
            unsent.drain(..bytes);
            sent += bytes;
            while matches!(socket.read(&mut said), Ok(bytes) if bytes > 0) {}
        }
        while matches!(socket.read(&mut said), Ok(bytes) if bytes > 0) {}
    }
    let mut client = Client::join(carriage.shim(rig.address()));
    rig.round_trip(&mut client, b"meanwhile");
    drop((client, socket));
    rig.stop();
}

/// The bytes of a flood of PINGs count towards the pace of its client.
#[test]
fn a_flood_of_pings_is_paced() {
    let rig = rig(&format!("{}{METRICS}{PACED}", Carriage::WebSocket.config()));
    let mut socket = open(rig.address(), "");
    socket.write_all(&frame(BINARY, &opening())).expect("taken");
    let pings = frame(0x89, &[7; 125]).repeat(100);
    flood_until_paced(rig, Carriage::WebSocket, socket, || pings.clone());
}

/// So do those of records of TLS around a single byte each. Their payload alone is within the burst.
#[test]
fn a_flood_of_tiny_records_is_paced() {
    const PAYLOAD: u32 = 60_000;
    let rig = rig(&format!("{}{METRICS}{PACED}", Carriage::Tls.config()));
    let mut socket = connect(rig.address());
    let authority = Roots::File(certificate_file("authority.pem"));
    let settings = ClientSettings::new("edge.example.com", authority);
    let own = ClientTls::load(&settings).expect("the tests' authority");
    let mut layer = TlsLayer::client(&own).expect("a layer");
    let (mut out, mut said) = (Vec::new(), vec![0; 65_536]);
    layer.read(&mut [], |_| {}, &mut out).expect("a hello");
    while !layer.is_open() {
        socket.write_all(&out).expect("it is taken");
        out.clear();
        let bytes = socket.read(&mut said).expect("an answer");
        let read = layer.read(&mut said[..bytes], |_| {}, &mut out);
        read.expect("a handshake");
    }
    layer.write(&opening(), &mut out).expect("it is open");
    layer
        .write(&PAYLOAD.to_le_bytes(), &mut out)
        .expect("it is open");
    socket.write_all(&out).expect("it is taken");
    let mut left = PAYLOAD;
    flood_until_paced(rig, Carriage::Tls, socket, || {
        let (mut records, now) = (Vec::new(), left.min(500));
        left -= now;
        for _ in 0..now {
            layer.write(&[7], &mut records).expect("it is open");
        }
        records
    });
}

/// A key update costs the edge a derivation of keys and an answer. It takes 32 in a row without a byte of data.
#[test]
fn a_flood_of_key_updates_is_an_offence() {
    let mut rig = rig(&format!("{}{METRICS}", Carriage::Tls.config()));
    let mut client = Client::join(Carriage::Tls.shim(rig.address()));
    let mut stream = tls(connect(rig.address()), "edge.example.com").expect("TLS");
    let update = |stream: &mut TlsStream, count| {
        for _ in 0..count {
            stream.conn.refresh_traffic_keys().expect("TLS 1.3");
        }
    };
    update(&mut stream, 32);
    let version = conformance::handshake::encoded(Handshake::ProtocolVersion(2));
    stream.write_all(&version).expect("at the bound");
    stream.read_exact(&mut [0]).expect("the edge's key");
    assert_eq!(rig.edge.metrics().value(BROKEN), 0);
    update(&mut stream, 33);
    // The edge may be gone before all is sent.
    let _ = stream.flush();
    let end = stream.read_to_end(&mut Vec::new());
    assert!(end.is_err(), "one beyond is no end in order: {end:?}");
    wait_for(&rig, BROKEN, 1);
    rig.round_trip(&mut client, b"undisturbed");
    rig.stop();
}

/// What waits for a client that takes nothing is bounded, counted and dropped in time, behind doors as well.
#[test]
fn a_client_behind_a_door_that_takes_nothing_fails_in_time() {
    for carriage in Carriage::ALL {
        let mut rig = rig(&format!(
            "{}{METRICS}clients.write_timeout_secs = 1\nclients.channel_bytes = 67_108_864\n",
            carriage.config()
        ));
        let door = carriage.shim(rig.address());
        let slow = Client::join_over(Frames::connect_narrow(door, 4_096));
        // More than the systems of both ends hold, and no more than a busy machine can carry in time.
        for n in 0..10 {
            rig.link.send(slow.id(), &bytes_of(n, 1 << 20));
        }
        rig.link.expect_failure(slow.id(), "write timed out");
        let until = Instant::now() + PATIENCE;
        while rig.edge.metrics().value("voltlane_held_bytes") > 0 {
            assert!(Instant::now() < until, "{carriage:?}: memory stays");
            thread::yield_now();
        }
        drop(slow);
        rig.stop();
    }
}

/// A port that leads to `edge`. Gives the edge's end of each connection, to be cut.
fn cuttable(edge: SocketAddr) -> (SocketAddr, mpsc::Receiver<TcpStream>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let (ends, cuts) = mpsc::channel();
    let pass = |mut from: TcpStream, mut to: TcpStream| io::copy(&mut from, &mut to);
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let far = connect(edge);
            far.set_read_timeout(None).expect("none");
            let clone = |end: &TcpStream| end.try_clone().expect("a clone");
            let (near_again, far_again) = (clone(&near), clone(&far));
            // Nobody may wait for it.
            let _ = ends.send(clone(&far));
            thread::spawn(move || pass(near, far));
            thread::spawn(move || pass(far_again, near_again));
        }
    });
    (address, cuts)
}

/// An end within a record, without close_notify or CLOSE, is the end of a connection: no goodbye, no offence, and the session stays.
#[test]
fn a_connection_that_is_cut_off_costs_no_session() {
    for carriage in Carriage::ALL {
        let mut rig = rig(&format!("{}{METRICS}{HEALING}", carriage.config()));
        let (front, cuts) = cuttable(rig.address());
        let mut client = Client::join(carriage.shim(front));
        rig.round_trip(&mut client, b"before");
        let mut far = cuts.recv_timeout(PATIENCE).expect("a connection");
        let begun: &[u8] = match carriage {
            Carriage::WebSocket => &[BINARY, 0xfe, 0x40],
            _ => &[23, 3, 3, 0x40, 0, 7],
        };
        far.write_all(begun).expect("it is taken");
        far.shutdown(Shutdown::Both).expect("it is connected");
        let Client { frames, session } = client;
        wait_for(&rig, "voltlane_sessions_went_away_total", 1);
        drop(frames);
        rig.link.send(session.id, b"missed");
        let mut client = session.resume(carriage.shim(rig.address()));
        rig.link.expect_resumed(client.id());
        client.expect(b"missed");
        rig.round_trip(&mut client, b"back");
        assert_eq!(rig.edge.metrics().value(BROKEN), 0, "{carriage:?}");
        rig.stop();
    }
}
