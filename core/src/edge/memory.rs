//! One account of memory: every byte that waits is counted where it is held (SPEC 10.5).
//!
//! Counted are bytes of unfinished frames, of queues and of handshakes, not the capacity of the buffers that they are in. A buffer has at
//! most twice what waits in it, is given back when it runs empty, and of what it has beyond what was ever in it the system has
//! no page. What is resident beside the account is measured, with the allocator of the program (README, "The bound on memory").

use crate::list::{Linked, Links, Lists};
use crate::slab::Slab;
use crate::time::Time;

use super::Edge;
use super::config::Enforce;
use super::conn::{CloseKind, Conn};
use super::counters::{CloseReason, EndReason};
use super::session::{Place, Session};
use super::shares::{Bound, Shares};

/// Holders of fewer bytes than this are in no class: ending them would free nothing worth it.
const SMALLEST_CLASS_BYTES: usize = 1024;
/// Powers of two from [`SMALLEST_CLASS_BYTES`] up; the last class has no upper end.
const CLASSES: usize = 14;
const LAST_CLASS: u8 = 13;

/// How much of the memory that may be used is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pressure {
    /// Under 80 %.
    None,
    /// From 80 %: bounds of clients shrink to a quarter.
    Tight,
    /// From 90 %: no new sessions.
    Full,
    /// From 95 %: the largest fail first.
    Over,
}

/// What becomes of the byte bounds of clients.
#[inline]
pub(super) fn squeezed_by(pressure: Pressure) -> impl Fn(usize) -> usize {
    let shift = if pressure >= Pressure::Tight { 2 } else { 0 };
    move |bound| bound >> shift
}

/// What one connection or session holds, and its place among holders of about as much.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Holding {
    bytes: usize,
    class: Links,
}

/// Holders by size: constant time to move, and to find a largest one (within a factor of two).
#[derive(Clone, Debug)]
pub(super) struct BySize<T>(Lists<T, SizeClass, CLASSES>);

/// The links of [`BySize`].
#[derive(Clone, Debug)]
pub(super) struct SizeClass;

impl Linked<Conn> for SizeClass {
    #[inline]
    fn links(conn: &mut Conn) -> &mut Links {
        &mut conn.holding.class
    }
}

impl Linked<Session> for SizeClass {
    #[inline]
    fn links(session: &mut Session) -> &mut Links {
        &mut session.holding.class
    }
}

impl<T> BySize<T>
where
    SizeClass: Linked<T>,
{
    fn update(&mut self, slab: &mut Slab<T>, index: u32, before: usize, after: usize) {
        match (class_of(before), class_of(after)) {
            (before, after) if before == after => {}
            (_, Some(class)) => self.0.push_back(slab, index, class),
            (_, None) => self.0.remove(slab, index),
        }
    }

    fn largest(&self) -> Option<(u8, u32)> {
        (0..=LAST_CLASS)
            .rev()
            .find_map(|class| self.0.first(class).map(|index| (class, index)))
    }
}

fn class_of(bytes: usize) -> Option<u8> {
    let ratio = bytes / SMALLEST_CLASS_BYTES;
    let class = ratio.checked_ilog2()?;
    Some(u8::try_from(class).map_or(LAST_CLASS, |class| class.min(LAST_CLASS)))
}

/// Where [`Pressure`] rises a step. `max_bytes` of 0: any number may be used.
fn steps_of(max_bytes: usize) -> [usize; 3] {
    let max_bytes = if max_bytes == 0 {
        usize::MAX
    } else {
        max_bytes
    };
    [80, 90, 95].map(|percent| max_bytes / 100 * percent + max_bytes % 100 * percent / 100)
}

fn level([tight, full, over]: [usize; 3], held_bytes: usize) -> Pressure {
    match held_bytes {
        bytes if bytes < tight => Pressure::None,
        bytes if bytes < full => Pressure::Tight,
        bytes if bytes < over => Pressure::Full,
        _ => Pressure::Over,
    }
}

/// The account.
#[derive(Clone, Debug)]
pub(super) struct Account {
    /// Bytes held by connections and sessions; the link's are added when asked.
    counted: usize,
    /// Where [`Pressure`] rises a step.
    steps: [usize; 3],
    conns: BySize<Conn>,
    sessions: BySize<Session>,
}

impl Account {
    /// `max_bytes` of 0: any number.
    pub(super) fn new(max_bytes: usize) -> Self {
        let mut account = Account {
            counted: 0,
            steps: [0; 3],
            conns: BySize(Lists::new()),
            sessions: BySize(Lists::new()),
        };
        account.set_bound(max_bytes);
        account
    }

