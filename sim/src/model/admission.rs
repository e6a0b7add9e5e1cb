//! Admission, as SPEC 10.6 describes it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Model;
use super::conn::{Conn, Manner, State};
use crate::plan::Options;

/// The penalty from which penalties act, and the maximum that they add up to (SPEC 10.6(d)).
const PENALTY_ACTS: u64 = 15_000_000_000;
const PENALTY_MOST: u64 = 600_000_000_000;

/// The reason for closing a connection that makes room.
pub(super) const MADE_ROOM: &str = "a newer connection needs its place";
/// The reason for refusing a newcomer in a full house.
pub(super) const NO_PLACE: &str = "places are left for those who come back alone";
/// A reason that is the edge's own doing, and is held against nobody (SPEC 10.6(d)).
pub(super) const LAPSED: &str = "the claimed session has ended";
pub(super) const KEPT_WAITING: &str = "kept waiting until the handshake deadline";

/// How a connection comes to need a half-open place: as a newcomer or as a claimant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    Accept,
    /// A claim of this connection.
    Claim(u32),
}

/// Whether a group of limits is enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Enforce {
    On,
    Report,
    Off,
}

impl Enforce {
    fn new(number: u64) -> Enforce {
        match number {
            0 => Enforce::On,
            1 => Enforce::Report,
            _ => Enforce::Off,
        }
    }
}

/// The numbers of SPEC 10.6.
#[derive(Clone, Debug)]
pub(crate) struct AdmissionLimits {
    max_connections: usize,
    max_half_open: usize,
    accept_rate: u64,
    accept_burst: u64,
    enforce_accepts: Enforce,
    listener_connections: usize,
    listener_rate: u64,
    listener_burst: u64,
    connections: usize,
    wide_connections: usize,
    rate: u64,
    burst: u64,
    wide_rate: u64,
    wide_burst: u64,
    stale: usize,
    wide_stale: usize,
    penalties: bool,
    pub(super) enforce_sources: Enforce,
}

impl AdmissionLimits {
    pub(super) fn new(options: &Options) -> AdmissionLimits {
        AdmissionLimits {
            max_connections: options.max_connections as usize,
            max_half_open: options.max_half_open as usize,
            accept_rate: options.accept_rate,
            accept_burst: options.accept_burst,
            enforce_accepts: Enforce::new(options.enforce_accepts),
            listener_connections: options.listener_connections as usize,
            listener_rate: options.listener_rate,
            // 0: as many as come in a second.
            listener_burst: match options.listener_burst {
                0 => options.listener_rate,
                burst => burst,
            },
            connections: options.source_connections as usize,
            wide_connections: options.wide_connections as usize,
            rate: options.source_rate,
            burst: options.source_burst,
            wide_rate: options.wide_rate,
            wide_burst: options.wide_burst,
            stale: options.source_stale as usize,
            wide_stale: options.wide_stale as usize,
            penalties: options.penalties != 0,
            enforce_sources: Enforce::new(options.enforce_sources),
        }
    }

    /// Returns the allowance of one network.
    fn of(&self, network: Network) -> Allowance {
        let part = match network.bits {
            24 | 48 => 1,
            56 => 4,
            _ => {
                return Allowance {
                    connections: self.connections,
                    rate: self.rate,
                    burst: self.burst,
                    stale: self.stale,
                };
            }
        };
        Allowance {
            connections: self.wide_connections.div_ceil(part as usize),
            rate: self.wide_rate.div_ceil(part),
            burst: self.wide_burst.div_ceil(part),
            stale: self.wide_stale.div_ceil(part as usize),
        }
    }
}

/// The allowance of one network. For each number 0 means any number.
struct Allowance {
    connections: usize,
    rate: u64,
    burst: u64,
    stale: usize,
}

/// A pace: the time until the whole burst is available again.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    full_at: u64,
}

impl Pace {
    fn has_one(&self, now: u64, rate: u64, burst: u64) -> bool {
        let each = 1_000_000_000 / rate;
        self.full_at.saturating_sub(now) + each <= burst * each
    }

    fn take(&mut self, now: u64, rate: u64) {
        self.full_at = self.full_at.max(now) + 1_000_000_000 / rate;
    }
}

