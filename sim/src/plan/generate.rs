//! The swarm: each seed draws its own small world, so that over many seeds every mix of faults and limits occurs.

use std::collections::VecDeque;

use super::{Action, Attempt, Drop, Join, Op, Options, Plan};
use super::{extras, stories};
use crate::rng::Rng;

/// Generates the plan of `seed`.
#[must_use]
pub fn generate(seed: u64) -> Plan {
    let mut rng = Rng::fork(seed, "plan", 0);
    let options = draw_options(seed, &mut rng);
    let mut ops = Vec::new();
    let mut swarm = Swarm::draw(&options, &mut rng);
    let mut at_us = 0;
    for client in 0..options.clients as usize {
        ops.push(Op {
            at_us,
            action: Action::Connect {
                client,
                join: Join::Normal,
            },
        });
        at_us += rng.below(20_000);
    }
    let wanted = ops.len() + rng.between(15, 90) as usize;
    while ops.len() < wanted {
        at_us += rng.between(swarm.gap_us.0, swarm.gap_us.1);
        if rng.chance(swarm.long_gap_percent) {
            at_us += 1_000 * rng.log_between(50, swarm.longest_wait_ms);
        }
        let (wait_us, action) = match swarm.next.pop_front() {
            Some(next) => next,
            None => (0, swarm.draw_action(&options, &mut rng)),
        };
        at_us += wait_us;
        if swarm.next.is_empty() && rng.chance(swarm.chain_percent) {
            let partners = swarm.natural_partners(&action, &mut rng);
            let wait_us = swarm.patience_us(&action, &options, &mut rng);
            swarm
                .next
                .extend(partners.into_iter().map(|action| (0, action)));
            if let Some((wait, _)) = swarm.next.front_mut() {
                *wait = wait_us;
            }
        }
        ops.push(Op { at_us, action });
    }
    let mut plan = Plan { options, ops };
    extras::add(&mut plan);
    plan
}

fn draw_options(seed: u64, rng: &mut Rng) -> Options {
    let crowd = rng.chance(2);
    let small_queues = rng.chance(60);
    let write_chunk = rng.pick(&[1, 7, 64, 0, 0, 0]);
    let stale_timeout_ms = rng.log_between(100, 60_000);
    let delay_max_us = rng.pick(&[0, 2_000, 20_000, 200_000]);
    // With small windows on slow paths, sent data could take longer to arrive than the second phase lasts.
    let socket = if delay_max_us > 20_000 {
        [1 << 13, 1 << 14, 1 << 15, 1 << 16]
    } else {
        [1 << 9, 1 << 11, 1 << 13, 1 << 16]
    };
    Options {
        seed,
        clients: if crowd {
            rng.between(64, 256)
        } else {
            rng.between(1, 8)
        },
        delay_max_us,
        read_chunk: rng.pick(&[1, 7, 64, 0, 0, 0]),
        write_chunk,
        client_socket_bytes: rng.pick(if write_chunk == 0 {
            &socket
        } else {
            &socket[..2]
        }),
        link_socket_bytes: rng.pick(&socket),
        tick_us: 0,
        // A handshake takes up to six times the delay. There must be time for a correct one.
        handshake_timeout_ms: rng.log_between(300, 10_000) + delay_max_us / 125,
        frame_timeout_ms: rng.log_between(200, 10_000),
        write_timeout_ms: rng.log_between(200, 10_000),
        stale_timeout_ms,
        reap_interval_ms: rng.log_between(10, 15_000),
        max_stale_clients: if rng.chance(20) {
            rng.between(0, 3)
        } else {
            65_535
        },
        missed_packets: rng.pick(&[0, 1, 2, 5, 20, 50, 1_000]),
        missed_bytes: if small_queues {
            rng.pick(&[256, 4_096, 65_536])
        } else {
            1_048_576
        },
        client_queue_packets: if small_queues {
            rng.pick(&[1, 2, 8, 64])
        } else {
            8_192
        },
        client_queue_bytes: if small_queues {
            rng.pick(&[256, 4_096, 65_536])
        } else {
            1_048_576
        },
        link_queue_packets: if small_queues {
            rng.pick(&[1, 2, 8, 64])
        } else {
            32_768
        },
        link_queue_bytes: if small_queues {
            rng.pick(&[256, 4_096, 65_536])
        } else {
            33_554_432
        },
        max_up_bytes: if rng.chance(30) {
            rng.pick(&[64, 400])
        } else {
            1_048_576
        },
        max_down_bytes: if rng.chance(30) {
            rng.pick(&[64, 400])
        } else {
            8_388_608
        },
        closing_packets: rng.between(1, 4),
        ..Options::default()
    }
}

