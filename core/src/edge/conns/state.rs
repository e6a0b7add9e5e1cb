//! The states of a connection, with the names of SPEC 8.2, and the transitions between them.

use crate::edge::door::proxy::ProxyHeader;
use crate::id::ClientId;
use crate::keys::PublicKey;
use crate::queue::Outbox;

use crate::edge::conns::claimants::Ticket;
use crate::edge::conns::joins::Turn;
use crate::edge::conns::wait::Wait;
use crate::edge::contract::CloseKind;

/// The states of a connection (SPEC 8.2).
#[derive(Clone, Debug)]
pub(crate) enum State {
    /// Half-open: not attached to a session, or not yet proven.
    Handshake(Step),
    /// Attached to the session at this index.
    Established { session: u32 },
    /// Its session was kicked: what was queued is written, then it closes.
    Draining(Box<Outbox>),
    /// The adapter must close it. Nothing is read or written any more.
    Closed(CloseKind),
}

/// What a half-open connection waits for.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// The PROXY header in front of the client's bytes.
    Proxy(Box<ProxyHeader>),
    /// The client's ProtocolVersion.
    Version,
    /// The client's PubKey (a new session) or ClientId (a claim).
    KeyOrId,
    /// Its turn to begin a session while many clients come back. It is not read.
    Join(Box<Joining>),
    /// The adapter, which hands it over to the shard that this id names. It is not read.
    Elsewhere(ClientId),
    /// The end of the reply delay, when its challenge is sent. It is not read.
    Delay,
    /// The client's ChallengeResponse.
    Response,
    /// Its takeover, or a place: it has proven to be the client of this session, which changed hands too often lately, or for which there
    /// is no place. Nothing is read.
    Wait(ClientId),
    /// The client's Ping. It is attached to the session at this index.
    Ping { session: u32 },
}

/// A newcomer that waits for its turn.
#[derive(Clone, Debug)]
pub(crate) struct Joining {
    pub(crate) key: PublicKey,
    /// The source among whose newcomers it waits.
    pub(crate) source: u32,
    pub(crate) turn: Turn,
}

/// A claim of an id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub(crate) id: ClientId,
    /// Its entry among the claimants.
    pub(crate) ticket: Ticket,
    /// Whether the session could be resumed when the challenge was created. False for a decoy.
    pub(crate) genuine: bool,
}

/// The group in which a connection is counted until it is established, and with which it competes for places (SPEC 10.6(c)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crowd {
    /// Connections that have not said what they want.
    Strangers,
    /// Connections that wait for their turn to begin a session: this one among those of this source.
    Joining(u32, Turn),
    /// Connections that have claimed a session.
    Claimants,
    /// None of these.
    Nobody,
}

impl Step {
    /// Returns whether the connection is not read in this step.
    pub(crate) fn is_paused(&self) -> bool {
        matches!(
            self,
            Step::Join(_) | Step::Elsewhere(_) | Step::Delay | Step::Wait(_)
        )
    }
}

impl State {
    /// Returns its stage.
    #[inline]
    pub(crate) fn stage(&self) -> Stage {
        match self {
            State::Handshake(Step::Proxy(_)) => Stage::Proxy,
            State::Handshake(Step::Version) => Stage::Version,
            State::Handshake(Step::KeyOrId) => Stage::KeyOrId,
            State::Handshake(Step::Join(_)) => Stage::Join,
            State::Handshake(Step::Elsewhere(_)) => Stage::Elsewhere,
            State::Handshake(Step::Delay) => Stage::Delay,
            State::Handshake(Step::Response) => Stage::Response,
            State::Handshake(Step::Wait(_)) => Stage::Wait,
            State::Handshake(Step::Ping { .. }) => Stage::Ping,
            State::Established { .. } => Stage::Established,
            State::Draining(_) => Stage::Draining,
            State::Closed(_) => Stage::Closed,
        }
    }

    /// Returns the group in which a connection is counted.
    pub(crate) fn crowd(&self) -> Crowd {
        let State::Handshake(step) = self else {
            return Crowd::Nobody;
        };
        match step {
            Step::Proxy(_) | Step::Version | Step::KeyOrId => Crowd::Strangers,
            Step::Join(joining) => Crowd::Joining(joining.source, joining.turn),
            Step::Delay | Step::Response | Step::Wait(_) | Step::Ping { .. } => Crowd::Claimants,
            Step::Elsewhere(_) => Crowd::Nobody,
        }
    }
}

/// A [`State`] without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Proxy,
    Version,
    KeyOrId,
    Join,
    Elsewhere,
    Delay,
    Response,
    Wait,
    Ping,
    Established,
    Draining,
    Closed,
}

impl Stage {
    /// Returns its name in SPEC 8.2.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Stage::Proxy => "PROXY",
            Stage::Version => "VERSION",
            Stage::KeyOrId => "KEY-OR-ID",
            Stage::Join => "JOIN",
            Stage::Elsewhere => "ELSEWHERE",
            Stage::Delay => "DELAY",
            Stage::Response => "RESPONSE",
            Stage::Wait => "WAIT",
            Stage::Ping => "PING",
            Stage::Established => "ESTABLISHED",
            Stage::Draining => "DRAINING",
            Stage::Closed => "CLOSED",
        }
    }

    /// Returns whether SPEC 8.2 has a transition from this stage to `next`.
    pub(crate) const fn may_become(self, next: Stage) -> bool {
        use Stage::{
            Closed, Delay, Draining, Elsewhere, Established, Join, KeyOrId, Ping, Proxy, Response,
            Version, Wait,
        };
        matches!(
            (self, next),
            (Proxy, Version)
                | (Version, KeyOrId)
                | (KeyOrId, Join | Elsewhere | Delay | Established)
                | (Join, Established)
                | (Delay, Response)
                | (Response | Wait, Wait | Ping)
                | (Ping, Established)
                | (Established, Draining)
        ) || (!matches!(self, Closed) && matches!(next, Closed))
    }

    /// Returns whether a connection is neither established nor ended.
    pub(crate) const fn is_half_open(self) -> bool {
        !matches!(self, Stage::Established | Stage::Draining | Stage::Closed)
    }

    /// Returns what the edge does next after a wait, if anything.
    pub(crate) const fn wait(self) -> Option<Wait> {
        match self {
            Stage::Join => Some(Wait::Join),
            Stage::Delay => Some(Wait::Reply),
            Stage::Wait => Some(Wait::Takeover),
            Stage::Draining => Some(Wait::Drain),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_follow_each_other_as_the_specification_draws_it() {
        use Stage::{
            Closed, Delay, Draining, Elsewhere, Established, Join, KeyOrId, Ping, Proxy, Response,
            Version, Wait,
        };
        let drawn: [(Stage, &[Stage]); 12] = [
            (Proxy, &[Version, Closed]),
            (Version, &[KeyOrId, Closed]),
            (KeyOrId, &[Join, Elsewhere, Delay, Established, Closed]),
            (Join, &[Established, Closed]),
            (Elsewhere, &[Closed]),
            (Delay, &[Response, Closed]),
            (Response, &[Wait, Ping, Closed]),
            (Wait, &[Wait, Ping, Closed]),
            (Ping, &[Established, Closed]),
            (Established, &[Draining, Closed]),
            (Draining, &[Closed]),
            (Closed, &[]),
        ];
        for (stage, follow) in drawn {
            for (next, _) in drawn {
                let (from, to) = (stage.name(), next.name());
                assert_eq!(
                    stage.may_become(next),
                    follow.contains(&next),
                    "{from} to {to}"
                );
            }
        }
    }
}
