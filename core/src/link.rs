//! The backend link: whether it is there, when to try again, and what waits for it (SPEC 7.6, 8.4).

use core::time::Duration;

use rand_chacha::ChaCha20Rng;

use crate::backoff::Backoff;
use crate::id::ClientId;
use crate::queue::FrameQueue;
use crate::time::Time;
use crate::wire::frame::{FrameReader, LENGTH_BYTES};
use crate::wire::tagged::{Flag, HEADER_BYTES, TAG_BYTES, Tagged};

use crate::edge::{Deadline, DeadlineReason, MasterConfig};

/// The states of the link (SPEC 8.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// Nobody is there; the next attempt is due at `retry_at`.
    Down { retry_at: Time },
    /// An attempt is under way since then.
    Connecting { since: Time },
    /// There is a backend since then.
    Up { since: Time },
}

/// The link to the backend.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) state: LinkState,
    pub(crate) reader: FrameReader,
    /// Framing is lost, or an attempt takes too long: the adapter is to drop the stream.
    pub(crate) wants_close: bool,
    /// Whole tagged frames on their way to the backend.
    pub(crate) queue: FrameQueue,
    /// Announcements go before everything in `queue`; the walk over the sessions has come to this index.
    pub(crate) announced_to: Option<u32>,
    pub(crate) announcements: FrameQueue,
    backoff: Backoff,
    connect_timeout: Duration,
    max_packets: usize,
    max_bytes: usize,
}

impl Link {
    pub(crate) fn new(config: &MasterConfig) -> Self {
        Link {
            state: LinkState::Down {
                retry_at: Time::ZERO,
            },
            reader: FrameReader::default(),
            wants_close: false,
            queue: FrameQueue::new(),
            announced_to: None,
            announcements: FrameQueue::new(),
            backoff: Backoff::new(config.reconnect_min, config.reconnect_max),
            connect_timeout: config.connect_timeout,
            max_packets: config.channel_capacity.max(1),
            max_bytes: config.channel_bytes,
        }
    }

    /// Other bounds and pauses; what is beyond a bound stays, and the pause that runs ends as it was to.
    pub(crate) fn set_bounds(&mut self, config: &MasterConfig) {
        self.backoff
            .set_range(config.reconnect_min, config.reconnect_max);
        self.connect_timeout = config.connect_timeout;
        self.max_packets = config.channel_capacity.max(1);
        self.max_bytes = config.channel_bytes;
    }

    /// Whether a tagged packet with `data_bytes` of data has room: within both bounds, or alone.
    #[inline]
    pub(crate) fn has_room(&self, data_bytes: usize) -> bool {
        let bytes = data_bytes + HEADER_BYTES;
        self.queue.is_empty()
            || (self.queue.packets() < self.max_packets
                && self.queue.held_bytes().saturating_add(bytes) <= self.max_bytes)
    }

    /// Appends a tagged packet.
    #[inline]
    pub(crate) fn push(&mut self, id: ClientId, flag: Flag, data: &[u8]) {
        push_tagged(&mut self.queue, id, flag, data);
    }

    /// Whether a stream to the backend is to be opened now.
    pub(crate) fn wants_connect(&self, now: Time) -> bool {
        matches!(self.state, LinkState::Down { retry_at } if retry_at <= now)
    }

    /// An attempt to open a stream began.
    pub(crate) fn connecting(&mut self, now: Time) {
        if let LinkState::Down { .. } = self.state {
            self.state = LinkState::Connecting { since: now };
        }
    }

    /// The stream is open. False when it was before.
    pub(crate) fn connected(&mut self, now: Time) -> bool {
        if self.is_up() {
            return false;
        }
        self.state = LinkState::Up { since: now };
        self.wants_close = false;
        true
    }

    /// When an attempt is to begin, or the one under way to be given up.
    pub(crate) fn deadline(&self) -> Option<Deadline> {
        let (at, reason) = match self.state {
            LinkState::Down { retry_at } => (retry_at, DeadlineReason::LinkRetry),
            LinkState::Connecting { since } if !self.wants_close => {
                (since + self.connect_timeout, DeadlineReason::LinkConnect)
            }
            LinkState::Connecting { .. } | LinkState::Up { .. } => return None,
        };
        Some(Deadline { at, reason })
    }

    /// Gives an attempt up that takes too long.
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        if let LinkState::Connecting { since } = self.state
            && since + self.connect_timeout <= now
        {
            self.wants_close = true;
        }
    }

    /// The stream is gone or was never there: back to `Down`, the next attempt after a pause. Whether there was one; `None` when the
    /// link was down before.
    pub(crate) fn closed(&mut self, now: Time, rng: &mut ChaCha20Rng) -> Option<bool> {
        let was_up = match self.state {
            LinkState::Down { .. } => return None,
            LinkState::Connecting { .. } => false,
            LinkState::Up { since } => {
                // A backend that takes a connection and drops it at once has not earned a quick attempt.
                if now.since(since) >= self.backoff.max() {
                    self.backoff.reset();
                }
                true
            }
        };
        self.state = LinkState::Down {
            retry_at: now + self.backoff.next_delay(rng),
        };
        self.wants_close = false;
        self.reader = FrameReader::default();
        self.queue.rewind();
        self.announced_to = None;
        self.announcements = FrameQueue::new();
        Some(was_up)
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, LinkState::Up { .. })
    }

    /// Moves the oldest frame of `backlog` to the queue if it has room; how many bytes it was.
    pub(crate) fn take_from(&mut self, backlog: &mut FrameQueue) -> Option<usize> {
        let bytes = backlog.output();
        let length = u32::from_le_bytes(*bytes.first_chunk::<{ LENGTH_BYTES }>()?) as usize;
        let frame = bytes.get(..LENGTH_BYTES + length)?;
        if !self.has_room(length.saturating_sub(TAG_BYTES)) {
            return None;
        }
        self.queue.push_frame(frame, &[]);
        let taken = frame.len();
        backlog.advance(taken);
        Some(taken)
    }
}

/// Appends a tagged packet to a queue; its data is copied once.
#[inline]
pub(crate) fn push_tagged(queue: &mut FrameQueue, id: ClientId, flag: Flag, data: &[u8]) {
    queue.push_frame(&Tagged { id, flag, data }.header(), data);
}
