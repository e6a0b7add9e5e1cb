//! The adapter of the edge: performs events from the input and the duties that follow from each.

use std::time::Duration;

use voltlane_core::edge::HasLink;
use voltlane_core::edge::testkit::Adapter;
use voltlane_core::edge::{
    CloseReason, Closed, Counters, DeadlineReason, Edge, EdgeConfig, Enforce,
};
use voltlane_core::link::tagged::{Flag, TAG_BYTES, Tagged};
use voltlane_core::wire::frame::FrameReader;
use voltlane_core::{ClientId, Time};

use super::ledger::Ledger;
use super::options::{draw, source};
use super::peer::{ANY, Peer};
use crate::bytes::Bytes;
use crate::keys::edge_pair;

/// The maximum number of events per run. More find nothing new and take longer. So do more connections at a time.
const MAX_EVENTS: usize = 400;
const MAX_PEERS: usize = 20;
/// The maximum number of rounds until nothing moves any more.
const MAX_ROUNDS: usize = 10_000;

pub(super) struct World<'a> {
    input: Bytes<'a>,
    config: EdgeConfig,
    edge: Edge,
    now: Time,
    peers: Vec<Peer>,
    ledger: Ledger,
    link: Link,
    /// Bytes that the machine has read, plus the calls that may make it write something of its own.
    fed: usize,
    calls: usize,
    shutdown_within: Option<Duration>,
}

/// The backend's end of the link.
#[derive(Default)]
struct Link {
    /// Bytes that the backend has sent and the edge has not read.
    outbox: Vec<u8>,
    /// The frames in the bytes that the edge has read, and in those that it has written.
    read: FrameReader,
    written: FrameReader,
    is_broken: bool,
}

impl<'a> World<'a> {
    pub(super) fn new(mut input: Bytes<'a>) -> Self {
        let config = draw(&mut input);
        World {
            input,
            edge: Edge::new(config.clone(), edge_pair(), [0x5e; 32]),
            config,
            now: Time::ZERO,
            peers: Vec::new(),
            ledger: Ledger::default(),
            link: Link::default(),
            fed: 0,
            calls: 0,
            shutdown_within: None,
        }
    }

    pub(super) fn play(&mut self) {
        for _ in 0..MAX_EVENTS {
            if self.input.is_empty() {
                return;
            }
            self.event();
            self.settle();
        }
    }

    fn event(&mut self) {
        self.calls += 1;
        let event = self.input.below(24);
        match event {
            0 | 1 => self.accept(),
            2..=5 => self.with_peer(|peer, input, ledger| peer.go_on(input, ledger)),
            6 | 7 => self.with_peer(|peer, input, _| peer.send(input)),
            8 => self.with_peer(|peer, input, ledger| peer.babble(input.some(), ledger)),
            9 => self.with_peer(|peer, input, ledger| peer.blurt(input, ledger)),
            10 | 11 => {
                if let Some(at) = self.some_peer() {
                    let length = self.input.part_of(usize::MAX);
                    self.read(at, length);
                }
            }
            12 | 13 => {
                if let Some(at) = self.some_peer() {
                    let length = self.input.part_of(usize::MAX);
                    self.write(at, length);
                }
            }
            14 => {
                if let Some(at) = self.some_peer() {
                    let cause = self.input.one_of(&[Closed::Eof, Closed::Error]);
                    let peer = self.peers.swap_remove(at);
                    self.edge.handle_client_closed(self.now, peer.key, cause);
                    // A dead key is harmless.
                    self.edge.handle_client_bytes(self.now, peer.key, b"late");
                    self.edge.handle_client_written(self.now, peer.key, 1);
                    assert_eq!(self.edge.read_budget(peer.key), 0);
                }
            }
            15 | 16 => {
                let millis = self
                    .input
                    .one_of(&[1, 10, 100, 1_000, 2_000, 5_000, 10_000, 60_000]);
                self.now = self.now + Duration::from_millis(millis);
                self.edge.handle_timeout(self.now);
            }
            17 => self.connect_link(),
            18 => self.backend_says(),
            19 => {
                let bytes = self.input.some();
                self.link.outbox.extend_from_slice(bytes);
            }
            20 => {
                let length = self.input.part_of(usize::MAX);
                self.read_link(length);
            }
            21 => {
                let length = self.input.part_of(usize::MAX);
                self.write_link(length);
            }
            22 => {
                let cause = self.input.one_of(&[Closed::Eof, Closed::Error]);
                self.edge.handle_link_closed(self.now, cause);
                self.link = Link::default();
            }
            _ => {
                // Rarely, since nothing can happen after it.
                let choice = self.input.byte();
                if choice >= 0xf0 && self.shutdown_within.is_none() {
                    let within = Duration::from_millis(u64::from(choice & 0xf) * 100);
                    self.edge.handle_shutdown(self.now, within);
                    self.shutdown_within = Some(within);
                }
            }
        }
    }

