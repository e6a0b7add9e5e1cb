//! The table of connections: what each waits for, who is to make room, and who has something for the adapter.

use core::net::IpAddr;
use std::collections::VecDeque;

use super::table::list::{Linked, Links, Lists};
use super::table::slab::{Slab, room_to_keep};
use crate::time::Time;

use super::account::Account;
use super::by_size::{BySize, Holds};
use super::claimants::Claimants;
use super::conn::{Conn, ConnKey, State};
use super::wait::{Slot, Wait, Waits};

/// What the adapter names by a key may be gone; an index that the edge keeps is not.
const LIVE: &str = "an index that the edge keeps means a connection that is in the table";

/// All connections.
#[derive(Clone, Debug)]
pub(super) struct Conns {
    slab: Slab<Conn>,
    waits: Waits,
    by_size: BySize<Conn>,
    /// Those about which something changed. At most one entry for each.
    ready: VecDeque<ConnKey>,
    /// Those that have not said what they want, as they came.
    strangers: Lists<Conn, Arrival, 1>,
    /// Half-open connections that say whose they are.
    claimants: Claimants,
    /// How many are in [`State::Handshake`].
    half_open: usize,
}

/// The links of [`Conns::strangers`].
#[derive(Clone, Debug)]
struct Arrival;

impl Linked<Conn> for Arrival {
    fn links(conn: &mut Conn) -> &mut Links {
        conn.arrival()
    }
}

/// The one list of [`Conns::strangers`].
const STRANGERS: u8 = 0;

impl Conns {
    pub(super) fn new() -> Self {
        Conns {
            slab: Slab::default(),
            waits: Waits::new(),
            by_size: BySize::new(),
            ready: VecDeque::new(),
            strangers: Lists::new(),
            claimants: Claimants::default(),
            half_open: 0,
        }
    }

    // ---- the table

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// How many are not established.
    pub(super) fn half_open(&self) -> usize {
        self.half_open
    }

    /// The connection that the adapter means, unless it is gone.
    #[inline]
    pub(super) fn find(&self, key: ConnKey) -> Option<&Conn> {
        self.slab.find(key.0)
    }

    /// The connection at an index that the edge keeps.
    ///
    /// # Panics
    /// When there is none: whoever kept the index was not told that its connection is gone.
    #[inline]
    #[track_caller]
    pub(super) fn live(&self, index: u32) -> &Conn {
        self.slab.at(index).expect(LIVE)
    }

    /// Like [`live`](Self::live).
    #[inline]
    #[track_caller]
    pub(super) fn live_mut(&mut self, index: u32) -> &mut Conn {
        self.slab.at_mut(index).expect(LIVE)
    }

    /// The key of the connection at an index that the edge keeps.
    #[track_caller]
    pub(super) fn key(&self, index: u32) -> ConnKey {
        ConnKey(self.slab.key_at(index).expect(LIVE))
    }

    /// The first index in use from `index` on: a step of a walk during which connections may change.
    pub(super) fn next_from(&self, index: u32) -> Option<u32> {
        self.slab.next_from(index)
    }

    /// A connection that is half open. `None` when there is no index left.
    pub(super) fn insert(&mut self, conn: Conn) -> Option<ConnKey> {
        let key = self.slab.insert(conn)?;
        self.half_open += 1;
        Some(ConnKey(key))
    }

    /// Takes the connection out of the table: its key is dead, and no index may mean it any more.
    pub(super) fn remove(&mut self, index: u32, account: &mut Account) -> Conn {
        self.leave_crowds(index);
        self.disarm_all(index);
        self.by_size.remove(&mut self.slab, index);
        let mut conn = self.slab.remove(index).expect(LIVE);
        account.subtract(conn.holding().replace(0));
        if matches!(conn.state, State::Handshake(_)) {
            self.half_open -= 1;
        }
        conn
    }

    /// The connection at `index` is not half open any more.
    pub(super) fn leave_half_open(&mut self, index: u32) {
        self.leave_crowds(index);
        self.half_open -= 1;
    }

    fn leave_crowds(&mut self, index: u32) {
        self.leave_strangers(index);
        self.leave_claimants(index);
    }

    // ---- what they wait for

    /// The connection at `index` waits for this from `now` on, whatever it waited for with the same timer.
    #[inline]
    pub(super) fn arm(&mut self, wait: Wait, index: u32, now: Time) {
        self.waits.arm(&mut self.slab, wait, index, now);
    }

