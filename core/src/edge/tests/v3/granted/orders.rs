//! What a backend asks for: groups, pauses, kicks, classes of delivery, and what clients have settled. (SPEC 36, 38)

use super::*;

#[test]
fn groups_and_pauses_end_with_a_boot() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let one = world.join();
    let ids = [one.id];
    let add = ToEdge::GroupAdd {
        group: GROUP,
        ids: Ids::from(&ids[..]),
    };
    world.order(&mut backend, &add);
    world.order(&mut backend, &ToEdge::Pause { id: one.id });
    assert_eq!(world.edge.read_budget(one.conn), 0);
    world.edge.handle_link_closed(world.now, Closed::Eof);
    world.wait(Duration::from_secs(6));
    world.backend_comes();
    let mut backend = Backend::new([2; 16]);
    world.granted(&mut backend);
    assert!(world.edge.read_budget(one.conn) > 0);
    world.order(&mut backend, &to_group(b"nobody", &[]));
    assert!(world.hear(one.conn).is_empty());
}

// ---- notices

const RENEWED: [Item<'static>; 4] = [
    Item::Packet(b"1"),
    Item::Token(b"new"),
    Item::Token(b""),
    Item::Packet(b"2"),
];

/// SPEC 35.7.
#[test]
fn a_token_that_comes_later_is_told_in_its_place() {
    // The last bound is of packets that wait for the link, so that each of them gets in line.
    for capacity in [100, 1] {
        let mut world = world(|config| {
            demanding(config);
            config.master.channel_capacity = capacity;
        });
        let mut backend = Backend::new(BOOT);
        world.granted(&mut backend);
        let mut one = world.join3();
        world.exchange(&mut backend);
        assert_eq!(heard(&mut backend), ["JOINED"], "with the first one");
        world.send_items(&mut one, &RENEWED);
        for _ in 0..6 {
            world.backend_acknowledges(&mut backend);
        }
        world.send_items(&mut one, &RENEWED[1..2]);
        world.exchange(&mut backend);
        let expected = ["1", "TOKEN new", "TOKEN ", "2", "TOKEN new"];
        assert_eq!(heard(&mut backend), expected, "{capacity} have room");
        assert_eq!(world.edge.gauges().waiting, 0);
    }
}

#[test]
fn a_frame_behind_a_token_has_a_time_of_its_own() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let mut one = world.join3();
    // A frame has 10 s.
    let record = one.record_of(&RENEWED[1..2]);
    world.write(one.conn, &record[..3]);
    world.wait(Duration::from_secs(6));
    let next = one.record_of(&RENEWED[2..]);
    world.write(one.conn, &[&record[3..], &next[..3]].concat());
    world.wait(Duration::from_secs(6));
    world.write(one.conn, &next[3..]);
    world.exchange(&mut backend);
    assert_eq!(heard(&mut backend), ["JOINED", "TOKEN new", "TOKEN ", "2"]);
}

#[test]
fn a_token_survives_its_connection_and_a_boot_that_has_not_acknowledged_it() {
    let mut world = world(|config| {
        demanding(config);
        config.master.channel_capacity = 1;
    });
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let mut one = world.join3();
    world.send_items(&mut one, &RENEWED);
    world.leave(one.conn);
    world.lose_link(&mut backend);
    let mut backend = Backend::new([2; 16]);
    world.granted(&mut backend);
    let expected = ["JOINED", "1", "TOKEN new", "TOKEN ", "2"];
    for _ in 0..6 {
        world.backend_acknowledges(&mut backend);
    }
    let came = heard(&mut backend);
    assert_eq!(came[1..6], expected, "{came:?}");
}

