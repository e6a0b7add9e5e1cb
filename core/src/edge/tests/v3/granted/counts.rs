//! What both ends count: cuts, acknowledgements, and the picture after a new boot. (SPEC 35, 37)

use super::*;

/// Runs a script in which the link is cut where `cut` says, and returns what each end heard.
fn cut_at(cut: Option<(usize, usize)>) -> (Vec<String>, Vec<Vec<u8>>) {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let one = world.join();
    // It sends to nobody of whom it has not heard.
    world.exchange(&mut backend);
    let two = world.join();
    let mut down = Vec::new();
    for round in 0..6_u8 {
        world.send(one.conn, &[b'a' + round]);
        world.send(two.conn, &[b'A' + round]);
        let text: &'static [u8] = &[b"0", b"1", b"2", b"3", b"4", b"5"][usize::from(round)][..];
        backend.queue(&packet(one.id, text));
        if let Some((at, bytes)) = cut
            && at == usize::from(round)
        {
            // Of both directions so many bytes arrive, one read and one write later than they were taken.
            let up = world.edge.link_takes(world.now, bytes);
            backend.read(&up[..up.len() / 2]);
            let out = backend.frames.output();
            let taken = out[..bytes.min(out.len())].to_vec();
            backend.sent.advance(taken.len(), &mut backend.frames);
            let arrives = &taken[..taken.len().div_ceil(2)];
            world.edge.handle_link_bytes(world.now, arrives);
            world.edge.handle_link_closed(world.now, Closed::Error);
            backend.lose_link();
            world.wait(Duration::from_secs(6));
            world.backend_comes();
            world.granted(&mut backend);
        } else if round % 2 == 1 {
            world.exchange(&mut backend);
        }
        down.extend(world.hear(one.conn));
    }
    world.wait(Duration::from_millis(20));
    world.exchange(&mut backend);
    down.extend(world.hear(one.conn));
    // All is acknowledged, so nothing is kept.
    let sent = backend.sent.sent();
    let ack = ToEdge::LinkAck(LinkAck {
        acknowledged: backend.received,
        sent,
    });
    let mut bytes = Vec::new();
    ack.encode(&mut bytes);
    world.edge.handle_link_bytes(world.now, &bytes);
    assert_eq!(world.edge.gauges().link_packets, 0);
    assert!(
        backend.frames.is_empty(),
        "the edge acknowledged everything"
    );
    let came = heard(&mut backend).into_iter();
    (
        came.filter(|came| !came.starts_with("SETTLED")).collect(),
        down,
    )
}

#[test]
fn a_link_cut_anywhere_loses_and_doubles_nothing_in_either_direction() {
    let whole = cut_at(None);
    assert_eq!(whole.0.len(), 14);
    assert_eq!(whole.1, [b"0", b"1", b"2", b"3", b"4", b"5"]);
    for round in 0..6 {
        for bytes in 0..120 {
            assert_eq!(
                cut_at(Some((round, bytes))),
                whole,
                "{bytes} bytes in round {round}"
            );
        }
    }
}

#[test]
fn frames_are_acknowledged_by_number_by_bytes_and_by_time() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let one = world.join();
    world.exchange(&mut backend);
    assert!(backend.acks.is_empty());
    world.order(&mut backend, &packet(one.id, b"x"));
    world.wait(Duration::from_millis(9));
    world.exchange(&mut backend);
    assert!(backend.acks.is_empty());
    world.wait(Duration::from_millis(1));
    world.exchange(&mut backend);
    assert_eq!(backend.acks.pop().map(|ack| ack.acknowledged), Some(1));
    for _ in 0..255 {
        world.order(&mut backend, &packet(one.id, b"x"));
    }
    assert!(backend.acks.is_empty());
    world.order(&mut backend, &packet(one.id, b"x"));
    assert_eq!(backend.acks.pop().map(|ack| ack.acknowledged), Some(257));
    world.order(&mut backend, &packet(one.id, &[0; 65_535 - 9]));
    assert!(backend.acks.is_empty());
    world.order(&mut backend, &packet(one.id, b""));
    assert_eq!(backend.acks.pop().map(|ack| ack.acknowledged), Some(259));
    // Without anything to acknowledge, a sign of life.
    world.wait(Duration::from_millis(5_000));
    world.exchange(&mut backend);
    assert_eq!(backend.acks.len(), 1);
}

