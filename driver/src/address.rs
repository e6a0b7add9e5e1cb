//! `host:port`, and the addresses that it may stand for.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

/// What `host:port` says. The last colon splits, so `::1:42000` is good as well as `[::1]:42000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPort<'a> {
    /// An address, which needs no resolver.
    Address(SocketAddr),
    /// A host that a resolver may know, and the port.
    Name(&'a str, u16),
}

impl<'a> HostPort<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput), and what would be right, when it is of another form.
    pub fn parse(text: &'a str) -> io::Result<Self> {
        if let Ok(address) = text.parse() {
            return Ok(HostPort::Address(address));
        }
        let split = text.rsplit_once(':');
        split
            .and_then(|(host, port)| Some(HostPort::Name(host, port.parse().ok()?)))
            .ok_or_else(|| {
                let says = format!("`{text}` is not of the form host:port");
                io::Error::new(io::ErrorKind::InvalidInput, says)
            })
    }
}

/// The first success of an attempt with the addresses of `text`, each in its turn.
///
/// # Errors
/// What the last address tried did; [`NotFound`](io::ErrorKind::NotFound) when there is none.
pub async fn first_of<T, F: Future<Output = io::Result<T>>>(
    text: &str,
    addresses: Vec<SocketAddr>,
    mut attempt: impl FnMut(SocketAddr) -> F,
) -> io::Result<T> {
    let mut failed = None;
    for address in addresses {
        match attempt(address).await {
            Ok(done) => return Ok(done),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("`{text}` has no address"))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_colon_splits() {
        let name = |host, port| Ok::<_, io::ErrorKind>(HostPort::Name(host, port));
        let read = |text| HostPort::parse(text).map_err(|error| error.kind());
        assert_eq!(read("edge.test:42000"), name("edge.test", 42_000));
        assert_eq!(read("::1:42000"), name("::1", 42_000));
        let address = "[::1]:42000".parse().expect("an address");
        assert_eq!(read("[::1]:42000"), Ok(HostPort::Address(address)));
        for wrong in ["no port", "127.0.0.1:", "127.0.0.1:65536", ""] {
            assert_eq!(read(wrong), Err(io::ErrorKind::InvalidInput), "{wrong}");
        }
    }
}
