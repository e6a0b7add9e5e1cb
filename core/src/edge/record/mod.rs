//! Records what an edge is told, so that the very same machine can be run again (SPEC 42).
//!
//! [`Edge::record`] begins it. From then on each call of the adapter is a record, with its time, its bytes and what the machine answered. A
//! [`Sink`] takes the records in chunks, and [`Sealer`] seals these for a file. [`Recording`] opens the file, and [`Replay`] makes another
//! machine and calls it as the first one was called. Since that machine is recorded as well, what it answers is compared byte for byte.

mod call;
mod digest;
mod file;
mod replay;

use core::fmt;
use core::time::Duration;
use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use zeroize::{Zeroize, Zeroizing};

use crate::edge::Edge;
use crate::edge::conns::conn::ConnKey;
use crate::edge::conns::state::State;
use crate::edge::uplink::link::HasLink as _;
use crate::id::ClientId;
use crate::protocol::Lent;
use crate::time::Time;

pub use call::Call;
pub use file::{RECORDING_FORMAT, Recording, RecordingError, Sealer};
pub use replay::{Difference, Replay, ReplayError, Step};

pub(super) use call::restarts;

use call::put_number;
use digest::{digest_of_output, digest_of_text};

/// A chunk is handed over when it has this many bytes. One call may add more than that.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// A chunk is handed over at the first call that comes so long after the first one in it.
pub const CHUNK_TIME: Duration = Duration::from_secs(1);

/// Takes the chunks of a recording.
pub trait Sink: Send {
    /// Takes a chunk, and returns an empty buffer for the next one. `None`: it takes no more, so the recording has ended. It must not wait.
    fn take(&mut self, chunk: Vec<u8>) -> Option<Vec<u8>>;
}

/// Why an edge cannot be recorded (SPEC 42.1(d)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// It is one of several shards, which change what they share at the same time.
    #[error("an edge of several shards cannot be recorded: set general.shards to 1")]
    Shards,
    /// It has been called already.
    #[error("a recording begins before the first call")]
    Begun,
}

/// What an edge was told, as far as it was not handed over yet.
pub(super) struct Recorder {
    /// Never locked: it lets threads share the machine, which a sink need not.
    sink: Mutex<Box<dyn Sink>>,
    /// Wiped when it is dropped: it has keys and packets.
    chunk: Zeroizing<Vec<u8>>,
    /// The time of the last record.
    last: Time,
    /// When the first record of the chunk was made.
    since: Time,
    /// Whether the chunks stay here, for a comparison.
    compares: bool,
}

impl fmt::Debug for Recorder {
    /// Shows its length: the bytes are keys and packets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("bytes", &self.chunk.len())
            .finish_non_exhaustive()
    }
}

impl Recorder {
    fn new(sink: Box<dyn Sink>, compares: bool) -> Self {
        Recorder {
            sink: Mutex::new(sink),
            chunk: Zeroizing::new(Vec::with_capacity(CHUNK_BYTES)),
            last: Time::ZERO,
            since: Time::ZERO,
            compares,
        }
    }

    fn is_due(&self, now: Time) -> bool {
        let is_old = || !self.chunk.is_empty() && now.since(self.since) >= CHUNK_TIME;
        !self.compares && (self.chunk.len() >= CHUNK_BYTES || is_old())
    }

    /// Appends a record.
    fn add(&mut self, now: Time, call: &Call<'_>) {
        let now = now.max(self.last);
        if self.chunk.is_empty() {
            self.since = now;
        }
        call.encode(now.since(self.last), &mut self.chunk);
        self.last = now;
    }

    /// Appends what the machine answered to the call of the last record.
    pub(super) fn told(&mut self, answer: u64) {
        put_number(&mut self.chunk, answer);
    }

    /// Hands the chunk over. Returns false if nobody takes it.
    fn hand_over(&mut self) -> bool {
        if self.chunk.is_empty() {
            return true;
        }
        let chunk = core::mem::take(&mut *self.chunk);
        let sink = self.sink.get_mut();
        match sink.unwrap_or_else(PoisonError::into_inner).take(chunk) {
            Some(mut empty) => {
                empty.zeroize();
                *self.chunk = empty;
                true
            }
            None => false,
        }
    }
}

