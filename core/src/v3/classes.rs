//! Packets down that are not ordinary, as their sender keeps them: LATEST and VOLATILE, and those that were given up. (SPEC 24.4, 24.6)
//!
//! Both are kept beside the session's outbox. A LATEST has a number, so an empty packet holds its place there, and its bytes are here, where
//! a newer one replaces them. A VOLATILE has none, and waits behind the number that the outbox ended with when it came. Of a packet that was
//! given up, the place in the outbox stays, empty.

use core::fmt;
use std::collections::VecDeque;

use crate::queue::{Amount, Walk};

#[cfg(feature = "edge")]
mod saved;

/// What goes out next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the protocol has no others")]
pub enum Upcoming<'a> {
    /// An ordinary packet.
    Packet(&'a [u8]),
    /// A LATEST of this key.
    Latest(u8, &'a [u8]),
    /// A VOLATILE.
    Volatile(&'a [u8]),
    /// This many numbers, whose packets a newer one took the place of.
    Superseded(u64),
    /// So many numbers, whose packets were given up, and their bytes as far as they are known.
    Gap(u64, u64),
}

/// What the numbers of a run are, if they are not ordinary packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    first: u64,
    last: u64,
    kind: Kind,
}

image!(Mark { first, last, kind });

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The newest packet of its key. The run is this number alone.
    Latest(u8),
    Superseded,
    /// Given up: their bytes, or 0 if these are not known, and whether the backend was told.
    Gapped {
        bytes: u64,
        is_told: bool,
    },
}

image!(enum Kind { 0 Latest { 0: a }, 1 Superseded {}, 2 Gapped { bytes: a, is_told: b } });

impl Mark {
    /// Returns whether its numbers have no packet any more.
    fn is_hole(&self) -> bool {
        !matches!(self.kind, Kind::Latest(_))
    }

    /// Takes the one behind it in, if both are neighbouring runs of the same kind.
    fn takes_in(&mut self, next: &Mark) -> bool {
        let kind = match (self.kind, next.kind) {
            (Kind::Superseded, Kind::Superseded) => Kind::Superseded,
            (
                Kind::Gapped { bytes, is_told },
                Kind::Gapped {
                    bytes: more,
                    is_told: too,
                },
            ) if is_told == too => Kind::Gapped {
                bytes: bytes.saturating_add(more),
                is_told,
            },
            _ => return false,
        };
        let are_neighbours = self.last.saturating_add(1) == next.first;
        if are_neighbours {
            (self.last, self.kind) = (next.last, kind);
        }
        are_neighbours
    }
}

/// Numbers that were given up (SPEC 24.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "GAP has no others")]
pub struct GivenUp {
    /// The first of them.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// The bytes of their packets, or 0 if these are not known any more.
    pub bytes: u64,
}

/// Numbers that were told as superseded or as a gap, and are not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    first: u64,
    last: u64,
    is_gap: bool,
}

image!(Told {
    first,
    last,
    is_gap
});

impl Told {
    fn count(&self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }
}

/// Numbers that were sent as packets, and that a later claim was without: they lie from `first` to `last`. One that was missed twice counts
/// twice.
#[derive(Clone, Copy, Default)]
struct Missed {
    first: u64,
    last: u64,
    packets: usize,
    bytes: usize,
}

image!(Missed {
    first,
    last,
    packets,
    bytes
});

impl Missed {
    fn add(&mut self, number: u64, length: usize) {
        self.first = match self.packets {
            0 => number,
            _ => self.first.min(number),
        };
        self.last = self.last.max(number);
        self.packets = self.packets.saturating_add(1);
        self.bytes = self.bytes.saturating_add(length);
    }
}

/// A LATEST, the newest packet of its key.
#[derive(Clone)]
struct Newest {
    /// `None`: the key was one of an earlier boot, so nothing takes its place.
    key: Option<u8>,
    number: u64,
    data: Vec<u8>,
}

image!(Newest { key, number, data });

/// A LATEST of which a piece was sealed on this connection.
#[derive(Clone)]
struct Begun {
    key: u8,
    number: u64,
    /// Its bytes, if a newer one came since.
    replaced: Option<Vec<u8>>,
}

image!(Begun {
    key,
    number,
    replaced
});

