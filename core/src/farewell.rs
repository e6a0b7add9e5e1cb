//! What a peer is told when its connection is closed, by a transport that can tell it (SPEC 16.2(d), 16.4).

/// Why a connection is closed, as far as its peer is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a transport has words for each one"
)]
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

impl Farewell {
    /// Returns the code with which a WebSocket connection is closed (SPEC 16.4).
    #[must_use]
    pub const fn close_code(self) -> u16 {
        match self {
            Farewell::Over => 1000,
            Farewell::Ending => 1001,
            Farewell::Malformed => 1002,
            Farewell::Refused | Farewell::Late => 1008,
            Farewell::TooLong => 1009,
            Farewell::Crowded | Farewell::SourceCrowded => 1013,
        }
    }

    /// Returns the status with which an HTTP request is answered that has not become a WebSocket connection yet (SPEC 16.2(d)). `None` for
    /// reasons that there cannot be before the stream begins.
    #[must_use]
    pub const fn status(self) -> Option<u16> {
        match self {
            Farewell::Late => Some(408),
            Farewell::SourceCrowded => Some(429),
            Farewell::Ending | Farewell::Crowded => Some(503),
            Farewell::Over | Farewell::Malformed | Farewell::TooLong | Farewell::Refused => None,
        }
    }

    /// Returns whether a peer whose stream has not begun is told this even if its connection must end abruptly. There is no client link yet
    /// that could mistake an orderly end for a refusal (SPEC 4.5(d)).
    #[must_use]
    pub const fn is_told_to_strangers(self) -> bool {
        matches!(self, Farewell::Late)
    }
}
