//! The order of items on a connection. (SPEC 21.4)
//!
//! [`Order`] judges each item by those before it. It knows neither numbers nor keys.

use super::items::Item;
#[cfg(feature = "upgrade")]
use crate::wire::saved::Saved;

/// Where a direction of a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The Join record, which begins with TOKEN.
    Join,
    /// Early records.
    Early,
    /// The first record down after an Answer, which begins with RESUMED or CLOSE.
    Resumed,
    /// All that follows.
    Open,
    /// The last item but padding was read.
    Closed,
}

image!(enum Stage { 0 Join {}, 1 Early {}, 2 Resumed {}, 3 Open {}, 4 Closed {} });

/// An item that must not stand where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// This item does not belong here.
    #[error("{item} out of place")]
    OutOfPlace {
        /// The item's name.
        item: &'static str,
    },
    /// A packet was begun, and this is none of its pieces.
    #[error("{item} between the pieces of a packet")]
    BetweenPieces {
        /// The item's name.
        item: &'static str,
    },
    /// A packet longer than the receiver takes.
    #[error("packet above {max} bytes")]
    PacketTooLong {
        /// The greatest length in bytes.
        max: u32,
    },
}

/// Judges the items of one direction of a connection.
#[derive(Debug, Clone)]
pub struct Order {
    stage: Stage,
    /// Whether no item was read since the stage began.
    is_first: bool,
    /// Whether a record follows the end of the early ones, or the last item of this record was read.
    ends_record: bool,
    /// The bytes of the pieces of a packet that is not whole yet. A piece has a byte at least.
    pieces: u32,
    max_packet_bytes: u32,
}

image!(Order {
    stage,
    is_first,
    ends_record,
    pieces,
    max_packet_bytes
});

impl Order {
    /// Appends it, between two records. Returns false if it is not open: its connection is not taken over then (SPEC 41.1(d)).
    #[cfg(feature = "upgrade")]
    pub(super) fn save(&self, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(&self.pieces.to_le_bytes());
        out.extend_from_slice(&self.max_packet_bytes.to_le_bytes());
        self.stage == Stage::Open
    }

    /// Reads what [`save`](Self::save) wrote.
    #[cfg(feature = "upgrade")]
    pub(super) fn load(saved: &mut Saved<'_>) -> Option<Self> {
        let pieces = saved.u32()?;
        let order = Order {
            pieces,
            is_first: false,
            ..Order::open(saved.u32()?)
        };
        (pieces <= order.max_packet_bytes).then_some(order)
    }

    fn new(stage: Stage, max_packet_bytes: u32) -> Self {
        Order {
            stage,
            is_first: true,
            ends_record: false,
            pieces: 0,
            max_packet_bytes,
        }
    }

    /// The direction up after a Welcome.
    #[must_use]
    pub fn of_join(max_packet_bytes: u32) -> Self {
        Self::new(Stage::Join, max_packet_bytes)
    }

    /// The direction up after a Claim: early records, until EARLY_END.
    #[must_use]
    pub fn of_early(max_packet_bytes: u32) -> Self {
        Self::new(Stage::Early, max_packet_bytes)
    }

    /// The direction down after an Answer.
    #[must_use]
    pub fn of_resumed(max_packet_bytes: u32) -> Self {
        Self::new(Stage::Resumed, max_packet_bytes)
    }

    /// The direction down after a Welcome.
    #[must_use]
    pub fn open(max_packet_bytes: u32) -> Self {
        Self::new(Stage::Open, max_packet_bytes)
    }

    /// Returns whether TOKEN is expected.
    #[must_use]
    pub fn is_joining(&self) -> bool {
        self.stage == Stage::Join
    }

    /// Returns whether early records are expected.
    #[must_use]
    pub fn is_early(&self) -> bool {
        self.stage == Stage::Early
    }

