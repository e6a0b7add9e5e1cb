//! What a Welcome gave, and what the client knows of the session's numbers. It outlives connections. (SPEC section 24)

use core::time::Duration;
use std::collections::VecDeque;

use crate::Time;
pub use crate::end::Ledgers;
use crate::queue::Outbox;

use super::super::items::Ledger;
use super::super::packets::Settings;
use super::super::progress::{Progress, Ring};
use super::opening::Resumable;

impl Ledgers {
    /// Returns the accounts before there is a session: nothing was sent.
    pub(super) fn unsent(outbox: &Outbox) -> Self {
        Ledgers {
            up: Ledger {
                numbered: outbox.end(),
                open_unsent: outbox.end(),
                ..Ledger::default()
            },
            down: Ledger::default(),
        }
    }
}

/// Returns the ring that a Welcome names.
pub(super) fn ring_of(settings: &Settings) -> Ring {
    Ring {
        packets: settings.ring_packets,
        bytes: settings.ring_bytes,
    }
}

#[derive(Debug)]
pub(super) struct Seat {
    pub(super) resumable: Resumable,
    pub(super) settings: Settings,
    pub(super) progress: Progress,
    pub(super) holes: Holes,
    /// When the last record was opened.
    pub(super) heard: Time,
    /// Whether the edge has said anything but that the session did not begin.
    pub(super) has_begun: bool,
    /// Whether a record of the session was opened, whatever was in it.
    pub(super) has_opened: bool,
    /// Whether none was, and no packet of the session was sent, before this attempt.
    pub(super) is_untried: bool,
    /// The highest number up that the edge has told as acknowledged with its last word.
    pub(super) told_up: u64,
    /// The edge's account of the packets down, of its last word.
    pub(super) told_down: Ledger,
    pub(super) skipped: u64,
    pub(super) rtt: Option<Duration>,
}

impl Seat {
    pub(super) fn new(settings: Settings, resumable: Resumable, now: Time) -> Self {
        Seat {
            resumable,
            progress: Progress::new(ring_of(&settings)),
            settings,
            holes: Holes::default(),
            heard: now,
            has_begun: false,
            has_opened: false,
            is_untried: false,
            told_up: 0,
            told_down: Ledger::default(),
            skipped: 0,
            rtt: None,
        }
    }

    /// The application has taken packet `number` and all before it.
    pub(super) fn take(&mut self, number: u64) {
        let number = number.min(self.progress.received());
        if number > self.progress.taken() {
            let taken = self.holes.up_to(number);
            self.progress.take(taken);
        }
    }

    /// Numbers from `first` up to what was received have no packet. They are taken with the packets around them (SPEC 24.3(b)).
    pub(super) fn pass_hole(&mut self, hole: Hole, first: u64) {
        let last = self.progress.received();
        self.holes.count(hole, first, last);
        if self.progress.taken().saturating_add(1) >= first {
            self.progress.take(last);
        } else {
            self.holes.add(hole, first, last);
        }
    }

    /// Returns the time without a record after which the session is over. (SPEC 23.4(h))
    pub(super) fn window(&self) -> Duration {
        Duration::from_secs(self.settings.window_secs.into())
    }

    pub(super) fn ledgers(&self, outbox: &Outbox) -> Ledgers {
        Ledgers {
            up: self.up(outbox),
            down: self.down(),
        }
    }

    fn up(&self, outbox: &Outbox) -> Ledger {
        let up = self.progress.of_sender(outbox);
        let sent = up.acknowledged.saturating_add(up.open_sent);
        let acknowledged = up.acknowledged.max(self.told_up.min(sent));
        Ledger {
            acknowledged,
            open_sent: sent.saturating_sub(acknowledged),
            ..up
        }
    }

