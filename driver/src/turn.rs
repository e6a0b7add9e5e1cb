//! The loop of both drivers: a machine with a link to the backend, in turns with a fixed order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use voltlane_core::Time;
use voltlane_core::edge::Histogram;

use crate::Timer;
use crate::alarm::Alarm;
use crate::catch_up::CatchUp;
use crate::handle::{Handle, Requests};
use crate::link::close_by;
use crate::uplink::Carrier;
use crate::waker::{ReadyList, SourceWaker, Token};

/// Maximum bytes per read, into the one buffer that all streams share.
const BUFFER_BYTES: usize = 64 * 1024;
/// The allocated size of that buffer. glibc gives a block of 128 KiB or more a mapping of its own, whose pages take no memory until a read
/// fills them. A smaller block may be a part of the heap, which glibc zeroes, and then all of it is resident.
const MAPPED_BYTES: usize = 128 * 1024;
/// Turns per poll before the task yields to others.
const TURNS_PER_POLL: usize = 4;

/// Tokens of the sources that every loop has, from the top down. A side's own sources are [`OWN`] and below; clients and shards are dense,
/// from 0 up.
pub(crate) const LINK: Token = Token::MAX;
const TIMER: Token = Token::MAX - 1;
const HANDLE: Token = Token::MAX - 2;
/// The highest token of a side.
pub(crate) const OWN: Token = Token::MAX - 3;

/// A machine with a link, and everything that is served for it apart from the link: clients for an edge, shards for a trunk.
pub(crate) trait Side {
    /// The machine.
    type Machine;
    /// The type of its configuration.
    type Config;

    fn machine(&self) -> &Self::Machine;
    fn machine_mut(&mut self) -> &mut Self::Machine;

    /// Handles that a source of this side was woken.
    fn handle_woken(&mut self, token: Token);
    /// Returns whether it was woken to do what may need a configuration that was requested before.
    fn needs_config(&self) -> bool {
        false
    }
    /// Handles another configuration for the machine.
    fn handle_config(&mut self, now: Time, config: Self::Config);
    /// Handles a request to have all clients leave within the time.
    fn handle_leaving(&mut self, _now: Time, _within: Duration) {}
    /// Handles a request to shut down within the time.
    fn handle_shutdown(&mut self, now: Time, within: Duration);

    /// Returns when the machine wants to be told the time.
    fn next_timeout(&self) -> Option<Time>;
    /// Tells the machine the time.
    fn handle_timeout(&mut self, now: Time);
    /// Returns when this side has something to do apart from the machine.
    fn next_deadline(&self) -> Option<Time>;

    /// The first part of a turn: reads what is ready into the machine. The link is read next.
    fn read(&mut self, now: Time, buffer: &mut [u8]);
    /// The second part: handles this side's deadlines, and newcomers. `first` tells whether it is the first turn of a poll. The link is
    /// then dialled or dropped, and written to.
    fn admit(&mut self, now: Time, first: bool, buffer: &mut [u8]);
    /// The third part: writes the machine's output, and closes what it wants closed.
    fn write(&mut self, now: Time);

    /// Returns whether streams wait to be read.
    fn is_busy(&self) -> bool;
    /// Returns whether another turn would make progress without a wake.
    fn has_work(&self) -> bool;
    /// Returns whether newcomers may be waiting, which the next poll admits.
    fn has_newcomers(&self) -> bool;

    /// Returns whether the machine has finished.
    fn is_finished(&self) -> bool;
    /// Closes everything, since the machine has finished. The link is closed next.
    fn close(&mut self, now: Time);
    /// Returns whether sessions will be saved, so that what still comes of the backend counts.
    #[cfg(feature = "snapshot")]
    fn keeps(&self) -> bool;
    /// Returns whether a transport still holds bytes for a peer, once everything is closed.
    fn holds(&self) -> bool {
        false
    }
    /// Handles that the link is closed, too.
    fn finish(&mut self, buffer: &mut [u8]);
}

