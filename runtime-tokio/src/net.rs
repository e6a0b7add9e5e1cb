//! TCP streams, listeners and connectors for the drivers, on tokio's sockets.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use voltlane_driver::address::{HostPort, NEXT_ADDRESS_AFTER, first_to_answer, listen};
use voltlane_driver::unix::{UNIX_PEER, UnixFile, UnixPlace, is_unix};
use voltlane_driver::{Connect, Connector, Ends, Listener, SocketOptions, SpareDescriptor, Stream};

/// A TCP connection over IPv4 or IPv6, with Nagle's algorithm disabled, or a connection over a Unix socket.
#[derive(Debug)]
pub struct TcpStream(tokio::net::TcpStream);

impl TcpStream {
    /// Opens a connection to `address`, given as `host:port`, `unix:/path` or `unix:@name`.
    ///
    /// If the name has several addresses, the next one is tried in parallel after each 250 ms.
    ///
    /// # Errors
    /// An error of the resolver, or that of the attempt that failed last.
    pub async fn connect(address: &str) -> io::Result<TcpStream> {
        Self::connect_with(address, SocketOptions::default()).await
    }

    async fn connect_with(address: &str, options: SocketOptions) -> io::Result<TcpStream> {
        if let Some(place) = UnixPlace::parse(address)? {
            return Self::unpack(place.connect()?);
        }
        let attempt = |candidate: SocketAddr| async move {
            let stream = tokio::net::TcpStream::connect(candidate).await?;
            options.apply_to_connected(&SockRef::from(&stream))?;
            Ok(TcpStream(stream))
        };
        let pause = || tokio::time::sleep(NEXT_ADDRESS_AFTER);
        first_to_answer(address, resolve(address).await?, attempt, pause).await
    }
}

impl From<tokio::net::TcpStream> for TcpStream {
    /// Wraps a connection and keeps its options. [`SocketOptions::apply`] sets this crate's.
    fn from(stream: tokio::net::TcpStream) -> Self {
        TcpStream(stream)
    }
}

impl Stream for TcpStream {
    type Parcel = std::net::TcpStream;

    fn pack(self) -> io::Result<std::net::TcpStream> {
        self.0.into_std()
    }

    fn unpack(parcel: std::net::TcpStream) -> io::Result<TcpStream> {
        tokio::net::TcpStream::from_std(parcel).map(TcpStream)
    }

    // After a short read or write tokio clears the readiness of the socket by itself, so the poll that registers the waker makes no system
    // call.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match bufs {
            [one] => Pin::new(&mut self.0).poll_write(cx, one),
            many => Pin::new(&mut self.0).poll_write_vectored(cx, many),
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn ends(&self) -> Option<Ends> {
        let (local, peer) = (self.0.local_addr().ok()?, self.0.peer_addr().ok()?);
        Some(Ends { local, peer })
    }

    fn abort(self) {
        // If this fails, the drop below sends a FIN, or a RST if unread data is left: the connection ends in any case.
        let _ = self.0.set_zero_linger();
    }

    #[cfg(target_os = "linux")]
    fn peer_end(&self) -> Option<voltlane_driver::PeerEnd> {
        voltlane_reactor::peer_end(&self.0)
    }

    #[cfg(target_os = "linux")]
    fn take_user_timeout(&mut self) -> Option<std::time::Duration> {
        SocketOptions::take_user_timeout(&SockRef::from(&self.0))
    }

    #[cfg(target_os = "linux")]
    fn acknowledgements(&self) -> Option<voltlane_driver::Acknowledgements> {
        voltlane_reactor::acknowledgements(&self.0)
    }
}

/// A listener on tokio, for TCP or at a Unix socket.
#[derive(Debug)]
pub struct TcpListener {
    /// The file of a Unix socket, if it goes with this listener. The first field, so that it is dropped before the socket: while that is
    /// open no other process takes its place, and its inode is not given to another file.
    file: Option<UnixFile>,
    inner: Inner,
    options: SocketOptions,
    spare: SpareDescriptor,
}

#[derive(Debug)]
enum Inner {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Inner {
    fn socket(&self) -> SockRef<'_> {
        match self {
            Inner::Tcp(listener) => SockRef::from(listener),
            Inner::Unix(listener) => SockRef::from(listener),
        }
    }
}

