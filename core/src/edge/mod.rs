//! The edge: many client connections become one framed stream to the backend (SPEC.txt).
//!
//! [`Edge`] is a pure state machine. It owns no socket, clock, thread or source of randomness: the adapter tells it what happened, with the
//! time, and asks what to do.
//!
//! Its parts own their data and know nothing of the edge. Rules that concern several of them are in `lifecycle/`.
//!
//! | part | contents |
//! | --- | --- |
//! | `mod.rs` | the machine's fields, and its interface to its adapter |
//! | `contract.rs` | what it and its adapter exchange besides bytes |
//! | `backends.rs`, `pins.rs` | which of several backends a session goes to, and which went to another one |
//! | `config.rs`, `counters.rs`, `histogram.rs` | its configuration, its counters and gauges |
//! | `conns/` | connections: their table, states and waits, and which of them makes room for others |
//! | `sessions/` | sessions: their table, their ids, and which of those that are away makes room |
//! | `door/` | admission: sources, rates, PROXY headers |
//! | `memory/`, `shares.rs` | the account of waiting bytes, and the bounds that shards share |
//! | `uplink/` | the line for room, the queue for the backend, and the link or the branch that carries it |
//! | `snapshot.rs` | what is saved of all this at an orderly end, as a sealed file |
//! | `noted.rs`, `record/` | what the adapter tells, as a recording that can be run again |
//! | `downlink.rs` | the room for what waits for a client |
//! | `table/` | data structures that know nothing of the edge |
//! | `lifecycle/` | the rules, from an accepted connection to the end of a session, one file for each topic |
//!
//! `trunk.rs` is a machine of its own, which joins several edges into one.

#[macro_use]
mod noted;

#[cfg(feature = "backends")]
mod backends;
mod config;
mod conns;
mod contract;
mod counters;
mod door;
mod downlink;
mod histogram;
mod lifecycle;
mod memory;
#[cfg(feature = "backends")]
mod pins;
#[cfg(feature = "record")]
pub mod record;
mod sessions;
mod shares;
mod snapshot;
mod table;
pub mod trunk;
mod uplink;

#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
#[cfg(test)]
mod tests;

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::id::ClientId;
use crate::keys::{KeyPair, NonceMint, SharedKey};
use crate::link::v3::GroupId;
use crate::protocol::Offer;
use crate::queue::CountedTwice;
use crate::time::Time;

pub use crate::Closed;
#[cfg(feature = "backends")]
pub use backends::MAX_BACKENDS;
pub use config::{
    ClientsConfig, EdgeConfig, Enforce, LimitsConfig, LinkProtocol, ListenerConfig, MasterConfig,
    PaceLimits, SourceLimits,
};
pub use conns::conn::{ConnKey, LAST_READ_BYTES};
pub use contract::{CloseKind, Deadline, DeadlineReason, Duty};
pub use counters::{CloseReason, Counters, EndReason, Gauges, Rejected, UNKNOWN_CLIENT};
pub use door::bans::{BanError, MAX_BAN_NOTE_BYTES, MAX_BANS};
pub use door::proxy;
pub use histogram::Histogram;
pub use lifecycle::attempt::EARLY_TIMEOUT;
#[cfg(feature = "backends")]
pub use lifecycle::departing::{Departing, MOST_DEPARTING};
pub use lifecycle::handover::Handover;
pub use lifecycle::last_words::{GoAwayCode, LAST_WORDS_BYTES};
#[cfg(feature = "upgrade")]
pub use lifecycle::moving::Moving;
pub use lifecycle::operator::{BanPage, KickError, MAX_PAGE, SessionInfo, SessionPage};
pub use lifecycle::resume::RESUME_REPLY_DELAY;
pub use lifecycle::timeouts::KICK_DRAIN_TIMEOUT;
#[cfg(feature = "backends")]
pub use shares::BackendControl;
pub use snapshot::{MAX_SNAPSHOT_BYTES, Part, SNAPSHOT_FORMAT, Snapshot, SnapshotError};
pub use uplink::link::HasLink;

