//! A client's session, in the version that it has.

use core::time::Duration;

use crate::draws::Draws;
use crate::keys::{KeyPair, PublicKey};
use crate::opening::{Awaits, ClientFault};
use crate::queue::Outbox;
use crate::v2::packets::Handshake;
use crate::wire::frame::{FrameReader, FrameTooLong};
use crate::{ClientId, Time, v2, v3};

use super::{MAX_OPENING_BODY_BYTES, Version};

pub use crate::v2::session::MAX_UNPROVABLE_CHALLENGES;
pub use crate::v3::client::{Breach, Gap, Ledgers, MAX_BREACHES};
pub(crate) use crate::v3::client::{
    Leave, Mark, Restored, Resumption, Told, Trust, load_packets, load_session, save_packets,
};
use crate::v3::items::Ledger;
pub use crate::v3::items::MAX_TOKEN_BYTES;
#[cfg(debug_assertions)]
pub use crate::v3::key_log::KeyLog;

/// The time after which an established connection of version 3 counts as steady: pauses begin again with the shortest. (SPEC 26.3(b))
pub const STEADY_TIME: Duration = Duration::from_secs(10);

/// The versions that a client speaks. (SPEC 18.4)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Versions {
    /// Version 2 alone.
    V2,
    /// Version 3 alone.
    V3,
    /// Version 3, and version 2 where an edge closes without a byte when version 3 is named.
    ///
    /// Somebody in between can bring this about, and version 2 authenticates nothing. So a client falls back only for a new session, never
    /// with pinned keys, and never once an edge has spoken version 3 to it.
    V3OrV2,
}

impl Versions {
    /// Returns the version that a new session is to have. `with_pins`: the edge must prove a key, which version 2 cannot.
    pub(crate) fn first(self, with_pins: bool) -> Version {
        match self {
            Versions::V2 if !with_pins => Version::V2,
            Versions::V2 | Versions::V3 | Versions::V3OrV2 => Version::V3,
        }
    }

    /// Returns whether no session may have version 2.
    pub(crate) fn is_v3_alone(self) -> bool {
        match self {
            Versions::V3 => true,
            Versions::V2 | Versions::V3OrV2 => false,
        }
    }

    /// Returns the version that a new session is to have where an edge did not answer the first one.
    pub(crate) fn fallback(self) -> Option<Version> {
        match self {
            Versions::V3OrV2 => Some(Version::V2),
            Versions::V2 | Versions::V3 => None,
        }
    }
}

/// A client's session over all its connections. It has one version for life.
pub(crate) enum ClientSession {
    V2(Box<v2::session::Session>),
    V3(Box<v3::client::Session>),
}

/// Why a connection of a client ends.
#[derive(Debug)]
pub(crate) enum ClientEnd {
    /// An opening failed.
    Fault(ClientFault),
    /// The edge announced a frame above the limit.
    TooLong(FrameTooLong),
    /// The version says what follows.
    Leave(Leave),
}

impl<E: Into<ClientFault>> From<E> for ClientEnd {
    fn from(error: E) -> Self {
        ClientEnd::Fault(error.into())
    }
}

/// What a step of a client's connection is given beside its bytes.
pub(crate) struct ClientContext<'a> {
    pub(crate) now: Time,
    pub(crate) trust: &'a mut Trust,
    pub(crate) outbox: &'a mut Outbox,
    pub(crate) rng: &'a mut Draws,
}

impl ClientSession {
    /// Creates a session that begins with the next opening.
    pub(crate) fn new(version: Version) -> Self {
        match version {
            Version::V2 => ClientSession::V2(Box::default()),
            Version::V3 => ClientSession::V3(Box::default()),
        }
    }

    /// Restores the identity of a saved session, which is one of version 2.
    pub(crate) fn restore(id: ClientId, keys: KeyPair, edge_key: PublicKey) -> Self {
        let identity = v2::client::Identity::new(id, keys, edge_key);
        ClientSession::V2(Box::new(v2::session::Session::restore(identity)))
    }

    /// Returns its version.
    pub(crate) fn version(&self) -> Version {
        match self {
            ClientSession::V2(_) => Version::V2,
            ClientSession::V3(_) => Version::V3,
        }
    }

    /// Returns the id that the edge assigned.
    pub(crate) fn id(&self) -> Option<ClientId> {
        match self {
            ClientSession::V2(session) => session.identity().map(v2::client::Identity::id),
            ClientSession::V3(session) => session.id(),
        }
    }

