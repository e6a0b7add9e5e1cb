//! How connections and sessions end (SPEC 25).

use super::*;

#[test]
fn a_kicked_client_gets_what_was_sent_before_and_401() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    world.down(&one, b"why");
    world.backend_says(one.id(), Flag::Kick, b"");
    assert_eq!(world.backend_hears(), [failure(one.id(), "kicked")]);
    let came = world.hear3(&mut one);
    assert_eq!(came[0], Came::Packet(1, b"why".to_vec()));
    assert_eq!(closed(&came), (Code::KICKED, 0));
    // It is told once it ends the stream, so nothing is remembered.
    assert_eq!(world.edge.client_close(one.conn), None);
    world.leave(one.conn);
    assert_eq!(refusal(world.come_back3(&mut one)), Code::GONE);
}

#[test]
fn a_client_that_does_not_end_the_stream_is_closed_in_a_second_and_told_again() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    world.backend_says(one.id(), Flag::Kick, b"");
    world.hear3(&mut one);
    world.wait(KICK_DRAIN_TIMEOUT - Duration::from_nanos(1));
    assert!(!world.is_closed(one.conn));
    world.wait(Duration::from_nanos(1));
    assert_eq!(world.edge.client_close(one.conn), Some(CloseKind::Graceful));
    assert_eq!(refusal(world.come_back3(&mut one)), Code::KICKED);
}

#[test]
fn last_words_are_thrown_at_one_that_goes_on_sending_and_no_longer() {
    let mut world = world(|_| {});
    let one = world.join3();
    world.backend_says(one.id(), Flag::Kick, b"");
    world.write(one.conn, &vec![0; LAST_WORDS_BYTES]);
    assert!(!world.is_closed(one.conn));
    world.write(one.conn, &[0]);
    assert!(world.is_closed(one.conn));
}

#[test]
fn a_goodbye_is_answered_behind_all_that_came_before_it() {
    let mut world = world(|config| config.master.channel_capacity = 1);
    let mut one = world.join3();
    for body in [b"1", b"2"] {
        one.outbox.push(body);
    }
    one.channel.close(
        &goodbye(Code::GOODBYE),
        true,
        &mut one.outbox,
        &mut one.progress,
    );
    world.flush(&mut one);
    assert_eq!(world.hear3(&mut one), [], "its packets are in line");
    let id = one.id();
    assert_eq!(
        world.backend_hears(),
        [data(id, "1"), data(id, "2"), failure(id, "goodbye")]
    );
    let came = world.hear3(&mut one);
    let Some(Came::Closed(code, _, up, _)) = came.last() else {
        panic!("{came:?}");
    };
    assert_eq!((*code, up.acknowledged), (Code::GOODBYE, 2));
    assert_eq!(world.edge.gauges().sessions, 0);
}

#[test]
fn a_goodbye_without_its_answer_is_told_304() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    world.send_items(&mut one, &[Item::Packet(b"1")]);
    world.send_items(&mut one, &[Item::Close(goodbye(Code::GOODBYE))]);
    world
        .edge
        .handle_client_closed(world.now, one.conn, Closed::Error);
    let refused = world.come_back3(&mut one).unwrap_err();
    assert_eq!(refused.code, Code::SAID_GOODBYE);
    assert_eq!(refused.acknowledged_up, 1);
}

#[test]
fn a_goodbye_in_line_is_not_lost_with_its_connection() {
    let mut world = world(|config| config.master.channel_capacity = 1);
    let mut one = world.join3();
    for body in [b"1", b"2"] {
        one.outbox.push(body);
    }
    one.channel.close(
        &goodbye(Code::GOODBYE),
        true,
        &mut one.outbox,
        &mut one.progress,
    );
    world.flush(&mut one);
    world
        .edge
        .handle_client_closed(world.now, one.conn, Closed::Error);
    let id = one.id();
    assert_eq!(
        world.backend_hears(),
        [data(id, "1"), data(id, "2"), failure(id, "goodbye")]
    );
    assert_eq!(refusal(world.come_back3(&mut one)), Code::SAID_GOODBYE);
}

#[test]
fn a_client_that_closes_with_an_error_leaves_its_session_away() {
    for code in [Code::PROTOCOL, Code::TOO_LONG] {
        let mut world = world(|_| {});
        let mut one = world.join3();
        world.send_items(&mut one, &[Item::Close(goodbye(code))]);
        assert_eq!(world.edge.client_close(one.conn), Some(CloseKind::Graceful));
        assert_eq!(world.edge.gauges().away, 1);
        world.leave(one.conn);
        world.come_back3(&mut one).unwrap();
    }
}

