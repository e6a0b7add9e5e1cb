//! Listens at every address of a name.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};

use crate::{BoundAddress, SocketOptions};

/// The maximum number of a name's addresses to listen at. Further ones are left out.
pub const MAX_LISTENERS: usize = 8;
/// The maximum number of ports tried when the system chooses one, which must be free at every address.
const PORT_TRIES: usize = 16;

/// The bound addresses of a name. Each belongs to this process, and nobody listens there yet.
#[derive(Debug, Default)]
pub struct BoundAddresses {
    bound: Vec<BoundAddress>,
    left_out: Vec<(SocketAddr, io::Error)>,
    /// Whether errors name their address.
    is_name: bool,
}

impl SocketOptions {
    /// Binds each of `addresses`, which belong to one name, as [`bind`](Self::bind) does for one.
    ///
    /// An address that the machine does not have is left out, such as the IPv6 address of `localhost` without IPv6. If the port is 0, the
    /// system chooses one that is free at all of them.
    ///
    /// # Errors
    /// Those of `bind` at any address that the machine has: clients that find that address would not find this process. That of the first
    /// address if the machine has none of them; [`NotFound`](ErrorKind::NotFound) if there are none.
    pub fn bind_all(
        &self,
        addresses: impl IntoIterator<Item = SocketAddr>,
    ) -> io::Result<BoundAddresses> {
        let mut distinct: Vec<SocketAddr> = Vec::new();
        for address in addresses {
            if !distinct.contains(&address) {
                distinct.push(address);
            }
        }
        let is_chosen = distinct.iter().any(|address| address.port() == 0);
        let mut tries = 1;
        loop {
            match self.bind_each(&distinct) {
                Err(error)
                    if is_chosen && error.kind() == ErrorKind::AddrInUse && tries < PORT_TRIES =>
                {
                    tries += 1;
                }
                outcome => return outcome,
            }
        }
    }

    fn bind_each(&self, addresses: &[SocketAddr]) -> io::Result<BoundAddresses> {
        let mut all = BoundAddresses {
            is_name: addresses.len() > 1,
            ..BoundAddresses::default()
        };
        for &address in addresses.iter().take(MAX_LISTENERS) {
            let mut address = address;
            if address.port() == 0
                && let Some(first) = all.bound.first()
            {
                address.set_port(first.local_addr()?.port());
            }
            match self.bind(address) {
                Ok(bound) => all.bound.push(bound),
                Err(error) if is_not_of_this_machine(&error) => all.left_out.push((address, error)),
                Err(error) => return Err(all.named(address, error)),
            }
        }
        for &address in addresses.iter().skip(MAX_LISTENERS) {
            let too_many = format!("it is beyond the first {MAX_LISTENERS} addresses of the name");
            all.left_out.push((address, io::Error::other(too_many)));
        }
        if all.bound.is_empty() {
            let none = || io::Error::new(ErrorKind::NotFound, "the name has no address");
            let first = all.left_out.into_iter().next();
            return Err(first.map_or_else(none, |(_, error)| error));
        }
        Ok(all)
    }
}

impl BoundAddresses {
    /// Returns the number of addresses, at least one.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.bound.len()
    }

    /// Returns the addresses that were left out, and why.
    #[must_use]
    pub fn left_out(&self) -> &[(SocketAddr, io::Error)] {
        &self.left_out
    }

    /// Listens at each address with `threads` sockets, like [`BoundAddress::listen`]. Returns, for each thread, a socket at each address.
    ///
    /// # Errors
    /// Those of `BoundAddress::listen` at any of the addresses.
    pub fn listen(mut self, threads: usize) -> io::Result<Vec<Vec<TcpListener>>> {
        let mut for_threads: Vec<Vec<_>> = (0..threads.max(1)).map(|_| Vec::new()).collect();
        for bound in std::mem::take(&mut self.bound) {
            let address = bound.local_addr()?;
            let listeners = bound.listen(threads);
            let listeners = listeners.map_err(|error| self.named(address, error))?;
            for (own, listener) in for_threads.iter_mut().zip(listeners) {
                own.push(listener);
            }
        }
        Ok(for_threads)
    }

    fn named(&self, address: SocketAddr, error: io::Error) -> io::Error {
        if self.is_name {
            io::Error::new(error.kind(), format!("{address}: {error}"))
        } else {
            error
        }
    }
}

