//! A disk that is full, under what an edge writes: its recording and its saved sessions. The log has a case in `operation.rs`. The edge goes
//! on, and says it once.

use std::fs;
use std::process::Command;

use conformance::{Backend, ClientV3, Directory, Edge, Signal};

use super::PROGRAM;

/// Returns the command of a program that sees a disk of so many bytes in the directory `disk`, which has a file `fill` of some. `None`: the
/// system does not permit such a view.
fn with_small_disk(
    directory: &Directory,
    (bytes, filled): (u32, u32),
    arguments: &[&str],
) -> Option<Command> {
    fs::create_dir(directory.file("disk")).expect("a new directory");
    let mount = format!("mount -t tmpfs -o size={bytes} none disk");
    let view = |then: &str| {
        let mut command = Command::new("unshare");
        command
            .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
            .arg(format!("{mount} && {then}"))
            .current_dir(directory.path());
        command
    };
    let may = view("true").status();
    if !may.is_ok_and(|status| status.success()) {
        eprintln!("not shown: no namespaces for users here");
        return None;
    }
    let program = PROGRAM.command(directory, arguments);
    let mut command = view(&format!(
        "head -c {filled} /dev/zero > disk/fill && exec \"$0\" \"$@\""
    ));
    command.arg(program.get_program()).args(program.get_args());
    Some(command)
}

/// SPEC 42.1(e).
#[test]
fn a_full_disk_ends_the_recording_and_nothing_else() {
    let (directory, backend) = (Directory::new(), Backend::bind());
    let config = "[general]\nkey_file = \"edge.key\"\n[metrics]\naddress = \"127.0.0.1:0\"\n";
    directory.write("connserver.toml", config);
    let master = backend.address().to_string();
    let arguments = [
        "run",
        "--record",
        "disk/edge.record",
        "--listen",
        "127.0.0.1:0",
        "--master",
        &master,
    ];
    let Some(command) = with_small_disk(&directory, (1 << 20, 1 << 19), &arguments) else {
        return;
    };
    let edge = Edge::spawn(command);
    let figures = |name: &str| edge.metrics().value(name);
    let errors = || figures("voltlane_file_errors_total{file=\"record\"}");
    assert_eq!((figures("voltlane_recording"), errors()), (1, 0));
    let mut link = backend.accept();
    let mut client = ClientV3::join(edge.address());
    let data = vec![b'.'; 8 * 1024];
    for _ in 0..128 {
        client.send(&data);
        link.expect_data(client.id(), &data);
        link.send(client.id(), &data);
        client.expect(&data);
    }
    let line = edge.expect_log("the recording cannot be written and ends here; the edge goes on");
    assert!(line.contains("No space left"), "{line}");
    client.send(b"still here");
    link.expect_data(client.id(), b"still here");
    // The machine sees it when it has another chunk.
    let mut sees_it = (0..64).map(|_| {
        client.send(&data);
        link.expect_data(client.id(), &data);
        figures("voltlane_recording") == 0
    });
    assert!(sees_it.any(|ended| ended), "the metrics tell");
    assert_eq!(errors(), 1);
    let lines = edge.log().matches("the recording").count();
    assert_eq!(lines, 1, "{}", edge.log());
    edge.signal(Signal::TERM);
    while link.try_recv().is_some() {}
    drop(link);
    edge.expect_end(Some(0));
}

/// SPEC 39.3(c). The process has served until its end, and says that it could not save.
#[test]
fn a_full_disk_under_the_saved_sessions_is_told_at_the_end() {
    let (directory, backend) = (Directory::new(), Backend::bind());
    let config = "[general]\nkey_file = \"edge.key\"\nsnapshot_file = \"disk/sessions\"\n";
    directory.write("connserver.toml", config);
    let master = backend.address().to_string();
    let arguments = ["--listen", "127.0.0.1:0", "--master", &master];
    let Some(command) = with_small_disk(&directory, (1 << 16, 1 << 16), &arguments) else {
        return;
    };
    let edge = Edge::spawn(command);
    let mut link = backend.accept();
    let mut client = ClientV3::join(edge.address());
    client.send(b"up");
    link.expect_data(client.id(), b"up");
    edge.signal(Signal::TERM);
    while link.try_recv().is_some() {}
    drop(link);
    let line = edge.expect_log("the sessions are not saved");
    assert!(line.contains("No space left"), "{line}");
    edge.expect_end(Some(1));
}
