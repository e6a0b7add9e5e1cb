//! In-memory streams.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};

use voltlane_driver::{Connect, Connector, Listener, Stream};

/// One direction.
#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    capacity: usize,
    /// The writer has closed: the end follows the bytes.
    closed: bool,
    /// The reader is gone, or the writer has reset: nothing passes any more.
    broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    /// Ends in a RST, which discards unread bytes.
    fn reset(&mut self) {
        self.broken = true;
        self.bytes.clear();
        self.wake();
    }

    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()]
            .into_iter()
            .flatten()
        {
            waker.wake();
        }
    }
}

/// How a stream misbehaves, within its contract.
#[derive(Clone, Copy)]
pub(crate) struct Chaos {
    /// The seed of its random numbers.
    pub(crate) seed: u64,
    /// The maximum number of bytes per call.
    pub(crate) max_bytes: usize,
    /// One in this many calls is `Pending` for no reason; 0 for none.
    pub(crate) pending_one_in: u64,
}

impl Chaos {
    pub(crate) const NONE: Chaos = Chaos {
        seed: 1,
        max_bytes: usize::MAX,
        pending_one_in: 0,
    };

    fn roll(&mut self) -> u64 {
        // xorshift64: random enough, and the same every time.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed
    }

    fn stalls(&mut self) -> bool {
        self.pending_one_in > 0 && self.roll().is_multiple_of(self.pending_one_in)
    }

    fn cut(&mut self, length: usize) -> usize {
        if self.max_bytes == usize::MAX {
            length
        } else {
            length.min(1 + self.roll() as usize % self.max_bytes)
        }
    }
}

/// The calls that a stream received.
#[derive(Default)]
pub(crate) struct Stats {
    pub(crate) reads: AtomicUsize,
    pub(crate) writes: AtomicUsize,
}

/// The hello of a transport, whose handling costs as much as a key exchange.
struct Hello {
    is_metered: bool,
    is_due: bool,
    permits: Arc<AtomicUsize>,
}

pub(crate) struct MemoryStream {
    incoming: Arc<Mutex<Pipe>>,
    outgoing: Arc<Mutex<Pipe>>,
    chaos: Chaos,
    stats: Arc<Stats>,
    peer_stats: Arc<Stats>,
    /// Bytes in front of the stream that only a permit lets through, as the hello of a transport, and the permits so far.
    hello: Option<Hello>,
    /// For a transport that takes a whole write and holds what has no room: what it holds.
    held: Option<Vec<u8>>,
}

impl MemoryStream {
    /// Returns the calls that the other end received.
    pub(crate) fn peer_stats(&self) -> &Arc<Stats> {
        &self.peer_stats
    }

    /// Sends what is held, as far as there is room.
    fn push_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(held) = self.held.as_mut().filter(|held| !held.is_empty()) else {
            return Poll::Ready(Ok(()));
        };
        let mut pipe = self.outgoing.lock().expect("not poisoned");
        if pipe.broken || pipe.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = (pipe.capacity - pipe.bytes.len()).min(held.len());
        pipe.bytes.extend(held.drain(..room));
        if let Some(reader) = pipe.reader.take() {
            reader.wake();
        }
        if held.is_empty() {
            return Poll::Ready(Ok(()));
        }
        pipe.writer = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Creates the two ends of a stream, with `capacity` bytes per direction.
fn pair(capacity: usize, chaos: Chaos) -> (MemoryStream, MemoryStream) {
    let pipe = || {
        Arc::new(Mutex::new(Pipe {
            capacity,
            ..Pipe::default()
        }))
    };
    let (a, b) = (pipe(), pipe());
    let (near, far) = (Arc::<Stats>::default(), Arc::<Stats>::default());
    let end = |incoming: &Arc<_>,
               outgoing: &Arc<_>,
               stats: &Arc<Stats>,
               peer_stats: &Arc<Stats>,
               seed| MemoryStream {
        incoming: Arc::clone(incoming),
        outgoing: Arc::clone(outgoing),
        chaos: Chaos { seed, ..chaos },
        stats: Arc::clone(stats),
        peer_stats: Arc::clone(peer_stats),
        hello: None,
        held: None,
    };
    (
        end(&a, &b, &near, &far, chaos.seed),
        end(&b, &a, &far, &near, chaos.seed.wrapping_mul(31) | 1),
    )
}

impl Stream for MemoryStream {
    type Parcel = MemoryStream;

    fn pack(self) -> io::Result<MemoryStream> {
        Ok(self)
    }

