//! The first hour of an operator, as README.md has it: each command works as printed.

use std::process::Command;

use conformance::others::free_address;
use conformance::{Backend, Client, Directory, Edge, Signal};

use super::PROGRAM;

/// Where the README has the configuration.
const FILE: &str = "/etc/voltlane/connserver.toml";

/// Returns what is fenced as `kind` in the README's section.
fn fenced(kind: &str) -> Vec<&'static str> {
    let (_, section) = include_str!("../../README.md")
        .split_once("\n## Run it in production\n")
        .expect("README has this section");
    let (section, _) = section.split_once("\n## ").expect("it is not the last");
    let opens = format!("```{kind}\n");
    let blocks = section.split(opens.as_str()).skip(1);
    blocks
        .map(|block| block.split_once("```").expect("it is closed").0)
        .collect()
}

/// Sets a key of the written file: takes away the "#" before it.
fn set(file: &mut String, section: &str, key: &str, value: &str) {
    let header = format!("\n[{section}]\n");
    let begin = file.find(&header).unwrap_or_else(|| panic!("[{section}]"));
    let line = format!("\n#{key} = ");
    let at = file[begin..].find(&line);
    let at = begin + at.unwrap_or_else(|| panic!("{section}.{key}"));
    let end = at + 1 + file[at + 1..].find('\n').expect("a line");
    file.replace_range(at..end, &format!("\n{key} = {value}"));
}

#[test]
fn the_first_hour_of_an_operator_goes_as_the_readme_says() {
    let (directory, backend) = (Directory::new(), Backend::bind());
    // As the package has it, with places of this test.
    let mut file = include_str!("../../app/tests/cases/default.toml").to_owned();
    let own = |name: &str| directory.file(name).display().to_string();
    let quoted = |text: &str| format!("{text:?}");
    set(&mut file, "general", "key_file", &quoted(&own("edge.key")));
    let metrics = free_address().to_string();
    set(&mut file, "metrics", "address", &quoted(&metrics));
    let admin = format!("unix:{}", own("admin.sock"));
    set(&mut file, "admin", "address", &quoted(&admin));
    set(&mut file, "admin", "ban_file", &quoted(&own("bans")));
    // What the README has the operator set.
    let mut section = "";
    for line in fenced("toml").concat().lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = ["listener", "master"]
                .into_iter()
                .find(|known| name == format!("{known}]"))
                .expect(line);
            continue;
        }
        let (key, value) = line.split_once(" = ").expect(line);
        assert!(
            value.ends_with("2000\"") || value.ends_with("2001\""),
            "{line}"
        );
        let here = match section {
            "listener" => "127.0.0.1:0".to_owned(),
            _ => backend.address().to_string(),
        };
        set(&mut file, section, key, &quoted(&here));
    }
    directory.write("connserver.toml", &file);
    let path = own("connserver.toml");

    let mut edge: Option<Edge> = None;
    let mut kept = None;
    let mut done = 0;
    for block in fenced("console") {
        for command in block.split("\n# ").map(|one| one.trim_start_matches("# ")) {
            let (command, prints) = command.split_once('\n').unwrap_or((command, ""));
            let words: Vec<_> = command.split_whitespace().collect();
            done += 1;
            match words[..] {
                // The tests of the packages do this.
                ["apt", "install", _] => {}
                ["systemctl", "enable", "--now", "voltlane"] => {
                    let run = ["run", "--config", &path];
                    let started = Edge::spawn(PROGRAM.command(&directory, &run));
                    let link = backend.accept();
                    started.expect_log("the backend is there");
                    kept = Some((Client::join(started.address()), link));
                    edge = Some(started);
                }
                ["systemctl", "reload", "voltlane"] => {
                    let edge = edge.as_ref().expect("it was started before");
                    edge.signal(Signal::HUP);
                    edge.expect_log("the configuration was read again and is in effect");
                }
                ["voltlane", ref arguments @ ..] => {
                    let arguments: Vec<_> = arguments
                        .iter()
                        .map(|word| if *word == FILE { path.as_str() } else { *word })
                        .collect();
                    let mut program: Command = PROGRAM.command(&directory, &arguments);
                    let output = program.output().expect("it runs");
                    let text = String::from_utf8_lossy(&output.stdout).into_owned();
                    assert!(output.status.success(), "{command}: {output:?}");
                    for line in prints.lines() {
                        assert!(text.contains(line), "{command}: {text}");
                    }
                    // A change, before the file is checked and read again.
                    if words.contains(&"--undo") {
                        set(&mut file, "general", "drain_secs", "1");
                        directory.write("connserver.toml", &file);
                    }
                    if words.ends_with(&["bans"]) {
                        assert!(text.contains("203.0.113.0/24"), "{text}");
                    }
                }
                _ => panic!("what does it do? {command}"),
            }
        }
    }
    assert!(done > 14, "{done} commands");
    let edge = edge.expect("it was started");
    // The drill has cost nobody a connection, and newcomers are let in again.
    let (mut client, mut link) = kept.expect("a client");
    client.send(b"still here");
    link.expect_data(client.id(), b"still here");
    drop(Client::join(edge.address()));
    edge.stop();
}
