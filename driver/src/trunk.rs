//! The driver of a trunk, which has the one link to the backend and a pipe to each shard (SPEC 9.9).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use voltlane_core::edge::MasterConfig;
use voltlane_core::edge::trunk::Trunk;
use voltlane_core::{ShardId, Time};

use crate::handle::Handle;
use crate::io::{Channel, Read, Written};
use crate::pipe::Pipe;
use crate::turn::{Side, Turns};
use crate::waker::{ReadyList, SourceWaker, Token};
use crate::{Connect, Connector, Timer};

/// Reads of one shard per turn: what accumulated while the trunk was busy.
const READS_PER_TURN: usize = 4;
/// Writes to one shard per turn.
const WRITES_PER_TURN: usize = 4;

/// The [`Connector`] of a shard's [`EdgeDriver`](crate::EdgeDriver), which connects to the trunk. An attempt lasts until there is a
/// backend. Dropping the connector means that the shard has ended.
pub struct BranchConnector(Arc<Counter>);

/// The state shared by a shard and the trunk while it connects.
struct Counter {
    slot: Mutex<Slot>,
    /// The trunk's waker.
    waker: Waker,
}

#[derive(Default)]
struct Slot {
    /// Whether an attempt is in progress.
    asking: bool,
    /// The waker of the attempt, if it waits.
    asker: Option<Waker>,
    /// The stream for the attempt.
    given: Option<Pipe>,
    /// Whether the connector was dropped.
    gone: bool,
}

impl Counter {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        // Every change is one assignment, so the slot is consistent even if something panics.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A shard's attempt to get its stream.
struct Asking(Arc<Counter>);

impl Future for Asking {
    type Output = io::Result<Pipe>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Pipe>> {
        let mut slot = self.0.lock();
        if let Some(pipe) = slot.given.take() {
            return Poll::Ready(Ok(pipe));
        }
        slot.asker = Some(cx.waker().clone());
        let is_new = !std::mem::replace(&mut slot.asking, true);
        drop(slot);
        if is_new {
            self.0.waker.wake_by_ref();
        }
        Poll::Pending
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut slot = self.0.lock();
        slot.asking = false;
        slot.asker = None;
        // A stream that was given meanwhile ends at once, which the trunk sees.
        slot.given = None;
    }
}

impl Connector for BranchConnector {
    type Stream = Pipe;

    fn connect(&mut self) -> Connect<Pipe> {
        Box::pin(Asking(Arc::clone(&self.0)))
    }
}

impl Drop for BranchConnector {
    fn drop(&mut self) {
        self.0.lock().gone = true;
        self.0.waker.wake_by_ref();
    }
}

/// The trunk's side of one shard.
struct Branch {
    shard: ShardId,
    counter: Arc<Counter>,
    source: Arc<SourceWaker>,
    waker: Waker,
    channel: Option<Channel<Pipe>>,
    /// Whether the trunk has closed its direction.
    ended: bool,
    /// Whether a read may proceed. If not, it waits for its waker.
    readable: bool,
    /// Whether a write may proceed. If not, it waits for its waker.
    writable: bool,
    /// Whether the shard may have connected or ended since the last check.
    woken: bool,
    /// Whether the shard has closed its stream, and the machine is to be told in the next turn.
    closed: bool,
    gone: bool,
}

impl Branch {
    fn new(shard: ShardId, ready: &Arc<ReadyList>) -> Self {
        let source = SourceWaker::new(Token::from(shard.as_u8()), ready);
        let waker = Waker::from(Arc::clone(&source));
        let counter = Counter {
            slot: Mutex::default(),
            waker: waker.clone(),
        };
        Branch {
            shard,
            counter: Arc::new(counter),
            source,
            waker,
            channel: None,
            ended: false,
            readable: false,
            writable: false,
            woken: false,
            closed: false,
            gone: false,
        }
    }

    fn handle_woken(&mut self) {
        self.source.serve();
        self.readable = true;
        self.writable = true;
        self.woken = true;
    }

    /// Gives the shard its stream when it connects and may have one, and detects its end.
    fn drive(&mut self, trunk: &mut Trunk, now: Time) {
        if self.channel.is_some() || self.closed || self.gone {
            return;
        }
        let mut slot = self.counter.lock();
        if slot.gone {
            self.gone = true;
            drop(slot);
            trunk.handle_branch_gone(now, self.shard);
        } else if slot.asking && trunk.branch_accepts(self.shard) {
            let (near, far) = Pipe::pair();
            slot.asking = false;
            slot.given = Some(far);
            let asker = slot.asker.take();
            drop(slot);
            self.channel = Some(Channel::new(near));
            self.ended = false;
            self.readable = true;
            self.writable = true;
            trunk.handle_branch_opened(now, self.shard);
            if let Some(asker) = asker {
                asker.wake();
            }
        }
    }

