//! A table with dense indexes that are stable while an entry lives, and generations that tell reused indexes apart.

use core::cmp::Reverse;
use std::collections::BinaryHeap;

/// The number of places that are kept when all are free: less memory is not worth returning.
const KEPT_SLOTS: usize = 1024;

/// The most places of a slab: indexes are shorter than a `u32` by the four bits in which lists through its entries have their numbers.
/// No process has as many descriptors, and as many sessions would take 100 GB.
pub(crate) const MAX_SLOTS: u32 = (1 << 28) - 1;

/// The index of an entry, and its generation among the entries that used this index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

image!(Key { index, generation });

#[derive(Clone, Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

image!(for [T: crate::image::Image] Slot<T> { generation, value });

/// Values under dense `u32` indexes.
///
/// The lowest free index is used first, and free places at the end are removed. So the table is as long as its highest index in use, and
/// its memory shrinks after many entries have left. Both take constant time, except for the order of free indexes, which is a heap.
#[derive(Clone, Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    /// All free indexes of `slots`, and some beyond its end. As the lowest comes first, one beyond the end means that there are no others.
    free: BinaryHeap<Reverse<u32>>,
    len: usize,
    /// The highest generation of a removed place. A new place begins with it, so that no key repeats.
    generation: u32,
}

image!(for [T: crate::image::Image] Slab<T> { slots, free, len, generation });

/// Returns the capacity to keep for `len` used entries of `capacity`, if the rest should be returned.
///
/// With a quarter in use half of it is returned, so each entry moves at most once per removed entry.
pub(crate) fn room_to_keep(len: usize, capacity: usize) -> Option<usize> {
    let keep = (2 * len).max(KEPT_SLOTS);
    (capacity >= 2 * keep).then_some(keep)
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab {
            slots: Vec::new(),
            free: BinaryHeap::new(),
            len: 0,
            generation: 0,
        }
    }
}

impl<T> Slab<T> {
    /// Returns the number of values.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns one more than the highest index in use: the bound of a walk by index.
    pub(crate) fn end(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    /// Stores `value`. Returns `None` if all [`MAX_SLOTS`] indexes are taken.
    pub(crate) fn insert(&mut self, value: T) -> Option<Key> {
        let end = self.end();
        let index = match self.free.pop() {
            Some(Reverse(index)) if index < end => index,
            _ => {
                self.free.clear();
                if end >= MAX_SLOTS {
                    return None;
                }
                self.slots.push(Slot {
                    generation: self.generation,
                    value: None,
                });
                end
            }
        };
        let slot = self.slots.get_mut(index as usize)?;
        slot.value = Some(value);
        self.len += 1;
        Some(Key {
            index,
            generation: slot.generation,
        })
    }

    /// Removes the value. Its key is dead from now on.
    pub(crate) fn remove(&mut self, index: u32) -> Option<T> {
        let slot = self.slots.get_mut(index as usize)?;
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.len -= 1;
        while let Some(last) = self.slots.pop_if(|last| last.value.is_none()) {
            self.generation = self.generation.max(last.generation);
        }
        if index < self.end() {
            self.free.push(Reverse(index));
        }
        self.give_memory_back();
        Some(value)
    }

    fn give_memory_back(&mut self) {
        if let Some(keep) = room_to_keep(self.slots.len(), self.slots.capacity()) {
            self.slots.shrink_to(keep);
        }
        if let Some(keep) = room_to_keep(self.slots.len(), self.free.capacity()) {
            let end = self.end();
            self.free.retain(|&Reverse(index)| index < end);
            self.free.shrink_to(keep);
        }
    }

    /// Returns the number of places for which there is memory.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.slots.capacity() + self.free.capacity()
    }

    /// Returns the value at `index`, whatever its generation.
    #[inline]
    pub(crate) fn at(&self, index: u32) -> Option<&T> {
        self.slots.get(index as usize)?.value.as_ref()
    }

