//! Alarms: who is to be woken, and when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::current;
use super::poller::Poller;
use crate::Alarm;

/// Identifies an alarm that was set. Keys sort by time.
pub(super) type Key = (Instant, u64);

/// The alarms of one thread. Their number is the number of clocks that its future has.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    set: BTreeMap<Key, Waker>,
    next_number: u64,
}

impl Alarms {
    /// Returns the time of the earliest alarm.
    pub(super) fn next(&self) -> Option<Instant> {
        self.set.first_key_value().map(|((at, _), _)| *at)
    }

    /// Removes the alarms that are due.
    pub(super) fn ring(&mut self, now: Instant, woken: &mut Vec<Waker>) {
        while let Some(first) = self.set.first_entry().filter(|first| first.key().0 <= now) {
            woken.push(first.remove());
        }
    }

    pub(super) fn insert(&mut self, at: Instant, waker: Waker) -> Key {
        let key = (at, self.next_number);
        self.next_number += 1;
        self.set.insert(key, waker);
        key
    }

    /// Returns the waker of the alarm, for the caller to drop outside of any lock.
    pub(super) fn remove(&mut self, key: Key) -> Option<Waker> {
        self.set.remove(&key)
    }
}

/// An alarm that belongs to the reactor of the thread on which it is first polled.
///
/// # Panics
/// Polling panics outside of a reactor's future if the alarm has to wait.
#[derive(Debug)]
pub struct EpollAlarm {
    at: Option<Instant>,
    poller: Option<Arc<Poller>>,
    set: Option<Key>,
}

impl EpollAlarm {
    fn unset(&mut self) {
        if let (Some(poller), Some(key)) = (&self.poller, self.set.take()) {
            poller.forget_alarm(key);
        }
    }
}

impl Alarm for EpollAlarm {
    fn never() -> Self {
        EpollAlarm {
            at: None,
            poller: None,
            set: None,
        }
    }

    fn set_at(&mut self, at: Instant) {
        self.unset();
        self.at = Some(at);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else {
            return Poll::Pending;
        };
        self.unset();
        if Instant::now() >= at {
            self.at = None;
            return Poll::Ready(());
        }
        let poller = self
            .poller
            .get_or_insert_with(|| current().expect("there is a reactor: this is in its future"));
        self.set = Some(poller.set_alarm(at, cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for EpollAlarm {
    fn drop(&mut self) {
        self.unset();
    }
}
