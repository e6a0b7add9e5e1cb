//! Classes of packets down, which a link asks for that has some (SPEC 24.6).

use super::*;

fn latest(key: u8, number: u64, data: &[u8]) -> Came {
    Came::OfClass(Delivery::Latest(key), number, data.to_vec())
}

fn volatile(data: &[u8], next: u64) -> Came {
    Came::OfClass(Delivery::Volatile, next, data.to_vec())
}

/// What the edge has sent and the client has, at the end of the session.
fn down_at_the_end(world: &mut World, one: &mut ClientV3) -> (Ledger, Vec<Came>) {
    world.backend_says(one.id(), Flag::Kick, b"");
    let mut came = world.hear3(one);
    match came.pop() {
        Some(Came::Closed(_, _, _, down)) => {
            assert!(down.is_balanced(), "{down:?}");
            (down, came)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_class_goes_in_its_order_and_is_acknowledged_as_its_numbers_say() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    world.down(&one, b"1");
    world.deliver(&one, Delivery::Volatile, b"now");
    world.deliver(&one, Delivery::Latest(63), b"2");
    world.down(&one, b"3");
    let came = world.hear3(&mut one);
    let expected = [
        Came::Packet(1, b"1".to_vec()),
        volatile(b"now", 2),
        latest(63, 2, b"2"),
        Came::Packet(3, b"3".to_vec()),
    ];
    assert_eq!(came, expected);
    world.acknowledge(&mut one);
    assert_eq!(world.edge.gauges().held_bytes, 0, "all is acknowledged");
    let (down, _) = down_at_the_end(&mut world, &mut one);
    assert_eq!((down.numbered, down.acknowledged), (3, 3));
}

#[test]
fn a_newer_packet_of_a_key_takes_the_place_of_one_that_was_not_sent() {
    let mut world = world(|config| config.clients.channel_capacity = 4);
    let mut one = world.join3();
    world.deliver(&one, Delivery::Latest(1), b"other key");
    // Many more than may wait: they take each other's place.
    for n in 0..100_u8 {
        world.deliver(&one, Delivery::Latest(7), &[n; 50]);
    }
    assert!(world.edge.gauges().held_bytes < 1_000);
    world.down(&one, b"behind them");
    let came = world.hear3(&mut one);
    let expected = [
        latest(1, 1, b"other key"),
        Came::Superseded(2, 99),
        latest(7, 101, &[99; 50]),
        Came::Packet(102, b"behind them".to_vec()),
    ];
    assert_eq!(came, expected);
    world.acknowledge(&mut one);
    assert_eq!(world.edge.gauges().held_bytes, 0);
    let (down, _) = down_at_the_end(&mut world, &mut one);
    assert_eq!(
        (down.numbered, down.acknowledged, down.superseded),
        (102, 3, 99)
    );
}

#[test]
fn one_that_was_sent_is_superseded_where_it_would_be_sent_again() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    world.deliver(&one, Delivery::Latest(7), b"lost");
    assert!(!world.hear_bytes(one.conn).is_empty());
    world.deliver(&one, Delivery::Latest(7), b"lost, too");
    assert!(!world.hear_bytes(one.conn).is_empty());
    world
        .edge
        .handle_client_closed(world.now, one.conn, Closed::Error);
    world.deliver(&one, Delivery::Latest(7), b"newest");
    world.deliver(&one, Delivery::Latest(8), b"other");
    let came = world.come_back3(&mut one).unwrap();
    let expected = [
        Came::Superseded(1, 2),
        latest(7, 3, b"newest"),
        latest(8, 4, b"other"),
    ];
    assert_eq!(came[1..], expected);
    // Those that came are not sent again, and their ACK is not mistaken for one of the others.
    one.takes = false;
    world.deliver(&one, Delivery::Latest(7), b"5");
    assert_eq!(world.hear3(&mut one), [latest(7, 5, b"5")]);
    world.leave(one.conn);
    world.deliver(&one, Delivery::Latest(7), b"6");
    let came = world.come_back3(&mut one).unwrap();
    assert_eq!(came[1..], [latest(7, 6, b"6")]);
    one.progress.take_all();
    world.acknowledge(&mut one);
    let (down, _) = down_at_the_end(&mut world, &mut one);
    assert_eq!(
        (down.numbered, down.acknowledged, down.superseded),
        (6, 4, 2)
    );
}

#[test]
fn a_long_one_that_was_begun_is_sent_to_its_end() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    let long = vec![5; 200_000];
    world.deliver(&one, Delivery::Latest(7), &long);
    // The first record has a piece of it.
    let begun = world.edge.client_output(one.conn).concat();
    assert!(begun.len() < 70_000);
    world
        .edge
        .handle_client_written(world.now, one.conn, begun.len());
    world.deliver(&one, Delivery::Latest(7), b"2");
    world.deliver(&one, Delivery::Latest(7), b"3");
    let mut came = world.read3(&mut one, &begun).unwrap();
    came.extend(world.hear3(&mut one));
    let expected = [
        latest(7, 1, &long),
        Came::Superseded(2, 1),
        latest(7, 3, b"3"),
    ];
    assert_eq!(came, expected);
    world.acknowledge(&mut one);
    assert_eq!(world.edge.gauges().held_bytes, 0);

    // On another connection it is not begun again.
    world.deliver(&one, Delivery::Latest(7), &long);
    let begun = world.edge.client_output(one.conn).concat();
    world
        .edge
        .handle_client_written(world.now, one.conn, begun.len());
    world.deliver(&one, Delivery::Latest(7), b"5");
    world.leave(one.conn);
    let came = world.come_back3(&mut one).unwrap();
    assert_eq!(came[1..], [Came::Superseded(4, 1), latest(7, 5, b"5")]);
}

