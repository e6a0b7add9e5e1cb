//! Where the loops of several shards and of their trunk stand still: until the process before has ended, and while everything is given away.

#[cfg(all(feature = "upgrade", target_os = "linux"))]
mod standing {
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
    use std::task::{Context, Poll, Waker};

    use crate::commands::run::watch::{Watch, Watched};
    use crate::metrics::Snapshot;

    /// The order of the main loop to another one.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Wanted {
        /// It keeps its driver, and does not poll it yet.
        Wait,
        Run,
        /// It leaves its driver here, once it has polled it for the first time.
        Halt,
    }

    /// The place of one loop.
    pub(in crate::commands::run) struct Station<D>(Arc<Shared<D>>);

    struct Shared<D> {
        /// Whether the loop is to run: all that it looks at before a poll.
        runs: AtomicBool,
        state: Mutex<State<D>>,
    }

    struct State<D> {
        wanted: Wanted,
        /// The waker of the loop.
        task: Option<Waker>,
        /// Its driver, while it stands.
        driver: Option<Box<D>>,
        /// Woken when it stands.
        main: Option<Waker>,
    }

    impl<D> Station<D> {
        fn lock(&self) -> MutexGuard<'_, State<D>> {
            // Its fields are set one by one, and each is right alone.
            self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
        }

        fn want(&self, wanted: Wanted) {
            let mut state = self.lock();
            state.wanted = wanted;
            self.0.runs.store(wanted == Wanted::Run, Ordering::Release);
            if let Some(task) = &state.task {
                task.wake_by_ref();
            }
        }

        /// Polls `driver` to its end, whenever it is to run. Returns it then.
        pub(in crate::commands::run) async fn run(self, mut watch: Watch, driver: D) -> D
        where
            D: Watched + Unpin,
        {
            let mut own = Some(Box::new(driver));
            let mut known: Option<Waker> = None;
            let mut has_begun = false;
            poll_fn(|cx| {
                if !known
                    .as_ref()
                    .is_some_and(|known| known.will_wake(cx.waker()))
                {
                    known = Some(cx.waker().clone());
                    self.lock().task.clone_from(&known);
                }
                if !self.0.runs.load(Ordering::Acquire) || own.is_none() {
                    self.stand(&mut own, has_begun);
                }
                let Some(driver) = own.as_deref_mut().filter(|_| self.may_run(has_begun)) else {
                    return Poll::Pending;
                };
                has_begun = true;
                let polled = watch.poll(Pin::new(driver), cx, Snapshot::default);
                if !self.0.runs.load(Ordering::Acquire) {
                    cx.waker().wake_by_ref();
                }
                polled
            })
            .await;
            *own.expect("it was polled to its end here")
        }

        /// Leaves the driver here, or takes it back, as is wanted.
        fn stand(&self, own: &mut Option<Box<D>>, has_begun: bool) {
            let mut state = self.lock();
            match state.wanted {
                Wanted::Run if own.is_none() => *own = state.driver.take(),
                Wanted::Halt if has_begun => {
                    if let Some(driver) = own.take() {
                        state.driver = Some(driver);
                    }
                    if let Some(main) = state.main.take() {
                        main.wake();
                    }
                }
                Wanted::Run | Wanted::Halt | Wanted::Wait => {}
            }
        }

        /// Returns whether the driver may be polled: while its loop is to run, and once before it halts, since a shard owns what it was given
        /// only then.
        fn may_run(&self, has_begun: bool) -> bool {
            self.0.runs.load(Ordering::Acquire)
                || (!has_begun && self.lock().wanted == Wanted::Halt)
        }
    }

    /// The places of loops, as the main loop sees them.
    pub(in crate::commands::run) struct Stations<D>(Vec<Station<D>>);

    impl<D> Stations<D> {
        /// Creates places for so many loops, which wait.
        pub(in crate::commands::run) fn new(loops: usize) -> (Stations<D>, Vec<Station<D>>) {
            let station = || Shared {
                runs: AtomicBool::new(false),
                state: Mutex::new(State {
                    wanted: Wanted::Wait,
                    task: None,
                    driver: None,
                    main: None,
                }),
            };
            let own: Vec<_> = (0..loops).map(|_| Station(Arc::new(station()))).collect();
            let theirs = own.iter().map(|station| Station(Arc::clone(&station.0)));
            let theirs = theirs.collect();
            (Stations(own), theirs)
        }

        /// Has all loops run.
        pub(in crate::commands::run) fn run(&self) {
            self.0.iter().for_each(|station| station.want(Wanted::Run));
        }

        /// Has all loops stand still.
        pub(in crate::commands::run) fn halt(&self) {
            self.0.iter().for_each(|station| station.want(Wanted::Halt));
        }

        /// Ready when all of them stand.
        pub(in crate::commands::run) fn poll_halted(&self, cx: &mut Context<'_>) -> Poll<()> {
            for station in &self.0 {
                let mut state = station.lock();
                if state.driver.is_none() {
                    voltlane_driver::register(&mut state.main, cx.waker());
                    return Poll::Pending;
                }
            }
            Poll::Ready(())
        }

        /// Takes the drivers of loops that all stand.
        pub(in crate::commands::run) fn take(&self) -> Vec<Box<D>> {
            let drivers = self.0.iter().map(|station| station.lock().driver.take());
            drivers.flatten().collect()
        }

        /// Puts them back.
        pub(in crate::commands::run) fn put_back(&self, drivers: Vec<Box<D>>) {
            for (station, driver) in self.0.iter().zip(drivers) {
                station.lock().driver = Some(driver);
            }
        }
    }
}

/// Without processes that take over: the loops run.
#[cfg(not(all(feature = "upgrade", target_os = "linux")))]
mod standing {
    use std::marker::PhantomData;
    use std::pin::Pin;

    use crate::commands::run::watch::{Watch, Watched};

    pub(in crate::commands::run) struct Station<D>(PhantomData<fn(D)>);

    impl<D> Station<D> {
        pub(in crate::commands::run) async fn run(self, watch: Watch, mut driver: D) -> D
        where
            D: Watched + Unpin,
        {
            let Station(_) = self;
            watch.run(Pin::new(&mut driver)).await;
            driver
        }
    }

    pub(in crate::commands::run) struct Stations<D>(PhantomData<fn(D)>);

    impl<D> Stations<D> {
        pub(in crate::commands::run) fn new(loops: usize) -> (Stations<D>, Vec<Station<D>>) {
            let each = (0..loops).map(|_| Station(PhantomData));
            (Stations(PhantomData), each.collect())
        }

        pub(in crate::commands::run) fn run(&self) {
            let Stations(_) = self;
        }
    }
}

pub(super) use standing::{Station, Stations};
