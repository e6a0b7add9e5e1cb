//! The room for what waits for a client (SPEC 10.2, 10.3).

use crate::edge::config::ClientsConfig;
use crate::edge::counters::EndReason;
use crate::edge::sessions::Place;
use crate::queue::Bounds;

/// The bounds of one session's outbox.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) bounds: Bounds,
    /// Why a session ends whose outbox would be beyond them.
    pub(crate) overflow: EndReason,
}

impl Room {
    /// The bounds for a session whose client is at `place`. `scaled` says what becomes of a byte bound when memory is short.
    #[inline]
    pub(crate) fn of(
        place: Place,
        clients: &ClientsConfig,
        scaled: impl Fn(usize) -> usize,
    ) -> Room {
        let (packets, bytes, overflow) = match place {
            Place::Attached(_) => (
                clients.channel_capacity,
                scaled(clients.channel_bytes),
                EndReason::SendQueueFull,
            ),
            _ if clients.missed_packets_buffer_size == 0 => (0, 0, EndReason::ClientAway),
            _ => (
                clients.missed_packets_buffer_size,
                scaled(clients.missed_packets_buffer_bytes),
                EndReason::MissedPacketsFull,
            ),
        };
        Room {
            bounds: Bounds { packets, bytes },
            overflow,
        }
    }
}
