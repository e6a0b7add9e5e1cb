//! Sessions: identities that outlive their connections.

pub(crate) mod absent;
pub(crate) mod ends;
pub(crate) mod ids;
pub(crate) mod saved;
mod session;

use core::mem;
use core::time::Duration;

use hashbrown::HashTable;

use crate::edge::table::deadlines::{Deadlines, Timed, Timer};
use crate::edge::table::slab::{Slab, room_to_keep};
use crate::id::ClientId;
use crate::keys::{PublicKey, SharedKey};
use crate::link::v3::GroupId;
use crate::protocol::{Code, Lent, Progress, Standing};
use crate::queue::{FrameQueue, Outbox, Retention};
use crate::time::Time;

use crate::edge::door::limits::Bucket;
use crate::edge::door::sources::{Admission, Nesting};
use crate::edge::memory::account::Account;
use crate::edge::sessions::absent::{Absence, Absent};
use crate::edge::table::by_size::{BySize, Holding, Holds, Resized, SMALLEST_CLASS_BYTES};

/// An id from the backend or from a client may be unknown; an index that the edge keeps may not.
const LIVE: &str = "an index that the edge keeps means a session that is in the table";

/// The state of a session (SPEC 8.3, 26.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Attached to the connection with this index.
    Attached(u32),
    /// Away; the timer has the time since when.
    Away,
    /// Ended: only its final notices for the backend still wait for room, and its id is retired.
    Ended,
}

image!(enum Place { 0 Attached { 0: a }, 1 Away {}, 2 Ended {} });

/// One session.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) id: ClientId,
    pub(crate) place: Place,
    pub(crate) identity: Identity,
    /// What it has from its first claim on. Most sessions are never claimed.
    pub(crate) claimed: Option<Box<Claimed>>,
    /// Packets that the backend sent. The outbox belongs to the session, so a new connection continues with it.
    pub(crate) outbox: Outbox,
    /// Whether it is in line for room on the link. Its connection is not read meanwhile. Set by the [`Line`](crate::edge::uplink::line::Line) only.
    pub(crate) waiting: bool,
    away_timer: Timer,
    holding: Holding,
    /// Whether a packet ever waited for its client.
    was_sent: bool,
    /// The packets that its client has sent, or `u32::MAX` if there are more. [`Linked::up`] has the rest for a backend of version 3.
    up: u32,
    /// When it began, in [`tick`]s.
    began: u32,
    /// Where it is counted while it is away.
    absence: Absence,
    /// Its entry in the line, while it waits for room on the link.
    line_entry: Option<Box<LineEntry>>,
    /// What a backend of version 3 of the link knows of it.
    linked: Option<Box<Linked>>,
}

image!(Session {
    id,
    place,
    identity,
    claimed,
    outbox,
    waiting,
    away_timer,
    holding,
    was_sent,
    up,
    began,
    absence,
    line_entry,
    linked,
});

/// What the client of a session proves itself by, for the session's life.
#[derive(Clone, Debug)]
pub(crate) enum Identity {
    /// A key, with which it answers challenges. In a box, as a client of the other version has none.
    Key(Box<PublicKey>),
    /// A chain of secrets.
    Chain(Box<Numbered>),
}

image!(enum Identity { 0 Key { 0: a }, 1 Chain { 0: a } });

impl Identity {
    /// Returns the numbers, if packets are numbered.
    #[inline]
    fn numbers_mut(&mut self) -> Option<&mut Progress> {
        match self {
            Identity::Chain(numbered) => Some(&mut numbered.progress),
            Identity::Key(_) => None,
        }
    }
}

/// The part of a session whose packets are numbered.
#[derive(Clone, Debug)]
pub(crate) struct Numbered {
    pub(crate) standing: Standing,
    pub(crate) progress: Progress,
    /// Why the edge let go of its last connection, or 0.
    pub(crate) cause: Code,
    /// The longest packet up that its client was told, in bytes.
    pub(crate) longest_up: u32,
    /// The longest packet down that its client takes, in bytes.
    pub(crate) longest_down: u32,
    /// Whether packets for which there is no room are given up, and the session goes on (SPEC 24.4).
    pub(crate) gives_up: bool,
    /// The features that its client was granted.
    #[cfg(feature = "cluster")]
    pub(crate) features: u32,
}

image!(Numbered {
    standing,
    progress,
    cause,
    longest_up,
    longest_down,
    gives_up,
    #[cfg(feature = "cluster")]
    features
});

