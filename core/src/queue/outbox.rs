//! The packets of one session for its peer, and what of them stays.

#[cfg(test)]
mod tests;

use core::fmt;

#[cfg(any(test, feature = "testkit", feature = "upgrade"))]
use super::CountedTwice;
#[cfg(any(feature = "edge", feature = "client"))]
use super::SharedPacket;
use super::shared::{Beside, Shared};
use super::{Amount, FrameQueue, Walk};
use crate::wire::frame::LENGTH_BYTES;

/// The capacity above which memory is returned when an outbox becomes empty.
pub(crate) const KEPT_CAPACITY_BYTES: usize = 128 * 1024;
/// The same for one that keeps packets until they are acknowledged, which holds more. With the bounds of the defaults and short packets it
/// is what a busy client fills.
pub(crate) const KEPT_RING_CAPACITY_BYTES: usize = 512 * 1024;

/// The packets of an outbox that holds none.
const NO_FRAMES: &FrameQueue = &FrameQueue::new();

const MANY: &str = "2^32 packets need more memory than any bound allows";

/// How long an [`Outbox`] keeps a packet. A session's version decides, for the life of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third rule")]
pub enum Retention {
    /// Until the transport has taken its last byte. A packet that the transport took in part is sent again in full on the next one; a
    /// packet that it took whole is gone, and may be lost with it (SPEC 1.4, 9.4).
    UntilWritten,
    /// Until the peer has acknowledged it. The next transport continues where the peer says.
    UntilAcked,
}

/// The most that an outbox may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "SPEC 10 has these two bounds")]
pub struct Bounds {
    /// The maximum number of packets.
    pub packets: usize,
    /// The maximum number of bytes, with 4 bytes for each packet's length. One packet alone may be of any size.
    pub bytes: usize,
}

/// A peer acknowledged a packet, or asks to continue after a packet, that it cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("packet {number} named, only {acked} to {sent} can be")]
#[expect(clippy::exhaustive_structs, reason = "the marks are all there is")]
pub struct UnknownNumber {
    /// The number that the peer named.
    pub number: u64,
    /// The last packet that it has acknowledged.
    pub acked: u64,
    /// The last packet that was sent to it.
    pub sent: u64,
}

/// The packets of a session for its peer. It belongs to the session, so it outlives transports.
///
/// Packets are numbered from 1. Three marks divide them: `acked ≤ sent ≤ end`.
///
/// ```text
///     1 ... acked | acked + 1 ... sent | sent + 1 ... end
///      gone       | kept               | to be sent
/// ```
///
/// - [`push`](Self::push) moves `end`.
/// - [`advance`](Self::advance) moves `sent`. Under [`Retention::UntilWritten`] `acked` moves with it.
/// - [`acknowledge`](Self::acknowledge) moves `acked`, and alone does so under [`Retention::UntilAcked`].
/// - [`lose_transport`](Self::lose_transport) and [`resume_from`](Self::resume_from) are all that a drop changes: they move `sent` back.
///
/// Packets are stored once, one after another, each with its length in front: as version 2 writes them. A version that writes another form
/// reads [`next_packet`](Self::next_packet) when the transport is ready for it, and writes that form elsewhere.
///
/// A packet of which many outboxes have one copy has its place among the others, which is empty, and is counted like them
/// ([`push_shared`](Self::push_shared)). The functions whose names begin with `own` are shorter, for an owner that knows that it has none.
///
/// The outbox has no bound of its own. Its owner asks [`takes`](Self::takes) before it pushes.
#[derive(Clone)]
pub struct Outbox {
    /// The packets after `acked`. An idle client of an edge has none, and no memory for them.
    frames: Option<Box<FrameQueue>>,
    /// The number of the last packet.
    end: u64,
    kept: Kept,
    /// The packets of which it has no copy. Most have none.
    shared: Beside,
}

image!(Outbox {
    frames,
    end,
    kept,
    shared
});

/// The packets that were sent and are kept.
#[derive(Clone, Copy)]
enum Kept {
    /// None: `sent` is `acked`.
    None,
    /// This many. A `u32` keeps sessions small.
    Sent(u32),
}

image!(enum Kept { 0 None {}, 1 Sent { 0: a } });

