//! Checks the table of planted bugs against the core's source in every test run. Whether the bugs are found needs the copy
//! (`sim::planted`).

use std::fs;
use std::path::Path;

use sim::planted::{Group, Table, workspace};

fn table() -> Table {
    Table::read(workspace()).unwrap_or_else(|fault| panic!("{fault}"))
}

#[test]
fn every_row_fits_the_core() {
    let read =
        |file: &str| fs::read_to_string(workspace().join(file)).map_err(|error| error.to_string());
    if let Err(faults) = table().apply(read) {
        panic!("sim/planted does not fit the core:\n{faults}");
    }
}

#[test]
fn there_are_bugs_of_each_group_and_all_are_in_the_switch() {
    let table = table();
    let switch = table.switch();
    for (group, least) in [
        (Group::Edge, 80),
        (Group::Shards, 16),
        (Group::Crowds, 3),
        (Group::V3, 80),
        (Group::V3Crowds, 2),
        (Group::Doors, 8),
        (Group::Link3, 40),
        (Group::Fleet, 7),
        (Group::Pins, 15),
    ] {
        let bugs: Vec<_> = table.bugs.iter().filter(|bug| bug.group == group).collect();
        assert!(bugs.len() >= least, "{group:?}: only {}", bugs.len());
        for bug in bugs {
            assert_eq!(switch.matches(&format!("Bug::{},", bug.name)).count(), 1);
        }
    }
}

#[test]
fn the_core_knows_nothing_of_planted_bugs() {
    fn look(folder: &Path) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                look(&path);
            } else {
                let text = fs::read_to_string(&path).expect("text");
                assert!(!text.contains("planted!"), "{}", path.display());
            }
        }
    }
    look(&workspace().join("core/src"));
}
