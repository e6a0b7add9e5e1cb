//! Sources of connections, and their limits and penalties (SPEC 10.6).
//!
//! A source is an IPv4 address or an IPv6 /64, which is what one subscriber usually has. Each is a part of wider sources with limits of
//! their own, an IPv4 /24 or an IPv6 /56 and /48, since one subscriber may have 65,536 networks of 64 bits. Check and count are one step,
//! so that no two attempts can take the same last place.

mod prefix;

use core::hash::Hasher;
use core::net::IpAddr;
use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

use crate::edge::table::deadlines::{Deadlines, Timed, Timer};
use crate::edge::table::slab::{Slab, room_to_keep};
use crate::time::Time;

use crate::edge::config::SourceLimits;
use crate::edge::door::limits::Bucket;
use prefix::{Prefix, Width};

/// An offence, which adds to the penalty of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offence {
    /// A frame that is too long, does not decode, or is out of place.
    BadFrame,
    /// A claim without a proof.
    BadProof,
    /// A handshake that was not finished in time.
    TimedOut,
    /// A claim by somebody who was not given the id.
    BadClaim,
}

impl Offence {
    const fn penalty(self) -> Duration {
        match self {
            Offence::BadFrame => Duration::from_secs(10),
            Offence::BadProof => Duration::from_secs(5),
            Offence::TimedOut => Duration::from_secs(2),
            Offence::BadClaim => Duration::from_millis(500),
        }
    }
}

/// The penalty from which it has an effect. Penalties add up and decay with time, so a single mistake costs nothing.
const PENALTY_ACTS_FROM: Duration = Duration::from_secs(15);
/// The maximum penalty.
const MAX_PENALTY: Duration = Duration::from_secs(600);
/// While a penalty acts, one session may begin from the source per interval.
const JOIN_INTERVAL: Duration = Duration::from_secs(1);
/// The factor for wider sources: an offence weighs that much less, and under penalty that many more sessions may begin.
const WIDE_LENIENCY: u32 = 16;

/// Why a source's connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    TooMany,
    TooFast,
}

/// Returns the source of `address`, as its first address (SPEC 10.6(b)).
pub(crate) fn network(address: IpAddr) -> IpAddr {
    Prefix::narrow(address).address
}

const NOBODY: u32 = u32::MAX;

/// One in this many places of the table is kept for wider networks, which stand in for sources without a place.
const WIDE_SHARE: usize = 4;

/// An IPv6 /56 is allowed one in this many of what a /48 is, rounded up.
const MIDDLE_PART: u32 = 4;

/// The number of idle entries that one call visits.
const LOOKS: usize = 4;

/// The sources that count a connection for as long as it lives: this entry and those of the wider sources around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Admission {
    narrowest: u32,
}

image!(Admission { narrowest });

impl Admission {
    /// Counted nowhere: from a network that is exempt.
    pub(crate) const EXEMPT: Admission = Admission { narrowest: NOBODY };
}

/// The entries around an admission, the narrowest first. An exempt one has a number that no entry has, so all of those count as one source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nesting {
    entries: [u32; 3],
    len: usize,
}

impl Nesting {
    /// Of an admission that is counted nowhere.
    pub(crate) const NONE: Nesting = Nesting {
        entries: [NOBODY; 3],
        len: 0,
    };

    fn push(&mut self, index: u32) {
        if let Some(next) = self.entries.get_mut(self.len) {
            *next = index;
            self.len += 1;
        }
    }

    /// Returns the entries within another one, and the widest.
    pub(crate) fn split(&self) -> (&[u32], u32) {
        match self.entries.get(..self.len).and_then(<[u32]>::split_last) {
            Some((&widest, parts)) => (parts, widest),
            None => (&[], NOBODY),
        }
    }

    pub(crate) fn widest(&self) -> u32 {
        self.split().1
    }

    #[cfg(test)]
    pub(crate) fn of(entries: &[u32]) -> Nesting {
        let mut nesting = Nesting::NONE;
        entries.iter().for_each(|&index| nesting.push(index));
        nesting
    }
}

