//! Newcomers that wait to begin a session, and the order of their turns (SPEC 10.6(g), 27.3(c)).
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

image!(Turn { round, arrival });

/// What a newcomer joins with, which decides the queue that it waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// A PubKey of version 2. It waits while many clients come back (SPEC 10.6(g)).
    Key,
    /// A Hello of version 3. There is a pace for it besides (SPEC 27.3(c)).
    Hello,
}

/// All newcomers that wait, in a queue for what they join with: one that waits for the pace of Hellos holds up no PubKey.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting {
    keys: Joins,
    hellos: Joins,
    /// Whether the next turn is a Hello's if both queues have one.
    is_for_hello: bool,
}

image!(Waiting {
    keys,
    hellos,
    is_for_hello
});

impl Waiting {
    /// Adds the connection `conn` of `source`.
    pub(crate) fn enter(&mut self, by: By, source: u32, conn: u32) -> Turn {
        self.queue_mut(by).enter(source, conn)
    }

    /// Removes a connection. `served` tells whether it has had its turn.
    pub(crate) fn leave(&mut self, by: By, source: u32, turn: Turn, served: bool) {
        self.queue_mut(by).leave(source, turn, served);
        if served {
            self.is_for_hello = by == By::Key;
        }
    }

    /// Returns the number of waiting connections.
    pub(crate) fn len(&self) -> usize {
        self.keys.len() + self.hellos.len()
    }

    /// Returns whether anybody waits in this queue.
    pub(crate) fn has(&self, by: By) -> bool {
        self.queue(by).len() > 0
    }

    /// Returns the connection whose turn it is, a Hello's only if `hellos`.
    pub(crate) fn first(&self, hellos: bool) -> Option<u32> {
        let key = self.keys.first();
        let hello = self.hellos.first().filter(|_| hellos);
        if self.is_for_hello {
            hello.or(key)
        } else {
            key.or(hello)
        }
    }

    /// Returns the connection whose turn comes last in the longer queue.
    pub(crate) fn last(&self) -> Option<u32> {
        if self.hellos.len() > self.keys.len() {
            self.hellos.last()
        } else {
            self.keys.last()
        }
    }

    fn queue(&self, by: By) -> &Joins {
        match by {
            By::Key => &self.keys,
            By::Hello => &self.hellos,
        }
    }

    fn queue_mut(&mut self, by: By) -> &mut Joins {
        match by {
            By::Key => &mut self.keys,
            By::Hello => &mut self.hellos,
        }
    }
}

/// The newcomers of one source.
#[derive(Clone, Debug)]
struct Queue {
    waiting: u32,
    /// The round in which its next newcomer has its turn.
    round: u64,
}

image!(Queue { waiting, round });

/// The connections that wait for their turn in one queue.
#[derive(Clone, Debug, Default)]
struct Joins {
    turns: BTreeMap<Turn, u32>,
    sources: BTreeMap<u32, Queue>,
    /// The current round.
    round: u64,
    arrivals: u64,
}

image!(Joins {
    turns,
    sources,
    round,
    arrivals
});

impl Joins {
    /// Adds the connection `conn` of `source`.
    fn enter(&mut self, source: u32, conn: u32) -> Turn {
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
    fn leave(&mut self, source: u32, turn: Turn, served: bool) {
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
    fn len(&self) -> usize {
        self.turns.len()
    }

    /// Returns the connection whose turn it is.
    fn first(&self) -> Option<u32> {
        self.turns.first_key_value().map(|(_, &conn)| conn)
    }

    /// Returns the connection whose turn comes last, which belongs to the source with the most waiting.
    fn last(&self) -> Option<u32> {
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

    #[test]
    fn both_queues_take_turns_and_a_hello_that_may_not_begin_holds_up_no_key() {
        let mut waiting = Waiting::default();
        let mut turns = Vec::new();
        for (conn, by) in [By::Hello, By::Hello, By::Hello, By::Key, By::Key]
            .into_iter()
            .enumerate()
        {
            let conn = u32::try_from(conn).unwrap();
            turns.push((by, waiting.enter(by, 1, conn)));
        }
        assert_eq!((waiting.len(), waiting.last()), (5, Some(2)));
        let serve = |waiting: &mut Waiting, hellos| {
            let conn = waiting.first(hellos)?;
            let (by, turn) = turns[conn as usize];
            waiting.leave(by, 1, turn, true);
            Some(conn)
        };
        assert_eq!(serve(&mut waiting, true), Some(3));
        assert_eq!(serve(&mut waiting, true), Some(0));
        assert_eq!(serve(&mut waiting, false), Some(4));
        assert_eq!(serve(&mut waiting, false), None);
        assert!(waiting.has(By::Hello) && !waiting.has(By::Key));
        assert_eq!(serve(&mut waiting, true), Some(1));
        assert_eq!(waiting.last(), Some(2));
        assert_eq!(serve(&mut waiting, true), Some(2));
        assert_eq!((waiting.len(), waiting.first(true)), (0, None));
    }
}
