//! What a trunk saves for another process, and how it goes on with the link of one (SPEC 41.1).

use zeroize::Zeroizing;

use crate::edge::snapshot::{OF_CONNECTIONS, Part, Snapshot};
use crate::edge::trunk::{Branch, BranchState, Trunk};
use crate::edge::uplink::batch::{Batch, Downward, Sealed, Upward};
use crate::edge::uplink::moved::MovedLink;
use crate::id::ShardId;
use crate::queue::FrameQueue;
use crate::time::Time;
use crate::wire::saved::{put_bytes, put_count};

/// What a trunk saves with its link. It is wiped when it is dropped.
#[derive(Debug)]
#[non_exhaustive]
pub struct MovingTrunk {
    /// The parts of a [`Snapshot`], which go before those of the shards.
    pub parts: Vec<Part>,
    /// What waits here for each shard. Each is to be [saved](crate::edge::Edge::save_moving) as if it had this.
    pub down: Vec<Vec<Downward>>,
    /// Whether the link is in the parts.
    pub link: bool,
}

impl Trunk {
    /// Saves all that another process needs to go on with the link, while the shards stand still. `up` is what each has handed up that did
    /// not get here. `link_has_socket` says that the link has nothing but a socket. Nothing changes here. (SPEC 41.1(b))
    #[must_use]
    pub fn save_moving(&self, now: Time, up: &[Vec<Upward>], link_has_socket: bool) -> MovingTrunk {
        let mut copy = self.copied();
        let now = copy.advance(now);
        let link = link_has_socket.then(|| copy.movable_link()).flatten();
        let down = copy.all_shards();
        let down = down.map(|shard| copy.give_all(now, shard)).collect();
        // The link of the copy ends, and nobody is told: that of the original goes on.
        if let Some(was_up) = copy.link.let_go(now) {
            copy.lose_link(was_up);
        }
        let mut batches = copy.queue.take_all();
        if copy.counts.is_none() {
            // What is counted is with the shards.
            let packets = up.iter().flatten().filter_map(|input| match input {
                Upward::Packets(batch) => Some(batch.clone()),
                _ => None,
            });
            batches.extend(packets);
        }
        // The frame that was begun goes with the link.
        let has_begun = link.as_ref().is_some_and(|link| link.begun_bytes() > 0);
        let bodies = || {
            let all = batches.iter().flat_map(Batch::bodies);
            all.skip(usize::from(has_begun)).map(|(body, _)| body)
        };
        let bytes: usize = bodies().map(|body| 4 + body.len()).sum();
        let mut out = Zeroizing::new(Vec::with_capacity(64 + bytes));
        self.begin_part(&mut out);
        put_count(&mut out, bodies().count());
        bodies().for_each(|body| put_bytes(&mut out, body));
        put_count(&mut out, 0);
        if let Some(counts) = &copy.counts {
            counts.save(&mut out);
        }
        let mut parts = vec![Part(out)];
        if let Some(link) = &link {
            let mut out = Zeroizing::new(Vec::with_capacity(link.bytes()));
            out.extend_from_slice(&[OF_CONNECTIONS, 1]);
            link.put(&mut out);
            put_count(&mut out, 0);
            parts.push(Part(out));
        }
        MovingTrunk {
            parts,
            down,
            link: link.is_some(),
        }
    }

    /// Copies the machine, without its part in what is shared.
    fn copied(&self) -> Trunk {
        Trunk {
            now: self.now,
            rng: self.rng.clone(),
            link: self.link.clone(),
            hold: self.hold.clone(),
            counts: self.counts.clone(),
            announcements: self.announcements.clone(),
            queue: self.queue.clone(),
            spares: self.spares.clone(),
            branches: self.branches.clone(),
            first: self.first,
            shutdown_at: self.shutdown_at,
            keeps_late: self.keeps_late,
            late: self.late.clone(),
            late_bytes: self.late_bytes,
            counters: self.counters.clone(),
            share: None,
            moved_link: self.moved_link.clone(),
        }
    }

    /// Returns what is to be moved of the link, if it has version 2 and no shard has anything to announce.
    fn movable_link(&self) -> Option<MovedLink> {
        let is_movable = self.link.is_open()
            && self.counts.is_none()
            && self.hold.goes_on_in_version_2()
            && self.announcements.is_empty()
            && self.has_open_branches()
            && self.link.proving.output().is_empty();
        is_movable.then(|| MovedLink::of(&self.link, self.queue.begun()))
    }

    fn has_open_branches(&self) -> bool {
        let open = |branch: &Branch| branch.state == BranchState::Open;
        self.branches.iter().all(open)
    }

    /// Takes all that waits for this shard, whether it has its branch or not.
    fn give_all(&mut self, now: Time, shard: ShardId) -> Vec<Downward> {
        // An ASK that a shard has not seen is asked again.
        let is_asked = self.counts.is_some();
        if let Some(branch) = self.branch_mut(shard)
            && branch.state == BranchState::Closed
        {
            branch.state = BranchState::Ending;
            if is_asked {
                (branch.sealed, branch.queue) = (Sealed::default(), FrameQueue::new());
            }
        }
        let next = || self.take_branch_output(now, shard, &mut Batch::new());
        core::iter::from_fn(next).collect()
    }

    /// Goes on with the link of another process, if that is what is connected next, and behind its counts. To be called before the first
    /// link, and once the sessions of the shards were [restored](crate::edge::Edge::restore).
    pub fn take_over(&mut self, now: Time, snapshot: &Snapshot) {
        self.restore(now, snapshot);
        let contents = snapshot.contents();
        let goes_on = contents.has_link_of_version_2();
        let Some(link) = contents.moved.link else {
            return;
        };
        if let Some(frame) = link.begun_frame() {
            self.queue.push(frame, &mut self.spares);
        }
        self.moved_link = Some(Box::new(link));
        if goes_on {
            self.hold.decide();
        }
        if goes_on && self.hold.goes_on_in_version_2() {
            for branch in &mut self.branches {
                *branch = Branch::new(BranchState::Open);
            }
            self.release_branches();
            self.begin_round();
        }
        self.settle();
    }

    /// Returns whether this shard has its branch from the start: the link is another process's, and nothing is announced.
    #[must_use]
    pub fn branch_goes_on(&self, shard: ShardId) -> bool {
        self.moved_link.is_some() && self.state(shard) == BranchState::Open
    }

    /// Goes on with the link of another process, if that is what was connected. Returns whether it is.
    pub(super) fn take_link(&mut self) -> bool {
        let Some(moved) = self.moved_link.take() else {
            return false;
        };
        if !self.has_open_branches() {
            // The configuration demands another version: a new link begins.
            self.link.wants_close = true;
            return true;
        }
        moved.go_on(&mut self.link);
        self.queue.begin_at(moved.begun_bytes());
        true
    }
}
