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

use zeroize::Zeroizing;

use crate::edge::Edge;
use crate::edge::conns::conn::ConnKey;
use crate::edge::conns::state::State;
use crate::edge::uplink::link::HasLink as _;
use crate::image::{Image as _, Out};
use crate::protocol::Lent;
use crate::time::Time;

pub use call::Call;
pub use file::{AROUND_CHUNK_BYTES, RECORDING_FORMAT, Recording, RecordingError, Sealer};
pub use replay::{Difference, Replay, ReplayError, Step};

pub(super) use call::restarts;

use call::{NO_CONN, NO_DUTY, POLL_CLIENT, put_number};
use digest::{digest_of_bytes, digest_of_output};

/// A chunk is handed over when it has this many bytes. One call may add more than that.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// A chunk is handed over at the first call that comes so long after the chunk before.
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
    /// Takes a chunk, and returns an empty buffer for the next one, in which nothing of an earlier chunk is left unsealed. `None`: it takes no
    /// more, so the recording has ended. It must not wait.
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
    /// It is recorded already.
    #[error("the edge is recorded already")]
    Recorded,
    /// Sessions wait for another backend, of which an image has nothing.
    #[error(
        "sessions wait for another backend: the edge is not recorded until it starts without them"
    )]
    Leaving,
    /// Its [image](Segments::image_bytes) would be too long.
    #[error("the edge holds too much for a recording of this size")]
    TooLarge,
}

