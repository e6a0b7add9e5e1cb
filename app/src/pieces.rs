//! A file that grows at its end by large aligned pieces, past the page cache where the file system allows it.
//!
//! A copy into the page cache costs several times what a recording is sealed for, and pushes out what others read. A direct write takes the
//! memory as it is.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::time::Instant;

/// The bytes of a piece, and of one write.
pub(crate) const PIECE_BYTES: usize = 1 << 20;
/// Memory and place of a direct write are a multiple of it: no block of a usual disk is larger.
const BLOCK_BYTES: usize = 4096;

/// A file whose end is in memory.
pub(crate) struct PieceFile {
    file: File,
    /// Longer than a piece, so that a block can begin in it wherever it is.
    memory: Box<[u8]>,
    /// The place of the piece in the memory.
    begin: usize,
    /// The place of the piece in the file: a multiple of its length.
    offset: u64,
    /// The bytes of the piece that there are.
    filled: usize,
    /// Those of them that are in the file.
    written: usize,
    /// When the first of the others was appended.
    since: Option<Instant>,
    /// The end of what is in the file and was appended as a whole.
    whole: u64,
    /// Whether the file can be written directly, as far as is known.
    can_be_direct: bool,
    is_direct: bool,
}

impl PieceFile {
    /// Goes on behind the first `written` bytes of the file: fewer than a piece.
    pub(crate) fn new(file: File, written: usize) -> Self {
        let memory = vec![0; PIECE_BYTES + BLOCK_BYTES].into_boxed_slice();
        let begin = memory.as_ptr().align_offset(BLOCK_BYTES);
        PieceFile {
            file,
            // Where the place cannot be told, writes are not aligned, and are made in the ordinary way.
            can_be_direct: begin < BLOCK_BYTES,
            begin: begin.min(BLOCK_BYTES),
            memory,
            offset: 0,
            filled: written,
            written,
            since: None,
            whole: written as u64,
            is_direct: false,
        }
    }

    /// Returns how many bytes it has, with those that are not in the file yet.
    pub(crate) fn bytes(&self) -> u64 {
        self.offset + self.filled as u64
    }

    /// Appends all parts as one. Full pieces are written, and the rest waits.
    ///
    /// # Errors
    /// Those of the disk. The file is as long as what is whole in it, then, and takes nothing more.
    pub(crate) fn append(&mut self, parts: [&[u8]; 3]) -> io::Result<()> {
        let before = self.bytes();
        let appended = self.fill(parts, before);
        self.cut_at_error(appended)
    }

    fn fill(&mut self, parts: [&[u8]; 3], before: u64) -> io::Result<()> {
        for mut part in parts {
            while !part.is_empty() {
                let room = &mut self.memory[self.begin + self.filled..self.begin + PIECE_BYTES];
                let (now, later) = part.split_at(part.len().min(room.len()));
                room[..now.len()].copy_from_slice(now);
                self.filled += now.len();
                part = later;
                self.since.get_or_insert_with(Instant::now);
                if self.filled == PIECE_BYTES {
                    self.write_piece()?;
                    self.whole = before;
                }
            }
        }
        Ok(())
    }

    /// Returns since when a part of it has been in memory alone.
    pub(crate) fn waiting_since(&self) -> Option<Instant> {
        self.since
    }

    /// Writes what waits, through the page cache.
    ///
    /// # Errors
    /// As those of [`PieceFile::append`].
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let flushed = self.write_ordinary();
        self.cut_at_error(flushed)?;
        self.whole = self.bytes();
        Ok(())
    }

    /// Writes through the page cache from now on, which takes a burst that the disk does not.
    pub(crate) fn no_longer_direct(&mut self) {
        self.can_be_direct = false;
    }

    /// Writes what waits, and waits for the disk.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.sync_all()
    }

    fn write_piece(&mut self) -> io::Result<()> {
        // A block is written directly or through the page cache, never in both ways: what was flushed is not written again.
        if self.written == 0 && self.can_be_direct {
            self.write_direct();
        }
        self.write_ordinary()?;
        self.offset += PIECE_BYTES as u64;
        (self.filled, self.written) = (0, 0);
        Ok(())
    }

    /// Writes the piece directly. Where that fails, an ordinary write is made in its place, and tells the error if there is one.
    fn write_direct(&mut self) {
        self.can_be_direct = self.set_direct(true);
        if !self.can_be_direct || self.file.seek(SeekFrom::Start(self.offset)).is_err() {
            return;
        }
        let piece = &self.memory[self.begin..self.begin + PIECE_BYTES];
        match self.file.write(piece) {
            Ok(taken) => self.written = taken,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.can_be_direct = false,
        }
    }

    fn write_ordinary(&mut self) -> io::Result<()> {
        self.since = None;
        if self.written == self.filled {
            return Ok(());
        }
        // A file that stays direct refuses an unaligned write, which is told as any error.
        self.set_direct(false);
        self.file
            .seek(SeekFrom::Start(self.offset + self.written as u64))?;
        let rest = &self.memory[self.begin + self.written..self.begin + self.filled];
        self.file.write_all(rest)?;
        self.written = self.filled;
        Ok(())
    }

    /// Returns whether the next writes are direct.
    fn set_direct(&mut self, direct: bool) -> bool {
        if self.is_direct != direct && set_direct(&self.file, direct).is_ok() {
            self.is_direct = direct;
        }
        self.is_direct
    }

    /// What is not whole is taken away: the rest can be read.
    fn cut_at_error(&mut self, done: io::Result<()>) -> io::Result<()> {
        if done.is_err() {
            let _ = self.file.set_len(self.whole);
        }
        done
    }
}

