//! Counts which fault follows which closely: single faults are what everybody tests.

use super::{Action, Join, Plan};

/// The kinds of faults that are paired, by their names in a plan. An odd handshake is a kind of its own.
///
/// A shutdown is not one of them, as little comes after it.
pub const FAULTS: &[&str] = &[
    "drop",
    "stall",
    "resume",
    "attempt",
    "half",
    "too-long",
    ODD_CONNECT,
    "b-kick",
    "b-kick-unknown",
    "b-send-unknown",
    "b-kick-data",
    "b-short",
    "b-flag",
    "b-too-long",
    "b-drop",
    "b-half",
    "b-refuse",
    "b-stall",
    "pause",
];
const ODD_CONNECT: &str = "odd-connect";

/// The maximum time between the two faults of a pair, in microseconds.
const WITHIN_US: u64 = 1_000_000;

/// The number of plans in which each ordered pair of faults comes within a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairs {
    counts: Vec<u32>,
}

impl Default for Pairs {
    fn default() -> Self {
        Pairs {
            counts: vec![0; FAULTS.len() * FAULTS.len()],
        }
    }
}

impl Pairs {
    /// Counts the pairs of a plan.
    pub fn add(&mut self, plan: &Plan) {
        let mut seen = vec![false; self.counts.len()];
        // The faults of the last second as (time, kind), the oldest first.
        let mut last: Vec<(u64, usize)> = Vec::new();
        for op in &plan.ops {
            let Some(second) = kind(&op.action) else {
                continue;
            };
            last.retain(|(at_us, _)| op.at_us - at_us <= WITHIN_US);
            for (_, first) in &last {
                seen[first * FAULTS.len() + second] = true;
            }
            last.push((op.at_us, second));
        }
        for (count, seen) in self.counts.iter_mut().zip(seen) {
            *count += u32::from(seen);
        }
    }

    /// Adds the counts of another table.
    pub fn merge(&mut self, other: &Pairs) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    /// Returns the pairs with their counts, the rarest first.
    #[must_use]
    pub fn rarest(&self) -> Vec<(&'static str, &'static str, u32)> {
        let pairs = FAULTS
            .iter()
            .flat_map(|first| FAULTS.iter().map(move |second| (*first, *second)));
        let mut pairs: Vec<_> = pairs
            .zip(&self.counts)
            .map(|((first, second), count)| (first, second, *count))
            .collect();
        pairs.sort_by_key(|(_, _, count)| *count);
        pairs
    }
}

/// Returns the index of an action in [`FAULTS`].
fn kind(action: &Action) -> Option<usize> {
    let name = match action {
        Action::Connect { join, .. } if *join != Join::Normal => ODD_CONNECT,
        other => other.name(),
    };
    FAULTS.iter().position(|fault| *fault == name)
}
