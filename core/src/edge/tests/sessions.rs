//! Joins, resumes, takeovers and ends.

use super::*;

#[test]
fn data_goes_both_ways_under_the_clients_id() {
    let mut world = World::new(|_| {});
    let (one, two) = (world.join(), world.join());
    assert_ne!(one.id, two.id);
    world.send(one.conn, b"from one");
    world.send(two.conn, b"from two");
    assert_eq!(
        world.backend_hears(),
        [data(one.id, "from one"), data(two.id, "from two")]
    );
    world.backend_says(two.id, Flag::Data, b"to two");
    world.backend_says(one.id, Flag::Data, b"to one");
    assert_eq!(world.hear(one.conn), [b"to one"]);
    assert_eq!(world.hear(two.conn), [b"to two"]);
}

#[test]
fn a_client_that_comes_back_gets_what_it_missed_after_the_ping_and_the_backend_hears_of_it_first() {
    let mut world = World::new(|config| config.clients.missed_packets_buffer_size = 10);
    let mut one = world.join();
    world.backend_says(one.id, Flag::Data, b"half-written");
    let output = world.edge.client_output(one.conn).concat();
    world
        .edge
        .handle_client_written(world.now, one.conn, output.len() - 3);
    world.leave(one.conn);
    world.backend_says(one.id, Flag::Data, b"missed");
    let heard = world.come_back(&mut one);
    assert_eq!(
        heard,
        [ping(), b"half-written".to_vec(), b"missed".to_vec()]
    );
    world.send(one.conn, b"again");
    assert_eq!(
        world.backend_hears(),
        [
            (one.id, Flag::Resumed, String::new()),
            data(one.id, "again")
        ]
    );
    assert_eq!(world.edge.counters().agreements, 1);
    world.leave(one.conn);
    assert_eq!(world.come_back(&mut one), [ping()]);
    assert_eq!(
        world.edge.counters().agreements,
        1,
        "agreed on once for a session"
    );
}

#[test]
fn a_takeover_closes_the_old_connection_and_goes_on_where_it_stopped() {
    let mut world = World::new(|_| {});
    let mut one = world.join();
    let old = one.conn;
    world.send(old, b"whole");
    world
        .edge
        .handle_client_bytes(world.now, old, &[9, 0, 0, 0, b'h', b'a']);
    world.backend_says(one.id, Flag::Data, b"not taken");
    assert_eq!(world.come_back(&mut one), [ping(), b"not taken".to_vec()]);
    assert!(world.is_closed(old));
    world.send(old, b"late");
    world.leave(old);
    world.send(one.conn, b"new");
    let expected = [
        data(one.id, "whole"),
        (one.id, Flag::Resumed, String::new()),
        data(one.id, "new"),
    ];
    assert_eq!(world.backend_hears(), expected);
    world.backend_says(one.id, Flag::Data, b"to new");
    assert_eq!(world.hear(one.conn), [b"to new"]);
}

#[test]
fn the_challenge_sent_back_is_refused_and_the_owner_comes_back() {
    let mut world = World::new(|config| config.clients.missed_packets_buffer_size = 10);
    let mut one = world.join();
    world.leave(one.conn);
    world.backend_says(one.id, Flag::Data, b"for the owner");
    let (stranger, sealed) = world.claim(one.id);
    world.say(stranger, Handshake::ChallengeResponse(&sealed));
    assert!(world.is_closed(stranger));
    assert!(world.backend_hears().is_empty());
    assert_eq!(
        world.come_back(&mut one),
        [ping(), b"for the owner".to_vec()]
    );
}

