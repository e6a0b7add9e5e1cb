//! Sessions of version 3 (SPEC 18 to 28), with a client made of the parts that a client has.

mod classes;
mod crowds;
mod ends;
mod granted;
mod isolation;
#[cfg(feature = "upgrade")]
mod moving;
mod openings;
mod operator;
mod packets;
mod resumes;
mod saving;
mod times;

use super::*;
use crate::protocol::{Code, OfferedVersions, Progress, Ring};
use crate::queue::{Outbox, Retention};
use crate::v3::channel::{Arrival, Channel, ChannelError, Delivery};
use crate::v3::client::{Attempting, Joining, Outcome, Resumable};
use crate::v3::items::{Close, GoAway, Item, Ledger, Resumed};
use crate::v3::packets::{Packet, Settings, Verdict};

const LONGEST: u32 = 65_536 * 4;

/// What came on a connection of a client.
#[derive(Debug, PartialEq)]
enum Came {
    Packet(u64, Vec<u8>),
    OfClass(Delivery, u64, Vec<u8>),
    Superseded(u64, u64),
    Skipped(u64),
    GoAway(GoAway),
    Gap(u64, u64, u8),
    Resumed(Resumed, Vec<[u8; 8]>),
    Closed(Code, u64, Ledger, Ledger),
}

/// A client of version 3, with its session.
struct ClientV3 {
    settings: Settings,
    session: Resumable,
    outbox: Outbox,
    progress: Progress,
    conn: ConnKey,
    channel: Channel,
    reader: FrameReader,
    /// What a CLOSE said in words.
    text: Vec<u8>,
    /// Whether packets that came are taken, and so acknowledged.
    takes: bool,
    /// Whether somebody else resumes its session, too.
    is_one_of_two: bool,
}

impl ClientV3 {
    fn id(&self) -> ClientId {
        self.session.id()
    }

    /// Returns a record with these items, whatever they are.
    fn record_of(&mut self, items: &[Item<'_>]) -> Vec<u8> {
        for item in items {
            if let Item::Packet(packet) = item {
                self.outbox.push(packet);
                self.outbox.advance(Outbox::stored_bytes(packet.len()));
                self.progress.count_sent(&mut self.outbox);
            }
        }
        self.channel.outbound().put_all(items);
        let bytes = self.channel.wire().to_vec();
        self.channel.written(bytes.len());
        bytes
    }
}

/// A world whose edge offers both versions. That no key is used with one nonce twice is checked from here on.
fn world(change: impl FnOnce(&mut EdgeConfig)) -> World {
    crate::v3::watch::begin();
    World::new(|config| {
        config.listener.versions = OfferedVersions::new(&[2, 3]).unwrap();
        change(config);
    })
}

impl World {
    fn random<const N: usize>(&mut self) -> [u8; N] {
        let mut random = [0; N];
        self.rng.fill_bytes(&mut random);
        random
    }

    /// Gives the connection the entropy that it wants.
    pub(super) fn give_entropy(&mut self, conn: ConnKey) {
        while self.edge.client_wants_entropy(conn) {
            let random = self.random();
            self.edge.handle_entropy(self.now, conn, random);
        }
    }

    /// Writes bytes of a client, as many at a time as the edge wants.
    fn write(&mut self, conn: ConnKey, mut bytes: &[u8]) {
        loop {
            self.give_entropy(conn);
            self.edge.audit();
            let budget = self.edge.read_budget(conn).min(bytes.len());
            if budget == 0 {
                return;
            }
            let (now, rest) = bytes.split_at(budget);
            self.edge.handle_client_bytes(self.now, conn, now);
            self.edge.audit();
            bytes = rest;
        }
    }

    /// Opens a connection that names version 3 and sends `body` as the next frame, with `behind`.
    pub(super) fn begin3(&mut self, body: &[u8], behind: &[u8]) -> ConnKey {
        let conn = self.accept();
        let mut bytes = Vec::new();
        Handshake::ProtocolVersion(3).encode(&mut bytes);
        encode_frame(body, &mut bytes);
        bytes.extend_from_slice(behind);
        self.write(conn, &bytes);
        conn
    }

    /// Returns the edge's output for this connection as bytes.
    pub(super) fn hear_bytes(&mut self, conn: ConnKey) -> Vec<u8> {
        let mut heard = Vec::new();
        loop {
            self.edge.audit();
            let bytes = self.edge.client_output(conn).concat();
            self.edge.audit();
            if bytes.is_empty() {
                return heard;
            }
            self.edge.handle_client_written(self.now, conn, bytes.len());
            heard.extend(bytes);
        }
    }

