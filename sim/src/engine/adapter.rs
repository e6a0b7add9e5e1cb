//! The adapter's part: reads, writes and closes exactly as the contract of the edge machine requires.

use std::hash::{BuildHasher, Hasher};

use foldhash::quality::FixedState;
use voltlane_core::edge::Closed;
use voltlane_core::edge::HasLink;

use super::host::time;
use super::{Event, Lane, LinkConn, Mark, Rng, Work, World, trace};
use crate::audited::AUDITS;
use crate::engine::pipe::{End, Pipe};
use crate::model::{Ended, View};

/// Kinds of events in the trace hash.
mod kind {
    pub(super) const ACCEPTED: u8 = 1;
    pub(super) const CLIENT_BYTES: u8 = 2;
    pub(super) const CLIENT_CLOSED: u8 = 3;
    pub(super) const CLIENT_WRITTEN: u8 = 4;
    pub(super) const LINK_CONNECTED: u8 = 5;
    pub(super) const LINK_CLOSED: u8 = 6;
    pub(super) const LINK_BYTES: u8 = 7;
    pub(super) const LINK_WRITTEN: u8 = 8;
    pub(super) const TIME: u8 = 9;
    pub(super) const LINK_CONNECTING: u8 = 10;
    pub(super) const SHUTDOWN: u8 = 11;
}

/// Returns the first `count` bytes of the two slices that an edge shows.
fn first_bytes(shown: [&[u8]; 2], count: usize) -> Vec<u8> {
    let first = shown[0].len().min(count);
    [&shown[0][..first], &shown[1][..count - first]].concat()
}

/// Describes what a transport did not take.
fn rest_of(bytes: usize) -> String {
    if bytes == 0 {
        String::new()
    } else {
        format!("; {bytes} more bytes wait")
    }
}

/// How many turns in a row, per connection and instant, may move no byte. More means an endless loop.
const IDLE_TURNS: usize = 10_000;

