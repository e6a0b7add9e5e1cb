//! How a driver is asked to end, or to go on with another configuration, from any thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Asks a driver to end, or to go on with another configuration, a `C`. Cheap to clone; outliving the driver is harmless.
pub struct Handle<C> {
    shared: Arc<Mutex<Asked<C>>>,
    /// The driver's.
    waker: Waker,
}

impl<C> Clone for Handle<C> {
    fn clone(&self) -> Self {
        Handle {
            shared: Arc::clone(&self.shared),
            waker: self.waker.clone(),
        }
    }
}

struct Asked<C> {
    requests: Requests<C>,
    /// Something was asked and is not done yet.
    is_open: bool,
    /// Woken when it is.
    asker: Option<Waker>,
}

/// What a driver was asked and has not done yet.
pub(crate) struct Requests<C> {
    pub(crate) config: Option<Box<C>>,
    pub(crate) shutdown: Option<Duration>,
}

impl<C> Requests<C> {
    const NONE: Requests<C> = Requests {
        config: None,
        shutdown: None,
    };
}

impl<C> Handle<C> {
    pub(crate) fn new(waker: Waker) -> Self {
        let asked = Asked {
            requests: Requests::NONE,
            is_open: false,
            asker: None,
        };
        Handle {
            shared: Arc::new(Mutex::new(asked)),
            waker,
        }
    }

    /// Ends it in order: nothing more is accepted or read from clients, what is queued is handed over within `within`, all is closed,
    /// and the driver's future completes: within that time, and at most 100 ms beyond it where the backend does not close its end.
    /// Asked again, the first time counts.
    pub fn shutdown(&self, within: Duration) {
        self.ask(|requests| requests.shutdown = Some(within));
    }

    /// From its next turn on the machine goes by `config`, whole (SPEC 10.8). Asked again before that turn, the later one counts.
    pub fn reconfigure(&self, config: C) {
        self.ask(|requests| requests.config = Some(Box::new(config)));
    }

    /// Ready when all that was asked is in effect, or the driver is gone; until then the waker of `cx` is registered.
    pub fn poll_done(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut asked = self.lock();
        if !asked.is_open {
            return Poll::Ready(());
        }
        asked.asker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn ask(&self, ask: impl FnOnce(&mut Requests<C>)) {
        let mut asked = self.lock();
        ask(&mut asked.requests);
        asked.is_open = true;
        drop(asked);
        self.waker.wake_by_ref();
    }

    /// What the driver is to do now. It says when that is [done](Self::done).
    pub(crate) fn take(&self) -> Requests<C> {
        std::mem::replace(&mut self.lock().requests, Requests::NONE)
    }

    /// What was taken last is in effect.
    pub(crate) fn done(&self) {
        let mut asked = self.lock();
        if asked.requests.config.is_some() || asked.requests.shutdown.is_some() {
            // More was asked meanwhile.
            return;
        }
        asked.is_open = false;
        let asker = asked.asker.take();
        drop(asked);
        if let Some(asker) = asker {
            asker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Asked<C>> {
        // Every change leaves it whole wherever a panic may strike.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
