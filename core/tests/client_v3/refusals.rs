//! What a client does about each code, and who may end a session. (SPEC 23.4 to 23.6, 25.2)

use std::time::Duration;

use voltlane_core::client::{
    Class, Client, Closed, Code, DropCause, SendError, State, TokenError, Versions, Violation,
};
use voltlane_core::keys::{KeyPair, PublicKey};
use voltlane_core::v3::items::Item;

use super::edge::{Edge, Says, close};
use super::{Link, Seen, config};

const USUAL: Duration = Duration::from_millis(100);

fn key(byte: u8) -> PublicKey {
    KeyPair::from_bytes(&[byte; 32]).expect("a scalar").public()
}

/// A client whose connection is gone, at an edge that says this.
fn away(says: Says) -> Link {
    let mut link = Link::joined();
    link.lose(Closed::Error);
    link.seen();
    link.edge.says = says;
    link
}

/// Returns the codes that mean something of their own in an Answer.
fn is_special(code: Code) -> bool {
    [Code::TAKEN_UP, Code::STALE, Code::AHEAD].contains(&code) || code.to_u16() == 1
}

#[test]
fn every_code_of_an_answer_is_followed_by_what_its_class_says() {
    for code in (0..700)
        .filter_map(Code::from_u16)
        .filter(|code| !is_special(*code))
    {
        let mut link = Link::joined();
        // So that the session has begun.
        link.edge.send(b"packet");
        link.run();
        link.lose(Closed::Error);
        link.seen();
        link.edge.says = Says::Answer(code, 0);
        link.come_back();
        let seen = link.seen();
        match (code.class(), seen.as_slice()) {
            (Class::ResumeNow, [Seen::Dropped(DropCause::Told(told), pause)]) => {
                assert_eq!((*told, *pause), (code, Duration::ZERO));
            }
            (Class::ResumeLater, [Seen::Dropped(DropCause::Told(told), pause)]) => {
                assert_eq!(*told, code);
                assert!(*pause >= Duration::from_secs(70), "{code}: {pause:?}");
            }
            (Class::Afresh | Class::Stop, [Seen::Ended(end)]) => {
                assert_eq!(end.code, code);
                link.assert_state(State::Ended);
                let error = link.client.send(b"").expect_err("it is over");
                assert!(matches!(error, SendError::Ended(end) if end.code == code));
                assert_eq!(link.client.poll_timeout(), None);
                // A new session begins only if the application says so, and never after "stop".
                link.client.start_over();
                let may = code.class() == Class::Afresh;
                if may {
                    // No earlier than the answer asked for (SPEC 25.2(b)).
                    assert!(!link.client.wants_connect(link.now), "{code}");
                    link.wait();
                }
                assert_eq!(link.client.wants_connect(link.now), may, "{code}");
            }
            other => panic!("{code}: {other:?}"),
        }
    }
}

#[test]
fn every_code_of_a_close_is_followed_by_what_its_class_says() {
    let of_close = |code: &Code| code.to_u16() != 1 && *code != Code::TAKEN_OVER;
    for code in (0..700).filter_map(Code::from_u16).filter(of_close) {
        let mut link = Link::joined();
        // So that the session has begun.
        link.edge.send(b"packet");
        link.run();
        link.seen();
        link.edge.close(code, 0, "text");
        link.run();
        let seen = link.seen();
        match (code.class(), seen.as_slice()) {
            (Class::ResumeNow, [Seen::Dropped(DropCause::Told(told), Duration::ZERO)]) => {
                assert_eq!(*told, code);
            }
            (Class::ResumeLater, [Seen::Dropped(DropCause::Told(told), pause)]) => {
                assert_eq!(*told, code);
                assert!(*pause <= USUAL, "nothing longer was asked for");
            }
            (Class::Done, [Seen::Ended(end)]) => assert_eq!(end.code, code),
            (Class::Afresh | Class::Stop, [Seen::Ended(end)]) => {
                assert_eq!((end.code, end.text.as_str()), (code, "text"));
            }
            other => panic!("{code}: {other:?}"),
        }
    }
}