/// Has writes go past the page cache, or not. Linux alone knows it, and not for every file system.
#[cfg(target_os = "linux")]
fn set_direct(file: &File, direct: bool) -> io::Result<()> {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, direct);
    Ok(fcntl_setfl(file, flags)?)
}

#[cfg(not(target_os = "linux"))]
fn set_direct(_: &File, direct: bool) -> io::Result<()> {
    match direct {
        true => Err(io::ErrorKind::Unsupported.into()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::path::Path;

    use super::*;
    use crate::disk::testing::Directory;

    /// Returns an empty file and its end in memory.
    fn create(path: &Path) -> PieceFile {
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).open(path);
        PieceFile::new(file.expect("made"), 0)
    }

    /// Returns bytes that differ from place to place.
    fn some_bytes(from: usize, count: usize) -> Vec<u8> {
        (from..from + count)
            .map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8)
            .collect()
    }

    #[test]
    fn bytes_are_in_the_file_as_they_were_appended() {
        let directory = Directory::new("pieces");
        let lengths = [1, 4095, 65_536, 65_537, PIECE_BYTES, 3 * PIECE_BYTES + 5, 0];
        for flushes in [usize::MAX, 5, 1] {
            for is_behind in [false, true] {
                let path = directory.0.join(format!("{flushes}-{is_behind}"));
                let mut file = create(&path);
                let mut bytes = Vec::new();
                for (round, length) in lengths.iter().cycle().take(40).enumerate() {
                    let part = some_bytes(bytes.len(), *length);
                    let (left, right) = part.split_at(length / 3);
                    file.append([left, &[7; 4], right]).expect("room");
                    bytes.extend([left, &[7; 4], right].concat());
                    assert_eq!(file.bytes(), bytes.len() as u64);
                    if (round + 1).is_multiple_of(flushes) {
                        file.flush().expect("room");
                        assert_eq!(file.waiting_since(), None);
                        assert!(fs::read(&path).expect("there") == bytes, "{round}");
                    }
                    if is_behind && round == 20 {
                        file.no_longer_direct();
                    }
                }
                file.sync().expect("room");
                assert!(fs::read(&path).expect("there") == bytes, "{flushes}");
            }
        }
    }

    #[test]
    fn whole_pieces_alone_are_written_and_the_rest_is_known_to_wait() {
        let directory = Directory::new("pieces-that-wait");
        let path = directory.0.join("file");
        let mut file = create(&path);
        let length = || fs::metadata(&path).expect("there").len();
        assert_eq!(file.waiting_since(), None);
        file.append([&[1; 100], &[], &[]]).expect("room");
        let since = file.waiting_since();
        assert!(since.is_some());
        file.append([&[1; PIECE_BYTES - 101], &[], &[]])
            .expect("room");
        assert_eq!((file.waiting_since(), length()), (since, 0));
        file.append([&[1; 1], &[], &[]]).expect("room");
        assert_eq!((file.waiting_since(), length()), (None, PIECE_BYTES as u64));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn pieces_go_past_the_page_cache_where_the_file_system_lets_them() {
        let directory = Directory::new("direct-pieces");
        let mut file = create(&directory.0.join("file"));
        let allows = set_direct(&file.file, true).is_ok();
        set_direct(&file.file, false).expect("as it was");
        let piece = vec![1; PIECE_BYTES];
        file.append([&piece, &[], &[]]).expect("room");
        assert_eq!(file.is_direct, allows);
        // What is flushed is in the page cache, and the rest of its piece is written there, too.
        file.append([&piece[1..], &[], &[]]).expect("room");
        file.flush().expect("room");
        file.append([&[1], &[], &[]]).expect("room");
        assert!(!file.is_direct);
        file.append([&piece, &[], &[]]).expect("room");
        assert_eq!(file.is_direct, allows);
        file.no_longer_direct();
        file.append([&piece, &[], &[]]).expect("room");
        assert!(!file.is_direct);
    }

    /// A disk with room for two pieces and a half.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_leaves_what_was_whole() {
        use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
        const ROOM: u64 = (2 * PIECE_BYTES + PIECE_BYTES / 2) as u64;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = File::from(memfd_create("full", flags).expect("memory"));
        memory.set_len(ROOM).expect("memory");
        fcntl_add_seals(&memory, SealFlags::GROW).expect("sealed");
        let mut file = PieceFile::new(memory.try_clone().expect("a descriptor"), 0);
        let chunk = vec![1; 700_000];
        for _ in 0..4 {
            file.append([&chunk, &[], &[]]).expect("room");
        }
        let full = file.append([&chunk, &[], &[]]);
        assert!(full.is_err());
        let length = memory.metadata().expect("there").len();
        assert_eq!(length, 2 * chunk.len() as u64);
    }
}
