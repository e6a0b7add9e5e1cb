//! Sessions that outlive their process (SPEC 39).

use super::*;
use crate::edge::sessions::Place;
use crate::edge::trunk::Trunk;
use core::num::NonZeroU8;

/// Seals the parts and opens them again, with the key of the world.
pub(super) fn sealed(world: &World, run: [u8; 8], parts: &[Part], name: u8) -> Vec<u8> {
    let keys = &world.edge_keys;
    Snapshot::seal((run, parts), keys, 5_000, [name; 32]).unwrap()
}

impl World {
    /// Ends the edge, and goes on with another machine.
    fn restart(&mut self, name: u8, change: impl FnOnce(&mut EdgeConfig)) {
        let run = self.edge.run();
        let part = self.edge.save(self.now);
        let bytes = sealed(self, run, &[part], name);
        let snapshot = Snapshot::open(bytes, &self.edge_keys).unwrap();
        assert_eq!((snapshot.run(), snapshot.written_at()), (run, 5_000));
        let mut config = self.edge.config.clone();
        change(&mut config);
        let mut edge = Edge::new(config, self.edge_keys.clone(), [name; 32]);
        self.now = Time::ZERO;
        edge.restore(self.now, &snapshot);
        assert_eq!(edge.sessions.len(), snapshot.sessions());
        assert_eq!(edge.run(), run);
        self.edge = edge;
        self.edge.audit();
        self.backend_comes();
    }
}

/// A shard in place of the edge of `world`, as it goes on with these parts.
fn shard(
    world: &mut World,
    parts: &[Part],
    (number, shards): (u8, u8),
    name: u8,
) -> Result<(), SnapshotError> {
    // Each call seals the same again.
    crate::v3::watch::begin();
    let run = world.edge.run();
    let snapshot = Snapshot::open(sealed(world, run, parts, name), &world.edge_keys)?;
    let config = EdgeConfig::default();
    let shards = NonZeroU8::new(shards).expect("there is one");
    let (_, edges) = Trunk::with_shards(&config, &world.edge_keys, shards, [name; 32]);
    let mut edges = edges.into_iter();
    let mut edge = edges.nth(number.into()).expect("it is one of them");
    world.now = Time::ZERO;
    edge.restore(world.now, &snapshot);
    edge.audit();
    world.edge = edge;
    Ok(())
}

#[test]
fn both_versions_come_back_to_another_process_and_miss_nothing() {
    let mut world = world(|_| {});
    let (mut old, mut one) = (world.join(), world.join3());
    world.send(old.conn, b"up of 2");
    world.write_in_vain(&mut one);
    world.backend_hears();
    world.leave(old.conn);
    world.backend_says(old.id, Flag::Data, b"missed");
    world.restart(1, |_| {});
    world.down(&one, b"down 3");
    let came = world.come_back3(&mut one).unwrap();
    assert!(matches!(came[0], Came::Resumed(resumed, _) if resumed.received_up == 1));
    let expected = [(2, &b"down 2"[..]), (3, b"down 3")];
    assert_eq!(packets(&came[1..]), expected);
    world.send3(&mut one, b"up 3");
    let heard = world.come_back(&mut old);
    assert_eq!(heard.last(), Some(&b"missed".to_vec()));
    let heard = world.backend_hears();
    let of_one: Vec<_> = heard.iter().filter(|it| it.0 == one.id()).collect();
    let resumed = (one.id(), Flag::Resumed, String::new());
    let expected = [resumed, data(one.id(), "up 2"), data(one.id(), "up 3")];
    assert_eq!(of_one, expected.iter().collect::<Vec<_>>());
    // Again, and a newcomer gets an id of its own.
    let third = world.join();
    world.restart(2, |_| {});
    let fourth = world.join();
    let mut ids = vec![old.id, one.id(), third.id, fourth.id];
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    world.down(&one, b"down 4");
    let came = world.come_back3(&mut one).unwrap();
    assert_eq!(packets(&came[1..]), [(4, &b"down 4"[..])]);
    assert_eq!(world.edge.counters().resumed, 1);
}

#[test]
fn what_waits_for_the_backend_goes_on() {
    let mut world = world(|config| config.master.channel_capacity = 1);
    let mut one = world.join3();
    world.backend_hears();
    for body in [&b"queued"[..], b"in line"] {
        world.send3(&mut one, body);
    }
    world.restart(1, |_| {});
    let heard = world.backend_hears();
    let texts: Vec<_> = heard.iter().map(|(.., text)| text.as_str()).collect();
    assert_eq!(texts, ["queued", "in line"]);
    world.come_back3(&mut one).unwrap();
    world.send3(&mut one, b"behind");
    let heard = world.backend_hears();
    assert_eq!(heard.last(), Some(&data(one.id(), "behind")));
}

