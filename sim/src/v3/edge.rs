//! The adapter of the edge.

use std::collections::BTreeMap;

use voltlane_core::edge::testkit::Adapter as _;
use voltlane_core::edge::{CloseReason, Closed, Duty, HasLink as _};

use super::items::Item;
use super::ledger::Queued;
use super::tap::{Down, Up};
use super::{Owner, World, kind, time};
use crate::codec::{self, Frames, Tagged};
use crate::engine::pipe::End;
use crate::ledgered::Runs as _;

/// The packets of the link's queue that are looked at, each time something is written to a client.
const MOST_LOOKED_AT: usize = 400;

impl World {
    pub(super) fn edge_turn(&mut self) -> bool {
        let mut moved = false;
        self.edge.skip_listed();
        if self
            .edge
            .poll_timeout()
            .is_some_and(|due| due.at.as_nanos() <= self.now)
        {
            self.edge.handle_timeout(time(self.now));
            self.check_memory();
            moved = true;
        }
        for conn in self.live.clone() {
            moved |= self.serve(conn);
            if self.is_over() {
                return true;
            }
        }
        self.live.retain(|conn| self.conns[*conn].key.is_some());
        moved
    }

    /// Tells the ledger what waits for the backend.
    pub(super) fn look_at_link(&mut self) {
        self.see_shed();
        let gauges = self.edge.gauges();
        self.ledger.in_link = (gauges.link_packets + gauges.waiting + gauges.ending) as u64;
        self.ledger.ends_in_line = gauges.ending as u64;
        self.ledger.queued = (gauges.link_packets <= MOST_LOOKED_AT).then(|| self.queued());
    }

    /// Reads the queue of the link.
    fn queued(&self) -> BTreeMap<u64, Queued> {
        let mut frames = Frames::default();
        frames.push(self.link.up.rest());
        for part in self.edge.link_output() {
            frames.push(part);
        }
        let mut queued: BTreeMap<u64, Queued> = BTreeMap::new();
        while let Ok(Some(body)) = frames.next_body(u32::MAX) {
            let Some(Tagged { id, flag, data }) = Tagged::read(&body) else {
                continue;
            };
            let of_session = queued.entry(id).or_default();
            match flag {
                codec::DATA => of_session.packets += 1,
                codec::FAILURE if data != b"unknown client" => of_session.ends = true,
                _ => {}
            }
        }
        queued
    }

    fn serve(&mut self, conn: usize) -> bool {
        let Some(key) = self.conns[conn].key else {
            return false;
        };
        let now = time(self.now);
        match self.edge.client_duty(key) {
            Duty::Entropy => {
                self.draw_entropy(conn);
                return true;
            }
            Duty::Close(kind) => {
                self.close_at_edge(conn, Closed::Asked, kind.into());
                return true;
            }
            Duty::HandOver(_) => {
                self.ledger.fail("S15", "9.9", "a hand-over".into());
                return true;
            }
            Duty::Write(_) | Duty::Read(_) | Duty::Rest => {}
        }
        let most = self.chunk().min(self.conns[conn].down.room());
        let bytes = self.edge.client_takes(now, key, most);
        let wrote = !bytes.is_empty();
        if wrote {
            self.steps += 1;
            self.hash.add(self.now, kind::DOWN, conn as u64, &bytes);
            self.write_down(conn, &bytes);
        }
        self.read_up(conn) || wrote
    }

    fn write_down(&mut self, conn: usize, bytes: &[u8]) {
        self.look_at_link();
        let state = &mut self.conns[conn];
        let mut seen = Vec::new();
        let read = state.tap.down(bytes, &mut self.common, &mut seen);
        if let Err(text) = read {
            self.misread(conn, text);
        }
        for seen in seen {
            self.sealed_down(conn, &seen.what);
            self.conns[conn].down_seen.push_back(seen);
        }
        let state = &mut self.conns[conn];
        if state.loses_reply {
            // The reply is on the way, and then the network fails.
            self.reset(conn);
            return;
        }
        state.down.write(self.now, bytes, &mut self.wakes);
    }

    /// A tap cannot read what was written. Others than clients may write anything.
    pub(super) fn misread(&mut self, conn: usize, text: String) {
        self.conns[conn].tap.lose();
        if let Owner::Client(client) = self.conns[conn].owner {
            let text = format!("client {client}, connection {conn}: {text}");
            self.ledger.fail("V0", "20", text);
        } else if text.contains("two values") {
            self.ledger.fail("V0", "20.6(b)", text);
        }
    }

