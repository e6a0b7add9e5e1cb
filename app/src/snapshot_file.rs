//! The file in which the edge saves its sessions at an orderly end, and from which the next process goes on with them (SPEC 39).
//!
//! It is used once: before its sessions go on, its name is written to the file beside it and the file is removed. So neither a second process
//! nor a copy of the file can go on with the same numbers.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use voltlane_core::edge::{MAX_SNAPSHOT_BYTES, Part, Snapshot, SnapshotError};
use voltlane_core::keys::KeyPair;

use crate::disk::{self, Readers};

/// The used snapshots that are remembered. A copy of an older one is older than any session (SPEC 39.3(d)).
const MAX_USED: usize = 64;
/// The bytes of a line that names one: 64 digits and its end.
const LINE_BYTES: usize = 65;

/// Why sessions do not go on, or are not saved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotFileError {
    /// The file cannot be read, written or removed.
    #[error("{path}: {error}", path = path.display())]
    Unusable { path: PathBuf, error: io::Error },
    /// What is in the file is refused.
    #[error("{path}: {error}; it stays until the next orderly end, which replaces it: move it away if it is needed", path = path.display())]
    Refused { path: PathBuf, error: SnapshotError },
    /// Its sessions went on before.
    #[error("{path}: its sessions went on before, and would be there twice; remove this copy", path = path.display())]
    Used { path: PathBuf },
    /// The edge ran without it since, and told its clients that their sessions are gone.
    #[error("{path}: the edge has run without it since; remove it", path = path.display())]
    Overtaken { path: PathBuf },
    /// All of its sessions have expired.
    #[error("{path}: it is {secs} s old, and its sessions have expired; remove it", path = path.display())]
    Old { path: PathBuf, secs: u64 },
}

/// Returns what the last process has saved, if it has, and removes it. `last_run` is the run of that process, `window` how long a session may be
/// away.
///
/// # Errors
/// When it cannot be used. Nothing has changed then, or nothing of it can be used again.
pub(crate) fn take(
    path: &Path,
    keys: &KeyPair,
    last_run: Option<[u8; 8]>,
    window: Duration,
) -> Result<Option<Snapshot>, SnapshotFileError> {
    let Some(bytes) = read(path)? else {
        return Ok(None);
    };
    let owned = || path.to_owned();
    let opened = Snapshot::open(bytes, keys);
    let snapshot = opened.map_err(|error| SnapshotFileError::Refused {
        path: owned(),
        error,
    })?;
    let list = list_beside(path);
    let used = read_list(&list)?;
    let name = text_of(&snapshot.name());
    if used.contains(&name) {
        return Err(SnapshotFileError::Used { path: owned() });
    }
    if last_run != Some(snapshot.run()) {
        return Err(SnapshotFileError::Overtaken { path: owned() });
    }
    let age = Duration::from_millis(now().saturating_sub(snapshot.written_at()));
    if age > window {
        return Err(SnapshotFileError::Old {
            path: owned(),
            secs: age.as_secs(),
        });
    }
    let excess = (used.len() + 1).saturating_sub(MAX_USED);
    let kept = used[excess..].iter().chain([&name]);
    let text: String = kept.map(|name| format!("{name}\n")).collect();
    disk::replace(&list, text.as_bytes(), Readers::Owner).map_err(unusable(&list))?;
    disk::remove(path).map_err(unusable(path))?;
    Ok(Some(snapshot))
}

/// Saves the parts of all machines of a process. Returns the length of the file in bytes.
///
/// # Errors
/// When it is too large, or cannot be written. What was saved before stays then.
pub(crate) fn write(
    path: &Path,
    (run, parts): ([u8; 8], &[Part]),
    keys: &KeyPair,
    name: [u8; 32],
) -> Result<usize, SnapshotFileError> {
    let sealed = Snapshot::seal((run, parts), keys, now(), name);
    let sealed = sealed.map_err(|error| SnapshotFileError::Refused {
        path: path.to_owned(),
        error,
    })?;
    disk::replace(path, &sealed, Readers::Owner).map_err(unusable(path))?;
    Ok(sealed.len())
}

/// Returns the milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = since.unwrap_or_default().as_millis();
    u64::try_from(millis).unwrap_or(u64::MAX)
}

fn unusable(path: &Path) -> impl FnOnce(io::Error) -> SnapshotFileError {
    let path = path.to_owned();
    move |error| SnapshotFileError::Unusable { path, error }
}

/// Reads the file, if it is there.
fn read(path: &Path) -> Result<Option<Vec<u8>>, SnapshotFileError> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found.map_err(unusable(path))?,
    };
    if let Some(kind) = disk::kind_unless_file(&metadata) {
        return Err(unusable(path)(io::Error::other(format!("this is {kind}"))));
    }
    let mut bytes = Vec::new();
    let read = disk::read_at_most(MAX_SNAPSHOT_BYTES, path, &mut bytes);
    if read.map_err(unusable(path))? {
        return Ok(Some(bytes));
    }
    let bytes = metadata.len();
    Err(SnapshotFileError::Refused {
        path: path.to_owned(),
        error: SnapshotError::TooLarge { bytes },
    })
}

