//! The sessions that are away, and which of them makes room for another (SPEC 9.7).
//!
//! Each session is in the order of every source that it went away from, narrow and wide: sessions that never exchanged a packet come first,
//! then those away for longest. Only sessions that are away take memory.

use crate::edge::door::sources::{Admission, Nesting};
use crate::edge::table::by_source::BySource;
use crate::edge::table::groups::Tier;

const NONE: u32 = u32::MAX;

/// Where [`Absent`] has a session, while it is counted there: its entry in [`Absent::widest`]. Otherwise [`NONE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Absence(u32);

image!(Absence { 0 });

impl Absence {
    /// Of a session that is not counted.
    pub(crate) const NONE: Absence = Absence(NONE);
}

/// What is remembered of a session while it is away.
#[derive(Clone, Debug)]
struct Away {
    session: u32,
    /// The sources that count it.
    admission: Admission,
    /// Its entries in [`Absent::parts`], and [`NONE`] where there is none.
    parts: [u32; 2],
}

image!(Away {
    session,
    admission,
    parts
});

/// The sessions that are away, by source.
#[derive(Clone, Debug, Default)]
pub(crate) struct Absent {
    /// By those of its sources that are within another one.
    parts: BySource<u32, u32>,
    /// By the widest of its sources.
    widest: BySource<u32, Away>,
}

image!(Absent { parts, widest });

impl Absent {
    /// Adds a session that goes away.
    pub(crate) fn enter(
        &mut self,
        admission: Admission,
        sources: &Nesting,
        session: u32,
        exchanged: bool,
    ) -> Absence {
        let tier = if exchanged { Tier::Last } else { Tier::First };
        let (parts, widest) = sources.split();
        let mut away = Away {
            session,
            admission,
            parts: [NONE; 2],
        };
        for (entry, &source) in away.parts.iter_mut().zip(parts) {
            *entry = self.parts.enter(Some(source), session, tier);
        }
        Absence(self.widest.enter(Some(widest), away, tier))
    }

    /// Removes a session that is no longer away. Returns the admission that it was counted by, unless it is not counted.
    pub(crate) fn leave(&mut self, absence: Absence) -> Option<Admission> {
        if absence == Absence::NONE {
            return None;
        }
        let away = self.widest.leave(absence.0);
        for entry in away.parts.into_iter().filter(|&entry| entry != NONE) {
            self.parts.leave(entry);
        }
        Some(away.admission)
    }

    /// Returns the admission that a session is counted by, unless it is not counted.
    pub(crate) fn admission_of(&self, absence: Absence) -> Option<Admission> {
        (absence != Absence::NONE).then(|| self.widest.value_of(absence.0).admission)
    }

    /// Returns the session of this source that makes room: one that never exchanged a packet if there is one, and among these the one away
    /// for longest.
    pub(crate) fn first_of(&self, source: u32) -> Option<u32> {
        let part = self.parts.first_of(source).copied();
        part.or_else(|| Some(self.widest.first_of(source)?.session))
    }

    /// Returns the session that makes room in the widest source with the most sessions away. Among equals it is the source whose first
    /// session comes first.
    pub(crate) fn first_of_most(&self) -> Option<u32> {
        self.widest.first_of_most(None).map(|away| away.session)
    }

    /// Returns the number of sessions away, for checks.
    ///
    /// # Panics
    /// When its tables are inconsistent.
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn len(&self) -> usize {
        for (indexed, groups) in [
            (self.parts.indexed(), self.parts.groups()),
            (self.widest.indexed(), self.widest.groups()),
        ] {
            assert_eq!(indexed, groups, "sources");
        }
        self.widest.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_source_with_most_away_the_unused_then_the_longest_gone_makes_room() {
        let mut absent = Absent::default();
        let mut enter = |sources: &[u32], session, exchanged| {
            absent.enter(Admission::EXEMPT, &Nesting::of(sources), session, exchanged)
        };
        let first = enter(&[1, 10], 1, true);
        enter(&[2, 20], 2, true);
        enter(&[3, 10], 3, true);
        let third = enter(&[1, 10], 4, false);
        assert_eq!(absent.first_of_most(), Some(4), "it exchanged nothing");
        assert_eq!(absent.first_of(1), Some(4));
        absent.leave(third);
        assert_eq!(absent.first_of_most(), Some(1));
        assert_eq!((absent.first_of(2), absent.first_of(9)), (Some(2), None));
        absent.leave(first);
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
        let mut away: Vec<(Absence, [u32; 2], u32, bool)> = Vec::new();
        let mut drawn = 1_u32;
        let mut draw = |below: u32| {
            drawn = drawn.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (drawn >> 16) % below
        };
        for session in 0..3_000 {
            let sources = [draw(30), 100 + draw(5)];
            if draw(5) < 3 {
                let nesting = Nesting::of(&sources);
                let exchanged = draw(2) == 0;
                let absence = absent.enter(Admission::EXEMPT, &nesting, session, exchanged);
                away.push((absence, sources, session, exchanged));
            } else if !away.is_empty() {
                let gone = away.swap_remove(draw(u32::try_from(away.len()).unwrap()) as usize);
                absent.leave(gone.0);
            }
            let of = |wide: u32| away.iter().filter(move |(_, at, ..)| at[1] == wide);
            let most = (100..105).map(|wide| of(wide).count()).max();
            let candidates = (100..105).filter(|&wide| Some(of(wide).count()) == most);
            // Sessions are numbered in the order in which they go away.
            let first = candidates
                .flat_map(of)
                .min_by_key(|&&(_, _, session, exchanged)| (exchanged, session));
            assert_eq!(absent.first_of_most(), first.map(|&(_, _, one, _)| one));
            assert_eq!(absent.len(), away.len());
        }
    }
}
