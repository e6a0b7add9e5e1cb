//! The client's half of the handshake, and the identity that it settles. (SPEC 4.2, 4.3)

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::ClientId;
use crate::keys::{
    CHALLENGE_BYTES, KeyPair, NonceMint, PublicKey, SEALED_CHALLENGE_BYTES, SharedKey,
};
use crate::v2::packets::{Handshake, PROTOCOL_VERSION};

use super::{MAX_UNPROVABLE_CHALLENGES, Refusal, SavedSession, State, Violation};

/// The session, the handshake in progress, and what of it is still to be written.
#[derive(Default)]
pub(super) struct Session {
    identity: Option<Identity>,
    /// Between our public key and our id.
    offer: Option<Offer>,
    output: Vec<u8>,
    /// How much of `output` the transport took.
    written: usize,
    /// Challenges in a row that did not open.
    unprovable_challenges: u32,
}

/// Who this client is: the edge said so, and the keys prove it.
struct Identity {
    id: ClientId,
    keys: KeyPair,
    /// The only edge that this client proves itself to.
    edge_key: PublicKey,
    /// Made at the first challenge, once for the session: to agree on a key costs 40 µs.
    prover: Option<Prover>,
}

/// What answers challenges.
struct Prover {
    shared_key: SharedKey,
    /// Tells our own nonces from the edge's: an answer of ours that somebody sends back as a challenge opens as well.
    nonces: NonceMint,
}

/// What will be the identity if the edge answers with an id.
struct Offer {
    keys: KeyPair,
    edge_key: PublicKey,
}

/// Why a handshake goes no further.
#[derive(Debug)]
pub(super) enum Failure {
    Violation(Violation),
    Refused(Refusal),
}

impl<E: Into<Violation>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Violation(error.into())
    }
}

impl Session {
    /// A session that was saved, to be resumed.
    pub(super) fn restore(saved: &SavedSession) -> Self {
        let identity = Identity {
            id: saved.id(),
            keys: saved.keys().clone(),
            edge_key: *saved.edge_key(),
            prover: None,
        };
        Session {
            identity: Some(identity),
            ..Session::default()
        }
    }

    pub(super) fn save(&self) -> Option<SavedSession> {
        self.identity.as_ref().map(|identity| {
            SavedSession::new(identity.id, identity.keys.clone(), identity.edge_key)
        })
    }

    pub(super) fn id(&self) -> Option<ClientId> {
        self.identity.as_ref().map(|identity| identity.id)
    }

    /// A transport is open: the client speaks first.
    pub(super) fn begin(&mut self) -> State {
        Handshake::ProtocolVersion(PROTOCOL_VERSION).encode(&mut self.output);
        State::AwaitKey
    }

    /// The transition table of the handshake: the one packet that is right in each state, and what follows.
    pub(super) fn handle_packet(
        &mut self,
        state: State,
        packet: Handshake<'_>,
        rng: &mut ChaCha20Rng,
    ) -> Result<State, Failure> {
        match (state, packet) {
            (State::AwaitKey, Handshake::PubKey(point)) => {
                self.handle_edge_key(PublicKey::from_sec1(point)?, rng)
            }
            (State::AwaitId, Handshake::ClientId(id)) => Ok(self.handle_id(id)),
            (State::AwaitChallenge, Handshake::Challenge(sealed)) => {
                self.handle_challenge(sealed, rng)
            }
            (State::AwaitPing, Handshake::Ping) => Ok(State::Established),
            (state, packet) => Err(Violation::Unexpected {
                state,
                packet: packet.name(),
            }
            .into()),
        }
    }

    /// What of the handshake is to be written.
    pub(super) fn output(&self) -> &[u8] {
        self.output
            .get(self.written..)
            .expect("never more was written than there is")
    }

    /// The transport took `n` bytes of `output`.
    pub(super) fn handle_written(&mut self, n: usize) {
        assert!(
            n <= self.output().len(),
            "no more bytes can be written than were offered"
        );
        self.written += n;
        if self.written == self.output.len() {
            self.output = Vec::new();
            self.written = 0;
        }
    }

    /// The transport is gone: the next handshake begins anew. The identity stays.
    pub(super) fn abandon_handshake(&mut self) {
        self.offer = None;
        self.output = Vec::new();
        self.written = 0;
    }

