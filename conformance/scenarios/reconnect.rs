//! Clients that resume their sessions. (SPEC 4.3, 9.2, 9.3)

use std::thread;
use std::time::{Duration, Instant};

use conformance::{Challenged, Client, Frames, Incoming, PATIENCE, bytes_of, handshake};
use voltlane_core::link::tagged::Flag;
use voltlane_core::v2::packets::Handshake;
use voltlane_core::wire::frame::encode_frame;

use super::{HEALING, METRICS, rig};

#[test]
fn with_nothing_ever_sent() {
    let mut rig = rig("");
    let session = Client::join(rig.address()).leave();
    let mut client = rig.resume(session);
    rig.round_trip(&mut client, b"at last");
}

#[test]
fn twice() {
    let mut rig = rig("");
    let mut client = rig.join();
    for _ in 0..2 {
        client = rig.resume(client.leave());
        rig.round_trip(&mut client, b"again");
    }
}

#[test]
fn ten_times_with_packets_kept_each_time() {
    let mut rig = rig(HEALING);
    let mut client = rig.join();
    for round in 0..10_u64 {
        let session = client.leave();
        let missed: Vec<_> = (0..round)
            .map(|n| bytes_of(round * 100 + n, 10_000))
            .collect();
        for packet in &missed {
            rig.link.send(session.id, packet);
        }
        client = rig.resume(session);
        for packet in &missed {
            client.expect(packet);
        }
        rig.round_trip(&mut client, b"again");
    }
}

#[test]
fn faster_than_the_drop_is_noticed() {
    let mut rig = rig(HEALING);
    let mut client = rig.join();
    for _ in 0..5 {
        // The reset and the new connection race to the edge. Either order is right.
        let session = client.reset();
        client = rig.resume(session);
        rig.round_trip(&mut client, b"here again");
    }
    rig.fence();
}

#[test]
fn after_a_drop_in_the_middle_of_a_frame() {
    let mut rig = rig("");
    let mut client = rig.join();
    client.send(b"whole");
    // Announces 100 bytes and dies after 3.
    client.frames.write(&[100, 0, 0, 0, 1, 2, 3]);
    rig.link.expect_data(client.id(), b"whole");
    let session = client.leave();
    let mut client = rig.resume(session);
    rig.round_trip(&mut client, b"next");
}

#[test]
fn the_notice_goes_before_the_first_data_even_in_one_segment() {
    let mut rig = rig("");
    let session = rig.join().leave();
    let mut challenged = session.claim(rig.address());
    let response = session.response_to(&challenged.challenge);
    let mut bytes = handshake::encoded(Handshake::ChallengeResponse(&response));
    bytes.extend(handshake::encoded(Handshake::Ping));
    bytes.extend(handshake::frame(b"data"));
    challenged.frames.write(&bytes);
    rig.link.expect_resumed(session.id);
    rig.link.expect_data(session.id, b"data");
    assert_eq!(challenged.frames.incoming(), Incoming::Body(vec![0]));
}

#[test]
fn a_response_and_a_ping_cut_at_every_byte() {
    let mut rig = rig("");
    let session = rig.join().leave();
    let mut challenged = session.claim(rig.address());
    let response = session.response_to(&challenged.challenge);
    let mut bytes = handshake::encoded(Handshake::ChallengeResponse(&response));
    bytes.extend(handshake::encoded(Handshake::Ping));
    for byte in bytes {
        challenged.frames.write(&[byte]);
    }
    rig.link.expect_resumed(session.id);
    assert_eq!(challenged.frames.incoming(), Incoming::Body(vec![0]));
}

#[test]
fn the_identity_moves_whole() {
    let mut rig = rig(HEALING);
    let mut other = rig.join();
    let mut client = rig.join();
    let id = client.id();
    for round in 0..3 {
        client = rig.resume(client.leave());
        assert_eq!(client.id(), id, "{round}");
        rig.round_trip(&mut client, b"mine");
        rig.round_trip(&mut other, b"the other's");
    }
}

#[test]
fn a_connection_that_ends_between_the_proof_and_the_ping_is_not_told_to_the_backend() {
    let mut rig = rig(HEALING);
    let session = rig.join().leave();
    rig.link.send(session.id, b"missed");
    let mut challenged = session.claim(rig.address());
    let response = session.response_to(&challenged.challenge);
    challenged
        .frames
        .write(&handshake::encoded(Handshake::ChallengeResponse(&response)));
    challenged.frames.finish();
    // Nothing is written between the Challenge and the Ping.
    assert_eq!(
        challenged.frames.incoming(),
        Incoming::Fin { unfinished: 0 }
    );
    rig.fence();
    let mut client = rig.resume(session);
    client.expect(b"missed");
}

#[test]
fn a_takeover_closes_the_old_connection_and_loses_nothing() {
    let mut rig = rig("");
    let mut old = rig.join();
    let session = old.session.clone();
    old.send(b"whole, of the old one");
    old.frames.write(&[50, 0, 0, 0, b'p', b'a', b'r', b't']);
    rig.link.expect_data(session.id, b"whole, of the old one");
    let mut new = rig.resume(session);
    old.frames.expect_closed();
    // Late bytes of the old connection that would complete its frame.
    let _ = old.frames.try_write(&[b'x'; 46]);
    rig.round_trip(&mut new, b"of the new one");
    rig.fence();
}

