//! What is in a record: packets, and items of control. (SPEC 21.3)
//!
//! An item begins with a header `h` in the form of SPEC 3.1. Where `h` is even, a packet of `h / 2` bytes follows. Where it is odd,
//! `(h - 1) / 2` is the item's type, and its fields follow. Everything borrows from the record, so reading allocates nothing.

use crate::code::Code;
pub use crate::ledger::Ledger;
use crate::wire::varint::{Fields, HandshakeError, write_integer};

use super::{MAX_NUMBER, Side};

/// The most items in one record.
pub const MAX_ITEMS: usize = 4_096;
/// The longest token in bytes.
pub const MAX_TOKEN_BYTES: usize = 4_096;
/// The longest text of a CLOSE in bytes.
pub const MAX_TEXT_BYTES: usize = 256;
/// The longest ticket in bytes: an extension of a Claim has no room for more. (SPEC 44.9)
#[cfg(feature = "tickets")]
pub const MAX_TICKET_BYTES: usize = 255;
/// The most marks in one RESUMED.
pub const MAX_RESUMED_MARKS: usize = 64;
/// The greatest key of a LATEST.
pub const MAX_LATEST_KEY: u8 = 63;

const PAD: u64 = 0;
const TOKEN: u64 = 1;
const EARLY_END: u64 = 2;
const ACK: u64 = 3;
const ACK_NOW: u64 = 4;
const PART: u64 = 5;
const GAP: u64 = 6;
const SUPERSEDED: u64 = 7;
const LATEST: u64 = 8;
const VOLATILE: u64 = 9;
const SKIPPED: u64 = 10;
const RESUMED: u64 = 11;
const PING: u64 = 12;
const PONG: u64 = 13;
const GOAWAY: u64 = 14;
const CLOSE: u64 = 15;
#[cfg(feature = "tickets")]
const TICKET: u64 = 17;
/// Types from here on are ignored by those who do not know them.
const FIRST_IGNORED: u64 = 32;

