//! The link of a trunk, as a driver sees it.

use super::*;

impl HasLink for Trunk {
    fn link_wants_connect(&self, now: Time) -> bool {
        self.link.wants_connect(now.max(self.now))
    }

    fn handle_link_connecting(&mut self, now: Time) {
        let now = self.advance(now);
        self.link.connecting(now);
    }

    fn handle_link_connected(&mut self, now: Time) {
        let now = self.advance(now);
        if self.link.connected(now) {
            self.counters.link_up += 1;
            #[cfg(feature = "upgrade")]
            if self.take_link() {
                return self.tell_link();
            }
            let (written, keeps) = (self.counters.link_bytes_out, self.counts.is_some());
            self.hold.connected(now, written, keeps);
        }
        self.tell_link();
    }

    fn handle_link_closed(&mut self, now: Time, cause: Closed) {
        let now = self.advance(now);
        if let Some(was_up) = self.link.closed(now, cause, &mut self.rng) {
            self.lose_link(was_up);
        }
    }

    fn link_wants_close(&self) -> bool {
        self.link.wants_close
    }

    /// Returns the maximum number of bytes to read from the backend now. It is 0 while a shard is far behind, or has not finished its
    /// branch of the previous link, which nothing of this link may follow.
    fn link_read_budget(&self) -> usize {
        let behind = |branch: &Branch| {
            branch.state == BranchState::Ending || branch.held_bytes() >= BRANCH_BYTES
        };
        if self.link.is_open() && !self.branches.iter().any(behind) {
            READ_BYTES
        } else {
            0
        }
    }

    /// Each frame goes to the shard that its id names.
    fn handle_link_bytes(&mut self, now: Time, bytes: &[u8]) {
        self.advance(now);
        if !self.link.is_open() {
            return;
        }
        self.counters.link_bytes_in += bytes.len() as u64;
        if !read_packets(
            self,
            |trunk| &mut trunk.link,
            bytes,
            |trunk, body, _| match trunk.hold.may_be_version_3() {
                true => trunk.handle_frame(body),
                false => trunk.route(body),
            },
        ) {
            self.counters.link_violations += 1;
        }
        self.tell_link();
        self.settle();
    }

    /// Packets are held back until every shard has announced.
    fn link_output(&self) -> [&[u8]; 2] {
        if !self.link.is_open() {
            return [&[], &[]];
        }
        let proof = self.link.proving.output();
        if !proof.is_empty() {
            return [proof, &[]];
        }
        if let Some(counts) = &self.counts {
            return self.counted_output(counts);
        }
        self.uncounted_output()
    }

    fn handle_link_written(&mut self, now: Time, bytes: usize) {
        self.advance(now);
        if !self.link.is_up() {
            return;
        }
        self.counters.link_bytes_out += bytes as u64;
        let bytes = self.link.proving.written(bytes);
        let bytes = self.control_written(bytes);
        let before = (self.announcements.packets(), self.queue.packets());
        let announced = bytes.min(self.announcements.unwritten_bytes());
        self.announcements.advance(announced, &mut self.spares);
        let queued = (bytes - announced).min(self.queue.unwritten_bytes());
        self.queue.advance(queued, &mut self.spares);
        self.count_written(before);
        self.release_branches();
        self.settle();
    }
}

impl Trunk {
    /// Returns what the shards have handed up and may be written.
    pub(super) fn uncounted_output(&self) -> [&[u8]; 2] {
        if !self.announcements.is_empty() {
            return self.announcements.output();
        }
        let silent = |branch: &Branch| {
            matches!(
                branch.state,
                BranchState::Closed
                    | BranchState::Asked
                    | BranchState::Announcing
                    | BranchState::Ending
            )
        };
        if self.branches.iter().any(silent) {
            [&[], &[]]
        } else {
            self.queue.output()
        }
    }

    /// Handles that the link is down, and whether it was up.
    pub(super) fn lose_link(&mut self, was_up: bool) {
        // The shards have their branches already, if it was to go on.
        #[cfg(feature = "upgrade")]
        let was_up = was_up || self.moved_link.take().is_some();
        self.counters.link_down += 1;
        self.hold.closed();
        self.tell_link();
        self.queue.rewind();
        self.announcements.clear();
        if let Some(counts) = &mut self.counts {
            counts.lose_link();
            self.queue.clear();
        }
        if !was_up {
            return;
        }
        for branch in &mut self.branches {
            branch.state = match branch.state {
                BranchState::Asked | BranchState::Announcing | BranchState::Open => {
                    BranchState::Ending
                }
                // Frames for a shard that has not got its branch yet wait for its next one.
                other => other,
            };
            branch.tells_release = false;
            branch.tells_version = false;
        }
        self.settle();
    }
}
