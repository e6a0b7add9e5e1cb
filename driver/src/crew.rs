//! The threads that serve the shards of a process and their trunk.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};

use crate::register::register;

/// A future that serves a shard, or the trunk of several.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Threads that run tasks to their ends.
#[derive(Debug)]
pub struct Crew {
    end: Arc<End>,
    threads: Vec<JoinHandle<()>>,
}

/// Counts the running threads, and wakes the task that waits for their end.
#[derive(Debug, Default)]
struct End(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    running: usize,
    /// The first failure of a thread.
    failure: Option<io::Error>,
    waiter: Option<Waker>,
}

impl End {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment, so a poisoned lock is safe to use.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts one running thread until it is dropped.
struct Running(Arc<End>);

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.running -= 1;
        if thread::panicking() {
            let panicked = || io::Error::other("the thread of a shard panicked");
            state.failure.get_or_insert_with(panicked);
        }
        let waiter = state.waiter.take();
        drop(state);
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}

impl Crew {
    /// Creates a crew without threads.
    #[must_use]
    pub fn new() -> Self {
        Crew {
            end: Arc::default(),
            threads: Vec::new(),
        }
    }

    /// Starts a thread with this name that calls `run`.
    ///
    /// # Errors
    /// When the system cannot start a thread. Threads started before keep running.
    pub fn start(
        &mut self,
        name: String,
        run: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        self.end.lock().running += 1;
        let running = Running(Arc::clone(&self.end));
        let thread = thread::Builder::new().name(name).spawn(move || {
            let running = running;
            if let Err(error) = run() {
                running.0.lock().failure.get_or_insert(error);
            }
        })?;
        self.threads.push(thread);
        Ok(())
    }

    /// Creates a crew in which each task has a thread of its own: the `shards`, and the `trunk` that joins them. `run` runs a task to its end.
    ///
    /// # Errors
    /// When the system cannot start a thread.
    pub fn of_threads(
        shards: Vec<Task>,
        trunk: Task,
        run: fn(Task) -> io::Result<()>,
    ) -> io::Result<Crew> {
        let mut crew = Crew::new();
        for (number, task) in shards.into_iter().enumerate() {
            crew.start(format!("shard-{number}"), move || run(task))?;
        }
        crew.start("trunk".to_string(), move || run(trunk))?;
        Ok(crew)
    }

    /// Ready when all threads have ended, or with the first error of one that failed. Until then the waker of `cx` is registered.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.end.lock();
        if let Some(error) = state.failure.take() {
            return Poll::Ready(Err(error));
        }
        if state.running > 0 {
            register(&mut state.waiter, cx.waker());
            return Poll::Pending;
        }
        drop(state);
        for thread in self.threads.drain(..) {
            // The thread has reported its end, so this does not wait. A panic was returned as a failure.
            let _ = thread.join();
        }
        Poll::Ready(Ok(()))
    }
}

impl Default for Crew {
    fn default() -> Self {
        Crew::new()
    }
}

#[cfg(all(test, feature = "edge"))]
mod tests {
    use super::*;
    use crate::wakes::Wakes;
    use std::sync::mpsc;

    #[test]
    fn it_ends_when_all_have_ended_and_fails_when_one_fails() {
        let wakes = Arc::<Wakes>::default();
        let waker = Waker::from(Arc::clone(&wakes));
        let cx = &mut Context::from_waker(&waker);
        for fails in [false, true] {
            let mut crew = Crew::new();
            let (stop, stopped) = mpsc::channel::<()>();
            crew.start("first".to_string(), move || {
                let _ = stopped.recv();
                if fails {
                    return Err(io::Error::other("no more descriptors"));
                }
                Ok(())
            })
            .unwrap();
            let (stop_second, stopped) = mpsc::channel::<()>();
            crew.start("second".to_string(), move || {
                let _ = stopped.recv();
                Ok(())
            })
            .unwrap();
            assert!(crew.poll_end(cx).is_pending());
            let before = wakes.count();
            drop(stop);
            while wakes.count() == before {
                thread::yield_now();
            }
            if fails {
                let Poll::Ready(Err(error)) = crew.poll_end(cx) else {
                    panic!("it failed");
                };
                assert_eq!(error.to_string(), "no more descriptors");
                continue;
            }
            assert!(crew.poll_end(cx).is_pending(), "the second runs on");
            let before = wakes.count();
            drop(stop_second);
            while wakes.count() == before {
                thread::yield_now();
            }
            assert!(matches!(crew.poll_end(cx), Poll::Ready(Ok(()))));
        }
    }
}
