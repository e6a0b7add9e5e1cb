//! The whole table of the handshake: every state, every packet that an edge can send.

use super::edge::{ID, Link, SECRET, packet, ping_packet};
use voltlane_core::client::{Closed, DropCause, Event, State, Violation};
use voltlane_core::v2::packets::Handshake;

const STATES: [&str; 9] = [
    "Waiting",
    "Connecting",
    "AwaitKey",
    "AwaitId",
    "AwaitChallenge",
    "AwaitPing",
    "Established",
    "Closing",
    "Ended",
];
const PACKETS: [&str; 6] = [
    "Ping",
    "ProtocolVersion",
    "PubKey",
    "ClientId",
    "Challenge",
    "ChallengeResponse",
];

/// Creates a client in the state of that name, by the shortest path.
fn link_in(state: &str) -> Link {
    let mut link = Link::new();
    match state {
        "Waiting" => {
            link.connect();
            link.close(Closed::Error);
            assert!(
                !link.client.wants_connect(link.now),
                "the seed of this test gives a wait"
            );
        }
        "Connecting" => link.client.handle_timeout(link.now),
        "AwaitKey" => link.connect(),
        "AwaitId" => {
            link.connect();
            link.until_await_id();
        }
        "Established" => link.join(),
        "Closing" => {
            link.join();
            link.client.drop_connection();
        }
        _ => {
            link.join();
            link.close(Closed::Eof);
            match state {
                "Ended" => link.until_refused(),
                "AwaitChallenge" => {
                    link.connect();
                    link.until_await_challenge();
                }
                _ => {
                    link.connect();
                    link.until_await_ping();
                }
            }
        }
    }
    assert!(
        format!("{:?}", link.client.state()).starts_with(state),
        "{:?} for {state}",
        link.client.state()
    );
    link
}

/// Returns a packet that would be right in turn.
fn bytes_of(link: &mut Link, name: &str) -> Vec<u8> {
    match name {
        "Ping" => ping_packet(),
        "ProtocolVersion" => packet(Handshake::ProtocolVersion(2)),
        "PubKey" => link.key_packet(),
        "ClientId" => packet(Handshake::ClientId(ID)),
        "Challenge" if link.client_key.is_some() => link.challenge_packet(&SECRET),
        "Challenge" => packet(Handshake::Challenge(&[1; 72])),
        _ => packet(Handshake::ChallengeResponse(&[1; 72])),
    }
}

/// Returns what the packet does: the resulting state, the event, or the violation.
fn outcome(state: &str, name: &str) -> String {
    let mut link = link_in(state);
    let bytes = bytes_of(&mut link, name);
    let before = link.client.state();
    let mut input = bytes.as_slice();
    let event = match link.client.handle_bytes(link.now, &mut input) {
        None => "",
        Some(Event::Packet { data, .. }) => {
            assert_eq!(data, &bytes[4..]);
            "+packet"
        }
        Some(Event::Connected { id }) => {
            assert_eq!(id, ID);
            "+connected"
        }
        Some(Event::Resumed { id, .. }) => {
            assert_eq!(id, ID);
            "+resumed"
        }
        Some(other) => panic!("{other:?} does not come from bytes"),
    };
    let after = link.client.state();
    if before != State::Closing && after == State::Closing {
        link.client.handle_closed(link.now, Closed::Eof);
        let Some(Event::Dropped { cause, .. }) = link.client.poll_event() else {
            panic!("{state}, {name}")
        };
        let expected = Violation::Unexpected {
            state: before,
            packet: PACKETS[PACKETS.iter().position(|p| *p == name).unwrap()],
        };
        assert_eq!(cause, DropCause::Violation(expected));
        return "violation".to_owned();
    }
    if before == after && event.is_empty() {
        return "-".to_owned();
    }
    let after = format!("{after:?}");
    if event.is_empty() {
        after
    } else {
        format!(
            "{}{event}",
            if before == State::Established {
                ""
            } else {
                &after
            }
        )
    }
}

#[test]
fn every_state_and_every_packet() {
    let mut table = String::new();
    for state in STATES {
        for name in PACKETS {
            table += &format!("{state:14} {name:17} {}\n", outcome(state, name));
        }
    }
    assert_eq!(table, include_str!("table.txt"), "\n{table}");
}

/// The effect of each call of the adapter in each state, apart from bytes.
#[test]
fn every_state_and_every_call() {
    type Call = (&'static str, fn(&mut Link));
    let calls: [Call; 9] = [
        ("connected", |link| {
            link.client.handle_connected(link.now, [3; 32])
        }),
        ("connect failed", |link| {
            link.client.handle_connect_failed(link.now)
        }),
        ("closed: eof", |link| {
            link.client.handle_closed(link.now, Closed::Eof)
        }),
        ("closed: error", |link| {
            link.client.handle_closed(link.now, Closed::Error)
        }),
        ("early timeout", |link| {
            link.client.handle_timeout(voltlane_core::Time::ZERO)
        }),
        ("timeout", |link| {
            link.client
                .handle_timeout(link.client.poll_timeout().unwrap_or(link.now))
        }),
        ("written nothing", |link| {
            link.client.handle_written(link.now, 0)
        }),
        ("drop_connection", |link| link.client.drop_connection()),
        ("start_over", |link| link.client.start_over()),
    ];
    let mut table = String::new();
    for state in STATES {
        for (name, call) in calls {
            let mut link = link_in(state);
            link.events();
            let before = link.client.state();
            call(&mut link);
            let after = link.client.state();
            let mut line = if before == after {
                "-".to_owned()
            } else {
                format!("{after:?}")
            };
            for event in link.events() {
                line += &format!(" {event:?}");
            }
            table += &format!("{state:14} {name:15} {line}\n");
        }
    }
    assert_eq!(table, include_str!("calls.txt"), "\n{table}");
}