#[test]
fn a_token_goes_nowhere_without_notices_or_room() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    backend.longest_body = 80;
    world.granted(&mut backend);
    let mut one = world.join3();
    let long = [b'x'; 72];
    world.send_items(&mut one, &[Item::Token(&long[1..]), Item::Token(&long)]);
    world.exchange(&mut backend);
    let told = format!("TOKEN {}", "x".repeat(71));
    assert_eq!(heard(&mut backend), ["JOINED", &told]);
    let mut world = crate::edge::tests::v3::world(automatic);
    world.backend_hears();
    world.wait(Duration::from_millis(100));
    let mut one = world.join3();
    world.send_items(&mut one, &RENEWED);
    let heard = world.backend_hears();
    let texts: Vec<_> = heard.iter().map(|(.., text)| text.as_str()).collect();
    assert_eq!(texts, ["1", "2"]);
}

#[test]
fn a_client_is_away_and_returns_and_ends_in_this_order() {
    let mut world = world(|config| {
        demanding(config);
        config.clients.stale_timeout = Duration::from_secs(60);
    });
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let (mut one, mut two) = (world.join(), world.join3());
    world.exchange(&mut backend);
    heard(&mut backend);
    world.leave(one.conn);
    world.leave(two.conn);
    world.order(&mut backend, &packet(one.id, b"missed"));
    world.order(&mut backend, &packet(two.id(), b"missed"));
    world.wait(Duration::from_millis(1_500));
    assert_eq!(world.come_back(&mut one).len(), 2);
    world.come_back3(&mut two).unwrap();
    world.send(one.conn, b"behind it");
    world.exchange(&mut backend);
    let expected = [
        "AWAY 0",
        "AWAY 0",
        "RESUMED 1 1",
        "RESUMED 1 1",
        "behind it",
    ];
    assert_eq!(heard(&mut backend), expected);
    world.leave(one.conn);
    world.exchange(&mut backend);
    world.wait(Duration::from_secs(90));
    world.exchange(&mut backend);
    let came = heard(&mut backend);
    let ended: Vec<_> = came
        .iter()
        .filter(|came| !came.starts_with("SETTLED"))
        .collect();
    assert_eq!(ended[0], "AWAY 0");
    assert!(came.contains(&"ENDED 302 expired".to_owned()), "{came:?}");
}

#[test]
fn a_kick_has_a_code_and_a_text_that_the_client_sees() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let mut one = world.join3();
    let code = Code::from_u16(555).unwrap();
    let kick = Kick {
        code,
        wait_ms: 7,
        text: "season over",
    };
    world.order(&mut backend, &ToEdge::Kick { id: one.id(), kick });
    let came = world.hear3(&mut one);
    assert_eq!(closed(&came), (code, 0));
    assert_eq!(one.channel.close_details().wait_ms, 7);
    assert_eq!(one.text, b"season over");
    assert_eq!(heard(&mut backend)[1..], ["ENDED 555 season over"]);
    // One that is away hears it when it comes.
    let mut two = world.join3();
    world.leave(two.conn);
    let id = two.id();
    world.order(&mut backend, &ToEdge::Kick { id, kick });
    assert_eq!(refusal(world.come_back3(&mut two)), code);
    // Neither a packet nor another kick has an answer.
    heard(&mut backend);
    world.order(&mut backend, &ToEdge::Kick { id, kick });
    world.order(&mut backend, &packet(id, b"late"));
    assert_eq!(heard(&mut backend), [""; 0]);
}

#[test]
fn what_clients_take_is_settled_in_batches() {
    let mut world = world(|config| {
        demanding(config);
        config.clients.ring_packets = 8;
    });
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let (one, mut two) = (world.join(), world.join3());
    world.exchange(&mut backend);
    heard(&mut backend);
    world.order(&mut backend, &packet(one.id, b"1"));
    world.order(&mut backend, &packet(two.id(), b"1"));
    world.hear(one.conn);
    world.hear3(&mut two);
    world.exchange(&mut backend);
    assert_eq!(heard(&mut backend), [""; 0], "not at once");
    world.acknowledge(&mut two);
    world.wait(Duration::from_millis(20));
    world.exchange(&mut backend);
    assert_eq!(heard(&mut backend), ["SETTLED [1, 1]"]);
    // A quarter of a ring is told at once.
    world.order(&mut backend, &packet(one.id, b"2"));
    world.order(&mut backend, &packet(one.id, b"3"));
    world.hear(one.conn);
    world.exchange(&mut backend);
    assert_eq!(heard(&mut backend), ["SETTLED [3]"]);
}

