//! A reactor for one thread, edge-triggered.
//!
//! A socket is registered once, and a second time when a write first finds no room. The system reports each change once. The report is kept
//! as a [`Readiness`] until it is taken, so waiting for a socket needs no system call. async-io's reactor, which any thread may drive at
//! any time, re-arms a socket for each wait.
//!
//! The owning thread runs one future. When the future has nothing to do, the thread waits in `epoll_wait` for sockets, alarms and wakes
//! from other threads, which arrive through an eventfd. A wake from its own thread needs no system call. While the future has more to do,
//! the sockets are checked between two polls.
//!
//! It is built on rustix and not on `polling`, as async-io is. `polling` cannot ask for EPOLLRDHUP, without which each short read needs a
//! second one to find out whether the end came with it. It also makes five system calls for each wait.

mod alarms;
pub mod crew;
mod guest;
mod poller;
mod sources;
mod sync {
    //! What threads hand to each other is built of this, which its tests under loom replace.
    pub(super) use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
    pub(super) use std::sync::{Mutex, MutexGuard, PoisonError};
}
mod waking;

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

pub use self::alarms::EpollAlarm;
pub use self::guest::{Descriptor, Guest};

use voltlane_driver::{Crew, Task};

use self::poller::{Poller, Wait};
use self::sources::Key;
use super::{Direction, Reactor, Readiness, Socket, Source};

/// The reactor of the current thread, which exists while [`block_on`](Reactor::block_on) runs.
///
/// Sockets and alarms belong to the reactor of the thread on which they were first used.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Epoll;

impl Reactor for Epoll {
    type Source<T: Socket> = Watched<T>;
    type Alarm = EpollAlarm;

    fn block_on<F: Future>(future: F) -> io::Result<F::Output> {
        let poller = Arc::new(Poller::new()?);
        let _entered = Entered::new(Arc::clone(&poller));
        let waker = Waker::from(Arc::clone(&poller));
        let mut wait = Wait::default();
        let mut future = pin!(future);
        loop {
            if poller.take_wake()
                && let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker))
            {
                return Ok(output);
            }
            poller.wait(&mut wait)?;
        }
    }

    fn crew(tasks: Vec<Task>, carried: Task) -> io::Result<Crew> {
        crew::start(tasks, carried)
    }

    async fn look_up(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
        crate::resolve::look_up(host, port).await
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Poller>>> = const { RefCell::new(None) };
}

/// Returns the reactor of this thread.
fn current() -> Option<Arc<Poller>> {
    CURRENT.with_borrow(Clone::clone)
}

/// Installs a reactor as that of this thread until the guard is dropped.
struct Entered {
    before: Option<Arc<Poller>>,
}

impl Entered {
    fn new(poller: Arc<Poller>) -> Self {
        Entered {
            before: CURRENT.replace(Some(poller)),
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.before.take());
    }
}

/// A socket registered with an [`Epoll`] reactor.
#[derive(Debug)]
pub struct Watched<T> {
    registration: Registration,
    socket: T,
}

#[derive(Debug)]
struct Registration {
    poller: Arc<Poller>,
    key: Key,
}

impl Drop for Registration {
    fn drop(&mut self) {
        // The system removes the socket from its list when it is closed, which comes next. If it is open elsewhere as well, its entry stays:
        // its events find no match, until `Poller::watch` meets it.
        self.poller.forget(self.key);
    }
}

impl<T: Socket> Source<T> for Watched<T> {
    fn new(socket: T) -> io::Result<Self> {
        let poller =
            current().ok_or_else(|| io::Error::other("there is no reactor: not in `block_on`"))?;
        let key = poller.watch(&socket)?;
        Ok(Watched {
            registration: Registration { poller, key },
            socket,
        })
    }

    fn get_ref(&self) -> &T {
        &self.socket
    }

    fn into_inner(self) -> io::Result<T> {
        self.registration.poller.unwatch(&self.socket)?;
        Ok(self.socket)
    }

