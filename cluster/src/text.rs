//! Texts of servers.

/// Cuts a text of a server, and leaves out what steers a terminal.
pub(crate) fn plain(text: &str) -> String {
    let is_plain = |c: &char| c.is_ascii_graphic() || *c == ' ';
    text.chars().filter(is_plain).take(200).collect()
}

/// Returns the first three numbers of a version.
pub(crate) fn parts_of(version: &str) -> Option<[u64; 3]> {
    let parts = version.split(['.', '-']).take(3);
    let parts: Option<Vec<u64>> = parts.map(|part| part.parse().ok()).collect();
    parts?.try_into().ok()
}