#[test]
fn an_edge_that_always_says_at_once_has_no_client_in_a_loop() {
    let mut link = away(Says::Answer(Code::RESTART, 0));
    let mut pauses = Vec::new();
    for _ in 0..12 {
        link.come_back();
        let seen = link.seen();
        let [Seen::Dropped(_, pause)] = seen.as_slice() else {
            panic!("{seen:?}")
        };
        pauses.push(*pause);
    }
    assert_eq!(pauses[0], Duration::ZERO);
    assert!(
        pauses[1..].iter().all(|pause| !pause.is_zero()),
        "{pauses:?}"
    );
    assert!(pauses.iter().any(|pause| *pause > Duration::from_secs(1)));
}

#[test]
fn a_busy_in_clear_asks_for_a_pause_and_nothing_more() {
    for code in [Code::BUSY, Code::NOT_HERE] {
        for (asked, at_least) in [(0, 0), (30_000, 30_000), (u32::MAX, 60_000)] {
            let mut link = away(Says::Busy(code, asked));
            link.come_back();
            let seen = link.seen();
            let [Seen::Dropped(DropCause::Told(told), pause)] = seen.as_slice() else {
                panic!("{seen:?}")
            };
            assert_eq!(*told, code);
            let least = Duration::from_millis(at_least);
            assert!((least..=least + USUAL).contains(pause), "{pause:?}");
            // The session lives.
            link.edge.says = Says::Right;
            link.come_back();
            link.assert_state(State::Established);
        }
    }
    let mut link = Link::new();
    link.edge.says = Says::Busy(Code::BUSY, 1_000);
    link.come_back();
    let seen = link.seen();
    let told = Seen::Dropped(DropCause::Told(Code::BUSY), Duration::from_secs(1));
    assert_eq!(seen, [told]);
}

#[test]
fn a_stale_counter_is_followed_by_the_next_one_at_once_and_then_after_a_pause() {
    let mut link = away(Says::Right);
    for _ in 0..3 {
        link.connect();
        link.up(usize::MAX);
        link.lose(Closed::Error);
    }
    link.seen();
    link.edge.says = Says::Answer(Code::STALE, 3);
    link.come_back();
    let at_once = Seen::Dropped(DropCause::Told(Code::STALE), Duration::ZERO);
    assert_eq!(link.seen(), [at_once]);
    link.come_back();
    let seen = link.seen();
    assert!(matches!(seen.as_slice(), [Seen::Dropped(_, pause)] if !pause.is_zero()));
    link.edge.says = Says::Right;
    link.come_back();
    link.assert_state(State::Established);
    let claimed = link.edge.claims.last().expect("a claim").counter;
    assert_eq!(claimed, 4, "the edge has accepted 3");
}

#[test]
fn a_counter_that_the_client_never_used_is_a_conflict() {
    let mut link = away(Says::Answer(Code::STALE, 2));
    link.come_back();
    let seen = link.seen();
    assert!(matches!(seen.as_slice(), [Seen::Ended(end)] if end.code == Code::CONFLICT));
    link.client.start_over();
    link.assert_state(State::Ended);

    // Unless the application has said that it goes on.
    let mut link = Link::with(config().with_take_over(true));
    link.come_back();
    link.lose(Closed::Error);
    link.seen();
    link.edge.says = Says::Answer(Code::STALE, 2);
    link.come_back();
    assert!(matches!(
        link.seen().as_slice(),
        [Seen::Dropped(_, Duration::ZERO)]
    ));
    link.edge.says = Says::Right;
    link.come_back();
    link.assert_state(State::Established);
    assert_eq!(link.edge.claims.last().map(|claim| claim.counter), Some(3));
}

#[test]
fn a_session_that_the_edge_cannot_catch_up_with_is_over() {
    for (code, highest) in [(Code::STALE, 1 << 21), (Code::STALE, i64::MAX as u64)] {
        let mut link = away(Says::Answer(code, highest));
        link.come_back();
        let seen = link.seen();
        assert!(
            matches!(seen.as_slice(), [Seen::Ended(end)] if end.code == Code::GONE),
            "{seen:?}"
        );
    }
}

#[test]
fn a_resume_by_somebody_else_is_a_conflict() {
    for takes_over in [false, true] {
        let mut link = Link::with(config().with_take_over(takes_over));
        link.come_back();
        link.lose(Closed::Error);
        link.seen();
        link.edge.before = Some([7; 8]);
        link.come_back();
        if takes_over {
            link.assert_state(State::Established);
        } else {
            let seen = link.seen();
            assert!(matches!(seen.as_slice(), [Seen::Ended(end)] if end.code == Code::CONFLICT));
        }
    }
}

