//! The client library: a client of an edge that reconnects by itself.

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::task::{Context, Poll};
use std::time::Duration;

use voltlane_core::client as machine;
use voltlane_core::{ClientId, Time};

pub use voltlane_core::client::{
    Breach, Class, ClientConfig, Code, DropCause, End, Gap, Ledger, Ledgers, Refusal, SavedSession,
    SavedSessionError, SendError, State, TokenError, Versions, Violation,
};

use crate::Stream as _;
use crate::inbox::Inbox;
use crate::io::{Read, Written};
use crate::late::is_late;
use crate::runtime::system_random;
use crate::watch::WatchedChannel;
use crate::weigh::Weigh;
use crate::{Connect, Connector, Timer};

/// Maximum bytes per read.
const BUFFER_BYTES: usize = 16 * 1024;
/// Steps per poll before the task yields to others.
const STEPS_PER_POLL: usize = 128;

/// An event of a [`Client`] for its application.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A new session began. The edge and the backend know this client by `id`.
    Connected {
        /// The id that the edge assigned.
        id: ClientId,
    },
    /// The backend sent a packet.
    Packet(Vec<u8>),
    /// A connection, or an attempt to make one, ended. The client retries by itself.
    Dropped {
        /// Why.
        cause: DropCause,
        /// The pause before the next attempt.
        retry_in: Duration,
    },
    /// The session was resumed on a new connection, with the same id.
    Resumed {
        /// The id.
        id: ClientId,
    },
    /// Packets that will not come. (Version 3)
    Gap(Gap),
    /// Volatile packets that were not sent before the next one. (Version 3)
    Skipped {
        /// How many.
        count: u64,
    },
    /// All packets that were missed have come. (Version 3)
    CaughtUp,
    /// The session cannot be resumed. The client does not retry until [`Client::start_over`]. (Version 2)
    Refused(Refusal),
    /// The session is over. (Version 3)
    Ended(End),
}

impl Weigh for Event {
    fn packet_bytes(&self) -> usize {
        if let Event::Packet(data) = self {
            data.len()
        } else {
            0
        }
    }
}

/// An event, and the number of its packet, which is acknowledged when the application has come back for more.
struct Heard {
    event: Event,
    number: Option<u64>,
}

impl Weigh for Heard {
    fn packet_bytes(&self) -> usize {
        self.event.packet_bytes()
    }
}

impl From<machine::Event<'_>> for Heard {
    fn from(event: machine::Event<'_>) -> Self {
        let number = match &event {
            machine::Event::Packet { number, .. } => Some(*number),
            _ => None,
        };
        Heard {
            event: event.into(),
            number,
        }
    }
}

impl From<machine::Event<'_>> for Event {
    fn from(event: machine::Event<'_>) -> Self {
        match event {
            machine::Event::Connected { id } => Event::Connected { id },
            machine::Event::Packet { data, .. } => Event::Packet(data.to_vec()),
            machine::Event::Dropped { cause, retry_in } => Event::Dropped { cause, retry_in },
            machine::Event::Resumed { id, .. } => Event::Resumed { id },
            machine::Event::Gap(gap) => Event::Gap(gap),
            machine::Event::Skipped { count } => Event::Skipped { count },
            machine::Event::CaughtUp => Event::CaughtUp,
            machine::Event::Refused(refusal) => Event::Refused(refusal),
            machine::Event::Ended(end) => Event::Ended(end),
        }
    }
}

/// A client of an edge. It joins, sends and receives packets, and reconnects by itself with a proof of its identity.
///
/// There is no background task: connecting, reading, writing and reconnecting happen inside [`recv`](Self::recv), [`send`](Self::send) and
/// [`flush`](Self::flush), so one of them, usually `recv`, should be awaited. All three are safe to cancel, as in a `select!`: a packet is
/// either queued or still the caller's, and an event is returned once.
///
/// For what arrives, and what may be lost with a connection, see [`voltlane_core::client::Client`].
pub struct Client<C: Connector, T: Timer> {
    machine: machine::Client,
    connector: C,
    timer: T,
    transport: Transport<C::Stream>,
    buffer: Box<[u8]>,
    /// The part of the buffer that the machine has not taken yet.
    unread: Range<usize>,
    /// Events that came while a send waited for room.
    inbox: Inbox<Heard>,
    /// The number of the packet that the application got last, until it comes back.
    lent: Option<u64>,
    /// Whether the machine may have more of the bytes that it was given.
    has_more: bool,
    /// Why the last connect attempt failed, until one succeeds.
    connect_error: Option<io::Error>,
    parting_words: Option<String>,
}

