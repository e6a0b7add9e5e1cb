//! Framing: what the client link and the backend link have in common, in every version.
//!
//! Decoders borrow from the bytes given and never allocate by what a length promises; encoders append to a buffer of
//! the caller.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod frame;
#[cfg(any(feature = "edge", feature = "client"))]
pub(crate) mod varint;