#[test]
fn every_wrong_answer_is_refused_alike() {
    let mut world = World::new(|config| config.limits.enforce_sources = Enforce::Off);
    let (one, two) = (world.join(), world.join());
    let (other_conn, other_sealed) = world.claim(one.id);
    let earlier_answer = world.answer(&one.keys, &other_sealed);
    let (two_conn, two_sealed) = world.claim(two.id);
    let foreign = world.answer(&two.keys, &two_sealed);
    let mut answers: Vec<Vec<u8>> = (0..=200).map(|length| vec![0x5a; length]).collect();
    answers.extend([earlier_answer.clone(), foreign, other_sealed]);
    for (n, wrong) in answers.iter().enumerate() {
        let (conn, _) = world.claim(one.id);
        world.say(conn, Handshake::ChallengeResponse(wrong));
        assert_eq!(
            world.edge.client_close(conn),
            Some(CloseKind::Graceful),
            "answer {n}"
        );
        assert_eq!(world.hear(conn), Vec::<Vec<u8>>::new());
        world
            .edge
            .handle_client_closed(world.now, conn, Closed::Asked);
    }
    // The same with an id that never was.
    let (conn, sealed) = world.claim(ClientId::from_u64(1));
    world.say(conn, Handshake::ChallengeResponse(&sealed));
    assert_eq!(world.edge.client_close(conn), Some(CloseKind::Graceful));
    // A response is valid only for its own connection, and once.
    world.say(two_conn, Handshake::ChallengeResponse(&earlier_answer));
    assert!(world.is_closed(two_conn));
    assert!(!world.is_closed(one.conn));
    let _ = other_conn;
    assert_eq!(world.edge.counters().resumed, 0);
}

#[test]
fn twenty_abandoned_challenges_do_not_lock_the_owner_out() {
    let mut world = World::new(|_| {});
    let mut one = world.join();
    world.leave(one.conn);
    for _ in 0..20 {
        world.claim(one.id);
    }
    assert_eq!(world.come_back(&mut one), [ping()]);
}

#[test]
fn a_stranger_with_many_challenges_takes_the_place_of_his_own() {
    // Twelve places for claimants.
    let mut world = World::new(|config| config.limits.max_half_open = 16);
    let one = world.join();
    let (owner, sealed) = world.claim(one.id);
    let stranger: IpAddr = "198.51.100.9".parse().unwrap();
    for n in 0..20 {
        let conn = world.edge.handle_accepted(world.now, stranger).unwrap();
        world.say(conn, Handshake::ProtocolVersion(2));
        world.say(conn, Handshake::ClientId(one.id));
        world.wait(RESUME_REPLY_DELAY);
        let made_room = world.edge.counters().closed[CloseReason::MadeRoom as usize];
        assert_eq!(made_room, u64::saturating_sub(n, 10), "{n}");
    }
    let answer = world.answer(&one.keys, &sealed);
    world.say(owner, Handshake::ChallengeResponse(&answer));
    world.say(owner, Handshake::Ping);
    assert_eq!(world.hear(owner), [ping()]);
}

#[test]
fn takeovers_beyond_the_burst_wait() {
    let mut world = World::new(|_| {});
    let mut one = world.join();
    for _ in 0..10 {
        assert_eq!(world.come_back(&mut one), [ping()]);
    }
    let held = one.conn;
    assert_eq!(world.come_back(&mut one), Vec::<Vec<u8>>::new());
    assert!(!world.is_closed(held));
    world.wait(Duration::from_secs(1));
    assert!(world.is_closed(held));
    assert_eq!(world.hear(one.conn), [ping()]);
}

#[test]
fn a_kicked_client_gets_what_is_queued_and_never_comes_back() {
    let mut world = World::new(|_| {});
    let one = world.join();
    world.backend_says(one.id, Flag::Data, b"goodbye");
    world.backend_says(one.id, Flag::Kick, b"");
    world.backend_says(one.id, Flag::Data, b"too late");
    assert_eq!(world.hear(one.conn), [b"goodbye"]);
    assert_eq!(world.edge.client_close(one.conn), Some(CloseKind::Graceful));
    assert_eq!(
        world.backend_hears(),
        [failure(one.id, "kicked"), failure(one.id, "unknown client")]
    );
    let (conn, sealed) = world.claim(one.id);
    world.say(conn, Handshake::ChallengeResponse(&sealed));
    assert!(world.is_closed(conn));
}

