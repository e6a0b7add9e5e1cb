//! A backend behind its lock: the machine, its link, and what has come.

mod heard;
mod sending;
mod several;
mod verdicts;

use std::collections::VecDeque;
use std::ops::Range;
use std::task::{Context, Poll};
use std::time::Duration;

use tracing::warn;
use voltlane_core::backend::fleet::{Fleet, LinkId};
use voltlane_core::backend::host::{self as machine, Mark};
use voltlane_core::{ClientId, ConfigError, Time};

use super::gate::Gate;
use super::link::{Accepted, Link};
use super::links::Links;
use super::options::{Means, Options};
use super::{EdgeId, Event, Joined, ListenError, Overflow};
use crate::Timer;
use crate::driven::{Driven, Reads};
use crate::inbox::Inbox;
use crate::io::Read;
use crate::ticks::Ticks;
use crate::waiters::Waiters;

pub(super) use heard::Heard;
use heard::{Told, hear};

/// Maximum bytes per read.
const BUFFER_BYTES: usize = 64 * 1024;
/// Steps per poll before the task yields to others.
const STEPS_PER_POLL: usize = 128;
/// Events that `recv` takes from the inbox before it looks at the link.
const EVENTS_PER_LOOK: u32 = 64;
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

/// Whether the backend ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closing {
    No,
    /// What waits is written, until then at most.
    Until(Time),
    Over,
}

