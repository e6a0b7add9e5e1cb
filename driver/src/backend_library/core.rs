//! A backend behind its lock: the machine, its link, and what has come.

use std::ops::Range;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tracing::{debug, warn};
use voltlane_core::backend::SendError as Why;
use voltlane_core::backend::host::{self as machine, Host};
use voltlane_core::code::Code;
use voltlane_core::end::{End, Ledgers};
use voltlane_core::{ClientId, Time};

use super::link::{Accepted, Link};
use super::options::{Means, Options};
use super::target::{Aim, MAX_WITHOUT};
use super::{ClientInfo, EdgeId, Event, Joined, ListenError, SendError, Sent};
use crate::Timer;
use crate::driven::Driven;
use crate::inbox::Inbox;
use crate::io::Read;
use crate::ticks::Ticks;
use crate::waiters::{For, READER, Waiters};
use crate::weigh::Weigh;

/// Maximum bytes per read.
const BUFFER_BYTES: usize = 64 * 1024;
/// Steps per poll before the task yields to others.
const STEPS_PER_POLL: usize = 128;
/// Events that `recv` takes from the inbox before it looks at the link.
const EVENTS_PER_LOOK: u32 = 64;
/// Bytes that wait to be written before a send that finds nobody waiting writes them itself.
const WRITE_AT_BYTES: usize = 64 * 1024;
/// Bytes that wait to be written above which a volatile packet is not sent.
const VOLATILE_BYTES: usize = 256 * 1024;
/// How long [`close`](super::BackendHandle::close) takes at most.
pub const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// What came of a read.
enum Reading {
    Nothing,
    Some,
    Lost(Option<Heard>),
}

/// What is waited for by its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// That a stream has taken so many frames. (Version 2)
    Place(u64),
    /// That everything to a client is settled up to this number. (Version 3)
    Settled(ClientId, u64),
    /// That a client has room. (Version 3)
    Room(ClientId),
    /// The end.
    Over,
}

/// An event, and the count of its frame, which is acknowledged once the application is through with it.
struct Heard {
    event: Event,
    count: u64,
}

impl Weigh for Heard {
    fn packet_bytes(&self) -> usize {
        self.event.packet_bytes()
    }
}

/// Whether the backend ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closing {
    No,
    /// What waits is written, until then at most.
    Until(Time),
    Over,
}

pub(super) struct Core {
    machine: Host,
    link: Link,
    timer: Box<dyn Timer>,
    buffer: Box<[u8]>,
    /// The part of the buffer that the machine has not taken yet.
    unread: Range<usize>,
    /// The packet with which a client joined, while the application is told of the latter.
    ahead: Option<Heard>,
    /// Events that came while somebody else than `recv` waited.
    inbox: Inbox<Heard>,
    /// The count of the frame of which the application got something last, until it comes back. 0: none.
    lent: u64,
    /// Whether the application was told of the edge that is connected.
    has_told: bool,
    /// Events taken from the inbox since the link was looked at.
    taken: u32,
    waiters: Waiters<Key>,
    /// Whether all I/O has the waker, and the alarm is set: nothing is to be done before it is woken.
    is_parked: bool,
    closing: Closing,
    ticks: Option<Ticks>,
    /// Whether `recv` was ever called, and so comes back.
    has_reader: bool,
    /// Whether `recv` is being polled.
    is_reading: bool,
    /// The bytes of the last packet for which there was no room.
    refused: usize,
}

impl Core {
    pub(super) fn new(
        options: Options,
        means: Means,
        waiters: Waiters<Key>,
    ) -> Result<Core, ListenError> {
        let Means {
            listeners,
            timer,
            seed,
        } = means;
        let mut config = options.config;
        if options.asks {
            config = config.asking(std::array::from_fn(|i| seed[16 + i]));
        }
        if options.tick.is_some_and(|every| every.is_zero()) {
            return Err(ListenError::Config("a tick cannot come every 0 s".into()));
        }
        let now = timer.now();
        let Some(link) = Link::new(listeners) else {
            return Err(ListenError::Config("there is no listener".into()));
        };
        Ok(Core {
            machine: Host::new(config),
            link,
            timer,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            unread: 0..0,
            ahead: None,
            inbox: Inbox::new(),
            lent: 0,
            has_told: false,
            taken: 0,
            waiters,
            is_parked: false,
            closing: Closing::No,
            ticks: options.tick.map(|every| Ticks::new(every, now)),
            has_reader: false,
            is_reading: false,
            refused: 0,
        })
    }

