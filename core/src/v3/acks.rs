//! Acknowledgements: what one end has taken, and what the other end knows of it. (SPEC 24.3)
//!
//! An ACK says how many more packets are acknowledged than the last ACK of the same connection did. The first one of a connection counts from
//! 0, so that no connection depends on what arrived on the one before.

#[cfg(feature = "edge")]
use crate::wire::saved::Saved;

/// Why an ACK is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AckError {
    /// It acknowledges what was not sent.
    #[error("{acknowledged} packets acknowledged, {sent} sent")]
    BeyondSent {
        /// The number that would be acknowledged. `u64::MAX` stands for all greater ones.
        acknowledged: u64,
        /// The highest number sent.
        sent: u64,
    },
}

/// The receiver's side of one direction: what it has received, taken, and told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Received {
    received: u64,
    taken: u64,
    /// What the ACKs of this connection add up to.
    told: u64,
}

image!(Received {
    received,
    taken,
    told
});

impl Received {
    /// Returns the highest number received.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Returns the highest number taken: what an ACK covers.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Returns how many packets were received and are not acknowledged on this connection.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.received.saturating_sub(self.told)
    }

    /// Returns how many packets were taken and are not acknowledged on this connection.
    #[must_use]
    pub fn untold(&self) -> u64 {
        self.taken.saturating_sub(self.told)
    }

    /// Counts `count` numbers that have come: a packet, or a run that a GAP or SUPERSEDED stands for.
    ///
    /// Returns the last of them, or `None` above the highest number, which is a fault of the peer.
    #[must_use]
    pub fn count(&mut self, count: u64) -> Option<u64> {
        let last = self.received.checked_add(count)?;
        if last > super::MAX_NUMBER {
            return None;
        }
        self.received = last;
        Some(last)
    }

    /// The application, or the backend, has taken all up to `number`.
    ///
    /// # Panics
    /// If that was not received.
    pub fn take(&mut self, number: u64) {
        assert!(number <= self.received, "what was not received is taken");
        self.taken = self.taken.max(number);
    }

    /// Returns the number of the next ACK, if there is something to acknowledge, and counts it as told.
    #[must_use]
    pub fn tell(&mut self) -> Option<u64> {
        let more = self.taken.checked_sub(self.told).filter(|more| *more > 0)?;
        self.told = self.taken;
        Some(more)
    }

    /// Goes on behind what was taken. What was received beyond that comes again. (SPEC 46.1(d))
    #[cfg(any(feature = "client", feature = "cluster"))]
    pub(crate) const fn after(taken: u64) -> Self {
        Received {
            received: taken,
            taken,
            told: 0,
        }
    }

    /// Another connection begins: its first ACK counts from 0.
    pub fn reconnect(&mut self) {
        self.told = 0;
    }

    /// Returns what the ACKs of this connection add up to.
    #[cfg(feature = "upgrade")]
    pub(super) fn told(&self) -> u64 {
        self.told
    }

    /// Goes on with a connection on which the ACKs add up to `told`. Returns `None`, and changes nothing, if that was not taken.
    #[cfg(feature = "upgrade")]
    pub(super) fn go_on(&mut self, told: u64) -> Option<()> {
        self.told = Some(told).filter(|told| *told <= self.taken)?;
        Some(())
    }

    /// Appends what outlives a connection and a process. (SPEC 39.2)
    #[cfg(feature = "edge")]
    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.received.to_le_bytes());
        out.extend_from_slice(&self.taken.to_le_bytes());
    }

    /// Reads what [`save`](Self::save) wrote.
    #[cfg(feature = "edge")]
    pub(crate) fn load(saved: &mut Saved<'_>) -> Option<Self> {
        let (received, taken) = (saved.u64()?, saved.u64()?);
        let can_be = taken <= received && received <= super::MAX_NUMBER;
        can_be.then_some(Received {
            received,
            taken,
            told: 0,
        })
    }
}

/// The sender's side of one direction: what the receiver has acknowledged on any connection so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Acknowledged {
    acknowledged: u64,
    /// What the ACKs of this connection add up to.
    heard: u64,
}

image!(Acknowledged {
    acknowledged,
    heard
});

impl Acknowledged {
    /// Returns the highest number acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Handles an ACK. Returns the highest number acknowledged, which never falls.
    ///
    /// # Errors
    /// [`AckError::BeyondSent`]: the peer breaks the protocol, and nothing changes.
    pub fn hear(&mut self, more: u64, sent: u64) -> Result<u64, AckError> {
        let heard = self.heard.saturating_add(more);
        if heard > sent {
            return Err(AckError::BeyondSent {
                acknowledged: heard,
                sent,
            });
        }
        self.heard = heard;
        self.acknowledged = self.acknowledged.max(heard);
        Ok(self.acknowledged)
    }

