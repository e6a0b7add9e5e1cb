//! Sessions: the identities that outlive their connections.

use hashbrown::HashTable;

use super::table::deadlines::{Deadlines, Timed, Timer};
use super::table::slab::{Slab, room_to_keep};
use crate::id::ClientId;
use crate::keys::{PublicKey, SharedKey};
use crate::queue::FrameQueue;
use crate::time::Time;

use super::absent::{Absence, Absent};
use super::account::Account;
use super::by_size::{BySize, Holding, Holds, SMALLEST_CLASS_BYTES};
use super::limits::Bucket;
use super::sources::{Admission, Chain};

/// An id of the backend's or of a client's may mean nothing; an index that the edge keeps does.
const LIVE: &str = "an index that the edge keeps means a session that is in the table";

/// Where a session's client is (SPEC 8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At the connection with this index.
    Attached(u32),
    /// Away; the stale timer says since when.
    Away,
    /// Nowhere any more: only its last words to the backend still wait for room. Its id means nothing.
    Ended,
}

/// One session.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) id: ClientId,
    pub(super) place: Place,
    pub(super) public_key: PublicKey,
    /// Agreed at the first claim, kept for the later ones.
    pub(super) shared: Option<Box<SharedKey>>,
    /// What the backend sent and the client has not taken. It belongs to the session, so a new connection goes on with it.
    pub(super) queue: FrameQueue,
    /// Whether it is in line for room on the link. Its connection is not read meanwhile. [`Line`](super::line::Line) sets it.
    pub(super) waiting: bool,
    stale_timer: Timer,
    holding: Holding,
    /// Whether a packet ever went up or down: the others are the first to make room.
    pub(super) exchanged: bool,
    /// The second from which on its return counts for a storm of them again.
    pub(super) counts_from: u32,
    /// What is remembered while it is away.
    absence: Option<Box<Absence>>,
    /// Takeovers of a live connection.
    pub(super) takeovers: Bucket,
    /// What few sessions have at a time.
    rare: Option<Box<Rare>>,
}

/// What a session has only while it waits for room on the link.
#[derive(Clone, Debug, Default)]
pub(super) struct Rare {
    /// Tagged frames that have not found room on the link.
    pub(super) backlog: FrameQueue,
    /// Bytes that it may still send in its turn (deficit round robin).
    pub(super) deficit: usize,
}

impl Session {
    /// Makes place for what few sessions have.
    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Gives its memory back when it is not needed.
    pub(super) fn trim_rare(&mut self) {
        let waiting = self.waiting;
        self.rare
            .take_if(|rare| rare.backlog.is_empty() && !waiting);
    }

    /// Bytes of frames that have not found room on the link.
    #[inline]
    pub(super) fn backlog_bytes(&self) -> usize {
        self.rare
            .as_deref()
            .map_or(0, |rare| rare.backlog.held_bytes())
    }

    /// Bytes that wait in this session, in either direction.
    pub(super) fn held_bytes(&self) -> usize {
        self.queue.held_bytes() + self.backlog_bytes()
    }

    /// Its queue holds so many bytes more; how many all of it held before, and holds.
    #[inline]
    pub(super) fn grow(&mut self, bytes: usize) -> (usize, usize) {
        let before = self.holding.bytes();
        let after = before + bytes;
        self.holding.replace(after);
        (before, after)
    }

    /// The same for so many bytes less.
    #[inline]
    pub(super) fn shrink(&mut self, bytes: usize) -> (usize, usize) {
        let before = self.holding.bytes();
        let after = before - bytes;
        self.holding.replace(after);
        (before, after)
    }

    /// Since when it was away last.
    pub(super) fn gone_since(&self) -> Time {
        self.stale_timer.since()
    }

    /// Since when it is away, if it is.
    pub(super) fn away_since(&self) -> Option<Time> {
        self.stale_timer
            .is_armed()
            .then(|| self.stale_timer.since())
    }
}

impl Holds for Session {
    #[inline]
    fn holding(&mut self) -> &mut Holding {
        &mut self.holding
    }
}

/// [`Session::stale_timer`].
#[derive(Clone, Debug)]
struct StaleTimer;

impl Timed<Session> for StaleTimer {
    #[inline]
    fn timer(entry: &mut Session) -> &mut Timer {
        &mut entry.stale_timer
    }
}

