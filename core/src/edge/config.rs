//! What an edge is told at its start: bounds, times, the shard.

use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::id::ShardId;

/// Everything that the edge machine can be told. [`Default`] gives the documented defaults (SPEC Appendix A).
///
/// The machine takes any values: a bound of 0 means what its documentation says, and none makes it panic. What makes no sense
/// together is refused where the operator wrote it, before a machine is made.
///
/// With the feature `serde` it can be stored and read. A field that is missing has its default, and one that is unknown is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct EdgeConfig {
    /// Which of the process's machines this is; it stands in every client id that it gives out.
    pub shard: ShardId,
    /// 0: this machine is the whole edge, and its link goes to the backend. Else it is one of so many shards (SPEC 9.9): its link is a
    /// branch of a [`Trunk`](super::trunk::Trunk), and a claim of another shard's session is [handed over](super::Handover).
    pub shards: u8,
    /// What stands between the clients and the listener.
    pub listener: ListenerConfig,
    /// The clients' side.
    pub clients: ClientsConfig,
    /// The backend's side.
    pub master: MasterConfig,
    /// What stands between a stranger and the machine's memory and time.
    pub limits: LimitsConfig,
}

impl EdgeConfig {
    /// The configuration of one of `shards` machines: of the queue to the backend an equal part, rounded up. Other bounds stay: those on
    /// all clients together are shared (SPEC 9.9(g)). Its link never waits: when to dial is the trunk's to know.
    #[must_use]
    pub fn for_shard(&self, shard: ShardId, shards: u8) -> EdgeConfig {
        let mut config = self.clone();
        config.shard = shard;
        config.shards = shards;
        let part = |whole: &mut usize| *whole = whole.div_ceil(usize::from(shards.max(1)));
        part(&mut config.master.channel_capacity);
        part(&mut config.master.channel_bytes);
        config.master.reconnect_min = Duration::ZERO;
        config.master.reconnect_max = Duration::ZERO;
        config.master.connect_timeout = Duration::MAX;
        config
    }
}

/// What stands between the clients and the listener (SPEC 10.7).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct ListenerConfig {
    /// Whether every connection begins with a PROXY header, whose address is the one that the limits on sources hold for.
    pub proxy_required: bool,
    /// The networks that such connections may come from; everyone else is turned away. Without `proxy_required` it means nothing.
    pub trusted_proxies: Vec<IpNet>,
}

/// The clients' side of an edge.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct ClientsConfig {
    /// Packets that may wait for one connected client. One more ends its session ("send queue full").
    pub channel_capacity: usize,
    /// Bytes of frames that may wait for one connected client; an empty queue takes any one packet.
    pub channel_bytes: usize,
    /// How long a dropped client may come back. 0: not at all.
    pub stale_timeout: Duration,
    /// How often expired sessions are looked for. 0: each at its own time.
    pub stale_reap_interval: Duration,
    /// Sessions that may be away at one time; beyond it one ends of the wider source that has most away (SPEC 9.7). 0: none may be
    /// away.
    pub max_stale_clients: usize,
    /// Packets kept for a client that is away. 0: none, and a packet for it ends its session ("client is away").
    pub missed_packets_buffer_size: usize,
    /// Bytes of frames kept for a client that is away; an empty queue takes any one packet.
    pub missed_packets_buffer_bytes: usize,
    /// The largest body of a packet from a client, in bytes.
    pub max_frame_bytes: u32,
    /// How long a client may take nothing while something waits for it. 0: for ever.
    pub write_timeout: Duration,
    /// How long a frame may take from its first byte to its last. 0: for ever.
    pub frame_timeout: Duration,
    /// How long a client may say nothing. 0: for ever.
    pub idle_timeout: Duration,
    /// How fast one client may send.
    pub pace: PaceLimits,
    /// What becomes of a client that sends faster.
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
pub struct MasterConfig {
    /// Packets that may wait for the backend; at least 1. Beyond it clients are read no further.
    pub channel_capacity: usize,
    /// Bytes of frames that may wait for the backend; an empty queue takes any one packet.
    pub channel_bytes: usize,
    /// The largest body of a packet to a client, in bytes. A longer frame loses the link.
    pub max_frame_bytes: u32,
    /// The first pause between two attempts to reach the backend.
    pub reconnect_min: Duration,
    /// The longest pause between two attempts to reach the backend.
    pub reconnect_max: Duration,
    /// How long one attempt may take.
    pub connect_timeout: Duration,
    /// Whether a backend that comes (back) is told of every connected session as if it had just returned (SPEC 7.7).
    pub announce_all: bool,
}

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
        }
    }
}

