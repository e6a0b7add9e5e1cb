//! What happened so far, as plain numbers.

/// An enum of reasons, each with its name; the order is the one in which [`Counters`] counts them.
macro_rules! reasons {
    (
        $(#[$about:meta])*
        pub enum $Reason:ident { $( $(#[$doc:meta])* $Variant:ident = $name:literal, )+ }
    ) => {
        $(#[$about])*
        pub enum $Reason { $( $(#[$doc])* $Variant, )+ }

        impl $Reason {
            /// All reasons, in the order in which they are counted.
            pub const ALL: [$Reason; [$( $name ),+].len()] = [$( $Reason::$Variant ),+];

            /// The reason in small letters, as a label of a metric: `send_queue_full`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( $Reason::$Variant => $name, )+ }
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
        /// Its client was away, and one packet more than the bounds allow came for it.
        MissedPacketsFull = "missed_packets_full",
        /// Its client is away, nothing is kept for such clients, and something was to be.
        ClientAway = "client_away",
        /// One packet more than the bounds allow waited for its connected client.
        SendQueueFull = "send_queue_full",
        /// Its client took nothing for `write_timeout`.
        WriteTimedOut = "write_timed_out",
        /// The backend said so.
        Kicked = "kicked",
        /// More clients than `max_stale_clients` were away, or more of its source than `sources.stale_sessions` and
        /// `sources.wide_stale_sessions` allow.
        TooManyStale = "too_many_stale",
        /// The machine holds nearly as much as it may, and this session held most.
        MemoryLimit = "memory_limit",
    }
}

impl EndReason {
    /// The text for the backend.
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
        }
    }
}

/// What the backend reads after 0x01 when it names an id that means nothing.
pub const UNKNOWN_CLIENT: &str = "unknown client";

reasons! {
    /// Why a connection was closed by the edge.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum CloseReason {
        /// A frame longer than its bound.
        FrameTooLong = "frame_too_long",
        /// A handshake packet that does not decode, or not at this step.
        BadHandshake = "bad_handshake",
        /// Another protocol version than 2.
        BadVersion = "bad_version",
        /// A public key that is not a point on the curve.
        BadKey = "bad_key",
        /// A claim that was not proven: unknown id, wrong answer.
        BadProof = "bad_proof",
        /// A claim of a session that ended or expired before the proof was there.
        ClaimLapsed = "claim_lapsed",
        /// What stands before its first packet is no PROXY header.
        BadProxyHeader = "bad_proxy_header",
        /// Its source is beyond a limit: the one that its PROXY header gave, or that of a newcomer where penalties act. Counted in
        /// [`Counters::rejected`] as well.
        Rejected = "rejected",
        /// Not established in time.
        HandshakeTimeout = "handshake_timeout",
        /// Not established in time, and it was the edge that let it wait: for its takeover, or for its turn to join.
        KeptWaiting = "kept_waiting",
        /// A frame took too long from its first byte to its last.
        FrameTimeout = "frame_timeout",
        /// It said nothing for too long.
        IdleTimeout = "idle_timeout",
        /// It sent faster than it may for too long.
        TooFast = "too_fast",
        /// Its session goes on at a newer connection.
        Replaced = "replaced",
        /// Its session ended.
        SessionEnded = "session_ended",
        /// No more sessions can be kept.
        TooManySessions = "too_many_sessions",
        /// As many connections as `max_connections` allows: a newcomer found only places that are kept for those who come back, or a
        /// newer connection needed its place.
        TooManyConnections = "too_many_connections",
        /// The machine holds nearly as much as it may.
        Memory = "memory",
        /// A newer one needed its place: it had been silent for longest, or its source claimed most.
        MadeRoom = "made_room",
        /// The edge shuts down.
        Shutdown = "shutdown",
    }
}

reasons! {
    /// Why a new connection is not taken.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
    pub enum Rejected {
        /// The edge shuts down.
        #[error("shutting down")]
        Shutdown = "shutdown",
        /// A PROXY header is required, and the peer is none of the proxies that are trusted.
        #[error("not a trusted proxy")]
        UntrustedProxy = "untrusted_proxy",
        /// `max_connections` are there, and none of them can make room.
        #[error("too many connections")]
        TooManyConnections = "too_many_connections",
        /// More than `accept_rate` came.
        #[error("too many new connections a second")]
        TooFast = "too_fast",
        /// `sources.connections` are there from its source, or `sources.wide_connections` from a wider one.
        #[error("too many connections from one source")]
        SourceTooMany = "source_too_many",
        /// More than `sources.rate` came from its source, or more than `sources.wide_rate` from a wider one.
        #[error("too many new connections a second from one source")]
        SourceTooFast = "source_too_fast",
        /// Its source sent too much nonsense lately, and a session began from there just now.
        #[error("the source is in the penalty box")]
        SourcePenalty = "source_penalty",
        /// `max_half_open` are not established yet, and none of them can make room: between shards, or only reported.
        #[error("too many connections that are not established yet")]
        TooManyHalfOpen = "too_many_half_open",
    }
}

/// Sums since the start of the run, and what is there now. Sums never go down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections taken.
    pub accepted: u64,
    /// Connections beyond a limit, by [`Rejected::ALL`]; where the limit is only reported, they were taken all the same.
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
    /// Reconnects that took the session from a connection that still looked alive.
    pub takeovers: u64,
    /// Claims handed to another shard with their connections.
    pub handed_over: u64,
    /// Public-key agreements computed.
    pub agreements: u64,
    /// Times that a session lost its connection and was kept.
    pub dropped: u64,
    /// Bytes read from clients.
    pub client_bytes_in: u64,
    /// Bytes written to clients.
    pub client_bytes_out: u64,
    /// Times that a client sent faster than it may.
    pub paced: u64,
    /// Newcomers that waited because many clients came back.
    pub joins_paced: u64,
    /// Packets from clients put on the link.
    pub packets_up: u64,
    /// Packets from the backend put into a client's queue.
    pub packets_down: u64,
    /// Packets from the backend for an id that means nothing.
    pub unknown_client: u64,
    /// Packets of the backend's that say nothing sensible: too short, unknown or misplaced flag, a kick with data.
    pub malformed_down: u64,
    /// Times that more than 95 % of `max_memory_bytes` was held.
    pub memory_over: u64,
    /// Times that the link came up.
    pub link_up: u64,
    /// Times that the link was lost or an attempt failed.
    pub link_down: u64,
    /// Times that the link was given up for what came on it: framing was lost, or the peer is no backend.
    pub link_violations: u64,
    /// Bytes read from the backend.
    pub link_bytes_in: u64,
    /// Bytes written to the backend.
    pub link_bytes_out: u64,
}

impl Counters {
    /// Adds what another shard, or the trunk, counted.
    pub fn add(&mut self, other: &Counters) {
        // Taken apart, so that a number that is added to the struct is not forgotten here.
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
            agreements,
            dropped,
            client_bytes_in,
            client_bytes_out,
            paced,
            joins_paced,
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
        } = other;
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
            (&mut self.agreements, agreements),
            (&mut self.dropped, dropped),
            (&mut self.client_bytes_in, client_bytes_in),
            (&mut self.client_bytes_out, client_bytes_out),
            (&mut self.paced, paced),
            (&mut self.joins_paced, joins_paced),
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

/// What is there at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Connections, in any state.
    pub connections: usize,
    /// Connections that are not established yet.
    pub half_open: usize,
    /// Sources remembered.
    pub sources: usize,
    /// Sessions, connected or away, and ended ones whose last words still wait for the backend.
    pub sessions: usize,
    /// Those of the sessions whose client is away.
    pub stale: usize,
    /// Those that have ended and whose last words still wait for the backend.
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
    /// Whether the last link that ended showed that another program than a backend is there, and nothing has shown otherwise since.
    pub link_is_doubted: bool,
}

impl Gauges {
    /// Adds what is at another shard, or at the trunk. There is a backend if anybody has it.
    pub fn add(&mut self, other: &Gauges) {
        let Gauges {
            connections,
            half_open,
            sources,
            sessions,
            stale,
            ending,
            waiting,
            link_packets,
            link_bytes,
            held_bytes,
            link_is_up,
            link_is_doubted,
        } = *other;
        self.connections += connections;
        self.half_open += half_open;
        self.sources += sources;
        self.sessions += sessions;
        self.stale += stale;
        self.ending += ending;
        self.waiting += waiting;
        self.link_packets += link_packets;
        self.link_bytes += link_bytes;
        self.held_bytes += held_bytes;
        self.link_is_up |= link_is_up;
        self.link_is_doubted |= link_is_doubted;
    }

    /// Whether there is a backend, as far as is known.
    #[must_use]
    pub fn has_backend(&self) -> bool {
        self.link_is_up && !self.link_is_doubted
    }
}
