//! The sessions that a backend knows, and those that it knows to have ended.

use core::hash::{BuildHasherDefault, Hasher};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::ClientId;
use crate::code::Code;
use crate::end::{End, Ledgers};
use crate::ledger::Ledger;
pub use crate::link::v3::GroupId;

use super::Mark;

/// Ended sessions that are remembered. Notices about them are not told again, and packets for them are not sent.
pub const MAX_ENDED: usize = 65_536;
/// Groups that have members, at most: those of SPEC 38.2 but the group of everybody, which a host keeps itself.
pub const MAX_GROUPS: usize = crate::link::v3::MAX_GROUPS - 1;
/// Groups that a session is in, at most, beside that of everybody. (SPEC 38.2)
pub const MAX_GROUPS_OF_SESSION: usize = crate::link::v3::GROUPS_OF_A_SESSION as usize - 1;
/// Packets and bytes to one session that are kept, at most, until they are settled, where there are several edges: what an edge of the default
/// configuration holds of it.
pub const KEPT_PACKETS: usize = 16_384;
/// See [`KEPT_PACKETS`].
pub const KEPT_BYTES: usize = 2 << 20;
/// When the book is full, one in so many entries is forgotten at once.
const FORGOTTEN_AT_ONCE: usize = 16;

/// What is known of a session.
#[derive(Debug, Clone, Default)]
pub(super) struct Entry {
    /// Whether the application was told of it.
    pub(super) is_told: bool,
    /// Whether the application has sent something to it, or has counts of it. Where neither holds, the edge alone knows it: its OWN has come,
    /// and its JOINED has not.
    is_addressed: bool,
    /// Whether the application has admitted it, if it admits sessions.
    is_admitted: bool,
    /// Packets that came from the client, which is the number of the last one.
    pub(super) up: u64,
    /// The frame of the last one that the application was given. (Version 3 of the link)
    pub(super) given: Mark,
    /// The number of the packet that the edge sends next. (Version 3 of the link)
    pub(super) next_up: u64,
    /// Packets that were sent to it, which is the number of the last one.
    pub(super) down: u64,
    /// Packets that were sent to it and wait for the picture of the edge, as far as no earlier link took them. `down` has them.
    pub(super) waiting: u64,
    /// The number down up to which everything is settled. (Version 3 of the link)
    pub(super) settled: u64,
    /// Whether it has no connection, as far as the edge tells.
    pub(super) is_away: bool,
    /// What the application wants to remember of it.
    pub(super) note: String,
    /// Whether the application has said so in this process. Then no note of the edge is newer.
    pub(super) is_noted: bool,
    /// The picture of the edge in which it was last.
    pub(super) picture: u64,
    /// Whether the application wants its client not to be read.
    pub(super) is_paused: bool,
    /// The picture in which its edge was told so last, if this edge was.
    pub(super) pause_told: Option<u64>,
    /// The code and the text of the kick that the application asked for.
    pub(super) kick: Option<Box<(Code, String)>>,
    /// The groups that it is in.
    pub(super) groups: Vec<GroupId>,
    /// The counter by which its edge has it, as far as is known. (SPEC 44.5)
    pub(super) counter: u64,
    /// The last packets to it, up to `down`, as far as they are not settled. Where there is one edge, there are none.
    kept: VecDeque<Arc<[u8]>>,
    kept_bytes: usize,
    /// The number of the last packet that its new edge was sent again, until that has all. (SPEC 44.5(d))
    pub(super) injected: Option<u64>,
    /// Whether another edge had it before this one, which has not told where it is, and whose copy was not made in this process.
    pub(super) is_moved: bool,
    /// The edges that have had it in this process, a bit for each lane: their copies have the numbers of this process.
    lanes: u64,
    /// Its place in the order in which sessions were heard of last.
    heard: u64,
}

/// Returns the bit of a lane. There are no more than bits.
fn bit_of(lane: u16) -> u64 {
    1_u64.checked_shl(lane.into()).unwrap_or(0)
}

