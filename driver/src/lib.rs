//! Drives the machines of `voltlane-core` over any stream: the part that every runtime shares.
//!
//! The core decides; this crate moves bytes. [`EdgeDriver`] serves an edge, and [`Client`] and [`Backend`] are the libraries. All of them
//! work over four small traits of polling, [`Stream`], [`Listener`], [`Connector`] and [`Timer`], and depend on no runtime. `voltlane-tokio`
//! and `voltlane-smol` implement the traits for real sockets and clocks, and the simulator for turmoil's. So the code that ships is the code
//! that is simulated.
//!
//! No driver binds an address, reads a clock or starts a task. Apart from the drivers, this crate has what all runtimes share:
//! [`SocketOptions`], and the threads of several shards ([`Crew`]).
#![deny(unsafe_code)]
// Public types can be extended. An enum or a struct that others match or build as a whole says why.
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

#[cfg(any(feature = "edge", feature = "backend"))]
mod accept;
pub mod address;
#[cfg(feature = "edge")]
mod alarm;
#[cfg(feature = "backend")]
pub mod backend;
mod bind;
#[cfg(any(feature = "client", feature = "backend"))]
mod boxed;
#[cfg(feature = "edge")]
mod branch;
#[cfg(feature = "edge")]
mod catch_up;
#[cfg(feature = "client")]
pub mod client;
mod crew;
#[cfg(any(feature = "client", feature = "backend"))]
mod driven;
#[cfg(feature = "edge")]
mod edge;
#[cfg(feature = "edge")]
mod exchange;
#[cfg(feature = "edge")]
mod handle;
#[cfg(any(feature = "client", feature = "backend"))]
mod inbox;
#[cfg(any(feature = "edge", feature = "client", feature = "backend"))]
mod io;
#[cfg(any(feature = "edge", feature = "client"))]
mod late;
#[cfg(feature = "edge")]
mod link;
#[cfg(feature = "edge")]
mod opaque;
#[cfg(feature = "edge")]
mod own;
#[cfg(unix)]
mod peer_uids;
mod register;
mod runtime;
#[cfg(all(test, any(feature = "edge", feature = "backend")))]
mod silent;
mod socket;
#[cfg(any(feature = "client", feature = "backend"))]
mod ticks;
mod transport;
#[cfg(feature = "edge")]
mod trunk;
#[cfg(feature = "edge")]
mod sync {
    //! The primitives by which threads hand things to each other. The tests under loom replace them.
    pub(crate) use std::sync::atomic::{AtomicBool, Ordering};
    pub(crate) use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
}
#[cfg(feature = "edge")]
mod turn;
#[cfg(unix)]
pub mod unix;
#[cfg(feature = "edge")]
mod uplink;
#[cfg(any(feature = "client", feature = "backend"))]
mod waiters;
#[cfg(feature = "edge")]
mod waker;
#[cfg(all(test, feature = "edge"))]
mod wakes;
#[cfg(any(feature = "edge", feature = "client", feature = "backend"))]
mod watch;
#[cfg(any(feature = "edge", feature = "client", feature = "backend"))]
mod weigh;

#[cfg(feature = "backend")]
pub use backend::Backend;
pub use bind::{BoundAddresses, MAX_LISTENERS};
#[cfg(feature = "client")]
pub use boxed::BoxedConnector;
#[cfg(feature = "backend")]
pub use boxed::BoxedListener;
#[cfg(any(feature = "client", feature = "backend"))]
pub use boxed::BoxedStream;
#[cfg(feature = "edge")]
pub use branch::BranchConnector;
#[cfg(feature = "client")]
pub use client::Client;
pub use crew::{Crew, Task};
#[cfg(feature = "edge")]
pub use edge::{EdgeDriver, EdgeHandle, Errands, MAX_ERRANDS, Neighbours, Openings, Peers};
#[cfg(feature = "edge")]
pub use handle::Handle;
#[doc(hidden)]
pub use register::register;
pub use runtime::Runtime;
pub use socket::{BoundAddress, SocketOptions, SpareDescriptor};
pub use transport::{Acknowledgements, Connect, Connector, Ends, Listener, PeerEnd, Stream, Timer};
#[cfg(feature = "edge")]
pub use trunk::{TrunkDriver, TrunkHandle};
#[cfg(feature = "edge")]
pub use uplink::Uplink;
pub use voltlane_core::{Farewell, Time};
