//! How sessions end, and the single notice that the backend receives. (SPEC 7.3, 9.5 to 9.7)

use std::thread;
use std::time::{Duration, Instant};

use conformance::{Client, Frames, Incoming, Packet, Signal, bytes_of, handshake};
use voltlane_core::ClientId;
use voltlane_core::v2::packets::Handshake;

use super::{HEALING, rig};

/// How long a kicked client may take to read what is queued for it. (SPEC 9.5)
const DRAIN: Duration = Duration::from_secs(1);

/// Makes sessions that are away expire after a second, each at its own deadline.
const SHORT: &str = "clients.stale_timeout_secs = 1\nclients.stale_reap_interval_secs = 0\n";

#[test]
fn a_kick_writes_what_is_queued_and_ends_the_client_for_good() {
    let mut rig = rig(HEALING);
    let mut client = rig.join();
    let begin = Instant::now();
    for n in 0..50 {
        rig.link.send(client.id(), &bytes_of(n, 10_000));
    }
    rig.link.kick(client.id());
    rig.link.expect_failure(client.id(), "kicked");
    let (packets, end) = client.frames.rest();
    for (n, packet) in (0..).zip(&packets) {
        assert!(*packet == bytes_of(n, 10_000), "{n}");
    }
    // A client that was suspended for as long as the drain may last loses the rest.
    let is_whole = packets.len() == 50 && end == Incoming::Fin { unfinished: 0 };
    assert!(
        is_whole || begin.elapsed() >= DRAIN,
        "{} {end:?}",
        packets.len()
    );
    client.session.expect_refused(rig.address());
    rig.fence();
}

#[test]
fn packets_of_a_kicked_client_are_discarded() {
    let mut rig = rig("clients.channel_bytes = 67_108_864\n");
    let mut client = Client::join_over(Frames::connect_narrow(rig.address(), 4_096));
    client.send(b"here");
    rig.link.expect_data(client.id(), b"here");
    let begin = Instant::now();
    // It drains for a while, as the client does not read.
    for n in 0..20 {
        rig.link.send(client.id(), &bytes_of(n, 1 << 20));
    }
    rig.link.kick(client.id());
    rig.link.expect_failure(client.id(), "kicked");
    let sent = client.frames.try_write(&handshake::frame(b"but"));
    assert!(sent.is_ok() || begin.elapsed() >= DRAIN, "{sent:?}");
    rig.fence();
    // The drain is bounded. Then the connection ends, in order or not.
    let (packets, _) = client.frames.rest();
    for (n, packet) in (0..).zip(packets) {
        assert!(packet == bytes_of(n, 1 << 20), "{n}");
    }
    rig.fence();
}

#[test]
fn a_second_kick_finds_nobody() {
    let mut rig = rig("");
    let mut client = rig.join();
    rig.link.kick(client.id());
    rig.link.kick(client.id());
    rig.link.expect_failure(client.id(), "kicked");
    rig.link.expect_failure(client.id(), "unknown client");
    client.frames.expect_fin();
    rig.fence();
}

#[test]
fn a_client_that_is_away_can_be_kicked() {
    let mut rig = rig(HEALING);
    let session = rig.join().leave();
    rig.link.send(session.id, b"never read");
    rig.link.kick(session.id);
    rig.link.expect_failure(session.id, "kicked");
    session.expect_refused(rig.address());
    rig.fence();
}

#[test]
fn a_kick_in_the_middle_of_an_attempt_refuses_it() {
    let mut rig = rig(HEALING);
    let session = rig.join().leave();
    let challenged = session.claim(rig.address());
    rig.link.kick(session.id);
    rig.link.expect_failure(session.id, "kicked");
    let response = session.response_to(&challenged.challenge);
    challenged.respond(&response).expect_fin();
    rig.fence();
}

#[test]
fn a_kick_between_the_proof_and_the_ping_ends_it_at_once() {
    let mut rig = rig(HEALING);
    let session = rig.join().leave();
    let mut challenged = session.claim(rig.address());
    let response = session.response_to(&challenged.challenge);
    let bytes = handshake::encoded(Handshake::ChallengeResponse(&response));
    challenged.frames.write(&bytes);
    rig.link.kick(session.id);
    rig.link.expect_failure(session.id, "kicked");
    challenged.frames.expect_closed();
    session.expect_refused(rig.address());
    rig.fence();
}

