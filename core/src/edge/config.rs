//! The configuration of an edge: bounds, times, the shard.

mod setters;

use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::id::ShardId;
use crate::link::v3::{Carriage, LinkSecret};
use crate::protocol::OfferedVersions;

/// The complete configuration of an edge machine. [`Default`] gives the documented defaults (SPEC Appendix A).
///
/// The `with_*` setters refuse values under which nothing works. The machine itself accepts any: a bound of 0 has its documented meaning,
/// and no value makes it panic.
///
/// With the feature `serde` it can be stored and read. A missing field has its default, and an unknown one is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct EdgeConfig {
    /// The number of this machine within the process. It is part of every client id that the machine assigns.
    pub shard: ShardId,
    /// The number of shards. 0: this machine is the whole edge, and its link goes to the backend. Otherwise it is one of this many shards
    /// (SPEC 9.9): its link is a branch of a [`Trunk`](super::trunk::Trunk), and a claim of another shard's session is [handed
    /// over](super::Handover).
    pub shards: u8,
    /// The number of backends, from 1 to [`MAX_BACKENDS`](super::MAX_BACKENDS). 0 counts as 1. The shards belong to them in equal parts, the
    /// first ones to the first backend. (SPEC 45.2)
    #[cfg(feature = "backends")]
    pub backends: u8,
    /// The home of an edge that is one of several at its backend, from 1 to 4,095. It is part of every client id that the machine assigns. 0: it
    /// is the only one. (SPEC 40.2)
    #[cfg(feature = "cluster")]
    pub home: u16,
    /// Between the clients and the listener.
    pub listener: ListenerConfig,
    /// The same for further listeners, which are numbered from 1.
    pub more_listeners: Vec<ListenerConfig>,
    /// The clients' side.
    pub clients: ClientsConfig,
    /// The backend's side.
    pub master: MasterConfig,
    /// Limits on strangers' use of the machine's memory and time.
    pub limits: LimitsConfig,
}

impl EdgeConfig {
    /// Returns the configuration of one of `shards` machines. The queue to its backend is divided into equal parts, rounded up. Other
    /// bounds are unchanged: those on all clients together are shared (SPEC 9.9(g)). Its link never pauses, since the trunk decides when to
    /// dial.
    #[must_use]
    pub fn for_shard(&self, shard: ShardId, shards: u8) -> EdgeConfig {
        let mut config = self.clone();
        config.shard = shard;
        config.shards = shards;
        let at_backend = (shards / self.backends()).max(1);
        let part = |whole: &mut usize| *whole = whole.div_ceil(at_backend.into());
        part(&mut config.master.channel_capacity);
        part(&mut config.master.channel_bytes);
        config.master.reconnect_min = Duration::ZERO;
        config.master.reconnect_max = Duration::ZERO;
        config.master.connect_timeout = Duration::MAX;
        config
    }

    /// Returns the number of backends.
    pub(crate) fn backends(&self) -> u8 {
        #[cfg(feature = "backends")]
        return self.backends.clamp(1, super::MAX_BACKENDS);
        #[cfg(not(feature = "backends"))]
        1
    }

    /// Returns what is between the clients and the listener of this number. `None` means the defaults.
    pub(crate) fn listener_of(&self, number: usize) -> Option<&ListenerConfig> {
        match number.checked_sub(1) {
            None => Some(&self.listener),
            Some(further) => self.more_listeners.get(further),
        }
    }

    /// Returns what connections at the listener of this number are counted under.
    pub(crate) fn account_of(&self, number: usize) -> u16 {
        let own = self
            .listener_of(number)
            .and_then(|listener| listener.account);
        own.unwrap_or_else(|| u16::try_from(number).unwrap_or(u16::MAX))
    }
}

/// Between the clients and a listener (SPEC 10.7).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct ListenerConfig {
    /// Whether every connection must begin with a PROXY header. The limits on sources then apply to the address in it.
    pub proxy_required: bool,
    /// The networks that such connections may come from; all others are turned away. Without `proxy_required` it has no effect.
    pub trusted_proxies: Vec<IpNet>,
    /// The versions of the client link that are offered (SPEC 18.4).
    pub versions: OfferedVersions,
    /// The maximum number of its connections, in any state, within `limits.max_connections`. 0: those of the limit alone.
    pub max_connections: usize,
    /// New connections per second, within `limits.accept_rate`. 0: those of the limit alone.
    pub accept_rate: u32,
    /// New connections that may come at once, with `accept_rate`. 0: as many as come in a second.
    pub accept_burst: u32,
    /// How the bytes of its clients come, for a backend of version 3 of the link (SPEC 35.2). Default: TCP.
    pub carriage: Carriage,
    /// What its connections are counted under. Listeners with one account share their limits, and one that gets another number keeps its
    /// connections counted. `None`: its number.
    pub account: Option<u16>,
}

