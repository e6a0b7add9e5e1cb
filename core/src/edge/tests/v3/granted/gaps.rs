//! Sessions that go on where there is no room: packets are given up, and both ends are told (SPEC 24.4, 36.6).

use super::*;
use crate::v3::progress::MAX_GIVEN_UP;

fn policy(id: ClientId, overflow: Overflow) -> ToEdge<'static> {
    ToEdge::Policy {
        id,
        policy: Policy {
            window_s: 0,
            ring_bytes: 0,
            overflow,
            note: "",
        },
    }
}

/// A world with a backend, and a client whose packets may be given up.
fn giving_up(change: impl FnOnce(&mut EdgeConfig)) -> (World, Backend, ClientV3) {
    let mut world = world(|config| {
        demanding(config);
        change(config);
    });
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let one = world.join3();
    world.order(&mut backend, &policy(one.id(), Overflow::Gap));
    backend.heard.clear();
    (world, backend, one)
}

fn say(world: &mut World, backend: &mut Backend, one: &ClientV3, bytes: &'static [u8]) {
    world.order(backend, &packet(one.id(), bytes));
}

fn latest_of(world: &mut World, backend: &mut Backend, one: &ClientV3, bytes: &'static [u8]) {
    let order = ToEdge::Packet {
        id: one.id(),
        delivery: Class::Latest(7),
        packet: bytes,
    };
    world.order(backend, &order);
}

fn gaps(backend: &mut Backend) -> Vec<String> {
    let mut heard = heard(backend);
    heard.retain(|line| line.starts_with("GAP"));
    heard
}

