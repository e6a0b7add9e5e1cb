//! The claimants by source, and which of them makes room for the next (SPEC 5.5, 10.6(c)): one of the source with the most claimants.
//!
//! Anybody who knows an id can claim it, at the pace of all accepts, from as many sources as they have. The owner is one claimant of one
//! source. So strangers displace themselves as long as one of their sources has two claimants. The cost is a search in a tree with
//! an entry per source, when a claim arrives and when it ends.

use core::net::IpAddr;

use crate::edge::table::by_source::BySource;
use crate::edge::table::groups::Tier;

/// What a claimant needs to find its entry again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u32);

image!(Ticket { 0 });

/// Indexes of the connections of all claimants, by source.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claimants {
    /// Those that have claimed a session. Those that wait for their takeover make room after all others of their source.
    claims: BySource<IpAddr, u32>,
    /// Those that were accepted for a Claim alone, and have claimed nothing yet (SPEC 27.3(a)). They make room before all others.
    unopened: BySource<IpAddr, u32>,
}

image!(Claimants { claims, unopened });

impl Claimants {
    pub(crate) fn len(&self) -> usize {
        self.claims.len() + self.unopened.len()
    }

    /// Adds the connection at `index`, of a source that is beyond its limits. It was accepted for a Claim alone.
    pub(crate) fn join_unopened(&mut self, index: u32, source: IpAddr) -> Ticket {
        Ticket(self.unopened.enter(Some(source), index, tier(false)))
    }

    /// Removes one that was accepted for a Claim alone.
    pub(crate) fn leave_unopened(&mut self, ticket: Ticket) {
        self.unopened.leave(ticket.0);
    }

    /// Returns which of those that were accepted for a Claim alone makes room for one of `joining`, or for another connection.
    pub(crate) fn first_unopened(&self, joining: Option<IpAddr>) -> Option<u32> {
        self.unopened.first_of_most(joining).copied()
    }

    /// Adds the connection at `index`. `source` is `None` for one to which the limits on sources do not apply: it counts for itself.
    pub(crate) fn join(&mut self, index: u32, source: Option<IpAddr>) -> Ticket {
        Ticket(self.claims.enter(source, index, tier(false)))
    }

    /// Removes a claimant.
    pub(crate) fn leave(&mut self, ticket: Ticket) {
        self.claims.leave(ticket.0);
    }

    /// Records whether a claimant waits for its takeover, or has sent its first early record.
    pub(crate) fn set_waits(&mut self, ticket: Ticket, waits: bool) {
        self.claims.change_tier(ticket.0, tier(waits));
    }

    /// Returns the claimant that makes room for one of `joining`, or for another connection: one that was accepted for a Claim alone, or
    /// the first of the source with the most claimants, counting the one that joins.
    pub(crate) fn first_to_go(&self, joining: Option<IpAddr>) -> Option<u32> {
        let unopened = self.first_unopened(None);
        unopened.or_else(|| self.claims.first_of_most(joining).copied())
    }
}

fn tier(waits: bool) -> Tier {
    if waits { Tier::Last } else { Tier::First }
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
        assert_eq!(claimants.claims.indexed(), 0);
    }

    #[test]
    fn a_claimant_that_waits_for_a_takeover_goes_after_the_others_of_its_source() {
        let mut claimants = Claimants::default();
        let first = claimants.join(0, source(1));
        claimants.join(1, source(1));
        claimants.join(2, source(2));
        claimants.set_waits(first, true);
        assert_eq!(claimants.first_to_go(None), Some(1));
        claimants.set_waits(first, false);
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

    #[test]
    fn those_accepted_for_a_claim_alone_go_before_all_others() {
        let mut claimants = Claimants::default();
        for index in 0..3 {
            claimants.join(index, source(1));
        }
        let [one, two] = [(3, 2), (4, 3)]
            .map(|(index, from)| claimants.join_unopened(index, source(from).unwrap()));
        assert_eq!((claimants.len(), claimants.first_to_go(None)), (5, Some(3)));
        assert_eq!(
            claimants.first_unopened(source(3)),
            Some(4),
            "of the source with the most, counted in"
        );
        claimants.leave_unopened(one);
        assert_eq!(claimants.first_to_go(source(1)), Some(4));
        claimants.leave_unopened(two);
        assert_eq!(claimants.first_unopened(None), None);
        assert_eq!((claimants.len(), claimants.first_to_go(None)), (3, Some(0)));
        assert_eq!(claimants.unopened.indexed(), 0);
    }
}
