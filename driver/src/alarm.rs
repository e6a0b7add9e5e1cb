//! A driver's clock, and its alarm: a source like any other, woken when its time has come.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use voltlane_core::Time;

use crate::Timer;
use crate::waker::{ReadyList, SourceWaker, Token};

/// A [`Timer`] whose waker puts a token on the driver's list.
pub(crate) struct Alarm<T> {
    timer: T,
    source: Arc<SourceWaker>,
    waker: Waker,
    /// The deadline that the waker is registered for.
    armed: Option<Time>,
}

impl<T: Timer> Alarm<T> {
    /// An alarm that is not set.
    pub(crate) fn new(timer: T, token: Token, ready: &Arc<ReadyList>) -> Self {
        let source = SourceWaker::new(token, ready);
        Alarm {
            timer,
            waker: Waker::from(Arc::clone(&source)),
            source,
            armed: None,
        }
    }

    /// The time.
    pub(crate) fn now(&self) -> Time {
        self.timer.now()
    }

    /// Its token was woken.
    pub(crate) fn handle_woken(&mut self) {
        self.source.serve();
        self.armed = None;
    }

    /// Sets it, in place of what it was set to, unless it is set to that already; with no deadline it stays as it is. Ready if the time has
    /// come.
    pub(crate) fn poll_set(&mut self, deadline: Option<Time>) -> Poll<()> {
        let Some(at) = deadline else {
            return Poll::Pending;
        };
        if self.armed == Some(at) {
            return Poll::Pending;
        }
        let polled = self
            .timer
            .poll_until(&mut Context::from_waker(&self.waker), at);
        self.armed = polled.is_pending().then_some(at);
        polled
    }
}
