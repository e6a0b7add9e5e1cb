//! The core as a stage: no sockets, virtual time, and bytes cut as the run chooses.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use sim::cases::{Incoming, Stage};
use sim::codec::Frames;
use voltlane_app::Resources;
use voltlane_app::config::{Loaded, Sources};
use voltlane_core::Time;
use voltlane_core::edge::HasLink;
use voltlane_core::edge::testkit::Adapter;
use voltlane_core::edge::{
    CloseKind, CloseReason, Closed, ConnKey, Counters, DeadlineReason, Edge, EdgeConfig, EndReason,
    Gauges, LinkProtocol, Rejected,
};
use voltlane_core::keys::KeyPair;

/// How the bytes of a case's own lines are cut. Writes are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Each write in one read.
    Whole,
    /// One byte in each read, and one byte in each write of the edge.
    Bytes,
    /// This write in two reads.
    Split { write: usize, at: usize },
    /// This write only up to here, followed by the end of the stream.
    Eof { write: usize, at: usize },
}

/// Longer than anything in a case lasts.
const ALL_OVER: Duration = Duration::from_secs(3 * 3_600);

/// What an edge keeps of a session whose client does not know that it has ended.
const REMEMBERED_BYTES: u64 = 128;
/// The maximum number of turns of a write.
const ROUNDS: u32 = 1_000_000;
/// The maximum number of deadlines at one instant.
const DUE_AT_ONCE: u32 = 1_000;

pub(crate) struct Core {
    edge: Edge,
    now: Time,
    cut: Cut,
    conns: BTreeMap<String, Conn>,
    link: Link,
    /// Whether a backend may ask for version 3 of the link, so that an edge that has one may hold it, and keeps what nobody acknowledges.
    may_be_asked: bool,
    /// How often version 3 needed entropy. It gets 32 bytes of that number.
    draws: u8,
    /// The length of each write.
    pub(crate) writes: Vec<usize>,
    bytes_in: usize,
}

#[derive(Default)]
struct Conn {
    key: Option<ConnKey>,
    /// Bytes that were sent and that the edge has not read yet.
    sent: Vec<u8>,
    stalled: bool,
    frames: Frames,
    /// How the edge ended it, until a line of the case asks.
    ended: Option<Incoming>,
}

#[derive(Default)]
struct Link {
    stalled: bool,
    frames: Frames,
    dropped: bool,
}

/// Returns a configuration as an edge reads it from its file.
fn config_of(text: &str) -> EdgeConfig {
    let sources = Sources {
        file: Some(("a case".into(), text.into())),
        ..Sources::default()
    };
    let loaded = Loaded::from_sources(&sources);
    let settings = loaded
        .unwrap_or_else(|problems| panic!("{problems}"))
        .settings;
    settings.edge_config(Resources::default())
}

impl Core {
    pub(crate) fn new(config: &str, cut: Cut) -> Core {
        let keys = KeyPair::from_bytes(&[0x11; 32]).expect("a key");
        let config = config_of(config);
        let mut core = Core {
            may_be_asked: config.master.protocol != LinkProtocol::V2,
            edge: Edge::new(config, keys, [7; 32]),
            now: Time::from_millis(1_000),
            cut,
            conns: BTreeMap::new(),
            link: Link::default(),
            draws: 0,
            writes: Vec::new(),
            bytes_in: 0,
        };
        core.link_comes();
        core
    }

