//! A short digest that tells two answers of a machine apart. It protects from nobody.

/// Odd, with its bits spread: the golden ratio.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Returns a digest of the first `bytes` bytes of an output, in 32 bits.
pub(super) fn digest_of_output(output: [&[u8]; 2], bytes: usize) -> u64 {
    let [first, second] = output;
    let taken = first.get(..bytes).unwrap_or(first);
    let rest = bytes.saturating_sub(taken.len());
    let more = second.get(..rest).unwrap_or(second);
    let digest = digest(digest(bytes as u64, taken), more);
    (digest ^ digest >> 32) & 0xffff_ffff
}

/// Returns a digest of a text, in 32 bits.
pub(super) fn digest_of_text(text: &str) -> u64 {
    digest_of_bytes(text.as_bytes())
}

/// Returns a digest of bytes, in 32 bits.
pub(super) fn digest_of_bytes(bytes: &[u8]) -> u64 {
    digest_of_output([bytes, b""], bytes.len())
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
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    add(u64::from_le_bytes(last));
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_that_differ_have_different_digests() {
        let bytes = [7; 40];
        let whole = digest_of_output([&bytes, b""], 40);
        assert_ne!(whole, digest_of_output([&bytes, b""], 39));
        for at in 0..40 {
            let mut other = bytes;
            other[at] ^= 1;
            assert_ne!(whole, digest_of_output([&other, b""], 40), "{at}");
        }
        // Only what was taken counts, and no more than there is.
        let taken = |second: &[u8], bytes| digest_of_output([b"first", second], bytes);
        assert_eq!(taken(b"second", 8), taken(b"secular", 8));
        assert_ne!(taken(b"second", 9), taken(b"secular", 9));
        assert_ne!(taken(b"", 5), taken(b"", 6));
    }
}
