//! How a connection of a client ends, and what follows. (SPEC 23.4, 25.2, 26.3)

use super::super::channel::ChannelError;
use super::super::code::{Class, Code};
use super::super::inbound::InboundError;
use super::super::packets::Busy;
use super::super::record::RecordError;
use super::opening::ClientError;

/// The longest pause that a Busy, which anybody in between can make, asks for. (SPEC 27.1)
const MAX_BUSY_MS: u32 = 60_000;
/// The number of connections in a row on which the edge breaks the protocol after which the client stops. (SPEC 26.3)
pub const MAX_BREACHES: u32 = 3;

/// What an edge sent that it may not send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Breach {
    /// In the opening.
    #[error(transparent)]
    Opening(#[from] ClientError),
    /// In a record.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// RESUMED has a replay that ends before what this client has received.
    #[error("the replay ends at {until}, and {received} packets were received")]
    Until {
        /// The number given.
        until: u64,
        /// The highest number received.
        received: u64,
    },
    /// The first record after RESUMED did not open, on [`MAX_BREACHES`] connections in a row. (SPEC 21.1(e))
    #[error("no record opens after a resume, again and again: the two ends do not count alike")]
    Miscounted,
}

impl Breach {
    /// Returns code and detail of the CLOSE with which the client answers it, unless it ends the connection without a word.
    pub(super) fn close(&self) -> Option<(Code, u64)> {
        match self {
            Breach::Opening(_) | Breach::Miscounted => None,
            Breach::Channel(error) => error.close(),
            Breach::Until { .. } => Some((Code::PROTOCOL, 0)),
        }
    }

    /// Returns whether it was the edge that broke the protocol: the record opened. Anybody in between can send what does not open, and
    /// lengths that cannot be.
    pub(super) fn is_proven(&self) -> bool {
        !matches!(
            self,
            Breach::Opening(_)
                | Breach::Miscounted
                | Breach::Channel(
                    ChannelError::Frame(_)
                        | ChannelError::Inbound(
                            InboundError::Record(_) | InboundError::TooLong { .. }
                        )
                )
        )
    }

    /// Returns whether a record was none of this connection.
    pub(super) fn does_not_open(&self) -> bool {
        let error = InboundError::Record(RecordError::DoesNotOpen);
        *self == Breach::Channel(ChannelError::Inbound(error))
    }
}

/// How a connection ends, and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Leave {
    /// The edge broke the protocol. The client resumes after a pause. If it `says` so, a CLOSE is in the output.
    Breach { breach: Breach, says: bool },
    /// Nothing came from the edge for too long. The client resumes after a pause.
    Silent,
    /// The edge asked for it: the client resumes at once.
    Moves { code: Code },
    /// The client resumes when the time that the edge asks for has passed, which is at once in most cases. If it just did so, it pauses.
    AtOnce {
        code: Code,
        wait_ms: u32,
        jitter_ms: u32,
    },
    /// The client resumes after a pause that is at least this long, and at least the usual one.
    Later {
        code: Code,
        wait_ms: u32,
        jitter_ms: u32,
    },
    /// The edge had no room for the session, or does not know it: it did not begin. The client joins again after such a pause.
    NotBegun {
        code: Code,
        wait_ms: u32,
        jitter_ms: u32,
    },
    /// The session is over. Another one begins no earlier than the edge asks for.
    Over {
        code: Code,
        text: String,
        wait_ms: u32,
        jitter_ms: u32,
    },
}

impl Leave {
    /// Does what the class of a code says. (SPEC 25.2(b))
    pub(super) fn by_class(code: Code, wait_ms: u32, jitter_ms: u32, text: &str) -> Self {
        match code.class() {
            Class::ResumeNow => Leave::AtOnce {
                code,
                wait_ms,
                jitter_ms,
            },
            Class::ResumeLater => Leave::Later {
                code,
                wait_ms,
                jitter_ms,
            },
            Class::Done | Class::Afresh | Class::Stop => Leave::Over {
                code,
                text: text.to_owned(),
                wait_ms,
                jitter_ms,
            },
        }
    }

    /// The client resumes at once, unless it just did.
    pub(super) fn at_once(code: Code) -> Self {
        Leave::AtOnce {
            code,
            wait_ms: 0,
            jitter_ms: 0,
        }
    }

    /// The client resumes after the usual pause.
    pub(super) fn by_pause(code: Code) -> Self {
        Leave::Later {
            code,
            wait_ms: 0,
            jitter_ms: 0,
        }
    }

    pub(super) fn over(code: Code, text: &str) -> Self {
        Leave::Over {
            code,
            text: text.to_owned(),
            wait_ms: 0,
            jitter_ms: 0,
        }
    }

    /// Somebody else holds the session's secrets. (SPEC 23.6)
    pub(super) fn conflict() -> Self {
        let text = "somebody else has resumed this session: its secrets were copied";
        Leave::over(Code::CONFLICT, text)
    }

    /// An attempt has failed because of a packet of the opening.
    pub(super) fn failed(error: ClientError) -> Self {
        match error {
            ClientError::Busy(Busy { code, wait_ms }) => Leave::Later {
                code,
                wait_ms: wait_ms.min(MAX_BUSY_MS),
                jitter_ms: 0,
            },
            ClientError::OtherEdge => Leave::over(Code::OTHER_EDGE, &error.to_string()),
            error => Leave::Breach {
                breach: error.into(),
                says: false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_followed_by_what_its_class_says() {
        for code in (0..700).filter_map(Code::from_u16) {
            let leave = Leave::by_class(code, 70_000, 9, "text");
            let expected = match code.to_u16() {
                100..=199 => Leave::AtOnce {
                    code,
                    wait_ms: 70_000,
                    jitter_ms: 9,
                },
                200..=299 => Leave::Later {
                    code,
                    wait_ms: 70_000,
                    jitter_ms: 9,
                },
                _ => Leave::Over {
                    code,
                    text: "text".to_owned(),
                    wait_ms: 70_000,
                    jitter_ms: 9,
                },
            };
            assert_eq!(leave, expected);
        }
    }

    #[test]
    fn a_busy_in_clear_asks_for_a_minute_at_most() {
        for (asked, waited) in [
            (0, 0),
            (60_000, 60_000),
            (60_001, 60_000),
            (u32::MAX, 60_000),
        ] {
            for code in [Code::BUSY, Code::NOT_HERE] {
                let busy = Busy {
                    code,
                    wait_ms: asked,
                };
                let later = Leave::Later {
                    code,
                    wait_ms: waited,
                    jitter_ms: 0,
                };
                assert_eq!(Leave::failed(ClientError::Busy(busy)), later);
            }
        }
    }

    #[test]
    fn another_edge_ends_the_session_and_a_bad_packet_does_not() {
        let other = Leave::failed(ClientError::OtherEdge);
        assert!(
            matches!(other, Leave::Over { code, .. } if code == Code::OTHER_EDGE),
            "{other:?}"
        );
        let failed = Leave::failed(ClientError::Unexpected("Answer"));
        assert!(matches!(failed, Leave::Breach { says: false, .. }));
    }
}
