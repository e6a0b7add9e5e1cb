//! The backend library: one stream of packets, each with the id of its client.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::ops::Range;
use std::task::{Context, Poll};
use std::time::Duration;

use tracing::{debug, info, warn};
use voltlane_core::backend::{self as machine, Rivals};
use voltlane_core::{ClientId, Time};

pub use voltlane_core::backend::{BackendConfig, SendError};

use crate::accept::Acceptors;
use crate::inbox::Inbox;
use crate::io::{Read, Written};
use crate::watch::WatchedChannel;
use crate::weigh::Weigh;
use crate::{Listener, Timer};

/// Maximum bytes per read.
const BUFFER_BYTES: usize = 64 * 1024;
/// Steps per poll before the task yields to others.
const STEPS_PER_POLL: usize = 128;

/// An event of a [`Backend`] for its application.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// An edge connected. What the backend knows about its clients from an earlier link is still valid.
    EdgeConnected {
        /// The address that it connected from.
        address: SocketAddr,
    },
    /// The edge is gone. It keeps its clients, and packets sent to them wait for its next link.
    EdgeLost,
    /// A client sent a packet. The first packet of an id is the only sign of a new client.
    Packet {
        /// The client.
        id: ClientId,
        /// The client's bytes, unchanged; may be empty.
        data: Vec<u8>,
    },
    /// The client resumed its session.
    Resumed {
        /// The client.
        id: ClientId,
    },
    /// The session has ended, or never existed. Nothing more comes from the client, and its id is not used again.
    ///
    /// An id can fail more than once: the edge answers each packet and each kick for an unknown id with "unknown client". So every packet
    /// that was in flight when a session ended is answered like this.
    Failed {
        /// The client.
        id: ClientId,
        /// Why, for people and logs.
        reason: String,
    },
}

impl Weigh for Event {
    fn packet_bytes(&self) -> usize {
        match self {
            Event::Packet { data, .. } => data.len(),
            Event::Failed { reason, .. } => reason.len(),
            _ => 0,
        }
    }
}

/// The backend of one edge.
///
/// There is no background task: accepting, reading and writing happen inside [`recv`](Self::recv), [`send`](Self::send) and
/// [`flush`](Self::flush), so one of them, usually `recv`, should be awaited. All three are safe to cancel, as in a `select!`: a packet is
/// either queued or still the caller's, and an event is returned once.
///
/// One edge is served at a time. An edge that connects while a link is up replaces that link: an edge dials again only after it has given
/// up its last link, whether or not the backend has noticed. What had arrived on the old link is delivered first. So only the edge should
/// be able to reach a backend's port. The log names the replaced and the new edge, and warns if replacements continue: then there are two
/// edges.
pub struct Backend<L: Listener, T: Timer> {
    machine: machine::Backend,
    acceptors: Acceptors<L>,
    timer: T,
    link: Option<WatchedChannel<L::Stream>>,
    /// The address of the edge, and since when the link is up.
    peer: Option<(SocketAddr, Time)>,
    rivals: Rivals,
    /// An edge that waits until the link of its predecessor has been read.
    successor: Option<(L::Stream, SocketAddr)>,
    buffer: Box<[u8]>,
    /// The part of the buffer that the machine has not taken yet.
    unread: Range<usize>,
    /// Events that came while a send waited for room.
    inbox: Inbox<Event>,
}

impl<L: Listener, T: Timer + Default> Backend<L, T> {
    /// Creates a backend with the default bounds for the edge that connects to `listener`.
    #[must_use]
    pub fn new(listener: L) -> Self {
        Self::with_config(BackendConfig::default(), listener, T::default())
    }
}

impl<L: Listener, T: Timer> Backend<L, T> {
    /// Creates a backend with other bounds. The timer is for times when nothing can be accepted.
    #[must_use]
    pub fn with_config(config: BackendConfig, listener: L, timer: T) -> Self {
        Backend {
            machine: machine::Backend::new(config),
            acceptors: Acceptors::new(listener),
            timer,
            link: None,
            peer: None,
            rivals: Rivals::default(),
            successor: None,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            unread: 0..0,
            inbox: Inbox::new(),
        }
    }

    /// Adds another listener for the edge, as for a name with several addresses.
    #[must_use]
    pub fn listening_at(mut self, listener: L) -> Self {
        self.acceptors.push(listener);
        self
    }

    /// Waits for the next event. Writes queued packets meanwhile.
    pub async fn recv(&mut self) -> Event {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Polls for the next event, like [`recv`](Self::recv).
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        match self.inbox.pop() {
            Some(event) => Poll::Ready(event),
            None => self.poll_step(cx, true),
        }
    }

