//! Version 3 of the client link. (SPEC sections 18 to 32)
//!
//! These are the pure parts: packets, keys, records and what is in them.
//!
//! Nothing here draws randomness. Each function that needs some gets it as an argument, from the step that uses it (SPEC 20.6).
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod acks;
mod aead;
pub mod channel;
pub mod classes;
#[cfg(feature = "client")]
pub mod client;
pub mod inbound;
pub mod items;
#[cfg(all(feature = "client", debug_assertions))]
pub mod key_log;
#[cfg(feature = "edge")]
pub(crate) mod opening;
pub mod order;
pub mod outbound;
pub mod packets;
pub mod progress;
pub mod record;
pub mod schedule;
#[cfg(feature = "edge")]
pub mod server;
pub mod timing;
#[cfg(all(test, feature = "edge", feature = "client"))]
mod world;

#[cfg(any(test, feature = "testkit"))]
pub use aead::watch;

pub use crate::code;

/// The highest number that a packet, a counter or a record can have.
pub const MAX_NUMBER: u64 = i64::MAX as u64;

/// Which end of the client link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a link has two ends")]
pub enum Side {
    /// The client, which sends up.
    Client,
    /// The edge, which sends down.
    Edge,
}

image!(enum Side { 0 Client {}, 1 Edge {} });