    fn unpack(parcel: MemoryStream) -> io::Result<MemoryStream> {
        Ok(parcel)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.stats.reads.fetch_add(1, Ordering::Relaxed);
        assert!(!buf.is_empty(), "a read of nothing");
        if let Some(hello) = self.hello.as_mut().filter(|hello| hello.is_metered) {
            let mut pipe = self.incoming.lock().expect("not poisoned");
            hello.is_due = !pipe.bytes.is_empty();
            if !hello.is_due {
                pipe.reader = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        if self.chaos.stalls() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut pipe = self.incoming.lock().expect("not poisoned");
        if pipe.bytes.is_empty() {
            if pipe.broken {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if pipe.closed {
                return Poll::Ready(Ok(0));
            }
            pipe.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let length = self.chaos.cut(pipe.bytes.len().min(buf.len()));
        for (to, from) in buf.iter_mut().zip(pipe.bytes.drain(..length)) {
            *to = from;
        }
        if let Some(writer) = pipe.writer.take() {
            writer.wake();
        }
        Poll::Ready(Ok(length))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stats.writes.fetch_add(1, Ordering::Relaxed);
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        assert!(length > 0, "a write of nothing");
        if self.held.is_some() {
            ready!(self.push_held(cx))?;
            let bytes = bufs.iter().flat_map(|buf| buf.iter().copied());
            self.held.get_or_insert_default().extend(bytes);
            return match self.push_held(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                _ => Poll::Ready(Ok(length)),
            };
        }
        if self.chaos.stalls() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut pipe = self.outgoing.lock().expect("not poisoned");
        if pipe.broken || pipe.closed {
            drop(pipe);
            // Unread bytes are answered with a RST.
            self.incoming.lock().expect("not poisoned").reset();
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = pipe.capacity - pipe.bytes.len();
        if room == 0 {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let length = self.chaos.cut(length.min(room));
        let bytes = bufs.iter().flat_map(|buf| buf.iter().copied()).take(length);
        pipe.bytes.extend(bytes);
        if let Some(reader) = pipe.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(length))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.push_held(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.push_held(cx))?;
        let mut pipe = self.outgoing.lock().expect("not poisoned");
        pipe.closed = true;
        pipe.wake();
        Poll::Ready(Ok(()))
    }

    fn held_bytes(&self) -> usize {
        self.held.as_ref().map_or(0, Vec::len)
    }

    fn meter_handshake(&mut self, _: voltlane_driver::Time) {
        if let Some(hello) = &mut self.hello {
            hello.is_metered = true;
        }
    }

    fn awaits_handshake(&self) -> bool {
        self.hello.as_ref().is_some_and(|hello| hello.is_due)
    }

    fn permit_handshake(&mut self) {
        if let Some(hello) = self.hello.take() {
            hello.permits.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn abort(self) {
        self.outgoing.lock().expect("not poisoned").reset();
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        let mut incoming = self.incoming.lock().expect("not poisoned");
        let unread = !incoming.bytes.is_empty();
        incoming.broken = true;
        incoming.wake();
        drop(incoming);
        let mut outgoing = self.outgoing.lock().expect("not poisoned");
        if unread {
            // As in TCP (RFC 1122, 4.2.2.13): unread bytes turn the end into a RST.
            outgoing.reset();
        } else {
            outgoing.closed = true;
            outgoing.wake();
        }
    }
}

/// A place where connections are made: one side dials, the other accepts.
#[derive(Clone, Default)]
pub(crate) struct Place(Arc<Mutex<Backlog>>);

#[derive(Default)]
struct Backlog {
    waiting: VecDeque<io::Result<MemoryStream>>,
    acceptor: Option<Waker>,
    accept_calls: usize,
    refuses: bool,
}

impl Place {
    /// Connects. The other end waits to be accepted.
    pub(crate) fn dial(&self, capacity: usize, chaos: Chaos) -> MemoryStream {
        let (near, far) = pair(capacity, chaos);
        self.push(Ok(far));
        near
    }

    /// Like `dial`, to a listener whose stream takes whole writes and holds what has no room.
    pub(crate) fn dial_holding(&self, capacity: usize) -> MemoryStream {
        let (near, mut far) = pair(capacity, Chaos::NONE);
        far.held = Some(Vec::new());
        self.push(Ok(far));
        near
    }

    /// Like `dial`, to a listener whose stream begins with a costly handshake. `permits` counts those that were permitted.
    pub(crate) fn dial_costly(&self, permits: &Arc<AtomicUsize>) -> MemoryStream {
        let (near, mut far) = pair(64 * 1024, Chaos::NONE);
        far.hello = Some(Hello {
            is_metered: false,
            is_due: false,
            permits: Arc::clone(permits),
        });
        self.push(Ok(far));
        near
    }

    /// Makes the next accept fail with this error.
    pub(crate) fn fail(&self, error: io::Error) {
        self.push(Err(error));
    }

    /// Sets whether connectors are refused here.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.0.lock().expect("not poisoned").refuses = refuses;
    }

    pub(crate) fn accept_calls(&self) -> usize {
        self.0.lock().expect("not poisoned").accept_calls
    }

    fn push(&self, incoming: io::Result<MemoryStream>) {
        let mut backlog = self.0.lock().expect("not poisoned");
        backlog.waiting.push_back(incoming);
        if let Some(acceptor) = backlog.acceptor.take() {
            acceptor.wake();
        }
    }
}

pub(crate) struct MemoryListener(pub(crate) Place);

impl Listener for MemoryListener {
    type Stream = MemoryStream;

    fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(MemoryStream, SocketAddr)>> {
        let mut backlog = self.0.0.lock().expect("not poisoned");
        backlog.accept_calls += 1;
        match backlog.waiting.pop_front() {
            Some(incoming) => {
                Poll::Ready(incoming.map(|stream| (stream, SocketAddr::from(([127, 0, 0, 1], 1)))))
            }
            None => {
                backlog.acceptor = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

pub(crate) struct MemoryConnector {
    pub(crate) place: Place,
    pub(crate) capacity: usize,
    pub(crate) chaos: Chaos,
}

/// A connector whose streams take whole writes and hold what has no room.
pub(crate) struct HoldingConnector {
    pub(crate) place: Place,
    pub(crate) capacity: usize,
}

impl Connector for HoldingConnector {
    type Stream = MemoryStream;

    fn connect(&mut self) -> Connect<MemoryStream> {
        let mut stream = self.place.dial(self.capacity, Chaos::NONE);
        stream.held = Some(Vec::new());
        Box::pin(async move { Ok(stream) })
    }
}

impl Connector for MemoryConnector {
    type Stream = MemoryStream;

    fn connect(&mut self) -> Connect<MemoryStream> {
        let refuses = self.place.0.lock().expect("not poisoned").refuses;
        let result = if refuses {
            Err(io::ErrorKind::ConnectionRefused.into())
        } else {
            Ok(self.place.dial(self.capacity, self.chaos))
        };
        Box::pin(async move { result })
    }
}
