//! What a server says, cut out of bytes as they come.

use std::fmt;

/// Bytes that came, and how much of them was read.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    at: usize,
}

impl Buffer {
    /// Returns what was not read yet.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    /// Notes that so much of the rest was read.
    pub(crate) fn take(&mut self, bytes: usize) {
        self.at += bytes;
    }
}

/// The grammar of a protocol.
pub(crate) trait Parse: fmt::Debug + Default {
    /// What a server says.
    type Said: fmt::Debug;

    /// Takes the next thing that was said whole. The error says why the bytes make no sense.
    fn next(&mut self, buffer: &mut Buffer) -> Result<Option<Self::Said>, &'static str>;
}

/// Cuts what a server says out of bytes.
#[derive(Debug, Default)]
pub(crate) struct Reader<P> {
    pub(crate) buffer: Buffer,
    parser: P,
}

impl<P: Parse> Reader<P> {
    /// Adds bytes, after [`next`](Reader::next) has said that there is nothing whole.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let buffer = &mut self.buffer;
        buffer.bytes.drain(..buffer.at);
        buffer.at = 0;
        buffer.bytes.extend_from_slice(bytes);
    }

    /// Returns the next thing that was said whole. The error says why the bytes make no sense.
    pub(crate) fn next(&mut self) -> Result<Option<P::Said>, &'static str> {
        self.parser.next(&mut self.buffer)
    }
}

/// Returns the first line, without its line feed, and what is behind it. `None`: it is not whole yet.
pub(crate) fn line(rest: &[u8], most: usize) -> Result<Option<(&str, &[u8])>, &'static str> {
    let window = &rest[..rest.len().min(most)];
    let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
        return match rest.len() < most {
            true => Ok(None),
            false => Err("a line is too long"),
        };
    };
    let line = std::str::from_utf8(&rest[..end]).map_err(|_| "a line is no text")?;
    Ok(Some((line, &rest[end + 1..])))
}

/// Returns so many bytes, which a line end follows. `None`: not all are there yet. Otherwise they are `wrong`.
pub(crate) fn body<'a>(
    rest: &'a [u8],
    length: usize,
    wrong: &'static str,
) -> Result<Option<&'a [u8]>, &'static str> {
    match rest.get(length..length + 2) {
        None => Ok(None),
        Some(b"\r\n") => Ok(Some(&rest[..length])),
        Some(_) => Err(wrong),
    }
}

/// Reads what a server says as it comes in these pieces, and returns all of it as text, with the reason if it makes no sense. `more` reads on
/// in what was said.
#[cfg(feature = "testkit")]
pub(crate) fn said_in_pieces<'a, P: Parse>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    more: impl Fn(&P::Said) -> String,
) -> (Vec<String>, Option<&'static str>) {
    let (mut reader, mut all) = (Reader::<P>::default(), Vec::new());
    for piece in pieces {
        reader.push(piece);
        loop {
            match reader.next() {
                Ok(None) => break,
                Ok(Some(said)) => all.push(format!("{said:?} {}", more(&said))),
                Err(why) => return (all, Some(why)),
            }
        }
    }
    (all, None)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Checks that this is read in pieces of any size.
    pub(crate) fn is_read_however_it_is_cut<P: Parse>(spoken: &[u8], expected: &[P::Said])
    where
        P::Said: PartialEq,
    {
        for size in 1..=spoken.len() {
            let mut reader = Reader::<P>::default();
            let mut said = Vec::new();
            for piece in spoken.chunks(size) {
                reader.push(piece);
                while let Some(one) = reader.next().expect("good") {
                    said.push(one);
                }
            }
            assert_eq!(said, expected, "in pieces of {size}");
        }
    }
}