    fn sealed_down(&mut self, conn: usize, what: &Down) {
        let state = &mut self.conns[conn];
        match what {
            Down::Busy => self.ledger.reached("busy"),
            Down::Welcome(welcome) => {
                if welcome.run != self.edge.run() {
                    self.ledger.fail("V5", "19.2", "another run".into());
                }
                let (owner, life) = match state.owner {
                    Owner::Client(client) => (client, self.clients[client].life),
                    _ => (usize::from(u16::MAX), 0),
                };
                let session = self.ledger.welcomed(welcome.id, owner, life, welcome.ring);
                state.session = Some(session);
                if let Owner::Client(client) = state.owner
                    && self.clients[client].conn == Some(conn)
                {
                    self.clients[client].welcomed(session, &mut self.ledger);
                }
            }
            Down::Answer { code, highest } => {
                let (code, highest) = (*code, *highest);
                state.is_refused = code != 0;
                let (Some(session), Some(claim)) = (state.session, &state.claim) else {
                    return;
                };
                if (code == 0) != state.watch.accepted.is_some() {
                    let text = format!("{code} for the attempt {}", claim.counter);
                    self.ledger.fail("V3", "23.2(a)", text);
                }
                let counter = claim.counter;
                let is_owner = matches!(state.owner, Owner::Client(_));
                self.ledger.answered(
                    session,
                    counter,
                    code,
                    highest,
                    state.watch.judged,
                    is_owner,
                );
                self.note(|| format!("connection {conn} is answered: {code}, highest {highest}"));
            }
            Down::Record(items) => {
                if let Some(session) = state.session {
                    self.ledger.sealed_down(session, &mut state.watch, items);
                }
            }
        }
    }

    fn read_up(&mut self, conn: usize) -> bool {
        let now = self.now;
        let state = &mut self.conns[conn];
        let Some(key) = state.key else { return false };
        state.up.advance(now);
        if state.up.is_reset(now) {
            self.close_at_edge(conn, Closed::Error, End::Rst);
            return true;
        }
        let budget = self.edge.read_budget(key);
        if budget == 0 {
            return false;
        }
        let most = self.chunk().min(budget);
        let state = &mut self.conns[conn];
        if state.up.readable() > 0 {
            let bytes = state.up.read(most);
            self.steps += 1;
            self.hash.add(now, kind::UP, conn as u64, &bytes);
            self.come_up(conn, bytes.len());
            let joined = self.edge.counters().joined;
            self.edge.handle_client_bytes(time(now), key, &bytes);
            if self.edge.counters().joined == joined {
                self.refuse_join(conn);
            }
            self.conns[conn].joins = false;
            self.check_memory();
            return true;
        }
        if state.up.ended(now).is_some() {
            self.close_at_edge(conn, Closed::Eof, End::Fin);
            return true;
        }
        false
    }

    /// The edge is about to get bytes.
    fn come_up(&mut self, conn: usize, bytes: usize) {
        let from = self.address(self.conns[conn].owner);
        let state = &mut self.conns[conn];
        state.up_read += bytes as u64;
        while let Some(seen) = state.up_seen.pop_front_if(|seen| seen.end <= state.up_read) {
            match seen.what {
                Up::Hello => {}
                Up::Claim(claim) => {
                    state.session = self.ledger.by_id.get(&claim.id).copied();
                    state.claim = Some(claim);
                    state.judged(&self.ledger);
                }
                Up::Record(items) => {
                    let Some(session) = state.session else {
                        continue;
                    };
                    let entry = &mut self.ledger.sessions[session];
                    if state.claim.is_none() && !entry.has_begun && !state.is_refused {
                        entry.has_begun = true;
                        state.joins = true;
                        entry.conn = Some(conn);
                        entry.last_from = Some(from);
                    }
                    if entry.conn == Some(conn) {
                        self.ledger.came_up(session, &mut state.watch, &items);
                    } else {
                        // Of what is not attached yet only packets may come.
                        let packets = items.iter().filter_map(|(item, number)| {
                            matches!(item, Item::Packet(_)).then_some(*number)
                        });
                        let most = packets.max().unwrap_or(0);
                        entry.up.arrived = entry.up.arrived.max(most);
                    }
                }
            }
        }
    }

