//! The address of the person behind proxies (SPEC 16.2(f)).

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// The header that the proxies in front write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Forwarded {
    /// None. Such headers are ignored.
    #[default]
    Off,
    /// X-Forwarded-For: addresses separated by commas.
    XForwardedFor,
    /// Forwarded (RFC 7239).
    Forwarded,
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a caller has to handle each one")]
pub enum Traced {
    /// From the peer itself.
    Peer,
    /// From this address.
    Address(IpAddr),
    /// A trusted proxy wrote what is not an address. The peer's own counts.
    Malformed,
}

impl Forwarded {
    /// Returns the name of the header.
    #[must_use]
    pub fn header(self) -> Option<&'static str> {
        match self {
            Forwarded::Off => None,
            Forwarded::XForwardedFor => Some("x-forwarded-for"),
            Forwarded::Forwarded => Some("forwarded"),
        }
    }

    /// Returns whether requests from `peer` tell where they come from, if these networks are trusted.
    #[must_use]
    pub fn trusts(self, peer: IpAddr, trusted: &[IpNet]) -> bool {
        self != Forwarded::Off && crate::is_among(trusted, peer)
    }

    /// Follows the values of the header, which are in the order of the request, from `peer` back to the first address that is not trusted.
    pub fn trace<'a>(
        self,
        peer: IpAddr,
        trusted: &[IpNet],
        values: impl DoubleEndedIterator<Item = &'a [u8]>,
    ) -> Traced {
        if !self.trusts(peer, trusted) {
            return Traced::Peer;
        }
        let mut traced = Traced::Peer;
        for value in values.rev() {
            let hops = match self {
                Forwarded::Forwarded => elements(value),
                _ => value.split(|&byte| byte == b',').map(address).collect(),
            };
            for hop in hops.into_iter().rev() {
                let Some(hop) = hop else {
                    return Traced::Malformed;
                };
                traced = Traced::Address(hop);
                if !crate::is_among(trusted, hop) {
                    return traced;
                }
            }
        }
        traced
    }
}

/// Reads an address, perhaps with a port, perhaps in brackets.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text.trim_ascii()).ok()?;
    let ip = match text.parse::<IpAddr>() {
        Ok(ip) => ip,
        Err(_) => match text.parse::<SocketAddr>() {
            Ok(socket) => socket.ip(),
            Err(_) => text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()?,
        },
    };
    Some(ip.to_canonical())
}

/// Reads the elements of a Forwarded header. An element is `None` if its `for` is not an address, or not there exactly once.
fn elements(value: &[u8]) -> Vec<Option<IpAddr>> {
    split(value, b',')
        .into_iter()
        .map(|element| {
            let element = element?;
            let mut found = None;
            for pair in split(element, b';') {
                let pair = pair?;
                let at = pair.iter().position(|&byte| byte == b'=')?;
                let (name, node) = (pair[..at].trim_ascii(), pair[at + 1..].trim_ascii());
                if !name.eq_ignore_ascii_case(b"for") {
                    continue;
                }
                if found.is_some() {
                    return None;
                }
                // Addresses have no quotes or backslashes inside.
                let inner = node
                    .strip_prefix(b"\"")
                    .and_then(|rest| rest.strip_suffix(b"\""));
                found = Some(address(inner.unwrap_or(node))?);
            }
            found
        })
        .collect()
}

/// Splits at `separator`, but not within quotes. The last piece is `None` if a quote is open at its end.
fn split(text: &[u8], separator: u8) -> Vec<Option<&[u8]>> {
    let (mut pieces, mut begin) = (Vec::new(), 0);
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, &byte) in text.iter().enumerate() {
        if is_quoted {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => is_quoted = false,
                _ => {}
            }
        } else if byte == b'"' {
            is_quoted = true;
        } else if byte == separator {
            pieces.push(Some(&text[begin..at]));
            begin = at + 1;
        }
    }
    pieces.push((!is_quoted).then_some(&text[begin..]));
    pieces
}
