//! The trunk, which joins the links of several shards into the one link to the backend (SPEC 9.9).
//!
//! ```text
//! clients ─ Edge (shard 0) ─ branch ─┐
//! clients ─ Edge (shard 1) ─ branch ─┼─ Trunk ─ link ─ backend
//! clients ─ Edge (shard n) ─ branch ─┘
//! ```
//!
//! To its shards the trunk acts as a backend, to the backend as an edge. It knows nothing of sessions. A *branch* carries whole frames
//! within the process, in [batches](Batch) that change hands. The trunk queues those of the shards as they are, and routes each
//! frame of the backend to the shard in its id. A branch exists while the link does. When the link is lost, each shard sees the end of its
//! branch, and what a shard had put on its branch is kept for the next link. So nothing is lost between a shard and the trunk.
//!
//! Version 3 of the link is in `granted.rs`. A branch exists from the moment at which the version of the link is known.

pub(in crate::edge) mod counts;
mod granted;
mod link;
#[cfg(feature = "upgrade")]
mod moving;

use core::num::NonZeroU8;
use core::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use zeroize::Zeroizing;

use crate::edge::snapshot::{Grid, OF_ANOTHER_TRUNK, OF_TRUNK, Part, Snapshot};
use crate::edge::trunk::counts::Counts;
use crate::edge::uplink::batch::{BatchQueue, Sealed, Spares};
use crate::edge::uplink::hold::Hold;
use crate::edge::uplink::link::{HasLink, Link, read_packets};
#[cfg(feature = "upgrade")]
use crate::edge::uplink::moved::MovedLink;
use crate::edge::{
    Closed, Counters, Deadline, DeadlineReason, Edge, EdgeConfig, Gauges, MasterConfig, TrunkShare,
};
use crate::id::ShardId;
use crate::keys::KeyPair;
use crate::queue::FrameQueue;
use crate::time::Time;
use crate::wire::saved::{put_bytes, put_count};

pub use crate::edge::uplink::batch::{BATCH_BYTES, Batch, Downward, Upward};

#[cfg(feature = "upgrade")]
pub use self::moving::MovingTrunk;

/// The number of bytes waiting for the backend from which no branch is read. It is enough for one write.
const LINK_BYTES: usize = 256 * 1024;

/// The number of bytes waiting for one shard from which the backend is not read.
const BRANCH_BYTES: usize = 1 << 20;

/// The number of bytes of frames for shards that have ended from which no more are kept.
const LATE_BYTES: usize = 64 << 20;

/// The number of bytes taken from the backend at a time.
const READ_BYTES: usize = 64 * 1024;

/// The number of bytes that all shards together may bring in one round of turns. A shard's part is proportional to its number of clients
/// that wait for room.
const ROUND_BYTES: usize = LINK_BYTES;

/// The smallest part of a round: less is not worth a call.
const LEAST_PART_BYTES: usize = 256;

/// The state of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BranchState {
    /// There is no branch: the shard waits for the link.
    Closed,
    /// The backend has asked for version 3, and the shard has not taken it up yet.
    Asked,
    /// The link is up, and the shard has not announced all its sessions yet.
    Announcing,
    /// Packets go both ways.
    Open,
    /// The link is lost. What the shard sent before it knew is kept, except for announcements.
    Ending,
    /// The shard has ended.
    Gone,
}

/// The trunk's side of one shard.
#[derive(Clone, Debug)]
struct Branch {
    state: BranchState,
    /// Whether the shard may send what waits there, and whether it still has to be told.
    released: bool,
    tells_release: bool,
    /// Whether it still has to be told that the link has version 2.
    tells_version: bool,
    /// What the shard handed up to a link of version 2, before an ASK.
    returned: Option<Batch>,
    /// The number of bytes that it may still bring in this round. What its last batch brought above that is taken off the next rounds.
    allowance: isize,
    /// Whether it had nothing to bring at the last check. It then does not delay the round.
    idle: bool,
    /// The backend's frames for the shard: full batches, then those of the queue.
    sealed: Sealed,
    queue: FrameQueue,
}

