//! Measurements of what Voltlane costs: the yardstick [`bare`], the [`load`] tool, and criterion benchmarks of the core in `benches/`.
//! Nothing here ships.
#![forbid(unsafe_code)]

pub mod asked;
pub mod attack;
pub mod bare;
pub mod circumstances;
pub mod cli;
pub mod compare;
pub mod instructions;
pub mod link;
pub mod load;
pub mod report;
pub mod shards;
pub mod upgrade;
pub mod v3;
pub mod wire;
pub mod work;
