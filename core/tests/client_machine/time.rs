//! Deadlines and pauses, to the nanosecond.

use core::time::Duration;

use super::edge::{Link, Seen, id_packet};
use voltlane_core::Time;
use voltlane_core::client::{Client, ClientConfig, Closed, DropCause, Event, State};

const HANDSHAKE: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(10);
const NANOSECOND: Duration = Duration::from_nanos(1);

fn before(time: Time) -> Time {
    Time::from_nanos(time.as_nanos() - 1)
}

#[test]
fn a_new_client_wants_to_connect_at_once() {
    let client = Client::new(ClientConfig::default(), [1; 32]);
    assert_eq!(client.poll_timeout(), Some(Time::ZERO));
    assert!(client.wants_connect(Time::ZERO));
}

#[test]
fn the_handshake_deadline_runs_from_the_connection_and_no_byte_moves_it() {
    let mut link = Link::new();
    link.connect();
    let deadline = link.now + HANDSHAKE;
    assert_eq!(link.client.poll_timeout(), Some(deadline));
    let key = link.key_packet();
    for byte in &key {
        link.now = link.now + Duration::from_millis(100);
        link.feed(&[*byte]);
        assert_eq!(link.client.poll_timeout(), Some(deadline));
    }
    link.assert_state(State::AwaitId);
    link.client.handle_timeout(before(deadline));
    link.assert_state(State::AwaitId);
    link.client.handle_timeout(deadline);
    assert!(link.client.wants_close());
    assert_eq!(link.client.poll_timeout(), None);
    assert_eq!(
        link.close(Closed::Eof),
        [Seen::Dropped(DropCause::HandshakeTimeout)]
    );
}

#[test]
fn bytes_at_the_deadline_are_late() {
    for (late_by, state) in [
        (Duration::ZERO, State::Closing),
        (NANOSECOND, State::Closing),
    ] {
        let mut link = Link::new();
        link.connect();
        link.until_await_id();
        link.now = link
            .client
            .poll_timeout()
            .expect("a handshake has a deadline")
            + late_by;
        assert_eq!(link.feed(&id_packet()), []);
        link.assert_state(state);
    }
    let mut link = Link::new();
    link.connect();
    link.until_await_id();
    link.now = before(
        link.client
            .poll_timeout()
            .expect("a handshake has a deadline"),
    );
    assert_eq!(link.feed(&id_packet()).len(), 1);
    link.assert_state(State::Established);
}

#[test]
fn an_established_session_has_no_deadline() {
    let mut link = Link::joined();
    assert_eq!(link.client.poll_timeout(), None);
    link.client.handle_timeout(Time::MAX);
    link.assert_state(State::Established);
}

#[test]
fn opening_the_transport_has_a_deadline() {
    let mut link = Link::new();
    link.client.handle_timeout(link.now);
    link.assert_state(State::Connecting);
    assert!(link.client.wants_connect(link.now));
    let deadline = link.now + CONNECT;
    assert_eq!(link.client.poll_timeout(), Some(deadline));
    link.client.handle_timeout(before(deadline));
    link.assert_state(State::Connecting);
    link.now = deadline;
    link.client.handle_timeout(deadline);
    assert!(link.client.wants_close() && !link.client.wants_connect(deadline));
    link.client.handle_connect_failed(deadline);
    assert_eq!(link.events(), [Seen::Dropped(DropCause::ConnectTimeout)]);
    link.join();
}

#[test]
fn an_attempt_that_is_due_may_fail_before_its_deadline_was_served_and_one_that_is_not_due_cannot() {
    let mut link = Link::joined();
    link.client.handle_closed(link.now, Closed::Eof);
    link.events();
    let retry_at = link.client.poll_timeout().expect("a wait");
    link.client.handle_connect_failed(before(retry_at));
    assert_eq!(link.events(), []);
    assert_eq!(link.client.poll_timeout(), Some(retry_at));
    assert!(link.client.wants_connect(retry_at));
    link.client.handle_connect_failed(retry_at);
    assert_eq!(link.events(), [Seen::Dropped(DropCause::ConnectFailed)]);
    link.assert_state(State::Waiting);
}

