//! The clock and the executor.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use voltlane_core::Time;
use voltlane_driver::Timer;

/// The number of turns of the executor after which a test counts as hung.
const STEPS_MAX: usize = 2_000_000;

/// Virtual time.
#[derive(Clone, Default)]
pub(crate) struct Clock(Arc<Mutex<Alarms>>);

#[derive(Default)]
struct Alarms {
    now: Time,
    /// By timer.
    set: Vec<Option<(Time, Waker)>>,
}

impl Clock {
    pub(crate) fn now(&self) -> Time {
        self.0.lock().expect("not poisoned").now
    }

    pub(crate) fn timer(&self) -> TestTimer {
        let mut alarms = self.0.lock().expect("not poisoned");
        alarms.set.push(None);
        TestTimer {
            clock: self.clone(),
            index: alarms.set.len() - 1,
        }
    }

    pub(crate) async fn sleep(&self, duration: Duration) {
        let mut timer = self.timer();
        let at = self.now() + duration;
        std::future::poll_fn(|cx| timer.poll_until(cx, at)).await;
    }

    /// Lets time pass while nobody runs, as when the process is suspended.
    pub(crate) fn stand_still(&self, duration: Duration) {
        let mut alarms = self.0.lock().expect("not poisoned");
        alarms.now = alarms.now + duration;
    }

    /// Advances to the next alarm. Returns false if none is set.
    fn advance(&self) -> bool {
        let mut alarms = self.0.lock().expect("not poisoned");
        let Some(next) = alarms.set.iter().flatten().map(|(at, _)| *at).min() else {
            return false;
        };
        alarms.now = alarms.now.max(next);
        for alarm in &mut alarms.set {
            if alarm.as_ref().is_some_and(|(at, _)| *at <= next)
                && let Some((_, waker)) = alarm.take()
            {
                waker.wake();
            }
        }
        true
    }
}

pub(crate) struct TestTimer {
    clock: Clock,
    index: usize,
}

impl Timer for TestTimer {
    fn now(&self) -> Time {
        self.clock.now()
    }

    fn poll_until(&mut self, cx: &mut Context<'_>, at: Time) -> Poll<()> {
        let mut alarms = self.clock.0.lock().expect("not poisoned");
        if alarms.now >= at {
            alarms.set[self.index] = None;
            return Poll::Ready(());
        }
        alarms.set[self.index] = Some((at, cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for TestTimer {
    fn drop(&mut self) {
        self.clock.0.lock().expect("not poisoned").set[self.index] = None;
    }
}

/// Runs futures concurrently, each only when it was woken. Time passes only when all of them wait.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) clock: Clock,
    tasks: Vec<Task>,
}

struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    woken: Arc<Flag>,
}

struct Flag(AtomicBool);

impl Flag {
    fn raised() -> Arc<Flag> {
        Arc::new(Flag(AtomicBool::new(true)))
    }

    fn lower(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

impl World {
    /// Runs `future` alongside what is run later. Its end is not a failure.
    pub(crate) fn spawn(&mut self, future: impl Future<Output = ()> + 'static) {
        self.tasks.push(Task {
            future: Box::pin(future),
            woken: Flag::raised(),
        });
    }

    /// Runs until `main` is done.
    pub(crate) fn run<T>(&mut self, main: impl Future<Output = T>) -> T {
        let mut main = std::pin::pin!(main);
        let main_woken = Flag::raised();
        let main_waker = Waker::from(Arc::clone(&main_woken));
        for _ in 0..STEPS_MAX {
            let mut idle = true;
            if main_woken.lower() {
                idle = false;
                if let Poll::Ready(done) = main.as_mut().poll(&mut Context::from_waker(&main_waker))
                {
                    return done;
                }
            }
            self.tasks.retain_mut(|task| {
                if !task.woken.lower() {
                    return true;
                }
                idle = false;
                let waker = Waker::from(Arc::clone(&task.woken));
                task.future
                    .as_mut()
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            });
            if idle && !self.clock.advance() {
                panic!("all wait for each other at {:?}", self.clock.now());
            }
        }
        panic!("no end in sight at {:?}", self.clock.now());
    }
}
