//! The table of watched sockets: their readiness and the wakers that wait for it.

use std::collections::BTreeMap;
use std::task::{Poll, Waker};

use rustix::event::epoll::EventFlags;

use crate::{Direction, Readiness};

/// Entries that stay allocated for future sockets.
const KEPT_CAPACITY: usize = 1_024;

/// Identifies an entry of the table and its occupant. An event for an earlier occupant finds no match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// The form in which the system keeps the key.
    pub(super) fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    fn from_u64(data: u64) -> Key {
        Key {
            index: data as u32,
            generation: (data >> 32) as u32,
        }
    }
}

/// The table of watched sockets.
#[derive(Debug, Default)]
pub(super) struct Sources {
    places: Vec<Option<Place>>,
    /// The wakers of sockets whose two directions wait with different ones, by index: those that wait for room to write.
    writers: BTreeMap<u32, Waker>,
    /// Freed entries, the latest first. Some may be beyond the end of a shrunken table, or listed twice.
    free: Vec<u32>,
    next_generation: u32,
}

/// One watched socket. It takes 24 bytes, as an idle client has one.
#[derive(Debug)]
struct Place {
    generation: u32,
    /// Whether the system reports room to write.
    watches_writes: bool,
    /// Readiness that was reported and not yet taken, for each [`Direction`].
    readiness: [Option<Readiness>; 2],
    /// Which directions `waker` waits for. Most often it is the same for both.
    waits: Waits,
    waker: Option<Waker>,
}

/// The directions that a waker waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Neither,
    Read,
    Write,
    Both,
}

impl Waits {
    fn with(self, direction: Direction) -> Waits {
        match (self, direction) {
            (Waits::Neither | Waits::Read, Direction::Read) => Waits::Read,
            (Waits::Neither | Waits::Write, Direction::Write) => Waits::Write,
            _ => Waits::Both,
        }
    }

    fn without(self, direction: Direction) -> Waits {
        match (self, direction) {
            (Waits::Write | Waits::Both, Direction::Read) => Waits::Write,
            (Waits::Read | Waits::Both, Direction::Write) => Waits::Read,
            _ => Waits::Neither,
        }
    }
}

