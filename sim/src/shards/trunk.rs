//! The adapter of the trunk, and the backend at the other end of its link.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use voltlane_core::ShardId;
use voltlane_core::edge::Closed;
use voltlane_core::edge::HasLink;
use voltlane_core::edge::trunk::BATCH_BYTES;

use super::branch::{Branch, TrunkEnd};
use super::exchange;
use super::stream::{End, Stream, take};
use super::threads::Bell;
use super::{World, kind, time};
use crate::codec::{self, TAG_BYTES, Tagged};

/// The maximum number of bytes that the trunk holds for the backend and for a shard, and those of one read.
const LINK_BYTES: usize = 256 * 1024;
const BRANCH_BYTES: usize = 1 << 20;
const READ_BYTES: usize = 64 * 1024;

/// The trunk's side of one shard, with the state that the shipped adapter keeps (`driver/src/trunk.rs`).
#[derive(Default)]
pub(super) struct Side {
    end: Option<TrunkEnd>,
    /// The link that the branch is of.
    generation: u32,
    bell: Bell,
    /// Whether the trunk has closed its direction.
    ended: bool,
    /// Whether something may be taken, and whether there may be room. If not, it waits for a wake.
    takes: bool,
    gives: bool,
    /// Whether the shard has closed its branch, and the machine is to be told.
    closed: bool,
    gone: bool,
}

impl Side {
    /// Wakes the trunk for this shard.
    pub(super) fn ring(&self) {
        self.bell.ring();
    }
}

/// The trunk's end of the link, and of the branches.
#[derive(Default)]
pub(super) struct Link {
    pub(super) branches: Vec<Side>,
    /// Bytes that came from branches of a lost link, since less than the bound waited for the backend.
    kept: usize,
    /// The streams up and down.
    pub(super) streams: Option<(Stream, Stream)>,
    dialing: bool,
    pub(super) dial_at: u64,
    pub(super) paused_until: u64,
    /// The shard that is served first in the next turn.
    first: usize,
    pub(super) finished: bool,
    /// Its transport takes nothing before this time.
    pub(super) full_until: u64,
}

impl Link {
    pub(super) fn new(shards: usize) -> Link {
        Link {
            branches: (0..shards).map(|_| Side::default()).collect(),
            ..Link::default()
        }
    }
}

/// The backend.
#[derive(Default)]
pub(super) struct Backend {
    outbox: VecDeque<u8>,
    /// Whether nothing that it sends on this link has a meaning any more.
    broken: bool,
    pub(super) refuses_until: u64,
    /// It does not read before this time.
    pub(super) stalled_until: u64,
    /// When it drops the link.
    drops_at: Option<u64>,
}

impl World {
    pub(super) fn trunk_turn(&mut self) -> bool {
        if self.link.finished || self.now < self.link.paused_until {
            return false;
        }
        let due = self.machine.poll_timeout();
        let mut moved = false;
        if due.is_some_and(|due| due.at.as_nanos() <= self.now) {
            self.machine.handle_timeout(time(self.now));
            // A pause that is over stays over until the trunk dials.
            moved = !self.machine.link_wants_connect(time(self.now));
        }
        moved |= self.keep_link();
        moved |= self.read_link();
        let shards = self.shards.len();
        self.link.first = (self.link.first + 1) % shards;
        for step in 0..shards {
            moved |= self.serve_shard((self.link.first + step) % shards);
        }
        moved |= self.write_link();
        if self.machine.is_finished() && !self.link.finished {
            self.note(|| "the trunk has ended".to_string());
            self.link.finished = true;
            moved = true;
        }
        moved
    }

    fn keep_link(&mut self) -> bool {
        let now = time(self.now);
        if self.link.streams.is_some() && self.machine.link_wants_close() {
            self.link_lost(Closed::Asked);
            return true;
        }
        if self.link.dialing {
            if self.now < self.link.dial_at {
                return false;
            }
            self.link.dialing = false;
            if self.now < self.backend.refuses_until {
                self.hash.add(self.now, kind::LINK_STATE, 0, &[]);
                self.machine.handle_link_closed(now, Closed::Error);
                return true;
            }
            let stream = || Stream::new(self.setup.link_stream);
            self.link.streams = Some((stream(), stream()));
            self.backend.outbox.clear();
            self.backend.broken = false;
            self.ledger.link_up();
            self.hash.add(self.now, kind::LINK_STATE, 1, &[]);
            let generation = self.ledger.generation;
            self.note(|| format!("link {generation} is up"));
            self.machine.handle_link_connected(now);
            self.greet();
            return true;
        }
        if self.link.streams.is_none() && self.machine.link_wants_connect(now) {
            self.link.dialing = true;
            self.link.dial_at = self.now + self.rng.below(2_000_000);
            self.machine.handle_link_connecting(now);
            return true;
        }
        false
    }

