//! The states of a connection, with the names of SPEC 8.2, and the transitions between them.

use crate::edge::door::proxy::ProxyHeader;
use crate::id::ClientId;
#[cfg(feature = "backends")]
use crate::id::ShardId;
use crate::keys::PublicKey;
use crate::queue::Outbox;

use crate::edge::conns::claimants::Ticket;
use crate::edge::conns::joins::{By, Turn};
use crate::edge::conns::wait::Wait;
use crate::edge::contract::CloseKind;
use crate::edge::counters::{CloseReason, Rejected};

/// The states of a connection (SPEC 8.2).
#[derive(Clone, Debug)]
pub(crate) enum State {
    /// Half-open: not attached to a session, or not yet proven.
    Handshake(Phase),
    /// Attached to the session at this index.
    Established { session: u32 },
    /// Its session was kicked, or it was told why it ends: what was queued is written, then it closes.
    Draining(Box<Draining>),
    /// The adapter must close it. Nothing is read or written any more.
    Closed(CloseKind),
}

image!(enum State {
    0 Handshake { 0: a }, 1 Established { session: a }, 2 Draining { 0: a }, 3 Closed { 0: a },
});

/// A connection that must take what was queued before it closes.
#[derive(Clone, Debug)]
pub(crate) struct Draining {
    pub(crate) outbox: Outbox,
    /// Why it closes then.
    pub(crate) reason: CloseReason,
    /// What it is waited for after everything was written, if it is.
    pub(crate) last_words: Option<LastWords>,
}

image!(Draining {
    outbox,
    reason,
    last_words
});

/// The end of a client that was told why. It has a moment to read that, and to end the stream from its side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastWords {
    /// The session whose end it was told of.
    pub(crate) ended: Option<ClientId>,
    /// How many of its bytes are still read and thrown away.
    pub(crate) discards: usize,
}

image!(LastWords { ended, discards });

/// The phases of a handshake, by what the connection waits for.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// The PROXY header in front of the client's bytes.
    Proxy(Box<ProxyHeader>),
    /// The client's ProtocolVersion.
    Version,
    /// The client's PubKey or Hello (a new session), or its ClientId or Claim.
    KeyOrId,
    /// Its turn to begin a session while many clients come back. It is not read.
    Join(Box<Joining>),
    /// The adapter, which hands it over to another shard. It is not read.
    Elsewhere(Elsewhere),
    /// The end of the reply delay, when its challenge is sent. It is not read.
    Delay,
    /// The client's ChallengeResponse.
    Response,
    /// Its takeover, or a place: it has proven to be the client of this session, which changed hands too often lately, or for which there
    /// is no place. Nothing is read.
    Wait(ClientId),
    /// The client's Ping. It is attached to the session at this index.
    Ping { session: u32 },
    /// Entropy for its next step, from the adapter. Nothing is read. It may have claimed a session.
    Entropy { claims: bool },
    /// The client's Join record.
    Token,
    /// The client's first early record.
    Early,
    /// The client's proof that it is there, and then the backend's word: whether it was asked (SPEC 44.4). Then it is not read.
    #[cfg(feature = "cluster")]
    Cold { asked: bool },
    /// The end of the stream: its refusal is being written, for this reason. What it sends is thrown away.
    Last(Box<(CloseReason, LastWords)>),
}

image!(enum Phase {
    0 Proxy { 0: a }, 1 Version {}, 2 KeyOrId {}, 3 Join { 0: a }, 4 Elsewhere { 0: a }, 5 Delay {},
    6 Response {}, 7 Wait { 0: a }, 8 Ping { session: a }, 9 Entropy { claims: a }, 10 Token {},
    11 Early {}, 12 Last { 0: a },
    #[cfg(feature = "cluster")] 13 Cold { asked: a },
});

/// What a connection is for that is to be handed over.
#[derive(Clone, Debug)]
pub(crate) enum Elsewhere {
    /// It claims this session.
    Claim(ClientId),
    /// It joins at this shard, with this key unless its opening keeps what it joins with.
    #[cfg(feature = "backends")]
    Join(ShardId, Option<Box<PublicKey>>),
    /// The backend of this shard is asked of the session of its ticket next.
    #[cfg(all(feature = "backends", feature = "cluster"))]
    Ask(ClientId, ShardId),
}

image!(enum Elsewhere {
    0 Claim { 0: a },
    #[cfg(feature = "backends")] 1 Join { 0: a, 1: b },
    #[cfg(all(feature = "backends", feature = "cluster"))] 2 Ask { 0: a, 1: b },
});