use conns::Conns;
use conns::conn::Conn;
use conns::state::{Phase, State};
use conns::wait::Wait;
use door::limits::{Bucket, Storm};
use door::sources::SharedSources;
#[cfg(feature = "backends")]
use lifecycle::departing::Departures;
#[cfg(feature = "cluster")]
use lifecycle::moves::Moves;
use lifecycle::settled::Settling;
use memory::account::Account;
use sessions::ends::Ends;
use sessions::ids::ClientIds;
use sessions::{Place, Sessions};
pub(crate) use shares::TrunkShare;
use shares::{Bound, Shares};
use table::alarms::Alarms;
use table::spare::Spare;
use uplink::Uplink;
use uplink::line::Line;
use uplink::link::Link;
use uplink::queue::LinkQueue;

/// The maximum number of bytes that an established client hands over at a time, for fairness between clients that are all ready.
const READ_BYTES: usize = 64 * 1024;

/// The same for a client whose pace is limited: small, so that its debt after one read stays small.
const PACED_READ_BYTES: usize = 4 * 1024;

/// The edge machine of one shard.
///
/// # Contract
///
/// - Every `handle_*` takes the time. Time never goes back: an earlier time counts as the latest one seen.
/// - After any `handle_*` the adapter calls [`poll_client`](Edge::poll_client) until it is empty. For each connection it does what
///   [`client_duty`](Edge::client_duty) asks, until that is to read or to rest. A connection is returned once until something about it
///   changes again, and served once more when a stream that took no more can be written.
/// - It reads a stream that has bytes within [`read_budget`](Edge::read_budget), whether or not that stream takes output.
/// - It writes as much of [`link_output`](HasLink::link_output) as the link takes, and checks
///   [`link_wants_connect`](HasLink::link_wants_connect) and [`link_wants_close`](HasLink::link_wants_close) once per turn.
/// - It calls [`handle_timeout`](Edge::handle_timeout) at [`poll_timeout`](Edge::poll_timeout) or soon after.
/// - A call that is not due, and a [`ConnKey`] whose connection is gone, are harmless.
/// - Backpressure: what the adapter does not write stays here within the configured bounds, and what the machine does not want to read
///   stays with the kernel and so with the peer.
///
/// Output is made when it is asked for, and lent, not copied into the caller's buffer. A stream takes any part of it, and the rest must stay
/// in order and may have to be sent again in full on another connection. So the session's outbox is the only copy of a payload.
///
/// There is one of each: a copy would draw the same ids, nonces and challenges.
#[derive(Debug)]
pub struct Edge {
    config: EdgeConfig,
    keys: KeyPair,
    offer: Offer,
    /// Names this run of the edge in sessions of version 3. A process may continue the run of another one (SPEC 39).
    run: [u8; 8],
    /// The runs before this one.
    earlier_runs: Arc<[[u8; 8]]>,
    /// Grows with each process of this edge.
    term: u32,
    rng: ChaCha20Rng,
    ids: ClientIds,
    /// The ids of shards that an earlier process of this run had, and this one has not. The first shard has them.
    kept_ids: Vec<ClientIds>,
    /// Whether the first shard has sessions of such shards.
    takes_strays: bool,
    /// Whether sessions will be saved at the end, so that none has to make room then.
    saves: bool,
    mint: NonceMint,
    /// Seals the challenges of claims that cannot be proven.
    decoy: SharedKey,
    now: Time,
    conns: Conns,
    sessions: Sessions,
    sources: SharedSources,
    shares: Shares,
    storm: Storm,
    /// The pace of joins of version 3.
    join_pace: Bucket,
    /// How sessions of version 3 ended.
    ends: Ends,
    /// When connections of version 3 are looked at.
    alarms: Alarms,
    account: Account,
    uplink: Uplink,
    link_queue: LinkQueue,
    line: Line,
    spare: Spare,
    /// The allowance of answers to packets and frames that name nobody or are refused.
    answers: Bucket,
    /// The groups of the backend, with the indexes of their sessions.
    groups: BTreeMap<GroupId, BTreeSet<u32>>,
    /// The bytes that sessions count more than once: a packet for many is in memory once.
    counted_twice: CountedTwice,
    settling: Settling,
    /// What is left to take over of the link of another process, until its socket is there.
    #[cfg(feature = "upgrade")]
    moved_link: Option<Box<uplink::moved::MovedLink>>,
    /// What it has of sessions that move between edges.
    #[cfg(feature = "cluster")]
    moves: Moves,
    /// What it has of sessions that go to another backend.
    #[cfg(feature = "backends")]
    departures: Departures,
    /// Whether an operator wants no more sessions.
    is_draining: bool,
    shutdown_at: Option<Time>,
    counters: Counters,
    /// Records what the adapter tells.
    #[cfg(feature = "record")]
    recorder: Option<Box<record::Recorder>>,
}

