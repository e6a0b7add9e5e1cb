//! The files to which a recording of the edge goes (SPEC 42.3), for `voltlane run --record`.
//!
//! Each segment is a file. The newest has the name that was given, the one before `.1` at its end, up to `.3`: so all of them have a bound, and
//! each can be run again alone. Those of the process before move along, as they may tell why it ended.
//!
//! A thread seals the chunks and writes them. The machine never waits for it: if the disk is full, broken or too slow, the recording ends with
//! one warning, and the edge goes on. (SPEC 42.1(e))

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tracing::{info, warn};
use voltlane_core::edge::record::{AROUND_CHUNK_BYTES, CHUNK_BYTES, Sealer, Segments, Sink};
use voltlane_core::keys::KeyPair;

use crate::commands::random;
use crate::disk;
use crate::file_errors::{self, Kept};
use crate::pieces::PieceFile;

/// The segments that are kept, with the one that is written. (SPEC 42.5(d))
pub(crate) const SEGMENTS: u64 = 4;
/// This part of a segment's bytes is left for a call with many bytes.
const LEFT_PART: u64 = 8;
/// Chunks that go to the writer at once: to wake it costs as much as to seal some of them.
const BATCH_CHUNKS: usize = 8;
/// A chunk that comes so long after the first of its batch is the last one.
const BATCH_WITHIN: Duration = Duration::from_millis(100);
/// Batches that wait for the disk, each of about 512 KiB: 32 MiB at most. A disk takes a break of a tenth of a second now and then, and a busy
/// edge is told 200 MB in a second.
const WAITING_BATCHES: usize = 64;
/// With so many of them the disk is behind. What follows in the segment goes through the page cache, which takes more than the disk for a while.
const BEHIND_BATCHES: usize = WAITING_BATCHES / 4;
/// How long a chunk waits for others with which it is written.
const WRITTEN_WITHIN: Duration = Duration::from_secs(1);
/// Buffers that are kept for further chunks.
const KEPT_BUFFERS: usize = 16;
/// How long a process that is taken over waits for what is not written yet. Its clients wait as long.
const WRITES_WITHIN: Duration = Duration::from_secs(1);
/// What a file begins with that may be moved away.
const MAGIC: [u8; 8] = *b"VLRECORD";

/// Why the edge is not recorded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordFileError {
    /// Nothing would open it.
    #[error("--record needs general.key_file: the recording is sealed under a key of the edge")]
    NoKeyFile,
    /// The file cannot be written, or what is there cannot be moved.
    #[error("--record: {path}: {error}", path = path.display())]
    Unusable { path: PathBuf, error: io::Error },
    /// Another kind of file is in its place, or where the one before is moved to.
    #[error("--record: {path}: this is no recording, and is not replaced: move it away", path = path.display())]
    Foreign { path: PathBuf },
}

/// A recording that is being written.
pub(crate) struct RecordFile {
    chunks: Option<Chunks>,
    writer: Option<JoinHandle<()>>,
    /// Without a sender once the writer has ended.
    written: Option<Receiver<()>>,
    segments: Segments,
}

/// A part of a segment.
struct Chunk {
    bytes: Vec<u8>,
    /// Whether it is the first one.
    begins: bool,
}

