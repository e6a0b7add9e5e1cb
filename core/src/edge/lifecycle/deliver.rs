//! Backend → clients (SPEC 7, 10.2, 10.3, 24.6).
//!
//! The link never waits for one client: a client whose queue is full loses its session, and nobody else is affected.

use crate::id::ClientId;
use crate::link::tagged::{Flag, Tagged};
#[cfg(any(test, feature = "testkit"))]
use crate::protocol::Delivery;
use crate::protocol::{GAP_NO_ROOM, Lent};
use crate::queue::{Amount, Outbox, SHARED_ENTRY_BYTES, SharedPacket};
use crate::time::Time;

use crate::edge::Edge;
use crate::edge::counters::EndReason;
use crate::edge::downlink::{Lack, Room, has_room_for_volatile, room_in_ring};
use crate::edge::memory::account::{Pressure, scaled_by};
use crate::edge::sessions::{Place, Session};
use crate::edge::table::by_size::Resized;
use crate::edge::table::spare::Spare;
use crate::edge::uplink::batch::Batch;
use crate::edge::uplink::link::read_packets;

/// The result of a packet from the backend.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was queued for its session, and nothing else happened.
    Queued,
    /// Anything else.
    Other,
}

/// A packet for a client: its bytes, or the one copy that many have.
pub(crate) trait Packet: Copy {
    /// Returns its length in bytes.
    fn bytes(self) -> usize;
    /// Returns what it counts for in the account.
    fn counted_bytes(self) -> usize;
    /// Appends it to what waits for a session.
    fn push(self, session: &mut Session);
}

impl Packet for &[u8] {
    #[inline(always)]
    fn bytes(self) -> usize {
        self.len()
    }

    #[inline(always)]
    fn counted_bytes(self) -> usize {
        Outbox::stored_bytes(self.len())
    }

    #[inline(always)]
    fn push(self, session: &mut Session) {
        session.outbox.push(self);
    }
}

impl Packet for &SharedPacket {
    fn bytes(self) -> usize {
        self.packet().len()
    }

    fn counted_bytes(self) -> usize {
        Outbox::stored_bytes(self.bytes()) + SHARED_ENTRY_BYTES
    }

    fn push(self, session: &mut Session) {
        let Lent { outbox, numbers } = session.lend();
        match numbers {
            Some(progress) => progress.push_shared(outbox, self),
            None => outbox.push_shared(self),
        }
    }
}

impl Edge {
    /// Handles bytes from the backend.
    pub(crate) fn handle_backend_bytes(&mut self, now: Time, bytes: &[u8]) {
        // Queued packets add no more than what was read. Anything else may add more, and is followed by another check.
        let mut calm = self.is_calm_for(self.uplink.held_bytes() + bytes.len());
        let is_good = read_packets(
            self,
            |edge| edge.uplink.link_mut(),
            bytes,
            |edge, body, rest| {
                if edge.handle_backend_packet(now, body, calm) == Outcome::Other {
                    calm = edge.is_calm_for(rest);
                }
            },
        );
        if !is_good {
            self.counters.link_violations += 1;
        }
        // Its unfinished frame counts, too.
        self.shed_load(now);
    }

    /// Handles packets that the trunk handed down (SPEC 9.9).
    pub(crate) fn handle_batch(&mut self, now: Time, batch: &Batch) {
        let mut calm = self.is_calm_for(batch.bytes().len());
        for (body, rest) in batch.bodies() {
            if self.handle_backend_packet(now, body, calm) == Outcome::Other {
                calm = self.is_calm_for(rest);
            }
        }
        self.shed_load(now);
    }

    /// Handles a frame. `calm` means that no memory bound is near even with this packet in a queue (SPEC 10.5).
    #[inline]
    fn handle_backend_packet(&mut self, now: Time, body: &[u8], calm: bool) -> Outcome {
        if self.link_queue.version.may_be_version_3() {
            return self.handle_any(now, body, calm);
        }
        self.handle_tagged::<false>(now, body, calm)
    }

    /// Handles a frame of a link that has, or could have, version 3.
    #[cold]
    #[inline(never)]
    fn handle_any(&mut self, now: Time, body: &[u8], calm: bool) -> Outcome {
        let handled = self.handle_frame(now, body, calm);
        handled.unwrap_or_else(|| self.handle_tagged::<true>(now, body, calm))
    }

