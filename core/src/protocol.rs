//! The versions of the client link, and the one place that tells them apart.
//!
//! A connection begins with an opening: packets by which both ends agree on a version, and the client joins or resumes. Each version has
//! its own opening, in a module of its own, as a machine without tables, time or sockets. The edge and the client use the enums below and
//! name no version. An opening leads to a `Channel`, which determines how packets are read from then on.

#[cfg(feature = "client")]
mod client;

#[cfg(feature = "edge")]
use rand_chacha::ChaCha20Rng;

#[cfg(feature = "edge")]
use crate::id::ClientId;
#[cfg(feature = "edge")]
use crate::keys::{NonceMint, PublicKey, SharedKey};
#[cfg(feature = "edge")]
use crate::opening::{EdgeFault, Request, Violation};
use crate::queue::Retention;
#[cfg(feature = "edge")]
use crate::queue::{Outbox, Reservation};
use crate::v2;
#[cfg(feature = "edge")]
use crate::v2::packets::Handshake;
#[cfg(feature = "edge")]
use crate::v3;
#[cfg(feature = "edge")]
use crate::v3::channel::{Arrival, ChannelError};
#[cfg(feature = "edge")]
pub(crate) use crate::v3::progress::Progress;
#[cfg(feature = "edge")]
pub(crate) use crate::v3::server::Standing;
#[cfg(feature = "edge")]
use crate::wire::frame::FrameReader;

#[cfg(feature = "client")]
pub use client::*;

pub use crate::v3::code::{Class, Code};

/// A session keeps numbers if its version numbers packets.
#[cfg(feature = "edge")]
const NUMBERED: &str = "a session of version 3 has numbers";

/// The maximum body length of a packet in an opening, of any version.
pub(crate) const MAX_OPENING_BODY_BYTES: u32 = v2::packets::MAX_BODY_BYTES;

/// A version of the client link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Version {
    /// Version 2 (SPEC sections 3 to 6).
    V2,
    /// Version 3 (SPEC sections 18 to 32).
    V3,
}

impl Version {
    /// The version that a client requests.
    pub const NEWEST: Version = Version::V2;

    /// Returns the version with this number, if this crate speaks it.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Version> {
        match number {
            2 => Some(Version::V2),
            3 => Some(Version::V3),
            _ => None,
        }
    }

    /// Returns how long an outbox keeps packets in this version, at both ends. Version 2 acknowledges nothing.
    pub(crate) const fn retention(self) -> Retention {
        match self {
            Version::V2 => Retention::UntilWritten,
            Version::V3 => Retention::UntilAcked,
        }
    }

    /// Returns its number, as `ProtocolVersion` has it on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Version::V2 => 2,
            Version::V3 => 3,
        }
    }
}

/// The edge's half of an opening.
///
/// It turns packets into [requests](Request) and the edge's answers into packets. It knows no table and no clock, and draws randomness only
/// from what it is given.
#[cfg(feature = "edge")]
#[derive(Clone, Debug, Default)]
pub(crate) enum Opening {
    /// The client's ProtocolVersion is next.
    #[default]
    Version,
    V2(v2::server::Opening),
}

