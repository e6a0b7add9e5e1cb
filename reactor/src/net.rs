//! TCP streams, listeners and connectors for the drivers, on the sockets of a reactor.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::marker::PhantomData;
use std::net::{Shutdown, SocketAddr};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use voltlane_driver::address::{NEXT_ADDRESS_AFTER, first_to_answer, listen};
use voltlane_driver::unix::{UNIX_PEER, UnixFile, UnixPlace, is_unix};
use voltlane_driver::{Connect, Connector, Ends, Listener, SocketOptions, SpareDescriptor, Stream};

#[cfg(target_os = "linux")]
use crate::peer_uid;
use crate::resolve::resolve;
use crate::{Alarm as _, Direction, Reactor, Readiness, Source};

/// Elsewhere the system is not asked for the user.
#[cfg(not(target_os = "linux"))]
fn peer_uid(_: &std::net::TcpStream) -> io::Result<u32> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A TCP connection over IPv4 or IPv6, with Nagle's algorithm disabled, or a connection over a Unix socket.
#[derive(Debug)]
pub struct TcpStream<R: Reactor> {
    source: R::Source<std::net::TcpStream>,
}

impl<R: Reactor> TcpStream<R> {
    /// Opens a connection to `address`, given as `host:port`, `unix:/path` or `unix:@name`.
    ///
    /// If the name has several addresses, the next one is tried in parallel after each 250 ms.
    ///
    /// # Errors
    /// An error of the resolver, or that of the attempt that failed last.
    pub async fn connect(address: &str) -> io::Result<Self> {
        Self::connect_with(address, SocketOptions::default()).await
    }

    async fn connect_with(address: &str, options: SocketOptions) -> io::Result<Self> {
        if let Some(place) = UnixPlace::parse(address)? {
            return Self::watch(place.connect()?, &[Direction::Read, Direction::Write]);
        }
        let attempt = |candidate| async move {
            let stream = Self::connect_to(candidate).await?;
            options.apply_to_connected(&SockRef::from(stream.source.get_ref()))?;
            Ok(stream)
        };
        let pause = || async {
            let mut alarm = R::Alarm::never();
            alarm.set_at(Instant::now() + NEXT_ADDRESS_AFTER);
            poll_fn(|cx| alarm.poll(cx)).await;
        };
        first_to_answer(address, resolve::<R>(address).await?, attempt, pause).await
    }

    async fn connect_to(address: SocketAddr) -> io::Result<Self> {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
                return Err(error);
            }
            _ => {}
        }
        // Registered only now: the system reports a socket that has not begun to connect as hung up.
        let mut source = R::Source::new(std::net::TcpStream::from(socket))?;
        let connected = poll_fn(|cx| source.poll_take(Direction::Write, cx)).await?;
        match source.get_ref().take_error()? {
            Some(error) => Err(error),
            None => {
                source.restore(Direction::Write, connected);
                Ok(TcpStream { source })
            }
        }
    }

    /// Wraps a registered connection and keeps its options. [`SocketOptions::apply`] sets this crate's.
    #[must_use]
    pub fn from_source(source: R::Source<std::net::TcpStream>) -> Self {
        TcpStream { source }
    }

    /// Registers a connection. Only the `likely` directions are attempted before the reactor reports them ready.
    fn watch(stream: std::net::TcpStream, likely: &[Direction]) -> io::Result<Self> {
        let mut source = R::Source::new(stream)?;
        for direction in likely {
            source.restore(*direction, Readiness::default());
        }
        Ok(TcpStream { source })
    }
}

impl<R: Reactor> Stream for TcpStream<R> {
    type Parcel = std::net::TcpStream;

    fn pack(self) -> io::Result<std::net::TcpStream> {
        self.source.into_inner()
    }

    fn unpack(parcel: std::net::TcpStream) -> io::Result<Self> {
        Self::watch(parcel, &[Direction::Read, Direction::Write])
    }

