//! An established connection of a client: acknowledgements, keep-alive, GOAWAY and goodbye. (SPEC 24.3(d), 25)
#![allow(clippy::arithmetic_side_effects, reason = "a time saturates")]

use core::time::Duration;

use crate::Time;
use crate::backoff::uniform_up_to;
use crate::draws::Draws;
use crate::queue::Outbox;

use super::super::channel::Channel;
use super::super::code::Code;
use super::super::items::{Close, GoAway, Ledger};
use super::super::packets::Settings;
use super::super::timing::{Delays, Due};
use super::seat::Seat;
use super::terms::Resumption;

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
    pub(super) delays: Delays,
    /// The PING that was sent last, and when.
    pub(super) question: Option<(Time, [u8; 8])>,
    pub(super) goodbye: Goodbye,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goodbye {
    No,
    Due,
    Said,
}

impl Open {
    pub(super) fn new(
        mut channel: Channel,
        settings: &Settings,
        now: Time,
        rng: &mut Draws,
    ) -> Self {
        channel.timing().heard(now);
        let ack = Duration::from_millis(settings.ack_delay_ms.into());
        let keep_alive = Duration::from_secs(settings.keep_alive_secs.into());
        Open {
            channel,
            is_lent: false,
            resumption: None,
            replay_until: None,
            is_fresh: false,
            delays: Delays::of_client(ack, keep_alive, rng),
            question: None,
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

    /// Sends a PING. (SPEC 25.1)
    pub(super) fn ask(&mut self, now: Time) {
        let question = now.as_nanos().to_le_bytes();
        self.question = Some((now, question));
        self.channel.timing().pinged();
        self.channel.outbound().ping(question);
    }

    /// Handles that there may be something to acknowledge.
    pub(super) fn count_due(&mut self, now: Time, seat: &Seat) {
        self.channel.timing().count(now, seat.progress.due());
    }

    /// Returns what is due next, and when. (SPEC 24.3(d), 25.1)
    pub(super) fn next_due(&self, seat: &Seat) -> Option<(Time, Due)> {
        self.channel.next_due(seat.progress.due(), &self.delays)
    }
}

/// Draws when a client leaves that was asked to. (SPEC 25.3(a))
pub(super) fn leaves_at(now: Time, go_away: &GoAway, rng: &mut Draws) -> Time {
    let millis = |millis: u32| Duration::from_millis(millis.into());
    let spread = go_away.latest_ms.saturating_sub(go_away.earliest_ms);
    now + millis(go_away.earliest_ms) + uniform_up_to(millis(spread), rng)
}
