//! One direction of a connection as its sender sees it: what goes into records, and what is sealed and not written. (SPEC section 21)
//!
//! A record is made when the transport is ready for it, of all that waits then. It cannot be taken back: the packets in it count as sent.

mod early;
mod packets;
#[cfg(feature = "upgrade")]
mod saved;

use core::fmt;

use crate::queue::Outbox;
use crate::time::Time;
use crate::wire::frame::LENGTH_BYTES;

use super::channel::CloseDetails;
use super::classes::Upcoming;
use super::code::Code;
use super::items::{Close, GoAway, Item, MAX_ITEMS, Resumed};
use super::progress::Progress;
use super::record::{
    MAX_EARLY_BYTES, MAX_ITEMS_BYTES, MAX_JOIN_RECORD_BYTES, RECORD_OVERHEAD, Sealer,
    USUAL_ITEMS_BYTES,
};
use super::schedule::Secret;
use super::{MAX_NUMBER, Side};
#[cfg(feature = "upgrade")]
use crate::wire::saved::{Saved, put_bytes, put_numbers};
use packets::header_bytes;

/// Bytes of records from which no more are made until the transport has taken some.
const WIRE_BYTES: usize = 64 * 1024;
/// The capacity of a buffer above which its memory is returned when nothing of it is in use.
pub(super) const KEPT_CAPACITY_BYTES: usize = 128 * 1024;
/// Items that a record leaves for control beside its packets.
const CONTROL_ITEMS: usize = 16;
/// Packets in a record at most.
const MAX_PACKETS: usize = MAX_ITEMS - CONTROL_ITEMS;
/// Bytes of early records that are kept for the one that ends them.
const EARLY_END_BYTES: usize = 32;
/// Bytes of items in the first early record. It proves who the client is, and the edge waits a second for it (SPEC 23.2(a)), so it must
/// be short enough for a slow network. Packets that it has no room for follow at once.
const FIRST_EARLY_BYTES: usize = 128;
/// The least length of the items of a record that is padded.
const PADDED_BYTES: usize = 32;
/// The length of a tag.
const TAG_BYTES: usize = RECORD_OVERHEAD - LENGTH_BYTES;
const SEALS: &str = "what is sealed fits into a record, and no connection lives for 2^64 of them";

/// The first item of a direction.
#[derive(Clone)]
enum First {
    Resumed(Resumed, Vec<[u8; 8]>),
    Token(Vec<u8>),
}

image!(enum First { 0 Resumed { 0: a, 1: b }, 1 Token { 0: a } });

/// The peer claims to have received what was never sent to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("packets up to {received} received, {sent} sent")]
#[expect(clippy::exhaustive_structs, reason = "there is no more to say")]
pub struct NeverSent {
    /// The number that the peer named.
    pub received: u64,
    /// The highest number sent.
    pub sent: u64,
}

/// What most connections of an edge never have.
#[derive(Clone, Default)]
pub(super) struct Rare {
    /// What the peer's CLOSE says, once it has come.
    pub(super) close_details: CloseDetails,
    /// The secret of the records up that follow the early ones, at a client that awaits RESUMED.
    pub(super) up: Option<Secret>,
    /// Whether the edge asks for a proof before RESUMED, and whether it was given.
    #[cfg(feature = "tickets")]
    pub(super) cold: Option<bool>,
    /// The ticket that came last, and that nobody has taken.
    #[cfg(feature = "tickets")]
    pub(super) ticket: Option<Vec<u8>>,
    pub(super) ponged: Option<[u8; 8]>,
    /// When the client leaves that was asked to, or the edge closes that asked.
    pub(super) leaves: Option<(Time, Code)>,
}

impl Rare {
    fn is_unused(&self) -> bool {
        #[cfg(feature = "tickets")]
        if self.cold.is_some() || self.ticket.is_some() {
            return false;
        }
        self.up.is_none()
            && self.ponged.is_none()
            && self.leaves.is_none()
            && self.close_details == CloseDetails::default()
    }
}

