//! Panics of a run, which are violations of a rule and not the end of the process.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs something. Returns what its panic says, if it panics.
pub(crate) fn panic_of(run: impl FnOnce()) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(run)).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
    Some(format!("panic: {}", text.unwrap_or_default()))
}
