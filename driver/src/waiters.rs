//! The calls that wait for a client or a backend, and which of them drives it.

use std::collections::BTreeMap;
use std::mem;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use crate::register::register;

/// Identifies a waiter. A smaller one has waited longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// The ticket of `recv`, of which there is one at a time.
pub(crate) const READER: Ticket = Ticket(0);

/// The waker of all I/O. It wakes the waiter that drives the client or the backend now.
#[derive(Default)]
pub(crate) struct Relay(Mutex<Attendance>);

#[derive(Default)]
struct Attendance {
    waiter: Option<Waker>,
    /// Whether something happened since the waiter last polled.
    is_due: bool,
}

impl Relay {
    /// Makes `waiter`, which is being polled, the one that is woken.
    pub(crate) fn attend(&self, waiter: &Waker) {
        let mut attendance = self.lock();
        attendance.is_due = false;
        register(&mut attendance.waiter, waiter);
    }

    /// Makes another waiter, or none, the one that is woken. Returns its waker if something is due.
    fn hand_over(&self, waiter: Option<Waker>) -> Option<Waker> {
        let mut attendance = self.lock();
        attendance.waiter = waiter;
        attendance.waiter.clone().filter(|_| attendance.is_due)
    }

    /// Notes that something is due. Returns the waker of the waiter.
    fn call(&self) -> Option<Waker> {
        let mut attendance = self.lock();
        attendance.is_due = true;
        attendance.waiter.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Attendance> {
        // Nothing in between can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Relay {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Outside of the lock, since a foreign waker may do anything.
        if let Some(waiter) = self.call() {
            waiter.wake();
        }
    }
}

/// The condition of a waiter. `K` is the number of a packet, or contains one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For<K> {
    /// An event.
    Event,
    /// Room for a packet of this length.
    Room(usize),
    /// The acknowledgement of this number.
    Number(K),
    /// The beginning of the first session, or the end.
    #[cfg_attr(
        not(feature = "client"),
        expect(dead_code, reason = "a client waits for it")
    )]
    Session,
}

/// The waiters of a client or a backend. Each is woken for its own condition, and one for all I/O.
pub(crate) struct Waiters<K> {
    relay: Arc<Relay>,
    next: u64,
    driver: Option<Ticket>,
    reader: Option<Waker>,
    room: BTreeMap<Ticket, (usize, Waker)>,
    numbers: BTreeMap<(K, Ticket), Waker>,
    session: BTreeMap<Ticket, Waker>,
    /// Those to be woken once the lock is released.
    woken: Vec<Waker>,
}

impl<K: Ord + Copy> Waiters<K> {
    pub(crate) fn new(relay: Arc<Relay>) -> Self {
        Waiters {
            relay,
            next: READER.0,
            driver: None,
            reader: None,
            room: BTreeMap::new(),
            numbers: BTreeMap::new(),
            session: BTreeMap::new(),
            woken: Vec::new(),
        }
    }

    /// Returns the ticket of a new waiter.
    pub(crate) fn issue(&mut self) -> Ticket {
        self.next += 1;
        Ticket(self.next)
    }

    /// The waiter drives the client now.
    pub(crate) fn attend(&mut self, ticket: Ticket, waker: &Waker) {
        self.relay.attend(waker);
        self.driver = Some(ticket);
    }

    /// Notes that the waiter waits.
    pub(crate) fn wait(&mut self, ticket: Ticket, what: For<K>, waker: &Waker) {
        match what {
            For::Event => self.reader = Some(waker.clone()),
            For::Room(length) => drop(self.room.insert(ticket, (length, waker.clone()))),
            For::Number(number) => {
                drop(self.numbers.insert((number, ticket), waker.clone()));
            }
            For::Session => drop(self.session.insert(ticket, waker.clone())),
        }
    }

    /// Forgets that the waiter waits, since it is polled.
    pub(crate) fn withdraw(&mut self, ticket: Ticket, what: For<K>) {
        match what {
            For::Event => self.reader = None,
            For::Room(_) => drop(self.room.remove(&ticket)),
            For::Number(number) => drop(self.numbers.remove(&(number, ticket))),
            For::Session => drop(self.session.remove(&ticket)),
        }
    }

    /// Forgets a waiter that is done or was dropped. If it was driving, the next waiter drives, and is woken if it `must_look`.
    pub(crate) fn leave(&mut self, ticket: Ticket, what: For<K>, must_look: bool) {
        self.withdraw(ticket, what);
        if self.driver != Some(ticket) {
            return;
        }
        let next = self.next_driver();
        self.driver = next.as_ref().map(|(ticket, _)| *ticket);
        let next = next.map(|(_, waker)| waker);
        if must_look {
            self.woken.extend(next.clone());
        }
        let due = self.relay.hand_over(next);
        self.woken.extend(due.filter(|_| !must_look));
    }

    fn next_driver(&self) -> Option<(Ticket, Waker)> {
        let reader = self.reader.as_ref().map(|waker| (READER, waker));
        let first = || {
            let room = self
                .room
                .iter()
                .map(|(ticket, (_, waker))| (*ticket, waker));
            let numbers = self.numbers.iter();
            let numbers = numbers.map(|((_, ticket), waker)| (*ticket, waker));
            let session = self.session.iter().map(|(ticket, waker)| (*ticket, waker));
            room.chain(numbers).chain(session).next()
        };
        let (ticket, waker) = reader.or_else(first)?;
        Some((ticket, waker.clone()))
    }

    /// Returns whether somebody waits, and so drives the client.
    pub(crate) fn is_driven(&self) -> bool {
        self.driver.is_some()
    }

    /// Returns whether `recv` waits.
    pub(crate) fn has_reader(&self) -> bool {
        self.reader.is_some()
    }

    /// Wakes the waiter that drives.
    pub(crate) fn wake_driver(&mut self) {
        let called = self.relay.call();
        self.woken.extend(called);
    }

    /// Wakes the reader, since there is an event.
    pub(crate) fn wake_reader(&mut self) {
        self.woken.extend(self.reader.take());
    }

    /// Wakes the waiters for these numbers.
    pub(crate) fn wake_numbers(&mut self, reached: RangeInclusive<K>) {
        let (first, last) = reached.into_inner();
        let is_one = |(number, _): &(K, Ticket)| first <= *number && *number <= last;
        while let Some((&key, _)) = self.numbers.range((first, READER)..).next()
            && is_one(&key)
        {
            self.woken.extend(self.numbers.remove(&key));
        }
    }

    /// Wakes the waiters that have room now. `has_room` is asked for the sum of the lengths of their packets.
    pub(crate) fn wake_room(&mut self, mut has_room: impl FnMut(usize) -> bool) {
        let mut together = 0;
        while let Some(first) = self.room.first_entry() {
            together += first.get().0;
            if !has_room(together) {
                return;
            }
            self.woken.push(first.remove().1);
        }
    }

    /// Wakes the waiters for a session.
    pub(crate) fn wake_session(&mut self) {
        self.woken
            .extend(mem::take(&mut self.session).into_values());
    }

    /// Wakes all waiters, since a session is over.
    pub(crate) fn wake_all(&mut self) {
        self.wake_reader();
        self.wake_session();
        let room = mem::take(&mut self.room).into_values();
        self.woken.extend(room.map(|(_, waker)| waker));
        self.woken
            .extend(mem::take(&mut self.numbers).into_values());
    }

    /// Returns those that are to be woken, outside of the lock.
    pub(crate) fn take_woken(&mut self) -> Vec<Waker> {
        mem::take(&mut self.woken)
    }
}