#[test]
fn a_session_that_has_ended_and_waits_to_say_so_is_not_saved() {
    let mut world = world(|config| config.master.channel_capacity = 1);
    let (old, mut one) = (world.join(), world.join3());
    world.backend_hears();
    world.send3(&mut one, b"queued");
    world.send(old.conn, b"in line");
    world.leave(old.conn);
    world.wait(world.edge.config.clients.stale_timeout);
    let places = world.edge.sessions.iter().map(|(_, one)| one.place);
    assert_eq!(places.filter(|place| *place == Place::Ended).count(), 1);
    world.restart(1, |_| {});
    world.come_back3(&mut one).unwrap();
}

#[test]
fn classes_and_ends_go_on() {
    let mut world = world(|_| {});
    let (mut one, mut other) = (world.join3(), world.join3());
    world.leave(one.conn);
    world.leave(other.conn);
    world.backend_says(other.id(), Flag::Kick, b"");
    world.deliver(&one, Delivery::Latest(7), b"old");
    world.deliver(&one, Delivery::Latest(7), b"new");
    world.deliver(&one, Delivery::Volatile, b"gone");
    world.restart(1, |_| {});
    assert_eq!(refusal(world.come_back3(&mut other)), Code::KICKED);
    let came = world.come_back3(&mut one).unwrap();
    assert!(came.contains(&Came::Superseded(1, 1)), "{came:?}");
    let newest = Came::OfClass(Delivery::Latest(7), 2, b"new".to_vec());
    assert!(came.contains(&newest), "{came:?}");
    let session = world.edge.sessions.lookup(one.id()).unwrap();
    let entry = world.edge.sessions.live(session);
    let ledger = entry.numbers().unwrap().of_sender(&entry.outbox);
    assert_eq!((ledger.skipped, ledger.superseded), (1, 1));
    assert!(ledger.is_balanced());
}

#[test]
fn none_makes_room_at_an_end_that_is_saved() {
    for saves in [false, true] {
        let mut world = world(|config| config.clients.max_stale_clients = 2);
        let members: Vec<_> = (0..4).map(|_| world.join3()).collect();
        if saves {
            world.edge.keep_sessions();
        }
        world.edge.handle_shutdown(world.now, Duration::ZERO);
        let kept = if saves { 4 } else { 2 };
        assert_eq!(world.edge.gauges().away, kept);
        world.restart(1, |_| {});
        assert_eq!(world.edge.gauges().away, kept);
        drop(members);
    }
}

#[test]
fn a_smaller_edge_ends_what_it_has_no_memory_for() {
    let mut world = world(|_| {});
    let one = world.join3();
    world.leave(one.conn);
    for _ in 0..4 {
        world.down(&one, &[1; 50_000]);
    }
    world.backend_hears();
    let run = world.edge.run();
    let part = world.edge.save(world.now);
    let snapshot = Snapshot::open(sealed(&world, run, &[part], 1), &world.edge_keys).unwrap();
    let mut config = world.edge.config.clone();
    config.limits.max_memory_bytes = 100_000;
    world.edge = Edge::new(config, world.edge_keys.clone(), [1; 32]);
    world.edge.restore(Time::ZERO, &snapshot);
    world.edge.audit();
    assert_eq!(world.edge.gauges().away, 0);
    world.backend_comes();
    let heard = world.backend_hears();
    assert_eq!(heard.len(), 1);
    assert_eq!((heard[0].0, heard[0].1), (one.id(), Flag::Failure));
}

#[test]
fn shards_may_become_more_or_fewer() {
    let mut world = world(|_| {});
    let run = world.edge.run();
    let (_, edges) = {
        let mut config = EdgeConfig::default();
        config.listener.versions = OfferedVersions::new(&[2, 3]).unwrap();
        let shards = NonZeroU8::new(3).expect("three");
        Trunk::with_shards(&config, &world.edge_keys, shards, [5; 32])
    };
    let run_of_shards = edges[0].run();
    assert_ne!(run, run_of_shards);
    let (mut ones, mut parts) = (Vec::new(), Vec::new());
    for edge in edges {
        world.edge = edge;
        let mut one = world.join3();
        world.send3(&mut one, b"up");
        world.down_of_shard(&one, b"down");
        ones.push(one);
        parts.push(world.edge.save(world.now));
    }
    let shards: Vec<u8> = ones.iter().map(|one| one.id().shard().as_u8()).collect();
    assert_eq!(shards, [0, 1, 2]);
    // (Shards, and where each session is.)
    for (name, shards, homes) in [(1, 1, [0; 3]), (2, 2, [0, 1, 0]), (3, 4, [0, 1, 2])] {
        for (one, home) in ones.iter().zip(homes) {
            shard(&mut world, &parts, (home, shards), name).unwrap();
            let session = world.edge.sessions.lookup(one.id());
            let session = session.expect("it is at home");
            assert_eq!(world.edge.sessions.live(session).outbox.packets(), 1);
            assert!(!world.edge.is_elsewhere(one.id()));
            if shards > 1 {
                let other = u8::from(home == 0);
                shard(&mut world, &parts, (other, shards), name).unwrap();
                assert_eq!(world.edge.sessions.lookup(one.id()), None);
                assert!(world.edge.is_elsewhere(one.id()));
            }
        }
        let frames = (0..shards).map(|number| {
            shard(&mut world, &parts, (number, shards), name).unwrap();
            world.edge.link_queue.frames.packets()
        });
        assert_eq!(frames.sum::<usize>(), 3, "a packet of each");
    }
}

