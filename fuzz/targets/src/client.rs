//! Fuzzes the client's side: edges that follow the protocol, nearly follow it, or do not, over transports that open, accept and break at
//! any time.

use std::collections::VecDeque;
use std::time::Duration;

use voltlane_core::client::{Client, ClientConfig, Closed, Event, SendError, State};
use voltlane_core::keys::{CHALLENGE_BYTES, KeyPair, PublicKey, SharedKey};
use voltlane_core::v2::packets::Handshake;
use voltlane_core::wire::frame::{FrameReader, encode_frame};
use voltlane_core::{ClientId, Time};

use crate::bytes::Bytes;
use crate::keys::{edge_pair, pair};

const MAX_EVENTS: usize = 400;
const ANY: u32 = u32::MAX;

/// - A connection carries a handshake, then queued packets in order, each whole on one connection and none twice. The queue is exactly what
///   was accepted and not written.
/// - Received packets are those that the edge sent on an established connection.
/// - A session is claimed only from an edge with the key that it began with. A response opens under that session's key, and its nonce
///   differs from that of its challenge.
/// - A refusal lasts until the application starts over.
/// - A timer that was served is not due again.
pub fn client_machine(input: &[u8]) {
    let mut input = Bytes::new(input);
    let config = ClientConfig::default()
        .with_max_send_bytes(input.one_of(&[100, 0, 16, 1 << 20]))
        .with_max_receive_bytes(input.one_of(&[100, 0, 16, 1 << 20]))
        .with_queue_packets(input.one_of(&[8, 2, 1, 1000]))
        .and_then(|config| config.with_queue_bytes(input.one_of(&[1000, 4, 20, 1 << 20])))
        .expect("every value drawn is one that it can have");
    let mut world = World {
        client: Client::new(config.clone(), [0xc1; 32]),
        config,
        now: Time::ZERO,
        queue: VecDeque::new(),
        edge_key: None,
        restored: 0,
        line: None,
    };
    for _ in 0..MAX_EVENTS {
        if input.is_empty() {
            return;
        }
        let before = world.client.state();
        let may_change = world.event(&mut input);
        world.settle();
        assert!(
            may_change || !(before == State::Ended) || world.client.state() == before,
            "a refusal lasts"
        );
    }
}

struct World {
    client: Client,
    config: ClientConfig,
    now: Time,
    /// Packets that were accepted and not written.
    queue: VecDeque<Vec<u8>>,
    /// The key of the edge that assigned the session's id.
    edge_key: Option<PublicKey>,
    restored: u8,
    line: Option<Line>,
}

/// An open transport.
#[derive(Default)]
struct Line {
    /// Bytes that the edge has sent and the client has not read.
    inbox: Vec<u8>,
    /// The frames that the client has read, to find the edge's key.
    read: FrameReader,
    edge_key: Option<PublicKey>,
    /// The packets that the client has read, once the connection is established.
    packets: Option<FrameReader>,
    written: FrameReader,
    said: Vec<&'static str>,
    claimed: Option<ClientId>,
    challenges: Vec<Challenge>,
}

/// A challenge sent by the edge.
struct Challenge {
    key: SharedKey,
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

impl World {
    /// Performs one event. Returns whether it may end a refusal.
    fn event(&mut self, input: &mut Bytes<'_>) -> bool {
        match input.below(16) {
            0 | 1 => {
                let millis = input.one_of(&[1, 50, 100, 1_000, 5_000, 10_000]);
                self.now = self.now + Duration::from_millis(millis);
                self.client.handle_timeout(self.now);
                assert!(self.client.poll_timeout().is_none_or(|at| at > self.now));
            }
            2 | 3 => self.connect(input),
            4..=6 => self.edge_answers(input),
            7 => {
                let bytes = input.some();
                if let Some(line) = &mut self.line {
                    line.inbox.extend_from_slice(bytes);
                }
            }
            8 | 9 => self.read(input),
            10 => self.write(input),
            11 => self.send(input),
            12 => {
                if self.line.take().is_some() {
                    self.client
                        .handle_closed(self.now, input.one_of(&[Closed::Eof, Closed::Error]));
                }
            }
            13 => self.client.drop_connection(),
            14 => {
                if self.client.state() == State::Ended {
                    self.queue.clear();
                    self.edge_key = None;
                }
                self.client.start_over();
                return true;
            }
            _ => {
                self.restore();
                return true;
            }
        }
        false
    }

