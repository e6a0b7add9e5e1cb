//! Wakers that tell which of many sources is ready.
//!
//! A driver that owns a thousand streams in one future must not poll all of them to find the one that woke it. Each source gets a waker of
//! its own, which puts a token on a shared list and wakes the driver's task when the list becomes non-empty: once for a whole batch of
//! ready sources.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// Identifies a source within one driver.
pub(crate) type Token = u32;

/// The tokens woken since they were last taken, each at most once.
#[derive(Default)]
pub(crate) struct ReadyList {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    woken: Vec<Token>,
    /// The driver's task. Taken when it is woken, and set again by its next turn.
    task: Option<Waker>,
}

impl ReadyList {
    /// Makes wakes go to `task` from now on.
    pub(crate) fn register(&self, task: &Waker) {
        let mut state = self.lock();
        let current = state.task.get_or_insert_with(|| task.clone());
        current.clone_from(task);
    }

    /// Moves the woken tokens into `into`, which is empty and lends its capacity in return.
    pub(crate) fn take(&self, into: &mut Vec<Token>) {
        debug_assert!(
            into.is_empty(),
            "a batch is served before the next is taken"
        );
        std::mem::swap(&mut self.lock().woken, into);
    }

    fn push(&self, token: Token) {
        let task = {
            let mut state = self.lock();
            state.woken.push(token);
            if state.woken.len() == 1 {
                state.task.take()
            } else {
                None
            }
        };
        // Outside of the lock, since a foreign waker may do anything.
        if let Some(task) = task {
            task.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A push or a swap leaves the list consistent even if something panics, so poison has no meaning.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The waker of one source.
pub(crate) struct SourceWaker {
    token: Token,
    /// Whether the token is on the list, or on the driver's own work queue.
    queued: AtomicBool,
    ready: Arc<ReadyList>,
}

impl SourceWaker {
    /// Creates a waker that puts `token` on `ready`.
    pub(crate) fn new(token: Token, ready: &Arc<ReadyList>) -> Arc<SourceWaker> {
        Arc::new(SourceWaker {
            token,
            queued: AtomicBool::new(false),
            ready: Arc::clone(ready),
        })
    }

    /// Marks the source as served: a wake from now on counts again.
    pub(crate) fn serve(&self) {
        self.queued.store(false, Ordering::Release);
    }

    /// Marks the token as queued by the driver. Returns false if it is queued or woken already.
    pub(crate) fn queue(&self) -> bool {
        !self.queued.swap(true, Ordering::AcqRel)
    }
}

impl Wake for SourceWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.queue() {
            self.ready.push(self.token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wakes::Wakes;

    fn taken(ready: &ReadyList) -> Vec<Token> {
        let mut tokens = Vec::new();
        ready.take(&mut tokens);
        tokens
    }

    #[test]
    fn a_batch_wakes_the_task_once_and_lists_each_source_once() {
        let ready = Arc::new(ReadyList::default());
        let task = Arc::new(Wakes::default());
        ready.register(&Waker::from(Arc::clone(&task)));
        let sources: Vec<_> = (0..3)
            .map(|token| SourceWaker::new(token, &ready))
            .collect();
        for source in sources.iter().chain(&sources) {
            Waker::from(Arc::clone(source)).wake_by_ref();
        }
        assert_eq!(task.count(), 1);
        assert_eq!(taken(&ready), [0, 1, 2]);
        assert_eq!(taken(&ready), []);
    }

    #[test]
    fn a_source_that_was_served_wakes_again() {
        let ready = Arc::new(ReadyList::default());
        let task = Arc::new(Wakes::default());
        let source = SourceWaker::new(7, &ready);
        for round in 1..=3 {
            ready.register(&Waker::from(Arc::clone(&task)));
            source.wake_by_ref();
            assert_eq!(taken(&ready), [7]);
            assert!(!source.queue(), "still counts as queued until it is served");
            source.serve();
            assert_eq!(task.count(), round);
        }
    }

    #[test]
    fn a_wake_while_the_driver_runs_is_not_lost() {
        let ready = Arc::new(ReadyList::default());
        let task = Arc::new(Wakes::default());
        ready.register(&Waker::from(Arc::clone(&task)));
        let (a, b) = (SourceWaker::new(1, &ready), SourceWaker::new(2, &ready));
        a.wake_by_ref();
        assert_eq!(taken(&ready), [1]);
        // The task was woken and has not registered again, so it is bound to run and finds the second token then.
        b.wake_by_ref();
        ready.register(&Waker::from(Arc::clone(&task)));
        assert_eq!(taken(&ready), [2]);
    }
}
