//! No bytes and no order of calls make the machine panic or exceed its bounds.

use super::edge::{ID, Link, SECRET, data, id_packet, packet, ping_packet};
use core::time::Duration;
use proptest::prelude::*;
use voltlane_core::Time;
use voltlane_core::client::{ClientConfig, Closed, Event, State};
use voltlane_core::v2::packets::Handshake;

#[derive(Debug, Clone)]
enum Step {
    Bytes(Vec<u8>),
    /// The packet that a correct edge would send now, cut after this many bytes.
    Honest(usize),
    Ping,
    Id,
    Send(usize),
    Write(u8),
    Connected,
    ConnectFailed,
    Closed(bool),
    Wait(u16),
    Drop,
    StartOver,
    PollEvent,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Step::Bytes),
        8 => prop_oneof![Just(1_000), 0..90_usize].prop_map(Step::Honest),
        1 => Just(Step::Ping),
        1 => Just(Step::Id),
        3 => (0..60_usize).prop_map(Step::Send),
        4 => any::<u8>().prop_map(Step::Write),
        4 => Just(Step::Connected),
        1 => Just(Step::ConnectFailed),
        2 => any::<bool>().prop_map(Step::Closed),
        2 => (0..6_000_u16).prop_map(Step::Wait),
        1 => Just(Step::Drop),
        1 => Just(Step::StartOver),
        1 => Just(Step::PollEvent),
    ]
}

/// Returns what a correct edge would send to a client in this state.
fn honest(link: &mut Link) -> Vec<u8> {
    match link.client.state() {
        State::AwaitKey => link.key_packet(),
        State::AwaitId => id_packet(),
        State::AwaitChallenge if link.client_key.is_some() => link.challenge_packet(&SECRET),
        State::AwaitPing => ping_packet(),
        _ => data(b"down"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    #[test]
    fn any_order_of_anything(steps in proptest::collection::vec(step(), 0..150)) {
        let config = ClientConfig::default().with_queue_packets(5);
        let config = config.and_then(|config| config.with_queue_bytes(150));
        let mut link = Link::with_config(config.expect("a queue"));
        for step in steps {
            let established = link.client.state() == State::Established;
            match step {
                Step::Bytes(bytes) => drop(link.feed(&bytes)),
                Step::Honest(cut) => {
                    let bytes = honest(&mut link);
                    link.feed(&bytes[..cut.min(bytes.len())]);
                }
                Step::Ping => drop(link.feed(&ping_packet())),
                Step::Id => drop(link.feed(&id_packet())),
                Step::Send(length) => drop(link.client.send(&vec![0xaa; length])),
                Step::Write(fraction) => {
                    let output = link.client.output();
                    let n = output.len() * usize::from(fraction) / 255;
                    if !established {
                        // A length comes first, because the last five bytes of a handshake packet may end with this byte, too.
                        let frame = output.split_first_chunk().is_some_and(|(length, body)| {
                            u32::from_le_bytes(*length) <= 150 && !body.is_empty() && body.iter().all(|byte| *byte == 0xaa)
                        });
                        prop_assert!(!frame, "data before the identity is settled");
                    }
                    link.client.handle_written(link.now, n);
                }
                Step::Connected => link.client.handle_connected(link.now, [3; 32]),
                Step::ConnectFailed => link.client.handle_connect_failed(link.now),
                Step::Closed(eof) => {
                    link.client.handle_closed(link.now, if eof { Closed::Eof } else { Closed::Error });
                }
                Step::Wait(millis) => {
                    link.now = link.now + Duration::from_millis(millis.into());
                    link.client.handle_timeout(link.now);
                }
                Step::Drop => link.client.drop_connection(),
                Step::StartOver => link.client.start_over(),
                Step::PollEvent => drop(link.client.poll_event()),
            }
            prop_assert!(link.client.queued_packets() <= 5);
            prop_assert!(link.client.queued_bytes() <= 150);
            prop_assert!(!(link.client.wants_close() && link.client.wants_connect(Time::MAX)));
            // A client that neither waits for its adapter nor has given up always has a deadline or a wait for bytes.
            let idle = matches!(link.client.state(), State::Established | State::Closing | State::Ended);
            prop_assert_eq!(link.client.poll_timeout().is_none(), idle);
            if !idle {
                // No spinning: a timeout that was served moves the next one.
                let mut copies = 0;
                while link.client.poll_timeout().is_some_and(|at| at <= link.now) && copies < 4 {
                    link.client.handle_timeout(link.now);
                    copies += 1;
                }
                prop_assert!(copies < 4);
            }
        }
    }

    #[test]
    fn garbage_in_every_state_is_read_at_the_cost_of_its_bytes(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        piece in 1..50_usize,
        stage in 0..5,
    ) {
        let mut link = Link::new();
        link.connect();
        match stage {
            0 => {}
            1 => link.until_await_id(),
            _ => {
                link.until_await_id();
                link.feed(&id_packet());
                if stage < 4 {
                    link.close(Closed::Eof);
                    link.connect();
                    if stage == 2 { link.until_await_challenge() } else { link.until_await_ping() }
                }
            }
        }
        let mut packets = 0;
        for piece in bytes.chunks(piece) {
            packets += link.feed(piece).len();
        }
        prop_assert!(packets <= bytes.len() / 4 + 1);
    }
}

#[test]
fn debug_shows_neither_keys_nor_payloads() {
    let mut link = Link::joined();
    link.client.send(&[0xab; 8]).expect("there is room");
    link.feed(&data(&[0xcd; 8])[..10]);
    let private_key = link.client.saved_session().expect("established").to_bytes()[9..41].to_vec();
    let shown = format!("{:?} {:?}", link.client, link.client.saved_session());
    for secret in ["171, 171", "abab", "205, 205", "cdcd"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    let hex: String = private_key
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert!(
        !shown.contains(&hex) && !shown.contains(&format!("{private_key:?}")),
        "{shown}"
    );
}

#[test]
fn one_event_waits_at_a_time_and_the_latest_counts() {
    let mut link = Link::joined();
    link.client.handle_closed(link.now, Closed::Eof);
    link.connect();
    link.client.handle_closed(link.now, Closed::Error);
    assert!(matches!(
        link.client.poll_event(),
        Some(Event::Dropped { .. })
    ));
    assert_eq!(link.client.poll_event(), None);
}

#[test]
fn a_transport_beside_another_is_ignored() {
    let mut link = Link::joined();
    link.client.handle_connected(link.now, [3; 32]);
    link.assert_state(State::Established);
    assert_eq!(link.client.output(), [0; 0], "no second handshake");
    assert_eq!(link.client.id(), Some(ID));
    let other = packet(Handshake::ProtocolVersion(2));
    assert_eq!(link.feed(&other).len(), 1, "still data");
}
