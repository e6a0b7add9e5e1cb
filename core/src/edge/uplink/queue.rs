//! What waits for the backend: announcements, then packets and notices, whatever carries them.

use core::mem;

use crate::edge::config::MasterConfig;
use crate::edge::uplink::batch::{Batch, Sealed, exchange};
use crate::edge::uplink::version::LinkVersion;
use crate::id::ClientId;
use crate::link::tagged::{Flag, HEADER_BYTES, TAG_BYTES, Tagged};
use crate::queue::{FrameQueue, Reservation};
use crate::wire::frame::LENGTH_BYTES;

/// Memory that a shard without clients keeps in each of its two queues.
const IDLE_BYTES: usize = 4 * 1024;

/// The memory that the queue keeps when it is empty: what a turn of many clients with large packets fills.
const KEPT_BYTES: usize = 1 << 20;

/// The queue for the backend, with its bounds.
#[derive(Clone, Debug)]
pub(crate) struct LinkQueue {
    /// Whole frames.
    pub(crate) frames: FrameQueue,
    /// Full batches for the trunk, before `frames`. Only a branch has some.
    sealed: Sealed,
    /// Announcements go before everything else. The walk over the sessions has reached `announced_to`.
    pub(crate) announcements: FrameQueue,
    pub(super) announced_to: Option<u32>,
    /// The version of the link that takes it.
    pub(crate) version: LinkVersion,
    max_packets: usize,
    max_bytes: usize,
    /// What is left of these bounds beside the full batches.
    room_packets: usize,
    room_bytes: usize,
}

image!(LinkQueue {
    frames,
    sealed,
    announcements,
    announced_to,
    version,
    max_packets,
    max_bytes,
    room_packets,
    room_bytes,
});

impl LinkQueue {
    pub(crate) fn new(config: &MasterConfig, is_of_shard: bool) -> Self {
        let mut queue = LinkQueue {
            frames: FrameQueue::new(),
            sealed: Sealed::default(),
            announcements: FrameQueue::new(),
            announced_to: None,
            version: LinkVersion::new(config.link_protocol(), is_of_shard),
            max_packets: 0,
            max_bytes: 0,
            room_packets: 0,
            room_bytes: 0,
        };
        queue.set_bounds(config);
        queue
    }

    /// Changes the bounds. What exceeds one stays.
    pub(crate) fn set_bounds(&mut self, config: &MasterConfig) {
        self.max_packets = config.channel_capacity.max(1);
        self.max_bytes = config.channel_bytes;
        self.set_room();
    }

    fn set_room(&mut self) {
        self.room_packets = self.max_packets.saturating_sub(self.sealed.frames());
        self.room_bytes = self.max_bytes.saturating_sub(self.sealed.bytes());
    }

    /// Returns whether a tagged packet with `data_bytes` of data has room: within both bounds, or alone.
    #[inline]
    pub(crate) fn has_room(&self, data_bytes: usize) -> bool {
        let bytes = data_bytes + HEADER_BYTES;
        (self.frames.packets() < self.room_packets
            && self.frames.held_bytes().saturating_add(bytes) <= self.room_bytes)
            || self.is_empty()
    }

    /// Returns the longest packet that a client may send which may send packets of `longest` bytes: the backend takes no longer ones (SPEC
    /// 34.2(d)).
    #[inline(always)]
    pub(crate) fn longest(&self, longest: u32) -> u32 {
        match self.version.may_be_version_3() {
            true => longest.min(self.version.longest_packet()),
            false => longest,
        }
    }

    /// Returns whether an announcement is to be made, or waits.
    #[cfg(feature = "upgrade")]
    pub(crate) fn has_announcements(&self) -> bool {
        self.announced_to.is_some() || !self.announcements.is_empty()
    }

