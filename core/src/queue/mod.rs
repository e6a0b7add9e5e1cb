//! Output queues.

mod frames;

pub use frames::FrameQueue;
