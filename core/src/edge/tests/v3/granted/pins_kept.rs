//! Sessions of several backends outlive their process, and so does a move under way (SPEC 39.5).

use super::pins::{REPIN, SECOND, Two, joined};
use super::*;
use crate::edge::Part;
use crate::edge::trunk::Trunk;
use core::num::NonZeroU8;

const OLD: [&str; 2] = ["a:1", "b:1"];

impl Two {
    /// Ends the process in order, whose backends have the names `before`. Another one goes on, with those of the names `after`.
    fn restart(&mut self, before: &[&str], after: &[&str], each: u8) {
        self.restart_with(before, after, each, |_| {});
    }

    fn restart_with(
        &mut self,
        before: &[&str],
        after: &[&str],
        each: u8,
        change: impl FnOnce(&mut EdgeConfig),
    ) {
        let bytes = self.end(before);
        let snapshot = self.open(bytes, after).expect("it opens");
        self.go_on(&snapshot, before, after, each, change);
    }

    fn end(&mut self, names: &[&str]) -> Vec<u8> {
        self.pump();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut parts: Vec<Part> = Vec::new();
        if names.len() > 1 {
            parts.push(self.worlds[0].edge.backends().save(&names));
        }
        let (now, each) = (self.now, self.each());
        for trunk in &mut self.trunks {
            trunk.keep_sessions();
            for shard in 0..each {
                let shard = ShardId::new(u8::try_from(shard).unwrap());
                trunk.handle_branch_gone(now, shard);
            }
            parts.push(trunk.save(now));
        }
        for backend in &mut self.backends {
            backend.lose_link();
        }
        for world in &mut self.worlds {
            world.edge.keep_sessions();
            parts.push(world.edge.save(now));
        }
        // The order is that in which they have ended.
        parts.reverse();
        crate::v3::watch::begin();
        let run = self.worlds[0].edge.run();
        let keys = &self.worlds[0].edge_keys;
        Snapshot::seal((run, &parts), keys, 0, [1; 32]).unwrap()
    }

    fn open(&self, bytes: Vec<u8>, after: &[&str]) -> Result<Snapshot, SnapshotError> {
        let mut snapshot = Snapshot::open(bytes, &self.worlds[0].edge_keys)?;
        snapshot.name_backends(after.iter().map(|name| (*name).to_owned()));
        Ok(snapshot)
    }

    fn go_on(
        &mut self,
        snapshot: &Snapshot,
        before: &[&str],
        after: &[&str],
        each: u8,
        change: impl FnOnce(&mut EdgeConfig),
    ) {
        let keys = self.worlds[0].edge_keys.clone();
        let mut config = self.worlds[0].edge.config.clone();
        config.backends = u8::try_from(after.len()).unwrap();
        change(&mut config);
        let each = NonZeroU8::new(each).unwrap();
        let (mut trunks, edges) = Trunk::with_backends(&config, &keys, each, [9; 32]);
        self.now = Time::ZERO;
        for trunk in &mut trunks {
            trunk.restore(self.now, snapshot);
        }
        let worlds = (90..).zip(edges).map(|(seed, mut edge)| {
            edge.restore(Time::ZERO, snapshot);
            edge.audit();
            World {
                edge,
                edge_keys: keys.clone(),
                now: Time::ZERO,
                rng: ChaCha20Rng::from_seed([seed; 32]),
                header: b"",
            }
        });
        self.worlds = worlds.collect();
        self.trunks = trunks;
        let mut known: Vec<_> = before.iter().zip(self.backends.drain(..)).collect();
        let backends = after.iter().map(|name| {
            let found = known.iter().position(|(own, _)| *own == name);
            found.map_or_else(|| Backend::new(SECOND), |at| known.remove(at).1)
        });
        self.backends = backends.collect();
    }

    fn sessions(&self) -> Vec<usize> {
        let worlds = self.worlds.iter();
        worlds.map(|world| world.edge.sessions.len()).collect()
    }

    fn goes_on(&self, backend: usize) -> bool {
        let grant = self.backends[backend].grant.expect("it is granted");
        grant.received != u64::MAX
    }