    fn some_peer(&mut self) -> Option<usize> {
        let choice = usize::from(self.input.byte());
        choice.checked_rem(self.peers.len())
    }

    fn with_peer(&mut self, act: impl FnOnce(&mut Peer, &mut Bytes<'a>, &mut Ledger)) {
        if let Some(at) = self.some_peer() {
            act(&mut self.peers[at], &mut self.input, &mut self.ledger);
        }
    }

    fn accept(&mut self) {
        let choice = usize::from(self.input.byte());
        if self.peers.len() >= MAX_PEERS {
            return;
        }
        let Ok(key) = self.edge.handle_accepted(self.now, source(choice)) else {
            return;
        };
        let header = match (self.config.listener.proxy_required, choice >> 3 & 7) {
            (false, _) | (true, 7) => String::new(),
            (true, 0) => "PROXY UNKNOWN\r\n".to_owned(),
            (true, n) => format!("PROXY TCP4 198.51.100.{n} 203.0.113.1 1 1\r\n"),
        };
        self.peers.push(Peer::new(key, header.as_bytes()));
    }

    /// Makes the edge read up to `length` bytes from a client. Returns how many it read.
    fn read(&mut self, at: usize, length: usize) -> usize {
        let peer = &mut self.peers[at];
        let length = length
            .min(self.edge.read_budget(peer.key))
            .min(peer.outbox.len());
        let bytes = peer.taken(
            length,
            self.config.clients.max_frame_bytes,
            &mut self.ledger,
        );
        self.fed += length;
        self.edge.handle_client_bytes(self.now, peer.key, &bytes);
        length
    }

    /// Makes a client's transport take up to `length` bytes. Returns how many it took.
    fn write(&mut self, at: usize, length: usize) -> usize {
        let peer = &mut self.peers[at];
        let output = self.edge.client_takes(self.now, peer.key, length);
        peer.hear(&output, &mut self.ledger);
        output.len()
    }

    fn connect_link(&mut self) {
        if self.edge.link_wants_connect(self.now) {
            self.edge.handle_link_connecting(self.now);
            if self.input.below(8) == 7 {
                return;
            }
        }
        if !self.edge.gauges().link_is_up {
            self.edge.handle_link_connected(self.now);
            self.link = Link::default();
        }
    }

    fn backend_says(&mut self) {
        let choice = usize::from(self.input.byte());
        let member = choice.checked_rem(self.ledger.members.len());
        let id = match member {
            Some(number) if choice < 240 => self.ledger.members[number].id,
            _ => ClientId::from_u64(choice as u64),
        };
        let flag = self.input.one_of(&[
            Flag::Data,
            Flag::Data,
            Flag::Data,
            Flag::Kick,
            Flag::Resumed,
            Flag::Failure,
        ]);
        let (some, times) = (self.input.some(), 1 + self.input.below(16));
        let data = if flag == Flag::Kick && choice % 5 > 0 {
            Vec::new()
        } else {
            some.repeat(times)
        };
        Tagged {
            id,
            flag,
            data: &data,
        }
        .encode(&mut self.link.outbox);
    }

    fn read_link(&mut self, length: usize) -> usize {
        let length = length
            .min(self.edge.link_read_budget())
            .min(self.link.outbox.len());
        let bytes: Vec<u8> = self.link.outbox.drain(..length).collect();
        let mut input = &bytes[..];
        while !self.link.is_broken {
            let max_body = self.config.master.max_frame_bytes + TAG_BYTES as u32;
            match self.link.read.next_frame(&mut input, max_body) {
                Ok(Some(body)) => {
                    self.calls += 1;
                    self.ledger.sent(body);
                }
                Ok(None) => break,
                Err(_) => self.link.is_broken = true,
            }
        }
        self.fed += length;
        self.edge.handle_link_bytes(self.now, &bytes);
        assert!(
            !self.link.is_broken || self.edge.link_wants_close(),
            "the framing is lost"
        );
        length
    }

    fn write_link(&mut self, length: usize) -> usize {
        let output = self.edge.link_takes(self.now, length);
        let mut input = &output[..];
        while let Some(body) = self
            .link
            .written
            .next_frame(&mut input, ANY)
            .expect("the reader has no bound")
        {
            self.ledger.heard(body);
        }
        output.len()
    }

    /// Does what an adapter does after every call, and checks the invariants.
    fn settle(&mut self) {
        if self.edge.link_wants_close() {
            self.edge.handle_link_closed(self.now, Closed::Asked);
            self.link = Link::default();
        }
        // Each connection is returned once until it changes again. Closing one may change others.
        let most = 3 * self.peers.len() + 3;
        for handed_out in 0.. {
            assert!(
                handed_out <= most,
                "the list of ready connections does not end"
            );
            let Some(key) = self.edge.poll_client() else {
                break;
            };
            if self.edge.client_close(key).is_some() {
                assert_eq!(self.edge.read_budget(key), 0);
                self.peers.retain(|peer| peer.key != key);
                self.edge.close_if_asked(self.now, key);
            }
        }
        self.check();
    }

    fn check(&self) {
        let (gauges, limits) = (self.edge.gauges(), &self.config.limits);
        assert_eq!(gauges.connections, self.peers.len());
        assert!(gauges.connections <= limits.max_connections);
        assert!(gauges.half_open <= gauges.connections);
        assert!(gauges.away <= gauges.sessions && gauges.sessions <= limits.max_sessions);
        assert!(gauges.away <= self.config.clients.max_stale_clients);
        if limits.enforce_accepts == Enforce::On && limits.max_half_open > 0 {
            assert!(gauges.half_open <= limits.max_half_open);
        }
        // A packet of n bytes takes 4 + n as received and 13 + n on the link. A notice is shorter than 64 bytes, the answers in a handshake
        // are shorter than 256.
        let most = 4 * self.fed
            + 64 * (self.calls + gauges.sessions * self.calls)
            + 256 * self.peers.len();
        assert!(gauges.held_bytes <= most, "{gauges:?}, at most {most}");
    }

    /// Advances time. A timer that was served is no longer due, except the link's, which waits for the adapter.
    fn pass_time(&mut self, time: Duration) {
        self.now = self.now + time;
        self.edge.handle_timeout(self.now);
        self.settle();
        let due = self.edge.poll_timeout().filter(|due| due.at <= self.now);
        assert!(
            due.is_none_or(|due| due.reason == DeadlineReason::LinkRetry),
            "{due:?} at {:?}",
            self.now
        );
    }

    /// Moves everything that can move.
    fn drain(&mut self) {
        for _ in 0..MAX_ROUNDS {
            let mut moved = self.write_link(usize::MAX) + self.read_link(usize::MAX);
            self.settle();
            for at in (0..self.peers.len()).rev() {
                // The previous one may have ended others.
                if at < self.peers.len() {
                    moved += self.read(at, usize::MAX);
                    self.settle();
                }
                if at < self.peers.len() {
                    moved += self.write(at, usize::MAX);
                    self.settle();
                }
            }
            if moved == 0 {
                return;
            }
        }
        panic!("the machine never comes to rest");
    }

    fn bring_link_up(&mut self) {
        self.pass_time(Duration::from_secs(10));
        if !self.edge.gauges().link_is_up {
            self.edge.link_up(self.now);
            self.link = Link::default();
            self.settle();
        }
    }

    /// Delivers everything, disconnects everyone, and checks that nothing is left.
    pub(super) fn finish(mut self) -> Counters {
        self.bring_link_up();
        self.drain();
        self.bring_link_up();
        self.drain();
        let attached: Vec<_> = self.peers.iter().filter_map(Peer::member).collect();
        self.ledger.check(|member| attached.contains(&member));

        for peer in core::mem::take(&mut self.peers) {
            self.edge
                .handle_client_closed(self.now, peer.key, Closed::Eof);
        }
        self.settle();
        let clients = &self.config.clients;
        self.pass_time(clients.stale_timeout + clients.stale_reap_interval);
        self.bring_link_up();
        self.drain();
        self.ledger.check(|_| false);
        for member in &self.ledger.members {
            assert!(self.ledger.has_ended(member.id), "{} has no end", member.id);
        }
        // A packet that the backend had begun goes with the link.
        self.edge.handle_link_closed(self.now, Closed::Eof);
        let gauges = self.edge.gauges();
        let left = [
            gauges.connections,
            gauges.half_open,
            gauges.sessions,
            gauges.away,
            gauges.waiting,
            gauges.link_packets,
            gauges.link_bytes,
            gauges.held_bytes,
        ];
        assert_eq!(left, [0; 8], "{gauges:?}");
        if self.shutdown_within.is_some() {
            assert!(self.edge.is_finished());
        }
        let counters = self.edge.counters().clone();
        let closes = counters.closed.iter().sum::<u64>();
        assert!(closes <= counters.accepted);
        assert!(
            counters.ended.iter().sum::<u64>() == counters.joined,
            "each session ends once"
        );
        assert!(counters.closed[CloseReason::Rejected as usize] <= counters.rejected.iter().sum());
        counters
    }
}
