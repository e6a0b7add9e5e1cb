//! Client ids: unique for a run, not guessable, and naming the shard that holds the session. (SPEC section 4)

use core::fmt;
use core::hash::Hasher as _;

use siphasher::sip::SipHasher13;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bits of an id below its shard.
const SEQUENCE_BITS: u32 = 56;
const HALF_BITS: u32 = SEQUENCE_BITS / 2;
const HALF_MASK: u64 = (1 << HALF_BITS) - 1;
/// Four rounds make a strong pseudo-random permutation of good round functions; ten leave a margin for small halves.
const ROUNDS: u8 = 10;

/// One of at most 256 machines that share the clients of an edge process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(u8);

impl ShardId {
    /// The shard of this number.
    #[must_use]
    pub const fn new(number: u8) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        self.0
    }
}

/// The name of a session towards the client and the backend. Shown as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(u64);

impl ClientId {
    /// The id of this number; every number is one, issued or not.
    #[inline]
    #[must_use]
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// Its number, as the wire has it.
    #[inline]
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The shard that issued it: the top 8 bits.
    #[inline]
    #[must_use]
    pub const fn shard(self) -> ShardId {
        let [top, ..] = self.0.to_be_bytes();
        ShardId(top)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientId({self})")
    }
}

/// Issues the ids of one shard: the shard over a keyed permutation of a counter.
///
/// No id comes twice, by construction and without a memory of those issued; who does not know the key cannot tell
/// one id from another, nor how many there were. Ends after 2^56 ids.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct ClientIds {
    #[zeroize(skip)]
    shard: ShardId,
    key: [u8; 16],
    issued: u64,
}

impl ClientIds {
    /// The ids of `shard` under `key`, which is to be drawn anew for each run.
    #[must_use]
    pub const fn new(shard: ShardId, key: [u8; 16]) -> Self {
        Self {
            shard,
            key,
            issued: 0,
        }
    }

    /// A permutation of the numbers below 2^56: a Feistel network over two halves of 28 bits.
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
        Some(ClientId(
            (u64::from(self.shard.0) << SEQUENCE_BITS) | self.permute(sequence),
        ))
    }
}

impl fmt::Debug for ClientIds {
    /// Leaves out the key and the count, either of which would help to guess.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIds")
            .field("shard", &self.shard)
            .finish_non_exhaustive()
    }
}
