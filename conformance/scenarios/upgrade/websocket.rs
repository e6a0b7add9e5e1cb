//! Connections in WebSocket messages go on in a new process, wherever they are in a frame. (SPEC 41.1(c))

use conformance::libraries::{EchoBackend, client_over, options, run_on, steady_packet};
use conformance::shim::{Carriage, Shim as _};
use conformance::{Runtime, Smol, Tokio, bytes_of};
use voltlane_core::wire::frame::encode_frame;
use voltlane_doors::DoorConnector;
use voltlane_driver::client::Versions;

use super::super::door_words::Raw;
use super::*;

const MASK: [u8; 4] = [0x5a, 0xa5, 0x0f, 0xf1];
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
/// The first fragment of a binary message, and the last one.
const FIRST: u8 = 0x02;
const LAST: u8 = 0x80;

/// A client's frame with a length of two bytes if it has 126 of them or more.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = conformance::websocket::frame(first, payload);
    let at = frame.len() - payload.len();
    frame[at - 4..at].copy_from_slice(&MASK);
    let payload = frame[at..].iter_mut().zip(MASK.iter().cycle());
    payload.for_each(|(byte, mask)| *byte ^= mask);
    frame
}

fn packet(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_frame(text, &mut bytes);
    bytes
}

#[test]
fn a_connection_in_websocket_messages_goes_on_within_any_frame() {
    let place = Place::new(1);
    place.configure(1, &Carriage::WebSocket.config());
    let (mut edge, mut link) = place.start();
    let (mut raw, id) = Raw::joined(edge.address());
    let text = [b'x'; 200];
    let whole = packet(&text);
    let message = masked(conformance::websocket::BINARY, &whole);
    let ping = masked(PING, b"are you there?");
    let fragments = [masked(FIRST, &whole[..50]), masked(LAST, &whole[50..])].concat();
    // Within the header, the length and the mask; within the payload; within a PING; between fragments, and within the second.
    let cuts: [(&[u8], usize); 8] = [
        (&message, 1),
        (&message, 3),
        (&message, 6),
        (&message, 107),
        (&ping, 1),
        (&ping, 11),
        (&fragments, 56),
        (&fragments, 59),
    ];
    for (round, (bytes, cut)) in (0_u8..).zip(cuts) {
        // What comes with a packet that was heard was read.
        let first = masked(conformance::websocket::BINARY, &packet(&[round]));
        raw.say(&[&first, &bytes[..cut]].concat());
        link.expect_data(id, &[round]);
        edge = place.replace(edge);
        raw.say(&bytes[cut..]);
        if bytes == ping {
            assert_eq!(raw.frame(), (PONG, b"are you there?".to_vec()));
        } else {
            link.expect_data(id, &text);
        }
        link.send(id, &[round]);
        let down = (conformance::websocket::BINARY, packet(&[round]));
        assert_eq!(raw.frame(), down, "of {cut} bytes");
    }
    edge.stop();
}

/// Clients of version 3, in packets of all lengths. Each comes back before the next one is sent, and nobody may be dropped.
fn clients_of_version_3_stay<R: Runtime>(shards: u8) {
    const CLIENTS: usize = 4;
    let backend = EchoBackend::start::<R>();
    let mut place = Place::new(shards);
    place.master = backend.address();
    place.configure(shards, &Carriage::WebSocket.config());
    let edge = Edge::spawn(place.command(&[]));
    let (address, ends) = (edge.address().to_string(), Arc::new(AtomicBool::new(false)));
    let (has_begun, begun) = mpsc::channel();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let inner = R::connector(address.clone(), Default::default());
            let connector = DoorConnector::new(inner).with_websocket("edge.example.com", "/");
            let connector = connector.expect("a host and a path");
            let (ends, has_begun) = (Arc::clone(&ends), has_begun.clone());
            let talk = async move {
                let mut client = client_over::<R>(connector, options(Versions::V3));
                let mut sent = 0_usize;
                while !ends.load(Ordering::Relaxed) {
                    let data =
                        bytes_of(sent as u64, [1, 300, 20_000, 150_000][(sent + number) % 4]);
                    client.send(&data).await.expect("it is queued");
                    assert!(steady_packet(&mut client).await == data, "packet {sent}");
                    sent += 1;
                    let _ = has_begun.send(());
                }
                sent
            };
            thread::spawn(move || run_on::<R, _>(talk))
        })
        .collect();
    for _ in 0..CLIENTS * 2 {
        let begun = begun.recv_timeout(conformance::PATIENCE);
        begun.expect("they all begin");
    }
    let mut successor = Successor(None);
    for _ in 0..3 {
        successor.replace(&place);
    }
    ends.store(true, Ordering::Relaxed);
    let sent = clients
        .into_iter()
        .map(|client| client.join().expect("no client is dropped"));
    let sent: Vec<usize> = sent.collect();
    println!("packets {sent:?}");
    let log = edge.log();
    let took = log
        .lines()
        .filter(|line| line.contains("took over from the process before"));
    for line in took {
        assert!(line.contains("connections=4 "), "{line}");
    }
    drop(successor);
    edge.expect_end(Some(0));
}

#[test]
fn clients_of_version_3_in_websocket_messages_stay_connected_on_tokio() {
    clients_of_version_3_stay::<Tokio>(1);
    clients_of_version_3_stay::<Tokio>(2);
}

#[test]
fn clients_of_version_3_in_websocket_messages_stay_connected_on_smol() {
    clients_of_version_3_stay::<Smol>(1);
    clients_of_version_3_stay::<Smol>(2);
}
