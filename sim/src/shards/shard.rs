//! The adapter of one shard: its connections, its branch, and what other shards hand to it.

use std::collections::VecDeque;

use voltlane_core::edge::testkit::Adapter;
use voltlane_core::edge::{CloseKind, Closed, ConnKey, Edge, Gauges, Handover};

use super::branch::Branch;
use super::stream::End;
use super::threads::Bell;
use super::{World, kind, time};
use crate::audited::AUDITS;

/// A shard, with the state that its adapter keeps.
pub(super) struct Shard {
    pub(super) edge: Edge,
    /// Its open connections, by the simulator's numbers.
    pub(super) conns: Vec<u32>,
    /// The number of the connection whose key has this index.
    numbers: Vec<Option<(ConnKey, u32)>>,
    /// Connections that were not accepted yet, and those handed over by other shards.
    pub(super) backlog: VecDeque<u32>,
    pub(super) inbox: VecDeque<(Handover, u32)>,
    /// Whether it has requested its stream to the trunk.
    pub(super) asking: bool,
    /// Where the trunk left it a branch, and wakes of the branch.
    pub(super) offered: Option<Branch>,
    pub(super) branch: Option<Branch>,
    pub(super) bell: Bell,
    /// It gets no turn before this time.
    pub(super) paused_until: u64,
    pub(super) finished: bool,
}

impl Shard {
    pub(super) fn new(edge: Edge) -> Shard {
        Shard {
            edge,
            conns: Vec::new(),
            numbers: Vec::new(),
            backlog: VecDeque::new(),
            inbox: VecDeque::new(),
            asking: false,
            offered: None,
            branch: None,
            bell: Bell::default(),
            paused_until: 0,
            finished: false,
        }
    }

    pub(super) fn wants_turn_at(&self) -> Option<u64> {
        if self.finished {
            return None;
        }
        let due = self.edge.poll_timeout().map(|due| due.at.as_nanos());
        due.map(|due| due.max(self.paused_until))
            .or(Some(self.paused_until))
    }

    fn insert(&mut self, conn: u32, key: ConnKey) {
        self.conns.push(conn);
        let index = key.index();
        self.numbers
            .resize((index + 1).max(self.numbers.len()), None);
        self.numbers[index] = Some((key, conn));
    }

    fn remove(&mut self, conn: u32, key: ConnKey) {
        self.conns.retain(|&other| other != conn);
        self.numbers[key.index()] = None;
    }

    fn number(&self, key: ConnKey) -> Option<u32> {
        let (known, conn) = self.numbers.get(key.index()).copied().flatten()?;
        (known == key).then_some(conn)
    }
}

impl World {
    pub(super) fn shard_turn(&mut self, shard: usize) -> bool {
        if self.shards[shard].finished || self.now < self.shards[shard].paused_until {
            return false;
        }
        let due = self.shards[shard].edge.poll_timeout();
        let mut moved = due.is_some_and(|due| due.at.as_nanos() <= self.now);
        if moved {
            self.hash.add(self.now, kind::TIME, shard as u64, &[]);
            self.shards[shard].edge.handle_timeout(time(self.now));
            self.after_edge(shard);
        }
        moved |= self.accept(shard);
        moved |= self.take_in(shard);
        moved |= self.serve_branch(shard);
        let conns = self.shards[shard].conns.clone();
        let first = self.rng.below(conns.len().max(1) as u64) as usize;
        let (before, after) = conns.split_at(first.min(conns.len()));
        for &conn in after.iter().chain(before) {
            moved |= self.serve_conn(shard, conn);
            if self.is_over() {
                return true;
            }
        }
        if self.shards[shard].edge.is_finished() {
            self.finish_shard(shard);
            moved = true;
        }
        moved
    }

    /// Handles what follows from a call of an edge: whom to serve, and what it reports about them.
    pub(super) fn after_edge(&mut self, shard: usize) {
        self.steps += 1;
        if AUDITS {
            self.shards[shard].edge.audit();
        }
        let keys: Vec<ConnKey> = self.shards[shard].edge.listed().collect();
        let numbered = |key| Some((self.shards[shard].number(key)?, key));
        let touched: Vec<_> = keys.into_iter().filter_map(numbered).collect();
        for &(conn, key) in &touched {
            self.conns[conn as usize].told = true;
            if self.shards[shard].edge.client_close(key).is_some() {
                self.ledger.connection_over(conn);
            }
        }
        for (conn, key) in touched {
            let [control, _] = self.shards[shard].edge.client_output(key);
            self.ledger.look_whether_established(shard, conn, control);
        }
    }

