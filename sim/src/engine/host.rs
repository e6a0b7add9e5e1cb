//! The edge under test, with the table that an adapter keeps next to it.

use std::time::Duration;

use voltlane_core::Time;
use voltlane_core::edge::HasLink;
use voltlane_core::edge::testkit::Adapter;
use voltlane_core::edge::{CloseKind, ConnKey, Edge, EdgeConfig, EndReason, Enforce};
use voltlane_core::protocol::OfferedVersions;

use super::identity::edge_pair;
use crate::model::View;
use crate::plan::Options;
use crate::recorded;
use crate::rng::Rng;

/// The machine, and the keys of its connections by the simulator's own numbers, which are never reused.
pub(crate) struct Host {
    pub(crate) edge: Edge,
    keys: Vec<Option<ConnKey>>,
    /// The number of the connection whose key has this index.
    numbers: Vec<Option<(ConnKey, u32)>>,
}

impl Clone for Host {
    fn clone(&self) -> Host {
        Host {
            edge: self.edge.fork(),
            keys: self.keys.clone(),
            numbers: self.numbers.clone(),
        }
    }
}

impl Host {
    pub(crate) fn new(options: &Options) -> Host {
        Host::with(config(options), options.seed)
    }

    /// Creates an edge with a configuration that a plan's options cannot express.
    pub(crate) fn with(config: EdgeConfig, seed: u64) -> Host {
        let mut secret = [0; 32];
        Rng::fork(seed, "edge", 0).fill(&mut secret);
        let mut edge = Edge::new(config, edge_pair().clone(), secret);
        recorded::attach(&mut edge, &secret);
        Host {
            edge,
            keys: Vec::new(),
            numbers: Vec::new(),
        }
    }

    pub(crate) fn insert(&mut self, conn: u32, key: ConnKey) {
        let (conn_index, key_index) = (conn as usize, key.index());
        self.keys
            .resize((conn_index + 1).max(self.keys.len()), None);
        self.numbers
            .resize((key_index + 1).max(self.numbers.len()), None);
        self.keys[conn_index] = Some(key);
        self.numbers[key_index] = Some((key, conn));
    }

    pub(crate) fn remove(&mut self, conn: u32) -> Option<ConnKey> {
        let key = self.keys.get_mut(conn as usize)?.take()?;
        if let Some(entry) = self.numbers.get_mut(key.index()) {
            *entry = None;
        }
        Some(key)
    }

    pub(crate) fn key(&self, conn: u32) -> Option<ConnKey> {
        self.keys.get(conn as usize).copied().flatten()
    }

    /// Returns the numbers of the connections that the edge lists, or `None` if there are more than `most`.
    pub(crate) fn listed(&mut self, most: usize) -> Option<Vec<u32>> {
        let keys: Vec<ConnKey> = self.edge.listed().take(most + 1).collect();
        let listed = || keys.iter().filter_map(|&key| self.number(key)).collect();
        (keys.len() <= most).then(listed)
    }

    /// Returns the number of a connection that the edge names.
    pub(crate) fn number(&self, key: ConnKey) -> Option<u32> {
        let (known, number) = self.numbers.get(key.index()).copied().flatten()?;
        (known == key).then_some(number)
    }
}

impl View for Host {
    fn output(&mut self, conn: u32) -> [&[u8]; 2] {
        self.key(conn)
            .map_or([&[], &[]], |key| self.edge.client_output(key))
    }

    fn close(&mut self, conn: u32) -> Option<bool> {
        let key = self.key(conn)?;
        Some(self.edge.client_close(key)? == CloseKind::Abort)
    }

    fn budget(&self, conn: u32) -> usize {
        self.key(conn).map_or(0, |key| self.edge.read_budget(key))
    }

    fn link_output(&self) -> [&[u8]; 2] {
        self.edge.link_output()
    }

    fn link_wants_close(&self) -> bool {
        self.edge.link_wants_close()
    }

    fn deadline(&self) -> Option<u64> {
        self.edge
            .poll_timeout()
            .map(|deadline| deadline.at.as_nanos())
    }

    fn expired(&self) -> u64 {
        let place = EndReason::ALL
            .iter()
            .position(|reason| *reason == EndReason::Expired);
        place.map_or(0, |place| self.edge.counters().ended[place])
    }

