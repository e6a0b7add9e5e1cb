//! The backend's side of the link to an edge, as a pure state machine. (SPEC 7)

mod event;
mod peer;

use crate::link::tagged::{Flag, HEADER_BYTES, Tagged};
use crate::wire::frame::FrameReader;
use crate::{ClientId, FrameQueue};

/// What a frame's length can say, less the tag.
const LONGEST_DATA_BYTES: u32 = u32::MAX - 9;

use peer::Newcomer;

pub use event::{BackendError, Event, Fault, SendError};
pub use peer::Rivals;

/// The bounds of a [`Backend`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendConfig {
    /// Bytes of the longest frame body that is accepted, 9 for id and flag included. 8 MiB + 9.
    pub max_receive_bytes: u32,
    /// Bytes of the longest packet that may be sent. An edge resets the link over more than it accepts. 8 MiB.
    pub max_send_bytes: u32,
    /// Bytes that may wait to be written, 13 for each packet's length, id and flag included. 64 MiB.
    pub queue_bytes: usize,
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

/// The backend's end of one edge's link, and of the links that follow when that one breaks.
///
/// # Contract
/// The adapter owns the listener and the stream. In every turn, in any order:
/// - bytes read: [`handle_bytes`](Self::handle_bytes) until it returns `None`; after an error, close the stream;
/// - write [`output`](Self::output), and say how much of it went by [`handle_written`](Self::handle_written) before any
///   other call;
/// - whenever the stream is gone: [`handle_closed`](Self::handle_closed). The next one goes on from there.
///
/// An edge keeps its clients while it has no backend, so what a backend knows of them stays true over a lost link. What
/// waits to be written stays too: a packet that was cut in the middle is sent again whole, one that the lost stream
/// had taken entirely is not. (SPEC 7.6)
///
/// There is no time in it, and nothing random. Whatever the edge sends, it does not panic, and buffers no more than was
/// received.
#[derive(Debug)]
pub struct Backend {
    config: BackendConfig,
    reader: FrameReader,
    queue: FrameQueue,
    /// The peer, until it has said something that an edge would.
    newcomer: Option<Newcomer>,
}

impl Backend {
    /// A backend that has heard of no client.
    #[must_use]
    pub fn new(config: BackendConfig) -> Self {
        Backend {
            config,
            reader: FrameReader::default(),
            queue: FrameQueue::new(),
            newcomer: Some(Newcomer::default()),
        }
    }

    /// Takes bytes that were read. Returns the first event that they hold, and advances `input` past it: to be called
    /// again with the rest until it returns `None`, when nothing of `input` is left.
    ///
    /// An event is lent from `input`, or from the machine where its frame came in pieces.
    ///
    /// # Errors
    /// [`BackendError`] once the framing is lost, or the peer is no edge; again at every call until [`handle_closed`](Self::handle_closed).
    #[inline]
    pub fn handle_bytes<'a, 'input: 'a>(
        &'a mut self,
        input: &mut &'input [u8],
    ) -> Result<Option<Event<'a>>, BackendError> {
        let before = *input;
        let next = self.reader.next_frame(input, self.config.max_receive_bytes);
        if let Some(newcomer) = &mut self.newcomer {
            // Of a frame that is too long its length alone is taken, and what follows says what it is.
            let left = if next.is_ok() { input.len() } else { 0 };
            let taken = before.split_at(before.len() - left).0;
            let event = newcomer.judge(taken, next)?;
            if event
                .as_ref()
                .is_some_and(|event| !matches!(event, Event::Fault(_)))
            {
                self.newcomer = None;
            }
            return Ok(event);
        }
        Ok(next?.map(|body| Event::of(Tagged::decode(body))))
    }

    /// The stream is gone. An unfinished frame of it is dropped, and the next one is a new beginning for both sides.
    pub fn handle_closed(&mut self) {
        self.reader.clear();
        self.queue.rewind();
        self.newcomer = Some(Newcomer::default());
    }

    /// Queues a packet for a client. One that has ended meanwhile is answered with [`Event::Failed`], at times.
    ///
    /// # Errors
    /// [`SendError::TooLong`] above [`max_packet_bytes`](Self::max_packet_bytes), [`SendError::QueueFull`] where the
    /// queue's bound would be passed. Nothing is queued then.
    #[inline]
    pub fn send(&mut self, id: ClientId, data: &[u8]) -> Result<(), SendError> {
        self.push(Tagged {
            id,
            flag: Flag::Data,
            data,
        })
    }

    /// Ends a client for good: what is queued for it at the edge may still reach it, then its connection ends, and
    /// [`Event::Failed`] says so. (SPEC 9.5)
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

    /// Bytes of the longest packet that can be sent: `max_send_bytes`, or what the empty queue has room for.
    #[must_use]
    pub fn max_packet_bytes(&self) -> usize {
        let room = self.config.queue_bytes.saturating_sub(HEADER_BYTES);
        usize::try_from(self.config.max_send_bytes.min(LONGEST_DATA_BYTES))
            .map_or(room, |max| max.min(room))
    }

    /// Packets that wait to be written, a half-written one included.
    #[must_use]
    pub fn queued_packets(&self) -> usize {
        self.queue.packets()
    }

    /// Bytes of the packets that wait to be written, 13 for each packet's length, id and flag included.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.queue.held_bytes()
    }

    /// The bytes to write now. They stay until [`handle_written`](Self::handle_written).
    #[must_use]
    pub fn output(&self) -> &[u8] {
        self.queue.output()
    }

    /// The stream took the first `n` bytes of [`output`](Self::output).
    ///
    /// # Panics
    /// When `n` is more than was offered.
    pub fn handle_written(&mut self, n: usize) {
        self.queue.advance(n);
    }

    fn push(&mut self, packet: Tagged<'_>) -> Result<(), SendError> {
        let (length, max) = (packet.data.len(), self.max_packet_bytes());
        if length > max {
            return Err(SendError::TooLong { length, max });
        }
        if self.queue.held_bytes() + packet.encoded_len() > self.config.queue_bytes {
            return Err(SendError::QueueFull);
        }
        self.queue.push_frame(&packet.header(), packet.data);
        Ok(())
    }
}
