//! The watermarks of waiting bytes, as SPEC 10.5(b) to (d) describe them.

use std::collections::BTreeMap;

use super::Model;
use super::conn::{Conn, Manner, Piece};

/// A holder of fewer bytes than this is not chosen.
const LEAST_BYTES: usize = 1024;
/// The last class of holders. Each class is twice as large as the one before it.
const LAST_CLASS: u32 = 13;

/// How much of the memory limit is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Calm,
    /// From 80 %.
    Tight,
    /// From 90 %.
    Full,
    /// From 95 %.
    Over,
}

/// A holder's class, and its position in the order of entry into a class.
type Place = (u32, u64);

/// The bytes that each holder has.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    sessions: BTreeMap<u64, Place>,
    conns: BTreeMap<u32, Place>,
    places: u64,
    /// The least and the most bytes held before this read.
    before: (usize, usize),
}

fn class_of(bytes: usize) -> Option<u32> {
    let class = (bytes / LEAST_BYTES).checked_ilog2()?;
    Some(class.min(LAST_CLASS))
}

/// Puts `key` into the class of `bytes`.
fn place<K: Ord>(places: &mut BTreeMap<K, Place>, next: &mut u64, key: K, bytes: usize) {
    let class = class_of(bytes);
    if places.get(&key).map(|(class, _)| *class) == class {
        return;
    }
    match class {
        None => drop(places.remove(&key)),
        Some(class) => {
            *next += 1;
            places.insert(key, (class, *next));
        }
    }
}

/// Returns the largest class, and the holder that has been in it for longest.
fn largest<K: Copy>(places: &BTreeMap<K, Place>) -> Option<(u32, K)> {
    let order = |(_, (class, number)): &(&K, &Place)| (std::cmp::Reverse(*class), *number);
    let (key, (class, _)) = places.iter().min_by_key(order)?;
    Some((*class, *key))
}

/// Returns what a connection holds apart from its session's queue.
fn held_by(state: &Conn) -> usize {
    if state.close.is_some() {
        return 0;
    }
    let taken = match state.pieces.front() {
        Some(Piece::Data(_)) | None => 0,
        Some(_) => state.offset,
    };
    let of_session = if state.sid.is_some() {
        state.queued_bytes
    } else {
        0
    };
    state.piece_bytes - taken - of_session + state.frames.held()
}

impl Model {
    pub(super) fn has_memory_bound(&self) -> bool {
        self.limits.max_memory > 0
    }

    fn level_of(&self, held: usize) -> Level {
        let from = |percent| held >= self.limits.max_memory * percent / 100;
        match () {
            () if from(95) => Level::Over,
            () if from(90) => Level::Full,
            () if from(80) => Level::Tight,
            () => Level::Calm,
        }
    }

    fn sure_level(&mut self, (least, most): (usize, usize)) -> Level {
        let level = self.level_of(least);
        self.lost |= self.level_of(most) != level;
        level
    }

    /// Returns the current level. In the middle of a read of the link, the rest of that read does not count.
    pub(super) fn memory_level(&mut self, amid_read: bool) -> Level {
        if !self.has_memory_bound() {
            return Level::Calm;
        }
        // How much is held of a link whose framing is lost is not observable.
        self.lost |= self.link.up && self.link.must_close;
        let (least, most) = self.account();
        let rest = if amid_read && self.link.up {
            self.link.incoming.held()
        } else {
            0
        };
        self.sure_level((least - rest, most - rest))
    }

    /// Begins a read.
    pub(super) fn note_held(&mut self) {
        if self.has_memory_bound() {
            self.memory.before = self.account();
        }
    }

    /// Applies SPEC 10.5(c): returns whether no session may begin.
    pub(super) fn no_session_may_begin(&mut self) -> bool {
        if !self.has_memory_bound() {
            return false;
        }
        let before = self.memory.before;
        self.sure_level(before) >= Level::Full
    }

    /// Reclassifies the holders whose bytes have changed.
    pub(super) fn note_holders(&mut self) {
        if !self.has_memory_bound() {
            return;
        }
        let Memory {
            sessions,
            conns,
            places,
            ..
        } = &mut self.memory;
        sessions.retain(|sid, _| self.sessions.contains_key(sid));
        conns.retain(|conn, _| self.conns.contains_key(conn));
        for (sid, session) in &self.sessions {
            let queued = match session.conn.and_then(|conn| self.conns.get(&conn)) {
                Some(state) => state.queued_bytes,
                None => session.queue.iter().map(Vec::len).sum(),
            };
            place(sessions, places, *sid, queued);
        }
        for (conn, state) in &self.conns {
            place(conns, places, *conn, held_by(state));
        }
    }

    /// Makes room (SPEC 10.5(d)).
    pub(super) fn shed_load(&mut self, amid_read: bool) {
        self.note_holders();
        while self.memory_level(amid_read) == Level::Over && !self.lost {
            // A session in line for the link holds more than can be seen.
            self.lost |= self.uncertain > 0;
            let conn = largest(&self.memory.conns);
            let session = largest(&self.memory.sessions);
            match (conn, session) {
                (Some((class, conn)), other) if other.is_none_or(|(theirs, _)| class > theirs) => {
                    self.reach.closed_for_memory += 1;
                    let sid = self.conns.get(&conn).and_then(|state| state.sid);
                    self.close(conn, "memory is short", Manner::Abrupt);
                    if let Some(sid) = sid {
                        self.go_away(sid);
                    }
                }
                (_, Some((_, sid))) => self.end_session(sid, "memory limit"),
                _ => return,
            }
            self.note_holders();
        }
    }
}
