//! Deadlines: what is due next, and what happens then (SPEC 11).

use core::time::Duration;

use crate::time::Time;

use crate::edge::Edge;
use crate::edge::conns::state::State;
use crate::edge::conns::wait::{Slot, Wait};
use crate::edge::contract::{CloseKind, Deadline, DeadlineReason};
use crate::edge::counters::{CloseReason, EndReason};
use crate::edge::door::limits::STORM_WINDOW;
use crate::edge::lifecycle::resume::{RESUME_REPLY_DELAY, TAKEOVER_INTERVAL};
use crate::edge::sessions::Session;

/// How long a kicked client may take to read what was queued for it.
pub const KICK_DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a client that sent too fast is checked.
const PACE_INTERVAL: Duration = Duration::from_millis(100);

impl Edge {
    /// Returns when [`handle_timeout`](Edge::handle_timeout) next has something to do. Takes constant time.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        if self.conns.is_any_ready() {
            return Some(Deadline {
                at: self.now,
                reason: DeadlineReason::Ready,
            });
        }
        let shutdown = self.shutdown_at.filter(|&at| at > self.now);
        let others = [
            self.next_due().map(|(due, _)| due),
            self.link.deadline(),
            shutdown.map(|at| Deadline {
                at,
                reason: DeadlineReason::Shutdown,
            }),
        ];
        others.into_iter().flatten().min_by_key(|due| due.at)
    }

    /// Advances time to `now`. Handles everything that is due, in the order in which it fell due, and nothing early (SPEC 8.1(d)).
    pub fn handle_timeout(&mut self, now: Time) {
        let now = self.advance(now);
        // Whatever is handled is disarmed, or armed again from `now`, and so no longer due: the loop ends.
        while let Some((due, index)) = self.next_due().filter(|(due, _)| due.at <= now) {
            self.act_on(now, due.reason, index);
        }
        self.link.handle_timeout(now);
        self.settle();
    }

    /// Returns the earliest deadline of connections and sessions, with the connection that it belongs to. At the same instant the order of
    /// [`Wait::ALL`] applies, and the reaper comes last.
    fn next_due(&self) -> Option<(Deadline, u32)> {
        let waits = Wait::ALL.into_iter().filter_map(|wait| {
            let (index, since) = self.conns.first(wait)?;
            let (lasts, reason) = self.wait(wait);
            let at = since + lasts;
            Some((Deadline { at, reason }, index))
        });
        let reap = self.next_reap().map(|at| {
            let reason = DeadlineReason::Reap;
            (Deadline { at, reason }, 0)
        });
        waits.chain(reap).min_by_key(|(due, _)| due.at)
    }

    /// Returns how long this wait lasts, and the reason of its deadline.
    fn wait(&self, wait: Wait) -> (Duration, DeadlineReason) {
        let (clients, limits) = (&self.config.clients, &self.config.limits);
        match wait {
            Wait::Reply => (RESUME_REPLY_DELAY, DeadlineReason::Reply),
            Wait::Join => (STORM_WINDOW, DeadlineReason::Join),
            Wait::Pace => (PACE_INTERVAL, DeadlineReason::Pace),
            Wait::Takeover => (TAKEOVER_INTERVAL, DeadlineReason::Takeover),
            Wait::Drain => (KICK_DRAIN_TIMEOUT, DeadlineReason::Drain),
            Wait::Handshake => (limits.handshake_timeout, DeadlineReason::Handshake),
            Wait::Frame => (clients.frame_timeout, DeadlineReason::Frame),
            Wait::Idle => (clients.idle_timeout, DeadlineReason::Idle),
            Wait::Write => (clients.write_timeout, DeadlineReason::Write),
        }
    }

    /// Handles that the wait of the connection at `index` is over.
    fn act_on(&mut self, now: Time, reason: DeadlineReason, index: u32) {
        let closing = |edge: &mut Edge, kind, reason| edge.close_conn(now, index, kind, reason);
        match reason {
            DeadlineReason::Reply => self.send_challenge(now, index),
            DeadlineReason::Join => self.retry_join(now, index),
            DeadlineReason::Pace => self.check_pace(now, index),
            DeadlineReason::Takeover => self.retry_takeover(now, index),
            DeadlineReason::Drain => self.abort_draining(now, index),
            DeadlineReason::Handshake => {
                let reason = match self.conns.live(index).state() {
                    State::Handshake(step) if step.is_paused() => CloseReason::KeptWaiting,
                    _ => CloseReason::HandshakeTimeout,
                };
                closing(self, CloseKind::Abort, reason)
            }
            DeadlineReason::Frame => closing(self, CloseKind::Graceful, CloseReason::FrameTimeout),
            DeadlineReason::Idle => closing(self, CloseKind::Graceful, CloseReason::IdleTimeout),
            DeadlineReason::Write => {
                self.conns.disarm(Slot::Write, index);
                if let State::Established { session } = self.conns.live(index).state() {
                    self.end_session(now, *session, EndReason::WriteTimedOut);
                }
            }
            DeadlineReason::Reap => self.reap(now),
            // Not deadlines of connections: `next_due` returns none of them.
            DeadlineReason::Ready
            | DeadlineReason::LinkRetry
            | DeadlineReason::LinkConnect
            | DeadlineReason::LinkBelief
            | DeadlineReason::Shutdown => {}
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

    /// Ends the sessions that have expired. Others are not visited.
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

/// Returns the first entry of a list if its time has come.
fn due(first: Option<(u32, Time)>, lasts: Duration, now: Time) -> Option<u32> {
    first
        .filter(|&(_, since)| since + lasts <= now)
        .map(|(index, _)| index)
}
