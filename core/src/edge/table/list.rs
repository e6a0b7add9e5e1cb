//! Doubly linked lists through the entries of a slab: no allocation, and constant time to add, remove and find the first.

use core::marker::PhantomData;

use crate::edge::table::slab::{MAX_SLOTS, Slab};

/// Of the end of a list. Indexes are below it, which leaves four bits of each `u32` for the number of the list.
const NONE: u32 = MAX_SLOTS;
/// The number of no list.
const OUT: u8 = 15;
/// The bits of an index.
const INDEX_BITS: u32 = NONE.count_ones();

/// An entry is removed from its list before it is removed from its slab.
const LIVE: &str = "what is in a list, or is added to one, is in the slab";
/// A list is named by a constant of its owner.
const KNOWN: &str = "a list has a number below how many there are";

/// An entry's node in one of the lists of a [`Lists`]. An idle client has several, so it takes 8 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    /// The number of the list in the highest four bits, and the entry before this one.
    list_and_prev: u32,
    next: u32,
}

image!(Node {
    list_and_prev,
    next
});

impl Default for Node {
    fn default() -> Self {
        Node::new(OUT, NONE, NONE)
    }
}

impl Node {
    #[inline]
    fn new(list: u8, prev: u32, next: u32) -> Self {
        Node {
            list_and_prev: u32::from(list) << INDEX_BITS | prev,
            next,
        }
    }

    /// Returns the list that it is in.
    #[inline]
    pub(crate) fn list(&self) -> Option<u8> {
        let list = self.number();
        (list != OUT).then_some(list)
    }

    /// Returns the number of the list, or [`OUT`].
    #[inline]
    fn number(&self) -> u8 {
        let [highest, ..] = self.list_and_prev.to_be_bytes();
        highest >> 4
    }

    #[inline]
    fn prev(&self) -> u32 {
        self.list_and_prev & NONE
    }
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    head: u32,
    tail: u32,
    len: usize,
}

image!(Ends { head, tail, len });

const EMPTY: Ends = Ends {
    head: NONE,
    tail: NONE,
    len: 0,
};

/// Selects the node of one kind of lists in an entry. It is a type and not a function, so that the compiler can inline it.
pub(crate) trait HasNode<T> {
    /// Returns the node.
    fn node(entry: &mut T) -> &mut Node;
}

/// `N` lists through the node that `L` selects. An entry is in at most one of them.
#[derive(Clone, Debug)]
pub(crate) struct Lists<T, L, const N: usize> {
    ends: [Ends; N],
    node: PhantomData<fn(T) -> L>,
}

image!(for [T, L, const N: usize] Lists<T, L, N> { ends, node });

impl<T, L: HasNode<T>, const N: usize> Lists<T, L, N> {
    pub(crate) fn new() -> Self {
        const { assert!(N <= OUT as usize, "the number of a list has four bits") };
        Lists {
            ends: [EMPTY; N],
            node: PhantomData,
        }
    }

    /// Returns the number of entries in `list`.
    #[inline]
    pub(crate) fn len(&self, list: u8) -> usize {
        self.ends(list).len
    }

    /// Returns the first entry of `list`.
    #[inline]
    pub(crate) fn first(&self, list: u8) -> Option<u32> {
        Some(self.ends(list).head).filter(|&head| head != NONE)
    }

    #[inline]
    fn ends(&self, list: u8) -> &Ends {
        self.ends.get(usize::from(list)).expect(KNOWN)
    }

    /// Moves the entry at `index` to the end of `list`.
    ///
    /// # Panics
    /// When there is no such entry, as in [`append`](Self::append) and [`remove`](Self::remove): the owner of the index was not told that its
    /// entry is gone.
    #[inline]
    #[track_caller]
    pub(crate) fn push_back(&mut self, slab: &mut Slab<T>, index: u32, list: u8) {
        self.remove(slab, index);
        self.append(slab, index, list);
    }

