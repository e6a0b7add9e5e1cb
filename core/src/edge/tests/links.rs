//! The backend leaves and comes back, is slow, or sends malformed packets; clients are slow.

use super::*;
use crate::edge::trunk::BATCH_BYTES;
use crate::link::v3::Refusal;

#[test]
fn a_shard_alone_hands_its_packets_up_in_batches_like_one_of_several() {
    for shards in [1, 2] {
        let mut world = World::new(|config| config.shards = shards);
        let one = world.join();
        let packet = [b'x'; 1_000];
        for _ in 0..200 {
            world.send(one.conn, &packet);
        }
        assert!(matches!(world.hands_up(), Some(Upward::Announced)));
        let released = Downward::Released;
        world.edge.handle_branch_input(world.now, &released);
        let mut sizes = Vec::new();
        while let Some(output) = world.hands_up() {
            let batch = output.batch().expect("packets");
            sizes.push(batch.bytes().len());
        }
        let (last, full) = sizes.split_last().expect("packets");
        assert_eq!(full.len(), 3, "{sizes:?}");
        let whole = BATCH_BYTES..BATCH_BYTES + 2 * packet.len();
        assert!(full.iter().all(|bytes| whole.contains(bytes)), "{sizes:?}");
        assert!(*last < BATCH_BYTES, "{sizes:?}");
    }
}

#[test]
fn packets_wait_for_the_backend_and_the_one_cut_in_the_middle_goes_again_whole() {
    let mut world = World::new(|_| {});
    let one = world.join();
    world.send(one.conn, b"gone");
    world.send(one.conn, b"cut");
    let output = world.edge.link_output().concat();
    world.edge.handle_link_written(world.now, output.len() - 1);
    world.edge.handle_link_closed(world.now, Closed::Error);
    assert!(!world.edge.link_wants_connect(world.now) || world.edge.poll_timeout().is_some());
    world.send(one.conn, b"waits");
    assert_eq!(world.edge.link_output().concat(), b"");
    world.now = world.now + Duration::from_secs(5);
    world.backend_comes();
    assert_eq!(
        world.backend_hears(),
        [data(one.id, "cut"), data(one.id, "waits")]
    );
}

#[test]
fn a_full_link_stops_reading_and_loses_nothing() {
    let mut world = World::new(|config| config.master.channel_capacity = 2);
    let (loud, quiet) = (world.join(), world.join());
    let mut burst = Vec::new();
    for n in 0..5u8 {
        encode_frame(&[b'0' + n], &mut burst);
    }
    world.edge.handle_client_bytes(world.now, loud.conn, &burst);
    assert_eq!(world.edge.gauges().link_packets, 2, "exactly the bound");
    assert_eq!(world.edge.read_budget(loud.conn), 0);
    world.send(quiet.conn, b"q");
    assert_eq!(world.edge.read_budget(quiet.conn), 0);
    let heard = world.backend_hears();
    let texts: Vec<&str> = heard.iter().map(|(_, _, text)| text.as_str()).collect();
    assert_eq!(texts, ["0", "1", "2", "3", "4", "q"]);
    assert!(world.edge.read_budget(loud.conn) > 0 && world.edge.read_budget(quiet.conn) > 0);
}

#[test]
fn packets_of_a_client_that_dropped_precede_its_notice() {
    let mut world = World::new(|config| {
        config.master.channel_capacity = 1;
        config.clients.stale_timeout = Duration::ZERO;
    });
    let one = world.join();
    let mut burst = Vec::new();
    for body in [&b"a"[..], b"b", b"c"] {
        encode_frame(body, &mut burst);
    }
    burst.extend_from_slice(&[8, 0, 0, 0, b'h']);
    world.edge.handle_client_bytes(world.now, one.conn, &burst);
    world.leave(one.conn);
    let gauges = world.edge.gauges();
    assert_eq!((gauges.sessions, gauges.away, gauges.ending), (1, 0, 1));
    let expected = [
        data(one.id, "a"),
        data(one.id, "b"),
        data(one.id, "c"),
        failure(one.id, "expired"),
    ];
    assert_eq!(world.backend_hears(), expected);
    let gauges = world.edge.gauges();
    assert_eq!((gauges.sessions, gauges.away, gauges.ending), (0, 0, 0));
}

