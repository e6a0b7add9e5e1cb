//! A stream of the admin interface, over TCP or a Unix socket, at either of its ends.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A stream that blocks.
pub(crate) enum Stream {
    Net(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Sets how long a read, and a write, may take.
    pub(crate) fn set_timeouts(&self, read: Duration, write: Duration) -> io::Result<()> {
        self.set_read_timeout(read)?;
        match self {
            Stream::Net(stream) => stream.set_write_timeout(Some(write)),
            Stream::Unix(stream) => stream.set_write_timeout(Some(write)),
        }
    }

    pub(super) fn set_read_timeout(&self, within: Duration) -> io::Result<()> {
        match self {
            Stream::Net(stream) => stream.set_read_timeout(Some(within)),
            Stream::Unix(stream) => stream.set_read_timeout(Some(within)),
        }
    }

    /// Returns the address of its peer, if it has one.
    pub(super) fn source(&self) -> Option<IpAddr> {
        match self {
            Stream::Net(stream) => stream.peer_addr().ok().map(|peer| peer.ip()),
            Stream::Unix(_) => None,
        }
    }

    /// Ends both directions at once. Whoever reads or writes it returns.
    pub(super) fn close(&self) {
        // One that has ended already is as good.
        let _ = match self {
            Stream::Net(stream) => stream.shutdown(Shutdown::Both),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    /// Writes no more. The peer may go on.
    pub(super) fn end_output(&self) -> io::Result<()> {
        match self {
            Stream::Net(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Net(stream) => (&*stream).read(buffer),
            Stream::Unix(stream) => (&*stream).read(buffer),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Net(stream) => (&*stream).write(bytes),
            Stream::Unix(stream) => (&*stream).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
