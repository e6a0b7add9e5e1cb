//! What a program asks of the runtime that it is on.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use crate::{Connector, Crew, Listener, SocketOptions, Task, Timer};

/// A runtime: its sockets, its clock, and a way to run one future to its end.
pub trait Runtime: 'static {
    /// Accepts streams.
    type Listener: Listener;
    /// Opens streams to an address, `host:port`.
    type Connector: Connector + From<String>;
    /// Tells the time.
    type Timer: Timer + Default;

    /// Listens at `address`, `host:port`, and says at which address that is in the end.
    fn bind(
        address: String,
        options: SocketOptions,
    ) -> impl Future<Output = io::Result<(Self::Listener, SocketAddr)>> + Send;

    /// Accepts at a listener of the standard library, which does not block. To be called on the thread that serves it, in
    /// [`block_on`](Self::block_on).
    ///
    /// # Errors
    /// When the runtime cannot take it.
    fn listener(
        listener: std::net::TcpListener,
        options: SocketOptions,
    ) -> io::Result<Self::Listener>;

    /// What opens streams to `address`, `host:port`.
    fn connector(address: String, options: SocketOptions) -> Self::Connector;

    /// Runs a future to its end on this thread, and everything that it needs of the runtime. The future serves many
    /// streams and must not be throttled.
    ///
    /// # Errors
    /// When the runtime cannot be started.
    fn block_on<T: Send + 'static>(
        future: impl Future<Output = T> + Send + 'static,
    ) -> io::Result<T>;

    /// Starts threads for the shards of a process, each at most on one of them at a time, and for the trunk that joins them.
    ///
    /// Here each has a thread of its own. A runtime that can do better uses fewer while there is little to do.
    ///
    /// # Errors
    /// When the system has no thread to give, or the runtime cannot be started.
    fn crew(shards: Vec<Task>, trunk: Task) -> io::Result<Crew> {
        Crew::of_threads(shards, trunk, |task| Self::block_on(task))
    }
}
