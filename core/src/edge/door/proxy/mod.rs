//! The header that a proxy sends before a connection's own bytes, to name the address that it came from.
//!
//! Both versions of HAProxy's "The PROXY protocol" are supported (proxy-protocol.txt; section numbers here are that document's): the line
//! of text (2.1) and the binary header (2.2). SPEC.txt 10.7 defines what the edge does with it.
//!
//! The reader is strict, since the header decides to whom the limits apply: whatever the document does not allow a sender is an error, at
//! the first byte that shows it. It holds [`MAX_LINE_BYTES`], a few short texts and numbers, and no heap memory.

mod binary;
mod line;
mod tls;

use core::net::SocketAddr;

use self::tls::Extensions;
pub use self::tls::{ProxyText, ProxyTls};

/// The maximum length of a header of version 1, including its CR LF (2.1).
pub const MAX_LINE_BYTES: usize = 107;
/// The length of a header of version 2 before the addresses (2.2).
pub const BINARY_PREFIX_BYTES: usize = 16;
/// The maximum length of the addresses and extensions in a header of version 2. The document allows 65,535; real ones stay under 256, and a
/// client's certificate is not wanted here.
pub const MAX_BINARY_REST_BYTES: u16 = 512;

/// The origin of a connection, according to its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a PROXY header says no more")]
pub enum ProxySource {
    /// This address, by TCP over IPv4 or IPv6.
    Address(SocketAddr),
    /// The proxy itself (LOCAL, as for health checks), or no internet address (UNKNOWN, UNSPEC, a UNIX socket). The address of the proxy
    /// applies (2.1, 2.2).
    Local,
}

image!(enum ProxySource { 0 Address { 0: a }, 1 Local {} });

impl ProxySource {
    /// Appends a header of version 2 that names this origin. The other address, and its port, are zeros: the edge does not ask for them.
    pub fn encode(self, out: &mut Vec<u8>) {
        binary::write(self, out);
    }
}

/// Why bytes are not a header. The proxy is at fault, or whoever reached the listener without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// The first bytes do not begin a header of either version.
    #[error("no PROXY header")]
    NoHeader,
    /// Version 1: no end of the line within [`MAX_LINE_BYTES`].
    #[error("the line of the PROXY header is longer than {MAX_LINE_BYTES} bytes")]
    LineTooLong,
    /// Version 1: a CR without its LF, or an LF without its CR.
    #[error("the line of the PROXY header does not end with CR LF")]
    BadLineEnd,
    /// Version 1: neither TCP4, TCP6 nor UNKNOWN.
    #[error("unknown protocol in the line of the PROXY header")]
    UnknownProtocol,
    /// Version 1: not two addresses and two ports, each after exactly one space.
    #[error("the line of the PROXY header has not four fields after its protocol")]
    BadFields,
    /// Version 1: an address that is invalid for its protocol.
    #[error("bad address in the line of the PROXY header")]
    BadAddress,
    /// Version 1: a port that is not a number up to 65535 without leading zeros.
    #[error("bad port in the line of the PROXY header")]
    BadPort,
    /// Version 2: a version other than 2.
    #[error("version {version} in a binary PROXY header")]
    UnknownVersion {
        /// The upper four bits of byte 13.
        version: u8,
    },
    /// Version 2: neither LOCAL nor PROXY.
    #[error("unknown command {command} in a binary PROXY header")]
    UnknownCommand {
        /// The lower four bits of byte 13.
        command: u8,
    },
    /// Version 2: a family and transport that the document does not define.
    #[error("unknown family and transport {family:#04x} in a binary PROXY header")]
    UnknownFamily {
        /// Byte 14.
        family: u8,
    },
    /// Version 2: datagrams, which a connection to this listener cannot be.
    #[error("a binary PROXY header for datagrams ({family:#04x})")]
    Datagram {
        /// Byte 14.
        family: u8,
    },
    /// Version 2: too short for the addresses of its family.
    #[error("{length} bytes in a binary PROXY header that needs {needed}")]
    TooShort {
        /// The length in the header.
        length: u16,
        /// The length of the addresses.
        needed: u16,
    },
    /// Version 2: longer than [`MAX_BINARY_REST_BYTES`].
    #[error("{length} bytes in a binary PROXY header, {MAX_BINARY_REST_BYTES} are allowed")]
    TooLong {
        /// The length in the header.
        length: u16,
    },
}