#[test]
fn a_client_that_ends_while_the_link_is_full_is_read_once_more_and_frees_its_place() {
    let mut world = World::new(|config| config.master.channel_capacity = 1);
    let (other, one) = (world.join(), world.join());
    // If it is read anyway, nothing changes.
    world.edge.handle_client_ending(world.now, one.conn);
    world.send(other.conn, b"first");
    world.send(one.conn, b"a");
    assert_eq!(world.edge.read_budget(one.conn), 0, "there is no room");
    while world.edge.poll_client().is_some() {}
    world.edge.handle_client_ending(world.now, one.conn);
    assert_eq!(world.edge.poll_client(), Some(one.conn), "it is to be read");
    assert!(world.edge.read_budget(one.conn) > 0);
    world.send(one.conn, b"b");
    world.leave(one.conn);
    let gauges = world.edge.gauges();
    assert_eq!((gauges.connections, gauges.away), (1, 1));
    let heard = [
        data(other.id, "first"),
        data(one.id, "a"),
        data(one.id, "b"),
    ];
    assert_eq!(world.backend_hears(), heard);
}

#[test]
fn whose_place_a_proof_would_take_is_told_and_nobody_elses() {
    let mut world = World::new(|_| {});
    let (one, other) = (world.join(), world.join());
    assert_eq!(world.edge.takeover_of(one.conn), None, "it claims nothing");
    let (claims, _) = world.claim(one.id);
    assert_eq!(world.edge.takeover_of(claims), Some(one.conn));
    let unknown = ClientId::from_u64(other.id.as_u64() ^ 1);
    let (guesses, _) = world.claim(unknown);
    assert_eq!(world.edge.takeover_of(guesses), None);
    world.leave(one.conn);
    assert_eq!(world.edge.takeover_of(claims), None, "nobody is there");
    world.leave(claims);
    assert_eq!(world.edge.takeover_of(claims), None);
}

#[test]
fn the_last_read_is_bounded_exactly_and_the_rest_waits_for_room() {
    let mut world = World::new(|config| config.master.channel_capacity = 1);
    let (other, one) = (world.join(), world.join());
    world.send(other.conn, b"first");
    world.send(one.conn, b"a");
    world.edge.handle_client_ending(world.now, one.conn);
    let mut read = 0;
    loop {
        let budget = world.edge.read_budget(one.conn);
        if budget == 0 {
            break;
        }
        // Many packets, of which the last one is cut at the bound.
        let whole = [&996u32.to_le_bytes()[..], &[b'x'; 996]].concat();
        let bytes: Vec<u8> = (0..budget).map(|at| whole[(read + at) % 1_000]).collect();
        world.edge.handle_client_bytes(world.now, one.conn, &bytes);
        read += budget;
    }
    assert_eq!(read, LAST_READ_BYTES);
    // It is not begun again.
    world.edge.handle_client_ending(world.now, one.conn);
    assert_eq!(world.edge.read_budget(one.conn), 0);
    assert_eq!(world.edge.gauges().connections, 2, "the rest is not lost");
    assert_eq!(world.backend_hears().len(), 2 + read / 1_000);
    assert!(world.edge.read_budget(one.conn) > 0);
}

