//! Members in groups: who makes room when there are too many is one of the group with the most.
//!
//! A group has two tiers, and those in its first tier come before those in its last. To add, to remove and to find the first of a group take
//! constant time; its rank among the groups takes logarithmic time in their number. Nothing is allocated for a member or a group once the
//! tables have grown.

use core::cmp::Reverse;

use crate::edge::table::list::{HasNode, Lists, Node};
use crate::edge::table::slab::{Slab, room_to_keep};

/// An index of a member or group that its owner keeps.
const LIVE: &str = "what is kept of a group or member ends with it";
const ROOM: &str = "there are fewer members than the table has indexes";

/// The two tiers of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    First,
    Last,
}

/// A position among all members: those in first tiers come before those in last tiers, then the order of arrival applies.
type Turn = u64;
const IN_LAST_TIER: Turn = 1 << 63;

/// How much a group weighs: by its members, then by how early its first one comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    pub(crate) members: usize,
    first: Reverse<Turn>,
}

#[derive(Clone, Debug)]
struct Member<V> {
    value: V,
    group: u32,
    turn: Turn,
    node: Node,
}

image!(for [V: crate::image::Image] Member<V> { value, group, turn, node });

/// [`Member::node`].
#[derive(Clone, Debug)]
struct InGroup;

impl<V> HasNode<Member<V>> for InGroup {
    #[inline]
    fn node(member: &mut Member<V>) -> &mut Node {
        &mut member.node
    }
}

#[derive(Clone, Debug)]
struct Group<K, V> {
    key: K,
    tiers: Lists<Member<V>, InGroup, 2>,
    /// Its place in [`Groups::heap`].
    place: usize,
}

image!(for [K: crate::image::Image, V: crate::image::Image] Group<K, V> { key, tiers, place });

impl<K, V> Group<K, V> {
    fn members(&self) -> usize {
        self.tiers.len(Tier::First as u8) + self.tiers.len(Tier::Last as u8)
    }

    fn first(&self) -> Option<u32> {
        let first = self.tiers.first(Tier::First as u8);
        first.or_else(|| self.tiers.first(Tier::Last as u8))
    }
}

/// Members with a value `V` in groups with a key `K`. A group exists while it has members.
#[derive(Clone, Debug)]
pub(crate) struct Groups<K, V> {
    members: Slab<Member<V>>,
    groups: Slab<Group<K, V>>,
    /// The groups, as a heap with the one of the highest rank in front.
    heap: Vec<u32>,
    arrivals: u64,
}

image!(for [K: crate::image::Image, V: crate::image::Image] Groups<K, V> {
    members, groups, heap, arrivals,
});

impl<K, V> Default for Groups<K, V> {
    fn default() -> Self {
        Groups {
            members: Slab::default(),
            groups: Slab::default(),
            heap: Vec::new(),
            arrivals: 0,
        }
    }
}

impl<K, V> Groups<K, V> {
    /// Returns the number of members of all groups.
    pub(crate) fn members(&self) -> usize {
        self.members.len()
    }

    /// Returns the number of groups.
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    /// Adds a group, which must get a member at once. Returns its index.
    pub(crate) fn begin(&mut self, key: K) -> u32 {
        let place = self.heap.len();
        let group = Group {
            key,
            tiers: Lists::new(),
            place,
        };
        let index = self.groups.insert(group).expect(ROOM).index;
        self.heap.push(index);
        index
    }

    /// Adds a member to a group, at the end of `tier`. Returns its index.
    #[track_caller]
    pub(crate) fn enter(&mut self, group: u32, value: V, tier: Tier) -> u32 {
        let turn = self.next_turn(tier);
        let node = Node::default();
        let member = Member {
            value,
            group,
            turn,
            node,
        };
        let index = self.members.insert(member).expect(ROOM).index;
        let tiers = &mut self.groups.at_mut(group).expect(LIVE).tiers;
        tiers.append(&mut self.members, index, tier as u8);
        // Its group has one more, and its first one does not come later.
        self.rise(group);
        index
    }

    /// Removes a member. Returns its value, and the key of its group if that has ended with it.
    #[track_caller]
    pub(crate) fn leave(&mut self, member: u32) -> (V, Option<K>) {
        let index = self.members.at(member).expect(LIVE).group;
        let group = self.groups.at_mut(index).expect(LIVE);
        group.tiers.remove(&mut self.members, member);
        let value = self.members.remove(member).expect(LIVE).value;
        if group.members() > 0 {
            self.sink(index);
            return (value, None);
        }
        let ended = self.groups.remove(index).expect(LIVE);
        let last = self.heap.pop().expect(LIVE);
        if last != index {
            self.put(ended.place, last);
            self.rise(last);
            self.sink(last);
        }
        if let Some(keep) = room_to_keep(self.heap.len(), self.heap.capacity()) {
            self.heap.shrink_to(keep);
        }
        (value, Some(ended.key))
    }

    /// Moves a member to the end of `tier`, unless it is in that tier.
    #[track_caller]
    pub(crate) fn change_tier(&mut self, member: u32, tier: Tier) {
        let turn = self.next_turn(tier);
        let entry = self.members.at_mut(member).expect(LIVE);
        if entry.node.list() == Some(tier as u8) {
            return;
        }
        entry.turn = turn;
        let index = entry.group;
        let tiers = &mut self.groups.at_mut(index).expect(LIVE).tiers;
        tiers.push_back(&mut self.members, member, tier as u8);
        self.rise(index);
        self.sink(index);
    }

    /// Returns the value of a member.
    #[track_caller]
    pub(crate) fn value_of(&self, member: u32) -> &V {
        &self.members.at(member).expect(LIVE).value
    }

