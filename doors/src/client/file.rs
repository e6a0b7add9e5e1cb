//! A session in a file. (SPEC 46.3(c))

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use voltlane_driver::client::{ConnectError, SessionStore};

/// The longest file that is taken for a session, in bytes. It has all packets that wait.
const MAX_FILE_BYTES: u64 = 1 << 28;

/// A file that nobody else can read, which is replaced by a rename: it is whole whenever its process is killed.
///
/// A file beside it, with `.lock` behind its name, is locked while the client lives. The system ends the lock with its process.
#[derive(Debug)]
pub(super) struct SessionFile {
    path: PathBuf,
    _lock: File,
}

impl SessionFile {
    /// Locks it, or says who has.
    pub(super) fn open(path: &Path) -> Result<Self, ConnectError> {
        let lock = own(OpenOptions::new().write(true).create(true)).open(beside(path, ".lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(SessionFile {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(ConnectError::SessionInUse {
                path: path.to_owned(),
                pid: owner_of(&lock),
            }),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }
}

impl SessionStore for SessionFile {
    fn load(&mut self) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut content = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content)?;
        if content.len() as u64 > MAX_FILE_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(Some(content))
    }

    fn store(&mut self, content: &[u8]) -> io::Result<()> {
        let fresh = beside(&self.path, ".new");
        // One of a process that was killed while it wrote may have another mode.
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = own(OpenOptions::new().write(true).create_new(true)).open(&fresh)?;
        file.write_all(content)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&fresh, &self.path)?;
        sync_directory(&self.path)
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    PathBuf::from(name)
}

/// Only its owner may read it.
fn own(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// Returns the process that has locked a file.
#[cfg(target_os = "linux")]
fn owner_of(lock: &File) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    let file = format!(":{}", lock.metadata().ok()?.ino());
    // "1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF"
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let is_lock = words.nth(1) == Some("FLOCK");
        let pid = words.nth(2)?;
        let is_of_file = words.next()?.ends_with(&file);
        pid.parse().ok().filter(|_| is_lock && is_of_file)
    })
}

#[cfg(not(target_os = "linux"))]
fn owner_of(_: &File) -> Option<u32> {
    None
}

fn sync_directory(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        let directory = path.parent().filter(|path| !path.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    let _ = path;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_client_and_who_that_is_is_told() {
        let name = format!("voltlane-session-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let first = SessionFile::open(&path).expect("it is free");
        let error = SessionFile::open(&path).expect_err("it is locked");
        assert!(
            error
                .to_string()
                .contains("another client has this session")
        );
        match error {
            ConnectError::SessionInUse { path: of, pid } => {
                assert_eq!(of, path);
                let is_told = cfg!(target_os = "linux");
                assert_eq!(pid, is_told.then(std::process::id));
            }
            other => panic!("{other}"),
        }
        drop(first);
        let mut next = SessionFile::open(&path).expect("it is free again");
        assert_eq!(next.load().expect("nothing was stored"), None);
        next.store(b"a session").expect("it can be stored");
        assert_eq!(
            next.load().expect("it is there").as_deref(),
            Some(&b"a session"[..])
        );
        fs::remove_file(&path).expect("it is there");
        fs::remove_file(beside(&path, ".lock")).expect("it is there");
        let nowhere = SessionFile::open(&path.join("below")).expect_err("no directory");
        assert!(matches!(nowhere, ConnectError::Io(_)), "{nowhere}");
    }
}