#[test]
fn room_that_comes_back_is_shared_fairly() {
    let mut world = World::new(|config| config.master.channel_bytes = 64 * 1024);
    let (loud, quiet) = (world.join(), world.join());
    let mut burst = Vec::new();
    while burst.len() < 60 * 1024 {
        encode_frame(&[b'l'; 1000], &mut burst);
    }
    world.edge.handle_client_bytes(world.now, loud.conn, &burst);
    world.edge.handle_client_bytes(world.now, loud.conn, &burst);
    world.send(quiet.conn, b"q");
    // Room for one link's worth: the busy client's turn ends with its quantum, and the quiet one is next.
    let mut before_quiet = 0;
    'turns: for _ in 0..10 {
        let bytes = world.edge.link_output().concat();
        world.edge.handle_link_written(world.now, bytes.len());
        for body in bodies(&bytes) {
            if Tagged::decode(&body).unwrap().id == quiet.id {
                break 'turns;
            }
            before_quiet += body.len();
        }
    }
    assert!(
        before_quiet <= 128 * 1024,
        "{before_quiet} bytes of the loud one went first"
    );
}

#[test]
fn a_client_queue_is_bounded_exactly_and_only_it_fails() {
    let mut world = World::new(|config| config.clients.channel_capacity = 3);
    let (slow, other) = (world.join(), world.join());
    for _ in 0..3 {
        world.backend_says(slow.id, Flag::Data, b"x");
    }
    assert!(world.backend_hears().is_empty());
    world.backend_says(slow.id, Flag::Data, b"x");
    assert_eq!(world.backend_hears(), [failure(slow.id, "send queue full")]);
    assert_eq!(world.edge.client_close(slow.conn), Some(CloseKind::Abort));
    world.backend_says(other.id, Flag::Data, b"y");
    assert_eq!(world.hear(other.conn), [b"y"]);
}

#[test]
fn an_empty_queue_takes_any_one_packet() {
    let mut world = World::new(|config| config.clients.channel_bytes = 10);
    let one = world.join();
    world.backend_says(one.id, Flag::Data, &[1; 100]);
    assert_eq!(world.hear(one.conn), [[1; 100]]);
    world.backend_says(one.id, Flag::Data, b"123456");
    world.backend_says(one.id, Flag::Data, b"");
    assert_eq!(world.backend_hears(), [failure(one.id, "send queue full")]);
}

#[test]
fn a_client_that_takes_nothing_fails_in_time_and_one_that_takes_a_little_does_not() {
    let mut world = World::new(|_| {});
    let one = world.join();
    world.backend_says(one.id, Flag::Data, b"0123456789");
    for _ in 0..3 {
        world.wait(Duration::from_secs(9));
        world.edge.handle_client_written(world.now, one.conn, 1);
    }
    world.wait(Duration::from_secs(10) - Duration::from_nanos(1));
    assert!(world.backend_hears().is_empty());
    world.wait(Duration::from_nanos(1));
    assert_eq!(world.backend_hears(), [failure(one.id, "write timed out")]);
}

#[test]
fn a_frame_that_never_ends_closes_its_connection_and_keeps_the_session() {
    let mut world = World::new(|_| {});
    let mut one = world.join();
    world
        .edge
        .handle_client_bytes(world.now, one.conn, &[10, 0, 0, 0]);
    for _ in 0..9 {
        world.wait(Duration::from_secs(1));
        world.edge.handle_client_bytes(world.now, one.conn, b"x");
    }
    assert!(!world.is_closed(one.conn));
    world.wait(Duration::from_secs(1));
    assert!(world.is_closed(one.conn));
    assert_eq!(world.come_back(&mut one), [ping()]);
}

#[test]
fn a_frame_is_refused_by_its_length_alone() {
    let mut world = World::new(|config| config.limits.enforce_sources = Enforce::Off);
    for length in [(1u32 << 20) + 1, 1 << 31, u32::MAX] {
        let one = world.join();
        world
            .edge
            .handle_client_bytes(world.now, one.conn, &length.to_le_bytes());
        assert!(world.is_closed(one.conn));
    }
    let one = world.join();
    world
        .edge
        .handle_client_bytes(world.now, one.conn, &(1u32 << 20).to_le_bytes());
    assert!(!world.is_closed(one.conn));
}