#[test]
fn a_takeover_by_an_attempt_of_its_own_is_none() {
    for (counter, is_own) in [(0, true), (1, true), (2, false), (u64::MAX, false)] {
        let mut link = away(Says::Right);
        link.come_back();
        link.seen();
        link.edge.close(Code::TAKEN_OVER, counter, "");
        link.run();
        let seen = link.seen();
        match seen.as_slice() {
            [Seen::Dropped(DropCause::Told(Code::TAKEN_OVER), _)] => assert!(is_own),
            [Seen::Ended(end)] => assert_eq!((end.code, is_own), (Code::CONFLICT, false)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_session_that_found_no_room_did_not_begin_and_the_client_joins_again() {
    let mut link = Link::new();
    link.edge.says = Says::Records;
    link.client.send(b"packet").expect("room");
    link.connect();
    link.up(usize::MAX);
    link.down();
    link.up(usize::MAX);
    link.edge.say(&[Item::Close(close(Code::BUSY, ""))]);
    link.run();
    let seen = link.seen();
    let [
        Seen::Connected(first),
        Seen::Dropped(DropCause::Told(Code::BUSY), _),
    ] = seen.as_slice()
    else {
        panic!("{seen:?}")
    };
    assert_eq!(link.client.id(), None);
    link.edge.session = None;
    link.edge.says = Says::Right;
    link.come_back();
    let seen = link.seen();
    let [Seen::Connected(second)] = seen.as_slice() else {
        panic!("{seen:?}")
    };
    assert_ne!(first, second);
    let session = link.edge.session.as_ref().expect("it has begun");
    assert_eq!(session.received, [b"packet"], "nothing was lost with it");

    // Once it has begun, the same code is a pause.
    link.edge.send(b"packet");
    link.run();
    link.seen();
    link.edge.close(Code::BUSY, 0, "");
    link.run();
    assert_eq!(link.client.id(), Some(*second));
}

#[test]
fn silence_and_bytes_in_clear_never_end_a_session() {
    let mut link = away(Says::Right);
    for n in 0..40 {
        link.connect();
        link.up(usize::MAX);
        match n % 4 {
            0 => link.lose(Closed::Eof),
            1 => link.lose(Closed::Error),
            2 => link.feed(b"\x01\0\0\0\xff"),
            _ => link.feed(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        }
        link.poll();
        assert!(link.client.id().is_some());
    }
    link.come_back();
    link.assert_state(State::Established);
    // Nor on established connections: nobody's keys are in these.
    for n in 0..12 {
        match n % 4 {
            0 => link.feed(&u32::MAX.to_le_bytes()),
            1 => link.feed(&[15_u32.to_le_bytes().to_vec(), vec![0; 15]].concat()),
            2 => link.feed(&[99_u32.to_le_bytes().to_vec(), vec![0; 99]].concat()),
            _ => link.lose(Closed::Eof),
        }
        while link.client.state() == State::Leaving {
            link.wait();
        }
        link.poll();
        assert!(link.client.id().is_some());
        link.come_back();
        link.assert_state(State::Established);
    }
}

#[test]
fn a_key_is_pinned_by_the_application_or_at_the_first_use() {
    // The edge's own key, and one of two.
    for pins in [vec![key(0x11)], vec![key(0x22), key(0x11)]] {
        let config = pins
            .iter()
            .fold(config(), |config, pin| config.with_edge_key(*pin));
        let mut link = Link::with(config);
        link.come_back();
        link.assert_state(State::Established);
        assert_eq!(link.client.edge_key(), Some(&key(0x11)));
    }
    let is_other = |link: &mut Link| {
        let seen = link.seen();
        assert!(
            matches!(seen.last(), Some(Seen::Ended(end)) if end.code == Code::OTHER_EDGE),
            "{seen:?}"
        );
        assert_eq!(link.client.poll_timeout(), None, "it does not try again");
    };
    let mut link = Link::with(config().with_edge_key(key(0x22)));
    link.come_back();
    is_other(&mut link);
    assert!(link.edge.session.is_none(), "nothing was sent to it");

    // Without a pin, the first key is kept for the sessions after this one.
    let mut link = Link::joined();
    link.lose(Closed::Error);
    link.edge.session = None;
    link.come_back();
    link.edge.pair = KeyPair::from_bytes(&[0x22; 32]).expect("a scalar");
    link.client.start_over();
    link.come_back();
    is_other(&mut link);
}

#[test]
fn a_token_goes_to_a_pinned_edge_or_where_the_first_one_is_trusted() {
    let mut client = Client::new(config(), [1; 32]);
    assert_eq!(client.set_token(b"secret"), Err(TokenError::NoPin));
    let trusting = config().with_trust_first_use(true);
    for config in [trusting, config().with_edge_key(key(0x11))] {
        let mut link = Link::with(config);
        let long = [7; 4_097];
        let too_long = TokenError::TooLong {
            length: 4_097,
            max: 4_096,
        };
        assert_eq!(link.client.set_token(&long), Err(too_long));
        assert_eq!(link.client.set_token(&long[..4_096]), Ok(()));
        link.client.send(&[1; 4_000]).expect("room");
        link.come_back();
        link.assert_state(State::Established);
        assert_eq!(link.edge.tokens, [&long[..4_096]]);
        let session = link.edge.session.as_ref().expect("it lives");
        assert_eq!(session.received.len(), 1);
        // Another one is sent in the session, and the old one never again.
        assert_eq!(link.client.set_token(b"fresh"), Ok(()));
        assert!(link.up(usize::MAX) > 0);
        assert_eq!(link.up(usize::MAX), 0);
        let both = [long[..4_096].to_vec(), b"fresh".to_vec()];
        assert_eq!(link.edge.tokens, both);
        link.lose(Closed::Error);
        link.come_back();
        link.assert_state(State::Established);
        assert_eq!(link.edge.tokens, both);
    }
    assert!(!format!("{:?}", link_debug()).contains("secret"));
}

fn link_debug() -> Client {
    let mut client = Client::new(config().with_trust_first_use(true), [1; 32]);
    client.set_token(b"secret").expect("it is trusted");
    client
}

// ---- which version

/// An edge that closes without a word.
fn version_of_next(link: &mut Link) -> u8 {
    link.connect();
    link.client.output()[5]
}

#[test]
fn a_client_falls_back_only_where_version_3_was_met_by_silence() {
    let both = || config().with_versions(Versions::V3OrV2);
    let mut link = Link::with(both());
    for _ in 0..3 {
        assert_eq!(version_of_next(&mut link), 3);
        link.up(usize::MAX);
        link.lose(Closed::Eof);
        // One attempt with version 2, then the newest again.
        assert_eq!(version_of_next(&mut link), 2);
        link.assert_state(State::AwaitKey);
        link.lose(Closed::Eof);
    }
    // Not after a reset, nor after a byte.
    assert_eq!(version_of_next(&mut link), 3);
    link.lose(Closed::Error);
    assert_eq!(version_of_next(&mut link), 3);
    link.feed(&[0]);
    link.lose(Closed::Eof);
    assert_eq!(version_of_next(&mut link), 3);
    link.lose(Closed::Eof);
    // A queued packet waits for whichever version there will be.
    link.client.send(b"packet").expect("room");
    assert_eq!(version_of_next(&mut link), 2);
}

#[test]
fn a_client_never_falls_back_from_a_known_or_pinned_edge() {
    let both = || config().with_versions(Versions::V3OrV2);
    let ends = |link: &mut Link| {
        for _ in 0..5 {
            assert_eq!(version_of_next(link), 3);
            link.up(usize::MAX);
            link.lose(Closed::Eof);
        }
    };
    ends(&mut Link::with(config()));
    ends(&mut Link::with(both().with_edge_key(key(0x11))));
    ends(&mut Link::with(
        config()
            .with_versions(Versions::V2)
            .with_edge_key(key(0x11)),
    ));
    // A session has one version.
    let mut link = Link::with(both());
    link.come_back();
    link.edge.send(b"packet");
    link.run();
    link.lose(Closed::Eof);
    ends(&mut link);
    // And so has an edge that has spoken it once.
    link.edge.session = None;
    link.come_back();
    link.assert_state(State::Ended);
    link.client.start_over();
    ends(&mut link);
}

#[test]
fn an_edge_of_version_2_is_told_from_one_that_breaks_the_protocol() {
    let mut link = Link::new();
    link.edge = Edge::new();
    link.connect();
    link.feed(&[1, 0, 0, 0, 0]);
    link.poll();
    let seen = link.seen();
    assert!(matches!(
        seen.as_slice(),
        [Seen::Dropped(DropCause::Violation(Violation::Breach(_)), _)]
    ));
}