    /// One session of each backend, and one that went from the first to the second.
    fn with_three() -> (Two, [ClientV3; 3]) {
        let mut two = Two::new(|_| {});
        let mut went = joined(&mut two);
        two.move_from(0);
        two.heard(0);
        two.acknowledge(0);
        assert_eq!(two.bring(), 1);
        for world in &mut two.worlds {
            world.edge.handle_move(two.now, 0, false);
        }
        two.worlds[1].come_back3(&mut went).expect("it is there");
        let (first, second) = (two.join3_at(0), two.join3_at(1));
        two.heard(0);
        two.heard(1);
        two.acknowledge(0);
        two.acknowledge(1);
        (two, [first, second, went])
    }
}

#[test]
fn each_session_goes_on_at_its_backend_whatever_the_order_of_these() {
    for after in [OLD, ["b:1", "a:1"]] {
        let (mut two, [mut first, mut second, mut went]) = Two::with_three();
        two.worlds[0].send3(&mut first, b"of first");
        two.worlds[1].send3(&mut second, b"of second");
        two.worlds[1].send3(&mut went, b"of went");
        // The one has it and has not said so, and the other one has sent something.
        assert_eq!(two.heard(0), ["of first"]);
        two.order(1, &packet(went.id(), b"to went"));
        assert_eq!(two.heard(1), ["of second", "of went"]);
        two.restart(&OLD, &after, 1);
        let [a, b] = ["a:1", "b:1"].map(|name| after.iter().position(|own| *own == name).unwrap());
        assert_eq!((two.sessions()[a], two.sessions()[b]), (1, 2));
        two.connect(0);
        two.connect(1);
        assert!(two.goes_on(0) && two.goes_on(1), "behind its counts");
        assert_eq!(two.heard(a), ["AWAY 0"], "nothing again");
        assert_eq!(two.heard(b), ["AWAY 0", "AWAY 0"]);
        two.worlds[a].come_back3(&mut first).expect("it is there");
        two.worlds[b].come_back3(&mut second).expect("it is there");
        let came = two.worlds[b].come_back3(&mut went).expect("it is there");
        assert_eq!(packets(&came[1..]), [(1, b"to went".as_slice())]);
        // A claim finds it from everywhere.
        let (attempt, conn) = two.worlds[a].claim3(&mut went);
        let to = two.worlds[a].edge.client_handover(conn);
        assert_eq!(to, Some(ShardId::new(u8::try_from(b).unwrap())));
        let handover = two.worlds[a].edge.take_handover(two.now, conn).unwrap();
        two.worlds[a].edge.discard_handover(two.now, handover);
        drop(attempt);
        for (at, one, up) in [(a, &mut first, b"up a"), (b, &mut went, b"up b")] {
            two.worlds[at].send3(one, up);
            let heard = two.heard(at);
            assert_eq!(heard.last().unwrap().as_bytes(), up, "{heard:?}");
            two.order(at, &packet(one.id(), b"down"));
            let got = two.worlds[at].hear3(one);
            assert_eq!(packets(&got).last().unwrap().1, b"down");
        }
        // And an id that begins now is none of those before.
        let id = two.join3_at(0).id();
        assert!([&first, &second, &went].iter().all(|one| one.id() != id));
    }
}

#[test]
fn with_another_number_of_shards_each_session_goes_on_at_its_backend() {
    for each in [2, 3] {
        let (mut two, mut clients) = Two::with_three();
        two.worlds[1].send3(&mut clients[2], b"up");
        two.restart(&OLD, &OLD, each);
        two.connect(0);
        two.connect(1);
        assert!(!two.goes_on(0) && !two.goes_on(1), "it begins anew");
        assert_eq!(two.heard(0), ["OWN Away 1 0 0"]);
        let heard = two.heard(1);
        assert_eq!(heard.iter().filter(|it| it.starts_with("OWN")).count(), 2);
        assert_eq!(heard.iter().filter(|it| *it == "up").count(), 1);
        for (one, backend) in clients.iter_mut().zip([0, 1, 1]) {
            let shard = two.worlds[0].edge.home_of(one.id());
            assert_eq!(shard.as_u8() / each, backend);
            let shard = usize::from(shard.as_u8());
            two.worlds[shard].come_back3(one).expect("it is there");
            two.order(backend.into(), &packet(one.id(), b"down"));
            let got = two.worlds[shard].hear3(one);
            assert_eq!(packets(&got).last().unwrap().1, b"down");
        }
    }
}

