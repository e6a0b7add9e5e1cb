//! Packets for a client of version 3 that is away: all of them come, each once. (SPEC 24.2, 24.5)

use conformance::v3::Heard;
use conformance::{ClientV3, bytes_of};
use voltlane_core::client::Code;

use super::super::{HEALING, rig};
use super::{come_back, join, join_narrow, round_trip};

/// A packet size of which the kernel's buffers hold a few.
const LARGE: usize = 512 * 1024;
/// Room for a hundred large packets.
const ROOMY: &str = "clients.channel_bytes = 134_217_728\n";

#[test]
fn come_behind_the_resume_in_order_and_before_anything_newer() {
    let mut rig = rig("");
    let mut client = join(&mut rig);
    client.leave();
    let packets: Vec<_> = (0..200).map(|n| bytes_of(n, n as usize * 7)).collect();
    for packet in &packets[..100] {
        rig.link.send(client.id(), packet);
    }
    // Behind packets of others on the link: the edge has them all, and the resume says how many there are.
    rig.fence();
    assert_eq!(come_back(&mut rig, &mut client), 100);
    for packet in &packets[100..] {
        rig.link.send(client.id(), packet);
    }
    let mut numbers = Vec::new();
    let mut caught_up_at = None;
    while numbers.len() < packets.len() {
        match client.hear() {
            Heard::Packet(number, data) => {
                assert!(data == packets[numbers.len()], "{number}");
                numbers.push(number);
            }
            Heard::CaughtUp => caught_up_at = Some(numbers.len()),
            other => panic!("{other:?}"),
        }
    }
    assert!(numbers.iter().copied().eq(1..=200));
    assert_eq!(caught_up_at, Some(100));
    round_trip(&mut rig, &mut client, b"and on it goes");
}

#[test]
fn mixed_with_live_packets_keep_their_order() {
    let mut rig = rig(ROOMY);
    let mut client = join(&mut rig);
    client.leave();
    for n in 0..20 {
        rig.link.send(client.id(), &bytes_of(n, LARGE));
    }
    client.come_back_narrow(rig.address());
    rig.link.expect_resumed(client.id());
    for n in 20..40 {
        rig.link.send(client.id(), &bytes_of(n, LARGE));
    }
    for n in 0..40 {
        client.expect(&bytes_of(n, LARGE));
    }
}

#[test]
fn of_one_client_are_no_business_of_another() {
    let mut rig = rig("");
    let mut clients: Vec<ClientV3> = (0..10).map(|_| join(&mut rig)).collect();
    clients.iter_mut().for_each(ClientV3::leave);
    for n in 0..100_u64 {
        for client in &clients {
            let packet = bytes_of(client.id().as_u64() ^ n, 50);
            rig.link.send(client.id(), &packet);
        }
    }
    for mut client in clients.into_iter().rev() {
        come_back(&mut rig, &mut client);
        for n in 0..100 {
            client.expect(&bytes_of(client.id().as_u64() ^ n, 50));
        }
        round_trip(&mut rig, &mut client, b"nothing else");
    }
}

/// For a client that is away the ring and the queue count together.
#[test]
fn are_bounded_in_packets() {
    let mut rig = rig("clients.ring_packets = 2\nclients.channel_capacity = 3\n");
    let mut client = join(&mut rig);
    client.leave();
    for n in 0..5 {
        rig.link.send(client.id(), &[n]);
    }
    come_back(&mut rig, &mut client);
    for n in 0..5 {
        client.expect(&[n]);
    }
    round_trip(&mut rig, &mut client, b"within the bound");
    client.flush_all();
    client.leave();
    for n in 0..6 {
        rig.link.send(client.id(), &[n]);
    }
    rig.link
        .expect_failure(client.id(), "missed packet buffer full");
    match client.try_come_back(rig.address(), false) {
        Heard::Ended(end) => assert_eq!(end.code, Code::RING_FULL),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_empty_packet_is_kept_like_any_other() {
    let mut rig = rig(HEALING);
    let mut client = join(&mut rig);
    client.leave();
    rig.link.send(client.id(), b"");
    rig.link.send(client.id(), b"");
    come_back(&mut rig, &mut client);
    assert_eq!(client.recv(), (1, vec![]));
    assert_eq!(client.recv(), (2, vec![]));
}

/// Where version 2 loses what the kernel had, nothing is missing.
#[test]
fn a_packet_cut_by_a_drop_and_all_that_the_kernel_had_come_again_whole() {
    let mut rig = rig(ROOMY);
    let mut client = join_narrow(&mut rig);
    for n in 0..60 {
        rig.link.send(client.id(), &bytes_of(n, LARGE));
    }
    client.expect(&bytes_of(0, LARGE));
    client.reset();
    come_back(&mut rig, &mut client);
    for n in 1..60 {
        client.expect(&bytes_of(n, LARGE));
    }
    round_trip(&mut rig, &mut client, b"whole");
}

/// The client dies while it receives its missed packets, and again while it receives those again.
#[test]
fn a_drop_during_the_replay_and_during_the_replay_of_that_lose_nothing() {
    let mut rig = rig(ROOMY);
    let mut client = join(&mut rig);
    client.leave();
    for n in 0..40 {
        rig.link.send(client.id(), &bytes_of(n, LARGE));
    }
    let mut next = 0;
    for _ in 0..3 {
        client.come_back_narrow(rig.address());
        rig.link.expect_resumed(client.id());
        client.expect(&bytes_of(next, LARGE));
        client.expect(&bytes_of(next + 1, LARGE));
        next += 2;
        client.reset();
    }
    come_back(&mut rig, &mut client);
    for n in next..40 {
        client.expect(&bytes_of(n, LARGE));
    }
    round_trip(&mut rig, &mut client, b"at the end");
}

/// Both directions over resets, each in the middle of everything.
#[test]
fn nothing_is_lost_or_doubled_in_either_direction() {
    let mut rig = rig("general.shards = 1\n");
    let mut client = join(&mut rig);
    let id = client.id();
    let (mut sent, mut received) = (0_u32, 0_u32);
    let mut heard = 0_u32;
    for round in 0..30_u32 {
        for n in 0..20 {
            rig.link.send(id, &sent.to_le_bytes());
            sent += 1;
            client.send(&(round * 20 + n).to_le_bytes());
        }
        for _ in 0..round % 7 {
            client.expect(&received.to_le_bytes());
            received += 1;
        }
        client.send_cut(&(round * 20 + 19).to_le_bytes(), (round % 9) as usize);
        client.reset();
        client.come_back(rig.address());
        loop {
            let packet = rig.link.recv();
            if packet.data.is_empty() {
                break;
            }
            assert_eq!(packet.data, number_of(heard).to_le_bytes());
            heard += 1;
        }
    }
    while received < sent {
        client.expect(&received.to_le_bytes());
        received += 1;
    }
    let end = client.close();
    assert_eq!(end.code, Code::GOODBYE);
    assert_eq!(end.ledgers.up.acknowledged, end.ledgers.up.numbered);
    while heard < 630 {
        rig.link.expect_data(id, &number_of(heard).to_le_bytes());
        heard += 1;
    }
    rig.link.expect_failure(id, "goodbye");
}

/// Each round sends 20 packets and the last of them once more, cut.
fn number_of(place: u32) -> u32 {
    place / 21 * 20 + (place % 21).min(19)
}
