//! Counters, gauges, budgets and the state of the link.

use super::*;

/// The length of a new client's two handshake packets, and of what it receives.
const JOINING_BYTES: u64 = 6 + 39;
const WELCOME_BYTES: u64 = 39 + 14;

#[test]
fn every_byte_is_counted_once_at_each_end() {
    let mut world = World::new(|_| {});
    let one = world.join();
    let figures = |world: &World| {
        let counters = world.edge.counters();
        [
            counters.client_bytes_in,
            counters.client_bytes_out,
            counters.link_bytes_in,
            counters.link_bytes_out,
        ]
    };
    assert_eq!(figures(&world), [JOINING_BYTES, WELCOME_BYTES, 0, 0]);
    for round in 1..=3 {
        world.send(one.conn, b"four");
        assert_eq!(world.backend_hears(), [data(one.id, "four")]);
        world.backend_says(one.id, Flag::Data, b"to it");
        world.backend_says(one.id, Flag::Data, b"");
        assert_eq!(world.hear(one.conn), [&b"to it"[..], b""]);
        let expected = [
            JOINING_BYTES + round * 8,
            WELCOME_BYTES + round * (9 + 4),
            round * (18 + 13),
            round * 17,
        ];
        assert_eq!(figures(&world), expected);
    }
    let counters = world.edge.counters();
    assert_eq!((counters.packets_up, counters.packets_down), (3, 6));
}

#[test]
fn a_link_that_comes_or_goes_and_an_attempt_that_fails_count_once() {
    let mut world = World::new(|_| {});
    let figures = |world: &World| {
        let counters = world.edge.counters();
        (counters.link_up, counters.link_down)
    };
    assert_eq!(figures(&world), (1, 0));
    assert!(world.edge.gauges().link_is_up);
    world.edge.handle_link_connected(world.now);
    assert_eq!(figures(&world), (1, 0), "it was up");
    world.edge.handle_link_closed(world.now, Closed::Eof);
    world.edge.handle_link_closed(world.now, Closed::Eof);
    assert_eq!(figures(&world), (1, 1), "it was down");
    assert!(!world.edge.gauges().link_is_up);
    world.wait(Duration::from_secs(5));
    world.edge.handle_link_connecting(world.now);
    world.edge.handle_link_closed(world.now, Closed::Error);
    assert_eq!(figures(&world), (1, 2));
    world.wait(Duration::from_secs(5));
    world.backend_comes();
    assert_eq!(figures(&world), (2, 2));
}

#[test]
fn one_attempt_at_the_backend_at_a_time_which_is_given_up_in_time() {
    let mut world = World::new(|_| {});
    assert!(!world.edge.link_wants_connect(world.now), "it is there");
    world.edge.handle_link_closed(world.now, Closed::Eof);
    let retry = world.edge.poll_timeout().expect("a pause");
    assert_eq!(retry.reason, DeadlineReason::LinkRetry);
    let early = Time::from_nanos(retry.at.as_nanos() - 1);
    assert!(!world.edge.link_wants_connect(early));
    assert!(world.edge.link_wants_connect(retry.at));
    world.edge.handle_link_connecting(retry.at);
    assert!(
        !world
            .edge
            .link_wants_connect(retry.at + Duration::from_secs(4))
    );
    let given_up = world.edge.poll_timeout().expect("an attempt is under way");
    assert_eq!(
        (given_up.at, given_up.reason),
        (
            retry.at + Duration::from_secs(5),
            DeadlineReason::LinkConnect
        )
    );
    world
        .edge
        .handle_timeout(Time::from_nanos(given_up.at.as_nanos() - 1));
    assert!(!world.edge.link_wants_close());
    world.edge.handle_timeout(given_up.at);
    assert!(world.edge.link_wants_close());
    assert_eq!(world.edge.poll_timeout(), None, "it is to be closed now");
    world.edge.handle_link_closed(given_up.at, Closed::Asked);
    assert!(!world.edge.link_wants_close());
    let retry = world.edge.poll_timeout().expect("another pause");
    assert_eq!(retry.reason, DeadlineReason::LinkRetry);
    assert!(retry.at <= given_up.at + Duration::from_millis(200));
}