#[test]
fn nonsense_from_the_backend_is_counted_and_the_link_stays_unless_framing_is_lost() {
    let mut world = World::new(|_| {});
    let one = world.join();
    let mut bytes = Vec::new();
    for body_bytes in 0..9 {
        encode_frame(&vec![0; body_bytes], &mut bytes);
    }
    let with_flag =
        |flag: u8, data: &[u8]| [&one.id.as_u64().to_le_bytes()[..], &[flag], data].concat();
    for body in [
        with_flag(4, b""),
        with_flag(0xff, b"x"),
        with_flag(1, b"no"),
        with_flag(3, b""),
        with_flag(2, b"x"),
    ] {
        encode_frame(&body, &mut bytes);
    }
    world.edge.handle_link_bytes(world.now, &bytes);
    assert_eq!(world.edge.counters().malformed_down, 9 + 5);
    assert!(!world.edge.link_wants_close() && world.backend_hears().is_empty());
    world.backend_says(one.id, Flag::Data, b"");
    assert_eq!(world.hear(one.conn), [b""]);
    world
        .edge
        .handle_link_bytes(world.now, &((8 << 20) + 9 + 1u32).to_le_bytes());
    assert!(world.edge.link_wants_close());
    assert_eq!(world.edge.counters().link_violations, 1);
}

#[test]
fn unknown_ids_are_answered_at_a_bounded_rate() {
    let mut world = World::new(|_| {});
    for n in 0..5000 {
        world.backend_says(ClientId::from_u64(n), Flag::Data, b"?");
    }
    assert_eq!(world.backend_hears().len(), 1000);
    assert_eq!(world.edge.counters().unknown_client, 5000);
}

#[test]
fn shards_divide_the_rate_of_answers_and_lose_none() {
    for shards in [1, 3, 128] {
        let answered = |seconds: u64, refuses: bool| {
            let answers = (0..shards).map(|shard| {
                let mut world = World::new(|config| {
                    (config.shards, config.shard) = (shards, ShardId::new(shard));
                    config.master.channel_capacity = 10_000;
                });
                let mut ask = |now| {
                    for n in 0..2_000 {
                        match refuses {
                            true => world.edge.tell_refused(now, n, 0x7f, Refusal::Unknown),
                            false => world.edge.tell_unknown(now, ClientId::from_u64(n)),
                        }
                    }
                };
                ask(Time::ZERO);
                ask(Time::from_millis(seconds * 1_000));
                world.edge.link_queue.packets()
            });
            answers.sum::<usize>()
        };
        for refuses in [false, true] {
            // At once, and what has come back of it after a second or more.
            assert_eq!(answered(0, refuses), 1_000, "{shards} shards");
            assert_eq!(answered(10, refuses), 2_000, "{shards} shards");
        }
    }
}

#[test]
fn announcing_comes_before_everything_else() {
    let mut world = World::new(|config| config.master.announce_all = true);
    let (one, two) = (world.join(), world.join());
    world.leave(two.conn);
    world.edge.handle_link_closed(world.now, Closed::Eof);
    world.send(one.conn, b"waited");
    world.backend_says(two.id, Flag::Data, b"ignored: there is no link");
    world.now = world.now + Duration::from_secs(1);
    world.backend_comes();
    let back = |id| (id, Flag::Resumed, String::new());
    assert_eq!(
        world.backend_hears(),
        [back(one.id), data(one.id, "waited")],
        "who is away is not announced"
    );
}

