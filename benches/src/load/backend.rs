//! The backend of the load tool. A thread that accepts the program under test (one tagged link) or, behind plain proxies, one connection
//! per client. It echoes, fans out, or stalls. On the tagged link it speaks version 2, or asks for version 3.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use voltlane_core::ClientId;
use voltlane_core::link::v3::MAX_IDS;

use super::Link as Speech;
use super::carriage::{self, Frames};
use super::payload::{Clock, Head};
use crate::{asked, wire};

const LISTENER: Token = Token(usize::MAX - 1);
const WAKER: Token = Token(usize::MAX - 2);
const READ_BYTES: usize = 256 * 1024;
/// The number of pending output bytes above which a connection is not read until its peer takes some.
const MAX_PENDING_BYTES: usize = 4 * 1024 * 1024;

/// The job of the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Echoes packets on a tagged link.
    Echo,
    /// Like [`Echo`](Self::Echo), and counts for each client which packets are missing and which come again.
    EchoChecked,
    /// Echoes bytes on any number of plain connections.
    EchoPlain,
    /// Echoes what is in WebSocket messages on any number of connections.
    EchoMessages,
    /// Takes one packet from each client as its introduction. Once started, writes to all clients in turn.
    FanOut {
        /// Bytes of a packet.
        size: usize,
        /// Maximum number of packets in flight.
        window: u64,
    },
}

/// The running backend. Stops when dropped.
#[derive(Debug)]
pub struct Backend {
    /// The address at which it accepts.
    pub address: SocketAddr,
    /// State shared with the measuring thread.
    pub shared: Arc<Shared>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// State shared by the backend's thread and the measuring thread.
#[derive(Debug)]
pub struct Shared {
    /// Connections that are open now.
    pub links: AtomicUsize,
    /// Clients that introduced themselves for the fan-out.
    pub introduced: AtomicUsize,
    /// Sessions that ended, as the program reported.
    pub failed: AtomicU64,
    /// Sessions that were resumed, as the program reported.
    pub resumed: AtomicU64,
    /// Packets that came, in a [checked](Job::EchoChecked) echo.
    pub checked: AtomicU64,
    /// Packets that did not, and those that came again.
    pub lost: AtomicU64,
    /// See [`lost`](Self::lost).
    pub doubled: AtomicU64,
    /// Packets that the clients have taken, which moves the window of the fan-out.
    taken: AtomicU64,
    fan_out: AtomicBool,
    stalled: AtomicBool,
    stop: AtomicBool,
    window: u64,
    waker: Waker,
}

impl Shared {
    /// Starts or stops the fan-out.
    pub fn set_fan_out(&self, on: bool) {
        self.fan_out.store(on, Relaxed);
        self.wake();
    }

    /// Stops or continues reading. What was already read is still answered.
    pub fn set_stalled(&self, stalled: bool) {
        self.stalled.store(stalled, Relaxed);
        self.wake();
    }

    /// Adds packets that clients have taken.
    pub fn add_taken(&self, packets: u64) {
        let step = (self.window / 4).max(1);
        let before = self.taken.fetch_add(packets, Relaxed);
        if before / step != (before + packets) / step {
            self.wake();
        }
    }

    fn wake(&self) {
        self.waker
            .wake()
            .expect("an eventfd of our own takes a wake-up");
    }
}

impl Backend {
    /// Starts a backend on a free loopback port.
    pub fn start(job: Job, speech: Speech, clock: Clock) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let mut listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into())?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            links: AtomicUsize::new(0),
            introduced: AtomicUsize::new(0),
            failed: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
            checked: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            doubled: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            fan_out: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            window: if let Job::FanOut { window, .. } = job {
                window
            } else {
                u64::MAX
            },
            waker,
        });
        let worker = Worker {
            poll,
            listener,
            job,
            speech,
            clock,
            shared: Arc::clone(&shared),
            links: Vec::new(),
            again: Vec::new(),
            read: vec![0; READ_BYTES].into_boxed_slice(),
            known: HashSet::new(),
            expected: HashMap::new(),
            ids: Vec::new(),
            round: 0,
            next: 0,
        };
        let thread = std::thread::Builder::new()
            .name("backend".into())
            .spawn(move || worker.run())?;
        Ok(Self {
            address,
            shared,
            thread: Some(thread),
        })
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        self.shared.wake();
        if let Some(Ok(Err(error))) = self.thread.take().map(JoinHandle::join) {
            eprintln!("backend of the load tool: {error}");
        }
    }
}

