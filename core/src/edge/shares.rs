//! Bounds that hold for all shards of a process together (SPEC 9.9(g)).
//!
//! A client can choose its shard. If each bound were divided, filling one shard would take only a part of what filling the edge takes. If
//! it were shared as a whole, one shard's strangers would shut out all others. So half of each bound is divided, and each shard can always
//! use its part. The other half is lent to whichever shard needs it.

#[cfg(feature = "backends")]
pub(in crate::edge) mod lent;

use core::net::IpAddr;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[cfg(feature = "backends")]
use crate::id::ClientId;
use crate::id::ShardId;
use crate::time::Time;

#[cfg(feature = "backends")]
use crate::edge::backends::{Backends, Standing};
use crate::edge::config::{EdgeConfig, LimitsConfig};
use crate::edge::door::bans::Bans;
use crate::edge::door::limits::Bucket;
use crate::edge::door::listeners::Listeners;
#[cfg(feature = "backends")]
use crate::edge::pins::Pins;

/// A resource with a bound for all shards together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// Connections, in any state.
    Connections,
    /// Half-open connections.
    HalfOpen,
    /// Sessions.
    Sessions,
    /// Sessions that are away.
    Away,
    /// Bytes that wait.
    Memory,
}

const BOUNDS: usize = 5;

impl Bound {
    const ALL: [Bound; BOUNDS] = [
        Bound::Connections,
        Bound::HalfOpen,
        Bound::Sessions,
        Bound::Away,
        Bound::Memory,
    ];

    /// Returns the bound of the whole process.
    fn of(self, config: &EdgeConfig) -> usize {
        let limits = &config.limits;
        match self {
            Bound::Connections => limits.max_connections,
            Bound::HalfOpen => limits.max_half_open,
            Bound::Sessions => limits.max_sessions,
            Bound::Away => config.clients.max_stale_clients,
            Bound::Memory => limits.max_memory_bytes,
        }
    }
}

/// The state that all shards share.
#[derive(Debug)]
struct Common {
    /// How much of the second half of each bound is lent.
    lent: [AtomicUsize; BOUNDS],
    /// The pace of accepts.
    accepts: Mutex<Bucket>,
    /// The pace of costly handshakes of transports.
    handshakes: Mutex<Bucket>,
    /// What is counted for each listener.
    listeners: Mutex<Listeners>,
    /// The networks that an operator has banned.
    bans: Mutex<Bans>,
    /// Their number, which is read for each connection.
    banned: AtomicUsize,
    /// The number of sessions in line for room on the link, by shard.
    waiting: Box<[AtomicUsize]>,
    /// The backends, if there are several. A recording does not have them: it is of an edge without shards.
    #[cfg(feature = "backends")]
    backends: Backends,
    /// Sessions that went to another backend.
    #[cfg(feature = "backends")]
    pins: Mutex<Pins>,
    /// Their number, which is read for each claim.
    #[cfg(feature = "backends")]
    pinned: AtomicUsize,
}

impl Common {
    fn new(shards: u8, accepts: Bucket, handshakes: Bucket, listeners: Listeners) -> Common {
        Common {
            listeners: Mutex::new(listeners),
            bans: Mutex::default(),
            banned: AtomicUsize::new(0),
            lent: Default::default(),
            accepts: Mutex::new(accepts),
            handshakes: Mutex::new(handshakes),
            waiting: (0..shards).map(|_| AtomicUsize::default()).collect(),
            #[cfg(feature = "backends")]
            backends: Backends::default(),
            #[cfg(feature = "backends")]
            pins: Mutex::default(),
            #[cfg(feature = "backends")]
            pinned: AtomicUsize::new(0),
        }
    }
}

#[cfg(feature = "backends")]
impl Common {
    fn change_pins<T>(&self, change: impl FnOnce(&mut Pins) -> T) -> T {
        // A change leaves the table consistent even if another thread panics.
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = change(&mut pins);
        self.pinned.store(pins.len(), Relaxed);
        outcome
    }

