//! What the application sends: straight to the edge, or kept until there is one that knows the session.

use std::sync::Arc;

use super::book::Entry;
use super::granted::Granted;
use super::{
    Delivery, Desk, EVERYONE, EdgeId, Event, Feature, GroupId, GroupSend, HEADER_BYTES, Kick,
    KickError, MAX_LEFT_OUT, SendError, ToEdge,
};
use crate::ClientId;
use crate::code::Code;
use crate::end::End;
use crate::link::tagged::{Flag, Tagged};
use crate::link::v3::{ID_BYTES, KICK_BYTES, MAX_IDS};

impl Desk {
    pub(super) fn v3_edge(&self) -> Option<EdgeId> {
        self.v3.as_ref().and_then(|v3| v3.edge)
    }

    /// Returns what frames of version 3 go to, if the edge has granted `feature`.
    pub(super) fn granted(&mut self, feature: Feature) -> Option<&mut Granted> {
        let v3 = self.v3.as_deref_mut()?;
        (v3.edge.is_some() && v3.features().has(feature)).then_some(v3)
    }

    /// Returns what frames of version 3 go to, if the edge has granted `feature` and the picture is complete. Until then packets, kicks and
    /// groups wait (SPEC 34.1(h)).
    pub(super) fn v3_with(&mut self, feature: Feature) -> Option<&mut Granted> {
        self.granted(feature).filter(|v3| v3.is_ready())
    }

    pub(super) fn push_group(&mut self, frame: ToEdge<'_>) {
        if let Some(v3) = self.v3_with(Feature::Groups) {
            v3.push(frame);
        }
    }

    pub(super) fn push_notice(&mut self, frame: ToEdge<'_>) {
        if let Some(v3) = self.granted(Feature::Notices) {
            v3.push(frame);
        }
    }

    pub(super) fn delivery_of(&mut self, to: Option<GroupId>, key: u64) -> Delivery {
        let slot = self
            .v3_with(Feature::Classes)
            .and_then(|v3| v3.slot(to, key));
        slot.map_or(Delivery::Ordinary, Delivery::Latest)
    }