    fn poll_take(
        &mut self,
        direction: Direction,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Readiness>> {
        let Registration { poller, key } = &self.registration;
        poller.poll_take(*key, &self.socket, direction, cx.waker())
    }

    fn restore(&mut self, direction: Direction, readiness: Readiness) {
        let Registration { poller, key } = &self.registration;
        poller.restore(*key, direction, readiness);
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::fs::File;
    use std::future::poll_fn;
    use std::os::fd::OwnedFd;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;
    use crate::Alarm as _;

    /// Longer than anything here takes, so a hang is reported as a failure.
    const BOUND: Duration = Duration::from_secs(20);

    /// Polls on the reactor until `done` returns true. Returns how long that took.
    fn run(mut done: impl FnMut(&mut Context<'_>) -> bool) -> Duration {
        let start = Instant::now();
        let mut bound = EpollAlarm::never();
        bound.set_at(start + BOUND);
        Epoll::block_on(poll_fn(|cx| {
            if done(cx) {
                return Poll::Ready(());
            }
            assert!(bound.poll(cx).is_pending(), "not within {BOUND:?}");
            Poll::Pending
        }))
        .unwrap();
        start.elapsed()
    }

    /// A descriptor that can be watched, readable while its counter is above 0.
    fn counter(initial: u32) -> OwnedFd {
        eventfd(initial, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
    }

    fn count(counter: &OwnedFd) {
        rustix::io::write(counter, &1u64.to_ne_bytes()).unwrap();
    }

    fn is_readable(source: &mut Watched<OwnedFd>, cx: &mut Context<'_>) -> bool {
        source.poll_take(Direction::Read, cx).is_ready()
    }

    #[test]
    fn a_wake_of_another_thread_is_never_lost() {
        const ROUNDS: usize = 2_000;
        let woken = Arc::new(AtomicUsize::new(0));
        let (asks, asked) = mpsc::channel::<Waker>();
        let counts = Arc::clone(&woken);
        let other = thread::spawn(move || {
            for waker in asked {
                counts.fetch_add(1, Ordering::Release);
                waker.wake();
            }
        });
        let mut sent = 0;
        run(|cx| {
            if woken.load(Ordering::Acquire) == sent {
                if sent == ROUNDS {
                    return true;
                }
                sent += 1;
                asks.send(cx.waker().clone()).unwrap();
            }
            false
        });
        drop(asks);
        other.join().unwrap();
    }

    #[test]
    fn a_future_that_always_has_more_to_do_sees_its_sockets() {
        let socket = counter(0);
        let mut source = None;
        let mut polls = 0;
        run(|cx| {
            let source =
                source.get_or_insert_with(|| Watched::new(socket.try_clone().unwrap()).unwrap());
            let readable = is_readable(source, cx);
            polls += 1;
            if polls == 100 {
                count(&socket);
            }
            cx.waker().wake_by_ref();
            readable
        });
        assert_eq!(polls, 101, "seen by the poll after it happened");
    }

    #[test]
    fn each_change_is_told_once_and_waits_until_it_is_asked_for() {
        let socket = counter(0);
        let mut source = None;
        let mut step = 0;
        run(|cx| {
            let source =
                source.get_or_insert_with(|| Watched::new(socket.try_clone().unwrap()).unwrap());
            // A waker for the other direction, so that every event is followed by a poll.
            let _ = source.poll_take(Direction::Write, cx);
            match step {
                // Not polled for this direction yet, so no waker is registered.
                0 => count(&socket),
                1 => {
                    assert!(is_readable(source, cx));
                    assert!(!is_readable(source, cx), "taken");
                    count(&socket);
                }
                2 => {
                    assert!(is_readable(source, cx));
                    source.restore(Direction::Read, Readiness::default());
                    assert!(is_readable(source, cx), "restored");
                }
                _ => return true,
            }
            step += 1;
            cx.waker().wake_by_ref();
            false
        });
    }

    #[test]
    fn more_sockets_than_events_are_all_served() {
        const SOCKETS: usize = poller::EVENTS_PER_WAIT + 50;
        let mut sources: Vec<Watched<OwnedFd>> = Vec::new();
        let mut served = 0;
        run(|cx| {
            if sources.is_empty() {
                sources.extend((0..SOCKETS).map(|_| Watched::new(counter(1)).unwrap()));
            }
            served += sources
                .iter_mut()
                .filter_map(|source| is_readable(source, cx).then_some(()))
                .count();
            served == SOCKETS
        });
    }

    #[test]
    fn a_socket_that_moved_is_watched_where_it_is() {
        let mut here = None;
        let other = counter(0);
        run(|cx| {
            let source = here.get_or_insert_with(|| Watched::new(counter(0)).unwrap());
            assert!(!is_readable(source, cx));
            true
        });
        // Its first reactor is gone, together with the future that it ran.
        let socket = here.unwrap().into_inner().unwrap();
        let mut there: Option<[Watched<OwnedFd>; 2]> = None;
        run(|cx| {
            let [moved, stays] = there.get_or_insert_with(|| {
                let sockets = [socket.try_clone().unwrap(), other.try_clone().unwrap()];
                sockets.map(|socket| Watched::new(socket).unwrap())
            });
            assert!(!is_readable(stays, cx));
            let readable = is_readable(moved, cx);
            count(&socket);
            readable
        });
    }

    #[test]
    fn a_file_that_cannot_be_watched_is_an_error_and_takes_no_place() {
        let outside = Watched::new(counter(0)).unwrap_err();
        assert_eq!(outside.kind(), io::ErrorKind::Other);
        run(|_| {
            for _ in 0..3 {
                // epoll does not take regular files.
                let error = Watched::new(File::open("/proc/self/exe").unwrap()).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            }
            let places = current().unwrap().places();
            assert_eq!(places, 0);
            true
        });
    }

    #[test]
    fn alarms_go_off_in_order_and_never_early() {
        let start = Instant::now();
        let mut alarms = Vec::from([40, 10, 10, 25].map(|millis| {
            let at = start + Duration::from_millis(millis);
            let mut alarm = EpollAlarm::never();
            alarm.set_at(at);
            (at, alarm)
        }));
        // The last one is polled first: once it has gone off, so have all earlier ones, however long a poll takes.
        alarms.sort_by_key(|(at, _)| Reverse(*at));
        let mut never = EpollAlarm::never();
        run(|cx| {
            let mut later_went_off = false;
            alarms.retain_mut(|(at, alarm)| {
                let went_off = alarm.poll(cx).is_ready();
                assert!(!went_off || Instant::now() >= *at);
                assert!(went_off || !later_went_off);
                later_went_off |= went_off;
                !went_off
            });
            assert!(never.poll(cx).is_pending());
            alarms.is_empty()
        });
    }

    #[test]
    fn an_alarm_that_another_thread_sets_earlier_ends_the_wait() {
        let alarm = Arc::new(Mutex::new(EpollAlarm::never()));
        let mut other = None;
        let took = run(|cx| {
            let mut set = alarm.lock().unwrap();
            if other.is_none() {
                set.set_at(Instant::now() + 10 * BOUND);
                assert!(set.poll(cx).is_pending());
                let (alarm, waker) = (Arc::clone(&alarm), cx.waker().clone());
                other = Some(thread::spawn(move || {
                    let mut alarm = alarm.lock().unwrap();
                    alarm.set_at(Instant::now() + Duration::from_millis(1));
                    let _ = alarm.poll(&mut Context::from_waker(&waker));
                }));
                return false;
            }
            set.poll(cx).is_ready()
        });
        other.unwrap().join().unwrap();
        assert!(took < BOUND);
    }
}
