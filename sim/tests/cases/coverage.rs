//! Checks what the cases cover: every row of BAD-INPUT, and every section of SPEC.txt that prescribes behaviour.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sim::cases::{Case, all, of_clients, of_clients_of_3};

/// The rows of BAD-INPUT: clients' frames, handshake and resume, cryptography, the backend.
const ROWS: [(char, u32); 4] = [('F', 15), ('H', 14), ('C', 8), ('K', 13)];
/// The rows about configuration and operation, which concern a process. Tests of the programs cover them.
const ROWS_OF_A_PROCESS: u32 = 11;

fn everything() -> Vec<Case> {
    let mut cases = all();
    cases.extend(of_clients());
    cases.extend(of_clients_of_3());
    cases
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the sections `2.1` to `10.8` of SPEC.txt, and `19.1` to `27.3`.
fn sections() -> BTreeSet<String> {
    let spec = fs::read_to_string(repository().join("SPEC.txt")).expect("the document");
    let number = |line: &str| {
        let (number, _) = line.split_once(".  ")?;
        let (chapter, section) = number.split_once('.')?;
        let chapter: u32 = chapter.parse().ok()?;
        section.parse::<u32>().ok()?;
        let prescribes = (2..=10).contains(&chapter) || (19..=27).contains(&chapter);
        prescribes.then(|| number.to_owned())
    };
    spec.lines().filter_map(number).collect()
}

#[test]
fn there_are_250_and_more_with_numbers_of_their_own() {
    let mut seen = BTreeSet::new();
    for case in everything() {
        assert!(seen.insert(case.id.clone()), "{} is there twice", case.id);
        assert!(!case.spec.is_empty(), "{} names no section", case.id);
        assert!(!case.steps.is_empty(), "{} does nothing", case.id);
    }
    assert!(seen.len() >= 250, "{}", seen.len());
}

#[test]
fn there_are_200_and_more_of_version_3_for_both_sides() {
    let of_edges = all().iter().filter(|case| case.of_3).count();
    let of_clients = of_clients_of_3().len();
    assert!(of_edges >= 180, "{of_edges}");
    assert!(of_clients >= 100, "{of_clients}");
}

#[test]
fn every_section_that_prescribes_behaviour_has_a_case() {
    let held: BTreeSet<String> = everything()
        .iter()
        .flat_map(|case| &case.spec)
        .map(|cited| cited.split('(').next().unwrap_or_default().to_owned())
        .collect();
    let sections = sections();
    assert!(sections.len() > 50, "{sections:?}");
    let missing: Vec<_> = sections.difference(&held).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
}

#[test]
fn cited_sections_exist() {
    let spec = fs::read_to_string(repository().join("SPEC.txt")).expect("the document");
    let (mut section, mut places) = (String::new(), BTreeSet::new());
    for line in spec.lines() {
        if let Some((number, _)) = line.split_once(".  ")
            && !number.is_empty()
            && number.chars().all(|c| c.is_ascii_digit() || c == '.')
        {
            section = number.to_owned();
            places.insert(section.clone());
        }
        if let Some(rest) = line.strip_prefix("   (")
            && rest[1..].starts_with(")  ")
        {
            places.insert(format!("{section}({})", &rest[..1]));
        }
    }
    for case in everything() {
        for cited in &case.spec {
            assert!(places.contains(cited), "{}: there is no {cited}", case.id);
        }
    }
}

#[test]
fn every_row_of_bad_input_has_a_case() {
    let held: BTreeSet<String> = everything()
        .into_iter()
        .flat_map(|case| case.rows)
        .collect();
    for (letter, last) in ROWS {
        for number in 1..=last {
            let row = format!("{letter}{number}");
            assert!(held.contains(&row), "no case for {row}");
        }
    }
    let mut texts = String::new();
    for directory in ["app/tests", "app/tests/cases", "conformance/scenarios"] {
        for entry in fs::read_dir(repository().join(directory)).expect("tests") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                texts += &fs::read_to_string(path).expect("text");
            }
        }
    }
    let words: BTreeSet<&str> = texts.split(|c: char| !c.is_alphanumeric()).collect();
    for number in 1..=ROWS_OF_A_PROCESS {
        let row = format!("G{number}");
        assert!(
            words.contains(row.as_str()),
            "no test of a process names {row}"
        );
    }
}