    /// The Join record that has just come, if one has, has begun no session: the edge has no room (SPEC 22(d)).
    fn refuse_join(&mut self, conn: usize) {
        let state = &mut self.conns[conn];
        let Some(session) = state.session.filter(|_| state.joins) else {
            return;
        };
        state.is_refused = true;
        let entry = &mut self.ledger.sessions[session];
        (entry.has_begun, entry.conn) = (false, None);
        self.ledger.reached("join refused");
    }

    fn draw_entropy(&mut self, conn: usize) {
        let random = self.entropy();
        let state = &mut self.conns[conn];
        let Some(key) = state.key else { return };
        let before = self.edge.counters().resumed;
        self.edge.handle_entropy(time(self.now), key, random);
        if self.edge.counters().resumed == before {
            return;
        }
        let (Some(session), Some(claim)) = (state.session, &state.claim) else {
            let text = format!("connection {conn} resumes without a Claim that opens");
            return self.ledger.fail("S6", "23.2(a)", text);
        };
        let is_owner = state.owner != Owner::Thief;
        let counter = claim.counter;
        let old = self.ledger.sessions[session].conn;
        let accepted = self.ledger.accepted(session, conn, claim, is_owner);
        state.watch.accepted = Some(accepted);
        if self.setup.has_classes {
            state.watch.superseded_before = self.ledger.sessions[session].fates.superseded();
        }
        let owner = state.owner;
        self.ledger.sessions[session].last_from = Some(self.address(owner));
        if let Some(old) = old {
            self.conns[old].watch.is_displaced = true;
        }
        if owner == Owner::Watcher {
            self.ledger.reached("a repeated flight is accepted");
        }
        self.note(|| format!("connection {conn} of {owner:?} resumes with {counter}"));
    }

    /// Ends a connection at the edge.
    pub(super) fn close_at_edge(&mut self, conn: usize, cause: Closed, end: End) {
        let (now, edge_time) = (self.now, time(self.now));
        let state = &mut self.conns[conn];
        let Some(key) = state.key.take() else { return };
        let reason = self.edge.close_reason(key);
        state.watch.has_ended |= reason == Some(CloseReason::SessionEnded);
        state.reason = reason;
        self.turned_away(conn);
        let from = self.address(self.conns[conn].owner);
        let state = &mut self.conns[conn];
        let said = state.watch.closed;
        let is_told = (cause, end) != (Closed::Asked, End::Fin)
            || match reason {
                Some(CloseReason::Replaced) if state.watch.is_displaced => said == Some(402),
                Some(CloseReason::SessionEnded) if state.session.is_some() => said.is_some(),
                _ => true,
            };
        if !is_told {
            let text = format!("connection {conn} ends as {reason:?}, and {said:?} was said");
            self.ledger.fail("V9", "25.4", text);
        }
        let has_closed = self.ledger.has_closed_since(state.opened_at);
        let state = &mut self.conns[conn];
        if let Some(session) = state.session
            && self.ledger.sessions[session].conn == Some(conn)
        {
            if reason == Some(CloseReason::Replaced) {
                let text = format!("connection {conn} is replaced by none");
                self.ledger.fail("V2", "23.2(b)", text);
            }
            let entry = &mut self.ledger.sessions[session];
            entry.conn = None;
            // One that did not leave in time has gone away before its last words.
            entry.left_at = has_closed.or(Some(now));
            entry.left_from = Some(from);
        }
        state.up.discard();
        self.wakes.extend(state.down.end(now, end));
        self.edge.handle_client_closed(edge_time, key, cause);
        self.check_memory();
        self.note(|| format!("connection {conn} ends at the edge: {cause:?}, {reason:?}"));
    }

    /// The network of a connection fails for both ends.
    pub(super) fn reset(&mut self, conn: usize) {
        let state = &mut self.conns[conn];
        for pipe in [&mut state.up, &mut state.down] {
            self.wakes.extend(pipe.end(self.now, End::Rst));
        }
        if state.is_silent || state.loses_reply {
            state.loses_reply = false;
            state.is_silent = false;
            self.close_at_edge(conn, Closed::Error, End::Rst);
            if let Owner::Client(client) = self.conns[conn].owner {
                self.lose_conn(client, conn);
            }
        }
    }
}