    // After a short read or write, the next poll registers the waker without another attempt, which would find nothing. If data or room has
    // arrived by then, the reactor reports it at once.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let room = buf.len();
        self.source.poll_attempt(
            Direction::Read,
            cx,
            |stream| Ok(rustix::net::recv(stream, &mut *buf, RecvFlags::empty())?.0),
            |read| (1..room).contains(read),
        )
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let offered = bufs.iter().map(|buf| buf.len()).sum();
        self.source.poll_attempt(
            Direction::Write,
            cx,
            |stream| {
                Ok(match bufs {
                    [one] => rustix::net::send(stream, one, SendFlags::NOSIGNAL)?,
                    many => rustix::io::writev(stream, many)?,
                })
            },
            |written| *written < offered,
        )
    }

    #[cfg(all(feature = "upgrade", unix))]
    fn socket(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        Some(std::os::fd::AsFd::as_fd(self.source.get_ref()))
    }

    #[cfg(all(feature = "upgrade", unix))]
    fn from_socket(socket: std::os::fd::OwnedFd, saved: &[u8]) -> io::Result<Self> {
        if !saved.is_empty() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // Both directions are attempted once: what came before it was registered is not reported.
        Self::unpack(socket.into())
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.source.get_ref().shutdown(Shutdown::Write))
    }

    fn ends(&self) -> Option<Ends> {
        let socket = self.source.get_ref();
        let (local, peer) = (socket.local_addr().ok()?, socket.peer_addr().ok()?);
        Some(Ends { local, peer })
    }

    fn abort(self) {
        // If this fails, the drop below sends a FIN, or a RST if unread data is left: the connection ends in any case.
        let _ = SockRef::from(self.source.get_ref()).set_linger(Some(Duration::ZERO));
    }

    #[cfg(target_os = "linux")]
    fn peer_end(&self) -> Option<voltlane_driver::PeerEnd> {
        crate::peer_end(self.source.get_ref())
    }

    #[cfg(target_os = "linux")]
    fn take_user_timeout(&mut self) -> Option<Duration> {
        SocketOptions::take_user_timeout(&SockRef::from(self.source.get_ref()))
    }

    #[cfg(target_os = "linux")]
    fn acknowledgements(&self) -> Option<voltlane_driver::Acknowledgements> {
        crate::acknowledgements(self.source.get_ref())
    }
}

/// A listener on a reactor, for TCP or at a Unix socket.
#[derive(Debug)]
pub struct TcpListener<R: Reactor> {
    /// The file of a Unix socket, if it goes with this listener. The first field, so that it is dropped before the socket: while that is
    /// open no other process takes its place, and its inode is not given to another file.
    file: Option<UnixFile>,
    source: R::Source<std::net::TcpListener>,
    options: SocketOptions,
    spare: SpareDescriptor,
    is_unix: bool,
}

impl<R: Reactor> TcpListener<R> {
    /// Listens at `address`, given as `ip:port`, `host:port`, `unix:/path` or `unix:@name`. With port 0 the system chooses one, see [`Self::local_addr`].
    ///
    /// Of a name with several addresses it takes the first that this machine has. `localhost` may be `::1` alone, and a client that connects
    /// to `127.0.0.1` then finds nobody. [`SocketOptions::bind_all`] binds all of them. Wrap each listener with [`from_std`](Self::from_std),
    /// and give an edge's driver the first one, and the others by `listening_at`.
    ///
    /// # Errors
    /// An error of the resolver, or that of the last address tried.
    pub async fn bind(address: &str) -> io::Result<Self> {
        Self::bind_with(address, SocketOptions::default()).await
    }

    /// Like [`bind`](Self::bind), with `options` for the accepted connections.
    ///
    /// # Errors
    /// Those of [`bind`](Self::bind).
    pub async fn bind_with(address: &str, options: SocketOptions) -> io::Result<Self> {
        let (listener, file) = listen(address, &options, resolve::<R>(address)).await?;
        let mut listener = Self::from_std(listener, options)?;
        listener.file = file;
        Ok(listener)
    }

