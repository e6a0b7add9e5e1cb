//! Version 3 of the link over several shards: the trunk has the counts of the link, the shards the frames. (SPEC 36.2(i), 37)

use super::*;
use crate::edge::tests::v3::saving::sealed;
use crate::edge::trunk::Trunk;
use crate::link::v3::LinkSecret;
use core::num::NonZeroU8;

/// Two shards, their trunk, and a backend.
pub(super) struct Shards {
    pub(super) trunk: Trunk,
    pub(super) worlds: Vec<World>,
    pub(super) now: Time,
    backend: Backend,
}

impl Shards {
    fn new(protocol: LinkProtocol) -> Self {
        Shards::with(protocol, None)
    }

    pub(super) fn with(protocol: LinkProtocol, secret: Option<LinkSecret>) -> Self {
        let world = |shard: u8| {
            World::new(|config| {
                config.master.protocol = protocol;
                *config = config.for_shard(ShardId::new(shard), 2);
            })
        };
        let mut worlds = vec![world(0), world(1)];
        let run = worlds[0].edge.run;
        worlds[1].edge.run = run;
        let mut config = EdgeConfig::default();
        config.master.protocol = protocol;
        config.master.secret = secret;
        let trunk = Trunk::new(&config.master, NonZeroU8::new(2).unwrap(), [3; 32]);
        let mut shards = Shards {
            trunk,
            worlds,
            now: Time::ZERO,
            backend: Backend::new(BOOT),
        };
        shards.connect();
        shards
    }

    pub(super) fn wait(&mut self, duration: Duration) {
        self.now = self.now + duration;
        self.trunk.handle_timeout(self.now);
        for world in &mut self.worlds {
            world.wait(duration);
        }
        self.pump();
    }

    /// Ends the process in order, one shard before the other. Of what the backend writes meanwhile, so many bytes arrive. Another process goes
    /// on.
    fn restart(&mut self, bytes: usize, name: u8) {
        let now = self.now;
        self.trunk.keep_sessions();
        for world in &mut self.worlds {
            world.edge.keep_sessions();
        }
        let backend = &mut self.backend;
        let mut out = backend.frames.output().to_vec();
        out.truncate(bytes);
        backend.sent.advance(out.len(), &mut backend.frames);
        let (first, rest) = out.split_at(out.len() / 3);
        let (second, last) = rest.split_at(rest.len() / 2);
        self.trunk.handle_link_bytes(now, first);
        self.trunk.handle_branch_gone(now, ShardId::new(0));
        self.trunk.handle_link_bytes(now, second);
        self.pump();
        self.trunk.handle_link_bytes(now, last);
        self.trunk.handle_branch_gone(now, ShardId::new(1));
        self.trunk.handle_link_closed(now, Closed::Eof);
        let run = self.worlds[0].edge.run;
        let mut parts = vec![self.trunk.save(now)];
        for world in &mut self.worlds {
            parts.push(world.edge.save(now));
        }
        let keys = self.worlds[0].edge_keys.clone();
        let bytes = sealed(&self.worlds[0], run, &parts, name);
        let snapshot = Snapshot::open(bytes, &keys).unwrap();
        let config = self.worlds[0].edge.config.clone();
        let shards = NonZeroU8::new(2).unwrap();
        self.trunk = Trunk::new(&config.master, shards, [name; 32]);
        self.trunk.restore(now, &snapshot);
        for world in &mut self.worlds {
            let config = world.edge.config.clone();
            world.edge = Edge::new(config, keys.clone(), [name; 32]);
            world.edge.restore(now, &snapshot);
            world.edge.audit();
        }
        self.backend.lose_link();
        self.connect();
    }

    fn connect(&mut self) {
        while !self.trunk.link_wants_connect(self.now) {
            self.wait(Duration::from_secs(1));
        }
        self.trunk.handle_link_connecting(self.now);
        self.trunk.handle_link_connected(self.now);
        self.pump();
    }

    /// Moves everything between the shards and the trunk.
    pub(super) fn pump(&mut self) {
        let now = self.now;
        for _ in 0..100 {
            for (number, world) in (0..).zip(&mut self.worlds) {
                let shard = ShardId::new(number);
                if self.trunk.branch_accepts(shard) {
                    if world.edge.link_wants_connect(now) {
                        world.edge.link_up(now);
                    }
                    self.trunk.handle_branch_opened(now, shard);
                }
                while let Some(input) = self.trunk.take_branch_output(now, shard, &mut Batch::new())
                {
                    world.edge.handle_branch_input(now, &input);
                }
                while self.trunk.branch_takes(shard)
                    && let Some(output) = world.hands_up()
                {
                    self.trunk.handle_branch_input(now, shard, output);
                }
                if !world.edge.branch_has_output() {
                    self.trunk.handle_branch_idle(now, shard);
                }
                if self.trunk.branch_wants_close(shard) {
                    self.trunk.handle_branch_closed(now, shard);
                    world.edge.handle_link_closed(now, Closed::Eof);
                }
            }
        }
    }

