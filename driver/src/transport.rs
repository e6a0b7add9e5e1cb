//! What a runtime lends to the drivers: streams, a listener, a connector and a clock.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use voltlane_core::Time;

/// A connected byte stream.
///
/// The contract is that of `Future`: `Pending` says that the waker of `cx` is registered and will be woken, any other
/// answer says that nothing is registered. One waker for each direction is kept, the one of the latest call.
///
/// The drivers go on polling after a successful read until they get `Pending`, so that the waker is registered. That
/// must be cheap: after a read that did not fill its buffer an implementation should not ask the kernel again, but
/// register the waker and answer `Pending` (the runtime tells it if more has arrived meanwhile). The same holds for a
/// write that did not take all. A `Pending` for no reason is harmless as long as the waker is woken.
pub trait Stream: Unpin + Send + Sized + 'static {
    /// The stream on its way from one thread to another: without what binds it to its runtime. Dropping it closes it.
    type Parcel: Send + 'static;

    /// Takes the stream out of this thread's runtime.
    ///
    /// # Errors
    /// When the runtime does not let go of it; then it is closed.
    fn pack(self) -> io::Result<Self::Parcel>;

    /// Takes it into this thread's runtime.
    ///
    /// # Errors
    /// When the runtime cannot take it; then it is closed.
    fn unpack(parcel: Self::Parcel) -> io::Result<Self>;

    /// Reads into `buf`, which is not empty. `Ok(0)` is the end of the stream.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes from `bufs` in order, of which at least one is not empty; says how many bytes were taken in all.
    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>])
    -> Poll<io::Result<usize>>;

    /// Ends the sending half (a FIN) once everything written before is on its way. Reading goes on.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ends the stream at once, what is unsent is thrown away: a RST where the transport has one.
    fn abort(self) {
        drop(self);
    }

    /// Whether the peer has ended its direction, or the stream is broken, though bytes before that were not read yet. `None`: no, or the
    /// system does not say.
    fn peer_end(&self) -> Option<PeerEnd> {
        None
    }

    /// Takes it out of the system's hands to give up a peer that acknowledges nothing: after how long that was to be. `None`: there was
    /// no such time, or the system goes on with it. Who takes it looks at the [`acknowledgements`](Self::acknowledgements).
    fn take_user_timeout(&mut self) -> Option<Duration> {
        None
    }

    /// What the system knows of the peer's acknowledgements. `None`: nothing.
    fn acknowledgements(&self) -> Option<Acknowledgements> {
        None
    }
}

/// How a peer ended, behind bytes that were not read yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEnd {
    /// In order (a FIN): all that it sent can be read.
    Finished,
    /// The stream is broken (a RST, or a peer that does not answer).
    Broken,
}

/// What a system knows of the acknowledgements of a peer: on Linux, of TCP_INFO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acknowledgements {
    /// How long ago the last one came.
    pub age: Duration,
    /// Segments that wait for one.
    pub awaited: u32,
    /// Bytes that wait to be sent.
    pub unsent: u32,
    /// Segments that were sent again, since the connection began. It wraps.
    pub repeated: u32,
    /// Questions whether there is room again (probes of a zero window, RFC 9293 section 3.8.6.1) that came to nothing since the last
    /// acknowledgement.
    pub questions: u32,
}

/// A source of accepted streams. The drivers take listeners, they never bind.
pub trait Listener: Unpin + Send + 'static {
    /// What is accepted.
    type Stream: Stream;

    /// Accepts one connection and says where it comes from.
    fn poll_accept(&mut self, cx: &mut Context<'_>)
    -> Poll<io::Result<(Self::Stream, SocketAddr)>>;

    /// The process has no descriptor left for a connection that waits: turns those that wait away, if it can, so that
    /// their clients learn it at once instead of waiting in the backlog. [`SpareDescriptor`](crate::SpareDescriptor)
    /// does that for sockets.
    fn shed(&mut self) {}
}

/// An attempt to connect, as [`Connector::connect`] returns it. Dropping it gives the attempt up.
pub type Connect<S> = Pin<Box<dyn Future<Output = io::Result<S>> + Send>>;

/// Opens streams to one place.
pub trait Connector: Unpin + Send + 'static {
    /// What is opened.
    type Stream: Stream;

    /// Begins an attempt. A name is resolved anew at every attempt.
    fn connect(&mut self) -> Connect<Self::Stream>;
}

/// A monotonic clock with one alarm. The simulator's is virtual.
pub trait Timer: Unpin + Send + 'static {
    /// The time now. Its origin is the timer's own: times of different timers do not compare.
    fn now(&self) -> Time;

    /// Ready once `at` has come; until then the waker of `cx` is registered. Only the latest call counts. Being woken
    /// early is harmless.
    fn poll_until(&mut self, cx: &mut Context<'_>, at: Time) -> Poll<()>;
}
