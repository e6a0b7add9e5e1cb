//! The key schedule. (SPEC section 20, with the functions of SPEC 20.1)

use core::fmt;

use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use siphasher::sip::SipHasher24;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::ClientId;
use crate::keys::{KeyPair, NONCE_BYTES, OpenError, PublicKey};
#[cfg(feature = "edge")]
use crate::wire::saved::Saved;

use super::aead::{self, KEY_BYTES, TAG_BYTES};
use super::packets::{
    Answer, Claim, ClaimHead, HANDLE_BYTES, Handle, KeyHint, POSITION_BYTES, PacketError, Position,
    SETTINGS_BYTES, Settings, VERDICT_BYTES, Verdict, Welcome,
};

const JOIN_LABEL: &[u8] = b"voltlane 3 join";
const RESUME_LABEL: &[u8] = b"voltlane 3 resume";
const JOIN_SALT: &[u8] = b"voltlane 3 k256 xchacha20poly1305 sha256";
const MASTER_SALT: &[u8] = b"voltlane 3 master";

/// The number of links that an edge follows the chain of resume secrets for one attempt.
pub const MAX_AHEAD: u64 = 64;
/// The number of links that a client follows the chain at most.
pub const MAX_CLIENT_AHEAD: u64 = 1 << 20;

/// 32 secret bytes that keys are derived from. They are wiped when dropped and never shown.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; KEY_BYTES]);

image!(Secret { 0 });

impl Secret {
    /// One that everybody knows.
    #[cfg(test)]
    pub(super) fn of_test() -> Self {
        Secret([7; KEY_BYTES])
    }

    /// HKDF-Extract.
    fn extract(salt: &[u8], parts: &[&[u8]]) -> Self {
        let mut extract = hkdf::HkdfExtract::<Sha256>::new(Some(salt));
        for part in parts {
            extract.input_ikm(part);
        }
        let (mut key, _) = extract.finalize();
        let secret = Secret(key.into());
        key.as_mut_slice().zeroize();
        secret
    }

    /// HKDF-Expand with the concatenation of `info`.
    pub(super) fn expand<const N: usize>(&self, info: &[&[u8]]) -> Zeroizing<[u8; N]> {
        let mut out = Zeroizing::new([0; N]);
        Hkdf::<Sha256>::from_prk(&self.0)
            .expect("a hash is long enough")
            .expand_multi_info(info, out.as_mut())
            .expect("HKDF-SHA256 gives up to 8160 bytes");
        out
    }

    fn derive(&self, info: &[&[u8]]) -> Self {
        Secret(*self.expand(info))
    }

    /// Derives as many secrets as there are labels, each followed by `transcript`. It is keyed once for all of them.
    fn derive_each<const N: usize>(&self, labels: [&[u8]; N], transcript: &[u8]) -> [Self; N] {
        let keyed = Hkdf::<Sha256>::from_prk(&self.0).expect("a hash is long enough");
        labels.map(|label| {
            let mut secret = Secret([0; KEY_BYTES]);
            keyed
                .expand_multi_info(&[label, transcript], &mut secret.0)
                .expect("HKDF-SHA256 gives up to 8160 bytes");
            secret
        })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Secret").finish_non_exhaustive()
    }
}

/// The secret of an edge's key, from which the claim key of every id follows. (SPEC 20.2)
#[derive(Clone, Debug)]
pub struct Master {
    secret: Secret,
    mask_key: Zeroizing<[u8; 16]>,
    hint: KeyHint,
}

image!(Master {
    secret,
    mask_key,
    hint
});

impl Master {
    /// Derives it from the edge's key pair.
    #[must_use]
    pub fn new(edge: &KeyPair) -> Self {
        let secret = Secret::extract(MASTER_SALT, &[edge.to_bytes().as_slice()]);
        let mask_key = secret.expand(&[b"handle"]);
        Master {
            secret,
            mask_key,
            hint: KeyHint::of(&edge.public()),
        }
    }