impl Edge {
    /// Creates an empty machine. `keys` is the edge's identity for its clients and must outlive every session. `seed` is the source of all
    /// its randomness, and must be secret and different at every start.
    #[must_use]
    pub fn new(config: EdgeConfig, keys: KeyPair, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha20Rng::from_seed(seed);
        // From a stream of its own.
        let (mut of_run, mut run) = (rng.clone(), [0; 8]);
        of_run.set_stream(1);
        of_run.fill_bytes(&mut run);
        let mut draw = || {
            let mut key = [0; 16];
            rng.fill_bytes(&mut key);
            key
        };
        let ids = ClientIds::new(config.shard, draw());
        #[cfg(feature = "cluster")]
        let ids = ids.at_home(config.home);
        let mint = NonceMint::new(draw());
        let source_key = draw();
        let decoy = KeyPair::generate(&mut rng).agree(&keys.public());
        let offer = Offer::new(&keys);
        let shares = Shares::new(&config);
        Edge {
            uplink: Uplink::new(&config),
            link_queue: LinkQueue::new(&config.master, config.shards != 0),
            account: Account::new(shares.own(Bound::Memory)),
            config,
            keys,
            offer,
            run,
            earlier_runs: Arc::default(),
            term: 0,
            rng,
            ids,
            kept_ids: Vec::new(),
            takes_strays: false,
            saves: false,
            mint,
            decoy,
            now: Time::ZERO,
            conns: Conns::new(),
            sessions: Sessions::new(),
            sources: SharedSources::new(source_key),
            shares,
            storm: Storm::default(),
            join_pace: Bucket::full(Time::ZERO),
            ends: Ends::default(),
            alarms: Alarms::default(),
            line: Line::default(),
            spare: Spare::default(),
            answers: Bucket::full(Time::ZERO),
            groups: BTreeMap::new(),
            counted_twice: CountedTwice::default(),
            settling: Settling::default(),
            #[cfg(feature = "upgrade")]
            moved_link: None,
            #[cfg(feature = "cluster")]
            moves: Moves::default(),
            #[cfg(feature = "backends")]
            departures: Departures::default(),
            is_draining: false,
            shutdown_at: None,
            counters: Counters::default(),
            #[cfg(feature = "record")]
            recorder: None,
        }
    }

    /// Creates another shard of the process of `first`: they share the table of sources, and the bounds on all clients together.
    #[must_use]
    pub fn sibling_of(first: &Edge, config: EdgeConfig, seed: [u8; 32]) -> Self {
        Edge {
            sources: first.sources.clone(),
            shares: first.shares.sibling(&config),
            run: first.run,
            earlier_runs: Arc::clone(&first.earlier_runs),
            ..Edge::new(config, first.keys.clone(), seed)
        }
    }

    /// Sets the runs of this edge before this one, whose sessions are gone for good. Without them a client of an earlier run is told to look
    /// elsewhere (SPEC 23.2(f)). To be called before the first client connects.
    pub fn set_earlier_runs(&mut self, runs: &[[u8; 8]]) {
        noted!(self, Time::ZERO, EarlierRuns(runs.as_flattened()));
        self.earlier_runs = runs.into();
    }