    /// Reads the shard's output for the backend, within the trunk's budget.
    fn read(&mut self, trunk: &mut Trunk, now: Time, buffer: &mut [u8]) {
        if std::mem::take(&mut self.closed) {
            trunk.handle_branch_closed(now, self.shard);
            self.woken = true;
        }
        for _ in 0..READS_PER_TURN {
            let Some(channel) = &mut self.channel else {
                return;
            };
            let budget = trunk.branch_read_budget(self.shard).min(buffer.len());
            if !self.readable || budget == 0 {
                return;
            }
            match channel.read(&mut Context::from_waker(&self.waker), &mut buffer[..budget]) {
                Read::Blocked => {
                    self.readable = false;
                    trunk.handle_branch_idle(now, self.shard);
                }
                Read::Bytes(bytes) => {
                    trunk.handle_branch_bytes(now, self.shard, &buffer[..bytes]);
                }
                Read::Eof | Read::Failed => {
                    // A shutdown is requested here before it is at the shards, perhaps after this turn began. Before the machine is told
                    // that a shard has closed its stream, it must know whether that is why: otherwise it resets the link.
                    self.channel = None;
                    self.closed = true;
                }
            }
        }
    }

    /// Writes the backend's output for the shard, and closes the stream when the trunk wants that.
    fn write(&mut self, trunk: &mut Trunk, now: Time) {
        for _ in 0..WRITES_PER_TURN {
            let Some(channel) = &mut self.channel else {
                return;
            };
            if !self.writable {
                break;
            }
            let output = [trunk.branch_output(self.shard), &[]];
            match channel.write(&mut Context::from_waker(&self.waker), output) {
                Written::Nothing => break,
                Written::Blocked => self.writable = false,
                Written::Bytes(bytes) => trunk.handle_branch_written(now, self.shard, bytes),
                // The shard dropped its stream; its end is read next.
                Written::Failed => self.readable = true,
            }
        }
        if trunk.branch_wants_close(self.shard)
            && !self.ended
            && let Some(channel) = &mut self.channel
        {
            self.ended = true;
            self.readable = true;
            channel.close(&mut Context::from_waker(&self.waker));
        }
    }

    /// Returns whether another turn would make progress without a wake.
    fn has_work(&self, trunk: &Trunk) -> bool {
        let Some(channel) = &self.channel else {
            return self.woken || self.closed;
        };
        let readable = self.readable && trunk.branch_read_budget(self.shard) > 0;
        let writable =
            self.writable && !channel.write_failed() && !trunk.branch_output(self.shard).is_empty();
        readable || writable || (trunk.branch_wants_close(self.shard) && !self.ended)
    }
}

/// Drives a [`Trunk`]: keeps the link to the backend, and moves batches between it and the shards.
///
/// It is a future, and ends after [`TrunkHandle::shutdown`]. Like [`EdgeDriver`](crate::EdgeDriver) it decides nothing. Each turn reads
/// every shard, beginning with another one each time, and the backend. Then it writes to the backend and to each shard.
pub struct TrunkDriver<C: Connector, T: Timer>(Turns<Shards, C, T>);

/// Asks a [`TrunkDriver`] to shut down once all shards have ended, or to change its configuration.
///
/// The shards are asked to shut down separately, and after the trunk. A shard that ends before the trunk is asked costs the link.
pub type TrunkHandle = Handle<MasterConfig>;

impl<C: Connector, T: Timer> TrunkDriver<C, T> {
    /// Creates a driver of `trunk` for the backend at the other end of `connector`, and the connectors of its shards, the first for shard
    /// 0.
    pub fn new(trunk: Trunk, connector: C, timer: T) -> (Self, Vec<BranchConnector>) {
        let ready = Arc::<ReadyList>::default();
        let branches: Vec<Branch> = (0..u8::MAX)
            .take(trunk.shards())
            .map(|number| Branch::new(ShardId::new(number), &ready))
            .collect();
        let connectors = branches
            .iter()
            .map(|branch| BranchConnector(Arc::clone(&branch.counter)))
            .collect();
        let shards = Shards {
            trunk,
            branches,
            first: 0,
        };
        let driver = TrunkDriver(Turns::new(shards, ready, connector, timer));
        (driver, connectors)
    }

    /// Returns a handle to shut it down.
    #[must_use]
    pub fn handle(&self) -> TrunkHandle {
        self.0.handle()
    }

    /// Returns the machine, for its counters.
    #[must_use]
    pub fn trunk(&self) -> &Trunk {
        self.0.side().machine()
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

    fn read(&mut self, now: Time, buffer: &mut [u8]) {
        let shards = self.branches.len();
        for place in 0..shards {
            self.branches[(self.first + place) % shards].read(&mut self.trunk, now, buffer);
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

    fn finish(&mut self, _: &mut [u8]) {}
}
