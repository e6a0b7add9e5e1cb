//! The client's side of the client link, as a pure state machine that reconnects. (SPEC 4)

mod config;
#[cfg(feature = "serde")]
mod data;
mod error;
mod saved;
mod session;
mod state;

use core::fmt;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use tracing::debug;

use crate::queue::{Bounds, Outbox};
use crate::wire::frame::FrameReader;
use crate::{Backoff, ClientId, Time};

pub use config::{ClientConfig, MAX_HANDSHAKE_BODY_BYTES, MAX_UNPROVABLE_CHALLENGES};
pub use error::{Closed, DropCause, Event, Refusal, SendError, Violation};
pub use saved::{SAVED_SESSION_BYTES, SavedSession, SavedSessionError};
pub use state::State;

use session::{Failure, Session};

/// A client of an edge. It joins, sends and receives packets, and reconnects by itself with a proof of its identity.
///
/// # Contract
/// The adapter owns the transport and the clock. In every turn, in any order, it does the following:
/// - If [`wants_connect`](Self::wants_connect), open a transport unless one is being opened, then call
///   [`handle_connected`](Self::handle_connected) or [`handle_connect_failed`](Self::handle_connect_failed).
/// - After a read, call [`handle_bytes`](Self::handle_bytes) until it returns `None`.
/// - Write [`output`](Self::output), and report how much was written with [`handle_written`](Self::handle_written) before any other call.
/// - If [`wants_close`](Self::wants_close), close the transport or give up opening it. Then, and whenever the transport ended by itself,
///   call [`handle_closed`](Self::handle_closed).
/// - At the time of [`poll_timeout`](Self::poll_timeout), call [`handle_timeout`](Self::handle_timeout).
/// - Call [`poll_event`](Self::poll_event) until it returns `None`.
///
/// Spurious calls and early timeouts are harmless. Time never goes back: a [`Time`] before one already seen counts as that one. No input
/// makes the machine panic, and it buffers no more than was received.
///
/// # Delivery
/// Packets arrive whole and in order. A packet that the transport took in part when it ended is sent again in full on the next connection.
/// One that it took entirely is not, and may be lost with it (version 2 acknowledges nothing). Packets wait while there is no connection,
/// and are sent only once the edge has confirmed the client's identity. (SPEC 4.6)
///
/// # Example
/// The part of a turn that moves bytes, over a blocking stream:
/// ```
/// use std::io::{self, Read, Write};
/// use voltlane_core::Time;
/// use voltlane_core::client::{Client, Closed};
///
/// fn exchange(client: &mut Client, now: Time, stream: &mut (impl Read + Write)) -> io::Result<()> {
///     let written = stream.write(client.output())?;
///     client.handle_written(now, written);
///     let mut buffer = [0; 4096];
///     match stream.read(&mut buffer)? {
///         0 => client.handle_closed(now, Closed::Eof),
///         n => {
///             let mut input = &buffer[..n];
///             while let Some(event) = client.handle_bytes(now, &mut input) {
///                 println!("{event:?}");
///             }
///         }
///     }
///     Ok(())
/// }
/// ```
pub struct Client {
    config: ClientConfig,
    rng: ChaCha20Rng,
    /// The latest time seen.
    now: Time,
    state: State,
    /// The deadline of the current state, if it has one: the end of `Waiting`, or that of connecting or the handshake.
    timer: Option<Time>,
    /// In `Closing`: what follows once the transport has ended.
    ending: Option<Ending>,
    session: Session,
    reader: FrameReader,
    outbox: Outbox,
    backoff: Backoff,
    event: Option<Event<'static>>,
}

/// What follows from the end of a transport.
#[derive(Debug)]
enum Ending {
    Dropped(DropCause),
    Refused(Refusal),
}

impl Client {
    /// Creates a client that joins as a new one. It wants to connect at once.
    ///
    /// Its private key is derived from `seed`: 32 bytes that nobody can know or guess, and that were never used before.
    #[must_use]
    pub fn new(config: ClientConfig, seed: [u8; 32]) -> Self {
        Self::with(config, seed, Session::default())
    }

    /// Creates a client that resumes a saved session. For `seed` see [`new`](Self::new).
    #[must_use]
    pub fn restore(config: ClientConfig, seed: [u8; 32], saved: &SavedSession) -> Self {
        Self::with(config, seed, Session::restore(saved))
    }

    fn with(config: ClientConfig, seed: [u8; 32], session: Session) -> Self {
        Client {
            rng: ChaCha20Rng::from_seed(seed),
            now: Time::ZERO,
            state: State::Waiting,
            timer: Some(Time::ZERO),
            ending: None,
            reader: FrameReader::default(),
            outbox: Outbox::new(session.version().retention()),
            session,
            backoff: Backoff::new(config.backoff_min, config.backoff_max),
            event: None,
            config,
        }
    }

    /// Returns whether the adapter must open a transport now.
    #[must_use]
    pub fn wants_connect(&self, now: Time) -> bool {
        match self.state {
            State::Waiting => self
                .timer
                .is_some_and(|retry_at| retry_at <= now.max(self.now)),
            State::Connecting => true,
            _ => false,
        }
    }

