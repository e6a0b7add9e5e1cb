//! Two other implementations of RFC 6455, which parse frames, and the rules of SPEC 16.3 over what they parsed. Fuzzing uses them as well.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::OpCode;
use voltlane_doors::websocket::{
    CloseCode, Decoder, Event, MAX_CONTROLS_TOGETHER, MAX_EMPTY_FRAMES, Role,
};
use websocket_sans_io::{FrameInfo, Opcode, WebsocketFrameDecoder, WebsocketFrameEvent};

/// An event whose data is joined, so that cuts do not show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Data(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
    Broken(CloseCode),
}

/// What is known of a frame once its header is whole.
struct Facts {
    is_final: bool,
    is_reserved: bool,
    opcode: u8,
    is_masked: bool,
    /// Bytes of the header without the mask.
    header_bytes: usize,
    length: u64,
}

/// The rules over a sequence of frames.
struct Judge {
    role: Role,
    max_message_bytes: u64,
    message_bytes: u64,
    is_fragmented: bool,
    empty: u16,
    controls: u16,
    seen: Vec<Seen>,
}

impl Judge {
    fn new(role: Role, max_message_bytes: u64) -> Judge {
        Judge {
            role,
            max_message_bytes,
            message_bytes: 0,
            is_fragmented: false,
            empty: 0,
            controls: 0,
            seen: Vec::new(),
        }
    }

    fn fault(&mut self, facts: &Facts) -> Option<CloseCode> {
        let is_control = facts.opcode >= 8;
        let shortest = match facts.length {
            0..=125 => 2,
            126..=0xffff => 4,
            _ => 10,
        };
        let protocol = Some(CloseCode::Protocol);
        match facts.opcode {
            _ if facts.is_reserved => return protocol,
            1 => return Some(CloseCode::Unsupported),
            0 | 2 | 8 | 9 | 10 => {}
            _ => return protocol,
        }
        if is_control && !facts.is_final
            || facts.opcode == 0 && !self.is_fragmented
            || facts.opcode == 2 && self.is_fragmented
            || facts.is_masked != (self.role == Role::Server)
            || is_control && facts.length > 125
            || is_control && facts.header_bytes > 2
            || facts.header_bytes != shortest
            || facts.length > i64::MAX as u64
        {
            return protocol;
        }
        if is_control {
            self.controls += 1;
            return (self.controls > MAX_CONTROLS_TOGETHER).then_some(CloseCode::Policy);
        }
        self.is_fragmented = !facts.is_final;
        if facts.opcode == 2 {
            self.message_bytes = 0;
        }
        self.message_bytes = self.message_bytes.saturating_add(facts.length);
        if facts.length == 0 {
            self.empty += 1;
            return (self.empty > MAX_EMPTY_FRAMES).then_some(CloseCode::Policy);
        }
        let max = self.max_message_bytes;
        let is_above = max > 0 && self.message_bytes > max;
        is_above.then_some(CloseCode::TooBig)
    }

    fn data(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.empty = 0;
        self.controls = 0;
        join(&mut self.seen, bytes);
    }

    /// Returns whether it was a CLOSE.
    fn control(&mut self, opcode: u8, payload: &[u8]) -> bool {
        let seen = match opcode {
            9 => Seen::Ping(payload.to_vec()),
            10 => Seen::Pong(payload.to_vec()),
            _ => close(payload),
        };
        self.seen.push(seen);
        opcode == 8
    }
}

fn close(payload: &[u8]) -> Seen {
    match payload {
        [] => Seen::Close(None),
        [_] => Seen::Broken(CloseCode::Protocol),
        [a, b, reason @ ..] => {
            let code = u16::from_be_bytes([*a, *b]);
            let is_defined = tungstenite::protocol::frame::coding::CloseCode::from(code);
            if !is_defined.is_allowed() && code != 1014 {
                Seen::Broken(CloseCode::Protocol)
            } else if std::str::from_utf8(reason).is_err() {
                Seen::Broken(CloseCode::InvalidData)
            } else {
                Seen::Close(Some(code))
            }
        }
    }
}

fn join(seen: &mut Vec<Seen>, bytes: &[u8]) {
    match seen.last_mut() {
        Some(Seen::Data(data)) => data.extend_from_slice(bytes),
        _ => seen.push(Seen::Data(bytes.to_vec())),
    }
}

fn unmask(mask: Option<[u8; 4]>, bytes: &[u8]) -> Vec<u8> {
    let mask = mask.unwrap_or_default();
    let masks = mask.iter().cycle();
    bytes.iter().zip(masks).map(|(byte, m)| byte ^ m).collect()
}

/// What tungstenite's parser sees. Its second value tells whether the last header is cut.
pub(crate) fn by_tungstenite(role: Role, max: u64, bytes: &[u8]) -> (Vec<Seen>, bool) {
    let mut judge = Judge::new(role, max);
    let mut at = 0;
    loop {
        let mut cursor = Cursor::new(&bytes[at..]);
        let (header, length) = match FrameHeader::parse(&mut cursor) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return (judge.seen, at < bytes.len()),
            Err(_) => {
                // It knows of an undefined opcode only.
                judge.seen.push(Seen::Broken(CloseCode::Protocol));
                return (judge.seen, false);
            }
        };
        let header_bytes = cursor.position() as usize;
        let mask = header.mask;
        let facts = Facts {
            is_final: header.is_final,
            is_reserved: header.rsv1 || header.rsv2 || header.rsv3,
            opcode: match header.opcode {
                OpCode::Data(data) => data.into_u8(),
                OpCode::Control(control) => control.into_u8(),
            },
            is_masked: mask.is_some(),
            header_bytes: header_bytes - if mask.is_some() { 4 } else { 0 },
            length,
        };
        if let Some(code) = judge.fault(&facts) {
            judge.seen.push(Seen::Broken(code));
            return (judge.seen, false);
        }
        at += header_bytes;
        let there = (bytes.len() - at).min(usize::try_from(length).unwrap_or(usize::MAX));
        let payload = unmask(mask, &bytes[at..at + there]);
        at += there;
        if facts.opcode < 8 {
            judge.data(&payload);
        } else if (there as u64) < length || judge.control(facts.opcode, &payload) {
            return (judge.seen, false);
        }
    }
}