/// An IPv4 address or /24, an IPv6 /64, /56 or /48: its first bits, and their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Returns the source of SPEC 10.6(b).
    pub(super) fn of(address: IpAddr) -> Network {
        Network::all(address)[0]
    }

    /// Returns how much more leniently a wider source is treated than an address.
    fn leniency(self) -> u64 {
        if matches!(self.bits, 32 | 64) { 1 } else { 16 }
    }

    /// Returns the source of an address and the wider ones around it.
    pub(super) fn all(address: IpAddr) -> Vec<Network> {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                let wide = Ipv4Addr::new(a, b, c, 0);
                [(address, 32), (wide, 24)]
                    .map(|(address, bits)| Network {
                        address: address.into(),
                        bits,
                    })
                    .to_vec()
            }
            IpAddr::V6(address) => [64, 56, 48]
                .map(|bits| Network {
                    address: Ipv6Addr::from_bits(address.to_bits() >> (128 - bits) << (128 - bits))
                        .into(),
                    bits,
                })
                .to_vec(),
        }
    }
}

/// What is remembered of a network.
#[derive(Clone, Copy, Debug, Default)]
struct Source {
    connections: usize,
    pace: Pace,
    /// When its penalties have run off.
    penalty_until: u64,
    /// While penalties act, no session may begin before this time.
    joins_from: u64,
}

/// Returns whether a PROXY header is accepted from there, which is one network.
fn is_trusted(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.octets()[..3] == [198, 51, 100])
}

/// Everything that admission remembers.
#[derive(Clone, Default)]
pub(super) struct Admission {
    accepts: Pace,
    /// The pace of the one listener.
    of_listener: Pace,
    sources: BTreeMap<Network, Source>,
}

