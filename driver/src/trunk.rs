//! The driver of a trunk, which has the one link to the backend and a branch to each shard (SPEC 9.9).

use std::future::Future;
use std::net::SocketAddr;
#[cfg(all(feature = "upgrade", unix))]
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use voltlane_core::edge::trunk::Trunk;
#[cfg(all(feature = "upgrade", unix))]
use voltlane_core::edge::trunk::{MovingTrunk, Upward};
use voltlane_core::edge::{Histogram, MasterConfig, Part};
use voltlane_core::{ShardId, Time};

use crate::branch::{BranchConnector, Counter, TrunkEnd};
use crate::exchange::Gone;
use crate::handle::Handle;
use crate::link::Link;
use crate::turn::{LINK, Side, Turns};
#[cfg(all(feature = "upgrade", unix))]
use crate::uplink::Carrier;
use crate::waker::{ReadyList, SourceWaker, Token};
use crate::{Connector, Timer};

/// Batches taken from one shard per turn: what accumulated while the trunk was busy.
const TAKEN_PER_TURN: usize = 4;

/// The trunk's side of one shard.
struct Branch {
    shard: ShardId,
    counter: Arc<Counter>,
    source: Arc<SourceWaker>,
    waker: Waker,
    end: Option<TrunkEnd>,
    /// Whether the trunk has closed its direction.
    ended: bool,
    /// Whether something may be taken. If not, it waits for its waker.
    takes: bool,
    /// Whether there may be room. If not, it waits for its waker.
    gives: bool,
    /// Whether the shard may have connected or ended since the last check.
    woken: bool,
    /// Whether the shard has closed its branch, and the machine is to be told in the next turn.
    closed: bool,
    gone: bool,
}

impl Branch {
    fn new(shard: ShardId, ready: &Arc<ReadyList>) -> Self {
        let source = SourceWaker::new(Token::from(shard.as_u8()), ready);
        let waker = Waker::from(Arc::clone(&source));
        Branch {
            shard,
            counter: Counter::new(waker.clone()),
            source,
            waker,
            end: None,
            ended: false,
            takes: false,
            gives: false,
            woken: false,
            closed: false,
            gone: false,
        }
    }

    /// Gives the shard its branch before it connects: that goes on.
    #[cfg(feature = "upgrade")]
    fn begin(&mut self) {
        let (end, _) = self.counter.lock().give();
        self.end = Some(end);
        self.takes = true;
        self.gives = true;
        self.woken = true;
    }

    fn handle_woken(&mut self) {
        self.source.serve();
        self.takes = true;
        self.gives = true;
        self.woken = true;
    }

    /// Gives the shard its branch when it connects and may have one, and detects its end.
    fn drive(&mut self, trunk: &mut Trunk, now: Time) {
        if self.end.is_some() || self.closed || self.gone {
            return;
        }
        let mut slot = self.counter.lock();
        if slot.gone {
            self.gone = true;
            drop(slot);
            trunk.handle_branch_gone(now, self.shard);
        } else if slot.asks() && trunk.branch_accepts(self.shard) {
            let (end, asker) = slot.give();
            drop(slot);
            self.end = Some(end);
            self.ended = false;
            self.takes = true;
            self.gives = true;
            trunk.handle_branch_opened(now, self.shard);
            if let Some(asker) = asker {
                asker.wake();
            }
        }
    }

    /// Takes what the shard handed up, while the trunk wants it.
    fn read(&mut self, trunk: &mut Trunk, now: Time) {
        if std::mem::take(&mut self.closed) {
            trunk.handle_branch_closed(now, self.shard);
            self.woken = true;
        }
        for _ in 0..TAKEN_PER_TURN {
            let Some(end) = &mut self.end else {
                return;
            };
            if !self.takes || !trunk.branch_takes(self.shard) {
                return;
            }
            match end.poll_take(&mut Context::from_waker(&self.waker)) {
                Poll::Pending => {
                    self.takes = false;
                    trunk.handle_branch_idle(now, self.shard);
                }
                Poll::Ready(Some(input)) => {
                    trunk.handle_branch_input(now, self.shard, input);
                    if let Some(spare) = trunk.take_spare() {
                        end.give_back(spare);
                    }
                }
                Poll::Ready(None) => {
                    // A shutdown is requested here before it is at the shards, perhaps after this turn began. Before the machine is told
                    // that a shard has closed its branch, it must know whether that is why: otherwise it resets the link.
                    self.end = None;
                    self.closed = true;
                }
            }
        }
    }

