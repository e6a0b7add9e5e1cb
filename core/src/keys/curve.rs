//! Checks whether a number is the x coordinate of a point on secp256k1, without computing the point.
//!
//! A join needs to know only that the client's key is a point. Its y coordinate is a square root that takes 57,000 instructions. It is
//! needed at the first claim, which most sessions never see. Whether the root exists is a Jacobi symbol, which takes 8,000.
//!
//! The time depends on the number, which is public.

use core::array;
use core::hint::select_unpredictable;

/// Four limbs, the lowest first.
type Limbs = [u64; 4];

/// 2²⁵⁶ minus the field's prime.
const COMPLEMENT: u64 = 0x1_0000_03d1;
/// The field's prime.
const PRIME: Limbs = [0xffff_fffe_ffff_fc2f, u64::MAX, u64::MAX, u64::MAX];

/// Returns whether a point has this big-endian x: x is below the prime, and x³ + 7, which is y², is a square.
pub(super) fn is_x_of_a_point(x: &[u8; 32]) -> bool {
    let mut limbs = [0; 4];
    for (limb, bytes) in limbs.iter_mut().rev().zip(x.as_chunks().0) {
        *limb = u64::from_be_bytes(*bytes);
    }
    let (_, is_below_the_prime) = subtract(limbs, PRIME);
    let cube = multiply(multiply(limbs, limbs), limbs);
    is_below_the_prime && is_square(add_in_field(cube, [7, 0, 0, 0]))
}

/// Returns whether a number below the prime is a nonzero square of the field: whether its Jacobi symbol over the prime is 1.
///
/// This is the binary algorithm: the smaller, odd number is below, and the odd part of their difference above. Both get shorter together,
/// so the higher limbs are dropped as soon as they are zero.
fn is_square(number: Limbs) -> bool {
    if is_zero(number) {
        return false;
    }
    let mut symbol = Symbol::of(number, PRIME)
        .shorten::<3>()
        .shorten::<2>()
        .shorten::<1>();
    while symbol.step() {}
    symbol.sign & MINUS == 0 && symbol.below == [1]
}

/// The bit of [`Symbol::sign`]: the one in which numbers that are 3 modulo 4 differ from those that are 1.
const MINUS: u64 = 2;

/// The rest of a Jacobi symbol computation: two odd numbers of `N` limbs, and a sign.
struct Symbol<const N: usize> {
    above: [u64; N],
    below: [u64; N],
    /// The sign, in the bit [`MINUS`]. The others mean nothing.
    sign: u64,
}

impl<const N: usize> Symbol<N> {
    /// Begins with a number other than zero over an odd one.
    fn of(above: [u64; N], below: [u64; N]) -> Self {
        let sign = 0;
        let mut symbol = Symbol { above, below, sign };
        symbol.drop_twos();
        symbol
    }

    /// Continues with fewer limbs, once both numbers fit.
    #[inline(always)]
    fn shorten<const M: usize>(mut self) -> Symbol<M> {
        while (self.above.last(), self.below.last()) != (Some(&0), Some(&0)) && self.step() {}
        let lowest = |limbs: [u64; N]| array::from_fn(|at| limbs.get(at).copied().unwrap_or(0));
        Symbol {
            above: lowest(self.above),
            below: lowest(self.below),
            sign: self.sign,
        }
    }

    /// Takes at least one bit off both numbers together. Returns false when they are equal: that is their greatest common divisor.
    ///
    /// The cost is not the number of instructions but that each waits for the one before. Hence there are no unpredictable branches, the
    /// difference is computed both ways, and the twos are counted before its sign is known. Everything is inlined, and nothing takes the
    /// address of a limb, so that the limbs stay in registers; without that it takes half as long again.
    #[inline(always)]
    fn step(&mut self) -> bool {
        let (difference, is_less) = subtract(self.above, self.below);
        let (reverse, _) = subtract(self.below, self.above);
        // (a/b) is -(b/a) where both are 3 modulo 4.
        let mask = 0_u64.wrapping_sub(u64::from(is_less));
        self.sign ^= low(self.above) & low(self.below) & mask;
        self.below = select(is_less, self.above, self.below);
        self.above = select(is_less, reverse, difference);
        if low(difference) == 0 {
            if is_zero(self.above) {
                self.above = self.below;
                return false;
            }
            self.drop_twos();
        } else {
            self.shift(low(difference).trailing_zeros());
        }
        true
    }

