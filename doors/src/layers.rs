//! The layers of one connection, from its socket to the stream within.

#[cfg(all(feature = "upgrade", feature = "websocket", unix))]
mod moved;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::fault::DoorFault;
#[cfg(feature = "tls")]
use crate::handshake::HandshakeEnd;
#[cfg(feature = "tls")]
use crate::tls::TlsLayer;
#[cfg(feature = "websocket")]
use crate::websocket::layer::{Side, WsEnd, WsLayer};
#[cfg(feature = "proxy")]
use voltlane_core::edge::proxy::ProxyHeader;
#[cfg(feature = "tls")]
use voltlane_driver::Time;

/// The maximum number of bytes that one write takes: with the header of a message they fill one record of TLS.
pub const MAX_WRITE_BYTES: usize = 16_380;
/// While more than this waits for the socket, nothing is read: what arrives could ask for more answers.
pub(crate) const MAX_OUT_BYTES: usize = 20 * 1024;

/// When a peer is asked for a sign of life.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pings {
    /// At the latest after so much silence.
    pub(crate) every: Duration,
    /// How long it has to answer.
    pub(crate) within: Duration,
}

/// What a peer is given after its time, in case this process was suspended and has not read its answer yet.
const GRACE: Duration = Duration::from_millis(500);

/// What is known of a peer since it was last looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Life {
    /// Something has come.
    Heard,
    /// Nothing has come.
    #[default]
    Silent,
    /// It was asked.
    Asked,
    /// It has not answered in time.
    Late,
}

/// How a connection came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The peer has closed its direction in order.
    Closed,
    /// The layers have answered the peer for the last time: it broke a rule, or asked a question that needs no connection.
    Answered,
}

/// Buffers that all connections of a thread share. What a connection must keep beyond a call is its own.
#[derive(Default)]
pub(crate) struct Scratch {
    /// The payloads of TLS for the layer above.
    #[cfg(all(feature = "tls", feature = "websocket"))]
    pub(crate) mid: Vec<u8>,
    /// Frames that TLS is about to encrypt.
    #[cfg(feature = "tls")]
    pub(crate) encoded: Vec<u8>,
    /// What is to be sent.
    pub(crate) out: Vec<u8>,
}

/// Where bytes of the stream within go: to the reader's buffer, and the others to memory of the connection.
pub(crate) struct Sink<'a> {
    pub(crate) buffer: &'a mut [u8],
    pub(crate) filled: usize,
    pub(crate) rest: &'a mut Vec<u8>,
}

impl Sink<'_> {
    /// Returns the number of bytes put.
    fn given(&self) -> usize {
        self.filled + self.rest.len()
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        let room = self.buffer.len() - self.filled;
        let (now, later) = bytes.split_at(bytes.len().min(room));
        self.buffer[self.filled..self.filled + now.len()].copy_from_slice(now);
        self.filled += now.len();
        self.rest.extend_from_slice(later);
    }
}

/// Bytes for the reader. At least one is not taken.
#[derive(Default)]
pub(crate) struct Plain {
    pub(crate) bytes: Vec<u8>,
    /// How many were taken.
    pub(crate) taken: usize,
}

/// The layers of a connection. At least one is there.
#[derive(Default)]
pub(crate) struct Layers {
    /// The PROXY header that comes before anything else, until it is whole.
    #[cfg(feature = "proxy")]
    pub(crate) header: Option<Box<ProxyHeader>>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Box<TlsLayer>>,
    #[cfg(feature = "websocket")]
    pub(crate) ws: Option<WsLayer>,
    /// What was read and had no room in the reader's buffer. Hardly ever there, so it is not to cost much when it is not.
    pub(crate) plain: Option<Box<Plain>>,
    /// What is to be sent.
    pub(crate) out: Vec<u8>,
    /// How much of that was sent.
    pub(crate) out_sent: usize,
    /// Why the socket takes no more, once it did not.
    pub(crate) write_failed: Option<std::io::ErrorKind>,
    pub(crate) end: Option<End>,
    /// Why the layers ended it, or the peer did.
    pub(crate) fault: Option<Box<DoorFault>>,
    /// Bytes read from the socket less those given to the reader, apart from those that were counted as overhead.
    overhead: i64,
    /// After how much silence a peer is asked for a sign of life, and how long it has to answer.
    pub(crate) pings: Option<Arc<Pings>>,
    life: Life,
    /// Whether the next read goes on with what has come before it, without the socket.
    pub(crate) resumes: bool,
    /// Whether the stream within begins with a PROXY header: one that came, or one by the layers. `None` if they were told nothing of proxies.
    pub(crate) introduces: Option<bool>,
    /// Whether something has come from the peer.
    pub(crate) has_received: bool,
    /// Whether the layers have said goodbye.
    pub(crate) is_closing: bool,
}

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without what they hold: it is payload.
        f.debug_struct("Layers")
            .field("end", &self.end)
            .field("is_closing", &self.is_closing)
            .finish_non_exhaustive()
    }
}