impl Branch {
    fn new(state: BranchState) -> Self {
        Branch {
            state,
            released: false,
            tells_release: false,
            tells_version: false,
            returned: None,
            allowance: 0,
            idle: true,
            sealed: Sealed::default(),
            queue: FrameQueue::new(),
        }
    }

    /// Returns the bytes that wait for the shard.
    const fn held_bytes(&self) -> usize {
        self.sealed.bytes() + self.queue.held_bytes()
    }

    /// Returns whether it has its turns with the others: its packets go to the queue for the backend.
    fn takes_turns(&self) -> bool {
        matches!(self.state, BranchState::Open | BranchState::Ending)
    }
}

/// The machine between the shards' links and the one link to the backend.
///
/// # Contract
///
/// - To the backend it is a machine that [has a link](HasLink), like an [`Edge`] alone.
/// - To each shard it is the far end of a branch. When [`branch_accepts`](Trunk::branch_accepts), a shard that dials gets its branch, and
///   the adapter calls [`handle_branch_opened`](Trunk::handle_branch_opened). While [`branch_takes`](Trunk::branch_takes), it passes on
///   what the shard [hands up](Edge::take_branch_output). Whenever the shard has nothing it calls
///   [`handle_branch_idle`](Trunk::handle_branch_idle), or the others would have to wait for their next turns. It hands down what it
///   [takes](Trunk::take_branch_output). When [`branch_wants_close`](Trunk::branch_wants_close), it closes its direction, passes on what
///   the shard has handed up, waits until the shard has closed, too, and calls [`handle_branch_closed`](Trunk::handle_branch_closed).
/// - When a shard has ended for good, the adapter calls [`handle_branch_gone`](Trunk::handle_branch_gone).
///
/// Bounds: 256 KiB of packets wait for the backend, plus one batch, plus once what the branches of all shards held when the link was lost.
/// Beside them wait 256 KiB of announcements, plus one batch. 1 MiB waits for each shard, plus one read and one frame of the backend. The
/// adapter bounds what is under way on a branch.
#[derive(Debug)]
pub struct Trunk {
    now: Time,
    rng: ChaCha20Rng,
    link: Link,
    hold: Hold,
    /// What is counted, from the first grant of this run on.
    counts: Option<Box<Counts>>,
    /// The shards' frames for the backend. Announcements go before all others.
    announcements: BatchQueue,
    queue: BatchQueue,
    spares: Spares,
    branches: Box<[Branch]>,
    /// The number of its first shard in the process. Here it counts as 0.
    first: ShardId,
    shutdown_at: Option<Time>,
    /// Whether frames for a shard that has ended are kept, and those that were, with their bytes. They are saved.
    keeps_late: bool,
    late: Vec<(ShardId, Vec<u8>)>,
    late_bytes: usize,
    counters: Counters,
    /// Its part in what the shards share; `None` in tests of the trunk alone.
    share: Option<TrunkShare>,
    /// The link of another process, until it is connected.
    #[cfg(feature = "upgrade")]
    moved_link: Option<Box<MovedLink>>,
}

impl Trunk {
    /// Creates a trunk of `shards` shards. The pauses between attempts to reach the backend are drawn from `seed`.
    #[must_use]
    pub fn new(config: &MasterConfig, shards: NonZeroU8, seed: [u8; 32]) -> Self {
        Trunk {
            now: Time::ZERO,
            rng: ChaCha20Rng::from_seed(seed),
            link: Link::new(config),
            hold: Hold::new(config.link_protocol()),
            counts: None,
            announcements: BatchQueue::default(),
            queue: BatchQueue::default(),
            spares: Spares::default(),
            branches: (0..shards.get())
                .map(|_| Branch::new(BranchState::Closed))
                .collect(),
            first: ShardId::default(),
            shutdown_at: None,
            keeps_late: false,
            late: Vec::new(),
            late_bytes: 0,
            counters: Counters::default(),
            share: None,
            #[cfg(feature = "upgrade")]
            moved_link: None,
        }
    }

    /// Creates the machines of a process: the shards and their trunk. `config` is that of the whole process. For `seed` see [`Edge::new`].
    #[must_use]
    pub fn with_shards(
        config: &EdgeConfig,
        keys: &KeyPair,
        shards: NonZeroU8,
        seed: [u8; 32],
    ) -> (Trunk, Vec<Edge>) {
        let mut draw = seeds(seed);
        let mut trunk = Trunk::new(&config.master, shards, draw());
        let edges = siblings(config, keys, shards.get(), draw);
        trunk.share = edges.first().map(Edge::trunk_share);
        (trunk, edges)
    }

