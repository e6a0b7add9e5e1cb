//! One connection, seen from its client.

use voltlane_core::edge::ConnKey;
use voltlane_core::keys::{PublicKey, SEALED_CHALLENGE_BYTES};
use voltlane_core::v2::packets::Handshake;
use voltlane_core::wire::frame::{FrameReader, encode_frame};

use super::ledger::Ledger;
use crate::bytes::Bytes;
use crate::keys::{PAIRS, edge_pair, pair};

/// A length limit that never applies.
pub(super) const ANY: u32 = u32::MAX;

/// How far a client's handshake has come.
enum Stage {
    New,
    Joining { pair: usize },
    Claiming { member: usize },
    Challenged { member: usize, sealed: Vec<u8> },
    Proving { member: usize },
    In { member: usize },
}

pub(super) struct Peer {
    pub(super) key: ConnKey,
    stage: Stage,
    has_greeted: bool,
    /// Whether the client has sent only what its stage allows, so that its packets are known.
    is_clean: bool,
    /// Bytes that the client has sent and the edge has not read.
    pub(super) outbox: Vec<u8>,
    /// The length of a PROXY header at the front of the outbox.
    header_bytes: usize,
    /// The packets in the bytes that the edge has read.
    packets: FrameReader,
    is_broken: bool,
    /// The frames in the bytes that the edge has written.
    frames: FrameReader,
}

impl Peer {
    pub(super) fn new(key: ConnKey, header: &[u8]) -> Self {
        Peer {
            key,
            stage: Stage::New,
            has_greeted: false,
            is_clean: true,
            outbox: header.to_vec(),
            header_bytes: header.len(),
            packets: FrameReader::default(),
            is_broken: false,
            frames: FrameReader::default(),
        }
    }

    /// The session whose client this is, as far as the client knows.
    pub(super) fn member(&self) -> Option<usize> {
        match self.stage {
            Stage::In { member } => Some(member),
            _ => None,
        }
    }

    fn say(&mut self, packet: Handshake<'_>) {
        packet.encode(&mut self.outbox);
    }

    /// Performs the next step of a handshake.
    pub(super) fn go_on(&mut self, input: &mut Bytes<'_>, ledger: &mut Ledger) {
        match &self.stage {
            Stage::New => {
                self.say(Handshake::ProtocolVersion(2));
                let choice = usize::from(input.byte());
                let claimed = choice
                    .checked_sub(128)
                    .and_then(|n| n.checked_rem(ledger.members.len()));
                if let Some(member) = claimed {
                    self.say(Handshake::ClientId(ledger.members[member].id));
                    self.stage = Stage::Claiming { member };
                } else {
                    let pair_number = choice % PAIRS;
                    self.say(Handshake::PubKey(pair(pair_number).0.public().as_bytes()));
                    self.stage = Stage::Joining { pair: pair_number };
                }
            }
            Stage::Challenged { .. } => self.answer(input, ledger),
            _ => {}
        }
    }

    fn answer(&mut self, input: &mut Bytes<'_>, ledger: &mut Ledger) {
        let Stage::Challenged { member, sealed } = core::mem::replace(&mut self.stage, Stage::New)
        else {
            return;
        };
        let entry = &mut ledger.members[member];
        let own = entry.pair.map(|number| &pair(number).1);
        let (choice, mut nonce) = (input.byte(), [0; 24]);
        nonce[0] = input.byte();
        let answer = match (
            choice,
            own.and_then(|key| Some((key, key.open(&sealed).ok()?))),
        ) {
            (0..224, Some((key, plain))) => {
                let mut answer = Vec::new();
                key.seal_with_nonce(&plain, &nonce, &mut answer);
                self.stage = Stage::Proving { member };
                if !self.is_clean {
                    // Packets after this cannot be told apart from the other bytes.
                    entry.up = None;
                }
                answer
            }
            (224..240, _) => sealed,
            (_, Some((_, plain))) => {
                // The right value, sealed under a stranger's key.
                let mut answer = Vec::new();
                let stranger = entry.pair.map_or(0, |number| number + 1);
                pair(stranger)
                    .1
                    .seal_with_nonce(&plain, &nonce, &mut answer);
                answer
            }
            _ => input.take(SEALED_CHALLENGE_BYTES).to_vec(),
        };
        self.say(Handshake::ChallengeResponse(&answer));
        self.say(Handshake::Ping);
    }

