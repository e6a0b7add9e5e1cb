//! What an engine does. (SPEC 43.1, 43.2)

#[cfg(unix)]
use std::os::fd::BorrowedFd;
use std::time::Duration;

use thiserror::Error;

/// The largest value. (SPEC 43.2(b))
pub const MAX_VALUE_BYTES: usize = 1_024;
/// The most records that a list has: one for each home. (SPEC 43.2(b))
pub const MAX_ENTRIES: usize = 4_096;
/// How long an answer may take. (SPEC 43.2(d))
pub const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// The most calls of one user that may wait for their answers.
pub const MAX_CALLS: usize = 16;

/// A call, by which its answer is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(u64);

impl CallId {
    /// Names a call by its number.
    #[must_use]
    pub fn new(number: u64) -> CallId {
        CallId(number)
    }
}

/// Returns what the key of a record ends with: that of a home, or of a page of bans. (SPEC 43.9(a))
#[cfg(any(feature = "nats", feature = "redis"))]
pub(crate) fn key_of(home: u16) -> String {
    match home.checked_sub(crate::record::MAX_HOME + 1) {
        None => format!("home.{home}"),
        Some(page) => format!("bans.{page}"),
    }
}

/// What an engine is asked for. An engine implements each, so the list is complete. (SPEC 43.2(a))
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "an engine matches all of them")]
pub enum Call {
    /// The record of a home, or of a page of bans.
    Read {
        /// The home, or a number behind [`MAX_HOME`](crate::record::MAX_HOME): a page (SPEC 43.9(a)).
        home: u16,
    },
    /// To write the record of a home or of a page of bans, if its revision is this one. 0: if it has none.
    Write {
        /// The home, or a number behind [`MAX_HOME`](crate::record::MAX_HOME): a page (SPEC 43.9(a)).
        home: u16,
        /// The revision that it must have.
        expected: u64,
        /// The value, of at most [`MAX_VALUE_BYTES`].
        value: Vec<u8>,
    },
    /// The records of all homes, without pages of bans.
    List,
}

/// A call with its id.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "users make it")]
pub struct Request {
    /// Its id, another one for each call of a user.
    pub id: CallId,
    /// The call.
    pub call: Call,
}

/// What stands at a home. (SPEC 43.2(c))
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "engines make it")]
pub struct Entry {
    /// The home.
    pub home: u16,
    /// Its revision, which grows with each write.
    pub revision: u64,
    /// Its value. Empty: it was deleted, which leaves a revision.
    pub value: Vec<u8>,
}

/// The answer to a call that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "one for each call")]
pub enum Reply {
    /// To [`Call::Read`]. `None`: nothing was ever written.
    Read(Option<Entry>),
    /// To [`Call::Write`]: the new revision.
    Written(u64),
    /// To [`Call::List`], in the order of the homes.
    List(Vec<Entry>),
}

/// The answer to a call.
pub type Answer = Result<Reply, EngineError>;

/// Why a call was not carried out, or may not have been. (SPEC 43.2(e))
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The record has another revision, so nothing was written.
    #[error("another edge has written the record")]
    Refused,
    /// The value is larger than [`MAX_VALUE_BYTES`], so nothing was written.
    #[error("a value of {0} bytes is too large")]
    TooLarge(usize),
    /// The engine does not know these credentials.
    #[error("the engine refuses the credentials: {0}")]
    Denied(String),
    /// The engine lacks what is needed.
    #[error("the engine has version {found}, and {needed} or later is needed")]
    TooOld {
        /// Its version.
        found: String,
        /// The oldest one that will do.
        needed: &'static str,
    },
    /// There is no engine at these addresses, or it has no leader. It is not known whether the call was carried out.
    #[error("the engine cannot be reached: {0}")]
    Unreachable(String),
    /// There was no answer within [`CALL_TIMEOUT`]. It is not known whether the call was carried out.
    #[error("the engine does not answer")]
    Late,
    /// The answer makes no sense. It is not known whether the call was carried out.
    #[error("the engine answers nonsense: {0}")]
    Nonsense(String),
    /// The engine says that it cannot do it.
    #[error("the engine says: {0}")]
    Failed(String),
}

/// Holds the records of a cluster, one for each home. (SPEC 43.2)
///
/// A call returns at once, and its answer comes from [`poll`](Engine::poll). No answer may come: its user bounds the wait. `now` is the time
/// since any start, the same for all calls, and does not go back.
pub trait Engine {
    /// Begins a call.
    fn call(&mut self, now: Duration, request: Request);

    /// Returns the next answer, if there is one by now.
    fn poll(&mut self, now: Duration) -> Option<(CallId, Answer)>;

    /// Returns when [`poll`](Engine::poll) is due even if nothing comes from outside.
    fn poll_timeout(&self) -> Option<Duration> {
        None
    }

    /// Returns the socket that makes [`poll`](Engine::poll) due when it can be read, and whether it waits to be written.
    #[cfg(unix)]
    fn socket(&self) -> Option<(BorrowedFd<'_>, bool)> {
        None
    }
}

impl<E: Engine + ?Sized> Engine for Box<E> {
    fn call(&mut self, now: Duration, request: Request) {
        (**self).call(now, request);
    }

    fn poll(&mut self, now: Duration) -> Option<(CallId, Answer)> {
        (**self).poll(now)
    }

    fn poll_timeout(&self) -> Option<Duration> {
        (**self).poll_timeout()
    }

    #[cfg(unix)]
    fn socket(&self) -> Option<(BorrowedFd<'_>, bool)> {
        (**self).socket()
    }
}
