//! The thread that sends messages to the service manager.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tracing::warn;

use super::Event;
use crate::metrics::{Exchange, Snapshot};

/// The pause between two messages about the state, unless the manager wants to hear more often that the process is alive.
const STATUS_PERIOD: Duration = Duration::from_secs(10);
/// How long the loops may take to respond, if no shorter time follows from the manager's.
const LOOP_TIMEOUT: Duration = Duration::from_secs(5);
/// The time for the end of the process itself, beyond the one that the configuration gives it.
const END_MARGIN: Duration = Duration::from_secs(5);

/// The times of the regular messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Period {
    /// The time between two messages.
    pause: Duration,
    /// How long the loops may take to respond.
    timeout: Duration,
    /// Whether the manager ends a process that sends nothing.
    is_watched: bool,
}

impl Period {
    /// `watchdog` is the time after which the manager takes a silent process for dead. Two messages fit into it, with their responses.
    fn new(watchdog: Option<Duration>) -> Period {
        let pause = watchdog.map_or(STATUS_PERIOD, |limit| STATUS_PERIOD.min(limit / 3));
        Period {
            pause,
            timeout: LOOP_TIMEOUT.min(pause),
            is_watched: watchdog.is_some(),
        }
    }
}

/// Starts the thread. It ends with the last sender.
pub(super) fn start(exchange: Exchange) -> io::Result<Sender<Event>> {
    let (sender, events) = mpsc::channel();
    let reporter = Reporter {
        exchange,
        events,
        period: Period::new(sd_notify::watchdog_enabled()),
        has_failed: false,
    };
    thread::Builder::new()
        .name("supervisor".into())
        .spawn(move || reporter.run())?;
    Ok(sender)
}

struct Reporter {
    exchange: Exchange,
    events: Receiver<Event>,
    period: Period,
    /// Whether the last message could not be sent.
    has_failed: bool,
}