    /// Returns the hint that names its key.
    #[must_use]
    pub fn hint(&self) -> KeyHint {
        self.hint
    }

    /// Returns the claim key of an id.
    #[must_use]
    pub fn claim_key(&self, id: ClientId) -> ClaimKey {
        ClaimKey(self.secret.derive(&[b"claim", &id.as_u64().to_le_bytes()]))
    }

    /// Seals in its place what an edge saves under this `name`, which must be drawn for it. Returns the tag. (SPEC 39.3)
    #[cfg(feature = "edge")]
    pub(crate) fn seal_saved(
        &self,
        name: &[u8; 32],
        associated: &[u8],
        plain: &mut [u8],
    ) -> [u8; TAG_BYTES] {
        let key = self.secret.expand(&[b"snapshot", name]);
        aead::seal(&key, &[0; NONCE_BYTES], associated, plain)
    }

    /// Opens in its place what was [sealed](Self::seal_saved).
    #[cfg(feature = "edge")]
    pub(crate) fn open_saved(
        &self,
        name: &[u8; 32],
        associated: &[u8],
        sealed: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<(), OpenError> {
        let key = self.secret.expand(&[b"snapshot", name]);
        aead::open(&key, &[0; NONCE_BYTES], associated, sealed, tag)
    }

    /// Returns the key of a recording of this `name`, which must be drawn for it. (SPEC 42.3)
    #[cfg(feature = "record")]
    pub(crate) fn recording_key(&self, name: &[u8; 32]) -> Zeroizing<[u8; KEY_BYTES]> {
        self.secret.expand(&[b"recording", name])
    }

    /// Seals a chunk of a recording in its place. `number` is how many were sealed before it. Returns the tag.
    #[cfg(feature = "record")]
    pub(crate) fn seal_chunk(
        key: &[u8; KEY_BYTES],
        number: u64,
        plain: &mut [u8],
    ) -> [u8; TAG_BYTES] {
        aead::chunks::seal(key, number, plain)
    }

    /// Opens in its place what was [sealed](Self::seal_chunk).
    #[cfg(feature = "record")]
    pub(crate) fn open_chunk(
        key: &[u8; KEY_BYTES],
        number: u64,
        sealed: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<(), OpenError> {
        aead::chunks::open(key, number, sealed, tag)
    }

    /// Masks an id as a handle, with 8 bytes that must be random.
    #[must_use]
    pub fn mask(&self, id: ClientId, random: [u8; 8]) -> Handle {
        let mut handle = [0; HANDLE_BYTES];
        let masked = (id.as_u64() ^ self.pad(random)).to_le_bytes();
        for (to, from) in handle.iter_mut().zip(random.into_iter().chain(masked)) {
            *to = from;
        }
        Handle(handle)
    }

    /// Returns the id in a handle. Every handle has one: whether it is the right one, the Claim's tag tells.
    #[must_use]
    pub fn unmask(&self, handle: Handle) -> ClientId {
        let (random, masked) = handle.halves();
        ClientId::from_u64(u64::from_le_bytes(masked) ^ self.pad(random))
    }

    fn pad(&self, random: [u8; 8]) -> u64 {
        SipHasher24::new_with_key(&self.mask_key).hash(&random)
    }
}

/// The key of an id: who has it was given that id. It opens and seals Claims and Answers, and resumes nothing.
#[derive(Clone, Debug)]
pub struct ClaimKey(Secret);

image!(ClaimKey { 0 });

impl ClaimKey {
    pub(super) fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        ClaimKey(Secret(bytes))
    }

    pub(super) fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0.0
    }

