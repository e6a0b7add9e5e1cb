//! Client, edge and backend machines together. What a transport held when it died may be lost; these transports hold
//! nothing, so nothing may be lost at all.

mod saved;
mod v3;
mod world;

use core::time::Duration;

use self::world::{Heard, Peer, World};
use voltlane_core::client::{Client, ClientConfig, Code, DropCause, State, Violation};
use voltlane_core::keys::KeyPair;
use voltlane_core::{ClientId, Time};

/// Returns why the session of the first client is over, if it is.
fn refused(world: &World) -> Option<Code> {
    world.clients[0].client.end().map(|end| end.code)
}

/// A packet that says what it is, of a length of its own.
fn packet(client: usize, n: usize) -> Vec<u8> {
    let mut packet = format!("{client}/{n}/").into_bytes();
    packet.resize(packet.len() + (client * 7 + n * 13) % 90, b'.');
    packet
}

fn packets(client: usize, count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| packet(client, n)).collect()
}

/// The packets of one client, as the backend heard them.
fn heard_from(world: &World, id: ClientId) -> Vec<Vec<u8>> {
    let of_client = |heard: &Heard| match heard {
        Heard::Packet(from, data) if *from == id => Some(data.clone()),
        _ => None,
    };
    world.heard.iter().filter_map(of_client).collect()
}

#[test]
fn nothing_is_lost_doubled_or_mixed_up_while_everything_breaks() {
    const CLIENTS: usize = 4;
    const COUNT: usize = 40;
    let mut resumed = 0;
    for seed in 0..30 {
        let mut world = World::joined(seed, CLIENTS as u8);
        let ids: Vec<ClientId> = (0..CLIENTS).map(|client| world.id(client)).collect();
        for n in 0..COUNT {
            for (client, id) in ids.iter().enumerate() {
                world.clients[client]
                    .client
                    .send(&packet(client, n))
                    .expect("there is room");
                world
                    .backend
                    .send(*id, &packet(client, n))
                    .expect("there is room");
            }
            for _ in 0..world.below(30) {
                world.turn();
            }
            match world.below(6) {
                0 => world.cut_link(),
                1 | 2 => {
                    let client = world.below(CLIENTS);
                    world.cut(client);
                }
                3 => {
                    let client = world.below(CLIENTS);
                    world.clients[client].client.drop_connection();
                }
                _ => {}
            }
        }
        world.until(|world| {
            let down = world.clients.iter().all(|peer| peer.packets.len() >= COUNT);
            let up = ids.iter().all(|id| heard_from(world, *id).len() >= COUNT);
            down && up && world.edge.gauges().link_packets == 0
        });
        for (client, id) in ids.iter().enumerate() {
            assert_eq!(world.id(client), *id, "an identity is kept, seed {seed}");
            assert_eq!(
                world.clients[client].packets,
                packets(client, COUNT),
                "down, seed {seed}"
            );
            assert_eq!(
                heard_from(&world, *id),
                packets(client, COUNT),
                "up, seed {seed}"
            );
            let resumes = world.clients[client]
                .events
                .iter()
                .filter(|event| *event == "resumed")
                .count();
            let told = world
                .heard
                .iter()
                .filter(|heard| **heard == Heard::Resumed(*id))
                .count();
            // A connection may be cut between the resume and the client's news of it.
            assert!(told >= resumes, "seed {seed}: {told} of {resumes}");
            resumed += resumes;
        }
        assert!(
            !world
                .heard
                .iter()
                .any(|heard| matches!(heard, Heard::Failed(..))),
            "seed {seed}: {:?}",
            world.heard
        );
    }
    assert!(resumed > 100, "the cuts did not cut: {resumed}");
}

#[test]
fn the_backend_hears_of_a_return_before_the_first_packet_of_it() {
    let mut world = World::joined(1, 1);
    let id = world.id(0);
    world.clients[0]
        .client
        .send(b"before")
        .expect("there is room");
    world.until(|world| world.heard.len() == 1);
    world.cut(0);
    world.clients[0]
        .client
        .send(b"after")
        .expect("there is room");
    world.until(|world| world.heard.len() == 3);
    let expected = [
        Heard::Packet(id, b"before".to_vec()),
        Heard::Resumed(id),
        Heard::Packet(id, b"after".to_vec()),
    ];
    assert_eq!(world.heard, expected);
}

