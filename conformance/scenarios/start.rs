//! Between the start of the process and the moment at which it serves.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use conformance::{Client, Directory, Edge, Process, Signal};

use super::operation::{free_place, mute_backend};

/// Returns a program that waits at its start for an unresponsive backend, the address at which it will listen, and the guard that keeps the
/// backend unresponsive.
fn waiting() -> (Process, SocketAddr, impl Sized) {
    let (listener, fillers, master) = mute_backend();
    let (directory, place) = (Directory::new(), free_place());
    directory.write("connserver.toml", "master.required_at_start = true\n");
    let arguments = [
        "--listen",
        &place.to_string(),
        "--master",
        &master.to_string(),
    ];
    let mut process = super::PROGRAM.start(&directory, &arguments);
    process.stderr("waiting for the backend");
    (process, place, (listener, fillers, directory))
}

#[test]
fn while_it_waits_for_its_backend_one_signal_ends_it_and_clients_are_refused() {
    for signal in [Signal::TERM, Signal::INT] {
        let (process, place, _mute) = waiting();
        let refused = TcpStream::connect(place).expect_err("nobody is served");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        process.signal(signal);
        let finished = process.end();
        assert_eq!(finished.code, Some(0), "{finished:?}");
        let last = finished.stderr.lines().last().unwrap_or_default();
        assert!(last.contains("ended before it served"), "{finished:?}");
        assert!(!finished.stderr.contains("no answer in time"));
    }
}

#[test]
fn a_backend_that_does_not_answer_at_the_start_is_given_up_in_time() {
    let (process, _, _mute) = waiting();
    let finished = process.end();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let says = "cannot be reached: no answer in time";
    assert!(finished.stderr.contains(says), "{finished:?}");
}

/// An edge that cannot listen reports it before it connects to the backend, which may be another edge's.
#[test]
fn a_second_edge_at_one_address_does_not_disturb_the_backend_of_the_first() {
    let config = "master.required_at_start = true\n";
    let mut first = super::rig(config);
    let mut client = Client::join(first.address());
    let directory = Directory::new();
    directory.write("connserver.toml", config);
    let arguments = [
        "--listen",
        &first.address().to_string(),
        "--master",
        &first.backend.address().to_string(),
    ];
    let second = super::PROGRAM.run(&directory, &arguments);
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.stderr.contains("cannot listen on"), "{second:?}");
    assert!(!second.stderr.contains("waiting for the backend"));
    first.round_trip(&mut client, b"mine");
    first.stop();
}

/// A parent has blocked the signals of its child, which handles them all the same.
#[test]
fn signals_that_were_blocked_by_the_parent_end_it_and_have_it_read_its_configuration() {
    let directory = Directory::new();
    directory.write("connserver.toml", "general.log_level = \"Info\"\n");
    let program = super::PROGRAM.command(&directory, &["--listen", "127.0.0.1:0"]);
    for signal in [Signal::TERM, Signal::INT] {
        let mut blocked = Command::new("env");
        blocked
            .args(["--block-signal=TERM,INT,HUP", "--"])
            .arg(program.get_program())
            .args(program.get_args())
            .current_dir(directory.path());
        let edge = Edge::spawn(blocked);
        edge.signal(Signal::HUP);
        edge.expect_log("the configuration was read again");
        edge.signal(signal);
        edge.expect_end(Some(0));
    }
}
