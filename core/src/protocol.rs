//! The versions of the client link, and the one place that tells them apart.
//!
//! A connection begins with an opening: packets by which both ends agree on a version, and the client joins or resumes. Each version has
//! its own opening, in a module of its own, as a machine without tables, time or sockets. The edge and the client use the enums below and
//! name no version. An opening leads to a `Channel`, which determines how packets are read from then on.

#[cfg(feature = "client")]
pub(crate) mod client;

#[cfg(feature = "edge")]
use rand_chacha::ChaCha20Rng;

#[cfg(feature = "edge")]
use crate::id::ClientId;
#[cfg(feature = "edge")]
use crate::keys::{KeyPair, NonceMint, PublicKey, SharedKey};
#[cfg(feature = "edge")]
use crate::opening::{EdgeFault, Request, Violation};
#[cfg(feature = "client")]
use crate::queue::Retention;
#[cfg(feature = "edge")]
use crate::queue::{Outbox, Reservation};
use crate::v2;
#[cfg(feature = "edge")]
use crate::v2::packets::Handshake;
#[cfg(feature = "edge")]
use crate::v3;
#[cfg(feature = "edge")]
pub(crate) use crate::v3::MAX_NUMBER;
#[cfg(feature = "testkit")]
pub use crate::v3::channel::Delivery;
#[cfg(all(test, feature = "edge", not(feature = "testkit")))]
pub(crate) use crate::v3::channel::Delivery;
#[cfg(feature = "edge")]
pub(crate) use crate::v3::channel::Reading;
#[cfg(feature = "edge")]
use crate::v3::channel::{Arrival, ChannelError};
#[cfg(feature = "edge")]
pub(crate) use crate::v3::classes::GivenUp;
#[cfg(feature = "edge")]
pub(crate) use crate::v3::items::{Close, GoAway, Resumed};
#[cfg(feature = "edge")]
pub(crate) use crate::v3::opening::{Joined, Step as EntropyStep};
#[cfg(feature = "edge")]
pub(crate) use crate::v3::outbound::{GAP_CLAIMED_LESS, GAP_NO_ROOM, Sending};
#[cfg(feature = "cluster")]
pub(crate) use crate::v3::packets::FEATURE_TICKETS;
#[cfg(feature = "edge")]
pub(crate) use crate::v3::packets::{Position, Settings, Verdict};
#[cfg(feature = "edge")]
pub(crate) use crate::v3::progress::{Progress, Ring};
#[cfg(feature = "cluster")]
pub(crate) use crate::v3::schedule::ticket::Ticket;
#[cfg(feature = "edge")]
pub(crate) use crate::v3::schedule::{Master, ResumeSecret};
#[cfg(feature = "edge")]
use crate::v3::server::EdgeKey;
#[cfg(feature = "edge")]
pub(crate) use crate::v3::server::{Numbers, Standing, verdict};
#[cfg(feature = "edge")]
pub(crate) use crate::v3::timing::{Delays, Due};
#[cfg(feature = "edge")]
use crate::wire::frame::FrameReader;
#[cfg(feature = "upgrade")]
use crate::wire::saved::{Saved, put_numbers};

// A client's `Versions` are exported by `client`. `OfferedVersions` are an edge's.
#[cfg(feature = "client")]
pub use client::*;

pub use crate::v3::code::{Class, Code};
pub use crate::v3::items::Ledger;

/// A session keeps numbers if its version numbers packets.
#[cfg(feature = "edge")]
const NUMBERED: &str = "a session of version 3 has numbers";

/// The maximum body length of a packet in an opening of version 2, and of the first packet in any version.
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
    #[cfg(feature = "client")]
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

/// Which versions an edge offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "Vec<u32>", into = "Vec<u32>")
)]
pub struct OfferedVersions {
    v2: bool,
    v3: bool,
}

image!(OfferedVersions { v2, v3 });

/// A list of versions that no edge can offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VersionsError {
    /// A number that is no version of the client link.
    #[error("version {number} is unknown, there are 2 and 3")]
    Unknown {
        /// The number.
        number: u32,
    },
    /// Nobody could connect.
    #[error("no version is offered, there are 2 and 3")]
    None,
}

