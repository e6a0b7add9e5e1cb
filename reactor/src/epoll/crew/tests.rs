//! Tenants that work, wait, move and end, and their carried future.

use std::collections::HashSet;
use std::future::poll_fn;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::sync::mpsc;
use std::task::Poll;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use super::*;
use crate::epoll::{Epoll, EpollAlarm, Watched, current};
use crate::{Alarm as _, Direction, Reactor as _, Source as _};

/// Longer than anything here takes, so a hang is reported as a failure.
const BOUND: Duration = Duration::from_secs(60);

/// Limits that move tenants at every opportunity.
const RESTLESS: Limits = Limits {
    window: Duration::ZERO,
    spread_above: 0,
    spread_if_waited_below: u32::MAX,
    join_below: u32::MAX,
    quiet_windows: 1,
    crowded_above: u32::MAX,
    retreat_below: 0,
    crowded_windows: 1,
    rest: Duration::ZERO,
    longest_rest: Duration::ZERO,
};

/// Waits for the end of a crew, like the main thread of a program.
fn wait_for(mut crew: Crew) -> io::Result<()> {
    let mut bound = EpollAlarm::never();
    bound.set_at(Instant::now() + BOUND);
    Epoll::block_on(poll_fn(|cx| {
        assert!(bound.poll(cx).is_pending(), "not within {BOUND:?}");
        crew.poll_end(cx)
    }))?
}

/// Creates a descriptor that is readable for its watcher after each `count`.
fn counter() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

fn count(counter: impl AsFd) {
    rustix::io::write(counter, &1u64.to_ne_bytes()).unwrap();
}

/// Waits on an alarm.
async fn pause(duration: Duration) {
    let mut alarm = EpollAlarm::never();
    alarm.set_at(Instant::now() + duration);
    poll_fn(|cx| alarm.poll(cx)).await;
}

/// Creates tenants in a ring. Each waits until its own descriptor is readable, wakes the carried future, waits until that was polled, and
/// makes the descriptor of the next tenant readable, for `rounds` rounds.
fn ring(tenants: usize, rounds: usize) -> (Vec<Task>, Task, mpsc::Receiver<ThreadId>) {
    let (saw, seen) = mpsc::channel();
    let carried = Arc::new(Carried::default());
    let descriptors: Vec<OwnedFd> = (0..tenants).map(|_| counter()).collect();
    let tasks = (0..tenants).map(|number| -> Task {
        let own = descriptors[number].try_clone().unwrap();
        let next = descriptors[(number + 1) % tenants].try_clone().unwrap();
        let (carried, saw) = (Arc::clone(&carried), saw.clone());
        Box::pin(async move {
            let mut own = Watched::new(own).unwrap();
            if number == 0 {
                count(&next);
            }
            for round in 0..rounds {
                poll_fn(|cx| own.poll_take(Direction::Read, cx))
                    .await
                    .unwrap();
                let _ = saw.send(thread::current().id());
                carried.ask(round).await;
                if number > 0 || round + 1 < rounds {
                    count(&next);
                }
            }
            carried.leave();
        })
    });
    let tasks = tasks.collect();
    let carried = Box::pin(poll_fn(move |cx| carried.serve(tenants, cx)));
    (tasks, carried, seen)
}

/// What tenants and the carried future share.
#[derive(Default)]
struct Carried(Mutex<Request>);

#[derive(Default)]
struct Request {
    asked: Option<(usize, Waker)>,
    answered: Option<usize>,
    left: usize,
    server: Option<Waker>,
}

impl Carried {
    async fn ask(&self, round: usize) {
        poll_fn(|cx| {
            let mut request = self.0.lock().unwrap();
            if request
                .answered
                .take_if(|answered| *answered == round)
                .is_some()
            {
                return Poll::Ready(());
            }
            request.asked = Some((round, cx.waker().clone()));
            let server = request.server.clone();
            drop(request);
            if let Some(server) = server {
                server.wake();
            }
            Poll::Pending
        })
        .await;
    }

    fn leave(&self) {
        let mut request = self.0.lock().unwrap();
        request.left += 1;
        let server = request.server.clone();
        drop(request);
        if let Some(server) = server {
            server.wake();
        }
    }