    fn pin_of(&self, id: ClientId) -> Option<(ShardId, bool)> {
        if self.pinned.load(Relaxed) == 0 {
            return None;
        }
        self.change_pins(|pins| pins.find(id))
    }
}

/// One shard's share of a bound.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    /// The amount that this shard can always use.
    own: usize,
    /// The total amount that is lent to shards that need more.
    pool: usize,
    /// The amount of it that this shard has borrowed.
    borrowed: usize,
}

image!(Share {
    own,
    pool,
    borrowed
});

/// How the places of connections are reserved, for one shard (SPEC 10.6(j)).
#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    /// The part of this shard's own places that is for half-open connections alone.
    own: usize,
    /// The part of the lent places that newcomers do not get.
    from_newcomers: usize,
    /// The part of these that no session gets.
    from_all: usize,
}

image!(Kept {
    own,
    from_newcomers,
    from_all
});

/// One shard's view of the bounds. Two shards that borrow at the same instant may both get the last place, so a bound can be exceeded by
/// one for each other shard.
#[derive(Debug)]
pub(crate) struct Shares {
    common: Arc<Common>,
    shares: [Share; BOUNDS],
    kept: Kept,
    /// The number of this shard, if there are several.
    shard: Option<u8>,
}

#[cfg(feature = "record")]
impl crate::image::Image for Shares {
    fn put(&self, out: &mut crate::image::Out) {
        self.shares.put(out);
        self.kept.put(out);
        self.shard.put(out);
        self.accepts().put(out);
        self.handshakes().put(out);
        self.listeners().put(out);
        self.change_bans(|bans| bans.put(out));
        let common = &self.common;
        common.waiting.len().put(out);
        for each in common.lent.iter().chain(&common.waiting) {
            each.load(Relaxed).put(out);
        }
    }

    fn take(from: &mut crate::image::Taken<'_>) -> Option<Self> {
        use crate::image::Image;
        let (shares, kept, shard) = (Image::take(from)?, Image::take(from)?, Image::take(from)?);
        let (accepts, handshakes) = (Image::take(from)?, Image::take(from)?);
        let listeners = Image::take(from)?;
        let bans = Image::take(from)?;
        let waiting = u8::try_from(usize::take(from)?).ok()?;
        let common = Common::new(waiting, accepts, handshakes, listeners);
        for each in common.lent.iter().chain(&common.waiting) {
            each.store(usize::take(from)?, Relaxed);
        }
        let shares = Shares {
            common: Arc::new(common),
            shares,
            kept,
            shard,
        };
        shares.change_bans(|own| *own = bans);
        Some(shares)
    }
}

impl Clone for Shares {
    /// Creates shares for a clone of the machine, which shares nothing with it.
    fn clone(&self) -> Self {
        let shards = u8::try_from(self.common.waiting.len()).unwrap_or(u8::MAX);
        let shares = Shares {
            common: Arc::new(Common::new(
                shards,
                *self.accepts(),
                *self.handshakes(),
                self.listeners().clone(),
            )),
            ..*self
        };
        let bans = self.change_bans(|bans| bans.clone());
        shares.change_bans(|own| *own = bans);
        shares
    }
}

impl Shares {
    /// Creates the shares of the first shard, or of an edge without shards.
    pub(super) fn new(config: &EdgeConfig) -> Shares {
        let common = Common::new(
            config.shards,
            Bucket::full(Time::ZERO),
            Bucket::full(Time::ZERO),
            Listeners::default(),
        );
        #[cfg(feature = "backends")]
        let common = Common {
            backends: Backends::new(config.backends(), config.shards),
            ..common
        };
        Shares::of(Arc::new(common), config)
    }

    /// Creates the shares of another shard.
    pub(super) fn sibling(&self, config: &EdgeConfig) -> Shares {
        Shares::of(Arc::clone(&self.common), config)
    }

