//! The figures of the demo, and how they are printed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Sums over all clients.
#[derive(Debug, Default)]
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
    /// Packets that were lost with a connection and sent again.
    pub(super) sent_again: u64,
    /// Sessions that were not resumed, unexpected echoes, ids that changed. Each of these is a fault.
    pub(super) faults: u64,
}

pub(super) fn lock(figures: &Mutex<Figures>) -> MutexGuard<'_, Figures> {
    figures.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Figures {
    /// Returns whether there were no faults.
    pub(super) fn is_good(&self) -> bool {
        self.faults == 0
    }

    /// Returns the figures after `elapsed`, at `rate` packets per second.
    pub(super) fn line(&self, elapsed: Duration, rate: f64) -> String {
        format!(
            "{:>4} s | {} clients | {} packets, {}/s | round trip {:.2} ms | {} dropped, {} back | {} lost",
            elapsed.as_secs(),
            self.connected,
            grouped(self.packets),
            grouped(rate.round() as u64),
            self.mean_round_trip().as_secs_f64() * 1e3,
            self.drops,
            self.resumes,
            self.sent_again,
        )
    }

    /// Returns the last line: the figures of the whole run.
    pub(super) fn summary(&self, clients: u32, elapsed: Duration) -> String {
        let mut text = format!(
            "In {:.1} s, {clients} clients had {} packets echoed. Connections dropped: {}; clients back under their ids: {}; \
             packets lost with a connection and sent again: {}.",
            elapsed.as_secs_f64(),
            grouped(self.packets),
            self.drops,
            self.resumes,
            self.sent_again,
        );
        if !self.is_good() {
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
        let figures = Figures {
            connected: 4,
            packets: 12_345,
            round_trips: Duration::from_micros(12_345 * 250),
            drops: 7,
            resumes: 6,
            sent_again: 2,
            faults: 0,
        };
        assert_eq!(
            figures.line(Duration::from_millis(3_999), 998.6),
            "   3 s | 4 clients | 12,345 packets, 999/s | round trip 0.25 ms | 7 dropped, 6 back | 2 lost"
        );
        let summary = figures.summary(5, Duration::from_millis(4_040));
        assert_eq!(
            summary,
            "In 4.0 s, 5 clients had 12,345 packets echoed. Connections dropped: 7; clients back under their ids: 6; \
             packets lost with a connection and sent again: 2."
        );
        let broken = Figures {
            faults: 1,
            ..figures
        };
        assert!(!broken.is_good());
        assert_eq!(
            broken.summary(5, Duration::from_millis(4_040)),
            format!("{summary} Faults: 1.")
        );
    }
}