impl OfferedVersions {
    /// Creates the set of the versions with these numbers.
    ///
    /// # Errors
    /// [`VersionsError`] if a version is unknown, or there is none.
    pub fn new(numbers: &[u32]) -> Result<Self, VersionsError> {
        let mut versions = OfferedVersions {
            v2: false,
            v3: false,
        };
        for &number in numbers {
            match Version::from_number(number).ok_or(VersionsError::Unknown { number })? {
                Version::V2 => versions.v2 = true,
                Version::V3 => versions.v3 = true,
            }
        }
        let has_any = versions.v2 || versions.v3;
        has_any.then_some(versions).ok_or(VersionsError::None)
    }

    /// Returns whether this version is among them.
    #[must_use]
    pub const fn has(self, version: Version) -> bool {
        match version {
            Version::V2 => self.v2,
            Version::V3 => self.v3,
        }
    }

    /// Returns whether a client may have its claim opened before it is counted: version 2 claims without a proof. (SPEC 27.3(a))
    #[cfg(feature = "edge")]
    pub(crate) const fn take_sealed_claims(self) -> bool {
        self.v3
    }

    /// Returns their numbers, in order.
    #[must_use]
    pub fn numbers(self) -> Vec<u32> {
        let all = [Version::V2, Version::V3].into_iter();
        all.filter(|version| self.has(*version))
            .map(Version::number)
            .collect()
    }
}

impl Default for OfferedVersions {
    /// Both.
    fn default() -> Self {
        OfferedVersions { v2: true, v3: true }
    }
}

impl TryFrom<Vec<u32>> for OfferedVersions {
    type Error = VersionsError;

    fn try_from(numbers: Vec<u32>) -> Result<Self, VersionsError> {
        OfferedVersions::new(&numbers)
    }
}

impl From<OfferedVersions> for Vec<u32> {
    fn from(versions: OfferedVersions) -> Self {
        versions.numbers()
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
    V3(v3::opening::Opening),
}

image!(enum Opening { 0 Version {}, 1 V2 { 0: a }, 2 V3 { 0: a } });

/// What an edge brings to every opening.
#[cfg(feature = "edge")]
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    key: PublicKey,
    /// The same key, with what version 3 derives from it.
    numbered: EdgeKey,
}

#[cfg(feature = "edge")]
impl Offer {
    /// Derives everything from the edge's keys.
    pub(crate) fn new(keys: &KeyPair) -> Self {
        Offer {
            key: keys.public(),
            numbered: EdgeKey::new(keys.clone()),
        }
    }

    /// Seals a ticket (SPEC 44.2).
    #[cfg(feature = "cluster")]
    pub(crate) fn seal_ticket(&self, ticket: &Ticket) -> Vec<u8> {
        self.numbered.master().seal_ticket(ticket)
    }
}

