//! Attempts to resume (SPEC 23), and what is sent again.

use super::*;

fn resumed(came: &[Came]) -> Resumed {
    match came.first() {
        Some(Came::Resumed(resumed, _)) => *resumed,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_dead_connection_took_with_it_is_sent_again_in_both_directions() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    world.write_in_vain(&mut one);
    world.leave(one.conn);
    assert_eq!(world.edge.gauges().away, 1);
    world.down(&one, b"down 3");
    world.wait(Duration::from_secs(7));
    world.backend_hears();
    let came = world.come_back3(&mut one).unwrap();
    let first = resumed(&came);
    assert_eq!((first.until, first.received_up), (3, 1));
    assert_eq!((first.away_ms, first.cause), (7_000, Code::GOODBYE));
    assert_eq!(came[0], Came::Resumed(first, vec![[0; 8]]));
    let expected = [(2, &b"down 2"[..]), (3, b"down 3")];
    assert_eq!(packets(&came[1..]), expected);
    let id = one.id();
    assert_eq!(
        world.backend_hears(),
        [(id, Flag::Resumed, String::new()), data(id, "up 2")]
    );
    world.send3(&mut one, b"up 3");
    assert_eq!(world.backend_hears(), [data(id, "up 3")]);
    assert_eq!(world.edge.counters().resumed, 1);
}

#[test]
fn a_client_that_acknowledged_in_vain_is_told_again() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    for _ in 0..3 {
        world.send3(&mut one, b"x");
    }
    // The ACK is lost with its connection.
    world.down(&one, b"y");
    world.hear_bytes(one.conn);
    world.leave(one.conn);
    assert_eq!(one.outbox.acked(), 0);
    world.come_back3(&mut one).unwrap();
    assert_eq!(one.outbox.acked(), 3, "the first ACK counts from 0");
    assert_eq!(
        world
            .backend_hears()
            .iter()
            .filter(|it| it.1 == Flag::Data)
            .count(),
        3
    );
}

#[test]
fn a_takeover_ends_the_old_connection_with_402_and_loses_nothing() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    let old = one.conn;
    let mut old_channel = one.channel.clone();
    world.down(&one, b"not read");
    let (attempt, conn) = world.claim3(&mut one);
    world.send_early(&mut one, &attempt, conn);
    let counter = attempt.counter();
    let came = world.answered(&mut one, attempt).unwrap();
    assert_eq!(packets(&came[1..]), [(1, &b"not read"[..])]);
    assert_eq!(world.edge.counters().takeovers, 1);
    let heard = world.hear_bytes(old);
    let mut input = heard.as_slice();
    let (mut reader, mut outbox) = (FrameReader::default(), Outbox::new(Retention::UntilAcked));
    let mut progress = one.progress.clone();
    let arrival = old_channel.next(&mut reader, &mut input, &mut outbox, &mut progress);
    let Ok(Some(Arrival::Closed { code })) = arrival else {
        panic!("{arrival:?}");
    };
    let detail = old_channel.close_details().detail;
    assert_eq!((code, detail), (Code::TAKEN_OVER, counter));
    world.leave(old);
    world.send3(&mut one, b"goes on");
    assert!(world.backend_hears().contains(&data(one.id(), "goes on")));
}

#[test]
fn both_connections_of_a_takeover_are_told_what_was_received() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    world.send3(&mut one, b"1");
    world.down(&one, b"with an ACK");
    world.hear3(&mut one);
    assert_eq!(one.outbox.acked(), 1);
    world.send3(&mut one, b"2");
    world.send3(&mut one, b"3");
    let (old, mut old_channel) = (one.conn, one.channel.clone());
    let (mut outbox, mut progress) = (one.outbox.clone(), one.progress.clone());
    let (attempt, conn) = world.claim3(&mut one);
    world.send_early(&mut one, &attempt, conn);
    world.answered(&mut one, attempt).unwrap();
    assert_eq!(one.outbox.acked(), 3, "the first ACK counts from 0");
    let heard = world.hear_bytes(old);
    let (mut reader, mut input) = (FrameReader::default(), heard.as_slice());
    let arrival = old_channel.next(&mut reader, &mut input, &mut outbox, &mut progress);
    let Ok(Some(Arrival::Closed { code })) = arrival else {
        panic!("{arrival:?}");
    };
    assert_eq!((code, outbox.acked()), (Code::TAKEN_OVER, 3));
    world.send3(&mut one, b"4");
    world.down(&one, b"with another ACK");
    world.hear3(&mut one);
    assert_eq!(one.outbox.acked(), 4);
}

