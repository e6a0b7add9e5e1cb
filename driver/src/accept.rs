//! Accepts connections, and handles failures to accept.

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
/// The maximum number of connections that died in the backlog and are skipped in one call.
const SKIPS_PER_POLL: usize = 16;

/// A listener that never ends and never spins.
///
/// A connection that died before it was accepted is skipped. When the system runs out of a resource (descriptors, memory), accepting pauses
/// for 10 ms, doubling up to 1 s, and a log line gives the reason every 5 s. When it runs out of descriptors, connections waiting in the
/// backlog are turned away.
pub(crate) struct Acceptor<L> {
    listener: L,
    /// The pause after the next failure.
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

    /// Returns until when accepting pauses. The caller must wake itself then, as the waker is not registered meanwhile.
    pub(crate) fn rests_until(&self) -> Option<Time> {
        self.rests_until
    }

    /// Accepts the next connection.
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
                    if out_of_descriptors(&error) {
                        self.listener.shed();
                    }
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

/// Several listeners that take turns. A connection comes with the number of its listener.
pub(crate) struct Acceptors<L> {
    each: Vec<Acceptor<L>>,
    /// The listener whose turn it is.
    next: usize,
}

impl<L: Listener> Acceptors<L> {
    pub(crate) fn new(listener: L) -> Self {
        Acceptors {
            each: vec![Acceptor::new(listener)],
            next: 0,
        }
    }

    /// Takes all listeners out.
    #[cfg(feature = "backend")]
    pub(crate) fn take(&mut self) -> Self {
        Acceptors {
            each: std::mem::take(&mut self.each),
            next: 0,
        }
    }

    /// Adds a listener.
    pub(crate) fn push(&mut self, listener: L) {
        self.each.push(Acceptor::new(listener));
    }

    /// Returns the sockets of all listeners, with their numbers.
    #[cfg(all(feature = "upgrade", unix))]
    pub(crate) fn sockets(&self) -> impl Iterator<Item = (usize, std::os::fd::BorrowedFd<'_>)> {
        let each = self.each.iter().map(|acceptor| &acceptor.listener);
        each.filter_map(|listener| Some((listener.number(), listener.socket()?)))
    }

    /// Closes the listeners of this number.
    #[cfg(feature = "edge")]
    pub(crate) fn remove(&mut self, number: usize) {
        self.each
            .retain(|acceptor| acceptor.listener.number() != number);
        self.next = 0;
    }

    /// Closes all listeners.
    #[cfg(feature = "edge")]
    pub(crate) fn close(&mut self) {
        self.each.clear();
    }

    #[cfg(feature = "edge")]
    pub(crate) fn is_closed(&self) -> bool {
        self.each.is_empty()
    }

    /// Returns when the first paused listener continues. The caller must wake itself then.
    pub(crate) fn rests_until(&self) -> Option<Time> {
        self.each.iter().filter_map(Acceptor::rests_until).min()
    }

    /// Accepts the next connection of any listener. After a listener with a connection it is the next one's turn, so that a storm at one
    /// address does not delay clients at another.
    pub(crate) fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
    ) -> Poll<(L::Stream, SocketAddr, usize)> {
        for _ in 0..self.each.len() {
            let at = self.next;
            self.next = (at + 1) % self.each.len();
            let acceptor = &mut self.each[at];
            if let Poll::Ready((stream, source)) = acceptor.poll_accept(cx, now) {
                return Poll::Ready((stream, source, acceptor.listener.number()));
            }
        }
        Poll::Pending
    }
}

fn died_in_the_backlog(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted
    )
}

/// Returns whether the process or the system has no descriptor left. There is no `ErrorKind` for that.
#[cfg(unix)]
fn out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

