//! Sessions that move between edges, of which each frame is made here (SPEC 44). With real edges: `edge/tests/v3/granted/moves.rs`.

use core::time::Duration;

use super::*;
use crate::code::Code;
use crate::ledger::Ledger;
use crate::link::v3::{Adopt, Ended, ToEdge};

const PEER: Peer = Peer {
    carriage: Carriage::Tcp,
    address: None,
};

/// What an edge grants whose sessions may move.
fn grant(home: u16, term: u32, run: u8, received: u64) -> Grant {
    let granted = super::grant(home, term, run, received);
    Grant {
        features: granted.features.with(Feature::Adopt),
        ..granted
    }
}

fn adopt(id: ClientId, counter: u64, received_down: u64, acknowledged_up: u64) -> Vec<u8> {
    let adopt = Adopt {
        counter,
        received_down,
        acknowledged_up,
        peer: PEER,
    };
    frames(&[ToBackend::Adopt { id, adopt }])
}

fn own(id: ClientId, counter: u64) -> Vec<u8> {
    let own = Own {
        counter,
        next_up: 1,
        numbered_down: 0,
        settled_down: 0,
        state: OwnState::Attached,
        joined_follows: false,
        note: "",
    };
    frames(&[ToBackend::Own { id, own }])
}

/// What an edge is told, in short, without acknowledgements.
fn told(fleet: &mut Fleet, link: LinkId) -> Vec<String> {
    heads(&write_all(fleet, link)).0
}

/// The same, of an edge that acknowledges all: it has sent so many frames, and was told so many.
fn told_acknowledging(fleet: &mut Fleet, link: LinkId, sent: u64, count: &mut u64) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let (told, counted) = heads(&write_all(fleet, link));
        if counted == 0 {
            return all;
        }
        all.extend(told);
        *count += counted;
        let ack = LinkAck {
            acknowledged: *count,
            sent,
        };
        feed(fleet, link, &frames(&[ToBackend::LinkAck(ack)])).expect("lasts");
    }
}

/// What frames say, and how many of them count.
fn heads(bytes: &[u8]) -> (Vec<String>, u64) {
    let granted = grant(1, 10, 1, 0).features;
    let (mut reader, mut input) = (FrameReader::default(), bytes);
    let (mut told, mut counted) = (Vec::new(), 0);
    while let Ok(Some(body)) = reader.next_frame(&mut input, u32::MAX) {
        let frame = ToEdge::decode(body, granted).expect("a frame");
        counted += u64::from(!matches!(frame, ToEdge::LinkAck(_)));
        told.push(match frame {
            ToEdge::Packet { packet, .. } => {
                let start = packet.get(..packet.len().min(5)).expect("it is as long");
                format!("DATA {}", String::from_utf8_lossy(start))
            }
            ToEdge::Adopted { adopted: a, .. } => format!(
                "ADOPTED {} next {} from {} until {}",
                a.counter, a.next_up, a.numbered_down, a.until
            ),
            ToEdge::Disowned { disowned: d, .. } => {
                format!("DISOWNED {} {} {}", d.asked, d.known, d.code.to_u16())
            }
            ToEdge::GroupAdd { group, .. } if group == GROUP => "ADD".to_owned(),
            ToEdge::GroupSend { .. } => "SEND".to_owned(),
            ToEdge::Kick { kick, .. } => format!("KICK {} {}", kick.code.to_u16(), kick.text),
            ToEdge::Policy { policy, .. } => format!("POLICY {}", policy.note),
            ToEdge::Pause { .. } => "PAUSE".to_owned(),
            ToEdge::GoOn { .. } => "GO_ON".to_owned(),
            // Everybody, and acknowledgements.
            _ => continue,
        });
    }
    (told, counted)
}

const GROUP: GroupId = GroupId(7);