    /// Queues a packet for a client. Waits for room while the queue is full.
    ///
    /// Without an edge, packets wait in the queue. The next awaited call writes the queue, so that many packets leave in one write. If the
    /// session has ended meanwhile this is not an error: [`Event::Failed`] reports it, or has done so.
    ///
    /// # Errors
    /// [`SendError::TooLong`].
    pub async fn send(&mut self, id: ClientId, data: &[u8]) -> Result<(), SendError> {
        poll_fn(|cx| self.poll_queue(cx, |machine| machine.send(id, data))).await
    }

    /// Like [`send`](Self::send), but fails at once if the queue is full.
    ///
    /// # Errors
    /// [`SendError::TooLong`], [`SendError::QueueFull`].
    pub fn try_send(&mut self, id: ClientId, data: &[u8]) -> Result<(), SendError> {
        self.machine.send(id, data)
    }

    /// Kicks a client. Waits for room like [`send`](Self::send).
    ///
    /// What is queued for the client may still reach it. Then its connection ends, it cannot come back, and [`Event::Failed`] reports the
    /// end of the session.
    pub async fn kick(&mut self, id: ClientId) {
        // A kick is never too long, and the call waits while the queue is full.
        let _ = poll_fn(|cx| self.poll_queue(cx, |machine| machine.kick(id))).await;
    }