/// The packets of a session that are not ordinary, and what became of them.
#[derive(Clone, Default)]
pub struct Classes {
    /// What the numbers are that are not acknowledged, in order.
    marks: VecDeque<Mark>,
    /// One for each key of this boot at most, and those that wait from before.
    newest: Vec<Newest>,
    begun: Option<Begun>,
    /// VOLATILE packets, each with the number that goes before it.
    volatile: VecDeque<(u64, Vec<u8>)>,
    /// LATEST packets that were sent and are not acknowledged, with their lengths, and others of which that is true and that were given up.
    sent: VecDeque<(u64, usize)>,
    /// Runs that were told as superseded or as a gap and are not acknowledged.
    told: VecDeque<Told>,
    missed: Missed,
    /// Up to this number the client may have packets of which another holder of the session was told that there are none.
    doubted: u64,
    /// Numbers of such runs that were acknowledged.
    superseded: u64,
    gapped: u64,
    /// VOLATILE packets that were not sent, and those of them that the client was not told of.
    skipped: u64,
    untold: u64,
}

image!(Classes {
    marks,
    newest,
    begun,
    volatile,
    sent,
    told,
    missed,
    doubted,
    superseded,
    gapped,
    skipped,
    untold,
});

impl Classes {
    // ---- what comes

    /// Appends a LATEST under the number that its place in the outbox has. All up to `acked` are acknowledged.
    pub fn push_latest(&mut self, number: u64, key: u8, data: &[u8], acked: u64) {
        let found = self
            .newest
            .iter_mut()
            .find(|newest| newest.key == Some(key));
        let replaced = match found {
            None => {
                self.newest.push(Newest {
                    key: Some(key),
                    number,
                    data: data.to_vec(),
                });
                None
            }
            Some(newest) => {
                let old = core::mem::replace(&mut newest.number, number);
                match self.begun.as_mut().filter(|begun| begun.number == old) {
                    // It is sent to its end on this connection (SPEC 21.5(d)).
                    Some(begun) => {
                        begun.replaced = Some(core::mem::replace(&mut newest.data, data.to_vec()));
                    }
                    None => {
                        newest.data.clear();
                        newest.data.extend_from_slice(data);
                    }
                }
                Some(old).filter(|old| *old > acked)
            }
        };
        if let Some(old) = replaced {
            self.supersede(old);
        }
        self.marks.push_back(Mark {
            first: number,
            last: number,
            kind: Kind::Latest(key),
        });
    }

    /// Appends a VOLATILE behind number `after`.
    pub fn push_volatile(&mut self, after: u64, data: &[u8]) {
        self.volatile.push_back((after, data.to_vec()));
    }

    /// Counts a VOLATILE that is not sent.
    pub fn skip(&mut self, count: u64) {
        self.skipped = self.skipped.saturating_add(count);
        self.untold = self.untold.saturating_add(count);
    }

    /// Another boot of the backend gives its keys out anew: nothing takes the place of what came before. (SPEC 36.1)
    #[cfg(feature = "edge")]
    pub(crate) fn forget_keys(&mut self) {
        self.newest.iter_mut().for_each(|newest| newest.key = None);
    }

    /// Makes the LATEST with this number a part of a run.
    fn supersede(&mut self, number: u64) {
        let at = self.marks.partition_point(|mark| mark.last < number);
        let Some(mark) = self.marks.get_mut(at) else {
            return;
        };
        mark.kind = Kind::Superseded;
        self.join(at);
        if let Some(before) = at.checked_sub(1) {
            self.join(before);
        }
    }

    /// Joins the mark at this index with the one after it, if both are neighbouring runs.
    fn join(&mut self, at: usize) {
        let behind = at.saturating_add(1);
        if let Some(next) = self.marks.get(behind).copied()
            && let Some(mark) = self.marks.get_mut(at)
            && mark.takes_in(&next)
        {
            self.marks.remove(behind);
        }
    }

    fn append(&mut self, mark: Mark) {
        if self
            .marks
            .back_mut()
            .is_none_or(|last| !last.takes_in(&mark))
        {
            self.marks.push_back(mark);
        }
    }

    // ---- what is given up

