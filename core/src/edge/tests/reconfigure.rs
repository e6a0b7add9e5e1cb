//! A change of configuration while the edge runs (SPEC 10.8).

use super::*;

const SECOND: Duration = Duration::from_secs(1);

impl World {
    /// Changes the configuration in effect.
    pub(super) fn reconfigure(&mut self, change: impl FnOnce(&mut EdgeConfig)) {
        let mut config = self.edge.config.clone();
        change(&mut config);
        self.edge.handle_config(self.now, config);
    }

    fn backend_sends(&mut self, member: &Member, packets: usize) {
        for _ in 0..packets {
            self.backend_says(member.id, Flag::Data, b"12345678");
        }
    }

    /// Returns the next deadline and its reason.
    fn due(&mut self) -> Option<(Duration, DeadlineReason)> {
        while self.edge.poll_client().is_some() {}
        let due = self.edge.poll_timeout()?;
        Some((due.at.since(Time::ZERO), due.reason))
    }
}

#[test]
fn a_queue_beyond_its_new_bound_stays_until_the_next_packet() {
    let mut world = World::new(|config| config.clients.channel_capacity = 8);
    let (small, large) = (world.join(), world.join());
    world.backend_sends(&small, 8);
    world.backend_sends(&large, 8);
    world.reconfigure(|config| config.clients.channel_capacity = 9);
    world.backend_sends(&large, 1);
    assert!(world.backend_hears().is_empty());
    world.reconfigure(|config| {
        config.clients.channel_capacity = 4;
        config.clients.channel_bytes = 1;
    });
    assert!(world.backend_hears().is_empty(), "the step ends nothing");
    assert_eq!(world.hear(large.conn).len(), 9, "and drops nothing");
    world.backend_sends(&large, 1);
    world.backend_sends(&small, 1);
    assert_eq!(
        world.backend_hears(),
        [failure(small.id, "send queue full")]
    );
    assert_eq!(world.hear(large.conn).len(), 1, "an empty queue takes one");
}

#[test]
fn packets_kept_for_a_client_that_is_away_are_delivered_whatever_the_new_bound_is() {
    let mut world = World::new(|config| config.clients.missed_packets_buffer_size = 5);
    let mut members: Vec<Member> = (0..3).map(|_| world.join()).collect();
    for member in &members {
        world.hear(member.conn);
        world.leave(member.conn);
        world.backend_sends(member, 5);
    }
    world.reconfigure(|config| config.clients.missed_packets_buffer_size = 2);
    assert_eq!(world.come_back(&mut members[0]).len(), 1 + 5);
    world.backend_hears();
    world.backend_sends(&members[1], 1);
    world.reconfigure(|config| config.clients.missed_packets_buffer_size = 0);
    world.backend_sends(&members[2], 1);
    let ends = [
        failure(members[1].id, "missed packet buffer full"),
        failure(members[2].id, "client is away"),
    ];
    assert_eq!(world.backend_hears(), ends);
}

#[test]
fn a_larger_link_queue_takes_what_waits_in_the_step_and_a_smaller_one_drops_nothing() {
    let mut world = World::new(|config| config.master.channel_capacity = 2);
    let members: Vec<Member> = (0..3).map(|_| world.join()).collect();
    for member in &members {
        for _ in 0..2 {
            world.send(member.conn, b"up");
        }
    }
    assert_eq!(world.edge.gauges().waiting, 2);
    assert_eq!(world.edge.read_budget(members[1].conn), 0);
    world.reconfigure(|config| config.master.channel_capacity = 5);
    let gauges = world.edge.gauges();
    assert_eq!((gauges.link_packets, gauges.waiting), (5, 1));
    assert_ne!(world.edge.read_budget(members[1].conn), 0);
    world.reconfigure(|config| {
        config.master.channel_capacity = 0;
        config.master.channel_bytes = 0;
    });
    assert_eq!(world.edge.gauges().link_packets, 5);
    world.send(members[0].conn, b"up");
    let heard = world.backend_hears();
    assert_eq!(heard.len(), 7, "one by one: {heard:?}");
}

