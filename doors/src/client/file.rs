//! A session in a file. (SPEC 46.3(c))

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use voltlane_driver::client::SessionStore;

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
    /// Locks it. `ErrorKind::ResourceBusy`: another client has it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let lock = own(OpenOptions::new().write(true).create(true)).open(beside(path, ".lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(SessionFile {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => {
                let says = format!("{}: another client has this session", path.display());
                Err(io::Error::new(io::ErrorKind::ResourceBusy, says))
            }
            Err(TryLockError::Error(error)) => Err(error),
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

fn sync_directory(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        let directory = path.parent().filter(|path| !path.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    let _ = path;
    Ok(())
}