    /// Hands down the backend's output for the shard, and closes the branch when the trunk wants that.
    fn write(&mut self, trunk: &mut Trunk, now: Time) {
        let Some(end) = &mut self.end else {
            return;
        };
        while self.gives && trunk.branch_has_output(self.shard) {
            match end.poll_room(&mut Context::from_waker(&self.waker)) {
                Poll::Pending => self.gives = false,
                Poll::Ready(Err(Gone)) => {
                    self.gives = false;
                    // The shard dropped its branch. Its end is taken next.
                    self.takes = true;
                }
                Poll::Ready(Ok(())) => {
                    end.hand_over(|spare| trunk.take_branch_output(now, self.shard, spare));
                }
            }
        }
        if trunk.branch_wants_close(self.shard) && !self.ended {
            self.ended = true;
            self.takes = true;
            end.close();
        }
    }

    /// Returns whether another turn would make progress without a wake.
    fn has_work(&self, trunk: &Trunk) -> bool {
        if self.end.is_none() {
            return self.woken || self.closed;
        }
        let takes = self.takes && trunk.branch_takes(self.shard);
        let gives = self.gives && trunk.branch_has_output(self.shard);
        takes || gives || (trunk.branch_wants_close(self.shard) && !self.ended)
    }
}

/// Drives a [`Trunk`]: keeps the link to the backend, and moves batches between it and the shards.
///
/// It is a future, and ends after [`TrunkHandle::shutdown`]. Like [`EdgeDriver`](crate::EdgeDriver) it decides nothing. Each turn reads
/// every shard, beginning with another one each time, and the backend. Then it writes to the backend and to each shard.
pub struct TrunkDriver<C: Connector, T: Timer>(Turns<Shards, Link<C>, T>);

/// Asks a [`TrunkDriver`] to shut down once all shards have ended, or to change its configuration.
///
/// The shards are asked to shut down separately, and after the trunk. A shard that ends before the trunk is asked costs the link.
pub type TrunkHandle = Handle<MasterConfig>;

impl<C: Connector, T: Timer> TrunkDriver<C, T> {
    /// Creates a driver of `trunk` for the backend at the other end of `connector`, and the connectors of its shards, the first for shard
    /// 0.
    pub fn new(trunk: Trunk, connector: C, timer: T) -> (Self, Vec<BranchConnector>) {
        let ready = Arc::<ReadyList>::default();
        let branches = (0..u8::MAX).take(trunk.shards()).map(ShardId::new);
        let branches: Vec<Branch> = branches
            .map(|shard| {
                #[cfg_attr(
                    not(feature = "upgrade"),
                    expect(unused_mut, reason = "no branch goes on")
                )]
                let mut branch = Branch::new(shard, &ready);
                #[cfg(feature = "upgrade")]
                if trunk.branch_goes_on(shard) {
                    branch.begin();
                }
                branch
            })
            .collect();
        let connectors = branches
            .iter()
            .map(|branch| BranchConnector::new(&branch.counter))
            .collect();
        let shards = Shards {
            trunk,
            branches,
            first: 0,
        };
        let link = Link::new(connector, LINK, &ready);
        let driver = TrunkDriver(Turns::new(shards, ready, link, timer));
        (driver, connectors)
    }

    /// Refuses a link that leads to one of these addresses, at which this process listens: those of the shards, and others.
    #[must_use]
    pub fn refusing(mut self, own: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.0.refuse(own);
        self
    }

    /// Returns a handle to shut it down.
    #[must_use]
    pub fn handle(&self) -> TrunkHandle {
        self.0.handle()
    }

    /// Saves what waits in the machine, once this driver has ended (SPEC 39). The machine is to be told
    /// [before it is driven](Trunk::keep_sessions).
    pub fn save(&mut self) -> Part {
        let now = self.0.now();
        self.0.side_mut().trunk.save(now)
    }

    /// Saves what another process needs to go on with the link, while the drivers of all shards stand still. `moves_link`: its socket moves, if
    /// it can. Nothing changes here. (SPEC 41)
    #[cfg(all(feature = "upgrade", unix))]
    pub fn save_moving(&mut self, moves_link: bool) -> MovingTrunk {
        let now = self.0.now();
        let shards = self.0.side();
        let ends = shards.branches.iter().map(|branch| &branch.end);
        let up: Vec<Vec<Upward>> = ends
            .map(|end| end.as_ref().map_or_else(Vec::new, TrunkEnd::coming))
            .collect();
        let has_socket = moves_link && self.socket().is_some();
        shards.trunk.save_moving(now, &up, has_socket)
    }

    /// Returns the socket of the link, if it is up and nothing else.
    #[cfg(all(feature = "upgrade", unix))]
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        <Link<C> as Carrier<Trunk>>::socket(self.0.link())
    }

    /// Returns the machine, for its counters.
    #[must_use]
    pub fn trunk(&self) -> &Trunk {
        self.0.side().machine()
    }

    /// Returns how long its turns took that were followed at once by another: what came meanwhile has waited as long.
    #[must_use]
    pub fn turn_times(&self) -> &Histogram {
        self.0.times()
    }

    /// Returns how long packets for the backend waited, each time that the link took less than there was: the oldest of them waited as long.
    /// `None`: it has no link.
    #[cfg(feature = "figures")]
    #[must_use]
    pub fn link_waits(&self) -> Option<&Histogram> {
        self.0.link_waits()
    }
}

