//! One simulated client connection, seen from the client: the script that it follows through the handshake.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

use super::identity::{Identity, STRANGER, identity};
use crate::codec::{Frames, Hello, frame};
use crate::plan::{Attempt, Join};
use crate::rng::Rng;

/// The longest body that a simulated client accepts.
const MAX_BODY: u32 = 16 << 20;

/// What a connection was opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// A new session.
    Join(Join),
    /// The client resuming its session.
    Resume,
    /// An attempt by somebody else to resume it.
    Attempt(Attempt),
}

/// How far its script has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    EdgeKey,
    Id,
    Challenge,
    Ping,
    Established,
    /// It sends nothing more and ignores what it receives.
    Stalled,
}

/// What a step of a script means for the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The edge assigned this id.
    Joined(u64),
    /// The edge resumed the session.
    Resumed,
    /// A response made with the session's key is sent now.
    GoodResponse(Vec<u8>),
    /// The session's key does not open the challenge.
    Decoy,
    /// The script ends its connection here.
    Leave,
    /// A packet down.
    Packet(Vec<u8>),
    /// The edge sent something that no edge may send here.
    Nonsense(String),
}

/// The client's end of one connection.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) role: Role,
    pub(crate) stage: Stage,
    /// The client that this connection belongs to or targets.
    pub(crate) client: usize,
    /// The session's key pair.
    keys: &'static Identity,
    /// The id that it claims.
    pub(crate) claim: u64,
    /// An earlier good response.
    old_response: Option<Vec<u8>>,
    rng: Rng,
    incoming: Frames,
    /// Output that the transport has not taken.
    pub(crate) outbox: VecDeque<u8>,
    /// Frames to send once established.
    pub(crate) later: Vec<u8>,
    /// Whether it sends one byte at a time.
    pub(crate) slow: bool,
    /// Whether its next byte has a time.
    pub(crate) drips: bool,
    /// Half a frame was sent: nothing after it has a meaning.
    pub(crate) broken: bool,
    /// Whether it has closed its end.
    pub(crate) gone: bool,
    /// Whether it leaves as soon as it has joined.
    pub(crate) leaves: bool,
    /// Its address.
    pub(crate) address: IpAddr,
    /// Whether it bypasses the proxy.
    pub(crate) past_the_proxy: bool,
}

impl Peer {
    pub(crate) fn new(role: Role, client: usize, number: usize, claim: u64, rng: Rng) -> Peer {
        Peer {
            role,
            stage: Stage::EdgeKey,
            client,
            keys: identity(number),
            claim,
            old_response: None,
            rng,
            incoming: Frames::default(),
            outbox: VecDeque::new(),
            later: Vec::new(),
            slow: role == Role::Join(Join::Slow),
            drips: false,
            broken: false,
            gone: false,
            leaves: false,
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            past_the_proxy: false,
        }
    }

    pub(crate) fn with_old_response(mut self, response: Option<Vec<u8>>) -> Peer {
        self.old_response = response;
        self
    }

    /// Queues its first bytes.
    pub(crate) fn start(&mut self) {
        let version = Hello::Version(2).to_frame();
        let Role::Join(join) = self.role else {
            return self.say(&version);
        };
        match join {
            Join::Mute => self.stall_after(&[]),
            Join::StallAfterVersion => self.stall_after(&version),
            Join::OldVersion => self.stall_after(&Hello::Version(1).to_frame()),
            Join::NewVersion => self.stall_after(&Hello::Version(u32::MAX).to_frame()),
            Join::VersionTwice => self.stall_after(&[version.clone(), version].concat()),
            Join::DataFirst => self.stall_after(&frame(&[7; 20])),
            Join::Http => self.stall_after(b"GET / HTTP/1.1\r\nHost: edge\r\n\r\n"),
            Join::HalfFrame => self.stall_after(&version[..3]),
            Join::Trailing => self.stall_after(&frame(&[1, 2, 0])),
            Join::Normal | Join::Slow | Join::BadKey | Join::GoneAfterKey | Join::Eager => {
                self.say(&version)
            }
        }
    }

