//! Log lines on standard error.
//!
//! Lines that a stranger can cause are limited at every level. Lines from one place in the code are of one kind. At Info and above, one
//! line per second of each kind is written after a burst of [`BURST`]; at Debug and Trace, [`DETAIL_BURST`] lines per second after a burst
//! of as many; of sessions that end, [`SESSION_BURST`]. The next line gives the number of lines that were left out. Values are printed without control characters.
//!
//! A log that nobody reads blocks nothing: lines wait in a bounded queue for a thread of their own, and those without room are counted. A
//! panic is logged the same way, so that a process that has to end does end.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal};
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::MakeExt;
#[cfg(feature = "admin")]
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Registry, reload};

#[cfg(feature = "admin")]
pub(crate) mod happenings;
mod json;
mod kinds;

use kinds::{Allowance, Kinds};
pub use kinds::{BURST, DETAIL_BURST, SESSION_BURST};

use crate::config::{LogFormat, LogLevel};
use crate::outlet::Outlet;
use crate::text::{Printable, excerpt};

/// What passes: lines of some level, and those about changes by an operator.
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
    /// Whether lines about ended sessions are written. What follows events gets them at every level.
    shows_sessions: Arc<AtomicBool>,
    /// Whether text has colours.
    colours: bool,
}

impl Style {
    fn new(format: LogFormat, colours: bool) -> Self {
        let style = Style {
            is_json: Arc::default(),
            shows_sessions: Arc::new(AtomicBool::new(true)),
            colours,
        };
        style.set(format);
        style
    }