#[test]
fn the_backend_is_read_whoever_waits_and_no_more_once_framing_is_lost() {
    let mut world = World::new(|config| config.master.channel_capacity = 1);
    assert_eq!(world.edge.link_read_budget(), READ_BYTES);
    let one = world.join();
    for body in [b"1", b"2"] {
        world.send(one.conn, body);
    }
    assert_eq!(world.edge.gauges().waiting, 1);
    assert_eq!(world.edge.link_read_budget(), READ_BYTES);
    world.edge.handle_link_bytes(world.now, &[0xff; 4]);
    assert!(world.edge.link_wants_close());
    assert_eq!(world.edge.link_read_budget(), 0);
    assert_eq!(world.edge.link_output().concat(), b"", "nor written");
    let bytes_in = world.edge.counters().link_bytes_in;
    world.backend_says(one.id, Flag::Data, b"too late");
    assert_eq!(world.hear(one.conn), [[0; 0]; 0]);
    assert_eq!(world.edge.counters().link_bytes_in, bytes_in);
    world.edge.handle_link_closed(world.now, Closed::Asked);
    assert_eq!(world.edge.link_read_budget(), 0, "nobody is there");
    world.backend_says(one.id, Flag::Data, b"from nowhere");
    assert_eq!(world.hear(one.conn), [[0; 0]; 0]);
    assert_eq!(world.edge.read_budget(one.conn), 0, "it waits in line");
}

#[test]
fn clients_are_read_while_there_is_no_backend() {
    let mut world = World::new(|_| {});
    let one = world.join();
    assert_eq!(world.edge.read_budget(one.conn), READ_BYTES);
    world.edge.handle_link_closed(world.now, Closed::Error);
    assert_eq!(world.edge.read_budget(one.conn), READ_BYTES);
    world.send(one.conn, b"kept");
    assert_eq!(world.edge.gauges().link_packets, 1);
    world.edge.handle_link_written(world.now, 0);
    assert_eq!(world.edge.counters().link_bytes_out, 0);
}

#[test]
fn a_shard_leaves_what_is_to_be_said_of_the_link_to_the_trunk() {
    let mut world = World::new(|config| config.shards = 2);
    let one = world.join();
    world.send(one.conn, b"up");
    world.backend_says(one.id, Flag::Data, b"down");
    assert_eq!(world.hear(one.conn), [b"down"]);
    assert!(matches!(world.hands_up(), Some(Upward::Announced)));
    assert_eq!(world.edge.link_output(), [b"", b""], "it has no stream");
    assert!(!world.edge.gauges().link_is_up);
    world.edge.handle_link_closed(world.now, Closed::Eof);
    let counters = world.edge.counters();
    assert_eq!((counters.link_up, counters.link_down), (0, 0));
    assert_eq!((counters.link_bytes_in, counters.link_bytes_out), (0, 0));
    assert_eq!((counters.packets_up, counters.packets_down), (1, 1));
}

#[test]
fn the_link_is_bounded_in_bytes_exactly() {
    for (last, waiting) in [(&b"four"[..], 0), (b"five5", 1)] {
        let mut world = World::new(|config| config.master.channel_bytes = 40);
        let one = world.join();
        world.send(one.conn, b"tenletters");
        world.send(one.conn, last);
        assert_eq!(world.edge.gauges().waiting, waiting);
        assert_eq!(
            world.edge.gauges().link_bytes,
            if waiting == 0 { 40 } else { 23 }
        );
    }
}

