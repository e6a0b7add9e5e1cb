//! Detects deadlines that are noticed late.

use std::time::Duration;

use voltlane_core::Time;

/// The delay from which a deadline counts as late.
const LATE: Duration = Duration::from_millis(500);

/// Returns whether `deadline` passed so long ago that the process must have been suspended or starved, or the future was not polled.
pub(crate) fn is_late(now: Time, deadline: Option<Time>) -> bool {
    deadline.is_some_and(|at| now.since(at) > LATE)
}
