//! Packets for a client that is away. (SPEC 9.4, 10.3)

use conformance::{Client, Frames, Incoming, Rig, Session, bytes_of};
use voltlane_core::link::tagged::Flag;

use super::{HEALING, rig};

/// A packet size of which the kernel's buffers hold a few.
const LARGE: usize = 512 * 1024;
/// Room for a hundred large packets.
const ROOMY: &str = "clients.missed_packets_buffer_size = 4096\n\
                     clients.missed_packets_buffer_bytes = 134_217_728\n\
                     clients.channel_bytes = 134_217_728\n";

/// Returns a profile of the README, as written there.
fn profile(name: &str) -> &'static str {
    let (_, after) = include_str!("../../README.md")
        .split_once(&format!("*{name}*"))
        .expect("README has this profile");
    let (_, after) = after.split_once("```toml\n").expect("as a block");
    let (block, _) = after.split_once("```").expect("closed");
    block
}

#[test]
fn come_after_the_ping_in_order_and_before_anything_newer() {
    let mut rig = rig(HEALING);
    let session = rig.join().leave();
    let packets: Vec<_> = (0..200).map(|n| bytes_of(n, n as usize * 7)).collect();
    for packet in &packets[..100] {
        rig.link.send(session.id, packet);
    }
    // Packets sent after the notice are newer, whenever they are written.
    let mut client = rig.resume(session);
    for packet in &packets[100..] {
        rig.link.send(client.id(), packet);
    }
    for packet in &packets {
        client.expect(packet);
    }
    rig.round_trip(&mut client, b"and on it goes");
}

#[test]
fn mixed_with_live_packets_keep_their_order() {
    let mut rig = rig(ROOMY);
    let session = rig.join().leave();
    for n in 0..20 {
        rig.link.send(session.id, &bytes_of(n, LARGE));
    }
    let mut client = session.resume_over(Frames::connect_narrow(rig.address(), 4_096));
    rig.link.expect_resumed(client.id());
    // The replay cannot be complete: the client has read nothing of it.
    for n in 20..40 {
        rig.link.send(client.id(), &bytes_of(n, LARGE));
    }
    for n in 0..40 {
        client.expect(&bytes_of(n, LARGE));
    }
}

#[test]
fn of_one_client_are_no_business_of_another() {
    let mut rig = rig(HEALING);
    let sessions: Vec<Session> = (0..10).map(|_| rig.join().leave()).collect();
    for n in 0..100_u64 {
        for session in &sessions {
            rig.link
                .send(session.id, &bytes_of(session.id.as_u64() ^ n, 50));
        }
    }
    for session in sessions.into_iter().rev() {
        let id = session.id.as_u64();
        let mut client = rig.resume(session);
        for n in 0..100 {
            client.expect(&bytes_of(id ^ n, 50));
        }
        rig.round_trip(&mut client, b"nothing else");
    }
}

#[test]
fn are_bounded_in_packets() {
    let mut rig = rig("clients.missed_packets_buffer_size = 3\n");
    let session = rig.join().leave();
    for n in 0..3 {
        rig.link.send(session.id, &[n]);
    }
    let mut client = rig.resume(session);
    for n in 0..3 {
        client.expect(&[n]);
    }
    let session = client.leave();
    for n in 0..4 {
        rig.link.send(session.id, &[n]);
    }
    rig.link
        .expect_failure(session.id, "missed packet buffer full");
    session.expect_refused(rig.address());
    rig.fence();
}

#[test]
fn are_bounded_in_bytes() {
    let mut rig = rig(
        "clients.missed_packets_buffer_size = 100\nclients.missed_packets_buffer_bytes = 10_000\n",
    );
    // A packet also costs four bytes for its length: 5 of 2,000 fit exactly.
    let session = rig.join().leave();
    for n in 0..5 {
        rig.link.send(session.id, &bytes_of(n, 1_996));
    }
    let mut client = rig.resume(session);
    for n in 0..5 {
        client.expect(&bytes_of(n, 1_996));
    }
    let session = client.leave();
    for n in 0..5 {
        rig.link.send(session.id, &bytes_of(n, 1_996));
    }
    rig.link.send(session.id, b"");
    rig.link
        .expect_failure(session.id, "missed packet buffer full");
    session.expect_refused(rig.address());

    // An empty queue takes any one packet.
    let session = rig.join().leave();
    rig.link.send(session.id, &bytes_of(7, 50_000));
    let mut client = rig.resume(session);
    client.expect(&bytes_of(7, 50_000));
}

