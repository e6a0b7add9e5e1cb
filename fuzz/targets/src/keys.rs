//! Fuzzes keys, sealed values and saved sessions.

use std::sync::OnceLock;

use voltlane_core::client::{SAVED_SESSION_BYTES, SavedSession};
use voltlane_core::keys::{KeyPair, PublicKey, SEALED_OVERHEAD, SharedKey};

use crate::bytes::Bytes;

/// The number of key pairs that [`pair`] offers.
pub(crate) const PAIRS: usize = 8;

/// The edge's key pair in every target.
pub(crate) fn edge_pair() -> KeyPair {
    KeyPair::from_bytes(&[0xed; 32]).expect("in the range of keys")
}

/// Returns one of a few client key pairs, with the key that it shares with the edge. They are cached, since making one takes longer than a
/// whole run.
pub(crate) fn pair(number: usize) -> &'static (KeyPair, SharedKey) {
    static ALL: OnceLock<Vec<(KeyPair, SharedKey)>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        (1..=PAIRS as u8)
            .map(|byte| {
                let pair = KeyPair::from_bytes(&[byte; 32]).expect("in the range of keys");
                let shared = pair.agree(&edge_pair().public());
                (pair, shared)
            })
            .collect()
    });
    &all[number % PAIRS]
}

/// Only sealed values open. The first byte chooses whether the rest is opened as it is, or sealed, changed by one bit or cut, and then
/// opened.
pub fn sealed_value(input: &[u8]) {
    let mut input = Bytes::new(input);
    let key = &pair(0).1;
    if input.byte() < 64 {
        let sealed = input.rest();
        // Nobody who lacks the key finds one of the 2^128 tags.
        assert!(key.open(sealed).is_err());
        assert_eq!(
            SharedKey::nonce_of(sealed).is_some(),
            sealed.len() >= SEALED_OVERHEAD
        );
        return;
    }
    let (bit, cut) = (
        u16::from_le_bytes([input.byte(), input.byte()]),
        input.byte(),
    );
    let mut nonce = [0; 24];
    nonce.fill(input.byte());
    let plain = input.rest();
    let mut sealed = vec![0xaa];
    key.seal_with_nonce(plain, &nonce, &mut sealed);
    let mut sealed = sealed.split_off(1);
    assert_eq!(sealed.len(), plain.len() + SEALED_OVERHEAD);
    assert_eq!(key.open(&sealed).as_deref().map(Vec::as_slice), Ok(plain));
    assert_eq!(SharedKey::nonce_of(&sealed), Some(&nonce));
    assert!(pair(1).1.open(&sealed).is_err(), "another key");
    if cut > 0 {
        assert!(
            key.open(&sealed[..sealed.len() - usize::from(cut).min(sealed.len())])
                .is_err()
        );
    }
    let bit = usize::from(bit) % (sealed.len() * 8);
    sealed[bit / 8] ^= 1 << (bit % 8);
    assert!(key.open(&sealed).is_err(), "bit {bit}");
}

/// A public key that parses is on the curve: it can be agreed on, and its compressed form is the same key.
pub fn public_key(bytes: &[u8]) {
    if let Ok(key) = PublicKey::from_sec1(bytes) {
        assert!(bytes.len() == 33 || bytes.len() == 65);
        assert_eq!(PublicKey::from_sec1(key.as_bytes()), Ok(key));
        let (ours, _) = pair(0);
        let shared = ours.agree(&key);
        let mut sealed = Vec::new();
        shared.seal_with_nonce(b"plain", &[0; 24], &mut sealed);
        assert!(shared.open(&sealed).is_ok());
    }
}

/// A saved session that parses is encoded as it was.
pub fn saved_session(bytes: &[u8]) {
    if let Ok(session) = SavedSession::from_bytes(bytes) {
        assert_eq!(bytes.len(), SAVED_SESSION_BYTES);
        assert_eq!(session.to_bytes().as_slice(), bytes);
        assert!(!format!("{session:?}").is_empty());
    }
}
