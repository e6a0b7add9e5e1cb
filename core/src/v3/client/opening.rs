//! The client's half of an opening. (SPEC sections 22 and 23)
//!
//! It knows packets, keys, counters and marks. Time, addresses and rings are the client's.

use std::collections::VecDeque;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::ClientId;
use crate::keys::{KeyError, KeyPair, NONCE_BYTES, PublicKey};

use super::super::MAX_NUMBER;
use super::super::code::Code;
use super::super::packets::{
    Busy, ClaimHead, Extensions, Handle, Hello, KeyHint, Packet, PacketError, Position, Settings,
    Verdict,
};
use super::super::schedule::{
    AnswerError, Attempt, ClaimKey, Join, MAX_AHEAD, MAX_CLIENT_AHEAD, ResumeSecret, Secret,
    WelcomeError,
};

/// The number of attempts whose marks a client remembers: those that a RESUMED names, and 64 after it.
pub const MAX_MARKS: usize = 128;

/// Why a packet of the edge ends the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No packet that an edge sends.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// A packet out of turn, by its name in SPEC.txt.
    #[error("unexpected {0}")]
    Unexpected(&'static str),
    /// The edge has another key than the pinned one. The client stops.
    #[error("the edge has another key than the pinned one")]
    OtherEdge,
    /// A point that is not on the curve.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The Welcome does not open, or says what cannot be.
    #[error(transparent)]
    Welcome(#[from] WelcomeError),
    /// The edge grants a feature that was not asked for.
    #[error("features {features:#x} were granted and not asked for")]
    Features {
        /// The bits.
        features: u32,
    },
    /// The Answer does not open, or says what cannot be.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// The edge has no room now, or another edge has the session.
    #[error("{}", .0.code)]
    Busy(Busy),
}

/// A Hello that was sent.
#[derive(Debug)]
pub struct Joining {
    hello: Vec<u8>,
    ephemeral: KeyPair,
    pins: Vec<PublicKey>,
    asked: u32,
}

/// What a Welcome gives.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "SPEC section 22 has no others")]
pub struct Welcomed {
    /// What the edge says.
    pub settings: Settings,
    /// The edge's key, to be pinned.
    pub edge_key: PublicKey,
    /// The keys.
    pub join: Join,
    /// What the client keeps to come back.
    pub session: Resumable,
}

impl Joining {
    /// Appends a Hello to `out`, for an edge that has one of the keys `pins`, or any key if there are none. The first pin is the one that is
    /// asked for. `random` must come from the operating system for this connection. It asks for no feature.
    #[must_use]
    pub fn begin(
        random: [u8; 32],
        pins: &[PublicKey],
        longest_packet_down: u32,
        out: &mut Vec<u8>,
    ) -> Self {
        Self::begin_asking(random, pins, longest_packet_down, 0, out)
    }

    /// Like [`begin`](Self::begin), and asks for these features.
    #[must_use]
    pub(super) fn begin_asking(
        random: [u8; 32],
        pins: &[PublicKey],
        longest_packet_down: u32,
        asked: u32,
        out: &mut Vec<u8>,
    ) -> Self {
        let mut rng = ChaCha20Rng::from_seed(random);
        let ephemeral = KeyPair::generate(&mut rng);
        // One of the bits that are never granted.
        let features = asked | (0x0100_0000 << (rng.next_u32() % 8));
        let mut extensions = Vec::new();
        Extensions::push_longest_packet_down(longest_packet_down, &mut extensions);
        let point = ephemeral.public();
        let hello = Packet::Hello(Hello {
            features,
            key_hint: pins.first().map_or(KeyHint::NONE, KeyHint::of),
            point: point.as_bytes(),
            extensions: Extensions::new(&extensions).unwrap_or_default(),
        });
        hello.encode(out);
        let hello = hello.body();
        Joining {
            hello,
            ephemeral,
            pins: pins.to_vec(),
            asked,
        }
    }

    /// Returns E_c, which names the connection in a key log.
    #[cfg(debug_assertions)]
    pub(super) fn point(&self) -> PublicKey {
        self.ephemeral.public()
    }

    /// Handles the edge's packet.
    ///
    /// # Errors
    /// [`ClientError`]. The attempt is over.
    pub fn welcome(self, body: &[u8]) -> Result<Welcomed, ClientError> {
        let welcome = match Packet::decode(body)? {
            Packet::Welcome(welcome) => welcome,
            Packet::Busy(busy) => return Err(ClientError::Busy(busy)),
            packet => return Err(ClientError::Unexpected(packet.name())),
        };
        let edge_key = PublicKey::from_sec1(welcome.edge_key)?;
        // Before any use of it.
        if !self.pins.is_empty() && !self.pins.contains(&edge_key) {
            return Err(ClientError::OtherEdge);
        }
        let ephemeral = PublicKey::from_sec1(welcome.point)?;
        let join = Join::of_client(&self.hello, &self.ephemeral, &ephemeral, &edge_key);
        let settings = join.open_welcome(&welcome)?;
        let features = settings.features & !self.asked;
        if features != 0 {
            return Err(ClientError::Features { features });
        }
        let session = Resumable::new(&settings, &edge_key, join.resume.clone());
        Ok(Welcomed {
            settings,
            edge_key,
            join,
            session,
        })
    }
}

/// What a client keeps to come back. (SPEC 23.5, 23.6)
#[derive(Debug, Clone)]
pub struct Resumable {
    pub(super) id: ClientId,
    pub(super) claim_key: ClaimKey,
    pub(super) key_hint: KeyHint,
    pub(super) run: [u8; 8],
    pub(super) handle: Handle,
    /// The secret of the least counter that is of use.
    pub(super) least: ResumeSecret,
    /// The counter of the last attempt, or that before the next one.
    pub(super) last: u64,
    /// The greatest counter of all attempts.
    pub(super) used: u64,
    /// The same before the last attempt.
    pub(super) used_before: u64,
    /// The greatest counter that the edge has confirmed or told.
    pub(super) told: u64,
    /// Refusals with 310 or 311 in a row.
    pub(super) refusals: u32,
    /// The attempts since the last RESUMED, those that it named, and its own. At the beginning, the zeros that stand for the join.
    pub(super) marks: VecDeque<[u8; 8]>,
    /// Whether a mark was forgotten.
    pub(super) forgot: bool,
    /// What it shows at an edge that does not have the session (SPEC 44.2).
    #[cfg(feature = "tickets")]
    pub(super) ticket: Vec<u8>,
}

/// An attempt to resume whose Claim was written.
#[derive(Debug)]
pub struct Attempting {
    claim: Vec<u8>,
    attempt: Attempt,
    link: ResumeSecret,
}

/// What an Answer means for the client. (SPEC 23.4)
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "SPEC 23.4 has no others")]
pub enum Outcome {
    /// The session was taken up. Records follow.
    TakenUp(Returning),
    /// Another attempt is made at once.
    AtOnce,
    /// Another attempt is made after a pause, like after a failed one.
    Later,
    /// Somebody else has used a counter that this client never did. It goes on only if its application says so.
    Conflict,
    /// The session is over: the edge does not have what the client knows, or the other way round.
    Over,
    /// What the class of the code says.
    ByClass(Verdict),
}

