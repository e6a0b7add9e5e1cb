//! Metrics of an edge for Prometheus, and its health for supervisors and load balancers.
//!
//! A thread of its own answers HTTP, so that no runtime is needed and the edge's loop pays for one look at a flag. When a
//! scraper asks, the loop copies its numbers once, and the thread makes text of them. GET and HEAD are answered.
//!
//! | path | answer |
//! | --- | --- |
//! | `/metrics` | all numbers, in the text format of OpenMetrics 1.0 |
//! | `/healthz` | 200 when the loop answers within a second, else 503 |
//! | `/readyz` | 200 when there is a backend and the edge does not end, else 503 and why |

mod connection;
mod exchange;
mod http;
mod server;
mod text;

use voltlane_core::edge::{Counters, Gauges};

pub use exchange::{Asked, Exchange};
pub use server::Server;
pub use text::encode;

/// The numbers of an edge at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Sums since the start.
    pub counters: Counters,
    /// The state at this moment.
    pub gauges: Gauges,
    /// Whether the edge was asked to end.
    pub is_ending: bool,
    /// Lines of the log that were lost since the start.
    pub log_lines_lost: u64,
}

impl Snapshot {
    /// Adds what another part of the process has.
    pub fn add(&mut self, other: &Snapshot) {
        self.counters.add(&other.counters);
        self.gauges.add(&other.gauges);
        self.is_ending |= other.is_ending;
        self.log_lines_lost += other.log_lines_lost;
    }
}
