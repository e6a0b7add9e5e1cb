//! A client of version 3 that knows its keys, and says what the input chooses.

use std::collections::BTreeMap;

use voltlane_core::edge::ConnKey;
use voltlane_core::v3::Side;
use voltlane_core::v3::client::{Attempting, Joining, Outcome, Resumable, Returning};
use voltlane_core::v3::code::Code;
use voltlane_core::v3::items::{Close, Item, Items, Ledger as Account, Resumed};
use voltlane_core::v3::record::{Opener, Sealer};
use voltlane_core::v3::schedule::Secret;
use voltlane_core::wire::frame::{FrameReader, encode_frame};
use voltlane_core::{ClientId, v2::packets::Handshake};

use crate::bytes::Bytes;

const ANY: u32 = u32::MAX;

/// A session as its client knows it.
pub(super) struct Member {
    pub(super) id: ClientId,
    pub(super) session: Resumable,
    /// What was sealed under each number up.
    pub(super) up: BTreeMap<u64, Vec<Vec<u8>>>,
    /// The highest number up that was sealed, and the highest number down that came.
    sealed: u64,
    received: u64,
    /// The counter of the last RESUMED that was opened.
    confirmed: u64,
    /// What the backend sent, in the order of the link.
    pub(super) down: Vec<Vec<u8>>,
}

enum Stage {
    New,
    Hello(Joining),
    Claim(usize, Attempting),
    Returning(usize, Box<Returning>, u64),
    Open(usize),
    /// What comes is not looked at any more.
    Lost,
}

pub(super) struct Peer {
    pub(super) key: ConnKey,
    stage: Stage,
    pub(super) outbox: Vec<u8>,
    pub(super) stalled: bool,
    reader: FrameReader,
    sealer: Option<Sealer>,
    next_up: u64,
    up: Option<Secret>,
    told_up: u64,
    opener: Option<Opener>,
    next_down: u64,
    pieces_up: Vec<u8>,
    pieces_down: Vec<u8>,
    last: Vec<u8>,
}

const RESUMED: Resumed = Resumed {
    until: 0,
    received_up: 0,
    away_ms: 0,
    cause: Code::GOODBYE,
};

impl Peer {
    pub(super) fn new(key: ConnKey) -> Self {
        let mut outbox = Vec::new();
        Handshake::ProtocolVersion(3).encode(&mut outbox);
        Peer {
            key,
            stage: Stage::New,
            outbox,
            stalled: false,
            reader: FrameReader::default(),
            sealer: None,
            next_up: 1,
            up: None,
            told_up: 0,
            opener: None,
            next_down: 1,
            pieces_up: Vec::new(),
            pieces_down: Vec::new(),
            last: Vec::new(),
        }
    }

    pub(super) fn hello(&mut self, random: [u8; 32], longest: u32) {
        if matches!(self.stage, Stage::New) {
            let joining = Joining::begin(random, &[], longest, &mut self.outbox);
            self.stage = Stage::Hello(joining);
        }
    }

    /// Sends a Claim, right but for what the input changes.
    pub(super) fn claim(
        &mut self,
        random: [u8; 32],
        input: &mut Bytes<'_>,
        members: &mut [Member],
    ) {
        let Some(at) = usize::from(input.byte()).checked_rem(members.len()) else {
            return;
        };
        if !matches!(self.stage, Stage::New) {
            return;
        }
        let member = &mut members[at];
        let first = match input.byte() {
            0..8 => member.sealed + 1 + u64::from(input.byte()),
            choice => (member.sealed + 1)
                .saturating_sub(u64::from(choice % 4))
                .max(1),
        };
        let received = match input.byte() {
            0..8 => member.received + u64::from(input.byte()),
            choice => member.received.saturating_sub(u64::from(choice % 3)),
        };
        let nonce = random.first_chunk().expect("32 bytes");
        let attempting = member.session.attempt(*nonce, first, received);
        let mut body = attempting.claim().to_vec();
        let choice = input.byte();
        if choice < 16 {
            let bit = usize::from(u16::from_le_bytes([input.byte(), input.byte()]));
            body[bit / 8 % 109] ^= 1 << (bit % 8);
        }
        encode_frame(&body, &mut self.outbox);
        self.sealer = Some(Sealer::new(&attempting.early()));
        (self.next_up, self.next_down) = (first, received + 1);
        self.stage = if choice < 16 {
            Stage::Lost
        } else {
            Stage::Claim(at, attempting)
        };
    }

