//! The tag of a record: Poly1305 (RFC 8439, 2.5) of whole blocks, in limbs of 44 bits.
//!
//! Most records are short. The library's code for vectors takes 4,000 instructions for the tag of one, since it is made for long messages,
//! and this 400. The tests compare both. Nothing here depends on a value: neither a branch nor an address.

/// The bytes of a block.
pub(super) const BLOCK_BYTES: usize = 16;
/// The bytes of a key, which is used once.
pub(super) const KEY_BYTES: usize = 32;

const LOW: u64 = (1 << 44) - 1;
const HIGH: u64 = (1 << 42) - 1;
/// The bit above the 128 of a block, in its highest limb.
const ABOVE: u64 = 1 << 40;

/// The sum so far.
pub(super) struct Poly1305 {
    r: [u64; 3],
    /// `r`'s two higher limbs times 20: a carry out of the highest limb comes back five times, and that is two bits short of three limbs.
    s: [u64; 2],
    h: [u64; 3],
    pad: [u64; 2],
}

fn half(bytes: &[u8; 8]) -> u64 {
    u64::from_le_bytes(*bytes)
}

/// Returns 16 bytes as two words.
fn words(bytes: &[u8; BLOCK_BYTES]) -> [u64; 2] {
    let [low, high] = bytes.as_chunks().0 else {
        unreachable!("16 bytes are two words");
    };
    [half(low), half(high)]
}

/// Returns a number of 128 bits in limbs of 44, 44 and 40.
fn limbs([low, high]: [u64; 2]) -> [u64; 3] {
    [low & LOW, (low >> 44 | high << 20) & LOW, high >> 24]
}

fn times(a: u64, b: u64) -> u128 {
    u128::from(a).wrapping_mul(u128::from(b))
}

fn sum(a: u128, b: u128, c: u128) -> u128 {
    a.wrapping_add(b).wrapping_add(c)
}

/// Carries between limbs, once around. The lowest limb may be left one bit too long, and the next one has what it carried.
fn carry([mut a, mut b, mut c]: [u64; 3]) -> [u64; 3] {
    b = b.wrapping_add(a >> 44);
    a &= LOW;
    c = c.wrapping_add(b >> 44);
    b &= LOW;
    a = a.wrapping_add((c >> 42).wrapping_mul(5));
    c &= HIGH;
    b = b.wrapping_add(a >> 44);
    a &= LOW;
    [a, b, c]
}

impl Poly1305 {
    pub(super) fn new(key: &[u8; KEY_BYTES]) -> Self {
        let [r, pad] = key.as_chunks().0 else {
            unreachable!("32 bytes are two blocks");
        };
        let [low, high] = words(r);
        let r = limbs([low & 0x0fff_fffc_0fff_ffff, high & 0x0fff_fffc_0fff_fffc]);
        let [_, r1, r2] = r;
        Poly1305 {
            r,
            s: [r1.wrapping_mul(20), r2.wrapping_mul(20)],
            h: [0; 3],
            pad: words(pad),
        }
    }

    /// Adds whole blocks.
    #[inline]
    pub(super) fn update(&mut self, blocks: &[[u8; BLOCK_BYTES]]) {
        let ([r0, r1, r2], [s1, s2]) = (self.r, self.s);
        let [mut h0, mut h1, mut h2] = self.h;
        for block in blocks {
            let [b0, b1, b2] = limbs(words(block));
            h0 = h0.wrapping_add(b0);
            h1 = h1.wrapping_add(b1);
            h2 = h2.wrapping_add(b2 | ABOVE);
            let d0 = sum(times(h0, r0), times(h1, s2), times(h2, s1));
            let mut d1 = sum(times(h0, r1), times(h1, r0), times(h2, s2));
            let mut d2 = sum(times(h0, r2), times(h1, r1), times(h2, r0));
            // What is carried has fewer than 64 bits: limbs have 45 at most, and their factors 50.
            d1 = d1.wrapping_add(d0 >> 44);
            d2 = d2.wrapping_add(d1 >> 44);
            let top = low_half(d2 >> 42);
            h0 = (low_half(d0) & LOW).wrapping_add(top.wrapping_mul(5));
            h1 = (low_half(d1) & LOW).wrapping_add(h0 >> 44);
            h0 &= LOW;
            h2 = low_half(d2) & HIGH;
        }
        self.h = [h0, h1, h2];
    }

