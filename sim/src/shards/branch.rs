//! The stream between a shard and the trunk, and the shard's end of it.

use voltlane_core::edge::Closed;
use voltlane_core::edge::HasLink;

use super::stream::{End, Stream};
use super::{World, kind, time};
use crate::codec::{Frames, Tagged};

/// The stream between a shard and the trunk.
pub(super) struct Branch {
    pub(super) up: Stream,
    pub(super) down: Stream,
    pub(super) generation: u32,
    /// Whether the shard knows that it has the stream.
    connected: bool,
    /// Whether the shard, and the trunk, have closed their directions.
    shard_ended: bool,
    pub(super) trunk_ended: bool,
    /// The frames that the shard wrote, and those that it read.
    wrote: Frames,
    read: Frames,
    announcing: bool,
}

impl Branch {
    pub(super) fn new(capacity: usize, generation: u32) -> Branch {
        Branch {
            up: Stream::new(capacity),
            down: Stream::new(capacity),
            generation,
            connected: false,
            shard_ended: false,
            trunk_ended: false,
            wrote: Frames::default(),
            read: Frames::default(),
            announcing: true,
        }
    }

    /// Handles that the shard has ended.
    pub(super) fn end_of_shard(&mut self) {
        self.shard_ended = true;
        self.up.end(End::Fin);
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
            let announced: Vec<u64> = announced_in(state.edge.link_output()[0]);
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
        let most = self.draw_chunk();
        let now = time(self.now);
        let state = &mut self.shards[shard];
        let Some(branch) = &mut state.branch else {
            return false;
        };
        let budget = state.edge.link_read_budget();
        if budget == 0 {
            return false;
        }
        if branch.down.readable() > 0 {
            let bytes = branch.down.read(most.min(budget));
            self.hash
                .add(self.now, kind::BRANCH_DOWN, shard as u64, &bytes);
            self.ledger.shard_took(shard, &mut branch.read, &bytes);
            state.edge.handle_link_bytes(now, &bytes);
            self.after_edge(shard);
            return true;
        }
        if branch.down.ended().is_none() {
            return false;
        }
        branch.shard_ended = true;
        branch.up.end(End::Fin);
        state.asking = false;
        state.edge.handle_link_closed(now, Closed::Eof);
        self.note(|| format!("shard {shard} has heard of the loss"));
        self.after_edge(shard);
        true
    }

    fn write_branch(&mut self, shard: usize) -> bool {
        let most = self.draw_chunk();
        let now = time(self.now);
        let state = &mut self.shards[shard];
        let Some(branch) = state.branch.as_mut().filter(|branch| !branch.shard_ended) else {
            return false;
        };
        let output = state.edge.link_output().concat();
        let count = output.len().min(branch.up.room()).min(most);
        if count == 0 {
            return false;
        }
        let bytes = &output[..count];
        branch.up.write(bytes);
        branch.wrote.push(bytes);
        while let Ok(Some(body)) = branch.wrote.next_body(u32::MAX) {
            let (generation, announcing) = (branch.generation, branch.announcing);
            branch.announcing &= !body.is_empty();
            self.ledger.on_branch(shard, generation, announcing, &body);
        }
        self.hash
            .add(self.now, kind::BRANCH_UP, shard as u64, bytes);
        state.edge.handle_link_written(now, count);
        self.after_edge(shard);
        true
    }
}

fn announced_in(output: &[u8]) -> Vec<u64> {
    let (mut frames, mut ids) = (Frames::default(), Vec::new());
    frames.push(output);
    while let Ok(Some(body)) = frames.next_body(u32::MAX) {
        ids.extend(Tagged::read(&body).map(|tagged| tagged.id));
    }
    ids
}