#[cfg(feature = "edge")]
impl Opening {
    /// Handles the client's next packet. Appends the answer, if there is one, to `out`.
    pub(crate) fn handle<'a>(
        &mut self,
        body: &'a [u8],
        offer: &Offer,
        versions: OfferedVersions,
        out: &mut Vec<u8>,
    ) -> Result<Request<'a>, EdgeFault> {
        match self {
            Opening::Version => {
                let number = match Handshake::decode(body)? {
                    Handshake::ProtocolVersion(number) => number,
                    packet => return Err(Violation::Unexpected(packet.name()).into()),
                };
                let named = Version::from_number(number).filter(|named| versions.has(*named));
                *self = match named.ok_or(EdgeFault::Version)? {
                    Version::V2 => Opening::V2(v2::server::Opening::begin(&offer.key, out)),
                    Version::V3 => Opening::V3(v3::opening::Opening::First),
                };
                Ok(Request::More)
            }
            Opening::V2(opening) => Ok(opening.handle(Handshake::decode(body)?)?),
            Opening::V3(opening) => opening.handle(body, &offer.numbered, out),
        }
    }

    /// Returns the greatest length of the client's next frame in bytes.
    pub(crate) fn max_body(&self) -> u32 {
        match self {
            Opening::Version | Opening::V2(_) => MAX_OPENING_BODY_BYTES,
            Opening::V3(opening) => opening.max_body(),
        }
    }

    /// Returns how many bytes are taken of a connection beyond the limit for strangers.
    pub(crate) fn further_bytes(&self) -> usize {
        match self {
            Opening::Version | Opening::V2(_) => 0,
            Opening::V3(opening) => opening.further_bytes(),
        }
    }

    /// Returns the machine of version 2, of which something was requested.
    ///
    /// # Panics
    /// If it was not.
    fn chosen(&mut self) -> &mut v2::server::Opening {
        match self {
            Opening::V2(opening) => opening,
            Opening::Version | Opening::V3(_) => unreachable!("version 2 requests it"),
        }
    }

    /// Returns whether it has opened a claim, so that no challenge is needed.
    pub(crate) fn has_opened_claim(&self) -> bool {
        matches!(self, Opening::V3(opening) if opening.claimed_id().is_some())
    }

    /// Returns the machine of version 3, of which something was requested.
    ///
    /// # Panics
    /// If it was not.
    pub(crate) fn numbered(&mut self) -> &mut v3::opening::Opening {
        match self {
            Opening::V3(opening) => opening,
            Opening::Version | Opening::V2(_) => unreachable!("version 3 requests it"),
        }
    }

    /// Answers the request of a [Hello](Request::Hello).
    pub(crate) fn welcome(
        &mut self,
        offer: &Offer,
        random: [u8; 32],
        settings: impl FnOnce(&Master, [u8; 8]) -> Settings,
        out: &mut Vec<u8>,
    ) -> Result<(), EdgeFault> {
        self.numbered()
            .welcome(&offer.numbered, random, settings, out)
    }

    /// Ends an opening for which the edge has no room now: appends a Busy to `out`.
    pub(crate) fn busy(&mut self, wait_ms: u32, out: &mut Vec<u8>) {
        let code = Code::BUSY;
        v3::packets::Packet::Busy(v3::packets::Busy { code, wait_ms }).encode(out);
        *self.numbered() = v3::opening::Opening::Over;
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
    /// A frame above the limit, in a version that says nothing about it; or a packet that the backend does not take.
    TooLong,
    /// What came was not made for this connection. Nothing is said about it.
    Foreign,
    /// The peer broke the protocol, and is told so.
    Fault { code: Code, detail: u32 },
    /// The peer has said its last word.
    Closed(Code),
    /// A token comes next, which is to be [taken](Opener::take_token). Then the connection goes on.
    Token,
}

#[cfg(feature = "edge")]
impl From<ChannelError> for Stop {
    #[cold]
    fn from(error: ChannelError) -> Self {
        if matches!(error, ChannelError::BeyondTaker { .. }) {
            return Stop::TooLong;
        }
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

/// The part of a session that its channel works on, and that outlives the connection: its packets, and their numbers if its version has
/// some.
#[cfg(feature = "edge")]
pub(crate) struct Lent<'a> {
    pub(crate) outbox: &'a mut Outbox,
    pub(crate) numbers: Option<&'a mut Progress>,
}

/// The result of an opening: how packets go over the connection, in both directions. It belongs to the connection and ends with it.
///
/// What outlives the connection is [lent](Lent) to each call.
#[cfg(feature = "edge")]
#[derive(Clone, Debug)]
pub(crate) enum Channel {
    V2(v2::plain::Plain),
    V3(Box<v3::channel::Channel>),
}

image!(enum Channel { 0 V2 { 0: a }, 1 V3 { 0: a } });

#[cfg(feature = "edge")]
impl From<v3::channel::Channel> for Channel {
    fn from(channel: v3::channel::Channel) -> Self {
        Channel::V3(Box::new(channel))
    }
}

/// The first byte of what is saved of a channel of each version.
#[cfg(feature = "upgrade")]
const MOVED_V2: u8 = 2;
#[cfg(feature = "upgrade")]
const MOVED_V3: u8 = 3;

#[cfg(feature = "edge")]
impl Default for Channel {
    /// That of a connection which is not established, and uses none. It takes no memory.
    fn default() -> Self {
        Channel::V2(v2::plain::Plain)
    }
}

#[cfg(feature = "edge")]
impl Channel {
    /// Returns what the next packets of its client are opened with.
    #[inline]
    pub(crate) fn opener<'a>(&'a mut self, lent: Lent<'a>) -> Opener<'a> {
        match self {
            Channel::V2(plain) => Opener::Frames(plain),
            Channel::V3(channel) => Opener::Records(Records {
                channel,
                outbox: lent.outbox,
                numbers: lent.numbers.expect(NUMBERED),
            }),
        }
    }