    pub(super) fn volatile(&mut self) -> Delivery {
        match self.v3_with(Feature::Classes) {
            Some(_) => Delivery::Volatile,
            None => Delivery::Ordinary,
        }
    }

    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let of_v3 = self.v3.as_ref().map_or(0, |v3| v3.held_bytes());
        let held = of_v3.saturating_add(self.link.queued_bytes());
        held == 0 || held.saturating_add(bytes) <= self.queue_bytes
    }

    /// Returns the bytes for which there is room.
    pub(super) fn room(&self) -> usize {
        let of_v3 = self.v3.as_ref().map_or(0, |v3| v3.held_bytes());
        let held = of_v3.saturating_add(self.link.queued_bytes());
        match held {
            0 => usize::MAX,
            held => self.queue_bytes.saturating_sub(held),
        }
    }

    pub(super) fn receivers(&self, to: Option<GroupId>) -> Vec<ClientId> {
        match to {
            Some(group) => self.book.members(group).collect(),
            None => self.book.ids(),
        }
    }

    /// Checks the length of a packet that has `before` bytes before it in its frame: the edge takes no longer frames (SPEC 33.4(f)).
    fn check(&self, length: usize, before: usize) -> Result<(), SendError> {
        let max = self.link.max_packet_bytes().saturating_sub(before);
        match length > max {
            true => Err(SendError::TooLong { length, max }),
            false => Ok(()),
        }
    }

    /// Returns as much of a text as fits into a frame behind `before` bytes.
    pub(super) fn fitting<'a>(&self, text: &'a str, before: usize) -> &'a str {
        let max = self.link.max_packet_bytes().saturating_sub(before);
        text.get(..text.floor_char_boundary(max)).unwrap_or(text)
    }

    /// Returns the most ids that one frame takes.
    pub(super) fn most_ids(&self) -> usize {
        MAX_IDS.min(self.link.max_packet_bytes() / ID_BYTES).max(1)
    }

    pub(super) fn send(
        &mut self,
        id: ClientId,
        delivery: Delivery,
        data: &[u8],
    ) -> Result<u64, SendError> {
        let before = delivery.bytes_before();
        self.check(data.len(), before)?;
        let bytes = data.len().saturating_add(HEADER_BYTES);
        if !self.has_room(bytes.saturating_add(before)) {
            return Err(SendError::QueueFull);
        }
        let Ok(entry) = self.book.address(id) else {
            return Ok(0);
        };
        let is_numbered = delivery != Delivery::Volatile;
        if entry.is_full() {
            return Err(SendError::QueueFull);
        }
        let kept = (self.keeps && is_numbered).then(|| Arc::from(data));
        if entry.injected.is_some() || (self.is_detached && entry.is_told) {
            // It goes behind those that are sent again.
            if is_numbered {
                entry.number(kept.as_ref());
            }
            self.inject();
            return Ok(self.book.get(id).map_or(0, |entry| entry.down));
        }
        let Some(v3) = self.v3.as_deref_mut().filter(|v3| v3.is_ready()) else {
            self.link.push_data(id, data);
            self.queued += 1;
            entry.number(kept.as_ref());
            entry.waiting += 1;
            return Ok(entry.down);
        };
        if !entry.is_told {
            // The edge has told of everybody whom it has.
            self.gone(id, "nobody has this id");
            return Ok(0);
        }
        if delivery == Delivery::Ordinary {
            v3.push_parts(&Tagged::header_for(id, Flag::Data, data.len()), data);
        } else {
            v3.push(ToEdge::Packet {
                id,
                delivery,
                packet: data,
            });
        }
        if is_numbered {
            entry.number(kept.as_ref());
        }
        Ok(entry.down)
    }

    pub(super) fn send_to_many(
        &mut self,
        to: Option<GroupId>,
        without: &[ClientId],
        delivery: Delivery,
        data: &[u8],
    ) -> Result<(), SendError> {
        let (count, max) = (without.len(), MAX_LEFT_OUT);
        if count > max {
            return Err(SendError::TooManyLeftOut { count, max });
        }
        let fans_out = self.v3_with(Feature::Groups).is_some();
        let before = match fans_out {
            true => GroupSend::bytes_before(count),
            false => delivery.bytes_before(),
        };
        self.check(data.len(), before)?;
        let mut receivers = self.receivers(to);
        receivers.retain(|id| !without.contains(id));
        let copies = if fans_out { 1 } else { receivers.len() };
        let each = data.len().saturating_add(HEADER_BYTES);
        if !self.has_room(copies.saturating_mul(each.saturating_add(before)))
            || self.is_one_full(&receivers)
        {
            return Err(SendError::QueueFull);
        }
        if receivers.is_empty() {
            return Ok(());
        }
        if !fans_out {
            for id in receivers {
                // There is room for all.
                let _ = self.send_unbounded(id, delivery, data);
            }
            return Ok(());
        }
        if delivery != Delivery::Volatile {
            let kept = self.keeps.then(|| Arc::from(data));
            let kept = kept.as_ref();
            receivers
                .iter()
                .for_each(|id| self.book.count_down(*id, kept));
        }
        if let Some(v3) = self.v3_with(Feature::Groups) {
            v3.push(ToEdge::GroupSend {
                group: to.unwrap_or(EVERYONE),
                send: GroupSend {
                    delivery,
                    left_out: without.into(),
                    packet: data,
                },
            });
        }
        Ok(())
    }

    /// Returns whether no more can be kept for one of these, which is sent packets again.
    fn is_one_full(&self, receivers: &[ClientId]) -> bool {
        let is_full = |id: &ClientId| self.book.get(*id).is_some_and(Entry::is_full);
        !self.injecting.is_empty() && receivers.iter().any(is_full)
    }

    /// Returns whether there is room for a packet for many.
    pub(super) fn has_room_for_many(
        &self,
        to: Option<GroupId>,
        without: usize,
        length: usize,
    ) -> bool {
        if !self.injecting.is_empty() && self.is_one_full(&self.receivers(to)) {
            return false;
        }
        let v3 = self.v3.as_deref();
        let fans_out = v3.is_some_and(|v3| v3.is_ready() && v3.features().has(Feature::Groups));
        let copies = if fans_out {
            1
        } else {
            self.receivers(to).len()
        };
        let each = length
            .saturating_add(HEADER_BYTES)
            .saturating_add(GroupSend::bytes_before(without));
        self.has_room(copies.saturating_mul(each))
    }

    /// Ends all sessions: the edge is given up.
    pub(super) fn give_up(&mut self) {
        self.close();
        if let Some(v3) = &mut self.v3 {
            v3.forget();
        }
        let _ = self.link.take_frames();
        for id in self.book.missing_since(u64::MAX) {
            self.gone(id, "its edge was given up");
        }
    }

    /// Queues one of the copies for many, which have room together.
    fn send_unbounded(
        &mut self,
        id: ClientId,
        delivery: Delivery,
        data: &[u8],
    ) -> Result<(), SendError> {
        let bound = core::mem::replace(&mut self.queue_bytes, usize::MAX);
        let sent = self.send(id, delivery, data);
        self.queue_bytes = bound;
        sent.map(drop)
    }

    pub(super) fn kick(&mut self, id: ClientId, code: Code, text: &str) -> Result<(), KickError> {
        if !self.has_room(HEADER_BYTES.saturating_add(text.len())) {
            return Err(KickError::QueueFull);
        }
        let text = self.fitting(text, KICK_BYTES);
        let Ok(entry) = self.book.address(id) else {
            return Ok(());
        };
        if self.is_detached {
            // Nobody else can end it.
            self.end_here(id, code, text);
            return Ok(());
        }
        let (is_told, is_injecting) = (entry.is_told, entry.is_injecting());
        entry.kick = Some(Box::new((code, text.to_owned())));
        if is_injecting {
            // It goes behind the packets that are sent again.
            return Ok(());
        }
        if !self.v3.as_ref().is_some_and(|v3| v3.is_ready()) {
            self.link.push_kick(id);
            self.queued += 1;
            return Ok(());
        }
        if is_told {
            self.push_kick(id, code, text);
        }
        Ok(())
    }

    /// Orders an edge that grants it to end a session at once.
    pub(super) fn push_kick(&mut self, id: ClientId, code: Code, text: &str) {
        let kick = Kick {
            code,
            wait_ms: 0,
            text,
        };
        if let Some(v3) = self.v3_with(Feature::Kick) {
            v3.push(ToEdge::Kick { id, kick });
        }
    }

    /// Ends a session of which the edge knows nothing.
    pub(super) fn gone(&mut self, id: ClientId, why: &'static str) {
        if let Some(entry) = self.book.end(id, Code::GONE) {
            let end = End::new(Code::GONE, why, entry.ledgers());
            self.pending.push_back(Event::Ended { id, end });
        }
    }
}
