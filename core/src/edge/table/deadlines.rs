//! Deadlines grouped by kind: all of one kind last equally long, so they end in the order in which they were armed.
//!
//! Arming, disarming and finding the next deadline take constant time, whatever the number of idle clients. A timer costs its owner 16
//! bytes and no allocation: the timers of a kind are a list through the entries of a slab.

use core::marker::PhantomData;

use crate::edge::table::list::{HasNode, Lists, Node};
use crate::edge::table::slab::Slab;
use crate::time::Time;

/// An entry's timer is disarmed before the entry is removed from its slab.
const LIVE: &str = "a timer that is armed, or comes to be, is in the slab";
/// A kind is named by a constant of its owner.
const KNOWN: &str = "a kind has a number below how many there are";

/// A deadline's node in the list of its kind. It is stored in the entry that it watches.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timer {
    /// The two halves of a [`Time`], which saves four bytes of padding per timer.
    since: [u32; 2],
    node: Node,
}

image!(Timer { since, node });

impl Timer {
    /// Returns when it was last armed.
    #[inline]
    pub(crate) fn since(&self) -> Time {
        let [high, low] = self.since;
        Time::from_nanos((u64::from(high) << 32) | u64::from(low))
    }

    /// Returns the kind that it is armed as, if it is.
    #[inline]
    pub(crate) fn kind(&self) -> Option<u8> {
        self.node.list()
    }

    /// Returns whether it is armed as `kind`.
    #[inline]
    pub(crate) fn is(&self, kind: u8) -> bool {
        self.kind() == Some(kind)
    }

    /// Returns whether it is armed.
    #[inline]
    pub(crate) fn is_armed(&self) -> bool {
        self.node.list().is_some()
    }

    fn set_since(&mut self, now: Time) {
        let nanos = now.as_nanos();
        let half = |bits: u64| u32::try_from(bits & 0xffff_ffff).unwrap_or(0);
        self.since = [half(nanos >> 32), half(nanos)];
    }
}

/// Selects one timer of an entry. It is a type and not a function, so that the compiler can inline it.
pub(crate) trait Timed<T> {
    /// Returns the timer.
    fn timer(entry: &mut T) -> &mut Timer;
}

/// The node of the timer that `W` selects.
#[derive(Clone, Debug)]
struct NodeOf<W>(PhantomData<W>);

impl<T, W: Timed<T>> HasNode<T> for NodeOf<W> {
    #[inline]
    fn node(entry: &mut T) -> &mut Node {
        &mut W::timer(entry).node
    }
}

/// The armed timers of `KINDS` kinds, each kind oldest first. Each entry has one timer here, selected by `W`, of one kind at a time.
#[derive(Clone, Debug)]
pub(crate) struct Deadlines<T, W, const KINDS: usize> {
    lists: Lists<T, NodeOf<W>, KINDS>,
    /// When the first timer of each kind was armed. Stored here so that finding the next deadline reads no entry.
    firsts: [Time; KINDS],
}

image!(for [T, W, const KINDS: usize] Deadlines<T, W, KINDS> { lists, firsts });

impl<T, W: Timed<T>, const KINDS: usize> Deadlines<T, W, KINDS> {
    pub(crate) fn new() -> Self {
        Deadlines {
            lists: Lists::new(),
            firsts: [Time::ZERO; KINDS],
        }
    }

    /// Returns the number of armed timers of `kind`.
    #[inline]
    pub(crate) fn len(&self, kind: u8) -> usize {
        self.lists.len(kind)
    }

    /// Returns the entry whose timer of `kind` was armed first, and when.
    #[inline]
    pub(crate) fn first(&self, kind: u8) -> Option<(u32, Time)> {
        let since = *self.firsts.get(usize::from(kind)).expect(KNOWN);
        self.lists.first(kind).map(|index| (index, since))
    }

    /// Arms the timer of the entry at `index` as `kind` from `now`, or arms it again. `now` never goes back.
    ///
    /// # Panics
    /// When there is no such entry, as in [`disarm`](Self::disarm): the owner of the index was not told that its entry is gone.
    #[inline]
    #[track_caller]
    pub(crate) fn arm(&mut self, slab: &mut Slab<T>, index: u32, kind: u8, now: Time) {
        if W::timer(slab.at_mut(index).expect(LIVE)).is_armed() {
            self.disarm(slab, index);
        }
        self.start(slab, index, kind, now);
    }

    /// Arms the timer of the entry at `index`, which is not armed.
    #[inline(always)]
    #[track_caller]
    pub(crate) fn start(&mut self, slab: &mut Slab<T>, index: u32, kind: u8, now: Time) {
        let timer = W::timer(slab.at_mut(index).expect(LIVE));
        debug_assert!(!timer.is_armed(), "a timer is armed once");
        timer.set_since(now);
        if self.lists.append(slab, index, kind) {
            *self.first_mut(kind) = now;
        }
    }

    /// Disarms the timer of the entry at `index`. Harmless if it is not armed.
    #[inline]
    #[track_caller]
    pub(crate) fn disarm(&mut self, slab: &mut Slab<T>, index: u32) {
        if let Some(kind) = self.lists.remove(slab, index)
            && let Some(first) = self.lists.first(kind)
        {
            *self.first_mut(kind) = W::timer(slab.at_mut(first).expect(LIVE)).since();
        }
    }

    #[inline]
    fn first_mut(&mut self, kind: u8) -> &mut Time {
        self.firsts.get_mut(usize::from(kind)).expect(KNOWN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Entry {
        timer: Timer,
    }

    #[derive(Debug)]
    struct ItsTimer;

    impl Timed<Entry> for ItsTimer {
        fn timer(entry: &mut Entry) -> &mut Timer {
            &mut entry.timer
        }
    }

    #[test]
    fn the_first_to_be_armed_is_the_first_to_end_with_its_time() {
        let mut slab = Slab::default();
        let mut timers: Deadlines<Entry, ItsTimer, 2> = Deadlines::new();
        for n in 1..=4 {
            let key = slab.insert(Entry::default()).unwrap();
            timers.arm(&mut slab, key.index, 0, Time::from_millis(n));
        }
        assert_eq!(timers.first(0), Some((0, Time::from_millis(1))));
        timers.disarm(&mut slab, 0);
        assert_eq!(timers.first(0), Some((1, Time::from_millis(2))));
        timers.arm(&mut slab, 1, 0, Time::from_nanos(u64::MAX));
        timers.arm(&mut slab, 2, 1, Time::from_millis(7));
        assert_eq!(timers.first(0), Some((3, Time::from_millis(4))));
        assert_eq!(timers.first(1), Some((2, Time::from_millis(7))));
        timers.disarm(&mut slab, 3);
        assert_eq!(timers.first(0), Some((1, Time::from_nanos(u64::MAX))));
        timers.disarm(&mut slab, 1);
        assert_eq!(
            (timers.len(0), timers.first(0), timers.len(1)),
            (0, None, 1)
        );
        assert!(slab.at(2).unwrap().timer.is(1) && !slab.at(1).unwrap().timer.is_armed());
    }

    #[test]
    #[should_panic(expected = "is in the slab")]
    fn arming_what_is_gone_is_noticed() {
        let mut slab = Slab::default();
        let mut timers: Deadlines<Entry, ItsTimer, 1> = Deadlines::new();
        let key = slab.insert(Entry::default()).unwrap();
        slab.remove(key.index);
        timers.arm(&mut slab, key.index, 0, Time::ZERO);
    }
}