/// The part of a session that exists from its first claim on.
#[derive(Clone, Debug)]
pub(crate) struct Claimed {
    /// Agreed at the first claim in this process, and kept for later ones, if its client proves itself by a key.
    pub(crate) key: Option<SharedKey>,
    /// The budget of takeovers of a live connection.
    pub(crate) takeovers: Bucket,
    /// The second from which its resume counts towards a storm again.
    pub(crate) counts_from: u32,
    /// How often it was resumed.
    pub(crate) resumes: u64,
    /// How long it was away before its last resume.
    pub(crate) away: Duration,
}

image!(Claimed {
    key,
    takeovers,
    counts_from,
    resumes,
    away
});

impl Claimed {
    /// That of a session before its first claim.
    pub(crate) fn new(now: Time) -> Self {
        Claimed {
            key: None,
            takeovers: Bucket::full(now),
            counts_from: 0,
            resumes: 0,
            away: Duration::ZERO,
        }
    }
}

/// The part of a session that exists only with a link that may have version 3.
#[derive(Clone, Debug, Default)]
pub(crate) struct Linked {
    /// The packets that its client has sent.
    up: u64,
    /// Those of them that the backend has not acknowledged, since it acknowledges them to the client.
    pub(crate) unacknowledged: u64,
    /// The number down up to which the backend was told that everything is settled.
    pub(crate) told_settled: u64,
    /// Its place among the sessions that have settled something since the backend was told.
    pub(crate) settling: Option<u32>,
    /// The packets in its outbox so far that have no number for the backend: VOLATILE ones to a client of version 2.
    unnumbered: u64,
    /// Whether the backend has its JOINED, or has given it to this edge (SPEC 44.3).
    #[cfg(feature = "cluster")]
    pub(crate) is_taken: bool,
    /// The counter by which this edge came to have it: 0 by a join (SPEC 44.6).
    #[cfg(feature = "cluster")]
    pub(crate) came_by: u64,
    /// The count of the frame that tells this boot of it: its OWN or JOINED. [`UNTOLD`](Self::UNTOLD) while that waits for room on the link, and
    /// 0 if this boot knew it before.
    pub(crate) told_at: u64,
    /// Whether the backend takes it for away.
    pub(crate) is_told_away: bool,
    /// Whether its client is not read, since the backend wants that.
    pub(crate) paused: bool,
    /// What the backend wants to remember of it.
    pub(crate) note: Box<str>,
    /// The groups of which it is a member.
    pub(crate) groups: Vec<GroupId>,
}

impl Linked {
    /// The count of a frame that is none yet.
    pub(crate) const UNTOLD: u64 = u64::MAX;

    /// That of a session that goes on here by an attempt with this counter, behind this number down.
    #[cfg(feature = "cluster")]
    pub(crate) fn of_adopted(counter: u64, down: u64) -> Self {
        Linked {
            told_settled: down,
            is_taken: true,
            came_by: counter,
            ..Linked::default()
        }
    }
}
image!(Linked {
    up,
    unacknowledged,
    told_settled,
    settling,
    unnumbered,
    told_at,
    is_told_away,
    paused,
    note,
    groups,
    #[cfg(feature = "cluster")]
    is_taken,
    #[cfg(feature = "cluster")]
    came_by
});

/// The part of a session that exists only while it waits for room on the link.
#[derive(Clone, Debug, Default)]
pub(crate) struct LineEntry {
    /// Frames that have found no room on the link.
    pub(crate) backlog: FrameQueue,
    /// Bytes that it may still send in its turn (deficit round robin).
    pub(crate) deficit: usize,
}

image!(LineEntry { backlog, deficit });

impl Holds for Session {
    #[inline]
    fn holding(&mut self) -> &mut Holding {
        &mut self.holding
    }
}

/// [`Session::away_timer`].
#[derive(Clone, Debug)]
struct AwayTimer;

impl Timed<Session> for AwayTimer {
    #[inline]
    fn timer(entry: &mut Session) -> &mut Timer {
        &mut entry.away_timer
    }
}

/// The bits of a time in nanoseconds that a tick lacks: one lasts 17 ms, and they begin anew after two years.
const TICK_BITS: u32 = 24;

/// Returns a time in ticks, which takes half as much memory.
fn tick(time: Time) -> u32 {
    u32::try_from((time.as_nanos() >> TICK_BITS) & 0xffff_ffff).unwrap_or(0)
}

/// All sessions, by index and by id.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    slab: Slab<Session>,
    /// The sessions by id, except ended ones.
    by_id: HashTable<Entry>,
    absences: Deadlines<Session, AwayTimer, 2>,
    /// The sessions that are away, by source.
    absent: Absent,
    by_size: BySize<Session>,
}

#[cfg(feature = "record")]
impl crate::image::Image for Sessions {
    fn put(&self, out: &mut crate::image::Out) {
        self.slab.put(out);
        self.absences.put(out);
        self.absent.put(out);
        self.by_size.put(out);
    }

