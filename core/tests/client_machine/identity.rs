//! The client's identity, to whom it is proven, and that nothing is sent before that.

use super::edge::{ID, Link, SECRET, Seen, data, id_packet, packet, ping_packet};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use voltlane_core::client::{
    ClientConfig, Closed, Code, DropCause, MAX_UNPROVABLE_CHALLENGES, Refusal, SavedSession,
    SendError, State, Violation,
};
use voltlane_core::keys::KeyPair;
use voltlane_core::v2::packets::Handshake;

fn stranger() -> KeyPair {
    KeyPair::generate(&mut ChaCha20Rng::from_seed([99; 32]))
}

#[test]
fn queued_packets_leave_only_once_the_edge_has_given_an_id() {
    let mut link = Link::new();
    link.client.send(b"early").expect("there is room");
    assert_eq!(link.client.output(), [0; 0]);
    link.connect();
    link.client.send(b"later").expect("there is room");
    assert_eq!(link.take_packets(), ["ProtocolVersion"]);
    link.feed(&link.key_packet());
    assert_eq!(link.take_packets(), ["PubKey"]);
    assert_eq!(link.feed(&id_packet()), [Seen::Connected(ID)]);
    assert_eq!(link.take_frames(), [b"early", b"later"]);
}

#[test]
fn queued_packets_leave_only_once_the_edge_has_taken_the_proof() {
    let mut link = Link::joined();
    link.close(Closed::Eof);
    link.client.send(b"while away").expect("there is room");
    link.connect();
    link.until_await_ping();
    assert_eq!(link.client.output(), [0; 0]);
    assert_eq!(link.client.queued_packets(), 1);
    link.feed(&ping_packet());
    assert_eq!(link.take_frames(), [b"while away"]);
}

#[test]
fn a_ping_ahead_of_the_written_proof_keeps_the_order() {
    let mut link = Link::joined();
    link.client.send(b"data").expect("there is room");
    link.close(Closed::Eof);
    link.connect();
    link.until_await_challenge();
    let challenge = link.challenge_packet(&SECRET);
    link.feed(&challenge);
    link.take_bytes(10);
    assert_eq!(link.feed(&ping_packet()), [Seen::Resumed(ID)]);
    let frames = link.take_frames();
    assert_eq!(
        frames.len(),
        3,
        "the rest of the response, the Ping, then data"
    );
    assert_eq!(Handshake::decode(&frames[1]), Ok(Handshake::Ping));
    assert_eq!(frames[2], b"data");
}

#[test]
fn another_edge_key_is_refused_and_learns_nothing() {
    let mut link = Link::joined();
    link.client.send(b"secret").expect("there is room");
    link.close(Closed::Eof);
    link.connect();
    assert_eq!(link.take_packets(), ["ProtocolVersion"]);
    assert_eq!(
        link.feed(&packet(Handshake::PubKey(stranger().public().as_bytes()))),
        []
    );
    assert_eq!(link.client.output(), [0; 0], "not even the id");
    assert!(link.client.wants_close());
    assert_eq!(link.feed(&ping_packet()), []);
    assert_eq!(
        link.close(Closed::Eof),
        [Seen::Refused(Refusal::EdgeKeyChanged)]
    );
    link.assert_state(State::Ended);
    let end = link.client.end().expect("it is over");
    assert_eq!(end.code, Refusal::EdgeKeyChanged.code());
    assert_eq!(link.client.poll_timeout(), None);
    assert!(!link.client.wants_connect(voltlane_core::Time::MAX));

    // The session itself may still be valid at the edge that it belongs to.
    let saved = link.client.saved_session().expect("kept");
    let mut again = link.restored([3; 32], &saved);
    again.resume();
}

#[test]
fn the_pinned_key_is_the_same_in_its_uncompressed_form() {
    let mut link = Link::joined();
    link.close(Closed::Eof);
    link.connect();
    let uncompressed = uncompressed(link.edge_keys.public().as_bytes());
    assert_eq!(link.feed(&packet(Handshake::PubKey(&uncompressed))), []);
    link.assert_state(State::AwaitChallenge);
}

