//! A session goes to another backend (SPEC 45.6).
//!
//! Its backend is told that it has left, behind all that it has sent. Once that is acknowledged, both sides have all of each other, and the
//! session is taken to a shard of another backend as it is, which is told of it by OWN. If the backend is gone, or knows nothing any more,
//! what it has not acknowledged goes along.

use core::mem;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use zeroize::Zeroizing;

use crate::edge::Edge;
use crate::edge::contract::CloseKind;
use crate::edge::counters::{CloseReason, EndReason};
use crate::edge::door::sources::{Admission, Nesting};
use crate::edge::lifecycle::welcome::millis;
use crate::edge::sessions::saved::SavedSession;
use crate::edge::sessions::{Place, Session};
use crate::edge::shares::lent::Lent;
use crate::edge::shares::{Arriving, Bound};
use crate::edge::uplink::rewrite::{Waiting, drop_beyond, rewrite, to_new_boot, waiting_of};
use crate::edge::uplink::rewrite::{head_of, is_repeated};
use crate::id::{ClientId, ShardId};
use crate::link::v3::Feature;
use crate::protocol::{Code, Verdict, verdict};
use crate::queue::FrameQueue;
use crate::time::Time;

/// The sessions of a shard that leave at a time: those whose backend is told, and those that are not fetched yet. (SPEC 45.8)
pub const MOST_DEPARTING: usize = 256;

/// The sessions that are looked at in one turn, of those that may leave.
const LOOKED_AT: usize = 4_096;

/// How long it takes until more of them are looked at.
const NEXT: Duration = Duration::from_millis(10);

/// The same where none could leave at the last time.
const REST: Duration = Duration::from_secs(1);

/// When a client is to come back whose session is on its way, and again at random up to this.
const ON_ITS_WAY: Duration = Duration::from_millis(50);

/// What a session takes beside its packets, at most, but for marks and notes.
const SESSION_BYTES: usize = 512;

/// A session on its way to a shard of another backend.
///
/// It is nowhere else, so an adapter must not lose it while its process serves.
#[derive(Debug)]
#[must_use = "the session is nowhere else"]
pub struct Departing {
    pub(super) to: ShardId,
    pub(super) id: ClientId,
    pub(super) record: Zeroizing<Vec<u8>>,
    /// What its backend has not acknowledged.
    pub(super) waiting: FrameQueue,
    /// Counts it where it goes.
    pub(super) _arriving: Arriving,
    /// Counts its bytes while they are on their way.
    pub(super) _lent: Lent,
}

impl Departing {
    /// Returns the shard that it is for.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.to
    }
}

/// The frames of a session that its backend has not acknowledged, and that the queue for it has no longer.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) waiting: FrameQueue,
    /// Its backend, if that is none of those that are there.
    pub(super) gone: Option<Gone>,
    /// Counts them.
    pub(super) _lent: Lent,
}

/// A backend that is none of those that are there.
#[derive(Clone, Debug)]
pub(super) struct Gone {
    pub(super) name: Box<str>,
    /// Whether another one may have its sessions: it is known what it has of them (SPEC 45.6(g)).
    pub(super) goes: bool,
}

/// What a shard has of sessions that leave for another backend.
#[derive(Debug, Default)]
pub(crate) struct Departures {
    /// Whether an operator wants all of them to leave.
    pub(super) is_ordered: bool,
    /// Where the walk over the sessions goes on.
    next: u32,
    /// Sessions that leave. With frames: their backend has acknowledged all but these, and they wait for another one.
    pub(super) leaving: BTreeMap<ClientId, Option<Left>>,
    /// Those that are to be fetched.
    pub(super) gone: VecDeque<Departing>,
    /// Since when there is no backend, of those that were there.
    down_since: Option<Time>,
    /// Since when sessions are here of backends that are none of those that are there.
    pub(super) gone_since: Option<Time>,
    /// Whether the process before knew what the backend has, if the link of this one has no counts.
    pub(super) was_exact: bool,
    /// Whether the trunk goes on by counts that this shard has forgotten. Its link ends, and until then its acknowledgements say nothing.
    is_divided: bool,
    /// Whether a connection is closed because its session leaves.
    lets_go: bool,
    /// When this is looked at.
    at: Option<Time>,
}

impl Departures {
    /// Returns whether the session leaves.
    #[inline]
    pub(crate) fn has(&self, id: ClientId) -> bool {
        !self.leaving.is_empty() && self.leaving.contains_key(&id)
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.at
    }

