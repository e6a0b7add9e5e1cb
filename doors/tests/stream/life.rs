//! Signs of life, and the words with which a door parts.

use std::task::Poll;
use std::time::Duration;

use voltlane_doors::websocket::http::Rules;
use voltlane_doors::{DoorFault, DoorStream};
use voltlane_driver::{Farewell, Stream};

use super::reluctant::*;

const EVERY: Duration = Duration::from_secs(25);
const WITHIN: Duration = Duration::from_secs(20);

/// An open connection whose client is asked for signs of life.
fn watched(kind: Kind) -> Both {
    let door = door(kind, Rules::default()).with_pings(EVERY, WITHIN);
    open_at(kind, 0, &door)
}

#[test]
fn a_silent_peer_is_asked_and_one_that_does_not_answer_is_gone() {
    for kind in [Kind::Ws, Kind::Wss] {
        let (mut client, mut server) = watched(kind);
        assert_eq!(server.keep_alive(), Some(EVERY / 2));
        // The first look finds what opened it, the second nothing.
        assert!(server.is_alive(&mut cx()) && server.is_alive(&mut cx()));
        assert_eq!(server.keep_alive(), Some(WITHIN));
        // The client answers by itself.
        assert!(read(&mut client, 64).0.is_empty());
        assert!(read(&mut server, 64).0.is_empty());
        assert_eq!(server.keep_alive(), Some(EVERY / 2));
        assert!(server.is_alive(&mut cx()) && server.is_alive(&mut cx()));
        // Data is a sign as well.
        assert!(write(&mut client, b"data").is_ready());
        assert_eq!(read(&mut server, 64).0, b"data");
        assert!(server.is_alive(&mut cx()) && server.is_alive(&mut cx()));
        let asked = client.get_ref().reads.lock().expect("no panic").bytes.len();
        assert!(asked > 0);
        // It was asked, has a little more time, and is gone. It is asked once.
        assert!(server.is_alive(&mut cx()));
        assert!(server.keep_alive().expect("a time") < Duration::from_secs(1));
        assert!(!server.is_alive(&mut cx()), "{kind:?}");
        let unread = client.get_ref().reads.lock().expect("no panic").bytes.len();
        assert_eq!(unread, asked);
    }
}

#[test]
fn nobody_is_asked_where_that_is_off_or_before_there_are_frames() {
    let (_client, mut server) = open(Kind::Ws, 0, Rules::default());
    assert_eq!(server.keep_alive(), None);
    let off = door(Kind::Ws, Rules::default()).with_pings(Duration::ZERO, WITHIN);
    assert_eq!(
        off.enter(pipe(0).1, PEER).expect("a door").keep_alive(),
        None
    );
    let (client, near) = pipe(0);
    let door = door(Kind::Ws, Rules::default()).with_pings(EVERY, WITHIN);
    let mut waiting = door.enter(near, PEER).expect("a door");
    for _ in 0..10 {
        assert!(waiting.is_alive(&mut cx()));
    }
    assert!(client.reads.lock().expect("no panic").bytes.is_empty());
    assert!(server.is_alive(&mut cx()));
}

/// Returns the close code that the client is told.
fn code(mut client: DoorStream<Reluctant>) -> Option<DoorFault> {
    assert!(matches!(read(&mut client, 64), (_, Some(Ok(())))));
    assert_eq!(
        client.parting_words().is_some(),
        client.fault().is_some(),
        "for people as well"
    );
    client.fault().cloned()
}

const ALL: [(Farewell, u16, Option<&str>); 8] = [
    (Farewell::Over, 1000, None),
    (Farewell::Ending, 1001, Some("503")),
    (Farewell::Malformed, 1002, None),
    (Farewell::Refused, 1008, None),
    (Farewell::Late, 1008, Some("408")),
    (Farewell::TooLong, 1009, None),
    (Farewell::Crowded, 1013, Some("503")),
    (Farewell::SourceCrowded, 1013, Some("429")),
];

#[test]
fn each_farewell_has_its_close_code() {
    for (farewell, expected, _) in ALL {
        for kind in [Kind::Ws, Kind::Wss] {
            let (client, mut server) = open(kind, 0, Rules::default());
            assert!(!server.refuse(farewell), "its stream has begun");
            server.part(farewell);
            assert!(server.poll_close(&mut cx()).is_ready());
            assert_eq!(code(client), Some(DoorFault::Closed(expected)));
        }
    }
}

#[test]
fn one_that_is_turned_away_before_its_request_is_answered_over_http() {
    for (farewell, _, status) in ALL {
        for begun in [&b""[..], b"GET / HT"] {
            let (client, server) = pipe(0);
            let door = door(Kind::Ws, Rules::default());
            let mut server = door.enter(server, PEER).expect("a door");
            client.writes.lock().expect("no panic").bytes.extend(begun);
            assert!(read(&mut server, 64).1.is_none());
            assert!(server.refuse(farewell));
            assert!(server.poll_close(&mut cx()).is_ready());
            let mut way = client.reads.lock().expect("no panic");
            let said = String::from_utf8(way.bytes.make_contiguous().to_vec()).expect("text");
            match status {
                Some(status) => {
                    assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{said}");
                    let retry = said.split_once("Retry-After: ").map(|(_, rest)| rest);
                    let secs = retry.and_then(|rest| rest.split_once('\r')?.0.parse::<u8>().ok());
                    assert_eq!(secs.is_some(), status != "408");
                    assert!(secs.is_none_or(|secs| (1..=10).contains(&secs)));
                }
                None => assert!(said.is_empty(), "{said}"),
            }
        }
    }
    // TLS that is not open has no words for it, and neither has a stream without layers.
    let (_client, server) = pipe(0);
    let mut server = door(Kind::Wss, Rules::default())
        .enter(server, PEER)
        .expect("a door");
    assert!(!server.refuse(Farewell::Crowded));
    assert!(!DoorStream::plain(pipe(0).1).refuse(Farewell::Crowded));
    // What was answered is not answered again.
    let (client, server) = pipe(0);
    let mut server = door(Kind::Ws, Rules::default())
        .enter(server, PEER)
        .expect("a door");
    let mut way = client.writes.lock().expect("no panic");
    way.bytes
        .extend(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    drop(way);
    assert!(matches!(read(&mut server, 64), (_, Some(Err(_)))));
    assert!(!server.refuse(Farewell::Late));
    assert!(matches!(server.poll_close(&mut cx()), Poll::Ready(Ok(()))));
}