    /// Sets the number by which a backend of version 3 of the link tells a restart of this edge from a second edge: it has to grow with each
    /// process (SPEC 34.4). To be called before the first link. Without it a backend refuses every edge after the first one.
    pub fn set_term(&mut self, term: u32) {
        noted!(self, Time::ZERO, Term(term));
        self.term = term;
        #[cfg(feature = "cluster")]
        self.tell_name();
    }

    /// Tells the link which of several edges this one is.
    #[cfg(feature = "cluster")]
    pub(crate) fn tell_name(&mut self) {
        let name = self.name();
        if let Uplink::Link(link) = &mut self.uplink {
            link.proving.set_name(name);
        }
    }

    /// Returns which of several edges this one is.
    #[cfg(feature = "cluster")]
    pub(crate) fn name(&self) -> Option<uplink::link::proof::Name> {
        (self.config.home > 0).then_some(uplink::link::proof::Name {
            home: self.config.home,
            term: self.term,
            run: self.run,
        })
    }

    /// Returns the name of this run, which later runs of this edge are to be given.
    #[must_use]
    pub fn run(&self) -> [u8; 8] {
        self.run
    }

    // ---- client connections

    /// Handles that a client, or the proxy in front of it, connected from `peer`. On `Err` the adapter drops the socket, and the machine
    /// keeps nothing.
    ///
    /// # Errors
    /// When a limit on connections is reached, `peer` must be a trusted proxy and is not, or the edge is shutting down.
    pub fn handle_accepted(&mut self, now: Time, peer: IpAddr) -> Result<ConnKey, Rejected> {
        self.handle_accepted_at(now, 0, peer, None)
    }

    /// Handles a connection like [`handle_accepted`](Edge::handle_accepted), at the listener of this number.
    ///
    /// If it is `introduced`, its first bytes are a PROXY header, which names the source that the limits apply to: one that has come, or one
    /// by the adapter (SPEC 16.2(f)). If it is not, there is none. `None`: the configuration of the listener tells. An adapter that took the
    /// header off tells by itself, since it may have another configuration for a moment.
    ///
    /// # Errors
    /// Those of `handle_accepted`.
    pub fn handle_accepted_at(
        &mut self,
        now: Time,
        listener: usize,
        peer: IpAddr,
        introduced: Option<bool>,
    ) -> Result<ConnKey, Rejected> {
        noted!(
            self,
            now,
            Accepted {
                listener,
                peer,
                introduced
            }
        );
        told!(
            self,
            self.step(now, |edge, now| edge.admit(now, listener, peer, introduced)),
            |admitted| match admitted {
                Ok(conn) => u64::from(conn.0.index) << 1,
                Err(rejected) => (rejected as u64) << 1 | 1,
            }
        )
    }

    /// Returns the maximum number of bytes to read from this client now. 0: do not read it until it is returned again.
    #[inline(always)]
    #[must_use]
    pub fn read_budget(&self, conn: ConnKey) -> usize {
        let Some(conn) = self.conns.find(conn) else {
            return 0;
        };
        match conn.state() {
            _ if self.shutdown_at.is_some() => 0,
            // It exceeded its pace.
            State::Established { .. } if conn.waits_for(Wait::Pace) => 0,
            State::Established { session } => {
                let session = self.sessions.live(*session);
                if session.is_paused() {
                    return 0;
                }
                if session.waiting {
                    return conn.last_read().min(READ_BYTES);
                }
                if conn.pace.is_some() {
                    return PACED_READ_BYTES;
                }
                self.scale_bounds()(READ_BYTES)
            }
            _ => self.unattached_budget(conn),
        }
    }

