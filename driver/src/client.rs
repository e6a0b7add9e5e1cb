//! The client library: a client of an edge that comes back by itself.

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::task::{Context, Poll};
use std::time::Duration;

use voltlane_core::client as machine;
use voltlane_core::{ClientId, Time};

pub use voltlane_core::client::{
    ClientConfig, DropCause, Refusal, SavedSession, SavedSessionError, SendError, State, Violation,
};

use crate::inbox::{Inbox, Weigh};
use crate::io::{Read, Written};
use crate::watch::WatchedChannel;
use crate::{Connect, Connector, Timer};

/// Bytes read at once.
const BUFFER_BYTES: usize = 16 * 1024;
/// Steps in one poll before the task yields to others.
const STEPS_PER_POLL: usize = 128;

/// What a [`Client`] tells its application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A new session began: the edge and the backend know this client by `id`.
    Connected {
        /// The id that the edge gave.
        id: ClientId,
    },
    /// A packet of the backend.
    Packet(Vec<u8>),
    /// A connection, or the attempt to make one, ended. The client tries again by itself.
    Dropped {
        /// Why.
        cause: DropCause,
        /// How long it waits before it connects again.
        retry_in: Duration,
    },
    /// The session goes on over a new connection, under the id it had.
    Resumed {
        /// The id.
        id: ClientId,
    },
    /// The session does not go on, and the client tries no more until [`Client::start_over`].
    Refused(Refusal),
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

impl From<machine::Event<'_>> for Event {
    fn from(event: machine::Event<'_>) -> Self {
        match event {
            machine::Event::Connected { id } => Event::Connected { id },
            machine::Event::Packet(data) => Event::Packet(data.to_vec()),
            machine::Event::Dropped { cause, retry_in } => Event::Dropped { cause, retry_in },
            machine::Event::Resumed { id } => Event::Resumed { id },
            machine::Event::Refused(refusal) => Event::Refused(refusal),
        }
    }
}

/// A client of an edge: joins, sends and receives packets, comes back by itself with proof of who it is.
///
/// There is no task in the background: connecting, reading, writing and coming back happen inside [`recv`](Self::recv),
/// [`send`](Self::send) and [`flush`](Self::flush), so one of them, mostly `recv`, should be waited on. All three are
/// safe to cancel, as in a `select!`: a packet is either queued or still the caller's, an event is returned once.
///
/// What arrives, and what may be lost with a connection, is said at [`voltlane_core::client::Client`].
pub struct Client<C: Connector, T: Timer> {
    machine: machine::Client,
    connector: C,
    timer: T,
    transport: Transport<C::Stream>,
    buffer: Box<[u8]>,
    /// The part of the buffer that the machine has not taken yet.
    unread: Range<usize>,
    /// What came while a send waited for room.
    inbox: Inbox<Event>,
    /// Why the last attempt to connect failed, until one succeeds.
    connect_error: Option<io::Error>,
}

enum Transport<S> {
    Down,
    Connecting(Connect<S>),
    Up(WatchedChannel<S>),
}

impl<C: Connector + From<String>, T: Timer + Default> Client<C, T> {
    /// A new client of the edge at `address`, `host:port`, with the default bounds. It connects when it is waited on.
    ///
    /// # Panics
    /// When the system has no randomness to give, without which there are no keys.
    #[must_use]
    pub fn connect(address: impl Into<String>) -> Self {
        Self::with_config(ClientConfig::default(), address)
    }

    /// [`connect`](Self::connect) with other bounds, times and pauses.
    ///
    /// # Panics
    /// As [`connect`](Self::connect).
    #[must_use]
    pub fn with_config(config: ClientConfig, address: impl Into<String>) -> Self {
        let connector = C::from(address.into());
        Self::new(config, system_seed(), connector, T::default())
    }

    /// Comes back to the edge at `address` as the client that was [saved](Self::saved_session).
    ///
    /// # Panics
    /// As [`connect`](Self::connect).
    #[must_use]
    pub fn restore(address: impl Into<String>, saved: &SavedSession) -> Self {
        Self::restore_with_config(ClientConfig::default(), address, saved)
    }

    /// [`restore`](Self::restore) with other bounds, times and pauses.
    ///
    /// # Panics
    /// As [`connect`](Self::connect).
    #[must_use]
    pub fn restore_with_config(
        config: ClientConfig,
        address: impl Into<String>,
        saved: &SavedSession,
    ) -> Self {
        let machine = machine::Client::restore(config, system_seed(), saved);
        Self::drive(machine, C::from(address.into()), T::default())
    }
}

impl<C: Connector, T: Timer> Client<C, T> {
    /// A new client of the edge at the other end of `connector`. The `seed` is where its private key comes from: 32
    /// bytes that nobody can know or guess, never used before.
    #[must_use]
    pub fn new(config: ClientConfig, seed: [u8; 32], connector: C, timer: T) -> Self {
        Self::drive(machine::Client::new(config, seed), connector, timer)
    }