    /// Returns the pieces of the next write, and whether the stream ends after them.
    fn pieces<'b>(&mut self, bytes: &'b [u8]) -> (Vec<&'b [u8]>, bool) {
        let number = self.writes.len();
        self.writes.push(bytes.len());
        self.bytes_in += bytes.len();
        match self.cut {
            Cut::Bytes => (bytes.chunks(1).collect(), false),
            Cut::Split { write, at } if write == number => {
                (vec![&bytes[..at], &bytes[at..]], false)
            }
            Cut::Eof { write, at } if write == number => (vec![&bytes[..at]], true),
            _ => (vec![bytes], false),
        }
    }

    fn deliver(&mut self, conn: &str, bytes: &[u8]) {
        let conn = self.conns.get_mut(conn).expect("a connection of that name");
        if conn.key.is_some() {
            conn.sent.extend_from_slice(bytes);
        }
        self.settle();
    }

    /// Does everything that is to be done at this instant.
    fn settle(&mut self) {
        let step = if self.cut == Cut::Bytes {
            1
        } else {
            usize::MAX
        };
        for round in 0.. {
            assert!(round < ROUNDS, "there is always more to do");
            let mut idle = true;
            for conn in self.conns.values_mut() {
                let Some(key) = conn.key else { continue };
                let draws = &mut self.draws;
                let drew = self.edge.give_entropy(self.now, key, || {
                    *draws += 1;
                    [*draws; 32]
                });
                idle &= !drew;
                let budget = self.edge.read_budget(key).min(conn.sent.len());
                if budget > 0 {
                    let bytes: Vec<u8> = conn.sent.drain(..budget).collect();
                    self.edge.handle_client_bytes(self.now, key, &bytes);
                    idle = false;
                }
                let output = first_of(self.edge.client_output(key), step);
                if !output.is_empty() && !conn.stalled {
                    let taken = output.len();
                    conn.frames.push(output);
                    self.edge.handle_client_written(self.now, key, taken);
                    idle = false;
                }
                if let Some(kind) = self.edge.close_if_asked(self.now, key) {
                    conn.ended = Some(match kind {
                        CloseKind::Graceful => Incoming::Closed,
                        CloseKind::Abort => Incoming::Cut,
                    });
                    conn.key = None;
                    conn.sent.clear();
                    idle = false;
                }
            }
            idle &= self.edge.listed().count() == 0;
            if self.edge.link_wants_close() {
                self.edge.handle_link_closed(self.now, Closed::Asked);
                self.link.dropped = true;
                idle = false;
            }
            let output = first_of(self.edge.link_output(), step);
            if !output.is_empty() && !self.link.stalled {
                let taken = output.len();
                self.link.frames.push(output);
                self.edge.handle_link_written(self.now, taken);
                idle = false;
            }
            if idle {
                return self.check();
            }
        }
    }

    /// Checks that waiting bytes are bounded by what was sent: a tag makes 13 bytes of an empty packet's 4, plus notices and the
    /// handshake's own packets.
    fn check(&self) {
        let held = self.edge.gauges().held_bytes;
        let most = 4 * self.bytes_in + 4_096;
        assert!(
            held <= most,
            "{held} bytes held of {} that came",
            self.bytes_in
        );
    }

    fn is_linked(&self) -> bool {
        self.edge.gauges().link_is_up
    }

    /// Checks that nothing is left in the end: every connection and session ends, and everything that waited is delivered or given up.
    pub(crate) fn expect_nothing_left(&mut self) {
        let names: Vec<String> = self.conns.keys().cloned().collect();
        for name in names {
            self.end(&name, true);
        }
        self.link.stalled = false;
        if !self.may_be_asked && !self.is_linked() {
            self.link_comes();
        }
        self.settle();
        self.wait(ALL_OVER);
        let mut left = self.edge.gauges();
        left.sources = 0;
        if self.draws > 0 && !self.may_be_asked {
            // Ends that clients of version 3 were not told (SPEC 23.2(g)).
            let ended = self.edge.counters().ended.iter().sum::<u64>();
            assert!(left.held_bytes as u64 <= ended * REMEMBERED_BYTES);
            left.held_bytes = 0;
        }
        let mut nothing = Gauges::default();
        nothing.link_is_up = true;
        if self.may_be_asked {
            // The last backend may have gone without an acknowledgement. Then its frames wait, and sessions whose end is in one of them.
            (left.link_packets, left.link_bytes, left.held_bytes) = (0, 0, 0);
            (left.link_is_up, left.link_is_doubted) = (true, false);
            (left.link_is_unasked, left.link_is_unproven) = (false, false);
            left.sessions -= left.ending;
            left.ending = 0;
        }
        assert_eq!(left, nothing);
    }
}

