//! Asks a driver from any thread to shut down, or to change its configuration.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Asks a driver to shut down, or to change its configuration, a `C`. Cheap to clone, and harmless if it outlives the driver.
pub struct Handle<C> {
    shared: Arc<Mutex<Asked<C>>>,
    /// The driver's waker.
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
    /// Whether a request is not complete yet.
    is_open: bool,
    /// Woken when it is complete.
    asker: Option<Waker>,
}

/// The pending requests to a driver.
pub(crate) struct Requests<C> {
    pub(crate) config: Option<Box<C>>,
    pub(crate) shutdown: Option<Duration>,
    /// How long clients are served that were asked to leave.
    pub(crate) leaving: Option<Duration>,
    /// Addresses at which the process has begun to listen.
    pub(crate) own: Vec<SocketAddr>,
}

impl<C> Requests<C> {
    const NONE: Requests<C> = Requests {
        config: None,
        shutdown: None,
        leaving: None,
        own: Vec::new(),
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

    /// Shuts the driver down in order.
    ///
    /// Nothing more is accepted or read from clients, queued data is handed over within `within`, everything is closed, and the driver's
    /// future completes. That takes at most this time, plus at most 100 ms if the backend does not close its end. If called more than once,
    /// the first time applies.
    pub fn shutdown(&self, within: Duration) {
        self.ask(|requests| requests.shutdown = Some(within));
    }

    /// Accepts nobody any more, and asks all clients that it can ask to leave within this time, each at another instant (SPEC 9.8(d)). They
    /// are served until then. A [`shutdown`](Self::shutdown) is to follow.
    pub fn leave(&self, within: Duration) {
        self.ask(|requests| requests.leaving = Some(within));
    }

    /// Makes the machine use `config` as a whole from its next turn on (SPEC 10.8). If called again before that turn, the later one
    /// applies.
    pub fn reconfigure(&self, config: C) {
        self.ask(|requests| requests.config = Some(Box::new(config)));
    }

    /// Refuses links to these addresses, too, at which the process has begun to listen since the driver was made.
    pub fn refuse(&self, own: impl IntoIterator<Item = SocketAddr>) {
        self.ask(|requests| requests.own.extend(own));
    }

    /// Ready when everything that was requested is in effect, or the driver is gone. Until then the waker of `cx` is registered.
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

    /// Takes the pending requests. The driver calls [`done`](Self::done) once they are in effect.
    pub(crate) fn take(&self) -> Requests<C> {
        std::mem::replace(&mut self.lock().requests, Requests::NONE)
    }

    /// Reports that the requests last taken are in effect.
    pub(crate) fn done(&self) {
        let mut asked = self.lock();
        let Requests {
            config,
            shutdown,
            leaving,
            own,
        } = &asked.requests;
        if config.is_some() || shutdown.is_some() || leaving.is_some() || !own.is_empty() {
            // More was requested meanwhile.
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
        // Every change leaves the state consistent even if something panics.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