    /// Returns the tag.
    pub(super) fn finalize(self) -> [u8; BLOCK_BYTES] {
        let [h0, h1, h2] = carry(carry(self.h));
        // The sum minus the prime, if that is not negative.
        let g0 = h0.wrapping_add(5);
        let g1 = h1.wrapping_add(g0 >> 44);
        let g2 = h2.wrapping_add(g1 >> 44).wrapping_sub(1 << 42);
        let is_above = (g2 >> 63).wrapping_sub(1);
        let choose = |h: u64, g: u64| (h & !is_above) | (g & is_above);
        let (h0, h1, h2) = (
            choose(h0, g0 & LOW),
            choose(h1, g1 & LOW),
            choose(h2, g2 & HIGH),
        );
        let total = u128::from(h0)
            .wrapping_add(u128::from(h1) << 44)
            .wrapping_add(u128::from(h2) << 88);
        let [low, high] = self.pad;
        let pad = u128::from(low) | u128::from(high) << 64;
        total.wrapping_add(pad).to_le_bytes()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
const fn low_half(number: u128) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use poly1305::universal_hash::{KeyInit, UniversalHash};
    use proptest::prelude::*;

    use super::*;

    fn tag(key: &[u8; 32], blocks: &[[u8; 16]]) -> [u8; 16] {
        let mut mac = Poly1305::new(key);
        mac.update(blocks);
        mac.finalize()
    }

    fn by_library(key: &[u8; 32], blocks: &[[u8; 16]]) -> [u8; 16] {
        let mut mac = poly1305::Poly1305::new(key.into());
        let blocks: Vec<_> = blocks.iter().map(|block| (*block).into()).collect();
        mac.update(&blocks);
        mac.finalize().into()
    }

    /// A number of 16 bytes: these, then zeros or the last one again.
    fn number(first: &[u8], rest: u8) -> [u8; 16] {
        let mut bytes = [rest; 16];
        bytes[..first.len()].copy_from_slice(first);
        bytes
    }

    fn key(r: [u8; 16], s: [u8; 16]) -> [u8; 32] {
        [r, s].concat().try_into().expect("32 bytes")
    }

    /// RFC 8439, A.3, vectors 7 to 11: sums next to the prime, to 2^128 and to 2^130.
    #[test]
    fn sums_at_the_edges_are_reduced() {
        let (zeros, ones) = ([0; 16], [0xff; 16]);
        let r = |byte| number(&[byte], 0);
        let large = number(&[1, 0, 0, 0, 0, 0, 0, 0, 4], 0);
        let four = [
            number(&[0xe3, 0x35, 0x94, 0xd7, 0x50, 0x5e, 0x43, 0xb9], 0),
            number(&[0x33, 0x94, 0xd7, 0x50, 0x5e, 0x43, 0x79, 0xcd, 1], 0),
            zeros,
            number(&[1], 0),
        ];
        let cases: [(_, &[[u8; 16]], _); 7] = [
            (key(r(2), zeros), &[ones], r(3)),
            (key(r(2), ones), &[r(2)], r(3)),
            (
                key(r(1), zeros),
                &[ones, number(&[0xf0], 0xff), r(0x11)],
                r(5),
            ),
            (
                key(r(1), zeros),
                &[ones, number(&[0xfb], 0xfe), [1; 16]],
                zeros,
            ),
            (
                key(r(2), zeros),
                &[number(&[0xfd], 0xff)],
                number(&[0xfa], 0xff),
            ),
            (
                key(large, zeros),
                &four,
                number(&[0x14, 0, 0, 0, 0, 0, 0, 0, 0x55], 0),
            ),
            (key(large, zeros), &four[..3], r(0x13)),
        ];
        for (at, (key, blocks, expected)) in cases.into_iter().enumerate() {
            assert_eq!(tag(&key, blocks), expected, "{at}");
            assert_eq!(by_library(&key, blocks), expected, "{at}");
        }
    }

    /// Bytes that make limbs full, empty, or neither.
    fn bytes<const N: usize>() -> impl Strategy<Value = [u8; N]> {
        let byte = prop_oneof![Just(0_u8), Just(0xff), Just(0xfe), Just(1), any::<u8>()];
        let some = prop::collection::vec(byte, N).prop_map(|bytes| bytes.try_into().expect("N"));
        prop_oneof![some, Just([0xff; N]), Just([0; N])]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn tags_are_those_of_the_library(key in bytes::<32>(), blocks in prop::collection::vec(bytes::<16>(), 0..40)) {
            prop_assert_eq!(tag(&key, &blocks), by_library(&key, &blocks));
        }
    }
}