    /// Returns the edge, if its link has version 3.
    pub(super) fn edge(&self) -> Option<EdgeId> {
        self.machine.edge()
    }

    pub(super) fn machine(&self) -> &Host {
        &self.machine
    }

    pub(super) fn machine_mut(&mut self) -> &mut Host {
        &mut self.machine
    }

    pub(super) fn is_connected(&self) -> bool {
        self.link.is_up()
    }

    // ---- recv

    pub(super) fn poll_recv(&mut self, waker: &Waker, io: &mut Context<'_>) -> Poll<Option<Event>> {
        self.has_reader = true;
        let polled = self.poll_event(waker, io);
        if polled.is_ready() {
            let must_look = !self.is_parked;
            self.waiters.leave(READER, For::Event, must_look);
        }
        self.settle();
        polled
    }

    fn poll_event(&mut self, waker: &Waker, io: &mut Context<'_>) -> Poll<Option<Event>> {
        self.waiters.withdraw(READER, For::Event);
        self.come_back();
        if let Some(event) = self.take_kept(io) {
            return Poll::Ready(Some(event));
        }
        self.waiters.attend(READER, waker);
        self.waiters.wait(READER, For::Event, waker);
        let mut steps = STEPS_PER_POLL;
        self.is_reading = true;
        let step = self.step(io, &mut steps, true);
        self.is_reading = false;
        match step {
            Poll::Ready(heard) => Poll::Ready(Some(self.lend(heard))),
            Poll::Pending => match self.take_tick() {
                Some(tick) => Poll::Ready(Some(tick)),
                None if self.is_over() => Poll::Ready(None),
                None => Poll::Pending,
            },
        }
    }

    /// Returns what there is without waiting, after one look at the link.
    pub(super) fn try_recv(&mut self, io: &mut Context<'_>) -> Option<Event> {
        self.has_reader = true;
        self.come_back();
        let event = self.take_kept(io).or_else(|| {
            self.drive(io);
            self.take_kept(io)
        });
        // The look may have taken the wakes of whoever waits, or left it something.
        if !self.is_parked {
            self.waiters.wake_driver();
        }
        self.settle();
        event
    }

    /// Returns a tick, an event of the inbox, or one of what was read.
    fn take_kept(&mut self, io: &mut Context<'_>) -> Option<Event> {
        if let Some(tick) = self.take_tick() {
            return Some(tick);
        }
        let was_full = !self.inbox.has_room();
        let Some(heard) = self.inbox.pop() else {
            return self.take_read().map(|heard| self.lend(heard));
        };
        if was_full && self.inbox.has_room() {
            self.is_parked = false;
            self.waiters.wake_driver();
        }
        self.taken += 1;
        if self.taken >= EVENTS_PER_LOOK {
            self.taken = 0;
            self.drive(io);
        }
        Some(self.lend(heard))
    }

    /// The application is back for more, so it has done what it wanted with the last event.
    fn come_back(&mut self) {
        let count = std::mem::take(&mut self.lent);
        if count > 0 {
            let now = self.timer.now();
            self.machine.taken_up(now, count);
            // The acknowledgement has a time of its own, or goes now.
            self.is_parked = false;
        }
    }

    fn lend(&mut self, heard: Heard) -> Event {
        self.lent = heard.count;
        heard.event
    }

    fn take_tick(&mut self) -> Option<Event> {
        let ticks = self.ticks.as_mut()?;
        let late = ticks.take(self.timer.now())?;
        Some(Event::Tick { late })
    }

    fn ticks_now(&self) -> bool {
        let next = self.ticks.as_ref().map(|ticks| ticks.next);
        next.is_some_and(|next| next <= self.timer.now())
    }

