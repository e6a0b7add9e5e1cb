//! Tests the ledger of version 3: each bug of version 3 must be found within few seeds, wherever these begin, as a violation of any rule.
//! Which one is printed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use sim::block::threads;
use sim::v3::run;
use voltlane_core::planted::{Bug, plant};

/// The first seeds of the ranges, far from each other and from the fixed block.
const BASES: [u64; 5] = [50_000, 60_000, 70_000, 80_000, 90_000];
/// The number of seeds per range within which a bug must be found.
const SEEDS: u64 = 200;

/// Returns the number of seeds needed from `base`, and the rule broken.
fn find_from(bug: Bug, base: u64) -> Result<(u64, &'static str), String> {
    for seed in base..base + SEEDS {
        plant(Some(bug));
        let Some(violation) = run(seed).violation else {
            continue;
        };
        // A seed that breaks a rule without the bug is no evidence.
        plant(None);
        return match run(seed).violation {
            None => Ok((seed - base + 1, violation.id)),
            Some(violation) => Err(format!("seed {seed} breaks a rule by itself: {violation}")),
        };
    }
    Err(format!("not found in {SEEDS} seeds from {base}"))
}

#[test]
fn every_bug_of_version_3_is_found() {
    // A planted panic must not fill the output.
    std::panic::set_hook(Box::new(|_| {}));
    // `VL_BUG=Ring,Ack` selects bugs whose name contains one of these.
    let wanted = std::env::var("VL_BUG").unwrap_or_default();
    let bugs: Vec<Bug> = Bug::OF_VERSION_3
        .iter()
        .copied()
        .filter(|bug| {
            wanted
                .split(',')
                .any(|part| format!("{bug:?}").contains(part))
        })
        .collect();
    let next = AtomicUsize::new(0);
    let all = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                while let Some(bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found: Result<Vec<_>, _> =
                        BASES.iter().map(|&base| find_from(*bug, base)).collect();
                    all.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(*bug, found);
                }
                plant(None);
            });
        }
    });
    let _ = std::panic::take_hook();
    let all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut missed = Vec::new();
    for (bug, found) in &all {
        println!("{bug:?}: {found:?}");
        if let Err(why) = found {
            missed.push(format!("{bug:?}: {why}"));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
    assert_eq!(all.len(), bugs.len());
}
