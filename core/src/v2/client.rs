//! The client's half of the opening, and the identity that it leads to. (SPEC 4.2, 4.3)

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::draws::Draws;
use crate::id::ClientId;
use crate::keys::{
    CHALLENGE_BYTES, KeyPair, NonceMint, PublicKey, SEALED_CHALLENGE_BYTES, SharedKey,
};
use crate::opening::{Awaits, ClientFault, Violation};

use super::packets::Handshake;

/// What an opening of version 2 learned: an identity, as the edge assigned it and the keys prove it.
pub(crate) struct Identity {
    id: ClientId,
    keys: KeyPair,
    /// The key of the only edge to which this client proves its identity.
    edge_key: PublicKey,
    /// Created at the first challenge and kept for the session, since agreeing on a key takes 40 µs.
    prover: Option<Prover>,
}

impl Identity {
    pub(crate) fn new(id: ClientId, keys: KeyPair, edge_key: PublicKey) -> Self {
        Identity {
            id,
            keys,
            edge_key,
            prover: None,
        }
    }

    pub(crate) fn id(&self) -> ClientId {
        self.id
    }

    pub(crate) fn keys(&self) -> &KeyPair {
        &self.keys
    }

    pub(crate) fn edge_key(&self) -> &PublicKey {
        &self.edge_key
    }
}

/// Answers challenges.
struct Prover {
    shared_key: SharedKey,
    /// Tells our own nonces from the edge's: a response of ours that is sent back as a challenge opens as well.
    nonces: NonceMint,
}

/// The identity that the client will have if the edge answers with an id.
struct Offer {
    keys: KeyPair,
    edge_key: PublicKey,
}

/// The rest of the opening.
enum Await {
    Key,
    Id(Offer),
    Challenge,
    Ping,
    Nothing,
}

/// An opening in progress, after the client's ProtocolVersion.
pub(crate) struct Opening {
    next: Await,
}

impl Opening {
    pub(crate) fn new() -> Self {
        Opening { next: Await::Key }
    }

    /// Handles a packet and returns what the client waits for after it. Only one packet is right at each step. Output is appended to `out`.
    ///
    /// A client without an identity joins: the identity that it is to have is stored in `learned`.
    pub(crate) fn handle(
        &mut self,
        body: &[u8],
        identity: Option<&mut Identity>,
        learned: &mut Option<Identity>,
        rng: &mut Draws,
        out: &mut Vec<u8>,
    ) -> Result<Awaits, ClientFault> {
        let (next, awaits) = match (&self.next, Handshake::decode(body)?) {
            (Await::Key, Handshake::PubKey(point)) => {
                let edge_key = PublicKey::from_sec1(point)?;
                match identity {
                    None => {
                        let keys = rng.lend(KeyPair::generate);
                        Handshake::PubKey(keys.public().as_bytes()).encode(out);
                        (Await::Id(Offer { keys, edge_key }), Awaits::Id)
                    }
                    Some(identity) if identity.edge_key == edge_key => {
                        Handshake::ClientId(identity.id).encode(out);
                        (Await::Challenge, Awaits::Challenge)
                    }
                    Some(_) => return Err(ClientFault::OtherEdge),
                }
            }
            (Await::Id(offer), Handshake::ClientId(id)) => {
                *learned = Some(Identity::new(id, offer.keys.clone(), offer.edge_key));
                (Await::Nothing, Awaits::Data)
            }
            (Await::Challenge, Handshake::Challenge(sealed)) => {
                let response = identity
                    .expect("a challenge follows a claim of an identity only")
                    .answer(sealed, rng)
                    .ok_or(ClientFault::Unprovable { is_last: false })?;
                // The response and the final Ping, to be sent in one segment.
                Handshake::ChallengeResponse(&response).encode(out);
                Handshake::Ping.encode(out);
                (Await::Ping, Awaits::Ping)
            }
            (Await::Ping, Handshake::Ping) => (Await::Nothing, Awaits::Data),
            (_, packet) => return Err(Violation::Unexpected(packet.name()).into()),
        };
        self.next = next;
        Ok(awaits)
    }
}

impl Identity {
    /// Returns the response to a challenge, unless it must not be answered.
    fn answer(&mut self, sealed: &[u8], rng: &mut Draws) -> Option<Vec<u8>> {
        let (keys, edge_key) = (&self.keys, &self.edge_key);
        let prover = self
            .prover
            .get_or_insert_with(|| Prover::new(keys, edge_key));
        prover.answer(sealed, rng)
    }
}

impl Prover {
    fn new(keys: &KeyPair, edge_key: &PublicKey) -> Self {
        // Derived from the private key, so that it is secret, and the same after the session was saved and restored.
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

    /// Returns the response to a challenge, unless it must not be answered (SPEC 4.3(d)).
    fn answer(&self, sealed: &[u8], rng: &mut Draws) -> Option<Vec<u8>> {
        let is_reflection =
            SharedKey::nonce_of(sealed).is_some_and(|nonce| self.nonces.is_own(nonce));
        let secret = self.shared_key.open(sealed).ok()?;
        if is_reflection || secret.len() != CHALLENGE_BYTES {
            return None;
        }
        let nonce = rng.lend(|rng| self.nonces.mint(&mut hedged_rng(&secret, rng)));
        let mut response = Vec::with_capacity(SEALED_CHALLENGE_BYTES);
        self.shared_key
            .seal_with_nonce(&secret, &nonce, &mut response);
        Some(response)
    }
}

/// Creates a generator that differs for every secret even if `rng` repeats itself, as in an application that restores its session with a
/// constant seed. Two texts sealed with one key and one nonce would give both away.
fn hedged_rng(secret: &[u8], rng: &mut ChaCha20Rng) -> ChaCha20Rng {
    let mut random = Zeroizing::new([0; 32]);
    rng.fill_bytes(random.as_mut());
    let seed = Sha256::new()
        .chain_update(random.as_slice())
        .chain_update(secret)
        .finalize();
    ChaCha20Rng::from_seed(seed.into())
}
