//! The adapter of the shards: their branches to the trunks, and what they hand to each other.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use voltlane_core::ShardId;
use voltlane_core::edge::testkit::Adapter as _;
use voltlane_core::edge::trunk::{Batch, Downward, Upward};
use voltlane_core::edge::{Closed, ConnKey, Departing, Duty, Handover, HasLink as _};

use super::{World, kind, time};
use crate::audited::Audited;
use crate::engine::pipe::End;
use crate::ledgered::Runs as _;
use crate::shards::exchange;

type ShardEnd = exchange::End<Upward, Downward, Batch>;
type TrunkEnd = exchange::End<Downward, Upward, Batch>;

/// Sessions and connections that a shard takes in, in one turn.
const TAKEN_PER_TURN: usize = 4;

/// A shard, its branch, and what others have left for it.
pub(super) struct Shard {
    pub(super) edge: Audited,
    /// Whether it has requested a branch, and the one that it has.
    asks: bool,
    end: Option<ShardEnd>,
    /// The trunk's end, and whether it has closed its direction.
    of_trunk: Option<TrunkEnd>,
    is_ended: bool,
    /// Whether the trunk is to be told that the shard has closed the branch.
    is_closed: bool,
    pub(super) sessions: VecDeque<Departing>,
    pub(super) inbox: VecDeque<(Handover, usize)>,
    /// It gets no turn before this time.
    pub(super) stalls: u64,
}

impl Shard {
    pub(super) fn new(edge: Audited) -> Shard {
        Shard {
            edge,
            asks: false,
            end: None,
            of_trunk: None,
            is_ended: false,
            is_closed: false,
            sessions: VecDeque::new(),
            inbox: VecDeque::new(),
            stalls: 0,
        }
    }
}

fn idle() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

impl World {
    /// Notes which backends are down, as the shard sees it that learns of it last.
    pub(super) fn look_at_links(&mut self) {
        let each = self.setup.each;
        for backend in 0..self.backends.len() {
            let shards = &self.shards[backend * each..][..each];
            let is_up = self.trunks[backend].gauges().link_is_up
                && shards.iter().all(|shard| shard.edge.link_read_budget() > 0);
            let is_known = self.ledger.backends[backend].down_since.is_some();
            if !is_up || is_known {
                self.ledger.look_at_link(backend, is_up);
            }
        }
    }

    pub(super) fn shard_turn(&mut self, shard: usize) -> bool {
        let now = self.now;
        if now < self.shards[shard].stalls {
            return false;
        }
        let edge = &mut self.shards[shard].edge;
        edge.skip_listed();
        let mut moved = edge
            .poll_timeout()
            .is_some_and(|due| due.at.as_nanos() <= now);
        if moved {
            edge.handle_timeout(time(now));
        }
        moved |= self.take_mail(shard);
        moved |= self.shard_uses_branch(shard);
        for conn in self.live.clone() {
            if self.conns[conn].shard == shard {
                moved |= self.serve(conn);
            }
            if self.is_over() {
                return true;
            }
        }
        moved | self.send_sessions(shard)
    }

    /// Takes what other shards have left: sessions before claims of them.
    fn take_mail(&mut self, shard: usize) -> bool {
        let now = time(self.now);
        let mut moved = false;
        for _ in 0..TAKEN_PER_TURN {
            let Some(session) = self.shards[shard].sessions.pop_front() else {
                break;
            };
            self.shards[shard].edge.handle_arriving(now, session);
            self.ledger.reached("session taken in");
            moved = true;
        }
        if !self.shards[shard].sessions.is_empty() {
            return true;
        }
        for _ in 0..TAKEN_PER_TURN {
            let Some((handover, conn)) = self.shards[shard].inbox.pop_front() else {
                break;
            };
            moved = true;
            match self.shards[shard].edge.handle_handover(now, handover) {
                Ok(key) => {
                    (self.conns[conn].key, self.conns[conn].shard) = (Some(key), shard);
                    self.ledger.reached("handed over");
                }
                Err(_) => self.drop_at_edge(conn, End::Rst),
            }
        }
        moved
    }

