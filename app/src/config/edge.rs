//! Converts the settings into the configuration of the edge machine.

use std::num::{NonZeroU8, NonZeroUsize};
use std::thread;
use std::time::Duration;

use voltlane_core::edge::{self, EdgeConfig};
use voltlane_core::link::v3::Carriage;
use voltlane_driver::{MAX_LISTENERS, SocketOptions};

use super::keys::{Listener, MAX_COUNT, MAX_SHARDS, Settings};
use super::place::Place;
use super::value::{Announce, Enforce, LinkProtocol, ProxyProtocol, Transport};
use crate::http;
use crate::resources::Resources;

/// Descriptors that are kept from connections. A process with one shard has about 20: its standard streams, signals, runtime, listener and
/// link. An attempt to reach the backend opens up to 8, and a reload a few files. The rest is for connections on their way between shards.
const RESERVED_DESCRIPTORS: u64 = 48;
/// Descriptors that are kept for each shard beyond the first: its listener, its spare descriptor, its reactor, and its thread's.
const RESERVED_DESCRIPTORS_PER_SHARD: u64 = 8;
/// Descriptors per listener: its own, and one in reserve.
const DESCRIPTORS_PER_LISTENER: usize = 2;
/// Descriptors that are kept for the metrics: their connections and their listeners.
const RESERVED_DESCRIPTORS_OF_METRICS: u64 = http::MAX_CONNECTIONS as u64 + MAX_LISTENERS as u64;
/// Descriptors that are kept for the admin interface: its connections and its listeners.
#[cfg(feature = "admin")]
const RESERVED_DESCRIPTORS_OF_ADMIN: u64 =
    crate::admin::MAX_CONNECTIONS as u64 + MAX_LISTENERS as u64;
/// The part of the other descriptors that is for streams that linger after their end, one in this many ..
const LINGERING_ONE_IN: u64 = 8;
/// .. and the maximum number of them for each shard.
const LINGERING_MAX: u64 = 256;

impl Listener {
    /// The options of its clients' sockets.
    #[must_use]
    pub fn options(&self) -> SocketOptions {
        SocketOptions::default()
            .with_backlog(self.backlog)
            .with_keep_alive(seconds(self.keep_alive_secs))
            .with_user_timeout(seconds(self.user_timeout_secs))
            .with_send_buffer_bytes(self.send_buffer_bytes)
            .with_receive_buffer_bytes(self.receive_buffer_bytes)
            .with_unsent_bytes(self.unsent_bytes)
            .with_peer_uids(self.peer_uids.peers())
    }

    /// Returns what the machine must know of it.
    fn machine_config(&self) -> edge::ListenerConfig {
        let mut config = edge::ListenerConfig::default();
        config.proxy_required = self.proxy_protocol == ProxyProtocol::Required;
        config.trusted_proxies.clone_from(&self.trusted_proxies.0);
        config.versions = self.versions;
        config.carriage = match (&self.address, self.transport) {
            (Place::Unix(_), _) => Carriage::Unix,
            (_, Transport::Tcp) => Carriage::Tcp,
            (_, Transport::Tls) => Carriage::Tls,
            (_, Transport::Ws) => Carriage::WebSocket,
            (_, Transport::Wss) => Carriage::WebSocketTls,
        };
        config.max_connections = size(self.max_connections.into());
        config.accept_rate = self.accept_rate;
        config.accept_burst = self.accept_burst;
        config
    }
}

impl Settings {
    /// The options of the backend's socket.
    #[must_use]
    pub fn master_options(&self) -> SocketOptions {
        SocketOptions::of_link()
            .with_keep_alive(seconds(self.master.keep_alive_secs))
            .with_user_timeout(seconds(self.master.user_timeout_secs))
    }

    /// Returns the places of the backends.
    #[must_use]
    pub fn backends(&self) -> &[Place] {
        #[cfg(feature = "backends")]
        if !self.master.addresses.0.is_empty() {
            return &self.master.addresses.0;
        }
        std::slice::from_ref(&self.master.address)
    }

