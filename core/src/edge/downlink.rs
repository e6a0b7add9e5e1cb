//! The room for what waits for a client (SPEC 10.2, 10.3).

use crate::edge::config::ClientsConfig;
use crate::edge::counters::EndReason;
use crate::edge::sessions::Place;
use crate::queue::FrameQueue;

/// The bounds of one session's queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    max_packets: usize,
    max_bytes: usize,
    /// Why a session ends whose queue would be beyond them.
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
        let (max_packets, max_bytes, overflow) = match place {
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
            max_packets,
            max_bytes,
            overflow,
        }
    }

    /// Whether a frame of `frame_bytes` may be added. One alone may be of any size.
    #[inline]
    pub(crate) fn takes(&self, queue: &FrameQueue, frame_bytes: usize) -> bool {
        queue.packets() < self.max_packets
            && (queue.is_empty()
                || queue.held_bytes().saturating_add(frame_bytes) <= self.max_bytes)
    }

    /// Whether the queue as it is may stay. One packet alone may be of any size.
    pub(crate) fn holds(&self, queue: &FrameQueue) -> bool {
        let is_small = queue.packets() <= 1 || queue.held_bytes() <= self.max_bytes;
        queue.packets() <= self.max_packets && is_small
    }
}
