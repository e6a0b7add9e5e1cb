//! What a seed draws before the run: bounds, times, transports, and everything that is to happen.

use std::time::Duration;

use voltlane_core::edge::{EdgeConfig, LinkProtocol};

use crate::rng::Rng;
use crate::setups::{Load, edge_of_both, weights};

/// The figures of one run.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) seed: u64,
    /// The clients of version 3, and those of version 2.
    pub(super) clients: usize,
    pub(super) plain: usize,
    /// The shards of the edge.
    pub(super) shards: u8,
    pub(super) config: EdgeConfig,
    pub(super) load: Load,
    /// Whether the backend saves the packets up that it has taken, with its own data.
    pub(super) saves: bool,
    /// The bytes of the link behind which it is cut, and what happens besides.
    pub(super) cut_at: Option<u64>,
    pub(super) with_cut: Besides,
}

/// What happens besides when the link is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Besides {
    /// Nothing: both processes live on.
    Nothing,
    /// The backend dies, and another process takes its place.
    Boot,
    /// The edge dies, and another process takes its place.
    Restart,
    /// The edge ends in order, and another process goes on with what it has saved.
    Save,
}

impl Besides {
    /// All of them.
    pub const ALL: [Besides; 4] = [
        Besides::Nothing,
        Besides::Boot,
        Besides::Restart,
        Besides::Save,
    ];
}

/// How a packet for many is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ordinary,
    Latest(u64),
    Volatile,
}

/// Something that happens to a client, or by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Its application sends packets.
    Up { packets: u64, bytes: u64 },
    /// The backend sends it packets.
    Down { packets: u64, bytes: u64 },
    /// The backend sends it packets of which the newest counts.
    Latest { key: u64, packets: u64 },
    /// The backend sends it packets that come now or never.
    Volatile { packets: u64 },
    /// It becomes a member of a group.
    Join { group: u64 },
    /// It is a member no longer.
    Part { group: u64 },
    /// The backend sends packets to a group, or to everybody (0), perhaps but for this client.
    Many {
        group: u64,
        kind: Kind,
        packets: u64,
    },
    /// The backend reads it no more, or again.
    Pause { pauses: bool },
    /// The backend kicks it.
    Kick { code: u16 },
    /// The backend asks it to leave, or everybody, within this many milliseconds.
    Ask { all: bool, within: u64 },
    /// The backend wants to remember something of it.
    Note,
    /// It says goodbye.
    Goodbye,
    /// Its network fails: both ends see a reset.
    Reset,
    /// It hangs up.
    HangUp,
    /// Its network takes everything and delivers nothing more. Neither end sees that.
    Silence,
    /// It stops reading for this long.
    Stall { nanos: u64 },
    /// The link is cut: what is under way is lost.
    Cut,
    /// The backend closes the link in order.
    Leave,
    /// The backend reads nothing for this long.
    HostStall { nanos: u64 },
    /// The backend is another process.
    Boot,
    /// The edge is another process.
    Restart,
    /// The edge ends in order, within this time, and another process goes on with what it has saved.
    Save { within: Duration },
    /// Time passes.
    Leap { nanos: u64 },
    /// All faults end, and everything comes to rest.
    Rest,
}

/// How many kinds of operations there are.
const KINDS: usize = 22;

/// One operation of a plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) at: u64,
    pub(super) client: usize,
    pub(super) op: Op,
}

impl Setup {
    pub(super) fn draw(seed: u64) -> Setup {
        let mut rng = Rng::fork(seed, "setup of the link", 0);
        let clients = rng.between(1, 3) as usize;
        Setup {
            seed,
            clients,
            plain: rng.pick(&[0, 0, 1, 2]),
            shards: Rng::fork(seed, "shards of the link", 0).pick(&[1, 1, 1, 2, 3]),
            config: config(&mut rng),
            load: Load::draw(&mut rng),
            saves: Rng::fork(seed, "backend that saves", 0).chance(50),
            cut_at: None,
            with_cut: Besides::Nothing,
        }
    }

    /// Draws a short run in which the link fails once, and what is `besides`.
    pub(super) fn draw_cut(seed: u64, shards: u8, besides: Besides, bytes: u64) -> Setup {
        let mut setup = Setup::draw(seed);
        (setup.shards, setup.with_cut) = (shards, besides);
        (setup.clients, setup.plain) = (1, 1);
        setup.config.clients.stale_timeout = Duration::from_secs(20);
        setup.config.master.protocol = LinkProtocol::V3;
        setup.load.shorten(5_000_000);
        setup.cut_at = Some(bytes);
        setup
    }