impl<C: Connector, T: Timer> Future for TrunkDriver<C, T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.get_mut().0.poll(cx)
    }
}

/// A trunk and its shards.
struct Shards {
    trunk: Trunk,
    branches: Vec<Branch>,
    /// The shard that is read first in the next turn.
    first: usize,
}

impl Side for Shards {
    type Machine = Trunk;
    type Config = MasterConfig;

    fn machine(&self) -> &Trunk {
        &self.trunk
    }

    fn machine_mut(&mut self) -> &mut Trunk {
        &mut self.trunk
    }

    fn handle_woken(&mut self, token: Token) {
        if let Some(branch) = self.branches.get_mut(token as usize) {
            branch.handle_woken();
        }
    }

    fn handle_config(&mut self, now: Time, config: MasterConfig) {
        self.trunk.handle_config(now, &config);
    }

    fn handle_shutdown(&mut self, now: Time, within: Duration) {
        self.trunk.handle_shutdown(now, within);
    }

    fn next_timeout(&self) -> Option<Time> {
        self.trunk.poll_timeout().map(|deadline| deadline.at)
    }

    fn handle_timeout(&mut self, now: Time) {
        self.trunk.handle_timeout(now);
    }

    fn next_deadline(&self) -> Option<Time> {
        None
    }

    fn read(&mut self, now: Time, _: &mut [u8]) {
        let shards = self.branches.len();
        for place in 0..shards {
            self.branches[(self.first + place) % shards].read(&mut self.trunk, now);
        }
        self.first = (self.first + 1) % shards.max(1);
    }

    fn admit(&mut self, _: Time, _: bool, _: &mut [u8]) {}

    fn write(&mut self, now: Time) {
        for branch in &mut self.branches {
            branch.woken = false;
            branch.drive(&mut self.trunk, now);
            branch.write(&mut self.trunk, now);
        }
    }

    /// Shards are never late: they share this machine's time.
    fn is_busy(&self) -> bool {
        false
    }

    fn has_work(&self) -> bool {
        let mut branches = self.branches.iter();
        branches.any(|branch| branch.has_work(&self.trunk))
    }

    fn has_newcomers(&self) -> bool {
        false
    }

    fn is_finished(&self) -> bool {
        self.trunk.is_finished()
    }

    fn close(&mut self, _: Time) {}

    #[cfg(feature = "snapshot")]
    fn keeps(&self) -> bool {
        self.trunk.keeps_sessions()
    }

    fn finish(&mut self, _: &mut [u8]) {}
}
