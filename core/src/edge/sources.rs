//! Where connections come from, and what is held against each source (SPEC 10.6).
//!
//! A source is an IPv4 address or an IPv6 /64: what one subscriber usually has. An IPv6 /48 is a wider source of its own, since one
//! subscriber may have 65,536 networks of 64 bits. Check and count are one step, so that no two attempts pass on one last place.

use core::hash::Hasher;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

use crate::deadlines::{Deadlines, Timed, Timer};
use crate::slab::{Slab, room_to_keep};
use crate::time::Time;

use super::config::SourceLimits;
use super::limits::Bucket;

/// What a source did that costs it time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offence {
    /// A frame that is too long, does not decode, or does not belong where it stands.
    BadFrame,
    /// A claim that was not proven.
    BadProof,
    /// A handshake that was not finished in time.
    TimedOut,
}

impl Offence {
    const fn penalty(self) -> Duration {
        match self {
            Offence::BadFrame => Duration::from_secs(10),
            Offence::BadProof => Duration::from_secs(5),
            Offence::TimedOut => Duration::from_secs(2),
        }
    }
}

/// Penalties add up and run off with time. Below this they have no effect: one slip costs nobody anything.
const PENALTY_ACTS_FROM: Duration = Duration::from_secs(15);
/// The most that penalties add up to.
const MAX_PENALTY: Duration = Duration::from_secs(600);

/// Why a source's connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    TooMany,
    TooFast,
    Penalty,
}

/// A network, as what one entry of the table stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Prefix {
    address: IpAddr,
    bits: u8,
}

impl Prefix {
    /// What one subscriber has: an IPv4 address, an IPv6 /64.
    fn narrow(address: IpAddr) -> Self {
        match canonical(address) {
            v4 @ IpAddr::V4(_) => Prefix {
                address: v4,
                bits: 32,
            },
            IpAddr::V6(v6) => Prefix {
                address: masked(v6, 64),
                bits: 64,
            },
        }
    }

    /// What one site has: an IPv6 /48. For IPv4 it is the /24, which counts only when the table has no place for the address.
    fn wide(address: IpAddr) -> Self {
        match canonical(address) {
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                Prefix {
                    address: IpAddr::V4(Ipv4Addr::new(a, b, c, 0)),
                    bits: 24,
                }
            }
            IpAddr::V6(v6) => Prefix {
                address: masked(v6, 48),
                bits: 48,
            },
        }
    }

    fn is_wide(self) -> bool {
        matches!(self.bits, 24 | 48)
    }
}

/// The source that `address` belongs to, as its first address (SPEC 10.6(b)).
pub(super) fn network(address: IpAddr) -> IpAddr {
    Prefix::narrow(address).address
}

/// An IPv4 address in IPv6 clothes is the IPv4 address.
fn canonical(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

fn masked(address: Ipv6Addr, bits: u32) -> IpAddr {
    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
    IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
}

const NOBODY: u32 = u32::MAX;

/// One in so many places of the table is kept for wider networks, which stand for the sources that find no place.
const WIDE_SHARE: usize = 4;

/// How many idle entries one call looks at.
const LOOKS: usize = 4;

/// The entries in which a connection is counted; they stay as long as it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Admission {
    narrow: u32,
    wide: u32,
}

impl Admission {
    /// Counted nowhere: from a network that is never limited.
    pub(super) const EXEMPT: Admission = Admission {
        narrow: NOBODY,
        wide: NOBODY,
    };

    fn entries(self) -> impl Iterator<Item = u32> {
        [self.narrow, self.wide]
            .into_iter()
            .filter(|&index| index != NOBODY)
    }
}

#[derive(Debug)]
struct Source {
    prefix: Prefix,
    connections: u32,
    /// Sessions away whose last connection came from here.
    stale: u32,
    rate: Bucket,
    /// The penalty ends here; decay is the passing of time.
    penalty_until: Time,
    /// Runs while nothing is connected from here; the longest idle makes room.
    idle_timer: Timer,
}

const IDLE: u8 = 0;

/// [`Source::idle_timer`].
#[derive(Debug)]
struct IdleTimer;

impl Timed<Source> for IdleTimer {
    fn timer(entry: &mut Source) -> &mut Timer {
        &mut entry.idle_timer
    }
}

/// The table of sources. Its size is bounded, its hash is keyed: nobody outside can make it slow or large.
pub(super) struct Sources {
    key: [u8; 16],
    slab: Slab<Source>,
    by_prefix: HashTable<u32>,
    idle: Deadlines<Source, IdleTimer, 1>,
}

impl core::fmt::Debug for Sources {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Sources")
            .field("len", &self.slab.len())
            .finish_non_exhaustive()
    }
}

/// The table that all shards of a process share (SPEC 9.9(g)). It is asked when a connection comes and goes, never for a packet.
#[derive(Clone, Debug)]
pub(super) struct SharedSources(Arc<Mutex<Sources>>);

