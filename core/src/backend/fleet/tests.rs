//! Several edges of which each frame is made here. With real edges: `edge/tests/v3/granted/several.rs`.

mod moves;

use super::*;
use crate::backend::SendError;
use crate::backend::host::{GroupId, KEPT_PACKETS, MAX_EDGES};
use crate::link::v3::{Ask, Carriage, Features, Joined, LinkAck, Own, OwnState, Peer, ToBackend};
use crate::{ConfigError, backend::BackendConfig};

const BOOT: [u8; 16] = [0xb0; 16];
const NOW: Time = Time::from_millis(1_000);

fn config(edges: usize) -> HostConfig {
    let config = HostConfig::default().asking(BOOT);
    config.with_edges(edges).expect("within bounds")
}

fn id_at(home: u16, number: u64) -> ClientId {
    ClientId::from_u64((u64::from(home) << 44) | number)
}

fn grant(home: u16, term: u32, run: u8, received: u64) -> Grant {
    let features: Features = Feature::ALL.into_iter().collect();
    Grant {
        features: features.with(Feature::Homes),
        boot: BOOT,
        home,
        term,
        run: [run; 8],
        continues: None,
        received,
        groups_of_a_session: 64,
        sessions: 0,
    }
}

fn edge_id(home: u16, term: u32, run: u8) -> EdgeId {
    let run = [run; 8];
    EdgeId { home, term, run }
}

fn bytes_of(grant: &Grant) -> Vec<u8> {
    let mut bytes = Vec::new();
    grant.encode(&mut bytes);
    bytes
}

fn frames(frames: &[ToBackend<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| frame.encode(&mut bytes));
    bytes
}

fn joined(id: ClientId) -> ToBackend<'static> {
    let joined = Joined {
        version: 3,
        peer: Peer {
            carriage: Carriage::Tcp,
            address: None,
        },
        exporter: [1; 32],
        token: b"",
    };
    ToBackend::Joined { id, joined }
}

fn data(id: ClientId, packet: &[u8]) -> ToBackend<'_> {
    ToBackend::Data { id, packet }
}

/// Gives bytes to the fleet. Returns the packets in them, and how sessions ended.
fn feed(
    fleet: &mut Fleet,
    link: LinkId,
    bytes: &[u8],
) -> Result<Vec<(ClientId, Vec<u8>)>, GrantError> {
    let (mut input, mut heard) = (bytes, Vec::new());
    loop {
        match fleet.handle_bytes(link, NOW, &mut input) {
            Ok(Some(Event::Packet { id, data, .. })) => heard.push((id, data.to_vec())),
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(BackendError::Refused(error)) => {
                fleet.handle_closed(link);
                return Err(error);
            }
            Err(other) => panic!("{other}"),
        }
    }
    while let Some((_, event)) = fleet.poll_event() {
        if let Event::Ended { id, end } = event {
            heard.push((id, end.text.into_bytes()));
        }
    }
    Ok(heard)
}

fn write_all(fleet: &mut Fleet, link: LinkId) -> Vec<u8> {
    let mut all = Vec::new();
    while !fleet.output(link).is_empty() {
        let bytes = fleet.output(link).to_vec();
        fleet.handle_written(link, bytes.len());
        all.extend(bytes);
    }
    all
}

fn connect(fleet: &mut Fleet, grant: &Grant) -> Result<LinkId, GrantError> {
    let link = fleet.handle_connected(NOW);
    write_all(fleet, link);
    feed(fleet, link, &bytes_of(grant)).map(|_| link)
}

