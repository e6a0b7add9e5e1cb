//! Socket options: what the system buffers, and when it gives up a silent peer.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};

/// Probes to a silent peer after [`SocketOptions::keep_alive`]. They are [`KEEP_ALIVE_PAUSE`] apart.
const KEEP_ALIVE_PROBES: u32 = 3;
/// The pause between two probes.
const KEEP_ALIVE_PAUSE: Duration = Duration::from_secs(5);
/// The default of [`SocketOptions::keep_alive`].
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Options that are set on every connection. A value of 0 leaves each of them to the system.
///
/// The buffer sizes are set on purpose. By default Linux lets the buffers of a connection grow to several megabytes, so ten thousand
/// clients that do not read would hold gigabytes of data that an edge considers sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketOptions {
    /// Connections that the kernel queues before they are accepted. The default has room for a storm of reconnects.
    pub backlog: u32,
    /// How long a peer may be silent before it is probed (TCP keep-alive, RFC 9293 section 3.8.4).
    pub keep_alive: Duration,
    /// How long sent data may stay unacknowledged (TCP_USER_TIMEOUT, RFC 5482). Linux only.
    ///
    /// The drivers themselves watch a link, a client library's connection and a backend's: they wait for a peer that acknowledges but has no
    /// room. It is probed less and less often, finally every two minutes. A peer that leaves meanwhile is given up once two probes in
    /// a row were not answered.
    ///
    /// For an edge's clients Linux itself gives up one that has no room for that long. It also gives up a silent one, however many probes
    /// are left: it checks at every probe but the first, and counts from the last byte that arrived. With a value up to `keep_alive` plus
    /// one pause, a single lost probe ends a healthy connection.
    pub user_timeout: Duration,
    /// Bytes that the kernel may hold for the peer (SO_SNDBUF).
    pub send_buffer_bytes: u32,
    /// Bytes from the peer that the kernel may hold for us (SO_RCVBUF).
    pub receive_buffer_bytes: u32,
    /// Unsent bytes beyond which a socket accepts no more (TCP_NOTSENT_LOWAT). The rest waits where it is counted, and is current when it
    /// is sent. Linux only.
    pub unsent_bytes: u32,
    /// The users that may connect to a Unix socket.
    #[cfg(unix)]
    pub peer_uids: crate::peer_uids::PeerUids,
}

impl Default for SocketOptions {
    fn default() -> Self {
        SocketOptions {
            backlog: 4_096,
            keep_alive: KEEP_ALIVE,
            user_timeout: KEEP_ALIVE + KEEP_ALIVE_PAUSE * KEEP_ALIVE_PROBES,
            send_buffer_bytes: 256 * 1024,
            receive_buffer_bytes: 256 * 1024,
            unsent_bytes: 128 * 1024,
            #[cfg(unix)]
            peer_uids: crate::peer_uids::PeerUids::default(),
        }
    }
}

impl SocketOptions {
    /// Returns the options of the one stream that carries all clients. Its buffers are left to the system, which measures the path.
    #[must_use]
    pub fn of_link() -> Self {
        SocketOptions {
            send_buffer_bytes: 0,
            receive_buffer_bytes: 0,
            unsent_bytes: 0,
            ..SocketOptions::default()
        }
    }

    /// Sets the number of connections that the kernel queues before they are accepted. Default: 4,096.
    #[must_use]
    pub fn with_backlog(mut self, connections: u32) -> Self {
        self.backlog = connections;
        self
    }

    /// Sets how long a peer may be silent before it is probed. Default: 20 s. 0: the system decides.
    #[must_use]
    pub fn with_keep_alive(mut self, silence: Duration) -> Self {
        self.keep_alive = silence;
        self
    }

    /// Sets how long sent data may stay unacknowledged. Default: 35 s. 0: the system decides.
    #[must_use]
    pub fn with_user_timeout(mut self, timeout: Duration) -> Self {
        self.user_timeout = timeout;
        self
    }

    /// Sets how many bytes the kernel may hold for the peer. Default: 256 KiB. 0: the system decides.
    #[must_use]
    pub fn with_send_buffer_bytes(mut self, bytes: u32) -> Self {
        self.send_buffer_bytes = bytes;
        self
    }

    /// Sets how many bytes from the peer the kernel may hold. Default: 256 KiB. 0: the system decides.
    #[must_use]
    pub fn with_receive_buffer_bytes(mut self, bytes: u32) -> Self {
        self.receive_buffer_bytes = bytes;
        self
    }

