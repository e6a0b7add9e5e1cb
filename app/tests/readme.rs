//! The README says what the program does.

use voltlane_app::config::markdown_table;

const README: &str = include_str!("../../README.md");

#[test]
fn its_table_of_keys_is_the_table_of_keys() {
    let table = markdown_table();
    for line in table.lines() {
        assert!(
            README.contains(line),
            "not in README.md, or not like this: {line}"
        );
    }
    let rows = |text: &str| text.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(
        rows(README),
        rows(&table),
        "README.md has keys that are none"
    );
}

#[test]
fn its_links_lead_to_files_of_the_repository() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let targets: Vec<_> = README
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .collect();
    assert!(targets.len() > 5);
    for target in targets.iter().filter(|target| !target.contains("://")) {
        assert!(
            root.join(target).exists(),
            "README.md links to {target}, which is not there"
        );
    }
}
