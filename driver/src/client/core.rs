//! A client behind its lock: the machine, its connection, and what has come.

mod saving;

use std::collections::VecDeque;
use std::ops::Range;
use std::task::{Context, Poll};

use voltlane_core::client::{
    self as machine, Class, Code, DropCause as Why, End, SavedClient, SendError, State, TokenError,
    Versions,
};
use voltlane_core::protocol::Version;
use voltlane_core::{ClientId, Time};

use super::heard::{Heard, Lent, hear};
use super::options::{Entropy, Means, Options};
use super::rejoins;
use super::store::SessionStore;
use super::token::Tokens;
use super::transport::Transport;
use super::{ConnectError, DropCause, Event, Sent};
use crate::Timer;
use crate::driven::{Driven, Reads};
use crate::inbox::Inbox;
use crate::io::Read;
use crate::late::is_late;
use crate::ticks::Ticks;
use crate::waiters::Waiters;

/// Maximum bytes per read.
const BUFFER_BYTES: usize = 16 * 1024;
/// Steps per poll before the task yields to others.
const STEPS_PER_POLL: usize = 128;
/// Writes per `send`. The rest is written by the next call that waits.
const WRITES_PER_SEND: usize = 8;
/// Events that `recv` takes from the inbox before it looks at the connection.
const EVENTS_PER_LOOK: u32 = 16;
/// The maximum number of events other than packets in the inbox. Beyond it only `recv` reads, since an edge can report gap after gap without
/// filling the ring.
const MAX_NOTICES: usize = 4_096;
/// Ended sessions of which `acknowledged` knows.
const PAST_SESSIONS: usize = 8;

/// A session that is over.
struct Past {
    session: u64,
    /// The number up to which its packets were acknowledged.
    acked: u64,
    end: End,
}

/// Whether the client is [suspended](super::Client::suspend).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaving {
    No,
    /// In version 2, what waits is sent, until then at most.
    Until(Time),
    Over,
}

pub(super) struct Core {
    machine: machine::Client,
    transport: Transport,
    timer: Box<dyn Timer>,
    entropy: Entropy,
    /// Where the token of each attempt to join comes from, if it is asked for.
    tokens: Option<Tokens>,
    /// Where the session is kept, if it is.
    store: Option<Box<dyn SessionStore>>,
    buffer: Box<[u8]>,
    /// The part of the buffer that the machine has not taken yet.
    unread: Range<usize>,
    /// Whether the machine may have more of the bytes that it was given.
    has_more: bool,
    /// Events that came while another call than `recv` waited.
    inbox: Inbox<Heard>,
    /// The number of events in the inbox that are not packets.
    notices: usize,
    /// Events taken from the inbox since the connection was looked at.
    taken: u32,
    /// The packet that the application got last, until it comes back.
    lent: Option<Lent>,
    waiters: Waiters<u64>,
    /// Whether the waker is registered for all I/O and the alarm. Nothing has to be done until it is woken.
    is_parked: bool,
    /// The time of the alarm.
    armed: Option<Time>,
    /// The number of the session, from 1.
    session: u64,
    id: Option<ClientId>,
    /// In version 2: the number up to which the transport has taken all packets and holds none.
    flushed: u64,
    past: VecDeque<Past>,
    starts_over: bool,
    is_closing: bool,
    leaving: Leaving,
    ticks: Option<Ticks>,
    /// When the client gives up its first session. `None`: never, or it has.
    gives_up_at: Option<Time>,
    has_given_up: bool,
    last_drop: Option<DropCause>,
    /// The length of the last packet for which `try_send` found no room.
    refused: usize,
    /// Whether `recv` is being polled.
    is_reading: bool,
}