    fn of(common: Arc<Common>, config: &EdgeConfig) -> Shares {
        let mut shares = Shares {
            common,
            shares: Default::default(),
            kept: Kept::default(),
            shard: (config.shards > 1).then_some(config.shard.as_u8()),
        };
        shares.set_bounds(config);
        shares
    }

    /// Changes the bounds. Amounts borrowed beyond them are returned as they become free.
    pub(super) fn set_bounds(&mut self, config: &EdgeConfig) {
        let shards = usize::from(config.shards.max(1));
        for (share, bound) in self.shares.iter_mut().zip(Bound::ALL) {
            let whole = bound.of(config);
            share.own = match shards {
                1 => whole,
                shards => whole.div_ceil(2 * shards),
            };
            share.pool = whole.saturating_sub(share.own.saturating_mul(shards));
        }
        self.keep_places(shards, &config.limits);
    }

    fn keep_places(&mut self, shards: usize, limits: &LimitsConfig) {
        let (reserve, rest) = (limits.reserve(), limits.reserve() / 2);
        let [connections, ..] = &mut self.shares;
        self.kept.own = match shards {
            1 => rest,
            shards => rest.div_ceil(2 * shards).min(connections.own),
        };
        if shards == 1 {
            // Half-open and established connections lend each other the rest.
            connections.pool = connections.own.saturating_sub(rest);
            connections.own = rest;
        }
        let own = self.kept.own.saturating_mul(shards);
        self.kept.from_newcomers = reserve.saturating_sub(own);
        self.kept.from_all = rest.saturating_sub(own);
    }

    fn share(&self, bound: Bound) -> (&Share, &AtomicUsize) {
        let [connections, half_open, sessions, away, memory] = &self.shares;
        let [
            of_connections,
            of_half_open,
            of_sessions,
            of_away,
            of_memory,
        ] = &self.common.lent;
        match bound {
            Bound::Connections => (connections, of_connections),
            Bound::HalfOpen => (half_open, of_half_open),
            Bound::Sessions => (sessions, of_sessions),
            Bound::Away => (away, of_away),
            Bound::Memory => (memory, of_memory),
        }
    }

    /// Returns how much this shard may have now.
    #[inline]
    pub(super) fn most(&self, bound: Bound) -> usize {
        self.share(bound).0.own + self.unlent(bound)
    }

    /// Returns the part of the lent amount that the other shards have left.
    #[inline]
    fn unlent(&self, bound: Bound) -> usize {
        let (share, lent) = self.share(bound);
        if share.pool == 0 {
            return 0;
        }
        let of_others = lent.load(Relaxed).saturating_sub(share.borrowed);
        share.pool.saturating_sub(of_others)
    }

    /// Returns how many half-open connections this shard may have with this many established ones.
    pub(super) fn half_open_places(&self, established: usize) -> usize {
        (self.kept.own + self.most_established(0)).saturating_sub(established)
    }

    /// Returns the number of attached sessions at which newcomers may not begin another one here.
    pub(super) fn most_joined(&self) -> usize {
        self.most_established(self.kept.from_newcomers)
    }

    /// Returns the number of attached sessions at which no other session may be resumed here.
    pub(super) fn most_attached(&self) -> usize {
        self.most_established(self.kept.from_all)
    }

    fn most_established(&self, kept: usize) -> usize {
        self.own_established() + self.unlent(Bound::Connections).saturating_sub(kept)
    }

    /// Returns this shard's own places for established connections.
    fn own_established(&self) -> usize {
        self.own(Bound::Connections) - self.kept.own
    }

    /// Returns how much this shard can always have.
    #[inline]
    pub(super) fn own(&self, bound: Bound) -> usize {
        self.share(bound).0.own
    }

    /// Returns whether there are no other shards.
    #[inline]
    pub(super) fn is_alone(&self) -> bool {
        self.shard.is_none()
    }

