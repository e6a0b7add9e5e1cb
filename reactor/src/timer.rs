//! The monotonic clock.

use std::task::{Context, Poll, ready};
use std::time::Instant;

use voltlane_core::Time;

use crate::{Alarm, Reactor};

/// The system's monotonic clock with one alarm. Its origin is the time at which it was created.
///
/// A deadline that keeps moving forward, like that of an idle timer with each packet, costs nothing: the alarm goes off early and is then
/// set again.
#[derive(Debug)]
pub struct Timer<R: Reactor> {
    origin: Instant,
    alarm: R::Alarm,
    /// What the alarm is set to; `None` if it went off or was never set.
    set_to: Option<Instant>,
}

impl<R: Reactor> Timer<R> {
    /// Creates a clock that starts now.
    #[must_use]
    pub fn new() -> Self {
        Timer {
            origin: Instant::now(),
            alarm: R::Alarm::never(),
            set_to: None,
        }
    }
}

impl<R: Reactor> Default for Timer<R> {
    fn default() -> Self {
        Timer::new()
    }
}

impl<R: Reactor> voltlane_driver::Timer for Timer<R> {
    fn now(&self) -> Time {
        Time::ZERO + self.origin.elapsed()
    }

    fn poll_until(&mut self, cx: &mut Context<'_>, at: Time) -> Poll<()> {
        // A time that an Instant cannot represent is beyond the life of any process.
        let Some(at) = self.origin.checked_add(at.since(Time::ZERO)) else {
            return Poll::Pending;
        };
        loop {
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            if self.set_to.is_none_or(|set_to| set_to > at) {
                self.alarm.set_at(at);
                self.set_to = Some(at);
            }
            ready!(self.alarm.poll(cx));
            self.set_to = None;
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use voltlane_driver::Timer as _;

    use super::*;

    fn an_alarm_goes_off_at_its_time_however_it_was_moved<R: Reactor>() {
        R::block_on(async {
            let mut timer = Timer::<R>::new();
            let start = timer.now();
            // Hours ahead, so they stay in the future however late this thread runs.
            for hours in [500, 20, 30, 30, 10] {
                let at = start + Duration::from_secs(3_600 * hours);
                assert!(
                    poll_fn(|cx| Poll::Ready(timer.poll_until(cx, at)))
                        .await
                        .is_pending()
                );
            }
            // Set too early for the next one, unless this thread runs later than that.
            let early = start + Duration::from_millis(10);
            let polled = poll_fn(|cx| Poll::Ready(timer.poll_until(cx, early))).await;
            assert!(polled.is_pending() || timer.now() >= early);
            for millis in [40, 50, 45] {
                let at = start + Duration::from_millis(millis);
                poll_fn(|cx| timer.poll_until(cx, at)).await;
                assert!(timer.now() >= at);
            }
            let never = poll_fn(|cx| Poll::Ready(timer.poll_until(cx, Time::MAX))).await;
            assert!(never.is_pending());
        })
        .unwrap();
    }

    #[test]
    fn an_alarm_goes_off_on_epoll() {
        an_alarm_goes_off_at_its_time_however_it_was_moved::<crate::Epoll>();
    }
}