#[test]
fn before_there_is_a_session_any_edge_will_do() {
    let mut link = Link::new();
    link.connect();
    link.until_await_id();
    let first_offer = link.client_key;
    link.close(Closed::Eof);
    link.edge_keys = stranger();
    link.connect();
    link.until_await_id();
    assert_ne!(
        link.client_key, first_offer,
        "a key pair is for one session (SPEC 4.2(c))"
    );
    assert_eq!(link.feed(&id_packet()), [Seen::Connected(ID)]);
    link.close(Closed::Eof);
    link.resume();
}

#[test]
fn after_a_refusal_a_fresh_start_is_possible() {
    let mut link = Link::joined();
    let old_key = link.client_key;
    link.close(Closed::Eof);
    link.client
        .send(b"for the old session")
        .expect("there is room");
    link.until_refused();

    assert_eq!(link.client.id(), None);
    assert!(
        link.client.saved_session().is_none(),
        "nothing is left that could be resumed"
    );
    let end = link.client.end().expect("it is over").clone();
    assert_eq!(end.code, Code::GONE);
    assert_eq!(link.client.send(b"x"), Err(SendError::Ended(end)));
    assert_eq!(
        (link.client.poll_timeout(), link.client.wants_close()),
        (None, false)
    );

    link.client.start_over();
    assert_eq!(
        link.client.queued_packets(),
        0,
        "nothing of the old session reaches the new one"
    );
    link.join();
    assert_ne!(link.client_key, old_key);
    assert_eq!(link.take_frames(), [[0; 0]; 0]);
}

/// However often, and however the transport ends: a load balancer may turn an abrupt end into an orderly one. (SPEC 4.6(b))
#[test]
fn an_end_after_the_proof_is_a_broken_connection() {
    let ends = [
        (Closed::Eof, DropCause::ClosedByEdge),
        (Closed::Error, DropCause::Transport),
    ];
    for (closed, cause) in ends {
        for written in [0, 1, 77, 82, 83] {
            let mut link = Link::joined();
            link.close(Closed::Eof);
            for _ in 0..=MAX_UNPROVABLE_CHALLENGES {
                link.connect();
                link.until_await_challenge();
                let challenge = link.challenge_packet(&SECRET);
                link.feed(&challenge);
                link.take_bytes(written);
                assert_eq!(
                    link.close(closed),
                    [Seen::Dropped(cause)],
                    "{written} bytes written"
                );
            }
            link.resume();
        }
    }
}

#[test]
fn an_end_in_any_earlier_step_is_a_broken_connection() {
    let mut link = Link::joined();
    link.close(Closed::Eof);
    link.connect();
    assert_eq!(
        link.close(Closed::Eof),
        [Seen::Dropped(DropCause::ClosedByEdge)]
    );
    link.connect();
    link.until_await_challenge();
    assert_eq!(
        link.close(Closed::Eof),
        [Seen::Dropped(DropCause::ClosedByEdge)]
    );
    link.resume();
}

/// Feeds one challenge packet to a client that waits for it, and closes.
fn challenge_with(link: &mut Link, challenge: &[u8]) -> Vec<Seen> {
    link.connect();
    link.until_await_challenge();
    assert_eq!(link.feed(challenge), []);
    assert_eq!(link.client.output(), [0; 0], "it must not be answered");
    assert!(link.client.wants_close());
    link.close(Closed::Eof)
}

#[test]
fn challenges_that_do_not_open_are_never_answered_and_end_the_session_in_the_end() {
    let unprovable = Seen::Dropped(DropCause::Violation(Violation::UnprovableChallenge));
    let mut link = Link::joined();
    link.close(Closed::Eof);
    for _ in 1..MAX_UNPROVABLE_CHALLENGES {
        assert_eq!(link.get_decoy(), std::slice::from_ref(&unprovable));
        // A connection that breaks before a challenge is no evidence about the session.
        link.connect();
        link.until_await_challenge();
        link.close(Closed::Eof);
    }
    assert_eq!(link.get_decoy(), [Seen::Refused(Refusal::UnknownOrExpired)]);
    assert_eq!(link.client.id(), None);
}

#[test]
fn only_challenges_in_a_row_count() {
    let unprovable = Seen::Dropped(DropCause::Violation(Violation::UnprovableChallenge));
    let mut link = Link::joined();
    link.close(Closed::Eof);
    for resumes in [true, false, true] {
        for _ in 1..MAX_UNPROVABLE_CHALLENGES {
            assert_eq!(link.get_decoy(), std::slice::from_ref(&unprovable));
        }
        // A challenge that opens ends the row, whatever happens to the response.
        if resumes {
            link.resume();
        } else {
            link.connect();
            link.until_await_ping();
        }
        link.close(Closed::Eof);
    }
}

