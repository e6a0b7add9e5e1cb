//! Metrics of an edge for Prometheus, and its health for supervisors and load balancers.
//!
//! A thread of its own answers HTTP, so no runtime is needed and the cost for the edge's loop is a check of one flag. When a scraper asks,
//! the loop copies its numbers once, and the thread formats them. GET and HEAD are answered.
//!
//! | path | answer |
//! | --- | --- |
//! | `/metrics` | all numbers, in the text format of OpenMetrics 1.0 |
//! | `/healthz` | 200 when the loop answers within a second, else 503 |
//! | `/readyz` | 200 when there is a backend, it is not in doubt and the edge neither ends nor is drained; else 503 and why. With 200, what else is to be known |
//! | `/` | the status page (feature `admin`) |
//! | `/events` | its numbers each second, as Server-Sent Events (feature `admin`) |

#[cfg(feature = "admin")]
mod describe;
mod exchange;
#[cfg(feature = "figures")]
mod figures;
mod pages;
mod text;

use voltlane_core::edge::{Counters, Gauges, Histogram};

use crate::process::Process;

pub use crate::config_reads::ConfigRead;

#[cfg(feature = "admin")]
pub use describe::{
    Description, Label, describe, describe_as_json, describe_as_markdown, describe_as_text,
};
pub use exchange::{Asked, Exchange};
#[cfg(feature = "admin")]
pub(crate) use pages::readiness;
pub use pages::serve;
pub use text::encode;

/// The metrics of an edge at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Counters since the start.
    pub counters: Counters,
    /// The state at this moment.
    pub gauges: Gauges,
    /// Whether the edge was asked to end.
    pub is_ending: bool,
    /// What an operator should know while the edge is ready.
    pub note: Option<&'static str>,
    /// Log lines lost since the start.
    pub log_lines_lost: u64,
    /// Errors of the files that the edge keeps since the start, by the names of the files.
    pub file_errors: Vec<(&'static str, u64)>,
    /// The last time that the configuration was read.
    pub config_read: ConfigRead,
    /// The bans that the edges of a cluster share, and how many were refused, if this one shares them.
    pub shared_bans: Option<(usize, u64)>,
    /// Whether the edge is recorded still, if it was to be.
    pub recording: Option<bool>,
    /// Connections accepted by each listener that there is, by its name.
    pub accepts: Vec<(String, u64)>,
    /// When the first certificate of each listener within TLS expires, in seconds since 1970.
    pub expiries: Vec<(String, u64)>,
    /// When the first list of revoked certificates of each listener that has some is to be replaced, in seconds since 1970.
    pub list_expiries: Vec<(String, u64)>,
    /// How long handshakes of TLS took at each listener that has it, by its name and by how they ended.
    pub handshakes: Vec<(String, &'static str, Histogram)>,
    /// Requests for WebSocket that each listener that has it has refused, by its name and by the reason.
    pub refusals: Vec<(String, &'static str, u64)>,
    /// How long turns of the loops took that were followed at once by another.
    pub turn_times: Histogram,
    /// How long packets for a backend waited, each time that its link took less than there was.
    pub link_waits: Histogram,
    /// The backends, by their numbers, if there are several; of a loop, the one that it is the trunk of.
    pub backends: Vec<Backend>,
    /// The figures of each shard, by its number.
    pub shards: Vec<Shard>,
    /// Memory, time and descriptors of the process.
    pub process: Process,
}

/// The figures of one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shard {
    /// Its connections.
    pub connections: u64,
    /// Its sessions.
    pub sessions: u64,
    /// The packets that it has passed on, in both directions.
    pub packets: u64,
    /// The bytes that wait in it.
    pub held_bytes: u64,
}

/// The figures of one of several backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backend {
    /// Whether there is a link to it.
    pub is_up: bool,
    /// Whether it gets no more sessions.
    pub is_draining: bool,
    /// Its sessions.
    pub sessions: u64,
    /// The packets that wait for it.
    pub queue_packets: u64,
    /// Their bytes.
    pub queue_bytes: u64,
}