    /// Returns the value at `index`, whatever its generation.
    #[inline]
    pub(crate) fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        self.slots.get_mut(index as usize)?.value.as_mut()
    }

    /// Returns the value of `key`, unless it was removed.
    #[inline]
    pub(crate) fn find(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key.index as usize)?;
        if slot.generation == key.generation {
            slot.value.as_ref()
        } else {
            None
        }
    }

    /// Returns the value of `key`, unless it was removed.
    #[inline]
    pub(crate) fn find_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation {
            slot.value.as_mut()
        } else {
            None
        }
    }

    /// Returns the value at `index` with its whole key.
    #[inline]
    pub(crate) fn entry_mut(&mut self, index: u32) -> Option<(Key, &mut T)> {
        let slot = self.slots.get_mut(index as usize)?;
        let generation = slot.generation;
        let key = Key { index, generation };
        slot.value.as_mut().map(|value| (key, value))
    }

    /// Returns the first index in use from `index` on: one step of a walk during which values may come and go.
    pub(crate) fn next_from(&self, index: u32) -> Option<u32> {
        let rest = self.slots.get(index as usize..)?;
        let skipped = rest.iter().position(|slot| slot.value.is_some())?;
        index.checked_add(u32::try_from(skipped).ok()?)
    }

    /// Returns the places from `index` on, with the value of each.
    pub(crate) fn places(&self, index: u32) -> impl Iterator<Item = (u32, Option<&T>)> {
        let rest = self.slots.get(index as usize..).unwrap_or_default();
        (index..=u32::MAX).zip(rest.iter().map(|slot| slot.value.as_ref()))
    }

    /// Returns the values with their indexes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let slots = (0..).zip(&self.slots);
        slots.filter_map(|(index, slot)| Some((index, slot.value.as_ref()?)))
    }

    /// Returns the whole key of the value at `index`.
    pub(crate) fn key_at(&self, index: u32) -> Option<Key> {
        let slot = self.slots.get(index as usize)?;
        slot.value.as_ref().map(|_| Key {
            index,
            generation: slot.generation,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_dies_with_its_value() {
        let mut slab = Slab::default();
        let first = slab.insert("a").unwrap();
        assert_eq!(slab.remove(first.index), Some("a"));
        let second = slab.insert("b").unwrap();
        assert_eq!(second.index, first.index);
        assert_ne!(second, first);
        assert_eq!(slab.find(first), None);
        assert_eq!(slab.find(second), Some(&"b"));
        assert_eq!(slab.remove(7), None);
        assert_eq!((slab.len(), slab.end()), (1, 1));
    }

    #[test]
    fn from_a_quarter_in_use_down_half_of_the_room_goes() {
        assert_eq!(room_to_keep(10_000, 39_999), None);
        assert_eq!(room_to_keep(10_000, 40_000), Some(20_000));
        assert_eq!(room_to_keep(0, 2 * KEPT_SLOTS - 1), None);
        assert_eq!(room_to_keep(0, 2 * KEPT_SLOTS), Some(KEPT_SLOTS));
    }

    #[test]
    fn its_memory_follows_the_highest_index_in_use() {
        let mut slab = Slab::default();
        for n in 0..100_000_u32 {
            assert_eq!(slab.insert(n).unwrap().index, n);
        }
        // In an order in which the last ones are removed last, and one in the middle stays.
        for index in (0..100_000).filter(|&index| index != 20_000) {
            slab.remove(index);
        }
        assert_eq!((slab.len(), slab.end()), (1, 20_001));
        assert!(slab.capacity() <= 2 * 4 * 20_001, "{}", slab.capacity());
        assert_eq!(slab.insert(7).unwrap().index, 0, "the lowest goes first");
        slab.remove(20_000);
        assert_eq!(slab.end(), 1);
        assert!(slab.capacity() <= 2 * 2 * KEPT_SLOTS, "{}", slab.capacity());
    }

    proptest! {
        /// Compares it with a map that forgets no key: no key repeats, and dead ones stay dead.
        #[test]
        fn it_behaves_as_a_map_in_which_no_key_comes_again(
            steps in proptest::collection::vec((any::<bool>(), 0..40_u32), 0..400),
        ) {
            let mut slab = Slab::default();
            let mut all = BTreeMap::new();
            for (step, (inserts, index)) in steps.into_iter().enumerate() {
                if inserts {
                    let key = slab.insert(step).unwrap();
                    prop_assert_eq!(all.insert(key, Some(step)), None);
                } else {
                    let key = slab.key_at(index);
                    let removed = slab.remove(index);
                    prop_assert_eq!(removed, key.and_then(|key| all.insert(key, None)).flatten());
                }
                let living: Vec<_> = all.iter().filter_map(|(key, value)| Some((*key, (*value)?))).collect();
                prop_assert_eq!(slab.len(), living.len());
                prop_assert_eq!(slab.end(), living.last().map_or(0, |(key, _)| key.index + 1));
                for (key, value) in &all {
                    prop_assert_eq!(slab.find(*key), value.as_ref());
                }
            }
        }
    }
}
