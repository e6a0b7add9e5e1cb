//! The building blocks of the conformance suite: an edge as a child process, and the parties around it, spoken byte by byte.
//!
//! The scenarios are in `conformance/scenarios`. `app/tests` runs all of them against each of the two programs
//! (`conformance.rs`), so a difference between them is a failure of one of them.
//!
//! Nothing here sleeps: a scenario waits for events, and every wait ends after [`PATIENCE`] with a panic that names the missing event. The
//! absence of an event is shown by what comes in its place, see [`Rig::fence`].
#![forbid(unsafe_code)]

mod backend;
pub mod capture;
pub mod cases;
pub mod churn;
mod client;
pub mod echo;
mod edge;
pub mod examples;
mod frames;
pub mod handshake;
pub mod libraries;
mod lines;
pub mod metrics;
mod network;
pub mod others;
pub mod page;
mod payload;
mod process;
mod program;
pub mod published;
mod rig;
pub mod several;
pub mod shim;
mod terminal;
pub mod v3;
pub mod websocket;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

pub use backend::{Backend, Link, Packet};
pub use client::{Challenged, Client, Session};
pub use edge::Edge;
pub use frames::{Frames, Incoming};
pub use network::alone_in_a_network;
pub use payload::{Random, bytes_of, random};
pub use process::{Finished, Process};
pub use program::{Directory, Program};
pub use rig::Rig;
pub use rustix::process::Signal;
pub use terminal::Terminal;
pub use v3::ClientV3;
pub use voltlane_driver::Runtime;
pub use voltlane_smol::Smol;
pub use voltlane_tokio::Tokio;

/// How long anything may take on a busy machine before it counts as missing.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Returns a loopback address that no other test has, except with a probability of 1 in 65,536. A port of it that was released stays free
/// until it is taken again: nobody who asks for any free port is given it.
#[must_use]
pub fn own_host() -> Ipv4Addr {
    let [a, b] = random();
    Ipv4Addr::new(127, 77, a, b)
}

/// Returns a loopback address where nobody listens as long as the socket lives. The socket is bound, so nobody else gets the port.
#[must_use]
pub fn closed_port() -> (Socket, SocketAddr) {
    let bound = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    bound.bind(&any.into()).expect("a free port");
    let place = bound.local_addr().expect("it is bound");
    (bound, place.as_socket().expect("an address"))
}
