//! When the edge acknowledges, asks, and gives up (SPEC 24.3(d), 25.1).

use super::*;

#[test]
fn packets_are_acknowledged_in_time_with_nothing_else_to_send() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    world.send3(&mut one, b"1");
    world.hear3(&mut one);
    assert_eq!(one.outbox.acked(), 0, "one alone waits");
    world.wait(Duration::from_millis(2_000) - Duration::from_nanos(1));
    world.hear3(&mut one);
    assert_eq!(one.outbox.acked(), 0);
    world.wait(Duration::from_nanos(1));
    world.hear3(&mut one);
    assert_eq!(one.outbox.acked(), 1);
    world.send3(&mut one, b"2");
    world.send3(&mut one, b"3");
    world.wait(Duration::from_millis(250) - Duration::from_nanos(1));
    world.hear3(&mut one);
    assert_eq!(one.outbox.acked(), 1);
    world.wait(Duration::from_nanos(1));
    world.hear3(&mut one);
    assert_eq!(one.outbox.acked(), 3);
}

#[test]
fn a_quarter_of_the_ring_and_a_question_are_acknowledged_at_once() {
    let mut world = world(|config| config.clients.ring_packets = 8);
    let mut one = world.join3();
    world.send3(&mut one, b"1");
    world.hear3(&mut one);
    assert_eq!(one.outbox.acked(), 0);
    world.send3(&mut one, b"2");
    world.hear3(&mut one);
    assert_eq!(one.outbox.acked(), 2, "two of eight");
    world.send3(&mut one, b"3");
    one.channel.outbound().ask_for_ack();
    world.flush(&mut one);
    world.hear3(&mut one);
    assert_eq!(one.outbox.acked(), 3);
}

#[test]
fn a_ping_is_answered_with_its_bytes() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    one.channel.outbound().ping(*b"are you ");
    world.flush(&mut one);
    world.hear3(&mut one);
    assert_eq!(one.channel.take_pong(), Some(*b"are you "));
}

#[test]
fn a_silent_client_is_asked_and_then_taken_for_gone() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    let second = Duration::from_secs(1);
    world.wait(second * 40 - Duration::from_nanos(1));
    assert_eq!(world.hear_bytes(one.conn), b"");
    world.wait(Duration::from_nanos(1));
    assert_eq!(world.hear3(&mut one), [], "a PING");
    world.flush(&mut one);
    // It has answered. Next time it does not.
    world.wait(second * 40);
    assert!(!world.hear_bytes(one.conn).is_empty());
    world.wait(second * 10 - Duration::from_nanos(1));
    assert!(!world.is_closed(one.conn));
    world.wait(Duration::from_nanos(1));
    assert_eq!(world.edge.client_close(one.conn), Some(CloseKind::Abort));
    assert_eq!(world.edge.gauges().away, 1);
}

#[test]
fn a_client_that_is_not_read_for_its_pace_is_not_taken_for_gone() {
    let mut world = world(|config| {
        config.clients.pace.frames = 1;
        config.clients.pace.frames_burst = 10;
        config.clients.pace.patience = Duration::ZERO;
    });
    let mut one = world.join3();
    world.send_items(&mut one, &[Item::Packet(b""); 200]);
    let wait = |world: &mut World, seconds| {
        for _ in 0..seconds {
            world.wait(Duration::from_secs(1));
            world.hear_bytes(one.conn);
        }
    };
    wait(&mut world, 150);
    assert_eq!(world.edge.read_budget(one.conn), 0);
    assert!(!world.is_closed(one.conn));
    // It is read again, and says nothing.
    wait(&mut world, 150);
    let closed = world.edge.counters().closed;
    assert_eq!(closed[CloseReason::Silent as usize], 1);
}

#[test]
fn without_a_keep_alive_nobody_asks() {
    let mut world = world(|config| config.clients.keep_alive = Duration::ZERO);
    let one = world.join3();
    assert_eq!(one.settings.keep_alive_secs, 0);
    world.wait(Duration::from_secs(10_000));
    assert_eq!(world.hear_bytes(one.conn), b"");
    assert!(!world.is_closed(one.conn));
}

#[test]
fn a_record_without_packets_ends_the_time_of_its_frame() {
    let second = Duration::from_secs(1);
    let mut world = world(|config| config.clients.frame_timeout = second * 5);
    let mut one = world.join3();
    for _ in 0..3 {
        one.channel.outbound().put_all(&[Item::AckNow]);
    }
    let bytes = one.channel.wire().to_vec();
    let length = bytes.len() / 3;
    let mut from = 0;
    // At each read the next record has begun.
    for until in [1, length + 1, 2 * length + 1] {
        world.write(one.conn, &bytes[from..until]);
        from = until;
        world.wait(second * 3);
        assert!(!world.is_closed(one.conn), "{until} bytes");
    }
    world.wait(second * 2);
    assert!(world.is_closed(one.conn));
}

#[test]
fn each_record_and_each_packet_counts_for_the_pace() {
    let mut world = world(|config| {
        config.clients.pace.frames = 1;
        config.clients.pace.frames_burst = 10;
    });
    let mut one = world.join3();
    // The Join record was one.
    world.send_items(&mut one, &[Item::Packet(b""); 8]);
    assert_eq!(world.edge.counters().paced, 0);
    world.send_items(&mut one, &[]);
    assert_eq!(world.edge.counters().paced, 1, "an empty record counts");
    assert_eq!(world.edge.read_budget(one.conn), 0);
}
