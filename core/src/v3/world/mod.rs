//! A client and an edge of version 3 over connections that break, with an adversary who keeps first flights back and repeats them.
//!
//! Three rules are checked over every schedule. Nothing is lost, doubled or out of order. No key is used with one nonce twice. And on a
//! network without faults the owner is back within three attempts.

mod client;
mod edge;
mod parts;

use std::collections::VecDeque;

use crate::keys::KeyPair;

use super::server::EdgeKey;
use super::watch;
use client::{Client, ClientEnd};
use edge::{Edge, EdgeEnd, Fault};
use parts::{Random, Ring, Taken};

/// What is under way on a connection.
#[derive(Default)]
struct Wire {
    up: VecDeque<Vec<u8>>,
    down: VecDeque<Vec<u8>>,
}

struct World {
    random: Random,
    edge: Edge,
    client: Client,
    wires: Vec<Wire>,
    /// The client's connection is the last one that it began.
    current: usize,
    /// First flights that the adversary has seen.
    seen: Vec<Vec<Vec<u8>>>,
}

impl World {
    fn new(seed: u64) -> Self {
        World {
            random: Random(seed),
            edge: Edge {
                key: EdgeKey::new(KeyPair::from_bytes(&[0x11; 32]).expect("a scalar")),
                ends: Vec::new(),
                session: None,
                fault: None,
            },
            client: Client {
                end: ClientEnd::None,
                session: None,
                taken: Taken::default(),
                ring: Ring::default(),
                conflicts: 0,
                was_back: false,
                is_gone: false,
            },
            wires: Vec::new(),
            current: 0,
            seen: Vec::new(),
        }
    }

    fn open(&mut self, flight: Vec<Vec<u8>>) -> usize {
        self.edge.ends.push(EdgeEnd::First);
        self.wires.push(Wire {
            up: flight.into(),
            down: VecDeque::new(),
        });
        self.wires.len() - 1
    }

    fn connect(&mut self) {
        let flight = self.client.connect(&mut self.random);
        if self.client.session.is_some() {
            self.seen.push(flight.clone());
        }
        self.current = self.open(flight);
    }

    fn deliver_up(&mut self, at: usize) {
        let Some(body) = self.wires[at].up.pop_front() else {
            return;
        };
        let answers = self.edge.frame(at, &body, &mut self.random);
        self.wires[at].down.extend(answers);
    }

    fn deliver_down(&mut self) {
        let at = self.current;
        let Some(body) = self
            .wires
            .get_mut(at)
            .and_then(|wire| wire.down.pop_front())
        else {
            return;
        };
        let answers = self.client.frame(&body, &mut self.random);
        self.wires[at].up.extend(answers);
    }

    fn client_writes(&mut self) {
        let most = self.random.below(4);
        if let ClientEnd::Established(_, outbound) = &mut self.client.end {
            let received = &mut self.client.taken.received;
            let record = outbound.flush(&mut self.client.ring, received, most);
            self.wires[self.current].up.extend(record);
        }
    }

    fn edge_writes(&mut self) {
        let most = self.random.below(4);
        let Some(session) = &mut self.edge.session else {
            return;
        };
        let at = session.attached;
        if let EdgeEnd::Established(_, outbound) = &mut self.edge.ends[at] {
            let record = outbound.flush(&mut session.ring, &mut session.taken.received, most);
            self.wires[at].down.extend(record);
        }
    }

    /// One step of a schedule.
    fn step(&mut self) {
        match self.random.below(16) {
            0 | 1 => self.client.ring.push(),
            2 | 3 => {
                if let Some(session) = &mut self.edge.session {
                    session.ring.push();
                }
            }
            4 | 5 => self.client_writes(),
            6 | 7 => self.edge_writes(),
            8..=10 if !self.wires.is_empty() => {
                let recent = self.wires.len().min(4);
                let at = self.wires.len() - 1 - self.random.below(recent);
                self.deliver_up(at);
            }
            11 | 12 => self.deliver_down(),
            13 => {
                if let ClientEnd::None = self.client.end
                    && !self.client.is_gone
                {
                    self.connect();
                }
            }
            // The client loses its connection. What it wrote may still arrive.
            14 => {
                self.client.end = ClientEnd::None;
                if self.random.below(2) == 0
                    && let Some(wire) = self.wires.get_mut(self.current)
                {
                    let kept = self.random.below(wire.up.len() + 1);
                    wire.up.truncate(kept);
                }
            }
            15 if !self.seen.is_empty() => {
                // Any flight, or the last one, which a watcher near the edge delivers before its owner does.
                let last = self.seen.len() - 1;
                let is_race = self.random.below(2) == 0;
                let which = if is_race {
                    last
                } else {
                    self.random.below(last + 1)
                };
                let at = self.open(self.seen[which].clone());
                while is_race && !self.wires[at].up.is_empty() {
                    self.deliver_up(at);
                }
            }
            _ => {}
        }
        self.check();
    }

