//! Voltlane on tokio.
//!
//! The machines are in `voltlane-core`, the drivers in `voltlane-driver`; this crate lends them tokio's sockets and
//! clock.
//!
//! [`Client`] and [`Backend`] are the libraries; the README has a minimal one of each. [`TcpListener`], [`TcpConnector`]
//! and [`Timer`] are what an [`EdgeDriver`](voltlane_driver::EdgeDriver) needs to serve inside another program.
#![forbid(unsafe_code)]

mod net;
mod runtime;
mod timer;

pub use net::{TcpConnector, TcpListener, TcpStream};
pub use runtime::Tokio;
pub use timer::Timer;
pub use voltlane_core::ClientId;
pub use voltlane_driver::{backend, client};

/// A client of an edge, over TCP.
pub type Client = client::Client<TcpConnector, Timer>;

/// The backend of an edge, over TCP.
pub type Backend = backend::Backend<TcpListener, Timer>;

/// The code in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
