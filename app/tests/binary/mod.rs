//! The binaries as processes: the same tests for each, which a crate with a binary includes. `BINARY` is the path of it.

mod commands;
mod process;
mod serving;

pub(crate) use process::{Directory, Process};