#[test]
fn ends_that_count_differently_part_and_begin_anew() {
    for (acknowledged, sent) in [(0, 1), (2, 0)] {
        let mut world = world(demanding);
        let mut backend = Backend::new(BOOT);
        world.granted(&mut backend);
        let one = world.join();
        world.send(one.conn, b"up");
        let bytes = world.edge.link_takes(world.now, 80);
        assert_eq!(bytes.len(), 80, "JOINED is sent, and the packet is not");
        let mut ack = Vec::new();
        LinkAck { acknowledged, sent }.encode(&mut ack);
        world.edge.handle_link_bytes(world.now, &ack);
        assert!(world.edge.link_wants_close());
        assert_eq!(world.edge.counters().link_violations, 1);
        world.lose_link(&mut backend);
        world.granted(&mut backend);
        assert_eq!(heard(&mut backend), ["OWN Attached 1 0 0", "JOINED", "up"]);
    }
}

/// SPEC 37.5.
#[test]
fn a_packet_is_acknowledged_to_its_client_when_the_backend_has_it_and_not_before() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let mut one = world.join3();
    world.send3(&mut one, b"1");
    world.send3(&mut one, b"2");
    world.exchange(&mut backend);
    let hears = |world: &mut World, one: &mut ClientV3| {
        // One packet alone is acknowledged after 2 s.
        world.wait(Duration::from_millis(2_100));
        world.hear3(one);
        one.outbox.acked()
    };
    assert_eq!(hears(&mut world, &mut one), 0);
    let acknowledge = |world: &mut World, acknowledged| {
        let mut ack = Vec::new();
        let counts = LinkAck {
            acknowledged,
            sent: 0,
        };
        counts.encode(&mut ack);
        world.edge.handle_link_bytes(world.now, &ack);
        world.edge.audit();
    };
    // JOINED and the first packet.
    acknowledge(&mut world, 2);
    assert_eq!(hears(&mut world, &mut one), 1);
    // Neither another connection nor another boot acknowledges the second one.
    world.leave(one.conn);
    world.come_back3(&mut one).unwrap();
    assert_eq!(hears(&mut world, &mut one), 1);
    world.lose_link(&mut backend);
    let mut backend = Backend::new([2; 16]);
    world.granted(&mut backend);
    assert_eq!(heard(&mut backend), ["OWN Attached 2 0 0", "2"]);
    assert_eq!(hears(&mut world, &mut one), 1);
    acknowledge(&mut world, 2);
    assert_eq!(hears(&mut world, &mut one), 2);
}

/// A backend that does not ask for it does not delay the acknowledgements of clients.
#[test]
fn without_end_to_end_a_packet_is_acknowledged_by_the_edge() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    backend.asks = all().without(Feature::EndToEnd);
    world.granted(&mut backend);
    let mut one = world.join3();
    world.send3(&mut one, b"1");
    world.wait(Duration::from_millis(2_100));
    world.hear3(&mut one);
    assert_eq!(one.outbox.acked(), 1);
}

/// SPEC 37.5(b).
#[test]
fn before_the_first_grant_of_a_run_the_edge_acknowledges_and_later_the_backend() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    let mut one = world.join3();
    let hears = |world: &mut World, one: &mut ClientV3| {
        world.wait(Duration::from_millis(2_100));
        world.hear3(one);
        one.outbox.acked()
    };
    world.send3(&mut one, b"1");
    assert_eq!(hears(&mut world, &mut one), 1);
    world.granted(&mut backend);
    let expected = ["OWN Attached 1 0 0", "JOINED", "1"];
    assert_eq!(heard(&mut backend), expected, "it is kept");
    world.send3(&mut one, b"2");
    assert_eq!(hears(&mut world, &mut one), 1);
    // Nor does the edge acknowledge while there is no link.
    world.lose_link(&mut backend);
    world.send3(&mut one, b"3");
    assert_eq!(hears(&mut world, &mut one), 1);
}

