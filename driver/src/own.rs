//! The addresses at which this process listens itself. A link that leads to one of them has no backend.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use crate::{Ends, Stream};

/// The addresses at which this process listens, and where no backend can be.
#[derive(Debug, Default)]
pub(crate) struct OwnAddresses(Vec<SocketAddr>);

impl OwnAddresses {
    pub(crate) fn extend(&mut self, addresses: impl IntoIterator<Item = SocketAddr>) {
        self.0.extend(addresses);
    }

    /// Returns the stream, unless this process is at its other end. It is then reset, since an edge would take its own clients' protocol
    /// for a backend's.
    ///
    /// # Errors
    /// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused), with the address at which this process listens.
    pub(crate) fn refuse<S: Stream>(&self, stream: S) -> io::Result<S> {
        let ends = stream.ends();
        let Some(own) = ends.and_then(|ends| self.reached_by(ends, is_of_this_host)) else {
            return Ok(stream);
        };
        stream.abort();
        Err(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            format!(
                "the connection led to this process itself, which listens at {own}: that is no backend"
            ),
        ))
    }

    /// Returns the address of a listener that a connection with these `ends` reached.
    ///
    /// The system gives a connection within a host the same address at both ends, unless the peer's is a loopback address or a second one
    /// of an interface. `is_ours` tells about the latter.
    fn reached_by(&self, ends: Ends, is_ours: impl Fn(SocketAddr) -> bool) -> Option<SocketAddr> {
        let [local, peer] = [ends.local, ends.peer].map(|end| end.ip().to_canonical());
        let listens = |own: &&SocketAddr| {
            let is_there = match own.ip().to_canonical() {
                // A listener at `[::]` takes IPv4 clients, too.
                IpAddr::V6(at) if at.is_unspecified() => true,
                IpAddr::V4(at) if at.is_unspecified() => peer.is_ipv4(),
                at => at == peer,
            };
            is_there && own.port() == ends.peer.port()
        };
        let own = *self.0.iter().find(listens)?;
        (local == peer || peer.is_loopback() || is_ours(ends.peer)).then_some(own)
    }
}

/// Returns whether an address is one of this host, as far as the system tells.
fn is_of_this_host(address: SocketAddr) -> bool {
    #[cfg(target_os = "linux")]
    {
        // Where processes may bind the addresses of others, a bind tells nothing.
        let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
        let setting = std::fs::read(format!("/proc/sys/net/{family}/ip_nonlocal_bind"));
        if !setting.is_ok_and(|setting| setting.trim_ascii() == b"0") {
            return false;
        }
    }
    let mut any_port = address;
    any_port.set_port(0);
    UdpSocket::bind(any_port).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(own: &str, local: &str, peer: &str, is_ours: bool) -> bool {
        let read = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let mut addresses = OwnAddresses::default();
        addresses.extend([read("192.0.2.77:9"), read(own)]);
        let (local, peer) = (read(local), read(peer));
        let found = addresses.reached_by(Ends { local, peer }, |_| is_ours);
        assert!(found.is_none_or(|found| found == read(own)));
        found.is_some()
    }

    #[test]
    fn a_listener_of_this_process_is_found_by_any_address_of_the_host() {
        for (own, local, peer) in [
            // An address of an interface.
            ("192.0.2.1:5000", "192.0.2.1:40000", "192.0.2.1:5000"),
            ("0.0.0.0:5000", "192.0.2.1:40000", "192.0.2.1:5000"),
            ("[::]:5000", "192.0.2.1:40000", "192.0.2.1:5000"),
            ("[::]:5000", "[2001:db8::1]:40000", "[2001:db8::1]:5000"),
            (
                "0.0.0.0:5000",
                "[::ffff:192.0.2.1]:40000",
                "[::ffff:192.0.2.1]:5000",
            ),
            // Debian gives the name of a host this address, and the system connects to it from another one.
            ("0.0.0.0:5000", "127.0.0.1:40000", "127.0.1.1:5000"),
        ] {
            assert!(reached(own, local, peer, false), "{own} by {peer}");
        }
        // The second address of an interface is reached from its first.
        let second =
            |is_ours| reached("0.0.0.0:5000", "192.0.2.1:40000", "192.0.2.2:5000", is_ours);
        assert!(second(true));
        assert!(
            !second(false),
            "a backend at another host, with the edge's port"
        );
    }

    #[test]
    fn other_places_are_left_alone() {
        for (own, local, peer) in [
            ("192.0.2.1:5000", "192.0.2.1:40000", "192.0.2.1:5001"),
            ("127.0.0.2:5000", "127.0.0.1:40000", "127.0.0.1:5000"),
            ("192.0.2.1:5000", "192.0.2.2:40000", "192.0.2.2:5000"),
            ("0.0.0.0:5000", "[::1]:40000", "[::1]:5000"),
        ] {
            assert!(!reached(own, local, peer, true), "{own} by {peer}");
        }
    }

    #[test]
    fn the_system_knows_its_addresses() {
        let read = |text: &str| text.parse().expect("an address");
        assert!(is_of_this_host(read("127.0.0.1:1")));
        // For documentation (RFC 5737), so no machine has it.
        assert!(!is_of_this_host(read("192.0.2.1:1")));
    }
}
