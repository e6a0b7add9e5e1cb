//! A connection after its opening, as either end sees it: records, items, numbers and acknowledgements. (SPEC sections 21 and 24)
//!
//! It ends with the connection. What outlives it is the session's: its packets in an [`Outbox`], and its numbers in a [`Progress`]. Both are
//! lent to each call.

mod reading;

use core::fmt;
use core::ops::Range;

use crate::queue::Outbox;
use crate::time::Time;
use crate::wire::frame::{FrameReader, FrameTooLong};

pub use reading::Reading;

use reading::Data;

use super::Side;
use super::acks::AckError;
use super::code::Code;
use super::inbound::{Inbound, InboundError};
use super::items::{Close, GoAway, Item, Ledger, Resumed};
use super::order::OrderError;
use super::outbound::{KEPT_CAPACITY_BYTES, NeverSent, Outbound};
use super::progress::{BeyondRing, Progress};
use super::record::RecordError;
use super::schedule::Secret;
use super::timing::{Delays, Due, Timing};
#[cfg(feature = "upgrade")]
use crate::wire::saved::{Saved, put_bytes};

const READS: &str = "a client reads records once it has an Answer";

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// A record, or what is in it, is wrong.
    #[error(transparent)]
    Inbound(#[from] InboundError),
    /// A frame is longer than a record may be in its place.
    #[error(transparent)]
    Frame(#[from] FrameTooLong),
    /// More is unacknowledged than the ring allows.
    #[error(transparent)]
    Ring(#[from] BeyondRing),
    /// Packets are acknowledged that were never sent.
    #[error(transparent)]
    Ack(#[from] AckError),
    /// Packets were received that were never sent.
    #[error(transparent)]
    NeverSent(#[from] NeverSent),
    /// A packet is longer than its taker takes, and not longer than its sender may send (SPEC 34.2(d)).
    #[error("a packet of {length} bytes, and the backend takes {max}")]
    BeyondTaker {
        /// Its length.
        length: usize,
        /// The longest that is taken.
        max: usize,
    },
}

impl ChannelError {
    /// Returns the code and the detail of the CLOSE that answers it, or `None` if nothing is said: the record does not open
    /// (SPEC 21.1(e)).
    #[must_use]
    pub fn close(&self) -> Option<(Code, u64)> {
        match self {
            ChannelError::Inbound(InboundError::Record(
                RecordError::DoesNotOpen | RecordError::Exhausted,
            )) => None,
            ChannelError::Inbound(InboundError::Order(OrderError::PacketTooLong { max })) => {
                Some((Code::TOO_LONG, u64::from(*max)))
            }
            _ => Some((Code::PROTOCOL, 0)),
        }
    }
}

/// How a packet down is delivered. (SPEC 24.6)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the protocol has no others")]
pub enum Delivery {
    /// It is numbered, kept and acknowledged.
    Reliable,
    /// It takes the place of older ones of its key.
    Latest(u8),
    /// It has no number and is not kept.
    Volatile,
}

image!(enum Delivery { 0 Reliable {}, 1 Latest { 0: a }, 2 Volatile {} });

/// What has come, in its order. The bytes that belong to it are [`Channel::data`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the protocol has no others")]
pub enum Arrival {
    /// A whole packet.
    Packet {
        /// How it was delivered.
        delivery: Delivery,
        /// Its number, or the number of the next packet for one without a number.
        number: u64,
    },
    /// Packets that will not come.
    Gap {
        /// The number of the first of them.
        number: u64,
        /// How many.
        count: u64,
        /// Their bytes.
        bytes: u64,
        /// Why (SPEC 24.4(b)).
        reason: u8,
    },
    /// Packets that a newer one took the place of.
    Superseded {
        /// The number of the first of them.
        number: u64,
        /// How many.
        count: u64,
    },
    /// Volatile packets that were not sent.
    Skipped {
        /// How many.
        count: u64,
    },
    /// The session goes on. The data is the marks of the attempts that were accepted before, 8 bytes each.
    Resumed(Resumed),
    /// The client is asked to leave.
    GoAway(GoAway),
    /// A client shows something else than it did when it joined: that is the data.
    Token,
    /// The peer has said its last word. What it said is [`Channel::close_details`], and the data is its text.
    Closed {
        /// Why.
        code: Code,
    },
}

image!(enum Arrival {
    0 Packet { delivery: a, number: b }, 1 Gap { number: a, count: b, bytes: c, reason: d },
    2 Superseded { number: a, count: b }, 3 Skipped { count: a }, 4 Resumed { 0: a },
    5 GoAway { 0: a }, 6 Closed { code: a }, 7 Token {},
});

/// What a CLOSE says beside its code and its text. It is not in [`Arrival`], which is copied for each packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct CloseDetails {
    /// How long a client is to wait, in milliseconds.
    pub wait_ms: u32,
    /// The longest random time to add to that, in milliseconds.
    pub jitter_ms: u32,
    /// The counter for 402, the limit in bytes for 404, otherwise 0.
    pub detail: u64,
    /// The peer's account of the packets up.
    pub up: Ledger,
    /// The peer's account of the packets down.
    pub down: Ledger,
}

image!(CloseDetails {
    wait_ms,
    jitter_ms,
    detail,
    up,
    down
});

/// A connection after its opening. An idle client of an edge has one, so it is small.
#[derive(Clone)]
pub struct Channel {
    inbound: Option<Inbound>,
    outbound: Outbound,
    /// What is being read. Where nothing is, it can be [given away](Self::surrender_reading).
    reading: Option<Box<Reading>>,
    timing: Timing,
}

image!(Channel {
    inbound,
    outbound,
    reading,
    timing
});

impl Channel {
    fn new(inbound: Option<Inbound>, outbound: Outbound) -> Self {
        Channel {
            inbound,
            outbound,
            reading: None,
            timing: Timing::default(),
        }
    }

    /// Like [`new`](Self::new), at an edge that has read one record.
    fn of_edge(inbound: Inbound, outbound: Outbound, reading: Option<Box<Reading>>) -> Self {
        let mut channel = Self::new(Some(inbound), outbound);
        channel.reading = reading;
        channel.timing.records = 1;
        channel
    }

    // ---- of a client

    /// Begins after a Welcome, at the client. The Join record begins with `token`.
    #[must_use]
    pub fn joined(up: &Secret, down: &Secret, token: Vec<u8>, max_packet_bytes: u32) -> Self {
        let inbound = Inbound::of_welcome(down, max_packet_bytes);
        Self::new(Some(inbound), Outbound::of_join(up, token))
    }

    /// Begins behind a Claim, at the client: early records, whose first packet has the number `first`. The outbox's next packet must be
    /// that one.
    #[must_use]
    pub fn claimed(early: &Secret, first: u64) -> Self {
        Self::new(None, Outbound::of_early(early, first))
    }

    /// Goes on after an Answer 0, at the client, which claimed to have received all up to `received`. RESUMED comes next.
    pub fn answered(&mut self, up: Secret, down: &Secret, received: u64, max_packet_bytes: u32) {
        self.inbound = Some(Inbound::of_answer(down, received, max_packet_bytes));
        self.outbound.rare_mut().up = Some(up);
    }

    /// Handles that the edge asks for a proof before it takes the session up (SPEC 44.4).
    #[cfg(feature = "tickets")]
    pub fn expect_cold(&mut self) {
        self.outbound.rare_mut().cold = Some(false);
    }

    /// Gives the proof, if it is due: the first record of the edge has opened.
    #[cfg(feature = "tickets")]
    pub fn confirm_if_due(&mut self) {
        if self.timing.records > 0
            && let Some(rare) = self.outbound.known_rare()
            && rare.cold == Some(false)
            && let Some(up) = rare.up.take()
        {
            rare.cold = Some(true);
            self.outbound.confirm(&up);
        }
    }

    /// Returns the ticket that came last, once.
    #[cfg(feature = "tickets")]
    pub fn take_ticket(&mut self) -> Option<Vec<u8>> {
        self.outbound.known_rare()?.ticket.take()
    }

    // ---- of an edge

    /// Returns whether the client has proven that it is there: a record behind the early ones has opened (SPEC 44.4(c)).
    #[cfg(feature = "cluster")]
    pub fn has_proven(&self) -> bool {
        self.inbound.as_ref().is_some_and(Inbound::has_opened_up)
    }

    /// Takes the session up after that proof: all up to `received_up` has come.
    #[cfg(feature = "cluster")]
    pub fn resume_cold(&mut self, resumed: Resumed, marks: &[[u8; 8]], received_up: u64) {
        if let Some(inbound) = &mut self.inbound {
            inbound.go_on(received_up);
        }
        self.outbound.resume_here(resumed, marks);
        // The proof says nothing of RESUMED.
        (self.timing.has_confirmed, self.reading) = (false, None);
    }

    /// Begins after a Welcome, at the edge. `record` is the Join record, which was [opened](Inbound::open) and whose first `end` bytes are
    /// its items. None was read.
    #[must_use]
    pub fn welcomed(inbound: Inbound, record: Vec<u8>, end: usize, down: &Secret) -> Self {
        let reading = Reading::of(record, end, true);
        Self::of_edge(inbound, Outbound::of_welcome(down), reading)
    }

    /// Goes on after an Answer 0, at the edge. `record` is the first early record, which was [opened](Inbound::open) and whose first `end`
    /// bytes are its items. None was read.
    #[must_use]
    pub fn resumed(inbound: Inbound, record: Vec<u8>, end: usize, outbound: Outbound) -> Self {
        Self::of_edge(inbound, outbound, Reading::of(record, end, false))
    }

    // ---- what another process takes over

    /// Appends it, where all that was opened is used. Returns false if its connection is not taken over (SPEC 41.1(d)).
    #[cfg(feature = "upgrade")]
    pub(crate) fn save(&self, out: &mut Vec<u8>) -> bool {
        let nothing = Reading::default();
        let reading = self.reading.as_deref().unwrap_or(&nothing);
        put_bytes(out, &reading.pieces);
        let leaves = self
            .outbound
            .rare()
            .is_some_and(|rare| rare.leaves.is_some());
        let is_used = reading.unread_bytes() == 0 && reading.arrival.is_none();
        let inbound = self.inbound.as_ref();
        self.outbound.save(out)
            && inbound.is_some_and(|inbound| inbound.save(out))
            && is_used
            && !leaves
            && !self.timing.has_confirmed
    }

    /// Reads what [`save`](Self::save) wrote. Its packets go on behind those of `outbox` that were sent.
    #[cfg(feature = "upgrade")]
    pub(crate) fn load(saved: &mut Saved<'_>, outbox: &Outbox) -> Option<Self> {
        let pieces = saved.bytes()?.to_vec();
        let outbound = Outbound::load(saved)?;
        outbound.begun_within(outbox.next_packet().map(<[u8]>::len))?;
        let inbound = Inbound::load(saved)?;
        let reading = (!pieces.is_empty()).then(|| {
            Box::new(Reading {
                pieces,
                ..Reading::default()
            })
        });
        Some(Channel {
            reading,
            ..Self::new(Some(inbound), outbound)
        })
    }

    // ---- what comes

    /// Returns what has come next, from the record that is being read and then from `reader` and `input`. It is returned again until it is
    /// [accepted](Self::accept). `None`: no record is whole, `input` is empty and its bytes are held.
    ///
    /// # Errors
    /// [`ChannelError`]. The connection is over then.
    pub fn next(
        &mut self,
        reader: &mut FrameReader,
        input: &mut &[u8],
        outbox: &mut Outbox,
        progress: &mut Progress,
    ) -> Result<Option<Arrival>, ChannelError> {
        loop {
            let Some(reading) = self.reading.as_deref_mut() else {
                if !self.read_record(reader, input)? {
                    return Ok(None);
                }
                continue;
            };
            if let Some((arrival, _)) = &reading.arrival {
                return Ok(Some(*arrival));
            }
            let inbound = self.inbound.as_mut().expect(READS);
            let mut rest = reading
                .record
                .get(reading.at..reading.end)
                .unwrap_or_default();
            let Some((item, number)) = inbound.next(&mut rest)? else {
                reading.forget_record();
                if !self.read_record(reader, input)? {
                    return Ok(None);
                }
                continue;
            };
            let end = reading.end.saturating_sub(rest.len());
            reading.at = end;
            let range = |bytes: &[u8]| Data::Record(end.saturating_sub(bytes.len())..end);
            match item {
                Item::Pad { .. } | Item::Ignored { .. } => {}
                Item::Token(bytes) => {
                    if !core::mem::take(&mut reading.is_join) {
                        reading.arrival = Some((Arrival::Token, range(bytes)));
                    }
                }
                Item::EarlyEnd => self.timing.has_confirmed = true,
                #[cfg(feature = "tickets")]
                Item::Ticket(bytes) => {
                    self.outbound.rare_mut().ticket = Some(bytes.to_vec());
                }
                Item::Ack(more) => progress.hear(more, outbox)?,
                Item::AckNow => self.outbound.acknowledge(),
                Item::Ping(bytes) => self.outbound.pong(bytes),
                // An edge asks only to hear something. What it kept of the answer, each idle client would have from then on.
                Item::Pong(_) if self.outbound.sender() == Side::Edge => {}
                Item::Pong(bytes) => self.outbound.rare_mut().ponged = Some(bytes),
                Item::Part(bytes) => reading.pieces.extend_from_slice(bytes),
                Item::Packet(bytes) => {
                    // A first flight may begin with packets that have arrived before (SPEC 23.3(c)).
                    if self.outbound.sender() == Side::Edge && number <= progress.received() {
                        reading.pieces.clear();
                        continue;
                    }
                    reading.put(Delivery::Reliable, number, range(bytes), progress)?;
                }
                Item::Latest { key, data } => {
                    reading.put(Delivery::Latest(key), number, range(data), progress)?;
                }
                Item::Volatile(bytes) => {
                    reading.put(Delivery::Volatile, number, range(bytes), progress)?;
                }
                Item::Gap {
                    count,
                    bytes,
                    reason,
                } => {
                    let gap = Arrival::Gap {
                        number,
                        count,
                        bytes,
                        reason,
                    };
                    reading.arrival = Some((gap, Data::None));
                }
                Item::Superseded { count } => {
                    let superseded = Arrival::Superseded { number, count };
                    reading.arrival = Some((superseded, Data::None));
                }
                Item::Skipped { count } => {
                    reading.arrival = Some((Arrival::Skipped { count }, Data::None));
                }
                Item::GoAway(go_away) => {
                    reading.arrival = Some((Arrival::GoAway(go_away), Data::None));
                }
                Item::Resumed(resumed, marks) => {
                    let marks = range(marks.as_flattened());
                    let rare = self.outbound.known_rare();
                    if let Some(up) = rare.and_then(|rare| rare.up.take()) {
                        self.outbound
                            .end_early(&up, resumed.received_up, outbox, progress)?;
                    }
                    #[cfg(feature = "tickets")]
                    if self
                        .outbound
                        .rare()
                        .is_some_and(|rare| rare.cold == Some(true))
                    {
                        self.outbound.go_on(resumed.received_up, outbox, progress)?;
                    }
                    reading.arrival = Some((Arrival::Resumed(resumed), marks));
                }
                Item::Close(close) => {
                    self.outbound.rare_mut().close_details = CloseDetails {
                        wait_ms: close.wait_ms,
                        jitter_ms: close.jitter_ms,
                        detail: close.detail,
                        up: close.up,
                        down: close.down,
                    };
                    let closed = Arrival::Closed { code: close.code };
                    reading.arrival = Some((closed, range(close.text.as_bytes())));
                }
            }
        }
    }

    /// Returns the next packet and [accepts](Self::accept) it, if it is an ordinary one in the record that is being read. `None`: of what comes
    /// next, [`next`](Self::next) tells. Most packets take this shorter way.
    ///
    /// # Errors
    /// [`ChannelError::Ring`]. The connection is over then.
    #[inline]
    pub fn next_ordinary(
        &mut self,
        progress: &mut Progress,
        max: usize,
    ) -> Result<Option<&[u8]>, ChannelError> {
        let (Some(inbound), Some(reading)) = (&mut self.inbound, self.reading.as_deref_mut())
        else {
            return Ok(None);
        };
        let is_new = inbound.next_number() > progress.received();
        let mut rest = reading
            .record
            .get(reading.at..reading.end)
            .unwrap_or_default();
        if !is_new || rest.is_empty() || reading.arrival.is_some() {
            return Ok(None);
        }
        let Some(packet) = inbound.next_packet(&mut rest) else {
            return Ok(None);
        };
        reading.at = reading.end.saturating_sub(rest.len());
        let length = packet.len();
        if length > max {
            return Err(ChannelError::BeyondTaker { length, max });
        }
        progress.check_room(length)?;
        count_packet(progress, length);
        Ok(Some(packet))
    }

    /// Returns the bytes of what [`next`](Self::next) returned: of a packet, the text of a CLOSE, or the marks of RESUMED.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        self.reading.as_deref().map_or(&[], Reading::data)
    }

    /// Returns what the peer's CLOSE says beside its code and its text, or nothing but zeros before it.
    #[must_use]
    pub fn close_details(&self) -> CloseDetails {
        let rare = self.outbound.rare();
        rare.map(|rare| rare.close_details).unwrap_or_default()
    }

    /// Takes what [`next`](Self::next) returned, so that it returns what follows. Its numbers count as received from then on.
    pub fn accept(&mut self, progress: &mut Progress) {
        let Some(reading) = self.reading.as_deref_mut() else {
            return;
        };
        let bytes = reading.data().len();
        match reading.arrival.take() {
            Some((Arrival::Packet { delivery, .. }, _)) => {
                if delivery != Delivery::Volatile {
                    count_packet(progress, bytes);
                }
                reading.forget_pieces();
            }
            Some((Arrival::Gap { count, .. } | Arrival::Superseded { count, .. }, _)) => {
                progress.receive_hole(count);
            }
            _ => {}
        }
    }

    /// Reads the next record. Returns false if none is whole.
    fn read_record(
        &mut self,
        reader: &mut FrameReader,
        input: &mut &[u8],
    ) -> Result<bool, ChannelError> {
        let inbound = self.inbound.as_mut().expect(READS);
        let Some(body) = reader.next_frame(input, inbound.max_record_bytes())? else {
            return Ok(false);
        };
        let reading = self.reading.get_or_insert_default();
        reading.record.extend_from_slice(body);
        reading.end = inbound.open(&mut reading.record)?;
        self.timing.records = self.timing.records.saturating_add(1);
        Ok(true)
    }

    /// Returns the number of records read since the last call.
    pub fn take_records(&mut self) -> u64 {
        core::mem::take(&mut self.timing.records).into()
    }

    /// Returns the last PONG that came to a client since the last call.
    pub fn take_pong(&mut self) -> Option<[u8; 8]> {
        self.outbound.known_rare()?.ponged.take()
    }

    /// Returns whether the client has ended its early records since the last call: it has opened RESUMED.
    pub fn take_confirmed(&mut self) -> bool {
        core::mem::take(&mut self.timing.has_confirmed)
    }

    /// Returns what is due next, and when, while `due` packets wait for an ACK.
    #[must_use]
    pub fn next_due(&self, due: u64, delays: &Delays) -> Option<(Time, Due)> {
        let leaves = self.outbound.rare().and_then(|rare| rare.leaves);
        self.timing.next(due, delays, leaves)
    }

    /// Handles that GOAWAY was sent or came. A newer one takes the place of an older one.
    pub fn leave(&mut self, at: Time, code: Code) {
        self.outbound.rare_mut().leaves = Some((at, code));
    }

    /// Handles that what GOAWAY asked for is not done.
    pub fn stay(&mut self) {
        self.outbound.stay();
    }

    /// Returns its clock.
    pub fn timing(&mut self) -> &mut Timing {
        &mut self.timing
    }

    // ---- what goes

    /// Returns the direction in which this end sends.
    pub fn outbound(&mut self) -> &mut Outbound {
        &mut self.outbound
    }

    /// Returns whether a packet was begun, whose rest comes next.
    #[must_use]
    pub fn is_mid_packet(&self) -> bool {
        self.outbound.is_mid_packet()
    }

    /// Returns whether the transport has something to take, now or once records are made.
    #[must_use]
    pub fn has_output(&self, outbox: &Outbox, progress: &Progress) -> bool {
        self.outbound.has_output(outbox, progress)
    }

    /// Makes records of what waits, and returns what the transport is to take next.
    pub fn fill(&mut self, outbox: &mut Outbox, progress: &mut Progress) -> &[u8] {
        self.outbound.fill(outbox, progress)
    }

    /// Returns whether something is sealed and not written.
    #[must_use]
    pub fn has_wire(&self) -> bool {
        self.outbound.held_bytes() > 0
    }

    /// Returns what is sealed and not written.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        self.outbound.wire()
    }

    /// Handles that the transport took the first `bytes` bytes of what [`fill`](Self::fill) returned. Returns how many of them there were.
    pub fn written(&mut self, bytes: usize) -> usize {
        self.outbound.written(bytes)
    }

    /// Says the last words: what fits of the packets that wait if `flushes`, then CLOSE, whose ledgers are filled in.
    pub fn close(
        &mut self,
        close: &Close<'_>,
        flushes: bool,
        outbox: &mut Outbox,
        progress: &mut Progress,
    ) {
        let is_client = self.outbound.sender() == Side::Client;
        self.outbound
            .close(close, flushes, is_client, outbox, progress);
    }

    // ---- memory

    /// Returns the bytes that wait in it: sealed and not written, or opened and not used.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let reading = self.reading.as_deref();
        let unread = reading.map_or(0, |it| it.unread_bytes().saturating_add(it.pieces.len()));
        unread.saturating_add(self.outbound.held_bytes())
    }

    /// Drops what came and was not used.
    pub fn forget_input(&mut self) {
        self.reading = None;
    }

    /// Returns whether it would have to allocate to read a record.
    #[must_use]
    pub fn wants_reading(&self) -> bool {
        self.reading.is_none()
    }

    /// Returns whether it has no memory beside its own: an idle one of an edge has none.
    #[cfg(test)]
    pub(crate) fn is_bare(&self) -> bool {
        self.wants_reading() && self.outbound.wants_sending() && self.outbound.rare().is_none()
    }

    /// Takes over the memory of another channel, to read records.
    pub fn adopt_reading(&mut self, reading: Box<Reading>) {
        self.reading.get_or_insert(reading);
    }

    /// Gives away the memory of what was read, if nothing of it waits.
    #[must_use]
    pub fn surrender_reading(&mut self) -> Option<Box<Reading>> {
        self.reading.take_if(|reading| reading.is_unused())
    }
}

/// Counts a packet of `bytes` bytes as received.
#[inline]
fn count_packet(progress: &mut Progress, bytes: usize) {
    progress.receive(1, bytes);
}

impl fmt::Debug for Channel {
    /// Shows only numbers: what was opened is a user's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("side", &self.outbound.sender())
            .field("inbound", &self.inbound)
            .field("outbound", &self.outbound)
            .field("reading", &self.reading)
            .field("timing", &self.timing)
            .finish_non_exhaustive()
    }
}
