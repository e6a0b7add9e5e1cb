//! Log lines on standard error.
//!
//! Lines that a stranger can cause are limited at every level. Lines from one place in the code are of one kind. At Info and above, one
//! line per second of each kind is written after a burst of [`BURST`]; at Debug and Trace, [`DETAIL_BURST`] lines per second after a burst
//! of as many; of sessions that end, [`SESSION_BURST`]. The next line gives the number of lines that were left out. Values are printed
//! without control characters.
//!
//! A log that nobody reads blocks nothing: lines wait in a bounded queue for a thread of their own, and those without room are counted. A
//! panic is logged the same way, so that a process that has to end does end.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::level_filters::LevelFilter;
use tracing::{Level, Subscriber};
use tracing_subscriber::field::MakeExt;
#[cfg(feature = "admin")]
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, reload};

#[cfg(feature = "admin")]
pub(crate) mod happenings;
mod json;
mod kinds;
mod lines;

use kinds::Kinds;
pub use kinds::{BURST, DETAIL_BURST, SESSION_BURST};
use lines::{Lines, begin_line};

use crate::config::{LogFormat, LogLevel};
use crate::outlet::Outlet;
use crate::text::Printable;

/// The filter lets lines of some level pass, and all about changes by an operator.
#[cfg(feature = "admin")]
type Threshold = Targets;
#[cfg(not(feature = "admin"))]
type Threshold = LevelFilter;

/// Changes the log level.
type Filter = reload::Handle<Threshold, Registry>;

/// The filter of the process.
static FILTER: OnceLock<Filter> = OnceLock::new();
/// The style of the process's log.
static STYLE: OnceLock<Style> = OnceLock::new();
/// The outlet of the process's log.
static OUTLET: OnceLock<Outlet> = OnceLock::new();

/// How long the end of the process waits for the log to be read.
pub(crate) const FLUSH_WITHIN: Duration = Duration::from_millis(500);

/// How lines are written. It can change while the process runs.
#[derive(Clone, Debug)]
struct Style {
    is_json: Arc<AtomicBool>,
    /// Whether a person reads the log, as far as is known.
    is_for_people: bool,
    /// Whether lines about ended sessions are written. What follows events gets them at every level.
    shows_sessions: Arc<AtomicBool>,
    /// Whether text has colours.
    colours: bool,
}

impl Style {
    fn new(format: LogFormat, colours: bool, is_for_people: bool) -> Self {
        let style = Style {
            is_json: Arc::default(),
            is_for_people,
            shows_sessions: Arc::new(AtomicBool::new(true)),
            colours,
        };
        style.set(format);
        style
    }

    fn set(&self, format: LogFormat) {
        let is_json = match format {
            LogFormat::Text => false,
            LogFormat::Json => true,
            LogFormat::Auto => !self.is_for_people,
        };
        self.is_json.store(is_json, Ordering::Relaxed);
    }

    fn set_level(&self, level: LogLevel) {
        let shows = !matches!(level, LogLevel::Off | LogLevel::Error | LogLevel::Warn);
        self.shows_sessions.store(shows, Ordering::Relaxed);
    }

    fn is_json(&self) -> bool {
        self.is_json.load(Ordering::Relaxed)
    }
}

/// Sets the level and the format of the log, if [`start`] was called. A level that an operator has set for a while stays for that while.
pub fn set(level: LogLevel, format: LogFormat) {
    if let Some(style) = STYLE.get() {
        style.set(format);
    }
    apply(levels().configure(level));
}

/// Sets the level of the log for a while, whatever is configured meanwhile.
#[cfg(feature = "admin")]
pub(crate) fn set_for(level: LogLevel, within: Duration) {
    apply(levels().set_for(level, Instant::now() + within));
}

/// Sets the level of the log to what is configured, if its while is over.
#[cfg(feature = "admin")]
pub(crate) fn look_at_level() {
    let over = levels().look(Instant::now());
    if let Some(level) = over {
        apply(level);
        tracing::info!(%level, "the level of the log is again what is configured");
    }
}

fn levels() -> MutexGuard<'static, Levels> {
    static LEVELS: Mutex<Levels> = Mutex::new(Levels::new());
    LEVELS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn apply(level: LogLevel) {
    if let Some(style) = STYLE.get() {
        style.set_level(level);
    }
    if let Some(filter) = FILTER.get() {
        // Fails only if the log is gone.
        let _ = filter.reload(threshold(level));
    }
}

/// Returns whether standard error is a stream to the journal of systemd, which has fields of its own for each line.
#[cfg(unix)]
fn goes_to_journal(stderr: &io::Stderr) -> bool {
    let stream = std::env::var("JOURNAL_STREAM");
    let stat = rustix::fs::fstat(stderr);
    // Its device and its inode. What a child inherits may name a stream that it does not write to.
    stream.is_ok_and(|stream| {
        stat.is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
    })
}

#[cfg(not(unix))]
fn goes_to_journal(_: &io::Stderr) -> bool {
    false
}

/// The level that is configured, and the one that an operator has set for a while. Pure: the time is handed in.
struct Levels {
    configured: LogLevel,
    for_a_while: Option<(LogLevel, Instant)>,
}

impl Levels {
    const fn new() -> Self {
        Levels {
            configured: LogLevel::Info,
            for_a_while: None,
        }
    }

    /// Changes what is configured. Returns the level in effect, as the others do.
    fn configure(&mut self, level: LogLevel) -> LogLevel {
        self.configured = level;
        self.for_a_while.map_or(level, |(level, _)| level)
    }

    #[cfg(feature = "admin")]
    fn set_for(&mut self, level: LogLevel, until: Instant) -> LogLevel {
        self.for_a_while = Some((level, until));
        level
    }