impl Entry {
    /// Notes a packet to it that has a number, and keeps it if there are several edges.
    pub(super) fn number(&mut self, packet: Option<&Arc<[u8]>>) {
        self.down += 1;
        let Some(packet) = packet else { return };
        self.kept_bytes += packet.len();
        self.kept.push_back(Arc::clone(packet));
        // What is to be sent again is not given up.
        while self.injected.is_none() && self.is_beyond() {
            self.drop_oldest();
        }
    }

    fn is_beyond(&self) -> bool {
        self.kept.len() > KEPT_PACKETS || (self.kept_bytes > KEPT_BYTES && self.kept.len() > 1)
    }

    /// Returns whether its edge lacks packets that are being sent again.
    pub(super) fn is_injecting(&self) -> bool {
        self.injected.is_some()
    }

    /// Returns whether no more can be kept while packets are sent again.
    pub(super) fn is_full(&self) -> bool {
        self.is_injecting() && (self.kept.len() >= KEPT_PACKETS || self.kept_bytes >= KEPT_BYTES)
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.kept.pop_front() {
            self.kept_bytes -= oldest.len();
        }
    }

    /// Notes that the edge of this lane has it.
    pub(super) fn comes_to(&mut self, lane: u16) {
        self.lanes |= bit_of(lane);
    }

    /// Returns whether the edge of this lane has had it in this process.
    pub(super) fn was_at(&self, lane: u16) -> bool {
        self.lanes & bit_of(lane) != 0
    }

    /// Drops what is settled.
    pub(super) fn drop_settled(&mut self) {
        while !self.kept.is_empty() && self.first_kept() <= self.settled {
            self.drop_oldest();
        }
    }

    /// Keeps no more than the last packets.
    pub(super) fn keep_last(&mut self, packets: u64) {
        while self.kept.len() as u64 > packets {
            self.drop_oldest();
        }
    }

    /// Returns how many packets are kept.
    pub(super) fn kept(&self) -> u64 {
        self.kept.len() as u64
    }

    /// Returns the number of the oldest packet that is kept, or of the next one.
    pub(super) fn first_kept(&self) -> u64 {
        (self.down + 1).saturating_sub(self.kept.len() as u64)
    }

    /// Returns whether its edge, which has numbered so many packets to it, lacks some that were sent to it, and all of them are kept.
    pub(super) fn lacks_kept(&self, numbered: u64) -> bool {
        let sent = self.down.saturating_sub(self.waiting);
        numbered < sent && self.first_kept() <= numbered + 1
    }

    /// Returns a packet that is kept.
    pub(super) fn packet(&self, number: u64) -> Option<&Arc<[u8]>> {
        let place = number.checked_sub(self.first_kept())?;
        self.kept.get(usize::try_from(place).ok()?)
    }

    /// Returns the accounts as far as version 2 tells them: nobody says what arrived at the client.
    pub(super) fn ledgers(&self) -> Ledgers {
        Ledgers {
            up: Ledger {
                numbered: self.up,
                acknowledged: self.up,
                ..Ledger::default()
            },
            down: Ledger {
                numbered: self.down,
                open_sent: self.down,
                ..Ledger::default()
            },
        }
    }
}

/// What is remembered of a session that has ended.
#[derive(Debug, Clone, Copy)]
struct Past {
    code: Code,
    /// The number down up to which everything was settled.
    settled: u64,
}

/// Why a session was not added to a group. (SPEC 38.2)
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// There are as many groups as there may be.
    #[error("{MAX_GROUPS} groups have members, and no more are allowed")]
    TooMany,
    /// The session is in as many groups as it may be.
    #[error("the session is in {MAX_GROUPS_OF_SESSION} groups, and no more are allowed")]
    TooManyOfSession,
}