/// A backend of two edges, with a session at the first one, which is in a group and has sent a packet.
fn at_the_first() -> (Fleet, [LinkId; 2], ClientId) {
    let mut fleet = Fleet::new(config(3));
    let links = [(1, 1), (2, 2)].map(|(home, run)| {
        let granted = connect(&mut fleet, &grant(home, 10, run, 0));
        granted.expect("granted")
    });
    let id = id_at(1, 7);
    let first = frames(&[joined(id), data(id, b"one")]);
    feed(&mut fleet, links[0], &first).expect("lasts");
    let mark = fleet.mark(links[0]);
    fleet.taken_up(NOW, mark);
    fleet.add(GROUP, id).expect("few groups");
    told(&mut fleet, links[0]);
    (fleet, links, id)
}

/// Hears this at a time, and returns how many sessions went on.
fn resumes_at(fleet: &mut Fleet, link: LinkId, now: Time, bytes: &[u8]) -> usize {
    let (mut input, mut resumed) = (bytes, 0);
    while let Some(event) = fleet.handle_bytes(link, now, &mut input).expect("lasts") {
        resumed += usize::from(matches!(event, Event::Resumed { .. }));
    }
    resumed
}

/// SPEC 44.5(c): before anything that comes later, and as nobody's answer.
#[test]
fn the_old_owner_is_told_at_once_and_heard_no_more() {
    let (mut fleet, [first, second], id) = at_the_first();
    assert_eq!(fleet.home_of(id), Some(1));
    assert_eq!(resumes_at(&mut fleet, second, NOW, &adopt(id, 1, 0, 1)), 1);
    assert_eq!(fleet.home_of(id), Some(2));
    fleet
        .send_to_many(Some(GROUP), &[], None, b"later")
        .expect("room");
    assert_eq!(fleet.send(id, b"after"), Ok(2));
    assert_eq!(told(&mut fleet, first), ["DISOWNED 0 1 402"]);
    let to_second = told(&mut fleet, second);
    assert_eq!(
        to_second,
        [
            "ADOPTED 1 next 2 from 0 until 0",
            "ADD",
            "SEND",
            "DATA after"
        ]
    );
    // What it sends was on its way, or is of a copy that it has not dropped yet.
    let late = feed(&mut fleet, first, &frames(&[data(id, b"two")]));
    assert_eq!(late, Ok(Vec::new()));
    let two = feed(&mut fleet, second, &frames(&[data(id, b"two")]));
    assert_eq!(two, Ok(vec![(id, b"two".to_vec())]));
    assert_eq!(fleet.ledgers(id).expect("there").up.numbered, 2);
    assert!(told(&mut fleet, first).is_empty(), "it is told once");
}

/// SPEC 44.5(d): from what the client has, in slices, and what comes meanwhile behind them, and then its groups.
#[test]
fn what_a_client_lacks_is_sent_again_in_order_and_then_it_is_in_its_groups() {
    let (mut fleet, [first, second], id) = at_the_first();
    let long = |name: &[u8]| [name, &[b'.'; 60_000][..]].concat();
    for name in [b"aaaaa", b"bbbbb", b"ccccc", b"ddddd"] {
        fleet.send(id, &long(name)).expect("room");
    }
    told(&mut fleet, first);
    // More than one slice, and more than what may wait for that edge.
    let (other, mut count) = (id_at(2, 9), 0);
    feed(&mut fleet, second, &frames(&[joined(other)])).expect("lasts");
    told_acknowledging(&mut fleet, second, 1, &mut count);
    while fleet.queued_bytes() < 1 << 20 {
        fleet.send(other, &long(b"other")).expect("room");
    }
    resumes_at(&mut fleet, second, NOW, &adopt(id, 1, 1, 1));
    fleet.send(id, b"eeeee").expect("room");
    fleet
        .send_to_many(Some(GROUP), &[], None, b"fffff")
        .expect("room");
    assert!(told(&mut fleet, first).contains(&"DISOWNED 0 1 402".to_owned()));
    let mut told = told_acknowledging(&mut fleet, second, 2, &mut count);
    // The frame for the group finds no member at that edge yet.
    told.retain(|one| one != "DATA other" && one != "SEND");
    assert_eq!(
        told,
        [
            "ADOPTED 1 next 2 from 1 until 4",
            "DATA bbbbb",
            "DATA ccccc",
            "DATA ddddd",
            "DATA eeeee",
            "DATA fffff",
            "ADD",
        ]
    );
}