    /// Sends a Hello. Returns the connection and the Welcome.
    pub(super) fn hello(&mut self) -> (ConnKey, Joining, Vec<Vec<u8>>) {
        let mut hello = Vec::new();
        let joining = Joining::begin(self.random(), &[], LONGEST, &mut hello);
        let conn = self.begin3(&hello[LENGTH_BYTES..], b"");
        let heard = bodies(&self.hear_bytes(conn));
        (conn, joining, heard)
    }

    /// Joins up to the Join record, which is not sent.
    fn welcomed(&mut self) -> ClientV3 {
        let (conn, joining, heard) = self.hello();
        let welcomed = joining.welcome(&heard[0]).unwrap();
        let (up, down) = (&welcomed.join.up, &welcomed.join.down);
        let ring = Ring {
            packets: welcomed.settings.ring_packets,
            bytes: welcomed.settings.ring_bytes,
        };
        ClientV3 {
            channel: Channel::joined(up, down, b"token".to_vec(), LONGEST),
            settings: welcomed.settings,
            session: welcomed.session,
            outbox: Outbox::new(Retention::UntilAcked),
            progress: Progress::new(ring),
            conn,
            reader: FrameReader::default(),
            text: Vec::new(),
            takes: true,
            is_one_of_two: false,
        }
    }

    /// A packet in each direction arrives, "up 1" and "down 1". The next, "up 2" and "down 2", are written and never do.
    fn write_in_vain(&mut self, one: &mut ClientV3) {
        self.send3(one, b"up 1");
        self.down(one, b"down 1");
        self.hear3(one);
        self.flush(one);
        self.down(one, b"down 2");
        self.hear_bytes(one.conn);
        one.outbox.push(b"up 2");
        let lost = one.channel.fill(&mut one.outbox, &mut one.progress).len();
        one.channel.written(lost);
    }

    /// Returns who has the client's secrets and has received nothing.
    fn steal(&mut self, one: &mut ClientV3) -> ClientV3 {
        one.is_one_of_two = true;
        ClientV3 {
            settings: one.settings.clone(),
            session: one.session.clone(),
            outbox: one.outbox.clone(),
            progress: Progress::new(one.progress.ring()),
            conn: one.conn,
            channel: one.channel.clone(),
            reader: FrameReader::default(),
            text: Vec::new(),
            ..*one
        }
    }

    fn join3(&mut self) -> ClientV3 {
        let mut one = self.welcomed();
        self.flush(&mut one);
        assert!(self.edge.sessions.lookup(one.id()).is_some());
        one
    }

    /// Writes what the client has to say.
    fn flush(&mut self, one: &mut ClientV3) {
        loop {
            let bytes = one
                .channel
                .fill(&mut one.outbox, &mut one.progress)
                .to_vec();
            if bytes.is_empty() {
                return;
            }
            one.channel.written(bytes.len());
            self.write(one.conn, &bytes);
        }
    }

    fn send3(&mut self, one: &mut ClientV3, body: &[u8]) {
        one.outbox.push(body);
        self.flush(one);
    }