fn list_beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".used");
    name.into()
}

/// Returns the names of the snapshots that were used, the latest one last.
fn read_list(path: &Path) -> Result<Vec<String>, SnapshotFileError> {
    let mut bytes = Vec::new();
    let most = MAX_USED * LINE_BYTES;
    match disk::read_at_most(most, path, &mut bytes) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Ok(false) => {
            let error =
                format!("it has more than {most} bytes, so it is another file: move it away");
            return Err(unusable(path)(io::Error::other(error)));
        }
        read => read.map_err(unusable(path))?,
    };
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().map(str::to_owned).collect())
}

fn text_of(name: &[u8; 32]) -> String {
    name.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use voltlane_core::Time;
    use voltlane_core::edge::{Edge, EdgeConfig};

    use super::*;
    use crate::disk::testing::Directory;

    const WINDOW: Duration = Duration::from_secs(60);

    fn keys(byte: u8) -> KeyPair {
        KeyPair::from_bytes(&[byte; 32]).expect("below the order")
    }

    /// An edge without sessions: its run, and its part.
    fn ended() -> ([u8; 8], [Part; 1]) {
        let mut edge = Edge::new(EdgeConfig::default(), keys(1), [1; 32]);
        (edge.run(), [edge.save(Time::ZERO)])
    }

    fn taken(path: &Path, run: [u8; 8]) -> String {
        match take(path, &keys(1), Some(run), WINDOW) {
            Ok(Some(snapshot)) => format!("run {}", u8::from(snapshot.run() == run)),
            Ok(None) => "none".to_owned(),
            Err(error) => {
                let says = error.to_string();
                let prefix = format!("{}: ", path.display());
                says.strip_prefix(&prefix).unwrap_or(&says).to_owned()
            }
        }
    }

    #[test]
    fn a_file_is_used_once_even_if_somebody_puts_a_copy_back() {
        let directory = Directory::new("snapshot-once");
        let path = directory.0.join("sessions");
        let (run, parts) = ended();
        assert_eq!(taken(&path, run), "none");
        write(&path, (run, &parts), &keys(1), [1; 32]).expect("written");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&path).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let copy = fs::read(&path).expect("read");
        assert_eq!(taken(&path, run), "run 1");
        assert!(!path.exists());
        assert_eq!(taken(&path, run), "none");
        fs::write(&path, copy).expect("written");
        assert!(taken(&path, run).contains("would be there twice"));
        // The next orderly end replaces the copy, and the list stays short.
        for name in 2..80 {
            write(&path, (run, &parts), &keys(1), [name; 32]).expect("written");
            assert_eq!(taken(&path, run), "run 1", "{name}");
        }
        let list = read_list(&list_beside(&path)).expect("read");
        assert_eq!(list.len(), MAX_USED);
        let left: Vec<_> = fs::read_dir(&directory.0).expect("listed").collect();
        assert_eq!(left.len(), 1, "no temporary files: {left:?}");
    }

    #[test]
    fn what_cannot_be_used_is_named_and_stays() {
        let directory = Directory::new("snapshot-refused");
        let path = directory.0.join("sessions");
        let (run, parts) = ended();
        write(&path, (run, &parts), &keys(2), [1; 32]).expect("written");
        let says = taken(&path, run);
        assert!(says.contains("does not open with the edge's key"), "{says}");
        assert!(says.contains("move it away"), "{says}");
        write(&path, (run, &parts), &keys(1), [2; 32]).expect("written");
        let bytes = fs::read(&path).expect("read");
        assert!(taken(&path, [9; 8]).contains("has run without it"));
        fs::write(&path, &bytes[..bytes.len() - 1]).expect("written");
        assert!(taken(&path, run).contains("it says"));
        fs::write(&path, b"#!/bin/sh").expect("written");
        assert!(taken(&path, run).contains("no snapshot"));
        assert!(path.exists());
        let error = take(&path, &keys(1), Some(run), WINDOW);
        assert!(matches!(error, Err(SnapshotFileError::Refused { .. })));
        let old = Snapshot::seal((run, &parts), &keys(1), 1_000, [3; 32]).expect("short");
        fs::write(&path, &old).expect("written");
        assert!(taken(&path, run).contains("have expired"));
        fs::write(&path, &bytes).expect("written");
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("made");
        assert!(taken(&path, run).contains("a directory"));
        write(&path, (run, &parts), &keys(1), [4; 32]).expect_err("a directory");
    }
}
