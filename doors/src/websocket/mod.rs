//! WebSocket (RFC 6455), as far as a byte stream needs it (SPEC 16.3).
//!
//! The payloads of binary messages are the stream, and boundaries mean nothing. So there is no message to assemble, no text to check and
//! nothing to decompress: a header parser, an XOR and a close handshake are left. [`Decoder`] unmasks in the caller's buffer and keeps no
//! payload, except that of a control frame that is cut. [`encode_message`] puts a header in front of
//! bytes.
//!
//! The header is parsed here and not by tungstenite's `FrameHeader`, which is an oracle of the tests instead: it parses a header only from
//! a buffer that begins with it, so each cut would need one, it accepts lengths that are not the shortest form, and it brings five crates
//! into the small program.

mod close;
mod decoder;
mod encode;
mod header;
pub mod http;
pub(crate) mod layer;

pub(crate) use self::close::meaning;
pub use self::close::{Close, CloseCode};
pub use self::decoder::{Decoder, Event, MAX_CONTROLS_TOGETHER, MAX_EMPTY_FRAMES, Role, Violation};
pub use self::encode::{MAX_HEADER_BYTES, encode_close, encode_message, encode_ping, encode_pong};
pub use self::header::MAX_CONTROL_BYTES;
