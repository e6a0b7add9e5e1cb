//! Goodbyes, ledgers, gaps and classes of packets. (SPEC 24.4, 24.6, 24.7, 25.4)

use std::time::Duration;

use voltlane_core::client::{
    Closed, Code, End, GOODBYE_ANSWER_TIME, LEAVING_TIME, Ledger, SendError, State,
};
use voltlane_core::v3::items::Item;

use super::edge::Says;
use super::{Link, Seen, config};

fn end(link: &mut Link) -> End {
    let seen = link.seen();
    match seen.last() {
        Some(Seen::Ended(end)) => {
            assert!(end.ledgers.up.is_balanced(), "{end:?}");
            assert!(end.ledgers.down.is_balanced(), "{end:?}");
            assert_eq!(link.client.end(), Some(end));
            end.clone()
        }
        _ => panic!("{seen:?}"),
    }
}

#[test]
fn a_goodbye_goes_behind_what_was_sent_and_its_answer_says_that_all_arrived() {
    let mut link = Link::joined();
    link.edge.send(b"down");
    link.run();
    for n in 0..50 {
        link.client.send(&[n; 3_000]).expect("room");
    }
    link.client.close(link.now);
    match link.client.send(b"too late") {
        Err(SendError::Ended(end)) => assert_eq!(end.code, Code::GOODBYE),
        other => panic!("{other:?}"),
    }
    link.run();
    let (code, _, up) = link.edge.closed.expect("it said so");
    assert_eq!((code, up.numbered), (Code::GOODBYE, 50));
    let end = end(&mut link);
    assert_eq!((end.code, end.text.as_str()), (Code::GOODBYE, ""));
    let all = |packets| Ledger {
        numbered: packets,
        acknowledged: packets,
        ..Ledger::default()
    };
    assert_eq!((end.ledgers.up, end.ledgers.down), (all(50), all(1)));
    link.assert_state(State::Ended);
    link.client.start_over();
    link.assert_state(State::Ended);
}

#[test]
fn a_goodbye_without_an_answer_leaves_packets_in_doubt() {
    for ends in [true, false] {
        let mut link = Link::joined();
        link.client.send(b"packet").expect("room");
        link.client.close(link.now);
        let said = link.now;
        let n = link.client.output().len();
        link.client.handle_written(link.now, n);
        if ends {
            link.lose(Closed::Error);
        } else {
            link.wait();
            assert_eq!(link.now.since(said), GOODBYE_ANSWER_TIME);
        }
        let end = end(&mut link);
        assert_eq!(end.code, Code::GOODBYE);
        assert!(!end.text.is_empty());
        assert_eq!((end.ledgers.up.numbered, end.ledgers.up.open_sent), (1, 1));
    }
}

#[test]
fn a_goodbye_of_a_client_that_is_away_is_said_when_it_is_back() {
    let mut link = Link::joined();
    link.lose(Closed::Error);
    link.client.send(b"packet").expect("room");
    link.client.close(link.now);
    link.come_back();
    let end = end(&mut link);
    assert_eq!((end.text.as_str(), end.ledgers.up.acknowledged), ("", 1));
}

#[test]
fn a_goodbye_that_cannot_be_said_has_a_bound() {
    let config = config()
        .with_goodbye_timeout(Duration::from_secs(3))
        .expect("some time");
    let mut link = Link::with(config);
    link.come_back();
    link.lose(Closed::Error);
    link.client.send(b"packet").expect("room");
    let began = link.now;
    link.client.close(link.now);
    while link.client.state() != State::Ended {
        link.wait();
        link.client.handle_connect_failed(link.now);
        link.poll();
    }
    assert_eq!(link.now.since(began), Duration::from_secs(3));
    let end = end(&mut link);
    assert_eq!(end.ledgers.up.open_unsent, 1);
}

#[test]
fn a_client_without_a_session_is_over_at_once() {
    let mut link = Link::new();
    link.client.send(b"packet").expect("room");
    link.client.close(link.now);
    link.poll();
    assert_eq!(end(&mut link).ledgers.up.open_unsent, 1);

    let mut link = Link::new();
    link.connect();
    link.client.close(link.now);
    link.poll();
    assert_eq!(end(&mut link).code, Code::GOODBYE);
    // Once more changes nothing.
    link.client.close(link.now);
    link.poll();
    assert!(link.seen().is_empty());
}

