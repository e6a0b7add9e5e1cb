//! The reference model: what SPEC.txt requires of an edge, told the same events as the edge.
//!
//! It was written from SPEC.txt alone. The model is told of an event before the edge and derives what must follow. Afterwards
//! [`Model::check`] compares that with what the edge shows. An effect without its cause and a cause without its effect are both violations.
//!
//! In one place SPEC leaves the edge a choice that the model cannot see: while the link queue is full, which client's packet goes next.
//! Packets that may or may not have entered the queue are *uncertain*. What depends on them is permitted from the first moment at which it
//! can happen, and required from the last.

mod account;
mod admission;
mod announce;
mod check;
mod conn;
mod fingerprint;
mod handshake;
mod link;
mod memory;
mod pace;
pub mod proxy;
mod session;
mod stopping;
mod violation;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use check::View;
pub use violation::{RULES, Violation};

use crate::codec::Frames;
use crate::plan::Options;

use admission::{Admission, AdmissionLimits};
use conn::{Conn, Moment, State};
use link::{Item, Link};
use memory::Memory;
use pace::PaceLimits;
use session::Session;

/// Longest body of a frame before a connection is established (SPEC 2.2).
const HANDSHAKE_BODY_BYTES: u32 = 128;
/// The maximum number of bytes that an edge takes before a connection is established (SPEC 8.2(c)).
const HANDSHAKE_BYTES: usize = 512;
/// The time from the claim to the challenge (SPEC 5.1(b)).
const REPLY_DELAY: u64 = 1_000_000;
/// The time from a kick to the end of its connection (SPEC 9.5(a)).
const DRAIN_TIME: u64 = 1_000_000_000;
/// The number of takeovers of an attached session before they wait. One is regained, and a waiting one is tried, each second (9.3(e)).
const TAKEOVERS: u64 = 10;
const TAKEOVER_WAIT: u64 = 1_000_000_000;
/// The number of resumes from which newcomers may have to wait, and how long a resume is remembered here (SPEC 10.6(g)).
const STORM_RESUMES: usize = 16;
const STORM_MEMORY: u64 = 2_000_000_000;
/// The time after which a session counts for that again.
const STORM_COUNTS_AGAIN: u64 = 60_000_000_000;
/// The number of answers per second to packets that name no session (SPEC 7.4(b)).
const UNKNOWN_ANSWERS: usize = 1_000;

/// The bounds and times given to the edge under test.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) handshake_timeout: u64,
    pub(crate) frame_timeout: u64,
    pub(crate) write_timeout: u64,
    pub(crate) stale_timeout: u64,
    pub(crate) reap_interval: u64,
    pub(crate) max_stale: usize,
    pub(crate) missed_packets: usize,
    pub(crate) missed_bytes: usize,
    pub(crate) queue_packets: usize,
    pub(crate) queue_bytes: usize,
    pub(crate) link_packets: usize,
    pub(crate) link_bytes: usize,
    pub(crate) max_up: u32,
    pub(crate) max_down: u32,
    pub(crate) announce_all: bool,
    pub(crate) max_sessions: usize,
    pub(crate) admission: AdmissionLimits,
    pub(crate) pace: PaceLimits,
    /// Whether a header must come before a connection's first frame.
    pub(crate) proxied: bool,
    /// The memory limit in bytes; 0 for none.
    pub(crate) max_memory: usize,
}

impl Limits {
    fn new(options: &Options) -> Limits {
        let nanos = |millis: u64| millis.saturating_mul(1_000_000);
        Limits {
            handshake_timeout: nanos(options.handshake_timeout_ms),
            frame_timeout: nanos(options.frame_timeout_ms),
            write_timeout: nanos(options.write_timeout_ms),
            stale_timeout: nanos(options.stale_timeout_ms),
            reap_interval: nanos(options.reap_interval_ms),
            max_stale: options.max_stale_clients as usize,
            missed_packets: options.missed_packets as usize,
            missed_bytes: options.missed_bytes as usize,
            queue_packets: options.client_queue_packets as usize,
            queue_bytes: options.client_queue_bytes as usize,
            link_packets: options.link_queue_packets as usize,
            link_bytes: options.link_queue_bytes as usize,
            max_up: options.max_up_bytes as u32,
            max_down: options.max_down_bytes as u32,
            announce_all: options.announce_all != 0,
            max_sessions: options.max_sessions as usize,
            admission: AdmissionLimits::new(options),
            pace: PaceLimits::new(options),
            proxied: options.proxy != 0,
            max_memory: options.max_memory_bytes as usize,
        }
    }
}

