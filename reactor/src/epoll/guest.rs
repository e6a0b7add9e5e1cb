//! The reactor as the guest of another runtime.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::Entered;
use super::poller::{Poller, Wait};

/// A reactor for one future, hosted by another runtime on one thread.
///
/// The host sees one descriptor, which is readable when an event is pending for any of the sockets. So it waits for one thing and keeps no
/// record of each socket. When the descriptor is readable, the host calls [`look`](Guest::look). After that, and whenever its own waker was
/// called, it calls [`poll`](Guest::poll).
pub struct Guest {
    poller: Arc<Poller>,
    waker: Waker,
    wait: Wait,
}

impl Guest {
    /// Creates a reactor without sockets.
    ///
    /// # Errors
    /// When the system refuses a descriptor that the reactor needs.
    pub fn new() -> io::Result<Self> {
        let poller = Arc::new(Poller::new()?);
        Ok(Guest {
            waker: Waker::from(Arc::clone(&poller)),
            poller,
            wait: Wait::default(),
        })
    }

    /// Collects pending events without waiting. Returns true if there may be more.
    ///
    /// # Errors
    /// When `epoll_wait` fails.
    pub fn look(&mut self) -> io::Result<bool> {
        self.poller.look(&mut self.wait)
    }

    /// Polls the future if it was woken.
    ///
    /// If the future wakes itself meanwhile, the waker of `cx` is called. All other wakes make the descriptor readable.
    pub fn poll<F: Future>(
        &mut self,
        future: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<F::Output> {
        if let Some(Poll::Ready(output)) = self.poll_woken(future) {
            return Poll::Ready(output);
        }
        if !self.rest() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Polls the future if it was woken; returns `None` if it was not.
    ///
    /// This is for a host that looks several times before it waits. It calls [`rest`](Guest::rest) when it is about to wait.
    pub fn poll_woken<F: Future>(&mut self, future: Pin<&mut F>) -> Option<Poll<F::Output>> {
        if !self.poller.take_wake() {
            return None;
        }
        let _entered = Entered::new(Arc::clone(&self.poller));
        Some(future.poll(&mut Context::from_waker(&self.waker)))
    }

    /// Makes each wake from now on turn the descriptor readable. Returns false if the future was woken since it was last polled.
    #[must_use]
    pub fn rest(&mut self) -> bool {
        self.poller.become_waiting()
    }

    /// Returns the descriptor that the host waits for, separate from the guest.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor(Arc::clone(&self.poller))
    }
}

/// The descriptor of a [`Guest`]. It stays open as long as either of the two lives.
pub struct Descriptor(Arc<Poller>);

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Descriptor").field(&self.as_fd()).finish()
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest").finish_non_exhaustive()
    }
}

impl AsFd for Guest {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}

impl AsRawFd for Guest {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
