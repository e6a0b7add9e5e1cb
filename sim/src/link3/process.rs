//! The edge's process: one machine that has the link, or several shards and their trunk.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU8;
use std::time::Duration;

use voltlane_core::edge::testkit::Adapter as _;
use voltlane_core::edge::trunk::{Batch, Downward, Trunk, Upward};
use voltlane_core::edge::{
    CloseReason, Closed, Edge, Gauges, HasLink, SessionInfo, SessionPage, Snapshot,
};
use voltlane_core::{ClientId, ShardId};

use super::setup::Setup;
use super::time;
use crate::audited::Audited;
use crate::engine::identity::edge_pair;
use crate::recorded;
use crate::rng::Rng;

/// How many batches are under way in one direction of a branch, as in `driver/src/exchange.rs`.
const ITEMS: usize = 4;
/// As many sessions an edge shows at once.
const PAGE: usize = 64;
/// How often in a hundred an end of a branch gets its turn.
const TURNS: u64 = 70;

/// What is under way between a shard and the trunk, in order.
#[derive(Default)]
struct Branch {
    up: VecDeque<Upward>,
    down: VecDeque<Downward>,
    /// Whether the shard has closed its direction, and whether the trunk has.
    up_has_ended: bool,
    down_has_ended: bool,
}

/// A shard, with what its adapter keeps.
struct Shard {
    edge: Audited,
    /// Whether it wants a branch, and the one that it has.
    is_asking: bool,
    branch: Option<Branch>,
    /// Whether it has finished, and whether the trunk knows.
    has_finished: bool,
    is_gone: bool,
}

/// The machines of a process.
pub(super) struct Process {
    shards: Vec<Shard>,
    trunk: Option<Trunk>,
    /// What the shards have handled of their branches since the last look: frames of the backend.
    heard: Vec<(usize, Vec<u8>)>,
}

impl Process {
    /// Begins a process with this many shards, which goes on with what another one has saved.
    pub(super) fn new(
        setup: &Setup,
        shards: u8,
        (term, earlier): (u32, &[[u8; 8]]),
        saved: Option<(u64, &Snapshot)>,
    ) -> Process {
        let mut seed = [0; 32];
        Rng::fork(setup.seed, "edge of the link", term.into()).fill(&mut seed);
        let (mut trunk, mut edges) = match NonZeroU8::new(shards).filter(|_| shards > 1) {
            Some(shards) => {
                let (trunk, edges) = Trunk::with_shards(&setup.config, edge_pair(), shards, seed);
                (Some(trunk), edges)
            }
            None => {
                let mut edge = Edge::new(setup.config.clone(), edge_pair().clone(), seed);
                recorded::attach(&mut edge, &seed);
                (None, vec![edge])
            }
        };
        for edge in &mut edges {
            edge.set_term(term);
        }
        if let Some((now, snapshot)) = saved {
            if let Some(trunk) = &mut trunk {
                trunk.restore(time(now), snapshot);
            }
            for edge in &mut edges {
                edge.restore(time(now), snapshot);
            }
        }
        for edge in &mut edges {
            edge.set_earlier_runs(earlier);
        }
        let shard = |edge| Shard {
            edge: Audited::new(edge),
            is_asking: false,
            branch: None,
            has_finished: false,
            is_gone: false,
        };
        Process {
            shards: edges.into_iter().map(shard).collect(),
            trunk,
            heard: Vec::new(),
        }
    }

    pub(super) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Returns the machine of a shard.
    pub(super) fn shard(&mut self, shard: usize) -> &mut Audited {
        &mut self.shards[shard].edge
    }

    /// Returns the machine that has the link.
    pub(super) fn link(&mut self) -> &mut dyn HasLink {
        match &mut self.trunk {
            Some(trunk) => trunk,
            None => &mut *self.shards[0].edge,
        }
    }

    pub(super) fn run(&self) -> [u8; 8] {
        self.shards[0].edge.run()
    }

    pub(super) fn audit(&self) {
        self.shards.iter().for_each(|shard| shard.edge.audit());
    }

    // ---- time

    /// Returns when something is due, in nanoseconds.
    pub(super) fn poll_timeout(&self) -> Option<u64> {
        let shards = self.shards.iter();
        let of_shards = shards.filter_map(|shard| shard.edge.poll_timeout());
        let of_trunk = self.trunk.iter().filter_map(Trunk::poll_timeout);
        let due = of_shards.chain(of_trunk);
        due.map(|due| due.at.as_nanos()).min()
    }

    /// Handles what is due. Returns whether anything was.
    pub(super) fn handle_timeouts(&mut self, now: u64) -> bool {
        let mut moved = false;
        for shard in &mut self.shards {
            shard.edge.skip_listed();
            let due = shard.edge.poll_timeout();
            if due.is_some_and(|due| due.at.as_nanos() <= now) {
                shard.edge.handle_timeout(time(now));
                moved = true;
            }
        }
        if let Some(trunk) = &mut self.trunk {
            let due = trunk.poll_timeout();
            if due.is_some_and(|due| due.at.as_nanos() <= now) {
                trunk.handle_timeout(time(now));
                // A pause that is over stays over until the trunk dials.
                moved |= !trunk.link_wants_connect(time(now));
            }
        }
        moved
    }

