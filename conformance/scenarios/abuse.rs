//! The damage that one stranger can do. (SPEC 10.6; loopback is exempt by default, but not here)

use std::thread;
use std::time::{Duration, Instant};

use conformance::{Challenged, Client, Frames, Incoming, PATIENCE, bytes_of};
use voltlane_core::ClientId;

use super::{METRICS, rig};

/// Makes loopback a source like any other. Where version 3 is offered a connection beyond its limits is accepted for a Claim alone.
const NO_EXEMPTION: &str = "limits.exempt = []\nlistener.versions = [2]\n";

/// Returns the connection if the edge accepts it, which shows by an answer.
pub(super) fn is_taken(edge: std::net::SocketAddr) -> Option<Frames> {
    let mut frames = Frames::connect(edge);
    let hello = [2, 0, 0, 0, 1, 2];
    // A connection that was turned away may already be gone.
    let _ = frames.try_write(&hello);
    matches!(frames.incoming(), Incoming::Body(_)).then_some(frames)
}

/// The generator of secp256k1, compressed: a valid public key.
const ANY_KEY: [u8; 33] = [
    0x02, 0x79, 0xbe, 0x66, 0x7e, 0xf9, 0xdc, 0xbb, 0xac, 0x55, 0xa0, 0x62, 0x95, 0xce, 0x87, 0x0b,
    0x07, 0x02, 0x9b, 0xfc, 0xdb, 0x2d, 0xce, 0x28, 0xd9, 0x59, 0xf2, 0x81, 0x5b, 0x16, 0xf8, 0x17,
    0x98,
];

#[test]
fn connections_of_one_source_are_bounded_even_when_all_come_at_once() {
    let rig = rig(&format!("{NO_EXEMPTION}limits.source_connections = 5\n"));
    let address = rig.address();
    let attempts: Vec<_> = (0..20)
        .map(|_| thread::spawn(move || is_taken(address)))
        .collect();
    let taken: Vec<_> = attempts
        .into_iter()
        .filter_map(|attempt| attempt.join().expect("no panic"))
        .collect();
    assert_eq!(taken.len(), 5);
    // The places are free again once the connections have ended.
    for frames in taken {
        let mut frames = frames;
        frames.finish();
        frames.expect_fin();
    }
    // A client sees the end a little before its place is free.
    let begin = Instant::now();
    while is_taken(address).is_none() {
        assert!(begin.elapsed() < PATIENCE, "no place comes back");
    }
    rig.stop();
}

#[test]
fn the_pace_of_one_source_is_bounded_and_recovers() {
    let rig = rig(&format!(
        "{NO_EXEMPTION}limits.source_rate = 10\nlimits.source_burst = 5\n"
    ));
    let begin = Instant::now();
    let taken = (0..50)
        .filter(|_| is_taken(rig.address()).is_some())
        .count();
    let most = 6 + 10 * begin.elapsed().as_millis() / 1_000;
    assert!(
        taken >= 5 && taken as u128 <= most,
        "{taken} of at most {most}"
    );
    while is_taken(rig.address()).is_none() {
        assert!(begin.elapsed() < PATIENCE, "it never recovers");
    }
}

#[test]
fn from_a_source_that_sends_nonsense_few_begin_and_all_come_back() {
    let mut rig = rig(NO_EXEMPTION);
    let mut client = rig.join();
    // Each bad frame costs ten seconds, and penalties act from fifteen on.
    for _ in 0..3 {
        let mut frames = Frames::connect(rig.address());
        let _ = frames.try_write(&[0xff; 8]);
        frames.expect_closed();
    }
    // One session per second may begin.
    let mut newcomers: Vec<_> = (0..10).map(|_| Frames::connect(rig.address())).collect();
    for newcomer in &mut newcomers {
        let _ = newcomer.try_write(&[2, 0, 0, 0, 1, 2, 35, 0, 0, 0, 2, 33]);
        let _ = newcomer.try_write(&ANY_KEY);
    }
    let begins = |mut newcomer: Frames| {
        matches!(newcomer.incoming(), Incoming::Body(_))
            && matches!(newcomer.incoming(), Incoming::Body(_))
    };
    let begun = newcomers.into_iter().map(begins).filter(|begun| *begun);
    assert!(begun.count() < 10);
    // Connected clients stay connected, and earlier ones can resume.
    rig.round_trip(&mut client, b"undisturbed");
    let session = client.leave();
    let mut client = rig.resume(session);
    rig.round_trip(&mut client, b"and back");
}

#[test]
fn exempt_networks_are_exempt() {
    let rig =
        rig("limits.source_connections = 1\nlimits.source_rate = 1\nlimits.source_burst = 1\n");
    let taken: Vec<_> = (0..10).filter_map(|_| is_taken(rig.address())).collect();
    assert_eq!(taken.len(), 10);
}

