//! An edge of one session, made of the edge's half of the opening and the channel.

use voltlane_core::ClientId;
use voltlane_core::keys::KeyPair;
use voltlane_core::queue::{Outbox, Retention};
use voltlane_core::v3::channel::{Arrival, Channel};
use voltlane_core::v3::code::{Class, Code};
use voltlane_core::v3::inbound::Inbound;
use voltlane_core::v3::items::{Close, Item, Ledger, Resumed};
use voltlane_core::v3::outbound::Outbound;
use voltlane_core::v3::packets::{Busy, Packet, Position, Settings, Verdict};
use voltlane_core::v3::progress::{Progress, Ring};
use voltlane_core::v3::record::Sealer;
use voltlane_core::v3::schedule::{Join, Master, ResumeSecret, Secret};
use voltlane_core::v3::server::{Claimed, EdgeKey, Standing, verdict};
use voltlane_core::wire::frame::FrameReader;

pub(crate) const RUN: [u8; 8] = [9; 8];
const ANY: u32 = 1 << 20;

/// What the edge says in place of what is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    /// Nothing else.
    Right,
    /// An Answer with this code, and this highest counter.
    Answer(Code, u64),
    Busy(Code, u32),
    /// This packet of the opening.
    Opening(&'static [u8]),
    /// Records that it makes itself, after the opening: see [`Edge::say`].
    Records,
}

enum Conn {
    Closed,
    Version,
    First,
    Joining(Box<Join>, Inbound),
    Early(Box<(Claimed, Position, ResumeSecret, Inbound)>),
    Open(Box<Channel>),
    /// Records are made by the test.
    Made(Sealer, u64),
}

pub(crate) struct Session {
    pub(crate) standing: Standing,
    pub(crate) progress: Progress,
    pub(crate) outbox: Outbox,
    pub(crate) received: Vec<Vec<u8>>,
}

pub(crate) struct Edge {
    pub(crate) pair: KeyPair,
    pub(crate) settings: fn(&mut Settings),
    pub(crate) says: Says,
    pub(crate) before: Option<[u8; 8]>,
    pub(crate) until: Option<u64>,
    pub(crate) received_up: Option<u64>,
    pub(crate) session: Option<Session>,
    conn: Conn,
    reader: FrameReader,
    pub(crate) output: Vec<u8>,
    pub(crate) tokens: Vec<Vec<u8>>,
    pub(crate) claims: Vec<Position>,
    /// The packets of the last first flight.
    pub(crate) early: usize,
    /// The code of the client's CLOSE, with its account of the packets up.
    pub(crate) closed: Option<(Code, u64, Ledger)>,
    ids: u64,
    randoms: u8,
}

impl Edge {
    pub(crate) fn new() -> Self {
        Edge {
            pair: KeyPair::from_bytes(&[0x11; 32]).expect("a scalar"),
            settings: |_| {},
            says: Says::Right,
            before: None,
            until: None,
            received_up: None,
            session: None,
            conn: Conn::Closed,
            reader: FrameReader::default(),
            output: Vec::new(),
            tokens: Vec::new(),
            claims: Vec::new(),
            early: 0,
            closed: None,
            ids: 0,
            randoms: 0,
        }
    }

    pub(crate) fn accept(&mut self) {
        self.conn = Conn::Version;
        self.reader.clear();
        self.output.clear();
        self.closed = None;
    }

    pub(crate) fn lose(&mut self) {
        self.conn = Conn::Closed;
        self.output.clear();
    }

    fn random(&mut self) -> [u8; 32] {
        self.randoms += 1;
        [self.randoms; 32]
    }

    /// Queues a packet for the client.
    pub(crate) fn send(&mut self, data: &[u8]) {
        let session = self.session.as_mut().expect("there is a session");
        session.outbox.push(data);
    }

    /// Makes output, and returns it.
    pub(crate) fn output(&mut self) -> Vec<u8> {
        if let (Conn::Open(channel), Some(session)) = (&mut self.conn, &mut self.session) {
            let records = channel.fill(&mut session.outbox, &mut session.progress);
            let bytes = records.len();
            self.output.extend_from_slice(records);
            channel.written(bytes);
        }
        std::mem::take(&mut self.output)
    }

    /// Returns the channel of an established connection.
    pub(crate) fn channel(&mut self) -> &mut Channel {
        match &mut self.conn {
            Conn::Open(channel) => channel,
            _ => panic!("it is not established"),
        }
    }

    /// Closes with this code.
    pub(crate) fn close(&mut self, code: Code, detail: u64, text: &str) {
        let close = Close {
            detail,
            ..close(code, text)
        };
        let session = self.session.as_mut().expect("there is a session");
        let Conn::Open(channel) = &mut self.conn else {
            panic!("it is not established")
        };
        channel.close(&close, false, &mut session.outbox, &mut session.progress);
    }

