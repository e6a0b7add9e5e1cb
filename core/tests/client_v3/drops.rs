//! Connections that end at every byte of every flight, in both directions. Nothing is lost and nothing comes twice.

use voltlane_core::client::{Closed, State};
use voltlane_core::v3::packets::WELCOME_BYTES;

use super::{Link, Seen};

/// A join, packets in both directions, a drop, a resume with early packets, more packets. `up` and `down` are the bytes after which the
/// connection ends, counted over the whole run. Returns how many there were.
fn script(up: usize, down: usize) -> (usize, usize) {
    let (mut left_up, mut left_down) = (up, down);
    let (mut went_up, mut went_down) = (0, 0);
    let mut link = Link::new();
    let mut expected = (0, 0);
    link.connect();
    for round in 0..4_u8 {
        for n in 0..3_u8 {
            let length = usize::from(round) * 40 + usize::from(n);
            link.client.send(&vec![round; length]).expect("room");
            expected.0 += 1;
            if let Some(session) = &mut link.edge.session {
                session.outbox.push(&vec![round + 100; length]);
                expected.1 += 1;
            }
        }
        loop {
            let moved = link.up(left_up.min(50));
            left_up -= moved;
            went_up += moved;
            let bytes = link.edge.output();
            let arrives = bytes.len().min(left_down);
            link.feed(&bytes[..arrives]);
            left_down -= arrives;
            went_down += arrives;
            link.poll();
            if left_up == 0 || left_down == 0 {
                // Only once.
                (left_up, left_down) = (usize::MAX, usize::MAX);
                link.lose(if round % 2 == 0 {
                    Closed::Error
                } else {
                    Closed::Eof
                });
                link.connect();
            } else if moved + arrives == 0 {
                break;
            }
        }
        if round == 2 {
            link.lose(Closed::Error);
            link.connect();
        }
    }
    link.run();
    link.assert_state(State::Established);
    let told = |seen| match seen {
        Seen::Packet(_, number) => Some(number),
        Seen::Ended(end) => panic!("{end}"),
        _ => None,
    };
    let taken: Vec<u64> = link.seen().into_iter().filter_map(told).collect();
    let session = link.edge.session.as_ref().expect("it lives");
    assert_eq!(session.received.len(), expected.0, "up, cut {up} {down}");
    let numbers: Vec<u64> = (1..=expected.1).collect();
    assert_eq!(taken, numbers, "down, cut {up} {down}");
    // The edge has told how far it came, and the client as well.
    link.client.send(b"last").expect("room");
    link.run();
    assert_eq!(link.client.queued_packets(), 0);
    let session = link.edge.session.as_ref().expect("it lives");
    assert!(session.outbox.is_empty());
    (went_up, went_down)
}

#[test]
fn a_drop_at_any_byte_loses_nothing_and_doubles_nothing() {
    let (up, down) = script(usize::MAX, usize::MAX);
    assert!(up > 1_000 && down > 1_000, "{up} {down}");
    // The Join record itself may be lost: the edge has no session then, and says so. That is a test of its own.
    let join = 6 + 52 + 200;
    for cut in join..up {
        script(cut, usize::MAX);
    }
    // Nor does the edge have one if the connection ends right after Welcome.
    for cut in (1..down).filter(|cut| *cut != 4 + WELCOME_BYTES) {
        script(usize::MAX, cut);
    }
}

#[test]
fn a_drop_within_the_join_ends_a_session_that_never_began_or_joins() {
    let (mut in_doubt, mut anew) = (0, 0);
    for cut in 0..400 {
        let mut link = Link::new();
        link.client.send(b"packet").expect("room");
        link.connect();
        let mut left: usize = cut;
        while left > 0 {
            let moved = link.up(left);
            left -= moved;
            if moved + link.down() == 0 {
                break;
            }
        }
        let had_id = link.client.id().is_some();
        let began = link.edge.session.is_some();
        link.lose(Closed::Error);
        link.come_back();
        let seen = link.seen();
        match (had_id, began, seen.last()) {
            // 22(g): its packets are in doubt, and it says so.
            (true, false, Some(Seen::Ended(end))) => {
                assert_eq!(end.code.to_u16(), 301);
                link.assert_state(State::Ended);
                in_doubt += 1;
            }
            (had_id, began, _) => {
                // 22(h): nothing of it was sent, so it joins again.
                if had_id && !began {
                    link.come_back();
                    anew += 1;
                }
                link.assert_state(State::Established);
                let session = link.edge.session.as_ref().expect("it lives");
                assert_eq!(session.received, [b"packet"], "cut {cut}");
            }
        }
    }
    assert!(in_doubt > 0 && anew > 0, "{in_doubt}, {anew}");
}

#[test]
fn a_packet_that_was_told_is_not_told_again_even_if_the_connection_ends_at_once() {
    let mut link = Link::joined();
    link.takes = false;
    for n in 0..4_u8 {
        link.edge.send(&[n]);
    }
    let bytes = link.edge.output();
    let mut input = bytes.as_slice();
    // Two of the four, and then the transport is gone.
    for number in 1..=2 {
        let event = link.client.handle_bytes(link.now, &mut input);
        let seen = Seen::from(event.expect("a packet"));
        assert!(matches!(seen, Seen::Packet(_, told) if told == number));
    }
    link.lose(Closed::Error);
    link.seen();
    link.come_back();
    assert_eq!(link.edge.claims[0].received_down, 2);
    assert_eq!(link.packets(), [[2], [3]]);
}

#[test]
fn an_attempt_of_which_nothing_was_written_uses_no_counter_up() {
    let mut link = Link::joined();
    link.lose(Closed::Error);
    for _ in 0..3 {
        link.connect();
        link.lose(Closed::Error);
    }
    link.connect();
    link.up(1);
    link.lose(Closed::Error);
    link.come_back();
    link.assert_state(State::Established);
    assert_eq!(link.edge.claims[0].counter, 2);
}
