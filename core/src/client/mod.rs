//! The client's side of the client link, as a pure state machine that reconnects. (SPEC 4)

mod account;
mod config;
mod connection;
#[cfg(feature = "serde")]
mod data;
mod ending;
mod error;
mod saved;
mod saved_client;
mod saving;
mod state;

use core::fmt;
use core::time::Duration;

use tracing::debug;

use crate::draws::Draws;
use crate::keys::PublicKey;
use crate::opening::{self, Awaits, ClientFault};
use crate::protocol::{ClientContext, ClientEnd, ClientSession, Leave, Told, Trust, Version};
use crate::queue::{Bounds, Outbox};
use crate::wire::frame::FrameReader;
use crate::{ClientId, Time};

pub use crate::Closed;
#[cfg(debug_assertions)]
pub use crate::protocol::client::KeyLog;
pub use crate::protocol::client::Versions;
pub use crate::protocol::{
    Breach, Class, Code, Gap, Ledger, Ledgers, MAX_BREACHES, MAX_TOKEN_BYTES,
    MAX_UNPROVABLE_CHALLENGES, STEADY_TIME,
};
pub use config::{
    ClientConfig, GOODBYE_ANSWER_TIME, LEAVING_TIME, MAX_HANDSHAKE_BODY_BYTES, Saving,
};
pub use error::{DropCause, End, Event, Refusal, SendError, TokenError, Violation};
pub use saved::{SAVED_SESSION_BYTES, SavedSession, SavedSessionError};
pub use saved_client::{MAX_STATE_BYTES, SavedClient, SavedClientError};
pub use saving::StateTooLong;
pub use state::State;
#[doc(no_inline)]
pub use zeroize::Zeroizing;

use saved_client::Content;
use saving::Keeper;

use ending::{AT_ONCE, Ending, Pause, Pauses, violation};

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
/// Packets arrive whole and in order. They wait while there is no connection.
///
/// In version 3 a packet is kept until the edge has acknowledged it, and each arrives once, over any number of connections, while the
/// session lives. The adapter says with [`taken`](Self::taken) when the application has come back for more.
///
/// In version 2 a packet that the transport took in part when it ended is sent again in full on the next connection. One that it took
/// entirely is not, and may be lost with it (version 2 acknowledges nothing). Packets are sent only once the edge has confirmed the client's
/// identity. (SPEC 4.6)
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
    draws: Draws,
    /// The latest time seen.
    now: Time,
    state: State,
    /// The deadline of the current state, if it has one: the end of `Waiting`, or that of connecting or the handshake.
    timer: Option<Time>,
    /// In `Closing`: what follows once the transport has ended.
    ending: Option<Ending>,
    session: ClientSession,
    trust: Trust,
    reader: FrameReader,
    outbox: Outbox,
    pauses: Pauses,
    event: Option<Event<'static>>,
    /// How the session ended, in `Ended`.
    end: Option<End>,
    /// Whether another session may follow the one that ended.
    may_start_over: bool,
    /// When the last session was over, and the pause from then to the next one.
    afresh: (Time, Pause),
    goodbye: Goodbye,
    /// Whether a byte came from the edge on this connection.
    has_heard: bool,
    /// Whether the next new session is one of version 2, since an edge did not answer version 3.
    falls_back: bool,
    /// What a client that saves its session keeps for that.
    keeper: Option<Box<Keeper>>,
}

/// What became of a goodbye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goodbye {
    No,
    /// Everything that waits goes first, if it can be sent until then.
    Wanted(Time),
    /// The edge has until then to answer.
    Said(Time),
}

impl Goodbye {
    fn until(self) -> Option<Time> {
        match self {
            Goodbye::No => None,
            Goodbye::Wanted(until) | Goodbye::Said(until) => Some(until),
        }
    }
}

impl Client {
    /// Creates a client that joins as a new one. It wants to connect at once.
    ///
    /// Pauses, and in version 2 its private key, are derived from `seed`: 32 bytes that nobody can know or guess, and that were never used
    /// before.
    #[must_use]
    pub fn new(config: ClientConfig, seed: [u8; 32]) -> Self {
        let session = ClientSession::new(config.first_version());
        Self::with(config, seed, session)
    }

    /// Creates a client that resumes a saved session, which is one of version 2. For `seed` see [`new`](Self::new).
    #[must_use]
    pub fn restore(config: ClientConfig, seed: [u8; 32], saved: &SavedSession) -> Self {
        let session = ClientSession::restore(saved.id(), saved.keys().clone(), *saved.edge_key());
        Self::with(config, seed, session)
    }