    /// Seals a Claim. Its nonce must be fresh from the operating system.
    #[must_use]
    pub fn seal_claim<'a>(&self, head: ClaimHead<'a>, position: &Position) -> Claim<'a> {
        let mut sealed = Zeroizing::new([0; POSITION_BYTES]);
        position.write(&mut sealed);
        let key = self.0.expand(&[b"seal"]);
        let tag = aead::seal(&key, &head.nonce, &head.clear_bytes(), sealed.as_mut());
        Claim {
            head,
            sealed: *sealed,
            tag,
        }
    }

    /// Opens a Claim.
    ///
    /// # Errors
    /// [`ClaimError::Foreign`] if it was not sealed under this key. Everything else was sent by a client that was given the id.
    pub fn open_claim(&self, claim: &Claim<'_>) -> Result<Position, ClaimError> {
        let mut plain = Zeroizing::new(claim.sealed);
        let key = self.0.expand(&[b"seal"]);
        let (head, tag) = (&claim.head, &claim.tag);
        aead::open(&key, &head.nonce, &head.clear_bytes(), plain.as_mut(), tag)
            .map_err(|OpenError| ClaimError::Foreign)?;
        Position::read(&plain).map_err(ClaimError::Malformed)
    }
}

/// Why a Claim is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// It does not open: whoever sent it was not given the id.
    #[error("claim does not open")]
    Foreign,
    /// It opens, and what it says is no position.
    #[error("claim opens and is malformed: {0}")]
    Malformed(PacketError),
}

/// What both ends know after Hello, E_e and S. (SPEC 20.3)
#[derive(Clone, Debug)]
pub struct Join {
    transcript: [u8; 32],
    welcome: Secret,
    /// The secret of the records up.
    pub up: Secret,
    /// The secret of the records down.
    pub down: Secret,
    /// The resume secret of counter 1.
    pub resume: ResumeSecret,
    exporter: Zeroizing<[u8; 32]>,
}

image!(Join {
    transcript,
    welcome,
    up,
    down,
    resume,
    exporter
});

impl Join {
    /// Derives the keys at the client, from the body of its Hello, its ephemeral key, and the two keys of the edge.
    #[must_use]
    pub fn of_client(
        hello: &[u8],
        ephemeral: &KeyPair,
        edge_ephemeral: &PublicKey,
        edge_key: &PublicKey,
    ) -> Self {
        let shared = [
            ephemeral.shared_x(edge_ephemeral),
            ephemeral.shared_x(edge_key),
        ];
        let shared = shared.each_ref().map(|x| x.raw_secret_bytes().as_slice());
        Self::derive(hello, edge_ephemeral, edge_key, shared)
    }

    /// Derives the keys at the edge.
    #[must_use]
    pub fn of_edge(
        hello: &[u8],
        client_ephemeral: &PublicKey,
        ephemeral: &KeyPair,
        edge: &KeyPair,
    ) -> Self {
        let shared = KeyPair::shared_x_of_both([ephemeral, edge], client_ephemeral);
        let shared = shared.each_ref().map(|x| x.raw_secret_bytes().as_slice());
        Self::derive(hello, &ephemeral.public(), &edge.public(), shared)
    }

    fn derive(
        hello: &[u8],
        edge_ephemeral: &PublicKey,
        edge_key: &PublicKey,
        shared: [&[u8]; 2],
    ) -> Self {
        let transcript: [u8; 32] = Sha256::new()
            .chain_update(JOIN_LABEL)
            .chain_update(hello)
            .chain_update(edge_ephemeral.as_bytes())
            .chain_update(edge_key.as_bytes())
            .finalize()
            .into();
        let secret = Secret::extract(JOIN_SALT, &shared);
        let labels: [&[u8]; 4] = [b"hs", b"up", b"down", b"rs1"];
        let [welcome, up, down, first] = secret.derive_each(labels, &transcript);
        Join {
            welcome,
            up,
            down,
            resume: ResumeSecret {
                counter: 1,
                secret: first,
            },
            exporter: secret.expand(&[b"exporter", &transcript]),
            transcript,
        }
    }