/// SPEC 44.5(b), the answers in their order.
#[test]
fn an_attempt_that_cannot_go_on_is_told_why_and_changes_nothing() {
    let (mut fleet, [first, second], id) = at_the_first();
    for _ in 0..=KEPT_PACKETS {
        fleet.send(id, b"down").expect("room");
        write_all(&mut fleet, first);
    }
    let beyond = KEPT_PACKETS as u64 + 2;
    for (counter, received, acknowledged, answer) in [
        (9, beyond, 1, "DISOWNED 9 0 305"),
        (9, 1, 2, "DISOWNED 9 0 305"),
        (9, 0, 1, "DISOWNED 9 0 303"),
        (0, 1, 1, "DISOWNED 0 0 402"),
    ] {
        let asks = adopt(id, counter, received, acknowledged);
        assert_eq!(resumes_at(&mut fleet, second, NOW, &asks), 0, "{answer}");
        assert_eq!(told(&mut fleet, second), [answer]);
        assert_eq!(fleet.home_of(id), Some(1), "{answer}");
    }
    // The first packet is kept no longer, the second one is.
    assert_eq!(resumes_at(&mut fleet, second, NOW, &adopt(id, 9, 1, 1)), 1);
    let answers = told(&mut fleet, second);
    assert_eq!(
        answers.first().map(String::as_str),
        Some("ADOPTED 9 next 2 from 1 until 16385")
    );
    // The owner's own run is granted anew, and nobody is disowned.
    told(&mut fleet, first);
    assert_eq!(
        resumes_at(&mut fleet, second, NOW, &adopt(id, 9, 16_385, 1)),
        1
    );
    let again = told(&mut fleet, second);
    assert_eq!(again, ["ADOPTED 9 next 2 from 16385 until 16385", "ADD"]);
    assert!(told(&mut fleet, first).is_empty());
    // An older attempt comes late.
    assert_eq!(resumes_at(&mut fleet, first, NOW, &adopt(id, 8, 1, 1)), 0);
    assert_eq!(told(&mut fleet, first), ["DISOWNED 8 9 402"]);
    // It has ended.
    fleet.kick(id, 601, "enough").expect("it may be said");
    assert_eq!(told(&mut fleet, second), ["KICK 601 enough"]);
    let ended = Ended {
        code: Code::from_u16(601).expect("a code"),
        up: Ledger::default(),
        down: Ledger::default(),
        text: "",
    };
    feed(
        &mut fleet,
        second,
        &frames(&[ToBackend::Ended { id, ended }]),
    )
    .expect("lasts");
    assert_eq!(resumes_at(&mut fleet, first, NOW, &adopt(id, 10, 1, 1)), 0);
    assert_eq!(told(&mut fleet, first), ["DISOWNED 10 0 601"]);
}

/// SPEC 44.5(b): an edge that has not told of it yet may have it.
#[test]
fn an_unknown_session_may_be_told_of_for_a_while() {
    let (mut fleet, [_, second], _) = at_the_first();
    let id = id_at(3, 9);
    let last = NOW + UNKNOWN_WITHIN;
    let before = NOW + (UNKNOWN_WITHIN - Duration::from_nanos(1));
    let asks = |fleet: &mut Fleet, now| {
        assert_eq!(resumes_at(fleet, second, now, &adopt(id, 1, 0, 0)), 0);
        told(fleet, second)
    };
    assert_eq!(
        asks(&mut fleet, before),
        ["DISOWNED 1 0 204"],
        "at the bound"
    );
    assert_eq!(asks(&mut fleet, last), ["DISOWNED 1 0 301"], "beyond");
    // An edge that has begun again has not told of all yet.
    let mut anew = grant(1, 11, 5, 0);
    anew.sessions = 1;
    let third = connect(&mut fleet, &anew).expect("granted");
    assert_eq!(asks(&mut fleet, last), ["DISOWNED 1 0 204"]);
    feed(&mut fleet, third, &own(id_at(1, 8), 0)).expect("lasts");
    assert_eq!(asks(&mut fleet, last), ["DISOWNED 1 0 301"]);
}

