//! A small server of HTTP/1.1, for the metrics and for the page of the demo.
//!
//! One thread answers GET and HEAD, so no runtime is needed.

mod connection;
mod message;
mod server;

pub(crate) use message::Response;
#[cfg(feature = "admin")]
pub(crate) use server::EVENTS;
pub use server::Server;
pub(crate) use server::{MAX_CONNECTIONS, Pages};