#[test]
fn a_shutdown_is_finished_when_all_is_handed_over_or_its_time_is_up() {
    let mut world = World::new(|_| {});
    let one = world.join();
    let half_open = world.accept();
    world.send(one.conn, b"last");
    world
        .edge
        .handle_shutdown(world.now, Duration::from_secs(5));
    assert!(world.is_closed(half_open));
    assert_eq!(world.edge.read_budget(one.conn), 0);
    assert_eq!(
        world.edge.handle_accepted(world.now, SOURCE),
        Err(Rejected::Shutdown)
    );
    assert!(!world.edge.is_finished());
    while world.edge.poll_client().is_some() {}
    let due = world.edge.poll_timeout().expect("the shutdown's end");
    assert_eq!(
        (due.at, due.reason),
        (world.now + Duration::from_secs(5), DeadlineReason::Shutdown)
    );
    assert_eq!(world.backend_hears(), [data(one.id, "last")]);
    assert!(world.edge.is_finished());
    let mut world = World::new(|_| {});
    let one = world.join();
    world.backend_says(one.id, Flag::Data, b"never taken");
    world
        .edge
        .handle_shutdown(world.now, Duration::from_secs(5));
    world.wait(Duration::from_secs(5));
    assert!(world.edge.is_finished());
}

#[test]
fn a_shutdown_waits_for_every_client_that_has_something_to_take() {
    for write_timeout in [Duration::ZERO, Duration::from_secs(10)] {
        for kicked in [false, true] {
            let mut world = World::new(|config| config.clients.write_timeout = write_timeout);
            let one = world.join();
            world.backend_says(one.id, Flag::Data, b"last words");
            if kicked {
                world.backend_says(one.id, Flag::Kick, b"");
                assert_eq!(world.backend_hears(), [failure(one.id, "kicked")]);
            }
            world
                .edge
                .handle_shutdown(world.now, Duration::from_secs(5));
            assert!(!world.edge.is_finished(), "{write_timeout:?} {kicked}");
            assert_eq!(world.hear(one.conn), [b"last words"]);
            assert!(world.edge.is_finished(), "{write_timeout:?} {kicked}");
        }
    }
}

#[test]
fn a_shutdown_closes_who_has_proven_and_is_not_established() {
    let mut world = World::new(|_| {});
    let one = world.join();
    let (conn, sealed) = world.claim(one.id);
    let answer = world.answer(&one.keys, &sealed);
    world.say(conn, Handshake::ChallengeResponse(&answer));
    assert!(!world.is_closed(conn));
    world
        .edge
        .handle_shutdown(world.now, Duration::from_secs(5));
    assert!(world.is_closed(conn));
    assert!(world.edge.is_finished());
}

#[test]
fn a_large_packet_in_line_is_not_passed_by_small_ones() {
    let mut world = World::new(|config| config.master.channel_bytes = 200);
    let (large, small) = (world.join(), world.join());
    world.send(small.conn, &[0; 100]);
    world.send(large.conn, &[1; 100]);
    assert_eq!(world.edge.read_budget(large.conn), 0, "it waits");
    for round in 0..100 {
        if world.edge.read_budget(small.conn) > 0 {
            world.send(small.conn, &[0; 7]);
        }
        // The backend takes as much as the small packet needs.
        let bytes = world.edge.link_output().concat().len().min(20);
        world.edge.handle_link_written(world.now, bytes);
        if world.edge.read_budget(large.conn) > 0 {
            assert!(round < 20, "served in round {round}");
            return;
        }
    }
    panic!("never served");
}

#[test]
fn an_answer_to_a_packet_for_nobody_does_not_overtake_the_last_words_of_who_had_the_id() {
    let mut world = World::new(|config| config.master.channel_capacity = 1);
    let one = world.join();
    let mut burst = Vec::new();
    for body in [&b"a"[..], b"b", b"c"] {
        encode_frame(body, &mut burst);
    }
    world.edge.handle_client_bytes(world.now, one.conn, &burst);
    world.backend_says(one.id, Flag::Kick, b"");
    world.backend_says(one.id, Flag::Data, b"too late");
    let expected = [
        data(one.id, "a"),
        data(one.id, "b"),
        data(one.id, "c"),
        failure(one.id, "kicked"),
    ];
    assert_eq!(world.backend_hears(), expected);
    assert_eq!(world.edge.counters().unknown_client, 1);
    world.backend_says(one.id, Flag::Data, b"later still");
    assert_eq!(world.backend_hears(), [failure(one.id, "unknown client")]);
}

