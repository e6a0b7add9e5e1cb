//! Fluent setters of the configuration. One that could make a configuration under which nothing works returns an error.
//!
//! The fields are public as well, for a program that reads a configuration from elsewhere and checks it there.

use core::time::Duration;

use ipnet::IpNet;

use super::{
    ClientsConfig, EdgeConfig, Enforce, LimitsConfig, LinkProtocol, ListenerConfig, MasterConfig,
    PaceLimits, SourceLimits,
};
use crate::ConfigError;
use crate::config::{at_least, not_above, some_time};
use crate::link::v3::LinkSecret;
use crate::protocol::{MAX_OPENING_BODY_BYTES, OfferedVersions};
use crate::queue::Bounds;
use crate::wire::frame::LENGTH_BYTES;

/// Defines setters that accept every value.
macro_rules! setters {
    ($Config:ident: $( $setter:ident($field:ident: $Value:ty), )+) => {
        impl $Config {
            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](Self::", stringify!($field), ").")]
                #[must_use]
                pub fn $setter(mut self, $field: $Value) -> Self {
                    self.$field = $field;
                    self
                }
            )+
        }
    };
}

setters! { EdgeConfig:
    with_listener(listener: ListenerConfig),
    with_more_listeners(more_listeners: Vec<ListenerConfig>),
    with_clients(clients: ClientsConfig),
    with_master(master: MasterConfig),
    with_limits(limits: LimitsConfig),
}

impl ListenerConfig {
    /// Requires a PROXY header of every connection, and accepts connections only from these networks.
    #[must_use]
    pub fn with_proxies(mut self, networks: Vec<IpNet>) -> Self {
        self.proxy_required = true;
        self.trusted_proxies = networks;
        self
    }

    /// Sets the [versions](Self::versions) that are offered.
    #[must_use]
    pub fn with_versions(mut self, versions: OfferedVersions) -> Self {
        self.versions = versions;
        self
    }

    /// Sets the [account](Self::account) under which its connections are counted.
    #[must_use]
    pub fn with_account(mut self, account: u16) -> Self {
        self.account = Some(account);
        self
    }

    /// Sets the pace at which it accepts: [`accept_rate`](Self::accept_rate) a second, and [`accept_burst`](Self::accept_burst) at once.
    #[must_use]
    pub fn with_accepts(mut self, rate: u32, burst: u32) -> Self {
        (self.accept_rate, self.accept_burst) = (rate, burst);
        self
    }
}

setters! { ListenerConfig:
    with_max_connections(max_connections: usize),
}

setters! { ClientsConfig:
    with_stale_timeout(stale_timeout: Duration),
    with_stale_reap_interval(stale_reap_interval: Duration),
    with_max_stale_clients(max_stale_clients: usize),
    with_max_frame_bytes(max_frame_bytes: u32),
    with_write_timeout(write_timeout: Duration),
    with_frame_timeout(frame_timeout: Duration),
    with_idle_timeout(idle_timeout: Duration),
    with_pace(pace: PaceLimits),
    with_enforce_pace(enforce_pace: Enforce),
    with_ack_delay(ack_delay: Duration),
    with_padding(padding: bool),
    with_keep_alive(keep_alive: Duration),
}

impl ClientsConfig {
    /// Sets the ring of sessions of version 3: [`ring_packets`](Self::ring_packets), at least 1, and [`ring_bytes`](Self::ring_bytes).
    ///
    /// # Errors
    /// [`ConfigError::TooSmall`] if nobody could send a packet.
    pub fn with_ring(mut self, packets: u32, bytes: u32) -> Result<Self, ConfigError> {
        self.ring_packets = some("ring_packets", packets)?;
        self.ring_bytes = bytes;
        Ok(self)
    }

