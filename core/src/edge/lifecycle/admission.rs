//! Admission, with the cheapest check first (SPEC 10.6, 10.7, 27.3). All of it costs a table lookup and logs nothing.

use core::net::IpAddr;

use ipnet::IpNet;

use crate::edge::door::proxy::ProxySource;
use crate::protocol::OfferedVersions;
use crate::time::Time;

use crate::edge::Edge;
use crate::edge::config::{Enforce, ListenerConfig};
use crate::edge::conns::conn::{Conn, ConnKey};
use crate::edge::conns::state::{Phase, State};
use crate::edge::conns::wait::Wait;
use crate::edge::contract::CloseKind;
use crate::edge::counters::{CloseReason, Rejected};
use crate::edge::door::sources::{Admission, Offence, Refusal, interval, network};
use crate::edge::shares::Bound;

/// The number of connections beyond `max_connections` that may exist until the adapter has closed them. Newer ones have their places.
const MOST_CLOSING: usize = 16;

/// How a source counts a connection that was accepted.
#[derive(Clone, Copy, Debug)]
struct Admitted {
    admission: Admission,
    /// The limit of the source that it exceeds, if it was accepted for a Claim alone.
    beyond: Option<Rejected>,
}

impl Admitted {
    const EXEMPT: Admitted = Admitted {
        admission: Admission::EXEMPT,
        beyond: None,
    };
}

/// How a connection comes to need a half-open place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It was accepted, and is a newcomer until it claims.
    Accept,
    /// The connection at this index has a place and becomes a claimant.
    Claim(u32),
    /// It comes from another shard as a claimant, of this source if that is limited.
    Handover(Option<IpAddr>),
}

/// Whether there is a half-open place for an arriving connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vacancy {
    /// A place is free.
    Free,
    /// The connection at this index makes room.
    MadeBy(u32),
    /// All places are taken, and nobody can make room.
    None,
}

impl Edge {
    /// Admits a connection at the listener of this number. It begins with a PROXY header if it is `introduced`, or, where that is not known,
    /// if the listener requires one.
    pub(crate) fn admit(
        &mut self,
        now: Time,
        listener: usize,
        peer: IpAddr,
        introduced: Option<bool>,
    ) -> Result<ConnKey, Rejected> {
        if self.shutdown_at.is_some() {
            return self.reject(Rejected::Shutdown);
        }
        let account = self.config.account_of(listener);
        let listener = self.config.listener_of(listener);
        let proxies = listener.filter(|listener| listener.proxy_required);
        if proxies.is_some_and(|listener| !is_in(&listener.trusted_proxies, peer)) {
            return self.reject(Rejected::UntrustedProxy);
        }
        let has_header = introduced.unwrap_or(proxies.is_some());
        // A copy of a few words: the networks are not needed any more.
        let own = listener.map(ListenerConfig::without_networks);
        let own = own.unwrap_or_default();
        let limits = &self.config.limits;
        if !self.has_place() {
            return self.reject(Rejected::TooManyConnections);
        }
        let (burst, every) = (limits.accept_burst, interval(limits.accept_rate));
        let paced = limits.enforce_accepts != Enforce::Off && limits.accept_rate > 0;
        if paced && !self.shares.accepts().has_one(now, burst, every) {
            self.beyond(limits.enforce_accepts, Rejected::TooFast)?;
        }
        self.enter_listener(now, account, &own)?;
        let admitted = self.admit_at(now, account, &own, peer, has_header);
        match admitted {
            Ok(_) if paced => {
                // Last, because connections that one source alone is refused must not use up the pace of all.
                self.shares.accepts().take(now, burst, every);
            }
            Ok(_) => {}
            Err(_) => self.shares.listeners().leave(account),
        }
        admitted
    }

    /// Checks the limits of a listener, and counts a connection there.
    fn enter_listener(
        &mut self,
        now: Time,
        account: u16,
        own: &ListenerConfig,
    ) -> Result<(), Rejected> {
        let enforce = self.config.limits.enforce_accepts;
        let mut listeners = self.shares.listeners();
        let in_pace = enforce == Enforce::Off || listeners.is_in_pace(now, account, own);
        let has_place = (in_pace || enforce != Enforce::On) && listeners.enter(account, own);
        drop(listeners);
        if !in_pace {
            self.beyond(enforce, Rejected::ListenerTooFast)?;
        }
        match has_place {
            true => Ok(()),
            false => self.reject(Rejected::ListenerTooMany),
        }
    }