impl World<'_> {
    /// After every call of the edge: compares it with the model, and records whom to serve.
    pub(super) fn finish_step(&mut self) {
        self.steps += 1;
        let most = 4 * self.conns.len() + 64;
        let Some(touched) = self.host.listed(most) else {
            let text = "poll_client does not come to an end".to_string();
            return self.model.fail("A2", "-", text);
        };
        self.check_told(&touched);
        self.model.check(&mut self.host, &touched);
        if AUDITS {
            self.host.edge.audit();
        }
        self.ready.extend(touched.into_iter().map(Work::Serve));
        self.ready.push_back(Work::Link);
    }

    /// Checks that every connection with something to do was named or is waited for. Otherwise it would never be served.
    fn check_told(&mut self, touched: &[u32]) {
        let waits = |conn: &u32| {
            let state = &self.conns[*conn as usize];
            let output = self.host.output(*conn).iter().any(|part| !part.is_empty());
            let told = touched.contains(conn) || self.writing == Some(*conn);
            let told = told || self.ready.contains(&Work::Serve(*conn));
            state.open && !told && (self.host.close(*conn).is_some() || (output && !state.blocked))
        };
        let unserved = self.model.changed().find(waits);
        if let Some(conn) = unserved {
            self.model.fail(
                "A1",
                "-",
                format!("conn {conn} has output or is to be closed, and poll_client is silent"),
            );
        }
    }

    pub(super) fn serve_all(&mut self) {
        let mut idle_turns = 0;
        while let Some(next) = self.ready.pop_front() {
            let moved = self.moved_bytes;
            match next {
                Work::Serve(conn) => self.serve(conn),
                Work::Read(conn) => self.read_client(conn),
                Work::Link => self.serve_link(),
            }
            idle_turns = if self.moved_bytes == moved {
                idle_turns + 1
            } else {
                0
            };
            if idle_turns > IDLE_TURNS * (1 + self.conns.len()) {
                self.model
                    .fail("A2", "-", "serving does not come to an end".to_string());
            }
            if self.is_over() {
                return;
            }
        }
    }

    pub(super) fn hash_shutdown(&mut self, within: u64) {
        self.hash
            .add(self.now, kind::SHUTDOWN, 0, &within.to_le_bytes());
    }

    pub(super) fn tell_time(&mut self) {
        let now = self.now;
        self.hash.add(now, kind::TIME, 0, &[]);
        let reason = self.host.edge.poll_timeout();
        self.note(Lane::Edge, Lane::Edge, Mark::Time, || {
            reason.map_or("the time".to_string(), |due| {
                format!("{:?} is due", due.reason)
            })
        });
        self.model.time(now);
        self.host.edge.handle_timeout(time(now));
        self.finish_step();
    }

    /// Checks that, after everything due at an instant was served, nothing asks for the same instant again.
    pub(super) fn check_served(&mut self) {
        let now = self.now;
        if let Some(due) = self
            .host
            .edge
            .poll_timeout()
            .filter(|due| due.at.as_nanos() <= now)
        {
            self.model.fail(
                "T5",
                "11",
                format!("told the time {now}, the edge asks for {due:?} again"),
            );
        }
    }

    pub(super) fn accept(&mut self, conn: u32) {
        let now = self.now;
        self.hash.add(now, kind::ACCEPTED, conn.into(), &[]);
        let source = self.seen_address(conn);
        let expected = self.model.accepted(now, conn, source);
        let lane = self.lane(conn);
        self.note(lane, Lane::Edge, Mark::Connection, || {
            format!("connection {conn}")
        });
        match (expected, self.host.edge.handle_accepted(time(now), source)) {
            (Ok(()), Ok(key)) => {
                self.host.insert(conn, key);
                self.conns[conn as usize].open = true;
                self.finish_step();
                self.ready.push_back(Work::Serve(conn));
            }
            (Err(_), Err(_)) => {
                self.finish_step();
                self.edge_end_closed(conn, End::Fin);
            }
            (Ok(()), Err(rejected)) => self.model.fail(
                "S15",
                "10.6(a)",
                format!("conn {conn} is rejected: {rejected}"),
            ),
            (Err(why), Ok(_)) => self.model.fail(
                "S16",
                "10.6(a)",
                format!("conn {conn} is accepted, and must not be: {why}"),
            ),
        }
    }

    /// Returns a fingerprint of everything observable of all sessions, if `conn` has none of them, preceded by how often such a connection
    /// had a right to change that.
    fn bystanders(&self, conn: u32) -> Option<(u64, u64)> {
        if self.model.is_attached(conn) || self.plan.options.max_memory_bytes > 0 {
            return None;
        }
        let mut hasher = FixedState::default().build_hasher();
        self.host.edge.hash_sessions(time(self.now), &mut hasher);
        Some((self.model.rightful_changes(), hasher.finish()))
    }

    /// Checks that nothing a connection without a session did has changed any session, bit for bit.
    fn check_bystanders(&mut self, conn: u32, before: Option<(u64, u64)>) {
        let Some((before, after)) = before.zip(self.bystanders(conn)) else {
            return;
        };
        if after.0 == before.0 && after.1 != before.1 {
            let text = format!("conn {conn} has no session, and one has changed");
            self.model.fail("S7", "5.4(a)", text);
        }
    }

    fn serve(&mut self, conn: u32) {
        let place = conn as usize;
        if !self.conns[place].open {
            return;
        }
        if let Some(abrupt) = self.host.close(conn) {
            return self.close_conn(conn, abrupt);
        }
        if self.write_client(conn) || self.is_over() {
            // Something was written, so the edge has changed: look at this connection again.
            return self.ready.push_back(Work::Serve(conn));
        }
        self.read_client(conn);
    }

    /// Writes to a client. Returns true when bytes were written.
    fn write_client(&mut self, conn: u32) -> bool {
        let (now, place) = (self.now, conn as usize);
        let chunk = self.plan.options.write_chunk as usize;
        let state = &mut self.conns[place];
        let output = self.host.output(conn);
        let waiting = output[0].len() + output[1].len();
        if waiting == 0 || state.blocked {
            return false;
        }
        let most = if chunk == 0 { usize::MAX } else { chunk };
        let count = waiting.min(state.down.room()).min(most);
        if count == 0 {
            state.blocked = true;
            return false;
        }
        let bytes = first_bytes(output, count);
        let mut arrivals = Vec::new();
        state.down.write(now, &bytes, &mut arrivals);
        // The transport takes some bytes now and the rest a little later. Nobody must be able to see the state in between.
        if count < waiting && chunk > 0 && state.rng.chance(30) {
            state.blocked = true;
            let later = now + state.rng.below(3_000_000);
            self.at(later, Event::Writable(conn));
        }
        for at in arrivals {
            self.at(at, Event::ToClient(conn));
        }
        self.hash
            .add(now, kind::CLIENT_WRITTEN, conn.into(), &bytes);
        let lane = self.lane(conn);
        self.note(Lane::Edge, lane, Mark::Packet, || {
            let words = trace::client_bytes(&bytes);
            format!("{conn}: {words}{}", rest_of(waiting - count))
        });
        self.moved_bytes += bytes.len();
        self.model.client_written(now, conn, &bytes);
        if let Some(key) = self.host.key(conn) {
            self.host.edge.handle_client_written(time(now), key, count);
        }
        self.writing = Some(conn);
        self.finish_step();
        self.writing = None;
        true
    }

    fn read_client(&mut self, conn: u32) {
        let (now, place) = (self.now, conn as usize);
        let state = &mut self.conns[place];
        state.up.advance(now);
        if state.up.is_reset(now) {
            return self.conn_closed(conn, Closed::Error);
        }
        let Some(key) = self.host.key(conn) else {
            return;
        };
        let budget = self.host.edge.read_budget(key);
        if budget == 0 {
            return;
        }
        if state.up.readable() > 0 {
            let chunk = self.plan.options.read_chunk as usize;
            let bytes = state.up.read(if chunk == 0 {
                budget
            } else {
                budget.min(chunk)
            });
            self.hash.add(now, kind::CLIENT_BYTES, conn.into(), &bytes);
            let lane = self.lane(conn);
            self.note(lane, Lane::Edge, Mark::Packet, || {
                format!("{conn}: {}", trace::client_bytes(&bytes))
            });
            self.moved_bytes += bytes.len();
            let before = self.bystanders(conn);
            self.model.client_bytes(now, conn, &bytes);
            self.host.edge.handle_client_bytes(time(now), key, &bytes);
            self.finish_step();
            self.check_bystanders(conn, before);
            self.pump(conn);
            self.ready.push_back(Work::Read(conn));
        } else if state.up.ended(now) == Some(End::Fin) {
            self.conn_closed(conn, Closed::Eof);
        }
    }

    /// Handles a connection whose transport has ended by itself.
    pub(super) fn conn_closed(&mut self, conn: u32, cause: Closed) {
        let now = self.now;
        let Some(key) = self
            .host
            .key(conn)
            .filter(|_| self.conns[conn as usize].open)
        else {
            return;
        };
        self.conns[conn as usize].open = false;
        self.hash.add(
            now,
            kind::CLIENT_CLOSED,
            conn.into(),
            &[u8::from(cause == Closed::Eof)],
        );
        let lane = self.lane(conn);
        self.note(lane, Lane::Edge, Mark::Connection, || {
            format!("connection {conn} ends: {cause:?}")
        });
        let before = self.bystanders(conn);
        self.model.client_closed(now, conn, Ended::ByPeer);
        self.host.edge.handle_client_closed(time(now), key, cause);
        self.host.remove(conn);
        self.finish_step();
        self.check_bystanders(conn, before);
        self.edge_end_closed(conn, End::Fin);
    }

    fn close_conn(&mut self, conn: u32, abrupt: bool) {
        let now = self.now;
        let Some(key) = self.host.key(conn) else {
            return;
        };
        self.conns[conn as usize].open = false;
        self.hash.add(
            now,
            kind::CLIENT_CLOSED,
            conn.into(),
            &[2 + u8::from(abrupt)],
        );
        let lane = self.lane(conn);
        self.note(Lane::Edge, lane, Mark::Connection, || {
            format!(
                "closes connection {conn}{}",
                if abrupt { " abruptly" } else { "" }
            )
        });
        let before = self.bystanders(conn);
        self.model.client_closed(now, conn, Ended::ByEdge);
        self.host
            .edge
            .handle_client_closed(time(now), key, Closed::Asked);
        self.host.remove(conn);
        self.finish_step();
        self.check_bystanders(conn, before);
        self.edge_end_closed(conn, if abrupt { End::Rst } else { End::Fin });
    }

    fn edge_end_closed(&mut self, conn: u32, end: End) {
        let now = self.now;
        let state = &mut self.conns[conn as usize];
        state.up.discard();
        if let Some(at) = state.down.end(now, end) {
            self.at(at, Event::ToClient(conn));
        }
    }

    // The link.

    pub(super) fn look_at_link(&mut self) {
        let now = self.now;
        if self.link.is_some() || self.dialing || !self.host.edge.link_wants_connect(time(now)) {
            return;
        }
        self.dialing = true;
        self.generation += 1;
        self.hash
            .add(now, kind::LINK_CONNECTING, self.generation.into(), &[]);
        self.host.edge.handle_link_connecting(time(now));
        self.finish_step();
        let delay = self.rng.below(self.plan.options.delay_max_us * 1_000 + 1);
        self.at(now + delay, Event::LinkDialed(self.generation));
    }

    pub(super) fn link_dialed(&mut self, generation: u32) {
        let (now, options) = (self.now, &self.plan.options);
        self.dialing = false;
        if self.backend.refuses {
            self.note(Lane::Backend, Lane::Edge, Mark::Connection, || {
                "refuses".to_string()
            });
            return self.link_lost(Closed::Error);
        }
        let pipe = |name| {
            let rng = Rng::fork(options.seed, name, generation.into());
            Pipe::new(options.link_socket_bytes, options.delay_max_us, rng)
        };
        let (up, down) = (pipe("link-up"), pipe("link-down"));
        self.link = Some(LinkConn {
            generation,
            up,
            down,
            blocked: false,
            silent: false,
        });
        self.backend.connected();
        self.hash
            .add(now, kind::LINK_CONNECTED, generation.into(), &[]);
        self.note(Lane::Edge, Lane::Backend, Mark::Connection, || {
            format!("link {generation} is up")
        });
        self.model.link_connected(now);
        self.host.edge.handle_link_connected(time(now));
        self.finish_step();
    }

    fn serve_link(&mut self) {
        self.look_at_link();
        let (now, chunk) = (self.now, self.plan.options.read_chunk as usize);
        if self.link.is_some() && self.host.edge.link_wants_close() {
            return self.drop_link_from_edge();
        }
        if self.write_link() {
            return;
        }
        let Some(link) = &mut self.link else { return };
        link.down.advance(now);
        if link.down.is_reset(now) {
            return self.link_lost(Closed::Error);
        }
        let budget = self.host.edge.link_read_budget();
        if budget > 0 && link.down.readable() > 0 {
            let bytes = link.down.read(if chunk == 0 {
                budget
            } else {
                budget.min(chunk * 8)
            });
            self.hash.add(now, kind::LINK_BYTES, 0, &bytes);
            self.note(Lane::Backend, Lane::Edge, Mark::Packet, || {
                trace::link_bytes(&bytes)
            });
            self.moved_bytes += bytes.len();
            self.model.link_bytes(now, &bytes);
            self.host.edge.handle_link_bytes(time(now), &bytes);
            self.finish_step();
            self.pump_backend();
        } else if link.down.ended(now) == Some(End::Fin) {
            self.link_lost(Closed::Eof);
        }
    }

    /// Writes to the link. Returns true when bytes were written.
    fn write_link(&mut self) -> bool {
        let (now, chunk) = (self.now, self.plan.options.write_chunk as usize);
        let Some(link) = self.link.as_mut().filter(|link| !link.blocked) else {
            return false;
        };
        let output = self.host.edge.link_output();
        let waiting = output[0].len() + output[1].len();
        if waiting == 0 {
            return false;
        }
        let count =
            waiting
                .min(link.up.room())
                .min(if chunk == 0 { usize::MAX } else { chunk * 8 });
        if count == 0 {
            link.blocked = true;
            return false;
        }
        let bytes = first_bytes(output, count);
        let mut arrivals = Vec::new();
        link.up.write(now, &bytes, &mut arrivals);
        let generation = link.generation;
        for at in arrivals {
            self.at(at, Event::LinkToBackend(generation));
        }
        self.hash.add(now, kind::LINK_WRITTEN, 0, &bytes);
        self.note(Lane::Edge, Lane::Backend, Mark::Packet, || {
            trace::link_bytes(&bytes) + &rest_of(waiting - count)
        });
        self.moved_bytes += bytes.len();
        self.model.link_written(now, &bytes);
        self.host.edge.handle_link_written(time(now), count);
        self.finish_step();
        true
    }

    fn drop_link_from_edge(&mut self) {
        self.note(Lane::Edge, Lane::Backend, Mark::Connection, || {
            "resets the link".to_string()
        });
        self.link_lost(Closed::Asked);
    }

    /// Handles the end of the link, or of an attempt to connect it.
    pub(super) fn link_lost(&mut self, cause: Closed) {
        let now = self.now;
        if self.link.take().is_some() {
            self.note(Lane::Edge, Lane::Backend, Mark::Connection, || {
                format!("the link is lost: {cause:?}")
            });
            self.backend.disconnected();
        }
        self.hash
            .add(now, kind::LINK_CLOSED, 0, &[u8::from(cause == Closed::Eof)]);
        self.model.link_closed(now);
        self.host.edge.handle_link_closed(time(now), cause);
        self.finish_step();
    }
}
