//! The threads that serve the shards: they are slow, give shards to each other, and stop.
//!
//! A shard is on one thread at a time, or under way to one. It takes everything along that is its own, and what others do to it meanwhile
//! must wait for it: batches, wakes, connections. As with the shipped adapters, a shard looks at its branch only after a wake.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use super::setup::Setup;
use super::{World, kind};

/// One thread.
#[derive(Default)]
pub(super) struct Thread {
    /// Its shards, in the order in which it serves them.
    shards: Vec<usize>,
    /// Shards that others gave to it, which it takes in at its next turn.
    given: Vec<usize>,
    /// It gets no turn before this time.
    pub(super) stopped_until: u64,
    /// The longest pause between two of its turns, in nanoseconds.
    pub(super) slow: u64,
}

/// Remembers that its owner was woken.
#[derive(Debug)]
pub(super) struct Bell {
    rung: Arc<AtomicBool>,
    waker: Waker,
}

impl Default for Bell {
    fn default() -> Self {
        Bell::of(Arc::default())
    }
}

impl Bell {
    fn of(rung: Arc<AtomicBool>) -> Self {
        let waker = Waker::from(Arc::new(Ringer(Arc::clone(&rung))));
        Bell { rung, waker }
    }

    pub(super) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    pub(super) fn ring(&self) {
        self.rung.store(true, Ordering::Relaxed);
    }

    /// Returns whether it was rung since the last call.
    pub(super) fn answer(&self) -> bool {
        self.rung.swap(false, Ordering::Relaxed)
    }

    fn is_rung(&self) -> bool {
        self.rung.load(Ordering::Relaxed)
    }

    /// Moves to another thread: it has another waker from now on, and earlier ones ring it as well.
    fn moves(&mut self) {
        *self = Bell::of(Arc::clone(&self.rung));
    }
}

struct Ringer(Arc<AtomicBool>);

impl Wake for Ringer {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Creates the threads of a run. The first has all shards, the last ones are slow.
pub(super) fn all(setup: &Setup, shards: usize) -> Vec<Thread> {
    let slow = |number| {
        let is_slow = number + setup.slow_threads >= setup.threads;
        if is_slow { setup.slow_nanos } else { 0 }
    };
    let thread = |number| Thread {
        slow: slow(number),
        ..Thread::default()
    };
    let mut all: Vec<Thread> = (0..setup.threads).map(thread).collect();
    all[0].shards = (0..shards).collect();
    all
}

impl World {
    /// Gives a thread its turn: it takes shards in, serves its own, and may give some away.
    pub(super) fn thread_turn(&mut self, number: usize) -> bool {
        if self.now < self.threads[number].stopped_until {
            return false;
        }
        let mut moved = self.take_shards_in(number);
        for shard in self.threads[number].shards.clone() {
            moved |= self.shard_turn(shard);
            if self.is_over() {
                return true;
            }
        }
        moved |= self.balance(number);
        let slow = self.threads[number].slow;
        if slow > 0 {
            self.threads[number].stopped_until = self.now + self.rng.below(slow);
        }
        moved
    }

    fn take_shards_in(&mut self, number: usize) -> bool {
        let given = mem::take(&mut self.threads[number].given);
        for &shard in &given {
            let bell = &mut self.shards[shard].bell;
            if bell.is_rung() {
                self.ledger.reached("a wake on the way between threads");
            }
            bell.moves();
            self.threads[number].shards.push(shard);
            self.note(|| format!("thread {number} takes shard {shard}"));
        }
        !given.is_empty()
    }

    /// Gives half of its shards to a thread without any, or all to a thread before it.
    fn balance(&mut self, from: usize) -> bool {
        let own = self.threads[from].shards.len();
        if own == 0 || !self.rng.chance(self.setup.moves) {
            return false;
        }
        let has_any = |thread: &Thread| !thread.shards.is_empty() || !thread.given.is_empty();
        let free = self.threads.iter().position(|thread| !has_any(thread));
        let before = self.threads[..from].iter().position(has_any);
        let (to, kept) = match (free, before) {
            (Some(free), _) if own > 1 => (free, own.div_ceil(2)),
            (_, Some(before)) => (before, 0),
            _ => return false,
        };
        let given = self.threads[from].shards.split_off(kept);
        self.note(|| format!("thread {from} gives shards {given:?} to thread {to}"));
        for &shard in &given {
            let way = [from as u8, to as u8];
            self.hash.add(self.now, kind::MOVED, shard as u64, &way);
        }
        self.ledger.reached(match kept {
            0 => "threads joined",
            _ => "shards spread",
        });
        self.threads[to].given.extend(given);
        true
    }

    /// Stops one of the threads for some time.
    pub(super) fn stop_a_thread(&mut self) {
        let thread = self.rng.below(self.threads.len() as u64) as usize;
        self.threads[thread].stopped_until = self.some_time();
        self.ledger.reached("a thread stopped");
    }
}