impl Outbox {
    /// Creates an empty outbox without heap memory.
    #[must_use]
    pub const fn new(retention: Retention) -> Self {
        Outbox {
            frames: None,
            end: 0,
            kept: match retention {
                Retention::UntilWritten => Kept::None,
                Retention::UntilAcked => Kept::Sent(0),
            },
            shared: Beside::new(),
        }
    }

    /// Returns the packets after `acked`.
    #[inline(always)]
    const fn frames(&self) -> &FrameQueue {
        match &self.frames {
            Some(frames) => frames,
            None => NO_FRAMES,
        }
    }

    /// Creates an empty outbox whose next packet has the number after `number`, which is acknowledged.
    #[cfg(any(feature = "edge", feature = "client"))]
    pub(crate) const fn after(retention: Retention, number: u64) -> Self {
        let mut outbox = Outbox::new(retention);
        outbox.end = number;
        outbox
    }

    /// Returns the packets that it holds, in order, a half-written one in full.
    #[cfg(any(feature = "edge", feature = "client"))]
    pub(crate) fn held_packets(&self) -> impl Iterator<Item = &[u8]> {
        let mut number = self.acked();
        self.frames().bodies().map(move |body| {
            number += 1;
            let packet = self.shared.get().and_then(|shared| shared.at(number));
            packet.map_or(body, SharedPacket::packet)
        })
    }

    /// Changes how long it keeps packets: the session that they wait for gets another version.
    ///
    /// # Panics
    /// If anything was sent.
    #[cfg(feature = "client")]
    pub(crate) fn keep(&mut self, retention: Retention) {
        assert!(
            self.sent() == 0 && !self.frames().mid_frame(),
            "a session that has sent something has a version"
        );
        self.kept = Outbox::new(retention).kept;
    }

    /// Returns how long it keeps a packet.
    #[must_use]
    pub const fn retention(&self) -> Retention {
        match self.kept {
            Kept::None => Retention::UntilWritten,
            Kept::Sent(_) => Retention::UntilAcked,
        }
    }

    // ---- the marks

    /// Returns the number of the last packet that is gone: acknowledged, or no longer kept.
    #[must_use]
    pub const fn acked(&self) -> u64 {
        self.end - self.frames().packets() as u64
    }

    /// Returns the number of the last packet that the transport has taken whole.
    #[must_use]
    pub const fn sent(&self) -> u64 {
        self.acked() + self.sent_and_kept() as u64
    }