/// An item of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the wire format has no others")]
pub enum Item<'a> {
    /// A packet, or the last piece of one. It has a number.
    Packet(&'a [u8]),
    /// Zeros up to the end of the record.
    Pad {
        /// How many there are after the header.
        length: usize,
    },
    /// What the backend knows the user by. Up only.
    Token(&'a [u8]),
    /// No early record follows. Up only.
    EarlyEnd,
    /// This many more packets are acknowledged.
    Ack(u64),
    /// The peer is asked for an ACK at once.
    AckNow,
    /// A piece of a packet that is not the last one.
    Part(&'a [u8]),
    /// Packets that will not come. They have numbers. Down only.
    Gap {
        /// How many.
        count: u64,
        /// Their bytes.
        bytes: u64,
        /// Why (SPEC 24.4(b)).
        reason: u8,
    },
    /// Packets that a newer one of their key took the place of. They have numbers. Down only.
    Superseded {
        /// How many.
        count: u64,
    },
    /// A packet, or the last piece of one, that takes the place of older ones of its key. It has a number. Down only.
    Latest {
        /// The key.
        key: u8,
        /// The packet.
        data: &'a [u8],
    },
    /// A packet, or the last piece of one, that is not kept. It has no number. Down only.
    Volatile(&'a [u8]),
    /// Volatile packets that were not sent before the next one. Down only.
    Skipped {
        /// How many.
        count: u64,
    },
    /// The session was taken up. Down only, and only as the first item after an Answer. The marks are those of the attempts accepted before,
    /// oldest first, 1 to [`MAX_RESUMED_MARKS`]; zeros stand for the join.
    Resumed(Resumed, &'a [[u8; 8]]),
    /// The peer is asked whether it is there.
    Ping([u8; 8]),
    /// It is.
    Pong([u8; 8]),
    /// The client is asked to leave. Down only.
    GoAway(GoAway),
    /// The last item of a connection but padding.
    Close(Close<'a>),
    /// By what the client comes back at another edge. Down only.
    #[cfg(feature = "tickets")]
    Ticket(&'a [u8]),
    /// An item of a type that receivers are to ignore.
    Ignored {
        /// The type, 32 or above.
        kind: u64,
        /// Its bytes.
        bytes: &'a [u8],
    },
}

/// Where both ends are after a resume. (SPEC 24.5)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct Resumed {
    /// Packets down up to this number were numbered before the resume.
    pub until: u64,
    /// The highest number up that the edge has received.
    pub received_up: u64,
    /// How long the session was away, in milliseconds.
    pub away_ms: u64,
    /// Why the edge let go of the connection before, or 0.
    pub cause: Code,
}

image!(Resumed {
    until,
    received_up,
    away_ms,
    cause
});

/// When the client is to leave. (SPEC 25.3)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct GoAway {
    /// Why.
    pub code: Code,
    /// It leaves no earlier than this, in milliseconds from now.
    pub earliest_ms: u32,
    /// And no later than this.
    pub latest_ms: u32,
    /// It is closed after this time, in milliseconds from now.
    pub drain_ms: u32,
}

image!(GoAway {
    code,
    earliest_ms,
    latest_ms,
    drain_ms
});

/// How a connection, and perhaps the session, ends. (SPEC 25.4)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct Close<'a> {
    /// Why.
    pub code: Code,
    /// How long the client is to wait, in milliseconds.
    pub wait_ms: u32,
    /// The longest random time to add to that, in milliseconds.
    pub jitter_ms: u32,
    /// The counter for 402, the limit in bytes for 404, otherwise 0.
    pub detail: u64,
    /// The account of the packets up.
    pub up: Ledger,
    /// The account of the packets down.
    pub down: Ledger,
    /// Words for people.
    pub text: &'a str,
}

/// Why bytes are no items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ItemError {
    /// The record ends within an item.
    #[error("item cut short")]
    Truncated,
    /// An integer is malformed or exceeds its field.
    #[error(transparent)]
    Integer(HandshakeError),
    /// A record of too many items.
    #[error("more than {MAX_ITEMS} items in a record")]
    TooMany,
    /// A type that does not exist, or is reserved.
    #[error("unknown item of type {kind}")]
    UnknownType {
        /// The type.
        kind: u64,
    },
    /// The other end sends this item, not this one.
    #[error("{item} is not sent by this side")]
    WrongSide {
        /// The item's name.
        item: &'static str,
    },
    /// A byte of padding is not 0.
    #[error("padding is not 0")]
    Padding,
    /// A field has a value that cannot be.
    #[error("{item} with {field} {value}")]
    Value {
        /// The item's name.
        item: &'static str,
        /// The field's name.
        field: &'static str,
        /// The value given.
        value: u64,
    },
    /// A field is too long.
    #[error("{item} of {length} bytes, at most {max} allowed")]
    TooLong {
        /// The item's name.
        item: &'static str,
        /// The length given in bytes.
        length: usize,
        /// The greatest length in bytes.
        max: usize,
    },
    /// A text that is not UTF-8.
    #[error("text is not UTF-8")]
    Text,
    /// A reserved field is not 0.
    #[error("{field} of {item} is reserved and not 0")]
    Reserved {
        /// The item's name.
        item: &'static str,
        /// The field's name.
        field: &'static str,
    },
}

impl From<HandshakeError> for ItemError {
    fn from(error: HandshakeError) -> Self {
        match error {
            HandshakeError::Truncated => ItemError::Truncated,
            error => ItemError::Integer(error),
        }
    }
}

/// Reads the items of a record.
#[derive(Debug, Clone)]
pub struct Items<'a> {
    /// What is left, or `None` once it failed.
    rest: Option<&'a [u8]>,
    sender: Side,
    read: usize,
}

impl<'a> Items<'a> {
    /// Begins with the plain bytes of a record that `sender` sealed.
    #[must_use]
    pub fn new(plain: &'a [u8], sender: Side) -> Self {
        Items {
            rest: Some(plain),
            sender,
            read: 0,
        }
    }

    /// Goes on after the first `read` items of a record.
    pub(super) fn after(read: usize, rest: &'a [u8], sender: Side) -> Self {
        Items {
            rest: Some(rest),
            sender,
            read,
        }
    }

    /// Returns what is left.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest.unwrap_or_default()
    }

    fn read(&mut self, rest: &'a [u8]) -> Result<Item<'a>, ItemError> {
        if self.read >= MAX_ITEMS {
            return Err(ItemError::TooMany);
        }
        self.read = self.read.saturating_add(1);
        let mut fields = Fields::new(rest);
        let header = fields.read_u64()?;
        let item = if header.is_multiple_of(2) {
            Item::Packet(fields.read_slice(header >> 1)?)
        } else {
            read_item(header >> 1, &mut fields)?
        };
        if item.only_from().is_some_and(|side| side != self.sender) {
            return Err(ItemError::WrongSide { item: item.name() });
        }
        if let Item::Close(close) = item
            && self.sender == Side::Client
            && !close.code.is_of_client()
        {
            return Err(bad("CLOSE", "code", close.code.to_u16().into()));
        }
        self.rest = Some(fields.rest());
        Ok(item)
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<Item<'a>, ItemError>;

    fn next(&mut self) -> Option<Self::Item> {
        // After an error there is nothing more.
        let rest = self.rest.take()?;
        if rest.is_empty() {
            return None;
        }
        Some(self.read(rest))
    }
}

/// The first byte of a header that has more than one (SPEC 3.1).
const FIRST_MARKER: u8 = 251;

/// Splits a whole packet off the items that begin with one. `None`: another item comes first, or something is wrong.
#[inline]
pub(super) fn split_packet(items: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = items.split_first()?;
    if first >= FIRST_MARKER {
        return split_long_packet(items);
    }
    let length = first.is_multiple_of(2).then_some(first >> 1)?;
    rest.split_at_checked(usize::from(length))
}

/// A packet whose header has more than one byte.
fn split_long_packet(items: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut fields = Fields::new(items);
    let header = fields
        .read_u64()
        .ok()
        .filter(|header| header.is_multiple_of(2))?;
    let packet = fields.read_slice(header >> 1).ok()?;
    Some((packet, fields.rest()))
}

fn bad(item: &'static str, field: &'static str, value: u64) -> ItemError {
    ItemError::Value { item, field, value }
}

/// A count of numbers: at least one, and no more than there are.
fn count(fields: &mut Fields<'_>, item: &'static str) -> Result<u64, ItemError> {
    let value = fields.read_u64()?;
    let is_right = (1..=MAX_NUMBER).contains(&value);
    is_right.then_some(value).ok_or(bad(item, "count", value))
}

fn number(
    fields: &mut Fields<'_>,
    item: &'static str,
    field: &'static str,
) -> Result<u64, ItemError> {
    let value = fields.read_u64()?;
    let is_right = value <= MAX_NUMBER;
    is_right.then_some(value).ok_or(bad(item, field, value))
}

fn code(fields: &mut Fields<'_>, item: &'static str) -> Result<Code, ItemError> {
    let value = fields.read_u64()?;
    let code = u16::try_from(value).ok().and_then(Code::from_u16);
    code.filter(|code| *code != Code::COLD)
        .ok_or(bad(item, "code", value))
}

fn at_most<'a>(bytes: &'a [u8], item: &'static str, max: usize) -> Result<&'a [u8], ItemError> {
    let length = bytes.len();
    let error = ItemError::TooLong { item, length, max };
    (length <= max).then_some(bytes).ok_or(error)
}

fn read_item<'a>(kind: u64, fields: &mut Fields<'a>) -> Result<Item<'a>, ItemError> {
    Ok(match kind {
        PAD => {
            let zeros = fields.take_rest();
            if zeros.iter().any(|byte| *byte != 0) {
                return Err(ItemError::Padding);
            }
            Item::Pad {
                length: zeros.len(),
            }
        }
        TOKEN => Item::Token(at_most(fields.read_bytes()?, "TOKEN", MAX_TOKEN_BYTES)?),
        EARLY_END => Item::EarlyEnd,
        ACK => Item::Ack(count(fields, "ACK")?),
        ACK_NOW => Item::AckNow,
        PART => match fields.read_bytes()? {
            [] => return Err(bad("PART", "length", 0)),
            bytes => Item::Part(bytes),
        },
        GAP => {
            let count = count(fields, "GAP")?;
            let bytes = fields.read_u64()?;
            let reason = fields.read_u64()?;
            match u8::try_from(reason) {
                Ok(reason @ 1..) => Item::Gap {
                    count,
                    bytes,
                    reason,
                },
                _ => return Err(bad("GAP", "reason", reason)),
            }
        }
        SUPERSEDED => Item::Superseded {
            count: count(fields, "SUPERSEDED")?,
        },
        LATEST => {
            let [key] = fields.read_array()?;
            if key > MAX_LATEST_KEY {
                return Err(bad("LATEST", "key", key.into()));
            }
            let data = fields.read_bytes()?;
            Item::Latest { key, data }
        }
        VOLATILE => Item::Volatile(fields.read_bytes()?),
        SKIPPED => Item::Skipped {
            count: count(fields, "SKIPPED")?,
        },
        RESUMED => {
            let resumed = Resumed {
                until: number(fields, "RESUMED", "until")?,
                received_up: number(fields, "RESUMED", "up received")?,
                away_ms: fields.read_u64()?,
                cause: code(fields, "RESUMED")?,
            };
            Item::Resumed(resumed, read_marks(fields)?)
        }
        PING => Item::Ping(fields.read_array()?),
        PONG => Item::Pong(fields.read_array()?),
        GOAWAY => Item::GoAway(read_go_away(fields)?),
        CLOSE => Item::Close(read_close(fields)?),
        #[cfg(feature = "tickets")]
        TICKET => Item::Ticket(at_most(fields.read_bytes()?, "TICKET", MAX_TICKET_BYTES)?),
        kind @ FIRST_IGNORED.. => Item::Ignored {
            kind,
            bytes: fields.read_bytes()?,
        },
        kind => return Err(ItemError::UnknownType { kind }),
    })
}

