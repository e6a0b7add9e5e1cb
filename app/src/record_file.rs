//! The file to which a recording of the edge goes (SPEC 42.3), for `voltlane run --record`.
//!
//! A thread seals the chunks and writes them. The machine never waits for it: if the disk is full, broken or too slow, the recording ends with
//! one warning, and the edge goes on. (SPEC 42.1(e))

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread::{self, JoinHandle};

use tracing::{info, warn};
use voltlane_core::edge::record::{Sealer, Sink};
use voltlane_core::keys::KeyPair;

use crate::disk;

/// Chunks that wait for the disk, each of about 64 KiB.
const WAITING_CHUNKS: usize = 64;
/// Buffers that are kept for further chunks.
const KEPT_BUFFERS: usize = 4;
/// What a file begins with that may be moved away.
const MAGIC: [u8; 8] = *b"VLRECORD";
/// Beside a sealed chunk: its length, and its tag.
const AROUND_BYTES: u64 = 4 + 16;

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
    chunks: Option<SyncSender<Vec<u8>>>,
    spares: Option<Receiver<Vec<u8>>>,
    writer: JoinHandle<()>,
}

impl RecordFile {
    /// Creates the file, of at most `most` bytes. A recording that is there is kept beside it, with `.1` at the end of its name. `name` must
    /// come from the system for this recording.
    ///
    /// # Errors
    /// When it cannot be written. What is there stays then.
    pub(crate) fn create(
        path: &Path,
        most: u64,
        keys: &KeyPair,
        name: [u8; 32],
    ) -> Result<RecordFile, RecordFileError> {
        let unusable = |error| RecordFileError::Unusable {
            path: path.to_owned(),
            error,
        };
        keep_last(path)?;
        let mut file = create_new(path).map_err(unusable)?;
        let sealer = Sealer::new(keys, name);
        file.write_all(sealer.header()).map_err(unusable)?;
        let (chunks, waiting) = mpsc::sync_channel(WAITING_CHUNKS);
        let (spares, given) = mpsc::sync_channel(KEPT_BUFFERS);
        let mut writer = Writer {
            path: path.to_owned(),
            written: sealer.header().len() as u64,
            file,
            sealer,
            most,
        };
        let writer = thread::Builder::new()
            .name("recorder".into())
            .spawn(move || writer.run(&waiting, &spares))
            .map_err(unusable)?;
        Ok(RecordFile {
            chunks: Some(chunks),
            spares: Some(given),
            writer,
        })
    }

    /// Returns what takes the chunks of the machine. To be called once.
    pub(crate) fn sink(&mut self) -> Option<Box<dyn Sink>> {
        let (chunks, spares) = (self.chunks.take()?, self.spares.take()?);
        Some(Box::new(Chunks { chunks, spares }))
    }

    /// Waits until everything is written. The machine must have ended.
    pub(crate) fn finish(mut self) {
        self.chunks = None;
        // It has told of everything.
        let _ = self.writer.join();
    }
}

/// Takes chunks on the thread of the machine.
struct Chunks {
    chunks: SyncSender<Vec<u8>>,
    spares: Receiver<Vec<u8>>,
}

impl Sink for Chunks {
    fn take(&mut self, chunk: Vec<u8>) -> Option<Vec<u8>> {
        match self.chunks.try_send(chunk) {
            Ok(()) => Some(self.spares.try_recv().unwrap_or_default()),
            Err(TrySendError::Full(_)) => {
                warn!("the disk is too slow for the recording, which ends here; the edge goes on");
                None
            }
            // The writer has told why.
            Err(TrySendError::Disconnected(_)) => None,
        }
    }
}

/// Writes chunks on a thread of its own.
struct Writer {
    path: PathBuf,
    file: File,
    sealer: Sealer,
    written: u64,
    most: u64,
}

impl Writer {
    fn run(&mut self, chunks: &Receiver<Vec<u8>>, spares: &SyncSender<Vec<u8>>) {
        for mut chunk in chunks {
            let bytes = chunk.len() as u64 + AROUND_BYTES;
            if self.written + bytes > self.most {
                let (path, bytes) = (self.path.display(), self.written);
                warn!(%path, bytes, "the recording is full and ends here; the edge goes on");
                break;
            }
            if let Err(error) = self.write(&mut chunk) {
                // What is not whole is taken away: the rest can be replayed.
                let _ = self.file.set_len(self.written);
                let path = self.path.display();
                warn!(%path, %error, "the recording cannot be written and ends here; the edge goes on");
                return;
            }
            self.written += bytes;
            chunk.clear();
            // If there is one already, or the machine has ended, this one is freed.
            let _ = spares.try_send(chunk);
        }
        let synced = self.file.sync_all();
        let (path, bytes) = (self.path.display(), self.written);
        match synced {
            Ok(()) => info!(%path, bytes, "the recording is written"),
            Err(error) => warn!(%path, %error, "the recording may not be on the disk"),
        }
    }