    /// Handles a frame of version 2. `SHARES` means that some packets may be in memory once for many clients.
    #[inline(always)]
    fn handle_tagged<const SHARES: bool>(&mut self, now: Time, body: &[u8], calm: bool) -> Outcome {
        match Tagged::decode(body) {
            Ok(Tagged {
                id,
                flag: Flag::Data,
                data,
            }) => return self.deliver_here::<SHARES>(now, id, data, calm),
            Ok(Tagged {
                id,
                flag: Flag::Kick,
                data: [],
            }) => match self.sessions.lookup(id) {
                Some(session) => self.end_session(now, session, EndReason::Kicked),
                None => self.tell_unknown(now, id),
            },
            Ok(Tagged {
                flag: Flag::Kick | Flag::Failure | Flag::Resumed,
                ..
            })
            | Err(_) => self.counters.malformed_down += 1,
        }
        Outcome::Other
    }

    /// Queues a packet for one client, or ends its session.
    #[inline(never)]
    pub(crate) fn deliver(&mut self, now: Time, id: ClientId, data: &[u8], calm: bool) -> Outcome {
        self.deliver_here::<true>(now, id, data, calm)
    }

    /// [`deliver`](Self::deliver), as a part of the loop over the packets of version 2.
    #[inline(always)]
    fn deliver_here<const SHARES: bool>(
        &mut self,
        now: Time,
        id: ClientId,
        data: &[u8],
        calm: bool,
    ) -> Outcome {
        let Some(index) = self.sessions.lookup(id) else {
            self.tell_unknown(now, id);
            return Outcome::Other;
        };
        self.deliver_at::<SHARES>(now, index, data, calm)
    }

    /// Queues a packet for the client of the session at `index`, or ends the session.
    #[inline(never)]
    pub(crate) fn deliver_to(
        &mut self,
        now: Time,
        index: u32,
        packet: impl Packet,
        calm: bool,
    ) -> Outcome {
        self.deliver_at::<true>(now, index, packet, calm)
    }

    #[inline(always)]
    fn deliver_at<const SHARES: bool>(
        &mut self,
        now: Time,
        index: u32,
        packet: impl Packet,
        calm: bool,
    ) -> Outcome {
        let length = packet.bytes();
        let scaled = self.scale_unless(calm);
        let session = self.sessions.live_mut(index);
        if session.numbered().is_some() {
            return self.deliver_numbered(now, index, packet, calm, scaled);
        }
        let room = Room::of(session.place, &self.config.clients, scaled);
        let (outbox, stored) = (&session.outbox, Outbox::stored_bytes(length));
        let takes = match SHARES {
            true => outbox.takes(stored, room.bounds),
            false => outbox.own_takes(stored, room.bounds),
        };
        if !takes {
            self.end_session(now, index, room.overflow);
            return Outcome::Other;
        }
        let resized = append(session, &mut self.spare, packet);
        let place = session.place;
        self.count_down(index, packet.counted_bytes(), resized);
        if let Place::Attached(conn) = place {
            self.watch_writes(now, conn);
        }
        self.check_memory(now, calm)
    }

    /// Queues a packet for a client whose packets are numbered, or ends its session. A separate function, so that the path of version 2 is
    /// as short as it can be.
    #[inline(never)]
    fn deliver_numbered(
        &mut self,
        now: Time,
        index: u32,
        packet: impl Packet,
        calm: bool,
        scaled: impl Fn(usize) -> usize,
    ) -> Outcome {
        let length = packet.bytes();
        if let Some(lack) = self.lack_of(index, length, None, &scaled) {
            let Some(fits) = self.give_up(now, index, length, None, lack, &scaled) else {
                return Outcome::Other;
            };
            if !fits {
                packet.push(self.sessions.live_mut(index));
                self.delivered(now, index, false);
                return Outcome::Other;
            }
        }
        let session = self.sessions.live_mut(index);
        let resized = append(session, &mut self.spare, packet);
        let place = session.place;
        self.count_down(index, packet.counted_bytes(), resized);
        if let Place::Attached(conn) = place
            && !self.is_watched(conn)
            && self.has_output(conn, index)
        {
            self.watch_writes(now, conn);
        }
        self.check_memory(now, calm)
    }

    /// Returns the scale of byte bounds.
    #[inline(always)]
    fn scale_unless(&self, calm: bool) -> impl Fn(usize) -> usize + use<> {
        scaled_by(if calm {
            Pressure::None
        } else {
            self.pressure_beyond_calm()
        })
    }