    /// Divides the number above, which is not zero, by its power of two.
    #[inline(always)]
    fn drop_twos(&mut self) {
        if low(self.above) == 0 {
            // (2/n) of 64 twos is 1.
            self.above = without_low_zeros(self.above);
        }
        self.shift(low(self.above).trailing_zeros());
    }

    /// Divides the number above by fewer than 64 of its twos.
    #[inline(always)]
    fn shift(&mut self, twos: u32) {
        self.above = shift_right(self.above, twos);
        // (2/n) is -1 where n is 3 or 5 modulo 8.
        let n = low(self.below);
        self.sign ^= u64::from(twos << 1) & (n ^ (n >> 1));
    }
}

/// The product of two numbers below the prime, modulo the prime.
fn multiply(a: Limbs, b: Limbs) -> Limbs {
    let mut wide = [0_u64; 8];
    for (at, limb) in a.into_iter().enumerate() {
        let row = wide.get_mut(at..).and_then(<[u64]>::first_chunk_mut::<5>);
        let Some([row @ .., carry]) = row else {
            break;
        };
        for (place, other) in row.iter_mut().zip(b) {
            (*place, *carry) = limb.carrying_mul_add(other, *place, *carry);
        }
    }
    // The upper half is a multiple of 2²⁵⁶, which equals the complement. The same again for the carry.
    let [low @ .., high0, high1, high2, high3] = wide;
    let (mut sum, mut carry) = (low, 0);
    for (place, high) in sum.iter_mut().zip([high0, high1, high2, high3]) {
        (*place, carry) = high.carrying_mul_add(COMPLEMENT, *place, carry);
    }
    let (low, high) = carry.carrying_mul(COMPLEMENT, 0);
    add_in_field(sum, [low, high, 0, 0])
}

/// Adds any number and one of fewer than 128 bits, modulo the prime.
fn add_in_field(a: Limbs, b: Limbs) -> Limbs {
    let (mut sum, went_over) = add(a, b);
    if went_over {
        // The remaining sum is small and cannot overflow again.
        (sum, _) = add(sum, [COMPLEMENT, 0, 0, 0]);
    }
    let (difference, is_below) = subtract(sum, PRIME);
    if is_below { sum } else { difference }
}

/// Drops the lowest limbs of a number that is not zero as long as they are.
#[cold]
#[inline(never)]
fn without_low_zeros<const N: usize>(mut limbs: [u64; N]) -> [u64; N] {
    while low(limbs) == 0 {
        limbs.rotate_left(1);
    }
    limbs
}

#[inline(always)]
fn is_zero<const N: usize>(limbs: [u64; N]) -> bool {
    limbs.into_iter().fold(0, |all, limb| all | limb) == 0
}

/// Returns `yes` or `no`, without a branch.
#[inline(always)]
fn select<const N: usize>(is: bool, yes: [u64; N], no: [u64; N]) -> [u64; N] {
    let mut selected = no;
    for (place, yes) in selected.iter_mut().zip(yes) {
        *place = select_unpredictable(is, yes, *place);
    }
    selected
}

/// The lowest limb.
#[inline(always)]
fn low<const N: usize>(limbs: [u64; N]) -> u64 {
    limbs.first().copied().unwrap_or(0)
}

/// Adds modulo 2 to the number of bits. Also returns whether it overflowed.
#[inline(always)]
fn add<const N: usize>(a: [u64; N], b: [u64; N]) -> ([u64; N], bool) {
    let (mut sum, mut carry) = ([0; N], false);
    for (place, (a, b)) in sum.iter_mut().zip(a.into_iter().zip(b)) {
        (*place, carry) = a.carrying_add(b, carry);
    }
    (sum, carry)
}