impl Reporter {
    fn run(mut self) {
        let mut next = Instant::now();
        let (mut serves, mut ends) = (false, false);
        loop {
            match self
                .events
                .recv_timeout(next.saturating_duration_since(Instant::now()))
            {
                Ok(event) => {
                    serves |= matches!(event, Event::Serves);
                    // A reload says that the process is ready, which it is neither before nor after.
                    let is_due = match event {
                        Event::Waits(_) => !serves,
                        _ => serves,
                    };
                    if is_due && !ends {
                        self.send(&messages(event));
                    }
                    ends |= matches!(event, Event::Ends(_));
                }
                Err(RecvTimeoutError::Timeout) => {
                    // Counted from the time that it was due, so that slow responses do not add up.
                    next = (next + self.period.pause).max(Instant::now());
                    if serves {
                        self.report();
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn report(&mut self) {
        let (status, is_alive) = state(&self.exchange, self.period.timeout);
        let mut messages = vec![NotifyState::Status(&status)];
        if is_alive && self.period.is_watched {
            messages.push(NotifyState::Watchdog);
        }
        self.send(&messages);
    }

    fn send(&mut self, messages: &[NotifyState<'_>]) {
        let sent = sd_notify::notify(messages);
        if let Err(error) = &sent
            && !self.has_failed
        {
            warn!(%error, "the service manager cannot be told how this process is");
        }
        self.has_failed = sent.is_err();
    }
}

fn messages(event: Event) -> Vec<NotifyState<'static>> {
    match event {
        Event::Waits(what) => vec![NotifyState::Status(what)],
        Event::Serves | Event::Reloaded => vec![NotifyState::Ready],
        Event::Reloads => {
            // Required since systemd 253. Without a clock the manager waits for the end of the reload in vain, and says so.
            let now = NotifyState::monotonic_usec_now();
            std::iter::once(NotifyState::Reloading)
                .chain(now.ok())
                .collect()
        }
        Event::Ends(within) => {
            let time = (within + END_MARGIN).as_micros();
            let time = u32::try_from(time).unwrap_or(u32::MAX);
            vec![
                NotifyState::Stopping,
                NotifyState::ExtendTimeoutUsec(time),
                NotifyState::Status("shutting down"),
            ]
        }
    }
}

/// Returns the state in words, and whether all loops respond. Without that, the process is not alive to the manager.
fn state(exchange: &Exchange, within: Duration) -> (String, bool) {
    match exchange.ask(within) {
        Some(snapshot) => (status(&snapshot), true),
        None => ("a loop does not respond".to_owned(), false),
    }
}

/// The state in a line, as `systemctl status` shows it.
fn status(snapshot: &Snapshot) -> String {
    let gauges = &snapshot.gauges;
    let backend = match (gauges.link_is_up, gauges.link_is_doubted) {
        _ if snapshot.is_ending => "shutting down",
        #[cfg(feature = "cluster")]
        _ if gauges.link_is_displaced => "another edge has the home of this one",
        _ if gauges.link_is_unproven => "the backend does not share the secret of the link",
        _ if gauges.link_is_unasked => "the backend does not ask for version 3 of the link",
        (_, true) => "the program at master.address is no backend",
        (true, false) => "connected to the backend",
        (false, false) => "without a backend",
    };
    let mut text = format!(
        "{backend}; {} connections, {} sessions, {} of them away",
        gauges.connections, gauges.sessions, gauges.away
    );
    if let Some(note) = snapshot.note {
        text += "; ";
        text += note;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_messages_fit_into_the_time_of_the_watchdog_with_their_responses() {
        for secs in [1, 2, 3, 10, 30, 31, 600] {
            let limit = Duration::from_secs(secs);
            let period = Period::new(Some(limit));
            assert!(period.is_watched);
            assert!(period.pause + period.timeout < limit, "{period:?}");
            assert!(period.pause <= STATUS_PERIOD, "{period:?}");
        }
        let unwatched = Period::new(None);
        assert_eq!(
            (unwatched.pause, unwatched.is_watched),
            (STATUS_PERIOD, false)
        );
    }

    #[test]
    fn the_state_is_told_in_a_line() {
        let mut snapshot = Snapshot::default();
        snapshot.gauges.connections = 3;
        snapshot.gauges.sessions = 5;
        snapshot.gauges.away = 2;
        let counts = "3 connections, 5 sessions, 2 of them away";
        assert_eq!(status(&snapshot), format!("without a backend; {counts}"));
        snapshot.gauges.link_is_up = true;
        assert_eq!(
            status(&snapshot),
            format!("connected to the backend; {counts}")
        );
        snapshot.gauges.link_is_doubted = true;
        let no_backend = "the program at master.address is no backend";
        assert_eq!(status(&snapshot), format!("{no_backend}; {counts}"));
        snapshot.is_ending = true;
        assert_eq!(status(&snapshot), format!("shutting down; {counts}"));
        snapshot.note = Some("the engine of the cluster cannot be used");
        assert_eq!(
            status(&snapshot),
            format!("shutting down; {counts}; the engine of the cluster cannot be used")
        );
    }

    #[test]
    fn a_process_with_a_loop_that_does_not_respond_is_not_alive() {
        let (exchange, mut asked) = Exchange::of(2);
        let mut responds = asked.remove(0);
        let (_, is_alive) = std::thread::scope(|scope| {
            let asking = scope.spawn(|| state(&exchange, Duration::from_millis(10)));
            while !asking.is_finished() {
                responds.answer(std::task::Waker::noop(), Snapshot::default);
                std::thread::yield_now();
            }
            asking.join().expect("no panic")
        });
        assert!(!is_alive);
    }

    #[test]
    fn an_end_without_a_bound_asks_for_as_much_time_as_can_be_said() {
        let text = |event| {
            messages(event)
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        let ends = text(Event::Ends(Duration::from_secs(10)));
        assert_eq!(ends[..2], ["STOPPING=1", "EXTEND_TIMEOUT_USEC=15000000"]);
        let ends = text(Event::Ends(Duration::MAX - END_MARGIN));
        assert_eq!(ends[1], format!("EXTEND_TIMEOUT_USEC={}", u32::MAX));
        let reloads = text(Event::Reloads);
        assert_eq!(reloads[0], "RELOADING=1");
        assert!(reloads[1].starts_with("MONOTONIC_USEC="), "{reloads:?}");
    }
}