    /// Counts a packet of so many bytes in the account that was queued for the session at `index`.
    #[inline(always)]
    fn count_down(&mut self, index: u32, bytes: usize, resized: Resized) {
        self.account.add(bytes);
        self.sessions.resized(index, resized);
        self.counters.packets_down += 1;
    }

    /// Ends the largest holders if memory may be short after a packet was queued.
    #[inline(always)]
    fn check_memory(&mut self, now: Time, calm: bool) -> Outcome {
        if !calm {
            self.end_largest(now);
        }
        Outcome::Queued
    }

    /// Queues a packet of a class for one client (SPEC 24.6). To a client of version 2, each is an ordinary packet.
    ///
    /// The link of version 2 has no classes, and that of version 3 has frames of its own for them.
    #[cfg(any(test, feature = "testkit"))]
    pub fn handle_delivery(&mut self, now: Time, id: ClientId, delivery: Delivery, data: &[u8]) {
        // No program calls this, so a recording ends here.
        #[cfg(feature = "record")]
        self.stop_recording();
        self.step(now, |edge, now| {
            edge.deliver_classed(now, id, delivery, data)
        });
    }

    /// Says what becomes of a session that has no room, as POLICY does (SPEC 36.6). The link of version 2 cannot.
    #[cfg(any(test, feature = "testkit"))]
    pub fn handle_policy(&mut self, now: Time, id: ClientId, gives_up: bool) {
        // No program calls this, so a recording ends here.
        #[cfg(feature = "record")]
        self.stop_recording();
        self.step(now, |edge, _| {
            if let Some(session) = edge.sessions.lookup(id)
                && let Some(numbered) = edge.sessions.live_mut(session).numbered_mut()
            {
                numbered.gives_up = gives_up;
            }
        });
    }

    #[cfg(any(test, feature = "testkit"))]
    fn deliver_classed(&mut self, now: Time, id: ClientId, delivery: Delivery, data: &[u8]) {
        let calm = self.is_calm_for(data.len());
        let found = self.sessions.lookup(id);
        let numbered = found.filter(|found| self.sessions.live(*found).numbered().is_some());
        match (delivery, numbered) {
            (Delivery::Latest(key), Some(session)) => self.deliver_latest(now, session, key, data),
            (Delivery::Volatile, Some(session)) => self.deliver_volatile(now, session, data),
            _ => {
                self.deliver(now, id, data, calm);
            }
        }
        self.shed_load(now);
    }

    /// Queues a LATEST for one client (SPEC 24.6(c)). To a client of version 2 it is an ordinary packet.
    pub(crate) fn deliver_latest(&mut self, now: Time, session: u32, key: u8, data: &[u8]) {
        let scaled = scaled_by(self.pressure_beyond_calm());
        let entry = self.sessions.live_mut(session);
        if entry.numbered().is_none() {
            let id = entry.id;
            self.deliver(now, id, data, false);
            return;
        }
        let mut fits = true;
        if let Some(lack) = self.lack_of(session, data.len(), Some(key), &scaled) {
            match self.give_up(now, session, data.len(), Some(key), lack, &scaled) {
                Some(has_room) => fits = has_room,
                None => return,
            }
        }
        let lent = self.sessions.live_mut(session).lend();
        if let Some(progress) = lent.numbers {
            progress.push_latest(lent.outbox, key, data);
        }
        self.delivered(now, session, fits);
    }

    /// Returns what is missing for a packet of `length` bytes for a session whose packets are numbered, if anything. A LATEST has a `key`.
    fn lack_of(
        &self,
        session: u32,
        length: usize,
        key: Option<u8>,
        scaled: impl Fn(usize) -> usize,
    ) -> Option<Lack> {
        let entry = self.sessions.live(session);
        let (numbered, outbox) = (entry.numbered()?, &entry.outbox);
        let replaces = key.and_then(|key| numbered.progress.replaceable(outbox, key));
        let clients = &self.config.clients;
        room_in_ring(
            numbered,
            outbox,
            entry.place,
            length,
            replaces,
            clients,
            scaled,
        )
    }

