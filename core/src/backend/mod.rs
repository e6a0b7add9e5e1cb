//! The backend's side of the link to an edge, as a pure state machine. (SPEC 7)

mod event;
pub mod fleet;
pub mod host;
mod peer;

use crate::config::at_least;
use crate::link::judge::Judge;
use crate::link::tagged::{Flag, HEADER_BYTES, TAG_BYTES, Tagged};
use crate::wire::frame::{FrameReader, FrameTooLong};
use crate::{ClientId, ConfigError, FrameQueue};

pub use event::{BackendError, Event, Fault, SendError};
pub use peer::Rivals;

/// The maximum length of a frame, less the tag.
const LONGEST_DATA_BYTES: u32 = u32::MAX - 9;

/// The bounds of a [`Backend`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendConfig {
    /// Maximum length of a received frame body in bytes, including 9 for id and flag. Default: 8 MiB + 9.
    max_receive_bytes: u32,
    /// Maximum length of a sent packet in bytes. An edge resets the link if it exceeds the edge's own limit. Default: 8 MiB.
    max_send_bytes: u32,
    /// Capacity of the send queue in bytes, including 13 per packet for length, id and flag. Default: 64 MiB.
    queue_bytes: usize,
}

impl BackendConfig {
    /// Sets the maximum length of a received frame body, in bytes, at least the 9 of id and flag. Default: 8 MiB + 9.
    ///
    /// # Errors
    /// [`ConfigError::TooSmall`] if no frame could be received.
    pub fn with_max_receive_bytes(mut self, bytes: u32) -> Result<Self, ConfigError> {
        at_least("max_receive_bytes", bytes as usize, TAG_BYTES)?;
        self.max_receive_bytes = bytes;
        Ok(self)
    }

    /// Sets the maximum length of a sent packet, in bytes. With 0 only empty packets can be sent. Default: 8 MiB.
    #[must_use]
    pub fn with_max_send_bytes(mut self, bytes: u32) -> Self {
        self.max_send_bytes = bytes;
        self
    }

    /// Sets the capacity of the send queue in bytes, at least 13. Each packet takes 13 more than its data. Default: 64 MiB.
    ///
    /// # Errors
    /// [`ConfigError::TooSmall`] if the queue could hold no packet.
    pub fn with_queue_bytes(mut self, bytes: usize) -> Result<Self, ConfigError> {
        self.queue_bytes = at_least("queue_bytes", bytes, HEADER_BYTES)?;
        Ok(self)
    }

    /// Returns the maximum length of a received frame body, in bytes.
    #[must_use]
    pub fn max_receive_bytes(&self) -> u32 {
        self.max_receive_bytes
    }

    /// Returns the maximum length of a sent packet, in bytes.
    #[must_use]
    pub fn max_send_bytes(&self) -> u32 {
        self.max_send_bytes
    }

    /// Returns the capacity of the send queue in bytes.
    #[must_use]
    pub fn queue_bytes(&self) -> usize {
        self.queue_bytes
    }
}

impl Default for BackendConfig {
    fn default() -> Self {
        BackendConfig {
            max_receive_bytes: (8 << 20) + 9,
            max_send_bytes: 8 << 20,
            queue_bytes: 64 << 20,
        }
    }
}

/// A backend's end of the link to one edge, and of the links that follow when that one breaks.
///
/// # Contract
/// The adapter owns the listener and the stream. In every turn, in any order, it does the following:
/// - After a read, call [`handle_bytes`](Self::handle_bytes) until it returns `None`. After an error, close the stream.
/// - Write [`output`](Self::output), and report how much was written with [`handle_written`](Self::handle_written) before any other call.
/// - Whenever the stream is gone, call [`handle_closed`](Self::handle_closed). The next stream continues from there.
///
/// An edge keeps its clients while it has no backend, so a backend's knowledge of them survives a lost link. So does its send queue: a
/// packet that was cut is sent again in full, but one that the lost stream had taken entirely is not. (SPEC 7.6)
///
/// The machine has no time or randomness. No input from the edge makes it panic, and it buffers no more than was received.
#[derive(Debug)]
#[cfg_attr(feature = "testkit", derive(Clone))]
pub struct Backend {
    config: BackendConfig,
    reader: FrameReader,
    queue: FrameQueue,
    /// Judges the peer until it has sent something that only an edge sends.
    judge: Judge,
}

impl Backend {
    /// Creates a backend that knows no client yet.
    #[must_use]
    pub fn new(config: BackendConfig) -> Self {
        Backend {
            config,
            reader: FrameReader::default(),
            queue: FrameQueue::new(),
            judge: Judge::default(),
        }
    }