    /// Returns the channel of a version that numbers its packets, with what is lent to it.
    #[inline]
    pub(crate) fn records<'a>(&'a mut self, lent: Lent<'a>) -> Option<Records<'a>> {
        match self {
            Channel::V2(_) => None,
            Channel::V3(channel) => Some(Records {
                channel,
                outbox: lent.outbox,
                numbers: lent.numbers?,
            }),
        }
    }

    /// Returns whether a part of a numbered packet was given to the transport, whose rest comes next.
    pub(crate) fn is_mid_packet(&self) -> bool {
        self.numbered()
            .is_some_and(v3::channel::Channel::is_mid_packet)
    }

    /// Returns whether the transport has something to take. Without the numbers of its session, which is gone, that is what was made.
    #[inline]
    pub(crate) fn has_output(&self, outbox: &Outbox, numbers: Option<&Progress>) -> bool {
        match self {
            Channel::V2(plain) => plain.has_output(outbox),
            Channel::V3(channel) => has_output_of_records(channel, outbox, numbers),
        }
    }

    /// Makes output of the packets that are to be sent, and returns what the transport is to take next. To be called when the transport is
    /// ready, so that what is made is as late and as much at once as can be. Without the numbers of its session, which is gone, no more is
    /// made.
    #[inline]
    pub(crate) fn fill<'a>(&'a mut self, lent: Lent<'a>) -> &'a [u8] {
        match self {
            Channel::V2(plain) => plain.fill(lent.outbox),
            Channel::V3(channel) => fill_records(channel, lent),
        }
    }

    /// Handles that the transport took the first `bytes` bytes of what [`fill`](Self::fill) returned. Returns how many of them there were:
    /// fewer only if more are reported than were offered.
    #[inline(always)]
    pub(crate) fn written(&mut self, outbox: &mut Outbox, bytes: usize) -> usize {
        match self {
            Channel::V2(plain) => plain.written(outbox, bytes),
            Channel::V3(channel) => channel.written(bytes),
        }
    }

    /// Returns the channel of a version that numbers its packets.
    #[inline]
    pub(crate) fn numbered(&self) -> Option<&v3::channel::Channel> {
        match self {
            Channel::V2(_) => None,
            Channel::V3(channel) => Some(channel),
        }
    }

    /// Like [`numbered`](Self::numbered).
    #[inline]
    pub(crate) fn numbered_mut(&mut self) -> Option<&mut v3::channel::Channel> {
        match self {
            Channel::V2(_) => None,
            Channel::V3(channel) => Some(channel),
        }
    }

    /// Appends what another process needs to go on with it (SPEC 41.1(c)). Returns false if its connection is not taken over.
    #[cfg(feature = "upgrade")]
    pub(crate) fn save(
        &self,
        outbox: &Outbox,
        numbers: Option<&Progress>,
        out: &mut Vec<u8>,
    ) -> bool {
        match self {
            Channel::V2(_) => {
                out.push(MOVED_V2);
                put_numbers(out, &[outbox.begun_bytes() as u64]);
                true
            }
            Channel::V3(channel) => {
                out.push(MOVED_V3);
                // ACKs are relative to those before them on the connection (SPEC 24.3).
                let acks = numbers.map(Progress::acks_of_connection);
                put_numbers(out, &[outbox.sent()]);
                put_numbers(out, &acks.unwrap_or_default());
                let has_classes = numbers.is_some_and(Progress::has_classes);
                channel.save(out) && !(channel.is_mid_packet() && has_classes)
            }
        }
    }

