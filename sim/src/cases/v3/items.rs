//! Items of records as a case writes and reads them (SPEC 21.3), without sharing code with the core.

use super::super::item::{literal, number};

/// Encodes an integer (SPEC 3.1).
#[must_use]
pub fn varint(value: u64) -> Vec<u8> {
    let bytes = value.to_le_bytes();
    match value {
        0..251 => vec![bytes[0]],
        251..0x1_0000 => [&[251], &bytes[..2]].concat(),
        0x1_0000..0x1_0000_0000 => [&[252], &bytes[..4]].concat(),
        _ => [&[253], &bytes[..]].concat(),
    }
}

fn typed(kind: u64, fields: &[&[u8]]) -> Vec<u8> {
    [&varint(2 * kind + 1), &fields.concat()[..]].concat()
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&varint(bytes.len() as u64), bytes].concat()
}

/// An item, or several, as a word of a case names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worded {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// How many numbers it takes.
    pub numbers: u64,
}

/// Encodes a word. `None` if it is no item that needs nothing but its word.
#[must_use]
pub fn encode(word: &str) -> Option<Worded> {
    if let Some(rest) = word.strip_prefix("times:") {
        let (times, one) = rest.split_once(':')?;
        let (times, one) = (number(times)?, encode(one)?);
        return Some(Worded {
            bytes: one.bytes.repeat(usize::try_from(times).ok()?),
            numbers: one.numbers * times,
        });
    }
    let none = |bytes| Worded { bytes, numbers: 0 };
    let one = |bytes| Worded { bytes, numbers: 1 };
    if let Some(data) = literal(word) {
        let head = varint(2 * data.len() as u64);
        return Some(one([head, data].concat()));
    }
    let (name, rest) = word.split_once(':').unwrap_or((word, ""));
    let mut fields = rest.split(':');
    let mut field = || number(fields.next()?);
    Some(match name {
        "raw" => none(literal(rest)?),
        "pad" => none(typed(
            0,
            &[&vec![0; usize::try_from(field()?).ok()?.checked_sub(1)?]],
        )),
        "token" => none(typed(1, &[&string(&literal(rest)?)])),
        "early_end" => none(typed(2, &[])),
        "ack" => none(typed(3, &[&varint(field()?)])),
        "ack_now" => none(typed(4, &[])),
        "part" => none(typed(5, &[&string(&literal(rest)?)])),
        "gap" => {
            let (count, bytes, reason) = (field()?, field()?, field()?);
            Worded {
                bytes: typed(6, &[&varint(count), &varint(bytes), &varint(reason)]),
                numbers: count,
            }
        }
        "superseded" => {
            let count = field()?;
            Worded {
                bytes: typed(7, &[&varint(count)]),
                numbers: count,
            }
        }
        "latest" => {
            let (key, data) = rest.split_once(':')?;
            let key = u8::try_from(number(key)?).ok()?;
            one(typed(8, &[&[key], &string(&literal(data)?)]))
        }
        "volatile" => none(typed(9, &[&string(&literal(rest)?)])),
        "skipped" => none(typed(10, &[&varint(field()?)])),
        "ping" | "pong" => {
            let kind = if name == "ping" { 12 } else { 13 };
            none(typed(kind, &[&literal(rest)?]))
        }
        "goaway" => {
            let fields = [field()?, field()?, field()?, field()?]
                .map(varint)
                .concat();
            none(typed(14, &[&fields, &[0]]))
        }
        "close" => none(typed(15, &[&close(rest)?])),
        "item" => {
            let (kind, data) = rest.split_once(':')?;
            none(typed(number(kind)?, &[&string(&literal(data)?)]))
        }
        _ => return None,
    })
}