/// Counts of the events that a block of seeds must reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Resumes, including takeovers.
    pub resumed: u64,
    /// Resumes after which missed packets were sent.
    pub replayed: u64,
    /// Resumes of a session whose old connection was alive.
    pub takeover: u64,
    /// Takeovers that had to wait.
    pub takeover_waited: u64,
    /// Attempts refused after their response.
    pub refused: u64,
    /// Handshakes that exceeded their deadline.
    pub handshake_timeout: u64,
    /// Frames that exceeded their deadline.
    pub frame_timeout: u64,
    /// Clients not read further because of their pace.
    pub paced: u64,
    /// Clients that were within their pace again.
    pub paced_on: u64,
    /// Connections closed for their pace.
    pub too_fast: u64,
    /// Connections closed for their silence.
    pub idle: u64,
    /// Connections that bypassed the proxy.
    pub past_the_proxy: u64,
    /// Complete PROXY headers.
    pub proxied: u64,
    /// Connections closed because they did not begin with a PROXY header.
    pub bad_header: u64,
    /// Connections refused by their source's limits, once a header had named it.
    pub refused_by_header: u64,
    /// Packets whose bound was reduced because memory was short.
    pub squeezed: u64,
    /// Newcomers refused because memory was full.
    pub memory_full: u64,
    /// Connections closed for the bytes they held.
    pub closed_for_memory: u64,
    /// Runs that the model could not follow to their end: SPEC leaves open what the edge had to do, at a watermark (10.5) or at a cap
    /// (9.7(b)).
    pub lost: u64,
    /// Links lost.
    pub link_lost: u64,
    /// Packets cut by the loss of a link.
    pub link_cut: u64,
    /// Packets down that were cut by the end of a connection and kept.
    pub down_cut: u64,
    /// Packets up that had to wait for room.
    pub link_full: u64,
    /// Frames of the backend that were dropped.
    pub malformed: u64,
    /// Frames of the backend that lost the link.
    pub link_too_long: u64,
    /// Links reset because their peer is no backend.
    pub link_foreign: u64,
    /// Connections closed for what they sent before they were established.
    pub handshake_violation: u64,
    /// Connections closed for a frame above the limit.
    pub data_violation: u64,
    /// Visitors admitted during a flood.
    pub visited: u64,
    /// Herds that came back.
    pub herded: u64,
    /// Connections rejected at once.
    pub rejected: u64,
    /// Connections rejected because their listener had as many as it may.
    pub listener_full: u64,
    /// Connections rejected for what their source had done.
    pub in_penalty: u64,
    /// Half-open connections closed to make room for newer ones.
    pub made_room: u64,
    /// Sessions refused because the maximum was reached.
    pub sessions_full: u64,
    /// Sessions refused because no place was left that newcomers may have.
    pub house_full: u64,
    /// Resumes that waited for a place.
    pub place_awaited: u64,
    /// Links that began with announcements.
    pub announced: u64,
    /// Orderly ends of the edge with data still waiting.
    pub shut_down: u64,
    /// Orderly ends that handed over everything that waited.
    pub handed_over: u64,
    /// Sessions that ended, by reason.
    pub ended: BTreeMap<&'static str, u64>,
}

impl Reach {
    /// Returns every counter with its name.
    #[must_use]
    pub fn entries(&self) -> Vec<(String, u64)> {
        let counts = [
            ("resumed", self.resumed),
            ("replayed", self.replayed),
            ("takeover", self.takeover),
            ("takeover waited", self.takeover_waited),
            ("refused", self.refused),
            ("handshake timeout", self.handshake_timeout),
            ("frame timeout", self.frame_timeout),
            ("beyond its pace", self.paced),
            ("within its pace again", self.paced_on),
            ("too fast", self.too_fast),
            ("silent", self.idle),
            ("squeezed", self.squeezed),
            ("memory full", self.memory_full),
            ("closed for memory", self.closed_for_memory),
            ("not followed", self.lost),
            ("past the proxy", self.past_the_proxy),
            ("behind a proxy", self.proxied),
            ("no PROXY header", self.bad_header),
            ("refused by its header", self.refused_by_header),
            ("link lost", self.link_lost),
            ("link cut", self.link_cut),
            ("link full", self.link_full),
            ("packet down cut", self.down_cut),
            ("malformed from the backend", self.malformed),
            ("link reset for a length", self.link_too_long),
            ("link reset for its peer", self.link_foreign),
            ("handshake violation", self.handshake_violation),
            ("data violation", self.data_violation),
            ("visited", self.visited),
            ("herded", self.herded),
            ("rejected", self.rejected),
            ("rejected by a full listener", self.listener_full),
            ("rejected for a penalty", self.in_penalty),
            ("made room", self.made_room),
            ("sessions full", self.sessions_full),
            ("house full", self.house_full),
            ("waited for a place", self.place_awaited),
            ("announced", self.announced),
            ("shut down", self.shut_down),
            ("shut down, all handed over", self.handed_over),
        ];
        let full = [
            "send queue full",
            "missed packet buffer full",
            "client is away",
        ];
        let no_room = full
            .iter()
            .filter_map(|reason| self.ended.get(reason))
            .sum();
        let mut entries: Vec<_> = counts
            .iter()
            .map(|(name, count)| (name.to_string(), *count))
            .collect();
        entries.extend(
            self.ended
                .iter()
                .map(|(reason, count)| (format!("ended: {reason}"), *count)),
        );
        entries.push(("ended: for want of room".to_string(), no_room));
        entries
    }
}

