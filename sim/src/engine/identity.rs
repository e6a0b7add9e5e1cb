//! Key pairs of simulated clients, created once per process: creating them and agreeing on keys would be most of a run's cost.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use voltlane_core::keys::{KeyPair, SharedKey};

/// What a client keeps of its session, except for the id.
pub(crate) struct Identity {
    pair: KeyPair,
    shared: OnceLock<SharedKey>,
}

/// The key pair of all strangers.
pub(crate) const STRANGER: usize = usize::MAX - 1;

static POOL: Mutex<BTreeMap<usize, &'static Identity>> = Mutex::new(BTreeMap::new());

/// Returns the edge's key pair, the same in every run.
pub(crate) fn edge_pair() -> &'static KeyPair {
    static PAIR: OnceLock<KeyPair> = OnceLock::new();
    PAIR.get_or_init(|| pair(u64::MAX))
}

/// Returns key pair `number`. A run uses each for one session.
pub(crate) fn identity(number: usize) -> &'static Identity {
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    pool.entry(number).or_insert_with(|| {
        Box::leak(Box::new(Identity {
            pair: pair(number as u64),
            shared: OnceLock::new(),
        }))
    })
}

impl Identity {
    /// Returns its public key, encoded for the wire.
    pub(crate) fn public(&self) -> Vec<u8> {
        self.pair.public().as_bytes().to_vec()
    }

    /// Returns the session's key with the edge.
    pub(crate) fn shared(&self) -> &SharedKey {
        self.shared
            .get_or_init(|| self.pair.agree(&edge_pair().public()))
    }

    /// Seals `plain` for the edge.
    pub(crate) fn seal(&self, plain: &[u8], nonce: &[u8; 24]) -> Vec<u8> {
        let mut out = Vec::new();
        self.shared().seal_with_nonce(plain, nonce, &mut out);
        out
    }

    /// Opens what the edge sealed, if this key can.
    pub(crate) fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        self.shared().open(sealed).ok().map(|plain| plain.to_vec())
    }
}

fn pair(number: u64) -> KeyPair {
    let mut rng = crate::rng::Rng::fork(0, "identity", number);
    loop {
        let mut bytes = [0; 32];
        rng.fill(&mut bytes);
        if let Ok(pair) = KeyPair::from_bytes(&bytes) {
            return pair;
        }
    }
}
