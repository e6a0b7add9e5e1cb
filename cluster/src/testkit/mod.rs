//! What every engine must do, and an engine with faults on purpose.

mod conformance;
mod sim;

#[cfg(feature = "nats")]
pub use crate::nats::said_in_pieces;
#[cfg(feature = "redis")]
pub use crate::redis::said_in_pieces as redis_said_in_pieces;

pub use self::conformance::{Bench, Clock, conforms};
pub use self::sim::{Faults, SimEngine, SimStore};
