//! The tests of the crate, as one target.

mod contention;
mod engines;
mod lease;