    /// Creates the machines of a process with several backends, as many as `config` says, each of which has this many `shards`: the trunk of
    /// each backend, and the shards of the first one, then those of the next (SPEC 45.2). There are fewer shards if an id had no room for
    /// their number.
    #[cfg(feature = "backends")]
    #[must_use]
    pub fn with_backends(
        config: &EdgeConfig,
        keys: &KeyPair,
        shards: NonZeroU8,
        seed: [u8; 32],
    ) -> (Vec<Trunk>, Vec<Edge>) {
        let mut draw = seeds(seed);
        let backends = config.backends();
        let each = shards.min(NonZeroU8::new(u8::MAX / backends).unwrap_or(shards));
        let trunks = (0..backends).map(|_| Trunk::new(&config.master, each, draw()));
        let mut trunks: Vec<Trunk> = trunks.collect();
        let edges = siblings(config, keys, each.get() * backends, draw);
        for (trunk, first) in trunks.iter_mut().zip(edges.chunks(each.get().into())) {
            if let Some(edge) = first.first() {
                (trunk.share, trunk.first) = (Some(edge.trunk_share()), edge.config.shard);
            }
        }
        (trunks, edges)
    }

    /// Tells the trunk which of several edges its shards are, of which this is one: after their term was set, and their sessions were restored.
    #[cfg(feature = "cluster")]
    pub fn set_name(&mut self, shard: &Edge) {
        self.link.proving.set_name(shard.name());
    }

    // ---- the shards

