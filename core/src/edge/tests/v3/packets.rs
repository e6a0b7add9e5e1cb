//! Numbers, rings, acknowledgements and the line (SPEC 21, 24).

use super::*;
use crate::v3::record::MAX_ITEMS_BYTES;

#[test]
fn packets_of_every_length_go_both_ways() {
    let mut world = world(|config| config.clients.max_frame_bytes = LONGEST);
    let mut one = world.join3();
    let mut sent = Vec::new();
    for length in [
        0,
        1,
        125,
        126,
        4_095,
        4_096,
        4_097,
        MAX_ITEMS_BYTES,
        200_000,
    ] {
        let packet = vec![b'x'; length];
        world.send3(&mut one, &packet);
        world.down(&one, &packet);
        sent.push(packet);
    }
    let heard: Vec<usize> = world.backend_hears().iter().map(|it| it.2.len()).collect();
    assert_eq!(heard, sent.iter().map(Vec::len).collect::<Vec<_>>());
    let came = world.hear3(&mut one);
    let expected: Vec<_> = (1..).zip(sent.iter().map(Vec::as_slice)).collect();
    assert_eq!(packets(&came), expected);
    world.acknowledge(&mut one);
    world.wait(Duration::from_millis(250));
    world.hear3(&mut one);
    assert_eq!(world.edge.gauges().held_bytes, 0, "all is acknowledged");
    assert_eq!(one.outbox.packets(), 0);
}

#[test]
fn a_packet_stays_until_it_is_acknowledged() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    one.takes = false;
    world.down(&one, b"kept");
    world.hear3(&mut one);
    world.flush(&mut one);
    assert_eq!(world.edge.gauges().held_bytes, 8, "with its length");
    one.progress.take_all();
    world.acknowledge(&mut one);
    assert_eq!(world.edge.gauges().held_bytes, 0);
}

#[test]
fn the_ring_holds_what_is_sent_back_and_no_more_than_the_queue_waits() {
    let mut world = world(|config| {
        config.clients.ring_packets = 2;
        config.clients.channel_capacity = 3;
        config.clients.missed_packets_buffer_size = 3;
    });
    let mut one = world.join3();
    one.takes = false;
    for _ in 0..2 {
        world.down(&one, b"a");
    }
    assert_eq!(world.hear3(&mut one).len(), 2);
    for _ in 0..3 {
        world.down(&one, b"b");
    }
    assert_eq!(world.hear3(&mut one), [], "the ring is full");
    world.wait(Duration::from_secs(11));
    assert!(!world.is_closed(one.conn), "it is not late in taking");
    one.progress.take_all();
    world.acknowledge(&mut one);
    assert_eq!(world.hear3(&mut one).len(), 2, "an ACK makes room");
    for _ in 0..2 {
        world.down(&one, b"c");
    }
    world.backend_hears();
    world.down(&one, b"one too many");
    assert_eq!(
        world.backend_hears(),
        [failure(one.id(), "send queue full")]
    );
    let came = world.hear3(&mut one);
    assert_eq!(closed(&came), (Code::RING_FULL, 0));
}

#[test]
fn one_packet_of_any_length_fits_into_an_empty_ring() {
    let mut world = world(|config| {
        config.clients.ring_bytes = 100;
        config.clients.channel_bytes = 100;
        config.clients.missed_packets_buffer_bytes = 100;
    });
    let mut one = world.join3();
    one.takes = false;
    world.down(&one, &[0; 1_000]);
    assert_eq!(world.hear3(&mut one).len(), 1);
    world.down(&one, &[0; 2_000]);
    assert_eq!(world.hear3(&mut one), []);
    one.progress.take_all();
    world.acknowledge(&mut one);
    assert_eq!(world.hear3(&mut one).len(), 1);
}

#[test]
fn a_client_beyond_its_ring_is_told_403() {
    let mut world = world(|config| {
        config.clients.ring_packets = 2;
        config.master.channel_capacity = 1;
    });
    let mut one = world.join3();
    // Two packets find room, one in the queue and one in line. A third one is beyond the ring while nothing is acknowledged.
    let items = [Item::Packet(b"1"), Item::Packet(b"2")];
    world.send_items(&mut one, &items);
    assert!(!world.is_closed(one.conn));
    world.backend_hears();
    let items = [Item::Packet(b"3"), Item::Packet(b"4"), Item::Packet(b"5")];
    world.send_items(&mut one, &items);
    world.backend_hears();
    let came = world.hear3(&mut one);
    assert_eq!(closed(&came), (Code::PROTOCOL, 0));
    assert_eq!(world.edge.gauges().away, 1, "its session is away");
}

