//! The connection to a server.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use zeroize::Zeroizing;

use super::opening::ask;
use super::wire::{Reader, Said};
use super::{Flying, RedisEngine};
use crate::dial::dial;
use crate::engine::{CALL_TIMEOUT, EngineError};

/// How long it may take until the server is known to do.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// The bytes that are read at once.
const READ_BYTES: usize = 16 * 1_024;
/// The most reads of a poll: a server that always has something to say delays neither what is due nor the user. The rest is read at the next
/// poll, at once, since the socket is still readable.
const MAX_READS: usize = 64;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is to let the edge in.
    Login,
    /// It is to say what version it has.
    Server,
    /// It is to say whether it is a replica.
    Role,
    Ready,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: TcpStream,
    pub(super) reader: Reader,
    pub(super) output: Zeroizing<Vec<u8>>,
    pub(super) stage: Stage,
    pub(super) opened: Duration,
    /// What was asked, in order.
    pub(super) flying: VecDeque<Flying>,
}

impl RedisEngine {
    fn connect(&mut self, now: Duration) -> io::Result<()> {
        let socket = dial(&self.config.servers, self.server)?;
        let credentials = self.config.credentials.as_ref();
        let mut output = Zeroizing::new(Vec::new());
        ask(&mut output, credentials);
        self.connection = Some(Box::new(Connection {
            socket,
            reader: Reader::default(),
            output,
            stage: match credentials {
                Some(_) => Stage::Login,
                None => Stage::Server,
            },
            opened: now,
            flying: VecDeque::new(),
        }));
        Ok(())
    }

    /// Reads and writes what can be.
    pub(super) fn drive(&mut self, now: Duration) -> Result<(), EngineError> {
        let gone = |error: io::Error| EngineError::Unreachable(error.to_string());
        if self.connection.is_none() {
            if self.waiting.is_empty() || now < self.retry_at {
                return Ok(());
            }
            self.connect(now).map_err(gone)?;
        }
        let mut bytes = [0; READ_BYTES];
        for _ in 0..MAX_READS {
            self.flush().map_err(gone)?;
            let Some(connection) = &mut self.connection else {
                return Ok(());
            };
            match connection.socket.read(&mut bytes) {
                Ok(0) => return Err(gone(io::Error::other("the server closed the connection"))),
                Ok(length) => connection.reader.push(&bytes[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(gone(error)),
            }
            while let Some(said) = self.next_said()? {
                self.handle(now, said)?;
            }
        }
        match self.due() {
            Some(due) if now >= due => Err(EngineError::Late),
            _ => Ok(()),
        }
    }

    fn next_said(&mut self) -> Result<Option<Said>, EngineError> {
        match &mut self.connection {
            None => Ok(None),
            Some(connection) => {
                let said = connection.reader.next();
                said.map_err(|why| EngineError::Nonsense(why.to_owned()))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        while !connection.output.is_empty() {
            match connection.socket.write(&connection.output) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => {
                    connection.output.drain(..length);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // What was written of a password does not stay in the room behind the end.
        connection.output = Zeroizing::new(Vec::new());
        Ok(())
    }

    /// Returns when a connection has taken too long.
    pub(super) fn due(&self) -> Option<Duration> {
        let connection = self.connection.as_ref()?;
        match connection.stage {
            Stage::Ready => {
                let first = connection.flying.iter().map(|flying| flying.since).min()?;
                Some(first + CALL_TIMEOUT)
            }
            _ => Some(connection.opened + OPEN_TIMEOUT),
        }
    }
}
