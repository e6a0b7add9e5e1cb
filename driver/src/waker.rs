//! Wakers that tell which of many sources is ready.
//!
//! A driver that owns a thousand streams in one future must not poll all of them to find the one that woke it. Each source gets a waker of
//! its own, which puts a token on a shared list and wakes the driver's task when the list becomes non-empty: once for a whole batch of
//! ready sources.
//!
//! `driver/tests/interleavings.rs` runs this file under loom as well.

use std::sync::Arc;
use std::task::{Wake, Waker};

use super::register::register;
use super::sync::{AtomicBool, Mutex, MutexGuard, Ordering, PoisonError};

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
        register(&mut state.task, task);
    }

    /// Moves the woken tokens into `into`, which is empty and lends its capacity in return.
    pub(crate) fn take(&self, into: &mut Vec<Token>) {
        debug_assert!(
            into.is_empty(),
            "a batch is served before the next is taken"
        );
        std::mem::swap(&mut self.lock().woken, into);
    }

    pub(crate) fn push(&self, token: Token) {
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
    ///
    /// A wake just before that is not listed again, so the caller must see what that wake was for. Hence a swap and not a store: it reads
    /// what the waker wrote, and with it all that came before.
    pub(crate) fn serve(&self) {
        self.queued.swap(false, Ordering::AcqRel);
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
