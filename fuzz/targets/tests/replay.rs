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

type Run = fn(&[u8]) -> Counters;

/// The corpora of the two edge machines reach every reason. Otherwise a rule could hold only because nothing tests it.
#[test]
fn the_corpora_of_the_edge_reach_every_reason() {
    let mut missing: BTreeSet<_> = reasons(&Counters::default())
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let runs: [(&str, Run); 2] = [
        ("edge_machine", fuzz_targets::edge::run),
        ("v3_edge", fuzz_targets::v3_edge::run),
    ];
    for (target, run) in runs {
        for input in corpus(target) {
            for (name, count) in reasons(&run(&input)) {
                if count > 0 {
                    missing.remove(&name);
                }
            }
        }
    }
    // No listener of these worlds has limits of its own, no operator bans anybody, and there is one backend.
    let others = [
        "reject listener_too_fast",
        "reject listener_too_many",
        "reject banned",
        "close moved",
    ];
    assert_eq!(missing, BTreeSet::from(others.map(str::to_owned)));
}

/// The reasons that an input of the edge with clients of version 3 reaches, with how often.
fn reached(input: &[u8]) -> BTreeSet<(String, u32)> {
    let counts = reasons(&fuzz_targets::v3_edge::run(input));
    let counts = counts.into_iter().filter(|(_, count)| *count > 0);
    counts.map(|(name, count)| (name, count.ilog2())).collect()
}

/// `cargo test -p fuzz-targets -- --ignored` writes a small corpus for `v3_edge`: inputs from nowhere and changed ones, each of which reaches
/// something more often than those before.
#[test]
#[ignore = "a tool: it writes to the corpus"]
fn a_corpus_is_found() {
    let directory = fuzz_directory().join("corpus/v3_edge");
    fs::create_dir_all(&directory).expect("a directory");
    let mut kept = corpus("v3_edge");
    let mut seen: BTreeSet<_> = kept.iter().flat_map(|input| reached(input)).collect();
    let seconds = std::env::var("SECONDS_TO_SEARCH").map_or(30, |text| text.parse().unwrap_or(30));
    let begin = std::time::Instant::now();
    for seed in 0_u64.. {
        if begin.elapsed().as_secs() >= seconds {
            println!("{seed} runs, {} inputs, {seen:?}", kept.len());
            return;
        }
        let noise = bytes_of(seed, 600);
        let mut input = noise.clone();
        if seed % 4 > 0 && !kept.is_empty() {
            input.clone_from(&kept[usize::from(noise[0]) * 7 % kept.len()]);
            for change in noise[1..].chunks(4).take(1 + usize::from(noise[5] % 24)) {
                let at = (usize::from(change[0]) << 8 | usize::from(change[1])) % (input.len() + 1);
                match change[2] % 3 {
                    0 if at < input.len() => input[at] = change[3],
                    1 => input.insert(at, change[3]),
                    _ => input.truncate(at.max(40)),
                }
            }
            input.extend_from_slice(&noise[100..100 + usize::from(noise[99])]);
            input.truncate(1_200);
        }
        let found = reached(&input);
        if !found.is_subset(&seen) {
            seen.extend(found);
            let name = format!("seed-{seed:x}-{}", kept.len());
            fs::write(directory.join(name), &input).expect("it can be written");
            kept.push(input);
        }
    }
}