#[derive(Debug)]
struct Source {
    prefix: Prefix,
    /// The entry of the next wider source, or [`NOBODY`]. It counts whatever this one counts, so it exists while this one is in use.
    /// Meaningless in an unused entry.
    parent: u32,
    connections: u32,
    /// Sessions that are away and whose last connection came from here.
    away: u32,
    rate: Bucket,
    /// When the penalty ends. It decays with the passing of time.
    penalty_until: Time,
    /// While a penalty acts, no session may begin from here before this.
    joins_from: Time,
    /// Runs while nothing is connected from here. The entry idle for longest makes room.
    idle_timer: Timer,
}

image!(Source {
    prefix,
    parent,
    connections,
    away,
    rate,
    penalty_until,
    joins_from,
    idle_timer
});

const IDLE: u8 = 0;

/// [`Source::idle_timer`].
#[derive(Debug)]
struct IdleTimer;

impl Timed<Source> for IdleTimer {
    fn timer(entry: &mut Source) -> &mut Timer {
        &mut entry.idle_timer
    }
}

/// The table of sources. Its size is bounded and its hash is keyed, so nobody outside can make it slow or large.
pub(crate) struct Sources {
    key: [u8; 16],
    slab: Slab<Source>,
    by_prefix: HashTable<u32>,
    idle: Deadlines<Source, IdleTimer, 1>,
}

#[cfg(feature = "record")]
impl crate::image::Image for Sources {
    fn put(&self, out: &mut crate::image::Out) {
        self.key.put(out);
        self.slab.put(out);
        self.idle.put(out);
    }

    fn take(from: &mut crate::image::Taken<'_>) -> Option<Self> {
        use crate::image::Image;
        let key = Image::take(from)?;
        let slab: Slab<Source> = Image::take(from)?;
        let mut by_prefix = HashTable::new();
        let rehash = |index: &u32| {
            let source = slab.at(*index);
            source.map_or(0, |source| Sources::hash(key, source.prefix))
        };
        for (index, source) in slab.iter() {
            by_prefix.insert_unique(Sources::hash(key, source.prefix), index, rehash);
        }
        Some(Sources {
            by_prefix,
            key,
            idle: Image::take(from)?,
            slab,
        })
    }
}

impl core::fmt::Debug for Sources {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Sources")
            .field("len", &self.slab.len())
            .finish_non_exhaustive()
    }
}

/// The table shared by all shards of a process (SPEC 9.9(g)). It is used when a connection comes and goes, never for a packet.
#[derive(Clone, Debug)]
pub(crate) struct SharedSources(Arc<Mutex<Sources>>);

#[cfg(feature = "record")]
impl crate::image::Image for SharedSources {
    fn put(&self, out: &mut crate::image::Out) {
        self.lock().put(out);
    }

    fn take(from: &mut crate::image::Taken<'_>) -> Option<Self> {
        Sources::take(from).map(|sources| SharedSources(Arc::new(Mutex::new(sources))))
    }
}

impl SharedSources {
    pub(crate) fn new(key: [u8; 16]) -> Self {
        SharedSources(Arc::new(Mutex::new(Sources::new(key))))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Sources> {
        // Every call leaves the table consistent, even if another thread panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the table if it counts anything for this admission.
    pub(crate) fn lock_for(&self, admission: Admission) -> Option<MutexGuard<'_, Sources>> {
        (admission != Admission::EXEMPT).then(|| self.lock())
    }
}

impl Sources {
    fn new(key: [u8; 16]) -> Self {
        Sources {
            key,
            slab: Slab::default(),
            by_prefix: HashTable::new(),
            idle: Deadlines::new(),
        }
    }

    /// Returns the number of remembered sources.
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Returns the number of places for which there is memory, in both tables.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.slab.capacity() + self.by_prefix.capacity()
    }

