//! An edge with several backends: a newcomer is taken to a shard of the backend that it is to have, and stays there (SPEC 45).

use core::num::NonZeroU8;

use super::handover::{claims, hand_over};
use super::*;
use crate::edge::trunk::Trunk;

/// The shards of an edge with two backends and one shard for each. Both backends are up.
fn two(change: impl Fn(&mut EdgeConfig)) -> [World; 2] {
    let mut config = EdgeConfig {
        backends: 2,
        ..EdgeConfig::default()
    };
    config.listener.versions = OfferedVersions::new(&[2, 3]).unwrap();
    change(&mut config);
    let worlds = super::handover::two_of(&config);
    for backend in 0..2 {
        up(&worlds[0], backend, true);
    }
    worlds
}

/// Does what the trunk of this backend does.
fn up(world: &World, backend: u8, is_up: bool) {
    world.edge.shares.backends().tell_link(backend, is_up);
}

/// Says what a newcomer of version 2 says in one read, and more.
fn newcomer(world: &mut World, behind: &[u8]) -> (ConnKey, KeyPair) {
    let conn = world.accept();
    let keys = KeyPair::generate(&mut world.rng);
    let mut bytes = Vec::new();
    Handshake::ProtocolVersion(2).encode(&mut bytes);
    Handshake::PubKey(keys.public().as_bytes()).encode(&mut bytes);
    bytes.extend_from_slice(behind);
    world.edge.handle_client_bytes(world.now, conn, &bytes);
    (conn, keys)
}

fn id_in(heard: &[Vec<u8>]) -> ClientId {
    let Ok(Handshake::ClientId(id)) = Handshake::decode(&heard[1]) else {
        panic!("no id in {heard:?}")
    };
    id
}

#[test]
fn a_newcomer_is_taken_to_the_backend_with_the_fewest() {
    let [mut here, mut there] = two(|_| {});
    let first = here.join();
    assert_eq!(first.id.shard(), ShardId::new(0));
    let mut packet = Vec::new();
    encode_frame(b"hello", &mut packet);
    for cut in 0..=packet.len() {
        let (conn, _) = newcomer(&mut here, &packet[..cut]);
        assert_eq!(here.edge.client_handover(conn), Some(ShardId::new(1)));
        let moved = hand_over(&mut here, &mut there, conn).expect("there is room");
        there
            .edge
            .handle_client_bytes(there.now, moved, &packet[cut..]);
        let heard = there.hear(moved);
        let id = id_in(&heard);
        assert_eq!((id.shard(), heard.len()), (ShardId::new(1), 2), "{cut}");
        assert_eq!(there.backend_hears(), [data(id, "hello")]);
        assert_eq!(here.backend_hears(), []);
        there.backend_says(id, Flag::Kick, b"");
        there.backend_hears();
        there.leave(moved);
    }
}

#[test]
fn a_newcomer_of_version_3_goes_as_well_and_says_where_it_came_from() {
    let [mut here, mut there] =
        two(|config| config.listener.carriage = crate::link::v3::Carriage::Tls);
    let _first = here.join();
    let mut hello = Vec::new();
    let random = [6; 32];
    let joining = crate::v3::client::Joining::begin(random, &[], NO_BOUND, &mut hello);
    let conn = here.begin3(&hello[LENGTH_BYTES..], b"");
    assert_eq!(here.edge.client_handover(conn), Some(ShardId::new(1)));
    let moved = hand_over(&mut here, &mut there, conn).expect("there is room");
    assert_eq!(
        there.edge.conns.live(moved.0.index).carriage(),
        crate::link::v3::Carriage::Tls
    );
    there.give_entropy(moved);
    let heard = bodies(&there.hear_bytes(moved));
    let welcomed = joining.welcome(&heard[0]).expect("it is welcome");
    assert_eq!(welcomed.settings.id.shard(), ShardId::new(1));
}

#[test]
fn a_newcomer_stays_where_it_was_taken_to_and_is_taken_once() {
    let [mut here, mut there] = two(|_| {});
    let _first = here.join();
    let (conn, _) = newcomer(&mut here, b"");
    let on_its_way = here
        .edge
        .take_handover(here.now, conn)
        .expect("it is to go");
    up(&here, 1, false);
    let moved = there
        .edge
        .handle_handover(there.now, on_its_way)
        .expect("there is room");
    assert_eq!(there.edge.client_handover(moved), None);
    assert_eq!(id_in(&there.hear(moved)).shard(), ShardId::new(1));
}

#[test]
fn nobody_new_comes_to_a_backend_that_is_down_and_its_sessions_wait_for_it() {
    let [mut here, mut there] = two(|_| {});
    let mut first = here.join();
    up(&here, 0, false);
    // One that came there goes away from there, and none goes there.
    let (conn, _) = newcomer(&mut here, b"");
    let moved = hand_over(&mut here, &mut there, conn).expect("there is room");
    there.hear(moved);
    for _ in 0..3 {
        assert_eq!(there.join().id.shard(), ShardId::new(1));
    }
    // Its client comes back to it, by way of the other one.
    here.leave(first.conn);
    let conn = claims(&mut there, first.id, b"");
    assert_eq!(there.edge.client_handover(conn), Some(ShardId::new(0)));
    let handover = there.edge.take_handover(there.now, conn);
    let handover = handover.expect("it is to go");
    there.edge.discard_handover(there.now, handover);
    here.come_back(&mut first);
    here.send(first.conn, b"waits");
    let heard = here.backend_hears();
    assert_eq!(heard.last(), Some(&data(first.id, "waits")));
    // While none is up, newcomers wait at the one with the fewest.
    up(&here, 1, false);
    assert_eq!(here.join().id.shard(), ShardId::new(0));
}