#[test]
fn the_last_bytes_of_the_handshake_count_as_taken_and_a_write_of_nothing_does_not() {
    let almost = Duration::from_secs(10) - Duration::from_nanos(1);
    for (taken, closed) in [(1, false), (0, true)] {
        let mut world = World::new(|_| {});
        let conn = world.accept();
        let key = KeyPair::generate(&mut world.rng).public();
        world.say(conn, Handshake::ProtocolVersion(2));
        world.say(conn, Handshake::PubKey(key.as_bytes()));
        let welcome = world.edge.client_output(conn)[0].to_vec();
        let Ok(Handshake::ClientId(id)) = Handshake::decode(&bodies(&welcome)[1]) else {
            panic!("no id")
        };
        world.backend_says(id, Flag::Data, b"waits");
        world.wait(almost);
        world.edge.handle_client_written(world.now, conn, taken);
        world.wait(almost);
        assert_eq!(world.is_closed(conn), closed);
        let ended = world.edge.counters().ended[EndReason::WriteTimedOut as usize];
        assert_eq!(ended, u64::from(closed));
    }
}

/// The packets of two clients in line, away or not, are sent in turns of 64 KiB each.
#[test]
fn the_line_moves_in_turns_of_bytes_also_for_those_who_are_away() {
    const TURNS_BYTES: usize = 2 * 64 * 1024;
    for away in [false, true] {
        let mut world = World::new(|config| config.master.channel_bytes = 16 * 1024);
        let members = [world.join(), world.join()];
        let mut burst = Vec::new();
        for _ in 0..300 {
            encode_frame(&[b'.'; 1000], &mut burst);
        }
        for member in &members {
            world
                .edge
                .handle_client_bytes(world.now, member.conn, &burst);
        }
        if away {
            members.iter().for_each(|member| world.leave(member.conn));
        }
        let mut sent = [0usize; 2];
        let mut turns = Vec::new();
        loop {
            let bytes = world.edge.link_output().concat();
            if bytes.is_empty() {
                break;
            }
            world.edge.handle_link_written(world.now, bytes.len());
            for body in bodies(&bytes) {
                let id = Tagged::decode(&body).unwrap().id;
                let who = members.iter().position(|one| one.id == id).unwrap();
                sent[who] += body.len();
                if turns.last() != Some(&who) {
                    turns.push(who);
                }
                // The first one had the link to itself before the second one came.
                let lead = sent[0].abs_diff(sent[1]);
                let at_the_end = sent.iter().any(|&bytes| bytes >= 300 * 1009);
                assert!(lead <= TURNS_BYTES || at_the_end, "{sent:?}");
            }
        }
        assert_eq!(sent, [300 * 1009; 2]);
        assert!(turns.len() <= 12, "{} turns", turns.len());
        assert_eq!(world.edge.counters().packets_up, 600);
    }
}

#[test]
fn each_frame_has_its_own_time_from_its_first_byte() {
    let mut world = World::new(|_| {});
    let one = world.join();
    let (begun, rest) = ([2, 0, 0, 0, b'x'], *b"y");
    world.edge.handle_client_bytes(world.now, one.conn, &begun);
    world.wait(Duration::from_secs(9));
    let both = [&rest[..], &begun].concat();
    world.edge.handle_client_bytes(world.now, one.conn, &both);
    world.wait(Duration::from_secs(10) - Duration::from_nanos(1));
    assert!(!world.is_closed(one.conn));
    world.wait(Duration::from_nanos(1));
    assert!(world.is_closed(one.conn));
}