/// The sessions that a backend knows, at most `max`, and the last [`MAX_ENDED`] that have ended.
#[derive(Debug)]
#[cfg_attr(feature = "testkit", derive(Clone))]
pub(super) struct Book {
    known: HashMap<ClientId, Entry, BuildHasherDefault<IdHasher>>,
    max: usize,
    /// Whether a session is hidden until it is admitted.
    admits: bool,
    order: u64,
    ended: HashMap<ClientId, Past, BuildHasherDefault<IdHasher>>,
    ended_in_order: VecDeque<ClientId>,
    /// The members of each group that has some.
    groups: BTreeMap<GroupId, BTreeSet<ClientId>>,
    /// Sessions that were forgotten for want of room, of which the application is to be told.
    forgotten: VecDeque<(ClientId, End)>,
}

impl Book {
    pub(super) fn new(max: usize, admits: bool) -> Self {
        Book {
            known: HashMap::default(),
            max,
            admits,
            order: 0,
            ended: HashMap::default(),
            ended_in_order: VecDeque::new(),
            groups: BTreeMap::new(),
            forgotten: VecDeque::new(),
        }
    }

    /// Returns the entry of a session of which something is heard. It is made if there is none. `None`: the session has ended.
    pub(super) fn hear(&mut self, id: ClientId) -> Option<&mut Entry> {
        if !self.known.contains_key(&id) {
            if self.ended.contains_key(&id) {
                return None;
            }
            self.make_room();
        }
        self.order += 1;
        let entry = self.known.entry(id).or_default();
        entry.heard = self.order;
        Some(entry)
    }

    /// Returns the entry of a session to which something is sent. It is made if there is none. The error is how the session ended.
    pub(super) fn address(&mut self, id: ClientId) -> Result<&mut Entry, Code> {
        match self.ended.get(&id) {
            Some(past) => Err(past.code),
            None => {
                if !self.known.contains_key(&id) {
                    self.make_room();
                }
                let entry = self.known.entry(id).or_default();
                entry.is_addressed = true;
                Ok(entry)
            }
        }
    }

    /// Ends a session. Returns its entry, unless the application knows nothing of it or was told of its end.
    pub(super) fn end(&mut self, id: ClientId, code: Code) -> Option<Entry> {
        let entry = self.known.remove(&id);
        for group in entry.iter().flat_map(|entry| &entry.groups) {
            leave(&mut self.groups, *group, id);
        }
        if self.ended.contains_key(&id) {
            return None;
        }
        if self.ended_in_order.len() == MAX_ENDED
            && let Some(oldest) = self.ended_in_order.pop_front()
        {
            self.ended.remove(&oldest);
        }
        let settled = entry.as_ref().map_or(0, |entry| entry.settled);
        self.ended.insert(id, Past { code, settled });
        self.ended_in_order.push_back(id);
        entry.filter(|entry| entry.is_told || entry.is_addressed)
    }

    /// Forgets the end of a session that has come back: it was at another backend of its edge (SPEC 45.6), or its edge lacked it for a while.
    pub(super) fn revive(&mut self, id: ClientId) {
        if matches!(self.ended(id), Some(Code::ELSEWHERE | Code::GONE)) {
            self.ended.remove(&id);
            self.ended_in_order.retain(|ended| *ended != id);
        }
    }

    /// Returns how a session ended, if that is remembered.
    pub(super) fn ended(&self, id: ClientId) -> Option<Code> {
        self.ended.get(&id).map(|past| past.code)
    }

    /// Returns the number down up to which everything of a session is settled, also of one that has ended, if that is remembered.
    pub(super) fn settled(&self, id: ClientId) -> u64 {
        match self.known.get(&id) {
            Some(entry) => entry.settled,
            None => self.ended.get(&id).map_or(0, |past| past.settled),
        }
    }

    /// Returns the next session that was forgotten.
    pub(super) fn pop_forgotten(&mut self) -> Option<(ClientId, End)> {
        self.forgotten.pop_front()
    }

    pub(super) fn get(&self, id: ClientId) -> Option<&Entry> {
        self.known.get(&id)
    }

    /// Returns a session of which the application was told, unless it is hidden.
    pub(super) fn shown(&self, id: ClientId) -> Option<&Entry> {
        self.get(id).filter(|entry| self.shows(entry))
    }