impl Stage for Core {
    fn connect(&mut self, name: &str, from: IpAddr) -> bool {
        if let Some(old) = self.conns.remove(name) {
            self.conns.insert(format!("{name}'"), old);
        }
        let accepted = self.edge.handle_accepted(self.now, from);
        if let Ok(key) = accepted {
            let conn = Conn {
                key: Some(key),
                ..Conn::default()
            };
            self.conns.insert(name.to_owned(), conn);
        }
        self.settle();
        accepted.is_ok()
    }

    fn write(&mut self, conn: &str, bytes: &[u8]) -> bool {
        let (pieces, ends) = self.pieces(bytes);
        for piece in pieces {
            self.deliver(conn, piece);
        }
        if ends {
            self.end(conn, true);
        }
        !ends
    }

    fn write_on_the_way(&mut self, conn: &str, bytes: &[u8]) {
        self.bytes_in += bytes.len();
        self.deliver(conn, bytes);
    }

    fn end(&mut self, conn: &str, in_order: bool) {
        let conn = self.conns.get_mut(conn).expect("a connection of that name");
        let cause = if in_order { Closed::Eof } else { Closed::Error };
        if let Some(key) = conn.key.take() {
            self.edge.handle_client_closed(self.now, key, cause);
        }
        self.settle();
    }

    fn set_reading(&mut self, conn: &str, reading: bool) {
        self.conns.get_mut(conn).expect("a connection").stalled = !reading;
        self.settle();
    }

    fn take(&mut self, conn: &str, bytes: usize) {
        let conn = self.conns.get_mut(conn).expect("a connection");
        let key = conn.key.expect("an open one");
        conn.frames
            .push(&self.edge.client_takes(self.now, key, bytes));
        self.settle();
    }

    fn incoming(&mut self, conn: &str) -> Incoming {
        let Some(conn) = self.conns.get_mut(conn) else {
            return Incoming::Nothing;
        };
        match conn.frames.next_body(u32::MAX) {
            Ok(Some(body)) => Incoming::Body(body),
            _ => conn.ended.take().unwrap_or(Incoming::Nothing),
        }
    }

    fn sees_silence(&self) -> bool {
        true
    }

    fn link_write(&mut self, bytes: &[u8]) -> bool {
        let (pieces, ends) = self.pieces(bytes);
        for piece in pieces {
            let held_up = self.is_linked() && self.edge.link_read_budget() == 0;
            assert!(!held_up, "the backend is not read");
            self.edge.handle_link_bytes(self.now, piece);
            self.settle();
        }
        if ends {
            self.link_end(true);
        }
        !ends
    }

    fn link_end(&mut self, in_order: bool) {
        let cause = if in_order { Closed::Eof } else { Closed::Error };
        self.edge.handle_link_closed(self.now, cause);
        self.settle();
    }

    fn link_comes(&mut self) {
        for _ in 0..10_000 {
            if self.edge.link_wants_connect(self.now) {
                self.edge.link_up(self.now);
                self.link.frames = Frames::default();
                self.link.dropped = false;
                return self.settle();
            }
            self.now = self.now + Duration::from_millis(1);
            self.edge.handle_timeout(self.now);
        }
        panic!("the edge does not dial");
    }

    fn set_link_reading(&mut self, reading: bool) {
        self.link.stalled = !reading;
        self.settle();
    }

    fn link_take(&mut self, bytes: usize) {
        let output = self.edge.link_takes(self.now, bytes);
        self.link.frames.push(&output);
        self.settle();
    }

    fn link_incoming(&mut self) -> Incoming {
        match self.link.frames.next_body(u32::MAX) {
            Ok(Some(body)) => Incoming::Body(body),
            _ if std::mem::take(&mut self.link.dropped) => Incoming::Cut,
            _ => Incoming::Nothing,
        }
    }

