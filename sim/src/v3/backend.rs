//! The backend and its link. What the link's transport takes is at the backend at once.

use std::collections::VecDeque;

use voltlane_core::ClientId;
use voltlane_core::edge::testkit::Adapter as _;
use voltlane_core::edge::{Closed, EndReason, HasLink as _};
use voltlane_core::protocol::Delivery;

use super::ledger::FIRST_VOLATILE;
use super::{World, kind, time};
use crate::codec::{self, Frames, Tagged};
use crate::ledgered::Runs as _;
use crate::payload::{self, Direction, Label};

/// The flags of version 3 of the link. The frames never reach an edge: they go by a call.
const VOLATILE: u8 = 0x20;
const LATEST: u8 = 0x21;
const POLICY: u8 = 0x27;
/// How many keys a session has.
const KEYS: u64 = 4;

#[derive(Default)]
pub(super) struct Link {
    pub(super) stalled_until: u64,
    /// What the edge has written.
    pub(super) up: Frames,
    /// What the backend has written and the edge has not read.
    down: VecDeque<u8>,
    /// What the edge has read.
    handed: Frames,
}

/// A session of version 2, about which less is promised.
#[derive(Debug, Default)]
pub(super) struct Plain {
    /// The client that was given this id.
    pub(super) owner: Option<usize>,
    next_up: u32,
    pub(super) kicked: bool,
    pub(super) sent_down: u32,
    pub(super) has_ended: bool,
}

impl Link {
    /// Returns the bytes of a frame that the edge has read in part.
    pub(super) fn handed_bytes(&self) -> usize {
        self.handed.held()
    }
}

impl World {
    pub(super) fn backend_turn(&mut self) -> bool {
        let down = self.hand_down();
        if self.now < self.link.stalled_until {
            return down;
        }
        let most = self.chunk() * 4;
        let bytes = self.edge.link_takes(time(self.now), most);
        if bytes.is_empty() {
            return down;
        }
        self.steps += 1;
        self.check_memory();
        self.hash.add(self.now, kind::LINK_UP, 0, &bytes);
        self.link.up.push(&bytes);
        while let Ok(Some(body)) = self.link.up.next_body(u32::MAX) {
            self.backend_takes(&body);
        }
        true
    }

    fn backend_takes(&mut self, body: &[u8]) {
        let Some(Tagged { id, flag, data }) = Tagged::read(body) else {
            return self
                .ledger
                .fail("S15", "7.1", "a packet without a tag".into());
        };
        self.note(|| format!("the backend gets {flag} of {id:016x}, {} bytes", data.len()));
        let Some(session) = self.ledger.by_id.get(&id).copied() else {
            return self.backend_takes_plain(id, flag, data);
        };
        let expiry = self.setup.config.clients.stale_timeout.as_nanos() as u64;
        match (flag, data) {
            (codec::DATA, data) => self.ledger.delivered_up(session, data),
            (codec::RESUMED, _) => self.ledger.told_resumed(session),
            (codec::FAILURE, b"unknown client") => {}
            (codec::FAILURE, reason) => {
                let reason = String::from_utf8_lossy(reason).into_owned();
                self.ledger.told_end(session, &reason, expiry);
            }
            _ => self.ledger.fail("S15", "7.2", format!("flag {flag}")),
        }
    }

    fn backend_takes_plain(&mut self, id: u64, flag: u8, data: &[u8]) {
        let is_shed =
            flag == codec::FAILURE && self.ledger.may_be_shed(&String::from_utf8_lossy(data));
        let plain = self.plain.entry(id).or_default();
        match (flag, data) {
            (codec::DATA, data) => match payload::decode(data) {
                Ok(label)
                    if label.direction == Direction::Up
                        && label.seq >= plain.next_up
                        && plain.owner == Some(label.owner as usize)
                        && !plain.has_ended =>
                {
                    plain.next_up = label.seq + 1;
                }
                other => {
                    let text = format!("{other:?} of a session of version 2");
                    self.ledger.fail("S9", "1.4", text);
                }
            },
            (codec::FAILURE, b"unknown client") => {}
            (codec::FAILURE, _) if plain.has_ended => {
                let text = format!("{id:016x} ends twice");
                self.ledger.fail("S12", "7.3(b)", text);
            }
            (codec::FAILURE, reason) => {
                plain.has_ended = true;
                let is_true = match reason {
                    b"kicked" => plain.kicked,
                    b"memory limit" => is_shed,
                    b"goodbye" => false,
                    _ => true,
                };
                if !is_true {
                    let reason = String::from_utf8_lossy(reason);
                    let text = format!("{id:016x} of version 2 ended: {reason}");
                    self.ledger.fail("S13", "7.3(d)", text);
                }
            }
            _ => {}
        }
    }

