//! Times at which single entries are to be looked at, where these differ from entry to entry.

use crate::edge::table::slab::room_to_keep;
use crate::time::Time;

/// Of an entry without an alarm.
const NOWHERE: u32 = u32::MAX;
const LISTED: &str = "an alarm and its place know each other";

/// The alarm of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Alarm {
    /// The two halves of a [`Time`], which saves four bytes of padding per alarm.
    at: [u32; 2],
    index: u32,
}

image!(Alarm { at, index });

impl Alarm {
    fn at(self) -> Time {
        let [high, low] = self.at;
        Time::from_nanos((u64::from(high) << 32) | u64::from(low))
    }
}

/// The alarms of entries by index, at most one for each: a heap that knows the place of each entry. An idle client has one, which takes 16
/// bytes here. Every change takes logarithmic time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alarms {
    /// The first alarm in front, and each one before the two below it.
    heap: Vec<Alarm>,
    /// The place in the heap of each entry, by index.
    places: Vec<u32>,
}

image!(Alarms { heap, places });

impl Alarms {
    /// Moves the alarm of the entry at `index`. `None`: it has none.
    pub(crate) fn set(&mut self, index: u32, at: Option<Time>) {
        let place = self.place(index);
        let Some(at) = at else {
            return place.into_iter().for_each(|place| self.remove(place));
        };
        let nanos = at.as_nanos();
        let half = |bits: u64| u32::try_from(bits & 0xffff_ffff).unwrap_or(0);
        let at = [half(nanos >> 32), half(nanos)];
        let alarm = Alarm { at, index };
        let place = place.unwrap_or_else(|| {
            if self.places.len() <= index as usize {
                self.places.resize(index as usize + 1, NOWHERE);
            }
            self.heap.push(alarm);
            self.heap.len() - 1
        });
        self.settle(place, alarm);
    }

    /// Returns when the entry at `index` is looked at.
    pub(crate) fn at(&self, index: u32) -> Option<Time> {
        let place = self.place(index)?;
        self.heap.get(place).map(|alarm| alarm.at())
    }

    /// Returns the first alarm. Of those at the same time it is that of the lowest index.
    pub(crate) fn first(&self) -> Option<(Time, u32)> {
        self.heap.first().map(|alarm| (alarm.at(), alarm.index))
    }

    /// Returns the number of alarms, for checks.
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    fn place(&self, index: u32) -> Option<usize> {
        let place = self.places.get(index as usize).copied()?;
        (place != NOWHERE).then_some(place as usize)
    }

    fn remove(&mut self, place: usize) {
        let last = self.heap.pop().expect(LISTED);
        match self.heap.get(place).copied() {
            Some(removed) => {
                self.forget(removed.index);
                self.settle(place, last);
            }
            None => self.forget(last.index),
        }
        if let Some(keep) = room_to_keep(self.heap.len(), self.heap.capacity()) {
            self.heap.shrink_to(keep);
        }
    }

    /// Forgets the place of an entry, and those behind the last entry with an alarm.
    fn forget(&mut self, index: u32) {
        *self.places.get_mut(index as usize).expect(LISTED) = NOWHERE;
        while self.places.pop_if(|last| *last == NOWHERE).is_some() {}
        if let Some(keep) = room_to_keep(self.places.len(), self.places.capacity()) {
            self.places.shrink_to(keep);
        }
    }

    /// Puts an alarm where it belongs, in place of the one at `place`.
    fn settle(&mut self, mut place: usize, alarm: Alarm) {
        while let Some(above) = place.checked_sub(1).map(|below| below / 2)
            && let Some(&other) = self.heap.get(above)
            && alarm < other
        {
            self.put(place, other);
            place = above;
        }
        while let Some((below, other)) = self.first_below(place)
            && other < alarm
        {
            self.put(place, other);
            place = below;
        }
        self.put(place, alarm);
    }

    /// Returns the place and the alarm of the first of the two below a place.
    fn first_below(&self, place: usize) -> Option<(usize, Alarm)> {
        let left = 2 * place + 1;
        let first = *self.heap.get(left)?;
        match self.heap.get(left + 1) {
            Some(&right) if right < first => Some((left + 1, right)),
            _ => Some((left, first)),
        }
    }

    fn put(&mut self, place: usize, alarm: Alarm) {
        *self.heap.get_mut(place).expect(LISTED) = alarm;
        let known = self.places.get_mut(alarm.index as usize).expect(LISTED);
        *known = u32::try_from(place).expect("indexes are u32");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_entry_has_one_alarm() {
        let at = |millis| Some(Time::from_millis(millis));
        let mut alarms = Alarms::default();
        alarms.set(7, at(30));
        alarms.set(8, at(20));
        assert_eq!(alarms.first(), Some((Time::from_millis(20), 8)));
        alarms.set(7, at(10));
        assert_eq!(alarms.first(), Some((Time::from_millis(10), 7)));
        assert_eq!((alarms.len(), alarms.at(7)), (2, at(10)));
        alarms.set(7, None);
        alarms.set(9, None);
        alarms.set(8, None);
        assert_eq!((alarms.first(), alarms.len()), (None, 0));
        assert_eq!((alarms.at(8), alarms.places.len()), (None, 0));
    }

    proptest! {
        /// Compares it with a map.
        #[test]
        fn the_first_is_the_first_of_all(
            steps in proptest::collection::vec((0..30_u32, proptest::option::of(0..20_u64)), 0..300),
        ) {
            let mut alarms = Alarms::default();
            let mut all = BTreeMap::new();
            for (index, at) in steps {
                // Beyond 32 bits of nanoseconds as well.
                let at = at.map(Time::from_millis).map(|at| Time::from_nanos(at.as_nanos() * 1_000));
                alarms.set(index, at);
                match at {
                    Some(at) => drop(all.insert(index, at)),
                    None => drop(all.remove(&index)),
                }
                let first = all.iter().map(|(index, at)| (*at, *index)).min();
                prop_assert_eq!((alarms.first(), alarms.len()), (first, all.len()));
                for index in 0..30 {
                    prop_assert_eq!(alarms.at(index), all.get(&index).copied());
                }
            }
        }
    }

    #[test]
    fn its_memory_follows_the_highest_index_with_an_alarm() {
        let mut alarms = Alarms::default();
        for index in 0..50_000 {
            alarms.set(index, Some(Time::from_millis(index.into())));
        }
        for index in 1..50_000 {
            alarms.set(index, None);
        }
        assert_eq!((alarms.len(), alarms.places.len()), (1, 1));
        let capacities = [alarms.heap.capacity(), alarms.places.capacity()];
        assert!(capacities.iter().all(|it| *it <= 4_096), "{capacities:?}");
    }
}
