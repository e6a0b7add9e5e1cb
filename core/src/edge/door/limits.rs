//! Rate limits: token buckets over the machine's own time.

use core::time::Duration;

use crate::time::Time;

use crate::edge::config::PaceLimits;

/// A token bucket that does not store its rate. The caller passes its size and the time per token, so that an idle bucket takes 12 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    /// The time from which the bucket is refilling; at most `now`.
    updated: Time,
    /// Tokens taken and not yet regained.
    taken: u32,
}

image!(Bucket { updated, taken });

impl Bucket {
    pub(crate) const fn full(now: Time) -> Self {
        Bucket {
            updated: now,
            taken: 0,
        }
    }

    /// Takes one of `burst` tokens, one of which is regained in each `every`. Returns false if there is none.
    pub(crate) fn take(&mut self, now: Time, burst: u32, every: Duration) -> bool {
        let has_one = self.has_one(now, burst, every);
        self.taken += u32::from(has_one);
        has_one
    }

    /// Gives back a token that was taken, perhaps with another burst or long ago: never more than there are.
    pub(crate) fn give_back(&mut self) {
        self.taken = self.taken.saturating_sub(1);
    }

    /// Returns whether one of `burst` tokens is available.
    pub(crate) fn has_one(&mut self, now: Time, burst: u32, every: Duration) -> bool {
        let every_nanos = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX).max(1);
        let elapsed_nanos = u64::try_from(now.since(self.updated).as_nanos()).unwrap_or(u64::MAX);
        let back = elapsed_nanos / every_nanos;
        if back >= u64::from(self.taken) {
            (self.taken, self.updated) = (0, now);
        } else {
            // Less than `taken`, a u32. The rest of the time counts towards the next token.
            self.taken -= u32::try_from(back).unwrap_or(self.taken);
            self.updated = self.updated + Duration::from_nanos(back.saturating_mul(every_nanos));
        }
        self.taken < burst
    }

    /// Returns the tokens not yet regained, and the progress towards the next one.
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn left(&self, now: Time, every: Duration) -> (u32, Duration) {
        let mut bucket = *self;
        bucket.has_one(now, u32::MAX, every);
        match bucket.taken {
            0 => (0, Duration::ZERO),
            taken => (taken, now.since(bucket.updated)),
        }
    }

    /// Returns whether every token is available.
    pub(crate) fn is_full(&self, now: Time, every: Duration) -> bool {
        now.since(self.updated) >= every.saturating_mul(self.taken)
    }
}

/// A rate that permits debt: a read is charged in full, and the next read waits until it is paid for.
///
/// Stored as the time at which the whole burst is available again, like GCRA (ITU-T I.371).
#[derive(Clone, Copy, Debug)]
struct Meter {
    full_at: Time,
}

image!(Meter { full_at });

impl Meter {
    /// Charges `amount` at `rate` per second with a burst of `burst`. Returns whether it is in debt now.
    fn spend(&mut self, now: Time, amount: u64, rate: u32, burst: u32) -> bool {
        if rate != 0 {
            self.full_at = self.full_at.max(now) + lasting(amount, rate);
        }
        self.is_in_debt(now, rate, burst)
    }

    fn is_full(&self, now: Time) -> bool {
        self.full_at <= now
    }

    fn is_in_debt(&self, now: Time, rate: u32, burst: u32) -> bool {
        rate != 0 && self.full_at.since(now) > lasting(u64::from(burst), rate)
    }
}

/// Returns how long `amount` takes at `rate` per second.
fn lasting(amount: u64, rate: u32) -> Duration {
    Duration::from_nanos(amount.saturating_mul(1_000_000_000) / u64::from(rate).max(1))
}

/// The recent pace of a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    frames: Meter,
    bytes: Meter,
    /// Since when every read has exceeded the limit, without the full burst becoming available in between.
    over_since: Option<Time>,
}

image!(Pace {
    frames,
    bytes,
    over_since
});

impl Pace {
    pub(crate) fn new(now: Time) -> Self {
        Pace {
            frames: Meter { full_at: now },
            bytes: Meter { full_at: now },
            over_since: None,
        }
    }

    /// Charges a read. Returns whether the client must wait now.
    pub(crate) fn spend(
        &mut self,
        now: Time,
        frames: u64,
        bytes: u64,
        limits: &PaceLimits,
    ) -> bool {
        // Bursts that are too large but separated by pauses do not add up.
        if self.frames.is_full(now) && self.bytes.is_full(now) {
            self.over_since = None;
        }
        let too_many = self
            .frames
            .spend(now, frames, limits.frames, limits.frames_burst);
        let too_much = self
            .bytes
            .spend(now, bytes, limits.bytes, limits.bytes_burst);
        let over = too_many || too_much;
        self.over_since = if over {
            self.over_since.or(Some(now))
        } else {
            None
        };
        over
    }

    /// Returns whether everything is paid for.
    pub(crate) fn is_paid(&self, now: Time, limits: &PaceLimits) -> bool {
        !self
            .frames
            .is_in_debt(now, limits.frames, limits.frames_burst)
            && !self.bytes.is_in_debt(now, limits.bytes, limits.bytes_burst)
    }

