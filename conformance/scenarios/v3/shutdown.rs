//! The end of an edge, as clients of version 3 hear of it. (SPEC 9.8, 25.3, 25.4(e))

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use conformance::metrics::get;
use conformance::v3::Heard;
use conformance::{ClientV3, Signal, bytes_of};
use voltlane_core::client::{Code, DropCause};

use super::super::{METRICS, rig};
use super::{join, round_trip};

/// Returns why the client leaves its connection, behind packets.
fn why_it_leaves(client: &mut ClientV3) -> DropCause {
    loop {
        match client.hear() {
            Heard::Dropped(cause) => return cause,
            Heard::Packet(..) | Heard::CaughtUp => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_client_hears_that_the_edge_restarts_behind_what_waits_for_it() {
    let mut rig = rig("");
    let mut client = join(&mut rig);
    for n in 0..40 {
        rig.link.send(client.id(), &bytes_of(n, 10_000));
    }
    rig.fence();
    rig.edge.signal(Signal::TERM);
    for n in 0..40 {
        client.expect(&bytes_of(n, 10_000));
    }
    assert_eq!(why_it_leaves(&mut client), DropCause::Told(Code::RESTART));
    rig.edge.expect_end(Some(0));
}

#[test]
fn clients_are_asked_to_leave_before_the_end_and_served_until_they_do() {
    let mut rig = rig("general.drain_secs = 12\n");
    let clients: Vec<ClientV3> = (0..5).map(|_| join(&mut rig)).collect();
    let mut old = rig.join();
    let mut older = rig.join();
    rig.edge.signal(Signal::TERM);
    rig.edge.expect_log("asked to leave");
    let asked = Instant::now();
    let leave = clients
        .into_iter()
        .map(|mut client| thread::spawn(move || (why_it_leaves(&mut client), asked.elapsed())));
    let leave: Vec<_> = leave.collect();
    // The edge serves clients of version 2 until it closes them, one after the other. It accepts nobody else.
    for client in [&mut old, &mut older] {
        rig.round_trip(client, b"still served");
    }
    old.frames.expect_closed();
    assert!(TcpStream::connect(rig.address()).is_err());
    older.frames.expect_closed();
    assert!(!rig.edge.log().contains("shutting down"));
    let left = leave.into_iter().map(|one| one.join().expect("it leaves"));
    let left: Vec<(DropCause, Duration)> = left.collect();
    for (cause, _) in &left {
        assert_eq!(*cause, DropCause::Moved(Code::RESTART));
    }
    // They have all of the time, and not a millisecond each. That all draw its first tenth happens once in 100,000 times.
    let last = left.iter().map(|(_, after)| *after).max();
    assert!(last > Some(Duration::from_millis(1_200)), "{left:?}");
    rig.edge.expect_end(Some(0));
}

#[test]
fn before_the_end_the_edge_is_not_ready_and_accepts_clients() {
    let mut rig = rig(&format!("general.pre_stop_secs = 3600\n{METRICS}"));
    let address = rig.edge.metrics_address();
    let mut early = join(&mut rig);
    rig.edge.signal(Signal::TERM);
    rig.edge
        .expect_log("no longer ready, and still accepts clients");
    let (status, why) = get(address, "/readyz");
    assert_eq!(status, 503, "{why}");
    assert_eq!(get(address, "/healthz").0, 200);
    let mut late = join(&mut rig);
    for client in [&mut early, &mut late] {
        round_trip(&mut rig, client, b"as before");
    }
    rig.edge.expect_log("another signal ends it at once");
    rig.edge.signal(Signal::TERM);
    rig.edge.expect_end(Some(3));
}

#[test]
fn the_end_comes_after_its_announcement_and_a_drain() {
    let rig = rig("general.pre_stop_secs = 1\ngeneral.drain_secs = 1\n");
    rig.edge.signal(Signal::TERM);
    rig.edge.expect_log("shutting down");
    let log = rig.edge.log();
    let at = |part| log.find(part).unwrap_or_else(|| panic!("{part}: {log}"));
    assert!(at("no longer ready") < at("asked to leave"), "{log}");
    assert!(at("asked to leave") < at("shutting down"), "{log}");
    rig.edge.expect_end(Some(0));
}

#[test]
fn a_client_that_does_not_leave_is_told_at_the_end() {
    let mut rig = rig("general.drain_secs = 1\n");
    let mut client = join(&mut rig);
    round_trip(&mut rig, &mut client, b"before");
    rig.edge.signal(Signal::TERM);
    // It reads nothing until the edge closes its connection, so it learns of both at once.
    rig.edge.expect_log("shutting down");
    let cause = why_it_leaves(&mut client);
    assert!(
        matches!(
            cause,
            DropCause::Told(Code::RESTART) | DropCause::Moved(Code::RESTART)
        ),
        "{cause:?}"
    );
    rig.edge.expect_end(Some(0));
}

#[test]
fn a_second_signal_ends_a_drain_at_once() {
    let rig = rig("general.drain_secs = 3600\n");
    rig.edge.signal(Signal::TERM);
    rig.edge.expect_log("another signal ends it at once");
    rig.edge.signal(Signal::TERM);
    rig.edge.expect_end(Some(3));
}
