//! The client machine against a scripted edge. (SPEC 4)

mod edge;
mod faults;
mod identity;
mod queue;
mod robustness;
mod table;
mod time;

use self::edge::{ID, Link, SECRET, Seen, data, id_packet, ping_packet};
use voltlane_core::client::{Closed, DropCause, State};

#[test]
fn a_new_client_joins_and_both_sides_talk() {
    let mut link = Link::new();
    link.connect();
    link.assert_state(State::AwaitKey);
    assert_eq!(link.client.id(), None);
    assert!(link.client.saved_session().is_none());
    link.until_await_id();
    link.assert_state(State::AwaitId);
    assert_eq!(link.feed(&id_packet()), [Seen::Connected(ID)]);
    link.assert_state(State::Established);
    assert_eq!(link.client.id(), Some(ID));

    link.client.send(b"up").expect("there is room");
    link.client.send(b"").expect("an empty packet is a packet");
    assert_eq!(link.take_frames(), [&b"up"[..], b""]);
    assert_eq!(
        link.feed(&[data(b"down"), data(b""), data(b"again")].concat()),
        [
            Seen::Packet(b"down".to_vec()),
            Seen::Packet(Vec::new()),
            Seen::Packet(b"again".to_vec())
        ]
    );
}

#[test]
fn the_first_bytes_are_those_of_the_specification() {
    let mut link = Link::new();
    link.connect();
    assert_eq!(link.client.output(), [2, 0, 0, 0, 1, 2]);
}

#[test]
fn handshake_lookalikes_are_data_once_established() {
    let mut link = Link::joined();
    let body = [5, 72].to_vec();
    assert_eq!(link.feed(&data(&body)), [Seen::Packet(body)]);
    link.client.send(&[0]).expect("there is room");
    assert_eq!(link.take_frames(), [[0]]);
}

#[test]
fn a_dropped_client_comes_back_and_answers_in_one_segment() {
    let mut link = Link::joined();
    assert_eq!(
        link.close(Closed::Eof),
        [Seen::Dropped(DropCause::ClosedByEdge)]
    );
    link.assert_state(State::Waiting);
    link.connect();
    link.until_await_challenge();

    let challenge = link.seal(&SECRET);
    let nonce_of = |sealed: &[u8]| sealed[sealed.len() - 24..].to_vec();
    assert_eq!(
        link.feed(&edge::packet(
            voltlane_core::v2::packets::Handshake::Challenge(&challenge)
        )),
        []
    );
    link.assert_state(State::AwaitPing);
    let segment = link.client.output().len();
    assert_eq!(
        segment,
        78 + 5,
        "the response and the Ping leave in one slice"
    );
    let response = link.take_response();
    assert_eq!(
        link.shared_key()
            .open(&response)
            .expect("sealed for the edge")
            .as_slice(),
        SECRET
    );
    assert_ne!(nonce_of(&response), nonce_of(&challenge));

    assert_eq!(link.feed(&ping_packet()), [Seen::Resumed(ID)]);
    link.assert_state(State::Established);
    assert_eq!(link.client.id(), Some(ID));
}

#[test]
fn it_resumes_again_and_again() {
    let mut link = Link::joined();
    for _ in 0..10 {
        assert_eq!(
            link.close(Closed::Error),
            [Seen::Dropped(DropCause::Transport)]
        );
        link.resume();
    }
}

#[test]
fn missed_packets_in_the_segment_of_the_ping_come_after_it() {
    let mut link = Link::joined();
    link.close(Closed::Eof);
    link.connect();
    link.until_await_ping();
    let segment = [ping_packet(), data(b"missed"), data(b"newer")].concat();
    assert_eq!(
        link.feed(&segment),
        [
            Seen::Resumed(ID),
            Seen::Packet(b"missed".to_vec()),
            Seen::Packet(b"newer".to_vec())
        ]
    );
}

#[test]
fn every_split_of_the_edges_bytes_gives_the_same_events() {
    let mut script = Link::new();
    let joining = [
        script.key_packet(),
        id_packet(),
        data(b"one"),
        data(b""),
        data(&[7; 300]),
    ]
    .concat();
    let expected_joining = [
        Seen::Connected(ID),
        Seen::Packet(b"one".to_vec()),
        Seen::Packet(Vec::new()),
        Seen::Packet(vec![7; 300]),
    ];
    script.join();
    let coming_back = [
        script.key_packet(),
        script.challenge_packet(&SECRET),
        ping_packet(),
        data(b"missed"),
        data(&[8; 300]),
    ]
    .concat();
    let expected_coming_back = [
        Seen::Resumed(ID),
        Seen::Packet(b"missed".to_vec()),
        Seen::Packet(vec![8; 300]),
    ];

    // All in one piece, cut once at every place, and byte by byte.
    let longest = joining.len().max(coming_back.len());
    for cut in 0..=longest {
        let mut link = Link::new();
        link.connect();
        let (first, second) = joining.split_at(cut.min(joining.len()));
        assert_eq!(
            [link.feed(first), link.feed(second)].concat(),
            expected_joining,
            "cut at {cut}"
        );
        link.close(Closed::Eof);
        link.connect();
        let (first, second) = coming_back.split_at(cut.min(coming_back.len()));
        assert_eq!(
            [link.feed(first), link.feed(second)].concat(),
            expected_coming_back,
            "cut at {cut}"
        );
    }
    let mut link = Link::new();
    link.connect();
    let seen: Vec<Seen> = joining
        .iter()
        .flat_map(|byte| link.feed(&[*byte]))
        .collect();
    assert_eq!(seen, expected_joining);
    link.close(Closed::Eof);
    link.connect();
    let seen: Vec<Seen> = coming_back
        .iter()
        .flat_map(|byte| link.feed(&[*byte]))
        .collect();
    assert_eq!(seen, expected_coming_back);
}

#[test]
fn every_split_of_the_clients_bytes_is_the_same_handshake() {
    for step in 1..90 {
        let mut link = Link::joined();
        link.close(Closed::Eof);
        link.connect();
        let mut names = Vec::new();
        for answer in [
            Some(link.key_packet()),
            Some(link.challenge_packet(&SECRET)),
            None,
        ] {
            while !link.client.output().is_empty() {
                let n = step.min(link.client.output().len());
                for frame in link.take_bytes(n) {
                    names.push(
                        voltlane_core::v2::packets::Handshake::decode(&frame)
                            .expect("well formed")
                            .name(),
                    );
                }
            }
            if let Some(bytes) = answer {
                link.feed(&bytes);
            }
        }
        assert_eq!(
            names,
            ["ProtocolVersion", "ClientId", "ChallengeResponse", "Ping"]
        );
    }
}

#[test]
fn a_frame_cut_by_the_end_of_a_connection_is_not_finished_by_the_next() {
    let mut link = Link::joined();
    assert_eq!(link.feed(&data(b"never whole")[..9]), []);
    link.close(Closed::Error);
    link.resume();
    assert_eq!(
        link.feed(&data(b"whole")),
        [Seen::Packet(b"whole".to_vec())]
    );

    // The same in a handshake.
    link.close(Closed::Error);
    link.connect();
    assert_eq!(link.feed(&link.key_packet()[..20]), []);
    link.close(Closed::Error);
    link.resume();
}
