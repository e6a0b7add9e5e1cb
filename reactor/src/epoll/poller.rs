//! One epoll instance and the thread that waits on it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Wake, Waker};
use std::time::Instant;

use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::alarms::{self, Alarms};
use super::sources::{Key, Sources};
use super::waking::Waking;
use crate::{Direction, Readiness};

/// The maximum number of events taken per wait. The system moves sockets that it has reported to the end of its list, so the others come
/// first next time.
pub(super) const EVENTS_PER_WAIT: usize = 512;

/// The events that each socket is registered for from the start.
const READS: epoll::EventFlags = epoll::EventFlags::IN
    .union(epoll::EventFlags::RDHUP)
    .union(epoll::EventFlags::ET);

/// The event data of a wake from another thread. No [`Key`] encodes to this value.
const WAKE: u64 = u64::MAX;
/// The event data of the clock.
const CLOCK: u64 = u64::MAX - 1;

/// The state shared by the thread and its sockets.
///
/// Sockets may be used and dropped on any thread, hence the lock. It is hardly ever contended, as threads do not share a reactor in
/// practice.
#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
    wake: OwnedFd,
    /// A timerfd, readable when the earliest alarm is due.
    ///
    /// It replaces a timeout for each wait, which would make the system program its clock and undo it every time: on a virtual machine two
    /// exits to the host, a microsecond or more.
    clock: OwnedFd,
    waking: Waking,
    watched: Mutex<Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    sources: Sources,
    alarms: Alarms,
    /// When the clock goes off. Earlier than the first alarm if an earlier one was removed.
    clock_set_to: Option<Instant>,
}

/// Buffers reused for each wait.
pub(super) struct Wait {
    events: Vec<epoll::Event>,
    woken: Vec<Waker>,
}

