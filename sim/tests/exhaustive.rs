//! Every order of steps within small scopes, on the machine itself. `cargo run -p sim --release -- exhaust` checks the large one.

use std::collections::BTreeSet;

use sim::block;
use sim::scope::link::{self, Bounds, Lapse, NOTHING};
use sim::scope::resume::{self, RESUMES};
use sim::scope::{SCOPES, check};

/// Each acknowledgement that waits goes out once: more cost much time.
const ONE_TICK: Bounds = Bounds {
    ticks: 1,
    ..NOTHING
};

/// Scopes of a link, by name: of acknowledgement first, then of membership.
const LINKS: &[(&str, Bounds)] = &[
    (
        "losses",
        Bounds {
            is_begun: true,
            up: 1,
            down: 1,
            parts: 1,
            cuts: 1,
            ..ONE_TICK
        },
    ),
    (
        "boots",
        Bounds {
            is_begun: true,
            up: 1,
            down: 1,
            boots: 1,
            ..ONE_TICK
        },
    ),
    (
        "restarts",
        Bounds {
            is_begun: true,
            up: 1,
            down: 1,
            restarts: 1,
            ..ONE_TICK
        },
    ),
    (
        "members",
        Bounds {
            many: 1,
            boots: 1,
            ..ONE_TICK
        },
    ),
    (
        "absences",
        Bounds {
            drops: 1,
            boots: 1,
            ..ONE_TICK
        },
    ),
    (
        "ends",
        Bounds {
            kicks: 1,
            deaths: 1,
            ..ONE_TICK
        },
    ),
];

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

#[test]
fn no_order_of_steps_of_a_link_loses_or_doubles_anything_or_hides_who_is_there() {
    let mut reached = BTreeSet::new();
    for (name, bounds) in LINKS {
        let begun = std::time::Instant::now();
        let found = link::check(*bounds, None, block::threads(), || {});
        println!(
            "{name}: {} transitions, {} states in {:.1} s",
            found.transitions,
            found.states,
            begun.elapsed().as_secs_f64()
        );
        if let Some((rule, path)) = found.broken {
            panic!("{name}: {rule}\nafter {path:#?}");
        }
        reached.extend(found.reached);
    }
    assert_eq!(reached, link::REACHED.into());
}

#[test]
fn every_lapse_of_an_application_is_found_by_some_order_of_steps() {
    for lapse in [
        Lapse::AcknowledgesUnsaved,
        Lapse::RestoresNothing,
        Lapse::ForgetsMembers,
    ] {
        // They show when it begins again.
        let mut boots = LINKS.iter().filter(|(_, bounds)| bounds.boots > 0);
        let found = boots.find_map(|(name, bounds)| {
            let found = link::check(*bounds, Some(lapse), block::threads(), || {});
            Some((name, found.broken?))
        });
        let (name, (rule, path)) = found.unwrap_or_else(|| panic!("{lapse:?} is not found"));
        println!("{lapse:?}, in {name} after {} steps: {rule}", path.len());
    }
}
