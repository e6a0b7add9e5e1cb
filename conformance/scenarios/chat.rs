//! The chat example with three people.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;

use conformance::{Client, Edge, PATIENCE};

/// Runs the example on a thread of its own.
fn chat() -> SocketAddr {
    let (sender, bound) = mpsc::channel();
    thread::spawn(|| {
        conformance::run_chat(move |address| sender.send(address).expect("somebody waits"));
    });
    bound.recv_timeout(PATIENCE).expect("it listens")
}

#[test]
fn three_people_chat() {
    // The backend receives packets in the order of sending only among clients of one shard.
    let config = format!("general.shards = 1\n{}", super::HEALING);
    let edge = Edge::start(crate::PROGRAM, chat(), &config);
    let mut ada = Client::join(edge.address());
    ada.send(b"Ada");
    // The room is empty: her arrival is not announced, and her words reach no one.
    ada.send(b"Anybody?");
    let mut bob = Client::join(edge.address());
    bob.send(b"Bob");
    ada.expect(b"* Bob joined");
    let mut eve = Client::join(edge.address());
    eve.send(b"Eve");
    ada.expect(b"* Eve joined");
    bob.expect(b"* Eve joined");

    bob.send(b"Hello, both");
    ada.expect(b"Bob: Hello, both");
    eve.expect(b"Bob: Hello, both");

    // Bob's network fails, the others keep talking, and he misses nothing.
    let bob = bob.leave();
    ada.send(b"Where is he?");
    eve.expect(b"Ada: Where is he?");
    let mut bob = bob.resume(edge.address());
    bob.expect(b"Ada: Where is he?");
    ada.expect(b"* Bob is back");
    eve.expect(b"* Bob is back");
    bob.send(b"In a tunnel");
    ada.expect(b"Bob: In a tunnel");
    eve.expect(b"Bob: In a tunnel");
}
