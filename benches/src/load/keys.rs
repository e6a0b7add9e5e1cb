//! The key pairs of the load tool's clients.
//!
//! A few pairs are shared by many clients, so the tool itself computes one seal and one open per reconnect. The program under test cannot
//! tell, and does the whole agreement every time.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use voltlane_core::keys::{KeyPair, NONCE_BYTES, PublicKey, SharedKey};

use crate::wire::KEY_BYTES;

const PAIRS: usize = 64;

/// Key pairs, assigned by the client's index.
pub struct Keys {
    pairs: Vec<(KeyPair, [u8; KEY_BYTES])>,
    shared: Vec<Option<SharedKey>>,
    edge: Option<PublicKey>,
    rng: ChaCha20Rng,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl Keys {
    /// Creates the key pairs, the same ones in every run.
    pub fn new() -> Self {
        let mut rng = ChaCha20Rng::from_seed(*b"the load tool of Voltlane, keys.");
        let pair = |_| {
            let pair = KeyPair::generate(&mut rng);
            let public = *pair.public().as_bytes();
            (pair, public)
        };
        let pairs = (0..PAIRS).map(pair).collect();
        Self {
            pairs,
            shared: (0..PAIRS).map(|_| None).collect(),
            edge: None,
            rng,
        }
    }

    /// Returns a client's public key.
    pub fn public(&self, client: usize) -> &[u8; KEY_BYTES] {
        &self.pairs[client % PAIRS].1
    }

    /// Records the edge's public key. All clients use the same edge, so the first key is kept.
    pub fn note_edge(&mut self, key: &[u8]) {
        if self.edge.is_none() {
            self.edge = PublicKey::from_sec1(key).ok();
        }
    }

    /// Returns the response to a challenge, which is the same secret sealed again, or `None` if the challenge does not open.
    pub fn respond(&mut self, client: usize, sealed: &[u8]) -> Option<Vec<u8>> {
        let edge = self.edge.as_ref()?;
        let nth = client % PAIRS;
        let shared = self.shared[nth].get_or_insert_with(|| self.pairs[nth].0.agree(edge));
        let plain = shared.open(sealed).ok()?;
        let mut nonce = [0; NONCE_BYTES];
        self.rng.fill_bytes(&mut nonce);
        let mut response = Vec::new();
        shared.seal_with_nonce(&plain, &nonce, &mut response);
        Some(response)
    }
}

impl Default for Keys {
    fn default() -> Self {
        Self::new()
    }
}