    /// Gives packets up, the first of them under number `first` or above, until at least this amount is gone or there are no
    /// more. Those up to `sent` were sent. `walk` is at `first` in the outbox. `is_told`: the backend is told at once.
    ///
    /// Returns what was given up, in runs with their places. (SPEC 24.4(c))
    pub fn give_up(
        &mut self,
        first: u64,
        sent: u64,
        amount: Amount,
        mut walk: Walk<'_>,
        is_told: bool,
    ) -> Vec<(GivenUp, usize)> {
        let at = self.marks.partition_point(|mark| mark.last < first);
        let mut rest = self.marks.split_off(at);
        let mut given_up: Vec<(GivenUp, usize)> = Vec::new();
        let mut number = first;
        let mut left = amount;
        while left != Amount::default() {
            let mark = rest.pop_front_if(|mark| mark.first <= number);
            if let Some(run) = mark.filter(Mark::is_hole) {
                let behind = run.last.saturating_add(1);
                let passed = behind.saturating_sub(number);
                walk.skip_empty(usize::try_from(passed).unwrap_or(usize::MAX));
                number = behind;
                self.append(run);
                continue;
            }
            let place = walk.place();
            let Some(mut length) = walk.next() else {
                rest.extend(mark);
                break;
            };
            if let Some(at) = self.newest.iter().position(|it| it.number == number) {
                length = self.newest.swap_remove(at).data.len();
            }
            left = left.minus(Amount {
                packets: 1,
                bytes: length,
            });
            // The client may have received it, and counts it until it is acknowledged.
            let place_in_sent = self.sent.partition_point(|(sent, _)| *sent < number);
            let is_known = self.sent.get(place_in_sent).map(|(sent, _)| *sent) == Some(number);
            if number <= sent && !is_known {
                self.sent.insert(place_in_sent, (number, length));
            }
            let length = length as u64;
            match given_up.last_mut() {
                Some((run, _)) if run.first.saturating_add(run.count) == number => {
                    run.count = run.count.saturating_add(1);
                    run.bytes = run.bytes.saturating_add(length);
                }
                _ => {
                    let run = GivenUp {
                        first: number,
                        count: 1,
                        bytes: length,
                    };
                    given_up.push((run, place));
                }
            }
            self.append(Mark {
                first: number,
                last: number,
                kind: Kind::Gapped {
                    bytes: length,
                    is_told,
                },
            });
            number = number.saturating_add(1);
        }
        rest.into_iter().for_each(|mark| self.append(mark));
        given_up
    }

    /// Returns the runs above `received` that were given up and of which the backend was not told, and counts them as told.
    pub fn take_untold_gaps(&mut self, received: u64) -> Vec<GivenUp> {
        self.split(received);
        let mut gaps = Vec::new();
        for mark in &mut self.marks {
            if mark.first > received
                && let Kind::Gapped { bytes, is_told } = &mut mark.kind
                && !*is_told
            {
                *is_told = true;
                gaps.push(GivenUp {
                    first: mark.first,
                    count: mark.last.saturating_sub(mark.first).saturating_add(1),
                    bytes: *bytes,
                });
            }
        }
        gaps
    }

    /// Cuts a run of packets that were given up behind this number. How many bytes either part had is not known.
    fn split(&mut self, number: u64) {
        let at = self.marks.partition_point(|mark| mark.last <= number);
        let Some(mark) = self.marks.get_mut(at).filter(|mark| mark.first <= number) else {
            return;
        };
        let Kind::Gapped { bytes, .. } = &mut mark.kind else {
            return;
        };
        *bytes = 0;
        let mut behind = *mark;
        mark.last = number;
        behind.first = number.saturating_add(1);
        self.marks.insert(at.saturating_add(1), behind);
    }

    /// Returns how many numbers above `number` were given up.
    #[must_use]
    pub fn given_up_above(&self, number: u64) -> u64 {
        self.holes_above(number, |kind| matches!(kind, Kind::Gapped { .. }))
    }

    // ---- what goes