    /// Reads what [`save`](Self::save) wrote. What is lent goes on where its transport was.
    #[cfg(feature = "upgrade")]
    pub(crate) fn load(saved: &mut Saved<'_>, lent: Lent<'_>) -> Option<Self> {
        let (version, number) = (saved.u8()?, saved.u64()?);
        match (version, lent.numbers) {
            (MOVED_V2, None) => {
                lent.outbox.begin_at(usize::try_from(number).ok()?)?;
                Some(Channel::default())
            }
            (MOVED_V3, Some(numbers)) => {
                numbers.go_on([saved.u64()?, saved.u64()?])?;
                lent.outbox.resume_within(number, numbers.sent()).ok()?;
                let channel = v3::channel::Channel::load(saved, lent.outbox)?;
                let is_right = !(channel.is_mid_packet() && numbers.has_classes());
                is_right.then(|| channel.into())
            }
            _ => None,
        }
    }

    /// Returns the number of records read since the last call. Without records each packet is a frame.
    #[inline]
    pub(crate) fn take_records(&mut self) -> u64 {
        self.numbered_mut()
            .map_or(0, v3::channel::Channel::take_records)
    }

    /// Returns the bytes that wait in it.
    #[inline]
    pub(crate) fn held_bytes(&self) -> usize {
        self.numbered().map_or(0, v3::channel::Channel::held_bytes)
    }
}

// Separate functions, so that the path of version 2 is as short as it can be where these are inlined.

#[cfg(feature = "edge")]
#[inline(never)]
fn has_output_of_records(
    channel: &v3::channel::Channel,
    outbox: &Outbox,
    numbers: Option<&Progress>,
) -> bool {
    match numbers {
        Some(numbers) => channel.has_output(outbox, numbers),
        None => channel.has_wire(),
    }
}

#[cfg(feature = "edge")]
#[inline(never)]
fn fill_records<'a>(channel: &'a mut v3::channel::Channel, lent: Lent<'_>) -> &'a [u8] {
    match lent.numbers {
        Some(numbers) => channel.fill(lent.outbox, numbers),
        None => channel.wire(),
    }
}

/// Opens the packets of a client.
#[cfg(feature = "edge")]
pub(crate) trait Open {
    /// Returns the length of the packet that [`open`](Self::open) would open, or `None` if none is whole yet.
    fn peek(
        &mut self,
        reader: &mut FrameReader,
        input: &mut &[u8],
        max_bytes: u32,
    ) -> Result<Option<usize>, Stop>;

    /// Opens the next packet of `reader` and `input` in the place that `reserve` makes for its length, and advances `input` past it. Returns
    /// false if none is whole yet: `input` is then empty and its bytes are held.
    fn open<'queue>(
        &mut self,
        reader: &mut FrameReader,
        input: &mut &[u8],
        max_bytes: u32,
        reserve: impl FnOnce(usize) -> Reservation<'queue>,
    ) -> Result<bool, Stop>;
}

/// What the packets of a client are opened with. Whoever opens several matches once: the path of version 2 has no steps of version 3.
#[cfg(feature = "edge")]
pub(crate) enum Opener<'a> {
    Frames(&'a mut v2::plain::Plain),
    Records(Records<'a>),
}

#[cfg(feature = "edge")]
impl Opener<'_> {
    /// Passes the token for which the packets have [stopped](Stop::Token) to `hear`, and goes on behind it.
    pub(crate) fn take_token(&mut self, hear: impl FnOnce(&[u8])) {
        if let Opener::Records(records) = self {
            hear(records.channel.data());
            records.channel.accept(records.numbers);
        }
    }
}

#[cfg(feature = "edge")]
impl Open for v2::plain::Plain {
    #[inline(always)]
    fn peek(
        &mut self,
        reader: &mut FrameReader,
        input: &mut &[u8],
        max_bytes: u32,
    ) -> Result<Option<usize>, Stop> {
        v2::plain::Plain::peek(self, reader, input, max_bytes).map_err(|_| Stop::TooLong)
    }

