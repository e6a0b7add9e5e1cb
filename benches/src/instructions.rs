//! Instructions per packet, counted under callgrind: a figure that is repeatable on a noisy machine, so that CI can check it.
//!
//! Each kind of work runs twice in a process of its own, with few steps and with many. The difference excludes the setup. The count depends
//! on the compiler, not on the machine's speed or load.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::Path;
use std::process::Command;

use crate::work::{self, Kind};

/// How far a count may exceed the committed one before it is a regression: 2 %.
const TOLERANCE: f64 = 0.02;
const FEW_STEPS: u64 = 20;
const MANY_STEPS: u64 = 120;

/// Why counting failed, or why the counts are rejected.
#[derive(Debug, thiserror::Error)]
pub enum CountError {
    /// valgrind could not be started.
    #[error("valgrind is not installed: instructions cannot be counted ({0})")]
    NoValgrind(io::Error),
    /// valgrind ran but did not print a count.
    #[error("valgrind printed no count for {kind}: {said}")]
    NoCount {
        /// The kind of work.
        kind: Kind,
        /// valgrind's output.
        said: String,
    },
    /// The file of committed counts has a line that is not `kind count`.
    #[error("not a line of kind and count: {0}")]
    BadLine(String),
    /// Some counts are above the committed ones.
    #[error("more instructions than committed, beyond {}: {}", percent(TOLERANCE), .0.join(", "))]
    Regressed(Vec<String>),
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Instructions per packet, by the name of the kind.
pub type Counts = BTreeMap<String, f64>;

/// Runs the steps of one kind and nothing else, for callgrind. Returns false if there is no such kind.
pub fn run_steps(kind: &str, steps: u64) -> bool {
    let Some(kind) = work::kinds()
        .into_iter()
        .find(|candidate| candidate.to_string() == kind)
    else {
        return false;
    };
    let mut work = kind.prepare();
    (0..steps).for_each(|_| work.step());
    true
}

/// Counts all kinds, or those whose name contains `part`.
pub fn count(part: &str) -> Result<Counts, CountError> {
    let kinds = work::quick_kinds().into_iter();
    let mut counts = Counts::new();
    for kind in kinds.filter(|kind| kind.to_string().contains(part)) {
        let packets = kind.prepare().packets;
        let (few, many) = std::thread::scope(|scope| {
            let few = scope.spawn(|| count_steps(&kind, FEW_STEPS));
            let many = count_steps(&kind, MANY_STEPS);
            (few.join().expect("counting does not panic"), many)
        });
        let (few, many) = (few?, many?);
        let each = many.saturating_sub(few) as f64 / ((MANY_STEPS - FEW_STEPS) * packets) as f64;
        println!("{:<28} {each:>12.1}", kind.to_string());
        counts.insert(kind.to_string(), each);
    }
    Ok(counts)
}

/// Compares with the committed counts.
///
/// # Errors
/// When a count exceeds the committed one beyond the tolerance, or the file is invalid.
pub fn check(counts: &Counts, committed: &Path) -> Result<(), CountError> {
    let committed = parse(&std::fs::read_to_string(committed)?)?;
    let mut regressed = Vec::new();
    for (kind, count) in counts {
        let Some(&before) = committed.get(kind) else {
            println!("{kind} is new");
            continue;
        };
        if *count > before * (1.0 + TOLERANCE) {
            regressed.push(format!("{kind} {before:.1} → {count:.1}"));
        } else if *count < before * (1.0 - TOLERANCE) {
            println!("{kind} has improved, {before:.1} → {count:.1}: commit the new count");
        }
    }
    if regressed.is_empty() {
        Ok(())
    } else {
        Err(CountError::Regressed(regressed))
    }
}

/// Writes the counts to the file that is committed.
pub fn write(counts: &Counts, path: &Path) -> Result<(), CountError> {
    let mut out = String::from(
        "# instructions per packet (callgrind, release profile): benches instructions --write FILE\n",
    );
    // Counts are comparable only with the same compiler.
    let compiler = Command::new("rustc").arg("--version").output()?;
    let _ = write!(out, "# {}", String::from_utf8_lossy(&compiler.stdout));
    for (kind, count) in counts {
        let _ = writeln!(out, "{kind} {count:.1}");
    }
    Ok(std::fs::write(path, out)?)
}

fn parse(text: &str) -> Result<Counts, CountError> {
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let fields = line
                .split_once(' ')
                .and_then(|(kind, count)| Some((kind.to_owned(), count.parse().ok()?)));
            fields.ok_or_else(|| CountError::BadLine(line.to_owned()))
        })
        .collect()
}

fn count_steps(kind: &Kind, steps: u64) -> Result<u64, CountError> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["steps", &kind.to_string(), &steps.to_string()])
        .output()
        .map_err(CountError::NoValgrind)?;
    let said = String::from_utf8_lossy(&output.stderr);
    parse_callgrind(&said)
        .filter(|_| output.status.success())
        .ok_or_else(|| CountError::NoCount {
            kind: *kind,
            said: said.into_owned(),
        })
}

/// Parses a line such as `==PID== Collected : 123456`.
fn parse_callgrind(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains("Collected : "))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn percent(share: f64) -> String {
    format!("{} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(count: f64) -> Counts {
        [("up/64".to_owned(), count)].into()
    }

    #[test]
    fn beyond_the_tolerance_is_a_regression_and_within_it_is_not() {
        let path = std::env::temp_dir().join(format!("voltlane-counts-{}", std::process::id()));
        write(&counts(100.0), &path).unwrap();
        let checks = [98.0, 102.0, 102.1].map(|count| check(&counts(count), &path).is_ok());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(checks, [true, true, false]);
    }

    #[test]
    fn the_count_is_the_last_word_of_its_line() {
        let said = "==7== Events    : Ir\n==7== Collected : 123456\n==7==\n";
        assert_eq!(parse_callgrind(said), Some(123_456));
        assert_eq!(parse_callgrind("Killed"), None);
    }

    #[test]
    fn a_line_that_is_no_count_is_named() {
        assert!(
            matches!(parse("up/64 many\n"), Err(CountError::BadLine(line)) if line == "up/64 many")
        );
    }
}
