//! Items: the bytes that a case sends or expects.

use crate::codec::{Hello, frame};

/// Parses literal bytes: `[hex]` or `"text"`, each with an optional `*N`.
pub(super) fn literal(item: &str) -> Option<Vec<u8>> {
    let (text, times) = match item.rsplit_once('*') {
        Some((text, times)) => match times.parse::<usize>() {
            Ok(times) => (text, times),
            Err(_) => (item, 1),
        },
        None => (item, 1),
    };
    let bytes = if let Some(text) = between(text, '"', '"') {
        text.as_bytes().to_vec()
    } else {
        let digits: Vec<char> = between(text, '[', ']')?
            .chars()
            .filter(|c| !matches!(c, ' ' | '_'))
            .collect();
        let byte = |pair: &[char]| {
            let text: String = pair.iter().collect();
            (pair.len() == 2).then(|| u8::from_str_radix(&text, 16).ok())?
        };
        digits.chunks(2).map(byte).collect::<Option<Vec<u8>>>()?
    };
    Some(bytes.repeat(times))
}

fn between(text: &str, open: char, close: char) -> Option<&str> {
    text.strip_prefix(open)?.strip_suffix(close)
}

/// Parses a number, in decimal or with `0x`.
pub(super) fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Returns the bytes of an item that does not depend on the run, or `None` if it is not such an item.
#[must_use]
pub fn plain(item: &str) -> Option<Vec<u8>> {
    if let Some(bytes) = literal(item) {
        return Some(bytes);
    }
    let (name, argument) = item.split_once(':').unwrap_or((item, ""));
    Some(match name {
        "len" => u32::try_from(number(argument)?)
            .ok()?
            .to_le_bytes()
            .to_vec(),
        "frame" => frame(&plain(argument)?),
        "version" => Hello::Version(u32::try_from(number(argument)?).ok()?).to_frame(),
        "ping" => Hello::Ping.to_frame(),
        "response" if argument == "zeros" => Hello::Response(vec![0; 72]).to_frame(),
        "challenge" => Hello::Challenge(vec![0; 72]).to_frame(),
        "claim" => Hello::Id(number(argument)?).to_frame(),
        "key" => Hello::PublicKey(literal(argument)?).to_frame(),
        _ => return None,
    })
}

/// Applies the changes after a response's name: `/flip=BIT`, `/cut=BYTES`, `/pad=BYTES`.
#[must_use]
pub fn spoil(mut sealed: Vec<u8>, changes: &str) -> Option<Vec<u8>> {
    for change in changes.split('/').filter(|change| !change.is_empty()) {
        let (what, amount) = change.split_once('=')?;
        let amount = usize::try_from(number(amount)?).ok()?;
        match what {
            "flip" => *sealed.get_mut(amount / 8)? ^= 1 << (amount % 8),
            "cut" => sealed.truncate(amount),
            "pad" => sealed.resize(sealed.len() + amount, 0),
            _ => return None,
        }
    }
    Some(sealed)
}