#[test]
fn it_waits_exactly_as_long_as_it_says() {
    let mut link = Link::joined();
    link.now = Time::from_millis(60_000);
    link.client.handle_closed(link.now, Closed::Eof);
    let Some(Event::Dropped { retry_in, .. }) = link.client.poll_event() else {
        panic!("not dropped")
    };
    let retry_at = link.now + retry_in;
    assert!(
        retry_in > Duration::ZERO,
        "the seed of this test gives a wait"
    );
    assert_eq!(link.client.poll_timeout(), Some(retry_at));
    assert!(!link.client.wants_connect(before(retry_at)));
    assert!(link.client.wants_connect(retry_at));
    link.client.handle_timeout(before(retry_at));
    link.assert_state(State::Waiting);
    link.client.handle_timeout(retry_at);
    link.assert_state(State::Connecting);
}

/// Fails one attempt with `fail`, and returns the pause after it.
fn wait_after(link: &mut Link, fail: fn(&mut Link)) -> Duration {
    link.connect();
    fail(link);
    match link.client.poll_event() {
        Some(Event::Dropped { retry_in, .. }) => retry_in,
        other => panic!("{other:?}"),
    }
}

#[test]
fn waits_grow_until_a_session_is_established_and_an_open_transport_is_not_enough() {
    let failures: [fn(&mut Link); 3] = [
        |link| {
            link.client.handle_closed(link.now, Closed::Eof);
        },
        |link| {
            link.until_await_id();
            link.client.handle_closed(link.now, Closed::Error);
        },
        |link| {
            link.feed(&[0xff; 4]);
            link.client.handle_closed(link.now, Closed::Eof);
        },
    ];
    for fail in failures {
        let mut link = Link::new();
        let mut longest = Duration::ZERO;
        let mut ceiling = Duration::from_millis(100);
        for _ in 0..40 {
            let wait = wait_after(&mut link, fail);
            assert!(wait <= ceiling, "{wait:?} of {ceiling:?}");
            longest = longest.max(wait);
            ceiling = (ceiling * 2).min(Duration::from_secs(5));
        }
        assert!(
            longest > Duration::from_secs(4),
            "35 draws from 0 to 5 s: {longest:?}"
        );

        link.join();
        link.client.handle_closed(link.now, Closed::Eof);
        let Some(Event::Dropped { retry_in, .. }) = link.client.poll_event() else {
            panic!("not dropped")
        };
        assert!(retry_in <= Duration::from_millis(100), "{retry_in:?}");
    }
}

#[test]
fn failed_dials_wait_longer_and_longer_too() {
    let mut link = Link::new();
    let mut longest = Duration::ZERO;
    for _ in 0..40 {
        link.now = link.client.poll_timeout().expect("a wait");
        link.client.handle_timeout(link.now);
        link.client.handle_connect_failed(link.now);
        let Some(Event::Dropped { cause, retry_in }) = link.client.poll_event() else {
            panic!("no event")
        };
        assert_eq!(cause, DropCause::ConnectFailed);
        longest = longest.max(retry_in);
        // One failure is not counted twice.
        link.client.handle_connect_failed(link.now);
        link.client.handle_closed(link.now, Closed::Error);
        assert_eq!(link.client.poll_event(), None);
        assert_eq!(link.client.poll_timeout(), Some(link.now + retry_in));
    }
    assert!(longest > Duration::from_secs(4), "{longest:?}");
}

#[test]
fn time_never_goes_back() {
    let mut link = Link::new();
    link.now = Time::from_millis(1_000_000);
    link.connect();
    let deadline = link.client.poll_timeout();
    link.client.handle_timeout(Time::ZERO);
    link.now = Time::ZERO;
    link.until_await_id();
    assert_eq!(link.client.poll_timeout(), deadline);
    assert_eq!(link.feed(&id_packet()).len(), 1);
    link.client.handle_closed(Time::ZERO, Closed::Eof);
    let Some(Event::Dropped { retry_in, .. }) = link.client.poll_event() else {
        panic!("not dropped")
    };
    assert_eq!(
        link.client.poll_timeout(),
        Some(Time::from_millis(1_000_000) + retry_in)
    );
}

#[test]
fn a_leap_of_the_clock_overflows_nothing() {
    let mut link = Link::joined();
    link.client.handle_closed(Time::MAX, Closed::Eof);
    assert_eq!(link.client.poll_timeout(), Some(Time::MAX));
    assert!(link.client.wants_connect(Time::MAX));
    link.client.handle_timeout(Time::MAX);
    link.client.handle_connected(Time::MAX, [3; 32]);
    link.client.handle_timeout(Time::MAX);
    assert!(link.client.wants_close(), "there is no time left");
}