    /// Returns the number of shards of all backends: each has equally many.
    #[must_use]
    pub fn shards(&self) -> NonZeroU8 {
        let backends = u8::try_from(self.backends().len()).unwrap_or(u8::MAX);
        self.shards_of_each()
            .saturating_mul(NonZeroU8::new(backends).unwrap_or(NonZeroU8::MIN))
    }

    /// Returns the number of shards of each backend.
    #[must_use]
    pub fn shards_of_each(&self) -> NonZeroU8 {
        let processors = || thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let shards = match self.general.shards {
            0 => processors().min(MAX_SHARDS as usize),
            shards => shards as usize,
        };
        u8::try_from(shards.div_ceil(self.backends().len()))
            .ok()
            .and_then(NonZeroU8::new)
            .unwrap_or(NonZeroU8::MIN)
    }

    /// Returns what is left of `resources` without the sockets of the listeners, which have this many addresses. The sockets of one are
    /// kept with the rest.
    #[must_use]
    pub fn left(&self, resources: Resources, addresses: usize) -> Resources {
        let more_listeners = addresses.saturating_sub(1) * usize::from(self.shards().get());
        resources.without_descriptors(DESCRIPTORS_PER_LISTENER * more_listeners)
    }

    /// Returns how many of these descriptors are left for clients: for their connections, and for those that linger after their end.
    fn descriptors_for_clients(&self, descriptors: u64) -> u64 {
        let more_shards = u64::from(self.shards().get() - 1);
        let mut reserved = RESERVED_DESCRIPTORS + more_shards * RESERVED_DESCRIPTORS_PER_SHARD;
        if self.metrics_address().is_some() {
            reserved += RESERVED_DESCRIPTORS_OF_METRICS;
        }
        #[cfg(feature = "admin")]
        if self.admin.address.is_some() {
            reserved += RESERVED_DESCRIPTORS_OF_ADMIN;
        }
        descriptors.saturating_sub(reserved)
    }

    /// Returns the maximum number of connections of each shard that linger after their end. They have descriptors of their own.
    #[must_use]
    pub fn lingering(&self, resources: Resources) -> usize {
        let shards = u64::from(self.shards().get());
        let most = resources.descriptors.map_or(LINGERING_MAX, |descriptors| {
            self.descriptors_for_clients(descriptors) / LINGERING_ONE_IN / shards
        });
        size(most.min(LINGERING_MAX))
    }

