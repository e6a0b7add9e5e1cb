//! What the edge says to a backend, and what can go wrong between them.

use std::borrow::Cow;

use crate::ClientId;
use crate::link::Protocol;
use crate::link::tagged::{Flag, Tagged, TaggedError};
use crate::wire::frame::FrameTooLong;

/// What a [`Backend`](super::Backend) tells its application, lent from the bytes that brought it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// A packet of a client. The first one of an id is all that says that the client is there. (SPEC 1.4)
    Packet {
        /// Whose.
        id: ClientId,
        /// The client's bytes, unchanged; there may be none.
        data: &'a [u8],
    },
    /// The client is back after a reconnect; its further packets come from the new connection. Where the edge is
    /// configured to announce its clients, they come so at the beginning of a link. (SPEC 7.3, 7.7)
    Resumed {
        /// Who.
        id: ClientId,
    },
    /// The client is gone for good, or was never there. Nothing more comes from it. (SPEC 7.3)
    ///
    /// An id can fail more than once: the edge answers each packet and each kick for an id that it does not know with
    /// "unknown client", so those that were under way when a client ended come back so, one by one.
    Failed {
        /// Who. The id does not come again.
        id: ClientId,
        /// Why, for people and logs: what is no UTF-8 in it is replaced.
        reason: Cow<'a, str>,
    },
    /// A frame that no edge of version 2 sends was dropped. The link is as good as before. (SPEC 7.5)
    Fault(Fault),
}

/// What was wrong with a frame that was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No tagged packet.
    #[error(transparent)]
    Malformed(#[from] TaggedError),
    /// A kick, which only a backend sends, or data where there is to be none.
    #[error("{flag:?} with {data_bytes} bytes for client {id} from the edge")]
    Unexpected {
        /// The client named.
        id: ClientId,
        /// The flag.
        flag: Flag,
        /// Bytes after the flag.
        data_bytes: usize,
    },
}

/// The link is lost: no further frame can be found on it. The backend is to close it and wait for the edge's next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// A frame above [`max_receive_bytes`](super::BackendConfig::max_receive_bytes).
    #[error("the edge broke the framing: {0}")]
    FrameTooLong(#[from] FrameTooLong),
    /// The peer is no edge: its first bytes are those of another protocol.
    #[error("the peer speaks {0}; only an edge may connect to a backend's port")]
    Foreign(Protocol),
    /// The peer is no edge: it began with this many malformed packets.
    #[error(
        "the first {packets} packets of the peer are malformed; only an edge may connect to a backend's port"
    )]
    NoEdge {
        /// Malformed packets, with no good one before them.
        packets: u32,
    },
}

/// A packet that was not queued. The caller still has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Longer than a packet may be, whatever the queue holds.
    #[error("packet of {length} bytes, {max} allowed")]
    TooLong {
        /// Bytes of the packet.
        length: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// No room: try again once some of the queue was written.
    #[error("the send queue is full")]
    QueueFull,
}

impl<'a> Event<'a> {
    /// What a frame of the edge's says.
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