#[test]
fn a_frame_is_held_to_the_limit_in_force_when_more_of_it_comes() {
    let mut world = World::new(|_| {});
    let (one, other) = (world.join(), world.join());
    world.hear(one.conn);
    let begun = [200, 0, 0, 0, 1, 2, 3];
    for member in [&one, &other] {
        world
            .edge
            .handle_client_bytes(world.now, member.conn, &begun);
    }
    world.reconfigure(|config| config.clients.max_frame_bytes = 100);
    assert!(!world.is_closed(one.conn));
    world.edge.handle_client_bytes(world.now, one.conn, &[4]);
    assert!(world.is_closed(one.conn));
    world.reconfigure(|config| config.clients.max_frame_bytes = 200);
    world
        .edge
        .handle_client_bytes(world.now, other.conn, &[0; 197]);
    assert_eq!(world.backend_hears().len(), 1);
    // The same on the link.
    world.edge.handle_link_bytes(world.now, &begun);
    world.reconfigure(|config| config.master.max_frame_bytes = 100);
    assert!(!world.edge.link_wants_close());
    world.edge.handle_link_bytes(world.now, &[4]);
    assert!(world.edge.link_wants_close());
}

#[test]
fn deadlines_that_run_count_from_where_they_began() {
    let mut world = World::new(|config| config.clients.stale_reap_interval = Duration::ZERO);
    let (away, silent, half, deaf) = (world.join(), world.join(), world.accept(), world.join());
    world.hear(deaf.conn);
    world.leave(away.conn);
    world.edge.handle_client_bytes(world.now, silent.conn, &[1]);
    world.backend_sends(&deaf, 1);
    world.now = world.now + SECOND;
    world.edge.handle_timeout(world.now);
    let mut due = |change: fn(&mut EdgeConfig)| {
        world.reconfigure(change);
        world.due().expect("a deadline")
    };
    use DeadlineReason::{Frame, Handshake, Reap, Write};
    assert_eq!(due(|_| {}), (5 * SECOND, Handshake));
    assert_eq!(
        due(|config| config.limits.handshake_timeout = 20 * SECOND),
        (10 * SECOND, Frame)
    );
    assert_eq!(
        due(|config| config.clients.write_timeout = 3 * SECOND),
        (3 * SECOND, Write)
    );
    assert_eq!(
        due(|config| config.clients.stale_timeout = 2 * SECOND),
        (2 * SECOND, Reap)
    );
    // All of them expire at once: they are handled at the next reading of the clock, and not again.
    world.reconfigure(|config| {
        let short = SECOND / 2;
        config.limits.handshake_timeout = short;
        config.clients.frame_timeout = short;
        config.clients.write_timeout = short;
        config.clients.stale_timeout = short;
    });
    assert!(world.backend_hears().is_empty(), "the step ends nothing");
    world.edge.handle_timeout(world.now);
    assert!([half, silent.conn, deaf.conn].map(|conn| world.is_closed(conn)) == [true; 3]);
    // The client that does not read goes away now, the others have ended.
    let ends = [(deaf.id, "write timed out"), (away.id, "expired")];
    assert_eq!(
        world.backend_hears(),
        ends.map(|(id, end)| failure(id, end))
    );
    assert_eq!(world.due(), Some((SECOND + SECOND / 2, Reap)));
}

#[test]
fn a_deadline_that_there_was_none_of_begins_at_the_step_and_one_that_is_given_up_never_comes() {
    let endless = |config: &mut EdgeConfig| {
        config.limits.handshake_timeout = Duration::ZERO;
        config.clients.frame_timeout = Duration::ZERO;
        config.clients.write_timeout = Duration::ZERO;
        config.clients.idle_timeout = Duration::ZERO;
    };
    let finite = |config: &mut EdgeConfig| {
        config.limits.handshake_timeout = 2 * SECOND;
        config.clients.frame_timeout = 3 * SECOND;
        config.clients.write_timeout = 4 * SECOND;
        config.clients.idle_timeout = 5 * SECOND;
    };
    let mut world = World::new(endless);
    let (half, cut, deaf, idle) = (world.accept(), world.join(), world.join(), world.join());
    world.hear(deaf.conn);
    world.edge.handle_client_bytes(world.now, cut.conn, &[1]);
    world.backend_sends(&deaf, 1);
    world.wait(100 * SECOND);
    assert_eq!(world.due(), None);
    let ends = [
        (half, 2, DeadlineReason::Handshake),
        (cut.conn, 3, DeadlineReason::Frame),
        (deaf.conn, 4, DeadlineReason::Write),
        (idle.conn, 5, DeadlineReason::Idle),
    ];
    for (conn, after, reason) in ends {
        world.reconfigure(endless);
        assert_ne!(world.due().map(|due| due.1), Some(reason));
        let begins = world.now;
        world.reconfigure(finite);
        // Connections that ended in earlier rounds are closing. Nothing else is due before this one.
        let at = begins + after * SECOND;
        world.now = Time::from_nanos(at.as_nanos() - 1);
        while world.edge.poll_client().is_some() {}
        world.edge.handle_timeout(world.now);
        assert!(!world.is_closed(conn), "{reason:?} too early");
        world.now = at;
        world.edge.handle_timeout(world.now);
        assert!(world.is_closed(conn), "{reason:?} never");
    }
}