/// All sessions, by index and by id.
#[derive(Clone, Debug)]
pub(super) struct Sessions {
    slab: Slab<Session>,
    /// The sessions whose ids mean something.
    by_id: HashTable<Entry>,
    stale: Deadlines<Session, StaleTimer, 2>,
    /// Those that are away, by where they went from.
    absent: Absent,
    by_size: BySize<Session>,
}

/// Kinds of stale timers: sessions that exchanged a packet, and those that never did.
const STALE: u8 = 0;
/// See [`STALE`].
const STALE_UNUSED: u8 = 1;

/// What stands in the table by id: with as much of the id as is hashed, so that the table grows without a look at each session, which
/// is a miss of the cache.
#[derive(Clone, Copy, Debug)]
struct Entry {
    index: u32,
    low: u32,
}

impl Entry {
    fn new(id: ClientId, index: u32) -> Self {
        Entry {
            index,
            low: low(id),
        }
    }

    fn hash(&self) -> u64 {
        hash(self.low)
    }

    /// Whether it is that of the session with this id.
    fn is(&self, id: ClientId, slab: &Slab<Session>) -> bool {
        slab.at(self.index).is_some_and(|session| session.id == id)
    }
}

/// The low half of an id.
fn low(id: ClientId) -> u32 {
    let [.., a, b, c, d] = id.as_u64().to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// Ids are the output of a keyed permutation, and only our own stand in the table: their bits are as good as any hash, and nobody
/// outside can choose them to collide. Twice, because the table takes its places from the lowest bits and its tags from the highest.
#[inline]
fn hash(low: u32) -> u64 {
    u64::from(low) << 32 | u64::from(low)
}

impl Sessions {
    pub(super) fn new() -> Self {
        Sessions {
            slab: Slab::default(),
            by_id: HashTable::new(),
            stale: Deadlines::new(),
            absent: Absent::default(),
            by_size: BySize::new(),
        }
    }

    /// How many there are, those included that have ended and are kept for their last words.
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// The session at an index that the edge keeps.
    ///
    /// # Panics
    /// When there is none: whoever kept the index was not told that its session is gone.
    #[inline]
    #[track_caller]
    pub(super) fn live(&self, index: u32) -> &Session {
        self.slab.at(index).expect(LIVE)
    }

    /// Like [`live`](Self::live).
    #[inline]
    #[track_caller]
    pub(super) fn live_mut(&mut self, index: u32) -> &mut Session {
        self.slab.at_mut(index).expect(LIVE)
    }

    /// The sessions by their indexes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Session)> {
        self.slab.iter()
    }

    /// The first session at or behind `index`: a step of a walk during which sessions may come and go.
    pub(super) fn next_from(&self, index: u32) -> Option<(u32, &Session)> {
        let next = self.slab.next_from(index)?;
        self.slab.at(next).map(|session| (next, session))
    }

    /// The index of the session with this id, unless it has ended.
    #[inline]
    pub(super) fn lookup(&self, id: ClientId) -> Option<u32> {
        let same = |entry: &Entry| entry.is(id, &self.slab);
        let found = self.by_id.find(hash(low(id)), same);
        found.map(|entry| entry.index)
    }

    /// A session at the connection `conn`.
    pub(super) fn insert(
        &mut self,
        id: ClientId,
        public_key: PublicKey,
        conn: u32,
        now: Time,
    ) -> Option<u32> {
        let key = self.slab.insert(Session {
            id,
            place: Place::Attached(conn),
            public_key,
            shared: None,
            queue: FrameQueue::new(),
            waiting: false,
            stale_timer: Timer::default(),
            holding: Holding::default(),
            exchanged: false,
            counts_from: 0,
            absence: None,
            takeovers: Bucket::full(now),
            rare: None,
        })?;
        let entry = Entry::new(id, key.index);
        self.by_id.insert_unique(entry.hash(), entry, Entry::hash);
        Some(key.index)
    }

    /// From now on the id means nothing; the entry stays until it is removed.
    pub(super) fn spend_id(&mut self, id: ClientId) {
        let same = |entry: &Entry| entry.is(id, &self.slab);
        if let Ok(entry) = self.by_id.find_entry(hash(low(id)), same) {
            entry.remove();
        }
        // The table grows with a storm of clients; it gives its memory back when they are gone.
        if let Some(keep) = room_to_keep(self.by_id.len(), self.by_id.capacity()) {
            self.by_id.shrink_to(keep, Entry::hash);
        }
    }

    /// Takes the session, which has ended, out of the table: no index may mean it any more.
    pub(super) fn remove(&mut self, index: u32, account: &mut Account) {
        self.by_size.remove(&mut self.slab, index);
        let mut session = self.slab.remove(index).expect(LIVE);
        account.subtract(session.holding().replace(0));
    }

    // ---- what they hold

    /// What the session at `index` holds may have changed.
    pub(super) fn recount(&mut self, index: u32, account: &mut Account) {
        let session = self.live_mut(index);
        let after = session.held_bytes();
        let before = session.holding().replace(after);
        account.replace(before, after);
        if session.place == Place::Ended {
            // The last words of one that has ended cannot be freed: it must not stand before those that can.
            self.by_size.remove(&mut self.slab, index);
        } else {
            self.by_size.update(&mut self.slab, index, before, after);
        }
    }

    /// The session at `index`, which has not ended, held and holds so many bytes: [`recount`](Self::recount) for the path that every
    /// packet takes.
    #[inline]
    pub(super) fn resized(&mut self, index: u32, (before, after): (usize, usize)) {
        if before.max(after) >= SMALLEST_CLASS_BYTES {
            self.by_size.update(&mut self.slab, index, before, after);
        }
    }

    /// The class and the index of one that holds most, within a factor of two.
    pub(super) fn largest(&self) -> Option<(u8, u32)> {
        self.by_size.largest()
    }

    // ---- those that are away

    /// The client of the session at `index` is away from `now` on.
    pub(super) fn begin_absence(&mut self, index: u32, now: Time) {
        let session = self.live_mut(index);
        session.place = Place::Away;
        let kind = if session.exchanged {
            STALE
        } else {
            STALE_UNUSED
        };
        self.stale.arm(&mut self.slab, index, kind, now);
    }

    /// It went away from a connection of this admission, whose sources these are.
    pub(super) fn count_absence(&mut self, index: u32, admission: Admission, sources: &Chain) {
        let session = self.slab.at_mut(index).expect(LIVE);
        let absence = self
            .absent
            .enter(admission, sources, index, session.exchanged);
        session.absence = Some(Box::new(absence));
    }

    /// The client of the session at `index` is back, or it ends; the admission that it is counted by, if it is. `sources` are those of
    /// an admission.
    pub(super) fn end_absence(
        &mut self,
        index: u32,
        sources: impl FnOnce(Admission) -> Chain,
    ) -> Option<Admission> {
        self.stale.disarm(&mut self.slab, index);
        let absence = self.live_mut(index).absence.take()?;
        let admission = absence.admission;
        self.absent.leave(&absence, &sources(admission), index);
        Some(admission)
    }

    /// Which of them make room for others.
    pub(super) fn absent(&self) -> &Absent {
        &self.absent
    }

    /// How many are attached to a connection.
    pub(super) fn attached(&self) -> usize {
        self.by_id.len() - self.away()
    }

    /// How many are away.
    pub(super) fn away(&self) -> usize {
        self.stale.len(STALE) + self.stale.len(STALE_UNUSED)
    }

    /// Since when the longest gone is away.
    pub(super) fn longest_gone(&self) -> Option<(u32, Time)> {
        let kinds = [self.stale.first(STALE), self.stale.first(STALE_UNUSED)];
        kinds.into_iter().flatten().min_by_key(|&(_, since)| since)
    }

    /// How many have ended, and are kept for their last words.
    pub(super) fn ending(&self) -> usize {
        self.slab.len() - self.by_id.len()
    }

    // ---- for checks

    /// Panics unless its lists and counts agree.
    pub(super) fn audit(&self) {
        let mut ended = 0;
        for (index, session) in self.iter() {
            let (found, held) = (self.lookup(session.id), session.holding.bytes());
            assert_eq!(held, session.held_bytes(), "bytes of session {index}");
            assert_eq!(
                session.stale_timer.is_armed(),
                session.place == Place::Away,
                "session {index} is away"
            );
            if session.place == Place::Ended {
                ended += 1;
                assert_eq!(found, None, "session {index} has ended");
                assert!(session.waiting, "session {index} has last words");
            } else {
                assert_eq!(found, Some(index), "the index of session {index}");
            }
        }
        assert_eq!(self.ending(), ended, "sessions that have ended");
        assert_eq!(self.absent.len(), self.away(), "sessions that are away");
    }

    /// Places for which there is memory, in both tables.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.slab.capacity() + self.by_id.capacity()
    }
}
