//! What all hosts of a run share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use voltlane_driver::EdgeHandle;

use super::ledger::{Expiry, Ledger};
use super::wires::Wires;

/// The ledger, the wires, and the way to end the edge. The hosts take turns on one thread, so no lock is ever waited for.
#[derive(Clone)]
pub(crate) struct Shared {
    ledger: Arc<Mutex<Ledger>>,
    edge: Arc<Mutex<Option<EdgeHandle>>>,
    pub(crate) wires: Wires,
}

impl Shared {
    pub(crate) fn new(expiry: Expiry) -> Shared {
        Shared {
            ledger: Arc::new(Mutex::new(Ledger::new(expiry))),
            edge: Arc::default(),
            wires: Wires::default(),
        }
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The edge that runs now.
    pub(crate) fn edge(&self) -> MutexGuard<'_, Option<EdgeHandle>> {
        self.edge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No more faults happen.
    pub(crate) fn is_calm(&self) -> bool {
        self.wires.is_calm()
    }

    /// Waits for a task to end; a task that panicked has broken a rule.
    pub(crate) async fn join(&self, task: tokio::task::JoinHandle<()>) {
        if let Err(error) = task.await {
            self.ledger().fail(now(), "H1", error.to_string());
        }
    }
}

/// Virtual nanoseconds since the start of the run.
pub(crate) fn now() -> u64 {
    turmoil::sim_elapsed().map_or(0, |elapsed| elapsed.as_nanos() as u64)
}