    /// Gives the edge what the backend has written.
    pub(super) fn hand_down(&mut self) -> bool {
        if self.setup.has_classes {
            return self.hand_frame_down();
        }
        let most = self.chunk() * 4;
        let bytes = crate::engine::pipe::take_front(&mut self.link.down, most);
        if bytes.is_empty() {
            return false;
        }
        self.steps += 1;
        self.hash.add(self.now, kind::LINK_DOWN, 0, &bytes);
        self.link.handed.push(&bytes);
        let mut touched = Vec::new();
        while let Ok(Some(body)) = self.link.handed.next_body(u32::MAX) {
            let Some(Tagged { id, flag, data }) = Tagged::read(&body) else {
                continue;
            };
            let Some(session) = self.ledger.by_id.get(&id).copied() else {
                continue;
            };
            match flag {
                codec::DATA => {
                    self.ledger.numbered_down(session, data.len(), None);
                    touched.push(session);
                }
                codec::KICK => {
                    let entry = &mut self.ledger.sessions[session];
                    entry.was_away = !entry.kicked && entry.conn.is_none();
                    entry.kicked = true;
                }
                _ => {}
            }
        }
        touched.retain(|one| self.has_session(*one));
        let (before, shed) = (self.ends_for_want_of_room(), self.counted().shed);
        let is_pressed = self.may_be_pressed(bytes.len());
        self.edge.handle_link_bytes(time(self.now), &bytes);
        self.check_memory();
        if self.ends_for_want_of_room() == before || self.counted().shed > shed {
            return true;
        }
        // A session of version 2 may have ended, or one that was kicked.
        let ended = touched.into_iter().find(|one| {
            let is_kicked = self.ledger.sessions[*one].kicked;
            !self.has_session(*one) && !is_kicked && !self.is_full(*one, is_pressed)
        });
        if let Some(session) = ended {
            self.fail_for_room("V16", "24.2(e)", session);
        }
        true
    }

    /// Returns whether the edge has a session.
    fn has_session(&self, session: usize) -> bool {
        let id = self.ledger.sessions[session].id;
        self.edge.inspect(ClientId::from_u64(id)).is_some()
    }

    /// A session has ended for want of room, and must not.
    fn fail_for_room(&mut self, id: &'static str, section: &'static str, session: usize) {
        let entry = &self.ledger.sessions[session];
        let (kept, ring) = (entry.kept(), entry.ring);
        let text = format!("a session ends for want of room: {kept:?} of ring {ring:?}");
        self.ledger.fail(id, section, text);
    }

    /// Gives the edge one frame that the backend has written. The link of version 2 has no classes, so those of them go by a call.
    fn hand_frame_down(&mut self) -> bool {
        let down = &mut self.link.down;
        let length = down.iter().take(4).rev();
        let length = length.fold(0, |length, byte| length << 8 | usize::from(*byte));
        let bytes = crate::engine::pipe::take_front(down, 4 + length);
        let Some(Tagged { id, flag, data }) = bytes.get(4..).and_then(Tagged::read) else {
            return false;
        };
        self.steps += 1;
        self.hash.add(self.now, kind::LINK_DOWN, 0, &bytes);
        let session = self.ledger.by_id.get(&id).copied();
        let (key, packet) = match (flag, data) {
            (LATEST, [key, packet @ ..]) => (Some(*key), packet),
            _ => (None, data),
        };
        let is_pressed = self.may_be_pressed(bytes.len());
        if let Some(session) = session {
            match flag {
                codec::DATA | LATEST => self.ledger.numbered_down(session, packet.len(), key),
                VOLATILE => self.ledger.sessions[session].fates.handed_volatile(),
                POLICY => self.ledger.sessions[session].fates.gives_up = true,
                codec::KICK => {
                    let entry = &mut self.ledger.sessions[session];
                    entry.was_away = !entry.kicked && entry.conn.is_none();
                    entry.kicked = true;
                }
                _ => {}
            }
            if self.is_full(session, is_pressed) {
                self.ledger.sessions[session].fates.was_full = true;
            }
        }
        let before = self.ends_for_want_of_room();
        let (now, client) = (time(self.now), ClientId::from_u64(id));
        match (flag, key) {
            (LATEST, Some(key)) => {
                self.edge
                    .handle_delivery(now, client, Delivery::Latest(key), packet);
            }
            (VOLATILE, _) => {
                self.edge
                    .handle_delivery(now, client, Delivery::Volatile, packet);
            }
            (POLICY, _) => self.edge.handle_policy(now, client, true),
            _ => self.edge.handle_link_bytes(now, &bytes),
        }
        self.check_memory();
        let Some(session) = session.filter(|_| self.ends_for_want_of_room() > before) else {
            return true;
        };
        if self.ledger.sessions[session].fates.gives_up {
            self.fail_for_room("V18", "24.4", session);
        } else if !self.is_full(session, is_pressed) {
            self.fail_for_room("V16", "24.2(e)", session);
        }
        true
    }

