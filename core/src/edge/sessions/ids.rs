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
/// The number of bits of a home.
#[cfg(feature = "cluster")]
const HOME_BITS: u32 = 12;
#[cfg(feature = "cluster")]
const HOME_MASK: u16 = (1 << HOME_BITS) - 1;
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
    /// The home of its edge, or 0: then the numbers below the shard are all permuted. (SPEC 40.2)
    #[cfg(feature = "cluster")]
    #[zeroize(skip)]
    home: u16,
    key: [u8; 16],
    issued: u64,
}

image!(ClientIds {
    shard,
    #[cfg(feature = "cluster")]
    home,
    key,
    issued
});

impl ClientIds {
    /// Creates the ids of `shard` with `key`, which must be drawn for each run.
    #[must_use]
    pub(crate) const fn new(shard: ShardId, key: [u8; 16]) -> Self {
        Self {
            shard,
            #[cfg(feature = "cluster")]
            home: 0,
            key,
            issued: 0,
        }
    }

    /// Makes them those of an edge with this home.
    #[cfg(feature = "cluster")]
    #[must_use]
    pub(crate) fn at_home(self, home: u16) -> Self {
        let mut ids = self;
        ids.home = home & HOME_MASK;
        ids
    }

    /// Returns the number of bits below what all of them have in common.
    const fn sequence_bits(&self) -> u32 {
        #[cfg(feature = "cluster")]
        if self.home > 0 {
            return SEQUENCE_BITS - HOME_BITS;
        }
        SEQUENCE_BITS
    }

    /// Returns what all of them have in common below the shard.
    const fn common(&self) -> u64 {
        #[cfg(feature = "cluster")]
        return (self.home as u64) << (SEQUENCE_BITS - HOME_BITS);
        #[cfg(not(feature = "cluster"))]
        0
    }

    /// Goes on with the ids of another process of this run (SPEC 39.2). `None`: it cannot have issued so many.
    pub(crate) fn load(saved: &mut Saved<'_>) -> Option<Self> {
        let ids = ClientIds {
            shard: ShardId::new(saved.u8()?),
            #[cfg(feature = "cluster")]
            home: 0,
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

    /// Permutes the numbers below 2^56, or 2^44 with a home, with a Feistel network over two halves.
    fn permute(&self, sequence: u64) -> u64 {
        let half_bits = self.sequence_bits() / 2;
        let mask = (1 << half_bits) - 1;
        let (mut left, mut right) = (sequence >> half_bits, sequence & mask);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ (self.round(round, right) & mask));
        }
        (left << half_bits) | right
    }

    fn round(&self, round: u8, half: u64) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write_u64((u64::from(round) << HALF_BITS) | half);
        hasher.finish()
    }
}

impl Iterator for ClientIds {
    type Item = ClientId;

    fn next(&mut self) -> Option<ClientId> {
        if self.issued >> self.sequence_bits() != 0 {
            return None;
        }
        let sequence = self.issued;
        self.issued += 1;
        let shard = u64::from(self.shard.as_u8()) << SEQUENCE_BITS;
        match shard | self.common() | self.permute(sequence) {
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
    const HALF_MASK: u64 = (1 << HALF_BITS) - 1;

    fn ids() -> ClientIds {
        ClientIds::new(ShardId::new(0xa5), *b"a key of 16 byte")
    }

    /// Inverts [`ClientIds::permute`].
    fn invert(ids: &ClientIds, permuted: u64) -> u64 {
        let (mut left, mut right) = (permuted >> HALF_BITS, permuted & HALF_MASK);
        for round in (0..ROUNDS).rev() {
            (left, right) = (right ^ (ids.round(round, left) & HALF_MASK), left);
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

    #[cfg(feature = "cluster")]
    #[test]
    fn an_edge_with_a_home_issues_2_44_ids_that_have_it() {
        let at = |home| ids().at_home(home);
        let mut issued: Vec<ClientId> = at(0xabc).take(100_000).collect();
        assert!(issued.iter().all(|id| id.home() == 0xabc));
        assert!(issued.iter().all(|id| id.shard() == ShardId::new(0xa5)));
        let mut flips = 0;
        for pair in issued.windows(2) {
            flips += (pair[0].as_u64() ^ pair[1].as_u64()).count_ones();
        }
        assert!(
            (20 * 100_000..24 * 100_000).contains(&flips),
            "half of 44 bits"
        );
        issued.sort_unstable();
        issued.dedup();
        assert_eq!(issued.len(), 100_000);
        let mut last = at(0xabc);
        last.issued = (1 << 44) - 1;
        assert!(last.next().is_some() && last.next().is_none());
        assert!(at(0).take(1_000).eq(ids().take(1_000)), "none is as ever");
        assert_eq!(at(0x1001).next(), at(1).next(), "a home has 12 bits");
    }

    #[test]
    fn the_source_of_ids_is_not_shown() {
        assert_eq!(
            format!("{:?}", ids()),
            "ClientIds { shard: ShardId(165), .. }"
        );
    }
}
