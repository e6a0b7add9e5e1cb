//! The one stream to the backend: connecting, reading, writing.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tracing::{debug, warn};
use voltlane_core::Time;
use voltlane_core::edge::{Closed, Edge};

use crate::io::{Channel, Read, Written};
use crate::waker::{ReadyList, SourceWaker, Token};
use crate::{Connect, Connector};

/// Reads in one turn: more wait for the next, after the clients had theirs.
const READS_PER_TURN: usize = 4;
/// Writes in one turn; the second and later ones only where the first took all of a longer output.
const WRITES_PER_TURN: usize = 4;

/// Where the link stands.
enum State<S> {
    Down,
    Connecting(Connect<S>),
    Up(Channel<S>),
}

/// The link, without any policy: when to dial and when to give up is asked of the [`Edge`].
pub(super) struct Link<C: Connector> {
    connector: C,
    state: State<C::Stream>,
    source: Arc<SourceWaker>,
    waker: Waker,
    /// A read, or the attempt to connect, may get on; else it waits for its waker.
    readable: bool,
    /// A write may get on; else it waits for its waker.
    writable: bool,
    /// The first failure of an outage is a warning, those that follow are not.
    warned: bool,
}

impl<C: Connector> Link<C> {
    pub(super) fn new(connector: C, token: Token, ready: &Arc<ReadyList>) -> Self {
        let source = SourceWaker::new(token, ready);
        let waker = Waker::from(Arc::clone(&source));
        Link {
            connector,
            state: State::Down,
            source,
            waker,
            readable: false,
            writable: false,
            warned: false,
        }
    }

    /// The link's token was woken.
    pub(super) fn handle_woken(&mut self) {
        self.source.serve();
        self.readable = true;
        self.writable = true;
    }

    /// Whether another turn would get on without being woken.
    pub(super) fn has_work(&self, edge: &Edge, now: Time) -> bool {
        match &self.state {
            State::Down => edge.link_wants_connect(now),
            State::Connecting(_) => self.readable || edge.link_wants_close(),
            State::Up(channel) => {
                (self.readable && edge.link_read_budget() > 0)
                    || (self.writable
                        && !channel.write_failed()
                        && edge.link_output().iter().any(|part| !part.is_empty()))
                    || edge.link_wants_close()
            }
        }
    }

    /// Dials when the edge wants it, and gives up or drops the stream when the edge wants that.
    pub(super) fn drive(&mut self, edge: &mut Edge, now: Time) {
        if edge.link_wants_close() && !matches!(self.state, State::Down) {
            if let State::Up(channel) = std::mem::replace(&mut self.state, State::Down) {
                channel.abort();
            }
            edge.handle_link_closed(now, Closed::ByEdge);
        }
        if matches!(self.state, State::Down) && edge.link_wants_connect(now) {
            edge.handle_link_connecting(now);
            self.state = State::Connecting(self.connector.connect());
            self.readable = true;
        }
        if let State::Connecting(attempt) = &mut self.state
            && self.readable
        {
            match attempt.as_mut().poll(&mut Context::from_waker(&self.waker)) {
                Poll::Pending => self.readable = false,
                Poll::Ready(Ok(stream)) => {
                    self.state = State::Up(Channel::new(stream));
                    self.readable = true;
                    self.writable = true;
                    self.warned = false;
                    edge.handle_link_connected(now);
                }
                Poll::Ready(Err(error)) => {
                    if !std::mem::replace(&mut self.warned, true) {
                        warn!(%error, "the backend cannot be reached, trying on");
                    } else {
                        debug!(%error, "the backend cannot be reached");
                    }
                    self.state = State::Down;
                    edge.handle_link_closed(now, Closed::Error);
                }
            }
        }
    }

    /// Reads what has come, within the edge's budget.
    pub(super) fn read(&mut self, edge: &mut Edge, now: Time, buffer: &mut [u8]) {
        for _ in 0..READS_PER_TURN {
            let State::Up(channel) = &mut self.state else {
                return;
            };
            let budget = edge.link_read_budget().min(buffer.len());
            if !self.readable || budget == 0 {
                return;
            }
            match channel.read(&mut Context::from_waker(&self.waker), &mut buffer[..budget]) {
                Read::Blocked => self.readable = false,
                Read::Bytes(bytes) => edge.handle_link_bytes(now, &buffer[..bytes]),
                Read::Eof => self.lose(edge, now, Closed::Eof),
                Read::Failed => self.lose(edge, now, Closed::Error),
            }
        }
    }

    /// Writes what the edge has for the backend.
    pub(super) fn write(&mut self, edge: &mut Edge, now: Time) {
        for _ in 0..WRITES_PER_TURN {
            let State::Up(channel) = &mut self.state else {
                return;
            };
            if !self.writable {
                return;
            }
            match channel.write(&mut Context::from_waker(&self.waker), edge.link_output()) {
                Written::Nothing => return,
                Written::Blocked => self.writable = false,
                Written::Bytes(bytes) => edge.handle_link_written(now, bytes),
                Written::Failed => self.readable = true,
            }
        }
    }

    /// Ends the stream in order once the edge is finished; the caller bounds the wait.
    pub(super) fn poll_finish(&mut self, buffer: &mut [u8]) -> Poll<()> {
        let State::Up(channel) = &mut self.state else {
            return Poll::Ready(());
        };
        channel.poll_finish(&mut Context::from_waker(&self.waker), buffer)
    }

    fn lose(&mut self, edge: &mut Edge, now: Time, cause: Closed) {
        self.state = State::Down;
        edge.handle_link_closed(now, cause);
    }
}
