//! The simulator of Voltlane: every fault replayable by seed.
#![forbid(unsafe_code)]

pub mod codec;
pub mod hash;
pub mod payload;
pub mod plan;
pub mod rng;