    /// From now on `max_bytes` may be used; 0: any number.
    pub(super) fn set_bound(&mut self, max_bytes: usize) {
        self.steps = steps_of(max_bytes);
    }

    /// Asked for every packet: one comparison while there is room.
    #[inline]
    fn level(&self, held_bytes: usize, shares: &Shares) -> Pressure {
        let [tight, ..] = self.steps;
        if held_bytes < tight {
            Pressure::None
        } else if shares.is_alone() {
            level(self.steps, held_bytes)
        } else {
            // Beyond its own part it depends on what the other shards hold.
            level(steps_of(shares.most(Bound::Memory)), held_bytes)
        }
    }

    /// What the connection at `index` holds may have changed.
    #[inline]
    pub(super) fn recount_conn(&mut self, slab: &mut Slab<Conn>, index: u32) {
        if let Some(conn) = slab.at_mut(index) {
            let after = conn.held_bytes();
            let before = core::mem::replace(&mut conn.holding.bytes, after);
            if before != after {
                self.conn_changed(slab, index, before, after);
            }
        }
    }

    /// Apart from the rest: few reads end within a frame.
    #[inline(never)]
    fn conn_changed(&mut self, slab: &mut Slab<Conn>, index: u32, before: usize, after: usize) {
        self.counted = self.counted - before + after;
        self.conns.update(slab, index, before, after);
    }

    /// What the session at `index` holds may have changed.
    pub(super) fn recount_session(&mut self, slab: &mut Slab<Session>, index: u32) {
        let Some(session) = slab.at_mut(index) else {
            return;
        };
        let after = session.queue.held_bytes() + session.backlog_bytes();
        let before = core::mem::replace(&mut session.holding.bytes, after);
        self.counted = self.counted - before + after;
        if session.place == Place::Ended {
            // The last words of one that has ended cannot be freed: it must not stand before those that can.
            self.sessions.0.remove(slab, index);
        } else {
            self.sessions.update(slab, index, before, after);
        }
    }

    /// The queue of the session at `index`, which has not ended, holds so many bytes more: [`recount_session`](Self::recount_session)
    /// for the path that every packet takes.
    #[inline]
    pub(super) fn grow_session(&mut self, slab: &mut Slab<Session>, index: u32, bytes: usize) {
        if let Some(session) = slab.at_mut(index) {
            let before = session.holding.bytes;
            let after = before + bytes;
            session.holding.bytes = after;
            self.counted += bytes;
            if after >= SMALLEST_CLASS_BYTES {
                self.sessions.update(slab, index, before, after);
            }
        }
    }

    /// The same for so many bytes less.
    #[inline]
    pub(super) fn shrink_session(&mut self, slab: &mut Slab<Session>, index: u32, bytes: usize) {
        if let Some(session) = slab.at_mut(index) {
            let before = session.holding.bytes;
            let after = before - bytes;
            session.holding.bytes = after;
            self.counted -= bytes;
            if before >= SMALLEST_CLASS_BYTES {
                self.sessions.update(slab, index, before, after);
            }
        }
    }

    /// The connection at `index` is about to leave the table.
    pub(super) fn forget_conn(&mut self, slab: &mut Slab<Conn>, index: u32) {
        self.conns.0.remove(slab, index);
        if let Some(conn) = slab.at_mut(index) {
            self.counted -= core::mem::take(&mut conn.holding.bytes);
        }
    }

    /// The session at `index` is about to leave the table.
    pub(super) fn forget_session(&mut self, slab: &mut Slab<Session>, index: u32) {
        self.sessions.0.remove(slab, index);
        if let Some(session) = slab.at_mut(index) {
            self.counted -= core::mem::take(&mut session.holding.bytes);
        }
    }
}

/// What a connection or a session takes with all that belongs to it, the adapter's part included: measured, and rounded up.
const EACH_BYTES: usize = 1024;

impl Edge {
    /// About how much memory it has in use: for those who want to know when that has become much less. Constant time.
    #[must_use]
    pub fn footprint_bytes(&self) -> usize {
        self.held_bytes() + (self.conns.slab.len() + self.sessions.slab.len()) * EACH_BYTES
    }

    /// Bytes that wait, anywhere in the machine.
    #[inline]
    #[must_use]
    pub(super) fn held_bytes(&self) -> usize {
        let link = &self.link;
        self.account.counted
            + link.queue.held_bytes()
            + link.announcements.held_bytes()
            + link.reader.buffered_bytes()
    }