#[test]
fn a_kick_of_the_old_connection_is_a_kick_of_the_session() {
    let mut rig = rig(HEALING);
    let mut old = rig.join();
    let mut new = rig.resume(old.session.clone());
    rig.link.kick(new.id());
    rig.link.expect_failure(new.id(), "kicked");
    new.frames.expect_fin();
    old.frames.expect_closed();
    rig.fence();
}

#[test]
fn packets_and_kicks_for_nobody_are_answered() {
    let mut rig = rig("");
    let nobody = ClientId::from_u64(12_345);
    rig.link.send(nobody, b"is there anybody?");
    rig.link.expect_failure(nobody, "unknown client");
    rig.link.kick(nobody);
    rig.link.expect_failure(nobody, "unknown client");
    rig.fence();
}

#[test]
fn a_client_that_stays_away_expires_not_before_its_time() {
    let mut rig = rig(&format!("{HEALING}{SHORT}"));
    let begin = Instant::now();
    let session = rig.join().leave();
    rig.link.send(session.id, b"never read");
    rig.link.expect_failure(session.id, "expired");
    assert!(begin.elapsed() >= Duration::from_secs(1));
    session.expect_refused(rig.address());
    rig.link.send(session.id, b"too late");
    rig.link.expect_failure(session.id, "unknown client");
    // If the machine was suspended, the first packet was too late as well, and has its own answer.
    let more = rig.packets_so_far();
    let answers =
        |packet: &Packet| (packet.id, &packet.data[..]) == (session.id, b"unknown client");
    assert!(more.len() <= 1 && more.iter().all(answers), "{more:?}");
}

#[test]
fn coming_back_takes_the_deadline_away() {
    // Long enough that a suspended machine does not make the client miss the deadline.
    let mut rig = rig("clients.stale_timeout_secs = 4\nclients.stale_reap_interval_secs = 0\n");
    let session = rig.join().leave();
    let mut client = rig.resume(session);
    // Another session that goes away later shows that the first one's deadline has passed.
    let later = rig.join().leave();
    rig.link.expect_failure(later.id, "expired");
    rig.round_trip(&mut client, b"still here");
}

#[test]
fn a_stale_timeout_of_0_ends_a_client_with_its_connection() {
    let mut rig = rig("clients.stale_timeout_secs = 0\n");
    let session = rig.join().leave();
    rig.link.expect_failure(session.id, "expired");
    session.expect_refused(rig.address());
    rig.fence();
}

/// The reaper runs only now and then, but an expired session cannot be resumed even before it does.
#[test]
fn an_expired_session_is_refused_even_before_it_is_reaped() {
    let mut rig = rig("clients.stale_timeout_secs = 1\nclients.stale_reap_interval_secs = 3600\n");
    let begin = Instant::now();
    let session = rig.join().leave();
    let waits = Frames::connect(rig.address());
    drop(waits);
    let expired = loop {
        let challenged = session.claim(rig.address());
        if session.shared_key().open(&challenged.challenge).is_err() {
            break begin.elapsed();
        }
        assert!(begin.elapsed() < conformance::PATIENCE);
    };
    assert!(expired >= Duration::from_secs(1), "{expired:?}");
    session.expect_refused(rig.address());
    rig.fence();
}

#[test]
fn of_too_many_that_are_away_the_longest_gone_end() {
    // With more shards each of them would have one place.
    let mut rig = rig("general.shards = 1\nclients.max_stale_clients = 2\n");
    let clients: Vec<Client> = (0..4).map(|_| rig.join()).collect();
    let sessions: Vec<_> = clients.into_iter().map(Client::leave).collect();
    for session in &sessions[..2] {
        rig.link
            .expect_failure(session.id, "too many stale clients");
        session.expect_refused(rig.address());
    }
    for session in sessions.into_iter().skip(2) {
        let mut client = rig.resume(session);
        rig.round_trip(&mut client, b"still known");
    }
}

/// The reason for the end of a session whose queue is full.
const FULL: &[u8] = b"send queue full";

