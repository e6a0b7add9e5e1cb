//! Queues of what is to be written.

mod frames;

pub use frames::FrameQueue;