/// An attempt that was taken up, and whose RESUMED is awaited.
#[derive(Debug)]
pub struct Returning {
    attempt: Attempt,
    link: ResumeSecret,
    /// The secret of the records up.
    pub up: Secret,
    /// The secret of the records down.
    pub down: Secret,
    /// The run of the edge that answered.
    run: [u8; 8],
    /// Whether the edge asks for a proof before RESUMED (SPEC 44.4).
    pub is_cold: bool,
}

impl Resumable {
    fn new(settings: &Settings, edge_key: &PublicKey, first: ResumeSecret) -> Self {
        Resumable {
            id: settings.id,
            claim_key: settings.claim_key.clone(),
            key_hint: KeyHint::of(edge_key),
            run: settings.run,
            handle: settings.handle,
            last: first.counter().saturating_sub(1),
            least: first,
            used: 0,
            used_before: 0,
            told: 0,
            refusals: 0,
            marks: VecDeque::from([[0; 8]]),
            forgot: false,
            #[cfg(feature = "tickets")]
            ticket: Vec::new(),
        }
    }

    /// Returns the id of the session.
    #[must_use]
    pub fn id(&self) -> ClientId {
        self.id
    }

    /// Begins an attempt, whose first byte is written now: its counter is used up. `nonce` must come from the operating system for it.
    ///
    /// # Panics
    /// If a number is above [`MAX_NUMBER`]. Rings end below it.
    #[must_use]
    pub fn attempt(
        &mut self,
        nonce: [u8; NONCE_BYTES],
        first_up: u64,
        received_down: u64,
    ) -> Attempting {
        assert!(first_up <= MAX_NUMBER && received_down <= MAX_NUMBER);
        let following = self.last.saturating_add(1).max(self.least.counter());
        let farthest = self.least.counter().saturating_add(MAX_CLIENT_AHEAD);
        let counter = following
            .min(self.told.saturating_add(MAX_AHEAD))
            .min(farthest);
        let link = self
            .least
            .at(counter, MAX_CLIENT_AHEAD)
            .expect("a refusal that would lead further ends the session");
        self.last = counter;
        self.used_before = self.used;
        self.used = self.used.max(counter);
        #[cfg(feature = "tickets")]
        let with_ticket = self.with_ticket();
        #[cfg(feature = "tickets")]
        let extensions = Extensions::new(&with_ticket).unwrap_or_default();
        #[cfg(not(feature = "tickets"))]
        let extensions = Extensions::NONE;
        let head = ClaimHead {
            key_hint: self.key_hint,
            handle: self.handle,
            nonce,
            extensions,
        };
        let position = Position {
            counter,
            run: self.run,
            first_up,
            received_down,
        };
        let claim = Packet::Claim(self.claim_key.seal_claim(head, &position)).body();
        let attempt = Attempt::new(&claim);
        self.remember(attempt.mark());
        Attempting {
            claim,
            attempt,
            link,
        }
    }

