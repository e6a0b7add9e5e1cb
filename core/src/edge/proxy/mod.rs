//! The header that a proxy puts before a connection's own bytes, to say where the connection came from.
//!
//! Both versions of HAProxy's "The PROXY protocol" (proxy-protocol.txt; the sections named here are that document's): the line of
//! text (2.1) and the binary header (2.2). What the edge does with it stands in SPEC.txt 10.7.
//!
//! The reader is strict, since what it reads decides whom the limits hold for: whatever the document does not allow a sender is an
//! error, at the first byte that shows it. It holds [`MAX_LINE_BYTES`] and a few numbers, and no heap memory.

mod binary;
mod line;

use core::net::SocketAddr;

/// The longest header of version 1, its CR LF included (2.1).
pub const MAX_LINE_BYTES: usize = 107;
/// The bytes before the addresses of a header of version 2 (2.2).
pub const BINARY_PREFIX_BYTES: usize = 16;
/// The largest length that a header of version 2 may give for its addresses and extensions. The document allows 65,535; real ones
/// stay under 256, and a client's certificate is not wanted here.
pub const MAX_BINARY_REST_BYTES: u16 = 512;

/// What a header says about where the connection came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxySource {
    /// From this address, by TCP over IPv4 or IPv6.
    Address(SocketAddr),
    /// The proxy itself made it (LOCAL, as for health checks), or it names no internet address (UNKNOWN, UNSPEC, a UNIX socket):
    /// the address of the proxy stands (2.1, 2.2).
    Local,
}

/// Bytes that are no header. Whose fault it is: the proxy's, or that of whoever reached the listener past it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The first bytes begin no header of either version.
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
    /// Version 1: an address that is none of its protocol.
    #[error("bad address in the line of the PROXY header")]
    BadAddress,
    /// Version 1: a port that is not a number up to 65535 without zeros before it.
    #[error("bad port in the line of the PROXY header")]
    BadPort,
    /// Version 2: a version that is not 2.
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
    /// Version 2: datagrams, which no connection to this listener can be.
    #[error("a binary PROXY header for datagrams ({family:#04x})")]
    Datagram {
        /// Byte 14.
        family: u8,
    },
    /// Version 2: too short for the addresses of its family.
    #[error("{length} bytes in a binary PROXY header that needs {needed}")]
    TooShort {
        /// The length that the header gives.
        length: u16,
        /// What the addresses take.
        needed: u16,
    },
    /// Version 2: longer than [`MAX_BINARY_REST_BYTES`].
    #[error("{length} bytes in a binary PROXY header, {MAX_BINARY_REST_BYTES} are allowed")]
    TooLong {
        /// The length that the header gives.
        length: u16,
    },
}

/// Reads one header, however it is cut. Once it has an outcome, it keeps it.
#[derive(Clone, Debug)]
pub struct ProxyHeader {
    /// What came and still matters: a line so far, or a binary header up to the end of the addresses of an IPv6 connection.
    held: [u8; MAX_LINE_BYTES],
    held_bytes: usize,
    /// Bytes that are still to be passed over, once the outcome is known.
    skip_bytes: usize,
    outcome: Option<Result<ProxySource, ProxyError>>,
}

impl Default for ProxyHeader {
    fn default() -> Self {
        ProxyHeader {
            held: [0; MAX_LINE_BYTES],
            held_bytes: 0,
            skip_bytes: 0,
            outcome: None,
        }
    }
}

/// What the bytes so far amount to.
enum Progress {
    /// More are needed.
    More,
    /// This is what the header says; so many bytes after those seen belong to it as well.
    Done { source: ProxySource, rest: usize },
}

impl ProxyHeader {
    /// Takes what belongs to the header from the front of `input`. `None`: more is needed, and `input` is empty. When it is whole,
    /// what is left in `input` is the connection's own.
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
                    self.outcome = Some(Ok(source));
                }
                Err(error) => self.outcome = Some(Err(error)),
            }
        }
        let skipped = self.skip_bytes.min(input.len());
        *input = input.get(skipped..).unwrap_or_default();
        self.skip_bytes -= skipped;
        match self.outcome {
            Some(Err(error)) => Err(error),
            Some(Ok(source)) if self.skip_bytes == 0 => Ok(Some(source)),
            _ => Ok(None),
        }
    }

    /// Bytes held of a header that is not whole yet.
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