#[test]
fn a_kicked_client_that_takes_nothing_is_cut_off_after_a_second() {
    let mut world = World::new(|_| {});
    let one = world.join();
    world.backend_says(one.id, Flag::Data, b"goodbye");
    world.backend_says(one.id, Flag::Kick, b"");
    world.wait(KICK_DRAIN_TIMEOUT - Duration::from_nanos(1));
    assert_eq!(world.edge.client_close(one.conn), None);
    world.wait(Duration::from_nanos(1));
    assert_eq!(world.edge.client_close(one.conn), Some(CloseKind::Abort));
}

#[test]
fn sessions_expire_at_a_tick_and_cannot_come_back_from_their_deadline_on() {
    let mut world = World::new(|config| {
        config.clients.stale_timeout = Duration::from_secs(20);
        config.clients.stale_reap_interval = Duration::from_secs(15);
    });
    let mut one = world.join();
    world.leave(one.conn);
    world.wait(Duration::from_secs(20) - RESUME_REPLY_DELAY);
    world.backend_hears();
    let (conn, sealed) = world.claim(one.id);
    let answer = world.answer(&one.keys, &sealed);
    world.say(conn, Handshake::ChallengeResponse(&answer));
    assert!(world.is_closed(conn), "at the deadline it is too late");
    assert!(
        world.backend_hears().is_empty(),
        "the reaper's tick is at 30 s"
    );
    world.wait(Duration::from_secs(10));
    assert_eq!(world.backend_hears(), [failure(one.id, "expired")]);
    // Just before the deadline it is still accepted.
    one = world.join();
    world.leave(one.conn);
    world.wait(Duration::from_secs(20) - RESUME_REPLY_DELAY - Duration::from_nanos(1));
    assert_eq!(world.come_back(&mut one), [ping()]);
}

#[test]
fn beyond_the_bound_the_longest_gone_ends() {
    let mut world = World::new(|config| config.clients.max_stale_clients = 2);
    let members: Vec<Member> = (0..3).map(|_| world.join()).collect();
    for member in &members[..2] {
        world.leave(member.conn);
    }
    assert!(world.backend_hears().is_empty());
    world.leave(members[2].conn);
    assert_eq!(
        world.backend_hears(),
        [failure(members[0].id, "too many stale clients")]
    );
}

#[test]
fn the_missed_packets_are_bounded_in_packets_and_bytes_exactly() {
    for (change, packets) in [
        (
            (|config: &mut EdgeConfig| config.clients.missed_packets_buffer_size = 3)
                as fn(&mut EdgeConfig),
            3,
        ),
        (
            |config| {
                config.clients.missed_packets_buffer_size = 100;
                config.clients.missed_packets_buffer_bytes = 18;
            },
            2,
        ),
    ] {
        let mut world = World::new(change);
        let mut one = world.join();
        world.leave(one.conn);
        for _ in 0..packets {
            world.backend_says(one.id, Flag::Data, b"12345");
        }
        assert_eq!(world.come_back(&mut one).len(), 1 + packets);
        world.backend_hears();
        world.leave(one.conn);
        for _ in 0..=packets {
            world.backend_says(one.id, Flag::Data, b"12345");
        }
        assert_eq!(
            world.backend_hears(),
            [failure(one.id, "missed packet buffer full")]
        );
    }
}

#[test]
fn with_no_buffer_a_packet_for_a_client_that_is_away_ends_it() {
    let mut world = World::new(|config| config.clients.missed_packets_buffer_size = 0);
    let one = world.join();
    world.leave(one.conn);
    world.backend_says(one.id, Flag::Data, b"?");
    world.backend_says(one.id, Flag::Data, b"?");
    assert_eq!(
        world.backend_hears(),
        [
            failure(one.id, "client is away"),
            failure(one.id, "unknown client")
        ]
    );
    let two = world.join();
    world.backend_says(two.id, Flag::Data, b"queued, never written");
    world.leave(two.conn);
    assert_eq!(world.backend_hears(), [failure(two.id, "client is away")]);
}

