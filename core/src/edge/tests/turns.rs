//! Clients at several shards that share a slow link (SPEC 9.9(d)).

use core::num::NonZeroU8;
use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::edge::trunk::Trunk;

/// The number of batches between a shard and the trunk, and what the link takes at a time.
const BATCHES: usize = 4;
const LINK_TAKES: usize = 4 * 1024;
const PACKET_BYTES: usize = 1_000;
const PACKETS_AT_ONCE: usize = 16;

/// A process of two shards, each with clients that send as much as they may, and a slow backend.
struct Process {
    trunk: Trunk,
    worlds: Vec<World>,
    members: Vec<Vec<Member>>,
    /// What is under way from each shard to the trunk.
    branches: Vec<VecDeque<Upward>>,
    /// Bytes of each client that the backend took.
    heard: BTreeMap<ClientId, usize>,
    reader: FrameReader,
    /// The shard that is served first, another one in each turn.
    first: usize,
}

impl Process {
    fn start(clients: [usize; 2]) -> Process {
        let mut config = EdgeConfig::default();
        // Less than all clients may hold, so that those who send must wait.
        config.master.channel_bytes = 64 * 1024;
        config.limits.enforce_sources = Enforce::Off;
        let mut rng = ChaCha20Rng::from_seed([7; 32]);
        let keys = KeyPair::generate(&mut rng);
        let shards = NonZeroU8::new(2).unwrap();
        let (mut trunk, edges) = Trunk::with_shards(&config, &keys, shards, [9; 32]);
        trunk.handle_link_connecting(Time::ZERO);
        trunk.handle_link_connected(Time::ZERO);
        let world = |edge: Edge| World {
            edge,
            edge_keys: KeyPair::from_bytes(&keys.to_bytes()).unwrap(),
            now: Time::ZERO,
            rng: ChaCha20Rng::from_seed([8; 32]),
            header: b"",
        };
        let mut worlds: Vec<World> = edges.into_iter().map(world).collect();
        for (shard, world) in (0..).zip(&mut worlds) {
            world.backend_comes();
            trunk.handle_branch_opened(Time::ZERO, ShardId::new(shard));
        }
        let members = worlds.iter_mut().zip(clients);
        let members = members
            .map(|(world, count)| (0..count).map(|_| world.join()).collect())
            .collect();
        Process {
            trunk,
            worlds,
            members,
            branches: (0..2).map(|_| VecDeque::new()).collect(),
            heard: BTreeMap::new(),
            reader: FrameReader::default(),
            first: 0,
        }
    }

    /// Gives everybody one turn.
    fn turn(&mut self, senders: [bool; 2]) {
        let mut packets = Vec::new();
        for _ in 0..PACKETS_AT_ONCE {
            encode_frame(&[b'x'; PACKET_BYTES], &mut packets);
        }
        self.first = 1 - self.first;
        for number in [self.first, 1 - self.first] {
            let world = &mut self.worlds[number];
            let (now, shard) = (world.now, ShardId::new(number as u8));
            for member in self.members[number].iter().filter(|_| senders[number]) {
                if world.edge.read_budget(member.conn) > 0 {
                    world.edge.handle_client_bytes(now, member.conn, &packets);
                }
            }
            let branch = &mut self.branches[number];
            while branch.len() < BATCHES
                && let Some(output) = world.edge.take_branch_output(now, &mut Batch::new())
            {
                branch.push_back(output);
            }
            while self.trunk.branch_takes(shard)
                && let Some(input) = branch.pop_front()
            {
                self.trunk.handle_branch_input(now, shard, input);
            }
            if branch.is_empty() {
                self.trunk.handle_branch_idle(now, shard);
            }
            let spare = &mut Batch::new();
            while let Some(input) = self.trunk.take_branch_output(now, shard, spare) {
                world.edge.handle_branch_input(now, &input);
            }
        }
        let output = self.trunk.link_output().concat();
        let taken = output.len().min(LINK_TAKES);
        self.trunk.handle_link_written(Time::ZERO, taken);
        let mut input = &output[..taken];
        while let Ok(Some(body)) = self.reader.next_frame(&mut input, NO_BOUND) {
            let id = Tagged::decode(body).expect("a packet").id;
            *self.heard.entry(id).or_default() += body.len();
        }
    }

    /// Returns the average share of the link of each shard's clients, in `turns` turns after things have settled.
    fn run(&mut self, turns: usize, senders: [bool; 2]) -> [f64; 2] {
        for _ in 0..turns / 2 {
            self.turn(senders);
        }
        self.heard.clear();
        for _ in 0..turns {
            self.turn(senders);
        }
        [0, 1].map(|shard| {
            let ids = self.members[shard].iter().map(|member| member.id);
            let sum: usize = ids.filter_map(|id| self.heard.get(&id)).sum();
            sum as f64 / self.members[shard].len() as f64
        })
    }
}

#[test]
fn a_client_at_an_empty_shard_gets_no_more_of_a_slow_link_than_one_in_a_crowd() {
    let [crowd, few] = Process::start([40, 4]).run(4_000, [true; 2]);
    let ratio = few / crowd;
    assert!((0.8..1.25).contains(&ratio), "{few} for {crowd}");
}

#[test]
fn a_shard_with_nothing_to_say_leaves_the_whole_link_to_the_other() {
    let mut process = Process::start([40, 4]);
    for senders in [[true, false], [false, true]] {
        let turns = 2_000;
        process.run(turns, senders);
        let heard: usize = process.heard.values().sum();
        // Everything except what framing takes.
        assert!(
            heard > turns * LINK_TAKES * 98 / 100,
            "{heard}, {senders:?}"
        );
    }
}