#[test]
fn every_wrong_challenge_is_the_same_to_the_client() {
    let mut joined = Link::joined();
    let saved = joined.client.saved_session().expect("established");
    let good = joined.seal(&SECRET);
    let mut wrong: Vec<Vec<u8>> = (0..=100).filter(|n| *n != 72).map(|n| vec![7; n]).collect();
    for bit in 0..good.len() * 8 {
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        wrong.push(flipped);
    }
    for length in [0, 1, 31, 33, 64] {
        wrong.push(joined.seal(&vec![0x5a; length]));
    }
    for sealed in wrong {
        let mut link = joined.restored([4; 32], &saved);
        assert_eq!(
            challenge_with(&mut link, &packet(Handshake::Challenge(&sealed))),
            [Seen::Dropped(DropCause::Violation(
                Violation::UnprovableChallenge
            ))],
            "{sealed:?}"
        );
    }
}

#[test]
fn its_own_response_sent_back_as_a_challenge_is_not_answered() {
    let mut link = Link::joined();
    link.close(Closed::Eof);
    link.connect();
    link.until_await_challenge();
    let challenge = link.challenge_packet(&SECRET);
    link.feed(&challenge);
    let response = link.take_response();
    link.close(Closed::Error);
    let reflected = packet(Handshake::Challenge(&response));
    let unprovable = [Seen::Dropped(DropCause::Violation(
        Violation::UnprovableChallenge,
    ))];
    assert_eq!(challenge_with(&mut link, &reflected), unprovable);

    // Nor by another process that took the session over.
    let mut restored = link.restored([5; 32], &link.client.saved_session().expect("still there"));
    assert_eq!(challenge_with(&mut restored, &reflected), unprovable);
}

#[test]
fn nonces_do_not_repeat_where_the_seed_does() {
    let mut joined = Link::joined();
    let saved = joined.client.saved_session().expect("established");
    joined.close(Closed::Eof);
    let mut nonces = std::collections::BTreeSet::new();
    for byte in 0..20 {
        let mut link = joined.restored([6; 32], &saved);
        link.connect();
        link.until_await_challenge();
        let challenge = link.challenge_packet(&[byte; 32]);
        link.feed(&challenge);
        assert!(
            nonces.insert(link.take_response()[72 - 24..].to_vec()),
            "a nonce came twice under one key"
        );
    }
}

#[test]
fn a_killed_application_comes_back_as_the_same_client() {
    let mut link = Link::joined();
    let bytes = link.client.saved_session().expect("established").to_bytes();
    link.client
        .send(b"lost with the process")
        .expect("there is room");

    let saved = SavedSession::from_bytes(bytes.as_slice()).expect("just written");
    let mut restored = link.restored([7; 32], &saved);
    assert_eq!(restored.client.id(), Some(ID));
    restored.client.send(b"hello again").expect("there is room");
    restored.resume();
    assert_eq!(restored.take_frames(), [b"hello again"]);
    assert_eq!(
        restored.feed(&data(b"missed")),
        [Seen::Packet(b"missed".to_vec())]
    );
    let again = restored
        .client
        .saved_session()
        .expect("established")
        .to_bytes();
    assert_eq!(again, bytes, "the session is what it was");
}

#[test]
fn seeds_decide_the_key_and_nothing_else_does() {
    let key_of = |seed| {
        let client = voltlane_core::client::Client::new(ClientConfig::default(), seed);
        let mut link = Link::with_client(client);
        link.join();
        link.client_key
    };
    assert_eq!(key_of([8; 32]), key_of([8; 32]));
    assert_ne!(key_of([8; 32]), key_of([9; 32]));
}

/// The uncompressed form of a compressed point.
fn uncompressed(compressed: &[u8]) -> Vec<u8> {
    use k256::elliptic_curve::sec1::ToSec1Point;
    let point = k256::PublicKey::from_sec1_bytes(compressed).expect("a point");
    point.to_sec1_point(false).as_bytes().to_vec()
}
