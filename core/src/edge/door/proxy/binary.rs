//! Version 2: a binary header (proxy-protocol.txt 2.2). Of its extensions those about TLS are read by [`super::tls`].

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{BINARY_PREFIX_BYTES, MAX_BINARY_REST_BYTES, Progress, ProxyError, ProxySource};

pub(super) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

const VERSION: u8 = 2;
const LOCAL: u8 = 0;
const PROXY: u8 = 1;

/// The length of two addresses and two ports.
const INET_BYTES: u16 = 12;
const INET6_BYTES: u16 = 36;
/// The length of two paths.
const UNIX_BYTES: u16 = 216;

/// Parses `held`, the header from its signature on. Only its last byte is new.
pub(super) fn read(held: &[u8]) -> Result<Progress, ProxyError> {
    let is_proxied = match held.get(12) {
        Some(byte) if byte >> 4 != VERSION => {
            return Err(ProxyError::UnknownVersion { version: byte >> 4 });
        }
        Some(byte) if byte & 0xf > PROXY => {
            return Err(ProxyError::UnknownCommand {
                command: byte & 0xf,
            });
        }
        Some(byte) => byte & 0xf != LOCAL,
        None => return Ok(Progress::More),
    };
    let Some(&family) = held.get(13) else {
        return Ok(Progress::More);
    };
    // With LOCAL everything else must be ignored, including the family.
    let needed = if is_proxied {
        address_bytes(family)?
    } else {
        0
    };
    let Some((prefix, addresses)) = held.split_first_chunk::<BINARY_PREFIX_BYTES>() else {
        return Ok(Progress::More);
    };
    let [.., high, low] = *prefix;
    let length = u16::from_be_bytes([high, low]);
    if length > MAX_BINARY_REST_BYTES {
        return Err(ProxyError::TooLong { length });
    }
    if length < needed {
        return Err(ProxyError::TooShort { length, needed });
    }
    let source = match (is_proxied, family) {
        (true, 0x11) => inet(addresses),
        (true, 0x21) => inet6(addresses),
        _ => Some(ProxySource::Local),
    };
    Ok(match source {
        Some(source) => Progress::Done {
            source,
            rest: usize::from(length).saturating_sub(addresses.len()),
        },
        None => Progress::More,
    })
}

/// Appends a header without extensions.
pub(super) fn write(source: ProxySource, out: &mut Vec<u8>) {
    let of = |command: u8| VERSION << 4 | command;
    out.extend_from_slice(&SIGNATURE);
    let ProxySource::Address(source) = source else {
        return out.extend_from_slice(&[of(LOCAL), 0, 0, 0]);
    };
    let (family, length) = match source {
        SocketAddr::V4(_) => (0x11, INET_BYTES),
        SocketAddr::V6(_) => (0x21, INET6_BYTES),
    };
    out.extend_from_slice(&[of(PROXY), family]);
    out.extend_from_slice(&length.to_be_bytes());
    match source.ip() {
        IpAddr::V4(ip) => out.extend([ip.octets(), [0; 4]].into_iter().flatten()),
        IpAddr::V6(ip) => out.extend([ip.octets(), [0; 16]].into_iter().flatten()),
    }
    out.extend(source.port().to_be_bytes());
    out.extend([0; 2]);
}

/// Returns the length of the addresses of a family and transport.
fn address_bytes(family: u8) -> Result<u16, ProxyError> {
    match family {
        0x00 => Ok(0),
        0x11 => Ok(INET_BYTES),
        0x21 => Ok(INET6_BYTES),
        0x31 => Ok(UNIX_BYTES),
        0x12 | 0x22 | 0x32 => Err(ProxyError::Datagram { family }),
        _ => Err(ProxyError::UnknownFamily { family }),
    }
}

/// Returns the source address of an IPv4 connection, once all address bytes have arrived.
fn inet(addresses: &[u8]) -> Option<ProxySource> {
    let &[a, b, c, d, _, _, _, _, high, low, _, _] = addresses.first_chunk()?;
    let port = u16::from_be_bytes([high, low]);
    Some(ProxySource::Address(SocketAddr::new(
        IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        port,
    )))
}

/// Returns the source address of an IPv6 connection, once all address bytes have arrived.
fn inet6(addresses: &[u8]) -> Option<ProxySource> {
    let all: &[u8; INET6_BYTES as usize] = addresses.first_chunk()?;
    let (source, rest) = all.split_first_chunk::<16>()?;
    let &[high, low, _, _] = rest.last_chunk()?;
    Some(ProxySource::Address(SocketAddr::new(
        IpAddr::V6(Ipv6Addr::from(*source)),
        u16::from_be_bytes([high, low]),
    )))
}
