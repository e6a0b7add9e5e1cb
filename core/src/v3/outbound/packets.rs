//! The packets of a record, whole or in pieces, and what is told of those that are not sent. (SPEC 21, 24.4, 24.6)

use crate::queue::{Amount, Outbox};
use crate::wire::frame::LENGTH_BYTES;

use super::super::MAX_NUMBER;
use super::super::classes::{Classes, Upcoming};
use super::super::items::Item;
use super::super::progress::Progress;
use super::super::record::{MAX_ITEMS_BYTES, USUAL_ITEMS_BYTES};
use super::{GAP_NO_ROOM, MAX_PACKETS, Outbound};

/// The length of the longest header of a packet or a piece.
const MAX_HEADER_BYTES: usize = 10;
/// The length of the longest SUPERSEDED or GAP.
const MAX_HOLE_BYTES: usize = 21;
/// What a LATEST has beside a packet: its key, and a type in front of its length.
const LATEST_BYTES: usize = 2;
/// The same of a VOLATILE.
const VOLATILE_BYTES: usize = 1;

impl Outbound {
    /// Appends ordinary packets to the record that begins at `start`, as long as [`put_packet`](Self::put_packet) would do so. Returns how
    /// many. Most packets take this shorter way.
    pub(super) fn put_ordinary(
        &mut self,
        start: usize,
        outbox: &mut Outbox,
        progress: &mut Progress,
    ) -> usize {
        let sending = self.sending.get_or_insert_default();
        if sending.begun > 0 || progress.has_classes() {
            return 0;
        }
        let (mut count, mut stored_bytes) = (0_usize, 0_usize);
        let before = start.saturating_add(LENGTH_BYTES);
        let kept_before = outbox.own_kept();
        for packet in outbox.own_unsent_packets().take(MAX_PACKETS) {
            let used = sending.wire.len().saturating_sub(before);
            let needed = packet.len().saturating_add(header_bytes(packet.len()));
            let has_room = match count {
                0 => used.saturating_add(needed) <= MAX_ITEMS_BYTES,
                _ => used.saturating_add(needed) <= USUAL_ITEMS_BYTES,
            };
            let kept = kept_before.plus(Amount {
                packets: count,
                bytes: stored_bytes,
            });
            if !has_room || self.next > MAX_NUMBER || !progress.ring().has_room(kept, packet.len())
            {
                break;
            }
            Item::Packet(packet).encode(&mut sending.wire);
            self.next = self.next.saturating_add(1);
            count = count.saturating_add(1);
            stored_bytes = stored_bytes.saturating_add(Outbox::stored_bytes(packet.len()));
        }
        if count > 0 {
            outbox.own_advance_by(stored_bytes);
            progress.count_sent(outbox);
        }
        count
    }

    /// Appends what comes next, or a piece of it, to the record that begins at `start`. Returns false if it belongs into the next one.
    pub(super) fn put_packet(
        &mut self,
        start: usize,
        is_alone: bool,
        outbox: &mut Outbox,
        progress: &mut Progress,
    ) -> bool {
        self.put_skipped(outbox, progress);
        let Some(upcoming) = progress.upcoming(outbox) else {
            return false;
        };
        let used = self.used(start);
        let (packet, fields) = match upcoming {
            Upcoming::Packet(packet) => (packet, 0),
            Upcoming::Latest(_, packet) => (packet, LATEST_BYTES),
            Upcoming::Volatile(packet) => (packet, VOLATILE_BYTES),
            Upcoming::Superseded(_) | Upcoming::Gap(..)
                if !is_alone && used.saturating_add(MAX_HOLE_BYTES) > USUAL_ITEMS_BYTES =>
            {
                return false;
            }
            Upcoming::Superseded(count) => {
                self.put_hole(&Item::Superseded { count }, outbox, progress);
                return true;
            }
            Upcoming::Gap(count, bytes) => {
                let reason = GAP_NO_ROOM;
                let gap = Item::Gap {
                    count,
                    bytes,
                    reason,
                };
                self.put_hole(&gap, outbox, progress);
                return true;
            }
        };
        let rest = packet.get(self.begun()..).unwrap_or_default();
        let header = header_bytes(rest.len()).saturating_add(fields);
        let needed = rest.len().saturating_add(header);
        if !is_alone && used.saturating_add(needed) > USUAL_ITEMS_BYTES {
            return false;
        }
        if used.saturating_add(needed) <= MAX_ITEMS_BYTES {
            self.sending().begun = 0;
            let length = packet.len();
            match upcoming {
                Upcoming::Latest(key, _) => {
                    let number = outbox.sent().saturating_add(1);
                    self.put(&Item::Latest { key, data: rest });
                    outbox.advance(Outbox::stored_bytes(0));
                    let classes = progress.classes_mut();
                    classes
                        .into_iter()
                        .for_each(|classes| classes.finish_latest(number, length));
                }
                Upcoming::Volatile(_) => {
                    self.put(&Item::Volatile(rest));
                    let classes = progress.classes_mut();
                    classes.into_iter().for_each(Classes::finish_volatile);
                }
                _ => {
                    self.put(&Item::Packet(rest));
                    outbox.advance(Outbox::stored_bytes(length));
                }
            }
            return true;
        }
        let room = MAX_ITEMS_BYTES.saturating_sub(used.saturating_add(MAX_HEADER_BYTES));
        let piece = rest.get(..room).unwrap_or_default();
        let sending = self.sending.get_or_insert_default();
        Item::Part(piece).encode(&mut sending.wire);
        sending.begun = sending.begun.saturating_add(piece.len());
        let key = match upcoming {
            Upcoming::Latest(key, _) => Some(key),
            _ => None,
        };
        if let (Some(key), Some(classes)) = (key, progress.classes_mut()) {
            classes.begin(outbox.sent().saturating_add(1), key);
        }
        true
    }

    /// Tells how many VOLATILE packets were not sent, if the next one comes.
    fn put_skipped(&mut self, outbox: &Outbox, progress: &mut Progress) {
        if self.begun() > 0 || progress.classes_mut().is_none() {
            return;
        }
        let is_next = matches!(progress.upcoming(outbox), Some(Upcoming::Volatile(_)));
        if let Some(classes) = progress.classes_mut()
            && is_next
        {
            let count = classes.take_skipped();
            if count > 0 {
                self.put(&Item::Skipped { count });
            }
        }
    }

    /// Tells the next numbers as superseded or as a gap.
    fn put_hole(&mut self, item: &Item<'_>, outbox: &mut Outbox, progress: &mut Progress) {
        let (before, count) = (outbox.sent(), item.numbers());
        self.put(item);
        let places = usize::try_from(count).unwrap_or(usize::MAX);
        outbox.advance(Outbox::stored_bytes(0).saturating_mul(places));
        if let Some(classes) = progress.classes_mut() {
            let is_gap = matches!(item, Item::Gap { .. });
            classes.tell(
                before.saturating_add(1),
                before.saturating_add(count),
                is_gap,
            );
        }
    }
}

/// Returns the length of the header of a packet of `length` bytes.
pub(super) fn header_bytes(length: usize) -> usize {
    match (length as u64).saturating_mul(2) {
        0..=250 => 1,
        251..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}
