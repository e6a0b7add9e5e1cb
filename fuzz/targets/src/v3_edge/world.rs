//! The adapter of the edge, its clients and its backend.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use voltlane_core::edge::testkit::Adapter;
use voltlane_core::edge::{
    CloseReason, Closed, Counters, DeadlineReason, Edge, EdgeConfig, GoAwayCode, HasLink,
    UNKNOWN_CLIENT,
};
use voltlane_core::link::tagged::{Flag, Tagged};
use voltlane_core::protocol::OfferedVersions;
use voltlane_core::wire::frame::FrameReader;
use voltlane_core::{ClientId, Time};

use super::peer::{Member, Peer};
use crate::bytes::Bytes;
use crate::keys::edge_pair;

const MAX_EVENTS: usize = 300;
const MAX_PEERS: usize = 10;
const MAX_ROUNDS: usize = 10_000;
/// What an edge keeps of a session whose client was not told how it ended.
const REMEMBERED_BYTES: usize = 128;

/// What the backend received for one id.
#[derive(Default)]
struct Heard {
    packets: u64,
    has_ended: bool,
}

pub(super) struct World<'a> {
    input: Bytes<'a>,
    config: EdgeConfig,
    edge: Edge,
    now: Time,
    peers: Vec<Peer>,
    members: Vec<Member>,
    heard: BTreeMap<ClientId, Heard>,
    /// The frames that the edge has written on the link.
    written: FrameReader,
    draws: u64,
    is_shut_down: bool,
}

fn draw(input: &mut Bytes<'_>) -> EdgeConfig {
    let mut config = EdgeConfig::default();
    let seconds = Duration::from_secs;
    config.listener.versions = OfferedVersions::new(&[2, 3]).expect("both");
    let clients = &mut config.clients;
    clients.ring_packets = input.one_of(&[8_192, 4, 1]);
    clients.ring_bytes = input.one_of(&[1 << 20, 64]);
    clients.channel_capacity = input.one_of(&[64, 8, 1]);
    clients.channel_bytes = input.one_of(&[1 << 20, 256]);
    clients.missed_packets_buffer_size = input.one_of(&[8, 0, 1]);
    clients.max_frame_bytes = input.one_of(&[1 << 16, 16]);
    clients.stale_timeout = seconds(input.one_of(&[60, 0, 5]));
    clients.stale_reap_interval = seconds(input.one_of(&[0, 1]));
    clients.max_stale_clients = input.one_of(&[8, 0, 1]);
    clients.keep_alive = seconds(input.one_of(&[20, 0, 1]));
    clients.ack_delay = Duration::from_millis(input.one_of(&[250, 0, 5_000]));
    clients.write_timeout = seconds(input.one_of(&[10, 1, 0]));
    clients.frame_timeout = seconds(input.one_of(&[10, 1, 0]));
    clients.pace.frames = input.one_of(&[0, 0, 5]);
    clients.pace.frames_burst = 3;
    clients.pace.patience = seconds(1);
    config.master.channel_capacity = input.one_of(&[64, 1, 0]);
    config.limits.max_memory_bytes = input.one_of(&[0, 65_536, 4_096]);
    config.limits.max_sessions = input.one_of(&[1_000, 2]);
    config.limits.join_rate = input.one_of(&[1_000, 1]);
    config.limits.join_burst = input.one_of(&[1_000, 2]);
    config
}

