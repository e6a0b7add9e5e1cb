//! One direction of a connection as its receiver sees it: records, their numbers, and the order of what is in them. (SPEC section 21)

use core::num::NonZeroU16;

use super::items::{Item, ItemError, Items, MAX_ITEMS, split_packet};
use super::order::{Order, OrderError};
use super::record::{
    MAX_EARLY_BYTES, MAX_FIRST_EARLY_RECORD_BYTES, MAX_JOIN_RECORD_BYTES, MAX_RECORD_BYTES, Opener,
    RecordError,
};
use super::schedule::Secret;
use super::{MAX_NUMBER, Side};
#[cfg(feature = "upgrade")]
use crate::wire::saved::Saved;

/// Why a record is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InboundError {
    /// It is no record of this connection. The connection is over without a word.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// It is longer than a record in its place may be.
    #[error("record of {length} bytes, at most {max} allowed here")]
    TooLong {
        /// The length of the body in bytes.
        length: usize,
        /// The greatest length here in bytes.
        max: usize,
    },
    /// What is in it is malformed.
    #[error(transparent)]
    Item(#[from] ItemError),
    /// What is in it has no place here.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// There are no numbers left.
    #[error("packets beyond the highest number")]
    Numbers,
}

/// Reads one direction of a connection.
#[derive(Debug, Clone)]
pub struct Inbound {
    opener: Opener,
    /// What is known of early records, while they last.
    early: Option<Box<Early>>,
    sender: Side,
    order: Order,
    /// The number of the next packet.
    next: u64,
    /// One more than the items read of the record that is being read, if there is one.
    items: Option<NonZeroU16>,
}

image!(Inbound {
    opener,
    early,
    sender,
    order,
    next,
    items
});

/// Early records.
#[derive(Debug, Clone, Default)]
struct Early {
    /// The bytes of their bodies so far.
    bytes: u32,
    /// The opener of the records after EARLY_END, and the highest number that was received when RESUMED was written.
    after: Option<(Opener, u64)>,
}

image!(Early { bytes, after });

impl Inbound {
    /// Begins the direction up after a Welcome.
    #[must_use]
    pub fn of_join(up: &Secret, max_packet_bytes: u32) -> Self {
        Self::new(up, Side::Client, Order::of_join(max_packet_bytes), 1)
    }

    /// Begins the direction down after a Welcome.
    #[must_use]
    pub fn of_welcome(down: &Secret, max_packet_bytes: u32) -> Self {
        Self::new(down, Side::Edge, Order::open(max_packet_bytes), 1)
    }

    /// Begins the direction up after a Claim: early records, whose first packet has the number `first`.
    #[must_use]
    pub fn of_early(early: &Secret, first: u64, max_packet_bytes: u32) -> Self {
        let order = Order::of_early(max_packet_bytes);
        Self {
            early: Some(Box::default()),
            ..Self::new(early, Side::Client, order, first)
        }
    }

    /// Begins the direction down after an Answer to a client that has received all up to `received`.
    #[must_use]
    pub fn of_answer(down: &Secret, received: u64, max_packet_bytes: u32) -> Self {
        let order = Order::of_resumed(max_packet_bytes);
        Self::new(down, Side::Edge, order, received.saturating_add(1))
    }

    fn new(secret: &Secret, sender: Side, order: Order, next: u64) -> Self {
        Inbound {
            opener: Opener::new(secret),
            early: None,
            sender,
            order,
            next,
            items: None,
        }
    }

    /// Appends it, between two records. Returns false if its connection is not taken over (SPEC 41.1(d)).
    #[cfg(feature = "upgrade")]
    pub(super) fn save(&self, out: &mut Vec<u8>) -> bool {
        self.opener.save(out);
        out.extend_from_slice(&self.next.to_le_bytes());
        self.order.save(out) && self.early.is_none() && self.items.is_none()
    }

    /// Reads what [`save`](Self::save) wrote, of a client's records.
    #[cfg(feature = "upgrade")]
    pub(super) fn load(saved: &mut Saved<'_>) -> Option<Self> {
        Some(Inbound {
            opener: Opener::load(saved)?,
            early: None,
            sender: Side::Client,
            next: saved.u64().filter(|next| *next <= MAX_NUMBER)?,
            order: Order::load(saved)?,
            items: None,
        })
    }

    /// Tells which secret follows the early records, and which number up RESUMED says was received.
    pub fn resume(&mut self, up: &Secret, received: u64) {
        self.early.get_or_insert_default().after = Some((Opener::new(up), received));
    }

