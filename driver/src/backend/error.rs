//! Errors of a backend. Each is one that its caller can do something about.

use std::io;

use voltlane_core::end::End;

/// Why a backend does not listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// An option, or the address, is wrong.
    #[error("{0}")]
    Config(String),
    /// The system does not let it listen there.
    #[error("cannot listen at `{address}`: {error}")]
    Listen {
        /// The address, as it was given.
        address: String,
        /// What the system or the resolver said.
        #[source]
        error: io::Error,
    },
}

/// Why something was not sent. The caller still has it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The packet is longer than the edge takes, or the text of a kick.
    #[error("{length} bytes, {max} allowed (`master.max_frame_bytes` of the edge, for a packet)")]
    TooLong {
        /// The length in bytes.
        length: usize,
        /// The maximum length in bytes.
        max: usize,
    },
    /// There is no room. Only [`try_send`](super::BackendHandle::try_send) and
    /// [`send_volatile`](super::BackendHandle::send_volatile) say it; the other calls wait.
    #[error("no room: too much waits to be sent")]
    NoRoom,
    /// The session is over.
    #[error("the session is over: {0}")]
    Ended(End),
    /// A kick cannot have this code: it has 401, 405, or 500 to 699. (SPEC 36.5(a))
    #[error("a kick with the code {code}; it has 401, 405, or 500 to 699")]
    Code {
        /// The code given.
        code: u16,
    },
    /// Too many groups, or too many of one session. (SPEC 38.2)
    #[error(transparent)]
    Group(#[from] voltlane_core::backend::host::GroupError),
    /// A packet for all but more sessions than may be left out. (SPEC 38.2)
    #[error("{count} sessions to be left out, {max} allowed")]
    TooManyLeftOut {
        /// How many were given.
        count: usize,
        /// The maximum.
        max: usize,
    },
    /// The backend was closed.
    #[error("the backend is closed")]
    Closed,
}
