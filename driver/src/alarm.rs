//! A driver's clock and alarm. The alarm is a source like any other, woken when its time has come.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use voltlane_core::Time;

use crate::Timer;
use crate::waker::{ReadyList, SourceWaker, Token};

/// A [`Timer`] whose waker puts a token on the driver's ready list.
pub(crate) struct Alarm<T> {
    timer: T,
    source: Arc<SourceWaker>,
    waker: Waker,
    /// The deadline that the waker is registered for.
    armed: Option<Time>,
}

impl<T: Timer> Alarm<T> {
    /// Creates an alarm that is not set.
    pub(crate) fn new(timer: T, token: Token, ready: &Arc<ReadyList>) -> Self {
        let source = SourceWaker::new(token, ready);
        Alarm {
            timer,
            waker: Waker::from(Arc::clone(&source)),
            source,
            armed: None,
        }
    }

    /// Returns the time.
    pub(crate) fn now(&self) -> Time {
        self.timer.now()
    }

    /// Handles that its token was woken.
    pub(crate) fn handle_woken(&mut self) {
        self.source.serve();
        self.armed = None;
    }

    /// Sets the alarm to `deadline`, unless it is set to that already. Without a deadline it is left unchanged. Ready if the deadline has
    /// passed.
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
