//! The figures of the demo, and how they are printed.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The times that are kept for their median.
const KEPT_TIMES: usize = 10_000;

/// Text that reaches the right edge of the terminal ends there (DECAWM off).
const NO_WRAP: &str = "\x1b[?7l";
/// Text continues on the next line, as before (DECAWM on).
const WRAP: &str = "\x1b[?7h";
/// Clears the rest of the line (EL).
const CLEAR_REST: &str = "\x1b[K";

/// Has a line of a terminal begin anew, empty.
#[cfg(all(unix, feature = "cluster"))]
pub(super) const CLEAR_LINE: &str = "\r\x1b[K";

/// How long something took each time.
#[derive(Clone, Debug, Default)]
pub(super) struct Times {
    latest: VecDeque<Duration>,
    #[cfg(all(unix, feature = "cluster"))]
    longest: Duration,
    count: u64,
}

impl Times {
    pub(super) fn push(&mut self, took: Duration) {
        self.count += 1;
        #[cfg(all(unix, feature = "cluster"))]
        {
            self.longest = self.longest.max(took);
        }
        if self.latest.len() == KEPT_TIMES {
            self.latest.pop_front();
        }
        self.latest.push_back(took);
    }

    fn median(&self) -> Option<Duration> {
        let mut times: Vec<_> = self.latest.iter().copied().collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied()
    }
}

/// Sums over all clients.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    /// Clients that are connected now.
    pub(super) connected: u32,
    /// Packets that came back.
    pub(super) packets: u64,
    /// The sum of their round trips.
    pub(super) round_trips: Duration,
    /// Connections that ended.
    pub(super) drops: u64,
    /// The resumes of sessions, from the end of the pause after a drop.
    pub(super) resumes: Times,
    /// Those at another edge than before, from the end of the connection to that.
    pub(super) moves: Times,
    /// Edges that were killed.
    #[cfg(all(unix, feature = "cluster"))]
    pub(super) killed: u64,
    /// Backends that were killed.
    #[cfg(all(unix, feature = "cluster"))]
    pub(super) backends_killed: u64,
    /// Packets that did not come back.
    pub(super) lost: u64,
    /// Packets that came back twice, or out of order.
    pub(super) twice: u64,
    /// Whether all sessions are encrypted.
    pub(super) is_encrypted: bool,
    /// Sessions that ended, or did not begin.
    pub(super) faults: u64,
    /// How the last one of these ended.
    pub(super) last_end: Option<String>,
}

impl Default for Figures {
    fn default() -> Self {
        Figures {
            connected: 0,
            packets: 0,
            round_trips: Duration::ZERO,
            drops: 0,
            resumes: Times::default(),
            moves: Times::default(),
            #[cfg(all(unix, feature = "cluster"))]
            killed: 0,
            #[cfg(all(unix, feature = "cluster"))]
            backends_killed: 0,
            lost: 0,
            twice: 0,
            is_encrypted: true,
            faults: 0,
            last_end: None,
        }
    }
}

