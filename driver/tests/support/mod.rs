//! A world in memory for the drivers: streams that cut and stall, a listener, a connector, a clock that runs only when
//! nothing else does, and the executor that turns it.

mod memory;
mod peer;
mod world;

pub(crate) use memory::{Chaos, MemoryConnector, MemoryListener, MemoryStream, Place, Stats};
pub(crate) use peer::{BackendPeer, ClientPeer};
pub(crate) use world::{Clock, TestTimer, World};