/// SPEC 34.2(d).
#[test]
fn a_settled_has_no_more_sessions_than_the_backend_takes() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    backend.longest_body = 9 + 2 * 16;
    world.granted(&mut backend);
    let three = [world.join(), world.join(), world.join()];
    for one in &three {
        world.order(&mut backend, &packet(one.id, b"1"));
        world.hear(one.conn);
    }
    world.exchange(&mut backend);
    heard(&mut backend);
    world.wait(Duration::from_millis(20));
    world.exchange(&mut backend);
    assert_eq!(heard(&mut backend), ["SETTLED [1, 1]", "SETTLED [1]"]);
}

#[test]
fn what_was_settled_and_had_no_room_waits_for_its_time() {
    let mut world = world(|config| {
        demanding(config);
        config.clients.ring_packets = 8;
        config.master.channel_capacity = 4;
    });
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let (one, two) = (world.join(), world.join());
    world.exchange(&mut backend);
    let ack = ToEdge::LinkAck(LinkAck {
        acknowledged: backend.received,
        sent: 0,
    });
    let mut bytes = Vec::new();
    ack.encode(&mut bytes);
    world.edge.handle_link_bytes(world.now, &bytes);
    heard(&mut backend);
    for _ in 0..4 {
        world.send(two.conn, b"up");
    }
    let settle = |world: &mut World, backend: &mut Backend| {
        for _ in 0..4 {
            backend.queue(&packet(one.id, b"down"));
        }
        let down = backend.frames.output().to_vec();
        world.edge.handle_link_bytes(world.now, &down);
        backend.sent.advance(down.len(), &mut backend.frames);
        assert_eq!(world.hear(one.conn).len(), 4);
    };
    settle(&mut world, &mut backend);
    let due = Some(world.now + Duration::from_millis(20));
    assert_eq!(world.edge.settling.deadline(), due, "there is no room");
    world.wait(Duration::from_millis(5));
    settle(&mut world, &mut backend);
    assert_eq!(world.edge.settling.deadline(), due);
    // Without room it is put off again, and told once there is some.
    world.wait(Duration::from_millis(20));
    assert!(world.edge.settling.deadline() > due);
    let bytes = world.edge.link_takes(world.now, usize::MAX);
    backend.read(&bytes);
    assert_eq!(heard(&mut backend), ["up"; 4]);
    let mut bytes = Vec::new();
    let acknowledged = backend.received;
    let sent = backend.sent.sent();
    LinkAck { acknowledged, sent }.encode(&mut bytes);
    world.edge.handle_link_bytes(world.now, &bytes);
    world.wait(Duration::from_millis(20));
    world.exchange(&mut backend);
    assert_eq!(heard(&mut backend), ["SETTLED [8]"]);
}

/// SPEC 36.3(b). A SETTLED is short, and finds room where a JOINED does not.
#[test]
fn what_is_settled_is_told_behind_what_tells_of_the_session() {
    let mut world = world(|config| {
        demanding(config);
        config.master.channel_bytes = 110;
    });
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    // The JOINED of the first one is not acknowledged, so that of the second one finds no room.
    let (_one, two) = (world.join(), world.join());
    world.exchange(&mut backend);
    world.lose_link(&mut backend);
    let mut backend = Backend::new([2; 16]);
    world.granted(&mut backend);
    let owns = ["OWN Attached 1 0 0", "OWN Attached 1 0 0", "JOINED"];
    assert_eq!(heard(&mut backend), owns);
    let acknowledge = |world: &mut World, backend: &Backend, acknowledged| {
        let mut bytes = Vec::new();
        let sent = backend.sent.sent();
        LinkAck { acknowledged, sent }.encode(&mut bytes);
        world.edge.handle_link_bytes(world.now, &bytes);
    };
    acknowledge(&mut world, &backend, 2);
    world.order(&mut backend, &packet(two.id, b"down"));
    assert_eq!(world.hear(two.conn).len(), 1);
    world.wait(Duration::from_millis(20));
    world.exchange(&mut backend);
    assert_eq!(heard(&mut backend), [""; 0]);
    acknowledge(&mut world, &backend, 3);
    world.wait(Duration::from_millis(20));
    world.exchange(&mut backend);
    assert_eq!(heard(&mut backend), ["JOINED", "SETTLED [1]"]);
}

