//! Drives the machines of `voltlane-core` over any stream: the part that every runtime shares.
//!
//! The core decides; this crate moves bytes. It is generic over four small traits of polling, [`Stream`], [`Listener`],
//! [`Connector`] and [`Timer`], and uses nothing of any runtime: `voltlane-tokio` and `voltlane-smol` implement the
//! traits for real sockets and clocks, the simulator for turmoil's. So the code that ships is the code that is
//! simulated.
//!
//! Nothing here binds an address, reads a clock or starts a task.
#![forbid(unsafe_code)]

mod accept;
mod edge;
mod io;
mod transport;
mod waker;

pub use edge::{EdgeDriver, EdgeHandle};
pub use transport::{Connect, Connector, Listener, Stream, Timer};