/// SPEC 44.6(e): the home's run is new, and has drawn an id of which the run before had left a session behind.
#[test]
fn an_id_that_lives_elsewhere_is_not_joined_a_second_time() {
    let (mut fleet, [first, second], id) = at_the_first();
    resumes_at(&mut fleet, second, NOW, &adopt(id, 3, 0, 1));
    told(&mut fleet, first);
    let again = frames(&[joined(id), data(id, b"a stranger")]);
    assert_eq!(feed(&mut fleet, first, &again), Ok(Vec::new()));
    assert_eq!(told(&mut fleet, first), ["DISOWNED 0 3 305"]);
    assert_eq!(fleet.home_of(id), Some(2));
    assert_eq!(fleet.ledgers(id).expect("there").up.numbered, 1);
}

/// SPEC 44.6(f): of two that tell of a session, the later copy has it, whichever comes first.
#[test]
fn of_two_that_tell_of_one_session_the_greater_counter_wins() {
    for counters in [[2, 5], [5, 2], [5, 5]] {
        let mut fleet = Fleet::new(config(3));
        let id = id_at(3, 9);
        let mut links = Vec::new();
        for (home, counter) in (1..).zip(counters) {
            let mut granted = grant(home, 10, home as u8, 0);
            granted.sessions = 1;
            let link = connect(&mut fleet, &granted).expect("granted");
            feed(&mut fleet, link, &own(id, counter)).expect("lasts");
            links.push(link);
        }
        let first_wins = counters[0] >= counters[1];
        let (winner, loser) = if first_wins { (1, 1) } else { (2, 0) };
        assert_eq!(fleet.home_of(id), Some(winner), "{counters:?}");
        let told = told(&mut fleet, links[loser]);
        assert_eq!(told, ["DISOWNED 0 5 402"], "{counters:?}");
        assert_eq!(fleet.sessions(), [id]);
    }
}

/// SPEC 45.6(c): an edge tells of it in the middle of a link, and no picture comes behind that.
#[test]
fn one_whose_new_edge_tells_of_it_later_gets_at_once_what_that_lacks() {
    let (mut fleet, [first, second], id) = at_the_first();
    fleet.pause(id, true);
    assert_eq!(fleet.send(id, b"later"), Ok(1));
    told(&mut fleet, first);
    feed(&mut fleet, second, &own(id, 3)).expect("lasts");
    assert_eq!(fleet.home_of(id), Some(2));
    assert_eq!(told(&mut fleet, first), ["DISOWNED 0 3 402"]);
    assert_eq!(told(&mut fleet, second), ["PAUSE", "DATA later", "ADD"]);
}

/// SPEC 44.7: nobody else can end them.
#[test]
fn what_an_edge_has_left_behind_waits_for_another_one_for_so_long() {
    let (mut fleet, [first, second], id) = at_the_first();
    fleet.handle_closed(first);
    connect(&mut fleet, &grant(1, 11, 5, 0)).expect("granted");
    assert_eq!(fleet.sessions(), [id]);
    assert_eq!(fleet.home_of(id), None, "no edge has it");
    // What is sent to it meanwhile is kept, up to the bound.
    for _ in 0..=KEPT_PACKETS {
        fleet.send(id, b"meanwhile").expect("room");
    }
    let bound = NOW + LEFT_BEHIND;
    fleet.handle_timeout(NOW + (LEFT_BEHIND - Duration::from_nanos(1)));
    assert!(fleet.poll_event().is_none() && fleet.sessions() == [id]);
    fleet.handle_timeout(bound);
    let Some((None, Event::Ended { id: ended, end })) = fleet.poll_event() else {
        panic!("no end");
    };
    assert_eq!((ended, end.code.to_u16()), (id, 302));
    assert!(fleet.sessions().is_empty());
    // Its client is told so, too.
    resumes_at(&mut fleet, second, bound, &adopt(id, 1, 0, 1));
    assert_eq!(told(&mut fleet, second), ["DISOWNED 1 0 302"]);
}