#[test]
fn a_client_that_does_not_read_fails_and_nobody_else_notices() {
    let mut rig = rig("clients.channel_bytes = 4_194_304\n");
    let mut other = rig.join();
    let mut slow = Client::join_over(Frames::connect_narrow(rig.address(), 4_096));
    slow.send(b"here");
    rig.link.expect_data(slow.id(), b"here");
    let data = bytes_of(1, 256 * 1024);
    // The kernel holds a few megabytes, the queue four.
    let mut failed = false;
    for n in 0..200 {
        rig.link.send(slow.id(), &data);
        let ping = bytes_of(n, 30);
        rig.link.send(other.id(), &ping);
        other.expect(&ping);
        other.send(&ping);
        // At another shard, the slow client's end may come before or after this.
        let packet = std::iter::from_fn(|| Some(rig.link.recv()))
            .inspect(|packet| failed |= packet.id == slow.id() && packet.data == FULL)
            .find(|packet| packet.id == other.id());
        assert_eq!(packet.map(|packet| packet.data), Some(ping));
        if failed {
            break;
        }
    }
    assert!(failed, "50 MB were queued");
    slow.frames.rest();
    slow.session.expect_refused(rig.address());
    other.send(b"undisturbed");
    let packet = std::iter::from_fn(|| Some(rig.link.recv()))
        // Answers to packets that were on their way to it when it failed.
        .find(|packet| (packet.id, &packet.data[..]) != (slow.id(), b"unknown client"));
    assert_eq!(
        packet.map(|packet| (packet.id, packet.data)),
        Some((other.id(), b"undisturbed".to_vec()))
    );
}

#[test]
fn the_queue_of_a_client_is_bounded_in_packets() {
    let mut rig = rig("clients.channel_capacity = 10\n");
    let mut slow = Client::join_over(Frames::connect_narrow(rig.address(), 4_096));
    slow.send(b"here");
    rig.link.expect_data(slow.id(), b"here");
    let mut bytes = Vec::new();
    for n in 0..200 {
        let packet = voltlane_core::link::tagged::Tagged {
            id: slow.id(),
            flag: voltlane_core::link::tagged::Flag::Data,
            data: &bytes_of(n, 100_000),
        };
        packet.encode(&mut bytes);
    }
    rig.link.frames.write(&bytes);
    let packet = rig.link.recv();
    assert_eq!(packet.data, b"send queue full");
    slow.session.expect_refused(rig.address());
}

#[test]
fn a_client_that_takes_nothing_for_too_long_fails() {
    let mut rig = rig("clients.write_timeout_secs = 1\nclients.channel_bytes = 67_108_864\n");
    let slow = Client::join_over(Frames::connect_narrow(rig.address(), 4_096));
    for n in 0..30 {
        rig.link.send(slow.id(), &bytes_of(n, 1 << 20));
    }
    rig.link.expect_failure(slow.id(), "write timed out");
    slow.session.expect_refused(rig.address());
    // Answers to later packets, if sending all of them took long.
    let more = rig.packets_so_far();
    let answers = |packet: &Packet| (packet.id, &packet.data[..]) == (slow.id(), b"unknown client");
    assert!(more.iter().all(answers), "{more:?}");
}

/// What the client read meanwhile counts, though the edge learns of it after the deadline.
#[test]
fn a_client_that_reads_while_the_edge_stands_still_does_not_fail() {
    const PACKETS: u64 = 128;
    /// Longer than the write timeout, by more than what counts as late.
    const STILL: Duration = Duration::from_secs(2);
    let mut rig = rig("clients.write_timeout_secs = 1\nclients.channel_bytes = 67_108_864\n");
    let mut client = Client::join_over(Frames::connect_narrow(rig.address(), 4_096));
    // The client is slower than the backend, and takes something all the time: much of it waits at the edge.
    let mut read = 0;
    for n in 0..PACKETS {
        rig.link.send(client.id(), &bytes_of(n, 1 << 16));
        if n % 16 == 15 {
            client.expect(&bytes_of(read, 1 << 16));
            read += 1;
        }
    }
    rig.edge.signal(Signal::STOP);
    let reader = thread::spawn(move || {
        (read..PACKETS).for_each(|n| client.expect(&bytes_of(n, 1 << 16)));
        client
    });
    // The time is what the scenario is about.
    thread::sleep(STILL);
    rig.edge.signal(Signal::CONT);
    let mut client = reader.join().expect("everything arrives");
    rig.round_trip(&mut client, b"as before");
    rig.stop();
}

#[test]
fn a_frame_that_never_ends_costs_the_connection_but_not_the_session() {
    let mut rig = rig("clients.frame_timeout_secs = 1\n");
    let begin = Instant::now();
    let mut client = rig.join();
    client.frames.write(&[100, 0, 0, 0, 1, 2, 3]);
    assert!(matches!(
        client.frames.incoming(),
        Incoming::Fin { .. } | Incoming::Reset
    ));
    assert!(begin.elapsed() >= Duration::from_secs(1));
    let mut client = rig.resume(client.session);
    rig.round_trip(&mut client, b"whole");
}
