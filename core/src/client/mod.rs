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

use crate::wire::frame::{FrameReader, LENGTH_BYTES};
use crate::{Backoff, ClientId, FrameQueue, Time};

pub use config::{ClientConfig, MAX_HANDSHAKE_BODY_BYTES, MAX_UNPROVABLE_CHALLENGES};
pub use error::{Closed, DropCause, Event, Refusal, SendError, Violation};
pub use saved::{SAVED_SESSION_BYTES, SavedSession, SavedSessionError};
pub use state::State;

use session::{Failure, Session};

/// One client of an edge: joins, sends and receives packets, comes back by itself with proof of who it is.
///
/// # Contract
/// The adapter owns the transport and the clock. In every turn, in any order:
/// - [`wants_connect`](Self::wants_connect): open a transport unless one is being opened, then
///   [`handle_connected`](Self::handle_connected) or [`handle_connect_failed`](Self::handle_connect_failed);
/// - bytes read: [`handle_bytes`](Self::handle_bytes) until it returns `None`;
/// - write [`output`](Self::output), and say how much of it went by [`handle_written`](Self::handle_written) before any
///   other call;
/// - [`wants_close`](Self::wants_close): close the transport, or give up opening it; then, and whenever the transport
///   ended by itself, [`handle_closed`](Self::handle_closed);
/// - [`poll_timeout`](Self::poll_timeout): at that time, [`handle_timeout`](Self::handle_timeout);
/// - [`poll_event`](Self::poll_event) until `None`.
///
/// Spurious calls are harmless, a timeout that fires early too. Time never goes back: a [`Time`] before one already seen
/// counts as that one. Whatever the other side sends, the machine does not panic, and buffers no more than was received.
///
/// # What arrives
/// Packets arrive whole and in order. A packet that the transport took in part when it ended is sent again whole on the
/// next connection; what it took entirely is not sent again, and may be lost with it (version 2 acknowledges nothing).
/// Packets wait while there is no connection and leave only once the edge has confirmed who this client is. (SPEC 4.6)
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
    /// The one deadline that a state may have: `Waiting` ends, connecting or the handshake takes too long.
    timer: Option<Time>,
    /// In `Closing`: what the end of the transport will mean.
    ending: Option<Ending>,
    session: Session,
    reader: FrameReader,
    queue: FrameQueue,
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
    /// A client that joins as a new one. It wants to connect at once.
    ///
    /// The `seed` is where its private key comes from: 32 bytes that nobody can know or guess, never used before.
    #[must_use]
    pub fn new(config: ClientConfig, seed: [u8; 32]) -> Self {
        Client {
            rng: ChaCha20Rng::from_seed(seed),
            now: Time::ZERO,
            state: State::Waiting,
            timer: Some(Time::ZERO),
            ending: None,
            session: Session::default(),
            reader: FrameReader::default(),
            queue: FrameQueue::new(),
            backoff: Backoff::new(config.backoff_min, config.backoff_max),
            event: None,
            config,
        }
    }

    /// A client that comes back as the one that was saved. `seed` as for [`new`](Self::new).
    #[must_use]
    pub fn restore(config: ClientConfig, seed: [u8; 32], saved: &SavedSession) -> Self {
        Client {
            session: Session::restore(saved),
            ..Client::new(config, seed)
        }
    }

    /// Whether the adapter is to open a transport now.
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

    /// The transport is open. One that comes before the wait is over is taken too; one beside another is ignored.
    pub fn handle_connected(&mut self, now: Time) {
        self.advance_clock(now);
        if matches!(self.state, State::Waiting | State::Connecting) {
            let state = self.session.begin();
            self.enter(state, Some(self.now + self.config.handshake_timeout));
        }
    }

    /// The transport could not be opened.
    pub fn handle_connect_failed(&mut self, now: Time) {
        self.advance_clock(now);
        match self.state {
            // In `Waiting` only an adapter that asked `wants_connect` ahead of `handle_timeout` can have tried.
            State::Waiting if !self.wants_connect(now) => {}
            State::Waiting | State::Connecting => {
                self.end_connection(Ending::Dropped(DropCause::ConnectFailed))
            }
            State::Closing => self.handle_closed(now, Closed::Error),
            _ => {}
        }
    }

    /// Takes bytes that were read. Returns the first event that they hold, and advances `input` past it: to be called
    /// again with the rest until it returns `None`, when nothing of `input` is left.
    ///
    /// A packet is lent from `input`, or from the machine where it came in pieces.
    pub fn handle_bytes<'a, 'input: 'a>(
        &'a mut self,
        now: Time,
        input: &mut &'input [u8],
    ) -> Option<Event<'a>> {
        self.advance_clock(now);
        if self.state.is_handshake() {
            // What comes after the deadline is late, whether the adapter has served the deadline or not.
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
                // The deadline stays: it is one for the whole handshake.
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

    /// The transport is gone, closed from either side.
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
            // In `AwaitPing` too: a challenge that opened says that the edge has the session, and an orderly end does not unsay
            // it, since a load balancer may make it from a reset (SPEC 4.6(b)). The next claim tells.
            (None, Closed::Eof) => Ending::Dropped(DropCause::ClosedByEdge),
            (None, Closed::Error) => Ending::Dropped(DropCause::Transport),
        };
        self.end_connection(ending);
    }

    /// The next [`Dropped`](Event::Dropped) or [`Refused`](Event::Refused), if one was not taken yet. A later one
    /// replaces it.
    pub fn poll_event(&mut self) -> Option<Event<'static>> {
        self.event.take()
    }

    /// The bytes to write now. They stay until [`handle_written`](Self::handle_written).
    #[must_use]
    pub fn output(&self) -> &[u8] {
        let handshake = self.session.output();
        match self.state {
            // What is left of the handshake goes first: the edge may have answered before it was all written.
            State::Established if handshake.is_empty() => self.queue.output(),
            State::Closing => &[],
            _ => handshake,
        }
    }

    /// The transport took the first `n` bytes of [`output`](Self::output).
    ///
    /// # Panics
    /// When `n` is more than was offered.
    pub fn handle_written(&mut self, now: Time, n: usize) {
        self.advance_clock(now);
        assert!(
            n <= self.output().len(),
            "no more bytes can be written than were offered"
        );
        if self.session.output().is_empty() {
            self.queue.advance(n);
        } else {
            self.session.handle_written(n);
        }
    }

    /// Whether the adapter is to close the transport, or to give up opening it.
    #[must_use]
    pub fn wants_close(&self) -> bool {
        self.state == State::Closing
    }

    /// Queues a packet. It leaves at once if the session is established, else as soon as it is.
    ///
    /// # Errors
    /// [`SendError::TooLong`] above [`max_packet_bytes`](Self::max_packet_bytes); [`SendError::QueueFull`] where one of
    /// the queue's bounds would be passed; [`SendError::Refused`] once the session was refused. Nothing is queued then.
    pub fn send(&mut self, data: &[u8]) -> Result<(), SendError> {
        if let State::Refused(refusal) = self.state {
            return Err(refusal.into());
        }
        let max = self.max_packet_bytes();
        let length = u32::try_from(data.len())
            .ok()
            .filter(|_| data.len() <= max)
            .ok_or(SendError::TooLong {
                length: data.len(),
                max,
            })?;
        let frame_bytes = LENGTH_BYTES + data.len();
        if self.queue.packets() >= self.config.queue_packets
            || self.queue.held_bytes() + frame_bytes > self.config.queue_bytes
        {
            return Err(SendError::QueueFull);
        }
        self.queue.push_frame(&length.to_le_bytes(), data);
        Ok(())
    }

    /// Bytes of the longest packet that can be sent: `max_send_bytes`, or what the empty queue has room for.
    #[must_use]
    pub fn max_packet_bytes(&self) -> usize {
        let room = self.config.queue_bytes.saturating_sub(LENGTH_BYTES);
        usize::try_from(self.config.max_send_bytes).map_or(room, |max| max.min(room))
    }

    /// Packets that wait to be written, a half-written one included.
    #[must_use]
    pub fn queued_packets(&self) -> usize {
        self.queue.packets()
    }

    /// Bytes of the packets that wait to be written, lengths included.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.queue.held_bytes()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, if nothing else happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timer
    }

    /// Time has passed.
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

    /// Gives the connection up as if the network had: the client comes back by itself. For tests and for impatience.
    pub fn drop_connection(&mut self) {
        if self.state.has_transport() && self.state != State::Closing {
            self.close(Ending::Dropped(DropCause::Local));
        }
    }

    /// Where the session was refused: forgets it, the edge's key and what was queued for it, and joins as a new client.
    /// Does nothing in any other state.
    pub fn start_over(&mut self) {
        if matches!(self.state, State::Refused(_)) {
            self.session.forget();
            self.queue.clear();
            self.enter(State::Waiting, Some(self.now));
        }
    }

    /// What [`restore`](Self::restore) needs, once there is a session and as long as it may still be resumed.
    #[must_use]
    pub fn saved_session(&self) -> Option<SavedSession> {
        self.session.save()
    }

    /// The id of the session, connected or not; `None` before there is one and after the edge has disowned it.
    #[must_use]
    pub fn id(&self) -> Option<ClientId> {
        self.session.id()
    }

    /// Where the client is.
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

    /// The transport is to go; what follows is settled already.
    fn close(&mut self, ending: Ending) {
        self.ending = Some(ending);
        self.enter(State::Closing, None);
    }

    /// The transport is gone. Nothing of what it carried in part stays, but the packet that it took in part.
    fn end_connection(&mut self, ending: Ending) {
        self.reader.clear();
        self.session.abandon_opening();
        self.queue.rewind();
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
    /// Neither keys nor payloads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("id", &self.id())
            .field("state", &self.state)
            .field("timer", &self.timer)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}
