//! Assigns client ids, unique within a run and not guessable. (SPEC section 9.1)

use core::fmt;
use core::hash::Hasher as _;

use siphasher::sip::SipHasher13;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::id::{ClientId, ShardId};
use crate::wire::saved::Saved;

/// The number of bits of an id below its shard.
const SEQUENCE_BITS: u32 = 56;
const HALF_BITS: u32 = SEQUENCE_BITS / 2;
const HALF_MASK: u64 = (1 << HALF_BITS) - 1;
/// Four rounds of good round functions make a strong pseudo-random permutation. Ten leave a margin for small halves.
const ROUNDS: u8 = 10;

/// Assigns the ids of one shard: the shard's number followed by a keyed permutation of a counter.
///
/// By construction no id repeats, without a memory of those assigned. Without the key, nobody can tell one id from another or how many
/// there were. The ids are exhausted after 2^56.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct ClientIds {
    #[zeroize(skip)]
    shard: ShardId,
    key: [u8; 16],
    issued: u64,
}

impl ClientIds {
    /// Creates the ids of `shard` with `key`, which must be drawn for each run.
    #[must_use]
    pub(crate) const fn new(shard: ShardId, key: [u8; 16]) -> Self {
        Self {
            shard,
            key,
            issued: 0,
        }
    }

    /// Goes on with the ids of another process of this run (SPEC 39.2). `None`: it cannot have issued so many.
    pub(crate) fn load(saved: &mut Saved<'_>) -> Option<Self> {
        let ids = ClientIds {
            shard: ShardId::new(saved.u8()?),
            key: saved.array()?,
            issued: saved.u64()?,
        };
        (ids.issued <= 1 << SEQUENCE_BITS).then_some(ids)
    }

    /// Appends what [`load`](Self::load) reads.
    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        out.push(self.shard.as_u8());
        out.extend_from_slice(&self.key);
        out.extend_from_slice(&self.issued.to_le_bytes());
    }

    /// Returns the shard whose ids these are.
    pub(crate) const fn shard(&self) -> ShardId {
        self.shard
    }

    /// Permutes the numbers below 2^56 with a Feistel network over two halves of 28 bits.
    fn permute(&self, sequence: u64) -> u64 {
        let (mut left, mut right) = (sequence >> HALF_BITS, sequence & HALF_MASK);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ self.round(round, right));
        }
        (left << HALF_BITS) | right
    }

    fn round(&self, round: u8, half: u64) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write_u64((u64::from(round) << HALF_BITS) | half);
        hasher.finish() & HALF_MASK
    }
}

impl Iterator for ClientIds {
    type Item = ClientId;

    fn next(&mut self) -> Option<ClientId> {
        if self.issued >> SEQUENCE_BITS != 0 {
            return None;
        }
        let sequence = self.issued;
        self.issued += 1;
        let shard = u64::from(self.shard.as_u8()) << SEQUENCE_BITS;
        match shard | self.permute(sequence) {
            // The link itself has it (SPEC 33.4(b)).
            0 => self.next(),
            id => Some(ClientId::from_u64(id)),
        }
    }
}

impl fmt::Debug for ClientIds {
    /// Omits the key and the count, either of which would help to guess ids.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIds")
            .field("shard", &self.shard)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: u64 = (1 << SEQUENCE_BITS) - 1;

    fn ids() -> ClientIds {
        ClientIds::new(ShardId::new(0xa5), *b"a key of 16 byte")
    }

    /// Inverts [`ClientIds::permute`].
    fn invert(ids: &ClientIds, permuted: u64) -> u64 {
        let (mut left, mut right) = (permuted >> HALF_BITS, permuted & HALF_MASK);
        for round in (0..ROUNDS).rev() {
            (left, right) = (right ^ ids.round(round, left), left);
        }
        (left << HALF_BITS) | right
    }

    #[test]
    fn a_million_ids_differ_and_keep_their_shard() {
        let mut issued: Vec<ClientId> = ids().take(1_000_000).collect();
        assert!(issued.iter().all(|id| id.shard() == ShardId::new(0xa5)));
        issued.sort_unstable();
        issued.dedup();
        assert_eq!(issued.len(), 1_000_000);
    }

    #[test]
    fn the_permutation_has_an_inverse_within_56_bits() {
        let ids = ids();
        let edges = [0, 1, HALF_MASK, HALF_MASK + 1, LAST - 1, LAST];
        let spread = (0..10_000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8);
        for sequence in (0..10_000).chain(edges).chain(spread) {
            let permuted = ids.permute(sequence);
            assert!(permuted <= LAST, "{permuted:#x}");
            assert_eq!(invert(&ids, permuted), sequence);
        }
    }

    /// A network whose rounds are all equal is its own inverse with exchanged halves.
    #[test]
    fn no_round_of_the_permutation_is_as_another() {
        let ids = ids();
        let exchanged = |id: u64| ((id & HALF_MASK) << HALF_BITS) | (id >> HALF_BITS);
        for sequence in [0, 1, 0x1234_5678, LAST] {
            let there = ids.permute(sequence);
            assert_ne!(exchanged(ids.permute(exchanged(there))), sequence);
        }
    }

    #[test]
    fn ids_are_the_permutation_of_a_count() {
        let permuted = |ids: ClientIds| (0..).map(move |sequence| ids.permute(sequence));
        assert!(
            ids()
                .map(|id| id.as_u64() & LAST)
                .zip(permuted(ids()))
                .take(1_000)
                .all(|(id, same)| id == same)
        );
    }

    #[test]
    fn an_id_tells_nothing_of_the_next() {
        let issued: Vec<u64> = ids().take(10_000).map(ClientId::as_u64).collect();
        for (id, next) in issued.iter().zip(&issued[1..]) {
            assert!(
                id.abs_diff(*next) > 1 << 32,
                "{id:#x} and {next:#x} are neighbours"
            );
        }
        // Each bit of the sequence changes half of the bits of the id: none is passed through.
        for bit in 0..SEQUENCE_BITS {
            let ones = issued.iter().filter(|id| *id >> bit & 1 == 1).count();
            let flips = issued
                .iter()
                .zip(&issued[1..])
                .filter(|(id, next)| (*id ^ *next) >> bit & 1 == 1)
                .count();
            assert!(
                (4_700..5_300).contains(&ones),
                "bit {bit} is set {ones} times in 10,000"
            );
            assert!(
                (4_700..5_300).contains(&flips),
                "bit {bit} changes {flips} times in 10,000"
            );
        }
    }

    #[test]
    fn another_key_gives_other_ids_and_the_same_key_the_same() {
        let other = ClientIds::new(ShardId::new(0xa5), *b"a key of 16 bytf");
        assert!(
            ids()
                .zip(other)
                .take(1_000)
                .all(|(one, other)| one != other)
        );
        assert!(
            ids()
                .zip(ids())
                .take(1_000)
                .all(|(one, other)| one == other)
        );
    }

    #[test]
    fn the_ids_end_rather_than_repeat() {
        let mut ids = ids();
        ids.issued = LAST;
        let last = ids.permute(LAST);
        assert_eq!(ids.next().map(|id| id.as_u64() & LAST), Some(last));
        assert_eq!(ids.next(), None);
        assert_eq!(ids.next(), None);
    }

    #[test]
    fn the_source_of_ids_is_not_shown() {
        assert_eq!(
            format!("{:?}", ids()),
            "ClientIds { shard: ShardId(165), .. }"
        );
    }
}