#[test]
fn a_backend_that_drains_gets_nobody_new_and_with_all_of_them_draining_nobody_is_let_in() {
    let [mut here, mut there] = two(|_| {});
    let control = here.edge.backends();
    assert!(control.is_up(0) && control.is_up(1) && !control.is_up(2));
    assert!(control.drain(0, true) && !control.drain(2, true));
    assert!(there.edge.backends().is_draining(0));
    let (conn, _) = newcomer(&mut here, b"");
    let moved = hand_over(&mut here, &mut there, conn).expect("there is room");
    there.hear(moved);
    let mut member = there.join();
    control.drain(1, true);
    for world in [&mut here, &mut there] {
        let (conn, _) = newcomer(world, b"");
        assert!(world.is_closed(conn));
        let (_, joining, heard) = world.hello();
        assert!(joining.welcome(&heard[0]).is_err(), "the edge is busy");
    }
    // Who is there stays, and comes back.
    there.leave(member.conn);
    there.come_back(&mut member);
    control.drain(0, false);
    assert_eq!(here.join().id.shard(), ShardId::new(0));
}

#[test]
fn those_under_way_count_until_they_have_come_or_are_lost() {
    let [mut here, mut there] = two(|_| {});
    up(&here, 1, false);
    let _first = here.join();
    let _second = here.join();
    up(&here, 1, true);
    let mut under_way = Vec::new();
    for _ in 0..2 {
        let (conn, _) = newcomer(&mut here, b"");
        under_way.push(
            here.edge
                .take_handover(here.now, conn)
                .expect("it is to go"),
        );
    }
    // Two there, and two on their way: it stays.
    let third = here.join();
    for handover in under_way {
        here.edge.discard_handover(here.now, handover);
    }
    let (conn, _) = newcomer(&mut here, b"");
    assert_eq!(here.edge.client_handover(conn), Some(ShardId::new(1)));
    let moved = hand_over(&mut here, &mut there, conn).expect("there is room");
    there.hear(moved);
    here.leave(third.conn);
    assert_eq!(
        here.edge.gauges().half_open + there.edge.gauges().half_open,
        0
    );
}

#[test]
fn each_backend_has_a_queue_of_its_own_and_its_shards_part_it() {
    let mut config = EdgeConfig::default();
    (config.backends, config.master.channel_capacity) = (3, 100);
    let part = config.for_shard(ShardId::new(4), 6);
    assert_eq!(part.master.channel_capacity, 50);
    // The machine takes any number, and has a bound.
    for (backends, has) in [
        (0, 1),
        (1, 1),
        (MAX_BACKENDS, MAX_BACKENDS),
        (MAX_BACKENDS + 1, MAX_BACKENDS),
    ] {
        config.backends = backends;
        let keys = KeyPair::from_bytes(&[1; 32]).expect("a key");
        let one = NonZeroU8::MIN;
        let (trunks, edges) = Trunk::with_backends(&config, &keys, one, [3; 32]);
        assert_eq!((trunks.len(), edges.len()), (has.into(), has.into()));
    }
}

#[test]
fn there_are_as_many_shards_as_an_id_can_name() {
    let config = EdgeConfig {
        backends: MAX_BACKENDS,
        ..EdgeConfig::default()
    };
    let keys = KeyPair::from_bytes(&[1; 32]).expect("a key");
    let most = NonZeroU8::MAX;
    let (trunks, edges) = Trunk::with_backends(&config, &keys, most, [3; 32]);
    assert_eq!((trunks[0].shards(), edges.len()), (15, 240));
}

#[test]
fn what_a_backend_says_reaches_its_own_shards_alone() {
    let config = EdgeConfig {
        backends: 2,
        ..EdgeConfig::default()
    };
    let keys = KeyPair::from_bytes(&[1; 32]).expect("a key");
    let each = NonZeroU8::new(2).expect("not zero");
    let (mut trunks, mut edges) = Trunk::with_backends(&config, &keys, each, [3; 32]);
    let now = Time::ZERO;
    let control = edges[0].backends();
    for (backend, trunk) in (0..).zip(&mut trunks) {
        assert!(!control.is_up(backend));
        trunk.handle_link_connecting(now);
        trunk.handle_link_connected(now);
        assert!(control.is_up(backend));
        for shard in [0, 1].map(ShardId::new) {
            let edge = &mut edges[usize::from(2 * backend + shard.as_u8())];
            edge.handle_link_connecting(now);
            trunk.handle_branch_opened(now, shard);
            edge.handle_link_connected(now);
            let announced = edge.take_branch_output(now, &mut Batch::new());
            trunk.handle_branch_input(now, shard, announced.expect("that it has announced"));
        }
    }
    // The second one names shards of its own, one of the first, and one that is not there.
    for (shard, goes_to) in [(2, 0), (3, 1), (0, 0), (1, 0), (4, 0), (255, 0)] {
        let mut frame = Vec::new();
        let id = ClientId::from_u64(u64::from(shard as u8) << 56 | 7);
        Tagged {
            id,
            flag: Flag::Data,
            data: b".",
        }
        .encode(&mut frame);
        trunks[1].handle_link_bytes(now, &frame);
        let mut got = [0, 1].map(|shard| {
            let mut packets = 0;
            while let Some(output) =
                trunks[1].take_branch_output(now, ShardId::new(shard), &mut Batch::new())
            {
                packets += output.batch().map_or(0, Batch::frames);
            }
            packets
        });
        assert_eq!(core::mem::take(&mut got[goes_to]), 1, "{shard}");
        assert_eq!(got, [0, 0]);
    }
    trunks[0].handle_link_closed(now, Closed::Eof);
    assert!(!control.is_up(0) && control.is_up(1));
}
