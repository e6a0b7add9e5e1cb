//! What becomes of the packets down of a session: of each number, and of VOLATILE packets, as SPEC 24.4 and 24.6 say.

use std::collections::BTreeMap;

/// What became of a number, as one end knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fate {
    #[default]
    Open,
    Packet,
    Superseded,
    Gapped,
}

impl Fate {
    fn is_hole(self) -> bool {
        matches!(self, Fate::Superseded | Fate::Gapped)
    }
}

/// A number.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// The key of a LATEST.
    key: Option<u8>,
    /// As it was sealed last, and as it came to the client.
    sealed: Fate,
    came: Fate,
}

/// What became of the packets down of a session.
#[derive(Clone, Debug, Default)]
pub(super) struct Fates {
    entries: Vec<Entry>,
    /// The newest number of each key.
    newest: BTreeMap<u8, u64>,
    /// Whether a number was told as superseded or as a gap.
    has_holes: bool,
    /// Whether packets may be given up where there is no room, and whether there ever was none.
    pub(super) gives_up: bool,
    pub(super) was_full: bool,
    /// VOLATILE packets that were handed to the edge, that it has sealed, and that it has told as not sent.
    volatile: u64,
    sealed: u64,
    skipped: u64,
    /// The place of the last one that was sealed, and of the last one that came, from 1.
    last_sealed: u64,
    last_came: u64,
}

impl Fates {
    /// A number was handed to the edge.
    pub(super) fn numbered(&mut self, key: Option<u8>) {
        self.entries.push(Entry {
            key,
            ..Entry::default()
        });
        if let Some(key) = key {
            self.newest.insert(key, self.entries.len() as u64);
        }
    }

    /// A VOLATILE was handed to the edge.
    pub(super) fn handed_volatile(&mut self) {
        self.volatile += 1;
    }

