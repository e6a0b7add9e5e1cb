//! WebSocket as a layer: the request, then frames, then the close.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::fault::DoorFault;
use crate::layers::Sink;
use crate::websocket::http::{self, HeadReader, Outcome, Refusal, Rules, Traced};
use crate::websocket::{
    CloseCode, Decoder, Event, MAX_CONTROL_BYTES, Role, encode_close, encode_message, encode_ping,
    encode_pong,
};
use voltlane_core::edge::proxy::ProxySource;
use voltlane_driver::Farewell;

/// The longest head of a server's answer to a client.
const MAX_ANSWER_BYTES: usize = 4_096;

/// Which side of WebSocket a layer is.
#[derive(Debug)]
pub(crate) enum Side {
    /// An edge's, for a connection from this address.
    Server {
        rules: Arc<Rules>,
        peer: IpAddr,
        /// Whether the stream within begins with a PROXY header that says where the request came from.
        introduces: bool,
        max_message_bytes: u64,
    },
    /// A client's, which has sent the request with this key.
    Client { key: String },
}

/// How the layer came to its end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum WsEnd {
    /// The peer has closed, with this code.
    Closed(Option<u16>),
    /// The layer has answered for the last time.
    Answered(DoorFault),
}

enum State {
    Head {
        side: Side,
        reader: HeadReader,
    },
    Frames(Decoder),
    /// Frames came to their end.
    Over,
}

pub(crate) struct WsLayer {
    state: State,
    /// What only a client has.
    asking: Option<Box<Asking>>,
    farewell: Farewell,
    /// Whether our CLOSE was sent.
    has_closed: bool,
}

impl WsLayer {
    pub(crate) fn new(side: Side) -> WsLayer {
        let asking = match side {
            Side::Server { .. } => None,
            Side::Client { .. } => Some(Box::default()),
        };
        let reader = HeadReader::default();
        WsLayer {
            state: State::Head { side, reader },
            asking,
            farewell: Farewell::default(),
            has_closed: false,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Frames(_)) && !self.has_closed
    }

    /// Returns whether another process can go on with it: a server's, open in both directions.
    #[cfg(all(feature = "upgrade", unix))]
    pub(crate) fn is_movable(&self) -> bool {
        self.is_open() && self.asking.is_none()
    }

