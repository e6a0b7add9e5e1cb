//! Why a frame is refused. (SPEC 38.1)

/// The reason in REFUSED.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the wire format has no others")]
pub enum Refusal {
    /// The flag is unknown, or of a feature that was not granted.
    Unknown,
    /// The frame is malformed.
    Malformed,
    /// The frame is beyond a bound.
    BeyondBound,
    /// The edge has a secret for the link, and the backend has none (SPEC 34.5).
    SecretWanted,
    /// The backend has a secret for the link, and the edge has none.
    SecretUnknown,
    /// The two have different secrets.
    SecretWrong,
    /// A later edge has the home of this one, or the backend has given this one up (SPEC 40.4).
    HomeTaken,
}

image!(enum Refusal {
    0 Unknown {}, 1 Malformed {}, 2 BeyondBound {}, 3 SecretWanted {}, 4 SecretUnknown {},
    5 SecretWrong {}, 6 HomeTaken {},
});

impl Refusal {
    pub(super) const fn from_u8(number: u8) -> Option<Refusal> {
        match number {
            1 => Some(Refusal::Unknown),
            2 => Some(Refusal::Malformed),
            3 => Some(Refusal::BeyondBound),
            4 => Some(Refusal::SecretWanted),
            5 => Some(Refusal::SecretUnknown),
            6 => Some(Refusal::SecretWrong),
            7 => Some(Refusal::HomeTaken),
            _ => None,
        }
    }

    /// Returns its number on the wire.
    #[must_use]
    pub const fn to_u8(self) -> u8 {
        match self {
            Refusal::Unknown => 1,
            Refusal::Malformed => 2,
            Refusal::BeyondBound => 3,
            Refusal::SecretWanted => 4,
            Refusal::SecretUnknown => 5,
            Refusal::SecretWrong => 6,
            Refusal::HomeTaken => 7,
        }
    }
}

/// A frame that does nothing. The frames after it are not affected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("frame of flag {flag:#04x} for id {id:016x}: {cause}")]
#[expect(clippy::exhaustive_structs, reason = "that is all that is known")]
pub struct FrameError {
    /// The id in it, or 0 if it is too short to have one.
    pub id: u64,
    /// The flag in it, or 0.
    pub flag: u8,
    /// What is wrong with it.
    pub cause: Cause,
}

/// What is wrong with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// No frame of version 3 has this flag, or the flag is reserved.
    #[error("no frame has this flag")]
    UnknownFlag,
    /// The edge has not granted what it belongs to.
    #[error("the feature \"{feature}\" was not granted")]
    NotGranted {
        /// The feature.
        feature: &'static str,
    },
    /// The other end sends it.
    #[error("the other end sends it")]
    WrongWay,
    /// ASK or GRANT behind the first frame, or a proof behind GRANT.
    #[error("it is only at the beginning of a link")]
    NotFirst,
    /// A link-wide frame has the id of a session.
    #[error("it is about the link, so its id must be 0")]
    NotLinkWide,
    /// The frame ends within a field.
    #[error("cut short")]
    Truncated,
    /// The frame goes on behind its last field.
    #[error("{length} bytes too many")]
    TrailingBytes {
        /// How many.
        length: usize,
    },
    /// A field has a value that means nothing.
    #[error("{value} is no {field}")]
    Value {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// A text is not UTF-8.
    #[error("the {field} is not UTF-8")]
    NotUtf8 {
        /// The field.
        field: &'static str,
    },
    /// A field is longer than it may be.
    #[error("{field} of {length}, at most {max} allowed")]
    Beyond {
        /// The field, with its unit.
        field: &'static str,
        /// Its length.
        length: usize,
        /// The bound.
        max: usize,
    },
}

impl Cause {
    /// Returns the reason that REFUSED gives for it.
    #[must_use]
    pub const fn refusal(self) -> Refusal {
        match self {
            Cause::UnknownFlag | Cause::NotGranted { .. } => Refusal::Unknown,
            Cause::Beyond { .. } => Refusal::BeyondBound,
            Cause::WrongWay
            | Cause::NotFirst
            | Cause::NotLinkWide
            | Cause::Truncated
            | Cause::TrailingBytes { .. }
            | Cause::Value { .. }
            | Cause::NotUtf8 { .. } => Refusal::Malformed,
        }
    }
}
