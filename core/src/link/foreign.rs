//! Recognises other protocols by the first bytes of a stream, for the log line about a program at the wrong port.

use core::fmt;

/// The number of bytes examined at the start of a stream.
const BEGINNING_BYTES: usize = 9;

/// The number of malformed packets at the start of a link, with no good one before them, after which the peer is neither a backend nor an
/// edge (SPEC 7.5(d), 7.8(h)).
pub(crate) const FOREIGN_PACKETS: u32 = 32;

/// A protocol other than that of the backend link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// HTTP/1: a status line, or the start of a request.
    Http,
    /// HTTP/2: the preface of a client or the settings of a server.
    Http2,
    /// TLS: a record.
    Tls,
    /// SSH: its version line.
    Ssh,
    /// SMTP or FTP: the reply 220.
    Mail,
    /// Redis or POP3: an error line.
    Redis,
    /// A PROXY header, from a load balancer that is configured to send one.
    Proxy,
    /// What a client sends to an edge.
    VoltlaneClient,
}

image!(enum Protocol {
    0 Http {}, 1 Http2 {}, 2 Tls {}, 3 Ssh {}, 4 Mail {}, 5 Redis {}, 6 Proxy {},
    7 VoltlaneClient {},
});

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Http => "HTTP",
            Protocol::Http2 => "HTTP/2",
            Protocol::Tls => "TLS",
            Protocol::Ssh => "SSH",
            Protocol::Mail => "SMTP or FTP",
            Protocol::Redis => "Redis or POP3",
            Protocol::Proxy => "a PROXY header",
            Protocol::VoltlaneClient => "the protocol of Voltlane's clients",
        })
    }
}

/// The first bytes of a stream.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Beginning {
    bytes: [u8; BEGINNING_BYTES],
    length: usize,
}

image!(Beginning { bytes, length });

impl Beginning {
    /// Adds bytes of the stream. Bytes beyond its beginning are ignored.
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        let room = self.bytes.get_mut(self.length..).unwrap_or_default();
        let taken = room.len().min(bytes.len());
        if let (Some(room), Some(bytes)) = (room.get_mut(..taken), bytes.get(..taken)) {
            room.copy_from_slice(bytes);
        }
        // Never beyond the array.
        self.length = self.length.saturating_add(taken);
    }

    /// Returns the protocol that begins like this, if it is a known one.
    pub(crate) fn protocol(&self) -> Option<Protocol> {
        const REQUESTS: [&[u8]; 7] = [
            b"GET ",
            b"HEAD ",
            b"POST ",
            b"PUT ",
            b"OPTIONS ",
            b"DELETE ",
            b"CONNECT ",
        ];
        let bytes = self.bytes.get(..self.length).unwrap_or_default();
        let begins = |with: &[u8]| bytes.starts_with(with);
        Some(match bytes {
            [2, 0, 0, 0, 1, 2, ..] => Protocol::VoltlaneClient,
            [0, 0, _, 4, 0, 0, 0, 0, 0] => Protocol::Http2,
            // A record's type, its version, and a length that servers' alerts have, or clients' hellos.
            [0x15, 3, 0..=4, 0, 2, ..] | [0x16, 3, 0..=4, ..] => Protocol::Tls,
            [0x0d, 0x0a, 0x0d, 0x0a, 0, ..] => Protocol::Proxy,
            _ if begins(b"PROXY ") => Protocol::Proxy,
            _ if begins(b"PRI * HTT") => Protocol::Http2,
            _ if begins(b"HTTP/") || REQUESTS.iter().any(|request| begins(request)) => {
                Protocol::Http
            }
            _ if begins(b"SSH-") => Protocol::Ssh,
            _ if begins(b"220 ") || begins(b"220-") => Protocol::Mail,
            _ if begins(b"-ERR") => Protocol::Redis,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_known_by_their_first_bytes_whatever_the_cuts() {
        let known: [(&[u8], Protocol); 13] = [
            (b"HTTP/1.1 400 Bad Request\r\n", Protocol::Http),
            (b"GET / HTTP/1.1\r\n", Protocol::Http),
            (b"OPTIONS * HTTP/1.0\r\n", Protocol::Http),
            (&[0, 0, 18, 4, 0, 0, 0, 0, 0, 0, 3], Protocol::Http2),
            (b"PRI * HTTP/2.0\r\n", Protocol::Http2),
            (&[0x15, 3, 1, 0, 2, 2, 70], Protocol::Tls),
            (&[0x16, 3, 1, 2, 0, 1, 0, 1, 252, 3], Protocol::Tls),
            (b"SSH-2.0-OpenSSH_9.6\r\n", Protocol::Ssh),
            (b"220 mail.example ESMTP\r\n", Protocol::Mail),
            (b"-ERR unknown command\r\n", Protocol::Redis),
            (b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", Protocol::Proxy),
            (b"\r\n\r\n\0\r\nQUIT\n", Protocol::Proxy),
            (&[2, 0, 0, 0, 1, 2], Protocol::VoltlaneClient),
        ];
        for (bytes, protocol) in known {
            for cut in 0..bytes.len() {
                let mut beginning = Beginning::default();
                beginning.take(&bytes[..cut]);
                beginning.take(&bytes[cut..]);
                assert_eq!(beginning.protocol(), Some(protocol), "{protocol} at {cut}");
            }
        }
    }

    #[test]
    fn packets_of_a_backend_are_no_other_protocol() {
        for bytes in [
            &[][..],
            &[9, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 2],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0x15, 3, 1, 0, 7, 0, 0, 0, 0],
            b"HTTP",
        ] {
            let mut beginning = Beginning::default();
            beginning.take(bytes);
            assert_eq!(beginning.protocol(), None, "{bytes:?}");
        }
    }
}