#[test]
fn a_paused_client_is_not_read_until_it_goes_on_and_is_not_taken_for_gone() {
    let mut world = world(|config| {
        demanding(config);
        config.clients.idle_timeout = Duration::from_secs(30);
        config.clients.keep_alive = Duration::from_secs(20);
    });
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let (one, mut two) = (world.join(), world.join3());
    for id in [one.id, two.id()] {
        world.order(&mut backend, &ToEdge::Pause { id });
    }
    heard(&mut backend);
    for _ in 0..20 {
        world.wait(Duration::from_secs(10));
        world.hear3(&mut two);
    }
    for conn in [one.conn, two.conn] {
        assert!(!world.is_closed(conn));
        assert_eq!(world.edge.read_budget(conn), 0);
    }
    for id in [one.id, two.id()] {
        world.order(&mut backend, &ToEdge::GoOn { id });
    }
    world.send(one.conn, b"at last");
    world.send3(&mut two, b"and");
    world.exchange(&mut backend);
    assert_eq!(heard(&mut backend), ["at last", "and"]);
}

// ---- groups and classes

fn to_group(packet: &'static [u8], left_out: &'static [ClientId]) -> ToEdge<'static> {
    ToEdge::GroupSend {
        group: GROUP,
        send: GroupSend {
            delivery: Class::Ordinary,
            left_out: Ids::from(left_out),
            packet,
        },
    }
}

#[test]
fn members_get_what_is_sent_between_their_coming_and_their_going() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let (one, mut two) = (world.join(), world.join3());
    let ids = [one.id, two.id(), ClientId::from_u64(9)];
    world.order(&mut backend, &to_group(b"too early", &[]));
    for _ in 0..2 {
        let ids = Ids::from(&ids[..]);
        world.order(&mut backend, &ToEdge::GroupAdd { group: GROUP, ids });
    }
    world.order(&mut backend, &to_group(b"both", &[]));
    world.order(&mut backend, &packet(one.id, b"one"));
    let group = GROUP;
    let ids = Ids::from(&ids[..1]);
    world.order(&mut backend, &ToEdge::GroupRemove { group, ids });
    world.order(&mut backend, &to_group(b"two", &[]));
    world.order(&mut backend, &ToEdge::GroupEnd { group });
    world.order(&mut backend, &to_group(b"nobody", &[]));
    assert_eq!(world.hear(one.conn), [&b"both"[..], b"one"]);
    let came = world.hear3(&mut two);
    assert_eq!(packets(&came), [(1, &b"both"[..]), (2, b"two")]);
    assert!(world.edge.groups.is_empty());
}

