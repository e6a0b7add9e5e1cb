//! The lines of a backend that asks for version 3 of the link (SPEC 33 to 38), with a codec of their own.

use super::item::{literal, number};
use crate::codec::frame;

const ASK: u8 = 0x10;
const GRANT: u8 = 0x11;
const LINK_ACK: u8 = 0x12;
const SETTLED: u8 = 0x18;

/// What a backend keeps of its edge.
#[derive(Debug, Default)]
pub(super) struct Asking {
    run: [u8; 8],
    is_granted: bool,
}

fn body(id: u64, flag: u8, data: &[u8]) -> Vec<u8> {
    [&id.to_le_bytes()[..], &[flag], data].concat()
}

/// Splits a word at its colons, but not within quotes or brackets.
fn parts(word: &str) -> Vec<&str> {
    let (mut parts, mut start, mut quoted) = (Vec::new(), 0, false);
    for (at, c) in word.char_indices() {
        match c {
            '"' | '[' | ']' => quoted = !quoted,
            ':' if !quoted => {
                parts.push(&word[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&word[start..]);
    parts
}

fn u16_of(text: &str) -> Option<[u8; 2]> {
    u16::try_from(number(text)?).ok().map(u16::to_le_bytes)
}

impl Asking {
    /// Returns an ASK: `boot=N` (1), `known` (of the run that was granted last), `received=N`, `acked=N`, `sent=N`, `features=N`.
    pub(super) fn ask(&self, options: &[&str]) -> Option<Vec<u8>> {
        let (mut boot, mut run, mut features) = (1, [0; 8], u64::from(u32::MAX));
        let mut counts = [0; 3];
        for option in options {
            match option.split_once('=') {
                Some(("boot", n)) => boot = u8::try_from(number(n)?).ok()?,
                Some(("features", n)) => features = number(n)?,
                Some(("received", n)) => counts[0] = number(n)?,
                Some(("acked", n)) => counts[1] = number(n)?,
                Some(("sent", n)) => counts[2] = number(n)?,
                None if *option == "known" => run = self.run,
                _ => return None,
            }
        }
        let mut data = vec![3];
        data.extend(u32::try_from(features).ok()?.to_le_bytes());
        data.extend([boot; 16]);
        data.extend(run);
        counts
            .iter()
            .for_each(|count| data.extend(count.to_le_bytes()));
        data.extend(u32::MAX.to_le_bytes());
        Some(frame(&body(0, ASK, &data)))
    }

    /// Returns whether the edge granted what it was asked for.
    pub(super) fn is_granted(&self) -> bool {
        self.is_granted
    }

    /// Returns whether a line that does not name it passes over this body: an acknowledgement, which comes when it likes.
    pub(super) fn passes_over(&self, body: &[u8]) -> bool {
        self.is_granted && matches!(body.get(8), Some(&(LINK_ACK | SETTLED)))
    }

    /// Reads a GRANT, with the options that are to be compared: `received=N`, `sessions=N`, `features=N`.
    pub(super) fn hear_grant(&mut self, body: &[u8], options: &[&str]) -> Result<(), String> {
        let data = body
            .get(9..66)
            .filter(|_| body.len() == 66 && body[8] == GRANT);
        let data = data.ok_or("it is no GRANT")?;
        self.run.copy_from_slice(&data[27..35]);
        self.is_granted = true;
        let value = |from: usize, to: usize| {
            let bytes = data[from..to].iter().rev();
            bytes.fold(0_u64, |value, byte| value << 8 | u64::from(*byte))
        };
        for option in options {
            let (name, wanted) = option.split_once('=').ok_or("no such option")?;
            let found = match name {
                "features" => value(1, 5),
                "received" => value(43, 51),
                "groups" => value(51, 53),
                "sessions" => value(53, 57),
                _ => return Err("no such option".into()),
            };
            if Some(found) != number(wanted) {
                return Err(format!("{name} is {found}"));
            }
        }
        Ok(())
    }

    /// Returns an order as a frame. `id` is that of the session or the group, `ids` those of a list.
    pub(super) fn order(
        id: u64,
        word: &str,
        ids: impl Fn(&str) -> Option<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        let (flag, data) = match parts(word).as_slice() {
            ["volatile", packet] => (0x20, literal(packet)?),
            ["latest", key, packet] => {
                let key = u8::try_from(number(key)?).ok()?;
                (0x21, [vec![key], literal(packet)?].concat())
            }
            ["group", packet] => (0x22, [vec![0; 3], literal(packet)?].concat()),
            ["group", without, packet] => {
                let without = ids(without)?;
                let count = u8::try_from(without.len() / 8).ok()?;
                (
                    0x22,
                    [vec![0, 0, count], without, literal(packet)?].concat(),
                )
            }
            ["add", list] => (0x23, ids(list)?),
            ["remove", list] => (0x24, ids(list)?),
            ["end"] => (0x25, Vec::new()),
            ["kick", code, text] => (
                0x26,
                [&u16_of(code)?[..], &[0; 4], &literal(text)?].concat(),
            ),
            ["note", text] => (0x27, [vec![0; 9], literal(text)?].concat()),
            ["gaps"] => (0x27, vec![0, 0, 0, 0, 0, 0, 0, 0, 1]),
            ["pause"] => (0x29, Vec::new()),
            ["go_on"] => (0x2a, Vec::new()),
            ["ack", acked, sent] => {
                let counts = [number(acked)?.to_le_bytes(), number(sent)?.to_le_bytes()];
                (LINK_ACK, counts.concat())
            }
            ["flag", flag, data] => (u8::try_from(number(flag)?).ok()?, literal(data)?),
            _ => return None,
        };
        Some(frame(&body(id, flag, &data)))
    }

    /// Returns the flag of a notice, and what its data begins with.
    pub(super) fn notice(word: &str) -> Option<(u8, Vec<u8>)> {
        let one = |text: &str| u8::try_from(number(text)?).ok();
        Some(match parts(word).as_slice() {
            ["joined", version] => (0x13, vec![one(version)?]),
            ["away", code] => (0x14, u16_of(code)?.to_vec()),
            ["back", counter] => (0x15, number(counter)?.to_le_bytes().to_vec()),
            ["over", code] => (0x16, u16_of(code)?.to_vec()),
            ["gap", first, count, bytes, reason] => {
                let numbers = [number(first)?, number(count)?, number(bytes)?];
                let numbers = numbers.map(u64::to_le_bytes).concat();
                (0x17, [vec![1], numbers, vec![one(reason)?]].concat())
            }
            ["acked", acked, sent] => {
                let counts = [number(acked)?.to_le_bytes(), number(sent)?.to_le_bytes()];
                (LINK_ACK, counts.concat())
            }
            ["refused", flag, reason] => (0x1a, vec![one(flag)?, one(reason)?]),
            ["owned", counter, next_up, down] => {
                let numbers = [number(counter)?, number(next_up)?, number(down)?];
                (0x1c, numbers.map(u64::to_le_bytes).concat())
            }
            _ => return None,
        })
    }

    /// Returns whether a body is this notice.
    pub(super) fn compares(body: &[u8], id: u64, flag: u8, begins: &[u8]) -> bool {
        let data = body.get(9..).unwrap_or_default();
        body.get(..8) == Some(&id.to_le_bytes())
            && body.get(8) == Some(&flag)
            && data.starts_with(begins)
    }
}