// ---- a new boot

#[test]
fn a_new_boot_has_the_whole_picture_and_what_no_boot_acknowledged() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let (one, mut two, three) = (world.join(), world.join3(), world.join());
    world.send(one.conn, b"acknowledged");
    world.exchange(&mut backend);
    let mut ack = Vec::new();
    let counts = LinkAck {
        acknowledged: backend.received,
        sent: 0,
    };
    counts.encode(&mut ack);
    world.edge.handle_link_bytes(world.now, &ack);
    let policy = Policy {
        window_s: 0,
        ring_bytes: 0,
        overflow: Overflow::End,
        note: "player 2",
    };
    let id = two.id();
    world.order(&mut backend, &ToEdge::Policy { id, policy });
    world.order(&mut backend, &packet(two.id(), b"down"));
    world.send(one.conn, b"taken by the transport, and not acknowledged");
    world.send3(&mut two, b"up");
    world.exchange(&mut backend);
    world.leave(three.conn);
    world.edge.handle_link_closed(world.now, Closed::Eof);
    world.backend_says(three.id, Flag::Data, b"not heard");
    let four = world.join();
    world.wait(Duration::from_secs(6));
    world.backend_comes();
    let mut backend = Backend::new([2; 16]);
    assert_eq!(world.granted(&mut backend).sessions, 4);
    let own = |id, next_up, numbered_down, state, joined_follows, note| ToBackend::Own {
        id,
        own: Own {
            counter: 0,
            next_up,
            numbered_down,
            settled_down: 0,
            state,
            joined_follows,
            note,
        },
    };
    let mut owned: Vec<_> = backend
        .heard
        .iter()
        .map(|body| ToBackend::decode(body, all()).unwrap())
        .collect();
    let rest = owned.split_off(4);
    assert!(owned.contains(&own(one.id, 2, 0, OwnState::Attached, false, "")));
    assert!(owned.contains(&own(two.id(), 1, 1, OwnState::Attached, false, "player 2")));
    assert!(owned.contains(&own(three.id, 1, 0, OwnState::Away, false, "")));
    assert!(owned.contains(&own(four.id, 1, 0, OwnState::Attached, true, "")));
    // AWAY is not sent again: OWN says it.
    assert_eq!(rest.len(), 3, "{rest:?}");
    let heard = heard(&mut backend).split_off(4);
    let texts = [
        "taken by the transport, and not acknowledged",
        "up",
        "JOINED",
    ];
    assert_eq!(heard, texts);
}

#[test]
fn a_session_that_ended_unheard_is_told_with_its_last_packets() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let one = world.join();
    world.exchange(&mut backend);
    world.send(one.conn, b"last");
    let kick = Kick {
        code: Code::KICKED,
        wait_ms: 0,
        text: "",
    };
    backend.queue(&ToEdge::Kick { id: one.id, kick });
    let down = backend.frames.output().to_vec();
    world.edge.handle_link_bytes(world.now, &down);
    world.edge.handle_link_closed(world.now, Closed::Eof);
    world.wait(Duration::from_secs(6));
    world.backend_comes();
    let mut backend = Backend::new([2; 16]);
    assert_eq!(world.granted(&mut backend).sessions, 1, "its OWN counts");
    assert_eq!(
        heard(&mut backend),
        ["OWN Ended 1 0 0", "JOINED", "last", "ENDED 401 "]
    );
}

