//! When somebody wants to be woken.

use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::Watched;
use crate::{Alarm, Direction, Source as _};

/// An alarm of the reactor of the thread that it is first polled on: a descriptor like the sockets, which the system makes readable at
/// its time.
///
/// So no wait has an end of its own. A timeout of each wait would have the system program its clock and take that back for each: on a virtual
/// machine two exits to the host, a microsecond or more. An alarm is set when its time changes.
///
/// # Panics
/// It panics when it is polled outside of a reactor's future and has to wait, and when there is no descriptor for it then.
#[derive(Debug)]
pub struct EpollAlarm {
    at: Option<Instant>,
    /// What the system was told.
    set_to: Option<Instant>,
    clock: Option<Watched<OwnedFd>>,
}

impl EpollAlarm {
    /// Tells the system when, if it does not know.
    fn set(&mut self, at: Instant) -> io::Result<&mut Watched<OwnedFd>> {
        let clock = match self.clock.take() {
            Some(clock) => clock,
            None => {
                let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
                Watched::new(timerfd_create(TimerfdClockId::Monotonic, flags)?)?
            }
        };
        let clock = self.clock.insert(clock);
        if self.set_to != Some(at) {
            let nothing = Timespec::default();
            let left = at.saturating_duration_since(Instant::now());
            let once = Itimerspec {
                it_interval: nothing,
                // Nothing would unset it. What is beyond the system's numbers is beyond the life of any process.
                it_value: Timespec {
                    tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                    tv_nsec: left.subsec_nanos().max(1).into(),
                },
            };
            timerfd_settime(clock.get_ref(), TimerfdTimerFlags::empty(), &once)?;
            self.set_to = Some(at);
        }
        Ok(clock)
    }
}

impl Alarm for EpollAlarm {
    fn never() -> Self {
        EpollAlarm {
            at: None,
            set_to: None,
            clock: None,
        }
    }

    fn set_at(&mut self, at: Instant) {
        self.at = Some(at);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else {
            return Poll::Pending;
        };
        while Instant::now() < at {
            let clock = self.set(at).expect("a reactor, and a descriptor to spare");
            // Each time that it goes off is told, and need not be read.
            ready!(clock.poll_take(Direction::Read, cx)).expect("it is watched");
        }
        self.at = None;
        Poll::Ready(())
    }
}