    /// Returns what can be saved: the id, the keys that prove it, and the key of the only edge to which they do.
    pub(crate) fn saved(&self) -> Option<(ClientId, &KeyPair, &PublicKey)> {
        match self {
            ClientSession::V2(session) => {
                let identity = session.identity()?;
                Some((identity.id(), identity.keys(), identity.edge_key()))
            }
            ClientSession::V3(_) => None,
        }
    }

    /// Returns what must be saved before more leaves. (SPEC 46.1)
    pub(crate) fn mark(&self, outbox: &Outbox) -> Mark {
        match self {
            // Its packets are not saved.
            ClientSession::V2(session) => Mark {
                id: session
                    .identity()
                    .map_or(0, |identity| identity.id().as_u64()),
                ..Mark::default()
            },
            ClientSession::V3(session) => session.mark(outbox),
        }
    }

    /// Returns whether the session has begun for sure.
    pub(crate) fn has_opened(&self) -> bool {
        match self {
            ClientSession::V2(_) => true,
            ClientSession::V3(session) => session.has_opened(),
        }
    }

    /// Asks the edge for a record, if the version has such a question.
    pub(crate) fn ask(&mut self, now: Time) {
        if let ClientSession::V3(session) = self {
            session.ask(now);
        }
    }

    /// Begins an opening on an open transport. The client sends first. `random` comes from the operating system for this connection.
    pub(crate) fn begin(&mut self, random: [u8; 32], trust: &Trust, outbox: &mut Outbox) -> Awaits {
        let version = self.version().number();
        match self {
            ClientSession::V2(session) => session.begin(version),
            ClientSession::V3(session) => {
                let mut first = Vec::new();
                Handshake::ProtocolVersion(version).encode(&mut first);
                session.begin(random, trust, outbox, &first)
            }
        }
    }

    /// Reads the next step of the opening, and returns what the client waits for after it. `None` if it is not whole yet: `input` is then
    /// empty and its bytes are held.
    pub(crate) fn open(
        &mut self,
        reader: &mut FrameReader,
        input: &mut &[u8],
        with: ClientContext<'_>,
    ) -> Result<Option<Awaits>, ClientEnd> {
        match self {
            ClientSession::V2(session) => {
                let body = reader.next_frame(input, MAX_OPENING_BODY_BYTES);
                match body.map_err(ClientEnd::TooLong)? {
                    Some(body) => Ok(Some(session.open(body, with.rng)?)),
                    None => Ok(None),
                }
            }
            ClientSession::V3(session) if session.awaits_packet() => {
                let body = reader.next_frame(input, v3::packets::MAX_EDGE_PACKET_BYTES);
                match body.map_err(ClientEnd::TooLong)? {
                    Some(body) => session
                        .open(with.now, body, with.trust, with.rng)
                        .map(Some)
                        .map_err(ClientEnd::Leave),
                    None => Ok(None),
                }
            }
            ClientSession::V3(session) => session
                .read_resumed(with.now, reader, input, with.trust, with.outbox, with.rng)
                .map_err(ClientEnd::Leave),
        }
    }

    /// Returns the time after which an established connection counts as steady. An edge of version 2 cannot send a client away with a code.
    pub(crate) fn steady_after(&self) -> Duration {
        match self {
            ClientSession::V2(_) => Duration::ZERO,
            ClientSession::V3(_) => STEADY_TIME,
        }
    }

    /// Returns what came of the resume by which the connection was established, if it was one and the version tells it.
    pub(crate) fn resumption(&self) -> Resumption {
        match self {
            ClientSession::V2(_) => Resumption::default(),
            ClientSession::V3(session) => session.resumption().unwrap_or_default(),
        }
    }