    /// Handles bytes from the edge.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        if self.stage == Stage::Stalled {
            return outcomes;
        }
        self.incoming.push(bytes);
        while let Ok(Some(body)) = self.incoming.next_body(MAX_BODY) {
            if self.stage == Stage::Established {
                outcomes.push(Outcome::Packet(body));
            } else {
                self.handshake(&body, &mut outcomes);
            }
            if self.stage == Stage::Stalled {
                break;
            }
        }
        outcomes
    }

    fn handshake(&mut self, body: &[u8], outcomes: &mut Vec<Outcome>) {
        match (self.stage, Hello::read(body)) {
            (Stage::EdgeKey, Some(Hello::PublicKey(_))) => self.edge_key(outcomes),
            (Stage::Id, Some(Hello::Id(id))) => {
                self.established();
                outcomes.push(Outcome::Joined(id));
            }
            (Stage::Challenge, Some(Hello::Challenge(sealed))) => self.answer(&sealed, outcomes),
            (Stage::Ping, Some(Hello::Ping)) => {
                self.established();
                outcomes.push(Outcome::Resumed);
            }
            (stage, other) => outcomes.push(Outcome::Nonsense(format!(
                "{other:?} while waiting for {stage:?}"
            ))),
        }
    }

    fn edge_key(&mut self, outcomes: &mut Vec<Outcome>) {
        let key = Hello::PublicKey(self.keys.public()).to_frame();
        let claim = Hello::Id(self.claim).to_frame();
        self.stage = Stage::Challenge;
        match self.role {
            Role::Join(Join::BadKey) => {
                let bad = self.bad_key();
                self.stall_after(&Hello::PublicKey(bad).to_frame());
            }
            Role::Join(Join::GoneAfterKey) => {
                self.stall_after(&[]);
                outcomes.push(Outcome::Leave);
            }
            Role::Join(Join::Eager) => {
                self.stage = Stage::Id;
                let later = std::mem::take(&mut self.later);
                self.say(&[key, later].concat());
            }
            Role::Join(_) => {
                self.stage = Stage::Id;
                self.say(&key);
            }
            Role::Attempt(Attempt::Stall) => self.stall_after(&claim),
            Role::Attempt(Attempt::Vanish) => {
                self.stall_after(&claim);
                outcomes.push(Outcome::Leave);
            }
            Role::Attempt(_) | Role::Resume => self.say(&claim),
        }
    }

    fn answer(&mut self, sealed: &[u8], outcomes: &mut Vec<Outcome>) {
        let mut random = [0; 72];
        self.rng.fill(&mut random);
        let mut nonce = [0; 24];
        self.rng.fill(&mut nonce);
        let opened = self.keys.open(sealed);
        if opened.is_none() && self.has_keys() {
            outcomes.push(Outcome::Decoy);
        }
        let genuine = opened.as_ref().map(|plain| self.keys.seal(plain, &nonce));
        let response = match self.role {
            Role::Resume | Role::Attempt(Attempt::NoPing) => {
                genuine.clone().unwrap_or(random.to_vec())
            }
            Role::Attempt(Attempt::Echo) => sealed.to_vec(),
            Role::Attempt(Attempt::Replay) => self.old_response.clone().unwrap_or(random.to_vec()),
            Role::Attempt(Attempt::Cross) => identity(STRANGER).seal(&random[..32], &nonce),
            Role::Attempt(Attempt::Altered) => {
                let mut plain = opened.unwrap_or(random[..32].to_vec());
                let place = self.rng.below(plain.len() as u64) as usize;
                plain[place] ^= 1 << self.rng.below(8);
                self.keys.seal(&plain, &nonce)
            }
            Role::Attempt(Attempt::Short) => random[..self.rng.below(72) as usize].to_vec(),
            Role::Attempt(_) | Role::Join(_) => random.to_vec(),
        };
        if genuine.as_ref() == Some(&response) {
            outcomes.push(Outcome::GoodResponse(response.clone()));
        }
        let frame = Hello::Response(response).to_frame();
        let ping = Hello::Ping.to_frame();
        self.stage = Stage::Ping;
        match self.role {
            Role::Attempt(Attempt::PingOnly) => self.say(&ping),
            Role::Attempt(Attempt::NoPing) => {
                self.stall_after(&frame);
                if self.rng.chance(70) {
                    outcomes.push(Outcome::Leave);
                }
            }
            Role::Resume => {
                let later = std::mem::take(&mut self.later);
                self.say(&[frame, ping, later].concat());
            }
            _ => self.say(&[frame, ping].concat()),
        }
    }

    /// Returns whether it has the key of the session that it claims.
    fn has_keys(&self) -> bool {
        matches!(
            self.role,
            Role::Resume | Role::Attempt(Attempt::Altered | Attempt::NoPing)
        )
    }

    fn bad_key(&mut self) -> Vec<u8> {
        let mut key = self.keys.public();
        match self.rng.below(6) {
            0 => key.clear(),
            1 => key.truncate(32),
            2 => key.push(0),
            3 => key[0] = 5,
            4 => key[1..].fill(0xff),
            _ => key.fill(0),
        }
        key
    }

    fn established(&mut self) {
        self.stage = Stage::Established;
        let later = std::mem::take(&mut self.later);
        self.say(&later);
    }

    fn stall_after(&mut self, bytes: &[u8]) {
        self.say(bytes);
        self.stage = Stage::Stalled;
    }

    /// Puts these bytes in front of all others.
    pub(crate) fn precede(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().rev() {
            self.outbox.push_front(*byte);
        }
    }

    fn say(&mut self, bytes: &[u8]) {
        self.outbox.extend(bytes);
    }

    /// Sends frames now, or once established.
    pub(crate) fn send(&mut self, frames: &[u8]) {
        match self.stage {
            Stage::Established => self.say(frames),
            Stage::Stalled => {}
            _ => self.later.extend_from_slice(frames),
        }
    }
}
