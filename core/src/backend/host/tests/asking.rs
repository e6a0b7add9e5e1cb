//! What is asked first, and what the answer makes of the link.

use super::*;

#[test]
fn it_asks_first_and_says_nothing_else_before_the_answer() {
    let mut world = World::new();
    world.host.send(ID, b"too early").expect("it waits");
    world.host.handle_connected(world.now);
    world.read();
    let ask = world.asked.expect("it has asked");
    assert_eq!((ask.boot, ask.run, ask.received), (BOOT, None, 0));
    assert_eq!(ask.longest_body, (8 << 20) + 9);
    assert!(world.frames.is_empty());
    // Nobody has the id, so nothing goes to it.
    let heard = world.tell_all(&[grant(RUN, 0, 0)]);
    let gone = Heard::Ended(ID, 301, "the edge has it no longer".into());
    assert_eq!(heard, [Heard::Connected(Some(0)), gone, Heard::CaughtUp]);
    assert!(world.take().is_empty());
}

#[test]
fn what_the_examples_of_the_spec_say_is_heard() {
    let mut world = World::new();
    world.host.handle_connected(world.now);
    world.read();
    let mut hear = |name: &str| world.feed(&example(name)).expect(name);
    assert_eq!(hear("link-grant"), [Heard::Connected(Some(1))]);
    // Its JOINED follows, so nobody is told yet but that all are there.
    assert_eq!(hear("link-own"), [Heard::CaughtUp]);
    assert_eq!(hear("link-joined"), [Heard::Joined(ID, false)]);
    assert_eq!(hear("link-data-up"), [Heard::Packet(ID, 3, b"hi".to_vec())]);
    assert_eq!(hear("link-away"), [Heard::Away(ID)]);
    assert_eq!(hear("link-resumed"), [Heard::Resumed(ID, 3)]);
    for (name, says) in [
        (
            "link-gap",
            "Gap { first: 4, count: 2, bytes: 70000, reason: 1 }",
        ),
        ("link-token", "token: [110, 101, 119]"),
        (
            "link-refused",
            "Refused { id: 72623859790382856, flag: 38, refusal: Malformed }",
        ),
    ] {
        match &hear(name)[..] {
            [Heard::Other(text)] => assert!(text.contains(says), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(hear("link-settled"), []);
    let ended = Heard::Ended(ID, 302, "expired".into());
    assert_eq!(hear("link-ended"), [ended]);
    assert_eq!(hear("link-ended"), [], "once");
    assert_eq!(world.host.mark().count, 11);
}

#[test]
fn silence_and_any_frame_of_version_2_mean_version_2() {
    let mut world = World::new();
    world.host.handle_connected(world.now);
    world.read();
    assert_eq!(world.host.poll_timeout(), Some(world.now + ASK_WITHIN));
    let deadline = world.now + ASK_WITHIN;
    world.host.handle_timeout(world.now);
    assert_eq!(world.host.poll_event(), None);
    world.host.handle_timeout(deadline);
    let heard = world.host.poll_event().and_then(short);
    assert_eq!(heard, Some(Heard::Connected(None)));
    world.host.send(ID, b"down").expect("room");
    assert_eq!(
        world.host.output(),
        b"\x0d\0\0\0\x08\x07\x06\x05\x04\x03\x02\x01\0down"
    );
    // Both ends would count differently from here.
    let late = world.feed(&grant(RUN, 0, 0));
    assert_eq!(late, Err(BackendError::LateGrant));

    let mut world = World::new();
    world.host.handle_connected(world.now);
    let mut first = bytes_of(data(ID, b"up"));
    first.extend(bytes_of(data(ID, b"again")));
    let heard = world.feed(&first).expect("version 2");
    let packets = [
        Heard::Connected(None),
        Heard::Packet(ID, 1, b"up".to_vec()),
        Heard::Packet(ID, 2, b"again".to_vec()),
    ];
    assert_eq!(heard, packets);
    assert_eq!(
        (world.host.mark(), world.host.poll_timeout()),
        (Mark::NONE, None)
    );
}

#[test]
fn an_edge_that_has_granted_is_not_taken_for_one_of_version_2() {
    let mut world = World::joined();
    world.host.handle_closed();
    world.host.handle_connected(world.now);
    let deadline = world.now + GRANT_WITHIN;
    assert_eq!(world.host.poll_timeout(), Some(deadline));
    world.host.handle_timeout(deadline);
    assert!(world.host.wants_close());
    world.host.handle_closed();
    assert!(!world.host.wants_close());
    // Another edge, which has none of the sessions.
    world.host.handle_connected(world.now);
    let heard = world
        .feed(&bytes_of(data(OTHER, b"up")))
        .expect("version 2");
    assert!(heard.contains(&Heard::Ended(ID, 301, "the edge began again".into())));
}

/// SPEC 34.1(g): an application that comes back between ASK and GRANT is acknowledged behind GRANT, and not before.
#[test]
fn nothing_is_acknowledged_between_ask_and_grant() {
    let mut world = World::joined();
    world.now = at(2_000);
    world.sent += 1;
    let bytes = bytes_of(data(ID, b"up"));
    let mut input = &bytes[..];
    while world
        .host
        .handle_bytes(world.now, &mut input)
        .expect("a frame")
        .is_some()
    {}
    let mark = world.host.mark();
    world.host.handle_closed();
    world.reader.clear();
    world.host.handle_connected(world.now);
    world.read();
    world.frames.clear();
    world.host.taken_up(world.now, mark);
    world.now = at(3_000);
    world.host.handle_timeout(world.now);
    world.read();
    assert!(world.frames.is_empty(), "{:?}", world.frames);
    world.tell_all(&[grant(RUN, world.received, 1)]);
    world.host.handle_timeout(world.now);
    world.read();
    let all = Features::from_bits(u32::MAX);
    let acks = world.frames.iter().map(|body| ToEdge::decode(body, all));
    let acks: Vec<_> = acks
        .map(|frame| match frame {
            Ok(ToEdge::LinkAck(ack)) => ack.acknowledged,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(acks, [world.sent]);
}

/// SPEC 34.2: the edge has ASK before what was queued when the application came back, so ASK must not say that it did.
#[test]
fn ask_acknowledges_nothing_that_no_frame_has_acknowledged() {
    let mut world = World::joined();
    world.host.send(ID, b"down").expect("room");
    // It comes back from this, and says so behind the packet, of which nothing is written.
    world.tell(data(ID, b"up"));
    world.now = at(2_000);
    world.host.handle_timeout(world.now);
    world.reopen(grant(RUN, world.received, 1));
    let ask = world.asked.expect("asked again");
    assert_eq!((ask.received, ask.acknowledged), (world.sent, 0));
    world.now = at(3_000);
    world.host.handle_timeout(world.now);
    world.read();
    // Now it has gone whole.
    world.reopen(grant(RUN, world.received, 1));
    let ask = world.asked.expect("asked again");
    assert_eq!((ask.received, ask.acknowledged), (world.sent, world.sent));
}

/// SPEC 45.6(b): the edge has it in its groups until it reads this, and what is sent to them later is not for it.
#[test]
fn one_that_goes_elsewhere_is_taken_out_of_its_groups() {
    let mut world = World::joined();
    let group = GroupId(5);
    world.host.add(group, ID).expect("room");
    world.read();
    world.frames.clear();
    let ended = Ended {
        code: Code::ELSEWHERE,
        up: Ledger::default(),
        down: Ledger::default(),
        text: "",
    };
    world.tell(ToBackend::Ended { id: ID, ended });
    world.read();
    let all = Features::from_bits(u32::MAX);
    let frames = world.frames.iter().map(|body| ToEdge::decode(body, all));
    let removed: Vec<GroupId> = frames
        .filter_map(|frame| match frame {
            Ok(ToEdge::GroupRemove { group, ids }) => {
                assert!(ids.iter().eq([ID]));
                Some(group)
            }
            _ => None,
        })
        .collect();
    assert_eq!(removed, [group, EVERYONE]);
}
