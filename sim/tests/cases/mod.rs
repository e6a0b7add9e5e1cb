//! The cases of `sim/cases` on the core: whole, at every split, byte by byte, and cut off at every point.

mod client;
mod client3;
mod coverage;
#[cfg(feature = "planted")]
mod planted;
mod stage;

use self::stage::{Core, Cut};
use sim::cases::{Case, Played, all, run};

/// Points of one write at which it is cut, and the most values of a case for which that is done.
const POINTS: usize = 48;
/// The same of a case of version 3: what a record is sealed in hides where its items begin.
const POINTS_OF_3: usize = 8;
const VARIED_VALUES: usize = 8;

fn play(case: &Case, cut: Cut) -> Result<(Core, Played), String> {
    let mut core = Core::new(&case.config, cut);
    let played = run(case, &mut core, [3; 32]).map_err(|error| format!("{cut:?}: {error}"))?;
    Ok((core, played))
}

/// Every point of a write of this length; of a long one its first, its last and some between.
fn points(length: usize, most: usize) -> Vec<usize> {
    if length <= most {
        return (0..=length).collect();
    }
    let (first, last) = (most / 2, most / 4);
    let between = (first..length - last).step_by((length - first - last).div_ceil(most / 4));
    (0..first)
        .chain(between)
        .chain(length - last..=length)
        .collect()
}

fn play_every_way(case: &Case) -> Result<usize, String> {
    let mut runs = 0;
    let values = case.expanded();
    let most = if case.of_3 { POINTS_OF_3 } else { POINTS };
    for one in &values {
        let (core, _) = play(one, Cut::Whole)?;
        runs += 1;
        if case.uncut {
            continue;
        }
        play(one, Cut::Bytes)?;
        runs += 1;
        if values.len() > VARIED_VALUES {
            continue;
        }
        for (write, &length) in core.writes.iter().enumerate() {
            for at in points(length, most) {
                play(one, Cut::Split { write, at })?;
                let (mut core, played) = play(one, Cut::Eof { write, at })?;
                assert_eq!(played, Played::Stopped);
                core.expect_nothing_left();
                runs += 2;
            }
        }
    }
    Ok(runs)
}

/// Those whose number is `share` when counted round.
fn play_share(share: usize) {
    let cases = all();
    let (mut failures, mut runs) = (Vec::new(), 0);
    for case in cases.iter().skip(share).step_by(4) {
        match play_every_way(case) {
            Ok(more) => runs += more,
            Err(failure) => failures.push(format!("{}: {failure}", case.place)),
        }
    }
    println!("{runs} runs");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_case_every_way_1() {
    play_share(0);
}

#[test]
fn every_case_every_way_2() {
    play_share(1);
}

#[test]
fn every_case_every_way_3() {
    play_share(2);
}

#[test]
fn every_case_every_way_4() {
    play_share(3);
}
