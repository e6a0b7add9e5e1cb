//! The lines of the log: their format, and how many of a kind are written.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

#[cfg(feature = "admin")]
use super::happenings;
use super::kinds::{Allowance, Kinds};
use super::{AUDIT, SESSIONS, Style, json};
use crate::text::excerpt;

/// Formats one line per event.
pub(super) struct Lines<C> {
    pub(super) kinds: Mutex<Kinds>,
    pub(super) style: Style,
    pub(super) clock: C,
}

impl<S, N, C> FormatEvent<S, N> for Lines<C>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    C: Fn() -> Duration,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let is_ours = metadata.target().starts_with("voltlane");
        // Dependencies log their every step at Debug and Trace.
        if *metadata.level() > Level::INFO && !is_ours {
            return Ok(());
        }
        let is_json = self.style.is_json();
        #[cfg(feature = "admin")]
        happenings::note(event);
        if metadata.target() == SESSIONS && !self.style.shows_sessions.load(Ordering::Relaxed) {
            return Ok(());
        }
        let left_out = {
            // Counts stay correct whatever a panic elsewhere interrupted.
            let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
            let now = (self.clock)();
            let allowance = match metadata.target() {
                SESSIONS => Allowance::SESSIONS,
                _ => Allowance::of(*metadata.level()),
            };
            let kind = metadata.callsite();
            let admitted = match metadata.target() {
                AUDIT => Some(0),
                _ => kinds.admit(kind, allowance, now, || Message::of(event)),
            };
            for (message, count) in kinds.take_overdue(now) {
                let text = format!("{count} more like \"{message}\" were left out");
                if is_json {
                    let line = json::Line::new(Level::INFO, &text);
                    writer.write_str(&line.end(count))?;
                } else {
                    begin_line(&mut writer, self.style.colours, Level::INFO)?;
                    writeln!(writer, "{text}")?;
                }
            }
            match admitted {
                Some(left_out) => left_out,
                None => return Ok(()),
            }
        };
        if is_json {
            let mut line = json::Line::of(event);
            let mut spans = String::new();
            write_spans(context, &mut spans)?;
            if let Some(spans) = spans.strip_suffix(": ") {
                line.text("span", spans);
            }
            return writer.write_str(&line.end(left_out));
        }
        begin_line(&mut writer, self.style.colours, *metadata.level())?;
        write_spans(context, &mut writer)?;
        context.format_fields(writer.by_ref(), event)?;
        if left_out > 0 {
            write!(writer, " ({left_out} more like this were left out)")?;
        }
        writeln!(writer)
    }
}

/// Writes the spans that an event is in, each with its fields, from the outermost.
fn write_spans<S, N>(context: &FmtContext<'_, S, N>, out: &mut impl fmt::Write) -> fmt::Result
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    let scope = context.event_scope();
    for span in scope.into_iter().flat_map(|scope| scope.from_root()) {
        write!(out, "{}", span.name())?;
        if let Some(fields) = span
            .extensions()
            .get::<FormattedFields<N>>()
            .filter(|fields| !fields.is_empty())
        {
            write!(out, "{{{fields}}}")?;
        }
        out.write_str(": ")?;
    }
    Ok(())
}

pub(super) fn begin_line(writer: &mut Writer<'_>, colours: bool, level: Level) -> fmt::Result {
    SystemTime.format_time(writer)?;
    let colour = match level {
        Level::ERROR => "31",
        Level::WARN => "33",
        Level::INFO => "32",
        Level::DEBUG => "34",
        Level::TRACE => "35",
    };
    if colours {
        write!(writer, " \x1b[{colour}m{level:>5}\x1b[0m ")
    } else {
        write!(writer, " {level:>5} ")
    }
}

/// The message of an event, without its fields.
#[derive(Default)]
struct Message(String);

impl Message {
    fn of(event: &Event<'_>) -> String {
        let mut message = Message::default();
        event.record(&mut message);
        excerpt(&message.0, 80)
    }
}

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
