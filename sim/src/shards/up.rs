//! The rules of the way up: from a shard through its branch and the link to the backend.

use voltlane_core::edge::trunk::Upward;

use super::ledger::{Announced, Ledger, Said};
use crate::codec::{self, Frames, Tagged};
use crate::payload;

/// What the backend reads for an unknown id.
const UNKNOWN: &[u8] = b"unknown client";

impl Ledger {
    pub(super) fn link_up(&mut self) {
        self.generation += 1;
        self.taken = Frames::default();
        self.arrived = Frames::default();
        self.framing_lost = false;
        self.announced = Announced::default();
    }

    pub(super) fn link_down(&mut self) {
        self.reached("link lost");
        if self.taken.held() > 0 {
            self.reached("link lost within a packet");
        }
        if self
            .sessions
            .iter()
            .any(|session| !session.owed_up.is_empty())
        {
            self.reached("packets kept over a loss of the link");
        }
        self.announced = Announced::default();
    }

    /// Handles what a shard handed up on its branch.
    pub(super) fn on_branch(&mut self, shard: usize, generation: u32, output: &Upward) {
        let current = generation == self.generation;
        match output {
            Upward::Packets(_) | Upward::Granted(_) => {}
            Upward::Announced => self.announced.marks += usize::from(current),
            Upward::Announcements(batch) => {
                let mut frames = Frames::default();
                frames.push(batch.bytes());
                while let Ok(Some(body)) = frames.next_body(u32::MAX) {
                    self.on_announcement(shard, current, &body);
                }
            }
        }
    }

    fn on_announcement(&mut self, shard: usize, current: bool, body: &[u8]) {
        let id = match Tagged::read(body) {
            Some(Tagged {
                id,
                flag: codec::RESUMED,
                data: [],
            }) => id,
            other => {
                let text = format!("shard {shard} has {other:?} among its announcements");
                return self.fail("S12", "7.7(b)", text);
            }
        };
        if current {
            self.announced.pending.push(id);
            self.reached("announced");
        }
    }

    /// Checks what a shard announces when its branch opens: at least the sessions whose clients are established there, and none that has
    /// ended.
    pub(super) fn check_announced(&mut self, shard: usize, announced: &[u64]) {
        let gone = |id: &&u64| match self.by_id.get(*id) {
            Some(&session) => self.sessions[session].kicked || self.sessions[session].told,
            None => true,
        };
        if let Some(id) = announced.iter().find(gone) {
            let text = format!("shard {shard} announces {id:016x}, which is not there");
            return self.fail("S12", "7.7(b)", text);
        }
        let missing = self.sessions.iter().find_map(|session| {
            let id = session.id.filter(|id| (id >> 56) as usize == shard)?;
            let there = session.current.is_some() && !session.kicked;
            (there && !announced.contains(&id)).then_some(id)
        });
        if let Some(id) = missing {
            self.fail("S16", "7.7(b)", format!("{id:016x} is not announced"));
        }
    }

    /// Handles that the backend's transport took `bytes`.
    pub(super) fn backend_took(&mut self, bytes: &[u8]) {
        self.taken.push(bytes);
        while let Ok(Some(body)) = self.taken.next_body(u32::MAX) {
            self.backend_hears(&body);
            if self.violation.is_some() {
                return;
            }
        }
    }

    /// Returns whether an announcement of this link is still to come.
    fn announces_still(&self) -> bool {
        let all_marked = self.announced.marks >= self.living;
        self.setup.config.master.announce_all && !(all_marked && self.announced.pending.is_empty())
    }

    fn backend_hears(&mut self, body: &[u8]) {
        let Some(packet) = Tagged::read(body) else {
            return self.fail("S8", "7.1", format!("a packet of {} bytes", body.len()));
        };
        let id = packet.id;
        if !self.known.contains(&id) && self.by_id.contains_key(&id) {
            self.known.push(id);
        }
        if self.announces_still() {
            let place = self.announced.pending.iter().position(|&other| other == id);
            match place.filter(|_| packet.flag == codec::RESUMED) {
                Some(place) => {
                    self.announced.pending.remove(place);
                }
                None => {
                    let text = format!("{packet:?} before all is announced");
                    self.fail("S12", "9.9(e)", text);
                }
            }
            return;
        }
        match self.by_id.get(&id).copied() {
            Some(session) => self.hears_of(session, packet),
            None => self.hears_of_nobody(packet),
        }
    }