    /// Admits a connection that is counted at its listener.
    fn admit_at(
        &mut self,
        now: Time,
        account: u16,
        own: &ListenerConfig,
        peer: IpAddr,
        has_header: bool,
    ) -> Result<ConnKey, Rejected> {
        let limits = &self.config.limits;
        let (burst, every) = (limits.accept_burst, interval(limits.accept_rate));
        let is_enforced = limits.enforce_accepts == Enforce::On && limits.accept_rate > 0;
        let (phase, Admitted { admission, beyond }) = if has_header {
            // The header will name the source to count.
            (Phase::Proxy(Box::default()), Admitted::EXEMPT)
        } else {
            (Phase::Version, self.admit_source(now, peer, own.versions)?)
        };
        let seated = match beyond {
            None => self.make_room(now, Arrival::Accept),
            // Half of the burst is for those that no limit refuses.
            Some(rejected)
                if is_enforced && !self.shares.accepts().has_one(now, burst / 2, every) =>
            {
                self.reject(rejected)
            }
            Some(rejected) => self.make_room_for_claim(now, peer, false, rejected),
        };
        if let Err(rejected) = seated {
            self.sources.lock().release(now, admission);
            return Err(rejected);
        }
        let mut conn = Conn::new(phase, peer, admission, account);
        conn.offer(own.versions, own.carriage);
        let Some(key) = self.conns.insert(conn) else {
            self.sources.lock().release(now, admission);
            return self.reject(Rejected::TooManyConnections);
        };
        if self.config.limits.enforce_accepts != Enforce::Off && own.accept_rate > 0 {
            self.shares.listeners().take(now, account, own);
        }
        if let Some(rejected) = beyond {
            self.conns.restrict(key.0.index, network(peer), rejected);
        }
        self.counters.accepted += 1;
        self.watch_handshake(now, key.0.index);
        Ok(key)
    }

    /// Starts the handshake deadline of the connection at `index`, if there is one.
    pub(crate) fn watch_handshake(&mut self, now: Time, index: u32) {
        if !self.config.limits.handshake_timeout.is_zero() {
            self.conns.arm(Wait::Handshake, index, now);
        }
    }

    /// Handles bytes of the connection at `index` while its PROXY header is awaited. Once the header is complete, its source is counted,
    /// and `input` is the client's own bytes; until then it is empty.
    pub(crate) fn handle_proxy_header(
        &mut self,
        now: Time,
        index: u32,
        input: &mut &[u8],
    ) -> Result<(), CloseReason> {
        let conn = self.conns.live_mut(index);
        let Some(header) = conn.header() else {
            return Ok(());
        };
        let source = match header.read(input) {
            Ok(None) => return Ok(()),
            Ok(Some(ProxySource::Address(source))) => {
                if let Some(tls) = header.tls().filter(|tls| tls.is_tls) {
                    tracing::debug!(
                        conn = index,
                        %source,
                        version = %tls.version,
                        certificate = %tls.common_name,
                        is_verified = tls.is_verified,
                        alpn = %tls.alpn,
                        asked_for = %tls.authority,
                        "a proxy tells of the TLS that it ended"
                    );
                }
                Some(source.ip())
            }
            // The proxy made this connection itself.
            Ok(Some(ProxySource::Local)) => conn.source(),
            Err(error) => {
                tracing::debug!(conn = index, peer = ?conn.source(), %error, "bad PROXY header");
                return Err(CloseReason::BadProxyHeader);
            }
        };
        let Some(source) = source else {
            return Ok(());
        };
        let versions = conn.versions();
        let Admitted { admission, beyond } = self
            .admit_source(now, source, versions)
            .map_err(|_| CloseReason::Rejected)?;
        let conn = self.conns.live_mut(index);
        conn.set_source(source);
        conn.admission = admission;
        let version = State::Handshake(Phase::Version);
        self.conns.enter(index, version, now);
        if let Some(rejected) = beyond {
            match self.take_accept_beyond(now) {
                true => self.make_room_for_claim(now, source, true, rejected),
                false => self.reject(rejected),
            }
            .map_err(|_| CloseReason::Rejected)?;
            self.conns.restrict(index, network(source), rejected);
        }
        Ok(())
    }