#[test]
fn a_full_ring_makes_no_empty_early_records() {
    let mut world = world(|config| config.clients.ring_packets = 8);
    let mut one = world.join3();
    for _ in 0..9 {
        one.outbox.push(b"x");
    }
    let lost = one.channel.fill(&mut one.outbox, &mut one.progress).len();
    one.channel.written(lost);
    world.leave(one.conn);
    let (attempt, _) = world.claim3(&mut one);
    one.outbox.resume_from(0).unwrap();
    one.progress.reconnect();
    let mut early = Channel::claimed(&attempt.early(), 1);
    let records = early.fill(&mut one.outbox, &mut one.progress);
    assert_eq!(bodies(records).len(), 1, "the ninth packet has no room");
}

#[test]
fn takeovers_beyond_the_burst_are_told_to_wait_and_those_of_an_absent_one_are_not() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    for _ in 0..10 {
        world.come_back3(&mut one).unwrap();
    }
    let refused = world.come_back3(&mut one).unwrap_err();
    assert_eq!((refused.code, refused.wait_ms), (Code::BUSY, 1_000));
    world.wait(Duration::from_secs(1));
    world.come_back3(&mut one).unwrap();
    world.leave(one.conn);
    world.come_back3(&mut one).unwrap();
}

#[test]
fn a_claim_that_does_not_open_is_closed_and_costs_its_source_half_a_second() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    let random = world.random();
    let attempt = one.session.attempt(random, 1, 0);
    for at in [5, 21, 45, 93] {
        let mut claim = attempt.claim().to_vec();
        claim[at] ^= 1;
        let conn = world.begin3(&claim, b"");
        assert_eq!(world.edge.client_close(conn), Some(CloseKind::Graceful));
        assert_eq!(world.hear_bytes(conn), b"");
    }
    let closed = world.edge.counters().closed;
    assert_eq!(closed[CloseReason::BadClaim as usize], 4);
    let mut claim = attempt.claim().to_vec();
    claim[1] ^= 1;
    // An early record is behind a Claim, and changes nothing.
    for behind in [&b""[..], b"\x14\0\0\0an early record here"] {
        let conn = world.begin3(&claim, behind);
        let heard = bodies(&world.hear_bytes(conn));
        let Ok(Packet::Busy(busy)) = Packet::decode(&heard[0]) else {
            panic!("{heard:02x?}");
        };
        assert_eq!(busy.code, Code::NOT_HERE);
    }
}

#[test]
fn a_first_flight_is_accepted_once() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    let random = world.random();
    let mut copy = one.session.clone();
    let repeated = copy.attempt(random, 1, 0);
    // The copy has sealed the very same Claim.
    crate::v3::watch::begin();
    let attempt = one.session.attempt(random, 1, 0);
    let claim = attempt.claim().to_vec();
    let conn = world.begin3(&claim, b"");
    world.send_early(&mut one, &attempt, conn);
    world.answered(&mut one, attempt).unwrap();
    let before = world.edge.counters().clone();
    let again = world.begin3(&claim, b"");
    let heard = bodies(&world.hear_bytes(again));
    // 310: an honest client tries again at once, with another counter.
    let answered = repeated.answer(&mut copy, &heard[0]);
    assert!(matches!(answered, Ok(Outcome::AtOnce)), "{answered:?}");
    assert_eq!(world.edge.counters().resumed, before.resumed);
    assert!(!world.is_closed(one.conn));
    world.send3(&mut one, b"undisturbed");
    assert!(
        world
            .backend_hears()
            .contains(&data(one.id(), "undisturbed"))
    );
}

#[test]
fn a_claim_without_an_early_record_is_closed_after_a_second() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    let (_, conn) = world.claim3(&mut one);
    assert_eq!(
        world.edge.read_budget(conn),
        512 - (6 + 4 + 109) + 4_096 + 4
    );
    world.wait(EARLY_TIMEOUT - Duration::from_nanos(1));
    assert!(!world.is_closed(conn));
    world.wait(Duration::from_nanos(1));
    assert_eq!(world.edge.client_close(conn), Some(CloseKind::Abort));
    assert!(!world.is_closed(one.conn), "its session is as it was");
    world.come_back3(&mut one).unwrap();
}

