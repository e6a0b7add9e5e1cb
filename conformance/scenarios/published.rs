//! The published client and backend libraries, with each other and with ours. (SPEC 14)

use conformance::libraries::{BOTH, EchoBackend, client, joined, packet, run_on};
use conformance::published::{Heard, PublishedBackend, PublishedClient};
use conformance::{Client, Edge, Runtime, Smol, Tokio, bytes_of};
use voltlane_driver::client::{Code, Event, Versions};

use super::{HEALING, rig};

const SIZES: [usize; 14] = [
    1,
    0,
    2,
    9,
    100,
    250,
    251,
    1_448,
    4_096,
    65_535,
    65_536,
    100_000,
    500_000,
    1 << 20,
];

fn edge(config: &str) -> (Edge, PublishedBackend) {
    let backend = PublishedBackend::start();
    let edge = Edge::start(super::PROGRAM, backend.address(), config);
    (edge, backend)
}

#[test]
fn joins_and_packets_of_every_size_pass_both_ways() {
    let (edge, backend) = edge("");
    let mut client = PublishedClient::join(edge.address());
    for (seed, size) in (0..).zip(SIZES) {
        let data = bytes_of(seed, size);
        client.send(&data);
        backend.expect(Heard::Data(client.id(), data.clone()));
        client.expect(&data);
    }
}

#[test]
fn many_clients_get_their_own() {
    let (edge, _backend) = edge("");
    let mut clients: Vec<_> = (0..50)
        .map(|_| PublishedClient::join(edge.address()))
        .collect();
    for round in 0..5 {
        for client in &mut clients {
            client.send(&bytes_of(client.id() ^ round, 300));
        }
        for client in &mut clients {
            client.expect(&bytes_of(client.id() ^ round, 300));
        }
    }
    let mut ids: Vec<_> = clients.iter().map(PublishedClient::id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 50);
}

/// It keeps its old connection open while it reconnects, so each time is a takeover.
#[test]
fn a_client_that_reconnects_stays_who_it_is() {
    let (edge, backend) = edge(HEALING);
    let mut client = PublishedClient::join(edge.address());
    let id = client.id();
    for round in 0..5_u64 {
        let data = bytes_of(round, 1_000);
        client.send(&data);
        backend.expect(Heard::Data(id, data.clone()));
        client.expect(&data);
        client.reconnect().expect("it is known");
        assert_eq!(client.id(), id);
        backend.expect(Heard::Reconnection(id));
    }
}

#[test]
fn missed_packets_are_there_when_it_is_back() {
    let mut rig = rig(HEALING);
    let mut client = PublishedClient::join(rig.address());
    client.send(b"here");
    let id = rig.link.recv().id;
    assert_eq!(id.as_u64(), client.id());
    client.shut_down();
    // The end was seen once the other side has ended the connection as well.
    assert!(client.try_recv().is_err());
    for n in 0..100 {
        rig.link.send(id, &bytes_of(n, 500));
    }
    client.reconnect().expect("it is known");
    rig.link.expect_resumed(id);
    rig.link.send(id, b"newer");
    for n in 0..100 {
        client.expect(&bytes_of(n, 500));
    }
    client.expect(b"newer");
    client.send(b"and on");
    rig.link.expect_data(id, b"and on");
}

#[test]
fn a_kicked_client_ends_and_does_not_come_back() {
    let (edge, backend) = edge(HEALING);
    let mut kicked = PublishedClient::join(edge.address());
    let mut other = PublishedClient::join(edge.address());
    kicked.send(b"hello");
    backend.expect(Heard::Data(kicked.id(), b"hello".to_vec()));
    kicked.expect(b"hello");
    let command = PublishedBackend::kick_command(kicked.id());
    other.send(&command);
    backend.expect(Heard::Data(other.id(), command.clone()));
    backend.expect(Heard::Failure(kicked.id(), "kicked".into()));
    assert!(kicked.try_recv().is_err());
    assert!(kicked.reconnect().is_err());
    other.send(&command);
    backend.expect(Heard::Data(other.id(), command));
    backend.expect(Heard::Failure(kicked.id(), "unknown client".into()));
    other.send(b"still here");
    other.expect(b"still here");
}

#[test]
fn the_published_backend_hears_of_ends_and_returns() {
    // Long enough that a suspended machine does not make the client miss the deadline.
    let (edge, backend) =
        edge("clients.stale_timeout_secs = 4\nclients.stale_reap_interval_secs = 0\n");
    let mut client = Client::join(edge.address());
    let id = client.id().as_u64();
    client.send(b"here");
    backend.expect(Heard::Data(id, b"here".to_vec()));
    client.expect(b"here");
    let client = client.leave().resume(edge.address());
    backend.expect(Heard::Reconnection(id));
    client.leave();
    backend.expect(Heard::Failure(id, "expired".into()));
}

/// The published client with our backend.
#[test]
fn with_our_backends() {
    with_our_backend::<Tokio>();
    with_our_backend::<Smol>();
}

fn with_our_backend<B: Runtime>() {
    let backend = EchoBackend::start::<B>();
    let edge = Edge::start(super::PROGRAM, backend.address(), HEALING);
    let mut client = PublishedClient::join(edge.address());
    for (seed, size) in (0..).zip(SIZES) {
        let data = bytes_of(seed, size);
        client.send(&data);
        client.expect(&data);
        // This many takeovers are allowed at once.
        if seed < 10 {
            client.reconnect().expect("it is known");
        }
    }
    client.send(b"stop");
    client.expect(b"stopped");
    backend.events();
}

/// Our clients with the published backend.
#[test]
fn with_our_clients() {
    for versions in BOTH {
        with_our_client::<Tokio>(versions);
        with_our_client::<Smol>(versions);
    }
}

fn with_our_client<C: Runtime>(versions: Versions) {
    let (edge, backend) = edge(HEALING);
    let address = edge.address().to_string();
    run_on::<C, _>(async move {
        let mut client = client::<C>(address, versions);
        let id = joined(&mut client).await;
        for (seed, size) in (0..).zip(SIZES) {
            let data = bytes_of(seed, size);
            client.send(&data).await.expect("not too long");
            assert!(packet(&mut client).await == data, "{size}");
        }
        client.drop_connection();
        while !matches!(client.recv().await.expect("known"), Event::Resumed { .. }) {}
        assert_eq!(client.id(), id);
        client.send(b"back").await.expect("short");
        assert_eq!(packet(&mut client).await, b"back");
        let kick = PublishedBackend::kick_command(id.as_u64());
        client.send(&kick).await.expect("short");
        let end = loop {
            if let Event::Ended { end, .. } = client.recv().await.expect("an end") {
                break end;
            }
        };
        // Version 2 cannot tell a kick from an expiry.
        let code = match versions {
            Versions::V2 => Code::GONE,
            _ => Code::KICKED,
        };
        assert_eq!(end.code, code);
    });
    let heard: Vec<_> = std::iter::repeat_with(|| backend.heard())
        .take(SIZES.len() + 4)
        .filter(|heard| !matches!(heard, Heard::Data(..)))
        .collect();
    assert!(
        matches!(&heard[..], [Heard::Reconnection(_), Heard::Failure(_, reason)] if reason == "kicked")
    );
}