    /// Leaves sessions that go to other backends for their shards, while there is room.
    fn send_sessions(&mut self, shard: usize) -> bool {
        let now = time(self.now);
        let mut moved = false;
        while let Some(to) = self.shards[shard].edge.departing_to() {
            let to = usize::from(to.as_u8());
            if self.shards[to].sessions.len() >= self.setup.mailbox {
                self.ledger.reached("mailbox full");
                break;
            }
            let Some(session) = self.shards[shard].edge.take_departing(now) else {
                self.ledger.fail("N9", "45.6", "nobody departs".to_owned());
                break;
            };
            self.note(|| format!("a session goes from shard {shard} to shard {to}"));
            self.shards[to].sessions.push_back(session);
            self.moves += 1;
            moved = true;
        }
        moved
    }

    // ---- branches

    fn shard_uses_branch(&mut self, shard: usize) -> bool {
        let now = time(self.now);
        let state = &mut self.shards[shard];
        let mut moved = false;
        if !state.asks && state.end.is_none() && state.edge.link_wants_connect(now) {
            state.asks = true;
            state.edge.handle_link_connecting(now);
            moved = true;
        }
        for _ in 0..TAKEN_PER_TURN {
            let Some(end) = &mut state.end else { break };
            match end.poll_take(&mut idle()) {
                Poll::Pending => break,
                Poll::Ready(Some(input)) => {
                    state.edge.handle_branch_input(now, &input);
                    if let Some(mut batch) = input.into_batch() {
                        batch.clear();
                        end.give_back(batch);
                    }
                }
                Poll::Ready(None) => {
                    state.end = None;
                    state.edge.handle_link_closed(now, Closed::Eof);
                }
            }
            self.steps += 1;
            moved = true;
        }
        while let Some(end) = &mut state.end
            && state.edge.branch_has_output()
            && let Poll::Ready(Ok(())) = end.poll_room(&mut idle())
        {
            let mut spare = end.take_spare().unwrap_or_default();
            if let Some(output) = state.edge.take_branch_output(now, &mut spare) {
                let bytes = output.batch().map_or(0, |batch| batch.bytes().len());
                end.give(output, bytes);
                moved = true;
            }
            end.keep_spare(spare);
        }
        moved
    }

    /// Gives the trunk of a backend its turn at its branches.
    pub(super) fn trunk_turn(&mut self, backend: usize) -> bool {
        let mut moved = self.trunk_uses_link(backend);
        let each = self.setup.each;
        let first = self.rng.below(each as u64) as usize;
        for step in 0..each {
            moved |= self.trunk_uses_branch(backend, (first + step) % each);
        }
        moved
    }

    fn trunk_uses_branch(&mut self, backend: usize, number: usize) -> bool {
        let now = time(self.now);
        let id = ShardId::new(number as u8);
        let trunk = &mut self.trunks[backend];
        let state = &mut self.shards[backend * self.setup.each + number];
        let mut moved = std::mem::take(&mut state.is_closed);
        if moved {
            trunk.handle_branch_closed(now, id);
        }
        if state.of_trunk.is_none() && state.asks && trunk.branch_accepts(id) {
            let (near, far) = exchange::pair();
            (state.of_trunk, state.end, state.asks) = (Some(near), Some(far), false);
            state.is_ended = false;
            trunk.handle_branch_opened(now, id);
            state.edge.handle_link_connected(now);
            moved = true;
        }
        for _ in 0..TAKEN_PER_TURN {
            let Some(end) = state.of_trunk.as_mut().filter(|_| trunk.branch_takes(id)) else {
                break;
            };
            match end.poll_take(&mut idle()) {
                Poll::Pending => {
                    trunk.handle_branch_idle(now, id);
                    break;
                }
                Poll::Ready(Some(input)) => {
                    trunk.handle_branch_input(now, id, input);
                    if let Some(spare) = trunk.take_spare() {
                        end.give_back(spare);
                    }
                }
                Poll::Ready(None) => {
                    state.of_trunk = None;
                    state.is_closed = true;
                }
            }
            moved = true;
        }
        while let Some(end) = &mut state.of_trunk
            && trunk.branch_has_output(id)
            && let Poll::Ready(Ok(())) = end.poll_room(&mut idle())
        {
            let mut spare = end.take_spare().unwrap_or_default();
            if let Some(output) = trunk.take_branch_output(now, id, &mut spare) {
                let bytes = output.batch().map_or(0, |batch| batch.bytes().len());
                end.give(output, bytes);
                moved = true;
            }
            end.keep_spare(spare);
        }
        if let Some(end) = state.of_trunk.as_mut()
            && trunk.branch_wants_close(id)
            && !std::mem::replace(&mut state.is_ended, true)
        {
            end.close();
            moved = true;
        }
        moved
    }