/// What stands between a stranger and the machine's memory and time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct LimitsConfig {
    /// Connections at one time, in any state. Of these a [reserve](Self::reserve) is kept for clients that come back.
    pub max_connections: usize,
    /// Connections at one time that are not established yet. 0: any number.
    ///
    /// Three quarters of them may be newcomers, and three quarters may be connections that claim to be a client that comes back. Beyond
    /// that the newcomer that has been there for longest makes room for the next, and a claimant of the source that has the most of
    /// them. So neither keeps the other out.
    pub max_half_open: usize,
    /// Connections taken in a second, of all sources together. 0: any number.
    pub accept_rate: u32,
    /// Connections that may come at once before `accept_rate` holds.
    pub accept_burst: u32,
    /// What becomes of connections beyond the limits on all together (`accept_rate`, `max_half_open`).
    pub enforce_accepts: Enforce,
    /// What one source may do.
    pub sources: SourceLimits,
    /// What becomes of connections beyond [`sources`](Self::sources).
    pub enforce_sources: Enforce,
    /// Networks that the limits on sources do not hold for.
    pub exempt: Vec<IpNet>,
    /// Bytes that may wait in the machine in all. 0: any number. From 80 % on the byte bounds of clients shrink to a quarter, from
    /// 90 % on no session begins, from 95 % on the largest queues fail.
    pub max_memory_bytes: usize,
    /// Whether `max_memory_bytes` holds.
    pub enforce_memory: Enforce,
    /// Sessions at one time, connected or away.
    pub max_sessions: usize,
    /// From accept to established. 0: for ever.
    pub handshake_timeout: Duration,
    /// Bytes that a client may send before it is established.
    pub handshake_max_bytes: usize,
}

impl LimitsConfig {
    /// How many of `max_connections` newcomers do not get: clients that come back have half of them, connections that are not
    /// established yet the rest (SPEC 10.6(j)).
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
            enforce_accepts: Enforce::On,
            sources: SourceLimits::default(),
            enforce_sources: Enforce::On,
            exempt: loopback(),
            max_memory_bytes: 0,
            enforce_memory: Enforce::On,
            max_sessions: 1 << 21,
            handshake_timeout: Duration::from_secs(5),
            handshake_max_bytes: 512,
        }
    }
}

/// Whether a group of limits holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "lowercase")
)]
pub enum Enforce {
    /// What is beyond a limit is refused.
    #[default]
    On,
    /// What is beyond a limit is counted as refused, and taken.
    Report,
    /// There are no such limits.
    Off,
}

/// What one source may do. For each number 0 means: any number.
///
/// A source is an IPv4 address or an IPv6 /64. It is a part of wider ones: an IPv4 /24 or an IPv6 /48 may do what `wide_*` say, an
/// IPv6 /56 a quarter of that, rounded up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct SourceLimits {
    /// Connections at one time.
    pub connections: usize,
    /// Connections at one time from a wider source.
    pub wide_connections: usize,
    /// Sessions of one source that may be away at one time; for one more, one of them ends ("too many stale clients", SPEC 9.7).
    pub stale_sessions: usize,
    /// The same for a wider source.
    pub wide_stale_sessions: usize,
    /// Connections taken in a second.
    pub rate: u32,
    /// Connections that may come at once before `rate` holds.
    pub burst: u32,
    /// Connections taken in a second from a wider source.
    pub wide_rate: u32,
    /// Connections that may come at once before `wide_rate` holds.
    pub wide_burst: u32,
    /// Whether few sessions may begin for a while from a source that sends nonsense.
    pub penalties: bool,
    /// Sources remembered at one time, wider ones included: a quarter is kept for these. What finds no place counts only as part of the
    /// wider source around it, and where that has none either, nowhere (SPEC 10.6(b)).
    pub table_size: usize,
}

impl Default for SourceLimits {
    fn default() -> Self {
        SourceLimits {
            connections: 256,
            // Sixteen addresses that do all that one may. Behind the addresses of a carrier's /24 are thousands of subscribers, whose
            // phones have a /64 each in IPv6: they do not notice. Sixteen such networks are needed to fill what is kept for all.
            wide_connections: 4096,
            stale_sessions: 256,
            wide_stale_sessions: 4096,
            rate: 50,
            burst: 200,
            // A fifth of what all sources together may: five networks are needed to use that up.
            wide_rate: 400,
            wide_burst: 1600,
            penalties: true,
            table_size: 262_144,
        }
    }
}

/// How fast one client may send. It is read more slowly first, and closed when it has been over its limit for `patience`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct PaceLimits {
    /// Frames in a second. 0: any number.
    pub frames: u32,
    /// Frames that may come at once.
    pub frames_burst: u32,
    /// Bytes in a second. 0: any number.
    pub bytes: u32,
    /// Bytes that may come at once.
    pub bytes_burst: u32,
    /// How long a client may stay over its limit. 0: for ever.
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

/// The networks that are exempt unless the operator says otherwise: this machine.
fn loopback() -> Vec<IpNet> {
    vec![
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
    ]
}