#[test]
fn a_client_that_was_slowed_down_starts_with_a_full_burst_at_another_pace() {
    let mut world = World::new(|config| {
        config.clients.pace.frames = 1;
        config.clients.pace.frames_burst = 1;
        config.clients.frame_timeout = SECOND;
    });
    let one = world.join();
    for _ in 0..1_000 {
        world.send(one.conn, b"");
    }
    assert_eq!(world.edge.read_budget(one.conn), 0);
    // At 1,000 per second its debt would be an hour of the old pace.
    world.reconfigure(|config| config.clients.pace.frames = 1_000);
    assert_ne!(world.edge.read_budget(one.conn), 0);
    assert_eq!(world.due(), None, "nothing runs for it");
    for _ in 0..2 {
        world.send(one.conn, b"");
    }
    assert_eq!(world.edge.read_budget(one.conn), 0);
    world.reconfigure(|config| config.clients.enforce_pace = Enforce::Off);
    assert_ne!(world.edge.read_budget(one.conn), 0);
}

#[test]
fn a_handshake_beyond_the_new_bound_in_bytes_is_closed_by_its_next_byte() {
    let mut world = World::new(|_| {});
    let conn = world.accept();
    world.say(conn, Handshake::ProtocolVersion(2));
    world.reconfigure(|config| config.limits.handshake_max_bytes = 3);
    assert_eq!(world.edge.read_budget(conn), 1);
    world.edge.handle_client_bytes(world.now, conn, &[0]);
    assert!(world.is_closed(conn));
}

#[test]
fn limits_on_who_is_let_in_hold_for_those_who_come_after() {
    let mut world = World::new(offer_2);
    let (first, second) = (world.join(), world.join());
    world.reconfigure(|config| config.limits.max_connections = 1);
    let refused = world.edge.handle_accepted(world.now, SOURCE);
    assert_eq!(refused, Err(Rejected::TooManyConnections));
    world.reconfigure(|config| {
        config.limits.max_connections = 10;
        config.limits.sources.connections = 2;
    });
    let refused = world.edge.handle_accepted(world.now, SOURCE);
    assert_eq!(refused, Err(Rejected::SourceTooMany));
    world.reconfigure(|config| config.limits.sources.stale_sessions = 1);
    world.leave(first.conn);
    world.leave(second.conn);
    assert_eq!(
        world.backend_hears(),
        [failure(first.id, "too many stale clients")]
    );
}

#[test]
fn memory_is_held_to_the_new_bound_with_the_next_packet() {
    let mut world = World::new(|_| {});
    let (large, other) = (world.join(), world.join());
    world.backend_says(large.id, Flag::Data, &[0; 100_000]);
    world.reconfigure(|config| config.limits.max_memory_bytes = 50_000);
    assert!(world.backend_hears().is_empty());
    world.backend_sends(&other, 1);
    assert_eq!(world.backend_hears(), [failure(large.id, "memory limit")]);
}

#[test]
fn the_shard_stays_and_the_pauses_of_the_link_change() {
    let mut world = World::new(|_| {});
    world.reconfigure(|config| {
        config.shard = crate::id::ShardId::new(77);
        config.master.reconnect_min = Duration::ZERO;
        config.master.reconnect_max = Duration::ZERO;
        config.master.announce_all = true;
    });
    let member = world.join();
    assert_eq!(member.id.as_u64() >> 56, 0);
    world.edge.handle_link_closed(world.now, Closed::Eof);
    world.backend_comes();
    let connected = [(member.id, Flag::Resumed, String::new())];
    assert_eq!(world.backend_hears(), connected);
}

