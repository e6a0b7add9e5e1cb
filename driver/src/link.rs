//! The one stream to the backend: connecting, reading, writing; for an edge alone, and for the trunk of several.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tracing::{debug, warn};
use voltlane_core::edge::Closed;
use voltlane_core::{Time, edge::HasLink};

use crate::io::{Read, Written};
use crate::waker::{ReadyList, SourceWaker, Token};
use crate::watch::WatchedChannel;
use crate::{Connect, Connector};

/// Reads in one turn: more wait for the next, after the clients had theirs.
const READS_PER_TURN: usize = 4;
/// Writes in one turn; the second and later ones only where the first took all of a longer output.
const WRITES_PER_TURN: usize = 4;

/// How long the backend may take to close the link after its machine was finished, ..
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// .. which is a part of the time that the end may take in all; but so long it may take in any case.
const CLOSE_AT_LEAST: Duration = Duration::from_millis(100);

/// Until when a machine that is finished `now` waits for the backend to close, where the whole end may take until `ends_by`.
pub(crate) fn close_by(now: Time, ends_by: Option<Time>) -> Time {
    let ends_by = ends_by.map_or(Time::MAX, |ends_by| ends_by.max(now + CLOSE_AT_LEAST));
    ends_by.min(now + CLOSE_WITHIN)
}

/// Where the link stands.
enum State<S> {
    Down,
    Connecting(Connect<S>),
    Up(WatchedChannel<S>),
}

/// The link, without any policy: when to dial and when to give up is asked of the machine.
pub(crate) struct Link<C: Connector> {
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
    pub(crate) fn new(connector: C, token: Token, ready: &Arc<ReadyList>) -> Self {
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
    pub(crate) fn handle_woken(&mut self) {
        self.source.serve();
        self.readable = true;
        self.writable = true;
    }

    /// Whether another turn would get on without being woken.
    pub(crate) fn has_work(&self, machine: &impl HasLink, now: Time) -> bool {
        match &self.state {
            State::Down => machine.link_wants_connect(now),
            State::Connecting(_) => self.readable || machine.link_wants_close(),
            State::Up(channel) => {
                (self.readable && machine.link_read_budget() > 0)
                    || (self.writable
                        && !channel.write_failed()
                        && machine.link_output().iter().any(|part| !part.is_empty()))
                    || machine.link_wants_close()
            }
        }
    }

    /// Dials when the machine wants it, and gives up or drops the stream when the machine wants that.
    pub(crate) fn drive(&mut self, machine: &mut impl HasLink, now: Time) {
        if machine.link_wants_close() && !matches!(self.state, State::Down) {
            match std::mem::replace(&mut self.state, State::Down) {
                State::Up(channel) => channel.abort(),
                State::Connecting(_) => self.tell_unreachable(&"no answer in time"),
                State::Down => {}
            }
            machine.handle_link_closed(now, Closed::ByEdge);
        }
        if matches!(self.state, State::Down) && machine.link_wants_connect(now) {
            machine.handle_link_connecting(now);
            self.state = State::Connecting(self.connector.connect());
            self.readable = true;
        }
        if let State::Connecting(attempt) = &mut self.state
            && self.readable
        {
            match attempt.as_mut().poll(&mut Context::from_waker(&self.waker)) {
                Poll::Pending => self.readable = false,
                Poll::Ready(Ok(stream)) => {
                    self.state = State::Up(WatchedChannel::new(stream));
                    self.readable = true;
                    self.writable = true;
                    self.warned = false;
                    machine.handle_link_connected(now);
                }
                Poll::Ready(Err(error)) => {
                    self.state = State::Down;
                    self.tell_unreachable(&error);
                    machine.handle_link_closed(now, Closed::Error);
                }
            }
        }
    }

    fn tell_unreachable(&mut self, error: &dyn fmt::Display) {
        if std::mem::replace(&mut self.warned, true) {
            debug!(%error, "the backend cannot be reached");
        } else {
            warn!(%error, "the backend cannot be reached, trying on");
        }
    }

    /// Reads what has come, within the machine's budget.
    pub(crate) fn read(&mut self, machine: &mut impl HasLink, now: Time, buffer: &mut [u8]) {
        for _ in 0..READS_PER_TURN {
            let State::Up(channel) = &mut self.state else {
                return;
            };
            let budget = machine.link_read_budget().min(buffer.len());
            if !self.readable || budget == 0 {
                return;
            }
            match channel.read(&mut Context::from_waker(&self.waker), &mut buffer[..budget]) {
                Read::Blocked => self.readable = false,
                Read::Bytes(bytes) => machine.handle_link_bytes(now, &buffer[..bytes]),
                Read::Eof => self.lose(machine, now, Closed::Eof),
                Read::Failed => self.lose(machine, now, Closed::Error),
            }
        }
    }

    /// When [`handle_time`](Self::handle_time) has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        match &self.state {
            State::Up(channel) => channel.next_look(),
            State::Down | State::Connecting(_) => None,
        }
    }

    /// Drops the stream when the backend acknowledges nothing any more.
    pub(crate) fn handle_time(&mut self, machine: &mut impl HasLink, now: Time) {
        if let State::Up(channel) = &mut self.state
            && channel.is_given_up(now)
        {
            if let State::Up(channel) = std::mem::replace(&mut self.state, State::Down) {
                channel.abort();
            }
            machine.handle_link_closed(now, Closed::Error);
        }
    }

    /// Writes what the machine has for the backend.
    pub(crate) fn write(&mut self, machine: &mut impl HasLink, now: Time) {
        for _ in 0..WRITES_PER_TURN {
            let State::Up(channel) = &mut self.state else {
                return;
            };
            if !self.writable {
                return;
            }
            match channel.write(
                &mut Context::from_waker(&self.waker),
                now,
                machine.link_output(),
            ) {
                Written::Nothing => return,
                Written::Blocked => self.writable = false,
                Written::Bytes(bytes) => machine.handle_link_written(now, bytes),
                Written::Failed => self.readable = true,
            }
        }
    }

    /// Ends the stream in order once the machine is finished; the caller bounds the wait.
    pub(crate) fn poll_finish(&mut self, buffer: &mut [u8]) -> Poll<()> {
        let State::Up(channel) = &mut self.state else {
            return Poll::Ready(());
        };
        channel.poll_finish(&mut Context::from_waker(&self.waker), buffer)
    }

    fn lose(&mut self, machine: &mut impl HasLink, now: Time, cause: Closed) {
        self.state = State::Down;
        machine.handle_link_closed(now, cause);
    }
}
