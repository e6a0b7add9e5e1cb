//! A session goes to another backend at an exact point (SPEC 45.6).

use super::*;
use crate::edge::shares::Bound;
use crate::edge::trunk::Trunk;
use core::num::NonZeroU8;

pub(super) const SECOND: [u8; 16] = [2; 16];
/// How long a backend may be down.
pub(super) const REPIN: Duration = Duration::from_secs(3);

/// An edge with two backends, and one shard for each.
pub(super) struct Two {
    pub(super) trunks: Vec<Trunk>,
    pub(super) worlds: Vec<World>,
    pub(super) backends: Vec<Backend>,
    pub(super) now: Time,
}

impl Two {
    pub(super) fn new(change: impl FnOnce(&mut EdgeConfig)) -> Self {
        Two::with_shards(1, change)
    }

    pub(super) fn with_shards(each: u8, change: impl FnOnce(&mut EdgeConfig)) -> Self {
        crate::v3::watch::begin();
        let mut rng = ChaCha20Rng::from_seed([7; 32]);
        let keys = KeyPair::generate(&mut rng);
        let mut config = EdgeConfig {
            backends: 2,
            ..EdgeConfig::default()
        };
        config.listener.versions = OfferedVersions::new(&[2, 3]).unwrap();
        config.master.protocol = LinkProtocol::V3;
        change(&mut config);
        let each = NonZeroU8::new(each).unwrap();
        let (trunks, edges) = Trunk::with_backends(&config, &keys, each, [3; 32]);
        let worlds = (8..).zip(edges).map(|(seed, edge)| World {
            edge,
            edge_keys: keys.clone(),
            now: Time::ZERO,
            rng: ChaCha20Rng::from_seed([seed; 32]),
            header: b"",
        });
        let mut two = Two {
            trunks,
            worlds: worlds.collect(),
            backends: vec![Backend::new(BOOT), Backend::new(SECOND)],
            now: Time::ZERO,
        };
        two.connect(0);
        two.connect(1);
        two
    }

    pub(super) fn each(&self) -> usize {
        self.worlds.len() / self.trunks.len()
    }

    pub(super) fn connect(&mut self, backend: usize) {
        while !self.trunks[backend].link_wants_connect(self.now) {
            self.wait(Duration::from_millis(100));
        }
        self.trunks[backend].handle_link_connecting(self.now);
        self.trunks[backend].handle_link_connected(self.now);
        let ask = self.backends[backend].ask();
        self.trunks[backend].handle_link_bytes(self.now, &ask);
        self.exchange();
        assert!(self.backends[backend].grant.is_some(), "it is granted");
    }

    pub(super) fn cut(&mut self, backend: usize) {
        self.trunks[backend].handle_link_closed(self.now, Closed::Error);
        self.backends[backend].lose_link();
        self.pump();
    }

    /// The process of a backend ends, and another one takes its place.
    pub(super) fn replace(&mut self, backend: usize, boot: u8) {
        self.cut(backend);
        self.backends[backend] = Backend::new([boot; 16]);
        self.connect(backend);
    }

    pub(super) fn wait(&mut self, duration: Duration) {
        self.now = self.now + duration;
        for trunk in &mut self.trunks {
            trunk.handle_timeout(self.now);
        }
        for world in &mut self.worlds {
            world.wait(duration);
        }
        self.exchange();
    }

    pub(super) fn pump(&mut self) {
        let (now, each) = (self.now, self.each());
        for _ in 0..20 {
            for (place, world) in self.worlds.iter_mut().enumerate() {
                let trunk = &mut self.trunks[place / each];
                let shard = ShardId::new(u8::try_from(place % each).unwrap());
                if trunk.branch_accepts(shard) {
                    if world.edge.link_wants_connect(now) {
                        world.edge.link_up(now);
                    }
                    trunk.handle_branch_opened(now, shard);
                }
                while let Some(input) = trunk.take_branch_output(now, shard, &mut Batch::new()) {
                    world.edge.handle_branch_input(now, &input);
                    world.edge.audit();
                }
                while trunk.branch_takes(shard)
                    && let Some(output) = world.hands_up()
                {
                    trunk.handle_branch_input(now, shard, output);
                }
                if !world.edge.branch_has_output() {
                    trunk.handle_branch_idle(now, shard);
                }
                if trunk.branch_wants_close(shard) {
                    trunk.handle_branch_closed(now, shard);
                    world.edge.handle_link_closed(now, Closed::Eof);
                }
            }
        }
    }

