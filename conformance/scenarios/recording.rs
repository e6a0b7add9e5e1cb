//! What the edge is told is recorded, and can be run again. (SPEC 42)

use std::fs;
use std::os::unix::fs::PermissionsExt;

use conformance::{Backend, Client, ClientV3, Directory, Edge, Link, Process, Signal};
use voltlane_app::key_file::read_key;
use voltlane_core::edge::record::{Recording, Replay};

use super::PROGRAM;

const RECORDS: [&str; 4] = ["run", "--record", "edge.record", "--listen"];

/// Sends packets down until there were this many bytes.
fn send_down(link: &mut Link, client: &mut ClientV3, bytes: usize) {
    let data = vec![b'.'; 16 * 1024];
    for _ in 0..bytes / data.len() {
        link.send(client.id(), &data);
        client.expect(&data);
    }
}

/// Starts an edge that is recorded.
fn start(directory: &Directory, backend: &Backend) -> Edge {
    let config = "[general]\nkey_file = \"edge.key\"\nshards = 2\n[metrics]\naddress = \"\"\n";
    directory.write("connserver.toml", config);
    let backend = backend.address().to_string();
    let arguments = [&RECORDS[..], &["127.0.0.1:0", "--master", &backend]].concat();
    Edge::spawn(PROGRAM.command(directory, &arguments))
}

/// Runs the recording again. Returns how many clients there were, how many came back, and how many packets went down.
fn run_again(directory: &Directory, name: &str) -> (u64, u64, u64) {
    let file = directory.file(name);
    let mode = fs::metadata(&file).expect("recorded").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let keys = read_key(&directory.file("edge.key")).expect("a key");
    let bytes = fs::read(&file).expect("recorded");
    let recording = Recording::open(&bytes, &keys.expect("a key")).expect("it opens");
    assert_eq!(recording.torn_bytes(), 0, "the last chunk is whole");
    let mut replay = Replay::new(&recording).expect("a machine");
    let (records, _, difference) = replay.run().expect("good records");
    assert!(difference.is_none(), "{difference:?}");
    assert!(records > 20, "{records}");
    let counters = replay.edge().counters();
    (counters.joined, counters.resumed, counters.packets_down)
}

/// Lets a client of each version come and go.
fn visit(edge: &Edge, link: &mut Link) {
    let mut client = ClientV3::join(edge.address());
    client.send(b"up");
    link.expect_data(client.id(), b"up");
    link.send(client.id(), b"a secret payload");
    assert_eq!(client.recv(), (1, b"a secret payload".to_vec()));
    let mut client = Client::join(edge.address());
    client.send(b"here");
    link.expect_data(client.id(), b"here");
    let session = client.leave();
    let id = session.id;
    let mut client = session.resume(edge.address());
    link.expect_resumed(id);
    client.send(b"again");
    link.expect_data(id, b"again");
}

#[test]
fn the_recorded_machine_does_the_same_again_and_the_last_recording_is_kept() {
    let (directory, backend) = (Directory::new(), Backend::bind());
    for names in [&["edge.record"][..], &["edge.record", "edge.record.1"]] {
        let edge = start(&directory, &backend);
        assert_eq!(edge.shards(), 1, "a shard is recorded");
        let mut link = backend.accept();
        visit(&edge, &mut link);
        // It goes on over a reload.
        edge.signal(Signal::HUP);
        edge.expect_log("the configuration was read again");
        edge.signal(Signal::TERM);
        while link.try_recv().is_some() {}
        drop(link);
        edge.expect_log("the recording is written");
        edge.expect_end(Some(0));
        for name in names {
            assert_eq!(run_again(&directory, name), (2, 1, 1), "{name}");
        }
    }
    let bytes = fs::read(directory.file("edge.record")).expect("recorded");
    let shows = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    assert!(!shows(b"a secret payload"), "it is sealed");
}