/// Bounds at the limits of their types, one after another with everything in use: no panic, no spinning clock, and a correct account.
/// is right.
#[test]
fn any_bounds_after_any_others() {
    let mut world = World::new(|_| {});
    for round in 0..400 {
        let mut pick = |values: [u64; 4]| values[(world.rng.next_u32() % 4) as usize];
        let mut config = EdgeConfig::default();
        for count in [
            &mut config.clients.channel_capacity,
            &mut config.clients.channel_bytes,
            &mut config.clients.missed_packets_buffer_size,
            &mut config.clients.missed_packets_buffer_bytes,
            &mut config.clients.max_stale_clients,
            &mut config.master.channel_capacity,
            &mut config.master.channel_bytes,
            &mut config.limits.max_half_open,
            &mut config.limits.max_memory_bytes,
            &mut config.limits.max_sessions,
            &mut config.limits.handshake_max_bytes,
            &mut config.limits.sources.stale_sessions,
            &mut config.limits.sources.wide_stale_sessions,
            &mut config.limits.sources.wide_connections,
            &mut config.limits.sources.table_size,
        ] {
            *count = usize::try_from(pick([0, 1, 1 << 12, u64::MAX])).unwrap();
        }
        for count in [
            &mut config.clients.max_frame_bytes,
            &mut config.limits.sources.wide_rate,
            &mut config.limits.sources.wide_burst,
            &mut config.clients.pace.frames,
            &mut config.clients.pace.frames_burst,
            &mut config.clients.pace.bytes,
            &mut config.clients.pace.bytes_burst,
            &mut config.master.max_frame_bytes,
        ] {
            *count = u32::try_from(pick([0, 1, 1 << 12, u32::MAX.into()])).unwrap();
        }
        for duration in [
            &mut config.clients.stale_timeout,
            &mut config.clients.stale_reap_interval,
            &mut config.clients.write_timeout,
            &mut config.clients.frame_timeout,
            &mut config.clients.idle_timeout,
            &mut config.clients.pace.patience,
            &mut config.limits.handshake_timeout,
            &mut config.master.reconnect_min,
            &mut config.master.reconnect_max,
        ] {
            *duration = Duration::from_millis(pick([0, 1, 1 << 12, u64::MAX]));
        }
        // Strangers are admitted, since admission is not what this tests.
        config.limits.enforce_accepts = Enforce::Off;
        config.limits.enforce_sources = Enforce::Off;
        world.edge.handle_config(world.now, config);
        for _ in 0..8 {
            let conn = world.accept();
            let key = KeyPair::generate(&mut world.rng).public();
            world.say(conn, Handshake::ProtocolVersion(2));
            if world.rng.next_u32().is_multiple_of(4) {
                continue;
            }
            world.say(conn, Handshake::PubKey(key.as_bytes()));
            world.send(conn, b"packet");
            world
                .edge
                .handle_client_bytes(world.now, conn, &[9, 0, 0, 0]);
            if world.rng.next_u32().is_multiple_of(2) {
                world.leave(conn);
            }
        }
        let sessions = world.edge.sessions.iter();
        let ids: Vec<ClientId> = sessions.map(|(_, session)| session.id).collect();
        for id in ids {
            world.backend_says(id, Flag::Data, b"down");
        }
        if world.edge.link_wants_close() {
            world.edge.handle_link_closed(world.now, Closed::Asked);
        }
        world.now = world.now + Duration::from_millis(500);
        if world.edge.link_wants_connect(world.now) {
            world.backend_comes();
        }
        world.edge.handle_timeout(world.now);
        if round % 3 == 0 {
            world.backend_hears();
        }
        while let Some(conn) = world.edge.poll_client() {
            if world.is_closed(conn) {
                world.leave(conn);
            }
        }
        world.edge.handle_timeout(world.now);
        while world.edge.poll_client().is_some() {}
        if let Some(due) = world.edge.poll_timeout() {
            let waits = due.reason == DeadlineReason::LinkRetry;
            assert!(due.at > world.now || waits, "round {round}: {due:?} again");
        }
        world.edge.audit();
    }
}

#[test]
fn a_client_in_line_is_not_late_by_a_new_deadline_either() {
    let mut world = World::new(|config| config.master.channel_capacity = 1);
    let one = world.join();
    world.send(one.conn, b"1");
    world.send(one.conn, b"2");
    assert_eq!(world.edge.gauges().waiting, 1);
    world.reconfigure(|config| config.clients.idle_timeout = 30 * SECOND);
    world.wait(31 * SECOND);
    assert!(!world.is_closed(one.conn), "it is not read");
    world.backend_hears();
    world.wait(30 * SECOND);
    assert!(world.is_closed(one.conn));
}