    /// Exchanges what the accept of a connection took from the pace of all for what one beyond a limit of its source may have of it: the
    /// source was not known then. Half of the burst is for those that no limit refuses (SPEC 27.3(a)). Returns whether there was one.
    fn take_accept_beyond(&mut self, now: Time) -> bool {
        let limits = &self.config.limits;
        if limits.enforce_accepts != Enforce::On || limits.accept_rate == 0 {
            return true;
        }
        let (burst, every) = (limits.accept_burst, interval(limits.accept_rate));
        let mut accepts = self.shares.accepts();
        accepts.give_back();
        accepts.take(now, burst / 2, every)
    }

    /// Counts a connection at its source. One beyond a limit of it is refused, or accepted for a Claim alone if its listener takes Claims.
    fn admit_source(
        &mut self,
        now: Time,
        source: IpAddr,
        versions: OfferedVersions,
    ) -> Result<Admitted, Rejected> {
        if self.is_banned(now, source) {
            return self.reject(Rejected::Banned);
        }
        let limits = &self.config.limits;
        if limits.enforce_sources == Enforce::Off || is_in(&limits.exempt, source) {
            return Ok(Admitted::EXEMPT);
        }
        let mut sources = self.sources.lock();
        sources.forget_idle(now, &limits.sources);
        let admitted = sources.admit(now, source, &limits.sources);
        drop(sources);
        match admitted {
            Ok(admission) => Ok(Admitted {
                admission,
                beyond: None,
            }),
            Err(refusal) => {
                let rejected = match refusal {
                    Refusal::TooMany => Rejected::SourceTooMany,
                    Refusal::TooFast => Rejected::SourceTooFast,
                };
                let enforce = limits.enforce_sources;
                let takes_claims = enforce == Enforce::On && versions.take_sealed_claims();
                if !takes_claims {
                    self.beyond(enforce, rejected)?;
                }
                let limits = &self.config.limits.sources;
                Ok(Admitted {
                    admission: self.sources.lock().admit_anyway(now, source, limits),
                    beyond: takes_claims.then_some(rejected),
                })
            }
        }
    }

    /// Returns whether there is a place for one more connection, perhaps after another one has made room (SPEC 10.6(j)).
    pub(crate) fn has_place(&self) -> bool {
        let most = self.shares.most(Bound::Connections) + MOST_CLOSING;
        self.half_open_places() > 0 && self.conns.len() < most
    }

    /// Returns how many connections may be half-open within `max_connections`: what the established ones leave.
    fn half_open_places(&self) -> usize {
        self.shares.half_open_places(self.conns.established())
    }

    /// Returns whether a newcomer finds a place outside of those reserved for clients that come back (SPEC 10.6(j)).
    pub(crate) fn has_place_for_newcomer(&self) -> bool {
        self.attached_places() < self.shares.most_joined()
    }

    /// Returns whether a session that is away finds a place outside of those reserved for handshakes.
    pub(crate) fn has_place_for_return(&self) -> bool {
        self.attached_places() < self.shares.most_attached()
    }

    /// Returns the places of connections with a session that are taken, or kept for those whose backend was asked (SPEC 44.5(h)).
    fn attached_places(&self) -> usize {
        self.sessions.attached() + self.conns.asked()
    }

    /// Returns the places of sessions that are taken, or kept for those of which the backend was asked (SPEC 44.5(h)).
    pub(crate) fn session_places(&self) -> usize {
        #[cfg(feature = "cluster")]
        let kept = self.moves.adopting();
        #[cfg(not(feature = "cluster"))]
        let kept = 0;
        self.sessions.len() + kept
    }

    /// Closes another half-open connection if one arrives beyond the places of its kind (SPEC 10.6(c)).
    pub(crate) fn make_room(&mut self, now: Time, arrival: Arrival) -> Result<(), Rejected> {
        let enforce = self.config.limits.enforce_accepts;
        let (left, most) = (self.half_open_places(), self.most_half_open());
        let reported = enforce == Enforce::Report;
        if reported && self.vacancy(arrival, most, quota(most)) != Vacancy::Free {
            self.beyond(enforce, Rejected::TooManyHalfOpen)?;
        }
        let (reason, rejected) = if enforce == Enforce::On && most <= left {
            (CloseReason::MadeRoom, Rejected::TooManyHalfOpen)
        } else {
            (
                CloseReason::TooManyConnections,
                Rejected::TooManyConnections,
            )
        };
        let (places, quota) = self.enforced_places(left, most);
        match self.vacancy(arrival, places, quota) {
            Vacancy::Free => Ok(()),
            Vacancy::MadeBy(goes) => {
                self.close_conn(now, goes, CloseKind::Abort, reason);
                Ok(())
            }
            Vacancy::None => self.reject(rejected),
        }
    }

