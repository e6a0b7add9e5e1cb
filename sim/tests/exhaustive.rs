//! Every order of steps within small scopes, on the machine itself. `cargo run -p sim --release -- exhaust` checks the large one.

use std::collections::BTreeSet;

use sim::block;
use sim::scope::resume::{self, RESUMES};
use sim::scope::{SCOPES, check};

#[test]
fn no_order_of_steps_within_the_small_scopes_breaks_a_rule() {
    let mut missing: Option<BTreeSet<&str>> = None;
    for (name, bounds) in SCOPES.iter().filter(|(name, _)| *name != "large") {
        let verdict = check(bounds.clone(), block::threads(), None);
        println!(
            "{name}: {} transitions, {} states, paths of up to {} steps",
            verdict.transitions, verdict.states, verdict.depth
        );
        if let Some((violation, path)) = verdict.broken {
            panic!("{name}: {violation}\nafter {path:#?}");
        }
        let here: BTreeSet<_> = verdict.missing.into_iter().collect();
        missing = Some(missing.map_or(here.clone(), |before| &before & &here));
    }
    assert_eq!(missing, Some(BTreeSet::new()), "met in none of the scopes");
}

#[test]
fn no_order_of_attempts_loses_a_session_or_hides_a_thief() {
    let mut reached = BTreeSet::new();
    for bounds in RESUMES {
        let found = resume::check(*bounds, block::threads());
        println!(
            "{bounds:?}: {} transitions, {} states",
            found.transitions, found.states
        );
        if let Some((rule, path)) = found.broken {
            panic!("{rule}\nafter {path:#?}");
        }
        reached.extend(found.reached);
    }
    assert_eq!(reached, resume::REACHED.into());
}
