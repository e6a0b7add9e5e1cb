//! Foreign text, made safe to show.

use std::fmt::{self, Write};

/// Passes text on with control characters spelt out, so that it neither ends a line nor commands a terminal.
pub(crate) struct Printable<W>(pub(crate) W);

impl<W: Write> Write for Printable<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(is_harmful) {
            let (harmless, from) = rest.split_at(at);
            self.0.write_str(harmless)?;
            let mut characters = from.chars();
            if let Some(harmful) = characters.next() {
                write!(self.0, "{}", harmful.escape_default())?;
            }
            rest = characters.as_str();
        }
        self.0.write_str(rest)
    }
}

/// Control characters, and those that turn the direction of the text round.
pub(crate) fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// At most `most` characters of `text`, printable, with `…` for the rest.
pub(crate) fn excerpt(text: &str, most: usize) -> String {
    let mut out = String::new();
    let end = text
        .char_indices()
        .nth(most)
        .map_or(text.len(), |(at, _)| at);
    // Writing to a String never fails.
    let _ = Printable(&mut out).write_str(&text[..end]);
    if end < text.len() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(excerpt("plain é text", 80), "plain é text");
        assert_eq!(
            excerpt("a\nb\r\u{1b}[2J\0\u{7f}\u{9b}", 80),
            "a\\nb\\r\\u{1b}[2J\\u{0}\\u{7f}\\u{9b}"
        );
        assert_eq!(excerpt("abc\u{202e}def", 80), "abc\\u{202e}def");
        assert_eq!(excerpt("äöüß", 4), "äöüß");
        assert_eq!(excerpt("äöüßx", 4), "äöüß…");
        assert_eq!(excerpt("", 0), "");
    }
}