/// The emphasis of one seed.
struct Swarm {
    /// The kinds of actions that are enabled, with their weights.
    kinds: Vec<(Kind, u64)>,
    total: u64,
    clients: u64,
    /// The percentage of actions that go to one favourite client, so that several happen to the same one.
    favourite_percent: u64,
    gap_us: (u64, u64),
    long_gap_percent: u64,
    longest_wait_ms: u64,
    chain_percent: u64,
    burst_max: u64,
    bytes_max: u64,
    big_percent: u64,
    max_up_bytes: u64,
    max_down_bytes: u64,
    /// The size of a packet that no transport to a client takes whole while that client does not read.
    heavy_bytes: u64,
    /// The next actions, with the microseconds to wait before each.
    next: VecDeque<(u64, Action)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Connect,
    OddConnect,
    Send,
    Drop,
    Stall,
    Unstall,
    Resume,
    Attempt,
    Storm,
    Story,
    Half,
    TooLong,
    BackendSend,
    Kick,
    KickUnknown,
    SendUnknown,
    KickWithData,
    ShortFrame,
    BadFlag,
    BackendTooLong,
    LinkDrop,
    LinkHalf,
    Refuse,
    Accept,
    BackendStall,
    BackendUnstall,
    Pause,
}

/// Each kind with the percentage of seeds that enable it, and its largest weight.
const KINDS: &[(Kind, u64, u64)] = &[
    (Kind::Connect, 50, 30),
    (Kind::OddConnect, 70, 60),
    (Kind::Send, 100, 100),
    (Kind::Drop, 90, 100),
    (Kind::Stall, 60, 50),
    (Kind::Unstall, 50, 40),
    (Kind::Resume, 100, 100),
    (Kind::Attempt, 60, 60),
    (Kind::Storm, 16, 12),
    (Kind::Story, 70, 60),
    (Kind::Half, 30, 40),
    (Kind::TooLong, 30, 30),
    (Kind::BackendSend, 100, 100),
    (Kind::Kick, 50, 40),
    (Kind::KickUnknown, 20, 20),
    (Kind::SendUnknown, 20, 20),
    (Kind::KickWithData, 20, 20),
    (Kind::ShortFrame, 30, 20),
    (Kind::BadFlag, 30, 20),
    (Kind::BackendTooLong, 25, 20),
    (Kind::LinkDrop, 50, 40),
    (Kind::LinkHalf, 20, 15),
    (Kind::Refuse, 30, 20),
    (Kind::Accept, 50, 40),
    (Kind::BackendStall, 40, 30),
    (Kind::BackendUnstall, 50, 40),
    (Kind::Pause, 30, 20),
];

impl Swarm {
    fn draw(options: &Options, rng: &mut Rng) -> Swarm {
        let mut kinds = Vec::new();
        for &(kind, percent, weight_max) in KINDS {
            if rng.chance(percent) {
                kinds.push((kind, rng.between(1, weight_max)));
            }
        }
        let gap_max = 1_000 * rng.log_between(2, 200);
        Swarm {
            total: kinds.iter().map(|(_, weight)| weight).sum(),
            kinds,
            clients: options.clients,
            favourite_percent: rng.below(90),
            gap_us: (0, gap_max),
            long_gap_percent: rng.pick(&[0, 3, 10]),
            longest_wait_ms: (options.stale_timeout_ms * 2).clamp(60, 30_000),
            chain_percent: rng.below(100),
            burst_max: rng.log_between(1, 24),
            bytes_max: rng.pick(&[48, 300, 300, 3_000]),
            big_percent: rng.pick(&[0, 0, 5]),
            max_up_bytes: options.max_up_bytes,
            max_down_bytes: options.max_down_bytes,
            heavy_bytes: (options.client_socket_bytes + 3_000).min(options.max_down_bytes),
            next: VecDeque::new(),
        }
    }

