//! Hands a claim of a session at another shard over with its connection (SPEC 9.9(c)), and a newcomer whose backend is that of another
//! shard (SPEC 45.3(d)).

use core::net::IpAddr;

use crate::id::{ClientId, ShardId};
use crate::link::v3::Carriage;
use crate::protocol::{self, OfferedVersions};
use crate::time::Time;
use crate::wire::frame::FrameReader;

use crate::edge::Edge;
#[cfg(feature = "backends")]
use crate::edge::backends::Standing;
use crate::edge::conns::conn::{Conn, ConnKey};
#[cfg(all(feature = "backends", feature = "cluster"))]
use crate::edge::conns::search::Search;
use crate::edge::conns::state::{Elsewhere, Phase, State};
#[cfg(feature = "backends")]
use crate::edge::contract::CloseKind;
use crate::edge::counters::Rejected;
use crate::edge::door::sources::Admission;
use crate::edge::lifecycle::admission::Arrival;
#[cfg(feature = "backends")]
use crate::edge::shares::Arriving;

/// A connection in transit from one shard to another: everything that the edge knows about it. Its stream travels with it.
///
/// An adapter that cannot bring it to its shard must return it to [`Edge::discard_handover`], or its source stays counted.
#[derive(Debug)]
#[must_use = "its source and listener stay counted until it is taken or discarded"]
pub struct Handover(Box<Transit>);

/// What is known of a connection in transit.
#[derive(Debug)]
struct Transit {
    to: Elsewhere,
    shard: ShardId,
    source: IpAddr,
    admission: Admission,
    /// What it is counted under, for the limits of its listener.
    account: u16,
    /// What the client sent behind its claim.
    reader: FrameReader,
    /// The opening of its version.
    opening: protocol::Opening,
    versions: OfferedVersions,
    carriage: Carriage,
    /// Handshake frames that its transport had not taken yet.
    control: Vec<u8>,
    taken_bytes: usize,
    /// What backends have said of what it claims.
    #[cfg(all(feature = "backends", feature = "cluster"))]
    search: Search,
    /// Counts it where it goes, if it joins.
    #[cfg(feature = "backends")]
    _arriving: Option<Arriving>,
}

impl Handover {
    /// Returns the shard that it is for.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.0.shard
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
        #[cfg(feature = "backends")]
        if let Some((shard, _)) = self.shares.pin_of(id) {
            return shard;
        }
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

    /// Returns the shard that a newcomer at this one goes to, if that is another one.
    #[cfg(feature = "backends")]
    pub(crate) fn shard_for_newcomer(&self) -> Option<ShardId> {
        let own = self.config.shard;
        let chosen = ShardId::new(self.shares.choose_backend(own.as_u8())?);
        (chosen != own).then_some(chosen)
    }

    /// Returns whether the backend of this shard gets no more sessions.
    #[cfg(feature = "backends")]
    pub(crate) fn is_backend_draining(&self) -> bool {
        let standing = self.shares.backends().standing(self.config.shard.as_u8());
        standing.is_some_and(Standing::is_draining)
    }

    /// Returns the shard that a connection is to be handed over to.
    pub(crate) fn place_of(&self, to: &Elsewhere) -> ShardId {
        match to {
            Elsewhere::Claim(id) => self.home_of(*id),
            #[cfg(feature = "backends")]
            Elsewhere::Join(shard, _) => *shard,
            #[cfg(all(feature = "backends", feature = "cluster"))]
            Elsewhere::Ask(_, shard) => *shard,
        }
    }

