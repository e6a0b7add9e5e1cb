//! The wire format, version 2: framing, the handshake of the client link, the tagged packets of the backend link.
//!
//! Decoders borrow from the bytes given and never allocate by what a length promises; encoders append to a buffer of
//! the caller.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod frame;
pub mod handshake;
pub(crate) mod protocol;
pub mod tagged;

pub use protocol::Protocol;