    fn client(&self, rng: &mut Rng) -> usize {
        if rng.chance(self.favourite_percent) {
            0
        } else {
            rng.below(self.clients) as usize
        }
    }

    fn bytes(&self, rng: &mut Rng, max: u64) -> u64 {
        match () {
            () if rng.chance(self.big_percent) => rng.log_between(1_000, 60_000).min(max),
            () if rng.chance(3) => max.min(4_000),
            () if rng.chance(5) => 0,
            () => rng.between(0, self.bytes_max.min(max)),
        }
    }

    fn draw_action(&mut self, options: &Options, rng: &mut Rng) -> Action {
        let mut left = rng.below(self.total);
        for (kind, weight) in self.kinds.clone() {
            if left < weight {
                if kind == Kind::Storm {
                    let client = self.client(rng);
                    let count = rng.between(5, 24);
                    self.next
                        .extend((0..count).map(|_| (0, Action::Resume { client })));
                }
                if kind == Kind::Story {
                    let mut story = stories::draw(self.client(rng), options, rng);
                    let (_, first) = story.remove(0);
                    self.next.extend(story);
                    return first;
                }
                return self.action(kind, rng);
            }
            left -= weight;
        }
        self.action(Kind::Send, rng)
    }

    fn action(&self, kind: Kind, rng: &mut Rng) -> Action {
        let client = self.client(rng);
        let count = rng.between(1, self.burst_max);
        match kind {
            Kind::Connect => Action::Connect {
                client,
                join: Join::Normal,
            },
            Kind::OddConnect => Action::Connect {
                client,
                join: rng.pick(Join::ALL),
            },
            Kind::Send => Action::Send {
                client,
                count,
                bytes: self.bytes(rng, self.max_up_bytes),
            },
            Kind::Drop => Action::Drop {
                client,
                how: rng.pick(Drop::ALL),
            },
            Kind::Stall => Action::Stall { client },
            Kind::Unstall => Action::Unstall { client },
            Kind::Attempt => Action::Attempt {
                client,
                how: rng.pick(Attempt::ALL),
            },
            Kind::Resume | Kind::Storm | Kind::Story => Action::Resume { client },
            Kind::Half => Action::Half { client },
            Kind::TooLong => Action::TooLong { client },
            Kind::BackendSend => Action::BackendSend {
                client,
                count,
                bytes: self.bytes(rng, self.max_down_bytes),
            },
            Kind::Kick => Action::Kick { client },
            Kind::KickUnknown => Action::KickUnknown {},
            Kind::SendUnknown => Action::SendUnknown {},
            Kind::KickWithData => Action::KickWithData { client },
            Kind::ShortFrame => Action::ShortFrame {
                bytes: rng.below(9),
            },
            Kind::BadFlag => Action::BadFlag {
                client,
                flag: rng.pick(&[1, 3, 4, 0x80, 0xff]),
            },
            Kind::BackendTooLong => Action::BackendTooLong {},
            Kind::LinkDrop => Action::LinkDrop {
                how: rng.pick(Drop::ALL),
            },
            Kind::LinkHalf => Action::LinkHalf { client },
            Kind::Refuse => Action::Refuse {},
            Kind::Accept => Action::Accept {},
            Kind::BackendStall => Action::BackendStall {},
            Kind::BackendUnstall => Action::BackendUnstall {},
            Kind::Pause => Action::Pause {
                ms: rng.log_between(1, 3_000),
            },
        }
    }

