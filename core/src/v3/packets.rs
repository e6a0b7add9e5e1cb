//! The packets of an opening. (SPEC section 19)
//!
//! A packet is the body of one frame: a byte that names it, fields of a fixed size, then what is sealed or extensions. Integers are
//! little-endian. Decoding checks the form of everything in clear. What is sealed is read once its tag was right, by the functions of
//! [`schedule`](super::schedule).

mod sealed;

use core::fmt;

use sha2::{Digest, Sha256};

use crate::keys::{KeyError, NONCE_BYTES, PublicKey};
use crate::wire::frame::encode_frame;

use super::aead::TAG_BYTES;
use super::code::Code;
pub use sealed::{Position, Settings, Verdict};

/// The length of the shortest Hello in bytes.
pub const MIN_HELLO_BYTES: usize = 1 + 4 + 4 + POINT_BYTES;
/// The length of the longest Hello in bytes.
pub const MAX_HELLO_BYTES: usize = 128;
/// The length of a Welcome in bytes, as an edge of this version sends it.
pub const WELCOME_BYTES: usize = 1 + 2 * POINT_BYTES + SETTINGS_BYTES + TAG_BYTES;
/// The length of the shortest Claim in bytes.
pub const MIN_CLAIM_BYTES: usize = CLAIM_CLEAR_BYTES + POSITION_BYTES + TAG_BYTES;
/// The length of the longest Claim in bytes.
pub const MAX_CLAIM_BYTES: usize = 404;
/// The length of an Answer in bytes, as an edge of this version sends it.
pub const ANSWER_BYTES: usize = ANSWER_CLEAR_BYTES + VERDICT_BYTES + TAG_BYTES;
/// The length of a Busy in bytes.
pub const BUSY_BYTES: usize = 7;
/// The length of the longest packet of a client in bytes.
pub const MAX_CLIENT_PACKET_BYTES: u32 = 404;
/// The length of the longest packet of an edge in bytes.
pub const MAX_EDGE_PACKET_BYTES: u32 = 256;

/// The length of a handle in bytes.
pub const HANDLE_BYTES: usize = 16;

pub(super) const SETTINGS_BYTES: usize = 96;
pub(super) const POSITION_BYTES: usize = 48;
pub(super) const VERDICT_BYTES: usize = 128;

const POINT_BYTES: usize = 33;
const CLAIM_CLEAR_BYTES: usize = 1 + 4 + HANDLE_BYTES + NONCE_BYTES;
const ANSWER_CLEAR_BYTES: usize = 1 + NONCE_BYTES;

const HELLO: u8 = 0x10;
const WELCOME: u8 = 0x11;
const CLAIM: u8 = 0x12;
const ANSWER: u8 = 0x13;
const BUSY: u8 = 0x14;

/// The feature of tickets in a Hello and a Welcome. (SPEC 19.1(a), 44.3)
#[cfg(feature = "tickets")]
pub const FEATURE_TICKETS: u32 = 1 << 2;
/// The Claim extension with a ticket.
#[cfg(feature = "tickets")]
const TICKET: u8 = 1;
/// The Hello extension with the length of the longest packet down.
const LONGEST_PACKET_DOWN: u8 = 1;

/// Why bytes are no packet of an opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// A body of no bytes.
    #[error("empty packet")]
    Empty,
    /// The first byte names no packet.
    #[error("unknown packet {kind:#04x}")]
    UnknownKind {
        /// The first byte.
        kind: u8,
    },
    /// The packet is too short or too long.
    #[error("{packet} of {length} bytes, {min} to {max} needed")]
    Length {
        /// The packet's name.
        packet: &'static str,
        /// The length given in bytes.
        length: usize,
        /// The least length in bytes.
        min: usize,
        /// The greatest length in bytes.
        max: usize,
    },
    /// The packet ends within an extension.
    #[error("extension {kind} cut short")]
    ExtensionTruncated {
        /// The extension's type.
        kind: u8,
    },
    /// A known extension comes more than once.
    #[error("extension {kind} comes twice")]
    ExtensionTwice {
        /// The extension's type.
        kind: u8,
    },
    /// A known extension has another length than it must have.
    #[error("extension {kind} of {length} bytes, {needed} needed")]
    ExtensionLength {
        /// The extension's type.
        kind: u8,
        /// The length given in bytes.
        length: usize,
        /// The right length in bytes.
        needed: usize,
    },
    /// A public key that is none.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A code that this packet cannot have.
    #[error("code {code} has no meaning in {packet}")]
    Code {
        /// The code's number.
        code: u16,
        /// The packet's name.
        packet: &'static str,
    },
    /// A number out of its range.
    #[error("{field} {value} is not from {min} to {max}")]
    OutOfRange {
        /// The field's name.
        field: &'static str,
        /// The value given.
        value: u64,
        /// The least value.
        min: u64,
        /// The greatest value.
        max: u64,
    },
    /// A reserved field that was not granted is not 0.
    #[error("{field} is reserved and not 0")]
    Reserved {
        /// The field's name.
        field: &'static str,
    },
}

