//! What an edge may not send, each with its end. (SPEC 26.3, 28)

use voltlane_core::client::{Closed, Code, DropCause, MAX_BREACHES, State, Violation};
use voltlane_core::v3::code::Code as ItemCode;
use voltlane_core::v3::items::{GoAway, Item, Resumed};

use super::edge::{Says, close};
use super::{Link, Seen};

/// A joined client, at an edge whose records the test makes.
fn made() -> Link {
    let mut link = Link::new();
    link.edge.says = Says::Records;
    link.connect();
    link.run();
    assert!(matches!(link.seen().as_slice(), [Seen::Connected(_)]));
    link
}

fn resumed(until: u64, received_up: u64) -> Item<'static> {
    let resumed = Resumed {
        until,
        received_up,
        away_ms: 0,
        cause: ItemCode::GOODBYE,
    };
    Item::Resumed(resumed, &[[0; 8]])
}

/// Returns whether the connection was dropped because the edge broke the protocol, and whether the client said so.
#[track_caller]
fn breach(link: &mut Link) -> bool {
    let seen = link.seen();
    let is_breach = |seen: &Seen| {
        matches!(
            seen,
            Seen::Dropped(DropCause::Violation(Violation::Breach(_)), _)
        )
    };
    let says = link.client.state() == State::Leaving;
    if says {
        let before = link.client.output().len();
        assert!(before > 4 + 16, "it says why");
        link.up(usize::MAX);
        // What comes meanwhile is thrown away.
        link.feed(b"anything");
        link.lose(Closed::Eof);
    }
    let after = link.seen();
    assert!(
        seen.iter().chain(&after).any(is_breach),
        "{seen:?} {after:?}"
    );
    says
}

#[test]
fn items_that_an_edge_may_not_send_are_answered_with_a_close() {
    let bad: &[&[u8]] = &[
        // A type that does not exist, one of the client's, a packet that is cut, padding that is not 0.
        &[43],
        &[3, 0],
        &[5],
        &[10, 1, 2],
        &[1, 0, 1],
        // An ACK of what was not sent, and one of nothing.
        &[7, 1],
        &[7, 0],
        // RESUMED out of place.
        &[23, 0, 0, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8],
        // A LATEST with a key too high, a GAP of no packets, an empty PART.
        &[17, 64, 0],
        &[13, 0, 0, 1],
        &[11, 0],
    ];
    for plain in bad {
        let mut link = made();
        link.edge.say_bytes(plain, 0);
        link.down();
        link.poll();
        assert!(breach(&mut link), "{plain:?}");
        assert!(link.client.id().is_some(), "the session lives");
    }
}

#[test]
fn what_came_before_a_bad_item_was_received() {
    let mut link = made();
    link.edge.say_bytes(&[2, 9, 43], 1);
    link.down();
    assert_eq!(link.packets(), [[9]]);
    assert!(breach(&mut link));
}

#[test]
fn records_that_do_not_open_end_the_connection_without_a_word() {
    let mut link = made();
    link.edge.say(&[Item::Packet(b"good")]);
    let mut bytes = link.edge.output();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    link.feed(&bytes);
    link.poll();
    assert!(!breach(&mut link));

    // Counted otherwise: a record in another place.
    let mut link = made();
    link.edge.say(&[Item::Packet(b"left out")]);
    link.edge.output();
    link.edge.say(&[Item::Packet(b"next")]);
    link.down();
    link.poll();
    assert!(!breach(&mut link));
}