#[cfg(feature = "edge")]
impl Opening {
    /// Handles the client's next packet. Appends the answer, if there is one, to `out`.
    pub(crate) fn handle<'a>(
        &mut self,
        body: &'a [u8],
        edge_key: &PublicKey,
        out: &mut Vec<u8>,
    ) -> Result<Request<'a>, EdgeFault> {
        match self {
            Opening::Version => {
                let number = match Handshake::decode(body)? {
                    Handshake::ProtocolVersion(number) => number,
                    packet => return Err(Violation::Unexpected(packet.name()).into()),
                };
                *self = match Version::from_number(number).ok_or(EdgeFault::Version)? {
                    Version::V2 => Opening::V2(v2::server::Opening::begin(edge_key, out)),
                    // Not offered yet (SPEC 18.1).
                    Version::V3 => return Err(EdgeFault::Version),
                };
                Ok(Request::More)
            }
            Opening::V2(opening) => Ok(opening.handle(Handshake::decode(body)?)?),
        }
    }

    /// Returns the machine of the version.
    ///
    /// # Panics
    /// If the client has not said its version yet: nothing was requested then.
    fn chosen(&mut self) -> &mut v2::server::Opening {
        match self {
            Opening::Version => unreachable!("nothing is requested before a version"),
            Opening::V2(opening) => opening,
        }
    }

    /// Returns the version that the client said.
    ///
    /// # Panics
    /// If it has not said any yet.
    pub(crate) fn version(&self) -> Version {
        match self {
            Opening::Version => unreachable!("nothing is requested before a version"),
            Opening::V2(_) => Version::V2,
        }
    }

    /// Answers a [claim](Request::Claim) with a challenge that opens under `key`: the session's, or nobody's. It is
    /// [sent](Self::send_challenge) later.
    pub(crate) fn challenge(&mut self, key: &SharedKey, nonces: &NonceMint, rng: &mut ChaCha20Rng) {
        self.chosen().challenge(key, nonces, rng);
    }

    /// Appends the challenge to `out`.
    pub(crate) fn send_challenge(&mut self, out: &mut Vec<u8>) {
        self.chosen().send_challenge(out);
    }

    /// Returns whether a [proof](Request::Proof) is right under `key`: the session's, or nobody's. A challenge counts once.
    pub(crate) fn judge(&mut self, proof: &[u8], key: &SharedKey, nonces: &NonceMint) -> bool {
        self.chosen().judge(proof, key, nonces)
    }

    /// Answers the request to [join](Request::Join) with the client's id.
    pub(crate) fn joined(&mut self, id: ClientId, out: &mut Vec<u8>) -> Channel {
        Channel::V2(self.chosen().joined(id, out))
    }

    /// Answers the request to [go on](Request::Open).
    pub(crate) fn resumed(&mut self, out: &mut Vec<u8>) -> Channel {
        Channel::V2(self.chosen().resumed(out))
    }
}

/// Why a connection is not read any further.
#[cfg(feature = "edge")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// A frame above the limit, in a version that says nothing about it.
    TooLong,
    /// What came was not made for this connection. Nothing is said about it.
    Foreign,
    /// The peer broke the protocol, and is told so.
    Fault { code: Code, detail: u32 },
    /// The peer has said its last word.
    Closed(Code),
}

#[cfg(feature = "edge")]
impl From<ChannelError> for Stop {
    #[cold]
    fn from(error: ChannelError) -> Self {
        tracing::debug!(%error, "a client broke the protocol");
        match error.close() {
            None => Stop::Foreign,
            Some((code, detail)) => Stop::Fault {
                code,
                detail: u32::try_from(detail).unwrap_or(u32::MAX),
            },
        }
    }
}

/// The result of an opening: how packets go over the connection, in both directions. It belongs to the connection and ends with it.
///
/// What of it outlives the connection is lent to each call: the packets in the session's outbox, and its numbers if its version has some.
#[cfg(feature = "edge")]
#[derive(Clone, Debug)]
pub(crate) enum Channel {
    V2(v2::plain::Plain),
    #[allow(dead_code, reason = "the edge does not offer version 3 yet")]
    V3(Box<v3::channel::Channel>),
}

#[cfg(feature = "edge")]
impl Default for Channel {
    /// That of a connection which is not established, and uses none. It takes no memory.
    fn default() -> Self {
        Channel::V2(v2::plain::Plain)
    }
}