    /// Counts a connection from `address`, or returns why it is refused. A refusal counts only towards the rate.
    pub(crate) fn admit(
        &mut self,
        now: Time,
        address: IpAddr,
        limits: &SourceLimits,
    ) -> Result<Admission, Refusal> {
        let admission = self.look_up(now, address, limits);
        // The narrowest first: what one address is refused costs the network around it nothing.
        let mut next = admission.narrowest;
        let mut verdict = Ok(admission);
        while let Some(source) = self.slab.at_mut(next).filter(|_| verdict.is_ok()) {
            verdict = source.check(now, limits).map(|()| admission);
            next = source.parent;
        }
        if verdict.is_ok() {
            self.count_in(admission);
        } else {
            self.rest_all(now, admission);
        }
        verdict
    }

    /// Counts a connection whatever the limits are.
    pub(crate) fn admit_anyway(
        &mut self,
        now: Time,
        address: IpAddr,
        limits: &SourceLimits,
    ) -> Admission {
        let admission = self.look_up(now, address, limits);
        self.count_in(admission);
        admission
    }

    /// Releases a connection that was counted.
    pub(crate) fn release(&mut self, now: Time, admission: Admission) {
        let mut next = admission.narrowest;
        while let Some(source) = self.slab.at_mut(next) {
            source.connections = source.connections.saturating_sub(1);
            next = self.rest(now, next);
        }
    }

    /// Returns the sources that an admission counts for. Valid while it is counted.
    pub(crate) fn nesting(&self, admission: Admission) -> Nesting {
        let mut nesting = Nesting::NONE;
        let mut next = admission.narrowest;
        while let Some(source) = self.slab.at(next) {
            nesting.push(next);
            next = source.parent;
        }
        nesting
    }

    /// Returns the address of the narrowest source of an admission, if there is an entry for it.
    pub(crate) fn address_of(&self, admission: Admission) -> Option<IpAddr> {
        let source = self.slab.at(admission.narrowest)?;
        Some(source.prefix.address)
    }

    /// Counts a session that goes away. Returns the narrowest of its sources that exceeds its limit of sessions away.
    pub(crate) fn count_away(
        &mut self,
        admission: Admission,
        limits: &SourceLimits,
    ) -> Option<u32> {
        let mut over = None;
        let mut next = admission.narrowest;
        while let Some(source) = self.slab.at_mut(next) {
            source.away += 1;
            let max = source.allowance(limits).stale_sessions;
            if max > 0 && source.away as usize > max {
                over = over.or(Some(next));
            }
            next = source.parent;
        }
        over
    }

    /// Releases a session that was counted as away.
    pub(crate) fn release_away(&mut self, now: Time, admission: Admission) {
        let mut next = admission.narrowest;
        while let Some(source) = self.slab.at_mut(next) {
            source.away = source.away.saturating_sub(1);
            next = self.rest(now, next);
        }
    }

    fn rest_all(&mut self, now: Time, admission: Admission) {
        let mut next = admission.narrowest;
        while self.slab.at(next).is_some() {
            next = self.rest(now, next);
        }
    }

    /// Marks the entry as idle if nothing counts there any more. Returns the next wider one.
    fn rest(&mut self, now: Time, index: u32) -> u32 {
        let Some(source) = self.slab.at(index) else {
            return NOBODY;
        };
        let parent = source.parent;
        if source.is_unused() {
            self.idle.arm(&mut self.slab, index, IDLE, now);
        }
        parent
    }

    /// Charges an offence to the sources of an admission. A source under penalty adds nothing to the wider ones, so one address alone
    /// cannot put them under penalty.
    pub(crate) fn punish(&mut self, now: Time, admission: Admission, offence: Offence) {
        let mut next = admission.narrowest;
        while let Some(source) = self.slab.at_mut(next) {
            let in_penalty = source.is_in_penalty(now);
            let penalty = offence.penalty() / source.leniency();
            source.penalty_until = (source.penalty_until.max(now) + penalty).min(now + MAX_PENALTY);
            if in_penalty {
                return;
            }
            next = source.parent;
        }
    }