    /// Returns whether no packet waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.sealed.frames() == 0
    }

    /// Returns whether there are packets that were not handed up.
    pub(super) fn has_packets(&self) -> bool {
        self.sealed.frames() > 0 || self.frames.bytes() > 0
    }

    /// Returns the number of packets that wait.
    pub(crate) const fn packets(&self) -> usize {
        self.sealed.frames() + self.frames.packets()
    }

    /// Returns the bytes of the packets that wait.
    pub(crate) const fn packets_bytes(&self) -> usize {
        self.sealed.bytes() + self.frames.held_bytes()
    }

    /// Returns the bytes of everything that waits.
    #[inline]
    pub(crate) const fn held_bytes(&self) -> usize {
        self.packets_bytes() + self.announcements.held_bytes()
    }

    /// Appends a tagged packet.
    #[inline]
    pub(crate) fn push(&mut self, id: ClientId, flag: Flag, data: &[u8]) {
        push_tagged(&mut self.frames, id, flag, data);
    }

    /// Moves the oldest frame of `backlog` here if it has room. Returns its length in bytes.
    pub(crate) fn take_from(&mut self, backlog: &mut FrameQueue) -> Option<usize> {
        let taken = backlog.next_frame_bytes()?;
        if !self.has_room(taken.saturating_sub(LENGTH_BYTES + TAG_BYTES)) {
            return None;
        }
        self.frames.push_frame(backlog.output().get(..taken)?, &[]);
        backlog.advance(taken);
        Some(taken)
    }

    /// Frees all spare buffers, and queues above [`IDLE_BYTES`], since there is no client that fills them. A client that comes and goes
    /// needs no more than that.
    pub(crate) fn trim(&mut self) {
        for frames in [&mut self.frames, &mut self.announcements] {
            if frames.capacity_bytes() > IDLE_BYTES {
                frames.release();
            }
        }
        self.sealed.trim();
    }

    /// Handles that the carrier is gone. What was announced is announced to the next backend, and a frame that was begun is sent in full.
    pub(crate) fn rewind(&mut self) {
        self.version.closed(&mut self.frames);
        self.announced_to = None;
        self.announcements = FrameQueue::new();
    }

    // ---- over a link, as bytes

    /// Returns the bytes to be written now.
    #[inline(always)]
    pub(super) fn output(&self) -> [&[u8]; 2] {
        if !self.version.is_version_2() {
            return self.version.output(&self.frames);
        }
        let queued = if self.announced_to.is_some() {
            &[]
        } else {
            self.frames.output()
        };
        [self.announcements.output(), queued]
    }

    /// Handles that the first `bytes` bytes of [`output`](Self::output) are written.
    pub(super) fn written(&mut self, bytes: usize) {
        if !self.version.is_version_2() {
            return self.version.written(bytes, &mut self.frames);
        }
        let announced = bytes.min(self.announcements.bytes());
        self.announcements.advance(announced);
        self.frames.advance_keeping(bytes - announced, KEPT_BYTES);
    }

    // ---- over a branch, in batches

    /// Makes a batch of the packets, if they are enough to fill one. Those of version 3 are kept until they are acknowledged.
    pub(super) fn seal_full(&mut self) {
        if self.version.features().is_some() {
            return;
        }
        self.sealed.seal_full(&mut self.frames);
        self.set_room();
    }

    /// Takes the announcements that wait.
    pub(super) fn take_announcements(&mut self, spare: &mut Batch) -> Batch {
        exchange(&mut self.announcements, spare)
    }

    /// Makes frames of full batches again.
    pub(crate) fn unseal(&mut self) {
        if self.sealed.frames() > 0 {
            self.take_back(&Batch::new());
        }
    }

    /// Puts frames before all others. No carrier is to have taken a part of these.
    pub(crate) fn take_back(&mut self, batch: &Batch) {
        let mut frames = FrameQueue::new();
        let sealed = mem::take(&mut self.sealed).into_batches();
        for batch in [batch].into_iter().chain(&sealed) {
            batch.bodies().for_each(|(body, _)| frames.push_body(body));
        }
        self.frames.bodies().for_each(|body| frames.push_body(body));
        self.frames = frames;
        self.set_room();
    }

    /// Copies the packets of version 3 that come next, and keeps them until they are acknowledged.
    pub(super) fn copy_packets(&mut self, spare: &mut Batch) -> Batch {
        let mut batch = mem::take(spare);
        batch.clear();
        self.version.hand_up(&mut self.frames, &mut batch);
        batch
    }

    /// Takes the oldest packets.
    pub(super) fn take_packets(&mut self, spare: &mut Batch) -> Option<Batch> {
        let batch = self.sealed.take(&mut self.frames, spare)?;
        self.set_room();
        Some(batch)
    }
}

/// Appends a tagged packet to a queue. Its data is copied once.
#[inline]
pub(crate) fn push_tagged(queue: &mut FrameQueue, id: ClientId, flag: Flag, data: &[u8]) {
    queue.push_frame(&Tagged { id, flag, data }.header(), data);
}

/// Begins a client's packet of `data_bytes` bytes in a queue.
#[inline(always)]
pub(crate) fn reserve_tagged(
    queue: &mut FrameQueue,
    id: ClientId,
    data_bytes: usize,
) -> Reservation<'_> {
    queue.reserve(&Tagged::header_for(id, Flag::Data, data_bytes), data_bytes)
}