    /// Appends the entry at `index`, which is in no list, to `list`. Returns whether it is the first one there.
    #[inline]
    #[track_caller]
    pub(crate) fn append(&mut self, slab: &mut Slab<T>, index: u32, list: u8) -> bool {
        let ends = self.ends.get_mut(usize::from(list)).expect(KNOWN);
        let prev = ends.tail;
        match prev {
            NONE => ends.head = index,
            last => L::node(slab.at_mut(last).expect(LIVE)).next = index,
        }
        ends.tail = index;
        ends.len += 1;
        *L::node(slab.at_mut(index).expect(LIVE)) = Node::new(list, prev, NONE);
        prev == NONE
    }

    /// Removes the entry at `index` from its list. Harmless if it is in none. Returns the list that it was the first of, if it was.
    #[inline]
    #[track_caller]
    pub(crate) fn remove(&mut self, slab: &mut Slab<T>, index: u32) -> Option<u8> {
        let node = L::node(slab.at_mut(index).expect(LIVE));
        let (list, prev, next) = (node.number(), node.prev(), node.next);
        *node = Node::default();
        // An entry that is in no list has a number that no list has.
        let ends = self.ends.get_mut(usize::from(list))?;
        match prev {
            NONE => ends.head = next,
            before => L::node(slab.at_mut(before).expect(LIVE)).next = next,
        }
        match next {
            NONE => ends.tail = prev,
            after => {
                let after = L::node(slab.at_mut(after).expect(LIVE));
                *after = Node::new(list, prev, after.next);
            }
        }
        ends.len -= 1;
        (prev == NONE).then_some(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Itself;

    impl HasNode<Node> for Itself {
        fn node(entry: &mut Node) -> &mut Node {
            entry
        }
    }

    fn drained(lists: &mut Lists<Node, Itself, 2>, slab: &mut Slab<Node>, list: u8) -> Vec<u32> {
        let mut seen = Vec::new();
        while let Some(index) = lists.first(list) {
            seen.push(index);
            lists.remove(slab, index);
        }
        seen
    }

    #[test]
    fn first_in_first_out_whatever_is_taken_out_or_changes_lists() {
        let mut slab = Slab::default();
        let mut lists = Lists::<Node, Itself, 2>::new();
        for _ in 0..6 {
            let key = slab.insert(Node::default()).unwrap();
            lists.push_back(&mut slab, key.index, 0);
        }
        for index in [0, 2, 5, 5] {
            lists.remove(&mut slab, index);
        }
        lists.push_back(&mut slab, 1, 0);
        lists.push_back(&mut slab, 4, 1);
        assert_eq!((lists.len(0), lists.len(1)), (2, 1));
        assert_eq!(drained(&mut lists, &mut slab, 0), [3, 1]);
        assert_eq!(drained(&mut lists, &mut slab, 1), [4]);
        assert_eq!((lists.len(0), lists.first(0)), (0, None));
    }

    #[test]
    fn a_node_has_room_for_each_list_and_each_index() {
        for list in 0..=OUT {
            for prev in [0, MAX_SLOTS - 1, NONE] {
                let node = Node::new(list, prev, prev);
                assert_eq!((node.number(), node.prev(), node.next), (list, prev, prev));
            }
        }
        assert_eq!(size_of::<Node>(), 8);
    }

    #[test]
    fn a_list_tells_of_its_first_entry() {
        let mut slab = Slab::default();
        let mut lists = Lists::<Node, Itself, 2>::new();
        let mut insert = || slab.insert(Node::default()).unwrap().index;
        let [first, second] = [insert(), insert()];
        assert!(lists.append(&mut slab, first, 1));
        assert!(!lists.append(&mut slab, second, 1));
        assert_eq!(lists.remove(&mut slab, second), None);
        assert_eq!(lists.remove(&mut slab, first), Some(1));
        assert_eq!(lists.remove(&mut slab, first), None);
    }

    #[test]
    #[should_panic(expected = "is in the slab")]
    fn an_entry_that_left_the_slab_without_its_list_is_noticed() {
        let mut slab = Slab::default();
        let mut lists = Lists::<Node, Itself, 2>::new();
        for _ in 0..2 {
            let key = slab.insert(Node::default()).unwrap();
            lists.push_back(&mut slab, key.index, 0);
        }
        slab.remove(0);
        lists.remove(&mut slab, 1);
    }
}
