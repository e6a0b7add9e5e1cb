//! Decodes frames as they arrive.

#[cfg(all(feature = "upgrade", unix))]
mod saved;

use std::fmt;
use std::mem;

use super::close::{Close, CloseCode};
use super::header::{self, MAX_CONTROL_BYTES, Opcode};

/// The maximum number of empty data frames in a row (SPEC 16.3(e)).
pub const MAX_EMPTY_FRAMES: u16 = 256;
/// The maximum number of control frames that arrive together (SPEC 16.3(e)).
pub const MAX_CONTROLS_TOGETHER: u16 = 256;

/// The end of the connection that decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a connection has two ends")]
pub enum Role {
    /// The frames are a client's, and must be masked.
    Server,
    /// The frames are a server's, and must not be masked.
    Client,
}

/// Something that arrived.
#[derive(Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "RFC 6455 has no others, and each must be handled"
)]
pub enum Event<'a> {
    /// Bytes of the stream, unmasked where they were. Never empty.
    Data(&'a mut [u8]),
    /// A PING, whose payload is at [`Decoder::control`] until the next call.
    Ping,
    /// A PONG.
    Pong,
    /// A CLOSE. Nothing comes after it.
    Close(Close),
}

/// How a peer broke the rules. Its `Display` names no content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A client's frame without a mask.
    #[error("a frame without a mask")]
    Unmasked,
    /// A server's frame with a mask.
    #[error("a masked frame of a server")]
    Masked,
    /// A bit that only an extension gives a meaning.
    #[error("a reserved bit is set")]
    ReservedBit,
    /// An opcode that RFC 6455 does not define.
    #[error("opcode {0} is not defined")]
    UnknownOpcode(u8),
    /// A text message.
    #[error("a text message; the stream is in binary messages")]
    Text,
    /// A continuation with no message to continue.
    #[error("a continuation of nothing")]
    NothingToContinue,
    /// Another message before the last fragment of this one.
    #[error("a message within a fragmented one")]
    Interleaved,
    /// A control frame in fragments.
    #[error("a fragmented control frame")]
    FragmentedControl,
    /// A control frame above [`MAX_CONTROL_BYTES`].
    #[error("a control frame above {MAX_CONTROL_BYTES} bytes")]
    LongControl,
    /// A length that is not in its shortest form.
    #[error("a length that is not in its shortest form")]
    LongLength,
    /// A length of 2^63 or more.
    #[error("a length with its highest bit set")]
    HugeLength,
    /// A message above the configured bound.
    #[error("a message of {0} bytes or more, above the bound")]
    TooBig(u64),
    /// More than [`MAX_EMPTY_FRAMES`] in a row.
    #[error("more than {MAX_EMPTY_FRAMES} empty frames in a row")]
    EmptyFrames,
    /// More than [`MAX_CONTROLS_TOGETHER`].
    #[error("more than {MAX_CONTROLS_TOGETHER} control frames together")]
    ControlFrames,
    /// A CLOSE with half a code, or with a code that is not for use in a frame.
    #[error("a malformed CLOSE")]
    MalformedClose,
    /// A CLOSE whose reason is not UTF-8.
    #[error("the reason in a CLOSE is not UTF-8")]
    ReasonNotUtf8,
}

impl Violation {
    /// Returns the code to close with (SPEC 16.4).
    #[must_use]
    pub fn code(self) -> CloseCode {
        match self {
            Violation::Text => CloseCode::Unsupported,
            Violation::ReasonNotUtf8 => CloseCode::InvalidData,
            Violation::EmptyFrames | Violation::ControlFrames => CloseCode::Policy,
            Violation::TooBig(_) => CloseCode::TooBig,
            _ => CloseCode::Protocol,
        }
    }
}

/// The payload of a control frame.
#[derive(Clone, Copy)]
struct Control {
    bytes: [u8; MAX_CONTROL_BYTES],
    length: u8,
}

#[derive(Debug)]
enum State {
    /// This many bytes of a header have come.
    Header(u8),
    /// Payload of a data frame.
    Data { left: u64, mask: [u8; 4] },
    /// Payload of a control frame. The frame is in `Decoder::control`.
    Control {
        opcode: Opcode,
        left: u8,
        mask: [u8; 4],
    },
    /// Everything that still comes is ignored.
    Over,
}

