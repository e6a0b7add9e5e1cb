//! The tests of the crate, as one target.

mod contention;
mod engines;
mod fake_redis;
mod fake_server;
mod keeper;
mod lease;
mod nats;
mod redis;
