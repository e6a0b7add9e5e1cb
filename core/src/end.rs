//! How a session ended, and what became of its packets.

use core::fmt;

use crate::code::Code;
use crate::ledger::Ledger;

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct End {
    /// Why. Its class says whether a new session may begin. [`Code::OTHER_EDGE`] and [`Code::CONFLICT`] are a client's own.
    pub code: Code,
    /// Words for people, perhaps none.
    pub text: String,
    /// What became of the packets, as far as this end knows. In a box, so that an error with an end in it is small.
    pub ledgers: Box<Ledgers>,
}

impl End {
    /// Creates an end, as an adapter tells one.
    #[must_use]
    pub fn new(code: Code, text: impl Into<String>, ledgers: Ledgers) -> Self {
        End {
            code,
            text: text.into(),
            ledgers: Box::new(ledgers),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text.as_str() {
            "" => write!(f, "{}", self.code),
            text => write!(f, "{}: {text}", self.code),
        }
    }
}

/// The accounts of both directions of a session, as one end knows them. (SPEC 24.7)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::exhaustive_structs, reason = "a link has two directions")]
pub struct Ledgers {
    /// Packets from the client to the edge.
    pub up: Ledger,
    /// Packets from the edge to the client.
    pub down: Ledger,
}

/// Packets that will not come. They have numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// The number of the first one.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// Their bytes, or 0 if the edge does not know.
    pub bytes: u64,
    /// Why: 1 there was no room, 2 the client claimed less than it had acknowledged, 3 memory. Others may be added. (SPEC 24.4(b))
    pub reason: u8,
}

impl Gap {
    /// Creates a gap, as its reader does.
    #[must_use]
    pub const fn new(first: u64, count: u64, bytes: u64, reason: u8) -> Gap {
        Gap {
            first,
            count,
            bytes,
            reason,
        }
    }
}
