//! How sessions of version 3 end: the client hears a code, and the backend one notice. (SPEC 25.2 to 25.4)

use std::time::{Duration, Instant};

use conformance::v3::Heard;
use conformance::{ClientV3, Packet, bytes_of};
use voltlane_core::client::Code;

use super::super::{METRICS, rig};
use super::{come_back, join, join_narrow, round_trip};

/// Makes sessions that are away expire after a second, each at its own deadline.
const SHORT: &str = "clients.stale_timeout_secs = 1\nclients.stale_reap_interval_secs = 0\n";

#[track_caller]
fn refused(client: &mut ClientV3, edge: std::net::SocketAddr, code: Code) {
    match client.try_come_back(edge, false) {
        Heard::Ended(end) => assert_eq!(end.code, code, "{end:?}"),
        other => panic!("an end was expected, not {other:?}"),
    }
}

#[test]
fn a_kick_comes_behind_what_is_queued_and_says_so() {
    let mut rig = rig("");
    let mut client = join(&mut rig);
    for n in 0..50 {
        rig.link.send(client.id(), &bytes_of(n, 10_000));
    }
    rig.link.kick(client.id());
    rig.link.expect_failure(client.id(), "kicked");
    for n in 0..50 {
        client.expect(&bytes_of(n, 10_000));
    }
    let end = client.expect_end(Code::KICKED);
    assert_eq!(end.ledgers.down.numbered, 50);
    rig.fence();
}

#[test]
fn a_second_kick_finds_nobody() {
    let mut rig = rig("");
    let mut client = join(&mut rig);
    rig.link.kick(client.id());
    rig.link.kick(client.id());
    rig.link.expect_failure(client.id(), "kicked");
    rig.link.expect_failure(client.id(), "unknown client");
    client.expect_end(Code::KICKED);
    rig.fence();
}

#[test]
fn a_client_that_was_kicked_while_it_was_away_hears_of_it() {
    let mut rig = rig("");
    let mut client = join(&mut rig);
    client.leave();
    rig.link.send(client.id(), b"never read");
    rig.link.kick(client.id());
    rig.link.expect_failure(client.id(), "kicked");
    refused(&mut client, rig.address(), Code::KICKED);
    rig.fence();
}

#[test]
fn a_kick_after_a_takeover_is_a_kick_of_the_session() {
    let mut rig = rig("");
    let mut client = join(&mut rig);
    let _old = client.abandon();
    come_back(&mut rig, &mut client);
    rig.link.kick(client.id());
    rig.link.expect_failure(client.id(), "kicked");
    client.expect_end(Code::KICKED);
    rig.fence();
}

#[test]
fn a_client_that_stays_away_expires_not_before_its_time_and_hears_of_it() {
    let mut rig = rig(SHORT);
    let begin = Instant::now();
    let mut client = join(&mut rig);
    client.leave();
    rig.link.expect_failure(client.id(), "expired");
    assert!(begin.elapsed() >= Duration::from_secs(1));
    refused(&mut client, rig.address(), Code::EXPIRED);
    rig.link.send(client.id(), b"too late");
    rig.link.expect_failure(client.id(), "unknown client");
    rig.fence();
}

#[test]
fn coming_back_takes_the_deadline_away() {
    let mut rig = rig("clients.stale_timeout_secs = 4\nclients.stale_reap_interval_secs = 0\n");
    let mut client = join(&mut rig);
    client.leave();
    come_back(&mut rig, &mut client);
    // Another session that goes away later shows that the first one's deadline has passed.
    let mut later = join(&mut rig);
    later.leave();
    rig.link.expect_failure(later.id(), "expired");
    round_trip(&mut rig, &mut client, b"still here");
}

#[test]
fn a_stale_timeout_of_0_ends_a_client_with_its_connection() {
    let mut rig = rig("clients.stale_timeout_secs = 0\n");
    let mut client = join(&mut rig);
    client.leave();
    rig.link.expect_failure(client.id(), "expired");
    rig.fence();
}

