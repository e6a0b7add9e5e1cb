//! A file with a secret on one line: the token of the admin interface, or that of the link to the backend.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use zeroize::Zeroizing;

/// The minimum length of a secret, in bytes.
pub(crate) const MIN_BYTES: usize = 32;
/// The maximum length.
pub(crate) const MAX_BYTES: usize = 512;

/// Reads the secret in a file, without white space around it. `what` names it, and `maker` is a command that makes one.
///
/// # Errors
/// When the file cannot be read, others than its owner and its group may use it, or its content is no secret. No error quotes the content.
pub(crate) fn read(path: &Path, what: &str, maker: &str) -> io::Result<Zeroizing<String>> {
    read_of(path, MIN_BYTES, |least| {
        format!(
            "{what} has {least} to {MAX_BYTES} printable characters on one line; `{maker}` makes one"
        )
    })
}

/// Like [`read`], for a secret of at least so many bytes that others make. `rule` says what it is to be.
///
/// # Errors
/// As above.
pub(crate) fn read_of(
    path: &Path,
    least: usize,
    rule: impl FnOnce(usize) -> String,
) -> io::Result<Zeroizing<String>> {
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut file = fs::File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(wrong("it is not a file".into()));
    }
    if metadata.mode() & 0o007 != 0 {
        let mode = metadata.mode() & 0o777;
        return Err(wrong(format!(
            "others may use it (mode {mode:04o}); make it mode 0600 or 0640"
        )));
    }
    let mut text = Zeroizing::new(String::with_capacity(2 * MAX_BYTES));
    file.by_ref()
        .take(2 * MAX_BYTES as u64)
        .read_to_string(&mut text)?;
    let secret = text.trim();
    let is_graphic = secret.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_graphic || !(least..=MAX_BYTES).contains(&secret.len()) {
        return Err(wrong(rule(least)));
    }
    Ok(Zeroizing::new(secret.to_owned()))
}