/// The model. See the module's documentation.
#[expect(
    missing_debug_implementations,
    reason = "a failure shows what was seen, not this"
)]
#[derive(Clone)]
pub struct Model {
    limits: Limits,
    now: u64,
    edge_key: Vec<u8>,
    conns: BTreeMap<u32, Conn>,
    sessions: BTreeMap<u64, Session>,
    /// Every id that was issued.
    issued: BTreeSet<u64>,
    /// What must still go to the backend, by id and in order.
    outbox: BTreeMap<u64, VecDeque<Item>>,
    /// The total in `outbox`, never less than what the edge's link queue holds.
    out_packets: usize,
    out_bytes: usize,
    /// Items that may not have entered the link queue.
    uncertain: usize,
    link: Link,
    admission: Admission,
    memory: Memory,
    /// The number of times that a connection was attached to a session.
    attachments: u64,
    /// Connections, counted in the order of their arrival.
    accepts: u64,
    /// Waits, counted in the order in which they began.
    waits: u64,
    /// When packets that name no session arrived within the last second.
    unknown_at: VecDeque<u64>,
    /// When sessions were resumed recently.
    resumed_at: VecDeque<u64>,
    /// Connections to compare after this event.
    dirty: BTreeSet<u32>,
    /// Public keys that are valid points.
    valid_keys: BTreeSet<Vec<u8>>,
    /// Responses made with a session's key to the challenge of one connection: (session, bytes).
    good_responses: BTreeMap<u32, (u64, Vec<u8>)>,
    /// Sessions that have expired so far.
    expired: u64,
    /// Sessions in the order in which they went away.
    departures: u64,
    /// Connections for which this step shows whether they wait for the session's line (9.3(e)).
    undecided: Vec<u32>,
    /// Whether the event is the end of a connection.
    ended_by_peer: bool,
    /// Connections in JOIN that this step closes to make room.
    one_in_join_goes: usize,
    /// Whether a response was not acceptable in this step.
    refused_now: bool,
    /// When a requested orderly end must be complete.
    shutdown_at: Option<u64>,
    /// Whether the model can no longer follow: SPEC leaves open what the edge must do, and it cannot be observed.
    lost: bool,
    violation: Option<Violation>,
    reach: Reach,
}

/// How a connection's transport ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By the peer or the network.
    ByPeer,
    /// By the adapter, because the edge wanted it.
    ByEdge,
}

impl Model {
    /// Creates a model of an edge that was just started with these options and this public key.
    #[must_use]
    pub fn new(options: &Options, edge_key: &[u8]) -> Model {
        Model {
            limits: Limits::new(options),
            now: 0,
            edge_key: edge_key.to_vec(),
            conns: BTreeMap::new(),
            sessions: BTreeMap::new(),
            issued: BTreeSet::new(),
            outbox: BTreeMap::new(),
            out_packets: 0,
            out_bytes: 0,
            uncertain: 0,
            link: Link::default(),
            admission: Admission::default(),
            memory: Memory::default(),
            attachments: 0,
            accepts: 0,
            waits: 0,
            unknown_at: VecDeque::new(),
            resumed_at: VecDeque::new(),
            dirty: BTreeSet::new(),
            valid_keys: BTreeSet::new(),
            good_responses: BTreeMap::new(),
            expired: 0,
            departures: 0,
            undecided: Vec::new(),
            ended_by_peer: false,
            one_in_join_goes: 0,
            refused_now: false,
            shutdown_at: None,
            lost: false,
            violation: None,
            reach: Reach::default(),
        }
    }

