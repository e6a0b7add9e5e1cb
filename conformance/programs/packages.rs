//! The files of `ops/`, checked by the tools of those who read them.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use conformance::others::{find, free_address, python, script};
use conformance::{Backend, Client, Directory, Frames, Process, Signal};

/// The greatest exposure that systemd may see in the unit, in tenths. It calls this "OK"; a unit without restrictions has 96.
const EXPOSURE: &str = "15";

fn ops(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../ops")
        .join(file)
}

/// Runs `systemd-analyze` on the unit, with our program in place of the installed one, and with the unit of its sockets beside it.
fn analyze(unit: &str, arguments: &[&str]) -> Option<(bool, String)> {
    let command = find("systemd-analyze")?;
    let directory = Directory::new();
    let path = directory.path().join("voltlane.service");
    fs::write(&path, unit).expect("a unit");
    let sockets = fs::read_to_string(ops("voltlane.socket")).expect("a unit");
    directory.write("voltlane.socket", sockets);
    let path = path.to_str().expect("text");
    let sockets = directory.file("voltlane.socket");
    let mut paths = vec![path];
    // Only a service has an exposure.
    if arguments.contains(&"verify") {
        paths.push(sockets.to_str().expect("text"));
    }
    Some(run(command, &[arguments, &paths].concat()))
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

#[test]
fn an_edge_takes_the_socket_that_systemd_passes() {
    let Some(mut activate) = find("systemd-socket-activate") else {
        return;
    };
    let (directory, backend) = (Directory::new(), Backend::bind());
    directory.write("connserver.toml", "listener.address = \"fd:main\"\n");
    let address = free_address();
    activate
        .current_dir(directory.path())
        .args(["-l", &address.to_string(), "--fdname=main"])
        .arg(crate::PROGRAMS[0].path())
        .args(["--master", &backend.address().to_string()]);
    let mut process = Process::start(activate);
    process.stderr("Listening on");
    // The first connection starts the edge, in the place of the program.
    let first = Frames::new(TcpStream::connect(address).expect("systemd listens"));
    let mut link = backend.accept();
    let mut client = Client::join_over(first);
    client.send(b"passed");
    link.expect_data(client.id(), b"passed");
    process.signal(Signal::TERM);
    let finished = process.end();
    assert_eq!(finished.code, Some(0), "{finished:?}");
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

/// What `ops/release` makes of the programs under test: once, since it compresses them.
fn release() -> Option<&'static Directory> {
    static RELEASE: OnceLock<Option<Directory>> = OnceLock::new();
    let release = RELEASE.get_or_init(|| {
        for program in ["dpkg-deb", "strip", "python3"] {
            find(program)?;
        }
        let directory = Directory::new();
        let programs = crate::PROGRAMS[0].path().parent().expect("a folder");
        let script = Command::new(ops("release"));
        let arguments = [
            TARGET,
            programs.to_str().expect("text"),
            directory.path().to_str().expect("text"),
        ];
        let (is_made, text) = run(script, &arguments);
        assert!(is_made, "{text}");
        Some(directory)
    });
    release.as_ref()
}

/// The target of the tests' release.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Returns the path of the Debian package of a release.
fn package(release: &Directory) -> String {
    let files = fs::read_dir(release.path()).expect("a folder");
    let mut paths = files.map(|file| file.expect("a file").path().display().to_string());
    let package = paths.find(|path| path.ends_with(".deb"));
    package.expect("a package")
}

#[test]
fn lintian_finds_nothing_wrong_with_the_debian_package() {
    let (Some(release), Some(lintian)) = (release(), find("lintian")) else {
        return;
    };
    let arguments = ["--allow-root", "--fail-on", "error,warning"];
    let package = package(release);
    let checked = run(lintian, &[&arguments[..], &[&package]].concat());
    assert_eq!(checked, (true, String::new()));
}

#[test]
fn the_debian_package_has_a_configuration_that_is_good_and_a_user() {
    let Some(release) = release() else {
        return;
    };
    let (package, root) = (package(release), Directory::new());
    let dpkg = |arguments: &[&str]| {
        let dpkg = find("dpkg-deb").expect("it has made it");
        let (is_done, text) = run(dpkg, arguments);
        assert!(is_done, "{text}");
        text
    };
    let path = root.path().to_str().expect("text");
    dpkg(&["--raw-extract", &package, path]);
    let conffiles = fs::read_to_string(root.file("DEBIAN/conffiles"));
    assert_eq!(
        conffiles.expect("a list"),
        "/etc/voltlane/connserver.toml\n"
    );
    let listed = dpkg(&["--contents", &package]);
    for file in [
        "./usr/bin/voltlane",
        "./lib/systemd/system/voltlane.service",
        "./lib/systemd/system/voltlane.socket",
        "./usr/share/man/man1/voltlane-ctl.1.gz",
        "./usr/share/man/man5/connserver.toml.5.gz",
        "./usr/share/bash-completion/completions/voltlane",
        "./usr/share/zsh/vendor-completions/_voltlane",
        "./usr/share/fish/vendor_completions.d/voltlane.fish",
        "./usr/share/doc/voltlane/licences-of-others.gz",
    ] {
        let line = listed.lines().find(|line| line.ends_with(file));
        let line = line.unwrap_or_else(|| panic!("{file} is not in\n{listed}"));
        assert!(line.contains("root/root"), "{line}");
        let mode = if file.contains("/bin/") {
            "-rwxr-xr-x"
        } else {
            "-rw-r--r--"
        };
        assert!(line.starts_with(mode), "{line}");
    }
    assert!(
        listed.starts_with("drwxr-xr-x"),
        "the root itself: {listed}"
    );
    // The program takes the configuration. systemd makes the folder of the key.
    let mut program = Command::new(root.file("usr/bin/voltlane"));
    program.env("VOLTLANE_GENERAL_KEY_FILE", root.file("edge.key"));
    let configuration = root.file("etc/voltlane/connserver.toml");
    let configuration = configuration.to_str().expect("text");
    let (is_good, shown) = run(program, &["check", "--config", configuration]);
    assert!(is_good, "{shown}");
    let text = fs::read_to_string(configuration).expect("a file");
    let in_effect = text
        .lines()
        .filter(|line| line.contains(" = ") && !line.starts_with('#'));
    assert_eq!(
        in_effect.collect::<Vec<_>>(),
        [
            "key_file = \"/var/lib/voltlane/edge.key\"",
            "upgrade_socket = \"/run/voltlane/upgrade.sock\"",
            "address = \"unix:/run/voltlane/admin.sock\"",
            "ban_file = \"/var/lib/voltlane/bans\"",
        ]
    );
    for script in ["postinst", "prerm", "postrm"] {
        let shell = find("sh").expect("every system has it");
        let path = root.file(&format!("DEBIAN/{script}"));
        let checked = run(shell, &["-n", path.to_str().expect("text")]);
        assert_eq!(checked, (true, String::new()), "{script}");
    }
    // With programs in its place that tell what they are asked for, and change nothing.
    let (stubs, told) = (Directory::new(), root.file("told"));
    for program in [
        "adduser",
        "deb-systemd-helper",
        "deb-systemd-invoke",
        "systemctl",
    ] {
        let stub = format!("#!/bin/sh\necho {program} \"$@\" >> '{}'\n", told.display());
        stubs.write(program, stub);
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(stubs.file(program), mode).expect("it is ours");
    }
    let mut postinst = Command::new("/bin/sh");
    postinst.env("PATH", stubs.path());
    let script = root.file("DEBIAN/postinst");
    let ran = run(postinst, &[script.to_str().expect("text"), "configure", ""]);
    assert_eq!(ran, (true, String::new()));
    let said = fs::read_to_string(&told).expect("it has told");
    let first =
        "adduser --quiet --system --group --no-create-home --home /var/lib/voltlane voltlane";
    assert_eq!(said.lines().next(), Some(first));
    // An edge without a backend is not for the installation to start.
    assert!(!said.contains("start"), "{said}");
    // An update restarts it only if the new program cannot take over.
    if Path::new("/run/systemd/system").is_dir() {
        for (code, restarts) in [(0, false), (1, true)] {
            let stub = format!(
                "#!/bin/sh\necho voltlane \"$@\" >> '{}'; exit {code}\n",
                told.display()
            );
            stubs.write("voltlane", stub);
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(stubs.file("voltlane"), mode).expect("it is ours");
            fs::write(&told, "").expect("it is ours");
            let mut postinst = Command::new("/bin/sh");
            postinst.env("PATH", stubs.path());
            let ran = run(
                postinst,
                &[script.to_str().expect("text"), "configure", "0.1"],
            );
            assert_eq!(ran, (true, String::new()));
            let said = fs::read_to_string(&told).expect("it has told");
            assert!(
                said.contains("voltlane upgrade --config /etc/voltlane/connserver.toml\n"),
                "{said}"
            );
            assert_eq!(said.contains("try-restart"), restarts, "{said}");
        }
    }
}

#[test]
fn binstall_finds_the_programs_where_the_manifest_says() {
    let Some(release) = release() else {
        return;
    };
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let manifest = fs::read_to_string(manifest).expect("a manifest");
    let manifest: toml::Table = manifest.parse().expect("it is one");
    let binstall = &manifest["package"]["metadata"]["binstall"];
    let says = |key: &str| binstall[key].as_str().expect("text");
    assert_eq!(says("pkg-fmt"), "tgz");
    let (_, archive) = says("pkg-url").rsplit_once('/').expect("a URL");
    let archive = archive.replace("{ target }", TARGET);
    let tar = find("tar").expect("it has packed it");
    let archive = release.file(&archive);
    let (is_archive, listed) = run(tar, &["-tzf", archive.to_str().expect("text")]);
    assert!(is_archive, "{listed}");
    let place = says("bin-dir").replace("{ target }", TARGET);
    let place = place.replace("{ binary-ext }", "");
    for program in crate::PROGRAMS {
        let program = place.replace("{ bin }", program.name());
        assert!(
            listed.lines().any(|line| line == program),
            "{program} in {listed}"
        );
    }
    let sums = find("sha256sum").expect("it has made them");
    let mut sums = sums;
    sums.current_dir(release.path());
    let (is_right, text) = run(sums, &["--check", "--strict", "SHA256SUMS"]);
    assert!(is_right, "{text}");
    assert_eq!(text.lines().count(), 4, "{text}");
}

#[test]
fn the_bill_of_materials_has_what_is_in_the_programs_with_licences_we_allow() {
    let Some(release) = release() else {
        return;
    };
    let bill = fs::read_to_string(release.file("voltlane.cdx.json")).expect("a bill");
    let bill: Value = serde_json::from_str(&bill).expect("JSON");
    assert_eq!(bill["bomFormat"], "CycloneDX");
    assert_eq!(
        bill["metadata"]["component"]["version"],
        env!("CARGO_PKG_VERSION")
    );
    let components = bill["components"].as_array().expect("a list");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let names: Vec<_> = components.iter().map(|own| text(&own["name"])).collect();
    for shipped in ["voltlane-core", "rustls", "ring", "tokio", "k256", "clap"] {
        assert!(names.iter().any(|name| name == shipped), "{shipped}");
    }
    // Of the tests, of the compiler, and of another system.
    for other in [
        "proptest",
        "conformance",
        "syn",
        "serde_derive",
        "windows-sys",
    ] {
        assert!(!names.iter().any(|name| name == other), "{other}");
    }
    let rules = fs::read_to_string(ops("../deny.toml")).expect("the rules");
    let rules: toml::Table = rules.parse().expect("they are TOML");
    let allowed = rules["licenses"]["allow"].as_array().expect("a list");
    let texts = fs::read_to_string(release.file("LICENCES-OF-OTHERS.txt")).expect("a file");
    let mut references = BTreeSet::from([text(&bill["metadata"]["component"]["bom-ref"])]);
    for component in components {
        let expression = text(&component["licenses"][0]["expression"]);
        let mut choices = expression.split(" OR ");
        let is_allowed = |choice: &str| {
            let choice = choice.trim_matches(['(', ')']);
            let mut all = choice
                .split(" AND ")
                .map(|one| one.trim_matches(['(', ')']));
            all.all(|one| allowed.iter().any(|licence| licence.as_str() == Some(one)))
        };
        assert!(choices.any(is_allowed), "{component}");
        assert!(
            references.insert(text(&component["bom-ref"])),
            "twice: {component}"
        );
        let is_ours = text(&component["name"]).starts_with("voltlane-");
        assert_eq!(component["hashes"].is_null(), is_ours, "{component}");
        let line = format!(
            "\n{} {}: ",
            text(&component["name"]),
            text(&component["version"])
        );
        assert_eq!(texts.contains(&line), !is_ours, "{line}");
    }
    for own in bill["dependencies"].as_array().expect("a list") {
        let needs = own["dependsOn"].as_array().expect("a list");
        for reference in needs.iter().chain([&own["ref"]]) {
            assert!(references.contains(&text(reference)), "{reference}");
        }
    }
}