fn down_at_the_end(world: &mut World, one: &mut ClientV3) -> Ledger {
    world
        .edge
        .handle_shutdown(world.now, Duration::from_secs(1));
    let came = world.hear3(one);
    match came.last() {
        Some(Came::Closed(_, _, _, down)) => *down,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_oldest_that_no_transport_was_given_go_first() {
    let (mut world, mut backend, mut one) = giving_up(|config| config.clients.channel_capacity = 3);
    say(&mut world, &mut backend, &one, b"sent");
    one.takes = false;
    let mut came = world.hear3(&mut one);
    for bytes in [&b"2"[..], b"33", b"444"] {
        say(&mut world, &mut backend, &one, bytes);
    }
    assert_eq!(gaps(&mut backend), [""; 0]);
    say(&mut world, &mut backend, &one, b"5");
    assert_eq!(gaps(&mut backend), ["GAP 2 1 1 1"]);
    say(&mut world, &mut backend, &one, b"6");
    assert_eq!(gaps(&mut backend), ["GAP 3 1 2 1"]);
    came.extend(world.hear3(&mut one));
    let expected = [
        Came::Packet(1, b"sent".to_vec()),
        Came::Gap(2, 2, 1),
        Came::Packet(4, b"444".to_vec()),
        Came::Packet(5, b"5".to_vec()),
        Came::Packet(6, b"6".to_vec()),
    ];
    assert_eq!(came, expected);
    // It is told again where it is lost, and counts once.
    world.leave(one.conn);
    one.progress.take_all();
    let came = world.come_back3(&mut one).unwrap();
    assert_eq!(came.len(), 1, "{came:?}");
    world.acknowledge(&mut one);
    assert_eq!(gaps(&mut backend), [""; 0], "the backend knows");
    let down = down_at_the_end(&mut world, &mut one);
    assert_eq!((down.numbered, down.acknowledged, down.gapped), (6, 4, 2));
    assert!(down.is_balanced());
}

#[test]
fn a_gap_that_was_lost_with_its_connection_is_told_again() {
    let (mut world, mut backend, mut one) = giving_up(|config| config.clients.channel_capacity = 1);
    for bytes in [&b"1"[..], b"2", b"3"] {
        say(&mut world, &mut backend, &one, bytes);
    }
    assert!(!world.hear_bytes(one.conn).is_empty());
    world.leave(one.conn);
    assert_eq!(gaps(&mut backend), ["GAP 1 1 1 1", "GAP 2 1 1 1"]);
    let came = world.come_back3(&mut one).unwrap();
    assert_eq!(
        came[1..],
        [Came::Gap(1, 2, 1), Came::Packet(3, b"3".to_vec())]
    );
    assert_eq!(gaps(&mut backend), [""; 0], "the backend knows");
    world.acknowledge(&mut one);
    assert_eq!(world.edge.account.counted(), 0);
    let down = down_at_the_end(&mut world, &mut one);
    assert_eq!((down.numbered, down.acknowledged, down.gapped), (3, 1, 2));
}

#[test]
fn away_the_lowest_go_and_those_that_the_client_has_are_no_gap() {
    let small = |config: &mut EdgeConfig| {
        config.clients.channel_capacity = 1;
        config.clients.ring_packets = 3;
    };
    let (mut world, mut backend, mut one) = giving_up(small);
    one.takes = false;
    for bytes in [&b"1"[..], b"2", b"3"] {
        say(&mut world, &mut backend, &one, bytes);
        let came = world.hear3(&mut one);
        assert_eq!(came.len(), 1, "{came:?}");
    }
    // It has them, and no ACK was written.
    one.progress.take_all();
    world.leave(one.conn);
    for bytes in [&b"4"[..], b"5", b"6", b"7", b"8", b"9"] {
        say(&mut world, &mut backend, &one, bytes);
    }
    assert_eq!(gaps(&mut backend), [""; 0], "not known yet");
    let came = world.come_back3(&mut one).unwrap();
    assert_eq!(came[1..], [Came::Gap(4, 2, 1)], "three fill its ring");
    world.exchange(&mut backend);
    // Which bytes of a run that is cut were whose is not known.
    assert_eq!(gaps(&mut backend), ["GAP 4 2 0 1"]);
    world.acknowledge(&mut one);
    let expected = [
        Came::Packet(6, b"6".to_vec()),
        Came::Packet(7, b"7".to_vec()),
        Came::Packet(8, b"8".to_vec()),
    ];
    assert_eq!(world.hear3(&mut one), expected);
    one.progress.take_all();
    world.acknowledge(&mut one);
    assert_eq!(world.hear3(&mut one), [Came::Packet(9, b"9".to_vec())]);
    one.progress.take_all();
    world.acknowledge(&mut one);
    assert_eq!(world.edge.account.counted(), 0);
    let down = down_at_the_end(&mut world, &mut one);
    assert_eq!((down.numbered, down.acknowledged, down.gapped), (9, 7, 2));
}

#[test]
fn away_and_never_sent_is_a_gap_with_its_bytes() {
    let small = |config: &mut EdgeConfig| {
        config.clients.channel_capacity = 1;
        config.clients.ring_packets = 1;
    };
    let (mut world, mut backend, mut one) = giving_up(small);
    world.leave(one.conn);
    for bytes in [&b"1"[..], b"22", b"333", b"4"] {
        say(&mut world, &mut backend, &one, bytes);
    }
    let came = world.come_back3(&mut one).unwrap();
    assert_eq!(
        came[1..],
        [Came::Gap(1, 2, 1), Came::Packet(3, b"333".to_vec())]
    );
    world.exchange(&mut backend);
    let after: Vec<_> = heard(&mut backend);
    assert_eq!(after, ["AWAY 0", "RESUMED 1 4", "GAP 1 2 3 1"]);
}

#[test]
fn a_newest_packet_that_goes_is_a_gap_and_a_newer_one_stays() {
    let (mut world, mut backend, mut one) = giving_up(|config| config.clients.channel_capacity = 2);
    latest_of(&mut world, &mut backend, &one, b"old");
    latest_of(&mut world, &mut backend, &one, b"newer");
    say(&mut world, &mut backend, &one, b"3");
    say(&mut world, &mut backend, &one, b"4");
    assert_eq!(gaps(&mut backend), ["GAP 2 1 5 1"]);
    latest_of(&mut world, &mut backend, &one, b"newest");
    assert_eq!(gaps(&mut backend), ["GAP 3 1 1 1"]);
    let came = world.hear3(&mut one);
    let expected = [
        Came::Superseded(1, 1),
        Came::Gap(2, 2, 1),
        Came::Packet(4, b"4".to_vec()),
        Came::OfClass(Delivery::Latest(7), 5, b"newest".to_vec()),
    ];
    assert_eq!(came, expected);
    world.acknowledge(&mut one);
    let down = down_at_the_end(&mut world, &mut one);
    let all = (
        down.numbered,
        down.acknowledged,
        down.superseded,
        down.gapped,
    );
    assert_eq!(all, (5, 2, 1, 2));
}

#[test]
fn a_packet_of_which_a_piece_was_given_is_sent_to_its_end() {
    static LONG: [u8; 200_000] = [5; 200_000];
    let (mut world, mut backend, mut one) = giving_up(|config| config.clients.channel_capacity = 2);
    say(&mut world, &mut backend, &one, &LONG);
    let begun = world.edge.client_output(one.conn).concat();
    assert!(begun.len() < 70_000);
    world
        .edge
        .handle_client_written(world.now, one.conn, begun.len());
    for bytes in [&b"2"[..], b"3", b"4"] {
        say(&mut world, &mut backend, &one, bytes);
    }
    let mut came = world.read3(&mut one, &begun).unwrap();
    came.extend(world.hear3(&mut one));
    let expected = [
        Came::Packet(1, LONG.to_vec()),
        Came::Gap(2, 2, 1),
        Came::Packet(4, b"4".to_vec()),
    ];
    assert_eq!(came, expected);
}

#[test]
fn one_that_has_no_room_where_nothing_else_can_go_goes_itself() {
    static LONG: [u8; 100_000] = [5; 100_000];
    let small = |config: &mut EdgeConfig| {
        config.clients.channel_bytes = 1_000;
        config.clients.ring_bytes = 1_000;
    };
    let (mut world, mut backend, mut one) = giving_up(small);
    say(&mut world, &mut backend, &one, &LONG);
    assert!(world.hear_bytes(one.conn).len() > LONG.len());
    world.leave(one.conn);
    let (attempt, conn) = world.claim3(&mut one);
    one.conn = conn;
    world.send_early(&mut one, &attempt, conn);
    // It may have the first one, which has no room beside it.
    say(&mut world, &mut backend, &one, b"2");
    latest_of(&mut world, &mut backend, &one, b"3");
    world.exchange(&mut backend);
    let came = world.answered(&mut one, attempt).unwrap();
    assert_eq!(
        came[1..],
        [Came::Packet(1, LONG.to_vec()), Came::Gap(2, 2, 1)]
    );
    assert_eq!(gaps(&mut backend), ["GAP 2 1 1 1", "GAP 3 1 1 1"]);
    world.acknowledge(&mut one);
    assert_eq!(world.edge.account.counted(), 0);
}

#[test]
fn one_that_goes_itself_ends_no_session_for_want_of_memory() {
    static LONG: [u8; 100_000] = [5; 100_000];
    static SECOND: [u8; 95_000] = [6; 95_000];
    for tell in [say, latest_of] {
        let (mut world, mut backend, mut one) = giving_up(|config| {
            config.clients.channel_bytes = 1_000;
            config.clients.ring_bytes = 1_000;
            config.limits.max_memory_bytes = 200_000;
        });
        say(&mut world, &mut backend, &one, &LONG);
        assert!(world.hear_bytes(one.conn).len() > LONG.len());
        world.leave(one.conn);
        let (attempt, conn) = world.claim3(&mut one);
        one.conn = conn;
        world.send_early(&mut one, &attempt, conn);
        // With the first one it would be more than 95 % of the bound.
        tell(&mut world, &mut backend, &one, &SECOND);
        assert_eq!(world.edge.counters().memory_over, 0);
        world.exchange(&mut backend);
        let came = world.answered(&mut one, attempt).unwrap();
        assert_eq!(
            came[1..],
            [Came::Packet(1, LONG.to_vec()), Came::Gap(2, 1, 1)]
        );
    }
}

#[test]
fn without_the_choice_or_after_it_was_taken_back_the_session_ends() {
    for takes_back in [false, true] {
        let mut world = world(|config| {
            demanding(config);
            config.clients.channel_capacity = 1;
        });
        let mut backend = Backend::new(BOOT);
        world.granted(&mut backend);
        let mut one = world.join3();
        if takes_back {
            world.order(&mut backend, &policy(one.id(), Overflow::Gap));
            world.order(&mut backend, &policy(one.id(), Overflow::End));
        }
        say(&mut world, &mut backend, &one, b"1");
        say(&mut world, &mut backend, &one, b"2");
        assert_eq!(closed(&world.hear3(&mut one)), (Code::RING_FULL, 0));
        let heard = heard(&mut backend);
        assert!(
            heard.contains(&"ENDED 303 send queue full".to_owned()),
            "{heard:?}"
        );
        assert_eq!(gaps(&mut backend), [""; 0]);
    }
}

#[test]
fn a_client_of_version_2_cannot_be_told_and_its_session_ends() {
    let mut world = world(|config| {
        demanding(config);
        config.clients.channel_capacity = 1;
    });
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let one = world.join();
    world.order(&mut backend, &policy(one.id, Overflow::Gap));
    world.order(&mut backend, &packet(one.id, b"1"));
    world.order(&mut backend, &packet(one.id, b"2"));
    let heard = heard(&mut backend);
    assert!(
        heard.contains(&"ENDED 303 send queue full".to_owned()),
        "{heard:?}"
    );
}

#[test]
fn a_packet_that_is_too_long_ends_the_session_whatever_its_policy() {
    let (mut world, mut backend, one) = giving_up(|_| {});
    static LONG: [u8; LONGEST as usize + 1] = [0; LONGEST as usize + 1];
    say(&mut world, &mut backend, &one, &LONG);
    let heard = heard(&mut backend);
    assert!(heard[0].starts_with("ENDED 404"), "{heard:?}");
}

#[test]
fn the_numbers_given_up_have_a_bound() {
    let (mut world, _, mut one) = giving_up(|config| config.clients.channel_capacity = 1);
    let most = MAX_GIVEN_UP as usize;
    for _ in 0..=most {
        world
            .edge
            .handle_delivery(world.now, one.id(), Delivery::Reliable, b"x");
    }
    assert!(world.edge.sessions.lookup(one.id()).is_some());
    world.deliver(&one, Delivery::Reliable, b"one too many");
    assert!(world.edge.sessions.lookup(one.id()).is_none());
    assert_eq!(closed(&world.hear3(&mut one)), (Code::RING_FULL, 0));
}

#[test]
fn what_the_client_has_fills_its_ring_though_it_was_given_up() {
    static HALF: [u8; 600] = [5; 600];
    let small = |config: &mut EdgeConfig| {
        config.clients.channel_bytes = 1_000;
        config.clients.ring_bytes = 1_000;
    };
    let (mut world, mut backend, mut one) = giving_up(small);
    one.takes = false;
    say(&mut world, &mut backend, &one, &HALF);
    assert_eq!(world.hear3(&mut one).len(), 1);
    world.leave(one.conn);
    for _ in 0..4 {
        say(&mut world, &mut backend, &one, &HALF);
    }
    // It has the first one, and no room for another beside it.
    let came = world.come_back3(&mut one).unwrap();
    assert_eq!(came[1..], [Came::Gap(2, 1, 1)]);
    assert_eq!(world.hear3(&mut one), []);
    one.progress.take_all();
    world.acknowledge(&mut one);
    let expected = [Came::Packet(3, HALF.to_vec())];
    assert_eq!(world.hear3(&mut one), expected);
}
