//! The pace of established clients, and their silence, as SPEC 10.6(h) and (i) describe them.

use super::Model;
use super::conn::{Begun, Moment};
use crate::plan::Options;

/// The time between two checks of a client that is beyond its pace, in nanoseconds.
const LOOK: u64 = 100_000_000;

/// The numbers of SPEC 10.6(h) and (i).
#[derive(Clone, Debug)]
pub(crate) struct PaceLimits {
    /// For frames and for bytes: the rate per second and the burst. A rate of 0 means none.
    rates: [(u64, u64); 2],
    patience: u64,
    holds: bool,
    pub(super) idle_timeout: u64,
}

impl PaceLimits {
    pub(super) fn new(options: &Options) -> PaceLimits {
        PaceLimits {
            rates: [
                (options.pace_frames, options.pace_frames_burst),
                (options.pace_bytes, options.pace_bytes_burst),
            ],
            patience: options.pace_patience_ms * 1_000_000,
            holds: options.enforce_pace == 0,
            idle_timeout: options.idle_timeout_ms * 1_000_000,
        }
    }
}

/// The budget of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    /// For frames and for bytes: when the full burst is available again, at the latest if `unsure`.
    full_at: [u64; 2],
    /// The first of the consecutive reads that found it beyond its pace.
    over_since: Option<u64>,
    /// When it is next checked. Until then it is not read.
    pub(super) look_at: Option<Moment>,
    /// Since when it may have been beyond its pace. Whether later reads count is unknown.
    unsure: Option<u64>,
    /// Bytes of this read that count.
    pub(super) unspent: usize,
}

impl Pace {
    /// Returns whether an edge need not read it.
    pub(super) fn stops_reading(&self) -> bool {
        self.look_at.is_some() || self.unsure.is_some()
    }

    fn is_over(&self, now: u64, limits: &PaceLimits) -> bool {
        let mut meters = self.full_at.iter().zip(limits.rates);
        meters.any(|(full_at, (rate, burst))| {
            rate > 0 && full_at.saturating_sub(now) > lasting(burst, rate)
        })
    }
}

/// Returns how long an amount takes to be regained.
fn lasting(amount: u64, rate: u64) -> u64 {
    amount.saturating_mul(1_000_000_000) / rate
}

impl Model {
    /// Handles the whole frames that a read of an established client, or the end of its handshake, brought.
    pub(super) fn note_read(&mut self, conn: u32, frames: u64) {
        let Moment { at: now, order } = self.wait();
        let limits = self.limits.pace.clone();
        let frame_timeout = self.limits.frame_timeout;
        let anybody_waits = self.uncertain > 0 || !self.surely_fits(1);
        let Some(state) = self
            .conns
            .get_mut(&conn)
            .filter(|state| state.close.is_none() && state.is_established())
        else {
            return;
        };
        let bytes = std::mem::take(&mut state.pace.unspent) as u64;
        let in_frame = state.frames.held() > 0 && frame_timeout > 0;
        state.idle = (limits.idle_timeout > 0 && !in_frame).then_some(Begun {
            earliest: now,
            latest: if anybody_waits { u64::MAX } else { now },
            order,
        });
        if !limits.holds || limits.rates.iter().all(|(rate, _)| *rate == 0) {
            return;
        }
        let pace = &mut state.pace;
        if pace.full_at.iter().all(|full_at| *full_at <= now) {
            (pace.over_since, pace.unsure) = (None, None);
        }
        let amounts = [frames, bytes].into_iter().zip(limits.rates);
        for (full_at, (amount, (rate, _))) in pace.full_at.iter_mut().zip(amounts) {
            if rate > 0 {
                *full_at = (*full_at).max(now) + lasting(amount, rate);
            }
        }
        let over = pace.is_over(now, &limits);
        pace.over_since = if over {
            pace.over_since.or(Some(now))
        } else {
            None
        };
        if anybody_waits {
            pace.unsure = pace.unsure.or(Some(pace.over_since.unwrap_or(now)));
        }
        if pace.unsure.is_some() {
            // Whether it is read, and so whether its times run, is not observable.
            for begun in [&mut state.frame, &mut state.idle].into_iter().flatten() {
                begun.latest = u64::MAX;
            }
        } else if over {
            self.reach.paced += 1;
            let at = now + LOOK;
            pace.look_at = Some(Moment { at, order });
            (state.frame, state.idle) = (None, None);
        }
    }

    /// Checks a client that was beyond its pace.
    pub(super) fn look_at_pace(&mut self, conn: u32) {
        let Moment { at: now, order } = self.wait();
        let limits = &self.limits.pace;
        let frame_timeout = self.limits.frame_timeout;
        let shuts_down = self.shutdown_at.is_some();
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        self.dirty.insert(conn);
        let too_long = |since| limits.patience > 0 && now >= since + limits.patience;
        if !state.pace.is_over(now, limits) {
            self.reach.paced_on += 1;
            state.pace.look_at = None;
            let begun = Begun {
                earliest: now,
                latest: if shuts_down { u64::MAX } else { now },
                order,
            };
            state.frame = (state.frames.held() > 0).then_some(begun);
            let in_frame = state.frame.is_some() && frame_timeout > 0;
            state.idle = (limits.idle_timeout > 0 && !in_frame).then_some(begun);
        } else if state.pace.over_since.is_some_and(too_long) {
            self.reach.too_fast += 1;
            self.close_and_detach(conn, "the pace deadline");
        } else {
            let at = now + LOOK;
            state.pace.look_at = Some(Moment { at, order });
        }
    }

    /// Returns whether something that the model cannot see exactly would explain that the edge closes `conn` for its pace or its silence.
    pub(super) fn may_end_for_pace(&self, conn: u32) -> bool {
        let (now, limits) = (self.now, &self.limits.pace);
        self.conns.get(&conn).is_some_and(|state| {
            let too_fast = |since: u64| limits.patience > 0 && since + limits.patience <= now;
            let silent = |begun: Begun| {
                begun.earliest < begun.latest && begun.earliest + limits.idle_timeout <= now
            };
            state.pace.unsure.is_some_and(too_fast) || state.idle.is_some_and(silent)
        })
    }
}
