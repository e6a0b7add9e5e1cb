//! Accepting, and what to do when that fails.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tracing::warn;
use voltlane_core::Time;

use crate::Listener;

const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
const WARN_EVERY: Duration = Duration::from_secs(5);
/// Connections that died in the backlog, skipped in one call.
const SKIPS_PER_POLL: usize = 16;

/// A listener that never ends and never spins. A connection that died before it was accepted is skipped; when the
/// system is out of something (descriptors, memory), accepting rests for 10 ms, doubling to 1 s, and one line each 5 s
/// says why.
pub(crate) struct Acceptor<L> {
    listener: L,
    /// How long the next failure rests.
    backoff: Duration,
    rests_until: Option<Time>,
    warned_at: Option<Time>,
}

impl<L: Listener> Acceptor<L> {
    pub(crate) fn new(listener: L) -> Self {
        Acceptor {
            listener,
            backoff: BACKOFF_MIN,
            rests_until: None,
            warned_at: None,
        }
    }

    /// Until when nothing is accepted. The caller wakes itself then: the waker is not registered while it rests.
    pub(crate) fn rests_until(&self) -> Option<Time> {
        self.rests_until
    }

    /// The next connection.
    pub(crate) fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
    ) -> Poll<(L::Stream, SocketAddr)> {
        if self.rests_until.is_some_and(|until| now < until) {
            return Poll::Pending;
        }
        self.rests_until = None;
        for _ in 0..SKIPS_PER_POLL {
            match ready!(self.listener.poll_accept(cx)) {
                Ok(accepted) => {
                    self.backoff = BACKOFF_MIN;
                    return Poll::Ready(accepted);
                }
                Err(error) if died_in_the_backlog(&error) => {}
                Err(error) => {
                    self.rest(now, &error);
                    return Poll::Pending;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn rest(&mut self, now: Time, error: &io::Error) {
        self.rests_until = Some(now + self.backoff);
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        if self.warned_at.is_none_or(|at| now.since(at) >= WARN_EVERY) {
            self.warned_at = Some(now);
            warn!(%error, "cannot accept connections for the moment");
        }
    }
}

fn died_in_the_backlog(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted
    )
}
