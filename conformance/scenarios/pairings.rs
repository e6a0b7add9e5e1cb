//! The libraries of both runtimes, in all four pairings, through this edge.

use conformance::libraries::{
    BOTH, EchoBackend, absorb, all, client, client_with, event, joined, options, packet, run_on,
};
use conformance::{Backend, Directory, Edge, Runtime, Smol, Tokio, bytes_of, own_host};
use sha2::{Digest, Sha256};
use voltlane_driver::backend;
use voltlane_driver::client::{Client, Code, Event, SavedSession, Versions};

/// Runs a scenario with every client library on every backend library.
macro_rules! pairings {
    ($($(#[$doc:meta])* $scenario:ident;)+) => {$(
        mod $scenario {
            use super::{Smol, Tokio};

            $(#[$doc])*
            #[test]
            fn tokio_tokio() {
                super::$scenario::<Tokio, Tokio>();
            }

            #[test]
            fn tokio_smol() {
                super::$scenario::<Tokio, Smol>();
            }

            #[test]
            fn smol_tokio() {
                super::$scenario::<Smol, Tokio>();
            }

            #[test]
            fn smol_smol() {
                super::$scenario::<Smol, Smol>();
            }
        }
    )+};
}

pairings! {
    every_client_gets_its_own;
    clients_that_drop_come_back_by_themselves;
    a_kicked_client_ends;
    a_saved_session_is_the_same_client;
    clients_outlive_their_backend;
}

const HEALING: &str = super::HEALING;

/// Starts an edge between a backend of the library and clients.
fn edge<B: Runtime>() -> (Edge, EchoBackend) {
    let backend = EchoBackend::start::<B>();
    let edge = Edge::start(super::PROGRAM, backend.address(), HEALING);
    (edge, backend)
}

/// Ends a backend through a new client.
async fn stop<C: Runtime>(address: String) {
    let mut client = client::<C>(address, Versions::V3);
    client.send(b"stop").await.expect("short");
    assert_eq!(packet(&mut client).await, b"stopped");
}

/// Begins a client that resumes a saved session.
fn restored<C: Runtime>(address: String, saved: SavedSession) -> Client {
    let mut options = options(Versions::V2);
    options.saved = Some(saved);
    client_with::<C>(address, options)
}

/// Twenty clients at once, of either version, every size, and a digest of everything at the end.
fn every_client_gets_its_own<C: Runtime, B: Runtime>() {
    const SIZES: [usize; 12] = [
        0,
        1,
        2,
        9,
        100,
        1_448,
        4_096,
        10_000,
        65_536,
        100_000,
        500_000,
        1 << 20,
    ];
    let (edge, backend) = edge::<B>();
    let address = edge.address().to_string();
    run_on::<C, _>(async move {
        let versions = BOTH.into_iter().cycle();
        let ids = all((0..20_u64).zip(versions).map(|(seed, versions)| {
            let mut client = client::<C>(address.clone(), versions);
            async move {
                let id = joined(&mut client).await;
                let mut sent = Sha256::new();
                for (n, &size) in (0..).zip(&SIZES[..SIZES.len() - (seed as usize % 4)]) {
                    let data = bytes_of(seed << 32 | n, size);
                    client.send(&data).await.expect("not too long");
                    absorb(&mut sent, &data);
                    assert!(packet(&mut client).await == data, "{size}");
                }
                let too_long = vec![0; (1 << 20) + 1];
                client
                    .send(&too_long)
                    .await
                    .expect_err("it is the library's to know");
                client.send(b"digest").await.expect("short");
                assert_eq!(packet(&mut client).await, sent.finalize().to_vec());
                id
            }
        }))
        .await;
        let mut unique = ids.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), ids.len());
        stop::<C>(address).await;
    });
    backend.events();
}

