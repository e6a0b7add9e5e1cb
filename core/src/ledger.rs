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

    /// Returns the number up to which every packet is settled, for certain: acknowledged, superseded or given up. More may be, since counts
    /// do not tell which packets are open. 0 of a ledger that is not [balanced](Self::is_balanced). (SPEC 36.3(e))
    #[must_use]
    pub fn settled(&self) -> u64 {
        match (self.is_balanced(), self.open_sent) {
            (false, _) => 0,
            // Only the last packets were never sent.
            (true, 0) => self.numbered.saturating_sub(self.open_unsent),
            (true, _) => self.acknowledged,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_settled_is_what_is_certain() {
        let ledger = Ledger {
            numbered: 10,
            acknowledged: 4,
            superseded: 2,
            gapped: 1,
            open_unsent: 3,
            ..Ledger::default()
        };
        assert_eq!(ledger.settled(), 7, "all that were sent");
        let open = Ledger {
            open_sent: 1,
            open_unsent: 2,
            ..ledger
        };
        // The open one may be the fifth, before those that were superseded.
        assert_eq!(open.settled(), 4);
        let wrong = Ledger {
            numbered: 11,
            ..open
        };
        assert_eq!((wrong.is_balanced(), wrong.settled()), (false, 0));
        assert_eq!(Ledger::default().settled(), 0);
    }
}
