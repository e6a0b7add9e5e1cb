//! A stream with its layers.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use voltlane_driver::{Acknowledgements, Ends, Farewell, PeerEnd, Stream, Time};

use crate::fault::DoorFault;
use crate::layers::{End, Layers, MAX_OUT_BYTES, Scratch, Sink};

/// The fewest bytes that are asked of the socket: a hello of TLS, or a request, comes in one read.
const MIN_READ_BYTES: usize = 2 * 1024;
/// The most bytes that are asked of the socket at once.
const MAX_READ_BYTES: usize = 64 * 1024;
/// Reads of the socket for one read of the stream. A layer may give nothing for what it got.
const READS_PER_POLL: usize = 4;

/// What a call needs for as long as it lasts.
#[derive(Default)]
struct Buffers {
    wire: Vec<u8>,
    scratch: Scratch,
}

thread_local! {
    /// The buffers for all connections of this thread: one, or as many as there were doors within each other.
    #[expect(clippy::vec_box, reason = "each call moves one of them out and back")]
    static BUFFERS: RefCell<Vec<Box<Buffers>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `run` with buffers of this thread. Within it, another call gets others.
fn with_buffers<R>(run: impl FnOnce(&mut Buffers) -> R) -> R {
    let mut buffers = BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_default();
    let result = run(&mut buffers);
    BUFFERS.with_borrow_mut(|all| all.push(buffers));
    result
}

/// A stream of the driver `S`, with TLS and WebSocket around it, or with neither.
///
/// What it keeps for a connection is bounded, and nothing while all is read and sent: what was decoded and had no room in the reader's
/// buffer, up to one read and one record; what waits for the socket, up to one write and a few answers; the beginning of a record.
#[derive(Debug)]
pub struct DoorStream<S> {
    inner: S,
    layers: Option<Box<Layers>>,
}

/// A [`DoorStream`] in transit between threads.
#[derive(Debug)]
pub struct DoorParcel<P> {
    inner: P,
    layers: Option<Box<Layers>>,
}

impl<S: Stream> DoorStream<S> {
    /// Wraps a stream that has no layers.
    pub fn plain(inner: S) -> Self {
        DoorStream {
            inner,
            layers: None,
        }
    }

    pub(crate) fn layered(inner: S, layers: Layers) -> Self {
        DoorStream {
            inner,
            layers: Some(Box::new(layers)),
        }
    }

    /// Returns the stream that the layers are around.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns the stream that the layers are around, to change its options. What is read from it or written to it directly is lost for the
    /// layers.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the bytes that the layers hold, apart from what the cryptography of TLS does.
    #[must_use]
    pub fn footprint_bytes(&self) -> usize {
        self.layers
            .as_ref()
            .map_or(0, |layers| layers.footprint_bytes())
    }

    /// Returns why the layers ended the connection, or what the peer said when it closed.
    #[must_use]
    pub fn fault(&self) -> Option<&DoorFault> {
        self.layers.as_ref()?.fault.as_deref()
    }

    /// Ready once the layers are open. A client waits for this; an edge does not.
    ///
    /// # Errors
    /// When the peer refuses, or is none of ours.
    pub fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match &self.layers {
                Some(layers) if !layers.is_open() => {}
                _ => return Poll::Ready(Ok(())),
            }
            let received = match ready!(self.poll_receive(cx, &mut [])) {
                // As a driver does, which reads again.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                received => received?,
            };
            if received == Received::End {
                let fault = self.fault().cloned().unwrap_or(DoorFault::Early);
                let refused = io::Error::new(io::ErrorKind::ConnectionRefused, fault);
                return Poll::Ready(Err(refused));
            }
        }
    }

    /// Reads from the socket until there is something for the reader, or the end. `buffer` may be empty.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<Received>> {
        let Some(layers) = &mut self.layers else {
            return Poll::Ready(Ok(Received::End));
        };
        let inner = &mut self.inner;
        let mut read_bytes = 0;
        for _ in 0..READS_PER_POLL {
            // What the peer sent before it left still counts. Writes report the failure.
            let _ = layers.poll_flush(inner, cx);
            if let Some(end) = layers.end {
                return match end {
                    End::Closed => Poll::Ready(Ok(Received::End)),
                    End::Answered => Poll::Ready(Err(layers.answered())),
                };
            }
            if layers.awaits_handshake() {
                return Poll::Pending;
            }
            if layers.out.len() - layers.out_sent > MAX_OUT_BYTES {
                // The flush registered the waker.
                return Poll::Pending;
            }
            let was_open = layers.is_open();
            let received = with_buffers(|buffers| layers.receive_once(inner, cx, buffer, buffers));
            match ready!(received)? {
                Once::End if layers.end.is_some() || !was_open => {
                    return Poll::Ready(Ok(Received::End));
                }
                // The peer is gone without a goodbye.
                Once::End => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Once::Bytes { filled, .. } if filled > 0 || layers.plain.is_some() => {
                    return Poll::Ready(Ok(Received::Bytes(filled)));
                }
                Once::Bytes { .. } if layers.is_open() && !was_open && buffer.is_empty() => {
                    return Poll::Ready(Ok(Received::Bytes(0)));
                }
                Once::Bytes { read, .. } => read_bytes += read,
            }
            if read_bytes >= MAX_READ_BYTES {
                // Others come first, as after as much of the stream.
                break;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Received {
    /// This many bytes are in the buffer. More may be in memory of the connection.
    Bytes(usize),
    End,
}

/// The outcome of one read of the socket.
enum Once {
    Bytes {
        /// How many came.
        read: usize,
        /// How many are in the reader's buffer.
        filled: usize,
    },
    End,
}

impl Layers {
    fn receive_once<S: Stream>(
        &mut self,
        inner: &mut S,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        Buffers { wire, scratch }: &mut Buffers,
    ) -> Poll<io::Result<Once>> {
        wire.resize(MAX_READ_BYTES, 0);
        let mut read = 0;
        if !std::mem::take(&mut self.resumes) {
            let room = buffer.len().clamp(MIN_READ_BYTES, MAX_READ_BYTES);
            read = match (inner.poll_read(cx, &mut wire[..room])?, self.write_failed) {
                (Poll::Ready(bytes), _) => bytes,
                (Poll::Pending, None) => return Poll::Pending,
                // Everything that had come was read.
                (Poll::Pending, Some(failed)) => return Poll::Ready(Err(failed.into())),
            };
            if read == 0 {
                return Poll::Ready(Ok(Once::End));
            }
        }
        self.lend(scratch);
        let plain = self.plain.as_mut();
        let mut rest = plain.map_or(Vec::new(), |plain| std::mem::take(&mut plain.bytes));
        let mut sink = Sink {
            buffer,
            filled: 0,
            rest: &mut rest,
        };
        self.receive(&mut wire[..read], &mut sink, scratch);
        let filled = sink.filled;
        if !rest.is_empty() {
            self.plain.get_or_insert_default().bytes = rest;
        }
        let _ = self.poll_flush(inner, cx);
        self.give_back(scratch);
        Poll::Ready(Ok(Once::Bytes { read, filled }))
    }

    /// Returns the error after the last answer of the layers: see [`Stream::poll_read`].
    fn answered(&self) -> io::Error {
        let fault = self.fault.as_deref().cloned().unwrap_or(DoorFault::Early);
        io::Error::new(io::ErrorKind::InvalidData, fault)
    }
}

impl Layers {
    /// Takes a buffer for what is to be sent, unless something waits in one already.
    fn lend(&mut self, scratch: &mut Scratch) {
        if self.out.capacity() == 0 {
            self.out = std::mem::take(&mut scratch.out);
        }
    }

    /// Gives it back, once everything is sent.
    fn give_back(&mut self, scratch: &mut Scratch) {
        if self.is_flushed() && self.out.capacity() > 0 {
            self.out.clear();
            self.out_sent = 0;
            scratch.out = std::mem::take(&mut self.out);
        }
    }

    /// Sends what waits. After a failure nothing waits any more, and each call fails.
    #[inline]
    fn poll_flush<S: Stream>(
        &mut self,
        inner: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        // Nearly every call finds nothing to send.
        if self.out.is_empty() && self.write_failed.is_none() {
            return Poll::Ready(Ok(()));
        }
        self.poll_flush_some(inner, cx)
    }

    fn poll_flush_some<S: Stream>(
        &mut self,
        inner: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let sent = match self.write_failed {
            None => self.poll_send(inner, cx),
            Some(failed) => Poll::Ready(Err(failed.into())),
        };
        if let Poll::Ready(sent) = &sent {
            self.out.clear();
            self.out_sent = 0;
            self.write_failed = sent.as_ref().err().map(io::Error::kind);
        }
        sent
    }

    fn poll_send<S: Stream>(
        &mut self,
        inner: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_flushed() {
            let rest = IoSlice::new(&self.out[self.out_sent..]);
            match inner.poll_write(cx, &[rest])? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(bytes) => self.out_sent += bytes,
                Poll::Pending => {
                    // The layers may append before all is sent, each time.
                    if self.out_sent > MAX_OUT_BYTES {
                        self.out.drain(..self.out_sent);
                        self.out_sent = 0;
                    }
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Moves bytes that had no room before.
    fn take_plain(&mut self, buffer: &mut [u8]) -> usize {
        let Some(plain) = &mut self.plain else {
            return 0;
        };
        let waiting = &plain.bytes[plain.taken..];
        let bytes = waiting.len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&waiting[..bytes]);
        plain.taken += bytes;
        if plain.taken == plain.bytes.len() {
            self.plain = None;
        }
        bytes
    }
}

impl<S: Stream> Stream for DoorStream<S> {
    type Parcel = DoorParcel<S::Parcel>;

    fn pack(self) -> io::Result<Self::Parcel> {
        Ok(DoorParcel {
            inner: self.inner.pack()?,
            layers: self.layers,
        })
    }

    #[cfg(all(feature = "upgrade", unix))]
    fn socket(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        let is_movable = match &self.layers {
            None => true,
            #[cfg(feature = "websocket")]
            Some(layers) => layers.are_movable(),
            #[cfg(not(feature = "websocket"))]
            Some(_) => false,
        };
        self.inner.socket().filter(|_| is_movable)
    }

    #[cfg(all(feature = "upgrade", unix))]
    fn save(&self, out: &mut Vec<u8>) {
        #[cfg(feature = "websocket")]
        if let Some(layers) = &self.layers {
            layers.save(out);
        }
        #[cfg(not(feature = "websocket"))]
        let _ = out;
    }

    #[cfg(all(feature = "upgrade", unix))]
    fn from_socket(socket: std::os::fd::OwnedFd, saved: &[u8]) -> io::Result<Self> {
        #[cfg(feature = "websocket")]
        if !saved.is_empty() {
            let layers = Layers::load(saved).ok_or(io::ErrorKind::InvalidData)?;
            return Ok(DoorStream::layered(S::from_socket(socket, &[])?, layers));
        }
        S::from_socket(socket, saved).map(DoorStream::plain)
    }

    fn unpack(parcel: Self::Parcel) -> io::Result<Self> {
        Ok(DoorStream {
            inner: S::unpack(parcel.inner)?,
            layers: parcel.layers,
        })
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let Some(layers) = &mut self.layers else {
            return self.inner.poll_read(cx, buf);
        };
        if layers.plain.is_some() {
            return Poll::Ready(Ok(layers.take_plain(buf)));
        }
        match ready!(self.poll_receive(cx, buf))? {
            Received::Bytes(bytes) => Poll::Ready(Ok(bytes)),
            Received::End => Poll::Ready(Ok(0)),
        }
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Some(layers) = &mut self.layers else {
            return self.inner.poll_write(cx, bufs);
        };
        ready!(layers.poll_flush(&mut self.inner, cx))?;
        if layers.end.is_some() || layers.is_closing {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if !layers.is_open() {
            // The peer opens them, which wakes the reader.
            return Poll::Pending;
        }
        with_buffers(|Buffers { scratch, .. }| {
            layers.lend(scratch);
            let taken = layers.send(bufs, scratch)?;
            // What the socket does not take now waits for a flush. The bytes themselves are taken.
            let flushed = layers.poll_flush(&mut self.inner, cx);
            layers.give_back(scratch);
            let _ = flushed?;
            Poll::Ready(Ok(taken))
        })
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(layers) = &mut self.layers else {
            return self.inner.poll_flush(cx);
        };
        ready!(layers.poll_flush(&mut self.inner, cx))?;
        if layers.out.capacity() > 0 {
            with_buffers(|buffers| layers.give_back(&mut buffers.scratch));
        }
        self.inner.poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(layers) = &mut self.layers {
            layers.say_goodbye();
            ready!(layers.poll_flush(&mut self.inner, cx))?;
        }
        self.inner.poll_close(cx)
    }

    fn abort(self) {
        self.inner.abort();
    }

    fn part(&mut self, farewell: Farewell) {
        #[cfg(feature = "websocket")]
        if let Some(ws) = self.layers.as_mut().and_then(|layers| layers.ws.as_mut()) {
            ws.part(farewell);
        }
        #[cfg(not(feature = "websocket"))]
        let _ = farewell;
    }

    fn refuse(&mut self, farewell: Farewell) -> bool {
        #[cfg(feature = "websocket")]
        if self.layers.as_ref().is_some_and(|own| own.can_refuse()) {
            self.part(farewell);
            return true;
        }
        self.inner.refuse(farewell)
    }

    fn parting_words(&self) -> Option<String> {
        let own = self.fault().map(ToString::to_string);
        own.or_else(|| self.inner.parting_words())
    }

    fn keep_alive(&self) -> Option<Duration> {
        let own = self.layers.as_ref().and_then(|own| own.next_look());
        own.or_else(|| self.inner.keep_alive())
    }

    fn is_alive(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(layers) = self.layers.as_mut().filter(|own| own.pings.is_some()) else {
            return self.inner.is_alive(cx);
        };
        let is_alive = layers.check_life();
        // A failure is seen by the next read.
        let _ = layers.poll_flush(&mut self.inner, cx);
        is_alive
    }

    fn was_violated(&self) -> bool {
        self.fault().is_some_and(DoorFault::is_offence) || self.inner.was_violated()
    }

    fn take_overhead(&mut self) -> usize {
        let overhead = self.layers.as_mut().map_or(0, |own| own.take_overhead());
        overhead + self.inner.take_overhead()
    }

    fn held_bytes(&self) -> usize {
        let held = self.layers.as_ref().map_or(0, |own| own.held_bytes());
        held + self.inner.held_bytes()
    }

    fn meter_handshake(&mut self, now: Time) {
        #[cfg(feature = "tls")]
        if let Some(tls) = self.layers.as_mut().and_then(|own| own.tls.as_mut()) {
            tls.meter();
            if let Some(handshake) = &mut tls.handshake {
                handshake.begin(now);
            }
        }
        self.inner.meter_handshake(now);
    }

    fn note_handshake(&mut self, now: Time, is_over: bool) {
        #[cfg(feature = "tls")]
        if let Some(layers) = &mut self.layers {
            layers.note_handshake(now, is_over);
        }
        self.inner.note_handshake(now, is_over);
    }

    fn peer_name(&self) -> Option<String> {
        #[cfg(feature = "tls")]
        if let Some(tls) = self.layers.as_ref().and_then(|own| own.tls.as_ref()) {
            return tls.peer_name();
        }
        self.inner.peer_name()
    }

    fn awaits_handshake(&self) -> bool {
        let awaits = self
            .layers
            .as_ref()
            .is_some_and(|own| own.awaits_handshake());
        awaits || self.inner.awaits_handshake()
    }

    fn permit_handshake(&mut self) {
        #[cfg(feature = "tls")]
        if let Some(layers) = &mut self.layers
            && let Some(tls) = layers.tls.as_mut().filter(|tls| tls.is_due())
        {
            tls.permit();
            layers.resumes = true;
            return;
        }
        self.inner.permit_handshake();
    }

    fn is_introduced(&self) -> Option<bool> {
        let own = self.layers.as_ref().and_then(|layers| layers.introduces);
        own.or_else(|| self.inner.is_introduced())
    }

    fn peer_end(&self) -> Option<PeerEnd> {
        self.inner.peer_end()
    }

    fn ends(&self) -> Option<Ends> {
        self.inner.ends()
    }

    fn take_user_timeout(&mut self) -> Option<Duration> {
        self.inner.take_user_timeout()
    }

    fn acknowledgements(&self) -> Option<Acknowledgements> {
        self.inner.acknowledgements()
    }
}
