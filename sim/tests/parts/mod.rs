//! The parts of the simulator, each by itself.

mod cases;
mod codec;
mod page;
mod payload;
mod pipe;
mod plan;
mod planted;
mod proxy;
mod rng;
