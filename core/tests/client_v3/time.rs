//! Deadlines of a client. (SPEC 23.4(h), 24.3(d), 25.1, 25.3, 27.2)

use std::time::Duration;

use voltlane_core::client::{Closed, Code, DropCause, STEADY_TIME, State};
use voltlane_core::v3::code::Code as ItemCode;
use voltlane_core::v3::items::GoAway;

use super::{Link, Seen, config};

const SECOND: Duration = Duration::from_secs(1);

/// A joined client that is steady: its timers are those of the session.
fn steady() -> Link {
    let mut link = Link::joined();
    link.now = link.now + STEADY_TIME;
    link.client.handle_timeout(link.now);
    link
}

#[test]
fn an_edge_has_five_seconds_for_an_opening() {
    for resumes in [false, true] {
        let mut link = if resumes { Link::joined() } else { Link::new() };
        if resumes {
            link.lose(Closed::Error);
            link.seen();
        }
        link.connect();
        let began = link.now;
        link.up(usize::MAX);
        link.wait();
        assert_eq!(link.now.since(began), 5 * SECOND);
        let seen = link.seen();
        assert!(matches!(
            seen.as_slice(),
            [Seen::Dropped(DropCause::HandshakeTimeout, _)]
        ));
    }
}

#[test]
fn a_silent_edge_is_asked_and_then_given_up() {
    let mut link = steady();
    let heard = link.now;
    link.feed(b"");
    // Something came when it joined, and nothing since.
    let joined = heard.since(voltlane_core::Time::ZERO) - STEADY_TIME;
    link.wait();
    let asked = link.now.since(voltlane_core::Time::ZERO) - joined;
    assert!((18 * SECOND..=22 * SECOND).contains(&asked), "{asked:?}");
    assert!(link.up(usize::MAX) > 0, "it asks");
    assert_eq!(link.up(usize::MAX), 0, "once");
    link.wait();
    let silent = link.now.since(voltlane_core::Time::ZERO) - joined;
    assert_eq!(silent, 50 * SECOND);
    assert!(matches!(
        link.seen().as_slice(),
        [Seen::Dropped(DropCause::Silent, _)]
    ));
    assert_eq!(link.client.rtt(), None);
}

#[test]
fn an_answer_tells_the_round_trip_time_and_keeps_the_connection() {
    let mut link = steady();
    for _ in 0..20 {
        link.wait();
        link.up(usize::MAX);
        link.now = link.now + Duration::from_millis(120);
        link.down();
        assert_eq!(link.client.rtt(), Some(Duration::from_millis(120)));
    }
    link.assert_state(State::Established);
}

#[test]
fn an_edge_that_wants_no_keep_alive_gets_none() {
    let mut link = Link::new();
    link.edge.settings = |settings| settings.keep_alive_secs = 0;
    link.come_back();
    link.wait();
    assert_eq!(link.client.poll_timeout(), None);
}

#[test]
fn a_ping_is_answered() {
    let mut link = steady();
    link.edge.channel().take_records();
    link.edge.channel().outbound().ping([7; 8]);
    link.run();
    assert_eq!(link.edge.channel().take_records(), 1, "a PONG");
}

#[test]
fn one_packet_is_acknowledged_after_a_while_and_several_sooner() {
    for (packets, delays) in [(1, 8), (2, 1), (5, 1)] {
        let mut link = steady();
        for _ in 0..packets {
            link.edge.send(b"packet");
        }
        link.down();
        let taken = link.now;
        assert_eq!(link.up(usize::MAX), 0, "not at once");
        link.wait();
        assert_eq!(link.now.since(taken), delays * Duration::from_millis(250));
        assert!(link.up(usize::MAX) > 0);
        let session = link.edge.session.as_ref().expect("it lives");
        assert!(session.outbox.is_empty());
    }
}

#[test]
fn a_quarter_of_the_ring_is_acknowledged_alone_and_so_is_what_is_asked_for() {
    let mut link = Link::new();
    link.edge.settings = |settings| settings.ring_packets = 16;
    link.come_back();
    for n in 1..=4 {
        link.edge.send(b"packet");
        link.down();
        assert_eq!(link.up(usize::MAX) > 0, n == 4);
    }
    let mut link = Link::joined();
    link.edge.send(b"packet");
    link.down();
    assert_eq!(link.up(usize::MAX), 0);
    link.edge.channel().outbound().ask_for_ack();
    link.down();
    assert!(link.up(usize::MAX) > 0);
}