    /// Reads on, up to what is to be told of an established connection.
    #[inline]
    pub(crate) fn next<'a, 'input: 'a>(
        &'a mut self,
        reader: &'a mut FrameReader,
        input: &mut &'input [u8],
        max_bytes: u32,
        with: ClientContext<'_>,
    ) -> Result<Told<'a>, FrameTooLong> {
        match self {
            ClientSession::V2(session) => {
                let packet = session.next(reader, input, max_bytes)?;
                Ok(packet.map_or(Told::Nothing, |(data, number)| Told::Packet {
                    data,
                    number,
                }))
            }
            ClientSession::V3(session) => {
                Ok(session.next(with.now, reader, input, with.trust, with.outbox, with.rng))
            }
        }
    }

    /// Returns the output of the opening, which goes before everything else.
    #[inline]
    pub(crate) fn output(&self) -> &[u8] {
        match self {
            ClientSession::V2(session) => session.output(),
            ClientSession::V3(session) => session.output(),
        }
    }

    /// Handles that the transport took the first `n` bytes of that. Returns how many of them there were.
    pub(crate) fn took(&mut self, n: usize) -> usize {
        match self {
            ClientSession::V2(session) => session.took(n),
            ClientSession::V3(session) => session.took(n),
        }
    }

    /// Makes output of the packets that are to be sent, and returns what the transport is to take next.
    #[inline]
    pub(crate) fn fill<'a>(&'a mut self, trust: &mut Trust, outbox: &'a mut Outbox) -> &'a [u8] {
        match self {
            ClientSession::V2(_) => v2::plain::Plain.fill(outbox),
            ClientSession::V3(session) => session.fill(trust, outbox),
        }
    }

    /// Handles that the transport took the first `n` bytes of that. Returns how many of them there were.
    #[inline]
    pub(crate) fn written(&mut self, outbox: &mut Outbox, n: usize) -> usize {
        match self {
            ClientSession::V2(_) => v2::plain::Plain.written(outbox, n),
            ClientSession::V3(session) => session.written(n),
        }
    }

    /// Handles that the transport is gone.
    pub(crate) fn lose(&mut self) {
        match self {
            ClientSession::V2(session) => session.lose(),
            ClientSession::V3(session) => session.lose(),
        }
    }

    /// Forgets the session. There is no connection.
    pub(crate) fn forget(&mut self) {
        match self {
            ClientSession::V2(session) => session.forget(),
            ClientSession::V3(session) => session.forget(),
        }
    }

    /// The application has come back for more after packet `number`.
    pub(crate) fn take(&mut self, now: Time, number: u64) {
        if let ClientSession::V3(session) = self {
            session.take(now, number);
        }
    }

    /// Says goodbye once all packets are sent, if the version can.
    pub(crate) fn say_goodbye(&mut self) {
        if let ClientSession::V3(session) = self {
            session.say_goodbye();
        }
    }

    /// Returns whether nothing more is to be sent after a goodbye, and whether the edge answers it.
    pub(crate) fn has_said_goodbye(&self, outbox: &Outbox) -> (bool, bool) {
        match self {
            ClientSession::V2(_) => (outbox.is_empty(), false),
            ClientSession::V3(session) => (session.has_said_goodbye(), true),
        }
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) has something to do on an established connection.
    #[inline]
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        match self {
            ClientSession::V2(_) => None,
            ClientSession::V3(session) => session.poll_timeout(),
        }
    }

    /// Handles that time has passed on an established connection. Returns why it ends, if it does.
    pub(crate) fn handle_timeout(&mut self, now: Time) -> Option<Leave> {
        match self {
            ClientSession::V2(_) => None,
            ClientSession::V3(session) => session.handle_timeout(now),
        }
    }

    /// Returns when the session is over if it is not resumed before, as far as the client knows.
    pub(crate) fn ends_at(&self) -> Option<Time> {
        match self {
            ClientSession::V2(_) => None,
            ClientSession::V3(session) => session.ends_at(),
        }
    }

    /// Returns the round-trip time, once it was measured.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        match self {
            ClientSession::V2(_) => None,
            ClientSession::V3(session) => session.rtt(),
        }
    }

    /// Returns the length of the longest packet that the edge takes in bytes, if it is known.
    #[inline]
    pub(crate) fn longest_packet_up(&self) -> Option<u32> {
        match self {
            ClientSession::V2(_) => None,
            ClientSession::V3(session) => session.longest_packet_up(),
        }
    }

    /// Returns the number up to which packets are acknowledged, by the account of an end. In version 2: taken by the transport.
    pub(crate) fn acknowledged_by(&self, up: &Ledger) -> u64 {
        match self {
            ClientSession::V2(_) => up.acknowledged.saturating_add(up.open_sent),
            ClientSession::V3(_) => up.acknowledged,
        }
    }

    /// Returns the accounts of both directions, as far as this end knows them.
    pub(crate) fn ledgers(&self, outbox: &Outbox) -> Ledgers {
        match self {
            // A packet that the transport took may have arrived.
            ClientSession::V2(session) => Ledgers {
                up: Ledger {
                    numbered: outbox.end(),
                    open_sent: outbox.sent(),
                    open_unsent: outbox.end().saturating_sub(outbox.sent()),
                    ..Ledger::default()
                },
                down: Ledger {
                    numbered: session.received(),
                    acknowledged: session.received(),
                    ..Ledger::default()
                },
            },
            ClientSession::V3(session) => session.ledgers(outbox),
        }
    }
}