    /// Returns the extensions of a Claim.
    #[cfg(feature = "tickets")]
    fn with_ticket(&self) -> Vec<u8> {
        let mut extensions = Vec::new();
        if !self.ticket.is_empty() {
            Extensions::push_ticket(&self.ticket, &mut extensions);
        }
        extensions
    }

    /// Keeps a ticket, in place of an older one.
    #[cfg(feature = "tickets")]
    pub(super) fn keep_ticket(&mut self, ticket: Vec<u8>) {
        self.ticket = ticket;
    }

    fn remember(&mut self, mark: [u8; 8]) {
        self.marks.push_back(mark);
        if self.marks.len() > MAX_MARKS {
            self.marks.pop_front();
            self.forgot = true;
        }
    }

    /// Takes an attempt back of which no byte was written: it uses no counter up.
    pub fn withdraw(&mut self, attempting: &Attempting) {
        if self.marks.back() == Some(&attempting.attempt.mark()) {
            self.marks.pop_back();
            self.last = attempting.counter().saturating_sub(1);
            self.used = self.used_before;
        }
    }

    /// Returns the greatest counter of all attempts.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used
    }

    /// The application goes on after a [conflict](Outcome::Conflict).
    pub fn go_on(&mut self) {
        self.used = self.used.max(self.told);
    }

    /// The application goes on after another attempt, with this counter, took the session over.
    pub fn go_on_after(&mut self, counter: u64) {
        self.used = self.used.max(counter);
    }

    fn stale(&mut self, highest: u64) -> Outcome {
        let next = highest.saturating_add(1);
        let links = next.checked_sub(self.least.counter());
        if links.is_none_or(|links| links > MAX_CLIENT_AHEAD) {
            return Outcome::Over;
        }
        (self.told, self.last) = (highest, highest);
        if highest > self.used {
            return Outcome::Conflict;
        }
        self.again()
    }

    fn ahead(&mut self, highest: u64) -> Outcome {
        let least = self.least.counter();
        if least > highest.saturating_add(MAX_AHEAD) {
            return Outcome::Over;
        }
        (self.told, self.last) = (highest, least.saturating_sub(1));
        self.again()
    }

    /// The first refusal in a row is followed by an attempt at once.
    fn again(&mut self) -> Outcome {
        self.refusals = self.refusals.saturating_add(1);
        match self.refusals {
            1 => Outcome::AtOnce,
            _ => Outcome::Later,
        }
    }
}