    fn connect(&mut self, input: &mut Bytes<'_>) {
        if self.line.is_none() && self.client.wants_connect(self.now) {
            if input.below(8) == 7 {
                self.client.handle_connect_failed(self.now);
            } else {
                self.client.handle_connected(self.now, [0xc2; 32]);
                self.line = Some(Line::default());
            }
        }
    }

    /// Sends what a correct edge would send now, or sometimes something close to it.
    fn edge_answers(&mut self, input: &mut Bytes<'_>) {
        let Some(line) = &mut self.line else {
            return;
        };
        let choice = input.byte();
        let good = choice < 224;
        let other = KeyPair::from_bytes(&[0x0d; 32])
            .expect("in the range of keys")
            .public();
        let inbox = &mut line.inbox;
        match self.client.state() {
            State::AwaitKey => {
                let key = if good { edge_pair().public() } else { other };
                Handshake::PubKey(key.as_bytes()).encode(inbox);
            }
            State::AwaitId => Handshake::ClientId(ClientId::from_u64(choice.into())).encode(inbox),
            State::AwaitChallenge => {
                let length = if good {
                    CHALLENGE_BYTES
                } else {
                    input.below(64)
                };
                let plain = vec![choice; length];
                let known = self
                    .client
                    .saved_session()
                    .map(|saved| keys_of(&saved.to_bytes()[..]));
                let shared = known.filter(|_| !choice.is_multiple_of(16)).map_or_else(
                    || pair(0).1.clone(),
                    |keys| keys.agree(&self.edge_key.unwrap_or(other)),
                );
                let mut sealed = Vec::new();
                shared.seal_with_nonce(&plain, &[choice; 24], &mut sealed);
                Handshake::Challenge(&sealed).encode(inbox);
                line.challenges.push(Challenge {
                    key: shared,
                    plain,
                    sealed,
                });
            }
            State::AwaitPing => Handshake::Ping.encode(inbox),
            _ => encode_frame(&input.some().repeat(1 + usize::from(choice % 8)), inbox),
        }
    }

    fn read(&mut self, input: &mut Bytes<'_>) {
        let Some(line) = &mut self.line else {
            return;
        };
        let length = input.part_of(line.inbox.len());
        let bytes: Vec<u8> = line.inbox.drain(..length).collect();
        let mut ours = &bytes[..];
        while line.edge_key.is_none() {
            let Ok(Some(body)) = line.read.next_frame(&mut ours, ANY) else {
                break;
            };
            if let Ok(Handshake::PubKey(point)) = Handshake::decode(body) {
                line.edge_key = PublicKey::from_sec1(point).ok();
            }
        }
        let (mut theirs, mut expected) = (&bytes[..], Vec::new());
        if let Some(packets) = &mut line.packets {
            expected = all_packets(packets, theirs, self.config.max_receive_bytes());
        }
        let mut got = Vec::new();
        while let Some(event) = self.client.handle_bytes(self.now, &mut theirs) {
            match event {
                Event::Packet { data, .. } => got.push(data.to_vec()),
                Event::Connected { id } | Event::Resumed { id, .. } => {
                    let is_resumed = matches!(event, Event::Resumed { .. });
                    // An edge may answer bytes that the transport has not taken yet.
                    assert!(is_resumed || line.claimed.is_none());
                    assert!(line.packets.is_none(), "a connection is established once");
                    let mut packets = FrameReader::default();
                    expected = all_packets(&mut packets, theirs, self.config.max_receive_bytes());
                    line.packets = Some(packets);
                    if !is_resumed {
                        self.edge_key = line.edge_key;
                    }
                    assert!(self.edge_key.is_some() && self.edge_key == line.edge_key);
                    assert!(line.claimed.is_none_or(|claimed| claimed == id));
                    assert_eq!(self.client.id(), Some(id));
                }
                other => panic!("{other:?} does not come from bytes"),
            }
        }
        assert!(
            theirs.is_empty(),
            "the client takes all bytes that it is given"
        );
        assert_eq!(got, expected);
    }

    fn write(&mut self, input: &mut Bytes<'_>) {
        let Some(line) = &mut self.line else {
            return;
        };
        let length = input.part_of(self.client.output().len());
        let bytes = self.client.output()[..length].to_vec();
        self.client.handle_written(self.now, length);
        let mut bytes = &bytes[..];
        let mut written = core::mem::take(&mut line.written);
        while let Some(body) = written
            .next_frame(&mut bytes, ANY)
            .expect("the reader has no bound")
        {
            line.hear(body, self.edge_key.as_ref(), &mut self.queue);
        }
        line.written = written;
    }