#[test]
fn of_too_many_that_are_away_the_longest_gone_end() {
    // With more shards each of them would have one place.
    let mut rig = rig("general.shards = 1\nclients.max_stale_clients = 2\n");
    let mut clients: Vec<ClientV3> = (0..4).map(|_| join(&mut rig)).collect();
    clients.iter_mut().for_each(ClientV3::leave);
    for client in &mut clients[..2] {
        rig.link
            .expect_failure(client.id(), "too many stale clients");
        refused(client, rig.address(), Code::TOO_MANY_AWAY);
    }
    for mut client in clients.into_iter().skip(2) {
        come_back(&mut rig, &mut client);
        round_trip(&mut rig, &mut client, b"still known");
    }
}

#[test]
fn a_client_that_does_not_read_ends_at_its_bound_and_nobody_else_notices() {
    let mut rig = rig("clients.channel_bytes = 4_194_304\n");
    let mut other = join(&mut rig);
    let mut slow = join_narrow(&mut rig);
    let data = bytes_of(1, 256 * 1024);
    let mut has_failed = false;
    for n in 0..200 {
        rig.link.send(slow.id(), &data);
        let ping = bytes_of(n, 30);
        rig.link.send(other.id(), &ping);
        other.expect(&ping);
        other.send(&ping);
        // At another shard, the slow client's end may come before or after this.
        let packet = std::iter::from_fn(|| Some(rig.link.recv()))
            .inspect(|packet| {
                has_failed |= packet.id == slow.id() && packet.data == b"send queue full";
            })
            .find(|packet| packet.id == other.id());
        assert_eq!(packet.map(|packet| packet.data), Some(ping));
        if has_failed {
            break;
        }
    }
    assert!(has_failed, "50 MB were queued");
    let is_end = |heard: &Heard| matches!(heard, Heard::Ended(_) | Heard::Dropped(_));
    let end = std::iter::from_fn(|| Some(slow.hear())).find(is_end);
    match end {
        Some(Heard::Ended(end)) => assert_eq!(end.code, Code::RING_FULL),
        _ => refused(&mut slow, rig.address(), Code::RING_FULL),
    }
}

/// Version 2 ends such a client.
#[test]
fn a_client_that_takes_nothing_for_too_long_is_parked_and_loses_nothing() {
    let mut rig = rig(&format!(
        "{METRICS}clients.write_timeout_secs = 1\nclients.channel_bytes = 67_108_864\n"
    ));
    let mut slow = join_narrow(&mut rig);
    for n in 0..30 {
        rig.link.send(slow.id(), &bytes_of(n, 1 << 20));
    }
    let begin = Instant::now();
    while rig
        .edge
        .metrics()
        .value("voltlane_sessions{state=\"away\"}")
        != 1
    {
        assert!(begin.elapsed() < conformance::PATIENCE, "it is not parked");
    }
    slow.reset();
    come_back(&mut rig, &mut slow);
    for n in 0..30 {
        slow.expect(&bytes_of(n, 1 << 20));
    }
    round_trip(&mut rig, &mut slow, b"nothing is lost");
    let more: Vec<Packet> = rig.packets_so_far();
    assert_eq!(more, []);
}

#[test]
fn a_goodbye_says_that_everything_has_arrived() {
    let mut rig = rig("");
    let mut client = join(&mut rig);
    let id = client.id();
    for n in 0..100 {
        client.send(&bytes_of(n, 1_000));
        rig.link.send(id, &bytes_of(n, 1_000));
    }
    for n in 0..100 {
        client.expect(&bytes_of(n, 1_000));
    }
    let end = client.close();
    assert_eq!((end.code, end.text.as_str()), (Code::GOODBYE, ""));
    for ledger in [end.ledgers.up, end.ledgers.down] {
        assert!(ledger.is_balanced());
        assert_eq!(ledger.acknowledged, ledger.numbered, "{end:?}");
    }
    for n in 0..100 {
        rig.link.expect_data(id, &bytes_of(n, 1_000));
    }
    rig.link.expect_failure(id, "goodbye");
    rig.link.send(id, b"too late");
    rig.link.expect_failure(id, "unknown client");
    rig.fence();
}
