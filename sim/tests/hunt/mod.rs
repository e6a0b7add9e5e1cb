//! What the tests of planted bugs share: where they look, and on how many threads.
#![allow(dead_code, reason = "each of them uses a part of it")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use sim::block::threads;
use sim::model::Violation;
use voltlane_core::planted::{Bug, plant};

/// The first seeds of the ranges, far from each other and from the fixed block.
pub(crate) const BASES: [u64; 5] = [50_000, 60_000, 70_000, 80_000, 90_000];
/// The number of seeds per range within which a bug must be found.
pub(crate) const SEEDS: u64 = 200;
/// The number for bugs that take nearly 200 seeds or more from one of the bases: AckOfLine 308,
/// PauseForgottenAtResume 195.
const RARE_SEEDS: u64 = 1_000;
/// The number for those that take longer: a backend must become another process while a session leaves it.
const RAREST_SEEDS: u64 = 5_000;

fn seeds_for(bug: Bug) -> u64 {
    match bug {
        Bug::AckOfLine
        | Bug::PauseForgottenAtResume
        | Bug::EndedShardsAreGone
        | Bug::GoAwayIgnored
        | Bug::GoAwayLate
        | Bug::KeysOfGroupsAreOfClients
        | Bug::LateFramesLost
        | Bug::PauseNotSaved
        | Bug::OldCopyGoesOn => RARE_SEEDS,
        Bug::MoveForgottenAtBoot => RAREST_SEEDS,
        _ => SEEDS,
    }
}

/// Returns the bugs that `VL_BUG=Shutdown,Announce` selects: those whose name contains one of these. Without it, all.
pub(crate) fn selected(bugs: &[Bug]) -> Vec<Bug> {
    let wanted = std::env::var("VL_BUG").unwrap_or_default();
    let is_wanted = |bug: &&Bug| {
        let name = format!("{bug:?}");
        wanted.split(',').any(|part| name.contains(part))
    };
    bugs.iter().filter(is_wanted).copied().collect()
}

/// Looks for each bug with `find`, on all threads. Returns what it returned.
pub(crate) fn each<F: Send>(bugs: &[Bug], find: impl Fn(Bug) -> F + Sync) -> BTreeMap<Bug, F> {
    // A planted panic must not fill the output.
    std::panic::set_hook(Box::new(|_| {}));
    let next = AtomicUsize::new(0);
    let all = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                while let Some(bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = find(*bug);
                    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                    all.insert(*bug, found);
                }
                plant(None);
            });
        }
    });
    let _ = std::panic::take_hook();
    let all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(all.len(), bugs.len());
    all
}

/// Expects that each bug is found from every base. `run` runs a seed, and `may_break` says whether the bug may break a rule first.
pub(crate) fn expect_found(
    bugs: &[Bug],
    run: impl Fn(u64) -> Option<Violation> + Sync,
    may_break: impl Fn(Bug, &str) -> bool + Sync,
) {
    let find = |bug| -> Result<Vec<_>, _> {
        let may_break = |rule: &str| may_break(bug, rule);
        let found = BASES.map(|base| find_from(bug, base, &run, may_break));
        found.into_iter().collect()
    };
    let mut missed = Vec::new();
    for (bug, found) in each(bugs, find) {
        println!("{bug:?}: {found:?}");
        if let Err(why) = found {
            missed.push(format!("{bug:?}: {why}"));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

/// Returns the number of seeds needed from `base`, and the rule broken.
pub(crate) fn find_from(
    bug: Bug,
    base: u64,
    run: impl Fn(u64) -> Option<Violation>,
    may_break: impl Fn(&str) -> bool,
) -> Result<(u64, &'static str), String> {
    let seeds = seeds_for(bug);
    for seed in base..base + seeds {
        plant(Some(bug));
        let found = run(seed);
        plant(None);
        let Some(violation) = found else {
            continue;
        };
        // A seed that breaks a rule without the bug is no evidence.
        if let Some(violation) = run(seed) {
            return Err(format!("seed {seed} breaks a rule by itself: {violation}"));
        }
        return match may_break(violation.id) {
            true => Ok((seed - base + 1, violation.id)),
            false => Err(format!("seed {seed} breaks another rule: {violation}")),
        };
    }
    Err(format!("not found in {seeds} seeds from {base}"))
}
