//! Holders of memory by size, with constant time to move one and to find a largest one.

use crate::edge::table::list::{HasNode, Lists, Node};
use crate::edge::table::slab::Slab;

/// Holders of fewer bytes than this are in no class: ending them would free too little.
pub(crate) const SMALLEST_CLASS_BYTES: usize = 1024;
/// The number of classes. They are powers of two from [`SMALLEST_CLASS_BYTES`] up, and the last one has no upper end.
const CLASSES: usize = 14;
const LAST_CLASS: u8 = 13;

/// The bytes that one connection or session holds, and its position among holders of about as much.
///
/// Aligned to 4 bytes like its node: that saves 8 bytes in each connection and each session.
#[derive(Clone, Copy, Debug, Default)]
#[repr(Rust, packed(4))]
pub(crate) struct Holding {
    bytes: usize,
    class: Node,
}

#[cfg(feature = "record")]
impl crate::image::Image for Holding {
    fn put(&self, out: &mut crate::image::Out) {
        let Holding { bytes, class } = *self;
        bytes.put(out);
        class.put(out);
    }

    fn take(from: &mut crate::image::Taken<'_>) -> Option<Self> {
        use crate::image::Image;
        Some(Holding {
            bytes: Image::take(from)?,
            class: Image::take(from)?,
        })
    }
}

impl Holding {
    /// Returns the bytes held, as last counted.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sets the bytes held. Returns how many they were before.
    #[inline]
    pub(crate) fn replace(&mut self, bytes: usize) -> usize {
        let before = self.bytes;
        self.bytes = bytes;
        before
    }
}

/// What a holder held before a change and what it holds after it, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resized {
    pub(crate) before: usize,
    pub(crate) after: usize,
}

/// An entry with a [`Holding`].
pub(crate) trait Holds {
    /// Returns its holding.
    fn holding(&mut self) -> &mut Holding;
}

/// The node of [`BySize`].
#[derive(Clone, Debug)]
struct SizeClass;

impl<T: Holds> HasNode<T> for SizeClass {
    #[inline]
    fn node(entry: &mut T) -> &mut Node {
        &mut entry.holding().class
    }
}

/// Holders by size. The largest one is found within a factor of two.
#[derive(Clone, Debug)]
pub(crate) struct BySize<T>(Lists<T, SizeClass, CLASSES>);

image!(for [T] BySize<T> { 0 });

impl<T: Holds> BySize<T> {
    pub(crate) fn new() -> Self {
        BySize(Lists::new())
    }

    /// Moves the holder at `index` to the class of what it holds now.
    pub(crate) fn update(&mut self, slab: &mut Slab<T>, index: u32, resized: Resized) {
        match (class_of(resized.before), class_of(resized.after)) {
            (before, after) if before == after => {}
            (_, Some(class)) => self.0.push_back(slab, index, class),
            (_, None) => {
                self.0.remove(slab, index);
            }
        }
    }

    /// Removes the holder at `index` from its class.
    pub(crate) fn remove(&mut self, slab: &mut Slab<T>, index: u32) {
        self.0.remove(slab, index);
    }

    /// Returns the class and the index of a holder in the largest non-empty class.
    pub(crate) fn largest(&self) -> Option<(u8, u32)> {
        (0..=LAST_CLASS)
            .rev()
            .find_map(|class| self.0.first(class).map(|index| (class, index)))
    }
}

fn class_of(bytes: usize) -> Option<u8> {
    let ratio = bytes / SMALLEST_CLASS_BYTES;
    let class = ratio.checked_ilog2()?;
    Some(u8::try_from(class).map_or(LAST_CLASS, |class| class.min(LAST_CLASS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_powers_of_two() {
        let classes: Vec<_> = [0, 1023, 1024, 2047, 2048, 1 << 20, 1 << 23, usize::MAX]
            .map(class_of)
            .into();
        let expected = [
            None,
            None,
            Some(0),
            Some(0),
            Some(1),
            Some(10),
            Some(13),
            Some(13),
        ];
        assert_eq!(classes, expected);
    }
}
