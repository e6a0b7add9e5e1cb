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
        "cluster",
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

/// Sections in which there is no rule for the code, or none yet.
const WITHOUT_CODE: &[(&str, &str)] = &[
    ("1", "terms"),
    ("12", "a summary of errors that other sections define"),
    ("13", "considerations"),
    ("14", "the published edge"),
    ("15", "worked examples: core/tests/spec_examples.rs"),
    ("17", "references"),
    ("18", "the status and the terms of version 3"),
    ("28", "a summary of errors that other sections define"),
    ("29", "considerations"),
    ("30", "worked examples: core/tests/spec_examples_v3.rs"),
    ("31", "pitfalls of other implementations"),
    ("32", "a client in pseudo-code"),
    (
        "33",
        "the status and the terms of version 3 of the backend link",
    ),
    (
        "38",
        "errors, bounds and examples of version 3 of the backend link",
    ),
];

/// Returns the citations in a source: `SPEC 5`, or several as in `SPEC 5.3(b), 6.4`.
fn citations(source: &str) -> Vec<&str> {
    let mut all = Vec::new();
    for (start, found) in source.match_indices("SPEC ") {
        let text = &source[start + found.len()..];
        let mut text = text.strip_prefix("section ").unwrap_or(text);
        while let Some(place) = citation(text) {
            all.push(place);
            text = &text[place.len()..];
            let next = [", ", " and ", " to "];
            let Some(rest) = next.iter().find_map(|next| text.strip_prefix(next)) else {
                break;
            };
            text = rest;
        }
    }
    all
}

/// A search for `SPEC 5.3` in the sources leads to the code of each section.
#[test]
fn the_code_of_every_section_cites_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for directory in [
        "core/src",
        "driver/src",
        "doors/src",
        "cluster/src",
        "app/src",
    ] {
        rust_files(&root.join(directory), &mut files);
    }
    let is_test = |file: &PathBuf| file.components().any(|part| part.as_os_str() == "tests");
    files.retain(|file| !is_test(file));
    let sources: Vec<_> = files
        .iter()
        .map(|file| fs::read_to_string(file).expect("UTF-8"))
        .collect();
    let cited: BTreeSet<&str> = sources
        .iter()
        .flat_map(|source| citations(source))
        .map(|place| place.split('(').next().unwrap_or(place))
        .collect();
    let numbers: Vec<_> = headings().into_iter().map(|(number, _)| number).collect();
    let chapter = |number: &str| number.split('.').next().map(str::to_owned);
    let mut missing = Vec::new();
    for number in numbers
        .iter()
        .filter(|number| number.starts_with(|c: char| c.is_ascii_digit()))
    {
        let is_divided = numbers
            .iter()
            .any(|other| other.starts_with(&format!("{number}.")));
        let has_no_code = WITHOUT_CODE
            .iter()
            .any(|(other, _)| chapter(number).as_deref() == Some(*other));
        if !is_divided && !has_no_code && !cited.contains(number) {
            missing.push(number);
        }
    }
    assert!(missing.is_empty(), "no code cites SPEC {missing:?}");
    let known = |number: &str| numbers.contains(&number);
    assert!(WITHOUT_CODE.iter().all(|(number, _)| known(number)));
}

/// The map in `core/src/edge/lifecycle/mod.rs` names every file once, with sections that the file cites.
#[test]
fn the_map_of_the_rules_of_the_edge_is_true() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/edge/lifecycle");
    let map = fs::read_to_string(directory.join("mod.rs")).expect("UTF-8");
    let mut files = Vec::new();
    rust_files(&directory, &mut files);
    let mut unnamed: BTreeSet<_> = files
        .iter()
        .filter_map(|file| file.file_name()?.to_str())
        .filter(|name| *name != "mod.rs")
        .collect();
    for row in map.lines().filter(|line| line.starts_with("//! | `")) {
        let columns: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, names, _, sections, _] = columns[..] else {
            panic!("{row} has not three columns");
        };
        let mut sources = String::new();
        for name in names.split('`').skip(1).step_by(2) {
            assert!(unnamed.remove(name), "{name} is no file, or in two rows");
            sources += &fs::read_to_string(directory.join(name)).expect("UTF-8");
        }
        let cited = citations(&sources);
        for section in sections.split(", ").flat_map(|some| some.split(" to ")) {
            let is_part = |place: &&str| {
                let rest = place.strip_prefix(section);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['(', '.']))
            };
            assert!(
                cited.iter().any(is_part),
                "{names} cite no SPEC {section}, as the map says"
            );
        }
    }
    assert!(unnamed.is_empty(), "the map lacks {unnamed:?}");
}

/// The files and the names in ARCHITECTURE.md are those of the sources.
#[test]
fn what_the_architecture_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).expect("UTF-8");
    let mut files = Vec::new();
    for directory in [
        "core/src",
        "driver/src",
        "doors/src",
        "cluster/src",
        "app/src",
        "reactor/src",
    ] {
        rust_files(&root.join(directory), &mut files);
    }
    let sources: String = files
        .iter()
        .map(|file| fs::read_to_string(file).expect("UTF-8"))
        .collect();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let is_defined = |name: &str| {
        ["fn", "struct", "enum", "trait", "mod"].iter().any(|kind| {
            let found = format!("{kind} {name}");
            let mut at = sources.match_indices(&found);
            at.any(|(at, _)| !sources[at + found.len()..].starts_with(is_word))
        })
    };
    let mut checked = 0;
    for code in text.split('`').skip(1).step_by(2) {
        let is_path = code.contains('/') || code.ends_with(".rs");
        let is_name = code
            .split("::")
            .all(|part| !part.is_empty() && part.chars().all(is_word));
        if is_path && !code.contains(' ') {
            let places = ["", "core/src", "core/src/edge"];
            let exists = places
                .iter()
                .any(|place| root.join(place).join(code).exists());
            assert!(exists, "ARCHITECTURE.md names {code}, which is no file");
        } else if is_name {
            let name = code.rsplit("::").next().expect("a name");
            let exists = is_defined(name) || root.join(name).exists() || name == "voltlane";
            assert!(
                exists,
                "ARCHITECTURE.md names {code}, which is not in the sources"
            );
        } else {
            continue;
        }
        checked += 1;
    }
    assert!(checked > 60, "only {checked} names were found");
}
