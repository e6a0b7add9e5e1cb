//! How much there is of something that waits.

/// A number of packets, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "SPEC 10 counts these two")]
pub struct Amount {
    /// The number of packets.
    pub packets: usize,
    /// The number of bytes. Whoever tells an amount says whether the 4 bytes of each packet's length are among them.
    pub bytes: usize,
}

impl Amount {
    /// Returns both together.
    #[must_use]
    pub const fn plus(self, other: Amount) -> Amount {
        Amount {
            packets: self.packets.saturating_add(other.packets),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    /// Returns what is left of it without `other`.
    #[must_use]
    pub const fn minus(self, other: Amount) -> Amount {
        Amount {
            packets: self.packets.saturating_sub(other.packets),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}