    /// Sets the number of unsent bytes beyond which a socket accepts no more. Default: 128 KiB. 0: the system decides.
    #[must_use]
    pub fn with_unsent_bytes(mut self, bytes: u32) -> Self {
        self.unsent_bytes = bytes;
        self
    }

    /// Sets the users that may connect to a Unix socket. Default: all that can open its file.
    #[cfg(unix)]
    #[must_use]
    pub fn with_peer_uids(mut self, peer_uids: crate::peer_uids::PeerUids) -> Self {
        self.peer_uids = peer_uids;
        self
    }

    /// Listens at `address`. Accepted connections inherit the options on Linux; elsewhere [`apply`](Self::apply) them.
    ///
    /// # Errors
    /// Those of the system: the address is in use, not of this machine, or not permitted.
    pub fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let socket = self.socket(address)?;
        socket.bind(&address.into())?;
        self.listen_on(socket)
    }

    /// Binds an address without listening there. The system refuses connections meanwhile.
    ///
    /// # Errors
    /// Those of [`listen`](Self::listen). They include an address at which another process listens, even if that process shares it.
    pub fn bind(&self, address: SocketAddr) -> io::Result<BoundAddress> {
        let socket = self.socket(address)?;
        socket.bind(&address.into())?;
        Ok(BoundAddress {
            socket,
            options: *self,
        })
    }

    /// Takes over a socket that another process opened and that listens, such as one of a service manager. Sets the options on it, which
    /// connections inherit that are opened from now on.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if it is no TCP socket that listens; otherwise those of the system.
    #[cfg(target_os = "linux")]
    pub fn adopt(&self, socket: std::os::fd::OwnedFd) -> io::Result<TcpListener> {
        let socket = Socket::from(socket);
        let wrong = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
        let has_address = socket.local_addr()?.as_socket().is_some();
        if !has_address || socket.r#type()? != Type::STREAM {
            return Err(wrong("the descriptor is no TCP socket"));
        }
        if !socket.is_listener()? {
            return Err(wrong("the socket does not listen"));
        }
        self.apply(&SockRef::from(&socket))?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    }

    fn socket(&self, address: SocketAddr) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        // Lets a restart succeed while connections of the last run are in TIME_WAIT.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        self.apply(&SockRef::from(&socket))?;
        Ok(socket)
    }

    fn listen_on(&self, socket: Socket) -> io::Result<TcpListener> {
        socket.listen(i32::try_from(self.backlog).unwrap_or(i32::MAX))?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    }

    /// Sets the options on a socket, and disables Nagle's algorithm (TCP_NODELAY): packets are collected before they are written, so it
    /// could only delay them.
    ///
    /// # Errors
    /// Those of the system, for example on a socket that is already dead.
    pub fn apply(&self, socket: &SockRef<'_>) -> io::Result<()> {
        socket.set_tcp_nodelay(true)?;
        if !self.keep_alive.is_zero() {
            let probes = TcpKeepalive::new()
                .with_time(self.keep_alive)
                .with_interval(KEEP_ALIVE_PAUSE)
                .with_retries(KEEP_ALIVE_PROBES);
            socket.set_tcp_keepalive(&probes)?;
        }
        if self.send_buffer_bytes > 0 {
            socket.set_send_buffer_size(self.send_buffer_bytes as usize)?;
        }
        if self.receive_buffer_bytes > 0 {
            socket.set_recv_buffer_size(self.receive_buffer_bytes as usize)?;
        }
        #[cfg(target_os = "linux")]
        {
            if !self.user_timeout.is_zero() {
                socket.set_tcp_user_timeout(Some(self.user_timeout))?;
            }
            if self.unsent_bytes > 0 {
                socket.set_tcp_notsent_lowat(self.unsent_bytes)?;
            }
        }
        Ok(())
    }

    /// Sets the options on a connection that was just opened. A connection to itself is reset instead.
    ///
    /// TCP lets two ends open a connection towards each other. An attempt to connect to a port in this machine's ephemeral range where
    /// nobody listens may be given that very port as its own. It is then both ends: it reads what it writes, and keeps the port from the
    /// process that is to listen there.
    ///
    /// # Errors
    /// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) if it is connected to itself; otherwise those of [`apply`](Self::apply).
    pub fn apply_to_connected(&self, socket: &SockRef<'_>) -> io::Result<()> {
        if socket.local_addr()?.as_socket() == socket.peer_addr()?.as_socket() {
            // An orderly end would keep the port in TIME_WAIT.
            socket.set_linger(Some(Duration::ZERO))?;
            return Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "the connection led to itself: nobody listens at that port",
            ));
        }
        self.apply(socket)
    }

    /// Like [`apply`](Self::apply), for a socket of another process.
    ///
    /// # Errors
    /// Those of [`apply`](Self::apply).
    #[cfg(all(feature = "upgrade", unix))]
    pub fn apply_to(&self, socket: &std::os::fd::OwnedFd) -> io::Result<()> {
        self.apply(&SockRef::from(socket))
    }

    /// Removes the system's limit on waiting for an acknowledgement, and returns it. `None` if none was set.
    #[cfg(target_os = "linux")]
    pub fn take_user_timeout(socket: &SockRef<'_>) -> Option<Duration> {
        let timeout = socket.tcp_user_timeout().ok()??;
        socket.set_tcp_user_timeout(None).ok()?;
        Some(timeout)
    }

    /// Sets the options that an accepted connection did not inherit from its listener.
    pub fn apply_to_accepted(&self, socket: &SockRef<'_>) {
        if !cfg!(target_os = "linux") {
            // Fails only on a socket that is already dead, which the first read will report.
            let _ = self.apply(socket);
        }
    }
}

