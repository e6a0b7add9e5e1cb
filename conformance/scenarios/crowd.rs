//! Very many clients at once.

use std::thread;

use conformance::libraries::{BOTH, EchoBackend, absorb, all, client, joined, packet, run_on};
use conformance::{Edge, Runtime, Smol, Tokio, bytes_of};
use sha2::{Digest, Sha256};
use voltlane_driver::client::Versions;

const THREADS: u64 = 10;
const CLIENTS_OF_A_THREAD: u64 = 100;
const PACKETS: u64 = 10;

/// Nobody has to make room for others: a client of version 3 whose Join record has not arrived would find its session gone (SPEC 22(g)).
const ROOM: &str = "limits.max_half_open = 0\n";

#[test]
fn a_thousand_clients_of_tokio() {
    a_thousand_clients::<Tokio>();
}

#[test]
fn a_thousand_clients_of_smol() {
    a_thousand_clients::<Smol>();
}

/// Every other one has version 3. All clients are connected before the first one sends. Then their packets mix, and each client receives
/// its own: the digests of what it sent, of what the backend received from it and of what came back are equal.
fn a_thousand_clients<R: Runtime>() {
    let _ = voltlane_app::Resources::raise_and_measure();
    let backend = EchoBackend::start::<R>();
    let edge = Edge::start(super::PROGRAM, backend.address(), ROOM);
    let address = edge.address().to_string();
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let address = address.clone();
            thread::spawn(move || {
                run_on::<R, _>(talk::<R>(address, thread * CLIENTS_OF_A_THREAD));
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("each its own");
    }
    run_on::<R, _>(async move {
        let mut client = client::<R>(address, Versions::V3);
        client.send(b"stop").await.expect("short");
        assert_eq!(packet(&mut client).await, b"stopped");
    });
    backend.events();
    edge.stop();
}

async fn talk<R: Runtime>(address: String, first: u64) {
    let versions = BOTH.into_iter().cycle();
    let clients = all((0..CLIENTS_OF_A_THREAD).zip(versions).map(|(_, versions)| {
        let mut client = client::<R>(address.clone(), versions);
        async move {
            joined(&mut client).await;
            client
        }
    }))
    .await;
    all((first..).zip(clients).map(|(seed, mut client)| async move {
        let (mut sent, mut received) = (Sha256::new(), Sha256::new());
        for n in 0..PACKETS {
            let data = bytes_of(seed << 16 | n, (seed * 31 + n * 977) as usize % 3_000);
            client.send(&data).await.expect("not too long");
            absorb(&mut sent, &data);
        }
        for _ in 0..PACKETS {
            absorb(&mut received, &packet(&mut client).await);
        }
        client.send(b"digest").await.expect("short");
        let heard = packet(&mut client).await;
        let (sent, received) = (sent.finalize(), received.finalize());
        assert!(sent == received && sent[..] == heard, "client {seed}");
    }))
    .await;
}
