//! The traits of a runtime that the drivers need: streams, listeners, connectors and clocks.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use voltlane_core::Time;

use crate::Farewell;

/// A connected byte stream.
///
/// The contract is that of `Future`: `Pending` means that the waker of `cx` is registered and will be woken, any other result means that
/// nothing is registered. One waker per direction is kept, that of the latest call.
///
/// After a successful read the drivers keep polling until they get `Pending`, so that the waker is registered. That must be cheap: after a
/// read that did not fill its buffer, an implementation should register the waker and return `Pending` without asking the kernel again (the
/// runtime reports it if more has arrived meanwhile). The same holds for a write that did not take everything. A spurious `Pending` is
/// harmless as long as the waker is woken.
pub trait Stream: Unpin + Send + Sized + 'static {
    /// The stream in transit between threads, detached from its runtime. Dropping it closes it.
    type Parcel: Send + Unpin + 'static;

    /// Detaches the stream from this thread's runtime.
    ///
    /// # Errors
    /// When the runtime cannot release it. It is then closed.
    fn pack(self) -> io::Result<Self::Parcel>;

    /// Attaches a stream to this thread's runtime.
    ///
    /// # Errors
    /// When the runtime cannot register it. It is then closed.
    fn unpack(parcel: Self::Parcel) -> io::Result<Self>;

    /// Reads into `buf`, which is not empty. `Ok(0)` is the end of the stream.
    ///
    /// An error of the kind [`InvalidData`](io::ErrorKind::InvalidData) means that the transport has answered the peer for the last time: it
    /// broke a rule of the transport, or asked something that needs no connection. The stream can still be closed in order, so that the
    /// answer arrives.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes from `bufs` in order, at least one of which is not empty. Returns the total number of bytes taken.
    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>])
    -> Poll<io::Result<usize>>;

    /// Sends what an earlier write took and the transport still holds. Ready once it holds nothing.
    ///
    /// A transport that holds nothing is always ready.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let _ = cx;
        Poll::Ready(Ok(()))
    }

    /// Returns its socket, if whoever has the socket, knows what was read and written, and has what is [saved](Self::save) can go on with it.
    #[cfg(all(feature = "upgrade", unix))]
    fn socket(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }

    /// Appends what it has beside its [socket](Self::socket), which may be payload. Nothing changes.
    #[cfg(all(feature = "upgrade", unix))]
    fn save(&self, out: &mut Vec<u8>) {
        let _ = out;
    }

    /// Attaches a socket of another process to this thread's runtime, with what was [saved](Self::save) there. It may have become ready long
    /// ago.
    ///
    /// # Errors
    /// When the runtime cannot register it, or has none, or what was saved is none of this. It is then closed.
    #[cfg(all(feature = "upgrade", unix))]
    fn from_socket(socket: std::os::fd::OwnedFd, saved: &[u8]) -> io::Result<Self> {
        let _ = saved;
        drop(socket);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Closes the sending half (a FIN) once everything written before is on its way. Reading continues.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ends the stream at once and discards unsent data: a RST if the transport has one.
    fn abort(self) {
        drop(self);
    }

    /// Tells why the stream is about to be closed, for a transport that can tell its peer.
    fn part(&mut self, farewell: Farewell) {
        let _ = farewell;
    }

    /// Answers a peer whose stream has not begun, as [`part`](Self::part) and a close would. Returns false if the transport cannot. If it
    /// can, the answer arrives only if the stream is closed in order.
    fn refuse(&mut self, farewell: Farewell) -> bool {
        let _ = farewell;
        false
    }

    /// Returns what the peer said when it ended the stream, or why the transport did, for people. `None` if neither is known.
    fn parting_words(&self) -> Option<String> {
        None
    }

    /// Returns after what time [`is_alive`](Self::is_alive) must be called next. `None`: the transport does not detect peers that are gone.
    fn keep_alive(&self) -> Option<Duration> {
        None
    }

    /// Returns false if the peer has given no sign of life since it was asked for one. Asks for one, if nothing has come since the call
    /// before.
    fn is_alive(&mut self, cx: &mut Context<'_>) -> bool {
        let _ = cx;
        true
    }

    /// Returns whether the peer broke a rule of the transport, once a read has failed.
    fn was_violated(&self) -> bool {
        false
    }

    /// Takes the number of bytes that were read since the last call and are none of the stream, such as headers and control frames.
    fn take_overhead(&mut self) -> usize {
        0
    }

    /// Returns the number of bytes that the transport holds: those that it has read and not given, and those that it has taken and not
    /// sent.
    fn held_bytes(&self) -> usize {
        0
    }

    /// Makes costly work of the opening, such as a key exchange for a stranger, wait until it is [permitted](Self::permit_handshake).
    ///
    /// `now` is when the connection was accepted.
    fn meter_handshake(&mut self, _now: Time) {}

    /// Tells the time, after the transport has taken bytes of its own or when the stream `is_over`, so that it knows how long a costly
    /// handshake took.
    fn note_handshake(&mut self, _now: Time, _is_over: bool) {}

    /// Returns the name that the peer has proven, for an operator: that in the certificate of a client.
    fn peer_name(&self) -> Option<String> {
        None
    }

    /// Returns whether costly work of the opening could be done now and waits to be permitted. Until then a read is `Pending`, and no waker
    /// is registered.
    fn awaits_handshake(&self) -> bool {
        false
    }

    /// Permits costly work of the opening. The next read does it.
    fn permit_handshake(&mut self) {}

    /// Returns whether the first bytes are a PROXY header, which names the source of the connection: one that came, or one by the transport
    /// itself. `None` if the transport cannot tell, and the listener's configuration does.
    fn is_introduced(&self) -> Option<bool> {
        None
    }

    /// Returns whether the peer has closed its direction or the stream is broken, even with unread bytes before that. `None` if not, or if
    /// the system cannot tell.
    fn peer_end(&self) -> Option<PeerEnd> {
        None
    }

    /// Returns the addresses of both ends. `None` if the transport has none, or the system cannot tell.
    ///
    /// An edge whose link leads to one of its own listeners then notices.
    fn ends(&self) -> Option<Ends> {
        None
    }

    /// Takes over from the system the task of giving up a peer that acknowledges nothing.
    ///
    /// Returns after how long the system would have done so. The caller must then watch the [`acknowledgements`](Self::acknowledgements).
    /// Returns `None` if the system had no such limit, or keeps the task.
    fn take_user_timeout(&mut self) -> Option<Duration> {
        None
    }

    /// Returns what the system knows about the peer's acknowledgements, or `None`.
    fn acknowledgements(&self) -> Option<Acknowledgements> {
        None
    }
}

