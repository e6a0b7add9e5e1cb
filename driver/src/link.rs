//! The one stream to the backend, of an edge or of a trunk: connects, reads and writes.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tracing::{debug, warn};
use voltlane_core::edge::Closed;
#[cfg(feature = "figures")]
use voltlane_core::edge::Histogram;
use voltlane_core::link::OwnAddresses;
use voltlane_core::{Time, edge::HasLink};

use crate::io::{Read, Written};
use crate::own::refuse_own;
use crate::uplink::Carrier;
use crate::uplink::sealed::Carried;
use crate::waker::{ReadyList, SourceWaker, Token};
use crate::watch::WatchedChannel;
use crate::{Connect, Connector, Stream as _};

/// Reads per turn. More wait for the next turn, after the clients have had theirs.
const READS_PER_TURN: usize = 4;
/// Writes per turn. The second and later ones happen only if the first took all of a longer output.
const WRITES_PER_TURN: usize = 4;

/// Rounds of reads per poll once the machine has finished and its sessions are saved.
#[cfg(feature = "snapshot")]
const READS_AT_END: usize = 16;

/// How long the backend may take to close the link once the machine has finished.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// This is part of the time for the whole shutdown, but may take at least this long in any case.
const CLOSE_AT_LEAST: Duration = Duration::from_millis(100);

/// Returns until when a machine that finishes `now` waits for the backend to close, if the whole shutdown may take until `ends_by`.
pub(crate) fn close_by(now: Time, ends_by: Option<Time>) -> Time {
    let ends_by = ends_by.map_or(Time::MAX, |ends_by| ends_by.max(now + CLOSE_AT_LEAST));
    ends_by.min(now + CLOSE_WITHIN)
}

/// The state of the link.
enum State<S> {
    Down,
    Connecting(Connect<S>),
    Up(WatchedChannel<S>),
}

/// The link without any policy: the machine decides when to dial and when to give up.
#[expect(unnameable_types, reason = "it is part of a driver")]
pub struct Link<C: Connector> {
    connector: C,
    state: State<C::Stream>,
    source: Arc<SourceWaker>,
    waker: Waker,
    /// Whether a read or the connect attempt may proceed. If not, it waits for its waker.
    readable: bool,
    /// Whether a write may proceed. If not, it waits for its waker.
    writable: bool,
    /// Where no backend can be.
    own: OwnAddresses,
    /// Whether this outage was logged: its first failure is a warning, later ones are not.
    warned: bool,
    #[cfg(feature = "figures")]
    waits: Waits,
}

/// How long output waited, each time that the link took less than there was. The oldest packet of it waited as long.
#[cfg(feature = "figures")]
#[derive(Default)]
struct Waits {
    /// Since when some waits, even if the link was lost meanwhile.
    since: Option<Time>,
    times: Histogram,
}

#[cfg(feature = "figures")]
impl Waits {
    fn begin(&mut self, now: Time) {
        self.since.get_or_insert(now);
    }

    /// Handles that the link has taken all that there was.
    fn end(&mut self, now: Time) {
        if let Some(since) = self.since.take() {
            self.times.record(now.since(since));
        }
    }
}

impl<C: Connector> Link<C> {
    pub(crate) fn new(connector: C, token: Token, ready: &Arc<ReadyList>) -> Self {
        let source = SourceWaker::new(token, ready);
        let waker = Waker::from(Arc::clone(&source));
        Link {
            connector,
            state: State::Down,
            source,
            waker,
            readable: false,
            writable: false,
            own: OwnAddresses::default(),
            warned: false,
            #[cfg(feature = "figures")]
            waits: Waits::default(),
        }
    }

    fn tell_unreachable(&mut self, error: &dyn fmt::Display) {
        if std::mem::replace(&mut self.warned, true) {
            debug!(%error, "the backend cannot be reached");
        } else {
            warn!(%error, "the backend cannot be reached; still trying");
        }
    }

    fn lose(&mut self, machine: &mut impl HasLink, now: Time, cause: Closed) {
        if let State::Up(channel) = &self.state
            && let Some(words) = channel.stream().parting_words()
        {
            warn!(words, "the link to the backend has ended");
        }
        self.state = State::Down;
        machine.handle_link_closed(now, cause);
    }
}

impl<C: Connector> Carried for C {
    type Carrier = Link<C>;

    #[expect(private_interfaces, reason = "it is called in this crate alone")]
    fn carrier(self, token: Token, ready: &Arc<ReadyList>) -> Link<C> {
        Link::new(self, token, ready)
    }
}

impl<C: Connector, M: HasLink> Carrier<M> for Link<C> {
    fn refuse(&mut self, own: impl IntoIterator<Item = SocketAddr>) {
        self.own.extend(own);
    }

    fn handle_woken(&mut self) {
        self.source.serve();
        self.readable = true;
        self.writable = true;
    }

