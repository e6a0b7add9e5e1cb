//! The bounds of a client.

use core::time::Duration;

use crate::protocol::MAX_OPENING_BODY_BYTES;

/// Bytes that a handshake packet of an edge may have; the longest that version 2 knows has 74.
pub const MAX_HANDSHAKE_BODY_BYTES: u32 = MAX_OPENING_BODY_BYTES;
/// Challenges in a row that were not sealed for this client, after which its session counts as unknown to the edge.
/// Connections that end before a challenge came do not count, and do not end the row. (SPEC 4.6(c))
///
/// More than one, since the next attempt may come to another edge of the same key, which has the session.
pub const MAX_UNPROVABLE_CHALLENGES: u32 = 3;

/// The bounds of a [`Client`](super::Client).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientConfig {
    /// Bytes of the longest packet that may be sent. An edge closes the connection over more than it accepts. 1 MiB.
    pub max_send_bytes: u32,
    /// Bytes of the longest packet that is accepted. 8 MiB.
    pub max_receive_bytes: u32,
    /// Packets that may wait to be written. 8,192.
    pub queue_packets: usize,
    /// Bytes that may wait to be written, four for each packet's length included. 8 MiB.
    pub queue_bytes: usize,
    /// From [`State::Connecting`](super::State::Connecting) to an open transport. 10 s.
    pub connect_timeout: Duration,
    /// From an open transport to an established session. 5 s.
    pub handshake_timeout: Duration,
    /// The most that the first wait after a lost connection takes; see [`Backoff`](crate::Backoff). 100 ms.
    pub backoff_min: Duration,
    /// The most that any wait takes. 5 s.
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
