//! A line of the log as a JSON object, for those who collect logs.
//!
//! The keys are `ts`, `level`, `msg` and `target`, then the fields of the event by their names, `span` if there is one, and `left_out` if
//! lines like it were left out before. Numbers and truth values stay what they are; everything else is text.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

use crate::text::is_harmful;

/// The most bytes of a line, without its end. Fields that find no room are left out, and `"cut":true` says so.
pub(super) const MAX_LINE_BYTES: usize = 8_192;
/// The most bytes of one text in a line, as it is written, without its quotes.
const MAX_TEXT_BYTES: usize = 2_048;
/// Room for what comes after the fields.
const TAIL_BYTES: usize = 64;

/// A line that grows by fields.
pub(super) struct Line {
    text: String,
    is_cut: bool,
}

impl Line {
    pub(super) fn new(level: Level, message: &str) -> Self {
        let mut text = String::from("{\"ts\":\"");
        // Writing into a string does not fail.
        let _ = SystemTime.format_time(&mut Writer::new(&mut text));
        let _ = write!(text, "\",\"level\":\"{level}\",\"msg\":");
        push_text(&mut text, message);
        let is_cut = false;
        Line { text, is_cut }
    }

    /// The line of an event.
    pub(super) fn of(event: &Event<'_>) -> Self {
        let mut message = Message(String::new());
        event.record(&mut message);
        let metadata = event.metadata();
        let mut line = Line::new(*metadata.level(), &message.0);
        line.text("target", metadata.target());
        event.record(&mut line);
        line
    }

    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.field(name, |out| push_text(out, value));
    }

    pub(super) fn count(&mut self, name: &str, count: u64) {
        self.field(name, |out| push(out, format_args!("{count}")));
    }

    fn field(&mut self, name: &str, value: impl FnOnce(&mut String)) {
        let before = self.text.len();
        self.text.push(',');
        push_text(&mut self.text, name);
        self.text.push(':');
        value(&mut self.text);
        if self.text.len() > MAX_LINE_BYTES - TAIL_BYTES {
            self.text.truncate(before);
            self.is_cut = true;
        }
    }

    /// Returns the whole line, with its end.
    pub(super) fn end(mut self, left_out: u64) -> String {
        if left_out > 0 {
            push(&mut self.text, format_args!(",\"left_out\":{left_out}"));
        }
        if self.is_cut {
            self.text.push_str(",\"cut\":true");
        }
        self.text.push_str("}\n");
        self.text
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() != "message" {
            self.text(field.name(), &format!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field.name(), |out| push(out, format_args!("{value}")));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.count(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has neither infinity nor NaN.
        if value.is_finite() {
            self.field(field.name(), |out| push(out, format_args!("{value}")));
        } else {
            self.text(field.name(), &value.to_string());
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field.name(), |out| push(out, format_args!("{value}")));
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

fn push(out: &mut String, value: fmt::Arguments<'_>) {
    out.write_fmt(value).expect("a string takes all");
}

/// Appends a JSON string. Characters that could command a terminal are escaped as well, though JSON would allow them.
fn push_text(out: &mut String, text: &str) {
    out.push('"');
    let start = out.len();
    for character in text.chars() {
        if out.len() - start > MAX_TEXT_BYTES {
            out.push('…');
            break;
        }
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // All of them are in the first plane.
            harmful if is_harmful(harmful) => {
                push(out, format_args!("\\u{:04x}", u32::from(harmful)));
            }
            harmless => out.push(harmless),
        }
    }
    out.push('"');
}