    /// Appends a record of these items, where the test makes them.
    pub(crate) fn say(&mut self, items: &[Item<'_>]) {
        let mut plain = Vec::new();
        items.iter().for_each(|item| item.encode(&mut plain));
        let numbers = items.iter().map(Item::numbers).sum::<u64>();
        self.say_bytes(&plain, numbers);
    }

    pub(crate) fn say_bytes(&mut self, plain: &[u8], numbers: u64) {
        let Conn::Made(sealer, next) = &mut self.conn else {
            panic!("the test makes no records here")
        };
        let start = self.output.len();
        self.output.extend_from_slice(&[0; 4]);
        self.output.extend_from_slice(plain);
        sealer
            .seal(*next, &mut self.output, start)
            .expect("it is short");
        *next += numbers;
    }

    /// Handles bytes of the client.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        let mut input = bytes;
        loop {
            if let Conn::Open(channel) = &mut self.conn {
                let session = self.session.as_mut().expect("it is established");
                let arrival = channel
                    .next(
                        &mut self.reader,
                        &mut input,
                        &mut session.outbox,
                        &mut session.progress,
                    )
                    .expect("a client keeps to the protocol");
                if channel.take_confirmed() {
                    session.standing.confirm();
                }
                match arrival {
                    None => return,
                    Some(Arrival::Packet { number, .. }) => {
                        session.received.push(channel.data().to_vec());
                        assert_eq!(session.received.len() as u64, number, "lost or doubled");
                        channel.accept(&mut session.progress);
                        session.progress.take_all();
                        channel.outbound().acknowledge();
                    }
                    Some(Arrival::Closed { code }) => {
                        let words = channel.close_details();
                        self.closed = Some((code, words.detail, words.up));
                        if code == Code::GOODBYE {
                            self.close(Code::GOODBYE, 0, "");
                            let last = self.output();
                            self.output = last;
                            self.session = None;
                        }
                        self.conn = Conn::Closed;
                    }
                    Some(Arrival::Token) => {
                        self.tokens.push(channel.data().to_vec());
                        channel.accept(&mut session.progress);
                    }
                    Some(arrival) => panic!("{arrival:?} of a client"),
                }
                continue;
            }
            let Some(body) = self
                .reader
                .next_frame(&mut input, ANY)
                .expect("a client keeps to its bounds")
            else {
                return;
            };
            let body = body.to_vec();
            self.frame(&body);
        }
    }

    fn frame(&mut self, body: &[u8]) {
        match std::mem::replace(&mut self.conn, Conn::Closed) {
            Conn::Closed => {}
            Conn::Made(sealer, next) => self.conn = Conn::Made(sealer, next),
            Conn::Version => {
                assert_eq!(body, [1, 3]);
                self.conn = Conn::First;
            }
            Conn::First => self.first(body),
            Conn::Joining(join, mut inbound) => {
                let mut record = body.to_vec();
                let end = inbound.open(&mut record).expect("a client counts well");
                if let Item::Token(token) = voltlane_core::v3::items::Items::new(
                    &record[..end],
                    voltlane_core::v3::Side::Client,
                )
                .next()
                .expect("an item")
                .expect("a right one")
                {
                    self.tokens.push(token.to_vec());
                }
                inbound.check(&record[..end]).expect("the items are right");
                self.session = Some(Session {
                    standing: Standing::new(join.resume.clone()),
                    progress: Progress::new(self.ring()),
                    outbox: Outbox::new(Retention::UntilAcked),
                    received: Vec::new(),
                });
                self.conn = match self.says {
                    Says::Records => Conn::Made(Sealer::new(&join.down), 1),
                    _ => {
                        let channel = Channel::welcomed(inbound, record, end, &join.down);
                        Conn::Open(Box::new(channel))
                    }
                };
            }
            Conn::Early(early) => self.early(*early, body),
            Conn::Open(_) => unreachable!("it reads records itself"),
        }
    }

    fn ring(&self) -> Ring {
        let master = Master::new(&self.pair);
        let settings = self.settings(&master, [0; 8]);
        Ring {
            packets: settings.ring_packets,
            bytes: settings.ring_bytes,
        }
    }

    fn settings(&self, master: &Master, mask: [u8; 8]) -> Settings {
        let id = ClientId::from_u64(self.ids);
        let mut settings = Settings {
            id,
            claim_key: master.claim_key(id),
            handle: master.mask(id, mask),
            run: RUN,
            features: 0,
            longest_packet_up: 1 << 20,
            ring_packets: 8_192,
            ring_bytes: 1 << 20,
            window_secs: 300,
            ack_delay_ms: 250,
            keep_alive_secs: 20,
        };
        (self.settings)(&mut settings);
        settings
    }

