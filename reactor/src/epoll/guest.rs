//! The reactor under a runtime that waits for it.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::Entered;
use super::poller::{Poller, Wait};

/// The reactor of one future that another runtime runs, on one thread.
///
/// For the host it is one descriptor, which is readable when something happened to any of the sockets: so the host waits for one thing, and
/// does not have each of them in its books. Whenever it is readable the host lets it [`look`](Guest::look); after that, and whenever it
/// was asked to, it [polls](Guest::poll) the future.
pub struct Guest {
    poller: Arc<Poller>,
    waker: Waker,
    wait: Wait,
}

impl Guest {
    /// A reactor without sockets.
    ///
    /// # Errors
    /// When the system does not give what it takes.
    pub fn new() -> io::Result<Self> {
        let poller = Arc::new(Poller::new()?);
        Ok(Guest {
            waker: Waker::from(Arc::clone(&poller)),
            poller,
            wait: Wait::default(),
        })
    }

    /// Takes note of what happened, without waiting. True if there may be more.
    ///
    /// # Errors
    /// When the system does not say what happened.
    pub fn look(&mut self) -> io::Result<bool> {
        self.poller.look(&mut self.wait)
    }

    /// Polls the future if it was woken. When that has more to do right away, the waker of `cx` is woken; all other wakes make the
    /// descriptor readable.
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

    /// Polls the future if it was woken; `None` if it was not. For a host that looks several times before it waits, and says with
    /// [`rest`](Guest::rest) that it is about to.
    pub fn poll_woken<F: Future>(&mut self, future: Pin<&mut F>) -> Option<Poll<F::Output>> {
        if !self.poller.take_wake() {
            return None;
        }
        let _entered = Entered::new(Arc::clone(&self.poller));
        Some(future.poll(&mut Context::from_waker(&self.waker)))
    }

    /// From now on each wake makes the descriptor readable. False if the future was woken since it was polled.
    #[must_use]
    pub fn rest(&mut self) -> bool {
        self.poller.become_waiting()
    }

    /// What the host waits for, apart from the guest.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor(Arc::clone(&self.poller))
    }
}

/// The descriptor of a [`Guest`]. It stays open for as long as either of them lives.
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
