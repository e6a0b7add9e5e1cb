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
        if self.poller.take_wake() {
            let _entered = Entered::new(Arc::clone(&self.poller));
            if let Poll::Ready(output) = future.poll(&mut Context::from_waker(&self.waker)) {
                return Poll::Ready(output);
            }
        }
        if !self.poller.become_waiting() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
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