#[cfg(feature = "record")]
impl crate::image::Image for PacketError {
    /// A machine only remembers that there was one.
    fn put(&self, _: &mut crate::image::Out) {}

    fn take(_: &mut crate::image::Taken<'_>) -> Option<Self> {
        Some(PacketError::Empty)
    }
}

/// The first bytes of the hash of a public key. It tells which of its keys an edge is to use, and proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct KeyHint([u8; 4]);

image!(KeyHint { 0 });

impl KeyHint {
    /// No key in particular.
    pub const NONE: KeyHint = KeyHint([0; 4]);

    /// Returns the hint that names `key`.
    #[must_use]
    pub fn of(key: &PublicKey) -> Self {
        let hash: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        let [a, b, c, d, ..] = hash;
        KeyHint([a, b, c, d])
    }

    /// Returns its bytes on the wire.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 4] {
        self.0
    }
}

impl fmt::Debug for KeyHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHint({:08x})", u32::from_be_bytes(self.0))
    }
}

/// An id that only the edge can read: 8 random bytes, and the id masked with their hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle(pub(super) [u8; HANDLE_BYTES]);

image!(Handle { 0 });

impl Handle {
    /// Makes a handle of its bytes on the wire. All bytes are a handle.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; HANDLE_BYTES]) -> Self {
        Handle(bytes)
    }

    /// Returns its bytes on the wire.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; HANDLE_BYTES] {
        self.0
    }

    pub(super) fn halves(self) -> ([u8; 8], [u8; 8]) {
        let [a, b, c, d, e, f, g, h, masked @ ..] = self.0;
        ([a, b, c, d, e, f, g, h], masked)
    }
}

/// A packet of an opening. It borrows its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the wire format has no others")]
pub enum Packet<'a> {
    /// From the client: it wants to join.
    Hello(Hello<'a>),
    /// From the edge: the answer to Hello.
    Welcome(Welcome<'a>),
    /// From the client: it wants to resume.
    Claim(Claim<'a>),
    /// From the edge: the answer to Claim.
    Answer(Answer<'a>),
    /// From the edge, in clear: not now, or not here.
    Busy(Busy),
}

/// From the client: it wants to join. (SPEC 19.1)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct Hello<'a> {
    /// The features that the client asks for.
    pub features: u32,
    /// The key of the edge that the client expects.
    pub key_hint: KeyHint,
    /// The client's ephemeral key, of which only the first byte is checked. See [`PublicKey::from_sec1`].
    pub point: &'a [u8; POINT_BYTES],
    /// What else it says.
    pub extensions: Extensions<'a>,
}

/// From the edge: the answer to Hello. (SPEC 19.2)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct Welcome<'a> {
    /// The edge's ephemeral key, of which only the first byte is checked.
    pub point: &'a [u8; POINT_BYTES],
    /// The edge's key, of which only the first byte is checked.
    pub edge_key: &'a [u8; POINT_BYTES],
    /// The sealed [`Settings`], and perhaps more than this version knows.
    pub sealed: &'a [u8],
}

/// From the client: it wants to resume. (SPEC 19.3)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct Claim<'a> {
    /// What is in clear.
    pub head: ClaimHead<'a>,
    /// The sealed [`Position`].
    pub sealed: [u8; POSITION_BYTES],
    /// The tag of the clear and the sealed bytes.
    pub tag: [u8; TAG_BYTES],
}

/// What a Claim says in clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct ClaimHead<'a> {
    /// The key of the edge that gave the handle.
    pub key_hint: KeyHint,
    /// The id, masked.
    pub handle: Handle,
    /// The nonce, fresh from the operating system for each attempt.
    pub nonce: [u8; NONCE_BYTES],
    /// What else it says.
    pub extensions: Extensions<'a>,
}

/// From the edge: the answer to Claim. (SPEC 19.4)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct Answer<'a> {
    /// The nonce, fresh from the operating system for each Answer.
    pub nonce: [u8; NONCE_BYTES],
    /// The sealed [`Verdict`], and perhaps more than this version knows.
    pub sealed: &'a [u8],
}

/// From the edge, in clear: not now, or not here. (SPEC 19.5)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct Busy {
    /// Which of the two: [`Code::BUSY`] or [`Code::NOT_HERE`].
    pub code: Code,
    /// How long the client is to wait, in milliseconds.
    pub wait_ms: u32,
}

