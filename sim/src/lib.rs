//! The simulator of Voltlane: every fault replayable by seed.
#![forbid(unsafe_code)]

pub mod abuse;
pub mod block;
pub mod cases;
pub mod churn;
pub mod codec;
pub mod engine;
pub mod hash;
pub mod model;
pub mod network;
pub mod page;
pub mod payload;
pub mod plan;
pub mod rng;
pub mod scope;
pub mod shards;
pub mod shrink;