    /// Sets the capacity of a client's queue, and how much of it is kept for a client that is away. Each bounds the other, so they are set
    /// together: [`channel_capacity`](Self::channel_capacity) in packets, at least 1, and [`channel_bytes`](Self::channel_bytes), at least
    /// 4; [`missed_packets_buffer_size`](Self::missed_packets_buffer_size) and
    /// [`missed_packets_buffer_bytes`](Self::missed_packets_buffer_bytes).
    ///
    /// # Errors
    /// [`ConfigError::TooSmall`] if the queue could hold no packet; [`ConfigError::TooLarge`] if more would be kept than the queue can hold.
    pub fn with_queue(mut self, queue: Bounds, missed: Bounds) -> Result<Self, ConfigError> {
        self.channel_capacity = at_least("channel_capacity", queue.packets, 1)?;
        self.channel_bytes = at_least("channel_bytes", queue.bytes, LENGTH_BYTES)?;
        self.missed_packets_buffer_size =
            not_above("missed_packets_buffer_size", missed.packets, queue.packets)?;
        self.missed_packets_buffer_bytes =
            not_above("missed_packets_buffer_bytes", missed.bytes, queue.bytes)?;
        Ok(self)
    }
}

setters! { MasterConfig:
    with_max_frame_bytes(max_frame_bytes: u32),
    with_announce_all(announce_all: bool),
    with_protocol(protocol: LinkProtocol),
    with_repin_after(repin_after: Duration),
    with_secret(secret: Option<LinkSecret>),
}

impl MasterConfig {
    /// Sets the capacity of the queue to the backend: [`channel_capacity`](Self::channel_capacity) in packets, at least 1, and
    /// [`channel_bytes`](Self::channel_bytes), at least 4.
    ///
    /// # Errors
    /// [`ConfigError::TooSmall`] if the queue could hold no packet.
    pub fn with_queue(mut self, packets: usize, bytes: usize) -> Result<Self, ConfigError> {
        self.channel_capacity = at_least("channel_capacity", packets, 1)?;
        self.channel_bytes = at_least("channel_bytes", bytes, LENGTH_BYTES)?;
        Ok(self)
    }

    /// Sets the bounds of the first pause between two attempts to reach the backend and of any pause.
    ///
    /// # Errors
    /// [`ConfigError::PausesReversed`] if `min` exceeds `max`.
    pub fn with_pauses(mut self, min: Duration, max: Duration) -> Result<Self, ConfigError> {
        if min > max {
            return Err(ConfigError::PausesReversed { min, max });
        }
        (self.reconnect_min, self.reconnect_max) = (min, max);
        Ok(self)
    }

    /// Sets [`connect_timeout`](Self::connect_timeout).
    ///
    /// # Errors
    /// [`ConfigError::NoTime`] if it is zero.
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.connect_timeout = some_time("connect_timeout", timeout)?;
        Ok(self)
    }
}

setters! { LimitsConfig:
    with_max_half_open(max_half_open: usize),
    with_enforce_accepts(enforce_accepts: Enforce),
    with_sources(sources: SourceLimits),
    with_enforce_sources(enforce_sources: Enforce),
    with_exempt(exempt: Vec<IpNet>),
    with_max_memory_bytes(max_memory_bytes: usize),
    with_enforce_memory(enforce_memory: Enforce),
    with_handshake_timeout(handshake_timeout: Duration),
}

impl LimitsConfig {
    /// Sets [`max_connections`](Self::max_connections) and [`max_sessions`](Self::max_sessions), at least 1 each.
    ///
    /// # Errors
    /// [`ConfigError::TooSmall`] if one of them is 0.
    pub fn with_capacity(
        mut self,
        connections: usize,
        sessions: usize,
    ) -> Result<Self, ConfigError> {
        self.max_connections = at_least("max_connections", connections, 1)?;
        self.max_sessions = at_least("max_sessions", sessions, 1)?;
        Ok(self)
    }

    /// Sets [`accept_rate`](Self::accept_rate) and [`accept_burst`](Self::accept_burst), which is at least 1.
    ///
    /// # Errors
    /// [`ConfigError::TooSmall`] if the burst is 0.
    pub fn with_accepts(mut self, rate: u32, burst: u32) -> Result<Self, ConfigError> {
        self.accept_burst = some("accept_burst", burst)?;
        self.accept_rate = rate;
        Ok(self)
    }

    /// Sets [`handshake_rate`](Self::handshake_rate) and [`handshake_burst`](Self::handshake_burst), which is at least 1.
    ///
    /// # Errors
    /// [`ConfigError::TooSmall`] if the burst is 0.
    pub fn with_handshakes(mut self, rate: u32, burst: u32) -> Result<Self, ConfigError> {
        self.handshake_burst = some("handshake_burst", burst)?;
        self.handshake_rate = rate;
        Ok(self)
    }