    /// Returns the first violation, if there was one.
    #[must_use]
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Returns the counts so far.
    #[must_use]
    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Returns how often a connection without a session had a right to change one: by its proof (a resume that the same bytes may have
    /// ended again), or because a session's connection had to make room for it before its Ping (10.6(c)).
    pub(crate) fn rightful_changes(&self) -> u64 {
        self.attachments + self.reach.made_room
    }

    /// Returns the connections that the last event may have changed.
    pub fn changed(&self) -> impl Iterator<Item = u32> + '_ {
        self.dirty.iter().copied()
    }

    /// Returns the latest instant at which something must happen by itself.
    pub(crate) fn next_due_at(&self) -> Option<u64> {
        self.next_due().map(|due| due.at)
    }

    /// Returns whether the model can no longer follow the edge, so that the run must end.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// Gives up: SPEC leaves open what the edge does next, and it cannot be observed.
    fn lose_sight(&mut self) {
        self.lost = true;
    }

    /// Records a violation. The first one is kept.
    pub fn fail(&mut self, id: &'static str, section: &'static str, text: String) {
        if self.lost {
            return;
        }
        let at_nanos = self.now;
        self.violation.get_or_insert(Violation {
            id,
            section,
            at_nanos,
            text,
        });
    }

    /// Begins a wait.
    fn wait(&mut self) -> Moment {
        self.waits += 1;
        Moment {
            at: self.now,
            order: self.waits,
        }
    }

    /// Records that a visitor was admitted.
    pub fn visited(&mut self) {
        self.reach.visited += 1;
    }

    /// Records that all clients are back.
    pub fn herded(&mut self) {
        self.reach.herded += 1;
    }

    /// Records that these bytes are a valid public key.
    pub fn note_key(&mut self, key: &[u8]) {
        self.valid_keys.insert(key.to_vec());
    }

    /// Records that this response to the challenge of `conn` was made with the key of session `sid`.
    pub fn note_response(&mut self, conn: u32, sid: u64, response: &[u8]) {
        self.good_responses.insert(conn, (sid, response.to_vec()));
    }

    /// Handles bytes of a connection that the edge is given.
    pub fn client_bytes(&mut self, now: u64, conn: u32, bytes: &[u8]) {
        self.now = now;
        self.dirty.insert(conn);
        self.note_held();
        let Some(state) = self.conns.get_mut(&conn).filter(|state| state.reads()) else {
            return;
        };
        state.frames.push(bytes);
        state.pace.unspent = bytes.len();
        if !state.is_established() && state.state != State::Proxy {
            state.taken += bytes.len();
            let taken = state.taken;
            if taken > HANDSHAKE_BYTES {
                self.fail(
                    "B1",
                    "8.2(c)",
                    format!("conn {conn}: the edge took {taken} bytes of an unfinished handshake"),
                );
            }
        }
        self.read_proxy_header(conn);
        self.parse(conn);
        self.shed_load(false);
    }

    /// Handles the end of a connection's transport.
    pub(crate) fn client_closed(&mut self, now: u64, conn: u32, by: Ended) {
        self.now = now;
        if let Some(sid) = self.conns.get(&conn).and_then(|state| state.sid)
            && by == Ended::ByPeer
        {
            self.ended_by_peer = true;
            self.go_away(sid);
            self.ended_by_peer = false;
        }
        if let Some(state) = self.conns.remove(&conn) {
            self.release(&state);
        }
        self.good_responses.remove(&conn);
        self.dirty.remove(&conn);
        self.shed_load(false);
    }

    /// Handles that the link has connected.
    pub fn link_connected(&mut self, now: u64) {
        self.now = now;
        self.link.up = true;
        self.link.must_close = false;
        self.link.was_good = false;
        self.link.malformed = 0;
        self.link.incoming = Frames::default();
        self.link.outgoing = Frames::default();
        self.begin_announcing();
    }

    /// Handles the end of the link, or of an attempt to connect it.
    pub fn link_closed(&mut self, now: u64) {
        self.now = now;
        if self.link.up {
            self.reach.link_lost += 1;
            self.reach.link_cut += u64::from(self.link.outgoing.held() > 0);
            self.note_cut();
        }
        self.link.up = false;
        self.link.must_close = false;
    }

    /// Handles that the edge is told the time: what is due happens.
    pub fn time(&mut self, now: u64) {
        self.now = now;
        while let Some(due) = self.next_due().filter(|due| due.at <= now) {
            self.fire(due.what);
        }
        self.shed_load(false);
    }
}
