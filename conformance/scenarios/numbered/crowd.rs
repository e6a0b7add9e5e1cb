//! Very many clients of version 3 at once.

use std::thread;

use conformance::libraries::{ClientOn, EchoBackend, absorb, all, packet, run_on};
use conformance::{Edge, Runtime, Smol, Tokio, bytes_of};
use sha2::{Digest, Sha256};
use voltlane_doors::client::Builder;
use voltlane_driver::client::Client as OldClient;
use voltlane_driver::client::Event;

const THREADS: u64 = 5;
const CLIENTS_OF_A_THREAD: u64 = 100;
const PACKETS: u64 = 10;

#[test]
fn five_hundred_clients_of_tokio_drop_and_come_back() {
    five_hundred_clients::<Tokio>();
}

#[test]
fn five_hundred_clients_of_smol_drop_and_come_back() {
    five_hundred_clients::<Smol>();
}

/// Each client loses its connection in the middle of its packets, and the digests of what it sent, of what the backend received and of what
/// came back are equal.
fn five_hundred_clients<R: Runtime>() {
    let _ = voltlane_app::Resources::raise_and_measure();
    let backend = EchoBackend::start::<R>();
    let edge = Edge::start(crate::PROGRAM, backend.address(), "");
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
        let mut client: ClientOn<R> = OldClient::connect(address);
        client.send(b"stop").await.expect("short");
        assert_eq!(packet::<R>(&mut client).await, b"stopped");
    });
    backend.events();
    edge.stop();
}

async fn talk<R: Runtime>(address: String, first: u64) {
    all((first..first + CLIENTS_OF_A_THREAD).map(|seed| {
        let client = Builder::on::<R>(&address).connect();
        async move {
            let mut client = client.await.expect("an edge");
            let (mut sent, mut received) = (Sha256::new(), Sha256::new());
            for n in 0..PACKETS {
                let data = bytes_of(seed << 16 | n, (seed * 31 + n * 977) as usize % 3_000);
                client.send(&data).await.expect("not too long");
                absorb(&mut sent, &data);
                if n == 0 {
                    // Its Join record is there.
                    client.flush().await.expect("the session goes on");
                }
                if n == PACKETS / 2 {
                    client.drop_connection();
                }
            }
            let mut packets = 0;
            while packets < PACKETS {
                match client.recv().await.expect("the session goes on") {
                    Event::Packet { data, .. } => {
                        absorb(&mut received, &data);
                        packets += 1;
                    }
                    Event::Ended { end, .. } => panic!("{end}"),
                    _ => {}
                }
            }
            client.send(b"digest").await.expect("short");
            let heard = loop {
                match client.recv().await.expect("the session goes on") {
                    Event::Packet { data, .. } => break data,
                    Event::Ended { end, .. } => panic!("{end}"),
                    _ => {}
                }
            };
            let (sent, received) = (sent.finalize(), received.finalize());
            assert!(sent == received && sent[..] == heard, "client {seed}");
            let end = client.close().await;
            assert_eq!(end.ledgers.up.acknowledged, PACKETS + 1);
        }
    }))
    .await;
}
