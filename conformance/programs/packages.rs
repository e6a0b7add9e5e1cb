//! The files of `ops/`, checked by the tools of those who read them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use conformance::others::{find, python, script};
use conformance::{Directory, Process};

/// The greatest exposure that systemd may see in the unit, in tenths. It calls this "OK"; a unit without restrictions has 96.
const EXPOSURE: &str = "15";

fn ops(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../ops")
        .join(file)
}

/// Runs `systemd-analyze` on the unit, with our program in place of the installed one.
fn analyze(unit: &str, arguments: &[&str]) -> Option<(bool, String)> {
    let command = find("systemd-analyze")?;
    let directory = Directory::new();
    let path = directory.path().join("voltlane.service");
    fs::write(&path, unit).expect("a unit");
    let path = path.to_str().expect("text");
    Some(run(command, &[arguments, &[path]].concat()))
}

#[test]
fn systemd_takes_the_unit_and_finds_it_hardened() {
    let program = crate::PROGRAMS[0].path().display().to_string();
    let unit = fs::read_to_string(ops("voltlane.service")).expect("the unit");
    let unit = unit.replace("/usr/bin/voltlane", &program);
    assert!(unit.contains(&program));
    let Some((is_right, text)) = analyze(&unit, &["verify", "--man=no"]) else {
        return;
    };
    // Also a key that systemd does not know is a line here, and no failure.
    assert!(is_right && text.is_empty(), "{text}");
    let threshold = format!("--threshold={EXPOSURE}");
    let security = ["security", "--offline=true", "--no-pager", &threshold];
    let (is_hardened, text) = analyze(&unit, &security).expect("it is installed");
    assert!(is_hardened, "{text}");
    // The check can fail.
    let open = unit
        .replace("ProtectSystem=strict\n", "")
        .replace("DynamicUser=yes\n", "");
    let (is_hardened, text) = analyze(&open, &security).expect("it is installed");
    assert!(!is_hardened, "{text}");
}

/// Runs a command to its end. Returns whether it was successful, and all that it printed.
fn run(mut command: Command, arguments: &[&str]) -> (bool, String) {
    let output = command.args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// Returns the files of a folder.
fn files(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(ops(folder)).expect("a folder");
    let paths = entries.map(|entry| entry.expect("a file").path().display().to_string());
    paths.collect()
}

#[test]
fn the_manuals_are_free_of_warnings() {
    for manual in files("man") {
        let Some(man) = find("man") else {
            return;
        };
        let mut man = man;
        let output = man
            .args(["-l", "--warnings", "-E", "UTF-8", &manual])
            .output();
        // It warns on standard error, and is successful.
        let warnings = output.expect("man runs").stderr;
        assert_eq!(String::from_utf8_lossy(&warnings), "", "{manual}");
    }
}

#[test]
fn bash_takes_its_completions() {
    let Some(bash) = find("bash") else {
        return;
    };
    let completions = ops("completions/voltlane.bash").display().to_string();
    assert_eq!(run(bash, &["-n", &completions]), (true, String::new()));
}

#[test]
fn the_schema_is_one_and_takes_what_the_program_takes() {
    let Some(checker) = python("check_jsonschema") else {
        return;
    };
    let schema = ops("connserver.schema.json").display().to_string();
    let check = |arguments: &[&str]| {
        let module = ["-m", "check_jsonschema"];
        let python = Command::new(checker.get_program());
        run(python, &[&module, arguments].concat())
    };
    let (is_schema, text) = check(&["--check-metaschema", &schema]);
    assert!(is_schema, "{text}");
    let directory = Directory::new();
    let path = directory.path().join("connserver.toml");
    let path = path.to_str().expect("text");
    // The file as it is written, with each key in effect: every default is allowed.
    let defaults: Vec<_> = voltlane_app::config::default_file()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') && key.contains(" = ") => key.to_owned(),
            _ => line.to_owned(),
        })
        .collect();
    let several = "[general]\nlog_level = \"debug\"\n[[listener]]\nname = \"a\"\n\
                   [[listener.certificate]]\nfile = \"a\"\nkey = \"b\"\n[[listener]]\nversions = [3]\n";
    for (file, is_good) in [
        (defaults.join("\n").as_str(), true),
        (several, true),
        ("[general]\nlog_level = \"loud\"\n", false),
        ("[general]\nshards = 129\n", false),
        ("[listener]\nadress = \"a:1\"\n", false),
        ("[[listener]]\nbacklog = \"many\"\n", false),
    ] {
        fs::write(path, file).expect("a file");
        let (is_taken, text) = check(&["--schemafile", &schema, path]);
        assert_eq!(is_taken, is_good, "{file}\n{text}");
    }
}

#[test]
fn the_image_is_described_as_its_linter_wants_it() {
    // It is installed beside the checker of schemas, if at all.
    let beside = python("check_jsonschema");
    let beside = beside.map(|python| Path::new(python.get_program()).with_file_name("hadolint"));
    let installed = beside.filter(|path| path.exists()).map(Command::new);
    let Some(hadolint) = installed.or_else(|| find("hadolint")) else {
        return;
    };
    let dockerfile = ops("Dockerfile").display().to_string();
    let arguments = ["--no-color", &dockerfile];
    assert_eq!(run(hadolint, &arguments), (true, String::new()));
}

#[test]
fn prometheus_takes_the_rules_and_they_speak_when_they_should() {
    let directory = Directory::new();
    let rules = fs::read_to_string(ops("alerts.yml")).expect("the rules");
    let tests = fs::read_to_string(script("alerts.test.yml")).expect("their tests");
    let check = |rules: &str| {
        directory.write("alerts.yml", rules);
        directory.write("alerts.test.yml", &tests);
        let path = |name| directory.file(name).display().to_string();
        let checked = run(find("promtool")?, &["check", "rules", &path("alerts.yml")]);
        let tested = run(
            find("promtool")?,
            &["test", "rules", &path("alerts.test.yml")],
        );
        Some((checked, tested))
    };
    let Some(((is_right, said), (speak, told))) = check(&rules) else {
        return;
    };
    assert!(is_right, "{said}");
    assert!(speak, "{told}");
    // The check can fail.
    let later = rules.replace("for: 30s", "for: 5m");
    let (_, (speak, told)) = check(&later).expect("it is installed");
    assert!(!speak, "{told}");
}

/// Prometheus reads the page as we write it, and each metric keeps to its rules of names.
#[test]
fn prometheus_finds_nothing_wrong_with_the_metrics() {
    let Some(mut command) = find("promtool") else {
        return;
    };
    let page = voltlane_app::metrics::encode(&voltlane_app::metrics::Snapshot::default());
    // It reads the classic format, in which a counter is described by the name of its samples.
    let mut classic = String::new();
    let mut counter = None;
    for line in page
        .lines()
        .filter(|line| !line.starts_with("# UNIT") && *line != "# EOF")
    {
        if let Some(help) = line.strip_prefix("# HELP ") {
            counter = Some(help.to_owned());
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a kind");
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                kind => ("", kind),
            };
            let help = counter.take().expect("HELP comes first");
            let help = help.strip_prefix(name).expect("of this metric").to_owned();
            classic += &format!("# HELP {name}{suffix}{help}\n# TYPE {name}{suffix} {kind}\n");
        } else {
            classic += &format!("{line}\n");
        }
    }
    command.args(["check", "metrics"]);
    let mut promtool = Process::start(command);
    promtool.feed(classic.as_bytes());
    let finished = promtool.end();
    assert_eq!(
        finished.code,
        Some(0),
        "{}{}",
        finished.stdout,
        finished.stderr
    );
}