    fn member(&self) -> Option<usize> {
        match self.stage {
            Stage::Claim(at, _) | Stage::Returning(at, ..) | Stage::Open(at) => Some(at),
            Stage::New | Stage::Hello(_) | Stage::Lost => None,
        }
    }

    /// Seals items that the input chooses, and sends them as a record, sometimes a changed one.
    pub(super) fn say(&mut self, input: &mut Bytes<'_>, members: &mut [Member]) {
        let mut plain = Vec::new();
        for _ in 0..input.below(6) {
            item(input, &mut plain);
        }
        self.seal(&plain, members);
        match input.byte() {
            0..8 if !self.last.is_empty() => {
                let at = self.outbox.len() - 1 - usize::from(input.byte()) % self.last.len();
                self.outbox[at] ^= 1 << (input.byte() % 8);
            }
            8..12 => self.outbox.extend_from_slice(&self.last),
            _ => {}
        }
    }

    /// Seals a Join record, an empty early record, or EARLY_END: what comes next in order.
    pub(super) fn go_on(&mut self, input: &mut Bytes<'_>, members: &mut [Member]) {
        let mut plain = Vec::new();
        match self.stage {
            Stage::Open(_) if self.up.is_some() => Item::EarlyEnd.encode(&mut plain),
            Stage::Open(_) if self.last.is_empty() => Item::Token(b"").encode(&mut plain),
            Stage::Open(_) => Item::Packet(input.some()).encode(&mut plain),
            Stage::Claim(..) => {}
            _ => return,
        }
        self.seal(&plain, members);
    }

    fn seal(&mut self, plain: &[u8], members: &mut [Member]) {
        let Some(sealer) = &mut self.sealer else {
            return;
        };
        let start = self.outbox.len();
        let mut record = [&[0; 4], plain].concat();
        if sealer.seal(self.next_up, &mut record, 0).is_err() {
            return;
        }
        self.outbox.extend_from_slice(&record);
        self.last = self.outbox[start..].to_vec();
        let member = self.member();
        for item in Items::new(plain, Side::Client).map_while(Result::ok) {
            match item {
                Item::Part(piece) => self.pieces_up.extend_from_slice(piece),
                Item::Packet(last) => {
                    let mut whole = core::mem::take(&mut self.pieces_up);
                    whole.extend_from_slice(last);
                    if let Some(at) = member {
                        let up = &mut members[at].up;
                        up.entry(self.next_up).or_default().push(whole);
                        members[at].sealed = members[at].sealed.max(self.next_up);
                    }
                }
                Item::EarlyEnd => {
                    if let Some(up) = self.up.take() {
                        self.sealer = Some(Sealer::new(&up));
                        self.next_up = self.told_up.max(self.next_up - 1) + 1;
                    }
                }
                _ => {}
            }
            self.next_up = self.next_up.saturating_add(item.numbers());
        }
    }

    /// Sends arbitrary bytes. They can be no record, so nothing after them is one.
    pub(super) fn babble(&mut self, bytes: &[u8]) {
        self.outbox.extend_from_slice(bytes);
    }

    /// Reads what the edge wrote.
    pub(super) fn hear(&mut self, bytes: &[u8], members: &mut Vec<Member>) {
        let mut input = bytes;
        let mut reader = core::mem::take(&mut self.reader);
        while let Some(body) = reader.next_frame(&mut input, ANY).expect("no bound") {
            self.hear_frame(body, members);
        }
        self.reader = reader;
    }

