//! Sessions: the identities that outlive their connections.

use hashbrown::HashTable;

use crate::deadlines::{Deadlines, Timed, Timer};
use crate::id::ClientId;
use crate::keys::{PublicKey, SharedKey};
use crate::queue::FrameQueue;
use crate::slab::{Slab, room_to_keep};
use crate::time::Time;

use super::absent::{Absence, Absent};
use super::limits::Bucket;
use super::memory::Holding;

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
    /// Whether it stands in line for room on the link. Its connection is not read meanwhile.
    pub(super) waiting: bool,
    pub(super) stale_timer: Timer,
    pub(super) holding: Holding,
    /// Whether a packet ever went up or down: the others are the first to make room.
    pub(super) exchanged: bool,
    /// The second from which on its return counts for a storm of them again.
    pub(super) counts_from: u32,
    /// What is remembered while it is away.
    pub(super) absence: Option<Box<Absence>>,
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
}

/// [`Session::stale_timer`].
#[derive(Clone, Debug)]
pub(super) struct StaleTimer;

impl Timed<Session> for StaleTimer {
    #[inline]
    fn timer(entry: &mut Session) -> &mut Timer {
        &mut entry.stale_timer
    }
}

/// All sessions, by index and by id.
#[derive(Clone, Debug)]
pub(super) struct Sessions {
    pub(super) slab: Slab<Session>,
    /// The sessions whose ids mean something.
    by_id: HashTable<Entry>,
    pub(super) stale: Deadlines<Session, StaleTimer, 2>,
    /// Those that are away, by where they went from.
    pub(super) absent: Absent,
}

/// Kinds of stale timers: sessions that exchanged a packet, and those that never did.
pub(super) const STALE: u8 = 0;
/// See [`STALE`].
pub(super) const STALE_UNUSED: u8 = 1;

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
        }
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

    /// How many have ended, and are kept for their last words.
    pub(super) fn ending(&self) -> usize {
        self.slab.len() - self.by_id.len()
    }

    /// Places for which there is memory, in both tables.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.slab.capacity() + self.by_id.capacity()
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
}