    fn shows(&self, entry: &Entry) -> bool {
        entry.is_told && (entry.is_admitted || !self.admits)
    }

    /// Shows a session. Returns whether it was hidden.
    pub(super) fn admit(&mut self, id: ClientId) -> bool {
        let admits = self.admits;
        let entry = self.known.get_mut(&id).filter(|entry| entry.is_told);
        let is_new = entry.is_some_and(|entry| !core::mem::replace(&mut entry.is_admitted, true));
        admits && is_new
    }

    pub(super) fn get_mut(&mut self, id: ClientId) -> Option<&mut Entry> {
        self.known.get_mut(&id)
    }

    /// Returns the sessions that were in no picture from `picture` on, in the order of their ids.
    pub(super) fn missing_since(&self, picture: u64) -> Vec<ClientId> {
        let missing = self
            .known
            .iter()
            .filter(|(_, entry)| entry.picture < picture);
        let mut ids: Vec<_> = missing.map(|(&id, _)| id).collect();
        ids.sort_unstable();
        ids
    }

    /// Returns the paused sessions, in the order of their ids.
    pub(super) fn paused(&self) -> Vec<ClientId> {
        let paused = self.known.iter().filter(|(_, entry)| entry.is_paused);
        let mut ids: Vec<_> = paused.map(|(&id, _)| id).collect();
        ids.sort_unstable();
        ids
    }

    /// Notes of which sessions a packet waits, an id for each packet.
    pub(super) fn set_waiting(&mut self, ids: impl Iterator<Item = ClientId>) {
        for entry in self.known.values_mut() {
            entry.waiting = 0;
        }
        for id in ids {
            if let Some(entry) = self.known.get_mut(&id) {
                entry.waiting += 1;
            }
        }
    }

    /// Returns each group with its members.
    pub(super) fn groups(&self) -> impl Iterator<Item = (GroupId, Vec<ClientId>)> {
        let groups = self.groups.iter();
        groups.map(|(&group, members)| (group, members.iter().copied().collect()))
    }

    /// Returns whether a group has members.
    pub(super) fn has_group(&self, group: GroupId) -> bool {
        self.groups.contains_key(&group)
    }

    /// Returns the kicks that were asked for and that no packet before them holds up, in the order of ids.
    pub(super) fn kicks(&self) -> Vec<(ClientId, Code, String)> {
        let due = self.known.iter().filter(|(_, entry)| !entry.is_injecting());
        let kicks = due.filter_map(|(&id, entry)| {
            let kick = entry.kick.as_deref()?;
            Some((id, kick.0, kick.1.clone()))
        });
        let mut kicks: Vec<_> = kicks.collect();
        kicks.sort_unstable_by_key(|(id, ..)| *id);
        kicks
    }

    /// Returns the sessions that the application was told of and that are not hidden, in the order of their ids.
    pub(super) fn ids(&self) -> Vec<ClientId> {
        let shown = self.known.iter().filter(|(_, entry)| self.shows(entry));
        let mut ids: Vec<_> = shown.map(|(&id, _)| id).collect();
        ids.sort_unstable();
        ids
    }

    /// Makes a session a member of a group. Returns whether that changes something: the session is known, and was no member.
    pub(super) fn add(&mut self, group: GroupId, id: ClientId) -> Result<bool, GroupError> {
        let Some(entry) = self.known.get_mut(&id) else {
            return Ok(false);
        };
        if entry.groups.contains(&group) {
            return Ok(false);
        }
        if entry.groups.len() >= MAX_GROUPS_OF_SESSION {
            return Err(GroupError::TooManyOfSession);
        }
        if self.groups.len() >= MAX_GROUPS && !self.groups.contains_key(&group) {
            return Err(GroupError::TooMany);
        }
        entry.groups.push(group);
        self.groups.entry(group).or_default().insert(id);
        Ok(true)
    }