    fn hear_frame(&mut self, body: &[u8], members: &mut Vec<Member>) {
        match core::mem::replace(&mut self.stage, Stage::Lost) {
            Stage::Lost => {}
            Stage::New => panic!("a client that said nothing hears {} bytes", body.len()),
            Stage::Hello(joining) => {
                if body.first() == Some(&0x14) {
                    return;
                }
                let welcomed = joining.welcome(body).expect("a right Welcome");
                let id = welcomed.settings.id;
                assert!(members.iter().all(|member| member.id != id), "{id} again");
                members.push(Member {
                    id,
                    session: welcomed.session,
                    up: BTreeMap::new(),
                    sealed: 0,
                    received: 0,
                    confirmed: 0,
                    down: Vec::new(),
                });
                self.sealer = Some(Sealer::new(&welcomed.join.up));
                self.opener = Some(Opener::new(&welcomed.join.down));
                self.stage = Stage::Open(members.len() - 1);
            }
            Stage::Claim(at, attempting) => {
                if body.first() == Some(&0x14) {
                    panic!("the hint is right");
                }
                let counter = attempting.counter();
                let outcome = attempting.answer(&mut members[at].session, body);
                if let Outcome::TakenUp(returning) = outcome.expect("a right Answer") {
                    self.up = Some(returning.up.clone());
                    self.opener = Some(Opener::new(&returning.down));
                    self.stage = Stage::Returning(at, Box::new(returning), counter);
                }
            }
            Stage::Returning(at, returning, counter) => {
                let mut body = body.to_vec();
                let plain = self.open(&mut body);
                let first = Items::new(&plain, Side::Edge).next();
                match first.expect("an item").expect("a right one") {
                    Item::Resumed(resumed, marks) => {
                        self.told_up = resumed.received_up;
                        let member = &mut members[at];
                        if counter > member.confirmed {
                            member.confirmed = counter;
                            let foreign = returning.resumed(&mut member.session, marks);
                            assert!(!foreign, "nobody else has this session");
                        }
                        self.stage = Stage::Open(at);
                        self.items(&plain, &mut members[at]);
                    }
                    Item::Close(_) => {}
                    other => panic!("{} before RESUMED", other.name()),
                }
            }
            Stage::Open(at) => {
                self.stage = Stage::Open(at);
                let mut body = body.to_vec();
                let plain = self.open(&mut body);
                self.items(&plain, &mut members[at]);
            }
        }
    }

    fn open(&mut self, body: &mut [u8]) -> Vec<u8> {
        let opener = self.opener.as_mut().expect("there was an answer");
        let plain = opener.open(self.next_down, body);
        plain.expect("the edge counts as its client does").to_vec()
    }

    fn items(&mut self, plain: &[u8], member: &mut Member) {
        for item in Items::new(plain, Side::Edge) {
            let item = item.expect("an edge's items are right");
            let number = self.next_down;
            match &item {
                Item::Part(piece) => self.pieces_down.extend_from_slice(piece),
                Item::Packet(last) => {
                    let mut whole = core::mem::take(&mut self.pieces_down);
                    whole.extend_from_slice(last);
                    let sent = member.down.get(number as usize - 1);
                    assert_eq!(sent, Some(&whole), "number {number} of {}", member.id);
                }
                Item::Close(close) => {
                    assert!(close.up.is_balanced() && close.down.is_balanced());
                }
                _ => {}
            }
            self.next_down += item.numbers();
            member.received = member.received.max(self.next_down - 1);
        }
    }
}

/// An item of a client, or nearly one.
fn item(input: &mut Bytes<'_>, plain: &mut Vec<u8>) {
    let item = match input.below(16) {
        0..4 => Item::Packet(input.some()),
        4 => Item::Ack(1 + input.below(4) as u64),
        5 => Item::AckNow,
        6 => Item::Ping([input.byte(); 8]),
        7 => Item::Part(input.some()),
        8 => Item::Token(input.some()),
        9 => Item::EarlyEnd,
        10 => Item::Pong([input.byte(); 8]),
        11 => Item::Ignored {
            kind: 32 + u64::from(input.byte()),
            bytes: input.some(),
        },
        12 => {
            let code = input.one_of(&[Code::GOODBYE, Code::PROTOCOL, Code::TOO_LONG, Code::KICKED]);
            Item::Close(Close {
                code,
                wait_ms: 0,
                jitter_ms: 0,
                detail: 0,
                up: Account::default(),
                down: Account::default(),
                text: "",
            })
        }
        13 => Item::Resumed(RESUMED, &[[0; 8]]),
        14 => {
            plain.extend_from_slice(input.some());
            return;
        }
        _ => Item::Packet(b""),
    };
    item.encode(plain);
}