impl RecordFile {
    /// Creates the file of the first segment. All segments together have at most `most` bytes. Those that are there are kept beside it, as far
    /// as they are among the last ones.
    ///
    /// # Errors
    /// When it cannot be written. What is there stays then.
    pub(crate) fn create(
        path: &Path,
        most: u64,
        keys: &KeyPair,
    ) -> Result<RecordFile, RecordFileError> {
        is_recording(&with_end(path, "new"))?;
        for number in 0..SEGMENTS {
            is_recording(&segment(path, number))?;
        }
        let unusable = |error| RecordFileError::Unusable {
            path: path.to_owned(),
            error,
        };
        let (file, sealer) = begin_segment(path, keys).map_err(unusable)?;
        let (chunks, waiting) = mpsc::sync_channel(WAITING_BATCHES);
        let (spares, given) = mpsc::sync_channel(KEPT_BUFFERS);
        let count = Arc::new(AtomicUsize::new(0));
        let most = most / SEGMENTS;
        let mut writer = Writer {
            path: path.to_owned(),
            keys: keys.clone(),
            file,
            sealer,
            most,
            waiting: Arc::clone(&count),
        };
        let (ends, written) = mpsc::channel();
        let writer = thread::Builder::new()
            .name("recorder".into())
            .spawn(move || {
                writer.run(&waiting, &spares);
                drop(ends);
            })
            .map_err(unusable)?;
        Ok(RecordFile {
            chunks: Some(Chunks {
                batches: chunks,
                batch: Vec::new(),
                begun: Instant::now(),
                spares: given,
                waiting: count,
            }),
            writer: Some(writer),
            written: Some(written),
            segments: Segments {
                bytes: usize::try_from(most - most / LEFT_PART).unwrap_or(usize::MAX),
                image_bytes: usize::try_from(most / 2).unwrap_or(usize::MAX),
            },
        })
    }

    /// Returns how the machine is to divide it.
    pub(crate) fn segments(&self) -> Segments {
        self.segments
    }

    /// Returns what takes the chunks of the machine. To be called once.
    pub(crate) fn sink(&mut self) -> Option<Box<dyn Sink>> {
        Some(Box::new(self.chunks.take()?))
    }

    /// Returns what waits until everything is written, at most 1 s, for a process that ends as it is. The machine must be recorded no more. To be
    /// called once.
    pub(crate) fn last_writes(&mut self) -> Option<impl FnOnce() + Send + use<>> {
        let written = self.written.take()?;
        Some(move || {
            if written.recv_timeout(WRITES_WITHIN) == Err(RecvTimeoutError::Timeout) {
                warn!("the disk is too slow for the end of the recording, which is not whole");
            }
        })
    }

    /// Waits until everything is written. The machine must have ended.
    pub(crate) fn finish(self) {
        drop(self);
    }
}

impl Drop for RecordFile {
    /// Waits until everything is written. The machine must have ended, as it has when a panic comes here: what it was told last tells most.
    fn drop(&mut self) {
        self.chunks = None;
        if let Some(writer) = self.writer.take() {
            // It has told of everything.
            let _ = writer.join();
        }
    }
}

/// Takes chunks on the thread of the machine.
struct Chunks {
    batches: SyncSender<Vec<Chunk>>,
    /// What the writer has not been given.
    batch: Vec<Chunk>,
    /// When the first of it came.
    begun: Instant,
    spares: Receiver<Vec<u8>>,
    /// The number of batches that the writer has not taken.
    waiting: Arc<AtomicUsize>,
}

impl Chunks {
    /// Gives the batch to the writer. Returns false if it takes no more.
    fn send(&mut self) -> bool {
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH_CHUNKS));
        self.waiting.fetch_add(1, Relaxed);
        match self.batches.try_send(batch) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                file_errors::count(Kept::Record);
                warn!("the disk is too slow for the recording, which ends here; the edge goes on");
                false
            }
            // The writer has told why.
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        if !self.batch.is_empty() {
            self.send();
        }
    }
}

impl Sink for Chunks {
    fn take(&mut self, bytes: Vec<u8>, begins: bool) -> Option<Vec<u8>> {
        let now = Instant::now();
        if self.batch.is_empty() {
            self.begun = now;
        }
        // A short one comes after its time: an edge that is told little.
        let is_late = bytes.len() < CHUNK_BYTES || now >= self.begun + BATCH_WITHIN;
        self.batch.push(Chunk { bytes, begins });
        if (is_late || self.batch.len() >= BATCH_CHUNKS) && !self.send() {
            return None;
        }
        Some(self.spares.try_recv().unwrap_or_default())
    }

