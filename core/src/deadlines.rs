//! Deadlines grouped by kind: all of one kind last equally long, so the order of arming is the order of ending.
//!
//! Arming, disarming and finding the next deadline take constant time, whatever the number of idle clients. A timer costs its
//! owner 24 bytes and no allocation: the timers of a kind are a doubly linked list through the entries of a slab.

use crate::slab::Slab;
use crate::time::Time;

const NONE: u32 = u32::MAX;
const DISARMED: u8 = u8::MAX;

/// One deadline's place in the list of its kind; it lives inside the entry that it watches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timer {
    since: Time,
    prev: u32,
    next: u32,
    kind: u8,
}

impl Default for Timer {
    fn default() -> Self {
        Timer {
            since: Time::ZERO,
            prev: NONE,
            next: NONE,
            kind: DISARMED,
        }
    }
}

impl Timer {
    /// When it was armed last.
    pub(crate) fn since(&self) -> Time {
        self.since
    }

    /// Whether it runs as one of `kind`.
    #[inline]
    pub(crate) fn is(&self, kind: u8) -> bool {
        self.kind == kind
    }

    /// Whether it runs.
    #[inline]
    pub(crate) fn is_armed(&self) -> bool {
        self.kind != DISARMED
    }
}

#[derive(Clone, Copy, Debug)]
struct List {
    head: u32,
    tail: u32,
    /// When the timer at the head was armed: kept here so that asking for the next deadline touches no entry.
    head_since: Time,
    len: usize,
}

const EMPTY: List = List {
    head: NONE,
    tail: NONE,
    head_since: Time::ZERO,
    len: 0,
};

/// The armed timers of `KINDS` kinds, each kind oldest first. An entry has one timer here, of one kind at a time.
#[derive(Debug)]
pub(crate) struct Deadlines<T, const KINDS: usize> {
    lists: [List; KINDS],
    field: fn(&mut T) -> &mut Timer,
}

impl<T, const KINDS: usize> Deadlines<T, KINDS> {
    /// `field` names the timer within an entry.
    pub(crate) fn new(field: fn(&mut T) -> &mut Timer) -> Self {
        Deadlines {
            lists: [EMPTY; KINDS],
            field,
        }
    }

    /// How many timers of `kind` run.
    #[inline]
    pub(crate) fn len(&self, kind: u8) -> usize {
        self.lists.get(usize::from(kind)).map_or(0, |list| list.len)
    }

    /// The entry whose timer of `kind` was armed first, and when.
    #[inline]
    pub(crate) fn first(&self, kind: u8) -> Option<(u32, Time)> {
        let list = self.lists.get(usize::from(kind))?;
        (list.head != NONE).then_some((list.head, list.head_since))
    }

    /// Arms the timer of the entry at `index` as one of `kind`, from `now`; anew if it runs. `now` never goes back.
    pub(crate) fn arm(&mut self, slab: &mut Slab<T>, index: u32, kind: u8, now: Time) {
        self.disarm(slab, index);
        let Some(list) = self.lists.get_mut(usize::from(kind)) else {
            return;
        };
        let Some(entry) = slab.at_mut(index) else {
            return;
        };
        *(self.field)(entry) = Timer {
            since: now,
            prev: list.tail,
            next: NONE,
            kind,
        };
        match slab.at_mut(list.tail) {
            Some(last) => (self.field)(last).next = index,
            None => (list.head, list.head_since) = (index, now),
        }
        list.tail = index;
        list.len += 1;
    }

    /// Disarms the timer of the entry at `index`; harmless when it does not run.
    pub(crate) fn disarm(&mut self, slab: &mut Slab<T>, index: u32) {
        let Some(entry) = slab.at_mut(index) else {
            return;
        };
        let timer = (self.field)(entry);
        let Timer {
            prev, next, kind, ..
        } = *timer;
        timer.kind = DISARMED;
        // A timer that does not run has the one kind for which there is no list.
        let Some(list) = self.lists.get_mut(usize::from(kind)) else {
            return;
        };
        match slab.at_mut(prev) {
            Some(before) => (self.field)(before).next = next,
            None => list.head = next,
        }
        match slab.at_mut(next) {
            Some(after) => {
                let after = (self.field)(after);
                after.prev = prev;
                if prev == NONE {
                    list.head_since = after.since;
                }
            }
            None => list.tail = prev,
        }
        list.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(list: &mut Deadlines<Timer, 2>, slab: &mut Slab<Timer>, kind: u8) -> Vec<u32> {
        let mut seen = Vec::new();
        while let Some((index, _)) = list.first(kind) {
            seen.push(index);
            list.disarm(slab, index);
        }
        seen
    }

    #[test]
    fn oldest_first_whatever_is_taken_out_or_changes_its_kind() {
        let mut slab = Slab::default();
        let mut list = Deadlines::new(|timer: &mut Timer| timer);
        for n in 0..6 {
            let key = slab.insert(Timer::default()).unwrap();
            list.arm(&mut slab, key.index, 0, Time::from_millis(n));
        }
        for index in [0, 2, 5, 5] {
            list.disarm(&mut slab, index);
        }
        list.arm(&mut slab, 1, 0, Time::from_millis(9));
        list.arm(&mut slab, 4, 1, Time::from_millis(9));
        assert_eq!((list.len(0), list.len(1)), (2, 1));
        assert_eq!(list.first(0), Some((3, Time::from_millis(3))));
        assert_eq!(drained(&mut list, &mut slab, 0), [3, 1]);
        assert_eq!(drained(&mut list, &mut slab, 1), [4]);
        assert_eq!((list.len(0), list.first(0)), (0, None));
    }
}