    /// Returns whether the last item was read.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.stage == Stage::Closed
    }

    /// Begins the next record.
    ///
    /// # Errors
    /// [`OrderError::OutOfPlace`] after CLOSE.
    pub fn begin_record(&mut self) -> Result<(), OrderError> {
        self.ends_record = false;
        match self.stage {
            Stage::Closed => Err(OrderError::OutOfPlace { item: "record" }),
            _ => Ok(()),
        }
    }

    /// Ends a record, all of whose items were judged.
    ///
    /// # Errors
    /// [`OrderError::OutOfPlace`] for a Join record without an item but padding.
    pub fn end_record(&self) -> Result<(), OrderError> {
        match self.stage {
            Stage::Join => Err(OrderError::OutOfPlace { item: "record" }),
            _ => Ok(()),
        }
    }

    /// Judges the next item.
    ///
    /// # Errors
    /// [`OrderError`]. The connection is over then.
    pub fn check(&mut self, item: &Item<'_>) -> Result<(), OrderError> {
        let name = item.name();
        let out_of_place = Err(OrderError::OutOfPlace { item: name });
        if let Item::Pad { .. } = item {
            // An empty record, or one of padding alone, does not begin the stage. The Join record is neither.
            return Ok(());
        }
        if self.ends_record {
            return out_of_place;
        }
        if let (Stage::Resumed, Item::Ignored { .. }) = (self.stage, item) {
            // It may come before RESUMED as padding may, so that a later edge can send something there.
            return Ok(());
        }
        let is_first = core::mem::replace(&mut self.is_first, false);
        let is_right = match (self.stage, item) {
            (Stage::Join, Item::Token(_)) => is_first,
            (Stage::Join, Item::EarlyEnd | Item::Resumed(..)) => false,
            (Stage::Join, _) => !is_first,
            (Stage::Early, Item::Packet(_) | Item::Part(_) | Item::Ignored { .. }) => true,
            (Stage::Early, Item::EarlyEnd) => true,
            (Stage::Early, _) => false,
            (Stage::Resumed, Item::Resumed(..) | Item::Close(_)) => is_first,
            (Stage::Resumed, _) => false,
            (Stage::Open, Item::EarlyEnd | Item::Resumed(..)) => false,
            (Stage::Open, _) => true,
            (Stage::Closed, _) => false,
        };
        if !is_right {
            return out_of_place;
        }
        self.check_pieces(item)?;
        match item {
            Item::EarlyEnd => (self.stage, self.ends_record) = (Stage::Open, true),
            Item::Close(_) => (self.stage, self.ends_record) = (Stage::Closed, true),
            Item::Token(_) | Item::Resumed(..) => self.stage = Stage::Open,
            _ => {}
        }
        Ok(())
    }

    /// Returns whether a packet of `length` bytes that is next would be right, and change nothing: what [`check`](Self::check) says of most
    /// packets.
    #[inline]
    #[must_use]
    pub fn takes_packet(&self, length: usize) -> bool {
        self.stage == Stage::Open
            && !self.ends_record
            && self.pieces == 0
            && length as u64 <= self.max_packet_bytes.into()
    }

    fn check_pieces(&mut self, item: &Item<'_>) -> Result<(), OrderError> {
        let (bytes, is_last) = match item {
            Item::Packet(bytes) | Item::Volatile(bytes) => (bytes, true),
            Item::Latest { data, .. } => (data, true),
            Item::Part(bytes) => (bytes, false),
            Item::Gap { .. }
            | Item::Superseded { .. }
            | Item::Skipped { .. }
            | Item::EarlyEnd
            | Item::Resumed(..)
                if self.pieces > 0 =>
            {
                let item = item.name();
                return Err(OrderError::BetweenPieces { item });
            }
            _ => return Ok(()),
        };
        let max = self.max_packet_bytes;
        let whole = u32::try_from(bytes.len())
            .ok()
            .and_then(|bytes| self.pieces.checked_add(bytes))
            .filter(|whole| *whole <= max)
            .ok_or(OrderError::PacketTooLong { max })?;
        self.pieces = if is_last { 0 } else { whole };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::code::Code;
    use super::super::items::{Close, Ledger, Resumed};
    use super::*;

    const CLOSE: Item<'_> = Item::Close(Close {
        code: Code::GOODBYE,
        wait_ms: 0,
        jitter_ms: 0,
        detail: 0,
        up: Ledger {
            numbered: 0,
            acknowledged: 0,
            superseded: 0,
            gapped: 0,
            open_sent: 0,
            open_unsent: 0,
            skipped: 0,
        },
        down: Ledger {
            numbered: 0,
            acknowledged: 0,
            superseded: 0,
            gapped: 0,
            open_sent: 0,
            open_unsent: 0,
            skipped: 0,
        },
        text: "",
    });
    const RESUMED: Item<'_> = Item::Resumed(
        Resumed {
            until: 0,
            received_up: 0,
            away_ms: 0,
            cause: Code::GOODBYE,
        },
        &[[0; 8]],
    );
    const PACKET: Item<'_> = Item::Packet(b"abc");
    const PART: Item<'_> = Item::Part(b"ab");
    const GAP: Item<'_> = Item::Gap {
        count: 1,
        bytes: 1,
        reason: 1,
    };
    const PAD: Item<'_> = Item::Pad { length: 3 };
    const IGNORED: Item<'_> = Item::Ignored {
        kind: 32,
        bytes: b"",
    };
    const LATEST: Item<'_> = Item::Latest {
        key: 0,
        data: b"abc",
    };
    const SKIPPED: Item<'_> = Item::Skipped { count: 1 };
    const PING: Item<'_> = Item::Ping([0; 8]);

    /// Reads records of items up to the first error.
    fn read(mut order: Order, records: &[&[Item<'_>]]) -> Result<(), OrderError> {
        for record in records {
            order.begin_record()?;
            record.iter().try_for_each(|item| order.check(item))?;
            order.end_record()?;
        }
        Ok(())
    }

    fn out_of_place(item: &'static str) -> Result<(), OrderError> {
        Err(OrderError::OutOfPlace { item })
    }

    #[test]
    fn a_join_record_begins_with_a_token() {
        let join = || Order::of_join(9);
        let token = Item::Token(b"t");
        let good: &[&[Item<'_>]] = &[&[token, PACKET, token, PING, PAD], &[], &[IGNORED, PACKET]];
        assert_eq!(read(join(), good), Ok(()));
        for record in [&[][..], &[PAD]] {
            assert_eq!(read(join(), &[record]), out_of_place("record"));
        }
        for item in [PACKET, PING, IGNORED, CLOSE, Item::EarlyEnd] {
            assert_eq!(read(join(), &[&[item]]), out_of_place(item.name()));
        }
        assert_eq!(
            read(join(), &[&[token, Item::EarlyEnd]]),
            out_of_place("EARLY_END")
        );
    }

    #[test]
    fn early_records_hold_packets_up_to_their_end() {
        let early = || Order::of_early(9);
        let good: &[&[Item<'_>]] = &[
            &[],
            &[PACKET, PART, IGNORED, PAD],
            &[PACKET],
            &[Item::EarlyEnd, PAD],
            &[PING, PACKET],
        ];
        assert_eq!(read(early(), good), Ok(()));
        for item in [Item::Token(b""), PING, Item::Ack(1), Item::AckNow, CLOSE] {
            assert_eq!(read(early(), &[&[PACKET, item]]), out_of_place(item.name()));
        }
        let after = &[Item::EarlyEnd, PACKET];
        assert_eq!(read(early(), &[after]), out_of_place("packet"));
        let twice: &[&[Item<'_>]] = &[&[Item::EarlyEnd], &[Item::EarlyEnd]];
        assert_eq!(read(early(), twice), out_of_place("EARLY_END"));
        let between = Err(OrderError::BetweenPieces { item: "EARLY_END" });
        assert_eq!(read(early(), &[&[PART], &[Item::EarlyEnd]]), between);
    }

    #[test]
    fn resumed_comes_first_and_once() {
        let resumed = || Order::of_resumed(9);
        assert_eq!(
            read(resumed(), &[&[RESUMED, PACKET], &[GAP, LATEST]]),
            Ok(())
        );
        assert_eq!(read(resumed(), &[&[CLOSE, PAD]]), Ok(()));
        let behind: &[&[Item<'_>]] = &[&[], &[PAD], &[IGNORED], &[IGNORED, RESUMED, PACKET, PAD]];
        assert_eq!(read(resumed(), behind), Ok(()));
        for item in [PACKET, GAP, PING] {
            assert_eq!(read(resumed(), &[&[item]]), out_of_place(item.name()));
        }
        assert_eq!(
            read(resumed(), &[&[RESUMED, RESUMED]]),
            out_of_place("RESUMED")
        );
        assert_eq!(read(Order::open(9), &[&[RESUMED]]), out_of_place("RESUMED"));
    }

    #[test]
    fn nothing_but_padding_follows_a_close() {
        let open = || Order::open(9);
        assert_eq!(read(open(), &[&[PACKET, CLOSE, PAD]]), Ok(()));
        for item in [PACKET, PING, IGNORED, CLOSE] {
            assert_eq!(read(open(), &[&[CLOSE, item]]), out_of_place(item.name()));
        }
        assert_eq!(read(open(), &[&[CLOSE], &[]]), out_of_place("record"));
    }

    #[test]
    fn only_control_stands_between_the_pieces_of_a_packet() {
        let open = || Order::open(9);
        let good: &[&[Item<'_>]] = &[
            &[PART, PING, Item::Ack(1), PAD],
            &[PART, IGNORED, PACKET],
            &[PART, LATEST, PART],
            &[Item::Volatile(b""), GAP],
            &[PART, CLOSE],
        ];
        assert_eq!(read(open(), good), Ok(()));
        for item in [GAP, SKIPPED, Item::Superseded { count: 1 }] {
            let between = Err(OrderError::BetweenPieces { item: item.name() });
            assert_eq!(read(open(), &[&[PART, item]]), between);
        }
    }

    #[test]
    fn a_packet_is_bounded_as_a_whole() {
        let too_long = |max| Err(OrderError::PacketTooLong { max });
        assert_eq!(read(Order::open(3), &[&[PACKET, LATEST]]), Ok(()));
        assert_eq!(read(Order::open(2), &[&[PACKET]]), too_long(2));
        assert_eq!(
            read(Order::open(5), &[&[PART, PACKET], &[PART, PACKET]]),
            Ok(())
        );
        assert_eq!(read(Order::open(4), &[&[PART], &[PACKET]]), too_long(4));
        // It is refused at the piece that goes over, without waiting for the last one.
        assert_eq!(read(Order::open(3), &[&[PART], &[PART]]), too_long(3));
    }
}