#[test]
fn a_packet_for_many_is_in_memory_once() {
    const SHORTEST: [u8; SHORTEST_SHARED_BYTES] = [7; SHORTEST_SHARED_BYTES];
    const SHORTER: [u8; SHORTEST_SHARED_BYTES - 1] = [7; SHORTEST_SHARED_BYTES - 1];
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    backend.asks = [Feature::Groups, Feature::Kick].into_iter().collect();
    world.granted(&mut backend);
    let plain = [(); 30].map(|()| world.join());
    let mut numbered = [(); 10].map(|()| world.join3());
    let numbered_ids = numbered.iter().map(|one| one.id());
    let ids: Vec<_> = plain.iter().map(|one| one.id).chain(numbered_ids).collect();
    let ids = Ids::from(&ids[..]);
    world.order(&mut backend, &ToEdge::GroupAdd { group: GROUP, ids });
    let none = world.edge.gauges().held_bytes;
    let held = |world: &World| world.edge.gauges().held_bytes - none;
    world.order(&mut backend, &to_group(&SHORTER, &[]));
    assert_eq!(held(&world), 40 * Outbox::stored_bytes(SHORTER.len()));
    for conn in plain.iter().map(|one| one.conn) {
        assert_eq!(world.hear(conn), [&SHORTER[..]]);
    }
    // Those of version 3 keep theirs until they are acknowledged.
    let kept = held(&world);
    for _ in 0..2 {
        world.order(&mut backend, &to_group(&SHORTEST, &[]));
    }
    let once = Outbox::stored_bytes(SHORTEST.len());
    assert_eq!(held(&world) - kept, 2 * (once + 40 * SHARED_ENTRY_BYTES));
    for conn in plain.iter().map(|one| one.conn) {
        // Each is written by itself.
        for _ in 0..2 {
            assert_eq!(world.hear(conn), [&SHORTEST[..]]);
        }
    }
    assert_eq!(held(&world) - kept, 2 * (once + 10 * SHARED_ENTRY_BYTES));
    for one in &mut numbered {
        let came = world.hear3(one);
        let expected = [(1, &SHORTER[..]), (2, &SHORTEST), (3, &SHORTEST)];
        assert_eq!(packets(&came), expected);
    }
    let kick = Kick {
        code: Code::KICKED,
        wait_ms: 0,
        text: "",
    };
    for id in ids.iter() {
        world.order(&mut backend, &ToEdge::Kick { id, kick });
    }
    for one in &mut numbered {
        world.hear3(one);
    }
    assert_eq!(world.edge.counted_twice.bytes(), 0);
}

#[test]
fn those_that_are_left_out_and_those_that_ended_get_nothing() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let (one, two) = (world.join(), world.join());
    let ids = [one.id, two.id];
    let group = GROUP;
    let add = Ids::from(&ids[..]);
    world.order(&mut backend, &ToEdge::GroupAdd { group, ids: add });
    let left_out = Ids::from(&ids[..1]);
    let send = GroupSend {
        delivery: Class::Ordinary,
        left_out,
        packet: b"two",
    };
    world.order(&mut backend, &ToEdge::GroupSend { group, send });
    assert!(world.hear(one.conn).is_empty());
    assert_eq!(world.hear(two.conn), [b"two"]);
    let kick = Kick {
        code: Code::KICKED,
        wait_ms: 0,
        text: "",
    };
    for id in ids {
        world.order(&mut backend, &ToEdge::Kick { id, kick });
    }
    assert!(
        world.edge.groups.is_empty(),
        "a group without members is forgotten"
    );
}

#[test]
fn a_session_of_too_many_groups_ends_and_says_so() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    let most = u64::from(world.granted(&mut backend).groups_of_a_session);
    let one = world.join();
    let ids = [one.id];
    for group in 1..=most + 1 {
        assert!(world.edge.sessions.lookup(one.id).is_some(), "{group}");
        let group = GroupId(group);
        let ids = Ids::from(&ids[..]);
        world.order(&mut backend, &ToEdge::GroupAdd { group, ids });
    }
    assert_eq!(heard(&mut backend)[1..], ["ENDED 305 numbers do not fit"]);
    assert!(world.edge.groups.is_empty());
}

#[test]
fn classes_reach_clients_as_far_as_their_version_has_them() {
    let mut world = world(|config| {
        demanding(config);
        config.clients.channel_capacity = 4;
    });
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let (one, mut two) = (world.join(), world.join3());
    for id in [one.id, two.id()] {
        for (delivery, packet) in [
            (Class::Latest(7), &b"old"[..]),
            (Class::Latest(7), b"new"),
            (Class::Volatile, b"skipped"),
        ] {
            let order = ToEdge::Packet {
                id,
                delivery,
                packet,
            };
            world.order(&mut backend, &order);
        }
    }
    assert_eq!(world.hear(one.conn), [b"old", b"new"]);
    let came = world.hear3(&mut two);
    let latest = Came::OfClass(Delivery::Latest(7), 2, b"new".to_vec());
    let volatile = Came::OfClass(Delivery::Volatile, 3, b"skipped".to_vec());
    assert_eq!(came, [Came::Superseded(1, 1), latest, volatile]);
}