    /// Goes on behind what was acknowledged. (SPEC 46.1(d))
    #[cfg(any(feature = "client", feature = "cluster"))]
    pub(crate) const fn after(acknowledged: u64) -> Self {
        Acknowledged {
            acknowledged,
            heard: 0,
        }
    }

    /// Another connection begins: its first ACK counts from 0.
    pub fn reconnect(&mut self) {
        self.heard = 0;
    }

    /// Returns what the ACKs of this connection add up to.
    #[cfg(feature = "upgrade")]
    pub(super) fn heard(&self) -> u64 {
        self.heard
    }

    /// Goes on with a connection on which the ACKs add up to `heard`. Returns `None`, and changes nothing, if that is more than was
    /// acknowledged.
    #[cfg(feature = "upgrade")]
    pub(super) fn go_on(&mut self, heard: u64) -> Option<()> {
        self.heard = Some(heard).filter(|heard| *heard <= self.acknowledged)?;
        Some(())
    }

    /// Appends what outlives a connection and a process. (SPEC 39.2)
    #[cfg(feature = "edge")]
    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.acknowledged.to_le_bytes());
    }

    /// Reads what [`save`](Self::save) wrote.
    #[cfg(feature = "edge")]
    pub(crate) fn load(saved: &mut Saved<'_>) -> Option<Self> {
        let acknowledged = saved.u64()?;
        (acknowledged <= super::MAX_NUMBER).then_some(Acknowledged {
            acknowledged,
            heard: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_ack_beyond_what_was_sent_is_refused_and_changes_nothing() {
        let mut sender = Acknowledged::default();
        assert_eq!(sender.hear(3, 5), Ok(3));
        let before = sender;
        for more in [3, 100, u64::MAX] {
            let acknowledged = more.saturating_add(3);
            let error = AckError::BeyondSent {
                acknowledged,
                sent: 5,
            };
            assert_eq!(sender.hear(more, 5), Err(error));
            assert_eq!(sender, before);
        }
        assert_eq!(sender.hear(2, 5), Ok(5));
    }

    #[test]
    fn the_first_ack_of_a_connection_tells_all_again() {
        let (mut receiver, mut sender) = (Received::default(), Acknowledged::default());
        assert_eq!(receiver.count(4), Some(4));
        receiver.take(3);
        assert_eq!(receiver.open(), 4);
        // This one is lost with its connection.
        assert_eq!(receiver.tell(), Some(3));
        assert_eq!((receiver.tell(), receiver.open()), (None, 1));
        receiver.reconnect();
        sender.reconnect();
        assert_eq!(receiver.tell(), Some(3));
        assert_eq!(sender.hear(3, 4), Ok(3));
        receiver.take(4);
        assert_eq!(receiver.tell(), Some(1));
        assert_eq!(sender.hear(1, 4), Ok(4));
    }

    #[test]
    fn numbers_end_at_their_greatest() {
        let mut receiver = Received::default();
        assert_eq!(
            receiver.count(super::super::MAX_NUMBER),
            Some(i64::MAX as u64)
        );
        let before = receiver;
        assert_eq!((receiver.count(1), receiver.count(u64::MAX)), (None, None));
        assert_eq!(receiver, before);
    }

    proptest! {
        /// Acknowledgements are lost and connections die at any moment. The sender never knows more than was taken, and after one more
        /// exchange it knows all of it.
        #[test]
        fn the_sender_learns_what_was_taken(steps in prop::collection::vec((0..6_u8, 0..20_u64), 0..60)) {
            let (mut receiver, mut sender, mut sent) = (Received::default(), Acknowledged::default(), 0);
            for (step, amount) in steps {
                match step {
                    0 | 1 => {
                        sent += amount;
                        prop_assert_eq!(receiver.count(amount), Some(sent));
                    }
                    2 => receiver.take(receiver.taken() + amount.min(sent - receiver.taken())),
                    3 => if let Some(more) = receiver.tell() {
                        prop_assert_eq!(sender.hear(more, sent), Ok(receiver.taken()));
                    },
                    _ => {
                        let _lost = receiver.tell();
                        receiver.reconnect();
                        sender.reconnect();
                    }
                }
                prop_assert!(sender.acknowledged() <= receiver.taken());
            }
            if let Some(more) = receiver.tell() {
                prop_assert_eq!(sender.hear(more, sent), Ok(receiver.taken()));
            }
            prop_assert_eq!(sender.acknowledged(), receiver.taken());
        }
    }
}
