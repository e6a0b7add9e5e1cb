//! Version 2 of the client link. (SPEC sections 3 to 6)
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod packets;