image!(Rare {
    close_details,
    up,
    ponged,
    leaves,
    #[cfg(feature = "tickets")]
    cold,
    #[cfg(feature = "tickets")]
    ticket
});

/// What is being sent on a connection. An idle one has nothing.
#[derive(Clone, Default)]
pub struct Sending {
    /// Records, the first `written` bytes of which the transport has taken.
    wire: Vec<u8>,
    written: usize,
    /// The bytes of the next packet that went into pieces.
    begun: usize,
    first: Option<First>,
    /// Packets to be told as a gap before any other.
    gap: u64,
    pong: Option<[u8; 8]>,
    ping: Option<[u8; 8]>,
    go_away: Option<GoAway>,
    #[cfg(feature = "cluster")]
    ticket: Option<Box<[u8]>>,
    ack_now: bool,
    /// The bytes of the bodies of early records, while they last.
    early_bytes: Option<u32>,
    /// What an edge has of a connection that ends, and a client also of others.
    rare: Option<Box<Rare>>,
}

image!(Sending {
    wire,
    written,
    begun,
    first,
    gap,
    pong,
    ping,
    go_away,
    ack_now,
    early_bytes,
    rare,
    #[cfg(feature = "cluster")]
    ticket
});

impl Sending {
    fn has_control(&self) -> bool {
        self.gap > 0
            || self.ack_now
            || self.has_ticket()
            || self.pong.is_some()
            || self.ping.is_some()
            || self.go_away.is_some()
    }

    #[cfg(feature = "cluster")]
    fn has_ticket(&self) -> bool {
        self.ticket.is_some()
    }

    #[cfg(not(feature = "cluster"))]
    const fn has_ticket(&self) -> bool {
        false
    }

    /// Returns whether nothing is being sent.
    fn is_unused(&self) -> bool {
        self.wire.is_empty()
            && self.begun == 0
            && self.first.is_none()
            && self.early_bytes.is_none()
            && !self.has_control()
    }
}

impl fmt::Debug for Sending {
    /// Shows only numbers: a token is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending")
            .field("begun", &self.begun)
            .field("held_bytes", &self.wire.len().saturating_sub(self.written))
            .field("early_bytes", &self.early_bytes)
            .finish_non_exhaustive()
    }
}

/// Makes the records of one direction of a connection.
#[derive(Clone)]
pub struct Outbound {
    sealer: Sealer,
    /// The number of the next packet.
    next: u64,
    /// What is being sent. Where nothing is, it can be [given away](Self::surrender).
    sending: Option<Box<Sending>>,
    /// Whether an ACK is due even if nothing else is to be sent.
    ack_due: bool,
    /// Whether records are padded.
    pads: bool,
    is_closed: bool,
    sender: Side,
}

image!(Outbound {
    sealer,
    next,
    sending,
    ack_due,
    pads,
    is_closed,
    sender
});

impl Outbound {
    fn new(sender: Side, secret: &Secret, next: u64) -> Self {
        Outbound {
            sender,
            sealer: Sealer::new(secret),
            next,
            sending: None,
            ack_due: false,
            pads: false,
            is_closed: false,
        }
    }

    /// Begins, at a client, with what is said first.
    fn saying(secret: &Secret, next: u64, sending: Sending) -> Self {
        Outbound {
            sending: Some(Box::new(sending)),
            ..Self::new(Side::Client, secret, next)
        }
    }

    /// Returns what is being sent, to add to it.
    #[inline]
    fn sending(&mut self) -> &mut Sending {
        self.sending.get_or_insert_default()
    }

    /// Returns who sends.
    #[inline]
    pub(super) fn sender(&self) -> Side {
        self.sender
    }

    /// Returns what few connections have, if this one has it.
    pub(super) fn rare(&self) -> Option<&Rare> {
        self.sending.as_deref()?.rare.as_deref()
    }

