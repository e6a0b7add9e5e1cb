//! Version 1: one line of text (proxy-protocol.txt 2.1).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::str::FromStr;

use super::{MAX_LINE_BYTES, Progress, ProxyError, ProxySource};

pub(super) const SIGNATURE: [u8; 6] = *b"PROXY ";

/// Parses `held`, the line so far. Only its last byte is new.
pub(super) fn read(held: &[u8]) -> Result<Progress, ProxyError> {
    match held {
        [line @ .., b'\r', b'\n'] => Ok(Progress::Done {
            source: parse(line)?,
            rest: 0,
        }),
        [.., b'\n'] | [.., b'\r', _] => Err(ProxyError::BadLineEnd),
        _ if held.len() == MAX_LINE_BYTES => Err(ProxyError::LineTooLong),
        _ => Ok(Progress::More),
    }
}

/// Parses a whole line, without its end.
fn parse(line: &[u8]) -> Result<ProxySource, ProxyError> {
    let line = line.strip_prefix(&SIGNATURE).unwrap_or_default();
    let mut fields = line.split(|&byte| byte == b' ');
    match fields.next() {
        Some(b"TCP4") => addresses::<Ipv4Addr>(fields),
        Some(b"TCP6") => addresses::<Ipv6Addr>(fields),
        // Everything after it must be ignored.
        Some(b"UNKNOWN") => Ok(ProxySource::Local),
        _ => Err(ProxyError::UnknownProtocol),
    }
}

/// Parses source address, destination address, source port and destination port.
fn addresses<'a, A: FromStr + Into<IpAddr>>(
    mut fields: impl Iterator<Item = &'a [u8]>,
) -> Result<ProxySource, ProxyError> {
    let (Some(source), Some(destination), Some(source_port), Some(destination_port), None) = (
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
    ) else {
        return Err(ProxyError::BadFields);
    };
    let source: A = address(source)?;
    address::<A>(destination)?;
    let source_port = port(source_port)?;
    port(destination_port)?;
    Ok(ProxySource::Address(SocketAddr::new(
        source.into(),
        source_port,
    )))
}

/// Parses an address. The standard library accepts what the document allows: four decimal numbers without leading zeros, or groups of up to
/// four hexadecimal digits in either case, with `::` once.
fn address<A: FromStr>(field: &[u8]) -> Result<A, ProxyError> {
    str::from_utf8(field)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(ProxyError::BadAddress)
}

fn port(field: &[u8]) -> Result<u16, ProxyError> {
    let plain = match field {
        [b'0'] => true,
        // A sign, which `parse` would accept, is not a digit from 1 to 9.
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    str::from_utf8(field)
        .ok()
        .filter(|_| plain)
        .and_then(|text| text.parse().ok())
        .ok_or(ProxyError::BadPort)
}