    /// Appends all that another process needs to go on with it, if it is movable.
    #[cfg(all(feature = "upgrade", unix))]
    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        if let State::Frames(decoder) = &self.state {
            let is_open = decoder.save(out);
            debug_assert!(is_open, "frames come to their end with the layer");
        }
    }

    /// Creates the layer that was saved. `None` if these bytes are none that is written.
    #[cfg(all(feature = "upgrade", unix))]
    pub(crate) fn load(saved: &[u8]) -> Option<WsLayer> {
        Some(WsLayer {
            state: State::Frames(Decoder::load(Role::Server, saved)?),
            asking: None,
            farewell: Farewell::default(),
            has_closed: false,
        })
    }

    pub(crate) fn part(&mut self, farewell: Farewell) {
        self.farewell = farewell;
    }

    /// Takes all of `wire`. `answers` tells whether there is room for a PONG.
    pub(crate) fn read(
        &mut self,
        wire: &mut [u8],
        sink: &mut Sink<'_>,
        out: &mut Vec<u8>,
        answers: bool,
    ) -> Option<WsEnd> {
        let mut taken = 0;
        if let State::Head { .. } = self.state {
            let mut input = &*wire;
            if let Some(end) = self.read_head(&mut input, sink, out) {
                return Some(end);
            }
            taken = wire.len() - input.len();
        }
        self.read_frames(&mut wire[taken..], sink, out, answers)
    }

    fn read_head(
        &mut self,
        input: &mut &[u8],
        sink: &mut Sink<'_>,
        out: &mut Vec<u8>,
    ) -> Option<WsEnd> {
        let State::Head { side, reader } = &mut self.state else {
            return None;
        };
        let opened: Result<Decoder, DoorFault> = match side {
            Side::Server {
                rules,
                peer,
                introduces,
                max_message_bytes,
            } => match reader.read(input, rules.max_head_bytes) {
                Ok(None) => return None,
                Ok(Some(head)) => match rules.answer(&head, *peer, out) {
                    Ok(Outcome::Upgrade(upgrade)) => {
                        if *introduces {
                            introduce(upgrade.source, sink);
                        }
                        Ok(Decoder::new(Role::Server, *max_message_bytes))
                    }
                    Ok(Outcome::Health) => Err(DoorFault::Health),
                    Err(refusal) => {
                        refusal.give(rules.tell_refusal.as_ref(), out);
                        Err(DoorFault::Refused(refusal))
                    }
                },
                Err(fault) => {
                    Refusal::from(fault).give(rules.tell_refusal.as_ref(), out);
                    Err(DoorFault::Head(fault))
                }
            },
            Side::Client { key } => match reader.read(input, MAX_ANSWER_BYTES) {
                Ok(None) => return None,
                Ok(Some(head)) => http::check_answer(&head, key)
                    .map(|()| Decoder::new(Role::Client, 0))
                    .map_err(DoorFault::NotUpgraded),
                Err(fault) => Err(DoorFault::Head(fault)),
            },
        };
        match opened {
            Ok(decoder) => {
                self.state = State::Frames(decoder);
                None
            }
            Err(fault) => {
                self.state = State::Over;
                Some(WsEnd::Answered(fault))
            }
        }
    }

    fn read_frames(
        &mut self,
        wire: &mut [u8],
        sink: &mut Sink<'_>,
        out: &mut Vec<u8>,
        answers: bool,
    ) -> Option<WsEnd> {
        let State::Frames(decoder) = &mut self.state else {
            return None;
        };
        let mut input = wire;
        // Of several PINGs that came together the last one is answered.
        let mut pong: Option<([u8; MAX_CONTROL_BYTES], usize)> = None;
        let end = loop {
            match decoder.decode(&mut input) {
                Ok(None) => break None,
                Ok(Some(Event::Data(data))) => sink.put(data),
                Ok(Some(Event::Pong)) => {}
                Ok(Some(Event::Ping)) => {
                    let payload = decoder.control();
                    let mut kept = [0; MAX_CONTROL_BYTES];
                    kept[..payload.len()].copy_from_slice(payload);
                    pong = Some((kept, payload.len()));
                }
                Ok(Some(Event::Close(close))) => {
                    break Some((CloseCode::Normal, WsEnd::Closed(close.code)));
                }
                Err(violation) => {
                    break Some((
                        violation.code(),
                        WsEnd::Answered(DoorFault::Frame(violation)),
                    ));
                }
            }
        };
        decoder.rest();
        if let Some((payload, length)) = pong.filter(|_| answers && !self.has_closed) {
            let mask = self.mask();
            encode_pong(&payload[..length], mask, out);
        }
        let (code, end) = end?;
        if !std::mem::replace(&mut self.has_closed, true) {
            let mask = self.mask();
            encode_close(code, mask, out);
        }
        self.state = State::Over;
        Some(end)
    }

    /// Appends a message with `parts`.
    pub(crate) fn write(&mut self, parts: &[&[u8]], out: &mut Vec<u8>) -> io::Result<()> {
        if !self.is_open() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mask = self.mask();
        encode_message(parts, mask, out);
        Ok(())
    }

    /// Returns whether a server's answer to the request is still to come.
    pub(crate) fn awaits_request(&self) -> bool {
        let State::Head { side, .. } = &self.state else {
            return false;
        };
        matches!(side, Side::Server { .. })
    }

    /// Appends a PING, if frames are spoken.
    pub(crate) fn ping(&mut self, out: &mut Vec<u8>) {
        if self.is_open() {
            let mask = self.mask();
            encode_ping(&[], mask, out);
        }
    }

    /// Appends the last words: a CLOSE, if frames are spoken and none was sent, or a server's answer to a request that has not come.
    pub(crate) fn close(&mut self, out: &mut Vec<u8>) {
        if self.awaits_request() {
            http::turn_away(self.farewell, out);
            self.state = State::Over;
        } else if self.is_open() {
            self.has_closed = true;
            let mask = self.mask();
            encode_close(self.farewell.into(), mask, out);
        }
    }

    fn mask(&mut self) -> Option<[u8; 4]> {
        self.asking.as_mut().map(|asking| asking.masks.next())
    }

    /// Keeps a client's request until TLS can send it.
    #[cfg(feature = "tls")]
    pub(crate) fn keep_request(&mut self, request: Vec<u8>) {
        if let Some(asking) = &mut self.asking {
            asking.request = request;
        }
    }

    /// Returns the request that was kept, once.
    #[cfg(feature = "tls")]
    pub(crate) fn take_request(&mut self) -> Option<Vec<u8>> {
        let request = std::mem::take(&mut self.asking.as_mut()?.request);
        (!request.is_empty()).then_some(request)
    }

    /// Returns the number of bytes that have come and are not taken.
    pub(crate) fn held_bytes(&self) -> usize {
        match &self.state {
            State::Head { reader, .. } => reader.held_bytes(),
            _ => 0,
        }
    }

    pub(crate) fn footprint_bytes(&self) -> usize {
        match &self.state {
            State::Head { reader, .. } => reader.footprint_bytes(),
            _ => 0,
        }
    }
}

/// Puts a PROXY header in front of the stream, which tells the machine where the request came from (SPEC 16.2(f)).
fn introduce(source: Traced, sink: &mut Sink<'_>) {
    let source = match source {
        // The port is not known and not asked for.
        Traced::Address(ip) => ProxySource::Address(SocketAddr::new(ip, 0)),
        Traced::Peer | Traced::Malformed => ProxySource::Local,
    };
    let mut header = Vec::new();
    source.encode(&mut header);
    sink.put(&header);
}

/// A client's side.
#[derive(Debug, Default)]
struct Asking {
    masks: Masks,
    #[cfg(feature = "tls")]
    request: Vec<u8>,
}

/// Masks from the system's randomness, fetched by the dozen.
#[derive(Debug)]
struct Masks {
    bytes: [u8; Masks::BYTES],
    used: usize,
}

impl Masks {
    const BYTES: usize = 256;

    fn next(&mut self) -> [u8; 4] {
        if self.used == Masks::BYTES {
            random(&mut self.bytes);
            self.used = 0;
        }
        let mask = self.bytes[self.used..].first_chunk().expect("a multiple");
        self.used += 4;
        *mask
    }
}

impl Default for Masks {
    fn default() -> Self {
        Masks {
            bytes: [0; Masks::BYTES],
            used: Masks::BYTES,
        }
    }
}

/// Fills `bytes` with the system's randomness.
pub(crate) fn random(bytes: &mut [u8]) {
    // Without it the client library has no keys either, and panics before.
    getrandom::fill(bytes).expect("the system provides randomness");
}