    /// Takes the next event out of what was read.
    fn take_read(&mut self) -> Option<Heard> {
        loop {
            if let Some(heard) = self.ahead.take() {
                return Some(heard);
            }
            if let Some(event) = self.machine.poll_event() {
                let count = self.machine.received();
                match self.tell(event, count) {
                    Some(heard) => return Some(heard),
                    None => continue,
                }
            }
            if self.unread.is_empty() {
                return None;
            }
            if let Some(heard) = self.take_frame() {
                return Some(heard);
            }
        }
    }

    fn take_frame(&mut self) -> Option<Heard> {
        let now = self.now_of_frames();
        let mut input = &self.buffer[self.unread.clone()];
        let event = match self.machine.handle_bytes(now, &mut input) {
            Ok(Some(event)) => event,
            Ok(None) => {
                self.unread = 0..0;
                return None;
            }
            Err(error) => {
                let address = self.link.address();
                warn!(?address, %error, "the edge's stream is broken; its link is closed");
                self.link.abort();
                return self.lose();
            }
        };
        let left = input.len();
        let heard = hear(event);
        self.unread.start = self.unread.end - left;
        let count = self.machine.received();
        match heard {
            Told::Nothing => None,
            Told::Event(event) => Some(Heard { event, count }),
            Told::First(id, packet) => {
                self.ahead = Some(Heard {
                    event: packet,
                    count,
                });
                let event = Event::Joined(Joined::bare(id));
                Some(Heard { event, count: 0 })
            }
            Told::Ended(id, end) => {
                self.wake_for(id, u64::MAX);
                let event = Event::Ended { id, end };
                Some(Heard { event, count })
            }
            Told::Settled(settled) => {
                for (id, number) in settled {
                    self.wake_for(id, number);
                }
                None
            }
        }
    }

    /// Returns the time for frames: a link of version 2 needs none.
    fn now_of_frames(&self) -> Time {
        match self.machine.poll_timeout().is_some() || self.machine.edge().is_some() {
            true => self.timer.now(),
            false => Time::ZERO,
        }
    }

    /// Returns what the application hears of an event that came without a frame.
    fn tell(&mut self, event: machine::Event<'static>, count: u64) -> Option<Heard> {
        let event = match event {
            machine::Event::Connected { edge, sessions } => {
                self.has_told = true;
                let address = self.link.address()?;
                Event::EdgeConnected {
                    address,
                    edge,
                    sessions,
                }
            }
            machine::Event::CaughtUp => Event::CaughtUp {},
            machine::Event::Ended { id, end } => {
                self.wake_for(id, u64::MAX);
                Event::Ended { id, end }
            }
            _ => return None,
        };
        // What came with a frame is acknowledged with it.
        Some(Heard { event, count })
    }

    /// Wakes those who wait for what is settled now.
    fn wake_for(&mut self, id: ClientId, number: u64) {
        self.waiters
            .wake_numbers(Key::Settled(id, 0)..=Key::Settled(id, number));
        self.waiters.wake_numbers(Key::Room(id)..=Key::Room(id));
    }

    // ---- sending

    /// Queues a packet. `None`: there is no room. Whoever waits next writes it.
    pub(super) fn send(
        &mut self,
        io: &mut Context<'_>,
        aim: Aim<'_>,
        key: Option<u64>,
        data: &[u8],
    ) -> Option<Result<Sent, SendError>> {
        match self.queue(io, aim, key, data) {
            Err(SendError::NoRoom) => None,
            done => Some(done),
        }
    }

    /// Queues a packet for a client that has room.
    pub(super) fn try_send(
        &mut self,
        io: &mut Context<'_>,
        id: ClientId,
        data: &[u8],
    ) -> Result<Sent, SendError> {
        if !self.machine.has_room_of(id) {
            self.refused = data.len();
            return Err(SendError::NoRoom);
        }
        self.queue(io, Aim::One(id), None, data)
    }

