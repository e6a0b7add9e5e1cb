//! The figures of the demo, and how they are printed.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The times of resumes that are kept for their median.
const KEPT_RESUMES: usize = 10_000;

/// Text that reaches the right edge of the terminal ends there (DECAWM off).
const NO_WRAP: &str = "\x1b[?7l";
/// Text continues on the next line, as before (DECAWM on).
const WRAP: &str = "\x1b[?7h";
/// Clears the rest of the line (EL).
const CLEAR_REST: &str = "\x1b[K";

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
    /// Sessions that were resumed.
    pub(super) resumes: u64,
    /// How long the latest of them took, from the end of the pause after a drop.
    pub(super) resume_times: VecDeque<Duration>,
    /// Packets that did not come back.
    pub(super) lost: u64,
    /// Packets that came back twice, or out of order.
    pub(super) twice: u64,
    /// Whether all sessions are encrypted.
    pub(super) is_encrypted: bool,
    /// Sessions that ended, or did not begin.
    pub(super) faults: u64,
}

impl Default for Figures {
    fn default() -> Self {
        Figures {
            connected: 0,
            packets: 0,
            round_trips: Duration::ZERO,
            drops: 0,
            resumes: 0,
            resume_times: VecDeque::new(),
            lost: 0,
            twice: 0,
            is_encrypted: true,
            faults: 0,
        }
    }
}

pub(super) fn lock(figures: &Mutex<Figures>) -> MutexGuard<'_, Figures> {
    figures.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Figures {
    /// A session was resumed, which took this long.
    pub(super) fn resumed(&mut self, took: Duration) {
        self.resumes += 1;
        if self.resume_times.len() == KEPT_RESUMES {
            self.resume_times.pop_front();
        }
        self.resume_times.push_back(took);
    }

    fn median_resume(&self) -> Option<Duration> {
        let mut times: Vec<_> = self.resume_times.iter().copied().collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied()
    }

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
        let line = self.line_with("", elapsed, rate);
        format!("\r{NO_WRAP}{CLEAR_REST}{}{WRAP}", line.trim_start())
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
            self.resumes,
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
            self.resumes,
            self.lost,
            self.twice,
        );
        if let Some(median) = self.median_resume() {
            let millis = median.as_secs_f64() * 1e3;
            text.push_str(&format!(" Median time of a resume: {millis:.1} ms."));
        }
        if self.faults > 0 {
            text.push_str(&format!(" Faults: {}.", self.faults));
        }
        text
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
            figures.resumed(Duration::from_micros(micros));
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
            resume_times: VecDeque::new(),
            ..figures.clone()
        };
        assert!(!broken.is_good());
        assert_eq!(
            broken.summary(5, elapsed),
            "In 4.0 s, 5 clients had 12,345 packets echoed. Connections dropped: 7; clients back under their ids: 6; \
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

    #[test]
    fn times_of_resumes_have_a_bound() {
        let mut figures = Figures::default();
        for _ in 0..KEPT_RESUMES {
            figures.resumed(Duration::from_secs(1));
        }
        for _ in 0..=KEPT_RESUMES / 2 {
            figures.resumed(Duration::from_secs(2));
        }
        assert_eq!(figures.resume_times.len(), KEPT_RESUMES);
        assert_eq!(figures.median_resume(), Some(Duration::from_secs(2)));
        assert_eq!(
            figures.resumes as usize,
            KEPT_RESUMES + KEPT_RESUMES / 2 + 1
        );
    }
}
