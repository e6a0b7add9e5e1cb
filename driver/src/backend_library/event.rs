//! What a backend tells its application.

use std::net::SocketAddr;
use std::time::Duration;

use voltlane_core::ClientId;
use voltlane_core::end::{End, Ledgers};

use crate::weigh::Weigh;

/// What happened, in order. See [`Backend::recv`](super::Backend::recv).
///
/// For each id there is one `Joined` before its other events, and one `Ended` after them. An id that this application has sent something to
/// before it joined may have the latter alone.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// An edge connected. What the backend knows about its clients from an earlier link still holds.
    #[non_exhaustive]
    EdgeConnected {
        /// The address that it connected from.
        address: SocketAddr,
    },
    /// The edge is gone. It keeps its clients, and what is sent to them waits for its next link. This is not an error.
    #[non_exhaustive]
    EdgeLost {},
    /// There is a session that this backend has not told of before.
    ///
    /// Over a link of version 2 it comes with the first packet of a client, or with its first resume.
    Joined(Joined),
    /// A client sent a packet.
    #[non_exhaustive]
    Packet {
        /// The client.
        id: ClientId,
        /// Its bytes, unchanged; may be empty.
        data: Vec<u8>,
        /// Its place among the packets from this client, from 1.
        number: u64,
    },
    /// The client is back, as the same client, after it had lost its connection. Its further packets come from the new one.
    ///
    /// A link of version 2 does not tell when a client goes away. If the edge is configured to announce its clients, this also comes for
    /// each of them at the start of such a link. (SPEC 7.7)
    #[non_exhaustive]
    Resumed {
        /// The client.
        id: ClientId,
    },
    /// The time that the options ask for has passed. Ticks that nobody waited for are left out.
    #[non_exhaustive]
    Tick {
        /// How much later it is than it should be.
        late: Duration,
    },
    /// The session is over. Nothing more comes from the client, and its id is not used again.
    #[non_exhaustive]
    Ended {
        /// The client.
        id: ClientId,
        /// Why, and what became of the packets.
        end: End,
    },
}

/// A session that is new to this backend.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Joined {
    /// The client.
    pub id: ClientId,
    /// Whether the session is older than this backend's knowledge of it: the backend is new, the client is not. Over a link of version 2:
    /// whether its first sign was a resume, or an announcement.
    pub again: bool,
}

/// What is known of a client that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientInfo {
    /// The client.
    pub id: ClientId,
    /// What became of its packets so far. Over a link of version 2 nobody tells what arrived at the client.
    pub ledgers: Ledgers,
}

/// A packet that was sent, as a value to ask with: see [`acknowledged`](super::BackendHandle::acknowledged).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Sent {
    /// The client.
    pub id: ClientId,
    /// The place of the packet among those to this client, from 1. 0 if the session had ended, so that nothing was sent.
    pub number: u64,
    /// Its place among all frames of the backend.
    pub(super) place: u64,
}

impl Weigh for Event {
    fn packet_bytes(&self) -> usize {
        match self {
            Event::Packet { data, .. } => data.len(),
            Event::Ended { end, .. } => end.text.len(),
            _ => 0,
        }
    }
}