    // ---- branches

    /// Moves what is under way between the shards and the trunk, a part of it at a time. Returns whether anything moved, or will.
    pub(super) fn exchange(&mut self, now: u64, rng: &mut Rng) -> bool {
        let Some(trunk) = &mut self.trunk else {
            return false;
        };
        let mut moved = false;
        let first = rng.below(self.shards.len() as u64) as usize;
        for step in 0..self.shards.len() {
            let number = (first + step) % self.shards.len();
            let shard = &mut self.shards[number];
            let id = ShardId::new(number as u8);
            let turns = [rng.below(100) < TURNS, rng.below(100) < TURNS];
            if turns[0] {
                let (has_moved, heard) = shard.uses_branch(now);
                moved |= has_moved;
                self.heard.extend(heard.map(|bytes| (number, bytes)));
            }
            if turns[1] {
                moved |= shard.trunk_uses_branch(now, id, trunk);
            }
            moved |= turns != [true, true] && shard.has_work(now, id, trunk);
        }
        moved
    }

    /// Returns the frames of the backend that the shards have handled since the last call.
    pub(super) fn take_heard(&mut self) -> Vec<(usize, Vec<u8>)> {
        std::mem::take(&mut self.heard)
    }

    /// Returns whether nothing is under way between the shards and the trunk.
    pub(super) fn branches_are_empty(&self) -> bool {
        let Some(trunk) = &self.trunk else {
            return true;
        };
        (0..).zip(&self.shards).all(|(number, shard)| {
            let branch = shard.branch.as_ref();
            trunk.branch_held_bytes(ShardId::new(number)) == 0
                && branch.is_some_and(|branch| branch.up.is_empty() && branch.down.is_empty())
        })
    }

    // ---- the orderly end

    /// Says that the sessions are saved at the end, and begins it.
    pub(super) fn shut_down(&mut self, now: u64, within: Duration) {
        if let Some(trunk) = &mut self.trunk {
            trunk.keep_sessions();
            trunk.handle_shutdown(time(now), within);
        }
        for shard in &mut self.shards {
            shard.edge.keep_sessions();
            shard.edge.handle_shutdown(time(now), within);
        }
    }

    /// Returns the shards that have finished since the last call. Their clients are to be closed.
    pub(super) fn finished(&mut self) -> Vec<usize> {
        let mut finished = Vec::new();
        for (number, shard) in self.shards.iter_mut().enumerate() {
            if !shard.has_finished && shard.edge.is_finished() {
                shard.has_finished = true;
                finished.push(number);
            }
        }
        finished
    }

    /// Returns whether the process can be saved.
    pub(super) fn is_finished(&self) -> bool {
        match &self.trunk {
            Some(trunk) => trunk.is_finished() && self.shards.iter().all(|shard| shard.is_gone),
            None => self.shards[0].has_finished,
        }
    }

    /// Saves what all machines have. Its link is closed.
    pub(super) fn save(&mut self, now: u64, name: [u8; 32]) -> Snapshot {
        let now = time(now);
        let of_trunk = self.trunk.as_mut().map(|trunk| trunk.save(now));
        let mut parts: Vec<_> = of_trunk.into_iter().collect();
        parts.extend(self.shards.iter_mut().map(|shard| shard.edge.save(now)));
        let sealed = Snapshot::seal((self.run(), &parts), edge_pair(), 0, name);
        Snapshot::open(sealed.expect("it is short"), edge_pair()).expect("it was just made")
    }

    // ---- what can be seen

    pub(super) fn gauges(&self) -> Gauges {
        let mut all = Gauges::default();
        for shard in &self.shards {
            all.add(&shard.edge.gauges());
        }
        if let Some(trunk) = &self.trunk {
            all.add(&trunk.gauges());
            all.link_is_up = trunk.gauges().link_is_up;
        }
        all
    }

    /// Returns how many connections were closed for this reason.
    pub(super) fn closed(&self, reason: CloseReason) -> u64 {
        let shards = self.shards.iter();
        shards
            .map(|shard| shard.edge.counters().closed[reason as usize])
            .sum()
    }

    /// Returns how many links broke the rules, and how many malformed frames of the backend came.
    pub(super) fn faults(&self) -> (u64, u64) {
        let shards = self.shards.iter().map(|shard| shard.edge.counters());
        let all = shards.chain(self.trunk.iter().map(Trunk::counters));
        all.fold((0, 0), |(links, frames), one| {
            (links + one.link_violations, frames + one.malformed_down)
        })
    }

    /// Returns the backend's groups with their members.
    pub(super) fn groups(&self) -> BTreeMap<u64, Vec<u64>> {
        let mut groups = BTreeMap::<u64, Vec<u64>>::new();
        for (group, members) in self.shards.iter().flat_map(|shard| shard.edge.groups()) {
            let all = groups.entry(group).or_default();
            all.extend(members.iter().map(|id| id.as_u64()));
            all.sort_unstable();
        }
        groups
    }