    /// Wraps a non-blocking listener, such as [`SocketOptions::listen`] returns.
    ///
    /// # Errors
    /// When the reactor cannot register the listener.
    pub fn from_std(listener: std::net::TcpListener, options: SocketOptions) -> io::Result<Self> {
        let is_unix = is_unix(&SockRef::from(&listener));
        let mut source = R::Source::new(listener)?;
        source.restore(Direction::Read, Readiness::default());
        Ok(TcpListener {
            source,
            options,
            spare: SpareDescriptor::new(),
            is_unix,
            file: None,
        })
    }

    /// Returns the address that the listener is bound to.
    ///
    /// # Errors
    /// Any error of `getsockname`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.source.get_ref().local_addr()
    }
}

impl<R: Reactor> Listener for TcpListener<R> {
    type Stream = TcpStream<R>;

    fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(TcpStream<R>, SocketAddr)>> {
        let (options, is_unix) = (self.options, self.is_unix);
        self.source.poll_attempt(
            Direction::Read,
            cx,
            |listener| {
                let (stream, source) = accept(listener, is_unix)?;
                if is_unix {
                    options.peer_uids.admit(|| peer_uid(&stream))?;
                } else {
                    options.apply_to_accepted(&SockRef::from(&stream));
                }
                // A new peer has mostly sent nothing yet. The reactor finds that out without a read in vain.
                Ok((TcpStream::watch(stream, &[Direction::Write])?, source))
            },
            |_| false,
        )
    }

    fn place(&self) -> Option<SocketAddr> {
        self.local_addr().ok()
    }

    #[cfg(all(feature = "upgrade", unix))]
    fn socket(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        Some(std::os::fd::AsFd::as_fd(self.source.get_ref()))
    }

    fn shed(&mut self) {
        self.spare.shed(&SockRef::from(self.source.get_ref()));
    }
}

/// Connects to one address: `host:port`, `unix:/path` or `unix:@name`.
#[derive(Debug, Clone)]
pub struct TcpConnector<R> {
    address: String,
    options: SocketOptions,
    reactor: PhantomData<R>,
}

impl<R> TcpConnector<R> {
    /// Creates a connector to `address`, given as `ip:port`, `host:port`, `unix:/path` or `unix:@name`. It is parsed, and a name resolved, at each attempt.
    #[must_use]
    pub fn new(address: impl Into<String>) -> Self {
        TcpConnector {
            address: address.into(),
            options: SocketOptions::default(),
            reactor: PhantomData,
        }
    }

    /// Replaces the default socket options.
    #[must_use]
    pub fn with_options(self, options: SocketOptions) -> Self {
        TcpConnector { options, ..self }
    }
}

impl<R> From<String> for TcpConnector<R> {
    fn from(address: String) -> Self {
        TcpConnector::new(address)
    }
}

impl<R: Reactor> Connector for TcpConnector<R> {
    type Stream = TcpStream<R>;

    fn connect(&mut self) -> Connect<TcpStream<R>> {
        let (address, options) = (self.address.clone(), self.options);
        Box::pin(async move { TcpStream::connect_with(&address, options).await })
    }
}

/// Accepts a connection and makes it non-blocking.
fn accept(
    listener: &std::net::TcpListener,
    is_unix: bool,
) -> io::Result<(std::net::TcpStream, SocketAddr)> {
    #[cfg(target_os = "linux")]
    {
        use rustix::net::SocketFlags;
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (stream, source) = rustix::net::acceptfrom_with(listener, flags)?;
        let source = match is_unix {
            true => Some(UNIX_PEER),
            false => source.and_then(|source| source.try_into().ok()),
        };
        // Some systems give no address for a peer that is already gone.
        let source = source.ok_or(io::ErrorKind::ConnectionAborted)?;
        Ok((stream.into(), source))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let (stream, source) = socket2::SockRef::from(listener).accept()?;
        stream.set_nonblocking(true)?;
        let source = match is_unix {
            true => Some(UNIX_PEER),
            false => source.as_socket(),
        };
        Ok((
            stream.into(),
            source.ok_or(io::ErrorKind::ConnectionAborted)?,
        ))
    }
}
