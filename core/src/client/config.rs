//! The bounds of a client.

use core::time::Duration;

use crate::protocol::MAX_OPENING_BODY_BYTES;

/// Maximum length of a handshake packet's body from an edge, in bytes. The longest in version 2 has 74.
pub const MAX_HANDSHAKE_BODY_BYTES: u32 = MAX_OPENING_BODY_BYTES;
/// The number of challenges in a row that were not sealed for this client after which the edge counts as not knowing its session.
///
/// Connections that end before a challenge do not count, and do not end the row. (SPEC 4.6(c)) It is more than one because the next attempt
/// may reach another edge with the same key, which has the session.
pub const MAX_UNPROVABLE_CHALLENGES: u32 = 3;

/// The bounds of a [`Client`](super::Client).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientConfig {
    /// Maximum length of a sent packet in bytes. An edge closes the connection if it exceeds the edge's own limit. Default: 1 MiB.
    pub max_send_bytes: u32,
    /// Maximum length of a received packet in bytes. Default: 8 MiB.
    pub max_receive_bytes: u32,
    /// Capacity of the send queue in packets. Default: 8,192.
    pub queue_packets: usize,
    /// Capacity of the send queue in bytes, including four per packet for the length. Default: 8 MiB.
    pub queue_bytes: usize,
    /// Maximum time from [`State::Connecting`](super::State::Connecting) to an open transport. Default: 10 s.
    pub connect_timeout: Duration,
    /// Maximum time from an open transport to an established session. Default: 5 s.
    pub handshake_timeout: Duration,
    /// Upper bound of the first pause after a lost connection; see [`Backoff`](crate::Backoff). Default: 100 ms.
    pub backoff_min: Duration,
    /// Upper bound of any pause. Default: 5 s.
    pub backoff_max: Duration,
}

impl Default for ClientConfig {
    fn default() -> Self {
        ClientConfig {
            max_send_bytes: 1 << 20,
            max_receive_bytes: 8 << 20,
            queue_packets: 8_192,
            queue_bytes: 8 << 20,
            connect_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(5),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
        }
    }
}