trait IntoU8 {
    fn into_u8(self) -> u8;
}

impl IntoU8 for tungstenite::protocol::frame::coding::Data {
    fn into_u8(self) -> u8 {
        OpCode::Data(self).into()
    }
}

impl IntoU8 for tungstenite::protocol::frame::coding::Control {
    fn into_u8(self) -> u8 {
        OpCode::Control(self).into()
    }
}

/// What websocket-sans-io sees. Its second value tells whether the last header is cut.
pub(crate) fn by_sans_io(role: Role, max: u64, bytes: &[u8]) -> (Vec<Seen>, bool) {
    let mut judge = Judge::new(role, max);
    let mut decoder = WebsocketFrameDecoder::new();
    let mut bytes = bytes.to_vec();
    let mut rest = &mut bytes[..];
    let mut control = Vec::new();
    let mut header_at = rest.len();
    let mut current: Option<FrameInfo> = None;
    loop {
        let added = decoder.add_data(rest).expect("infallible");
        let (taken, left) = rest.split_at_mut(added.consumed_bytes);
        rest = left;
        match added.event {
            None if rest.is_empty() => return (judge.seen, current.is_none() && header_at > 0),
            None => {}
            Some(WebsocketFrameEvent::Start { frame_info, .. }) => {
                let mask = if frame_info.mask.is_some() { 4 } else { 0 };
                let facts = Facts {
                    is_final: frame_info.fin,
                    is_reserved: frame_info.reserved != 0,
                    opcode: opcode_of(frame_info.opcode),
                    is_masked: frame_info.mask.is_some(),
                    header_bytes: header_at - rest.len() - mask,
                    length: frame_info.payload_length,
                };
                if let Some(code) = judge.fault(&facts) {
                    judge.seen.push(Seen::Broken(code));
                    return (judge.seen, false);
                }
                current = Some(frame_info);
                control.clear();
            }
            Some(WebsocketFrameEvent::PayloadChunk { .. }) => match &current {
                Some(frame) if opcode_of(frame.opcode) >= 8 => control.extend_from_slice(taken),
                _ => judge.data(taken),
            },
            Some(WebsocketFrameEvent::End { frame_info, .. }) => {
                let opcode = opcode_of(frame_info.opcode);
                if opcode >= 8 && judge.control(opcode, &control) {
                    return (judge.seen, false);
                }
                current = None;
                header_at = rest.len();
            }
        }
    }
}

fn opcode_of(opcode: Opcode) -> u8 {
    match opcode {
        Opcode::Continuation => 0,
        Opcode::Text => 1,
        Opcode::Binary => 2,
        Opcode::ConnectionClose => 8,
        Opcode::Ping => 9,
        Opcode::Pong => 10,
        _ => 15,
    }
}

/// What our decoder sees when the bytes arrive in pieces, each as long as `cut` says.
pub(crate) fn by_ours(
    role: Role,
    max: u64,
    bytes: &[u8],
    mut cut: impl FnMut() -> usize,
) -> Vec<Seen> {
    let mut decoder = Decoder::new(role, max);
    let mut seen = Vec::new();
    let mut bytes = bytes.to_vec();
    let mut rest = &mut bytes[..];
    while !rest.is_empty() {
        let (mut piece, left) = rest.split_at_mut(cut().clamp(1, rest.len()));
        rest = left;
        loop {
            match decoder.decode(&mut piece) {
                Ok(None) => break,
                Ok(Some(Event::Data(data))) => join(&mut seen, data),
                Ok(Some(Event::Ping)) => seen.push(Seen::Ping(decoder.control().to_vec())),
                Ok(Some(Event::Pong)) => seen.push(Seen::Pong(decoder.control().to_vec())),
                Ok(Some(Event::Close(close))) => seen.push(Seen::Close(close.code)),
                Err(violation) => seen.push(Seen::Broken(violation.code())),
            }
        }
        assert!(piece.is_empty(), "everything is taken");
    }
    seen
}

/// Compares ours with both, the bytes once whole and once cut. A fault is seen by ours as soon as a byte shows it, so a cut header may
/// already be one.
pub(crate) fn compare(role: Role, max: u64, bytes: &[u8], cut: impl FnMut() -> usize) {
    let whole = by_ours(role, max, bytes, || usize::MAX);
    assert_eq!(by_ours(role, max, bytes, cut), whole, "cut");
    for (name, (theirs, is_cut)) in [
        ("tungstenite", by_tungstenite(role, max, bytes)),
        ("websocket-sans-io", by_sans_io(role, max, bytes)),
    ] {
        let mut ours = &whole[..];
        if is_cut && let [before @ .., Seen::Broken(_)] = ours {
            ours = before;
        }
        assert_eq!(ours, theirs, "{name}");
    }
}