    fn accept(&mut self, shard: usize) -> bool {
        let Some(conn) = self.shards[shard].backlog.pop_front() else {
            return false;
        };
        let source = self.conns[conn as usize].source;
        let counted = self.ledger.sources.get(&source).copied().unwrap_or(0);
        let most = self.setup.config.limits.sources.connections;
        let now = time(self.now);
        let accepted = self.shards[shard]
            .edge
            .handle_accepted(now, address(source));
        let outcome = accepted.as_ref().map(|_| ()).map_err(|rejected| *rejected);
        self.note(|| format!("shard {shard}: connection {conn}: {outcome:?}"));
        self.hash.add(
            self.now,
            kind::ACCEPTED,
            conn.into(),
            &[shard as u8, u8::from(accepted.is_ok())],
        );
        self.ledger.check_source(counted, most, outcome);
        match accepted {
            Ok(key) => {
                *self.ledger.sources.entry(source).or_default() += 1;
                self.conns[conn as usize].key = Some(key);
                self.shards[shard].insert(conn, key);
            }
            Err(_) => self.drop_stream(conn, End::Rst),
        }
        self.after_edge(shard);
        true
    }

    /// Takes connections handed over by other shards.
    fn take_in(&mut self, shard: usize) -> bool {
        let Some((handover, conn)) = self.shards[shard].inbox.pop_front() else {
            return false;
        };
        let now = time(self.now);
        let taken = self.shards[shard].edge.handle_handover(now, handover);
        self.note(|| format!("shard {shard} takes in connection {conn}: {taken:?}"));
        let ok = u8::from(taken.is_ok());
        self.hash
            .add(self.now, kind::HANDED_OVER, conn.into(), &[1, ok]);
        match taken {
            Ok(key) => {
                self.conns[conn as usize].key = Some(key);
                self.shards[shard].insert(conn, key);
                self.ledger.reached("handed over");
            }
            Err(_) => {
                self.ledger.reached("hand-over refused");
                self.release_source(conn);
                self.drop_stream(conn, End::Rst);
            }
        }
        self.after_edge(shard);
        true
    }

    fn hand_over(&mut self, shard: usize, conn: u32, key: ConnKey) {
        let now = time(self.now);
        let Some(handover) = self.shards[shard].edge.take_handover(now, key) else {
            let text = format!("connection {conn} is to be handed over, and is not");
            return self.ledger.fail("S16", "9.9(c)", text);
        };
        let to = usize::from(handover.shard().as_u8());
        self.note(|| format!("shard {shard} hands connection {conn} to shard {to}"));
        self.hash
            .add(self.now, kind::HANDED_OVER, conn.into(), &[0, to as u8]);
        self.shards[shard].remove(conn, key);
        self.conns[conn as usize].key = None;
        self.conns[conn as usize].told = false;
        self.conns[conn as usize].hand_overs += 1;
        if self.conns[conn as usize].hand_overs > 1 {
            let text = format!("connection {conn} is handed over again");
            self.ledger.fail("S15", "9.9(c)", text);
        }
        if self.shards[to].finished {
            self.shards[shard].edge.discard_handover(now, handover);
            self.release_source(conn);
            self.drop_stream(conn, End::Rst);
        } else {
            self.shards[to].inbox.push_back((handover, conn));
        }
        self.after_edge(shard);
    }

    fn serve_conn(&mut self, shard: usize, conn: u32) -> bool {
        let Some(key) = self.conns[conn as usize].key else {
            return false;
        };
        let state = &mut self.conns[conn as usize];
        if state.blocked && state.down.room() > 0 {
            state.blocked = false;
            state.told = true;
        }
        if state.told && self.shards[shard].edge.client_handover(key).is_some() {
            self.hand_over(shard, conn, key);
            return true;
        }
        if state.told
            && let Some(how) = self.shards[shard].edge.client_close(key)
        {
            let end = match how {
                CloseKind::Graceful => End::Fin,
                CloseKind::Abort => End::Rst,
            };
            self.close(shard, conn, key, Closed::Asked, end);
            return true;
        }
        let wrote = state.told && self.write_conn(shard, conn, key);
        self.read_conn(shard, conn, key) || wrote
    }

    /// Writes to a connection. Returns true when bytes were written.
    fn write_conn(&mut self, shard: usize, conn: u32, key: ConnKey) -> bool {
        let most = self.draw_chunk();
        let state = &mut self.conns[conn as usize];
        let output = self.shards[shard].edge.client_output(key).concat();
        let count = output.len().min(state.down.room()).min(most);
        if count == 0 {
            state.blocked = !output.is_empty();
            state.told = false;
            return false;
        }
        let bytes = &output[..count];
        state.down.write(bytes);
        state.told = count < output.len();
        self.hash
            .add(self.now, kind::CLIENT_WRITTEN, conn.into(), bytes);
        self.ledger.client_took(conn, bytes);
        let now = time(self.now);
        self.shards[shard]
            .edge
            .handle_client_written(now, key, count);
        self.after_edge(shard);
        true
    }

