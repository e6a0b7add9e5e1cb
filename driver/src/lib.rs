//! Drives the machines of `voltlane-core` over any stream: the part that every runtime shares.
//!
//! The core decides; this crate moves bytes. [`EdgeDriver`] serves an edge, [`Client`] and [`Backend`] are the
//! libraries. All are generic over four small traits of polling, [`Stream`], [`Listener`],
//! [`Connector`] and [`Timer`], and use nothing of any runtime: `voltlane-tokio` and `voltlane-smol` implement the
//! traits for real sockets and clocks, the simulator for turmoil's. So the code that ships is the code that is
//! simulated.
//!
//! No driver binds an address, reads a clock or starts a task. What every runtime sets on its sockets stands here too, once:
//! [`SocketOptions`].
#![forbid(unsafe_code)]

mod accept;
pub mod address;
mod alarm;
pub mod backend;
pub mod client;
mod edge;
mod handle;
mod inbox;
mod io;
mod late;
mod link;
mod pipe;
mod runtime;
mod socket;
mod transport;
mod trunk;
mod turn;
mod waker;
#[cfg(test)]
mod wakes;
mod watch;

pub use backend::Backend;
pub use client::Client;
pub use edge::{EdgeDriver, EdgeHandle, Neighbours};
pub use handle::Handle;
pub use pipe::Pipe;
pub use runtime::Runtime;
pub use socket::{BoundAddress, SocketOptions, SpareDescriptor};
pub use transport::{Acknowledgements, Connect, Connector, Listener, PeerEnd, Stream, Timer};
pub use trunk::{BranchConnector, TrunkDriver, TrunkHandle};
