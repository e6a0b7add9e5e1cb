//! How many requests for WebSocket a listener has refused, by the reason.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use voltlane_doors::websocket::http::{Refusal, TellRefusal};

/// Counts by the reason. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct UpgradeRefusals(Arc<[AtomicU64; Refusal::ALL.len()]>);

impl UpgradeRefusals {
    /// Returns what counts them, from any thread.
    pub(crate) fn counter(&self) -> TellRefusal {
        let own = self.clone();
        TellRefusal::new(move |refusal| own.count(refusal))
    }

    fn count(&self, refusal: Refusal) {
        let place = Refusal::ALL.iter().position(|known| *known == refusal);
        if let Some(count) = place.and_then(|place| self.0.get(place)) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Returns the count of each reason, by its name.
    pub(crate) fn counts(&self) -> Vec<(&'static str, u64)> {
        let all = Refusal::ALL.iter().zip(&*self.0);
        all.map(|(refusal, count)| (refusal.name(), count.load(Relaxed)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_a_name_and_a_count_of_its_own() {
        let refusals = UpgradeRefusals::default();
        for (times, refusal) in Refusal::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| refusals.count(refusal));
        }
        let counts = refusals.clone().counts();
        let expected = Refusal::ALL.map(Refusal::name).into_iter().zip(0..);
        assert_eq!(counts, expected.collect::<Vec<_>>());
        let mut names: Vec<_> = counts.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Refusal::ALL.len());
    }
}