image!(enum ProxyError {
    0 NoHeader {}, 1 LineTooLong {}, 2 BadLineEnd {}, 3 UnknownProtocol {}, 4 BadFields {},
    5 BadAddress {}, 6 BadPort {}, 7 UnknownVersion { version: a }, 8 UnknownCommand { command: a },
    9 UnknownFamily { family: a }, 10 Datagram { family: a }, 11 TooShort { length: a, needed: b },
    12 TooLong { length: a },
});

/// Reads one header, however it is cut. Once it has an outcome, it keeps it.
#[derive(Clone, Debug)]
pub struct ProxyHeader {
    /// The bytes that still matter: a line so far, or a binary header up to the end of the addresses of an IPv6 connection.
    held: [u8; MAX_LINE_BYTES],
    held_bytes: usize,
    /// The number of bytes still to be skipped, once the outcome is known.
    skip_bytes: usize,
    /// What those bytes say, if they are extensions.
    extensions: Option<Extensions>,
    outcome: Option<Result<ProxySource, ProxyError>>,
}

image!(ProxyHeader {
    held,
    held_bytes,
    skip_bytes,
    extensions,
    outcome
});

impl Default for ProxyHeader {
    fn default() -> Self {
        ProxyHeader {
            held: [0; MAX_LINE_BYTES],
            held_bytes: 0,
            skip_bytes: 0,
            extensions: None,
            outcome: None,
        }
    }
}

/// The state of parsing.
enum Progress {
    /// More bytes are needed.
    More,
    /// The header is understood. `rest` more bytes belong to it.
    Done { source: ProxySource, rest: usize },
}

impl ProxyHeader {
    /// Consumes the bytes of the header from the front of `input`. Returns `None` if more are needed; `input` is then empty. Once the
    /// header is complete, the rest of `input` is the connection's own.
    ///
    /// # Errors
    /// [`ProxyError`] at the first byte with which no valid header can begin, and at every later call.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<ProxySource>, ProxyError> {
        while self.outcome.is_none() {
            let Some((&byte, rest)) = input.split_first() else {
                return Ok(None);
            };
            *input = rest;
            match self.take(byte) {
                Ok(Progress::More) => {}
                Ok(Progress::Done { source, rest }) => {
                    self.skip_bytes = rest;
                    // With another source the rest may be addresses, or has no meaning.
                    let has_extensions = rest > 0 && matches!(source, ProxySource::Address(_));
                    self.extensions = has_extensions.then(Extensions::default);
                    self.outcome = Some(Ok(source));
                }
                Err(error) => self.outcome = Some(Err(error)),
            }
        }
        let (skipped, rest) = input.split_at(self.skip_bytes.min(input.len()));
        *input = rest;
        self.skip_bytes -= skipped.len();
        if let Some(extensions) = &mut self.extensions {
            extensions.read(skipped);
        }
        match self.outcome {
            Some(Err(error)) => Err(error),
            Some(Ok(source)) if self.skip_bytes == 0 => Ok(Some(source)),
            _ => Ok(None),
        }
    }

    /// Returns what extensions tell of TLS between the client and its proxy, once the header is complete. `None` if there are no extensions.
    #[must_use]
    pub fn tls(&self) -> Option<&ProxyTls> {
        self.extensions.as_ref().map(Extensions::tls)
    }

    /// Returns the number of bytes held of an incomplete header.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    fn take(&mut self, byte: u8) -> Result<Progress, ProxyError> {
        let Some(place) = self.held.get_mut(self.held_bytes) else {
            return Err(ProxyError::LineTooLong);
        };
        *place = byte;
        self.held_bytes += 1;
        let held = self.held.get(..self.held_bytes).unwrap_or_default();
        if held.starts_with(&line::SIGNATURE) {
            line::read(held)
        } else if held.starts_with(&binary::SIGNATURE) {
            binary::read(held)
        } else if line::SIGNATURE.starts_with(held) || binary::SIGNATURE.starts_with(held) {
            Ok(Progress::More)
        } else {
            Err(ProxyError::NoHeader)
        }
    }
}