    fn link_budget(&self) -> usize {
        self.edge.link_read_budget()
    }

    fn counted(&self) -> Vec<(&'static str, u64)> {
        let counters = self.edge.counters();
        let mut counted = vec![
            ("accepted", counters.accepted),
            ("resumed", counters.resumed),
            ("takeovers", counters.takeovers),
        ];
        let ended = EndReason::ALL.iter().zip(counters.ended);
        counted.extend(ended.map(|(reason, count)| (reason.text(), count)));
        counted
    }

    fn held_bytes(&self) -> usize {
        self.edge.gauges().held_bytes
    }

    fn link_queued(&self) -> (usize, usize) {
        let gauges = self.edge.gauges();
        (gauges.link_packets, gauges.link_bytes)
    }

    fn away(&self) -> usize {
        self.edge.gauges().away
    }
}

pub(crate) fn time(nanos: u64) -> Time {
    Time::from_nanos(nanos)
}

fn enforce(number: u64) -> Enforce {
    match number {
        0 => Enforce::On,
        1 => Enforce::Report,
        _ => Enforce::Off,
    }
}

pub(crate) fn config(options: &Options) -> EdgeConfig {
    let millis = Duration::from_millis;
    let mut config = EdgeConfig::default();
    let clients = &mut config.clients;
    clients.channel_capacity = options.client_queue_packets as usize;
    clients.channel_bytes = options.client_queue_bytes as usize;
    clients.stale_timeout = millis(options.stale_timeout_ms);
    clients.stale_reap_interval = millis(options.reap_interval_ms);
    clients.max_stale_clients = options.max_stale_clients as usize;
    clients.missed_packets_buffer_size = options.missed_packets as usize;
    clients.missed_packets_buffer_bytes = options.missed_bytes as usize;
    clients.max_frame_bytes = options.max_up_bytes as u32;
    clients.write_timeout = millis(options.write_timeout_ms);
    clients.frame_timeout = millis(options.frame_timeout_ms);
    clients.idle_timeout = millis(options.idle_timeout_ms);
    clients.enforce_pace = enforce(options.enforce_pace);
    clients.pace.frames = options.pace_frames as u32;
    clients.pace.frames_burst = options.pace_frames_burst as u32;
    clients.pace.bytes = options.pace_bytes as u32;
    clients.pace.bytes_burst = options.pace_bytes_burst as u32;
    clients.pace.patience = millis(options.pace_patience_ms);
    // The model knows version 2 alone. Where version 3 is offered, a connection beyond the limits of its source is accepted for a Claim.
    config.listener.versions = OfferedVersions::new(&[2]).expect("it is known");
    config.listener.proxy_required = options.proxy != 0;
    config.listener.trusted_proxies = "198.51.100.0/24".parse().into_iter().collect();
    config.listener.max_connections = options.listener_connections as usize;
    config.listener.accept_rate = options.listener_rate as u32;
    config.listener.accept_burst = options.listener_burst as u32;
    let master = &mut config.master;
    master.channel_capacity = options.link_queue_packets as usize;
    master.channel_bytes = options.link_queue_bytes as usize;
    master.max_frame_bytes = options.max_down_bytes as u32;
    master.announce_all = options.announce_all != 0;
    let limits = &mut config.limits;
    limits.handshake_timeout = millis(options.handshake_timeout_ms);
    limits.max_connections = options.max_connections as usize;
    limits.max_half_open = options.max_half_open as usize;
    limits.accept_rate = options.accept_rate as u32;
    limits.accept_burst = options.accept_burst as u32;
    limits.enforce_accepts = enforce(options.enforce_accepts);
    limits.max_memory_bytes = options.max_memory_bytes as usize;
    limits.max_sessions = options.max_sessions as usize;
    limits.enforce_sources = enforce(options.enforce_sources);
    let sources = &mut limits.sources;
    sources.connections = options.source_connections as usize;
    sources.wide_connections = options.wide_connections as usize;
    sources.rate = options.source_rate as u32;
    sources.burst = options.source_burst as u32;
    sources.wide_rate = options.wide_rate as u32;
    sources.wide_burst = options.wide_burst as u32;
    sources.stale_sessions = options.source_stale as usize;
    sources.wide_stale_sessions = options.wide_stale as usize;
    sources.penalties = options.penalties != 0;
    config
}
