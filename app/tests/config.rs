//! Numbered cases of configurations and their results, in `cases/*.txt`. A number that begins with G is a row of the catalogue of bad
//! input: G1 files, G2 keys and types, G3 bounds, G4 contradictions, G5 environment and arguments, G6 addresses.
//!
//! A case names its sources and then the expected output: the problems, or every value that somebody set with its origin. `BLESS=1 cargo
//! test -p voltlane --test all config::` records the current output; read the diff.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;
use voltlane_app::config::{Argument, Loaded, Origin, Settings, Sources, default_file, keys};

#[test]
fn keys_and_types() {
    run("keys");
}

/// G3, for every numeric key, so for future ones as well: each bound is accepted. One beyond is refused with the permitted range, and so is
/// everything else that cannot be a limit.
#[test]
fn bounds_of_every_number() {
    let mut numbers = 0;
    for key in keys() {
        let Some((low, high)) = range(&key.expected()) else {
            continue;
        };
        numbers += 1;
        let beyond = [
            low - 1,
            high + 1,
            -1,
            i128::from(u32::MAX),
            i128::from(i64::MAX),
            i128::from(u64::MAX),
            i128::MAX,
        ];
        for number in [0, 1, low, high].into_iter().chain(beyond) {
            let file = format!("{} = {number}\n", key.path);
            let variable = (
                OsString::from(key.variable()),
                OsString::from(number.to_string()),
            );
            let refused = format!("must be {}", key.expected());
            for sources in [
                Sources {
                    file: Some(("f".into(), file.into_bytes())),
                    ..Sources::default()
                },
                Sources {
                    environment: vec![variable],
                    ..Sources::default()
                },
            ] {
                let problems = match Loaded::from_sources(&sources) {
                    Ok(_) => Vec::new(),
                    Err(problems) => problems
                        .iter()
                        .map(|problem| problem.fault.to_string())
                        .collect(),
                };
                let in_range = (low..=high).contains(&number);
                assert_eq!(
                    problems.contains(&refused),
                    !in_range,
                    "{} = {number}: {problems:?}",
                    key.path
                );
            }
        }
    }
    assert!(numbers >= 19, "{numbers}");
}

/// Parses the range at the end of a text such as "a whole number of bytes from 1 to 5".
fn range(expected: &str) -> Option<(i128, i128)> {
    let (_, range) = expected
        .strip_prefix("a whole number")?
        .rsplit_once("from ")?;
    let (low, high) = range.split_once(" to ")?;
    Some((low.parse().ok()?, high.parse().ok()?))
}

/// The file written at the first start describes the defaults.
#[test]
fn the_default_file_has_every_key_with_its_default_and_a_comment() {
    let load = |text: &str| {
        let sources = Sources {
            file: Some(("f".into(), text.as_bytes().to_vec())),
            ..Sources::default()
        };
        let loaded = Loaded::from_sources(&sources).expect("the defaults are good");
        assert_eq!(loaded.settings, Settings::default());
        loaded
    };
    let written = default_file();
    for (key, origin) in load(&written).entries() {
        assert_eq!(origin, &Origin::Default, "{} is pinned", key.path);
    }
    let lines = written.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if !key.starts_with(' ') => key,
        _ => line,
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    let loaded = load(&text);
    for (key, origin) in loaded.entries() {
        let Origin::File { line, .. } = origin else {
            panic!("{}: {origin}", key.path)
        };
        let above: Vec<_> = text.lines().take(line - 1).collect();
        let comments = above
            .iter()
            .rev()
            .take_while(|line| line.starts_with("# "))
            .count();
        assert_eq!(comments, key.comment.len() + 1, "{}", key.path);
    }
}

/// The default file, for people to read. `BLESS=1` rewrites it.
#[test]
fn the_default_file_is_as_it_was_last_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/default.toml");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, default_file()).expect("the file can be written");
    }
    let expected = std::fs::read_to_string(&path).expect("the file can be read");
    assert_eq!(default_file(), expected);
}

