//! The language of the backend link, for both of its ends. (SPEC section 7)
//!
//! It has no handshake. The only evidence of the peer is what it sends: tagged packets, or another protocol.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub(crate) mod foreign;
pub(crate) mod judge;
#[cfg(feature = "edge")]
mod own;
pub mod tagged;

pub use foreign::Protocol;
#[cfg(feature = "edge")]
pub use own::OwnAddresses;