/// A newcomer that waits for its turn.
#[derive(Clone, Debug)]
pub(crate) struct Joining {
    /// Its key, unless its opening keeps what it joins with.
    pub(crate) key: Option<PublicKey>,
    /// The source among whose newcomers it waits.
    pub(crate) source: u32,
    pub(crate) turn: Turn,
}

image!(Joining { key, source, turn });

impl Joining {
    /// Returns what a newcomer with this key, or without one, joins with.
    pub(crate) fn by(key: Option<&PublicKey>) -> By {
        match key {
            Some(_) => By::Key,
            None => By::Hello,
        }
    }
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

image!(Claim {
    id,
    ticket,
    genuine
});

/// What a connection is accepted for that a limit on its source refuses (SPEC 27.3(a)): only a Claim that opens goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OnlyClaim {
    /// Its entry among the claimants.
    pub(crate) ticket: Ticket,
    /// The limit.
    pub(crate) beyond: Rejected,
}

image!(OnlyClaim { ticket, beyond });

/// The group in which a connection is counted until it is established, and with which it competes for places (SPEC 10.6(c)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crowd {
    /// Connections that have not said what they want.
    Strangers,
    /// Connections that wait for their turn to begin a session: this one with this, among those of this source.
    Joining(By, u32, Turn),
    /// Connections that have said no more, and were accepted for a Claim alone.
    Unopened,
    /// Connections that have claimed a session.
    Claimants,
    /// None of these.
    Nobody,
}

impl Phase {
    /// Returns whether the connection is not read in this phase.
    pub(crate) fn is_paused(&self) -> bool {
        self.is_asked()
            || matches!(
                self,
                Phase::Join(_)
                    | Phase::Elsewhere(_)
                    | Phase::Delay
                    | Phase::Wait(_)
                    | Phase::Entropy { .. }
            )
    }

    /// Returns whether the backend was asked whether its session goes on here.
    #[cfg(feature = "cluster")]
    const fn is_asked(&self) -> bool {
        matches!(self, Phase::Cold { asked: true })
    }

    #[cfg(not(feature = "cluster"))]
    #[expect(clippy::unused_self, reason = "as if it could be asked")]
    const fn is_asked(&self) -> bool {
        false
    }
}

impl State {
    /// Returns its stage.
    #[inline]
    pub(crate) fn stage(&self) -> Stage {
        match self {
            State::Handshake(Phase::Proxy(_)) => Stage::Proxy,
            State::Handshake(Phase::Version) => Stage::Version,
            State::Handshake(Phase::KeyOrId) => Stage::KeyOrId,
            State::Handshake(Phase::Join(_)) => Stage::Join,
            State::Handshake(Phase::Elsewhere(_)) => Stage::Elsewhere,
            State::Handshake(Phase::Delay) => Stage::Delay,
            State::Handshake(Phase::Response) => Stage::Response,
            State::Handshake(Phase::Wait(_)) => Stage::Wait,
            State::Handshake(Phase::Ping { .. }) => Stage::Ping,
            State::Handshake(Phase::Entropy { .. }) => Stage::Entropy,
            State::Handshake(Phase::Token) => Stage::Token,
            State::Handshake(Phase::Early) => Stage::Early,
            #[cfg(feature = "cluster")]
            State::Handshake(Phase::Cold { .. }) => Stage::Cold,
            State::Handshake(Phase::Last(_)) => Stage::Last,
            State::Established { .. } => Stage::Established,
            State::Draining(_) => Stage::Draining,
            State::Closed(_) => Stage::Closed,
        }
    }

    /// Returns whether the backend was asked whether its session goes on here.
    pub(crate) const fn is_asked(&self) -> bool {
        matches!(self, State::Handshake(phase) if phase.is_asked())
    }

    /// Returns the group in which a connection is counted, unless it was accepted for a Claim alone.
    pub(super) fn crowd(&self) -> Crowd {
        let State::Handshake(phase) = self else {
            return Crowd::Nobody;
        };
        match phase {
            Phase::Proxy(_)
            | Phase::Version
            | Phase::KeyOrId
            | Phase::Entropy { claims: false }
            | Phase::Token
            | Phase::Last(_) => Crowd::Strangers,
            Phase::Join(joining) => {
                let by = Joining::by(joining.key.as_ref());
                Crowd::Joining(by, joining.source, joining.turn)
            }
            Phase::Delay
            | Phase::Response
            | Phase::Wait(_)
            | Phase::Ping { .. }
            | Phase::Entropy { claims: true }
            | Phase::Early => Crowd::Claimants,
            #[cfg(feature = "cluster")]
            Phase::Cold { .. } => Crowd::Claimants,
            Phase::Elsewhere(_) => Crowd::Nobody,
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
    Entropy,
    Token,
    Early,
    #[cfg(feature = "cluster")]
    Cold,
    Last,
    Established,
    Draining,
    Closed,
}

impl Stage {
    /// Returns its name in SPEC 8.2 and 26.1.
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
            Stage::Entropy => "ENTROPY",
            Stage::Token => "TOKEN",
            Stage::Early => "EARLY",
            #[cfg(feature = "cluster")]
            Stage::Cold => "COLD",
            Stage::Last => "LAST",
            Stage::Established => "ESTABLISHED",
            Stage::Draining => "DRAINING",
            Stage::Closed => "CLOSED",
        }
    }

