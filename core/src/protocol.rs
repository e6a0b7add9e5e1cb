//! The versions of the client link, and the one place that tells them apart.
//!
//! A connection begins with an opening: packets by which both ends agree on a version, and the client joins or resumes. Each version has
//! its own opening, in a module of its own, as a machine without tables, time or sockets. The edge and the client use the enums below and
//! name no version. An opening leads to a [`Channel`], which determines how packets are read from then on.

#[cfg(feature = "client")]
use rand_chacha::ChaCha20Rng;

#[cfg(feature = "client")]
use crate::opening::Awaits;
#[cfg(feature = "client")]
use crate::opening::Fault;
use crate::v2;
#[cfg(feature = "client")]
use crate::v2::packets::Handshake;
#[cfg(feature = "client")]
use crate::wire::frame::{FrameReader, FrameTooLong};

/// The maximum body length of a packet in an opening, of any version.
pub(crate) const MAX_OPENING_BODY_BYTES: u32 = v2::packets::MAX_BODY_BYTES;

/// A version of the client link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Version {
    /// Version 2 (SPEC sections 3 to 6).
    V2,
}

impl Version {
    /// The highest version, which a client requests.
    pub const NEWEST: Version = Version::V2;

    /// Returns the version with this number, if this crate speaks it.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Version> {
        match number {
            2 => Some(Version::V2),
            _ => None,
        }
    }

    /// Returns its number, as `ProtocolVersion` has it on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Version::V2 => 2,
        }
    }
}

/// The client's half of an opening.
#[cfg(feature = "client")]
pub(crate) enum ClientOpening {
    V2(v2::client::Opening),
}

#[cfg(feature = "client")]
impl ClientOpening {
    /// Begins an opening on an open transport. The client sends first: its output is appended to `out`.
    pub(crate) fn begin(version: Version, out: &mut Vec<u8>) -> Self {
        Handshake::ProtocolVersion(version.number()).encode(out);
        match version {
            Version::V2 => ClientOpening::V2(v2::client::Opening::new()),
        }
    }

    /// Handles the edge's next packet, and returns what the client waits for after it. Output is appended to `out`.
    ///
    /// A client without an identity joins, and has one afterwards.
    pub(crate) fn handle(
        &mut self,
        body: &[u8],
        identity: &mut Option<v2::client::Identity>,
        rng: &mut ChaCha20Rng,
        out: &mut Vec<u8>,
    ) -> Result<Awaits, Fault> {
        match self {
            ClientOpening::V2(opening) => opening.handle(body, identity, rng, out),
        }
    }

    /// Returns the channel that it led to, once the client awaits [data](Awaits::Data).
    pub(crate) fn channel(&self) -> Channel {
        match self {
            ClientOpening::V2(_) => Channel::V2(v2::plain::Plain),
        }
    }
}

/// The result of an opening: how packets go over the connection.
#[cfg(feature = "client")]
#[derive(Clone, Copy, Debug)]
pub(crate) enum Channel {
    V2(v2::plain::Plain),
}

#[cfg(feature = "client")]
impl Channel {
    /// Returns the next packet of `reader` and `input`, and advances `input` past it.
    #[inline]
    pub(crate) fn next_packet<'a, 'input: 'a>(
        self,
        reader: &'a mut FrameReader,
        input: &mut &'input [u8],
        max_bytes: u32,
    ) -> Result<Option<&'a [u8]>, FrameTooLong> {
        match self {
            Channel::V2(plain) => plain.next_packet(reader, input, max_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_known_by_its_number_and_no_other_is() {
        assert_eq!(
            Version::from_number(Version::NEWEST.number()),
            Some(Version::NEWEST)
        );
        for number in [0, 1, 3, u32::MAX] {
            assert_eq!(Version::from_number(number), None);
        }
    }
}