    // ---- connections

    fn serve(&mut self, conn: usize) -> bool {
        let Some(key) = self.conns[conn].key else {
            return false;
        };
        let now = time(self.now);
        let shard = self.conns[conn].shard;
        let edge = &mut self.shards[shard].edge;
        match edge.client_duty(key) {
            Duty::Entropy => {
                let mut random = [0; 32];
                self.rng.fill(&mut random);
                edge.handle_entropy(now, key, random);
                return true;
            }
            Duty::Close(kind) => {
                self.close_at_edge(conn, Closed::Asked, kind.into());
                return true;
            }
            Duty::HandOver(_) => {
                self.hand_over(conn, key);
                return true;
            }
            Duty::Write(_) | Duty::Read(_) | Duty::Rest => {}
        }
        let most = self.chunk().min(self.conns[conn].down.room());
        let bytes = self.shards[shard].edge.client_takes(now, key, most);
        let wrote = !bytes.is_empty();
        if wrote {
            self.steps += 1;
            self.hash.add(self.now, kind::DOWN, conn as u64, &bytes);
            self.conns[conn]
                .down
                .write(self.now, &bytes, &mut self.wakes);
        }
        self.read_up(conn) || wrote
    }

    fn hand_over(&mut self, conn: usize, key: ConnKey) {
        let (now, shard) = (time(self.now), self.conns[conn].shard);
        let Some(handover) = self.shards[shard].edge.take_handover(now, key) else {
            let text = format!("connection {conn} is to be handed over, and is not");
            return self.ledger.fail("N8", "9.9(c)", text);
        };
        let to = usize::from(handover.shard().as_u8());
        self.note(|| format!("shard {shard} hands connection {conn} to shard {to}"));
        let state = &mut self.conns[conn];
        state.key = None;
        state.hand_overs += 1;
        // Its session may have moved meanwhile, and be on its way.
        if state.hand_overs > 2 + self.moves - state.moves_before {
            let text = format!("connection {conn} is handed over again");
            self.ledger.fail("N8", "45.6(f)", text);
        }
        self.shards[to].inbox.push_back((handover, conn));
    }

    fn read_up(&mut self, conn: usize) -> bool {
        let now = self.now;
        let state = &mut self.conns[conn];
        let Some(key) = state.key else { return false };
        state.up.advance(now);
        if state.is_lost || state.up.is_reset(now) {
            self.close_at_edge(conn, Closed::Error, End::Rst);
            return true;
        }
        let shard = state.shard;
        let budget = self.shards[shard].edge.read_budget(key);
        if budget == 0 {
            return false;
        }
        let most = self.chunk().min(budget);
        let state = &mut self.conns[conn];
        if state.up.readable() > 0 {
            let bytes = state.up.read(most);
            self.steps += 1;
            self.hash.add(now, kind::UP, conn as u64, &bytes);
            let edge = &mut self.shards[shard].edge;
            edge.handle_client_bytes(time(now), key, &bytes);
            return true;
        }
        if state.up.ended(now).is_some() {
            self.close_at_edge(conn, Closed::Eof, End::Fin);
            return true;
        }
        false
    }

    /// Ends a connection at its shard.
    pub(super) fn close_at_edge(&mut self, conn: usize, cause: Closed, end: End) {
        let now = time(self.now);
        let state = &mut self.conns[conn];
        let Some(key) = state.key.take() else { return };
        let shard = state.shard;
        if let Some(id) = state.session {
            self.ledger.session(id).left_at = Some(self.now);
        }
        let edge = &mut self.shards[shard].edge;
        edge.handle_client_closed(now, key, cause);
        self.drop_at_edge(conn, end);
    }

    fn drop_at_edge(&mut self, conn: usize, end: End) {
        let now = self.now;
        let state = &mut self.conns[conn];
        state.is_over = true;
        state.up.discard();
        self.wakes.extend(state.down.end(now, end));
    }
}
