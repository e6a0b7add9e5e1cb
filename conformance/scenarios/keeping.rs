//! Sessions that go on over a restart of the edge. (SPEC 39)

use std::fs;
use std::os::unix::fs::PermissionsExt;

use conformance::v3::Heard;
use conformance::{Backend, Client, ClientV3, Directory, Edge, Link, Session, Signal};
use voltlane_core::client::{Code, DropCause};
use voltlane_core::link::tagged::Flag;

use super::HEALING;

const KEEPS: &str = "general.key_file = \"edge.key\"\ngeneral.snapshot_file = \"sessions\"\n";

fn start(directory: &Directory, backend: &Backend, shards: u8) -> Edge {
    let config = format!("{KEEPS}{HEALING}general.shards = {shards}\n");
    Edge::start_in(super::PROGRAM, directory, backend.address(), &config)
}

/// Ends the edge, and reads its link to the end: no session ends.
fn end(edge: Edge, mut link: Link) {
    edge.signal(Signal::TERM);
    while let Some(packet) = link.try_recv() {
        assert_eq!(packet.flag, Flag::Data, "{packet:?}");
    }
    drop(link);
    edge.expect_log("the sessions are saved");
    edge.expect_end(Some(0));
}

/// A client of version 3 that has heard one packet each way, and its part in what follows: half of them lose their connection before the end.
fn join(edge: &Edge, link: &mut Link) -> ClientV3 {
    let mut client = ClientV3::join(edge.address());
    client.send(b"up 1");
    link.expect_data(client.id(), b"up 1");
    link.send(client.id(), b"down 1");
    assert_eq!(client.recv(), (1, b"down 1".to_vec()));
    client
}

fn leave_old(edge: &Edge, link: &mut Link) -> Session {
    let mut client = Client::join(edge.address());
    client.send(b"here");
    link.expect_data(client.id(), b"here");
    client.leave()
}

/// Waits until the edge says that it restarts. Returns the packets before that.
fn hear_of_restart(client: &mut ClientV3) -> Vec<(u64, Vec<u8>)> {
    let mut packets = Vec::new();
    loop {
        match client.hear() {
            Heard::Packet(number, data) => packets.push((number, data)),
            Heard::Dropped(DropCause::Told(Code::RESTART)) => return packets,
            Heard::CaughtUp => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn clients_of_both_versions_come_back_and_miss_nothing() {
    for (before, after) in [(1, 1), (2, 3), (3, 2), (1, 2)] {
        let (backend, directory) = (Backend::bind(), Directory::new());
        let edge = start(&directory, &backend, before);
        let mut link = backend.accept();
        let mut clients: Vec<_> = (0..8).map(|_| join(&edge, &mut link)).collect();
        let old: Vec<_> = (0..4).map(|_| leave_old(&edge, &mut link)).collect();
        // Half of them have lost their connections, and the edge may not know.
        let lost: Vec<_> = clients[..4].iter_mut().map(ClientV3::abandon).collect();
        for client in &clients {
            link.send(client.id(), b"down 2");
        }
        for session in &old {
            link.send(session.id, b"missed");
        }
        end(edge, link);
        let mode = fs::metadata(directory.file("sessions")).expect("saved");
        assert_eq!(mode.permissions().mode() & 0o7777, 0o600);
        let mut heard: Vec<_> = clients[4..].iter_mut().map(hear_of_restart).collect();
        heard.splice(0..0, (0..4).map(|_| Vec::new()));
        drop(lost);
        for client in &mut clients {
            client.send(b"up 2");
        }

        let edge = start(&directory, &backend, after);
        edge.expect_log("the sessions of the last process go on sessions=12");
        assert!(!directory.file("sessions").exists(), "it is used once");
        let mut link = backend.accept();
        for (client, heard) in clients.iter_mut().zip(&mut heard) {
            let id = client.id();
            link.send(id, b"down 3");
            client.come_back(edge.address());
            link.expect_resumed(id);
            link.expect_data(id, b"up 2");
            while heard.len() < 2 {
                heard.push(client.recv());
            }
            let expected = [(2, b"down 2".to_vec()), (3, b"down 3".to_vec())];
            assert_eq!(*heard, expected, "{before} shards, then {after}");
            client.send(b"up 3");
            link.expect_data(id, b"up 3");
        }
        for session in old {
            let id = session.id;
            let mut client = session.resume(edge.address());
            link.expect_resumed(id);
            client.expect(b"missed");
            client.send(b"here again");
            link.expect_data(id, b"here again");
        }
        // A newcomer, and another restart.
        clients.push(join(&edge, &mut link));
        end(edge, link);
        clients.iter_mut().for_each(|client| {
            hear_of_restart(client);
        });
        let edge = start(&directory, &backend, before);
        let mut link = backend.accept();
        for client in &mut clients {
            client.come_back(edge.address());
            link.expect_resumed(client.id());
            client.send(b"up");
            link.expect_data(client.id(), b"up");
        }
    }
}

#[test]
fn a_file_that_cannot_be_used_is_named_and_the_edge_begins_without_it() {
    let (backend, directory) = (Backend::bind(), Directory::new());
    let edge = start(&directory, &backend, 1);
    let mut link = backend.accept();
    let mut client = join(&edge, &mut link);
    end(edge, link);
    hear_of_restart(&mut client);
    let file = directory.file("sessions");
    let saved = fs::read(&file).expect("saved");
    assert!(!saved.windows(6).any(|bytes| bytes == b"down 1"));

    // Used, and then put back.
    let edge = start(&directory, &backend, 1);
    let mut link = backend.accept();
    client.come_back(edge.address());
    link.expect_resumed(client.id());
    end(edge, link);
    hear_of_restart(&mut client);
    for (bytes, says) in [
        (&saved[..], "its sessions went on before"),
        (&saved[..saved.len() / 2], "move it away"),
        (b"something else", "no snapshot of an edge"),
    ] {
        fs::write(&file, bytes).expect("our own file");
        let edge = start(&directory, &backend, 1);
        let line = edge.expect_log("the sessions of the last process do not go on");
        assert!(line.contains(says), "{line}");
        assert!(line.contains("sessions"), "{line}");
        let mut link = backend.accept();
        let mut other = join(&edge, &mut link);
        end(edge, link);
        hear_of_restart(&mut other);
    }
}