    /// Sends a record with these items, whatever they are.
    fn send_items(&mut self, one: &mut ClientV3, items: &[Item<'_>]) {
        let bytes = one.record_of(items);
        self.write(one.conn, &bytes);
    }

    /// Reads what came for the client.
    fn hear3(&mut self, one: &mut ClientV3) -> Vec<Came> {
        let bytes = self.hear_bytes(one.conn);
        self.read3(one, &bytes).unwrap()
    }

    fn read3(&mut self, one: &mut ClientV3, bytes: &[u8]) -> Result<Vec<Came>, ChannelError> {
        let mut input = bytes;
        let mut came = Vec::new();
        while let Some(arrival) = one.channel.next(
            &mut one.reader,
            &mut input,
            &mut one.outbox,
            &mut one.progress,
        )? {
            came.push(match arrival {
                Arrival::Packet {
                    delivery: Delivery::Reliable,
                    number,
                } => Came::Packet(number, one.channel.data().to_vec()),
                Arrival::Packet { delivery, number } => {
                    Came::OfClass(delivery, number, one.channel.data().to_vec())
                }
                Arrival::Superseded { number, count } => Came::Superseded(number, count),
                Arrival::Skipped { count } => Came::Skipped(count),
                Arrival::GoAway(go_away) => Came::GoAway(go_away),
                Arrival::Token => unreachable!("an edge sends none"),
                Arrival::Gap {
                    number,
                    count,
                    reason,
                    ..
                } => Came::Gap(number, count, reason),
                Arrival::Resumed(resumed) => {
                    Came::Resumed(resumed, one.channel.data().as_chunks().0.to_vec())
                }
                Arrival::Closed { code } => {
                    one.text = one.channel.data().to_vec();
                    let words = one.channel.close_details();
                    Came::Closed(code, words.detail, words.up, words.down)
                }
            });
            one.channel.accept(&mut one.progress);
            if one.takes {
                one.progress.take_all();
            }
        }
        Ok(came)
    }

    /// Claims the client's session. Returns the attempt, with its connection.
    fn claim3(&mut self, one: &mut ClientV3) -> (Attempting, ConnKey) {
        let random = self.random();
        let (first, received) = (one.outbox.acked() + 1, one.progress.received());
        let attempt = one.session.attempt(random, first, received);
        let conn = self.begin3(attempt.claim(), b"");
        (attempt, conn)
    }

    /// Sends the first early records of an attempt.
    fn send_early(&mut self, one: &mut ClientV3, attempt: &Attempting, conn: ConnKey) {
        let first = one.outbox.acked() + 1;
        one.outbox.resume_from(first - 1).unwrap();
        one.progress.reconnect();
        one.channel = Channel::claimed(&attempt.early(), first);
        one.reader = FrameReader::default();
        one.conn = conn;
        self.flush(one);
    }

    /// Handles the answer to an attempt. Returns what follows it, if the session is taken up, or the refusal.
    fn answered(&mut self, one: &mut ClientV3, attempt: Attempting) -> Result<Vec<Came>, Verdict> {
        let heard = self.hear_bytes(one.conn);
        let (answer, rest) = heard.split_at(LENGTH_BYTES + answer_bytes(&heard));
        let received = one.progress.received();
        match attempt.answer(&mut one.session, &answer[LENGTH_BYTES..]) {
            Ok(Outcome::TakenUp(returning)) => {
                let (up, down) = (returning.up.clone(), returning.down.clone());
                one.channel.answered(up, &down, received, LONGEST);
                let came = self.read3(one, rest).unwrap();
                if let Some(Came::Resumed(_, marks)) = came.first() {
                    let is_foreign = returning.resumed(&mut one.session, marks);
                    assert!(!is_foreign || one.is_one_of_two, "a stranger");
                    self.flush(one);
                }
                Ok(came)
            }
            Ok(Outcome::ByClass(verdict)) => Err(verdict),
            other => panic!("{other:?}"),
        }
    }

    /// Resumes as the client. Returns what it receives first, after RESUMED.
    fn come_back3(&mut self, one: &mut ClientV3) -> Result<Vec<Came>, Verdict> {
        let (attempt, conn) = self.claim3(one);
        one.conn = conn;
        self.send_early(one, &attempt, conn);
        self.answered(one, attempt)
    }

    /// Acknowledges what the client has taken.
    fn acknowledge(&mut self, one: &mut ClientV3) {
        one.channel.outbound().acknowledge();
        self.flush(one);
    }

    fn down(&mut self, one: &ClientV3, data: &[u8]) {
        self.backend_says(one.id(), Flag::Data, data);
    }

    fn deliver(&mut self, one: &ClientV3, delivery: Delivery, data: &[u8]) {
        let now = self.now;
        self.edge.handle_delivery(now, one.id(), delivery, data);
        self.edge.audit();
    }
}

fn answer_bytes(heard: &[u8]) -> usize {
    u32::from_le_bytes(*heard.first_chunk().expect("an answer")) as usize
}

/// Returns the code and detail of a CLOSE that came last.
fn closed(came: &[Came]) -> (Code, u64) {
    match came.last() {
        Some(Came::Closed(code, detail, up, down)) => {
            assert!(up.is_balanced() && down.is_balanced());
            (*code, *detail)
        }
        other => panic!("{other:?}"),
    }
}

fn packets(came: &[Came]) -> Vec<(u64, &[u8])> {
    let packets = came.iter().map(|came| match came {
        Came::Packet(number, bytes) => (*number, bytes.as_slice()),
        other => panic!("{other:?}"),
    });
    packets.collect()
}

fn goodbye(code: Code) -> Close<'static> {
    Close {
        code,
        wait_ms: 0,
        jitter_ms: 0,
        detail: 0,
        up: Ledger::default(),
        down: Ledger::default(),
        text: "",
    }
}

/// The highest verdict field of an Answer.
fn refusal(refused: Result<Vec<Came>, Verdict>) -> Code {
    refused.expect_err("a refusal").code
}
