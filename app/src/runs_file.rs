//! The file beside the key file that names the runs of this edge, so that clients of an earlier run learn that their session is gone.
//! (SPEC 23.2(f))
//!
//! It is text: one run on each line, as 16 hexadecimal digits, the latest one last. It is no secret, since runs are named on the wire. If it
//! is deleted, clients of earlier runs look for another edge until their sessions expire.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::disk;

/// The runs that are kept. (SPEC 23.2(f))
pub(crate) const MAX_RUNS: usize = 1_024;

/// The bytes of a line: 16 digits and its end.
const LINE_BYTES: usize = 17;

/// Why earlier runs are not known, or this one will not be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunsFileError {
    /// Another edge has this file, and its sessions are not those of this one.
    #[error("{path}: another edge uses this key file", path = path.display())]
    InUse { path: PathBuf },
    /// The file cannot be read or written.
    #[error("{path}: {error}", path = path.display())]
    Unusable { path: PathBuf, error: io::Error },
}

/// The runs of this edge. As long as it lives, no other edge with the same key file takes them for its own.
#[derive(Debug)]
pub(crate) struct RunsFile {
    path: PathBuf,
    file: File,
    earlier: Vec<[u8; 8]>,
}

impl RunsFile {
    /// Opens the file beside `key_file`, or makes it, and reads the last [`MAX_RUNS`] in it. Lines that name no run are passed over: a write
    /// may have been cut off.
    pub(crate) fn open(key_file: &Path) -> Result<RunsFile, RunsFileError> {
        let path = beside(key_file);
        let unusable = |error| RunsFileError::Unusable {
            path: path.clone(),
            error,
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        // A pipe in its place must not make this wait.
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
        let mut file = options.open(&path).map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(RunsFileError::InUse { path }),
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        let earlier = read(&mut file).map_err(unusable)?;
        Ok(RunsFile {
            path,
            file,
            earlier,
        })
    }

    /// Returns when the last run began, as far as the file beside `key_file` tells.
    pub(crate) fn last_began(key_file: &Path) -> Option<SystemTime> {
        std::fs::metadata(beside(key_file)).ok()?.modified().ok()
    }

    /// Returns the runs before this one.
    pub(crate) fn earlier(&self) -> &[[u8; 8]] {
        &self.earlier
    }

    /// Returns the last run, if there was one.
    #[cfg(feature = "snapshot")]
    pub(crate) fn last(&self) -> Option<[u8; 8]> {
        self.earlier.last().copied()
    }

    /// Adds this run, unless it goes on from the last process, and leaves out the oldest ones if there are too many. It is on the disk when this returns.
    pub(crate) fn add(&mut self, run: [u8; 8]) -> Result<(), RunsFileError> {
        #[cfg(feature = "snapshot")]
        if self.last() == Some(run) {
            return Ok(());
        }
        let excess = (self.earlier.len() + 1).saturating_sub(MAX_RUNS);
        let kept = self.earlier[excess..].iter().chain([&run]);
        let text: String = kept
            .map(|run| format!("{:016x}\n", u64::from_be_bytes(*run)))
            .collect();
        let mut write = || {
            self.file.rewind()?;
            self.file.write_all(text.as_bytes())?;
            self.file.set_len(text.len() as u64)?;
            // The time that the system gives a file may be some milliseconds before that of its clock.
            self.file.set_modified(SystemTime::now())?;
            self.file.sync_all()
        };
        write().map_err(|error| RunsFileError::Unusable {
            path: self.path.clone(),
            error,
        })
    }
}

fn beside(key_file: &Path) -> PathBuf {
    let mut name = OsString::from(key_file);
    name.push(".runs");
    name.into()
}

fn read(file: &mut File) -> io::Result<Vec<[u8; 8]>> {
    let metadata = file.metadata()?;
    if let Some(kind) = disk::kind_unless_file(&metadata) {
        return Err(io::Error::other(format!("this is {kind}")));
    }
    let most = (MAX_RUNS * LINE_BYTES) as u64;
    if metadata.len() > most {
        return Err(io::Error::other(format!(
            "it has more than {most} bytes, so it is another file: move it away"
        )));
    }
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    let lines = bytes.split(|&byte| byte == b'\n');
    Ok(lines.filter_map(run_in).collect())
}

fn run_in(line: &[u8]) -> Option<[u8; 8]> {
    let digits = str::from_utf8(line).ok()?;
    let is_run = line.len() == LINE_BYTES - 1 && line.iter().all(u8::is_ascii_hexdigit);
    let run = u64::from_str_radix(digits, 16).ok();
    run.filter(|_| is_run).map(u64::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::testing::Directory;

    fn run(number: u64) -> [u8; 8] {
        number.to_be_bytes()
    }

    #[test]
    fn runs_are_kept_in_order_and_the_oldest_leave_beyond_the_bound() {
        let directory = Directory::new("runs-order");
        let key_file = directory.0.join("edge.key");
        for number in 0..=MAX_RUNS as u64 + 1 {
            let mut file = RunsFile::open(&key_file).expect("opened");
            let first = number.saturating_sub(MAX_RUNS as u64);
            let earlier: Vec<_> = (first..number).map(run).collect();
            assert_eq!(file.earlier(), earlier);
            file.add(run(number)).expect("written");
        }
    }

    #[test]
    fn a_line_that_was_cut_off_is_passed_over() {
        let directory = Directory::new("runs-torn");
        let key_file = directory.0.join("edge.key");
        let text = "00000000000000ff\nnonsense\n+000000000000001\n00000000000";
        std::fs::write(beside(&key_file), text).expect("written");
        let mut file = RunsFile::open(&key_file).expect("opened");
        assert_eq!(file.earlier(), [run(0xff)]);
        file.add(run(1)).expect("written");
        drop(file);
        let text = std::fs::read_to_string(beside(&key_file)).expect("read");
        assert_eq!(text, "00000000000000ff\n0000000000000001\n");
    }

    #[test]
    fn the_runs_of_another_edge_and_another_file_are_left_alone() {
        let directory = Directory::new("runs-other");
        let key_file = directory.0.join("edge.key");
        let first = RunsFile::open(&key_file).expect("opened");
        let says = RunsFile::open(&key_file).expect_err("in use").to_string();
        assert!(says.contains("another edge"), "{says}");
        drop(first);
        let long = vec![b'x'; MAX_RUNS * LINE_BYTES + 1];
        std::fs::write(beside(&key_file), &long).expect("written");
        let says = RunsFile::open(&key_file).expect_err("too long").to_string();
        assert!(says.contains("another file"), "{says}");
        assert_eq!(std::fs::read(beside(&key_file)).expect("read"), long);
        std::fs::remove_file(beside(&key_file)).expect("removed");
        std::fs::create_dir(beside(&key_file)).expect("made");
        RunsFile::open(&key_file).expect_err("a directory");
    }
}