#[test]
fn a_packet_without_a_number_is_sent_while_less_than_half_waits_and_counted_otherwise() {
    let mut world = world(|config| config.clients.channel_capacity = 8);
    let mut one = world.join3();
    for n in 0..6_u8 {
        world.deliver(&one, Delivery::Volatile, &[n]);
    }
    let came = world.hear3(&mut one);
    assert_eq!(
        came[0],
        Came::Skipped(2),
        "before the next one that is sent"
    );
    let sent = (0..4_u8).map(|n| volatile(&[n], 1)).collect::<Vec<_>>();
    assert_eq!(came[1..], sent, "four of eight");
    world.deliver(&one, Delivery::Volatile, b"then");
    assert_eq!(world.hear3(&mut one), [volatile(b"then", 1)]);
    // Packets with numbers count as well.
    for _ in 0..4 {
        world.down(&one, b"waits");
    }
    world.deliver(&one, Delivery::Volatile, b"skipped");
    assert_eq!(world.hear3(&mut one).len(), 4);
    assert_eq!(world.edge.counters().packets_down, 5 + 4);
    let (down, _) = down_at_the_end(&mut world, &mut one);
    assert_eq!((down.numbered, down.skipped), (4, 3));
}

#[test]
fn a_packet_without_a_number_is_never_sent_to_one_that_is_away() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    world.deliver(&one, Delivery::Volatile, b"not written");
    assert!(world.edge.gauges().held_bytes > 0);
    world.leave(one.conn);
    assert_eq!(world.edge.gauges().held_bytes, 0);
    world.deliver(&one, Delivery::Volatile, b"away");
    world.come_back3(&mut one).unwrap();
    world.deliver(&one, Delivery::Volatile, b"back");
    let came = world.hear3(&mut one);
    assert_eq!(came, [Came::Skipped(2), volatile(b"back", 1)]);
}

#[test]
fn a_long_packet_without_a_number_comes_whole() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    let long = vec![3; 150_000];
    world.down(&one, b"1");
    world.deliver(&one, Delivery::Volatile, &long);
    world.down(&one, b"2");
    let came = world.hear3(&mut one);
    let expected = [
        Came::Packet(1, b"1".to_vec()),
        volatile(&long, 2),
        Came::Packet(2, b"2".to_vec()),
    ];
    assert_eq!(came, expected);
}

#[test]
fn the_ring_counts_packets_of_a_key_and_not_what_they_took_the_place_of() {
    let mut world = world(|config| {
        config.clients.ring_packets = 2;
        config.clients.ring_bytes = 1_000;
    });
    let mut one = world.join3();
    one.takes = false;
    for n in 0..10_u8 {
        world.deliver(&one, Delivery::Latest(7), &[n]);
    }
    // The run fills no ring, and neither does it at the client.
    let came = world.hear3(&mut one);
    assert_eq!(came, [Came::Superseded(1, 9), latest(7, 10, &[9])]);
    world.deliver(&one, Delivery::Latest(8), &[0; 995]);
    assert_eq!(world.hear3(&mut one), [], "too many bytes");
    world.down(&one, b"behind it");
    assert_eq!(world.hear3(&mut one), []);
    one.progress.take_all();
    world.acknowledge(&mut one);
    let came = world.hear3(&mut one);
    assert_eq!(came, [latest(8, 11, &[0; 995])]);
    assert_eq!(world.hear3(&mut one), [], "the ring has no room");
}