impl Layers {
    /// Returns whether the stream within is open.
    pub(crate) fn is_open(&self) -> bool {
        let mut is_open = true;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            is_open &= tls.is_open();
        }
        #[cfg(feature = "websocket")]
        if let Some(ws) = &self.ws {
            is_open &= ws.is_open();
        }
        is_open
    }

    /// Returns whether everything is on its way to the socket.
    pub(crate) fn is_flushed(&self) -> bool {
        self.out_sent == self.out.len()
    }

    /// Takes bytes from the socket. Those of the stream within go to `sink`, and the end may be set.
    pub(crate) fn receive(&mut self, wire: &mut [u8], sink: &mut Sink<'_>, scratch: &mut Scratch) {
        self.has_received = true;
        if !wire.is_empty() {
            self.life = Life::Heard;
        }
        self.overhead += wire.len() as i64;
        let before = sink.given();
        self.decode(wire, sink, scratch);
        self.overhead -= (sink.given() - before) as i64;
    }

    fn decode(&mut self, wire: &mut [u8], sink: &mut Sink<'_>, scratch: &mut Scratch) {
        let _ = (&scratch, &wire);
        #[cfg(feature = "proxy")]
        let wire = {
            let header_bytes = self.pass_header(wire, sink);
            if self.header.is_some() {
                return;
            }
            &mut wire[header_bytes..]
        };
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            self.receive_tls(wire, sink, scratch);
            #[cfg(feature = "websocket")]
            return;
        }
        #[cfg(feature = "websocket")]
        if let Some(ws) = &mut self.ws {
            let waiting = self.out.len() - self.out_sent;
            let end = ws.read(wire, sink, &mut self.out, waiting <= MAX_OUT_BYTES);
            self.end_websocket(end);
        }
    }

    /// Passes on the bytes of a PROXY header, which the machine reads (SPEC 10.7). Returns how many they are. The layers begin behind it.
    #[cfg(feature = "proxy")]
    fn pass_header(&mut self, wire: &[u8], sink: &mut Sink<'_>) -> usize {
        let Some(header) = &mut self.header else {
            return 0;
        };
        let mut rest = wire;
        let read = header.read(&mut rest);
        let header_bytes = wire.len() - rest.len();
        sink.put(&wire[..header_bytes]);
        if let Ok(Some(_)) = read {
            self.header = None;
        }
        header_bytes
    }

    #[cfg(feature = "tls")]
    fn receive_tls(&mut self, wire: &mut [u8], sink: &mut Sink<'_>, scratch: &mut Scratch) {
        let _ = &scratch;
        let Some(tls) = &mut self.tls else {
            return;
        };
        #[cfg(feature = "websocket")]
        if let Some(ws) = &mut self.ws {
            scratch.mid.clear();
            scratch.encoded.clear();
            let read = tls.read(
                wire,
                |plain| scratch.mid.extend_from_slice(plain),
                &mut self.out,
            );
            if tls.is_open()
                && let Some(request) = ws.take_request()
            {
                // It is open, and fails only when it is not.
                let _ = tls.write(&request, &mut self.out);
            }
            // TLS has come to rest, so it can send what the layer above answers.
            let waiting = self.out.len() - self.out_sent;
            let answers = waiting <= MAX_OUT_BYTES;
            let mut end = None;
            if !scratch.mid.is_empty() || read.is_ok() && tls.is_open() {
                end = ws.read(&mut scratch.mid, sink, &mut scratch.encoded, answers);
            }
            if !scratch.encoded.is_empty() && tls.is_open() {
                // As above.
                let _ = tls.write(&scratch.encoded, &mut self.out);
            }
            let read = read.map(|()| tls.has_peer_closed());
            self.end_websocket(end);
            self.end_tls(read);
            return;
        }
        let read = tls.read(wire, |plain| sink.put(plain), &mut self.out);
        let read = read.map(|()| tls.has_peer_closed());
        self.end_tls(read);
    }

    #[cfg(feature = "tls")]
    fn end_tls(&mut self, read: Result<bool, crate::tls::TlsFault>) {
        match read {
            Ok(false) => {}
            Ok(true) => self.end = self.end.or(Some(End::Closed)),
            Err(fault) => self.fail(DoorFault::Tls(fault)),
        }
        if self.end.is_some() {
            self.say_goodbye();
        }
    }

    /// Records that the layers end the connection.
    fn fail(&mut self, fault: DoorFault) {
        tracing::debug!(%fault, "a door ends a connection");
        self.end = Some(End::Answered);
        self.fault.get_or_insert_with(|| Box::new(fault));
    }

    /// Tells of the handshake of TLS if it has ended. `is_over`: the connection ends.
    #[cfg(feature = "tls")]
    pub(crate) fn note_handshake(&mut self, now: Time, is_over: bool) {
        let Some(tls) = self.tls.as_mut().filter(|tls| tls.handshake.is_some()) else {
            return;
        };
        let end = match () {
            () if tls.is_open() && tls.is_resumed() => HandshakeEnd::Resumed,
            () if tls.is_open() => HandshakeEnd::Full,
            () if self.fault.is_some() => HandshakeEnd::Failed,
            () if is_over => HandshakeEnd::Left,
            () => return,
        };
        if let Some(handshake) = tls.handshake.take() {
            handshake.end(now, end);
        }
    }

    /// Returns whether a key exchange waits to be permitted.
    pub(crate) fn awaits_handshake(&self) -> bool {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return tls.is_due();
        }
        false
    }

    /// Returns in what time [`check_life`](Self::check_life) is to be called.
    pub(crate) fn next_look(&self) -> Option<Duration> {
        let pings = self.pings.as_ref()?;
        Some(match self.life {
            // What comes right after a look is noticed by the next one alone.
            Life::Heard | Life::Silent => pings.every / 2,
            Life::Asked => pings.within,
            Life::Late => GRACE,
        })
    }

    /// Looks at what has come, and asks a peer from which nothing has. Returns false if it has not answered.
    pub(crate) fn check_life(&mut self) -> bool {
        if self.end.is_some() || !self.is_open() {
            return true;
        }
        self.life = match self.life {
            Life::Heard => Life::Silent,
            Life::Silent => {
                self.ask();
                Life::Asked
            }
            Life::Asked => Life::Late,
            Life::Late => return false,
        };
        true
    }

    fn ask(&mut self) {
        #[cfg(feature = "websocket")]
        if let Some(ws) = &mut self.ws {
            let mut words = Vec::new();
            ws.ping(&mut words);
            self.say(words);
        }
    }

    /// Sends what the layer of WebSocket says, through TLS if that is there and open.
    #[cfg(feature = "websocket")]
    fn say(&mut self, words: Vec<u8>) {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            if !words.is_empty() && tls.is_open() {
                // It is open, and fails only when it is not.
                let _ = tls.write(&words, &mut self.out);
            }
            return;
        }
        self.out.extend_from_slice(&words);
    }

    /// Returns whether a peer that is turned away now can be told why.
    #[cfg(feature = "websocket")]
    pub(crate) fn can_refuse(&self) -> bool {
        #[cfg(feature = "tls")]
        if self.tls.as_ref().is_some_and(|tls| !tls.is_open()) {
            return false;
        }
        self.end.is_none() && self.ws.as_ref().is_some_and(WsLayer::awaits_request)
    }

    /// Takes the number of bytes that came since the last call and are none of the stream.
    pub(crate) fn take_overhead(&mut self) -> usize {
        let kept = self.kept_bytes() as i64;
        // A record that is cut is payload for the most part, and counted once it is whole.
        let overhead = (self.overhead - kept).max(0);
        self.overhead -= overhead;
        overhead as usize
    }

    /// Returns the number of bytes that have come and are not decoded.
    fn kept_bytes(&self) -> usize {
        let mut bytes = 0;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            bytes += tls.kept_bytes();
        }
        #[cfg(feature = "websocket")]
        if let Some(ws) = &self.ws {
            bytes += ws.held_bytes();
        }
        bytes
    }

    /// Returns the number of bytes that wait: for the reader, for the rest of a record or request, or for the socket.
    pub(crate) fn held_bytes(&self) -> usize {
        let plain = self.plain.as_ref();
        let plain = plain.map_or(0, |plain| plain.bytes.len() - plain.taken);
        plain + self.out.len() - self.out_sent + self.kept_bytes()
    }

    /// Encodes up to [`MAX_WRITE_BYTES`] of `parts` for the socket. Returns how many it took.
    pub(crate) fn send(
        &mut self,
        parts: &[std::io::IoSlice<'_>],
        scratch: &mut Scratch,
    ) -> std::io::Result<usize> {
        let mut left = MAX_WRITE_BYTES;
        let mut taken: [&[u8]; 2] = [&[]; 2];
        let slots = taken.iter_mut();
        for (slot, part) in slots.zip(parts.iter().filter(|part| !part.is_empty())) {
            *slot = &part[..part.len().min(left)];
            left -= slot.len();
        }
        let bytes = MAX_WRITE_BYTES - left;
        #[cfg(feature = "tls")]
        let broken = |_| std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let _ = &scratch;
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            scratch.encoded.clear();
            #[cfg(feature = "websocket")]
            if let Some(ws) = &mut self.ws {
                ws.write(&taken, &mut scratch.encoded)?;
                tls.write(&scratch.encoded, &mut self.out).map_err(broken)?;
                return Ok(bytes);
            }
            if taken[1].is_empty() {
                tls.write(taken[0], &mut self.out).map_err(broken)?;
                return Ok(bytes);
            }
            // A record is made of one piece.
            for part in taken {
                scratch.encoded.extend_from_slice(part);
            }
            tls.write(&scratch.encoded, &mut self.out).map_err(broken)?;
            return Ok(bytes);
        }
        #[cfg(feature = "websocket")]
        if let Some(ws) = &mut self.ws {
            ws.write(&taken, &mut self.out)?;
        }
        Ok(bytes)
    }

    /// Appends the last words of each layer, once.
    pub(crate) fn say_goodbye(&mut self) {
        if std::mem::replace(&mut self.is_closing, true) {
            return;
        }
        #[cfg(feature = "websocket")]
        if let Some(ws) = &mut self.ws {
            let mut words = Vec::new();
            ws.close(&mut words);
            self.say(words);
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            tls.close(&mut self.out);
        }
    }

    /// Returns the bytes that wait in memory of the connection.
    pub(crate) fn footprint_bytes(&self) -> usize {
        let mut bytes = size_of::<Layers>() + self.out.capacity();
        if let Some(plain) = &self.plain {
            bytes += size_of::<Plain>() + plain.bytes.capacity();
        }
        #[cfg(feature = "proxy")]
        if self.header.is_some() {
            bytes += size_of::<ProxyHeader>();
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            bytes += size_of::<TlsLayer>() + tls.footprint_bytes();
        }
        #[cfg(feature = "websocket")]
        if let Some(ws) = &self.ws {
            bytes += ws.footprint_bytes();
        }
        bytes
    }
}

#[cfg(feature = "websocket")]
impl Layers {
    fn end_websocket(&mut self, end: Option<WsEnd>) {
        match end {
            None => {}
            Some(WsEnd::Closed(code)) => {
                self.end = self.end.or(Some(End::Closed));
                let fault = code.map(|code| Box::new(DoorFault::Closed(code)));
                self.fault = self.fault.take().or(fault);
            }
            Some(WsEnd::Answered(fault)) => self.fail(fault),
        }
    }

    /// Sends a request, or keeps it until TLS is open.
    pub(crate) fn request(&mut self, request: Vec<u8>) {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            if let Some(ws) = &mut self.ws {
                ws.keep_request(request);
            }
            return;
        }
        self.out.extend_from_slice(&request);
    }

    /// Adds WebSocket.
    pub(crate) fn begin_websocket(&mut self, side: Side) {
        self.ws = Some(WsLayer::new(side));
    }
}