    /// Returns the maximum number of bytes to read from a client without a session now.
    #[inline(never)]
    fn unattached_budget(&self, conn: &Conn) -> usize {
        match conn.state() {
            State::Handshake(phase) if phase.is_paused() => 0,
            State::Handshake(Phase::Last(_)) => READ_BYTES,
            State::Handshake(_) => self
                .config
                .limits
                .handshake_max_bytes
                .saturating_add(conn.further_bytes())
                .saturating_sub(conn.taken_bytes())
                // Above the limit only if that was larger before: the next byte closes the connection.
                .max(1),
            // It is still read, so that its end is seen, and its bytes are discarded.
            State::Draining(_) => READ_BYTES,
            State::Closed(_) | State::Established { .. } => 0,
        }
    }

    /// Handles `bytes` from the client.
    pub fn handle_client_bytes(&mut self, now: Time, conn: ConnKey, bytes: &[u8]) {
        noted!(self, now, ClientBytes { conn, bytes });
        self.step(now, |edge, now| edge.take_client_bytes(now, conn, bytes));
    }

    #[inline(always)]
    fn take_client_bytes(&mut self, now: Time, conn: ConnKey, bytes: &[u8]) {
        let Some(connection) = self.conns.find(conn) else {
            return;
        };
        self.counters.client_bytes_in += bytes.len() as u64;
        match connection.state() {
            State::Established { session } => {
                let session = *session;
                let is_numbered = connection.is_numbered();
                if connection.has_ended() {
                    self.count_last_read(conn.0.index, bytes.len());
                }
                if is_numbered {
                    self.lend_read_buffer(conn.0.index);
                }
                self.forward(now, conn.0.index, session, bytes, bytes.len());
            }
            _ => return self.handle_unattached_bytes(now, conn.0.index, bytes),
        }
        self.after_read(now, conn.0.index);
    }

    /// Handles bytes from a client without a session.
    #[inline(never)]
    fn handle_unattached_bytes(&mut self, now: Time, index: u32, bytes: &[u8]) {
        match self.conns.live(index).state() {
            State::Handshake(Phase::Last(_)) | State::Draining(_) => {
                return self.discard(now, index, bytes.len());
            }
            State::Handshake(_) => self.handle_handshake_bytes(now, index, bytes),
            State::Established { .. } | State::Closed(_) => return,
        }
        self.after_read(now, index);
    }

    /// Counts what is held after a read from the client at `index`.
    #[inline(always)]
    fn after_read(&mut self, now: Time, index: u32) {
        self.conns.recount(index, &mut self.account);
        self.shed_load(now);
    }

    /// Handles that the client has closed its direction, behind bytes that were not read because its [`read_budget`](Edge::read_budget) is
    /// 0. If the reason is a lack of room on the link, the rest is read now, up to [`LAST_READ_BYTES`], and stays in its session's line:
    /// the connection is not kept until there is room (SPEC 10.4(f)).
    pub fn handle_client_ending(&mut self, now: Time, conn: ConnKey) {
        noted!(self, now, ClientEnding { conn });
        self.step(now, |edge, _| edge.let_read_last(conn));
    }

    fn let_read_last(&mut self, conn: ConnKey) {
        let Some(State::Established { session }) = self.conns.find(conn).map(Conn::state) else {
            return;
        };
        let index = conn.0.index;
        if self.sessions.live(*session).waiting && self.conns.live_mut(index).begin_last_read() {
            self.conns.mark_ready(index);
        }
    }

    /// Returns the session of this connection, if it is established.
    #[must_use]
    pub fn session_of(&self, conn: ConnKey) -> Option<ClientId> {
        match self.conns.find(conn)?.state() {
            State::Established { session } => Some(self.sessions.live(*session).id),
            State::Handshake(_) | State::Draining(_) | State::Closed(_) => None,
        }
    }

    /// Returns the connection that `conn` would replace if its next bytes prove its claim. The bytes that have arrived there must be read
    /// first, up to [`LAST_READ_BYTES`], or a takeover would discard them (SPEC 9.3(c)).
    #[must_use]
    pub fn takeover_of(&self, conn: ConnKey) -> Option<ConnKey> {
        let conn = self.conns.find(conn)?;
        let State::Handshake(Phase::Response) = conn.state() else {
            return None;
        };
        let session = self.sessions.live(self.sessions.lookup(conn.claim().id)?);
        let Place::Attached(old) = session.place else {
            return None;
        };
        Some(self.conns.key(old))
    }

