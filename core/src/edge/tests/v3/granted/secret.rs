//! A secret that both ends of the link prove to each other (SPEC 34.5), between the machines of both ends.

use super::shards::Shards;
use super::*;
use crate::backend::BackendError;
use crate::backend::host::{GrantError, Host, HostConfig};
use crate::edge::HasLink;
use crate::link::v3::{Challenge, LinkSecret, Proof, Refusal};

fn secret(byte: u8) -> LinkSecret {
    LinkSecret::new(&[byte; 32]).expect("long enough")
}

fn edge(of_edge: Option<u8>, protocol: LinkProtocol) -> World {
    world(|config| {
        config.master.secret = of_edge.map(secret);
        config.master.protocol = protocol;
    })
}

fn host(of_backend: Option<u8>) -> Host {
    let config = HostConfig::default().asking(BOOT);
    Host::new(match of_backend {
        Some(byte) => config.proving(secret(byte), [byte; 32]),
        None => config,
    })
}

/// Moves everything both ways on a new link. Returns all that the edge has sent, and why the backend closes the link, if it does.
fn meet(edge: &mut impl HasLink, now: Time, host: &mut Host) -> (Vec<u8>, Option<BackendError>) {
    host.handle_connected(now);
    let mut all = Vec::new();
    loop {
        let down = host.output().to_vec();
        host.handle_written(down.len());
        edge.handle_link_bytes(now, &down);
        let up = edge.link_output().concat();
        edge.handle_link_written(now, up.len());
        if down.is_empty() && up.is_empty() {
            return (all, None);
        }
        all.extend_from_slice(&up);
        let mut input = &up[..];
        loop {
            match host.handle_bytes(now, &mut input) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => return (all, Some(error)),
            }
        }
        while host.poll_event().is_some() {}
    }
}

fn flags(bytes: &[u8]) -> Vec<u8> {
    let (mut reader, mut input, mut flags) = (FrameReader::default(), bytes, Vec::new());
    while let Some(body) = reader.next_frame(&mut input, NO_BOUND).unwrap() {
        flags.push(body[8]);
    }
    flags
}

#[test]
fn ends_with_the_same_secret_speak_and_others_learn_why_not() {
    use GrantError::{OtherSecret, SecretWanted, Unproven};
    let table = [
        (None, None, None),
        (Some(1), Some(1), None),
        (Some(1), None, Some(SecretWanted)),
        (None, Some(1), Some(Unproven)),
        (Some(1), Some(2), Some(OtherSecret)),
    ];
    for (of_edge, of_backend, refused) in table {
        let at = format!("{of_edge:?} {of_backend:?}");
        let mut world = edge(of_edge, LinkProtocol::Auto);
        let one = world.join();
        world.send(one.conn, b"for the backend alone");
        let mut host = host(of_backend);
        let (sent, error) = meet(&mut world.edge, world.now, &mut host);
        assert_eq!(error, refused.map(BackendError::Refused), "{at}");
        let gauges = world.edge.gauges();
        assert_eq!(gauges.link_is_unproven, refused.is_some(), "{at}");
        assert_eq!(gauges.link_is_up, refused.is_none(), "{at}");
        match refused {
            None => assert_eq!(host.sessions(), [one.id], "{at}"),
            Some(_) => {
                let sent = flags(&sent);
                let may = [flag::CHALLENGE, flag::REFUSED];
                assert!(sent.iter().all(|flag| may.contains(flag)), "{at}: {sent:?}");
                assert_eq!(sent.last(), Some(&flag::REFUSED), "{at}");
                // A backend that stays is dropped.
                world.wait(Duration::from_millis(999));
                assert!(!world.edge.link_wants_close(), "{at}");
                world.wait(Duration::from_millis(1));
                assert!(world.edge.link_wants_close(), "{at}");
            }
        }
    }
}

/// SPEC 34.5(d): one that has not proven the secret ends nothing that was counted with another.
#[test]
fn an_ask_without_a_proof_has_no_effect() {
    let mut world = edge(Some(1), LinkProtocol::V3);
    let mut good = host(Some(1));
    assert_eq!(meet(&mut world.edge, world.now, &mut good).1, None);
    let one = world.join();
    world.send(one.conn, b"kept");
    let again = |world: &mut World| {
        world.edge.handle_link_closed(world.now, Closed::Eof);
        world.wait(Duration::from_secs(30));
        world.backend_comes();
    };
    for of_backend in [None, Some(2)] {
        again(&mut world);
        let (_, error) = meet(&mut world.edge, world.now, &mut host(of_backend));
        assert!(error.is_some());
    }
    again(&mut world);
    good.handle_closed();
    let (sent, error) = meet(&mut world.edge, world.now, &mut good);
    assert_eq!((error, world.edge.gauges().link_is_unproven), (None, false));
    let expected = [flag::CHALLENGE, flag::GRANT, flag::JOINED, flag::DATA];
    assert_eq!(flags(&sent)[..4], expected, "it goes on, without OWN");
}

