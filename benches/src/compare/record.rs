//! Writes the tables of a comparison into documents, so that their figures are always those of one run.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::{Comparison, RATIOS, how};
use crate::load::process::Placement;

/// How the figures were taken.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// The time of each measurement.
    pub measure: Duration,
    /// The number of measurements, whose median counts.
    pub rounds: usize,
    /// The processors of the machine.
    pub processors: usize,
}

/// Replaces the tables in the document at `path` that the comparison has rows for.
///
/// A table is between the lines `<!-- compare: shared -->` and `<!-- /compare: shared -->`, or `apart` for the other placement.
///
/// # Errors
/// When the file cannot be read or written, or has neither of the tables.
pub fn write(path: &Path, comparison: &Comparison, run: Run) -> io::Result<()> {
    let before = fs::read_to_string(path)?;
    let mut text = before.clone();
    let mut found = false;
    for placement in [Placement::Shared, Placement::Apart] {
        if comparison.has(placement) {
            let table = section(comparison, placement, run);
            if let Some(changed) = replaced(&text, name(placement), &table) {
                (text, found) = (changed, true);
            }
        }
    }
    if !found {
        let text = format!("{} has no place for these tables", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    if text != before {
        fs::write(path, text)?;
    }
    Ok(())
}

const fn name(placement: Placement) -> &'static str {
    match placement {
        Placement::Shared => "shared",
        Placement::Apart => "apart",
    }
}

fn section(comparison: &Comparison, placement: Placement, run: Run) -> String {
    let wrong: u64 = comparison.rows(placement).map(|row| row.wrong).sum();
    format!(
        "{} {RATIOS}\n`compare --seconds {} --rounds {}` on {} processors, the median of the rounds, {wrong} packets wrong:\n\n{}",
        how(placement),
        run.measure.as_secs(),
        run.rounds,
        run.processors,
        comparison.table_of(placement),
    )
}

/// Returns `text` with `table` between the marks, or `None` if it has no such marks.
fn replaced(text: &str, name: &str, table: &str) -> Option<String> {
    let (begins, ends) = (
        format!("<!-- compare: {name} -->\n"),
        format!("<!-- /compare: {name} -->"),
    );
    let (before, rest) = text.split_once(&begins)?;
    let (_, behind) = rest.split_once(&ends)?;
    Some(format!("{before}{begins}\n{table}\n{ends}{behind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str =
        "a\n<!-- compare: shared -->\nold\n<!-- /compare: shared -->\nb\n<!-- compare: apart -->\n";

    #[test]
    fn a_table_takes_the_place_of_the_one_before() {
        let changed = replaced(DOCUMENT, "shared", "new\n").unwrap();
        let between = "a\n<!-- compare: shared -->\n\nnew\n\n<!-- /compare: shared -->\nb\n";
        assert!(changed.starts_with(between), "{changed}");
        assert_eq!(replaced(&changed, "shared", "new\n").unwrap(), changed);
    }

    #[test]
    fn a_document_without_both_marks_stays_as_it_is() {
        assert_eq!(replaced(DOCUMENT, "apart", "new"), None);
        assert_eq!(replaced("", "shared", "new"), None);
    }

    #[test]
    fn both_documents_have_their_places() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for (file, name) in [
            ("../README.md", "shared"),
            ("README.md", "shared"),
            ("README.md", "apart"),
        ] {
            let text = fs::read_to_string(root.join(file)).unwrap();
            assert!(replaced(&text, name, "").is_some(), "{file}: {name}");
        }
    }
}