    /// Returns the configuration of an edge machine. A bound of 0 follows `resources`, or is the machine's own default if they are
    /// unknown.
    #[must_use]
    pub fn edge_config(&self, resources: Resources) -> EdgeConfig {
        // A limit that the machine has and that has no key yet keeps its default.
        let defaults = EdgeConfig::default();
        let Settings {
            clients,
            master,
            limits,
            ..
        } = self;
        let max_connections = match (limits.max_connections, resources.descriptors) {
            (0, None) => defaults.limits.max_connections,
            (0, Some(descriptors)) => {
                let lingering = self.lingering(resources) * usize::from(self.shards().get());
                let left = size(self.descriptors_for_clients(descriptors));
                let left = left.saturating_sub(lingering);
                left.clamp(1, size(MAX_COUNT.into()))
            }
            (given, _) => size(given.into()),
        };
        let max_memory_bytes = match (limits.max_memory_bytes, resources.memory_bytes) {
            (0, None) => defaults.limits.max_memory_bytes,
            (0, Some(memory)) => size(memory / 2),
            (given, _) => size(given),
        };
        let mut config = defaults;
        #[cfg(feature = "cluster")]
        {
            config.home = u16::try_from(self.cluster.home).expect("the key has a bound");
        }
        #[cfg(feature = "backends")]
        if self.backends().len() > 1 {
            config.backends = u8::try_from(self.backends().len()).expect("the key has a bound");
        }
        config.listener = self.listener.machine_config();
        let more = self.more_listeners.iter();
        config.more_listeners = more.map(Listener::machine_config).collect();
        config.clients.ring_packets = clients.ring_packets;
        config.clients.ring_bytes = clients.ring_bytes;
        config.clients.ack_delay = Duration::from_millis(clients.ack_delay_ms.into());
        config.clients.padding = clients.padding;
        config.clients.keep_alive = seconds(clients.keep_alive_secs);
        config.clients.channel_capacity = size(clients.channel_capacity.into());
        config.clients.channel_bytes = size(clients.channel_bytes);
        config.clients.stale_timeout = seconds(clients.stale_timeout_secs);
        config.clients.stale_reap_interval = seconds(clients.stale_reap_interval_secs);
        config.clients.max_stale_clients = size(clients.max_stale_clients.into());
        config.clients.missed_packets_buffer_size = size(clients.missed_packets_buffer_size.into());
        config.clients.missed_packets_buffer_bytes = size(clients.missed_packets_buffer_bytes);
        config.clients.max_frame_bytes = clients.max_frame_bytes;
        config.clients.write_timeout = seconds(clients.write_timeout_secs);
        config.clients.frame_timeout = seconds(clients.frame_timeout_secs);
        config.clients.idle_timeout = seconds(clients.idle_timeout_secs);
        config.clients.pace.frames = clients.pace_packets_per_sec;
        config.clients.pace.frames_burst = clients.pace_packets_burst;
        config.clients.pace.bytes = clients.pace_bytes_per_sec;
        config.clients.pace.bytes_burst = clients.pace_burst_bytes;
        config.clients.pace.patience = seconds(clients.pace_patience_secs);
        config.clients.enforce_pace = enforce(clients.enforce_pace);
        config.master.channel_capacity = size(master.channel_capacity.into());
        config.master.channel_bytes = size(master.channel_bytes);
        config.master.max_frame_bytes = master.max_frame_bytes;
        config.master.announce_all = master.announce == Announce::All;
        #[cfg(feature = "backends")]
        {
            config.master.repin_after = seconds(master.repin_secs);
        }
        config.master.protocol = match master.protocol {
            LinkProtocol::V2 => edge::LinkProtocol::V2,
            LinkProtocol::Auto => edge::LinkProtocol::Auto,
            LinkProtocol::V3 => edge::LinkProtocol::V3,
        };
        config.limits.max_connections = max_connections;
        config.limits.max_half_open = size(limits.max_half_open.into());
        config.limits.max_sessions =
            max_connections.saturating_add(size(clients.max_stale_clients.into()));
        config.limits.handshake_timeout = seconds(limits.handshake_timeout_secs);
        config.limits.handshake_max_bytes = size(limits.handshake_max_bytes.into());
        config.limits.accept_rate = limits.accept_rate;
        config.limits.accept_burst = limits.accept_burst;
        config.limits.join_rate = limits.join_rate;
        config.limits.join_burst = limits.join_burst;
        config.limits.handshake_rate = limits.tls_handshake_rate;
        config.limits.handshake_burst = limits.tls_handshake_burst;
        config.limits.enforce_accepts = enforce(limits.enforce_accepts);
        config.limits.sources.connections = size(limits.source_connections.into());
        config.limits.sources.wide_connections = size(limits.source_wide_connections.into());
        config.limits.sources.rate = limits.source_rate;
        config.limits.sources.burst = limits.source_burst;
        config.limits.sources.wide_rate = limits.source_wide_rate;
        config.limits.sources.wide_burst = limits.source_wide_burst;
        config.limits.sources.stale_sessions = size(limits.source_stale_clients.into());
        config.limits.sources.wide_stale_sessions = size(limits.source_wide_stale_clients.into());
        config.limits.sources.penalties = limits.source_penalties;
        config.limits.sources.table_size = size(limits.source_table_size.into());
        config.limits.enforce_sources = enforce(limits.enforce_sources);
        config.limits.exempt = limits.exempt.0.clone();
        config.limits.max_memory_bytes = max_memory_bytes;
        config.limits.enforce_memory = enforce(limits.enforce_memory);
        config
    }
}