#[cfg(not(unix))]
fn out_of_descriptors(_: &io::Error) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::silent::Silent;

    /// Fails with an error number for as long as it is set.
    struct Failing {
        error: i32,
        tried: usize,
        shed: usize,
        number: usize,
    }

    impl Listener for Failing {
        type Stream = Silent;

        fn poll_accept(&mut self, _: &mut Context<'_>) -> Poll<io::Result<(Silent, SocketAddr)>> {
            self.tried += 1;
            Poll::Ready(match self.error {
                0 => Ok((Silent, ([127, 0, 0, 1], 1).into())),
                error => Err(io::Error::from_raw_os_error(error)),
            })
        }

        fn number(&self) -> usize {
            self.number
        }

        fn shed(&mut self) {
            self.shed += 1;
        }
    }

    fn acceptor(error: i32) -> Acceptor<Failing> {
        Acceptor::new(Failing {
            error,
            tried: 0,
            shed: 0,
            number: 0,
        })
    }

    fn poll(acceptor: &mut Acceptor<Failing>, millis: u64) -> bool {
        let cx = &mut Context::from_waker(Waker::noop());
        acceptor
            .poll_accept(cx, Time::from_millis(millis))
            .is_ready()
    }

    #[cfg(unix)]
    #[test]
    fn without_descriptors_it_turns_away_rests_longer_and_longer_and_recovers_within_a_second() {
        let mut acceptor = acceptor(libc::EMFILE);
        for millis in 0..10_000 {
            assert!(!poll(&mut acceptor, millis));
        }
        // 10, 20, 40 … 640 ms, then each second.
        assert_eq!(acceptor.listener.tried, 7 + 9);
        assert_eq!(acceptor.listener.shed, acceptor.listener.tried);
        acceptor.listener.error = 0;
        assert!((10_000..=11_000).any(|millis| poll(&mut acceptor, millis)));
        assert!(poll(&mut acceptor, 11_001), "and goes on at once");
    }

    #[cfg(unix)]
    #[test]
    fn a_connection_that_died_in_the_backlog_is_skipped_without_a_rest() {
        let mut acceptor = acceptor(libc::ECONNABORTED);
        assert!(!poll(&mut acceptor, 0));
        assert_eq!((acceptor.rests_until(), acceptor.listener.shed), (None, 0));
        assert_eq!(
            acceptor.listener.tried, SKIPS_PER_POLL,
            "and it does not spin"
        );
    }

    #[cfg(all(unix, feature = "edge"))]
    #[test]
    fn listeners_take_turns_and_one_that_fails_holds_no_other_up() {
        let failing = |error| Failing {
            error,
            tried: 0,
            shed: 0,
            number: 0,
        };
        let mut acceptors = Acceptors::new(failing(0));
        acceptors.push(Failing {
            number: 7,
            ..failing(0)
        });
        let cx = &mut Context::from_waker(Waker::noop());
        let now = Time::from_millis(5);
        for _ in 0..10 {
            assert!(acceptors.poll_accept(cx, now).is_ready());
        }
        let tried = |acceptors: &Acceptors<Failing>, at: usize| acceptors.each[at].listener.tried;
        assert_eq!([tried(&acceptors, 0), tried(&acceptors, 1)], [5, 5]);
        // One of them fails for lack of memory for a socket.
        acceptors.each[0].listener.error = libc::ENOMEM;
        for _ in 0..10 {
            assert!(acceptors.poll_accept(cx, now).is_ready());
        }
        assert_eq!([tried(&acceptors, 0), tried(&acceptors, 1)], [6, 15]);
        assert_eq!(acceptors.rests_until(), Some(now + BACKOFF_MIN));
        acceptors.remove(0);
        for _ in 0..3 {
            let accepted = acceptors.poll_accept(cx, now);
            assert!(matches!(accepted, Poll::Ready((_, _, 7))));
        }
        assert!(!acceptors.is_closed());
        acceptors.close();
        assert!(acceptors.is_closed());
        assert!(acceptors.poll_accept(cx, now).is_pending());
        assert_eq!(acceptors.rests_until(), None);
    }
}
