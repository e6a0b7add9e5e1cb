//! What a session keeps of its numbers over all its connections, beside the packets in its outbox. (SPEC 24.1 to 24.3, 24.7)

#[cfg(feature = "edge")]
use crate::queue::SharedPacket;
use crate::queue::{Amount, Outbox};
#[cfg(feature = "edge")]
use crate::wire::saved::Saved;

use super::acks::{AckError, Acknowledged, Received};
use super::classes::{Classes, GivenUp, Upcoming};
use super::items::Ledger;

/// The most numbers of a session that are given up and not acknowledged. Each costs 4 bytes until then. (SPEC 24.4(e))
pub const MAX_GIVEN_UP: u64 = 262_144;

/// So many holes, or more. Then packets are not counted: with as many numbers, the count would be the peer's to choose. Their bytes are.
const MANY_HOLES: u32 = u32::MAX;

/// Returns a number that is kept in fewer bytes, or the greatest that can be.
fn short(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// How much one side may have sent and not seen acknowledged. (SPEC 24.2(b))
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "Welcome has these two")]
pub struct Ring {
    /// The greatest number of packets, at least 1.
    pub packets: u32,
    /// The greatest number of bytes. One packet alone may be of any length.
    pub bytes: u32,
}

image!(Ring { packets, bytes });

impl Ring {
    /// Returns whether one more packet of `length` bytes may go out where this much is `kept`, with its lengths.
    pub(super) fn has_room(self, kept: Amount, length: usize) -> bool {
        let stored = kept.bytes.saturating_add(Outbox::stored_bytes(length));
        kept.packets == 0 || (kept.packets < self.packets as usize && stored <= self.bytes as usize)
    }
}

/// A peer sent more than the ring holds without waiting for an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{packets} packets of {bytes} bytes unacknowledged, {} of {} bytes allowed", .ring.packets, .ring.bytes)]
#[expect(clippy::exhaustive_structs, reason = "the ring has no other bound")]
pub struct BeyondRing {
    /// The packets that would be unacknowledged.
    pub packets: u64,
    /// Their bytes, as far as they were counted.
    pub bytes: u64,
    /// The ring.
    pub ring: Ring,
}

/// The numbers of a session, in both directions.
#[derive(Debug, Clone)]
pub struct Progress {
    ring: Ring,
    received: Received,
    acknowledged: Acknowledged,
    /// The highest number sent on any connection.
    sent: u64,
    /// The highest number that an ACK of any connection was written for.
    told: u64,
    /// The bytes of the packets received since that ACK was written. The ring has no more, except for one packet alone.
    untold_bytes: u32,
    /// The numbers received since then that no packet came for. [`MANY_HOLES`] stands for all greater ones.
    holes: u32,
    /// The packets that this side sends which are not ordinary, from the first one on. It is also there, empty, while the
    /// outbox shares packets. So where it is `None`, each packet is ordinary and in the outbox's own memory: one check for both.
    classes: Option<Box<Classes>>,
}

image!(Progress {
    ring,
    received,
    acknowledged,
    sent,
    told,
    untold_bytes,
    holes,
    classes
});

impl Progress {
    /// Begins a session with the ring that its Welcome names.
    #[must_use]
    pub fn new(ring: Ring) -> Self {
        Progress {
            ring,
            received: Received::default(),
            acknowledged: Acknowledged::default(),
            sent: 0,
            told: 0,
            untold_bytes: 0,
            holes: 0,
            classes: None,
        }
    }

    /// Goes on where another process or another edge did: behind the packets that were taken and those that were acknowledged, of which all up
    /// to `sent` may have been sent. (SPEC 44.5(d), 46.1(d))
    #[cfg(any(feature = "client", feature = "cluster"))]
    pub(crate) fn restored(ring: Ring, taken: u64, acknowledged: u64, sent: u64) -> Self {
        Progress {
            received: Received::after(taken),
            acknowledged: Acknowledged::after(acknowledged),
            sent,
            told: taken,
            ..Progress::new(ring)
        }
    }

    /// Returns the ring.
    #[must_use]
    pub fn ring(&self) -> Ring {
        self.ring
    }

