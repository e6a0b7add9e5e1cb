//! The table of connections: what each waits for, which makes room, and which have something for the adapter.

pub(crate) mod claimants;
pub(crate) mod conn;
pub(crate) mod joins;
#[cfg(all(feature = "backends", feature = "cluster"))]
pub(crate) mod search;
pub(crate) mod state;
pub(crate) mod wait;

use core::mem;
use core::net::IpAddr;
use std::collections::VecDeque;

use crate::edge::table::list::{HasNode, Lists, Node};
use crate::edge::table::slab::{Slab, room_to_keep};
use crate::id::ClientId;
use crate::keys::PublicKey;
use crate::time::Time;

use crate::edge::conns::claimants::Claimants;
use crate::edge::conns::conn::{CLAIM, Conn, ConnKey};
use crate::edge::conns::joins::Waiting;
use crate::edge::conns::state::{Claim, Crowd, Joining, OnlyClaim, Phase, Stage, State};
use crate::edge::conns::wait::{Slot, Wait, Waits};
use crate::edge::counters::Rejected;
use crate::edge::memory::account::Account;
use crate::edge::table::by_size::{BySize, Holds, Resized};

/// A key from the adapter may be of a connection that is gone; an index that the edge keeps may not.
const LIVE: &str = "an index that the edge keeps means a connection that is in the table";

/// All connections.
#[derive(Clone, Debug)]
pub(crate) struct Conns {
    slab: Slab<Conn>,
    waits: Waits,
    by_size: BySize<Conn>,
    /// Connections that have changed. Each is listed at most once.
    ready: VecDeque<ConnKey>,
    /// Connections that have not said what they want, in order of arrival.
    strangers: Lists<Conn, Arrival, 1>,
    /// Half-open connections that have claimed a session.
    claimants: Claimants,
    /// Newcomers that wait for their turn.
    joins: Waiting,
    /// The number of half-open connections.
    half_open: usize,
    /// The number of connections in [`State::Closed`], which exist only until the adapter has closed them.
    closed: usize,
    /// The number of connections whose backend was asked whether their session goes on here (SPEC 44.5).
    asked: usize,
}

image!(Conns {
    slab,
    waits,
    by_size,
    ready,
    strangers,
    claimants,
    joins,
    half_open,
    closed,
    asked
});

/// The node of [`Conns::strangers`].
#[derive(Clone, Debug)]
struct Arrival;

impl HasNode<Conn> for Arrival {
    fn node(conn: &mut Conn) -> &mut Node {
        conn.arrival()
    }
}

/// The one list of [`Conns::strangers`].
const STRANGERS: u8 = 0;

impl Conns {
    pub(crate) fn new() -> Self {
        Conns {
            slab: Slab::default(),
            waits: Waits::new(),
            by_size: BySize::new(),
            ready: VecDeque::new(),
            strangers: Lists::new(),
            claimants: Claimants::default(),
            joins: Waiting::default(),
            half_open: 0,
            closed: 0,
            asked: 0,
        }
    }

    // ---- the table

    /// Returns the number of connections.
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Returns the number of half-open connections.
    pub(crate) fn half_open(&self) -> usize {
        self.half_open
    }

    /// Returns the number of connections that are established, or drain after a kick.
    pub(crate) fn established(&self) -> usize {
        self.slab.len() - self.half_open - self.closed
    }

    /// Returns the number of connections whose backend was asked whether their session goes on here.
    pub(crate) fn asked(&self) -> usize {
        self.asked
    }

    /// Returns the connection of a key from the adapter, unless it is gone.
    #[inline]
    pub(crate) fn find(&self, key: ConnKey) -> Option<&Conn> {
        self.slab.find(key.0)
    }

    /// Like [`find`](Self::find).
    #[inline]
    pub(crate) fn find_mut(&mut self, key: ConnKey) -> Option<&mut Conn> {
        self.slab.find_mut(key.0)
    }

    /// Returns the connection at an index that the edge keeps.
    ///
    /// # Panics
    /// When there is none: the owner of the index was not told that its connection is gone.
    #[inline]
    #[track_caller]
    pub(crate) fn live(&self, index: u32) -> &Conn {
        self.slab.at(index).expect(LIVE)
    }

    /// Like [`live`](Self::live).
    #[inline]
    #[track_caller]
    pub(crate) fn live_mut(&mut self, index: u32) -> &mut Conn {
        self.slab.at_mut(index).expect(LIVE)
    }

