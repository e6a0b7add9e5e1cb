//! The edge's key: made at the start, or kept in a file. (SPEC 6.1(b))

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use conformance::{Backend, Client, Directory, Edge};

/// Starts an edge that keeps its key, in this directory.
fn start(directory: &Directory, backend: &Backend) -> Edge {
    Edge::start_in(
        crate::PROGRAM,
        directory,
        backend.address(),
        "general.key_file = \"edge.key\"\n",
    )
}

#[test]
fn without_a_file_each_run_has_a_key_of_its_own() {
    let backend = Backend::bind();
    let keys = [(); 2].map(|()| {
        let edge = Edge::start(crate::PROGRAM, backend.address(), "");
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

/// A Kubernetes Secret with an fsGroup is such a file, and nobody there can change that.
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
        let finished = crate::PROGRAM.run(&directory, &["--listen", "127.0.0.1:0"]);
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
    let finished = crate::PROGRAM.run(&directory, &["--listen", "127.0.0.1:0"]);
    assert!(matches!(finished.code, Some(1 | 2)), "{finished:?}");
    assert!(finished.stderr.contains("missing/edge.key"), "{finished:?}");
}
