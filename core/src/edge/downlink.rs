//! The room for what waits for a client (SPEC 10.2, 10.3).

use crate::edge::config::ClientsConfig;
use crate::edge::counters::EndReason;
use crate::edge::sessions::{Numbered, Place};
use crate::queue::{Amount, Bounds, Outbox};

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

/// What is missing where a packet has no room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lack {
    /// Why the session ends, unless packets of it are given up.
    pub(crate) reason: EndReason,
    /// What is to be given up. `None`: that would not help.
    pub(crate) amount: Option<Amount>,
}

/// Packets are given up in a number that makes room for a part of the bound: one of this many.
const PART_GIVEN_UP: usize = 16;

/// Returns how much goes at once where this much is too much of `most`.
fn given_up_at_once(lack: usize, most: usize) -> usize {
    match lack {
        0 => 0,
        lack => lack.saturating_add(most / PART_GIVEN_UP),
    }
}

/// Returns what is missing for a packet of `length` bytes for a session whose packets are numbered, if anything (SPEC 24.2(e), 25.4(c)).
///
/// The ring bounds the packets that were sent and are not acknowledged, since no more are sent then. Others have the bounds of a queue.
/// While packets are sent again, and while the client is away, the sum of both counts. A packet that `replaces` one of this length which
/// waits takes its place.
pub(crate) fn room_in_ring(
    numbered: &Numbered,
    outbox: &Outbox,
    place: Place,
    length: usize,
    replaces: Option<usize>,
    clients: &ClientsConfig,
    scaled: impl Fn(usize) -> usize,
) -> Option<Lack> {
    if u32::try_from(length).map_or(true, |length| length > numbered.longest_down) {
        return Some(Lack {
            reason: EndReason::PacketTooLong,
            amount: None,
        });
    }
    let attached = matches!(place, Place::Attached(_));
    let is_sent_once = outbox.sent() >= numbered.progress.sent();
    let (above, ring) = if attached && is_sent_once {
        (outbox.sent(), None)
    } else {
        (outbox.acked(), Some(numbered.progress.ring()))
    };
    let mut held = numbered.progress.waiting_above(outbox, above);
    if let Some(replaced) = replaces {
        held = held.minus(Amount {
            packets: 1,
            bytes: replaced,
        });
    }
    let (packets, bytes) = ring.map_or((0, 0), |ring| (ring.packets as usize, ring.bytes as usize));
    let most = clients.channel_capacity.saturating_add(packets);
    let most_bytes = scaled(clients.channel_bytes.saturating_add(bytes));
    let stored = held.bytes.saturating_add(Outbox::stored_bytes(length));
    let fits = held.packets < most && (held.packets == 0 || stored <= most_bytes);
    let reason = match attached {
        true => EndReason::SendQueueFull,
        false => EndReason::MissedPacketsFull,
    };
    let packets = held.packets.saturating_add(1).saturating_sub(most);
    let bytes = stored.saturating_sub(most_bytes);
    (!fits).then_some(Lack {
        reason,
        amount: Some(Amount {
            packets: given_up_at_once(packets, most),
            bytes: given_up_at_once(bytes, most_bytes),
        }),
    })
}

/// Returns whether a VOLATILE is sent to an attached client: less than half of what may wait does (SPEC 24.6(b)).
pub(crate) fn has_room_for_volatile(
    waiting: Amount,
    clients: &ClientsConfig,
    scaled: impl Fn(usize) -> usize,
) -> bool {
    waiting.packets < clients.channel_capacity.div_ceil(2)
        && waiting.bytes < scaled(clients.channel_bytes).div_ceil(2)
}