    /// Returns a session that has not ended, and its shard.
    pub(super) fn inspect(&self, id: u64) -> Option<(usize, SessionInfo)> {
        let mut shards = self.shards.iter().enumerate();
        shards.find_map(|(number, shard)| {
            let found = shard.edge.inspect(ClientId::from_u64(id))?;
            Some((number, found))
        })
    }

    /// Returns the sessions that have a connection: which of which shard it is.
    pub(super) fn attached(&self) -> Vec<(u64, (usize, usize))> {
        let mut all = Vec::new();
        for (number, shard) in self.shards.iter().enumerate() {
            let mut next = Some(0);
            while let Some(from) = next {
                let SessionPage {
                    sessions, next: to, ..
                } = shard.edge.page(from, PAGE);
                let here = sessions.iter();
                all.extend(here.filter_map(|one| Some((one.id.as_u64(), (number, one.conn?)))));
                next = to;
            }
        }
        all
    }
}

impl Shard {
    /// The shard asks for a branch, takes what came on it, and hands up what it has.
    fn uses_branch(&mut self, now: u64) -> (bool, Option<Vec<u8>>) {
        let now = time(now);
        let edge = &mut self.edge;
        let (mut moved, mut heard) = (false, None);
        if !self.is_asking && !self.has_finished && edge.link_wants_connect(now) {
            edge.handle_link_connecting(now);
            self.is_asking = true;
            moved = true;
        }
        let Some(branch) = &mut self.branch else {
            return (moved, None);
        };
        if let Some(input) = branch.down.pop_front() {
            edge.handle_branch_input(now, &input);
            heard = input.batch().map(|batch| batch.bytes().to_vec());
            moved = true;
        } else if branch.down_has_ended && !branch.up_has_ended {
            edge.handle_link_closed(now, Closed::Eof);
            branch.up_has_ended = true;
            moved = true;
        }
        if self.has_finished && !branch.up_has_ended {
            branch.up_has_ended = true;
            moved = true;
        }
        if !branch.up_has_ended
            && branch.up.len() < ITEMS
            && edge.branch_has_output()
            && let Some(output) = edge.take_branch_output(now, &mut Batch::new())
        {
            branch.up.push_back(output);
            moved = true;
        }
        (moved, heard)
    }

    /// The trunk opens the shard's branch, takes what the shard handed up, hands down what it has, and notices the end.
    fn trunk_uses_branch(&mut self, now: u64, id: ShardId, trunk: &mut Trunk) -> bool {
        let now = time(now);
        let Some(branch) = &mut self.branch else {
            if self.has_finished {
                trunk.handle_branch_gone(now, id);
                return !std::mem::replace(&mut self.is_gone, true);
            }
            let opens = self.is_asking && trunk.branch_accepts(id);
            if opens {
                self.is_asking = false;
                self.branch = Some(Branch::default());
                trunk.handle_branch_opened(now, id);
                self.edge.handle_link_connected(now);
            }
            return opens;
        };
        let mut moved = false;
        if trunk.branch_takes(id) {
            match branch.up.pop_front() {
                Some(input) => {
                    trunk.handle_branch_input(now, id, input);
                    trunk.take_spare();
                    moved = true;
                }
                None if branch.up_has_ended => {
                    self.end_branch(now, id, trunk);
                    return true;
                }
                None => trunk.handle_branch_idle(now, id),
            }
        }
        if branch.down.len() < ITEMS
            && let Some(output) = trunk.take_branch_output(now, id, &mut Batch::new())
        {
            branch.down.push_back(output);
            moved = true;
        }
        if trunk.branch_wants_close(id) && !branch.down_has_ended {
            branch.down_has_ended = true;
            moved = true;
        }
        moved
    }

    fn end_branch(&mut self, now: voltlane_core::Time, id: ShardId, trunk: &mut Trunk) {
        // A shard that ends in order reads its branch to the end.
        for input in self.branch.take().into_iter().flat_map(|one| one.down) {
            self.edge.handle_branch_input(now, &input);
        }
        if self.has_finished {
            self.edge.handle_link_closed(now, Closed::Eof);
        }
        trunk.handle_branch_closed(now, id);
    }

    /// Returns whether one of both ends has something to do.
    fn has_work(&self, now: u64, id: ShardId, trunk: &Trunk) -> bool {
        let Some(branch) = &self.branch else {
            let asks = self.is_asking || self.edge.link_wants_connect(time(now));
            return (self.has_finished && !self.is_gone) || (asks && trunk.branch_accepts(id));
        };
        let comes = !branch.down.is_empty() || (branch.down_has_ended && !branch.up_has_ended);
        let goes = !branch.up_has_ended
            && ((branch.up.len() < ITEMS && self.edge.branch_has_output()) || self.has_finished);
        let takes = trunk.branch_takes(id) && (!branch.up.is_empty() || branch.up_has_ended);
        let gives = (branch.down.len() < ITEMS && trunk.branch_has_output(id))
            || (trunk.branch_wants_close(id) && !branch.down_has_ended);
        comes || goes || takes || gives
    }
}
