//! The runtime of a program.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use crate::{Connector, Crew, Listener, SocketOptions, Task, Timer};

/// A runtime: its sockets, its clock, and a way to run a future to completion.
pub trait Runtime: 'static {
    /// Accepts streams.
    type Listener: Listener;
    /// Opens streams to an address, `host:port`.
    type Connector: Connector + From<String>;
    /// The clock.
    type Timer: Timer + Default;

    /// Listens at `address`, given as `host:port`. Returns the listener with its actual address.
    fn bind(
        address: String,
        options: SocketOptions,
    ) -> impl Future<Output = io::Result<(Self::Listener, SocketAddr)>> + Send;

    /// Wraps a non-blocking listener of the standard library. Must be called on the thread that serves it, in [`block_on`](Self::block_on).
    ///
    /// # Errors
    /// When the runtime cannot register the listener.
    fn listener(
        listener: std::net::TcpListener,
        options: SocketOptions,
    ) -> io::Result<Self::Listener>;

    /// Creates a connector to `address`, given as `host:port`.
    fn connector(address: String, options: SocketOptions) -> Self::Connector;

    /// Returns 32 bytes of the system's randomness, others at each call. Keys are made of them.
    ///
    /// # Panics
    /// If the system has none.
    #[cfg(any(feature = "edge", feature = "client", feature = "backend"))]
    #[must_use]
    fn random() -> [u8; 32] {
        system_random()
    }

    /// Runs a future to completion on this thread, with everything that it needs of the runtime. The future serves many streams and must
    /// not be throttled.
    ///
    /// # Errors
    /// When the runtime cannot be started.
    fn block_on<T: Send + 'static>(
        future: impl Future<Output = T> + Send + 'static,
    ) -> io::Result<T>;

    /// Starts threads for the shards of a process, and for the trunk that joins them. A shard is on one thread at a time.
    ///
    /// By default each has a thread of its own. A runtime may use fewer threads while the load is low.
    ///
    /// # Errors
    /// When a thread or the runtime cannot be started.
    fn crew(shards: Vec<Task>, trunk: Task) -> io::Result<Crew> {
        Crew::of_threads(shards, trunk, |task| Self::block_on(task))
    }
}

/// Returns 32 bytes that nobody can know or guess.
#[cfg(any(feature = "edge", feature = "client", feature = "backend"))]
pub(crate) fn system_random() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    bytes
}