    #[inline]
    pub(super) fn pressure(&self) -> Pressure {
        match self.account.level(self.held_bytes(), &self.shares) {
            Pressure::None => Pressure::None,
            level if self.config.limits.enforce_memory == Enforce::On => level,
            _ => Pressure::None,
        }
    }

    /// Whether nothing that depends on the pressure can happen while no more than `bytes` are added to what is held.
    #[inline]
    pub(super) fn is_calm_for(&self, bytes: usize) -> bool {
        let held_bytes = self.held_bytes().saturating_add(bytes);
        self.account.level(held_bytes, &self.shares) == Pressure::None
    }

    /// What becomes of the byte bounds of clients now; asked once for all bounds that a packet meets.
    #[inline]
    pub(super) fn squeeze(&self) -> impl Fn(usize) -> usize + use<> {
        squeezed_by(self.pressure())
    }

    /// From 95 % on the largest fail until there is room again. Each step frees at least half of what the largest one holds.
    #[inline]
    pub(super) fn relieve(&mut self, now: Time) {
        if self.account.level(self.held_bytes(), &self.shares) == Pressure::Over {
            self.end_largest(now);
        }
    }

    #[cold]
    fn end_largest(&mut self, now: Time) {
        if self.config.limits.enforce_memory == Enforce::Report {
            self.counters.memory_over += 1;
            return;
        }
        while self.pressure() == Pressure::Over {
            self.counters.memory_over += 1;
            let (conn, session) = (
                self.account.conns.largest(),
                self.account.sessions.largest(),
            );
            match (conn, session) {
                // A session's queue can be told to the backend; of equals it goes first.
                (Some((class, index)), other) if other.is_none_or(|(theirs, _)| class > theirs) => {
                    self.close_conn(now, index, CloseKind::Abort, CloseReason::Memory);
                }
                (_, Some((_, index))) => {
                    if !self.end_session_for_memory(now, index) {
                        return;
                    }
                }
                // What is left is the link's, which has a bound of its own, and crumbs.
                _ => return,
            }
        }
    }

    /// False when nothing could be freed: the session has ended before, and what it holds are its last words.
    fn end_session_for_memory(&mut self, now: Time, index: u32) -> bool {
        let before = self.held_bytes();
        self.end_session(now, index, EndReason::MemoryLimit);
        self.held_bytes() < before
    }
}

#[cfg(test)]
impl Edge {
    /// Places of connections, sessions, sources and lists for which there is memory.
    pub(super) fn table_capacities(&self) -> [usize; 5] {
        [
            self.conns.slab.capacity(),
            self.sessions.capacity(),
            self.sources.lock().capacity(),
            self.ready.capacity(),
            self.waiting.capacity(),
        ]
    }

    /// The account is what a walk over everything finds.
    pub(super) fn audit(&self) {
        let conns = (0..self.conns.slab.end()).filter_map(|index| self.conns.slab.at(index));
        let sessions =
            (0..self.sessions.slab.end()).filter_map(|index| self.sessions.slab.at(index));
        let of_conns: usize = conns.map(Conn::held_bytes).sum();
        let of_sessions: usize = sessions
            .map(|s| s.queue.held_bytes() + s.backlog_bytes())
            .sum();
        assert_eq!(self.account.counted, of_conns + of_sessions);
        assert_eq!(self.sessions.absent.len(), self.sessions.away());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_rises_at_80_90_and_95_percent() {
        for (max, [tight, full, over]) in [
            (100, [80, 90, 95]),
            (250, [200, 225, 237]),
            (1_999, [1_599, 1_799, 1_899]),
        ] {
            let account = Account::new(max);
            let levels = [0, tight - 1, tight, full - 1, full, over - 1, over, max]
                .map(|bytes| level(account.steps, bytes));
            use Pressure::{Full, None, Over, Tight};
            assert_eq!(
                levels,
                [None, None, Tight, Tight, Full, Full, Over, Over],
                "of {max}"
            );
        }
        assert_eq!(level(steps_of(0), usize::MAX / 100 * 79), Pressure::None);
    }

    #[test]
    fn classes_are_powers_of_two() {
        let classes: Vec<_> = [0, 1023, 1024, 2047, 2048, 1 << 20, 1 << 23, usize::MAX]
            .map(class_of)
            .into();
        let expected = [
            None,
            None,
            Some(0),
            Some(0),
            Some(1),
            Some(10),
            Some(13),
            Some(13),
        ];
        assert_eq!(classes, expected);
    }
}