    /// Reports how much of each resource this shard has, in the order of [`Bound`], and how many sessions are in line. Of the connections,
    /// only the ones that are not half-open are counted at first.
    pub(super) fn settle(&mut self, held: [usize; BOUNDS], waiting: usize) {
        let [established, half_open, ..] = held;
        let mut borrows = [0; BOUNDS];
        for ((borrowed, share), held) in borrows.iter_mut().zip(&self.shares).zip(held) {
            *borrowed = held.saturating_sub(share.own);
        }
        let [connections, ..] = &mut borrows;
        // Places for half-open connections alone are not available to others.
        *connections = (established + half_open.saturating_sub(self.kept.own))
            .saturating_sub(self.own_established());
        for ((share, lent), borrowed) in self.shares.iter_mut().zip(&self.common.lent).zip(borrows)
        {
            if borrowed > share.borrowed {
                lent.fetch_add(borrowed - share.borrowed, Relaxed);
            } else if borrowed < share.borrowed {
                lent.fetch_sub(share.borrowed - borrowed, Relaxed);
            }
            share.borrowed = borrowed;
        }
        let slot = self
            .shard
            .and_then(|shard| self.common.waiting.get(usize::from(shard)));
        if let Some(slot) = slot
            && slot.load(Relaxed) != waiting
        {
            slot.store(waiting, Relaxed);
        }
        #[cfg(feature = "backends")]
        if let Some(shard) = self.shard {
            let [_, half_open, sessions, ..] = held;
            self.common
                .backends
                .tell_clients(shard, sessions + half_open);
        }
    }

    /// Returns what is known of the backends.
    #[cfg(feature = "backends")]
    pub(super) fn backends(&self) -> &Backends {
        &self.common.backends
    }

    /// Returns the shard for a newcomer at the shard `own`, if there are several backends and not all drain.
    #[cfg(feature = "backends")]
    pub(super) fn choose_backend(&self, own: u8) -> Option<u8> {
        self.common.backends.choose(own, &self.common.waiting)
    }

    /// Returns the shard of another backend for a session that leaves that of the shard `own`.
    #[cfg(feature = "backends")]
    pub(super) fn choose_for_move(&self, own: Option<u8>, id: ClientId) -> Option<u8> {
        let common = &self.common;
        common.backends.choose_for_move(own, id, &common.waiting)
    }

    /// Returns whether a session went to another backend.
    #[cfg(feature = "backends")]
    #[inline]
    pub(super) fn has_pins(&self) -> bool {
        self.common.pinned.load(Relaxed) > 0
    }

    /// Returns the shard of a session that went to another backend, and whether it is on its way there.
    #[cfg(feature = "backends")]
    pub(super) fn pin_of(&self, id: ClientId) -> Option<(ShardId, bool)> {
        self.common.pin_of(id)
    }

    /// Looks at the sessions that went to another backend, or changes them.
    #[cfg(feature = "backends")]
    pub(super) fn change_pins<T>(&self, change: impl FnOnce(&mut Pins) -> T) -> T {
        self.common.change_pins(change)
    }

    /// Returns what steers the backends.
    #[cfg(feature = "backends")]
    pub(super) fn control(&self) -> BackendControl {
        BackendControl(Arc::clone(&self.common))
    }

    /// Counts a newcomer that is on its way to another shard.
    #[cfg(feature = "backends")]
    pub(super) fn sends_newcomer(&self, to: ShardId) -> Arriving {
        if let Some(arriving) = self.common.backends.arriving(to.as_u8()) {
            arriving.fetch_add(1, Relaxed);
        }
        Arriving {
            common: Arc::clone(&self.common),
            to,
        }
    }

