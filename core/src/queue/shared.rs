//! Packets of which many outboxes have one copy.
#![cfg_attr(
    not(feature = "shared"),
    expect(dead_code, reason = "without the feature nothing is shared")
)]

use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::collections::VecDeque;
use std::sync::Arc;

use crate::wire::frame::{LENGTH_BYTES, length_of};

/// The shortest packet that is shared, in bytes. A shorter one is copied: an entry would cost about as much.
pub const SHORTEST_SHARED_BYTES: usize = 256;
/// What an outbox needs for a packet of which it has no copy of its own, in bytes: a place among its packets, and an entry with the number.
pub const SHARED_ENTRY_BYTES: usize = LENGTH_BYTES + size_of::<Entry>();

/// The bytes that a sum over outboxes counts more than once: a packet counts for each receiver, and is in memory once. Clones are the same
/// count. One machine changes it and reads it, so nothing is ordered by it.
#[derive(Clone, Debug, Default)]
pub struct CountedTwice(Arc<AtomicUsize>);

image!(CountedTwice { 0 });

impl CountedTwice {
    /// Returns the bytes.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A packet of which many outboxes have one copy. It is in memory until the last of them drops it.
#[derive(Clone)]
pub struct SharedPacket(Arc<Payload>);

image!(SharedPacket { 0 });

struct Payload {
    /// The packet with its length in front, as version 2 writes it.
    frame: Box<[u8]>,
    /// The entries that have it.
    entries: AtomicUsize,
    twice: CountedTwice,
}

image!(Payload {
    frame,
    entries,
    twice
});

impl SharedPacket {
    /// Makes one. `twice` is told what outboxes count of it beyond the one copy.
    ///
    /// # Panics
    /// If it is longer than a `u32` can express. Every limit on a packet is far below.
    #[must_use]
    pub fn new(packet: &[u8], twice: &CountedTwice) -> Self {
        let mut frame = Vec::with_capacity(LENGTH_BYTES + packet.len());
        frame.extend_from_slice(&length_of(packet.len()).to_le_bytes());
        frame.extend_from_slice(packet);
        SharedPacket(Arc::new(Payload {
            frame: frame.into_boxed_slice(),
            entries: AtomicUsize::new(0),
            twice: twice.clone(),
        }))
    }

    /// Returns the packet.
    #[must_use]
    pub fn packet(&self) -> &[u8] {
        self.0.frame.get(LENGTH_BYTES..).unwrap_or_default()
    }

    /// Returns the packet with its length in front.
    pub(super) fn frame(&self) -> &[u8] {
        &self.0.frame
    }
}

impl fmt::Debug for SharedPacket {
    /// Shows only numbers: the bytes are a user's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedPacket")
            .field("bytes", &self.packet().len())
            .finish_non_exhaustive()
    }
}

/// A packet in an outbox which has no copy of it.
struct Entry {
    number: u64,
    packet: SharedPacket,
}

image!(Entry { number, packet });

impl Entry {
    fn new(number: u64, packet: &SharedPacket) -> Self {
        let (packet, payload) = (packet.clone(), &*packet.0);
        if payload.entries.fetch_add(1, Ordering::Relaxed) > 0 {
            let bytes = payload.frame.len();
            payload.twice.0.fetch_add(bytes, Ordering::Relaxed);
        }
        Entry { number, packet }
    }
}