impl TcpListener {
    /// Listens at `address`, given as `ip:port`, `host:port`, `unix:/path` or `unix:@name`. With port 0 the system chooses one, see [`Self::local_addr`].
    ///
    /// Of a name with several addresses it takes the first that this machine has, as tokio's own listener does. `localhost` may be `::1`
    /// alone, and a client that connects to `127.0.0.1` then finds nobody. To listen at all of them, bind them and give an edge one listener
    /// for each:
    /// ```no_run
    /// # async fn listen() -> std::io::Result<()> {
    /// use std::net::ToSocketAddrs;
    /// use voltlane_tokio::{SocketOptions, TcpListener};
    ///
    /// let options = SocketOptions::default();
    /// let bound = options.bind_all("localhost:42000".to_socket_addrs()?)?;
    /// for listener in bound.listen(1)?.into_iter().flatten() {
    ///     // The first is that of `EdgeDriver::new`, and `EdgeDriver::listening_at` takes the others.
    ///     let listener = TcpListener::from_std(listener, options)?;
    /// #   drop(listener);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// An error of the resolver, or that of the last address tried.
    pub async fn bind(address: &str) -> io::Result<TcpListener> {
        Self::bind_with(address, SocketOptions::default()).await
    }

    /// Like [`bind`](Self::bind), with `options` for the accepted connections.
    ///
    /// # Errors
    /// Those of [`bind`](Self::bind).
    pub async fn bind_with(address: &str, options: SocketOptions) -> io::Result<TcpListener> {
        let (listener, file) = listen(address, &options, resolve(address)).await?;
        let mut listener = Self::from_std(listener, options)?;
        listener.file = file;
        Ok(listener)
    }

    /// Wraps a non-blocking listener, such as [`SocketOptions::listen`] returns.
    ///
    /// Must be called within a runtime.
    ///
    /// # Errors
    /// When the runtime cannot register the listener.
    pub fn from_std(
        listener: std::net::TcpListener,
        options: SocketOptions,
    ) -> io::Result<TcpListener> {
        let inner = if is_unix(&SockRef::from(&listener)) {
            let listener = std::os::fd::OwnedFd::from(listener);
            Inner::Unix(tokio::net::UnixListener::from_std(listener.into())?)
        } else {
            Inner::Tcp(tokio::net::TcpListener::from_std(listener)?)
        };
        Ok(TcpListener {
            inner,
            options,
            spare: SpareDescriptor::new(),
            file: None,
        })
    }

    /// Returns the address that the listener is bound to.
    ///
    /// # Errors
    /// Any error of `getsockname`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let address = self.inner.socket().local_addr()?.as_socket();
        address.ok_or_else(|| io::Error::other("the socket has no IP address"))
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        match &self.inner {
            Inner::Tcp(listener) => {
                let (stream, source) = ready!(listener.poll_accept(cx))?;
                self.options.apply_to_accepted(&SockRef::from(&stream));
                Poll::Ready(Ok((TcpStream(stream), source)))
            }
            Inner::Unix(listener) => {
                let (stream, _) = ready!(listener.poll_accept(cx))?;
                self.options
                    .peer_uids
                    .admit(|| Ok(stream.peer_cred()?.uid()))?;
                let stream = std::os::fd::OwnedFd::from(stream.into_std()?);
                Poll::Ready(Ok((TcpStream::unpack(stream.into())?, UNIX_PEER)))
            }
        }
    }

    fn place(&self) -> Option<SocketAddr> {
        self.local_addr().ok()
    }

    fn shed(&mut self) {
        self.spare.shed(&self.inner.socket());
    }
}

/// Connects to one address: `host:port`, `unix:/path` or `unix:@name`.
#[derive(Debug, Clone)]
pub struct TcpConnector {
    address: String,
    options: SocketOptions,
}

impl TcpConnector {
    /// Creates a connector to `address`, given as `ip:port`, `host:port`, `unix:/path` or `unix:@name`. It is parsed, and a name resolved, at each attempt.
    #[must_use]
    pub fn new(address: impl Into<String>) -> Self {
        TcpConnector {
            address: address.into(),
            options: SocketOptions::default(),
        }
    }

    /// Replaces the default socket options.
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

/// Returns the addresses of `host:port`.
async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    Ok(match HostPort::parse(address)? {
        HostPort::Address(address) => vec![address],
        HostPort::Name(host, port) => tokio::net::lookup_host((host, port)).await?.collect(),
    })
}
