//! Tests of the log.

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
        let style = Style::new(format, false, true);
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
        let bytes = std::mem::take(&mut *self.bytes.lock().expect("no test panics with the lock"));
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
        Style::new(LogFormat::Text, false, true),
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
fn the_format_auto_is_text_for_people_and_json_for_others() {
    for (format, is_for_people, expected) in [
        (LogFormat::Auto, true, false),
        (LogFormat::Auto, false, true),
        (LogFormat::Text, false, false),
        (LogFormat::Json, true, true),
    ] {
        let style = Style::new(format, false, is_for_people);
        assert_eq!(style.is_json(), expected, "{format:?} {is_for_people}");
        // As after a reload.
        style.set(LogFormat::Auto);
        assert_eq!(style.is_json(), !is_for_people);
    }
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
