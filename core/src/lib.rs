//! (to come)
#![forbid(unsafe_code)]

mod backoff;
mod queue;
mod time;

pub use backoff::Backoff;
pub use queue::FrameQueue;
pub use time::Time;
