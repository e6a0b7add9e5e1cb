//! What a shard and the trunk hand to each other, and how they wake each other, in every order in which their threads can meet.

#[path = "../src/exchange.rs"]
mod exchange;
#[path = "../src/register.rs"]
mod register;
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicBool, Ordering};
    pub(crate) use loom::sync::{Arc, Mutex, MutexGuard};
    pub(crate) use std::sync::PoisonError;
}
#[path = "../src/waker.rs"]
mod waker;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use exchange::{BYTES, End, Gone, ITEMS, pair};
use loom::future::block_on;
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;
use waker::{ReadyList, SourceWaker, Token};

/// The maximum number of preemptions in a run. Two are enough for each fault that was planted here.
const PREEMPTIONS: usize = 3;

/// An end that hands numbers over, and one that takes them. Spare buffers are numbers, too.
type Giver = End<u32, (), u32>;
type Taker = End<(), u32, u32>;

fn check(run: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(PREEMPTIONS);
    model.check(run);
}

fn give(giver: &mut Giver, item: u32) -> Result<(), Gone> {
    give_bytes(giver, item, 1)
}

fn give_bytes(giver: &mut Giver, item: u32, bytes: usize) -> Result<(), Gone> {
    block_on(poll_fn(|cx| giver.poll_room(cx)))?;
    giver.give(item, bytes);
    Ok(())
}

fn take(taker: &mut Taker) -> Option<u32> {
    block_on(poll_fn(|cx| taker.poll_take(cx)))
}

#[test]
fn each_item_arrives_once_and_in_order_and_the_end_behind_them() {
    // One more than there is room for, so that each end waits for the other.
    const GIVEN: u32 = ITEMS as u32 + 1;
    check(|| {
        let (mut giver, mut taker): (Giver, Taker) = pair();
        let other = thread::spawn(move || {
            for item in 0..GIVEN {
                assert_eq!(give(&mut giver, item), Ok(()));
            }
            giver.close();
        });
        for item in 0..GIVEN {
            assert_eq!(take(&mut taker), Some(item));
        }
        assert_eq!(take(&mut taker), None);
        other.join().unwrap();
    });
}

#[test]
fn a_giver_that_waits_for_bytes_goes_on_when_they_are_taken() {
    check(|| {
        let (mut giver, mut taker): (Giver, Taker) = pair();
        let other = thread::spawn(move || {
            for item in 0..3 {
                assert_eq!(give_bytes(&mut giver, item, BYTES), Ok(()));
            }
        });
        for item in 0..3 {
            assert_eq!(take(&mut taker), Some(item));
        }
        other.join().unwrap();
    });
}

#[test]
fn what_was_given_before_the_end_was_dropped_arrives() {
    check(|| {
        let (mut giver, mut taker): (Giver, Taker) = pair();
        let other = thread::spawn(move || {
            assert_eq!(give(&mut giver, 7), Ok(()));
        });
        assert_eq!(take(&mut taker), Some(7));
        assert_eq!(take(&mut taker), None);
        other.join().unwrap();
    });
}

#[test]
fn a_giver_that_waits_hears_that_the_taker_is_gone() {
    check(|| {
        let (mut giver, taker): (Giver, Taker) = pair();
        for item in 0..ITEMS as u32 {
            assert_eq!(give(&mut giver, item), Ok(()));
        }
        let other = thread::spawn(move || drop(taker));
        assert_eq!(give(&mut giver, 0), Err(Gone));
        other.join().unwrap();
    });
}

#[test]
fn buffers_are_freed_while_the_other_end_gives_one_back() {
    check(|| {
        let (mut giver, mut taker): (Giver, Taker) = pair();
        let other = thread::spawn(move || {
            let item = take(&mut taker).expect("it was given");
            taker.give_back(item);
            block_on(poll_fn(|cx| {
                assert!(taker.poll_take(cx).is_pending());
                Poll::Ready(())
            }));
            taker
        });
        assert_eq!(give(&mut giver, 1), Ok(()));
        giver.free_spares();
        let _taker = other.join().unwrap();
        giver.free_spares();
        assert_eq!(give(&mut giver, 2), Ok(()));
        assert_eq!(giver.take_spare(), None);
    });
}

#[test]
fn a_buffer_comes_back_once() {
    check(|| {
        let (mut giver, mut taker): (Giver, Taker) = pair();
        let other = thread::spawn(move || {
            let item = take(&mut taker).expect("it was given");
            taker.give_back(item);
            // The next look behind what was taken brings the buffer.
            take(&mut taker).expect("it was given");
            block_on(poll_fn(|cx| {
                assert!(taker.poll_take(cx).is_pending());
                Poll::Ready(())
            }));
            taker
        });
        assert_eq!(give(&mut giver, 1), Ok(()));
        assert_eq!(give(&mut giver, 2), Ok(()));
        let taker = other.join().unwrap();
        assert_eq!(give(&mut giver, 3), Ok(()));
        let spares: Vec<u32> = std::iter::from_fn(|| giver.take_spare()).collect();
        assert_eq!(spares, [1]);
        drop(taker);
    });
}

#[test]
fn a_full_direction_takes_no_more_and_both_ends_wait() {
    check(|| {
        let (mut giver, mut taker): (Giver, Taker) = pair();
        block_on(poll_fn(|cx| {
            assert!(taker.poll_take(cx).is_pending());
            for item in 0..ITEMS as u32 {
                assert_eq!(giver.poll_room(cx), Poll::Ready(Ok(())));
                giver.give(item, 1);
            }
            assert!(giver.poll_room(cx).is_pending());
            assert_eq!(taker.poll_take(cx), Poll::Ready(Some(0)));
            assert_eq!(giver.poll_room(cx), Poll::Ready(Ok(())));
            Poll::Ready(())
        }));
    });
}

