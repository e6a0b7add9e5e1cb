//! A session as bytes, with which another process goes on. (SPEC 46.2)

use std::collections::VecDeque;

use crate::keys::PublicKey;
use crate::queue::{Outbox, Retention};
use crate::wire::varint::{Fields, write_integer};
use crate::{ClientId, Time};

use super::super::MAX_NUMBER;
use super::super::packets::{Handle, KeyHint, Settings};
use super::super::progress::Progress;
use super::super::schedule::{ClaimKey, MAX_AHEAD, ResumeSecret};
use super::opening::{MAX_MARKS, Resumable};
use super::seat::{Holes, Seat, ring_of};
use super::session::Session;

/// Whether marks were forgotten.
const FORGOT: u8 = 1;
/// Whether something of the session may have been sent.
const TRIED: u8 = 2;

/// What must be saved before more leaves. (SPEC 46.1(b))
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mark {
    /// The session, or 0.
    pub(crate) id: u64,
    /// The last attempt to resume.
    pub(crate) attempt: [u8; 8],
    /// The number of the last packet up.
    pub(crate) end: u64,
    /// That of the last packet down that was taken.
    pub(crate) taken: u64,
    /// Whether something of the session may have been sent.
    pub(crate) is_tried: bool,
}

/// A session that was saved.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) session: Session,
    pub(crate) outbox: Outbox,
    pub(crate) edge_key: PublicKey,
}

impl Session {
    /// Returns what must be saved of the session before more leaves.
    pub(crate) fn mark(&self, outbox: &Outbox) -> Mark {
        let Some(seat) = self.seat() else {
            return Mark {
                end: outbox.end(),
                ..Mark::default()
            };
        };
        Mark {
            id: seat.resumable.id().as_u64(),
            attempt: seat.resumable.last_mark(),
            end: outbox.end(),
            taken: seat.progress.taken(),
            is_tried: seat.is_tried(),
        }
    }

    /// Appends the session without its connection. Returns false if there is none. What was received and not taken is left out: the edge has
    /// it, and sends it again.
    pub(crate) fn save(&self, outbox: &Outbox, edge_key: &PublicKey, out: &mut Vec<u8>) -> bool {
        let Some(seat) = self.seat() else {
            return false;
        };
        out.extend_from_slice(edge_key.as_bytes());
        seat.resumable.save(seat.is_tried(), out);
        let settings = &seat.settings;
        for number in [
            settings.longest_packet_up,
            settings.ring_packets,
            settings.ring_bytes,
            settings.window_secs,
            settings.ack_delay_ms.into(),
            settings.keep_alive_secs.into(),
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let (gapped, superseded) = seat.holes.taken();
        let taken = seat.progress.taken();
        for number in [taken, superseded, gapped, seat.skipped, outbox.acked()] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        true
    }
}

/// Reads what [`save`](Session::save) wrote, and the packets behind it. `None`: no session is saved so.
pub(crate) fn load_session(fields: &mut Fields<'_>) -> Option<Restored> {
    let edge_key: [u8; 33] = fields.read_array().ok()?;
    let edge_key = PublicKey::from_sec1(&edge_key).ok()?;
    let (resumable, is_tried) = Resumable::load(fields, &edge_key)?;
    let settings = resumable.settings(fields)?;
    let [taken, superseded, gapped, skipped, acked] = numbers(fields)?;
    let outbox = load_packets(fields, acked)?;
    let holes = superseded.checked_add(gapped)?;
    let can_be = taken <= MAX_NUMBER && holes <= taken && outbox.end() <= MAX_NUMBER;
    if !can_be {
        return None;
    }
    let sent = if is_tried { outbox.end() } else { 0 };
    let progress = Progress::restored(ring_of(&settings), taken, acked, sent);
    // Nothing was heard, and how long ago the other process heard something is not known: the edge will tell.
    let seat = Seat {
        progress,
        holes: Holes::after(gapped, superseded),
        has_begun: is_tried,
        has_opened: is_tried,
        skipped,
        ..Seat::new(settings, resumable, Time::MAX)
    };
    Some(Restored {
        session: Session::of_seat(seat),
        outbox,
        edge_key,
    })
}

impl Seat {
    /// Returns whether packets of the session may have been sent, or it has begun for sure.
    fn is_tried(&self) -> bool {
        self.has_opened || self.progress.sent() > 0
    }
}

/// Appends packets that wait. (SPEC 46.2(d))
pub(crate) fn save_packets(outbox: &Outbox, out: &mut Vec<u8>) {
    write_integer(outbox.packets() as u64, out);
    for packet in outbox.held_packets() {
        write_integer(packet.len() as u64, out);
        out.extend_from_slice(packet);
    }
}

/// Reads packets, of which those up to `acked` are gone.
pub(crate) fn load_packets(fields: &mut Fields<'_>, acked: u64) -> Option<Outbox> {
    // Beyond it, to number the packets would overflow.
    if acked > MAX_NUMBER {
        return None;
    }
    let mut outbox = Outbox::after(Retention::UntilAcked, acked);
    for _ in 0..fields.read_u64().ok()? {
        outbox.push(fields.read_bytes().ok()?);
    }
    Some(outbox)
}

impl Resumable {
    fn save(&self, is_tried: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.as_u64().to_le_bytes());
        out.extend_from_slice(self.claim_key.as_bytes());
        out.extend_from_slice(&self.handle.0);
        out.extend_from_slice(&self.run);
        out.extend_from_slice(self.least.secret());
        for counter in [self.least.counter(), self.last, self.used, self.told] {
            out.extend_from_slice(&counter.to_le_bytes());
        }
        let forgot = if self.forgot { FORGOT } else { 0 };
        let tried = if is_tried { TRIED } else { 0 };
        out.push(forgot | tried);
        write_integer(self.marks.len() as u64, out);
        for mark in &self.marks {
            out.extend_from_slice(mark);
        }
    }