    /// Ends a membership. Returns whether there was one.
    pub(super) fn remove(&mut self, group: GroupId, id: ClientId) -> bool {
        let Some(entry) = self.known.get_mut(&id) else {
            return false;
        };
        let before = entry.groups.len();
        entry.groups.retain(|one| *one != group);
        leave(&mut self.groups, group, id);
        entry.groups.len() < before
    }

    /// Returns the members of a group in the order of their ids.
    pub(super) fn members(&self, group: GroupId) -> impl Iterator<Item = ClientId> {
        self.groups.get(&group).into_iter().flatten().copied()
    }

    /// Notes a packet for a session.
    pub(super) fn count_down(&mut self, id: ClientId, packet: Option<&Arc<[u8]>>) {
        if let Some(entry) = self.known.get_mut(&id) {
            entry.number(packet);
        }
    }

    /// Takes a session out that goes on elsewhere. It keeps its groups.
    pub(super) fn take(&mut self, id: ClientId) -> Option<Entry> {
        let entry = self.known.remove(&id)?;
        for group in &entry.groups {
            leave(&mut self.groups, *group, id);
        }
        Some(entry)
    }

    /// Takes a session that was elsewhere.
    pub(super) fn put(&mut self, id: ClientId, entry: Entry) {
        self.make_room();
        self.ended.remove(&id);
        for group in &entry.groups {
            self.groups.entry(*group).or_default().insert(id);
        }
        self.order += 1;
        let heard = self.order;
        self.known.insert(id, Entry { heard, ..entry });
    }

    /// Returns the sessions of which the application was told, in the order of their ids.
    pub(super) fn told(&self) -> Vec<ClientId> {
        let told = self.known.iter().filter(|(_, entry)| entry.is_told);
        let mut ids: Vec<_> = told.map(|(&id, _)| id).collect();
        ids.sort_unstable();
        ids
    }

    /// Makes room for one more session. Those are forgotten of which nothing was heard for longest: an edge that began again does not tell
    /// what it has lost (SPEC 9.10(c)).
    fn make_room(&mut self) {
        if self.known.len() < self.max {
            return;
        }
        let mut heard: Vec<_> = self.known.values().map(|entry| entry.heard).collect();
        let count = (heard.len() / FORGOTTEN_AT_ONCE).max(1);
        let last = count - 1;
        let (_, &mut last, _) = heard.select_nth_unstable(last);
        let old = self.known.iter().filter(|(_, entry)| entry.heard <= last);
        let mut old: Vec<_> = old.map(|(&id, entry)| (entry.heard, id)).collect();
        old.sort_unstable();
        for (_, id) in old {
            if let Some(entry) = self.end(id, Code::GONE).filter(|entry| entry.is_told) {
                let end = End::new(Code::GONE, "nothing was heard of it", entry.ledgers());
                self.forgotten.push_back((id, end));
            }
        }
    }
}

/// Removes a member. A group without members is forgotten.
fn leave(groups: &mut BTreeMap<GroupId, BTreeSet<ClientId>>, group: GroupId, id: ClientId) {
    if let Some(members) = groups.get_mut(&group) {
        members.remove(&id);
        if members.is_empty() {
            groups.remove(&group);
        }
    }
}