pub(super) struct Core {
    machine: Fleet,
    link: Link,
    /// The streams of several edges, in place of the link.
    links: Option<Links>,
    timer: Box<dyn Timer>,
    buffer: Box<[u8]>,
    /// The part of the buffer that the machine has not taken yet.
    unread: Range<usize>,
    /// What comes before the next frame: the packet with which a client joined, and what goes with the first frame of a link.
    ahead: VecDeque<Heard>,
    /// Events that came while somebody else than `recv` waited.
    inbox: Inbox<Heard>,
    /// The mark of the frame of which the application got something last, until it comes back.
    lent: Mark,
    /// The mark of the last frame that came of each edge.
    seen: Vec<Mark>,
    /// The stream from which the buffer is.
    unread_of: Option<LinkId>,
    /// Streams of whose edge the application was told.
    told_of: Vec<LinkId>,
    /// Those of whom it hears nothing yet, if somebody verifies clients.
    gate: Option<Gate>,
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
            ..
        } = means;
        let mut config = options.config;
        if options.overflow != Overflow::End {
            config = config.with_overflow(options.overflow);
        }
        if let Some(secret) = options.secret {
            config = config.proving(secret, seed);
        }
        if options.asks {
            config = config.asking(std::array::from_fn(|i| seed[16 + i]));
        }
        if options.tick.is_some_and(|every| every.is_zero()) {
            return Err(ListenError::Config("a tick cannot come every 0 s".into()));
        }
        let now = timer.now();
        let no_listener = || ListenError::Config("there is no listener".into());
        let mut link = Link::new(listeners).ok_or_else(no_listener)?;
        if let Some(edges) = options.edges {
            let wrong = |error: ConfigError| ListenError::Config(error.to_string());
            config = config.with_edges(edges).map_err(wrong)?;
            if edges > 1 && !options.asks {
                let says = "a backend of several edges has to ask for version 3 of the link";
                return Err(ListenError::Config(says.into()));
            }
        }
        let mut machine = Fleet::new(config);
        let mut links = None;
        if machine.is_of_several() {
            links = Some(Links::new(link.take_acceptors()));
        }
        for (id, up) in options.restored {
            machine.restore(id, up);
        }
        Ok(Core {
            machine,
            link,
            links,
            timer,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            unread: 0..0,
            ahead: VecDeque::new(),
            inbox: Inbox::new(),
            lent: Mark::NONE,
            seen: Vec::new(),
            unread_of: None,
            told_of: Vec::new(),
            gate: None,
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

    pub(super) fn machine(&self) -> &Fleet {
        &self.machine
    }

    pub(super) fn machine_mut(&mut self) -> &mut Fleet {
        &mut self.machine
    }

    pub(super) fn is_connected(&self) -> bool {
        match &self.links {
            Some(links) => links.is_up(),
            None => self.link.is_up(),
        }
    }

    // ---- recv

    /// Acknowledges every frame before the first of which the application is still to be told something, or is not back from. It is not told
    /// of what waits for a verdict, and never of a client that was refused.
    pub(super) fn take_up(&mut self, of: Option<Mark>) {
        if self.machine.edge().is_none() {
            return;
        }
        let now = self.timer.now();
        for place in 0..self.seen.len() {
            let seen = self.seen[place];
            if of.is_some_and(|of| !of.is_of_edge(seen)) {
                continue;
            }
            // Both are in the order of their frames.
            let kept = self.inbox.iter().chain(&self.ahead);
            let mut kept = kept.map(|heard| heard.mark);
            let is_one = |mark: &Mark| *mark != Mark::NONE && mark.is_of_edge(seen);
            let kept = kept.find(is_one);
            let lent = Some(self.lent).filter(is_one);
            let waiting = self.gate.as_ref().and_then(|gate| gate.first_waiting(seen));
            let first = [kept, lent, waiting].into_iter().flatten().min();
            let told = first.map_or(seen, Mark::before);
            self.machine.taken_up(now, told);
        }
        // The acknowledgement has a time of its own, or goes now.
        self.is_parked = false;
    }

    fn lend(&mut self, heard: Heard) -> Event {
        self.lent = heard.mark;
        self.ticks.iter_mut().for_each(Ticks::others_come);
        heard.event
    }

    /// Returns whether the reader has something to do for the gate.
    fn gate_calls(&self) -> bool {
        let gate = self.gate.as_ref();
        gate.is_some_and(|gate| gate.has_asks() || gate.has_released())
    }

    fn ticks_now(&self) -> bool {
        let next = self.ticks.as_ref().map(|ticks| ticks.next);
        next.is_some_and(|next| next <= self.timer.now())
    }

    /// Takes the next event out of what was read.
    fn take_read(&mut self) -> Option<Heard> {
        loop {
            let heard = if let Some(heard) = self.ahead.pop_front() {
                Some(heard)
            } else if let Some((link, event)) = self.machine.poll_event() {
                let mark = link.map_or(Mark::NONE, |link| self.machine.mark(link));
                self.tell(link, event, mark)
            } else if self.unread.is_empty() {
                return None;
            } else {
                self.take_frame()
            };
            if let Some(heard) = heard.and_then(|heard| self.pass(heard)) {
                return Some(heard);
            }
        }
    }

    fn take_frame(&mut self) -> Option<Heard> {
        let now = self.now_of_frames();
        let mut input = &self.buffer[self.unread.clone()];
        let Some(link) = self.unread_of else {
            self.unread = 0..0;
            return None;
        };
        let event = match self.machine.handle_bytes(link, now, &mut input) {
            Ok(Some(event)) => event,
            Ok(None) => {
                self.unread = 0..0;
                return None;
            }
            Err(error) => {
                let address = self.address_of(link);
                warn!(?address, %error, "the edge's stream is broken; its link is closed");
                return self.abort_link(link);
            }
        };
        let left = input.len();
        let told = hear(event);
        self.unread.start = self.unread.end - left;
        let mark = self.machine.mark(link);
        self.see(mark);
        if self.machine.pending_precedes(link) {
            while let Some((link, event)) = self.machine.poll_event() {
                let heard = self.tell(link, event, Mark::NONE);
                self.ahead.extend(heard);
            }
        }
        let heard = match told {
            Told::Nothing => None,
            Told::Event(event) => Some(Heard { event, mark }),
            Told::First(id, packet) => {
                let event = Event::Joined(Joined::bare(id));
                let none = Mark::NONE;
                self.ahead.push_back(Heard { event, mark: none });
                Some(Heard {
                    event: packet,
                    mark,
                })
            }
            Told::Ended(id, end) => {
                self.wake_for(id, u64::MAX);
                let event = Event::Ended { id, end };
                Some(Heard { event, mark })
            }
            Told::Settled(settled) => {
                for (id, number) in settled {
                    self.wake_for(id, number);
                }
                None
            }
        };
        if self.ahead.is_empty() {
            return heard;
        }
        self.ahead.extend(heard);
        None
    }

    /// Returns the time for frames: a link of version 2 needs none.
    fn now_of_frames(&self) -> Time {
        match self.machine.poll_timeout().is_some() || self.machine.edge().is_some() {
            true => self.timer.now(),
            false => Time::ZERO,
        }
    }

    /// Returns what the application hears of an event that came without a frame.
    fn tell(
        &mut self,
        link: Option<LinkId>,
        event: machine::Event<'static>,
        mark: Mark,
    ) -> Option<Heard> {
        let event = match event {
            machine::Event::Connected { edge, sessions } => {
                let address = self.address_of(link?)?;
                self.has_told = true;
                self.told_of.extend(link);
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
        Some(Heard { event, mark })
    }

    /// Wakes those who wait for what is settled now.
    fn wake_for(&mut self, id: ClientId, number: u64) {
        self.waiters
            .wake_numbers(Key::Settled(id, 0)..=Key::Settled(id, number));
        self.waiters.wake_numbers(Key::Room(id)..=Key::Room(id));
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
        if until <= now || !self.is_connected() {
            return Poll::Ready(());
        }
        if let Some(links) = &mut self.links {
            while links.write(io, now, &mut self.machine) {}
            return match links.is_written(&self.machine) {
                true => links.poll_finish(io, &mut [0; 4_096]),
                false => Poll::Pending,
            };
        }
        while self.link.write(io, now, &mut self.machine) {}
        let output = self
            .link
            .link
            .map_or(&[][..], |link| self.machine.output(link));
        if !output.is_empty() && !self.link.is_broken() {
            return Poll::Pending;
        }
        self.link.poll_finish(io, &mut [0; 4_096])
    }

    // ---- the link

    /// Does everything that can be done until there is an event. Packets are read only if `reads`.
    fn step(&mut self, io: &mut Context<'_>, steps: &mut usize, reads: bool) -> Poll<Heard> {
        self.is_parked = false;
        if self.links.is_some() {
            return self.step_several(io, steps, reads);
        }
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
                if self.go_on_closing(io, now, until).is_pending() {
                    return self.park();
                }
                continue;
            }
            self.machine.handle_timeout(now);
            let link = self.link.link;
            if link.is_some_and(|link| self.machine.wants_close(link)) {
                warn!(
                    "the edge does not grant version 3, which it has granted before or which a secret demands; its link is closed"
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
                    self.link.link = Some(self.machine.handle_connected(now));
                    continue;
                }
            }
            if self.link.gives_up(now) {
                match self.lose() {
                    Some(heard) => return Poll::Ready(heard),
                    None => continue,
                }
            }
            if let Some(outcome) = self.end_turn(io) {
                return outcome;
            }
        }
        self.waiters.wake_driver();
        self.park()
    }

    /// Goes on with the end. Pending while there is nothing to do.
    fn go_on_closing(&mut self, io: &mut Context<'_>, now: Time, until: Time) -> Poll<()> {
        if self.poll_close(io, now, until).is_pending() {
            return self.rest(io);
        }
        self.closing = Closing::Over;
        match &mut self.links {
            Some(links) => links.lose_all(),
            None => self.link.lose(),
        }
        Poll::Ready(())
    }

    /// Does what is left of a turn in which no link has moved. Returns what the step comes to, if it ends with that.
    fn end_turn(&mut self, io: &mut Context<'_>) -> Option<Poll<Heard>> {
        // Something happened without a frame.
        if let Some((link, event)) = self.machine.poll_event()
            && let Some(heard) = self.tell(link, event, Mark::NONE)
            && let Some(heard) = self.pass(heard)
        {
            return Some(Poll::Ready(heard));
        }
        if self.waiters.has_reader() && self.ticks_now() {
            if self.is_reading {
                return Some(Poll::Pending);
            }
            self.waiters.wake_reader();
        }
        self.rest(io).is_pending().then(|| self.park())
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
                self.unread_of = self.link.link;
                Reading::Some
            }
            Read::Eof | Read::Failed | Read::Answered => Reading::Lost(self.lose()),
        }
    }

    /// The link is gone. Returns what is told, if the application knows of it.
    fn lose(&mut self) -> Option<Heard> {
        self.link.lose();
        self.unread = 0..0;
        self.told_of.clear();
        let edge = self.link.link.take().and_then(|link| {
            let edge = self.machine.edge_of(link);
            self.machine.handle_closed(link);
            edge
        });
        let event = Event::EdgeLost { edge };
        let mark = Mark::NONE;
        std::mem::take(&mut self.has_told).then_some(Heard { event, mark })
    }

    /// Sets the alarm. Ready if it is time already.
    fn rest(&mut self, io: &mut Context<'_>) -> Poll<()> {
        let tick = self.ticks.as_ref().map(|ticks| ticks.next);
        let closes = match self.closing {
            Closing::Until(until) => Some(until),
            Closing::No | Closing::Over => None,
        };
        let link = match &self.links {
            Some(links) => links.deadline(),
            None => self.link.deadline(),
        };
        let deadlines = [
            link,
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

impl Reads for Core {
    type Event = Event;

    fn come_back(&mut self, _: &mut Context<'_>) {
        self.has_reader = true;
        let mark = std::mem::replace(&mut self.lent, Mark::NONE);
        if mark == Mark::NONE {
            return;
        }
        self.take_up(Some(mark));
    }

    /// Returns a tick, an event of the inbox, or one of what was read.
    fn take_kept(&mut self, io: &mut Context<'_>) -> Option<Event> {
        if self.ticks.as_ref().is_some_and(Ticks::come_first)
            && let Some(tick) = self.take_tick()
        {
            return Some(tick);
        }
        let was_full = !self.inbox.has_room();
        if let Some(heard) = self.gate.as_mut().and_then(Gate::pop) {
            return Some(self.lend(heard));
        }
        let Some(heard) = self.inbox.pop() else {
            return self.take_read().map(|heard| self.lend(heard));
        };
        if was_full && self.inbox.has_room() {
            self.is_parked = false;
            self.waiters.wake_driver();
        }
        // It is not acknowledged by what the look hears.
        let event = self.lend(heard);
        self.taken += 1;
        if self.taken >= EVENTS_PER_LOOK {
            self.taken = 0;
            self.drive(io);
        }
        Some(event)
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
            && (!self.inbox.is_empty() || self.is_over() || self.ticks_now() || self.gate_calls())
        {
            self.waiters.wake_reader();
        }
        if self.is_over() {
            return self.waiters.wake_all();
        }
        let taken = self.machine.taken();
        self.waiters.wake_numbers(Key::Place(0)..=Key::Place(taken));
        if self.links.is_some() {
            // Whoever waits for another edge waits on.
            let has_room = self.machine.take_freed() > 0;
            return self.waiters.wake_room(|_| has_room);
        }
        let machine = &self.machine;
        self.waiters
            .wake_room(|bytes| machine.has_room_for(1, bytes));
    }
}