    /// Sends a packet if in a session, sometimes one above the limit.
    pub(super) fn send(&mut self, input: &mut Bytes<'_>) {
        let bytes = input.some();
        if self.member().is_some() {
            encode_frame(&bytes.repeat(1 + input.below(16)), &mut self.outbox);
        }
    }

    /// Sends arbitrary bytes.
    pub(super) fn babble(&mut self, bytes: &[u8], ledger: &mut Ledger) {
        self.outbox.extend_from_slice(bytes);
        self.lose_track(ledger);
    }

    /// Gives up on tracking packets: outside of a session, the bytes may be a part of the handshake or a packet after it.
    fn lose_track(&mut self, ledger: &mut Ledger) {
        self.is_clean &= self.member().is_some();
        if let Stage::Proving { member } = self.stage {
            ledger.members[member].up = None;
        }
    }

    /// Sends a handshake packet out of turn.
    pub(super) fn blurt(&mut self, input: &mut Bytes<'_>, ledger: &mut Ledger) {
        self.lose_track(ledger);
        let some = input.some();
        match input.below(7) {
            0 => self.say(Handshake::Ping),
            1 => self.say(Handshake::ProtocolVersion(2)),
            2 => self.say(Handshake::ProtocolVersion(3)),
            3 => self.say(Handshake::PubKey(some)),
            4 => self.say(Handshake::ChallengeResponse(some)),
            5 => self.say(Handshake::PubKey(pair(some.len()).0.public().as_bytes())),
            _ => {
                let some_member = some.len().checked_rem(ledger.members.len());
                let id = some_member.map_or(voltlane_core::ClientId::from_u64(7), |n| {
                    ledger.members[n].id
                });
                self.say(Handshake::ClientId(id));
            }
        }
    }

    /// Makes the edge read the first `length` bytes of the outbox, and records the packets in them.
    pub(super) fn taken(&mut self, length: usize, max_body: u32, ledger: &mut Ledger) -> Vec<u8> {
        let taken: Vec<u8> = self.outbox.drain(..length).collect();
        let header_bytes = self.header_bytes.min(length);
        self.header_bytes -= header_bytes;
        if let Some(member) = self.member()
            && let Some(up) = &mut ledger.members[member].up
        {
            let mut input = &taken[header_bytes..];
            while !self.is_broken {
                match self.packets.next_frame(&mut input, max_body) {
                    Ok(Some(body)) => up.push(body.to_vec()),
                    Ok(None) => break,
                    Err(_) => self.is_broken = true,
                }
            }
        }
        taken
    }

    /// Makes the client read what the edge wrote.
    pub(super) fn hear(&mut self, bytes: &[u8], ledger: &mut Ledger) {
        let mut input = bytes;
        let mut frames = core::mem::take(&mut self.frames);
        while let Some(body) = frames
            .next_frame(&mut input, ANY)
            .expect("the reader has no bound")
        {
            self.hear_frame(body, ledger);
        }
        self.frames = frames;
    }

    fn hear_frame(&mut self, body: &[u8], ledger: &mut Ledger) {
        if let Stage::In { member } = self.stage {
            ledger.members[member].down.push(body.to_vec());
            return;
        }
        match Handshake::decode(body).expect("an edge speaks the protocol") {
            Handshake::PubKey(point) if !self.has_greeted => {
                self.has_greeted = true;
                assert_eq!(PublicKey::from_sec1(point), Ok(edge_pair().public()));
            }
            Handshake::Challenge(sealed) => {
                assert_eq!(sealed.len(), SEALED_CHALLENGE_BYTES);
                if let Stage::Claiming { member } = self.stage {
                    self.stage = Stage::Challenged {
                        member,
                        sealed: sealed.to_vec(),
                    };
                }
            }
            Handshake::ClientId(id) => {
                let pair = match self.stage {
                    Stage::Joining { pair } => Some(pair).filter(|_| self.is_clean),
                    _ => None,
                };
                assert!(pair.is_some() || !self.is_clean, "an id outside of a join");
                self.stage = Stage::In {
                    member: ledger.join(id, pair),
                };
            }
            Handshake::Ping => {
                let Stage::Proving { member } = self.stage else {
                    panic!("resumed without a proof")
                };
                self.stage = Stage::In { member };
            }
            other => panic!("an edge does not send {}", other.name()),
        }
    }
}