fn is_not_of_this_machine(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable || is_unknown_family(error)
}

/// Returns whether the system does not support the address family. There is no `ErrorKind` for that.
#[cfg(unix)]
fn is_unknown_family(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

#[cfg(not(unix))]
fn is_unknown_family(_: &io::Error) -> bool {
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::TcpStream;

    use super::*;

    /// Returns loopback addresses, 127.0.0.1 and up.
    fn loopback(count: u8, port: u16) -> Vec<SocketAddr> {
        let address = |last| SocketAddr::from(([127, 0, 0, last], port));
        (1..=count).map(address).collect()
    }

    fn bind(addresses: Vec<SocketAddr>) -> io::Result<BoundAddresses> {
        SocketOptions::default().bind_all(addresses)
    }

    #[test]
    fn every_address_is_listened_at_with_one_port_by_every_thread() {
        let mut addresses = loopback(3, 0);
        addresses.extend(loopback(2, 0));
        let bound = bind(addresses).unwrap();
        assert_eq!((bound.len(), bound.left_out().len()), (3, 0), "each once");
        let threads = bound.listen(2).unwrap();
        let places = |own: &Vec<TcpListener>| -> Vec<_> {
            let places = own.iter().map(|listener| listener.local_addr().unwrap());
            places.collect()
        };
        let port = places(&threads[0])[0].port();
        assert_ne!(port, 0);
        assert_eq!(threads.len(), 2);
        for own in &threads {
            assert_eq!(places(own), loopback(3, port));
        }
        for place in loopback(3, port) {
            TcpStream::connect(place).unwrap();
        }
    }

    #[test]
    fn addresses_beyond_the_bound_are_left_out() {
        let most = u8::try_from(MAX_LISTENERS).unwrap();
        let bound = bind(loopback(most, 0)).unwrap();
        assert_eq!((bound.len(), bound.left_out().len()), (MAX_LISTENERS, 0));
        let bound = bind(loopback(most + 1, 0)).unwrap();
        assert_eq!((bound.len(), bound.left_out().len()), (MAX_LISTENERS, 1));
        let (address, why) = &bound.left_out()[0];
        assert_eq!(*address, loopback(most + 1, 0)[MAX_LISTENERS]);
        assert!(why.to_string().contains("first 8 addresses"), "{why}");
    }

    /// 192.0.2.0/24 is for documentation (RFC 5737), so no machine has it.
    #[test]
    fn an_address_of_another_machine_is_left_out_unless_there_is_no_other() {
        let foreign = SocketAddr::from(([192, 0, 2, 1], 0));
        let bound = bind(vec![foreign, loopback(1, 0)[0]]).unwrap();
        assert_eq!(bound.len(), 1);
        let (address, why) = &bound.left_out()[0];
        assert_eq!(*address, foreign);
        assert_eq!(why.kind(), ErrorKind::AddrNotAvailable);
        let none = bind(vec![foreign]).unwrap_err();
        assert_eq!(none.kind(), ErrorKind::AddrNotAvailable);
        assert_eq!(bind(Vec::new()).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn an_address_at_which_somebody_else_listens_is_named() {
        let taken = TcpListener::bind(("127.0.0.2", 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = bind(loopback(2, port)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let says = format!("127.0.0.2:{port}: Address already in use");
        assert!(error.to_string().starts_with(&says), "{error}");
        // Another process is faster between the two steps.
        let bound = bind(loopback(3, 0)).unwrap();
        let port = bound.bound[0].local_addr().unwrap().port();
        let _faster = SocketOptions::default()
            .listen(loopback(3, port)[2])
            .unwrap();
        let error = bound.listen(1).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with(&format!("127.0.0.3:{port}: "))
        );
        TcpStream::connect(loopback(1, port)[0]).expect_err("all or none");
    }
}