fn read_marks<'a>(fields: &mut Fields<'a>) -> Result<&'a [[u8; 8]], ItemError> {
    let bytes = fields.read_bytes()?;
    match bytes.as_chunks() {
        (marks @ [_, ..], []) if marks.len() <= MAX_RESUMED_MARKS => Ok(marks),
        _ => Err(bad("RESUMED", "length", bytes.len() as u64)),
    }
}

fn read_go_away(fields: &mut Fields<'_>) -> Result<GoAway, ItemError> {
    let go_away = GoAway {
        code: code(fields, "GOAWAY")?,
        earliest_ms: fields.read_u32()?,
        latest_ms: fields.read_u32()?,
        drain_ms: fields.read_u32()?,
    };
    if go_away.latest_ms < go_away.earliest_ms {
        return Err(bad("GOAWAY", "latest", go_away.latest_ms.into()));
    }
    let [address_bytes] = fields.read_array()?;
    if address_bytes != 0 {
        return Err(ItemError::Reserved {
            item: "GOAWAY",
            field: "address",
        });
    }
    Ok(go_away)
}

fn read_close<'a>(fields: &mut Fields<'a>) -> Result<Close<'a>, ItemError> {
    Ok(Close {
        code: code(fields, "CLOSE")?,
        wait_ms: fields.read_u32()?,
        jitter_ms: fields.read_u32()?,
        detail: fields.read_u64()?,
        up: read_ledger(fields)?,
        down: read_ledger(fields)?,
        text: {
            let text = at_most(fields.read_bytes()?, "CLOSE", MAX_TEXT_BYTES)?;
            core::str::from_utf8(text).map_err(|_| ItemError::Text)?
        },
    })
}

