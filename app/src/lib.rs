//! What the binaries of Voltlane share, which is all but the runtime: configuration, arguments, logging, the commands.
//!
//! A binary is [`main`] with its [`Runtime`].
#![deny(unsafe_code)]

pub mod cli;
mod commands;
pub mod config;
mod disk;
mod entry;
pub mod key_file;
pub mod logging;
mod memory;
pub mod metrics;
mod resources;
mod runtime;
mod text;

pub use commands::main;
pub use entry::{EXIT_USAGE, Task, main_with};
pub use resources::Resources;
pub use runtime::Runtime;