/// Subtracts modulo 2 to the number of bits. Also returns whether `a` was less.
#[inline(always)]
fn subtract<const N: usize>(a: [u64; N], b: [u64; N]) -> ([u64; N], bool) {
    let (mut difference, mut borrow) = ([0; N], false);
    for (place, (a, b)) in difference.iter_mut().zip(a.into_iter().zip(b)) {
        (*place, borrow) = a.borrowing_sub(b, borrow);
    }
    (difference, borrow)
}

/// Shifts right by fewer than 64 bits.
#[inline(always)]
fn shift_right<const N: usize>(a: [u64; N], bits: u32) -> [u64; N] {
    let mut shifted = [0; N];
    let higher = a.into_iter().skip(1).chain([0]);
    for (place, (limb, next)) in shifted.iter_mut().zip(a.into_iter().zip(higher)) {
        // In two steps, because a shift by 64 is not defined.
        *place = limb >> bits | next << 1 << (63 - bits);
    }
    shifted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE: Limbs = [1, 0, 0, 0];

    /// The answer of k256, which computes the point.
    fn has_a_point(x: &[u8; 32]) -> bool {
        k256::PublicKey::from_sec1_bytes(&[&[2], &x[..]].concat()).is_ok()
    }

    fn to_bytes(limbs: Limbs) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (bytes, limb) in bytes.as_chunks_mut().0.iter_mut().rev().zip(limbs) {
            *bytes = limb.to_be_bytes();
        }
        bytes
    }

    #[test]
    fn small_numbers_numbers_about_the_prime_and_powers_of_two() {
        let mut seen = [0; 2];
        let mut check = |limbs| {
            let x = to_bytes(limbs);
            let is = is_x_of_a_point(&x);
            seen[usize::from(is)] += 1;
            assert_eq!(is, has_a_point(&x), "{x:02x?}");
        };
        for small in 0..500 {
            check([small, 0, 0, 0]);
            check(subtract(PRIME, [small, 0, 0, 0]).0);
            check(subtract([0; 4], [small + 1, 0, 0, 0]).0);
        }
        for bit in 0..256 {
            let mut limbs = [0; 4];
            limbs[bit / 64] = 1 << (bit % 64);
            check(limbs);
            check(subtract(limbs, ONE).0);
        }
        assert!(seen.iter().all(|&count| count > 500), "{seen:?}");
    }

    #[test]
    fn sums_and_products_that_go_over_come_back_into_the_field() {
        let minus_one = subtract(PRIME, ONE).0;
        assert_eq!(multiply(minus_one, minus_one), ONE);
        assert_eq!(add_in_field(minus_one, ONE), [0; 4]);
        // 2²⁵⁶ - 1 and 6 · 2⁶⁴ - 1.
        assert_eq!(
            add_in_field([u64::MAX; 4], [u64::MAX, 5, 0, 0]),
            [COMPLEMENT - 2, 6, 0, 0]
        );
    }

    #[test]
    fn zero_is_no_square_other_than_zero() {
        assert!(!is_square([0; 4]) && is_square(ONE) && is_square([4, 0, 0, 0]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn it_agrees_with_computing_the_point(x: [u8; 32]) {
            prop_assert_eq!(is_x_of_a_point(&x), has_a_point(&x));
        }

        /// Limbs of zeros and ones carry the furthest.
        #[test]
        fn also_where_limbs_are_extreme(limbs in prop::array::uniform4(prop_oneof![
            Just(0), Just(u64::MAX), Just(1), Just(1 << 63), any::<u64>(),
        ])) {
            let x = to_bytes(limbs);
            prop_assert_eq!(is_x_of_a_point(&x), has_a_point(&x));
        }

        #[test]
        fn squares_are_squares_and_their_negatives_are_not(limbs: [u64; 4]) {
            let (_, is_below_the_prime) = subtract(limbs, PRIME);
            prop_assume!(is_below_the_prime && limbs != [0; 4]);
            let square = multiply(limbs, limbs);
            prop_assert!(is_square(square));
            // The prime is 3 modulo 4, so -1 is no square.
            prop_assert!(!is_square(subtract(PRIME, square).0));
        }
    }
}
