//! What is being read of a connection of version 3.

use super::*;

/// Where the data of an arrival is.
#[derive(Debug, Clone)]
pub(super) enum Data {
    None,
    /// In the record.
    Record(Range<usize>),
    /// In the pieces.
    Pieces,
}

image!(enum Data { 0 None {}, 1 Record { 0: a }, 2 Pieces {} });

/// What is being read of a connection. An idle one has nothing.
#[derive(Clone, Default)]
pub struct Reading {
    /// The items of the record that is being read, up to `end`.
    pub(super) record: Vec<u8>,
    pub(super) at: usize,
    pub(super) end: usize,
    /// The pieces of a packet that is not whole yet.
    pub(super) pieces: Vec<u8>,
    pub(super) arrival: Option<(Arrival, Data)>,
    /// Whether it is the Join record, whose token is that of the join.
    pub(super) is_join: bool,
}

image!(Reading {
    record,
    at,
    end,
    pieces,
    arrival,
    is_join
});

impl Reading {
    /// Begins with a record that was opened, whose first `end` bytes are its items. None was read.
    pub(super) fn of(record: Vec<u8>, end: usize, is_join: bool) -> Option<Box<Self>> {
        let reading = Reading {
            record,
            end,
            is_join,
            ..Reading::default()
        };
        Some(Box::new(reading))
    }

    /// Returns the bytes that belong to the arrival.
    pub(super) fn data(&self) -> &[u8] {
        match &self.arrival {
            Some((_, Data::Record(range))) => self.record.get(range.clone()).unwrap_or_default(),
            Some((_, Data::Pieces)) => &self.pieces,
            Some((_, Data::None)) | None => &[],
        }
    }

    /// Makes an arrival of a packet, or of its last piece, which is `data`.
    pub(super) fn put(
        &mut self,
        delivery: Delivery,
        number: u64,
        data: Data,
        progress: &Progress,
    ) -> Result<(), ChannelError> {
        let data = match data {
            Data::Record(range) if !self.pieces.is_empty() => {
                let last = self.record.get(range).unwrap_or_default();
                self.pieces.extend_from_slice(last);
                Data::Pieces
            }
            data => data,
        };
        let arrival = Arrival::Packet { delivery, number };
        self.arrival = Some((arrival, data));
        if delivery != Delivery::Volatile {
            progress.check_room(self.data().len())?;
        }
        Ok(())
    }

    pub(super) fn unread_bytes(&self) -> usize {
        self.end.saturating_sub(self.at)
    }

    /// Returns whether nothing is being read.
    pub(super) fn is_unused(&self) -> bool {
        self.end == 0 && self.pieces.is_empty() && self.arrival.is_none()
    }

    pub(super) fn forget_record(&mut self) {
        (self.at, self.end, self.is_join) = (0, 0, false);
        self.record.clear();
        if self.record.capacity() > KEPT_CAPACITY_BYTES {
            self.record = Vec::new();
        }
    }

    pub(super) fn forget_pieces(&mut self) {
        self.pieces.clear();
        if self.pieces.capacity() > KEPT_CAPACITY_BYTES {
            self.pieces = Vec::new();
        }
    }
}

impl fmt::Debug for Reading {
    /// Shows only numbers: what was opened is a user's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading")
            .field("arrival", &self.arrival)
            .field("unread_bytes", &self.unread_bytes())
            .finish_non_exhaustive()
    }
}