/// The wakers of a removed socket. To be dropped outside of any lock, since a waker's destructor is foreign code.
#[must_use]
pub(super) struct Waiting(#[expect(dead_code, reason = "held to be dropped")] [Option<Waker>; 2]);

impl Sources {
    /// Adds an entry.
    pub(super) fn insert(&mut self) -> Key {
        let generation = self.next_generation;
        self.next_generation = generation.wrapping_add(1);
        let place = Some(Place {
            generation,
            watches_writes: false,
            readiness: [None; 2],
            waits: Waits::Neither,
            waker: None,
        });
        while let Some(index) = self.free.pop() {
            if let Some(vacant @ None) = self.places.get_mut(index as usize) {
                *vacant = place;
                return Key { index, generation };
            }
        }
        let index = u32::try_from(self.places.len())
            .expect("sockets are bounded by descriptors, which are 31 bits");
        self.places.push(place);
        Key { index, generation }
    }

    /// Removes an entry. The table shrinks after many sockets have left.
    pub(super) fn remove(&mut self, key: Key) -> Option<Waiting> {
        self.get(key)?;
        let place = self.places[key.index as usize].take()?;
        self.free.push(key.index);
        while let Some(None) = self.places.last() {
            self.places.pop();
        }
        if self.places.capacity() > KEPT_CAPACITY.max(4 * self.places.len()) {
            let len = self.places.len();
            self.places.shrink_to(2 * len);
            self.free.retain(|index| (*index as usize) < len);
            self.free.shrink_to(2 * len);
        }
        let writer = match self.writers.is_empty() {
            true => None,
            false => self.writers.remove(&key.index),
        };
        Some(Waiting([place.waker, writer]))
    }

    /// Records an event, and collects the wakers to call in `woken`.
    pub(super) fn handle_event(&mut self, data: u64, flags: EventFlags, woken: &mut Vec<Waker>) {
        let key = Key::from_u64(data);
        if self.get(key).is_none() {
            return;
        }
        let broken = EventFlags::HUP | EventFlags::ERR;
        let read_ended = EventFlags::RDHUP | broken;
        for (direction, ready, ended) in [
            (Direction::Read, EventFlags::IN | read_ended, read_ended),
            (Direction::Write, EventFlags::OUT | broken, broken),
        ] {
            if flags.intersects(ready) {
                let has_ended = flags.intersects(ended);
                self.restore(key, direction, Readiness::new(has_ended));
                woken.extend(self.take_waker(key, direction));
            }
        }
    }

    /// Takes the waker that waits for this direction, if there is one.
    fn take_waker(&mut self, key: Key, direction: Direction) -> Option<Waker> {
        let place = self.expect(key);
        let before = place.waits;
        place.waits = before.without(direction);
        match place.waits {
            Waits::Neither if before != Waits::Neither => place.waker.take(),
            // It waits for the other direction as well.
            after if after != before => place.waker.clone(),
            _ if direction == Direction::Write => self.writers.remove(&key.index),
            _ => None,
        }
    }

    /// Takes the readiness of a socket, or registers `waker`. Returns the waker that was replaced, for the caller to drop outside of any
    /// lock.
    pub(super) fn take(
        &mut self,
        key: Key,
        direction: Direction,
        waker: &Waker,
    ) -> (Poll<Readiness>, Option<Waker>) {
        let place = self.expect(key);
        if let Some(readiness) = place.readiness[direction as usize].take() {
            return (Poll::Ready(readiness), None);
        }
        let is_known = place.waker.as_ref().is_some_and(|it| it.will_wake(waker));
        if is_known && place.waits == place.waits.with(direction) {
            return (Poll::Pending, None);
        }
        (Poll::Pending, self.register(key, direction, waker))
    }

    /// Registers a waker. Returns the one that it replaces.
    fn register(&mut self, key: Key, direction: Direction, waker: &Waker) -> Option<Waker> {
        let replaced = self.take_waker(key, direction);
        let place = self.expect(key);
        match &place.waker {
            Some(known) if known.will_wake(waker) => {
                place.waits = place.waits.with(direction);
            }
            // The other direction waits with another waker. The table has room for one, that of reads.
            Some(_) if direction == Direction::Write => {
                self.writers.insert(key.index, waker.clone());
            }
            _ => {
                let other = place.waker.replace(waker.clone());
                place.waits = Waits::Neither.with(direction);
                if let Some(writer) = other {
                    self.writers.insert(key.index, writer);
                }
            }
        }
        replaced
    }

    /// Returns whether the system must now be asked to report room to write, which is true once.
    pub(super) fn begin_to_watch_writes(&mut self, key: Key) -> bool {
        !std::mem::replace(&mut self.expect(key).watches_writes, true)
    }

    /// Gives a readiness back.
    pub(super) fn restore(&mut self, key: Key, direction: Direction, readiness: Readiness) {
        self.expect(key).restore(direction, readiness);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.places.iter().flatten().count()
    }

    fn get(&mut self, key: Key) -> Option<&mut Place> {
        let place = self.places.get_mut(key.index as usize)?.as_mut()?;
        (place.generation == key.generation).then_some(place)
    }

    fn expect(&mut self, key: Key) -> &mut Place {
        self.get(key)
            .expect("a source has its place until it is dropped")
    }
}

impl Place {
    /// Merges the readiness. An end reported meanwhile is kept.
    fn restore(&mut self, direction: Direction, readiness: Readiness) {
        let seen = self.readiness[direction as usize].get_or_insert_default();
        seen.has_ended |= readiness.has_ended;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(count: usize) -> (Sources, Vec<Key>) {
        let mut sources = Sources::default();
        let keys = (0..count).map(|_| sources.insert()).collect();
        (sources, keys)
    }

    fn take(sources: &mut Sources, key: Key, direction: Direction) -> Poll<Readiness> {
        sources.take(key, direction, Waker::noop()).0
    }

    #[test]
    fn each_direction_is_woken_by_what_concerns_it() {
        use EventFlags as E;
        let ready = |has_ended| Poll::Ready(Readiness::new(has_ended));
        for (flags, read, write) in [
            (E::IN, ready(false), Poll::Pending),
            (E::OUT, Poll::Pending, ready(false)),
            (E::IN | E::OUT, ready(false), ready(false)),
            (E::IN | E::RDHUP, ready(true), Poll::Pending),
            (E::IN | E::OUT | E::RDHUP, ready(true), ready(false)),
            (E::HUP, ready(true), ready(true)),
            (E::ERR, ready(true), ready(true)),
            (E::PRI, Poll::Pending, Poll::Pending),
        ] {
            let (mut sources, keys) = sources(2);
            let key = keys[1];
            for direction in [Direction::Read, Direction::Write] {
                assert!(take(&mut sources, key, direction).is_pending());
            }
            let mut woken = Vec::new();
            sources.handle_event(key.to_u64(), flags, &mut woken);
            let expected = usize::from(read.is_ready()) + usize::from(write.is_ready());
            assert_eq!(woken.len(), expected, "{flags:?}");
            assert_eq!(take(&mut sources, key, Direction::Read), read, "{flags:?}");
            assert_eq!(
                take(&mut sources, key, Direction::Write),
                write,
                "{flags:?}"
            );
        }
    }

    #[test]
    fn a_socket_takes_24_bytes() {
        assert_eq!(size_of::<Option<Place>>(), 24);
    }

    /// In every order, with one waker for both directions and with two.
    #[test]
    fn each_direction_wakes_who_waits_for_it() {
        use EventFlags as E;
        let wakers: [Waker; 2] = std::array::from_fn(|_| {
            Waker::from(std::sync::Arc::new(Unparks(std::thread::current())))
        });
        for number in 0..4_usize.pow(6) {
            let (mut sources, keys) = sources(1);
            let mut waits: [Option<&Waker>; 2] = [None, None];
            for step in (0..6).map(|step| number / 4_usize.pow(step) % 4) {
                let direction = [Direction::Read, Direction::Write][step % 2];
                let waker = &wakers[step / 2];
                if number % 7 == step {
                    let flags = [E::IN, E::OUT][step % 2];
                    let mut woken = Vec::new();
                    sources.handle_event(keys[0].to_u64(), flags, &mut woken);
                    let expected = waits[step % 2].take();
                    assert_eq!(woken.len(), usize::from(expected.is_some()));
                    assert!(expected.is_none_or(|it| woken[0].will_wake(it)));
                    let (taken, _) = sources.take(keys[0], direction, waker);
                    assert!(taken.is_ready());
                    continue;
                }
                let (taken, replaced) = sources.take(keys[0], direction, waker);
                assert!(taken.is_pending());
                let before = waits[step % 2].replace(waker);
                assert!(replaced.is_none_or(|it| before.is_some_and(|known| it.will_wake(known))));
            }
            let mut woken = Vec::new();
            sources.handle_event(keys[0].to_u64(), E::HUP, &mut woken);
            let expected: Vec<&Waker> = waits.into_iter().flatten().collect();
            assert_eq!(woken.len(), expected.len(), "{number}");
            assert!(
                woken
                    .iter()
                    .zip(expected)
                    .all(|(it, known)| it.will_wake(known))
            );
            assert!(sources.writers.is_empty());
        }
    }

    #[test]
    fn an_event_during_an_attempt_is_there_after_it() {
        let (mut sources, keys) = sources(1);
        let key = keys[0];
        let event = |sources: &mut Sources, flags| {
            sources.handle_event(key.to_u64(), flags, &mut Vec::new());
        };
        event(&mut sources, EventFlags::IN);
        let taken = take(&mut sources, key, Direction::Read);
        assert_eq!(taken, Poll::Ready(Readiness::new(false)));
        // The end arrives during the attempt.
        event(&mut sources, EventFlags::IN | EventFlags::RDHUP);
        sources.restore(key, Direction::Read, Readiness::new(false));
        let taken = take(&mut sources, key, Direction::Read);
        assert_eq!(taken, Poll::Ready(Readiness::new(true)));
        assert!(take(&mut sources, key, Direction::Read).is_pending());
    }

    #[test]
    fn an_event_for_a_socket_that_is_gone_finds_nobody() {
        let (mut sources, keys) = sources(1);
        assert!(sources.remove(keys[0]).is_some());
        assert!(sources.remove(keys[0]).is_none());
        let next = sources.insert();
        assert_eq!((next.index, next == keys[0]), (keys[0].index, false));
        sources.handle_event(keys[0].to_u64(), EventFlags::IN, &mut Vec::new());
        assert!(take(&mut sources, next, Direction::Read).is_pending());
    }

    #[test]
    fn the_latest_waker_counts_and_it_is_woken_once() {
        let (mut sources, keys) = sources(1);
        let (first, second) = (Waker::noop().clone(), std::thread::current());
        let second = Waker::from(std::sync::Arc::new(Unparks(second)));
        let registered = sources.take(keys[0], Direction::Read, &first);
        assert_eq!(
            (registered.0, registered.1.is_none()),
            (Poll::Pending, true)
        );
        let registered = sources.take(keys[0], Direction::Read, &second);
        assert!(registered.1.is_some_and(|waker| waker.will_wake(&first)));
        assert!(sources.take(keys[0], Direction::Read, &second).1.is_none());
        let mut woken = Vec::new();
        for _ in 0..2 {
            sources.handle_event(keys[0].to_u64(), EventFlags::IN, &mut woken);
        }
        assert_eq!(woken.len(), 1);
        assert!(woken[0].will_wake(&second));
    }

    #[test]
    fn places_are_used_again_and_a_crowd_that_left_leaves_no_memory() {
        let (mut sources, keys) = sources(20_000);
        // The first one stays, so that the table is not empty.
        let (first, others) = (keys[0], &keys[1..]);
        for key in others
            .iter()
            .step_by(2)
            .chain(others.iter().skip(1).step_by(2))
        {
            assert!(sources.remove(*key).is_some());
        }
        assert_eq!(sources.places.len(), 1);
        assert!(sources.places.capacity() <= KEPT_CAPACITY);
        assert!(sources.free.capacity() <= KEPT_CAPACITY);
        let again: Vec<_> = (0..100).map(|_| sources.insert()).collect();
        assert_eq!(sources.places.len(), 101);
        for key in again.iter().chain([&first]) {
            assert!(
                sources.remove(*key).is_some(),
                "each has a place of its own"
            );
        }
    }

    struct Unparks(std::thread::Thread);

    impl std::task::Wake for Unparks {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
}