/// A hasher of ids. The edge draws them, so nobody chooses those that collide.
#[derive(Debug, Default, Clone, Copy)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(byte.into());
        }
    }

    fn write_u64(&mut self, number: u64) {
        // The golden ratio: it spreads numbers that follow each other.
        let mixed = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> ClientId {
        ClientId::from_u64(number as u64)
    }

    fn tell(book: &mut Book, number: usize) {
        book.hear(id(number)).expect("it lives").is_told = true;
    }

    #[test]
    fn a_full_book_forgets_those_that_were_silent_for_longest() {
        let mut book = Book::new(32, false);
        for number in 0..32 {
            tell(&mut book, number);
        }
        tell(&mut book, 0);
        assert_eq!(book.pop_forgotten(), None, "at the bound");
        tell(&mut book, 32);
        let gone: Vec<_> = core::iter::from_fn(|| book.pop_forgotten()).collect();
        assert_eq!(
            gone.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
            [id(1), id(2)]
        );
        assert_eq!(gone[0].1.code, Code::GONE);
        assert_eq!(book.ids().len(), 31);
        assert!(book.hear(id(1)).is_none(), "it has ended");
        assert!(book.hear(id(0)).is_some());
    }

    #[test]
    fn a_session_is_hidden_until_it_is_admitted_only_if_the_application_admits() {
        let mut book = Book::new(8, true);
        assert!(!book.admit(id(1)), "nobody has heard of it");
        book.address(id(1)).expect("it lives");
        assert!(!book.admit(id(1)), "nobody was told of it");
        tell(&mut book, 1);
        tell(&mut book, 2);
        assert!(book.ids().is_empty() && book.shown(id(1)).is_none());
        assert!(book.admit(id(1)) && !book.admit(id(1)), "once");
        assert!(book.ids() == [id(1)] && book.shown(id(1)).is_some());
        let mut open = Book::new(8, false);
        tell(&mut open, 1);
        assert!(open.ids() == [id(1)] && !open.admit(id(1)), "it was shown");
    }

    #[test]
    fn a_book_for_one_session_works() {
        let mut book = Book::new(1, false);
        tell(&mut book, 1);
        tell(&mut book, 2);
        assert_eq!(book.pop_forgotten().map(|(id, _)| id), Some(id(1)));
        assert_eq!(book.ids(), [id(2)]);
    }

    #[test]
    fn an_end_is_told_once_and_remembered_for_a_while() {
        let mut book = Book::new(8, false);
        tell(&mut book, 0);
        assert!(book.end(id(0), Code::EXPIRED).is_some());
        assert!(book.end(id(0), Code::GONE).is_none());
        assert_eq!(book.ended(id(0)), Some(Code::EXPIRED));
        assert!(book.address(id(0)).is_err());
        for number in 1..MAX_ENDED {
            assert!(book.end(id(number), Code::GONE).is_none());
        }
        assert_eq!(book.ended(id(0)), Some(Code::EXPIRED), "at the bound");
        book.end(id(MAX_ENDED), Code::GONE);
        assert_eq!(book.ended(id(0)), None, "beyond it");
    }

    #[test]
    fn groups_have_bounds_and_end_with_their_members() {
        let group = |number: usize| GroupId(number as u64);
        let mut book = Book::new(MAX_GROUPS, false);
        assert_eq!(book.add(group(0), id(0)), Ok(false), "nobody is there");
        tell(&mut book, 0);
        for number in 0..MAX_GROUPS_OF_SESSION {
            assert_eq!(book.add(group(number), id(0)), Ok(true));
            assert_eq!(
                book.add(group(number), id(0)),
                Ok(false),
                "a member already"
            );
        }
        let beyond = book.add(group(MAX_GROUPS_OF_SESSION), id(0));
        assert_eq!(beyond, Err(GroupError::TooManyOfSession));
        assert!(book.remove(group(1), id(0)) && !book.remove(group(1), id(0)));
        book.end(id(0), Code::EXPIRED);
        assert!(book.groups.is_empty());
        for number in 0..MAX_GROUPS {
            if number % MAX_GROUPS_OF_SESSION == 0 {
                tell(&mut book, 1 + number);
            }
            let member = id(1 + number / MAX_GROUPS_OF_SESSION * MAX_GROUPS_OF_SESSION);
            assert_eq!(book.add(group(number), member), Ok(true));
        }
        tell(&mut book, MAX_GROUPS + 1);
        let beyond = book.add(group(MAX_GROUPS), id(MAX_GROUPS + 1));
        assert_eq!(beyond, Err(GroupError::TooMany));
        assert_eq!(
            book.add(group(0), id(MAX_GROUPS + 1)),
            Ok(true),
            "there is one"
        );
        assert_eq!(book.members(group(0)).count(), 2);
    }
}
