//! The items of a record, written from section 21.3 of SPEC.txt without the core's code.

use crate::codec::take_varint;

/// Counts of packets in the order of SPEC 24.7(a).
pub(super) type Account = [u64; 7];

/// An item of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Packet(Vec<u8>),
    Pad,
    Token,
    EarlyEnd,
    Ack(u64),
    AckNow,
    Part(Vec<u8>),
    Gap {
        count: u64,
        reason: u64,
    },
    Superseded(u64),
    Latest {
        key: u8,
        packet: Vec<u8>,
    },
    Volatile(Vec<u8>),
    Skipped(u64),
    Resumed {
        until: u64,
        received_up: u64,
        cause: u64,
        marks: Vec<[u8; 8]>,
    },
    Ping([u8; 8]),
    Pong([u8; 8]),
    GoAway {
        code: u64,
        earliest: u64,
        latest: u64,
        drain: u64,
    },
    Close {
        code: u64,
        detail: u64,
        up: Account,
        down: Account,
    },
    Other(u64),
}

impl Item {
    /// Returns how many numbers it takes.
    pub(super) fn numbers(&self) -> u64 {
        match self {
            Item::Packet(_) | Item::Latest { .. } => 1,
            Item::Gap { count, .. } | Item::Superseded(count) => *count,
            _ => 0,
        }
    }
}

/// Reads all items of a record.
pub(super) fn read(plain: &[u8]) -> Result<Vec<Item>, String> {
    let mut rest = plain;
    let mut items = Vec::new();
    while !rest.is_empty() {
        let before = plain.len() - rest.len();
        let item = next(&mut rest).ok_or(format!("no item at byte {before} of a record"))?;
        items.push(item);
    }
    match items.len() {
        0..=4_096 => Ok(items),
        more => Err(format!("a record with {more} items")),
    }
}

fn next(rest: &mut &[u8]) -> Option<Item> {
    let head = take_varint(rest)?;
    if head % 2 == 0 {
        return Some(Item::Packet(take(rest, head / 2)?));
    }
    Some(match (head - 1) / 2 {
        0 => {
            let zeros = core::mem::take(rest);
            zeros.iter().all(|byte| *byte == 0).then_some(Item::Pad)?
        }
        1 => {
            let length = take_varint(rest)?;
            take(rest, length).filter(|token| token.len() <= 4_096)?;
            Item::Token
        }
        2 => Item::EarlyEnd,
        3 => Item::Ack(take_varint(rest).filter(|count| *count > 0)?),
        4 => Item::AckNow,
        5 => {
            let length = take_varint(rest).filter(|length| *length > 0)?;
            Item::Part(take(rest, length)?)
        }
        6 => {
            let count = take_varint(rest).filter(|count| *count > 0)?;
            take_varint(rest)?;
            let reason = take_varint(rest)?;
            Item::Gap { count, reason }
        }
        7 => Item::Superseded(take_varint(rest).filter(|count| *count > 0)?),
        8 => {
            let key = take(rest, 1)?.first().copied().filter(|key| *key < 64)?;
            let length = take_varint(rest)?;
            let packet = take(rest, length)?;
            Item::Latest { key, packet }
        }
        9 => {
            let length = take_varint(rest)?;
            Item::Volatile(take(rest, length)?)
        }
        10 => Item::Skipped(take_varint(rest)?),
        11 => {
            let (until, received_up) = (take_varint(rest)?, take_varint(rest)?);
            let (_away, cause) = (take_varint(rest)?, take_varint(rest)?);
            let length = take_varint(rest)?;
            let bytes = take(rest, length)?;
            let (marks, cut) = bytes.as_chunks::<8>();
            let fits = cut.is_empty() && (1..=64).contains(&marks.len());
            let marks = fits.then(|| marks.to_vec())?;
            Item::Resumed {
                until,
                received_up,
                cause,
                marks,
            }
        }
        12 => Item::Ping(take(rest, 8)?.try_into().ok()?),
        13 => Item::Pong(take(rest, 8)?.try_into().ok()?),
        14 => {
            let (code, earliest) = (take_varint(rest)?, take_varint(rest)?);
            let (latest, drain) = (take_varint(rest)?, take_varint(rest)?);
            take(rest, 1).filter(|length| *length == [0])?;
            Item::GoAway {
                code,
                earliest,
                latest,
                drain,
            }
        }
        15 => {
            let code = take_varint(rest)?;
            let (_wait, _jitter) = (take_varint(rest)?, take_varint(rest)?);
            let detail = take_varint(rest)?;
            let mut account = || -> Option<Account> {
                let mut account = Account::default();
                for count in &mut account {
                    *count = take_varint(rest)?;
                }
                Some(account)
            };
            let (up, down) = (account()?, account()?);
            let length = take_varint(rest)?;
            take(rest, length)?;
            Item::Close {
                code,
                detail,
                up,
                down,
            }
        }
        kind @ 32.. => {
            let length = take_varint(rest)?;
            take(rest, length)?;
            Item::Other(kind)
        }
        _ => return None,
    })
}

fn take(rest: &mut &[u8], length: u64) -> Option<Vec<u8>> {
    let length = usize::try_from(length).ok()?;
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken.to_vec())
}