    /// Returns whether a session may begin from there: under penalty, not too soon after another one.
    pub(crate) fn admit_newcomer(&mut self, now: Time, admission: Admission) -> bool {
        let mut next = admission.narrowest;
        while let Some(source) = self.slab.at_mut(next) {
            if source.is_in_penalty(now) {
                if now < source.joins_from {
                    return false;
                }
                source.joins_from = now + JOIN_INTERVAL / source.leniency();
            }
            next = source.parent;
        }
        true
    }

    /// Returns the entries of all sources of `address`, as far as there are places for them. They are no longer idle: the caller counts
    /// something there, or lets them [`rest`](Self::rest).
    fn look_up(&mut self, now: Time, address: IpAddr, limits: &SourceLimits) -> Admission {
        let narrow = Prefix::narrow(address);
        // An entry in use has its parents.
        if let Some(index) = self.find(narrow)
            && let Some(source) = self.slab.at(index)
            && !source.is_unused()
        {
            return Admission { narrowest: index };
        }
        let mut narrowest = NOBODY;
        for prefix in Prefix::all(address).rev() {
            if let Some(index) = self.entry(now, prefix, narrowest, limits) {
                // Otherwise the next entry could take its place.
                self.idle.disarm(&mut self.slab, index);
                narrowest = index;
            }
        }
        Admission { narrowest }
    }

    fn count_in(&mut self, admission: Admission) {
        let mut next = admission.narrowest;
        while let Some(source) = self.slab.at_mut(next) {
            source.connections += 1;
            next = source.parent;
        }
    }

    fn hash(key: [u8; 16], prefix: Prefix) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&key);
        match prefix.address {
            IpAddr::V4(v4) => hasher.write_u32(v4.to_bits()),
            IpAddr::V6(v6) => hasher.write_u128(v6.to_bits()),
        }
        hasher.write_u8(prefix.bits);
        hasher.finish()
    }

    fn find(&self, prefix: Prefix) -> Option<u32> {
        let same = |index: &u32| {
            self.slab
                .at(*index)
                .is_some_and(|source| source.prefix == prefix)
        };
        self.by_prefix
            .find(Self::hash(self.key, prefix), same)
            .copied()
    }

    fn is_blank_at(&self, index: u32, now: Time, limits: &SourceLimits) -> bool {
        let source = self.slab.at(index);
        source.is_some_and(|source| source.is_blank(now, limits))
    }

    /// Makes room for one entry beyond `places`, if there is one that may be forgotten.
    fn make_room(&mut self, now: Time, places: usize, limits: &SourceLimits) -> bool {
        for _ in 0..LOOKS {
            if self.slab.len() < places {
                return true;
            }
            let Some((longest_idle, _)) = self.idle.first(IDLE) else {
                return false;
            };
            if self.is_blank_at(longest_idle, now, limits) {
                self.forget(longest_idle);
            } else {
                // An entry whose rate or penalty still matters is kept: otherwise it could be pushed out to be forgiven. It moves to the
                // end of the list, behind those that no longer matter.
                self.idle.arm(&mut self.slab, longest_idle, IDLE, now);
            }
        }
        self.slab.len() < places
    }

    /// Returns the entry of `prefix` within that of `parent`. Creates it if there is a place.
    fn entry(
        &mut self,
        now: Time,
        prefix: Prefix,
        parent: u32,
        limits: &SourceLimits,
    ) -> Option<u32> {
        if let Some(index) = self.find(prefix) {
            if let Some(source) = self.slab.at_mut(index)
                && source.is_unused()
            {
                source.parent = parent;
            }
            return Some(index);
        }
        let kept = if prefix.width() == Width::Narrow {
            limits.table_size / WIDE_SHARE
        } else {
            0
        };
        if !self.make_room(now, limits.table_size - kept, limits) {
            return None;
        }
        let key = self.slab.insert(Source {
            prefix,
            parent,
            connections: 0,
            away: 0,
            rate: Bucket::full(now),
            penalty_until: Time::ZERO,
            joins_from: Time::ZERO,
            idle_timer: Timer::default(),
        })?;
        let (hash_key, slab) = (self.key, &self.slab);
        let rehash = |index: &u32| {
            slab.at(*index)
                .map_or(0, |source| Self::hash(hash_key, source.prefix))
        };
        self.by_prefix
            .insert_unique(Self::hash(hash_key, prefix), key.index, rehash);
        self.idle.arm(&mut self.slab, key.index, IDLE, now);
        Some(key.index)
    }

    fn forget(&mut self, index: u32) {
        self.idle.disarm(&mut self.slab, index);
        if let Some(source) = self.slab.remove(index)
            && let Ok(entry) = self
                .by_prefix
                .find_entry(Self::hash(self.key, source.prefix), |other| *other == index)
        {
            entry.remove();
        }
        if let Some(keep) = room_to_keep(self.by_prefix.len(), self.by_prefix.capacity()) {
            let (hash_key, slab) = (self.key, &self.slab);
            let rehash = |index: &u32| {
                slab.at(*index)
                    .map_or(0, |source| Self::hash(hash_key, source.prefix))
            };
            self.by_prefix.shrink_to(keep, rehash);
        }
    }

    /// Forgets sources without connections and without penalties, a few per call, so that the memory of a storm is returned without a walk.
    pub(crate) fn forget_idle(&mut self, now: Time, limits: &SourceLimits) {
        for _ in 0..LOOKS {
            let Some((index, since)) = self.idle.first(IDLE) else {
                return;
            };
            if !self.is_blank_at(index, now, limits) || now.since(since) < MAX_PENALTY {
                return;
            }
            self.forget(index);
        }
    }
}

