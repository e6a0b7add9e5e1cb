//! The tests of the crate, as one target.

mod contention;
mod engines;
mod fake_server;
mod keeper;
mod lease;
mod nats;