#[test]
fn a_direction_is_bounded_in_bytes_and_its_last_item_may_have_any_number() {
    for (first, fits) in [(BYTES - 1, true), (BYTES, false), (usize::MAX, false)] {
        check(move || {
            let (mut giver, mut taker): (Giver, Taker) = pair();
            block_on(poll_fn(|cx| {
                assert_eq!(giver.poll_room(cx), Poll::Ready(Ok(())));
                giver.give(0, first);
                assert_eq!(giver.poll_room(cx).is_ready(), fits, "{first} bytes");
                if fits {
                    giver.give(1, usize::MAX);
                    assert!(giver.poll_room(cx).is_pending());
                }
                // All are taken at once.
                assert_eq!(taker.poll_take(cx), Poll::Ready(Some(0)));
                assert_eq!(giver.poll_room(cx), Poll::Ready(Ok(())));
                giver.give(2, BYTES - 1);
                assert_eq!(giver.poll_room(cx), Poll::Ready(Ok(())));
                Poll::Ready(())
            }));
        });
    }
}

#[test]
fn spare_buffers_are_bounded() {
    let count = |giver: &mut Giver| std::iter::from_fn(|| giver.take_spare()).count();
    check(move || {
        let (mut giver, mut taker): (Giver, Taker) = pair();
        block_on(poll_fn(|cx| {
            // At the writer.
            for spare in 0..100 {
                giver.keep_spare(spare);
            }
            assert_eq!(count(&mut giver), ITEMS);
            // At the reader, which brings them back all at one look.
            for spare in 0..100 {
                taker.give_back(spare);
            }
            assert!(taker.poll_take(cx).is_pending());
            giver.give(0, 1);
            assert_eq!(count(&mut giver), ITEMS);
            // Between them, when the reader looks several times before the writer does.
            assert!(taker.poll_take(cx).is_ready());
            for spare in 0..100 {
                taker.give_back(spare);
                assert!(taker.poll_take(cx).is_pending());
            }
            giver.give(0, 1);
            assert_eq!(count(&mut giver), ITEMS);
            Poll::Ready(())
        }));
    });
}

/// A source of a driver, which other threads bring something and then wake.
#[derive(Clone)]
struct Source {
    waker: Arc<SourceWaker>,
    brought: Arc<AtomicUsize>,
}

impl Source {
    fn new(token: Token, ready: &Arc<ReadyList>) -> Self {
        Source {
            waker: SourceWaker::new(token, ready),
            brought: Arc::new(AtomicUsize::new(0)),
        }
    }

    fn bring(&self) {
        self.brought.fetch_add(1, Relaxed);
        Waker::from(Arc::clone(&self.waker)).wake();
    }
}

/// One poll of a driver: takes what was brought to the sources that woke it. Returns their tokens.
fn poll_driver(ready: &ReadyList, sources: &[Source], cx: &Context<'_>) -> Vec<Token> {
    ready.register(cx.waker());
    let mut woken = Vec::new();
    ready.take(&mut woken);
    for &token in &woken {
        // From here on a wake counts again, so this comes before the look.
        sources[token as usize].waker.serve();
    }
    woken
}

#[test]
fn a_driver_hears_of_all_that_other_threads_brought() {
    check(|| {
        let ready = Arc::new(ReadyList::default());
        let sources = [Source::new(0, &ready), Source::new(1, &ready)];
        let bringers = [(0, 2), (1, 1)].map(|(number, times): (usize, usize)| {
            let source = sources[number].clone();
            thread::spawn(move || (0..times).for_each(|_| source.bring()))
        });
        let mut taken = [0, 0];
        block_on(poll_fn(|cx| {
            for token in poll_driver(&ready, &sources, cx) {
                taken[token as usize] = sources[token as usize].brought.load(Relaxed);
            }
            match taken {
                [2, 1] => Poll::Ready(()),
                _ => Poll::Pending,
            }
        }));
        for bringer in bringers {
            bringer.join().unwrap();
        }
    });
}

#[test]
fn each_source_is_listed_once_until_it_is_served() {
    check(|| {
        let ready = Arc::new(ReadyList::default());
        let sources = [0, 1, 2].map(|token| Source::new(token, &ready));
        block_on(poll_fn(|cx| {
            for source in sources.iter().chain(&sources) {
                source.bring();
            }
            assert_eq!(poll_driver(&ready, &sources, cx), [0, 1, 2]);
            assert!(poll_driver(&ready, &sources, cx).is_empty());
            assert!(sources[1].waker.queue(), "it was served");
            sources[1].bring();
            let polled = poll_driver(&ready, &sources, cx);
            assert!(polled.is_empty(), "queued already");
            sources[1].waker.serve();
            sources[1].bring();
            assert_eq!(poll_driver(&ready, &sources, cx), [1]);
            Poll::Ready(())
        }));
    });
}

#[test]
fn a_batch_wakes_the_driver_once() {
    check(|| {
        let ready = Arc::new(ReadyList::default());
        let sources = [0, 1].map(|token| Source::new(token, &ready));
        let polls = AtomicUsize::new(0);
        block_on(poll_fn(|cx| {
            if polls.fetch_add(1, Relaxed) == 0 {
                poll_driver(&ready, &sources, cx);
                sources.iter().for_each(Source::bring);
                return Poll::Pending;
            }
            assert_eq!(poll_driver(&ready, &sources, cx), [0, 1]);
            Poll::Ready(())
        }));
        assert_eq!(polls.load(Relaxed), 2);
    });
}