/// `CODE`, `CODE,detail=N,wait=N,jitter=N,text="…"`.
fn close(rest: &str) -> Option<Vec<u8>> {
    let mut options = rest.split(',');
    let code = number(options.next()?)?;
    let (mut wait, mut jitter, mut detail, mut text) = (0, 0, 0, Vec::new());
    for option in options {
        match option.split_once('=')? {
            ("wait", value) => wait = number(value)?,
            ("jitter", value) => jitter = number(value)?,
            ("detail", value) => detail = number(value)?,
            ("text", value) => text = literal(value)?,
            _ => return None,
        }
    }
    let head = [code, wait, jitter, detail].map(varint).concat();
    Some([head, vec![0; 14], string(&text)].concat())
}

/// An item that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Came {
    /// A packet of its class: `None`, a key, or 64 for a volatile one.
    Packet(Vec<u8>),
    /// A packet with a key.
    Latest(u8, Vec<u8>),
    /// A packet without a number.
    Volatile(Vec<u8>),
    /// A piece of one.
    Part(Vec<u8>),
    /// TOKEN.
    Token(Vec<u8>),
    /// EARLY_END.
    EarlyEnd,
    /// ACK of so many more.
    Ack(u64),
    /// ACK_NOW.
    AckNow,
    /// GAP: count, bytes, reason.
    Gap(u64, u64, u64),
    /// SUPERSEDED.
    Superseded(u64),
    /// SKIPPED.
    Skipped(u64),
    /// RESUMED: until, up received, away, cause, marks.
    Resumed([u64; 4], Vec<[u8; 8]>),
    /// PING.
    Ping([u8; 8]),
    /// PONG.
    Pong([u8; 8]),
    /// GOAWAY: code, earliest, latest, drain.
    GoAway([u64; 4]),
    /// CLOSE: code, wait, jitter, detail, then the ledger and the text.
    Close([u64; 4], [u64; 14], Vec<u8>),
    /// PAD, and what is to be ignored.
    Nothing,
}

impl Came {
    /// How many numbers it takes.
    #[must_use]
    pub fn numbers(&self) -> u64 {
        match self {
            Came::Packet(_) | Came::Latest(..) => 1,
            Came::Gap(count, ..) | Came::Superseded(count) => *count,
            _ => 0,
        }
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken.to_vec())
    }

    fn varint(&mut self) -> Option<u64> {
        let first = self.take(1)?[0];
        let width = match first {
            0..251 => return Some(first.into()),
            251 => 2,
            252 => 4,
            253 => 8,
            _ => return None,
        };
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(&self.take(width)?);
        Some(u64::from_le_bytes(bytes))
    }

    fn varints<const N: usize>(&mut self) -> Option<[u64; N]> {
        let mut all = [0; N];
        for one in &mut all {
            *one = self.varint()?;
        }
        Some(all)
    }

    fn string(&mut self) -> Option<Vec<u8>> {
        let length = usize::try_from(self.varint()?).ok()?;
        self.take(length)
    }

    fn eight(&mut self) -> Option<[u8; 8]> {
        self.take(8)?.try_into().ok()
    }

    fn item(&mut self) -> Option<Came> {
        let head = self.varint()?;
        if head % 2 == 0 {
            return self.take(usize::try_from(head / 2).ok()?).map(Came::Packet);
        }
        Some(match head / 2 {
            0 => {
                let rest = std::mem::take(&mut self.0);
                rest.iter().all(|byte| *byte == 0).then_some(())?;
                Came::Nothing
            }
            1 => Came::Token(self.string()?),
            2 => Came::EarlyEnd,
            3 => Came::Ack(self.varint()?),
            4 => Came::AckNow,
            5 => Came::Part(self.string()?),
            6 => {
                let [count, bytes, reason] = self.varints()?;
                Came::Gap(count, bytes, reason)
            }
            7 => Came::Superseded(self.varint()?),
            8 => Came::Latest(self.take(1)?[0], self.string()?),
            9 => Came::Volatile(self.string()?),
            10 => Came::Skipped(self.varint()?),
            11 => {
                let fields = self.varints()?;
                let marks = self.string()?;
                let (marks, rest) = marks.as_chunks();
                (rest.is_empty() && !marks.is_empty()).then_some(())?;
                Came::Resumed(fields, marks.to_vec())
            }
            12 => Came::Ping(self.eight()?),
            13 => Came::Pong(self.eight()?),
            14 => {
                let fields = self.varints()?;
                (self.take(1)? == [0]).then_some(())?;
                Came::GoAway(fields)
            }
            15 => Came::Close(self.varints()?, self.varints()?, self.string()?),
            32.. => self.string().map(|_| Came::Nothing)?,
            _ => return None,
        })
    }
}