    /// Returns whether the session that goes away just now does so because it leaves.
    pub(crate) fn lets_go(&self) -> bool {
        self.lets_go
    }

    /// Notes whether the trunk goes on by counts that this shard has forgotten.
    pub(crate) fn divide(&mut self, is_divided: bool) {
        self.is_divided = is_divided;
    }

    pub(crate) fn is_divided(&self) -> bool {
        self.is_divided
    }

    /// Returns how many sessions may begin to leave.
    fn room(&self) -> usize {
        MOST_DEPARTING.saturating_sub(self.leaving.len() + self.gone.len())
    }

    pub(super) fn look_at(&mut self, at: Time) {
        self.at = Some(self.at.map_or(at, |other| other.min(at)));
    }
}

impl Edge {
    /// Orders the sessions of the backend of this number to go to others, or that no more do (SPEC 45.6(a)). A shard of another backend does
    /// nothing.
    pub fn handle_move(&mut self, now: Time, backend: u8, moves: bool) {
        self.step(now, |edge, now| {
            if edge.shares.backends().number_of(edge.config.shard.as_u8()) == Some(backend) {
                edge.departures.is_ordered = moves;
                edge.departures.at = None;
                edge.begin_departures(now);
            }
        });
    }

    /// Returns whether all sessions of its backend are to leave.
    #[cfg(test)]
    pub(in crate::edge) fn departures_are_ordered(&self) -> bool {
        self.departures.is_ordered
    }

    /// Returns the shard of the next session that is to be fetched. An adapter looks after each turn, and fetches it if it can be brought
    /// there. If not, it is called again in a moment.
    #[must_use]
    pub fn departing_to(&self) -> Option<ShardId> {
        self.departures.gone.front().map(Departing::shard)
    }

    /// Fetches the next session that goes to another backend, for [`handle_arriving`](Self::handle_arriving).
    pub fn take_departing(&mut self, now: Time) -> Option<Departing> {
        self.step(now, |edge, _| edge.departures.gone.pop_front())
    }

    /// Takes a session of another shard, whose backend is told of it.
    pub fn handle_arriving(&mut self, now: Time, departing: Departing) {
        self.step(now, |edge, now| edge.take_in(now, departing));
    }

    // ---- who leaves, and when

    /// Notes that the backend is there.
    pub(crate) fn backend_came(&mut self) {
        self.departures.down_since = None;
    }

    /// Notes that the backend is gone. Its sessions leave after a while, if they are to.
    pub(crate) fn backend_went(&mut self, now: Time) {
        let repin = self.config.master.repin_after;
        let since = *self.departures.down_since.get_or_insert(now);
        if !repin.is_zero() && self.shares.backends().number_of(0).is_some() {
            self.departures.look_at(since + repin);
        }
    }

    /// Notes that the backend may be down for another time.
    pub(crate) fn repin_changed(&mut self) {
        self.await_repin();
        if self.departures.gone_since.is_some() {
            self.departures.look_at(self.now);
        }
    }

    /// Looks again when a backend is given up.
    fn await_repin(&mut self) {
        if let Some(since) = self.departures.down_since {
            self.backend_went(since);
        }
        // If its time is over, nobody waits for that any more.
        let (repin, since) = (self.config.master.repin_after, self.departures.gone_since);
        let due = since
            .filter(|_| !repin.is_zero())
            .map(|since| since + repin);
        if let Some(due) = due.filter(|due| *due > self.now) {
            self.departures.look_at(due);
        }
    }

    /// Goes on with what is due of sessions that leave.
    pub(crate) fn depart_due(&mut self, now: Time) {
        if self.departures.at.is_some_and(|at| at <= now) {
            self.departures.at = None;
            self.begin_departures(now);
        }
    }

    /// Returns whether the backend is down for so long that its sessions go to others.
    fn is_given_up(&self, now: Time) -> bool {
        self.is_over(now, self.departures.down_since)
    }

    /// Returns whether a backend that is down since then is given up.
    fn is_over(&self, now: Time, since: Option<Time>) -> bool {
        let repin = self.config.master.repin_after;
        !repin.is_zero() && since.is_some_and(|since| since + repin <= now)
    }