#[test]
fn a_client_that_does_not_take_its_missed_packets_fails_in_time() {
    let mut world = World::new(|config| config.clients.missed_packets_buffer_size = 8);
    let mut one = world.join();
    world.leave(one.conn);
    world.backend_says(one.id, Flag::Data, b"missed");
    let (conn, sealed) = world.claim(one.id);
    let answer = world.answer(&one.keys, &sealed);
    world.say(conn, Handshake::ChallengeResponse(&answer));
    world.say(conn, Handshake::Ping);
    one.conn = conn;
    world.backend_hears();
    world.wait(Duration::from_secs(10) - Duration::from_nanos(1));
    assert!(!world.is_closed(one.conn));
    world.wait(Duration::from_nanos(1));
    assert_eq!(world.backend_hears(), [failure(one.id, "write timed out")]);
}

#[test]
fn every_client_that_is_connected_is_announced_and_no_other() {
    let mut world = World::new(|config| config.master.announce_all = true);
    let [first, away, last] = [(); 3].map(|()| world.join());
    world.leave(away.conn);
    world.edge.handle_link_closed(world.now, Closed::Eof);
    world.wait(Duration::from_secs(5));
    world.backend_comes();
    let announced = |one: &Member| (one.id, Flag::Resumed, String::new());
    assert_eq!(world.backend_hears(), [announced(&first), announced(&last)]);
}

#[test]
fn the_end_of_a_session_is_told_in_line_behind_those_who_wait() {
    let mut world = World::new(|config| {
        config.master.channel_capacity = 1;
        config.clients.stale_timeout = Duration::ZERO;
    });
    let [first, waits, leaves] = [(); 3].map(|()| world.join());
    world.send(first.conn, b"on the link");
    world.send(waits.conn, b"waits");
    world.leave(leaves.conn);
    assert_eq!(world.edge.gauges().waiting, 2);
    assert_eq!(
        world.backend_hears(),
        [
            data(first.id, "on the link"),
            data(waits.id, "waits"),
            failure(leaves.id, "expired")
        ]
    );
}

#[test]
fn a_full_link_takes_no_notice_and_who_comes_later_does_not_pass_the_line() {
    let mut world = World::new(|config| {
        config.master.channel_bytes = 100;
        config.clients.stale_timeout = Duration::ZERO;
    });
    let [first, large, small, leaves] = [(); 4].map(|()| world.join());
    world.send(first.conn, &[b'.'; 60]);
    world.send(large.conn, &[b'.'; 50]);
    world.send(small.conn, b"s");
    let gauges = world.edge.gauges();
    assert_eq!((gauges.link_packets, gauges.waiting), (1, 2));
    world.leave(leaves.conn);
    assert_eq!(world.edge.gauges().link_packets, 1);
    let heard = world.backend_hears();
    let ids: Vec<ClientId> = heard.iter().map(|(id, ..)| *id).collect();
    assert_eq!(ids, [first.id, large.id, small.id, leaves.id]);

    // The same if the link is full and nobody waits.
    let leaves = world.join();
    world.send(first.conn, &[b'.'; 85]);
    world.backend_says(ClientId::from_u64(5), Flag::Data, b"for nobody");
    world.leave(leaves.conn);
    let gauges = world.edge.gauges();
    assert_eq!((gauges.link_packets, gauges.waiting), (1, 1));
    let heard = world.backend_hears();
    assert_eq!(heard.len(), 2, "the answer found no room");
    assert_eq!(heard[1], failure(leaves.id, "expired"));
}

/// Closes the link after it has been up for `lasts`, and opens the next one. Returns the pause between them.
fn flap(world: &mut World, lasts: Duration) -> Duration {
    world.wait(lasts);
    world.edge.handle_link_closed(world.now, Closed::Eof);
    let from = world.now;
    let due = world.edge.poll_timeout().expect("a pause");
    world.now = due.at;
    world.backend_comes();
    due.at.since(from)
}

fn malformed(count: usize) -> Vec<u8> {
    [1, 0, 0, 0, 7].repeat(count)
}

