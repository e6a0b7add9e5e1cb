//! What several edges of one cluster agree on (SPEC 43): which of them has a home, by a lease with a term, and whom they ban.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`lease`] | the lease of a home, as a state machine: time and answers are arguments |
//! | [`bans`] | the bans that edges share, as a state machine |
//! | [`engine`] | what an engine does: three calls, each bounded |
//! | [`record`] | what stands in an engine, as text |
//! | [`memory`] | the engine within one process |
//! | `nats` | the engine NATS JetStream, with a client of its own for the few calls |
//! | `redis` | the engine Redis, with one script for the few calls |
//! | `keeper` | the thread that drives a lease over an engine |
//! | `testkit` | the engine of the simulator, and what every engine must do |
//!
//! Nothing here is needed for safety. The backend decides by the order in which it takes links which edge it hears (SPEC 40.4).
#![forbid(unsafe_code)]
// Public types can be extended. An enum or a struct that others match or build as a whole says why.
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

pub mod bans;
pub mod engine;
#[cfg(all(any(feature = "nats", feature = "redis"), unix))]
pub mod keeper;
pub mod lease;
pub mod memory;
#[cfg(feature = "nats")]
pub mod nats;
pub mod record;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(any(feature = "nats", feature = "redis"))]
mod server;
mod spread;
#[cfg(feature = "testkit")]
pub mod testkit;

pub use self::bans::{BanEvent, Bans, Change, SharedBan};
pub use self::engine::{Answer, Call, CallId, Engine, EngineError, Entry, Reply, Request};
#[cfg(all(any(feature = "nats", feature = "redis"), unix))]
pub use self::keeper::{Adopt, Keeper, NotTaken, Teller, ask};
pub use self::lease::{Event, Lease, LeaseConfig, Moment, Standing};
pub use self::memory::MemoryEngine;
#[cfg(feature = "nats")]
pub use self::nats::NatsEngine;
pub use self::record::{ClusterName, Holder, Record, RecordError};
#[cfg(feature = "redis")]
pub use self::redis::RedisEngine;
#[cfg(any(feature = "nats", feature = "redis"))]
pub use self::server::{Credentials, EngineConfig};