    /// Returns the number of the next packet.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.next
    }

    /// Returns whether a record behind the early ones was opened.
    #[cfg(feature = "cluster")]
    pub fn has_opened_up(&self) -> bool {
        self.early.is_none() && self.opener.records() > 0
    }

    /// Goes on behind this number, which RESUMED says was received.
    #[cfg(feature = "cluster")]
    pub fn go_on(&mut self, received: u64) {
        self.next = received.saturating_add(1);
    }

    /// Returns whether the peer has sent its last item.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.order.is_closed()
    }

    /// Returns the greatest length of the body of the next record in bytes.
    #[must_use]
    pub fn max_record_bytes(&self) -> u32 {
        if self.order.is_joining() && self.opener.records() == 0 {
            MAX_JOIN_RECORD_BYTES
        } else if self.order.is_early() && self.opener.records() == 0 {
            MAX_FIRST_EARLY_RECORD_BYTES
        } else {
            MAX_RECORD_BYTES
        }
    }

    /// Opens the next record in place, and calls `each` with every item and the number that it begins at.
    ///
    /// # Errors
    /// [`InboundError`]. The connection is over then. Items before the faulty one were handled: the caller decides what they mean.
    pub fn read(
        &mut self,
        body: &mut [u8],
        mut each: impl FnMut(Item<'_>, u64),
    ) -> Result<(), InboundError> {
        let length = self.open(body)?;
        let mut rest = body.get(..length).unwrap_or_default();
        while let Some((item, number)) = self.next(&mut rest)? {
            each(item, number);
        }
        Ok(())
    }

    /// Opens the next record in place, and returns the length of its items, which are the first bytes of `body`. They are read with
    /// [`next`](Self::next).
    ///
    /// # Errors
    /// [`InboundError`]. The connection is over then.
    pub fn open(&mut self, body: &mut [u8]) -> Result<usize, InboundError> {
        self.check_length(body.len())?;
        self.order.begin_record()?;
        let plain = self.opener.open(self.next, body)?;
        self.items = Some(NonZeroU16::MIN);
        Ok(plain.len())
    }

    /// Returns the next item in `rest`, which is what is left of the record that was opened last, and the number that it begins at. `None`
    /// ends the record.
    ///
    /// # Errors
    /// [`InboundError`]. The connection is over then.
    pub fn next<'a>(
        &mut self,
        rest: &mut &'a [u8],
    ) -> Result<Option<(Item<'a>, u64)>, InboundError> {
        let Some(items) = self.items else {
            return Ok(None);
        };
        let read = items.get().saturating_sub(1);
        let mut reader = Items::after(read.into(), rest, self.sender);
        let Some(item) = reader.next() else {
            self.items = None;
            self.order.end_record()?;
            return Ok(None);
        };
        let item = item?;
        *rest = reader.rest();
        self.items = Some(items.saturating_add(1));
        self.order.check(&item)?;
        let number = self.next;
        self.next = number
            .checked_add(item.numbers())
            .filter(|next| next.checked_sub(1).is_none_or(|last| last <= MAX_NUMBER))
            .ok_or(InboundError::Numbers)?;
        if item == Item::EarlyEnd {
            self.end_early()?;
        }
        Ok(Some((item, number)))
    }

    /// Like [`next`](Self::next), for a packet that is whole and right. `None`: something else comes next, of which `next` tells. Most items
    /// take this shorter way.
    #[inline]
    pub fn next_packet<'a>(&mut self, rest: &mut &'a [u8]) -> Option<&'a [u8]> {
        let items = self
            .items
            .filter(|items| usize::from(items.get()) <= MAX_ITEMS)?;
        let (packet, after) = split_packet(rest)?;
        if !self.order.takes_packet(packet.len()) || self.next > MAX_NUMBER {
            return None;
        }
        *rest = after;
        self.items = Some(items.saturating_add(1));
        self.next = self.next.saturating_add(1);
        Some(packet)
    }

    /// Checks the items of the record that was opened last, of which none was read. Nothing changes.
    ///
    /// # Errors
    /// [`InboundError`], for the first item that is wrong.
    pub fn check(&self, mut plain: &[u8]) -> Result<(), InboundError> {
        let mut copy = self.clone();
        while copy.next(&mut plain)?.is_some() {}
        Ok(())
    }

    fn check_length(&mut self, length: usize) -> Result<(), InboundError> {
        let mut max = self.max_record_bytes() as usize;
        if self.order.is_early() {
            let early = self.early.get_or_insert_default();
            max = max.min(MAX_EARLY_BYTES.saturating_sub(early.bytes as usize));
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            early.bytes = early.bytes.saturating_add(length);
        }
        let error = InboundError::TooLong { length, max };
        (length <= max).then_some(()).ok_or(error)
    }

    /// Goes on with the records after EARLY_END (SPEC 21.2(d)).
    fn end_early(&mut self) -> Result<(), InboundError> {
        // The client ends its early records when it has opened RESUMED, so there is one.
        let out_of_place = OrderError::OutOfPlace { item: "EARLY_END" };
        let early = self.early.take();
        let after = early.and_then(|early| early.after);
        let (opener, received) = after.ok_or(out_of_place)?;
        self.opener = opener;
        self.next = self.next.max(received.saturating_add(1));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::record::Sealer;
    use super::*;
    use crate::wire::frame::LENGTH_BYTES;

    /// What comes of the records with these items, whole packets first by the shorter way if `shortly`.
    fn read(records: &[Vec<u8>], max_packet_bytes: u32, shortly: bool) -> (Vec<String>, u64) {
        let secret = Secret::of_test();
        let mut sealer = Sealer::new(&secret);
        let mut inbound = Inbound::of_welcome(&secret, max_packet_bytes);
        let mut came = Vec::new();
        'records: for items in records {
            let mut record = [&[0; LENGTH_BYTES], items.as_slice()].concat();
            sealer.seal(inbound.next_number(), &mut record, 0).unwrap();
            let opened = inbound.open(&mut record[LENGTH_BYTES..]);
            let length = match opened {
                Ok(length) => length,
                Err(error) => {
                    came.push(format!("{error:?}"));
                    break;
                }
            };
            let mut rest = &record[LENGTH_BYTES..][..length];
            loop {
                let number = inbound.next_number();
                if shortly && let Some(packet) = inbound.next_packet(&mut rest) {
                    came.push(format!("{:?}", (Item::Packet(packet), number)));
                    continue;
                }
                match inbound.next(&mut rest) {
                    Ok(Some(item)) => came.push(format!("{item:?}")),
                    Ok(None) => break,
                    Err(error) => {
                        came.push(format!("{error:?}"));
                        break 'records;
                    }
                }
            }
        }
        (came, inbound.next_number())
    }

    fn item() -> impl Strategy<Value = Vec<u8>> {
        let encode = |item: Item<'_>| {
            let mut out = Vec::new();
            item.encode(&mut out);
            out
        };
        let packet = (0..300_usize).prop_map(move |length| encode(Item::Packet(&vec![7; length])));
        prop_oneof![
            6 => packet,
            1 => (1..9_usize).prop_map(move |length| encode(Item::Part(&vec![7; length]))),
            1 => Just(encode(Item::Ack(3))),
            1 => Just(encode(Item::Superseded { count: 2 })),
            1 => Just(encode(Item::Latest { key: 1, data: b"abc" })),
            1 => prop::collection::vec(any::<u8>(), 0..9),
        ]
    }

    proptest! {
        #[test]
        fn the_shorter_way_of_packets_reads_the_same(
            records in prop::collection::vec(prop::collection::vec(item(), 0..20).prop_map(|items| items.concat()), 1..5),
            max_packet_bytes in prop_oneof![Just(1 << 20), 0..300_u32],
        ) {
            prop_assert_eq!(read(&records, max_packet_bytes, true), read(&records, max_packet_bytes, false));
        }
    }

    /// The bytes from 251 to 255 are no lengths, and packets from 32 KiB on begin with an even one of them.
    #[test]
    fn long_headers_are_read_the_same_in_the_shorter_way() {
        for length in [125, 126, 32_767, 32_768, 60_000] {
            let mut records = [Vec::new()];
            Item::Packet(&vec![7; length]).encode(&mut records[0]);
            assert_eq!(
                read(&records, 1 << 20, true),
                read(&records, 1 << 20, false)
            );
            assert_eq!(read(&records, 1 << 20, true).1, 2, "{length}");
        }
        for first in 251..=u8::MAX {
            let records = [vec![first; 300]];
            assert_eq!(read(&records, 300, true), read(&records, 300, false));
        }
    }

    #[test]
    fn a_record_has_no_more_items_in_the_shorter_way() {
        for shortly in [false, true] {
            let (came, _) = read(&[vec![0; MAX_ITEMS + 1]], 9, shortly);
            assert_eq!(came.len(), MAX_ITEMS + 1);
            assert_eq!(
                came.last().unwrap(),
                &format!("{:?}", InboundError::Item(ItemError::TooMany))
            );
        }
    }
}
