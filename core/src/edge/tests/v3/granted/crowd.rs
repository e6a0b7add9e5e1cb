//! A crowd of clients and a backend in random order, with links that are cut.

use super::*;

/// A client of either version, with what it sent and heard.
struct Party {
    kind: Kind,
    id: ClientId,
    is_away: bool,
    sent: u32,
    heard: u32,
    /// What the backend knows of it.
    from_it: u32,
    to_it: u32,
    notices: Vec<u8>,
}

enum Kind {
    Two(Member),
    Three(Box<ClientV3>),
}

struct Crowd {
    world: World,
    backend: Backend,
    parties: Vec<Party>,
    kinds: usize,
    dice: ChaCha20Rng,
}

impl Crowd {
    fn new(seed: u8) -> Self {
        let mut world = world(|config| {
            demanding(config);
            config.clients.stale_timeout = Duration::from_secs(3_600);
            config.clients.keep_alive = Duration::ZERO;
            config.clients.write_timeout = Duration::ZERO;
            config.limits.enforce_sources = Enforce::Off;
            if seed.is_multiple_of(2) {
                // So small that frames wait in line.
                config.master.channel_capacity = 8;
            }
        });
        let mut backend = Backend::new(BOOT);
        world.granted(&mut backend);
        Crowd {
            world,
            backend,
            parties: Vec::new(),
            // A client of version 3 loses what it writes in this world while its session waits in line.
            kinds: if seed.is_multiple_of(2) { 1 } else { 2 },
            dice: ChaCha20Rng::from_seed([seed; 32]),
        }
    }

    fn below(&mut self, end: usize) -> usize {
        self.dice.next_u32() as usize % end
    }

    /// Handles what the backend heard.
    fn hear_up(&mut self) {
        for body in core::mem::take(&mut self.backend.heard) {
            let (id, flag) = (u64::from_le_bytes(*body.first_chunk().unwrap()), body[8]);
            let Some(party) = self
                .parties
                .iter_mut()
                .find(|party| party.id.as_u64() == id)
            else {
                assert_eq!(flag, flag::SETTLED);
                continue;
            };
            let before = party.notices.last().copied();
            match flag {
                flag::DATA => {
                    assert_eq!(
                        body[9..],
                        party.from_it.to_le_bytes(),
                        "each once, in order"
                    );
                    party.from_it += 1;
                    assert!(before.is_some_and(|flag| flag != flag::ENDED));
                }
                flag => {
                    let expected = match before {
                        None => &[flag::JOINED][..],
                        Some(flag::JOINED | flag::RESUMED) => &[flag::AWAY, flag::ENDED],
                        Some(flag::AWAY) => &[flag::RESUMED, flag::ENDED],
                        _ => &[],
                    };
                    assert!(expected.contains(&flag), "{flag:#04x} after {before:x?}");
                    party.notices.push(flag);
                }
            }
        }
    }

    fn hear_down(&mut self, at: usize) {
        let party = &mut self.parties[at];
        let came: Vec<Vec<u8>> = match &mut party.kind {
            Kind::Two(member) => self.world.hear(member.conn),
            Kind::Three(one) => {
                let came = self.world.hear3(one);
                self.world.acknowledge(one);
                packets(&came)
                    .into_iter()
                    .map(|(_, bytes)| bytes.to_vec())
                    .collect()
            }
        };
        for packet in came {
            assert_eq!(packet, party.heard.to_le_bytes(), "each once, in order");
            party.heard += 1;
        }
    }

    fn join(&mut self) {
        let kinds = self.kinds;
        let kind = match self.below(kinds) {
            0 => Kind::Two(self.world.join()),
            _ => Kind::Three(Box::new(self.world.join3())),
        };
        let id = match &kind {
            Kind::Two(member) => member.id,
            Kind::Three(one) => one.id(),
        };
        self.parties.push(Party {
            kind,
            id,
            is_away: false,
            sent: 0,
            heard: 0,
            from_it: 0,
            to_it: 0,
            notices: Vec::new(),
        });
    }

    fn send_up(&mut self, at: usize) {
        let party = &mut self.parties[at];
        let text = party.sent.to_le_bytes();
        party.sent += 1;
        match &mut party.kind {
            Kind::Two(member) => {
                let mut bytes = Vec::new();
                encode_frame(&text, &mut bytes);
                self.world
                    .edge
                    .handle_client_bytes(self.world.now, member.conn, &bytes);
            }
            Kind::Three(one) => one.outbox.push(&text),
        }
        if let Kind::Three(one) = &mut party.kind {
            self.world.flush(one);
        }
    }