impl SharedSources {
    pub(super) fn new(key: [u8; 16]) -> Self {
        SharedSources(Arc::new(Mutex::new(Sources::new(key))))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Sources> {
        // Every call leaves the table whole wherever another thread's panic may have struck.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// How many sources there is a memory of.
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Places for which there is memory, in both tables.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.slab.capacity() + self.by_prefix.capacity()
    }

    /// Counts a connection from `address` in, or says why not; then nothing was counted but the attempt's rate.
    pub(super) fn admit(
        &mut self,
        now: Time,
        address: IpAddr,
        limits: &SourceLimits,
    ) -> Result<Admission, Refusal> {
        let admission = self.look_up(now, address, limits);
        let mut verdict = Ok(admission);
        for index in admission.entries() {
            if let Some(source) = self.slab.at_mut(index)
                && let Err(refusal) = source.check(now, limits)
            {
                verdict = verdict.and(Err(refusal));
            }
        }
        if verdict.is_ok() {
            self.count_in(admission);
        }
        verdict
    }

    /// Counts a connection in whatever the limits say.
    pub(super) fn admit_anyway(
        &mut self,
        now: Time,
        address: IpAddr,
        limits: &SourceLimits,
    ) -> Admission {
        let admission = self.look_up(now, address, limits);
        self.count_in(admission);
        admission
    }

    /// A connection that was counted in is gone.
    pub(super) fn release(&mut self, now: Time, admission: Admission) {
        for index in admission.entries() {
            let Some(source) = self.slab.at_mut(index) else {
                continue;
            };
            source.connections = source.connections.saturating_sub(1);
            if source.is_unused() {
                self.idle.arm(&mut self.slab, index, IDLE, now);
            }
        }
    }

    /// Counts a session that is away from now on, if `max` (0: any number) allows.
    pub(super) fn admit_stale(&mut self, admission: Admission, max: usize) -> bool {
        let Some(source) = self.slab.at_mut(admission.narrow) else {
            return true;
        };
        let fits = max == 0 || (source.stale as usize) < max;
        source.stale += u32::from(fits);
        fits
    }

    /// A session that was counted in as away is not away any more.
    pub(super) fn release_stale(&mut self, now: Time, admission: Admission) {
        if let Some(source) = self.slab.at_mut(admission.narrow) {
            source.stale = source.stale.saturating_sub(1);
            if source.is_unused() {
                self.idle.arm(&mut self.slab, admission.narrow, IDLE, now);
            }
        }
    }

    /// What a connection that is counted in did is held against its source.
    pub(super) fn punish(&mut self, now: Time, admission: Admission, offence: Offence) {
        if let Some(source) = self.slab.at_mut(admission.narrow) {
            source.penalty_until =
                (source.penalty_until.max(now) + offence.penalty()).min(now + MAX_PENALTY);
        }
    }

    fn look_up(&mut self, now: Time, address: IpAddr, limits: &SourceLimits) -> Admission {
        let address = canonical(address);
        let narrow = self.entry(now, Prefix::narrow(address), limits);
        let wide = match address {
            IpAddr::V4(_) if narrow.is_some() => None,
            _ => self.entry(now, Prefix::wide(address), limits),
        };
        Admission {
            narrow: narrow.unwrap_or(NOBODY),
            wide: wide.unwrap_or(NOBODY),
        }
    }

    fn count_in(&mut self, admission: Admission) {
        for index in admission.entries() {
            self.idle.disarm(&mut self.slab, index);
            if let Some(source) = self.slab.at_mut(index) {
                source.connections += 1;
            }
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

    /// Makes room for one more entry beyond `places`, if there is one that may be forgotten.
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
                // One whose rate or penalty still means something is kept: it could be thrown out to be forgiven. It goes to the end of
                // the line, so that it does not stand before those that mean nothing any more.
                self.idle.arm(&mut self.slab, longest_idle, IDLE, now);
            }
        }
        self.slab.len() < places
    }

    /// The entry of `prefix`, made if there is a place for it.
    fn entry(&mut self, now: Time, prefix: Prefix, limits: &SourceLimits) -> Option<u32> {
        if let Some(index) = self.find(prefix) {
            return Some(index);
        }
        let kept = limits.table_size / WIDE_SHARE * usize::from(!prefix.is_wide());
        if !self.make_room(now, limits.table_size - kept, limits) {
            return None;
        }
        let key = self.slab.insert(Source {
            prefix,
            connections: 0,
            stale: 0,
            rate: Bucket::full(now),
            penalty_until: Time::ZERO,
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

    /// Forgets sources from which nothing is connected and against which nothing is held; a few for each call, so that the memory of
    /// a storm goes away without a walk.
    pub(super) fn forget_idle(&mut self, now: Time, limits: &SourceLimits) {
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

impl Source {
    fn check(&mut self, now: Time, limits: &SourceLimits) -> Result<(), Refusal> {
        let max = if self.prefix.is_wide() {
            limits.wide_connections
        } else {
            limits.connections
        };
        if max > 0 && self.connections as usize >= max {
            return Err(Refusal::TooMany);
        }
        if limits.rate > 0
            && !self.prefix.is_wide()
            && !self.rate.take(now, limits.burst, interval(limits.rate))
        {
            return Err(Refusal::TooFast);
        }
        if limits.penalties && self.penalty_until.since(now) >= PENALTY_ACTS_FROM {
            return Err(Refusal::Penalty);
        }
        Ok(())
    }

    /// Whether neither a connection nor a session that is away counts here.
    fn is_unused(&self) -> bool {
        self.connections == 0 && self.stale == 0
    }

    /// Whether forgetting it would forgive nothing.
    fn is_blank(&self, now: Time, limits: &SourceLimits) -> bool {
        self.is_unused()
            && self.penalty_until <= now
            && (limits.rate == 0 || self.rate.is_full(now, interval(limits.rate)))
    }
}

/// The time in which one of `rate` tokens a second comes back.
pub(super) fn interval(rate: u32) -> Duration {
    Duration::from_secs(1)
        .checked_div(rate)
        .unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests;