impl ListenerConfig {
    /// Returns what is needed of it once the networks are checked.
    pub(crate) fn without_networks(&self) -> ListenerConfig {
        ListenerConfig {
            trusted_proxies: Vec::new(),
            ..*self
        }
    }
}

/// The clients' side of an edge.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct ClientsConfig {
    /// Packets that may wait for one connected client. One more ends its session ("send queue full").
    pub channel_capacity: usize,
    /// Bytes of frames that may wait for one connected client. An empty queue takes any one packet.
    pub channel_bytes: usize,
    /// How long a session that is away may be resumed. 0: not at all.
    pub stale_timeout: Duration,
    /// How often expired sessions are collected. 0: each at its own deadline.
    pub stale_reap_interval: Duration,
    /// The maximum number of sessions that are away. Beyond it a session of the wider source with the most away ends (SPEC 9.7). 0: none
    /// may be away.
    pub max_stale_clients: usize,
    /// Packets kept for a client that is away. 0: none, and a packet for it ends its session ("client is away").
    pub missed_packets_buffer_size: usize,
    /// Bytes of frames kept for a client that is away. An empty queue takes any one packet.
    pub missed_packets_buffer_bytes: usize,
    /// Packets that either side of a session of version 3 may have sent and not seen acknowledged, at least 1 (SPEC 24.2).
    pub ring_packets: u32,
    /// The same in bytes. One packet alone may be of any length.
    pub ring_bytes: u32,
    /// The time after which packets of a client of version 3 are acknowledged at the latest (SPEC 24.3(d)).
    pub ack_delay: Duration,
    /// Whether records to clients of version 3 are padded (SPEC 21.3(f)).
    pub padding: bool,
    /// The silence after which a client of version 3 asks whether the edge is there. The edge asks after twice that, and gives up after two
    /// and a half times that (SPEC 25.1). 0: nobody asks.
    pub keep_alive: Duration,
    /// The largest body of a packet from a client, in bytes.
    pub max_frame_bytes: u32,
    /// How long a client may take none of the output that waits for it. 0: for ever.
    pub write_timeout: Duration,
    /// How long a frame may take from its first to its last byte. 0: for ever.
    pub frame_timeout: Duration,
    /// How long a client may be silent. 0: for ever.
    pub idle_timeout: Duration,
    /// The pace of one client.
    pub pace: PaceLimits,
    /// Whether the pace is enforced.
    pub enforce_pace: Enforce,
}

impl Default for ClientsConfig {
    fn default() -> Self {
        ClientsConfig {
            channel_capacity: 8192,
            channel_bytes: 1 << 20,
            stale_timeout: Duration::from_secs(300),
            stale_reap_interval: Duration::from_secs(15),
            max_stale_clients: 65_535,
            missed_packets_buffer_size: 256,
            missed_packets_buffer_bytes: 1 << 20,
            ring_packets: 8192,
            ring_bytes: 1 << 20,
            ack_delay: Duration::from_millis(250),
            padding: false,
            keep_alive: Duration::from_secs(20),
            max_frame_bytes: 1 << 20,
            write_timeout: Duration::from_secs(10),
            frame_timeout: Duration::from_secs(10),
            idle_timeout: Duration::ZERO,
            pace: PaceLimits::default(),
            enforce_pace: Enforce::On,
        }
    }
}