/// Compares the number of a packet with the one that is expected. Returns how many are missing, and whether it came again.
pub(crate) fn check(expected: &mut u64, number: u64) -> (u64, u64) {
    if number < *expected {
        return (0, 1);
    }
    let lost = number - *expected;
    *expected = number + 1;
    (lost, 0)
}

struct Link {
    stream: TcpStream,
    partial: wire::Partial,
    request: carriage::Head,
    frames: Frames,
    out: Vec<u8>,
    /// What was counted, on a link of version 3.
    counts: asked::Counts,
    /// The clients that are in its group.
    grouped: usize,
    waits_for_room: bool,
}

struct Worker {
    poll: Poll,
    listener: TcpListener,
    job: Job,
    speech: Speech,
    clock: Clock,
    shared: Arc<Shared>,
    links: Vec<Option<Link>>,
    /// Links that may have more to read, though epoll will not report it.
    again: Vec<usize>,
    read: Box<[u8]>,
    known: HashSet<u64>,
    /// The number of the next packet of each client.
    expected: HashMap<u64, u64>,
    ids: Vec<u64>,
    /// For the fan-out: the number of the next packet, and the index of the client that receives it.
    round: u64,
    next: usize,
}

impl Worker {
    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        while !self.shared.stop.load(Relaxed) {
            let stalled = self.shared.stalled.load(Relaxed);
            let at_once = (!self.again.is_empty() && !stalled).then_some(std::time::Duration::ZERO);
            match self.poll.poll(&mut events, at_once) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            let mut again = std::mem::take(&mut self.again);
            for event in events.iter() {
                match event.token() {
                    LISTENER => self.accept()?,
                    WAKER => {}
                    Token(slot) => self.link_event(slot, event, &mut again),
                }
            }
            if stalled {
                self.again = again;
                continue;
            }
            again.sort_unstable();
            again.dedup();
            for slot in again {
                self.serve(slot);
            }
            if self.shared.fan_out.load(Relaxed) {
                self.fan_out();
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let (mut stream, _) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let slot = self
                .links
                .iter()
                .rposition(Option::is_none)
                .unwrap_or(self.links.len());
            self.poll
                .registry()
                .register(&mut stream, Token(slot), Interest::READABLE)?;
            let link = Link {
                stream,
                partial: wire::Partial::default(),
                request: carriage::Head::default(),
                frames: Frames::default(),
                out: match self.speech {
                    Speech::V2 => Vec::new(),
                    Speech::V3 { acknowledges } => asked::ask(acknowledges),
                },
                counts: asked::Counts::default(),
                grouped: 0,
                waits_for_room: false,
            };
            if slot == self.links.len() {
                self.links.push(Some(link));
            } else {
                self.links[slot] = Some(link);
            }
            self.shared.links.fetch_add(1, Relaxed);
            self.write(slot);
        }
    }

    fn link_event(&mut self, slot: usize, event: &Event, ready: &mut Vec<usize>) {
        if event.is_writable()
            && let Some(Some(link)) = self.links.get_mut(slot)
        {
            link.waits_for_room = false;
            let _ =
                self.poll
                    .registry()
                    .reregister(&mut link.stream, Token(slot), Interest::READABLE);
        }
        ready.push(slot);
    }

    fn serve(&mut self, slot: usize) {
        self.write(slot);
        if self.read(slot) {
            self.write(slot);
        }
    }

