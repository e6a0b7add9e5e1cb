//! What a client's session is told and tells.

use core::fmt;
use core::time::Duration;

pub use crate::end::Gap;
use crate::keys::PublicKey;

#[cfg(debug_assertions)]
use super::super::key_log::KeyLog;
#[cfg(debug_assertions)]
use super::super::schedule::Secret;
use super::leave::Leave;

/// What the client tells its application of an established connection.
#[derive(Debug)]
pub(crate) enum Told<'a> {
    /// Nothing more is whole: all input is held.
    Nothing,
    /// A packet has come. One without a number has the number 0.
    Packet {
        data: &'a [u8],
        number: u64,
    },
    Gap(Gap),
    Skipped {
        count: u64,
    },
    CaughtUp,
    Leaves(Leave),
}

/// What came of a resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Resumption {
    /// The packets of the replay.
    pub(crate) missed: u64,
    pub(crate) away: Duration,
}

/// Whom the client trusts, and what it shows.
#[derive(Clone, Default)]
pub(crate) struct Trust {
    /// The keys of the edge that the application knows. If there are none, that of the first edge is learned.
    pub(crate) pins: Vec<PublicKey>,
    pub(crate) learned: Option<PublicKey>,
    pub(crate) token: Vec<u8>,
    /// Whether the token has to be sent: once on the next connection.
    pub(crate) token_is_new: bool,
    pub(crate) longest_packet_down: u32,
    /// Whether the application goes on after a conflict.
    pub(crate) takes_over: bool,
    /// Whether records are padded.
    pub(crate) pads: bool,
    /// Whether the client asks for tickets, to come back at any of several edges (SPEC 44.3).
    #[cfg(feature = "tickets")]
    pub(crate) roams: bool,
    #[cfg(debug_assertions)]
    pub(crate) key_log: Option<KeyLog>,
}

impl Trust {
    pub(super) fn pins(&self) -> &[PublicKey] {
        match self.pins.as_slice() {
            [] => self.learned.as_slice(),
            pins => pins,
        }
    }

    /// Returns the features that a Hello asks for.
    #[cfg(feature = "tickets")]
    pub(super) fn features(&self) -> u32 {
        match self.roams {
            true => super::super::packets::FEATURE_TICKETS,
            false => 0,
        }
    }

    #[cfg(not(feature = "tickets"))]
    pub(super) const fn features(&self) -> u32 {
        0
    }

    /// Tells the key log of the keys of the records of a connection, by direction.
    #[cfg(debug_assertions)]
    pub(super) fn log_keys(&self, connection: &[u8], keys: &[(&str, &Secret)]) {
        if let Some(log) = &self.key_log {
            for (direction, secret) in keys {
                log.log(direction, connection, secret);
            }
        }
    }
}

impl fmt::Debug for Trust {
    /// Does not show the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("pins", &self.pins)
            .field("learned", &self.learned)
            .finish_non_exhaustive()
    }
}