    /// Closes another connection that was accepted for a Claim alone, if one more comes from `peer` beyond the places (SPEC 27.3(b)). It
    /// displaces nobody else. `is_placed` tells whether it has a half-open place. `rejected` is counted if it must go.
    fn make_room_for_claim(
        &mut self,
        now: Time,
        peer: IpAddr,
        is_placed: bool,
        rejected: Rejected,
    ) -> Result<(), Rejected> {
        let (left, most) = (self.half_open_places(), self.most_half_open());
        let (places, quota) = self.enforced_places(left, most);
        let claimants = self.conns.claimants();
        let is_full = !is_placed && self.conns.half_open() >= places;
        if !is_full && claimants.len() < quota {
            return Ok(());
        }
        match claimants.first_unopened(Some(network(peer))) {
            Some(goes) => {
                self.close_conn(now, goes, CloseKind::Abort, CloseReason::MadeRoom);
                Ok(())
            }
            None => self.reject(rejected),
        }
    }

    /// Returns the configured bound of half-open connections.
    fn most_half_open(&self) -> usize {
        match self.shares.most(Bound::HalfOpen) {
            0 => usize::MAX,
            most => most,
        }
    }

    /// Returns how many half-open places there are, and how many of them each kind of connection may hold. `left` is what established ones
    /// leave, `most` the configured bound.
    fn enforced_places(&self, left: usize, most: usize) -> (usize, usize) {
        match self.config.limits.enforce_accepts {
            Enforce::On => (left.min(most), quota(left.min(most))),
            Enforce::Report | Enforce::Off => (left, left),
        }
    }

    /// Returns whether there is a half-open place for an arriving connection, and which connection makes room if one must.
    ///
    /// Newcomers and claimants hold at most `quota` of the places each, so neither keeps the other out. Of the newcomers the oldest is
    /// closed: a client that sends is finished in a round trip, and one that is silent on purpose becomes the oldest. (Dropping newcomers
    /// at random, as sshd does, would hit those that a flood is meant to hit.) Of the claimants it is one of the source with the most, so
    /// nobody who claims from a few sources keeps the owner out.
    fn vacancy(&self, arrival: Arrival, places: usize, quota: usize) -> Vacancy {
        let conns = &self.conns;
        let is_full = !matches!(arrival, Arrival::Claim(_)) && conns.half_open() >= places;
        let claimant = || {
            let joining = match arrival {
                Arrival::Accept => None,
                Arrival::Claim(index) => self.limited_source(index),
                Arrival::Handover(source) => source,
            };
            conns.claimants().first_to_go(joining)
        };
        let goes = match arrival {
            // It has a place among the claimants.
            Arrival::Claim(index) if conns.live(index).only_claim().is_some() => {
                return Vacancy::Free;
            }
            Arrival::Accept if conns.newcomers() >= quota => self.newcomer_to_go(),
            Arrival::Claim(_) | Arrival::Handover(_) if conns.claimants().len() >= quota => {
                claimant()
            }
            _ if is_full => {
                let unopened = conns.claimants().first_unopened(None);
                unopened.or_else(|| self.newcomer_to_go()).or_else(claimant)
            }
            _ => return Vacancy::Free,
        };
        goes.map_or(Vacancy::None, Vacancy::MadeBy)
    }

    /// Returns the newcomer that makes room. Newcomers that wait for their turn hold at most half of the places of newcomers, or nobody
    /// else would get as far as sending a key.
    fn newcomer_to_go(&self) -> Option<u32> {
        if 2 * self.conns.joins().len() > self.conns.newcomers() {
            self.conns.joins().last()
        } else {
            self.conns.oldest_stranger()
        }
    }

