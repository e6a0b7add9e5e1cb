//! Reports the progress of a long run on standard error: a line that is refreshed on a terminal, else a line every few seconds.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(5);
const EVERY_ON_TERMINAL: Duration = Duration::from_millis(200);

/// The progress of a run. Errors of standard error are ignored.
#[derive(Debug)]
pub struct Progress {
    phase: &'static str,
    begun: Instant,
    shown: Option<Shown>,
}

#[derive(Debug)]
struct Shown {
    who: String,
    last: Instant,
    terminal: bool,
}

impl Progress {
    /// Creates a display that prints nothing, but knows its phase.
    pub fn silent(phase: &'static str) -> Self {
        Self {
            phase,
            begun: Instant::now(),
            shown: None,
        }
    }

    /// Creates a display that reports `who` on standard error.
    pub fn shown(who: String, phase: &'static str) -> Self {
        let mut progress = Self::silent(phase);
        progress.shown = Some(Shown {
            who,
            last: Instant::now(),
            terminal: io::stderr().is_terminal(),
        });
        progress.begin(phase);
        progress
    }

    /// Begins the next phase.
    pub fn begin(&mut self, phase: &'static str) {
        self.phase = phase;
        self.begun = Instant::now();
        if let Some(shown) = &mut self.shown {
            shown.last = self.begun;
            let _ = writeln!(io::stderr(), "{}: {phase}", shown.who);
        }
    }

    /// Returns the current phase.
    pub fn phase(&self) -> &'static str {
        self.phase
    }

    /// Reports that `done` of `all` are done. May be called as often as convenient: it prints only now and then, and when all are done.
    pub fn at(&mut self, done: usize, all: usize) {
        let Some(shown) = &mut self.shown else {
            return;
        };
        let every = if shown.terminal {
            EVERY_ON_TERMINAL
        } else {
            EVERY
        };
        if shown.last.elapsed() < every && done < all {
            return;
        }
        shown.last = Instant::now();
        let line = line(&shown.who, self.phase, done, all, self.begun.elapsed());
        let end = if shown.terminal && done < all {
            "\x1b[K\r"
        } else {
            "\n"
        };
        let _ = write!(io::stderr(), "{line}{end}");
    }
}

fn line(who: &str, phase: &str, done: usize, all: usize, after: Duration) -> String {
    format!("{who}: {phase}: {done} of {all} after {after:.1?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_program_phase_progress_and_time() {
        assert_eq!(
            line("bare", "connecting", 5, 9, Duration::from_millis(1500)),
            "bare: connecting: 5 of 9 after 1.5s"
        );
    }

    #[test]
    fn a_silent_one_knows_its_phase() {
        let mut progress = Progress::silent("connecting");
        progress.at(1, 2);
        assert_eq!(progress.phase(), "connecting");
        progress.begin("leaving");
        assert_eq!(progress.phase(), "leaving");
    }
}