    fn load(fields: &mut Fields<'_>, edge_key: &PublicKey) -> Option<(Self, bool)> {
        let id = ClientId::from_u64(u64::from_le_bytes(fields.read_array().ok()?));
        let claim_key = ClaimKey::from_bytes(fields.read_array().ok()?);
        let handle = Handle::from_bytes(fields.read_array().ok()?);
        let run = fields.read_array().ok()?;
        let secret = fields.read_array().ok()?;
        let [least, last, used, told] = numbers(fields)?;
        let [flags] = fields.read_array().ok()?;
        let count = fields.read_u64().ok()?;
        // The next attempt has a counter from the least one on.
        let can_be = (1..=MAX_NUMBER).contains(&least)
            && [last, used, told]
                .into_iter()
                .all(|counter| counter <= MAX_NUMBER)
            && least <= told.saturating_add(MAX_AHEAD)
            && flags & !(FORGOT | TRIED) == 0
            && (1..=MAX_MARKS as u64).contains(&count);
        if !can_be {
            return None;
        }
        let marks = (0..count).map(|_| fields.read_array().ok());
        let resumable = Resumable {
            id,
            claim_key,
            key_hint: KeyHint::of(edge_key),
            run,
            handle,
            least: ResumeSecret::restored(least, secret),
            last,
            used,
            used_before: used,
            told,
            refusals: 0,
            marks: marks.collect::<Option<VecDeque<_>>>()?,
            forgot: flags & FORGOT != 0,
            // It gets another one at its own edge.
            #[cfg(feature = "tickets")]
            ticket: Vec::new(),
        };
        Some((resumable, flags & TRIED != 0))
    }

    /// Returns the mark of the last attempt, or of the join.
    fn last_mark(&self) -> [u8; 8] {
        self.marks.back().copied().unwrap_or_default()
    }

    /// Reads what the Welcome said.
    fn settings(&self, fields: &mut Fields<'_>) -> Option<Settings> {
        let mut number = || fields.read_array().ok().map(u32::from_le_bytes);
        let settings = Settings {
            id: self.id,
            claim_key: self.claim_key.clone(),
            handle: self.handle,
            run: self.run,
            features: 0,
            longest_packet_up: number()?,
            ring_packets: number()?,
            ring_bytes: number()?,
            window_secs: number()?,
            ack_delay_ms: number()?.try_into().ok()?,
            keep_alive_secs: number()?.try_into().ok()?,
        };
        (settings.ring_packets > 0).then_some(settings)
    }
}

fn numbers<const N: usize>(fields: &mut Fields<'_>) -> Option<[u64; N]> {
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = u64::from_le_bytes(fields.read_array().ok()?);
    }
    Some(numbers)
}
