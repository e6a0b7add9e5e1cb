//! Version 3 from end to end. What a transport holds when it breaks is lost, and still no packet is.

use voltlane_core::ClientId;
use voltlane_core::client::{Code, Event, State};

use super::world::{Heard, World};
use super::{heard_from, packet, packets};

#[test]
fn nothing_is_lost_doubled_or_mixed_up_whatever_the_transports_held() {
    const CLIENTS: usize = 3;
    const COUNT: usize = 30;
    let mut resumed = 0;
    for seed in 0..40 {
        let mut world = World::joined_in_version_3(seed, CLIENTS as u8);
        let ids: Vec<ClientId> = (0..CLIENTS).map(|client| world.id(client)).collect();
        for n in 0..COUNT {
            for (client, id) in ids.iter().enumerate() {
                let sent = world.clients[client].client.send(&packet(client, n));
                sent.expect("there is room");
                let sent = world.backend.send(*id, &packet(client, n));
                sent.expect("there is room");
            }
            for _ in 0..world.below(30) {
                world.turn();
            }
            let client = world.below(CLIENTS);
            match world.below(4) {
                0 => {}
                1 => world.clients[client].client.drop_connection(),
                _ => world.cut(client),
            }
        }
        world.until(|world| {
            let down = world.clients.iter().all(|peer| peer.packets.len() >= COUNT);
            let up = ids.iter().all(|id| heard_from(world, *id).len() >= COUNT);
            // The edge has acknowledged all, too.
            let acknowledged = |peer: &super::Peer| peer.client.queued_packets() == 0;
            down && up && world.clients.iter().all(acknowledged)
        });
        for (client, id) in ids.iter().enumerate() {
            assert_eq!(world.id(client), *id, "an identity is kept, seed {seed}");
            let down = &world.clients[client].packets;
            assert_eq!(*down, packets(client, COUNT), "down, seed {seed}");
            let up = heard_from(&world, *id);
            assert_eq!(up, packets(client, COUNT), "up, seed {seed}");
            let ledgers = world.clients[client].client.ledgers();
            assert_eq!(ledgers.up.acknowledged, COUNT as u64);
            assert_eq!(ledgers.down.acknowledged, COUNT as u64);
        }
        let is_resume = |heard: &&Heard| matches!(heard, Heard::Resumed(_));
        resumed += world.heard.iter().filter(is_resume).count();
    }
    assert!(resumed > 200, "{resumed}");
}

/// A resume, packets both ways and ACKs. The transport breaks after `up` bytes up or `down` bytes down. Returns whether it did.
fn cut_after(up: usize, down: usize) -> bool {
    let mut world = World::joined_in_version_3(3, 1);
    let id = world.id(0);
    world.cut(0);
    (world.left_up, world.left_down) = (up, down);
    for round in 0..2 {
        for n in 0..4 {
            let packet = packet(0, 4 * round + n);
            let sent = world.clients[0].client.send(&packet);
            sent.expect("there is room");
            world.backend.send(id, &packet).expect("there is room");
        }
        let count = 4 * (round + 1);
        world.until(|world| {
            world.clients[0].packets.len() >= count
                && heard_from(world, id).len() >= count
                && world.clients[0].client.queued_packets() == 0
        });
    }
    assert_eq!(world.id(0), id);
    assert_eq!(world.clients[0].packets, packets(0, 8), "{up} {down}");
    assert_eq!(heard_from(&world, id), packets(0, 8), "{up} {down}");
    let resumes = |event: &&String| event.as_str() == "resumed";
    world.clients[0].events.iter().filter(resumes).count() > 1 || world.clients[0].events.len() > 4
}

#[test]
fn a_break_at_any_byte_of_a_resume_and_after_it_loses_nothing() {
    let mut broken = [0; 2];
    for bytes in 1..600 {
        broken[0] += u32::from(cut_after(bytes, usize::MAX));
        broken[1] += u32::from(cut_after(usize::MAX, bytes));
    }
    assert!(broken.iter().all(|broken| *broken > 500), "{broken:?}");
}

#[test]
fn a_goodbye_ends_a_session_at_all_three() {
    let mut world = World::joined_in_version_3(7, 1);
    let id = world.id(0);
    for n in 0..10 {
        let sent = world.clients[0].client.send(&packet(0, n));
        sent.expect("there is room");
    }
    let now = world.now;
    world.clients[0].client.close(now);
    world.until(|world| world.clients[0].client.state() == State::Ended);
    let end = world.clients[0].client.end().expect("it is over").clone();
    assert_eq!((end.code, end.text.as_str()), (Code::GOODBYE, ""));
    assert_eq!(end.ledgers.up.acknowledged, 10);
    world.until(|world| {
        let is_end = |heard: &Heard| matches!(heard, Heard::Failed(of, _) if *of == id);
        world.heard.iter().any(is_end)
    });
    assert_eq!(heard_from(&world, id), packets(0, 10));
}

#[test]
fn a_kick_arrives_with_its_code_even_at_a_client_that_is_away() {
    for is_away in [false, true] {
        let mut world = World::joined_in_version_3(9, 1);
        let id = world.id(0);
        world.clients[0]
            .client
            .send(b"here")
            .expect("there is room");
        world.until(|world| !heard_from(world, id).is_empty());
        if is_away {
            world.cut(0);
        }
        world.backend.kick(id).expect("there is room");
        world.until(|world| world.clients[0].client.state() == State::Ended);
        let end = world.clients[0].client.end().expect("it is over");
        assert_eq!(end.code, Code::KICKED, "{is_away}");
        assert_eq!(world.clients[0].client.poll_event(), None::<Event<'_>>);
    }
}
