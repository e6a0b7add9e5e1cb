//! An established connection of a client: acknowledgements, keep-alive, GOAWAY and goodbye. (SPEC 24.3(d), 25)
#![allow(clippy::arithmetic_side_effects, reason = "a time saturates")]

use core::time::Duration;

use rand_chacha::ChaCha20Rng;

use crate::Time;
use crate::backoff::uniform_up_to;
use crate::queue::Outbox;

use super::super::channel::Channel;
use super::super::code::Code;
use super::super::items::{Close, GoAway, Ledger};
use super::super::packets::Settings;
use super::seat::Seat;
use super::terms::Resumption;

/// The time for one packet to be acknowledged, in ack delays. (SPEC 24.3(d))
const DELAYS_FOR_ONE: u32 = 8;

/// An established connection.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) channel: Channel,
    /// A packet was lent to the application and is not counted yet.
    pub(super) is_lent: bool,
    pub(super) resumption: Option<Resumption>,
    /// The last number of the replay, until it was told.
    pub(super) replay_until: Option<u64>,
    /// Whether no record was opened after that with RESUMED.
    pub(super) is_fresh: bool,
    /// Since when there is something to acknowledge.
    pub(super) ack_since: Option<Time>,
    pub(super) life: Life,
    /// When the client leaves because the edge asked it to.
    pub(super) moves: Option<(Time, Code)>,
    pub(super) goodbye: Goodbye,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goodbye {
    No,
    Due,
    Said,
}

/// Keep-alive. (SPEC 25.1)
#[derive(Debug)]
pub(super) struct Life {
    /// When something came from the edge.
    pub(super) heard: Time,
    /// The silence after which the edge is asked, and that after which it is dead. `None`: never.
    pub(super) bounds: Option<(Duration, Duration)>,
    /// Whether the edge was asked since then.
    pub(super) has_asked: bool,
    pub(super) question: Option<(Time, [u8; 8])>,
}

impl Life {
    /// Draws when to ask: a tenth sooner or later.
    pub(super) fn begin(keep_alive_secs: u16, now: Time, rng: &mut ChaCha20Rng) -> Self {
        let millis = |per_second: u64| {
            Duration::from_millis(u64::from(keep_alive_secs).saturating_mul(per_second))
        };
        let ask_after = millis(900).saturating_add(uniform_up_to(millis(200), rng));
        Life {
            heard: now,
            bounds: (keep_alive_secs > 0).then_some((ask_after, millis(2_500))),
            has_asked: false,
            question: None,
        }
    }

    pub(super) fn hear(&mut self, now: Time) {
        self.heard = now;
        self.has_asked = false;
    }

    pub(super) fn asks_at(&self) -> Option<Time> {
        let (ask_after, _) = self.bounds?;
        (!self.has_asked).then(|| self.heard + ask_after)
    }

    pub(super) fn ends_at(&self) -> Option<Time> {
        self.bounds.map(|(_, dead_after)| self.heard + dead_after)
    }
}

impl Open {
    pub(super) fn new(
        channel: Channel,
        settings: &Settings,
        now: Time,
        rng: &mut ChaCha20Rng,
    ) -> Self {
        Open {
            channel,
            is_lent: false,
            resumption: None,
            replay_until: None,
            is_fresh: false,
            ack_since: None,
            life: Life::begin(settings.keep_alive_secs, now, rng),
            moves: None,
            goodbye: Goodbye::No,
        }
    }

    /// Makes the last record.
    pub(super) fn say_close(
        &mut self,
        code: Code,
        detail: u64,
        seat: &mut Seat,
        outbox: &mut Outbox,
    ) {
        let close = Close {
            code,
            wait_ms: 0,
            jitter_ms: 0,
            detail,
            up: Ledger::default(),
            down: Ledger::default(),
            text: "",
        };
        self.channel
            .close(&close, false, outbox, &mut seat.progress);
    }

    /// Returns when an ACK is to be sent that nothing else carries. (SPEC 24.3(d))
    pub(super) fn acknowledges_at(&self, seat: &Seat) -> Option<Time> {
        let delay = Duration::from_millis(seat.settings.ack_delay_ms.into());
        let delays = match seat.progress.due() {
            0 => return None,
            1 => DELAYS_FOR_ONE,
            _ => 1,
        };
        self.ack_since
            .map(|since| since + delay.saturating_mul(delays))
    }

    pub(super) fn moves_at(&self) -> Option<Time> {
        let is_staying = self.goodbye != Goodbye::No;
        self.moves.map(|(at, _)| at).filter(|_| !is_staying)
    }
}

/// Draws when a client leaves that was asked to. (SPEC 25.3(a))
pub(super) fn leaves_at(now: Time, go_away: &GoAway, rng: &mut ChaCha20Rng) -> Time {
    let millis = |millis: u32| Duration::from_millis(millis.into());
    let spread = go_away.latest_ms.saturating_sub(go_away.earliest_ms);
    now + millis(go_away.earliest_ms) + uniform_up_to(millis(spread), rng)
}