#[test]
fn an_edge_is_refused_that_has_no_home_or_that_of_another() {
    let mut fleet = Fleet::new(config(2));
    let first = connect(&mut fleet, &grant(1, 10, 1, 0)).expect("the first");
    let second = connect(&mut fleet, &grant(4_095, 10, 2, 0)).expect("at the bound");
    let refused = |fleet: &mut Fleet, grant: &Grant| connect(fleet, grant).expect_err("refused");
    let most = 2;
    let new = edge_id(2, 10, 3);
    assert_eq!(
        refused(&mut fleet, &grant(2, 10, 3, 0)),
        GrantError::TooManyEdges { most, new }
    );
    assert_eq!(refused(&mut fleet, &grant(0, 11, 3, 0)), GrantError::NoHome);
    let without = Grant {
        features: Feature::ALL.into_iter().collect(),
        ..grant(1, 11, 3, 0)
    };
    assert_eq!(refused(&mut fleet, &without), GrantError::NoHome);
    let known = edge_id(1, 10, 1);
    for (term, run) in [(10, 3), (9, 3), (0, 3), (9, 1)] {
        let new = edge_id(1, term, run);
        let error = refused(&mut fleet, &grant(1, term, run, 0));
        assert_eq!(
            error,
            GrantError::HomeOfAnother { known, new },
            "{term} {run}"
        );
        assert!(error.to_string().contains("cluster.home"));
    }
    // A run has one home.
    let error = refused(&mut fleet, &grant(4_095, 11, 1, 0));
    assert!(matches!(error, GrantError::HomeOfAnother { .. }));
    assert_eq!(fleet.edge_of(first), Some(known), "the first ones stay");
    assert!(!fleet.wants_close(first) && !fleet.wants_close(second));
    // A frame of version 2 is of an edge that does not ask which one it is.
    let link = fleet.handle_connected(NOW);
    let plain = feed(&mut fleet, link, &frames(&[data(id_at(1, 7), b"plain")]));
    assert_eq!(plain, Err(GrantError::NoHome));
    // One that says nothing is given up in time.
    let link = fleet.handle_connected(NOW);
    let until = fleet.poll_timeout().expect("a deadline");
    fleet.handle_timeout(until);
    assert!(fleet.wants_close(link));
}

#[test]
fn the_bounds_hold() {
    assert!(HostConfig::default().with_edges(MAX_EDGES).is_ok());
    for edges in [0, MAX_EDGES + 1] {
        let error = HostConfig::default().with_edges(edges).expect_err("beyond");
        assert!(matches!(
            error,
            ConfigError::TooSmall { .. } | ConfigError::TooMany { .. }
        ));
    }
    let mut fleet = Fleet::new(config(MAX_EDGES));
    for home in 1..=MAX_EDGES as u16 {
        connect(&mut fleet, &grant(home, 10, home as u8, 0)).expect("room");
    }
    let beyond = connect(&mut fleet, &grant(100, 10, 100, 0));
    assert!(matches!(beyond, Err(GrantError::TooManyEdges { .. })));
    // The ASK that names all of them fits, and is read.
    let link = fleet.handle_connected(NOW);
    let ask = write_all(&mut fleet, link);
    let known = Ask::known_of(&ask[4..]);
    assert_eq!(
        (known.len(), known[63].home, known[63].run),
        (64, 64, [64; 8])
    );
    // Strangers that say nothing displace each other, and no edge.
    let mut links = vec![link];
    links.extend((1..MAX_OPENING).map(|_| fleet.handle_connected(NOW)));
    assert!(
        links.iter().all(|link| !fleet.wants_close(*link)),
        "at the bound"
    );
    fleet.handle_connected(NOW);
    assert!(
        fleet.wants_close(links[0]) && !fleet.wants_close(links[1]),
        "beyond"
    );
    assert_eq!(fleet.edges().len(), MAX_EDGES);
}

/// SPEC 40.3(d): the link before may still bring frames when the next one is asked. They come again, and count once.
#[test]
fn what_came_between_the_question_and_the_answer_is_told_once() {
    let mut fleet = Fleet::new(config(2));
    let old = connect(&mut fleet, &grant(1, 10, 1, 0)).expect("granted");
    let id = id_at(1, 7);
    feed(&mut fleet, old, &frames(&[joined(id), data(id, b"one")])).expect("lasts");
    // That the session is one of everybody.
    assert!(!write_all(&mut fleet, old).is_empty());
    let new = fleet.handle_connected(NOW);
    let ask = write_all(&mut fleet, new);
    assert_eq!(Ask::known_of(&ask[4..])[0].received, 2);
    let late = feed(&mut fleet, old, &frames(&[data(id, b"two")])).expect("lasts");
    assert_eq!(late, [(id, b"two".to_vec())]);
    feed(&mut fleet, new, &bytes_of(&grant(1, 10, 1, 1))).expect("granted");
    assert!(fleet.is_fenced(old));
    let ack = ToBackend::LinkAck(LinkAck {
        acknowledged: 0,
        sent: 2,
    });
    let again = frames(&[ack, data(id, b"two"), data(id, b"three")]);
    let heard = feed(&mut fleet, new, &again).expect("lasts");
    assert_eq!(heard, [(id, b"three".to_vec())]);
    assert_eq!(fleet.ledgers(id).expect("there").up.numbered, 3);
    let rest = feed(&mut fleet, old, &frames(&[data(id, b"two")])).expect("fenced");
    assert!(rest.is_empty() && fleet.fenced_frames() == 1);
}