#[test]
fn a_backend_that_stays_for_a_while_is_tried_again_soon_and_one_that_goes_at_once_is_not() {
    let mut world = World::new(|_| {});
    let mut pause_after = |up: Duration| {
        world.wait(up);
        world.edge.handle_link_closed(world.now, Closed::Eof);
        let retry_at = world.edge.poll_timeout().expect("a pause").at;
        let pause = retry_at.since(world.now);
        world.now = retry_at;
        world.backend_comes();
        pause
    };
    let longest = (0..20).map(|_| pause_after(Duration::ZERO)).max();
    assert!(longest > Some(Duration::from_secs(2)));
    let almost = Duration::from_secs(5) - Duration::from_nanos(1);
    let longest = (0..20).map(|_| pause_after(almost)).max();
    assert!(longest > Some(Duration::from_secs(2)));
    // By now it has been lost too often for five seconds to be enough.
    pause_after(Duration::from_secs(30));
    let longest = (0..20).map(|_| pause_after(Duration::from_secs(5))).max();
    assert!(longest <= Some(Duration::from_millis(100)));
}

#[test]
fn output_of_a_kicked_client_is_held_and_that_of_a_closed_one_is_not() {
    let mut world = World::new(|_| {});
    let one = world.join();
    world.backend_says(one.id, Flag::Data, b"last");
    world.backend_says(one.id, Flag::Kick, b"");
    world.backend_hears();
    assert_eq!(world.edge.gauges().held_bytes, 8);
    world.edge.handle_client_written(world.now, one.conn, 3);
    assert_eq!(world.edge.gauges().held_bytes, 8, "it is half-written");
    world.edge.handle_client_written(world.now, one.conn, 5);
    assert_eq!(world.edge.gauges().held_bytes, 0);

    let stranger = world.accept();
    world.say(stranger, Handshake::ProtocolVersion(2));
    assert_eq!(world.edge.gauges().held_bytes, 39, "the edge's key");
    world.say(stranger, Handshake::Ping);
    assert!(world.is_closed(stranger));
    assert_eq!(world.edge.gauges().held_bytes, 0);
}

/// Returns a histogram with `n` counts.
fn times(n: u64) -> Histogram {
    let mut times = Histogram::default();
    (0..n).for_each(|_| times.record(Duration::from_millis(1)));
    times
}

/// Returns figures of a shard that are all `n`.
fn figures_of(n: u64) -> (Counters, Gauges) {
    let counters = Counters {
        accepted: n,
        rejected: [n; Rejected::ALL.len()],
        closed: [n; CloseReason::ALL.len()],
        joined: n,
        ended: [n; EndReason::ALL.len()],
        challenges: n,
        resumed: n,
        takeovers: n,
        handed_over: n,
        moved: n,
        agreements: n,
        went_away: n,
        client_bytes_in: n,
        client_bytes_out: n,
        paced: n,
        joins_paced: n,
        handshakes_paced: n,
        packets_up: n,
        packets_down: n,
        unknown_client: n,
        malformed_down: n,
        memory_over: n,
        link_up: n,
        link_down: n,
        link_violations: n,
        link_bytes_in: n,
        link_bytes_out: n,
        join_time: times(n),
        resume_time: times(n),
    };
    let count = usize::try_from(n).unwrap();
    let gauges = Gauges {
        connections: count,
        half_open: count,
        sources: count,
        sessions: count,
        away: count,
        ending: count,
        waiting: count,
        link_packets: count,
        link_bytes: count,
        held_bytes: count,
        link_is_up: false,
        link_is_doubted: false,
        link_is_unasked: false,
        link_is_unproven: false,
        #[cfg(feature = "cluster")]
        link_is_displaced: false,
        is_draining: false,
        bans: count,
    };
    (counters, gauges)
}