/// Numbered packets, with a cut after every few: each client keeps its identity, order is kept, and nothing is duplicated. In version 3
/// nothing is lost.
fn clients_that_drop_come_back_by_themselves<C: Runtime, B: Runtime>() {
    let (edge, backend) = edge::<B>();
    let address = edge.address().to_string();
    let resumed = run_on::<C, _>(async move {
        let versions = BOTH.into_iter().cycle();
        let resumed = all((0..6).zip(versions).map(|(_, versions)| {
            let client = client::<C>(address.clone(), versions);
            drop_and_come_back(client, versions)
        }))
        .await;
        stop::<C>(address).await;
        resumed.into_iter().sum::<u32>()
    });
    let mut heard = 0;
    for event in backend.events() {
        match event {
            backend::Event::Resumed { .. } => heard += 1,
            backend::Event::Joined(joined) => heard += u32::from(joined.again),
            backend::Event::EdgeConnected { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(heard, resumed);
}

/// Drops a client at least four times. Returns how often it was resumed.
async fn drop_and_come_back(mut client: Client, versions: Versions) -> u32 {
    let id = joined(&mut client).await;
    let (mut resumed, mut last, mut n) = (0, 0_u64, 0_u64);
    while resumed < 4 {
        n += 1;
        client.send(&n.to_le_bytes()).await.expect("short");
        if n % 5 == 0 {
            client.drop_connection();
        }
        match event(&mut client).await {
            Event::Packet { data, .. } => {
                let echoed = u64::from_le_bytes(data.try_into().expect("a number"));
                assert!(echoed > last && echoed <= n, "{echoed} after {last}");
                assert!(versions == Versions::V2 || echoed == last + 1, "{echoed}");
                last = echoed;
            }
            Event::Resumed { .. } => {
                assert_eq!(client.id(), id);
                resumed += 1;
            }
            Event::Dropped { .. } | Event::CaughtUp { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    // The backend has been told of every resume before it receives this. `stop` may overtake it at another shard.
    client.send(b"last").await.expect("short");
    loop {
        match event(&mut client).await {
            Event::Packet { data, .. } if data == b"last" => return resumed,
            Event::Resumed { .. } => resumed += 1,
            _ => {}
        }
    }
}

/// Version 2 cannot tell a kick from an expiry, after which a client may start over.
fn a_kicked_client_ends<C: Runtime, B: Runtime>() {
    for (versions, code) in [(Versions::V2, Code::GONE), (Versions::V3, Code::KICKED)] {
        let (edge, backend) = edge::<B>();
        let address = edge.address().to_string();
        let kicked = run_on::<C, _>(async move {
            let mut client = client::<C>(address.clone(), versions);
            let id = joined(&mut client).await;
            client.send(b"kick").await.expect("short");
            let end = loop {
                match event(&mut client).await {
                    Event::Dropped { .. } => {}
                    Event::Ended { end, .. } => break end,
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!(end.code, code);
            assert!(client.recv().await.is_none());
            assert!(client.send(b"too late").await.is_err());
            assert_eq!(client.start_over(), versions == Versions::V2);
            if versions == Versions::V2 {
                assert_ne!(joined(&mut client).await, id);
                client.send(b"hello").await.expect("short");
                assert_eq!(packet(&mut client).await, b"hello");
            }
            stop::<C>(address).await;
            id
        });
        let events = backend.events();
        let ends = events.iter().filter(|event| match event {
            backend::Event::Ended { id, end, .. } => *id == kicked && end.code == Code::KICKED,
            _ => false,
        });
        assert_eq!(ends.count(), 1);
    }
}

fn a_saved_session_is_the_same_client<C: Runtime, B: Runtime>() {
    let (edge, backend) = edge::<B>();
    let address = edge.address().to_string();
    run_on::<C, _>(async move {
        let mut client = client::<C>(address.clone(), Versions::V2);
        let id = joined(&mut client).await;
        client.send(b"before").await.expect("short");
        assert_eq!(packet(&mut client).await, b"before");
        let saved = client.saved_session().expect("there is one").to_bytes();
        // The application was killed.
        drop(client);
        let saved = SavedSession::from_bytes(saved.as_slice()).expect("as it was");
        let mut client = restored::<C>(address.clone(), saved);
        assert!(matches!(event(&mut client).await, Event::Resumed { .. }));
        assert_eq!(client.id(), id);
        client.send(b"after").await.expect("short");
        assert_eq!(packet(&mut client).await, b"after");
        stop::<C>(address).await;
    });
    backend.events();
}

/// The backend ends and another one takes its place. Clients notice only the wait.
fn clients_outlive_their_backend<C: Runtime, B: Runtime>() {
    let (edge, backend) = edge::<B>();
    let place = backend.address().to_string();
    let address = edge.address().to_string();
    let saved = run_on::<C, _>({
        let address = address.clone();
        async move {
            let mut client = client::<C>(address.clone(), Versions::V2);
            joined(&mut client).await;
            client.send(b"one").await.expect("short");
            assert_eq!(packet(&mut client).await, b"one");
            stop::<C>(address).await;
            client.saved_session().expect("there is one")
        }
    });
    // It ends once the edge has ended the link as well. What is sent from here on waits for the next one.
    backend.events();
    let saved = run_on::<C, _>({
        let address = address.clone();
        async move {
            let client = restored::<C>(address, saved);
            client.send(b"two").await.expect("short");
            client.flush().await.expect("not refused");
            let saved = client.saved_session().expect("there is one");
            // Afterwards the edge has seen the end, and the answer waits for the next connection.
            client.close().await;
            saved
        }
    });
    let backend = EchoBackend::start_at::<B>(place);
    run_on::<C, _>(async move {
        let mut client = restored::<C>(address.clone(), saved);
        assert_eq!(packet(&mut client).await, b"two");
        stop::<C>(address).await;
    });
    backend.events();
}

/// An edge with another key at the same address is not the one that the client knows, and is told nothing.
#[test]
fn another_edge_in_the_same_place_is_refused() {
    another_edge::<Tokio>();
    another_edge::<Smol>();
}

fn another_edge<C: Runtime>() {
    let backend = Backend::bind();
    let directory = Directory::new();
    let start = |listen: &str, config: &str| {
        directory.write("connserver.toml", config);
        let master = backend.address().to_string();
        let arguments = ["--listen", listen, "--master", &master];
        Edge::spawn(super::PROGRAM.command(&directory, &arguments))
    };
    let edge = start(&format!("{}:0", own_host()), "");
    let address = edge.address().to_string();
    let saved = run_on::<C, _>({
        let address = address.clone();
        async move {
            let mut client = client::<C>(address, Versions::V2);
            joined(&mut client).await;
            client.saved_session().expect("there is one")
        }
    });
    drop(edge);
    let _edge = start(&address, "");
    run_on::<C, _>(async move {
        let mut client = restored::<C>(address, saved);
        match event(&mut client).await {
            Event::Ended { end, .. } => assert_eq!(end.code, Code::OTHER_EDGE),
            other => panic!("{other:?}"),
        }
    });
}