    /// Brings sessions on their way to where they go.
    pub(super) fn bring(&mut self) -> usize {
        let mut brought = 0;
        for place in 0..self.worlds.len() {
            while let Some(to) = self.worlds[place].edge.departing_to() {
                let departing = self.worlds[place].edge.take_departing(self.now).unwrap();
                assert_eq!(departing.shard(), to);
                let there = &mut self.worlds[usize::from(to.as_u8())].edge;
                there.handle_arriving(self.now, departing);
                there.audit();
                brought += 1;
            }
        }
        brought
    }

    pub(super) fn exchange(&mut self) {
        loop {
            self.pump();
            let mut went = false;
            for (backend, trunk) in self.backends.iter_mut().zip(&mut self.trunks) {
                let bytes = trunk.link_output().concat();
                trunk.handle_link_written(self.now, bytes.len());
                backend.read(&bytes);
                let down = backend.frames.output().to_vec();
                let goes = backend.grant.is_some() && !down.is_empty();
                if goes {
                    trunk.handle_link_bytes(self.now, &down);
                    backend.sent.advance(down.len(), &mut backend.frames);
                }
                went |= goes || !bytes.is_empty();
            }
            if !went {
                return;
            }
        }
    }

    pub(super) fn order(&mut self, backend: usize, order: &ToEdge<'_>) {
        self.backends[backend].queue(order);
        self.exchange();
    }

    pub(super) fn acknowledge(&mut self, backend: usize) {
        self.exchange();
        let ack = ToEdge::LinkAck(LinkAck {
            acknowledged: self.backends[backend].received,
            sent: self.backends[backend].sent.sent(),
        });
        let mut bytes = Vec::new();
        ack.encode(&mut bytes);
        self.trunks[backend].handle_link_bytes(self.now, &bytes);
        self.pump();
    }

    pub(super) fn heard(&mut self, backend: usize) -> Vec<String> {
        self.exchange();
        heard(&mut self.backends[backend])
    }

    /// Orders what an operator does, for all shards.
    pub(super) fn move_from(&mut self, backend: u8) {
        for world in &mut self.worlds {
            world.edge.handle_move(self.now, backend, true);
            world.edge.audit();
        }
    }

    /// Lets somebody join at this shard.
    pub(super) fn join3_at(&mut self, shard: usize) -> ClientV3 {
        let control = self.worlds[0].edge.backends();
        let other = u8::from(shard < self.each());
        assert!(control.drain(other, true));
        let one = self.worlds[shard].join3();
        assert!(control.drain(other, false));
        one
    }

    pub(super) fn moved(&self) -> u64 {
        let moved = |world: &World| world.edge.counters().moved;
        self.worlds.iter().map(moved).sum()
    }
}

/// Joins at the first shard, and lets the backend have what it says.
pub(super) fn joined(two: &mut Two) -> ClientV3 {
    let mut one = two.join3_at(0);
    two.worlds[0].send3(&mut one, b"up 1");
    assert_eq!(two.heard(0), ["JOINED", "up 1"]);
    two.acknowledge(0);
    two.worlds[0].hear3(&mut one);
    one
}