    /// Sets [`join_rate`](Self::join_rate) and [`join_burst`](Self::join_burst), which is at least 1.
    ///
    /// # Errors
    /// [`ConfigError::TooSmall`] if the burst is 0.
    pub fn with_joins(mut self, rate: u32, burst: u32) -> Result<Self, ConfigError> {
        self.join_burst = some("join_burst", burst)?;
        self.join_rate = rate;
        Ok(self)
    }

    /// Sets [`handshake_max_bytes`](Self::handshake_max_bytes), at least 128.
    ///
    /// # Errors
    /// [`ConfigError::TooSmall`] if it has no room for a handshake packet.
    pub fn with_handshake_max_bytes(mut self, bytes: usize) -> Result<Self, ConfigError> {
        let min = MAX_OPENING_BODY_BYTES as usize;
        self.handshake_max_bytes = at_least("handshake_max_bytes", bytes, min)?;
        Ok(self)
    }
}

setters! { SourceLimits:
    with_penalties(penalties: bool),
}

impl SourceLimits {
    /// Sets the maximum number of connections of a source and of a wider one. 0: any number.
    #[must_use]
    pub fn with_connections(mut self, narrow: usize, wide: usize) -> Self {
        (self.connections, self.wide_connections) = (narrow, wide);
        self
    }

    /// Sets the maximum number of sessions away of a source and of a wider one. 0: any number.
    #[must_use]
    pub fn with_stale_sessions(mut self, narrow: usize, wide: usize) -> Self {
        (self.stale_sessions, self.wide_stale_sessions) = (narrow, wide);
        self
    }

    /// Sets how many connections of a source are accepted per second, and how many at once, at least 1.
    ///
    /// # Errors
    /// [`ConfigError::TooSmall`] if the burst is 0.
    pub fn with_accepts(mut self, rate: u32, burst: u32) -> Result<Self, ConfigError> {
        self.burst = some("burst", burst)?;
        self.rate = rate;
        Ok(self)
    }

    /// Sets how many connections of a wider source are accepted per second, and how many at once, at least 1.
    ///
    /// # Errors
    /// [`ConfigError::TooSmall`] if the burst is 0.
    pub fn with_wide_accepts(mut self, rate: u32, burst: u32) -> Result<Self, ConfigError> {
        self.wide_burst = some("wide_burst", burst)?;
        self.wide_rate = rate;
        Ok(self)
    }

    /// Sets [`table_size`](Self::table_size), at least 1.
    ///
    /// # Errors
    /// [`ConfigError::TooSmall`] if it is 0.
    pub fn with_table_size(mut self, sources: usize) -> Result<Self, ConfigError> {
        self.table_size = at_least("table_size", sources, 1)?;
        Ok(self)
    }
}

setters! { PaceLimits:
    with_patience(patience: Duration),
}

impl PaceLimits {
    /// Sets how many frames a client may send per second, and how many at once, at least 1. A rate of 0 is no limit.
    ///
    /// # Errors
    /// [`ConfigError::TooSmall`] if the burst is 0.
    pub fn with_frames(mut self, rate: u32, burst: u32) -> Result<Self, ConfigError> {
        self.frames_burst = some("frames_burst", burst)?;
        self.frames = rate;
        Ok(self)
    }

    /// Sets how many bytes a client may send per second, and how many at once, at least 1. A rate of 0 is no limit.
    ///
    /// # Errors
    /// [`ConfigError::TooSmall`] if the burst is 0.
    pub fn with_bytes(mut self, rate: u32, burst: u32) -> Result<Self, ConfigError> {
        self.bytes_burst = some("bytes_burst", burst)?;
        self.bytes = rate;
        Ok(self)
    }
}

