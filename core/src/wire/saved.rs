//! Fields of what an edge saves of its sessions (SPEC 39.2): little-endian, of a fixed size, or a length of 4 bytes and so many bytes.

/// Reads fields from the front. Each is `None` if the bytes end before it, or it is none that is written.
#[derive(Clone)]
pub(crate) struct Saved<'a>(&'a [u8]);

impl<'a> Saved<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Saved(bytes)
    }

    /// Returns whether nothing is left.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Reads one byte, 0 or 1.
    pub(crate) fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// Reads a length and so many bytes.
    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    /// Reads how many entries follow, which have at least `least` bytes each, and these.
    pub(crate) fn list<T>(
        &mut self,
        least: usize,
        mut read: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        (0..self.count(least)?).map(|_| read(self)).collect()
    }

    /// Reads how many entries follow, which have at least `least` bytes each: no more than there can be.
    pub(crate) fn count(&mut self, least: usize) -> Option<usize> {
        let count = usize::try_from(self.u32()?).ok()?;
        let all = count.checked_mul(least.max(1))?;
        (all <= self.0.len()).then_some(count)
    }
}

/// Appends how many entries follow, or how many bytes.
///
/// # Panics
/// Above 2^32, which needs more memory than any bound allows.
pub(crate) fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("no queue and no table has 2^32 entries");
    out.extend_from_slice(&count.to_le_bytes());
}

/// Appends numbers of 8 bytes.
pub(crate) fn put_numbers(out: &mut Vec<u8>, numbers: &[u64]) {
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

/// Appends a length and the bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_and_a_cut_is_seen() {
        let mut out = vec![7, 1];
        out.extend_from_slice(&300_u16.to_le_bytes());
        out.extend_from_slice(&5_u64.to_le_bytes());
        put_bytes(&mut out, b"text");
        let read = |bytes: &[u8]| {
            let mut saved = Saved::new(bytes);
            let fields = (saved.u8()?, saved.flag()?, saved.u16()?, saved.u64()?);
            let text = saved.bytes()?.to_vec();
            saved.is_empty().then_some((fields, text))
        };
        assert_eq!(read(&out), Some(((7, true, 300, 5), b"text".to_vec())));
        for cut in 0..out.len() {
            assert_eq!(read(&out[..cut]), None, "{cut}");
        }
        assert_eq!(Saved::new(&[2]).flag(), None);
        // A count that cannot be costs no memory.
        assert_eq!(Saved::new(&[2, 0, 0, 0, 1, 1]).count(1), Some(2));
        assert_eq!(Saved::new(&[3, 0, 0, 0, 1, 1]).count(1), None);
        assert_eq!(Saved::new(&[0xff; 8]).count(8), None);
    }
}