impl World {
    /// Sends a packet to a client of a shard whose branch is closed.
    fn down_of_shard(&mut self, one: &ClientV3, data: &[u8]) {
        let now = self.now;
        self.edge.step(now, |edge, now| {
            edge.deliver(now, one.id(), data, false);
        });
    }
}

#[test]
fn a_snapshot_that_was_cut_or_changed_is_refused() {
    let mut world = world(|_| {});
    let (old, mut one) = (world.join(), world.join3());
    world.send3(&mut one, b"a secret of up");
    world.leave(one.conn);
    world.down(&one, b"a secret of down");
    let run = world.edge.run();
    let part = world.edge.save(world.now);
    let bytes = sealed(&world, run, &[part], 9);
    let open = |bytes: &[u8]| Snapshot::open(bytes.to_vec(), &world.edge_keys);
    assert_eq!(open(&bytes).unwrap().sessions(), 2);
    for secret in [&b"a secret"[..], &old.keys.public().as_bytes()[1..]] {
        assert!(!bytes.windows(secret.len()).any(|it| it == secret));
    }
    for cut in 0..bytes.len() {
        let error = open(&bytes[..cut]).expect_err("it was cut");
        match cut {
            0 => assert_eq!(error, SnapshotError::Foreign),
            _ => assert!(matches!(error, SnapshotError::Torn { .. }), "{cut} {error}"),
        }
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(matches!(open(&longer), Err(SnapshotError::Torn { .. })));
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        let error = open(&changed).expect_err("it was changed");
        match at {
            0..8 => assert_eq!(error, SnapshotError::Foreign),
            8..12 => assert!(matches!(error, SnapshotError::Newer { .. })),
            12..52 => assert_eq!(error, SnapshotError::Sealed),
            52..60 => assert!(matches!(error, SnapshotError::Torn { .. })),
            _ => assert_eq!(error, SnapshotError::Sealed),
        }
    }
    let other = KeyPair::generate(&mut ChaCha20Rng::from_seed([1; 32]));
    let error = Snapshot::open(bytes, &other).expect_err("another edge's");
    assert_eq!(error, SnapshotError::Sealed);
}

#[test]
fn what_opens_and_cannot_be_is_refused() {
    let mut world = world(|_| {});
    let one = world.join3();
    world.leave(one.conn);
    let run = world.edge.run();
    let part = world.edge.save(world.now);
    let open = |parts: &[Part], name| {
        let bytes = sealed(&world, run, parts, name);
        Snapshot::open(bytes, &world.edge_keys).map(|snapshot| snapshot.sessions())
    };
    let copy = || Part(part.0.clone());
    assert_eq!(open(&[copy()], 1), Ok(1));
    // A shard, and a session, that is there twice.
    assert_eq!(open(&[copy(), copy()], 2), Err(SnapshotError::Malformed));
    // Whatever is wrong in it, nothing panics, and a machine goes on with what is taken.
    for at in 0..part.0.len() {
        let mut changed = copy();
        changed.0[at] ^= 0xff;
        let bytes = sealed(&world, run, &[changed], 3 + (at % 200) as u8);
        if let Ok(snapshot) = Snapshot::open(bytes, &world.edge_keys) {
            let mut edge = Edge::new(EdgeConfig::default(), world.edge_keys.clone(), [1; 32]);
            edge.restore(Time::ZERO, &snapshot);
            edge.audit();
        }
        crate::v3::watch::begin();
    }
}

/// SPEC 39.3(a): what an edge of one backend wrote before there could be several.
#[test]
fn a_snapshot_of_the_oldest_format_goes_on_and_one_of_a_later_one_is_refused() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    world.down(&one, b"down 1");
    let (run, keys) = (world.edge.run(), world.edge_keys.clone());
    let part = world.edge.save(world.now);
    let opened = |format| {
        crate::v3::watch::begin();
        let bytes = Snapshot::seal_in(
            format,
            (run, core::slice::from_ref(&part)),
            &keys,
            0,
            [1; 32],
        );
        Snapshot::open(bytes.unwrap(), &keys)
    };
    for format in [0, crate::edge::SNAPSHOT_FORMAT + 1] {
        let refused = opened(format).unwrap_err();
        assert_eq!(refused, SnapshotError::Newer { format });
    }
    let snapshot = opened(1).unwrap();
    let mut edge = Edge::new(world.edge.config.clone(), keys.clone(), [9; 32]);
    world.now = Time::ZERO;
    edge.restore(world.now, &snapshot);
    world.edge = edge;
    world.backend_comes();
    let came = world.come_back3(&mut one).expect("it goes on");
    assert_eq!(packets(&came[1..]), [(1, b"down 1".as_slice())]);
}