/// SPEC 39.5(c): whatever point it had reached.
#[test]
fn a_move_under_way_is_completed_by_the_next_process() {
    for case in 0..3 {
        let mut two = Two::new(|_| {});
        let mut one = joined(&mut two);
        two.order(0, &packet(one.id(), b"down 1"));
        two.worlds[0].send3(&mut one, b"up 2");
        two.move_from(0);
        assert_eq!(two.heard(0), ["up 2", "AWAY 101", "ENDED 205 "]);
        two.order(0, &packet(one.id(), b"down 2"));
        if case == 1 {
            two.cut(1);
        }
        if case > 0 {
            // All is acknowledged, and nobody takes it, or it is on its way.
            two.acknowledge(0);
            assert_eq!(two.worlds[0].edge.departing_to().is_some(), case == 2);
        }
        two.restart(&OLD, &OLD, 1);
        assert_eq!(two.sessions(), [1, 0], "{case}");
        let refused = two.worlds[0].come_back3(&mut one).expect_err("it leaves");
        assert_eq!((refused.code, refused.wait_ms), (Code::BUSY, 50));
        two.connect(0);
        two.connect(1);
        assert!(two.goes_on(0), "{case}");
        assert_eq!(two.heard(0), [""; 0], "it knows");
        if case == 0 {
            assert_eq!(two.bring(), 0);
            two.acknowledge(0);
        }
        two.wait(Duration::from_millis(10));
        assert_eq!((two.bring(), two.moved()), (1, 1), "{case}");
        assert_eq!(two.heard(1), ["OWN Away 3 2 0"]);
        let came = two.worlds[1].come_back3(&mut one).expect("it is there");
        let expected = [(1, b"down 1".as_slice()), (2, b"down 2".as_slice())];
        assert_eq!(packets(&came[1..]), expected);
        // The order holds: who joins there leaves, too.
        assert!(two.worlds[0].edge.departures_are_ordered());
        two.worlds[1].send3(&mut one, b"up 3");
        let heard = two.heard(1);
        assert_eq!(heard.last().unwrap(), "up 3");
    }
}

#[test]
fn a_move_under_way_ends_at_a_new_boot_too() {
    let mut two = Two::new(|_| {});
    let mut one = joined(&mut two);
    two.worlds[0].send3(&mut one, b"up 2");
    two.move_from(0);
    two.restart(&OLD, &OLD, 1);
    two.backends[0] = Backend::new([9; 16]);
    two.connect(0);
    two.connect(1);
    assert_eq!(two.heard(0), [""; 0], "it is told of nobody");
    two.wait(Duration::from_millis(10));
    assert_eq!(two.bring(), 1);
    assert_eq!(two.heard(1), ["OWN Away 2 0 0", "up 2"]);
}

/// SPEC 39.5(d)
#[test]
fn sessions_of_a_backend_that_is_not_configured_any_more_go_to_others_after_a_while() {
    for after in [&["b:1", "c:1"][..], &["b:1"], &["c:1", "d:1"]] {
        let (mut two, [mut first, mut second, _]) = Two::with_three();
        two.worlds[0].send3(&mut first, b"up 1");
        two.order(0, &packet(first.id(), b"down 1"));
        two.heard(0);
        two.restart_with(&OLD, after, 1, |config| {
            config.master.repin_after = REPIN;
        });
        for backend in 0..after.len() {
            two.connect(backend);
            two.heard(backend);
        }
        let shard = usize::from(two.worlds[0].edge.home_of(first.id()).as_u8());
        let refused = two.worlds[shard]
            .come_back3(&mut first)
            .expect_err("it may come back");
        assert_eq!(refused.code, Code::BUSY);
        two.wait(REPIN.saturating_sub(two.now.since(Time::ZERO)));
        two.wait(Duration::from_millis(10));
        two.bring();
        let heard: Vec<_> = (0..after.len()).map(|backend| two.heard(backend)).collect();
        let of_first = ["OWN Away 1 1 0", "up 1"].map(str::to_owned);
        let found = heard
            .iter()
            .position(|heard| heard.windows(2).any(|two| two == of_first));
        let backend = found.unwrap_or_else(|| panic!("{after:?}: {heard:?}"));
        let shard = usize::from(two.worlds[0].edge.home_of(first.id()).as_u8());
        assert_eq!(shard, backend);
        let came = two.worlds[shard].come_back3(&mut first).expect("it went");
        assert_eq!(packets(&came[1..]), [(1, b"down 1".as_slice())]);
        if after[0] == "b:1" {
            two.worlds[0].come_back3(&mut second).expect("its own");
        }
    }
}