/// With a bound of 0: the session was never away, so its queue moves along. (SPEC 9.3(d))
#[test]
fn a_takeover_brings_along_what_the_old_connection_had_not_taken() {
    const PACKETS: u64 = 40;
    let mut rig = rig("clients.channel_bytes = 67_108_864\n");
    let mut old = Client::join_over(Frames::connect_narrow(rig.address(), 4_096));
    old.send(b"here");
    rig.link.expect_data(old.id(), b"here");
    for n in 0..PACKETS {
        rig.link.send(old.id(), &bytes_of(n, 1 << 20));
    }
    old.expect(&bytes_of(0, 1 << 20));
    let mut new = rig.resume(old.session.clone());
    let first = new.recv();
    let first = (1..PACKETS)
        .find(|&n| bytes_of(n, 1 << 20) == first)
        .expect("one of the packets, whole, that the old connection had not taken");
    for n in first + 1..PACKETS {
        new.expect(&bytes_of(n, 1 << 20));
    }
    // Missing packets are those that the old transport had taken whole, and all of them were in order.
    let (packets, _) = old.frames.rest();
    for (n, packet) in (1..).zip(packets) {
        assert!(
            n < first && packet == bytes_of(n, 1 << 20),
            "{n} of {first}"
        );
    }
    rig.round_trip(&mut new, b"newer");
}

#[test]
fn two_holders_of_one_session_can_take_turns_but_not_spin() {
    let mut rig = rig("");
    let client = rig.join();
    let session = client.session.clone();
    let mut live = client;
    let begin = Instant::now();
    // Ten takeovers at once, and one more each second.
    for _ in 0..12 {
        let next = rig.resume(session.clone());
        live.frames.expect_closed();
        live = next;
    }
    assert!(begin.elapsed() >= Duration::from_secs(1));
    rig.round_trip(&mut live, b"still me");
}

#[test]
fn of_two_that_come_back_at_once_one_stays() {
    let mut rig = rig(HEALING);
    let session = rig.join().leave();
    for round in 1..=3 {
        let address = rig.address();
        let come_back = || {
            let challenged = session.claim(address);
            let response = session.response_to(&challenged.challenge);
            let mut frames = challenged.respond(&response);
            // The Ping, or the end if the other one took over first.
            let first = frames.incoming();
            (frames, first)
        };
        let both = thread::scope(|scope| {
            let sides = [scope.spawn(come_back), scope.spawn(come_back)];
            sides.map(|side| side.join().expect("no panic"))
        });
        rig.link.send(session.id, &[round]);
        let mut received = 0;
        for (mut frames, first) in both {
            if first == Incoming::Body(vec![0]) && frames.incoming() == Incoming::Body(vec![round])
            {
                received += 1;
            }
        }
        assert_eq!(received, 1);
        let notices = rig.packets_so_far();
        assert!((1..=2).contains(&notices.len()), "{notices:?}");
        for notice in notices {
            assert_eq!((notice.id, notice.flag), (session.id, Flag::Resumed));
        }
    }
}

#[test]
fn a_claim_may_be_made_while_the_owner_is_connected_and_changes_nothing() {
    let mut rig = rig("");
    let mut client = rig.join();
    let _claims: Vec<Challenged> = (0..4)
        .map(|_| client.session.claim(rig.address()))
        .collect();
    rig.round_trip(&mut client, b"undisturbed");
    rig.fence();
}

/// The client closes its connection in order and resumes at once, while the edge does not read it for lack of room at the backend.
#[test]
fn packets_sent_before_an_orderly_end_precede_the_resume() {
    const PACKETS: u64 = 40;
    let mut rig = rig(&format!(
        "{METRICS}general.shards = 1\nmaster.channel_capacity = 8\n"
    ));
    let mut loud = rig.join();
    let mut client = rig.join();
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
    client.send(b"in line");
    wait_for(2);
    // In one segment, so that it is there, with the end behind it, before the resume.
    let mut segment = Vec::new();
    for number in 0..PACKETS {
        encode_frame(&bytes_of(number, 1_000), &mut segment);
    }
    client.frames.write(&segment);
    client.frames.finish();
    let back = client.session.clone().resume(rig.address());
    let (mut heard, mut of_loud, mut is_back) = (Vec::new(), 0, false);
    while of_loud < 300 || !is_back {
        let packet = rig.link.recv();
        match packet.flag {
            Flag::Resumed => is_back = true,
            _ if packet.id != back.id() => of_loud += usize::from(packet.data.len() == 65_536),
            _ => heard.push((is_back, packet.data)),
        }
    }
    let sent = (0..PACKETS).map(|number| bytes_of(number, 1_000));
    let sent = std::iter::once(b"in line".to_vec()).chain(sent);
    let sent: Vec<_> = sent.map(|packet| (false, packet)).collect();
    assert!(heard == sent, "{} of {} packets", heard.len(), sent.len());
    drop(loud.join().expect("no panic"));
    rig.stop();
}