    /// Like [`rare`](Self::rare), to change it.
    pub(super) fn known_rare(&mut self) -> Option<&mut Rare> {
        self.sending.as_deref_mut()?.rare.as_deref_mut()
    }

    /// The client is not asked to leave any more. What is left without it is given back.
    pub(super) fn stay(&mut self) {
        let Some(sending) = self.sending.as_deref_mut() else {
            return;
        };
        if let Some(rare) = &mut sending.rare {
            rare.leaves = None;
        }
        sending.rare.take_if(|rare| rare.is_unused());
        let is_bare = sending.is_unused() && sending.rare.is_none();
        if is_bare && sending.wire.capacity() == 0 {
            self.sending = None;
        }
    }

    /// Returns what few connections have, of one that has it from now on.
    pub(super) fn rare_mut(&mut self) -> &mut Rare {
        self.sending().rare.get_or_insert_default()
    }

    /// Returns the bytes of the next packet that went into pieces.
    #[inline]
    fn begun(&self) -> usize {
        self.sending.as_deref().map_or(0, |sending| sending.begun)
    }

    /// Returns the bytes of the bodies of early records, while they last.
    fn early_bytes(&self) -> Option<u32> {
        self.sending.as_deref()?.early_bytes
    }

    /// Begins the direction up after a Welcome: its first item is TOKEN.
    #[must_use]
    pub fn of_join(up: &Secret, token: Vec<u8>) -> Self {
        let sending = Sending {
            first: Some(First::Token(token)),
            ..Sending::default()
        };
        Self::saying(up, 1, sending)
    }

    /// Begins the direction down after a Welcome.
    #[must_use]
    pub fn of_welcome(down: &Secret) -> Self {
        Self::new(Side::Edge, down, 1)
    }

    /// Begins the direction up after a Claim: early records, whose first packet has the number `first`.
    #[must_use]
    pub fn of_early(early: &Secret, first: u64) -> Self {
        let sending = Sending {
            early_bytes: Some(0),
            ..Sending::default()
        };
        Self::saying(early, first, sending)
    }

    /// Begins the direction down after an Answer to a client that has received all up to `received`. A CLOSE follows, or what
    /// [`resume`](Self::resume) adds.
    #[must_use]
    pub fn of_answer(down: &Secret, received: u64) -> Self {
        Self::new(Side::Edge, down, received.saturating_add(1))
    }

    /// Makes RESUMED the first item, with the marks of the attempts before. Behind it `gap` packets are told as a gap.
    #[must_use]
    pub fn resume(mut self, resumed: Resumed, marks: &[[u8; 8]], gap: u64) -> Self {
        let sending = self.sending();
        sending.first = Some(First::Resumed(resumed, marks.to_vec()));
        sending.gap = gap;
        self
    }

    /// Makes RESUMED the next item, with the marks of the attempts before.
    #[cfg(feature = "cluster")]
    pub fn resume_here(&mut self, resumed: Resumed, marks: &[[u8; 8]]) {
        self.sending().first = Some(First::Resumed(resumed, marks.to_vec()));
    }

    /// Pads records from now on, if `pads`: their length tells less of what is in them then (SPEC 21.3(f)).
    pub fn pad_records(&mut self, pads: bool) {
        self.pads = pads;
    }

    // ---- what is to be sent

    /// Asks the peer whether it is there.
    pub fn ping(&mut self, bytes: [u8; 8]) {
        self.sending().ping = Some(bytes);
    }

    /// Answers a PING. The last one of a record counts.
    pub fn pong(&mut self, bytes: [u8; 8]) {
        self.sending().pong = Some(bytes);
    }

    /// Asks the client to leave. A newer GOAWAY takes the place of an older one.
    pub fn go_away(&mut self, go_away: GoAway) {
        self.sending().go_away = Some(go_away);
    }