/// The allowance of one source.
struct Allowance {
    connections: usize,
    stale_sessions: usize,
    rate: u32,
    burst: u32,
}

impl Source {
    fn allowance(&self, limits: &SourceLimits) -> Allowance {
        let part = match self.prefix.width() {
            Width::Narrow => {
                return Allowance {
                    connections: limits.connections,
                    stale_sessions: limits.stale_sessions,
                    rate: limits.rate,
                    burst: limits.burst,
                };
            }
            Width::Middle => MIDDLE_PART,
            Width::Wide => 1,
        };
        Allowance {
            connections: limits.wide_connections.div_ceil(part as usize),
            stale_sessions: limits.wide_stale_sessions.div_ceil(part as usize),
            rate: limits.wide_rate.div_ceil(part),
            burst: limits.wide_burst.div_ceil(part),
        }
    }

    fn check(&mut self, now: Time, limits: &SourceLimits) -> Result<(), Refusal> {
        let allowance = self.allowance(limits);
        let max = allowance.connections;
        if max > 0 && self.connections as usize >= max {
            return Err(Refusal::TooMany);
        }
        if allowance.rate > 0
            && !self
                .rate
                .take(now, allowance.burst, interval(allowance.rate))
        {
            return Err(Refusal::TooFast);
        }
        Ok(())
    }

    fn is_in_penalty(&self, now: Time) -> bool {
        self.penalty_until.since(now) >= PENALTY_ACTS_FROM
    }

    /// Returns how much more leniently it is treated than one address.
    fn leniency(&self) -> u32 {
        match self.prefix.width() {
            Width::Narrow => 1,
            Width::Middle | Width::Wide => WIDE_LENIENCY,
        }
    }

    /// Returns whether neither a connection nor a session away counts here.
    fn is_unused(&self) -> bool {
        self.connections == 0 && self.away == 0
    }

    /// Returns whether forgetting it would forgive nothing.
    fn is_blank(&self, now: Time, limits: &SourceLimits) -> bool {
        self.is_unused()
            && self.penalty_until <= now
            && match self.allowance(limits).rate {
                0 => true,
                rate => self.rate.is_full(now, interval(rate)),
            }
    }
}

/// Returns the time in which one token is regained at `rate` per second.
pub(crate) fn interval(rate: u32) -> Duration {
    Duration::from_secs(1)
        .checked_div(rate)
        .unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests;