#[test]
fn frames_that_are_too_long_or_too_short_end_the_connection() {
    for (frame, says) in [
        (65_553_u32.to_le_bytes().to_vec(), true),
        ([15_u32.to_le_bytes().to_vec(), vec![0; 15]].concat(), true),
        ([16_u32.to_le_bytes().to_vec(), vec![0; 16]].concat(), false),
    ] {
        let mut link = made();
        link.feed(&frame);
        link.poll();
        assert_eq!(breach(&mut link), says);
    }
    // In the opening a client takes 256 bytes.
    for length in [257_u32, u32::MAX] {
        let mut link = Link::new();
        link.connect();
        link.feed(&length.to_le_bytes());
        link.poll();
        let seen = link.seen();
        assert!(matches!(
            seen.as_slice(),
            [Seen::Dropped(
                DropCause::Violation(Violation::FrameTooLong(_)),
                _
            )]
        ));
    }
}

#[test]
fn packets_of_the_opening_that_are_wrong_or_out_of_turn_end_the_attempt() {
    let wrong: &[&[u8]] = &[
        b"",
        b"\xff",
        b"\x11",
        &[0x13; 169],
        &[0x10; 42],
        &[0x12; 109],
        &[0x14, 45, 1, 0, 0, 0, 0],
        &[0x14, 204, 0, 0, 0, 0],
    ];
    for packet in wrong {
        let mut link = Link::new();
        link.edge.says = Says::Opening(packet);
        link.come_back();
        assert!(!breach(&mut link));
        assert_eq!(link.client.id(), None);

        let mut link = Link::joined();
        link.lose(Closed::Error);
        link.seen();
        link.edge.says = Says::Opening(packet);
        link.come_back();
        assert!(!breach(&mut link));
        assert!(link.client.id().is_some(), "the session lives");
    }
}

#[test]
fn more_than_the_ring_holds_is_refused_and_one_packet_of_any_length_is_not() {
    let settings = |settings: &mut voltlane_core::v3::packets::Settings| {
        (settings.ring_packets, settings.ring_bytes) = (3, 100);
    };
    let ring = || {
        let mut link = Link::new();
        link.edge.settings = settings;
        link.edge.says = Says::Records;
        link.takes = false;
        link.connect();
        link.run();
        link.seen();
        link
    };
    let mut link = ring();
    link.edge.say(&[Item::Packet(&[1; 5_000])]);
    link.down();
    link.assert_state(State::Established);
    link.edge.say(&[Item::Packet(b"")]);
    link.down();
    assert!(breach(&mut link));

    let mut link = ring();
    link.edge.say(&[Item::Packet(&[1; 33]); 3]);
    link.down();
    link.assert_state(State::Established);
    link.edge.say(&[Item::Packet(b"")]);
    link.down();
    assert!(breach(&mut link));

    // Numbers without packets do not count, nor do volatile packets.
    let mut link = ring();
    let gap = Item::Gap {
        count: 1_000_000,
        bytes: 5,
        reason: 1,
    };
    link.edge.say(&[gap, Item::Superseded { count: 9 }]);
    link.edge.say(&[Item::Volatile(&[1; 500]); 9]);
    link.edge.say(&[Item::Packet(&[1; 33]); 3]);
    link.down();
    link.assert_state(State::Established);
}

#[test]
fn a_packet_longer_than_the_client_takes_is_refused_at_its_piece() {
    let mut link = Link::with(super::config().with_max_receive_bytes(100));
    link.edge.says = Says::Records;
    link.connect();
    link.run();
    link.seen();
    link.edge
        .say(&[Item::Part(&[1; 60]), Item::Packet(&[1; 40])]);
    link.down();
    assert_eq!(link.packets(), [[1; 100]]);
    link.edge.say(&[Item::Part(&[1; 60]), Item::Part(&[1; 41])]);
    link.down();
    assert!(breach(&mut link));
}