/// The backend's side of an edge.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct MasterConfig {
    /// Packets that may wait for the backend; at least 1. Beyond it clients are not read.
    pub channel_capacity: usize,
    /// Bytes of frames that may wait for the backend. An empty queue takes any one packet.
    pub channel_bytes: usize,
    /// The largest body of a packet to a client, in bytes. A longer frame resets the link.
    pub max_frame_bytes: u32,
    /// The first pause between two attempts to reach the backend.
    pub reconnect_min: Duration,
    /// The longest pause between two attempts to reach the backend.
    pub reconnect_max: Duration,
    /// How long one attempt may take.
    pub connect_timeout: Duration,
    /// Whether a backend that connects is told of every attached session as if it had just been resumed (SPEC 7.7). Version 3 of the link
    /// has its own picture of who is there.
    pub announce_all: bool,
    /// Which versions of the link a backend may ask for (SPEC 34.1(e)). A shard's branch has version 2. It does not change while the edge
    /// runs.
    pub protocol: LinkProtocol,
    /// How long one of several backends may be down until its sessions go to others. 0: for ever. (SPEC 45.6(a))
    pub repin_after: Duration,
    /// The secret that edge and backend prove to each other (SPEC 34.5). With one the link has version 3, whatever
    /// [`protocol`](Self::protocol) says. Another one counts from the next link on. In an edge that began without one and with another
    /// protocol than [`V3`](LinkProtocol::V3), it must not come later.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub secret: Option<LinkSecret>,
}

impl MasterConfig {
    /// Returns which versions of the link a backend may ask for, with or without a secret.
    pub(crate) fn link_protocol(&self) -> LinkProtocol {
        match self.secret {
            Some(_) => LinkProtocol::V3,
            None => self.protocol,
        }
    }
}

/// Which versions of the backend link an edge speaks. (SPEC 34.1)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "lowercase")
)]
#[non_exhaustive]
pub enum LinkProtocol {
    /// Version 2. A backend that asks for version 3 is not heard.
    #[default]
    #[cfg_attr(feature = "serde", serde(rename = "2"))]
    V2,
    /// Version 2 until a backend asks for version 3. The first link of a run is held for 100 ms, so that its first frames are counted.
    Auto,
    /// Version 3. Nothing is sent to a backend that does not ask.
    #[cfg_attr(feature = "serde", serde(rename = "3"))]
    V3,
}

image!(enum LinkProtocol { 0 V2 {}, 1 Auto {}, 2 V3 {} });

impl Default for MasterConfig {
    fn default() -> Self {
        MasterConfig {
            channel_capacity: 32_768,
            channel_bytes: 32 << 20,
            max_frame_bytes: 8 << 20,
            reconnect_min: Duration::from_millis(100),
            reconnect_max: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            announce_all: false,
            protocol: LinkProtocol::V2,
            repin_after: Duration::ZERO,
            secret: None,
        }
    }
}

/// Limits on strangers' use of the machine's memory and time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct LimitsConfig {
    /// Maximum number of connections, in any state. A [reserve](Self::reserve) of these is kept for clients that come back.
    pub max_connections: usize,
    /// Maximum number of half-open connections. 0: any number.
    ///
    /// At most three quarters of them may be newcomers, and at most three quarters claimants. Beyond that the oldest newcomer makes room
    /// for the next one, or a claimant of the source with the most claimants does. So neither kind keeps the other out.
    pub max_half_open: usize,
    /// Connections accepted per second, from all sources together. 0: any number.
    pub accept_rate: u32,
    /// Connections accepted at once before `accept_rate` applies.
    pub accept_burst: u32,
    /// Costly handshakes of transports, such as TLS, per second, of all connections together. 0: any number.
    pub handshake_rate: u32,
    /// Such handshakes at once before `handshake_rate` applies.
    pub handshake_burst: u32,
    /// Whether the limits on all connections together (`accept_rate`, `max_half_open`, `handshake_rate`) are enforced.
    pub enforce_accepts: Enforce,
    /// The limits on one source.
    pub sources: SourceLimits,
    /// Whether [`sources`](Self::sources) is enforced.
    pub enforce_sources: Enforce,
    /// Networks to which the limits on sources do not apply.
    pub exempt: Vec<IpNet>,
    /// Maximum number of bytes that may wait in the machine. 0: any number. From 80 % clients' byte bounds shrink to a quarter, from 90 %
    /// no session begins, from 95 % the largest queues fail.
    pub max_memory_bytes: usize,
    /// Whether `max_memory_bytes` is enforced.
    pub enforce_memory: Enforce,
    /// Maximum number of sessions, attached or away.
    pub max_sessions: usize,
    /// Sessions of version 3 that begin per second, from all sources together. 0: any number.
    pub join_rate: u32,
    /// Sessions of version 3 that begin at once before `join_rate` applies.
    pub join_burst: u32,
    /// From accept to established. 0: for ever.
    pub handshake_timeout: Duration,
    /// Bytes that a client may send before it is established.
    pub handshake_max_bytes: usize,
}

