//! Futures that run beside one another on one thread. Each is polled when it was woken, and not when another one was: ten thousand clients
//! would take all of the processor otherwise.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

use voltlane_driver::Task;

use super::figures::lock;

/// Futures until they are done.
#[derive(Default)]
pub(super) struct Tasks {
    tasks: Vec<Option<(Task, Arc<One>)>>,
    woken: Arc<Mutex<Woken>>,
}

/// Those that are to be polled.
#[derive(Default)]
struct Woken {
    /// Their places.
    places: Vec<usize>,
    /// Whoever polls them, until it is woken.
    outer: Option<Waker>,
}

/// Wakes one of them.
struct One {
    place: usize,
    /// Whether its place is in [`Woken::places`].
    is_woken: AtomicBool,
    woken: Arc<Mutex<Woken>>,
}

impl Wake for One {
    fn wake(self: Arc<Self>) {
        if self.is_woken.swap(true, Relaxed) {
            return;
        }
        let mut woken = lock(&self.woken);
        woken.places.push(self.place);
        let outer = woken.outer.take();
        drop(woken);
        if let Some(outer) = outer {
            outer.wake();
        }
    }
}

impl From<Vec<Task>> for Tasks {
    fn from(tasks: Vec<Task>) -> Tasks {
        let mut all = Tasks::default();
        tasks.into_iter().for_each(|task| all.push(task));
        all
    }
}

impl Tasks {
    /// Adds one, which the next call of [`Tasks::poll`] begins.
    pub(super) fn push(&mut self, task: Task) {
        let one = Arc::new(One {
            place: self.tasks.len(),
            is_woken: AtomicBool::new(false),
            woken: Arc::clone(&self.woken),
        });
        self.tasks.push(Some((task, Arc::clone(&one))));
        one.wake();
    }

    /// Polls each of them that was woken once. `cx` is woken when another one is.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        let mut woken = lock(&self.woken);
        let places = std::mem::take(&mut woken.places);
        woken.outer = Some(cx.waker().clone());
        drop(woken);
        for place in places {
            let Some((task, one)) = &mut self.tasks[place] else {
                continue;
            };
            // Whoever wakes it from here on has it polled again.
            one.is_woken.store(false, Relaxed);
            let waker = Waker::from(Arc::clone(one));
            let polled = task.as_mut().poll(&mut Context::from_waker(&waker));
            if polled.is_ready() {
                self.tasks[place] = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;
    use std::task::Poll;

    use super::*;

    /// A task that counts its polls, tells its waker, and is done once its polls are `last`.
    fn counted(last: usize) -> (Task, Arc<AtomicUsize>, Arc<Mutex<Option<Waker>>>) {
        let (polls, waker) = (Arc::new(AtomicUsize::new(0)), Arc::default());
        let (counts, tells) = (Arc::clone(&polls), Arc::clone(&waker));
        let task = poll_fn(move |cx| {
            *lock(&tells) = Some(cx.waker().clone());
            match counts.fetch_add(1, Relaxed) + 1 {
                polls if polls < last => Poll::Pending,
                _ => Poll::Ready(()),
            }
        });
        (Box::pin(task), polls, waker)
    }

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Outer(AtomicUsize);

    impl Wake for Outer {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn each_is_polled_when_it_was_woken_and_when_no_other_was() {
        let ((one, of_one, wakes_one), (other, of_other, _)) = (counted(3), counted(3));
        let mut tasks = Tasks::from(vec![one, other]);
        let outer = Arc::new(Outer::default());
        let waker = Waker::from(Arc::clone(&outer));
        let mut cx = Context::from_waker(&waker);
        let polls = || (of_one.load(Relaxed), of_other.load(Relaxed));
        tasks.poll(&mut cx);
        tasks.poll(&mut cx);
        assert_eq!((polls(), outer.0.load(Relaxed)), ((1, 1), 0));
        let wake = || lock(&wakes_one).clone().expect("it was polled").wake();
        wake();
        wake();
        assert_eq!(outer.0.load(Relaxed), 1, "once for all that wait");
        tasks.poll(&mut cx);
        assert_eq!(polls(), (2, 1));
        wake();
        tasks.poll(&mut cx);
        // It is done.
        wake();
        tasks.poll(&mut cx);
        assert_eq!(polls(), (3, 1));
    }

    #[test]
    fn one_that_wakes_itself_is_polled_in_the_next_call() {
        let polls = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&polls);
        let restless = poll_fn(move |cx| {
            counts.fetch_add(1, Relaxed);
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        let mut tasks = Tasks::from(vec![Box::pin(restless) as Task]);
        let outer = Arc::new(Outer::default());
        let waker = Waker::from(Arc::clone(&outer));
        for calls in 1..=3 {
            tasks.poll(&mut Context::from_waker(&waker));
            assert_eq!(polls.load(Relaxed), calls);
            assert_eq!(outer.0.load(Relaxed), calls);
        }
    }
}