    fn get(&self, number: u64) -> Option<&Entry> {
        self.entries.get(number.checked_sub(1)? as usize)
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut Entry> {
        self.entries.get_mut(number.checked_sub(1)? as usize)
    }

    /// Returns the newest number of the key of a number. `None`: it is an ordinary packet.
    fn newest_of(&self, number: u64) -> Option<u64> {
        let key = self.get(number)?.key?;
        self.newest.get(&key).copied()
    }

    /// The edge has sealed a packet with this number, and the key of a LATEST. One that was superseded when the connection began is not sent,
    /// nor one that was told as a hole. But a connection in whose place another one is may still write what it had made before.
    pub(super) fn sealed_packet(
        &mut self,
        number: u64,
        key: Option<u8>,
        superseded_before: bool,
        is_displaced: bool,
    ) -> Result<(), String> {
        let Some(entry) = self.get_mut(number) else {
            return Ok(());
        };
        if entry.key != key {
            let known = entry.key;
            return Err(format!(
                "number {number} has key {known:?}, sent as {key:?}"
            ));
        }
        if superseded_before {
            return Err(format!(
                "number {number} was superseded before the connection began, and is sent"
            ));
        }
        if !entry.sealed.is_hole() {
            entry.sealed = Fate::Packet;
        } else if !is_displaced {
            let told = entry.sealed;
            return Err(format!("number {number} was told as {told:?}, and is sent"));
        }
        Ok(())
    }

    /// The edge has told these numbers as superseded.
    pub(super) fn sealed_superseded(&mut self, first: u64, count: u64) -> Result<(), String> {
        for number in first..first + count {
            if self.newest_of(number).is_none_or(|newest| newest <= number) {
                return Err(format!("nothing is newer than number {number}"));
            }
            if let Some(entry) = self.get_mut(number) {
                entry.sealed = Fate::Superseded;
            }
        }
        self.has_holes = true;
        Ok(())
    }

    /// The edge has told these numbers as a gap for want of room.
    pub(super) fn sealed_gap(&mut self, first: u64, count: u64) -> Result<(), String> {
        if !self.gives_up || !self.was_full {
            return Err(format!("a gap of {count} from number {first} on"));
        }
        self.has_holes = true;
        for number in first..first + count {
            match self.get_mut(number) {
                Some(entry) => entry.sealed = Fate::Gapped,
                None => return Err(format!("number {number} is a gap, and is none yet")),
            }
        }
        Ok(())
    }

    /// The edge has sealed the VOLATILE at this place, from 0.
    pub(super) fn sealed_volatile(&mut self, place: u64) -> Result<(), String> {
        let is_next = place < self.volatile && place >= self.last_sealed;
        // SKIPPED counts also those behind it that had no room. What was sealed and is lost with its connection was not seen whole.
        if !is_next || self.sealed + self.skipped >= self.volatile {
            return Err(format!("VOLATILE {place} is sent: {self:?}"));
        }
        self.sealed += 1;
        self.last_sealed = place + 1;
        Ok(())
    }

    pub(super) fn has_volatile(&self) -> bool {
        self.volatile > 0
    }

    pub(super) fn sealed_skipped(&mut self, count: u64) {
        self.skipped += count;
    }

    /// Something that takes numbers has come to the client.
    pub(super) fn came(&mut self, first: u64, count: u64, fate: Fate) {
        for number in first..first + count {
            if let Some(entry) = self.get_mut(number) {
                entry.came = fate;
            }
        }
    }

    /// A VOLATILE has come to the application.
    pub(super) fn came_volatile(&mut self, place: u64) -> Result<(), String> {
        if place < self.last_came {
            return Err(format!("VOLATILE {place} comes again"));
        }
        self.last_came = place + 1;
        Ok(())
    }

    /// Returns the last number behind `number` that can be passed without a packet.
    pub(super) fn passed(&self, number: u64) -> u64 {
        let behind = self.entries.iter().skip(number as usize);
        number + behind.take_while(|entry| entry.came.is_hole()).count() as u64
    }

    /// Returns whether all numbers in between have no packet, and this one has.
    pub(super) fn follows(&self, before: u64, number: u64) -> bool {
        number > before
            && self.passed(before) + 1 >= number
            && self.get(number).is_some_and(|entry| !entry.came.is_hole())
    }

    /// Returns which of the numbers up to `until` have no packet: as they came, if the connection's client claims to have them, and
    /// otherwise as they were sealed last. Of two holders one may have a packet where the other one has none (SPEC 24.6(g)).
    pub(super) fn holes(&self, after: u64, until: u64, received: u64) -> Vec<u64> {
        let last = if self.has_holes { until } else { after };
        let numbers = after + 1..=last;
        numbers
            .filter(|number| {
                self.get(*number)
                    .is_some_and(|entry| match *number <= received {
                        true => entry.came.is_hole(),
                        false => entry.sealed.is_hole(),
                    })
            })
            .collect()
    }

    /// Returns how many numbers came to the client as superseded and as a gap.
    pub(super) fn told(&self) -> (u64, u64) {
        let count = |fate: Fate| {
            let like = self.entries.iter().filter(|entry| entry.came == fate);
            like.count() as u64
        };
        (count(Fate::Superseded), count(Fate::Gapped))
    }

    /// Returns how many numbers the edge may have told as superseded and as a gap.
    pub(super) fn most_told(&self) -> (u64, u64) {
        let all = self.entries.len() as u64;
        let gapped = if self.gives_up && self.was_full {
            all
        } else {
            0
        };
        (self.superseded().len() as u64, gapped)
    }

    /// Returns the numbers that were superseded already.
    pub(super) fn superseded(&self) -> Vec<u64> {
        let numbers = 1..=self.entries.len() as u64;
        numbers
            .filter(|number| {
                self.newest_of(*number)
                    .is_some_and(|newest| newest > *number)
            })
            .collect()
    }

    /// Checks that each number came in some way, and the last value of each key as a packet, or was given up.
    pub(super) fn all_came(&self) -> Result<(), String> {
        if let Some(place) = self.entries.iter().position(|it| it.came == Fate::Open) {
            return Err(format!("nothing came of number {}", place + 1));
        }
        let lost = self.newest.iter().find(|(_, number)| {
            self.get(**number)
                .is_some_and(|it| it.came == Fate::Superseded)
        });
        match lost {
            Some((key, number)) => Err(format!("the last value of key {key}, {number}, is lost")),
            None => Ok(()),
        }
    }
}