#[test]
fn a_resumed_that_cannot_be_is_refused() {
    // (until, received up), where the client has received 1 and sent 2, of which 1 is acknowledged.
    for (until, received_up, is_right) in [
        (1, 1, true),
        (9, 2, true),
        (0, 1, false),
        (1, 3, false),
        (1, i64::MAX as u64, false),
    ] {
        let mut link = made();
        link.client.send(b"one").expect("room");
        link.run();
        link.edge.say(&[Item::Ack(1), Item::Packet(b"packet")]);
        link.down();
        link.client.send(b"two").expect("room");
        link.run();
        link.lose(Closed::Error);
        link.seen();
        link.connect();
        link.up(usize::MAX);
        // Its first record is the test's.
        let counted = match &link.edge.session {
            Some(_) => link.edge.claims[0].received_down,
            None => panic!("it resumes"),
        };
        assert_eq!(counted, 1);
        link.edge.say(&[resumed(until, received_up)]);
        link.down();
        link.poll();
        if is_right {
            link.assert_state(State::Established);
        } else {
            assert!(!breach(&mut link), "{until} {received_up}");
        }
    }
}

#[test]
fn other_items_before_resumed_are_refused_and_padding_is_not() {
    let go_away = Item::GoAway(GoAway {
        code: ItemCode::RESTART,
        earliest_ms: 0,
        latest_ms: 0,
        drain_ms: 0,
    });
    for item in [Item::Packet(b""), Item::Ping([0; 8]), Item::Ack(1), go_away] {
        let mut link = made();
        link.lose(Closed::Error);
        link.seen();
        link.connect();
        link.up(usize::MAX);
        link.down();
        link.assert_state(State::AwaitResumed);
        link.edge.say(&[Item::Pad { length: 9 }]);
        link.down();
        link.assert_state(State::AwaitResumed);
        link.edge.say(&[item]);
        link.down();
        link.poll();
        assert!(!breach(&mut link));
    }
    // A CLOSE in its place is one.
    let mut link = made();
    link.lose(Closed::Error);
    link.seen();
    link.connect();
    link.up(usize::MAX);
    link.edge
        .say(&[Item::Close(close(ItemCode::NUMBERS, "no"))]);
    link.down();
    link.poll();
    let seen = link.seen();
    assert!(matches!(seen.as_slice(), [Seen::Ended(end)] if end.code == Code::NUMBERS));
}

#[test]
fn an_edge_that_breaks_the_protocol_again_and_again_is_left() {
    let mut link = made();
    for n in 1..=MAX_BREACHES {
        link.edge.say_bytes(&[43], 0);
        link.down();
        link.poll();
        if n < MAX_BREACHES {
            assert!(breach(&mut link));
            link.connect();
            link.up(usize::MAX);
            link.edge.say(&[resumed(0, 0)]);
            link.down();
            link.assert_state(State::Established);
        }
    }
    let seen = link.seen();
    assert!(
        matches!(seen.last(), Some(Seen::Ended(end)) if end.code == Code::PROTOCOL),
        "{seen:?}"
    );
}

#[test]
fn a_good_connection_in_between_begins_the_count_again() {
    let mut link = made();
    for _ in 0..2 * MAX_BREACHES {
        link.edge.say_bytes(&[43], 0);
        link.down();
        link.poll();
        assert!(breach(&mut link));
        for ends_well in [true, false] {
            link.connect();
            link.up(usize::MAX);
            link.edge.say(&[resumed(0, 0)]);
            link.down();
            if ends_well {
                link.lose(Closed::Error);
                link.seen();
            }
        }
    }
}

#[test]
fn ends_that_do_not_count_alike_are_reported() {
    let mut link = made();
    for n in 1..=3 {
        link.lose(Closed::Error);
        link.seen();
        link.connect();
        link.up(usize::MAX);
        link.edge.say(&[resumed(0, 0)]);
        link.down();
        link.seen();
        link.edge.spoil();
        link.edge.say(&[Item::Packet(b"lost")]);
        link.down();
        link.poll();
        let seen = link.seen();
        let [Seen::Dropped(DropCause::Violation(violation), _)] = seen.as_slice() else {
            panic!("{seen:?}")
        };
        assert_eq!(violation.to_string().contains("count alike"), n == 3);
    }
}
