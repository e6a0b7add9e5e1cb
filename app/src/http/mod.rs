//! A small server of HTTP/1.1, for the metrics, the status page and the page of the demo.
//!
//! One thread answers GET and HEAD, so no runtime is needed.

mod connection;
mod message;
mod server;

pub(crate) use message::Response;
#[cfg(feature = "admin")]
pub(crate) use message::read_path;
pub use server::Server;
#[cfg(feature = "admin")]
pub(crate) use server::{EVENT_EVERY, EVENTS, MAX_WATCHERS, WATCH_AT_MOST};
pub(crate) use server::{MAX_CONNECTIONS, Pages};
