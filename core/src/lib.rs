//! The Voltlane edge, and the client's and the backend's side of it, as pure state machines.
//!
//! Nothing in this crate opens a socket, reads a clock, spawns a thread or draws ambient randomness: bytes, [`Time`]
//! and seeds are arguments, and what is to be written is taken by the caller. The same seed and the same calls give
//! the same bytes.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
// Bytes of a peer must not be able to panic: whatever could is refused here, and an `expect` says why it holds.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        clippy::panic
    )
)]

#[cfg(feature = "backend")]
pub mod backend;
#[cfg(any(feature = "edge", feature = "client"))]
mod backoff;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "serde")]
mod data;
#[cfg(feature = "edge")]
pub mod edge;
mod id;
#[cfg(feature = "keys")]
pub mod keys;
#[cfg(any(feature = "edge", feature = "backend"))]
pub mod link;
#[cfg(feature = "client")]
mod opening;
#[cfg(any(feature = "edge", feature = "client"))]
pub mod protocol;
mod queue;
mod time;
#[cfg(any(feature = "edge", feature = "client"))]
pub mod v2;
pub mod wire;

#[cfg(any(feature = "edge", feature = "client"))]
pub use backoff::Backoff;
pub use id::{ClientId, ShardId};
pub use queue::FrameQueue;
pub use time::Time;

/// The code of the package's README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
