//! What a run did, in words: kept only when somebody wants to read it.

use std::fmt;

/// A line of the sequence diagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// A simulated client.
    Client(u32),
    /// The edge under test.
    Edge,
    /// The simulated backend.
    Backend,
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lane::Client(number) => write!(f, "client {number}"),
            Lane::Edge => f.write_str("edge"),
            Lane::Backend => f.write_str("backend"),
        }
    }
}

/// What kind of thing a note tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Bytes or packets that arrived.
    Packet,
    /// The beginning or the end of a connection.
    Connection,
    /// An operation of the plan, or a fault.
    Fault,
    /// Time that was told to the edge.
    Time,
    /// A rule that was broken.
    Violation,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Virtual nanoseconds since the start.
    pub at_nanos: u64,
    /// Who did it.
    pub from: Lane,
    /// To whom; the same lane when it concerns nobody else.
    pub to: Lane,
    /// The kind.
    pub mark: Mark,
    /// In words.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (
            self.at_nanos / 1_000_000_000,
            self.at_nanos / 1_000 % 1_000_000,
        );
        let flag = if self.mark == Mark::Violation {
            "!!"
        } else {
            "  "
        };
        write!(f, "{flag} {seconds:>4}.{micros:06}  ")?;
        if self.from == self.to {
            write!(f, "{:<24}", self.from.to_string())?;
        } else {
            write!(f, "{:<24}", format!("{} -> {}", self.from, self.to))?;
        }
        f.write_str(&self.text)
    }
}
