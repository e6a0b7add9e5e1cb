//! The tests that can share a process. One target is built and linked much faster than ten.

mod abuse;
mod cases;
mod crowd;
mod determinism;
mod exhaustive;
mod fleet;
mod ledgered;
mod link3;
mod network;
mod parts;
mod pins;
mod planted_plan;
mod planted_table;
mod recorded;
mod roaming;
mod seeds;
mod shards;
mod v3;