    /// Drives a machine that was made elsewhere.
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
            connect_error: None,
        }
    }

    /// Waits for what happens next. `None` once the session was [refused](Event::Refused) and all was told.
    pub async fn recv(&mut self) -> Option<Event> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// [`recv`](Self::recv), to be polled.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if let Some(event) = self.inbox.pop() {
            return Poll::Ready(Some(event));
        }
        match self.poll_step(cx, true) {
            Poll::Ready(event) => Poll::Ready(Some(event)),
            Poll::Pending if matches!(self.machine.state(), State::Refused(_)) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Queues a packet and writes what the connection takes. Waits where the queue is full, until there is room; while
    /// there is no connection packets wait in the queue.
    ///
    /// # Errors
    /// [`SendError::TooLong`], and [`SendError::Refused`] once the session was refused.
    pub async fn send(&mut self, data: &[u8]) -> Result<(), SendError> {
        poll_fn(|cx| self.poll_send(cx, data)).await
    }

    /// [`send`](Self::send), to be polled until it is ready, with the same data.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<(), SendError>> {
        loop {
            match self.machine.send(data) {
                Err(SendError::QueueFull) => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(()) => {
                    self.write(cx);
                    return Poll::Ready(Ok(()));
                }
            }
            if self.poll_into_inbox(cx).is_pending() {
                // The step may have made room, or ended the session, without an event.
                return match self.machine.send(data) {
                    Err(SendError::QueueFull) => Poll::Pending,
                    sent => Poll::Ready(sent),
                };
            }
        }
    }

    /// Queues a packet and does nothing else: many can be queued so and then written at once, by [`flush`](Self::flush)
    /// or [`recv`](Self::recv).
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`SendError::QueueFull`].
    pub fn try_send(&mut self, data: &[u8]) -> Result<(), SendError> {
        self.machine.send(data)
    }

    /// Waits until the connection has taken all that was queued.
    ///
    /// # Errors
    /// [`SendError::Refused`] once the session was refused.
    pub async fn flush(&mut self) -> Result<(), SendError> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// [`flush`](Self::flush), to be polled.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        loop {
            if let State::Refused(refusal) = self.machine.state() {
                return Poll::Ready(Err(refusal.into()));
            }
            if self.machine.queued_packets() == 0 {
                return Poll::Ready(Ok(()));
            }
            if self.poll_into_inbox(cx).is_pending() {
                let refused = matches!(self.machine.state(), State::Refused(_));
                if self.machine.queued_packets() > 0 && !refused {
                    return Poll::Pending;
                }
            }
        }
    }

    /// Writes what is queued, if there is a connection and as far as it goes within `within`, and ends it in order. The
    /// session may still be resumed with what [`saved_session`](Self::saved_session) said.
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

    /// Gives the connection up as if the network had: the client comes back by itself. For tests and for impatience.
    pub fn drop_connection(&mut self) {
        self.machine.drop_connection();
    }

    /// Where the session was refused: forgets it and what was queued for it, and joins as a new client.
    pub fn start_over(&mut self) {
        self.machine.start_over();
    }

    /// What [`restore`](Self::restore) needs, once there is a session and as long as it may still be resumed.
    #[must_use]
    pub fn saved_session(&self) -> Option<SavedSession> {
        self.machine.saved_session()
    }

    /// The id of the session, connected or not; `None` before there is one and after the edge has disowned it.
    #[must_use]
    pub fn id(&self) -> Option<ClientId> {
        self.machine.id()
    }

    /// Why the last attempt to connect failed, as the system or the resolver says it; `None` once one succeeded. It is the
    /// reason behind [`DropCause::ConnectFailed`].
    #[must_use]
    pub fn connect_error(&self) -> Option<&io::Error> {
        self.connect_error.as_ref()
    }

    /// Packets that wait to be written, a half-written one included.
    #[must_use]
    pub fn queued_packets(&self) -> usize {
        self.machine.queued_packets()
    }

    /// Where the client is.
    #[must_use]
    pub fn state(&self) -> State {
        self.machine.state()
    }

    /// A step while a send waits: what happens is kept for `recv`.
    fn poll_into_inbox(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let has_room = self.inbox.has_room();
        self.poll_step(cx, has_room)
            .map(|event| self.inbox.push(event))
    }

    /// Does what there is to do until something happens. Packets are read only `with_packets`.
    fn poll_step(&mut self, cx: &mut Context<'_>, with_packets: bool) -> Poll<Event> {
        for _ in 0..STEPS_PER_POLL {
            let now = self.timer.now();
            self.machine.handle_timeout(now);
            if let Some(event) = self.machine.poll_event() {
                return Poll::Ready(event.into());
            }
            if self.machine.wants_close() {
                self.lose(now, machine::Closed::Error);
                continue;
            }
            // A connection that takes no more writes is read to its end, wherever that leads.
            let broken =
                matches!(&self.transport, Transport::Up(channel) if channel.write_failed());
            let may_read = with_packets || broken || self.machine.state() != State::Established;
            if may_read && !self.unread.is_empty() {
                let mut input = &self.buffer[self.unread.clone()];
                let event = self.machine.handle_bytes(now, &mut input).map(Event::from);
                self.unread.start = self.unread.end - input.len();
                if let Some(event) = event {
                    return Poll::Ready(event);
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

    /// Whether the edge acknowledged nothing for too long: then the connection was dropped.
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

    /// Begins to connect, or gets on with it. True if something changed.
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
                self.transport = Transport::Up(WatchedChannel::new(stream));
                self.machine.handle_connected(now);
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

    /// Writes once. True if something changed.
    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        let Transport::Up(channel) = &mut self.transport else {
            return false;
        };
        let now = self.timer.now();
        match channel.write(cx, now, [self.machine.output(), &[]]) {
            Written::Nothing | Written::Blocked => false,
            Written::Failed => true,
            Written::Bytes(bytes) => {
                self.machine.handle_written(now, bytes);
                true
            }
        }
    }

    /// Reads once. True if something changed.
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
            Read::Failed => self.lose(now, machine::Closed::Error),
        }
        true
    }

    fn lose(&mut self, now: Time, cause: machine::Closed) {
        self.transport = Transport::Down;
        self.unread = 0..0;
        self.machine.handle_closed(now, cause);
    }
}

/// 32 bytes of the system's randomness.
fn system_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the system has randomness");
    seed
}
