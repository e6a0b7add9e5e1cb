//! What a host tells its application.

use core::fmt;
use core::time::Duration;

use crate::ClientId;
use crate::backend::Fault;
use crate::code::Code;
use crate::end::{End, Gap};
use crate::link::v3::{Direction, FrameError, Peer, Refusal, Settlements};

/// The life of an edge. (SPEC 33.3)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct EdgeId {
    /// The range of ids that it issues.
    pub home: u16,
    /// Grows with each process that serves this home. 0 if the edge does not tell.
    pub term: u32,
    /// Its run.
    pub run: [u8; 8],
}

impl fmt::Display for EdgeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run = u64::from_be_bytes(self.run);
        write!(f, "{run:016x}")
    }
}

/// A session that is new to this backend, as its edge tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Joined<'a> {
    /// The client.
    pub id: ClientId,
    /// Whether the session is older than what this backend knows: the backend is new, the client is not.
    pub again: bool,
    /// Where it comes from. A link of version 2 does not tell, and neither does the edge after the backend began again.
    pub peer: Option<Peer>,
    /// The exporter of the session (SPEC 20.3(f)), or zeros where there is none.
    pub exporter: [u8; 32],
    /// What the client shows, or nothing.
    pub token: &'a [u8],
    /// What an earlier life of the backend wanted to remember.
    pub note: &'a str,
    /// The packets to it that the edge has numbered for earlier lives of the backend: the next one has the number behind.
    pub numbered_down: u64,
}

impl Joined<'_> {
    /// A session of which nothing is known but its id.
    pub(super) fn bare(id: ClientId, again: bool) -> Self {
        Joined {
            id,
            again,
            peer: None,
            exporter: [0; 32],
            token: &[],
            note: "",
            numbered_down: 0,
        }
    }
}

/// An event of a [`Host`](super::Host), borrowed from the received bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The link is up, and its version is known. What is known of sessions still holds.
    Connected {
        /// The edge, which a link of version 2 does not name.
        edge: Option<EdgeId>,
        /// The sessions that it has, which a link of version 2 does not tell.
        sessions: Option<u32>,
    },
    /// The picture is complete: every session that the edge has was told. (Version 3)
    CaughtUp,
    /// There is a session that was not told before.
    Joined(Joined<'a>),
    /// A client sent a packet.
    Packet {
        /// The client.
        id: ClientId,
        /// Its bytes.
        data: &'a [u8],
        /// Its place among the packets that came from this client, from 1.
        number: u64,
        /// Whether it is the first sign of the session: it has joined, and the application is to be told so before. (Version 2)
        is_first: bool,
    },
    /// A client's connection is gone, and the edge keeps the session. (Version 3)
    Away {
        /// The client.
        id: ClientId,
        /// Why the edge let go of the connection. `None`: it ended by itself.
        cause: Option<Code>,
        /// The time until the session expires.
        expires_in: Duration,
    },
    /// The client is back. If an edge of version 2 announces its clients, it may not have been away. (SPEC 7.7)
    Resumed {
        /// The client.
        id: ClientId,
        /// How long it was away. Version 2 does not tell it.
        away: Duration,
        /// How many packets are sent to it again. Version 2 does not tell it.
        missed: u64,
        /// Where it comes from now. Version 2 does not tell it.
        peer: Option<Peer>,
        /// The edge that has it now: of several, it may be another one than before (SPEC 44.5(f)). Version 2 does not tell it.
        edge: Option<EdgeId>,
    },
    /// Packets will not come. (Version 3)
    Gap {
        /// The client.
        id: ClientId,
        /// Their direction.
        direction: Direction,
        /// Their numbers, and why.
        gap: Gap,
    },
    /// A client shows another token. (Version 3)
    Token {
        /// The client.
        id: ClientId,
        /// The token.
        token: &'a [u8],
    },
    /// The session has ended. This comes once for an id.
    Ended {
        /// The client.
        id: ClientId,
        /// Why, and what became of its packets.
        end: End,
    },
    /// Packets are settled. It is not for the application, but for those who wait for them. (Version 3)
    Settled(Settlements<'a>),
    /// The edge refused a frame of this backend. (Version 3)
    Refused {
        /// The id in it.
        id: u64,
        /// Its flag.
        flag: u8,
        /// Why.
        refusal: Refusal,
    },
    /// A frame that is about the link alone. (Version 3)
    Link,
    /// A frame about a session that has ended, or of which nothing was told. It changes nothing.
    Stale {
        /// The client.
        id: ClientId,
    },
    /// A frame that no edge sends was dropped. The link is not affected. (SPEC 7.5)
    Fault(Fault),
    /// A frame that no edge of version 3 sends was dropped. The link is not affected. (SPEC 38.1)
    Malformed(FrameError),
}

/// Returns the code of a reason of version 2 (SPEC 7.3(d), 35.5(a)).
pub(super) fn code_of(reason: &str) -> Code {
    match reason {
        "expired" => Code::EXPIRED,
        "missed packet buffer full" | "client is away" | "send queue full" | "write timed out" => {
            Code::RING_FULL
        }
        "kicked" => Code::KICKED,
        "too many stale clients" => Code::TOO_MANY_AWAY,
        "memory limit" => Code::MEMORY,
        "goodbye" => Code::SAID_GOODBYE,
        "numbers do not fit" => Code::NUMBERS,
        "packet too long" => Code::TOO_LONG,
        // "unknown client", and whatever a later edge says.
        _ => Code::GONE,
    }
}
