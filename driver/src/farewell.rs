//! What a transport that can say so tells a peer that is turned away or closed.

#[cfg(feature = "edge")]
use voltlane_core::edge::{CloseReason, Rejected};

/// Why a stream is closed. With WebSocket each has a close code, and a status before there are messages (SPEC 16.2(d), 16.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Farewell {
    /// It is over.
    #[default]
    Over,
    /// The edge ends.
    Ending,
    /// What the peer sent within the stream is malformed.
    Malformed,
    /// A frame within the stream was too long.
    TooLong,
    /// The peer may not go on: its session was ended, it was too fast, or it has not proven what it claims.
    Refused,
    /// The peer took too long.
    Late,
    /// There is no room.
    Crowded,
    /// Its source has too many connections.
    SourceCrowded,
}

#[cfg(feature = "edge")]
impl From<CloseReason> for Farewell {
    fn from(reason: CloseReason) -> Farewell {
        match reason {
            CloseReason::FrameTooLong => Farewell::TooLong,
            CloseReason::BadHandshake
            | CloseReason::BadVersion
            | CloseReason::BadKey
            | CloseReason::BadProxyHeader
            | CloseReason::BadTransport
            | CloseReason::BadRecord
            | CloseReason::ProtocolError => Farewell::Malformed,
            CloseReason::BadProof
            | CloseReason::BadClaim
            | CloseReason::ClaimLapsed
            | CloseReason::TooFast
            | CloseReason::Replaced
            | CloseReason::SessionEnded => Farewell::Refused,
            CloseReason::HandshakeTimeout
            | CloseReason::KeptWaiting
            | CloseReason::FrameTimeout
            | CloseReason::IdleTimeout
            | CloseReason::NoEarlyRecord
            | CloseReason::Parked
            | CloseReason::Silent => Farewell::Late,
            CloseReason::TooManySessions
            | CloseReason::TooManyConnections
            | CloseReason::Memory
            | CloseReason::MadeRoom
            | CloseReason::Refused => Farewell::Crowded,
            CloseReason::Rejected => Farewell::SourceCrowded,
            CloseReason::Shutdown => Farewell::Ending,
            _ => Farewell::Over,
        }
    }
}

#[cfg(feature = "edge")]
impl From<Rejected> for Farewell {
    fn from(rejected: Rejected) -> Farewell {
        match rejected {
            Rejected::Shutdown => Farewell::Ending,
            Rejected::SourceTooMany | Rejected::SourceTooFast | Rejected::SourcePenalty => {
                Farewell::SourceCrowded
            }
            _ => Farewell::Crowded,
        }
    }
}