#[test]
fn a_session_goes_on_at_another_backend_where_the_first_one_ended() {
    let mut two = Two::new(|_| {});
    let mut one = joined(&mut two);
    two.order(0, &packet(one.id(), b"down 1"));
    two.worlds[0].hear3(&mut one);
    two.worlds[0].acknowledge(&mut one);
    two.wait(Duration::from_millis(20));
    two.acknowledge(0);
    two.heard(0);
    // On its way when it begins.
    two.worlds[0].send3(&mut one, b"up 2");
    two.move_from(0);
    assert!(
        two.worlds[0].is_closed(one.conn),
        "its client is to come back"
    );
    assert_eq!(two.heard(0), ["up 2", "AWAY 101", "ENDED 205 "]);
    assert_eq!(two.bring(), 0, "not before all of it is acknowledged");
    // What the backend says before it knows counts.
    two.order(0, &packet(one.id(), b"down 2"));
    let refused = two.worlds[0].come_back3(&mut one).expect_err("it leaves");
    assert_eq!((refused.code, refused.wait_ms), (Code::BUSY, 50));
    two.acknowledge(0);
    // Whatever comes now is of nobody.
    two.order(0, &packet(one.id(), b"too late"));
    let refused = two.worlds[1].come_back3(&mut one).expect_err("it comes");
    assert_eq!(refused.code, Code::BUSY);
    assert_eq!((two.bring(), two.moved()), (1, 1));
    assert_eq!(two.heard(1), ["OWN Away 3 2 1"]);
    assert_eq!(two.heard(0), [""; 0]);
    // A claim goes there from everywhere.
    let (attempt, conn) = two.worlds[0].claim3(&mut one);
    assert_eq!(
        two.worlds[0].edge.client_handover(conn),
        Some(ShardId::new(1))
    );
    let handover = two.worlds[0].edge.take_handover(two.now, conn).unwrap();
    drop(attempt);
    two.worlds[0].edge.discard_handover(two.now, handover);
    one.outbox.push(b"up 3");
    let came = two.worlds[1].come_back3(&mut one).expect("it is there");
    assert_eq!(packets(&came[1..]), [(2, b"down 2".as_slice())]);
    let heard = two.heard(1);
    assert!(heard[0].starts_with("RESUMED"), "{heard:?}");
    assert_eq!(heard[1..], ["up 3"]);
    // The new backend reaches it though the id names a shard of the other one.
    two.order(1, &packet(one.id(), b"down 3"));
    assert_eq!(
        packets(&two.worlds[1].hear3(&mut one)),
        [(3, b"down 3".as_slice())]
    );
    two.order(0, &packet(one.id(), b"of the old one"));
    assert_eq!(two.worlds[1].hear3(&mut one), []);
}

#[test]
fn it_comes_back_to_the_shard_in_its_id() {
    let mut two = Two::with_shards(2, |_| {});
    let mut one = joined(&mut two);
    two.join3_at(1);
    two.join3_at(1);
    let first = one.id().shard().as_u8();
    two.move_from(0);
    two.heard(0);
    two.acknowledge(0);
    assert_eq!(two.bring(), 3);
    for world in &mut two.worlds {
        world.edge.handle_move(two.now, 0, false);
    }
    two.heard(1);
    two.acknowledge(1);
    two.move_from(1);
    two.heard(1);
    two.acknowledge(1);
    assert_eq!(two.bring(), 3);
    assert_eq!(two.moved(), 6);
    let heard = two.heard(0);
    assert_eq!(heard.iter().filter(|one| one.starts_with("OWN")).count(), 3);
    assert!(!two.worlds[0].edge.shares.has_pins());
    two.worlds[usize::from(first)]
        .come_back3(&mut one)
        .expect("it is at home");
    two.order(0, &packet(one.id(), b"down 1"));
    assert_eq!(
        packets(&two.worlds[0].hear3(&mut one)),
        [(1, b"down 1".as_slice())]
    );
}

