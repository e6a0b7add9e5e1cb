//! Checks that the README, and the appendix of SPEC.txt that lists the keys, match the program.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use voltlane_app::config::{Settings, WorstCase, keys, markdown_table};

const TABLE_HEAD: &str = "| key | default | meaning |";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).expect("README.md")
}

/// Returns the position of the table of keys, from its heading to the end of its last row.
fn table_of(readme: &str) -> std::ops::Range<usize> {
    let start = readme.find(TABLE_HEAD).expect("a table of keys");
    let rows = readme[start..].split_inclusive('\n');
    let bytes = rows.take_while(|line| line.starts_with('|')).map(str::len);
    start..start + bytes.sum::<usize>()
}

/// After a change of the keys, `VL_BLESS=1 cargo test -p voltlane --test all readme::` rewrites the table.
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
             VL_BLESS=1 cargo test -p voltlane --test all readme:: rewrites the table"
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

/// Returns the rows of SPEC Appendix A: each key, its default, and how the shards share the bound: "/" or ":", if it is marked.
fn appendix(spec: &str) -> BTreeMap<String, (String, Option<&str>)> {
    let (_, appendix) = spec
        .split_once("\nAppendix A.  Constants and defaults\n")
        .expect("Appendix A");
    let (_, keys) = appendix
        .split_once("\n   Defaults of an edge.")
        .expect("the defaults of an edge");
    let (keys, _) = keys
        .split_once("\n   Some keys depend on others:")
        .expect("an end of the keys");
    let mut section = "";
    let mut rows = BTreeMap::new();
    for line in keys.lines() {
        if let Some(name) = line.strip_prefix("   [") {
            section = name.trim_end_matches(']');
        } else if let Some(row) = line.strip_prefix("      ") {
            let mut words = row.split_whitespace();
            let (key, default) = (
                words.next().expect("a key"),
                words.next().expect("a default"),
            );
            let mark = words.next().filter(|mark| ["/", ":"].contains(mark));
            let row = (default.replace(',', ""), mark);
            let before = rows.insert(format!("{section}.{key}"), row);
            assert_eq!(before, None, "{section}.{key} is there twice");
        }
    }
    rows
}

#[test]
fn the_appendix_of_the_spec_has_the_keys_and_their_defaults() {
    let spec = fs::read_to_string(root().join("SPEC.txt")).expect("SPEC.txt");
    let mut rows = appendix(&spec);
    let defaults = Settings::default();
    for key in keys() {
        let is_of_protocol = ["clients.", "limits."]
            .iter()
            .any(|section| key.path.starts_with(section));
        let Some((default, _)) = rows.remove(key.path) else {
            assert!(
                !is_of_protocol,
                "SPEC.txt, Appendix A: {} is missing; its default is {}",
                key.path,
                key.show(&defaults)
            );
            continue;
        };
        let default = match default.as_str() {
            "loopback" => r#"["127.0.0.0/8", "::1/128"]"#,
            "both" => "[2, 3]",
            default => default,
        };
        assert_eq!(
            default,
            key.show(&defaults),
            "SPEC.txt, Appendix A: {}",
            key.path
        );
    }
    assert!(
        rows.is_empty(),
        "SPEC.txt, Appendix A has keys that are none: {rows:?}"
    );
}

#[test]
fn the_appendix_of_the_spec_marks_what_shards_divide_and_what_they_lend() {
    let spec = fs::read_to_string(root().join("SPEC.txt")).expect("SPEC.txt");
    let marked = |with| -> Vec<_> {
        let rows = appendix(&spec).into_iter();
        rows.filter(|(_, (_, mark))| *mark == Some(with))
            .map(|(key, _)| key)
            .collect()
    };
    let lent = [
        "clients.max_stale_clients",
        "limits.max_connections",
        "limits.max_half_open",
        "limits.max_memory_bytes",
    ];
    assert_eq!(marked("/"), lent);
    // The keys that `EdgeConfig::for_shard` divides.
    let divided = ["master.channel_bytes", "master.channel_capacity"];
    assert_eq!(marked(":"), divided);
}

#[test]
fn the_smallest_bound_of_memory_is_as_the_spec_says() {
    let spec = fs::read_to_string(root().join("SPEC.txt")).expect("SPEC.txt");
    let WorstCase { client, link, .. } = WorstCase::of(&Settings::default());
    let sum = (client + link).to_string();
    assert!(
        spec.replace(',', "")
            .contains(&format!("that is {sum} bytes")),
        "SPEC.txt, Appendix A: it is {sum}"
    );
}