#[test]
fn a_handshake_that_is_not_done_in_time_leaves_nothing() {
    let mut world = World::new(|_| {});
    let conn = world.accept();
    world.wait(Duration::from_secs(4));
    world.say(conn, Handshake::ProtocolVersion(2));
    world.wait(Duration::from_secs(1) - Duration::from_nanos(1));
    assert!(!world.is_closed(conn), "nothing fires early");
    world.wait(Duration::from_nanos(1));
    assert!(world.is_closed(conn));
    world
        .edge
        .handle_client_closed(world.now, conn, Closed::Asked);
    assert_eq!(
        world.edge.gauges(),
        Gauges {
            link_is_up: true,
            sources: 2,
            ..Gauges::default()
        }
    );
}

#[test]
fn every_open_challenge_of_a_session_is_good_until_it_is_answered() {
    let mut world = World::new(|_| {});
    let one = world.join();
    world.leave(one.conn);
    let open: Vec<_> = (0..9).map(|_| world.claim(one.id)).collect();
    // Each answers its own challenge, and takes the session over from the one before it.
    for (taken, (conn, sealed)) in open.iter().enumerate() {
        let answer = world.answer(&one.keys, sealed);
        world.say(*conn, Handshake::ChallengeResponse(&answer));
        world.say(*conn, Handshake::Ping);
        assert_eq!(world.hear(*conn), [ping()]);
        assert_eq!(world.edge.counters().takeovers, taken as u64);
    }
    // Two connections have two challenges: the response to one is invalid for the other.
    let (conn, _) = world.claim(one.id);
    let (_, sealed) = world.claim(one.id);
    let answer = world.answer(&one.keys, &sealed);
    world.say(conn, Handshake::ChallengeResponse(&answer));
    assert!(world.is_closed(conn));
    assert_eq!(
        world.edge.counters().closed[CloseReason::BadProof as usize],
        1
    );
}

/// Returns whether the edge delays a source's second session as a penalty.
fn is_punished(world: &mut World) -> bool {
    let refused = |world: &World| world.edge.counters().rejected[Rejected::SourcePenalty as usize];
    let before = refused(world);
    for _ in 0..2 {
        let conn = world.accept();
        let keys = KeyPair::generate(&mut world.rng);
        world.say(conn, Handshake::ProtocolVersion(2));
        world.say(conn, Handshake::PubKey(keys.public().as_bytes()));
        world.leave(conn);
    }
    refused(world) > before
}

#[test]
fn a_right_proof_that_comes_too_late_is_refused_without_a_penalty() {
    let mut world = World::new(|config| {
        config.clients.stale_timeout = Duration::from_secs(1);
        config.clients.stale_reap_interval = Duration::from_secs(60);
    });
    // Four refused responses would be 20 s.
    for kicked in [false, true, false, true] {
        let one = world.join();
        world.leave(one.conn);
        let (conn, sealed) = world.claim(one.id);
        if kicked {
            world.backend_says(one.id, Flag::Kick, b"");
        } else {
            world.wait(Duration::from_secs(1));
        }
        let answer = world.answer(&one.keys, &sealed);
        world.say(conn, Handshake::ChallengeResponse(&answer));
        assert_eq!(world.edge.client_close(conn), Some(CloseKind::Graceful));
        world.leave(conn);
    }
    assert_eq!(
        world.edge.counters().closed[CloseReason::ClaimLapsed as usize],
        4
    );
    assert!(!is_punished(&mut world));
    // A wrong response for an existing session costs what it did.
    let one = world.join();
    for _ in 0..4 {
        let (conn, _) = world.claim(one.id);
        world.say(conn, Handshake::ChallengeResponse(&[5; 72]));
        world.leave(conn);
    }
    assert!(is_punished(&mut world));
}

