//! Counts the files of the edge that could not be read or written while it ran, for the metrics. Each error is in the log as well. The log has
//! a count of its own, and configuration, keys and certificates are checked before they count.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A file whose error the edge outlives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// The recording, of `run --record`.
    #[cfg(feature = "record")]
    Record,
    /// `general.snapshot_file`
    #[cfg(feature = "snapshot")]
    Snapshot,
    /// The runs of the edge, beside `general.key_file`.
    Runs,
    /// `admin.ban_file`
    #[cfg(feature = "admin")]
    Bans,
}

const NAMES: [&str; 4] = ["record", "snapshot", "runs", "bans"];

static ERRORS: [AtomicU64; NAMES.len()] = [const { AtomicU64::new(0) }; NAMES.len()];

impl Kept {
    fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "record")]
            Kept::Record => "record",
            #[cfg(feature = "snapshot")]
            Kept::Snapshot => "snapshot",
            Kept::Runs => "runs",
            #[cfg(feature = "admin")]
            Kept::Bans => "bans",
        }
    }
}

/// Counts an error of this file.
pub(crate) fn count(file: Kept) {
    let place = NAMES.iter().position(|name| *name == file.name());
    if let Some(errors) = place.and_then(|place| ERRORS.get(place)) {
        errors.fetch_add(1, Relaxed);
    }
}

/// Returns the errors of each file since the start of the process, by its name in the metrics.
pub(crate) fn counts() -> Vec<(&'static str, u64)> {
    let counts = ERRORS.iter().map(|errors| errors.load(Relaxed));
    NAMES.into_iter().zip(counts).collect()
}
