//! What an application sends before the picture of the edge is complete, and what it hears of sessions that ended unheard.

use super::*;

/// An edge of another process, which continues the run, with `sessions` OWN.
fn replaced(sessions: u32) -> Vec<u8> {
    let mut grant = grant_of([0x78; 8], 0, sessions);
    grant.continues = Some(RUN);
    encoded(&grant)
}

/// SPEC 34.1(h).
#[test]
fn what_is_sent_before_the_picture_is_complete_goes_behind_it_with_numbers_of_the_edge() {
    let mut world = World::joined();
    let third = ClientId::from_u64(3);
    world.tell(joined(OTHER));
    world.tell(joined(third));
    let red = GroupId(7);
    world.host.add(red, ID).expect("a group");
    world.take();
    world.reopen(replaced(2));
    world.take();
    // Before the OWN of any, and between the two.
    world.host.send(OTHER, b"a").expect("room");
    world
        .host
        .send_to_many(Some(red), &[], None, b"b")
        .expect("room");
    assert_eq!(world.tell(own(ID)), []);
    assert_eq!(
        world.host.send(ID, b"c"),
        Ok(9),
        "behind 7 and one that waits"
    );
    world.host.add(red, OTHER).expect("a group");
    world
        .host
        .send_to_many(Some(red), &[], Some(1), b"d")
        .expect("room");
    world
        .host
        .send_volatile_to_many(None, &[third], b"e")
        .expect("room");
    world.host.kick(ID, 600, "no manners").expect("a kick");
    assert!(world.take().is_empty(), "they wait");
    world.host.pause(ID, true);
    assert!(world.take()[0].contains("Pause"), "it has no number");
    let gone = Heard::Ended(third, 301, "the edge has it no longer".into());
    assert_eq!(world.tell(own(OTHER)), [gone, Heard::CaughtUp]);
    world.read();

    let mut groups = Vec::new();
    let mut sent = Vec::new();
    for body in &world.frames {
        match ToEdge::decode(body, all()).expect("well-formed") {
            ToEdge::GroupAdd { group, ids } => {
                assert!(sent.is_empty(), "groups come first");
                groups.push((group, ids.iter().collect::<Vec<_>>()));
            }
            ToEdge::Packet { id, packet, .. } => sent.push((id, packet)),
            ToEdge::Kick { id, kick } => sent.push((id, kick.text.as_bytes())),
            ToEdge::LinkAck(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(groups.contains(&(red, vec![OTHER, ID])), "{groups:?}");
    let expected: [(ClientId, &[u8]); 8] = [
        (OTHER, b"a"),
        (ID, b"b"),
        (ID, b"c"),
        (OTHER, b"d"),
        (ID, b"d"),
        (OTHER, b"e"),
        (ID, b"e"),
        (ID, b"no manners"),
    ];
    assert_eq!(sent, expected);
    // Each end has the numbers of the other: 7 of OWN, and those.
    assert_eq!(world.host.send(OTHER, b"next"), Ok(11));
    assert_eq!(world.host.send(ID, b"next"), Ok(12));
}

/// SPEC 36.4.
#[test]
fn an_edge_that_has_forgotten_a_pause_is_told_again() {
    let mut world = World::joined();
    world.tell(joined(OTHER));
    for id in [ID, OTHER] {
        world.host.pause(id, true);
    }
    world.host.pause(OTHER, false);
    world.take();
    world.reopen(replaced(2));
    world.take();
    world.tell(own(ID));
    assert!(world.take().is_empty(), "its OWN goes before");
    assert_eq!(world.tell(own(OTHER)), [Heard::CaughtUp]);
    let paused = |world: &mut World| {
        let frames = world.take().into_iter();
        let pauses = frames.filter(|frame| frame.contains("Pause"));
        pauses.collect::<Vec<_>>()
    };
    let told = paused(&mut world);
    assert_eq!(told, [format!("{:?}", ToEdge::Pause { id: ID })]);
}

/// SPEC 34.3, 35.6(a).
#[test]
fn the_last_packets_of_a_session_that_ended_unheard_are_heard() {
    let mut world = World::joined();
    world.tell(data(ID, b"1"));
    world.tell(data(ID, b"2"));
    world.tell(data(ID, b"3"));
    assert_eq!(world.reopen(replaced(1)), [Heard::Connected(Some(1))]);
    let ToBackend::Own { id, mut own } = own(ID) else {
        panic!("an OWN");
    };
    own.state = OwnState::Ended;
    assert_eq!(world.tell(ToBackend::Own { id, own }), [Heard::CaughtUp]);
    let last = Heard::Packet(ID, 4, b"last".to_vec());
    assert_eq!(world.tell(data(ID, b"last")), [last]);
    let ended = Ended {
        code: Code::EXPIRED,
        up: Ledger::default(),
        down: Ledger::default(),
        text: "expired",
    };
    let heard = world.tell(ToBackend::Ended { id, ended });
    assert_eq!(heard, [Heard::Ended(ID, 302, "expired".into())]);
}
