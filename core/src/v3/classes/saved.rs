//! Packets of classes as bytes, so that they outlive the process of their edge (SPEC 39.2).

use super::{Classes, Kind, Mark, Missed, Newest, Told};
use crate::wire::saved::{Saved, put_bytes, put_count, put_numbers};

/// In the place of a key of an earlier boot of the backend.
const NO_KEY: u8 = u8::MAX;

impl Classes {
    /// Appends them. What has no number, and what was begun, goes with the connection. (SPEC 39.2)
    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        put_count(out, self.marks.len());
        for mark in &self.marks {
            let (kind, value) = match mark.kind {
                Kind::Latest(key) => (0, u64::from(key)),
                Kind::Superseded => (1, 0),
                Kind::Gapped { bytes, is_told } => (if is_told { 3 } else { 2 }, bytes),
            };
            out.push(kind);
            put_numbers(out, &[mark.first, mark.last, value]);
        }
        put_count(out, self.newest.len());
        for newest in &self.newest {
            out.push(newest.key.unwrap_or(NO_KEY));
            put_numbers(out, &[newest.number]);
            put_bytes(out, &newest.data);
        }
        put_count(out, self.sent.len());
        for (number, length) in &self.sent {
            put_numbers(out, &[*number, *length as u64]);
        }
        put_count(out, self.told.len());
        for told in &self.told {
            out.push(told.is_gap.into());
            put_numbers(out, &[told.first, told.last]);
        }
        let lost = self.volatile.len() as u64;
        let skipped = self.skipped.saturating_add(lost);
        let untold = self.untold.saturating_add(lost);
        put_numbers(out, &[self.superseded, self.gapped, skipped, untold]);
        let missed = &self.missed;
        put_numbers(out, &[missed.first, missed.last, missed.packets as u64]);
        put_numbers(out, &[missed.bytes as u64, self.doubted]);
    }

    /// Reads what [`save`](Self::save) wrote, of a session whose last number is `end`. `None`: no session has them.
    pub(crate) fn load(saved: &mut Saved<'_>, end: u64) -> Option<Self> {
        let mut classes = Classes::default();
        let last_of = |after: &mut u64, first: u64, last: u64| {
            let follows = *after < first && first <= last && last <= end;
            *after = last;
            follows.then_some(())
        };
        let mut after = 0;
        for _ in 0..saved.count(25)? {
            let kind = saved.u8()?;
            let (first, last, value) = (saved.u64()?, saved.u64()?, saved.u64()?);
            last_of(&mut after, first, last)?;
            let kind = match kind {
                0 => Kind::Latest(u8::try_from(value).ok()?),
                1 => Kind::Superseded,
                2 | 3 => Kind::Gapped {
                    bytes: value,
                    is_told: kind == 3,
                },
                _ => return None,
            };
            classes.marks.push_back(Mark { first, last, kind });
        }
        classes.newest = saved.list(13, |saved| {
            Some(Newest {
                key: Some(saved.u8()?).filter(|key| *key != NO_KEY),
                number: saved.u64()?,
                data: saved.bytes()?.to_vec(),
            })
        })?;
        let mut after = 0;
        for _ in 0..saved.count(16)? {
            let (number, length) = (saved.u64()?, usize::try_from(saved.u64()?).ok()?);
            last_of(&mut after, number, number)?;
            classes.sent.push_back((number, length));
        }
        let mut after = 0;
        for _ in 0..saved.count(17)? {
            let is_gap = saved.flag()?;
            let (first, last) = (saved.u64()?, saved.u64()?);
            last_of(&mut after, first, last)?;
            classes.told.push_back(Told {
                first,
                last,
                is_gap,
            });
        }
        (classes.superseded, classes.gapped) = (saved.u64()?, saved.u64()?);
        (classes.skipped, classes.untold) = (saved.u64()?, saved.u64()?);
        classes.missed = Missed {
            first: saved.u64()?,
            last: saved.u64()?,
            packets: usize::try_from(saved.u64()?).ok()?,
            bytes: usize::try_from(saved.u64()?).ok()?,
        };
        classes.doubted = saved.u64()?;
        Some(classes)
    }
}