    /// Gives the client a ticket. A newer one takes the place of an older one.
    #[cfg(feature = "cluster")]
    pub fn give_ticket(&mut self, ticket: &[u8]) {
        self.sending().ticket = Some(ticket.into());
    }

    /// Makes a record without an item.
    #[cfg(feature = "tickets")]
    pub fn make_empty(&mut self) {
        let number = self.next;
        let start = self.begin();
        self.seal_padded(number, start, MAX_ITEMS_BYTES);
    }

    /// An ACK is due now.
    pub fn acknowledge(&mut self) {
        self.ack_due = true;
    }

    /// Sends a token, in front of everything else. The Join record has one of its own.
    #[cfg(feature = "client")]
    pub fn token(&mut self, token: Vec<u8>) {
        self.sending().first = Some(First::Token(token));
    }

    /// Asks the peer for an ACK.
    pub fn ask_for_ack(&mut self) {
        self.sending().ack_now = true;
    }

    /// Returns whether the last item was sealed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Returns whether a packet was begun, whose rest comes next.
    #[must_use]
    pub fn is_mid_packet(&self) -> bool {
        self.begun() > 0
    }

    /// Returns whether the transport has something to take, now or once records are made.
    #[must_use]
    pub fn has_output(&self, outbox: &Outbox, progress: &Progress) -> bool {
        self.held_bytes() > 0 || self.has_items(outbox, progress)
    }

    fn has_items(&self, outbox: &Outbox, progress: &Progress) -> bool {
        if self.is_closed {
            return false;
        }
        if let Some(bytes) = self.early_bytes() {
            let has_room = |bytes| self.early_room(bytes, outbox).is_some();
            return self.sealer.records() == 0
                || (self.may_send(outbox, progress) && has_room(bytes));
        }
        let sending = self.sending.as_deref();
        sending.is_some_and(|sending| sending.first.is_some() || sending.has_control())
            || (self.ack_due && progress.due() > 0)
            || self.may_send(outbox, progress)
    }

    /// Returns whether what comes next may go out: it was begun, or the ring has room for it (SPEC 24.2(b)).
    fn may_send(&self, outbox: &Outbox, progress: &Progress) -> bool {
        if self.begun() > 0 {
            return true;
        }
        match progress.upcoming(outbox) {
            None => false,
            Some(Upcoming::Volatile(_)) => true,
            Some(_) if self.next > MAX_NUMBER => false,
            Some(Upcoming::Superseded(_) | Upcoming::Gap(..)) => true,
            Some(Upcoming::Packet(packet) | Upcoming::Latest(_, packet)) => {
                progress.has_ring_room(outbox, packet.len())
            }
        }
    }

    // ---- records

    /// Makes records of what waits, and returns what the transport is to take next.
    pub fn fill(&mut self, outbox: &mut Outbox, progress: &mut Progress) -> &[u8] {
        // What is sealed cannot be taken back, so nothing is before the transport has taken what was.
        if self.held_bytes() == 0 {
            while self.held_bytes() < WIRE_BYTES && self.seal_next(outbox, progress) {}
        }
        self.wire()
    }

