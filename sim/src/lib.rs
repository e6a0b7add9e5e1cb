//! The simulator of Voltlane: every fault replayable by seed.
#![forbid(unsafe_code)]

#[cfg(feature = "planted")]
compile_error!(
    "the feature `planted` is for the copy of the workspace whose core has the bugs: \
     `cargo run -p sim -- plant test -p sim --features planted`"
);

pub mod abuse;
mod audited;
pub mod block;
pub mod cases;
pub mod churn;
mod clients;
pub mod codec;
pub mod engine;
pub mod fleet;
pub mod hash;
pub mod ledgered;
pub mod link3;
pub mod model;
pub mod network;
pub mod page;
mod panics;
pub mod payload;
pub mod pins;
pub mod plan;
pub mod planted;
pub mod recorded;
pub mod rng;
pub mod scope;
mod setups;
pub mod shards;
pub mod shrink;
mod takes;
pub mod v3;