    /// Draws what happens.
    pub(super) fn plan(&self) -> Vec<Due> {
        let mut rng = Rng::fork(self.seed, "plan of the link", 0);
        if self.cut_at.is_some() {
            return self.short_plan();
        }
        let ops = rng.between(20, 120);
        let gap = rng.log_between(200_000, 200_000_000);
        let mut weights = weights::<KINDS>(&mut rng, 2, 35);
        weights[0] += 15;
        weights[1] += 15;
        // Few sessions should end early, and few processes should die.
        for number in [8, 10, 18, 19, 20, 21] {
            weights[number] = weights[number].div_ceil(6);
        }
        let mut at = 0;
        let clients = (self.clients + self.plain) as u64;
        let mut plan: Vec<_> = (0..ops)
            .map(|_| {
                at += rng.below(gap * 2);
                let client = rng.below(clients) as usize;
                let kind = rng.weighted(&weights);
                let op = self.op(kind, &mut rng);
                Due { at, client, op }
            })
            .collect();
        self.add_asking(&mut plan);
        self.add_saving(&mut plan);
        plan
    }

    /// Adds that the edge ends in order, in one of two runs.
    fn add_saving(&self, plan: &mut Vec<Due>) {
        let mut rng = Rng::fork(self.seed, "plan of saving", 0);
        for _ in 0..rng.pick(&[0, 0, 1, 2]) {
            let place = rng.below(plan.len() as u64) as usize;
            let at = plan[place].at;
            let within = Duration::from_millis(rng.pick(&[0, 20, 300, 3_000]));
            let op = Op::Save { within };
            plan.insert(place, Due { at, client: 0, op });
        }
    }

    /// Adds that the backend asks clients to leave, in one of two runs.
    fn add_asking(&self, plan: &mut Vec<Due>) {
        let mut rng = Rng::fork(self.seed, "plan of leaving", 0);
        let most = rng.pick(&[0, 0, 0, 1, 2, 6]);
        let clients = (self.clients + self.plain) as u64;
        for _ in 0..most {
            let place = rng.below(plan.len() as u64) as usize;
            let (at, client) = (plan[place].at, rng.below(clients) as usize);
            let op = Op::Ask {
                all: rng.chance(40),
                within: rng.pick(&[0, 1, 20, 300, 3_000]),
            };
            plan.insert(place, Due { at, client, op });
        }
    }

    fn short_plan(&self) -> Vec<Due> {
        let packets = |client, op| Due { at: 0, client, op };
        let both = |op| [packets(0, op), packets(1, op)];
        let kinds = [
            both(Op::Rest),
            both(Op::Join { group: 1 }),
            both(Op::Up {
                packets: 2,
                bytes: 20,
            }),
            both(Op::Down {
                packets: 2,
                bytes: 20,
            }),
            both(Op::Many {
                group: 1,
                kind: Kind::Ordinary,
                packets: 1,
            }),
            both(Op::Latest { key: 1, packets: 2 }),
            both(Op::Reset),
            both(Op::Up {
                packets: 1,
                bytes: 20,
            }),
        ];
        let mut plan: Vec<_> = kinds.into_iter().flatten().collect();
        for (number, due) in plan.iter_mut().enumerate() {
            due.at = number as u64 * 3_000_000;
        }
        plan
    }

    fn op(&self, kind: usize, rng: &mut Rng) -> Op {
        let packets = rng.between(1, self.load.burst);
        let bytes = rng.between(17, self.load.payload);
        let group = rng.between(1, 3);
        match kind {
            0 => Op::Up { packets, bytes },
            1 => Op::Down { packets, bytes },
            2 => Op::Latest {
                key: rng.below(3),
                packets,
            },
            3 => Op::Volatile { packets },
            4 => Op::Join { group },
            5 => Op::Part { group },
            6 => Op::Many {
                group: rng.below(4),
                kind: rng.pick(&[
                    Kind::Ordinary,
                    Kind::Ordinary,
                    Kind::Latest(0),
                    Kind::Latest(1),
                    Kind::Volatile,
                ]),
                packets,
            },
            7 => Op::Pause {
                pauses: rng.chance(60),
            },
            8 => Op::Kick {
                code: rng.pick(&[401, 405, 500, 677]),
            },
            9 => Op::Note,
            10 => Op::Goodbye,
            11 => Op::Reset,
            12 => Op::HangUp,
            13 => Op::Silence,
            14 => Op::Stall {
                nanos: rng.log_between(1_000_000, 1_000_000_000),
            },
            15 => Op::Cut,
            16 => Op::Leave,
            17 => Op::HostStall {
                nanos: rng.log_between(1_000_000, 1_000_000_000),
            },
            18 => Op::Boot,
            19 => Op::Restart,
            20 => Op::Leap {
                nanos: rng.log_between(100_000_000, 25_000_000_000),
            },
            _ => Op::Rest,
        }
    }
}

fn config(rng: &mut Rng) -> EdgeConfig {
    let millis = Duration::from_millis;
    let mut config = edge_of_both(rng, &[1_000, 20_000, 20_000, 60_000]);
    let master = &mut config.master;
    master.protocol = rng.pick(&[
        LinkProtocol::V3,
        LinkProtocol::V3,
        LinkProtocol::V3,
        LinkProtocol::V3,
        LinkProtocol::Auto,
    ]);
    master.channel_capacity = rng.pick(&[1, 4, 32_768]);
    master.channel_bytes = rng.pick(&[400, 1 << 20]);
    master.reconnect_max = millis(rng.pick(&[100, 5_000]));
    config
}