    fn hears_of(&mut self, number: usize, packet: Tagged<'_>) {
        let session = &mut self.sessions[number];
        let next = session.owed_up.front().copied();
        match packet.flag {
            codec::DATA => {
                let label = match payload::decode(packet.data) {
                    Ok(label) => label,
                    Err(error) => {
                        let text = format!("of session {number}: {error}");
                        return self.fail("S9", "1.4(a)", text);
                    }
                };
                if label.owner as usize != number {
                    let text = format!("{label:?} under the id of session {number}");
                    return self.fail("S1", "9.2(a)", text);
                }
                if next != Some(Said::Data(label)) {
                    let text = format!("the backend gets {label:?}, and {next:?} is next");
                    return self.fail("S9", "1.4(a)", text);
                }
                session.owed_up.pop_front();
                session.heard += 1;
            }
            codec::RESUMED if next == Some(Said::Resumed) => {
                session.owed_up.pop_front();
            }
            codec::FAILURE if packet.data == UNKNOWN => {
                if !session.told {
                    let text = format!("session {number} is unknown before its end");
                    self.fail("S14", "7.4(b)", text);
                }
            }
            codec::FAILURE => self.hears_of_the_end(number, packet.data),
            flag => {
                let text = format!("session {number}: flag {flag}, and {next:?} is next");
                self.fail("S12", "7.3", text);
            }
        }
    }

    fn hears_of_the_end(&mut self, number: usize, reason: &[u8]) {
        let session = &mut self.sessions[number];
        let reason = String::from_utf8_lossy(reason).into_owned();
        if session.told {
            return self.fail("S12", "7.3(a)", format!("session {number} ends twice"));
        }
        session.told = true;
        if let Some(next) = session.owed_up.front() {
            let text = format!("session {number} ends ({reason}) before {next:?}");
            return self.fail("S11", "10.4(d)", text);
        }
        if let Some(why) = self.why_not(number, &reason) {
            return self.fail(
                "S13",
                "7.3(d)",
                format!("session {number}: {reason}, {why}"),
            );
        }
        let denied = self.sessions[number].denied_at;
        let expired_from = self.expires_at(number);
        if reason == "expired" && denied.is_some_and(|at| at < expired_from) {
            let text = format!("session {number} was there, and its owner was denied it");
            return self.fail("S16", "5.1(a)", text);
        }
        self.reached(match reason.as_str() {
            "expired" => "ended: expired",
            "kicked" => "ended: kicked",
            "send queue full" => "ended: send queue full",
            "missed packet buffer full" => "ended: missed packet buffer full",
            "client is away" => "ended: client is away",
            "write timed out" => "ended: write timed out",
            _ => "ended: too many stale clients",
        });
    }

    /// Returns the earliest time at which the session expires.
    fn expires_at(&self, number: usize) -> u64 {
        let stale = self.setup.config.clients.stale_timeout.as_nanos() as u64;
        self.sessions[number]
            .left_at
            .map_or(u64::MAX, |left| left + stale)
    }

    /// Returns why a session cannot have ended for this reason, if anything contradicts it.
    fn why_not(&self, number: usize, reason: &str) -> Option<String> {
        let session = &self.sessions[number];
        let clients = &self.setup.config.clients;
        let beyond = |packets: usize, bytes: usize| {
            session.most_owed.0 > packets || session.most_owed.1 > bytes
        };
        let fine = match reason {
            "kicked" => session.kicked,
            "expired" => self.expires_at(number) <= self.now,
            "send queue full" => beyond(clients.channel_capacity, clients.channel_bytes),
            "missed packet buffer full" => {
                let packets = clients.missed_packets_buffer_size;
                packets > 0 && beyond(packets, clients.missed_packets_buffer_bytes)
            }
            "client is away" => clients.missed_packets_buffer_size == 0 && session.most_owed.0 > 0,
            "write timed out" => session.most_owed.0 > 0,
            "too many stale clients" => {
                let part = clients
                    .max_stale_clients
                    .div_ceil(2 * self.for_shards.len());
                part < self.sessions.len() && session.left_at.is_some()
            }
            _ => false,
        };
        (!fine).then(|| format!("but {session:?}"))
    }

    fn hears_of_nobody(&mut self, packet: Tagged<'_>) {
        let (came, answered) = self.strange.entry(packet.id).or_default();
        *answered += 1;
        let in_bounds = *answered <= *came;
        if packet.flag != codec::FAILURE || packet.data != UNKNOWN || !in_bounds {
            let text = format!("{packet:?} of an id that nobody has");
            self.fail("S14", "7.4", text);
        }
        self.reached("unknown answered");
    }
}
