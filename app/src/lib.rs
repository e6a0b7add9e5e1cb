//! The parts that the programs `voltlane` and `voltlane-smol` share: configuration, arguments, logging, the commands.
//!
//! A program is [`main`] with its [`Runtime`](voltlane_driver::Runtime).
#![deny(unsafe_code)]

mod accepts;
#[cfg(feature = "admin")]
mod admin;
pub mod cli;
mod commands;
pub mod config;
mod config_reads;
mod dial;
mod disk;
mod doors;
mod edge_name;
#[cfg(feature = "engine")]
mod engine;
mod entry;
mod file_errors;
#[doc(hidden)]
#[cfg(feature = "admin")]
pub mod fuzzing;
#[cfg(feature = "tls")]
mod handshakes;
pub mod http;
mod inherited;
pub mod key_file;
mod listen;
mod listeners;
pub mod logging;
mod memory;
pub mod metrics;
mod outlet;
#[cfg(feature = "admin")]
mod page;
pub mod passed;
#[cfg(feature = "record")]
mod pieces;
pub mod process;
#[cfg(feature = "record")]
mod record_file;
mod refusals;
mod resources;
mod runs_file;
mod secret_file;
#[cfg(all(feature = "admin", feature = "engine"))]
mod shared_bans;
#[cfg(feature = "snapshot")]
mod snapshot_file;
mod supervisor;
mod text;
#[cfg(all(feature = "upgrade", target_os = "linux"))]
mod upgrade;
#[cfg(feature = "websocket")]
mod upgrade_refusals;

pub use commands::main;
pub use entry::{EXIT_USAGE, ReadAgain, Task, main_with};
pub use resources::Resources;
