//! Measures how busy a thread is, and advises on the number of threads.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// When the number of threads grows and shrinks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How long a thread is measured before a decision.
    pub(super) window: Duration,
    /// A thread that used more of a processor than this, in percent, gives half of its tenants to another one, if there is a processor for
    /// that.
    pub(super) spread_above: u32,
    /// There is none if the thread waited for its own processor for at least this part of the window, in percent.
    pub(super) spread_if_waited_below: u32,
    /// Two threads that together used less than this, in percent, are joined.
    pub(super) join_below: u32,
    /// The number of consecutive quiet windows before two threads are joined, so that load that comes in waves stays spread.
    pub(super) quiet_windows: u32,
    /// Two threads that together waited for processors for more than this, in percent, are crowded: they cost more than one would, and get
    /// less done.
    pub(super) crowded_above: u32,
    /// Crowded threads are joined if together they used less than this, in percent. Others get more done than one could.
    pub(super) retreat_below: u32,
    /// The number of consecutive crowded windows before two threads are joined.
    pub(super) crowded_windows: u32,
    /// How long tenants stay together after crowded threads were joined. Twice as long each time, until threads are joined because they are
    /// quiet.
    pub(super) rest: Duration,
    /// The longest rest.
    pub(super) longest_rest: Duration,
}

impl Default for Limits {
    /// Threads that were joined are far from being spread again.
    fn default() -> Self {
        Limits {
            window: Duration::from_millis(100),
            spread_above: 75,
            spread_if_waited_below: 10,
            join_below: 45,
            quiet_windows: 10,
            crowded_above: 30,
            retreat_below: 125,
            crowded_windows: 5,
            rest: Duration::from_secs(5),
            longest_rest: Duration::from_secs(300),
        }
    }
}

/// What a thread did in a window, in percent of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// It ran on a processor.
    pub(super) used: u32,
    /// It could have run, and no processor was free.
    pub(super) waited: u32,
}

/// What a thread should do with its tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advice {
    /// Nothing until the next window has passed.
    Stay,
    /// It is busy, and there is a processor for another thread, which should take half.
    Spread,
    /// Both are quiet: one should take everything.
    Join,
    /// There are fewer processors than threads that want to run: one should take everything, and keep it for a while.
    Retreat,
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
    waited_at: Duration,
    quiet: u32,
    crowded: u32,
}

impl Load {
    pub(super) fn new(limits: Limits) -> Self {
        Load {
            limits,
            since: Instant::now(),
            cpu_at: cpu_time(),
            waited_at: waiting_time(),
            quiet: 0,
            crowded: 0,
        }
    }

    /// Returns what the thread did, once a window has passed.
    pub(super) fn measure(&mut self) -> Option<Usage> {
        let now = Instant::now();
        let passed = now - self.since;
        if passed < self.limits.window {
            return None;
        }
        let (cpu, waited) = (cpu_time(), waiting_time());
        let usage = Usage {
            used: percent(cpu.saturating_sub(self.cpu_at), passed),
            waited: percent(waited.saturating_sub(self.waited_at), passed),
        };
        (self.since, self.cpu_at, self.waited_at) = (now, cpu, waited);
        Some(usage)
    }

    /// Discards the measurement, as the thread has other tenants now.
    pub(super) fn restart(&mut self) {
        *self = Load::new(self.limits);
    }

    /// Decides after a window of this thread and of the one that could take its tenants, if there is one. `may_spread` tells whether there
    /// is a thread for half of them.
    pub(super) fn advise(&mut self, own: Usage, may_spread: bool, other: Option<Usage>) -> Advice {
        let limits = &self.limits;
        let both = other.map(|other| Usage {
            used: own.used.saturating_add(other.used),
            waited: own.waited.saturating_add(other.waited),
        });
        let is_quiet = both.is_some_and(|both| both.used < limits.join_below);
        let is_crowded = both.is_some_and(|both| {
            both.waited > limits.crowded_above && both.used < limits.retreat_below
        });
        self.quiet = if is_quiet { self.quiet + 1 } else { 0 };
        self.crowded = if is_crowded { self.crowded + 1 } else { 0 };
        let is_busy = own.used > limits.spread_above;
        if may_spread && is_busy && own.waited < limits.spread_if_waited_below {
            Advice::Spread
        } else if self.quiet >= limits.quiet_windows {
            self.quiet = 0;
            Advice::Join
        } else if self.crowded >= limits.crowded_windows {
            self.crowded = 0;
            Advice::Retreat
        } else {
            Advice::Stay
        }
    }
}

/// Keeps tenants together after crowded threads were joined.
#[derive(Debug)]
pub(super) struct Rest {
    limits: Limits,
    /// The length of the last rest; zero if there was none.
    length: Duration,
    until: Option<Instant>,
}

impl Rest {
    pub(super) const fn new(limits: Limits) -> Self {
        Rest {
            limits,
            length: Duration::ZERO,
            until: None,
        }
    }

    /// Handles that threads were joined since they were crowded.
    pub(super) fn begin(&mut self, now: Instant) {
        let Limits {
            rest, longest_rest, ..
        } = self.limits;
        self.length = self.length.saturating_mul(2).clamp(rest, longest_rest);
        self.until = now.checked_add(self.length);
    }

