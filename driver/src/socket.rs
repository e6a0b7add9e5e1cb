//! The options of sockets: what the system buffers, and when it gives a silent peer up.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};

/// Probes of a silent peer after [`SocketOptions::keep_alive`], and the pause between them.
const KEEP_ALIVE_PROBES: u32 = 3;
/// See [`KEEP_ALIVE_PROBES`].
const KEEP_ALIVE_PAUSE: Duration = Duration::from_secs(5);
/// Default of [`SocketOptions::keep_alive`].
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// What is set on every connection. For each figure 0 leaves it to the system.
///
/// The buffers are set on purpose. Left to itself Linux lets the buffer of a connection grow to several megabytes, so that
/// ten thousand clients that read nothing hold gigabytes of what an edge believes to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// Connections that the kernel may hold that were not accepted yet: a storm of reconnects fits.
    pub backlog: u32,
    /// How long a peer may be silent before it is asked for a sign of life (TCP keep-alive, RFC 9293 section 3.8.4).
    pub keep_alive: Duration,
    /// How long what was sent may stay without an acknowledgement (TCP_USER_TIMEOUT, RFC 5482). Linux only.
    ///
    /// A link, a client's connection and a backend's are watched by their drivers: a peer that acknowledges and has no room is waited for.
    /// While it has none it is asked less and less often, at last every two minutes; one that goes away then is given up when two
    /// questions in a row had no answer.
    ///
    /// Of an edge's clients Linux itself gives one up that has no room for that long, and a silent one, however many probes are left: it
    /// looks at every probe but the first, and counts from the last byte that came. Up to `keep_alive` and one pause a single lost probe
    /// ends a connection that is in order.
    pub user_timeout: Duration,
    /// Bytes that the kernel may hold for the peer (SO_SNDBUF).
    pub send_buffer_bytes: u32,
    /// Bytes of the peer's that the kernel may hold for us (SO_RCVBUF).
    pub receive_buffer_bytes: u32,
    /// Bytes not yet on the wire beyond which a socket takes no more (TCP_NOTSENT_LOWAT): the rest waits where it is
    /// counted, and is fresh when it is sent. Linux only.
    pub unsent_bytes: u32,
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
        }
    }
}

impl SocketOptions {
    /// Those of the one stream that carries everybody: its buffers are left to the system, which measures the path.
    #[must_use]
    pub fn of_link() -> Self {
        SocketOptions {
            send_buffer_bytes: 0,
            receive_buffer_bytes: 0,
            unsent_bytes: 0,
            ..SocketOptions::default()
        }
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

    /// Listens at `address` with so many sockets: [`bind`](Self::bind), then [`BoundAddress::listen`].
    ///
    /// # Errors
    /// Those of the two.
    pub fn listen_shared(
        &self,
        address: SocketAddr,
        listeners: usize,
    ) -> io::Result<Vec<TcpListener>> {
        self.bind(address)?.listen(listeners)
    }

    /// Makes sure of an address without listening at it: whoever connects meanwhile is refused by the system.
    ///
    /// # Errors
    /// Those of [`listen`](Self::listen), an address at which another process listens included, though it may share it.
    pub fn bind(&self, address: SocketAddr) -> io::Result<BoundAddress> {
        let socket = self.socket(address)?;
        socket.bind(&address.into())?;
        Ok(BoundAddress {
            socket,
            options: *self,
        })
    }

    fn socket(&self, address: SocketAddr) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        // So that a restart need not wait for connections of the last run that linger in TIME_WAIT.
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

    /// Sets the options on a socket, and that it sends at once (TCP_NODELAY): packets are collected before they are
    /// written, so Nagle's algorithm could only delay them.
    ///
    /// # Errors
    /// Those of the system; on a socket that is dead already, for one.
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

    /// Sets the options on a connection that was just opened, unless it leads to itself: then it is reset.
    ///
    /// TCP lets two ends open a connection towards each other. An attempt at a port of the ephemeral range of this machine, at which
    /// nobody listens, may be given that very port as its own. It is both ends then: it reads what it writes, and keeps the port from
    /// whoever is to listen there.
    ///
    /// # Errors
    /// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) when it leads to itself; else those of [`apply`](Self::apply).
    pub fn apply_to_connected(&self, socket: &SockRef<'_>) -> io::Result<()> {
        if socket.local_addr()?.as_socket() == socket.peer_addr()?.as_socket() {
            // In order it would keep the port in TIME_WAIT.
            socket.set_linger(Some(Duration::ZERO))?;
            return Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "the connection led to itself: nobody listens at that port",
            ));
        }
        self.apply(socket)
    }

    /// Has the system wait for an acknowledgement for as long as it likes, and says how long it was to wait; `None` when it was not told.
    #[cfg(target_os = "linux")]
    pub fn take_user_timeout(socket: &SockRef<'_>) -> Option<Duration> {
        let timeout = socket.tcp_user_timeout().ok()??;
        socket.set_tcp_user_timeout(None).ok()?;
        Some(timeout)
    }

    /// What an accepted connection did not inherit from its listener.
    pub fn apply_to_accepted(&self, socket: &SockRef<'_>) {
        if !cfg!(target_os = "linux") {
            // Fails only on a socket that is dead already, which the first read will say.
            let _ = self.apply(socket);
        }
    }
}

/// An address that is this process's own, and at which nobody listens yet.
#[derive(Debug)]
pub struct BoundAddress {
    socket: Socket,
    options: SocketOptions,
}

impl BoundAddress {
    /// The address, with the port that the system chose if it was 0.
    ///
    /// # Errors
    /// Those of `getsockname`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let address = self.socket.local_addr()?;
        let address = address.as_socket();
        address.ok_or_else(|| io::Error::other("the socket has no IP address"))
    }

    /// Listens with so many sockets, at least one, between which the system shares the connections: one for each thread that accepts.
    /// On Linux they are sockets of their own (SO_REUSEPORT), between which it shares evenly; elsewhere they are one socket, and
    /// who comes first takes the connection.
    ///
    /// # Errors
    /// Those of the system; the address is in use by another process that was bound to it as well and was faster.
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

/// A descriptor held back for the moment at which there is none left.
///
/// Connections that cannot be accepted would stay in the backlog, and the listener ready: their clients would wait for
/// nothing. With one descriptor to spare each of them is accepted and closed.
#[derive(Debug)]
pub struct SpareDescriptor(Option<File>);

/// Connections turned away in one call.
const SHED_AT_ONCE: usize = 64;

impl SpareDescriptor {
    /// Holds a descriptor back.
    #[must_use]
    pub fn new() -> Self {
        SpareDescriptor(any_file())
    }

    /// Accepts and closes what waits at `listener`, which must not block.
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

/// Something that takes a descriptor and nothing else.
fn any_file() -> Option<File> {
    File::open("/dev/null").ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::TcpStream;

    use super::*;

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
        // Linux says twice what was set: the other half is for its own bookkeeping.
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
        // Without SO_REUSEADDR a connection in TIME_WAIT would be in the way.
        let next = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        next.bind(&address).unwrap();
    }

    #[test]
    fn shared_listeners_share_the_connections_and_the_address_with_nobody_else() {
        let options = SocketOptions::default();
        let shared = options
            .listen_shared(([127, 0, 0, 1], 0).into(), 2)
            .unwrap();
        let address = shared[0].local_addr().unwrap();
        assert_eq!(shared[1].local_addr().unwrap(), address);
        // Each connection goes to one of two at random: 64 go to one only once in 2^63.
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
            let taken = options.listen_shared(address, listeners).unwrap_err();
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