/// SPEC 40.4(g): two streams of one edge are read in another order than the edge has dialled them.
#[test]
fn a_stream_that_is_read_after_the_next_one_of_its_edge_is_fenced() {
    let mut fleet = Fleet::new(config(2));
    let [old, new] = [(); 2].map(|()| fleet.handle_connected(NOW));
    for link in [old, new] {
        write_all(&mut fleet, link);
    }
    let id = id_at(1, 7);
    let mut bytes = bytes_of(&grant(1, 10, 1, 0));
    bytes.extend(frames(&[joined(id), data(id, b"one")]));
    let one = vec![(id, b"one".to_vec())];
    assert_eq!(feed(&mut fleet, new, &bytes), Ok(one));
    assert_eq!(feed(&mut fleet, old, &bytes), Ok(Vec::new()));
    assert!(fleet.is_fenced(old) && !fleet.wants_close(new));
    assert_eq!(fleet.fenced_frames(), 2);
    let two = feed(&mut fleet, new, &frames(&[data(id, b"two")]));
    assert_eq!(two, Ok(vec![(id, b"two".to_vec())]));
}

/// SPEC 40.3(e): on a stream whose ASK does not name it, an edge counts from 1. While nobody knows whose that stream is or was, the counts of an
/// earlier one may not be those of the edge.
#[test]
fn an_edge_is_told_no_counts_while_a_later_stream_may_be_its_own() {
    for is_lost in [false, true] {
        let mut fleet = Fleet::new(config(2));
        let [first, second] = [(); 2].map(|()| fleet.handle_connected(NOW));
        for link in [first, second] {
            write_all(&mut fleet, link);
        }
        let told = |fleet: &mut Fleet| {
            let link = fleet.handle_connected(NOW);
            let ask = write_all(fleet, link);
            let known = Ask::known_of(&ask[4..]);
            let received = known.iter().map(|known| known.received);
            received.collect::<Vec<_>>()
        };
        feed(&mut fleet, first, &bytes_of(&grant(1, 10, 1, 0))).expect("granted");
        if is_lost {
            fleet.handle_closed(second);
        }
        assert_eq!(told(&mut fleet), [u64::MAX], "{is_lost}");
        // Whose the second one is shows its GRANT. The stream that was asked meanwhile may be of either edge.
        if !is_lost {
            feed(&mut fleet, second, &bytes_of(&grant(2, 10, 2, 0))).expect("granted");
            assert_eq!(told(&mut fleet), [u64::MAX; 2]);
        }
        // Once the edge has granted on the last one, nothing is in doubt.
        let last = fleet.handle_connected(NOW);
        write_all(&mut fleet, last);
        feed(&mut fleet, last, &bytes_of(&grant(1, 10, 1, 0))).expect("granted");
        assert_eq!(told(&mut fleet)[0], 0, "{is_lost}");
    }
}

/// The edge of home 1 begins its counts again, and has so many packets to its session.
fn begin_again(fleet: &mut Fleet, id: ClientId, numbered_down: u64) {
    let mut anew = grant(1, 10, 1, u64::MAX);
    anew.sessions = 1;
    let link = connect(fleet, &anew).expect("granted");
    let own = Own {
        counter: 0,
        next_up: 1,
        numbered_down,
        settled_down: 0,
        state: OwnState::Attached,
        joined_follows: false,
        note: "",
    };
    feed(fleet, link, &frames(&[ToBackend::Own { id, own }])).expect("lasts");
}

