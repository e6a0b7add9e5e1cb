//! Reads the head of a message: up to its empty line.

use std::fmt;

/// The maximum number of headers.
pub const MAX_HEADERS: usize = 32;

/// Memory that the first bytes of a head take.
const FIRST_BYTES: usize = 512;

/// Why bytes are no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadFault {
    /// It begins as TLS does. The peer mistook the address for one with TLS.
    #[error("a TLS hello where HTTP is spoken")]
    Tls,
    /// It does not begin as HTTP does.
    #[error("not HTTP")]
    NotHttp,
    /// A line ends in LF alone.
    #[error("a line that ends in LF without CR")]
    BareLf,
    /// It is above the bound.
    #[error("a head above the bound")]
    TooLong,
}

/// Collects a head. Every cut gives the same outcome, at the first byte that shows it.
#[derive(Default)]
pub struct HeadReader {
    head: Vec<u8>,
}

impl fmt::Debug for HeadReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the head: it may have credentials.
        f.debug_struct("HeadReader").finish_non_exhaustive()
    }
}

impl HeadReader {
    /// Takes bytes from the front of `input`, up to the end of the head. Returns the head once it is whole, empty line included.
    ///
    /// # Errors
    /// When the bytes cannot become a head of at most `max_bytes`.
    pub fn read(
        &mut self,
        input: &mut &[u8],
        max_bytes: usize,
    ) -> Result<Option<Vec<u8>>, HeadFault> {
        while let Some((&byte, rest)) = input.split_first() {
            if self.head.is_empty() {
                match byte {
                    // A record of TLS that holds a handshake message.
                    0x16 => return Err(HeadFault::Tls),
                    byte if byte.is_ascii_uppercase() => {}
                    _ => return Err(HeadFault::NotHttp),
                }
                self.head.reserve_exact(FIRST_BYTES.min(max_bytes));
            }
            if self.head.len() == max_bytes {
                return Err(HeadFault::TooLong);
            }
            if byte == b'\n' && self.head.last() != Some(&b'\r') {
                return Err(HeadFault::BareLf);
            }
            self.head.push(byte);
            *input = rest;
            if byte == b'\n' && self.head.ends_with(b"\r\n\r\n") {
                return Ok(Some(std::mem::take(&mut self.head)));
            }
        }
        Ok(None)
    }

    /// Returns the number of bytes that have come.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.head.len()
    }

    /// Returns the bytes that it holds.
    #[must_use]
    pub fn footprint_bytes(&self) -> usize {
        self.head.capacity()
    }
}
