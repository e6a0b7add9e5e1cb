//! The addresses at which this process listens itself. A link that leads to one of them has no backend.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use voltlane_core::link::OwnAddresses;

use crate::Stream;

/// Returns the stream, unless this process is at its other end. It is then reset, since an edge would take its own clients' protocol for a
/// backend's.
///
/// # Errors
/// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused), with the address at which this process listens.
pub(crate) fn refuse_own<S: Stream>(own: &OwnAddresses, stream: S) -> io::Result<S> {
    let ends = stream.ends();
    let Some(own) = ends.and_then(|ends| own.reached_by(ends.local, ends.peer, is_of_this_host))
    else {
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

/// Returns whether an address is one of this host, as far as the system tells.
fn is_of_this_host(address: SocketAddr) -> bool {
    #[cfg(target_os = "linux")]
    {
        // A bind proves nothing where processes may bind the addresses of others.
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

    #[test]
    fn the_system_knows_its_addresses() {
        let read = |text: &str| text.parse().expect("an address");
        assert!(is_of_this_host(read("127.0.0.1:1")));
        // For documentation (RFC 5737), so no machine has it.
        assert!(!is_of_this_host(read("192.0.2.1:1")));
    }
}