#[test]
fn an_excess_that_is_only_reported_is_accepted() {
    let rig = rig(&format!(
        "{NO_EXEMPTION}limits.source_connections = 1\nlimits.enforce_sources = \"report\"\n"
    ));
    let taken: Vec<_> = (0..10).filter_map(|_| is_taken(rig.address())).collect();
    assert_eq!(taken.len(), 10);
}

/// Silent strangers hold three quarters of the places, but clients that come back are still admitted.
#[test]
fn half_open_connections_leave_room_for_those_who_come_back() {
    let mut rig = rig("limits.max_half_open = 8\n");
    let session = rig.join().leave();
    let mut silent: Vec<_> = (0..20).map(|_| Frames::connect(rig.address())).collect();
    let mut client = rig.resume(session);
    rig.round_trip(&mut client, b"back");
    // The connection that was silent for longest has made room.
    silent[0].expect_closed();
    let mut newcomer = Client::join(rig.address());
    rig.round_trip(&mut newcomer, b"new");
}

/// Strangers that claim an id and then stall hold three quarters of the places, but newcomers and clients that come back are still
/// admitted.
#[test]
fn claims_that_stall_leave_room_for_newcomers_and_for_those_who_come_back() {
    let mut rig = rig("limits.max_half_open = 8\n");
    let session = rig.join().leave();
    let nobody = ClientId::from_u64(1);
    let mut stalled: Vec<_> = (0..20)
        .map(|_| Challenged::claim(Frames::connect(rig.address()), nobody))
        .collect();
    let mut newcomer = Client::join(rig.address());
    rig.round_trip(&mut newcomer, b"new");
    let mut client = rig.resume(session);
    rig.round_trip(&mut client, b"back");
    // The claim that stalled for longest has made room.
    stalled[0].frames.expect_closed();
}

#[test]
fn connections_that_never_speak_are_closed_at_the_deadline_and_the_edge_is_as_before() {
    let mut rig = rig("limits.handshake_timeout_secs = 4\n");
    let begin = Instant::now();
    rig.join().leave();
    let silent: Vec<_> = (0..500).map(|_| Frames::connect(rig.address())).collect();
    for mut frames in silent {
        frames.expect_closed();
    }
    assert!(begin.elapsed() >= Duration::from_secs(4));
    rig.fence();
}

/// When descriptors run out, connected clients stay, nothing spins, and once there are descriptors again everything works as before.
/// (BAD-INPUT G8)
#[test]
fn when_descriptors_run_out_it_neither_falls_nor_spins() {
    let backend = conformance::Backend::bind();
    let directory = conformance::Directory::new();
    directory.write(
        "connserver.toml",
        "limits.max_connections = 10_000\nlimits.handshake_timeout_secs = 4\n",
    );
    let master = backend.address().to_string();
    let edge = conformance::Edge::spawn(super::PROGRAM.command_with_descriptors(
        48,
        &directory,
        &["--listen", "127.0.0.1:0", "--master", &master],
    ));
    let mut rig = conformance::Rig {
        link: backend.accept(),
        edge,
        backend,
    };
    let mut client = rig.join();
    let silent: Vec<_> = (0..100).map(|_| Frames::connect(rig.address())).collect();
    for n in 0..200_u32 {
        rig.round_trip(&mut client, &n.to_le_bytes());
    }
    let busy = rig.edge.cpu_time();
    let mut last = silent;
    // The first of them were accepted, and time out.
    last[0].expect_closed();
    let spent = rig.edge.cpu_time() - busy;
    assert!(spent < Duration::from_millis(500), "{spent:?} for waiting");
    drop(last);
    // The edge learns one by one that they are gone. Meanwhile a new connection may still be turned away.
    let begin = Instant::now();
    let mut newcomer = loop {
        if let Some(frames) = is_taken(rig.address()) {
            break frames;
        }
        assert!(begin.elapsed() < PATIENCE, "nobody is let in any more");
    };
    newcomer.finish();
    newcomer.expect_fin();
    rig.round_trip(&mut client, b"as before");
    rig.fence();
    rig.stop();
}