#[test]
fn a_client_that_takes_nothing_is_parked_and_loses_nothing() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    world.down(&one, b"kept");
    world.wait(Duration::from_secs(10) - Duration::from_nanos(1));
    assert!(!world.is_closed(one.conn));
    world.wait(Duration::from_nanos(1));
    assert_eq!(world.edge.client_close(one.conn), Some(CloseKind::Abort));
    assert_eq!(world.edge.gauges().away, 1);
    assert_eq!(world.backend_hears(), [], "the backend hears nothing of it");
    let came = world.come_back3(&mut one).unwrap();
    let Came::Resumed(resumed, _) = &came[0] else {
        panic!("{came:?}");
    };
    assert_eq!(resumed.cause, Code::PARKED);
    assert_eq!(packets(&came[1..]), [(1, &b"kept"[..])]);
}

#[test]
fn sealed_bytes_that_nobody_takes_are_counted_and_park_their_client() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    world.down(&one, &[1; 1_000]);
    let bytes = world.edge.client_output(one.conn).concat().len();
    assert!(bytes > 1_000);
    let held = world.edge.gauges().held_bytes;
    assert_eq!(held, 1_004 + bytes, "the packet, and its record");
    world.edge.handle_client_written(world.now, one.conn, 10);
    assert_eq!(world.edge.gauges().held_bytes, held - 10);
    world.wait(Duration::from_secs(10));
    assert!(world.is_closed(one.conn));
    assert_eq!(world.edge.gauges().held_bytes, 1_004);
    let came = world.come_back3(&mut one).unwrap();
    assert_eq!(came.len(), 2);
}

#[test]
fn a_shutdown_sends_clients_away_behind_what_waits_for_them() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    world.down(&one, b"last");
    world
        .edge
        .handle_shutdown(world.now, Duration::from_secs(5));
    assert!(!world.edge.is_finished());
    let came = world.hear3(&mut one);
    assert_eq!(came[0], Came::Packet(1, b"last".to_vec()));
    assert_eq!(closed(&came), (Code::RESTART, 0));
    world.leave(one.conn);
    assert!(world.edge.is_finished());
}

#[test]
fn a_session_that_needs_memory_ends_with_306() {
    let mut world = world(|config| {
        config.limits.max_memory_bytes = 1_000_000;
        config.clients.channel_bytes = 10_000_000;
    });
    let mut one = world.join3();
    let mut other = world.join3();
    one.takes = false;
    other.takes = false;
    let mut came = Vec::new();
    for _ in 0..5 {
        world.down(&one, &[0; 100_000]);
        came.extend(world.hear3(&mut one));
        world.down(&other, &[0; 100_000]);
        came.extend(world.hear3(&mut other));
    }
    let told = |it: &Came| matches!(it, Came::Closed(Code::MEMORY, 0, ..));
    came.extend(world.hear3(&mut one));
    assert!(came.iter().any(told));
    let heard = world.backend_hears();
    assert!(heard.iter().any(|it| it.2 == "memory limit"));
    assert!(world.edge.gauges().held_bytes < 1_000_000);
}

#[test]
fn a_goodbye_in_line_is_not_lost_to_a_takeover() {
    let mut world = world(|config| config.master.channel_capacity = 1);
    let mut one = world.join3();
    for body in [b"1", b"2"] {
        one.outbox.push(body);
    }
    one.channel.close(
        &goodbye(Code::GOODBYE),
        true,
        &mut one.outbox,
        &mut one.progress,
    );
    world.flush(&mut one);
    let old = one.conn;
    assert_eq!(refusal(world.come_back3(&mut one)), Code::SAID_GOODBYE);
    assert!(!world.hear_bytes(old).is_empty(), "it is answered there");
    let id = one.id();
    assert_eq!(
        world.backend_hears(),
        [data(id, "1"), data(id, "2"), failure(id, "goodbye")]
    );
    assert_eq!(world.edge.gauges().sessions, 0);
    assert_eq!(world.edge.counters().takeovers, 0);
}

