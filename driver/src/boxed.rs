//! Streams and connectors without their types. A system call costs one virtual call more.

use std::convert::Infallible;
use std::fmt;
use std::io::{self, IoSlice};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::{Acknowledgements, Connect, Connector, Ends, PeerEnd, Stream};

/// What a client needs of a stream.
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

trait AnyConnector: Unpin + Send {
    fn connect(&mut self) -> Connect<BoxedStream>;
}

impl<C: Connector> AnyConnector for C {
    fn connect(&mut self) -> Connect<BoxedStream> {
        let attempt = Connector::connect(self);
        Box::pin(async move { Ok(BoxedStream(Box::new(attempt.await?))) })
    }
}

/// A connector of any type.
pub struct BoxedConnector(Box<dyn AnyConnector>);

impl BoxedConnector {
    /// Boxes a connector.
    #[must_use]
    pub fn new(connector: impl Connector) -> Self {
        BoxedConnector(Box::new(connector))
    }
}

impl fmt::Debug for BoxedConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxedConnector").finish_non_exhaustive()
    }
}

impl Connector for BoxedConnector {
    type Stream = BoxedStream;

    fn connect(&mut self) -> Connect<BoxedStream> {
        self.0.connect()
    }
}
