//! What follows from the end of a connection.

use core::time::Duration;

use rand_core::Rng;

use crate::Backoff;
use crate::backoff::uniform_up_to;
use crate::protocol::{Code, Leave};

use super::{DropCause, Refusal, Violation};

/// What follows from the end of a transport.
#[derive(Debug)]
pub(super) enum Ending {
    Dropped(DropCause, Pause),
    /// The session did not begin: the edge had no room for it, or does not know it.
    NotBegun(Code, Pause),
    Refused(Refusal),
    /// The session is over. The pause comes before the next one.
    Ended(Code, String, Pause),
}

impl Ending {
    /// The client comes back after the usual pause.
    pub(super) fn dropped(cause: DropCause) -> Self {
        Ending::Dropped(cause, Pause::Usual)
    }

    /// The session is over, and the edge asks for no pause.
    pub(super) fn ended(code: Code, text: &str) -> Self {
        Ending::Ended(code, text.to_owned(), AT_ONCE)
    }
}

/// The edge broke the protocol. The client comes back after the usual pause.
pub(super) fn violation(violation: impl Into<Violation>) -> Ending {
    Ending::dropped(violation.into().into())
}

impl From<Leave> for Ending {
    fn from(leave: Leave) -> Self {
        let millis = |ms: u32| Duration::from_millis(ms.into());
        let at_least = |wait_ms, jitter_ms| Pause::AtLeast {
            wait: millis(wait_ms),
            jitter: millis(jitter_ms),
        };
        let once = |wait_ms, jitter_ms| Pause::Once {
            wait: millis(wait_ms),
            jitter: millis(jitter_ms),
        };
        match leave {
            Leave::Breach { breach, .. } => Ending::dropped(Violation::from(breach).into()),
            Leave::Silent => Ending::dropped(DropCause::Silent),
            Leave::Moves { code } => Ending::Dropped(DropCause::Moved(code), Pause::None),
            Leave::AtOnce {
                code,
                wait_ms,
                jitter_ms,
            } => Ending::Dropped(DropCause::Told(code), once(wait_ms, jitter_ms)),
            Leave::Later {
                code,
                wait_ms,
                jitter_ms,
            } => Ending::Dropped(DropCause::Told(code), at_least(wait_ms, jitter_ms)),
            Leave::NotBegun {
                code,
                wait_ms,
                jitter_ms,
            } => Ending::NotBegun(code, at_least(wait_ms, jitter_ms)),
            Leave::Over {
                code,
                text,
                wait_ms,
                jitter_ms,
            } => Ending::Ended(code, text, once(wait_ms, jitter_ms)),
        }
    }
}

/// The pause before the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pause {
    /// That of a failed attempt. (SPEC 4.6(d))
    Usual,
    /// None at all: the edge has drawn the time.
    None,
    /// `wait` and a random time up to `jitter`, and no longer, once until a connection is steady: none at all if both are zero. So an edge
    /// that always says "at once" has no client in a loop. After that, as [`AtLeast`](Self::AtLeast).
    Once {
        /// The time that the edge asks for.
        wait: Duration,
        /// The longest random time to add.
        jitter: Duration,
    },
    /// At least the usual one, and at least `wait` and a random time up to `jitter`.
    AtLeast {
        /// The time that the edge asks for.
        wait: Duration,
        /// The longest random time to add.
        jitter: Duration,
    },
}

/// None, once until a connection is steady.
pub(super) const AT_ONCE: Pause = Pause::Once {
    wait: Duration::ZERO,
    jitter: Duration::ZERO,
};

/// The pauses of a client.
#[derive(Debug)]
pub(super) struct Pauses {
    backoff: Backoff,
    /// Whether an attempt was made at once since a connection was steady.
    was_hasty: bool,
}

impl Pauses {
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        Pauses {
            backoff: Backoff::new(min, max),
            was_hasty: false,
        }
    }

    /// Draws the next pause.
    pub(super) fn next(&mut self, pause: Pause, rng: &mut impl Rng) -> Duration {
        match pause {
            Pause::None => Duration::ZERO,
            Pause::Once { wait, jitter } if !self.was_hasty => {
                self.was_hasty = true;
                wait.saturating_add(uniform_up_to(jitter, rng))
            }
            Pause::Usual => self.backoff.next_delay(rng),
            Pause::AtLeast { wait, jitter } | Pause::Once { wait, jitter } => {
                let asked = wait.saturating_add(uniform_up_to(jitter, rng));
                self.backoff.next_delay(rng).max(asked)
            }
        }
    }

    /// Handles that a connection is steady.
    pub(super) fn reset(&mut self) {
        self.backoff.reset();
        self.was_hasty = false;
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(5);

    #[test]
    fn at_once_is_at_once_only_once() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let mut pauses = Pauses::new(MIN, MAX);
        let mut next = |pauses: &mut Pauses, pause| pauses.next(pause, &mut rng);
        for _ in 0..2 {
            assert_eq!(next(&mut pauses, AT_ONCE), Duration::ZERO);
            assert!(!next(&mut pauses, AT_ONCE).is_zero());
            assert!(!next(&mut pauses, AT_ONCE).is_zero());
            // Where the edge has drawn the time, it knows what it does.
            assert_eq!(next(&mut pauses, Pause::None), Duration::ZERO);
            pauses.reset();
        }
    }

    #[test]
    fn a_pause_is_at_least_what_the_edge_asks_for_and_at_least_the_usual_one() {
        for seed in 0..100 {
            let mut rng = ChaCha20Rng::from_seed([seed; 32]);
            let mut pauses = Pauses::new(MIN, MAX);
            let (wait, jitter) = (Duration::from_secs(30), Duration::from_secs(10));
            let pause = pauses.next(Pause::AtLeast { wait, jitter }, &mut rng);
            assert!((wait..=wait + jitter).contains(&pause), "{pause:?}");

            let none = Pause::AtLeast {
                wait: Duration::ZERO,
                jitter: Duration::ZERO,
            };
            assert!(Pauses::new(MIN, MAX).next(none, &mut rng) <= MIN);
        }
    }

    #[test]
    fn clients_that_are_sent_away_together_come_back_one_after_another() {
        let once = Pause::Once {
            wait: Duration::from_secs(1),
            jitter: Duration::from_secs(30),
        };
        let drawn: Vec<_> = (0..100)
            .map(|seed| {
                let mut rng = ChaCha20Rng::from_seed([seed; 32]);
                Pauses::new(MIN, MAX).next(once, &mut rng)
            })
            .collect();
        let (first, last) = (drawn.iter().min(), drawn.iter().max());
        assert!(first >= Some(&Duration::from_secs(1)) && first < Some(&Duration::from_secs(4)));
        assert!(last <= Some(&Duration::from_secs(31)) && last > Some(&Duration::from_secs(28)));
    }

    #[test]
    fn pauses_grow_whatever_asks_for_them() {
        let mut rng = ChaCha20Rng::from_seed([7; 32]);
        let mut pauses = Pauses::new(MIN, MAX);
        let none = Duration::ZERO;
        let asked = Pause::AtLeast {
            wait: none,
            jitter: none,
        };
        let longest = (0..40).map(|_| pauses.next(asked, &mut rng)).max();
        assert!(longest.is_some_and(|longest| longest > MIN && longest <= MAX));
    }
}
