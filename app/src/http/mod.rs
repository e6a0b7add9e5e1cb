//! A small server of HTTP/1.1, for the metrics and for the page of the demo.
//!
//! One thread answers GET and HEAD, so no runtime is needed.

mod connection;
mod message;
mod server;

pub(crate) use message::Response;
pub use server::Server;
pub(crate) use server::{MAX_CONNECTIONS, Pages};
