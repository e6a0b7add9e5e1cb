//! Planted bugs: a test chooses one for its thread, and the simulator must find it.
//!
//! This file is no part of the workspace. `sim plant` puts it into its copy of core, followed by the enum `Bug`.

#[cfg(not(feature = "planted"))]
compile_error!(
    "this copy of core has bugs on purpose: build it as a dependency of `sim` with `--features planted`"
);
#[cfg(not(debug_assertions))]
compile_error!("this copy of core has bugs on purpose: it is for tests, never for a release");

use std::cell::Cell;

/// Whether this bug is planted in this thread.
#[macro_export]
macro_rules! planted {
    ($bug:ident) => {
        $crate::planted::is($crate::planted::Bug::$bug)
    };
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Plants `bug` in the machines of this thread from now on, or none.
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether this bug is planted in this thread.
#[must_use]
pub fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}