#[test]
fn an_expired_session_is_refused_and_another_begins_on_request() {
    let mut world = World::joined(2, 1);
    let id = world.id(0);
    world.cut(0);
    world.now = world.now + Duration::from_secs(400);
    world.until(|world| refused(world) == Some(Code::GONE));
    assert_eq!(world.heard, [Heard::Failed(id, "expired".to_owned())]);
    let unprovable = format!(
        "dropped: {}",
        DropCause::Violation(Violation::UnprovableChallenge)
    );
    let events = &world.clients[0].events;
    assert_eq!(
        events[1..],
        [
            "dropped: the connection broke",
            &unprovable,
            &unprovable,
            "refused: UnknownOrExpired"
        ]
    );

    world.clients[0].client.start_over();
    world.until(|world| world.clients[0].client.state() == State::Established);
    assert_ne!(world.id(0), id);
}

#[test]
fn a_kicked_client_gets_what_was_queued_and_is_refused_then() {
    let mut world = World::joined(3, 2);
    let (kicked, other) = (world.id(0), world.id(1));
    world
        .backend
        .send(kicked, b"goodbye")
        .expect("there is room");
    world.backend.kick(kicked).expect("there is room");
    world.until(|world| refused(world) == Some(Code::GONE));
    assert_eq!(world.clients[0].packets, [b"goodbye"]);
    assert_eq!(world.heard, [Heard::Failed(kicked, "kicked".to_owned())]);

    world
        .backend
        .send(other, b"still here")
        .expect("there is room");
    world.until(|world| !world.clients[1].packets.is_empty());
    world
        .backend
        .send(kicked, b"too late")
        .expect("there is room");
    world.until(|world| world.heard.len() == 2);
    assert_eq!(
        world.heard[1],
        Heard::Failed(kicked, "unknown client".to_owned())
    );
}

#[test]
fn a_restored_client_takes_over_from_its_old_self() {
    let mut world = World::joined(4, 1);
    let id = world.id(0);
    let saved = world.clients[0]
        .client
        .saved_session()
        .expect("established");
    world.clients.push(Peer::new(Client::restore(
        ClientConfig::default(),
        [200; 32],
        &saved,
    )));
    world.until(|world| world.clients[1].client.state() == State::Established);
    assert_eq!(
        (world.id(1), world.clients[1].events.as_slice()),
        (id, &["resumed".to_owned()][..])
    );
    // The old self takes it back, being alive: whoever has the bytes is the client.
    world.until(|world| {
        world.clients[0]
            .events
            .iter()
            .any(|event| event == "resumed")
    });
}

#[test]
fn an_edge_with_another_key_is_refused_and_one_with_the_same_key_knows_nobody() {
    let keys = |byte| KeyPair::from_bytes(&[byte; 32]).expect("a scalar below the order");
    let mut world = World::joined(5, 1);
    world.restart_edge(keys(1));
    world.until(|world| refused(world) == Some(Code::OTHER_EDGE));
    world.clients[0].client.start_over();
    world.until(|world| world.clients[0].client.state() == State::Established);

    world.restart_edge(keys(1));
    world.until(|world| refused(world) == Some(Code::GONE));
}

#[test]
fn clients_join_and_wait_while_there_is_no_backend() {
    let mut world = World::joined(6, 2);
    world.backend_listens = false;
    world.cut_link();
    for client in 0..2 {
        for n in 0..10 {
            world.clients[client]
                .client
                .send(&packet(client, n))
                .expect("there is room");
        }
    }
    world
        .clients
        .push(Peer::new(Client::new(ClientConfig::default(), [99; 32])));
    world.cut(0);
    world.until(|world| {
        world
            .clients
            .iter()
            .all(|peer| peer.client.state() == State::Established)
    });
    assert_eq!(world.heard, []);
    world.backend_listens = true;
    world.until(|world| world.heard.len() == 21);
    for client in 0..2 {
        assert_eq!(heard_from(&world, world.id(client)), packets(client, 10));
    }
}

#[test]
fn one_seed_is_one_run() {
    let run = |seed| {
        let mut world = World::joined(seed, 3);
        for n in 0..10 {
            world.clients[n % 3]
                .client
                .send(&packet(n % 3, n))
                .expect("there is room");
            world.cut(n % 2);
            world.until(|world| {
                world
                    .clients
                    .iter()
                    .all(|peer| peer.client.state() == State::Established)
            });
        }
        (world.now, world.id(0), world.heard)
    };
    let (first, again, other): ((Time, ClientId, _), _, _) = (run(7), run(7), run(8));
    assert_eq!(first, again);
    assert_ne!(first, other);
}