#[test]
fn nothing_of_a_client_is_shown() {
    let mut world = world(|config| config.master.channel_capacity = 1);
    let mut one = world.join3();
    let secret = [0xe1, 0xe2, 0xe3, 0xe4];
    let shown = |world: &World, one: &ClientV3| {
        let shown = format!("{:?} {:?}", world.edge, one.channel);
        assert!(!shown.contains("225, 226, 227"), "{shown}");
        shown.len()
    };
    // In line, opened and not passed on; a piece of a packet; a packet down that is sealed, and one that is not.
    world.send_items(&mut one, &[Item::Packet(&secret), Item::Packet(&secret)]);
    world.send_items(&mut one, &[Item::Part(&secret)]);
    world.down(&one, &secret);
    assert!(!world.edge.client_output(one.conn).concat().is_empty());
    world.down(&one, &secret);
    assert!(shown(&world, &one) > 0);
    // A token that waits, and an early record that has opened.
    let (attempt, conn) = world.claim3(&mut one);
    one.outbox.push(&secret);
    world.send_early(&mut one, &attempt, conn);
    one.channel.outbound().token(secret.to_vec());
    shown(&world, &one);
}

#[test]
fn clients_that_cannot_be_asked_to_leave_are_closed_at_even_distances() {
    const COUNT: u32 = 4;
    let mut world = world(|_| {});
    let clients: Vec<_> = (0..COUNT).map(|_| world.join()).collect();
    let asked = world.join3();
    let within = Duration::from_secs(5);
    world
        .edge
        .handle_leaving(world.now, GoAwayCode::Restart, within);
    for closed in 0..=COUNT {
        world.wait(within / (COUNT + 1) - Duration::from_nanos(1));
        let gone = clients.iter().filter(|client| world.is_closed(client.conn));
        assert_eq!(gone.count(), closed as usize);
        assert_eq!(world.edge.gauges().away, closed as usize, "they stay");
        assert!(!world.is_closed(asked.conn));
        world.wait(Duration::from_nanos(1));
    }
    // One that joins later, or comes back, is not closed. Nor does a time that is too short for a distance panic.
    let late = world.join();
    world
        .edge
        .handle_leaving(world.now, GoAwayCode::Restart, Duration::ZERO);
    world.wait(Duration::ZERO);
    assert!(world.is_closed(late.conn));
}

#[test]
fn a_client_that_is_to_be_closed_and_is_kicked_before_is_not_looked_at_again() {
    let mut world = world(|_| {});
    let one = world.join();
    world
        .edge
        .handle_leaving(world.now, GoAwayCode::Restart, Duration::from_secs(5));
    world.backend_says(one.id, Flag::Data, b"the last one");
    world.backend_says(one.id, Flag::Kick, b"");
    world.edge.audit();
}

#[test]
fn clients_are_asked_to_leave_and_closed_if_they_do_not() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    let mut other = world.join3();
    world
        .edge
        .handle_leaving(world.now, GoAwayCode::GoingAway, Duration::from_secs(5));
    world.down(&one, b"goes on");
    let came = world.hear3(&mut one);
    let go_away = GoAway {
        code: Code::GOING_AWAY,
        earliest_ms: 0,
        latest_ms: 4_375,
        drain_ms: 5_000,
    };
    let expected = [Came::GoAway(go_away), Came::Packet(1, b"goes on".to_vec())];
    assert_eq!(came, expected);
    // One that leaves is not closed on its new connection.
    world.come_back3(&mut one).unwrap();
    // A newer one takes the place of an older one.
    world.wait(Duration::from_secs(1));
    world
        .edge
        .handle_leaving(world.now, GoAwayCode::Restart, Duration::from_millis(1));
    let came = world.hear3(&mut other);
    let latest: Vec<_> = came
        .iter()
        .map(|came| match came {
            Came::GoAway(go_away) => (go_away.code, go_away.latest_ms, go_away.drain_ms),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        latest,
        [(Code::RESTART, 1, 1)],
        "never later than it is closed"
    );
    world.come_back3(&mut one).unwrap();
    world.down(&other, b"kept");
    world.wait(Duration::from_millis(1));
    let came = world.hear3(&mut other);
    assert_eq!(closed(&came), (Code::RESTART, 0));
    assert_eq!(world.edge.gauges().away, 1);
    world.wait(Duration::from_secs(10));
    assert!(!world.is_closed(one.conn));
    let came = world.come_back3(&mut other).unwrap();
    assert!(matches!(&came[0], Came::Resumed(resumed, _) if resumed.cause == Code::GOODBYE));
    assert_eq!(packets(&came[1..]), [(1, &b"kept"[..])]);
}
