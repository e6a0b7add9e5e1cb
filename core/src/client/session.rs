//! A client's session, and its opening on the current connection. (SPEC 4.2, 4.3)

use rand_chacha::ChaCha20Rng;

use crate::ClientId;
use crate::opening::{self, Awaits, ClientFault};
use crate::protocol::{Channel, ClientOpening, Identity, Version};

use super::{MAX_UNPROVABLE_CHALLENGES, Refusal, SavedSession, State, Violation};

/// The session, the opening in progress, and its unwritten output.
#[derive(Default)]
pub(super) struct Session {
    identity: Option<Identity>,
    opening: Option<ClientOpening>,
    /// The channel that the opening led to.
    channel: Option<Channel>,
    output: Vec<u8>,
    /// The number of bytes of `output` that the transport took.
    written: usize,
    /// The number of challenges in a row that did not open.
    unprovable_challenges: u32,
}

/// Why an opening failed.
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
    /// Restores a saved session, to be resumed.
    pub(super) fn restore(saved: &SavedSession) -> Self {
        let identity = Identity::of_saved(saved.id(), saved.keys().clone(), *saved.edge_key());
        Session {
            identity: Some(identity),
            ..Session::default()
        }
    }

    pub(super) fn save(&self) -> Option<SavedSession> {
        let identity = self.identity.as_ref()?;
        let (keys, edge_key) = identity.keys()?;
        Some(SavedSession::new(identity.id(), keys.clone(), *edge_key))
    }

    pub(super) fn id(&self) -> Option<ClientId> {
        self.identity.as_ref().map(Identity::id)
    }

    /// Returns the version of the session, or the one that the next session will have.
    pub(super) fn version(&self) -> Version {
        let identity = self.identity.as_ref();
        identity.map_or(Version::NEWEST, Identity::version)
    }

    /// Begins an opening on an open transport. The client sends first.
    pub(super) fn begin(&mut self) -> State {
        self.opening = Some(ClientOpening::begin(self.version(), &mut self.output));
        State::AwaitKey
    }

    /// Handles the next packet of the opening, and returns the state that follows.
    pub(super) fn handle_packet(
        &mut self,
        state: State,
        body: &[u8],
        rng: &mut ChaCha20Rng,
    ) -> Result<State, Failure> {
        let opening = self
            .opening
            .as_mut()
            .expect("an opening begins with its transport");
        match opening.handle(body, &mut self.identity, rng, &mut self.output) {
            Ok(awaits) => {
                match awaits {
                    Awaits::Ping => self.unprovable_challenges = 0,
                    Awaits::Data => self.channel = Some(opening.channel()),
                    Awaits::Id | Awaits::Challenge => {}
                }
                Ok(State::of(awaits))
            }
            Err(fault) => Err(self.failure(state, fault)),
        }
    }

    fn failure(&mut self, state: State, fault: ClientFault) -> Failure {
        match fault {
            ClientFault::Violation(opening::Violation::Malformed(error)) => error.into(),
            ClientFault::Violation(opening::Violation::Key(error)) => error.into(),
            ClientFault::Violation(opening::Violation::Unexpected(packet)) => {
                Violation::Unexpected { state, packet }.into()
            }
            ClientFault::OtherEdge => Failure::Refused(Refusal::EdgeKeyChanged),
            ClientFault::Unprovable => {
                // It is sealed for another client or for nobody, which is how an edge answers a claim of an unknown id (SPEC 5.1). Another
                // edge with the same key may know it, so retry before giving up the session.
                self.unprovable_challenges += 1;
                match self.unprovable_challenges {
                    MAX_UNPROVABLE_CHALLENGES.. => Failure::Refused(Refusal::UnknownOrExpired),
                    _ => Violation::UnprovableChallenge.into(),
                }
            }
        }
    }

    /// Returns how packets go over an established connection.
    pub(super) fn channel(&mut self) -> &mut Channel {
        self.channel
            .as_mut()
            .expect("an established connection has a channel")
    }

    /// Returns the output of the opening.
    pub(super) fn output(&self) -> &[u8] {
        self.output
            .get(self.written..)
            .expect("never more was written than there is")
    }

    /// Handles that the transport took `n` bytes of `output`.
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

    /// Discards the opening, as the transport is gone. The identity is kept.
    pub(super) fn abandon_opening(&mut self) {
        self.opening = None;
        self.channel = None;
        self.output = Vec::new();
        self.written = 0;
    }

    /// Forgets the session, which the edge does not have.
    pub(super) fn forget(&mut self) {
        *self = Session::default();
    }
}
