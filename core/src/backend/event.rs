//! Events that the edge causes at a backend, and the errors between them.

use std::borrow::Cow;

use crate::ClientId;
use crate::backend::host::GrantError;
use crate::link::Protocol;
use crate::link::tagged::{Flag, Tagged, TaggedError};
use crate::link::v3::FrameError;
use crate::queue::UnknownCount;
use crate::wire::frame::FrameTooLong;

/// An event of a [`Backend`](super::Backend) for its application, borrowed from the received bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "an adapter has to handle each one")]
pub enum Event<'a> {
    /// A client sent a packet. The first packet of an id is the only sign of a new client. (SPEC 1.4)
    Packet {
        /// The client.
        id: ClientId,
        /// The client's bytes, unchanged; may be empty.
        data: &'a [u8],
    },
    /// The client resumed its session. Its further packets come from the new connection.
    ///
    /// If the edge is configured to announce its clients, this also comes for each of them at the start of a link. (SPEC 7.3, 7.7)
    Resumed {
        /// The client.
        id: ClientId,
    },
    /// The session has ended, or never existed. Nothing more comes from the client. (SPEC 7.3)
    ///
    /// An id can fail more than once: the edge answers each packet and each kick for an unknown id with "unknown client". So every packet
    /// that was in flight when a session ended is answered like this.
    Failed {
        /// The client. The id is not used again.
        id: ClientId,
        /// Why, for people and logs. Invalid UTF-8 is replaced.
        reason: Cow<'a, str>,
    },
    /// A frame that no edge of version 2 sends was dropped. The link is not affected. (SPEC 7.5)
    Fault(Fault),
}

/// Why a frame was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The frame is not a tagged packet.
    #[error(transparent)]
    Malformed(#[from] TaggedError),
    /// The frame is a kick, which only a backend sends, or has data where none is allowed.
    #[error("{flag:?} with {data_bytes} bytes for client {id} from the edge")]
    Unexpected {
        /// The client named.
        id: ClientId,
        /// The flag.
        flag: Flag,
        /// The number of bytes after the flag.
        data_bytes: usize,
    },
}

/// The link is unusable: no further frame can be found on it. The backend must close it and wait for the edge's next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// A frame exceeded [`max_receive_bytes`](super::BackendConfig::max_receive_bytes).
    #[error("the edge broke the framing: {0}")]
    FrameTooLong(#[from] FrameTooLong),
    /// The peer is not an edge: its first bytes are those of another protocol.
    #[error("the peer speaks {0}; only an edge may connect to a backend's port")]
    Foreign(Protocol),
    /// The peer is not an edge: it began with this many malformed packets.
    #[error(
        "the first {packets} packets of the peer are malformed; only an edge may connect to a backend's port"
    )]
    NoEdge {
        /// Malformed packets before the first good one.
        packets: u32,
    },
    /// The edge's answer to the wish for version 3 is malformed.
    #[error("the edge's grant is malformed: {0}")]
    Grant(FrameError),
    /// The edge granted version 3 when this end had taken its silence for version 2. The next link begins afresh.
    #[error("the edge granted version 3 too late")]
    LateGrant,
    /// The grant is refused.
    #[error(transparent)]
    Refused(#[from] GrantError),
    /// Both ends count the frames of the link differently. (SPEC 37.2(c))
    #[error("both ends of the link count differently: {0}")]
    Counts(UnknownCount),
}

/// Why a packet was not queued. The caller still has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The packet is longer than allowed, whatever the queue holds.
    #[error("packet of {length} bytes, {max} allowed")]
    TooLong {
        /// The length of the packet in bytes.
        length: usize,
        /// The maximum length in bytes.
        max: usize,
    },
    /// The queue is full. Try again once some of it was written.
    #[error("the send queue is full")]
    QueueFull,
    /// A packet for all but more sessions than may be left out. (SPEC 38.2)
    #[error("{count} sessions to be left out, {max} allowed")]
    TooManyLeftOut {
        /// How many were given.
        count: usize,
        /// The maximum.
        max: usize,
    },
}

impl<'a> Event<'a> {
    /// Converts a frame of the edge to an event.
    #[inline]
    pub(super) fn of(packet: Result<Tagged<'a>, TaggedError>) -> Event<'a> {
        match packet {
            Ok(packet) => packet.into(),
            Err(malformed) => Event::Fault(malformed.into()),
        }
    }
}

impl<'a> From<Tagged<'a>> for Event<'a> {
    fn from(Tagged { id, flag, data }: Tagged<'a>) -> Self {
        match flag {
            Flag::Data => Event::Packet { id, data },
            Flag::Failure => Event::Failed {
                id,
                reason: String::from_utf8_lossy(data),
            },
            Flag::Resumed if data.is_empty() => Event::Resumed { id },
            Flag::Resumed | Flag::Kick => Event::Fault(Fault::Unexpected {
                id,
                flag,
                data_bytes: data.len(),
            }),
        }
    }
}
