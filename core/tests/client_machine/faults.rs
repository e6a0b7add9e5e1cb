//! An edge that does not speak the protocol.

use super::edge::{Link, SECRET, Seen, data, id_packet, packet, ping_packet};
use voltlane_core::client::{
    ClientConfig, Closed, DropCause, MAX_HANDSHAKE_BODY_BYTES, State, Violation,
};
use voltlane_core::keys::KeyError;
use voltlane_core::v2::packets::{Handshake, HandshakeError};
use voltlane_core::wire::frame::FrameTooLong;

const HANDSHAKE_STATES: [State; 4] = [
    State::AwaitKey,
    State::AwaitId,
    State::AwaitChallenge,
    State::AwaitPing,
];

/// Creates a client in one of the states of the handshake.
fn link_in(state: State) -> Link {
    let mut link = Link::new();
    match state {
        State::AwaitKey => link.connect(),
        State::AwaitId => {
            link.connect();
            link.until_await_id();
        }
        _ => {
            link.join();
            link.close(Closed::Eof);
            link.connect();
            match state {
                State::AwaitChallenge => link.until_await_challenge(),
                _ => link.until_await_ping(),
            }
        }
    }
    link.assert_state(state);
    link
}

#[track_caller]
fn assert_violation(link: &mut Link, bytes: &[u8], violation: Violation) {
    assert_eq!(link.feed(bytes), []);
    link.assert_state(State::Closing);
    assert!(link.client.wants_close());
    assert_eq!(link.client.output(), [0; 0]);
    assert_eq!(link.feed(&ping_packet()), [], "nothing is read any more");
    // It does not matter how the transport then ends: even an orderly end does not count as a refusal.
    assert_eq!(
        link.close(Closed::Eof),
        [Seen::Dropped(DropCause::Violation(violation))]
    );
    link.assert_state(State::Waiting);
}

#[test]
fn a_handshake_frame_of_the_bound_is_read_and_one_beyond_refused_by_its_length_alone() {
    let max = MAX_HANDSHAKE_BODY_BYTES;
    for state in HANDSHAKE_STATES {
        let mut at_bound = link_in(state);
        let body = vec![0xff; max as usize];
        assert_violation(
            &mut at_bound,
            &data(&body),
            HandshakeError::UnknownMarker { marker: 0xff }.into(),
        );
        for length in [max + 1, 1 << 31, u32::MAX] {
            let mut beyond = link_in(state);
            assert_violation(
                &mut beyond,
                &length.to_le_bytes(),
                FrameTooLong { length, max }.into(),
            );
        }
    }
}

#[test]
fn malformed_handshake_packets_end_the_connection() {
    let cases: [(&[u8], HandshakeError); 4] = [
        (&[], HandshakeError::Truncated),
        (&[6], HandshakeError::UnknownVariant { variant: 6 }),
        (&[0, 0], HandshakeError::TrailingBytes { length: 1 }),
        (&[3, 251, 7, 0], HandshakeError::NotShortest { value: 7 }),
    ];
    for state in HANDSHAKE_STATES {
        for (body, error) in cases {
            assert_violation(&mut link_in(state), &data(body), error.into());
        }
    }
}

#[test]
fn an_edge_key_that_is_none_ends_the_connection() {
    let cases: [(&[u8], KeyError); 4] = [
        (&[], KeyError::PublicKeyLength { length: 0 }),
        (&[2; 34], KeyError::PublicKeyLength { length: 34 }),
        (&[5; 33], KeyError::NotAPoint),
        (&[0; 33], KeyError::NotAPoint),
    ];
    for (point, error) in cases {
        assert_violation(
            &mut link_in(State::AwaitKey),
            &packet(Handshake::PubKey(point)),
            error.into(),
        );
    }
}

#[test]
fn other_protocols_are_told_apart_at_their_first_bytes() {
    for greeting in [
        &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &[0x15, 3, 1, 0, 2, 2, 22],
    ] {
        let mut link = link_in(State::AwaitKey);
        assert_eq!(link.feed(greeting), []);
        let events = link.close(Closed::Eof);
        assert!(
            matches!(
                events[..],
                [Seen::Dropped(DropCause::Violation(
                    Violation::FrameTooLong(_)
                ))]
            ),
            "{events:?}"
        );
    }
}

#[test]
fn a_data_frame_of_the_bound_is_taken_and_one_beyond_refused_by_its_length_alone() {
    let config = ClientConfig::default().with_max_receive_bytes(1_000);
    let mut link = Link::with_config(config);
    link.join();
    assert_eq!(
        link.feed(&data(&[1; 1_000])),
        [Seen::Packet(vec![1; 1_000])]
    );
    assert_violation(
        &mut link,
        &1_001_u32.to_le_bytes(),
        FrameTooLong {
            length: 1_001,
            max: 1_000,
        }
        .into(),
    );
    link.resume();
    assert_eq!(
        link.feed(&data(&[2; 1_000])),
        [Seen::Packet(vec![2; 1_000])]
    );

    // The packets before the long frame are good.
    let mut input = data(b"good");
    input.extend_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(link.feed(&input), [Seen::Packet(b"good".to_vec())]);
    assert!(link.client.wants_close());
}

#[test]
fn data_in_the_place_of_a_handshake_packet_ends_the_connection() {
    let mut link = link_in(State::AwaitPing);
    assert_eq!(link.feed(&data(b"missed")), []);
    let events = link.close(Closed::Eof);
    assert!(
        matches!(
            events[..],
            [Seen::Dropped(DropCause::Violation(Violation::Malformed(_)))]
        ),
        "{events:?}"
    );
    link.resume();
}

#[test]
fn a_violation_costs_the_connection_and_never_the_session() {
    let mut link = Link::joined();
    link.client.send(b"kept").expect("there is room");
    link.close(Closed::Eof);
    for _ in 0..20 {
        link.connect();
        link.until_await_challenge();
        assert_violation(
            &mut link,
            &id_packet(),
            Violation::Unexpected {
                state: State::AwaitChallenge,
                packet: "ClientId",
            },
        );
    }
    link.resume();
    assert_eq!(link.take_frames(), [b"kept"]);
}

#[test]
fn a_second_challenge_is_out_of_turn() {
    let mut link = link_in(State::AwaitPing);
    let challenge = link.challenge_packet(&SECRET);
    let violation = Violation::Unexpected {
        state: State::AwaitPing,
        packet: "Challenge",
    };
    assert_violation(&mut link, &challenge, violation);
}