/// Each link has nonces of its own, so what was proven on one proves nothing on another.
#[test]
fn what_was_seen_on_one_link_proves_nothing_on_the_next() {
    let mut world = edge(Some(1), LinkProtocol::V3);
    let mut good = host(Some(1));
    good.handle_connected(world.now);
    let ask = good.output().to_vec();
    good.handle_written(ask.len());
    world.edge.handle_link_bytes(world.now, &ask);
    let challenge = world.edge.link_takes(world.now, usize::MAX);
    let mut input = &challenge[..];
    while good.handle_bytes(world.now, &mut input).unwrap().is_some() {}
    let proof = good.output().to_vec();
    assert!(matches!(Proof::of(&proof[4..]), Some(Ok(Proof(Some(_))))));
    // The same bytes to the edge.
    world.edge.handle_link_closed(world.now, Closed::Eof);
    world.wait(Duration::from_secs(5));
    world.backend_comes();
    world.edge.handle_link_bytes(world.now, &ask);
    let next = world.edge.link_takes(world.now, usize::MAX);
    let nonce = |bytes: &[u8]| Challenge::of(&bytes[4..]).unwrap().unwrap().nonce;
    assert_ne!(nonce(&next), nonce(&challenge));
    world.edge.handle_link_bytes(world.now, &proof);
    assert_eq!(
        flags(&world.edge.link_takes(world.now, usize::MAX)),
        [flag::REFUSED]
    );
    // And the same bytes to the backend.
    good.handle_closed();
    good.handle_connected(world.now);
    let again = good.output().to_vec();
    assert_ne!(again, ask);
    good.handle_written(again.len());
    let mut input = &challenge[..];
    while good.handle_bytes(world.now, &mut input).unwrap().is_some() {}
    assert_eq!(Proof::of(&good.output()[4..]), Some(Ok(Proof(None))));
}

#[test]
fn a_backend_with_a_secret_serves_nobody_without_it() {
    let grant = Grant {
        features: all(),
        boot: BOOT,
        home: 0,
        term: 0,
        run: [1; 8],
        continues: None,
        received: 0,
        groups_of_a_session: 64,
        sessions: 0,
    };
    let mut granted = Vec::new();
    grant.encode(&mut granted);
    let mut of_version_2 = Vec::new();
    packet(ClientId::from_u64(7), b"x").encode(&mut of_version_2);
    for first in [granted, of_version_2] {
        let mut host = host(Some(1));
        host.handle_connected(Time::ZERO);
        let refused = host.handle_bytes(Time::ZERO, &mut &first[..]);
        assert_eq!(
            refused,
            Err(BackendError::Refused(GrantError::Unproven)),
            "{first:?}"
        );
    }
    let mut host = host(Some(1));
    host.handle_connected(Time::ZERO);
    let until = host.poll_timeout().expect("it does not wait for ever");
    assert_eq!(until, Time::from_millis(10_000));
    host.handle_timeout(until);
    assert!(host.wants_close() && host.poll_event().is_none());
}

#[test]
fn a_trunk_proves_the_secret_of_its_shards() {
    for (of_backend, refused) in [
        (Some(1), None),
        (Some(2), Some(GrantError::OtherSecret)),
        (None, Some(GrantError::SecretWanted)),
    ] {
        let mut shards = Shards::with(LinkProtocol::V3, Some(secret(1)));
        let one = shards.worlds[1].join();
        let mut host = host(of_backend);
        let now = shards.now;
        let (_, error) = meet(&mut shards.trunk, now, &mut host);
        assert_eq!(error, refused.map(BackendError::Refused));
        shards.pump();
        assert_eq!(shards.trunk.gauges().link_is_unproven, refused.is_some());
        if refused.is_none() {
            // GRANT, and then what the shards have.
            for _ in 0..4 {
                let up = shards.link_takes(usize::MAX);
                let mut input = &up[..];
                while host.handle_bytes(now, &mut input).unwrap().is_some() {}
                shards.pump();
            }
            assert_eq!(host.sessions(), [one.id]);
        } else {
            assert!(shards.link_takes(usize::MAX).is_empty());
            shards.wait(Duration::from_secs(1));
            assert!(shards.trunk.link_wants_close());
        }
    }
}

/// On a link that has version 2 already, a frame may have been begun.
#[test]
fn a_backend_that_wants_a_secret_late_is_dropped_at_once() {
    let mut world = edge(None, LinkProtocol::Auto);
    world.wait(Duration::from_millis(100));
    let mut host = host(Some(1));
    host.handle_connected(world.now);
    let ask = host.output().to_vec();
    world.edge.handle_link_bytes(world.now, &ask);
    assert!(world.edge.link_wants_close());
    assert!(world.edge.link_takes(world.now, usize::MAX).is_empty());
    assert!(world.edge.gauges().link_is_unproven);
    assert_eq!(Refusal::SecretUnknown.to_u8(), 5);
}