#[test]
fn one_of_version_2_goes_once_it_is_away() {
    let mut two = Two::new(|_| {});
    let mut one = two.worlds[0].join();
    two.worlds[0].send(one.conn, b"up 1");
    two.move_from(0);
    assert_eq!(two.heard(0), ["JOINED", "up 1"]);
    assert!(!two.worlds[0].is_closed(one.conn));
    two.worlds[0].leave(one.conn);
    two.wait(Duration::from_secs(1));
    assert_eq!(two.heard(0), ["AWAY 0", "ENDED 205 "]);
    two.order(0, &packet(one.id, b"down 1"));
    // A claim in between is closed without an answer, so that its client tries again.
    let conn = super::super::super::handover::claims(&mut two.worlds[0], one.id, b"");
    assert_eq!(
        two.worlds[0].edge.client_close(conn),
        Some(CloseKind::Abort)
    );
    two.acknowledge(0);
    assert_eq!(two.bring(), 1);
    assert_eq!(two.heard(1), ["OWN Away 2 1 0"]);
    two.worlds[1].come_back(&mut one);
    let heard = two.heard(1);
    assert!(heard[0].starts_with("RESUMED 1 1"), "{heard:?}");
    two.order(1, &packet(one.id, b"down 2"));
    assert_eq!(two.worlds[1].hear(one.conn), [b"down 2"]);
}

/// SPEC 35.3: its OWN has told that it is away.
#[test]
fn one_of_version_2_that_is_gone_before_its_ping_is_not_told_away_again() {
    let mut two = Two::new(|_| {});
    let one = two.worlds[0].join();
    two.move_from(0);
    two.worlds[0].leave(one.conn);
    two.wait(Duration::from_secs(1));
    assert_eq!(two.heard(0), ["JOINED", "AWAY 0", "ENDED 205 "]);
    two.acknowledge(0);
    assert_eq!(two.bring(), 1);
    let heard = two.heard(1);
    assert!(heard[0].starts_with("OWN Away"), "{heard:?}");
    let (conn, sealed) = two.worlds[1].claim(one.id);
    let answer = two.worlds[1].answer(&one.keys, &sealed);
    two.worlds[1].say(conn, Handshake::ChallengeResponse(&answer));
    two.worlds[1].leave(conn);
    assert_eq!(two.heard(1), [""; 0]);
}

#[test]
fn a_claim_of_version_2_that_is_proven_too_late_is_closed_without_an_answer() {
    let mut two = Two::new(|_| {});
    let one = two.worlds[0].join();
    two.worlds[0].leave(one.conn);
    let (conn, sealed) = two.worlds[0].claim(one.id);
    two.heard(0);
    two.move_from(0);
    two.heard(0);
    for _ in 0..2 {
        let answer = two.worlds[0].answer(&one.keys, &sealed);
        two.worlds[0].say(conn, Handshake::ChallengeResponse(&answer));
        assert_eq!(
            two.worlds[0].edge.client_close(conn),
            Some(CloseKind::Abort)
        );
        two.acknowledge(0);
    }
}

#[test]
fn a_backend_that_is_down_for_so_long_is_given_up_with_what_it_has_not_acknowledged() {
    let mut two = Two::new(|config| config.master.repin_after = REPIN);
    let mut one = joined(&mut two);
    two.order(0, &packet(one.id(), b"down 1"));
    two.worlds[0].send3(&mut one, b"up 2");
    two.heard(0);
    two.cut(0);
    two.worlds[0].send3(&mut one, b"up 3");
    let mut young = two.join3_at(0);
    two.wait(REPIN.saturating_sub(Duration::from_millis(1)));
    assert_eq!(two.bring(), 0, "it may come back");
    two.wait(Duration::from_millis(1));
    assert_eq!(two.bring(), 2);
    let heard = two.heard(1);
    let (told, other): (Vec<_>, Vec<_>) = (heard[..3].to_vec(), heard[3..].to_vec());
    let of_one = ["OWN Away 2 1 0", "up 2", "up 3"].map(str::to_owned);
    let of_young = ["OWN Away 1 0 0", "JOINED"].map(str::to_owned);
    let is_first = told == of_one && other == of_young;
    assert!(
        is_first || heard == [&of_young[..], &of_one].concat(),
        "{heard:?}"
    );
    two.acknowledge(1);
    let came = two.worlds[1].come_back3(&mut one).expect("it is there");
    assert_eq!(packets(&came[1..]), [(1, b"down 1".as_slice())]);
    two.worlds[1].come_back3(&mut young).expect("it is there");
    // The one that was given up comes back, and has none of them: its counts begin again.
    two.connect(0);
    let grant = two.backends[0].grant.unwrap();
    assert_eq!((grant.sessions, grant.received), (0, u64::MAX));
    assert_eq!(two.heard(0), [""; 0]);
}