#[cfg(feature = "edge")]
impl Channel {
    /// Returns the length of the packet that [`open`](Self::open) would open, or `None` if none is whole yet.
    #[inline]
    pub(crate) fn peek(
        &mut self,
        reader: &mut FrameReader,
        input: &mut &[u8],
        max_bytes: u32,
        outbox: &mut Outbox,
        numbers: Option<&mut Progress>,
    ) -> Result<Option<usize>, Stop> {
        match self {
            Channel::V2(plain) => plain
                .peek(reader, input, max_bytes)
                .map_err(|_| Stop::TooLong),
            Channel::V3(channel) => {
                let numbers = numbers.expect(NUMBERED);
                match channel.next(reader, input, outbox, numbers)? {
                    Some(arrival) => of_client(arrival).map(|()| Some(channel.data().len())),
                    None => Ok(None),
                }
            }
        }
    }

    /// Opens the next packet of `reader` and `input` in the place that `reserve` makes for its length, and advances `input` past it. Returns
    /// false if none is whole yet: `input` is then empty and its bytes are held.
    #[inline]
    pub(crate) fn open<'queue>(
        &mut self,
        reader: &mut FrameReader,
        input: &mut &[u8],
        max_bytes: u32,
        outbox: &mut Outbox,
        numbers: Option<&mut Progress>,
        reserve: impl FnOnce(usize) -> Reservation<'queue>,
    ) -> Result<bool, Stop> {
        match self {
            Channel::V2(plain) => plain
                .open(reader, input, max_bytes, reserve)
                .map_err(|_| Stop::TooLong),
            Channel::V3(channel) => {
                let numbers = numbers.expect(NUMBERED);
                let Some(arrival) = channel.next(reader, input, outbox, numbers)? else {
                    return Ok(false);
                };
                of_client(arrival)?;
                let mut reservation = reserve(channel.data().len());
                reservation.append(channel.data());
                reservation.commit();
                channel.accept(numbers);
                Ok(true)
            }
        }
    }

    /// Returns whether the transport has something to take. Without the numbers of its session, which is gone, that is what was made.
    #[inline]
    pub(crate) fn has_output(&self, outbox: &Outbox, numbers: Option<&Progress>) -> bool {
        match self {
            Channel::V2(plain) => plain.has_output(outbox),
            Channel::V3(channel) => match numbers {
                Some(numbers) => channel.has_output(outbox, numbers),
                None => channel.has_wire(),
            },
        }
    }

    /// Makes output of the packets that are to be sent, and returns what the transport is to take next. To be called when the transport is
    /// ready, so that what is made is as late and as much at once as can be. Without the numbers of its session, which is gone, no more is
    /// made.
    #[inline]
    pub(crate) fn fill<'a>(
        &'a mut self,
        outbox: &'a mut Outbox,
        numbers: Option<&mut Progress>,
    ) -> &'a [u8] {
        match self {
            Channel::V2(plain) => plain.fill(outbox),
            Channel::V3(channel) => match numbers {
                Some(numbers) => channel.fill(outbox, numbers),
                None => channel.wire(),
            },
        }
    }

    /// Handles that the transport took the first `bytes` bytes of what [`fill`](Self::fill) returned. Returns how many of them there were:
    /// fewer only if more are reported than were offered.
    #[inline]
    pub(crate) fn written(&mut self, outbox: &mut Outbox, bytes: usize) -> usize {
        match self {
            Channel::V2(plain) => plain.written(outbox, bytes),
            Channel::V3(channel) => channel.written(bytes),
        }
    }
}

/// Returns whether what came from a client is a packet.
#[cfg(feature = "edge")]
fn of_client(arrival: Arrival) -> Result<(), Stop> {
    match arrival {
        Arrival::Packet { .. } => Ok(()),
        Arrival::Closed { code, .. } => Err(Stop::Closed(code)),
        Arrival::Gap { .. }
        | Arrival::Superseded { .. }
        | Arrival::Skipped { .. }
        | Arrival::Resumed(_)
        | Arrival::Earlier
        | Arrival::GoAway(_) => unreachable!("a record of a client has none of them"),
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
        assert_eq!(Version::from_number(3), Some(Version::V3));
        for number in [0, 1, 4, u32::MAX] {
            assert_eq!(Version::from_number(number), None);
        }
    }
}
