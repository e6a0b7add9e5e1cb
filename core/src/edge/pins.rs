//! Sessions whose backend is not that of the shard in their id (SPEC 45.6(f)).

use std::collections::BTreeMap;

use crate::id::{ClientId, ShardId};

/// Sessions that have ended and whose shard is still known, so that a client that comes late is told how (SPEC 45.8).
const MOST_ENDED: usize = 65_536;

/// Where a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// On its way there.
    Sent,
    /// There.
    Arrived,
    /// It has ended there, with this mark.
    Ended(u64),
}

/// The shards of such sessions.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    by_id: BTreeMap<u64, (ShardId, Standing)>,
    /// Those that have ended and have not come back, the oldest first, by their marks.
    ended: BTreeMap<u64, ClientId>,
    /// The mark of the next one that ends.
    next_mark: u64,
}

impl Pins {
    /// Returns the number of sessions that are known.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Returns the number of those that have not ended.
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn living(&self) -> usize {
        self.by_id.len() - self.ended.len()
    }

    /// Returns the shard that has the session, or will have it, and whether it is on its way there.
    pub(crate) fn find(&self, id: ClientId) -> Option<(ShardId, bool)> {
        let (shard, standing) = self.by_id.get(&id.as_u64())?;
        Some((*shard, *standing == Standing::Sent))
    }

    /// Notes that the session is on its way to this shard.
    pub(crate) fn send(&mut self, id: ClientId, to: ShardId) {
        let before = self.by_id.insert(id.as_u64(), (to, Standing::Sent));
        self.forget_end(before);
    }

    /// Notes that the session has come to this shard.
    pub(crate) fn arrive(&mut self, id: ClientId, at: ShardId) {
        let before = if id.shard() == at {
            self.by_id.remove(&id.as_u64())
        } else {
            self.by_id.insert(id.as_u64(), (at, Standing::Arrived))
        };
        self.forget_end(before);
    }

    /// Forgets that a session has ended: it may come back from another edge (SPEC 45.9).
    fn forget_end(&mut self, before: Option<(ShardId, Standing)>) {
        if let Some((_, Standing::Ended(mark))) = before {
            self.ended.remove(&mark);
        }
    }

    /// Notes that the session has ended. The oldest of those is forgotten for it.
    pub(crate) fn end(&mut self, id: ClientId) {
        let Some((_, standing)) = self.by_id.get_mut(&id.as_u64()) else {
            return;
        };
        if matches!(standing, Standing::Ended(_)) {
            return;
        }
        *standing = Standing::Ended(self.next_mark);
        if self.ended.len() >= MOST_ENDED
            && let Some((_, oldest)) = self.ended.pop_first()
        {
            self.by_id.remove(&oldest.as_u64());
        }
        self.ended.insert(self.next_mark, id);
        self.next_mark += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(shard: u8, number: u64) -> ClientId {
        ClientId::from_u64(u64::from(shard) << 56 | number)
    }

    #[test]
    fn a_session_is_found_on_its_way_and_there_and_not_any_more_once_it_is_at_home() {
        let (mut pins, one, there) = (Pins::default(), id(0, 7), ShardId::new(2));
        assert_eq!(pins.find(one), None);
        pins.send(one, there);
        assert_eq!(pins.find(one), Some((there, true)));
        pins.arrive(one, there);
        assert_eq!(pins.find(one), Some((there, false)));
        pins.send(one, ShardId::new(0));
        assert_eq!(pins.find(one), Some((ShardId::new(0), true)));
        pins.arrive(one, ShardId::new(0));
        assert_eq!((pins.find(one), pins.len()), (None, 0));
        // One that never moved is none of them.
        pins.end(one);
        assert_eq!(pins.len(), 0);
    }

    #[test]
    fn so_many_are_known_after_their_end_and_the_oldest_is_forgotten_for_one_more() {
        let (mut pins, there) = (Pins::default(), ShardId::new(1));
        for number in 0..=MOST_ENDED as u64 {
            pins.send(id(0, number), there);
            pins.arrive(id(0, number), there);
        }
        for number in 0..MOST_ENDED as u64 {
            pins.end(id(0, number));
        }
        assert_eq!(pins.find(id(0, 0)), Some((there, false)));
        pins.end(id(0, MOST_ENDED as u64));
        assert_eq!(pins.find(id(0, 0)), None);
        assert_eq!(pins.find(id(0, 1)), Some((there, false)));
        assert_eq!(pins.len(), MOST_ENDED);
    }

    #[test]
    fn a_session_that_ends_and_comes_back_lives_however_many_end_after_it() {
        let (mut pins, one, there) = (Pins::default(), id(0, 7), ShardId::new(1));
        pins.arrive(one, there);
        // It goes to another edge, and comes back from there: to a shard, or on its way to one.
        for _ in 0..3 {
            pins.end(one);
            pins.end(one);
            assert_eq!((pins.len(), pins.living()), (1, 0));
            pins.arrive(one, there);
            assert_eq!((pins.len(), pins.living()), (1, 1));
            pins.end(one);
            pins.send(one, there);
            assert_eq!((pins.len(), pins.living()), (1, 1));
        }
        // At home it is none of them.
        pins.end(one);
        pins.arrive(one, ShardId::new(0));
        assert_eq!((pins.len(), pins.living()), (0, 0));
        pins.arrive(one, there);
        for number in 0..=MOST_ENDED as u64 {
            pins.arrive(id(2, number), there);
            pins.end(id(2, number));
        }
        assert_eq!(pins.find(one), Some((there, false)), "it lives");
        assert_eq!(pins.find(id(2, 0)), None, "the oldest that has ended");
        assert_eq!((pins.len(), pins.living()), (MOST_ENDED + 1, 1));
    }
}