/// SPEC 44.7: an application ends one at once that no edge has.
#[test]
fn a_session_that_no_edge_has_is_ended_here() {
    let (mut fleet, [first, second], id) = at_the_first();
    fleet.handle_closed(first);
    connect(&mut fleet, &grant(1, 11, 5, 0)).expect("granted");
    while fleet.poll_event().is_some() {}
    fleet.kick(id, 602, "gone").expect("it may be said");
    let Some((None, Event::Ended { end, .. })) = fleet.poll_event() else {
        panic!("no end");
    };
    assert_eq!(end.code.to_u16(), 602);
    resumes_at(&mut fleet, second, NOW, &adopt(id, 1, 0, 1));
    assert_eq!(told(&mut fleet, second), ["DISOWNED 1 0 602"]);
}

/// SPEC 44.5(d): an order goes behind the packets before it, and is not lost with the edge that was to carry it out.
#[test]
fn an_order_to_end_comes_again_behind_the_packets_before_it() {
    // At which moment it is given: before the edge is lost, while none has the session, and while its packets are sent again.
    for moment in 0..3 {
        let (mut fleet, [first, second], id) = at_the_first();
        let (other, mut count) = (id_at(2, 9), 0);
        feed(&mut fleet, second, &frames(&[joined(other)])).expect("lasts");
        told_acknowledging(&mut fleet, second, 1, &mut count);
        let kick = |fleet: &mut Fleet, at: usize| {
            if at == moment {
                fleet.kick(id, 601, "enough").expect("it may be said");
            }
        };
        fleet.send(id, b"first").expect("room");
        fleet.send(id, b"again").expect("room");
        kick(&mut fleet, 0);
        fleet.handle_closed(first);
        kick(&mut fleet, 1);
        // So much waits for that edge that nothing is sent again now.
        if moment == 2 {
            while fleet.queued_bytes() < 1 << 20 {
                fleet.send(other, &[b'x'; 60_000]).expect("room");
            }
        }
        assert_eq!(resumes_at(&mut fleet, second, NOW, &adopt(id, 1, 1, 1)), 1);
        kick(&mut fleet, 2);
        let mut told = told_acknowledging(&mut fleet, second, 2, &mut count);
        told.retain(|one| one != "DATA xxxxx");
        assert_eq!(
            told,
            [
                "ADOPTED 1 next 2 from 1 until 2",
                "DATA again",
                "ADD",
                "KICK 601 enough"
            ],
            "{moment}"
        );
    }
}

/// The same for an edge that begins to count anew, whose frames it has dropped (SPEC 40.3(e)).
#[test]
fn an_order_to_end_comes_again_to_an_edge_that_counts_anew() {
    let (mut fleet, [first, _], id) = at_the_first();
    fleet.send(id, b"first").expect("room");
    fleet.send(id, b"again").expect("room");
    fleet.kick(id, 601, "enough").expect("it may be said");
    write_all(&mut fleet, first);
    fleet.handle_closed(first);
    begin_again(&mut fleet, id, 1);
    let link = fleet.edges()[0].link.expect("it has granted");
    assert_eq!(
        told(&mut fleet, link),
        ["DATA again", "ADD", "KICK 601 enough"]
    );
    // It lacks nothing but the order.
    fleet.handle_closed(link);
    begin_again(&mut fleet, id, 2);
    let link = fleet.edges()[0].link.expect("it has granted");
    assert_eq!(told(&mut fleet, link), ["ADD", "KICK 601 enough"]);
}

