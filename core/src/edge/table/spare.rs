//! Memory that queues pass on to each other.

use crate::edge::table::slab::room_to_keep;
use crate::protocol::{Reading, Sending};
use crate::queue::{FrameQueue, KEPT_RING_CAPACITY_BYTES};

/// Buffers of queues that became empty, for queues that fill next: no allocation per packet, and no memory kept by idle clients.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spare {
    #[expect(clippy::vec_box, reason = "boxes are lent to outboxes and come back")]
    buffers: Vec<Box<FrameQueue>>,
    /// The sum of their capacities.
    bytes: usize,
    /// Memory to read records with.
    #[expect(clippy::vec_box, reason = "boxes are lent to channels and come back")]
    readings: Vec<Box<Reading>>,
    /// Memory to make records with.
    #[expect(clippy::vec_box, reason = "boxes are lent to channels and come back")]
    sendings: Vec<Box<Sending>>,
}

image!(Spare {
    buffers,
    bytes,
    readings,
    sendings
});

/// The most buffers that are kept. More queues fill at once only where many packets wait for their acknowledgement, and clients are idle.
const MAX_SPARE_BUFFERS: usize = 1_024;
/// The most memory to read records with that is kept, each of up to 256 KiB. A connection has one while a record or a packet of it is cut.
const MAX_SPARE_READINGS: usize = 16;
/// The most memory to make records with that is kept, each of up to 128 KiB. A connection has one until its transport has taken all of them.
const MAX_SPARE_SENDINGS: usize = 16;
/// The maximum of the spare memory of queues.
const MAX_SPARE_BYTES: usize = 4 << 20;
/// The largest buffer that is kept: an outbox that becomes empty returns larger ones itself.
const MAX_SPARE_BUFFER_BYTES: usize = KEPT_RING_CAPACITY_BYTES;

impl Spare {
    /// Takes a buffer for a queue that fills.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> Option<Box<FrameQueue>> {
        let buffer = self.buffers.pop()?;
        self.bytes -= buffer.capacity_bytes();
        Some(buffer)
    }

    /// Keeps the empty queue of an outbox, if there is room for it.
    #[inline]
    pub(crate) fn keep(&mut self, buffer: Box<FrameQueue>) {
        let bytes = buffer.capacity_bytes();
        let has_room =
            self.buffers.len() < MAX_SPARE_BUFFERS && self.bytes + bytes <= MAX_SPARE_BYTES;
        if bytes <= MAX_SPARE_BUFFER_BYTES && has_room {
            self.bytes += bytes;
            self.buffers.push(buffer);
        }
    }

    /// Takes memory to read records with.
    pub(crate) fn take_reading(&mut self) -> Option<Box<Reading>> {
        self.readings.pop()
    }

    /// Keeps memory that records were read with, if there is room for it.
    #[inline]
    pub(crate) fn keep_reading(&mut self, reading: Box<Reading>) {
        if self.readings.len() < MAX_SPARE_READINGS {
            self.readings.push(reading);
        }
    }

    /// Takes memory to make records with.
    #[inline]
    pub(crate) fn take_sending(&mut self) -> Option<Box<Sending>> {
        self.sendings.pop()
    }

    /// Keeps memory that records were made with, if there is room for it.
    #[inline]
    pub(crate) fn keep_sending(&mut self, sending: Box<Sending>) {
        if self.sendings.len() < MAX_SPARE_SENDINGS {
            self.sendings.push(sending);
        }
    }

    /// Keeps at most as many buffers as there are connections, which are what fills queues.
    pub(crate) fn keep_at_most(&mut self, buffers: usize) {
        while self.buffers.len() > buffers {
            self.take();
        }
        if let Some(keep) = room_to_keep(self.buffers.len(), self.buffers.capacity()) {
            self.buffers.shrink_to(keep);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue_of(capacity: usize) -> Box<FrameQueue> {
        let mut queue = Box::<FrameQueue>::default();
        queue.adopt(Vec::with_capacity(capacity));
        queue
    }

    #[test]
    fn spare_memory_is_bounded() {
        let mut spare = Spare::default();
        spare.keep(queue_of(MAX_SPARE_BUFFER_BYTES + 1));
        assert_eq!(spare.bytes, 0);
        for _ in 0..100 {
            spare.keep(queue_of(MAX_SPARE_BUFFER_BYTES));
        }
        assert_eq!(spare.bytes, MAX_SPARE_BYTES);
        spare.keep_at_most(3);
        assert_eq!(
            (spare.buffers.len(), spare.bytes),
            (3, 3 * MAX_SPARE_BUFFER_BYTES)
        );
        while spare.take().is_some() {}
        assert_eq!(spare.bytes, 0);
        for _ in 0..=MAX_SPARE_BUFFERS {
            spare.keep(queue_of(1));
        }
        assert_eq!(spare.buffers.len(), MAX_SPARE_BUFFERS);
        for _ in 0..=MAX_SPARE_READINGS.max(MAX_SPARE_SENDINGS) {
            spare.keep_reading(Box::default());
            spare.keep_sending(Box::default());
        }
        assert_eq!(spare.readings.len(), MAX_SPARE_READINGS);
        assert_eq!(spare.sendings.len(), MAX_SPARE_SENDINGS);
    }
}