    /// Handles bytes that were read. Returns the first event in them, and advances `input` past it.
    ///
    /// Call it again with the rest until it returns `None`, when `input` is empty. An event is borrowed from `input`, or from the machine
    /// if its frame came in pieces.
    ///
    /// # Errors
    /// [`BackendError`] once the framing is lost or the peer turns out not to be an edge. Every call then repeats the error until
    /// [`handle_closed`](Self::handle_closed).
    #[inline]
    pub fn handle_bytes<'a, 'input: 'a>(
        &'a mut self,
        input: &mut &'input [u8],
    ) -> Result<Option<Event<'a>>, BackendError> {
        let before = *input;
        let next = self.reader.next_frame(input, self.config.max_receive_bytes);
        if self.judge.is_open() {
            // Of a frame that is too long only the length is consumed, and the bytes after it tell what the peer is.
            let left = if next.is_ok() { input.len() } else { 0 };
            let taken = before.split_at(before.len() - left).0;
            return peer::judge(&mut self.judge, taken, next);
        }
        Ok(next?.map(|body| Event::of(Tagged::decode(body))))
    }

    /// Handles that the stream is gone. Its unfinished frame is dropped, and both sides start afresh on the next stream.
    pub fn handle_closed(&mut self) {
        self.reader.clear();
        self.queue.rewind();
        self.judge = Judge::default();
    }

    /// Queues a packet for a client.
    ///
    /// If the session has ended meanwhile, the edge may answer with [`Event::Failed`].
    ///
    /// # Errors
    /// [`SendError::TooLong`] above [`max_packet_bytes`](Self::max_packet_bytes); [`SendError::QueueFull`] if the queue has no room for it.
    /// Nothing is queued then.
    #[inline]
    pub fn send(&mut self, id: ClientId, data: &[u8]) -> Result<(), SendError> {
        self.push(Tagged {
            id,
            flag: Flag::Data,
            data,
        })
    }

    /// Kicks a client.
    ///
    /// What the edge has queued for the client may still reach it. Then its connection ends, and [`Event::Failed`] reports the end of the
    /// session. (SPEC 9.5)
    ///
    /// # Errors
    /// [`SendError::QueueFull`].
    pub fn kick(&mut self, id: ClientId) -> Result<(), SendError> {
        self.push(Tagged {
            id,
            flag: Flag::Kick,
            data: &[],
        })
    }

    /// Returns whether the queue has room for a packet of this length.
    #[must_use]
    pub fn has_room(&self, length: usize) -> bool {
        let bytes = length.saturating_add(HEADER_BYTES);
        self.queue.held_bytes().saturating_add(bytes) <= self.config.queue_bytes
    }

    /// Returns the maximum length of a packet in bytes: `max_send_bytes`, or the room in an empty queue.
    #[must_use]
    pub fn max_packet_bytes(&self) -> usize {
        let room = self.config.queue_bytes.saturating_sub(HEADER_BYTES);
        usize::try_from(self.config.max_send_bytes.min(LONGEST_DATA_BYTES))
            .map_or(room, |max| max.min(room))
    }

    /// Returns the number of packets to write, including a half-written one.
    #[must_use]
    pub fn queued_packets(&self) -> usize {
        self.queue.packets()
    }

    /// Returns the number of bytes to write, including 13 per packet for length, id and flag.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.queue.held_bytes()
    }

    /// Returns the bytes to write now. They stay until [`handle_written`](Self::handle_written).
    #[must_use]
    pub fn output(&self) -> &[u8] {
        self.queue.output()
    }

    /// Handles that the stream took the first `n` bytes of [`output`](Self::output).
    ///
    /// # Panics
    /// If `n` is more than was offered.
    pub fn handle_written(&mut self, n: usize) {
        self.queue.advance(n);
    }

    fn push(&mut self, packet: Tagged<'_>) -> Result<(), SendError> {
        let (length, max) = (packet.data.len(), self.max_packet_bytes());
        if length > max {
            return Err(SendError::TooLong { length, max });
        }
        if !self.has_room(length) {
            return Err(SendError::QueueFull);
        }
        self.queue.push_frame(&packet.header(), packet.data);
        Ok(())
    }

    /// Queues a kick, whatever the queue holds.
    fn push_kick(&mut self, id: ClientId) {
        let flag = Flag::Kick;
        let data = &[][..];
        self.queue
            .push_frame(&Tagged { id, flag, data }.header(), data);
    }

    /// The peer has shown that it is an edge.
    fn trust(&mut self) {
        self.judge.trust();
    }

    /// Handles what another reader found in the bytes that it has `taken`.
    fn handle_frame<'a>(
        &mut self,
        taken: &[u8],
        next: Result<Option<&'a [u8]>, FrameTooLong>,
    ) -> Result<Option<Event<'a>>, BackendError> {
        if self.judge.is_open() {
            return peer::judge(&mut self.judge, taken, next);
        }
        Ok(next?.map(|body| Event::of(Tagged::decode(body))))
    }

    /// Takes the bodies of the frames that wait.
    fn take_frames(&mut self) -> Vec<Vec<u8>> {
        let queue = core::mem::take(&mut self.queue);
        queue.bodies().map(<[u8]>::to_vec).collect()
    }

    /// Returns whom the packets are for that wait, one id for each.
    fn receivers(&self) -> impl Iterator<Item = ClientId> {
        let packets = self.queue.bodies().map(Tagged::decode);
        packets.filter_map(|packet| match packet {
            Ok(packet) if packet.flag == Flag::Data => Some(packet.id),
            _ => None,
        })
    }

    /// Queues a packet whose length was checked, whatever the queue holds.
    fn push_data(&mut self, id: ClientId, data: &[u8]) {
        let flag = Flag::Data;
        self.queue
            .push_frame(&Tagged { id, flag, data }.header(), data);
    }
}
