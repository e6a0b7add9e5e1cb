//! Fuzzes the client machine in version 3: an edge that has the right keys and says what it likes, and somebody in between who has none.

use std::time::Duration;

use voltlane_core::client::{Client, ClientConfig, Closed, Event, State, Versions};
use voltlane_core::keys::KeyPair;
use voltlane_core::v3::Side;
use voltlane_core::v3::code::Code;
use voltlane_core::v3::items::Items;
use voltlane_core::v3::packets::{Packet, Settings, Verdict};
use voltlane_core::v3::record::Sealer;
use voltlane_core::v3::schedule::{Master, ResumeSecret};
use voltlane_core::v3::server::{Claimed, EdgeKey, Standing, verdict};
use voltlane_core::wire::frame::FrameReader;
use voltlane_core::{ClientId, Time};

use crate::bytes::Bytes;

const MAX_EVENTS: usize = 300;
const RUN: [u8; 8] = [9; 8];
const ANY: u32 = u32::MAX;

/// - Numbers of packets only grow, one by one but for the numbers that gaps and superseded packets take.
/// - Bytes of somebody without keys, and ends of connections, never end a session.
/// - A timer that was served is not due again, an end is told once, and nothing panics.
pub fn v3_client(input: &[u8]) {
    let mut input = Bytes::new(input);
    let config = ClientConfig::default()
        .with_versions(Versions::V3)
        .with_trust_first_use(true)
        .with_take_over(input.byte() % 2 == 1)
        .with_max_receive_bytes(input.one_of(&[1 << 20, 100, 0]))
        .with_queue_packets(input.one_of(&[8_192, 3, 1]))
        .expect("room for one");
    let pair = KeyPair::from_bytes(&[0x11; 32]).expect("in the range of keys");
    let mut world = World {
        client: Client::new(config, [0xc1; 32]),
        edge: EdgeKey::new(pair),
        ring: input.one_of(&[8_192, 1, 4]),
        now: Time::ZERO,
        reader: FrameReader::default(),
        line: None,
        standing: None,
        last: 0,
        ends: 0,
        randoms: 0,
    };
    for _ in 0..MAX_EVENTS {
        if input.is_empty() {
            return;
        }
        world.event(&mut input);
        assert!(world.ends <= 1, "a session ends once");
    }
}

/// The edge's end of a connection.
enum Line {
    /// The client's ProtocolVersion, Hello and Claim are not answered.
    Opening,
    /// What goes down.
    Open(Sealer, u64),
}

struct World {
    client: Client,
    edge: EdgeKey,
    ring: u32,
    now: Time,
    /// What the client has written.
    reader: FrameReader,
    line: Option<Line>,
    standing: Option<Standing>,
    /// The number of the last packet that the application got.
    last: u64,
    ends: u32,
    randoms: u8,
}

impl World {
    fn event(&mut self, input: &mut Bytes<'_>) {
        match input.below(12) {
            0 | 1 => self.connect(),
            2 => self.answer(input),
            3..=5 => self.say(input.some()),
            6 => {
                let had_session = self.client.id().is_some() && !self.is_parting();
                if self.line.is_some() {
                    self.feed(input.some());
                    self.settle();
                }
                self.end_of_nothing(had_session);
            }
            7 => {
                let millis = input.one_of(&[1, 100, 300, 2_000, 10_000, 25_000]);
                self.now = self.now + Duration::from_millis(millis);
                self.client.handle_timeout(self.now);
                assert!(self.client.poll_timeout().is_none_or(|at| at > self.now));
                self.settle();
            }
            8 => {
                let had_session = self.client.id().is_some() && !self.is_parting();
                if self.line.take().is_some() {
                    let closed = input.one_of(&[Closed::Eof, Closed::Error]);
                    self.client.handle_closed(self.now, closed);
                    self.settle();
                }
                self.end_of_nothing(had_session);
            }
            9 => {
                let _ = self.client.send(input.some());
            }
            10 => {
                let number = u64::from(input.byte());
                self.client.taken(self.now, number);
            }
            _ => match input.below(8) {
                0 => self.client.close(self.now),
                1 => {
                    self.client.start_over();
                    if self.client.state() != State::Ended {
                        (self.last, self.ends) = (0, 0);
                    }
                }
                2 => {
                    let _ = self.client.set_token(input.some());
                }
                _ => self.client.drop_connection(),
            },
        }
        self.settle();
    }

    /// Returns whether an end may come without a word of the edge: after a goodbye, or of an end that was decided.
    fn is_parting(&self) -> bool {
        matches!(
            self.client.state(),
            State::Closing | State::Leaving | State::Ended
        )
    }

    fn end_of_nothing(&self, had_session: bool) {
        let has_ended = self.client.state() == State::Ended;
        let said_goodbye = self.client.end().is_some_and(|end| end.code.to_u16() == 0);
        let is_late = self
            .client
            .end()
            .is_some_and(|end| end.code.to_u16() == 302);
        assert!(
            !had_session || !has_ended || said_goodbye || is_late,
            "silence or a byte in clear has ended a session: {:?}",
            self.client.end()
        );
    }

