//! A table with dense indexes, stable while an entry lives, and a generation against their reuse.

/// The place of an entry, and which of the entries that ever stood there is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

#[derive(Clone, Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// Values under dense `u32` indexes; freed indexes are used again, last freed first, which keeps the table small and warm.
#[derive(Clone, Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab {
            slots: Vec::new(),
            free: Vec::new(),
            len: 0,
        }
    }
}

impl<T> Slab<T> {
    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// One more than the highest index ever used: the bound of a walk by index.
    pub(crate) fn end(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    /// Stores `value`. `None` when all 2³²−1 indexes are taken.
    pub(crate) fn insert(&mut self, value: T) -> Option<Key> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(self.slots.len())
                    .ok()
                    .filter(|&index| index != u32::MAX)?;
                self.slots.push(Slot {
                    generation: 0,
                    value: None,
                });
                index
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

    /// Takes the value out; the key is dead from now on.
    pub(crate) fn remove(&mut self, index: u32) -> Option<T> {
        let slot = self.slots.get_mut(index as usize)?;
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        self.len -= 1;
        if self.len == 0 {
            // All indexes are free: begin anew with their generations kept, and give the list's memory back.
            self.free.shrink_to(1024);
        }
        Some(value)
    }

    /// The value at `index`, whichever generation it has.
    #[inline]
    pub(crate) fn at(&self, index: u32) -> Option<&T> {
        self.slots.get(index as usize)?.value.as_ref()
    }

    /// The value at `index`, whichever generation it has.
    #[inline]
    pub(crate) fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        self.slots.get_mut(index as usize)?.value.as_mut()
    }

    /// The value that `key` means, unless it is gone.
    #[inline]
    pub(crate) fn find(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key.index as usize)?;
        if slot.generation == key.generation {
            slot.value.as_ref()
        } else {
            None
        }
    }

    /// Whether `key` still means a value.
    #[inline]
    pub(crate) fn contains(&self, key: Key) -> bool {
        self.find(key).is_some()
    }

    /// The whole key of the value at `index`.
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
}