    fn serve(&self, tenants: usize, cx: &mut Context<'_>) -> Poll<()> {
        let mut request = self.0.lock().unwrap();
        request.server = Some(cx.waker().clone());
        let asked = request.asked.take();
        request.answered = asked.as_ref().map(|(round, _)| *round).or(request.answered);
        let is_over = request.left == tenants;
        drop(request);
        if let Some((_, asker)) = asked {
            asker.wake();
        }
        if is_over {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

#[test]
fn what_has_little_to_do_stays_on_one_thread() {
    const WINDOWS: u32 = 10;
    let limits = Limits {
        window: Duration::from_millis(5),
        ..Limits::default()
    };
    let (saw, seen) = mpsc::channel();
    // They wait through several windows, and work for a small part of each.
    let tenant = |_| -> Task {
        let saw = saw.clone();
        Box::pin(async move {
            for _ in 0..2 * WINDOWS {
                pause(limits.window / 2).await;
                let _ = saw.send(thread::current().id());
            }
        })
    };
    let tasks = (0..4).map(tenant).collect();
    wait_for(start_on(4, limits, tasks, Box::pin(async {})).unwrap()).unwrap();
    drop(saw);
    let threads: HashSet<ThreadId> = seen.iter().collect();
    assert_eq!(threads.len(), 1);
}

#[test]
fn no_event_and_no_wake_is_lost_while_tenants_move() {
    // Each of the 1,000 steps moves tenants, and takes about 5 ms.
    const ROUNDS: usize = 200;
    let (tasks, carried, seen) = ring(5, ROUNDS);
    wait_for(start_on(3, RESTLESS, tasks, carried).unwrap()).unwrap();
    let order: Vec<ThreadId> = seen.iter().collect();
    assert_eq!(order.len(), 5 * ROUNDS);
    let threads: HashSet<&ThreadId> = order.iter().collect();
    assert!(threads.len() > 1, "they did not move");
}

#[test]
fn a_wake_from_outside_reaches_tenants_and_the_carried_future() {
    const ROUNDS: usize = 500;
    let (asks, asked) = mpsc::channel::<Waker>();
    let outside = thread::spawn(move || asked.into_iter().for_each(Waker::wake));
    let waits = |asks: mpsc::Sender<Waker>| -> Task {
        let mut left = ROUNDS;
        Box::pin(poll_fn(move |cx| {
            if left == 0 {
                return Poll::Ready(());
            }
            left -= 1;
            asks.send(cx.waker().clone()).unwrap();
            Poll::Pending
        }))
    };
    for limits in [Limits::default(), RESTLESS] {
        let tasks = (0..3).map(|_| waits(asks.clone())).collect();
        wait_for(start_on(2, limits, tasks, waits(asks.clone())).unwrap()).unwrap();
    }
    drop(asks);
    outside.join().unwrap();
}

#[test]
fn the_sockets_and_alarms_of_the_carried_future_are_those_of_the_first_tenant() {
    let descriptor = counter();
    let other = descriptor.try_clone().unwrap();
    let (told, home) = mpsc::channel();
    // The first tenant ends at once, and its reactor lives on.
    let first: Task = Box::pin(async move { told.send(current().unwrap()).unwrap() });
    let second: Task = Box::pin(async move {
        pause(Duration::from_millis(5)).await;
        count(&other);
    });
    let (saw, seen) = mpsc::channel();
    let carried: Task = Box::pin(async move {
        let mut watched = Watched::new(descriptor).unwrap();
        saw.send(current().unwrap()).unwrap();
        poll_fn(|cx| watched.poll_take(Direction::Read, cx))
            .await
            .unwrap();
        saw.send(current().unwrap()).unwrap();
        pause(Duration::from_millis(5)).await;
        saw.send(current().unwrap()).unwrap();
    });
    wait_for(start_on(2, Limits::default(), vec![first, second], carried).unwrap()).unwrap();
    let home = home.recv().unwrap();
    assert_eq!(seen.iter().filter(|it| Arc::ptr_eq(it, &home)).count(), 3);
}

#[test]
fn every_thread_polls_the_carried_future_on_the_reactor_of_the_first_tenant() {
    let (mut tasks, mut carried, _) = ring(5, 500);
    let (told, home) = mpsc::channel();
    let first = tasks.remove(0);
    let first: Task = Box::pin(async move {
        told.send(current().unwrap()).unwrap();
        first.await;
    });
    tasks.insert(0, first);
    let (saw, seen) = mpsc::channel();
    let carried: Task = Box::pin(poll_fn(move |cx| {
        let here = (thread::current().id(), current().unwrap());
        saw.send(here).unwrap();
        carried.as_mut().poll(cx)
    }));
    wait_for(start_on(3, RESTLESS, tasks, carried).unwrap()).unwrap();
    let home = home.recv().unwrap();
    let mut threads = HashSet::new();
    for (thread, reactor) in seen {
        assert!(Arc::ptr_eq(&reactor, &home));
        threads.insert(thread);
    }
    assert!(threads.len() > 1, "one thread polled it");
}

#[test]
fn a_carried_future_that_always_has_more_to_do_leaves_the_tenants_their_turn() {
    let done = Arc::new(AtomicUsize::new(0));
    let watched = Arc::clone(&done);
    let carried: Task = Box::pin(poll_fn(move |cx| {
        if watched.load(Ordering::Acquire) == 2 {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }));
    let tenant = || -> Task {
        let done = Arc::clone(&done);
        Box::pin(async move {
            pause(Duration::from_millis(20)).await;
            done.fetch_add(1, Ordering::AcqRel);
        })
    };
    wait_for(start_on(2, Limits::default(), vec![tenant(), tenant()], carried).unwrap()).unwrap();
}

#[test]
fn a_tenant_that_panics_fails_the_crew() {
    let waits: Task = Box::pin(async { pin!(std::future::pending::<()>()).await });
    let panics: Task = Box::pin(async { panic!("a tenant's own fault") });
    let crew = start_on(1, Limits::default(), vec![panics], waits).unwrap();
    assert!(wait_for(crew).is_err());
}
