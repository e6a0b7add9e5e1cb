//! Why a WebSocket connection closes (RFC 6455 section 7.4, SPEC 16.4).

use voltlane_driver::Farewell;

use super::decoder::Violation;

/// A code of SPEC 16.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u16)]
pub enum CloseCode {
    /// Closed in order.
    Normal = 1000,
    /// The edge is ending.
    GoingAway = 1001,
    /// A malformed frame, or a malformed packet in the stream.
    Protocol = 1002,
    /// A text message.
    Unsupported = 1003,
    /// A reason that is not UTF-8.
    InvalidData = 1007,
    /// A flood of empty or control frames, a client that is too fast or too slow, a session that was ended.
    Policy = 1008,
    /// A message above the bound, or a packet in the stream.
    TooBig = 1009,
    /// There is no room.
    TryAgain = 1013,
}

impl CloseCode {
    const ALL: [CloseCode; 8] = [
        CloseCode::Normal,
        CloseCode::GoingAway,
        CloseCode::Protocol,
        CloseCode::Unsupported,
        CloseCode::InvalidData,
        CloseCode::Policy,
        CloseCode::TooBig,
        CloseCode::TryAgain,
    ];

    /// Returns the code with this number, if SPEC 16.4 has it.
    fn of(number: u16) -> Option<CloseCode> {
        Self::ALL.into_iter().find(|code| *code as u16 == number)
    }

    const fn meaning(self) -> &'static str {
        match self {
            CloseCode::Normal => ": it is over",
            CloseCode::GoingAway => ": it is ending",
            CloseCode::Protocol => ": a malformed frame or packet",
            CloseCode::Unsupported => ": a text message",
            CloseCode::InvalidData => ": a reason that is not UTF-8",
            CloseCode::Policy => ": against its policy",
            CloseCode::TooBig => ": a message or packet above its bound",
            CloseCode::TryAgain => ": no room, try again later",
        }
    }
}

impl From<Farewell> for CloseCode {
    fn from(farewell: Farewell) -> CloseCode {
        let code = CloseCode::of(farewell.close_code());
        code.expect("SPEC 16.4 has the code of every farewell")
    }
}

/// Returns what a code of SPEC 16.4 means, for a message. Empty for others.
pub(crate) fn meaning(number: u16) -> &'static str {
    CloseCode::of(number).map_or("", CloseCode::meaning)
}

/// What a peer said when it closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Close {
    /// The code, or `None` if there was none.
    pub code: Option<u16>,
}

impl Close {
    /// Reads the payload of a CLOSE. Its reason is checked and dropped.
    pub(super) fn read(payload: &[u8]) -> Result<Close, Violation> {
        let Some((code, reason)) = payload.split_first_chunk::<2>() else {
            return match payload {
                [] => Ok(Close { code: None }),
                _ => Err(Violation::MalformedClose),
            };
        };
        let code = u16::from_be_bytes(*code);
        // Those that the registry has for use in a frame, and those of libraries and applications.
        if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
            return Err(Violation::MalformedClose);
        }
        if std::str::from_utf8(reason).is_err() {
            return Err(Violation::ReasonNotUtf8);
        }
        Ok(Close { code: Some(code) })
    }
}
