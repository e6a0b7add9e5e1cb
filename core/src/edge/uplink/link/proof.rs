//! The secret that edge and backend prove to each other before a link is granted (SPEC 34.5).

use core::mem;

use crate::link::v3::{
    Ask, Challenge, FrameError, LinkSecret, PROOF_BYTES, Proof, Refusal, flag, refuse_ask,
};

/// What a frame means that comes before GRANT.
#[derive(Debug)]
pub(crate) enum Heard {
    /// It asks, and nothing is left to be proven.
    Ask(Result<Ask, FrameError>),
    /// It is not about asking.
    Other,
    /// Nothing yet: a proof is awaited, or the link is over.
    Waits,
    /// The backend is refused.
    Refused,
}

impl Heard {
    /// Reads a body where nothing is to be proven.
    pub(crate) fn unproven(body: &[u8]) -> Heard {
        Ask::of(body).map_or(Heard::Other, Heard::Ask)
    }
}

/// How far a link is.
#[derive(Clone, Debug, Default)]
enum Stage {
    #[default]
    New,
    /// The backend's proof is awaited.
    Challenged(Box<Challenged>),
    /// The backend is refused, and nothing of it is heard.
    Refused,
}

/// An ASK, its body, and the nonce for its proof.
#[derive(Clone, Debug)]
struct Challenged {
    ask: Ask,
    body: Vec<u8>,
    nonce: [u8; PROOF_BYTES],
}

/// The edge's part in it.
#[derive(Clone, Debug)]
pub(crate) struct Proving {
    secret: Option<LinkSecret>,
    stage: Stage,
    /// CHALLENGE or REFUSED, and how much of it is written.
    output: Vec<u8>,
    written: usize,
    /// Why the last backend that asked was refused.
    refused: Option<Refusal>,
}

impl Proving {
    pub(super) fn new(secret: Option<LinkSecret>) -> Self {
        Proving {
            secret,
            stage: Stage::New,
            output: Vec::new(),
            written: 0,
            refused: None,
        }
    }

    /// Takes another secret, for links to come.
    pub(super) fn set_secret(&mut self, secret: Option<&LinkSecret>) {
        self.secret = secret.cloned();
    }

    /// Handles that a link is up, or gone.
    pub(super) fn reset(&mut self) {
        self.stage = Stage::New;
        self.output = Vec::new();
        self.written = 0;
    }

    /// Returns whether the last backend that asked does not share the secret.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// Handles a frame that comes before GRANT. A nonce is drawn if one is needed.
    pub(crate) fn hear(&mut self, body: &[u8], draw: impl FnOnce() -> [u8; PROOF_BYTES]) -> Heard {
        match mem::take(&mut self.stage) {
            Stage::New => self.hear_first(body, draw),
            Stage::Challenged(challenged) => {
                let Challenged {
                    ask,
                    body: asked,
                    nonce,
                } = *challenged;
                let shown = match Proof::of(body) {
                    Some(Ok(Proof(shown))) => shown,
                    _ => None,
                };
                let is_proven = |shown: [u8; PROOF_BYTES]| {
                    let secret = self.secret.as_ref();
                    secret
                        .is_some_and(|secret| secret.is_proven(&shown, flag::PROOF, &nonce, &asked))
                };
                match shown.is_some_and(is_proven) {
                    true => self.accept(Ok(ask)),
                    false => self.refuse(Refusal::SecretWrong),
                }
            }
            Stage::Refused => {
                self.stage = Stage::Refused;
                Heard::Waits
            }
        }
    }

    fn hear_first(&mut self, body: &[u8], draw: impl FnOnce() -> [u8; PROOF_BYTES]) -> Heard {
        let ask = match Ask::of(body) {
            None => return Heard::Other,
            Some(Err(error)) => return Heard::Ask(Err(error)),
            Some(Ok(ask)) => ask,
        };
        match (&self.secret, Ask::nonce_of(body)) {
            (None, None) => self.accept(Ok(ask)),
            (None, Some(_)) => self.refuse(Refusal::SecretUnknown),
            (Some(_), None) => self.refuse(Refusal::SecretWanted),
            (Some(secret), Some(_)) => {
                let nonce = draw();
                let proof = secret.proof(flag::CHALLENGE, &nonce, body);
                Challenge { nonce, proof }.encode(&mut self.output);
                let body = body.to_vec();
                self.stage = Stage::Challenged(Box::new(Challenged { ask, body, nonce }));
                Heard::Waits
            }
        }
    }

    fn accept(&mut self, ask: Result<Ask, FrameError>) -> Heard {
        self.refused = None;
        Heard::Ask(ask)
    }

    fn refuse(&mut self, refusal: Refusal) -> Heard {
        self.stage = Stage::Refused;
        refuse_ask(refusal, &mut self.output);
        if self.refused.replace(refusal) != Some(refusal) {
            let why = match refusal {
                Refusal::SecretWanted => {
                    "the backend has no secret for the link: give it that of master.token_file"
                }
                Refusal::SecretUnknown => {
                    "the backend wants a secret for the link: set master.token_file to a file that has it"
                }
                _ => "the backend has another secret for the link than master.token_file",
            };
            tracing::warn!("{why}. Nothing is sent to it; still trying");
        }
        Heard::Refused
    }

    /// Returns the bytes that go before all else. While there are some, nothing else is to be written.
    #[inline]
    pub(crate) fn output(&self) -> &[u8] {
        self.output.get(self.written..).unwrap_or_default()
    }

    /// Handles that `bytes` bytes were written. Returns how many of them were of something else.
    #[inline]
    pub(crate) fn written(&mut self, bytes: usize) -> usize {
        match self.output.is_empty() {
            true => bytes,
            false => self.own_written(bytes),
        }
    }

    #[cold]
    fn own_written(&mut self, bytes: usize) -> usize {
        let own = bytes.min(self.output().len());
        self.written += own;
        if self.output().is_empty() {
            self.output = Vec::new();
            self.written = 0;
        }
        bytes - own
    }
}