/// What an edge was told, as far as it was not handed over yet.
pub(super) struct Recorder {
    /// Never locked: it lets threads share the machine, which a sink need not.
    sink: Mutex<Box<dyn Sink>>,
    /// Wiped when it is dropped: it has keys and packets.
    chunk: Zeroizing<Vec<u8>>,
    /// The time of the last record.
    last: Time,
    /// The connection that a record has named or that was polled last. Another record of it does not name it again.
    conn: ConnKey,
    /// The connection for whose duty the adapter asks next, unless it does otherwise than it should. If it does ask, there is no record.
    asks: Option<ConnKey>,
    /// When the chunk is handed over, however short it is.
    due: Time,
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
            conn: NO_CONN,
            asks: None,
            due: Time::ZERO + CHUNK_TIME,
            compares,
            segments,
            handed_over: 0,
            begins: true,
        }
    }

    #[inline(always)]
    fn is_due(&self, now: Time) -> bool {
        self.chunk.len() >= CHUNK_BYTES || now >= self.due
    }

    /// Appends a record.
    #[inline(always)]
    fn add(&mut self, now: Time, call: &Call<'_>) {
        let now = now.max(self.last);
        self.no_duty();
        let later = now.since(self.last);
        call.encode(later, &mut self.conn, &mut self.chunk);
        self.last = now;
    }

    /// Appends that the adapter has not asked for a duty, if it should have.
    #[inline(always)]
    pub(super) fn no_duty(&mut self) {
        if self.asks.take().is_some() {
            self.chunk.push(NO_DUTY);
        }
    }

    /// Appends that the adapter asks which connection has changed. It has no time.
    pub(super) fn polls(&mut self) {
        self.no_duty();
        self.chunk.push(POLL_CLIENT);
    }

    /// Appends which one has.
    pub(super) fn polled(&mut self, ready: Option<ConnKey>) {
        let Some(conn) = ready else {
            return self.chunk.push(0);
        };
        put_number(&mut self.chunk, u64::from(conn.0.index) + 1);
        (self.conn, self.asks) = (conn, Some(conn));
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
    fn hand_over(&mut self, now: Time) -> bool {
        self.due = now.max(self.last) + CHUNK_TIME;
        if self.chunk.is_empty() {
            return true;
        }
        let chunk = core::mem::take(&mut *self.chunk);
        self.handed_over += chunk.len() + AROUND_CHUNK_BYTES;
        let begins = core::mem::take(&mut self.begins);
        match self.sink().take(chunk, begins) {
            Some(mut empty) => {
                // Room for a usual call beyond the bound, so that it seldom grows out of memory with secrets.
                empty.clear();
                empty.reserve(2 * CHUNK_BYTES);
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
        self.hand_over(self.last);
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

    /// Begins to record what this machine is told from now on. The recording begins with an image of the machine, as a later segment does, so
    /// only the same version can run it again.
    ///
    /// # Errors
    /// [`RecordError`]
    pub fn record_on(
        &mut self,
        segments: Segments,
        sink: Box<dyn Sink>,
    ) -> Result<(), RecordError> {
        if self.config.shards != 0 {
            return Err(RecordError::Shards);
        }
        if self.recorder.is_some() {
            return Err(RecordError::Recorded);
        }
        #[cfg(feature = "backends")]
        if !self.departures.is_empty() {
            return Err(RecordError::Leaving);
        }
        let image = self.image(segments.image_bytes);
        let image = image.ok_or(RecordError::TooLarge)?;
        let mut recorder = Recorder::new(segments, sink, false);
        recorder.add(self.now, &Call::Image(&image));
        // If nobody takes it, it has ended.
        if recorder.hand_over(self.now) {
            self.recorder = Some(Box::new(recorder));
        }
        Ok(())
    }

    /// Ends the recording where it stands: what follows has no record.
    pub(super) fn stop_recording(&mut self) {
        self.recorder = None;
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

    /// Returns whether it is recorded. A recording ends by itself when its sink takes no more.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.recorder.is_some()
    }

    /// Records a call that is about to be handled.
    #[inline(never)]
    pub(super) fn note(&mut self, now: Time, call: &Call<'_>) {
        if let Some(recorder) = self.recorder_at(now) {
            recorder.add(now, call);
        }
    }

    /// Records `client_duty`, if nobody knows that it is called now.
    #[inline(never)]
    pub(super) fn note_duty(&mut self, conn: ConnKey) {
        match &mut self.recorder {
            Some(recorder) if recorder.asks == Some(conn) => recorder.asks = None,
            _ => self.note(Time::ZERO, &Call::ClientDuty { conn }),
        }
    }

    #[inline(never)]
    pub(super) fn note_client_bytes(&mut self, now: Time, conn: ConnKey, bytes: &[u8]) {
        if let Some(recorder) = self.recorder_at(now) {
            recorder.add(now, &Call::ClientBytes { conn, bytes });
        }
    }

    #[inline(never)]
    pub(super) fn note_client_written(&mut self, now: Time, conn: ConnKey, bytes: usize) {
        if self.recorder_at(now).is_none() {
            return;
        }
        let answer = self.digest_of_client(conn, bytes);
        if let Some(recorder) = &mut self.recorder {
            recorder.add(now, &Call::ClientWritten { conn, bytes });
            recorder.told(answer);
            recorder.asks = Some(conn);
        }
    }

    #[inline(never)]
    pub(super) fn note_link_bytes(&mut self, now: Time, bytes: &[u8]) {
        if let Some(recorder) = self.recorder_at(now) {
            recorder.add(now, &Call::LinkBytes(bytes));
        }
    }

    #[inline(never)]
    pub(super) fn note_link_written(&mut self, now: Time, bytes: usize) {
        if self.recorder_at(now).is_none() {
            return;
        }
        let answer = digest_of_output(self.link_output(), bytes);
        if let Some(recorder) = &mut self.recorder {
            recorder.add(now, &Call::LinkWritten { bytes });
            recorder.told(answer);
        }
    }

    /// Returns the recorder for a call at this time, which may be the first one of a chunk.
    #[inline(always)]
    fn recorder_at(&mut self, now: Time) -> Option<&mut Recorder> {
        let is_due = self.recorder.as_ref()?.is_due(now);
        if is_due && !self.hand_over_records(now) {
            self.recorder = None;
        }
        self.recorder.as_deref_mut()
    }

    /// Hands over what was recorded, and begins another segment if this one is full. Returns whether the recording goes on.
    #[cold]
    #[inline(never)]
    fn hand_over_records(&mut self, now: Time) -> bool {
        if self.recorder.as_ref().is_some_and(|it| it.compares) {
            return true;
        }
        self.check_recording();
        let Some(recorder) = &mut self.recorder else {
            return false;
        };
        let (segments, last) = (recorder.segments, recorder.last);
        // Whether there is room for one more behind this one.
        let chunks = recorder.chunk.len() + CHUNK_BYTES + 3 * AROUND_CHUNK_BYTES;
        if segments.bytes.saturating_sub(recorder.handed_over) > chunks {
            return recorder.hand_over(now);
        }
        let image = self.image(segments.image_bytes);
        let Some(recorder) = &mut self.recorder else {
            return false;
        };
        let Some(image) = image else {
            recorder.hand_over(now);
            recorder.sink().give_up();
            return false;
        };
        recorder.add(last, &Call::Turn);
        recorder.told(digest_of_bytes(&image));
        if !recorder.hand_over(now) {
            return false;
        }
        (recorder.handed_over, recorder.begins) = (0, true);
        (recorder.last, recorder.conn) = (Time::ZERO, NO_CONN);
        recorder.add(last, &Call::Image(&image));
        // It is a chunk of its own: its length is another than that of the others.
        recorder.hand_over(now)
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
            let mut counters = Out::new(usize::MAX);
            self.counters.put(&mut counters);
            let digest = counters.finish().map(|bytes| digest_of_bytes(&bytes));
            let now = recorder.last;
            recorder.add(now, &Call::Check);
            recorder.told(digest.unwrap_or_default());
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