/// A note is not lost with an edge either.
#[test]
fn a_note_goes_along() {
    let (mut fleet, [first, second], id) = at_the_first();
    fleet.set_note(id, "Ann");
    fleet.handle_closed(first);
    resumes_at(&mut fleet, second, NOW, &adopt(id, 1, 0, 1));
    let told = told(&mut fleet, second);
    assert_eq!(
        told,
        ["ADOPTED 1 next 2 from 0 until 0", "POLICY Ann", "ADD"]
    );
}

/// A client is not read wherever it is, as long as the application does not want it to be (SPEC 36.4).
#[test]
fn a_pause_goes_along_and_ends_while_no_edge_has_the_session() {
    // What the application says while no edge has the session.
    for (meanwhile, is_paused) in [(None, true), (Some(true), true), (Some(false), false)] {
        let (mut fleet, [first, second], id) = at_the_first();
        fleet.pause(id, true);
        assert_eq!(told(&mut fleet, first), ["PAUSE"]);
        resumes_at(&mut fleet, second, NOW, &adopt(id, 3, 0, 1));
        let adopted = |counter| format!("ADOPTED {counter} next 2 from 0 until 0");
        assert_eq!(
            told(&mut fleet, second),
            [&adopted(3), "PAUSE", "ADD"],
            "it holds at the next edge"
        );
        told(&mut fleet, first);
        // That edge is gone for good.
        fleet.handle_closed(second);
        let anew = connect(&mut fleet, &grant(2, 11, 6, 0)).expect("granted");
        assert_eq!(fleet.home_of(id), None, "no edge has it");
        assert!(told(&mut fleet, anew).is_empty());
        if let Some(pauses) = meanwhile {
            fleet.pause(id, pauses);
        }
        resumes_at(&mut fleet, anew, NOW, &adopt(id, 4, 0, 1));
        let mut expected = vec![adopted(4), "PAUSE".to_owned(), "ADD".to_owned()];
        expected.retain(|one| is_paused || one != "PAUSE");
        assert_eq!(told(&mut fleet, anew), expected, "{meanwhile:?}");
        // It is told at once that it may go on, and no later picture says otherwise.
        fleet.pause(id, false);
        assert_eq!(told(&mut fleet, anew), ["GO_ON"]);
    }
}

/// Asserts that this session, and no other, has ended with this code.
fn assert_ended(fleet: &mut Fleet, id: ClientId, code: u16) {
    let Some((_, Event::Ended { id: ended, end })) = fleet.poll_event() else {
        panic!("no end");
    };
    assert_eq!((ended, end.code.to_u16()), (id, code));
    assert!(fleet.sessions().is_empty());
}

/// SPEC 44.5(g): an edge that asks has dropped its copy, so nobody else would end the session.
#[test]
fn a_session_that_cannot_go_on_at_its_own_edge_has_ended() {
    for (received, acknowledged, code) in [(1, 1, 305), (0, 2, 305)] {
        let (mut fleet, [first, second], id) = at_the_first();
        while fleet.poll_event().is_some() {}
        let asks = adopt(id, 1, received, acknowledged);
        assert_eq!(resumes_at(&mut fleet, first, NOW, &asks), 0);
        assert_eq!(told(&mut fleet, first), [format!("DISOWNED 1 0 {code}")]);
        assert_ended(&mut fleet, id, code);
        resumes_at(&mut fleet, second, NOW, &adopt(id, 2, 0, 1));
        assert_eq!(told(&mut fleet, second), [format!("DISOWNED 2 0 {code}")]);
    }
}

