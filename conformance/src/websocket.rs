//! A WebSocket client byte by byte, for what no library would send.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::PATIENCE;

/// The first byte of a binary message in one frame.
pub const BINARY: u8 = 0x82;

/// Returns a request that an edge accepts, with more lines, each of which ends in CRLF.
#[must_use]
pub fn request(more: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: edge\r\n{more}Connection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// Opens a WebSocket with a [`request`], and reads the answer.
///
/// # Panics
/// When the edge does not upgrade the connection.
#[must_use]
pub fn open(edge: SocketAddr, more: &str) -> TcpStream {
    let mut socket = TcpStream::connect(edge).expect("somebody listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a bound");
    let request = request(more);
    socket.write_all(request.as_bytes()).expect("it is taken");
    let (mut said, mut byte) = (Vec::new(), [0]);
    while !said.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte).expect("an answer");
        said.push(byte[0]);
    }
    assert!(said.starts_with(b"HTTP/1.1 101 "));
    socket
}

/// Returns a client's frame that begins with this byte, masked with zeros.
///
/// # Panics
/// When the payload has more than 65,535 bytes.
#[must_use]
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a short payload");
    let [high, low] = length.to_be_bytes();
    let mut bytes = match length {
        0..126 => vec![first, 0x80 | low],
        _ => vec![first, 0x80 | 126, high, low],
    };
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}
