//! What a client that comes back at another edge costs the backend, by the machine alone (SPEC 44).

use std::fmt::Write as _;
use std::time::Duration;

use voltlane_core::backend::fleet::{Fleet, LinkId};
use voltlane_core::backend::host::{Event, HostConfig};
use voltlane_core::link::v3::{
    Adopt, Carriage, Feature, Features, Grant, Joined, LinkAck, Peer, ToBackend, is_counted,
};
use voltlane_core::{ClientId, Time};

use super::link::cpu;
use crate::wire;

/// Sessions that move, and how often all of them do.
const SESSIONS: u64 = 10_000;
const ROUNDS: u64 = 10;
/// Packets that each client lacks when it comes, and their length in bytes.
const LACKS: u64 = 4;
const BYTES: usize = 64;
/// Sessions that move between two turns of the links.
const IN_A_TURN: usize = 16;
const NOW: Time = Time::from_millis(1_000);
const BOOT: [u8; 16] = [7; 16];
const PEER: Peer = Peer {
    carriage: Carriage::Tcp,
    address: None,
};

/// One of two edges, which acknowledges all.
struct Edge {
    link: LinkId,
    /// Frames that it has sent, and that it was sent.
    sent: u64,
    came: u64,
    frames: wire::Partial,
}

struct World {
    fleet: Fleet,
    edges: Vec<Edge>,
    moved: u64,
}

impl World {
    fn new() -> World {
        let config = HostConfig::default().asking(BOOT).with_edges(2);
        let mut world = World {
            fleet: Fleet::new(config.expect("two edges")),
            edges: Vec::new(),
            moved: 0,
        };
        let features: Features = Feature::ALL.into_iter().collect();
        for home in 1..=2_u8 {
            let link = world.fleet.handle_connected(NOW);
            let asked = world.fleet.output(link).len();
            world.fleet.handle_written(link, asked);
            world.edges.push(Edge {
                link,
                sent: 0,
                came: 0,
                frames: wire::Partial::default(),
            });
            let grant = Grant {
                features: features.with(Feature::Homes).with(Feature::Adopt),
                boot: BOOT,
                home: home.into(),
                term: 10,
                run: [home; 8],
                continues: None,
                received: 0,
                groups_of_a_session: 64,
                sessions: 0,
            };
            let mut bytes = Vec::new();
            grant.encode(&mut bytes);
            world.hear(usize::from(home) - 1, &bytes);
        }
        world
    }

    fn hear(&mut self, edge: usize, bytes: &[u8]) {
        let link = self.edges[edge].link;
        let mut input = bytes;
        while let Some(event) = self
            .fleet
            .handle_bytes(link, NOW, &mut input)
            .expect("the edge keeps to the protocol")
        {
            self.moved += u64::from(matches!(event, Event::Resumed { .. }));
        }
        while self.fleet.poll_event().is_some() {}
        let mark = self.fleet.mark(link);
        self.fleet.taken_up(NOW, mark);
    }

    fn say(&mut self, edge: usize, frames: &[ToBackend<'_>]) {
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frame.encode(&mut bytes));
        self.edges[edge].sent += frames.len() as u64;
        self.hear(edge, &bytes);
    }

    /// Writes what waits for both edges, which acknowledge it.
    fn turn(&mut self) {
        for at in 0..self.edges.len() {
            let edge = &mut self.edges[at];
            let output = self.fleet.output(edge.link);
            let length = output.len();
            let came = &mut edge.came;
            edge.frames
                .frames(output, |body| *came += u64::from(is_counted(body)));
            self.fleet.handle_written(edge.link, length);
            let ack = LinkAck {
                acknowledged: edge.came,
                sent: edge.sent,
            };
            let mut bytes = Vec::new();
            ToBackend::LinkAck(ack).encode(&mut bytes);
            self.hear(at, &bytes);
        }
    }
}

fn id(number: u64) -> ClientId {
    ClientId::from_u64(1 << 44 | number)
}

/// Returns the CPU time of a move, and of the same packets to sessions that stay.
fn measure() -> (Duration, Duration) {
    let mut world = World::new();
    for number in 1..=SESSIONS {
        let joined = Joined {
            version: 3,
            peer: PEER,
            exporter: [1; 32],
            token: b"",
        };
        let id = id(number);
        world.say(0, &[ToBackend::Joined { id, joined }]);
        world.turn();
    }
    let (mut moving, mut sending) = (Duration::ZERO, Duration::ZERO);
    let all: Vec<u64> = (1..=SESSIONS).collect();
    for round in 1..=ROUNDS {
        let before = cpu();
        for some in all.chunks(IN_A_TURN) {
            for number in some {
                for _ in 0..LACKS {
                    world.fleet.send(id(*number), &[7; BYTES]).expect("room");
                }
            }
            world.turn();
        }
        sending += cpu() - before;
        // Nobody has got them, when all come to the other edge.
        let edge = usize::try_from(round % 2).expect("two edges");
        let before = cpu();
        for some in all.chunks(IN_A_TURN) {
            for number in some {
                let adopt = Adopt {
                    counter: round,
                    received_down: (round - 1) * LACKS,
                    acknowledged_up: 0,
                    peer: PEER,
                };
                let id = id(*number);
                world.say(edge, &[ToBackend::Adopt { id, adopt }]);
            }
            world.turn();
        }
        moving += cpu() - before;
    }
    assert_eq!(world.moved, SESSIONS * ROUNDS, "each of them moves");
    let count = u32::try_from(SESSIONS * ROUNDS).expect("few");
    (moving / count, sending / count)
}

/// Measures, and returns what is to be printed.
#[must_use]
pub fn report() -> String {
    let (moving, sending) = measure();
    let mut text = String::new();
    // Writing into a string does not fail.
    let _ = writeln!(
        text,
        "a move of a session, with {LACKS} packets of {BYTES} B that its client lacks: {:.2} µs of CPU time of the backend, {:.0} moves/s of a core\n\
         {LACKS} packets to a session that stays: {:.2} µs",
        moving.as_secs_f64() * 1e6,
        1.0 / moving.as_secs_f64(),
        sending.as_secs_f64() * 1e6,
    );
    text
}
