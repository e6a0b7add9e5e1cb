//! Version 2 of the client link. (SPEC sections 3 to 6)
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

#[cfg(feature = "client")]
pub(crate) mod client;
pub mod packets;
pub(crate) mod plain;
#[cfg(feature = "edge")]
pub(crate) mod server;
#[cfg(feature = "client")]
pub(crate) mod session;
