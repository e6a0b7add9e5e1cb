//! The README says what the program does.

use std::fs;
use std::path::{Path, PathBuf};

use voltlane_app::config::markdown_table;

const TABLE_HEAD: &str = "| key | default | meaning |";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).expect("README.md")
}

/// Where the table of keys stands: from its head to the end of its last row.
fn table_of(readme: &str) -> std::ops::Range<usize> {
    let start = readme.find(TABLE_HEAD).expect("a table of keys");
    let rows = readme[start..].split_inclusive('\n');
    let bytes = rows.take_while(|line| line.starts_with('|')).map(str::len);
    start..start + bytes.sum::<usize>()
}

/// After a change of the keys, `VL_BLESS=1 cargo test -p voltlane-app --test readme` writes the table anew.
#[test]
fn its_table_of_keys_is_the_table_of_keys() {
    let mut readme = readme();
    let range = table_of(&readme);
    let table = markdown_table();
    if std::env::var_os("VL_BLESS").is_some() {
        readme.replace_range(range, &table);
        fs::write(root().join("README.md"), readme).expect("README.md is written");
        return;
    }
    let found = &readme[range];
    for row in table.lines().chain(found.lines()) {
        let in_both =
            found.lines().any(|line| line == row) && table.lines().any(|line| line == row);
        assert!(
            in_both,
            "only in one of README.md and the configuration: {row}\n\
             VL_BLESS=1 cargo test -p voltlane-app --test readme writes the table anew"
        );
    }
    assert_eq!(found, table, "the rows stand in another order");
}

#[test]
fn its_links_lead_to_files_of_the_repository() {
    let readme = readme();
    let targets: Vec<_> = readme
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .collect();
    assert!(targets.len() > 5);
    for target in targets.iter().filter(|target| !target.contains("://")) {
        assert!(
            root().join(target).exists(),
            "README.md links to {target}, which is not there"
        );
    }
}
