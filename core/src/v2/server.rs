//! The edge's half of the opening. (SPEC 4.2, 4.3, section 5)
//!
//! It knows the packets and the proof. The edge decides who may join, which session an id means, and when a challenge is sent.

use rand_chacha::ChaCha20Rng;
use rand_core::Rng;
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use crate::id::ClientId;
use crate::keys::{CHALLENGE_BYTES, NonceMint, PublicKey, SEALED_CHALLENGE_BYTES, SharedKey};
use crate::opening::{Request, Violation};

use super::packets::{FIXED_MAX_BYTES, Handshake};
use super::plain::Plain;

/// An opening in progress, named by what is expected next.
#[derive(Clone, Debug)]
pub(crate) enum Opening {
    /// The client's PubKey (a new session) or ClientId (a claim) is next.
    KeyOrId,
    /// The edge's decision is next.
    Asked,
    /// The client's ChallengeResponse is next.
    Response(Box<Challenge>),
    /// The client's Ping is next, if its response was right.
    Ping,
    /// Nothing: the opening is complete.
    Over,
}

image!(enum Opening { 0 KeyOrId {}, 1 Asked {}, 2 Response { 0: a }, 3 Ping {}, 4 Over {} });

/// A challenge to a claim.
#[derive(Clone)]
pub(crate) struct Challenge {
    plain: Zeroizing<[u8; CHALLENGE_BYTES]>,
    /// Empty once sent.
    sealed: Vec<u8>,
}

image!(Challenge { plain, sealed });

impl core::fmt::Debug for Challenge {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Challenge").finish_non_exhaustive()
    }
}

impl Challenge {
    /// Makes a challenge that opens only under `key`.
    fn new(key: &SharedKey, nonces: &NonceMint, rng: &mut ChaCha20Rng) -> Self {
        let mut plain = Zeroizing::new([0; CHALLENGE_BYTES]);
        rng.fill_bytes(plain.as_mut());
        let nonce = nonces.mint(rng);
        let mut sealed = Vec::with_capacity(SEALED_CHALLENGE_BYTES);
        key.seal_with_nonce(plain.as_ref(), &nonce, &mut sealed);
        Challenge { plain, sealed }
    }

    /// Returns whether `sealed` is the response to it. Every wrong response takes the same path.
    fn is_answered_by(&self, sealed: &[u8], key: &SharedKey, nonces: &NonceMint) -> bool {
        let opened = key.open(sealed).ok();
        // A challenge sent back unchanged opens and matches; its nonce is what gives it away.
        let reflected = SharedKey::nonce_of(sealed).is_none_or(|nonce| nonces.is_own(nonce));
        let matches = opened.is_some_and(|plain| {
            let plain = <&[u8; CHALLENGE_BYTES]>::try_from(plain.as_slice());
            plain.is_ok_and(|plain| are_same(plain, &self.plain).into())
        });
        matches && !reflected
    }
}

/// Compares in constant time, by words: that takes an eighth of the steps that bytes take.
fn are_same(a: &[u8; CHALLENGE_BYTES], b: &[u8; CHALLENGE_BYTES]) -> Choice {
    const { assert!(CHALLENGE_BYTES.is_multiple_of(8), "no byte is left out") };
    let words = a.as_chunks().0.iter().zip(b.as_chunks().0);
    words.fold(Choice::from(1), |same, (a, b)| {
        same & u64::from_le_bytes(*a).ct_eq(&u64::from_le_bytes(*b))
    })
}

impl Opening {
    /// Answers the client's ProtocolVersion with the edge's key.
    pub(crate) fn begin(edge_key: &PublicKey, out: &mut Vec<u8>) -> Self {
        // The buffer that this packet needs is used for the others. It would have to grow for a challenge. To make one takes fewer steps than
        // to let one grow.
        if out.capacity() == 0 {
            *out = Vec::with_capacity(FIXED_MAX_BYTES + SEALED_CHALLENGE_BYTES);
        }
        Handshake::PubKey(edge_key.as_bytes()).encode(out);
        Opening::KeyOrId
    }

    /// Handles the client's next packet: one is right at each step.
    pub(crate) fn handle<'a>(&mut self, packet: Handshake<'a>) -> Result<Request<'a>, Violation> {
        match (&self, packet) {
            (Opening::KeyOrId, Handshake::PubKey(point)) => {
                let key = PublicKey::from_sec1(point)?;
                *self = Opening::Asked;
                Ok(Request::Join(key))
            }
            (Opening::KeyOrId, Handshake::ClientId(id)) => {
                *self = Opening::Asked;
                Ok(Request::Claim(id))
            }
            (Opening::Response(_), Handshake::ChallengeResponse(sealed)) => {
                Ok(Request::Proof(sealed))
            }
            (Opening::Ping, Handshake::Ping) => Ok(Request::Open),
            (_, packet) => Err(Violation::Unexpected(packet.name())),
        }
    }

    /// Answers a claim with a challenge that opens under `key`: the session's, or nobody's.
    pub(crate) fn challenge(&mut self, key: &SharedKey, nonces: &NonceMint, rng: &mut ChaCha20Rng) {
        *self = Opening::Response(Box::new(Challenge::new(key, nonces, rng)));
    }

    /// Appends the challenge to `out`.
    pub(crate) fn send_challenge(&mut self, out: &mut Vec<u8>) {
        if let Opening::Response(challenge) = self {
            Handshake::Challenge(&challenge.sealed).encode(out);
            challenge.sealed = Vec::new();
        }
    }

    /// Returns whether `proof` is right under `key` (SPEC 5.3). A challenge can be answered once.
    pub(crate) fn judge(&mut self, proof: &[u8], key: &SharedKey, nonces: &NonceMint) -> bool {
        let Opening::Response(challenge) = &self else {
            return false;
        };
        let is_right = challenge.is_answered_by(proof, key, nonces);
        *self = Opening::Ping;
        is_right
    }

    /// Tells the client its id.
    pub(crate) fn joined(&mut self, id: ClientId, out: &mut Vec<u8>) -> Plain {
        *self = Opening::Over;
        Handshake::ClientId(id).encode(out);
        Plain
    }

    /// Tells the client that its claim is accepted.
    pub(crate) fn resumed(&mut self, out: &mut Vec<u8>) -> Plain {
        *self = Opening::Over;
        Handshake::Ping.encode(out);
        Plain
    }
}