#[test]
fn a_wait_for_a_takeover_that_comes_to_nothing_has_no_penalty() {
    for ends in [true, false] {
        let mut world = World::new(|config| {
            config.clients.channel_bytes = 0;
            config.master.channel_capacity = 1;
        });
        let mut one = world.join();
        // A line that does not move, so that clients that come back must wait.
        for _ in 0..3 {
            world.send(one.conn, b"waits for the link");
        }
        // What its connection still held joins the line with this one.
        world.come_back(&mut one);
        let waiting: Vec<_> = (0..8)
            .map(|_| {
                world.come_back(&mut one);
                one.conn
            })
            .collect();
        if ends {
            world.backend_says(one.id, Flag::Kick, b"");
            world.wait(Duration::from_secs(1));
        } else {
            world.wait(Duration::from_secs(5));
        }
        let closed = &world.edge.counters().closed;
        let (lapsed, kept) = (
            closed[CloseReason::ClaimLapsed as usize],
            closed[CloseReason::KeptWaiting as usize],
        );
        assert_eq!((lapsed, kept), if ends { (8, 0) } else { (0, 8) });
        for conn in waiting {
            assert!(world.is_closed(conn));
            world.leave(conn);
        }
        assert!(!is_punished(&mut world), "ends: {ends}");
    }
}

#[test]
fn packets_not_taken_when_a_client_goes_away_are_held_to_the_bounds_of_missed_packets() {
    for (packets, data_bytes, kept) in [
        (2, 11, true),
        (2, 12, false),
        (1, 1000, true),
        (3, 1, true),
        (4, 1, false),
        (0, 0, true),
    ] {
        let mut world = World::new(|config| {
            config.clients.missed_packets_buffer_size = 3;
            config.clients.missed_packets_buffer_bytes = 30;
        });
        let mut one = world.join();
        for _ in 0..packets {
            world.backend_says(one.id, Flag::Data, &vec![0; data_bytes]);
        }
        world.leave(one.conn);
        let case = format!("{packets} of {data_bytes}");
        if kept {
            assert_eq!(world.backend_hears(), [], "{case}");
            assert_eq!(world.come_back(&mut one).len(), 1 + packets, "{case}");
        } else {
            let heard = world.backend_hears();
            let full = failure(one.id, "missed packet buffer full");
            assert_eq!(heard, [full], "{case}");
        }
    }
}

/// A client that has sent its response takes an orderly end for "your session is gone" (SPEC 4.5(d)), or may do so.
#[test]
fn an_end_that_is_no_refusal_is_abrupt_until_the_edges_ping_is_written() {
    let closes = |state: &str, conn: ConnKey, world: &mut World| {
        let ended = world.edge.client_end(conn);
        world
            .edge
            .handle_shutdown(world.now, Duration::from_secs(5));
        // An established connection is kept until the end of the shutdown.
        let closed = world.edge.client_close(conn).unwrap_or(ended);
        assert_eq!(ended, closed, "{state}");
        closed
    };
    for state in [
        "VERSION",
        "KEY-OR-ID",
        "RESPONSE",
        "WAIT",
        "PING",
        "pinged",
        "told",
    ] {
        let mut world = World::new(|_| {});
        let mut one = world.join();
        if state == "WAIT" {
            for _ in 0..10 {
                world.come_back(&mut one);
            }
        }
        let conn = match state {
            "VERSION" | "KEY-OR-ID" => world.accept(),
            _ => {
                let (conn, sealed) = world.claim(one.id);
                let answer = world.answer(&one.keys, &sealed);
                if state != "RESPONSE" {
                    world.say(conn, Handshake::ChallengeResponse(&answer));
                }
                if matches!(state, "pinged" | "told") {
                    world.say(conn, Handshake::Ping);
                }
                if state == "told" {
                    assert_eq!(world.hear(conn), [ping()]);
                }
                conn
            }
        };
        if state == "KEY-OR-ID" {
            world.say(conn, Handshake::ProtocolVersion(2));
        }
        let expected = match state {
            "VERSION" | "KEY-OR-ID" | "told" => CloseKind::Graceful,
            _ => CloseKind::Abort,
        };
        assert_eq!(closes(state, conn, &mut world), expected, "{state}");
    }
}

#[test]
fn a_client_that_waits_for_its_ping_hears_of_its_sessions_end_in_order() {
    let mut world = World::new(|_| {});
    let one = world.join();
    let (conn, sealed) = world.claim(one.id);
    let answer = world.answer(&one.keys, &sealed);
    world.say(conn, Handshake::ChallengeResponse(&answer));
    world.backend_says(one.id, Flag::Kick, b"");
    assert_eq!(world.edge.client_close(conn), Some(CloseKind::Graceful));
}
