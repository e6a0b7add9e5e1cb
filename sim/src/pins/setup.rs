//! What a seed draws before the run: bounds, times, transports, and everything that is to happen.

use std::time::Duration;

use voltlane_core::edge::{EdgeConfig, LinkProtocol};

use crate::rng::Rng;
use crate::setups::{Load, edge_of_both, weights};

/// The figures of one run.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) seed: u64,
    pub(super) backends: usize,
    /// The shards of each backend.
    pub(super) each: usize,
    /// The clients of version 3, and those of version 2.
    pub(super) clients: usize,
    pub(super) plain: usize,
    pub(super) config: EdgeConfig,
    pub(super) load: Load,
    /// The sessions that may be on their way to a shard.
    pub(super) mailbox: usize,
    /// The bytes of all links behind which the one that has the last of them is cut.
    pub(super) cut_at: Option<u64>,
    /// Whether clients read nothing while their sessions go to another backend.
    pub(super) is_deaf: bool,
}

/// Something that happens to a client, or by it, or to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// A client's application sends packets.
    Up {
        packets: u64,
        bytes: u64,
    },
    /// Its backend sends it packets.
    Down {
        packets: u64,
        bytes: u64,
    },
    /// The same, of which the newest of a key counts.
    Latest {
        key: u64,
        packets: u64,
    },
    /// It becomes a member of a group, or is one no longer.
    Member {
        group: u64,
        joins: bool,
    },
    /// Its backend sends to a group, or to everybody (0).
    Many {
        group: u64,
    },
    /// Its backend reads it no more, or again.
    Pause {
        pauses: bool,
    },
    /// Its backend wants to remember something of it.
    Note,
    Kick,
    Goodbye,
    /// Its network fails: both ends see a reset.
    Reset,
    HangUp,
    /// Its network takes everything and delivers nothing more.
    Silence,
    /// It stops reading for this long.
    Stall {
        nanos: u64,
    },
    /// A link is cut: what is under way is lost.
    Cut,
    /// A backend reads nothing for this long.
    HostStall {
        nanos: u64,
    },
    /// A backend is not reached for this long, and goes on or is another process then.
    Outage {
        nanos: u64,
        boots: bool,
    },
    /// A shard gets no turn for this long.
    ShardStall {
        nanos: u64,
    },
    /// An operator has the sessions of a backend go to others, or undoes it.
    Move {
        moves: bool,
    },
    /// An operator has a backend get no newcomers, or undoes it.
    Drain {
        drains: bool,
    },
    /// Time passes.
    Leap {
        nanos: u64,
    },
    /// All faults end, and everything comes to rest.
    Rest,
    /// From rest: a backend reads nothing while its clients send, and the others notice nothing.
    ProbeSlow,
    /// From rest: a backend is down for so long that it is given up.
    ProbeDead,
}

const KINDS: usize = 23;

/// One operation of a plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) at: u64,
    pub(super) client: usize,
    pub(super) backend: usize,
    pub(super) op: Op,
}

impl Setup {
    pub(super) fn draw(seed: u64) -> Setup {
        let mut rng = Rng::fork(seed, "setup of pins", 0);
        let backends = rng.pick(&[2, 2, 3]);
        Setup {
            seed,
            backends,
            each: rng.pick(&[1, 1, 2]),
            clients: rng.between(2, 5) as usize,
            plain: rng.pick(&[0, 0, 1, 2]),
            config: config(&mut rng, backends),
            load: Load::draw(&mut rng),
            mailbox: rng.pick(&[1, 2, 1_024]),
            cut_at: None,
            is_deaf: false,
        }
    }

    /// Draws a short run with two moves, in which only one link fails, once.
    pub(super) fn draw_cut(seed: u64, bytes: u64) -> Setup {
        let mut setup = Setup::draw(seed);
        (setup.backends, setup.each, setup.clients, setup.plain) = (2, 1, 2, 0);
        setup.config.backends = 2;
        setup.config.clients.stale_timeout = Duration::from_secs(20);
        setup.config.clients.ring_packets = 16;
        setup.config.master.repin_after = Duration::ZERO;
        setup.load.shorten(2_000_000);
        setup.cut_at = Some(bytes);
        setup
    }

    /// Draws a run in which clients read nothing while their sessions go to another backend, which sends the newest of the same key.
    pub(super) fn draw_deaf(seed: u64) -> Setup {
        let mut setup = Setup::draw(seed);
        (setup.backends, setup.clients, setup.plain) = (2, 2, 0);
        setup.config.backends = 2;
        setup.config.clients.stale_timeout = Duration::from_secs(60);
        setup.config.clients.ring_packets = 256;
        setup.config.master.repin_after = Duration::ZERO;
        // What the backends send does not go into the pipe.
        setup.load.stream = 1_000;
        setup.is_deaf = true;
        setup
    }

