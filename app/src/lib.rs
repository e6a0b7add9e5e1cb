//! What the binaries of Voltlane share and that needs no runtime: configuration, arguments, logging, `check`.
//!
//! A binary is [`main_with`] and a function that runs a [`Task`] on a runtime.
#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
mod descriptors;
mod disk;
mod entry;
pub mod key_file;
pub mod logging;
mod text;

pub use descriptors::raise_descriptor_limit;
pub use entry::{EXIT_USAGE, Task, main_with};