/// An address bound by this process, at which nobody listens yet.
#[derive(Debug)]
pub struct BoundAddress {
    socket: Socket,
    options: SocketOptions,
}

impl BoundAddress {
    /// Returns the address, with the port that the system chose if it was 0.
    ///
    /// # Errors
    /// Those of `getsockname`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let address = self.socket.local_addr()?;
        let address = address.as_socket();
        address.ok_or_else(|| io::Error::other("the socket has no IP address"))
    }

    /// Listens with `listeners` sockets, at least one, one for each thread that accepts.
    ///
    /// On Linux they are separate sockets (SO_REUSEPORT), and the system distributes connections evenly. Elsewhere they are one socket, and
    /// the first thread to accept takes the connection.
    ///
    /// # Errors
    /// Those of the system. The address may be in use by another process that was bound to it as well and was faster.
    pub fn listen(self, listeners: usize) -> io::Result<Vec<TcpListener>> {
        let BoundAddress { socket, options } = self;
        let mut all = vec![options.listen_on(socket)?];
        #[cfg(target_os = "linux")]
        if listeners > 1 {
            // The address is shared only after it was found free: two edges must not take each other's clients.
            SockRef::from(&all[0]).set_reuse_port(true)?;
        }
        for _ in 1..listeners {
            #[cfg(target_os = "linux")]
            let next = {
                let address = all[0].local_addr()?;
                let next = options.socket(address)?;
                next.set_reuse_port(true)?;
                next.bind(&address.into())?;
                options.listen_on(next)?
            };
            #[cfg(not(target_os = "linux"))]
            let next = all[0].try_clone()?;
            all.push(next);
        }
        Ok(all)
    }
}

/// A descriptor held in reserve for when there are none left.
///
/// Connections that cannot be accepted would stay in the backlog and keep the listener ready, and their clients would wait in vain. With
/// one spare descriptor each of them can be accepted and closed.
#[derive(Debug)]
pub struct SpareDescriptor(Option<File>);

/// The maximum number of connections turned away in one call.
const SHED_AT_ONCE: usize = 64;

impl SpareDescriptor {
    /// Reserves a descriptor.
    #[must_use]
    pub fn new() -> Self {
        SpareDescriptor(any_file())
    }

    /// Accepts and closes the connections that wait at `listener`, which must be non-blocking.
    pub fn shed(&mut self, listener: &SockRef<'_>) {
        for _ in 0..SHED_AT_ONCE {
            drop(self.0.take());
            let turned_away = listener.accept().is_ok();
            self.0 = any_file();
            if !turned_away {
                return;
            }
        }
    }
}

impl Default for SpareDescriptor {
    fn default() -> Self {
        SpareDescriptor::new()
    }
}