    fn wait(&mut self, duration: Duration) {
        let until = self.now + duration;
        self.settle();
        let mut at_once = 0;
        while let Some(due) = self.edge.poll_timeout().filter(|due| due.at <= until) {
            // What is due is handled, and not due again.
            at_once = if due.at > self.now { 0 } else { at_once + 1 };
            assert!(
                at_once < DUE_AT_ONCE,
                "{due:?} at {:?}, again and again",
                self.now
            );
            self.now = self.now.max(due.at);
            if due.reason == DeadlineReason::LinkRetry {
                // Nobody listens.
                self.edge.handle_link_connecting(self.now);
                self.edge.handle_link_closed(self.now, Closed::Error);
            }
            self.edge.handle_timeout(self.now);
            self.settle();
        }
        // Nothing more is due, or it will not be told in time.
        self.now = until;
    }

    fn configure(&mut self, config: &str) {
        self.edge.handle_config(self.now, config_of(config));
        self.settle();
    }

    fn shut_down(&mut self, within: Duration) {
        self.edge.handle_shutdown(self.now, within);
        self.settle();
    }

    fn count(&mut self, name: &str) -> Option<u64> {
        if name == "finished" {
            return Some(self.edge.is_finished().into());
        }
        let count = count(self.edge.counters(), self.edge.gauges(), name);
        Some(count.unwrap_or_else(|| panic!("nothing is counted as {name}")))
    }

    fn rest(&mut self, conn: &str) -> Vec<Vec<u8>> {
        let conn = self.conns.get_mut(conn);
        conn.map_or(Vec::new(), |conn| {
            std::iter::from_fn(|| conn.frames.next_body(u32::MAX).ok().flatten()).collect()
        })
    }

    fn finish(&mut self) -> Result<(), String> {
        self.settle();
        for (name, conn) in &mut self.conns {
            if let Ok(Some(body)) = conn.frames.next_body(u32::MAX) {
                return Err(format!("{name} heard {} bytes more", body.len()));
            }
            if let Some(end) = &conn.ended {
                return Err(format!("{name} ended unasked: {end:?}"));
            }
        }
        match self.link_incoming() {
            Incoming::Nothing => {}
            more => return Err(format!("the backend heard more: {more:?}")),
        }
        self.expect_nothing_left();
        Ok(())
    }
}

/// Returns what a transport takes of this output with `step` bytes at a time. It takes more of long outputs, which would take too long.
fn first_of(output: [&[u8]; 2], step: usize) -> &[u8] {
    let part = if output[0].is_empty() {
        output[1]
    } else {
        output[0]
    };
    &part[..part.len().min(step.max(part.len() / 64))]
}

fn count(counters: &Counters, gauges: Gauges, name: &str) -> Option<u64> {
    let of = |kind: &str| name.strip_prefix(kind)?.strip_prefix('.');
    if let Some(reason) = of("closed") {
        let at = CloseReason::ALL
            .iter()
            .position(|one| one.name() == reason)?;
        return Some(counters.closed[at]);
    }
    if let Some(reason) = of("ended") {
        let at = EndReason::ALL.iter().position(|one| one.name() == reason)?;
        return Some(counters.ended[at]);
    }
    if let Some(reason) = of("rejected") {
        let at = Rejected::ALL.iter().position(|one| one.name() == reason)?;
        return Some(counters.rejected[at]);
    }
    Some(match name {
        "accepted" => counters.accepted,
        "joined" => counters.joined,
        "resumed" => counters.resumed,
        "takeovers" => counters.takeovers,
        "challenges" => counters.challenges,
        "agreements" => counters.agreements,
        "went_away" => counters.went_away,
        "packets_up" => counters.packets_up,
        "packets_down" => counters.packets_down,
        "unknown_client" => counters.unknown_client,
        "malformed_down" => counters.malformed_down,
        "link_violations" => counters.link_violations,
        "paced" => counters.paced,
        "joins_paced" => counters.joins_paced,
        "handshakes_paced" => counters.handshakes_paced,
        "connections" => gauges.connections as u64,
        "half_open" => gauges.half_open as u64,
        "sessions" => gauges.sessions as u64,
        "away" => gauges.away as u64,
        "waiting" => gauges.waiting as u64,
        "link_packets" => gauges.link_packets as u64,
        "held_bytes" => gauges.held_bytes as u64,
        _ => return None,
    })
}