impl Attempting {
    /// Returns the body of the Claim.
    #[must_use]
    pub fn claim(&self) -> &[u8] {
        &self.claim
    }

    /// Returns its counter.
    #[must_use]
    pub fn counter(&self) -> u64 {
        self.link.counter()
    }

    /// Returns r_c, which names the connection in a key log.
    #[cfg(debug_assertions)]
    pub(super) fn nonce(&self) -> [u8; NONCE_BYTES] {
        match Packet::decode(&self.claim) {
            Ok(Packet::Claim(claim)) => claim.head.nonce,
            _ => unreachable!("it was encoded here"),
        }
    }

    /// Returns the secret of the early records.
    #[must_use]
    pub fn early(&self) -> Secret {
        self.attempt.early(&self.link)
    }

    /// Handles the edge's packet.
    ///
    /// # Errors
    /// [`ClientError`]. The attempt has failed; the session has not.
    pub fn answer(self, session: &mut Resumable, body: &[u8]) -> Result<Outcome, ClientError> {
        let answer = match Packet::decode(body)? {
            Packet::Answer(answer) => answer,
            Packet::Busy(busy) => return Err(ClientError::Busy(busy)),
            packet => return Err(ClientError::Unexpected(packet.name())),
        };
        let verdict = self.attempt.open_answer(&session.claim_key, &answer)?;
        session.handle = verdict.handle;
        match verdict.code {
            code if code == Code::TAKEN_UP || self.takes_cold(session, code) => {
                let (up, down) = self.attempt.established(&self.link, body);
                Ok(Outcome::TakenUp(Returning {
                    attempt: self.attempt,
                    link: self.link,
                    up,
                    down,
                    run: verdict.run,
                    is_cold: code == Code::COLD,
                }))
            }
            Code::COLD => Err(ClientError::Unexpected("Answer 1")),
            Code::STALE => Ok(session.stale(verdict.highest)),
            Code::AHEAD => Ok(session.ahead(verdict.highest)),
            _ => {
                session.refusals = 0;
                Ok(Outcome::ByClass(verdict))
            }
        }
    }
}

impl Attempting {
    /// Returns whether the edge may ask for a proof: it was shown a ticket.
    #[cfg(feature = "tickets")]
    fn takes_cold(&self, session: &Resumable, code: Code) -> bool {
        code == Code::COLD && !session.ticket.is_empty()
    }

    #[cfg(not(feature = "tickets"))]
    const fn takes_cold(&self, _: &Resumable, _: Code) -> bool {
        false
    }
}

impl Returning {
    /// Handles the edge's RESUMED, which names the attempts before this one by their marks. Returns whether one of them was somebody else's
    /// (SPEC 23.6(b)).
    pub fn resumed(self, session: &mut Resumable, before: &[[u8; 8]]) -> bool {
        let counter = self.link.counter();
        let is_own = |mark| session.forgot || session.marks.contains(mark);
        let is_foreign = !before.iter().all(is_own);
        session.least = self
            .link
            .at(counter.saturating_add(1), 1)
            .expect("the next link");
        (session.told, session.last) = (counter, counter);
        // From here on this edge has the session.
        session.run = self.run;
        session.refusals = 0;
        // The edge names them again until it knows that this client has seen them.
        session.marks = before.iter().copied().collect();
        session.marks.push_back(self.attempt.mark());
        session.forgot = false;
        is_foreign
    }
}
