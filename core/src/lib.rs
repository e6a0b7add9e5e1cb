//! (to come)
#![forbid(unsafe_code)]

mod backoff;
mod time;

pub use backoff::Backoff;
pub use time::Time;