#[test]
fn a_key_of_an_earlier_boot_is_another_key() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let mut one = world.join3();
    let latest = |id, key, packet| ToEdge::Packet {
        id,
        delivery: Class::Latest(key),
        packet,
    };
    world.order(&mut backend, &latest(one.id(), 0, b"old"));
    world.order(&mut backend, &latest(one.id(), 0, b"last"));
    // The next process gives the same key to something else.
    world.edge.handle_link_closed(world.now, Closed::Eof);
    world.wait(Duration::from_millis(200));
    world.backend_comes();
    let mut backend = Backend::new([2; 16]);
    world.granted(&mut backend);
    world.order(&mut backend, &latest(one.id(), 0, b"other"));
    let came = |number, data: &[u8]| {
        let data = data.to_vec();
        Came::OfClass(Delivery::Latest(0), number, data)
    };
    let expected = [Came::Superseded(1, 1), came(2, b"last"), came(3, b"other")];
    assert_eq!(world.hear3(&mut one), expected);
}

// ---- going away

#[test]
fn clients_are_asked_to_leave_as_the_backend_wants_and_closed_if_they_stay() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let (one, mut two, other) = (world.join(), world.join3(), world.join());
    let go_away = |id, latest_ms| ToEdge::GoAway {
        id,
        go_away: crate::link::v3::GoAway {
            code: Code::GOING_AWAY,
            earliest_ms: 0,
            latest_ms,
            drain_ms: 5_000,
        },
    };
    let told = |world: &mut World, two: &mut _, latest_ms| {
        let came = world.hear3(two);
        let expected = crate::v3::items::GoAway {
            code: Code::GOING_AWAY,
            earliest_ms: 0,
            latest_ms,
            drain_ms: 5_000,
        };
        assert_eq!(came, [Came::GoAway(expected)]);
    };
    for id in [one.id, two.id(), ClientId::from_u64(9)] {
        world.order(&mut backend, &go_away(Some(id), 1_000));
    }
    told(&mut world, &mut two, 1_000);
    world.wait(Duration::from_secs(4));
    assert!(!world.is_closed(one.conn));
    // A newer one takes the place of an older one, and is for all. They leave no faster than a millisecond each.
    world.order(&mut backend, &go_away(None, 0));
    told(&mut world, &mut two, 3);
    world.wait(Duration::from_secs(4));
    for conn in [one.conn, two.conn, other.conn] {
        assert!(!world.is_closed(conn));
    }
    heard(&mut backend);
    world.wait(Duration::from_secs(1));
    let came = world.hear3(&mut two);
    assert_eq!(closed(&came), (Code::GOING_AWAY, 0));
    for conn in [one.conn, other.conn] {
        assert!(world.is_closed(conn));
    }
    world.exchange(&mut backend);
    let came = heard(&mut backend);
    assert_eq!(
        came.iter().filter(|text| text.starts_with("AWAY")).count(),
        3
    );
    assert_eq!(
        (world.edge.gauges().sessions, world.edge.gauges().away),
        (3, 3)
    );
}

// ---- bad input

