//! Limits of a source where both versions are offered: a connection beyond them is let in for a Claim alone. (SPEC 27.3(a))

use std::thread;
use std::time::Instant;

use conformance::v3::Heard;
use conformance::{ClientV3, PATIENCE};

use super::super::rig;
use super::{come_back, join, round_trip};

/// Makes loopback a source like any other.
const NO_EXEMPTION: &str = "limits.exempt = []\n";

fn joins(edge: std::net::SocketAddr) -> bool {
    match ClientV3::try_join(edge) {
        Heard::Connected => true,
        Heard::Dropped(_) => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn connections_of_one_source_are_bounded_and_its_sessions_come_back() {
    let mut rig = rig(&format!("{NO_EXEMPTION}limits.source_connections = 3\n"));
    let mut clients: Vec<ClientV3> = (0..3).map(|_| join(&mut rig)).collect();
    // All places are taken.
    for _ in 0..3 {
        assert!(!joins(rig.address()));
    }
    // A client that has lost sight of its connection comes back all the same.
    let client = &mut clients[0];
    let old = client.abandon();
    come_back(&mut rig, client);
    round_trip(&mut rig, client, b"here again");
    drop(old);
    // The places are free again once connections have ended.
    clients.iter_mut().for_each(ClientV3::leave);
    let begin = Instant::now();
    while !joins(rig.address()) {
        assert!(begin.elapsed() < PATIENCE, "no place comes back");
    }
    for client in &mut clients {
        come_back(&mut rig, client);
        round_trip(&mut rig, client, b"and again");
    }
}

#[test]
fn the_pace_of_one_source_keeps_newcomers_out_and_nobody_who_comes_back() {
    let mut rig = rig(&format!(
        "{NO_EXEMPTION}limits.source_rate = 1\nlimits.source_burst = 3\n"
    ));
    let mut client = join(&mut rig);
    let address = rig.address();
    let refused = thread::scope(|scope| {
        let joining: Vec<_> = (0..6)
            .map(|_| scope.spawn(move || joins(address)))
            .collect();
        let joined = joining.into_iter().map(|one| one.join().expect("no panic"));
        joined.filter(|joined| !joined).count()
    });
    assert!(refused > 0, "six joins at once are too fast");
    for _ in 0..5 {
        client.reset();
        come_back(&mut rig, &mut client);
        round_trip(&mut rig, &mut client, b"at its own pace");
    }
}