    /// Returns the number of shards.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.branches.len()
    }

    /// Returns whether this shard gets its branch if it dials now: the backend is there, it is known which version the link has, and its last
    /// branch is finished.
    #[must_use]
    pub fn branch_accepts(&self, shard: ShardId) -> bool {
        self.link.is_open() && !self.hold.is_held() && self.state(shard) == BranchState::Closed
    }

    /// Handles that the shard has its branch.
    pub fn handle_branch_opened(&mut self, now: Time, shard: ShardId) {
        self.advance(now);
        let is_granted = self.hold.is_granted();
        let tells_version = self.hold.may_be_version_3() && !is_granted;
        if self.branch_accepts(shard)
            && let Some(branch) = self.branch_mut(shard)
        {
            branch.state = match is_granted {
                true => BranchState::Asked,
                false => BranchState::Announcing,
            };
            branch.tells_version = tells_version;
            branch.released = false;
        }
    }

    /// Returns whether the trunk takes what this shard hands up now.
    #[must_use]
    pub fn branch_takes(&self, shard: ShardId) -> bool {
        let Some(branch) = self.branch(shard) else {
            return false;
        };
        let (waiting, has_turn) = match branch.state {
            BranchState::Closed | BranchState::Gone => return false,
            // It grants, and nothing of the others goes to the backend before that.
            BranchState::Asked => return true,
            // The shard is about to see the end of its branch, and hands up nothing after that. What it handed up before must find room, or
            // its own end could never be seen.
            BranchState::Ending if self.branch_wants_close(shard) => return true,
            // Packets that waited earlier are sent once all shards have announced. They must not prevent that.
            BranchState::Announcing => (self.announcements.held_bytes(), true),
            BranchState::Open | BranchState::Ending => {
                (self.queue.held_bytes(), branch.allowance > 0)
            }
        };
        waiting < LINK_BYTES && has_turn
    }

    /// Handles what the shard handed up.
    pub fn handle_branch_input(&mut self, now: Time, shard: ShardId, input: Upward) {
        self.advance(now);
        let Some(branch) = self.branches.get_mut(usize::from(shard.as_u8())) else {
            return;
        };
        branch.idle = false;
        match (branch.state, input) {
            (BranchState::Closed | BranchState::Gone, _) => return,
            (BranchState::Asked, Upward::Granted(grant)) => {
                branch.state = BranchState::Announcing;
                self.handle_granted(&grant);
            }
            (_, Upward::Granted(_)) => {}
            (BranchState::Announcing, Upward::Announcements(batch)) => {
                if let Some(counts) = &mut self.counts {
                    counts.announced.push(shard, batch.frames());
                }
                self.announcements.push(batch, &mut self.spares);
            }
            (BranchState::Announcing, Upward::Announced) => branch.state = BranchState::Open,
            // They were for a link that is lost.
            (_, Upward::Announcements(batch)) => self.spares.keep(batch),
            (_, Upward::Announced) => {}
            (_, Upward::Packets(batch)) => {
                branch.allowance = branch
                    .allowance
                    .saturating_sub_unsigned(batch.bytes().len());
                let is_lost = branch.state == BranchState::Ending;
                match &mut self.counts {
                    // Its shard keeps them for the next link.
                    Some(_) if is_lost => self.spares.keep(batch),
                    counts => {
                        if let Some(counts) = counts {
                            counts.queued.push(shard, batch.frames());
                        }
                        self.queue.push(batch, &mut self.spares);
                    }
                }
            }
        }
        self.release_branches();
        self.begin_round();
        self.settle();
    }

    /// Returns a buffer that is spare since its frames are with the backend, for a shard to fill.
    pub fn take_spare(&mut self) -> Option<Batch> {
        self.spares.take()
    }

    /// Handles that there is nothing to read from this shard now.
    pub fn handle_branch_idle(&mut self, now: Time, shard: ShardId) {
        self.advance(now);
        if let Some(branch) = self.branch_mut(shard) {
            branch.idle = true;
        }
        self.begin_round();
    }

    /// Begins the next round of turns once no shard has more that it may bring. Turns are by client, not by shard (SPEC 9.9(d)): a shard's
    /// part is proportional to its number of clients that wait for room. A batch that exceeds it counts for as many rounds as it fills.
    fn begin_round(&mut self) {
        let is_over =
            |branch: &Branch| branch.allowance <= 0 || branch.idle || !branch.takes_turns();
        if !self.branches.iter().all(is_over) {
            return;
        }
        let share = self.share.as_ref();
        let clients = |shard: usize| share.map_or(1, |share| share.waiting(shard)).max(1);
        let branches = (0..).zip(&self.branches);
        let all = branches.filter(|(_, branch)| branch.takes_turns());
        let all: usize = all.map(|(shard, _)| clients(shard)).sum();
        let part = |shard: usize| {
            let part = ROUND_BYTES.saturating_mul(clients(shard)) / all.max(1);
            part.clamp(LEAST_PART_BYTES, ROUND_BYTES).cast_signed()
        };
        // Rounds in which nobody could bring anything are passed over.
        let waiting = (0..).zip(&self.branches);
        let rounds = waiting
            .filter(|(_, branch)| branch.takes_turns() && !branch.idle)
            .map(|(shard, branch)| 1 - branch.allowance / part(shard))
            .min();
        let rounds = rounds.unwrap_or(1);
        for (shard, branch) in self.branches.iter_mut().enumerate() {
            let part = part(shard);
            let earned = branch.allowance.saturating_add(part.saturating_mul(rounds));
            branch.allowance = earned.min(part);
        }
    }

    /// Lets the shards send what waits there, if there is room here. Without that each loss of the link would leave another branch's worth
    /// of every shard here, and losses have no bound.
    fn release_branches(&mut self) {
        if self.queue.held_bytes() >= LINK_BYTES {
            return;
        }
        for branch in &mut self.branches {
            if branch.state == BranchState::Open && !branch.released {
                branch.released = true;
                branch.tells_release = true;
            }
        }
    }

    /// Returns whether there is something to hand down to this shard.
    #[must_use]
    pub fn branch_has_output(&self, shard: ShardId) -> bool {
        self.branch(shard).is_some_and(|branch| {
            !matches!(branch.state, BranchState::Closed | BranchState::Gone)
                && (branch.tells_version
                    || branch.returned.is_some()
                    || branch.tells_release
                    || branch.held_bytes() > 0)
        })
    }

    /// Returns the bytes that wait here for this shard.
    #[must_use]
    pub fn branch_held_bytes(&self, shard: ShardId) -> usize {
        self.branch(shard).map_or(0, Branch::held_bytes)
    }

    /// Takes what is to be handed down to this shard next. A batch takes the memory of `spare` in return.
    pub fn take_branch_output(
        &mut self,
        now: Time,
        shard: ShardId,
        spare: &mut Batch,
    ) -> Option<Downward> {
        self.advance(now);
        if !self.branch_has_output(shard) {
            return None;
        }
        let branch = self.branch_mut(shard)?;
        if core::mem::take(&mut branch.tells_version) {
            return Some(Downward::Version2);
        }
        if let Some(batch) = branch.returned.take() {
            return Some(Downward::Returned(batch));
        }
        if core::mem::take(&mut branch.tells_release) {
            return Some(Downward::Released);
        }
        let batch = branch.sealed.take(&mut branch.queue, spare)?;
        self.settle();
        Some(Downward::Packets(batch))
    }

    /// Returns whether the adapter must close its direction of this shard's branch: the link is lost, and the shard was handed everything
    /// before that.
    #[must_use]
    pub fn branch_wants_close(&self, shard: ShardId) -> bool {
        self.branch(shard)
            .is_some_and(|branch| branch.state == BranchState::Ending && branch.held_bytes() == 0)
    }

    /// Handles that the shard has closed its direction of its branch, and all that it handed up was passed on. During a shutdown the shard
    /// has ended for good.
    pub fn handle_branch_closed(&mut self, now: Time, shard: ShardId) {
        self.advance(now);
        let lost = matches!(
            self.state(shard),
            BranchState::Asked | BranchState::Announcing | BranchState::Open
        );
        if lost && self.shutdown_at.is_some() {
            return self.end_branch(shard, BranchState::Gone);
        }
        if lost {
            // Its next branch would begin with announcements, which cannot come in the middle of a link.
            self.link.wants_close = self.link.is_up();
        }
        self.end_branch(shard, BranchState::Closed);
    }

    /// Handles that the shard has ended for good. Nothing waits for it any more.
    pub fn handle_branch_gone(&mut self, now: Time, shard: ShardId) {
        self.advance(now);
        self.end_branch(shard, BranchState::Gone);
    }

    fn end_branch(&mut self, shard: ShardId, state: BranchState) {
        if let Some(branch) = self.branch_mut(shard)
            && branch.state != BranchState::Gone
        {
            let ended = core::mem::replace(branch, Branch::new(state));
            if state == BranchState::Gone {
                self.keep_waiting(shard, ended);
            }
        }
        self.make_grant();
        self.begin_round();
        self.settle();
    }

    /// Keeps what waits here for a shard that has ended.
    fn keep_waiting(&mut self, shard: ShardId, ended: Branch) {
        let batches = ended.sealed.into_batches();
        let sealed = batches.iter().flat_map(Batch::bodies);
        let bodies = sealed.map(|(body, _)| body).chain(ended.queue.bodies());
        bodies.for_each(|body| self.keep_late(shard, body));
    }

    /// Keeps a frame of the backend for a shard that has ended.
    fn keep_late(&mut self, shard: ShardId, body: &[u8]) {
        if self.keeps_late && body.len() <= LATE_BYTES - self.late_bytes {
            self.late_bytes += body.len();
            self.late.push((shard, body.to_vec()));
        }
    }

    /// Routes a frame to the shard in its id. The first shard answers for ids that name none, as it would alone (SPEC 9.9(f)).
    fn route(&mut self, body: &[u8]) {
        if body.is_empty() {
            // It names nobody, and the trunk counts what concerns the link.
            self.counters.malformed_down += 1;
            return;
        }
        self.hand_down(self.shard_of(body), body);
    }

    /// Queues a frame for this shard.
    fn hand_down(&mut self, shard: ShardId, body: &[u8]) {
        let Some(branch) = self.branch_mut(shard) else {
            return;
        };
        if branch.state != BranchState::Gone {
            branch.queue.push_body(body);
            branch.sealed.seal_full(&mut branch.queue);
        } else {
            self.keep_late(shard, body);
        }
    }

    /// Says that the sessions of the shards will be saved at the end, like [`Edge::keep_sessions`]: frames of the backend that come when their
    /// shard has ended are kept, up to 64 MiB.
    pub fn keep_sessions(&mut self) {
        self.keeps_late = true;
    }

    /// Returns whether it keeps them.
    #[must_use]
    pub fn keeps_sessions(&self) -> bool {
        self.keeps_late
    }

    /// Goes on with the counts of another process (SPEC 39.4(d)), like [`Edge::restore`]. To be called before the first link.
    pub fn restore(&mut self, now: Time, snapshot: &Snapshot) {
        let now = self.advance(now);
        let contents = snapshot.contents();
        if self.hold.may_be_version_3()
            && let Some(saved) = contents.counts_of(self.grid(), self.number())
        {
            self.hold.decide();
            self.counts = Some(Box::new(Counts::after(now, contents.run, saved)));
        }
    }

    /// Returns how many shards each backend has.
    fn grid(&self) -> Grid {
        #[cfg(feature = "backends")]
        let backends = self.share.as_ref().map_or(1, TrunkShare::backends);
        #[cfg(not(feature = "backends"))]
        let backends = 1;
        Grid {
            backends,
            each: u8::try_from(self.branches.len()).unwrap_or(u8::MAX),
        }
    }

    /// Returns the number of its backend.
    fn number(&self) -> u8 {
        self.grid().backend_of(self.first)
    }

    /// Begins its part of a snapshot.
    fn begin_part(&self, out: &mut Vec<u8>) {
        match self.number() {
            0 => out.push(OF_TRUNK),
            backend => out.extend_from_slice(&[OF_ANOTHER_TRUNK, backend]),
        }
    }

    /// Saves what waits here, and the counts of the link, like [`Edge::save`] (SPEC 39.1). To be called once, when its link is closed.
    pub fn save(&mut self, now: Time) -> Part {
        self.handle_link_closed(now, Closed::Asked);
        let waiting = 2 * self.queue.held_bytes() + 2 * self.late_bytes;
        let mut out = Zeroizing::new(Vec::with_capacity(64 + waiting + 8 * self.late.len()));
        let batches = self.queue.take_all();
        let bodies = || batches.iter().flat_map(Batch::bodies);
        self.begin_part(&mut out);
        put_count(&mut out, bodies().count());
        bodies().for_each(|(body, _)| put_bytes(&mut out, body));
        put_count(&mut out, self.late.len());
        for (shard, body) in core::mem::take(&mut self.late) {
            out.push(shard.as_u8());
            put_bytes(&mut out, &body);
        }
        if let Some(counts) = &self.counts {
            counts.save(&mut out);
        }
        Part(out)
    }

    // ---- time and the end

    /// Like [`Edge::poll_timeout`](crate::edge::Edge::poll_timeout).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let shutdown = self.shutdown_at.filter(|&at| at > self.now);
        let shutdown = shutdown.map(|at| Deadline {
            at,
            reason: DeadlineReason::Shutdown,
        });
        let deadlines = [self.link.deadline(), self.granted_deadline(), shutdown];
        deadlines.into_iter().flatten().min_by_key(|due| due.at)
    }

    /// Like [`Edge::handle_timeout`](crate::edge::Edge::handle_timeout).
    pub fn handle_timeout(&mut self, now: Time) {
        let now = self.advance(now);
        self.link.handle_timeout(now);
        if self.hold.may_be_version_3() {
            self.handle_granted_timeout(now);
        }
        self.tell_link();
    }

    /// Changes the configuration in this step (SPEC 10.8): the pauses and the longest frame.
    pub fn handle_config(&mut self, now: Time, config: &MasterConfig) {
        self.advance(now);
        self.link.set_bounds(config);
    }

    /// Begins a shutdown. The shards end separately, and their output until then is handed over, `within` at most.
    pub fn handle_shutdown(&mut self, now: Time, within: Duration) {
        let now = self.advance(now);
        self.shutdown_at.get_or_insert(now + within);
    }

    /// Returns whether a shutdown was requested, all shards have ended and their output is handed over; or its time is up.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        let gone = |branch: &Branch| branch.state == BranchState::Gone;
        self.shutdown_at.is_some_and(|at| {
            at <= self.now || (self.queue.is_empty() && self.branches.iter().all(gone))
        })
    }

    /// Returns the counters since the start: those of the link. All others are 0.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Returns the gauges: what waits here. All others are 0.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        Gauges {
            link_packets: self.queue.packets(),
            link_bytes: self.queue.held_bytes(),
            held_bytes: self.held_bytes(),
            link_is_up: self.link.is_up() && !self.hold.is_held(),
            link_is_doubted: self.link.is_doubted(),
            link_is_unasked: self.hold.is_unasked(),
            link_is_unproven: self.link.proving.is_refused(),
            #[cfg(feature = "cluster")]
            link_is_displaced: self.link.proving.is_displaced(),
            ..Gauges::default()
        }
    }

    /// Returns the bytes that wait here.
    fn held_bytes(&self) -> usize {
        let for_shards: usize = self.branches.iter().map(Branch::held_bytes).sum();
        let for_backend = self.queue.held_bytes() + self.announcements.held_bytes();
        for_shards + for_backend + self.link.reader.buffered_bytes()
    }

    /// Tells the shards of other backends whether this one is up: it has a link, which is one to a backend as far as is known (SPEC 45.3(b)).
    #[cfg(feature = "backends")]
    fn tell_link(&self) {
        let is_up = self.link.is_up() && !self.hold.is_held() && !self.link.is_doubted();
        if let Some(share) = &self.share {
            share.tell_link(is_up);
        }
    }

    #[cfg(not(feature = "backends"))]
    #[expect(clippy::unused_self, reason = "as if there could be another one")]
    fn tell_link(&self) {}

    /// Adds the bytes that wait here to the memory of all (SPEC 10.5).
    fn settle(&mut self) {
        let held_bytes = self.held_bytes();
        if let Some(share) = &mut self.share {
            share.settle(held_bytes);
        }
    }

    fn branch(&self, shard: ShardId) -> Option<&Branch> {
        self.branches.get(usize::from(shard.as_u8()))
    }

    fn branch_mut(&mut self, shard: ShardId) -> Option<&mut Branch> {
        self.branches.get_mut(usize::from(shard.as_u8()))
    }

    fn state(&self, shard: ShardId) -> BranchState {
        self.branch(shard)
            .map_or(BranchState::Gone, |branch| branch.state)
    }

    /// Time never goes back.
    fn advance(&mut self, now: Time) -> Time {
        self.now = self.now.max(now);
        self.now
    }
}