/// SPEC 37.4(d).
#[test]
fn a_link_that_ends_before_its_grant_is_read_leaves_nothing_behind() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let three = [world.join(), world.join(), world.join()];
    world.exchange(&mut backend);
    assert_eq!(heard(&mut backend), ["JOINED"; 3]);
    // It asks for less, so both begin again. What the edge writes is lost with the link.
    backend.asks = all().without(Feature::Classes);
    world.lose_link(&mut backend);
    let ask = backend.ask();
    world.edge.handle_link_bytes(world.now, &ask);
    assert!(!world.edge.link_takes(world.now, usize::MAX).is_empty());
    world.lose_link(&mut backend);
    assert_eq!(world.granted(&mut backend).received, u64::MAX);
    let owned = ["OWN Attached 1 0 0"; 3].into_iter();
    let expected: Vec<_> = owned.chain(["JOINED"; 3]).collect();
    assert_eq!(heard(&mut backend), expected);

    // GRANT that was read counts, as its first frame or acknowledgement shows.
    let mut ack = Vec::new();
    let counts = LinkAck {
        acknowledged: 1,
        sent: 0,
    };
    counts.encode(&mut ack);
    world.edge.handle_link_bytes(world.now, &ack);
    world.lose_link(&mut backend);
    assert_eq!(world.granted(&mut backend).received, 0);
    world.order(&mut backend, &packet(three[0].id, b"goes on"));
    assert_eq!(heard(&mut backend), [""; 0]);
    assert_eq!(world.hear(three[0].conn), [b"goes on"]);
}

/// A backend that knows nothing of the run has read GRANT if it names the run later.
#[test]
fn what_a_backend_sends_behind_its_first_grant_is_kept_though_none_of_it_arrives() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    let one = world.join();
    world.granted(&mut backend);
    backend.queue(&packet(one.id, b"lost with the link"));
    let down = backend.frames.output().to_vec();
    backend.sent.advance(down.len(), &mut backend.frames);
    heard(&mut backend);
    world.lose_link(&mut backend);
    assert_eq!(world.granted(&mut backend).received, 0);
    assert_eq!(heard(&mut backend), [""; 0]);
    assert_eq!(world.hear(one.conn), [b"lost with the link"]);
}

#[test]
fn a_link_of_version_3_goes_on_over_a_restart() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let mut one = world.join3();
    world.exchange(&mut backend);
    world.send3(&mut one, b"1");
    world.exchange(&mut backend);
    heard(&mut backend);
    let ids = [one.id()];
    let group = ToEdge::GroupAdd {
        group: GROUP,
        ids: (&ids[..]).into(),
    };
    world.order(&mut backend, &group);
    // One that the edge has not read, and one that the backend has not.
    backend.queue(&packet(one.id(), b"down 1"));
    world.send3(&mut one, b"2");
    let run = world.edge.run();
    let part = world.edge.save(world.now);
    let bytes = Snapshot::seal((run, &[part]), &world.edge_keys, 1, [1; 32]).unwrap();
    let snapshot = Snapshot::open(bytes, &world.edge_keys).unwrap();
    let config = world.edge.config.clone();
    world.edge = Edge::new(config, world.edge_keys.clone(), [3; 32]);
    world.now = Time::ZERO;
    world.edge.restore(world.now, &snapshot);
    world.edge.audit();
    backend.lose_link();
    world.backend_comes();
    let grant = world.granted(&mut backend);
    assert_ne!(grant.received, u64::MAX, "it goes on");
    assert_eq!(heard(&mut backend), ["2", "AWAY 0"]);
    let came = world.come_back3(&mut one).unwrap();
    assert_eq!(packets(&came[1..]), [(1, &b"down 1"[..])]);
    world.send3(&mut one, b"3");
    world.exchange(&mut backend);
    assert_eq!(heard(&mut backend), ["RESUMED 1 1", "3"]);
    let groups = world.edge.groups();
    let members = groups.into_iter().flat_map(|(_, members)| members);
    let members: Vec<_> = members.collect();
    assert_eq!(members, [one.id()]);
    // Another boot begins anew, with a picture, and what this one did not acknowledge.
    backend = Backend::new([2; 16]);
    world.lose_link(&mut backend);
    world.granted(&mut backend);
    assert_eq!(heard(&mut backend), ["OWN Attached 2 1 1", "2", "3"]);
}