    /// What the backend does with a new link: it continues where it was, or drops it while packets are being sent.
    fn greet(&mut self) {
        if self.closing.is_none() {
            let soon = self.now + self.rng.below(8 * self.setup.round_nanos);
            if self.rng.chance(20) {
                self.backend.drops_at = Some(soon);
                self.link.full_until = if self.rng.chance(50) { soon } else { 0 };
            }
            if self.rng.chance(70) {
                self.backend_bursts();
            }
        }
    }

    fn link_lost(&mut self, cause: Closed) {
        self.note(|| format!("the link is lost: {cause:?}"));
        self.hash.add(self.now, kind::LINK_STATE, 2, &[]);
        self.link.streams = None;
        self.backend.drops_at = None;
        self.link.full_until = 0;
        if self.closing.is_none() && self.rng.chance(25) {
            // One shard learns of it late, and the next link may be up before.
            let shard = self.rng.below(self.shards.len() as u64) as usize;
            self.shards[shard].paused_until = self.now + self.rng.below(400_000_000);
        }
        self.backend.outbox.clear();
        self.ledger.link_down();
        self.machine.handle_link_closed(time(self.now), cause);
    }

    fn read_link(&mut self) -> bool {
        let most = self.draw_chunk();
        let Some((_, down)) = &mut self.link.streams else {
            return false;
        };
        if down.is_reset() {
            self.link_lost(Closed::Error);
            return true;
        }
        let budget = self.machine.link_read_budget();
        if budget == 0 {
            return false;
        }
        if down.readable() > 0 {
            let bytes = down.read(most.min(budget));
            self.hash.add(self.now, kind::LINK_BYTES, 0, &bytes);
            self.ledger.trunk_took(&bytes);
            self.machine.handle_link_bytes(time(self.now), &bytes);
            self.steps += 1;
            return true;
        }
        if down.ended().is_some() {
            self.link_lost(Closed::Eof);
            return true;
        }
        false
    }

    fn write_link(&mut self) -> bool {
        let most = self.draw_chunk();
        let Some((up, _)) = &mut self.link.streams else {
            return false;
        };
        if self.now < self.link.full_until {
            return false;
        }
        let output = self.machine.link_output().concat();
        let count = output.len().min(up.room()).min(most);
        if count == 0 {
            return false;
        }
        let bytes = &output[..count];
        up.write(bytes);
        self.hash.add(self.now, kind::LINK_WRITTEN, 0, bytes);
        self.ledger.backend_took(bytes);
        self.machine.handle_link_written(time(self.now), count);
        self.steps += 1;
        true
    }

    fn serve_shard(&mut self, shard: usize) -> bool {
        let id = ShardId::new(shard as u8);
        let now = time(self.now);
        let branch = &mut self.link.branches[shard];
        if branch.bell.answer() {
            (branch.takes, branch.gives) = (true, true);
        }
        let mut moved = std::mem::take(&mut branch.closed);
        if moved {
            self.machine.handle_branch_closed(now, id);
        }
        moved |= self.open_branch(shard);
        moved |= self.take_from(shard);
        moved | self.hand_down(shard)
    }

    /// Leaves the shard a branch if it asks for one, and notices its end.
    fn open_branch(&mut self, shard: usize) -> bool {
        let (id, now) = (ShardId::new(shard as u8), time(self.now));
        let (branch, state) = (&mut self.link.branches[shard], &mut self.shards[shard]);
        if branch.end.is_some() || branch.gone {
            return false;
        }
        if state.finished {
            branch.gone = true;
            self.machine.handle_branch_gone(now, id);
        } else if state.asking && self.machine.branch_accepts(id) {
            let (near, far) = exchange::pair();
            branch.end = Some(near);
            branch.generation = self.ledger.generation;
            (branch.takes, branch.gives, branch.ended) = (true, true, false);
            state.offered = Some(Branch::new(far, self.ledger.generation));
            state.bell.ring();
            self.machine.handle_branch_opened(now, id);
        } else {
            return false;
        }
        true
    }

    /// Takes what the shard handed up.
    fn take_from(&mut self, shard: usize) -> bool {
        let (id, now) = (ShardId::new(shard as u8), time(self.now));
        let branch = &mut self.link.branches[shard];
        let Some(end) = branch.end.as_mut().filter(|_| branch.takes) else {
            return false;
        };
        if !self.machine.branch_takes(id) {
            return false;
        }
        let waker = branch.bell.waker();
        match end.poll_take(&mut Context::from_waker(&waker)) {
            Poll::Pending => {
                branch.takes = false;
                self.machine.handle_branch_idle(now, id);
                return false;
            }
            Poll::Ready(Some(input)) => {
                if self.link.streams.is_none() || branch.generation != self.ledger.generation {
                    self.link.kept += input.batch().map_or(0, |batch| batch.bytes().len());
                }
                self.machine.handle_branch_input(now, id, input);
                if let Some(spare) = self.machine.take_spare() {
                    end.give_back(spare);
                }
                self.steps += 1;
            }
            Poll::Ready(None) => {
                branch.end = None;
                branch.closed = true;
            }
        }
        true
    }

