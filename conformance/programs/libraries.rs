//! WebSocket libraries of other languages: `ws` of npm, and `websockets` of Python. (SPEC 16.2 to 16.4)
//!
//! Each passes the bytes of our clients on, so what they do is the protocol, and what the library does is the carriage.

use std::net::SocketAddr;
use std::process::Command;

use conformance::others::{node, python, script};
use conformance::published::{Heard, PublishedBackend, PublishedClient};
use conformance::shim::{Carriage, Shim as _, certificate_file};
use conformance::{Client, Edge, Frames, Process, Signal, bytes_of};

use super::{config, rigs, start, use_doors};

fn ws() -> Option<(Command, &'static str)> {
    Some((node("ws")?, "relay.cjs"))
}

fn websockets() -> Option<(Command, &'static str)> {
    Some((python("websockets")?, "relay.py"))
}

type Library = fn() -> Option<(Command, &'static str)>;

/// Starts a relay to an edge. Returns it and its address.
fn relay(
    library: Library,
    carriage: Carriage,
    edge: SocketAddr,
    more: &[&str],
) -> Option<(Process, SocketAddr)> {
    let (command, file) = library()?;
    let file = script(file).display().to_string();
    let authority = certificate_file("authority.pem").display().to_string();
    let (url, authority) = match carriage {
        Carriage::WebSocketTls => (format!("wss://{edge}/"), Some(&*authority)),
        _ => (format!("ws://{edge}/"), None),
    };
    let arguments: Vec<_> = [&*file, &url].into_iter().chain(authority).collect();
    let mut relay = start(command, &[&arguments[..], more].concat());
    let line = relay.stdout("listening ");
    let port = line.rsplit(' ').next().and_then(|port| port.parse().ok());
    Some((relay, ([127, 0, 0, 1], port.expect("a port")).into()))
}

fn passes_everything_on(library: Library) {
    for carriage in [Carriage::WebSocket, Carriage::WebSocketTls] {
        for mut rig in rigs(&config(carriage)) {
            let Some((mut relay, door)) = relay(library, carriage, rig.address(), &[]) else {
                return;
            };
            let client = use_doors(&mut rig, door, door);
            // It has offered compression, which is never taken.
            relay.stdout("open voltlane.v2 none");
            relay.stdout("pong are you there?");
            relay.stdout("open voltlane.v2 none");
            rig.edge.signal(Signal::TERM);
            relay.stdout("closed 1001");
            drop((client, rig.link, rig.backend));
            rig.edge.expect_end(Some(0));
        }
    }
}

#[test]
fn ws_passes_everything_on() {
    passes_everything_on(ws);
}

#[test]
fn websockets_passes_everything_on() {
    passes_everything_on(websockets);
}

fn is_told_that_text_is_not_taken(library: Library) {
    for mut rig in rigs(&config(Carriage::WebSocket)) {
        let edge = rig.address();
        let Some((mut relay, door)) = relay(library, Carriage::WebSocket, edge, &["--text"]) else {
            return;
        };
        let mut frames = Frames::connect(door);
        relay.stdout("closed 1003");
        frames.expect_closed();
        let mut other = Client::join(Carriage::WebSocket.shim(edge));
        rig.round_trip(&mut other, b"undisturbed");
        rig.stop();
    }
}

#[test]
fn ws_is_told_that_text_is_not_taken() {
    is_told_that_text_is_not_taken(ws);
}

#[test]
fn websockets_is_told_that_text_is_not_taken() {
    is_told_that_text_is_not_taken(websockets);
}

/// The published client knows TCP alone.
fn carries_the_published_client(library: Library) {
    for program in crate::PROGRAMS {
        let backend = PublishedBackend::start();
        let edge = Edge::start(program, backend.address(), &config(Carriage::WebSocketTls));
        let Some((_relay, door)) = relay(library, Carriage::WebSocketTls, edge.address(), &[])
        else {
            return;
        };
        let mut client = PublishedClient::join(door);
        for (seed, size) in (0..).zip([1, 300, 100_000]) {
            let data = bytes_of(seed, size);
            client.send(&data);
            backend.expect(Heard::Data(client.id(), data.clone()));
            client.expect(&data);
        }
        client.reconnect().expect("it is known");
        backend.expect(Heard::Reconnection(client.id()));
    }
}

#[test]
fn ws_carries_the_published_client() {
    carries_the_published_client(ws);
}

#[test]
fn websockets_carries_the_published_client() {
    carries_the_published_client(websockets);
}
