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

mod exchange;
#[cfg(feature = "figures")]
mod figures;
mod pages;
mod text;

use voltlane_core::edge::{Counters, Gauges, Histogram};

use crate::process::Process;

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
    /// Connections accepted by each listener that there is, by its name.
    pub accepts: Vec<(String, u64)>,
    /// When the first certificate of each listener within TLS expires, in seconds since 1970.
    pub expiries: Vec<(String, u64)>,
    /// When the first list of revoked certificates of each listener that has some is to be replaced, in seconds since 1970.
    pub list_expiries: Vec<(String, u64)>,
    /// How long turns of the loops took that were followed at once by another.
    pub turn_times: Histogram,
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

/// Returns those of the loops that are shards. With several, the first two are the process and its trunk.
pub(crate) fn shards_of(loops: &[Snapshot]) -> &[Snapshot] {
    match loops {
        [one] => std::slice::from_ref(one),
        [_, _, shards @ ..] => shards,
        _ => &[],
    }
}

impl Snapshot {
    /// Adds the metrics of another part of the process.
    pub fn add(&mut self, other: &Snapshot) {
        self.counters.add(&other.counters);
        self.gauges.add(&other.gauges);
        self.is_ending |= other.is_ending;
        self.note = self.note.or(other.note);
        self.log_lines_lost += other.log_lines_lost;
        self.accepts.extend_from_slice(&other.accepts);
        self.expiries.extend_from_slice(&other.expiries);
        self.list_expiries.extend_from_slice(&other.list_expiries);
        self.turn_times.add(&other.turn_times);
    }
}