    /// Returns what is sealed and not written.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        let sending = self.sending.as_deref();
        let rest = sending.and_then(|sending| sending.wire.get(sending.written..));
        rest.unwrap_or_default()
    }

    /// Handles that the transport took the first `bytes` bytes of what [`fill`](Self::fill) returned. Returns how many of them there were.
    pub fn written(&mut self, bytes: usize) -> usize {
        let Some(sending) = self.sending.as_deref_mut() else {
            return 0;
        };
        let taken = bytes.min(sending.wire.len().saturating_sub(sending.written));
        sending.written = sending.written.saturating_add(taken);
        if sending.written == sending.wire.len() {
            sending.wire.clear();
            sending.written = 0;
            if sending.wire.capacity() > KEPT_CAPACITY_BYTES {
                sending.wire = Vec::new();
            }
        }
        taken
    }

    /// Returns the bytes that are sealed and not written.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let sending = self.sending.as_deref();
        sending.map_or(0, |it| it.wire.len().saturating_sub(it.written))
    }

    /// Makes the next record. Returns false if there is nothing for it.
    fn seal_next(&mut self, outbox: &mut Outbox, progress: &mut Progress) -> bool {
        if !self.has_items(outbox, progress) {
            return false;
        }
        if let Some(bytes) = self.early_bytes() {
            self.seal_early(bytes, outbox, progress);
            return true;
        }
        let start = self.begin();
        let (mut items, number) = (0_usize, self.next);
        let first = self.sending().first.take();
        let had_first = first.is_some();
        let mut most = MAX_ITEMS_BYTES;
        if let Some(first) = first {
            match first {
                First::Resumed(resumed, marks) => self.put(&Item::Resumed(resumed, &marks)),
                First::Token(token) => {
                    self.put(&Item::Token(&token));
                    // It may be a Join record.
                    most = (MAX_JOIN_RECORD_BYTES as usize).saturating_sub(TAG_BYTES);
                }
            }
        }
        self.put_control(progress);
        if !had_first {
            items = self.put_ordinary(start, outbox, progress);
        }
        while items < MAX_PACKETS
            && self.may_send(outbox, progress)
            && self.put_packet(start, items == 0 && !had_first, outbox, progress)
        {
            items = items.saturating_add(1);
            progress.count_sent(outbox);
            if self.begun() > 0 {
                break;
            }
        }
        self.seal_padded(number, start, most);
        true
    }

    fn begin(&mut self) -> usize {
        let wire = &mut self.sending().wire;
        let start = wire.len();
        wire.extend_from_slice(&[0; LENGTH_BYTES]);
        start
    }

    fn put(&mut self, item: &Item<'_>) {
        item.encode(&mut self.sending().wire);
        self.next = self.next.saturating_add(item.numbers());
    }

    fn put_control(&mut self, progress: &mut Progress) {
        self.ack_due = false;
        // Before what it acknowledges (SPEC 44.3(b)).
        #[cfg(feature = "cluster")]
        if let Some(ticket) = self.sending.as_deref_mut().and_then(|it| it.ticket.take()) {
            self.put(&Item::Ticket(&ticket));
        }
        if let Some(more) = progress.tell() {
            self.put(&Item::Ack(more));
        }
        if !self.sending().has_control() {
            return;
        }
        if core::mem::take(&mut self.sending().ack_now) {
            self.put(&Item::AckNow);
        }
        if let Some(bytes) = self.sending().pong.take() {
            self.put(&Item::Pong(bytes));
        }
        if let Some(bytes) = self.sending().ping.take() {
            self.put(&Item::Ping(bytes));
        }
        if let Some(go_away) = self.sending().go_away.take() {
            self.put(&Item::GoAway(go_away));
        }
        let count = core::mem::take(&mut self.sending().gap);
        if count > 0 {
            // Their bytes are not known any more.
            self.put(&Item::Gap {
                count,
                bytes: 0,
                reason: GAP_CLAIMED_LESS,
            });
        }
    }

    /// Makes a record of these items, whatever they are.
    #[cfg(test)]
    pub(crate) fn put_all(&mut self, items: &[Item<'_>]) {
        let number = self.next;
        let start = self.begin();
        items.iter().for_each(|item| self.put(item));
        self.seal(number, start);
    }

    /// Forgets the first item.
    #[cfg(test)]
    pub(crate) fn forget_first(&mut self) {
        self.sending().first = None;
    }

    /// Appends padding to the record that begins at `start`, up to the next power of two, but not beyond `most` bytes of items.
    fn pad(&mut self, start: usize, most: usize) {
        let used = self.used(start);
        let padded = used.next_power_of_two().max(PADDED_BYTES).min(most);
        if let Some(length) = padded.checked_sub(used.saturating_add(1)) {
            self.put(&Item::Pad { length });
        }
    }

    /// Pads the record that begins at `start`, if records are padded, to at most `most` bytes of items, and seals it.
    fn seal_padded(&mut self, number: u64, start: usize, most: usize) {
        if self.pads {
            self.pad(start, most);
        }
        self.seal(number, start);
    }

    /// Returns the bytes of items in the record that begins at `start`.
    fn used(&self, start: usize) -> usize {
        let wire = self.sending.as_deref().map_or(0, |it| it.wire.len());
        wire.saturating_sub(start.saturating_add(LENGTH_BYTES))
    }

    fn seal(&mut self, number: u64, start: usize) {
        let sending = self.sending.get_or_insert_default();
        self.sealer
            .seal(number, &mut sending.wire, start)
            .expect(SEALS);
    }

    /// Makes the last record: what fits of the packets that wait if `flushes`, and CLOSE with the ledgers. Everything to be said is in the
    /// wire then.
    pub fn close(
        &mut self,
        close: &Close<'_>,
        flushes: bool,
        is_client: bool,
        outbox: &mut Outbox,
        progress: &mut Progress,
    ) {
        if self.is_closed {
            return;
        }
        if flushes {
            while self.seal_next(outbox, progress) {}
        }
        let number = self.next;
        let start = self.begin();
        // Nothing is in front of a CLOSE that comes first after an Answer (SPEC 21.4(c)). Its ledgers tell as much.
        if (is_client || self.sealer.records() > 0)
            && let Some(more) = progress.tell()
        {
            self.put(&Item::Ack(more));
        }
        let (sent, received) = (progress.of_sender(outbox), progress.of_receiver());
        let (up, down) = if is_client {
            (sent, received)
        } else {
            (received, sent)
        };
        self.put(&Item::Close(Close { up, down, ..*close }));
        self.seal_padded(number, start, MAX_ITEMS_BYTES);
        self.is_closed = true;
    }

    // ---- memory

    /// Returns whether it would have to allocate to make a record.
    #[must_use]
    pub fn wants_sending(&self) -> bool {
        let sending = self.sending.as_deref();
        sending.is_none_or(|sending| sending.is_unused() && sending.wire.capacity() == 0)
    }

    /// Takes over the memory of another connection, to make records.
    pub fn adopt(&mut self, mut sending: Box<Sending>) {
        if self.wants_sending() {
            sending.rare = self.sending.take().and_then(|before| before.rare);
            self.sending = Some(sending);
        }
    }

    /// Gives away its memory if nothing is being sent. What few connections have stays.
    #[must_use]
    pub fn surrender(&mut self) -> Option<Box<Sending>> {
        let bare = |it: &mut Box<Sending>| it.is_unused() && it.rare.is_none();
        if let Some(sending) = self.sending.take_if(bare) {
            return Some(sending);
        }
        let sending = self.sending.as_deref_mut()?;
        let has_wire = sending.is_unused() && sending.wire.capacity() > 0;
        has_wire.then(|| {
            Box::new(Sending {
                wire: core::mem::take(&mut sending.wire),
                ..Sending::default()
            })
        })
    }
}

impl fmt::Debug for Outbound {
    /// Shows only numbers: a token is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound")
            .field("sealer", &self.sealer)
            .field("next", &self.next)
            .field("sending", &self.sending)
            .field("is_closed", &self.is_closed)
            .finish_non_exhaustive()
    }
}

/// The reason of a gap of packets for which there was no room (SPEC 24.4(b)).
pub const GAP_NO_ROOM: u8 = 1;
/// The reason of a gap of packets that the client had acknowledged and claims not to have (SPEC 24.4(b)).
pub const GAP_CLAIMED_LESS: u8 = 2;

#[cfg(test)]
mod tests;
