//! Clients that are killed at any step, and go on with what they have stored.

use voltlane_core::client::{
    Client, ClientConfig, SavedClient, SavedClientError, Saving, Versions,
};

use super::world::{Heard, Peer, World};
use super::{packet, packets};

fn config(saving: Saving) -> ClientConfig {
    let config = ClientConfig::default().with_versions(Versions::V3);
    config.with_saving(saving)
}

/// What the application has done: packets sent, and packets that came.
fn state_of(sent: usize, got: usize) -> Vec<u8> {
    [sent.to_le_bytes(), got.to_le_bytes()].concat()
}

/// Returns what the application that goes on knows of itself: from its state, or from the numbers of the session.
fn known(world: &World, saving: Saving) -> (usize, usize) {
    let client = &world.clients[0].client;
    if saving == Saving::Saved {
        let (numbers, _) = client.saved_state().as_chunks();
        return match numbers {
            [sent, got] => (usize::from_le_bytes(*sent), usize::from_le_bytes(*got)),
            _ => (0, 0),
        };
    }
    let ledgers = client.ledgers();
    let as_count = |number| usize::try_from(number).expect("few packets");
    (
        as_count(ledgers.up.numbered),
        as_count(ledgers.down.numbered),
    )
}

/// A client is killed again and again, at steps that are drawn. Returns how often, and how often it had a session.
fn killed(seed: u8, saving: Saving) -> (usize, usize) {
    const COUNT: usize = 60;
    let mut world = World::in_version_3(seed);
    world
        .clients
        .push(Peer::new(Client::new(config(saving), [seed; 32])));
    let (mut sent, mut sent_down) = (0, 0);
    let mut kills = [0; 2];
    for _ in 0..40_000 {
        if world.below(50) == 0 {
            world.clients[0].steps_left = Some(world.below(12));
        }
        world.turn();
        if world.clients[0].steps_left == Some(0) || world.below(150) == 0 {
            kills[usize::from(world.clients[0].client.id().is_some())] += 1;
            world.kill(0, config(saving));
            let (known_sent, got) = known(&world, saving);
            assert!(known_sent <= sent, "seed {seed}: {known_sent} of {sent}");
            let packets = &mut world.clients[0].packets;
            assert!(got <= packets.len(), "seed {seed}: {got}");
            (sent, _) = (known_sent, packets.truncate(got));
        }
        let now = world.now;
        if sent < COUNT && world.below(3) == 0 {
            let packet = packet(0, sent);
            if world.clients[0].client.send(&packet).is_ok() {
                sent += 1;
            }
        }
        if saving == Saving::Saved && world.below(4) == 0 {
            let peer = &mut world.clients[0];
            let state = state_of(sent, peer.packets.len());
            peer.client.set_state(now, &state).expect("it is short");
        }
        // The backend knows only a session that it has heard of.
        let mut heard = world.heard.iter();
        if let Some(Heard::Packet(id, _)) = heard.find(|heard| matches!(heard, Heard::Packet(..)))
            && sent_down < COUNT
        {
            let id = *id;
            if world.backend.send(id, &packet(0, sent_down)).is_ok() {
                sent_down += 1;
            }
        }
        if world.below(300) == 0 {
            world.cut(0);
        }
        let heard = world
            .heard
            .iter()
            .filter(|heard| matches!(heard, Heard::Packet(..)));
        if heard.count() >= COUNT && world.clients[0].packets.len() >= COUNT {
            break;
        }
    }
    let up: Vec<_> = world
        .heard
        .iter()
        .filter_map(|heard| match heard {
            Heard::Packet(_, data) => Some(data.clone()),
            _ => None,
        })
        .collect();
    let down = &world.clients[0].packets;
    let counts = (up.len(), down.len());
    let events = &world.clients[0].events;
    let says = format!("{counts:?}, seed {seed}, {kills:?}: {events:?}");
    assert!(
        !events.iter().any(|event| event.starts_with("ended")),
        "{says}"
    );
    assert!(up == packets(0, COUNT), "up {says}");
    assert!(*down == packets(0, COUNT), "down {says}");
    (kills[0] + kills[1], kills[1])
}

