//! Deadlines grouped by kind: all of one kind last equally long, so the order of arming is the order of ending.
//!
//! Arming, disarming and finding the next deadline take constant time, whatever the number of idle clients. A timer costs its
//! owner 20 bytes and no allocation: the timers of a kind are a list through the entries of a slab.

use crate::list::{Links, Lists};
use crate::slab::Slab;
use crate::time::Time;

/// One deadline's place in the list of its kind; it lives inside the entry that it watches.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timer {
    /// Halves of a [`Time`], so that four bytes of padding are saved with each timer.
    since: [u32; 2],
    links: Links,
}

impl Timer {
    /// When it was armed last.
    #[inline]
    pub(crate) fn since(&self) -> Time {
        let [high, low] = self.since;
        Time::from_nanos((u64::from(high) << 32) | u64::from(low))
    }

    /// Whether it runs as one of `kind`.
    #[inline]
    pub(crate) fn is(&self, kind: u8) -> bool {
        self.links.list() == Some(kind)
    }

    /// Whether it runs.
    #[inline]
    pub(crate) fn is_armed(&self) -> bool {
        self.links.list().is_some()
    }

    fn set_since(&mut self, now: Time) {
        let nanos = now.as_nanos();
        let half = |bits: u64| u32::try_from(bits & 0xffff_ffff).unwrap_or(0);
        self.since = [half(nanos >> 32), half(nanos)];
    }
}

/// The armed timers of `KINDS` kinds, each kind oldest first. An entry has one timer here, of one kind at a time.
#[derive(Debug)]
pub(crate) struct Deadlines<T, const KINDS: usize> {
    lists: Lists<T, KINDS>,
    /// When the first of each kind was armed: kept here so that asking for the next deadline touches no entry.
    firsts: [Time; KINDS],
    timer: fn(&mut T) -> &mut Timer,
}

impl<T, const KINDS: usize> Deadlines<T, KINDS> {
    /// `timer` and `links` name the timer within an entry, and the links of that timer.
    pub(crate) fn new(timer: fn(&mut T) -> &mut Timer, links: fn(&mut T) -> &mut Links) -> Self {
        Deadlines {
            lists: Lists::new(links),
            firsts: [Time::ZERO; KINDS],
            timer,
        }
    }

    /// How many timers of `kind` run.
    #[inline]
    pub(crate) fn len(&self, kind: u8) -> usize {
        self.lists.len(kind)
    }

    /// The entry whose timer of `kind` was armed first, and when.
    #[inline]
    pub(crate) fn first(&self, kind: u8) -> Option<(u32, Time)> {
        self.lists
            .first(kind)
            .zip(self.firsts.get(usize::from(kind)).copied())
    }

    /// Arms the timer of the entry at `index` as one of `kind`, from `now`; anew if it runs. `now` never goes back.
    #[inline]
    pub(crate) fn arm(&mut self, slab: &mut Slab<T>, index: u32, kind: u8, now: Time) {
        self.disarm(slab, index);
        let Some(entry) = slab.at_mut(index) else {
            return;
        };
        (self.timer)(entry).set_since(now);
        self.lists.push_back(slab, index, kind);
        self.note_first(slab, kind);
    }

    /// Disarms the timer of the entry at `index`; harmless when it does not run.
    #[inline]
    pub(crate) fn disarm(&mut self, slab: &mut Slab<T>, index: u32) {
        let Some(entry) = slab.at_mut(index) else {
            return;
        };
        let Some(kind) = (self.timer)(entry).links.list() else {
            return;
        };
        self.lists.remove(slab, index);
        self.note_first(slab, kind);
    }

    fn note_first(&mut self, slab: &mut Slab<T>, kind: u8) {
        if let Some(first) = self.lists.first(kind)
            && let Some(entry) = slab.at_mut(first)
            && let Some(since) = self.firsts.get_mut(usize::from(kind))
        {
            *since = (self.timer)(entry).since();
        }
    }
}

/// Names a timer within an entry, for [`Deadlines::new`].
macro_rules! timer_of {
    ($($field:ident).+) => {
        $crate::deadlines::Deadlines::new(
            |entry| &mut entry.$($field).+,
            |entry| entry.$($field).+.links_mut(),
        )
    };
}
pub(crate) use timer_of;

impl Timer {
    /// Its place in the list of its kind.
    #[inline]
    pub(crate) fn links_mut(&mut self) -> &mut Links {
        &mut self.links
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Entry {
        timer: Timer,
    }

    #[test]
    fn the_first_to_be_armed_is_the_first_to_end_and_says_since_when() {
        let mut slab = Slab::default();
        let mut timers: Deadlines<Entry, 2> = timer_of!(timer);
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
}
