//! TCP sockets for the drivers, generic over a reactor, and an edge-triggered reactor for one thread.
//!
//! Both programs are built on this crate. [`TcpStream`], [`TcpListener`] and [`TcpConnector`] are generic over a [`Reactor`], which reports
//! when a socket is worth another attempt. [`Epoll`] is a reactor for one thread. Both programs run a single shard on it as the [`Guest`] of
//! their runtime, tokio or smol, which waits for one descriptor on its behalf. Several shards wait by themselves, on the threads of a
//! [`crew`](Reactor::crew). Without a runtime it waits in [`block_on`](Reactor::block_on).
#![deny(unsafe_code)]
// Public types can be extended. An enum or a struct that others match or build as a whole says why.
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

#[cfg(target_os = "linux")]
mod epoll;
mod net;
#[cfg(target_os = "linux")]
mod peer;
mod resolve;
mod timer;

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use voltlane_driver::{Crew, Task};

#[cfg(target_os = "linux")]
pub use self::epoll::{Descriptor, Epoll, EpollAlarm, Guest, Watched, crew};
pub use self::net::{TcpConnector, TcpListener, TcpStream};
#[cfg(target_os = "linux")]
pub use self::peer::{acknowledgements, peer_end, peer_uid};
pub use self::timer::Timer;

/// A way to wait for sockets and for time.
pub trait Reactor: Debug + Send + Unpin + 'static {
    /// A socket registered with this reactor.
    type Source<T: Socket>: Source<T>;
    /// An alarm driven by this reactor.
    type Alarm: Alarm;

    /// Runs a future to completion on this thread.
    ///
    /// # Errors
    /// When the system refuses a resource that waiting needs, such as a descriptor.
    fn block_on<F: Future>(future: F) -> io::Result<F::Output>;

    /// Starts threads for several futures and one that joins them, as [`Runtime::crew`](voltlane_driver::Runtime::crew) does.
    ///
    /// # Errors
    /// When the system refuses a thread, or a resource that waiting needs.
    fn crew(tasks: Vec<Task>, carried: Task) -> io::Result<Crew> {
        Crew::of_threads(tasks, carried, |task| Self::block_on(task))
    }

    /// Looks up the addresses of a host name without blocking this thread.
    ///
    /// # Errors
    /// Any error of the resolver.
    fn look_up(host: String, port: u16)
    -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;
}

/// A socket that a reactor can watch.
pub trait Socket: AsFd + Debug + Send + Unpin + 'static {}

impl<T: AsFd + Debug + Send + Unpin + 'static> Socket for T {}

/// A direction in which a socket can be ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a socket has two directions")]
pub enum Direction {
    /// Ready to read, or to accept.
    Read = 0,
    /// Ready to write, or a connect attempt has finished.
    Write = 1,
}

/// A hint that an attempt in one direction may succeed.
///
/// Each direction of a socket has at most one. It is taken before an attempt, and restored afterwards unless the attempt left nothing to
/// do. An event that arrives in between creates a new one, so no event is missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Readiness {
    /// Whether the direction has ended, in order or not. The system may not report this again, so the readiness is kept until an attempt
    /// has seen the end.
    pub has_ended: bool,
}

impl Readiness {
    /// A hint, with whether the direction has ended.
    #[must_use]
    pub const fn new(has_ended: bool) -> Self {
        Readiness { has_ended }
    }
}

/// A non-blocking socket that is registered with a reactor.
pub trait Source<T: Socket>: Debug + Send + Unpin + Sized + 'static {
    /// Registers a socket, which must be in non-blocking mode.
    ///
    /// Neither direction is ready until the reactor sees an event for it or it is [restored](Self::restore).
    ///
    /// # Errors
    /// When the reactor cannot register the socket.
    fn new(socket: T) -> io::Result<Self>;

    /// Returns the socket.
    fn get_ref(&self) -> &T;

    /// Deregisters the socket and returns it.
    ///
    /// # Errors
    /// When the reactor cannot deregister the socket. It is then closed.
    fn into_inner(self) -> io::Result<T>;

    /// Takes the readiness, or registers the waker of `cx`. The waker replaces the one registered for this direction before.
    fn poll_take(
        &mut self,
        direction: Direction,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Readiness>>;

    /// Gives the readiness back, because another attempt may succeed.
    fn restore(&mut self, direction: Direction, readiness: Readiness);

    /// Attempts the operation until it completes or fails. `exhausts` tells whether a success left nothing for a further attempt.
    fn poll_attempt<V>(
        &mut self,
        direction: Direction,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut(&T) -> io::Result<V>,
        exhausts: impl FnOnce(&V) -> bool,
    ) -> Poll<io::Result<V>> {
        loop {
            let readiness = ready!(self.poll_take(direction, cx))?;
            match attempt(self.get_ref()) {
                Ok(value) => {
                    // If the end came together with the last bytes, no further event will report it.
                    if readiness.has_ended || !exhausts(&value) {
                        self.restore(direction, readiness);
                    }
                    return Poll::Ready(Ok(value));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    self.restore(direction, readiness);
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Poll::Ready(Err(error));
                    }
                }
            }
        }
    }
}

/// An alarm that goes off once each time it is set.
pub trait Alarm: Debug + Send + Unpin + 'static {
    /// Creates an alarm that is not set.
    fn never() -> Self;

    /// Sets the alarm, replacing its previous time.
    fn set_at(&mut self, at: Instant);

    /// Returns ready when the alarm goes off, which is never early.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}
