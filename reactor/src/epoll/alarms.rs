//! When somebody wants to be woken.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::current;
use super::poller::Poller;
use crate::Alarm;

/// Names an alarm that was set, and puts it in order.
pub(super) type Key = (Instant, u64);

/// The alarms of a thread, which are as many as its future has clocks.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    set: BTreeMap<Key, Waker>,
    next_number: u64,
}

impl Alarms {
    /// When the first one is to go off.
    pub(super) fn next(&self) -> Option<Instant> {
        self.set.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes those out whose time has come.
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

    /// Gives back who waited for it, to be dropped outside of any lock.
    pub(super) fn remove(&mut self, key: Key) -> Option<Waker> {
        self.set.remove(&key)
    }
}

/// An alarm of the reactor of the thread that it is first polled on.
///
/// # Panics
/// It panics when it is polled outside of a reactor's future and has to wait.
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
