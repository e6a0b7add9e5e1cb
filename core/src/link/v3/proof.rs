//! A secret of both ends of a link, which they prove to each other before GRANT. (SPEC 34.5)

use core::fmt;

use hkdf::Hkdf;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::error::{Cause, FrameError, Refusal};
#[cfg(any(feature = "cluster", feature = "backend"))]
use super::features::Feature;
use super::fields::{Fields, frame, split};
use super::flag;
#[cfg(any(feature = "cluster", feature = "backend"))]
use super::opening::KNOWN_BYTES;
#[cfg(feature = "backend")]
use super::opening::Known;
use super::opening::{ASK_BYTES, Ask, link_wide};

/// The length of a nonce, and of a proof, in bytes.
pub const PROOF_BYTES: usize = 32;
/// The fewest bytes of a secret.
pub const MIN_SECRET_BYTES: usize = 32;
/// The most bytes of a secret.
pub const MAX_SECRET_BYTES: usize = 512;

/// A secret that both ends of the link have. It is wiped when it is dropped, and never shown.
///
/// Two are compared in constant time.
#[derive(Clone)]
pub struct LinkSecret(Zeroizing<Box<[u8]>>);

image!(LinkSecret { 0 });

/// Bytes that are no secret for a link, by their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret of {length} bytes; it has {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES}")]
#[non_exhaustive]
pub struct SecretLength {
    /// How many there are.
    pub length: usize,
}

impl LinkSecret {
    /// Makes a secret of these bytes, which are to be random.
    ///
    /// # Errors
    /// [`SecretLength`] if they are fewer than [`MIN_SECRET_BYTES`] or more than [`MAX_SECRET_BYTES`].
    pub fn new(bytes: &[u8]) -> Result<Self, SecretLength> {
        let length = bytes.len();
        match (MIN_SECRET_BYTES..=MAX_SECRET_BYTES).contains(&length) {
            true => Ok(LinkSecret(Zeroizing::new(bytes.into()))),
            false => Err(SecretLength { length }),
        }
    }

    /// Returns its bytes, for a recording.
    #[cfg(feature = "record")]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns what the end that sends frames of this flag shows to prove the secret. `ask` is the body of ASK.
    #[must_use]
    pub fn proof(&self, flag: u8, nonce: &[u8; PROOF_BYTES], ask: &[u8]) -> [u8; PROOF_BYTES] {
        let data = split(ask).map_or(&[][..], |(_, _, mut data)| data.rest());
        self.hash(&[b"VOLTLANE.NET link", &[flag], nonce, data])
    }

    /// Returns whether this is [that proof](Self::proof), in constant time.
    #[must_use]
    pub fn is_proven(
        &self,
        shown: &[u8; PROOF_BYTES],
        flag: u8,
        nonce: &[u8; PROOF_BYTES],
        ask: &[u8],
    ) -> bool {
        self.proof(flag, nonce, ask).ct_eq(shown).into()
    }

    /// Returns the nonce of the link with this number, of a life with this seed.
    #[cfg(feature = "backend")]
    pub(crate) fn nonce(&self, seed: &[u8; 32], link: u64) -> [u8; PROOF_BYTES] {
        self.hash(&[b"nonce", seed, &link.to_le_bytes()])
    }

    /// Returns HMAC-SHA-256 of these parts, one behind the other.
    fn hash(&self, parts: &[&[u8]]) -> [u8; PROOF_BYTES] {
        // The first half of HKDF is HMAC.
        Hkdf::<Sha256>::extract(Some(&self.0), &parts.concat())
            .0
            .into()
    }
}

impl PartialEq for LinkSecret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for LinkSecret {}

impl fmt::Debug for LinkSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkSecret")
    }
}

impl Ask {
    /// Appends the frame to `out`, with a nonce for the edge to prove the secret.
    pub fn encode_with_nonce(&self, nonce: &[u8; PROOF_BYTES], out: &mut Vec<u8>) {
        frame(out, 0, flag::ASK, |out| {
            self.write(out);
            out.extend_from_slice(nonce);
        });
    }

    /// Appends the frame of a backend of several edges to `out`: with those that it knows, and a nonce if there is a secret. (SPEC 40.3)
    #[cfg(feature = "backend")]
    pub fn encode_to_several(
        &self,
        known: &[Known],
        nonce: Option<&[u8; PROOF_BYTES]>,
        out: &mut Vec<u8>,
    ) {
        frame(out, 0, flag::ASK, |out| {
            self.write(out);
            Ask::write_known(known, out);
            out.extend_from_slice(nonce.map_or(&[][..], |nonce| nonce));
        });
    }