/// Extensions of a Hello or a Claim, in their form on the wire: a type, a length and that many bytes, each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extensions<'a>(&'a [u8]);

impl<'a> Extensions<'a> {
    /// No extensions.
    pub const NONE: Extensions<'static> = Extensions(&[]);

    /// Takes bytes whose form is right.
    ///
    /// # Errors
    /// [`PacketError::ExtensionTruncated`]
    pub fn new(bytes: &'a [u8]) -> Result<Self, PacketError> {
        let mut rest = bytes;
        while let Some((&kind, after)) = rest.split_first() {
            let truncated = PacketError::ExtensionTruncated { kind };
            let (&length, after) = after.split_first().ok_or(truncated)?;
            (_, rest) = after.split_at_checked(length.into()).ok_or(truncated)?;
        }
        Ok(Extensions(bytes))
    }

    /// Appends one to `out`.
    ///
    /// # Panics
    /// If `value` is longer than 255 bytes.
    pub fn push(kind: u8, value: &[u8], out: &mut Vec<u8>) {
        out.push(kind);
        out.push(u8::try_from(value.len()).expect("an extension of at most 255 bytes"));
        out.extend_from_slice(value);
    }

    /// Appends the one that tells the length of the longest packet that the client takes.
    pub fn push_longest_packet_down(bytes: u32, out: &mut Vec<u8>) {
        Self::push(LONGEST_PACKET_DOWN, &bytes.to_le_bytes(), out);
    }

    /// Appends the ticket by which the client comes back at another edge.
    #[cfg(feature = "tickets")]
    pub fn push_ticket(ticket: &[u8], out: &mut Vec<u8>) {
        Self::push(TICKET, ticket, out);
    }

    /// Returns the ticket, if there is one and no second one.
    #[cfg(feature = "cluster")]
    pub fn ticket(self) -> Option<&'a [u8]> {
        let mut all = self.iter().filter(|(kind, _)| *kind == TICKET);
        let (_, ticket) = all.next()?;
        all.next().is_none().then_some(ticket)
    }

    /// Returns its bytes on the wire.
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Returns each type and value.
    pub fn iter(self) -> impl Iterator<Item = (u8, &'a [u8])> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let (&kind, after) = rest.split_first()?;
            let (&length, after) = after.split_first()?;
            let (value, after) = after.split_at_checked(length.into())?;
            rest = after;
            Some((kind, value))
        })
    }

    /// Returns the value of the extension `kind`, which has `N` bytes.
    fn known<const N: usize>(self, kind: u8) -> Result<Option<[u8; N]>, PacketError> {
        let mut all = self.iter().filter(|(found, _)| *found == kind);
        let Some((_, value)) = all.next() else {
            return Ok(None);
        };
        if all.next().is_some() {
            return Err(PacketError::ExtensionTwice { kind });
        }
        let value = value.try_into().map_err(|_| PacketError::ExtensionLength {
            kind,
            length: value.len(),
            needed: N,
        })?;
        Ok(Some(value))
    }
}

impl Hello<'_> {
    /// Returns the length of the longest packet that the client takes in bytes, if it says so.
    #[must_use]
    pub fn longest_packet_down(&self) -> Option<u32> {
        let value = self.extensions.known(LONGEST_PACKET_DOWN);
        value.ok().flatten().map(u32::from_le_bytes)
    }
}

impl ClaimHead<'_> {
    /// Returns the clear bytes, which are the associated data of what is sealed.
    pub(super) fn clear_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAX_CLAIM_BYTES);
        self.write(&mut out);
        out.extend_from_slice(self.extensions.as_bytes());
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(CLAIM);
        out.extend_from_slice(&self.key_hint.0);
        out.extend_from_slice(&self.handle.0);
        out.extend_from_slice(&self.nonce);
    }
}

impl Answer<'_> {
    /// Returns the clear bytes, which are the associated data of what is sealed.
    pub(super) fn clear_bytes(nonce: &[u8; NONCE_BYTES]) -> [u8; ANSWER_CLEAR_BYTES] {
        let mut clear = [ANSWER; ANSWER_CLEAR_BYTES];
        for (to, from) in clear.iter_mut().skip(1).zip(nonce) {
            *to = *from;
        }
        clear
    }
}

