//! What Voltlane costs, measured: the yardstick [`bare`], the [`load`] tool, and the criterion benches of the core beside
//! this crate in `benches/`. Nothing here ships.
#![forbid(unsafe_code)]

pub mod attack;
pub mod bare;
pub mod cli;
pub mod compare;
pub mod instructions;
pub mod load;
pub mod report;
pub mod shards;
pub mod wire;
pub mod work;
