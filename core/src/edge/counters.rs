//! What happened so far, as plain numbers.

/// Why a session ended. The text is what the backend reads after 0x01 (SPEC 7.3(d)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndReason {
    /// Its client stayed away longer than `stale_timeout`.
    Expired,
    /// Its client was away, and one packet more than the bounds allow came for it.
    MissedPacketsFull,
    /// Its client is away, nothing is kept for such clients, and something was to be.
    ClientAway,
    /// One packet more than the bounds allow waited for its connected client.
    SendQueueFull,
    /// Its client took nothing for `write_timeout`.
    WriteTimedOut,
    /// The backend said so.
    Kicked,
    /// More clients than `max_stale_clients` were away, or more of its source than `sources.stale_sessions`.
    TooManyStale,
    /// The machine holds nearly as much as it may, and this session held most.
    MemoryLimit,
}

impl EndReason {
    /// All reasons, in the order of [`Counters::ended`].
    pub const ALL: [EndReason; 8] = [
        EndReason::Expired,
        EndReason::MissedPacketsFull,
        EndReason::ClientAway,
        EndReason::SendQueueFull,
        EndReason::WriteTimedOut,
        EndReason::Kicked,
        EndReason::TooManyStale,
        EndReason::MemoryLimit,
    ];

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

/// Why a connection was closed by the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CloseReason {
    /// A frame longer than its bound.
    FrameTooLong,
    /// A handshake packet that does not decode, or not at this step.
    BadHandshake,
    /// Another protocol version than 2.
    BadVersion,
    /// A public key that is not a point on the curve.
    BadKey,
    /// A claim that was not proven: unknown id, expired session, wrong answer.
    BadProof,
    /// What stands before its first packet is no PROXY header.
    BadProxyHeader,
    /// Its PROXY header gave a source that is beyond a limit; counted in [`Counters::rejected`] as well.
    Rejected,
    /// Not established in time.
    HandshakeTimeout,
    /// A frame took too long from its first byte to its last.
    FrameTimeout,
    /// It said nothing for too long.
    IdleTimeout,
    /// It sent faster than it may for too long.
    TooFast,
    /// Its session goes on at a newer connection.
    Replaced,
    /// Its session ended.
    SessionEnded,
    /// No more sessions can be kept.
    TooManySessions,
    /// The machine holds nearly as much as it may.
    Memory,
    /// It had been silent for longest when a newer one needed its place.
    MadeRoom,
    /// The edge shuts down.
    Shutdown,
}

impl CloseReason {
    /// All reasons, in the order of [`Counters::closed`].
    pub const ALL: [CloseReason; 17] = [
        CloseReason::FrameTooLong,
        CloseReason::BadHandshake,
        CloseReason::BadVersion,
        CloseReason::BadKey,
        CloseReason::BadProof,
        CloseReason::BadProxyHeader,
        CloseReason::Rejected,
        CloseReason::HandshakeTimeout,
        CloseReason::FrameTimeout,
        CloseReason::IdleTimeout,
        CloseReason::TooFast,
        CloseReason::Replaced,
        CloseReason::SessionEnded,
        CloseReason::TooManySessions,
        CloseReason::Memory,
        CloseReason::MadeRoom,
        CloseReason::Shutdown,
    ];
}

/// Why a new connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Rejected {
    /// The edge shuts down.
    #[error("shutting down")]
    Shutdown,
    /// A PROXY header is required, and the peer is none of the proxies that are trusted.
    #[error("not a trusted proxy")]
    UntrustedProxy,
    /// `max_connections` are there.
    #[error("too many connections")]
    TooManyConnections,
    /// More than `accept_rate` came.
    #[error("too many new connections a second")]
    TooFast,
    /// `sources.connections` are there from its source, or `sources.wide_connections` from the network around it.
    #[error("too many connections from one source")]
    SourceTooMany,
    /// More than `sources.rate` came from its source.
    #[error("too many new connections a second from one source")]
    SourceTooFast,
    /// Its source sent too much nonsense lately.
    #[error("the source is in the penalty box")]
    SourcePenalty,
    /// `max_half_open` are not established yet, and all of them are coming back.
    #[error("too many connections that are not established yet")]
    TooManyHalfOpen,
}

impl Rejected {
    /// All reasons, in the order of [`Counters::rejected`].
    pub const ALL: [Rejected; 8] = [
        Rejected::Shutdown,
        Rejected::UntrustedProxy,
        Rejected::TooManyConnections,
        Rejected::TooFast,
        Rejected::SourceTooMany,
        Rejected::SourceTooFast,
        Rejected::SourcePenalty,
        Rejected::TooManyHalfOpen,
    ];
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
    /// Times that the link was given up because framing was lost.
    pub link_violations: u64,
    /// Bytes read from the backend.
    pub link_bytes_in: u64,
    /// Bytes written to the backend.
    pub link_bytes_out: u64,
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
    /// Sessions whose client is away.
    pub stale: usize,
    /// Clients that wait for room on the link.
    pub waiting: usize,
    /// Packets that wait for the backend.
    pub link_packets: usize,
    /// Bytes that wait for the backend.
    pub link_bytes: usize,
    /// Bytes that wait anywhere.
    pub held_bytes: usize,
    /// Whether there is a backend.
    pub link_is_up: bool,
}
