//! The file that holds the edge's private key, so that clients recognise the edge after a restart.
//!
//! It is text: lines that begin with `#`, and one line with `secp256k1` and the key as 64 hexadecimal digits. An existing file that is
//! invalid is never replaced: clients would take the edge for another one.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use voltlane_core::keys::KeyPair;
use zeroize::Zeroizing;

use crate::config::Fault;
use crate::disk::{self, Readers};

const ALGORITHM: &str = "secp256k1";

/// The file that is written has about 200 bytes.
const MAX_FILE_BYTES: usize = 1_024;

const ALL_OF_OTHERS: u32 = 0o007;
const WRITE_OF_GROUP: u32 = 0o020;
const READ_OF_GROUP: u32 = 0o040;

const EXPOSED: &str = "others may read or write it";
const CLOSE: &str = "make it mode 0600, or 0640 for its group to read it";
/// A warning, of `check` and of a start.
pub(crate) const READABLE_BY_GROUP: &str = "the group of the key file may read the key";

/// Why there is no key. The error never reveals anything of the file's content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be read.
    #[error("{path}: cannot be read: {reason}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        reason: String,
    },
    /// The file cannot be written.
    #[error("{path}: does not exist and cannot be written: {reason}", path = path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        reason: String,
    },
    /// The path is not a file, and reading it might never end.
    #[error("{path}: this is {kind}", path = path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// The kind of thing that is there.
        kind: &'static str,
    },
    /// Everybody can read the file and so knows the key, or its group can replace it.
    #[error("{path}: {EXPOSED} (mode {mode:04o}); {CLOSE}", path = path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file is truncated, of another algorithm, or another kind of file.
    #[error("{path}: there is no {ALGORITHM} key in it as an edge writes it", path = path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
}

impl KeyFileError {
    /// Returns the error as a fault of the configuration that names the file.
    pub(crate) fn fault(&self) -> Fault {
        match self {
            KeyFileError::Exposed { path, mode } => {
                let path = path.display();
                Fault::new(format!("{path}: {EXPOSED} (mode {mode:04o})")).remedy(CLOSE)
            }
            other => Fault::new(other.to_string()),
        }
    }
}

/// Returns the key in the file `path`, or a new one from `make`. The new key is stored in `path`; without a `path` it is forgotten at the
/// end of the process.
///
/// # Errors
/// The file cannot be read or written, may be read by everybody, or contains something else. It is left as it is.
pub fn load_or_make_key(
    path: Option<&Path>,
    make: impl FnOnce() -> KeyPair,
) -> Result<KeyPair, KeyFileError> {
    let Some(path) = path else { return Ok(make()) };
    if let Some(key) = read_key(path)? {
        return Ok(key);
    }
    let unwritable = |reason: String| KeyFileError::Unwritable {
        path: path.to_owned(),
        reason,
    };
    disk::write_new(path, text_of(&make()).as_bytes(), Readers::Owner)
        .map_err(|error| unwritable(error.to_string()))?;
    // The contents of the file count: another process may have been faster.
    read_key(path)?.ok_or_else(|| unwritable("it is not there after it was written".into()))
}

/// Returns whether a start could create the missing file `path`. Writes nothing.
///
/// # Errors
/// Its directory is missing, read-only, or not ours to write to.
pub fn can_make(path: &Path) -> Result<(), KeyFileError> {
    disk::can_write_new(path).map_err(|error| KeyFileError::Unwritable {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// Returns the key in the file `path`, or `None` if there is no such file.
///
/// # Errors
/// The file cannot be read, may be read by everybody, or contains something else. A file that its group may read is accepted: a Kubernetes
/// Secret with an fsGroup is one, and its mode cannot be changed.
pub fn read_key(path: &Path) -> Result<Option<KeyPair>, KeyFileError> {
    let unreadable = |error: std::io::Error| {
        let (path, reason) = (path.to_owned(), error.to_string());
        KeyFileError::Unreadable { path, reason }
    };
    match std::fs::metadata(path) {
        // A dangling link counts as existing.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !path.is_symlink() => {
            return Ok(None);
        }
        Err(error) => return Err(unreadable(error)),
        Ok(metadata) => {
            if let Some(kind) = disk::kind_unless_file(&metadata) {
                let path = path.to_owned();
                return Err(KeyFileError::NotAFile { path, kind });
            }
            let mode = mode_of(&metadata);
            if mode & (ALL_OF_OTHERS | WRITE_OF_GROUP) != 0 {
                let path = path.to_owned();
                return Err(KeyFileError::Exposed { path, mode });
            }
        }
    }
    // Has room for everything, since growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * MAX_FILE_BYTES));
    let is_whole = disk::read_at_most(MAX_FILE_BYTES, path, &mut bytes).map_err(unreadable)?;
    let key = std::str::from_utf8(&bytes)
        .ok()
        .filter(|_| is_whole)
        .and_then(key_in);
    key.map(Some).ok_or_else(|| KeyFileError::NotAKey {
        path: path.to_owned(),
    })
}

/// Returns the mode of the file `path` if its group may read it, which is worth a warning.
#[must_use]
pub fn mode_for_group(path: &Path) -> Option<u32> {
    let mode = mode_of(&std::fs::metadata(path).ok()?);
    (mode & READ_OF_GROUP != 0).then_some(mode)
}

#[cfg(unix)]
fn mode_of(metadata: &std::fs::Metadata) -> u32 {
    std::os::unix::fs::MetadataExt::mode(metadata) & 0o777
}

/// On other systems it is unknown who may read it.
#[cfg(not(unix))]
fn mode_of(_metadata: &std::fs::Metadata) -> u32 {
    0
}

fn text_of(key: &KeyPair) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(MAX_FILE_BYTES));
    text.push_str("# The private key of a Voltlane edge. Who has it can pose as the edge. Keep it, and keep it secret.\n");
    text.push_str(ALGORITHM);
    text.push(' ');
    for byte in key.to_bytes().iter() {
        // Writing to a String never fails.
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\n');
    text
}

fn key_in(text: &str) -> Option<KeyPair> {
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let digits = lines
        .next()?
        .strip_prefix(ALGORITHM)?
        .strip_prefix(' ')?
        .trim_start()
        .as_bytes();
    if digits.len() != 64 || lines.next().is_some() {
        return None;
    }
    let mut bytes = Zeroizing::new([0; 32]);
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |index: usize| char::from(pair[index]).to_digit(16);
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    KeyPair::from_bytes(&bytes).ok()
}