/// A [`Side`] and its link.
///
/// One turn does the following. What is ready is read into the machine, then the link is, so that a link that has ended takes nothing with
/// it. Time is handled, half a second later if the process was suspended. Newcomers are admitted. The link is dialled or dropped, and
/// written to once for everything that arrived. Finally the machine's other output is written.
pub(crate) struct Turns<S: Side, U: Carrier<S::Machine>, T: Timer> {
    side: S,
    link: U,
    alarm: Alarm<T>,
    catch_up: CatchUp,
    ready: Arc<ReadyList>,
    /// Reused by [`Turns::collect`].
    woken: Vec<Token>,
    handle: Handle<S::Config>,
    handle_source: Arc<SourceWaker>,
    /// When the requested shutdown must be complete.
    ends_by: Option<Time>,
    /// Set once the machine has finished.
    finishing: Option<Finishing>,
    buffer: Buffer,
    /// How long turns took that were followed at once by another. The others are not timed: that would take another look at the clock.
    times: Histogram,
    /// When the last turn began, if it was one of these.
    before: Option<Time>,
}

/// The buffer that all reads share.
struct Buffer(Box<[u8]>);

impl Buffer {
    fn new() -> Self {
        Buffer(vec![0; MAPPED_BYTES].into_boxed_slice())
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.0[..BUFFER_BYTES]
    }
}

/// Until when the end waits for what.
#[derive(Clone, Copy)]
struct Finishing {
    /// For the backend to close.
    link: Time,
    /// For bytes that a side's transports hold: for as long as the shutdown may take.
    side: Time,
}

impl<S: Side, U: Carrier<S::Machine>, T: Timer> Turns<S, U, T> {
    /// Creates a loop. The sources of `side` put their tokens on `ready`, and `link` puts [`LINK`] there.
    pub(crate) fn new(side: S, ready: Arc<ReadyList>, link: U, timer: T) -> Self {
        let handle_source = SourceWaker::new(HANDLE, &ready);
        Turns {
            side,
            link,
            alarm: Alarm::new(timer, TIMER, &ready),
            catch_up: CatchUp::default(),
            woken: Vec::new(),
            handle: Handle::new(Waker::from(Arc::clone(&handle_source))),
            handle_source,
            ready,
            ends_by: None,
            finishing: None,
            buffer: Buffer::new(),
            times: Histogram::default(),
            before: None,
        }
    }

    pub(crate) fn handle(&self) -> Handle<S::Config> {
        self.handle.clone()
    }

    /// Returns the time.
    pub(crate) fn now(&mut self) -> Time {
        self.alarm.now()
    }

    /// Returns how long turns took that were followed at once by another.
    pub(crate) fn times(&self) -> &Histogram {
        &self.times
    }

    /// Returns how long the link's output waited, each time that it did.
    #[cfg(feature = "figures")]
    pub(crate) fn link_waits(&self) -> Option<&Histogram> {
        self.link.waits()
    }

    #[cfg(all(feature = "upgrade", unix))]
    pub(crate) fn link(&self) -> &U {
        &self.link
    }

    pub(crate) fn side(&self) -> &S {
        &self.side
    }

    pub(crate) fn side_mut(&mut self) -> &mut S {
        &mut self.side
    }

    /// Refuses links to these addresses, at which this process listens.
    pub(crate) fn refuse(&mut self, own: impl IntoIterator<Item = SocketAddr>) {
        self.link.refuse(own);
    }