#[test]
fn without_a_time_they_wait_for_ever() {
    let mut two = Two::new(|_| {});
    joined(&mut two);
    two.cut(0);
    two.wait(Duration::from_secs(200));
    assert_eq!(two.bring(), 0);
}

#[test]
fn a_new_boot_is_told_nothing_of_who_leaves_and_what_waits_goes_along() {
    let mut two = Two::new(|_| {});
    let mut one = joined(&mut two);
    two.worlds[0].send3(&mut one, b"up 2");
    two.move_from(0);
    two.replace(0, 9);
    assert_eq!(two.backends[0].grant.unwrap().sessions, 0);
    assert_eq!(two.heard(0), [""; 0]);
    assert_eq!(two.bring(), 1);
    assert_eq!(two.heard(1), ["OWN Away 2 0 0", "up 2"]);
}

#[test]
fn one_that_nobody_can_take_waits_until_somebody_can() {
    let mut two = Two::new(|_| {});
    let mut one = joined(&mut two);
    two.move_from(0);
    two.heard(0);
    two.cut(1);
    two.acknowledge(0);
    two.wait(Duration::from_millis(100));
    assert_eq!(two.bring(), 0);
    assert_eq!(
        two.worlds[0].come_back3(&mut one).unwrap_err().code,
        Code::BUSY
    );
    two.connect(1);
    two.wait(Duration::from_millis(10));
    assert_eq!(two.bring(), 1);
    assert_eq!(two.heard(1), ["OWN Away 2 0 0"]);
}

#[test]
fn nobody_leaves_for_a_backend_that_drains_or_lacks_features_or_is_down() {
    for case in 0..3 {
        let mut two = Two::new(|_| {});
        let one = joined(&mut two);
        match case {
            0 => assert!(two.worlds[0].edge.backends().drain(1, true)),
            1 => two.cut(1),
            _ => {
                two.cut(1);
                two.backends[1] = Backend::new([8; 16]);
                two.backends[1].asks = [Feature::Notices, Feature::LinkAcks].into_iter().collect();
                two.connect(1);
            }
        }
        two.move_from(0);
        two.wait(Duration::from_secs(2));
        assert!(!two.worlds[0].is_closed(one.conn), "{case}");
        assert_eq!(two.heard(0), [""; 0]);
    }
}

#[test]
fn one_that_ends_while_it_leaves_is_told_to_nobody_else() {
    let mut two = Two::new(|_| {});
    let mut one = joined(&mut two);
    two.move_from(0);
    two.heard(0);
    let kick = Kick {
        code: Code::KICKED,
        wait_ms: 0,
        text: "",
    };
    two.order(0, &ToEdge::Kick { id: one.id(), kick });
    two.acknowledge(0);
    assert_eq!((two.bring(), two.heard(0)), (0, vec![]));
    assert_eq!(
        two.worlds[0].come_back3(&mut one).unwrap_err().code,
        Code::KICKED
    );
}

#[test]
fn how_one_ended_that_had_moved_is_told_where_it_ended() {
    let mut two = Two::new(|_| {});
    let mut one = joined(&mut two);
    two.move_from(0);
    two.heard(0);
    two.acknowledge(0);
    two.bring();
    two.heard(1);
    let kick = Kick {
        code: Code::KICKED,
        wait_ms: 0,
        text: "",
    };
    two.order(1, &ToEdge::Kick { id: one.id(), kick });
    let conn = two.worlds[0].claim3(&mut one).1;
    assert_eq!(
        two.worlds[0].edge.client_handover(conn),
        Some(ShardId::new(1))
    );
    assert_eq!(
        two.worlds[1].come_back3(&mut one).unwrap_err().code,
        Code::KICKED
    );
}

