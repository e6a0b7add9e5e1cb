//! How many lines of each kind may be written. Pure: the time is handed in.

use std::collections::HashMap;
use std::time::Duration;

use tracing::Level;
use tracing::callsite::Identifier;

/// Lines of one kind at Info or above that may be written at once.
pub const BURST: u32 = 20;
/// Lines of one kind at Debug or Trace that may be written at once, and in each second after that.
pub const DETAIL_BURST: u32 = 1_000;

/// Lines about ended sessions that may be written at once, and in each second after that.
pub const SESSION_BURST: u32 = 100;

/// Lines whose count was not told are told after this time.
const OVERDUE: Duration = Duration::from_secs(2);

/// How many lines of one kind may be written.
#[derive(Clone, Copy)]
pub(super) struct Allowance {
    /// Lines that may be written at once.
    burst: u32,
    /// One more line may be written after this time.
    interval: Duration,
}

impl Allowance {
    /// For lines at Info or above: a burst, and one line a second.
    const USUAL: Allowance = Allowance {
        burst: BURST,
        interval: Duration::from_secs(1),
    };
    /// For the line of each session that ends: enough to account for the clients of most edges, and a bound on the disk for the others.
    pub(super) const SESSIONS: Allowance = Allowance {
        burst: SESSION_BURST,
        interval: Duration::from_millis(10),
    };
    /// For lines at Debug and Trace, which follow clients one by one: enough for a person who watches a few of them.
    const DETAILS: Allowance = Allowance {
        burst: DETAIL_BURST,
        interval: Duration::from_millis(1),
    };

    /// The allowance for lines of a level.
    pub(super) fn of(level: Level) -> Allowance {
        if level > Level::INFO {
            Allowance::DETAILS
        } else {
            Allowance::USUAL
        }
    }
}

/// The lines written so far, by kind. There are as many kinds as places in the code that log.
#[derive(Default)]
pub(super) struct Kinds {
    kinds: HashMap<Identifier, Kind>,
    /// How many kinds have lines that were left out and not yet told.
    untold: usize,
}

struct Kind {
    /// When the burst is whole again.
    whole_at: Duration,
    /// Lines that were left out since one was written.
    left_out: u64,
    /// When the first of them was, and its message.
    since: Duration,
    message: String,
}

impl Kinds {
    /// Whether a line may be written, and then how many like it were left out before it.
    pub(super) fn admit(
        &mut self,
        kind: Identifier,
        Allowance { burst, interval }: Allowance,
        now: Duration,
        message: impl FnOnce() -> String,
    ) -> Option<u64> {
        let new = || Kind {
            whole_at: Duration::ZERO,
            left_out: 0,
            since: now,
            message: String::new(),
        };
        let kind = self.kinds.entry(kind).or_insert_with(new);
        let whole_at = kind.whole_at.max(now) + interval;
        if whole_at <= now + interval * burst {
            kind.whole_at = whole_at;
            let left_out = std::mem::take(&mut kind.left_out);
            self.untold -= usize::from(left_out > 0);
            return Some(left_out);
        }
        if kind.left_out == 0 {
            self.untold += 1;
            kind.since = now;
            kind.message = message();
        }
        kind.left_out += 1;
        None
    }

    /// The kinds of which nothing was written for a while after lines of theirs were left out, so that their count does
    /// not wait for the next flood.
    pub(super) fn take_overdue(&mut self, now: Duration) -> Vec<(String, u64)> {
        if self.untold == 0 {
            return Vec::new();
        }
        let overdue = |kind: &&mut Kind| kind.left_out > 0 && now >= kind.since + OVERDUE;
        let take = |kind: &mut Kind| {
            (
                std::mem::take(&mut kind.message),
                std::mem::take(&mut kind.left_out),
            )
        };
        let mut taken: Vec<_> = self.kinds.values_mut().filter(overdue).map(take).collect();
        self.untold -= taken.len();
        taken.sort();
        taken
    }
}