    /// Returns the nonce in the body of an ASK, if there is one.
    #[must_use]
    pub fn nonce_of(body: &[u8]) -> Option<[u8; PROOF_BYTES]> {
        let (_, _, mut fields) = split(body).ok()?;
        fields.slice(ASK_BYTES).ok()?;
        #[cfg(any(feature = "cluster", feature = "backend"))]
        if let Some(Ok(ask)) = Ask::of(body)
            && ask.features.has(Feature::Homes)
            && !fields.is_empty()
        {
            let count = usize::from(fields.u8().ok()?);
            fields.slice(count.saturating_mul(KNOWN_BYTES)).ok()?;
        }
        fields.array().ok()
    }
}

/// The edge's answer to an ASK with a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct Challenge {
    /// A nonce for the backend to prove the secret.
    pub nonce: [u8; PROOF_BYTES],
    /// The edge's proof.
    pub proof: [u8; PROOF_BYTES],
}

impl Challenge {
    /// Reads a body. `None`: it is no CHALLENGE.
    ///
    /// # Errors
    /// [`FrameError`] if it is malformed.
    pub fn of(body: &[u8]) -> Option<Result<Challenge, FrameError>> {
        read(body, flag::CHALLENGE, |fields| {
            Ok(Challenge {
                nonce: fields.array()?,
                proof: fields.array()?,
            })
        })
    }

    /// Appends the frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, 0, flag::CHALLENGE, |out| {
            out.extend_from_slice(&self.nonce);
            out.extend_from_slice(&self.proof);
        });
    }
}

/// The backend's answer to a [`Challenge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct Proof(
    /// The backend's proof. `None`: that of the edge is wrong.
    pub Option<[u8; PROOF_BYTES]>,
);

impl Proof {
    /// Reads a body. `None`: it is no PROOF.
    ///
    /// # Errors
    /// [`FrameError`] if it is malformed.
    pub fn of(body: &[u8]) -> Option<Result<Proof, FrameError>> {
        read(body, flag::PROOF, |fields| match fields.is_empty() {
            true => Ok(Proof(None)),
            false => Ok(Proof(Some(fields.array()?))),
        })
    }

    /// Appends the frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, 0, flag::PROOF, |out| {
            out.extend_from_slice(self.0.as_ref().map_or(&[][..], |proof| proof));
        });
    }
}

/// Returns why the edge does not grant, if this body says so.
#[cfg(feature = "backend")]
pub(crate) fn refusal_of(body: &[u8]) -> Option<Refusal> {
    let (id, flag, mut fields) = split(body).ok()?;
    let is_of_ask = (id, flag) == (0, flag::REFUSED) && fields.u8() == Ok(flag::ASK);
    let refusal = is_of_ask.then(|| fields.u8().ok()).flatten()?;
    Refusal::from_u8(refusal)
}

/// Appends a REFUSED of ASK.
#[cfg(feature = "edge")]
pub(crate) fn refuse_ask(refusal: Refusal, out: &mut Vec<u8>) {
    frame(out, 0, flag::REFUSED, |out| {
        out.extend_from_slice(&[flag::ASK, refusal.to_u8()]);
    });
}

fn read<'a, F>(
    body: &'a [u8],
    of: u8,
    read: impl FnOnce(&mut Fields<'a>) -> Result<F, Cause>,
) -> Option<Result<F, FrameError>> {
    let (id, flag, mut fields) = split(body).ok()?;
    (flag == of).then(|| {
        let decoded = link_wide(id).and_then(|()| {
            let frame = read(&mut fields)?;
            fields.finish()?;
            Ok(frame)
        });
        decoded.map_err(|cause| FrameError { id, flag, cause })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(byte: u8) -> LinkSecret {
        LinkSecret::new(&[byte; 32]).expect("long enough")
    }

    #[test]
    fn a_secret_has_a_length_and_is_not_shown() {
        for length in [0, 31, 513] {
            let error = LinkSecret::new(&vec![1; length]).expect_err("a wrong length");
            assert_eq!(error.length, length);
        }
        for length in [32, 512] {
            assert!(LinkSecret::new(&vec![1; length]).is_ok());
        }
        assert_eq!(format!("{:?}", secret(65)), "LinkSecret");
        assert!(secret(1) == secret(1) && secret(1) != secret(2));
    }

    #[test]
    fn a_proof_depends_on_everything_that_it_is_about() {
        let ask = [[0; 8].as_slice(), &[flag::ASK], &[5; 89]].concat();
        let mut other_ask = ask.clone();
        other_ask[97] ^= 1;
        let proof = secret(1).proof(flag::PROOF, &[7; 32], &ask);
        let is_proven =
            |secret: &LinkSecret, flag, nonce, ask| secret.is_proven(&proof, flag, &nonce, ask);
        assert!(is_proven(&secret(1), flag::PROOF, [7; 32], &ask));
        assert!(!is_proven(&secret(2), flag::PROOF, [7; 32], &ask));
        assert!(!is_proven(&secret(1), flag::CHALLENGE, [7; 32], &ask));
        assert!(!is_proven(&secret(1), flag::PROOF, [8; 32], &ask));
        assert!(!is_proven(&secret(1), flag::PROOF, [7; 32], &other_ask));
    }
}
