//! The sessions that are away, and which of them makes room for another (SPEC 9.7).
//!
//! Each session is in the order of every source that it went away from, narrow and wide: sessions that never exchanged a packet come first,
//! then those away for longest. Every operation takes logarithmic time in the number of sessions away, and only these take memory.

use core::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::edge::door::sources::{Admission, Chain};

/// A position in the order: the first bit tells whether the session exchanged packets, the others count departures.
type Place = u64;
const EXCHANGED: Place = 1 << 63;

/// What is remembered of a session while it is away.
#[derive(Clone, Debug)]
pub(crate) struct Absence {
    /// The sources that count it.
    pub(crate) admission: Admission,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    source: u32,
    place: Place,
    session: u32,
}

/// The rank of a widest source among the others. The one with the most sessions away comes last. Among equals it is the one whose first
/// session comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    away: u32,
    first: Reverse<Place>,
    source: u32,
}

/// The sessions that are away, by source.
#[derive(Clone, Debug, Default)]
pub(crate) struct Absent {
    lines: BTreeSet<Entry>,
    /// The number of sessions away of each widest source.
    away: BTreeMap<u32, u32>,
    ranks: BTreeSet<Rank>,
    departures: u64,
}

impl Absent {
    /// Adds a session that goes away.
    pub(crate) fn enter(
        &mut self,
        admission: Admission,
        sources: &Chain,
        session: u32,
        exchanged: bool,
    ) -> Absence {
        self.departures += 1;
        let place = self.departures | if exchanged { EXCHANGED } else { 0 };
        self.update(sources, |lines, source| {
            lines.insert(Entry {
                source,
                place,
                session,
            });
        });
        Absence { admission, place }
    }

    /// Removes a session that is no longer away. `sources` are those of its admission.
    pub(crate) fn leave(&mut self, absence: &Absence, sources: &Chain, session: u32) {
        let place = absence.place;
        self.update(sources, |lines, source| {
            lines.remove(&Entry {
                source,
                place,
                session,
            });
        });
    }

    fn update(&mut self, sources: &Chain, change: impl Fn(&mut BTreeSet<Entry>, u32)) {
        let widest = sources.widest();
        if let Some(rank) = self.rank(widest) {
            self.ranks.remove(&rank);
        }
        let before = self.lines.len();
        for source in sources.iter() {
            change(&mut self.lines, source);
        }
        let away = self.away.entry(widest).or_default();
        if self.lines.len() > before {
            *away += 1;
        } else {
            *away -= 1;
        }
        if *away == 0 {
            self.away.remove(&widest);
        }
        if let Some(rank) = self.rank(widest) {
            self.ranks.insert(rank);
        }
    }

    fn rank(&self, source: u32) -> Option<Rank> {
        let away = *self.away.get(&source)?;
        let first = Reverse(self.first(source)?.place);
        Some(Rank {
            away,
            first,
            source,
        })
    }

    fn first(&self, source: u32) -> Option<&Entry> {
        let from = Entry {
            source,
            place: 0,
            session: 0,
        };
        let first = self.lines.range(from..).next();
        first.filter(|entry| entry.source == source)
    }

    /// Returns the session of this source that makes room: one that never exchanged a packet if there is one, and among these the one away
    /// for longest.
    pub(crate) fn first_of(&self, source: u32) -> Option<u32> {
        self.first(source).map(|entry| entry.session)
    }

    /// Returns the session that makes room in the widest source with the most sessions away.
    pub(crate) fn first_of_most(&self) -> Option<u32> {
        self.first_of(self.ranks.last()?.source)
    }

    /// Counts the sessions away by walking over the sources.
    pub(crate) fn len(&self) -> usize {
        assert_eq!(self.ranks.len(), self.away.len());
        self.away.values().map(|&away| away as usize).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_source_with_most_away_the_unused_then_the_longest_gone_makes_room() {
        let mut absent = Absent::default();
        let mut enter = |sources: &[u32], session, exchanged| {
            let chain = Chain::of(sources);
            let absence = absent.enter(Admission::EXEMPT, &chain, session, exchanged);
            (absence, chain)
        };
        let first = enter(&[1, 10], 1, true);
        enter(&[2, 20], 2, true);
        enter(&[3, 10], 3, true);
        let third = enter(&[1, 10], 4, false);
        assert_eq!(absent.first_of_most(), Some(4), "it exchanged nothing");
        assert_eq!(absent.first_of(1), Some(4));
        absent.leave(&third.0, &third.1, 4);
        assert_eq!(absent.first_of_most(), Some(1));
        assert_eq!((absent.first_of(2), absent.first_of(9)), (Some(2), None));
        absent.leave(&first.0, &first.1, 1);
        assert_eq!(
            absent.first_of_most(),
            Some(2),
            "of equals the longest gone"
        );
        assert_eq!((absent.first_of(1), absent.first_of(10)), (None, Some(3)));
        assert_eq!(absent.len(), 2);
    }

    #[test]
    fn it_agrees_with_a_look_at_all_of_them() {
        let mut absent = Absent::default();
        let mut away: Vec<(Absence, [u32; 2], u32)> = Vec::new();
        let mut drawn = 1_u32;
        let mut draw = |below: u32| {
            drawn = drawn.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (drawn >> 16) % below
        };
        for session in 0..3_000 {
            let sources = [draw(30), 100 + draw(5)];
            if draw(5) < 3 {
                let chain = Chain::of(&sources);
                let exchanged = draw(2) == 0;
                let absence = absent.enter(Admission::EXEMPT, &chain, session, exchanged);
                away.push((absence, sources, session));
            } else if !away.is_empty() {
                let (absence, sources, session) =
                    away.swap_remove(draw(u32::try_from(away.len()).unwrap()) as usize);
                absent.leave(&absence, &Chain::of(&sources), session);
            }
            let of = |wide: u32| away.iter().filter(move |(_, at, _)| at[1] == wide);
            let most = (100..105).map(|wide| of(wide).count()).max();
            let candidates = (100..105).filter(|&wide| Some(of(wide).count()) == most);
            let first = candidates.flat_map(of).min_by_key(|(one, ..)| one.place);
            assert_eq!(absent.first_of_most(), first.map(|&(_, _, one)| one));
            assert_eq!(absent.len(), away.len());
        }
    }
}
