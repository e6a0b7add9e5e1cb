//! The claimants by source, and which of them makes room for the next: one of the source with the most claimants (SPEC 10.6(c)).
//!
//! Anybody who knows an id can claim it, at the pace of all accepts, from as many sources as they have. The owner is one claimant of one
//! source. So strangers displace themselves as long as one of their sources has two claimants. The cost is a few searches in trees with at
//! most one entry per claimant, when a claim arrives and when it ends.

use core::cmp::Reverse;
use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

/// What a claimant is counted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// A source, identified by its first address.
    Source(IpAddr),
    /// Only itself, as the limits on sources do not apply to it: the claimant with this turn.
    Alone(u64),
}

/// The order in which the claimants of a source make room: those that wait for their takeover come after all others, then by order of
/// arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    waits: bool,
    number: u64,
}

/// What a claimant needs to find its entry again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    origin: Origin,
    turn: Turn,
}

/// The rank of a source: by its number of claimants, then by the arrival of its first one.
type Rank = (usize, Reverse<Turn>, Origin);

/// All claimants, by source.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claimants {
    last_number: u64,
    len: usize,
    /// Indexes of connections. Every source in the map has at least one.
    by_origin: BTreeMap<Origin, BTreeMap<Turn, u32>>,
    ranks: BTreeSet<Rank>,
}

impl Claimants {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds the connection at `index`. `source` is `None` for one that is counted only under itself.
    pub(crate) fn join(&mut self, index: u32, source: Option<IpAddr>) -> Ticket {
        let turn = self.next_turn(false);
        let origin = source.map_or(Origin::Alone(turn.number), Origin::Source);
        let ticket = Ticket { origin, turn };
        self.insert(index, ticket);
        ticket
    }

    /// Removes a claimant.
    pub(crate) fn leave(&mut self, ticket: Ticket) {
        let Ticket { origin, turn } = ticket;
        self.change(origin, |claimants| {
            claimants.remove(&turn);
        });
    }

    /// Records whether a claimant waits for its takeover.
    pub(crate) fn set_waits(&mut self, index: u32, ticket: Ticket, waits: bool) -> Ticket {
        if ticket.turn.waits == waits {
            return ticket;
        }
        self.leave(ticket);
        let turn = self.next_turn(waits);
        let ticket = Ticket { turn, ..ticket };
        self.insert(index, ticket);
        ticket
    }

    /// Returns the claimant that makes room for one of `joining`, or for another connection: the first of the source with the most
    /// claimants, counting the one that joins.
    pub(crate) fn first_to_go(&self, joining: Option<IpAddr>) -> Option<u32> {
        let most = self.ranks.last();
        let own = joining.map(Origin::Source).and_then(|origin| {
            let (len, first) = rank_of(self.by_origin.get(&origin)?)?;
            Some((len + 1, first, origin))
        });
        let (_, _, origin) = most.copied().max(own)?;
        let (_, index) = self.by_origin.get(&origin)?.first_key_value()?;
        Some(*index)
    }

    fn next_turn(&mut self, waits: bool) -> Turn {
        self.last_number += 1;
        let number = self.last_number;
        Turn { waits, number }
    }

    fn insert(&mut self, index: u32, Ticket { origin, turn }: Ticket) {
        self.change(origin, |claimants| {
            claimants.insert(turn, index);
        });
    }

    /// Changes the claimants of one source, and its rank with them.
    fn change(&mut self, origin: Origin, act: impl FnOnce(&mut BTreeMap<Turn, u32>)) {
        let claimants = self.by_origin.entry(origin).or_default();
        if let Some((len, first)) = rank_of(claimants) {
            self.ranks.remove(&(len, first, origin));
            self.len -= len;
        }
        act(claimants);
        self.len += claimants.len();
        match rank_of(claimants) {
            Some((len, first)) => drop(self.ranks.insert((len, first, origin))),
            None => drop(self.by_origin.remove(&origin)),
        }
    }
}

fn rank_of(claimants: &BTreeMap<Turn, u32>) -> Option<(usize, Reverse<Turn>)> {
    let (first, _) = claimants.first_key_value()?;
    Some((claimants.len(), Reverse(*first)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, number]))
    }

    #[test]
    fn the_first_of_the_source_that_has_the_most_goes() {
        let mut claimants = Claimants::default();
        let owner = claimants.join(0, source(1));
        let strangers: Vec<_> = (1..=4)
            .map(|index| claimants.join(index, source(2)))
            .collect();
        assert_eq!(claimants.len(), 5);
        for (index, ticket) in (1..=4).zip(strangers) {
            if index < 4 {
                assert_eq!(claimants.first_to_go(None), Some(index));
                assert_eq!(claimants.first_to_go(source(3)), Some(index));
            } else {
                assert_eq!(claimants.first_to_go(None), Some(0), "of equals the oldest");
                assert_eq!(claimants.first_to_go(source(2)), Some(4), "counted in");
            }
            claimants.leave(ticket);
        }
        claimants.leave(owner);
        assert_eq!(
            (claimants.len(), claimants.first_to_go(source(1))),
            (0, None)
        );
        assert!(claimants.by_origin.is_empty() && claimants.ranks.is_empty());
    }

    #[test]
    fn a_claimant_that_waits_for_a_takeover_goes_after_the_others_of_its_source() {
        let mut claimants = Claimants::default();
        let mut first = claimants.join(0, source(1));
        claimants.join(1, source(1));
        claimants.join(2, source(2));
        first = claimants.set_waits(0, first, true);
        assert_eq!(
            claimants.set_waits(0, first, true),
            first,
            "it keeps its turn"
        );
        assert_eq!(claimants.first_to_go(None), Some(1));
        claimants.set_waits(0, first, false);
        assert_eq!(
            claimants.first_to_go(None),
            Some(1),
            "its turn is a new one"
        );
        assert_eq!(claimants.len(), 3);
    }

    #[test]
    fn a_claimant_without_a_source_counts_for_itself() {
        let mut claimants = Claimants::default();
        let tickets: Vec<_> = (0..3).map(|index| claimants.join(index, None)).collect();
        claimants.join(3, source(1));
        claimants.join(4, source(1));
        assert_eq!(claimants.first_to_go(None), Some(3));
        claimants.join(5, source(2));
        claimants.leave(tickets[0]);
        assert_eq!(
            claimants.first_to_go(source(2)),
            Some(3),
            "of two that would have two each"
        );
    }
}