/// Decodes the items of a record, or `None` if they are malformed.
#[must_use]
pub fn decode(plain: &[u8]) -> Option<Vec<Came>> {
    let mut fields = Fields(plain);
    let mut all = Vec::new();
    while !fields.0.is_empty() {
        all.push(fields.item()?);
    }
    Some(all)
}

/// Compares what came with a word. The fields of RESUMED, CLOSE and GOAWAY that the word does not name are not looked at, but that a ledger
/// adds up. `mark` returns the mark that a name stands for.
///
/// # Errors
/// What is wrong with it.
pub fn compare(
    came: &Came,
    word: &str,
    mark: &dyn Fn(&str) -> Option<[u8; 8]>,
) -> Result<(), String> {
    let other = || format!("{came:?} came");
    let right = |is_right: bool| is_right.then_some(()).ok_or_else(other);
    if let Some(data) = literal(word) {
        return right(*came == Came::Packet(data));
    }
    let mut options = word.split(',');
    let (name, first) = options
        .next()
        .and_then(|head| head.split_once(':'))
        .unwrap_or((word.split(',').next().unwrap_or(word), ""));
    match (name, came) {
        ("resumed", Came::Resumed([until, up, away, cause], marks)) => {
            for option in options {
                let (what, value) = option.split_once('=').ok_or("NAME=VALUE")?;
                if what == "marks" {
                    let wanted: Option<Vec<_>> = value.split('+').map(mark).collect();
                    right(wanted.ok_or("no such mark")? == *marks)?;
                    continue;
                }
                let wanted = number(value).ok_or("no such number")?;
                let found = match what {
                    "until" => until,
                    "up" => up,
                    "away" => away,
                    "cause" => cause,
                    _ => return Err("no such field".into()),
                };
                right(wanted == *found)?;
            }
            Ok(())
        }
        ("close", Came::Close([code, wait, jitter, detail], ledger, text)) => {
            right(Some(*code) == number(first))?;
            for seven in ledger.as_chunks::<7>().0 {
                let [numbered, rest @ .., _] = seven;
                right(*numbered == rest.iter().sum::<u64>())?;
            }
            for option in options {
                let (what, value) = option.split_once('=').ok_or("NAME=VALUE")?;
                if what == "text" {
                    right(literal(value).as_ref() == Some(text))?;
                    continue;
                }
                let found = match what {
                    "wait" => *wait,
                    "jitter" => *jitter,
                    "detail" => *detail,
                    // Of the ledger: numbered and acknowledged, each way.
                    "up" => ledger[0],
                    "up_acked" => ledger[1],
                    "down" => ledger[7],
                    "down_acked" => ledger[8],
                    _ => return Err("no such field".into()),
                };
                right(number(value) == Some(found))?;
            }
            Ok(())
        }
        ("goaway", Came::GoAway([code, ..])) => right(Some(*code) == number(first)),
        ("ping", Came::Ping(_)) if first.is_empty() => Ok(()),
        ("early_end" | "ack_now" | "token" | "part" | "gap" | "superseded", _)
        | ("latest" | "volatile" | "skipped" | "ping" | "pong", _) => {
            let wanted = encode(word).ok_or("no such item")?;
            right(decode(&wanted.bytes).as_deref() == Some(std::slice::from_ref(came)))
        }
        ("resumed" | "close" | "goaway", _) => Err(other()),
        _ => Err(format!("no such item: {word}")),
    }
}