    /// Returns the level that is in effect again, if a while is over.
    #[cfg(feature = "admin")]
    fn look(&mut self, now: Instant) -> Option<LogLevel> {
        let over = self.for_a_while.take_if(|(_, until)| *until <= now);
        over.map(|_| self.configured)
    }
}

/// The target of the line that the machine writes about each session that ends.
const SESSIONS: &str = "voltlane::sessions";
/// The target of lines about changes by an operator. None of them is left out, at any level: one of the changes is that of the level.
const AUDIT: &str = "voltlane::audit";

fn threshold(level: LogLevel) -> Threshold {
    let level = match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    #[cfg(feature = "admin")]
    let level = Targets::new()
        .with_default(level)
        .with_target(AUDIT, LevelFilter::INFO)
        .with_target(SESSIONS, LevelFilter::INFO);
    level
}

/// Starts to log to standard error, for the whole process. A second call changes nothing.
///
/// # Errors
/// When no thread can be started for writing.
pub fn start(level: LogLevel, format: LogFormat) -> io::Result<()> {
    if OUTLET.get().is_some() {
        return Ok(());
    }
    let begin = Instant::now();
    let stderr = io::stderr();
    let colours =
        stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let is_for_people = stderr.is_terminal() || goes_to_journal(&stderr);
    let style = Style::new(format, colours, is_for_people);
    let of_outlet = style.clone();
    let tell_lost = move |lost| {
        let plural = if lost == 1 { " was" } else { "s were" };
        let text = format!("{lost} line{plural} of the log lost: nobody took them in time");
        whole_line(&of_outlet, Level::WARN, &text)
    };
    let outlet = Outlet::start("log", stderr, tell_lost)?;
    let lines = outlet.clone();
    let (subscriber, filter) = subscriber(
        level,
        move || lines.clone(),
        style.clone(),
        move || begin.elapsed(),
    );
    // Fails only if there is one already.
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        let _ = FILTER.set(filter);
        let _ = STYLE.set(style.clone());
    }
    let panics = outlet.clone();
    panic::set_hook(Box::new(move |panic| {
        panics.push(describe_panic(&style, panic).as_bytes());
        // Nothing else of the process runs after it.
        if cfg!(panic = "abort") {
            panics.flush(FLUSH_WITHIN);
        }
    }));
    let _ = OUTLET.set(outlet);
    levels().configure(level);
    Ok(())
}

/// Waits until the log is written, for at most [`FLUSH_WITHIN`]: lines written after the end of a process would be lost.
pub(crate) fn flush() {
    if let Some(outlet) = OUTLET.get() {
        outlet.flush(FLUSH_WITHIN);
    }
}

/// Returns the number of log lines lost since the start, because they were not read in time or the stream refused them.
#[must_use]
pub fn lost_lines() -> u64 {
    OUTLET.get().map_or(0, Outlet::lost)
}

/// Writes the final output of a process that has no log yet to standard error. It waits no longer than [`FLUSH_WITHIN`], either.
pub(crate) fn say_last(text: &str) {
    if let Ok(outlet) = Outlet::start("stderr", io::stderr(), |_| String::new()) {
        outlet.push(text.as_bytes());
        outlet.flush(FLUSH_WITHIN);
    }
}

/// Formats a line that has no event.
fn whole_line(style: &Style, level: Level, text: &str) -> String {
    if style.is_json() {
        return json::Line::new(level, text).end(0);
    }
    let mut line = String::new();
    // Writing into a string does not fail.
    let _ = begin_line(&mut Writer::new(&mut line), style.colours, level);
    let _ = write!(Printable(&mut line), "{text}");
    line.push('\n');
    line
}

/// Formats the standard library's message about a panic as a log line.
fn describe_panic(style: &Style, panic: &PanicHookInfo<'_>) -> String {
    let thread = thread::current();
    let name = thread.name().unwrap_or("<unnamed>");
    let place = panic.location().map(ToString::to_string);
    let place = place.as_deref().unwrap_or("an unknown place");
    let why = panic.payload_as_str().unwrap_or("no text");
    let text = format!("thread '{name}' panicked at {place}: {why}");
    // RUST_BACKTRACE decides.
    let backtrace = Backtrace::capture();
    if style.is_json() {
        let mut line = json::Line::new(Level::ERROR, &text);
        if backtrace.status() == BacktraceStatus::Captured {
            line.text("backtrace", &backtrace.to_string());
        }
        return line.end(0);
    }
    let mut line = whole_line(style, Level::ERROR, &text);
    if backtrace.status() == BacktraceStatus::Captured {
        let _ = writeln!(line, "{backtrace}");
    }
    line
}

/// A subscriber that writes to any writer, and reads any clock.
fn subscriber<W>(
    level: LogLevel,
    writer: W,
    style: Style,
    clock: impl Fn() -> Duration + Send + Sync + 'static,
) -> (impl Subscriber, Filter)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    style.set_level(level);
    let (filter, handle) = reload::Layer::new(threshold(level));
    let fields = debug_fn(|writer, field, value| match field.name() {
        "message" => write!(Printable(writer), "{value:?}"),
        name => write!(Printable(writer), "{name}={value:?}"),
    });
    let lines = tracing_subscriber::fmt::layer()
        // It would report to the very stream that is closed, with a macro that then panics.
        .log_internal_errors(false)
        .with_ansi(style.colours)
        .fmt_fields(fields.delimited(" "))
        .event_format(Lines {
            kinds: Mutex::new(Kinds::default()),
            style,
            clock,
        })
        .with_writer(writer);
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    (subscriber, handle)
}

#[cfg(test)]
mod tests;
