//! Clients of version 3 that drop and resume at random: nothing is lost, and nothing comes twice. (SPEC 24)

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use conformance::v3::Heard;
use conformance::{ClientV3, PATIENCE, Random};
use voltlane_core::client::Code;
use voltlane_core::link::tagged::Flag;

use super::super::rig;

const CLIENTS: u64 = 20;
const DURATION: Duration = Duration::from_millis(2_500);
/// A client ends so many connections at the least, even if the machine was suspended most of the time.
const LEAST_DROPS: u64 = 6;

/// What a client has sent, and how often it has dropped.
struct Played {
    sent: u64,
    drops: u64,
}

#[test]
fn nothing_is_lost_and_nothing_comes_twice() {
    let mut rig = rig("limits.accept_rate = 0\n");
    let address = rig.address();
    let until = Instant::now() + DURATION;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|seed| thread::spawn(move || play(address, seed, until)))
        .collect();
    // Each packet comes in its place, and goes back.
    let mut next: BTreeMap<_, u64> = BTreeMap::new();
    let mut gone = 0;
    let mut up = 0;
    while gone < CLIENTS {
        let packet = rig.link.recv();
        match packet.flag {
            Flag::Data => {
                let place = next.entry(packet.id).or_default();
                assert_eq!(packet.data[..8], place.to_le_bytes(), "{:?}", packet.id);
                *place += 1;
                up += 1;
                rig.link.send(packet.id, &packet.data);
            }
            Flag::Failure if packet.data == b"goodbye" => gone += 1,
            Flag::Resumed => {}
            // Its answer came behind its goodbye.
            Flag::Failure if packet.data == b"unknown client" => {}
            other => panic!("{other:?}: {}", String::from_utf8_lossy(&packet.data)),
        }
    }
    let played = clients
        .into_iter()
        .map(|client| client.join().expect("no panic"));
    let (sent, drops) = played.fold((0, 0), |(sent, drops), one| {
        (sent + one.sent, drops + one.drops)
    });
    println!("{up} packets up, as many back, {drops} drops");
    assert_eq!(up, sent);
    assert!(drops >= CLIENTS * LEAST_DROPS);
    rig.stop();
}

fn play(edge: SocketAddr, seed: u64, until: Instant) -> Played {
    let mut random = Random::new(seed);
    let mut client = ClientV3::join(edge);
    let mut old = Vec::new();
    let (mut sent, mut received, mut drops) = (0_u64, 0, 0);
    while Instant::now() < until || drops < LEAST_DROPS {
        for _ in 0..random.below(12) {
            client.send(&packet(sent));
            sent += 1;
        }
        for _ in 0..random.below(sent - received + 1) {
            client.expect(&packet(received));
            received += 1;
        }
        match random.below(8) {
            0 => client.leave(),
            1 => client.reset(),
            2 => {
                client.send_cut(&packet(sent), random.below(60) as usize);
                sent += 1;
                client.reset();
            }
            3 if drops % 3 == 0 => old.push(client.abandon()),
            _ => continue,
        }
        drops += 1;
        // Too many takeovers at once have to wait.
        let begin = Instant::now();
        while let Heard::Dropped(cause) = client.try_come_back(edge, false) {
            assert!(begin.elapsed() < PATIENCE, "it never comes back: {cause}");
        }
        client.flush();
    }
    while received < sent {
        client.expect(&packet(received));
        received += 1;
    }
    let end = client.close();
    assert_eq!((end.code, end.text.as_str()), (Code::GOODBYE, ""));
    assert_eq!(end.ledgers.up.acknowledged, sent);
    assert_eq!(end.ledgers.down.acknowledged, sent);
    Played { sent, drops }
}

fn packet(number: u64) -> Vec<u8> {
    let mut packet = number.to_le_bytes().to_vec();
    packet.resize(8 + (number as usize * 37) % 400, 7);
    packet
}
