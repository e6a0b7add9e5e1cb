//! TCP: async-io's sockets as the drivers' streams, listener and connector.

use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_io::Async;
use socket2::SockRef;
use voltlane_driver::{Connect, Connector, Listener, SocketOptions, SpareDescriptor, Stream};

use crate::resolve::resolve;

/// A TCP connection over IPv4 or IPv6, without Nagle's delay.
#[derive(Debug)]
pub struct TcpStream {
    io: Async<std::net::TcpStream>,
    /// The last read left nothing in the socket: wait before the next.
    drained: bool,
    /// The last write left no room in the socket: wait before the next.
    full: bool,
}

impl TcpStream {
    /// Opens a connection to `address`, `host:port`; a name's addresses are tried in turn.
    ///
    /// # Errors
    /// What the resolver said, or what the last address tried did.
    pub async fn connect(address: &str) -> io::Result<TcpStream> {
        Self::connect_with(address, SocketOptions::default()).await
    }

    async fn connect_with(address: &str, options: SocketOptions) -> io::Result<TcpStream> {
        let mut last = None;
        for candidate in resolve(address).await? {
            match Async::<std::net::TcpStream>::connect(candidate).await {
                Ok(stream) => {
                    options.apply(&SockRef::from(stream.get_ref()))?;
                    return Ok(TcpStream::from(stream));
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| no_address(address)))
    }
}

impl From<Async<std::net::TcpStream>> for TcpStream {
    /// A connection with the options that it has; [`SocketOptions::apply`] sets ours.
    fn from(io: Async<std::net::TcpStream>) -> Self {
        TcpStream {
            io,
            drained: false,
            full: false,
        }
    }
}

impl Stream for TcpStream {
    type Parcel = std::net::TcpStream;

    fn pack(self) -> io::Result<std::net::TcpStream> {
        self.io.into_inner()
    }

    fn unpack(parcel: std::net::TcpStream) -> io::Result<TcpStream> {
        Async::new_nonblocking(parcel).map(TcpStream::from)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            if self.drained {
                ready!(self.io.poll_readable(cx))?;
                self.drained = false;
            }
            match self.io.get_ref().read(buf) {
                Ok(read) => {
                    // The next poll registers the waker without a read that would find nothing: if more has come by
                    // then, the reactor says so at once.
                    self.drained = read < buf.len();
                    return Poll::Ready(Ok(read));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.drained = true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            if self.full {
                ready!(self.io.poll_writable(cx))?;
                self.full = false;
            }
            let written = match bufs {
                [one] => self.io.get_ref().write(one),
                many => self.io.get_ref().write_vectored(many),
            };
            match written {
                Ok(written) => {
                    self.full = written < bufs.iter().map(|buf| buf.len()).sum();
                    return Poll::Ready(Ok(written));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.full = true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.io.get_ref().shutdown(Shutdown::Write))
    }

    fn abort(self) {
        // If it fails the drop below sends a FIN, or a RST if something was unread: the connection ends anyhow.
        let _ = SockRef::from(self.io.get_ref()).set_linger(Some(Duration::ZERO));
    }
}

/// A TCP listener.
#[derive(Debug)]
pub struct TcpListener {
    inner: Async<std::net::TcpListener>,
    /// The last look found nobody: wait before the next.
    drained: bool,
    options: SocketOptions,
    spare: SpareDescriptor,
}

impl TcpListener {
    /// Listens at `address`: `ip:port` or `host:port`; port 0 lets the system choose one, see [`Self::local_addr`].
    ///
    /// # Errors
    /// What the resolver said, or what the last address tried did.
    pub async fn bind(address: &str) -> io::Result<TcpListener> {
        Self::bind_with(address, SocketOptions::default()).await
    }

    /// The same, with other options for the connections than the default.
    ///
    /// # Errors
    /// Those of [`bind`](Self::bind).
    pub async fn bind_with(address: &str, options: SocketOptions) -> io::Result<TcpListener> {
        let mut last = None;
        for candidate in resolve(address).await? {
            match options
                .listen(candidate)
                .and_then(|listener| Self::from_std(listener, options))
            {
                Ok(listener) => return Ok(listener),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| no_address(address)))
    }

    /// Accepts at a listener that does not block, as [`SocketOptions::listen`] and [`SocketOptions::listen_shared`] give.
    ///
    /// # Errors
    /// When the reactor cannot take it.
    pub fn from_std(
        listener: std::net::TcpListener,
        options: SocketOptions,
    ) -> io::Result<TcpListener> {
        Ok(TcpListener {
            inner: Async::new_nonblocking(listener)?,
            drained: false,
            options,
            spare: SpareDescriptor::new(),
        })
    }

    /// The address at which it listens.
    ///
    /// # Errors
    /// Those of `getsockname`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.get_ref().local_addr()
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        loop {
            if self.drained {
                ready!(self.inner.poll_readable(cx))?;
                self.drained = false;
            }
            match self.inner.get_ref().accept() {
                Ok((stream, source)) => {
                    self.options.apply_to_accepted(&SockRef::from(&stream));
                    let mut stream = TcpStream::from(Async::new(stream)?);
                    // Mostly true, and found out by the reactor rather than by a read.
                    stream.drained = true;
                    return Poll::Ready(Ok((stream, source)));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.drained = true,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn shed(&mut self) {
        self.spare.shed(&SockRef::from(self.inner.get_ref()));
    }
}

/// Connects to one address, `host:port`.
#[derive(Debug, Clone)]
pub struct TcpConnector {
    address: String,
    options: SocketOptions,
}

impl TcpConnector {
    /// Connects to `address`, `ip:port` or `host:port`, which is looked at, and a name resolved, at each attempt.
    #[must_use]
    pub fn new(address: impl Into<String>) -> Self {
        TcpConnector {
            address: address.into(),
            options: SocketOptions::default(),
        }
    }

    /// The same, with other options than the default.
    #[must_use]
    pub fn with_options(self, options: SocketOptions) -> Self {
        TcpConnector { options, ..self }
    }
}

impl From<String> for TcpConnector {
    fn from(address: String) -> Self {
        TcpConnector::new(address)
    }
}

impl Connector for TcpConnector {
    type Stream = TcpStream;

    fn connect(&mut self) -> Connect<TcpStream> {
        let (address, options) = (self.address.clone(), self.options);
        Box::pin(async move { TcpStream::connect_with(&address, options).await })
    }
}

fn no_address(address: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("`{address}` has no address"),
    )
}