    /// Checks whether the newcomer at `index` may begin a session, given its sources' penalties (SPEC 10.6(d)). Clients that come back are
    /// not checked: a neighbour behind the same address cannot keep them out.
    pub(crate) fn admit_newcomer(&mut self, now: Time, index: u32) -> Result<(), CloseReason> {
        self.admit_without_claim(index)?;
        let limits = &self.config.limits;
        if !limits.sources.penalties {
            return Ok(());
        }
        let admission = self.conns.live(index).admission;
        let enforce = limits.enforce_sources;
        if admission == Admission::EXEMPT
            || enforce == Enforce::Off
            || self.sources.lock().admit_newcomer(now, admission)
        {
            return Ok(());
        }
        self.beyond(enforce, Rejected::SourcePenalty)
            .map_err(|_| CloseReason::Rejected)
    }

    /// Checks that the connection at `index` was not accepted for a Claim alone (SPEC 27.3(a)).
    pub(crate) fn admit_without_claim(&mut self, index: u32) -> Result<(), CloseReason> {
        match self.conns.live(index).only_claim() {
            None => Ok(()),
            Some(only_claim) => self
                .reject(only_claim.beyond)
                .map_err(|_| CloseReason::Rejected),
        }
    }

    /// Returns the source of the half-open connection at `index`, if it is limited.
    pub(crate) fn limited_source(&self, index: u32) -> Option<IpAddr> {
        self.limited(self.conns.live(index).source()?)
    }

    /// Returns the source of `address`, unless the limits on sources do not apply to it.
    pub(crate) fn limited(&self, address: IpAddr) -> Option<IpAddr> {
        let limits = &self.config.limits;
        let free = limits.enforce_sources == Enforce::Off || is_in(&limits.exempt, address);
        (!free).then(|| network(address))
    }

    /// Counts an excess over a limit, and refuses it if the limit is enforced.
    fn beyond(&mut self, enforce: Enforce, rejected: Rejected) -> Result<(), Rejected> {
        let refused = self.reject(rejected);
        if enforce == Enforce::On {
            refused
        } else {
            Ok(())
        }
    }

    pub(crate) fn reject<T>(&mut self, rejected: Rejected) -> Result<T, Rejected> {
        self.counters.count_rejected(rejected);
        Err(rejected)
    }

    /// Charges the source of the connection at `index` for the reason of its end, if the source is at fault.
    pub(crate) fn punish(&mut self, now: Time, index: u32, reason: CloseReason) {
        let offence = match reason {
            CloseReason::FrameTooLong
            | CloseReason::BadHandshake
            | CloseReason::BadVersion
            | CloseReason::BadKey
            | CloseReason::FrameTimeout
            | CloseReason::ProtocolError
            | CloseReason::BadTransport => Offence::BadFrame,
            CloseReason::BadProof => Offence::BadProof,
            CloseReason::BadClaim => Offence::BadClaim,
            CloseReason::HandshakeTimeout => Offence::TimedOut,
            CloseReason::IdleTimeout
            | CloseReason::TooFast
            | CloseReason::Replaced
            | CloseReason::SessionEnded
            | CloseReason::TooManySessions
            | CloseReason::TooManyConnections
            | CloseReason::Memory
            | CloseReason::MadeRoom
            // The edge's own doing: the proof may have been right, and a client that was kept waiting could do nothing.
            | CloseReason::ClaimLapsed
            | CloseReason::KeptWaiting
            // It is unknown whose fault it is: the peer is a proxy, and it named nobody.
            | CloseReason::BadProxyHeader
            | CloseReason::Rejected
            // A Claim that opened is never penalised, and whoever is in between can spoil a record.
            | CloseReason::Refused
            | CloseReason::NoEarlyRecord
            | CloseReason::BadRecord
            | CloseReason::PeerError
            | CloseReason::Parked
            | CloseReason::Silent
            | CloseReason::Shutdown
            | CloseReason::Moved => return,
        };
        let admission = self.conns.live(index).admission;
        self.sources.lock().punish(now, admission, offence);
    }
}

/// Returns how many half-open places each kind of connection may hold.
fn quota(places: usize) -> usize {
    places.div_ceil(4).saturating_mul(3).min(places)
}

/// Returns whether `address` is in one of `networks`. An IPv4-mapped IPv6 address counts as the IPv4 address.
fn is_in(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}