    /// Returns the key of the connection at an index that the edge keeps.
    #[track_caller]
    pub(crate) fn key(&self, index: u32) -> ConnKey {
        ConnKey(self.slab.key_at(index).expect(LIVE))
    }

    /// Returns the first index in use from `index` on: one step of a walk during which connections may change.
    pub(crate) fn next_from(&self, index: u32) -> Option<u32> {
        self.slab.next_from(index)
    }

    /// Adds a half-open connection. Returns `None` when there is no index left.
    pub(crate) fn insert(&mut self, conn: Conn) -> Option<ConnKey> {
        let key = self.slab.insert(conn)?;
        self.half_open += 1;
        self.join_crowd(key.index);
        Some(ConnKey(key))
    }

    /// Inserts a connection of another process, which is established there (SPEC 41.1(c)).
    #[cfg(feature = "upgrade")]
    pub(crate) fn insert_established(&mut self, mut conn: Conn, session: u32) -> Option<ConnKey> {
        conn.state = State::Established { session };
        self.slab.insert(conn).map(ConnKey)
    }

    /// Removes the connection. Its key is dead, and no index may refer to it any more.
    pub(crate) fn remove(&mut self, index: u32, account: &mut Account) -> Conn {
        let stage = self.live(index).state().stage();
        self.asked -= usize::from(self.live(index).state().is_asked());
        if stage.is_half_open() {
            self.half_open -= 1;
        }
        if stage == Stage::Closed {
            self.closed -= 1;
        }
        self.leave_crowd(index, self.live(index).crowd());
        self.disarm_all(index);
        self.by_size.remove(&mut self.slab, index);
        let conn = self.live_mut(index);
        account.subtract(conn.holding().replace(0));
        self.slab.remove(index).expect(LIVE)
    }

    // ---- states

    /// Changes the state of the connection at `index`. This is the only place in which a state changes, together with its counts and
    /// timers.
    ///
    /// # Panics
    /// When SPEC 8.2 has no transition from its state to `state`.
    #[track_caller]
    pub(crate) fn enter(&mut self, index: u32, state: State, now: Time) {
        let conn = self.live_mut(index);
        let (before, crowd) = (conn.state.stage(), conn.crowd());
        let (was_asked, is_asked) = (conn.state.is_asked(), state.is_asked());
        conn.state = state;
        let (after, next_crowd) = (conn.state.stage(), conn.crowd());
        assert!(
            before.may_become(after),
            "SPEC 8.2 has no way from {} to {}",
            before.name(),
            after.name()
        );
        // Nobody goes from one turn among those who join to another.
        if mem::discriminant(&crowd) != mem::discriminant(&next_crowd) {
            self.leave_crowd(index, crowd);
            self.join_crowd(index);
        } else if let Crowd::Claimants = next_crowd {
            // With its first early record there, it waits for the edge alone.
            self.set_waits(index, matches!(after, Stage::Wait | Stage::Entropy));
        }
        if before.is_half_open() && !after.is_half_open() {
            self.half_open -= 1;
        }
        self.asked += usize::from(is_asked);
        self.asked -= usize::from(was_asked);
        if after == Stage::Closed {
            self.closed += 1;
        }
        match after {
            Stage::Draining | Stage::Last | Stage::Closed => self.disarm_all(index),
            Stage::Established => {
                self.disarm(Slot::Read, index);
                self.disarm(Slot::Next, index);
            }
            _ if before.wait().is_some() => self.disarm(Slot::Next, index),
            _ => {}
        }
        if let Some(wait) = after.wait() {
            self.arm(wait, index, now);
        }
    }

    // ---- what they wait for

    /// Arms a wait of the connection at `index` from `now` on, replacing any other of the same timer.
    #[inline(always)]
    pub(crate) fn arm(&mut self, wait: Wait, index: u32, now: Time) {
        self.waits.arm(&mut self.slab, wait, index, now);
    }

    /// Disarms a timer of the connection at `index`.
    #[inline(always)]
    pub(crate) fn disarm(&mut self, slot: Slot, index: u32) {
        self.waits.disarm(&mut self.slab, slot, index);
    }

    /// Disarms all timers of the connection at `index`.
    pub(crate) fn disarm_all(&mut self, index: u32) {
        for slot in [Slot::Next, Slot::Read, Slot::Write] {
            self.disarm(slot, index);
        }
    }

    /// Returns the connection that has waited for this for longest, and since when.
    #[inline]
    pub(crate) fn first(&self, wait: Wait) -> Option<(u32, Time)> {
        self.waits.first(wait)
    }