impl Core {
    pub(super) fn new(
        options: Options,
        means: Means,
        waiters: Waiters<u64>,
    ) -> Result<Core, ConnectError> {
        let Means {
            connectors,
            timer,
            mut entropy,
            ask,
            store,
        } = means;
        let now = timer.now();
        let seed = entropy();
        let config = options.config.or_versions(Versions::V3OrV2);
        #[cfg(feature = "tickets")]
        let config = match connectors.len() {
            0 | 1 => config,
            // Another address may be that of another edge.
            _ => config.with_tickets(true),
        };
        let mut config = config;
        let (content, what, store) = match store {
            None => (options.suspended, "the suspended session", None),
            Some(_) if options.suspended.is_some() => {
                return Err(ConnectError::Config(
                    "a suspended session is in its store already: leave one of both out".into(),
                ));
            }
            Some((mut store, saving)) => {
                config = config.with_saving(saving);
                (store.load()?, "the session file", Some(store))
            }
        };
        let wrong = |error| ConnectError::Config(format!("{what}: {error}"));
        let stored = content.map(|content| SavedClient::from_bytes(&content));
        let stored = stored.transpose().map_err(wrong)?;
        let mut machine = match &options.saved {
            Some(_) if config.demands_v3() => {
                return Err(ConnectError::Config(
                    "a saved session is one of version 2, which proves no key: leave it out, or the pinned keys and the demand for version 3"
                        .into(),
                ));
            }
            Some(saved) => machine::Client::restore(config, seed, saved),
            None => match stored {
                Some(stored) => machine::Client::restore_saved(config, seed, stored),
                None => machine::Client::new(config, seed),
            },
        };
        // Whether a token may go to this edge is known before there is one.
        let token = ask.as_ref().map(|_| &[][..]);
        if let Some(token) = token.or(options.token.as_deref()) {
            machine.set_token(token).map_err(|error| {
                ConnectError::Config(match error {
                    TokenError::NoPin => {
                        "a token goes only to an edge that is known: pin its key, or connect with tls:// or wss://"
                            .to_owned()
                    }
                    error => error.to_string(),
                })
            })?;
        }
        if options.tick.is_some_and(|every| every.is_zero()) {
            return Err(ConnectError::Config("a tick cannot come every 0 s".into()));
        }
        Ok(Core {
            id: machine.id(),
            machine,
            transport: Transport::new(connectors),
            timer,
            entropy,
            tokens: ask.map(Tokens::new),
            store,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            unread: 0..0,
            has_more: false,
            inbox: Inbox::new(),
            notices: 0,
            taken: 0,
            lent: None,
            waiters,
            is_parked: false,
            armed: None,
            session: 1,
            flushed: 0,
            past: VecDeque::new(),
            starts_over: options.start_over,
            is_closing: false,
            leaving: Leaving::No,
            ticks: options.tick.map(|every| Ticks::new(every, now)),
            gives_up_at: options.give_up_after.map(|after| now + after),
            has_given_up: false,
            last_drop: None,
            refused: 0,
            is_reading: false,
        })
    }

    pub(super) fn machine(&self) -> &machine::Client {
        &self.machine
    }

    pub(super) fn id(&self) -> Option<ClientId> {
        self.id
    }

    // ---- waiting

    fn keep(&mut self, heard: Heard) {
        match &heard.event {
            // A volatile packet comes now or not at all.
            Event::Packet { number: 0, .. } if !self.inbox.has_room() => return,
            // Of several in a row only the last one matters, even if the client was connected in between and received nothing.
            Event::Dropped { .. } => {
                let brings_nothing = |last: &Heard| {
                    matches!(
                        last.event,
                        Event::Dropped { .. } | Event::Resumed { .. } | Event::CaughtUp { .. }
                    )
                };
                while self.inbox.pop_last_if(brings_nothing).is_some() {
                    self.notices -= 1;
                }
            }
            _ => {}
        }
        self.notices += usize::from(heard.is_notice());
        self.inbox.push(heard);
    }

    fn ticks_now(&self) -> bool {
        let next = self.ticks.as_ref().map(|ticks| ticks.next);
        next.is_some_and(|next| next <= self.timer.now())
    }

    /// Wakes the call that drives the client, since another one has changed something and does not wait.
    fn tell_driver(&mut self) {
        self.waiters.wake_driver();
    }

    // ---- recv

    fn lend(&mut self, heard: Heard) -> Event {
        self.lent = heard.lent;
        self.ticks.iter_mut().for_each(Ticks::others_come);
        heard.event
    }

    // ---- sending

