//! Deadlines: what is due next, and what happens then (SPEC 11).

use core::time::Duration;

use crate::time::Time;

use super::Edge;
use super::conn::{CloseKind, STALLED, State, read, step};
use super::counters::{CloseReason, EndReason};
use super::limits::STORM_WINDOW;
use super::resume::{RESUME_REPLY_DELAY, TAKEOVER_INTERVAL};
use super::session::Session;
use crate::planted::planted;

/// How long a kicked client has to take what was queued for it.
pub const KICK_DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a client that sent too fast is looked at.
const PACE_INTERVAL: Duration = Duration::from_millis(100);

/// When the machine wants to be called next, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// When.
    pub at: Time,
    /// What for.
    pub reason: DeadlineReason,
}

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeadlineReason {
    /// [`poll_client`](Edge::poll_client) has something now.
    Ready,
    /// A connection must be established.
    Handshake,
    /// An unfinished frame must be whole.
    Frame,
    /// A client must have said something.
    Idle,
    /// A client that sent too fast is looked at again.
    Pace,
    /// A newcomer that had to wait tries again.
    Join,
    /// A client must have taken something.
    Write,
    /// A challenge goes out.
    Reply,
    /// A takeover that had to wait is tried again.
    Takeover,
    /// A kicked client must be gone.
    Drain,
    /// Expired sessions are looked for.
    Reap,
    /// The backend is tried again.
    LinkRetry,
    /// An attempt to reach the backend is given up.
    LinkConnect,
    /// A shutdown ends.
    Shutdown,
}

impl Edge {
    /// The next time at which [`handle_timeout`](Edge::handle_timeout) has something to do. Constant time.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        if !self.ready.is_empty() {
            return Some(Deadline {
                at: self.now,
                reason: DeadlineReason::Ready,
            });
        }
        let (clients, limits) = (&self.config.clients, &self.config.limits);
        let since =
            |first: Option<(u32, Time)>, lasts: Duration| first.map(|(_, since)| since + lasts);
        let conns = &self.conns;
        let candidates = [
            (
                since(conns.reads.first(read::HANDSHAKE), limits.handshake_timeout),
                DeadlineReason::Handshake,
            ),
            (
                since(conns.reads.first(read::FRAME), clients.frame_timeout),
                DeadlineReason::Frame,
            ),
            (
                since(conns.reads.first(read::IDLE), clients.idle_timeout),
                DeadlineReason::Idle,
            ),
            (
                since(conns.steps.first(step::PACED), PACE_INTERVAL),
                DeadlineReason::Pace,
            ),
            (
                since(conns.steps.first(step::JOIN), STORM_WINDOW),
                DeadlineReason::Join,
            ),
            (
                since(conns.writes.first(STALLED), clients.write_timeout),
                DeadlineReason::Write,
            ),
            (
                since(conns.steps.first(step::REPLY), RESUME_REPLY_DELAY),
                DeadlineReason::Reply,
            ),
            (
                since(conns.steps.first(step::TAKEOVER), TAKEOVER_INTERVAL),
                DeadlineReason::Takeover,
            ),
            (
                since(conns.steps.first(step::DRAIN), KICK_DRAIN_TIMEOUT),
                DeadlineReason::Drain,
            ),
            (self.next_reap(), DeadlineReason::Reap),
            self.link.deadline(),
            (
                self.shutdown_at.filter(|&at| at > self.now),
                DeadlineReason::Shutdown,
            ),
        ];
        candidates
            .into_iter()
            .filter_map(|(at, reason)| at.map(|at| Deadline { at, reason }))
            .min_by_key(|due| due.at)
            .map(|due| {
                let late = Duration::from_millis(u64::from(planted!(DeadlineLate)));
                Deadline {
                    at: due.at + late,
                    ..due
                }
            })
    }

    /// Time has come to `now`: does what is due, nothing before its time.
    pub fn handle_timeout(&mut self, now: Time) {
        let now = self.advance(now);
        let (frame_timeout, write_timeout) = (
            self.config.clients.frame_timeout,
            self.config.clients.write_timeout,
        );
        let mut handshake_timeout = self.config.limits.handshake_timeout;
        if planted!(HandshakeNeverTimesOut) {
            handshake_timeout = Duration::MAX;
        }
        while let Some(index) = due(self.conns.steps.first(step::REPLY), RESUME_REPLY_DELAY, now) {
            self.conns.steps.disarm(&mut self.conns.slab, index);
            self.send_challenge(now, index);
        }
        // Who comes back goes first.
        while let Some(index) = due(self.conns.steps.first(step::JOIN), STORM_WINDOW, now) {
            self.retry_join(now, index);
        }
        while let Some(index) = due(self.conns.steps.first(step::PACED), PACE_INTERVAL, now) {
            self.check_pace(now, index);
        }
        // Each entry taken is disarmed or armed anew from `now`, and so not due again: the loop ends.
        while let Some(index) = due(
            self.conns.steps.first(step::TAKEOVER),
            TAKEOVER_INTERVAL,
            now,
        ) {
            self.retry_takeover(now, index);
        }
        while let Some(index) = due(self.conns.steps.first(step::DRAIN), KICK_DRAIN_TIMEOUT, now) {
            self.abort_draining(now, index);
        }
        while let Some(index) = due(
            self.conns.reads.first(read::HANDSHAKE),
            handshake_timeout,
            now,
        ) {
            self.close_conn(now, index, CloseKind::Abort, CloseReason::HandshakeTimeout);
        }
        while let Some(index) = due(self.conns.reads.first(read::FRAME), frame_timeout, now) {
            self.close_conn(now, index, CloseKind::Graceful, CloseReason::FrameTimeout);
        }
        let idle_timeout = self.config.clients.idle_timeout;
        while let Some(index) = due(self.conns.reads.first(read::IDLE), idle_timeout, now) {
            self.close_conn(now, index, CloseKind::Graceful, CloseReason::IdleTimeout);
        }
        while let Some(index) = due(self.conns.writes.first(STALLED), write_timeout, now) {
            self.conns.writes.disarm(&mut self.conns.slab, index);
            if let Some(State::Established { session }) =
                self.conns.slab.at(index).map(|conn| &conn.state)
            {
                self.end_session(now, *session, EndReason::WriteTimedOut);
            }
        }
        if self.next_reap().is_some_and(|at| at <= now) {
            self.reap(now);
        }
        self.link.handle_timeout(now);
    }

    /// The first reaper's tick at which the longest-gone session has expired.
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

    /// Ends what has expired; sessions that have not are not looked at.
    fn reap(&mut self, now: Time) {
        let stale_timeout = self.config.clients.stale_timeout;
        while let Some(session) = due(self.sessions.longest_gone(), stale_timeout, now) {
            self.end_session(now, session, EndReason::Expired);
        }
    }

    /// When the session, being away, can no longer come back.
    pub(super) fn expires_at(&self, session: &Session) -> Time {
        session.stale_timer.since() + self.config.clients.stale_timeout
    }
}

/// The first entry of a list if its time has come.
fn due(first: Option<(u32, Time)>, lasts: Duration, now: Time) -> Option<u32> {
    first
        .filter(|&(_, since)| since + lasts <= now)
        .map(|(index, _)| index)
}
