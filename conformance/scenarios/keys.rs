//! The edge's key: created at the start, or kept in a file. (SPEC 6.1(b))

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use conformance::{Backend, Client, Directory, Edge};

/// Starts an edge that keeps its key in this directory.
fn start(directory: &Directory, backend: &Backend) -> Edge {
    Edge::start_in(
        super::PROGRAM,
        directory,
        backend.address(),
        "general.key_file = \"edge.key\"\n",
    )
}

#[test]
fn without_a_file_each_run_has_a_key_of_its_own() {
    let backend = Backend::bind();
    let keys = [(); 2].map(|()| {
        let edge = Edge::start(super::PROGRAM, backend.address(), "");
        Client::join(edge.address()).session.edge_key
    });
    assert_ne!(keys[0], keys[1]);
}

#[test]
fn with_a_file_clients_recognise_the_edge_after_a_restart() {
    let (backend, directory) = (Backend::bind(), Directory::new());
    let edge = start(&directory, &backend);
    let _link = backend.accept();
    let client = Client::join(edge.address());
    let mode = fs::metadata(directory.file("edge.key")).expect("made");
    assert_eq!(mode.mode() & 0o7777, 0o600);
    let text = directory.read("edge.key").expect("readable");
    let session = client.leave();
    edge.stop();

    let edge = start(&directory, &backend);
    assert_eq!(directory.read("edge.key").expect("readable"), text);
    // Sessions do not outlive the run: the old one is refused like any unknown id.
    let fresh = Client::join(edge.address());
    assert_eq!(fresh.session.edge_key, session.edge_key);
    session.expect_refused(edge.address());
    edge.stop();
}

/// A Kubernetes Secret with an fsGroup is such a file, and its mode cannot be changed there.
#[test]
fn a_file_that_its_group_may_read_is_taken_with_a_warning() {
    let (backend, directory) = (Backend::bind(), Directory::new());
    start(&directory, &backend).stop();
    for mode in [0o440, 0o640] {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(directory.file("edge.key"), mode).expect("our own file");
        let edge = start(&directory, &backend);
        let line = edge.expect_log("the group of the key file may read the key");
        assert!(line.contains("WARN"), "{line}");
        edge.stop();
    }
}

/// `check` warns like a start does, and prints the path of the key but never the key.
#[test]
fn check_warns_of_a_key_file_that_its_group_may_read() {
    let (backend, directory) = (Backend::bind(), Directory::new());
    start(&directory, &backend).stop();
    let file = directory.read("edge.key").expect("made");
    let key = file.split_whitespace().last().expect("the digits");
    assert_eq!(key.len(), 64);
    let check = |arguments: &[&str], mode| {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(directory.file("edge.key"), mode).expect("our own file");
        let checked = super::PROGRAM.run(&directory, arguments);
        assert!(!checked.stdout.contains(key) && !checked.stderr.contains(key));
        checked
    };
    const SAYS: &str = "the group of the key file may read the key (mode 0640)";
    for mode in [0o600, 0o640] {
        let is_warned = mode == 0o640;
        let text = check(&["check"], mode);
        assert_eq!(text.code, Some(0), "{text:?}");
        assert_eq!(text.stdout.contains(SAYS), is_warned, "{text:?}");
        let json = check(&["check", "--json"], mode);
        assert_eq!(json.code, Some(0), "{json:?}");
        let report: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
        assert_eq!(report["values"]["general.key_file"]["value"], "edge.key");
        let warnings = report["warnings"].as_array().expect("a list");
        assert_eq!(warnings.len(), usize::from(is_warned), "{report}");
        if let Some(warning) = warnings.first() {
            assert_eq!(warning["what"], SAYS);
            assert_eq!(warning["key"], "general.key_file");
            assert_eq!(warning["place"]["source"], "file");
        }
    }
    let exposed = check(&["check", "--json"], 0o644);
    assert_eq!(exposed.code, Some(2), "{exposed:?}");
    let report: serde_json::Value = serde_json::from_str(&exposed.stdout).expect("JSON");
    let remedy = "make it mode 0600, or 0640 for its group to read it";
    assert_eq!(report["errors"][0]["remedy"], remedy);
}

#[test]
fn a_file_that_holds_no_key_or_that_others_can_read_is_refused_and_left_alone() {
    let (backend, directory) = (Backend::bind(), Directory::new());
    start(&directory, &backend).stop();
    let good = directory.read("edge.key").expect("made");
    let half = &good[..good.len() / 2];
    let rows = [
        ("empty", "", 0o600),
        ("half a key", half, 0o600),
        ("something else", "-----BEGIN PRIVATE KEY-----\n", 0o600),
        ("readable by all", &good, 0o644),
        ("writable by a group", &good, 0o660),
    ];
    for (name, contents, mode) in rows {
        directory.write("edge.key", contents);
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(directory.file("edge.key"), mode).expect("our own file");
        let finished = super::PROGRAM.run(&directory, &["--listen", "127.0.0.1:0"]);
        assert!(matches!(finished.code, Some(1 | 2)), "{name}: {finished:?}");
        assert!(finished.stderr.contains("edge.key"), "{name}: {finished:?}");
        assert!(
            !finished.stderr.contains(good.trim()),
            "{name}: the key is in the log"
        );
        assert_eq!(
            directory.read("edge.key").expect("readable"),
            contents,
            "{name}"
        );
    }
}

#[test]
fn a_place_where_no_file_can_be_is_refused() {
    let directory = Directory::new();
    directory.write(
        "connserver.toml",
        "general.key_file = \"missing/edge.key\"\n",
    );
    for arguments in [&["--listen", "127.0.0.1:0"][..], &["check"]] {
        let finished = super::PROGRAM.run(&directory, arguments);
        assert_eq!(finished.code, Some(2), "{finished:?}");
        let says = "missing/edge.key: does not exist and cannot be written";
        assert!(finished.stderr.contains(says), "{finished:?}");
    }
}
