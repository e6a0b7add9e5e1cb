//! What a proxy that ended TLS tells of it, in extensions of a binary header (proxy-protocol.txt 2.2.1 and 2.2.6).

use core::fmt;

const ALPN: u8 = 0x01;
const AUTHORITY: u8 = 0x02;
const SSL: u8 = 0x20;
const SSL_VERSION: u8 = 0x21;
const SSL_COMMON_NAME: u8 = 0x22;

/// The kind and the length of an extension.
const HEAD_BYTES: usize = 3;
/// The flags and the result in front of the extensions within that of TLS.
const FACTS_BYTES: usize = 5;

/// A text of a proxy, up to [`MAX_BYTES`](Self::MAX_BYTES) of it. Bytes that are not printable ASCII are shown as escapes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ProxyText {
    bytes: [u8; ProxyText::MAX_BYTES],
    length: u8,
}

image!(ProxyText { bytes, length });

impl ProxyText {
    /// As much as a certificate's common name may have (X.520).
    pub const MAX_BYTES: usize = 64;

    /// Returns the bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(usize::from(self.length)) {
            *place = byte;
            self.length += 1;
        }
    }
}

impl Default for ProxyText {
    fn default() -> Self {
        ProxyText {
            bytes: [0; ProxyText::MAX_BYTES],
            length: 0,
        }
    }
}

impl fmt::Display for ProxyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

impl fmt::Debug for ProxyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// What a proxy tells of the TLS between its client and itself. It is the proxy's word, and decides nothing in the edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyTls {
    /// Whether the client came within TLS.
    pub is_tls: bool,
    /// Whether the client has shown a certificate, in this connection or in one before it.
    pub has_certificate: bool,
    /// Whether the proxy has verified that certificate.
    pub is_verified: bool,
    /// The version, such as `TLSv1.3`.
    pub version: ProxyText,
    /// The common name in the client's certificate.
    pub common_name: ProxyText,
    /// The protocol that was agreed on.
    pub alpn: ProxyText,
    /// The name of the server that the client asked for.
    pub authority: ProxyText,
}

image!(ProxyTls {
    is_tls,
    has_certificate,
    is_verified,
    version,
    common_name,
    alpn,
    authority
});

/// Where a reader is.
#[derive(Clone, Copy, Debug)]
enum At {
    /// Within the kind and the length of an extension.
    Head([u8; HEAD_BYTES], usize),
    /// Within the flags and the result of TLS.
    Facts([u8; FACTS_BYTES], usize),
    /// Within the value of an extension of this kind, with so many bytes to come, at least one.
    Value(u8, u16),
    /// Behind something that is not well formed.
    Lost,
}

image!(enum At {
    0 Head { 0: a, 1: b }, 1 Facts { 0: a, 1: b }, 2 Value { 0: a, 1: b }, 3 Lost {},
});

/// Reads extensions byte by byte. It passes over what it does not know, and everything behind what is not well formed.
#[derive(Clone, Debug)]
pub(super) struct Extensions {
    at: At,
    /// The bytes to come of the extension of TLS, while it is within that.
    within: Option<u16>,
    tls: ProxyTls,
}

image!(Extensions { at, within, tls });

impl Default for Extensions {
    fn default() -> Self {
        Extensions {
            at: At::Head([0; HEAD_BYTES], 0),
            within: None,
            tls: ProxyTls::default(),
        }
    }
}

impl Extensions {
    pub(super) fn read(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if let Some(left) = &mut self.within {
                *left = left.saturating_sub(1);
            }
            self.at = self.after(byte);
            if self.within == Some(0) {
                self.within = None;
                // The extension of TLS ends with one of those within it.
                self.at = match self.at {
                    At::Head(_, 0) => self.at,
                    _ => At::Lost,
                };
            }
        }
    }

    pub(super) fn tls(&self) -> &ProxyTls {
        &self.tls
    }

    /// Returns where it is after a byte.
    fn after(&mut self, byte: u8) -> At {
        match self.at {
            At::Head(head, have) => match filled(head, have, byte) {
                (head, HEAD_BYTES) => self.begin(head),
                (head, have) => At::Head(head, have),
            },
            At::Facts(facts, have) => match filled(facts, have, byte) {
                (facts, FACTS_BYTES) => {
                    let [flags, result @ ..] = facts;
                    self.tls.is_tls = flags & 1 != 0;
                    self.tls.has_certificate = flags & 6 != 0;
                    self.tls.is_verified = self.tls.has_certificate && result == [0; 4];
                    At::Head([0; HEAD_BYTES], 0)
                }
                (facts, have) => At::Facts(facts, have),
            },
            At::Value(kind, left) => {
                if let Some(text) = self.text(kind) {
                    text.push(byte);
                }
                match left {
                    ..=1 => At::Head([0; HEAD_BYTES], 0),
                    _ => At::Value(kind, left - 1),
                }
            }
            At::Lost => At::Lost,
        }
    }

    /// Begins an extension.
    fn begin(&mut self, [kind, high, low]: [u8; HEAD_BYTES]) -> At {
        let length = u16::from_be_bytes([high, low]);
        match self.within {
            Some(left) if length > left => At::Lost,
            None if kind == SSL => match usize::from(length) {
                ..FACTS_BYTES => At::Lost,
                _ => {
                    self.within = Some(length);
                    At::Facts([0; FACTS_BYTES], 0)
                }
            },
            _ if length == 0 => At::Head([0; HEAD_BYTES], 0),
            _ => At::Value(kind, length),
        }
    }

    /// Returns the text that values of this kind are.
    fn text(&mut self, kind: u8) -> Option<&mut ProxyText> {
        match (self.within.is_some(), kind) {
            (false, ALPN) => Some(&mut self.tls.alpn),
            (false, AUTHORITY) => Some(&mut self.tls.authority),
            (true, SSL_VERSION) => Some(&mut self.tls.version),
            (true, SSL_COMMON_NAME) => Some(&mut self.tls.common_name),
            _ => None,
        }
    }
}

/// Puts a byte behind the `have` that are there. Returns how many there are then.
fn filled<const N: usize>(mut bytes: [u8; N], have: usize, byte: u8) -> ([u8; N], usize) {
    if let Some(place) = bytes.get_mut(have) {
        *place = byte;
    }
    (bytes, have + 1)
}