    fn begin_departures(&mut self, now: Time) {
        for id in self.ready(now) {
            self.depart(now, id);
        }
        let version = &self.link_queue.version;
        // Without that it is not known what the backend has (SPEC 45.6(g)).
        let is_exact = version.is_end_to_end() && self.has_notices()
            || !version.is_counted() && self.departures.was_exact;
        let is_given_up = self.is_given_up(now);
        let is_told = self.departures.is_ordered && version.is_granted() && self.uplink.is_open();
        let (mut looked_at_all, mut left) = (false, 0);
        if is_exact && (is_given_up || is_told) && self.backend_for(ClientId::from_u64(0)).is_some()
        {
            let leaving;
            (leaving, looked_at_all) = self.who_leaves(now);
            left = leaving.len();
            match is_given_up {
                true => self.leave_dead(now, leaving),
                false => leaving.into_iter().for_each(|id| self.tell_left(id)),
            }
        }
        let waits = !self.departures.gone.is_empty() || !self.ready(now).is_empty();
        let departures = &mut self.departures;
        if waits || left > 0 {
            departures.look_at(now + NEXT);
        } else if departures.is_ordered || is_given_up {
            let pause = if looked_at_all { REST } else { NEXT };
            departures.look_at(now + pause);
        } else {
            self.await_repin();
        }
    }

    /// Returns those that leave and only wait for another backend.
    fn ready(&self, now: Time) -> Vec<ClientId> {
        // One that is none of those that are there is given up like any other.
        let is_over = self.is_over(now, self.departures.gone_since);
        let is_ready = |left: &Left| left.gone.as_ref().is_none_or(|gone| gone.goes && is_over);
        let leaving = self.departures.leaving.iter();
        let ready = leaving.filter(|(_, left)| left.as_ref().is_some_and(is_ready));
        ready.map(|(id, _)| *id).collect()
    }

    /// Chooses sessions that leave now, and lets go of their connections. Returns them, and whether all were looked at.
    fn who_leaves(&mut self, now: Time) -> (Vec<ClientId>, bool) {
        let (mut chosen, mut from) = (Vec::new(), self.departures.next);
        let mut looked_at_all = false;
        for _ in 0..LOOKED_AT {
            if chosen.len() >= self.departures.room() {
                break;
            }
            let Some((session, entry)) = self.sessions.next_from(from) else {
                (from, looked_at_all) = (0, true);
                break;
            };
            from = session + 1;
            let id = entry.id;
            if self.may_leave(now, entry) && self.let_go(now, session, id) {
                chosen.push(id);
            }
        }
        self.departures.next = from;
        (chosen, looked_at_all)
    }

    /// Returns whether the session can leave without loss: its client is away, or can tell what it has lost with its connection.
    fn may_leave(&self, now: Time, entry: &Session) -> bool {
        if self.departures.has(entry.id) {
            return false;
        }
        match entry.place {
            Place::Away => self.expires_at(entry) > now,
            Place::Attached(index) => {
                // They are away for a moment, which must not end others.
                let most = self.shares.most(Bound::Away);
                entry.numbered().is_some()
                    && self.conns.live(index).is_established()
                    && !self.config.clients.stale_timeout.is_zero()
                    && self.sessions.away() < most / 2
            }
            Place::Ended => false,
        }
    }

    /// Lets go of the session's connection, if it has one. Returns whether the session is still there.
    fn let_go(&mut self, now: Time, session: u32, id: ClientId) -> bool {
        if let Place::Attached(index) = self.sessions.live(session).place {
            self.set_cause(session, Code::GOING_AWAY);
            self.departures.lets_go = true;
            self.close_conn(now, index, CloseKind::Abort, CloseReason::Moved);
            self.departures.lets_go = false;
        }
        self.sessions.lookup(id) == Some(session)
    }

    /// Tells the backend that the session leaves, behind all that it has sent.
    fn tell_left(&mut self, id: ClientId) {
        if let Some(session) = self.sessions.lookup(id) {
            self.tell_elsewhere(session);
            // It is a member of its groups until the backend knows: what is sent to them before has a number there.
            self.forget_settled(session);
            self.departures.leaving.insert(id, None);
        }
    }

    /// Takes sessions away from a backend that is given up, with what it has not acknowledged. If it comes back, it is as a new boot.
    fn leave_dead(&mut self, now: Time, leaving: Vec<ClientId>) {
        let told = self.departures.leaving.iter();
        let told = told.filter_map(|(id, waiting)| waiting.is_none().then_some(*id));
        let all: BTreeSet<ClientId> = told.chain(leaving).collect();
        if all.is_empty() {
            return;
        }
        tracing::warn!(
            sessions = all.len(),
            "the backend is down for too long, and sessions go to others"
        );
        self.link_queue.unseal();
        self.link_queue
            .version
            .begin_again(&mut self.link_queue.frames);
        let standing = self.shares.backends().standing(self.config.shard.as_u8());
        standing.inspect(|standing| standing.begin_anew());
        self.depart_with_frames(now, all);
    }

