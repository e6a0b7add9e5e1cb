//! The trace hash: a run's events in 64 bits.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

/// A hash over the canonical form of everything that went into the machine and came out of it.
///
/// It has a fixed key and fixed widths, and no pointers, `Debug` text or map order. So equal runs have equal hashes in every process and
/// every build.
#[derive(Clone, Debug)]
pub struct TraceHash(SipHasher13);

impl Default for TraceHash {
    fn default() -> Self {
        TraceHash(SipHasher13::new_with_keys(
            0x566f_6c74_6c61_6e65,
            0x7369_6d20_7472_6163,
        ))
    }
}

impl TraceHash {
    /// Adds one event: its time, its kind, its subject and its bytes.
    pub fn add(&mut self, at_nanos: u64, kind: u8, number: u64, bytes: &[u8]) {
        self.0.write(&at_nanos.to_le_bytes());
        self.0.write(&[kind]);
        self.0.write(&number.to_le_bytes());
        self.0.write(&(bytes.len() as u64).to_le_bytes());
        self.0.write(bytes);
    }

    /// Returns the hash of everything added so far.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.finish()
    }
}