    /// Seals the Welcome. The key is used for nothing else, so the nonce is constant.
    #[must_use]
    pub fn seal_welcome(&self, settings: &Settings) -> [u8; SETTINGS_BYTES + TAG_BYTES] {
        let mut plain = Zeroizing::new([0; SETTINGS_BYTES]);
        settings.write(&mut plain);
        let tag = aead::seal(
            &self.welcome.0,
            &[0; NONCE_BYTES],
            &self.transcript,
            plain.as_mut(),
        );
        let mut sealed = [0; SETTINGS_BYTES + TAG_BYTES];
        for (to, from) in sealed.iter_mut().zip(plain.iter().chain(&tag)) {
            *to = *from;
        }
        sealed
    }

    /// Opens the Welcome.
    ///
    /// # Errors
    /// [`WelcomeError`]
    pub fn open_welcome(&self, welcome: &Welcome<'_>) -> Result<Settings, WelcomeError> {
        let (sealed, tag) = welcome
            .sealed
            .split_last_chunk::<TAG_BYTES>()
            .ok_or(WelcomeError::Foreign)?;
        let mut plain = Zeroizing::new(sealed.to_vec());
        aead::open(
            &self.welcome.0,
            &[0; NONCE_BYTES],
            &self.transcript,
            &mut plain,
            tag,
        )
        .map_err(|OpenError| WelcomeError::Foreign)?;
        let known = plain.first_chunk().ok_or(WelcomeError::Foreign)?;
        Settings::read(known).map_err(WelcomeError::Malformed)
    }

    /// Returns 32 bytes that only the two ends of this session know, for an application's own proofs (SPEC 20.3(f)).
    #[must_use]
    pub fn exporter(&self) -> &[u8; 32] {
        &self.exporter
    }
}

/// Why a Welcome is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WelcomeError {
    /// It does not open: whoever sent it does not have the edge's key, or the packets were changed.
    #[error("welcome does not open")]
    Foreign,
    /// It opens, and what it says cannot be.
    #[error("welcome opens and is malformed: {0}")]
    Malformed(PacketError),
}

/// A link of the chain of resume secrets: that of attempt `counter`. (SPEC 20.4)
#[derive(Clone, Debug)]
pub struct ResumeSecret {
    counter: u64,
    secret: Secret,
}

image!(ResumeSecret { counter, secret });

/// Why the chain has no link for a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// The link is gone.
    #[error("counter {counter} is below {least}, whose secret is the oldest kept")]
    Behind {
        /// The counter asked for.
        counter: u64,
        /// The least counter that there is a secret for.
        least: u64,
    },
    /// The link is too far away.
    #[error("counter {counter} is more than {max} above {least}")]
    Ahead {
        /// The counter asked for.
        counter: u64,
        /// The least counter that there is a secret for.
        least: u64,
        /// The number of links that are followed at most.
        max: u64,
    },
}

impl ResumeSecret {
    /// Returns its counter.
    #[must_use]
    pub fn counter(&self) -> u64 {
        self.counter
    }

    /// Appends it to what an edge saves. (SPEC 39.2)
    #[cfg(feature = "edge")]
    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.counter.to_le_bytes());
        out.extend_from_slice(&self.secret.0);
    }

    /// Reads what [`save`](Self::save) wrote.
    #[cfg(feature = "edge")]
    pub(crate) fn load(saved: &mut Saved<'_>) -> Option<Self> {
        let counter = saved.u64().filter(|counter| *counter > 0)?;
        let secret = Secret(saved.array()?);
        Some(ResumeSecret { counter, secret })
    }

    /// Returns its secret, to be saved. (SPEC 46.2)
    #[cfg(feature = "client")]
    pub(super) const fn secret(&self) -> &[u8; KEY_BYTES] {
        &self.secret.0
    }

    /// Makes one of what was saved.
    #[cfg(feature = "client")]
    pub(super) const fn restored(counter: u64, secret: [u8; KEY_BYTES]) -> Self {
        ResumeSecret {
            counter,
            secret: Secret(secret),
        }
    }

    /// Returns the secret of a later attempt, at most `max` links away.
    ///
    /// # Errors
    /// [`ChainError`]
    pub fn at(&self, counter: u64, max: u64) -> Result<ResumeSecret, ChainError> {
        let least = self.counter;
        let steps = counter
            .checked_sub(least)
            .ok_or(ChainError::Behind { counter, least })?;
        if steps > max {
            return Err(ChainError::Ahead {
                counter,
                least,
                max,
            });
        }
        let mut secret = self.secret.clone();
        for _ in 0..steps {
            secret = secret.derive(&[b"next"]);
        }
        Ok(ResumeSecret { counter, secret })
    }
}