    /// Queues a packet.
    pub(super) fn queue(
        &mut self,
        io: &mut Context<'_>,
        aim: Aim<'_>,
        key: Option<u64>,
        data: &[u8],
    ) -> Result<Sent, SendError> {
        if self.closing != Closing::No {
            return Err(SendError::Closed);
        }
        let (id, queued) = match aim {
            Aim::One(id) => match key {
                Some(key) => (id, self.machine.send_latest(id, key, data)),
                None => (id, self.machine.send(id, data)),
            },
            Aim::Many(to, without) => {
                check_left_out(without)?;
                let queued = self.machine.send_to_many(to, without, key, data);
                (ClientId::from_u64(0), queued.map(|()| 0))
            }
        };
        match queued {
            Ok(number) => {
                let place = self.machine.queued();
                self.note_queued(io);
                Ok(Sent { id, number, place })
            }
            Err(Why::TooLong { length, max }) => Err(SendError::TooLong { length, max }),
            Err(_) => {
                self.refused = self.bytes_of(aim, data.len());
                Err(SendError::NoRoom)
            }
        }
    }

    /// Queues a packet if no other ones wait for long.
    pub(super) fn send_volatile(
        &mut self,
        io: &mut Context<'_>,
        aim: Aim<'_>,
        data: &[u8],
    ) -> Result<(), SendError> {
        let max = self.machine.max_packet_bytes();
        let length = data.len();
        if length > max {
            return Err(SendError::TooLong { length, max });
        }
        if self.closing != Closing::No {
            return Err(SendError::Closed);
        }
        if !self.link.is_up() || self.machine.queued_bytes() > VOLATILE_BYTES {
            return Ok(());
        }
        let queued = match aim {
            Aim::One(id) => self.machine.send_volatile(id, data),
            Aim::Many(to, without) => {
                check_left_out(without)?;
                self.machine.send_volatile_to_many(to, without, data)
            }
        };
        // What has no room now is left out.
        if queued.is_ok() {
            self.note_queued(io);
        }
        Ok(())
    }

    pub(super) fn kick(
        &mut self,
        io: &mut Context<'_>,
        id: ClientId,
        code: u16,
        text: &str,
    ) -> Option<Result<(), SendError>> {
        if self.closing != Closing::No {
            return Some(Err(SendError::Closed));
        }
        Some(match self.machine.kick(id, code, text) {
            Ok(()) => {
                self.note_queued(io);
                Ok(())
            }
            Err(machine::KickError::Code { code }) => Err(SendError::Code { code }),
            Err(machine::KickError::TextTooLong { length }) => {
                let max = machine::MAX_TEXT_BYTES;
                Err(SendError::TooLong { length, max })
            }
            Err(_) => return None,
        })
    }

    /// Returns the bytes of a packet for all its receivers.
    pub(super) fn bytes_of(&self, aim: Aim<'_>, length: usize) -> usize {
        match aim {
            Aim::One(_) => length,
            Aim::Many(to, _) => self.machine.receivers(to).len().saturating_mul(length),
        }
    }

    /// Something was queued. Whoever waits writes it. If nobody does, the next one who waits will, but not too much is left to it.
    fn note_queued(&mut self, io: &mut Context<'_>) {
        if self.waiters.is_driven() {
            if self.is_parked {
                self.is_parked = false;
                self.waiters.wake_driver();
            }
        } else if !self.has_reader || self.machine.queued_bytes() >= WRITE_AT_BYTES {
            let now = self.timer.now();
            self.link.write(io, now, &mut self.machine);
        }
    }

    /// Returns the bytes that `room` waits for.
    pub(super) fn refused(&self) -> usize {
        self.refused
    }

    /// Returns whether a packet was acknowledged. `None`: not yet.
    pub(super) fn is_acknowledged(&self, sent: Sent) -> Option<Result<(), End>> {
        if sent.number == 0 {
            return Some(Err(self.end_of(sent.id)));
        }
        let is_settled = match sent.place {
            Some(place) => place <= self.machine.taken(),
            None => sent.number <= self.machine.settled(sent.id),
        };
        if is_settled {
            return Some(Ok(()));
        }
        let is_gone = self.is_over() || self.machine.ended(sent.id).is_some();
        is_gone.then(|| Err(self.end_of(sent.id)))
    }

    /// Returns how a session ended, as far as that is remembered.
    pub(super) fn end_of(&self, id: ClientId) -> End {
        match self.machine.ended(id) {
            Some(code) => End::new(code, "", Ledgers::default()),
            None => End::new(Code::GONE, "the backend is closed", Ledgers::default()),
        }
    }

