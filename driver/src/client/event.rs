//! Events of a client for its application.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use voltlane_core::ClientId;
use voltlane_core::client::{DropCause as Why, End, Gap};

/// What happened, in order. See [`Client::recv`](super::Client::recv).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A session began. The edge and the backend know this client by `id`.
    #[non_exhaustive]
    Connected {
        /// The id that the edge assigned. It is never used for another client.
        id: ClientId,
    },
    /// The backend sent a packet.
    #[non_exhaustive]
    Packet {
        /// Its bytes.
        data: Vec<u8>,
        /// Its place among the packets of the session to this client, from 1. A volatile packet has none, which is 0.
        number: u64,
    },
    /// A connection, or an attempt to make one, ended. This is not an error: the client reconnects by itself.
    #[non_exhaustive]
    Dropped {
        /// Why.
        cause: DropCause,
        /// The pause before the next attempt.
        retry_in: Duration,
    },
    /// The session was resumed, with the same id.
    #[non_exhaustive]
    Resumed {
        /// The number of packets that were missed and come now. Version 2 does not tell it.
        missed: u64,
        /// How long the client was away, as the edge saw it. Version 2 does not tell it.
        away: Duration,
    },
    /// Everything that was missed has come. Version 2 does not tell it.
    #[non_exhaustive]
    CaughtUp {},
    /// Packets that will not come.
    #[non_exhaustive]
    Gap {
        /// Their numbers, and why.
        gap: Gap,
    },
    /// A [tick](super::Options::tick) is due. Missed ticks are left out, and one that follows another comes
    /// behind everything else that waits.
    #[non_exhaustive]
    Tick {
        /// How late the tick is.
        late: Duration,
    },
    /// The session is over. It is the last event, unless a new session begins: because the options say so, or with
    /// [`start_over`](super::ClientSender::start_over).
    #[non_exhaustive]
    Ended {
        /// Why, and what became of the packets.
        end: End,
    },
}

/// Why a connection ended or was not made.
#[derive(Clone)]
pub struct DropCause {
    why: Why,
    error: Option<Arc<io::Error>>,
    words: Option<String>,
}

impl DropCause {
    pub(super) fn new(why: Why, error: Option<Arc<io::Error>>, words: Option<String>) -> Self {
        DropCause { why, error, words }
    }

    /// Returns the cause as the protocol knows it.
    #[must_use]
    pub fn why(&self) -> Why {
        self.why
    }

    /// Returns what the system or the resolver said, if the attempt failed there, or the store, if the session could not be kept.
    #[must_use]
    pub fn io_error(&self) -> Option<&io::Error> {
        self.error.as_deref()
    }

    /// Returns what the transport reported at its end, for people: with WebSocket the close code, with TLS an alert.
    #[must_use]
    pub fn parting_words(&self) -> Option<&str> {
        self.words.as_deref()
    }
}

impl fmt::Display for DropCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.why)?;
        match (&self.error, &self.words) {
            (Some(error), _) => write!(f, ": {error}"),
            (None, Some(words)) => write!(f, " ({words})"),
            (None, None) => Ok(()),
        }
    }
}

impl fmt::Debug for DropCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DropCause({:?}, {self})", self.why)
    }
}

impl std::error::Error for DropCause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let error = self.error.as_deref()?;
        Some(error)
    }
}

/// Identifies a packet that was sent, for [`acknowledged`](super::ClientSender::acknowledged).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Sent {
    /// The id of the client when it was sent.
    pub id: ClientId,
    /// The session among those of this client, from 1.
    pub session: u64,
    /// The place of the packet among those of its session to the edge, from 1.
    pub number: u64,
}
