//! The clients of the load tool: any number of them on one thread and one epoll instance, speaking plain bytes, version 2 or version 3.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use super::carriage::{Carriage, Carrier, Layers};
use super::keys::Keys;
use super::payload::Clock;
use super::sources::Sources;
use super::v3::ClientV3;
use crate::wire::{self, EdgeSays};

const TIMER: Token = Token(usize::MAX - 1);
/// How often the clocks of clients of version 3 are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const READ_BYTES: usize = 256 * 1024;
/// The default maximum number of connections being established. Many more would overflow the listener's backlog and measure TCP's retries.
const MAX_CONNECTING: usize = 64;

/// The protocol that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// Frames from the first byte, behind a plain proxy.
    Plain,
    /// The handshake of version 2, then frames.
    V2,
    /// Version 3.
    V3,
}

/// An event of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The session was established or resumed.
    Ready,
    /// A packet arrived.
    Packet(&'a [u8]),
    /// The connection is gone, and the client did not close it.
    Closed,
}

/// What a client does after its event was handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Keep the connection.
    Stay,
    /// Close, and join as a new client.
    Rejoin,
    /// Close, and resume as the same client.
    Resume,
    /// Reset the connection, and resume as the same client.
    Reset,
    /// Write a part of what waits, close, and resume as the same client.
    Cut,
    /// Resume as the same client, and close the connection after that.
    TakeOver,
    /// Close for good.
    Leave,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Closed,
    Waiting,
    Connecting,
    /// Its layers are not open.
    Opening,
    AwaitEdgeKey,
    AwaitId,
    AwaitChallenge,
    AwaitPing,
    /// The answer to the first flight of version 3.
    AwaitSession,
    Ready,
}

/// One client.
#[derive(Debug)]
pub struct Client {
    /// Its index in the fleet.
    pub index: usize,
    /// Set by the event handler.
    pub next: Next,
    /// The number of its next packet.
    pub sends: u64,
    /// The number of the packet that it expects next.
    pub expects: u64,
    /// When its current connection was begun.
    pub begun: Duration,
    /// Its id, in version 2.
    pub id: u64,
    /// Frames to write after its events were handled.
    pub out: Vec<u8>,
    stream: Option<TcpStream>,
    layers: Option<Box<Layers>>,
    /// Its session, in version 3.
    v3: Option<Box<ClientV3>>,
    /// Its connection before, which is closed once it is back.
    stale: Option<TcpStream>,
    stage: Stage,
    resume: bool,
    partial: wire::Partial,
    blocked: bool,
    /// Until when it writes nothing.
    silent_until: Duration,
}

impl Client {
    /// Returns true while its session is established on a connection.
    pub fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    /// Returns whether everything that it sent is acknowledged. Version 2 acknowledges nothing.
    pub fn is_settled(&self) -> bool {
        self.v3.as_ref().is_none_or(|v3| v3.is_settled())
    }
}

/// Clients of one program.
#[derive(Debug)]
pub struct Fleet {
    /// All clients.
    pub clients: Vec<Client>,
    /// Connections that were refused or broke.
    pub broken: u64,
    /// The maximum number of connections being established.
    pub max_connecting: usize,
    /// How long to sleep before each turn.
    pub rest: Duration,
    /// How long a client takes at least to answer a challenge.
    pub answer_after: Duration,
    /// How the clients are carried.
    pub carrier: Carrier,
    /// What they speak.
    pub speech: Speech,
    address: SocketAddr,
    sources: Sources,
    clock: Clock,
    keys: Keys,
    poll: Poll,
    timer: OwnedFd,
    read: Box<[u8]>,
    /// What the layers give of what was read.
    data: Vec<u8>,
    waiting: Vec<usize>,
    connecting: usize,
    ready: usize,
    unread: Vec<usize>,
    /// When the clocks of clients of version 3 are looked at next.
    looks_at: Duration,
}