    /// Returns what goes out in place of the ordinary packet `number`, if that is not the next.
    #[must_use]
    pub fn upcoming(&self, number: u64) -> Option<Upcoming<'_>> {
        if let Some(Begun {
            key,
            number,
            replaced,
        }) = &self.begun
        {
            let data = match replaced {
                Some(data) => data,
                None => &self.of_number(*number)?.data,
            };
            return Some(Upcoming::Latest(*key, data));
        }
        if let Some((after, data)) = self.volatile.front()
            && *after < number
        {
            return Some(Upcoming::Volatile(data));
        }
        let at = self.marks.partition_point(|mark| mark.last < number);
        let mark = self.marks.get(at).filter(|mark| mark.first <= number)?;
        Some(match mark.kind {
            Kind::Latest(key) => Upcoming::Latest(key, &self.of_number(mark.first)?.data),
            Kind::Superseded => {
                let before = number.saturating_sub(1);
                Upcoming::Superseded(mark.last.saturating_sub(before))
            }
            Kind::Gapped { bytes, .. } => {
                let before = number.saturating_sub(1);
                let is_whole = mark.first == number;
                let count = mark.last.saturating_sub(before);
                Upcoming::Gap(count, if is_whole { bytes } else { 0 })
            }
        })
    }

    fn of_number(&self, number: u64) -> Option<&Newest> {
        self.newest.iter().find(|newest| newest.number == number)
    }

    /// Handles that a piece of the LATEST `number` of this key was sealed, which is not its last.
    pub fn begin(&mut self, number: u64, key: u8) {
        self.begun.get_or_insert(Begun {
            key,
            number,
            replaced: None,
        });
    }

    /// Handles that the LATEST `number`, of `length` bytes, was sealed to its end.
    pub fn finish_latest(&mut self, number: u64, length: usize) {
        self.begun = None;
        self.sent.push_back((number, length));
    }

    /// Handles that the first VOLATILE was sealed to its end.
    pub fn finish_volatile(&mut self) {
        self.volatile.pop_front();
    }

    /// Handles that these numbers were told as superseded, or as a gap.
    pub fn tell(&mut self, first: u64, last: u64, is_gap: bool) {
        self.told.push_back(Told {
            first,
            last,
            is_gap,
        });
    }

    /// Returns the number of VOLATILE packets that the client is to be told of, and counts them as told.
    pub fn take_skipped(&mut self) -> u64 {
        core::mem::take(&mut self.untold)
    }

    // ---- what stays

    /// Handles that all up to `until` are acknowledged.
    pub fn acknowledge(&mut self, until: u64) {
        while let Some(mark) = self.marks.front_mut()
            && mark.first <= until
        {
            if mark.last > until {
                mark.first = until.saturating_add(1);
                break;
            }
            self.marks.pop_front();
        }
        self.newest.retain(|newest| newest.number > until);
        while self
            .sent
            .front()
            .is_some_and(|(number, _)| *number <= until)
        {
            self.sent.pop_front();
        }
        while let Some(told) = self.told.front_mut()
            && told.first <= until
        {
            let last = told.last.min(until);
            let gone = Told { last, ..*told }.count();
            let counter = match told.is_gap {
                true => &mut self.gapped,
                false => &mut self.superseded,
            };
            *counter = counter.saturating_add(gone);
            if told.last > until {
                told.first = until.saturating_add(1);
                break;
            }
            self.told.pop_front();
        }
        if until >= self.missed.last {
            self.missed = Missed::default();
        }
    }

    /// Handles that the connection is gone. What has no number goes with it.
    pub fn lose(&mut self) {
        self.begun = None;
        self.skip(self.volatile.len() as u64);
        self.volatile = VecDeque::new();
    }

    /// Handles that all after `received` is to be sent again.
    pub fn resume_from(&mut self, received: u64) {
        self.lose();
        while let Some((number, length)) = self.sent.pop_back_if(|(number, _)| *number > received) {
            self.missed.add(number, length);
        }
        let has_missed = received >= self.missed.first;
        self.doubted = if has_missed {
            self.missed.last.min(received)
        } else {
            0
        };
        while let Some(told) = self.told.back_mut()
            && told.last > received
        {
            if told.first <= received {
                told.last = received;
                break;
            }
            self.told.pop_back();
        }
    }

    /// Returns how much the client may have beside what the edge knows of. All up to `acked` is acknowledged. (SPEC 24.6(g))
    #[must_use]
    pub fn in_doubt(&self, acked: u64) -> Amount {
        match acked < self.doubted {
            true => Amount {
                packets: self.missed.packets,
                bytes: self.missed.bytes,
            },
            false => Amount::default(),
        }
    }

    // ---- the account

    /// Returns how many numbers that are not acknowledged were told as superseded or as a gap.
    #[must_use]
    pub fn told(&self) -> u64 {
        let counts = self.told.iter().map(Told::count);
        counts.fold(0, u64::saturating_add)
    }

    fn told_as(&self, is_gap: bool) -> u64 {
        let told = self.told.iter().filter(|told| told.is_gap == is_gap);
        told.map(Told::count).fold(0, u64::saturating_add)
    }

    /// Returns how many numbers were told as superseded in all.
    #[must_use]
    pub fn superseded(&self) -> u64 {
        self.superseded.saturating_add(self.told_as(false))
    }

    /// Returns how many numbers were told as a gap in all.
    #[must_use]
    pub fn gapped(&self) -> u64 {
        self.gapped.saturating_add(self.told_as(true))
    }

    /// Returns how many of both are acknowledged.
    #[must_use]
    pub fn told_and_acknowledged(&self) -> u64 {
        self.superseded.saturating_add(self.gapped)
    }

    /// Returns how many VOLATILE packets were not sent.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Returns the bytes of packets that were sent and are not acknowledged and whose places in the outbox are empty.
    #[must_use]
    pub fn sent_bytes(&self) -> usize {
        self.sent.iter().map(|(_, length)| length).sum()
    }

    /// Returns how many numbers above `number` have no packet any more: a newer one took its place, or it was given up.
    #[must_use]
    pub fn empty_above(&self, number: u64) -> u64 {
        self.holes_above(number, |kind| !matches!(kind, Kind::Latest(_)))
    }

    fn holes_above(&self, number: u64, counts: impl Fn(Kind) -> bool) -> u64 {
        let runs = self.marks.iter().rev();
        runs.take_while(|mark| mark.last > number)
            .filter(|mark| counts(mark.kind))
            .map(|mark| {
                let before = mark.first.saturating_sub(1).max(number);
                mark.last.saturating_sub(before)
            })
            .fold(0, u64::saturating_add)
    }

    /// Returns how much waits beside ordinary packets: VOLATILE packets, and the bytes of LATEST ones above `number`, whose places are in
    /// the outbox.
    #[must_use]
    pub fn waiting_above(&self, number: u64) -> Amount {
        let of_latest = self.newest.iter().filter(|newest| newest.number > number);
        let latest: usize = of_latest.map(|newest| newest.data.len()).sum();
        let volatile: usize = self.volatile.iter().map(|(_, data)| data.len()).sum();
        Amount {
            packets: self.volatile.len(),
            bytes: latest.saturating_add(volatile),
        }
    }

    /// Returns the length of the packet of this key that a newer one would take the place of, if that is above `number`.
    #[must_use]
    pub fn replaceable(&self, key: u8, number: u64) -> Option<usize> {
        let mut newest = self.newest.iter();
        let newest = newest.find(|newest| newest.key == Some(key) && newest.number > number)?;
        let is_begun = self
            .begun
            .as_ref()
            .is_some_and(|begun| begun.number == newest.number);
        (!is_begun).then_some(newest.data.len())
    }

    /// Returns whether it is as it was in the beginning.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        let has_none = self.marks.is_empty()
            && self.newest.is_empty()
            && self.begun.is_none()
            && self.volatile.is_empty()
            && self.sent.is_empty()
            && self.told.is_empty();
        let counts = [
            self.missed.packets as u64,
            self.doubted,
            self.superseded,
            self.gapped,
            self.skipped,
            self.untold,
        ];
        has_none && counts == [0; 6]
    }

    /// Returns an estimate of its memory in bytes.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let waiting = self.waiting_above(0).bytes;
        let replaced = self
            .begun
            .as_ref()
            .and_then(|begun| begun.replaced.as_ref());
        let marks = self.marks.len().saturating_mul(size_of::<Mark>());
        waiting
            .saturating_add(replaced.map_or(0, Vec::len))
            .saturating_add(marks)
    }
}

impl fmt::Debug for Classes {
    /// Shows only numbers: the bytes are a user's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Classes")
            .field("marks", &self.marks)
            .field("volatile", &self.volatile.len())
            .field("told", &self.told)
            .field("superseded", &self.superseded)
            .field("gapped", &self.gapped)
            .field("skipped", &self.skipped)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