impl Drop for Recorder {
    /// What has been recorded when the machine ends, or panics, is worth most.
    fn drop(&mut self) {
        self.hand_over();
    }
}

impl Edge {
    /// Begins to record what this machine is told, from its beginning. `seed` is what it was [created](Edge::new) with. To be called before
    /// any other call.
    ///
    /// The recording has all of its secrets and packets, and whoever reads it can derive every key of its clients: it is sealed under a key of
    /// the edge, and is worth as much as that.
    ///
    /// # Errors
    /// [`RecordError`]
    pub fn record(&mut self, seed: &[u8; 32], sink: Box<dyn Sink>) -> Result<(), RecordError> {
        self.begin_recording(seed, sink, false)
    }

    fn begin_recording(
        &mut self,
        seed: &[u8; 32],
        sink: Box<dyn Sink>,
        compares: bool,
    ) -> Result<(), RecordError> {
        if self.config.shards != 0 {
            return Err(RecordError::Shards);
        }
        if self.now != Time::ZERO || self.recorder.is_some() || self.conns.len() > 0 {
            return Err(RecordError::Begun);
        }
        let mut recorder = Recorder::new(sink, compares);
        let keys = self.keys.to_bytes();
        let begin = Call::Begin {
            config: Cow::Borrowed(&self.config),
            keys: &keys,
            seed,
        };
        recorder.add(Time::ZERO, &begin);
        self.recorder = Some(Box::new(recorder));
        Ok(())
    }

    /// Ends the recording, and hands over what is left of it.
    pub fn end_recording(&mut self) {
        self.check_recording();
        if let Some(recorder) = &mut self.recorder {
            let now = recorder.last;
            recorder.add(now, &Call::End);
        }
        self.recorder = None;
    }

    /// Returns the session of this connection, if it is established.
    #[must_use]
    pub fn session_of(&self, conn: ConnKey) -> Option<ClientId> {
        match self.conns.find(conn)?.state() {
            State::Established { session } => Some(self.sessions.live(*session).id),
            State::Handshake(_) | State::Draining(_) | State::Closed(_) => None,
        }
    }

    /// Returns whether it is recorded. A recording ends by itself when its sink takes no more.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.recorder.is_some()
    }

    /// Records a call that is about to be handled.
    #[inline(never)]
    pub(super) fn note(&mut self, now: Time, call: &Call<'_>) {
        let Some(recorder) = &self.recorder else {
            return;
        };
        if recorder.is_due(now) {
            self.check_recording();
            if self
                .recorder
                .as_mut()
                .is_some_and(|recorder| !recorder.hand_over())
            {
                self.recorder = None;
                return;
            }
        }
        let answer = match *call {
            Call::ClientWritten { conn, bytes } => Some(self.digest_of_client(conn, bytes)),
            Call::LinkWritten { bytes } => Some(digest_of_output(self.link_output(), bytes)),
            _ => None,
        };
        if let Some(recorder) = &mut self.recorder {
            recorder.add(now, call);
            if let Some(answer) = answer {
                recorder.told(answer);
            }
        }
    }

    /// Records a digest of all counters.
    fn check_recording(&mut self) {
        if let Some(recorder) = &mut self.recorder {
            let digest = digest_of_text(&format!("{:?}", self.counters));
            let now = recorder.last;
            recorder.add(now, &Call::Check);
            recorder.told(digest);
        }
    }

    /// Returns a digest of what the transport of this client took.
    fn digest_of_client(&mut self, conn: ConnKey, bytes: usize) -> u64 {
        let Some(found) = self.conns.find(conn) else {
            return 0;
        };
        let index = conn.0.index;
        let lent = match found.state() {
            State::Closed(_) => return 0,
            State::Established { session } if found.is_numbered() => {
                Some(self.sessions.live_mut(*session).lend())
            }
            State::Established { session } => Some(Lent {
                outbox: &mut self.sessions.live_mut(*session).outbox,
                numbers: None,
            }),
            State::Handshake(_) | State::Draining(_) => None,
        };
        digest_of_output(self.conns.live_mut(index).output(lent), bytes)
    }
}