impl LimitsConfig {
    /// Returns how many of `max_connections` newcomers do not get: clients that come back have half of them, half-open connections the rest
    /// (SPEC 10.6(j)).
    #[must_use]
    pub fn reserve(&self) -> usize {
        let most = match self.max_half_open {
            0 => usize::MAX,
            most => most,
        };
        (self.max_connections / 8).min(most)
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        LimitsConfig {
            max_connections: 1 << 20,
            max_half_open: 1024,
            accept_rate: 2000,
            accept_burst: 4000,
            handshake_rate: 2000,
            handshake_burst: 4000,
            enforce_accepts: Enforce::On,
            sources: SourceLimits::default(),
            enforce_sources: Enforce::On,
            exempt: loopback(),
            max_memory_bytes: 0,
            enforce_memory: Enforce::On,
            max_sessions: 1 << 21,
            join_rate: 1000,
            join_burst: 2000,
            handshake_timeout: Duration::from_secs(5),
            handshake_max_bytes: 512,
        }
    }
}

/// Whether a group of limits is enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "lowercase")
)]
#[non_exhaustive]
pub enum Enforce {
    /// An excess over a limit is refused.
    #[default]
    On,
    /// An excess over a limit is counted as refused, but accepted.
    Report,
    /// These limits do not apply.
    Off,
}

/// The limits on one source. For each number 0 means any number.
///
/// A source is an IPv4 address or an IPv6 /64. It is a part of wider ones: `wide_*` apply to an IPv4 /24 or an IPv6 /48, and a quarter of
/// them, rounded up, to an IPv6 /56.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct SourceLimits {
    /// Maximum number of connections.
    pub connections: usize,
    /// Maximum number of connections from a wider source.
    pub wide_connections: usize,
    /// Maximum number of sessions of one source that are away. Beyond it one of them ends ("too many stale clients", SPEC 9.7).
    pub stale_sessions: usize,
    /// Maximum number of sessions of a wider source that are away.
    pub wide_stale_sessions: usize,
    /// Connections accepted per second.
    pub rate: u32,
    /// Connections accepted at once before `rate` applies.
    pub burst: u32,
    /// Connections accepted per second from a wider source.
    pub wide_rate: u32,
    /// Connections accepted at once before `wide_rate` applies.
    pub wide_burst: u32,
    /// Whether a source that sends malformed input may begin only few sessions for a while.
    pub penalties: bool,
    /// Maximum number of sources remembered, including wider ones, for which a quarter is reserved. A source without a place counts only as
    /// a part of the wider source around it, and if that has none either, nowhere (SPEC 10.6(b)).
    pub table_size: usize,
}

impl Default for SourceLimits {
    fn default() -> Self {
        SourceLimits {
            connections: 256,
            // Sixteen addresses at their limit. Behind a carrier's /24 are thousands of subscribers, whose phones have a /64 each in IPv6,
            // so they are not affected. Sixteen such networks are needed to fill what is kept for all.
            wide_connections: 4096,
            stale_sessions: 256,
            wide_stale_sessions: 4096,
            rate: 50,
            burst: 200,
            // A fifth of the rate of all sources together: five networks are needed to use that up.
            wide_rate: 400,
            wide_burst: 1600,
            penalties: true,
            table_size: 262_144,
        }
    }
}

/// The pace of one client. A client above it is read more slowly, and closed once it has been above it for `patience`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct PaceLimits {
    /// Frames per second. 0: any number.
    pub frames: u32,
    /// Frames at once.
    pub frames_burst: u32,
    /// Bytes per second. 0: any number.
    pub bytes: u32,
    /// Bytes at once.
    pub bytes_burst: u32,
    /// How long a client may exceed its pace. 0: for ever.
    pub patience: Duration,
}

impl Default for PaceLimits {
    fn default() -> Self {
        PaceLimits {
            frames: 0,
            frames_burst: 1000,
            bytes: 0,
            bytes_burst: 256 * 1024,
            patience: Duration::from_secs(5),
        }
    }
}

/// Returns the networks that are exempt by default: this machine.
fn loopback() -> Vec<IpNet> {
    vec![
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
    ]
}
