//! What has become of the packets of a session, in numbers. (SPEC 24.7)

/// The account of one direction of a session. (SPEC 24.7)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct Ledger {
    /// Packets that were given a number.
    pub numbered: u64,
    /// Of them, those that were acknowledged.
    pub acknowledged: u64,
    /// Those that a newer one took the place of.
    pub superseded: u64,
    /// Those that were given up.
    pub gapped: u64,
    /// Those that were sent and may have arrived.
    pub open_sent: u64,
    /// Those that were never sent.
    pub open_unsent: u64,
    /// Volatile packets that were not sent. They have no numbers.
    pub skipped: u64,
}

image!(Ledger {
    numbered,
    acknowledged,
    superseded,
    gapped,
    open_sent,
    open_unsent,
    skipped
});

impl Ledger {
    /// Returns whether each number is accounted for once.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        let parts = [
            self.acknowledged,
            self.superseded,
            self.gapped,
            self.open_sent,
            self.open_unsent,
        ];
        let sum = parts.into_iter().try_fold(0_u64, u64::checked_add);
        sum == Some(self.numbered)
    }

    /// Returns the counts in the order in which both links have them.
    #[cfg(any(feature = "edge", feature = "client", feature = "backend"))]
    pub(crate) fn fields(&self) -> [u64; 7] {
        [
            self.numbered,
            self.acknowledged,
            self.superseded,
            self.gapped,
            self.open_sent,
            self.open_unsent,
            self.skipped,
        ]
    }

    /// Returns the ledger with these counts, which are in the order of [`fields`](Self::fields).
    #[cfg(any(feature = "edge", feature = "client", feature = "backend"))]
    pub(crate) fn from_fields(fields: [u64; 7]) -> Ledger {
        let [
            numbered,
            acknowledged,
            superseded,
            gapped,
            open_sent,
            open_unsent,
            skipped,
        ] = fields;
        Ledger {
            numbered,
            acknowledged,
            superseded,
            gapped,
            open_sent,
            open_unsent,
            skipped,
        }
    }
}