    fn check(&self) {
        let Some(session) = &self.edge.session else {
            return;
        };
        let (client, edge) = (&self.client, session);
        assert!(edge.taken.received.received() <= client.ring.next);
        assert!(client.taken.received.received() <= edge.ring.next);
        // What was not received is kept by its sender.
        for (ring, taken) in [(&client.ring, &edge.taken), (&edge.ring, &client.taken)] {
            let missing = ring.next - taken.received.received();
            assert!(ring.kept.len() as u64 >= missing, "a packet is lost");
        }
    }

    /// From here on nothing is lost or late.
    fn settle(&mut self) {
        for _ in 0..200 {
            for at in 0..self.wires.len() {
                while !self.wires[at].up.is_empty() {
                    self.deliver_up(at);
                }
            }
            self.client_writes();
            self.edge_writes();
            while !self.wires[self.current].down.is_empty() {
                self.deliver_down();
            }
        }
    }

    /// Returns how many attempts the owner needs.
    fn attempts_to_come_back(&mut self) -> Option<u32> {
        if self.client.is_gone {
            return Some(0);
        }
        // What the adversary or the network kept back comes first.
        for at in 0..self.wires.len() {
            while !self.wires[at].up.is_empty() {
                self.deliver_up(at);
            }
        }
        self.client.end = ClientEnd::None;
        for attempt in 1..=12 {
            self.connect();
            let at = self.current;
            while !self.wires[at].up.is_empty() || !self.wires[at].down.is_empty() {
                self.deliver_up(at);
                self.deliver_down();
            }
            if self.client.is_gone || matches!(self.client.end, ClientEnd::Established(..)) {
                return Some(attempt);
            }
        }
        None
    }
}

/// Runs a schedule, then the probe, and checks what must hold after it.
fn run(seed: u64, fault: Option<Fault>) -> World {
    let mut world = World::new(seed);
    world.edge.fault = fault;
    world.connect();
    for _ in 0..40 + seed % 80 {
        world.step();
    }
    let attempts = world.attempts_to_come_back();
    assert!(
        attempts.is_some_and(|attempts| attempts <= 3),
        "seed {seed}: {attempts:?} attempts"
    );
    if world.client.is_gone {
        // Only a session of which the client never saw a record is gone: its Join record was lost, or comes too late.
        let saw = world.client.taken.received.received() > 0 || world.client.was_back;
        assert!(!saw, "seed {seed}: a session of seen records is gone");
        return world;
    }
    world.settle();
    let session = world.edge.session.as_ref().expect("it is established");
    for (ring, taken) in [
        (&world.client.ring, &session.taken),
        (&session.ring, &world.client.taken),
    ] {
        assert_eq!(taken.received.received(), ring.next, "seed {seed}");
        assert!(ring.kept.is_empty(), "seed {seed}: a ring is not empty");
    }
    let conflicts = world.client.conflicts;
    assert_eq!(conflicts, 0, "seed {seed}: nobody has its secrets");
    world
}

#[test]
fn after_any_schedule_the_owner_is_back_within_three_attempts_and_nothing_is_lost() {
    let (mut gone, mut resumed, mut packets, mut sealed) = (0, 0, 0, 0);
    for seed in 0..1_500 {
        let mut ran = None;
        sealed += watch::over(|| ran = Some(run(seed, None)));
        let world = ran.expect("it ran");
        gone += u32::from(world.client.is_gone);
        packets += world.client.taken.received.received();
        if let Some(session) = &world.edge.session {
            resumed += session.standing.highest();
            packets += session.taken.received.received();
        }
    }
    // The schedules reach what they are for.
    assert!(
        gone > 10 && resumed > 1_500 && packets > 10_000 && sealed > 20_000,
        "{gone} {resumed} {packets} {sealed}"
    );
}

/// The rules above can be broken.
#[test]
fn planted_faults_are_found() {
    for fault in [
        Fault::HighestNotTold,
        Fault::AcksGoOn,
        Fault::EarlyTakenTwice,
        Fault::ReplayFromAcknowledged,
        Fault::BeforeNotTold,
    ] {
        let found = (0..200).find(|seed| {
            let seed = *seed;
            std::panic::catch_unwind(|| run(seed, Some(fault))).is_err()
        });
        assert!(found.is_some(), "{fault:?} is not found");
    }
}

/// A thief who has copied a client's state resumes under the counter that the owner would use next.
#[test]
fn the_owner_hears_of_a_thief_whatever_the_counters_are() {
    for lost in 0..3 {
        let mut world = World::new(lost);
        world.connect();
        world.settle();
        let mut stolen = world.client.session.clone();
        // Attempts of the owner that nobody received leave the thief more counters.
        for _ in 0..lost {
            world.client.end = ClientEnd::None;
            world.connect();
            world.wires[world.current].up.clear();
        }
        let owner = world.client.session.clone();
        for _ in 0..=lost {
            world.client.session = stolen;
            world.client.end = ClientEnd::None;
            world.connect();
            world.settle();
            stolen = world.client.session.clone();
        }
        assert_eq!(
            world.client.conflicts, 0,
            "the thief does not meet the owner"
        );
        world.client.session = owner;
        let attempts = world.attempts_to_come_back();
        assert!(attempts.is_some_and(|attempts| attempts <= 3));
        assert!(
            world.client.conflicts > 0,
            "{lost} lost attempts hide the thief"
        );
    }
}
