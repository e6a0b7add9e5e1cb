//! Deadlines: what is due next, and what happens then (SPEC 11, 27.2).

use core::time::Duration;

use crate::time::Time;

use crate::edge::Edge;
use crate::edge::conns::state::State;
use crate::edge::conns::wait::{Slot, Wait};
use crate::edge::contract::{CloseKind, Deadline, DeadlineReason};
use crate::edge::counters::{CloseReason, EndReason};
use crate::edge::door::limits::STORM_WINDOW;
use crate::edge::lifecycle::attempt::EARLY_TIMEOUT;
use crate::edge::lifecycle::resume::{RESUME_REPLY_DELAY, TAKEOVER_INTERVAL};
use crate::edge::sessions::Session;

/// How long a kicked client may take to read what was queued for it.
pub const KICK_DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a client that sent too fast is checked.
const PACE_INTERVAL: Duration = Duration::from_millis(100);

/// What falls due besides the link and the shutdown.
#[derive(Clone, Copy)]
enum Due {
    /// The wait of the connection at this index is over.
    Wait(Wait, u32),
    /// Sessions that are away have expired.
    Reap,
    /// The connection at this index is looked at.
    Alarm(u32),
}

impl Edge {
    /// Returns when [`handle_timeout`](Edge::handle_timeout) next has something to do. Takes constant time, and logarithmic time in the
    /// number of connections of version 3.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        if self.conns.is_any_ready() {
            return Some(Deadline {
                at: self.now,
                reason: DeadlineReason::Ready,
            });
        }
        let shutdown = self.shutdown_at.filter(|&at| at > self.now);
        let due = self.next_due().map(|(at, due)| Deadline {
            at,
            reason: reason_of(due),
        });
        let shutdown = shutdown.map(|at| Deadline {
            at,
            reason: DeadlineReason::Shutdown,
        });
        let link = self.uplink.deadline();
        if self.link_queue.version.may_be_version_3() {
            return self.earliest_with_version_3(due, link, shutdown);
        }
        let others = [due, link, shutdown];
        others.into_iter().flatten().min_by_key(|due| due.at)
    }

    /// Returns the earliest of these and of what is due of a link that may have version 3.
    #[cold]
    #[inline(never)]
    fn earliest_with_version_3(
        &self,
        due: Option<Deadline>,
        link: Option<Deadline>,
        shutdown: Option<Deadline>,
    ) -> Option<Deadline> {
        let all = [due, link, self.version_deadline(), shutdown];
        all.into_iter().flatten().min_by_key(|due| due.at)
    }

    /// Returns when something is due of a link that may have version 3.
    fn version_deadline(&self) -> Option<Deadline> {
        let dues = [self.link_queue.version.deadline(), self.settling.deadline()];
        #[cfg(feature = "backends")]
        let dues = dues.into_iter().chain([self.departures.deadline()]);
        let at = dues.into_iter().flatten().min()?;
        Some(Deadline {
            at,
            reason: DeadlineReason::LinkAlarm,
        })
    }

    /// Advances time to `now`. Handles everything that is due, in the order in which it fell due, and nothing early (SPEC 8.1(d)).
    pub fn handle_timeout(&mut self, now: Time) {
        noted!(self, now, Timeout);
        self.step(now, Edge::handle_due);
    }

    fn handle_due(&mut self, now: Time) {
        // Whatever is handled is disarmed, or armed again from `now`, and so no longer due: the loop ends.
        while let Some((_, due)) = self.next_due().filter(|&(at, _)| at <= now) {
            match due {
                Due::Wait(wait, index) => self.end_wait(now, wait, index),
                Due::Reap => self.reap(now),
                Due::Alarm(index) => self.handle_alarm(now, index),
            }
        }
        self.uplink.handle_timeout(now);
        if self.link_queue.version.may_be_version_3() {
            self.link_timeout(now);
            self.tell_settled(now);
            #[cfg(feature = "backends")]
            self.depart_due(now);
        }
        self.shed_load(now);
    }

    /// Returns what falls due next of connections and sessions, and when. At the same instant the order of [`Wait::ALL`] applies, and the
    /// reaper comes last.
    fn next_due(&self) -> Option<(Time, Due)> {
        let mut next: Option<(Time, Due)> = None;
        let mut offer = |at, due| {
            if next.is_none_or(|(earliest, _)| at < earliest) {
                next = Some((at, due));
            }
        };
        for wait in Wait::ALL {
            if let Some((index, since)) = self.conns.first(wait) {
                offer(since + self.lasts(wait), Due::Wait(wait, index));
            }
        }
        if let Some((at, index)) = self.alarms.first() {
            offer(at, Due::Alarm(index));
        }
        if let Some(at) = self.next_reap() {
            offer(at, Due::Reap);
        }
        next
    }

    /// Returns how long this wait lasts.
    fn lasts(&self, wait: Wait) -> Duration {
        let (clients, limits) = (&self.config.clients, &self.config.limits);
        match wait {
            Wait::Reply => RESUME_REPLY_DELAY,
            Wait::Join => STORM_WINDOW,
            Wait::Pace => PACE_INTERVAL,
            Wait::Takeover => TAKEOVER_INTERVAL,
            Wait::Drain => KICK_DRAIN_TIMEOUT,
            Wait::Early => EARLY_TIMEOUT,
            Wait::Handshake => limits.handshake_timeout,
            Wait::Frame => clients.frame_timeout,
            Wait::Idle => clients.idle_timeout,
            Wait::Write => clients.write_timeout,
        }
    }

    /// Handles that the wait of the connection at `index` is over.
    fn end_wait(&mut self, now: Time, wait: Wait, index: u32) {
        let closing = |edge: &mut Edge, kind, reason| edge.close_conn(now, index, kind, reason);
        match wait {
            Wait::Reply => self.send_challenge(now, index),
            Wait::Join => self.retry_join(now, index),
            Wait::Pace => self.check_pace(now, index),
            Wait::Takeover => self.retry_takeover(now, index),
            Wait::Drain => self.end_last_words(now, index),
            Wait::Early => closing(self, CloseKind::Abort, CloseReason::NoEarlyRecord),
            Wait::Handshake => {
                let reason = match self.conns.live(index).state() {
                    State::Handshake(phase) if phase.is_paused() => CloseReason::KeptWaiting,
                    _ => CloseReason::HandshakeTimeout,
                };
                closing(self, CloseKind::Abort, reason)
            }
            Wait::Frame => closing(self, self.kind_of_late(index), CloseReason::FrameTimeout),
            Wait::Idle => closing(self, self.kind_of_late(index), CloseReason::IdleTimeout),
            Wait::Write => {
                self.conns.disarm(Slot::Write, index);
                if let State::Established { session } = *self.conns.live(index).state() {
                    match self.sessions.live(session).numbered() {
                        Some(_) => self.park(now, index, session),
                        None => self.end_session(now, session, EndReason::WriteTimedOut),
                    }
                }
            }
        }
    }

    /// Returns how a client is closed that is late. One whose packets are kept can tell by that that nothing was refused (SPEC 25.5(b)).
    pub(crate) fn kind_of_late(&self, index: u32) -> CloseKind {
        match self.conns.live(index).is_numbered() {
            true => CloseKind::Abort,
            false => CloseKind::Graceful,
        }
    }

    /// Returns the reaper's first tick at which the session away for longest has expired.
    fn next_reap(&self) -> Option<Time> {
        let (_, since) = self.sessions.longest_gone()?;
        let expires_at = since + self.config.clients.stale_timeout;
        let interval_nanos = u64::try_from(self.config.clients.stale_reap_interval.as_nanos())
            .unwrap_or(u64::MAX)
            .max(1);
        Some(Time::from_nanos(
            expires_at
                .as_nanos()
                .div_ceil(interval_nanos)
                .saturating_mul(interval_nanos),
        ))
    }

    /// Ends the sessions that have expired (SPEC 9.6). Others are not visited.
    fn reap(&mut self, now: Time) {
        let stale_timeout = self.config.clients.stale_timeout;
        while let Some(session) = due(self.sessions.longest_gone(), stale_timeout, now) {
            self.end_session(now, session, EndReason::Expired);
        }
    }

    /// Returns when the session, which is away, can no longer be resumed.
    pub(crate) fn expires_at(&self, session: &Session) -> Time {
        session.gone_since() + self.config.clients.stale_timeout
    }
}

/// Returns the reason that the adapter is told.
fn reason_of(due: Due) -> DeadlineReason {
    match due {
        Due::Wait(Wait::Reply, _) => DeadlineReason::Reply,
        Due::Wait(Wait::Join, _) => DeadlineReason::Join,
        Due::Wait(Wait::Pace, _) => DeadlineReason::Pace,
        Due::Wait(Wait::Takeover, _) => DeadlineReason::Takeover,
        Due::Wait(Wait::Drain, _) => DeadlineReason::Drain,
        Due::Wait(Wait::Handshake | Wait::Early, _) => DeadlineReason::Handshake,
        Due::Wait(Wait::Frame, _) => DeadlineReason::Frame,
        Due::Wait(Wait::Idle, _) => DeadlineReason::Idle,
        Due::Wait(Wait::Write, _) => DeadlineReason::Write,
        Due::Reap => DeadlineReason::Reap,
        Due::Alarm(_) => DeadlineReason::Alarm,
    }
}

/// Returns the first entry of a list if its time has come.
fn due(first: Option<(u32, Time)>, lasts: Duration, now: Time) -> Option<u32> {
    first
        .filter(|&(_, since)| since + lasts <= now)
        .map(|(index, _)| index)
}