impl Model {
    /// Handles a connection from `address`.
    ///
    /// # Errors
    /// The reason why the edge must turn it away.
    pub fn accepted(&mut self, now: u64, conn: u32, address: IpAddr) -> Result<(), &'static str> {
        self.now = now;
        let refused = self.check_admission(address);
        if refused.is_err() {
            self.reach.rejected += 1;
            return refused;
        }
        self.accepts += 1;
        let mut state = Conn::new(now, address);
        state.order = self.accepts;
        if self.limits.proxied {
            state.state = State::Proxy;
        }
        self.conns.insert(conn, state);
        if !self.limits.proxied {
            self.count_source(conn, address);
        }
        self.dirty.insert(conn);
        Ok(())
    }

    /// Counts `conn` for `address`.
    fn count_source(&mut self, conn: u32, address: IpAddr) {
        let counted = self.is_limited(address);
        if let Some(state) = self.conns.get_mut(&conn) {
            (state.address, state.counted) = (address, counted);
        }
        for network in Network::all(address).into_iter().filter(|_| counted) {
            let source = self.admission.sources.entry(network).or_default();
            source.connections += 1;
        }
    }

    /// Handles that the header of `conn` names `address` (SPEC 10.7(c)).
    pub(super) fn admit_named(&mut self, conn: u32, address: IpAddr) -> Result<(), &'static str> {
        if self.is_limited(address) {
            let refused = self.check_source(address);
            if self.limits.admission.enforce_sources == Enforce::On {
                refused?;
            }
        }
        self.count_source(conn, address);
        Ok(())
    }

    fn is_limited(&self, address: IpAddr) -> bool {
        let limits = &self.limits.admission;
        limits.enforce_sources != Enforce::Off && !address.to_canonical().is_loopback()
    }

    /// Performs the checks of SPEC 10.6(a) in order. A refusal by a later check has used up only the pace of its source.
    fn check_admission(&mut self, address: IpAddr) -> Result<(), &'static str> {
        if self.shutdown_at.is_some() {
            return Err("the edge shuts down");
        }
        if self.limits.proxied && !is_trusted(address) {
            self.reach.past_the_proxy += 1;
            return Err("it comes past the proxy");
        }
        let limits = self.limits.admission.clone();
        if self.places_left() == 0 {
            return Err("connections of all sources");
        }
        let (now, rate) = (self.now, limits.accept_rate);
        let paced = limits.enforce_accepts != Enforce::Off && rate > 0;
        let in_pace = !paced
            || self
                .admission
                .accepts
                .has_one(now, rate, limits.accept_burst);
        if !in_pace && limits.enforce_accepts == Enforce::On {
            return Err("the pace of all accepts");
        }
        let own_rate = limits.listener_rate;
        let own_paced = limits.enforce_accepts != Enforce::Off && own_rate > 0;
        let own_pace = &self.admission.of_listener;
        let in_own_pace = !own_paced || own_pace.has_one(now, own_rate, limits.listener_burst);
        if !in_own_pace && limits.enforce_accepts == Enforce::On {
            return Err("the pace of the listener");
        }
        let most = limits.listener_connections;
        if most > 0 && self.conns.len() >= most {
            self.reach.listener_full += 1;
            return Err("connections of the listener");
        }
        if !self.limits.proxied && self.is_limited(address) {
            let refused = self.check_source(address);
            if limits.enforce_sources == Enforce::On {
                refused?;
            }
        }
        self.make_room(Arrival::Accept)?;
        if own_paced && in_own_pace {
            self.admission.of_listener.take(now, own_rate);
        }
        if paced && in_pace {
            self.admission.accepts.take(now, rate);
        }
        Ok(())
    }

    fn check_source(&mut self, address: IpAddr) -> Result<(), &'static str> {
        let (now, limits) = (self.now, &self.limits.admission);
        for network in Network::all(address) {
            let may = limits.of(network);
            let source = self.admission.sources.entry(network).or_default();
            if may.connections > 0 && source.connections >= may.connections {
                return Err("connections of the source");
            }
            if may.rate > 0 {
                if !source.pace.has_one(now, may.rate, may.burst) {
                    return Err("the pace of the source");
                }
                source.pace.take(now, may.rate);
            }
        }
        Ok(())
    }

    /// Returns the number of connections that may be half-open, given the maximum number of connections (SPEC 10.6(j)).
    fn places_left(&self) -> usize {
        let established = |state: &&Conn| state.close.is_none() && !state.is_half_open();
        let taken = self.conns.values().filter(established).count();
        self.limits.admission.max_connections.saturating_sub(taken)
    }

    /// Returns how many connections newcomers do not get, and how many of these no session gets (SPEC 10.6(j)).
    fn reserve(&self) -> (usize, usize) {
        let limits = &self.limits.admission;
        let eighth = limits.max_connections / 8;
        let reserve = match limits.max_half_open {
            0 => eighth,
            most => eighth.min(most),
        };
        (reserve, reserve / 2)
    }

    /// Returns whether one more session of a newcomer, or of a client that comes back, may be attached (SPEC 10.6(j)).
    pub(super) fn has_place(&self, comes_back: bool) -> bool {
        let (reserve, rest) = self.reserve();
        let kept = if comes_back { rest } else { reserve };
        self.session_counts().0 + kept < self.limits.admission.max_connections
    }

    /// Makes room (SPEC 10.6(c)).
    pub(super) fn make_room(&mut self, arrival: Arrival) -> Result<(), &'static str> {
        let limits = &self.limits.admission;
        let (left, enforced) = (self.places_left(), limits.enforce_accepts == Enforce::On);
        let places = if enforced && limits.max_half_open > 0 {
            left.min(limits.max_half_open)
        } else {
            left
        };
        let quota = if enforced {
            (3 * places.div_ceil(4)).min(places)
        } else {
            places
        };
        let half_open = || self.conns.values().filter(|state| state.is_half_open());
        let newcomers = half_open().filter(|state| state.is_newcomer()).count();
        let claimants = half_open().count() - newcomers;
        let full = newcomers + claimants >= places;
        let newcomer_goes = match arrival {
            Arrival::Accept if newcomers >= quota => true,
            Arrival::Claim(_) if claimants >= quota => false,
            Arrival::Accept if full => newcomers > 0,
            _ => return Ok(()),
        };
        let goes = |state: &&Conn| {
            state.is_half_open()
                && state.is_newcomer() == newcomer_goes
                && state.state != State::Join
        };
        // Claimants of the source with the most go first, counting the one that claims now.
        let source = |state: &Conn| {
            let limited = self.is_limited(state.address);
            limited.then(|| Network::of(state.address))
        };
        let claims = match arrival {
            Arrival::Accept => None,
            Arrival::Claim(conn) => self.conns.get(&conn).and_then(source),
        };
        let held = |state: &Conn| {
            let Some(own) = source(state) else { return 1 };
            let others = self.conns.values().filter(goes);
            let same = others.filter(|other| source(other) == Some(own));
            same.count() + usize::from(claims == Some(own))
        };
        // The position of each, behind all whose source or state lets them go first.
        let place = |state: &Conn| match state.state {
            State::Proxy | State::Version | State::KeyOrId => (0, 0, state.order),
            State::Wait => (usize::MAX - held(state), 1, state.wait_turn),
            _ => (usize::MAX - held(state), 0, state.turn),
        };
        let joins = half_open()
            .filter(|state| state.state == State::Join)
            .count();
        if newcomer_goes && 2 * joins > newcomers {
            // It is unknown here which newcomer had to wait, and so whose turn comes last. Which one goes is observed afterwards.
            self.reach.made_room += 1;
            self.one_in_join_goes += 1;
            return Ok(());
        }
        let candidates = self.conns.iter().filter(|(_, state)| goes(state));
        let Some((&conn, oldest)) = candidates.min_by_key(|(_, state)| place(state)) else {
            return Err("half-open connections");
        };
        self.reach.made_room += 1;
        if let Some(sid) = oldest.sid {
            self.go_away(sid);
        }
        self.close(conn, MADE_ROOM, Manner::Abrupt);
        Ok(())
    }

    /// Handles that the connection is gone.
    pub(super) fn release(&mut self, conn: &Conn) {
        if !conn.counted {
            return;
        }
        for network in Network::all(conn.address) {
            if let Some(source) = self.admission.sources.get_mut(&network) {
                source.connections -= 1;
            }
        }
    }

    /// Charges the source of a connection for the reason of its end (SPEC 10.6(d)).
    pub(super) fn punish(&mut self, conn: u32, why: &'static str) {
        let seconds = match why {
            "a response that is not acceptable" => 5,
            "the handshake deadline" => 2,
            "a length above the bound in the handshake"
            | "all bytes of a handshake were taken, and it has not ended"
            | "not a handshake packet"
            | "a packet out of turn"
            | "a frame above the bound"
            | "the frame deadline"
            | "the edge came to it now" => 10,
            _ => return,
        };
        let Some(state) = self.conns.get(&conn).filter(|state| state.counted) else {
            return;
        };
        let (now, address) = (self.now, state.address);
        for network in Network::all(address) {
            let source = self.admission.sources.entry(network).or_default();
            let acted = source.penalty_until.saturating_sub(now) >= PENALTY_ACTS;
            let penalty = seconds * 1_000_000_000 / network.leniency();
            let until = source.penalty_until.max(now) + penalty;
            source.penalty_until = until.min(now + PENALTY_MOST);
            if acted {
                return;
            }
        }
    }

    /// Checks whether a session may begin at `conn`, given the penalties (SPEC 10.6(d)).
    pub(super) fn admit_newcomer(&mut self, conn: u32) -> Result<(), &'static str> {
        let limits = &self.limits.admission;
        let Some(state) = self.conns.get(&conn).filter(|state| state.counted) else {
            return Ok(());
        };
        let (now, address) = (self.now, state.address);
        for network in Network::all(address)
            .into_iter()
            .filter(|_| limits.penalties)
        {
            let source = self.admission.sources.entry(network).or_default();
            if source.penalty_until.saturating_sub(now) < PENALTY_ACTS {
                continue;
            }
            if now < source.joins_from {
                if limits.enforce_sources != Enforce::On {
                    return Ok(());
                }
                self.reach.in_penalty += 1;
                return Err("the source's penalty");
            }
            source.joins_from = now + 1_000_000_000 / network.leniency();
        }
        Ok(())
    }

    /// Returns the narrowest network that exceeds its limit of sessions away, among those that the session counts for (SPEC 9.7(a)).
    pub(super) fn full_source(&self, counts_for: &[Network]) -> Option<Network> {
        let limits = &self.limits.admission;
        if limits.enforce_sources != Enforce::On {
            return None;
        }
        let is_over = |network: &&Network| {
            let most = limits.of(**network).stale;
            let away = self.sessions.values().filter(|one| one.conn.is_none());
            most > 0 && away.filter(|one| one.went_from.contains(network)).count() > most
        };
        counts_for.iter().find(is_over).copied()
    }

    /// Returns the sources that a session away from `address` counts for, the narrowest first.
    pub(super) fn counts_for(&self, address: IpAddr) -> Vec<Network> {
        if self.is_limited(address) {
            Network::all(address)
        } else {
            Vec::new()
        }
    }
}
