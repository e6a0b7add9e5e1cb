//! Whether a link leads to this process itself (SPEC 7.6(h)).

use core::net::{IpAddr, SocketAddr};

/// The addresses at which this process listens, and where no backend can be.
#[derive(Clone, Debug, Default)]
pub struct OwnAddresses(Vec<SocketAddr>);

impl OwnAddresses {
    /// Adds addresses.
    pub fn extend(&mut self, addresses: impl IntoIterator<Item = SocketAddr>) {
        self.0.extend(addresses);
    }

    /// Returns the address of a listener that a connection from `local` to `peer` reached. Such a connection must be closed abruptly, and
    /// counts as an attempt that failed.
    ///
    /// The system gives a connection within a host the same address at both ends, unless the peer's is a loopback address or a second one
    /// of an interface. `is_ours` tells whether an address is one of this host, and is asked in the latter case only.
    #[must_use]
    pub fn reached_by(
        &self,
        local: SocketAddr,
        peer: SocketAddr,
        is_ours: impl FnOnce(SocketAddr) -> bool,
    ) -> Option<SocketAddr> {
        let (to, local) = (peer, local.ip().to_canonical());
        let peer = to.ip().to_canonical();
        let listens = |own: &&SocketAddr| {
            let is_there = match own.ip().to_canonical() {
                // A listener at `[::]` takes IPv4 clients, too.
                IpAddr::V6(at) if at.is_unspecified() => true,
                IpAddr::V4(at) if at.is_unspecified() => peer.is_ipv4(),
                at => at == peer,
            };
            is_there && own.port() == to.port()
        };
        let own = *self.0.iter().find(listens)?;
        (local == peer || peer.is_loopback() || is_ours(to)).then_some(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(own: &str, local: &str, peer: &str, is_ours: bool) -> bool {
        let read = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let mut addresses = OwnAddresses::default();
        addresses.extend([read("192.0.2.77:9"), read(own)]);
        let (local, peer) = (read(local), read(peer));
        let found = addresses.reached_by(local, peer, |_| is_ours);
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
}
