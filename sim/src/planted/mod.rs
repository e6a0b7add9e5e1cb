//! Deliberate bugs, by which the simulator checks itself: each is planted in the core and must be found.
//!
//! The core's source does not mention them. `sim/planted/*.toml` is a [`Table`] of changes to it, and to what the simulator runs several
//! shards on: the shipped exchange of batches and its own threads. [`copy`] makes a copy of the workspace that has them all. In the copy, a
//! test activates at most one bug for its thread, with `voltlane_core::planted::plant`, so one build serves all of them. `sim plant` makes
//! the copy in `target/planted` and runs cargo in it:
//!
//! ```sh
//! cargo run -p sim -- plant test -p sim --features planted --test planted
//! ```
//!
//! # How to add a bug
//!
//! 1. Write a row into the file of its topic in `sim/planted`. A bug that only several shards or a crowd can show
//!    belongs in `shards.toml` or `crowds.toml`, one of version 3 in `v3.toml` or, if it takes a crowd, `v3_crowds.toml`, one of version 3 of
//!    the backend link in `link3.toml`, one of several edges in `fleet.toml`, of
//!    tickets in `roaming.toml`, one of several backends in `pins.toml`, one of TLS or WebSocket
//!    in `doors.toml`.
//!
//!    ```toml
//!    [[bug]]
//!    name = "EndNotTold"
//!    why = "The backend does not hear that a session has ended."
//!
//!    [[bug.change]]
//!    file = "core/src/edge/lifecycle/ending.rs"
//!    find = "self.tell_ended(session, reason, kick);"
//!    replace = """
//!    if !planted!(EndNotTold) {
//!        self.tell_ended(session, reason, kick);
//!    }"""
//!    ```
//!
//!    `find` is a piece of the file that occurs exactly once. White space is ignored, so a change of formatting does not matter. `replace`
//!    takes its place. `planted!(EndNotTold)` in it is true when this bug is active; otherwise it must do what `find` did. A bug may have
//!    several changes. No two changes may touch the same text, even of different bugs: choose a shorter `find`, or one before or after it.
//! 2. Name the rules that the bug breaks in `rules` of `sim/tests/planted.rs`. The new name becomes a variant of
//!    `voltlane_core::planted::Bug` automatically.
//! 3. Check that it is found: `VL_BUG=EndNotTold` before the command above runs only this one.
//!
//! `sim/tests/planted_table.rs` checks the table against the core's source in every test run, without the copy. If it fails after a change
//! to the core, update the row that it names.

mod copy;
mod table;

pub use copy::{copy, workspace};
pub use table::{Bug, Change, Group, Table};