    /// Returns the pace of accepts of all shards.
    pub(super) fn accepts(&self) -> MutexGuard<'_, Bucket> {
        // A bucket is consistent even if another thread panics.
        self.common
            .accepts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the pace of costly handshakes of all shards.
    pub(super) fn handshakes(&self) -> MutexGuard<'_, Bucket> {
        self.common
            .handshakes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what is counted for each listener, by all shards.
    ///
    /// It is locked three times for a connection. That takes 130 ns each by itself, and 200 ns if two threads do nothing else, on a machine
    /// that does other work as well: less than 1 % of what accepting and closing a connection costs.
    pub(super) fn listeners(&self) -> MutexGuard<'_, Listeners> {
        // Counts are consistent even if another thread panics.
        self.common
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether a network is banned.
    #[inline]
    pub(super) fn has_bans(&self) -> bool {
        self.bans() > 0
    }

    /// Returns the number of banned networks.
    pub(super) fn bans(&self) -> usize {
        self.common.banned.load(Relaxed)
    }

    /// Returns whether a network around `source` is banned.
    pub(super) fn is_banned(&self, now: Time, source: IpAddr) -> bool {
        self.change_bans(|bans| bans.find(now, source).is_some())
    }

    /// Looks at the banned networks, or changes them.
    pub(super) fn change_bans<T>(&self, change: impl FnOnce(&mut Bans) -> T) -> T {
        // The table is consistent even if another thread panics.
        let mut bans = self
            .common
            .bans
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let outcome = change(&mut bans);
        self.common.banned.store(bans.len(), Relaxed);
        outcome
    }

    /// Returns the part of the trunk whose first shard this is.
    pub(crate) fn of_trunk(&self, first: ShardId) -> TrunkShare {
        TrunkShare {
            common: Arc::clone(&self.common),
            first,
            held_bytes: 0,
        }
    }
}

/// What steers the backends of an edge that has several (SPEC 45.5). Its clones steer the same ones.
#[cfg(feature = "backends")]
#[derive(Clone, Debug)]
pub struct BackendControl(Arc<Common>);

#[cfg(feature = "backends")]
impl BackendControl {
    /// Sets whether the backend of this number gets no more sessions. Those that it has go on. Returns false if there are not so many.
    pub fn drain(&self, backend: u8, is_draining: bool) -> bool {
        let standing = self.0.backends.of_number(backend);
        standing
            .inspect(|one| one.set_draining(is_draining))
            .is_some()
    }

    /// Returns whether the backend of this number gets no more sessions.
    #[must_use]
    pub fn is_draining(&self, backend: u8) -> bool {
        let standing = self.0.backends.of_number(backend);
        standing.is_some_and(Standing::is_draining)
    }

    /// Returns whether there is a backend of this number, and it is up.
    #[must_use]
    pub fn is_up(&self, backend: u8) -> bool {
        let standing = self.0.backends.of_number(backend);
        standing.is_some_and(Standing::is_up)
    }
}

/// A newcomer on its way to a shard, which counts it from now on.
#[cfg(feature = "backends")]
#[derive(Debug)]
pub(crate) struct Arriving {
    common: Arc<Common>,
    to: ShardId,
}

#[cfg(feature = "backends")]
impl Drop for Arriving {
    fn drop(&mut self) {
        if let Some(arriving) = self.common.backends.arriving(self.to.as_u8()) {
            arriving.fetch_sub(1, Relaxed);
        }
    }
}

/// The trunk's part. It has no share of its own, and borrows everything that it holds.
#[derive(Debug)]
pub(crate) struct TrunkShare {
    common: Arc<Common>,
    /// Its first shard.
    first: ShardId,
    held_bytes: usize,
}

impl TrunkShare {
    /// Reports how many bytes wait in the trunk.
    pub(crate) fn settle(&mut self, held_bytes: usize) {
        let [.., lent] = &self.common.lent;
        if held_bytes > self.held_bytes {
            lent.fetch_add(held_bytes - self.held_bytes, Relaxed);
        } else if held_bytes < self.held_bytes {
            lent.fetch_sub(self.held_bytes - held_bytes, Relaxed);
        }
        self.held_bytes = held_bytes;
    }