    /// Handles that threads were joined since they were quiet.
    pub(super) fn forget(&mut self) {
        *self = Rest::new(self.limits);
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
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

/// Returns how long this thread has waited for a processor while it could have run; zero if the system does not say.
///
/// The second number of this file is the time on a run queue, in nanoseconds (the kernel's `Documentation/scheduler/sched-stats.rst`).
fn waiting_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let waited = stat.split_ascii_whitespace().nth(1);
    Duration::from_nanos(waited.and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    use super::*;

    /// A thread that never waited.
    fn used(used: u32) -> Usage {
        Usage { used, waited: 0 }
    }

    #[test]
    fn a_busy_window_spreads_at_once_and_quiet_ones_join_in_the_end() {
        let limits = Limits::default();
        let mut load = Load::new(limits);
        let (busy, quiet) = (limits.spread_above, limits.join_below);
        assert_eq!(load.advise(used(busy + 1), true, None), Advice::Spread);
        let at_the_bound = load.advise(used(busy), true, None);
        assert_eq!(at_the_bound, Advice::Stay);
        let no_thread = load.advise(used(100), false, None);
        assert_eq!(no_thread, Advice::Stay);
        let other = Some(used(quiet - 21));
        for _ in 1..limits.quiet_windows {
            assert_eq!(load.advise(used(20), true, other), Advice::Stay);
        }
        assert_eq!(load.advise(used(20), true, other), Advice::Join);
        let again = load.advise(used(0), true, Some(used(0)));
        assert_eq!(again, Advice::Stay, "counted from zero");
    }

    #[test]
    fn one_busy_window_restarts_the_quiet_time() {
        let limits = Limits::default();
        let mut load = Load::new(limits);
        for _ in 0..3 {
            for _ in 1..limits.quiet_windows {
                assert_eq!(load.advise(used(1), false, Some(used(1))), Advice::Stay);
            }
            let at_the_bound = load.advise(used(20), false, Some(used(limits.join_below - 20)));
            assert_eq!(at_the_bound, Advice::Stay);
        }
        let nobody = load.advise(used(0), false, None);
        assert_eq!(nobody, Advice::Stay, "nobody to join");
    }

    #[test]
    fn a_busy_thread_that_waits_for_its_own_processor_does_not_spread() {
        let limits = Limits::default();
        let mut load = Load::new(limits);
        let bound = limits.spread_if_waited_below;
        for (waited, advice) in [(bound - 1, Advice::Spread), (bound, Advice::Stay)] {
            let own = Usage { used: 80, waited };
            assert_eq!(load.advise(own, true, None), advice, "waited {waited} %");
        }
    }

    #[test]
    fn crowded_threads_join_after_some_windows_and_only_if_one_can_do_the_work() {
        let limits = Limits::default();
        let (most_used, most_waited) = (limits.retreat_below - 1, limits.crowded_above);
        for (all, waited, advice) in [
            (most_used, most_waited + 1, Advice::Retreat),
            (most_used, most_waited, Advice::Stay),
            (most_used + 1, most_waited + 1, Advice::Stay),
        ] {
            let mut load = Load::new(limits);
            // The other one waited for all of it.
            let other = Usage {
                used: all - 60,
                waited,
            };
            for _ in 1..limits.crowded_windows {
                assert_eq!(load.advise(used(60), true, Some(other)), Advice::Stay);
            }
            let last = load.advise(used(60), true, Some(other));
            assert_eq!(last, advice, "used {all} %, waited {waited} %");
            let again = load.advise(used(60), true, Some(other));
            assert_eq!(again, Advice::Stay, "counted from zero");
        }
    }

    #[test]
    fn one_window_with_processors_to_spare_restarts_the_crowded_time() {
        let limits = Limits::default();
        let mut load = Load::new(limits);
        let crowded = Usage {
            used: 50,
            waited: limits.crowded_above,
        };
        for _ in 0..3 {
            for _ in 1..limits.crowded_windows {
                assert_eq!(load.advise(crowded, true, Some(crowded)), Advice::Stay);
            }
            assert_eq!(load.advise(used(50), true, Some(used(50))), Advice::Stay);
        }
    }

    #[test]
    fn a_rest_doubles_up_to_its_bound_and_is_forgotten_when_it_is_quiet() {
        let limits = Limits::default();
        let (mut rest, now) = (Rest::new(limits), Instant::now());
        assert!(rest.is_over(now));
        let mut length = limits.rest;
        while length < limits.longest_rest {
            rest.begin(now);
            assert!(!rest.is_over(now + length - Duration::from_nanos(1)));
            assert!(rest.is_over(now + length));
            length *= 2;
        }
        for _ in 0..2 {
            rest.begin(now);
            let longest = limits.longest_rest;
            assert!(!rest.is_over(now + longest - Duration::from_nanos(1)));
            assert!(rest.is_over(now + longest));
        }
        rest.forget();
        assert!(rest.is_over(now));
        rest.begin(now);
        assert!(rest.is_over(now + limits.rest), "counted from zero");
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

    #[test]
    fn a_thread_that_shares_its_processor_waits() {
        let is_over = AtomicBool::new(false);
        let mut first = CpuSet::new();
        let all = sched_getaffinity(None).unwrap();
        let here = (0..CpuSet::MAX_CPU).find(|&cpu| all.is_set(cpu)).unwrap();
        first.set(here);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                sched_setaffinity(None, &first).unwrap();
                while !is_over.load(Relaxed) {
                    std::hint::spin_loop();
                }
            });
            scope.spawn(|| {
                sched_setaffinity(None, &first).unwrap();
                let (before, begun) = (waiting_time(), Instant::now());
                while waiting_time() == before && begun.elapsed() < Duration::from_secs(20) {
                    std::hint::spin_loop();
                }
                is_over.store(true, Relaxed);
                assert!(waiting_time() > before);
            });
        });
    }
}