    /// Returns whether SPEC 8.2 or 26.1 has a transition from this stage to `next`.
    #[inline]
    pub(crate) const fn may_become(self, next: Stage) -> bool {
        self.successors() & next.bit() != 0
    }

    /// Returns the set of the stages that may follow, one bit for each. Every change of a state looks here.
    const fn successors(self) -> u32 {
        use Stage::{
            Closed, Delay, Draining, Early, Elsewhere, Entropy, Established, Join, KeyOrId, Last,
            Ping, Proxy, Response, Token, Version, Wait,
        };
        let opened = Established.bit() | Last.bit();
        let ways = match self {
            Closed => return 0,
            Proxy => Version.bit(),
            Version => KeyOrId.bit(),
            #[cfg(feature = "cluster")]
            KeyOrId => {
                let claims = Delay.bit() | Early.bit() | Stage::Cold.bit();
                Join.bit() | Elsewhere.bit() | Entropy.bit() | claims | opened
            }
            #[cfg(not(feature = "cluster"))]
            KeyOrId => {
                Join.bit() | Elsewhere.bit() | Delay.bit() | Entropy.bit() | Early.bit() | opened
            }
            Join => Entropy.bit() | opened,
            #[cfg(feature = "cluster")]
            Entropy => Token.bit() | Stage::Cold.bit() | opened,
            #[cfg(not(feature = "cluster"))]
            Entropy => Token.bit() | opened,
            #[cfg(feature = "cluster")]
            Stage::Cold => Stage::Cold.bit() | Elsewhere.bit() | opened,
            Token => opened,
            Early => Entropy.bit(),
            Delay => Response.bit(),
            Response | Wait => Wait.bit() | Ping.bit(),
            Ping => Established.bit(),
            Established => Draining.bit(),
            Elsewhere | Last | Draining => 0,
        };
        ways | Closed.bit()
    }

    const fn bit(self) -> u32 {
        1 << self as u16
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
            Stage::Draining | Stage::Last => Some(Wait::Drain),
            Stage::Early => Some(Wait::Early),
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
            Closed, Delay, Draining, Early, Elsewhere, Entropy, Established, Join, KeyOrId, Last,
            Ping, Proxy, Response, Token, Version, Wait,
        };
        #[cfg(feature = "cluster")]
        let of_entropy: &[Stage] = &[Token, Stage::Cold, Established, Last, Closed];
        #[cfg(not(feature = "cluster"))]
        let of_entropy: &[Stage] = &[Token, Established, Last, Closed];
        let drawn: &[(Stage, &[Stage])] = &[
            (Proxy, &[Version, Closed]),
            (Version, &[KeyOrId, Closed]),
            (
                KeyOrId,
                &[
                    Join,
                    Elsewhere,
                    Delay,
                    Established,
                    Entropy,
                    Early,
                    #[cfg(feature = "cluster")]
                    Stage::Cold,
                    Last,
                    Closed,
                ],
            ),
            (Join, &[Established, Entropy, Last, Closed]),
            (Entropy, of_entropy),
            #[cfg(feature = "cluster")]
            (
                Stage::Cold,
                &[Stage::Cold, Elsewhere, Established, Last, Closed],
            ),
            (Token, &[Established, Last, Closed]),
            (Early, &[Entropy, Closed]),
            (Last, &[Closed]),
            (Elsewhere, &[Closed]),
            (Delay, &[Response, Closed]),
            (Response, &[Wait, Ping, Closed]),
            (Wait, &[Wait, Ping, Closed]),
            (Ping, &[Established, Closed]),
            (Established, &[Draining, Closed]),
            (Draining, &[Closed]),
            (Closed, &[]),
        ];
        for &(stage, follow) in drawn {
            for &(next, _) in drawn {
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
