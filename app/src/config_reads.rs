//! When the configuration was last read, and whether it was taken, for the metrics. The log says what was wrong with it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

static READ_AT: AtomicU64 = AtomicU64::new(0);
static WAS_REFUSED: AtomicBool = AtomicBool::new(false);

/// The last time that the configuration was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfigRead {
    /// When that was, in seconds since 1970.
    pub at: u64,
    /// Whether it was wrong, or something of it could not be put into effect.
    pub was_refused: bool,
}

/// Notes that the configuration was read, or that something of what was just read is refused.
pub(crate) fn note(was_refused: bool) {
    WAS_REFUSED.store(was_refused, Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    READ_AT.store(now.map_or(0, |now| now.as_secs()), Relaxed);
}

/// Returns the last time.
pub(crate) fn last() -> ConfigRead {
    ConfigRead {
        at: READ_AT.load(Relaxed),
        was_refused: WAS_REFUSED.load(Relaxed),
    }
}