#[test]
fn a_refusal_says_what_had_arrived() {
    let mut link = Link::joined();
    link.client.send(b"one").expect("room");
    link.client.send(b"two").expect("room");
    link.up(usize::MAX);
    link.lose(Closed::Error);
    link.edge.says = Says::Answer(Code::SAID_GOODBYE, 0);
    link.come_back();
    let end = end(&mut link);
    let up = end.ledgers.up;
    assert_eq!((up.numbered, up.acknowledged, up.open_sent), (2, 1, 1));
}

#[test]
fn what_the_edge_closes_with_is_in_the_ledger() {
    let mut link = Link::joined();
    link.takes = false;
    link.client.send(b"up").expect("room");
    for _ in 0..3 {
        link.edge.send(b"down");
    }
    link.run();
    link.client.taken(link.now, 2);
    link.client.send(b"unsent").expect("room");
    link.edge.close(Code::KICKED, 0, "enough");
    link.down();
    link.poll();
    let end = end(&mut link);
    assert_eq!(end.to_string(), "401 kicked: enough");
    let (up, down) = (end.ledgers.up, end.ledgers.down);
    assert_eq!((up.numbered, up.acknowledged, up.open_unsent), (2, 1, 1));
    assert_eq!(
        (down.numbered, down.acknowledged, down.open_sent),
        (3, 2, 1)
    );
}

#[test]
fn gaps_and_classes_are_told_in_their_place_and_acknowledged_with_the_packets_around_them() {
    let mut link = Link::new();
    link.edge.says = Says::Records;
    link.takes = false;
    link.connect();
    link.run();
    link.seen();
    let gap = |count| Item::Gap {
        count,
        bytes: 70,
        reason: 1,
    };
    link.edge.say(&[
        gap(2),
        Item::Packet(b"3"),
        gap(4),
        Item::Superseded { count: 2 },
        Item::Latest {
            key: 5,
            data: b"10",
        },
        Item::Skipped { count: 8 },
        Item::Volatile(b"now"),
        Item::Packet(b"11"),
    ]);
    link.down();
    let seen = link.seen();
    let numbers: Vec<_> = seen
        .iter()
        .map(|seen| match seen {
            Seen::Gap(gap) => ("gap", gap.first, gap.count),
            Seen::Packet(_, number) => ("packet", *number, 1),
            Seen::Skipped(count) => ("skipped", 0, *count),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [
        ("gap", 1, 2),
        ("packet", 3, 1),
        ("gap", 4, 4),
        ("packet", 10, 1),
        ("skipped", 0, 8),
        ("packet", 0, 1),
        ("packet", 11, 1),
    ];
    assert_eq!(numbers, expected);
    let down = |link: &Link| {
        let down = link.client.ledgers().down;
        assert!(down.is_balanced(), "{down:?}");
        (
            down.acknowledged,
            down.gapped,
            down.superseded,
            down.open_sent,
        )
    };
    assert_eq!(down(&link), (0, 6, 2, 3));
    // The holes behind it are taken with the packet.
    link.client.taken(link.now, 3);
    assert_eq!(down(&link), (1, 6, 2, 2));
    link.client.taken(link.now, 11);
    assert_eq!(down(&link), (3, 6, 2, 0));
    assert_eq!(link.client.ledgers().down.skipped, 8);
    // A resume goes on behind all of them.
    link.lose(Closed::Error);
    link.connect();
    link.up(usize::MAX);
    assert_eq!(link.edge.claims[0].received_down, 11);
}

#[test]
fn an_edge_that_does_not_end_a_broken_connection_is_left_behind() {
    let mut link = Link::new();
    link.edge.says = Says::Records;
    link.connect();
    link.run();
    link.edge.say_bytes(&[43], 0);
    link.down();
    link.assert_state(State::Leaving);
    let began = link.now;
    link.wait();
    assert_eq!(link.now.since(began), LEAVING_TIME);
    link.assert_state(State::Waiting);
}
