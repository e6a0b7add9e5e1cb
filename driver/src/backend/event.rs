//! What a backend tells its application.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use voltlane_core::ClientId;
use voltlane_core::backend::host::{self, Direction, EdgeId, Peer};
use voltlane_core::code::Code;
use voltlane_core::end::{End, Gap, Ledgers};

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
        /// Its life. A link of version 2 does not tell it.
        edge: Option<EdgeId>,
        /// How many sessions it has. A link of version 2 does not tell it.
        sessions: Option<u32>,
    },
    /// The picture is complete: every session of the edge was told, of several of that which connected last, after this backend or the edge began again. Those that were not there any
    /// more have ended before this. (Version 3 of the link)
    #[non_exhaustive]
    CaughtUp {},
    /// The edge is gone. It keeps its clients, and what is sent to them waits for its next link. This is not an error.
    #[non_exhaustive]
    EdgeLost {
        /// Its life, as far as it was told.
        edge: Option<EdgeId>,
    },
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
    /// The client has lost its connection. The edge keeps its session for a while, and what is sent to it. (Version 3 of the link)
    #[non_exhaustive]
    Away {
        /// The client.
        id: ClientId,
        /// Why the edge let go of the connection. `None`: it ended by itself.
        cause: Option<Code>,
        /// The time until the session expires.
        expires_in: Duration,
    },
    /// Packets will not come, from a client or to it. (Version 3 of the link)
    #[non_exhaustive]
    Gap {
        /// The client.
        id: ClientId,
        /// Their direction.
        direction: Direction,
        /// Their numbers, and why.
        gap: Gap,
    },
    /// A client shows another token than it did. (Version 3 of the link)
    #[non_exhaustive]
    Token {
        /// The client.
        id: ClientId,
        /// The token, of at most 4,096 bytes.
        token: Vec<u8>,
    },
    /// The client is back, as the same client, after it had lost its connection. Its further packets come from the new one.
    ///
    /// A link of version 2 does not tell when a client goes away, nor the times and numbers here. If the edge is configured to announce its clients, this also comes for
    /// each of them at the start of such a link. (SPEC 7.7)
    #[non_exhaustive]
    Resumed {
        /// The client.
        id: ClientId,
        /// How long it was away.
        away: Duration,
        /// How many packets are sent to it again.
        missed: u64,
        /// The life of the edge that has it now. Of several edges, it may be another one than before.
        edge: Option<EdgeId>,
    },
    /// The time that the options ask for has passed. Ticks that nobody waited for are left out, and one that follows another
    /// comes behind everything else that waits.
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
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Joined {
    /// The client.
    pub id: ClientId,
    /// Whether the session is older than this backend's knowledge of it: the backend is new, the client is not. Over a link of version 2:
    /// whether its first sign was a resume, or an announcement.
    pub again: bool,
    /// What the client shows when it joins: a ticket, or whatever this backend wants. At most 4,096 bytes. Empty over a link of version 2, and
    /// if it joined `again`.
    pub token: Vec<u8>,
    /// What an earlier life of this backend has [noted](super::BackendHandle::set_note). Empty over a link of version 2.
    pub note: String,
    /// How the client's connection comes to the edge, and from where. A link of version 2 does not tell it.
    pub peer: Option<Peer>,
    /// A secret that this session of the client and nobody else has, to bind other things to it (SPEC 20.3(f)). Zeros where there is none.
    pub exporter: [u8; 32],
    /// How many packets to it the edge has of earlier lives of this backend. What was sent with higher numbers did not reach the edge: see
    /// [`restore`](super::Builder::restore). A link of version 2 does not tell it.
    pub sent: u64,
}

impl fmt::Debug for Joined {
    /// Shows neither the token nor the exporter, which are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joined")
            .field("id", &self.id)
            .field("again", &self.again)
            .field("note", &self.note)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl Joined {
    /// A client of which nothing is known but that it is there.
    pub(super) fn bare(id: ClientId) -> Self {
        Joined {
            id,
            again: false,
            token: Vec::new(),
            note: String::new(),
            peer: None,
            exporter: [0; 32],
            sent: 0,
        }
    }

    /// Returns the token as text. Invalid UTF-8 is replaced.
    #[must_use]
    pub fn token_text(&self) -> String {
        String::from_utf8_lossy(&self.token).into_owned()
    }
}

impl From<host::Joined<'_>> for Joined {
    fn from(joined: host::Joined<'_>) -> Self {
        Joined {
            id: joined.id,
            again: joined.again,
            token: joined.token.to_vec(),
            note: joined.note.to_owned(),
            peer: joined.peer,
            exporter: joined.exporter,
            sent: joined.numbered_down,
        }
    }
}

/// What is known of a client that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientInfo {
    /// The client.
    pub id: ClientId,
    /// What is noted of it.
    pub note: String,
    /// Whether it has a connection. Over a link of version 2: true.
    pub is_connected: bool,
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
    /// Its place among all frames of a link of version 2.
    pub(super) place: Option<u64>,
}

impl Weigh for Event {
    fn packet_bytes(&self) -> usize {
        match self {
            Event::Packet { data, .. } => data.len(),
            Event::Token { token, .. } => token.len(),
            Event::Joined(joined) => joined.token.len() + joined.note.len(),
            Event::Ended { end, .. } => end.text.len(),
            _ => 0,
        }
    }
}

/// One of the edges of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct EdgeInfo {
    /// Its life.
    pub edge: EdgeId,
    /// The address that it is connected from. `None`: it is not connected.
    pub address: Option<SocketAddr>,
    /// Sessions that it has, as far as is known.
    pub sessions: usize,
}
