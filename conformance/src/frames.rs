//! A stream of frames, read and written with blocking calls.
//!
//! It decodes lengths by itself and not with the code under test.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use crate::PATIENCE;
use crate::handshake::frame;

/// Maximum bytes per read.
const CHUNK_BYTES: usize = 64 * 1024;

/// The next event of a stream of frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A whole body.
    Body(Vec<u8>),
    /// The peer ended the stream in order, after this many bytes of an unfinished frame.
    Fin {
        /// Bytes of the unfinished frame, its length included.
        unfinished: usize,
    },
    /// The peer reset the connection.
    Reset,
}

/// One side of a connection that carries frames, over TCP or a Unix socket.
#[derive(Debug)]
pub struct Frames {
    stream: TcpStream,
    /// Bytes that form no whole frame yet.
    held: Vec<u8>,
}

impl Frames {
    /// Wraps a connection. Every wait on it is bounded from here on.
    #[must_use]
    pub fn new(stream: TcpStream) -> Frames {
        if stream.local_addr().is_ok() {
            stream.set_nodelay(true).expect("a TCP socket");
        }
        stream.set_read_timeout(Some(PATIENCE)).expect("a bound");
        stream.set_write_timeout(Some(PATIENCE)).expect("a bound");
        Frames {
            stream,
            held: Vec::new(),
        }
    }

    /// Connects to `address`.
    #[must_use]
    pub fn connect(address: SocketAddr) -> Frames {
        Frames::new(TcpStream::connect(address).expect("somebody listens"))
    }

    /// Connects to the Unix socket at `path`.
    #[must_use]
    pub fn connect_unix(path: &Path) -> Frames {
        let stream = UnixStream::connect(path).expect("somebody listens");
        Frames::new(OwnedFd::from(stream).into())
    }

    /// Connects to `address`, and limits what the kernel buffers from the peer to about `bytes`.
    #[must_use]
    pub fn connect_narrow(address: SocketAddr, bytes: usize) -> Frames {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None);
        let socket = socket.expect("a socket");
        // Must be set before connecting, since the window is negotiated then.
        socket.set_recv_buffer_size(bytes).expect("a small buffer");
        socket.connect(&address.into()).expect("somebody listens");
        Frames::new(socket.into())
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// When the peer has gone.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Writes bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) {
        self.try_write(bytes).expect("the peer takes bytes");
    }

    /// Writes one frame.
    pub fn write_frame(&mut self, body: &[u8]) {
        self.write(&frame(body));
    }

    /// Returns the next frame, or the end.
    pub fn incoming(&mut self) -> Incoming {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            if let Some(body) = self.take_frame() {
                return Incoming::Body(body);
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    return Incoming::Fin {
                        unfinished: self.held.len(),
                    };
                }
                Ok(read) => self.held.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_broken(&error) => return Incoming::Reset,
                Err(error) => panic!(
                    "nothing came within {PATIENCE:?}, {} bytes of a frame before: {error}",
                    self.held.len()
                ),
            }
        }
    }

    /// Returns the next frame.
    pub fn body(&mut self) -> Vec<u8> {
        match self.incoming() {
            Incoming::Body(body) => body,
            end => panic!("a frame was expected, not {end:?}"),
        }
    }

    /// Returns the whole frames up to the end of the stream, and the end.
    pub fn rest(&mut self) -> (Vec<Vec<u8>>, Incoming) {
        let mut bodies = Vec::new();
        loop {
            match self.incoming() {
                Incoming::Body(body) => bodies.push(body),
                end => return (bodies, end),
            }
        }
    }

    /// Waits for the peer to end the stream, in order or not, with nothing before that.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        match self.incoming() {
            Incoming::Fin { unfinished: 0 } | Incoming::Reset => {}
            other => panic!("an end without a word was expected, not {other:?}"),
        }
    }

    /// Waits for the peer to end the stream in order, with nothing before that.
    #[track_caller]
    pub fn expect_fin(&mut self) {
        assert_eq!(self.incoming(), Incoming::Fin { unfinished: 0 });
    }

    /// Closes our direction in order. Reading continues.
    pub fn finish(&mut self) {
        // It does not matter if the peer has left first.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Resets the connection. Data in flight in either direction is lost.
    pub fn reset(self) {
        SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .expect("a TCP socket");
    }

    /// Returns the underlying connection.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn take_frame(&mut self) -> Option<Vec<u8>> {
        let length = u32::from_le_bytes(*self.held.first_chunk()?);
        let end = 4 + usize::try_from(length).expect("32 bits");
        if self.held.len() < end {
            return None;
        }
        let body = self.held[4..end].to_vec();
        self.held.drain(..end);
        Some(body)
    }
}

/// Returns whether the error means that the peer has torn down the connection.
fn is_broken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe
    )
}