    /// Returns the number of the last packet.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.end
    }

    const fn sent_and_kept(&self) -> usize {
        match self.kept {
            Kept::None => 0,
            Kept::Sent(packets) => packets as usize,
        }
    }

    // ---- what it holds

    /// Returns the number of bytes in which a packet of `length` bytes is stored, which is what it costs (SPEC 10.1).
    #[inline]
    #[must_use]
    pub const fn stored_bytes(length: usize) -> usize {
        LENGTH_BYTES + length
    }

    /// Returns the number of packets held.
    #[inline]
    #[must_use]
    pub const fn packets(&self) -> usize {
        self.frames().packets()
    }

    /// Returns the bytes in which they are stored, including the written part of a half-written one.
    #[inline]
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        match self.shared.get() {
            None => self.frames().held_bytes(),
            Some(shared) => self.frames().held_bytes() + shared.bytes(),
        }
    }

    /// Returns the bytes in which those are stored of which it has a copy of its own: all of them where no packet is shared.
    #[cfg(feature = "edge")]
    #[inline]
    #[must_use]
    pub(crate) const fn own_bytes(&self) -> usize {
        self.frames().held_bytes()
    }

    /// Returns what it counts for in the account: [`held_bytes`](Self::held_bytes), and the entries of packets that are shared.
    #[cfg(feature = "edge")]
    #[inline]
    #[must_use]
    pub(crate) fn counted_bytes(&self) -> usize {
        match self.shared.get() {
            None => self.frames().held_bytes(),
            Some(shared) => self.frames().held_bytes() + shared.bytes() + shared.entry_bytes(),
        }
    }

    /// Returns the number of packets that were sent and are kept.
    #[inline]
    #[must_use]
    pub const fn kept_packets(&self) -> usize {
        self.sent_and_kept()
    }

    /// Returns the bytes in which they are stored.
    #[inline]
    #[must_use]
    pub const fn kept_bytes(&self) -> usize {
        let kept = self.frames().taken_bytes();
        match self.shared.get() {
            None => kept,
            Some(shared) => kept + shared.kept_bytes(),
        }
    }

    /// [`held`](Self::held), where no packet is shared.
    #[cfg(feature = "keys")]
    #[inline]
    pub(crate) const fn own_held(&self) -> Amount {
        Amount {
            packets: self.packets(),
            bytes: self.frames().held_bytes(),
        }
    }

    /// [`kept`](Self::kept), where no packet is shared.
    #[cfg(feature = "keys")]
    #[inline]
    pub(crate) const fn own_kept(&self) -> Amount {
        Amount {
            packets: self.kept_packets(),
            bytes: self.frames().taken_bytes(),
        }
    }

    /// Returns how much of that it holds that was not sent, where no packet is shared.
    #[cfg(feature = "keys")]
    #[inline]
    pub(crate) const fn own_waiting(&self) -> Amount {
        Amount {
            packets: self.packets() - self.kept_packets(),
            bytes: self.frames().bytes(),
        }
    }

    /// Returns how much it holds, with the lengths of the packets.
    #[inline]
    #[must_use]
    pub const fn held(&self) -> Amount {
        Amount {
            packets: self.packets(),
            bytes: self.held_bytes(),
        }
    }

    /// Returns how much of that was sent and is kept.
    #[inline]
    #[must_use]
    pub const fn kept(&self) -> Amount {
        Amount {
            packets: self.kept_packets(),
            bytes: self.kept_bytes(),
        }
    }

    /// Returns whether no packet is held.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.frames().is_empty()
    }

    /// Returns whether a packet that is stored in `stored_bytes` may be pushed: within both bounds, or alone.
    #[inline]
    #[must_use]
    pub fn takes(&self, stored_bytes: usize, bounds: Bounds) -> bool {
        self.packets() < bounds.packets
            && (self.is_empty() || self.held_bytes().saturating_add(stored_bytes) <= bounds.bytes)
    }

    /// [`takes`](Self::takes), where no packet is shared.
    #[cfg(feature = "edge")]
    #[inline(always)]
    pub(crate) fn own_takes(&self, stored_bytes: usize, bounds: Bounds) -> bool {
        self.packets() < bounds.packets
            && (self.is_empty() || self.own_bytes().saturating_add(stored_bytes) <= bounds.bytes)
    }

    /// Returns whether what it holds may stay.
    #[must_use]
    pub fn is_within(&self, bounds: Bounds) -> bool {
        self.packets() <= bounds.packets
            && (self.packets() <= 1 || self.held_bytes() <= bounds.bytes)
    }

    // ---- from the session to the transport

    /// Appends a packet.
    ///
    /// # Panics
    /// If it is longer than a `u32` can express. Every limit on a packet is far below.
    #[inline(always)]
    pub fn push(&mut self, packet: &[u8]) {
        self.frames.get_or_insert_default().push_body(packet);
        self.end += 1;
    }

    /// Appends a packet that is not copied.
    #[cfg(feature = "edge")]
    pub fn push_shared(&mut self, packet: &SharedPacket) {
        self.push(&[]);
        self.shared.push(self.end, packet);
    }

    /// Returns whether anything is to be sent.
    #[inline]
    #[must_use]
    pub const fn has_unsent(&self) -> bool {
        self.frames().bytes() > 0
    }

    /// Returns what is to be sent as it is stored, contiguous: the rest of a half-written packet, and the packets after it, up to one that
    /// is shared. That is returned alone, when it is the next.
    #[inline]
    #[must_use]
    pub fn unsent(&self) -> &[u8] {
        match self.shared.get() {
            None => self.frames().output(),
            Some(shared) => self.unsent_beside(shared),
        }
    }

    /// Returns whether it has packets of which it has no copy.
    #[inline(always)]
    pub(crate) const fn is_sharing(&self) -> bool {
        self.shared.get().is_some()
    }

    /// [`unsent`](Self::unsent), where no packet is shared.
    #[cfg(feature = "edge")]
    #[inline(always)]
    pub(crate) fn own_unsent(&self) -> &[u8] {
        self.frames().output()
    }

    #[cold]
    #[inline(never)]
    fn unsent_beside<'a>(&'a self, shared: &'a Shared) -> &'a [u8] {
        let output = self.frames().output();
        let sent = self.sent();
        let Some((number, packet)) = shared.next_above(sent) else {
            return output;
        };
        if number == sent + 1 {
            return packet.frame().get(shared.written..).unwrap_or_default();
        }
        // The walk begins with a half-written packet's first byte.
        let before = usize::try_from(number - sent - 1).unwrap_or(usize::MAX);
        let is_untaken = matches!(self.kept, Kept::Sent(_));
        let begin = self.frames().taken_bytes();
        let run = self.frames().walk(is_untaken, before).place() - begin;
        output.get(..run).unwrap_or_default()
    }

    /// Returns the packet after `sent`, unless it is half-written.
    #[must_use]
    pub fn next_packet(&self) -> Option<&[u8]> {
        match self.shared.get() {
            Some(shared) => self.next_beside(shared),
            None => self.own_next_packet(),
        }
    }

    /// [`next_packet`](Self::next_packet), where no packet is shared.
    pub(crate) fn own_next_packet(&self) -> Option<&[u8]> {
        let frames = self.frames.as_deref()?;
        match self.kept {
            Kept::None if frames.mid_frame() => None,
            _ => frames.next_body(),
        }
    }

    #[cold]
    #[inline(never)]
    fn next_beside<'a>(&'a self, shared: &'a Shared) -> Option<&'a [u8]> {
        match shared.at(self.sent() + 1) {
            Some(_) if shared.written > 0 => None,
            Some(packet) => Some(packet.packet()),
            None => self.own_next_packet(),
        }
    }

    /// Returns the packets after `sent`, in order, unless the first one is half-written, where no packet is shared.
    #[cfg(feature = "keys")]
    pub(crate) fn own_unsent_packets(&self) -> impl Iterator<Item = &[u8]> {
        let is_half_written = matches!(self.kept, Kept::None) && self.frames().mid_frame();
        let bodies = (!is_half_written).then(|| self.frames().unwritten_bodies());
        bodies.into_iter().flatten()
    }

    /// Handles that the transport took the first `n` bytes of [`unsent`](Self::unsent).
    ///
    /// # Panics
    /// If `n` is more than was offered. Under [`Retention::UntilAcked`] also if `n` bytes are not whole packets: a version that numbers
    /// packets takes them whole.
    #[inline]
    pub fn advance(&mut self, n: usize) {
        if self.is_sharing() {
            return self.advance_beside(n);
        }
        self.own_advance_by(n);
    }

    /// [`advance`](Self::advance), where no packet is shared.
    #[inline(always)]
    pub(crate) fn own_advance_by(&mut self, n: usize) {
        let Some(frames) = &mut self.frames else {
            return assert_eq!(n, 0, "no more bytes can be taken than were offered");
        };
        match &mut self.kept {
            Kept::None => frames.advance_keeping(n, KEPT_CAPACITY_BYTES),
            Kept::Sent(packets) => {
                let passed = u32::try_from(frames.pass(n)).ok();
                *packets = passed
                    .and_then(|passed| packets.checked_add(passed))
                    .expect(MANY);
            }
        }
    }

    /// Handles that the transport took the first `n` bytes of [`unsent`](Self::unsent), or reports more than it was offered. Returns how many
    /// it took.
    #[cfg(feature = "keys")]
    #[inline]
    pub(crate) fn advance_at_most(&mut self, n: usize) -> usize {
        if self.is_sharing() {
            let taken = n.min(self.unsent().len());
            self.advance_beside(taken);
            return taken;
        }
        self.own_advance(n)
    }

    /// [`advance_at_most`](Self::advance_at_most), where no packet is shared.
    #[cfg(feature = "keys")]
    #[inline(always)]
    pub(crate) fn own_advance(&mut self, n: usize) -> usize {
        let taken = n.min(self.frames().bytes());
        self.own_advance_by(taken);
        taken
    }

    /// [`advance`](Self::advance) where packets are shared.
    #[cold]
    #[inline(never)]
    fn advance_beside(&mut self, mut n: usize) {
        assert!(
            self.retention() == Retention::UntilAcked || n <= self.unsent().len(),
            "no more bytes can be written than were offered"
        );
        let sent = self.sent();
        let (Some(shared), Some(frames)) = (self.shared.get_mut(), &mut self.frames) else {
            return;
        };
        match &mut self.kept {
            Kept::None => {
                let next = shared.at(sent + 1).map(|packet| packet.frame().len());
                if let Some(length) = next {
                    shared.written += n;
                    if shared.written < length {
                        return;
                    }
                    shared.drop_until(sent + 1);
                    n = LENGTH_BYTES;
                }
                frames.advance_keeping(n, KEPT_CAPACITY_BYTES);
                self.shared.trim();
            }
            Kept::Sent(packets) => {
                let mut number = sent;
                while n > 0 {
                    number += 1;
                    let (stored, length) = match shared.at(number) {
                        Some(packet) => (LENGTH_BYTES, packet.packet().len()),
                        None => {
                            let length = frames.next_body().map_or(0, <[u8]>::len);
                            (LENGTH_BYTES + length, length)
                        }
                    };
                    n = n
                        .checked_sub(Outbox::stored_bytes(length))
                        .expect("frames that are kept are taken whole");
                    shared.keep(number);
                    frames.pass(stored);
                    *packets = packets.checked_add(1).expect(MANY);
                }
            }
        }
    }

    /// Returns the bytes of the oldest packet that the transport has taken, with its length, if it is half-written.
    #[cfg(feature = "upgrade")]
    pub(crate) fn begun_bytes(&self) -> usize {
        match self.kept {
            Kept::None => {
                let of_shared = self.shared.get().map_or(0, |shared| shared.written);
                self.frames().begun_bytes() + of_shared
            }
            Kept::Sent(_) => 0,
        }
    }

    /// Goes on with the transport of another process, which has taken so many bytes of the oldest packet. Returns `None`, and changes
    /// nothing, if that is not half-written then.
    #[cfg(feature = "upgrade")]
    pub(crate) fn begin_at(&mut self, bytes: usize) -> Option<()> {
        match &mut self.frames {
            Some(frames) => frames.begin_at(bytes),
            None => (bytes == 0).then_some(()),
        }
    }

    // ---- what is given up

    /// Returns the place of the packets after `number`, and their lengths.
    ///
    /// # Panics
    /// If it is below `acked`.
    #[must_use]
    pub fn walk_after(&self, number: u64) -> Walk<'_> {
        let is_untaken = number >= self.sent();
        let from = if is_untaken {
            self.sent()
        } else {
            self.acked()
        };
        let places = number
            .checked_sub(from)
            .and_then(|places| usize::try_from(places).ok());
        let places = places.expect("what is acknowledged has no place");
        let mut walk = self.frames().walk(is_untaken, places);
        (walk.shared, walk.number) = (self.shared.get(), number);
        walk
    }

    /// Drops the bytes of `count` packets from number `first` on, which has this [place](Self::walk_after). Their places stay, as empty
    /// packets.
    ///
    /// # Panics
    /// If there are fewer packets, or under [`Retention::UntilWritten`], under which a packet may be half-written.
    pub fn empty(&mut self, place: usize, first: u64, count: usize) {
        assert_eq!(self.retention(), Retention::UntilAcked, "all are whole");
        let sent = self.sent();
        if let Some(shared) = self.shared.get_mut() {
            shared.give_up(first, count, sent);
        }
        let frames = self.frames.as_deref_mut().expect("they have places");
        frames.empty_bodies(place, count);
    }

    // ---- what stays

    /// Handles that the peer has acknowledged all packets up to `number`, which are dropped.
    ///
    /// # Errors
    /// [`UnknownNumber`] if it was not sent, or was acknowledged before. Nothing changes then.
    pub fn acknowledge(&mut self, number: u64) -> Result<(), UnknownNumber> {
        self.own_acknowledge(number)?;
        if let (Kept::Sent(_), Some(shared)) = (self.kept, self.shared.get_mut()) {
            shared.drop_until(number);
            self.shared.trim();
        }
        Ok(())
    }

    /// [`acknowledge`](Self::acknowledge), where no packet is shared.
    pub(crate) fn own_acknowledge(&mut self, number: u64) -> Result<(), UnknownNumber> {
        let dropped = self.distance(number, self.sent())?;
        if let Kept::Sent(packets) = &mut self.kept {
            if let Some(frames) = &mut self.frames {
                frames.drop_oldest(dropped as usize, KEPT_RING_CAPACITY_BYTES);
            }
            *packets -= dropped;
        }
        Ok(())
    }

    /// Handles that the transport is gone: a packet that it took in part is to be sent in full. Which of the packets that it took whole are
    /// to be sent again is known at the resume, if they are kept.
    #[inline]
    pub fn lose_transport(&mut self) {
        if let Kept::None = self.kept {
            if let Some(frames) = &mut self.frames {
                frames.rewind();
            }
            if let Some(shared) = self.shared.get_mut() {
                shared.written = 0;
            }
        }
    }

    /// Handles that the peer resumes and has received all packets up to `number`: what follows is to be sent. This acknowledges nothing.
    ///
    /// # Errors
    /// [`UnknownNumber`] if it was not sent, or a later one was acknowledged. Nothing changes then.
    pub fn resume_from(&mut self, number: u64) -> Result<(), UnknownNumber> {
        self.resume_within(number, self.sent())
    }

    /// Like [`resume_from`](Self::resume_from), where packets up to `sent` were sent on some transport before. So `sent` may also move
    /// forward: the peer has what the last transport did not carry again.
    ///
    /// # Errors
    /// [`UnknownNumber`] if it is beyond `sent`, or a later one was acknowledged. Nothing changes then.
    pub fn resume_within(&mut self, number: u64, sent: u64) -> Result<(), UnknownNumber> {
        let kept = self.distance(number, sent.min(self.end))?;
        if let Kept::Sent(packets) = &mut self.kept {
            if let Some(frames) = &mut self.frames {
                frames.rewind_to(kept as usize);
            }
            *packets = kept;
            if let Some(shared) = self.shared.get_mut() {
                shared.keep_until(number);
            }
        }
        Ok(())
    }

    /// Returns how far `number` is from `acked`, if it is not beyond `sent`.
    fn distance(&self, number: u64, sent: u64) -> Result<u32, UnknownNumber> {
        let acked = self.acked();
        let distance = number
            .checked_sub(acked)
            .filter(|_| number <= sent)
            .and_then(|distance| u32::try_from(distance).ok());
        distance.ok_or(UnknownNumber {
            number,
            acked,
            sent,
        })
    }

    /// Drops all packets.
    pub fn clear(&mut self) {
        self.shared = Beside::new();
        if let Some(frames) = &mut self.frames {
            frames.clear_keeping(KEPT_CAPACITY_BYTES);
        }
        if let Kept::Sent(packets) = &mut self.kept {
            *packets = 0;
        }
    }

    // ---- memory

    /// Returns the heap memory owned, in bytes.
    #[inline]
    #[must_use]
    pub const fn capacity_bytes(&self) -> usize {
        self.frames().capacity_bytes()
    }

    /// Takes over the memory of `frames`, which are empty, for future packets.
    #[inline(always)]
    pub fn adopt(&mut self, frames: Box<FrameQueue>) {
        debug_assert!(self.is_empty() && frames.is_empty(), "both have no packets");
        self.frames = Some(frames);
    }

    /// Returns whether it has no memory for packets, so that it can [adopt](Self::adopt) some.
    #[inline(always)]
    #[must_use]
    pub const fn wants_memory(&self) -> bool {
        self.frames.is_none()
    }

    /// Gives a copied outbox copies of its own of what is shared.
    #[cfg(any(test, feature = "testkit", feature = "upgrade"))]
    pub(crate) fn unshare(
        &mut self,
        twice: &CountedTwice,
        copies: &mut Vec<(SharedPacket, SharedPacket)>,
    ) {
        if let Some(shared) = self.shared.get_mut() {
            shared.unshare(twice, copies);
        }
    }

    /// Gives away the memory of an empty outbox, for another one to [`adopt`](Self::adopt).
    #[must_use]
    #[inline(always)]
    pub fn surrender(&mut self) -> Option<Box<FrameQueue>> {
        self.frames.take_if(|frames| frames.is_empty())
    }
}

impl fmt::Debug for Outbox {
    /// Shows only numbers: the bytes are a user's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("acked", &self.acked())
            .field("sent", &self.sent())
            .field("end", &self.end)
            .field("held_bytes", &self.held_bytes())
            .finish_non_exhaustive()
    }
}
