//! What a seed draws before the run: bounds, times, transports, and everything that is to happen.

use std::time::Duration;

use voltlane_core::edge::EdgeConfig;
use voltlane_core::protocol::OfferedVersions;

use crate::rng::Rng;
use crate::setups::{unlimited, weights};

/// The figures of one run.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) seed: u64,
    /// The clients of version 3, and those of version 2.
    pub(super) clients: usize,
    pub(super) plain: usize,
    /// Whether clients go on after a conflict.
    pub(super) takes_over: bool,
    /// Whether packets down are of all classes, and some sessions give packets up where there is no room.
    pub(super) has_classes: bool,
    /// Whether nothing is refused, so that many packets come through.
    pub(super) is_bulk: bool,
    /// Whether clients compete for small bounds, while strangers flood the edge.
    pub(super) is_crowd: bool,
    pub(super) config: EdgeConfig,
    pub(super) stream: u64,
    pub(super) delay_us: u64,
    pub(super) chunk: u64,
    pub(super) payload: u64,
    pub(super) burst: u64,
    pub(super) round_nanos: u64,
    /// How long an application takes for a packet at most, in nanoseconds.
    pub(super) slow_nanos: u64,
}

/// Something that happens to a client, or by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Its application sends packets.
    Up { packets: u64, bytes: u64 },
    /// The backend sends it packets.
    Down { packets: u64, bytes: u64 },
    /// Its network fails: both ends see a reset.
    Reset,
    /// It hangs up.
    HangUp,
    /// Its network takes everything and delivers nothing more. Neither end sees that.
    Silence,
    /// Nothing that the edge writes on its next connection arrives, and then the network fails.
    LoseReply,
    /// It stops reading for this long.
    Stall { nanos: u64 },
    /// The backend kicks it.
    Kick,
    /// It says goodbye.
    Goodbye,
    /// A watcher repeats one of its first flights, or the beginning of one.
    Repeat { back: u64, cut: u64 },
    /// Somebody who has copied its secrets resumes its session.
    Steal { ahead: u64, claims_less: bool },
    /// Its network fails unseen by the edge, and again so many times when it is back: each time it takes its session over.
    Vanish { times: u64 },
    /// The edge asks everybody to leave within this time.
    Leave { within: u64 },
    /// Somebody claims it with version 2.
    Downgrade,
    /// A stranger sends something.
    Stranger { kind: u64, draws: u64 },
    /// The backend reads nothing for this long.
    LinkStall { nanos: u64 },
    /// The link is lost.
    LinkLoss,
    /// Time passes.
    Leap { nanos: u64 },
    /// The edge ends in order, and another process goes on (SPEC 39).
    Restart,
    /// Strangers send so many openings, which they have made up or altered, from a network of theirs or from the client's address.
    Flood { count: u64, draws: u64 },
}

/// One operation of a plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) at: u64,
    pub(super) client: usize,
    pub(super) op: Op,
}

impl Setup {
    pub(super) fn draw(seed: u64) -> Setup {
        let mut rng = Rng::fork(seed, "setup of version 3", 0);
        let clients = rng.between(1, 5) as usize;
        let plain = rng.pick(&[0, 0, 1, 3]);
        let mut config = config(&mut rng);
        // Drawn apart, so that the rest of a seed stays as it was.
        let has_classes = Rng::fork(seed, "classes of version 3", 0).chance(40);
        let mut little = Rng::fork(seed, "little room", 0);
        if has_classes && little.chance(30) {
            config.clients.channel_capacity = 4;
            config.clients.ring_packets = little.pick(&[2, 3, 5]);
        }
        // Who asks every second whether the other is there needs a network that carries an answer in that time.
        let is_quick = (1..20).contains(&config.clients.keep_alive.as_secs());
        let streams: &[u64] = if is_quick {
            &[8_000]
        } else {
            &[200, 1_000, 8_000]
        };
        let chunks: &[u64] = if is_quick { &[500] } else { &[9, 60, 500] };
        let payloads: &[u64] = if is_quick { &[30] } else { &[30, 200, 6_000] };
        let (stream, chunk, payload) = match rng.chance(25) {
            true => (70_000, 70_000, rng.pick(&[6_000, 90_000])),
            false => (rng.pick(streams), rng.pick(chunks), rng.pick(payloads)),
        };
        Setup {
            seed,
            clients,
            plain,
            takes_over: rng.chance(50),
            has_classes,
            is_bulk: false,
            is_crowd: false,
            config,
            stream,
            delay_us: rng.pick(&[0, 500, 20_000, 200_000]),
            chunk,
            payload,
            burst: rng.pick(&[1, 4, 20]),
            round_nanos: rng.pick(&[50_000, 300_000, 2_000_000]),
            slow_nanos: rng.pick(&[0, 0, 5_000_000, 300_000_000]),
        }
    }

    /// Draws a run for volume: small packets, large bursts, and nothing but drops.
    pub(super) fn draw_bulk(seed: u64) -> Setup {
        let mut rng = Rng::fork(seed, "bulk of version 3", 0);
        let mut config = EdgeConfig::default();
        config.listener.versions = OfferedVersions::new(&[2, 3]).expect("both are known");
        unlimited(&mut config);
        config.clients.stale_timeout = Duration::from_secs(30);
        config.clients.ring_packets = rng.pick(&[256, 4_096, 8_192]);
        Setup {
            seed,
            clients: 4,
            plain: 0,
            takes_over: true,
            has_classes: false,
            is_bulk: true,
            is_crowd: false,
            config,
            stream: 300_000,
            delay_us: rng.pick(&[0, 2_000]),
            chunk: 70_000,
            payload: 40,
            burst: 2_000,
            round_nanos: 300_000,
            slow_nanos: 0,
        }
    }