    /// Asks the adapter to take the connection to another shard.
    pub(crate) fn offer_handover(&mut self, now: Time, index: u32, to: Elsewhere) {
        let elsewhere = State::Handshake(Phase::Elsewhere(to));
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
        let State::Handshake(Phase::Elsewhere(to)) = offered.state() else {
            return None;
        };
        let (to, source) = (to.clone(), offered.source()?);
        let (versions, carriage) = (offered.versions(), offered.carriage());
        let mut conn = self.conns.remove(index, &mut self.account);
        self.counters.handed_over += 1;
        let shard = self.place_of(&to);
        #[cfg(all(feature = "backends", feature = "cluster"))]
        let search = *conn.search();
        let (opening, control) = conn.take_opening();
        Some(Handover(Box::new(Transit {
            #[cfg(feature = "backends")]
            _arriving: match to {
                Elsewhere::Join(..) => Some(self.shares.sends_newcomer(shard)),
                Elsewhere::Claim(_) => None,
                #[cfg(feature = "cluster")]
                Elsewhere::Ask(..) => None,
            },
            #[cfg(all(feature = "backends", feature = "cluster"))]
            search,
            to,
            shard,
            source,
            admission: conn.admission,
            account: conn.account,
            taken_bytes: conn.taken_bytes(),
            opening,
            versions,
            carriage,
            control,
            reader: conn.reader,
        })))
    }

    /// Takes over a connection from another shard. On `Err` the adapter drops its stream.
    ///
    /// # Errors
    /// When this shard is shutting down or has no place for it.
    pub fn handle_handover(&mut self, now: Time, handover: Handover) -> Result<ConnKey, Rejected> {
        self.step(now, |edge, now| {
            let (admission, account) = (handover.0.admission, handover.0.account);
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
            edge.sources.lock().release(now, handover.0.admission);
            edge.shares.listeners().leave(handover.0.account);
        });
    }

    fn admit_handover(&mut self, now: Time, handover: Handover) -> Result<ConnKey, Rejected> {
        let handover = *handover.0;
        if self.shutdown_at.is_some() {
            return Err(Rejected::Shutdown);
        }
        if !self.has_place() {
            return Err(Rejected::TooManyConnections);
        }
        let arrival = match handover.to {
            Elsewhere::Claim(_) => Arrival::Handover(self.limited(handover.source)),
            #[cfg(all(feature = "backends", feature = "cluster"))]
            Elsewhere::Ask(..) => Arrival::Handover(self.limited(handover.source)),
            #[cfg(feature = "backends")]
            Elsewhere::Join(..) => Arrival::Accept,
        };
        self.make_room(now, arrival)?;
        let mut conn = Conn::new(
            Phase::KeyOrId,
            handover.source,
            handover.admission,
            handover.account,
        );
        conn.reader = handover.reader;
        conn.offer(handover.versions, handover.carriage);
        conn.resume_opening(handover.opening, handover.control, handover.taken_bytes);
        #[cfg(all(feature = "backends", feature = "cluster"))]
        {
            *conn.search() = handover.search;
        }
        let key = self
            .conns
            .insert(conn)
            .ok_or(Rejected::TooManyConnections)?;
        let index = key.0.index;
        self.watch_handshake(now, index);
        match handover.to {
            // Its session went on from here meanwhile.
            #[cfg(feature = "backends")]
            Elsewhere::Claim(id) if self.is_elsewhere(id) => {
                self.offer_handover(now, index, Elsewhere::Claim(id));
            }
            Elsewhere::Claim(id) if self.conns.live_mut(index).opening().0.has_opened_claim() => {
                self.handle_attempt(now, index, id);
                // Its first early record may be behind the Claim.
                self.resume_reading(now, index);
            }
            Elsewhere::Claim(id) => self.handle_claim(now, index, id),
            #[cfg(all(feature = "backends", feature = "cluster"))]
            Elsewhere::Ask(id, _) => self.ask_here(now, index, id),
            // It stays, whatever has become of the backends since.
            #[cfg(feature = "backends")]
            Elsewhere::Join(_, key) => match self.join(now, index, key.map(|key| *key)) {
                // What it sent behind may be here already.
                Ok(()) => self.resume_reading(now, index),
                Err(reason) => self.close_conn(now, index, CloseKind::Graceful, reason),
            },
        }
        self.conns.recount(index, &mut self.account);
        self.conns.mark_ready(index);
        Ok(key)
    }
}
