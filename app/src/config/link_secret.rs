//! The secret of the link to the backend (SPEC 34.5), in the file that `master.token_file` names.

use std::path::{Path, PathBuf};

use voltlane_core::link::v3::LinkSecret;

use super::keys::Master;
use super::problem::Fault;
use crate::secret_file;

/// Reads the secret of the link, if it is to have one. A relative path begins at `directory`.
///
/// # Errors
/// The path, and what is wrong with the file. No error quotes its content.
pub(crate) fn read(directory: &Path, master: &Master) -> Result<Option<LinkSecret>, Wrong> {
    let Some(shown) = &master.token_file else {
        return Ok(None);
    };
    let path = directory.join(shown);
    let wrong = |what: String| Wrong {
        path: path.clone(),
        what,
    };
    let text = secret_file::read(&path, "the secret of the link", "openssl rand -hex 32");
    let text = text.map_err(|error| wrong(error.to_string()))?;
    let secret = LinkSecret::new(text.as_bytes()).map_err(|error| wrong(error.to_string()))?;
    Ok(Some(secret))
}

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
#[error("master.token_file {}: {what}", path.display())]
pub(crate) struct Wrong {
    path: PathBuf,
    what: String,
}

impl Wrong {
    /// Returns it as a fault of the configuration, which names the key.
    pub(super) fn fault(&self) -> Fault {
        Fault::new(format!("{}: {}", self.path.display(), self.what))
    }
}