    /// Returns the first member of a group.
    #[track_caller]
    pub(crate) fn first_of(&self, group: u32) -> &V {
        &self.first(group).value
    }

    /// Returns the group with the most members. Of equals it is the one whose first member comes first.
    pub(crate) fn largest(&self) -> Option<u32> {
        self.heap.first().copied()
    }

    /// Returns the rank of a group.
    #[track_caller]
    pub(crate) fn rank(&self, group: u32) -> Rank {
        Rank {
            members: self.groups.at(group).expect(LIVE).members(),
            first: Reverse(self.first(group).turn),
        }
    }

    fn first(&self, group: u32) -> &Member<V> {
        let first = self.groups.at(group).expect(LIVE).first();
        let first = first.and_then(|member| self.members.at(member));
        first.expect("a group has members")
    }

    fn next_turn(&mut self, tier: Tier) -> Turn {
        self.arrivals += 1;
        match tier {
            Tier::First => self.arrivals,
            Tier::Last => self.arrivals | IN_LAST_TIER,
        }
    }

    /// Moves a group up in the heap to where its rank belongs.
    fn rise(&mut self, group: u32) {
        let mut place = self.groups.at(group).expect(LIVE).place;
        if place == 0 {
            return;
        }
        let rank = self.rank(group);
        while let Some(above) = place.checked_sub(1).map(|below| below / 2)
            && let Some(&other) = self.heap.get(above)
            && self.rank(other) < rank
        {
            self.put(place, other);
            place = above;
        }
        self.put(place, group);
    }

    /// Moves a group down in the heap to where its rank belongs.
    fn sink(&mut self, group: u32) {
        let mut place = self.groups.at(group).expect(LIVE).place;
        if 2 * place + 1 >= self.heap.len() {
            return;
        }
        let rank = self.rank(group);
        while let Some((highest, below, other)) = self.highest_below(place)
            && highest > rank
        {
            self.put(place, other);
            place = below;
        }
        self.put(place, group);
    }

    /// Returns the rank, place and index of the higher of the two groups below a place in the heap.
    fn highest_below(&self, place: usize) -> Option<(Rank, usize, u32)> {
        let below = [2 * place + 1, 2 * place + 2];
        let ranks = below.into_iter().filter_map(|place| {
            let &group = self.heap.get(place)?;
            Some((self.rank(group), place, group))
        });
        ranks.max()
    }

    fn put(&mut self, place: usize, group: u32) {
        *self.heap.get_mut(place).expect(LIVE) = group;
        self.groups.at_mut(group).expect(LIVE).place = place;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A group per number, found by a walk.
    fn group(groups: &mut Groups<u8, u32>, key: u8) -> u32 {
        let found = groups.groups.iter().find(|(_, group)| group.key == key);
        let found = found.map(|(index, _)| index);
        found.unwrap_or_else(|| groups.begin(key))
    }

    #[test]
    fn the_first_of_the_largest_group_comes_from_its_first_line() {
        let mut groups = Groups::default();
        assert_eq!(groups.largest(), None);
        let a = groups.begin(1);
        groups.enter(a, 1, Tier::Last);
        let second = groups.enter(a, 2, Tier::First);
        assert_eq!((groups.first_of(a), groups.largest()), (&2, Some(a)));
        groups.change_tier(second, Tier::Last);
        assert_eq!(groups.first_of(a), &1, "the other has come earlier");
        let b = groups.begin(2);
        let third = groups.enter(b, 3, Tier::First);
        assert_eq!(groups.largest(), Some(a));
        assert_eq!(groups.leave(second), (2, None));
        assert_eq!(groups.largest(), Some(b), "of equals the first tier");
        assert_eq!(groups.leave(third), (3, Some(2)));
        assert_eq!((groups.members(), groups.len()), (1, 1));
    }

    /// What a member is expected to be.
    #[derive(Clone, Copy, Debug)]
    struct Expected {
        key: u8,
        /// Its tier and its turn in that.
        turn: (u8, usize),
        value: u32,
        member: u32,
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_look_at_all_members(
            steps in proptest::collection::vec((0..4_u8, 0..8_u8, any::<bool>(), 0..64_usize), 0..300),
        ) {
            let mut groups = Groups::default();
            let mut all: Vec<Expected> = Vec::new();
            for (value, (act, key, is_first, nth)) in (0..).zip(steps) {
                let tier = if is_first { Tier::First } else { Tier::Last };
                let turn = (tier as u8, value as usize);
                if act < 2 || all.is_empty() {
                    let into = group(&mut groups, key);
                    let member = groups.enter(into, value, tier);
                    all.push(Expected { key, turn, value, member });
                } else if act == 2 {
                    let gone = all.swap_remove(nth % all.len());
                    let is_last = all.iter().all(|other| other.key != gone.key);
                    prop_assert_eq!(groups.leave(gone.member), (gone.value, is_last.then_some(gone.key)));
                } else {
                    let at = nth % all.len();
                    groups.change_tier(all[at].member, tier);
                    if all[at].turn.0 != turn.0 {
                        all[at].turn = turn;
                    }
                }
                let size = |key| all.iter().filter(|other| other.key == key).count();
                let most = all.iter().map(|one| size(one.key)).max();
                let in_largest = all.iter().filter(|one| Some(size(one.key)) == most);
                let first = in_largest.min_by_key(|one| one.turn);
                let largest = groups.largest();
                prop_assert_eq!(largest.map(|group| groups.first_of(group)), first.map(|one| &one.value));
                prop_assert_eq!(groups.members(), all.len());
            }
        }
    }
}
