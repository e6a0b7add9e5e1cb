//! Clients of version 3, where the scenarios beside these have clients of version 2. (SPEC 18 to 27)

mod churn;
mod ends;
mod limits;
mod missed;
mod reconnect;
mod shutdown;

use conformance::{ClientV3, Rig};

/// Joins a client, and makes it known to the backend.
fn join(rig: &mut Rig) -> ClientV3 {
    known(rig, ClientV3::join(rig.address()))
}

/// Joins a client that reads little at a time.
fn join_narrow(rig: &mut Rig) -> ClientV3 {
    known(rig, ClientV3::join_narrow(rig.address()))
}

fn known(rig: &mut Rig, mut client: ClientV3) -> ClientV3 {
    client.send(b"here");
    rig.link.expect_data(client.id(), b"here");
    client
}

/// Resumes, and waits for the notice to the backend. Returns how many packets come that were missed.
#[track_caller]
fn come_back(rig: &mut Rig, client: &mut ClientV3) -> u64 {
    let missed = client.come_back(rig.address());
    rig.link.expect_resumed(client.id());
    missed
}

/// Sends data both ways.
#[track_caller]
fn round_trip(rig: &mut Rig, client: &mut ClientV3, data: &[u8]) {
    client.send(data);
    rig.link.expect_data(client.id(), data);
    rig.link.send(client.id(), data);
    client.expect(data);
}