    /// The edge has no such session.
    pub(super) fn forget(&mut self) {
        *self = Session::default();
    }

    fn handle_edge_key(
        &mut self,
        edge_key: PublicKey,
        rng: &mut ChaCha20Rng,
    ) -> Result<State, Failure> {
        match &self.identity {
            None => {
                let keys = KeyPair::generate(rng);
                Handshake::PubKey(keys.public().as_bytes()).encode(&mut self.output);
                self.offer = Some(Offer { keys, edge_key });
                Ok(State::AwaitId)
            }
            Some(identity) if identity.edge_key == edge_key => {
                Handshake::ClientId(identity.id).encode(&mut self.output);
                Ok(State::AwaitChallenge)
            }
            Some(_) => Err(Failure::Refused(Refusal::EdgeKeyChanged)),
        }
    }

    fn handle_id(&mut self, id: ClientId) -> State {
        let Offer { keys, edge_key } = self.offer.take().expect("AwaitId follows an offer only");
        self.identity = Some(Identity {
            id,
            keys,
            edge_key,
            prover: None,
        });
        State::Established
    }

    /// Answers a challenge: the response and the closing Ping, to leave in one segment.
    fn handle_challenge(&mut self, sealed: &[u8], rng: &mut ChaCha20Rng) -> Result<State, Failure> {
        let Identity {
            keys,
            edge_key,
            prover,
            ..
        } = self
            .identity
            .as_mut()
            .expect("AwaitChallenge follows a claim of an identity only");
        let prover = prover.get_or_insert_with(|| Prover::new(keys, edge_key));
        let Some(response) = prover.answer(sealed, rng) else {
            // It is sealed for another or for nobody, which is how an edge answers for an id that it does not know
            // (SPEC 5.1). Another edge of the same key may know it, so ask again before the session is given up.
            self.unprovable_challenges += 1;
            return Err(match self.unprovable_challenges {
                MAX_UNPROVABLE_CHALLENGES.. => Failure::Refused(Refusal::UnknownOrExpired),
                _ => Violation::UnprovableChallenge.into(),
            });
        };
        self.unprovable_challenges = 0;
        Handshake::ChallengeResponse(&response).encode(&mut self.output);
        Handshake::Ping.encode(&mut self.output);
        Ok(State::AwaitPing)
    }
}

impl Prover {
    fn new(keys: &KeyPair, edge_key: &PublicKey) -> Self {
        // From the private key, so that it is secret, and the same again after the session was saved and restored.
        let digest = Sha256::new()
            .chain_update(b"voltlane client nonces")
            .chain_update(keys.to_bytes())
            .finalize();
        let nonce_key = digest.first_chunk().expect("SHA-256 gives 32 bytes");
        Prover {
            shared_key: keys.agree(edge_key),
            nonces: NonceMint::new(*nonce_key),
        }
    }

    /// The response to a challenge, unless it is one that must not be answered (SPEC 4.3(d)).
    fn answer(&self, sealed: &[u8], rng: &mut ChaCha20Rng) -> Option<Vec<u8>> {
        let is_reflection =
            SharedKey::nonce_of(sealed).is_some_and(|nonce| self.nonces.is_own(nonce));
        let secret = self.shared_key.open(sealed).ok()?;
        if is_reflection || secret.len() != CHALLENGE_BYTES {
            return None;
        }
        let nonce = self.nonces.mint(&mut hedged_rng(&secret, rng));
        let mut response = Vec::with_capacity(SEALED_CHALLENGE_BYTES);
        self.shared_key
            .seal_with_nonce(&secret, &nonce, &mut response);
        Some(response)
    }
}

/// A generator that differs for every secret even if `rng` repeats itself, as it does in an application that restores
/// its session under a constant seed: two texts sealed under one key and one nonce would give both away.
fn hedged_rng(secret: &[u8], rng: &mut ChaCha20Rng) -> ChaCha20Rng {
    let mut random = Zeroizing::new([0; 32]);
    rng.fill_bytes(random.as_mut());
    let seed = Sha256::new()
        .chain_update(random.as_slice())
        .chain_update(secret)
        .finalize();
    ChaCha20Rng::from_seed(seed.into())
}
