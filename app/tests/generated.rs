//! The files of `ops/` that follow from the command line and from the table of keys: manuals, completions, and the schema of the file.
//!
//! After a change of either, `VL_BLESS=1 cargo test -p voltlane --test all generated::` writes them. Read the diff.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap_complete::{Shell, generate};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};
use voltlane_app::cli::description;
use voltlane_app::config::{SECTIONS, Settings, default_file, json_schema};

const PROGRAM: &str = "voltlane";

fn ops() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops")
}

/// Returns the manual of the program and of each of its commands, by the name of the file.
fn manuals() -> BTreeMap<String, Vec<u8>> {
    let mut whole = description(PROGRAM).disable_help_subcommand(true);
    // Gives each command the name of its manual, such as voltlane-check.
    whole.build();
    let commands: Vec<_> = whole.get_subcommands().cloned().collect();
    let pages = std::iter::once(whole).chain(commands).map(|command| {
        let name = command.get_display_name().unwrap_or(command.get_name());
        let name = format!("man/{name}.1");
        let mut page = Vec::new();
        let manual = Man::new(command).date("").source(PROGRAM);
        manual.render(&mut page).expect("memory has room");
        (name, page)
    });
    let mut pages: BTreeMap<_, _> = pages.collect();
    pages.insert(
        "man/connserver.toml.5".into(),
        manual_of_the_file().into_bytes(),
    );
    pages
}

/// Returns the manual of the configuration file.
fn manual_of_the_file() -> String {
    let defaults = Settings::default();
    let mut page = Roff::new();
    page.control("TH", ["connserver.toml", "5", "", PROGRAM]);
    page.control("SH", ["NAME"]);
    page.text([roman("connserver.toml - configuration of a Voltlane edge")]);
    page.control("SH", ["DESCRIPTION"]);
    let written = default_file();
    let about = written.lines().take_while(|line| line.starts_with('#'));
    let about: Vec<_> = about
        .map(|line| line.trim_start_matches('#').trim())
        .collect();
    page.text([roman(about.join(" "))]);
    for section in SECTIONS {
        page.control("SH", [section.name.to_uppercase().as_str()]);
        page.text([roman(joined(section.comment))]);
        for key in section.keys {
            page.control("TP", []);
            page.text([bold(key.path), roman(" = "), italic(key.show(&defaults))]);
            let meaning = format!("{} Must be {}.", joined(key.comment), key.expected());
            page.text([roman(meaning)]);
        }
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([bold("voltlane"), roman("(1)")]);
    page.render()
}

fn joined(comment: &[&str]) -> String {
    let lines: Vec<_> = comment.iter().map(|line| line.trim()).collect();
    lines.join(" ")
}

fn completions() -> BTreeMap<String, Vec<u8>> {
    let shells = [
        (Shell::Bash, "voltlane.bash"),
        (Shell::Zsh, "_voltlane"),
        (Shell::Fish, "voltlane.fish"),
    ];
    let files = shells.map(|(shell, name)| {
        let mut file = Vec::new();
        generate(shell, &mut description(PROGRAM), PROGRAM, &mut file);
        (format!("completions/{name}"), file)
    });
    files.into()
}

fn schema() -> BTreeMap<String, Vec<u8>> {
    let text = serde_json::to_string_pretty(&json_schema()).expect("it is data");
    [(
        "connserver.schema.json".to_owned(),
        format!("{text}\n").into_bytes(),
    )]
    .into()
}

#[test]
fn what_follows_from_the_program_is_as_it_says() {
    let mut wanted = manuals();
    wanted.extend(completions());
    wanted.extend(schema());
    if std::env::var_os("VL_BLESS").is_some() {
        for (name, text) in &wanted {
            let path = ops().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
    }
    for (name, text) in &wanted {
        let found = fs::read(ops().join(name)).unwrap_or_default();
        assert!(
            found == *text,
            "ops/{name} is not what the program gives; VL_BLESS=1 cargo test -p voltlane --test all generated:: writes it"
        );
    }
    // Nothing is left of a command that is gone.
    for folder in ["man", "completions"] {
        for entry in fs::read_dir(ops().join(folder)).expect("a folder") {
            let name = entry.expect("a file").file_name();
            let name = format!("{folder}/{}", name.to_string_lossy());
            assert!(wanted.contains_key(&name), "ops/{name} is not generated");
        }
    }
}
