//! The orderly end of the edge (SPEC 9.8).

use std::time::Duration;

use super::host::time;
use super::{Lane, Mark, World};

impl World<'_> {
    pub(super) fn shut_down(&mut self, within: u64) {
        let now = self.now;
        self.note(Lane::Edge, Lane::Edge, Mark::Fault, || {
            format!("is asked to end within {} ms", within / 1_000_000)
        });
        self.hash_shutdown(within);
        self.model.shutdown(now, within);
        self.host
            .edge
            .handle_shutdown(time(now), Duration::from_nanos(within));
        self.finish_step();
    }

    /// Ends the run once the edge has finished, as the process would.
    pub(super) fn look_whether_finished(&mut self) {
        let finished = self.host.edge.is_finished();
        self.model.check_finished(finished);
        if finished {
            self.model.check_counters(&self.host);
        }
        self.done |= finished;
    }
}