    fn write(&mut self, chunk: &mut [u8]) -> io::Result<()> {
        let (length, tag) = self.sealer.seal(chunk);
        self.file.write_all(&length)?;
        self.file.write_all(chunk)?;
        self.file.write_all(&tag)
    }
}

fn create_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Moves the recording of the last process, which may tell why it ended.
fn keep_last(path: &Path) -> Result<(), RecordFileError> {
    if !is_recording(path)? {
        return Ok(());
    }
    let mut kept = OsString::from(path);
    kept.push(".1");
    let kept = PathBuf::from(kept);
    is_recording(&kept)?;
    fs::rename(path, &kept).map_err(|error| RecordFileError::Unusable { path: kept, error })
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
        RecordFile::create(path, most, &keys(), [7; 32])
    }

    fn says(made: Result<RecordFile, RecordFileError>) -> String {
        made.err().expect("refused").to_string()
    }

    /// Records an edge to which `clients` come and leave.
    fn record(mut file: RecordFile, clients: u64) -> bool {
        let mut edge = Edge::new(EdgeConfig::default(), keys(), [9; 32]);
        let sink = file.sink().expect("the first one");
        edge.record(&[9; 32], sink).expect("it is new");
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

    #[test]
    fn it_is_for_its_owner_and_the_one_before_is_kept() {
        let directory = Directory::new("recording");
        let path = directory.0.join("edge.record");
        assert!(record(create(&path, 1 << 20).expect("made"), 5));
        let first = fs::read(&path).expect("there");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&path).expect("there").permissions().mode();
            assert_eq!(mode & 0o7777, 0o600);
        }
        assert!(record(create(&path, 1 << 20).expect("made"), 9));
        assert_eq!(fs::read(path.with_extension("record.1")).ok(), Some(first));
        let recording = Recording::open(&fs::read(&path).expect("there"), &keys());
        let recording = recording.expect("it opens");
        let mut replay = Replay::new(&recording).expect("a machine");
        let (records, _, difference) = replay.run().expect("good records");
        assert_eq!((records, difference), (2 * 9 + 2, None));
        assert_eq!(replay.edge().counters().accepted, 9);
    }

    #[test]
    fn what_is_no_recording_is_not_replaced() {
        let directory = Directory::new("foreign-recording");
        let path = directory.0.join("edge.record");
        fs::write(&path, "key").expect("written");
        assert!(says(create(&path, 1 << 20)).contains("is not replaced"));
        fs::write(&path, "VLRECORD").expect("written");
        fs::write(path.with_extension("record.1"), "something else").expect("written");
        assert!(says(create(&path, 1 << 20)).contains("is not replaced"));
        assert_eq!(fs::read(&path).ok(), Some(b"VLRECORD".to_vec()));
        let directory = directory.0.join("none").join("edge.record");
        assert!(says(create(&directory, 1 << 20)).contains("none/edge.record"));
    }

    #[test]
    fn a_full_recording_ends_and_what_it_has_can_be_replayed() {
        let directory = Directory::new("full-recording");
        let path = directory.0.join("edge.record");
        record(create(&path, 70_000).expect("made"), 20_000);
        let bytes = fs::read(&path).expect("there");
        assert!((60_000..=70_000).contains(&bytes.len()), "{}", bytes.len());
        let recording = Recording::open(&bytes, &keys()).expect("it opens");
        // One for each second.
        assert_eq!((recording.chunks(), recording.torn_bytes()), (4, 0));
        let mut replay = Replay::new(&recording).expect("a machine");
        assert!(replay.run().expect("good records").2.is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_ends_the_recording_alone() {
        let file = OpenOptions::new().write(true).open("/dev/full");
        let (chunks, waiting) = mpsc::sync_channel(WAITING_CHUNKS);
        let (spares, given) = mpsc::sync_channel(KEPT_BUFFERS);
        let mut writer = Writer {
            path: "/dev/full".into(),
            file: file.expect("a device of Linux"),
            sealer: Sealer::new(&keys(), [7; 32]),
            written: 44,
            most: 1 << 20,
        };
        let writer = thread::spawn(move || writer.run(&waiting, &spares));
        let mut sink = Chunks {
            chunks,
            spares: given,
        };
        assert!(sink.take(vec![1; 100]).is_some());
        writer.join().expect("it ends by itself");
        assert!(sink.take(vec![1; 100]).is_none());
    }

    #[test]
    fn a_slow_disk_ends_the_recording_alone() {
        let (chunks, _waiting) = mpsc::sync_channel(WAITING_CHUNKS);
        let (_, spares) = mpsc::sync_channel(KEPT_BUFFERS);
        let mut sink = Chunks { chunks, spares };
        for _ in 0..WAITING_CHUNKS {
            assert!(sink.take(vec![1]).is_some());
        }
        assert!(sink.take(vec![1]).is_none());
    }
}
