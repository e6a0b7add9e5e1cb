//! The shard's end of its branch to the trunk, served as the shipped adapter serves it (`driver/src/branch.rs`).

use std::collections::VecDeque;
use std::task::{Context, Poll};

use voltlane_core::edge::Closed;
use voltlane_core::edge::HasLink;
use voltlane_core::edge::trunk::{Batch, Downward, Upward};

use super::exchange::{self, End};
use super::{World, kind, time};
use crate::codec::{Frames, Tagged};

pub(super) type ShardEnd = End<Upward, Downward, Batch>;
pub(super) type TrunkEnd = End<Downward, Upward, Batch>;

/// A branch that a shard has.
pub(super) struct Branch {
    end: ShardEnd,
    generation: u32,
    /// Whether something may be taken, and whether there may be room. If not, it waits for a wake.
    takes: bool,
    gives: bool,
    /// What the shard announced when it got the branch. It goes before everything else.
    announcements: VecDeque<Upward>,
}

impl Branch {
    pub(super) fn new(end: ShardEnd, generation: u32) -> Branch {
        Branch {
            end,
            generation,
            takes: true,
            gives: true,
            announcements: VecDeque::new(),
        }
    }
}

impl World {
    pub(super) fn serve_branch(&mut self, shard: usize) -> bool {
        let now = time(self.now);
        let mut moved = self.take_branch(shard);
        let state = &mut self.shards[shard];
        if !state.asking && state.edge.link_wants_connect(now) {
            state.asking = true;
            state.edge.handle_link_connecting(now);
            self.after_edge(shard);
            moved = true;
        }
        if self.shards[shard].edge.link_wants_close() {
            let text = format!("shard {shard} gives its branch up");
            self.ledger.fail("S15", "7.6(a)", text);
        }
        let reads_first = self.rng.chance(50);
        if reads_first {
            moved |= self.read_branch(shard);
        }
        moved |= self.write_branch(shard);
        if !reads_first {
            moved |= self.read_branch(shard);
        }
        moved
    }

    /// Answers a wake, and takes a branch that the trunk has left.
    fn take_branch(&mut self, shard: usize) -> bool {
        let now = time(self.now);
        let state = &mut self.shards[shard];
        if !state.bell.answer() {
            return false;
        }
        if let Some(branch) = &mut state.branch {
            (branch.takes, branch.gives) = (true, true);
        }
        let Some(mut branch) = state.offered.take() else {
            return false;
        };
        state.edge.handle_link_connected(now);
        while let Some(output) = state.edge.take_branch_output(now, &mut Batch::new()) {
            branch.announcements.push_back(output);
        }
        let announced: Vec<u64> = announced_in(&branch.announcements);
        state.branch = Some(branch);
        if self.setup.config.master.announce_all {
            self.ledger.check_announced(shard, &announced);
        }
        self.after_edge(shard);
        true
    }

    fn read_branch(&mut self, shard: usize) -> bool {
        let now = time(self.now);
        let state = &mut self.shards[shard];
        let Some(branch) = state.branch.as_mut().filter(|branch| branch.takes) else {
            return false;
        };
        let waker = state.bell.waker();
        match branch.end.poll_take(&mut Context::from_waker(&waker)) {
            Poll::Pending => {
                branch.takes = false;
                return false;
            }
            Poll::Ready(Some(input)) => {
                let bytes = input.batch().map_or(&[][..], Batch::bytes);
                self.hash
                    .add(self.now, kind::BRANCH_DOWN, shard as u64, bytes);
                self.ledger.shard_took(shard, bytes);
                state.edge.handle_branch_input(now, &input);
                if let Some(mut batch) = input.into_batch() {
                    batch.clear();
                    if batch.has_memory() && !state.edge.is_deserted() {
                        branch.end.give_back(batch);
                    }
                }
            }
            Poll::Ready(None) => {
                state.branch = None;
                state.asking = false;
                state.edge.handle_link_closed(now, Closed::Eof);
                self.note(|| format!("shard {shard} has heard of the loss"));
            }
        }
        self.after_edge(shard);
        true
    }

    fn write_branch(&mut self, shard: usize) -> bool {
        let now = time(self.now);
        let state = &mut self.shards[shard];
        let Some(branch) = state.branch.as_mut().filter(|branch| branch.gives) else {
            return false;
        };
        if state.edge.is_deserted() {
            branch.end.free_spares();
        }
        if branch.announcements.is_empty() && !state.edge.branch_has_output() {
            return false;
        }
        let waker = state.bell.waker();
        match branch.end.poll_room(&mut Context::from_waker(&waker)) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(exchange::Gone)) => {
                // The end of the branch is taken next.
                (branch.gives, branch.takes) = (false, true);
                return true;
            }
            Poll::Pending => {
                branch.gives = false;
                self.ledger.reached("a branch full upwards");
                return false;
            }
        }
        let mut spare = branch.end.take_spare().unwrap_or_default();
        let output = match branch.announcements.pop_front() {
            Some(announcement) => Some(announcement),
            None => state.edge.take_branch_output(now, &mut spare),
        };
        if spare.has_memory() {
            branch.end.keep_spare(spare);
        }
        let Some(output) = output else {
            return false;
        };
        let bytes = output.batch().map_or(&[][..], Batch::bytes);
        self.hash
            .add(self.now, kind::BRANCH_UP, shard as u64, bytes);
        self.ledger.on_branch(shard, branch.generation, &output);
        let length = bytes.len();
        branch.end.give(output, length);
        self.after_edge(shard);
        true
    }
}

fn announced_in(announcements: &VecDeque<Upward>) -> Vec<u64> {
    let (mut frames, mut ids) = (Frames::default(), Vec::new());
    for batch in announcements.iter().filter_map(Upward::batch) {
        frames.push(batch.bytes());
    }
    while let Ok(Some(body)) = frames.next_body(u32::MAX) {
        ids.extend(Tagged::read(&body).map(|tagged| tagged.id));
    }
    ids
}
