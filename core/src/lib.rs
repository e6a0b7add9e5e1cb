//! The Voltlane edge, and the client's and the backend's side of it, as pure state machines.
//!
//! Nothing in this crate opens a socket, reads a clock, spawns a thread or draws ambient randomness. Bytes, [`Time`] and seeds are
//! arguments, and the caller takes the bytes to write. The same seed and the same calls give the same bytes.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
// Public types can be extended. An enum or a struct that others match or build as a whole says why.
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]
// A peer's bytes must not cause a panic: these lints refuse whatever could, and an `expect` gives the reason why it cannot.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        clippy::panic
    )
)]

#[macro_use]
mod image;

#[cfg(feature = "backend")]
pub mod backend;
#[cfg(any(feature = "edge", feature = "client"))]
mod backoff;
#[cfg(feature = "client")]
pub mod client;
mod closed;
pub mod code;
#[cfg(any(feature = "client", feature = "backend", feature = "edge"))]
mod config;
#[cfg(feature = "serde")]
mod data;
#[cfg(feature = "client")]
mod draws;
#[cfg(feature = "edge")]
pub mod edge;
#[cfg(any(feature = "client", feature = "backend"))]
pub mod end;
mod farewell;
#[cfg(feature = "keys")]
mod hex;
mod id;
#[cfg(feature = "keys")]
pub mod keys;
pub mod ledger;
#[cfg(any(feature = "edge", feature = "backend"))]
pub mod link;
#[cfg(any(feature = "edge", feature = "client"))]
mod opening;
#[cfg(any(feature = "edge", feature = "client"))]
pub mod protocol;
pub mod queue;
mod time;
#[cfg(any(feature = "edge", feature = "client"))]
pub mod v2;
#[cfg(any(feature = "edge", feature = "client"))]
pub mod v3;
pub mod wire;

#[cfg(any(feature = "edge", feature = "client"))]
pub use backoff::Backoff;
pub use closed::Closed;
#[cfg(any(feature = "client", feature = "backend", feature = "edge"))]
pub use config::ConfigError;
pub use farewell::Farewell;
pub use id::{ClientId, ShardId};
pub use queue::FrameQueue;
pub use time::Time;

/// Compiles the code in the package's README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
