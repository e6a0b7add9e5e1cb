//! What an adapter is asked to do for a connection.

use super::*;
use crate::edge::tests::handover::apart;

/// Takes the bytes that are to be written, and returns their number.
fn written(world: &mut World, conn: ConnKey) -> usize {
    let Duty::Write([first, second]) = world.edge.client_duty(conn) else {
        return 0;
    };
    let bytes = first.len() + second.len();
    assert_ne!(bytes, 0, "a write has bytes");
    world.edge.handle_client_written(world.now, conn, bytes);
    bytes
}

#[test]
fn what_is_written_comes_before_what_is_read() {
    let mut world = World::new(|_| {});
    let conn = world.accept();
    let most = EdgeConfig::default().limits.handshake_max_bytes;
    assert_eq!(world.edge.client_duty(conn), Duty::Read(most));
    world.say(conn, Handshake::ProtocolVersion(2));
    let keys = KeyPair::generate(&mut world.rng);
    world.say(conn, Handshake::PubKey(keys.public().as_bytes()));
    let Duty::Write([control, queued]) = world.edge.client_duty(conn) else {
        panic!("the handshake is to be written")
    };
    let (control, queued) = (control.len(), queued.len());
    assert!(control > 1 && queued == 0);
    // A part is not all.
    world.edge.handle_client_written(world.now, conn, 1);
    assert_eq!(written(&mut world, conn), control - 1);
    assert_eq!(world.edge.client_duty(conn), Duty::Read(READ_BYTES));
}

#[test]
fn the_handshake_and_the_queue_are_one_write() {
    let mut world = World::new(|_| {});
    let member = world.join();
    world.backend_says(member.id, Flag::Data, b"one");
    let frame = LENGTH_BYTES + 3;
    assert_eq!(written(&mut world, member.conn), frame);

    let (conn, sealed) = world.claim(member.id);
    assert_eq!(
        world.edge.client_duty(member.conn),
        Duty::Read(READ_BYTES),
        "the old connection is the session's until the new one has proven itself"
    );
    let answer = world.answer(&member.keys, &sealed);
    world.say(conn, Handshake::ChallengeResponse(&answer));
    world.say(conn, Handshake::Ping);
    assert_eq!(
        world.edge.client_duty(member.conn),
        Duty::Close(CloseKind::Abort)
    );
    world.backend_says(member.id, Flag::Data, b"two");
    let Duty::Write([control, queued]) = world.edge.client_duty(conn) else {
        panic!("the client's Ping is answered")
    };
    assert_eq!(control, [1, 0, 0, 0, 0]);
    assert_eq!(queued.len(), frame);
}

#[test]
fn a_connection_that_waits_for_the_edge_rests() {
    let mut world = World::new(|_| {});
    let member = world.join();
    let conn = world.accept();
    world.say(conn, Handshake::ProtocolVersion(2));
    world.say(conn, Handshake::ClientId(member.id));
    assert_ne!(written(&mut world, conn), 0, "the edge's key");
    assert_eq!(world.edge.client_duty(conn), Duty::Rest);
    world.wait(RESUME_REPLY_DELAY);
    assert_ne!(written(&mut world, conn), 0, "the challenge");
    assert!(matches!(world.edge.client_duty(conn), Duty::Read(_)));
}

#[test]
fn a_kicked_client_is_closed_once_it_has_what_was_queued() {
    let mut world = World::new(|_| {});
    let member = world.join();
    world.backend_says(member.id, Flag::Data, b"the last");
    world.backend_says(member.id, Flag::Kick, b"");
    assert_ne!(written(&mut world, member.conn), 0);
    let close = Duty::Close(CloseKind::Graceful);
    assert_eq!(world.edge.client_duty(member.conn), close);
    let (now, conn) = (world.now, member.conn);
    world.edge.handle_client_closed(now, conn, Closed::Asked);
    assert_eq!(world.edge.client_duty(conn), Duty::Rest, "a dead key");
}

#[test]
fn a_claim_of_another_shards_session_is_handed_over_before_anything_is_written() {
    let mut world = apart(|_| {});
    let conn = world.accept();
    world.say(conn, Handshake::ProtocolVersion(2));
    let elsewhere = ClientId::from_u64(1 << 56);
    let shard = elsewhere.shard();
    assert_ne!(shard, world.edge.config.shard);
    world.say(conn, Handshake::ClientId(elsewhere));
    assert_eq!(world.edge.client_duty(conn), Duty::HandOver(shard));
}
