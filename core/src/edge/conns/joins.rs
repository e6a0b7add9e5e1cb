//! Newcomers that wait while many clients come back, and the order of their turns (SPEC 10.6(g)).
//!
//! Each source has one turn per round, so that the crowd of one source does not delay the newcomers of others. Every operation takes
//! logarithmic time in the number that wait, which the half-open places bound.

use std::collections::BTreeMap;

/// A position among the waiting newcomers: by round, then by order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Turn {
    round: u64,
    arrival: u64,
}

/// The newcomers of one source.
#[derive(Clone, Debug)]
struct Queue {
    waiting: u32,
    /// The round in which its next newcomer has its turn.
    round: u64,
}

/// The connections that wait for their turn.
#[derive(Clone, Debug, Default)]
pub(crate) struct Joins {
    turns: BTreeMap<Turn, u32>,
    sources: BTreeMap<u32, Queue>,
    /// The current round.
    round: u64,
    arrivals: u64,
}

impl Joins {
    /// Adds the connection `conn` of `source`.
    pub(crate) fn enter(&mut self, source: u32, conn: u32) -> Turn {
        let now = self.round;
        let queue = self.sources.entry(source).or_insert(Queue {
            waiting: 0,
            round: now,
        });
        let round = queue.round.max(now);
        queue.round = round + 1;
        queue.waiting += 1;
        self.arrivals += 1;
        let arrival = self.arrivals;
        let turn = Turn { round, arrival };
        self.turns.insert(turn, conn);
        turn
    }

    /// Removes a connection. `served` tells whether it has had its turn.
    pub(crate) fn leave(&mut self, source: u32, turn: Turn, served: bool) {
        if self.turns.remove(&turn).is_none() {
            return;
        }
        if served {
            self.round = turn.round;
        }
        if let Some(queue) = self.sources.get_mut(&source) {
            queue.waiting -= 1;
            if queue.waiting == 0 {
                self.sources.remove(&source);
            }
        }
    }

    /// Returns the number of waiting connections.
    pub(crate) fn len(&self) -> usize {
        self.turns.len()
    }

    /// Returns the connection whose turn it is.
    pub(crate) fn first(&self) -> Option<u32> {
        self.turns.first_key_value().map(|(_, &conn)| conn)
    }

    /// Returns the connection whose turn comes last, which belongs to the source with the most waiting.
    pub(crate) fn last(&self) -> Option<u32> {
        self.turns.last_key_value().map(|(_, &conn)| conn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_take_turns_and_the_longest_queue_has_the_last() {
        let mut joins = Joins::default();
        let mut turns: Vec<_> = (0..4).map(|conn| (1, joins.enter(1, conn))).collect();
        turns.push((2, joins.enter(2, 4)));
        assert_eq!(joins.last(), Some(3));
        let mut served = Vec::new();
        while let Some(conn) = joins.first() {
            let (source, turn) = turns[conn as usize];
            joins.leave(source, turn, true);
            served.push(conn);
            if conn == 1 {
                // It has the current round for itself.
                turns.push((3, joins.enter(3, 5)));
            }
        }
        assert_eq!(served, [0, 4, 1, 5, 2, 3]);
        assert_eq!((joins.len(), joins.sources.len()), (0, 0));
        assert_eq!((joins.first(), joins.last()), (None, None));
    }

    #[test]
    fn one_that_goes_leaves_the_turns_of_the_others_and_goes_once() {
        let mut joins = Joins::default();
        let [first, second] = [0, 1].map(|conn| joins.enter(1, conn));
        joins.leave(1, first, false);
        joins.leave(1, first, false);
        assert_eq!((joins.len(), joins.first()), (1, Some(1)));
        joins.leave(1, second, false);
        assert!(joins.sources.is_empty());
    }
}
