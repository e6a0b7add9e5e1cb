//! What comes on a connection of a client, and what is told of it. (SPEC 24, 25.4)

use crate::Time;
use crate::draws::Draws;
use crate::queue::Outbox;

use super::super::channel::{Arrival, CloseDetails, Delivery};
use super::super::code::Code;
use super::super::items::Ledger;
use super::leave::Leave;
use super::open::{Goodbye, Open, leaves_at};
use super::seat::{Hole, Seat};
use super::terms::{Gap, Told, Trust};

/// What a step led to.
pub(super) enum Stepped {
    Told(Told<'static>),
    /// The channel lends a packet.
    Packet {
        number: u64,
    },
}

impl Seat {
    /// Handles what has come. Returns what is to be told of it.
    pub(super) fn handle(
        &mut self,
        now: Time,
        open: &mut Open,
        arrival: Arrival,
        trust: &Trust,
        outbox: &Outbox,
        rng: &mut Draws,
    ) -> Option<Stepped> {
        let is_first = !core::mem::replace(&mut self.has_begun, true) && outbox.acked() == 0;
        match arrival {
            Arrival::Packet { delivery, number } => {
                open.is_lent = true;
                let number = match delivery {
                    Delivery::Volatile => 0,
                    Delivery::Reliable | Delivery::Latest(_) => number,
                };
                return Some(Stepped::Packet { number });
            }
            Arrival::Closed { code: Code::BUSY } if is_first => {
                let CloseDetails {
                    wait_ms, jitter_ms, ..
                } = open.channel.close_details();
                return Some(Stepped::Told(Told::Leaves(Leave::NotBegun {
                    code: Code::BUSY,
                    wait_ms,
                    jitter_ms,
                })));
            }
            Arrival::Closed { code } => {
                let text = String::from_utf8_lossy(open.channel.data()).into_owned();
                let has_said = open.goodbye == Goodbye::Said;
                let leave =
                    self.closed(code, &open.channel.close_details(), &text, has_said, trust);
                return Some(Stepped::Told(Told::Leaves(leave)));
            }
            _ => {}
        }
        open.channel.accept(&mut self.progress);
        let told = match arrival {
            Arrival::Gap {
                number: first,
                count,
                bytes,
                reason,
            } => {
                self.pass_hole(Hole::Gap, first);
                Some(Told::Gap(Gap {
                    first,
                    count,
                    bytes,
                    reason,
                }))
            }
            Arrival::Superseded { number: first, .. } => {
                self.pass_hole(Hole::Superseded, first);
                None
            }
            Arrival::Skipped { count } => {
                self.skipped = self.skipped.saturating_add(count);
                Some(Told::Skipped { count })
            }
            Arrival::GoAway(go_away) => {
                // One that has said goodbye leaves anyway.
                if open.goodbye == Goodbye::No {
                    let at = leaves_at(now, &go_away, rng);
                    open.channel.leave(at, go_away.code);
                }
                None
            }
            Arrival::Resumed(_)
            | Arrival::Packet { .. }
            | Arrival::Closed { .. }
            | Arrival::Token => None,
        };
        open.count_due(now, self);
        told.map(Stepped::Told)
    }

    /// Handles a CLOSE.
    pub(super) fn closed(
        &mut self,
        code: Code,
        words: &CloseDetails,
        text: &str,
        has_said: bool,
        trust: &Trust,
    ) -> Leave {
        let CloseDetails {
            wait_ms,
            jitter_ms,
            detail,
            ..
        } = *words;
        self.hear_ledgers(&words.up, &words.down);
        match code {
            Code::TAKEN_OVER if detail <= self.resumable.used() => Leave::by_pause(code),
            Code::TAKEN_OVER if trust.takes_over => {
                self.resumable.go_on_after(detail);
                Leave::at_once(code)
            }
            Code::TAKEN_OVER => Leave::conflict(),
            Code::GOODBYE if !has_said => Leave::over(code, "the edge ended the session"),
            code => Leave::by_class(code, wait_ms, jitter_ms, text),
        }
    }

    /// Takes what the edge's last word says of the packets.
    fn hear_ledgers(&mut self, up: &Ledger, down: &Ledger) {
        if up.is_balanced() && down.is_balanced() {
            self.told_up = self.told_up.max(up.acknowledged);
            self.told_down = *down;
        } else {
            let id = self.resumable.id().as_u64();
            tracing::warn!(id, "the edge's ledger does not add up");
        }
    }
}
