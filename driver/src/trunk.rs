//! The driver of a trunk: the one link to the backend, and a pipe to each shard's thread (SPEC 9.9).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use voltlane_core::edge::MasterConfig;
use voltlane_core::trunk::Trunk;
use voltlane_core::{ShardId, Time};

use crate::alarm::Alarm;
use crate::handle::{Handle, Requests};
use crate::io::{Channel, Read, Written};
use crate::late::CatchUp;
use crate::link::{Link, close_by};
use crate::pipe::Pipe;
use crate::waker::{ReadyList, SourceWaker, Token};
use crate::{Connect, Connector, Timer};

/// Bytes read at once, into the one buffer that all streams share.
const BUFFER_BYTES: usize = 64 * 1024;
/// Reads of one shard in one turn: what it collected while the trunk was busy.
const READS_PER_TURN: usize = 4;
/// Writes to one shard in one turn.
const WRITES_PER_TURN: usize = 4;
/// Turns before the task yields to others.
const TURNS_PER_POLL: usize = 4;

/// Tokens of what is not a shard, from the top down; shards' are their numbers.
const LINK: Token = Token::MAX;
const TIMER: Token = Token::MAX - 1;
const HANDLE: Token = Token::MAX - 2;

/// Where a shard asks for its stream to the trunk: the [`Connector`] of its [`EdgeDriver`](crate::EdgeDriver). An attempt lasts until
/// there is a backend. Dropping the connector says that the shard has ended.
pub struct BranchConnector(Arc<Counter>);

/// What is between a shard that asks and the trunk.
struct Counter {
    slot: Mutex<Slot>,
    /// The trunk's.
    waker: Waker,
}

#[derive(Default)]
struct Slot {
    /// An attempt is under way.
    asking: bool,
    /// The attempt's, if it waits.
    asker: Option<Waker>,
    /// What it gets.
    given: Option<Pipe>,
    /// Nobody asks any more.
    gone: bool,
}

impl Counter {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        // Every change is one assignment: the slot is whole wherever a panic may strike.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One attempt of a shard to get its stream.
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
    /// The trunk has ended its direction.
    ended: bool,
    /// A read may get on; else it waits for its waker.
    readable: bool,
    /// A write may get on; else it waits for its waker.
    writable: bool,
    /// Whether the shard may have asked or ended since it was looked at.
    woken: bool,
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
            gone: false,
        }
    }

    fn handle_woken(&mut self) {
        self.source.serve();
        self.readable = true;
        self.writable = true;
        self.woken = true;
    }

    /// Gives the shard its stream when it asks and may have one, and notices its end.
    fn drive(&mut self, trunk: &mut Trunk, now: Time) {
        if self.channel.is_some() || self.gone {
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

    /// Reads what the shard has for the backend, within the trunk's budget.
    fn read(&mut self, trunk: &mut Trunk, now: Time, buffer: &mut [u8]) {
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
                    self.channel = None;
                    trunk.handle_branch_closed(now, self.shard);
                    self.woken = true;
                }
            }
        }
    }

    /// Writes what the backend has for the shard, and ends the stream when the trunk wants that.
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
                // The shard drops its stream: its end is read next.
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

    /// Whether another turn would get on without being woken.
    fn has_work(&self, trunk: &Trunk) -> bool {
        let Some(channel) = &self.channel else {
            return self.woken;
        };
        let readable = self.readable && trunk.branch_read_budget(self.shard) > 0;
        let writable =
            self.writable && !channel.write_failed() && !trunk.branch_output(self.shard).is_empty();
        readable || writable || (trunk.branch_wants_close(self.shard) && !self.ended)
    }
}

/// Serves a [`Trunk`]: keeps the link to the backend, and moves batches between it and the shards' threads.
///
/// It is a future, to be run as one task of a thread of its own, and ends after [`TrunkHandle::shutdown`]. Like
/// [`EdgeDriver`](crate::EdgeDriver) it decides nothing. Each turn reads every shard, the first one another each time, and the backend,
/// then writes to the backend once and to each shard once.
pub struct TrunkDriver<C: Connector, T: Timer> {
    trunk: Trunk,
    link: Link<C>,
    branches: Vec<Branch>,
    /// The shard that is read first in the next turn.
    first: usize,
    alarm: Alarm<T>,
    catch_up: CatchUp,
    ready: Arc<ReadyList>,
    woken: Vec<Token>,
    handle: TrunkHandle,
    handle_source: Arc<SourceWaker>,
    /// An end was asked for, which may take until then.
    ends_by: Option<Time>,
    /// The trunk is finished; the link is closing until then.
    finishing: Option<Time>,
    buffer: Box<[u8]>,
}

/// Asks a [`TrunkDriver`] to end when all shards have ended, which are asked on their own, or to go on with another configuration.
pub type TrunkHandle = Handle<MasterConfig>;