#[test]
fn an_early_record_that_does_not_open_or_is_wrong_changes_nothing() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    let (attempt, conn) = world.claim3(&mut one);
    let mut early = Channel::claimed(&attempt.early(), 1);
    let mut record = early.fill(&mut one.outbox, &mut one.progress).to_vec();
    record[5] ^= 1;
    world.write(conn, &record);
    assert_eq!(world.edge.client_close(conn), Some(CloseKind::Graceful));
    assert_eq!(world.hear_bytes(conn), b"");
    for (items, code) in [
        (&[Item::AckNow][..], Code::PROTOCOL),
        (&[Item::Packet(b"")], Code::GOODBYE),
    ] {
        let (attempt, conn) = world.claim3(&mut one);
        one.conn = conn;
        one.channel = Channel::claimed(&attempt.early(), 1);
        one.progress.reconnect();
        world.send_items(&mut one, items);
        match code {
            Code::GOODBYE => drop(world.answered(&mut one, attempt).unwrap()),
            code => assert_eq!(refusal(world.answered(&mut one, attempt)), code),
        }
    }
    assert_eq!(world.edge.counters().resumed, 1);
}

#[test]
fn numbers_that_do_not_fit_end_the_session() {
    for (first, received, is_told) in [(3, 0, true), (1, 2, true), (3, 0, false)] {
        let mut world = world(|_| {});
        let mut one = world.join3();
        world.send3(&mut one, b"1");
        if is_told {
            world.down(&one, b"1");
            world.hear3(&mut one);
            world.flush(&mut one);
        }
        let random = world.random();
        let attempt = one.session.attempt(random, first, received);
        let conn = world.begin3(attempt.claim(), b"");
        one.conn = conn;
        one.channel = Channel::claimed(&attempt.early(), first);
        let record = {
            let mut nothing = Outbox::new(Retention::UntilAcked);
            let bytes = one.channel.fill(&mut nothing, &mut one.progress).to_vec();
            one.channel.written(bytes.len());
            bytes
        };
        world.write(conn, &record);
        world.backend_hears();
        one.progress = Progress::new(one.progress.ring());
        one.progress.receive(received, 0);
        let came = world.answered(&mut one, attempt).unwrap();
        assert_eq!(closed(&came), (Code::NUMBERS, 0), "{first} {received}");
        assert_eq!(world.edge.gauges().sessions, 0);
        world.leave(one.conn);
        assert_eq!(refusal(world.come_back3(&mut one)), Code::NUMBERS);
    }
}

#[test]
fn a_client_that_claims_less_than_it_acknowledged_gets_a_gap() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    for _ in 0..3 {
        world.down(&one, b"x");
    }
    world.hear3(&mut one);
    world.acknowledge(&mut one);
    world.down(&one, b"4");
    world.leave(one.conn);
    let ring = one.progress.ring();
    one.progress = Progress::new(ring);
    one.progress.receive(1, 0);
    let came = world.come_back3(&mut one).unwrap();
    assert_eq!(came[1], Came::Gap(2, 2, 2));
    assert_eq!(packets(&came[2..]), [(4, &b"4"[..])]);
}

#[test]
fn a_session_that_is_gone_is_told_with_the_code_that_it_ended_with() {
    let mut world = world(|config| config.clients.stale_timeout = Duration::from_secs(30));
    let mut one = world.join3();
    world.leave(one.conn);
    world.wait(Duration::from_secs(30));
    assert_eq!(refusal(world.come_back3(&mut one)), Code::EXPIRED);
    let mut kicked = world.join3();
    world.send3(&mut kicked, b"1");
    world.leave(kicked.conn);
    world.backend_says(kicked.id(), Flag::Kick, b"");
    let refused = world.come_back3(&mut kicked).unwrap_err();
    assert_eq!((refused.code, refused.acknowledged_up), (Code::KICKED, 1));
    // An id that never had a session here: the edge forgot.
    world.edge.ends.forget(kicked.id());
    assert_eq!(refusal(world.come_back3(&mut kicked)), Code::GONE);
}

#[test]
fn a_session_of_another_run_is_gone_or_not_here() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    let run = world.edge.run();
    let again = |world: &mut World, seed| {
        let mut config = EdgeConfig::default();
        config.listener.versions = OfferedVersions::new(&[3]).unwrap();
        world.edge = Edge::new(config, world.edge_keys.clone(), [seed; 32]);
    };
    again(&mut world, 1);
    assert_ne!(world.edge.run(), run);
    assert_eq!(refusal(world.come_back3(&mut one)), Code::NOT_HERE);
    again(&mut world, 2);
    world.edge.set_earlier_runs(&[[1; 8], run]);
    assert_eq!(refusal(world.come_back3(&mut one)), Code::GONE);
}