    fn has_work(&self, machine: &M, now: Time) -> bool {
        match &self.state {
            State::Down => machine.link_wants_connect(now),
            State::Connecting(_) => self.readable || machine.link_wants_close(),
            State::Up(channel) => {
                (self.readable && machine.link_read_budget() > 0)
                    || (self.writable
                        && !channel.write_failed()
                        && machine.link_output().iter().any(|part| !part.is_empty()))
                    || machine.link_wants_close()
            }
        }
    }

    fn drive(&mut self, machine: &mut M, now: Time) {
        if machine.link_wants_close() && !matches!(self.state, State::Down) {
            match std::mem::replace(&mut self.state, State::Down) {
                State::Up(channel) => channel.abort(),
                State::Connecting(_) => self.tell_unreachable(&"no answer in time"),
                State::Down => {}
            }
            machine.handle_link_closed(now, Closed::Asked);
        }
        if matches!(self.state, State::Down) && machine.link_wants_connect(now) {
            machine.handle_link_connecting(now);
            self.state = State::Connecting(self.connector.connect());
            self.readable = true;
        }
        if let State::Connecting(attempt) = &mut self.state
            && self.readable
        {
            let polled = attempt.as_mut().poll(&mut Context::from_waker(&self.waker));
            match polled.map(|connected| refuse_own(&self.own, connected?)) {
                Poll::Pending => self.readable = false,
                Poll::Ready(Ok(stream)) => {
                    self.state = State::Up(WatchedChannel::new(stream));
                    self.readable = true;
                    self.writable = true;
                    self.warned = false;
                    machine.handle_link_connected(now);
                }
                Poll::Ready(Err(error)) => {
                    self.state = State::Down;
                    self.tell_unreachable(&error);
                    machine.handle_link_closed(now, Closed::Error);
                }
            }
        }
    }

    fn read(&mut self, machine: &mut M, now: Time, buffer: &mut [u8]) {
        for _ in 0..READS_PER_TURN {
            let State::Up(channel) = &mut self.state else {
                return;
            };
            let budget = machine.link_read_budget().min(buffer.len());
            if !self.readable || budget == 0 {
                return;
            }
            match channel.read(&mut Context::from_waker(&self.waker), &mut buffer[..budget]) {
                Read::Blocked => self.readable = false,
                Read::Bytes(bytes) => machine.handle_link_bytes(now, &buffer[..bytes]),
                Read::Eof => self.lose(machine, now, Closed::Eof),
                Read::Failed | Read::Answered => self.lose(machine, now, Closed::Error),
            }
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        match &self.state {
            State::Up(channel) => channel.next_look(),
            State::Down | State::Connecting(_) => None,
        }
    }

    fn handle_time(&mut self, machine: &mut M, now: Time) {
        if let State::Up(channel) = &mut self.state
            && channel.is_given_up(now)
        {
            if let State::Up(channel) = std::mem::replace(&mut self.state, State::Down) {
                channel.abort();
            }
            machine.handle_link_closed(now, Closed::Error);
        }
    }

    fn write(&mut self, machine: &mut M, now: Time) {
        for _ in 0..WRITES_PER_TURN {
            let State::Up(channel) = &mut self.state else {
                return;
            };
            if !self.writable {
                return;
            }
            match channel.write(
                &mut Context::from_waker(&self.waker),
                now,
                machine.link_output(),
            ) {
                Written::Nothing => {
                    // What a transport holds waits for the waker, which asks for another write.
                    if channel.holds(&mut Context::from_waker(&self.waker)) {
                        self.writable = false;
                    } else if channel.write_failed() {
                        self.readable = true;
                    } else {
                        #[cfg(feature = "figures")]
                        self.waits.end(now);
                    }
                    return;
                }
                Written::Blocked => {
                    self.writable = false;
                    #[cfg(feature = "figures")]
                    self.waits.begin(now);
                }
                Written::Bytes(bytes) => machine.handle_link_written(now, bytes),
                Written::Failed => self.readable = true,
            }
        }
    }

    fn poll_finish(&mut self, buffer: &mut [u8]) -> Poll<()> {
        let State::Up(channel) = &mut self.state else {
            return Poll::Ready(());
        };
        channel.poll_finish(&mut Context::from_waker(&self.waker), buffer)
    }

    #[cfg(feature = "figures")]
    fn waits(&self) -> Option<&Histogram> {
        Some(&self.waits.times)
    }

    #[cfg(all(feature = "upgrade", unix))]
    fn socket(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        match &self.state {
            State::Up(channel) if !channel.write_failed() => channel.stream().socket(),
            _ => None,
        }
    }

    #[cfg(feature = "snapshot")]
    fn poll_finish_keeping(&mut self, machine: &mut M, now: Time, buffer: &mut [u8]) -> Poll<()> {
        for _ in 0..READS_AT_END {
            if self.readable && machine.link_read_budget() > 0 {
                self.read(machine, now, buffer);
            }
        }
        let State::Up(channel) = &mut self.state else {
            return Poll::Ready(());
        };
        channel.end_sending(&mut Context::from_waker(&self.waker));
        if self.readable && machine.link_read_budget() > 0 {
            self.waker.wake_by_ref();
        }
        Poll::Pending
    }
}