    fn ask(&mut self) -> Grant {
        let ask = self.backend.ask();
        self.trunk.handle_link_bytes(self.now, &ask);
        self.exchange();
        self.backend.grant.expect("it is granted")
    }

    pub(super) fn link_takes(&mut self, most: usize) -> Vec<u8> {
        let mut bytes = self.trunk.link_output().concat();
        bytes.truncate(most);
        self.trunk.handle_link_written(self.now, bytes.len());
        bytes
    }

    fn exchange(&mut self) {
        loop {
            self.pump();
            let bytes = self.link_takes(usize::MAX);
            self.backend.read(&bytes);
            let down = self.backend.frames.output().to_vec();
            let goes = self.backend.grant.is_some() && !down.is_empty();
            if goes {
                self.trunk.handle_link_bytes(self.now, &down);
                self.backend
                    .sent
                    .advance(down.len(), &mut self.backend.frames);
            } else if bytes.is_empty() {
                return;
            }
        }
    }

    fn order(&mut self, order: &ToEdge<'_>) {
        self.backend.queue(order);
        self.exchange();
    }

    fn lose_link(&mut self) {
        self.trunk.handle_link_closed(self.now, Closed::Error);
        self.backend.lose_link();
        self.pump();
        self.connect();
    }

    fn acknowledge(&mut self) {
        let ack = ToEdge::LinkAck(LinkAck {
            acknowledged: self.backend.received,
            sent: self.backend.sent.sent(),
        });
        let mut bytes = Vec::new();
        ack.encode(&mut bytes);
        self.trunk.handle_link_bytes(self.now, &bytes);
        self.pump();
    }

    fn held(&self) -> usize {
        let held = |world: &World| world.edge.gauges().link_packets;
        self.worlds.iter().map(held).sum()
    }
}

fn add(ids: &[ClientId]) -> ToEdge<'_> {
    let ids = Ids::from(ids);
    ToEdge::GroupAdd { group: GROUP, ids }
}