    /// Returns the highest number received.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.received()
    }

    /// Returns the highest number taken: what the next ACK covers.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.received.taken()
    }

    /// Returns the highest number sent on any connection.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Another connection begins: the first ACK of each direction counts from 0 (SPEC 24.3(a)).
    pub fn reconnect(&mut self) {
        self.received.reconnect();
        self.acknowledged.reconnect();
    }

    // ---- what outlives the process

    /// Appends the numbers of a session without a connection. (SPEC 39.2)
    #[cfg(feature = "edge")]
    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.ring.packets.to_le_bytes());
        out.extend_from_slice(&self.ring.bytes.to_le_bytes());
        self.received.save(out);
        self.acknowledged.save(out);
        let (bytes, holes) = (self.untold_bytes.into(), self.holes.into());
        for number in [self.sent, self.told, bytes, holes] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.push(self.classes.is_some().into());
        if let Some(classes) = &self.classes {
            classes.save(out);
        }
    }

    /// Reads what [`save`](Self::save) wrote, of a session with this outbox. `None`: no session has such numbers.
    #[cfg(feature = "edge")]
    pub(crate) fn load(saved: &mut Saved<'_>, outbox: &Outbox) -> Option<Self> {
        let ring = Ring {
            packets: saved.u32()?,
            bytes: saved.u32()?,
        };
        let progress = Progress {
            ring,
            received: Received::load(saved)?,
            acknowledged: Acknowledged::load(saved)?,
            sent: saved.u64()?,
            told: saved.u64()?,
            untold_bytes: short(saved.u64()?),
            holes: short(saved.u64()?),
            classes: match saved.flag()? {
                true => Some(Box::new(Classes::load(saved, outbox.end())?)),
                false => None,
            },
        };
        let can_be = progress.sent <= outbox.end()
            && progress.acknowledged.acknowledged() <= progress.sent
            && progress.told <= progress.received();
        can_be.then_some(progress)
    }

    /// Returns what the ACKs of this connection add up to: those that were sent, and those that came.
    #[cfg(feature = "upgrade")]
    pub(crate) fn acks_of_connection(&self) -> [u64; 2] {
        [self.received.told(), self.acknowledged.heard()]
    }

    /// Goes on with a connection on which the ACKs [add up](Self::acks_of_connection) to this. `None`: they cannot.
    #[cfg(feature = "upgrade")]
    pub(crate) fn go_on(&mut self, [told, heard]: [u64; 2]) -> Option<()> {
        self.received.go_on(told)?;
        self.acknowledged.go_on(heard)
    }

    // ---- what the peer sends

    /// Checks that the peer may send one more packet of `bytes` bytes, which it was not told of yet.
    ///
    /// # Errors
    /// [`BeyondRing`] (SPEC 24.2(c)).
    pub fn check_room(&self, bytes: usize) -> Result<(), BeyondRing> {
        let untold = self.received().saturating_sub(self.told);
        let (packets, is_alone) = match self.holes {
            MANY_HOLES => (1, self.untold_bytes == 0),
            holes => {
                let before = untold.saturating_sub(holes.into());
                (before.saturating_add(1), before == 0)
            }
        };
        let bytes = u64::from(self.untold_bytes).saturating_add(bytes as u64);
        let fits = packets <= self.ring.packets.into() && bytes <= self.ring.bytes.into();
        if fits || is_alone {
            return Ok(());
        }
        Err(BeyondRing {
            packets,
            bytes,
            ring: self.ring,
        })
    }

    /// Counts `count` numbers that a GAP or SUPERSEDED stands for. They fill no ring: no packets came.
    ///
    /// # Panics
    /// Like [`receive`](Self::receive).
    pub fn receive_hole(&mut self, count: u64) {
        self.set_holes(u64::from(self.holes).saturating_add(count));
        self.receive(count, 0);
    }

    /// Tells that all that was taken is acknowledged, and `holes` of the numbers after it have no packet.
    pub fn set_holes(&mut self, holes: u64) {
        self.holes = short(holes);
    }

    /// Counts `count` numbers that have come, of `bytes` bytes. Returns the last of them.
    ///
    /// # Panics
    /// Above the highest number, which a record's reader refuses before.
    pub fn receive(&mut self, count: u64, bytes: usize) -> u64 {
        self.untold_bytes = self.untold_bytes.saturating_add(short(bytes as u64));
        let last = self.received.count(count);
        last.expect("the numbers of a record were checked")
    }

    /// The application, or the link's queue, has taken all up to `number`.
    pub fn take(&mut self, number: u64) {
        self.received.take(number);
    }

    /// The application, or the link's queue, has taken all that was received.
    pub fn take_all(&mut self) {
        self.received.take(self.received.received());
    }

    /// Returns how many packets can be acknowledged and are not, on this connection.
    #[must_use]
    pub fn due(&self) -> u64 {
        self.received.untold()
    }

    /// Returns whether a quarter of the ring waits for an ACK, so that one is to be sent alone (SPEC 24.3(d)).
    #[must_use]
    pub fn is_due_alone(&self) -> bool {
        let quarter = |most: u32| u64::from(most).div_ceil(4);
        let packets = self.taken().saturating_sub(self.told);
        packets > 0
            && (packets >= quarter(self.ring.packets)
                || u64::from(self.untold_bytes) >= quarter(self.ring.bytes))
    }

    /// Returns the count of the next ACK, if there is something to acknowledge, and counts it as told.
    pub fn tell(&mut self) -> Option<u64> {
        let more = self.received.tell()?;
        self.told = self.told.max(self.taken());
        // Less than there is if something was received and not taken. Then the peer has more room, never less.
        self.untold_bytes = 0;
        Some(more)
    }

    // ---- what the peer acknowledges

    /// Handles an ACK, and drops what it covers.
    ///
    /// # Errors
    /// [`AckError`]: the peer breaks the protocol, and nothing changes.
    pub fn hear(&mut self, more: u64, outbox: &mut Outbox) -> Result<(), AckError> {
        self.acknowledged.hear(more, self.sent)?;
        self.release(outbox);
        Ok(())
    }

    /// Drops what was acknowledged and sent on this connection.
    fn release(&mut self, outbox: &mut Outbox) {
        let until = self.acknowledged.acknowledged().min(outbox.sent());
        if until > outbox.acked() {
            let dropped = match &mut self.classes {
                None => outbox.own_acknowledge(until),
                Some(classes) => {
                    classes.acknowledge(until);
                    outbox.acknowledge(until)
                }
            };
            dropped.expect("it lies between what was acknowledged and what was sent");
            self.classes
                .take_if(|classes| classes.is_unused() && !outbox.is_sharing());
        }
    }

    /// Counts what the outbox has sent.
    pub(crate) fn count_sent(&mut self, outbox: &mut Outbox) {
        self.sent = self.sent.max(outbox.sent());
        self.release(outbox);
    }

    // ---- what is to be sent

    /// Appends a packet that is not copied. From now on each place of the outbox is looked at, as with packets that are not ordinary.
    #[cfg(feature = "edge")]
    pub(crate) fn push_shared(&mut self, outbox: &mut Outbox, packet: &SharedPacket) {
        self.classes.get_or_insert_default();
        outbox.push_shared(packet);
    }

    /// Appends a LATEST to what is to be sent, in the place of an older one of its key that was not sent. (SPEC 24.6(c))
    pub fn push_latest(&mut self, outbox: &mut Outbox, key: u8, data: &[u8]) {
        outbox.push(&[]);
        let (number, acked) = (outbox.end(), outbox.acked());
        let classes = self.classes.get_or_insert_default();
        classes.push_latest(number, key, data, acked);
    }

    /// The keys of LATEST packets are given out anew: none takes the place of one that came before. (SPEC 36.1)
    #[cfg(feature = "edge")]
    pub(crate) fn forget_keys(&mut self) {
        if let Some(classes) = &mut self.classes {
            classes.forget_keys();
        }
    }

    /// Appends a VOLATILE to what is to be sent. (SPEC 24.6(b))
    pub fn push_volatile(&mut self, outbox: &Outbox, data: &[u8]) {
        let classes = self.classes.get_or_insert_default();
        classes.push_volatile(outbox.end(), data);
    }

    /// Counts a VOLATILE that is not sent.
    pub fn skip_volatile(&mut self) {
        self.classes.get_or_insert_default().skip(1);
    }

    /// Gives up packets that wait, the oldest above `above` first, until this `amount` is gone, or there are no more. Returns
    /// them in runs; `None` if more than [`MAX_GIVEN_UP`] numbers would be given up and not acknowledged, and the session is to end then.
    /// (SPEC 24.4)
    pub fn give_up(
        &mut self,
        outbox: &mut Outbox,
        above: u64,
        amount: Amount,
        is_told: bool,
    ) -> Option<Vec<GivenUp>> {
        let above = above.max(outbox.acked());
        let first = above.saturating_add(1);
        let classes = self.classes.get_or_insert_default();
        let sent = self.sent.max(outbox.sent());
        let walk = outbox.walk_after(above);
        let given_up = classes.give_up(first, sent, amount, walk, is_told);
        // From the last one on, so that the places of the others stay.
        for (gap, place) in given_up.iter().rev() {
            let count = usize::try_from(gap.count).unwrap_or(usize::MAX);
            outbox.empty(*place, gap.first, count);
        }
        let has_room = classes.given_up_above(0) <= MAX_GIVEN_UP;
        has_room.then(|| given_up.into_iter().map(|(gap, _)| gap).collect())
    }

    /// Returns what was given up above `received` and the backend was not told of, and counts it as told.
    pub fn take_untold_gaps(&mut self, received: u64) -> Vec<GivenUp> {
        let classes = self.classes.as_mut();
        classes.map_or_else(Vec::new, |classes| classes.take_untold_gaps(received))
    }

    /// Returns what goes out next, if something waits. Whether the ring has room for it is not said.
    #[must_use]
    pub fn upcoming<'a>(&'a self, outbox: &'a Outbox) -> Option<Upcoming<'a>> {
        let Some(classes) = &self.classes else {
            return outbox.own_next_packet().map(Upcoming::Packet);
        };
        let of_class = classes.upcoming(outbox.sent().saturating_add(1));
        of_class.or_else(|| outbox.next_packet().map(Upcoming::Packet))
    }

    /// Returns whether a packet of `length` bytes may go out now (SPEC 24.2(b), 24.6(f) and (g)).
    #[must_use]
    pub fn has_ring_room(&self, outbox: &Outbox, length: usize) -> bool {
        let Some(classes) = &self.classes else {
            return self.ring.has_room(outbox.own_kept(), length);
        };
        let mut kept = outbox.kept();
        let told = usize::try_from(classes.told()).unwrap_or(usize::MAX);
        kept.packets = kept.packets.saturating_sub(told);
        kept.bytes = kept.bytes.saturating_add(classes.sent_bytes());
        kept = kept.plus(classes.in_doubt(outbox.acked()));
        self.ring.has_room(kept, length)
    }

    /// Returns whether there are packets to send that are not ordinary or not in the outbox's own memory, or were.
    #[must_use]
    pub(crate) fn has_classes(&self) -> bool {
        self.classes.is_some()
    }

    /// Returns the packets that are not ordinary, once there was one.
    pub(crate) fn classes_mut(&mut self) -> Option<&mut Classes> {
        self.classes.as_deref_mut()
    }

    /// Returns how much of `outbox` waits above `number`, with what is not in it. Superseded packets do not wait, nor what was given up.
    #[must_use]
    pub fn waiting_above(&self, outbox: &Outbox, number: u64) -> Amount {
        let is_above = number > outbox.acked();
        let Some(classes) = &self.classes else {
            return match is_above {
                true => outbox.own_waiting(),
                false => outbox.own_held(),
            };
        };
        let mut waiting = outbox.held();
        if is_above {
            waiting = waiting.minus(outbox.kept());
        }
        let empty = usize::try_from(classes.empty_above(number)).unwrap_or(usize::MAX);
        waiting.packets = waiting.packets.saturating_sub(empty);
        waiting.plus(classes.waiting_above(number))
    }

    /// Returns the length of the LATEST of this key that was not sent, so that a newer one takes its place.
    #[must_use]
    pub fn replaceable(&self, outbox: &Outbox, key: u8) -> Option<usize> {
        let sent = outbox.sent().max(self.sent);
        self.classes.as_ref()?.replaceable(key, sent)
    }

    /// Handles that the connection is gone: what has no number goes with it.
    pub fn lose_transport(&mut self) {
        if let Some(classes) = &mut self.classes {
            classes.lose();
        }
    }

    /// Handles that all after `received` is to be sent again, as the outbox knows.
    pub fn resume_from(&mut self, received: u64) {
        if let Some(classes) = &mut self.classes {
            classes.resume_from(received);
        }
    }

    /// Drops the packets that are not ordinary: the session is over.
    pub fn forget_packets(&mut self) {
        self.classes = None;
    }

    /// Returns an estimate of the bytes that it holds beside the outbox.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.classes
            .as_ref()
            .map_or(0, |classes| classes.held_bytes())
    }

    // ---- the account

    /// Returns the account of the direction in which this side sends. (SPEC 24.7(a))
    #[must_use]
    pub fn of_sender(&self, outbox: &Outbox) -> Ledger {
        let sent = self.sent.max(outbox.acked());
        let (mut gone, mut told, mut skipped) = (0, 0, 0);
        let (mut superseded, mut gapped) = (0, 0);
        if let Some(classes) = &self.classes {
            gone = classes.told_and_acknowledged();
            (told, skipped) = (classes.told(), classes.skipped());
            (superseded, gapped) = (classes.superseded(), classes.gapped());
        }
        Ledger {
            numbered: outbox.end(),
            acknowledged: outbox.acked().saturating_sub(gone),
            superseded,
            gapped,
            open_sent: sent.saturating_sub(outbox.acked()).saturating_sub(told),
            open_unsent: outbox.end().saturating_sub(sent),
            skipped,
        }
    }

    /// Returns the account of the direction in which this side receives. (SPEC 24.7(a))
    #[must_use]
    pub fn of_receiver(&self) -> Ledger {
        Ledger {
            numbered: self.received(),
            acknowledged: self.taken(),
            open_sent: self.received().saturating_sub(self.taken()),
            ..Ledger::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Retention;

    const RING: Ring = Ring {
        packets: 4,
        bytes: 100,
    };

    #[test]
    fn a_peer_may_fill_the_ring_and_not_go_beyond() {
        let mut progress = Progress::new(RING);
        for _ in 0..4 {
            assert_eq!(progress.check_room(25), Ok(()));
            progress.receive(1, 25);
        }
        let beyond = |packets, bytes| {
            Err(BeyondRing {
                packets,
                bytes,
                ring: RING,
            })
        };
        assert_eq!(progress.check_room(0), beyond(5, 100));
        progress.take_all();
        assert_eq!(progress.check_room(0), beyond(5, 100), "it was not told");
        assert_eq!(progress.tell(), Some(4));
        assert_eq!(progress.check_room(100), Ok(()));
        assert_eq!(progress.check_room(1_000), Ok(()), "one alone");
        progress.receive(1, 100);
        assert_eq!(progress.check_room(1), beyond(2, 101));
        // What was told on an earlier connection stays told.
        progress.take_all();
        progress.reconnect();
        progress.tell();
        progress.reconnect();
        assert_eq!(progress.check_room(100), Ok(()));
    }

    #[test]
    fn numbers_without_a_packet_fill_no_ring() {
        let mut progress = Progress::new(RING);
        progress.receive_hole(1_000);
        for _ in 0..4 {
            assert_eq!(progress.check_room(1), Ok(()));
            progress.receive(1, 1);
        }
        assert!(progress.check_room(1).is_err());
        progress.take(1_001);
        assert_eq!(progress.tell(), Some(1_001));
        progress.set_holes(0);
        assert_eq!(progress.check_room(1), Ok(()));
        progress.receive(1, 1);
        assert!(progress.check_room(1).is_err());
    }

    #[test]
    fn with_too_many_holes_to_count_the_bytes_of_the_ring_still_hold() {
        let beyond = |packets, bytes| {
            Err(BeyondRing {
                packets,
                bytes,
                ring: RING,
            })
        };
        for (holes, packets) in [(MANY_HOLES - 1, 2), (MANY_HOLES, 1)] {
            let mut progress = Progress::new(RING);
            progress.receive_hole(holes.into());
            assert_eq!(progress.check_room(1_000), Ok(()), "one alone");
            progress.receive(1, 60);
            assert_eq!(progress.check_room(40), Ok(()), "at the bound");
            assert_eq!(progress.check_room(41), beyond(packets, 101));
        }
    }

    #[test]
    fn a_quarter_of_the_ring_is_acknowledged_alone() {
        let mut progress = Progress::new(Ring {
            packets: 8,
            bytes: 100,
        });
        progress.receive(1, 24);
        assert!(!progress.is_due_alone(), "it was not taken");
        progress.take_all();
        assert!(!progress.is_due_alone());
        progress.receive(1, 0);
        progress.take_all();
        assert!(progress.is_due_alone(), "two of eight");
        assert_eq!((progress.tell(), progress.is_due_alone()), (Some(2), false));
        progress.receive(1, 25);
        progress.take_all();
        assert!(progress.is_due_alone(), "25 of 100 bytes");
    }

    #[test]
    fn each_number_is_in_the_ledger_once() {
        let mut outbox = Outbox::new(Retention::UntilAcked);
        let mut progress = Progress::new(RING);
        for _ in 0..3 {
            outbox.push(b"abc");
        }
        outbox.advance(14);
        progress.count_sent(&mut outbox);
        assert_eq!(progress.hear(1, &mut outbox), Ok(()));
        let ledger = progress.of_sender(&outbox);
        assert!(ledger.is_balanced());
        assert_eq!(
            (ledger.numbered, ledger.acknowledged, ledger.open_sent),
            (3, 1, 1)
        );
        assert_eq!(ledger.open_unsent, 1);
        // A resume puts the packet that was sent back, and it stays in doubt.
        outbox.resume_from(1).unwrap();
        assert_eq!(progress.of_sender(&outbox), ledger);
        assert!(
            progress.hear(2, &mut outbox).is_err(),
            "beyond what was sent"
        );
    }
}
