//! The backend link as SPEC sections 7, 8.4 and 10.4 describe it.

use std::collections::VecDeque;

use super::announce::Announcing;
use super::handshake::PROVISIONAL;
use super::{Model, UNKNOWN_ANSWERS};
use crate::codec::{self, Frames, Tagged};
use crate::payload;

/// The number of malformed packets, with no good one before them, after which the peer is no backend.
const FOREIGN_PACKETS: u32 = 32;

/// The link's transport.
#[derive(Clone, Default)]
pub(super) struct Link {
    pub(super) up: bool,
    /// Whether framing is lost or the peer is no backend, so that the edge must reset the link.
    pub(super) must_close: bool,
    /// Whether a well-formed packet arrived on this link.
    pub(super) was_good: bool,
    /// The number of malformed packets before the first good one on this link.
    pub(super) malformed: u32,
    pub(super) incoming: Frames,
    /// What the edge wrote on this generation.
    pub(super) outgoing: Frames,
    /// The first bytes of the packet that was cut by the loss of the last generation.
    pub(super) cut: Vec<u8>,
    /// Set if this generation has begun with announcements that may not be complete.
    pub(super) announcing: Option<Announcing>,
}

/// A packet or notice for the backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum What {
    Data(Vec<u8>),
    Resumed,
    Failure(&'static str),
}

/// One packet on its way to the backend.
#[derive(Clone)]
pub(super) struct Item {
    pub(super) what: What,
    /// Whether it is certainly in the link queue, and not still waiting with its client.
    pub(super) sure: bool,
    /// Whether it may be left out.
    pub(super) optional: bool,
}

impl Item {
    pub(super) fn cost(&self) -> usize {
        13 + match &self.what {
            What::Data(data) => data.len(),
            What::Resumed => 0,
            What::Failure(reason) => reason.len(),
        }
    }

    fn is(&self, packet: &Tagged<'_>) -> bool {
        match &self.what {
            What::Data(data) => packet.flag == codec::DATA && packet.data == data,
            What::Resumed => packet.flag == codec::RESUMED && packet.data.is_empty(),
            What::Failure(reason) => {
                packet.flag == codec::FAILURE && packet.data == reason.as_bytes()
            }
        }
    }
}

impl Model {
    /// Returns whether packets of `sid` may be waiting with its client.
    pub(super) fn is_uncertain(&self, sid: u64) -> bool {
        self.outbox
            .get(&sid)
            .and_then(VecDeque::back)
            .is_some_and(|item| !item.sure)
    }

    /// Handles a whole packet of an established client (10.4).
    pub(super) fn packet_up(&mut self, sid: u64, data: Vec<u8>) {
        if let Some(session) = self.sessions.get_mut(&sid) {
            session.carried = true;
        }
        self.queue_up(sid, What::Data(data));
    }

    /// Queues a packet or a notice in the line of its session.
    pub(super) fn queue_up(&mut self, sid: u64, what: What) {
        let item = Item {
            what,
            sure: false,
            optional: false,
        };
        // While others wait, this item may have to wait behind them even if it would fit.
        let sure = self.uncertain == 0 && self.surely_fits(item.cost());
        self.reach.link_full += u64::from(!sure);
        self.push_up(sid, Item { sure, ..item });
    }

    /// Returns the bytes of `sid` that may wait in its line.
    pub(super) fn line_bytes(&self, sid: u64) -> usize {
        self.outbox
            .get(&sid)
            .into_iter()
            .flatten()
            .filter(|item| !item.sure)
            .map(Item::cost)
            .sum()
    }

    /// Answers a packet that names no session (SPEC 7.4).
    fn answer_unknown(&mut self, id: u64) {
        let second_ago = self.now.saturating_sub(1_000_000_000);
        self.unknown_at.retain(|at| *at > second_ago);
        let item = Item {
            what: What::Failure("unknown client"),
            sure: true,
            optional: false,
        };
        let must = self.unknown_at.len() < UNKNOWN_ANSWERS
            && self.surely_fits(item.cost())
            && self.uncertain == 0;
        self.unknown_at.push_back(self.now);
        self.push_up(
            id,
            Item {
                optional: !must,
                ..item
            },
        );
    }

    /// Returns whether a packet of this cost fits into the link queue, whichever of the pending packets are in it.
    pub(super) fn surely_fits(&self, cost: usize) -> bool {
        self.out_packets == 0
            || (self.out_packets < self.limits.link_packets
                && self.out_bytes + cost <= self.limits.link_bytes)
    }

    fn push_up(&mut self, id: u64, item: Item) {
        self.out_packets += 1;
        self.out_bytes += item.cost();
        self.uncertain += usize::from(!item.sure);
        self.outbox.entry(id).or_default().push_back(item);
        if !self.surely_fits(1) {
            for begun in self
                .conns
                .values_mut()
                .filter_map(|state| state.frame.as_mut())
            {
                begun.latest = u64::MAX;
            }
        }
    }

