//! Counters and gauges of an edge, and the reasons that they tell apart.

use crate::code::Code;
use crate::edge::histogram::Histogram;
use crate::farewell::Farewell;

/// Declares an enum of reasons with their names, in the order in which [`Counters`] counts them.
macro_rules! reasons {
    (
        $(#[$about:meta])*
        pub enum $Reason:ident { $( $(#[$doc:meta])* $Variant:ident = $name:literal, )+ }
    ) => {
        $(#[$about])*
        #[non_exhaustive]
        pub enum $Reason { $( $(#[$doc])* $Variant, )+ }

        impl $Reason {
            /// All reasons, in the order in which they are counted.
            pub const ALL: [$Reason; [$( $name ),+].len()] = [$( $Reason::$Variant ),+];

            /// Returns the reason in snake case, as a label of a metric: `send_queue_full`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( $Reason::$Variant => $name, )+ }
            }
        }

        #[cfg(feature = "record")]
        impl crate::image::Image for $Reason {
            fn put(&self, out: &mut crate::image::Out) {
                (*self as usize).put(out);
            }

            fn take(from: &mut crate::image::Taken<'_>) -> Option<Self> {
                $Reason::ALL.get(usize::take(from)?).copied()
            }
        }
    };
}

reasons! {
    /// Why a session ended. The text is what the backend reads after 0x01 (SPEC 7.3(d)).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum EndReason {
        /// Its client stayed away longer than `stale_timeout`.
        Expired = "expired",
        /// Its client was away, and a packet arrived beyond the bounds.
        MissedPacketsFull = "missed_packets_full",
        /// Its client was away, nothing is kept for such clients, and a packet arrived.
        ClientAway = "client_away",
        /// A packet beyond the bounds arrived for its connected client.
        SendQueueFull = "send_queue_full",
        /// Its client took nothing for `write_timeout`.
        WriteTimedOut = "write_timed_out",
        /// The backend kicked it.
        Kicked = "kicked",
        /// More clients than `max_stale_clients` were away, or more of its source than `sources.stale_sessions` and
        /// `sources.wide_stale_sessions` allow.
        TooManyStale = "too_many_stale",
        /// The machine held nearly as much memory as it may, and this session held most.
        MemoryLimit = "memory_limit",
        /// Its client said goodbye.
        Goodbye = "goodbye",
        /// Its client and the edge had numbered different packets.
        NumbersDoNotFit = "numbers_do_not_fit",
        /// A packet for its client was longer than the client takes.
        PacketTooLong = "packet_too_long",
    }
}

impl EndReason {
    /// Returns the text for the backend.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            EndReason::Expired => "expired",
            EndReason::MissedPacketsFull => "missed packet buffer full",
            EndReason::ClientAway => "client is away",
            EndReason::SendQueueFull => "send queue full",
            EndReason::WriteTimedOut => "write timed out",
            EndReason::Kicked => "kicked",
            EndReason::TooManyStale => "too many stale clients",
            EndReason::MemoryLimit => "memory limit",
            EndReason::Goodbye => "goodbye",
            EndReason::NumbersDoNotFit => "numbers do not fit",
            EndReason::PacketTooLong => "packet too long",
        }
    }

    /// Returns the code of an Answer to a client whose session has ended.
    pub(crate) const fn code(self) -> Code {
        match self {
            EndReason::Expired => Code::EXPIRED,
            EndReason::MissedPacketsFull
            | EndReason::ClientAway
            | EndReason::SendQueueFull
            | EndReason::WriteTimedOut => Code::RING_FULL,
            EndReason::Kicked => Code::KICKED,
            EndReason::TooManyStale => Code::TOO_MANY_AWAY,
            EndReason::MemoryLimit => Code::MEMORY,
            EndReason::Goodbye => Code::SAID_GOODBYE,
            EndReason::NumbersDoNotFit => Code::NUMBERS,
            EndReason::PacketTooLong => Code::TOO_LONG,
        }
    }
}

/// What the backend reads after 0x01 when it names an unknown id.
pub const UNKNOWN_CLIENT: &str = "unknown client";

reasons! {
    /// Why a connection was closed by the edge.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum CloseReason {
        /// A frame exceeded its limit.
        FrameTooLong = "frame_too_long",
        /// A handshake packet did not decode, or came out of turn.
        BadHandshake = "bad_handshake",
        /// A protocol version that is not offered there.
        BadVersion = "bad_version",
        /// A public key that is not a point on the curve.
        BadKey = "bad_key",
        /// A claim was not proven: unknown id or wrong response.
        BadProof = "bad_proof",
        /// A claimed session ended or expired before the proof arrived.
        ClaimLapsed = "claim_lapsed",
        /// It did not begin with a valid PROXY header.
        BadProxyHeader = "bad_proxy_header",
        /// Its source exceeded a limit: the source in its PROXY header, or that of a newcomer while penalties act. Also counted in
        /// [`Counters::rejected`].
        Rejected = "rejected",
        /// Its handshake was not complete in time.
        HandshakeTimeout = "handshake_timeout",
        /// Its handshake was not complete in time because the edge made it wait: for its takeover, or for its turn to join.
        KeptWaiting = "kept_waiting",
        /// A frame took too long from its first to its last byte.
        FrameTimeout = "frame_timeout",
        /// It was silent for too long.
        IdleTimeout = "idle_timeout",
        /// It exceeded its pace for too long.
        TooFast = "too_fast",
        /// Its session moved to a newer connection.
        Replaced = "replaced",
        /// Its session ended.
        SessionEnded = "session_ended",
        /// No more sessions can be kept.
        TooManySessions = "too_many_sessions",
        /// `max_connections` was reached: a newcomer found only places reserved for clients that come back, or a newer connection needed
        /// its place.
        TooManyConnections = "too_many_connections",
        /// The machine held nearly as much memory as it may.
        Memory = "memory",
        /// A newer connection needed its place: it had been silent for longest, or its source had the most claims.
        MadeRoom = "made_room",
        /// The edge was shutting down, or its client was asked to leave and did not (version 3).
        Shutdown = "shutdown",
        /// It broke the rules of its transport, such as TLS or WebSocket, below the client link.
        BadTransport = "bad_transport",
        /// A Claim was sealed by somebody who was not given the id (version 3).
        BadClaim = "bad_claim",
        /// An attempt was answered with a refusal, or there was no room for a newcomer (version 3).
        Refused = "refused",
        /// No early record came behind a Claim in time (version 3).
        NoEarlyRecord = "no_early_record",
        /// A record did not open (version 3).
        BadRecord = "bad_record",
        /// Its client broke the protocol, and was told so (version 3).
        ProtocolError = "protocol_error",
        /// Its client found that the edge broke the protocol (version 3).
        PeerError = "peer_error",
        /// Its client took nothing for `write_timeout`, and its session is away (version 3).
        Parked = "parked",
        /// Nothing came from its client, though it was asked (version 3).
        Silent = "silent",
        /// Its session goes to another backend (version 3).
        Moved = "moved",
    }
}

reasons! {
    /// Why a new connection was rejected.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
    pub enum Rejected {
        /// The edge was shutting down.
        #[error("shutting down")]
        Shutdown = "shutdown",
        /// A PROXY header is required, and the peer is not a trusted proxy.
        #[error("not a trusted proxy")]
        UntrustedProxy = "untrusted_proxy",
        /// `max_connections` was reached, and none could make room.
        #[error("too many connections")]
        TooManyConnections = "too_many_connections",
        /// `accept_rate` was exceeded.
        #[error("too many new connections a second")]
        TooFast = "too_fast",
        /// The listener's own `max_connections` was reached.
        #[error("too many connections at one listener")]
        ListenerTooMany = "listener_too_many",
        /// The listener's own `accept_rate` was exceeded.
        #[error("too many new connections a second at one listener")]
        ListenerTooFast = "listener_too_fast",
        /// `sources.connections` was reached for its source, or `sources.wide_connections` for a wider one.
        #[error("too many connections from one source")]
        SourceTooMany = "source_too_many",
        /// `sources.rate` was exceeded for its source, or `sources.wide_rate` for a wider one.
        #[error("too many new connections a second from one source")]
        SourceTooFast = "source_too_fast",
        /// Its source is under penalty, and a session had just begun from there.
        #[error("the source is in the penalty box")]
        SourcePenalty = "source_penalty",
        /// An operator has banned a network around its source.
        #[error("the source is banned")]
        Banned = "banned",
        /// `max_half_open` was reached, and none could make room: between shards, or if the limit is only reported.
        #[error("too many connections that are not established yet")]
        TooManyHalfOpen = "too_many_half_open",
    }
}

impl From<CloseReason> for Farewell {
    fn from(reason: CloseReason) -> Farewell {
        match reason {
            CloseReason::FrameTooLong => Farewell::TooLong,
            CloseReason::BadHandshake
            | CloseReason::BadVersion
            | CloseReason::BadKey
            | CloseReason::BadProxyHeader
            | CloseReason::BadTransport
            | CloseReason::BadRecord
            | CloseReason::ProtocolError => Farewell::Malformed,
            CloseReason::BadProof
            | CloseReason::BadClaim
            | CloseReason::ClaimLapsed
            | CloseReason::TooFast
            | CloseReason::Replaced
            | CloseReason::SessionEnded => Farewell::Refused,
            CloseReason::HandshakeTimeout
            | CloseReason::KeptWaiting
            | CloseReason::FrameTimeout
            | CloseReason::IdleTimeout
            | CloseReason::NoEarlyRecord
            | CloseReason::Parked
            | CloseReason::Silent => Farewell::Late,
            CloseReason::TooManySessions
            | CloseReason::TooManyConnections
            | CloseReason::Memory
            | CloseReason::MadeRoom
            | CloseReason::Refused => Farewell::Crowded,
            CloseReason::Rejected => Farewell::SourceCrowded,
            CloseReason::Shutdown | CloseReason::Moved => Farewell::Ending,
            // Its client is the one that has closed.
            CloseReason::PeerError => Farewell::Over,
        }
    }
}

impl From<Rejected> for Farewell {
    fn from(rejected: Rejected) -> Farewell {
        match rejected {
            Rejected::Shutdown => Farewell::Ending,
            Rejected::SourceTooMany
            | Rejected::SourceTooFast
            | Rejected::SourcePenalty
            | Rejected::Banned => Farewell::SourceCrowded,
            Rejected::UntrustedProxy
            | Rejected::TooManyConnections
            | Rejected::TooFast
            | Rejected::ListenerTooMany
            | Rejected::ListenerTooFast
            | Rejected::TooManyHalfOpen => Farewell::Crowded,
        }
    }
}

/// Counters since the start of the run. They never decrease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections beyond a limit, by [`Rejected::ALL`]. If the limit is only reported, they were accepted nevertheless.
    pub rejected: [u64; Rejected::ALL.len()],
    /// Connections closed by the edge, by [`CloseReason::ALL`].
    pub closed: [u64; CloseReason::ALL.len()],
    /// Sessions begun.
    pub joined: u64,
    /// Sessions ended, by [`EndReason::ALL`].
    pub ended: [u64; EndReason::ALL.len()],
    /// Claims answered with a challenge.
    pub challenges: u64,
    /// Reconnects completed, takeovers included.
    pub resumed: u64,
    /// Resumes of a session whose connection still looked alive.
    pub takeovers: u64,
    /// Claims handed to another shard with their connections.
    pub handed_over: u64,
    /// Sessions that came here from another backend.
    pub moved: u64,
    /// Public-key agreements computed.
    pub agreements: u64,
    /// Times that a session lost its connection and was kept.
    pub went_away: u64,
    /// Bytes read from clients.
    pub client_bytes_in: u64,
    /// Bytes written to clients.
    pub client_bytes_out: u64,
    /// Times that a client exceeded its pace.
    pub paced: u64,
    /// Newcomers that waited because many clients came back.
    pub joins_paced: u64,
    /// Times that the handshake of a transport had to wait because `handshake_rate` was reached.
    pub handshakes_paced: u64,
    /// Packets from clients put on the link.
    pub packets_up: u64,
    /// Packets from the backend put into a client's queue.
    pub packets_down: u64,
    /// Packets from the backend for an unknown id.
    pub unknown_client: u64,
    /// Malformed packets from the backend: too short, unknown or misplaced flag, a kick with data.
    pub malformed_down: u64,
    /// Times that more than 95 % of `max_memory_bytes` was held.
    pub memory_over: u64,
    /// Times that the link came up.
    pub link_up: u64,
    /// Times that the link was lost or an attempt failed.
    pub link_down: u64,
    /// Times that the link was reset for its content: framing was lost, or the peer is no backend.
    pub link_violations: u64,
    /// Bytes read from the backend.
    pub link_bytes_in: u64,
    /// Bytes written to the backend.
    pub link_bytes_out: u64,
    /// How long newcomers took from the accept to their session, if handshakes have a time limit.
    pub join_time: Histogram,
    /// How long reconnects took from the accept until their session was resumed, likewise.
    pub resume_time: Histogram,
}

image!(Counters {
    accepted,
    rejected,
    closed,
    joined,
    ended,
    challenges,
    resumed,
    takeovers,
    handed_over,
    moved,
    agreements,
    went_away,
    client_bytes_in,
    client_bytes_out,
    paced,
    joins_paced,
    handshakes_paced,
    packets_up,
    packets_down,
    unknown_client,
    malformed_down,
    memory_over,
    link_up,
    link_down,
    link_violations,
    link_bytes_in,
    link_bytes_out,
    join_time,
    resume_time,
});

/// Counts one more at the place of a reason. Returns how many there are.
fn count(counts: &mut [u64], reason: usize) -> u64 {
    let count = counts.get_mut(reason).expect("each reason has a place");
    *count += 1;
    *count
}

impl Counters {
    /// Counts a connection beyond a limit.
    pub(crate) fn count_rejected(&mut self, rejected: Rejected) {
        count(&mut self.rejected, rejected as usize);
    }

    /// Counts a connection that the edge closes.
    pub(crate) fn count_closed(&mut self, reason: CloseReason) {
        count(&mut self.closed, reason as usize);
    }

    /// Counts a session that ends. Returns how many have ended for this reason.
    pub(crate) fn count_ended(&mut self, reason: EndReason) -> u64 {
        count(&mut self.ended, reason as usize)
    }

    /// Adds the counters of another shard, or of the trunk.
    pub fn add(&mut self, other: &Counters) {
        // Destructured, so that a number added to the struct is not forgotten here.
        let Counters {
            accepted,
            rejected,
            closed,
            joined,
            ended,
            challenges,
            resumed,
            takeovers,
            handed_over,
            moved,
            agreements,
            went_away,
            client_bytes_in,
            client_bytes_out,
            paced,
            joins_paced,
            handshakes_paced,
            packets_up,
            packets_down,
            unknown_client,
            malformed_down,
            memory_over,
            link_up,
            link_down,
            link_violations,
            link_bytes_in,
            link_bytes_out,
            join_time,
            resume_time,
        } = other;
        self.join_time.add(join_time);
        self.resume_time.add(resume_time);
        let each = |sums: &mut [u64], others: &[u64]| {
            sums.iter_mut()
                .zip(others)
                .for_each(|(sum, other)| *sum += other);
        };
        each(&mut self.rejected, rejected);
        each(&mut self.closed, closed);
        each(&mut self.ended, ended);
        for (sum, other) in [
            (&mut self.accepted, accepted),
            (&mut self.joined, joined),
            (&mut self.challenges, challenges),
            (&mut self.resumed, resumed),
            (&mut self.takeovers, takeovers),
            (&mut self.handed_over, handed_over),
            (&mut self.moved, moved),
            (&mut self.agreements, agreements),
            (&mut self.went_away, went_away),
            (&mut self.client_bytes_in, client_bytes_in),
            (&mut self.client_bytes_out, client_bytes_out),
            (&mut self.paced, paced),
            (&mut self.joins_paced, joins_paced),
            (&mut self.handshakes_paced, handshakes_paced),
            (&mut self.packets_up, packets_up),
            (&mut self.packets_down, packets_down),
            (&mut self.unknown_client, unknown_client),
            (&mut self.malformed_down, malformed_down),
            (&mut self.memory_over, memory_over),
            (&mut self.link_up, link_up),
            (&mut self.link_down, link_down),
            (&mut self.link_violations, link_violations),
            (&mut self.link_bytes_in, link_bytes_in),
            (&mut self.link_bytes_out, link_bytes_out),
        ] {
            *sum += other;
        }
    }
}

/// The state at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gauges {
    /// Connections, in any state.
    pub connections: usize,
    /// Connections that are not established yet.
    pub half_open: usize,
    /// Sources remembered.
    pub sources: usize,
    /// Sessions, attached or away, and ended ones whose final notices still wait for the backend.
    pub sessions: usize,
    /// Sessions that are away.
    pub away: usize,
    /// Ended sessions whose final notices still wait for the backend.
    pub ending: usize,
    /// Clients that wait for room on the link.
    pub waiting: usize,
    /// Packets that wait for the backend.
    pub link_packets: usize,
    /// Bytes that wait for the backend.
    pub link_bytes: usize,
    /// Bytes that wait anywhere.
    pub held_bytes: usize,
    /// Whether the link is up.
    pub link_is_up: bool,
    /// Whether the last link that ended showed that another program is at the backend's address, and nothing has shown otherwise since.
    pub link_is_doubted: bool,
    /// Whether the backend does not ask for version 3 of the link, which the configuration or an earlier link demands.
    pub link_is_unasked: bool,
    /// Whether the last backend that asked does not share the secret of the link (SPEC 34.5).
    pub link_is_unproven: bool,
    /// Whether a later edge has the home of this one, or the backend has given this one up (SPEC 40.4).
    #[cfg(feature = "cluster")]
    pub link_is_displaced: bool,
    /// Whether an operator wants no more sessions (SPEC 9.8(e)).
    pub is_draining: bool,
    /// Banned networks. Those whose time is over count until they are forgotten.
    pub bans: usize,
}

impl Gauges {
    /// Adds the gauges of another shard, or of the trunk. There is a backend if any of them has one.
    pub fn add(&mut self, other: &Gauges) {
        let Gauges {
            connections,
            half_open,
            sources,
            sessions,
            away,
            ending,
            waiting,
            link_packets,
            link_bytes,
            held_bytes,
            link_is_up,
            link_is_doubted,
            link_is_unasked,
            link_is_unproven,
            #[cfg(feature = "cluster")]
            link_is_displaced,
            is_draining,
            bans,
        } = *other;
        self.connections += connections;
        self.half_open += half_open;
        self.sources += sources;
        self.sessions += sessions;
        self.away += away;
        self.ending += ending;
        self.waiting += waiting;
        self.link_packets += link_packets;
        self.link_bytes += link_bytes;
        self.held_bytes += held_bytes;
        self.link_is_up |= link_is_up;
        self.link_is_doubted |= link_is_doubted;
        self.link_is_unasked |= link_is_unasked;
        self.link_is_unproven |= link_is_unproven;
        #[cfg(feature = "cluster")]
        {
            self.link_is_displaced |= link_is_displaced;
        }
        self.is_draining |= is_draining;
        self.bans += bans;
    }

    /// Returns whether there is a backend, as far as is known.
    #[must_use]
    pub fn has_backend(&self) -> bool {
        self.link_is_up && !self.link_is_doubted
    }
}
