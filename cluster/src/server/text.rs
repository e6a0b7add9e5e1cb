//! Texts of servers, and about them.

use crate::engine::EngineError;

/// Cuts a text of a server, and leaves out what steers a terminal.
pub(crate) fn plain(text: &str) -> String {
    let is_plain = |c: &char| c.is_ascii_graphic() || *c == ' ';
    text.chars().filter(is_plain).take(200).collect()
}

pub(crate) fn nonsense(why: &str) -> EngineError {
    EngineError::Nonsense(why.to_owned())
}

/// Checks the version of a server, which `place` has.
pub(crate) fn check_version(
    version: &str,
    oldest: &'static str,
    place: &str,
) -> Result<(), EngineError> {
    match parts_of(version) {
        None => Err(nonsense(&format!("{place} has no version"))),
        found if found < parts_of(oldest) => Err(EngineError::TooOld {
            found: plain(version),
            needed: oldest,
        }),
        Some(_) => Ok(()),
    }
}

/// Returns the first three numbers of a version.
fn parts_of(version: &str) -> Option<[u64; 3]> {
    let parts = version.split(['.', '-']).take(3);
    let parts: Option<Vec<u64>> = parts.map(|part| part.parse().ok()).collect();
    parts?.try_into().ok()
}
