//! tokio's clock, so that paused and simulated time hold for the drivers, too.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};
use voltlane_core::Time;

/// A clock on [`tokio::time`] with one alarm. Its origin is the time at which it was created.
///
/// A deadline that keeps moving forward, like that of an idle timer with each packet, costs nothing: the alarm goes off early and is then
/// set again.
#[derive(Debug)]
pub struct Timer {
    origin: Instant,
    /// Created at first use, which needs a runtime. [`Timer::new`] does not.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Creates a clock that starts now.
    #[must_use]
    pub fn new() -> Self {
        Timer {
            origin: Instant::now(),
            alarm: None,
        }
    }
}

impl Default for Timer {
    fn default() -> Self {
        Timer::new()
    }
}

impl voltlane_driver::Timer for Timer {
    fn now(&self) -> Time {
        Time::ZERO + self.origin.elapsed()
    }

    fn poll_until(&mut self, cx: &mut Context<'_>, at: Time) -> Poll<()> {
        // A time that an Instant cannot represent is beyond the life of any process.
        let Some(at) = self.origin.checked_add(at.since(Time::ZERO)) else {
            return Poll::Pending;
        };
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if alarm.deadline() > at {
            alarm.as_mut().reset(at);
        }
        loop {
            ready!(alarm.as_mut().poll(cx));
            if alarm.deadline() >= at || Instant::now() >= at {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use voltlane_driver::Timer as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_alarm_goes_off_at_its_time_however_it_was_moved() {
        let mut timer = Timer::new();
        let set = [500, 100, 300, 300, 200, 700];
        for millis in set {
            let polled =
                poll_fn(|cx| Poll::Ready(timer.poll_until(cx, Time::from_millis(millis)))).await;
            assert!(polled.is_pending());
        }
        poll_fn(|cx| timer.poll_until(cx, Time::from_millis(700))).await;
        assert_eq!(timer.now(), Time::from_millis(700));
        poll_fn(|cx| timer.poll_until(cx, Time::from_millis(1))).await;
        assert_eq!(
            timer.now(),
            Time::from_millis(700),
            "a time that is past is ready at once"
        );
        poll_fn(|cx| timer.poll_until(cx, Time::from_millis(900))).await;
        assert_eq!(timer.now(), Time::from_millis(900));
    }

    #[tokio::test(start_paused = true)]
    async fn never_is_never() {
        let mut timer = Timer::new();
        let never = poll_fn(|cx| timer.poll_until(cx, Time::MAX));
        assert!(
            tokio::time::timeout(Duration::from_secs(86_400), never)
                .await
                .is_err()
        );
    }
}