    fn read_conn(&mut self, shard: usize, conn: u32, key: ConnKey) -> bool {
        let Some(state) = self
            .conns
            .get_mut(conn as usize)
            .filter(|c| c.key == Some(key))
        else {
            return false;
        };
        if state.up.is_reset() {
            self.close(shard, conn, key, Closed::Error, End::Rst);
            return true;
        }
        let budget = self.shards[shard].edge.read_budget(key);
        if budget == 0 || state.silent {
            return false;
        }
        if state.up.readable() > 0 {
            let most = self.draw_chunk().min(budget);
            let bytes = self.conns[conn as usize].up.read(most);
            self.hash
                .add(self.now, kind::CLIENT_BYTES, conn.into(), &bytes);
            self.ledger.brought(conn, &bytes);
            let now = time(self.now);
            self.shards[shard]
                .edge
                .handle_client_bytes(now, key, &bytes);
            self.after_edge(shard);
            return true;
        }
        if state.up.ended().is_some() {
            self.close(shard, conn, key, Closed::Eof, End::Fin);
            return true;
        }
        false
    }

    /// Handles that a connection ended, or that its edge ends it.
    fn close(&mut self, shard: usize, conn: u32, key: ConnKey, cause: Closed, end: End) {
        self.note(|| format!("shard {shard}: connection {conn} ends: {cause:?}"));
        self.hash
            .add(self.now, kind::CLIENT_CLOSED, conn.into(), &[end as u8]);
        self.ledger.connection_over(conn);
        let now = time(self.now);
        self.shards[shard]
            .edge
            .handle_client_closed(now, key, cause);
        self.shards[shard].remove(conn, key);
        self.conns[conn as usize].key = None;
        self.release_source(conn);
        self.drop_stream(conn, end);
        self.after_edge(shard);
    }

    /// Closes the edge's end of a connection.
    fn drop_stream(&mut self, conn: u32, end: End) {
        let state = &mut self.conns[conn as usize];
        state.up.discard();
        state.down.end(end);
    }

    fn release_source(&mut self, conn: u32) {
        let source = self.conns[conn as usize].source;
        if let Some(count) = self.ledger.sources.get_mut(&source) {
            *count -= 1;
        }
    }

    /// Completes a shutdown of this shard.
    fn finish_shard(&mut self, shard: usize) {
        self.note(|| format!("shard {shard} has ended"));
        for conn in self.shards[shard].conns.clone() {
            if let Some(key) = self.conns[conn as usize].key {
                self.close(shard, conn, key, Closed::Asked, End::Fin);
            }
        }
        let now = time(self.now);
        while let Some((handover, conn)) = self.shards[shard].inbox.pop_front() {
            self.shards[shard].edge.discard_handover(now, handover);
            self.release_source(conn);
            self.drop_stream(conn, End::Rst);
        }
        while let Some(conn) = self.shards[shard].backlog.pop_front() {
            self.drop_stream(conn, End::Rst);
        }
        // What it handed up can still be taken.
        self.shards[shard].branch = None;
        self.shards[shard].offered = None;
        self.shards[shard].finished = true;
        self.link.branches[shard].ring();
        self.ledger.living -= 1;
    }

    /// Returns how much one read or write moves at most this time.
    pub(super) fn draw_chunk(&mut self) -> usize {
        let chunk = self.setup.chunk;
        if self.rng.chance(50) {
            chunk
        } else {
            1 + self.rng.below(chunk as u64) as usize
        }
    }

    /// Checks that the edges' gauges match what is there.
    pub(super) fn check_counts(&mut self) {
        for (number, shard) in self.shards.iter().enumerate() {
            let gauges = shard.edge.gauges();
            let half_open = shard.conns.iter().filter(|&&conn| {
                let watch = &self.ledger.watches[conn as usize];
                !watch.established && !watch.closing
            });
            let (conns, half_open) = (shard.conns.len(), half_open.count());
            if (gauges.connections, gauges.half_open) != (conns, half_open) {
                let text = format!(
                    "shard {number} has {conns} connections, {half_open} half-open, and counts {gauges:?}"
                );
                return self.ledger.fail("H2", "10.6(c)", text);
            }
        }
        self.check_shared_bounds();
        self.check_trunk_bounds();
    }

    /// Checks that bounds on all clients together hold for all shards together.
    fn check_shared_bounds(&mut self) {
        let (config, shards) = (&self.setup.config, self.shards.len());
        // Each shard has half of its equal part, rounded up.
        let bound = |whole: usize| whole.max(whole.div_ceil(2 * shards).saturating_mul(shards));
        let sum = |of: fn(&Gauges) -> usize| {
            let shards = self.shards.iter().map(|shard| shard.edge.gauges());
            shards.map(|gauges| of(&gauges)).sum::<usize>()
        };
        let places = config.limits.max_half_open;
        let checks = [
            (
                "half-open connections",
                "10.6(c)",
                if places == 0 { usize::MAX } else { places },
                sum(|gauges| gauges.half_open),
            ),
            (
                "sessions away",
                "9.7(b)",
                config.clients.max_stale_clients,
                sum(|gauges| gauges.away),
            ),
        ];
        for (what, section, whole, there) in checks {
            if there > bound(whole) {
                let text = format!("{there} {what}, {whole} for {shards} shards");
                return self.ledger.fail("B7", section, text);
            }
        }
    }
}

/// Returns the address of a source.
pub(super) fn address(source: u64) -> std::net::IpAddr {
    std::net::IpAddr::V4(std::net::Ipv4Addr::from(0x0a00_0000 + source as u32))
}
