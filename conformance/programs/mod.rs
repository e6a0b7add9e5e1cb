//! Tests with programs of others, by program.

mod browser;
mod curl;
mod engine;
mod implementation;
mod libraries;
mod openssl;
mod packages;
mod proxies;
mod suite;
mod wireshark;

use std::net::SocketAddr;
use std::process::Command;

use conformance::shim::{Carriage, Shim as _};
use conformance::{Client, Process, Rig, bytes_of};

/// Starts each of our programs in turn, with this configuration.
fn rigs(config: &str) -> impl Iterator<Item = Rig> {
    crate::PROGRAMS
        .map(|program| Rig::start(program, config))
        .into_iter()
}

/// A client joins at `door`, exchanges packets of many sizes, and comes back at `back`.
#[track_caller]
fn use_doors(rig: &mut Rig, door: SocketAddr, back: SocketAddr) -> Client {
    let mut client = Client::join(door);
    for (seed, length) in (0..).zip([0, 1, 125, 126, 16_380, 65_536, 1 << 20]) {
        rig.round_trip(&mut client, &bytes_of(seed, length));
    }
    // What is in between may tell the edge of the first end later than the edge hears of the client again.
    let mut client = client.leave().resume(back);
    rig.link.expect_resumed(client.id());
    rig.round_trip(&mut client, b"back");
    client
}

/// Starts a program that tells what it does line by line.
fn start(mut command: Command, arguments: &[&str]) -> Process {
    command.args(arguments);
    Process::start(command)
}

/// The keys of an edge for this carriage, which keeps what clients miss.
fn config(carriage: Carriage) -> String {
    format!(
        "{}clients.missed_packets_buffer_size = 10\n",
        carriage.config()
    )
}