    /// Takes sessions that leave away from a boot that knows nothing of them.
    pub(crate) fn depart_from_new_boot(&mut self, now: Time) {
        let told = self.departures.leaving.iter();
        let told = told.filter_map(|(id, waiting)| waiting.is_none().then_some(*id));
        let all: BTreeSet<ClientId> = told.collect();
        if !all.is_empty() {
            self.depart_with_frames(now, all);
        }
    }

    /// Takes sessions away with their frames, of a queue of which no carrier has taken a part.
    fn depart_with_frames(&mut self, now: Time, all: BTreeSet<ClientId>) {
        let mut taken: BTreeMap<ClientId, FrameQueue> = BTreeMap::new();
        for id in &all {
            taken.insert(*id, FrameQueue::new());
        }
        let mut take = |body: &[u8]| match head_of(body).and_then(|(id, _)| taken.get_mut(&id)) {
            Some(frames) => {
                if is_repeated(body) {
                    frames.push_body(body);
                }
                true
            }
            None => false,
        };
        rewrite(&mut self.link_queue.frames, |body, out| {
            if !take(body) {
                out.push_body(body);
            }
        });
        let in_line: Vec<u32> = self.line.iter().collect();
        for session in in_line {
            let entry = self.sessions.live_mut(session);
            if all.contains(&entry.id) {
                let backlog = mem::take(&mut entry.line_entry().backlog);
                for body in backlog.bodies() {
                    take(body);
                }
                self.sessions.recount(session, &mut self.account);
            }
        }
        for (id, frames) in taken {
            let left = self.left(frames, None);
            self.departures.leaving.insert(id, Some(left));
            self.depart(now, id);
        }
    }

    pub(super) fn left(&self, waiting: FrameQueue, gone: Option<Gone>) -> Left {
        let _lent = self.shares.lends(waiting.held_bytes());
        Left {
            waiting,
            gone,
            _lent,
        }
    }

    // ---- a session goes

    /// Handles that the backend has acknowledged that these sessions have ended.
    pub(crate) fn hear_ended(&mut self, now: Time, ended: &[ClientId]) {
        let mut left = false;
        for id in ended {
            if let Some(None) = self.departures.leaving.get(id) {
                let nothing = self.left(FrameQueue::new(), None);
                self.departures.leaving.insert(*id, Some(nothing));
                if let Some(session) = self.sessions.lookup(*id) {
                    // There may be no backend to go to for a while, and nothing that this one sends is for it.
                    self.forget_linked(session);
                }
                self.depart(now, *id);
                left = true;
            }
        }
        if left {
            self.departures.look_at(now);
        }
    }

    /// Forgets that a session leaves, since it has ended.
    pub(crate) fn forget_departure(&mut self, id: ClientId) {
        self.departures.leaving.remove(&id);
        if id.shard() != self.config.shard && self.shares.has_pins() {
            self.shares.change_pins(|pins| pins.end(id));
        }
    }

    /// Returns the shard of another backend that a session goes to.
    fn backend_for(&self, id: ClientId) -> Option<ShardId> {
        let own = Some(self.config.shard.as_u8());
        let to = self.shares.choose_for_move(own, id)?;
        Some(ShardId::new(to))
    }

    /// Returns the shard of any backend for a session of one that is none of those that are there.
    fn any_backend_for(&self, id: ClientId) -> Option<ShardId> {
        if self.config.backends() > 1 {
            let to = self.shares.choose_for_move(None, id)?;
            return Some(ShardId::new(to));
        }
        let version = &self.link_queue.version;
        let takes = version.is_granted() && version.is_end_to_end() && self.has_notices();
        // It is one shard of all, where the session is.
        takes.then_some(self.config.shard)
    }

