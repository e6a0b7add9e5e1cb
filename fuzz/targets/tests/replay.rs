//! Replays every input of the committed corpora through its target, and random inputs through all of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use fuzz_targets::TARGETS;
use voltlane_core::edge::{CloseReason, Counters, EndReason, Rejected};

fn fuzz_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the names in a directory, sorted.
fn names(directory: &Path) -> Vec<String> {
    let entries =
        fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut names: Vec<_> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    names.sort();
    names
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = fuzz_directory().join("corpus").join(target);
    names(&directory)
        .iter()
        .map(|name| fs::read(directory.join(name)).expect("it can be read"))
        .collect()
}

#[test]
fn each_target_has_a_program_and_a_corpus() {
    let targets: BTreeSet<_> = TARGETS
        .iter()
        .map(|target| target.name.to_owned())
        .collect();
    let programs = names(&fuzz_directory().join("fuzz_targets"));
    let programs: BTreeSet<_> = programs
        .iter()
        .map(|name| name.strip_suffix(".rs").expect("a program").to_owned())
        .collect();
    assert_eq!(programs, targets);
    let manifest = fs::read_to_string(fuzz_directory().join("Cargo.toml")).expect("it is there");
    for target in &targets {
        assert!(manifest.contains(&format!(
            "name = \"{target}\"\npath = \"fuzz_targets/{target}.rs\""
        )));
    }
    let corpora: BTreeSet<_> = names(&fuzz_directory().join("corpus"))
        .into_iter()
        .collect();
    assert_eq!(corpora, targets);
}

#[test]
fn the_corpora_break_no_rule() {
    for target in TARGETS {
        let inputs = corpus(target.name);
        assert!(!inputs.is_empty(), "{}", target.name);
        for input in inputs {
            (target.run)(&input);
        }
    }
}

/// Generates bytes from a number with SplitMix64: any generator would do that gives the same everywhere.
fn bytes_of(seed: u64, length: usize) -> Vec<u8> {
    (0..length as u64)
        .map(|at| {
            let mut z = (seed << 32 | at).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            (z >> 56) as u8
        })
        .collect()
}

#[test]
fn bytes_from_nowhere_break_no_rule() {
    for target in TARGETS {
        for seed in 0..300 {
            (target.run)(&bytes_of(seed, (seed as usize * 7) % 900));
        }
    }
}

/// Lists every reason of every kind with its count.
fn reasons(counters: &Counters) -> Vec<(String, u64)> {
    let rejects = Rejected::ALL
        .iter()
        .map(|reason| format!("reject {}", reason.name()));
    let closes = CloseReason::ALL
        .iter()
        .map(|reason| format!("close {}", reason.name()));
    let ends = EndReason::ALL
        .iter()
        .map(|reason| format!("end {}", reason.name()));
    let mut all: Vec<_> = rejects.zip(counters.rejected).collect();
    all.extend(closes.zip(counters.closed));
    all.extend(ends.zip(counters.ended));
    let others = [
        ("resumed", counters.resumed),
        ("takeovers", counters.takeovers),
        ("packets up", counters.packets_up),
        ("packets down", counters.packets_down),
        ("unknown client", counters.unknown_client),
        ("malformed", counters.malformed_down),
        ("paced", counters.paced),
        ("link violations", counters.link_violations),
    ];
    all.extend(others.map(|(name, count)| (name.to_owned(), count)));
    all
}

/// Reasons that only a client of version 3 has, or a door reports. The world of this target has neither. The edge's version 3 has tests in
/// core; the targets `v3_*` cover its packets and the client.
const OF_OTHERS: [&str; 12] = [
    "close bad_claim",
    "close bad_record",
    "close bad_transport",
    "close no_early_record",
    "close parked",
    "close peer_error",
    "close protocol_error",
    "close refused",
    "close silent",
    "end goodbye",
    "end numbers_do_not_fit",
    "end packet_too_long",
];

/// The corpus of the edge machine reaches every other reason. Otherwise a rule could hold only because nothing tests it.
#[test]
fn the_corpus_of_the_edge_reaches_every_reason_of_version_2() {
    let mut missing: BTreeSet<_> = reasons(&Counters::default())
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    for input in corpus("edge_machine") {
        for (name, count) in reasons(&fuzz_targets::edge::run(&input)) {
            if count > 0 {
                missing.remove(&name);
            }
        }
    }
    let others: BTreeSet<_> = OF_OTHERS.map(String::from).into();
    assert_eq!(missing, others, "never reached");
}