    /// If everything fits, all of it must be in the queue. Once there is room, every client is read again.
    fn settle(&mut self) {
        let fits = self.out_packets <= self.limits.link_packets
            && self.out_bytes <= self.limits.link_bytes;
        if self.uncertain > 0 && (fits || self.out_packets <= 1) {
            self.uncertain = 0;
            self.outbox
                .values_mut()
                .flatten()
                .for_each(|item| item.sure = true);
        }
        if self.uncertain > 0 || !self.surely_fits(1) {
            return;
        }
        let mut violators = Vec::new();
        for (&conn, state) in &mut self.conns {
            // Whether its pace lets it be read is not known then.
            let is_read = !state.pace.stops_reading();
            for begun in [&mut state.frame, &mut state.idle].into_iter().flatten() {
                if begun.latest == u64::MAX && is_read {
                    begun.latest = self.now;
                }
            }
            if state.hidden_violation && state.close.is_none() && state.sid.is_some() {
                violators.push(conn);
            }
        }
        for conn in violators {
            self.close_and_detach(conn, "a frame above the bound");
        }
    }

    /// Handles bytes of the backend that the edge is given.
    pub fn link_bytes(&mut self, now: u64, bytes: &[u8]) {
        self.now = now;
        if !self.link.up || self.link.must_close {
            return;
        }
        self.link.incoming.push(bytes);
        while !self.link.must_close {
            match self
                .link
                .incoming
                .next_body(self.limits.max_down + codec::TAG_BYTES as u32)
            {
                Ok(Some(body)) => self.backend_packet(&body),
                Ok(None) => break,
                Err(_) => {
                    self.reach.link_too_long += 1;
                    self.link.must_close = true;
                }
            }
        }
        self.shed_load(false);
    }

    fn backend_packet(&mut self, body: &[u8]) {
        let Some(packet) = Tagged::read(body) else {
            return self.malformed_packet();
        };
        let known = self.sessions.contains_key(&packet.id);
        match packet.flag {
            codec::DATA if known => self.packet_down(packet.id, packet.data),
            codec::KICK if packet.data.is_empty() && known => self.end_session(packet.id, "kicked"),
            codec::KICK if !packet.data.is_empty() => return self.malformed_packet(),
            codec::DATA | codec::KICK => self.answer_unknown(packet.id),
            _ => return self.malformed_packet(),
        }
        self.link.was_good = true;
    }

    /// Handles a malformed packet (SPEC 7.5(a) and (d)).
    fn malformed_packet(&mut self) {
        self.reach.malformed += 1;
        self.link.malformed += u32::from(!self.link.was_good);
        if self.link.malformed == FOREIGN_PACKETS && !self.link.was_good {
            self.reach.link_foreign += 1;
            self.link.must_close = true;
        }
    }

    /// Handles that the link's transport took these bytes.
    pub fn link_written(&mut self, now: u64, bytes: &[u8]) {
        self.now = now;
        self.link.outgoing.push(bytes);
        let whole = self.limits.max_up.max(64) + codec::TAG_BYTES as u32;
        loop {
            match self.link.outgoing.next_body(whole) {
                Ok(Some(body)) => self.emitted(&body),
                Ok(None) => break,
                Err(error) => return self.fail("S15", "2.1", format!("on the link: {error}")),
            }
        }
        self.settle();
        self.shed_load(false);
    }

    /// Handles one whole packet that the edge has written to the backend.
    fn emitted(&mut self, body: &[u8]) {
        let packet = Tagged::read(body);
        if packet.is_some_and(|packet| self.announces(&packet)) {
            return;
        }
        let cut = std::mem::take(&mut self.link.cut);
        if !codec::frame(body).starts_with(&cut) {
            self.fail(
                "S9",
                "7.6(d)",
                "the packet that the lost link had cut does not come first".to_string(),
            );
        }
        let Some(packet) = packet else {
            return self.fail(
                "S15",
                "7.1",
                format!("a body of {} bytes on the link", body.len()),
            );
        };
        let id = self.find_sender(&packet);
        match self.take_item(id, &packet) {
            Ok(()) => {}
            Err(expected) => self.blame(&packet, expected),
        }
    }

