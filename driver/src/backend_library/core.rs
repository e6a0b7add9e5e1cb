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
use super::{ClientInfo, Event, Joined, ListenError, SendError, Sent};
use crate::Timer;
use crate::driven::Driven;
use crate::inbox::Inbox;
use crate::io::Read;
use crate::ticks::Ticks;
use crate::waiters::{For, READER, Waiters};

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
    Lost(Event),
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
    ahead: Option<Event>,
    /// Events that came while somebody else than `recv` waited.
    inbox: Inbox<Event>,
    /// Events taken from the inbox since the link was looked at.
    taken: u32,
    waiters: Waiters<u64>,
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
        waiters: Waiters<u64>,
    ) -> Result<Core, ListenError> {
        let Means {
            listeners, timer, ..
        } = means;
        if options.tick.is_some_and(|every| every.is_zero()) {
            return Err(ListenError::Config("a tick cannot come every 0 s".into()));
        }
        let now = timer.now();
        let Some(link) = Link::new(listeners) else {
            return Err(ListenError::Config("there is no listener".into()));
        };
        Ok(Core {
            machine: Host::new(options.config),
            link,
            timer,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            unread: 0..0,
            ahead: None,
            inbox: Inbox::new(),
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
            Poll::Ready(event) => Poll::Ready(Some(event)),
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
        let Some(event) = self.inbox.pop() else {
            return self.take_read();
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
        Some(event)
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
    fn take_read(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ahead.take() {
                return Some(event);
            }
            if let Some(machine::Event::Ended { id, end }) = self.machine.poll_event() {
                return Some(Event::Ended { id, end });
            }
            if self.unread.is_empty() {
                return None;
            }
            if let Some(event) = self.take_frame() {
                return Some(event);
            }
        }
    }

    fn take_frame(&mut self) -> Option<Event> {
        let mut input = &self.buffer[self.unread.clone()];
        let event = match self.machine.handle_bytes(&mut input) {
            Ok(Some(event)) => event,
            Ok(None) => {
                self.unread = 0..0;
                return None;
            }
            Err(error) => {
                let address = self.link.address();
                warn!(?address, %error, "the edge's stream is broken; its link is closed");
                self.link.abort();
                return Some(self.lose());
            }
        };
        let event = match event {
            machine::Event::Packet {
                id,
                data,
                number,
                is_first,
            } => {
                let data = data.to_vec();
                let packet = Event::Packet { id, data, number };
                if is_first {
                    self.ahead = Some(packet);
                    Some(Event::Joined(Joined { id, again: false }))
                } else {
                    Some(packet)
                }
            }
            machine::Event::Joined { id } => Some(Event::Joined(Joined { id, again: true })),
            machine::Event::Resumed { id } => Some(Event::Resumed { id }),
            machine::Event::Ended { id, end } => Some(Event::Ended { id, end }),
            machine::Event::Stale { id } => {
                debug!(%id, "a frame of the edge about a session that is over");
                None
            }
            machine::Event::Fault(fault) => {
                debug!(%fault, "a frame of the edge was dropped");
                None
            }
            event => unreachable!("an event of another machine: {event:?}"),
        };
        self.unread.start = self.unread.end - input.len();
        event
    }

    // ---- sending

    /// Queues a packet. `None`: there is no room. Whoever waits next writes it.
    pub(super) fn send(
        &mut self,
        io: &mut Context<'_>,
        aim: Aim<'_>,
        data: &[u8],
    ) -> Option<Result<Sent, SendError>> {
        match self.queue(io, aim, data) {
            Err(SendError::NoRoom) => None,
            done => Some(done),
        }
    }

    /// Queues a packet.
    pub(super) fn queue(
        &mut self,
        io: &mut Context<'_>,
        aim: Aim<'_>,
        data: &[u8],
    ) -> Result<Sent, SendError> {
        if self.closing != Closing::No {
            return Err(SendError::Closed);
        }
        let (id, queued) = match aim {
            Aim::One(id) => (id, self.machine.send(id, data)),
            Aim::Many(to, without) => {
                let (count, max) = (without.len(), MAX_WITHOUT);
                if count > max {
                    return Err(SendError::TooManyLeftOut { count, max });
                }
                let queued = self.machine.send_to_many(to, without, data);
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
        match self.queue(io, aim, data) {
            Ok(_) | Err(SendError::NoRoom) => Ok(()),
            Err(error) => Err(error),
        }
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
        if sent.place <= self.machine.taken() {
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
        Some(ClientInfo { id, ledgers })
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
    fn step(&mut self, io: &mut Context<'_>, steps: &mut usize, reads: bool) -> Poll<Event> {
        self.is_parked = false;
        while *steps > 0 {
            *steps -= 1;
            // A link that accepts no more writes is read to its end in any case.
            let may_read = reads || self.link.is_broken();
            if may_read && let Some(event) = self.take_read() {
                return Poll::Ready(event);
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
            let wrote = self.link.write(io, now, &mut self.machine);
            match self.read(io, may_read) {
                Reading::Lost(event) => return Poll::Ready(event),
                Reading::Some => continue,
                Reading::Nothing if wrote => continue,
                Reading::Nothing => {}
            }
            match self.link.accept(io, now, may_read) {
                Accepted::Nothing => {}
                Accepted::Progress => continue,
                Accepted::Replaced => return Poll::Ready(self.lose()),
                Accepted::Edge(address) => return Poll::Ready(Event::EdgeConnected { address }),
            }
            if self.link.gives_up(now) {
                return Poll::Ready(self.lose());
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

    fn park(&mut self) -> Poll<Event> {
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

    fn lose(&mut self) -> Event {
        self.link.lose();
        self.unread = 0..0;
        self.machine.handle_closed();
        Event::EdgeLost {}
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
            tick.filter(|_| self.waiters.has_reader()),
            closes,
        ];
        match deadlines.into_iter().flatten().min() {
            Some(at) => self.timer.poll_until(io, at),
            None => Poll::Pending,
        }
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
            let reads = self.inbox.has_room();
            match self.step(io, &mut steps, reads) {
                Poll::Ready(event) => self.inbox.push(event),
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
        self.waiters.wake_numbers(0..=self.machine.taken());
        let machine = &self.machine;
        self.waiters
            .wake_room(|bytes| machine.has_room_for(1, bytes));
    }
}