#[test]
fn so_many_leave_at_a_time_and_the_rest_stays_connected() {
    let most = crate::edge::MOST_DEPARTING;
    let mut two = Two::new(|config| {
        config.limits.enforce_accepts = Enforce::Off;
        config.limits.enforce_sources = Enforce::Off;
    });
    let all: Vec<_> = (0..most + 2).map(|_| two.join3_at(0)).collect();
    two.exchange();
    two.acknowledge(0);
    two.heard(0);
    two.move_from(0);
    two.wait(Duration::from_secs(1));
    let closed = |two: &mut Two| {
        let world = &mut two.worlds[0];
        all.iter()
            .filter(|one| world.edge.client_close(one.conn).is_some())
            .count()
    };
    assert_eq!(closed(&mut two), most);
    // Those that nobody fetches count as well.
    two.acknowledge(0);
    two.wait(Duration::from_secs(1));
    assert_eq!(closed(&mut two), most);
    assert_eq!(two.bring(), most);
    two.wait(Duration::from_millis(10));
    assert_eq!(closed(&mut two), most + 2);
    two.acknowledge(0);
    assert_eq!(two.bring(), 2);
}

#[test]
fn who_leaves_takes_no_place_of_those_that_are_away() {
    let mut two = Two::new(|config| config.clients.max_stale_clients = 8);
    let all: Vec<_> = (0..8).map(|_| two.join3_at(0)).collect();
    two.exchange();
    two.acknowledge(0);
    two.move_from(0);
    for _ in 0..8 {
        two.heard(0);
        two.acknowledge(0);
        two.bring();
        two.wait(Duration::from_millis(20));
    }
    assert_eq!(two.moved(), 8);
    let ended: u64 = two
        .worlds
        .iter()
        .flat_map(|world| world.edge.counters().ended)
        .sum();
    assert_eq!((ended, all.len()), (0, 8));
}

#[test]
fn a_packet_that_the_other_backend_does_not_take_ends_its_session() {
    let mut two = Two::new(|config| config.master.repin_after = REPIN);
    two.cut(1);
    two.backends[1].longest_body = 60;
    two.connect(1);
    let mut one = joined(&mut two);
    two.cut(0);
    two.worlds[0].send3(&mut one, &[b'x'; 100]);
    two.wait(REPIN);
    assert_eq!(two.bring(), 1);
    assert_eq!(
        two.heard(1),
        ["OWN Away 2 0 0", "ENDED 404 packet too long"]
    );
}

#[test]
fn groups_and_pauses_of_a_backend_end_with_it_and_the_note_goes_along() {
    let mut two = Two::new(|_| {});
    let mut one = joined(&mut two);
    let ids = [one.id()];
    let add = ToEdge::GroupAdd {
        group: GROUP,
        ids: Ids::from(&ids[..]),
    };
    two.order(0, &add);
    two.order(0, &ToEdge::Pause { id: one.id() });
    let policy = Policy {
        window_s: 0,
        ring_bytes: 0,
        overflow: Overflow::End,
        note: "of the first",
    };
    two.order(
        0,
        &ToEdge::Policy {
            id: one.id(),
            policy,
        },
    );
    two.move_from(0);
    two.heard(0);
    two.acknowledge(0);
    two.bring();
    assert!(two.worlds[0].edge.groups().is_empty() && two.worlds[1].edge.groups().is_empty());
    two.exchange();
    let told = two.backends[1].heard.last().unwrap();
    let Ok(ToBackend::Own { own, .. }) = ToBackend::decode(told, all()) else {
        panic!("{told:?}")
    };
    assert_eq!(own.note, "of the first");
    two.worlds[1].come_back3(&mut one).expect("it is there");
    two.worlds[1].send3(&mut one, b"up 2");
    assert_eq!(two.heard(1).last().unwrap(), "up 2", "it is read");
}