fn read_ledger(fields: &mut Fields<'_>) -> Result<Ledger, ItemError> {
    let mut counts = [0; 7];
    for count in &mut counts {
        *count = fields.read_u64()?;
    }
    Ok(Ledger::from_fields(counts))
}

impl Item<'_> {
    /// Returns its name in SPEC.txt, for logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Item::Packet(_) => "packet",
            Item::Pad { .. } => "PAD",
            Item::Token(_) => "TOKEN",
            Item::EarlyEnd => "EARLY_END",
            Item::Ack(_) => "ACK",
            Item::AckNow => "ACK_NOW",
            Item::Part(_) => "PART",
            Item::Gap { .. } => "GAP",
            Item::Superseded { .. } => "SUPERSEDED",
            Item::Latest { .. } => "LATEST",
            Item::Volatile(_) => "VOLATILE",
            Item::Skipped { .. } => "SKIPPED",
            Item::Resumed(..) => "RESUMED",
            Item::Ping(_) => "PING",
            Item::Pong(_) => "PONG",
            Item::GoAway(_) => "GOAWAY",
            Item::Close(_) => "CLOSE",
            #[cfg(feature = "tickets")]
            Item::Ticket(_) => "TICKET",
            Item::Ignored { .. } => "item to ignore",
        }
    }

    /// Returns the side that alone may send it, or `None` if both may.
    #[must_use]
    pub fn only_from(&self) -> Option<Side> {
        match self {
            Item::Token(_) | Item::EarlyEnd => Some(Side::Client),
            #[cfg(feature = "tickets")]
            Item::Ticket(_) => Some(Side::Edge),
            Item::Gap { .. }
            | Item::Superseded { .. }
            | Item::Latest { .. }
            | Item::Volatile(_)
            | Item::Skipped { .. }
            | Item::Resumed(..)
            | Item::GoAway(_) => Some(Side::Edge),
            Item::Packet(_)
            | Item::Pad { .. }
            | Item::Ack(_)
            | Item::AckNow
            | Item::Part(_)
            | Item::Ping(_)
            | Item::Pong(_)
            | Item::Close(_)
            | Item::Ignored { .. } => None,
        }
    }

    /// Returns how many numbers it takes.
    #[must_use]
    pub fn numbers(&self) -> u64 {
        match *self {
            Item::Packet(_) | Item::Latest { .. } => 1,
            Item::Gap { count, .. } | Item::Superseded { count } => count,
            _ => 0,
        }
    }

    /// Appends it to the items in `out`.
    ///
    /// What it says is not checked. An item that a reader would refuse is the caller's fault.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let kind = |kind: u64, out: &mut Vec<u8>| {
            write_integer(kind.saturating_mul(2).saturating_add(1), out);
        };
        let string = |bytes: &[u8], out: &mut Vec<u8>| {
            write_integer(bytes.len() as u64, out);
            out.extend_from_slice(bytes);
        };
        let integers = |values: &[u64], out: &mut Vec<u8>| {
            values.iter().for_each(|value| write_integer(*value, out));
        };
        match *self {
            Item::Packet(bytes) => {
                write_integer((bytes.len() as u64).saturating_mul(2), out);
                out.extend_from_slice(bytes);
            }
            Item::Pad { length } => {
                kind(PAD, out);
                out.resize(out.len().saturating_add(length), 0);
            }
            Item::Token(bytes) => {
                kind(TOKEN, out);
                string(bytes, out);
            }
            Item::EarlyEnd => kind(EARLY_END, out),
            Item::Ack(count) => {
                kind(ACK, out);
                integers(&[count], out);
            }
            #[cfg(feature = "tickets")]
            Item::Ticket(bytes) => {
                kind(TICKET, out);
                string(bytes, out);
            }
            Item::AckNow => kind(ACK_NOW, out),
            Item::Part(bytes) => {
                kind(PART, out);
                string(bytes, out);
            }
            Item::Gap {
                count,
                bytes,
                reason,
            } => {
                kind(GAP, out);
                integers(&[count, bytes, reason.into()], out);
            }
            Item::Superseded { count } => {
                kind(SUPERSEDED, out);
                integers(&[count], out);
            }
            Item::Latest { key, data } => {
                kind(LATEST, out);
                out.push(key);
                string(data, out);
            }
            Item::Volatile(bytes) => {
                kind(VOLATILE, out);
                string(bytes, out);
            }
            Item::Skipped { count } => {
                kind(SKIPPED, out);
                integers(&[count], out);
            }
            Item::Resumed(resumed, marks) => {
                kind(RESUMED, out);
                integers(
                    &[
                        resumed.until,
                        resumed.received_up,
                        resumed.away_ms,
                        resumed.cause.to_u16().into(),
                    ],
                    out,
                );
                string(marks.as_flattened(), out);
            }
            Item::Ping(bytes) => {
                kind(PING, out);
                out.extend_from_slice(&bytes);
            }
            Item::Pong(bytes) => {
                kind(PONG, out);
                out.extend_from_slice(&bytes);
            }
            Item::GoAway(go_away) => {
                kind(GOAWAY, out);
                let times = [go_away.earliest_ms, go_away.latest_ms, go_away.drain_ms];
                integers(&[go_away.code.to_u16().into()], out);
                integers(&times.map(u64::from), out);
                out.push(0);
            }
            Item::Close(close) => {
                kind(CLOSE, out);
                integers(
                    &[
                        close.code.to_u16().into(),
                        close.wait_ms.into(),
                        close.jitter_ms.into(),
                        close.detail,
                    ],
                    out,
                );
                integers(&close.up.fields(), out);
                integers(&close.down.fields(), out);
                string(close.text.as_bytes(), out);
            }
            Item::Ignored {
                kind: number,
                bytes,
            } => {
                kind(number, out);
                string(bytes, out);
            }
        }
    }
}

#[cfg(test)]
mod tests;