impl<'a> World<'a> {
    pub(super) fn new(mut input: Bytes<'a>) -> Self {
        let config = draw(&mut input);
        let mut edge = Edge::new(config.clone(), edge_pair(), [0x5e; 32]);
        edge.link_up(Time::ZERO);
        World {
            input,
            edge,
            config,
            now: Time::ZERO,
            peers: Vec::new(),
            members: Vec::new(),
            heard: BTreeMap::new(),
            written: FrameReader::default(),
            draws: 0,
            is_shut_down: false,
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

    fn random(&mut self) -> [u8; 32] {
        self.draws += 1;
        let mut random = [0x2a; 32];
        random[..8].copy_from_slice(&self.draws.to_le_bytes());
        random
    }

    fn event(&mut self) {
        let random = self.random();
        match self.input.below(20) {
            event @ 0..=2 => {
                let source = Ipv4Addr::new(192, 0, 2, self.input.byte());
                if self.peers.len() >= MAX_PEERS {
                    return;
                }
                let Ok(key) = self.edge.handle_accepted(self.now, source.into()) else {
                    return;
                };
                let mut peer = Peer::new(key);
                if event == 0 {
                    peer.hello(random, self.input.one_of(&[1 << 16, 8, 0]));
                } else {
                    peer.claim(random, &mut self.input, &mut self.members);
                }
                self.peers.push(peer);
            }
            3..=6 => {
                if let Some(at) = self.some_peer() {
                    self.peers[at].go_on(&mut self.input, &mut self.members);
                }
            }
            7 | 8 => {
                if let Some(at) = self.some_peer() {
                    self.peers[at].say(&mut self.input, &mut self.members);
                }
            }
            9 => {
                if let Some(at) = self.some_peer() {
                    self.peers[at].babble(self.input.some());
                }
            }
            10 => {
                if let Some(at) = self.some_peer() {
                    let length = self.input.part_of(usize::MAX);
                    self.read(at, length);
                }
            }
            11 => {
                if let Some(at) = self.some_peer() {
                    self.peers[at].stalled ^= true;
                }
            }
            12 => {
                if let Some(at) = self.some_peer() {
                    let causes = [Closed::Eof, Closed::Error, Closed::Violation];
                    let cause = self.input.one_of(&causes);
                    let peer = self.peers.swap_remove(at);
                    self.edge.handle_client_closed(self.now, peer.key, cause);
                }
            }
            13 | 14 => {
                let millis = [1, 250, 1_000, 2_500, 10_000, 60_000];
                let millis = self.input.one_of(&millis);
                self.pass_time(Duration::from_millis(millis));
            }
            15 | 16 => self.backend_says(),
            17 => {
                let cause = self.input.one_of(&[Closed::Eof, Closed::Error]);
                self.edge.handle_link_closed(self.now, cause);
                self.written = FrameReader::default();
            }
            18 => self.move_all(),
            _ => match self.input.byte() {
                0xf0.. if !self.is_shut_down => {
                    self.edge.handle_shutdown(self.now, Duration::from_secs(1));
                    self.is_shut_down = true;
                }
                0xe0.. => {
                    let within = Duration::from_secs(2);
                    self.edge
                        .handle_leaving(self.now, GoAwayCode::Restart, within);
                }
                0xd0.. if !self.edge.gauges().link_is_up => self.bring_link_up(),
                _ => {}
            },
        }
    }

    fn some_peer(&mut self) -> Option<usize> {
        usize::from(self.input.byte()).checked_rem(self.peers.len())
    }

    /// Makes the edge read up to `length` bytes of a client, and the client what the edge writes. Returns how many moved.
    fn read(&mut self, at: usize, length: usize) -> usize {
        let mut moved = self.write(at);
        let peer = &mut self.peers[at];
        let budget = self.edge.read_budget(peer.key);
        let length = length.min(budget).min(peer.outbox.len());
        let bytes: Vec<u8> = peer.outbox.drain(..length).collect();
        let key = peer.key;
        self.edge.handle_client_bytes(self.now, key, &bytes);
        moved += length + self.write(at);
        moved
    }

    fn write(&mut self, at: usize) -> usize {
        let random = self.random();
        let peer = &mut self.peers[at];
        let mut moved = usize::from(self.edge.give_entropy(self.now, peer.key, || random));
        if !peer.stalled {
            let output = self.edge.client_takes(self.now, peer.key, usize::MAX);
            moved += output.len();
            peer.hear(&output, &mut self.members);
        }
        moved
    }

    fn backend_says(&mut self) {
        if !self.edge.gauges().link_is_up || self.edge.link_read_budget() == 0 {
            return;
        }
        let choice = usize::from(self.input.byte());
        let Some(at) = choice.checked_rem(self.members.len()) else {
            return;
        };
        let id = self.members[at].id;
        let flag = self
            .input
            .one_of(&[Flag::Data, Flag::Data, Flag::Data, Flag::Data, Flag::Kick]);
        let data = match flag {
            Flag::Data => self.input.some(),
            _ => &[],
        };
        let mut frame = Vec::new();
        Tagged { id, flag, data }.encode(&mut frame);
        let before = self.edge.counters().unknown_client;
        let cut = self.input.below(frame.len());
        for part in [&frame[..cut], &frame[cut..]] {
            self.edge.handle_link_bytes(self.now, part);
        }
        if flag == Flag::Data && self.edge.counters().unknown_client == before {
            self.members[at].down.push(data.to_vec());
        }
    }

    fn write_link(&mut self) -> usize {
        let output = self.edge.link_takes(self.now, usize::MAX);
        let mut input = &output[..];
        while let Some(body) = self
            .written
            .next_frame(&mut input, u32::MAX)
            .expect("no bound")
        {
            let Tagged { id, flag, data } = Tagged::decode(body).expect("an edge tags its packets");
            let heard = self.heard.entry(id).or_default();
            match flag {
                Flag::Failure if data == UNKNOWN_CLIENT.as_bytes() => {}
                Flag::Failure => {
                    assert!(!heard.has_ended, "{id} ended twice");
                    heard.has_ended = true;
                }
                _ if heard.has_ended => panic!("{flag:?} of {id} after its end"),
                Flag::Data => {
                    heard.packets += 1;
                    let member = self.members.iter().find(|member| member.id == id);
                    let member = member.expect("a session of a client");
                    let sealed = member.up.get(&heard.packets);
                    let is_right = sealed.is_some_and(|all| all.iter().any(|one| one == data));
                    assert!(is_right, "number {} of {id}: {data:?}", heard.packets);
                }
                Flag::Resumed => assert!(data.is_empty()),
                Flag::Kick => panic!("an edge sends no kick"),
            }
        }
        output.len()
    }

    fn settle(&mut self) {
        if self.edge.link_wants_close() {
            self.edge.handle_link_closed(self.now, Closed::Asked);
            self.written = FrameReader::default();
        }
        for _ in 0..=3 * self.peers.len() + 3 {
            let Some(key) = self.edge.poll_client() else {
                return self.check();
            };
            let random = self.random();
            self.edge.give_entropy(self.now, key, || random);
            if self.edge.client_close(key).is_some() {
                self.peers.retain(|peer| peer.key != key);
                self.edge.close_if_asked(self.now, key);
            }
        }
        panic!("the list of ready connections does not end");
    }

    fn check(&self) {
        let (gauges, limits) = (self.edge.gauges(), &self.config.limits);
        assert_eq!(gauges.connections, self.peers.len());
        assert!(gauges.connections <= limits.max_connections);
        assert!(gauges.away <= gauges.sessions && gauges.sessions <= limits.max_sessions);
        assert!(gauges.away <= self.config.clients.max_stale_clients);
        assert!(gauges.half_open <= gauges.connections);
    }

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

    fn move_all(&mut self) {
        for _ in 0..MAX_ROUNDS {
            let mut moved = self.write_link();
            self.settle();
            for at in (0..self.peers.len()).rev() {
                if at < self.peers.len() {
                    moved += self.read(at, usize::MAX);
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
            self.written = FrameReader::default();
            self.settle();
        }
    }

    /// Delivers everything, disconnects everyone, and checks that nothing is left.
    pub(super) fn finish(mut self) -> Counters {
        self.peers.iter_mut().for_each(|peer| peer.stalled = false);
        self.bring_link_up();
        self.move_all();
        for peer in core::mem::take(&mut self.peers) {
            self.edge
                .handle_client_closed(self.now, peer.key, Closed::Eof);
        }
        self.settle();
        let clients = &self.config.clients;
        self.pass_time(clients.stale_timeout + clients.stale_reap_interval);
        self.bring_link_up();
        self.move_all();
        self.edge.audit();
        self.edge.handle_link_closed(self.now, Closed::Eof);
        let (gauges, counters) = (self.edge.gauges(), self.edge.counters().clone());
        let left = [
            gauges.connections,
            gauges.half_open,
            gauges.sessions,
            gauges.away,
            gauges.waiting,
            gauges.ending,
            gauges.link_packets,
            gauges.link_bytes,
        ];
        assert_eq!(left, [0; 8], "{gauges:?}");
        let closes = counters.closed.iter().sum::<u64>();
        assert!(closes <= counters.accepted);
        assert!(counters.closed[CloseReason::Rejected as usize] <= counters.rejected.iter().sum());
        for (id, heard) in &self.heard {
            // An answer about a session that was over before the backend heard of it is not followed by its end.
            assert!(heard.has_ended || heard.packets == 0, "{id} has no end");
        }
        let ended = counters.ended.iter().sum::<u64>();
        assert_eq!(ended, counters.joined, "each session ends once");
        assert!(gauges.held_bytes <= REMEMBERED_BYTES * ended as usize);
        counters
    }
}