/// How a peer ended, possibly behind unread bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerEnd {
    /// In order (a FIN): everything that it sent can be read.
    Finished,
    /// The stream is broken (a RST, or a peer that does not answer).
    Broken,
}

/// The addresses of the two ends of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a stream has two ends")]
pub struct Ends {
    /// That of this process.
    pub local: SocketAddr,
    /// That of the peer.
    pub peer: SocketAddr,
}

/// What a system knows about a peer's acknowledgements; on Linux from TCP_INFO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Acknowledgements {
    /// The time since the last one.
    pub age: Duration,
    /// The number of unacknowledged segments.
    pub awaited: u32,
    /// The number of bytes that wait to be sent.
    pub unsent: u32,
    /// The number of segments retransmitted since the connection began. It wraps.
    pub repeated: u32,
    /// The number of zero-window probes (RFC 9293 section 3.8.6.1) that were not answered since the last acknowledgement.
    pub questions: u32,
}

/// A source of accepted streams. The drivers are given listeners and never bind.
pub trait Listener: Unpin + Send + 'static {
    /// The type of accepted streams.
    type Stream: Stream;

    /// Accepts one connection, and returns the address that it comes from.
    fn poll_accept(&mut self, cx: &mut Context<'_>)
    -> Poll<io::Result<(Self::Stream, SocketAddr)>>;

    /// Returns its number among the listeners of an edge (see
    /// [`EdgeConfig::more_listeners`](voltlane_core::edge::EdgeConfig::more_listeners)).
    fn number(&self) -> usize {
        0
    }

    /// Returns the address at which it listens. `None` if the transport has none, or the system cannot tell.
    fn place(&self) -> Option<SocketAddr> {
        None
    }

    /// Returns its socket, if it has one.
    #[cfg(all(feature = "upgrade", unix))]
    fn socket(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }

    /// Turns away waiting connections, if it can, because the process has no descriptors left for them.
    ///
    /// Their clients then learn of it at once and do not wait in the backlog. [`SpareDescriptor`](crate::SpareDescriptor) implements this
    /// for sockets.
    fn shed(&mut self) {}
}

/// A connect attempt, as returned by [`Connector::connect`]. Dropping it cancels the attempt.
pub type Connect<S> = Pin<Box<dyn Future<Output = io::Result<S>> + Send>>;

/// Opens streams to one address.
pub trait Connector: Unpin + Send + 'static {
    /// The type of opened streams.
    type Stream: Stream;

    /// Begins an attempt. A name is resolved again at every attempt.
    fn connect(&mut self) -> Connect<Self::Stream>;
}

/// A monotonic clock with one alarm. The simulator's is virtual.
pub trait Timer: Unpin + Send + 'static {
    /// Returns the current time. Its origin is the timer's own, so times of different timers are not comparable.
    fn now(&self) -> Time;

    /// Ready once `at` has come. Until then the waker of `cx` is registered. Only the latest call counts. An early wake is harmless.
    fn poll_until(&mut self, cx: &mut Context<'_>, at: Time) -> Poll<()>;
}