enum Transport<S> {
    Down,
    Connecting(Connect<S>),
    Up(WatchedChannel<S>),
}

impl<C: Connector + From<String>, T: Timer + Default> Client<C, T> {
    /// Creates a client of the edge at `address`, given as `host:port`, with the default bounds. It connects when it is awaited.
    ///
    /// # Panics
    /// If the system provides no randomness, without which there are no keys.
    #[must_use]
    pub fn connect(address: impl Into<String>) -> Self {
        Self::with_config(ClientConfig::default(), address)
    }

    /// Like [`connect`](Self::connect), with other bounds, timeouts and pauses.
    ///
    /// # Panics
    /// Like [`connect`](Self::connect).
    #[must_use]
    pub fn with_config(config: ClientConfig, address: impl Into<String>) -> Self {
        let connector = C::from(address.into());
        Self::new(config, system_random(), connector, T::default())
    }

    /// Creates a client that resumes a [saved session](Self::saved_session) at the edge at `address`.
    ///
    /// # Panics
    /// Like [`connect`](Self::connect).
    #[must_use]
    pub fn restore(address: impl Into<String>, saved: &SavedSession) -> Self {
        Self::restore_with_config(ClientConfig::default(), address, saved)
    }

    /// Like [`restore`](Self::restore), with other bounds, timeouts and pauses.
    ///
    /// # Panics
    /// Like [`connect`](Self::connect).
    #[must_use]
    pub fn restore_with_config(
        config: ClientConfig,
        address: impl Into<String>,
        saved: &SavedSession,
    ) -> Self {
        let machine = machine::Client::restore(config, system_random(), saved);
        Self::drive(machine, C::from(address.into()), T::default())
    }
}

impl<C: Connector, T: Timer> Client<C, T> {
    /// Creates a client of the edge at the other end of `connector`.
    ///
    /// Its private key is derived from `seed`: 32 bytes that nobody can know or guess, and that were never used before.
    #[must_use]
    pub fn new(config: ClientConfig, seed: [u8; 32], connector: C, timer: T) -> Self {
        Self::drive(machine::Client::new(config, seed), connector, timer)
    }

    /// Drives an existing machine.
    #[must_use]
    pub fn drive(machine: machine::Client, connector: C, timer: T) -> Self {
        Client {
            machine,
            connector,
            timer,
            transport: Transport::Down,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            unread: 0..0,
            inbox: Inbox::new(),
            lent: None,
            has_more: false,
            connect_error: None,
            parting_words: None,
        }
    }