    /// Returns whether it has exceeded its limit for `patience`.
    pub(crate) fn is_too_long(&self, now: Time, patience: Duration) -> bool {
        !patience.is_zero()
            && self
                .over_since
                .is_some_and(|since| now.since(since) >= patience)
    }
}

/// Limits how many newcomers may begin while many clients come back: one for every four of these.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Storm {
    window: Time,
    resumes: u32,
    resumes_before: u32,
    joins: u32,
}

image!(Storm {
    window,
    resumes,
    resumes_before,
    joins
});

/// The window in which resumes and newcomers are compared, and how long a newcomer waits at a time.
pub(crate) const STORM_WINDOW: Duration = Duration::from_millis(100);
/// The number of resumes in a window from which newcomers are paced. It ensures that strangers, who cannot resume, cannot delay them.
const STORM_FROM: u32 = 16;

impl Storm {
    fn advance(&mut self, now: Time) {
        let passed = now.since(self.window);
        if passed >= STORM_WINDOW {
            let recent = passed < STORM_WINDOW * 2;
            *self = Storm {
                window: now,
                resumes: 0,
                resumes_before: if recent { self.resumes } else { 0 },
                joins: 0,
            };
        }
    }

    /// Records that a client came back.
    pub(crate) fn resumed(&mut self, now: Time) {
        self.advance(now);
        self.resumes = self.resumes.saturating_add(1);
    }

    /// Returns whether a newcomer may begin now. One that does [counts](Self::count_join).
    pub(crate) fn admits_join(&mut self, now: Time) -> bool {
        self.advance(now);
        let resumes = self.resumes.max(self.resumes_before);
        resumes < STORM_FROM || self.joins < resumes / 4
    }

    /// Counts a newcomer that begins in the window of the last call.
    pub(crate) fn count_join(&mut self) {
        self.joins = self.joins.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_burst_then_one_for_each_interval() {
        let second = Duration::from_secs(1);
        let mut bucket = Bucket::full(Time::ZERO);
        let taken = |bucket: &mut Bucket, millis| {
            (0..20)
                .filter(|_| bucket.take(Time::from_millis(millis), 10, second))
                .count()
        };
        assert_eq!(taken(&mut bucket, 0), 10);
        assert_eq!(taken(&mut bucket, 999), 0);
        assert_eq!(taken(&mut bucket, 1_000), 1);
        assert_eq!(taken(&mut bucket, 3_500), 2);
        assert_eq!(taken(&mut bucket, 4_000), 1, "half a token was kept");
        assert_eq!(taken(&mut bucket, 1_000_000), 10);
        assert!(!bucket.take(Time::MAX, 0, Duration::ZERO));
    }

    #[test]
    fn a_meter_runs_into_debt_and_out_of_it() {
        let limits = PaceLimits {
            frames: 10,
            frames_burst: 20,
            ..PaceLimits::default()
        };
        let mut pace = Pace::new(Time::ZERO);
        let at = |millis: u64| Time::from_millis(millis);
        assert!(!pace.spend(at(0), 20, 0, &limits), "the burst");
        assert!(pace.spend(at(0), 1, 0, &limits));
        assert!(!pace.is_paid(at(99), &limits) && pace.is_paid(at(100), &limits));
        assert!(!pace.spend(at(200), 1, 0, &limits));
        assert!(pace.spend(at(200), 100, 0, &limits));
        assert!(!pace.is_paid(at(10_199), &limits) && pace.is_paid(at(10_200), &limits));
        assert!(pace.is_too_long(at(5_200), Duration::from_secs(5)));
        assert!(!pace.is_too_long(at(5_199), Duration::from_secs(5)));
        assert!(
            !pace.spend(at(100_000), 20, u64::MAX, &limits),
            "bytes are not limited"
        );
    }

    #[test]
    fn in_a_storm_there_is_one_newcomer_for_four_that_come_back() {
        let mut storm = Storm::default();
        let joins = |storm: &mut Storm, now| {
            let begins = (0..100).take_while(|_| {
                let admitted = storm.admits_join(now);
                if admitted {
                    storm.count_join();
                }
                admitted
            });
            begins.count()
        };
        let at = Time::from_millis;
        for _ in 0..15 {
            storm.resumed(at(1000));
        }
        assert_eq!(joins(&mut storm, at(1000)), 100);
        for _ in 0..40 {
            storm.resumed(at(1100));
        }
        assert_eq!(joins(&mut storm, at(1150)), 10);
        assert_eq!(joins(&mut storm, at(1200)), 10, "the window before counts");
        for _ in 0..16 {
            storm.resumed(at(1300));
        }
        assert_eq!(joins(&mut storm, at(1300)), 4, "from 16 on");
        assert_eq!(
            joins(&mut storm, at(1499)),
            4,
            "just within the window before"
        );
        for _ in 0..16 {
            storm.resumed(at(1599));
        }
        assert_eq!(
            joins(&mut storm, at(1799)),
            100,
            "two windows later it is over"
        );
        assert_eq!(joins(&mut storm, at(2500)), 100);
    }
}
