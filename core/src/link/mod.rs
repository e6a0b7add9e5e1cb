//! The language of the backend link, for both of its ends. (SPEC sections 7, and 33 to 38)
//!
//! Version 2 has no handshake: the only evidence of the peer is what it sends, tagged packets or another protocol. [`v3`] is what a backend
//! asks for.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub(crate) mod foreign;
pub(crate) mod judge;
#[cfg(feature = "edge")]
mod own;
pub mod tagged;
pub mod v3;

pub use foreign::Protocol;
#[cfg(feature = "edge")]
pub use own::OwnAddresses;