#[test]
fn without_a_time_they_wait_for_their_backend_to_be_configured_again() {
    for after in [&["b:1", "c:1"][..], &["b:1"]] {
        let (mut two, [mut first, ..]) = Two::with_three();
        two.worlds[0].send3(&mut first, b"up 1");
        two.order(0, &packet(first.id(), b"down 1"));
        two.heard(0);
        two.restart(&OLD, after, 1);
        for backend in 0..after.len() {
            two.connect(backend);
        }
        two.wait(Duration::from_secs(100));
        assert_eq!((two.bring(), two.moved()), (0, 0));
        let shard = usize::from(two.worlds[0].edge.home_of(first.id()).as_u8());
        let refused = two.worlds[shard].come_back3(&mut first).unwrap_err();
        assert_eq!(refused.code, Code::BUSY);
        // Those of an edge with one backend are of the first.
        two.restart(after, &["b:1", "a:1"], 1);
        assert_eq!(two.sessions(), [2, 1]);
        two.connect(1);
        assert_eq!(two.heard(1), ["OWN Away 1 1 0", "up 1"]);
        let came = two.worlds[1].come_back3(&mut first).expect("it is back");
        assert_eq!(packets(&came[1..]), [(1, b"down 1".as_slice())]);
    }
}

#[test]
fn those_of_the_only_backend_are_the_first_ones() {
    let (mut two, _) = Two::with_three();
    two.restart(&OLD, &["b:1"], 1);
    two.restart(&["b:1"], &["b:1", "c:1"], 1);
    // Two of its own, and one whose backend is gone.
    assert_eq!(two.sessions(), [3, 0]);
    two.connect(0);
    assert!(two.goes_on(0));
}

#[test]
fn a_backend_that_never_comes_in_the_next_process_is_given_up() {
    for each in [1, 2] {
        let (mut two, _) = Two::with_three();
        two.restart_with(&OLD, &OLD, each, |config| {
            config.master.repin_after = REPIN;
        });
        two.connect(1);
        two.heard(1);
        two.wait(REPIN);
        two.wait(Duration::from_millis(10));
        assert_eq!((two.bring(), two.moved()), (1, 1), "{each}");
        assert_eq!(two.heard(1), ["OWN Away 1 0 0"]);
    }
}

#[test]
fn a_drain_goes_on() {
    let (mut two, _) = Two::with_three();
    assert!(two.worlds[0].edge.backends().drain(1, true));
    two.restart(&OLD, &["b:1", "a:1"], 1);
    let control = two.worlds[0].edge.backends();
    assert!(control.is_draining(0) && !control.is_draining(1));
}

/// SPEC 23.2(g)
#[test]
fn one_that_went_and_ended_is_told_how() {
    let (mut two, [_, _, mut went]) = Two::with_three();
    let kick = ToEdge::Kick {
        id: went.id(),
        kick: Kick {
            code: Code::KICKED,
            wait_ms: 0,
            text: "",
        },
    };
    two.order(1, &kick);
    two.restart(&OLD, &OLD, 1);
    let shard = usize::from(two.worlds[0].edge.home_of(went.id()).as_u8());
    assert_eq!(shard, 1);
    let told = two.worlds[shard].come_back3(&mut went).unwrap_err();
    assert_eq!(told.code, Code::KICKED);
}

