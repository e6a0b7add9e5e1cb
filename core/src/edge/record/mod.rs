//! Records what an edge is told, so that the very same machine can be run again (SPEC 42).
//!
//! [`Edge::record`] begins it. From then on each call of the adapter is a record, with its time, its bytes and what the machine answered. A
//! [`Sink`] takes the records in chunks, and [`Sealer`] seals these for a file. [`Recording`] opens the file, and [`Replay`] makes another
//! machine and calls it as the first one was called. Since that machine is recorded as well, what it answers is compared byte for byte.
//!
//! A recording is divided into segments, so that its oldest part can be dropped. Each begins with all that is needed to make the machine: the
//! first with its configuration and seed, and a later one with an exact image of it.

mod call;
mod digest;
mod file;
mod image;
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
pub use file::{AROUND_CHUNK_BYTES, RECORDING_FORMAT, Recording, RecordingError, Sealer};
pub use replay::{Difference, Replay, ReplayError, Step};

pub(super) use call::restarts;

use call::put_number;
use digest::{digest_of_bytes, digest_of_output, digest_of_text};

/// A chunk is handed over when it has this many bytes. One call may add more than that.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// A chunk is handed over at the first call that comes so long after the first one in it.
pub const CHUNK_TIME: Duration = Duration::from_secs(1);

/// How a recording is divided (SPEC 42.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "these are its bounds")]
pub struct Segments {
    /// The bytes of one, as a file. Only one call with more than [`CHUNK_BYTES`] makes it longer.
    pub bytes: usize,
    /// The most bytes of the image of the machine with which it may begin.
    pub image_bytes: usize,
}

impl Segments {
    /// One, however long it becomes.
    pub const ONE: Segments = Segments {
        bytes: usize::MAX,
        image_bytes: usize::MAX,
    };
}

/// Takes the chunks of a recording.
pub trait Sink: Send {
    /// Takes a chunk, and returns an empty buffer for the next one. `None`: it takes no more, so the recording has ended. It must not wait.
    /// If the chunk `begins` a segment, those before it can be dropped.
    fn take(&mut self, chunk: Vec<u8>, begins: bool) -> Option<Vec<u8>>;