    /// Gives up packets of a session that has no room for one of `length` bytes, or ends it, as its policy says (SPEC 24.4). Returns whether
    /// there is room now; `None` if it has ended.
    #[cold]
    #[inline(never)]
    fn give_up(
        &mut self,
        now: Time,
        session: u32,
        length: usize,
        key: Option<u8>,
        lack: Lack,
        scaled: impl Fn(usize) -> usize,
    ) -> Option<bool> {
        let entry = self.sessions.live(session);
        let numbered = entry.numbered().filter(|numbered| numbered.gives_up);
        let (Some(numbered), Some(amount)) = (numbered, lack.amount) else {
            self.end_session(now, session, lack.reason);
            return None;
        };
        // Attached, what a transport was given stays: the client may have it.
        let above = match entry.place {
            Place::Attached(conn) => {
                let begun = u64::from(self.conns.live(conn).is_mid_packet());
                let sent = entry.outbox.sent().saturating_add(begun);
                sent.max(numbered.progress.sent())
            }
            _ => entry.outbox.acked(),
        };
        if !self.give_up_above(session, above, amount) {
            self.end_session(now, session, lack.reason);
            return None;
        }
        Some(self.lack_of(session, length, key, scaled).is_none())
    }

    /// Gives up the last packet of a session: it has no room, and nothing else can go.
    fn give_up_last(&mut self, session: u32) {
        let end = self.sessions.live(session).outbox.end();
        let one = Amount {
            packets: 1,
            bytes: 0,
        };
        self.give_up_above(session, end.saturating_sub(1), one);
    }

    /// Gives up the oldest packets above `above`. Returns false if that would be too many.
    fn give_up_above(&mut self, session: u32, above: u64, amount: Amount) -> bool {
        let entry = self.sessions.live_mut(session);
        // Which of those that were sent the client has received is known when it is back.
        let is_certain = matches!(entry.place, Place::Attached(_));
        let Lent { outbox, numbers } = entry.lend();
        let given_up =
            numbers.and_then(|progress| progress.give_up(outbox, above, amount, is_certain));
        self.sessions.recount(session, &mut self.account);
        if is_certain && let Some(gaps) = &given_up {
            self.tell_gaps(session, gaps, GAP_NO_ROOM);
        }
        given_up.is_some()
    }

    /// Sends a VOLATILE to one client, or counts it (SPEC 24.6(b)).
    pub(crate) fn deliver_volatile(&mut self, now: Time, session: u32, data: &[u8]) {
        let scaled = scaled_by(self.pressure_beyond_calm());
        let entry = self.sessions.live_mut(session);
        if entry.numbered().is_none() {
            let waiting = entry.outbox.held();
            let is_attached = matches!(entry.place, Place::Attached(_));
            if is_attached && has_room_for_volatile(waiting, &self.config.clients, &scaled) {
                let id = entry.id;
                entry.count_unnumbered();
                self.deliver(now, id, data, false);
            }
            return;
        }
        let longest = entry.numbered().map_or(0, |numbered| numbered.longest_down);
        if data.len() > longest as usize {
            return self.end_session(now, session, EndReason::PacketTooLong);
        }
        let is_attached = matches!(entry.place, Place::Attached(_));
        let Lent { outbox, numbers } = entry.lend();
        let Some(progress) = numbers else {
            return;
        };
        let waiting = progress.waiting_above(outbox, outbox.sent());
        if is_attached && has_room_for_volatile(waiting, &self.config.clients, &scaled) {
            progress.push_volatile(outbox, data);
            self.delivered(now, session, true);
        } else {
            progress.skip_volatile();
        }
    }

    /// Handles that a packet waits for the session. It is given up if it does not fit: before memory is freed, which may end the session.
    fn delivered(&mut self, now: Time, session: u32, fits: bool) {
        self.sessions.live_mut(session).mark_delivery();
        self.sessions.recount(session, &mut self.account);
        self.counters.packets_down += 1;
        if !fits {
            self.give_up_last(session);
        }
        if let Place::Attached(conn) = self.sessions.live(session).place
            && self.has_output(conn, session)
        {
            self.watch_writes(now, conn);
        }
        self.end_largest(now);
    }

    /// Returns whether the client at `conn` of the session has something to take now. One whose ring is full has not.
    #[inline]
    fn has_output(&self, conn: u32, session: u32) -> bool {
        let entry = self.sessions.live(session);
        match entry.numbers() {
            None => true,
            numbers => self.conns.live(conn).has_output(&entry.outbox, numbers),
        }
    }
}

/// Appends a packet to the outbox of a session.
#[inline(always)]
fn append(session: &mut Session, spare: &mut Spare, packet: impl Packet) -> Resized {
    let outbox = &mut session.outbox;
    if outbox.wants_memory()
        && let Some(buffer) = spare.take()
    {
        outbox.adopt(buffer);
    }
    packet.push(session);
    session.mark_delivery();
    session.grow(packet.counted_bytes())
}
