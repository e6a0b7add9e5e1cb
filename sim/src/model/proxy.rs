//! The PROXY header in front of a connection, as SPEC 10.7 and the protocol's own document describe it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Model;
use super::conn::{Manner, State};

/// The longest line of version 1, and the longest part of version 2 after its fixed bytes.
const LINE_BYTES: usize = 107;
const REST_BYTES: usize = 512;
/// The signature of version 2.
pub const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The number of bytes before the addresses in version 2.
const PREFIX_BYTES: usize = 16;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The possible beginning of a header.
    Unfinished,
    /// Not the beginning of any header.
    Bad,
    /// A header of this length. It names an address, or none: then the proxy's applies.
    Whole(usize, Option<IpAddr>),
}

/// Parses the first bytes of a connection, from the beginning each time, as the bytes are few.
#[must_use]
pub fn read(bytes: &[u8]) -> Header {
    if bytes.starts_with(b"PROXY ") {
        return line(bytes);
    }
    if bytes.starts_with(BINARY) {
        return binary(bytes);
    }
    match b"PROXY ".starts_with(bytes) || BINARY.starts_with(bytes) {
        true => Header::Unfinished,
        false => Header::Bad,
    }
}

fn line(bytes: &[u8]) -> Header {
    let most = &bytes[..bytes.len().min(LINE_BYTES)];
    let Some(end) = most.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return match bytes.len() < LINE_BYTES {
            true => Header::Unfinished,
            false => Header::Bad,
        };
    };
    match most.get(end + 1) {
        None if most[end] == b'\r' && end + 1 < LINE_BYTES => return Header::Unfinished,
        Some(b'\n') if most[end] == b'\r' => {}
        _ => return Header::Bad,
    }
    let Ok(text) = std::str::from_utf8(&most[..end]) else {
        // Everything after UNKNOWN is skipped.
        return match most.starts_with(b"PROXY UNKNOWN ") {
            true => Header::Whole(end + 2, None),
            false => Header::Bad,
        };
    };
    let fields: Vec<&str> = text.split(' ').collect();
    let number = |text: &str| {
        text.parse::<u16>()
            .is_ok_and(|port| port.to_string() == text)
    };
    match fields[1..] {
        ["UNKNOWN", ..] => Header::Whole(end + 2, None),
        [family, from, to, port, to_port] if number(port) && number(to_port) => {
            let address = |text: &str| match family {
                "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
                "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
                _ => None,
            };
            match (address(from), address(to)) {
                (Some(from), Some(_)) => Header::Whole(end + 2, Some(from)),
                _ => Header::Bad,
            }
        }
        _ => Header::Bad,
    }
}

fn binary(bytes: &[u8]) -> Header {
    let local = match bytes.get(12) {
        None => return Header::Unfinished,
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Header::Bad,
    };
    let addresses = match bytes.get(13) {
        None => return Header::Unfinished,
        Some(_) if local => 0,
        Some(0x00) => 0,
        Some(0x11) => 12,
        Some(0x21) => 36,
        Some(0x31) => 216,
        Some(_) => return Header::Bad,
    };
    let Some(length) = bytes.get(14..PREFIX_BYTES) else {
        return Header::Unfinished;
    };
    let rest = usize::from(length[0]) * 256 + usize::from(length[1]);
    if rest > REST_BYTES || rest < addresses {
        return Header::Bad;
    }
    let Some(rest) = bytes.get(PREFIX_BYTES..PREFIX_BYTES + rest) else {
        return Header::Unfinished;
    };
    let address = match addresses {
        12 => rest.first_chunk::<4>().map(|part| IpAddr::from(*part)),
        36 => rest.first_chunk::<16>().map(|part| IpAddr::from(*part)),
        _ => None,
    };
    Header::Whole(PREFIX_BYTES + rest.len(), address)
}

impl Model {
    /// Handles bytes of a connection that awaits its header. Bytes behind the header count as the client's own.
    pub(super) fn read_proxy_header(&mut self, conn: u32) {
        let Some(state) = self
            .conns
            .get_mut(&conn)
            .filter(|state| state.state == State::Proxy)
        else {
            return;
        };
        match read(state.frames.rest()) {
            Header::Unfinished => {}
            Header::Bad => {
                self.reach.bad_header += 1;
                self.close(conn, "no PROXY header", Manner::Either);
            }
            Header::Whole(bytes, source) => {
                self.reach.proxied += 1;
                state.frames.skip(bytes);
                state.taken = state.frames.held();
                state.state = State::Version;
                let address = source.unwrap_or(state.address);
                if let Err(why) = self.admit_named(conn, address) {
                    self.reach.refused_by_header += 1;
                    self.close(conn, why, Manner::Either);
                }
            }
        }
    }
}
