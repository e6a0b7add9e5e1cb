//! Judges whether the program at the other end of a link is the one that belongs there: a backend or an edge (SPEC 7.5(d), 7.8(h)).
//!
//! The link has no handshake, so a peer can be judged only by what it sends.

use core::fmt;

use crate::link::foreign::{Beginning, FOREIGN_PACKETS, Protocol};
use crate::wire::frame::FrameTooLong;

/// Evidence that the peer is another program.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Evidence {
    /// Its first bytes are those of another protocol.
    Protocol(Protocol),
    /// It sent a length above the limit before any good packet.
    Length(FrameTooLong),
    /// Its first [`FOREIGN_PACKETS`] packets are malformed.
    Malformed,
}

image!(enum Evidence { 0 Protocol { 0: a }, 1 Length { 0: a }, 2 Malformed {} });

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Evidence::Protocol(protocol) => write!(f, "it speaks {protocol}"),
            Evidence::Length(error) => write!(f, "its first frame has a {error}"),
            Evidence::Malformed => write!(f, "its first {FOREIGN_PACKETS} packets are malformed"),
        }
    }
}

/// The judge of one link. The first good packet settles it for the peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Judge {
    /// The first bytes of this link.
    beginning: Beginning,
    /// Whether a good packet arrived.
    is_trusted: bool,
    /// Malformed packets before a good one.
    malformed: u32,
    evidence: Option<Evidence>,
}

image!(Judge {
    beginning,
    is_trusted,
    malformed,
    evidence
});

impl Judge {
    /// Returns whether no good packet has arrived yet.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        !self.is_trusted
    }

    /// Handles `bytes` from the peer.
    #[inline]
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        if self.is_open() {
            self.beginning.take(bytes);
        }
    }

    /// Handles a good packet.
    pub(crate) fn trust(&mut self) {
        self.is_trusted = true;
    }

    /// Handles a malformed packet. Returns the evidence at the last one that is tolerated before a good one.
    pub(crate) fn malformed(&mut self) -> Option<Evidence> {
        self.malformed = self.malformed.saturating_add(1);
        if self.malformed != FOREIGN_PACKETS {
            return None;
        }
        Some(self.settle(Evidence::Malformed))
    }

    /// Handles a length above the limit before any good packet.
    pub(crate) fn too_long(&mut self, error: FrameTooLong) -> Evidence {
        self.settle(Evidence::Length(error))
    }

    /// Judges by the first bytes alone. Some protocols begin with bytes that could be a length, whose body never comes.
    pub(crate) fn conclude(&mut self) -> Option<Evidence> {
        if self.is_open() && self.evidence.is_none() {
            self.evidence = self.beginning.protocol().map(Evidence::Protocol);
        }
        self.evidence
    }

    /// Returns the evidence against the peer, if there is any.
    pub(crate) fn evidence(&self) -> Option<Evidence> {
        self.evidence
    }

    /// The protocol that the first bytes show says more than `otherwise`.
    fn settle(&mut self, otherwise: Evidence) -> Evidence {
        let protocol = self.beginning.protocol();
        let evidence = protocol.map_or(otherwise, Evidence::Protocol);
        self.evidence = Some(evidence);
        evidence
    }
}