    fn connect(&mut self) {
        if self.line.is_none() && self.client.wants_connect(self.now) {
            self.randoms = self.randoms.wrapping_add(1);
            self.client.handle_connected(self.now, [self.randoms; 32]);
            self.reader.clear();
            self.line = Some(Line::Opening);
        }
    }

    /// Takes what the client has written, and answers its Hello or Claim with the code that the input chooses.
    fn answer(&mut self, input: &mut Bytes<'_>) {
        let written = self.client.output().to_vec();
        self.client.handle_written(self.now, written.len());
        if !matches!(self.line, Some(Line::Opening)) {
            return;
        }
        let mut bytes = written.as_slice();
        let mut answer = Vec::new();
        while let Ok(Some(body)) = self.reader.next_frame(&mut bytes, ANY) {
            let body = body.to_vec();
            match Packet::decode(&body) {
                Ok(Packet::Hello(hello)) => {
                    let ring_packets = self.ring;
                    let settings = |master: &Master, mask| {
                        let id = ClientId::from_u64(7);
                        Settings {
                            id,
                            claim_key: master.claim_key(id),
                            handle: master.mask(id, mask),
                            run: RUN,
                            features: 0,
                            longest_packet_up: 1 << 20,
                            ring_packets,
                            ring_bytes: 1_000,
                            window_secs: 60,
                            ack_delay_ms: 250,
                            keep_alive_secs: 20,
                        }
                    };
                    let random = [self.randoms; 32];
                    let join = self.edge.welcome(&hello, random, settings, &mut answer);
                    let join = join.expect("a client sends a point");
                    self.standing = Some(Standing::new(join.resume.clone()));
                    self.line = Some(Line::Open(Sealer::new(&join.down), 1));
                    self.last = 0;
                }
                Ok(Packet::Claim(claim)) => {
                    let keys = std::slice::from_ref(&self.edge);
                    let claimed = Claimed::open(&claim, keys).expect("a client knows its key");
                    self.take_up(&claimed, input, &mut answer);
                }
                _ => {}
            }
        }
        self.feed(&answer);
    }

    fn take_up(&mut self, claimed: &Claimed, input: &mut Bytes<'_>, answer: &mut Vec<u8>) {
        let position = claimed.position(RUN, |_| false).expect("of this run");
        let standing = self.standing.as_mut().expect("it was welcomed");
        let link: Result<ResumeSecret, Code> = standing.judge(position.counter);
        let choice = u16::from_le_bytes([input.byte(), input.byte()]);
        let code = match (Code::from_u16(choice), &link) {
            (Some(code), _) if code != Code::TAKEN_UP => code,
            (_, Ok(_)) => Code::TAKEN_UP,
            (_, Err(code)) => *code,
        };
        let verdict = Verdict {
            highest: if code == Code::TAKEN_UP {
                position.counter
            } else {
                u64::from(input.byte())
            },
            wait_ms: u32::from(input.byte()),
            ..verdict(code, RUN)
        };
        let body = claimed.answer(verdict, [self.randoms; 32], answer);
        if let (Code::TAKEN_UP, Ok(link)) = (code, link) {
            standing
                .accept(claimed, &link)
                .expect("it was judged a moment ago");
            let (_, down) = claimed.established(&link, &body);
            let next = position.received_down + 1;
            self.line = Some(Line::Open(Sealer::new(&down), next));
        }
    }

    /// Says something in a record that opens.
    fn say(&mut self, plain: &[u8]) {
        let Some(Line::Open(sealer, next)) = &mut self.line else {
            return;
        };
        let mut record = [&[0; 4], plain].concat();
        if sealer.seal(*next, &mut record, 0).is_ok() {
            let numbers = Items::new(plain, Side::Edge).map_while(Result::ok);
            *next = numbers.fold(*next, |next, item| next.saturating_add(item.numbers()));
            self.feed(&record);
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(event) = self.client.handle_bytes(self.now, &mut rest) {
            match event {
                Event::Packet { number: 0, .. } | Event::Skipped { .. } | Event::CaughtUp => {}
                Event::Packet { number, .. } => {
                    assert!(number > self.last, "a packet comes twice");
                    self.last = number;
                }
                Event::Gap(gap) => {
                    assert!(gap.first > self.last);
                    self.last = gap.first + (gap.count - 1);
                }
                Event::Connected { .. } | Event::Resumed { .. } => {}
                other => panic!("{other:?} does not come from bytes"),
            }
        }
        assert!(rest.is_empty(), "the client takes all bytes");
    }

    /// Does what the client asks for, and reads its events.
    fn settle(&mut self) {
        if self.client.wants_close() {
            self.line = None;
            self.client.handle_closed(self.now, Closed::Error);
        }
        while let Some(event) = self.client.poll_event() {
            self.ends += u32::from(matches!(event, Event::Ended(_)));
        }
        if matches!(self.client.state(), State::Waiting | State::Ended) {
            self.line = None;
        }
        let ledgers = self.client.ledgers();
        assert!(ledgers.up.is_balanced() && ledgers.down.is_balanced());
    }
}
