//! Framing: the part that the client link and the backend link share, in every version.
//!
//! Decoders borrow from the bytes given and never allocate by an announced length. Encoders append to the caller's buffer.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod frame;
#[cfg(feature = "edge")]
pub(crate) mod saved;
#[cfg(any(feature = "edge", feature = "client"))]
pub(crate) mod varint;