    fn give_up(&mut self) {
        warn!(
            "the edge holds too much for its recording, which ends here; the edge goes on: --record-bytes needs to be more than eight times as much"
        );
    }
}

/// Why a recording ends before the machine.
enum Ended {
    /// A chunk has no room in its segment.
    Full,
    Disk(io::Error),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Ended {
        Ended::Disk(error)
    }
}

/// Writes chunks on a thread of its own.
struct Writer {
    path: PathBuf,
    keys: KeyPair,
    file: PieceFile,
    sealer: Sealer,
    /// The bytes that a segment may have.
    most: u64,
    /// As in [`Chunks`].
    waiting: Arc<AtomicUsize>,
}

impl Writer {
    fn run(&mut self, batches: &Receiver<Vec<Chunk>>, spares: &SyncSender<Vec<u8>>) {
        match self.write_all(batches, spares) {
            Ok(()) => {}
            Err(Ended::Full) => {
                let (path, bytes) = (self.path.display(), self.file.bytes());
                file_errors::count(Kept::Record);
                warn!(%path, bytes, "the recording is full and ends here; the edge goes on");
            }
            Err(Ended::Disk(error)) => return self.tell(&error),
        }
        let synced = self.file.sync();
        let (path, bytes) = (self.path.display(), self.file.bytes());
        match synced {
            Ok(()) => info!(%path, bytes, "the recording is written"),
            Err(error) => {
                file_errors::count(Kept::Record);
                warn!(%path, %error, "the recording may not be on the disk");
            }
        }
    }

    /// Writes until the machine has ended.
    fn write_all(
        &mut self,
        batches: &Receiver<Vec<Chunk>>,
        spares: &SyncSender<Vec<u8>>,
    ) -> Result<(), Ended> {
        let mut is_first = true;
        while let Some(batch) = self.next(batches)? {
            for mut chunk in batch {
                if chunk.begins && !std::mem::take(&mut is_first) {
                    self.turn()?;
                }
                let bytes = (chunk.bytes.len() + AROUND_CHUNK_BYTES) as u64;
                if self.file.bytes() + bytes > self.most {
                    return Err(Ended::Full);
                }
                let (length, tag) = self.sealer.seal(&mut chunk.bytes);
                self.file.append([&length, &chunk.bytes, &tag])?;
                chunk.bytes.clear();
                // If there are enough, or the machine has ended, this one is freed.
                let _ = spares.try_send(chunk.bytes);
            }
        }
        Ok(())
    }

    /// Returns the next batch, or `None` at the end. What waits for it too long is written before.
    fn next(&mut self, batches: &Receiver<Vec<Chunk>>) -> io::Result<Option<Vec<Chunk>>> {
        loop {
            let batch = match self.file.waiting_since() {
                None => batches.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(since) => batches.recv_timeout(WRITTEN_WITHIN.saturating_sub(since.elapsed())),
            };
            match batch {
                Ok(batch) => {
                    if self.waiting.fetch_sub(1, Relaxed) > BEHIND_BATCHES {
                        self.file.no_longer_direct();
                    }
                    return Ok(Some(batch));
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => self.file.flush()?,
            }
        }
    }

    /// Goes on with another segment. The segment before is not synced: that takes longer than the queue of chunks has room for, and only a
    /// loss of power can take what is not on the disk yet.
    fn turn(&mut self) -> io::Result<()> {
        self.file.flush()?;
        (self.file, self.sealer) = begin_segment(&self.path, &self.keys)?;
        Ok(())
    }

    fn tell(&self, error: &io::Error) {
        file_errors::count(Kept::Record);
        let path = self.path.display();
        warn!(%path, %error, "the recording cannot be written and ends here; the edge goes on");
    }
}

/// Returns the path of the segment that is this many before the last one.
fn segment(path: &Path, number: u64) -> PathBuf {
    match number {
        0 => path.to_owned(),
        _ => with_end(path, &number.to_string()),
    }
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".");
    name.push(end);
    name.into()
}

