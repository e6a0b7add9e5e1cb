//! Voltlane on tokio.
//!
//! The machines are in `voltlane-core`, the drivers in `voltlane-driver`; this crate lends them tokio's sockets and
//! clock.
#![forbid(unsafe_code)]

mod net;
mod runtime;
mod timer;

pub use net::{TcpConnector, TcpListener, TcpStream};
pub use runtime::Tokio;
pub use timer::Timer;