/// Returns what draws one seed after the other.
fn seeds(seed: [u8; 32]) -> impl FnMut() -> [u8; 32] {
    let mut rng = ChaCha20Rng::from_seed(seed);
    move || {
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        seed
    }
}

/// Creates the shards of a process.
fn siblings(
    config: &EdgeConfig,
    keys: &KeyPair,
    shards: u8,
    mut draw: impl FnMut() -> [u8; 32],
) -> Vec<Edge> {
    let mut edges: Vec<Edge> = Vec::with_capacity(usize::from(shards));
    for shard in 0..shards {
        let config = config.for_shard(ShardId::new(shard), shards);
        let edge = match edges.first() {
            None => Edge::new(config, keys.clone(), draw()),
            Some(first) => Edge::sibling_of(first, config, draw()),
        };
        edges.push(edge);
    }
    edges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_for_shards_that_have_ended_has_a_bound() {
        const PART_BYTES: usize = 8 << 20;
        let shards = NonZeroU8::MIN;
        let mut trunk = Trunk::new(&MasterConfig::default(), shards, [3; 32]);
        let shard = ShardId::new(0);
        trunk.handle_branch_gone(Time::ZERO, shard);
        trunk.hand_down(shard, b"nothing is saved");
        assert_eq!(trunk.late.len(), 0);
        trunk.keep_sessions();
        let part = vec![0; PART_BYTES];
        let parts = LATE_BYTES / PART_BYTES;
        for _ in 1..parts {
            trunk.hand_down(shard, &part);
        }
        trunk.hand_down(shard, &[&part[..], b"."].concat());
        assert_eq!(trunk.late.len(), parts - 1, "one byte too many");
        trunk.hand_down(shard, &part);
        assert_eq!((trunk.late.len(), trunk.late_bytes), (parts, LATE_BYTES));
        trunk.hand_down(shard, b".");
        assert_eq!(trunk.late.len(), parts);
    }
}