    /// Handles that the machine has become too large for an [image](Segments::image_bytes). Nothing more comes.
    fn give_up(&mut self) {}
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
    segments: Segments,
    /// The number of bytes of this segment that were handed over.
    handed_over: usize,
    /// Whether the chunk begins a segment.
    begins: bool,
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
    fn new(segments: Segments, sink: Box<dyn Sink>, compares: bool) -> Self {
        Recorder {
            sink: Mutex::new(sink),
            chunk: Zeroizing::new(Vec::with_capacity(CHUNK_BYTES)),
            last: Time::ZERO,
            since: Time::ZERO,
            compares,
            segments,
            handed_over: 0,
            begins: true,
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

    fn sink(&mut self) -> &mut dyn Sink {
        let sink = self.sink.get_mut();
        &mut **sink.unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the chunk over. Returns false if nobody takes it.
    fn hand_over(&mut self) -> bool {
        if self.chunk.is_empty() {
            return true;
        }
        let chunk = core::mem::take(&mut *self.chunk);
        self.handed_over += chunk.len() + AROUND_CHUNK_BYTES;
        let begins = core::mem::take(&mut self.begins);
        match self.sink().take(chunk, begins) {
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
    pub fn record(
        &mut self,
        seed: &[u8; 32],
        segments: Segments,
        sink: Box<dyn Sink>,
    ) -> Result<(), RecordError> {
        self.begin_recording(seed, Recorder::new(segments, sink, false))
    }

    fn begin_recording(
        &mut self,
        seed: &[u8; 32],
        mut recorder: Recorder,
    ) -> Result<(), RecordError> {
        if self.config.shards != 0 {
            return Err(RecordError::Shards);
        }
        if self.now != Time::ZERO || self.recorder.is_some() || self.conns.len() > 0 {
            return Err(RecordError::Begun);
        }
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
        if recorder.is_due(now) && !self.hand_over_records() {
            self.recorder = None;
            return;
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

    /// Hands over what was recorded, and begins another segment if this one is full. Returns whether the recording goes on.
    fn hand_over_records(&mut self) -> bool {
        self.check_recording();
        let Some(recorder) = &mut self.recorder else {
            return false;
        };
        let (segments, last) = (recorder.segments, recorder.last);
        // Whether there is room for one more behind this one.
        let chunks = recorder.chunk.len() + CHUNK_BYTES + 3 * AROUND_CHUNK_BYTES;
        if segments.bytes.saturating_sub(recorder.handed_over) > chunks {
            return recorder.hand_over();
        }
        let image = self.image(segments.image_bytes);
        let Some(recorder) = &mut self.recorder else {
            return false;
        };
        let Some(image) = image else {
            recorder.hand_over();
            recorder.sink().give_up();
            return false;
        };
        recorder.add(last, &Call::Turn);
        recorder.told(digest_of_bytes(&image));
        if !recorder.hand_over() {
            return false;
        }
        (recorder.handed_over, recorder.begins) = (0, true);
        recorder.last = Time::ZERO;
        recorder.add(last, &Call::Image(&image));
        // It is a chunk of its own: its length is another than that of the others.
        recorder.hand_over()
    }

    /// Records a digest of the whole machine, as at the end of a segment.
    fn turn_recording(&mut self) {
        let digest = self.image(usize::MAX).map(|image| digest_of_bytes(&image));
        if let Some(recorder) = &mut self.recorder {
            let now = recorder.last;
            recorder.add(now, &Call::Turn);
            recorder.told(digest.unwrap_or_default());
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;
    use crate::edge::EdgeConfig;
    use crate::keys::KeyPair;

    /// Counts the segments that begin, and whether the recording was given up.
    #[derive(Clone, Default)]
    struct Counts(Arc<[AtomicUsize; 2]>);

    impl Sink for Counts {
        fn take(&mut self, chunk: Vec<u8>, begins: bool) -> Option<Vec<u8>> {
            self.0[0].fetch_add(begins.into(), Relaxed);
            Some(chunk)
        }

        fn give_up(&mut self) {
            self.0[1].fetch_add(1, Relaxed);
        }
    }

    /// Returns how many segments there are of an edge to which so many clients connect in two seconds, and whether it was given up.
    fn record(clients: u64, image_bytes: usize) -> [usize; 2] {
        let keys = KeyPair::from_bytes(&[1; 32]).expect("below the order");
        let mut edge = Edge::new(EdgeConfig::default(), keys, [9; 32]);
        let counts = Counts::default();
        let segments = Segments {
            bytes: 0,
            image_bytes,
        };
        edge.record(&[9; 32], segments, Box::new(counts.clone()))
            .expect("it is new");
        for client in 0..clients {
            let now = Time::from_millis(2000 * client / clients);
            let source = [10, 0, (client >> 8) as u8, client as u8];
            edge.handle_accepted(now, source.into()).expect("room");
        }
        drop(edge);
        [0, 1].map(|at| counts.0[at].load(Relaxed))
    }

    #[test]
    fn a_machine_that_is_too_large_for_an_image_is_recorded_no_more() {
        assert_eq!(record(100, usize::MAX), [2, 0]);
        assert_eq!(record(100, 60 * 1024), [2, 0]);
        assert_eq!(record(1500, 60 * 1024), [1, 1]);
    }

    #[test]
    fn an_image_of_another_version_or_a_changed_one_makes_no_machine() {
        let keys = KeyPair::from_bytes(&[1; 32]).expect("below the order");
        let edge = Edge::new(EdgeConfig::default(), keys, [9; 32]);
        let image = edge.image(usize::MAX).expect("short");
        let again = Edge::of_image(&image).expect("the same version");
        assert_eq!(again.image(usize::MAX).as_deref(), Some(&*image));
        let mut other = image.to_vec();
        // The first digit of the version, behind two numbers.
        other[16] ^= 1;
        assert!(Edge::of_image(&other).is_none());
        other[16] ^= 1;
        other.push(0);
        assert!(Edge::of_image(&other).is_none());
        assert!(Edge::of_image(&image[..image.len() - 1]).is_none());
    }
}