impl<'a> Packet<'a> {
    /// Decodes the body of a frame. (SPEC 19.6)
    ///
    /// # Errors
    /// [`PacketError`] for anything that [`encode`](Self::encode) would not have written.
    pub fn decode(body: &'a [u8]) -> Result<Self, PacketError> {
        let (&kind, rest) = body.split_first().ok_or(PacketError::Empty)?;
        let sized = |packet, min, max| {
            let length = body.len();
            let is_right = (min..=max).contains(&length);
            is_right.then_some(()).ok_or(PacketError::Length {
                packet,
                length,
                min,
                max,
            })
        };
        let max_edge = MAX_EDGE_PACKET_BYTES as usize;
        let mut fields = Fields(rest);
        Ok(match kind {
            HELLO => {
                sized("Hello", MIN_HELLO_BYTES, MAX_HELLO_BYTES)?;
                let hello = Hello {
                    features: u32::from_le_bytes(fields.array()),
                    key_hint: KeyHint(fields.array()),
                    point: fields.point()?,
                    extensions: Extensions::new(fields.0)?,
                };
                hello.extensions.known::<4>(LONGEST_PACKET_DOWN)?;
                Packet::Hello(hello)
            }
            WELCOME => {
                sized("Welcome", WELCOME_BYTES, max_edge)?;
                Packet::Welcome(Welcome {
                    point: fields.point()?,
                    edge_key: fields.point()?,
                    sealed: fields.0,
                })
            }
            CLAIM => {
                sized("Claim", MIN_CLAIM_BYTES, MAX_CLAIM_BYTES)?;
                let (key_hint, handle) = (KeyHint(fields.array()), Handle(fields.array()));
                let nonce = fields.array();
                let (sealed, tag) = (fields.array(), fields.array());
                let extensions = Extensions::new(fields.0)?;
                Packet::Claim(Claim {
                    head: ClaimHead {
                        key_hint,
                        handle,
                        nonce,
                        extensions,
                    },
                    sealed,
                    tag,
                })
            }
            ANSWER => {
                sized("Answer", ANSWER_BYTES, max_edge)?;
                Packet::Answer(Answer {
                    nonce: fields.array(),
                    sealed: fields.0,
                })
            }
            BUSY => {
                sized("Busy", BUSY_BYTES, BUSY_BYTES)?;
                let number = u16::from_le_bytes(fields.array());
                let code = Code::from_u16(number)
                    .filter(|code| matches!(*code, Code::BUSY | Code::NOT_HERE))
                    .ok_or(PacketError::Code {
                        code: number,
                        packet: "Busy",
                    })?;
                let wait_ms = u32::from_le_bytes(fields.array());
                Packet::Busy(Busy { code, wait_ms })
            }
            kind => return Err(PacketError::UnknownKind { kind }),
        })
    }

    /// Returns the body, which the transcripts of [`schedule`](super::schedule) begin with.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAX_CLAIM_BYTES);
        match self {
            Packet::Hello(hello) => {
                out.push(HELLO);
                out.extend_from_slice(&hello.features.to_le_bytes());
                out.extend_from_slice(&hello.key_hint.0);
                out.extend_from_slice(hello.point);
                out.extend_from_slice(hello.extensions.as_bytes());
            }
            Packet::Welcome(welcome) => {
                out.push(WELCOME);
                out.extend_from_slice(welcome.point);
                out.extend_from_slice(welcome.edge_key);
                out.extend_from_slice(welcome.sealed);
            }
            Packet::Claim(claim) => {
                claim.head.write(&mut out);
                out.extend_from_slice(&claim.sealed);
                out.extend_from_slice(&claim.tag);
                out.extend_from_slice(claim.head.extensions.as_bytes());
            }
            Packet::Answer(answer) => {
                out.push(ANSWER);
                out.extend_from_slice(&answer.nonce);
                out.extend_from_slice(answer.sealed);
            }
            Packet::Busy(busy) => {
                out.push(BUSY);
                out.extend_from_slice(&busy.code.to_u16().to_le_bytes());
                out.extend_from_slice(&busy.wait_ms.to_le_bytes());
            }
        }
        out
    }

    /// Appends the whole frame, including its length, to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_frame(&self.body(), out);
    }

    /// Returns the packet's name in SPEC.txt, for logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Packet::Hello(_) => "Hello",
            Packet::Welcome(_) => "Welcome",
            Packet::Claim(_) => "Claim",
            Packet::Answer(_) => "Answer",
            Packet::Busy(_) => "Busy",
        }
    }
}

/// Fields of a body whose length was checked.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn chunk<const N: usize>(&mut self) -> &'a [u8; N] {
        let (chunk, rest) = self
            .0
            .split_first_chunk()
            .expect("the length was checked before the fields are read");
        self.0 = rest;
        chunk
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        *self.chunk()
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A compressed point, of which only the first byte is checked.
    fn point(&mut self) -> Result<&'a [u8; POINT_BYTES], PacketError> {
        let point: &[u8; POINT_BYTES] = self.chunk();
        let is_compressed = matches!(point, [2 | 3, ..]);
        is_compressed
            .then_some(point)
            .ok_or(PacketError::Key(KeyError::NotAPoint))
    }
}

#[cfg(test)]
mod tests;