/// SPEC 44.5(e): no more is kept for a session that is sent packets again, whether it is meant or one of many.
#[test]
fn who_is_sent_packets_again_holds_up_a_packet_for_many_at_the_bound() {
    for (count, is_taken) in [(KEPT_PACKETS - 1, true), (KEPT_PACKETS, false)] {
        let mut fleet = Fleet::new(config(2));
        let link = connect(&mut fleet, &grant(1, 10, 1, 0)).expect("granted");
        let id = id_at(1, 7);
        feed(&mut fleet, link, &frames(&[joined(id)])).expect("lasts");
        fleet.add(GroupId(7), id).expect("few groups");
        for _ in 0..count {
            fleet.send(id, &[b'x'; 100]).expect("room");
            write_all(&mut fleet, link);
        }
        fleet.handle_closed(link);
        begin_again(&mut fleet, id, 0);
        let send = |fleet: &mut Fleet| fleet.send_to_many(Some(GroupId(7)), &[], None, b"x");
        assert_eq!(send(&mut fleet).is_ok(), is_taken, "{count}");
        assert!(send(&mut fleet).is_err(), "{count}");
    }
}

/// SPEC 40.3(e): what crossed no link is sent again to an edge that counts anew, in order, and to members of groups as well.
#[test]
fn an_edge_that_counts_anew_is_sent_again_what_it_lacks() {
    let mut fleet = Fleet::new(config(2));
    let first = connect(&mut fleet, &grant(1, 10, 1, 0)).expect("granted");
    let id = id_at(1, 7);
    feed(&mut fleet, first, &frames(&[joined(id)])).expect("lasts");
    fleet.add(GroupId(7), id).expect("few groups");
    write_all(&mut fleet, first);
    assert_eq!(fleet.send(id, b"one"), Ok(1));
    write_all(&mut fleet, first);
    assert_eq!(fleet.send(id, b"two"), Ok(2));
    fleet
        .send_to_many(Some(GroupId(7)), &[], None, b"three")
        .expect("room");
    fleet.handle_closed(first);
    assert_eq!(fleet.send(id, b"four"), Ok(4));
    // It has the first packet alone.
    begin_again(&mut fleet, id, 1);
    let second = fleet.edges()[0].link.expect("it has granted");
    let text = write_all(&mut fleet, second);
    let text = String::from_utf8_lossy(&text);
    let places =
        ["two", "three", "four"].map(|packet| text.match_indices(packet).collect::<Vec<_>>());
    assert!(places.iter().all(|found| found.len() == 1), "{places:?}");
    assert!(places.is_sorted(), "{places:?}");
    assert!(!text.contains("one"));
    assert_eq!(fleet.send(id, b"five"), Ok(5));
}

#[test]
fn what_is_sent_before_an_edge_comes_waits_for_it() {
    let mut fleet = Fleet::new(config(2));
    let (one, other) = (id_at(1, 7), id_at(2, 7));
    assert_eq!(fleet.send(one, b"early"), Ok(1));
    assert_eq!(
        fleet.send(id_at(0, 7), b"nobody"),
        Ok(0),
        "no edge has such ids"
    );
    let second = connect(&mut fleet, &grant(2, 10, 2, 0)).expect("granted");
    feed(&mut fleet, second, &frames(&[joined(other)])).expect("lasts");
    assert_eq!(
        fleet.send(id_at(3, 7), b"nobody"),
        Ok(0),
        "no room for a third"
    );
    let first = fleet.handle_connected(NOW);
    write_all(&mut fleet, first);
    let own = Grant {
        sessions: 1,
        ..grant(1, 10, 1, 0)
    };
    feed(&mut fleet, first, &bytes_of(&own)).expect("granted");
    let own = crate::link::v3::Own {
        counter: 0,
        next_up: 1,
        numbered_down: 0,
        settled_down: 0,
        state: crate::link::v3::OwnState::Attached,
        joined_follows: false,
        note: "",
    };
    feed(
        &mut fleet,
        first,
        &frames(&[ToBackend::Own { id: one, own }]),
    )
    .expect("lasts");
    let written = write_all(&mut fleet, first);
    assert!(written.windows(5).any(|bytes| bytes == b"early"));
    assert_eq!(fleet.sessions(), [one, other]);
}

