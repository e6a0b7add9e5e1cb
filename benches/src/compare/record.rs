//! Writes the tables of a comparison into documents, so that their figures are always those of one run.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::rows::Metric;
use super::{Comparison, RATIOS, how};
use crate::circumstances::Circumstances;
use crate::load::process::Placement;

/// Checks that the document at `path` has a place for a table with this placement or another, before much time is spent on figures.
///
/// # Errors
/// When the file cannot be read, or has no such place.
pub fn check(path: &Path, placements: &[Placement]) -> io::Result<()> {
    let text = fs::read_to_string(path)?;
    let has_place = |placement: &Placement| replaced(&text, name(*placement), "").is_some();
    if placements.iter().any(has_place) {
        return Ok(());
    }
    Err(no_place(path))
}

fn no_place(path: &Path) -> io::Error {
    let text = format!("{} has no place for these tables", path.display());
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Replaces the tables in the document at `path` that the comparison has rows for.
///
/// A table is between the lines `<!-- compare: shared -->` and `<!-- /compare: shared -->`, or `apart` for the other placement.
///
/// # Errors
/// When the file cannot be read or written, or has neither of the tables.
pub fn write(
    path: &Path,
    comparison: &Comparison,
    circumstances: &Circumstances,
) -> io::Result<()> {
    let before = fs::read_to_string(path)?;
    let mut text = before.clone();
    let mut found = false;
    for placement in [Placement::Shared, Placement::Apart] {
        if comparison.has(placement) {
            let table = section(comparison, placement, circumstances);
            if let Some(changed) = replaced(&text, name(placement), &table) {
                (text, found) = (changed, true);
            }
        }
    }
    if !found {
        return Err(no_place(path));
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

/// Renders a table, and how its figures were taken.
pub(super) fn section(
    comparison: &Comparison,
    placement: Placement,
    circumstances: &Circumstances,
) -> String {
    let wrong: u64 = comparison.rows(placement).map(|row| row.wrong).sum();
    let mut text = format!(
        "{} {RATIOS} Each figure is {}.",
        how(placement),
        taken(comparison.rounds, comparison.measure)
    );
    if comparison
        .rows(placement)
        .any(|row| row.row.metric == Metric::P99)
    {
        let (rounds, measure) = (comparison.rounds, comparison.measure);
        text += &format!(
            " A p99 is {}, since single ones differ by a factor of ten.",
            taken(Metric::P99.rounds(rounds), Metric::P99.measure(measure)),
        );
    }
    text += &format!(" Packets lost, doubled, out of order or misled: {wrong}.\n\n");
    text += &format!("{circumstances}\n\n{}", comparison.table_of(placement));
    text
}

/// Returns how a figure comes of this number of measurements, each of which takes this long.
fn taken(rounds: usize, measure: Duration) -> String {
    let seconds = measure.as_secs();
    match rounds {
        1 => format!("of one round of {seconds} s"),
        more => format!("the median of {more} rounds of {seconds} s"),
    }
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
    fn one_round_is_no_median() {
        let second = Duration::from_secs(1);
        assert_eq!(taken(1, 2 * second), "of one round of 2 s");
        assert_eq!(taken(9, second), "the median of 9 rounds of 1 s");
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
