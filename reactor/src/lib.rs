//! Sockets for the drivers, over any way to wait for them; and one such way for one thread, edge-triggered.
//!
//! What both binaries are on stands here once: [`TcpStream`], [`TcpListener`] and [`TcpConnector`] are generic over a [`Reactor`], who says when
//! a socket is worth another attempt. [`Epoll`] is the reactor of one thread. Both programs have it as the [`Guest`] of their runtime, tokio or
//! smol, which waits for it as for one descriptor. Without a runtime it waits by itself, in [`block_on`](Reactor::block_on).
#![deny(unsafe_code)]

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

#[cfg(target_os = "linux")]
pub use self::epoll::{Descriptor, Epoll, EpollAlarm, Guest, Watched};
pub use self::net::{TcpConnector, TcpListener, TcpStream};
#[cfg(target_os = "linux")]
pub use self::peer::{acknowledgements, peer_end};
pub use self::timer::Timer;

/// A way to wait for sockets and for time.
pub trait Reactor: Debug + Send + Unpin + 'static {
    /// A socket that it watches.
    type Source<T: Socket>: Source<T>;
    /// An alarm clock of it.
    type Alarm: Alarm;

    /// Runs a future to its end on this thread.
    ///
    /// # Errors
    /// When the system does not give what waiting takes.
    fn block_on<F: Future>(future: F) -> io::Result<F::Output>;

    /// Looks up the addresses of a name. The thread goes on meanwhile.
    ///
    /// # Errors
    /// What the resolver says.
    fn look_up(host: String, port: u16)
    -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;
}

/// What can be watched.
pub trait Socket: AsFd + Debug + Send + Unpin + 'static {}

impl<T: AsFd + Debug + Send + Unpin + 'static> Socket for T {}

/// What a socket may be ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// A read, or an accept.
    Read = 0,
    /// A write, or the end of an attempt to connect.
    Write = 1,
}

/// That an attempt in one direction is worth it. There is no more than one for each direction of a socket: it is taken before the
/// attempt, and restored after it unless nothing is left there. What happens between the two makes a new one, so that
/// nothing that happens is missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// The direction has ended, in order or not. The system said so, perhaps for the last time: until an attempt has
    /// found the end, there is more to find.
    pub has_ended: bool,
}

/// A socket that does not block, and is watched.
pub trait Source<T: Socket>: Debug + Send + Unpin + Sized + 'static {
    /// Watches a socket that is set not to block. Nothing counts as ready until it is seen to be, or [restored](Self::restore).
    ///
    /// # Errors
    /// When the reactor cannot take it.
    fn new(socket: T) -> io::Result<Self>;

    /// The socket.
    fn get_ref(&self) -> &T;

    /// The socket, which is watched no longer.
    ///
    /// # Errors
    /// When the reactor does not let go of it; then it is closed.
    fn into_inner(self) -> io::Result<T>;

    /// Takes the readiness, or registers the waker of `cx`, in the place of the one that was registered for the direction before.
    fn poll_take(
        &mut self,
        direction: Direction,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Readiness>>;

    /// Gives the readiness back: another attempt is worth it.
    fn restore(&mut self, direction: Direction, readiness: Readiness);

    /// Makes attempts until one is not in vain. `exhausts` tells of a success whether it left nothing to a next attempt.
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
                    // After bytes that came together with the end no other event will tell of the end.
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

/// An alarm, which goes off once for each time that it is set.
pub trait Alarm: Debug + Send + Unpin + 'static {
    /// One that is not set.
    fn never() -> Self;

    /// Sets it, in place of what it was set to.
    fn set_at(&mut self, at: Instant);

    /// Ready when it goes off, never early.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}
