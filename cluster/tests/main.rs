//! The tests of the crate, as one target.

mod bans;
mod contention;
mod engines;
mod fake;
mod fake_nats;
mod fake_redis;
mod keeper;
mod lease;
mod nats;
mod redis;
mod support;
