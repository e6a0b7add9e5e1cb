//! Requests and responses between the thread that serves metrics and the loop that has them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::{Shard, Snapshot, backends_of, shards_of};

/// The requesting side: of one loop, or of one for each shard and one for their trunk. Its clones take turns.
#[derive(Clone, Debug)]
pub struct Exchange(Arc<Mutex<Vec<Arc<Shared>>>>);

/// The side of a loop that is asked.
#[derive(Debug)]
pub struct Asked {
    shared: Arc<Shared>,
    /// The waker that `shared` has, to tell without a lock whether it is still the right one.
    registered: Option<Waker>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Checked by the loop in every round. Everything else is behind the lock.
    is_wanted: AtomicBool,
    slot: Mutex<Slot>,
    answered: Condvar,
}

#[derive(Debug, Default)]
struct Slot {
    waker: Option<Waker>,
    answer: Option<Snapshot>,
    /// Whether the loop has ended.
    is_gone: bool,
}

impl Shared {
    fn pair() -> (Arc<Shared>, Asked) {
        let shared = Arc::<Shared>::default();
        let asked = Asked {
            shared: Arc::clone(&shared),
            registered: None,
        };
        (shared, asked)
    }

    /// Returns `None` if there is no response `within` the time.
    fn ask(&self, within: Duration) -> Option<Snapshot> {
        let mut slot = self.slot();
        // A response that came after its request had timed out is too old.
        slot.answer = None;
        self.is_wanted.store(true, Ordering::Release);
        if let Some(waker) = slot.waker.clone() {
            drop(slot);
            waker.wake();
            slot = self.slot();
        }
        let (mut slot, _) = self
            .answered
            .wait_timeout_while(slot, within, |slot| slot.answer.is_none() && !slot.is_gone)
            .unwrap_or_else(PoisonError::into_inner);
        slot.answer.take()
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exchange {
    /// Creates both sides of an exchange with one loop.
    #[must_use]
    pub fn new() -> (Exchange, Asked) {
        let (shared, asked) = Shared::pair();
        (Exchange::from(vec![shared]), asked)
    }

    /// Creates both sides of an exchange with `loops` loops.
    #[must_use]
    pub fn of(loops: usize) -> (Exchange, Vec<Asked>) {
        let (shared, asked) = (0..loops).map(|_| Shared::pair()).unzip();
        (Exchange::from(shared), asked)
    }

    fn from(loops: Vec<Arc<Shared>>) -> Exchange {
        Exchange(Arc::new(Mutex::new(loops)))
    }

    /// Asks every loop and waits for their responses. Returns the sum, or `None` if one was not there `within` the time, or a loop is gone.
    /// The time begins once no other clone of this side asks.
    #[must_use]
    pub fn ask(&self, within: Duration) -> Option<Snapshot> {
        let mut sum = Snapshot::default();
        let loops = self.ask_each(within)?;
        for one in &loops {
            sum.add(one);
        }
        sum.backends = backends_of(&loops);
        sum.shards = shards_of(&loops).iter().map(Shard::from).collect();
        Some(sum)
    }

    /// Like [`ask`](Self::ask), but returns the numbers of each loop.
    #[must_use]
    pub fn ask_each(&self, within: Duration) -> Option<Vec<Snapshot>> {
        // A loop has room for one request.
        let loops = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let until = Instant::now() + within;
        let left = || until.saturating_duration_since(Instant::now());
        loops.iter().map(|shared| shared.ask(left())).collect()
    }
}

impl Asked {
    /// Responds if there is a request. To be called in every round of the loop whose task has this waker; it checks one flag.
    pub fn answer(&mut self, waker: &Waker, snapshot: impl FnOnce() -> Snapshot) {
        if !self
            .registered
            .as_ref()
            .is_some_and(|known| known.will_wake(waker))
        {
            self.registered = Some(waker.clone());
            self.shared.slot().waker = Some(waker.clone());
        }
        // A request that comes after this check wakes the waker that is registered by now.
        if self.shared.is_wanted.load(Ordering::Acquire) {
            self.shared.is_wanted.store(false, Ordering::Release);
            self.shared.slot().answer = Some(snapshot());
            self.shared.answered.notify_all();
        }
    }
}

impl Drop for Asked {
    /// A loop that has ended responds no more.
    fn drop(&mut self) {
        self.shared.slot().is_gone = true;
        self.shared.answered.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn numbered(accepted: u64) -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.counters.accepted = accepted;
        snapshot
    }

    /// Returns the snapshot with as many shards.
    fn with_shards(snapshot: Snapshot, shards: usize) -> Snapshot {
        let shards = vec![Shard::default(); shards];
        Snapshot { shards, ..snapshot }
    }

    #[test]
    fn a_question_wakes_the_loop_and_gets_the_numbers_of_that_moment() {
        let (exchange, mut asked) = Exchange::new();
        let wakes = Arc::<Wakes>::default();
        let waker = Waker::from(Arc::clone(&wakes));
        asked.answer(&waker, || panic!("nobody asked"));
        for round in 1..=3 {
            let answer = thread::scope(|scope| {
                let asking = scope.spawn(|| exchange.ask(LONG));
                while wakes.0.load(Ordering::SeqCst) < round {
                    thread::yield_now();
                }
                asked.answer(&waker, || numbered(round as u64));
                asking.join().expect("no panic")
            });
            assert_eq!(answer, Some(with_shards(numbered(round as u64), 1)));
            asked.answer(&waker, || panic!("nobody asked again"));
        }
    }

    #[test]
    fn the_answer_of_many_loops_is_their_sum_and_none_may_be_missing() {
        let (exchange, mut asked) = Exchange::of(3);
        let sum = thread::scope(|scope| {
            let asking = scope.spawn(|| exchange.ask(LONG));
            while !asking.is_finished() {
                for (place, asked) in asked.iter_mut().enumerate() {
                    asked.answer(Waker::noop(), || numbered(10 + place as u64));
                }
                thread::yield_now();
            }
            asking.join().expect("no panic")
        });
        assert_eq!(sum, Some(with_shards(numbered(33), 1)));
        asked.pop();
        assert_eq!(exchange.ask(Duration::from_millis(1)), None);
        drop(asked);
        let began = Instant::now();
        assert_eq!(exchange.ask(LONG), None);
        assert!(
            began.elapsed() < LONG,
            "a loop that is gone is not waited for"
        );
    }

    #[test]
    fn a_loop_that_moved_to_another_task_is_woken_there() {
        let (exchange, mut asked) = Exchange::new();
        let (first, second) = (Arc::<Wakes>::default(), Arc::<Wakes>::default());
        asked.answer(&Waker::from(Arc::clone(&first)), Snapshot::default);
        asked.answer(&Waker::from(Arc::clone(&second)), Snapshot::default);
        assert_eq!(exchange.ask(Duration::ZERO), None);
        let wakes = [first, second].map(|wakes| wakes.0.load(Ordering::SeqCst));
        assert_eq!(wakes, [0, 1]);
    }

    #[test]
    fn a_loop_that_does_not_answer_is_not_waited_for_and_its_late_answer_is_thrown_away() {
        let (exchange, mut asked) = Exchange::new();
        assert_eq!(exchange.ask(Duration::from_millis(1)), None, "no loop yet");
        asked.answer(Waker::noop(), || numbered(1));
        assert_eq!(
            exchange.ask(Duration::from_millis(1)),
            None,
            "the answer was to the question before"
        );
    }
}