    /// Reports whether its backend is up.
    #[cfg(feature = "backends")]
    pub(crate) fn tell_link(&self, is_up: bool) {
        self.common.backends.tell_link(self.first.as_u8(), is_up);
    }

    /// Reports whether its backend takes sessions of another one.
    #[cfg(feature = "backends")]
    pub(crate) fn tell_takes_moved(&self, takes: bool) {
        let backends = &self.common.backends;
        backends.tell_takes_moved(self.first.as_u8(), takes);
    }

    /// Returns whether the link that a backend asks for begins anew, since it was given up.
    #[cfg(feature = "backends")]
    pub(crate) fn begins_anew(&self) -> bool {
        let standing = self.common.backends.standing(self.first.as_u8());
        standing.is_some_and(Standing::takes_anew)
    }

    /// Returns the number of backends.
    #[cfg(feature = "backends")]
    pub(crate) fn backends(&self) -> u8 {
        self.common.backends.count().max(1)
    }

    /// Returns the shard of a session that went to another backend.
    #[cfg(feature = "backends")]
    pub(crate) fn pin_of(&self, id: ClientId) -> Option<ShardId> {
        self.common.pin_of(id).map(|(shard, _)| shard)
    }

    /// Returns how many sessions wait for room at this one of its shards.
    pub(crate) fn waiting(&self, shard: usize) -> usize {
        self.common
            .waiting
            .get(usize::from(self.first.as_u8()) + shard)
            .map_or(0, |waiting| waiting.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two(sessions: usize) -> [Shares; 2] {
        let mut config = EdgeConfig::default();
        config.limits.max_sessions = sessions;
        let [first, second] = [0, 1].map(|shard| config.for_shard(ShardId::new(shard), 2));
        let shares = Shares::new(&first);
        let other = shares.sibling(&second);
        [shares, other]
    }

    fn has(shares: &mut Shares, sessions: usize) {
        shares.settle([0, 0, sessions, 0, 0], 0);
    }

    fn most(shares: &[Shares; 2]) -> [usize; 2] {
        shares.each_ref().map(|one| one.most(Bound::Sessions))
    }

    #[test]
    fn half_of_a_bound_is_divided_and_half_is_lent() {
        let mut shares = two(100);
        assert_eq!(most(&shares), [75, 75]);
        has(&mut shares[0], 25);
        assert_eq!(most(&shares), [75, 75], "of its own");
        has(&mut shares[0], 60);
        assert_eq!(most(&shares), [75, 40]);
        has(&mut shares[1], 40);
        assert_eq!(most(&shares), [60, 40]);
        has(&mut shares[0], 0);
        assert_eq!(most(&shares), [60, 75]);
        has(&mut shares[1], 0);
        assert_eq!(most(&shares), [75, 75], "all is given back");
    }

    #[test]
    fn together_they_have_the_bound_or_what_rounding_makes_of_it() {
        for (whole, together) in [(0, 0), (1, 2), (2, 2), (3, 3), (4, 4), (7, 7), (9, 9)] {
            let mut shares = two(whole);
            let all = shares[0].most(Bound::Sessions);
            has(&mut shares[0], all);
            let rest = shares[1].most(Bound::Sessions);
            assert_eq!(all + rest, together, "of {whole}");
            assert!(whole == 0 || rest > 0, "each has a part of {whole}");
        }
    }

    #[test]
    fn a_smaller_bound_is_acted_on_when_it_is_next_looked_at() {
        let mut shares = two(100);
        has(&mut shares[0], 75);
        let mut config = EdgeConfig::default();
        config.limits.max_sessions = 20;
        for (number, shares) in (0..).zip(&mut shares) {
            shares.set_bounds(&config.for_shard(ShardId::new(number), 2));
        }
        assert_eq!(
            most(&shares),
            [15, 5],
            "less than it has; and the other's part"
        );
        has(&mut shares[0], 0);
        assert_eq!(most(&shares), [15, 15]);
    }

    #[test]
    fn one_alone_has_it_all_and_a_clone_shares_nothing() {
        let mut config = EdgeConfig::default();
        config.limits.max_sessions = 10;
        let mut alone = Shares::new(&config);
        has(&mut alone, 8);
        assert_eq!((alone.most(Bound::Sessions), alone.is_alone()), (10, true));
        let [first, mut second] = two(100);
        let cloned = first.clone();
        has(&mut second, 60);
        assert_eq!(cloned.most(Bound::Sessions), 75);
        assert_eq!(first.most(Bound::Sessions), 40);
    }

    #[test]
    fn the_trunk_borrows_what_it_holds() {
        let mut config = EdgeConfig::default();
        config.limits.max_memory_bytes = 1_000;
        let shares = Shares::new(&config.for_shard(ShardId::new(0), 2));
        let mut trunk = shares.of_trunk(ShardId::new(0));
        assert_eq!(shares.most(Bound::Memory), 750);
        trunk.settle(300);
        assert_eq!(shares.most(Bound::Memory), 450);
        trunk.settle(2_000);
        assert_eq!(shares.most(Bound::Memory), 250, "its own part stays");
        trunk.settle(0);
        assert_eq!(shares.most(Bound::Memory), 750);
    }

    /// Returns how many half-open connections, new sessions and resumed sessions one shard may have.
    fn places(shares: &Shares, established: usize) -> [usize; 3] {
        [
            shares.half_open_places(established),
            shares.most_joined(),
            shares.most_attached(),
        ]
    }

    #[test]
    fn an_eighth_is_kept_half_for_those_who_come_back_half_for_handshakes() {
        let kept = |most, half_open| {
            let mut config = EdgeConfig::default();
            config.limits.max_connections = most;
            config.limits.max_half_open = half_open;
            let shares = Shares::new(&config);
            assert_eq!(shares.half_open_places(0), most);
            let established = most - shares.kept.own;
            assert_eq!(shares.half_open_places(established), shares.kept.own);
            assert_eq!(shares.half_open_places(most), 0);
            [shares.most_joined(), shares.most_attached()]
        };
        assert_eq!(kept(7, 100), [7, 7]);
        assert_eq!(kept(8, 100), [7, 8]);
        assert_eq!(kept(16, 100), [14, 15]);
        assert_eq!(kept(800, 100), [700, 750], "as many as may be half-open");
        assert_eq!(kept(808, 100), [708, 758]);
        assert_eq!(kept(8000, 0), [7000, 7500]);
        assert_eq!(kept(0, 100), [0, 0]);
    }

    #[test]
    fn each_shard_has_places_for_handshakes_that_no_other_takes() {
        let mut config = EdgeConfig::default();
        (config.limits.max_connections, config.limits.max_half_open) = (800, 100);
        let [first, second] = [0, 1].map(|shard| config.for_shard(ShardId::new(shard), 2));
        let mut shares = Shares::new(&first);
        let mut other = shares.sibling(&second);
        // 200 are its own, 13 of them for handshakes; 400 are lent, of which newcomers may have 326.
        assert_eq!(places(&shares, 0), [600, 513, 563]);
        // Strangers fill the first shard, and then the other one.
        shares.settle([513, 0, 0, 0, 0], 0);
        assert_eq!(places(&other, 0), [187 + 13 + 74, 187, 187 + 50]);
        assert_eq!(places(&other, 187), [13 + 74, 187, 187 + 50]);
        assert_eq!(places(&shares, 513), [13 + 74, 513, 563]);
        other.settle([187, 87, 0, 0, 0], 0);
        assert_eq!(places(&shares, 513), [13, 439, 489], "all that was lent");
        other.settle([237, 37, 0, 0, 0], 0);
        assert_eq!(places(&shares, 513), [13, 439, 489]);
        other.settle([0, 0, 0, 0, 0], 0);
        assert_eq!(places(&shares, 513), [87, 513, 563]);
    }
}
