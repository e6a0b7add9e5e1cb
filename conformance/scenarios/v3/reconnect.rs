//! Clients of version 3 that resume their sessions. (SPEC 23)

use std::io::Read as _;
use std::time::{Duration, Instant};

use conformance::v3::Heard;
use conformance::{ClientV3, PATIENCE, bytes_of};

use super::super::rig;
use super::{come_back, join, join_narrow, round_trip};

#[test]
fn with_nothing_ever_sent() {
    let mut rig = rig("");
    let mut client = ClientV3::join(rig.address());
    client.leave();
    come_back(&mut rig, &mut client);
    round_trip(&mut rig, &mut client, b"at last");
}

#[test]
fn ten_times_with_packets_kept_each_time() {
    let mut rig = rig("");
    let mut client = join(&mut rig);
    for round in 0..10_u64 {
        client.leave();
        let missed: Vec<_> = (0..round)
            .map(|n| bytes_of(round * 100 + n, 10_000))
            .collect();
        for packet in &missed {
            rig.link.send(client.id(), packet);
        }
        come_back(&mut rig, &mut client);
        for packet in &missed {
            client.expect(packet);
        }
        round_trip(&mut rig, &mut client, b"again");
    }
}

#[test]
fn faster_than_the_drop_is_noticed() {
    let mut rig = rig("");
    let mut client = join(&mut rig);
    for _ in 0..5 {
        // The reset and the new connection race to the edge. Either order is right.
        client.reset();
        come_back(&mut rig, &mut client);
        round_trip(&mut rig, &mut client, b"here again");
    }
    rig.fence();
}

#[test]
fn after_a_drop_in_the_middle_of_a_record() {
    for bytes in [0, 1, 3, 4, 5, 20] {
        let mut rig = rig("");
        let mut client = join(&mut rig);
        client.send(b"whole");
        client.send_cut(b"cut", bytes);
        rig.link.expect_data(client.id(), b"whole");
        client.leave_cut();
        come_back(&mut rig, &mut client);
        // The packet that was cut comes once, behind the notice.
        rig.link.expect_data(client.id(), b"cut");
        round_trip(&mut rig, &mut client, b"next");
    }
}

#[test]
fn a_first_flight_cut_at_every_byte() {
    let mut rig = rig("");
    let mut client = join(&mut rig);
    client.leave();
    rig.link.send(client.id(), b"missed");
    let heard = client.try_come_back(rig.address(), true);
    assert!(matches!(heard, Heard::Resumed { .. }), "{heard:?}");
    rig.link.expect_resumed(client.id());
    client.expect(b"missed");
    round_trip(&mut rig, &mut client, b"whole");
}

#[test]
fn packets_of_the_first_flight_come_behind_the_notice() {
    let mut rig = rig("");
    let mut client = join(&mut rig);
    client.leave();
    client.send(b"early");
    come_back(&mut rig, &mut client);
    rig.link.expect_data(client.id(), b"early");
    round_trip(&mut rig, &mut client, b"later");
}

#[test]
fn a_takeover_closes_the_old_connection_and_loses_nothing() {
    let mut rig = rig("");
    let mut client = join(&mut rig);
    client.send(b"of the old one");
    rig.link.expect_data(client.id(), b"of the old one");
    client.send_cut(b"cut", 10);
    let mut old = client.abandon();
    come_back(&mut rig, &mut client);
    rig.link.expect_data(client.id(), b"cut");
    // It was told why (402) before its end.
    old.set_read_timeout(Some(PATIENCE)).expect("a bound");
    let mut last_words = Vec::new();
    let read = old.read_to_end(&mut last_words);
    assert!(read.is_err() || !last_words.is_empty(), "{read:?}");
    round_trip(&mut rig, &mut client, b"of the new one");
    rig.fence();
}

#[test]
fn a_takeover_brings_along_all_that_the_client_has_not_received() {
    const PACKETS: u64 = 40;
    let mut rig = rig("clients.channel_bytes = 67_108_864\n");
    let mut client = join_narrow(&mut rig);
    for n in 0..PACKETS {
        rig.link.send(client.id(), &bytes_of(n, 1 << 20));
    }
    client.expect(&bytes_of(0, 1 << 20));
    let _old = client.abandon();
    come_back(&mut rig, &mut client);
    for n in 1..PACKETS {
        client.expect(&bytes_of(n, 1 << 20));
    }
    round_trip(&mut rig, &mut client, b"newer");
}

/// Ten takeovers at once, and one more each second.
#[test]
fn a_session_can_be_taken_over_but_not_spin() {
    let mut rig = rig("");
    let mut client = join(&mut rig);
    let begin = Instant::now();
    let mut old = Vec::new();
    let (mut resumed, mut refused) = (0, 0);
    while resumed < 12 {
        old.push(client.abandon());
        loop {
            match client.try_come_back(rig.address(), false) {
                Heard::Resumed { .. } => break,
                Heard::Dropped(_) => refused += 1,
                other => panic!("{other:?}"),
            }
            assert!(begin.elapsed() < PATIENCE, "refused {refused} times");
        }
        resumed += 1;
        rig.link.expect_resumed(client.id());
    }
    assert!(begin.elapsed() >= Duration::from_secs(1));
    round_trip(&mut rig, &mut client, b"still me");
}

#[test]
fn the_identity_moves_whole() {
    let mut rig = rig("");
    let mut other = join(&mut rig);
    let mut client = join(&mut rig);
    for _ in 0..3 {
        client.leave();
        come_back(&mut rig, &mut client);
        round_trip(&mut rig, &mut client, b"mine");
        round_trip(&mut rig, &mut other, b"the other's");
    }
}

/// Clients of both versions at one port.
#[test]
fn beside_a_client_of_version_2() {
    let mut rig = rig(super::super::HEALING);
    let mut old = rig.join();
    let mut new = join(&mut rig);
    for _ in 0..3 {
        let session = old.leave();
        new.leave();
        rig.link.send(session.id, b"missed by one");
        rig.link.send(new.id(), b"missed by the other");
        old = rig.resume(session);
        come_back(&mut rig, &mut new);
        old.expect(b"missed by one");
        new.expect(b"missed by the other");
        rig.round_trip(&mut old, b"of version 2");
        round_trip(&mut rig, &mut new, b"of version 3");
    }
}