    fn send_down(&mut self, at: usize) {
        let party = &mut self.parties[at];
        let is_known = party
            .notices
            .last()
            .is_some_and(|flag| *flag != flag::ENDED);
        if is_known {
            let text = party.to_it.to_le_bytes();
            party.to_it += 1;
            let order = ToEdge::Packet {
                id: party.id,
                delivery: Class::Ordinary,
                packet: &text,
            };
            self.backend.queue(&order);
        }
    }

    fn leave_or_return(&mut self, at: usize) {
        self.hear_down(at);
        let party = &mut self.parties[at];
        party.is_away = !party.is_away;
        let came = match (&mut party.kind, party.is_away) {
            (Kind::Two(member), true) => {
                self.world.leave(member.conn);
                return;
            }
            (Kind::Three(one), true) => {
                self.world.leave(one.conn);
                return;
            }
            (Kind::Two(member), false) => self.world.come_back(member).split_off(1),
            (Kind::Three(one), false) => {
                let came = self.world.come_back3(one).expect("it may come back");
                let came = packets(&came[1..]).into_iter();
                came.map(|(_, bytes)| bytes.to_vec()).collect()
            }
        };
        for packet in came {
            assert_eq!(packet, party.heard.to_le_bytes(), "each once, in order");
            party.heard += 1;
        }
    }

    /// Lets some bytes arrive, and perhaps cuts the link among them.
    fn carry(&mut self, is_cut: bool) {
        let (most_up, most_down) = (self.below(200), self.below(200));
        let up = self.world.edge.link_takes(self.world.now, most_up);
        let down = self.backend.frames.output();
        let down = down[..most_down.min(down.len())].to_vec();
        self.backend
            .sent
            .advance(down.len(), &mut self.backend.frames);
        let (arrive_up, arrive_down) = match is_cut {
            true => (self.below(up.len() + 1), self.below(down.len() + 1)),
            false => (up.len(), down.len()),
        };
        self.backend.read(&up[..arrive_up]);
        self.world
            .edge
            .handle_link_bytes(self.world.now, &down[..arrive_down]);
        if is_cut {
            self.world.lose_link(&mut self.backend);
            self.world.granted(&mut self.backend);
        }
        self.hear_up();
    }

    /// Acknowledges what has come, in its place.
    fn acknowledge(&mut self) {
        if self.backend.sent.is_mid_frame() || !self.backend.frames.output().is_empty() {
            return;
        }
        let mut ack = Vec::new();
        let counts = LinkAck {
            acknowledged: self.backend.received,
            sent: self.backend.sent.sent(),
        };
        counts.encode(&mut ack);
        self.world.edge.handle_link_bytes(self.world.now, &ack);
    }

    fn step(&mut self) {
        if self.parties.len() < 3 {
            return self.join();
        }
        let at = self.below(self.parties.len());
        let is_over = self.parties[at].notices.last() == Some(&flag::ENDED);
        match self.below(12) {
            _ if is_over => {
                self.parties.swap_remove(at);
            }
            0..3 if !self.parties[at].is_away => self.send_up(at),
            3..5 => self.send_down(at),
            5 if !self.parties[at].is_away => self.hear_down(at),
            6 => self.leave_or_return(at),
            7 => self.acknowledge(),
            8 => {
                self.world.exchange(&mut self.backend);
                self.hear_up();
            }
            9 => self.carry(true),
            _ => self.carry(false),
        }
        self.world.edge.audit();
    }

    fn come_to_rest(&mut self) {
        for at in 0..self.parties.len() {
            if self.parties[at].is_away {
                self.leave_or_return(at);
            }
        }
        for _ in 0..20 {
            self.world.exchange(&mut self.backend);
            self.hear_up();
            self.acknowledge();
            self.world.wait(Duration::from_millis(300));
            (0..self.parties.len()).for_each(|at| self.hear_down(at));
        }
        for party in &self.parties {
            assert_eq!((party.from_it, party.heard), (party.sent, party.to_it));
            if let Kind::Three(one) = &party.kind {
                assert_eq!(one.outbox.acked(), u64::from(party.sent), "end to end");
            }
        }
        assert_eq!(self.world.edge.gauges().link_packets, 0);
        assert!(self.backend.frames.is_empty());
    }
}

/// SPEC 35.1, 37: in any order of packets, drops, acknowledgements and losses of the link.
#[test]
fn in_any_order_each_packet_comes_once_and_each_notice_in_its_place() {
    for seed in 0..60 {
        let mut crowd = Crowd::new(seed);
        for _ in 0..150 {
            crowd.step();
        }
        crowd.come_to_rest();
    }
}
