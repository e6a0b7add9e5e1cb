//! The branch between a shard and the trunk, and the shard's end of it.

use std::collections::VecDeque;

use voltlane_core::edge::Closed;
use voltlane_core::edge::HasLink;
use voltlane_core::edge::trunk::{Batch, Downward, Upward};

use super::{World, kind, time};
use crate::codec::{Frames, Tagged};

/// One direction of a branch: what changes hands, in order, up to a capacity.
pub(super) struct Lane<T> {
    items: VecDeque<T>,
    capacity: usize,
    ended: bool,
    /// The reader is gone: nothing is accepted.
    reader_is_gone: bool,
}

impl<T> Lane<T> {
    fn new(capacity: usize) -> Lane<T> {
        Lane {
            items: VecDeque::new(),
            capacity,
            ended: false,
            reader_is_gone: false,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        !self.ended && !self.reader_is_gone && self.items.len() < self.capacity
    }

    pub(super) fn give(&mut self, item: T) {
        assert!(self.has_room(), "more than there is room for");
        self.items.push_back(item);
    }

    pub(super) fn take(&mut self) -> Option<T> {
        self.items.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// Returns whether the reader has taken everything before the end.
    pub(super) fn has_ended(&self) -> bool {
        self.ended && self.items.is_empty()
    }

    fn discard(&mut self) {
        self.reader_is_gone = true;
        self.items.clear();
    }
}

/// The branch between a shard and the trunk.
pub(super) struct Branch {
    pub(super) up: Lane<Upward>,
    pub(super) down: Lane<Downward>,
    pub(super) generation: u32,
    /// Whether the shard knows that it has the branch.
    connected: bool,
    /// Whether the shard, and the trunk, have closed their directions.
    shard_ended: bool,
    pub(super) trunk_ended: bool,
    /// What the shard announced when it got the branch. It goes before everything else.
    announcements: VecDeque<Upward>,
}

impl Branch {
    pub(super) fn new(capacity: usize, generation: u32) -> Branch {
        Branch {
            up: Lane::new(capacity),
            down: Lane::new(capacity),
            generation,
            connected: false,
            shard_ended: false,
            trunk_ended: false,
            announcements: VecDeque::new(),
        }
    }

    /// Handles that the shard has ended.
    pub(super) fn end_of_shard(&mut self) {
        self.shard_ended = true;
        self.up.end();
        self.down.discard();
    }
}

impl World {
    pub(super) fn serve_branch(&mut self, shard: usize) -> bool {
        let now = time(self.now);
        let mut moved = false;
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
        let state = &mut self.shards[shard];
        let Some(branch) = state.branch.as_mut().filter(|branch| !branch.shard_ended) else {
            return moved;
        };
        if !branch.connected {
            branch.connected = true;
            state.edge.handle_link_connected(now);
            while let Some(output) = state.edge.take_branch_output(now, &mut Batch::new()) {
                branch.announcements.push_back(output);
            }
            let announced: Vec<u64> = announced_in(&branch.announcements);
            if self.setup.config.master.announce_all {
                self.ledger.check_announced(shard, &announced);
            }
            self.after_edge(shard);
            moved = true;
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

    fn read_branch(&mut self, shard: usize) -> bool {
        let now = time(self.now);
        let state = &mut self.shards[shard];
        let Some(branch) = &mut state.branch else {
            return false;
        };
        if let Some(input) = branch.down.take() {
            let bytes = match &input {
                Downward::Released => &[][..],
                Downward::Packets(batch) => batch.bytes(),
            };
            self.hash
                .add(self.now, kind::BRANCH_DOWN, shard as u64, bytes);
            self.ledger.shard_took(shard, bytes);
            state.edge.handle_branch_input(now, &input);
            self.after_edge(shard);
            return true;
        }
        if !branch.down.has_ended() {
            return false;
        }
        branch.shard_ended = true;
        branch.up.end();
        state.asking = false;
        state.edge.handle_link_closed(now, Closed::Eof);
        self.note(|| format!("shard {shard} has heard of the loss"));
        self.after_edge(shard);
        true
    }

    fn write_branch(&mut self, shard: usize) -> bool {
        let now = time(self.now);
        let state = &mut self.shards[shard];
        let Some(branch) = state.branch.as_mut().filter(|branch| !branch.shard_ended) else {
            return false;
        };
        if !branch.up.has_room() {
            return false;
        }
        let output = match branch.announcements.pop_front() {
            Some(announcement) => Some(announcement),
            None => state.edge.take_branch_output(now, &mut Batch::new()),
        };
        let Some(output) = output else {
            return false;
        };
        let bytes = output.batch().map_or(&[][..], Batch::bytes);
        self.hash
            .add(self.now, kind::BRANCH_UP, shard as u64, bytes);
        self.ledger.on_branch(shard, branch.generation, &output);
        branch.up.give(output);
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