    fn take(from: &mut crate::image::Taken<'_>) -> Option<Self> {
        use crate::image::Image;
        let slab: Slab<Session> = Image::take(from)?;
        let mut by_id = HashTable::new();
        for (index, session) in slab
            .iter()
            .filter(|(_, session)| session.place != Place::Ended)
        {
            let entry = Entry::new(session.id, index);
            by_id.insert_unique(entry.hash(), entry, Entry::hash);
        }
        Some(Sessions {
            slab,
            by_id,
            absences: Image::take(from)?,
            absent: Image::take(from)?,
            by_size: Image::take(from)?,
        })
    }
}

/// Kinds of absences: one for sessions that carried a packet, and one for those that never did.
const AWAY: u8 = 0;
/// See [`AWAY`].
const AWAY_UNUSED: u8 = 1;

/// An entry of the table by id. It contains as much of the id as is hashed, so that the table can grow without reading each session, which
/// would be a cache miss.
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

    /// Returns whether it belongs to the session with this id.
    fn is(&self, id: ClientId, slab: &Slab<Session>) -> bool {
        slab.at(self.index).is_some_and(|session| session.id == id)
    }
}

/// Returns the low half of an id.
fn low(id: ClientId) -> u32 {
    let [.., a, b, c, d] = id.as_u64().to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// Hashes the low half of an id. Ids are the output of a keyed permutation, and only assigned ids are in the table. So their bits are as
/// good as any hash, and nobody outside can choose them to collide. They are used twice because the table takes its places from the lowest
/// bits and its tags from the highest.
#[inline]
fn hash(low: u32) -> u64 {
    u64::from(low) << 32 | u64::from(low)
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Sessions {
            slab: Slab::default(),
            by_id: HashTable::new(),
            absences: Deadlines::new(),
            absent: Absent::default(),
            by_size: BySize::new(),
        }
    }

    /// Returns the number of sessions, including ended ones that are kept for their final notices.
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Returns the session at an index that the edge keeps.
    ///
    /// # Panics
    /// When there is none: the owner of the index was not told that its session is gone.
    #[inline]
    #[track_caller]
    pub(crate) fn live(&self, index: u32) -> &Session {
        self.slab.at(index).expect(LIVE)
    }

    /// Like [`live`](Self::live).
    #[inline]
    #[track_caller]
    pub(crate) fn live_mut(&mut self, index: u32) -> &mut Session {
        self.slab.at_mut(index).expect(LIVE)
    }

    /// Returns the sessions with their indexes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Session)> {
        self.slab.iter()
    }

    /// Returns the places from `index` on, with the session at each.
    pub(crate) fn places(&self, index: u32) -> impl Iterator<Item = (u32, Option<&Session>)> {
        self.slab.places(index)
    }

    /// Returns the first session from `index` on: one step of a walk during which sessions may come and go.
    pub(crate) fn next_from(&self, index: u32) -> Option<(u32, &Session)> {
        let next = self.slab.next_from(index)?;
        self.slab.at(next).map(|session| (next, session))
    }

    /// Returns the index of the session with this id, unless it has ended.
    #[inline]
    pub(crate) fn lookup(&self, id: ClientId) -> Option<u32> {
        let same = |entry: &Entry| entry.is(id, &self.slab);
        let found = self.by_id.find(hash(low(id)), same);
        found.map(|entry| entry.index)
    }

    /// Adds a session attached to the connection `conn`. If its packets are numbered, they are kept until they are acknowledged.
    pub(crate) fn insert(
        &mut self,
        now: Time,
        id: ClientId,
        identity: Identity,
        conn: u32,
    ) -> Option<u32> {
        let retention = match identity {
            Identity::Key(_) => Retention::UntilWritten,
            Identity::Chain(_) => Retention::UntilAcked,
        };
        let key = self.slab.insert(Session {
            id,
            place: Place::Attached(conn),
            identity,
            claimed: None,
            outbox: Outbox::new(retention),
            waiting: false,
            away_timer: Timer::default(),
            holding: Holding::default(),
            was_sent: false,
            up: 0,
            began: tick(now),
            absence: Absence::NONE,
            line_entry: None,
            linked: None,
        })?;
        let entry = Entry::new(id, key.index);
        self.by_id.insert_unique(entry.hash(), entry, Entry::hash);
        Some(key.index)
    }

    /// Retires the id. The entry stays until it is removed.
    pub(crate) fn retire(&mut self, id: ClientId) {
        let same = |entry: &Entry| entry.is(id, &self.slab);
        if let Ok(entry) = self.by_id.find_entry(hash(low(id)), same) {
            entry.remove();
        }
        // The table grows with a storm of clients, and shrinks after they have left.
        if let Some(keep) = room_to_keep(self.by_id.len(), self.by_id.capacity()) {
            self.by_id.shrink_to(keep, Entry::hash);
        }
    }

    /// Removes the session, which has ended. No index may refer to it any more.
    pub(crate) fn remove(&mut self, index: u32, account: &mut Account) {
        self.by_size.remove(&mut self.slab, index);
        let mut session = self.slab.remove(index).expect(LIVE);
        account.subtract(session.holding().replace(0));
    }

    // ---- what they hold

    /// Updates the account after a change of what the session at `index` holds.
    pub(crate) fn recount(&mut self, index: u32, account: &mut Account) {
        let session = self.live_mut(index);
        let after = session.held_bytes();
        let before = session.holding().replace(after);
        account.replace(before, after);
        if session.place == Place::Ended {
            // The final notices of an ended session cannot be freed, so it must not come before sessions that can.
            self.by_size.remove(&mut self.slab, index);
        } else {
            self.by_size
                .update(&mut self.slab, index, Resized { before, after });
        }
    }

    /// Updates the account for the session at `index`, which has not ended. Like [`recount`](Self::recount), for the path that every packet
    /// takes.
    #[inline]
    pub(crate) fn resized(&mut self, index: u32, resized: Resized) {
        if resized.before.max(resized.after) >= SMALLEST_CLASS_BYTES {
            self.by_size.update(&mut self.slab, index, resized);
        }
    }

    /// Returns the class and the index of a session that holds most, within a factor of two.
    pub(crate) fn largest(&self) -> Option<(u8, u32)> {
        self.by_size.largest()
    }

    // ---- those that are away

    /// Makes the session at `index` go away at `now`.
    pub(crate) fn begin_absence(&mut self, index: u32, now: Time) {
        let session = self.live_mut(index);
        session.place = Place::Away;
        let kind = if session.has_exchanged() {
            AWAY
        } else {
            AWAY_UNUSED
        };
        self.absences.arm(&mut self.slab, index, kind, now);
    }

    /// Counts the absence by the admission of its last connection, with these sources.
    pub(crate) fn count_absence(&mut self, index: u32, admission: Admission, sources: &Nesting) {
        let session = self.slab.at_mut(index).expect(LIVE);
        session.absence = self
            .absent
            .enter(admission, sources, index, session.has_exchanged());
    }

    /// Ends the absence of the session at `index`: it is resumed, or it ends. Returns the admission that it was counted by, if there is
    /// one.
    pub(crate) fn end_absence(&mut self, index: u32) -> Option<Admission> {
        self.absences.disarm(&mut self.slab, index);
        let absence = mem::replace(&mut self.live_mut(index).absence, Absence::NONE);
        self.absent.leave(absence)
    }

    /// Returns the admission by which the absence of the session at `index` is counted, if it is.
    pub(crate) fn admission_of(&self, index: u32) -> Option<Admission> {
        self.absent.admission_of(self.live(index).absence)
    }

    /// Like [`admission_of`](Self::admission_of).
    pub(crate) fn admission_of_session(&self, session: &Session) -> Option<Admission> {
        self.absent.admission_of(session.absence)
    }

    /// Returns the order in which sessions that are away make room.
    pub(crate) fn absent(&self) -> &Absent {
        &self.absent
    }

    /// Returns the number of attached sessions.
    pub(crate) fn attached(&self) -> usize {
        self.by_id.len() - self.away()
    }

    /// Returns the number of sessions that are away.
    pub(crate) fn away(&self) -> usize {
        self.absences.len(AWAY) + self.absences.len(AWAY_UNUSED)
    }

    /// Returns the session that is away for longest, and since when.
    pub(crate) fn longest_gone(&self) -> Option<(u32, Time)> {
        let kinds = [self.absences.first(AWAY), self.absences.first(AWAY_UNUSED)];
        kinds.into_iter().flatten().min_by_key(|&(_, since)| since)
    }

    /// Returns the number of ended sessions that are kept for their final notices.
    pub(crate) fn ending(&self) -> usize {
        self.slab.len() - self.by_id.len()
    }

    // ---- for checks

    /// Panics if its lists and counts are inconsistent.
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn audit(&self) {
        let mut ended = 0;
        for (index, session) in self.iter() {
            let (found, held) = (self.lookup(session.id), session.holding.bytes());
            assert_eq!(held, session.held_bytes(), "bytes of session {index}");
            assert_eq!(
                session.away_timer.is_armed(),
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

    /// Returns the number of places for which there is memory, in both tables.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.slab.capacity() + self.by_id.capacity()
    }
}
