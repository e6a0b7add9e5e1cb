//! Schedules drawn from seeds: packets in both directions, bytes that arrive in pieces, connections that end anywhere, an application that
//! takes its time. After any of them, on a network without faults, the client is back within three attempts and nothing is missing.

use std::time::Duration;

use voltlane_core::client::{Closed, State};

use super::{Link, Seen};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end as u64).expect("it is below")
    }
}

struct World {
    link: Link,
    random: Random,
    is_up: bool,
    /// Bytes of the edge that the client has not read.
    under_way: Vec<u8>,
    sent_up: u64,
    sent_down: u64,
    /// The highest number that the application got, and that it has taken.
    got: u64,
    taken: u64,
    resumes: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut link = Link::joined();
        link.takes = false;
        if seed.is_multiple_of(3) {
            // A ring that fills.
            link = Link::new();
            link.edge.settings = |settings| (settings.ring_packets, settings.ring_bytes) = (5, 900);
            link.come_back();
            link.seen();
            link.takes = false;
        }
        World {
            link,
            random: Random(seed),
            is_up: true,
            under_way: Vec::new(),
            sent_up: 0,
            sent_down: 0,
            got: 0,
            taken: 0,
            resumes: 0,
        }
    }

    fn length(&mut self) -> usize {
        match self.random.below(12) {
            0 => self.random.below(70_000),
            1 | 2 => self.random.below(5_000),
            _ => self.random.below(100),
        }
    }

    /// What a packet says is its number.
    fn packet(&mut self, number: u64) -> Vec<u8> {
        let mut packet = number.to_le_bytes().to_vec();
        let length = packet.len() + self.length();
        packet.resize(length, 0);
        packet
    }

    fn step(&mut self) {
        match self.random.below(16) {
            0..=2 => {
                let packet = self.packet(self.sent_up + 1);
                if self.link.client.send(&packet).is_ok() {
                    self.sent_up += 1;
                }
            }
            3..=5 => {
                let packet = self.packet(self.sent_down + 1);
                self.link.edge.send(&packet);
                self.sent_down += 1;
            }
            6..=8 => {
                let most = 1 + self.length();
                if self.is_up {
                    self.link.up(most);
                }
            }
            9..=11 => {
                let most = 1 + self.length();
                self.down(most);
            }
            12 => self.take(),
            13 => {
                let pause = Duration::from_millis(self.random.below(3_000) as u64);
                self.link.now = self.link.now + pause;
                self.link.client.handle_timeout(self.link.now);
                assert!(
                    self.link
                        .client
                        .poll_timeout()
                        .is_none_or(|at| at > self.link.now)
                );
                self.poll();
            }
            14 => self.lose(),
            _ => {
                if !self.is_up && self.link.client.wants_connect(self.link.now) {
                    self.connect();
                }
            }
        }
    }

    fn connect(&mut self) {
        self.link.connect();
        self.is_up = true;
    }

    fn lose(&mut self) {
        if self.is_up {
            let closed = [Closed::Eof, Closed::Error][self.random.below(2)];
            self.link.lose(closed);
            self.is_up = false;
            self.under_way.clear();
            self.hear();
        }
    }

    fn poll(&mut self) {
        if self.link.client.wants_close() {
            self.is_up = false;
            self.under_way.clear();
        }
        self.link.poll();
        self.hear();
    }

    fn down(&mut self, most: usize) {
        if !self.is_up {
            return;
        }
        let more = self.link.edge.output();
        self.under_way.extend(more);
        let arrives = self.under_way.len().min(most);
        let bytes: Vec<u8> = self.under_way.drain(..arrives).collect();
        self.link.feed(&bytes);
        self.poll();
    }

    fn hear(&mut self) {
        for seen in self.link.seen() {
            match seen {
                Seen::Packet(data, number) => {
                    self.got += 1;
                    assert_eq!(number, self.got, "lost, doubled or out of order");
                    assert_eq!(data[..8], number.to_le_bytes());
                }
                Seen::Resumed(..) => self.resumes += 1,
                Seen::Dropped(..) | Seen::CaughtUp => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn take(&mut self) {
        let open = usize::try_from(self.got - self.taken).expect("few");
        self.taken += self.random.below(open + 1) as u64;
        self.link.client.taken(self.link.now, self.taken);
        let session = self.link.edge.session.as_ref().expect("it lives");
        assert!(session.outbox.acked() <= self.taken, "acknowledged early");
    }

    /// From here on nothing is lost or late.
    fn settle(&mut self) {
        self.lose();
        let mut attempts = 0;
        while self.link.client.state() != State::Established {
            attempts += 1;
            assert!(attempts <= 3, "{:?}", self.link.client);
            self.connect();
            self.rest();
        }
        for _ in 0..400 {
            self.rest();
            self.taken = self.got;
            self.link.client.taken(self.link.now, self.taken);
            let is_quiet = {
                let session = self.link.edge.session.as_ref().expect("it lives");
                session.outbox.is_empty() && self.link.client.queued_packets() == 0
            };
            if is_quiet {
                break;
            }
            // ACKs that nothing carries wait for their time.
            if let Some(at) = self.link.client.poll_timeout() {
                self.link.now = self.link.now.max(at);
                self.link.client.handle_timeout(self.link.now);
            }
        }
        let session = self.link.edge.session.as_ref().expect("it lives");
        assert_eq!(session.received.len() as u64, self.sent_up);
        for (number, packet) in (1_u64..).zip(&session.received) {
            assert_eq!(packet[..8], number.to_le_bytes());
        }
        assert_eq!(self.got, self.sent_down);
        assert!(session.outbox.is_empty(), "the edge keeps packets");
        assert_eq!(self.link.client.queued_packets(), 0);
        let ledgers = self.link.client.ledgers();
        assert_eq!(ledgers.up.acknowledged, self.sent_up);
        assert_eq!(ledgers.down.acknowledged, self.sent_down);
        assert!(ledgers.up.is_balanced() && ledgers.down.is_balanced());
    }

    fn rest(&mut self) {
        loop {
            let up = if self.is_up {
                self.link.up(usize::MAX)
            } else {
                0
            };
            let before = self.got;
            let more = self.link.edge.output();
            let arrives = self.is_up && !(more.is_empty() && self.under_way.is_empty());
            self.under_way.extend(more);
            self.down(usize::MAX);
            if up == 0 && !arrives && self.got == before {
                return;
            }
        }
    }
}

#[test]
fn after_any_schedule_the_client_is_back_and_nothing_is_missing() {
    let (mut packets, mut resumes) = (0, 0);
    for seed in 0..150 {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..150 + seed % 100 {
                world.step();
            }
            world.settle();
            (world.sent_up + world.sent_down, world.resumes)
        });
        let Ok(run) = run else {
            panic!("seed {seed}");
        };
        packets += run.0;
        resumes += run.1;
    }
    // The schedules reach what they are for.
    assert!(packets > 5_000 && resumes > 150, "{packets} {resumes}");
}