    fn ends_for_want_of_room(&self) -> u64 {
        let ended = &self.edge.counters().ended;
        ended[EndReason::SendQueueFull as usize] + ended[EndReason::MissedPacketsFull as usize]
    }

    /// Returns whether a session may have no room for the last packet for it. Of one whose client is attached only what is not sent counts,
    /// and the rest cannot be more than its ring. `is_pressed`: memory may have been short when it came.
    fn is_full(&self, session: usize, is_pressed: bool) -> bool {
        let entry = &self.ledger.sessions[session];
        let clients = &self.setup.config.clients;
        let (packets, bytes) = entry.kept();
        let (ring_packets, ring_bytes) = match entry.conn {
            None => entry.ring,
            Some(_) => (0, 0),
        };
        let (most, most_bytes) = (
            clients.channel_capacity as u64,
            clients.channel_bytes as u64,
        );
        // VOLATILE packets fill half of it, and the last one of them may be of any length.
        let of_volatile = match entry.fates.has_volatile() {
            true => (most.div_ceil(2), most_bytes / 2 + self.setup.payload + 64),
            false => (0, 0),
        };
        let part = if is_pressed { 4 } else { 1 };
        let room = most + ring_packets - of_volatile.0;
        let room_bytes = ((most_bytes + ring_bytes) / part).saturating_sub(of_volatile.1);
        packets > room || bytes > room_bytes
    }

    /// Draws the class of the next packet down: its flag, and what goes before the packet.
    fn draw_class(&mut self) -> (u8, Vec<u8>) {
        if !self.setup.has_classes {
            return (codec::DATA, Vec::new());
        }
        match self.classes.below(10) {
            0..3 => (codec::DATA, Vec::new()),
            3..5 => (VOLATILE, Vec::new()),
            _ => (LATEST, vec![self.classes.below(KEYS) as u8]),
        }
    }

    fn tell(&mut self, id: u64, flag: u8, data: &[u8]) {
        self.link.down.extend(Tagged { id, flag, data }.to_frame());
    }

    /// The backend sends a packet to a client that has a session.
    pub(super) fn send_down(&mut self, client: usize, bytes: usize) {
        let Some(id) = self.clients[client].id else {
            return;
        };
        let is_numbered = self.ledger.by_id.contains_key(&id);
        let (flag, mut frame) = match is_numbered {
            true => self.draw_class(),
            false => (codec::DATA, Vec::new()),
        };
        let is_first = self.clients[client].sent_down + self.clients[client].sent_volatile == 0;
        let asks = is_first && is_numbered && self.setup.has_classes && self.classes.chance(60);
        let state = &mut self.clients[client];
        let seq = match self.ledger.by_id.get(&id) {
            // The backend does not know it before its Join record has come.
            Some(session) if !self.ledger.sessions[*session].has_begun => return,
            Some(_) if flag == VOLATILE => {
                state.sent_volatile += 1;
                FIRST_VOLATILE + state.sent_volatile - 1
            }
            Some(_) => {
                state.sent_down += 1;
                state.sent_down - 1
            }
            None => {
                let plain = self.plain.entry(id).or_default();
                plain.sent_down += 1;
                plain.sent_down - 1
            }
        };
        let label = Label {
            direction: Direction::Down,
            owner: client as u32,
            conn: id as u32,
            seq,
        };
        if asks {
            self.tell(id, POLICY, &[]);
        }
        frame.extend(payload::encode(label, bytes.max(payload::HEADER_BYTES)));
        self.tell(id, flag, &frame);
    }

    pub(super) fn kick(&mut self, client: usize) {
        if let Some(id) = self.clients[client].id {
            if !self.ledger.by_id.contains_key(&id) {
                self.plain.entry(id).or_default().kicked = true;
            }
            self.tell(id, codec::KICK, &[]);
        }
    }

    /// The link is lost, between two packets down, and comes back at once.
    pub(super) fn lose_link(&mut self) {
        // What the backend has written and the edge has not read is lost, which no version promises anything about.
        if self.link.handed.held() > 0 || !self.link.down.is_empty() {
            return;
        }
        let now = time(self.now);
        self.edge.handle_link_closed(now, Closed::Error);
        self.link.up = Frames::default();
        self.edge.link_up(now);
        self.ledger.reached("link lost");
    }

    /// Returns whether nothing is under way on the link.
    pub(super) fn link_is_quiet(&self) -> bool {
        self.link.down.is_empty() && self.edge.gauges().link_bytes == 0
    }
}