fn to_group(packet: &'static [u8]) -> ToEdge<'static> {
    let send = GroupSend {
        delivery: Class::Ordinary,
        left_out: Ids::from(&[][..]),
        packet,
    };
    ToEdge::GroupSend { group: GROUP, send }
}

#[test]
fn a_backend_is_granted_once_all_shards_have_told_their_part() {
    let mut shards = Shards::new(LinkProtocol::V3);
    let one = shards.worlds[0].join();
    let two = shards.worlds[1].join();
    let three = shards.worlds[1].join();
    shards.worlds[1].send(two.conn, b"waits");
    shards.exchange();
    assert_eq!(heard(&mut shards.backend), [""; 0], "it is held");
    let grant = shards.ask();
    assert_eq!((grant.sessions, grant.received), (3, 0));
    let came = heard(&mut shards.backend);
    let (owns, others) = came.split_at(3);
    assert!(owns.iter().all(|own| own.starts_with("OWN")), "{owns:?}");
    assert_eq!(others, ["JOINED", "JOINED", "JOINED", "waits"]);
    assert_eq!(shards.held(), 7, "until they are acknowledged");
    shards.acknowledge();
    assert_eq!(shards.held(), 0);
    // Orders for one and for a group.
    shards.order(&add(&[one.id, two.id]));
    shards.order(&packet(three.id, b"for three"));
    shards.order(&to_group(b"for the group"));
    let hears =
        |shards: &mut Shards, shard: usize, member: &Member| shards.worlds[shard].hear(member.conn);
    assert_eq!(hears(&mut shards, 0, &one), [b"for the group"]);
    assert_eq!(hears(&mut shards, 1, &two), [b"for the group"]);
    assert_eq!(hears(&mut shards, 1, &three), [b"for three"]);
    shards.wait(Duration::from_millis(10));
    shards.exchange();
    let ack = shards.backend.acks.last().expect("an acknowledgement");
    assert_eq!(ack.acknowledged, 3, "each is one frame of the link");
    assert!(shards.backend.frames.is_empty());
}

/// SPEC 39.1(f).
#[test]
fn once_a_shard_has_ended_the_next_process_grants_to_a_new_boot() {
    let mut shards = Shards::new(LinkProtocol::V3);
    for world in &mut shards.worlds {
        world.join();
    }
    assert_eq!(shards.ask().sessions, 2);
    shards.trunk.keep_sessions();
    shards.lose_link();
    let within = Duration::from_secs(10);
    shards.trunk.handle_shutdown(shards.now, within);
    shards.trunk.handle_branch_gone(shards.now, ShardId::new(0));
    // The one that it has granted goes on.
    shards.ask();
    shards.lose_link();
    shards.backend = Backend::new([2; 16]);
    let ask = shards.backend.ask();
    shards.trunk.handle_link_bytes(shards.now, &ask);
    shards.exchange();
    assert_eq!(shards.backend.grant, None);
    shards.restart(0, 1);
    assert_eq!(shards.ask().sessions, 2);
}

#[test]
fn what_is_malformed_is_refused_once() {
    let mut shards = Shards::new(LinkProtocol::V3);
    let one = shards.worlds[1].join();
    shards.ask();
    heard(&mut shards.backend);
    let mut bad = vec![0; 9 + 7];
    bad[8] = flag::GROUP_ADD;
    let mut short = vec![0; 9];
    short[8] = 0x77;
    for body in [&bad, &short, &vec![0; 3], &vec![]] {
        shards.backend.frames.push_body(body);
    }
    shards.order(&packet(one.id, b"after"));
    let refused = [
        "REFUSED 0x23 Malformed",
        "REFUSED 0x77 Unknown",
        "REFUSED 0x00 Malformed",
        "REFUSED 0x00 Malformed",
    ];
    assert_eq!(heard(&mut shards.backend), refused);
    assert_eq!(shards.worlds[1].hear(one.conn), [b"after"]);
    shards.wait(Duration::from_millis(10));
    shards.exchange();
    assert_eq!(shards.backend.acks.last().unwrap().acknowledged, 5);
}

/// Runs a script in which the link is cut where `cut` says. Returns what the backend heard of each client, and each client.
fn cut_at(cut: Option<(usize, usize)>) -> [Vec<Vec<u8>>; 4] {
    let mut shards = Shards::new(LinkProtocol::V3);
    shards.ask();
    let members = [shards.worlds[0].join(), shards.worlds[1].join()];
    let mut down = [Vec::new(), Vec::new()];
    let texts: [&'static [u8]; 6] = [b"0", b"1", b"2", b"3", b"4", b"5"];
    shards.order(&add(&[members[0].id, members[1].id]));
    for (round, text) in texts.into_iter().enumerate() {
        for (world, member) in shards.worlds.iter_mut().zip(&members) {
            world.send(member.conn, text);
            if round % 3 == 2 {
                world.send(member.conn, text);
            }
        }
        shards.backend.queue(&to_group(text));
        shards.backend.queue(&packet(members[round % 2].id, text));
        if let Some((at, bytes)) = cut
            && at == round
        {
            shards.pump();
            let up = shards.link_takes(bytes);
            shards.backend.read(&up[..up.len() / 2]);
            let backend = &mut shards.backend;
            let out = backend.frames.output();
            let taken = out[..bytes.min(out.len())].to_vec();
            backend.sent.advance(taken.len(), &mut backend.frames);
            let arrives = &taken[..taken.len().div_ceil(2)];
            shards.trunk.handle_link_bytes(shards.now, arrives);
            shards.lose_link();
            shards.ask();
        } else if round % 2 == 1 {
            shards.exchange();
        }
    }
    shards.wait(Duration::from_millis(20));
    shards.exchange();
    for ((world, member), down) in shards.worlds.iter_mut().zip(&members).zip(&mut down) {
        down.extend(world.hear(member.conn));
    }
    shards.acknowledge();
    assert_eq!(shards.held(), 0, "all is acknowledged");
    assert!(
        shards.backend.frames.is_empty(),
        "the edge acknowledged all"
    );
    let up = members.each_ref().map(|member| {
        let bodies = shards.backend.heard.iter().map(Vec::as_slice);
        let of_it = bodies.filter(|body| body[..8] == member.id.as_u64().to_le_bytes());
        of_it.map(|body| body[8..].to_vec()).collect()
    });
    let [up_one, up_two] = up;
    let [down_one, down_two] = down;
    [up_one, up_two, down_one, down_two]
}

#[test]
fn a_link_of_two_shards_cut_anywhere_loses_and_doubles_nothing() {
    let whole = cut_at(None);
    assert_eq!((whole[0].len(), whole[2].len()), (9, 9), "{whole:?}");
    for round in 0..6 {
        for bytes in 0..160 {
            let cut = cut_at(Some((round, bytes)));
            assert_eq!(cut, whole, "cut in round {round} after {bytes} bytes");
        }
    }
}

/// Runs a script in which another process takes the place of this one where `at` says. Returns what the backend heard of each client, and each
/// client.
fn restarted_at(at: Option<(usize, usize)>) -> [Vec<Vec<u8>>; 4] {
    let mut shards = Shards::new(LinkProtocol::V3);
    shards.ask();
    let mut members = [shards.worlds[0].join(), shards.worlds[1].join()];
    let mut down = [Vec::new(), Vec::new()];
    let texts: [&'static [u8]; 6] = [b"0", b"1", b"2", b"3", b"4", b"5"];
    shards.order(&add(&[members[0].id, members[1].id]));
    for (round, text) in texts.into_iter().enumerate() {
        for (world, member) in shards.worlds.iter_mut().zip(&members) {
            world.send(member.conn, text);
        }
        shards.backend.queue(&to_group(text));
        shards.backend.queue(&packet(members[round % 2].id, text));
        if let Some((place, bytes)) = at
            && place == round
        {
            shards.pump();
            let up = shards.link_takes(bytes);
            shards.backend.read(&up[..up.len() / 2]);
            for ((world, member), down) in shards.worlds.iter_mut().zip(&members).zip(&mut down) {
                down.extend(world.hear(member.conn));
            }
            shards.restart(bytes, 1);
            let grant = shards.ask();
            assert_ne!(grant.received, u64::MAX, "it goes on behind the counts");
            for (number, member) in members.iter_mut().enumerate() {
                let heard = shards.worlds[number].come_back(member);
                down[number].extend(heard.into_iter().filter(|body| body[0] >= b'0'));
            }
        } else if round % 3 == 1 {
            shards.exchange();
        } else if round % 3 == 2 {
            shards.acknowledge();
        }
    }
    shards.exchange();
    shards.wait(Duration::from_millis(20));
    shards.exchange();
    for ((world, member), down) in shards.worlds.iter_mut().zip(&members).zip(&mut down) {
        down.extend(world.hear(member.conn));
    }
    shards.acknowledge();
    assert_eq!(shards.held(), 0, "all is acknowledged");
    let left = &shards.backend.frames;
    assert!(left.is_empty(), "the edge acknowledged all");
    let up = members.each_ref().map(|member| {
        let mut of_it = member.id.as_u64().to_le_bytes().to_vec();
        of_it.push(flag::DATA);
        let bodies = shards.backend.heard.iter();
        let packets = bodies.filter_map(|body| body.strip_prefix(&of_it[..]));
        packets.map(<[u8]>::to_vec).collect()
    });
    let [up_one, up_two] = up;
    let [down_one, down_two] = down;
    [up_one, up_two, down_one, down_two]
}

/// SPEC 39.4(d).
#[test]
fn another_process_with_as_many_shards_goes_on_behind_the_counts() {
    let whole = restarted_at(None);
    assert_eq!((whole[0].len(), whole[2].len()), (6, 9), "{whole:?}");
    for round in 0..6 {
        for bytes in (0..160).step_by(9) {
            // Each run seals with the same key and name.
            crate::v3::watch::begin();
            let restarted = restarted_at(Some((round, bytes)));
            let place = format!("restarted in round {round} after {bytes} bytes");
            assert_eq!(restarted, whole, "{place}");
        }
    }
}

#[test]
fn a_new_boot_hears_of_every_shard_and_groups_end() {
    let mut shards = Shards::new(LinkProtocol::V3);
    shards.ask();
    let one = shards.worlds[0].join();
    let two = shards.worlds[1].join();
    shards.order(&add(&[one.id, two.id]));
    shards.worlds[0].send(one.conn, b"1");
    shards.worlds[1].send(two.conn, b"2");
    shards.exchange();
    heard(&mut shards.backend);
    shards.trunk.handle_link_closed(shards.now, Closed::Error);
    shards.pump();
    shards.backend = Backend::new([2; 16]);
    shards.connect();
    // What is sent until it asks waits.
    shards.worlds[1].send(two.conn, b"3");
    let grant = shards.ask();
    assert_eq!((grant.sessions, grant.received), (2, 0));
    let owns = ["OWN Attached 1 0 0", "OWN Attached 1 0 0"];
    let came = heard(&mut shards.backend);
    assert_eq!(came[..2], owns);
    assert_eq!(came[2..], ["JOINED", "1", "JOINED", "2", "3"]);
    shards.order(&to_group(b"for nobody"));
    shards.order(&packet(two.id, b"for two"));
    assert_eq!(shards.worlds[0].hear(one.conn), [b""; 0]);
    assert_eq!(shards.worlds[1].hear(two.conn), [b"for two"]);
}

#[test]
fn a_grant_that_was_not_read_is_made_again() {
    let mut shards = Shards::new(LinkProtocol::V3);
    shards.worlds[1].join();
    let ask = shards.backend.ask();
    for taken in [0, 5] {
        shards.trunk.handle_link_bytes(shards.now, &ask);
        shards.pump();
        shards.link_takes(taken);
        shards.lose_link();
    }
    let grant = shards.ask();
    assert_eq!((grant.sessions, grant.received), (1, 0));
    assert_eq!(heard(&mut shards.backend).len(), 2, "OWN and JOINED, once");
    // One that counts otherwise begins anew.
    shards.lose_link();
    shards.backend.received += 1;
    assert_eq!(shards.ask().received, u64::MAX);
}

#[test]
fn counts_that_do_not_agree_end_the_link() {
    let mut shards = Shards::new(LinkProtocol::V3);
    shards.ask();
    let acknowledge = |acknowledged, sent| {
        let mut bytes = Vec::new();
        ToEdge::LinkAck(LinkAck { acknowledged, sent }).encode(&mut bytes);
        bytes
    };
    for bytes in [acknowledge(0, 1), acknowledge(1, 0)] {
        assert!(!shards.trunk.link_wants_close());
        shards.trunk.handle_link_bytes(shards.now, &bytes);
        assert!(shards.trunk.link_wants_close());
        shards.lose_link();
        assert_eq!(shards.ask().received, u64::MAX, "it begins anew");
    }
    assert_eq!(shards.trunk.counters().link_violations, 2);
}

#[test]
fn an_ask_on_a_link_of_version_2_is_late_and_takes_back_what_waited() {
    let mut shards = Shards::new(LinkProtocol::Auto);
    let one = shards.worlds[1].join();
    shards.worlds[1].send(one.conn, b"held");
    shards.pump();
    assert!(shards.link_takes(usize::MAX).is_empty());
    shards.wait(Duration::from_millis(100));
    let plain = shards.link_takes(20);
    assert_eq!(plain[13..], *b"held", "version 2, and no JOINED");
    shards.worlds[1].send(one.conn, b"two");
    shards.worlds[1].leave(one.conn);
    shards.pump();
    let ask = shards.backend.ask();
    shards.trunk.handle_link_bytes(shards.now, &ask);
    assert!(shards.trunk.link_wants_close(), "it is late");
    shards.lose_link();
    shards.worlds[1].join();
    assert!(shards.link_takes(usize::MAX).is_empty(), "it is held");
    let grant = shards.ask();
    assert_eq!(grant.sessions, 2);
    let came = heard(&mut shards.backend);
    assert_eq!(came[2..], ["two"]);
    assert!(came[0].starts_with("OWN") && came[1].starts_with("OWN"));
    shards.acknowledge();
    assert_eq!(shards.held(), 0);
}

#[test]
fn a_backend_that_does_not_ask_is_dropped_where_it_has_to() {
    let mut shards = Shards::new(LinkProtocol::V3);
    shards.wait(Duration::from_secs(4));
    assert!(!shards.trunk.link_wants_close());
    shards.wait(Duration::from_secs(1));
    assert!(shards.trunk.link_wants_close());
    assert!(shards.trunk.gauges().link_is_unasked);
    shards.lose_link();
    shards.ask();
    assert!(!shards.trunk.gauges().link_is_unasked);
}

/// SPEC 34.1(g).
#[test]
fn a_frame_before_grant_ends_the_link_and_the_next_one_is_granted() {
    let mut shards = Shards::new(LinkProtocol::V3);
    let one = shards.worlds[1].join();
    let mut early = shards.backend.ask();
    packet(one.id, b"early").encode(&mut early);
    shards.trunk.handle_link_bytes(shards.now, &early);
    assert!(shards.trunk.link_wants_close());
    assert_eq!(shards.trunk.counters().link_violations, 1);
    shards.lose_link();
    assert!(shards.worlds[1].hear(one.conn).is_empty());
    assert_eq!(shards.ask().sessions, 1);
    shards.order(&packet(one.id, b"in time"));
    assert_eq!(shards.worlds[1].hear(one.conn), [b"in time"]);
}