#[test]
fn nothing_is_lost_or_doubled_by_a_client_that_is_killed_anywhere() {
    for saving in [Saving::Saved, Saving::Taken] {
        let (mut kills, mut within) = (0, 0);
        for seed in 0..40 {
            let (all, with_session) = killed(seed, saving);
            kills += all;
            within += with_session;
        }
        assert!(kills > 100 && within > 90, "{kills} {within}");
    }
}

#[test]
fn what_is_no_saved_client_is_refused_by_name() {
    let mut client = Client::new(config(Saving::Taken), [1; 32]);
    client.send(b"waits").expect("there is room");
    let bytes = client.to_save().to_vec();
    let error = |bytes: &[u8]| SavedClient::from_bytes(bytes).expect_err("it is none");
    assert!(SavedClient::from_bytes(&bytes).is_ok());
    for end in 0..bytes.len() {
        assert_eq!(error(&bytes[..end]), SavedClientError::Torn, "{end}");
    }
    for at in 9..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        assert_eq!(error(&bytes), SavedClientError::Torn, "{at}");
    }
    let mut newer = bytes.clone();
    newer[8] = 3;
    assert_eq!(error(&newer), SavedClientError::Newer { format: 3 });
    newer[8] = 1;
    assert_eq!(error(&newer), SavedClientError::Older);
    assert_eq!(error(b"[general]\nshards = 2\n"), SavedClientError::Foreign);
    // As earlier libraries wrote them.
    assert_eq!(
        error(&[&[1][..], &[7; 73]].concat()),
        SavedClientError::Older
    );
    assert_eq!(error(&[0x56, 2, 0, 0, 0, 9, 9]), SavedClientError::Older);
}

#[test]
fn what_waits_for_a_session_and_the_state_are_saved_without_one() {
    let mut client = Client::new(config(Saving::Saved), [1; 32]);
    assert!(!client.wants_save());
    let now = voltlane_core::Time::ZERO;
    assert_eq!(client.send(b"first"), Ok(1));
    assert!(!client.wants_save(), "it is held");
    client.set_state(now, b"one").expect("it is short");
    assert_eq!(client.send(b"second"), Ok(2));
    assert!(client.wants_save());
    let saved = SavedClient::from_bytes(&client.to_save()).expect("just written");
    assert_eq!((saved.state(), saved.id()), (&b"one"[..], None));
    let again = Client::restore_saved(config(Saving::Saved), [2; 32], saved);
    assert_eq!(again.saved_state(), b"one");
    assert_eq!(again.ledgers().up.numbered, 1);
    let long = vec![0; voltlane_core::client::MAX_STATE_BYTES + 1];
    client.set_state(now, &long[1..]).expect("the bound");
    assert!(client.set_state(now, &long).is_err());
}

#[test]
fn a_goodbye_goes_behind_the_packets_that_wait_for_a_session() {
    for saving in [Saving::Saved, Saving::Taken] {
        let mut world = World::in_version_3(7);
        world
            .clients
            .push(Peer::new(Client::new(config(saving), [7; 32])));
        let now = world.now;
        let client = &mut world.clients[0].client;
        for at in 0..3 {
            client.send(&packet(0, at)).expect("there is room");
        }
        client.set_state(now, b"").expect("it is short");
        while world.clients[0].client.id().is_none() {
            world.turn();
        }
        let now = world.now;
        world.clients[0].client.close(now);
        while world.clients[0].client.end().is_none() {
            world.turn();
        }
        let ledgers = world.clients[0].client.ledgers();
        assert_eq!(ledgers.up.acknowledged, 3, "{ledgers:?}");
        let heard = world.heard.iter().filter_map(|heard| match heard {
            Heard::Packet(_, data) => Some(data.clone()),
            _ => None,
        });
        assert!(heard.eq(packets(0, 3)));
    }
}