    /// Returns the number of connections that wait for this.
    pub(crate) fn waiting_for(&self, wait: Wait) -> usize {
        self.waits.len(wait)
    }

    // ---- who makes room

    /// Returns the number of half-open connections that have claimed nothing.
    pub(crate) fn newcomers(&self) -> usize {
        self.strangers.len(STRANGERS) + self.joins.len()
    }

    /// Returns the newcomer that has not said what it wants for longest: one that is silent on purpose becomes the oldest.
    pub(crate) fn oldest_stranger(&self) -> Option<u32> {
        self.strangers.first(STRANGERS)
    }

    /// Returns the half-open connections that have claimed a session, or were accepted for a Claim alone.
    pub(crate) fn claimants(&self) -> &Claimants {
        &self.claimants
    }

    /// Returns the newcomers that wait for their turn.
    pub(crate) fn joins(&self) -> &Waiting {
        &self.joins
    }

    /// Makes the newcomer at `index` of `source` wait for its turn to begin a session, with this key if its opening does not keep
    /// what it joins with. Returns its state.
    pub(crate) fn joining(&mut self, index: u32, source: u32, key: Option<PublicKey>) -> State {
        let by = Joining::by(key.as_ref());
        let turn = self.joins.enter(by, source, index);
        State::Handshake(Phase::Join(Box::new(Joining { key, source, turn })))
    }

    /// Ends the wait of the newcomer whose turn it is, one with a Hello only if `hellos`, and returns its index and key. It must leave
    /// [`Phase::Join`] at once.
    pub(crate) fn next_join(&mut self, hellos: bool) -> Option<(u32, Option<PublicKey>)> {
        let index = self.joins.first(hellos)?;
        let State::Handshake(Phase::Join(joining)) = self.slab.at(index).expect(LIVE).state()
        else {
            unreachable!("only who is in JOIN has a turn")
        };
        let (key, source, turn) = (joining.key, joining.source, joining.turn);
        let by = Joining::by(key.as_ref());
        self.joins.leave(by, source, turn, true);
        Some((index, key))
    }

    /// Counts the connection at `index` as a claimant of `source`, or of none if the limits on sources do not apply to it. `genuine` tells
    /// whether the session can be resumed now. It must enter a phase of claimants at once.
    pub(crate) fn claiming(
        &mut self,
        index: u32,
        id: ClientId,
        source: Option<IpAddr>,
        genuine: bool,
    ) {
        let ticket = self.claimants.join(index, source);
        *self.live_mut(index).claim_mut() = Some(Claim {
            id,
            ticket,
            genuine,
        });
    }

    /// Keeps the connection at `index`, of which nothing was read, for a Claim alone: its source is beyond this limit.
    pub(crate) fn restrict(&mut self, index: u32, source: IpAddr, beyond: Rejected) {
        self.leave_crowd(index, Crowd::Strangers);
        let ticket = self.claimants.join_unopened(index, source);
        *self.live_mut(index).only_claim_mut() = Some(OnlyClaim { ticket, beyond });
    }

    /// Adds the connection at `index` to the counts of its state.
    fn join_crowd(&mut self, index: u32) {
        // A newcomer that waits for its turn and a claimant were counted with their state.
        if self.live(index).crowd() == Crowd::Strangers {
            self.strangers.push_back(&mut self.slab, index, STRANGERS);
        }
    }

    /// Removes the connection at `index` from the counts of a state that it was in.
    fn leave_crowd(&mut self, index: u32, crowd: Crowd) {
        match crowd {
            Crowd::Strangers => {
                self.strangers.remove(&mut self.slab, index);
            }
            Crowd::Unopened => {
                let only_claim = self.live_mut(index).only_claim_mut().take();
                self.claimants
                    .leave_unopened(only_claim.expect(CLAIM).ticket);
            }
            Crowd::Claimants => {
                let claim = self.live_mut(index).claim_mut().take();
                self.claimants.leave(claim.expect(CLAIM).ticket);
            }
            Crowd::Joining(by, source, turn) => self.joins.leave(by, source, turn, false),
            Crowd::Nobody => {}
        }
    }

    /// Records whether the claimant at `index` waits for its takeover, or has sent its first early record.
    fn set_waits(&mut self, index: u32, waits: bool) {
        let ticket = self.live(index).claim().ticket;
        self.claimants.set_waits(ticket, waits);
    }

    // ---- what they hold

