//! Several trunks as one task: each is polled when it was woken, and none waits for another one.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tracing::{Span, error_span};

/// The trunks of several backends. It ends when all have ended.
pub(super) struct Together<F>(Vec<Trunk<F>>);

struct Trunk<F> {
    /// `None` once it has ended.
    task: Option<Pin<Box<F>>>,
    flag: Arc<Flag>,
    waker: Waker,
    /// Names the backend in the log.
    span: Span,
}

/// Whether a trunk was woken, and whom it wakes then.
struct Flag {
    is_woken: AtomicBool,
    whole: Mutex<Option<Waker>>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Whoever woke it first has woken the whole, which clears this before it polls.
        if self.is_woken.swap(true, Ordering::AcqRel) {
            return;
        }
        // One assignment, so it is consistent whatever panics.
        let whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(whole) = &*whole {
            whole.wake_by_ref();
        }
    }
}

impl<F: Future<Output = ()>> Together<F> {
    /// Creates the task of these trunks, each with the address of its backend.
    pub(super) fn new(trunks: Vec<(String, F)>) -> Self {
        let trunks = trunks.into_iter().map(|(address, task)| {
            let flag = Arc::new(Flag {
                is_woken: AtomicBool::new(true),
                whole: Mutex::new(None),
            });
            Trunk {
                task: Some(Box::pin(task)),
                waker: Waker::from(Arc::clone(&flag)),
                flag,
                // Of the highest level, so that each line has it.
                span: error_span!("backend", %address),
            }
        });
        Together(trunks.collect())
    }
}

impl<F: Future<Output = ()>> Future for Together<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut is_over = true;
        for trunk in &mut self.0 {
            let Some(task) = &mut trunk.task else {
                continue;
            };
            // It is there before the flag is cleared: a wake from now on finds it.
            let mut whole = trunk
                .flag
                .whole
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            voltlane_driver::register(&mut whole, cx.waker());
            drop(whole);
            if trunk.flag.is_woken.swap(false, Ordering::AcqRel) {
                let _entered = trunk.span.enter();
                let polled = task.as_mut().poll(&mut Context::from_waker(&trunk.waker));
                if polled.is_ready() {
                    trunk.task = None;
                    continue;
                }
            }
            is_over = false;
        }
        match is_over {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Counts its polls, and ends when it is told.
    struct Counted {
        polls: Arc<AtomicUsize>,
        ends: Arc<AtomicBool>,
        waker: Arc<Mutex<Option<Waker>>>,
    }

    impl Future for Counted {
        type Output = ();

        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            self.polls.fetch_add(1, Ordering::SeqCst);
            *self.waker.lock().expect("no panic") = Some(cx.waker().clone());
            match self.ends.load(Ordering::SeqCst) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        }
    }

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn each_is_polled_when_it_was_woken_and_it_ends_with_the_last_one() {
        let parts: Vec<_> = (0..2)
            .map(|_| {
                let polls = Arc::<AtomicUsize>::default();
                let ends = Arc::<AtomicBool>::default();
                let waker = Arc::<Mutex<Option<Waker>>>::default();
                (polls, ends, waker)
            })
            .collect();
        let tasks = parts.iter().map(|(polls, ends, waker)| {
            let task = Counted {
                polls: Arc::clone(polls),
                ends: Arc::clone(ends),
                waker: Arc::clone(waker),
            };
            ("10.0.0.1:1".to_owned(), task)
        });
        let mut together = Box::pin(Together::new(tasks.collect()));
        let wakes = Arc::<Wakes>::default();
        let own = Waker::from(Arc::clone(&wakes));
        let polls = || [0, 1].map(|at: usize| parts[at].0.load(Ordering::SeqCst));
        let mut poll = || {
            together
                .as_mut()
                .poll(&mut Context::from_waker(&own))
                .is_ready()
        };
        assert!(!poll());
        assert_eq!(polls(), [1, 1]);
        assert!(!poll());
        assert_eq!(polls(), [1, 1], "nobody was woken");
        let wake = |at: usize| {
            let waker = parts[at].2.lock().expect("no panic").clone();
            waker.expect("it was polled").wake();
        };
        wake(1);
        wake(1);
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1, "one wake is enough");
        assert!(!poll());
        assert_eq!(polls(), [1, 2]);
        parts[0].1.store(true, Ordering::SeqCst);
        wake(0);
        assert!(!poll(), "the other one is there");
        parts[1].1.store(true, Ordering::SeqCst);
        wake(1);
        assert!(poll());
        assert_eq!(polls(), [2, 3]);
    }
}
