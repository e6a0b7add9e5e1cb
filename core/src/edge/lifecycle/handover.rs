//! Hands a claim of a session at another shard over with its connection (SPEC 9.9(c)).

use core::net::IpAddr;

use crate::id::{ClientId, ShardId};
use crate::protocol;
use crate::time::Time;
use crate::wire::frame::FrameReader;

use crate::edge::Edge;
use crate::edge::conns::conn::{Conn, ConnKey};
use crate::edge::conns::state::{Phase, State};
use crate::edge::counters::Rejected;
use crate::edge::door::sources::Admission;
use crate::edge::lifecycle::admission::Arrival;

/// A connection in transit from one shard to another: everything that the edge knows about it. Its stream travels with it.
///
/// An adapter that cannot bring it to its shard must return it to [`Edge::discard_handover`], or its source stays counted.
#[derive(Debug)]
#[must_use = "its source and listener stay counted until it is taken or discarded"]
pub struct Handover {
    id: ClientId,
    shard: ShardId,
    source: IpAddr,
    admission: Admission,
    /// What it is counted under, for the limits of its listener.
    account: u16,
    /// What the client sent behind its claim.
    reader: FrameReader,
    /// The opening of its version.
    opening: protocol::Opening,
    /// Handshake frames that its transport had not taken yet.
    control: Vec<u8>,
    taken_bytes: usize,
}

impl Handover {
    /// Returns the shard that it is for.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.shard
    }
}

impl Edge {
    /// Returns whether the id names another shard of this process.
    pub(crate) fn is_elsewhere(&self, id: ClientId) -> bool {
        let shard = self.home_of(id);
        shard != self.config.shard && shard.as_u8() < self.config.shards
    }

    /// Returns the shard that has the session of this id, if there is one. If an earlier process of this run had more shards than this one,
    /// the first shard has the sessions of those that are missing (SPEC 39.4(c)).
    pub(crate) fn home_of(&self, id: ClientId) -> ShardId {
        let shard = id.shard();
        let takes_strays = self.takes_strays;
        // Another edge may have more shards (SPEC 44.6(g)).
        #[cfg(feature = "cluster")]
        let takes_strays = takes_strays || self.config.home > 0;
        match takes_strays && shard.as_u8() >= self.config.shards.max(1) {
            true => ShardId::default(),
            false => shard,
        }
    }

    /// Asks the adapter to take the connection to the shard that `id` names.
    pub(crate) fn offer_handover(&mut self, now: Time, index: u32, id: ClientId) {
        let elsewhere = State::Handshake(Phase::Elsewhere(id));
        self.conns.enter(index, elsewhere, now);
        self.conns.mark_ready(index);
    }

    /// Takes the connection out of this shard, as [`Duty::HandOver`](crate::edge::Duty::HandOver) asks. `conn` is dead from now on. Returns
    /// `None` if it is not to be handed over.
    pub fn take_handover(&mut self, now: Time, conn: ConnKey) -> Option<Handover> {
        self.step(now, |edge, _| edge.take_out(conn))
    }

    fn take_out(&mut self, conn: ConnKey) -> Option<Handover> {
        let index = conn.0.index;
        let offered = self.conns.find(conn)?;
        let State::Handshake(Phase::Elsewhere(id)) = *offered.state() else {
            return None;
        };
        let source = offered.source()?;
        let mut conn = self.conns.remove(index, &mut self.account);
        self.counters.handed_over += 1;
        let shard = self.home_of(id);
        let (opening, control) = conn.take_opening();
        Some(Handover {
            id,
            shard,
            source,
            admission: conn.admission,
            account: conn.account,
            taken_bytes: conn.taken_bytes(),
            opening,
            control,
            reader: conn.reader,
        })
    }

    /// Takes over a connection from another shard. On `Err` the adapter drops its stream.
    ///
    /// # Errors
    /// When this shard is shutting down or has no place for it.
    pub fn handle_handover(&mut self, now: Time, handover: Handover) -> Result<ConnKey, Rejected> {
        self.step(now, |edge, now| {
            let (admission, account) = (handover.admission, handover.account);
            edge.admit_handover(now, handover).or_else(|rejected| {
                edge.sources.lock().release(now, admission);
                edge.shares.listeners().leave(account);
                edge.reject(rejected)
            })
        })
    }

    /// Releases a connection that could not be brought to its shard.
    pub fn discard_handover(&mut self, now: Time, handover: Handover) {
        self.step(now, |edge, now| {
            edge.sources.lock().release(now, handover.admission);
            edge.shares.listeners().leave(handover.account);
        });
    }

    fn admit_handover(&mut self, now: Time, handover: Handover) -> Result<ConnKey, Rejected> {
        if self.shutdown_at.is_some() {
            return Err(Rejected::Shutdown);
        }
        if !self.has_place() {
            return Err(Rejected::TooManyConnections);
        }
        let source = self.limited(handover.source);
        self.make_room(now, Arrival::Handover(source))?;
        let mut conn = Conn::new(
            Phase::KeyOrId,
            handover.source,
            handover.admission,
            handover.account,
        );
        conn.reader = handover.reader;
        conn.resume_opening(handover.opening, handover.control, handover.taken_bytes);
        let key = self
            .conns
            .insert(conn)
            .ok_or(Rejected::TooManyConnections)?;
        let index = key.0.index;
        self.watch_handshake(now, index);
        if self.conns.live_mut(index).opening().0.has_opened_claim() {
            self.handle_attempt(now, index, handover.id);
            // Its first early record may be behind the Claim.
            self.resume_reading(now, index);
        } else {
            self.handle_claim(now, index, handover.id);
        }
        self.conns.recount(index, &mut self.account);
        self.conns.mark_ready(index);
        Ok(key)
    }
}
