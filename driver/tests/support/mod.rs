//! An in-memory world for the drivers: streams that cut and stall, a listener, a connector, a clock that advances only when nothing else
//! runs, and the executor.

mod memory;
mod peer;
mod world;

pub(crate) use memory::{
    Chaos, HoldingConnector, MemoryConnector, MemoryListener, MemoryStream, Place, Stats,
};
pub(crate) use peer::{BackendPeer, ClientPeer, Frames};
pub(crate) use world::{Clock, TestTimer, World};