    fn first(&mut self, body: &[u8]) {
        match self.says {
            Says::Busy(code, wait_ms) => {
                Packet::Busy(Busy { code, wait_ms }).encode(&mut self.output);
                return;
            }
            Says::Opening(packet) => {
                voltlane_core::wire::frame::encode_frame(packet, &mut self.output);
                return;
            }
            _ => {}
        }
        let key = EdgeKey::new(self.pair.clone());
        let random = self.random();
        match Packet::decode(body).expect("clients send packets") {
            Packet::Hello(hello) => {
                self.ids += 1;
                let mut out = Vec::new();
                let settings = |master: &Master, mask| self.settings(master, mask);
                let join = key.welcome(&hello, random, settings, &mut out);
                let join = Box::new(join.expect("a point"));
                self.output.extend(out);
                let inbound = Inbound::of_join(&join.up, ANY);
                self.conn = Conn::Joining(join, inbound);
            }
            Packet::Claim(claim) => {
                let claimed = Claimed::open(&claim, std::slice::from_ref(&key)).expect("it opens");
                let position = claimed.position(RUN, |_| false).expect("of this run");
                self.claims.push(position);
                let refusal = match (self.says, &self.session) {
                    (Says::Answer(code, highest), _) => Err((code, highest)),
                    (_, None) => Err((Code::GONE, 0)),
                    (_, Some(session)) => session
                        .standing
                        .judge(position.counter)
                        .map_err(|code| (code, session.standing.highest())),
                };
                match refusal {
                    Ok(link) => {
                        let early = claimed.early(&link);
                        let inbound = Inbound::of_early(&early, position.first_up, ANY);
                        self.conn = Conn::Early(Box::new((claimed, position, link, inbound)));
                    }
                    Err((code, highest)) => {
                        let verdict = Verdict {
                            highest,
                            wait_ms: match code.class() {
                                Class::ResumeNow => 0,
                                _ => 70_000,
                            },
                            acknowledged_up: 1,
                            ..verdict(code, RUN)
                        };
                        claimed.answer(verdict, random, &mut self.output);
                    }
                }
            }
            packet => panic!("{}", packet.name()),
        }
    }

    fn early(
        &mut self,
        (claimed, position, link, mut inbound): (Claimed, Position, ResumeSecret, Inbound),
        body: &[u8],
    ) {
        let mut record = body.to_vec();
        let end = inbound.open(&mut record).expect("a client proves itself");
        inbound.check(&record[..end]).expect("the items are right");
        let random = self.random();
        let session = self.session.as_mut().expect("it was there");
        session
            .standing
            .accept(&claimed, &link)
            .expect("nobody else");
        session.progress.reconnect();
        if self.says != Says::Records {
            session
                .outbox
                .resume_within(position.received_down, session.progress.sent())
                .expect("a client claims what it can");
        }
        let taken_up = Verdict {
            highest: link.counter(),
            ..verdict(Code::TAKEN_UP, RUN)
        };
        let answer = claimed.answer(taken_up, random, &mut self.output);
        let (up, down) = claimed.established(&link, &answer);
        let received_up = session.progress.received();
        inbound.resume(&up, received_up);
        let resumed = Resumed {
            until: self.until.unwrap_or(session.outbox.end()),
            received_up: self.received_up.unwrap_or(received_up),
            away_ms: 1_234,
            cause: Code::GOODBYE,
        };
        let before = self
            .before
            .map_or_else(|| session.standing.before().to_vec(), |mark| vec![mark]);
        self.early =
            voltlane_core::v3::items::Items::new(&record[..end], voltlane_core::v3::Side::Client)
                .filter(|item| matches!(item, Ok(Item::Packet(_))))
                .count();
        let received_down = position.received_down;
        self.conn = match self.says {
            Says::Records => Conn::Made(Sealer::new(&down), received_down + 1),
            _ => {
                let outbound =
                    Outbound::of_answer(&down, received_down).resume(resumed, &before, 0);
                Conn::Open(Box::new(Channel::resumed(inbound, record, end, outbound)))
            }
        };
        // What is in the first early record arrives now.
        self.feed(&[]);
    }

    /// Seals under another secret from now on.
    pub(crate) fn spoil(&mut self) {
        if let Conn::Made(sealer, _) = &mut self.conn {
            let master = EdgeKey::new(self.pair.clone());
            let (_, secret) = secret_of_nobody(&master);
            *sealer = Sealer::new(&secret);
        }
    }
}

/// A secret that no client has.
fn secret_of_nobody(key: &EdgeKey) -> ((), Secret) {
    let mut out = Vec::new();
    let hello = voltlane_core::v3::client::Joining::begin([1; 32], &[], 1, &mut out);
    drop(hello);
    let body = out.split_off(4);
    let Ok(Packet::Hello(hello)) = Packet::decode(&body) else {
        panic!("no Hello")
    };
    let edge = Edge::new();
    let settings = |master: &Master, mask| edge.settings(master, mask);
    let join = key.welcome(&hello, [2; 32], settings, &mut Vec::new());
    ((), join.expect("a point").down)
}

pub(crate) fn close(code: Code, text: &str) -> Close<'_> {
    Close {
        code,
        wait_ms: 0,
        jitter_ms: 0,
        detail: 0,
        up: Ledger::default(),
        down: Ledger::default(),
        text,
    }
}