#[test]
fn entropy_is_used_in_the_step_that_gets_it() {
    let mut world = world(|_| {});
    let mut hello = Vec::new();
    let _joining = Joining::begin([3; 32], &[], LONGEST, &mut hello);
    let conn = world.accept();
    let mut bytes = Vec::new();
    Handshake::ProtocolVersion(3).encode(&mut bytes);
    bytes.extend(hello);
    world.edge.handle_client_bytes(world.now, conn, &bytes);
    assert!(world.edge.client_wants_entropy(conn));
    assert_eq!(world.edge.read_budget(conn), 0);
    assert_eq!(world.edge.poll_client(), Some(conn), "the adapter is told");
    world.edge.handle_entropy(world.now, conn, [7; 32]);
    assert!(!world.edge.client_wants_entropy(conn));
    let first = world.hear_bytes(conn);
    world.edge.handle_entropy(world.now, conn, [8; 32]);
    assert_eq!(world.hear_bytes(conn), b"", "it was not asked for");
    assert_eq!(bodies(&first)[0].len(), 179);
}

#[test]
fn a_claim_that_opened_is_handed_over_and_one_that_did_not_is_not() {
    let part = |shard: u8| {
        let mut config = EdgeConfig::default().for_shard(ShardId::new(shard), 2);
        config.listener.versions = OfferedVersions::new(&[3]).unwrap();
        config
    };
    let mut first = World::with(part(0));
    let mut one = first.join3();
    let mut second = World::with(part(1));
    second.edge = Edge::sibling_of(&first.edge, part(1), [10; 32]);
    let random = second.random();
    let attempt = one.session.attempt(random, 1, 0);
    let mut spoiled = attempt.claim().to_vec();
    spoiled[50] ^= 1;
    let conn = second.begin3(&spoiled, b"");
    assert!(second.is_closed(conn));
    let conn = second.begin3(attempt.claim(), b"");
    assert_eq!(second.edge.client_handover(conn), Some(ShardId::new(0)));
    let handover = second.edge.take_handover(second.now, conn).unwrap();
    let conn = first.edge.handle_handover(first.now, handover).unwrap();
    first.send_early(&mut one, &attempt, conn);
    first.answered(&mut one, attempt).unwrap();
    // Its first early record comes in the segment of the Claim.
    let random = second.random();
    let attempt = one.session.attempt(random, 1, 0);
    one.progress.reconnect();
    one.channel = Channel::claimed(&attempt.early(), 1);
    one.reader = FrameReader::default();
    let record = one.channel.fill(&mut one.outbox, &mut one.progress);
    let (record, bytes) = (record.to_vec(), record.len());
    one.channel.written(bytes);
    let conn = second.begin3(attempt.claim(), &record);
    let handover = second.edge.take_handover(second.now, conn).unwrap();
    one.conn = first.edge.handle_handover(first.now, handover).unwrap();
    first.give_entropy(one.conn);
    first.answered(&mut one, attempt).unwrap();
}

#[test]
fn attempts_whose_resumed_was_lost_are_told_until_the_client_confirms() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    world.leave(one.conn);
    let mut marks = vec![[0; 8]];
    for _ in 0..2 {
        // The edge resumes, and its answer is lost.
        let (attempt, conn) = world.claim3(&mut one);
        world.send_early(&mut one, &attempt, conn);
        world.hear_bytes(conn);
        let held = world.edge.gauges().held_bytes;
        assert!(held >= 8 * marks.len(), "{held} bytes, with the marks");
        world.leave(conn);
        let attempt = crate::v3::schedule::Attempt::new(attempt.claim());
        marks.push(attempt.mark());
    }
    let came = world.come_back3(&mut one).unwrap();
    world.backend_hears();
    assert_eq!(came[0], Came::Resumed(resumed(&came), marks));
    assert_eq!(world.edge.gauges().held_bytes, 0, "it was confirmed");
    let came = world.come_back3(&mut one).unwrap();
    let Came::Resumed(_, marks) = &came[0] else {
        panic!("{came:?}");
    };
    assert_eq!(marks.len(), 1, "nothing is told twice");
}