    /// Takes a session that leaves out of this shard, if there is a backend that it can go to.
    fn depart(&mut self, now: Time, id: ClientId) {
        let left = self.departures.leaving.get(&id).and_then(Option::as_ref);
        let to = match left.and_then(|left| left.gone.as_ref()) {
            Some(_) => self.any_backend_for(id),
            None => self.backend_for(id),
        };
        let Some(to) = to else {
            return self.departures.look_at(now + NEXT);
        };
        let Some(Some(Left { waiting, _lent, .. })) = self.departures.leaving.remove(&id) else {
            return;
        };
        let Some(session) = self.sessions.lookup(id) else {
            return;
        };
        self.forget_linked(session);
        let entry = self.sessions.live_mut(session);
        if let Some(numbered) = entry.numbered_mut() {
            // They were of its backend.
            numbered.progress.forget_keys();
        }
        entry.linked().paused = false;
        let bytes = entry.held_bytes().saturating_add(SESSION_BYTES);
        // Room for all of it, so that no key is left in memory that it grew out of.
        let mut record = Zeroizing::new(Vec::with_capacity(bytes));
        entry.save(now, &mut record);
        self.shares.change_pins(|pins| pins.send(id, to));
        self.sessions.retire(id);
        self.end_absence(now, session);
        // It goes as it is, and nothing of it is left here.
        let _goes_along = self.clear_ended(session);
        tracing::debug!(%id, shard = to.as_u8(), "goes to another backend");
        let _lent = self.shares.lends(record.len() + waiting.held_bytes());
        let departing = Departing {
            to,
            id,
            record,
            waiting,
            _arriving: self.shares.sends_newcomer(to),
            _lent,
        };
        match to == self.config.shard {
            true => self.take_in(now, departing),
            false => self.departures.gone.push_back(departing),
        }
    }

    fn take_in(&mut self, now: Time, departing: Departing) {
        let Departing {
            id,
            record,
            waiting: mut frames,
            ..
        } = departing;
        let saved = SavedSession::load(&record).expect("it was saved by this process");
        let Some(session) = self.sessions.restore(now, saved) else {
            tracing::error!(%id, "there is no place for a session of another backend");
            return self.shares.change_pins(|pins| pins.end(id));
        };
        self.sessions.begin_absence(session, now);
        // Where it comes from is known again once it has a connection.
        self.sessions
            .count_absence(session, Admission::EXEMPT, &Nesting::NONE);
        let features = self.link_queue.version.features().unwrap_or_default();
        let longest = self.link_queue.version.longest_body() as usize;
        let mut beyond = BTreeSet::new();
        to_new_boot(&mut frames, features);
        let waiting = waiting_in(&frames);
        drop_beyond(&mut frames, longest, &mut beyond);
        let entry = self.sessions.live_mut(session);
        let settled = entry.settled_down();
        let linked = entry.linked();
        (linked.unacknowledged, linked.told_settled) = (waiting.packets, settled);
        // Its OWN says so.
        linked.is_told_away = true;
        #[cfg(feature = "cluster")]
        {
            linked.is_taken = !waiting.joined;
        }
        let at = self.config.shard;
        self.shares.change_pins(|pins| pins.arrive(id, at));
        if features.has(Feature::LinkAcks) {
            self.tell_own(session, waiting);
        }
        for body in frames.bodies() {
            self.tell_body(session, body);
        }
        self.counters.moved += 1;
        self.sessions.recount(session, &mut self.account);
        if !beyond.is_empty() {
            self.end_session(now, session, EndReason::PacketTooLong);
        }
        self.shed_load(now);
    }

    // ---- claims

    /// Returns whether the session is on its way to another shard, or leaves, or is at another one: a claim that is here cannot go on.
    pub(crate) fn has_left(&self, id: ClientId) -> bool {
        let pinned = self.shares.pin_of(id);
        self.departures.has(id)
            || pinned.is_some_and(|(shard, is_sent)| is_sent || shard != self.config.shard)
    }

    /// Returns whether the session is on its way to another shard, or leaves.
    #[cfg(feature = "cluster")]
    pub(crate) fn is_on_its_way(&self, id: ClientId) -> bool {
        let pinned = self.shares.pin_of(id);
        self.departures.has(id) || pinned.is_some_and(|(_, is_sent)| is_sent)
    }

    /// Returns an Answer that asks the client to come back in a moment.
    pub(crate) fn in_a_moment(&self) -> Verdict {
        Verdict {
            wait_ms: millis(ON_ITS_WAY),
            jitter_ms: millis(ON_ITS_WAY),
            ..verdict(Code::BUSY, self.run)
        }
    }
}

/// Returns what waits of a session, all of whose frames these are.
fn waiting_in(frames: &FrameQueue) -> Waiting {
    let mut waiting = Waiting::default();
    for (_, of_frame) in frames.bodies().filter_map(waiting_of) {
        waiting.packets += of_frame.packets;
        waiting.joined |= of_frame.joined;
    }
    waiting
}
