//! Members in a group for each source, and the group of a source.

use std::collections::BTreeMap;

use crate::edge::table::groups::{Groups, Tier};

/// Members by source. The index is a tree: peers choose their addresses, so a hash of them would need a secret.
#[derive(Clone, Debug)]
pub(crate) struct BySource<K, V> {
    groups: Groups<Option<K>, V>,
    index: BTreeMap<K, u32>,
}

image!(for [K: crate::image::Image + Ord, V: crate::image::Image] BySource<K, V> { groups, index });

impl<K, V> Default for BySource<K, V> {
    fn default() -> Self {
        BySource {
            groups: Groups::default(),
            index: BTreeMap::new(),
        }
    }
}

impl<K: Copy + Ord, V> BySource<K, V> {
    /// Returns the number of members.
    pub(crate) fn len(&self) -> usize {
        self.groups.members()
    }

    /// Adds a member, and returns its number. One without a source has a group of its own.
    pub(crate) fn enter(&mut self, source: Option<K>, value: V, tier: Tier) -> u32 {
        let mut begin = || self.groups.begin(source);
        let group = match source {
            Some(source) => *self.index.entry(source).or_insert_with(begin),
            None => begin(),
        };
        self.groups.enter(group, value, tier)
    }

    /// Removes the member with this number.
    #[track_caller]
    pub(crate) fn leave(&mut self, member: u32) -> V {
        let (value, ended) = self.groups.leave(member);
        if let Some(Some(source)) = ended {
            self.index.remove(&source);
        }
        value
    }

    /// Returns what is known of a member.
    #[track_caller]
    pub(crate) fn value_of(&self, member: u32) -> &V {
        self.groups.value_of(member)
    }

    /// Moves a member to the end of another tier of its group.
    #[track_caller]
    pub(crate) fn change_tier(&mut self, member: u32, tier: Tier) {
        self.groups.change_tier(member, tier);
    }

    /// Returns the first member of a source.
    pub(crate) fn first_of(&self, source: K) -> Option<&V> {
        let group = self.index.get(&source)?;
        Some(self.groups.first_of(*group))
    }

    /// Returns the first member of the source with the most members, counting one that joins at `joining`.
    pub(crate) fn first_of_most(&self, joining: Option<K>) -> Option<&V> {
        let weighed = |group, joins| {
            let mut rank = self.groups.rank(group);
            rank.members += joins;
            (rank, group)
        };
        let largest = self.groups.largest().map(|group| weighed(group, 0));
        let own = joining.and_then(|source| self.index.get(&source));
        let own = own.map(|&group| weighed(group, 1));
        let (_, group) = largest.max(own)?;
        Some(self.groups.first_of(group))
    }

    /// Returns the number of sources that the index has, for checks.
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn indexed(&self) -> usize {
        self.index.len()
    }

    /// Returns the number of groups, for checks: as many as are indexed, if each member has a source.
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn groups(&self) -> usize {
        self.groups.len()
    }
}