/// Every key from every source: its default can be set, and its origin is then known.
#[test]
fn every_key_can_be_set_from_the_environment_and_from_dotenv() {
    for key in keys() {
        let value = key.show(&Settings::default());
        let bare = value.trim_matches(['"', '[', ']']).replace("\", \"", ",");
        let variable = key.variable();
        let environment = vec![(OsString::from(&variable), OsString::from(&bare))];
        let sources = Sources {
            environment,
            ..Sources::default()
        };
        let loaded = Loaded::from_sources(&sources).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(
            loaded.origin(key.path),
            Some(&Origin::Environment {
                variable: variable.clone()
            })
        );
        assert_eq!(loaded.settings, Settings::default());

        let dotenv = Some(format!("{variable}='{bare}'\n").into_bytes());
        let sources = Sources {
            dotenv,
            ..Sources::default()
        };
        let loaded = Loaded::from_sources(&sources).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(
            loaded.origin(key.path),
            Some(&Origin::DotEnv { variable, line: 1 })
        );
        assert_eq!(loaded.settings, Settings::default());
    }
}

/// Any single typing mistake in any key finds the key.
#[test]
fn a_slip_in_any_key_is_found() {
    for key in keys() {
        let (section, name) = key.path.split_once('.').expect("a path has a section");
        for slip in 0..name.len() {
            let misspelt = format!("{section}.{}{}", &name[..slip], &name[slip + 1..]);
            if keys().any(|key| key.path == misspelt) || misspelt.ends_with('.') {
                continue;
            }
            let file = Some(("f".to_owned(), format!("{misspelt} = 1\n").into_bytes()));
            let problems = Loaded::from_sources(&Sources {
                file,
                ..Sources::default()
            })
            .expect_err("no such key");
            let message = problems
                .iter()
                .next()
                .expect("one problem")
                .fault
                .to_string();
            assert!(message.contains(key.path), "{misspelt}: {message}");
        }
    }
}

/// The output of `check` can be pasted into a file, and then has the same effect.
#[test]
fn a_description_is_a_configuration_itself() {
    let environment = [
        ("VOLTLANE_GENERAL_KEY_FILE", "a \"b\" \\c"),
        ("VOLTLANE_CLIENTS_CHANNEL_CAPACITY", "77"),
        ("VOLTLANE_LISTENER_ADDRESS", "::1:5"),
        ("VOLTLANE_MASTER_ANNOUNCE", "ALL"),
    ];
    let environment = environment
        .map(|(name, value)| (name.into(), value.into()))
        .to_vec();
    let loaded = Loaded::from_sources(&Sources {
        environment,
        ..Sources::default()
    })
    .expect("good");
    let file = Some(("f".to_owned(), loaded.describe().into_bytes()));
    let again = Loaded::from_sources(&Sources {
        file,
        ..Sources::default()
    })
    .expect("good");
    assert_eq!(loaded.settings, again.settings);
    assert_eq!(again.settings.clients.channel_capacity, 77);
}

proptest! {
    /// Any bytes lead to a configuration or a list of problems.
    #[test]
    fn no_bytes_panic(file: Vec<u8>, dotenv: Vec<u8>, value: String) {
        let variable = OsString::from("VOLTLANE_LISTENER_ADDRESS");
        let sources = Sources {
            file: Some(("f".to_owned(), file)),
            dotenv: Some(dotenv),
            environment: vec![(variable, value.clone().into())],
            arguments: vec![Argument { option: "--master", path: "master.address", value }],
        };
        if let Err(problems) = Loaded::from_sources(&sources) {
            prop_assert!(!problems.to_string().is_empty());
        }
    }

    /// No text that looks like a configuration makes it panic.
    #[test]
    fn no_text_panics(
        file in r#"((\[{0,2}[a-z]{0,3}(clients)?\]{0,2}|[a-z.]{0,9}|channel_capacity) ?=? ?["'0-9a-z{}.-]{0,5}\n){0,9}"#,
        dotenv in r#"((export |set |declare -x )?(VOLTLANE_|voltlane_)?[A-Z]{0,4} ?=? ?["'\\$#{}a-z ]{0,9}\n?){0,9}"#,
    ) {
        let sources = Sources {
            file: Some(("f".to_owned(), file.into_bytes())),
            dotenv: Some(dotenv.into_bytes()),
            ..Sources::default()
        };
        if let Err(problems) = Loaded::from_sources(&sources) {
            prop_assert!(!problems.to_string().is_empty());
        }
    }
}

#[test]
fn contradictions() {
    run("contradictions");
}

#[test]
fn variables_and_arguments() {
    run("variables");
}

#[test]
fn several_listeners() {
    run("listeners");
}

#[test]
fn addresses() {
    run("addresses");
}

#[test]
fn there_are_cases_enough_and_no_number_is_used_twice() {
    let mut seen = std::collections::BTreeSet::new();
    for name in [
        "keys",
        "contradictions",
        "variables",
        "addresses",
        "listeners",
    ] {
        for case in read(name) {
            let number = case.title.split(' ').next().unwrap_or_default().to_owned();
            assert!(seen.insert(number), "{name}: {}", case.title);
        }
    }
    assert!(seen.len() >= 100, "{}", seen.len());
}