    /// Queues a packet. The next call that waits writes it.
    pub(super) fn queue(&mut self, data: &[u8]) -> Result<Sent, SendError> {
        if self.leaving != Leaving::No {
            return Err(SendError::Ended(self.end_now()));
        }
        let sent = self.machine.send(data);
        if let Err(SendError::NoRoom) = sent {
            self.refused = data.len();
        }
        sent.map(|number| Sent {
            id: self.id.unwrap_or(ClientId::from_u64(0)),
            session: self.session,
            number,
        })
    }

    /// Queues a packet, and wakes the call that drives the client.
    pub(super) fn try_send(&mut self, data: &[u8]) -> Result<Sent, SendError> {
        let sent = self.queue(data)?;
        self.tell_driver();
        Ok(sent)
    }

    /// Queues a packet and writes it, as far as the connection takes it. `None`: there is no room.
    pub(super) fn send(
        &mut self,
        io: &mut Context<'_>,
        data: &[u8],
    ) -> Option<Result<Sent, SendError>> {
        match self.queue(data) {
            Err(SendError::NoRoom) => None,
            Err(error) => Some(Err(error)),
            Ok(sent) => {
                self.write_on(io);
                Some(Ok(sent))
            }
        }
    }

    /// Sends a packet if the connection can take it now.
    pub(super) fn send_volatile(
        &mut self,
        io: &mut Context<'_>,
        data: &[u8],
    ) -> Result<bool, SendError> {
        let max = self.machine.max_packet_bytes();
        let length = data.len();
        if length > max {
            return Err(SendError::TooLong { length, max });
        }
        if self.machine.state() != State::Established || self.machine.has_unsent() {
            return match self.is_over() {
                true => Err(SendError::Ended(self.end_now())),
                false => Ok(false),
            };
        }
        match self.queue(data) {
            Ok(_) => self.write_on(io),
            Err(SendError::NoRoom) => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    fn write_on(&mut self, io: &mut Context<'_>) {
        let wrote_all = (0..WRITES_PER_SEND).any(|_| {
            let now = self.timer.now();
            !(self.transport.write(io, now, &mut self.machine) | self.saves())
        });
        if !wrote_all || self.transport.is_broken() {
            self.tell_driver();
        }
        self.note_flushed(io);
        self.arm(io);
    }

    /// Returns the length of the packet that `room` waits for.
    pub(super) fn refused(&self) -> usize {
        self.refused
    }

    // ---- acknowledgements

    /// Returns the number up to which all packets of the present session are acknowledged. In version 2: taken by the transport.
    fn acked(&self) -> u64 {
        match self.machine.version() {
            Version::V2 => self.flushed,
            _ => self.machine.acknowledged(),
        }
    }

    /// Like [`acked`](Self::acked). Of a session that is over: what its end told.
    pub(super) fn settled(&self) -> u64 {
        let past = self.past.iter().find(|past| past.session == self.session);
        past.map_or_else(|| self.acked(), |past| past.acked)
    }

    fn note_flushed(&mut self, io: &mut Context<'_>) {
        let taken = self.machine.acknowledged();
        if self.machine.version() == Version::V2
            && taken > self.flushed
            && !self.transport.holds(io)
        {
            self.flushed = taken;
        }
    }

    /// Returns the last packet that was sent, for `flush`.
    pub(super) fn last_sent(&self) -> (u64, u64) {
        (self.session, self.machine.ledgers().up.numbered)
    }

    /// Returns whether a packet was acknowledged. `None`: not yet.
    pub(super) fn is_acknowledged(&self, session: u64, number: u64) -> Option<Result<(), End>> {
        let past = self.past.iter().find(|past| past.session == session);
        match past {
            Some(past) if number <= past.acked => Some(Ok(())),
            Some(past) => Some(Err(past.end.clone())),
            None if session != self.session => Some(Err(self.end_now())),
            None if number <= self.acked() => Some(Ok(())),
            None => None,
        }
    }

    // ---- the session

    /// Returns whether the first session has begun. `None`: not yet.
    pub(super) fn has_begun(&self) -> Option<Result<(), ConnectError>> {
        if self.id.is_some() {
            return Some(Ok(()));
        }
        if self.is_over() {
            return Some(Err(ConnectError::Ended(self.end_now())));
        }
        if !self.has_given_up {
            return None;
        }
        let none = || DropCause::new(Why::ConnectTimeout, None, None);
        let last = self.last_drop.clone().unwrap_or_else(none);
        Some(Err(ConnectError::Unreachable { last }))
    }

    pub(super) fn is_over(&self) -> bool {
        self.machine.state().is_over() || self.leaving == Leaving::Over
    }

    /// Returns how the session ended, once it has and its connection is closed.
    pub(super) fn end(&self) -> Option<End> {
        self.is_over().then(|| self.end_now())
    }

    /// Returns the last end, or that of the goodbye that is being said.
    fn end_now(&self) -> End {
        if let Some(end) = self.machine.end() {
            return end.clone();
        }
        match self.past.back() {
            Some(past) if self.is_over() || !self.is_closing => past.end.clone(),
            _ => End::new(Code::GOODBYE, "", self.machine.ledgers()),
        }
    }

    /// Says goodbye.
    pub(super) fn close(&mut self) {
        self.is_closing = true;
        self.machine.close(self.timer.now());
        self.tell_driver();
    }

    pub(super) fn set_token(&mut self, token: &[u8]) -> Result<(), machine::TokenError> {
        self.machine.set_token(token)?;
        self.tell_driver();
        Ok(())
    }

    pub(super) fn drop_connection(&mut self) {
        self.machine.drop_connection();
        self.tell_driver();
    }

    /// Begins a new session after one that is over. Returns whether it does.
    pub(super) fn start_over(&mut self) -> bool {
        self.machine.start_over();
        if self.is_over() {
            return false;
        }
        self.is_closing = false;
        self.session += 1;
        self.flushed = 0;
        self.tell_driver();
        true
    }

    fn ended(&mut self, end: End) -> Event {
        self.saves();
        self.note_end(self.machine.acknowledged(), &end);
        // After a goodbye the application wants no other session.
        if self.starts_over && !self.is_closing && end.code.class() == Class::Afresh {
            self.start_over();
        }
        Event::Ended { end }
    }

    /// Notes how the session ended, for those who ask what was acknowledged.
    fn note_end(&mut self, acked: u64, end: &End) {
        if self.past.len() == PAST_SESSIONS {
            self.past.pop_front();
        }
        self.past.push_back(Past {
            session: self.session,
            acked,
            end: end.clone(),
        });
        self.waiters.wake_all();
    }

    /// Converts an event of the machine that happens between connections.
    fn tell(&mut self, event: machine::Event<'static>) -> Option<Heard> {
        let event = match event {
            machine::Event::Dropped {
                cause: why,
                retry_in,
            } => {
                let (error, words) = (self.transport.error.clone(), self.transport.words.clone());
                // A session that cannot be stored is a drop of our own.
                let error = error.filter(|_| matches!(why, Why::ConnectFailed | Why::Local));
                let cause = DropCause::new(why, error, words);
                self.tokens.iter_mut().for_each(Tokens::attempt_is_over);
                self.last_drop = Some(cause.clone());
                Event::Dropped { cause, retry_in }
            }
            machine::Event::Refused(_) => {
                let end = self.end_now();
                self.ended(end)
            }
            machine::Event::Ended(end) => self.ended(end),
            event => return hear(event, self.session, &mut self.id),
        };
        Some(event.into())
    }

    // ---- the connection

    /// Does everything that can be done until there is an event. Packets are read only if `reads`.
    fn step(&mut self, io: &mut Context<'_>, steps: &mut usize, reads: bool) -> Poll<Heard> {
        self.is_parked = false;
        while *steps > 0 && self.leaving != Leaving::Over {
            *steps -= 1;
            let now = self.timer.now();
            if !self.serves_first(io, now, reads) {
                self.machine.handle_timeout(now);
            }
            if self.machine.state() == machine::State::Established {
                self.transport.taken_up();
            }
            if let Some(event) = self.machine.poll_event() {
                match self.tell(event) {
                    Some(heard) => return Poll::Ready(heard),
                    None => continue,
                }
            }
            if self.machine.wants_close() {
                // After a goodbye, everything that was written has to arrive.
                let finishes = self.is_closing && !self.transport.is_broken();
                if finishes
                    && self
                        .transport
                        .poll_finish(io, now, &mut self.buffer)
                        .is_pending()
                {
                    if self.rest(io).is_pending() {
                        return self.park();
                    }
                    continue;
                }
                self.lose(now, machine::Closed::Error);
                continue;
            }
            let may_read = self.may_read(reads);
            if may_read && self.has_unread() {
                match self.take_unread() {
                    Some(heard) => return Poll::Ready(heard),
                    None => continue,
                }
            }
            if self.connect_on(io, now)
                | self.transport.write(io, now, &mut self.machine)
                | self.saves()
                | self.read(io, now, may_read)
            {
                continue;
            }
            if self.transport.gives_up(now) {
                self.lose(now, machine::Closed::Error);
                continue;
            }
            self.note_flushed(io);
            if self.id.is_none() && self.gives_up_at.is_some_and(|at| at <= now) {
                (self.gives_up_at, self.has_given_up) = (None, true);
            }
            if self.waiters.has_reader() && self.ticks_now() {
                if self.is_reading {
                    return Poll::Pending;
                }
                self.waiters.wake_reader();
            }
            if self.rest(io).is_pending() {
                return self.park();
            }
        }
        if self.leaving != Leaving::Over {
            self.tell_driver();
        }
        self.park()
    }

    /// Takes what the connection has, if a deadline is late: the client was not polled for a while, and the edge may have sent something.
    /// Returns whether there is something, which counts before the deadline does.
    fn serves_first(&mut self, io: &mut Context<'_>, now: Time, reads: bool) -> bool {
        if !is_late(now, self.machine.poll_timeout()) {
            return false;
        }
        let may_read = self.may_read(reads);
        if self.has_unread() {
            return may_read;
        }
        self.connect_on(io, now) | self.read(io, now, may_read)
    }

    /// Returns whether packets may be read. A connection that accepts no more writes is read to its end in any case.
    fn may_read(&self, reads: bool) -> bool {
        reads || self.transport.is_broken() || self.machine.state() != State::Established
    }

    fn has_unread(&self) -> bool {
        self.has_more || !self.unread.is_empty()
    }

    fn park(&mut self) -> Poll<Heard> {
        self.is_parked = true;
        Poll::Pending
    }

    /// Begins or continues to connect, once there is a token to join with. Returns true if something changed.
    fn connect_on(&mut self, io: &mut Context<'_>, now: Time) -> bool {
        let joins = self.machine.id().is_none() && self.machine.wants_connect(now);
        if let Some(tokens) = self.tokens.as_mut().filter(|_| joins) {
            match tokens.poll(io) {
                Poll::Pending => return false,
                Poll::Ready(None) => {}
                Poll::Ready(Some(token)) => {
                    if let Err(error) = self.machine.set_token(&token) {
                        tracing::error!(%error, "the client joins without the token that it was given");
                    }
                }
            }
        }
        let (machine, entropy) = (&mut self.machine, &mut self.entropy);
        self.transport.connect_on(io, now, machine, entropy)
    }

    /// Reads once. Returns true if something changed.
    fn read(&mut self, io: &mut Context<'_>, now: Time, may_read: bool) -> bool {
        if !may_read {
            return false;
        }
        match self.transport.read(io, &mut self.buffer) {
            Read::Blocked => return false,
            Read::Bytes(bytes) => self.unread = 0..bytes,
            Read::Eof => self.lose(now, machine::Closed::Eof),
            Read::Failed | Read::Answered => self.lose(now, machine::Closed::Error),
        }
        true
    }

    fn lose(&mut self, now: Time, closed: machine::Closed) {
        self.transport.lose();
        self.unread = 0..0;
        self.has_more = false;
        self.machine.handle_closed(now, closed);
    }

    /// Sets the alarm. Ready if it is time already.
    fn rest(&mut self, io: &mut Context<'_>) -> Poll<()> {
        self.armed = self.deadline();
        match self.armed {
            Some(at) => self.timer.poll_until(io, at),
            None => Poll::Pending,
        }
    }

    /// Sets the alarm for the call that waits, if it must go off earlier now.
    fn arm(&mut self, io: &mut Context<'_>) {
        if !self.waiters.is_driven() || !self.is_parked {
            return;
        }
        let is_earlier = match (self.deadline(), self.armed) {
            (Some(at), Some(armed)) => at < armed,
            (at, None) => at.is_some(),
            (None, Some(_)) => false,
        };
        if is_earlier && self.rest(io).is_ready() {
            self.tell_driver();
        }
    }

    fn deadline(&self) -> Option<Time> {
        let tick = self.ticks.as_ref().map(|ticks| ticks.next);
        let deadlines = [
            self.machine.poll_timeout(),
            self.transport.deadline(),
            tick.filter(|_| self.waiters.has_reader()),
            self.gives_up_at.filter(|_| self.id.is_none()),
            self.leaves_at(),
        ];
        deadlines.into_iter().flatten().min()
    }
}

impl Reads for Core {
    type Event = Event;

    fn come_back(&mut self, io: &mut Context<'_>) {
        // A session that is over acknowledges nothing, and its numbers mean nothing to the next one.
        let lent = self.lent.take();
        if let Some(Lent { number, .. }) = lent.filter(|lent| lent.session == self.session) {
            self.machine.taken(self.timer.now(), number);
            self.arm(io);
        }
    }

    /// Returns a tick or an event of the inbox.
    fn take_kept(&mut self, io: &mut Context<'_>) -> Option<Event> {
        if self.ticks.as_ref().is_some_and(Ticks::come_first)
            && let Some(tick) = self.take_tick()
        {
            return Some(tick);
        }
        let was_full = !self.inbox.has_room();
        let heard = self.inbox.pop()?;
        self.notices -= usize::from(heard.is_notice());
        let was_full = was_full || heard.is_notice() && self.notices + 1 == MAX_NOTICES;
        if was_full && self.inbox.has_room() {
            self.tell_driver();
        }
        self.taken += 1;
        if self.taken >= EVENTS_PER_LOOK {
            self.taken = 0;
            self.drive(io);
        }
        Some(self.lend(heard))
    }

    fn step_for_reader(&mut self, io: &mut Context<'_>) -> Poll<Event> {
        let mut steps = STEPS_PER_POLL;
        self.is_reading = true;
        let step = self.step(io, &mut steps, true);
        self.is_reading = false;
        step.map(|heard| self.lend(heard))
    }

    fn take_tick(&mut self) -> Option<Event> {
        if self.is_over() {
            return None;
        }
        let ticks = self.ticks.as_mut()?;
        let late = ticks.take(self.timer.now())?;
        Some(Event::Tick { late })
    }

    fn has_ended(&self) -> bool {
        self.is_over()
    }
}

impl Driven for Core {
    type Key = u64;

    fn waiters(&mut self) -> &mut Waiters<u64> {
        &mut self.waiters
    }

    fn is_parked(&self) -> bool {
        self.is_parked
    }

    fn drive(&mut self, io: &mut Context<'_>) {
        let mut steps = STEPS_PER_POLL;
        loop {
            // Version 3 bounds the packets that come by its ring. Version 2 has no bound but ours.
            let reads = match self.machine.version() {
                Version::V2 => self.inbox.has_room(),
                _ => self.notices < MAX_NOTICES,
            };
            match self.step(io, &mut steps, reads) {
                Poll::Ready(heard) => self.keep(heard),
                Poll::Pending => return,
            }
        }
    }

    fn settle(&mut self) {
        if self.waiters.has_reader()
            && (!self.inbox.is_empty() || self.is_over() || self.ticks_now())
        {
            self.waiters.wake_reader();
        }
        let acked = self.acked();
        self.waiters.wake_numbers(0..=acked);
        let machine = &self.machine;
        self.waiters.wake_room(|length| machine.has_room(length));
        if self.is_over() || self.may_leave() {
            self.waiters.wake_all();
        } else if self.id.is_some() || self.has_given_up {
            self.waiters.wake_session();
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if self.id.is_some() && !self.is_over() && !self.is_closing {
            rejoins::gave_up();
        }
    }
}