#[test]
fn what_cannot_be_is_refused() {
    let (mut two, _) = Two::with_three();
    let keys = two.worlds[0].edge_keys.clone();
    let run = two.worlds[0].edge.run();
    let control = two.worlds[0].edge.backends();
    let names = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        control.save(&names)
    };
    let long = "x".repeat(1_025);
    let now = two.now;
    let mut opened = |backends: Vec<Part>, shards: usize, trunks: usize| {
        let mut parts = backends;
        parts.extend(
            two.worlds
                .iter_mut()
                .take(shards)
                .map(|world| world.edge.save(now)),
        );
        parts.extend(
            two.trunks
                .iter_mut()
                .rev()
                .take(trunks)
                .map(|trunk| trunk.save(now)),
        );
        crate::v3::watch::begin();
        let bytes = Snapshot::seal((run, &parts), &keys, 0, [1; 32]).unwrap();
        Snapshot::open(bytes, &keys).map(|snapshot| snapshot.sessions())
    };
    assert_eq!(opened(vec![names(&OLD)], 2, 2), Ok(3));
    assert_eq!(opened(vec![names(&OLD)], 2, 0), Ok(3));
    let malformed = Err(SnapshotError::Malformed);
    for (backends, shards, trunks) in [
        (vec![names(&["a:1", "a:1"])], 2, 2),
        (vec![names(&["a:1"])], 2, 1),
        (vec![names(&[])], 2, 1),
        (vec![names(&["a:1", &long])], 2, 2),
        (vec![names(&["a:1", "b:1", "c:1"])], 2, 2),
        (vec![names(&OLD), names(&OLD)], 2, 2),
        (vec![names(&OLD)], 1, 1),
        // A trunk of a backend that is none of them.
        (vec![], 2, 1),
    ] {
        assert_eq!(opened(backends, shards, trunks), malformed);
    }
}

/// SPEC 41.1(b): what the trunk has for a shard is saved as if it had come.
#[cfg(feature = "upgrade")]
#[test]
fn a_move_under_way_is_completed_by_a_process_that_takes_over() {
    for is_acknowledged in [false, true] {
        let mut two = Two::new(|_| {});
        let mut one = joined(&mut two);
        two.worlds[0].send3(&mut one, b"up 2");
        two.move_from(0);
        assert_eq!(two.heard(0), ["up 2", "AWAY 101", "ENDED 205 "]);
        if is_acknowledged {
            let ack = ToEdge::LinkAck(LinkAck {
                acknowledged: two.backends[0].received,
                sent: two.backends[0].sent.sent(),
            });
            let mut bytes = Vec::new();
            ack.encode(&mut bytes);
            two.trunks[0].handle_link_bytes(two.now, &bytes);
        }
        let mut parts = vec![two.worlds[0].edge.backends().save(&OLD.map(str::to_owned))];
        let mut down = Vec::new();
        for trunk in &two.trunks {
            let moving = trunk.save_moving(two.now, &[Vec::new()], false);
            parts.extend(moving.parts);
            down.extend(moving.down);
        }
        for (world, down) in two.worlds.iter().zip(&down) {
            let moving = world.edge.save_moving(two.now, down, |_, _| false, false);
            parts.extend(moving.parts);
        }
        crate::v3::watch::begin();
        let run = two.worlds[0].edge.run();
        let bytes = Snapshot::seal((run, &parts), &two.worlds[0].edge_keys, 0, [1; 32]).unwrap();
        for backend in &mut two.backends {
            backend.lose_link();
        }
        let snapshot = two.open(bytes, &OLD).expect("it opens");
        two.go_on(&snapshot, &OLD, &OLD, 1, |_| {});
        two.connect(0);
        two.connect(1);
        if !is_acknowledged {
            assert_eq!(two.bring(), 0);
            two.acknowledge(0);
        }
        two.wait(Duration::from_millis(10));
        assert_eq!(two.bring(), 1, "{is_acknowledged}");
        assert_eq!(two.heard(0), [""; 0]);
        assert_eq!(two.heard(1), ["OWN Away 3 0 0"]);
        two.worlds[1].come_back3(&mut one).expect("it is there");
    }
}