    fn set(&self, format: LogFormat) {
        let is_json = format == LogFormat::Json;
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
    let style = Style::new(format, colours);
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

/// Formats one line per event.
struct Lines<C> {
    kinds: Mutex<Kinds>,
    style: Style,
    clock: C,
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

fn begin_line(writer: &mut Writer<'_>, colours: bool, level: Level) -> fmt::Result {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    /// A log in memory, and a clock that the test moves.
    #[derive(Clone, Default)]
    struct Log {
        bytes: Arc<Mutex<Vec<u8>>>,
        millis: Arc<AtomicU64>,
    }

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.bytes
                .lock()
                .expect("no test panics with the lock")
                .extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Log {
        fn with(&self, level: LogLevel, test: impl FnOnce()) {
            self.with_format(level, LogFormat::Text, test);
        }

        fn with_format(&self, level: LogLevel, format: LogFormat, test: impl FnOnce()) {
            let style = Style::new(format, false);
            let (writer, clock) = (self.clone(), self.clone());
            let clock = move || Duration::from_millis(clock.millis.load(Ordering::Relaxed));
            tracing::subscriber::with_default(
                subscriber(level, move || writer.clone(), style, clock).0,
                test,
            );
        }

        fn set_millis(&self, millis: u64) {
            self.millis.store(millis, Ordering::Relaxed);
        }

        /// Returns the lines since the last call, without their times.
        fn lines(&self) -> Vec<String> {
            let bytes =
                std::mem::take(&mut *self.bytes.lock().expect("no test panics with the lock"));
            let text = String::from_utf8(bytes).expect("a log is text");
            text.lines()
                .map(|line| {
                    line.split_once(' ')
                        .expect("a time")
                        .1
                        .trim_start()
                        .to_owned()
                })
                .collect()
        }
    }

    fn flood(lines: usize) {
        for number in 0..lines {
            tracing::info!(number, "refused");
        }
    }

    #[test]
    fn a_flood_of_one_kind_is_one_line_a_second_after_a_burst() {
        let log = Log::default();
        log.with(LogLevel::Info, || {
            flood(1000);
            let lines = log.lines();
            assert_eq!(lines.len(), BURST as usize);
            assert_eq!(lines[0], "INFO refused number=0");
            log.set_millis(999);
            flood(1);
            assert_eq!(log.lines(), [""; 0]);
            log.set_millis(1_000);
            flood(5);
            assert_eq!(
                log.lines(),
                ["INFO refused number=0 (981 more like this were left out)"]
            );
            for second in 2..10 {
                log.set_millis(second * 1_000);
                flood(10);
                assert_eq!(log.lines().len(), 1, "second {second}");
            }
        });
    }

    #[test]
    fn the_next_line_of_any_kind_counts_the_lines_left_out() {
        let log = Log::default();
        log.with(LogLevel::Info, || {
            flood(25);
            log.lines();
            log.set_millis(1_500);
            tracing::warn!("another");
            assert_eq!(log.lines(), ["WARN another"], "the flood may go on");
            log.set_millis(2_000);
            tracing::warn!("another");
            assert_eq!(
                log.lines(),
                ["INFO 5 more like \"refused\" were left out", "WARN another"]
            );
            tracing::warn!("another");
            assert_eq!(log.lines(), ["WARN another"], "told once");
        });
    }

    #[test]
    fn after_a_quiet_time_the_burst_is_whole_again() {
        let log = Log::default();
        log.with(LogLevel::Info, || {
            flood(20);
            log.set_millis(20_000);
            log.lines();
            flood(30);
            assert_eq!(log.lines().len(), BURST as usize);
        });
    }

    #[test]
    fn kinds_do_not_share_a_limit() {
        let log = Log::default();
        log.with(LogLevel::Info, || {
            flood(1000);
            log.lines();
            tracing::error!("something else");
            assert_eq!(log.lines(), ["ERROR something else"]);
        });
    }

    #[test]
    fn a_flood_at_debug_or_trace_is_limited_as_well() {
        for (level, name) in [(LogLevel::Debug, "DEBUG"), (LogLevel::Trace, "TRACE")] {
            let log = Log::default();
            let flood = |lines: u32| {
                for number in 0..lines {
                    match level {
                        LogLevel::Debug => tracing::debug!(number, "closed"),
                        _ => tracing::trace!(number, "closed"),
                    }
                }
            };
            log.with(level, || {
                flood(DETAIL_BURST);
                assert_eq!(log.lines().len(), DETAIL_BURST as usize);
                flood(1);
                assert_eq!(log.lines(), [""; 0], "one beyond the bound");
                log.set_millis(1);
                flood(2);
                let told = format!("{name} closed number=0 (1 more like this were left out)");
                assert_eq!(log.lines(), [told]);
                log.set_millis(1_001);
                flood(2 * DETAIL_BURST);
                assert_eq!(log.lines().len(), DETAIL_BURST as usize, "a second later");
                log.set_millis(3_001);
                tracing::error!("another");
                let told = format!("INFO {DETAIL_BURST} more like \"closed\" were left out");
                assert_eq!(log.lines(), [&told, "ERROR another"]);
            });
        }
    }

    #[test]
    fn lines_about_ended_sessions_have_an_allowance_of_their_own() {
        let log = Log::default();
        let flood = |lines: u32| {
            for number in 0..lines {
                tracing::info!(target: SESSIONS, number, "session ended");
            }
        };
        log.with(LogLevel::Info, || {
            flood(SESSION_BURST);
            assert_eq!(log.lines().len(), SESSION_BURST as usize);
            flood(1);
            assert_eq!(log.lines(), [""; 0], "one beyond the bound");
            log.set_millis(1_000);
            flood(2 * SESSION_BURST);
            assert_eq!(log.lines().len(), SESSION_BURST as usize, "a second later");
        });
    }

    #[test]
    fn debug_and_trace_lines_of_other_crates_are_not_written() {
        let log = Log::default();
        log.with(LogLevel::Trace, || {
            tracing::debug!(target: "mio::poll", "theirs");
            tracing::trace!(target: "mio::poll", "theirs");
            tracing::info!(target: "mio::poll", "theirs, at Info");
            tracing::debug!("ours");
        });
        assert_eq!(log.lines(), ["INFO theirs, at Info", "DEBUG ours"]);
    }

    #[test]
    fn each_level_writes_itself_and_what_is_graver() {
        let levels = [
            LogLevel::Off,
            LogLevel::Error,
            LogLevel::Warn,
            LogLevel::Info,
            LogLevel::Debug,
            LogLevel::Trace,
        ];
        for (count, level) in levels.into_iter().enumerate() {
            let log = Log::default();
            log.with(level, || {
                tracing::error!("e");
                tracing::warn!("w");
                tracing::info!("i");
                tracing::debug!("d");
                tracing::trace!("t");
            });
            let expected = ["ERROR e", "WARN w", "INFO i", "DEBUG d", "TRACE t"];
            assert_eq!(log.lines(), expected[..count], "{level}");
        }
    }

    #[test]
    fn the_level_can_change_while_it_logs() {
        let log = Log::default();
        let writer = log.clone();
        let clock = || Duration::ZERO;
        let (subscriber, filter) = subscriber(
            LogLevel::Warn,
            move || writer.clone(),
            Style::new(LogFormat::Text, false),
            clock,
        );
        tracing::subscriber::with_default(subscriber, || {
            let say = || tracing::debug!("d");
            say();
            assert_eq!(log.lines(), [""; 0]);
            filter.reload(threshold(LogLevel::Debug)).expect("it logs");
            say();
            assert_eq!(log.lines(), ["DEBUG d"]);
            filter.reload(threshold(LogLevel::Off)).expect("it logs");
            say();
            tracing::error!("e");
            assert_eq!(log.lines(), [""; 0]);
            #[cfg(feature = "admin")]
            for _ in 0..2 * BURST {
                tracing::info!(target: AUDIT, "a change");
                assert_eq!(log.lines(), ["INFO a change"], "none is left out");
            }
        });
    }

    #[cfg(feature = "admin")]
    #[test]
    fn a_level_for_a_while_outlives_a_reload_and_ends_at_what_is_configured_then() {
        let start = Instant::now();
        let after = |secs| start + Duration::from_secs(secs);
        let mut levels = Levels::new();
        assert_eq!(levels.configure(LogLevel::Warn), LogLevel::Warn);
        assert_eq!(levels.look(after(99)), None);
        assert_eq!(levels.set_for(LogLevel::Debug, after(10)), LogLevel::Debug);
        assert_eq!(levels.configure(LogLevel::Error), LogLevel::Debug);
        assert_eq!(levels.look(after(9)), None);
        assert_eq!(levels.look(after(10)), Some(LogLevel::Error));
        assert_eq!(levels.look(after(11)), None, "told once");
        assert_eq!(levels.configure(LogLevel::Info), LogLevel::Info);
    }

    #[cfg(feature = "admin")]
    #[test]
    fn ended_sessions_are_happenings_at_every_level_and_lines_at_info() {
        let end =
            |id: &str| tracing::info!(target: SESSIONS, event = "session_end", id, "session ended");
        let log = Log::default();
        let follower = happenings::Follower::new();
        log.with(LogLevel::Warn, || {
            end("one");
            tracing::info!(target: AUDIT, call = "POST /v1/bans", "a change");
            tracing::info!("no happening");
        });
        let lines = log.lines();
        assert_eq!(lines, ["INFO a change call=\"POST /v1/bans\""]);
        let mut follower = follower;
        let text = follower.take();
        let mine: Vec<_> = text
            .split("\n\n")
            .filter(|one| one.contains("\"one\"") || one.contains("/v1/bans"))
            .collect();
        assert_eq!(mine.len(), 2, "{text}");
        assert!(
            mine[0].starts_with("event: session_end\ndata: {\"ts\":"),
            "{text}"
        );
        assert!(mine[1].starts_with("event: audit\ndata: {"), "{text}");
        log.with(LogLevel::Info, || end("two"));
        assert_eq!(log.lines().len(), 1);
    }

    #[test]
    fn text_of_a_peer_stays_on_its_line_and_commands_no_terminal() {
        let log = Log::default();
        let evil = "x\n2026-01-01T00:00:00Z ERROR forged\x1b[2J\r";
        log.with(LogLevel::Info, || {
            let span = tracing::info_span!("client", name = %evil);
            span.in_scope(|| tracing::info!(plain = evil, shown = %evil, "said {evil}"));
        });
        let escaped = "x\\n2026-01-01T00:00:00Z ERROR forged\\u{1b}[2J\\r";
        let line = format!(
            "INFO client{{name={escaped}}}: said {escaped} plain=\"{escaped}\" shown={escaped}"
        );
        assert_eq!(log.lines(), [line]);
    }

    /// Returns the lines as JSON, without their times.
    fn objects(log: &Log) -> Vec<serde_json::Value> {
        let bytes = std::mem::take(&mut *log.bytes.lock().expect("no test panics with the lock"));
        let text = String::from_utf8(bytes).expect("a log is text");
        let parse = |line: &str| {
            assert!(line.len() <= json::MAX_LINE_BYTES, "{}", line.len());
            let mut object: serde_json::Value = serde_json::from_str(line).expect(line);
            let time = object.as_object_mut().and_then(|map| map.remove("ts"));
            let time = time.expect("a time");
            assert!(time.as_str().is_some_and(|time| time.ends_with('Z')));
            object
        };
        text.lines().map(parse).collect()
    }

    #[test]
    fn a_line_of_json_has_its_fields_by_name() {
        let log = Log::default();
        log.with_format(LogLevel::Info, LogFormat::Json, || {
            let evil = "x\n\"\u{1b}[2J\u{202e}é";
            let span = tracing::info_span!("client", name = %evil);
            span.in_scope(|| {
                tracing::warn!(
                    number = 7,
                    below = -7,
                    share = 0.5,
                    none = f64::NAN,
                    is_good = true,
                    plain = evil,
                    shown = %evil,
                    "said {evil}"
                );
            });
            let objects = objects(&log);
            let expected = serde_json::json!({
                "level": "WARN", "target": "voltlane_app::logging::tests", "msg": format!("said {evil}"),
                "number": 7, "below": -7, "share": 0.5, "none": "NaN", "is_good": true, "plain": evil, "shown": evil,
                "span": "client{name=x\\n\"\\u{1b}[2J\\u{202e}é}",
            });
            assert_eq!(objects, [expected]);
        });
    }

    #[test]
    fn lines_of_json_that_were_left_out_are_counted() {
        let log = Log::default();
        log.with_format(LogLevel::Info, LogFormat::Json, || {
            flood(BURST as usize + 5);
            assert_eq!(objects(&log).len(), BURST as usize);
            log.set_millis(1_000);
            flood(1);
            assert_eq!(objects(&log)[0]["left_out"], 5);
            flood(3);
            log.set_millis(3_000);
            tracing::warn!("another");
            let lines = objects(&log);
            assert_eq!(lines[0]["left_out"], 3);
            assert_eq!(lines[0]["msg"], "3 more like \"refused\" were left out");
            assert_eq!(lines[1]["msg"], "another");
        });
    }

    #[test]
    fn a_line_of_json_is_bounded_and_says_what_it_lacks() {
        let log = Log::default();
        log.with_format(LogLevel::Info, LogFormat::Json, || {
            let long = "\u{1}".repeat(100_000);
            tracing::info!(a = %long, b = %long, c = %long, d = %long, e = 1, "{long}");
            let lines = objects(&log);
            assert_eq!(lines[0]["cut"], true);
            assert_eq!(lines[0]["e"], 1);
            assert!(
                lines[0]["a"]
                    .as_str()
                    .is_some_and(|text| text.ends_with('…'))
            );
            assert!(lines[0].get("d").is_none());
            tracing::info!(a = "short", "short");
            assert!(objects(&log)[0].get("cut").is_none());
        });
    }
}