fn enforce(enforce: Enforce) -> edge::Enforce {
    match enforce {
        Enforce::On => edge::Enforce::On,
        Enforce::Report => edge::Enforce::Report,
        Enforce::Off => edge::Enforce::Off,
    }
}

/// Converts a number. One that exceeds the address space of a small machine becomes the largest there.
fn size(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(count.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Address, Networks};

    /// The table of keys and the core each have the defaults.
    #[test]
    fn the_defaults_are_the_defaults_of_the_machine() {
        let mut machine = EdgeConfig::default();
        machine.limits.max_sessions =
            machine.limits.max_connections + machine.clients.max_stale_clients;
        assert_eq!(
            Settings::default().edge_config(Resources::default()),
            machine
        );
    }

    #[test]
    fn connections_follow_the_descriptors_unless_they_are_given() {
        let mut settings = Settings::default();
        settings.metrics.address = None;
        settings.general.shards = 1;
        let connections = |settings: &Settings, limit| {
            settings
                .edge_config(Resources {
                    descriptors: limit,
                    memory_bytes: None,
                })
                .limits
                .max_connections
        };
        let lingering = |settings: &Settings, limit| {
            settings.lingering(Resources {
                descriptors: limit,
                memory_bytes: None,
            })
        };
        // 48 are kept, and an eighth of the rest is for connections that linger.
        assert_eq!(connections(&settings, Some(1024)), 976 - 122);
        assert_eq!(lingering(&settings, Some(1024)), 122);
        assert_eq!(connections(&settings, Some(49)), 1);
        assert_eq!(connections(&settings, Some(56)), 7);
        assert_eq!(lingering(&settings, Some(56)), 1);
        assert_eq!(lingering(&settings, Some(55)), 0);
        assert_eq!(lingering(&settings, Some(2_104)), 256);
        assert_eq!(lingering(&settings, Some(u64::MAX)), 256);
        assert_eq!(lingering(&settings, None), 256);
        assert_eq!(connections(&settings, Some(0)), 1);
        assert_eq!(connections(&settings, Some(u64::MAX)), 1 << 24);
        settings.general.shards = 3;
        // 16 more are kept for two more shards, and 960 are left.
        assert_eq!(connections(&settings, Some(1024)), 960 - 3 * 40);
        assert_eq!(lingering(&settings, Some(1024)), 40);
        settings.metrics.address = Some(Address::loopback(1).into());
        assert_eq!(connections(&settings, Some(1024)), 920 - 3 * 38);
        settings.limits.max_connections = 10;
        assert_eq!(connections(&settings, Some(1024)), 10);
        assert_eq!(connections(&settings, None), 10);
    }

    #[test]
    fn the_bound_of_memory_is_half_of_it_unless_it_is_given() {
        let mut settings = Settings::default();
        let bound = |settings: &Settings, memory_bytes| {
            settings
                .edge_config(Resources {
                    descriptors: None,
                    memory_bytes,
                })
                .limits
                .max_memory_bytes
        };
        assert_eq!(bound(&settings, Some(1 << 30)), 1 << 29);
        settings.limits.max_memory_bytes = 77;
        assert_eq!(bound(&settings, Some(1 << 30)), 77);
        assert_eq!(bound(&settings, None), 77);
    }

    #[test]
    fn each_value_goes_to_its_place() {
        let mut settings = Settings::default();
        settings.clients.stale_timeout_secs = 1;
        settings.clients.stale_reap_interval_secs = 2;
        settings.clients.write_timeout_secs = 3;
        settings.clients.frame_timeout_secs = 4;
        settings.limits.handshake_timeout_secs = 5;
        settings.clients.channel_capacity = 6;
        settings.clients.channel_bytes = 7;
        settings.master.channel_capacity = 8;
        settings.master.channel_bytes = 9;
        settings.clients.max_frame_bytes = 10;
        settings.master.max_frame_bytes = 11;
        settings.master.announce = Announce::All;
        settings.master.protocol = LinkProtocol::Auto;
        settings.limits.accept_rate = 12;
        settings.limits.accept_burst = 13;
        settings.limits.tls_handshake_rate = 30;
        settings.limits.tls_handshake_burst = 31;
        settings.limits.source_connections = 14;
        settings.limits.source_wide_connections = 15;
        settings.limits.source_rate = 16;
        settings.limits.source_burst = 17;
        settings.limits.source_table_size = 18;
        settings.limits.enforce_accepts = Enforce::Report;
        settings.limits.enforce_sources = Enforce::Off;
        settings.limits.source_penalties = false;
        settings.limits.source_stale_clients = 19;
        settings.limits.source_wide_rate = 27;
        settings.limits.source_wide_burst = 28;
        settings.limits.source_wide_stale_clients = 29;
        settings.clients.pace_packets_per_sec = 20;
        settings.clients.pace_packets_burst = 21;
        settings.clients.pace_bytes_per_sec = 22;
        settings.clients.pace_burst_bytes = 23;
        settings.clients.pace_patience_secs = 24;
        settings.clients.idle_timeout_secs = 25;
        settings.clients.enforce_pace = Enforce::Off;
        settings.limits.enforce_memory = Enforce::Report;
        settings.limits.exempt = Networks::default();
        settings.listener.proxy_protocol = ProxyProtocol::Required;
        settings.listener.trusted_proxies = Networks::loopback();
        let config = settings.edge_config(Resources::default());
        let times = [
            config.clients.stale_timeout,
            config.clients.stale_reap_interval,
            config.clients.write_timeout,
            config.clients.frame_timeout,
            config.limits.handshake_timeout,
        ];
        assert_eq!(times.map(|time| time.as_secs()), [1, 2, 3, 4, 5]);
        let queues = [
            config.clients.channel_capacity,
            config.clients.channel_bytes,
            config.master.channel_capacity,
            config.master.channel_bytes,
        ];
        assert_eq!(queues, [6, 7, 8, 9]);
        assert_eq!(
            (
                config.clients.max_frame_bytes,
                config.master.max_frame_bytes
            ),
            (10, 11)
        );
        assert!(config.master.announce_all);
        assert_eq!(config.master.protocol, edge::LinkProtocol::Auto);
        assert!(config.listener.proxy_required);
        assert_eq!(config.listener.trusted_proxies, Networks::loopback().0);
        let limits = config.limits;
        let sources = &limits.sources;
        assert_eq!(
            [
                limits.accept_rate,
                limits.accept_burst,
                sources.rate,
                sources.burst,
                limits.handshake_rate,
                limits.handshake_burst
            ],
            [12, 13, 16, 17, 30, 31]
        );
        assert_eq!(
            [
                sources.connections,
                sources.wide_connections,
                sources.table_size
            ],
            [14, 15, 18]
        );
        assert_eq!(
            [limits.enforce_accepts, limits.enforce_sources],
            [edge::Enforce::Report, edge::Enforce::Off]
        );
        assert_eq!(sources.stale_sessions, 19);
        assert_eq!(
            (
                sources.wide_rate,
                sources.wide_burst,
                sources.wide_stale_sessions
            ),
            (27, 28, 29)
        );
        let pace = config.clients.pace;
        assert_eq!(
            [pace.frames, pace.frames_burst, pace.bytes, pace.bytes_burst],
            [20, 21, 22, 23]
        );
        assert_eq!(
            [pace.patience, config.clients.idle_timeout].map(|time| time.as_secs()),
            [24, 25]
        );
        assert_eq!(
            [config.clients.enforce_pace, limits.enforce_memory],
            [edge::Enforce::Off, edge::Enforce::Report]
        );
        assert!(!sources.penalties && limits.exempt.is_empty());
    }
}