impl Clone for Entry {
    fn clone(&self) -> Self {
        Entry::new(self.number, &self.packet)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let payload = &*self.packet.0;
        if payload.entries.fetch_sub(1, Ordering::Relaxed) > 1 {
            let bytes = payload.frame.len();
            payload.twice.0.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

/// What an outbox has of packets of which it has no copy. Without the feature `shared` it takes no memory and there are none, which the
/// compiler knows.
#[derive(Clone, Default)]
pub(super) struct Beside(#[cfg(feature = "shared")] Option<Box<Shared>>);

#[cfg(feature = "shared")]
image!(Beside { 0 });
#[cfg(not(feature = "shared"))]
image!(Beside {});

#[cfg(feature = "shared")]
impl Beside {
    pub(super) const fn new() -> Self {
        Beside(None)
    }

    #[inline(always)]
    pub(super) const fn get(&self) -> Option<&Shared> {
        match &self.0 {
            Some(shared) => Some(shared),
            None => None,
        }
    }

    #[inline(always)]
    pub(super) fn get_mut(&mut self) -> Option<&mut Shared> {
        self.0.as_deref_mut()
    }

    /// Appends one, whose number is above all others.
    pub(super) fn push(&mut self, number: u64, packet: &SharedPacket) {
        self.0.get_or_insert_default().push(number, packet);
    }

    /// Frees its memory when there is none.
    pub(super) fn trim(&mut self) {
        self.0.take_if(|shared| shared.entries.is_empty());
    }
}

#[cfg(not(feature = "shared"))]
impl Beside {
    pub(super) const fn new() -> Self {
        Beside()
    }

    #[inline(always)]
    pub(super) const fn get(&self) -> Option<&Shared> {
        None
    }

    #[inline(always)]
    pub(super) fn get_mut(&mut self) -> Option<&mut Shared> {
        None
    }

    pub(super) fn push(&mut self, _: u64, _: &SharedPacket) {}

    pub(super) fn trim(&mut self) {}
}

/// The packets of an outbox of which it has no copy. In their places are empty ones.
#[derive(Clone, Default)]
pub(super) struct Shared {
    /// By number.
    entries: VecDeque<Entry>,
    /// The bytes of all of them, and of those that were sent and are kept.
    bytes: usize,
    kept_bytes: usize,
    /// How much of the first one was written, with its length, where packets are gone once they are written.
    pub(super) written: usize,
}

image!(Shared {
    entries,
    bytes,
    kept_bytes,
    written
});

impl fmt::Debug for Shared {
    /// Shows only numbers: the bytes are a user's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("entries", &self.entries.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Returns the bytes of all of them.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the bytes of those that were sent and are kept.
    pub(super) const fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// Returns the bytes of the entries.
    pub(super) fn entry_bytes(&self) -> usize {
        self.entries.len() * SHARED_ENTRY_BYTES
    }

    fn push(&mut self, number: u64, packet: &SharedPacket) {
        self.bytes += packet.packet().len();
        self.entries.push_back(Entry::new(number, packet));
    }

    /// Returns the first one above `number`, with its number.
    pub(super) fn next_above(&self, number: u64) -> Option<(u64, &SharedPacket)> {
        let at = self.entries.partition_point(|entry| entry.number <= number);
        let entry = self.entries.get(at)?;
        Some((entry.number, &entry.packet))
    }

    /// Returns the one with this number.
    pub(super) fn at(&self, number: u64) -> Option<&SharedPacket> {
        let next = self.next_above(number.checked_sub(1)?)?;
        (next.0 == number).then_some(next.1)
    }

    /// Handles that the one with this number, if there is one, was sent and is kept.
    pub(super) fn keep(&mut self, number: u64) {
        self.kept_bytes += self.at(number).map_or(0, |packet| packet.packet().len());
    }

    /// Drops all up to `number`, which were sent.
    pub(super) fn drop_until(&mut self, number: u64) {
        while let Some(entry) = self.entries.pop_front_if(|entry| entry.number <= number) {
            let bytes = entry.packet.packet().len();
            self.bytes -= bytes;
            self.kept_bytes = self.kept_bytes.saturating_sub(bytes);
        }
        self.written = 0;
    }

    /// Handles that all up to `number` were sent and are kept, and no more.
    pub(super) fn keep_until(&mut self, number: u64) {
        let kept = self.entries.iter().take_while(|one| one.number <= number);
        self.kept_bytes = kept.map(|one| one.packet.packet().len()).sum();
    }

    /// Drops `count` numbers from `first` on. Those up to `sent` were sent.
    pub(super) fn give_up(&mut self, first: u64, count: usize, sent: u64) {
        let behind = first.saturating_add(count as u64);
        self.entries
            .retain(|entry| entry.number < first || entry.number >= behind);
        self.bytes = self
            .entries
            .iter()
            .map(|one| one.packet.packet().len())
            .sum();
        self.keep_until(sent);
    }
}

#[cfg(any(test, feature = "testkit", feature = "upgrade"))]
impl Shared {
    /// Gives a copied outbox copies of its own. `copies` has those that were made, beside what they are copies of.
    pub(super) fn unshare(
        &mut self,
        twice: &CountedTwice,
        copies: &mut Vec<(SharedPacket, SharedPacket)>,
    ) {
        for entry in &mut self.entries {
            let of_entry = &entry.packet.0;
            let known = copies.iter().find(|(of, _)| Arc::ptr_eq(&of.0, of_entry));
            let copy = match known {
                Some((_, copy)) => copy.clone(),
                None => {
                    let copy = SharedPacket::new(entry.packet.packet(), twice);
                    copies.push((entry.packet.clone(), copy.clone()));
                    copy
                }
            };
            *entry = Entry::new(entry.number, &copy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "record")]
    #[test]
    fn an_image_has_one_copy_too() {
        use crate::image::{Image as _, Out, Taken};
        let twice = CountedTwice::default();
        let packet = SharedPacket::new(&[7; 1_000], &twice);
        let mut two = [Shared::default(), Shared::default()];
        two.iter_mut().for_each(|shared| shared.push(1, &packet));
        drop(packet);
        let mut out = Out::new(1_500);
        let machine = (two, twice);
        machine.put(&mut out);
        let image = out.finish().expect("one copy is short");
        let mut from = Taken::new(&image);
        let (mut again, counted) =
            <([Shared; 2], CountedTwice)>::take(&mut from).expect("it was written");
        assert!(from.is_empty());
        assert_eq!((counted.bytes(), machine.1.bytes()), (1_004, 1_004));
        again[0].drop_until(1);
        assert_eq!((counted.bytes(), machine.1.bytes()), (0, 1_004));
        let left = again[1].at(1).map(SharedPacket::packet);
        assert_eq!(left, Some(&[7; 1_000][..]));
    }

    #[test]
    fn one_copy_and_the_entries_are_what_is_counted() {
        const STORED: usize = LENGTH_BYTES + 1_000;
        let twice = CountedTwice::default();
        let packet = SharedPacket::new(&[7; 1_000], &twice);
        let mut outboxes = vec![Shared::default(); 10_000];
        for outbox in &mut outboxes {
            outbox.push(1, &packet);
            assert_eq!(outbox.entry_bytes(), SHARED_ENTRY_BYTES);
        }
        drop(packet);
        assert_eq!(twice.bytes(), 9_999 * STORED);
        let mut copies = outboxes.clone();
        assert_eq!(twice.bytes(), 19_999 * STORED);
        let (own, mut made) = (CountedTwice::default(), Vec::new());
        copies
            .iter_mut()
            .for_each(|copy| copy.unshare(&own, &mut made));
        assert_eq!(twice.bytes(), own.bytes());
        assert_eq!(twice.bytes(), 9_999 * STORED);
        for left in [2, 1, 0] {
            outboxes.truncate(left);
            assert_eq!(twice.bytes(), left.saturating_sub(1) * STORED);
        }
    }
}