    /// Updates the account after a change of what the connection at `index` holds.
    #[inline(always)]
    pub(crate) fn recount(&mut self, index: u32, account: &mut Account) {
        let conn = self.live_mut(index);
        let after = conn.held_bytes();
        let before = conn.holding().replace(after);
        if before != after {
            self.resized(index, Resized { before, after }, account);
        }
    }

    /// A separate function, as few reads end within a frame.
    #[inline(never)]
    fn resized(&mut self, index: u32, resized: Resized, account: &mut Account) {
        account.replace(resized.before, resized.after);
        self.by_size.update(&mut self.slab, index, resized);
    }

    /// Returns the class and the index of a connection that holds most, within a factor of two.
    pub(crate) fn largest(&self) -> Option<(u8, u32)> {
        self.by_size.largest()
    }

    // ---- who has something for the adapter

    /// Lists the client at `index` for writing. If `timed`, it must take something before its write deadline.
    #[inline(always)]
    pub(crate) fn offer(&mut self, index: u32, timed: bool, now: Time) {
        let conn = self.live(index);
        if conn.is_established() && !conn.is_offered(timed) {
            self.offer_first(index, timed, now);
        }
    }

    /// A separate function, as few packets are the first that their client must take.
    #[inline(never)]
    fn offer_first(&mut self, index: u32, timed: bool, now: Time) {
        self.mark_ready(index);
        if timed && !self.live(index).waits_for(Wait::Write) {
            self.waits.start_write(&mut self.slab, index, now);
        }
    }

    /// Returns whether anything changed that the adapter was not told.
    #[inline]
    pub(crate) fn is_any_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Marks the connection at `index` as changed.
    #[inline]
    #[track_caller]
    pub(crate) fn mark_ready(&mut self, index: u32) {
        let (key, conn) = self.slab.entry_mut(index).expect(LIVE);
        if !conn.ready {
            conn.ready = true;
            self.ready.push_back(ConnKey(key));
        }
    }

    /// Returns the next connection that has changed.
    #[inline]
    pub(crate) fn pop_ready(&mut self) -> Option<ConnKey> {
        while let Some(key) = self.ready.pop_front() {
            if let Some(conn) = self.slab.find_mut(key.0) {
                conn.ready = false;
                return Some(key);
            }
        }
        if let Some(keep) = room_to_keep(0, self.ready.capacity()) {
            self.ready.shrink_to(keep);
        }
        None
    }

    // ---- for checks

    /// Panics if its lists and counts are inconsistent.
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn audit(&self) {
        let those = |is: &dyn Fn(&Conn) -> bool| self.iter().filter(|(_, conn)| is(conn)).count();
        let in_crowd = |crowd| those(&|conn| conn.crowd() == crowd);
        assert_eq!(self.half_open, those(&Conn::is_half_open), "half open");
        assert_eq!(self.asked, those(&|conn| conn.state().is_asked()), "asked");
        let strangers = self.strangers.len(STRANGERS);
        assert_eq!(strangers, in_crowd(Crowd::Strangers), "strangers");
        assert_eq!(
            self.claimants.len(),
            in_crowd(Crowd::Claimants) + in_crowd(Crowd::Unopened),
            "claimants"
        );
        let joining = those(&|conn| conn.state().stage() == Stage::Join);
        assert_eq!(self.joins.len(), joining, "newcomers that wait");
        for wait in Wait::ALL {
            let waiting = those(&|conn| conn.waits_for(wait));
            assert_eq!(
                self.waits.len(wait),
                waiting,
                "those that wait for {wait:?}"
            );
        }
        for (index, conn) in self.iter() {
            if let Some(wait) = conn.state().stage().wait() {
                assert!(
                    conn.waits_for(wait),
                    "connection {index} waits for {wait:?}"
                );
            }
            assert_eq!(
                conn.counted_bytes(),
                conn.held_bytes(),
                "bytes of connection {index}"
            );
        }
        let listed = self.ready.iter().filter_map(|&key| self.find(key));
        let listed =
            listed.inspect(|conn| assert!(conn.ready, "what is listed as ready is marked so"));
        assert_eq!(
            listed.count(),
            those(&|conn| conn.ready),
            "ready connections"
        );
    }

    /// Returns the connections with their indexes.
    #[cfg(any(test, feature = "testkit", feature = "upgrade"))]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Conn)> {
        self.slab.iter()
    }

    /// Returns the number of places for which there is memory.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.slab.capacity()
    }

    /// Returns the number of places of the ready list for which there is memory.
    #[cfg(test)]
    pub(crate) fn ready_capacity(&self) -> usize {
        self.ready.capacity()
    }
}