    /// Draws what happens.
    pub(super) fn plan(&self) -> Vec<Due> {
        let mut rng = Rng::fork(self.seed, "plan of version 3", 0);
        let ops = if self.is_bulk {
            rng.between(600, 900)
        } else {
            rng.between(20, 120)
        };
        let gap = if self.is_bulk {
            4_000_000
        } else {
            rng.log_between(200_000, 300_000_000)
        };
        let mut weights = weights::<18>(&mut rng, 3, 40);
        weights[0] += 15;
        weights[1] += 15;
        // Few sessions should end early.
        for number in [7, 8, 15, 17] {
            weights[number] = weights[number].div_ceil(6);
        }
        if self.is_bulk {
            weights = [0; 18];
            (weights[0], weights[1], weights[2], weights[3], weights[5]) = (200, 200, 3, 2, 2);
        }
        let mut at = 0;
        let clients = (self.clients + self.plain) as u64;
        let mut before = 0;
        let mut plan: Vec<Due> = (0..ops)
            .map(|_| {
                at += rng.below(gap * 2);
                // What happens to one client in a row is worth more than what happens to several.
                let client = if rng.chance(40) {
                    before
                } else {
                    rng.below(clients) as usize
                };
                before = client;
                let kind = rng.weighted(&weights);
                let op = self.op(kind, &mut rng);
                Due { at, client, op }
            })
            .collect();
        // Drawn apart, so that the rest of a seed stays as it was.
        let mut rng = Rng::fork(self.seed, "restarts", 0);
        if rng.chance(30) {
            for _ in 0..rng.between(1, 4) {
                let place = rng.below(plan.len() as u64) as usize;
                let (at, client, op) = (plan[place].at, 0, Op::Restart);
                plan.insert(place, Due { at, client, op });
            }
        }
        if self.is_crowd {
            self.add_floods(&mut plan);
        }
        plan
    }

    fn op(&self, kind: usize, rng: &mut Rng) -> Op {
        let packets = rng.between(1, self.burst);
        let bytes = rng.between(17, self.payload);
        match kind {
            0 => Op::Up { packets, bytes },
            1 => Op::Down { packets, bytes },
            2 => Op::Reset,
            3 => Op::HangUp,
            4 => Op::Silence,
            5 => Op::LoseReply,
            6 => Op::Stall {
                nanos: rng.log_between(1_000_000, 3_000_000_000),
            },
            7 => Op::Kick,
            8 => Op::Goodbye,
            9 => Op::Repeat {
                back: rng.below(6) * rng.below(2),
                cut: rng.pick(&[0, 0, 0, 50, 100, 113, 140]),
            },
            10 => Op::Steal {
                ahead: rng.pick(&[1, 1, 2, 5]),
                claims_less: rng.chance(30),
            },
            11 => Op::Downgrade,
            12 => Op::Stranger {
                kind: rng.below(6),
                draws: rng.next(),
            },
            13 => Op::LinkStall {
                nanos: rng.log_between(1_000_000, 2_000_000_000),
            },
            14 => Op::LinkLoss,
            15 => Op::Leap {
                nanos: rng.log_between(100_000_000, 25_000_000_000),
            },
            16 => Op::Vanish {
                times: rng.pick(&[1, 2, 14]),
            },
            _ => Op::Leave {
                within: rng.log_between(1_000_000, 3_000_000_000),
            },
        }
    }
}

fn config(rng: &mut Rng) -> EdgeConfig {
    let millis = Duration::from_millis;
    let mut config = EdgeConfig::default();
    unlimited(&mut config);
    config.listener.versions = OfferedVersions::new(&[2, 3]).expect("both are known");
    let clients = &mut config.clients;
    // Most sessions must not end for want of room.
    clients.channel_capacity = rng.pick(&[4, 8_192, 8_192, 8_192]);
    clients.channel_bytes = rng.pick(&[3_000, 1 << 20, 1 << 20, 1 << 20]);
    clients.ring_packets = rng.pick(&[1, 2, 3, 5, 16, 8_192]);
    clients.ring_bytes = rng.pick(&[100, 700, 5_000, 1 << 20, 1 << 20]);
    clients.ack_delay = millis(rng.pick(&[0, 1, 25, 250]));
    clients.keep_alive = Duration::from_secs(rng.pick(&[0, 1, 2, 20]));
    clients.stale_timeout = millis(rng.pick(&[1_000, 5_000, 20_000, 20_000]));
    clients.stale_reap_interval = millis(rng.pick(&[0, 5, 1_000]));
    clients.write_timeout = millis(rng.log_between(200, 10_000));
    clients.pace.frames = 0;
    clients.padding = rng.chance(30);
    let master = &mut config.master;
    master.channel_capacity = rng.pick(&[1, 4, 32_768]);
    master.channel_bytes = rng.pick(&[400, 1 << 20]);
    config.limits.handshake_timeout = millis(rng.log_between(2_000, 5_000));
    config
}