    /// Draws what happens.
    pub(super) fn plan(&self) -> Vec<Due> {
        let mut rng = Rng::fork(self.seed, "plan of pins", 0);
        if self.cut_at.is_some() {
            return self.short_plan();
        }
        if self.is_deaf {
            return self.deaf_plan(&mut rng);
        }
        let ops = rng.between(20, 120);
        let gap = rng.log_between(200_000, 200_000_000);
        let mut weights = weights::<KINDS>(&mut rng, 2, 35);
        weights[0] += 20;
        weights[1] += 20;
        weights[17] += 15;
        // Few sessions should end early, and few processes should die.
        for number in [7, 8, 15, 19, 20, 21, 22] {
            weights[number] = weights[number].div_ceil(6);
        }
        let clients = (self.clients + self.plain) as u64;
        let mut at = 0;
        (0..ops)
            .map(|_| {
                at += rng.below(gap * 2);
                let client = rng.below(clients) as usize;
                let backend = rng.below(self.backends as u64) as usize;
                let kind = rng.weighted(&weights);
                let op = self.op(kind, &mut rng);
                Due {
                    at,
                    client,
                    backend,
                    op,
                }
            })
            .collect()
    }

    fn deaf_plan(&self, rng: &mut Rng) -> Vec<Due> {
        const MILLI: u64 = 1_000_000;
        let backend = rng.below(2) as usize;
        let key = rng.below(2);
        let latest = Op::Latest { key, packets: 2 };
        let deaf = Op::Stall {
            nanos: 6_000 * MILLI,
        };
        let fill = Op::Down {
            packets: 12,
            bytes: 200,
        };
        let steps = [
            (0, Op::Rest),
            (0, deaf),
            (1, fill),
            (500, latest),
            (1_500, Op::Move { moves: true }),
            (4_500, latest),
            (5_000, latest),
        ];
        let both = |(at, op)| {
            [0, 1].map(|client| Due {
                at: at * MILLI,
                client,
                backend,
                op,
            })
        };
        steps.into_iter().flat_map(both).collect()
    }

    fn short_plan(&self) -> Vec<Due> {
        let up = Op::Up {
            packets: 2,
            bytes: 20,
        };
        let down = Op::Down {
            packets: 2,
            bytes: 20,
        };
        let order = |moves| Op::Move { moves };
        let steps = [
            (0, Op::Rest),
            (0, up),
            (0, down),
            (0, order(true)),
            (0, up),
            (0, down),
            (0, Op::Rest),
            (0, order(false)),
            (1, order(true)),
            (0, up),
            (0, down),
        ];
        let both = |(number, (backend, op)): (usize, (usize, Op))| {
            [0, 1].map(|client| Due {
                at: number as u64 * 1_000_000,
                client,
                backend,
                op,
            })
        };
        steps.into_iter().enumerate().flat_map(both).collect()
    }

    fn op(&self, kind: usize, rng: &mut Rng) -> Op {
        let packets = rng.between(1, self.load.burst);
        let bytes = rng.between(17, self.load.payload);
        match kind {
            0 => Op::Up { packets, bytes },
            1 => Op::Down { packets, bytes },
            2 => Op::Latest {
                key: rng.below(2),
                packets,
            },
            3 => Op::Member {
                group: rng.between(1, 2),
                joins: rng.chance(70),
            },
            4 => Op::Many {
                group: rng.below(3),
            },
            5 => Op::Pause {
                pauses: rng.chance(60),
            },
            6 => Op::Note,
            7 => Op::Kick,
            8 => Op::Goodbye,
            9 => Op::Reset,
            10 => Op::HangUp,
            11 => Op::Silence,
            12 => Op::Stall {
                nanos: rng.log_between(1_000_000, 1_000_000_000),
            },
            13 => Op::Cut,
            14 => Op::HostStall {
                nanos: rng.log_between(1_000_000, 1_000_000_000),
            },
            15 => Op::Outage {
                nanos: rng.log_between(10_000_000, 8_000_000_000),
                boots: rng.chance(50),
            },
            16 => Op::ShardStall {
                nanos: rng.log_between(1_000_000, 400_000_000),
            },
            17 => Op::Move {
                moves: rng.chance(60),
            },
            18 => Op::Drain {
                drains: rng.chance(50),
            },
            19 => Op::Leap {
                nanos: rng.log_between(100_000_000, 25_000_000_000),
            },
            20 => Op::Rest,
            21 => Op::ProbeSlow,
            _ => Op::ProbeDead,
        }
    }
}

fn config(rng: &mut Rng, backends: usize) -> EdgeConfig {
    let millis = Duration::from_millis;
    let mut config = edge_of_both(rng, &[5_000, 20_000, 20_000, 60_000]);
    config.backends = backends as u8;
    let master = &mut config.master;
    master.protocol = LinkProtocol::V3;
    master.channel_capacity = rng.pick(&[1, 4, 32_768]);
    master.channel_bytes = rng.pick(&[400, 1 << 20]);
    master.reconnect_max = millis(rng.pick(&[100, 1_000]));
    master.repin_after = millis(rng.pick(&[0, 1_000, 3_000]));
    config
}