#[test]
fn what_one_holder_has_as_packets_fills_its_ring_though_another_was_told_otherwise() {
    let mut world = world(|config| config.clients.ring_packets = 3);
    let mut one = world.join3();
    one.takes = false;
    for n in 1..=3_u8 {
        world.deliver(&one, Delivery::Latest(7), &[n]);
        assert_eq!(world.hear3(&mut one).len(), 1);
    }
    let mut other = world.steal(&mut one);
    world.deliver(&one, Delivery::Latest(7), &[4]);
    let came = world.come_back3(&mut other).unwrap();
    assert_eq!(came[1..], [Came::Superseded(1, 3), latest(7, 4, &[4])]);
    // It has 1 to 3 as packets, of which the edge has told the other one that there are none.
    // The counter that would be its next is used up.
    let _ = one.session.attempt(world.random(), 1, 3);
    let came = world.come_back3(&mut one).unwrap();
    assert_eq!(came[1..], [], "its ring is full");
    world.down(&one, b"5");
    assert_eq!(world.hear3(&mut one), []);
    one.progress.take(2);
    world.acknowledge(&mut one);
    assert_eq!(world.hear3(&mut one), [], "3 is open still");
    one.progress.take(3);
    world.acknowledge(&mut one);
    let expected = [latest(7, 4, &[4]), Came::Packet(5, b"5".to_vec())];
    assert_eq!(world.hear3(&mut one), expected);
}

#[test]
fn only_what_a_claim_was_without_and_a_later_one_has_is_in_doubt() {
    let mut world = world(|config| config.clients.ring_packets = 5);
    let mut one = world.join3();
    one.takes = false;
    world.deliver(&one, Delivery::Latest(1), b"1");
    assert_eq!(world.hear3(&mut one).len(), 1);
    // These are lost.
    world.deliver(&one, Delivery::Latest(2), b"2");
    world.deliver(&one, Delivery::Latest(3), b"3");
    world.hear_bytes(one.conn);
    world.leave(one.conn);
    world.deliver(&one, Delivery::Latest(2), b"4");
    world.deliver(&one, Delivery::Latest(3), b"5");
    let came = world.come_back3(&mut one).unwrap();
    let expected = [
        Came::Superseded(2, 2),
        latest(2, 4, b"4"),
        latest(3, 5, b"5"),
    ];
    assert_eq!(came[1..], expected, "nothing that it has was ever missed");
    // It claims to have them now, so it might have got them as packets.
    world.leave(one.conn);
    world.down(&one, b"6");
    let came = world.come_back3(&mut one).unwrap();
    assert_eq!(came[1..], []);
    one.progress.take(3);
    world.acknowledge(&mut one);
    let expected = [Came::Packet(6, b"6".to_vec())];
    assert_eq!(world.hear3(&mut one), expected, "4 and 5 were sent once");
}

#[test]
fn a_packet_of_a_class_that_is_too_long_or_one_too_many_ends_the_session() {
    for (delivery, bytes, code) in [
        (Delivery::Latest(0), LONGEST as usize + 1, Code::TOO_LONG),
        (Delivery::Volatile, LONGEST as usize + 1, Code::TOO_LONG),
    ] {
        let mut world = world(|_| {});
        let mut one = world.join3();
        world.deliver(&one, delivery, &vec![0; bytes - 1]);
        assert_eq!(world.edge.gauges().sessions, 1);
        world.deliver(&one, delivery, &vec![0; bytes]);
        assert_eq!(world.edge.gauges().sessions, 0);
        assert_eq!(closed(&world.hear3(&mut one)).0, code);
    }
    let mut world = world(|config| config.clients.channel_capacity = 3);
    let mut one = world.join3();
    for key in 0..3 {
        world.deliver(&one, Delivery::Latest(key), b"fits");
    }
    world.deliver(&one, Delivery::Latest(2), b"in the place of another");
    assert_eq!(world.edge.gauges().sessions, 1);
    world.deliver(&one, Delivery::Latest(3), b"one too many");
    assert_eq!(closed(&world.hear3(&mut one)).0, Code::RING_FULL);
}

#[test]
fn to_a_client_of_version_2_each_is_a_packet() {
    let mut world = world(|_| {});
    let client = world.join();
    for delivery in [Delivery::Latest(7), Delivery::Volatile, Delivery::Reliable] {
        world
            .edge
            .handle_delivery(world.now, client.id, delivery, b"x");
    }
    assert_eq!(world.edge.counters().packets_down, 3);
    world
        .edge
        .handle_delivery(world.now, ClientId::from_u64(1), Delivery::Volatile, b"x");
    assert_eq!(world.edge.counters().unknown_client, 1);
}