#[test]
fn what_was_taken_is_acknowledged_again_after_a_resume() {
    let mut link = Link::joined();
    link.edge.send(b"packet");
    link.down();
    // The ACK is lost.
    link.wait();
    assert!(!link.client.output().is_empty());
    link.lose(Closed::Error);
    link.come_back();
    let acked = |link: &Link| link.edge.session.as_ref().map(|s| s.outbox.acked());
    while acked(&link) == Some(0) {
        link.wait();
        link.up(usize::MAX);
    }
    assert_eq!(acked(&link), Some(1));
}

#[test]
fn pauses_begin_again_when_a_connection_was_steady_and_not_before() {
    let mut link = Link::joined();
    let pause = |link: &mut Link, is_steady: bool| {
        if is_steady {
            link.now = link.now + STEADY_TIME;
            link.client.handle_timeout(link.now);
        }
        link.lose(Closed::Error);
        let seen = link.seen();
        link.come_back();
        let [Seen::Dropped(_, pause)] = seen[..] else {
            panic!("{seen:?}")
        };
        link.seen();
        pause
    };
    let longest = (0..20).map(|_| pause(&mut link, false)).max();
    assert!(longest > Some(SECOND), "{longest:?}");
    pause(&mut link, true);
    for _ in 0..10 {
        assert!(pause(&mut link, true) <= Duration::from_millis(100));
    }
}

#[test]
fn a_session_is_over_when_its_window_is() {
    let mut link = Link::new();
    link.edge.settings = |settings| settings.window_secs = 7;
    link.come_back();
    link.edge.send(b"heard");
    link.run();
    link.seen();
    let heard = link.now;
    link.now = link.now + 2 * SECOND;
    link.lose(Closed::Error);
    // Attempts go on until then.
    while link.client.state() != State::Ended {
        link.wait();
        if link.client.wants_connect(link.now) {
            link.client.handle_connect_failed(link.now);
        }
        assert!(link.now.since(heard) <= 7 * SECOND + SECOND / 2);
        link.poll();
    }
    assert!(link.now.since(heard) >= 7 * SECOND);
    let seen = link.seen();
    assert!(matches!(seen.last(), Some(Seen::Ended(end)) if end.code == Code::EXPIRED));
}

#[test]
fn a_session_whose_edge_keeps_none_ends_with_its_connection() {
    let mut link = Link::new();
    link.edge.settings = |settings| settings.window_secs = 0;
    link.come_back();
    link.now = link.now + SECOND;
    link.lose(Closed::Error);
    link.client.handle_timeout(link.now);
    link.poll();
    assert!(matches!(link.seen().last(), Some(Seen::Ended(_))));
}

#[test]
fn a_client_leaves_between_the_times_that_the_edge_names() {
    let mut left = Vec::new();
    for seed in 0..60 {
        let mut link = Link::joined();
        link.client = voltlane_core::client::Client::new(config(), [seed; 32]);
        link.edge.session = None;
        link.come_back();
        link.seen();
        let asked = link.now;
        for (earliest_ms, latest_ms) in [(0, 1), (2_000, 6_000)] {
            // The newer one counts.
            link.edge.channel().outbound().go_away(GoAway {
                code: ItemCode::RESTART,
                earliest_ms,
                latest_ms,
                drain_ms: 9_000,
            });
            link.down();
        }
        link.edge.send(b"still here");
        link.run();
        assert_eq!(link.packets().len(), 1);
        while link.client.state() == State::Established {
            link.wait();
            link.up(usize::MAX);
        }
        let seen = link.seen();
        let [Seen::Dropped(DropCause::Moved(Code::RESTART), Duration::ZERO)] = seen.as_slice()
        else {
            panic!("{seen:?}")
        };
        left.push(link.now.since(asked));
        link.come_back();
        link.assert_state(State::Established);
    }
    let (first, last) = (left.iter().min(), left.iter().max());
    assert!(
        first >= Some(&(2 * SECOND)) && first < Some(&(3 * SECOND)),
        "{first:?}"
    );
    assert!(
        last <= Some(&(6 * SECOND)) && last > Some(&(5 * SECOND)),
        "{last:?}"
    );
}