/// The bounds follow the descriptors, so that a crowd is turned away by them and never by the system. Connections that linger after their
/// end, the metrics and both shards have descriptors as well.
#[test]
fn a_crowd_never_takes_the_last_descriptor() {
    for descriptors in [100, 200] {
        let backend = conformance::Backend::bind();
        let directory = conformance::Directory::new();
        directory.write("connserver.toml", format!("{METRICS}general.shards = 2\n"));
        let master = backend.address().to_string();
        let arguments = ["--listen", "127.0.0.1:0", "--master", &master];
        let command = super::PROGRAM.command_with_descriptors(descriptors, &directory, &arguments);
        let edge = conformance::Edge::spawn(command);
        let mut rig = conformance::Rig {
            link: backend.accept(),
            edge,
            backend,
        };
        let mut client = rig.join();
        for _ in 0..4 {
            let mut crowd: Vec<_> = (0..300).map(|_| Frames::connect(rig.address())).collect();
            for stranger in &mut crowd {
                // Whoever is turned away has closed already. The others are closed in order for it, and linger.
                let _ = stranger.try_write(b"GET / HTTP/1.1\r\n\r\n");
            }
            crowd.iter_mut().for_each(Frames::expect_closed);
            rig.round_trip(&mut client, b"served meanwhile");
        }
        let log = rig.edge.log();
        assert!(!log.contains("Too many open files"), "{descriptors}: {log}");
        assert!(log.contains("limit=limits.max_connections"), "{log}");
        rig.stop();
    }
}

/// While the backend takes nothing, their sockets are not read, and so neither are their ends.
#[test]
fn a_client_that_leaves_a_stalled_backend_frees_its_place_and_loses_nothing() {
    const KEPT: u64 = 40;
    let mut rig = rig(&format!(
        "{METRICS}general.shards = 1\nlimits.max_connections = 7\nmaster.channel_capacity = 8\n"
    ));
    let address = rig.address();
    let mut loud = rig.join();
    let others: Vec<_> = (0..6).map(|_| rig.join()).collect();
    let loud = thread::spawn(move || {
        for number in 0..300 {
            loud.send(&bytes_of(number, 65_536));
        }
        loud
    });
    let begin = Instant::now();
    let wait_for = |waiting: u64| {
        while rig.edge.metrics().value("voltlane_clients_waiting") != waiting {
            assert!(begin.elapsed() < PATIENCE, "the link is not full");
        }
    };
    wait_for(1);
    let others: Vec<_> = (0u64..)
        .zip(others)
        .map(|(number, mut other)| {
            other.send(b"in line");
            (number, other)
        })
        .collect();
    wait_for(7);
    assert!(is_taken(address).is_none(), "all places are taken");
    let mut left = Vec::new();
    for (number, mut other) in others {
        for packet in 0..KEPT {
            other.send(&bytes_of(KEPT * number + packet, 1_000));
        }
        if number < 3 {
            left.push((number, other.leave()));
        } else {
            let _ = other.reset();
        }
    }
    let newcomers: Vec<_> = (0..6)
        .map(|_| {
            loop {
                if let Some(newcomer) = is_taken(address) {
                    break newcomer;
                }
                assert!(begin.elapsed() < 2 * PATIENCE, "their places stay taken");
            }
        })
        .collect();
    // Everything from clients that ended in order arrives once the backend continues.
    let mut heard: Vec<Vec<Vec<u8>>> = vec![Vec::new(); left.len()];
    let mut of_loud = 0;
    while of_loud < 300
        || heard
            .iter()
            .any(|packets| packets.len() < 1 + KEPT as usize)
    {
        let packet = rig.link.recv();
        match left.iter().position(|(_, session)| session.id == packet.id) {
            Some(at) => heard[at].push(packet.data),
            None => of_loud += usize::from(packet.data.len() == 65_536),
        }
    }
    for ((number, _), packets) in left.iter().zip(&heard) {
        let kept = (0..KEPT).map(|packet| bytes_of(KEPT * number + packet, 1_000));
        let said: Vec<_> = std::iter::once(b"in line".to_vec()).chain(kept).collect();
        assert_eq!(*packets, said);
    }
    drop((newcomers, loud.join().expect("no panic")));
    rig.stop();
}

/// Clients that hold memory come and go, round after round, and the edge does not grow.
#[test]
fn memory_comes_back_after_an_attack() {
    let mut rig = rig(&format!("{METRICS}clients.stale_timeout_secs = 0\n"));
    let mut round = || {
        let hoard: Vec<_> = (0..100)
            .map(|n| {
                let mut client = Client::join(rig.address());
                // Half of the largest frame.
                client.frames.write(&(1_u32 << 20).to_le_bytes());
                client.frames.write(&bytes_of(n, 512 * 1024));
                client
            })
            .collect();
        for client in hoard {
            let session = client.leave();
            rig.link.expect_failure(session.id, "expired");
        }
        let metrics = rig.edge.metrics();
        assert_eq!(metrics.value("voltlane_held_bytes"), 0);
        assert_eq!(metrics.sum("voltlane_connections"), 0);
        rig.edge.resident_bytes()
    };
    // An allocator may keep for each shard as much as it once had at most. It must not grow with every round.
    let settled = [(); 6].map(|()| round()).into_iter().max();
    let settled = settled.expect("six rounds");
    let last = [(); 3].map(|()| round())[2];
    // Each client held 512 KiB, so a leak of a few of them would show.
    assert!(
        last < settled + (4 << 20),
        "{settled} bytes, {last} in the end"
    );
    rig.stop();
}