    /// Waits until the edge's stream has taken everything that was queued. Without an edge it waits for one.
    pub async fn flush(&mut self) {
        poll_fn(|cx| {
            loop {
                if self.machine.queued_packets() == 0 {
                    return Poll::Ready(());
                }
                if self.poll_into_inbox(cx).is_pending() && self.machine.queued_packets() > 0 {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// Writes as much of the queue as it can within `within`, if there is an edge, and closes the link in order.
    pub async fn close(mut self, within: Duration) {
        let until = self.timer.now() + within;
        poll_fn(|cx| {
            if self.timer.poll_until(cx, until).is_ready() {
                return Poll::Ready(());
            }
            while self.write(cx) {}
            let Some(channel) = &mut self.link else {
                return Poll::Ready(());
            };
            if !self.machine.output().is_empty() && !channel.write_failed() {
                return Poll::Pending;
            }
            channel.poll_finish(cx, &mut self.buffer)
        })
        .await;
    }

    /// Returns whether an edge is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.link.is_some()
    }

    /// Returns the number of packets to write.
    #[must_use]
    pub fn queued_packets(&self) -> usize {
        self.machine.queued_packets()
    }

    fn poll_queue(
        &mut self,
        cx: &mut Context<'_>,
        mut queue: impl FnMut(&mut machine::Backend) -> Result<(), SendError>,
    ) -> Poll<Result<(), SendError>> {
        loop {
            match queue(&mut self.machine) {
                Err(SendError::QueueFull) => {}
                done => return Poll::Ready(done),
            }
            if self.poll_into_inbox(cx).is_pending() {
                // The step may have made room without an event.
                return match queue(&mut self.machine) {
                    Err(SendError::QueueFull) => Poll::Pending,
                    done => Poll::Ready(done),
                };
            }
        }
    }

    /// Performs a step while a send waits. Events are kept for `recv`.
    fn poll_into_inbox(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let has_room = self.inbox.has_room();
        self.poll_step(cx, has_room)
            .map(|event| self.inbox.push(event))
    }

    /// Does everything that can be done until there is an event. Packets are read only if `with_packets`.
    fn poll_step(&mut self, cx: &mut Context<'_>, with_packets: bool) -> Poll<Event> {
        for _ in 0..STEPS_PER_POLL {
            // A link that accepts no more writes is read to its end in any case.
            let may_read =
                with_packets || self.link.as_ref().is_some_and(|link| link.write_failed());
            if may_read && !self.unread.is_empty() {
                if let Some(event) = self.take_event() {
                    return Poll::Ready(event);
                }
                continue;
            }
            let wrote = self.write(cx);
            let mut step = self.read(cx, may_read);
            if matches!(step, Step::Idle) {
                step = self.accept(cx, may_read);
            }
            match step {
                Step::Event(event) => return Poll::Ready(event),
                Step::Progress => continue,
                Step::Idle if wrote => continue,
                Step::Idle => {}
            }
            if self.gives_up() {
                return Poll::Ready(self.lose());
            }
            let next_look = self.link.as_ref().and_then(|link| link.next_look());
            let deadlines = [self.acceptors.rests_until(), next_look];
            match deadlines.into_iter().flatten().min() {
                Some(at) if self.timer.poll_until(cx, at).is_ready() => {}
                _ => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes the next event out of the bytes that were read.
    fn take_event(&mut self) -> Option<Event> {
        let mut input = &self.buffer[self.unread.clone()];
        let event = match self.machine.handle_bytes(&mut input) {
            Ok(Some(event)) => event,
            Ok(None) => {
                self.unread = 0..0;
                return None;
            }
            Err(error) => {
                let address = self.peer.map(|(address, _)| address);
                warn!(?address, %error, "the edge's stream is broken; its link is closed");
                if let Some(channel) = self.link.take() {
                    channel.abort();
                }
                return Some(self.lose());
            }
        };
        let event = match event {
            machine::Event::Packet { id, data } => Some(Event::Packet {
                id,
                data: data.to_vec(),
            }),
            machine::Event::Resumed { id } => Some(Event::Resumed { id }),
            machine::Event::Failed { id, reason } => Some(Event::Failed {
                id,
                reason: reason.into_owned(),
            }),
            machine::Event::Fault(fault) => {
                debug!(%fault, "a frame of the edge was dropped");
                None
            }
        };
        self.unread.start = self.unread.end - input.len();
        event
    }

    /// Accepts the edge. A connection that replaces a link waits until that has nothing more to read.
    fn accept(&mut self, cx: &mut Context<'_>, may_read: bool) -> Step {
        let accepted = self.acceptors.poll_accept(cx, self.timer.now());
        if let Poll::Ready((stream, source, _)) = accepted {
            // Replaces another one that still waited, whose edge has given it up in turn.
            self.successor = Some((stream, source));
            if self.link.is_some() {
                // The last packets of the old link may have arrived meanwhile.
                return Step::Progress;
            }
        }
        if self.link.is_some() {
            return match &self.successor {
                Some((_, by)) if may_read => {
                    let by = *by;
                    self.tell_replaced(by);
                    Step::Event(self.lose())
                }
                _ => Step::Idle,
            };
        }
        let Some((stream, address)) = self.successor.take() else {
            return Step::Idle;
        };
        self.link = Some(WatchedChannel::new(stream));
        self.peer = Some((address, self.timer.now()));
        Step::Event(Event::EdgeConnected { address })
    }

    /// Writes once. Returns true if something changed.
    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(channel) = &mut self.link else {
            return false;
        };
        match channel.write(cx, self.timer.now(), [self.machine.output(), &[]]) {
            Written::Nothing => channel.flush_fails(cx),
            Written::Blocked => false,
            Written::Failed => true,
            Written::Bytes(bytes) => {
                self.machine.handle_written(bytes);
                true
            }
        }
    }

    /// Reads once.
    fn read(&mut self, cx: &mut Context<'_>, may_read: bool) -> Step {
        let Some(channel) = &mut self.link else {
            return Step::Idle;
        };
        if !may_read {
            return Step::Idle;
        }
        match channel.read(cx, &mut self.buffer) {
            Read::Blocked => Step::Idle,
            Read::Bytes(bytes) => {
                self.unread = 0..bytes;
                Step::Progress
            }
            Read::Eof | Read::Failed | Read::Answered => {
                self.rivals.ended();
                Step::Event(self.lose())
            }
        }
    }

    /// Logs whose place the connection from `by` takes.
    fn tell_replaced(&mut self, by: SocketAddr) {
        let Some((address, since)) = self.peer else {
            return;
        };
        let lasted = self.timer.now().since(since);
        if self.rivals.replaced(lasted) {
            warn!(
                %by, %address, ?lasted,
                "connections take each other's place again and again: two edges are likely at this backend, which serves one. \
                 Give each edge a backend of its own"
            );
        } else {
            info!(%by, %address, ?lasted, "a new connection takes the place of the edge's link");
        }
    }

    /// Drops the stream if the edge has acknowledged nothing for too long. Returns whether it did.
    fn gives_up(&mut self) -> bool {
        let now = self.timer.now();
        let silent = self.link.take_if(|link| link.is_given_up(now));
        silent.map(WatchedChannel::abort).is_some()
    }

    fn lose(&mut self) -> Event {
        self.link = None;
        self.peer = None;
        self.unread = 0..0;
        self.machine.handle_closed();
        Event::EdgeLost
    }
}

/// The result of a step.
enum Step {
    Idle,
    Progress,
    Event(Event),
}