impl<C: Connector, T: Timer> TrunkDriver<C, T> {
    /// A driver of `trunk` for the backend at the other end of `connector`, and what its shards dial with, the first for shard 0.
    pub fn new(trunk: Trunk, connector: C, timer: T) -> (Self, Vec<BranchConnector>) {
        let ready = Arc::<ReadyList>::default();
        let handle_source = SourceWaker::new(HANDLE, &ready);
        let branches: Vec<Branch> = (0..u8::MAX)
            .take(trunk.shards())
            .map(|number| Branch::new(ShardId::new(number), &ready))
            .collect();
        let connectors = branches
            .iter()
            .map(|branch| BranchConnector(Arc::clone(&branch.counter)))
            .collect();
        let driver = TrunkDriver {
            trunk,
            link: Link::new(connector, LINK, &ready),
            branches,
            first: 0,
            alarm: Alarm::new(timer, TIMER, &ready),
            catch_up: CatchUp::default(),
            handle: Handle::new(Waker::from(Arc::clone(&handle_source))),
            handle_source,
            ready,
            woken: Vec::new(),
            ends_by: None,
            finishing: None,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
        };
        (driver, connectors)
    }

    /// The way to end it.
    #[must_use]
    pub fn handle(&self) -> TrunkHandle {
        self.handle.clone()
    }

    /// The machine, for its counters.
    #[must_use]
    pub fn trunk(&self) -> &Trunk {
        &self.trunk
    }

    /// Takes note of what was woken.
    fn collect(&mut self, now: Time) {
        self.ready.take(&mut self.woken);
        for token in self.woken.drain(..) {
            match token {
                LINK => self.link.handle_woken(),
                TIMER => self.alarm.handle_woken(),
                HANDLE => {
                    self.handle_source.serve();
                    let Requests { config, shutdown } = self.handle.take();
                    if let Some(config) = config {
                        self.trunk.handle_config(now, &config);
                    }
                    if let Some(within) = shutdown {
                        self.ends_by.get_or_insert(now + within);
                        self.trunk.handle_shutdown(now, within);
                    }
                    self.handle.done();
                }
                shard => {
                    if let Some(branch) = self.branches.get_mut(shard as usize) {
                        branch.handle_woken();
                    }
                }
            }
        }
    }

    fn turn(&mut self, now: Time) {
        self.catch_up.notice(now, self.next_timeout());
        let shards = self.branches.len();
        for place in 0..shards {
            self.branches[(self.first + place) % shards].read(
                &mut self.trunk,
                now,
                &mut self.buffer,
            );
        }
        self.first = (self.first + 1) % shards.max(1);
        // Before anything is written: a link that has ended takes nothing with it.
        self.link.read(&mut self.trunk, now, &mut self.buffer);
        self.link.handle_time(&mut self.trunk, now);
        if self.next_timeout().is_some_and(|at| at <= now) && self.catch_up.is_over(now, false) {
            self.trunk.handle_timeout(now);
        }
        self.link.drive(&mut self.trunk, now);
        self.link.write(&mut self.trunk, now);
        for branch in &mut self.branches {
            branch.woken = false;
            branch.drive(&mut self.trunk, now);
            branch.write(&mut self.trunk, now);
        }
    }

    /// When the trunk wants to be told the time.
    fn next_timeout(&self) -> Option<Time> {
        self.trunk.poll_timeout().map(|deadline| deadline.at)
    }

    fn has_work(&self, now: Time) -> bool {
        self.finishing.is_none()
            && (self.link.has_work(&self.trunk, now)
                || self
                    .branches
                    .iter()
                    .any(|branch| branch.has_work(&self.trunk)))
    }

    /// Sets the alarm; ready if its time has come already.
    fn poll_alarm(&mut self) -> Poll<()> {
        let deadlines = [
            self.catch_up.put_off(self.next_timeout()),
            self.link.next_deadline(),
        ];
        // Once it is finished the trunk is asked nothing more, so what it would want in time does not count.
        self.alarm.poll_set(
            self.finishing
                .or_else(|| deadlines.into_iter().flatten().min()),
        )
    }

    /// Closes the link once the trunk is finished; ready when the backend has closed too, or has taken too long.
    fn poll_finish(&mut self, now: Time) -> Poll<()> {
        let ends_by = self.ends_by;
        let until = *self.finishing.get_or_insert_with(|| close_by(now, ends_by));
        if self.link.poll_finish(&mut self.buffer).is_pending() && now < until {
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

impl<C: Connector, T: Timer> Future for TrunkDriver<C, T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.ready.register(cx.waker());
        for _ in 0..TURNS_PER_POLL {
            let now = this.alarm.now();
            this.collect(now);
            if this.finishing.is_none() {
                this.turn(now);
            }
            let finishes = this.finishing.is_some() || this.trunk.is_finished();
            if finishes && this.poll_finish(now).is_ready() {
                return Poll::Ready(());
            }
            if !this.has_work(now) && this.poll_alarm().is_pending() {
                return Poll::Pending;
            }
        }
        // There is more to do, but others want their turn as well.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
