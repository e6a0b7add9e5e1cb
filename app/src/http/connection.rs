//! One connection, which never blocks: a request head, then a response or a stream of events, then the end.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::Instant;

use super::message::{MAX_HEAD_BYTES, Request, Response, read_head};
use super::server::STEP_TIMEOUT;

/// Maximum bytes per read.
const PIECE_BYTES: usize = 1024;
/// The maximum number of bytes read after the head of a request. Unread bytes would end the connection in a RST, and the peer's system
/// would discard the response.
const MAX_REST_BYTES: usize = 64 * 1024;

/// The maximum number of bytes that wait for a watcher.
#[cfg(feature = "admin")]
const MAX_WAITING_BYTES: usize = 64 * 1024;

/// A connection and its state.
pub(super) struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    state: State,
    /// The deadline of the state.
    deadline: Instant,
}

enum State {
    /// The head so far.
    Head(Vec<u8>),
    /// A complete head, to be answered.
    Request(Vec<u8>),
    /// A response that is not completely written.
    Answer {
        bytes: Vec<u8>,
        written: usize,
    },
    /// Events that are not completely written. More come until the deadline.
    #[cfg(feature = "admin")]
    Watch {
        out: Vec<u8>,
        written: usize,
    },
    /// The response is written, and the peer must close. This many bytes may arrive until then.
    Rest(usize),
    Gone,
}

/// The event that a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    Read,
    Write,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, peer: SocketAddr, now: Instant) -> io::Result<Connection> {
        stream.set_nonblocking(true)?;
        Ok(Connection {
            stream,
            peer,
            state: State::Head(Vec::new()),
            deadline: now + STEP_TIMEOUT,
        })
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Returns the address that it comes from.
    pub(super) fn source(&self) -> IpAddr {
        self.peer.ip()
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn wants(&self) -> Wants {
        match &self.state {
            State::Answer { .. } => Wants::Write,
            #[cfg(feature = "admin")]
            State::Watch { out, written } if *written < out.len() => Wants::Write,
            _ => Wants::Read,
        }
    }

    /// Reads what has arrived.
    pub(super) fn read(&mut self, now: Instant) {
        while self.is_read() {
            let mut piece = [0; PIECE_BYTES];
            match self.stream.read(&mut piece) {
                Ok(0) => self.state = State::Gone,
                Ok(length) => self.take(&piece[..length], now),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => self.fail(&error),
            }
        }
        if now >= self.deadline && matches!(self.state, State::Head(_)) {
            let late = Response::text("408 Request Timeout", "the head took too long");
            self.answer(late, now);
        }
    }

    fn is_read(&self) -> bool {
        #[cfg(feature = "admin")]
        if let State::Watch { .. } = self.state {
            return true;
        }
        matches!(self.state, State::Head(_) | State::Rest(_))
    }

    fn take(&mut self, piece: &[u8], now: Instant) {
        match &mut self.state {
            // Input of a watcher is ignored.
            #[cfg(feature = "admin")]
            State::Watch { .. } => {}
            State::Head(head) => {
                head.extend_from_slice(piece);
                if read_head(head).is_some() {
                    self.state = State::Request(std::mem::take(head));
                } else if head.len() >= MAX_HEAD_BYTES {
                    let says = "the head is too long";
                    let long = Response::text("431 Request Header Fields Too Large", says);
                    self.answer(long, now);
                }
            }
            State::Rest(left) if *left > piece.len() => *left -= piece.len(),
            _ => self.state = State::Gone,
        }
    }

    /// Returns the request that must be answered.
    pub(super) fn request(&self) -> Option<Request<'_>> {
        match &self.state {
            State::Request(head) => read_head(head),
            _ => None,
        }
    }

    pub(super) fn answer(&mut self, response: Response, now: Instant) {
        self.state = State::Answer {
            bytes: response.to_bytes(),
            written: 0,
        };
        self.deadline = now + STEP_TIMEOUT;
    }

    /// Begins a stream of events, which ends after `within`.
    #[cfg(feature = "admin")]
    pub(super) fn watch(&mut self, now: Instant, within: std::time::Duration) {
        const HEAD: &[u8] =
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\
            Connection: close\r\n\r\nretry: 2000\n\n";
        self.state = State::Watch {
            out: HEAD.to_vec(),
            written: 0,
        };
        self.deadline = now + within;
    }

    /// Returns whether it watches events.
    #[cfg(feature = "admin")]
    pub(super) fn is_watching(&self) -> bool {
        matches!(self.state, State::Watch { .. })
    }

    /// Queues an event for a watcher. One that has let too many wait is dropped.
    #[cfg(feature = "admin")]
    pub(super) fn tell(&mut self, event: &str) {
        if let State::Watch { out, written } = &mut self.state {
            out.drain(..*written);
            *written = 0;
            out.extend_from_slice(event.as_bytes());
            if out.len() > MAX_WAITING_BYTES {
                self.state = State::Gone;
            }
        }
    }

    #[cfg(feature = "admin")]
    fn write_events(&mut self) {
        while let State::Watch { out, written } = &mut self.state {
            match self.stream.write(&out[*written..]) {
                Ok(_) if *written == out.len() => return,
                Ok(0) => self.state = State::Gone,
                Ok(length) => *written += length,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => self.fail(&error),
            }
        }
    }

    /// Writes pending output. Returns false at the end.
    pub(super) fn goes_on(&mut self, now: Instant) -> bool {
        #[cfg(feature = "admin")]
        self.write_events();
        while let State::Answer { bytes, written } = &mut self.state {
            match self.stream.write(&bytes[*written..]) {
                Ok(0) => self.fail(&ErrorKind::WriteZero.into()),
                Ok(length) => {
                    *written += length;
                    if *written == bytes.len() {
                        self.end_answer(now);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => self.fail(&error),
            }
        }
        now < self.deadline && !matches!(self.state, State::Gone)
    }

    /// Unread bytes would turn the end into a reset, which would discard the response.
    fn end_answer(&mut self, now: Instant) {
        match self.stream.shutdown(Shutdown::Write) {
            Ok(()) => {
                self.state = State::Rest(MAX_REST_BYTES);
                self.deadline = now + STEP_TIMEOUT;
            }
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &io::Error) {
        tracing::debug!(peer = %self.peer, %error, "a request failed");
        self.state = State::Gone;
    }
}