    /// Creates a client that goes on with what another process has saved: with its session, if it has one that is not over. What that process
    /// has sent and the edge has not acknowledged goes again, and the edge knows what it has of that. For `seed` see [`new`](Self::new).
    #[must_use]
    pub fn restore_saved(config: ClientConfig, seed: [u8; 32], saved: SavedClient) -> Self {
        let state = saved.state().to_vec();
        let mut client = match saved.content {
            Content::V2(session) => Self::restore(config, seed, &session),
            Content::None(outbox) => {
                let mut client = Self::new(config, seed);
                for packet in outbox.held_packets() {
                    client.outbox.push(packet);
                }
                client
            }
            Content::V3(restored) => {
                let session = ClientSession::V3(Box::new(restored.session));
                let mut client = Self::with(config, seed, session);
                client.outbox = restored.outbox;
                client.trust.learned = Some(restored.edge_key);
                client
            }
        };
        if let Some(keeper) = &mut client.keeper {
            keeper.state = state;
        }
        client
    }

    fn with(config: ClientConfig, seed: [u8; 32], session: ClientSession) -> Self {
        let trust = Trust {
            pins: config.edge_keys.clone(),
            longest_packet_down: config.max_receive_bytes,
            takes_over: config.take_over,
            pads: config.padding,
            #[cfg(feature = "tickets")]
            roams: config.tickets,
            #[cfg(debug_assertions)]
            key_log: config.key_log.clone(),
            ..Trust::default()
        };
        let is_told = session.id().is_some();
        Client {
            draws: Draws::new(seed),
            now: Time::ZERO,
            state: State::Waiting,
            timer: Some(Time::ZERO),
            ending: None,
            reader: FrameReader::default(),
            outbox: Outbox::new(session.version().retention()),
            session,
            trust,
            pauses: Pauses::new(config.backoff_min, config.backoff_max),
            event: None,
            end: None,
            may_start_over: false,
            afresh: (Time::ZERO, AT_ONCE),
            goodbye: Goodbye::No,
            has_heard: false,
            falls_back: false,
            keeper: config.saving.map(|saving| Keeper::new(saving, is_told)),
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
    ///
    /// `random` must come from the operating system, for this connection: version 3 makes keys of it. (SPEC 20.6(a))
    pub fn handle_connected(&mut self, now: Time, random: [u8; 32]) {
        self.advance_clock(now);
        if matches!(self.state, State::Waiting | State::Connecting) {
            self.choose_version();
            self.has_heard = false;
            let (session, trust, outbox) = self.going();
            let awaits = session.begin(random, trust, outbox);
            let deadline = self.now + self.config.handshake_timeout;
            self.enter(State::of(awaits), Some(deadline));
        }
    }

    /// A session has one version for life. A new one gets version 3 if the client speaks it, unless it falls back.
    fn choose_version(&mut self) {
        if self.session.id().is_some() {
            return;
        }
        let falls_back = core::mem::take(&mut self.falls_back);
        let fallback = self.config.versions().fallback().filter(|_| falls_back);
        let version = fallback.unwrap_or_else(|| self.config.first_version());
        if version != self.session.version() {
            self.session = ClientSession::new(version);
            self.outbox.keep(version.retention());
        }
    }

    /// Returns whether an end of the transport that was `closed` means that the edge may not speak the first version. (SPEC 18.4(d))
    fn may_fall_back(&self, closed: Closed) -> bool {
        self.config.versions().fallback().is_some()
            && self.state == State::AwaitWelcome
            && closed == Closed::Eof
            && !self.has_heard
            && self.trust.pins.is_empty()
            && self.trust.learned.is_none()
    }

    /// Handles that the transport could not be opened.
    pub fn handle_connect_failed(&mut self, now: Time) {
        self.advance_clock(now);
        match self.state {
            // In `Waiting`, only an adapter that called `wants_connect` before `handle_timeout` can have tried.
            State::Waiting if !self.wants_connect(now) => {}
            State::Waiting | State::Connecting => {
                self.end_connection(Ending::dropped(DropCause::ConnectFailed))
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
        self.has_heard |= !input.is_empty();
        if self.state.is_handshake() {
            // Bytes after the deadline are late, even if the adapter has not called `handle_timeout` yet.
            self.handle_timeout(now);
        }
        while self.state.is_handshake() {
            let with = ClientContext {
                now: self.now,
                trust: &mut self.trust,
                outbox: &mut self.outbox,
                rng: &mut self.draws,
            };
            match self.session.open(&mut self.reader, input, with) {
                Ok(None) => return None,
                Ok(Some(Awaits::Data)) => return Some(self.establish()),
                // The deadline is kept, as it applies to the whole handshake.
                Ok(Some(awaits)) => self.enter(State::of(awaits), self.timer),
                Err(end) => {
                    let ending = self.ending_of(end);
                    self.close_transport(ending);
                }
            }
        }
        if self.state != State::Established {
            *input = &[];
            return None;
        }
        let with = ClientContext {
            now: self.now,
            trust: &mut self.trust,
            outbox: &mut self.outbox,
            rng: &mut self.draws,
        };
        let max_bytes = self.config.max_receive_bytes;
        let told = self.session.next(&mut self.reader, input, max_bytes, with);
        // What it told may borrow from the session and the reader, so only other fields can be changed here.
        let ending = match told {
            Ok(Told::Nothing) => return None,
            Ok(Told::Packet { data, number }) => return Some(Event::Packet { data, number }),
            Ok(Told::Gap(gap)) => return Some(Event::Gap(gap)),
            Ok(Told::Skipped { count }) => return Some(Event::Skipped { count }),
            Ok(Told::CaughtUp) => return Some(Event::CaughtUp),
            Ok(Told::Leaves(Leave::Breach { breach, says: true })) => {
                self.state = State::Leaving;
                self.timer = Some(self.now + LEAVING_TIME);
                Ending::from(Leave::Breach { breach, says: true })
            }
            Ok(Told::Leaves(leave)) => {
                (self.state, self.timer) = (State::Closing, None);
                leave.into()
            }
            Err(too_long) => {
                (self.state, self.timer) = (State::Closing, None);
                violation(too_long)
            }
        };
        *input = &[];
        self.ending = Some(ending);
        None
    }

    /// Tells what follows from an opening that failed.
    fn ending_of(&self, end: ClientEnd) -> Ending {
        let fault = match end {
            ClientEnd::Leave(leave) => return leave.into(),
            ClientEnd::TooLong(too_long) => return violation(too_long),
            ClientEnd::Fault(fault) => fault,
        };
        match fault {
            ClientFault::Violation(opening::Violation::Malformed(error)) => violation(error),
            ClientFault::Violation(opening::Violation::Key(error)) => violation(error),
            ClientFault::Violation(opening::Violation::Unexpected(packet)) => {
                let state = self.state;
                violation(Violation::Unexpected { state, packet })
            }
            ClientFault::OtherEdge => Ending::Refused(Refusal::EdgeKeyChanged),
            ClientFault::Unprovable { is_last: true } => Ending::Refused(Refusal::UnknownOrExpired),
            ClientFault::Unprovable { is_last: false } => violation(Violation::UnprovableChallenge),
        }
    }

    /// Handles that the transport is gone, closed from either side.
    pub fn handle_closed(&mut self, now: Time, closed: Closed) {
        self.advance_clock(now);
        if !self.state.has_transport() {
            return;
        }
        self.falls_back |= self.may_fall_back(closed);
        let ending = match (self.ending.take(), closed) {
            (Some(decided), _) => decided,
            // Whether everything arrived is not known then. (SPEC 26.3)
            (None, _) if matches!(self.goodbye, Goodbye::Said(_)) => self.unanswered(),
            (None, _) if self.state == State::Connecting => {
                Ending::dropped(DropCause::ConnectFailed)
            }
            // This also applies in `AwaitPing`. A challenge that opened means that the edge has the session. An orderly end does not prove
            // the contrary, since a load balancer may turn a reset into one (SPEC 4.6(b)). The next claim will tell.
            (None, Closed::Eof) => Ending::dropped(DropCause::ClosedByEdge),
            (None, _) => Ending::dropped(DropCause::Transport),
        };
        self.end_connection(ending);
    }

    /// Returns the next [`Dropped`](Event::Dropped), [`Refused`](Event::Refused) or [`Ended`](Event::Ended), if one was not taken yet. A later
    /// one replaces an earlier one.
    pub fn poll_event(&mut self) -> Option<Event<'static>> {
        self.event.take()
    }

    /// Makes output, and returns the bytes to write now. They stay until [`handle_written`](Self::handle_written).
    ///
    /// Call it when the transport may take bytes: a version that seals makes records then, of all that waits at that moment. A client
    /// [that saves](ClientConfig::with_saving) has none as long as something of it [is to be stored](Self::wants_save).
    #[must_use]
    pub fn output(&mut self) -> &[u8] {
        if self.waits_for_save() {
            return &[];
        }
        self.make_output()
    }

    fn make_output(&mut self) -> &[u8] {
        if self.is_sending() {
            let (session, trust, outbox) = self.going();
            return session.fill(trust, outbox);
        }
        match self.state {
            State::Closing => &[],
            _ => self.session.output(),
        }
    }

    /// Returns whether packets go out: the session is established, and the handshake, which goes first, is written. The edge may have
    /// answered before all of it was.
    fn is_sending(&self) -> bool {
        matches!(self.state, State::Established | State::Leaving)
            && self.session.output().is_empty()
    }

    /// Handles that the transport took the first `n` bytes of [`output`](Self::output).
    ///
    /// # Panics
    /// If `n` is more than was offered.
    pub fn handle_written(&mut self, now: Time, n: usize) {
        self.advance_clock(now);
        let taken = if self.is_sending() {
            self.session.written(&mut self.outbox, n)
        } else if self.state == State::Closing {
            0
        } else {
            self.session.took(n)
        };
        assert_eq!(taken, n, "no more bytes can be written than were offered");
        if let (State::Established, Goodbye::Wanted(_)) = (self.state, self.goodbye) {
            self.part();
        }
    }

    /// Says goodbye as soon as everything is sent.
    fn part(&mut self) {
        if self.holds_back() {
            return;
        }
        self.session.say_goodbye();
        match self.session.has_said_goodbye(&self.outbox) {
            (false, _) => {}
            (true, true) => self.goodbye = Goodbye::Said(self.now + GOODBYE_ANSWER_TIME),
            (true, false) => {
                let ending = self.unanswered();
                self.close_transport(ending);
            }
        }
    }

    /// The end after a goodbye that nobody answered.
    fn unanswered(&self) -> Ending {
        Ending::ended(Code::GOODBYE, "the edge did not answer")
    }

    /// Returns whether the adapter must close the transport, or give up opening it.
    #[must_use]
    pub fn wants_close(&self) -> bool {
        self.state == State::Closing
    }

    /// Queues a packet, and returns its number. It is sent at once if the session is established, otherwise as soon as it is.
    ///
    /// # Errors
    /// [`SendError::TooLong`] above [`max_packet_bytes`](Self::max_packet_bytes); [`SendError::NoRoom`] if the queue has no room for it;
    /// [`SendError::Ended`] once the session is over or a goodbye is wanted. Nothing is queued then.
    pub fn send(&mut self, data: &[u8]) -> Result<u64, SendError> {
        if let Some(end) = &self.end {
            return Err(SendError::Ended(end.clone()));
        }
        if self.goodbye != Goodbye::No {
            let end = End::new(Code::GOODBYE, "", self.ledgers());
            return Err(SendError::Ended(end));
        }
        let max = self.max_packet_bytes();
        if data.len() > max {
            return Err(SendError::TooLong {
                length: data.len(),
                max,
            });
        }
        if !self.has_room(data.len()) {
            return Err(SendError::NoRoom);
        }
        if let Some(keeper) = self.keeper.as_mut().filter(|keeper| keeper.holds()) {
            keeper.hold(data);
            let held = keeper.held().packets() as u64;
            return Ok(self.outbox.end().saturating_add(held));
        }
        self.outbox.push(data);
        Ok(self.outbox.end())
    }

    /// Returns the number up to which all packets are acknowledged, after the end with what that told. In version 2: taken by the transport.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        // After it the queue is empty, whatever became of what was in it.
        let Some(end) = &self.end else {
            return self.outbox.acked();
        };
        self.session.acknowledged_by(&end.ledgers.up)
    }

    /// The application has come back for more after it got packet `number`. It is acknowledged with the next record, or after a while.
    pub fn taken(&mut self, now: Time, number: u64) {
        self.advance_clock(now);
        if !self.takes_later(number) {
            self.session.take(self.now, number);
        }
    }

    /// Sets what the client shows when it joins: a ticket, or whatever the backend wants. In a session it is sent again, at once. Version 2
    /// has no tokens.
    ///
    /// # Errors
    /// [`TokenError`]. Nothing is set then.
    pub fn set_token(&mut self, token: &[u8]) -> Result<(), TokenError> {
        let (length, max) = (token.len(), MAX_TOKEN_BYTES);
        if length > max {
            return Err(TokenError::TooLong { length, max });
        }
        if self.trust.pins.is_empty() && !self.config.trust_first_use {
            return Err(TokenError::NoPin);
        }
        self.trust.token = token.to_vec();
        self.trust.token_is_new = true;
        Ok(())
    }

    /// Says goodbye: sends what waits, tells the edge that the session is over, and waits for its answer. [`Event::Ended`] follows, at the
    /// latest after [`goodbye_timeout`](ClientConfig::goodbye_timeout) and [`GOODBYE_ANSWER_TIME`], and its ledgers say what arrived.
    pub fn close(&mut self, now: Time) {
        self.advance_clock(now);
        if self.state.is_over() || self.goodbye != Goodbye::No {
            return;
        }
        self.goodbye = Goodbye::Wanted(self.now + self.config.goodbye_timeout);
        if self.session.id().is_none() {
            self.end_with(Ending::ended(Code::GOODBYE, ""));
        } else if self.state == State::Established {
            self.part();
        }
    }

    /// Ends the session, with its transport if there is one.
    fn end_with(&mut self, ending: Ending) {
        if self.state.has_transport() {
            self.close_transport(ending);
        } else {
            self.end_connection(ending);
        }
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) must be called, unless something else happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let of_session = match self.state {
            State::Established => self.session.poll_timeout(),
            State::Waiting => self.session.ends_at(),
            _ => None,
        };
        let until = self.goodbye.until().filter(|_| self.may_end());
        [self.timer, of_session, until].into_iter().flatten().min()
    }

    /// Returns whether the session can end by itself: nothing is decided yet.
    fn may_end(&self) -> bool {
        !self.state.is_over() && !matches!(self.state, State::Closing | State::Leaving)
    }

    /// Handles that time has passed.
    pub fn handle_timeout(&mut self, now: Time) {
        self.advance_clock(now);
        let now = self.now;
        let is_over = |at: Option<Time>| at.is_some_and(|at| at <= now);
        if self.may_end() && is_over(self.goodbye.until()) {
            let ending = self.unanswered();
            return self.end_with(ending);
        }
        match self.state {
            State::Waiting if is_over(self.session.ends_at()) => {
                let text = "nothing came from the edge for as long as it keeps a session";
                return self.end_connection(Ending::ended(Code::EXPIRED, text));
            }
            State::Established => {
                if let Some(leave) = self.session.handle_timeout(now) {
                    return self.close_transport(leave.into());
                }
            }
            _ => {}
        }
        if !is_over(self.timer) {
            return;
        }
        match self.state {
            State::Waiting => self.enter(
                State::Connecting,
                Some(self.now + self.config.connect_timeout),
            ),
            State::Connecting => self.close_transport(Ending::dropped(DropCause::ConnectTimeout)),
            State::Established => {
                self.timer = None;
                self.pauses.reset();
            }
            // The edge had its time.
            State::Leaving => self.enter(State::Closing, None),
            _ => self.close_transport(Ending::dropped(DropCause::HandshakeTimeout)),
        }
    }

    /// Drops the connection as if the network had failed. The client reconnects by itself. Useful for tests, or to retry early.
    pub fn drop_connection(&mut self) {
        if self.state.has_transport() && self.may_end() {
            self.close_transport(Ending::dropped(DropCause::Local));
        }
    }

    /// After a refusal, or an end whose [class](Class) allows it, forgets the session and the queue, and joins as a new client: no earlier
    /// after the end than the edge asked for, or after a longer pause if the client was as hasty since a connection was steady. Of version 2
    /// the edge's key is forgotten, too. Does nothing in any other state, nor after a goodbye or a code that tells the client to stop.
    pub fn start_over(&mut self) {
        if core::mem::take(&mut self.may_start_over) {
            self.end = None;
            self.session = ClientSession::new(self.config.first_version());
            self.outbox = Outbox::new(self.session.version().retention());
            if let Some(keeper) = &mut self.keeper {
                keeper.forget();
            }
            // An edge that ends each new session at once has no client in a loop.
            let (ended_at, pause) = self.afresh;
            let pause = self.pauses.next(pause, &mut self.draws);
            self.enter(State::Waiting, Some((ended_at + pause).max(self.now)));
        }
    }

    fn advance_clock(&mut self, now: Time) {
        self.now = self.now.max(now);
    }

    fn enter(&mut self, state: State, timer: Option<Time>) {
        debug!(id = self.id().map(ClientId::as_u64), from = ?self.state, to = ?state, "client state");
        self.state = state;
        self.timer = timer;
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
