//! Bugs on purpose, for the simulator's check of itself: each is planted in the core, and must be found.
//!
//! The text of the core knows nothing of them. `sim/planted/*.toml` is a [`Table`] of changes of that text, and
//! [`copy`] makes a copy of the workspace whose core has them all. In the copy a test chooses at most one bug for its
//! thread, with `voltlane_core::planted::plant`; so one build is enough for all of them. `sim plant` makes the copy in
//! `target/planted` and runs cargo in it:
//!
//! ```sh
//! cargo run -p sim -- plant test -p sim --features planted --test planted
//! ```
//!
//! # How to add a bug
//!
//! 1. Write a row into the file of its topic in `sim/planted`. A bug that only several shards or a crowd can show
//!    belongs in `shards.toml` or `crowds.toml`.
//!
//!    ```toml
//!    [[bug]]
//!    name = "EndNotTold"
//!    why = "The backend does not hear that a session has ended."
//!
//!    [[bug.change]]
//!    file = "core/src/edge/ending.rs"
//!    find = "self.tell_backend(session, Flag::Failure, reason.text().as_bytes());"
//!    replace = """
//!    if !planted!(EndNotTold) {
//!        self.tell_backend(session, Flag::Failure, reason.text().as_bytes());
//!    }"""
//!    ```
//!
//!    `find` is a piece of the file that occurs once in it. White space does not count, so a change of format does not
//!    matter. `replace` takes its place; `planted!(EndNotTold)` in it is true where this bug was chosen. Without a bug
//!    it must do what `find` did. A bug may have several changes. No two changes may touch the same text, whichever bug
//!    they belong to: choose a short `find`, or one before or after it.
//! 2. Name the rules that the bug breaks in `rules` of `sim/tests/planted.rs`. The new name is a variant of
//!    `voltlane_core::planted::Bug` by itself.
//! 3. Look whether it is found: `VL_BUG=EndNotTold` before the command above looks for this one only.
//!
//! `sim/tests/planted_table.rs` holds the table to the text of the core in every test run, without the copy. If it
//! fails after a change of the core, give the row that it names the new text.

mod copy;
mod table;

pub use copy::{copy, workspace};
pub use table::{Bug, Change, Group, Table};