impl Default for Wait {
    fn default() -> Self {
        Wait {
            events: Vec::with_capacity(EVENTS_PER_WAIT),
            woken: Vec::new(),
        }
    }
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // Each write is an edge, so it is never read. The counter has room for 2^64 writes.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(WAKE), flags)?;
        // Each expiry is an edge, too.
        let clock = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        epoll::add(&epoll, &clock, epoll::EventData::new_u64(CLOCK), flags)?;
        Ok(Poller {
            epoll,
            wake,
            clock,
            waking: Waking::new(),
            watched: Mutex::default(),
        })
    }

    /// Registers a socket.
    ///
    /// The system reports at once if there is something to read. Room to write is reported only once a writer has waited for it: most
    /// sockets always have room, and each event would repeat that.
    pub(super) fn watch(&self, socket: &impl AsFd) -> io::Result<Key> {
        let key = self.lock().sources.insert();
        let data = epoll::EventData::new_u64(key.to_u64());
        let added = match epoll::add(&self.epoll, socket, data, READS) {
            // The number is that of a closed descriptor of the same socket, which is open elsewhere as well, as one that a service manager
            // keeps. So the system has kept its entry.
            Err(Errno::EXIST) => epoll::modify(&self.epoll, socket, data, READS),
            added => added,
        };
        if let Err(error) = added {
            self.forget(key);
            return Err(error.into());
        }
        Ok(key)
    }

    /// Removes a socket that stays open from the system's list.
    pub(super) fn unwatch(&self, socket: &impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, socket)?)
    }

    /// Frees the socket's entry in the table.
    pub(super) fn forget(&self, key: Key) {
        let waiting = self.lock().sources.remove(key);
        drop(waiting);
    }

    pub(super) fn poll_take(
        &self,
        key: Key,
        socket: &impl AsFd,
        direction: Direction,
        waker: &Waker,
    ) -> Poll<io::Result<Readiness>> {
        let (taken, replaced, begins_to_write) = {
            let sources = &mut self.lock().sources;
            let (taken, replaced) = sources.take(key, direction, waker);
            let waits_for_room = taken.is_pending() && direction == Direction::Write;
            let begins = waits_for_room && sources.begin_to_watch_writes(key);
            (taken, replaced, begins)
        };
        drop(replaced);
        if begins_to_write {
            let data = epoll::EventData::new_u64(key.to_u64());
            // The system reports at once what the socket is ready for now.
            epoll::modify(&self.epoll, socket, data, READS | epoll::EventFlags::OUT)?;
        }
        taken.map(Ok)
    }

    pub(super) fn restore(&self, key: Key, direction: Direction, readiness: Readiness) {
        self.lock().sources.restore(key, direction, readiness);
    }

    /// Sets an alarm that calls `waker` at `at`.
    pub(super) fn set_alarm(&self, at: Instant, waker: Waker) -> alarms::Key {
        let mut watched = self.lock();
        let key = watched.alarms.insert(at, waker);
        self.set_clock(&mut watched);
        key
    }

    pub(super) fn forget_alarm(&self, key: alarms::Key) {
        let waiting = self.lock().alarms.remove(key);
        drop(waiting);
    }

    /// Makes the clock go off no later than the first alarm.
    fn set_clock(&self, watched: &mut Watched) {
        let Some(at) = watched.alarms.next() else {
            return;
        };
        if watched.clock_set_to.is_some_and(|set_to| set_to <= at) {
            return;
        }
        let left = at.saturating_duration_since(Instant::now());
        let once = Itimerspec {
            it_interval: Timespec::default(),
            // At least 1 ns, since zero would disarm the clock. A time beyond the system's range is beyond the life of any process.
            it_value: Timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().max(1).into(),
            },
        };
        timerfd_settime(&self.clock, TimerfdTimerFlags::empty(), &once)
            .expect("a clock of our own takes any time");
        watched.clock_set_to = Some(at);
    }

    /// The number of registered sockets.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.lock().sources.len()
    }

    /// Waits for events and calls the wakers concerned. Does not block if the future was woken meanwhile.
    pub(super) fn wait(&self, wait: &mut Wait) -> io::Result<()> {
        let waits = self.become_waiting();
        let timeout = (!waits).then(Timespec::default);
        let waited = self.take_events(wait, timeout.as_ref());
        if waits {
            self.become_running();
        }
        waited?;
        self.dispatch(wait);
        Ok(())
    }

    /// Collects pending events without waiting and calls the wakers concerned. Returns true if there may be more.
    pub(super) fn look(&self, wait: &mut Wait) -> io::Result<bool> {
        self.become_running();
        self.take_events(wait, Some(&Timespec::default()))?;
        self.dispatch(wait);
        Ok(wait.events.len() == wait.events.capacity())
    }

    fn take_events(&self, wait: &mut Wait, timeout: Option<&Timespec>) -> io::Result<()> {
        wait.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut wait.events), timeout) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn dispatch(&self, wait: &mut Wait) {
        {
            let mut watched = self.lock();
            for event in &wait.events {
                let (data, flags) = (event.data.u64(), event.flags);
                match data {
                    WAKE => {}
                    CLOCK => {
                        watched.clock_set_to = None;
                        watched.alarms.ring(Instant::now(), &mut wait.woken);
                        self.set_clock(&mut watched);
                    }
                    _ => watched.sources.handle_event(data, flags, &mut wait.woken),
                }
            }
        }
        for waker in wait.woken.drain(..) {
            waker.wake();
        }
    }

    /// Returns whether the future was woken since the last call, and clears that.
    pub(super) fn take_wake(&self) -> bool {
        self.waking.take()
    }

    /// Makes each wake from now on interrupt the wait. Returns false if the future was woken.
    pub(super) fn become_waiting(&self) -> bool {
        self.waking.become_waiting()
    }

    /// Leaves the waiting state. A wake that came meanwhile is kept.
    pub(super) fn become_running(&self) {
        self.waking.become_running();
    }

    /// Returns the epoll instance, which is readable while it has events.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Makes a wait end when `post` becomes readable, too. It is never read, as each write is an edge.
    pub(super) fn watch_post(&self, post: impl AsFd) -> io::Result<()> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        Ok(epoll::add(
            &self.epoll,
            post,
            epoll::EventData::new_u64(WAKE),
            flags,
        )?)
    }

    /// Undoes [`watch_post`](Self::watch_post).
    pub(super) fn forget_post(&self, post: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, post)?)
    }

    /// Ends the current wait of the thread, or its next one.
    fn interrupt(&self) {
        // Fails only when the counter is at its maximum of 2^64 - 2, and then the descriptor is readable already.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        // The only foreign code that runs under the lock is the clone of a waker, and the table is consistent before it. So a poisoned lock
        // is safe to use.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Poller {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.waking.wake() {
            self.interrupt();
        }
    }
}