    /// Reads once and processes the bytes. Returns false if there was nothing to read.
    fn read(&mut self, slot: usize) -> bool {
        let Some(link) = self.links[slot].as_mut() else {
            return false;
        };
        if link.out.len() > MAX_PENDING_BYTES {
            // When there is room for the pending output, an event serves this link again.
            return false;
        }
        let read = match link.stream.read(&mut self.read) {
            Ok(0) => return self.drop_link(slot),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(_) => return self.drop_link(slot),
        };
        if read == self.read.len() {
            self.again.push(slot);
        }
        let bytes = &self.read[..read];
        let Link {
            partial,
            request,
            frames,
            out,
            counts,
            ..
        } = link;
        match self.job {
            Job::EchoPlain => out.extend_from_slice(bytes),
            Job::EchoMessages => {
                let was_asked = request.is_whole();
                let bytes = request.take(bytes);
                if request.is_whole() && !was_asked {
                    out.extend_from_slice(carriage::ANSWER);
                }
                let mut data = Vec::new();
                frames.read(bytes, &mut data);
                if !data.is_empty() {
                    carriage::put_message(out, &data, None);
                }
            }
            Job::Echo => partial.frames(bytes, |body| {
                counts.hear(body);
                match body.get(8) {
                    Some(&wire::FLAG_DATA) => {
                        counts.sent += 1;
                        wire::put_frame(out, body);
                    }
                    Some(&wire::FLAG_FAILURE) => drop(self.shared.failed.fetch_add(1, Relaxed)),
                    Some(&wire::FLAG_RESUMED) => drop(self.shared.resumed.fetch_add(1, Relaxed)),
                    _ => {}
                }
            }),
            Job::EchoChecked => partial.frames(bytes, |body| {
                counts.hear(body);
                let Some((id, wire::FLAG_DATA, data)) = wire::split_tag(body) else {
                    return;
                };
                if let Some(head) = Head::read(data) {
                    let expected = self.expected.entry(id).or_default();
                    self.shared.checked.fetch_add(1, Relaxed);
                    let (lost, doubled) = check(expected, head.number);
                    self.shared.lost.fetch_add(lost, Relaxed);
                    self.shared.doubled.fetch_add(doubled, Relaxed);
                }
                counts.sent += 1;
                wire::put_frame(out, body);
            }),
            Job::FanOut { .. } => partial.frames(bytes, |body| {
                counts.hear(body);
                if let Some((id, wire::FLAG_DATA, _)) = wire::split_tag(body)
                    && self.known.insert(id)
                {
                    self.ids.push(id);
                    self.shared.introduced.fetch_add(1, Relaxed);
                }
            }),
        }
        if self.speech == (Speech::V3 { acknowledges: true }) {
            counts.acknowledge_if_due(self.clock.now(), out);
        }
        true
    }

    /// Writes once.
    fn write(&mut self, slot: usize) {
        let Some(link) = self.links[slot].as_mut() else {
            return;
        };
        if link.out.is_empty() || link.waits_for_room {
            return;
        }
        match link.stream.write(&link.out) {
            Ok(written) if written == link.out.len() => {
                link.out.clear();
                return;
            }
            Ok(written) => drop(link.out.drain(..written)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => {
                self.drop_link(slot);
                return;
            }
        }
        link.waits_for_room = true;
        let both = Interest::READABLE | Interest::WRITABLE;
        let _ = self
            .poll
            .registry()
            .reregister(&mut link.stream, Token(slot), both);
    }

    /// Writes while the window is open, on the only link: to the clients in turn, or to all of them at once.
    fn fan_out(&mut self) {
        let Job::FanOut { size, window } = self.job else {
            return;
        };
        let Some(slot) = self.links.iter().position(Option::is_some) else {
            return;
        };
        let Some(link) = self.links[slot].as_mut() else {
            return;
        };
        let clients = self.ids.len() as u64;
        if clients == 0 {
            return;
        }
        let sent = self.round * clients + self.next as u64;
        let room = (self.shared.taken.load(Relaxed) + window).saturating_sub(sent);
        let due = self.clock.now();
        let mut data = Vec::with_capacity(size);
        match self.speech {
            Speech::V2 => {
                for _ in 0..room {
                    data.clear();
                    let number = self.round;
                    Head { number, due }.put(&mut data, size);
                    wire::put_tagged(&mut link.out, self.ids[self.next], wire::FLAG_DATA, &data);
                    self.next += 1;
                    if self.next == self.ids.len() {
                        self.next = 0;
                        self.round += 1;
                    }
                }
            }
            Speech::V3 { .. } => {
                for new in self.ids[link.grouped..].chunks(MAX_IDS) {
                    let new: Vec<_> = new.iter().map(|id| ClientId::from_u64(*id)).collect();
                    link.out.extend(asked::add_to_group(&new));
                    link.counts.sent += 1;
                }
                link.grouped = self.ids.len();
                for _ in 0..room / clients {
                    data.clear();
                    let number = self.round;
                    Head { number, due }.put(&mut data, size);
                    link.out.extend(asked::for_group(&data));
                    link.counts.sent += 1;
                    self.round += 1;
                }
            }
        }
        self.write(slot);
    }

    /// Drops the link. Always returns false, for callers that report with it that nothing was read.
    fn drop_link(&mut self, slot: usize) -> bool {
        self.links[slot] = None;
        self.shared.links.fetch_sub(1, Relaxed);
        false
    }
}