    /// Handles that the client's connection is gone. `conn` is dead from now on.
    pub fn handle_client_closed(&mut self, now: Time, conn: ConnKey, cause: Closed) {
        noted!(self, now, ClientClosed { conn, cause });
        self.step(now, |edge, now| {
            if edge.conns.find(conn).is_some() {
                edge.lose_transport(now, conn.0.index, cause);
            }
        });
    }

    fn lose_transport(&mut self, now: Time, index: u32, cause: Closed) {
        tracing::debug!(conn = index, ?cause, "connection closed");
        match cause {
            Closed::Violation => self.count_violation(now, index),
            Closed::Eof => self.hear_last_words(index),
            Closed::Error | Closed::Asked => {}
        }
        self.remove_conn(now, index);
        self.shed_load(now);
    }

    /// Returns what this client's connection needs next.
    ///
    /// Bytes to write are made when they are asked for: a version that seals makes records then, of all that waits at that moment. So ask
    /// when the transport may take some. Bytes that were returned and not [written](Edge::handle_client_written) are returned again, and
    /// first.
    #[inline]
    #[must_use]
    pub fn client_duty(&mut self, conn: ConnKey) -> Duty<'_> {
        noted!(self, Time::ZERO, ClientDuty { conn });
        let Some(found) = self.conns.find(conn) else {
            return Duty::Rest;
        };
        let session = match found.state() {
            State::Established { session } => *session,
            _ => return self.unattached_duty(conn),
        };
        if found.is_numbered() {
            return self.numbered_duty(conn, session);
        }
        let outbox = &self.sessions.live(session).outbox;
        if !outbox.has_unsent() && found.control().is_empty() {
            return match self.read_budget(conn) {
                0 => Duty::Rest,
                bytes => Duty::Read(bytes),
            };
        }
        if outbox.is_sharing() {
            return self.sharing_duty(conn, session);
        }
        let control = self.conns.live(conn.0.index).control();
        Duty::Write([control, self.sessions.live(session).outbox.own_unsent()])
    }

    /// Returns what a connection is to write whose packets are not all its session's own.
    #[cold]
    #[inline(never)]
    fn sharing_duty(&self, conn: ConnKey, session: u32) -> Duty<'_> {
        let unsent = self.sessions.live(session).outbox.unsent();
        Duty::Write([self.conns.live(conn.0.index).control(), unsent])
    }

    /// Returns what a connection needs next whose packets are numbered.
    #[inline(never)]
    fn numbered_duty(&mut self, conn: ConnKey, session: u32) -> Duty<'_> {
        let found = self.conns.live(conn.0.index);
        let entry = self.sessions.live(session);
        if !found.has_output(&entry.outbox, entry.numbers()) && found.control().is_empty() {
            return match self.read_budget(conn) {
                0 => Duty::Rest,
                bytes => Duty::Read(bytes),
            };
        }
        self.make_output(conn.0.index);
        let lent = self.sessions.live_mut(session).lend();
        Duty::Write(self.conns.live_mut(conn.0.index).output(Some(lent)))
    }

    /// Returns what a connection without a session needs next.
    #[inline(never)]
    fn unattached_duty(&mut self, conn: ConnKey) -> Duty<'_> {
        let index = conn.0.index;
        let found = self.conns.live(index);
        let waits = match found.state() {
            State::Closed(kind) => return Duty::Close(*kind),
            State::Handshake(Phase::Elsewhere(to)) => return Duty::HandOver(self.place_of(to)),
            State::Handshake(Phase::Entropy { .. }) => return Duty::Entropy,
            State::Draining(draining) => found.has_output(&draining.outbox, None),
            State::Handshake(_) | State::Established { .. } => false,
        };
        if waits || !found.control().is_empty() {
            return Duty::Write(self.conns.live_mut(index).output(None));
        }
        match self.read_budget(conn) {
            0 => Duty::Rest,
            bytes => Duty::Read(bytes),
        }
    }

    /// Handles that the client's transport took the first `bytes` bytes that [`client_duty`](Edge::client_duty) asked to write.
    pub fn handle_client_written(&mut self, now: Time, conn: ConnKey, bytes: usize) {
        noted!(self, now, ClientWritten { conn, bytes });
        self.step(now, |edge, now| {
            if edge.conns.find(conn).is_some() {
                edge.counters.client_bytes_out += bytes as u64;
                edge.written(now, conn.0.index, bytes);
            }
        });
    }

    /// Returns a connection whose [duty](Edge::client_duty) has changed.
    #[inline]
    pub fn poll_client(&mut self) -> Option<ConnKey> {
        noted!(self, Time::ZERO, PollClient);
        let ready = self.conns.pop_ready();
        #[cfg(feature = "record")]
        if let Some(recorder) = &mut self.recorder {
            recorder.polled(ready);
        }
        ready
    }

    // ---- what it shows

    /// Returns whether there is no connection, so that buffers for packets of clients need not be kept.
    #[must_use]
    pub fn is_deserted(&self) -> bool {
        self.conns.len() == 0
    }

    /// Returns the counters since the start.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Returns the current gauges.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        Gauges {
            connections: self.conns.len(),
            half_open: self.conns.half_open(),
            // All shards have one table, which only one of them reports.
            sources: match self.config.shard.as_u8() {
                0 => self.sources.lock().len(),
                _ => 0,
            },
            sessions: self.sessions.len(),
            away: self.sessions.away(),
            ending: self.sessions.ending(),
            waiting: self.line.len(),
            link_packets: self.link_queue.packets(),
            link_bytes: self.link_queue.packets_bytes(),
            held_bytes: self.held_bytes(),
            link_is_up: self.uplink.link().is_some_and(Link::is_up)
                && !self.link_queue.version.is_held(),
            link_is_doubted: self.uplink.link().is_some_and(Link::is_doubted),
            link_is_unasked: self.link_queue.version.is_unasked(),
            link_is_unproven: self
                .uplink
                .link()
                .is_some_and(|link| link.proving.is_refused()),
            #[cfg(feature = "cluster")]
            link_is_displaced: self
                .uplink
                .link()
                .is_some_and(|link| link.proving.is_displaced()),
            is_draining: self.is_draining,
            bans: match self.config.shard.as_u8() {
                0 => self.shares.bans(),
                _ => 0,
            },
        }
    }

    /// Takes a step (SPEC 8.1): time goes on, something is handled, and the bounds that shards share are updated. Every call of the adapter
    /// that changes something is one step.
    #[inline(always)]
    pub(crate) fn step<T>(&mut self, now: Time, handle: impl FnOnce(&mut Edge, Time) -> T) -> T {
        let now = self.advance(now);
        let outcome = handle(self, now);
        self.settle();
        outcome
    }

    #[inline]
    fn settle(&mut self) {
        if !self.shares.is_alone() {
            self.tell_shares();
        }
    }

    fn tell_shares(&mut self) {
        let held = [
            self.conns.len() - self.conns.half_open(),
            self.conns.half_open(),
            self.session_places(),
            self.sessions.away(),
            self.held_bytes(),
        ];
        self.shares.settle(held, self.line.len());
    }

    #[cold]
    fn count_last_read(&mut self, index: u32, bytes: usize) {
        self.conns.live_mut(index).count_last_read(bytes);
    }

    /// Returns the part of the shared bounds of a trunk, whose first shard this is.
    pub(crate) fn trunk_share(&self) -> TrunkShare {
        self.shares.of_trunk(self.config.shard)
    }

    /// Time never goes back.
    #[inline]
    fn advance(&mut self, now: Time) -> Time {
        self.now = self.now.max(now);
        self.now
    }
}
