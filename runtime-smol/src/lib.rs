//! Voltlane on smol.
//!
//! The machines are in `voltlane-core`, the drivers in `voltlane-driver`; this crate lends them the sockets and the
//! clock of async-io, smol's reactor. There is no tokio below it.
#![forbid(unsafe_code)]

mod net;
mod resolve;
mod runtime;
mod timer;

pub use net::{TcpConnector, TcpListener, TcpStream};
pub use runtime::Smol;
pub use timer::Timer;
