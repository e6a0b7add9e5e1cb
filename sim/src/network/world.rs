//! A run before it starts: everything that its seed draws.

use std::fmt;
use std::num::NonZeroU8;
use std::time::Duration;

use voltlane_core::edge::{EdgeConfig, Enforce};
use voltlane_core::protocol::OfferedVersions;
use voltlane_driver::client::ClientConfig;

use super::Carriage;
use super::carriage::Carried as _;
use super::faults::{Trouble, draw_troubles};
use super::knobs::Knobs;
use super::ledger::Bounds;
use crate::rng::Rng;

/// How long faults happen.
pub(crate) const FAULTS: Duration = Duration::from_secs(20);
/// The longest time for which a kernel believes in a dead connection.
pub(crate) const KERNEL_PATIENCE: Duration = Duration::from_secs(5);
/// Clients per host, well below the 16,384 ports that turmoil has for each.
pub(crate) const CLIENTS_PER_HOST: u32 = 2_500;
/// The largest packet echoed once the faults are over.
pub(crate) const ECHO_BYTES_MAX: u64 = 240;
/// From this many clients a run is a crowd, in which each client sends less.
const CROWD: u32 = 64;

/// Everything that a run depends on.
#[derive(Clone, Debug)]
pub struct World {
    /// The seed of everything that is not listed here.
    pub seed: u64,
    /// The number of clients that use the shipped library.
    pub clients: u32,
    /// How many of these speak version 3. The others speak version 2.
    pub v3: u32,
    /// The number of clients that speak the published protocol by themselves.
    pub published: u32,
    /// The number of strangers, each a task that repeats its habit.
    pub strangers: u32,
    /// The step of the simulation, and so the resolution of what passes between hosts. Each step costs the same, whether anything happens
    /// in it or not.
    pub tick: Duration,
    /// The longest delay of a segment.
    pub latency: Duration,
    /// Faults of single socket calls.
    pub knobs: Knobs,
    /// What the clients' link is carried in.
    pub carriage: Carriage,
    /// The edge's configuration.
    pub edge: EdgeConfig,
    /// The number of shards. In production each has a thread; here they take turns. Several of them are joined by a trunk.
    pub shards: NonZeroU8,
    /// Whether a restarted edge keeps its key.
    pub keeps_key: bool,
    /// The percentage of clients that leave for good once the faults are over.
    pub leavers: u64,
    /// The faults of the network and its hosts, in order of time.
    pub troubles: Vec<(Duration, Trouble)>,
}

impl World {
    /// Draws the world of a seed: up to 10 clients, now and then a crowd.
    #[must_use]
    pub fn draw(seed: u64) -> World {
        let mut rng = Rng::fork(seed, "network-clients", 0);
        let clients = match rng.below(100) {
            0..4 => rng.between(64, 256),
            _ => rng.between(1, 10),
        };
        World::with_clients(seed, clients as u32)
    }

    /// Draws the world of a seed with this many clients, of both kinds together.
    #[must_use]
    pub fn with_clients(seed: u64, clients: u32) -> World {
        let mut rng = Rng::fork(seed, "network", 0);
        let is_crowd = clients >= CROWD;
        let knobs = Knobs::draw(&mut rng);
        let published = rng.pick(&[0, 1, 3]).min(10) * clients / 10;
        let edge = edge_config(&mut rng, clients);
        let strangers = rng.pick(&[0, 0, 2, 6, 12]);
        World {
            seed,
            clients: clients - published,
            v3: Rng::fork(seed, "network-numbered", 0).pick(&[0, 1, 2]) * (clients - published) / 2,
            published,
            strangers,
            tick: Duration::from_millis(rng.pick(if is_crowd { &[10] } else { &[1, 2, 5, 10] })),
            latency: Duration::from_millis(rng.pick(&[2, 20, 100])),
            knobs: if is_crowd { Knobs::kind() } else { knobs },
            carriage: if is_crowd {
                Carriage::Tcp
            } else {
                Carriage::draw(&mut Rng::fork(seed, "network-carriage", 0))
            },
            edge,
            keeps_key: rng.chance(70),
            leavers: rng.pick(&[0, 30, 100]),
            troubles: draw_troubles(&mut rng),
            shards: NonZeroU8::new(rng.pick(&[1, 1, 2, 3])).unwrap_or(NonZeroU8::MIN),
        }
    }

    /// Returns the number of clients of both kinds.
    #[must_use]
    pub fn all_clients(&self) -> u32 {
        self.clients + self.published
    }

    /// Returns the factor by which each client sends less than one of a few does.
    pub(crate) fn quiet(&self) -> u64 {
        u64::from(self.all_clients() / CROWD + 1)
    }