    /// Returns what this end has received, and what the edge has told beyond that.
    fn down(&self) -> Ledger {
        let own = self.progress.of_receiver();
        let numbered = own.numbered.max(self.told_down.numbered);
        let beyond = numbered.saturating_sub(own.numbered);
        let open_unsent = beyond.min(self.told_down.open_unsent);
        let sent_beyond = beyond.saturating_sub(open_unsent);
        // Holes that were not taken are counted as holes.
        let untaken = own.open_sent.saturating_sub(self.holes.untaken());
        let (gapped, superseded) = (self.holes.gapped, self.holes.superseded);
        let open_sent = untaken.saturating_add(sent_beyond);
        let others = [gapped, superseded, open_sent, open_unsent];
        let others = others.into_iter().fold(0, u64::saturating_add);
        Ledger {
            numbered,
            acknowledged: numbered.saturating_sub(others),
            superseded,
            gapped,
            open_sent,
            open_unsent,
            skipped: self.skipped.max(self.told_down.skipped),
        }
    }
}

/// Why numbers have no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hole {
    Gap,
    Superseded,
}

/// Numbers down without a packet.
#[derive(Debug, Default)]
pub(super) struct Holes {
    /// Those that were received and not taken, as runs of numbers. There is a packet that was not taken before each of them, so the ring
    /// bounds them.
    runs: VecDeque<(Hole, u64, u64)>,
    pub(super) gapped: u64,
    pub(super) superseded: u64,
}

impl Holes {
    fn count(&mut self, hole: Hole, first: u64, last: u64) {
        let counted = match hole {
            Hole::Gap => &mut self.gapped,
            Hole::Superseded => &mut self.superseded,
        };
        *counted = counted.saturating_add(length_of(first, last));
    }

    fn add(&mut self, hole: Hole, first: u64, last: u64) {
        match self.runs.back_mut() {
            Some((kind, _, end)) if *kind == hole && end.saturating_add(1) == first => *end = last,
            _ => self.runs.push_back((hole, first, last)),
        }
    }

    /// Returns what is taken if the application has taken `number`: the run after it as well.
    fn up_to(&mut self, number: u64) -> u64 {
        let mut taken = number;
        while let Some((_, first, last)) = self.runs.front().copied()
            && first <= taken.saturating_add(1)
        {
            taken = taken.max(last);
            self.runs.pop_front();
        }
        taken
    }

    /// Returns how many numbers without a packet were received and not taken.
    pub(super) fn untaken(&self) -> u64 {
        let lengths = self
            .runs
            .iter()
            .map(|(_, first, last)| length_of(*first, *last));
        lengths.fold(0, u64::saturating_add)
    }

    /// Returns how many of those that were taken were given up, and how many superseded.
    pub(super) fn taken(&self) -> (u64, u64) {
        let (mut gapped, mut superseded) = (self.gapped, self.superseded);
        for (hole, first, last) in &self.runs {
            let counted = match hole {
                Hole::Gap => &mut gapped,
                Hole::Superseded => &mut superseded,
            };
            *counted = counted.saturating_sub(length_of(*first, *last));
        }
        (gapped, superseded)
    }

    /// The numbers that were taken in another process. (SPEC 46.1(d))
    pub(super) fn after(gapped: u64, superseded: u64) -> Self {
        Holes {
            gapped,
            superseded,
            ..Holes::default()
        }
    }
}

fn length_of(first: u64, last: u64) -> u64 {
    last.saturating_sub(first).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_taken_with_the_packets_around_them() {
        let mut holes = Holes::default();
        // 1 packet, 2..4 hole, 5 packet, 6 hole, 7 hole, 8 packet.
        for (hole, first, last) in [
            (Hole::Gap, 2, 4),
            (Hole::Superseded, 6, 6),
            (Hole::Gap, 7, 7),
        ] {
            holes.count(hole, first, last);
            holes.add(hole, first, last);
        }
        assert_eq!(holes.taken(), (0, 0));
        assert_eq!(holes.untaken(), 5);
        assert_eq!(holes.up_to(1), 4);
        assert_eq!(holes.untaken(), 2);
        assert_eq!(holes.up_to(5), 7);
        assert_eq!((holes.up_to(8), holes.untaken()), (8, 0));
        assert_eq!(holes.taken(), (4, 1));
        // A later packet takes the holes before it, too.
        holes.add(Hole::Gap, 10, 12);
        assert_eq!((holes.up_to(13), holes.untaken()), (13, 0));
    }
}