#[test]
fn end_a_client_at_once_where_none_are_kept() {
    let config = format!("general.shards = 1\n{}", profile("Simple firehose"));
    let mut rig = rig(&config);
    let mut stays = rig.join();
    for _ in 0..3 {
        let session = rig.join().leave();
        rig.link.send(session.id, b"too late");
        rig.link.expect_failure(session.id, "client is away");
    }
    rig.round_trip(&mut stays, b"nobody else is concerned");
    let session = rig.join().leave();
    rig.link.send(session.id, b"too late");
    rig.link.expect_failure(session.id, "client is away");
    rig.link.send(session.id, b"later still");
    rig.link.expect_failure(session.id, "unknown client");
    session.expect_refused(rig.address());
    rig.fence();
    // The first one is a warning that names the key, and no later one is.
    let warning = "clients.missed_packets_buffer_size is 0";
    assert!(rig.edge.expect_log(warning).contains("WARN"));
    assert_eq!(rig.edge.log().matches(warning).count(), 1);
    rig.stop();
}

/// The promise in the README's first paragraph needs no configuration.
#[test]
fn of_a_short_drop_are_kept_by_default_up_to_256() {
    let mut rig = rig("general.shards = 1\n");
    let mut client = rig.join();
    for round in 0..20 {
        let session = client.leave();
        for n in 0..256_u16 {
            rig.link.send(session.id, &(n + round).to_le_bytes());
        }
        client = rig.resume(session);
        for n in 0..256_u16 {
            client.expect(&(n + round).to_le_bytes());
        }
        rig.round_trip(&mut client, b"on it goes");
    }
    for _ in 0..2 {
        let session = client.leave();
        for _ in 0..257 {
            rig.link.send(session.id, b"x");
        }
        rig.link
            .expect_failure(session.id, "missed packet buffer full");
        client = rig.join();
    }
    let warning = "missed more than clients.missed_packets_buffer_size";
    let line = rig.edge.expect_log(warning);
    assert!(
        line.contains("WARN") && line.contains("packets=256"),
        "{line}"
    );
    assert_eq!(rig.edge.log().matches(warning).count(), 1);
    drop(client);
    rig.stop();
}

#[test]
fn end_a_client_that_leaves_them_behind_where_none_are_kept() {
    let mut rig =
        rig("clients.channel_bytes = 67_108_864\nclients.missed_packets_buffer_size = 0\n");
    let client = narrow(&mut rig);
    for n in 0..40 {
        rig.link.send(client.id(), &bytes_of(n, LARGE * 2));
    }
    let session = client.reset();
    rig.link.expect_failure(session.id, "client is away");
    session.expect_refused(rig.address());
}

/// More than the bound is waiting when the connection ends.
#[test]
fn end_a_client_that_leaves_too_many_behind() {
    let mut rig =
        rig("clients.missed_packets_buffer_size = 5\nclients.channel_bytes = 67_108_864\n");
    let client = narrow(&mut rig);
    for n in 0..40 {
        rig.link.send(client.id(), &bytes_of(n, LARGE * 2));
    }
    let session = client.reset();
    rig.link
        .expect_failure(session.id, "missed packet buffer full");
    session.expect_refused(rig.address());
}

#[test]
fn a_packet_cut_by_a_drop_is_sent_again_whole() {
    let mut rig = rig(ROOMY);
    let mut client = narrow(&mut rig);
    for n in 0..60 {
        rig.link.send(client.id(), &bytes_of(n, LARGE));
    }
    client.expect(&bytes_of(0, LARGE));
    let session = client.reset();
    let mut client = rig.resume(session);
    // Missing packets were in the kernel, for the connection that was reset.
    let next = number(&client.recv(), 1..60);
    for n in next + 1..60 {
        client.expect(&bytes_of(n, LARGE));
    }
    rig.round_trip(&mut client, b"whole");
}