/// Checks a burst.
fn some(name: &'static str, burst: u32) -> Result<u32, ConfigError> {
    if burst == 0 {
        return Err(ConfigError::TooSmall {
            name,
            value: 0,
            min: 1,
        });
    }
    Ok(burst)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn too_small<T>(name: &'static str, value: usize, min: usize) -> Result<T, ConfigError> {
        Err(ConfigError::TooSmall { name, value, min })
    }

    #[test]
    fn a_value_under_which_nothing_works_is_refused_and_the_smallest_is_not() {
        let master = MasterConfig::default;
        assert_eq!(
            master().with_queue(0, 4),
            too_small("channel_capacity", 0, 1)
        );
        assert_eq!(master().with_queue(1, 3), too_small("channel_bytes", 3, 4));
        assert!(master().with_queue(1, 4).is_ok());
        let no_time = ConfigError::NoTime {
            name: "connect_timeout",
        };
        let refused = master().with_connect_timeout(Duration::ZERO);
        assert_eq!(refused, Err(no_time));
        let (min, max) = (Duration::from_secs(2), Duration::from_secs(1));
        let reversed = ConfigError::PausesReversed { min, max };
        assert_eq!(master().with_pauses(min, max), Err(reversed));
        assert!(master().with_pauses(max, max).is_ok());

        let limits = LimitsConfig::default;
        assert_eq!(
            limits().with_capacity(0, 1),
            too_small("max_connections", 0, 1)
        );
        assert_eq!(
            limits().with_capacity(1, 0),
            too_small("max_sessions", 0, 1)
        );
        assert_eq!(limits().with_accepts(5, 0), too_small("accept_burst", 0, 1));
        assert_eq!(
            limits().with_handshakes(5, 0),
            too_small("handshake_burst", 0, 1)
        );
        let refused = limits().with_handshake_max_bytes(127);
        assert_eq!(refused, too_small("handshake_max_bytes", 127, 128));
        assert!(limits().with_handshake_max_bytes(128).is_ok());
        assert_eq!(limits().with_joins(5, 0), too_small("join_burst", 0, 1));
        let ring = |packets| ClientsConfig::default().with_ring(packets, 0);
        assert_eq!(ring(0), too_small("ring_packets", 0, 1));
        assert!(ring(1).is_ok());

        let sources = SourceLimits::default;
        assert_eq!(sources().with_accepts(5, 0), too_small("burst", 0, 1));
        assert_eq!(
            sources().with_wide_accepts(5, 0),
            too_small("wide_burst", 0, 1)
        );
        assert_eq!(sources().with_table_size(0), too_small("table_size", 0, 1));
        let pace = PaceLimits::default;
        assert_eq!(pace().with_frames(5, 0), too_small("frames_burst", 0, 1));
        assert_eq!(pace().with_bytes(5, 0), too_small("bytes_burst", 0, 1));
        assert!(pace().with_bytes(5, 1).is_ok());
    }

    #[test]
    fn no_more_is_kept_for_a_client_that_is_away_than_its_queue_holds() {
        let bounds = |packets, bytes| Bounds { packets, bytes };
        let with = |queue, missed| ClientsConfig::default().with_queue(queue, missed);
        let too_large = |name, value, max| Err(ConfigError::TooLarge { name, value, max });
        let too_small = |name, value, min| Err(ConfigError::TooSmall { name, value, min });
        let small = with(bounds(8, 100), bounds(8, 100)).expect("it fits");
        // Whatever was set before does not matter.
        assert!(small.with_queue(bounds(1, 4), bounds(0, 0)).is_ok());
        assert!(with(bounds(9_000, 1 << 20), bounds(9_000, 1 << 20)).is_ok());
        for (queue, missed, refused) in [
            (
                bounds(7, 100),
                bounds(8, 100),
                too_large("missed_packets_buffer_size", 8, 7),
            ),
            (
                bounds(8, 100),
                bounds(8, 101),
                too_large("missed_packets_buffer_bytes", 101, 100),
            ),
            (
                bounds(0, 100),
                bounds(0, 0),
                too_small("channel_capacity", 0, 1),
            ),
            (bounds(8, 3), bounds(0, 0), too_small("channel_bytes", 3, 4)),
        ] {
            assert_eq!(with(queue, missed), refused);
        }
    }

    #[test]
    fn setters_build_the_same_configuration_as_fields() {
        let config = EdgeConfig::default()
            .with_clients(ClientsConfig::default().with_stale_timeout(Duration::from_secs(9)))
            .with_limits(LimitsConfig::default().with_enforce_accepts(Enforce::Report))
            .with_listener(ListenerConfig::default().with_proxies(Vec::new()));
        let mut expected = EdgeConfig::default();
        expected.clients.stale_timeout = Duration::from_secs(9);
        expected.limits.enforce_accepts = Enforce::Report;
        expected.listener.proxy_required = true;
        assert_eq!(config, expected);
    }
}
