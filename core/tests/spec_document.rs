//! SPEC.txt as a document: its form, its table of contents, and that every citation of it exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const SPEC: &str = include_str!("../../SPEC.txt");
const COLUMNS: usize = 72;

/// `2.  Framing`, `2.1.  The frame` or `Appendix A.  Constants` at the start of a line: its number and its title.
fn heading(line: &str) -> Option<(&str, &str)> {
    let (number, title) = line.split_once(". ")?;
    let numeric = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit() || c == '.');
    (numeric || number.starts_with("Appendix ")).then(|| (number, title.trim()))
}

fn headings() -> Vec<(&'static str, &'static str)> {
    SPEC.lines().filter_map(heading).collect()
}

/// Returns every citable place: `5`, `5.3`, `5.3(b)`.
fn places() -> BTreeSet<String> {
    let mut section = "";
    let mut places = BTreeSet::new();
    for line in SPEC.lines() {
        if let Some((number, _)) = heading(line) {
            section = number;
            places.insert(number.to_owned());
        }
        let letter = line
            .strip_prefix("   (")
            .and_then(|rest| rest.split_once(")  "));
        if let Some((letter, _)) = letter.filter(|(letter, _)| letter.len() == 1) {
            let new = places.insert(format!("{section}({letter})"));
            assert!(new, "{section}({letter}) is there twice");
        }
    }
    places
}

/// The longest citation at the start of `text`: digits, perhaps `.digits`, perhaps `(letter)`.
fn citation(text: &str) -> Option<&str> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let mut end = digits(text);
    if end == 0 {
        return None;
    }
    if text[end..].starts_with('.') {
        let more = digits(&text[end + 1..]);
        end += if more > 0 { more + 1 } else { 0 };
    }
    let letter = text.as_bytes().get(end..end + 3);
    if letter.is_some_and(|l| l[0] == b'(' && l[1].is_ascii_lowercase() && l[2] == b')') {
        end += 3;
    }
    Some(&text[..end])
}

fn rust_files(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory of this repository") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("target") {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn it_is_plain_ascii_of_72_columns() {
    for (index, line) in SPEC.lines().enumerate() {
        let number = index + 1;
        assert!(line.is_ascii(), "line {number} is not ASCII: {line}");
        assert!(
            line.len() <= COLUMNS,
            "line {number} has {} columns",
            line.len()
        );
        assert_eq!(line.trim_end(), line, "line {number} ends in blanks");
    }
}

#[test]
fn its_table_of_contents_lists_its_headings_in_order() {
    let (_, rest) = SPEC
        .split_once("Table of Contents\n")
        .expect("a table of contents");
    let (table, _) = rest.split_once("\n1.  ").expect("a first section");
    let listed: Vec<_> = table
        .lines()
        .filter_map(|line| heading(line.trim_start()))
        .collect();
    // The table of contents does not list the examples' sections.
    let headings: Vec<_> = headings()
        .into_iter()
        .filter(|(number, _)| {
            !["15.", "30."]
                .iter()
                .any(|examples| number.starts_with(examples))
        })
        .collect();
    assert_eq!(listed, headings);
}

#[test]
fn letters_of_a_section_run_without_a_gap() {
    let places = places();
    for place in &places {
        let Some((section, letter)) = place.split_once('(') else {
            continue;
        };
        let letter = letter.as_bytes()[0];
        let before = format!("{section}({})", char::from(letter - 1));
        assert!(
            letter == b'a' || places.contains(&before),
            "{place} without {before}"
        );
    }
}

#[test]
fn its_citations_of_itself_exist() {
    let places = places();
    let mut cited = 0;
    for (start, _) in SPEC.match_indices(['(', ' ']) {
        let Some(place) = citation(&SPEC[start + 1..]).filter(|place| place.contains('(')) else {
            continue;
        };
        cited += 1;
        assert!(
            places.contains(place),
            "SPEC.txt cites {place}, which is not there"
        );
    }
    assert!(
        cited > 30,
        "only {cited} citations found: the search is broken"
    );
}

#[test]
fn citations_in_the_sources_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for directory in [
        "core",
        "driver",
        "app",
        "reactor",
        "runtime-tokio",
        "runtime-smol",
        "sim",
        "benches",
        "conformance",
        "fuzz",
    ] {
        rust_files(&root.join(directory), &mut files);
    }
    let places = places();
    for file in files {
        let source = fs::read_to_string(&file).expect("UTF-8");
        for (start, found) in source.match_indices("SPEC ") {
            let text = &source[start + found.len()..];
            let text = text.strip_prefix("section ").unwrap_or(text);
            if let Some(place) = citation(text) {
                let line = source[..start].lines().count();
                assert!(
                    places.contains(place),
                    "{}:{line} cites SPEC {place}",
                    file.display()
                );
            }
        }
    }
}