#[test]
fn frames_that_are_refused_count_and_are_answered() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let one = world.join();
    world.exchange(&mut backend);
    heard(&mut backend);
    let bad: [(&[u8], &str); 6] = [
        (&[0; 4], "REFUSED 0x00 Malformed"),
        (&[0, 0, 0, 0, 0, 0, 0, 0, 0x19], "REFUSED 0x19 Unknown"),
        (
            &[0, 0, 0, 0, 0, 0, 0, 0, flag::JOINED],
            "REFUSED 0x13 Malformed",
        ),
        (&[0, 0, 0, 0, 0, 0, 0, 0, 0x02], "REFUSED 0x02 Unknown"),
        (
            &[7, 0, 0, 0, 0, 0, 0, 0, flag::KICK, 0, 0],
            "REFUSED 0x26 Malformed",
        ),
        (
            &[0, 0, 0, 0, 0, 0, 0, 0, flag::GOAWAY],
            "REFUSED 0x28 Malformed",
        ),
    ];
    for (body, answer) in bad {
        backend.frames.push_body(body);
        world.exchange(&mut backend);
        assert_eq!(heard(&mut backend), [answer]);
    }
    // A second ASK is refused and does not count.
    world
        .edge
        .handle_link_bytes(world.now, &Backend::new(BOOT).ask());
    world.exchange(&mut backend);
    assert_eq!(heard(&mut backend), ["REFUSED 0x10 Malformed"]);
    world.order(&mut backend, &packet(one.id, b"still there"));
    assert_eq!(world.hear(one.conn), [b"still there"]);
    world.wait(Duration::from_millis(10));
    world.exchange(&mut backend);
    assert_eq!(backend.acks.last().map(|ack| ack.acknowledged), Some(7));
}

// ---- any order of all that

/// SPEC 36.1, 36.3(d): both ends of the link count alike, whoever gets a VOLATILE.
#[test]
fn a_volatile_has_no_number_at_a_client_of_version_2_either() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let one = world.join();
    world.exchange(&mut backend);
    heard(&mut backend);
    let volatile = ToEdge::Packet {
        id: one.id,
        delivery: Class::Volatile,
        packet: b"now or never",
    };
    world.order(&mut backend, &volatile);
    world.order(&mut backend, &packet(one.id, b"first"));
    assert_eq!(world.hear(one.conn).len(), 2);
    world.wait(Duration::from_millis(30));
    world.exchange(&mut backend);
    assert_eq!(heard(&mut backend), ["SETTLED [1]"]);
    let kick = Kick {
        code: Code::KICKED,
        wait_ms: 0,
        text: "",
    };
    let id = one.id;
    backend.queue(&ToEdge::Kick { id, kick });
    world.exchange(&mut backend);
    let ended = backend.heard.last().expect("it has ended");
    let Ok(ToBackend::Ended { ended, .. }) = ToBackend::decode(ended, all()) else {
        panic!("{ended:?}");
    };
    assert_eq!((ended.down.numbered, ended.down.acknowledged), (1, 1));
}

/// SPEC 34.2(d).
#[test]
fn a_packet_that_the_backend_does_not_take_costs_its_own_session_alone() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    backend.longest_body = 9 + 60;
    // Before the grant.
    let (waits, other) = (world.join(), world.join());
    world.send(waits.conn, b"before");
    world.send(waits.conn, &[b'.'; 61]);
    world.send(waits.conn, b"behind");
    world.send(other.conn, &[b'-'; 60]);
    assert_eq!(world.granted(&mut backend).sessions, 2);
    let came = heard(&mut backend);
    assert_eq!(came[..2], ["OWN Attached 1 0 0", "OWN Attached 1 0 0"]);
    let others = ["JOINED", "before", "JOINED", &"-".repeat(60)];
    let mut rest = came[2..].to_vec();
    assert_eq!(rest.pop().unwrap(), "ENDED 404 packet too long");
    rest.sort();
    let mut others = others.map(str::to_owned).to_vec();
    others.sort();
    assert_eq!(rest, others);
    // Afterwards, with both versions.
    let mut three = world.join3();
    world.exchange(&mut backend);
    heard(&mut backend);
    world.send3(&mut three, &[b'.'; 60]);
    world.send3(&mut three, &[b'.'; 61]);
    world.send(other.conn, &[b'.'; 61]);
    world.exchange(&mut backend);
    let came = heard(&mut backend);
    assert_eq!(came[0].len(), 60);
    let ends = ["ENDED 404 packet too long", "AWAY 0"];
    assert!(came[1..].iter().eq(ends.iter()), "{came:?}");
    assert_eq!(world.edge.gauges().sessions, 1);
    // The link is as it was.
    let last = world.join();
    world.exchange(&mut backend);
    world.order(&mut backend, &packet(last.id, b"hello"));
    assert_eq!(world.hear(last.conn), [b"hello"]);
}
