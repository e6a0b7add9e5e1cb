//! A short digest that tells two answers of a machine apart. It protects from nobody.

/// Odd, with its bits spread: the golden ratio.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// The bytes at each end of a part of an output that its digest has. What is between them is a payload, or sealed with what is behind it.
const END_BYTES: usize = 32;

/// Returns a digest of the first `bytes` bytes of an output, in 14 bits: two bytes of a record.
pub(super) fn digest_of_output(output: [&[u8]; 2], bytes: usize) -> u64 {
    let [first, second] = output;
    let taken = first.get(..bytes).unwrap_or(first);
    let rest = bytes.saturating_sub(taken.len());
    let more = second.get(..rest).unwrap_or(second);
    let mut digest = bytes as u64;
    for part in [taken, more].into_iter().filter(|part| !part.is_empty()) {
        digest = digest_of_ends(digest, part);
    }
    // The highest bits are those to which every word has come.
    digest >> (u64::BITS - 14)
}

fn digest_of_ends(before: u64, bytes: &[u8]) -> u64 {
    match (
        bytes.first_chunk::<END_BYTES>(),
        bytes.last_chunk::<END_BYTES>(),
    ) {
        (Some(begin), Some(end)) => digest(digest(before, begin), end),
        _ => digest(before, bytes),
    }
}

/// Returns a digest of bytes, in 32 bits.
pub(super) fn digest_of_bytes(bytes: &[u8]) -> u64 {
    let digest = digest(bytes.len() as u64, bytes);
    (digest ^ digest >> 32) & 0xffff_ffff
}

fn digest(mut digest: u64, bytes: &[u8]) -> u64 {
    let mut add = |word: u64| {
        digest = (digest ^ word).wrapping_mul(MULTIPLIER);
        digest ^= digest >> 29;
    };
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        add(u64::from_le_bytes(*word));
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        add(u64::from_le_bytes(last));
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_that_differ_have_different_digests() {
        for length in [1, 8, 31, 32, 33, 40, 64] {
            let bytes = vec![7; length];
            let whole = digest_of_output([&bytes, b""], length);
            assert_ne!(whole, digest_of_output([&bytes, b""], length - 1));
            for at in 0..length {
                let mut other = bytes.clone();
                other[at] ^= 1;
                let digest = digest_of_output([&other, b""], length);
                assert_ne!(whole, digest, "{at} of {length}");
                assert_ne!(digest_of_bytes(&bytes), digest_of_bytes(&other));
            }
        }
        // Of more bytes the ends count.
        let (mut bytes, whole) = ([7; 1000], digest_of_output([&[7; 1000], b""], 1000));
        for (at, counts) in [(31, true), (32, false), (967, false), (968, true)] {
            bytes[at] ^= 1;
            assert_eq!(
                whole != digest_of_output([&bytes, b""], 1000),
                counts,
                "{at}"
            );
            bytes[at] ^= 1;
        }
        // Only what was taken counts, and no more than there is.
        let taken = |second: &[u8], bytes| digest_of_output([b"first", second], bytes);
        assert_eq!(taken(b"second", 8), taken(b"secular", 8));
        assert_ne!(taken(b"second", 9), taken(b"secular", 9));
        assert_ne!(taken(b"", 5), taken(b"", 6));
    }
}