    /// Sometimes waits until the deadline of what was just begun has passed.
    fn patience_us(&self, action: &Action, options: &Options, rng: &mut Rng) -> u64 {
        let millis = match action {
            Action::BackendSend { bytes, .. } if *bytes == self.heavy_bytes && rng.chance(50) => {
                options.write_timeout_ms
            }
            Action::BackendSend { .. } if rng.chance(4) => options.write_timeout_ms,
            Action::Half { .. } if rng.chance(30) => options.frame_timeout_ms,
            // Until shortly before the deadline of its session, or just after it.
            Action::Drop { .. } if rng.chance(20) => {
                options.stale_timeout_ms * rng.between(50, 105) / 110
            }
            Action::Connect {
                join: Join::Mute | Join::HalfFrame | Join::StallAfterVersion,
                ..
            } if rng.chance(30) => options.handshake_timeout_ms,
            _ => 0,
        };
        // Only now and then, and not if it is very long: a run should contain many things.
        if millis > 8_000 { 0 } else { millis * 1_100 }
    }

    /// Returns what often happens next to the same client in practice, which is where the bugs are.
    fn natural_partners(&self, action: &Action, rng: &mut Rng) -> Vec<Action> {
        let count = rng.between(1, self.burst_max);
        let up = |rng: &mut Rng, client, count| Action::Send {
            client,
            count,
            bytes: self.bytes(rng, self.max_up_bytes),
        };
        let down = |rng: &mut Rng, client, count| {
            let bytes = self.bytes(rng, self.max_down_bytes);
            Action::BackendSend {
                client,
                count,
                bytes,
            }
        };
        let drop = |rng: &mut Rng, client| Action::Drop {
            client,
            how: rng.pick(Drop::ALL),
        };
        let one = match *action {
            Action::Connect { client, .. } => up(rng, client, count),
            Action::Drop { client, .. } => match rng.below(7) {
                0 => Action::Kick { client },
                1 | 2 => down(rng, client, count),
                3 => Action::Attempt {
                    client,
                    how: rng.pick(Attempt::ALL),
                },
                _ => Action::Resume { client },
            },
            Action::BackendSend { client, .. } => match rng.below(3) {
                0 => drop(rng, client),
                _ => Action::Resume { client },
            },
            Action::Attempt { client, .. } => match rng.below(3) {
                0 => Action::Attempt {
                    client,
                    how: rng.pick(Attempt::ALL),
                },
                1 => down(rng, client, count),
                _ => Action::Resume { client },
            },
            Action::Resume { client } => match rng.below(5) {
                0 => Action::Resume { client },
                1 => drop(rng, client),
                2 => down(rng, client, count),
                3 => Action::Kick { client },
                _ => up(rng, client, count),
            },
            Action::Stall { client } => {
                // One packet larger than the transport waits; many small ones may exceed the queue.
                if rng.chance(60) {
                    let bytes = self.heavy_bytes;
                    let mut more = vec![Action::BackendSend {
                        client,
                        count: 1,
                        bytes,
                    }];
                    if rng.chance(60) {
                        let how = rng.pick(&[Drop::Fin, Drop::Rst, Drop::Rst]);
                        more.extend([Action::Drop { client, how }, Action::Resume { client }]);
                    }
                    return more;
                }
                let mut more = vec![down(rng, client, 24), down(rng, client, 24)];
                more.extend(rng.chance(50).then(|| drop(rng, client)));
                return more;
            }
            Action::LinkDrop { .. } | Action::Refuse {} => {
                let client = self.client(rng);
                up(rng, client, count)
            }
            Action::BackendStall {} => {
                let client = self.client(rng);
                let mut more = vec![up(rng, client, 24), up(rng, client, 24)];
                more.extend(rng.chance(50).then(|| Action::LinkDrop {
                    how: rng.pick(Drop::ALL),
                }));
                more.extend(rng.chance(50).then_some(Action::BackendUnstall {}));
                return more;
            }
            Action::Send { client, .. } => match rng.below(4) {
                0 => Action::LinkDrop {
                    how: rng.pick(Drop::ALL),
                },
                _ => drop(rng, client),
            },
            Action::Kick { client } => up(rng, client, count),
            _ => return Vec::new(),
        };
        vec![one]
    }
}