#[test]
fn a_program_that_is_no_backend_is_doubted_until_it_stays() {
    let greeting = |bytes: &[u8]| bytes.to_vec();
    for (says, closes) in [
        (greeting(b"HTTP/1.1 400 Bad Request\r\n\r\n"), true),
        (greeting(&[0xff; 4]), true),
        (malformed(32), true),
        // Bytes that could be the length of a frame, but are an alert.
        (greeting(&[0x15, 3, 3, 0, 2, 2, 50]), false),
        (malformed(31), false),
        (greeting(b""), false),
    ] {
        let mut world = World::new(|_| {});
        let foreign = closes || says.first() == Some(&0x15);
        world.edge.handle_link_bytes(world.now, &says);
        assert_eq!(world.edge.link_wants_close(), closes, "{says:?}");
        assert!(world.edge.gauges().has_backend(), "so far");
        flap(&mut world, Duration::ZERO);
        assert!(world.edge.gauges().link_is_up);
        assert_eq!(world.edge.gauges().has_backend(), !foreign, "{says:?}");
        if foreign {
            let due = world.edge.poll_timeout().expect("it is believed in time");
            assert_eq!(due.reason, DeadlineReason::LinkBelief);
            assert_eq!(due.at.since(world.now), Duration::from_secs(5));
            world.wait(Duration::from_secs(5));
            assert!(world.edge.gauges().has_backend());
        }
        assert_eq!(world.edge.poll_timeout(), None);
    }
}

#[test]
fn a_good_packet_ends_all_doubt_and_what_is_malformed_afterwards_raises_none() {
    let mut world = World::new(|_| {});
    let one = world.join();
    world.edge.handle_link_bytes(world.now, &[0xff; 4]);
    flap(&mut world, Duration::ZERO);
    assert!(!world.edge.gauges().has_backend());
    world.edge.handle_link_bytes(world.now, &malformed(31));
    world.backend_says(one.id, Flag::Data, b"a word");
    assert!(world.edge.gauges().has_backend());
    world.edge.handle_link_bytes(world.now, &malformed(100));
    assert!(!world.edge.link_wants_close());
    // Then even a loss of framing is the backend's fault.
    world.edge.handle_link_bytes(world.now, &[0xff; 4]);
    assert!(world.edge.link_wants_close());
    flap(&mut world, Duration::ZERO);
    assert!(world.edge.gauges().has_backend());
}

#[test]
fn a_program_that_is_no_backend_is_tried_after_longer_and_longer_pauses_however_long_it_stays() {
    let mut world = World::new(|_| {});
    let mut longest = Duration::ZERO;
    for _ in 0..60 {
        world.wait(Duration::from_secs(20));
        world.edge.handle_link_bytes(world.now, &[0xff; 4]);
        longest = longest.max(flap(&mut world, Duration::ZERO));
    }
    assert!(longest > Duration::from_secs(4) && longest <= Duration::from_secs(5));
}

#[test]
fn links_that_end_soon_again_and_again_are_opened_after_pauses_beyond_the_longest() {
    let (second, mut world) = (Duration::from_secs(1), World::new(|_| {}));
    let longest = |world: &mut World, lasts, links: usize| {
        let pauses = (0..links).map(|_| flap(world, lasts));
        pauses.max().expect("some")
    };
    // A failed attempt means that nobody is there, so no other edge can be using the backend.
    for _ in 0..30 {
        assert!(longest(&mut world, second, 4) <= second * 5);
        world.edge.handle_link_closed(world.now, Closed::Eof);
        world.now = world.edge.poll_timeout().expect("a pause").at;
        world.edge.handle_link_connecting(world.now);
        world.edge.handle_link_closed(world.now, Closed::Error);
        world.now = world.edge.poll_timeout().expect("a pause").at;
        world.backend_comes();
    }
    let contested = longest(&mut world, second, 60);
    assert!(contested > second * 20 && contested <= second * 30);
    // The longest pause is how long a link must last now.
    assert!(longest(&mut world, second * 29, 60) > second * 20);
    flap(&mut world, second * 30);
    assert!(longest(&mut world, second, 4) <= second * 5);
}
