//! Reads files with a bound, and writes them whole.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The number of files that this process has begun to write.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// Reads a file of at most `most` bytes into `bytes`. Returns `false` if there is more; `bytes` is then meaningless.
pub(crate) fn read_at_most(most: usize, path: &Path, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let more = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(more).read_to_end(bytes)?;
    Ok(bytes.len() <= most)
}

/// Returns the kind of a path that is not a file. Reading it might wait for ever for a writer.
pub(crate) fn kind_unless_file(metadata: &fs::Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    if kind.is_file() {
        return None;
    }
    if kind.is_dir() {
        return Some("a directory");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return Some("a pipe");
        }
        if kind.is_socket() {
            return Some("a socket");
        }
        if kind.is_char_device() || kind.is_block_device() {
            return Some("a device");
        }
    }
    Some("no file")
}

/// The users that may read a file being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Those that the umask allows.
    Usual,
    /// The owner alone.
    Owner,
}

/// Writes a new file: whole or not at all, even if the power fails. A file that somebody else created meanwhile is kept.
pub(crate) fn write_new(path: &Path, bytes: &[u8], readers: Readers) -> io::Result<()> {
    let temporary = temporary_for(path)?;
    let mut file = create(&temporary, readers)?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| {
            match fs::hard_link(&temporary, path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                // A file system without hard links.
                Err(_) => fs::rename(&temporary, path),
                Ok(()) => Ok(()),
            }
        });
    // It has its name now, or is useless. After a rename it no longer exists.
    let _ = fs::remove_file(&temporary);
    written
}

/// Writes a file in the place of another one, if there is one: whole or not at all, even if the power fails.
#[cfg(any(feature = "admin", feature = "snapshot"))]
pub(crate) fn replace(path: &Path, bytes: &[u8], readers: Readers) -> io::Result<()> {
    let temporary = temporary_for(path)?;
    let mut file = create(&temporary, readers)?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, path))
        // The new name is on the disk, too.
        .and_then(|()| File::open(directory_of(path))?.sync_all());
    let _ = fs::remove_file(&temporary);
    written
}

/// Removes a file, which stays removed even if the power fails.
#[cfg(feature = "snapshot")]
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    File::open(directory_of(path))?.sync_all()
}

/// Returns a name beside `path` that is unique even after a crash: in a container every process may have the same id.
fn temporary_for(path: &Path) -> io::Result<PathBuf> {
    let directory = directory_of(path);
    let file_name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let count = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let mut temporary_name = OsString::from(".");
    temporary_name.push(file_name);
    temporary_name.push(format!(
        ".{}-{}-{count}.tmp",
        std::process::id(),
        since_epoch.as_nanos()
    ));
    Ok(directory.join(temporary_name))
}

/// Returns the error that [`write_new`] would meet at `path` for reasons of its directory: it is missing, read-only, or not ours to write to.
/// Writes nothing.
pub(crate) fn can_write_new(path: &Path) -> io::Result<()> {
    path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let directory = directory_of(path);
    #[cfg(unix)]
    {
        use rustix::fs::Access;
        rustix::fs::access(directory, Access::WRITE_OK | Access::EXEC_OK)?;
    }
    #[cfg(not(unix))]
    fs::metadata(directory)?;
    Ok(())
}

fn directory_of(path: &Path) -> &Path {
    let parent = path.parent();
    let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

fn create(path: &Path, readers: Readers) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if readers == Readers::Owner {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = readers;
    options.open(path)
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A new directory, which is removed with its files at the end.
    pub(crate) struct Directory(pub(crate) PathBuf);

    impl Directory {
        pub(crate) fn new(name: &str) -> Self {
            let name = format!("voltlane-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).expect("made");
            Directory(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}