impl Fleet {
    /// Creates a fleet without clients. They will connect from `sources` loopback addresses in turn.
    pub fn new(
        address: SocketAddr,
        speech: Speech,
        sources: u32,
        clock: Clock,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        poll.registry()
            .register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE)?;
        Ok(Self {
            clients: Vec::new(),
            broken: 0,
            max_connecting: MAX_CONNECTING,
            rest: Duration::ZERO,
            answer_after: Duration::ZERO,
            carrier: Carrier::new(Carriage::Tcp)?,
            address,
            speech,
            sources: Sources::new(sources),
            clock,
            keys: Keys::new(),
            poll,
            timer,
            read: vec![0; READ_BYTES].into_boxed_slice(),
            data: Vec::new(),
            waiting: Vec::new(),
            connecting: 0,
            ready: 0,
            unread: Vec::new(),
            looks_at: Duration::ZERO,
        })
    }

    /// Makes new connections come from these addresses.
    pub fn come_from(&mut self, sources: Sources) {
        self.sources = sources;
    }

    /// Adds clients, which connect as fast as the other side accepts.
    pub fn add(&mut self, count: usize) {
        let from = self.clients.len();
        self.clients
            .extend((from..from + count).map(|index| Client {
                index,
                next: Next::Stay,
                sends: 0,
                expects: 0,
                begun: Duration::ZERO,
                id: 0,
                out: Vec::new(),
                stream: None,
                layers: None,
                v3: None,
                stale: None,
                stage: Stage::Waiting,
                resume: false,
                partial: wire::Partial::default(),
                blocked: false,
                silent_until: Duration::ZERO,
            }));
        self.waiting.extend((from..from + count).rev());
    }

    /// Returns the number of clients whose session is established.
    pub fn ready(&self) -> usize {
        self.ready
    }

    /// Returns the number of clients that are not ready but may become so.
    pub fn on_their_way(&self) -> usize {
        self.waiting.len() + self.connecting
    }

    /// Runs one turn of the loop: waits for events until `until` (by the clock), reads every ready client once, calls `on` for each event,
    /// and writes once to each client concerned.
    pub fn turn(
        &mut self,
        until: Duration,
        on: &mut impl FnMut(&mut Client, Event<'_>),
    ) -> io::Result<()> {
        if !self.rest.is_zero() {
            std::thread::sleep(self.rest);
        }
        self.connect_waiting()?;
        self.look_at_clocks(on);
        let until = match self.speech {
            Speech::V3 => until.min(self.looks_at),
            Speech::Plain | Speech::V2 => until,
        };
        let mut events = Events::with_capacity(1024);
        let at_once = !self.unread.is_empty();
        if !at_once {
            self.arm(until)?;
        }
        match self
            .poll
            .poll(&mut events, at_once.then_some(Duration::ZERO))
        {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for index in std::mem::take(&mut self.unread) {
            self.serve(index, on)?;
        }
        for event in events.iter() {
            let Token(index) = event.token();
            if event.token() == TIMER {
                continue;
            }
            if event.is_writable() {
                self.writable(index, on);
            }
            if event.is_readable() {
                self.serve(index, on)?;
            }
        }
        Ok(())
    }

    /// Writes a client's `out` and does what its `next` asks, for callers that act without an event.
    pub fn flush(&mut self, index: usize, on: &mut impl FnMut(&mut Client, Event<'_>)) {
        let client = &mut self.clients[index];
        if let Some(stream) = &mut client.stream
            && !client.blocked
            && client.stage != Stage::Connecting
            && (client.silent_until.is_zero() || client.silent_until <= self.clock.now())
        {
            let out = match (&mut client.v3, &mut client.layers) {
                (Some(v3), _) => {
                    v3.send(self.clock.now(), &mut client.out);
                    &mut v3.wire
                }
                (None, None) => &mut client.out,
                (None, Some(layers)) => {
                    if layers.is_open() && layers.send(&mut client.out).is_err() {
                        return self.break_off(index, on);
                    }
                    &mut layers.wire
                }
            };
            // One that is to be cut writes a part of it when it is closed.
            if !out.is_empty() && client.next != Next::Cut {
                match stream.write(out) {
                    Ok(written) if written == out.len() => out.clear(),
                    Ok(written) => {
                        out.drain(..written);
                        client.blocked = true;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        client.blocked = true;
                    }
                    Err(_) => return self.break_off(index, on),
                }
            }
        }
        self.follow(index);
    }

    fn follow(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let next = std::mem::replace(&mut client.next, Next::Stay);
        if next == Next::Stay {
            return;
        }
        match client.stage {
            Stage::Ready => self.ready -= 1,
            Stage::Closed | Stage::Waiting => {}
            _ => self.connecting -= 1,
        }
        let stream = client.stream.take();
        let resumes = !matches!(next, Next::Rejoin | Next::Leave);
        if let (Some(stream), true) = (stream, resumes) {
            end(stream, next, client);
        }
        match &mut client.v3 {
            // What its session has not taken waits.
            Some(v3) if resumes => v3.lose(self.clock.now()),
            _ => {
                client.v3 = None;
                client.out.clear();
            }
        }
        client.layers = None;
        client.partial.clear();
        client.blocked = false;
        client.silent_until = Duration::ZERO;
        client.stage = Stage::Closed;
        client.resume = resumes;
        if next != Next::Leave {
            client.stage = Stage::Waiting;
            self.waiting.push(index);
        }
    }

    fn connect_waiting(&mut self) -> io::Result<()> {
        while self.connecting < self.max_connecting
            && let Some(index) = self.waiting.pop()
        {
            if self.clients[index].stage != Stage::Waiting {
                continue;
            }
            let mut stream = self.sources.connect(self.address)?;
            self.poll.registry().register(
                &mut stream,
                Token(index),
                Interest::READABLE | Interest::WRITABLE,
            )?;
            let client = &mut self.clients[index];
            client.stream = Some(stream);
            client.layers = self.carrier.begin()?;
            client.stage = Stage::Connecting;
            client.begun = self.clock.now();
            self.connecting += 1;
        }
        Ok(())
    }

    fn writable(&mut self, index: usize, on: &mut impl FnMut(&mut Client, Event<'_>)) {
        let client = &mut self.clients[index];
        client.blocked = false;
        if client.stage == Stage::Connecting
            && let Some(stream) = &client.stream
        {
            if !matches!(stream.take_error(), Ok(None)) {
                return self.break_off(index, on);
            }
            match client.layers {
                None => self.begin(index, on),
                Some(_) => client.stage = Stage::Opening,
            }
        }
        self.flush(index, on);
    }

    /// Begins what a client speaks.
    fn begin(&mut self, index: usize, on: &mut impl FnMut(&mut Client, Event<'_>)) {
        let client = &mut self.clients[index];
        if self.speech == Speech::Plain {
            client.stage = Stage::Ready;
            self.connecting -= 1;
            self.ready += 1;
            on(client, Event::Ready);
        } else if self.speech == Speech::V3 {
            client.stage = Stage::AwaitSession;
            let v3 = match client.v3.take() {
                Some(v3) => Ok(v3),
                None => ClientV3::new().map(Box::new),
            };
            let begun = v3.and_then(|mut v3| {
                v3.connect(self.clock.now())?;
                client.v3 = Some(v3);
                Ok(())
            });
            if begun.is_err() {
                self.break_off(index, on);
            }
        } else {
            client.stage = Stage::AwaitEdgeKey;
            client.out.extend_from_slice(&wire::VERSION_FRAME);
        }
    }

    fn serve(
        &mut self,
        index: usize,
        on: &mut impl FnMut(&mut Client, Event<'_>),
    ) -> io::Result<()> {
        let client = &mut self.clients[index];
        let Some(stream) = &mut client.stream else {
            return Ok(());
        };
        let buffer = &mut self.read;
        let read = match stream.read(buffer) {
            Ok(0) => 0,
            Ok(read) => read,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected
                ) =>
            {
                return Ok(());
            }
            Err(_) => 0,
        };
        if read == buffer.len() {
            self.unread.push(index);
        }
        let mut data = std::mem::take(&mut self.data);
        data.clear();
        let bytes = &self.read[..read];
        let received = match (&mut client.v3, &mut client.layers) {
            (Some(v3), _) => v3.receive(self.clock.now(), bytes, &mut data).is_ok(),
            (None, Some(layers)) => layers.receive(bytes, &mut data).is_ok(),
            (None, None) => true,
        };
        if read == 0 || !received {
            self.data = data;
            self.break_off(index, on);
            return Ok(());
        }
        if client.stage == Stage::Opening && client.layers.as_ref().is_some_and(|l| l.is_open()) {
            self.begin(index, on);
        }
        let Self {
            clients,
            read: buffer,
            keys,
            connecting,
            ready,
            answer_after,
            clock,
            ..
        } = self;
        let client = &mut clients[index];
        let bytes = match (&client.v3, &client.layers) {
            (None, None) => &buffer[..read],
            _ => &data,
        };
        let is_back = client.v3.as_ref().is_some_and(|it| it.is_ready());
        if client.stage == Stage::AwaitSession && is_back {
            client.stage = Stage::Ready;
            client.stale = None;
            *connecting -= 1;
            *ready += 1;
            on(client, Event::Ready);
        }
        let mut partial = std::mem::take(&mut client.partial);
        partial.frames(bytes, |body| {
            if client.stage == Stage::Ready {
                return on(client, Event::Packet(body));
            }
            let before = client.stage;
            shake(client, body, keys);
            if before == Stage::AwaitChallenge && !answer_after.is_zero() {
                client.silent_until = clock.now() + *answer_after;
            }
            if client.stage == Stage::Ready {
                *connecting -= 1;
                *ready += 1;
                on(client, Event::Ready);
            }
        });
        client.partial = partial;
        self.data = data;
        self.flush(index, on);
        Ok(())
    }

    /// Looks at the clocks of clients of version 3, every now and then.
    fn look_at_clocks(&mut self, on: &mut impl FnMut(&mut Client, Event<'_>)) {
        let now = self.clock.now();
        if self.speech != Speech::V3 || now < self.looks_at {
            return;
        }
        self.looks_at = now + LOOK_EVERY;
        for index in 0..self.clients.len() {
            let client = &mut self.clients[index];
            let v3 = client.v3.as_mut();
            if !client.blocked && v3.is_some_and(|v3| v3.wake(now)) {
                self.flush(index, on);
            }
        }
    }

    fn break_off(&mut self, index: usize, on: &mut impl FnMut(&mut Client, Event<'_>)) {
        self.broken += 1;
        let client = &mut self.clients[index];
        client.next = Next::Leave;
        // The handler may choose another action.
        on(client, Event::Closed);
        self.follow(index);
    }

    fn arm(&self, until: Duration) -> io::Result<()> {
        // Zero would disarm the timer.
        let wait = until
            .saturating_sub(self.clock.now())
            .max(Duration::from_nanos(1));
        let nothing = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let value = Timespec {
            tv_sec: wait.as_secs() as i64,
            tv_nsec: wait.subsec_nanos().into(),
        };
        let spec = Itimerspec {
            it_interval: nothing,
            it_value: value,
        };
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &spec)?;
        Ok(())
    }
}

/// Ends the connection of a client that will resume, in the way that `next` says.
fn end(mut stream: TcpStream, next: Next, client: &mut Client) {
    match next {
        Next::Reset => {
            // Without it the connection ends in order. That is a drop as well.
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
        Next::Cut => {
            let wire = client.v3.as_ref().map_or(&[][..], |it| &it.wire);
            // The first half of a record, if there is one.
            let _ = stream.write(&wire[..wire.len() / 2]);
        }
        Next::TakeOver => client.stale = Some(stream),
        _ => {}
    }
}

/// Performs one step of the handshake. A packet out of place leaves the client unready, which the run then reports.
fn shake(client: &mut Client, body: &[u8], keys: &mut Keys) {
    match (client.stage, EdgeSays::decode(body)) {
        (Stage::AwaitEdgeKey, Some(EdgeSays::PubKey(key))) if client.resume => {
            keys.note_edge(key);
            wire::put_client_id(&mut client.out, client.id);
            client.stage = Stage::AwaitChallenge;
        }
        (Stage::AwaitEdgeKey, Some(EdgeSays::PubKey(key))) => {
            keys.note_edge(key);
            wire::put_pub_key(&mut client.out, keys.public(client.index));
            client.stage = Stage::AwaitId;
        }
        (Stage::AwaitId, Some(EdgeSays::ClientId(id))) => {
            client.id = id;
            client.stage = Stage::Ready;
        }
        (Stage::AwaitChallenge, Some(EdgeSays::Challenge(sealed))) => {
            if let Some(response) = keys.respond(client.index, sealed) {
                wire::put_challenge_response(&mut client.out, &response);
                client.out.extend_from_slice(&wire::PING_FRAME);
                client.stage = Stage::AwaitPing;
            }
        }
        (Stage::AwaitPing, Some(EdgeSays::Ping)) => client.stage = Stage::Ready,
        _ => {}
    }
}