/// Moves the segments on, of which the oldest is dropped, and creates the file of another one.
fn begin_segment(path: &Path, keys: &KeyPair) -> io::Result<(PieceFile, Sealer)> {
    // The new file is made first: if the disk is full, the old ones stay as they are.
    let new = with_end(path, "new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let sealer = Sealer::new(keys, *random());
    let mut file = create_new(&new)?;
    file.write_all(sealer.header())?;
    for number in (1..SEGMENTS).rev() {
        match fs::rename(segment(path, number - 1), segment(path, number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(&new, path)?;
    Ok((PieceFile::new(file, sealer.header().len()), sealer))
}

fn create_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Returns whether there is a recording. Otherwise there must be nothing.
fn is_recording(path: &Path) -> Result<bool, RecordFileError> {
    let unusable = |error| RecordFileError::Unusable {
        path: path.to_owned(),
        error,
    };
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        found => found.map_err(unusable)?,
    };
    if let Some(kind) = disk::kind_unless_file(&metadata) {
        return Err(unusable(io::Error::other(format!("this is {kind}"))));
    }
    let mut magic = [0; MAGIC.len()];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    match read {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(unusable(error)),
        _ if magic == MAGIC => Ok(true),
        _ => Err(RecordFileError::Foreign {
            path: path.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use voltlane_core::edge::record::{Recording, Replay};
    use voltlane_core::edge::{Edge, EdgeConfig};
    use voltlane_core::{Closed, Time};

    use super::*;
    use crate::disk::testing::Directory;

    fn keys() -> KeyPair {
        KeyPair::from_bytes(&[1; 32]).expect("below the order")
    }

    fn create(path: &Path, most: u64) -> Result<RecordFile, RecordFileError> {
        RecordFile::create(path, most, &keys())
    }

    fn says(made: Result<RecordFile, RecordFileError>) -> String {
        made.err().expect("refused").to_string()
    }

    /// Records an edge to which `clients` come and leave.
    fn record(mut file: RecordFile, clients: u64) -> bool {
        let mut edge = Edge::new(EdgeConfig::default(), keys(), [9; 32]);
        let (segments, sink) = (file.segments(), file.sink());
        edge.record(&[9; 32], segments, sink.expect("the first one"))
            .expect("it is new");
        for client in 0..clients {
            let now = Time::from_millis(client);
            let conn = edge.handle_accepted(now, [127, 0, 0, 1].into());
            edge.handle_client_closed(now, conn.expect("room"), Closed::Eof);
        }
        let goes_on = edge.is_recorded();
        edge.end_recording();
        file.finish();
        goes_on
    }

    /// Runs a segment again. Returns how many records it has, and the clients that there were up to its end.
    fn run_again(path: &Path) -> (u64, u64) {
        let recording = Recording::open(&fs::read(path).expect("there"), &keys());
        let recording = recording.expect("it opens");
        assert_eq!(recording.torn_bytes(), 0);
        let mut replay = Replay::new(&recording).expect("a machine");
        let (records, _, difference) = replay.run().expect("good records");
        assert_eq!(difference, None);
        (records, replay.edge().counters().accepted)
    }

    #[test]
    fn it_is_for_its_owner_and_the_one_before_is_kept() {
        let directory = Directory::new("recording");
        let path = directory.0.join("edge.record");
        assert!(record(create(&path, 4 << 20).expect("made"), 5));
        let first = fs::read(&path).expect("there");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&path).expect("there").permissions().mode();
            assert_eq!(mode & 0o7777, 0o600);
        }
        assert!(record(create(&path, 4 << 20).expect("made"), 9));
        assert_eq!(fs::read(path.with_extension("record.1")).ok(), Some(first));
        assert_eq!(run_again(&path), (2 * 9 + 2, 9));
        for _ in 0..5 {
            record(create(&path, 4 << 20).expect("made"), 1);
        }
        assert_eq!(fs::read_dir(&directory.0).expect("there").count(), 4);
    }

    #[test]
    fn a_panic_leaves_a_whole_last_chunk() {
        let directory = Directory::new("recording-of-panic");
        let path = directory.0.join("edge.record");
        let file = create(&path, 4 << 20).expect("made");
        let serves = thread::spawn(move || {
            // In the order in which they are made where the edge serves: the machine goes first.
            let mut file = file;
            let mut edge = Edge::new(EdgeConfig::default(), keys(), [9; 32]);
            let (segments, sink) = (file.segments(), file.sink());
            edge.record(&[9; 32], segments, sink.expect("the first one"))
                .expect("it is new");
            for client in 0..7 {
                let now = Time::from_millis(client);
                let _ = edge.handle_accepted(now, [127, 0, 0, 1].into());
            }
            panic!("to see what is left");
        });
        serves.join().expect_err("it panics");
        assert_eq!(run_again(&path), (7, 7));
    }

    #[test]
    fn what_is_no_recording_is_not_replaced() {
        let directory = Directory::new("foreign-recording");
        let path = directory.0.join("edge.record");
        fs::write(&path, "key").expect("written");
        assert!(says(create(&path, 4 << 20)).contains("is not replaced"));
        fs::write(&path, "VLRECORD").expect("written");
        fs::write(path.with_extension("record.3"), "something else").expect("written");
        assert!(says(create(&path, 4 << 20)).contains("is not replaced"));
        assert_eq!(fs::read(&path).ok(), Some(b"VLRECORD".to_vec()));
        let directory = directory.0.join("none").join("edge.record");
        assert!(says(create(&directory, 4 << 20)).contains("none/edge.record"));
    }

    #[test]
    fn the_last_segments_are_kept_and_each_runs_again_alone() {
        const MOST: u64 = 1 << 20;
        const CLIENTS: u64 = 90_000;
        let directory = Directory::new("segments-of-recording");
        let path = directory.0.join("edge.record");
        assert!(record(create(&path, MOST).expect("made"), CLIENTS));
        let mut ends = Vec::new();
        let mut bytes = 0;
        for number in (0..SEGMENTS).rev() {
            let path = segment(&path, number);
            bytes += fs::metadata(&path).expect("there").len();
            ends.push(run_again(&path).1);
        }
        assert!((MOST / 2..=MOST).contains(&bytes), "{bytes}");
        assert!(ends.is_sorted() && ends[0] > 1000, "{ends:?}");
        assert_eq!(ends.last(), Some(&CLIENTS));
        assert_eq!(fs::read_dir(&directory.0).expect("there").count(), 4);
    }

    /// Returns a recording that is written to this device or file of a full disk.
    fn writer_to(path: &Path) -> (Chunks, JoinHandle<()>) {
        let file = OpenOptions::new().write(true).open(path);
        let (batches, waiting) = mpsc::sync_channel(WAITING_BATCHES);
        let (spares, given) = mpsc::sync_channel(KEPT_BUFFERS);
        let count = Arc::new(AtomicUsize::new(0));
        let mut writer = Writer {
            path: path.into(),
            keys: keys(),
            file: PieceFile::new(file.expect("it is there"), 44),
            sealer: Sealer::new(&keys(), [7; 32]),
            most: 1 << 22,
            waiting: Arc::clone(&count),
        };
        let writer = thread::spawn(move || writer.run(&waiting, &spares));
        let sink = Chunks {
            batches,
            batch: Vec::new(),
            begun: Instant::now(),
            spares: given,
            waiting: count,
        };
        (sink, writer)
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_ends_the_recording_alone() {
        let (mut sink, writer) = writer_to(Path::new("/dev/full"));
        assert!(sink.take(vec![1; 100], true).is_some());
        writer.join().expect("it ends by itself");
        assert!(sink.take(vec![1; 100], false).is_none());
    }

    #[test]
    fn a_segment_that_cannot_begin_ends_the_recording_alone() {
        let directory = Directory::new("no-next-segment");
        let path = directory.0.join("edge.record");
        fs::write(&path, "VLRECORD").expect("written");
        // Nobody can make this file.
        fs::create_dir(directory.0.join("edge.record.new")).expect("made");
        let (mut sink, writer) = writer_to(&path);
        assert!(sink.take(vec![1; 100], true).is_some());
        assert!(sink.take(vec![1; 100], true).is_some());
        writer.join().expect("it ends by itself");
        assert!(sink.take(vec![1; 100], false).is_none());
        assert!(fs::metadata(&path).expect("it stays").len() > 100);
    }

    #[test]
    fn a_slow_disk_ends_the_recording_alone() {
        let (batches, waiting) = mpsc::sync_channel(WAITING_BATCHES);
        let (_, spares) = mpsc::sync_channel(KEPT_BUFFERS);
        let mut sink = Chunks {
            batches,
            batch: Vec::new(),
            begun: Instant::now(),
            spares,
            waiting: Arc::default(),
        };
        // A short one is sent at once.
        for _ in 0..WAITING_BATCHES {
            assert!(sink.take(vec![1], false).is_some());
        }
        assert!(sink.take(vec![1], false).is_none());
        drop(sink);
        assert_eq!(waiting.iter().flatten().count(), WAITING_BATCHES);
    }

    #[test]
    fn chunks_wait_for_others_unless_they_are_short() {
        let (batches, waiting) = mpsc::sync_channel(WAITING_BATCHES);
        let (_, spares) = mpsc::sync_channel(KEPT_BUFFERS);
        let mut sink = Chunks {
            batches,
            batch: Vec::new(),
            begun: Instant::now(),
            spares,
            waiting: Arc::default(),
        };
        // However long this takes.
        let later = || Instant::now() + Duration::from_secs(3600);
        let sizes = || {
            waiting
                .try_iter()
                .map(|batch| batch.len())
                .collect::<Vec<_>>()
        };
        for _ in 0..2 * BATCH_CHUNKS + 1 {
            assert!(sink.take(vec![1; CHUNK_BYTES], false).is_some());
            sink.begun = later();
        }
        assert_eq!(sizes(), [BATCH_CHUNKS; 2]);
        assert!(sink.take(vec![1], false).is_some());
        assert_eq!(sizes(), [2]);
        assert!(sink.take(vec![1; CHUNK_BYTES], false).is_some());
        assert_eq!(sizes(), [0; 0]);
        sink.begun -= BATCH_WITHIN;
        assert!(sink.take(vec![1; CHUNK_BYTES], false).is_some());
        assert_eq!(sizes(), [2]);
        assert!(sink.take(vec![1; CHUNK_BYTES], false).is_some());
        // The machine has ended.
        drop(sink);
        assert_eq!(sizes(), [1]);
    }

    /// A chunk that waits for its piece is in the file soon.
    #[test]
    fn what_waits_is_written_when_nothing_more_comes() {
        let directory = Directory::new("recording-that-waits");
        let path = directory.0.join("edge.record");
        fs::write(&path, [0; 44]).expect("written");
        let (mut sink, writer) = writer_to(&path);
        assert!(sink.take(vec![1; 100], true).is_some());
        let begun = Instant::now();
        while fs::metadata(&path).expect("there").len() == 44 {
            assert!(begun.elapsed() < 30 * WRITTEN_WITHIN, "it is not written");
            thread::yield_now();
        }
        let length = 44 + 100 + AROUND_CHUNK_BYTES as u64;
        assert_eq!(fs::metadata(&path).expect("there").len(), length);
        drop(sink);
        writer.join().expect("it ends by itself");
    }
}