    /// Hands down what the trunk has for the shard, and closes the branch when the trunk wants that.
    fn hand_down(&mut self, shard: usize) -> bool {
        let (id, now) = (ShardId::new(shard as u8), time(self.now));
        let branch = &mut self.link.branches[shard];
        let Some(end) = &mut branch.end else {
            return false;
        };
        let mut moved = false;
        if branch.gives && self.machine.branch_has_output(id) {
            let waker = branch.bell.waker();
            match end.poll_room(&mut Context::from_waker(&waker)) {
                Poll::Pending => {
                    branch.gives = false;
                    self.ledger.reached("a branch full downwards");
                }
                Poll::Ready(Err(exchange::Gone)) => {
                    (branch.gives, branch.takes) = (false, true);
                    moved = true;
                }
                Poll::Ready(Ok(())) => {
                    let mut spare = end.take_spare().unwrap_or_default();
                    if let Some(output) = self.machine.take_branch_output(now, id, &mut spare) {
                        let bytes = output.batch().map_or(0, |batch| batch.bytes().len());
                        end.give(output, bytes);
                        self.steps += 1;
                        moved = true;
                    }
                    if spare.has_memory() {
                        end.keep_spare(spare);
                    }
                }
            }
        }
        if self.machine.branch_wants_close(id) && !branch.ended {
            (branch.ended, branch.takes) = (true, true);
            end.close();
            moved = true;
        }
        moved
    }

    /// Checks that what waits in the trunk is bounded.
    pub(super) fn check_trunk_bounds(&mut self) {
        let up = self.setup.payload as usize + TAG_BYTES + 4;
        let for_backend = self.machine.gauges().link_bytes;
        // Shards whose branch ends bring what it holds, whatever waits. They bring no more before that is gone, however often the link is
        // lost.
        let batch = BATCH_BYTES + READ_BYTES + up;
        let of_branches = self.shards.len() * 2 * (exchange::BYTES + batch);
        let kept = self.link.kept;
        if for_backend > LINK_BYTES + batch + kept || kept > of_branches {
            let text = format!("{for_backend} bytes wait for the backend, {kept} of lost links");
            return self.ledger.fail("B4", "10.4", text);
        }
        if for_backend >= LINK_BYTES {
            self.ledger.reached("trunk full");
        } else {
            self.link.kept = 0;
        }
        for shard in 0..self.shards.len() {
            let held = self.machine.branch_held_bytes(ShardId::new(shard as u8));
            if held > BRANCH_BYTES + READ_BYTES + up {
                let text = format!("{held} bytes wait for shard {shard}");
                return self.ledger.fail("B4", "9.9(h)", text);
            }
            if held >= BRANCH_BYTES {
                self.ledger.reached("shard holds the backend");
            }
        }
    }

    // ---- the backend

    pub(super) fn backend_turn(&mut self) -> bool {
        let most = self.draw_chunk();
        if self.backend.drops_at.is_some_and(|at| at <= self.now) {
            self.backend.drops_at = None;
            self.backend_drops(End::Rst);
            return true;
        }
        let reads = self.now >= self.backend.stalled_until;
        let Some((up, down)) = &mut self.link.streams else {
            return false;
        };
        let read = if reads { up.read(most).len() } else { 0 };
        let bytes = take(&mut self.backend.outbox, down.room());
        down.write(&bytes);
        read + bytes.len() > 0
    }

    pub(super) fn backend_says(&mut self, bytes: &[u8]) {
        if self.link.streams.is_some() && !self.backend.broken {
            self.backend.outbox.extend(bytes);
        }
    }

    pub(super) fn backend_tags(&mut self, id: u64, flag: u8, data: &[u8]) {
        self.backend_says(&Tagged { id, flag, data }.to_frame());
    }

    /// Sends one packet to a session that the backend knows.
    pub(super) fn backend_sends(&mut self, session: usize, bytes: usize) {
        let conn = self.ledger.generation;
        let state = &mut self.ledger.sessions[session];
        let Some(id) = state.id else { return };
        if self.link.streams.is_none() || self.backend.broken {
            return;
        }
        let label = crate::payload::Label {
            direction: crate::payload::Direction::Down,
            owner: session as u32,
            conn,
            seq: state.sent_down,
        };
        state.sent_down += 1;
        let data = crate::payload::encode(label, bytes.max(17));
        self.backend_tags(id, codec::DATA, &data);
    }

    /// Sends bytes after which nothing follows on this link.
    pub(super) fn backend_breaks_off(&mut self, bytes: &[u8]) {
        self.backend_says(bytes);
        self.backend.broken = true;
    }

    /// Drops the link, in order after its output or at once.
    pub(super) fn backend_drops(&mut self, end: End) {
        let Some((up, down)) = &mut self.link.streams else {
            return;
        };
        if end == End::Fin {
            let bytes = take(&mut self.backend.outbox, down.room());
            down.write(&bytes);
        }
        self.backend.outbox.clear();
        self.backend.broken = true;
        up.discard();
        down.end(end);
    }
}