/// SPEC 37.4(c).
#[test]
fn nothing_for_a_session_is_taken_before_the_backend_can_have_heard_of_it() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let mut one = world.join3();
    let told = world.edge.link_takes(world.now, usize::MAX);
    backend.read(&told);
    world.lose_link(&mut backend);
    let mut backend = Backend::new([2; 16]);
    let ask = backend.ask();
    world.edge.handle_link_bytes(world.now, &ask);
    let two = world.join();
    let ids = [one.id(), two.id];
    let early = |world: &mut World| {
        for id in ids {
            let kick = Kick {
                code: Code::KICKED,
                wait_ms: 0,
                text: "",
            };
            let orders = [
                packet(id, b"early"),
                ToEdge::Packet {
                    id,
                    delivery: Class::Volatile,
                    packet: b"early",
                },
                ToEdge::GroupAdd {
                    group: GROUP,
                    ids: Ids::from(&ids[..]),
                },
                ToEdge::Pause { id },
                ToEdge::Kick { id, kick },
            ];
            for order in orders {
                let mut bytes = Vec::new();
                order.encode(&mut bytes);
                world.edge.handle_link_bytes(world.now, &bytes);
            }
        }
    };
    early(&mut world);
    // GRANT is written whole, and so is OWN but for its last byte.
    let heard_of_one = 4 + 9 + 57 + 4 + 9 + 33;
    let mut written = world.edge.link_takes(world.now, heard_of_one - 1);
    early(&mut world);
    assert_eq!(world.edge.counters().unknown_client, 8);
    assert!(world.edge.groups().is_empty());
    written.extend(world.edge.link_takes(world.now, 1));
    backend.read(&written);
    assert_eq!(heard(&mut backend), ["OWN Attached 1 0 0"]);
    for (id, unknown) in [(one.id(), 8), (two.id, 9)] {
        let mut bytes = Vec::new();
        packet(id, b"told").encode(&mut bytes);
        world.edge.handle_link_bytes(world.now, &bytes);
        assert_eq!(world.edge.counters().unknown_client, unknown);
    }
    let written = world.edge.link_takes(world.now, usize::MAX);
    backend.read(&written);
    assert_eq!(heard(&mut backend), ["JOINED", "JOINED"]);
    let mut bytes = Vec::new();
    packet(two.id, b"told").encode(&mut bytes);
    world.edge.handle_link_bytes(world.now, &bytes);
    let told = Came::Packet(1, b"told".to_vec());
    assert_eq!(world.hear3(&mut one), [told]);
    assert_eq!(world.hear(two.conn).len(), 1);
}

/// What waits in line is told once it has found room, and can be taken once it is written.
#[test]
fn a_joined_that_waited_for_room_is_counted_where_it_is_sent() {
    let mut world = world(|config| {
        demanding(config);
        config.master.channel_capacity = 1;
    });
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let (_one, two) = (world.join(), world.join());
    let tell = |world: &mut World| {
        let mut bytes = Vec::new();
        packet(two.id, b"down").encode(&mut bytes);
        world.edge.handle_link_bytes(world.now, &bytes);
        world.hear(two.conn).len()
    };
    let first = world.edge.link_takes(world.now, usize::MAX);
    backend.read(&first);
    assert_eq!(tell(&mut world), 0, "it waits in line");
    let mut ack = Vec::new();
    LinkAck {
        acknowledged: 1,
        sent: 1,
    }
    .encode(&mut ack);
    world.edge.handle_link_bytes(world.now, &ack);
    assert_eq!(tell(&mut world), 0, "it is not written");
    let second = world.edge.link_takes(world.now, usize::MAX);
    backend.read(&second);
    assert_eq!(heard(&mut backend), ["JOINED", "JOINED"]);
    assert_eq!(tell(&mut world), 1);
}
