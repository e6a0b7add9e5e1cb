//! Streams, connectors and listeners without their types. A system call costs one virtual call more.

use std::convert::Infallible;
use std::fmt;
use std::io::{self, IoSlice};
#[cfg(feature = "backend")]
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

#[cfg(feature = "backend")]
use crate::Listener;
use crate::{Acknowledgements, Ends, PeerEnd, Stream};
#[cfg(feature = "client")]
use crate::{Connect, Connector};

/// The methods of a stream that a client or a backend needs.
trait AnyStream: Unpin + Send {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;
    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>])
    -> Poll<io::Result<usize>>;
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn abort(self: Box<Self>);
    fn parting_words(&self) -> Option<String>;
    fn peer_end(&self) -> Option<PeerEnd>;
    fn ends(&self) -> Option<Ends>;
    fn take_user_timeout(&mut self) -> Option<Duration>;
    fn acknowledgements(&self) -> Option<Acknowledgements>;
}

impl<S: Stream> AnyStream for S {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Stream::poll_read(self, cx, buf)
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Stream::poll_write(self, cx, bufs)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Stream::poll_flush(self, cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Stream::poll_close(self, cx)
    }

    fn abort(self: Box<Self>) {
        Stream::abort(*self);
    }

    fn parting_words(&self) -> Option<String> {
        Stream::parting_words(self)
    }

    fn peer_end(&self) -> Option<PeerEnd> {
        Stream::peer_end(self)
    }

    fn ends(&self) -> Option<Ends> {
        Stream::ends(self)
    }

    fn take_user_timeout(&mut self) -> Option<Duration> {
        Stream::take_user_timeout(self)
    }

    fn acknowledgements(&self) -> Option<Acknowledgements> {
        Stream::acknowledgements(self)
    }
}

/// A stream of any type. It cannot go to another thread's runtime.
pub struct BoxedStream(Box<dyn AnyStream>);

impl fmt::Debug for BoxedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxedStream").finish_non_exhaustive()
    }
}

impl Stream for BoxedStream {
    type Parcel = Infallible;

    fn pack(self) -> io::Result<Infallible> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    fn unpack(parcel: Infallible) -> io::Result<Self> {
        match parcel {}
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0.poll_read(cx, buf)
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, bufs)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_close(cx)
    }

    fn abort(self) {
        self.0.abort();
    }

    fn parting_words(&self) -> Option<String> {
        self.0.parting_words()
    }

    fn peer_end(&self) -> Option<PeerEnd> {
        self.0.peer_end()
    }

    fn ends(&self) -> Option<Ends> {
        self.0.ends()
    }

    fn take_user_timeout(&mut self) -> Option<Duration> {
        self.0.take_user_timeout()
    }

    fn acknowledgements(&self) -> Option<Acknowledgements> {
        self.0.acknowledgements()
    }
}

#[cfg(feature = "client")]
trait AnyConnector: Unpin + Send {
    fn connect(&mut self) -> Connect<BoxedStream>;
}

#[cfg(feature = "client")]
impl<C: Connector> AnyConnector for C {
    fn connect(&mut self) -> Connect<BoxedStream> {
        let attempt = Connector::connect(self);
        Box::pin(async move { Ok(BoxedStream(Box::new(attempt.await?))) })
    }
}

/// A connector of any type.
#[cfg(feature = "client")]
pub struct BoxedConnector(Box<dyn AnyConnector>);

#[cfg(feature = "client")]
impl BoxedConnector {
    /// Boxes a connector.
    #[must_use]
    pub fn new(connector: impl Connector) -> Self {
        BoxedConnector(Box::new(connector))
    }
}

#[cfg(feature = "client")]
impl fmt::Debug for BoxedConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxedConnector").finish_non_exhaustive()
    }
}

#[cfg(feature = "client")]
impl Connector for BoxedConnector {
    type Stream = BoxedStream;

    fn connect(&mut self) -> Connect<BoxedStream> {
        self.0.connect()
    }
}

#[cfg(feature = "backend")]
trait AnyListener: Unpin + Send {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(BoxedStream, SocketAddr)>>;
    fn number(&self) -> usize;
    fn shed(&mut self);
}

#[cfg(feature = "backend")]
impl<L: Listener> AnyListener for L {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(BoxedStream, SocketAddr)>> {
        let accepted = Listener::poll_accept(self, cx);
        accepted.map_ok(|(stream, source)| (BoxedStream(Box::new(stream)), source))
    }

    fn number(&self) -> usize {
        Listener::number(self)
    }

    fn shed(&mut self) {
        Listener::shed(self);
    }
}

/// A listener of any type.
#[cfg(feature = "backend")]
pub struct BoxedListener(Box<dyn AnyListener>);

#[cfg(feature = "backend")]
impl BoxedListener {
    /// Boxes a listener.
    #[must_use]
    pub fn new(listener: impl Listener) -> Self {
        BoxedListener(Box::new(listener))
    }
}

#[cfg(feature = "backend")]
impl fmt::Debug for BoxedListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxedListener").finish_non_exhaustive()
    }
}

#[cfg(feature = "backend")]
impl Listener for BoxedListener {
    type Stream = BoxedStream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(BoxedStream, SocketAddr)>> {
        self.0.poll_accept(cx)
    }

    fn number(&self) -> usize {
        self.0.number()
    }

    fn shed(&mut self) {
        self.0.shed();
    }
}
