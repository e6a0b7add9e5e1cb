//! The secret that edge and backend prove to each other before a link is granted (SPEC 34.5).

use core::mem;

#[cfg(feature = "cluster")]
use crate::link::v3::Known;
use crate::link::v3::{
    Ask, Challenge, Features, FrameError, LinkSecret, PROOF_BYTES, Proof, Refusal, flag, refuse_ask,
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

image!(enum Stage { 0 New {}, 1 Challenged { 0: a }, 2 Refused {} });

/// An ASK, its body, and the nonce for its proof.
#[derive(Clone, Debug)]
struct Challenged {
    ask: Ask,
    body: Vec<u8>,
    nonce: [u8; PROOF_BYTES],
}

image!(Challenged { ask, body, nonce });

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
    #[cfg(feature = "cluster")]
    name: Option<Name>,
}

image!(Proving {
    secret,
    stage,
    output,
    written,
    refused,
    #[cfg(feature = "cluster")]
    name
});

/// Which of several edges this one is. (SPEC 40.2)
#[cfg(feature = "cluster")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name {
    pub(crate) home: u16,
    pub(crate) term: u32,
    pub(crate) run: [u8; 8],
}

#[cfg(feature = "cluster")]
image!(Name { home, term, run });

#[cfg(feature = "cluster")]
impl Name {
    /// Puts into an ASK what its list says of this edge. The error is the edge that has taken the home (SPEC 40.4).
    fn find(self, known_edges: &[Known], ask: &mut Ask) -> Result<(), Known> {
        let Some(known) = known_edges.iter().find(|known| known.home == self.home) else {
            return Ok(());
        };
        let is_same = known.run == self.run;
        if known.term > self.term || (known.term == self.term && !is_same) {
            return Err(*known);
        }
        if is_same {
            ask.run = Some(known.run);
            (ask.received, ask.acknowledged, ask.sent) =
                (known.received, known.acknowledged, known.sent);
        }
        Ok(())
    }
}

impl Proving {
    pub(super) fn new(secret: Option<LinkSecret>) -> Self {
        Proving {
            secret,
            stage: Stage::New,
            output: Vec::new(),
            written: 0,
            refused: None,
            #[cfg(feature = "cluster")]
            name: None,
        }
    }

    /// Returns the features that a trunk offers.
    pub(crate) fn offered(&self) -> Features {
        #[cfg(feature = "cluster")]
        if self.name.is_some() {
            return Features::of_several();
        }
        Features::built()
    }

    #[cfg(feature = "cluster")]
    pub(crate) fn set_name(&mut self, name: Option<Name>) {
        self.name = name;
    }

    /// Returns whether another edge has taken the home of this one, as the last backend that asked has it.
    #[cfg(feature = "cluster")]
    pub(crate) fn is_displaced(&self) -> bool {
        self.refused == Some(Refusal::HomeTaken)
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
        #[cfg(feature = "cluster")]
        if self.is_displaced() {
            return false;
        }
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
                    true => self.accept(ask, &asked),
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
            (None, None) => self.accept(ask, body),
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

    #[cfg_attr(not(feature = "cluster"), expect(unused_mut, unused_variables))]
    fn accept(&mut self, mut ask: Ask, body: &[u8]) -> Heard {
        #[cfg(feature = "cluster")]
        if let Some(name) = self.name
            && let Err(other) = name.find(&Ask::known_of(body), &mut ask)
        {
            return self.yield_to(other, name);
        }
        self.refused = None;
        Heard::Ask(Ok(ask))
    }

    /// Leaves the backend to the edge that has taken the home of this one.
    #[cfg(feature = "cluster")]
    #[cold]
    fn yield_to(&mut self, other: Known, name: Name) -> Heard {
        self.stage = Stage::Refused;
        let refusal = Refusal::HomeTaken;
        refuse_ask(refusal, &mut self.output);
        if self.refused.replace(refusal) != Some(refusal) {
            let (home, term) = (name.home, name.term);
            let other_run = u64::from_be_bytes(other.run);
            let other_term = other.term;
            match other_run {
                0 => tracing::error!(
                    home,
                    term,
                    "the backend has given this edge up, and its sessions have ended. Restart it"
                ),
                _ => tracing::error!(
                    home,
                    term,
                    other_run = %format_args!("{other_run:016x}"),
                    other_term,
                    "another edge has the home of this one, which the backend does not hear any more. Give each edge a cluster.home of its \
                     own, and end this one if the other replaces it"
                ),
            }
        }
        Heard::Refused
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
