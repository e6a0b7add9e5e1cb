//! What a seed draws before the run: bounds, times, transports, and the frequency of operations.

use std::time::Duration;

use voltlane_core::edge::EdgeConfig;
use voltlane_core::protocol::OfferedVersions;

use crate::rng::Rng;
use crate::setups::unlimited;

/// The figures of one run.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) seed: u64,
    /// Whether it fills the trunk to its maximum.
    pub(super) heavy: bool,
    pub(super) shards: u8,
    pub(super) clients: usize,
    /// The number of addresses that the clients come from.
    pub(super) sources: u64,
    /// The configuration of the whole process.
    pub(super) config: EdgeConfig,
    /// The number of threads that serve the shards.
    pub(super) threads: usize,
    /// How often a thread gives shards away, in percent of its turns.
    pub(super) moves: u64,
    /// The longest pause between two turns of a slow thread, in nanoseconds, and how many threads are slow.
    pub(super) slow_nanos: u64,
    pub(super) slow_threads: usize,
    /// The capacity of transports per direction.
    pub(super) client_stream: usize,
    pub(super) link_stream: usize,
    /// The maximum number of bytes that one read or write moves.
    pub(super) chunk: usize,
    /// The largest payload, and the maximum number at once.
    pub(super) payload: u64,
    pub(super) burst: u64,
    /// The longest round of turns, in nanoseconds.
    pub(super) round_nanos: u64,
    pub(super) ops: u64,
    /// The longest pause between two operations, in nanoseconds.
    pub(super) gap_nanos: u64,
    /// The weight of each kind of operation.
    pub(super) weights: [u64; 16],
    pub(super) ends_by_shutdown: bool,
}

/// Operations that a seed may leave out altogether.
const OPTIONAL: [usize; 11] = [3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 15];

impl Setup {
    pub(super) fn draw(seed: u64) -> Setup {
        let mut rng = Rng::fork(seed, "setup of shards", 0);
        let clients = rng.between(2, 9) as usize;
        // Few seeds fill the trunk to its maximum, as it takes a hundred times the bytes.
        let heavy = rng.chance(4);
        let mut weights = [0; 16];
        for (number, weight) in weights.iter_mut().enumerate() {
            let left_out = OPTIONAL.contains(&number) && rng.chance(40);
            *weight = if left_out { 0 } else { rng.between(1, 20) };
        }
        // Without packets nothing else is observable.
        weights[0] += 10;
        weights[6] += 10;
        if heavy {
            weights[9..16].fill(1);
            (weights[2], weights[13], weights[14]) = (20, 10, 10);
        }
        let config = config(&mut rng, heavy);
        // Each client has room for its connection and one for the next.
        let of_a_source = match config.limits.sources.connections {
            0 => clients,
            connections => connections - 1,
        };
        let fewest = clients.div_ceil(of_a_source) as u64;
        let streams: &[usize] = if heavy {
            &[70_000, 300_000]
        } else {
            &[64, 300, 2_000, 70_000]
        };
        let shards: u8 = rng.pick(&[2, 2, 2, 3, 3, 4]);
        let threads = rng.between(1, shards.into()) as usize;
        Setup {
            seed,
            heavy,
            shards,
            threads,
            moves: rng.pick(&[0, 1, 10]),
            slow_nanos: rng.log_between(100_000, 20_000_000),
            slow_threads: rng.below(threads as u64 + 1) as usize,
            clients,
            sources: rng.between(fewest, clients as u64),
            config,
            client_stream: rng.pick(streams),
            link_stream: rng.pick(streams),
            chunk: if heavy {
                70_000
            } else {
                rng.pick(&[7, 40, 300, 70_000])
            },
            payload: if heavy {
                60_000
            } else {
                rng.pick(&[30, 200, 900])
            },
            burst: rng.between(1, if heavy { 60 } else { 8 }),
            round_nanos: rng.pick(&[50_000, 300_000, 2_000_000]),
            ops: rng.between(20, 120),
            gap_nanos: rng.log_between(100_000, 60_000_000),
            weights,
            ends_by_shutdown: rng.chance(30),
        }
    }
}

fn config(rng: &mut Rng, heavy: bool) -> EdgeConfig {
    let millis = Duration::from_millis;
    let mut config = EdgeConfig::default();
    // The model knows version 2 alone. Where version 3 is offered, a connection beyond the limits of its source is accepted for a Claim.
    config.listener.versions = OfferedVersions::new(&[2]).expect("it is known");
    let clients = &mut config.clients;
    clients.channel_capacity = rng.pick(&[1, 3, 8, 8192]);
    clients.channel_bytes = rng.pick(&[1_000, 1 << 20]);
    clients.missed_packets_buffer_size = rng.pick(&[0, 1, 3, 1_000, 1_000]);
    clients.missed_packets_buffer_bytes = rng.pick(&[500, 1 << 20]);
    clients.stale_timeout = millis(rng.log_between(60, 20_000));
    clients.stale_reap_interval = millis(rng.pick(&[0, 5, 1_000]));
    clients.max_stale_clients = rng.pick(&[65_535, 65_535, 65_535, 65_535, 65_535, 2, 3, 0]);
    clients.write_timeout = millis(rng.log_between(5, 10_000));
    if heavy {
        clients.channel_capacity = 8192;
        clients.channel_bytes = 8 << 20;
        clients.write_timeout = millis(10_000);
    }
    let master = &mut config.master;
    master.channel_capacity = rng.pick(&[1, 4, 32_768]);
    master.channel_bytes = rng.pick(&[400, 1 << 20]);
    master.announce_all = rng.chance(50);
    let limits = &mut config.limits;
    limits.max_half_open = rng.pick(&[0, 6, 1024, 1024]);
    limits.handshake_timeout = millis(rng.log_between(500, 5_000));
    // Rates and penalties concern a single machine, not several together.
    unlimited(&mut config);
    config.limits.sources.connections = rng.pick(&[0, 3, 6, 256, 256]);
    config
}
