//! Measures how busy a thread is, and advises on the number of threads.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// When the number of threads grows and shrinks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How long a thread is measured before a decision.
    pub(super) window: Duration,
    /// A thread that used more of a processor than this, in percent, gives half of its tenants to another one.
    pub(super) spread_above: u32,
    /// Two threads that together used less than this, in percent, are joined.
    pub(super) join_below: u32,
    /// The number of consecutive quiet windows before two threads are joined, so that load that comes in waves stays spread.
    pub(super) quiet_windows: u32,
}

impl Default for Limits {
    /// Threads that were joined are far from being spread again.
    fn default() -> Self {
        Limits {
            window: Duration::from_millis(100),
            spread_above: 75,
            join_below: 45,
            quiet_windows: 10,
        }
    }
}

/// What a thread should do with its tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advice {
    /// Nothing until the next window has passed.
    Stay,
    /// It is busy: another thread should take half.
    Spread,
    /// Both are quiet: one should take everything.
    Join,
}

/// Measures the thread that it is used on.
///
/// It measures the processor time that the thread used, not how long it was awake. If others use the machine's processors, a thread is
/// awake for long, but another one would not get more done.
#[derive(Debug)]
pub(super) struct Load {
    limits: Limits,
    since: Instant,
    cpu_at: Duration,
    quiet: u32,
}

impl Load {
    pub(super) fn new(limits: Limits) -> Self {
        Load {
            limits,
            since: Instant::now(),
            cpu_at: cpu_time(),
            quiet: 0,
        }
    }

    /// Returns the share of a processor that the thread used, in percent, once a window has passed.
    pub(super) fn measure(&mut self) -> Option<u32> {
        let now = Instant::now();
        let passed = now - self.since;
        if passed < self.limits.window {
            return None;
        }
        let cpu = cpu_time();
        let used = cpu.saturating_sub(self.cpu_at);
        (self.since, self.cpu_at) = (now, cpu);
        Some(percent(used, passed))
    }

    /// Discards the measurement, as the thread has other tenants now.
    pub(super) fn restart(&mut self) {
        *self = Load::new(self.limits);
    }

    /// Decides after a window in which this thread used `own`, and the thread that could take its tenants, if there is one, used `other`.
    /// `may_spread` tells whether there is a thread for half of them.
    pub(super) fn advise(&mut self, own: u32, may_spread: bool, other: Option<u32>) -> Advice {
        let limits = &self.limits;
        let is_quiet = other.is_some_and(|other| own + other < limits.join_below);
        if may_spread && own > limits.spread_above {
            self.quiet = 0;
            return Advice::Spread;
        }
        self.quiet = if is_quiet { self.quiet + 1 } else { 0 };
        if self.quiet < limits.quiet_windows || !is_quiet {
            return Advice::Stay;
        }
        self.quiet = 0;
        Advice::Join
    }
}

fn percent(used: Duration, passed: Duration) -> u32 {
    let percent = used.as_nanos() * 100 / passed.as_nanos().max(1);
    u32::try_from(percent).unwrap_or(u32::MAX)
}

/// Returns the processor time that this thread has used.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_window_spreads_at_once_and_quiet_ones_join_in_the_end() {
        let limits = Limits::default();
        let mut load = Load::new(limits);
        let (busy, quiet) = (limits.spread_above, limits.join_below);
        assert_eq!(load.advise(busy + 1, true, None), Advice::Spread);
        assert_eq!(load.advise(busy, true, None), Advice::Stay, "at the bound");
        assert_eq!(load.advise(100, false, None), Advice::Stay, "no thread");
        for _ in 1..limits.quiet_windows {
            assert_eq!(load.advise(20, true, Some(quiet - 21)), Advice::Stay);
        }
        assert_eq!(load.advise(20, true, Some(quiet - 21)), Advice::Join);
        let again = load.advise(0, true, Some(0));
        assert_eq!(again, Advice::Stay, "counted from zero");
    }

    #[test]
    fn one_busy_window_restarts_the_quiet_time() {
        let limits = Limits::default();
        let mut load = Load::new(limits);
        for _ in 0..3 {
            for _ in 1..limits.quiet_windows {
                assert_eq!(load.advise(1, false, Some(1)), Advice::Stay);
            }
            let at_the_bound = load.advise(20, false, Some(limits.join_below - 20));
            assert_eq!(at_the_bound, Advice::Stay);
        }
        assert_eq!(load.advise(0, false, None), Advice::Stay, "nobody to join");
    }

    #[test]
    fn a_thread_that_computes_is_busy_and_one_that_waits_is_not() {
        let window = Duration::from_millis(100);
        assert_eq!(percent(Duration::from_millis(80), window), 80);
        assert_eq!(percent(Duration::ZERO, window), 0);
        let before = cpu_time();
        let mut sum = 0_u64;
        while cpu_time() < before + Duration::from_millis(5) {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(sum > 0);
    }
}
