//! The claim on a carried future, in every interleaving of threads.

#[path = "../src/epoll/crew/claim.rs"]
mod claim;
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU8, Ordering};
}

use claim::Claim;
use loom::sync::Arc;
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;

/// A thread with work for the carried future: it leaves the work, requests a poll, and polls unless another thread does.
fn bring(claim: &Claim, left: &AtomicUsize, taken: &AtomicUsize) {
    left.fetch_add(1, Relaxed);
    claim.want();
    carry(claim, left, taken);
}

fn carry(claim: &Claim, left: &AtomicUsize, taken: &AtomicUsize) {
    while claim.take() {
        // The poll: one thread at a time takes what was left.
        let before = taken.load(Relaxed);
        let all = left.load(Relaxed);
        taken.store(before.max(all), Relaxed);
        if !claim.give_back() {
            return;
        }
    }
}

/// The maximum number of preemptions in a run. Two are enough for each fault that was planted here.
const PREEMPTIONS: usize = 3;

fn check(run: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(PREEMPTIONS);
    model.check(run);
}

#[test]
fn nothing_that_was_brought_stays_behind_when_all_threads_wait() {
    check(|| {
        let claim = Arc::new(Claim::new());
        let (left, taken) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let other = {
            let (claim, left, taken) = (Arc::clone(&claim), Arc::clone(&left), Arc::clone(&taken));
            thread::spawn(move || bring(&claim, &left, &taken))
        };
        bring(&claim, &left, &taken);
        other.join().unwrap();
        assert_eq!(taken.load(Relaxed), 2, "all that was left is taken");
        assert!(!claim.take(), "nothing is wanted any more");
    });
}

#[test]
fn only_one_thread_polls_at_a_time() {
    check(|| {
        let claim = Arc::new(Claim::new());
        let inside = Arc::new(AtomicUsize::new(0));
        let poll = |claim: &Claim, inside: &AtomicUsize| {
            claim.want();
            while claim.take() {
                assert_eq!(inside.fetch_add(1, Relaxed), 0, "two at once");
                inside.fetch_sub(1, Relaxed);
                if !claim.give_back() {
                    return;
                }
            }
        };
        let other = {
            let (claim, inside) = (Arc::clone(&claim), Arc::clone(&inside));
            thread::spawn(move || poll(&claim, &inside))
        };
        poll(&claim, &inside);
        other.join().unwrap();
    });
}
