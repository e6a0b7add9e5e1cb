//! Lists of ids, and of what was settled: as they are on the wire, or as their maker has them.

use core::fmt;

use crate::id::ClientId;

use super::MAX_IDS;
use super::error::Cause;
use super::fields::Fields;

/// Bytes of an id in a list.
pub(crate) const ID_BYTES: usize = 8;
/// Bytes of an entry of SETTLED.
pub(crate) const SETTLEMENT_BYTES: usize = 16;

fn id_of(bytes: [u8; ID_BYTES]) -> ClientId {
    ClientId::from_u64(u64::from_le_bytes(bytes))
}

/// A list of sessions.
#[derive(Clone, Copy)]
pub struct Ids<'a>(Repr<'a>);

#[derive(Clone, Copy)]
enum Repr<'a> {
    Wire(&'a [u8]),
    List(&'a [ClientId]),
}

impl<'a> Ids<'a> {
    /// Reads `count` ids.
    pub(super) fn read(fields: &mut Fields<'a>, count: usize) -> Result<Self, Cause> {
        let bytes = fields.slice(count.saturating_mul(ID_BYTES))?;
        Ok(Ids(Repr::Wire(bytes)))
    }

    /// Reads ids to the end of the frame.
    pub(super) fn read_all(fields: &mut Fields<'a>) -> Result<Self, Cause> {
        let bytes = fields.rest();
        let ids = Ids(Repr::Wire(bytes));
        if !bytes.len().is_multiple_of(ID_BYTES) {
            return Err(Cause::Truncated);
        }
        match ids.len() {
            length if length > MAX_IDS => Err(Cause::Beyond {
                field: "a list of ids",
                length,
                max: MAX_IDS,
            }),
            _ => Ok(ids),
        }
    }

    /// Returns how many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.0 {
            Repr::Wire(bytes) => bytes.len() / ID_BYTES,
            Repr::List(ids) => ids.len(),
        }
    }

    /// Returns whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the ids in order.
    pub fn iter(&self) -> impl Iterator<Item = ClientId> + use<'a> {
        let (wire, list) = match self.0 {
            Repr::Wire(bytes) => (bytes, &[][..]),
            Repr::List(ids) => (&[][..], ids),
        };
        let (chunks, _) = wire.as_chunks::<ID_BYTES>();
        let wire = chunks.iter().map(|bytes| id_of(*bytes));
        wire.chain(list.iter().copied())
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.reserve(self.len().saturating_mul(ID_BYTES));
        for id in self.iter() {
            out.extend_from_slice(&id.as_u64().to_le_bytes());
        }
    }
}

impl<'a> From<&'a [ClientId]> for Ids<'a> {
    fn from(ids: &'a [ClientId]) -> Self {
        Ids(Repr::List(ids))
    }
}

impl PartialEq for Ids<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Ids<'_> {}

impl fmt::Debug for Ids<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Sessions, each with the number down up to which everything is settled. (SPEC 36.3)
#[derive(Clone, Copy)]
pub struct Settlements<'a>(SettledRepr<'a>);

#[derive(Clone, Copy)]
enum SettledRepr<'a> {
    Wire(&'a [u8]),
    List(&'a [(ClientId, u64)]),
}

impl<'a> Settlements<'a> {
    /// Reads entries to the end of the frame.
    pub(super) fn read_all(fields: &mut Fields<'a>) -> Result<Self, Cause> {
        let bytes = fields.rest();
        if !bytes.len().is_multiple_of(SETTLEMENT_BYTES) {
            return Err(Cause::Truncated);
        }
        Ok(Settlements(SettledRepr::Wire(bytes)))
    }

    /// Returns the entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (ClientId, u64)> + use<'a> {
        let (wire, list) = match self.0 {
            SettledRepr::Wire(bytes) => (bytes, &[][..]),
            SettledRepr::List(entries) => (&[][..], entries),
        };
        let (chunks, _) = wire.as_chunks::<SETTLEMENT_BYTES>();
        let wire = chunks.iter().filter_map(|entry| {
            let (id, number) = entry.split_first_chunk::<ID_BYTES>()?;
            let number = number.first_chunk::<ID_BYTES>()?;
            Some((id_of(*id), u64::from_le_bytes(*number)))
        });
        wire.chain(list.iter().copied())
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for (id, number) in self.iter() {
            out.extend_from_slice(&id.as_u64().to_le_bytes());
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
}

impl<'a> From<&'a [(ClientId, u64)]> for Settlements<'a> {
    fn from(entries: &'a [(ClientId, u64)]) -> Self {
        Settlements(SettledRepr::List(entries))
    }
}

impl PartialEq for Settlements<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Settlements<'_> {}

impl fmt::Debug for Settlements<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