/// Runs every case of one file, and fails with all differences at once.
fn run(name: &str) {
    let cases = read(name);
    let mut blessed = String::new();
    let mut differences = String::new();
    for case in &cases {
        let said = case.say();
        blessed.push_str(&case.written(&said));
        if said != case.says {
            let Case { title, says, .. } = case;
            writeln!(differences, "== {title}\nexpected:\n{says}said:\n{said}")
                .expect("a String takes everything");
        }
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path(name), blessed).expect("the cases can be written");
    } else {
        assert!(differences.is_empty(), "\n{differences}");
    }
}

#[derive(Default)]
struct Case {
    title: String,
    /// The parts in order, with their names.
    parts: Vec<(String, String)>,
    says: String,
}

impl Case {
    fn say(&self) -> String {
        let part = |wanted: &str| {
            self.parts
                .iter()
                .find(|(name, _)| name == wanted)
                .map(|(_, text)| bytes(text))
        };
        let lines = |wanted: &str| -> Vec<(String, String)> {
            let text = part(wanted).unwrap_or_default();
            let text = String::from_utf8(text).expect("variables of the cases are text");
            let pairs = text.lines().filter_map(|line| line.split_once('='));
            pairs
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect()
        };
        let argument = |(option, value): (String, String)| match option.as_str() {
            "--listen" => Argument {
                option: "--listen",
                path: "listener.address",
                value,
            },
            "--master" => Argument {
                option: "--master",
                path: "master.address",
                value,
            },
            other => panic!("{}: no such option: {other}", self.title),
        };
        let os = |(name, value): (String, String)| (OsString::from(name), OsString::from(value));
        let sources = Sources {
            file: part("file").map(|bytes| ("connserver.toml".to_owned(), bytes)),
            dotenv: part(".env"),
            environment: lines("env").into_iter().map(os).collect(),
            arguments: lines("args").into_iter().map(argument).collect(),
        };
        match Loaded::from_sources(&sources) {
            Err(problems) => format!("{problems}\n"),
            Ok(loaded) => {
                // The same as `check` shows, without what is left at its default.
                let shown = loaded.describe();
                let is_said = |line: &&str| match line.rsplit_once("  # ") {
                    Some((_, origin)) => !origin.starts_with("default"),
                    None => line.starts_with("[["),
                };
                let lines = shown.lines().filter(is_said).map(|line| {
                    let (line, _) = line.split_once(", default ").unwrap_or((line, ""));
                    match line.split_once("  # ") {
                        Some((value, origin)) => format!("{}  # {origin}\n", value.trim_end()),
                        None => format!("{line}\n"),
                    }
                });
                std::iter::once("good\n".to_owned()).chain(lines).collect()
            }
        }
    }

    fn written(&self, said: &str) -> String {
        let mut out = format!("== {}\n", self.title);
        for (name, text) in &self.parts {
            write!(out, "-- {name}\n{text}").expect("a String takes everything");
        }
        write!(out, "-- says\n{said}\n").expect("a String takes everything");
        out
    }
}

fn path(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/cases/{name}.txt"))
}

fn read(name: &str) -> Vec<Case> {
    let text = std::fs::read_to_string(path(name)).expect("the cases can be read");
    let mut cases: Vec<Case> = Vec::new();
    let mut in_says = false;
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("== ") {
            cases.push(Case {
                title: title.to_owned(),
                ..Case::default()
            });
            continue;
        }
        let case = cases.last_mut().expect("a case begins with its title");
        if let Some(part) = line.strip_prefix("-- ") {
            in_says = part == "says";
            if !in_says {
                case.parts.push((part.to_owned(), String::new()));
            }
        } else if in_says {
            // The blank line between two cases.
            if !line.is_empty() {
                writeln!(case.says, "{line}").expect("a String takes everything");
            }
        } else {
            let (_, text) = case.parts.last_mut().expect("a part has a name");
            writeln!(text, "{line}").expect("a String takes everything");
        }
    }
    cases
}

/// Replaces `\xFF` in a case by that byte.
fn bytes(text: &str) -> Vec<u8> {
    let mut pieces = text.split("\\x");
    let mut out = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at(2);
        out.push(u8::from_str_radix(digits, 16).expect("two hexadecimal digits after \\x"));
        out.extend_from_slice(rest.as_bytes());
    }
    out
}