    /// The connection at `index` waits for nothing of this kind any more.
    #[inline]
    pub(super) fn disarm(&mut self, slot: Slot, index: u32) {
        self.waits.disarm(&mut self.slab, slot, index);
    }

    /// The connection at `index` waits for nothing any more.
    pub(super) fn disarm_all(&mut self, index: u32) {
        for slot in [Slot::Step, Slot::Read, Slot::Write] {
            self.disarm(slot, index);
        }
    }

    /// The connection that has waited for this for longest, and since when.
    #[inline]
    pub(super) fn first(&self, wait: Wait) -> Option<(u32, Time)> {
        self.waits.first(wait)
    }

    /// How many wait for this.
    pub(super) fn waiting_for(&self, wait: Wait) -> usize {
        self.waits.len(wait)
    }

    // ---- who makes room

    /// Half-open connections that have claimed nothing.
    pub(super) fn newcomers(&self) -> usize {
        self.strangers.len(STRANGERS) + self.waits.len(Wait::Join)
    }

    /// The newcomer that has not said what it wants for longest: who is silent on purpose is the oldest.
    pub(super) fn oldest_stranger(&self) -> Option<u32> {
        self.strangers.first(STRANGERS)
    }

    /// Half-open connections that say whose they are.
    pub(super) fn claimants(&self) -> &Claimants {
        &self.claimants
    }

    /// The connection at `index` is the last of those that have not said what they want.
    pub(super) fn join_strangers(&mut self, index: u32) {
        self.strangers.push_back(&mut self.slab, index, STRANGERS);
    }

    /// The connection at `index` has said what it wants, or is not half open any more.
    pub(super) fn leave_strangers(&mut self, index: u32) {
        if self.live(index).is_half_open() {
            self.strangers.remove(&mut self.slab, index);
        }
    }

    /// The connection at `index` is a claimant from now on, of `source` if that is limited.
    pub(super) fn join_claimants(&mut self, index: u32, source: Option<IpAddr>) {
        if let Some(ticket) = self.slab.at_mut(index).and_then(Conn::ticket) {
            *ticket = Some(self.claimants.join(index, source));
        }
    }

    /// Whether the claimant at `index` waits for its takeover.
    pub(super) fn set_waits(&mut self, index: u32, waits: bool) {
        if let Some(ticket) = self.slab.at_mut(index).and_then(Conn::ticket) {
            *ticket = ticket.map(|ticket| self.claimants.set_waits(index, ticket, waits));
        }
    }

    /// The connection at `index` is no claimant any more, if it was one.
    fn leave_claimants(&mut self, index: u32) {
        let ticket = self.slab.at_mut(index).and_then(Conn::ticket);
        if let Some(ticket) = ticket.and_then(Option::take) {
            self.claimants.leave(ticket);
        }
    }

    // ---- what they hold

    /// What the connection at `index` holds may have changed.
    #[inline]
    pub(super) fn recount(&mut self, index: u32, account: &mut Account) {
        let conn = self.live_mut(index);
        let after = conn.held_bytes();
        let before = conn.holding().replace(after);
        if before != after {
            self.resized(index, before, after, account);
        }
    }

    /// Apart from the rest: few reads end within a frame.
    #[inline(never)]
    fn resized(&mut self, index: u32, before: usize, after: usize, account: &mut Account) {
        account.replace(before, after);
        self.by_size.update(&mut self.slab, index, before, after);
    }

    /// The class and the index of one that holds most, within a factor of two.
    pub(super) fn largest(&self) -> Option<(u8, u32)> {
        self.by_size.largest()
    }

    // ---- who has something for the adapter

    /// Whether anything changed that the adapter was not told.
    #[inline]
    pub(super) fn is_any_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Something about the connection at `index` changed.
    #[inline]
    #[track_caller]
    pub(super) fn mark_ready(&mut self, index: u32) {
        let (key, conn) = self.slab.entry_mut(index).expect(LIVE);
        if !conn.ready {
            conn.ready = true;
            self.ready.push_back(ConnKey(key));
        }
    }

    /// The next one about which something changed.
    #[inline]
    pub(super) fn pop_ready(&mut self) -> Option<ConnKey> {
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

    /// The connections by their indexes.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Conn)> {
        self.slab.iter()
    }

    /// Places for which there is memory.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.slab.capacity()
    }

    /// Places of the ready list for which there is memory.
    #[cfg(test)]
    pub(super) fn ready_capacity(&self) -> usize {
        self.ready.capacity()
    }
}