/// A streaming decoder: the events are the same for every cut of the bytes, except for where data is cut.
///
/// It holds at most 64 bytes, and 126 more between the first bytes of a control frame and the next call after its last.
pub struct Decoder {
    role: Role,
    header: [u8; header::MAX_BYTES],
    /// A message was begun, and its last fragment has not.
    is_fragmented: bool,
    state: State,
    /// Longest message. 0: any.
    max_message_bytes: u64,
    /// The length of the message so far, with the whole frame that has begun.
    message_bytes: u64,
    empty_frames: u16,
    controls: u16,
    control: Option<Box<Control>>,
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the payload of a control frame.
        f.debug_struct("Decoder")
            .field("role", &self.role)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Decoder {
    /// Creates a decoder. It refuses messages of more than `max_message_bytes`, in one frame or several; with 0 it takes any. It holds none.
    #[must_use]
    pub fn new(role: Role, max_message_bytes: u64) -> Self {
        Decoder {
            role,
            header: [0; header::MAX_BYTES],
            is_fragmented: false,
            state: State::Header(0),
            max_message_bytes,
            message_bytes: 0,
            empty_frames: 0,
            controls: 0,
            control: None,
        }
    }

    /// Takes bytes from the front of `input` up to the next event. `None` once all are taken.
    ///
    /// # Errors
    /// When the peer breaks the rules. The connection must then be closed with the violation's [code](Violation::code); what it sends
    /// afterwards is ignored.
    pub fn decode<'a>(&mut self, input: &mut &'a mut [u8]) -> Result<Option<Event<'a>>, Violation> {
        let decoded = self.next(input);
        if matches!(decoded, Err(_) | Ok(Some(Event::Close(_)))) {
            self.state = State::Over;
            *input = &mut [];
        }
        decoded
    }

    /// Returns the payload of the control frame that the last event was about.
    #[must_use]
    pub fn control(&self) -> &[u8] {
        match &self.control {
            Some(control) => &control.bytes[..control.length.into()],
            None => &[],
        }
    }

    /// Notes that nothing more has arrived for now. Control frames from before no longer count as arriving together with later ones.
    pub fn rest(&mut self) {
        self.controls = 0;
    }

    /// Returns whether the stream ends here in order: no frame is cut.
    #[must_use]
    pub fn is_between_frames(&self) -> bool {
        matches!(self.state, State::Header(0) | State::Over)
    }

    fn next<'a>(&mut self, input: &mut &'a mut [u8]) -> Result<Option<Event<'a>>, Violation> {
        if self.control.is_some() && !matches!(self.state, State::Control { .. }) {
            // The last event was about it.
            self.control = None;
        }
        loop {
            match self.state {
                State::Header(have) => {
                    let Some(event) = self.read_header(have, input)? else {
                        return Ok(None);
                    };
                    if let Some(event) = event {
                        return Ok(Some(event));
                    }
                }
                State::Data { left, mask } => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let there = usize::try_from(left).unwrap_or(usize::MAX);
                    let data = take(input, there);
                    header::apply(mask, data);
                    self.empty_frames = 0;
                    self.controls = 0;
                    self.state = match left - data.len() as u64 {
                        0 => State::Header(0),
                        left => State::Data {
                            left,
                            mask: header::turned(mask, data.len()),
                        },
                    };
                    return Ok(Some(Event::Data(data)));
                }
                State::Control { opcode, left, mask } => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let bytes = take(input, left.into());
                    header::apply(mask, bytes);
                    let control = self.control.get_or_insert_with(empty_control);
                    let at = usize::from(control.length);
                    control.bytes[at..at + bytes.len()].copy_from_slice(bytes);
                    // Both are at most MAX_CONTROL_BYTES.
                    let taken = bytes.len() as u8;
                    control.length += taken;
                    if left > taken {
                        self.state = State::Control {
                            opcode,
                            left: left - taken,
                            mask: header::turned(mask, bytes.len()),
                        };
                        return Ok(None);
                    }
                    return self.end_control(opcode).map(Some);
                }
                State::Over => {
                    *input = &mut [];
                    return Ok(None);
                }
            }
        }
    }

    /// Reads on in a header of which `have` bytes have come. `None` if more must come; the event is that of a frame without a payload.
    fn read_header<'a>(
        &mut self,
        have: u8,
        input: &mut &'a mut [u8],
    ) -> Result<Option<Option<Event<'a>>>, Violation> {
        let mut have = usize::from(have);
        // Nearly always all of it is there.
        if let (0, &[first, second, ..]) = (have, &**input)
            && input.len() >= header::length_of(second)
        {
            let length = header::length_of(second);
            self.header[..length].copy_from_slice(take(input, length));
            self.check_sequence(header::check_first(first)?)?;
            self.check_second()?;
            return self.begin(length).map(Some);
        }
        loop {
            let length = match have {
                0 | 1 => have + 1,
                _ => header::length_of(self.header[1]),
            };
            let more = take(input, length - have);
            self.header[have..have + more.len()].copy_from_slice(more);
            have += more.len();
            if have < length {
                // At most MAX_BYTES.
                self.state = State::Header(have as u8);
                return Ok(None);
            }
            match have {
                1 => self.check_sequence(header::check_first(self.header[0])?)?,
                2 => self.check_second()?,
                _ => {}
            }
            if have >= 2 && have == header::length_of(self.header[1]) {
                return self.begin(have).map(Some);
            }
        }
    }

    fn check_sequence(&self, opcode: Opcode) -> Result<(), Violation> {
        match (opcode, self.is_fragmented) {
            (Opcode::Continuation, false) => Err(Violation::NothingToContinue),
            (Opcode::Binary, true) => Err(Violation::Interleaved),
            _ => Ok(()),
        }
    }

    fn check_second(&self) -> Result<(), Violation> {
        let opcode = header::check_first(self.header[0])?;
        let is_masked = self.header[1] & header::MASKED != 0;
        match (self.role, is_masked) {
            (Role::Server, false) => Err(Violation::Unmasked),
            (Role::Client, true) => Err(Violation::Masked),
            _ => header::check_second(opcode, self.header[1]),
        }
    }

    /// Begins the frame of a whole header. Returns its event if it has no payload.
    fn begin<'a>(&mut self, length: usize) -> Result<Option<Event<'a>>, Violation> {
        let opcode = header::check_first(self.header[0])?;
        let header = header::read(&self.header[..length])?;
        let mask = header.mask.unwrap_or_default();
        self.state = State::Header(0);
        if opcode.is_control() {
            self.controls += 1;
            if self.controls > MAX_CONTROLS_TOGETHER {
                return Err(Violation::ControlFrames);
            }
            if header.length == 0 {
                return self.end_control(opcode).map(Some);
            }
            let left = header.length as u8;
            self.state = State::Control { opcode, left, mask };
            return Ok(None);
        }
        self.is_fragmented = !header.is_final;
        if opcode == Opcode::Binary {
            self.message_bytes = 0;
        }
        self.message_bytes = self.message_bytes.saturating_add(header.length);
        if header.length == 0 {
            self.empty_frames += 1;
            if self.empty_frames > MAX_EMPTY_FRAMES {
                return Err(Violation::EmptyFrames);
            }
            return Ok(None);
        }
        if self.max_message_bytes > 0 && self.message_bytes > self.max_message_bytes {
            return Err(Violation::TooBig(self.message_bytes));
        }
        let left = header.length;
        self.state = State::Data { left, mask };
        Ok(None)
    }

    fn end_control<'a>(&mut self, opcode: Opcode) -> Result<Event<'a>, Violation> {
        self.state = State::Header(0);
        match opcode {
            Opcode::Ping => Ok(Event::Ping),
            Opcode::Pong => Ok(Event::Pong),
            _ => Close::read(self.control()).map(Event::Close),
        }
    }
}

fn empty_control() -> Box<Control> {
    Box::new(Control {
        bytes: [0; MAX_CONTROL_BYTES],
        length: 0,
    })
}

/// Takes up to `count` bytes from the front of `input`.
fn take<'a>(input: &mut &'a mut [u8], count: usize) -> &'a mut [u8] {
    let count = count.min(input.len());
    let (taken, rest) = mem::take(input).split_at_mut(count);
    *input = rest;
    taken
}