    /// Returns how long after the faults every client may take to send and receive what it must.
    ///
    /// The kernels give up what died with the last fault. Meanwhile or afterwards, the edge finds its backend. A client may hang in an
    /// attempt to connect or in a handshake, learn from three challenges that it is unknown, be refused, and begin a new session. It pauses
    /// before each attempt.
    pub(crate) fn recovery(&self) -> Duration {
        let client = ClientConfig::default();
        let link = self.edge.master.connect_timeout + self.edge.master.reconnect_max;
        let attempts = client.backoff().1 * 5;
        let stuck =
            client.connect_timeout() + client.handshake_timeout() + self.edge.clients.write_timeout;
        // One of version 3 whose edge has restarted asks until its own clock says that the session is over (SPEC 23.4(h)).
        let gives_up = match self.v3 {
            0 => Duration::ZERO,
            _ => self.edge.clients.stale_timeout + client.backoff().1,
        };
        let delays = self.latency * 10 + Duration::from_secs(1);
        KERNEL_PATIENCE + link + stuck + attempts + gives_up + delays
    }

    /// Returns how long the answer to a packet may take when nothing is wrong: four hops, each with a segment's longest delay plus the step
    /// that it waits for, doubled because turmoil may delay a segment behind an earlier one.
    pub(crate) fn round_trip(&self) -> Duration {
        (self.latency + self.tick * 2) * 8
    }

    /// Returns the bounds by which the ledger judges the run.
    pub(crate) fn bounds(&self) -> Bounds {
        let clients = &self.edge.clients;
        let latest = clients.stale_timeout + clients.stale_reap_interval + self.round_trip();
        // A full window in flight, another one in the reader's buffer, and the packet that was cut.
        let lost = 2 * self.knobs.window_bytes + self.knobs.packet_bytes_max() + ECHO_BYTES_MAX;
        Bounds {
            expiry: (
                clients.stale_timeout.as_nanos() as u64,
                latest.as_nanos() as u64,
            ),
            lost_bytes: lost as usize + self.carriage.held_bytes(),
        }
    }
}

fn edge_config(rng: &mut Rng, clients: u32) -> EdgeConfig {
    let mut config = EdgeConfig::default();
    config.listener.versions = OfferedVersions::new(&[2, 3]).expect("both are known");
    config.clients.missed_packets_buffer_size = rng.pick(&[0, 3, 1_000]);
    config.clients.stale_timeout = Duration::from_millis(rng.log_between(1_000, 30_000));
    config.clients.stale_reap_interval = Duration::from_millis(rng.log_between(10, 5_000));
    config.clients.channel_capacity = rng.pick(&[8, 100, 8_192]);
    config.clients.channel_bytes = rng.pick(&[4_096, 65_536, 1 << 20]);
    config.clients.write_timeout = Duration::from_millis(rng.pick(&[1_000, 10_000]));
    config.master.channel_capacity = rng.pick(&[2, 64, 32_768]);
    config.master.channel_bytes = rng.pick(&[4_096, 32 << 20]);
    config.master.announce_all = rng.chance(30);
    config.limits.handshake_timeout = Duration::from_millis(rng.pick(&[2_000, 5_000]));
    let half_open = rng.pick(&[64, 1_024]);
    if clients < CROWD {
        config.limits.max_half_open = half_open;
    }
    // All clients of a host are one source, so a crowd would be refused for its size.
    if clients > 10 || rng.chance(50) {
        config.limits.enforce_sources = Enforce::Off;
    }
    config
}

impl fmt::Display for World {
    /// Writes the header of a run, one topic per line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (clients, master, limits) = (&self.edge.clients, &self.edge.master, &self.edge.limits);
        writeln!(
            f,
            "seed {}: {} clients of the library, {} of them of version 3, {} of the published protocol, {} strangers, {} % of the clients leave",
            self.seed, self.clients, self.v3, self.published, self.strangers, self.leavers
        )?;
        writeln!(
            f,
            "link of the clients {:?}, step {:?}, latency to {:?}, knobs:{}",
            self.carriage, self.tick, self.latency, self.knobs
        )?;
        writeln!(
            f,
            "edge of {} shards: missed packets {}, away for {:?}, reaped every {:?}, queue {} packets, {} bytes, write timeout {:?}; link queue {} packets, {} bytes, announces {}; handshake {:?}, half open {}, sources {:?}; keeps its key {}",
            self.shards,
            clients.missed_packets_buffer_size,
            clients.stale_timeout,
            clients.stale_reap_interval,
            clients.channel_capacity,
            clients.channel_bytes,
            clients.write_timeout,
            master.channel_capacity,
            master.channel_bytes,
            master.announce_all,
            limits.handshake_timeout,
            limits.max_half_open,
            limits.enforce_sources,
            self.keeps_key,
        )?;
        for (at, trouble) in &self.troubles {
            writeln!(f, "{:>8.3} s  {trouble:?}", at.as_secs_f64())?;
        }
        Ok(())
    }
}
