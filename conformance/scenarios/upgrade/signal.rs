//! SIGUSR2 asks for a new process. (SPEC 41.5)

use std::ffi::OsStr;
use std::fs::Permissions;

use super::*;

/// Returns the process of the last line that says that one was started.
fn started(edge: &Edge) -> Option<Pid> {
    let log = edge.log();
    let line = log
        .lines()
        .rfind(|line| line.contains("a new process was started to take over"))?;
    let (_, pid) = line.split_once("pid=")?;
    Pid::from_raw(pid.trim().parse().ok()?)
}

/// Waits until the log has this part so many times.
fn until_log(edge: &Edge, part: &str, times: usize) {
    let until = Instant::now() + conformance::PATIENCE;
    while edge.log().matches(part).count() < times {
        assert!(Instant::now() < until, "{part}: {}", edge.log());
        thread::yield_now();
    }
}

const TOOK: &str = "took over from the process before";

#[test]
fn three_signals_under_traffic_drop_and_lose_nothing() {
    const CLIENTS: usize = 24;
    let place = Place::new(1);
    let (edge, link) = place.start();
    let echo = thread::spawn(move || link.echo());
    let ends = Arc::new(AtomicBool::new(false));
    let (talkers, quiet) = talkers(edge.address(), CLIENTS, &ends, &[]);
    let mut successor = Successor(None);
    for round in 1..=3 {
        match successor.0 {
            None => edge.signal(Signal::USR2),
            Some(pid) => kill_process(pid, Signal::USR2).expect("it serves"),
        }
        until_log(&edge, TOOK, round);
        successor.0 = started(&edge);
    }
    ends.store(true, Ordering::Relaxed);
    for _ in 0..CLIENTS {
        let quiet = quiet.recv_timeout(conformance::PATIENCE);
        quiet.expect("no client is dropped");
    }
    let talked = talkers.into_iter();
    let packets: u64 = talked
        .map(|it| it.join().expect("no client is dropped").0)
        .sum();
    let log = edge.log();
    assert_eq!(log.matches(TOOK).count(), 3);
    assert!(!log.contains("WARN"), "{log}");
    drop(successor);
    assert_eq!(echo.join().expect("no packet is malformed"), packets);
    edge.expect_end(Some(0));
}

/// Puts a copy of this file in the place of the program of `place`, as a package does. Another process writes it: a process that is started
/// meanwhile, by another test, has no descriptor of it, with which nobody could run it.
fn install(place: &Place, program: &std::path::Path) {
    let new = place.directory.file("new");
    let copied = Command::new("cp").arg(program).arg(&new).status();
    assert!(copied.expect("there is a cp").success());
    fs::set_permissions(&new, Permissions::from_mode(0o755)).expect("it is ours");
    fs::rename(new, place.directory.file("edge")).expect("the same directory");
}

fn install_script(place: &Place, does: &str) {
    place
        .directory
        .write("script", format!("#!/bin/sh\n{does}\n"));
    install(place, &place.directory.file("script"));
}

fn install_edge(place: &Place) {
    install(place, super::super::PROGRAM.path());
}

#[test]
fn a_program_that_fails_changes_nothing_and_a_second_signal_starts_no_second_one() {
    let place = Place::new(1);
    install_edge(&place);
    let built = place.command(&[]);
    let mut command = Command::new(place.directory.file("edge"));
    command
        .args(built.get_args())
        .current_dir(place.directory.path());
    for (name, value) in built.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let edge = Edge::spawn(command);
    let mut link = place.backend.accept();
    let mut client = Client::join(edge.address());

    install_script(&place, "exit 3");
    edge.signal(Signal::USR2);
    until_log(&edge, "the new process has ended: exit status: 3", 1);
    exchange(&mut client, &mut link, b"after a program that fails");

    // It never says anything.
    install_script(&place, "exec sleep 600");
    edge.signal(Signal::USR2);
    until_log(&edge, "a new process was started to take over", 2);
    edge.signal(Signal::USR2);
    until_log(
        &edge,
        "a new process was started already, and has not taken over yet",
        1,
    );
    assert_eq!(
        edge.log()
            .matches("a new process was started to take over")
            .count(),
        2
    );
    exchange(&mut client, &mut link, b"while one is under way");
    kill_process(started(&edge).expect("its number"), Signal::KILL).expect("it sleeps");
    until_log(&edge, "the new process has ended: signal: 9", 1);
    let status = fs::read_to_string(format!(
        "/proc/{}/status",
        started(&edge).expect("its number").as_raw_nonzero()
    ));
    assert!(status.is_err(), "it is reaped");

    fs::remove_file(place.directory.file("edge")).expect("it is there");
    edge.signal(Signal::USR2);
    until_log(&edge, "cannot be started: No such file or directory", 1);
    exchange(&mut client, &mut link, b"without a program");

    install_edge(&place);
    edge.signal(Signal::USR2);
    until_log(&edge, TOOK, 1);
    let successor = Successor(started(&edge));
    let pid = successor.0.expect("its number").as_raw_nonzero();
    let program = fs::read_link(format!("/proc/{pid}/exe")).expect("it serves");
    assert_eq!(program.file_name(), Some(OsStr::new("edge")));
    exchange(&mut client, &mut link, b"in the new process");
    drop(successor);
    edge.expect_end(Some(0));
}

#[test]
fn a_signal_to_an_edge_that_cannot_be_taken_over_is_answered_with_what_to_set() {
    let backend = Backend::bind();
    let edge = Edge::start(super::super::PROGRAM, backend.address(), "");
    let mut link = backend.accept();
    let mut client = Client::join(edge.address());
    for round in 1..=2 {
        edge.signal(Signal::USR2);
        until_log(
            &edge,
            "set general.upgrade_socket, and general.key_file",
            round,
        );
    }
    exchange(&mut client, &mut link, b"still here");
    edge.stop();
}