/// One edge that takes nothing fills its own queue.
#[test]
fn a_full_queue_holds_up_its_own_edge_and_what_is_for_all() {
    let link = BackendConfig::default()
        .with_queue_bytes(400)
        .expect("room");
    let mut fleet = Fleet::new(config(2).with_link(link));
    let (one, other) = (id_at(1, 7), id_at(2, 7));
    let first = connect(&mut fleet, &grant(1, 10, 1, 0)).expect("granted");
    let second = connect(&mut fleet, &grant(2, 10, 2, 0)).expect("granted");
    feed(&mut fleet, first, &frames(&[joined(one)])).expect("lasts");
    feed(&mut fleet, second, &frames(&[joined(other)])).expect("lasts");
    while fleet.send(one, &[0; 60]).is_ok() {}
    assert_eq!(fleet.send(one, &[0; 60]), Err(SendError::QueueFull));
    assert!(!fleet.has_room_to(one, 60) && fleet.has_room_to(other, 60));
    assert!(fleet.send(other, &[0; 60]).is_ok());
    let numbered = fleet.ledgers(other).expect("there").down.numbered;
    assert_eq!(
        fleet.send_to_many(None, &[], None, &[0; 60]),
        Err(SendError::QueueFull)
    );
    assert_eq!(
        fleet.ledgers(other).expect("there").down.numbered,
        numbered,
        "all or none"
    );
    // An acknowledgement makes room.
    let sent = write_all(&mut fleet, first);
    assert!(!sent.is_empty());
    fleet.take_freed();
    let ack = ToBackend::LinkAck(LinkAck {
        acknowledged: 3,
        sent: 1,
    });
    feed(&mut fleet, first, &frames(&[ack])).expect("lasts");
    assert!(fleet.take_freed() >= 60 && fleet.take_freed() == 0);
    assert!(fleet.has_room_to(one, 60));
}

#[test]
fn an_edge_that_was_given_up_ends_and_a_later_one_takes_its_home() {
    let mut fleet = Fleet::new(config(2));
    let id = id_at(1, 7);
    let link = connect(&mut fleet, &grant(1, 10, 1, 0)).expect("granted");
    feed(&mut fleet, link, &frames(&[joined(id)])).expect("lasts");
    assert!(!fleet.give_up(1), "it is connected");
    fleet.handle_closed(link);
    assert_eq!(fleet.sessions(), [id], "a link that is lost ends nothing");
    assert!(fleet.give_up(1) && !fleet.give_up(2));
    let Some((None, Event::Ended { id: ended, end })) = fleet.poll_event() else {
        panic!("no end");
    };
    assert_eq!((ended, end.code.to_u16()), (id, 301));
    assert!(fleet.sessions().is_empty() && fleet.edges()[0].is_given_up);
    assert_eq!(fleet.send(id, b"gone"), Ok(0));
    // Its run is told so, and refused.
    let link = fleet.handle_connected(NOW);
    let known = Ask::known_of(&write_all(&mut fleet, link)[4..])[0];
    assert_eq!((known.home, known.term, known.run), (1, 10, [0; 8]));
    let error = feed(&mut fleet, link, &bytes_of(&grant(1, 10, 1, 0)));
    assert!(matches!(error, Err(GrantError::HomeOfAnother { .. })));
    connect(&mut fleet, &grant(1, 11, 3, 0)).expect("a later one");
    assert!(!fleet.edges()[0].is_given_up);
}

/// A host with one edge is what it was.
#[test]
fn one_edge_needs_no_home_and_asks_as_ever() {
    let mut fleet = Fleet::new(HostConfig::default().asking(BOOT));
    let link = fleet.handle_connected(NOW);
    let ask = write_all(&mut fleet, link);
    let mut host = Host::new(HostConfig::default().asking(BOOT));
    host.handle_connected(NOW);
    assert_eq!(ask, host.output());
    let plain = Grant {
        features: Feature::ALL.into_iter().collect(),
        ..grant(0, 0, 1, 0)
    };
    feed(&mut fleet, link, &bytes_of(&plain)).expect("granted");
    let id = ClientId::from_u64(0xfedc_ba98_7654_3210);
    let heard = feed(&mut fleet, link, &frames(&[joined(id), data(id, b"up")]));
    assert_eq!(heard, Ok(vec![(id, b"up".to_vec())]));
    assert_eq!(fleet.send(id, b"down"), Ok(1));
    assert!(!fleet.give_up(0), "it may come back");
}
