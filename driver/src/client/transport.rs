//! The connection of a client, and the ways to it.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use voltlane_core::Time;
use voltlane_core::client as machine;

use crate::io::{Read, Written};
use crate::watch::WatchedChannel;
use crate::{BoxedConnector, BoxedStream, Connect, Connector as _, Stream as _};

/// How long a connection that ends in order may take to end.
const FINISH_WITHIN: Duration = Duration::from_secs(1);

enum Phase {
    Down,
    Connecting(Connect<BoxedStream>),
    Up(WatchedChannel<BoxedStream>),
    /// Everything was written, and the other end is waited for.
    Finishing(WatchedChannel<BoxedStream>, Time),
}

pub(super) struct Transport {
    connectors: Vec<BoxedConnector>,
    /// The connector that is used.
    at: usize,
    /// Whether the edge at this connection has taken the session up.
    is_taken_up: bool,
    phase: Phase,
    /// Why the last attempt failed, or what it needed could not be stored, until there is another one.
    pub(super) error: Option<Arc<io::Error>>,
    /// What the last connection said at its end, until there is another attempt.
    pub(super) words: Option<String>,
}

impl Transport {
    pub(super) fn new(connectors: Vec<BoxedConnector>) -> Self {
        Transport {
            connectors,
            at: 0,
            is_taken_up: false,
            phase: Phase::Down,
            error: None,
            words: None,
        }
    }

    /// Begins or continues to connect. Returns true if something changed.
    pub(super) fn connect_on(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        machine: &mut machine::Client,
        entropy: &mut impl FnMut() -> [u8; 32],
    ) -> bool {
        if matches!(self.phase, Phase::Down) && machine.wants_connect(now) {
            (self.error, self.words) = (None, None);
            let connector = &mut self.connectors[self.at];
            self.phase = Phase::Connecting(connector.connect());
        }
        let Phase::Connecting(attempt) = &mut self.phase else {
            return false;
        };
        match attempt.as_mut().poll(cx) {
            Poll::Pending => return false,
            Poll::Ready(Ok(stream)) => {
                self.phase = Phase::Up(WatchedChannel::new(stream));
                self.is_taken_up = false;
                machine.handle_connected(now, entropy());
            }
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "the edge cannot be reached");
                self.error = Some(Arc::new(error));
                self.phase = Phase::Down;
                self.turn();
                machine.handle_connect_failed(now);
            }
        }
        true
    }

    /// Handles that the edge has taken the session up: the next attempt goes to it again.
    pub(super) fn taken_up(&mut self) {
        self.is_taken_up = true;
    }

    /// The next attempt goes to the next address. (SPEC 44.8)
    fn turn(&mut self) {
        self.at = (self.at + 1) % self.connectors.len();
    }

    /// Writes once. Returns true if something changed.
    pub(super) fn write(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        machine: &mut machine::Client,
    ) -> bool {
        let Phase::Up(channel) = &mut self.phase else {
            return false;
        };
        match channel.write(cx, now, [machine.output(), &[]]) {
            Written::Nothing => channel.flush_fails(cx),
            Written::Blocked => false,
            Written::Failed => true,
            Written::Bytes(bytes) => {
                machine.handle_written(now, bytes);
                true
            }
        }
    }

    /// Reads once.
    pub(super) fn read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Read {
        match &mut self.phase {
            Phase::Up(channel) => channel.read(cx, buffer),
            _ => Read::Blocked,
        }
    }

    /// Returns whether the connection takes no more, and is to be read to its end.
    pub(super) fn is_broken(&self) -> bool {
        matches!(&self.phase, Phase::Up(channel) if channel.write_failed())
    }

    /// Returns whether it holds bytes that were written and are not sent.
    pub(super) fn holds(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.phase {
            Phase::Up(channel) => channel.holds(cx),
            _ => false,
        }
    }

    /// Returns whether the edge has acknowledged nothing for so long that it is given up. The connection is gone then.
    pub(super) fn gives_up(&mut self, now: Time) -> bool {
        let gives_up = match &mut self.phase {
            Phase::Up(channel) => channel.is_given_up(now),
            _ => false,
        };
        if gives_up && let Phase::Up(channel) = std::mem::replace(&mut self.phase, Phase::Down) {
            channel.abort();
        }
        gives_up
    }

    /// Ends the connection in order, behind what was written. Returns `Ready` once it has ended or there is none.
    pub(super) fn poll_finish(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        buffer: &mut [u8],
    ) -> Poll<()> {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Down) {
            Phase::Up(channel) => Phase::Finishing(channel, now + FINISH_WITHIN),
            phase => phase,
        };
        match &mut self.phase {
            Phase::Finishing(_, until) if *until <= now => Poll::Ready(()),
            Phase::Finishing(channel, _) => channel.poll_finish(cx, buffer),
            _ => Poll::Ready(()),
        }
    }

    /// Drops the connection.
    pub(super) fn lose(&mut self) {
        match std::mem::replace(&mut self.phase, Phase::Down) {
            Phase::Up(channel) | Phase::Finishing(channel, _) => {
                self.words = channel.stream().parting_words();
                if !self.is_taken_up {
                    // It said that it does not have the session, or nothing.
                    self.turn();
                }
            }
            // An attempt that took too long.
            Phase::Connecting(_) => self.turn(),
            Phase::Down => {}
        }
    }

    /// Returns when something is to be done even if nothing happens.
    pub(super) fn deadline(&self) -> Option<Time> {
        match &self.phase {
            Phase::Up(channel) => channel.next_look(),
            Phase::Finishing(_, until) => Some(*until),
            Phase::Down | Phase::Connecting(_) => None,
        }
    }
}
