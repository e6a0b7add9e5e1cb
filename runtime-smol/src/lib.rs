//! Voltlane on smol.
//!
//! The machines are in `voltlane-core`, the drivers in `voltlane-driver`; this crate lends them the sockets and the
//! clock of async-io, smol's reactor. There is no tokio below it.
//!
//! [`Client`] and [`Backend`] are the libraries; the README has a minimal one of each. [`TcpListener`], [`TcpConnector`]
//! and [`Timer`] are what an [`EdgeDriver`](voltlane_driver::EdgeDriver) needs to serve inside another program.
#![forbid(unsafe_code)]

mod net;
mod resolve;
mod runtime;
mod timer;

pub use net::{TcpConnector, TcpListener, TcpStream};
pub use runtime::Smol;
pub use timer::Timer;
pub use voltlane_core::ClientId;
pub use voltlane_driver::{backend, client};

/// A client of an edge, over TCP.
pub type Client = client::Client<TcpConnector, Timer>;

/// The backend of an edge, over TCP.
pub type Backend = backend::Backend<TcpListener, Timer>;