pub(super) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Figures {
    /// Returns whether everything was as promised.
    pub(super) fn is_good(&self) -> bool {
        self.faults == 0 && self.lost == 0 && self.twice == 0
    }

    /// Returns the figures after `elapsed`, at `rate` packets per second.
    pub(super) fn line(&self, elapsed: Duration, rate: f64) -> String {
        self.line_with("round trip ", elapsed, rate)
    }

    /// Returns the text by which a terminal shows the figures in place of those before, on one line: one that is too long is cut off, since
    /// the rest of a line that continues on the next one would stay.
    pub(super) fn refreshed_line(&self, elapsed: Duration, rate: f64) -> String {
        // A terminal usually has 80 columns.
        Figures::refreshed(&self.line_with("", elapsed, rate))
    }

    /// Returns the text by which a terminal shows this line in place of the one before.
    pub(super) fn refreshed(line: &str) -> String {
        format!("\r{NO_WRAP}{CLEAR_REST}{}{WRAP}", line.trim_start())
    }

    /// Like [`line`](Self::line), of several edges.
    #[cfg(all(unix, feature = "cluster"))]
    pub(super) fn line_of_edges(&self, elapsed: Duration, rate: f64) -> String {
        format!(
            "{:>4} s | {} clients | {} packets, {}/s | {} killed, {} dropped, {} moved | {} lost",
            elapsed.as_secs(),
            self.connected,
            grouped(self.packets),
            grouped(rate.round() as u64),
            self.killed + self.backends_killed,
            self.drops,
            self.moves.count,
            self.lost,
        )
    }

    fn line_with(&self, trip: &str, elapsed: Duration, rate: f64) -> String {
        format!(
            "{:>4} s | {} clients | {} packets, {}/s | {trip}{:.2} ms | {} dropped, {} back | {} lost",
            elapsed.as_secs(),
            self.connected,
            grouped(self.packets),
            grouped(rate.round() as u64),
            self.mean_round_trip().as_secs_f64() * 1e3,
            self.drops,
            self.resumes.count,
            self.lost,
        )
    }

    /// Returns the last line: the figures of the whole run.
    pub(super) fn summary(&self, clients: u32, elapsed: Duration) -> String {
        let how = if self.is_encrypted { ", encrypted" } else { "" };
        let mut text = format!(
            "In {:.1} s, {clients} clients had {} packets echoed{how}. Connections dropped: {}; clients back under their ids: {}; \
             packets lost: {}, sent twice: {}.",
            elapsed.as_secs_f64(),
            grouped(self.packets),
            self.drops,
            self.resumes.count,
            self.lost,
            self.twice,
        );
        if let Some(median) = self.resumes.median() {
            let millis = median.as_secs_f64() * 1e3;
            text.push_str(&format!(" Median time of a resume: {millis:.1} ms."));
        }
        self.add_faults(' ', &mut text);
        text
    }

    /// Like [`summary`](Self::summary), of several edges, and of so many moves of sessions between backends if there are several.
    #[cfg(all(unix, feature = "cluster"))]
    pub(super) fn summary_of_edges(
        &self,
        clients: u32,
        elapsed: Duration,
        moved: Option<u64>,
    ) -> String {
        let how = if self.is_encrypted { ", encrypted" } else { "" };
        let backends = moved.map_or_else(String::new, |moved| {
            let killed = self.backends_killed;
            format!(" Backends killed: {killed}; sessions that went to another one: {moved}.")
        });
        let mut text = format!(
            "In {:.1} s, {clients} clients had {} packets echoed{how}. Edges killed: {}.{backends}\n\
             Connections dropped: {}; clients back under their ids: {}, at another edge: {}; packets lost: {}, sent twice: {}.",
            elapsed.as_secs_f64(),
            grouped(self.packets),
            self.killed,
            self.drops,
            self.resumes.count,
            self.moves.count,
            self.lost,
            self.twice,
        );
        if let Some(median) = self.moves.median() {
            text.push_str(&format!(
                "\nTime of a move, from the end of the old connection on: {:.0} ms in the median, {:.0} ms at the longest.",
                median.as_secs_f64() * 1e3,
                self.moves.longest.as_secs_f64() * 1e3,
            ));
        }
        self.add_faults('\n', &mut text);
        text
    }

    fn add_faults(&self, lead: char, text: &mut String) {
        if self.faults > 0 {
            text.push_str(&format!("{lead}Faults: {}.", self.faults));
            if let Some(end) = &self.last_end {
                text.push_str(&format!(" A session ended: {end}."));
            }
        }
    }

    fn mean_round_trip(&self) -> Duration {
        let nanos = self.round_trips.as_nanos() / u128::from(self.packets.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// Formats a number in groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_groups() {
        let numbers = [0, 12, 123, 1_234, 123_456, 1_234_567];
        assert_eq!(
            numbers.map(grouped),
            ["0", "12", "123", "1,234", "123,456", "1,234,567"]
        );
    }

    #[test]
    fn a_line_and_a_summary() {
        let mut figures = Figures {
            connected: 4,
            packets: 12_345,
            round_trips: Duration::from_micros(12_345 * 250),
            drops: 7,
            ..Figures::default()
        };
        for micros in [900, 400, 1_250, 2_000, 70_000, 1_100] {
            figures.resumes.push(Duration::from_micros(micros));
        }
        assert_eq!(
            figures.line(Duration::from_millis(3_999), 998.6),
            "   3 s | 4 clients | 12,345 packets, 999/s | round trip 0.25 ms | 7 dropped, 6 back | 0 lost"
        );
        let shown =
            "3 s | 4 clients | 12,345 packets, 999/s | 0.25 ms | 7 dropped, 6 back | 0 lost";
        assert!(shown.len() < 80, "it fits into a usual terminal");
        assert_eq!(
            figures.refreshed_line(Duration::from_millis(3_999), 998.6),
            format!("\r\x1b[?7l\x1b[K{shown}\x1b[?7h")
        );
        let elapsed = Duration::from_millis(4_040);
        assert_eq!(
            figures.summary(5, elapsed),
            "In 4.0 s, 5 clients had 12,345 packets echoed, encrypted. Connections dropped: 7; clients back under their ids: 6; \
             packets lost: 0, sent twice: 0. Median time of a resume: 1.2 ms."
        );
        assert!(figures.is_good());
        let broken = Figures {
            faults: 1,
            is_encrypted: false,
            resumes: Times::default(),
            ..figures.clone()
        };
        assert!(!broken.is_good());
        assert_eq!(
            broken.summary(5, elapsed),
            "In 4.0 s, 5 clients had 12,345 packets echoed. Connections dropped: 7; clients back under their ids: 0; \
             packets lost: 0, sent twice: 0. Faults: 1."
        );
        for not_promised in [
            Figures {
                lost: 1,
                ..figures.clone()
            },
            Figures {
                twice: 1,
                ..figures.clone()
            },
        ] {
            assert!(!not_promised.is_good());
        }
    }

    #[cfg(all(unix, feature = "cluster"))]
    #[test]
    fn a_line_and_a_summary_of_several_edges() {
        let mut figures = Figures {
            connected: 11,
            packets: 12_345,
            drops: 5,
            killed: 2,
            ..Figures::default()
        };
        let elapsed = Duration::from_millis(10_040);
        let none = "In 10.0 s, 12 clients had 12,345 packets echoed, encrypted. Edges killed: 2.\n\
             Connections dropped: 5; clients back under their ids: 0, at another edge: 0; packets lost: 0, sent twice: 0.";
        assert_eq!(figures.summary_of_edges(12, elapsed, None), none);
        figures.backends_killed = 1;
        let several = none.replace(
            "killed: 2.",
            "killed: 2. Backends killed: 1; sessions that went to another one: 6.",
        );
        assert_eq!(figures.summary_of_edges(12, elapsed, Some(6)), several);
        figures.backends_killed = 0;
        for millis in [110, 90, 400, 210] {
            figures.resumes.push(Duration::from_millis(1));
            figures.moves.push(Duration::from_millis(millis));
        }
        figures.resumes.push(Duration::from_millis(1));
        assert_eq!(
            figures.line_of_edges(elapsed, 1_998.6),
            "  10 s | 11 clients | 12,345 packets, 1,999/s | 2 killed, 5 dropped, 4 moved | 0 lost"
        );
        figures.faults = 1;
        assert_eq!(
            figures.summary_of_edges(12, elapsed, None),
            "In 10.0 s, 12 clients had 12,345 packets echoed, encrypted. Edges killed: 2.\n\
             Connections dropped: 5; clients back under their ids: 5, at another edge: 4; packets lost: 0, sent twice: 0.\n\
             Time of a move, from the end of the old connection on: 210 ms in the median, 400 ms at the longest.\n\
             Faults: 1."
        );
    }

    #[test]
    fn times_have_a_bound() {
        let mut times = Times::default();
        for _ in 0..KEPT_TIMES {
            times.push(Duration::from_secs(1));
        }
        for _ in 0..=KEPT_TIMES / 2 {
            times.push(Duration::from_secs(2));
        }
        assert_eq!(times.latest.len(), KEPT_TIMES);
        assert_eq!(times.median(), Some(Duration::from_secs(2)));
        assert_eq!(times.count as usize, KEPT_TIMES + KEPT_TIMES / 2 + 1);
    }
}
