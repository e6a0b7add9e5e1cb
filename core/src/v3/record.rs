//! Records: sealing and opening in place. (SPEC 21.1, 21.2)

use core::fmt;

use zeroize::Zeroizing;

use crate::keys::OpenError;
use crate::wire::frame::{LENGTH_BYTES, length_of};
#[cfg(feature = "upgrade")]
use crate::wire::saved::Saved;

use super::aead::{self, KEY_BYTES, PREFIX_BYTES, TAG_BYTES};
use super::schedule::Secret;

/// Bytes that a record adds to its items: the length of its frame, and a tag of 16.
pub const RECORD_OVERHEAD: usize = LENGTH_BYTES + TAG_BYTES;
/// The greatest length of the items of a record, in bytes.
pub const MAX_ITEMS_BYTES: usize = 65_536;
/// The greatest length of the items in one record up to which a sender should gather packets, in bytes.
pub const USUAL_ITEMS_BYTES: usize = 4_096;
/// The greatest length of the body of a record, in bytes.
pub const MAX_RECORD_BYTES: u32 = 65_552;
/// The greatest length of the body of a Join record, in bytes.
pub const MAX_JOIN_RECORD_BYTES: u32 = 8_192;
/// The greatest length of the body of the first early record, in bytes.
pub const MAX_FIRST_EARLY_RECORD_BYTES: u32 = 4_096;
/// The greatest length of the bodies of all early records of a connection, in bytes.
pub const MAX_EARLY_BYTES: usize = 65_536;

/// The bytes of a key and a prefix. (SPEC 20.5(a))
pub(super) const MATERIAL_BYTES: usize = KEY_BYTES + PREFIX_BYTES;

/// Why there is no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The body is shorter than a tag, or longer than a record can be.
    #[error("record of {length} bytes, {TAG_BYTES} to {MAX_RECORD_BYTES} needed")]
    Length {
        /// The length of the body in bytes.
        length: usize,
    },
    /// It does not open: altered, out of order, of another connection, or the two ends count differently.
    #[error("record does not open")]
    DoesNotOpen,
    /// 2^64 - 1 records were sealed or opened.
    #[error("no record is left under this key")]
    Exhausted,
}

/// One direction of one connection: the key that its secret gives, and the number of records so far.
#[derive(Clone)]
struct Lane {
    subkey: Zeroizing<[u8; KEY_BYTES]>,
    records: u64,
}

image!(Lane { subkey, records });

impl Lane {
    fn new(secret: &Secret) -> Self {
        let material = secret.expand::<MATERIAL_BYTES>(&[b"record"]);
        let (key, prefix) = material
            .split_first_chunk()
            .expect("the key is the first part");
        let prefix = prefix.first_chunk().expect("the prefix is the second part");
        Lane {
            subkey: aead::subkey(key, prefix),
            records: 0,
        }
    }

    #[cfg(feature = "upgrade")]
    fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&*self.subkey);
        out.extend_from_slice(&self.records.to_le_bytes());
    }

    #[cfg(feature = "upgrade")]
    fn load(saved: &mut Saved<'_>) -> Option<Self> {
        Some(Lane {
            subkey: Zeroizing::new(saved.array()?),
            records: saved.u64()?,
        })
    }

    /// Returns the count of the next record, and counts it.
    fn count(&mut self) -> Result<u64, RecordError> {
        let count = self.records;
        self.records = count.checked_add(1).ok_or(RecordError::Exhausted)?;
        Ok(count)
    }
}

/// Seals records.
///
/// A copy must never seal next to the original: both would use one nonce.
#[derive(Clone)]
pub struct Sealer(Lane);

image!(Sealer { 0 });

impl Sealer {
    /// Appends its key and its count, for the process that takes the connection over (SPEC 41.1(c)).
    #[cfg(feature = "upgrade")]
    pub(super) fn save(&self, out: &mut Vec<u8>) {
        self.0.save(out);
    }

    /// Reads what [`save`](Self::save) wrote.
    #[cfg(feature = "upgrade")]
    pub(super) fn load(saved: &mut Saved<'_>) -> Option<Self> {
        Lane::load(saved).map(Sealer)
    }

    /// Begins a direction of a connection at its first record.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        Sealer(Lane::new(secret))
    }

    /// Seals the items in `out` from `start` on and makes a frame of them. `number` is that of the next packet at the record's first byte.
    ///
    /// The items begin after the room for the frame's length: `start + 4`.
    ///
    /// # Errors
    /// [`RecordError::Length`] if the items are too long, [`RecordError::Exhausted`]. `out` is unchanged then.
    ///
    /// # Panics
    /// If `out` does not have the room for the length.
    pub fn seal(
        &mut self,
        number: u64,
        out: &mut Vec<u8>,
        start: usize,
    ) -> Result<(), RecordError> {
        let (length, items) = out
            .get_mut(start..)
            .and_then(<[u8]>::split_first_chunk_mut::<LENGTH_BYTES>)
            .expect("the caller leaves room for the length");
        let body = items.len().saturating_add(TAG_BYTES);
        if items.len() > MAX_ITEMS_BYTES {
            return Err(RecordError::Length { length: body });
        }
        let count = self.0.count()?;
        let tag = aead::seal_record(&self.0.subkey, count, number, items);
        *length = length_of(body).to_le_bytes();
        out.extend_from_slice(&tag);
        Ok(())
    }

    /// Returns the number of records sealed.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.0.records
    }
}

/// Opens records.
#[derive(Clone)]
pub struct Opener(Lane);

image!(Opener { 0 });

impl Opener {
    /// Appends its key and its count, for the process that takes the connection over (SPEC 41.1(c)).
    #[cfg(feature = "upgrade")]
    pub(super) fn save(&self, out: &mut Vec<u8>) {
        self.0.save(out);
    }

    /// Reads what [`save`](Self::save) wrote.
    #[cfg(feature = "upgrade")]
    pub(super) fn load(saved: &mut Saved<'_>) -> Option<Self> {
        Lane::load(saved).map(Opener)
    }

    /// Begins a direction of a connection at its first record.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        Opener(Lane::new(secret))
    }

    /// Opens the body of a frame in place and returns its items. `number` is that of the next packet at the record's first byte.
    ///
    /// # Errors
    /// [`RecordError`]. The connection is over then, and what `body` holds means nothing.
    pub fn open<'a>(
        &mut self,
        number: u64,
        body: &'a mut [u8],
    ) -> Result<&'a mut [u8], RecordError> {
        let length = body.len();
        let (items, tag) = body
            .split_last_chunk_mut::<TAG_BYTES>()
            .filter(|(items, _)| items.len() <= MAX_ITEMS_BYTES)
            .ok_or(RecordError::Length { length })?;
        let count = self.0.count()?;
        aead::open_record(&self.0.subkey, count, number, items, tag)
            .map_err(|OpenError| RecordError::DoesNotOpen)?;
        Ok(items)
    }

    /// Returns the number of records opened.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.0.records
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records = &self.0.records;
        f.debug_struct("Sealer")
            .field("records", records)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records = &self.0.records;
        f.debug_struct("Opener")
            .field("records", records)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