    /// Takes the item that `packet` is out of the line of `id`, or returns what had to come instead.
    ///
    /// Answers to packets that name no session may be missing, and all of them are alike: one that must come is taken first.
    fn take_item(&mut self, id: u64, packet: &Tagged<'_>) -> Result<(), Option<What>> {
        let items = self.outbox.entry(id).or_default();
        let mut found = None;
        let mut expected = None;
        for (place, item) in items.iter().enumerate() {
            match (item.is(packet), item.optional) {
                (true, true) => found = found.or(Some(place)),
                (true, false) => {
                    found = Some(place);
                    break;
                }
                (false, true) => {}
                (false, false) => {
                    expected = Some(item.what.clone());
                    break;
                }
            }
        }
        let item = found
            .and_then(|place| items.remove(place))
            .ok_or(expected)?;
        self.out_packets -= 1;
        self.out_bytes -= item.cost();
        self.uncertain -= usize::from(!item.sure);
        Ok(())
    }

    /// Returns the key of the outbox that `packet` belongs to: its id, or that of a session whose id was never shown.
    fn find_sender(&mut self, packet: &Tagged<'_>) -> u64 {
        if self.outbox.contains_key(&packet.id) || self.issued.contains(&packet.id) {
            return packet.id;
        }
        let hidden = self.outbox.range(PROVISIONAL..);
        let found = hidden
            .filter(|(_, items)| items.front().is_some_and(|item| item.is(packet)))
            .map(|(id, _)| *id);
        if let Some(id) = found.clone().next() {
            self.learn_id(id, packet.id);
        }
        packet.id
    }

    /// Replaces the model's `provisional` name of a session by the id that the edge shows.
    pub(super) fn learn_id(&mut self, provisional: u64, id: u64) {
        if !self.issued.insert(id) {
            self.fail(
                "S3",
                "9.1(b)",
                format!("the id {id:016x} was issued before"),
            );
        }
        self.link.learn_announced(provisional, id);
        if let Some(session) = self.sessions.remove(&provisional) {
            if let Some(state) = session.conn.and_then(|conn| self.conns.get_mut(&conn)) {
                state.sid = Some(id);
            }
            self.sessions.insert(id, session);
        }
        if let Some(items) = self.outbox.remove(&provisional) {
            self.outbox.insert(id, items);
        }
    }

    fn blame(&mut self, packet: &Tagged<'_>, expected: Option<What>) {
        let Tagged { id, flag, data } = *packet;
        let seen = match (flag, payload::decode(data)) {
            (codec::DATA, Ok(label)) => format!("{label:?}"),
            (codec::FAILURE, _) => format!("0x01 {:?}", String::from_utf8_lossy(data)),
            _ => format!("flag {flag:#04x} and {} bytes", data.len()),
        };
        let (rule, section, what) = match (flag, &expected) {
            (codec::DATA, Some(What::Data(_))) => ("S9", "1.4(a)", "another packet is next"),
            (codec::DATA, Some(What::Resumed)) => ("S12", "7.3(c)", "0x03 must come first"),
            (codec::DATA, Some(What::Failure(_))) => ("S11", "7.3(b)", "the session has ended"),
            (codec::DATA, None) if !self.issued.contains(&id) => {
                ("S1", "9.2(a)", "no session has this id")
            }
            (codec::DATA, None) => ("S1", "9.2(a)", "this client has sent nothing more"),
            (codec::FAILURE, Some(What::Failure(reason))) => ("S13", "7.3(d)", *reason),
            (codec::FAILURE, Some(What::Data(_))) => {
                ("S11", "7.3(b)", "data of the session comes first")
            }
            (codec::FAILURE, Some(What::Resumed)) => {
                ("S12", "7.3(b)", "0x03 of the session comes first")
            }
            (codec::FAILURE, None) => ("S15", "7.3(a)", "there is no cause for it"),
            (codec::RESUMED, Some(_)) => {
                ("S12", "7.3(c)", "other packets of the session come first")
            }
            (codec::RESUMED, None) => ("S6", "7.3(c)", "nobody came back"),
            _ => ("S15", "7.2(a)", "the edge must not send this flag"),
        };
        self.fail(
            rule,
            section,
            format!("to the backend for {id:016x}: {seen}; {what}"),
        );
    }

    /// Checks that nothing is missing: nothing waits in the edge for a link that takes everything.
    pub(super) fn check_all_emitted(&mut self) {
        let missing = self.outbox.iter().find_map(|(id, items)| {
            let item = items.iter().find(|item| !item.optional)?;
            Some((*id, item.what.clone()))
        });
        if let Some((id, what)) = missing {
            let (rule, text) = match what {
                What::Data(data) => ("S11", format!("a packet of {} bytes is gone", data.len())),
                What::Resumed => ("S16", "0x03 is missing".to_string()),
                What::Failure(reason) => ("S16", format!("0x01 {reason:?} is missing")),
            };
            return self.fail(
                rule,
                "8.1(a)",
                format!("to the backend for {id:016x}: {text}"),
            );
        }
        self.outbox.clear();
        (self.out_packets, self.out_bytes) = (0, 0);
        self.settle();
    }
}
