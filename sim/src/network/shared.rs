//! State shared by all hosts of a run.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use voltlane_driver::{EdgeHandle, TrunkHandle};

use super::ledger::{Bounds, Ledger};
use super::wires::Wires;

/// How to end an edge's process: each of its shards, and their trunk if there are several.
#[derive(Default)]
pub(crate) struct Process {
    pub(crate) shards: Vec<EdgeHandle>,
    pub(crate) trunk: Option<TrunkHandle>,
}

impl Process {
    pub(crate) fn shutdown(&self, within: Duration) {
        for shard in &self.shards {
            shard.shutdown(within);
        }
        if let Some(trunk) = &self.trunk {
            trunk.shutdown(within);
        }
    }
}

/// The ledger, the wires, and the way to end the edge. The hosts take turns on one thread, so no lock is ever contended.
#[derive(Clone)]
pub(crate) struct Shared {
    ledger: Arc<Mutex<Ledger>>,
    edge: Arc<Mutex<Process>>,
    pub(crate) wires: Wires,
}

impl Shared {
    pub(crate) fn new(bounds: Bounds) -> Shared {
        Shared {
            ledger: Arc::new(Mutex::new(Ledger::new(bounds))),
            edge: Arc::default(),
            wires: Wires::default(),
        }
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the edge that runs now.
    pub(crate) fn edge(&self) -> MutexGuard<'_, Process> {
        self.edge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the faults are over.
    pub(crate) fn is_calm(&self) -> bool {
        self.wires.is_calm()
    }

    /// Waits for a task to end. A task that panicked has broken a rule.
    pub(crate) async fn join(&self, task: tokio::task::JoinHandle<()>) {
        if let Err(error) = task.await {
            self.ledger().fail(now(), "H1", error.to_string());
        }
    }
}

/// Returns the virtual nanoseconds since the start of the run.
pub(crate) fn now() -> u64 {
    turmoil::sim_elapsed().map_or(0, |elapsed| elapsed.as_nanos() as u64)
}
