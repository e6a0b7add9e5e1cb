//! What a host tells its application.

use crate::ClientId;
use crate::backend::Fault;
use crate::code::Code;
use crate::end::End;

/// An event of a [`Host`](super::Host), borrowed from the received bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A session that this backend had not heard of, and that was resumed or announced: it is older than what the backend knows.
    Joined {
        /// The client.
        id: ClientId,
    },
    /// A client sent a packet.
    Packet {
        /// The client.
        id: ClientId,
        /// Its bytes.
        data: &'a [u8],
        /// Its place among the packets that came from this client, from 1.
        number: u64,
        /// Whether it is the first sign of the session: it has joined, and the application is to be told so before.
        is_first: bool,
    },
    /// The client is back. If the edge announces its clients, it may not have been away. (SPEC 7.7)
    Resumed {
        /// The client.
        id: ClientId,
    },
    /// The session has ended. This comes once for an id.
    Ended {
        /// The client.
        id: ClientId,
        /// Why, and what became of its packets.
        end: End,
    },
    /// A frame about a session that has ended, or of which nothing was told. It changes nothing.
    Stale {
        /// The client.
        id: ClientId,
    },
    /// A frame that no edge sends was dropped. The link is not affected. (SPEC 7.5)
    Fault(Fault),
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
