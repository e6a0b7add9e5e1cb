//! A client's session over all its connections. (SPEC 4.2, 4.3)

use crate::draws::Draws;
use crate::opening::{Awaits, ClientFault};
use crate::wire::frame::{FrameReader, FrameTooLong};

use super::client::{Identity, Opening};
use super::packets::Handshake;
use super::plain::Plain;

/// The number of challenges in a row that were not sealed for this client after which the edge counts as not knowing its session.
///
/// Connections that end before a challenge do not count, and do not end the row. (SPEC 4.6(c)) It is more than one because the next attempt
/// may reach another edge with the same key, which has the session.
pub const MAX_UNPROVABLE_CHALLENGES: u32 = 3;

/// The session, the opening in progress, and its unwritten output.
#[derive(Default)]
pub(crate) struct Session {
    identity: Option<Identity>,
    opening: Option<Opening>,
    output: Vec<u8>,
    /// The number of bytes of `output` that the transport took.
    written: usize,
    /// The number of challenges in a row that did not open.
    unprovable_challenges: u32,
    /// The number of packets received.
    received: u64,
}

impl Session {
    /// Restores a session, to be resumed.
    pub(crate) fn restore(identity: Identity) -> Self {
        Session {
            identity: Some(identity),
            ..Session::default()
        }
    }

    pub(crate) fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Begins an opening on an open transport. The client sends first.
    pub(crate) fn begin(&mut self, version: u32) -> Awaits {
        Handshake::ProtocolVersion(version).encode(&mut self.output);
        self.opening = Some(Opening::new());
        Awaits::Key
    }

    /// Handles the next packet of the opening, and returns what the client waits for after it.
    pub(crate) fn open(&mut self, body: &[u8], rng: &mut Draws) -> Result<Awaits, ClientFault> {
        let opening = self
            .opening
            .as_mut()
            .expect("an opening begins with its transport");
        let mut learned = None;
        let known = self.identity.as_mut();
        let outcome = opening.handle(body, known, &mut learned, rng, &mut self.output);
        if learned.is_some() {
            self.identity = learned;
        }
        match outcome {
            Ok(Awaits::Ping) => self.unprovable_challenges = 0,
            // It is sealed for another client or for nobody, which is how an edge answers a claim of an unknown id (SPEC 5.1). Another
            // edge with the same key may know it, so retry before giving up the session.
            Err(ClientFault::Unprovable { .. }) => {
                self.unprovable_challenges = self.unprovable_challenges.saturating_add(1);
                return Err(ClientFault::Unprovable {
                    is_last: self.unprovable_challenges >= MAX_UNPROVABLE_CHALLENGES,
                });
            }
            _ => {}
        }
        outcome
    }

    /// Returns the next packet of `reader` and `input` with its number, and advances `input` past it. Numbers count what was received.
    pub(crate) fn next<'a, 'input: 'a>(
        &'a mut self,
        reader: &'a mut FrameReader,
        input: &mut &'input [u8],
        max_bytes: u32,
    ) -> Result<Option<(&'a [u8], u64)>, FrameTooLong> {
        let Some(packet) = Plain.next_packet(reader, input, max_bytes)? else {
            return Ok(None);
        };
        self.received = self.received.saturating_add(1);
        Ok(Some((packet, self.received)))
    }

    /// Returns the number of packets received.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Returns the output of the opening, which goes first.
    pub(crate) fn output(&self) -> &[u8] {
        self.output
            .get(self.written..)
            .expect("never more was written than there is")
    }

    /// Handles that the transport took the first `n` bytes of that. Returns how many of them there were.
    pub(crate) fn took(&mut self, n: usize) -> usize {
        let taken = n.min(self.output().len());
        self.written = self.written.saturating_add(taken);
        if self.written == self.output.len() {
            self.output = Vec::new();
            self.written = 0;
        }
        taken
    }

    /// Discards the opening, as the transport is gone. The identity is kept.
    pub(crate) fn lose(&mut self) {
        self.opening = None;
        self.output = Vec::new();
        self.written = 0;
    }

    /// Forgets the session, which the edge does not have.
    pub(crate) fn forget(&mut self) {
        *self = Session::default();
    }
}
