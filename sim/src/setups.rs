//! What the setups of several engines draw alike.

use std::time::Duration;

use voltlane_core::edge::EdgeConfig;
use voltlane_core::protocol::OfferedVersions;

use crate::rng::Rng;

/// The transports of clients and links, and how much and how fast everybody works.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// The bytes that a connection of a client holds in each direction, and its longest delay.
    pub(crate) stream: u64,
    pub(crate) delay_us: u64,
    /// The same of a link.
    pub(crate) link_stream: u64,
    pub(crate) link_delay_us: u64,
    /// The most bytes of one call.
    pub(crate) chunk: u64,
    /// The most bytes of a packet, and the most packets of one operation.
    pub(crate) payload: u64,
    pub(crate) burst: u64,
    pub(crate) round_nanos: u64,
    /// How long an application takes for a packet at most, in nanoseconds: a client's, and a backend's.
    pub(crate) slow_nanos: u64,
    pub(crate) slow_host_nanos: u64,
}

impl Load {
    pub(crate) fn draw(rng: &mut Rng) -> Load {
        Load {
            stream: rng.pick(&[1_000, 8_000, 70_000]),
            delay_us: rng.pick(&[0, 500, 20_000]),
            link_stream: rng.pick(&[300, 4_000, 70_000]),
            link_delay_us: rng.pick(&[0, 500, 20_000, 200_000]),
            chunk: rng.pick(&[60, 500, 70_000]),
            payload: rng.pick(&[20, 60, 1_500]),
            burst: rng.pick(&[1, 4, 20]),
            round_nanos: rng.pick(&[50_000, 300_000, 2_000_000]),
            slow_nanos: rng.pick(&[0, 0, 5_000_000, 300_000_000]),
            slow_host_nanos: rng.pick(&[0, 5_000_000, 300_000_000]),
        }
    }

    /// Makes it that of a short run with few packets, in which nothing but the backend's application is slow.
    pub(crate) fn shorten(&mut self, slow_host_nanos: u64) {
        *self = Load {
            stream: 70_000,
            delay_us: 500,
            link_stream: 70_000,
            link_delay_us: 500,
            chunk: 70_000,
            payload: 20,
            burst: 2,
            round_nanos: self.round_nanos,
            slow_nanos: 0,
            slow_host_nanos,
        };
    }
}

/// Draws an edge for clients of both versions, whose sessions may be away for one of these times in milliseconds.
pub(crate) fn edge_of_both(rng: &mut Rng, stale_millis: &[u64]) -> EdgeConfig {
    let millis = Duration::from_millis;
    let mut config = EdgeConfig::default();
    unlimited(&mut config);
    config.listener.versions = OfferedVersions::new(&[2, 3]).expect("both are known");
    let clients = &mut config.clients;
    clients.ring_packets = rng.pick(&[2, 16, 8_192]);
    clients.ring_bytes = rng.pick(&[700, 1 << 20, 1 << 20]);
    clients.ack_delay = millis(rng.pick(&[0, 1, 25]));
    clients.keep_alive = Duration::from_secs(rng.pick(&[0, 20]));
    clients.stale_timeout = millis(rng.pick(stale_millis));
    clients.stale_reap_interval = millis(rng.pick(&[0, 5, 1_000]));
    clients.write_timeout = millis(rng.log_between(200, 10_000));
    clients.pace.frames = 0;
    config
}

/// Takes the limits of sources and of accepts away.
pub(crate) fn unlimited(config: &mut EdgeConfig) {
    let limits = &mut config.limits;
    limits.accept_rate = 0;
    (limits.sources.rate, limits.sources.wide_rate) = (0, 0);
    limits.sources.penalties = false;
}

/// Draws how often each kind of operation happens. `left_out` percent of them do not, but for the first `always`.
pub(crate) fn weights<const KINDS: usize>(
    rng: &mut Rng,
    always: usize,
    left_out: u64,
) -> [u64; KINDS] {
    std::array::from_fn(|number| {
        let is_left_out = number >= always && rng.chance(left_out);
        if is_left_out { 0 } else { rng.between(1, 20) }
    })
}