    /// Returns what is known of a client that is there.
    pub(super) fn client(&self, id: ClientId) -> Option<ClientInfo> {
        let ledgers = self.machine.ledgers(id)?;
        let (note, is_connected) = self.machine.note(id)?;
        Some(ClientInfo {
            id,
            note: note.to_owned(),
            is_connected,
            ledgers,
        })
    }

    // ---- the end

    /// Begins to end the backend.
    pub(super) fn close(&mut self) {
        if self.closing == Closing::No {
            self.closing = Closing::Until(self.timer.now() + CLOSE_WITHIN);
            self.is_parked = false;
            self.waiters.wake_driver();
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.closing == Closing::Over
    }

    /// Writes what waits, and ends the link in order. Ready once that is done, or has taken too long.
    fn poll_close(&mut self, io: &mut Context<'_>, now: Time, until: Time) -> Poll<()> {
        if until <= now || !self.link.is_up() {
            return Poll::Ready(());
        }
        while self.link.write(io, now, &mut self.machine) {}
        if !self.machine.output().is_empty() && !self.link.is_broken() {
            return Poll::Pending;
        }
        self.link.poll_finish(io, &mut [0; 4_096])
    }

    // ---- the link

    /// Does everything that can be done until there is an event. Packets are read only if `reads`.
    fn step(&mut self, io: &mut Context<'_>, steps: &mut usize, reads: bool) -> Poll<Heard> {
        self.is_parked = false;
        while *steps > 0 {
            *steps -= 1;
            // A link that accepts no more writes is read to its end in any case.
            let may_read = reads || self.link.is_broken();
            if may_read && let Some(heard) = self.take_read() {
                return Poll::Ready(heard);
            }
            if self.is_over() {
                return self.park();
            }
            let now = self.timer.now();
            if let Closing::Until(until) = self.closing {
                if self.poll_close(io, now, until).is_ready() {
                    self.closing = Closing::Over;
                    self.link.lose();
                } else if self.rest(io).is_pending() {
                    return self.park();
                }
                continue;
            }
            self.machine.handle_timeout(now);
            if self.machine.wants_close() {
                warn!(
                    "the edge has granted version 3 before, and does not answer; its link is closed"
                );
                self.link.abort();
                if let Some(heard) = self.lose() {
                    return Poll::Ready(heard);
                }
            }
            let wrote = self.link.write(io, now, &mut self.machine);
            match self.read(io, may_read) {
                Reading::Lost(Some(heard)) => return Poll::Ready(heard),
                Reading::Some | Reading::Lost(None) => continue,
                Reading::Nothing if wrote => continue,
                Reading::Nothing => {}
            }
            match self.link.accept(io, now, may_read) {
                Accepted::Nothing => {}
                Accepted::Progress => continue,
                Accepted::Replaced => match self.lose() {
                    Some(heard) => return Poll::Ready(heard),
                    None => continue,
                },
                Accepted::Edge => {
                    self.machine.handle_connected(now);
                    continue;
                }
            }
            if self.link.gives_up(now) {
                match self.lose() {
                    Some(heard) => return Poll::Ready(heard),
                    None => continue,
                }
            }
            // Something happened without a frame.
            if let Some(event) = self.machine.poll_event()
                && let Some(heard) = self.tell(event, 0)
            {
                return Poll::Ready(heard);
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
        self.waiters.wake_driver();
        self.park()
    }

    fn park(&mut self) -> Poll<Heard> {
        self.is_parked = true;
        Poll::Pending
    }

    /// Reads once.
    fn read(&mut self, io: &mut Context<'_>, may_read: bool) -> Reading {
        if !may_read {
            return Reading::Nothing;
        }
        match self.link.read(io, &mut self.buffer) {
            Read::Blocked => Reading::Nothing,
            Read::Bytes(bytes) => {
                self.unread = 0..bytes;
                Reading::Some
            }
            Read::Eof | Read::Failed | Read::Answered => Reading::Lost(self.lose()),
        }
    }

    /// The link is gone. Returns what is told, if the application knows of it.
    fn lose(&mut self) -> Option<Heard> {
        self.link.lose();
        self.unread = 0..0;
        self.machine.handle_closed();
        let event = Event::EdgeLost {};
        std::mem::take(&mut self.has_told).then_some(Heard { event, count: 0 })
    }

    /// Sets the alarm. Ready if it is time already.
    fn rest(&mut self, io: &mut Context<'_>) -> Poll<()> {
        let tick = self.ticks.as_ref().map(|ticks| ticks.next);
        let closes = match self.closing {
            Closing::Until(until) => Some(until),
            Closing::No | Closing::Over => None,
        };
        let deadlines = [
            self.link.deadline(),
            self.machine.poll_timeout(),
            tick.filter(|_| self.waiters.has_reader()),
            closes,
        ];
        match deadlines.into_iter().flatten().min() {
            Some(at) => self.timer.poll_until(io, at),
            None => Poll::Pending,
        }
    }
}

/// Checks how many sessions a packet for many leaves out.
fn check_left_out(without: &[ClientId]) -> Result<(), SendError> {
    let (count, max) = (without.len(), MAX_WITHOUT);
    match count > max {
        true => Err(SendError::TooManyLeftOut { count, max }),
        false => Ok(()),
    }
}

/// What comes of a frame.
enum Told {
    Nothing,
    Event(Event),
    /// A client has joined with its first packet.
    First(ClientId, Event),
    Ended(ClientId, End),
    Settled(Vec<(ClientId, u64)>),
}

fn hear(event: machine::Event<'_>) -> Told {
    Told::Event(match event {
        machine::Event::Packet {
            id,
            data,
            number,
            is_first,
        } => {
            let data = data.to_vec();
            let packet = Event::Packet { id, data, number };
            if is_first {
                return Told::First(id, packet);
            }
            packet
        }
        machine::Event::Joined(joined) => Event::Joined(joined.into()),
        machine::Event::Away {
            id,
            cause,
            expires_in,
        } => Event::Away {
            id,
            cause,
            expires_in,
        },
        machine::Event::Resumed {
            id, away, missed, ..
        } => Event::Resumed { id, away, missed },
        machine::Event::Gap { id, direction, gap } => Event::Gap { id, direction, gap },
        machine::Event::Token { id, token } => Event::Token {
            id,
            token: token.to_vec(),
        },
        machine::Event::Ended { id, end } => return Told::Ended(id, end),
        machine::Event::Settled(settled) => return Told::Settled(settled.iter().collect()),
        machine::Event::Refused { id, flag, refusal } => {
            warn!(
                id,
                flag,
                ?refusal,
                "the edge refused a frame of this backend"
            );
            return Told::Nothing;
        }
        machine::Event::Stale { id } => {
            debug!(%id, "a frame of the edge about a session that is over");
            return Told::Nothing;
        }
        machine::Event::Fault(fault) => {
            debug!(%fault, "a frame of the edge was dropped");
            return Told::Nothing;
        }
        machine::Event::Malformed(error) => {
            debug!(%error, "a frame of the edge was dropped");
            return Told::Nothing;
        }
        _ => return Told::Nothing,
    })
}

impl Driven for Core {
    type Key = Key;

    fn waiters(&mut self) -> &mut Waiters<Key> {
        &mut self.waiters
    }

    fn is_parked(&self) -> bool {
        self.is_parked
    }

    fn drive(&mut self, io: &mut Context<'_>) {
        let mut steps = STEPS_PER_POLL;
        loop {
            // An edge that keeps what is not acknowledged sends no more than it can keep. In version 2 there is no bound but ours.
            let reads = self.machine.edge().is_some() || self.inbox.has_room();
            match self.step(io, &mut steps, reads) {
                Poll::Ready(heard) => self.inbox.push(heard),
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
        if self.is_over() {
            return self.waiters.wake_all();
        }
        let taken = self.machine.taken();
        self.waiters.wake_numbers(Key::Place(0)..=Key::Place(taken));
        let machine = &self.machine;
        self.waiters
            .wake_room(|bytes| machine.has_room_for(1, bytes));
    }
}