impl Backend {
    /// Returns those of its trunk, or of one of its shards.
    pub(crate) fn of(gauges: &Gauges, is_draining: bool) -> Backend {
        Backend {
            is_up: gauges.has_backend(),
            is_draining,
            sessions: gauges.sessions as u64,
            queue_packets: gauges.link_packets as u64,
            queue_bytes: gauges.link_bytes as u64,
        }
    }
}

impl From<&Snapshot> for Shard {
    fn from(snapshot: &Snapshot) -> Shard {
        let Snapshot {
            counters, gauges, ..
        } = snapshot;
        Shard {
            connections: gauges.connections as u64,
            sessions: gauges.sessions as u64,
            packets: counters.packets_up + counters.packets_down,
            held_bytes: gauges.held_bytes as u64,
        }
    }
}

/// Returns those of the loops that are shards. With several, the first is the process, and behind it is the trunk of each backend.
pub(crate) fn shards_of(loops: &[Snapshot]) -> &[Snapshot] {
    match loops {
        [one] => std::slice::from_ref(one),
        [_, rest @ ..] => {
            let trunks = rest.iter().filter(|one| !one.backends.is_empty());
            rest.get(trunks.count().max(1)..).unwrap_or_default()
        }
        [] => &[],
    }
}

/// Returns the backends, if there are several, each with the figures of its shards.
pub(crate) fn backends_of(loops: &[Snapshot]) -> Vec<Backend> {
    let trunks = loops.iter().flat_map(|one| &one.backends);
    let mut backends: Vec<Backend> = trunks.copied().collect();
    let shards = shards_of(loops);
    let each = shards.len().div_ceil(backends.len().max(1)).max(1);
    for (backend, shards) in backends.iter_mut().zip(shards.chunks(each)) {
        for shard in shards {
            let own = Backend::of(&shard.gauges, false);
            backend.sessions += own.sessions;
            backend.queue_packets += own.queue_packets;
            backend.queue_bytes += own.queue_bytes;
        }
    }
    backends
}

/// Returns the bans that the edges of a cluster share, and how many were refused, if this one shares them.
pub(crate) fn shared_bans() -> Option<(usize, u64)> {
    #[cfg(all(feature = "admin", feature = "engine"))]
    return crate::shared_bans::counts();
    #[cfg(not(all(feature = "admin", feature = "engine")))]
    None
}

impl Snapshot {
    /// Adds the metrics of another part of the process.
    pub fn add(&mut self, other: &Snapshot) {
        self.counters.add(&other.counters);
        self.gauges.add(&other.gauges);
        self.is_ending |= other.is_ending;
        self.note = self.note.or(other.note);
        self.log_lines_lost += other.log_lines_lost;
        self.file_errors.extend_from_slice(&other.file_errors);
        if other.config_read.at >= self.config_read.at {
            self.config_read = other.config_read;
        }
        self.shared_bans = self.shared_bans.or(other.shared_bans);
        self.recording = self.recording.or(other.recording);
        self.accepts.extend_from_slice(&other.accepts);
        self.expiries.extend_from_slice(&other.expiries);
        self.list_expiries.extend_from_slice(&other.list_expiries);
        self.handshakes.extend_from_slice(&other.handshakes);
        self.refusals.extend_from_slice(&other.refusals);
        self.turn_times.add(&other.turn_times);
        self.link_waits.add(&other.link_waits);
        self.backends.extend_from_slice(&other.backends);
        if self.backends.iter().any(|backend| backend.is_up) {
            // What is wrong with another one does not make the edge useless (SPEC 45.4(d)).
            self.gauges.link_is_doubted = false;
            self.gauges.link_is_unasked = false;
            self.gauges.link_is_unproven = false;
        }
    }
}