    /// Takes turns while there is something to do. Ready once the machine has finished and its link is closed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.ready.register(cx.waker());
        for turn in 0..TURNS_PER_POLL {
            let now = self.alarm.now();
            if let Some(before) = self.before.take() {
                self.times.record(now.since(before));
            }
            self.collect(now);
            if self.finishing.is_none() {
                self.turn(now, turn == 0);
            }
            // Streams that are closed may leave notices for the backend. These make nothing unfinished again.
            let finishes = self.finishing.is_some() || self.side.is_finished();
            if finishes && self.poll_finish(now).is_ready() {
                return Poll::Ready(());
            }
            if !self.has_work(now) {
                if self.side.has_newcomers() {
                    self.before = Some(now);
                    break;
                }
                if self.poll_alarm().is_pending() {
                    return Poll::Pending;
                }
            }
            self.before = Some(now);
        }
        // There is more to do, but other tasks need their turn as well.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Collects what was woken.
    fn collect(&mut self, now: Time) {
        self.ready.take(&mut self.woken);
        let mut woken = std::mem::take(&mut self.woken);
        for token in woken.drain(..) {
            match token {
                LINK => self.link.handle_woken(),
                TIMER => self.alarm.handle_woken(),
                HANDLE => {
                    self.handle_source.serve();
                    self.handle_requests(now);
                }
                own => self.side.handle_woken(own),
            }
        }
        self.woken = woken;
        if self.side.needs_config() {
            // Another thread may have requested it after the tokens were taken.
            self.handle_requests(now);
        }
    }

    fn handle_requests(&mut self, now: Time) {
        let Requests {
            config,
            shutdown,
            leaving,
            own,
        } = self.handle.take();
        self.link.refuse(own);
        if let Some(config) = config {
            self.side.handle_config(now, *config);
        }
        if let Some(within) = leaving {
            self.side.handle_leaving(now, within);
        }
        if let Some(within) = shutdown {
            self.ends_by.get_or_insert(now + within);
            self.side.handle_shutdown(now, within);
        }
        self.handle.done();
    }

    fn turn(&mut self, now: Time, first: bool) {
        self.catch_up.notice(now, self.side.next_timeout());
        self.side.read(now, self.buffer.bytes());
        self.link
            .read(self.side.machine_mut(), now, self.buffer.bytes());
        self.link.handle_time(self.side.machine_mut(), now);
        if self.side.next_timeout().is_some_and(|at| at <= now)
            && self.catch_up.is_over(now, self.side.is_busy())
        {
            self.side.handle_timeout(now);
        }
        self.side.admit(now, first, self.buffer.bytes());
        self.link.drive(self.side.machine_mut(), now);
        self.link.write(self.side.machine_mut(), now);
        self.side.write(now);
    }

    /// Returns whether another turn would make progress without a wake, apart from newcomers.
    fn has_work(&self, now: Time) -> bool {
        self.finishing.is_none()
            && (self.side.has_work() || self.link.has_work(self.side.machine(), now))
    }

    /// Sets the alarm. Ready if its time has already come.
    fn poll_alarm(&mut self) -> Poll<()> {
        let finishes = self.finishing.map(|finishing| {
            // The wait ends with the later of the two. Whatever ends before its time wakes this task.
            let side = self.side.holds().then_some(finishing.side);
            side.map_or(finishing.link, |side| side.max(finishing.link))
        });
        let deadlines = [
            self.catch_up.put_off(self.side.next_timeout()),
            self.side.next_deadline(),
            self.link.next_deadline(),
        ];
        // A finished machine is not asked for anything, so its deadlines no longer count.
        self.alarm
            .poll_set(finishes.or_else(|| deadlines.into_iter().flatten().min()))
    }

    /// Closes everything once the machine has finished. Ready when the backend has closed, too, and nothing is held for clients, or when
    /// either has taken too long.
    fn poll_finish(&mut self, now: Time) -> Poll<()> {
        let finishing = match self.finishing {
            Some(finishing) => finishing,
            None => {
                self.side.close(now);
                *self.finishing.insert(Finishing {
                    link: close_by(now, self.ends_by),
                    side: self.ends_by.unwrap_or(now),
                })
            }
        };
        let buffer = self.buffer.bytes();
        #[cfg(feature = "snapshot")]
        let polled = match self.side.keeps() {
            true => self
                .link
                .poll_finish_keeping(self.side.machine_mut(), now, buffer),
            false => self.link.poll_finish(buffer),
        };
        #[cfg(not(feature = "snapshot"))]
        let polled = self.link.poll_finish(buffer);
        let link_waits = polled.is_pending();
        if link_waits && now < finishing.link || self.side.holds() && now < finishing.side {
            return Poll::Pending;
        }
        self.side.finish(self.buffer.bytes());
        Poll::Ready(())
    }
}
