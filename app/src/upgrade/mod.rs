//! A new process takes the place of one that serves, with its sockets (SPEC 41). Linux alone.
//!
//! The old process listens at `general.upgrade_socket` (`giving.rs`). The new one connects there (`taking.rs`). `voltlane upgrade`, or
//! SIGUSR2, asks the old one to start the new one.

mod giving;
mod partner;
mod taking;

use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) use self::giving::{Asked, Giver, Requests, Successor, Terms, give_away};
pub(crate) use self::taking::{Received, Taking};

use self::partner::Partner;
use crate::config::Settings;

/// What HELLO begins with.
const MAGIC: [u8; 6] = *b"VLTAKE";
/// The format of messages and of what is moved, and the only one that is taken.
const FORMAT: u32 = 3;

// The bounds of SPEC 41.4.

/// How long the old process stops at most, and how long a single message before that may take.
pub(crate) const STOPS_WITHIN: Duration = Duration::from_secs(5);
/// How long the old process serves on after READY, for connections that are within their opening.
const OPENINGS_WITHIN: Duration = Duration::from_secs(2);
/// How long a new process may take from HELLO to READY.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long the new process waits for the end of the old one, once it has taken over.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// The pause between two looks at another process.
const LOOKS_EVERY: Duration = Duration::from_millis(20);

/// Sockets in a message.
const SOCKETS_AT_ONCE: usize = 64;
/// Messages with sockets for each of which there is no answer yet.
const BATCHES_AT_ONCE: usize = 4;
/// The longest message, in bytes.
const MAX_MESSAGE_BYTES: usize = 4_096;

/// The first byte of a message (SPEC 41.2).
mod kind {
    /// new: magic, format, public key.
    pub(super) const HELLO: u8 = b'H';
    /// Either: a text. It goes no further.
    pub(super) const NO: u8 = b'N';
    /// old: name and address of a listener, with its sockets.
    pub(super) const LISTENER: u8 = b'L';
    /// old: there are no more, with the descriptor of the process, and the socket at which it listens for others.
    pub(super) const LISTENERS_END: u8 = b'E';
    /// new: the old process is to stop.
    pub(super) const READY: u8 = b'R';
    /// old: length of the file, number of sockets, µs since it has stopped, with the file.
    pub(super) const STATE: u8 = b'S';
    /// old: sockets.
    pub(super) const SOCKETS: u8 = b'K';
    /// new: how many there are so far.
    pub(super) const GOT: u8 = b'G';
    /// new: name of the file, number of sockets.
    pub(super) const TOOK: u8 = b'T';
    /// A caller: start this program, which takes over.
    pub(super) const UPGRADE: u8 = b'U';
    /// old, to a caller: it has taken over.
    pub(super) const DONE: u8 = b'D';
}

/// Why a process was not taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpgradeError {
    /// The system refuses something.
    #[error("{what}: {error}")]
    System {
        what: &'static str,
        error: std::io::Error,
    },
    /// Nothing came in time.
    #[error("the other process says nothing in time")]
    Late,
    /// The other process is gone, or has closed the socket.
    #[error("the other process is gone")]
    Gone,
    /// This process says no.
    #[error("{0}")]
    Refused(String),
    /// The other process says no.
    #[error("the other process says: {0}")]
    No(String),
    /// A message that has no place, or is malformed.
    #[error("the other process sends what has no place there: {0}")]
    Wrong(&'static str),
    /// The control data of a message were cut.
    #[error("descriptors were lost on the way: this process may have too few (RLIMIT_NOFILE)")]
    Cut,
    /// What is moved cannot be sealed or opened.
    #[error(transparent)]
    Snapshot(#[from] voltlane_core::edge::SnapshotError),
}

fn system(what: &'static str) -> impl Fn(rustix::io::Errno) -> UpgradeError {
    move |error| UpgradeError::System {
        what,
        error: error.into(),
    }
}

/// Asks the running process to start `program`, which takes its place. Waits until that has happened.
///
/// # Errors
/// When it has not: the running process serves on.
pub(crate) fn ask(settings: &Settings, program: Option<&Path>) -> Result<String, UpgradeError> {
    let partner = partner_of(settings)?;
    let mut body = vec![kind::UPGRADE];
    if let Some(program) = program {
        let program = std::path::absolute(program).map_err(|error| UpgradeError::System {
            what: "the program",
            error,
        })?;
        body.extend_from_slice(program.as_os_str().as_encoded_bytes());
    }
    partner.send(&body, &[], Instant::now() + STOPS_WITHIN)?;
    let until = Instant::now() + READY_WITHIN + STOPS_WITHIN + STOPS_WITHIN;
    let answer = partner.receive(until)?;
    match answer.kind {
        kind::DONE => {
            // Its end of the socket closes with it. Whoever calls next waits for the new one, which has its listening socket.
            let _ = partner.receive(Instant::now() + ENDS_WITHIN);
            Ok(answer.text())
        }
        kind::NO => Err(UpgradeError::No(answer.text())),
        _ => Err(UpgradeError::Wrong("an answer")),
    }
}

/// Connects to the process that serves.
fn partner_of(settings: &Settings) -> Result<Partner, UpgradeError> {
    let Some(path) = &settings.general.upgrade_socket else {
        return Err(UpgradeError::System {
            what: "general.upgrade_socket",
            error: std::io::Error::other("it is empty, so no process can be taken over"),
        });
    };
    Partner::connect(path)
}
