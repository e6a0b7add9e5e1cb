//! The connection to a server.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use zeroize::Zeroizing;

use super::dial::dial;
use super::{Common, Progress, Reader, Turn, Wire, nonsense};
use crate::engine::{CALL_TIMEOUT, EngineError};

/// How long it may take until the server is known to do. (SPEC 43.7(d), 43.8(g))
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// The bytes that are read at once.
pub(super) const READ_BYTES: usize = 16 * 1_024;

#[derive(Debug)]
pub(super) struct Connection<W: Wire> {
    pub(super) socket: TcpStream,
    pub(super) output: Zeroizing<Vec<u8>>,
    reader: Reader<W::Parser>,
    opened: Duration,
    pub(super) wire: W,
}

impl<W: Wire> Connection<W> {
    pub(super) fn open(
        now: Duration,
        server: usize,
        common: &mut Common,
    ) -> io::Result<Connection<W>> {
        let socket = dial(&common.config.servers, server)?;
        let mut output = Zeroizing::default();
        let wire = W::open(&mut Turn::new(now, &mut output, common));
        Ok(Connection {
            socket,
            output,
            reader: Reader::default(),
            opened: now,
            wire,
        })
    }

    pub(super) fn turn<'a>(
        &'a mut self,
        now: Duration,
        common: &'a mut Common,
    ) -> (&'a mut W, Turn<'a>) {
        (&mut self.wire, Turn::new(now, &mut self.output, common))
    }

    /// Reads what has come. Returns whether there may be more.
    pub(super) fn read(&mut self, bytes: &mut [u8; READ_BYTES]) -> io::Result<bool> {
        match self.socket.read(bytes) {
            Ok(0) => return Err(io::Error::other("the server closed the connection")),
            Ok(length) => self.reader.push(&bytes[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// Handles the next thing that was said whole. Returns whether there was one.
    pub(super) fn handle_next(
        &mut self,
        now: Duration,
        common: &mut Common,
    ) -> Result<bool, EngineError> {
        let Some(said) = self.reader.next().map_err(nonsense)? else {
            return Ok(false);
        };
        let (wire, mut turn) = self.turn(now, common);
        wire.handle(&mut turn, said)?;
        Ok(true)
    }

    /// Writes what can be written.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.socket.write(&self.output) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => {
                    self.output.drain(..length);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // What was written of a password does not stay in the room behind the end.
        self.output = Zeroizing::default();
        Ok(())
    }

    /// Returns when it has taken too long.
    pub(super) fn due(&self) -> Option<Duration> {
        match self.wire.progress() {
            Progress::Ready => Some(self.wire.waits_since()? + CALL_TIMEOUT),
            Progress::Opening | Progress::Unfit(_) => Some(self.opened + OPEN_TIMEOUT),
        }
    }
}
