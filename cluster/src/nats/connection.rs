//! The connection to a server.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use zeroize::Zeroizing;

use super::wire::{Reader, Said};
use super::{Flying, NatsEngine};
use crate::dial::dial;
use crate::engine::{CALL_TIMEOUT, EngineError};

/// How long it may take until the bucket is known to be there.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// The bytes that are read at once.
const READ_BYTES: usize = 16 * 1_024;
/// The most reads of a poll: a server that always has something to say delays neither what is due nor the user. The rest is read at the next
/// poll, at once, since the socket is still readable.
const MAX_READS: usize = 64;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// INFO is awaited.
    Greeting,
    /// PONG is awaited, behind CONNECT.
    Login,
    /// The bucket is looked for, or made.
    Bucket,
    Ready,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: TcpStream,
    pub(super) reader: Reader,
    pub(super) output: Zeroizing<Vec<u8>>,
    pub(super) stage: Stage,
    pub(super) opened: Duration,
    /// What was asked, by the last part of the subject of its answer, and when.
    pub(super) flying: BTreeMap<u64, (Flying, Duration)>,
    pub(super) tokens: u64,
    pub(super) inbox: String,
}

impl NatsEngine {
    fn connect(&mut self, now: Duration) -> io::Result<()> {
        let socket = dial(&self.config.servers, self.server)?;
        let inbox = format!("_INBOX.{:016x}", self.spread.next());
        self.connection = Some(Box::new(Connection {
            socket,
            reader: Reader::default(),
            output: Zeroizing::new(Vec::new()),
            stage: Stage::Greeting,
            opened: now,
            flying: BTreeMap::new(),
            tokens: 0,
            inbox,
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
        self.check_times(now)
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

    fn check_times(&self, now: Duration) -> Result<(), EngineError> {
        match self.due() {
            Some(due) if now >= due => Err(EngineError::Late),
            _ => Ok(()),
        }
    }

    /// Returns when a connection has taken too long.
    pub(super) fn due(&self) -> Option<Duration> {
        let connection = self.connection.as_ref()?;
        match connection.stage {
            Stage::Ready => {
                let sent = connection.flying.values().map(|(_, sent)| *sent).min()?;
                Some(sent + CALL_TIMEOUT)
            }
            _ => Some(connection.opened + OPEN_TIMEOUT),
        }
    }

    /// Publishes a request, whose answer has a subject of its own.
    pub(super) fn publish(
        &mut self,
        now: Duration,
        flying: Flying,
        subject: &str,
        headers: &str,
        content: &[u8],
    ) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        connection.tokens += 1;
        let token = connection.tokens;
        let inbox = &connection.inbox;
        let line = match headers.len() {
            0 => format!("PUB {subject} {inbox}.{token} {}\r\n", content.len()),
            head => {
                let all = head + content.len();
                format!("HPUB {subject} {inbox}.{token} {head} {all}\r\n{headers}")
            }
        };
        connection.output.extend_from_slice(line.as_bytes());
        connection.output.extend_from_slice(content);
        connection.output.extend_from_slice(b"\r\n");
        connection.flying.insert(token, (flying, now));
    }
}