    fn send(&mut self, input: &mut Bytes<'_>) {
        let data = input.some();
        let queued: usize = self.queue.iter().map(|packet| 4 + packet.len()).sum();
        let max = self.client.max_packet_bytes();
        match self.client.send(data) {
            Ok(_) => self.queue.push_back(data.to_vec()),
            Err(SendError::TooLong { length, max: told }) => {
                assert!(length == data.len() && length > max && told == max)
            }
            Err(SendError::NoRoom) => assert!(
                self.queue.len() >= self.config.queue_packets()
                    || queued + 4 + data.len() > self.config.queue_bytes()
            ),
            Err(SendError::Ended(end)) => assert_eq!(Some(&end), self.client.end()),
            Err(other) => panic!("the target knows no {other:?}"),
        }
    }

    /// Kills the application and restores it from its saved session.
    fn restore(&mut self) {
        if let Some(saved) = self.client.saved_session() {
            self.restored = self.restored.wrapping_add(1);
            self.client = Client::restore(self.config.clone(), [self.restored; 32], &saved);
            self.edge_key = Some(*saved.edge_key());
            self.queue.clear();
            self.line = None;
        }
    }

    /// Does what an adapter does after every call, and checks the invariants.
    fn settle(&mut self) {
        if self.client.wants_close() {
            assert_eq!(self.client.output(), b"");
            self.line = None;
            self.client.handle_closed(self.now, Closed::Error);
        }
        if !matches!(
            self.client.state(),
            State::Waiting | State::Connecting | State::Ended
        ) {
            assert!(self.line.is_some());
        }
        while self.client.poll_event().is_some() {}
        assert_eq!(self.client.queued_packets(), self.queue.len());
        let queued: usize = self.queue.iter().map(|packet| 4 + packet.len()).sum();
        assert_eq!(self.client.queued_bytes(), queued);
        assert!(
            queued <= self.config.queue_bytes() && self.queue.len() <= self.config.queue_packets()
        );
    }
}

impl Line {
    /// Makes the edge read one frame from the client.
    fn hear(
        &mut self,
        body: &[u8],
        session_edge_key: Option<&PublicKey>,
        queue: &mut VecDeque<Vec<u8>>,
    ) {
        if matches!(
            self.said[..],
            ["ProtocolVersion", "PubKey"] | [_, _, _, "Ping"]
        ) {
            assert!(
                self.packets.is_some(),
                "no packet leaves before the session is confirmed"
            );
            assert_eq!(
                queue.pop_front().as_deref(),
                Some(body),
                "packets leave in order"
            );
            return;
        }
        let packet = Handshake::decode(body).expect("a client speaks the protocol");
        match (&self.said[..], &packet) {
            ([], Handshake::ProtocolVersion(2)) | ([_], Handshake::PubKey(_)) => {}
            ([_], Handshake::ClientId(id)) => {
                assert!(self.edge_key.is_some() && self.edge_key.as_ref() == session_edge_key);
                self.claimed = Some(*id);
            }
            ([_, "ClientId"], Handshake::ChallengeResponse(sealed)) => {
                let is_answer = |challenge: &Challenge| {
                    let opened = challenge.key.open(sealed);
                    opened.is_ok_and(|plain| {
                        *plain == challenge.plain && plain.len() == CHALLENGE_BYTES
                    }) && SharedKey::nonce_of(sealed) != SharedKey::nonce_of(&challenge.sealed)
                };
                assert!(
                    self.challenges.iter().any(is_answer),
                    "a response answers a challenge"
                );
            }
            ([_, _, "ChallengeResponse"], Handshake::Ping) => {}
            (said, packet) => panic!("{} after {said:?}", packet.name()),
        }
        self.said.push(packet.name());
    }
}

/// Returns the packets in `bytes`, up to one that is too long.
fn all_packets(frames: &mut FrameReader, bytes: &[u8], max_body: u32) -> Vec<Vec<u8>> {
    let (mut input, mut packets) = (bytes, Vec::new());
    while let Ok(Some(body)) = frames.next_frame(&mut input, max_body) {
        packets.push(body.to_vec());
    }
    packets
}

/// Returns the key pair in a saved session, which follows the version and the id.
fn keys_of(saved: &[u8]) -> KeyPair {
    let bytes = saved[9..].first_chunk().expect("it is long enough");
    KeyPair::from_bytes(bytes).expect("it was saved")
}