/// Opens a file, only to use a descriptor.
fn any_file() -> Option<File> {
    File::open("/dev/null").ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn only_a_tcp_socket_that_listens_is_adopted() {
        let options = SocketOptions::default().with_keep_alive(Duration::from_secs(77));
        let given = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = given.local_addr().unwrap();
        let own = options.adopt(given.into()).unwrap();
        assert_eq!(own.local_addr().unwrap(), address);
        let nobody = own.accept().unwrap_err();
        assert_eq!(nobody.kind(), io::ErrorKind::WouldBlock);
        let client = TcpStream::connect(address).unwrap();
        let accepted = loop {
            match own.accept() {
                Ok((stream, _)) => break stream,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        };
        assert!(accepted.nodelay().unwrap(), "inherited");
        let silence = SockRef::from(&accepted).tcp_keepalive_time().unwrap();
        assert_eq!(silence, Duration::from_secs(77));
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let unix = std::os::unix::net::UnixStream::pair().unwrap().0;
        let datagram = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        for (wrong, says) in [
            (bound.into(), "does not listen"),
            (client.into(), "does not listen"),
            (unix.into(), "no TCP socket"),
            (datagram.into(), "no TCP socket"),
            (
                File::open("/dev/null").unwrap().into(),
                "Socket operation on non-socket",
            ),
        ] {
            let error = options.adopt(wrong).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
        }
    }

    #[test]
    fn all_probes_are_sent_before_a_silent_peer_is_given_up() {
        for options in [SocketOptions::default(), SocketOptions::of_link()] {
            let last_probe = options.keep_alive + KEEP_ALIVE_PAUSE * (KEEP_ALIVE_PROBES - 1);
            assert!(options.user_timeout > last_probe, "{options:?}");
        }
    }

    #[test]
    fn accepted_connections_inherit_every_option() {
        let options = SocketOptions {
            user_timeout: Duration::from_millis(7_000),
            ..SocketOptions::default()
        };
        let listener = options.listen(([127, 0, 0, 1], 0).into()).unwrap();
        listener.set_nonblocking(false).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), options.keep_alive);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEP_ALIVE_PROBES);
        assert_eq!(
            socket.tcp_user_timeout().unwrap(),
            Some(options.user_timeout)
        );
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), options.unsent_bytes);
        // Linux reports twice the value that was set; the other half is for its own bookkeeping.
        assert_eq!(socket.send_buffer_size().unwrap(), 512 * 1024);
        assert_eq!(socket.recv_buffer_size().unwrap(), 512 * 1024);
    }

    #[test]
    fn a_connection_to_itself_is_refused_and_leaves_its_port_free() {
        let address = ([127, 0, 0, 1], 0).into();
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.bind(&address.into()).unwrap();
        let address = socket.local_addr().unwrap();
        socket.connect(&address).unwrap();
        let options = SocketOptions::default();
        let refused = options.apply_to_connected(&SockRef::from(&socket));
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert!(refused.to_string().contains("itself"), "{refused}");
        drop(socket);
        // Without SO_REUSEADDR a connection in TIME_WAIT would prevent this.
        let next = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        next.bind(&address).unwrap();
    }

    #[test]
    fn shared_listeners_share_the_connections_and_the_address_with_nobody_else() {
        let options = SocketOptions::default();
        let listen_shared = |address, listeners| options.bind(address)?.listen(listeners);
        let shared = listen_shared(([127, 0, 0, 1], 0).into(), 2).unwrap();
        let address = shared[0].local_addr().unwrap();
        assert_eq!(shared[1].local_addr().unwrap(), address);
        // Each connection goes to one of the two at random: all 64 go to the same one with a probability of 2^-63.
        let _clients: Vec<_> = (0..64)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        let accepted = shared
            .iter()
            .map(|listener| std::iter::from_fn(|| listener.accept().ok()).count());
        let accepted: Vec<_> = accepted.collect();
        assert_eq!(accepted.iter().sum::<usize>(), 64);
        assert!(accepted.iter().all(|count| *count > 0), "{accepted:?}");
        for listeners in [1, 2] {
            let taken = listen_shared(address, listeners).unwrap_err();
            assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        }
    }

    #[test]
    fn an_address_that_is_bound_refuses_clients_and_goes_to_whoever_listens_first() {
        let options = SocketOptions::default();
        let first = options.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = first.local_addr().unwrap();
        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let second = options.bind(address).unwrap();
        let listeners = first.listen(2).unwrap();
        TcpStream::connect(address).unwrap();
        let taken = second.listen(2).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(listeners.len(), 2);
    }

    #[test]
    fn nothing_is_set_where_the_system_is_to_decide() {
        let options = SocketOptions {
            keep_alive: Duration::ZERO,
            user_timeout: Duration::ZERO,
            ..SocketOptions::of_link()
        };
        let listener = options.listen(([127, 0, 0, 1], 0).into()).unwrap();
        let socket = SockRef::from(&listener);
        assert!(!socket.keepalive().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), None);
    }

    #[test]
    fn the_spare_descriptor_turns_away_all_that_wait() {
        let listener = SocketOptions::default()
            .listen(([127, 0, 0, 1], 0).into())
            .unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting: Vec<_> = (0..5)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        let mut spare = SpareDescriptor::new();
        spare.shed(&SockRef::from(&listener));
        for client in &mut waiting {
            assert_eq!(std::io::Read::read(client, &mut [0]).unwrap(), 0, "closed");
        }
        assert!(spare.0.is_some(), "held back again");
    }
}