/// SPEC 44.5(b) and (g).
#[test]
fn a_session_waits_for_an_edge_while_the_application_has_not_come_back() {
    for comes_back in [true, false] {
        let (mut fleet, [first, second], id) = at_the_first();
        while fleet.poll_event().is_some() {}
        let more = frames(&[data(id, b"two")]);
        feed(&mut fleet, first, &more).expect("lasts");
        let mark = fleet.mark(first);
        for (link, counter) in [(second, 1), (first, 2), (second, 3)] {
            let asks = adopt(id, counter, 0, 1);
            assert_eq!(resumes_at(&mut fleet, link, NOW, &asks), 0);
            let answer = format!("DISOWNED {counter} 0 204");
            assert_eq!(told(&mut fleet, link), [answer]);
            let home = (counter == 1).then_some(1);
            assert_eq!(fleet.home_of(id), home, "{counter}");
            assert_eq!(fleet.sessions(), [id]);
        }
        if comes_back {
            fleet.taken_up(NOW, mark);
            assert_eq!(resumes_at(&mut fleet, second, NOW, &adopt(id, 4, 0, 1)), 1);
            let answers = told(&mut fleet, second);
            assert_eq!(answers[0], "ADOPTED 4 next 3 from 0 until 0");
            assert_eq!(fleet.home_of(id), Some(2));
        } else {
            fleet.handle_timeout(NOW + LEFT_BEHIND);
            assert_ended(&mut fleet, id, 302);
        }
    }
}

/// SPEC 44.5(e): also where that edge counts anew, and tells of what it has.
#[test]
fn what_an_edge_has_is_kept_until_it_is_settled() {
    let (mut fleet, [first, second], id) = at_the_first();
    for packet in [b"one", b"two"] {
        fleet.send(id, packet).expect("room");
    }
    write_all(&mut fleet, first);
    fleet.handle_closed(first);
    let anew = Grant {
        sessions: 1,
        ..grant(1, 10, 1, u64::MAX)
    };
    let first = connect(&mut fleet, &anew).expect("granted");
    let own = Own {
        counter: 0,
        next_up: 2,
        numbered_down: 2,
        settled_down: 1,
        state: OwnState::Away,
        joined_follows: false,
        note: "",
    };
    feed(&mut fleet, first, &frames(&[ToBackend::Own { id, own }])).expect("lasts");
    // Its edge dies with what it has.
    assert_eq!(resumes_at(&mut fleet, second, NOW, &adopt(id, 1, 1, 1)), 1);
    let answers = told(&mut fleet, second);
    assert_eq!(
        answers[..2],
        ["ADOPTED 1 next 2 from 1 until 2", "DATA two"]
    );
}

/// SPEC 44.6(f): the copy of an edge that had the session from this backend has its numbers.
#[test]
fn an_edge_that_has_a_session_again_is_sent_only_what_it_lacks() {
    let (mut fleet, [first, second], id) = at_the_first();
    for packet in [b"one", b"two"] {
        fleet.send(id, packet).expect("room");
    }
    write_all(&mut fleet, first);
    assert_eq!(resumes_at(&mut fleet, second, NOW, &adopt(id, 1, 0, 1)), 1);
    assert_eq!(fleet.send(id, b"three"), Ok(3));
    fleet.handle_closed(first);
    let anew = Grant {
        sessions: 1,
        ..grant(1, 10, 1, u64::MAX)
    };
    let first = connect(&mut fleet, &anew).expect("granted");
    // Its client has gone on there, and knows nothing of the second one.
    let own = Own {
        counter: 2,
        next_up: 2,
        numbered_down: 2,
        settled_down: 0,
        state: OwnState::Attached,
        joined_follows: false,
        note: "",
    };
    feed(&mut fleet, first, &frames(&[ToBackend::Own { id, own }])).expect("lasts");
    assert_eq!(fleet.home_of(id), Some(1));
    assert_eq!(told(&mut fleet, first), ["DATA three", "ADD"]);
    assert_eq!(fleet.send(id, b"four"), Ok(4));
}