    /// Handles that the transport is open. One that opens before the wait is over is used, too; a second one is ignored.
    pub fn handle_connected(&mut self, now: Time) {
        self.advance_clock(now);
        if matches!(self.state, State::Waiting | State::Connecting) {
            let state = self.session.begin();
            self.enter(state, Some(self.now + self.config.handshake_timeout));
        }
    }

    /// Handles that the transport could not be opened.
    pub fn handle_connect_failed(&mut self, now: Time) {
        self.advance_clock(now);
        match self.state {
            // In `Waiting`, only an adapter that called `wants_connect` before `handle_timeout` can have tried.
            State::Waiting if !self.wants_connect(now) => {}
            State::Waiting | State::Connecting => {
                self.end_connection(Ending::Dropped(DropCause::ConnectFailed))
            }
            State::Closing => self.handle_closed(now, Closed::Error),
            _ => {}
        }
    }

    /// Handles bytes that were read. Returns the first event in them, and advances `input` past it.
    ///
    /// Call it again with the rest until it returns `None`, when `input` is empty. A packet is borrowed from `input`, or from the machine
    /// if it came in pieces.
    pub fn handle_bytes<'a, 'input: 'a>(
        &'a mut self,
        now: Time,
        input: &mut &'input [u8],
    ) -> Option<Event<'a>> {
        self.advance_clock(now);
        if self.state.is_handshake() {
            // Bytes after the deadline are late, even if the adapter has not called `handle_timeout` yet.
            self.handle_timeout(now);
        }
        while self.state.is_handshake() {
            let outcome = match self.reader.next_frame(input, MAX_HANDSHAKE_BODY_BYTES) {
                Ok(None) => return None,
                Ok(Some(body)) => self.session.handle_packet(self.state, body, &mut self.rng),
                Err(too_long) => Err(too_long.into()),
            };
            match outcome {
                Ok(State::Established) => return Some(self.establish()),
                // The deadline is kept, as it applies to the whole handshake.
                Ok(state) => self.enter(state, self.timer),
                Err(Failure::Violation(violation)) => self.close(Ending::Dropped(violation.into())),
                Err(Failure::Refused(refusal)) => self.close(Ending::Refused(refusal)),
            }
        }
        if self.state != State::Established {
            *input = &[];
            return None;
        }
        let channel = self.session.channel();
        match channel.next_packet(&mut self.reader, input, self.config.max_receive_bytes) {
            Ok(packet) => packet.map(Event::Packet),
            Err(too_long) => {
                *input = &[];
                self.state = State::Closing;
                self.ending = Some(Ending::Dropped(Violation::from(too_long).into()));
                None
            }
        }
    }

    /// Handles that the transport is gone, closed from either side.
    pub fn handle_closed(&mut self, now: Time, closed: Closed) {
        self.advance_clock(now);
        if !self.state.has_transport() {
            return;
        }
        let ending = match (self.ending.take(), closed) {
            (Some(decided), _) => decided,
            (None, _) if self.state == State::Connecting => {
                Ending::Dropped(DropCause::ConnectFailed)
            }
            // This also applies in `AwaitPing`. A challenge that opened means that the edge has the session. An orderly end does not prove
            // the contrary, since a load balancer may turn a reset into one (SPEC 4.6(b)). The next claim will tell.
            (None, Closed::Eof) => Ending::Dropped(DropCause::ClosedByEdge),
            (None, Closed::Error) => Ending::Dropped(DropCause::Transport),
        };
        self.end_connection(ending);
    }

    /// Returns the next [`Dropped`](Event::Dropped) or [`Refused`](Event::Refused), if one was not taken yet. A later one replaces an
    /// earlier one.
    pub fn poll_event(&mut self) -> Option<Event<'static>> {
        self.event.take()
    }

    /// Makes output, and returns the bytes to write now. They stay until [`handle_written`](Self::handle_written).
    ///
    /// Call it when the transport may take bytes: a version that seals makes records then, of all that waits at that moment.
    #[must_use]
    pub fn output(&mut self) -> &[u8] {
        if self.is_sending() {
            return self.session.channel().fill(&mut self.outbox, None);
        }
        match self.state {
            State::Closing => &[],
            _ => self.session.output(),
        }
    }

    /// Returns whether packets go out: the session is established, and the handshake, which goes first, is written. The edge may have
    /// answered before all of it was.
    fn is_sending(&self) -> bool {
        self.state == State::Established && self.session.output().is_empty()
    }

    /// Handles that the transport took the first `n` bytes of [`output`](Self::output).
    ///
    /// # Panics
    /// If `n` is more than was offered.
    pub fn handle_written(&mut self, now: Time, n: usize) {
        self.advance_clock(now);
        let taken = if self.is_sending() {
            self.session.channel().written(&mut self.outbox, n)
        } else {
            let taken = n.min(self.output().len());
            self.session.handle_written(taken);
            taken
        };
        assert_eq!(taken, n, "no more bytes can be written than were offered");
    }

    /// Returns whether the adapter must close the transport, or give up opening it.
    #[must_use]
    pub fn wants_close(&self) -> bool {
        self.state == State::Closing
    }

    /// Queues a packet. It is sent at once if the session is established, otherwise as soon as it is.
    ///
    /// # Errors
    /// [`SendError::TooLong`] above [`max_packet_bytes`](Self::max_packet_bytes); [`SendError::QueueFull`] if the queue has no room for it;
    /// [`SendError::Refused`] once the session was refused. Nothing is queued then.
    pub fn send(&mut self, data: &[u8]) -> Result<(), SendError> {
        if let State::Refused(refusal) = self.state {
            return Err(refusal.into());
        }
        let max = self.max_packet_bytes();
        if data.len() > max {
            return Err(SendError::TooLong {
                length: data.len(),
                max,
            });
        }
        if !self
            .outbox
            .takes(Outbox::stored_bytes(data.len()), self.bounds())
        {
            return Err(SendError::QueueFull);
        }
        self.outbox.push(data);
        Ok(())
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            packets: self.config.queue_packets,
            bytes: self.config.queue_bytes,
        }
    }

    /// Returns the maximum length of a packet in bytes: `max_send_bytes`, or the room in an empty queue.
    #[must_use]
    pub fn max_packet_bytes(&self) -> usize {
        let room = self
            .config
            .queue_bytes
            .saturating_sub(Outbox::stored_bytes(0));
        usize::try_from(self.config.max_send_bytes).map_or(room, |max| max.min(room))
    }

    /// Returns the number of packets to write, including a half-written one.
    #[must_use]
    pub fn queued_packets(&self) -> usize {
        self.outbox.packets()
    }

    /// Returns the number of bytes to write, including lengths.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.outbox.held_bytes()
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) must be called, unless something else happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timer
    }

    /// Handles that time has passed.
    pub fn handle_timeout(&mut self, now: Time) {
        self.advance_clock(now);
        if self.timer.is_none_or(|at| self.now < at) {
            return;
        }
        match self.state {
            State::Waiting => self.enter(
                State::Connecting,
                Some(self.now + self.config.connect_timeout),
            ),
            State::Connecting => self.close(Ending::Dropped(DropCause::ConnectTimeout)),
            _ => self.close(Ending::Dropped(DropCause::HandshakeTimeout)),
        }
    }

    /// Drops the connection as if the network had failed. The client reconnects by itself. Useful for tests, or to retry early.
    pub fn drop_connection(&mut self) {
        if self.state.has_transport() && self.state != State::Closing {
            self.close(Ending::Dropped(DropCause::Local));
        }
    }

    /// After a refusal, forgets the session, the edge's key and the queue, and joins as a new client. Does nothing in any other state.
    pub fn start_over(&mut self) {
        if matches!(self.state, State::Refused(_)) {
            self.session.forget();
            self.outbox = Outbox::new(self.session.version().retention());
            self.enter(State::Waiting, Some(self.now));
        }
    }

    /// Returns what [`restore`](Self::restore) needs, as long as there is a session that may be resumed.
    #[must_use]
    pub fn saved_session(&self) -> Option<SavedSession> {
        self.session.save()
    }

    /// Returns the id of the session, connected or not. `None` before there is a session, and once the edge turned out not to know it.
    #[must_use]
    pub fn id(&self) -> Option<ClientId> {
        self.session.id()
    }

    /// Returns the state of the client.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    fn advance_clock(&mut self, now: Time) {
        self.now = self.now.max(now);
    }

    fn enter(&mut self, state: State, timer: Option<Time>) {
        debug!(id = self.id().map(ClientId::as_u64), from = ?self.state, to = ?state, "client state");
        self.state = state;
        self.timer = timer;
    }

    fn establish(&mut self) -> Event<'static> {
        let resumed = self.state == State::AwaitPing;
        self.enter(State::Established, None);
        self.backoff.reset();
        let id = self.id().expect("an established session has an id");
        if resumed {
            Event::Resumed { id }
        } else {
            Event::Connected { id }
        }
    }

    /// Asks for the transport to be closed. `ending` tells what follows.
    fn close(&mut self, ending: Ending) {
        self.ending = Some(ending);
        self.enter(State::Closing, None);
    }

    /// Handles that the transport is gone. Partial data is discarded, except for a packet that it took in part.
    fn end_connection(&mut self, ending: Ending) {
        self.reader.clear();
        self.session.abandon_opening();
        self.outbox.lose_transport();
        match ending {
            Ending::Dropped(cause) => {
                let retry_in = self.backoff.next_delay(&mut self.rng);
                self.enter(State::Waiting, Some(self.now + retry_in));
                self.event = Some(Event::Dropped { cause, retry_in });
            }
            Ending::Refused(refusal) => {
                if refusal == Refusal::UnknownOrExpired {
                    self.session.forget();
                }
                self.enter(State::Refused(refusal), None);
                self.event = Some(Event::Refused(refusal));
            }
        }
    }
}

impl fmt::Debug for Client {
    /// Shows neither keys nor payloads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("id", &self.id())
            .field("state", &self.state)
            .field("timer", &self.timer)
            .field("outbox", &self.outbox)
            .finish_non_exhaustive()
    }
}