#[test]
fn wrong_items_are_told_with_their_code_and_the_session_goes_away() {
    let long = vec![0; 2_000];
    let cases: [(&[Item<'_>], Code, u64); 6] = [
        (&[Item::Ack(1)], Code::PROTOCOL, 0),
        (&[Item::EarlyEnd], Code::PROTOCOL, 0),
        (&[Item::GoAway(LEAVE)], Code::PROTOCOL, 0),
        (&[Item::Packet(&long)], Code::TOO_LONG, 1_000),
        (&[Item::Part(&long)], Code::TOO_LONG, 1_000),
        (&[Item::Close(goodbye(Code::KICKED))], Code::PROTOCOL, 0),
    ];
    for (items, code, detail) in cases {
        let mut world = world(|config| config.clients.max_frame_bytes = 1_000);
        let mut one = world.join3();
        world.send_items(&mut one, items);
        let came = world.hear3(&mut one);
        assert_eq!(closed(&came), (code, detail), "{items:?}");
        assert_eq!(world.edge.gauges().away, 1);
        // It does not send that again.
        one.outbox = Outbox::new(Retention::UntilAcked);
        let came = world.come_back3(&mut one).unwrap();
        let Some(Came::Resumed(resumed, _)) = came.first() else {
            panic!("{came:?}");
        };
        assert_eq!(resumed.cause, code, "{items:?}");
    }
}

const LEAVE: crate::v3::items::GoAway = crate::v3::items::GoAway {
    code: Code::RESTART,
    earliest_ms: 0,
    latest_ms: 0,
    drain_ms: 0,
};

#[test]
fn a_record_that_does_not_open_ends_the_connection_without_a_word() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    world.hear_bytes(one.conn);
    one.outbox.push(b"spoiled");
    let mut record = one
        .channel
        .fill(&mut one.outbox, &mut one.progress)
        .to_vec();
    record[6] ^= 1;
    one.channel.written(record.len());
    world.write(one.conn, &record);
    assert_eq!(world.edge.client_close(one.conn), Some(CloseKind::Graceful));
    assert_eq!(world.edge.gauges().away, 1);
    world.leave(one.conn);
    world.come_back3(&mut one).unwrap();
    world.flush(&mut one);
    assert!(world.backend_hears().contains(&data(one.id(), "spoiled")));
}

#[test]
fn a_frame_longer_than_a_record_is_told_403() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    world.write(one.conn, &65_553_u32.to_le_bytes());
    assert_eq!(closed(&world.hear3(&mut one)), (Code::PROTOCOL, 0));
}

#[test]
fn packets_in_line_are_kept_as_they_were_opened_and_not_acknowledged() {
    let mut world = world(|config| config.master.channel_capacity = 1);
    let mut one = world.join3();
    for body in [b"1", b"2", b"3"] {
        one.outbox.push(body);
    }
    world.flush(&mut one);
    assert_eq!(world.edge.gauges().waiting, 1);
    one.channel.outbound().ask_for_ack();
    world.down(&one, b"x");
    world.hear3(&mut one);
    assert_eq!(one.outbox.acked(), 1, "one is in the link's queue");
    // The connection ends. Nothing that came is lost, nor sent twice.
    world.leave(one.conn);
    world.come_back3(&mut one).unwrap();
    world.flush(&mut one);
    let heard = world.backend_hears();
    let bodies: Vec<&str> = heard
        .iter()
        .filter(|it| it.1 == Flag::Data)
        .map(|it| it.2.as_str())
        .collect();
    assert_eq!(bodies, ["1", "2", "3"]);
    world.down(&one, b"y");
    world.hear3(&mut one);
    assert_eq!(one.outbox.acked(), 3);
}

#[test]
fn records_of_many_empty_packets_wait_in_line_and_cost_what_they_are() {
    let mut world = world(|config| {
        config.master.channel_capacity = 10;
        config.clients.ring_packets = 5_000;
    });
    let mut one = world.join3();
    let items = vec![Item::Packet(b""); 4_000];
    world.send_items(&mut one, &items);
    let held = world.edge.gauges().held_bytes;
    assert!(held < 10 * 13 + 4_000, "{held} bytes");
    assert_eq!(world.backend_hears().len(), 4_000);
    assert_eq!(world.edge.gauges().held_bytes, 0);
}

#[test]
fn an_idle_client_owns_no_buffer() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    world.send3(&mut one, &[1; 10_000]);
    world.down(&one, &[2; 10_000]);
    world.hear3(&mut one);
    world.acknowledge(&mut one);
    world.hear3(&mut one);
    let (conn, id) = (one.conn, one.id());
    let owns_nothing = |world: &mut World| {
        let conn = world.edge.conns.live_mut(conn.0.index);
        assert!(conn.channel().numbered_mut().unwrap().is_bare());
        let session = world.edge.sessions.lookup(id).unwrap();
        assert!(world.edge.sessions.live(session).outbox.wants_memory());
    };
    owns_nothing(&mut world);
    // It is asked whether it is there, and says so.
    world.wait(Duration::from_secs(40));
    assert_eq!(world.hear3(&mut one), []);
    world.flush(&mut one);
    owns_nothing(&mut world);
}

#[test]
fn a_packet_longer_than_its_client_takes_ends_the_session() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    world.down(&one, &vec![0; LONGEST as usize]);
    assert_eq!(world.hear3(&mut one).len(), 1);
    world.flush(&mut one);
    world.down(&one, &vec![0; LONGEST as usize + 1]);
    assert_eq!(
        world.backend_hears(),
        [failure(one.id(), "packet too long")]
    );
    let came = world.hear3(&mut one);
    assert_eq!(closed(&came), (Code::TOO_LONG, LONGEST.into()));
}

#[test]
fn the_length_of_a_padded_record_is_a_power_of_two() {
    let mut world = world(|config| config.clients.padding = true);
    let mut one = world.join3();
    for is_resumed in [false, true] {
        for length in [5_000, 0, 1, 29, 30, 31, 100, 4_000, 20_000, 70_000] {
            world.down(&one, &vec![7; length]);
            let bytes = world.hear_bytes(one.conn);
            let records = bodies(&bytes);
            let lengths: Vec<_> = records.iter().map(|body| body.len() - 16).collect();
            let is_right = |length: &usize| *length >= 32 && length.is_power_of_two();
            assert!(lengths.iter().all(is_right), "{length}: {lengths:?}");
            let came = world.read3(&mut one, &bytes).unwrap();
            assert_eq!(came.len(), 1);
            world.acknowledge(&mut one);
        }
        if !is_resumed {
            world.come_back3(&mut one).unwrap();
        }
    }
}