/// The client dies while it receives its missed packets, and again while it receives those again.
#[test]
fn a_drop_during_the_replay_and_during_the_replay_of_that() {
    let mut rig = rig(ROOMY);
    let mut session = rig.join().leave();
    for n in 0..100 {
        rig.link.send(session.id, &bytes_of(n, LARGE));
    }
    let mut next = 0;
    for _ in 0..3 {
        let frames = Frames::connect_narrow(rig.address(), 4_096);
        let mut client = session.resume_over(frames);
        rig.link.expect_resumed(client.id());
        let first = number(&client.recv(), next..100);
        client.expect(&bytes_of(first + 1, LARGE));
        next = first + 2;
        session = client.reset();
    }
    assert!(next < 90, "the replay was to be interrupted");
    let mut client = rig.resume(session);
    let first = number(&client.recv(), next..100);
    for n in first + 1..100 {
        client.expect(&bytes_of(n, LARGE));
    }
    rig.round_trip(&mut client, b"at the end");
}

/// If the client ends its connections in order, and reads them to their ends, nothing is lost.
#[test]
fn a_connection_that_ends_in_order_loses_nothing_even_in_the_middle_of_a_replay() {
    let mut rig = rig(ROOMY);
    let mut session = rig.join().leave();
    for n in 0..60 {
        rig.link.send(session.id, &bytes_of(n, LARGE));
    }
    let mut next = 0;
    let mut rounds = 0;
    while next < 60 {
        rounds += 1;
        let frames = Frames::connect_narrow(rig.address(), 4_096);
        let mut client = session.resume_over(frames);
        rig.link.expect_resumed(client.id());
        client.expect(&bytes_of(next, LARGE));
        next += 1;
        let (packets, left) = client.leave_with_packets();
        for packet in packets {
            assert_eq!(number(&packet, next..60), next);
            next += 1;
        }
        session = left;
    }
    assert!(rounds > 1, "the replay was to be interrupted");
    rig.fence();
}

/// The profile of a game server loses no packet over an orderly reconnect.
#[test]
fn the_profile_of_a_game_server_loses_nothing() {
    let mut rig = rig(profile("Game server"));
    let mut client = rig.join();
    let id = client.id();
    let (mut sent, mut received, mut heard) = (0_u32, 0_u32, 0_u32);
    for round in 0..30_u32 {
        for n in 0..20 {
            rig.link.send(id, &sent.to_le_bytes());
            sent += 1;
            client.send(&(round * 20 + n).to_le_bytes());
        }
        let (packets, session) = client.leave_with_packets();
        for packet in packets {
            assert_eq!(packet, received.to_le_bytes());
            received += 1;
        }
        rig.link.send(id, &sent.to_le_bytes());
        sent += 1;
        client = session.resume(rig.address());
        loop {
            let packet = rig.link.recv();
            if packet.flag == Flag::Resumed {
                break;
            }
            assert_eq!(packet.data, heard.to_le_bytes());
            heard += 1;
        }
    }
    while received < sent {
        client.expect(&received.to_le_bytes());
        received += 1;
    }
    assert_eq!(heard, 600);
}

/// Joins a client that reads little at a time, and makes it known to the backend.
fn narrow(rig: &mut Rig) -> Client {
    let mut client = Client::join_over(Frames::connect_narrow(rig.address(), 4_096));
    client.send(b"here");
    rig.link.expect_data(client.id(), b"here");
    client
}

/// Returns the number of this packet, which must be whole.
#[track_caller]
fn number(packet: &[u8], mut of: std::ops::Range<u64>) -> u64 {
    let found = of.find(|&n| packet == bytes_of(n, LARGE));
    found.unwrap_or_else(|| panic!("{} bytes that are none of {of:?}", packet.len()))
}

#[test]
fn an_empty_packet_is_kept_like_any_other() {
    let mut rig = rig(HEALING);
    let session = rig.join().leave();
    rig.link.send(session.id, b"");
    rig.link.send(session.id, b"");
    let mut client = rig.resume(session);
    assert_eq!(client.frames.incoming(), Incoming::Body(vec![]));
    assert_eq!(client.frames.incoming(), Incoming::Body(vec![]));
}
