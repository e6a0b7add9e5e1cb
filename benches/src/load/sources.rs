//! The sources of connections: loopback addresses in turn, each with ports assigned in order.
//!
//! The kernel's own choice of a port becomes a long search once most of an address's ports are taken or in TIME_WAIT, which a load of
//! connections causes.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::net::TcpStream;
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

const FIRST_PORT: u32 = 1024;
const PORTS: u32 = 65_536 - FIRST_PORT;
/// The first of the addresses, above 127.0.0.1 where everything else is.
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// The first address in a /24 of its own, for sources that share a network and for those that have a /24 each.
const FIRST_OF_NETWORK: Ipv4Addr = Ipv4Addr::new(127, 2, 0, 2);
const FIRST_APART: Ipv4Addr = Ipv4Addr::new(127, 3, 0, 2);
const FIRST_OF_OTHERS_APART: Ipv4Addr = Ipv4Addr::new(127, 4, 0, 2);
/// The address of everything else in an attack over IPv6, for documentation (RFC 3849) and thus in nobody's use.
pub const HOST_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);
/// The /48 of the sources that share a network, over IPv6. Each has a /64 of its own.
const NETWORK_V6: [u16; 3] = [0x2001, 0xdb8, 0xbad];
/// How many ports in a row may be taken by others.
const TRIES: usize = 100;

/// Opens connections from several loopback addresses.
#[derive(Debug)]
pub struct Sources {
    first: Ipv4Addr,
    /// The distance from one address to the next.
    step: u32,
    addresses: u32,
    given: u32,
    receive_buffer: Option<usize>,
}

impl Sources {
    /// Creates sources. One address is 127.0.0.1 with the kernel's choice of port; several are 127.0.0.2 and up.
    pub fn new(addresses: u32) -> Self {
        // Begins at another port than the last run, whose ports are in TIME_WAIT.
        Self {
            first: FIRST_ADDRESS,
            step: 1,
            addresses,
            given: std::process::id().wrapping_mul(977) % (1 << 30),
            receive_buffer: None,
        }
    }

    /// Creates sources other than 127.0.0.1, even for one address.
    pub fn strangers(addresses: u32) -> Self {
        Self::new(addresses.max(2))
    }

    /// Creates at most 254 addresses of one IPv4 /24 that nobody else uses, or of one IPv6 /48 if they connect to an IPv6 address.
    pub fn of_one_network(addresses: u32) -> Self {
        Self {
            first: FIRST_OF_NETWORK,
            ..Self::strangers(addresses.min(254))
        }
    }

    /// Creates at most 256 addresses in an IPv4 /24 each. Two such sources share the networks that both have.
    pub fn apart(addresses: u32) -> Self {
        Self {
            first: FIRST_APART,
            step: 256,
            ..Self::strangers(addresses.min(256))
        }
    }

    /// Like [`Self::apart`], but none of its networks is one of those.
    pub fn others_apart(addresses: u32) -> Self {
        Self {
            first: FIRST_OF_OTHERS_APART,
            ..Self::apart(addresses)
        }
    }

    /// Sets a small receive buffer on each connection, as for clients that read little.
    pub fn with_receive_buffer(self, bytes: usize) -> Self {
        Self {
            receive_buffer: Some(bytes),
            ..self
        }
    }

    /// Begins a connection without waiting for it.
    pub fn connect(&mut self, address: SocketAddr) -> io::Result<TcpStream> {
        let mut taken = io::Error::from(Errno::ADDRINUSE);
        for _ in 0..TRIES {
            match self.attempt(address) {
                Err(error)
                    if matches!(
                        Errno::from_io_error(&error),
                        Some(Errno::ADDRINUSE | Errno::ADDRNOTAVAIL)
                    ) =>
                {
                    taken = error;
                }
                done => return done,
            }
        }
        Err(taken)
    }

    fn attempt(&mut self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if self.addresses > 1 {
            // Allows binding a port in TIME_WAIT.
            socket.set_reuse_address(true)?;
            let next = self.next();
            let next = if address.is_ipv6() { in_v6(next) } else { next };
            socket.bind(&next.into())?;
        }
        match socket.connect(&address.into()) {
            Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => Err(error),
            _ => Ok(TcpStream::from_std(socket.into())),
        }
    }

    fn next(&mut self) -> SocketAddr {
        let nth = self.given;
        self.given = self.given.wrapping_add(1);
        let address = Ipv4Addr::from_bits(self.first.to_bits() + nth % self.addresses * self.step);
        let port = FIRST_PORT + nth / self.addresses % PORTS;
        let port = u16::try_from(port).expect("the ports end at 65,535");
        SocketAddr::from((address, port))
    }
}

/// Returns an address in [`NETWORK_V6`] for one of an IPv4 network, with the same port.
fn in_v6(source: SocketAddr) -> SocketAddr {
    let [a, b, c] = NETWORK_V6;
    let nth = match source {
        SocketAddr::V4(source) => u16::from(source.ip().octets()[3]),
        SocketAddr::V6(_) => 0,
    };
    SocketAddr::from((Ipv6Addr::new(a, b, c, nth, 0, 0, 0, 1), source.port()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_address_is_given_twice_before_all_ports_are() {
        let mut sources = Sources::new(3);
        let given: HashSet<_> = (0..3 * PORTS).map(|_| sources.next()).collect();
        assert_eq!(given.len(), 3 * PORTS as usize);
        assert!(
            given
                .iter()
                .all(|address| address.ip() > Ipv4Addr::LOCALHOST && address.port() >= 1024)
        );
    }
}