#[test]
fn a_shard_that_gives_its_backend_up_while_that_comes_back_begins_anew_on_the_next_link() {
    let mut two = Two::new(|config| config.master.repin_after = REPIN);
    let mut one = joined(&mut two);
    two.worlds[0].send3(&mut one, b"up 2");
    two.heard(0);
    two.cut(0);
    while !two.trunks[0].link_wants_connect(two.now) {
        two.now = two.now + Duration::from_millis(100);
    }
    // The trunk has heard ASK, and the shard has not when its time is over.
    two.trunks[0].handle_link_connecting(two.now);
    two.trunks[0].handle_link_connected(two.now);
    let ask = two.backends[0].ask();
    two.trunks[0].handle_link_bytes(two.now, &ask);
    two.now = two.now + REPIN;
    two.worlds[0].wait(REPIN + REPIN);
    assert_eq!(two.bring(), 1);
    two.exchange();
    assert!(two.trunks[0].link_wants_close(), "they do not agree");
    two.cut(0);
    two.connect(0);
    let grant = two.backends[0].grant.unwrap();
    assert_eq!((grant.sessions, grant.received), (0, u64::MAX));
    assert_eq!(two.heard(1), ["OWN Away 2 0 0", "up 2"]);
}

fn to_group(packet: &'static [u8]) -> ToEdge<'static> {
    ToEdge::GroupSend {
        group: GROUP,
        send: GroupSend {
            delivery: Class::Ordinary,
            left_out: Ids::from(&[][..]),
            packet,
        },
    }
}

/// SPEC 45.6(b): to its backend it is there until that knows better, and so it is to the groups of that.
#[test]
fn a_packet_for_its_group_reaches_one_that_leaves_until_its_backend_knows() {
    let mut two = Two::new(|_| {});
    let mut one = joined(&mut two);
    let ids = [one.id()];
    let add = ToEdge::GroupAdd {
        group: GROUP,
        ids: Ids::from(&ids[..]),
    };
    two.order(0, &add);
    two.move_from(0);
    two.order(0, &to_group(b"to all"));
    two.order(0, &packet(one.id(), b"to it"));
    assert_eq!(two.heard(0), ["AWAY 101", "ENDED 205 "]);
    two.cut(1);
    two.acknowledge(0);
    // Now it knows, and nobody can take the session yet.
    two.order(0, &to_group(b"to others"));
    two.connect(1);
    two.wait(Duration::from_millis(10));
    assert_eq!(two.bring(), 1);
    assert_eq!(two.heard(1), ["OWN Away 2 2 0"]);
    let came = two.worlds[1].come_back3(&mut one).expect("it is there");
    let expected = [(1, b"to all".as_slice()), (2, b"to it".as_slice())];
    assert_eq!(packets(&came[1..]), expected);
}

/// SPEC 45.8: what is on its way is with no shard, and takes room of all.
#[test]
fn what_is_on_its_way_counts_as_memory() {
    const LONG: usize = 100_000;
    let mut two = Two::new(|config| config.limits.max_memory_bytes = 1 << 20);
    let mut one = joined(&mut two);
    two.order(0, &packet(one.id(), &[b'd'; LONG]));
    two.worlds[0].send3(&mut one, &[b'u'; LONG]);
    two.heard(0);
    let most = |two: &Two| two.worlds[1].edge.shares.most(Bound::Memory);
    let held = |two: &Two| {
        let held = two.worlds.iter().map(|one| one.edge.gauges().held_bytes);
        held.sum::<usize>()
    };
    let all = most(&two);
    assert!(held(&two) >= 2 * LONG);
    // There is nobody to go to at first.
    two.move_from(0);
    two.heard(0);
    two.cut(1);
    two.replace(0, 9);
    assert_eq!(two.bring(), 0);
    assert!(held(&two) >= LONG && most(&two) + LONG <= all);
    two.connect(1);
    two.wait(Duration::from_millis(10));
    let departing = two.worlds[0].edge.take_departing(two.now).expect("it goes");
    assert!(
        held(&two) < LONG && most(&two) + 2 * LONG <= all,
        "{}",
        most(&two)
    );
    two.worlds[1].edge.handle_arriving(two.now, departing);
    assert!(
        held(&two) >= 2 * LONG && most(&two) == all,
        "{}",
        most(&two)
    );
}