/// One attempt to resume, as both ends see its Claim. (SPEC 20.4)
#[derive(Debug, Clone)]
pub struct Attempt {
    transcript: [u8; 32],
}

image!(Attempt { transcript });

impl Attempt {
    /// Begins with the body of the Claim.
    #[must_use]
    pub fn new(claim: &[u8]) -> Self {
        let transcript = Sha256::new()
            .chain_update(RESUME_LABEL)
            .chain_update(claim)
            .finalize()
            .into();
        Attempt { transcript }
    }

    /// Returns the bytes by which a later RESUMED names this attempt.
    #[must_use]
    pub fn mark(&self) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] = self.transcript;
        [a, b, c, d, e, f, g, h]
    }

    /// Returns the secret of the early records.
    #[must_use]
    pub fn early(&self, resume: &ResumeSecret) -> Secret {
        resume.secret.derive(&[b"early", &self.transcript])
    }

    /// Seals the Answer. Its nonce must be fresh from the operating system.
    #[must_use]
    pub fn seal_answer(
        &self,
        key: &ClaimKey,
        nonce: [u8; NONCE_BYTES],
        verdict: &Verdict,
    ) -> [u8; VERDICT_BYTES + TAG_BYTES] {
        let mut plain = [0; VERDICT_BYTES];
        verdict.write(&mut plain);
        let associated = Answer::clear_bytes(&nonce);
        let tag = aead::seal(&self.answer_key(key), &nonce, &associated, &mut plain);
        let mut sealed = [0; VERDICT_BYTES + TAG_BYTES];
        for (to, from) in sealed.iter_mut().zip(plain.iter().chain(&tag)) {
            *to = *from;
        }
        sealed
    }

    /// Opens the Answer to this attempt.
    ///
    /// # Errors
    /// [`AnswerError`]
    pub fn open_answer(&self, key: &ClaimKey, answer: &Answer<'_>) -> Result<Verdict, AnswerError> {
        let (sealed, tag) = answer
            .sealed
            .split_last_chunk::<TAG_BYTES>()
            .ok_or(AnswerError::Foreign)?;
        let mut plain = sealed.to_vec();
        let associated = Answer::clear_bytes(&answer.nonce);
        aead::open(
            &self.answer_key(key),
            &answer.nonce,
            &associated,
            &mut plain,
            tag,
        )
        .map_err(|OpenError| AnswerError::Foreign)?;
        let known = plain.first_chunk().ok_or(AnswerError::Foreign)?;
        Verdict::read(known).map_err(AnswerError::Malformed)
    }

    /// Returns the secrets of the records up and down, from the body of the Answer.
    #[must_use]
    pub fn established(&self, resume: &ResumeSecret, answer: &[u8]) -> (Secret, Secret) {
        let transcript: [u8; 32] = Sha256::new()
            .chain_update(self.transcript)
            .chain_update(answer)
            .finalize()
            .into();
        let labels: [&[u8]; 2] = [b"up", b"down"];
        let [up, down] = resume.secret.derive_each(labels, &transcript);
        (up, down)
    }

    fn answer_key(&self, key: &ClaimKey) -> Zeroizing<[u8; KEY_BYTES]> {
        key.0.expand(&[b"answer", &self.transcript])
    }
}

/// Why an Answer is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// It does not open: it is no answer to this attempt.
    #[error("answer does not open")]
    Foreign,
    /// It opens, and what it says cannot be.
    #[error("answer opens and is malformed: {0}")]
    Malformed(PacketError),
}

#[cfg(feature = "cluster")]
pub(crate) mod ticket;

#[cfg(test)]
mod tests;