#[test]
fn figures_of_the_shards_add_up() {
    let ((mut counters, mut gauges), (more, there)) = (figures_of(3), figures_of(4));
    counters.add(&more);
    gauges.add(&there);
    assert_eq!((&counters, gauges), (&figures_of(7).0, figures_of(7).1));
    let backend = Gauges {
        link_is_up: true,
        ..Gauges::default()
    };
    gauges.add(&backend);
    gauges.add(&there);
    assert!(gauges.link_is_up, "it is enough that one has it");
}

#[test]
fn each_end_each_loss_and_each_refusal_is_counted_by_its_reason() {
    let mut world = World::new(|config| config.limits.enforce_sources = Enforce::Off);
    for round in 1..=3 {
        let one = world.join();
        world.leave(one.conn);
        assert_eq!(world.edge.counters().went_away, round);
        world.backend_says(one.id, Flag::Kick, b"");
        let conn = world.accept();
        world.say(conn, Handshake::ProtocolVersion(4));
        assert!(world.is_closed(conn));
        let counters = world.edge.counters();
        assert_eq!(counters.ended[EndReason::Kicked as usize], round);
        assert_eq!(counters.closed[CloseReason::BadVersion as usize], round);
    }
    let counters = world.edge.counters();
    assert_eq!(counters.ended.iter().sum::<u64>(), 3);
    assert_eq!(counters.closed.iter().sum::<u64>(), 3);
}

#[test]
fn its_footprint_is_what_waits_and_a_kibibyte_for_each_connection_and_session() {
    let mut world = World::new(|_| {});
    assert_eq!(world.edge.footprint_bytes(), 0);
    let one = world.join();
    world.accept();
    world.accept();
    assert_eq!(world.edge.footprint_bytes(), (3 + 1) * 1024);
    world.backend_says(one.id, Flag::Data, b"123456");
    assert_eq!(world.edge.footprint_bytes(), (3 + 1) * 1024 + 10);
}

#[test]
fn waiting_bytes_are_summed_over_clients_the_link_and_its_unfinished_frame() {
    let mut world = World::new(|_| {});
    let one = world.join();
    world.send(one.conn, b"up");
    world.backend_says(one.id, Flag::Data, b"down");
    world.edge.handle_link_bytes(world.now, &[200, 0, 0, 0, 1]);
    assert_eq!(world.edge.gauges().held_bytes, 15 + 8 + 5);
}

#[test]
fn the_link_keeps_the_memory_of_a_turn_and_gives_back_what_is_more() {
    let mut world = World::new(|_| {});
    let one = world.join();
    world.send(one.conn, &[0; 500 * 1024]);
    world.backend_hears();
    assert!(world.edge.link_queue.frames.capacity_bytes() >= 500 * 1024);
    world.send(one.conn, &[0; 1 << 20]);
    world.backend_hears();
    assert_eq!(world.edge.link_queue.frames.capacity_bytes(), 0);
}

#[test]
fn without_clients_the_link_keeps_no_memory() {
    for leaves_first in [false, true] {
        let mut world = World::new(|_| {});
        let one = world.join();
        world.send(one.conn, &[0; 500 * 1024]);
        if leaves_first {
            world.leave(one.conn);
            world.backend_hears();
        } else {
            world.backend_hears();
            world.leave(one.conn);
        }
        assert_eq!(world.edge.link_queue.frames.capacity_bytes(), 0);
    }
}

#[test]
fn how_long_a_join_and_a_resume_took_is_counted_from_the_accept() {
    let mut world = World::new(|_| {});
    let mut one = world.join();
    let joined = world.edge.counters().join_time.clone();
    assert_eq!(
        (joined.count(), world.edge.counters().resume_time.count()),
        (1, 0)
    );
    world.leave(one.conn);
    world.come_back(&mut one);
    assert_eq!(world.edge.counters().join_time, joined);
    assert_eq!(world.edge.counters().resume_time.count(), 1);
    let stranger = world.accept();
    world.say(stranger, Handshake::ProtocolVersion(2));
    assert_eq!(
        world.edge.counters().join_time,
        joined,
        "not before it has a session"
    );
}