    #[inline(always)]
    fn open<'queue>(
        &mut self,
        reader: &mut FrameReader,
        input: &mut &[u8],
        max_bytes: u32,
        reserve: impl FnOnce(usize) -> Reservation<'queue>,
    ) -> Result<bool, Stop> {
        v2::plain::Plain::open(self, reader, input, max_bytes, reserve).map_err(|_| Stop::TooLong)
    }
}

/// The channel of a version that numbers packets, with what its session lends to it.
#[cfg(feature = "edge")]
pub(crate) struct Records<'a> {
    pub(crate) channel: &'a mut v3::channel::Channel,
    pub(crate) outbox: &'a mut Outbox,
    pub(crate) numbers: &'a mut Progress,
}

#[cfg(feature = "edge")]
impl Open for Records<'_> {
    fn peek(
        &mut self,
        reader: &mut FrameReader,
        input: &mut &[u8],
        max_bytes: u32,
    ) -> Result<Option<usize>, Stop> {
        let next = self
            .channel
            .next(reader, input, self.outbox, self.numbers)?;
        let Some(arrival) = next else {
            return Ok(None);
        };
        of_client(arrival)?;
        match self.channel.data().len() {
            length if length > max_bytes as usize => Err(Stop::TooLong),
            length => Ok(Some(length)),
        }
    }

    fn open<'queue>(
        &mut self,
        reader: &mut FrameReader,
        input: &mut &[u8],
        max_bytes: u32,
        reserve: impl FnOnce(usize) -> Reservation<'queue>,
    ) -> Result<bool, Stop> {
        let max = max_bytes as usize;
        if let Some(packet) = self.channel.next_ordinary(self.numbers, max)? {
            let mut reservation = reserve(packet.len());
            reservation.append(packet);
            reservation.commit();
            return Ok(true);
        }
        let Some(length) = self.peek(reader, input, max_bytes)? else {
            return Ok(false);
        };
        let mut reservation = reserve(length);
        reservation.append(self.channel.data());
        reservation.commit();
        self.channel.accept(self.numbers);
        Ok(true)
    }
}

#[cfg(feature = "edge")]
impl Open for Opener<'_> {
    fn peek(
        &mut self,
        reader: &mut FrameReader,
        input: &mut &[u8],
        max_bytes: u32,
    ) -> Result<Option<usize>, Stop> {
        match self {
            Opener::Frames(plain) => Open::peek(*plain, reader, input, max_bytes),
            Opener::Records(records) => records.peek(reader, input, max_bytes),
        }
    }

    fn open<'queue>(
        &mut self,
        reader: &mut FrameReader,
        input: &mut &[u8],
        max_bytes: u32,
        reserve: impl FnOnce(usize) -> Reservation<'queue>,
    ) -> Result<bool, Stop> {
        match self {
            Opener::Frames(plain) => Open::open(*plain, reader, input, max_bytes, reserve),
            Opener::Records(records) => records.open(reader, input, max_bytes, reserve),
        }
    }
}

/// Returns whether what came from a client is a packet.
#[cfg(feature = "edge")]
fn of_client(arrival: Arrival) -> Result<(), Stop> {
    match arrival {
        Arrival::Packet { .. } => Ok(()),
        Arrival::Closed { code } => Err(Stop::Closed(code)),
        Arrival::Token => Err(Stop::Token),
        Arrival::Gap { .. }
        | Arrival::Superseded { .. }
        | Arrival::Skipped { .. }
        | Arrival::Resumed(_)
        | Arrival::GoAway(_) => unreachable!("a record of a client has none of them"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_known_by_its_number_and_no_other_is() {
        for version in [Version::V2, Version::V3] {
            assert_eq!(Version::from_number(version.number()), Some(version));
        }
        for number in [0, 1, 4, u32::MAX] {
            assert_eq!(Version::from_number(number), None);
        }
    }
}