    /// Waits for the next event. Returns `None` once the session was [refused](Event::Refused) or is [over](Event::Ended), and everything was
    /// reported.
    pub async fn recv(&mut self) -> Option<Event> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Polls for the next event, like [`recv`](Self::recv).
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if let Some(number) = self.lent.take() {
            self.machine.taken(self.timer.now(), number);
        }
        let heard = match self.inbox.pop() {
            Some(heard) => heard,
            None => match self.poll_step(cx, true) {
                Poll::Ready(heard) => heard,
                Poll::Pending if self.machine.state().is_over() => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            },
        };
        self.lent = heard.number;
        Poll::Ready(Some(heard.event))
    }

    /// Queues a packet, and writes as much as the connection takes. Waits for room while the queue is full. Without a connection, packets
    /// wait in the queue.
    ///
    /// # Errors
    /// [`SendError::TooLong`], and [`SendError::Refused`] once the session was refused.
    pub async fn send(&mut self, data: &[u8]) -> Result<(), SendError> {
        poll_fn(|cx| self.poll_send(cx, data)).await
    }

    /// Polls a [`send`](Self::send). Call it until it is ready, with the same data.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<(), SendError>> {
        loop {
            match self.machine.send(data) {
                Err(SendError::QueueFull) => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(_) => {
                    self.write(cx);
                    return Poll::Ready(Ok(()));
                }
            }
            if self.poll_into_inbox(cx).is_pending() {
                // The step may have made room, or ended the session, without an event.
                return match self.machine.send(data) {
                    Err(SendError::QueueFull) => Poll::Pending,
                    sent => Poll::Ready(sent.map(drop)),
                };
            }
        }
    }

    /// Queues a packet and does nothing else. Many can be queued like this and then written at once, by [`flush`](Self::flush) or
    /// [`recv`](Self::recv).
    ///
    /// # Errors
    /// Those of [`send`](Self::send), and [`SendError::QueueFull`].
    pub fn try_send(&mut self, data: &[u8]) -> Result<(), SendError> {
        self.machine.send(data).map(drop)
    }

    /// Waits until the connection has taken everything that was queued. In version 3: until the edge has acknowledged it.
    ///
    /// # Errors
    /// [`SendError::Refused`] once the session was refused, [`SendError::Ended`] once it is over.
    pub async fn flush(&mut self) -> Result<(), SendError> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Polls a [`flush`](Self::flush).
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        loop {
            if let State::Refused(refusal) = self.machine.state() {
                return Poll::Ready(Err(refusal.into()));
            }
            if let Some(end) = self.machine.end() {
                return Poll::Ready(Err(SendError::Ended(end.code)));
            }
            if self.is_flushed(cx) {
                return Poll::Ready(Ok(()));
            }
            let is_waiting = self.poll_into_inbox(cx).is_pending();
            if is_waiting && !self.is_flushed(cx) && !self.machine.state().is_over() {
                return Poll::Pending;
            }
        }
    }

    /// Returns whether nothing is queued and the transport holds nothing. The waker is registered if it does.
    fn is_flushed(&mut self, cx: &mut Context<'_>) -> bool {
        self.machine.queued_packets() == 0
            && match &mut self.transport {
                Transport::Up(channel) => !channel.holds(cx),
                Transport::Down | Transport::Connecting(_) => true,
            }
    }

    /// Writes as much of the queue as it can within `within`, if there is a connection, and closes it in order. The session may still be
    /// resumed with an earlier [`saved_session`](Self::saved_session).
    pub async fn close(mut self, within: Duration) {
        let until = self.timer.now() + within;
        poll_fn(|cx| {
            if self.timer.poll_until(cx, until).is_ready() {
                return Poll::Ready(());
            }
            while self.write(cx) {}
            let Transport::Up(channel) = &mut self.transport else {
                return Poll::Ready(());
            };
            let has_more =
                self.machine.state() == State::Established && !self.machine.output().is_empty();
            if has_more && !channel.write_failed() {
                return Poll::Pending;
            }
            channel.poll_finish(cx, &mut self.buffer)
        })
        .await;
    }

    /// Drops the connection as if the network had failed. The client reconnects by itself. Useful for tests, or to retry early.
    pub fn drop_connection(&mut self) {
        self.machine.drop_connection();
    }

    /// After a refusal, or an end after which a new session may begin, forgets the session and the queue, and joins as a new client.
    pub fn start_over(&mut self) {
        self.machine.start_over();
    }

    /// Returns what [`restore`](Self::restore) needs, as long as there is a session that may be resumed.
    #[must_use]
    pub fn saved_session(&self) -> Option<SavedSession> {
        self.machine.saved_session()
    }

    /// Returns the id of the session, connected or not. `None` before there is a session, and once the edge turned out not to know it.
    #[must_use]
    pub fn id(&self) -> Option<ClientId> {
        self.machine.id()
    }

    /// Returns why the last connect attempt failed, as reported by the system or the resolver; `None` once one succeeded. It is the cause
    /// of [`DropCause::ConnectFailed`].
    #[must_use]
    pub fn connect_error(&self) -> Option<&io::Error> {
        self.connect_error.as_ref()
    }

    /// Returns what the transport knows of the end of the last connection, for people: with WebSocket the close code, with TLS an alert.
    /// `None` if it knows nothing, or a connection is there.
    #[must_use]
    pub fn parting_words(&self) -> Option<&str> {
        self.parting_words.as_deref()
    }

    /// Returns the number of packets to write, including a half-written one. In version 3: those that are not acknowledged.
    #[must_use]
    pub fn queued_packets(&self) -> usize {
        self.machine.queued_packets()
    }

    /// Returns the state of the client.
    #[must_use]
    pub fn state(&self) -> State {
        self.machine.state()
    }

    /// Performs a step while a send waits. Events are kept for `recv`.
    fn poll_into_inbox(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let has_room = self.inbox.has_room();
        self.poll_step(cx, has_room)
            .map(|event| self.inbox.push(event))
    }

    /// Does everything that can be done until there is an event. Packets are read only if `with_packets`.
    fn poll_step(&mut self, cx: &mut Context<'_>, with_packets: bool) -> Poll<Heard> {
        for _ in 0..STEPS_PER_POLL {
            let now = self.timer.now();
            if !self.serves_first(cx, now, with_packets) {
                self.machine.handle_timeout(now);
            }
            if let Some(event) = self.machine.poll_event() {
                return Poll::Ready(event.into());
            }
            if self.machine.wants_close() {
                self.lose(now, machine::Closed::Error);
                continue;
            }
            let may_read = self.may_read(with_packets);
            if may_read && self.has_unread() {
                let mut input = &self.buffer[self.unread.clone()];
                let heard = self.machine.handle_bytes(now, &mut input).map(Heard::from);
                self.unread.start = self.unread.end - input.len();
                self.has_more = heard.is_some();
                if let Some(heard) = heard {
                    return Poll::Ready(heard);
                }
                continue;
            }
            if self.connect_on(cx, now) | self.write(cx) | self.read(cx, now, may_read) {
                continue;
            }
            if self.gives_up(now) {
                continue;
            }
            let next_look = match &self.transport {
                Transport::Up(channel) => channel.next_look(),
                Transport::Down | Transport::Connecting(_) => None,
            };
            let deadlines = [self.machine.poll_timeout(), next_look];
            match deadlines.into_iter().flatten().min() {
                Some(at) if self.timer.poll_until(cx, at).is_ready() => {}
                _ => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes what the connection has, if a deadline is late: nobody polled the client for a while, and the edge was not silent meanwhile.
    /// Returns whether there is something, which counts before the deadline does.
    fn serves_first(&mut self, cx: &mut Context<'_>, now: Time, with_packets: bool) -> bool {
        if !is_late(now, self.machine.poll_timeout()) {
            return false;
        }
        let may_read = self.may_read(with_packets);
        if self.has_unread() {
            return may_read;
        }
        self.connect_on(cx, now) | self.read(cx, now, may_read)
    }

    /// Returns whether packets may be read. A connection that accepts no more writes is read to its end in any case.
    fn may_read(&self, with_packets: bool) -> bool {
        let broken = matches!(&self.transport, Transport::Up(channel) if channel.write_failed());
        with_packets || broken || self.machine.state() != State::Established
    }

    fn has_unread(&self) -> bool {
        self.has_more || !self.unread.is_empty()
    }

    /// Drops the connection if the edge has acknowledged nothing for too long. Returns whether it did.
    fn gives_up(&mut self, now: Time) -> bool {
        let Transport::Up(channel) = &mut self.transport else {
            return false;
        };
        if !channel.is_given_up(now) {
            return false;
        }
        if let Transport::Up(channel) = std::mem::replace(&mut self.transport, Transport::Down) {
            channel.abort();
        }
        self.lose(now, machine::Closed::Error);
        true
    }

    /// Begins or continues to connect. Returns true if something changed.
    fn connect_on(&mut self, cx: &mut Context<'_>, now: Time) -> bool {
        if matches!(self.transport, Transport::Down) && self.machine.wants_connect(now) {
            self.transport = Transport::Connecting(self.connector.connect());
        }
        let Transport::Connecting(attempt) = &mut self.transport else {
            return false;
        };
        match attempt.as_mut().poll(cx) {
            Poll::Pending => return false,
            Poll::Ready(Ok(stream)) => {
                self.connect_error = None;
                self.parting_words = None;
                self.transport = Transport::Up(WatchedChannel::new(stream));
                self.machine.handle_connected(now, system_random());
            }
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "the edge cannot be reached");
                self.connect_error = Some(error);
                self.transport = Transport::Down;
                self.machine.handle_connect_failed(now);
            }
        }
        true
    }

    /// Writes once. Returns true if something changed.
    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        let Transport::Up(channel) = &mut self.transport else {
            return false;
        };
        let now = self.timer.now();
        match channel.write(cx, now, [self.machine.output(), &[]]) {
            Written::Nothing => channel.flush_fails(cx),
            Written::Blocked => false,
            Written::Failed => true,
            Written::Bytes(bytes) => {
                self.machine.handle_written(now, bytes);
                true
            }
        }
    }

    /// Reads once. Returns true if something changed.
    fn read(&mut self, cx: &mut Context<'_>, now: Time, may_read: bool) -> bool {
        let Transport::Up(channel) = &mut self.transport else {
            return false;
        };
        if !(may_read || channel.write_failed()) {
            return false;
        }
        match channel.read(cx, &mut self.buffer) {
            Read::Blocked => return false,
            Read::Bytes(bytes) => self.unread = 0..bytes,
            Read::Eof => self.lose(now, machine::Closed::Eof),
            Read::Failed | Read::Answered => self.lose(now, machine::Closed::Error),
        }
        true
    }

    fn lose(&mut self, now: Time, cause: machine::Closed) {
        if let Transport::Up(channel) = &self.transport {
            self.parting_words = channel.stream().parting_words();
        }
        self.transport = Transport::Down;
        self.unread = 0..0;
        self.has_more = false;
        self.machine.handle_closed(now, cause);
    }
}