#[test]
fn the_last_segments_of_a_long_recording_are_kept_and_run_again_alone() {
    let (directory, backend) = (Directory::new(), Backend::bind());
    directory.write("connserver.toml", "[general]\nkey_file = \"edge.key\"\n");
    let address = backend.address().to_string();
    let bound = ["--record-bytes", "4194304", "--listen", "127.0.0.1:0"];
    let arguments = [&RECORDS[..3], &bound, &["--master", &address]].concat();
    let edge = Edge::spawn(PROGRAM.command(&directory, &arguments));
    let mut link = backend.accept();
    let mut client = ClientV3::join(edge.address());
    client.send(b"up");
    link.expect_data(client.id(), b"up");
    send_down(&mut link, &mut client, 6 << 20);
    edge.signal(Signal::TERM);
    while link.try_recv().is_some() {}
    drop(link);
    edge.expect_log("the recording is written");
    edge.expect_end(Some(0));
    let mut bytes = 0;
    let mut last = 0;
    for name in [
        "edge.record.3",
        "edge.record.2",
        "edge.record.1",
        "edge.record",
    ] {
        bytes += fs::metadata(directory.file(name)).expect("recorded").len();
        let (joined, _, down) = run_again(&directory, name);
        assert!(joined == 1 && down > last, "{name}: {down} after {last}");
        last = down;
    }
    assert_eq!(last, (6 << 20) / (16 * 1024));
    assert!((2 << 20..=4 << 20).contains(&bytes), "{bytes}");
}

/// SPEC 42.1(g): what the first process was told until the second one had its clients.
#[cfg(target_os = "linux")]
#[test]
fn the_recording_of_a_process_that_another_one_takes_over_from_is_whole() {
    let (directory, backend) = (Directory::new(), Backend::bind());
    let socket = directory.file("upgrade.sock");
    let config = format!(
        "[general]\nkey_file = \"edge.key\"\nupgrade_socket = {socket:?}\nshards = 1\n[metrics]\naddress = \"\"\n"
    );
    directory.write("connserver.toml", &config);
    let master = backend.address().to_string();
    let place = ["127.0.0.1:0", "--master", &master];
    let arguments = [&RECORDS[..], &place].concat();
    let edge = Edge::spawn(PROGRAM.command(&directory, &arguments));
    let mut link = backend.accept();
    visit(&edge, &mut link);
    let mut client = ClientV3::join(edge.address());
    let arguments = [&["take-over", "--listen"][..], &place].concat();
    let next = Edge::spawn(PROGRAM.command(&directory, &arguments));
    next.expect_log("took over from the process before");
    edge.expect_log("the recording is written");
    edge.expect_end(Some(0));
    assert_eq!(run_again(&directory, "edge.record"), (3, 1, 1));
    // The next process is not recorded, and leaves the file as it is.
    let written = fs::read(directory.file("edge.record")).expect("recorded");
    client.send(b"on");
    link.expect_data(client.id(), b"on");
    next.signal(Signal::TERM);
    while link.try_recv().is_some() {}
    drop(link);
    next.expect_end(Some(0));
    assert_eq!(fs::read(directory.file("edge.record")).ok(), Some(written));
    assert!(!directory.file("edge.record.1").exists());
}

#[test]
fn an_edge_without_a_key_file_is_not_recorded_and_other_files_stay() {
    let directory = Directory::new();
    let says = |config: &str| {
        directory.write("connserver.toml", config);
        let arguments = [&RECORDS[..], &["127.0.0.1:0"]].concat();
        let ended = Process::start(PROGRAM.command(&directory, &arguments)).end();
        assert_eq!(ended.code, Some(1));
        ended.stderr
    };
    let text = says("[general]\nkey_file = \"\"\n[metrics]\naddress = \"\"\n");
    assert!(text.contains("--record needs general.key_file"), "{text}");
    directory.write("edge.record", "something else");
    let text = says("[general]\nkey_file = \"edge.key\"\n[metrics]\naddress = \"\"\n");
    assert!(
        text.contains("is no recording, and is not replaced"),
        "{text}"
    );
}
